/* dtype.c: the table of element types, decoding and casting of elements. */
#include "base/dtype.h"

#include "base/num.h"

#include <math.h>
#include <string.h>
#include <strings.h>

static const struct sl_dtype_row rows[SL_DTYPE_COUNT] = {
    /*                      name           safetensors    torch                storage               size float */
    [SL_DTYPE_UNKNOWN]  = { "unknown",     NULL,          "unknown",           NULL,                 0, false },
    [SL_F64]            = { "fp64",        "F64",         "float64",           "DoubleStorage",      8, true },
    [SL_F32]            = { "fp32",        "F32",         "float32",           "FloatStorage",       4, true },
    [SL_F16]            = { "fp16",        "F16",         "float16",           "HalfStorage",        2, true },
    [SL_BF16]           = { "bf16",        "BF16",        "bfloat16",          "BFloat16Storage",    2, true },
    [SL_I64]            = { "int64",       "I64",         "int64",             "LongStorage",        8, false },
    [SL_I32]            = { "int32",       "I32",         "int32",             "IntStorage",         4, false },
    [SL_I16]            = { "int16",       "I16",         "int16",             "ShortStorage",       2, false },
    [SL_I8]             = { "int8",        "I8",          "int8",              "CharStorage",        1, false },
    [SL_U64]            = { "uint64",      "U64",         "uint64",            NULL,                 8, false },
    [SL_U32]            = { "uint32",      "U32",         "uint32",            NULL,                 4, false },
    [SL_U16]            = { "uint16",      "U16",         "uint16",            NULL,                 2, false },
    [SL_U8]             = { "uint8",       "U8",          "uint8",             "ByteStorage",        1, false },
    [SL_BOOL]           = { "bool",        "BOOL",        "bool",              "BoolStorage",        1, false },
    [SL_F8_E4M3]        = { "fp8_e4m3",    "F8_E4M3",     "float8_e4m3fn",     NULL,                 1, false },
    [SL_F8_E5M2]        = { "fp8_e5m2",    "F8_E5M2",     "float8_e5m2",       NULL,                 1, false },
    [SL_F8_E4M3FNUZ]    = { "fp8_e4m3fnuz", "F8_E4M3FNUZ", "float8_e4m3fnuz",  NULL,                 1, false },
    [SL_F8_E5M2FNUZ]    = { "fp8_e5m2fnuz", "F8_E5M2FNUZ", "float8_e5m2fnuz",  NULL,                 1, false },
    [SL_F8_E8M0]        = { "fp8_e8m0",    "F8_E8M0",     "float8_e8m0fnu",    NULL,                 1, false },
    [SL_F4_E2M1X2]      = { "fp4_e2m1x2",  "F4",          "float4_e2m1fn_x2",  NULL,                 1, false },
    [SL_C32]            = { "complex32",   NULL,          "complex32",         NULL,                 4, false },
    [SL_C64]            = { "complex64",   "C64",         "complex64",         "ComplexFloatStorage", 8, false },
    [SL_C128]           = { "complex128",  NULL,          "complex128",        "ComplexDoubleStorage", 16, false },
    [SL_BITS8]          = { "bits8",       NULL,          "bits8",             NULL,                 1, false },
    [SL_BITS16]         = { "bits16",      NULL,          "bits16",            NULL,                 2, false },
    [SL_QINT8]          = { "qint8",       NULL,          "qint8",             "QInt8Storage",       1, false },
    [SL_QUINT8]         = { "quint8",      NULL,          "quint8",            "QUInt8Storage",      1, false },
    [SL_QINT32]         = { "qint32",      NULL,          "qint32",            "QInt32Storage",      4, false },
};

/* Names that mean one of the above: as torch, safetensors and people spell them. */
static const struct { const char *name; enum sl_dtype dtype; } aliases[] = {
    { "float", SL_F32 },     { "f32", SL_F32 },    { "float32", SL_F32 },
    { "double", SL_F64 },    { "f64", SL_F64 },    { "float64", SL_F64 },
    { "half", SL_F16 },      { "f16", SL_F16 },    { "float16", SL_F16 },
    { "bfloat16", SL_BF16 }, { "bfloat", SL_BF16 },
    { "long", SL_I64 },      { "i64", SL_I64 },    { "int", SL_I32 },  { "i32", SL_I32 },
    { "short", SL_I16 },     { "i16", SL_I16 },    { "char", SL_I8 },  { "i8", SL_I8 },
    { "byte", SL_U8 },       { "u8", SL_U8 },      { "u16", SL_U16 },  { "u32", SL_U32 },
    { "u64", SL_U64 },
    { "cfloat", SL_C64 },    { "cdouble", SL_C128 }, { "chalf", SL_C32 },
    { "float8_e4m3fn", SL_F8_E4M3 },         { "float8_e5m2", SL_F8_E5M2 },
    { "float8_e4m3fnuz", SL_F8_E4M3FNUZ },   { "float8_e5m2fnuz", SL_F8_E5M2FNUZ },
    { "float8_e8m0fnu", SL_F8_E8M0 },        { "float4_e2m1fn_x2", SL_F4_E2M1X2 },
};

