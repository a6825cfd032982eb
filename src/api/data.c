/* data.c: what lies in a tensor: slices, elements, statistics. */
#include "api/handle.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define STEP ((size_t)1 << 20)

/* ---- slices --------------------------------------------------------------------- */

int sl_slices_index(struct sl_checkpoint *ck, struct sl_error *err)
{
    const struct sl_layout *l = &ck->layout;
    if (ck->slice_first)
        return SL_OK;
    size_t *first = SL_ARENA_NEW(&ck->arena, size_t, l->tensor_count + 2);
    uint32_t *order = SL_ARENA_NEW(&ck->arena, uint32_t, l->slice_count);
    ck->slices = SL_ARENA_NEW(&ck->arena, const struct sl_slice_info *, l->tensor_count);
    if (!first || !order || !ck->slices)
        return sl_fail_memory(err, l->slice_count * sizeof *order);
    for (size_t i = 0; i < l->slice_count; i++)
        first[l->slices[i].tensor + 2]++;
    for (size_t i = 2; i <= l->tensor_count + 1; i++)
        first[i] += first[i - 1];
    for (size_t i = 0; i < l->slice_count; i++)
        order[first[l->slices[i].tensor + 1]++] = (uint32_t)i;
    ck->slice_order = order;
    ck->slice_first = first;
    return SL_OK;
}

/* "group 2-3 of 4, head 0-11": the axes that are not whole. */
static char *slice_text(struct sl_arena *arena, const struct sl_param *p, const struct sl_slice *s)
{
    struct sl_buf b = { 0 };
    for (uint32_t a = 0; a < p->ndim; a++) {
        if (s->lo[a] == 0 && s->hi[a] == p->shape[a])
            continue;
        sl_buf_printf(&b, "%s%s ", b.len ? ", " : "", p->axis[a]);
        if (s->hi[a] - s->lo[a] == 1)
            sl_buf_printf(&b, "%lld of %lld", (long long)s->lo[a], (long long)p->shape[a]);
        else
            sl_buf_printf(&b, "%lld-%lld of %lld", (long long)s->lo[a], (long long)s->hi[a] - 1, (long long)p->shape[a]);
    }
    char *text = b.failed ? NULL : sl_arena_str(arena, b.len ? b.data : "all of it");
    sl_buf_free(&b);
    return text;
}

static int slices_fill(struct sl_checkpoint *ck, size_t tensor, const struct sl_slice_info **out, size_t *count, struct sl_error *err)
{
    const size_t first = ck->slice_first[tensor];
    *count = ck->slice_first[tensor + 1] - first;
    *out = ck->slices[tensor];
    if (*out)
        return SL_OK;
    struct sl_slice_info *list = SL_ARENA_NEW(&ck->arena, struct sl_slice_info, *count);
    for (size_t i = 0; list && i < *count; i++) {
        const struct sl_slice *s = &ck->layout.slices[ck->slice_order[first + i]];
        const struct sl_param *p = &ck->layout.params[s->param];
        uint64_t elements = 1;
        for (uint32_t a = 0; a < p->ndim; a++)
            elements *= (uint64_t)(s->hi[a] - s->lo[a]);
        list[i] = (struct sl_slice_info){ .param = p->name, .what = slice_text(&ck->arena, p, s), .param_ndim = p->ndim,
                                          .param_lo = s->lo, .param_hi = s->hi, .param_axes = p->axis,
                                          .first_element = (uint64_t)s->base, .count = elements, .param_stride = s->stride };
        if (!list[i].what)
            list = NULL;
    }
    *out = ck->slices[tensor] = list;
    return list ? SL_OK : sl_fail_memory(err, *count * sizeof *list);
}

