/* stats.c: running statistics of elements.
 *
 * Every element is looked at as a double. Sums are kept in doubles, several of
 * them side by side over blocks of at most 4096 elements and then added up, so
 * the error of sum and sum2 is a few units of 2^-53 of the sums of the absolute
 * values, far below one part in 10^9. The mean of values that cancel can be no
 * better than that against their size.
 *
 * A loop in plain C, and vector forms for AVX2, AVX-512 and NEON (lanes.h) of the float types, which come to the same
 * to the last bit: which processor counts is not seen in a report. A vector form takes a block only when no
 * element of it is NaN or infinite; other blocks go through the loop. Types of one byte are counted by
 * value, which is exact.
 */
#include "run/run.h"

#include "base/dtype.h"
#include "base/num.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define BLOCK ((size_t)4096)      /* elements summed before they are folded in */

void sl_stats_begin(struct sl_accumulator *s)
{
    *s = (struct sl_accumulator){ .min = INFINITY, .max = -INFINITY };
}

void sl_stats_merge(struct sl_accumulator *s, const struct sl_accumulator *other)
{
    s->count += other->count;
    s->nan += other->nan;
    s->inf += other->inf;
    s->zeros += other->zeros;
    s->min = other->min < s->min ? other->min : s->min;
    s->max = other->max > s->max ? other->max : s->max;
    s->sum += other->sum;
    s->sum2 += other->sum2;
}

void sl_stats_end(const struct sl_accumulator *s, struct sl_stats *out)
{
    *out = (struct sl_stats){ .count = s->count, .nan = s->nan, .inf = s->inf, .zeros = s->zeros };
    const uint64_t finite = s->count - s->nan - s->inf;
    if (finite == 0)
        return;
    const double n = (double)finite;
    out->min = s->min;
    out->max = s->max;
    out->mean = s->min < s->max ? s->sum / n : s->min;
    out->rms = sqrt(s->sum2 / n);
    const double variance = s->sum2 / n - out->mean * out->mean;
    out->std = s->min < s->max && variance > 0 ? sqrt(variance) : 0;
}

/* ---- plain C ---- */

static inline double load_f64(const unsigned char *p)
{
    double d;
    const uint64_t bits = sl_load_u64(p);
    memcpy(&d, &bits, sizeof d);
    return d;
}

static inline double load_f32_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

/* What one block adds: its sums in 16 lanes, so that vector forms of every width come to the same. */
struct lanes { double sum[16], square[16], min, max; uint64_t nan, inf, zeros; };

/* `first` is the place of the element in its block. */
static inline void lanes_add(struct lanes *t, size_t first, double x)
{
    if (isnan(x)) {
        t->nan++;
    } else if (isinf(x)) {
        t->inf++;
    } else {
        t->zeros += x == 0;
        t->min = x < t->min ? x : t->min;
        t->max = x > t->max ? x : t->max;
        t->sum[first % 16] += x;
        t->square[first % 16] += x * x;
    }
}

static void lanes_add_plain(struct lanes *t, enum sl_dtype dtype, const unsigned char *p, size_t from, size_t count)
{
    const size_t size = sl_dtype_size(dtype);
    switch (dtype) {
    case SL_F64:
        for (size_t i = from; i < count; i++)
            lanes_add(t, i, load_f64(p + 8 * i));
        break;
    case SL_F32:
        for (size_t i = from; i < count; i++)
            lanes_add(t, i, load_f32_bits(sl_load_u32(p + 4 * i)));
        break;
    case SL_BF16:
        for (size_t i = from; i < count; i++)
            lanes_add(t, i, load_f32_bits((uint32_t)sl_load_u16(p + 2 * i) << 16));
        break;
    default:
        for (size_t i = from; i < count; i++)
            lanes_add(t, i, sl_dtype_load(dtype, p + size * i));
        break;
    }
}

static double sum_of(const double lane[16])
{
    double four[4];
    for (size_t k = 0; k < 4; k++)
        four[k] = (lane[k] + lane[k + 4]) + (lane[k + 8] + lane[k + 12]);
    return (four[0] + four[1]) + (four[2] + four[3]);
}

/* Adds a block's elements to t, all of them or, when one of them is NaN or infinite, none; count is a multiple of 32,
 * and not 0. */
