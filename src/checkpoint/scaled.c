/* scaled.c: weights of 8-bit floats with a factor for each block of elements, as
 * DeepSeek-V3 publishes its own: X.weight in float8_e4m3fn beside X.weight_scale_inv,
 *
 *     w[i][j] = fp8(X[i][j]) * scale[i / rows of a block][j / columns of a block]
 *
 * the product in float32, blocks at the edges cut off.
 * Source: DeepSeek-V3 inference/kernel.py (weight_dequant) and inference/fp8_cast_bf16.py */
#include "checkpoint/ckptread.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"
#include "base/value.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SUFFIX "_scale_inv"
#define AT_ONCE 512                      /* factors read at a time */

/* ---- finding the factors -------------------------------------------------- */

static int64_t blocks_of(int64_t length, int64_t block)
{
    return length / block + (length % block != 0);
}

/* [rows, columns] of "weight_block_size"; 128 x 128 where config.json says nothing. */
static bool block_size(const struct sl_ckpt *c, int64_t block[2])
{
    const struct sl_value *v = sl_value_get(sl_value_get(c->hf_config, "quantization_config"), "weight_block_size");
    block[0] = block[1] = 128;
    if (!v || v->kind == SL_VALUE_NULL)
        return true;
    return v->kind == SL_VALUE_LIST && v->len == 2 && sl_value_int(v->items[0], &block[0]) && sl_value_int(v->items[1], &block[1])
        && block[0] > 0 && block[1] > 0;
}

static int pair(const struct sl_ckpt *c, struct sl_tensor *t, const struct sl_tensor *scales, struct sl_error *err)
{
    const char *file = t->file >= 0 ? c->files[t->file].name : t->name;
    if (!block_size(c, t->block))
        return sl_fail(err, SL_INPUT, "config.json", "weight_block_size of quantization_config is no pair of lengths");
    const int64_t rows = blocks_of(t->shape[0], t->block[0]), columns = blocks_of(t->shape[1], t->block[1]);
    if (scales->ndim != 2 || scales->shape[0] != rows || scales->shape[1] != columns)
        return sl_fail(err, SL_INPUT, file, "%s has the shape %lldx%lld; %lldx%lld is expected, one factor for each block of %lldx%lld",
                       scales->name, scales->ndim > 0 ? (long long)scales->shape[0] : 0LL,
                       scales->ndim > 1 ? (long long)scales->shape[1] : 0LL, (long long)rows, (long long)columns,
                       (long long)t->block[0], (long long)t->block[1]);
    if (!sl_dtype_row(scales->dtype)->is_float && scales->dtype != SL_F8_E8M0)
        return sl_fail(err, SL_UNSUPPORTED, file, "%s is %s; factors of blocks are floats", scales->name, sl_dtype_name(scales->dtype));
    t->scales = scales;
    t->stored = t->dtype;
    t->dtype = SL_F32;
    t->bytes = t->count * sl_dtype_size(SL_F32);
    t->flags |= SL_TENSOR_SCALED;
    return SL_OK;
}

/* Does config.json say that weights are 8-bit floats with factors? */
static bool says_fp8(const struct sl_ckpt *c)
{
    const char *method = sl_value_str(sl_value_get(sl_value_get(c->hf_config, "quantization_config"), "quant_method"));
    return method && !strcmp(method, "fp8");
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct sl_tensor *const *)a)->name, (*(const struct sl_tensor *const *)b)->name);
}

/* Every tensor that is named as factors, sorted. */
static size_t list_scales(const struct sl_ckpt *c, const struct sl_tensor **out)
{
    size_t count = 0;
    for (size_t i = 0; i < c->tensor_count; i++) {
        const char *name = c->tensors[i].name;
        const size_t len = name ? strlen(name) : 0;
        if (len > strlen(SUFFIX) && !strcmp(name + len - strlen(SUFFIX), SUFFIX)) {
            if (out)
                out[count] = &c->tensors[i];
            count++;
        }
    }
    if (out && count)
        qsort(out, count, sizeof *out, by_name);
    return count;
}