/* Names of torch beyond its canonical ones, and storages of opaque bytes. */
static const struct { const char *name; enum sl_dtype dtype; } more_torch[] = {
    { "float", SL_F32 }, { "double", SL_F64 }, { "half", SL_F16 },  { "long", SL_I64 },
    { "int", SL_I32 },   { "short", SL_I16 },  { "chalf", SL_C32 }, { "cfloat", SL_C64 },
    { "cdouble", SL_C128 }, { "complex_half", SL_C32 },
    { "quint4x2", SL_BITS8 }, { "quint2x4", SL_BITS8 },
    { "bits4x2", SL_BITS8 },  { "bits2x4", SL_BITS8 }, { "bits1x8", SL_BITS8 },
};
static const struct { const char *name; enum sl_dtype dtype; } more_storages[] = {
    { "QUInt4x2Storage", SL_BITS8 }, { "QUInt2x4Storage", SL_BITS8 },
};

#define COUNT(table) (sizeof (table) / sizeof *(table))

const struct sl_dtype_row *sl_dtype_row(enum sl_dtype dtype)
{
    const unsigned d = (unsigned)dtype;
    return &rows[d < SL_DTYPE_COUNT ? d : SL_DTYPE_UNKNOWN];
}

const char *sl_dtype_name(enum sl_dtype dtype)
{
    return sl_dtype_row(dtype)->name;
}

uint32_t sl_dtype_size(enum sl_dtype dtype)
{
    return sl_dtype_row(dtype)->size;
}

static bool same(const char *known, const char *name, size_t len)
{
    return known && strlen(known) == len && memcmp(known, name, len) == 0;
}

enum sl_dtype sl_dtype_from_safetensors(const char *name, size_t len)
{
    for (int d = 1; d < SL_DTYPE_COUNT; d++)
        if (same(rows[d].safetensors, name, len))
            return (enum sl_dtype)d;
    return SL_DTYPE_UNKNOWN;
}

enum sl_dtype sl_dtype_from_torch(const char *name, size_t len)
{
    for (int d = 1; d < SL_DTYPE_COUNT; d++)
        if (same(rows[d].torch, name, len))
            return (enum sl_dtype)d;
    for (size_t i = 0; i < COUNT(more_torch); i++)
        if (same(more_torch[i].name, name, len))
            return more_torch[i].dtype;
    return SL_DTYPE_UNKNOWN;
}

enum sl_dtype sl_dtype_from_storage(const char *name, size_t len)
{
    for (int d = 1; d < SL_DTYPE_COUNT; d++)
        if (same(rows[d].storage, name, len))
            return (enum sl_dtype)d;
    for (size_t i = 0; i < COUNT(more_storages); i++)
        if (same(more_storages[i].name, name, len))
            return more_storages[i].dtype;
    return SL_DTYPE_UNKNOWN;
}

enum sl_dtype sl_dtype_from_name(const char *name)
{
    for (int d = 1; d < SL_DTYPE_COUNT; d++)
        if (strcasecmp(rows[d].name, name) == 0)
            return (enum sl_dtype)d;
    for (size_t i = 0; i < COUNT(aliases); i++)
        if (strcasecmp(aliases[i].name, name) == 0)
            return aliases[i].dtype;
    return SL_DTYPE_UNKNOWN;
}

/* ---- bits to floats and back: no branches a vectoriser minds ---- */

