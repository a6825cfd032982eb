/* profile.c: quantiles, mantissa bits and blocks of one tensor in one pass.
 *
 * Absolute values are counted by 15 bits that grow with them: of bf16 and fp16
 * their own bits without the sign, which is exact; of wider types exponent and
 * seven mantissa bits of the value as fp32. Sums are kept in doubles.
 */
#include "run/run.h"

#include "base/dtype.h"
#include "base/num.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEYS 32768
#define SOME ((size_t)2048)       /* elements that are converted at a time */

static const double quantiles[SL_QUANTILES] = { 0.5, 0.9, 0.99, 0.999, 0.9999 };

/* Bits of the mantissa as stored, and of the exponent, by dtype. */
struct float_bits { enum sl_dtype dtype; uint32_t mantissa, exponent; };
static const struct float_bits float_bits[] = {
    { SL_F64, 52, 11 }, { SL_F32, 23, 8 }, { SL_F16, 10, 5 }, { SL_BF16, 7, 8 },
    { SL_F8_E4M3, 3, 4 }, { SL_F8_E5M2, 2, 5 }, { SL_F8_E4M3FNUZ, 3, 4 }, { SL_F8_E5M2FNUZ, 2, 5 },
};

struct sl_profiler {
    enum sl_dtype dtype;
    size_t size;
    const struct float_bits *bits;   /* NULL: no float */
    uint64_t cols, row, col;         /* where the next element stands */
    const uint64_t *row_edge;
    size_t row_blocks, col_blocks, row_block;
    uint64_t block_cols;             /* columns of a block */
    struct sl_block_stats *blocks;         /* rms holds the sum of squares until the end */
    struct sl_accumulator stats;
    uint64_t mantissas, subnormals;  /* or of all mantissas */
    double row_sum, row_lo, row_hi;
    uint64_t row_count;
    uint64_t keys[KEYS];
    double values[SOME];
};

struct sl_profiler *sl_profiler_begin(enum sl_dtype dtype, uint64_t cols, const uint64_t *row_edge, size_t row_blocks,
                                      size_t col_blocks, struct sl_block_stats *blocks)
{
    struct sl_profiler *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->dtype = dtype;
    p->size = sl_dtype_size(dtype);
    p->cols = cols ? cols : 1;
    p->row_edge = row_edge;
    p->row_blocks = blocks ? row_blocks : 0;
    p->col_blocks = col_blocks;
    p->block_cols = col_blocks ? (p->cols + col_blocks - 1) / col_blocks : p->cols;
    p->blocks = blocks;
    p->row_lo = INFINITY;
    for (size_t i = 0; i < sizeof float_bits / sizeof float_bits[0]; i++)
        if (float_bits[i].dtype == dtype)
            p->bits = &float_bits[i];
    for (size_t i = 0; i < p->row_blocks * col_blocks; i++)
        blocks[i] = (struct sl_block_stats){ 0 };
    sl_stats_begin(&p->stats);
    return p;
}

static uint64_t raw_of(const unsigned char *at, size_t size)
{
    switch (size) {
    case 1: return *at;
    case 2: return sl_load_u16(at);
    case 4: return sl_load_u32(at);
    default: return size >= 8 ? sl_load_u64(at) : 0;
    }
}

static bool own_key(const struct sl_profiler *p) { return p->dtype == SL_BF16 || p->dtype == SL_F16; }

static uint32_t key_of(double value)
{
    const float f = (float)fabs(value);
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits >> 16 & (KEYS - 1);
}

/* The value in the middle of a key, or the value itself where keys are exact. */
static double key_value(const struct sl_profiler *p, uint32_t key)
{
    if (own_key(p)) {
        const unsigned char bytes[2] = { (unsigned char)(key & 0xff), (unsigned char)(key >> 8) };
        return sl_dtype_load(p->dtype, bytes);
    }
    const bool exact = p->size == 1;      /* one byte: few mantissa bits */
    const uint32_t bits = key << 16 | (exact || !key ? 0 : 0x8000);
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

/* Mantissas, subnormals and keys of finite elements. */
static void add_bits(struct sl_profiler *p, const unsigned char *at, size_t count)
{
    const uint32_t m = p->bits ? p->bits->mantissa : 0, e = p->bits ? p->bits->exponent : 0;
    const uint64_t mantissa = (UINT64_C(1) << m) - 1, exponent = ((UINT64_C(1) << e) - 1) << m;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(p->values[i]))
            continue;
        const uint64_t raw = raw_of(at + i * p->size, p->size);
        p->keys[own_key(p) ? raw & (KEYS - 1) : key_of(p->values[i])]++;
        if (!p->bits)
            continue;
        p->mantissas |= raw & mantissa;
        p->subnormals += !(raw & exponent) && (raw & mantissa);
    }
}

