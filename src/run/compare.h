/* compare.h: one strided copy seen as a question: are its two sides equal, and if
 * not, how far apart. What verify, diff and check have in common.
 */
#ifndef SL_RUN_COMPARE_H
#define SL_RUN_COMPARE_H

#include "run/job.h"

/* The two sides of a copy: source in ta, target in tb. */
struct sl_pair {
    struct sl_ckpt *a, *b;
    const struct sl_tensor *ta, *tb;
    bool measure;                        /* the sums below too, not only the counts */
};

/* Sums over the elements compared; NaN and Inf are left out of max and the sums. */
struct sl_sums {
    uint64_t count, different;
    uint64_t first;                      /* of the differing elements, counted in the walk; UINT64_MAX: none
                                            (set it so before the first call) */
    double max, sum, sum2, a2, b2, ab;   /* of |b - a|, |b - a|, its square, a*a, b*b, a*b */
    const struct sl_copy *copy;          /* the copy of the first difference, and */
    uint64_t at;                         /* its element there */
};

/* Adds the elements of one copy to *s. Bytes are compared where the dtypes are the same; else
 * values when measuring, and without measuring all elements count as different. */
int sl_compare_copy(struct sl_run *r, struct sl_worker *w, const struct sl_pair *pair, const struct sl_copy *copy,
                    struct sl_sums *s, struct sl_error *err);

#endif