int sl_tensor_slices(struct sl_checkpoint *ck, size_t tensor, const struct sl_slice_info **out, size_t *count, struct sl_error *err)
{
    *out = NULL;
    *count = 0;
    if (!ck->has_layout)
        return sl_fail(err, SL_UNSUPPORTED, ck->c->path, "no family is known for it, so its tensors can't be told apart");
    if (tensor >= ck->c->tensor_count)
        return sl_fail(err, SL_USAGE, ck->c->path, "tensor %zu of %zu was asked for", tensor, ck->c->tensor_count);
    pthread_mutex_lock(&ck->lock);
    int code = sl_slices_index(ck, err);
    if (!code)
        code = slices_fill(ck, tensor, out, count, err);
    pthread_mutex_unlock(&ck->lock);
    return code;
}

/* ---- elements --------------------------------------------------------------------- */

bool sl_tensor_is_chunk(const struct sl_tensor *t)
{
    return t->rank < 0 && t->ndim && t->global_shape && memcmp(t->shape, t->global_shape, t->ndim * sizeof *t->shape);
}

void sl_tensor_place(const struct sl_checkpoint *ck, size_t tensor, uint64_t *begin, uint64_t *end)
{
    *begin = *end = 0;
    if (tensor < ck->c->tensor_count)
        sl_ckpt_place(ck->c, &ck->c->tensors[tensor], begin, end);
}

int sl_tensor_read(const struct sl_checkpoint *ck, size_t tensor, uint64_t first, uint64_t count, void *buf, struct sl_error *err)
{
    if (tensor >= ck->c->tensor_count)
        return sl_fail(err, SL_USAGE, ck->c->path, "tensor %zu of %zu was asked for", tensor, ck->c->tensor_count);
    const int code = sl_ckpt_read_elements(ck->c, &ck->c->tensors[tensor], first, count, buf, err);
    return code ? code : sl_ckpt_file_unchanged(ck->c, &ck->c->tensors[tensor], err);
}

double sl_element(enum sl_dtype dtype, const void *element)
{
    return sl_dtype_load(dtype, element);
}

/* ---- statistics -------------------------------------------------------------------- */

/* One pass over the elements of some tensors, a buffer at a time. */
struct pass {
    const struct sl_checkpoint *ck;
    const size_t *tensors; size_t count;
    const sl_atomic_int *cancel;
    sl_atomic_u64 *done;
    unsigned char *buffer;
    struct sl_error *err;
};

static int pass_run(struct pass *p, void (*give)(void *arg, enum sl_dtype dtype, const void *elements, size_t count), void *arg)
{
    for (size_t i = 0; i < p->count; i++) {
        const struct sl_tensor *t = sl_tensor_at(p->ck, p->tensors[i]);
        const size_t size = t ? sl_dtype_size(t->dtype) : 0;
        struct sl_tensor once;
        int64_t shape, stride;
        if (!size)
            return sl_fail(p->err, SL_UNSUPPORTED, t ? t->name : "", "its elements have no size that is known");
        if (sl_ckpt_repeats(t)) {
            sl_ckpt_once(t, &once, &shape, &stride);
            t = &once;
        }
        for (uint64_t at = 0; at < t->count;) {
            const uint64_t n = sl_min_u64(STEP / size, t->count - at);
            if (p->cancel && *p->cancel)
                return sl_fail(p->err, SL_INTERRUPTED, t->name, "stopped");
            const int code = sl_ckpt_read_elements(p->ck->c, t, at, n, p->buffer, p->err);
            if (code)
                return code;
            give(arg, t->dtype, p->buffer, (size_t)n);
            at += n;
            if (p->done)
                atomic_fetch_add_explicit(p->done, n * size, memory_order_relaxed);
        }
        const int code = sl_ckpt_file_unchanged(p->ck->c, t, p->err);
        if (code)
            return code;
    }
    return SL_OK;
}

struct digest { struct sl_accumulator stats; XXH3_state_t *hash; };

static void digest_add(void *arg, enum sl_dtype dtype, const void *elements, size_t count)
{
    struct digest *d = arg;
    sl_stats_add(&d->stats, dtype, elements, count);
    if (d->hash)
        XXH3_64bits_update(d->hash, elements, count * sl_dtype_size(dtype));
}

