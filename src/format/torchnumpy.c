/* torchnumpy.c: numpy's objects inside pickles, as plain values.
 *
 *   dtype    numpy.dtype('f4', False, True), BUILD (3, '<', ..)
 *   scalar   numpy.core.multiarray.scalar(dtype, bytes)
 *   array    numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b'b'),
 *            BUILD (1, shape, dtype, is_fortran, bytes or list)
 *            numpy.core.numeric._frombuffer(bytes, dtype, shape, order)
 *
 * Short arrays become (nested) lists of numbers; long ones are told by dtype
 * and shape. Arrays of objects and records stay opaque.
 */
#include "format/torchread.h"

#include "base/dtype.h"
#include "base/num.h"
#include "format/pickletext.h"

#include <stdio.h>
#include <string.h>

enum { SHOWN_MOST = 1024, NUMPY_DIMS = 32 };

struct array {
    enum sl_dtype dtype;
    bool swapped, is_fortran;
    const char *spelling;          /* "f4" */
    size_t spelling_len;
    int64_t shape[NUMPY_DIMS];
    uint32_t ndim;
    uint64_t count;
    const char *bytes;
};

struct dtype_row { const char *spelling; enum sl_dtype dtype; };
static const struct dtype_row dtypes[] = {
    {"f8", SL_F64}, {"f4", SL_F32}, {"f2", SL_F16}, {"i8", SL_I64}, {"i4", SL_I32}, {"i2", SL_I16},
    {"i1", SL_I8}, {"u8", SL_U64}, {"u4", SL_U32}, {"u2", SL_U16}, {"u1", SL_U8}, {"b1", SL_BOOL},
};

bool torch_numpy_dtype(const struct torch_reader *r, sl_node_id id, enum sl_dtype *dtype,
                       bool *swapped, const char **spelling, size_t *spelling_len)
{
    const struct sl_node_list *args;
    if (torch_call(r, id, &args) != TORCH_NAME_NP_DTYPE || args->count < 1)
        return false;
    const struct sl_node *text = torch_node(r, args->ids[0]);
    if (text->kind != SL_NODE_STR && text->kind != SL_NODE_BYTES)
        return false;
    *dtype = SL_DTYPE_UNKNOWN;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (torch_is_text(r, args->ids[0], dtypes[i].spelling))
            *dtype = dtypes[i].dtype;
    *spelling = text->u.text.s;
    *spelling_len = text->u.text.len;
    *swapped = false;
    uint32_t count;
    const sl_node_id *states = sl_node_states(&r->pickle, torch_node(r, id), &count);
    for (uint32_t i = 0; i < count; i++) {
        const struct sl_node *state = torch_node(r, states[i]);
        if (state->kind == SL_NODE_TUPLE && state->u.items.count >= 2)
            *swapped = torch_is_text(r, state->u.items.ids[1], ">");
    }
    return true;
}

static bool take_dtype(const struct torch_reader *r, sl_node_id id, struct array *a)
{
    return torch_numpy_dtype(r, id, &a->dtype, &a->swapped, &a->spelling, &a->spelling_len);
}

static bool take_shape(const struct torch_reader *r, sl_node_id id, struct array *a)
{
    const struct sl_node_list *items = torch_items(r, id);
    if (!items || items->count > NUMPY_DIMS)
        return false;
    a->ndim = items->count;
    for (uint32_t i = 0; i < items->count; i++)
        if (!torch_int(r, items->ids[i], &a->shape[i]))
            return false;
    return sl_shape_count(a->shape, a->ndim, &a->count);
}

static bool take_bytes(struct torch_reader *r, sl_node_id id, struct array *a)
{
    size_t len;
    uint64_t need;
    if (!torch_bytes(r, id, &a->bytes, &len))
        return false;
    return a->dtype == SL_DTYPE_UNKNOWN ||
           (sl_mul_u64(a->count, sl_dtype_size(a->dtype), &need) && need == len);
}

