/* moves.h: does what a list of copies says, on arrays in memory, one element at a time. */
#ifndef SL_TESTS_MOVES_H
#define SL_TESTS_MOVES_H

#include "plan/plan.h"

#include <stdlib.h>

/* Elements are numbers; what no copy writes stays -1. */
static inline void move_one(const struct sl_copy *c, const int64_t *source, int64_t *target)
{
    int64_t at[SL_AXES] = { 0 };
    for (;;) {
        int64_t s = c->source_base, t = c->target_base;
        uint32_t k = c->ndim;
        for (uint32_t a = 0; a < c->ndim; a++) {
            s += at[a] * c->source_stride[a];
            t += at[a] * c->target_stride[a];
        }
        target[t] = c->source == UINT32_MAX ? 0 : source[s];
        while (k > 0 && ++at[k - 1] == c->count[k - 1])
            at[--k] = 0;
        if (!k)
            return;
    }
}

static inline int64_t **move_all(const struct sl_layout *target, const struct sl_copy *copies, size_t count, int64_t *const *source)
{
    int64_t **out = calloc(target->tensor_count + 1, sizeof *out);
    for (size_t i = 0; i < target->tensor_count; i++) {
        out[i] = malloc((target->tensors[i].count + 1) * sizeof **out);
        memset(out[i], 0xff, target->tensors[i].count * sizeof **out);
    }
    for (size_t i = 0; i < count; i++)
        move_one(&copies[i], copies[i].source == UINT32_MAX ? NULL : source[copies[i].source], out[copies[i].target]);
    return out;
}

static inline void moves_free(const struct sl_layout *target, int64_t **data)
{
    for (size_t i = 0; i < target->tensor_count; i++)
        free(data[i]);
    free(data);
}

#endif
