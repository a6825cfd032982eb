/* experts.h: which experts lie in which layer and on which ep rank. */
#ifndef SL_TUI_EXPERTS_H
#define SL_TUI_EXPERTS_H

#include "base/arena.h"
#include "tui/cells.h"
#include <shardlens/shardlens.h>

struct app;

/* Experts of one ep rank: how many, lowest and highest global index. */
struct expert_range { uint32_t count; int32_t lo, hi; };
/* Layers in a row that hold their experts alike. */
struct expert_span { int32_t first, last; uint32_t experts; struct expert_range *ep; };
struct expert_map {
    struct sl_arena arena;
    size_t ep_count;
    struct expert_span *spans; size_t span_count;
};

/* Looks through the logical tensors; runs in a job. False when memory is out.
 * A checkpoint without experts has no spans. */
bool experts_map(struct expert_map *m, const struct sl_checkpoint *ck);
void experts_free(struct expert_map *m);
/* "experts 16-31 of 64" for an ep rank of the span that holds `layer`, "" where there are none. */
const char *experts_text(const struct expert_map *m, int32_t layer, int32_t ep, char *out, size_t room);
/* One line a span: layers, experts, and what each ep rank holds. */
void experts_draw(struct app *app, struct pane p, int skip);
size_t experts_lines(const struct app *app);

#endif