static void bins_add(void *arg, enum sl_dtype dtype, const void *elements, size_t count)
{
    sl_histogram_add(arg, dtype, elements, count);
}

int sl_tensor_stats(const struct sl_checkpoint *ck, const size_t *tensors, size_t count, struct sl_stats *stats,
                    struct sl_histogram *histogram, uint64_t *checksum, const sl_atomic_int *cancel, sl_atomic_u64 *done,
                    struct sl_error *err)
{
    struct digest d = { .hash = checksum ? XXH3_createState() : NULL };
    struct pass p = { ck, tensors, count, cancel, done, malloc(STEP), err };
    int code = p.buffer && (!checksum || d.hash) ? SL_OK : sl_fail_memory(err, STEP);
    sl_stats_begin(&d.stats);
    if (d.hash)
        XXH3_64bits_reset(d.hash);
    if (!code)
        code = pass_run(&p, digest_add, &d);
    if (!code) {
        sl_stats_end(&d.stats, stats);
        if (checksum)
            *checksum = XXH3_64bits_digest(d.hash);
    }
    if (!code && histogram) {
        if (!(histogram->lo < histogram->hi)) {
            histogram->lo = stats->min;
            histogram->hi = stats->max;
        }
        memset(histogram->bins, 0, sizeof histogram->bins);
        code = pass_run(&p, bins_add, histogram);
    }
    XXH3_freeState(d.hash);
    free(p.buffer);
    return code;
}

/* ---- profile ------------------------------------------------------------------------- */

static void profile_add(void *arg, enum sl_dtype dtype, const void *elements, size_t count)
{
    (void)dtype;                         /* sl_profiler_begin was told */
    sl_profiler_add(arg, elements, count);
}

static int edges_check(const struct sl_tensor *t, const uint64_t *edge, size_t row_blocks, size_t col_blocks, struct sl_error *err)
{
    const uint64_t cols = t->ndim > 1 && t->shape[t->ndim - 1] > 0 ? (uint64_t)t->shape[t->ndim - 1] : t->count;
    const uint64_t rows = cols ? t->count / cols : 0;
    for (size_t i = 0; i < row_blocks; i++)
        if (edge[i] >= edge[i + 1])
            return sl_fail(err, SL_USAGE, t->name, "row edge %zu is not above the one before it", i + 1);
    if (row_blocks && (!col_blocks || edge[0] != 0 || edge[row_blocks] != rows))
        return sl_fail(err, SL_USAGE, t->name, "the edges cover rows %llu to %llu; 0 to %llu expected", (unsigned long long)edge[0],
                       (unsigned long long)edge[row_blocks], (unsigned long long)rows);
    return SL_OK;
}

int sl_tensor_profile(const struct sl_checkpoint *ck, size_t tensor, const uint64_t *row_edge, size_t row_blocks,
                      size_t col_blocks, struct sl_profile *profile, struct sl_block_stats *blocks,
                      const sl_atomic_int *cancel, sl_atomic_u64 *done, struct sl_error *err)
{
    const struct sl_tensor *t = tensor < ck->c->tensor_count ? &ck->c->tensors[tensor] : NULL;
    if (!t)
        return sl_fail(err, SL_USAGE, ck->c->path, "tensor %zu of %zu was asked for", tensor, ck->c->tensor_count);
    int code = edges_check(t, row_edge, row_blocks, col_blocks, err);
    if (code)
        return code;
    struct pass p = { ck, &tensor, 1, cancel, done, malloc(STEP), err };
    struct sl_profiler *f = p.buffer ? sl_profiler_begin(t->dtype, t->ndim > 1 ? (uint64_t)t->shape[t->ndim - 1] : t->count,
                                                         row_edge, row_blocks, col_blocks, blocks) : NULL;
    code = f ? pass_run(&p, profile_add, f) : sl_fail_memory(err, STEP);
    if (!code)
        sl_profiler_end(f, profile);
    sl_profiler_free(f);
    free(p.buffer);
    return code;
}
