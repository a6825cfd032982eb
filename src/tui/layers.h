/* layers.h: rms by layer, estimated from samples that are read in the
 * background. A weight that appears in every layer is a role; a role in a
 * layer is a cell, which holds one tensor or, of experts, several.
 */
#ifndef SL_TUI_LAYERS_H
#define SL_TUI_LAYERS_H

#include "base/arena.h"
#include "tui/cells.h"
#include "tui/jobs.h"
#include <shardlens/shardlens.h>

struct app;

#define MOST_ROLES 24
struct strip_cell { double sum2; uint64_t count; uint32_t read, failed; };
struct strip {
    struct sl_arena arena;
    const char *roles[MOST_ROLES];       /* "self_attention.linear_qkv" */
    size_t role_count, layer_count;
    struct strip_cell *cells;            /* role * layer_count + layer */
    uint32_t *first, *tensors;           /* logical tensors of cell c: tensors[first[c] .. first[c+1]) */
    uint32_t each;                       /* so many of a cell are sampled */
    bool built;
};

#define MOST_ASKED 32
struct layers_state {
    struct task *task;
    size_t next_cell;
    bool stopped, build_tried, sampled_only;          /* sampled_only: some tensor was larger than its sample */
    uint32_t asked[MOST_ASKED]; size_t asked_count;
    float *rms;                          /* by logical tensor, NaN not read; NULL before the first */
};

void strip_free(struct strip *s);
/* Goes on sampling if there is more to sample and it was not stopped. */
void layers_want(struct app *app);
void layers_forget(struct app *app);
/* Samples one logical tensor soon; its rms then is layers_rms(). */
void layers_ask(struct app *app, size_t logical);
bool layers_rms(const struct app *app, size_t logical, double *out);
void layers_draw(struct app *app, struct pane p, int skip);
size_t layers_lines(const struct app *app);

#endif
