/* zarr.c: see zarr.h. */
#include "format/zarr.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/json.h"
#include "base/num.h"
#include "base/text.h"
#include "base/value.h"

#include <math.h>
#include <string.h>

static int refuse(struct sl_error *err, const char *path, const char *what)
{
    return sl_fail(err, SL_INPUT, path, "it describes no zarr array: %s", what);
}

/* ---- element types ---------------------------------------------------------------------- */

struct type_row { const char *name; enum sl_dtype dtype; };      /* without the sign of byte order */
static const struct type_row types[] = {
    { "f8", SL_F64 }, { "f4", SL_F32 }, { "f2", SL_F16 }, { "V2", SL_BF16 },
    { "i8", SL_I64 }, { "i4", SL_I32 }, { "i2", SL_I16 }, { "i1", SL_I8 },
    { "u8", SL_U64 }, { "u4", SL_U32 }, { "u2", SL_U16 }, { "u1", SL_U8 }, { "b1", SL_BOOL },
    { "c8", SL_C64 }, { "c16", SL_C128 },
};

static int take_dtype(struct sl_zarr *z, const struct sl_value *json, const char *path, struct sl_error *err)
{
    const char *name = sl_value_str(sl_value_get(json, "dtype"));
    if (!name)
        return refuse(err, path, "its dtype is no text");
    if (!strcmp(name, "bfloat16"))
        z->dtype = SL_BF16;
    for (size_t i = 0; *name && i < sizeof types / sizeof *types; i++)
        if (strchr("<>|", *name) && !strcmp(name + 1, types[i].name))
            z->dtype = types[i].dtype;
    z->big_endian = *name == '>';
    return z->dtype ? SL_OK : sl_fail(err, SL_UNSUPPORTED, path, "its elements are of the type %.40s, which is not supported", name);
}

/* ---- what would change the bytes ----------------------------------------------------------- */

static bool is_none(const struct sl_value *v)
{
    return !v || v->kind == SL_VALUE_NULL || (v->kind == SL_VALUE_LIST && !v->len);
}

static int take_coding(struct sl_zarr *z, const struct sl_value *json, const char *path, struct sl_error *err)
{
    const struct sl_value *compressor = sl_value_get(json, "compressor"), *filters = sl_value_get(json, "filters");
    const char *order = sl_value_str(sl_value_get(json, "order"));
    const char *id = sl_value_str(sl_value_get(compressor, "id"));
    int64_t version = 2;
    if (sl_value_int(sl_value_get(json, "zarr_format"), &version) && version != 2)
        return sl_fail(err, SL_UNSUPPORTED, path, "it is of zarr version %lld; version 2 is supported", (long long)version);
    const char *separator = sl_value_str(sl_value_get(json, "dimension_separator"));
    if (separator && strcmp(separator, "."))
        return sl_fail(err, SL_UNSUPPORTED, path, "its chunks are named with \"%.10s\" between numbers; \".\" is supported", separator);
    if (!is_none(filters))
        return sl_fail(err, SL_UNSUPPORTED, path, "its chunks went through a filter, which is not supported");
    if (order && strcmp(order, "C"))
        return sl_fail(err, SL_UNSUPPORTED, path, "its chunks are in the order \"%.10s\"; \"C\" (row-major) is supported", order);
    z->zlib = id && (!strcmp(id, "zlib") || !strcmp(id, "gzip"));
    if (is_none(compressor) || z->zlib)
        return SL_OK;
    const char *inner = sl_value_str(sl_value_get(compressor, "cname"));
    return sl_fail(err, SL_UNSUPPORTED, path, "its chunks are compressed with %.40s%s%.40s%s, which is not supported (zlib, gzip and none are)",
                   id ? id : "something", inner ? " (" : "", inner ? inner : "", inner ? ")" : "");
}

/* ---- fill_value ---------------------------------------------------------------------------------- */

