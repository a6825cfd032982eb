/* box.h: strided boxes, and reading them.
 *
 * A box is a set of elements that lie at regular steps on two sides: `from`, in
 * the storage of a source tensor, and `to`, in a target that is dense and in
 * row-major order. Axes are kept so that they are nested on the `to` side: one
 * step of an axis is never less than the whole extent of the axes inside it.
 * Then the elements of a box, last axis fastest, are in rising `to` order, and a
 * range of the target is a range of the box:
 *
 *     to      0....|....|....|....      rows of a target cut by columns
 *     box     ---- ---- ---- ----       count 4,4  to_step 10,1  from_step 4,1
 *     range      ^-----------^          = end of row 0, rows 1 and 2: two boxes
 *
 * Units    elements, unless a name says bytes
 */
#ifndef SL_RUN_BOX_H
#define SL_RUN_BOX_H

#include "plan/plan.h"

struct sl_box {
    uint32_t ndim;
    int64_t from, to;                    /* of its first element */
    int64_t count[SL_AXES];
    int64_t from_step[SL_AXES], to_step[SL_AXES];
    bool row_major;                      /* from counts elements in row-major order of the
                                            tensor's shape and its strides could not be
                                            followed axis by axis: the slow way */
};

/* The box of a copy: source steps turned into steps of the storage, axes of length one
 * dropped, axes sorted and merged. source is NULL for padding. SL_INPUT when counts are
 * negative or the axes are not nested. */
int sl_box_make(const struct sl_copy *copy, const struct sl_tensor *source, struct sl_box *out,
                struct sl_error *err);
uint64_t sl_box_size(const struct sl_box *b);

/* How many elements of the box lie before element `at` of the target. */
uint64_t sl_box_before(const struct sl_box *b, int64_t at);

/* The next part of the range [*at, end) of the box's elements that is a box itself; moves
 * *at behind it. False at the end. There are at most 2 * ndim + 1 parts. */
bool sl_box_next(const struct sl_box *b, uint64_t *at, uint64_t end, struct sl_box *part);

/* Where the elements of a box come from and go to. */
struct sl_fetch {
    struct sl_ckpt *ckpt;
    const struct sl_tensor *tensor;
    enum sl_dtype dtype;                 /* of the target; cast if the tensor's is another */
    struct sl_op op;                     /* done to each element on the way */
    unsigned char *out;                  /* memory of target element `first` on */
    int64_t first;
    unsigned char *scratch;              /* at least SL_FETCH_SCRATCH bytes */
    size_t scratch_len;
    uint64_t read;                       /* bytes read are added here */
};
#define SL_FETCH_SCRATCH ((size_t)4096)

/* Reads a box (made by sl_box_next) into its place. Parts that are dense on both sides are
 * read straight into the target; others as spans of the storage as large as the scratch
 * allows, over gaps that cost less than another read, and moved from there. */
int sl_fetch_box(struct sl_fetch *f, const struct sl_box *part, struct sl_error *err);
/* Sets the elements of a box to zero. */
void sl_fill_box(const struct sl_box *part, size_t element_size, unsigned char *out, int64_t first);

#endif
