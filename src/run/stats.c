/* stats.c: running statistics of elements.
 *
 * Every element is looked at as a double. Sums are kept in doubles, several of
 * them side by side over blocks of at most 4096 elements and then added up, so
 * the error of sum and sum2 is a few units of 2^-53 of the sums of the absolute
 * values, far below one part in 10^9. The mean of values that cancel can be no
 * better than that against their size.
 *
 * Two forms of the same thing: plain C, and AVX2 where the processor has it
 * (fp64, fp32, fp16, bf16). The vector form takes a block only when no element
 * of it is NaN or infinite, which an integer test tells; other blocks go
 * through the plain form. Types of one byte are counted by value, which is
 * exact.
 */
#include "run/run.h"

#include "base/dtype.h"
#include "base/num.h"

#include <math.h>
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

static inline void add_one(struct sl_accumulator *s, double x)
{
    s->count++;
    if (isnan(x)) {
        s->nan++;
    } else if (isinf(x)) {
        s->inf++;
    } else {
        s->zeros += x == 0;
        s->min = x < s->min ? x : s->min;
        s->max = x > s->max ? x : s->max;
        s->sum += x;
        s->sum2 += x * x;
    }
}

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

/* Elements of one block; called with at most BLOCK of them. */
static void add_block(struct sl_accumulator *s, enum sl_dtype dtype, const unsigned char *p, size_t count)
{
    struct sl_accumulator block;
    sl_stats_begin(&block);
    const size_t size = sl_dtype_size(dtype);
    switch (dtype) {
    case SL_F64:
        for (size_t i = 0; i < count; i++)
            add_one(&block, load_f64(p + 8 * i));
        break;
    case SL_F32:
        for (size_t i = 0; i < count; i++)
            add_one(&block, load_f32_bits(sl_load_u32(p + 4 * i)));
        break;
    case SL_BF16:
        for (size_t i = 0; i < count; i++)
            add_one(&block, load_f32_bits((uint32_t)sl_load_u16(p + 2 * i) << 16));
        break;
    default:
        for (size_t i = 0; i < count; i++)
            add_one(&block, sl_dtype_load(dtype, p + size * i));
        break;
    }
    sl_stats_merge(s, &block);
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
        struct sl_accumulator one;
        sl_stats_begin(&one);
        add_one(&one, sl_dtype_load(dtype, &byte));
        s->count += n;
        s->nan += one.nan * n;
        s->inf += one.inf * n;
        s->zeros += one.zeros * n;
        s->min = one.min < s->min ? one.min : s->min;
        s->max = one.max > s->max ? one.max : s->max;
        s->sum += one.sum * (double)n;
        s->sum2 += one.sum2 * (double)n;
    }
}

void sl_stats_add_plain(struct sl_accumulator *s, enum sl_dtype dtype, const void *elements, size_t count)
{
    const unsigned char *p = elements;
    const size_t size = sl_dtype_size(dtype);
    for (size_t done = 0; done < count;) {
        const size_t n = count - done < BLOCK ? count - done : BLOCK;
        add_block(s, dtype, p + done * size, n);
        done += n;
    }
}

/* ---- AVX2 ---- */

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#include <stdatomic.h>

#define VECTOR __attribute__((target("avx2,fma,f16c")))
#define VECTOR_INLINE __attribute__((target("avx2,fma,f16c"), always_inline)) static inline

/* Sums of sixteen elements at a time in four pairs of registers. */
struct sums { __m256d sum[4], square[4]; };

VECTOR_INLINE void sums_begin(struct sums *t)
{
    for (int k = 0; k < 4; k++)
        t->sum[k] = t->square[k] = _mm256_setzero_pd();
}

VECTOR_INLINE void sums_add(struct sums *t, int k, __m256d x)
{
    t->sum[k] = _mm256_add_pd(t->sum[k], x);
    t->square[k] = _mm256_fmadd_pd(x, x, t->square[k]);
}

