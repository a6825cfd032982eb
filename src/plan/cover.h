/* cover.h: what a layout holds of one param, each element once: of slices that
 * hold the same, the first; of slices that overlap, the first and the rest of
 * the other. The others are replicas. Private to the room.
 */
#ifndef SL_PLAN_COVER_H
#define SL_PLAN_COVER_H

#include "plan/boxes.h"
#include "plan/plan.h"

struct cover {
    struct box *boxes;           /* disjoint */
    const struct sl_slice **of;  /* by box: the slice it is part of */
    size_t count, room;
};
void cover_free(struct cover *c);
/* Refills *c, keeping its memory. */
int cover_of(const struct sl_layout *l, uint32_t param, struct cover *c, struct sl_error *err);

/* The whole of a param as a box. */
struct box param_box(const struct sl_param *p);
bool param_is_empty(const struct sl_param *p);
struct box slice_box(const struct sl_slice *s);

/* A growing list of copies, malloc'ed. */
struct copies { struct sl_copy *items; size_t count, room; };
int copies_add(struct copies *list, const struct sl_copy *c, struct sl_error *err);
/* The copies of one param from what one layout holds to slices of another: all meetings of
 * boxes. `targets` is as long as target_count. */
int copies_between(const struct cover *source, const struct box *target_boxes,
                   const struct sl_slice *const *targets, size_t target_count, uint32_t param, uint32_t ndim,
                   struct copies *out, struct sl_error *err);
/* Sorts the copies from the first on by target, then by where they begin in it, and joins those
 * that go on where another ends. */
void copies_settle(struct copies *list, size_t first);

/* "groups 2-3 of layers.3.attn.q": where a box is not the whole param, for people. */
void box_text(const struct sl_param *p, const struct box *b, char *out, size_t room);

#endif