static const struct sl_tensor *find_scales(const struct sl_tensor *const *scales, size_t count, const char *of)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const size_t len = strlen(of);
        int order = strncmp(scales[middle]->name, of, len);
        order = order ? order : strcmp(scales[middle]->name + len, SUFFIX);
        if (!order)
            return scales[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

int sl_ckpt_scaled(const struct sl_ckpt *c, struct sl_arena *arena, const struct sl_tensor **out, struct sl_error *err)
{
    const size_t count = list_scales(c, NULL);
    *out = c->tensors;
    if (!count && !says_fp8(c))
        return SL_OK;
    const struct sl_tensor **scales = SL_ARENA_NEW(arena, const struct sl_tensor *, count);
    struct sl_tensor *tensors = SL_ARENA_NEW(arena, struct sl_tensor, c->tensor_count);
    if (!scales || !tensors)
        return sl_fail_memory(err, c->tensor_count * sizeof *tensors);
    if (c->tensor_count)
        memcpy(tensors, c->tensors, c->tensor_count * sizeof *tensors);
    list_scales(c, scales);
    for (size_t i = 0; i < c->tensor_count; i++) {
        struct sl_tensor *t = &tensors[i];
        if (t->dtype != SL_F8_E4M3 || t->ndim != 2 || t->flags & SL_TENSOR_STRIDED || !t->name)
            continue;
        const struct sl_tensor *of = find_scales(scales, count, t->name);
        if (!of && says_fp8(c))
            return sl_fail(err, SL_INPUT, t->file >= 0 ? c->files[t->file].name : t->name,
                           "%s is float8, and the factors of its blocks, %s" SUFFIX ", are not there: without them its values are not known",
                           t->name, t->name);
        const int rc = of ? pair(c, t, of, err) : SL_OK;
        if (rc)
            return rc;
    }
    *out = tensors;
    return SL_OK;
}

/* ---- reading ---------------------------------------------------------------- */

static float values[256];                /* of every byte */
static pthread_once_t values_once = PTHREAD_ONCE_INIT;

static void make_values(void)
{
    for (unsigned i = 0; i < 256; i++) {
        const unsigned char byte = (unsigned char)i;
        values[i] = (float)sl_dtype_load(SL_F8_E4M3, &byte);
    }
}

/* The factors of blocks [from, from + count) of one row of blocks. */
static int read_factors(struct sl_ckpt *c, const struct sl_tensor *s, uint64_t row, uint64_t from, size_t count, float *out,
                        struct sl_error *err)
{
    unsigned char raw[AT_ONCE * 8];
    const size_t size = sl_dtype_size(s->dtype);
    const int rc = sl_ckpt_read_elements(c, s, row * (uint64_t)s->shape[1] + from, count, raw, err);
    for (size_t i = 0; !rc && i < count; i++)
        out[i] = (float)sl_dtype_load(s->dtype, raw + i * size);
    return rc;
}

/* The factors that are at hand: those of some blocks of one row of them. */
struct factors { float at[AT_ONCE]; uint64_t row, from, end; };

/* Elements of one row whose bytes lie at `in`, from column on, into out; in may lie behind out in the same memory. */
static int scale_row(struct sl_ckpt *c, const struct sl_tensor *t, struct factors *f, uint64_t row, uint64_t column, size_t count,
                     const unsigned char *in, unsigned char *out, struct sl_error *err)
{
    const uint64_t block_row = row / (uint64_t)t->block[0], width = (uint64_t)t->block[1];
    for (size_t done = 0; done < count;) {
        const uint64_t block = (column + done) / width;
        if (f->row != block_row || block < f->from || block >= f->end) {
            const size_t n = (size_t)sl_min_u64(AT_ONCE, (uint64_t)t->scales->shape[1] - block);
            const int rc = read_factors(c, t->scales, block_row, block, n, f->at, err);
            if (rc)
                return rc;
            f->row = block_row, f->from = block, f->end = block + n;
        }
        const size_t stop = (size_t)sl_min_u64(count, (block + 1) * width - column);
        const float factor = f->at[block - f->from];
        for (; done < stop; done++) {
            const float value = values[in[done]] * factor;
            memcpy(out + done * sizeof value, &value, sizeof value);
        }
    }
    return SL_OK;
}

int ckpt_read_scaled(struct sl_ckpt *c, const struct sl_tensor *t, uint64_t first, uint64_t count, void *buf, struct sl_error *err)
{
    struct sl_tensor bytes = *t;         /* the same array as it is stored */
    struct factors f = { .row = UINT64_MAX };
    const uint64_t columns = (uint64_t)t->shape[1];
    unsigned char *out = buf, *in = out + count * (sizeof(float) - 1);      /* the last quarter: read before it is written over */
    pthread_once(&values_once, make_values);
    bytes.dtype = t->stored;
    bytes.flags &= ~SL_TENSOR_SCALED;
    bytes.bytes = t->count;
    int rc = sl_ckpt_read_elements(c, &bytes, first, count, in, err);
    for (uint64_t done = 0; !rc && done < count;) {
        const uint64_t row = (first + done) / columns, column = (first + done) % columns;
        const size_t n = (size_t)sl_min_u64(count - done, columns - column);
        rc = scale_row(c, t, &f, row, column, n, in + done, out + done * sizeof(float), err);
        done += n;
    }
    return rc;
}