VECTOR_INLINE void sums_add_floats(struct sums *t, int k, __m256 x)
{
    sums_add(t, k, _mm256_cvtps_pd(_mm256_castps256_ps128(x)));
    sums_add(t, k + 1, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
}

VECTOR_INLINE double sum_of(const __m256d v[4])
{
    double lane[4];
    _mm256_storeu_pd(lane, _mm256_add_pd(_mm256_add_pd(v[0], v[1]), _mm256_add_pd(v[2], v[3])));
    return (lane[0] + lane[1]) + (lane[2] + lane[3]);
}

static void fold(struct sl_accumulator *s, size_t count, uint64_t zeros, double min, double max,
                 double sum, double square)
{
    s->count += count;
    s->zeros += zeros;
    s->min = min < s->min ? min : s->min;
    s->max = max > s->max ? max : s->max;
    s->sum += sum;
    s->sum2 += square;
}

/* The order of 16-bit floats as the order of signed numbers: negative ones have
 * their other bits turned over. The same again turns it back. */
VECTOR_INLINE __m256i order_of(__m256i bits)
{
    return _mm256_xor_si256(bits, _mm256_and_si256(_mm256_srai_epi16(bits, 15), _mm256_set1_epi16(0x7fff)));
}

static uint16_t bits_of_order(int16_t order)
{
    return (uint16_t)(order < 0 ? (uint16_t)order ^ 0x7fff : order);
}

VECTOR_INLINE uint64_t zeros_of_16(__m256i counts)
{
    /* each lane holds minus the number of zeros it met, at most BLOCK / 16 */
    int16_t lane[16];
    _mm256_storeu_si256((__m256i *)lane, counts);
    uint64_t zeros = 0;
    for (int k = 0; k < 16; k++)
        zeros += (uint64_t)-lane[k];
    return zeros;
}

/* bf16 and fp16: `exponent` are the bits that are all set in NaN and infinity.
 * False, and nothing added, when there is one of these. */
VECTOR_INLINE bool block_of_16(struct sl_accumulator *s, enum sl_dtype dtype, short exponent,
                               const unsigned char *p, size_t count)
{
    const __m256i mask = _mm256_set1_epi16(exponent), zero = _mm256_setzero_si256();
    __m256i special = zero, zeros = zero;
    __m256i low = _mm256_set1_epi16(INT16_MAX), high = _mm256_set1_epi16(INT16_MIN);
    struct sums t;
    sums_begin(&t);
    for (size_t i = 0; i < count; i += 16) {
        const __m256i bits = _mm256_loadu_si256((const __m256i *)(p + 2 * i));
        special = _mm256_or_si256(special, _mm256_cmpeq_epi16(_mm256_and_si256(bits, mask), mask));
        zeros = _mm256_add_epi16(zeros, _mm256_cmpeq_epi16(_mm256_add_epi16(bits, bits), zero));
        const __m256i order = order_of(bits);
        low = _mm256_min_epi16(low, order);
        high = _mm256_max_epi16(high, order);
        if (dtype == SL_BF16) {
            sums_add_floats(&t, 0, _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, bits)));
            sums_add_floats(&t, 2, _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, bits)));
        } else {
            sums_add_floats(&t, 0, _mm256_cvtph_ps(_mm256_castsi256_si128(bits)));
            sums_add_floats(&t, 2, _mm256_cvtph_ps(_mm256_extracti128_si256(bits, 1)));
        }
    }
    if (!_mm256_testz_si256(special, special))
        return false;

    int16_t lows[16], highs[16];
    _mm256_storeu_si256((__m256i *)lows, low);
    _mm256_storeu_si256((__m256i *)highs, high);
    for (int k = 1; k < 16; k++) {
        lows[0] = lows[k] < lows[0] ? lows[k] : lows[0];
        highs[0] = highs[k] > highs[0] ? highs[k] : highs[0];
    }
    unsigned char bytes[2];
    sl_store_u16(bytes, bits_of_order(lows[0]));
    const double min = sl_dtype_load(dtype, bytes);
    sl_store_u16(bytes, bits_of_order(highs[0]));
    const double max = sl_dtype_load(dtype, bytes);
    fold(s, count, zeros_of_16(zeros), min, max, sum_of(t.sum), sum_of(t.square));
    return true;
}

VECTOR static bool block_bf16(struct sl_accumulator *s, const unsigned char *p, size_t count)
{
    return block_of_16(s, SL_BF16, 0x7f80, p, count);
}

VECTOR static bool block_f16(struct sl_accumulator *s, const unsigned char *p, size_t count)
{
    return block_of_16(s, SL_F16, 0x7c00, p, count);
}

VECTOR static bool block_f32(struct sl_accumulator *s, const unsigned char *p, size_t count)
{
    const __m256i mask = _mm256_set1_epi32(0x7f800000), zero = _mm256_setzero_si256();
    __m256i special = zero, zeros = zero;
    __m256 low = _mm256_set1_ps(INFINITY), high = _mm256_set1_ps(-INFINITY);
    struct sums t;
    sums_begin(&t);
    for (size_t i = 0; i < count; i += 16)
        for (int half = 0; half < 2; half++) {
            const __m256i bits = _mm256_loadu_si256((const __m256i *)(p + 4 * i + 32 * (size_t)half));
            special = _mm256_or_si256(special, _mm256_cmpeq_epi32(_mm256_and_si256(bits, mask), mask));
            zeros = _mm256_add_epi32(zeros, _mm256_cmpeq_epi32(_mm256_add_epi32(bits, bits), zero));
            const __m256 x = _mm256_castsi256_ps(bits);
            low = _mm256_min_ps(low, x);
            high = _mm256_max_ps(high, x);
            sums_add_floats(&t, 2 * half, x);
        }
    if (!_mm256_testz_si256(special, special))
        return false;

    float lows[8], highs[8];
    int32_t none[8];
    _mm256_storeu_ps(lows, low);
    _mm256_storeu_ps(highs, high);
    _mm256_storeu_si256((__m256i *)none, zeros);
    uint64_t zero_count = (uint64_t)-none[0];
    for (int k = 1; k < 8; k++) {
        lows[0] = lows[k] < lows[0] ? lows[k] : lows[0];
        highs[0] = highs[k] > highs[0] ? highs[k] : highs[0];
        zero_count += (uint64_t)-none[k];
    }
    fold(s, count, zero_count, (double)lows[0], (double)highs[0], sum_of(t.sum), sum_of(t.square));
    return true;
}