static int digit64(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Bytes of a V2 element are told in base64: four digits for two bytes. */
static bool take_base64(const char *s, unsigned char *out)
{
    const int a = digit64(s[0]), b = a < 0 ? -1 : digit64(s[1]), c = b < 0 ? -1 : digit64(s[2]);
    if (c < 0 || strcmp(s + 3, "="))
        return false;
    out[0] = (unsigned char)(a << 2 | b >> 4);
    out[1] = (unsigned char)((b & 15) << 4 | c >> 2);
    return true;
}

static bool special_number(const char *s, double *out)
{
    *out = !strcmp(s, "NaN") ? (double)NAN : !strcmp(s, "Infinity") ? (double)INFINITY : (double)-INFINITY;
    return !strcmp(s, "NaN") || !strcmp(s, "Infinity") || !strcmp(s, "-Infinity");
}

static bool take_fill(struct sl_zarr *z, const struct sl_value *v)
{
    const uint32_t size = sl_dtype_size(z->dtype);
    int64_t i = 0;
    double f = 0;
    bool b = false;
    if (sl_value_str(v) && z->dtype == SL_BF16 && take_base64(v->s, z->fill))
        return true;
    if (sl_dtype_row(z->dtype)->is_float && z->dtype != SL_F4_E2M1X2) {
        if (!sl_value_double(v, &f) && !(sl_value_str(v) && special_number(v->s, &f)))
            return false;
        if (!sl_dtype_cast(SL_F64, &f, z->dtype, z->fill, 1))
            return false;
    } else if (sl_value_bool(v, &b) || sl_value_int(v, &i)) {
        i = b ? 1 : i;
        for (uint32_t k = 0; k < size && k < 8; k++)
            z->fill[k] = (unsigned char)((uint64_t)i >> (8 * k));
    } else {
        return false;
    }
    return true;
}

/* ---- shapes ---------------------------------------------------------------------------------------- */

static const int64_t *numbers_of(const struct sl_value *v, struct sl_arena *arena, uint32_t *count)
{
    if (!v || v->kind != SL_VALUE_LIST || v->len > SL_LIMIT_DIMS)
        return NULL;
    int64_t *numbers = SL_ARENA_NEW(arena, int64_t, v->len);
    for (size_t i = 0; numbers && i < v->len; i++)
        if (!sl_value_int(v->items[i], &numbers[i]) || numbers[i] < 0)
            return NULL;
    *count = (uint32_t)v->len;
    return numbers;
}

static int take_shape(struct sl_zarr *z, const struct sl_value *json, struct sl_arena *arena, const char *path, struct sl_error *err)
{
    uint32_t chunk_axes = 0;
    uint64_t elements;
    z->shape = numbers_of(sl_value_get(json, "shape"), arena, &z->ndim);
    z->chunk = numbers_of(sl_value_get(json, "chunks"), arena, &chunk_axes);
    uint64_t *grid = SL_ARENA_NEW(arena, uint64_t, z->ndim);
    if (!z->shape || !z->chunk || !grid || chunk_axes != z->ndim)
        return refuse(err, path, "its shape and chunks are no two lists of as many numbers");
    z->grid = grid;
    z->chunk_count = 1;
    for (uint32_t a = 0; a < z->ndim; a++) {
        if (!z->chunk[a])
            return refuse(err, path, "a chunk has the length 0");
        grid[a] = (uint64_t)z->shape[a] / (uint64_t)z->chunk[a] + ((uint64_t)z->shape[a] % (uint64_t)z->chunk[a] != 0);
        if (!sl_mul_u64(z->chunk_count, grid[a], &z->chunk_count) || z->chunk_count > INT32_MAX)
            return refuse(err, path, "it has too many chunks");
    }
    if (!sl_shape_count(z->chunk, z->ndim, &elements) || !sl_mul_u64(elements, sl_dtype_size(z->dtype), &z->chunk_bytes) ||
        !sl_shape_count(z->shape, z->ndim, &elements))
        return refuse(err, path, "its shape is too large");
    return SL_OK;
}

int sl_zarr_open(const char *path, struct sl_arena *arena, struct sl_zarr *out, struct sl_error *err)
{
    const struct sl_value *json;
    *out = (struct sl_zarr){ .ndim = 0 };
    int code = sl_json_load(path, SL_LIMIT_JSON_BYTES, arena, &json, err);
    if (code)
        return code;
    if (json->kind != SL_VALUE_DICT)
        return refuse(err, path, "it holds no object {..}");
    code = take_dtype(out, json, path, err);
    code = code ? code : take_coding(out, json, path, err);
    code = code ? code : take_shape(out, json, arena, path, err);
    if (code)
        return code;
    const struct sl_value *fill = sl_value_get(json, "fill_value");
    out->has_fill = !is_none(fill);
    return out->has_fill && !take_fill(out, fill) ? refuse(err, path, "its fill_value is no element") : SL_OK;
}

bool sl_zarr_chunk_number(const struct sl_zarr *z, const char *name, uint64_t *number)
{
    uint64_t at = 0;
    const char *p = name;
    for (uint32_t a = 0; a < z->ndim; a++) {
        uint64_t n = 0;
        const char *digits = p;
        for (; *p >= '0' && *p <= '9' && n < z->grid[a]; p++)
            n = 10 * n + (uint64_t)(*p - '0');
        if (p == digits || n >= z->grid[a] || (*digits == '0' && p != digits + 1))
            return false;
        at = at * z->grid[a] + n;
        if (a + 1 < z->ndim && *p++ != '.')
            return false;
    }
    if (!z->ndim && *p++ != '0')         /* a scalar is one chunk, "0" */
        return false;
    *number = at;
    return !*p;
}