typedef bool block_fn(struct lanes *t, const unsigned char *p, size_t count);

/* Elements of one block, at most BLOCK; vector: NULL for the plain loop. */
static void add_block(struct sl_accumulator *s, enum sl_dtype dtype, block_fn *vector, const unsigned char *p, size_t count)
{
    const struct lanes empty = { .min = INFINITY, .max = -INFINITY };
    struct lanes t = empty;
    size_t done = count & ~(size_t)31;
    if (done && !(vector && vector(&t, p, done))) {
        t = empty;
        done = 0;
    }
    lanes_add_plain(&t, dtype, p, done, count);
    /* + 0: which of two zeros came first is nothing to tell */
    const struct sl_accumulator block = { .count = count, .nan = t.nan, .inf = t.inf, .zeros = t.zeros, .min = t.min + 0.0, .max = t.max + 0.0,
                                          .sum = sum_of(t.sum), .sum2 = sum_of(t.square) };
    sl_stats_merge(s, &block);
}

static void add_blocks(struct sl_accumulator *s, enum sl_dtype dtype, block_fn *vector, const void *elements, size_t count)
{
    const unsigned char *p = elements;
    const size_t size = sl_dtype_size(dtype);
    for (size_t done = 0; done < count; done += BLOCK)
        add_block(s, dtype, vector, p + done * size, count - done < BLOCK ? count - done : BLOCK);
}

/* One byte an element: how often each of the 256 values occurs says it all. */
static void add_bytes(struct sl_accumulator *s, enum sl_dtype dtype, const unsigned char *p, size_t count)
{
    uint32_t seen[4][256] = { { 0 } };
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        seen[0][p[i]]++;
        seen[1][p[i + 1]]++;
        seen[2][p[i + 2]]++;
        seen[3][p[i + 3]]++;
    }
    for (; i < count; i++)
        seen[0][p[i]]++;

    for (unsigned v = 0; v < 256; v++) {
        const uint64_t n = (uint64_t)seen[0][v] + seen[1][v] + seen[2][v] + seen[3][v];
        if (n == 0)
            continue;
        const unsigned char byte = (unsigned char)v;
        const double x = sl_dtype_load(dtype, &byte);
        struct sl_accumulator all = { .count = n, .min = INFINITY, .max = -INFINITY };
        if (isnan(x))
            all.nan = n;
        else if (isinf(x))
            all.inf = n;
        else
            all = (struct sl_accumulator){ .count = n, .zeros = x == 0 ? n : 0, .min = x + 0.0, .max = x + 0.0, .sum = x * (double)n, .sum2 = x * x * (double)n };
        sl_stats_merge(s, &all);
    }
}

/* ---- vectors ---- */

/* A 16-bit float from its place in the order of all of them (lanes.h). */
static double double_of_order(bool bf16, int16_t order)
{
    unsigned char bytes[2];
    sl_store_u16(bytes, (uint16_t)(order < 0 ? (uint16_t)order ^ 0x7fff : order));
    return sl_dtype_load(bf16 ? SL_BF16 : SL_F16, bytes);
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define FORM avx2
#define N 4
#define ISA __attribute__((target("avx2,f16c")))
ISA static inline __m256d load_bf16_avx2(const unsigned char *p)
{
    return _mm256_cvtps_pd(_mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64((const __m128i *)p))));
}
ISA static inline __m256d load_f16_avx2(const unsigned char *p)
{
    return _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)p)));
}
ISA static inline __m256d load_f32_avx2(const unsigned char *p)
{
    return _mm256_cvtps_pd(_mm_loadu_ps((const float *)p));
}
#include "run/lanes.h"

#define FORM avx512
#define N 8
#define ISA __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
ISA static inline __m512d load_bf16_avx512(const unsigned char *p)
{
    return _mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16)));
}
ISA static inline __m512d load_f16_avx512(const unsigned char *p)
{
    return _mm512_cvtps_pd(_mm512_castps512_ps256(_mm512_cvtph_ps(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p)))));
}
ISA static inline __m512d load_f32_avx512(const unsigned char *p)
{
    return _mm512_cvtps_pd(_mm256_loadu_ps((const float *)p));
}
#include "run/lanes.h"

