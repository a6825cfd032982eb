/* intersect.c: the copies that make one layout of another: all meetings of their
 * slices, param by param, and what fills the padding. */
#include "plan/parts.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

struct intersection {
    const struct sl_layout *source, *target;
    struct sl_error *err;
    struct copies copies;
    struct cover from, to;               /* kept from param to param, for their memory */
};

/* Has every element of a param a place in the target? */
static int check_placed(struct intersection *x, uint32_t param)
{
    const struct sl_param *p = &x->target->params[param];
    const struct box whole = param_box(p);
    uint64_t placed = 0;
    const int rc = cover_of(x->target, param, &x->to, x->err);
    for (size_t i = 0; i < x->to.count && !rc; i++)
        placed += box_volume(&x->to.boxes[i], p->ndim);
    return rc || placed >= box_volume(&whole, p->ndim)
               ? rc : sl_fail(x->err, SL_UNSUPPORTED, p->name, "the target's rules have no place for all of it");
}

/* The copies to all slices of one param; replicas in the target are slices too. */
static int intersect_param(struct intersection *x, uint32_t param)
{
    const struct sl_layout *target = x->target;
    const size_t first = target->param_first[param], count = target->param_first[param + 1] - first;
    int rc;
    if (!count || param_is_empty(&target->params[param]))
        return SL_OK;
    if ((rc = cover_of(x->source, param, &x->from, x->err)) || (rc = check_placed(x, param)))
        return rc;

    struct box *boxes = malloc(count * sizeof *boxes);
    const struct sl_slice **slices = malloc(count * sizeof *slices);
    if (!boxes || !slices)
        rc = sl_fail_memory(x->err, count * sizeof *boxes);
    for (size_t i = 0; i < count && !rc; i++) {
        slices[i] = &target->slices[first + i];
        boxes[i] = slice_box(slices[i]);
    }
    if (!rc)
        rc = copies_between(&x->from, boxes, slices, count, param, target->params[param].ndim, &x->copies, x->err);
    free(boxes);
    free(slices);
    return rc;
}

/* Sorts the copies, and tells where those of each target begin. */
static int settle(struct intersection *x, size_t **target_first)
{
    const size_t targets = x->target->tensor_count;
    size_t *first = calloc(targets + 1, sizeof *first);
    if (!first)
        return sl_fail_memory(x->err, targets * sizeof *first);
    copies_settle(&x->copies, 0);
    for (size_t i = 0; i < x->copies.count; i++)
        first[x->copies.items[i].target + 1]++;
    for (size_t i = 0; i < targets; i++)
        first[i + 1] += first[i];
    *target_first = first;
    return SL_OK;
}

int sl_intersect(const struct sl_layout *source, const struct sl_layout *target, bool pad_last,
                 struct sl_copy **copies, size_t *copy_count, size_t **target_first, struct sl_error *err)
{
    struct intersection x = { .source = source, .target = target, .err = err };
    int rc = SL_OK;
    for (size_t i = 0; i < target->param_count && !rc; i++)
        rc = intersect_param(&x, (uint32_t)i);
    if (!rc)
        rc = plan_padding(source, target, pad_last, &x.copies, err);
    if (!rc)
        rc = settle(&x, target_first);
    cover_free(&x.from);
    cover_free(&x.to);
    if (rc) {
        free(x.copies.items);
        return rc;
    }
    *copies = x.copies.items;
    *copy_count = x.copies.count;
    return SL_OK;
}
