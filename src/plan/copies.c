/* copies.c: where boxes of two layouts meet, a strided copy. */
#include "plan/cover.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

int copies_add(struct copies *list, const struct sl_copy *c, struct sl_error *err)
{
    if (list->count == list->room) {
        const size_t room = list->room ? 2 * list->room : 256;
        struct sl_copy *items = realloc(list->items, room * sizeof *items);
        if (!items)
            return sl_fail_memory(err, room * sizeof *items);
        list->items = items;
        list->room = room;
    }
    list->items[list->count++] = *c;
    return SL_OK;
}

/* Adds an axis where it belongs: slowest in the target first. */
static void add_axis(struct sl_copy *c, int64_t count, int64_t source_stride, int64_t target_stride)
{
    uint32_t k = c->ndim++;
    for (; k > 0 && c->target_stride[k - 1] < target_stride; k--) {
        c->count[k] = c->count[k - 1];
        c->source_stride[k] = c->source_stride[k - 1];
        c->target_stride[k] = c->target_stride[k - 1];
    }
    c->count[k] = count;
    c->source_stride[k] = source_stride;
    c->target_stride[k] = target_stride;
}

/* Neighbouring axes that run on as one on both sides become one. */
static void join_axes(struct sl_copy *c)
{
    for (uint32_t k = c->ndim; k-- > 1; ) {
        if (c->source_stride[k - 1] != c->count[k] * c->source_stride[k] ||
            c->target_stride[k - 1] != c->count[k] * c->target_stride[k])
            continue;
        c->count[k - 1] *= c->count[k];
        c->source_stride[k - 1] = c->source_stride[k];
        c->target_stride[k - 1] = c->target_stride[k];
        c->ndim--;
        for (uint32_t j = k; j < c->ndim; j++) {
            c->count[j] = c->count[j + 1];
            c->source_stride[j] = c->source_stride[j + 1];
            c->target_stride[j] = c->target_stride[j + 1];
        }
        c->count[c->ndim] = c->source_stride[c->ndim] = c->target_stride[c->ndim] = 0;
    }
}


struct meeting {
    const struct cover *source;
    const struct box *target_boxes;
    const struct sl_slice *const *targets;
    uint32_t param, ndim;
    struct copies *out;
    struct sl_error *err;
    int rc;
};

static int add_meeting(void *arg, size_t i, size_t j)
{
    struct meeting *m = arg;
    const struct sl_slice *s = m->source->of[i], *t = m->targets[j];
    struct sl_copy c = { .source = s->tensor, .target = t->tensor, .param = m->param,
                         .source_base = s->base, .target_base = t->base, .op = sl_op_between(s->op, t->op) };
    struct box b;
    (void)box_meet(&m->source->boxes[i], &m->target_boxes[j], m->ndim, &b);
    for (uint32_t a = 0; a < m->ndim; a++) {
        c.source_base += (b.lo[a] - s->lo[a]) * s->stride[a];
        c.target_base += (b.lo[a] - t->lo[a]) * t->stride[a];
        if (b.hi[a] - b.lo[a] > 1)
            add_axis(&c, b.hi[a] - b.lo[a], s->stride[a], t->stride[a]);
    }
    join_axes(&c);
    if (!c.ndim)
        add_axis(&c, 1, 1, 1);       /* one element: every copy has an innermost run */
    return m->rc = copies_add(m->out, &c, m->err);
}

int copies_between(const struct cover *source, const struct box *target_boxes,
                   const struct sl_slice *const *targets, size_t target_count, uint32_t param, uint32_t ndim,
                   struct copies *out, struct sl_error *err)
{
    struct meeting m = { source, target_boxes, targets, param, ndim, out, err, SL_OK };
    const int rc = boxes_meet(source->boxes, source->count, target_boxes, target_count, ndim, add_meeting, &m);
    if (rc && !m.rc)
        return sl_fail_memory(err, (source->count + target_count) * sizeof(struct box));
    return rc;
}

/* ---- order ----------------------------------------------------------------------- */

static int by_target(const void *x, const void *y)
{
    const struct sl_copy *a = x, *b = y;
    if (a->target != b->target)
        return a->target < b->target ? -1 : 1;
    if (a->target_base != b->target_base)
        return a->target_base < b->target_base ? -1 : 1;
    if (a->source != b->source)
        return a->source < b->source ? -1 : 1;
    return (a->source_base > b->source_base) - (a->source_base < b->source_base);
}

/* Does b begin where a ends along one axis, and is it the same otherwise? Then a grows. */
static bool grow_by(struct sl_copy *a, const struct sl_copy *b)
{
    uint32_t axis = a->ndim;
    if (a->source != b->source || a->target != b->target || a->param != b->param || a->ndim != b->ndim || !sl_op_same(a->op, b->op) ||
        memcmp(a->source_stride, b->source_stride, sizeof a->source_stride) ||
        memcmp(a->target_stride, b->target_stride, sizeof a->target_stride))
        return false;
    for (uint32_t k = 0; k < a->ndim; k++) {
        const bool next = b->source_base - a->source_base == a->count[k] * a->source_stride[k] &&
                          b->target_base - a->target_base == a->count[k] * a->target_stride[k];
        if (next && axis == a->ndim)
            axis = k;
        else if (a->count[k] != b->count[k])
            return false;
    }
    if (axis == a->ndim)
        return false;
    a->count[axis] += b->count[axis];
    join_axes(a);
    return true;
}

void copies_settle(struct copies *list, size_t first)
{
    size_t kept = first;
    if (list->count <= first)
        return;
    qsort(list->items + first, list->count - first, sizeof *list->items, by_target);
    for (size_t i = first + 1; i < list->count; i++)
        if (!grow_by(&list->items[kept], &list->items[i]))
            list->items[++kept] = list->items[i];
    list->count = kept + 1;
}