/* cpuid says what the processor has; __builtin_cpu_supports also whether the system keeps the registers. */
static enum sl_stats_form widest(void)
{
    unsigned a, b, c, d;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return SL_STATS_AVX512;
    return __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C ? SL_STATS_AVX2 : SL_STATS_PLAIN;
}

static block_fn *function_of(enum sl_stats_form form, enum sl_dtype dtype)
{
    return form == SL_STATS_AVX512 ? form_avx512(dtype) : form == SL_STATS_AVX2 ? form_avx2(dtype) : NULL;
}
#elif defined(__aarch64__)
#include <arm_neon.h>

#define FORM neon
#define N 2
#define ISA
static inline float64x2_t load_bf16_neon(const unsigned char *p)
{
    uint16x4_t h = vdup_n_u16(0);
    memcpy(&h, p, 4);
    return vcvt_f64_f32(vreinterpret_f32_u32(vget_low_u32(vshlq_n_u32(vmovl_u16(h), 16))));
}
static inline float64x2_t load_f16_neon(const unsigned char *p)
{
    float16x4_t h = vreinterpret_f16_u16(vdup_n_u16(0));
    memcpy(&h, p, 4);
    return vcvt_f64_f32(vget_low_f32(vcvt_f32_f16(h)));
}
static inline float64x2_t load_f32_neon(const unsigned char *p)
{
    return vcvt_f64_f32(vld1_f32((const float *)p));
}
#include "run/lanes.h"

static enum sl_stats_form widest(void)
{
    return SL_STATS_NEON;
}

static block_fn *function_of(enum sl_stats_form form, enum sl_dtype dtype)
{
    return form == SL_STATS_NEON ? form_neon(dtype) : NULL;
}
#else
static enum sl_stats_form widest(void)
{
    return SL_STATS_PLAIN;
}

static block_fn *function_of(enum sl_stats_form form, enum sl_dtype dtype)
{
    (void)form, (void)dtype;
    return NULL;
}
#endif

/* Asked of the processor once: cpuid is slow in a virtual machine. */
static enum sl_stats_form best(void)
{
    static atomic_int known;      /* 0: not asked */
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == 0) {
        answer = 1 + (int)widest();
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return (enum sl_stats_form)(answer - 1);
}

bool sl_stats_has(enum sl_stats_form form)
{
    return form == SL_STATS_PLAIN || form == best() || (form == SL_STATS_AVX2 && best() == SL_STATS_AVX512);
}

/* ---- the one called ---- */

#define WORTH_COUNTING ((size_t)1024)    /* bytes from which a table of 256 counts pays */

void sl_stats_add_as(struct sl_accumulator *s, enum sl_stats_form form, enum sl_dtype dtype, const void *elements, size_t count)
{
    add_blocks(s, dtype, function_of(form, dtype), elements, count);
}

void sl_stats_add(struct sl_accumulator *s, enum sl_dtype dtype, const void *elements, size_t count)
{
    const unsigned char *p = elements;
    const size_t size = sl_dtype_size(dtype);
    if (size == 1) {
        const size_t most = UINT32_MAX;
        for (; count >= WORTH_COUNTING; p += count < most ? count : most, count -= count < most ? count : most)
            add_bytes(s, dtype, p, count < most ? count : most);
        add_blocks(s, dtype, NULL, p, count);
        return;
    }
    add_blocks(s, dtype, function_of(best(), dtype), elements, count);
}

/* ---- histogram ---- */

void sl_histogram_add(struct sl_histogram *h, enum sl_dtype dtype, const void *elements, size_t count)
{
    const unsigned char *p = elements;
    const size_t size = sl_dtype_size(dtype);
    const double width = h->hi / SL_HISTOGRAM_BINS - h->lo / SL_HISTOGRAM_BINS;
    for (size_t i = 0; i < count; i++) {
        const double x = sl_dtype_load(dtype, p + i * size);
        if (!(x >= h->lo && x <= h->hi))
            continue;
        const double at = width > 0 ? (x - h->lo) / width : 0;
        h->bins[at < SL_HISTOGRAM_BINS - 1 ? (size_t)at : SL_HISTOGRAM_BINS - 1]++;
    }
}