static inline float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float float_from_bf16(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

static inline uint16_t bf16_from_float(float f)
{
    const uint32_t bits = bits_of(f);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const uint32_t quiet = bits >> 16 | 0x40;    /* a NaN whose low bits go stays a NaN */
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

/* Exponent and mantissa are moved into place and the exponent re-biased by 112;
 * infinities get the rest of the way to 255; subnormals are renormalised by
 * subtracting the implicit one they did not have. */
static inline float float_from_half(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t body = (uint32_t)(h & 0x7fff) << 13;
    const uint32_t exponent = body & 0x0f800000;
    const uint32_t normal = body + (UINT32_C(112) << 23);
    const uint32_t special = body + (UINT32_C(224) << 23);
    const uint32_t subnormal = bits_of(float_of(body + (UINT32_C(113) << 23)) -
                                       float_of(UINT32_C(113) << 23));
    const uint32_t bits = exponent == 0x0f800000 ? special : exponent == 0 ? subnormal : normal;
    return float_of(bits | sign);
}

/* Normal numbers round by adding half of the last kept bit (less one, plus the
 * bit itself: ties to even); subnormals let a float addition do the rounding. */
static inline uint16_t half_from_float(float f)
{
    const uint32_t bits = bits_of(f);
    const uint32_t sign = bits >> 16 & 0x8000;
    const uint32_t body = bits & 0x7fffffff;
    const uint32_t nan = 0x7e00 | (body >> 13 & 0x3ff);
    const uint32_t subnormal = bits_of(float_of(body) + float_of(UINT32_C(126) << 23)) -
                               (UINT32_C(126) << 23);
    const uint32_t normal = (body - (UINT32_C(112) << 23) + 0xfff + (body >> 13 & 1)) >> 13;
    const uint32_t finite = body < (UINT32_C(113) << 23) ? subnormal : normal;
    const uint32_t large = body > 0x7f800000 ? nan : 0x7c00;
    return (uint16_t)(sign | (body >= UINT32_C(143) << 23 ? large : finite));
}

/* sign, `e` exponent bits, `m` mantissa bits, bias; no infinities, no NaN. */
static double small_float(unsigned bits, unsigned e, unsigned m, int bias)
{
    const unsigned mantissa = bits & ((1u << m) - 1);
    const unsigned exponent = bits >> m & ((1u << e) - 1);
    const bool negative = bits >> (e + m) & 1;
    const double magnitude = exponent == 0
        ? ldexp(mantissa, 1 - bias - (int)m)
        : ldexp(mantissa + (1u << m), (int)exponent - bias - (int)m);
    return negative ? -magnitude : magnitude;
}

static double load_f8(enum sl_dtype dtype, uint8_t b)
{
    switch (dtype) {
    case SL_F8_E4M3:
        return (b & 0x7f) == 0x7f ? (double)NAN : small_float(b, 4, 3, 7);
    case SL_F8_E5M2:
        if ((b & 0x7c) == 0x7c)
            return b & 3 ? (double)NAN : b & 0x80 ? -(double)INFINITY : (double)INFINITY;
        return small_float(b, 5, 2, 15);
    case SL_F8_E4M3FNUZ:
        return b == 0x80 ? (double)NAN : small_float(b, 4, 3, 8);
    case SL_F8_E5M2FNUZ:
        return b == 0x80 ? (double)NAN : small_float(b, 5, 2, 16);
    case SL_F8_E8M0:
        return b == 0xff ? (double)NAN : ldexp(1.0, b - 127);
    default:    /* the low half of a pair of 4-bit floats */
        return small_float(b & 0xf, 2, 1, 1);
    }
}

double sl_dtype_load(enum sl_dtype dtype, const void *element)
{
    const uint8_t *b = element;
    double d;
    uint64_t bits;
    switch (dtype) {
    case SL_F64:
    case SL_C128:
        bits = sl_load_u64(b);
        memcpy(&d, &bits, sizeof d);
        return d;
    case SL_F32:
    case SL_C64:
        return (double)float_of(sl_load_u32(b));
    case SL_F16:
    case SL_C32:
        return (double)float_from_half(sl_load_u16(b));
    case SL_BF16:
        return (double)float_from_bf16(sl_load_u16(b));
    case SL_I64:
        return (double)(int64_t)sl_load_u64(b);
    case SL_I32:
    case SL_QINT32:
        return (double)(int32_t)sl_load_u32(b);
    case SL_I16:
        return (double)(int16_t)sl_load_u16(b);
    case SL_I8:
    case SL_QINT8:
        return (double)(int8_t)b[0];
    case SL_U64:
        return (double)sl_load_u64(b);
    case SL_U32:
        return (double)sl_load_u32(b);
    case SL_U16:
    case SL_BITS16:
        return (double)sl_load_u16(b);
    case SL_U8:
    case SL_BITS8:
    case SL_QUINT8:
        return (double)b[0];
    case SL_BOOL:
        return b[0] ? 1.0 : 0.0;
    case SL_F8_E4M3:
    case SL_F8_E5M2:
    case SL_F8_E4M3FNUZ:
    case SL_F8_E5M2FNUZ:
    case SL_F8_E8M0:
    case SL_F4_E2M1X2:
        return load_f8(dtype, b[0]);
    case SL_DTYPE_UNKNOWN:
    case SL_DTYPE_COUNT:
        break;
    }
    return 0;
}

/* ---- casts: one loop a pair, elements at any alignment ---- */

/* in and out are byte pointers; LOAD gives the value of element i, STORE takes it */
#define CAST_LOOP(name, in_type, out_type, expression)                                   \
    static void name(const char *restrict in, char *restrict out, size_t count)          \
    {                                                                                    \
        for (size_t i = 0; i < count; i++) {                                             \
            in_type x;                                                                   \
            memcpy(&x, in + i * sizeof x, sizeof x);                                     \
            const out_type y = (expression);                                             \
            memcpy(out + i * sizeof y, &y, sizeof y);                                    \
        }                                                                                \
    }

#if defined(__clang__) || !defined(__GNUC__)
#define VECTORISED
#else
#define VECTORISED __attribute__((optimize("O3")))
#endif

VECTORISED CAST_LOOP(f64_to_f32, double, float, (float)x)
VECTORISED CAST_LOOP(f64_to_f16, double, uint16_t, half_from_float((float)x))
VECTORISED CAST_LOOP(f64_to_bf16, double, uint16_t, bf16_from_float((float)x))
VECTORISED CAST_LOOP(f32_to_f64, float, double, (double)x)
VECTORISED CAST_LOOP(f32_to_f16, float, uint16_t, half_from_float(x))
VECTORISED CAST_LOOP(f32_to_bf16, float, uint16_t, bf16_from_float(x))
VECTORISED CAST_LOOP(f16_to_f64, uint16_t, double, (double)float_from_half(x))
VECTORISED CAST_LOOP(f16_to_f32, uint16_t, float, float_from_half(x))
VECTORISED CAST_LOOP(f16_to_bf16, uint16_t, uint16_t, bf16_from_float(float_from_half(x)))
VECTORISED CAST_LOOP(bf16_to_f64, uint16_t, double, (double)float_from_bf16(x))
VECTORISED CAST_LOOP(bf16_to_f32, uint16_t, float, float_from_bf16(x))
VECTORISED CAST_LOOP(bf16_to_f16, uint16_t, uint16_t, half_from_float(float_from_bf16(x)))

bool sl_dtype_cast(enum sl_dtype from, const void *in, enum sl_dtype to, void *out, size_t count)
{
    typedef void cast(const char *restrict in, char *restrict out, size_t count);
    static cast *const casts[4][4] = {    /* [from][to], in the order of enum sl_dtype */
        { NULL, f64_to_f32, f64_to_f16, f64_to_bf16 },
        { f32_to_f64, NULL, f32_to_f16, f32_to_bf16 },
        { f16_to_f64, f16_to_f32, NULL, f16_to_bf16 },
        { bf16_to_f64, bf16_to_f32, bf16_to_f16, NULL },
    };
    if (from < SL_F64 || from > SL_BF16 || to < SL_F64 || to > SL_BF16)
        return false;
    cast *const step = casts[from - SL_F64][to - SL_F64];
    if (step)
        step(in, out, count);
    else if (count)
        memcpy(out, in, count * sl_dtype_size(from));
    return true;
}
_Static_assert(SL_F32 == SL_F64 + 1 && SL_F16 == SL_F64 + 2 && SL_BF16 == SL_F64 + 3,
               "casts[][] is indexed by this order");

void sl_dtype_swap(enum sl_dtype dtype, void *elements, size_t count)
{
    char *p = elements;
    size_t unit = sl_dtype_size(dtype), units = count;
    if (dtype == SL_C32 || dtype == SL_C64 || dtype == SL_C128) {
        unit /= 2;
        units *= 2;
    }
    for (size_t i = 0; i < units; i++, p += unit) {
        if (unit == 2) {
            uint16_t v;
            memcpy(&v, p, sizeof v);
            v = __builtin_bswap16(v);
            memcpy(p, &v, sizeof v);
        } else if (unit == 4) {
            uint32_t v;
            memcpy(&v, p, sizeof v);
            v = __builtin_bswap32(v);
            memcpy(p, &v, sizeof v);
        } else if (unit == 8) {
            uint64_t v;
            memcpy(&v, p, sizeof v);
            v = __builtin_bswap64(v);
            memcpy(p, &v, sizeof v);
        }
    }
}
