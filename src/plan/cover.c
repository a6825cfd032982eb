/* cover.c: see cover.h. */
#include "plan/cover.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

void cover_free(struct cover *c)
{
    free(c->boxes);
    free(c->of);
    *c = (struct cover){ 0 };
}

static int add(struct cover *c, const struct box *b, const struct sl_slice *of, struct sl_error *err)
{
    if (c->count == c->room) {
        const size_t room = c->room ? 2 * c->room : 64;
        struct box *boxes = realloc(c->boxes, room * sizeof *boxes);
        if (boxes)
            c->boxes = boxes;
        const struct sl_slice **slices = realloc(c->of, room * sizeof *slices);
        if (slices)
            c->of = slices;
        if (!boxes || !slices)
            return sl_fail_memory(err, room * sizeof *boxes);
        c->room = room;
    }
    c->boxes[c->count] = *b;
    c->of[c->count++] = of;
    return SL_OK;
}

struct box param_box(const struct sl_param *p)
{
    struct box b = { { 0 }, { 0 } };
    memcpy(b.hi, p->shape, sizeof p->shape);
    return b;
}

bool param_is_empty(const struct sl_param *p)
{
    for (uint32_t a = 0; a < p->ndim; a++)
        if (!p->shape[a])
            return true;
    return false;
}

struct box slice_box(const struct sl_slice *s)
{
    struct box b = { { 0 }, { 0 } };
    memcpy(b.lo, s->lo, sizeof s->lo);
    memcpy(b.hi, s->hi, sizeof s->hi);
    return b;
}

/* By corners; equal boxes by place in the layout. */
static int by_box(const void *x, const void *y)
{
    const struct sl_slice *a = *(const struct sl_slice *const *)x, *b = *(const struct sl_slice *const *)y;
    for (int k = 0; k < SL_AXES; k++) {
        if (a->lo[k] != b->lo[k])
            return a->lo[k] < b->lo[k] ? -1 : 1;
        if (a->hi[k] != b->hi[k])
            return a->hi[k] < b->hi[k] ? -1 : 1;
    }
    return (a > b) - (a < b);
}

/* Takes from the boxes of [begin, count) what the box b has; what is left of them stays. */
static int keep_rest(struct cover *c, size_t begin, const struct box *b, uint32_t ndim, struct sl_error *err)
{
    struct box rest[2 * BOX_AXES], common;
    for (size_t i = c->count; i-- > begin; ) {
        if (!box_meet(&c->boxes[i], b, ndim, &common))
            continue;
        const struct box old = c->boxes[i];
        const struct sl_slice *of = c->of[i];
        c->count--;
        c->boxes[i] = c->boxes[c->count];
        c->of[i] = c->of[c->count];
        for (uint32_t k = 0, n = box_without(&old, b, ndim, rest); k < n; k++) {
            const int rc = add(c, &rest[k], of, err);
            if (rc)
                return rc;
        }
    }
    return SL_OK;
}

/* Slices that overlap without being equal: each gives what none before it has. */
static int separate(struct cover *c, uint32_t ndim, struct sl_error *err)
{
    const size_t count = c->count;
    struct cover out = { 0 };
    int rc = SL_OK;
    for (size_t i = 0; i < count && !rc; i++) {
        const size_t begin = out.count;
        rc = add(&out, &c->boxes[i], c->of[i], err);
        for (size_t k = 0; k < begin && !rc; k++) {
            const struct box earlier = out.boxes[k];
            rc = keep_rest(&out, begin, &earlier, ndim, err);
        }
    }
    cover_free(c);
    *c = out;
    return rc;
}

int cover_of(const struct sl_layout *l, uint32_t param, struct cover *c, struct sl_error *err)
{
    const size_t first = l->param_first[param], count = l->param_first[param + 1] - first;
    const uint32_t ndim = l->params[param].ndim;
    size_t i, j;
    c->count = 0;
    if (!count)
        return SL_OK;
    const struct sl_slice **sorted = malloc(count * sizeof *sorted);
    int rc = sorted ? SL_OK : sl_fail_memory(err, count * sizeof *sorted);
    for (size_t k = 0; k < count && !rc; k++)
        sorted[k] = &l->slices[first + k];
    if (!rc)
        qsort(sorted, count, sizeof *sorted, by_box);
    for (size_t k = 0; k < count && !rc; k++) {
        const struct box b = slice_box(sorted[k]);
        if (!c->count || memcmp(&b, &c->boxes[c->count - 1], sizeof b))
            rc = add(c, &b, sorted[k], err);
    }
    free(sorted);
    if (rc)
        return rc;
    const int overlap = boxes_overlap(c->boxes, c->count, ndim, &i, &j);
    if (overlap < 0)
        return sl_fail_memory(err, c->count * sizeof *c->boxes);
    return overlap ? separate(c, ndim, err) : SL_OK;
}
