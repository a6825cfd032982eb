/* padding.c: what padding rows of a target are filled with: zeros, or, as some
 * versions of Megatron do, the last row of the vocabulary.
 * Source: Megatron-LM tools/checkpoint/saver_base.py (pads with the last row) */
#include "plan/parts.h"

#include "base/error.h"

#include <string.h>

static int add_zeros(const struct sl_padding *run, struct copies *list, struct sl_error *err)
{
    const struct sl_copy c = { .source = UINT32_MAX, .target = run->tensor, .param = UINT32_MAX, .ndim = 1,
                               .target_base = run->base, .count = { run->count }, .target_stride = { 1 } };
    return copies_add(list, &c, err);
}

/* The param whose padding it is: that of the same tensor, on whatever rank it has rows. */
static const struct sl_slice *slice_beside(const struct sl_layout *target, const struct sl_padding *run)
{
    const char *name = target->tensors[run->tensor].name;
    for (size_t i = 0; i < target->slice_count; i++)
        if (!strcmp(target->tensors[target->slices[i].tensor].name, name))
            return &target->slices[i];
    return NULL;
}

/* Each row of the run is the last row of the param: as a slice of that row which is repeated. */
static int add_last_row(const struct sl_layout *source, const struct sl_layout *target, const struct sl_padding *run,
                        struct copies *list, struct sl_error *err)
{
    const struct sl_slice *beside = slice_beside(target, run);
    if (!beside)
        return sl_fail(err, SL_UNSUPPORTED, target->tensors[run->tensor].name, "padding without a weight");
    const struct sl_param *param = &target->params[beside->param];
    struct sl_slice row = { .param = beside->param, .tensor = run->tensor, .base = run->base, .op = beside->op };
    const struct sl_slice *rows[] = { &row };
    struct box box = param_box(param);
    int64_t len = 1;
    for (uint32_t a = param->ndim; a-- > 1; len *= param->shape[a])
        row.stride[a] = len;
    box.lo[0] = box.hi[0] - 1;
    memcpy(row.lo, box.lo, sizeof row.lo);
    memcpy(row.hi, box.hi, sizeof row.hi);
    if (run->count % len)
        return sl_fail(err, SL_UNSUPPORTED, target->tensors[run->tensor].name, "padding of %lld elements is not "
                       "made of rows of %lld", (long long)run->count, (long long)len);

    struct cover cover = { 0 };
    const size_t first = list->count;
    int rc = cover_of(source, row.param, &cover, err);
    if (!rc)
        rc = copies_between(&cover, &box, rows, 1, row.param, param->ndim, list, err);
    cover_free(&cover);
    for (size_t i = first; i < list->count && !rc && run->count > len; i++) {
        struct sl_copy *c = &list->items[i];
        c->ndim -= c->count[0] == 1;     /* a single element */
        if (c->ndim == SL_AXES)
            return sl_fail(err, SL_UNSUPPORTED, param->name, "its rows have too many axes to be repeated");
        memmove(c->count + 1, c->count, c->ndim * sizeof c->count[0]);
        memmove(c->source_stride + 1, c->source_stride, c->ndim * sizeof c->source_stride[0]);
        memmove(c->target_stride + 1, c->target_stride, c->ndim * sizeof c->target_stride[0]);
        c->count[0] = run->count / len;
        c->source_stride[0] = 0;
        c->target_stride[0] = len;
        c->ndim++;
    }
    return rc;
}

int plan_padding(const struct sl_layout *source, const struct sl_layout *target, bool last, struct copies *list,
                 struct sl_error *err)
{
    int rc = SL_OK;
    for (size_t i = 0; i < target->padding_count && !rc; i++) {
        const struct sl_padding *run = &target->padding[i];
        rc = last ? add_last_row(source, target, run, list, err) : add_zeros(run, list, err);
    }
    return rc;
}