VECTOR static bool block_f64(struct sl_accumulator *s, const unsigned char *p, size_t count)
{
    const __m256i mask = _mm256_set1_epi64x(INT64_C(0x7ff0000000000000)), zero = _mm256_setzero_si256();
    __m256i special = zero, zeros = zero;
    __m256d low = _mm256_set1_pd(INFINITY), high = _mm256_set1_pd(-INFINITY);
    struct sums t;
    sums_begin(&t);
    for (size_t i = 0; i < count; i += 16)
        for (int k = 0; k < 4; k++) {
            const __m256i bits = _mm256_loadu_si256((const __m256i *)(p + 8 * i + 32 * (size_t)k));
            special = _mm256_or_si256(special, _mm256_cmpeq_epi64(_mm256_and_si256(bits, mask), mask));
            zeros = _mm256_add_epi64(zeros, _mm256_cmpeq_epi64(_mm256_add_epi64(bits, bits), zero));
            const __m256d x = _mm256_castsi256_pd(bits);
            low = _mm256_min_pd(low, x);
            high = _mm256_max_pd(high, x);
            sums_add(&t, k, x);
        }
    if (!_mm256_testz_si256(special, special))
        return false;

    double lows[4], highs[4];
    int64_t none[4];
    _mm256_storeu_pd(lows, low);
    _mm256_storeu_pd(highs, high);
    _mm256_storeu_si256((__m256i *)none, zeros);
    uint64_t zero_count = (uint64_t)-none[0];
    for (int k = 1; k < 4; k++) {
        lows[0] = lows[k] < lows[0] ? lows[k] : lows[0];
        highs[0] = highs[k] > highs[0] ? highs[k] : highs[0];
        zero_count += (uint64_t)-none[k];
    }
    fold(s, count, zero_count, lows[0], highs[0], sum_of(t.sum), sum_of(t.square));
    return true;
}

/* Asked of the processor once: cpuid is slow in a virtual machine. */
static bool has_vectors(void)
{
    static atomic_int known;      /* 0 not asked, 1 no, 2 yes */
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == 0) {
        unsigned a, b, c, d;
        const bool f16c = __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
        answer = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 2 : 1;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 2;
}

typedef bool block_fn(struct sl_accumulator *s, const unsigned char *p, size_t count);
static block_fn *vector_form(enum sl_dtype dtype)
{
    if (!has_vectors())
        return NULL;
    switch (dtype) {
    case SL_BF16: return block_bf16;
    case SL_F16:  return block_f16;
    case SL_F32:  return block_f32;
    case SL_F64:  return block_f64;
    default:      return NULL;
    }
}
#else
typedef bool block_fn(struct sl_accumulator *s, const unsigned char *p, size_t count);
static block_fn *vector_form(enum sl_dtype dtype)
{
    (void)dtype;
    return NULL;
}
#endif

/* ---- the one called ---- */

#define WORTH_COUNTING ((size_t)1024)    /* bytes from which a table of 256 counts pays */

void sl_stats_add(struct sl_accumulator *s, enum sl_dtype dtype, const void *elements, size_t count)
{
    const unsigned char *p = elements;
    const size_t size = sl_dtype_size(dtype);
    if (size == 1) {
        const size_t most = UINT32_MAX;
        for (; count >= WORTH_COUNTING; p += count < most ? count : most, count -= count < most ? count : most)
            add_bytes(s, dtype, p, count < most ? count : most);
        sl_stats_add_plain(s, dtype, p, count);
        return;
    }
    block_fn *vector = vector_form(dtype);
    size_t done = 0;
    while (vector && count - done >= 16) {
        const size_t n = count - done < BLOCK ? (count - done) & ~(size_t)15 : BLOCK;
        if (!vector(s, p + done * size, n))
            add_block(s, dtype, p + done * size, n);
        done += n;
    }
    sl_stats_add_plain(s, dtype, p + done * size, count - done);
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
