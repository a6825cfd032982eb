/* blocks.c: a strided copy as boxes of both tensors, for people to look at. */
#include "plan/plan.h"

#include "base/num.h"

#include <string.h>

#define BLOCK_AXES 8
#define PART_AXES (SL_AXES + 2 * BLOCK_AXES)    /* an axis may be split at each axis of both tensors */
#define PENDING 128          /* parts of a copy that wait for their turn: a few for each axis */

/* A part of a copy, with room for axes that were split in two. */
struct part {
    int64_t base[2];                     /* [0] source, [1] target */
    uint32_t ndim;
    int64_t count[PART_AXES], stride[2][PART_AXES];
};

struct side { uint32_t ndim; const int64_t *shape; int64_t step[BLOCK_AXES]; };    /* row-major steps */

static void set_side(struct side *s, const struct sl_tensor *t)
{
    int64_t step = 1;
    *s = (struct side){ .ndim = t ? t->ndim : 0, .shape = t ? t->shape : NULL };
    for (uint32_t a = s->ndim; a-- > 0; step *= s->shape[a])
        s->step[a] = step;
}

static void drop_axis(struct part *p, uint32_t k)
{
    p->ndim--;
    for (; k < p->ndim; k++) {
        p->count[k] = p->count[k + 1];
        p->stride[0][k] = p->stride[0][k + 1];
        p->stride[1][k] = p->stride[1][k + 1];
    }
}

/* Parts p at `at` steps of an axis: p keeps those before, *rest gets the others. */
static void split_part(struct part *p, uint32_t axis, int64_t at, struct part *rest)
{
    *rest = *p;
    rest->count[axis] -= at;
    rest->base[0] += at * p->stride[0][axis];
    rest->base[1] += at * p->stride[1][axis];
    p->count[axis] = at;
    if (rest->count[axis] == 1)
        drop_axis(rest, axis);
    if (at == 1)
        drop_axis(p, axis);
}

/* One axis becomes two: `inner` steps, and the rest outside of them. */
static void refine_axis(struct part *p, uint32_t axis, int64_t inner)
{
    for (uint32_t k = p->ndim++; k > axis; k--) {
        p->count[k] = p->count[k - 1];
        p->stride[0][k] = p->stride[0][k - 1];
        p->stride[1][k] = p->stride[1][k - 1];
    }
    p->count[axis + 1] = inner;
    p->count[axis] /= inner;
    p->stride[0][axis] *= inner;
    p->stride[1][axis] *= inner;
}

/* The axis of a tensor on which a stride moves. */
static uint32_t axis_of(const struct side *s, int64_t stride)
{
    uint32_t a = 0;
    while (a + 1 < s->ndim && (s->step[a] > stride || s->shape[a] == 1))
        a++;
    return a;
}

enum fit { FITS, REFINED, SPLIT };

/* Makes an axis of the part lie within one axis of the tensor, step by step. REFINED: look again;
 * SPLIT: *rest is what was cut off. */
static enum fit fit_axis(struct part *p, int which, const struct side *s, uint32_t axis, struct part *rest)
{
    const int64_t stride = p->stride[which][axis];
    if (!stride || !s->ndim)
        return FITS;
    const uint32_t a = axis_of(s, stride);
    const int64_t len = s->shape[a], at = p->base[which] / s->step[a] % len, count = p->count[axis];
    if (stride != s->step[a]) {
        split_part(p, axis, 1, rest);
        return SPLIT;
    }
    if (count <= len - at)
        return FITS;
    if (at == 0 && count % len == 0 && p->ndim < PART_AXES) {
        refine_axis(p, axis, len);
        return REFINED;
    }
    split_part(p, axis, at ? len - at : count - count % len, rest);
    return SPLIT;
}

/* Cuts p until it is a box on both sides; what is cut off goes onto the pile. False when that
 * is full. */
static bool make_box(struct part *p, const struct side sides[2], struct part *pile, size_t *piled)
{
    for (uint32_t axis = 0; axis < p->ndim; ) {
        enum fit fit = FITS;
        if (*piled == PENDING)
            return false;
        for (int which = 1; which >= 0 && fit == FITS; which--)
            fit = fit_axis(p, which, &sides[which], axis, &pile[*piled]);
        *piled += fit == SPLIT;
        axis = fit == FITS ? axis + 1 : 0;
    }
    return true;
}

static void set_box(const struct part *p, int which, const struct side *s, int64_t *lo, int64_t *hi)
{
    int64_t at = p->base[which];
    for (uint32_t a = 0; a < s->ndim; a++) {
        lo[a] = at / s->step[a];
        hi[a] = lo[a] + 1;
        at %= s->step[a];
    }
    for (uint32_t k = 0; k < p->ndim && s->ndim; k++)
        if (p->stride[which][k])
            hi[axis_of(s, p->stride[which][k])] += p->count[k] - 1;
}

/* Which axes run along each other. */
static void set_axes(const struct part *p, const struct side sides[2], int8_t *target_axis)
{
    memset(target_axis, -1, BLOCK_AXES);
    for (uint32_t k = 0; k < p->ndim; k++)
        if (sides[0].ndim && sides[1].ndim && p->stride[0][k] && p->stride[1][k])
            target_axis[axis_of(&sides[0], p->stride[0][k])] = (int8_t)axis_of(&sides[1], p->stride[1][k]);
}

int sl_copy_blocks(const struct sl_copy *copy, const struct sl_tensor *source, const struct sl_tensor *target,
                   int (*give)(void *arg, const struct sl_block *block), void *arg)
{
    struct part pile[PENDING];
    struct side sides[2];
    size_t piled = 1;
    if (target->ndim > BLOCK_AXES || (source && source->ndim > BLOCK_AXES))
        return SL_UNSUPPORTED;
    set_side(&sides[0], source);
    set_side(&sides[1], target);
    pile[0] = (struct part){ .base = { copy->source_base, copy->target_base } };
    for (uint32_t k = 0; k < copy->ndim; k++)
        if (copy->count[k] != 1) {
            pile[0].count[pile[0].ndim] = copy->count[k];
            pile[0].stride[0][pile[0].ndim] = copy->source_stride[k];
            pile[0].stride[1][pile[0].ndim++] = copy->target_stride[k];
        }
    while (piled) {
        struct part p = pile[--piled];
        struct sl_block b = { .source = copy->source, .target = copy->target, .param = copy->param };
        if (!make_box(&p, sides, pile, &piled))
            return SL_UNSUPPORTED;
        set_box(&p, 0, &sides[0], b.source_lo, b.source_hi);
        set_box(&p, 1, &sides[1], b.target_lo, b.target_hi);
        set_axes(&p, sides, b.target_axis);
        const int rc = give(arg, &b);
        if (rc)
            return rc;
    }
    return SL_OK;
}
