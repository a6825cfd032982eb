/* boxes.h: sets of boxes with integer corners: which meet, which overlap, and what
 * is not covered. Exact; the proofs of this room rest on it. Private to the room.
 *
 * A box is half open, [lo, hi) on each axis, and never empty.
 */
#ifndef SL_PLAN_BOXES_H
#define SL_PLAN_BOXES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BOX_AXES 16

struct box { int64_t lo[BOX_AXES], hi[BOX_AXES]; };

uint64_t box_volume(const struct box *b, uint32_t ndim);
bool box_meet(const struct box *a, const struct box *b, uint32_t ndim, struct box *out);

/* Calls give(arg, i, j) for each pair a[i], b[j] that meets, sweeping along the axis on which
 * the boxes differ most: n log n and the pairs that share a stretch of that axis. Returns the
 * first non-zero result of give, or -1 when memory is out. */
int boxes_meet(const struct box *a, size_t a_count, const struct box *b, size_t b_count, uint32_t ndim,
               int (*give)(void *arg, size_t i, size_t j), void *arg);

/* Two boxes of a set that overlap: 1 and *i < *j; 0: none; -1: no memory. */
int boxes_overlap(const struct box *boxes, size_t count, uint32_t ndim, size_t *i, size_t *j);

/* Of disjoint boxes inside `whole`: a box that none of them covers: 1 and *gap; 0: none; -1: no
 * memory. The gap is a largest one along its last cut axis. */
int boxes_gap(const struct box *whole, const struct box *boxes, size_t count, uint32_t ndim, struct box *gap);

/* What is left of `a` without `b`, as at most 2 * ndim boxes; returns how many. */
uint32_t box_without(const struct box *a, const struct box *b, uint32_t ndim, struct box out[2 * BOX_AXES]);

#endif