static void row_ends(struct sl_profiler *p)
{
    const double rms = p->row_count ? sqrt(p->row_sum / (double)p->row_count) : 0;
    if (p->row_count) {
        p->row_lo = rms < p->row_lo ? rms : p->row_lo;
        p->row_hi = rms > p->row_hi ? rms : p->row_hi;
    }
    p->row_sum = 0;
    p->row_count = 0;
    p->col = 0;
    p->row++;
    if (p->row_blocks && p->row_block + 1 < p->row_blocks && p->row >= p->row_edge[p->row_block + 1])
        p->row_block++;
}

/* Elements of one row and one block of columns. */
static void add_run(struct sl_profiler *p, const double *v, size_t count)
{
    struct sl_block_stats b = { .count = count };
    for (size_t i = 0; i < count; i++) {
        const double a = fabs(v[i]);
        if (!isfinite(a)) {
            b.nonfinite++;
            continue;
        }
        b.zeros += a == 0;
        b.rms += a * a;
        b.max_abs = a > b.max_abs ? a : b.max_abs;
    }
    p->row_sum += b.rms;
    p->row_count += count - b.nonfinite;
    if (!p->row_blocks)
        return;
    struct sl_block_stats *to = &p->blocks[p->row_block * p->col_blocks + (size_t)(p->col / p->block_cols)];
    to->count += b.count;
    to->nonfinite += b.nonfinite;
    to->zeros += b.zeros;
    to->rms += b.rms;
    to->max_abs = b.max_abs > to->max_abs ? b.max_abs : to->max_abs;
}

static void add_blocks(struct sl_profiler *p, size_t count)
{
    for (size_t i = 0; i < count;) {
        const uint64_t edge = (p->col / p->block_cols + 1) * p->block_cols, end = edge < p->cols ? edge : p->cols;
        const size_t n = (size_t)sl_min_u64(end - p->col, count - i);
        add_run(p, p->values + i, n);
        i += n;
        p->col += n;
        if (p->col == p->cols)
            row_ends(p);
    }
}

void sl_profiler_add(struct sl_profiler *p, const void *elements, size_t count)
{
    const unsigned char *at = elements;
    sl_stats_add(&p->stats, p->dtype, elements, count);
    for (size_t done = 0; done < count; done += SOME) {
        const size_t n = count - done < SOME ? count - done : SOME;
        if (!sl_dtype_cast(p->dtype, at + done * p->size, SL_F64, p->values, n))
            for (size_t i = 0; i < n; i++)
                p->values[i] = sl_dtype_load(p->dtype, at + (done + i) * p->size);
        add_bits(p, at + done * p->size, n);
        add_blocks(p, n);
    }
}

/* A key wider than one value stands for the middle of its range, which may lie past the largest value there is. */
static void quantiles_of(const struct sl_profiler *p, struct sl_profile *out)
{
    const uint64_t finite = p->stats.count - p->stats.nan - p->stats.inf;
    const double most = fmax(fabs(out->stats.min), fabs(out->stats.max));
    uint64_t seen = 0;
    size_t q = 0;
    for (uint32_t k = 0; k < KEYS && q < SL_QUANTILES && finite; k++) {
        seen += p->keys[k];
        while (q < SL_QUANTILES && (double)seen >= quantiles[q] * (double)finite && seen)
            out->quantile[q++] = fmin(key_value(p, k), most);
    }
    out->quantiles_exact = p->size <= 2 && p->bits;
}

void sl_profiler_end(struct sl_profiler *p, struct sl_profile *out)
{
    *out = (struct sl_profile){ .subnormals = p->subnormals };
    sl_stats_end(&p->stats, &out->stats);
    if (p->bits) {
        out->mantissa_bits = p->bits->mantissa + 1;
        out->mantissa_used = 1;
        for (uint32_t b = 0; b < p->bits->mantissa; b++)
            if (p->mantissas >> b & 1) {
                out->mantissa_used = p->bits->mantissa - b + 1;
                break;
            }
    }
    quantiles_of(p, out);
    out->row_rms_lo = p->row_hi >= p->row_lo ? p->row_lo : 0;
    out->row_rms_hi = p->row_hi;
    for (size_t i = 0; i < p->row_blocks * p->col_blocks; i++) {
        struct sl_block_stats *b = &p->blocks[i];
        b->rms = b->count > b->nonfinite ? sqrt(b->rms / (double)(b->count - b->nonfinite)) : 0;
    }
}

void sl_profiler_free(struct sl_profiler *p)
{
    free(p);
}
