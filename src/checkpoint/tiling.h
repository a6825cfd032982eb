/* tiling.h: do the chunks of an array cover it, each element once? */
#ifndef SL_CHECKPOINT_TILING_H
#define SL_CHECKPOINT_TILING_H

#include <shardlens/types.h>

#define SL_TILING_AXES 16             /* arrays of more axes than this are no model's */

struct tiling_box { const int64_t *offset, *size; };    /* [offset, offset + size) */

enum tiling_fault { TILING_NONE, TILING_OUTSIDE, TILING_OVERLAP, TILING_HOLE };
struct tiling {
    enum tiling_fault fault;
    uint32_t first, second;              /* OUTSIDE: the box; OVERLAP: both boxes */
    int64_t lo[SL_TILING_AXES], hi[SL_TILING_AXES];     /* HOLE: the first part that nobody holds */
};

/* Looks at `count` boxes of an array of `ndim` axes (at most SL_TILING_AXES; more are not
 * looked at). The first fault found is told. SL_MEMORY; SL_UNSUPPORTED when the boxes are cut
 * so irregularly that too many cells would have to be looked at (err names no file). */
int tiling_check(const int64_t *shape, uint32_t ndim, const struct tiling_box *boxes, uint32_t count,
                 struct tiling *out, struct sl_error *err);

#endif