static bool take_reconstructed(struct torch_reader *r, const struct sl_node *n, struct array *a)
{
    uint32_t count;
    const sl_node_id *states = sl_node_states(&r->pickle, n, &count);
    if (count != 1)
        return false;
    const struct sl_node *state = torch_node(r, states[0]);
    if (state->kind != SL_NODE_TUPLE || state->u.items.count != 5)
        return false;
    const sl_node_id *id = state->u.items.ids;
    return take_shape(r, id[1], a) && take_dtype(r, id[2], a) &&
           torch_bool(r, id[3], &a->is_fortran) && take_bytes(r, id[4], a);
}

static bool take_array(struct torch_reader *r, sl_node_id id, struct array *a)
{
    const struct sl_node_list *args;
    enum torch_name what = torch_call(r, id, &args);
    if (what == TORCH_NAME_NP_RECONSTRUCT)
        return take_reconstructed(r, torch_node(r, id), a);
    if (what != TORCH_NAME_NP_FROMBUFFER || args->count < 3 || !take_dtype(r, args->ids[1], a) ||
        !take_shape(r, args->ids[2], a) || !take_bytes(r, args->ids[0], a))
        return false;
    a->is_fortran = args->count > 3 && torch_is_text(r, args->ids[3], "F");
    return true;
}

/* --- numbers ------------------------------------------------------------ */

static void set_number(enum sl_dtype dtype, bool swapped, const char *bytes, struct sl_value *v)
{
    uint64_t raw = 0;
    uint32_t size = sl_dtype_size(dtype);
    memcpy(&raw, bytes, size);
    if (swapped)
        sl_dtype_swap(dtype, &raw, 1);
    if (sl_dtype_row(dtype)->is_float) {
        v->kind = SL_VALUE_FLOAT;
        v->f = sl_dtype_load(dtype, &raw);
        return;
    }
    v->kind = dtype == SL_BOOL ? SL_VALUE_BOOL : SL_VALUE_INT;
    switch (dtype) {
    case SL_I8:  v->i = (int8_t)raw; break;
    case SL_I16: v->i = (int16_t)raw; break;
    case SL_I32: v->i = (int32_t)raw; break;
    default:     v->i = (int64_t)raw; break;
    }
    if (dtype == SL_U64 && raw > INT64_MAX) {
        v->kind = SL_VALUE_FLOAT;
        v->f = (double)raw;
    }
}

/* Element `index` counted in C order, in an array that may lie in Fortran's. */
static uint64_t place_of(const struct array *a, uint64_t index)
{
    if (!a->is_fortran)
        return index;
    uint64_t place = 0, step = 1, at[NUMPY_DIMS];
    for (uint32_t d = a->ndim; d-- > 0;) {
        at[d] = index % (uint64_t)a->shape[d];
        index /= (uint64_t)a->shape[d];
    }
    for (uint32_t d = 0; d < a->ndim; d++) {
        place += at[d] * step;
        step *= (uint64_t)a->shape[d];
    }
    return place;
}

/* Groups `count` values into lists of `size` each; in place, from the inside out. */
static bool group(struct torch_reader *r, const struct sl_value **values, uint64_t count,
                  uint64_t size)
{
    for (uint64_t i = 0; i < count / size; i++) {
        struct sl_value *list = SL_ARENA_NEW(r->arena, struct sl_value, 1);
        const struct sl_value **items = sl_arena_copy(r->arena, values + i * size,
                                                      size * sizeof *values);
        if (!list || !items)
            return false;
        list->kind = SL_VALUE_LIST;
        list->items = items;
        list->len = size;
        values[i] = list;
    }
    return true;
}

