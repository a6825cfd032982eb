/* gather.c: one range of one target tensor, from its copies. */
#include "run/box.h"
#include "run/run.h"

#include "base/dtype.h"
#include "base/error.h"

#include <inttypes.h>

/* The copies of a target are sorted by target_base: those from `end` on begin behind the range. */
static size_t first_copy_behind(const struct sl_conversion *p, uint32_t target, int64_t at)
{
    size_t low = p->target_first[target], high = p->target_first[target + 1];
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (p->copies[middle].target_base < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int gather_copy(const struct sl_copy *copy, struct sl_fetch *f, int64_t first, int64_t end,
                       uint64_t *got, struct sl_error *err)
{
    struct sl_box box, part;
    int code = sl_box_make(copy, f->tensor, &box, err);
    if (code)
        return code;
    uint64_t at = sl_box_before(&box, first);
    const uint64_t stop = sl_box_before(&box, end);
    *got += stop - at;
    while (!code && sl_box_next(&box, &at, stop, &part)) {
        if (f->tensor)
            code = sl_fetch_box(f, &part, err);
        else
            sl_fill_box(&part, sl_dtype_size(f->dtype), f->out, first);
    }
    return code;
}

/* The storage that a part of a box lies in, from its first element to its last. */
static void read_part_ahead(struct sl_ckpt *c, const struct sl_tensor *t, const struct sl_box *part)
{
    const int64_t size = (int64_t)sl_dtype_size(t->dtype);
    int64_t last = 0;
    for (uint32_t a = 0; a < part->ndim; a++)
        last += (part->count[a] - 1) * part->from_step[a];
    if (!part->row_major)
        sl_ckpt_will_read(c, t, part->from * size, (uint64_t)((last + 1) * size));
}

void sl_gather_ahead(const struct sl_conversion *p, uint32_t target, uint64_t first, uint64_t count)
{
    const int64_t end = (int64_t)(first + count);
    const size_t stop = first_copy_behind(p, target, end);
    for (size_t i = p->target_first[target]; i < stop; i++) {
        struct sl_box box, part;
        if (p->copies[i].source == UINT32_MAX)
            continue;
        const struct sl_tensor *t = &p->source.tensors[p->copies[i].source];
        if (sl_box_make(&p->copies[i], t, &box, NULL))
            return;    /* sl_gather will say what is wrong */
        uint64_t at = sl_box_before(&box, (int64_t)first);
        const uint64_t behind = sl_box_before(&box, end);
        while (sl_box_next(&box, &at, behind, &part))
            read_part_ahead(p->ckpt, t, &part);
    }
}

int sl_gather(const struct sl_conversion *p, uint32_t target, uint64_t first, uint64_t count,
              void *buf, void *scratch, size_t scratch_len, uint64_t *bytes_read, struct sl_error *err)
{
    const struct sl_tensor *t = &p->targets[target];
    struct sl_fetch f = { .ckpt = p->ckpt, .dtype = t->dtype, .out = buf, .first = (int64_t)first,
                          .scratch = scratch, .scratch_len = scratch_len };
    const int64_t end = (int64_t)(first + count);
    const size_t stop = first_copy_behind(p, target, end);
    uint64_t got = 0;
    int code = SL_OK;
    for (size_t i = p->target_first[target]; !code && i < stop; i++) {
        const uint32_t source = p->copies[i].source;
        f.tensor = source == UINT32_MAX ? NULL : &p->source.tensors[source];
        f.op = p->copies[i].op;
        code = gather_copy(&p->copies[i], &f, (int64_t)first, end, &got, err);
    }
    *bytes_read += f.read;
    if (!code && got != count)
        return sl_fail(err, SL_INPUT, t->name,
                       "the plan gives %" PRIu64 " of elements %" PRIu64 " to %" PRIu64
                       "; it should give each of them once", got, first, first + count);
    return code;
}
