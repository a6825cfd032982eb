/* lanes.h: the statistics of a block in vector instructions; included by stats.c once for each kind of them.
 *
 * The includer defines FORM, a name; N, the doubles of a register; ISA, the attribute of functions that use it, and three
 * functions load_bf16_FORM, load_f16_FORM, load_f32_FORM, which take N elements from memory as doubles. Everything else is the
 * vector extension of gcc and clang, so the same text is the form for NEON (2), AVX2 (4) and AVX-512 (8), and
 * those of tests/run/test_lanes.c, which any processor runs.
 *
 * Sums: element i of a block is added to lane i % 16, whatever the width. So the result is the same to the last bit
 * with every width, and with the plain loop.
 */
#define JOINED(a, b) a##_##b
#define JOIN(a, b) JOINED(a, b)
#define W(name) JOIN(name, FORM)                  /* this form's */
#define VECTOR(type, lanes) __attribute__((vector_size(sizeof(type) * (lanes)))) type
#define LANES 16
#define STEP ((size_t)32)                         /* elements a turn: a register of 16-bit integers of the widest form */
#define UNROLL _Pragma("GCC unroll 16")

typedef VECTOR(double, N) W(f64);
typedef VECTOR(int64_t, N) W(i64);
typedef VECTOR(float, 2 * N) W(f32);
typedef VECTOR(int32_t, 2 * N) W(i32);
typedef VECTOR(int16_t, 4 * N) W(i16);

/* Their sums in the order of lanes. */
ISA static inline void W(give_sums)(struct lanes *t, const W(f64) *sum, const W(f64) *square)
{
    memcpy(t->sum, sum, sizeof t->sum);
    memcpy(t->square, square, sizeof t->square);
}

/* bf16 and fp16: `exponent` are the bits that are all set in NaN and infinity. The order of such floats is that of
 * signed numbers when the other bits of negative ones are turned over. */
ISA __attribute__((always_inline)) static inline bool W(block_16)(struct lanes *t, bool bf16, int16_t exponent, const unsigned char *p, size_t count)
{
    W(f64) sum[LANES / N] = { { 0 } }, square[LANES / N] = { { 0 } };
    W(i16) special = { 0 }, zeros = { 0 }, low = special + INT16_MAX, high = special + INT16_MIN;
    for (size_t i = 0; i < count; i += STEP) {
        UNROLL for (size_t k = 0; k < STEP; k += 4 * N) {
            W(i16) order;
            memcpy(&order, p + 2 * (i + k), sizeof order);
            special |= (order & exponent) == exponent;
            zeros += (order & INT16_MAX) == 0;
            order ^= (order >> 15) & INT16_MAX;
            const W(i16) less = order < low, more = order > high;
            low = (less & order) | (~less & low);
            high = (more & order) | (~more & high);
        }
        UNROLL for (size_t k = 0; k < STEP; k += N) {
            const W(f64) x = bf16 ? W(load_bf16)(p + 2 * (i + k)) : W(load_f16)(p + 2 * (i + k));
            sum[k / N % (LANES / N)] += x;
            square[k / N % (LANES / N)] += x * x;
        }
    }
    int16_t lowest = INT16_MAX, highest = INT16_MIN;
    for (size_t k = 0; k < 4 * N; k++) {
        if (special[k])
            return false;
        t->zeros -= (uint64_t)(int64_t)zeros[k];
        lowest = low[k] < lowest ? low[k] : lowest;
        highest = high[k] > highest ? high[k] : highest;
    }
    t->min = double_of_order(bf16, lowest);
    t->max = double_of_order(bf16, highest);
    W(give_sums)(t, sum, square);
    return true;
}

ISA static bool W(block_bf16)(struct lanes *t, const unsigned char *p, size_t count)
{
    return W(block_16)(t, true, 0x7f80, p, count);
}

ISA static bool W(block_f16)(struct lanes *t, const unsigned char *p, size_t count)
{
    return W(block_16)(t, false, 0x7c00, p, count);
}

ISA static bool W(block_f32)(struct lanes *t, const unsigned char *p, size_t count)
{
    W(f64) sum[LANES / N] = { { 0 } }, square[LANES / N] = { { 0 } };
    W(i32) special = { 0 }, zeros = { 0 };
    W(f32) low = (W(f32)){ 0 } + INFINITY, high = (W(f32)){ 0 } - INFINITY;
    for (size_t i = 0; i < count; i += LANES) {
        UNROLL for (size_t k = 0; k < LANES; k += 2 * N) {
            W(i32) bits;
            memcpy(&bits, p + 4 * (i + k), sizeof bits);
            special |= (bits & 0x7f800000) == 0x7f800000;
            zeros += (bits & INT32_MAX) == 0;
            const W(f32) x = (W(f32))bits;
            const W(i32) less = x < low, more = x > high;
            low = (W(f32))((less & bits) | (~less & (W(i32))low));
            high = (W(f32))((more & bits) | (~more & (W(i32))high));
        }
        UNROLL for (size_t k = 0; k < LANES; k += N) {
            const W(f64) x = W(load_f32)(p + 4 * (i + k));
            sum[k / N] += x;
            square[k / N] += x * x;
        }
    }
    for (size_t k = 0; k < 2 * N; k++) {
        if (special[k])
            return false;
        t->zeros -= (uint64_t)(int64_t)zeros[k];
        t->min = (double)low[k] < t->min ? (double)low[k] : t->min;
        t->max = (double)high[k] > t->max ? (double)high[k] : t->max;
    }
    W(give_sums)(t, sum, square);
    return true;
}

ISA static bool W(block_f64)(struct lanes *t, const unsigned char *p, size_t count)
{
    const int64_t exponent = INT64_C(0x7ff0000000000000);
    W(f64) sum[LANES / N] = { { 0 } }, square[LANES / N] = { { 0 } };
    W(i64) special = { 0 }, zeros = { 0 };
    W(f64) low = sum[0] + INFINITY, high = sum[0] - INFINITY;
    for (size_t i = 0; i < count; i += LANES)
        UNROLL for (size_t k = 0; k < LANES; k += N) {
            W(i64) bits;
            memcpy(&bits, p + 8 * (i + k), sizeof bits);
            special |= (bits & exponent) == exponent;
            zeros += (bits & INT64_MAX) == 0;
            const W(f64) x = (W(f64))bits;
            const W(i64) less = x < low, more = x > high;
            low = (W(f64))((less & bits) | (~less & (W(i64))low));
            high = (W(f64))((more & bits) | (~more & (W(i64))high));
            sum[k / N] += x;
            square[k / N] += x * x;
        }
    for (size_t k = 0; k < N; k++) {
        if (special[k])
            return false;
        t->zeros -= (uint64_t)zeros[k];
        t->min = low[k] < t->min ? low[k] : t->min;
        t->max = high[k] > t->max ? high[k] : t->max;
    }
    W(give_sums)(t, sum, square);
    return true;
}

static block_fn *W(form)(enum sl_dtype dtype)
{
    switch (dtype) {
    case SL_BF16: return W(block_bf16);
    case SL_F16:  return W(block_f16);
    case SL_F32:  return W(block_f32);
    case SL_F64:  return W(block_f64);
    default:      return NULL;
    }
}

#undef JOINED
#undef JOIN
#undef W
#undef VECTOR
#undef LANES
#undef STEP
#undef UNROLL
#undef N
#undef FORM
#undef ISA