static bool set_array(struct torch_reader *r, const struct array *a, struct sl_value *v)
{
    const struct sl_value **values = SL_ARENA_NEW(r->arena, const struct sl_value *, a->count);
    struct sl_value *numbers = SL_ARENA_NEW(r->arena, struct sl_value, a->count);
    if (!values || !numbers)
        return false;
    uint32_t size = sl_dtype_size(a->dtype);
    for (uint64_t i = 0; i < a->count; i++) {
        set_number(a->dtype, a->swapped, a->bytes + place_of(a, i) * size, &numbers[i]);
        values[i] = &numbers[i];
    }
    uint64_t count = a->count;
    for (uint32_t d = a->ndim; d-- > 1; count /= (uint64_t)a->shape[d])
        if (!group(r, values, count, (uint64_t)a->shape[d]))
            return false;
    if (!a->ndim) {
        const char *type = v->type;
        *v = numbers[0];
        v->type = type;
        return true;
    }
    v->kind = SL_VALUE_LIST;
    v->items = values;
    v->len = count;
    return true;
}

static bool describe_array(struct torch_reader *r, const struct array *a, struct sl_value *v)
{
    char shape[256];
    size_t at = 0;
    for (uint32_t d = 0; d < a->ndim && at < sizeof shape - 32; d++)
        at += (size_t)snprintf(shape + at, sizeof shape - at, d ? ", %lld" : "%lld",
                               (long long)a->shape[d]);
    shape[at] = 0;
    v->kind = SL_VALUE_OPAQUE;
    v->s = sl_arena_printf(r->arena, "numpy array %.*s [%s]",
                           (int)(a->spelling_len < 64 ? a->spelling_len : 64), a->spelling, shape);
    v->len = v->s ? strlen(v->s) : 0;
    return v->s != NULL;
}

/* A str of numpy: UTF-32, filled up with zeros. */
static bool text_value(struct torch_reader *r, const struct array *a, size_t len,
                       struct sl_value *v)
{
    char *text = SL_ARENA_NEW(r->arena, char, len + 1);
    size_t used = 0;
    for (size_t i = 0; text && i + 4 <= len; i += 4) {
        const uint8_t *p = (const uint8_t *)a->bytes + i;
        uint32_t c = sl_load_u32(p);
        if (a->swapped)
            c = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        if (!c)
            break;
        if (c > 0x10ffff)
            return false;
        used += sl_pickle_utf8(c, text + used);
    }
    v->kind = SL_VALUE_STR;
    v->type = "numpy.str_";
    v->s = text;
    v->len = used;
    return text != NULL;
}

static bool scalar_value(struct torch_reader *r, const struct sl_node_list *args,
                         struct sl_value *v)
{
    struct array a = { .count = 1 };
    size_t len;
    if (args->count != 2 || !take_dtype(r, args->ids[0], &a))
        return false;
    if (a.spelling_len && a.spelling[0] == 'U')
        return torch_bytes(r, args->ids[1], &a.bytes, &len) && text_value(r, &a, len, v);
    if (a.dtype == SL_DTYPE_UNKNOWN || !take_bytes(r, args->ids[1], &a))
        return false;
    v->type = sl_arena_printf(r->arena, "numpy.%s", sl_dtype_row(a.dtype)->torch);
    set_number(a.dtype, a.swapped, a.bytes, v);
    return v->type != NULL;
}

static bool dtype_value(struct torch_reader *r, sl_node_id id, struct sl_value *v)
{
    struct array a = {0};
    if (!take_dtype(r, id, &a))
        return false;
    v->kind = SL_VALUE_STR;
    v->type = "numpy.dtype";
    v->s = sl_arena_strn(r->arena, a.spelling, a.spelling_len);
    v->len = a.spelling_len;
    return v->s != NULL;
}

bool torch_numpy_value(struct torch_reader *r, sl_node_id id, struct sl_value *v)
{
    const struct sl_node_list *args;
    switch (torch_call(r, id, &args)) {
    case TORCH_NAME_NP_DTYPE:
        return dtype_value(r, id, v);
    case TORCH_NAME_NP_SCALAR:
        return scalar_value(r, args, v);
    default:
        break;
    }
    struct array a = {0};
    if (!take_array(r, id, &a))
        return false;
    v->type = "numpy.ndarray";
    bool is_shown = a.dtype != SL_DTYPE_UNKNOWN && a.count && a.count <= SHOWN_MOST;
    return is_shown ? set_array(r, &a, v) : describe_array(r, &a, v);
}
