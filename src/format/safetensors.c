/* safetensors.c: reading and laying out .safetensors files.
 *
 * The checks are those of the reference reader (huggingface/safetensors,
 * safetensors/src/tensor.rs), in its order, and some that it leaves out:
 * duplicate names, arrays where objects should be.
 */
#include "format/safetensors.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/num.h"
#include "format/stscan.h"

#include <stdlib.h>
#include <string.h>

#define ULL(x) ((unsigned long long)(x))

bool sl_st_is(const void *head, size_t len, uint64_t file_size)
{
    if (len < 9 || file_size < 9)
        return false;
    uint64_t header = sl_load_u64(head);
    return header >= 2 && header <= SL_LIMIT_ST_HEADER && ((const char *)head)[8] == '{';
}

/* --- reading ------------------------------------------------------------ */

struct entry {
    struct sl_st_tensor t;
    uint64_t begin, end;
};
struct reader {
    struct sl_scan scan;
    struct entry *entries;          /* owned; in the order of the header */
    size_t count, room;
    const char **meta;              /* owned: key, value, key, value */
    size_t meta_count, meta_room;   /* of strings */
    struct sl_map names, meta_names;
    bool has_meta;
};

static bool out_of_memory(struct sl_scan *s, uint64_t bytes)
{
    s->code = sl_fail_memory(s->err, bytes);
    return false;
}

/* Is it the first of its name? */
static bool add_name(struct reader *r, struct sl_map *names, const char *name, size_t len)
{
    uint64_t number = 0;
    bool added;
    if (!sl_map_add(names, name, len, &number, &added))
        return out_of_memory(&r->scan, sizeof(struct sl_map_slot));
    return added || sl_scan_fail(&r->scan, "the name \"%s\" stands there twice", name);
}

static bool take_meta_pair(struct reader *r)
{
    if (r->meta_count + 2 > r->meta_room) {
        size_t room = r->meta_room ? 2 * r->meta_room : 16;
        const char **grown = realloc(r->meta, room * sizeof *grown);
        if (!grown)
            return out_of_memory(&r->scan, room * sizeof *grown);
        r->meta = grown;
        r->meta_room = room;
    }
    const char **pair = r->meta + r->meta_count;
    size_t key_len, value_len;
    if (!sl_scan_string(&r->scan, &pair[0], &key_len) || !sl_scan_take(&r->scan, ':') ||
        !sl_scan_string(&r->scan, &pair[1], &value_len))
        return false;
    r->meta_count += 2;
    return add_name(r, &r->meta_names, pair[0], key_len);
}

/* "__metadata__": null, or an object of strings. */
static bool take_meta(struct reader *r)
{
    struct sl_scan *s = &r->scan;
    if (r->has_meta)
        return sl_scan_fail(s, "__metadata__ stands there twice");
    r->has_meta = true;
    if (sl_scan_peek(s) == 'n')
        return sl_scan_null(s);
    if (!sl_scan_take(s, '{'))
        return false;
    bool more = sl_scan_peek(s) != '}';
    if (!more)
        return sl_scan_take(s, '}');
    while (more)
        if (!take_meta_pair(r) || !sl_scan_more(s, '}', &more))
            return false;
    return true;
}

static bool take_numbers(struct reader *r, uint64_t *numbers, uint32_t most, uint32_t *count)
{
    struct sl_scan *s = &r->scan;
    *count = 0;
    if (!sl_scan_take(s, '['))
        return false;
    bool more = sl_scan_peek(s) != ']';
    if (!more)
        return sl_scan_take(s, ']');
    while (more) {
        if (*count == most)
            return sl_scan_fail(s, "more than %u numbers in a list", most);
        if (!sl_scan_number(s, &numbers[*count]) || !sl_scan_more(s, ']', &more))
            return false;
        ++*count;
    }
    return true;
}

static bool take_dtype(struct reader *r, struct sl_st_tensor *t)
{
    struct sl_scan *s = &r->scan;
    const char *name;
    size_t len;
    if (!sl_scan_string(s, &name, &len))
        return false;
    t->dtype = sl_dtype_from_safetensors(name, len);
    if (t->dtype != SL_DTYPE_UNKNOWN)
        return true;
    if (strcmp(name, "F6_E2M3") && strcmp(name, "F6_E3M2"))
        return sl_scan_fail(s, "tensor \"%s\" has the unknown dtype \"%s\"", t->name, name);
    s->code = sl_fail(s->err, SL_UNSUPPORTED, s->where, "tensor %s has dtype %s: elements of 6 bits "
                      "are not supported", t->name, name);
    return false;
}

static bool take_shape(struct reader *r, struct sl_st_tensor *t)
{
    struct sl_scan *s = &r->scan;
    uint64_t numbers[SL_LIMIT_DIMS];
    if (!take_numbers(r, numbers, SL_LIMIT_DIMS, &t->ndim))
        return false;
    int64_t *shape = SL_ARENA_NEW(s->arena, int64_t, t->ndim);
    if (!shape)
        return out_of_memory(s, t->ndim * sizeof *shape);
    for (uint32_t d = 0; d < t->ndim; d++) {
        if (numbers[d] > INT64_MAX)
            return sl_scan_fail(s, "tensor \"%s\" has an axis of %llu elements", t->name,
                                ULL(numbers[d]));
        shape[d] = (int64_t)numbers[d];
    }
    t->shape = shape;
    return true;
}

/* A tensor's description: dtype, shape and data_offsets once each, in any
 * order; other fields are left alone, as the reference reader does. */
static bool take_fields(struct reader *r, struct entry *e)
{
    struct sl_scan *s = &r->scan;
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    unsigned have = 0;
    if (!sl_scan_take(s, '{'))
        return false;
    bool more = sl_scan_peek(s) != '}';
    if (!more)
        return sl_scan_fail(s, "tensor \"%s\" has no dtype", e->t.name);
    while (more) {
        const char *key;
        size_t len;
        if (!sl_scan_string(s, &key, &len) || !sl_scan_take(s, ':'))
            return false;
        unsigned which = 0;
        while (which < 3 && strcmp(key, fields[which]))
            which++;
        if (which < 3 && have & 1u << which)
            return sl_scan_fail(s, "tensor \"%s\" has two fields %s", e->t.name, key);
        have |= 1u << which;
        uint64_t offsets[2] = {0, 0};
        uint32_t count = 2;
        bool ok = which == 0 ? take_dtype(r, &e->t) : which == 1 ? take_shape(r, &e->t)
                : which == 2 ? take_numbers(r, offsets, 2, &count) : sl_scan_skip(s);
        if (ok && count != 2)
            return sl_scan_fail(s, "data_offsets of tensor \"%s\" must be two numbers", e->t.name);
        if (which == 2) {
            e->begin = offsets[0];
            e->end = offsets[1];
        }
        if (!ok || !sl_scan_more(s, '}', &more))
            return false;
    }
    for (unsigned which = 0; which < 3; which++)
        if (!(have & 1u << which))
            return sl_scan_fail(s, "tensor \"%s\" has no %s", e->t.name, fields[which]);
    return true;
}

static bool take_tensor(struct reader *r, const char *name, size_t len)
{
    if (r->count == SL_LIMIT_ST_TENSORS)
        return sl_scan_fail(&r->scan, "it has more than %zu tensors", SL_LIMIT_ST_TENSORS);
    if (r->count == r->room) {
        size_t room = r->room ? 2 * r->room : 64;
        struct entry *grown = realloc(r->entries, room * sizeof *grown);
        if (!grown)
            return out_of_memory(&r->scan, room * sizeof *grown);
        r->entries = grown;
        r->room = room;
    }
    struct entry *e = &r->entries[r->count];
    *e = (struct entry){ .t.name = name };
    if (!add_name(r, &r->names, name, len) || !take_fields(r, e))
        return false;
    r->count++;
    return true;
}

static bool take_header(struct reader *r)
{
    struct sl_scan *s = &r->scan;
    if (!sl_scan_take(s, '{'))
        return false;
    bool more = sl_scan_peek(s) != '}';
    if (!more && !sl_scan_take(s, '}'))
        return false;
    while (more) {
        const char *name;
        size_t len;
        if (!sl_scan_string(s, &name, &len) || !sl_scan_take(s, ':'))
            return false;
        bool ok = strcmp(name, "__metadata__") ? take_tensor(r, name, len) : take_meta(r);
        if (!ok || !sl_scan_more(s, '}', &more))
            return false;
    }
    sl_scan_peek(s);
    return s->at == s->len || sl_scan_fail(s, "more text after the header's end");
}

/* --- checking ----------------------------------------------------------- */

static int by_place(const void *a, const void *b, void *arg)
{
    const struct entry *entries = arg;
    const struct entry *x = &entries[*(const uint32_t *)a], *y = &entries[*(const uint32_t *)b];
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* F4: two elements in a byte. The last axis is told in elements there and in
 * bytes (pairs) here, as torch's float4_e2m1fn_x2 has it. */
static int halve_last_axis(struct reader *r, struct sl_st_tensor *t)
{
    if (t->dtype != SL_F4_E2M1X2)
        return SL_OK;
    int64_t *shape = (int64_t *)(uintptr_t)t->shape;     /* our own, see take_shape */
    if (!t->ndim || shape[t->ndim - 1] % 2)
        return sl_fail(r->scan.err, SL_UNSUPPORTED, r->scan.where, "tensor %s has dtype F4 and an "
                       "odd number of elements in its last axis; whole bytes were expected", t->name);
    shape[t->ndim - 1] /= 2;
    return SL_OK;
}

static int check_entry(struct reader *r, const struct entry *e, uint64_t expected)
{
    const char *where = r->scan.where;
    uint64_t count, bytes;
    if (e->begin != expected || e->end < e->begin)
        return sl_fail(r->scan.err, SL_INPUT, where, "tensor %s has data_offsets [%llu, %llu], but "
                       "the tensor before it ends at %llu: there must be no holes and no overlaps",
                       e->t.name, ULL(e->begin), ULL(e->end), ULL(expected));
    if (!sl_shape_count(e->t.shape, e->t.ndim, &count) ||
        !sl_mul_u64(count, sl_dtype_size(e->t.dtype), &bytes) || bytes > INT64_MAX)
        return sl_fail(r->scan.err, SL_INPUT, where, "the size of tensor %s overflows", e->t.name);
    if (bytes != e->end - e->begin)
        return sl_fail(r->scan.err, SL_INPUT, where, "tensor %s needs %llu bytes by its dtype and "
                       "shape, but its data_offsets [%llu, %llu] give it %llu", e->t.name, ULL(bytes),
                       ULL(e->begin), ULL(e->end), ULL(e->end - e->begin));
    return SL_OK;
}

static int check_places(struct reader *r, uint64_t data_len)
{
    uint32_t *order = malloc((r->count + 1) * sizeof *order);
    if (!order)
        return sl_fail_memory(r->scan.err, r->count * sizeof *order);
    for (uint32_t i = 0; i < r->count; i++)
        order[i] = i;
    qsort_r(order, r->count, sizeof *order, by_place, r->entries);
    uint64_t reached = 0;
    int code = SL_OK;
    for (size_t i = 0; i < r->count && !code; i++) {
        struct entry *e = &r->entries[order[i]];
        code = halve_last_axis(r, &e->t);
        if (!code)
            code = check_entry(r, e, reached);
        reached = e->end;
    }
    const char *last = r->count ? r->entries[order[r->count - 1]].t.name : "";
    free(order);
    if (code || reached == data_len)
        return code;
    if (reached > data_len) {
        sl_fail(r->scan.err, SL_INPUT, r->scan.where, "truncated: the file should be %llu bytes long (tensor %s comes last), but it has %llu",
                ULL(reached + 8 + r->scan.len), last, ULL(data_len + 8 + r->scan.len));
        return sl_fail_fault(r->scan.err, SL_FAULT_CUT);
    }
    return sl_fail(r->scan.err, SL_INPUT, r->scan.where, "%llu bytes follow the last tensor, and "
                   "belong to none", ULL(data_len - reached));
}

static int hand_over(struct reader *r, struct sl_arena *arena, struct sl_st_file *out)
{
    struct sl_st_tensor *tensors = SL_ARENA_NEW(arena, struct sl_st_tensor, r->count);
    size_t pairs = r->meta_count / 2;
    const char **keys = SL_ARENA_NEW(arena, const char *, pairs);
    const char **values = SL_ARENA_NEW(arena, const char *, pairs);
    if (!tensors || !keys || !values)
        return sl_fail_memory(r->scan.err, r->count * sizeof *tensors);
    for (size_t i = 0; i < r->count; i++) {
        tensors[i] = r->entries[i].t;
        tensors[i].offset = out->data_begin + r->entries[i].begin;
        tensors[i].bytes = r->entries[i].end - r->entries[i].begin;
    }
    for (size_t i = 0; i < pairs; i++) {
        keys[i] = r->meta[2 * i];
        values[i] = r->meta[2 * i + 1];
    }
    out->tensors = tensors;
    out->count = (uint32_t)r->count;
    out->meta_keys = keys;
    out->meta_values = values;
    out->meta_count = (uint32_t)pairs;
    return SL_OK;
}

/* Reads 8 + N bytes of the image at [start, start + size); *text is owned by the caller. */
static int read_header(const struct sl_file *file, uint64_t start, uint64_t size, char **text, uint64_t *len,
                       struct sl_error *err)
{
    uint8_t prefix[8];
    if (size < 8)
        return sl_fail(err, SL_INPUT, file->path, "%llu bytes are no safetensors file: at least 8 "
                       "were expected", ULL(size));
    int code = sl_file_read(file, start, prefix, 8, err);
    if (code)
        return code;
    *len = sl_load_u64(prefix);
    if (*len > SL_LIMIT_ST_HEADER)
        return sl_fail(err, SL_INPUT, file->path, "no safetensors file: its first 8 bytes give a "
                       "header of %llu bytes, at most %llu are allowed", ULL(*len),
                       ULL(SL_LIMIT_ST_HEADER));
    if (*len > size - 8) {
        sl_fail(err, SL_INPUT, file->path, "truncated: the header alone has %llu bytes, but the file ends after %llu", ULL(*len + 8), ULL(size));
        return sl_fail_fault(err, SL_FAULT_CUT);
    }
    *text = malloc(*len + 1);
    if (!*text)
        return sl_fail_memory(err, *len);
    (*text)[*len] = 0;
    return sl_file_read(file, start + 8, *text, *len, err);
}

int sl_st_open(const struct sl_file *file, struct sl_arena *arena,
               struct sl_st_file *out, struct sl_error *err)
{
    return sl_st_open_at(file, 0, arena, out, err);
}

int sl_st_open_at(const struct sl_file *file, uint64_t start, struct sl_arena *arena,
                  struct sl_st_file *out, struct sl_error *err)
{
    *out = (struct sl_st_file){0};
    if (start > file->size)
        return sl_fail(err, SL_INPUT, file->path, "a safetensors image should begin at byte %llu, but the file has %llu",
                       ULL(start), ULL(file->size));
    char *text = NULL;
    uint64_t len = 0;
    struct reader r = { .scan = { .where = file->path, .arena = arena, .err = err } };
    int code = read_header(file, start, file->size - start, &text, &len, err);
    if (!code && !sl_text_is_utf8(text, len))
        code = sl_fail(err, SL_INPUT, file->path, "the safetensors header is not UTF-8");
    if (!code) {
        r.scan.text = text;
        r.scan.len = len;
        take_header(&r);
        code = r.scan.code;
    }
    if (!code)
        code = check_places(&r, file->size - start - 8 - len);
    out->data_begin = start + 8 + len;
    if (!code)
        code = hand_over(&r, arena, out);
    free(text);
    free(r.entries);
    free(r.meta);
    sl_map_free(&r.names);
    sl_map_free(&r.meta_names);
    return code;
}

/* --- writing ------------------------------------------------------------ */

/* Rank of each dtype; the reference writer places high ranks first. */
static const enum sl_dtype ranks[] = {
    SL_BOOL, SL_F4_E2M1X2, SL_U8, SL_I8, SL_F8_E5M2, SL_F8_E4M3, SL_F8_E8M0, SL_F8_E4M3FNUZ,
    SL_F8_E5M2FNUZ, SL_I16, SL_U16, SL_F16, SL_BF16, SL_I32, SL_U32, SL_F32, SL_C64, SL_F64,
    SL_I64, SL_U64,
};

static int rank_of(enum sl_dtype dtype)
{
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++)
        if (ranks[i] == dtype)
            return (int)i;
    return -1;
}

static int by_rank_and_name(const void *a, const void *b)
{
    const struct sl_st_tensor *x = a, *y = b;
    int rx = rank_of(x->dtype), ry = rank_of(y->dtype);
    if (rx != ry)
        return rx > ry ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* As serde_json writes strings: only quotes, backslashes and controls are escaped. */
static void put_string(struct sl_buf *out, const char *s)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    sl_buf_char(out, '"');
    for (; *s; s++) {
        const char *simple = strchr(from, *s);
        if (simple) {
            sl_buf_char(out, '\\');
            sl_buf_char(out, to[simple - from]);
        } else if ((unsigned char)*s < 0x20) {
            sl_buf_printf(out, "\\u%04x", (unsigned)(unsigned char)*s);
        } else {
            sl_buf_char(out, *s);
        }
    }
    sl_buf_char(out, '"');
}

static void put_tensor(struct sl_buf *out, const struct sl_st_tensor *t, uint64_t begin)
{
    sl_buf_char(out, ',');
    put_string(out, t->name);
    sl_buf_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", sl_dtype_row(t->dtype)->safetensors);
    for (uint32_t d = 0; d < t->ndim; d++) {
        bool is_doubled = t->dtype == SL_F4_E2M1X2 && d + 1 == t->ndim;
        sl_buf_printf(out, d ? ",%lld" : "%lld", (long long)t->shape[d] * (is_doubled ? 2 : 1));
    }
    sl_buf_printf(out, "],\"data_offsets\":[%llu,%llu]}", ULL(begin), ULL(begin + t->bytes));
}

static int check_tensor(struct sl_st_tensor *t, struct sl_map *names, struct sl_error *err)
{
    uint64_t count, number = 0;
    bool added;
    if (rank_of(t->dtype) < 0)
        return sl_fail(err, SL_UNSUPPORTED, t->name, "dtype %s can't be written to safetensors",
                       sl_dtype_name(t->dtype));
    if (t->dtype == SL_F4_E2M1X2 && (!t->ndim || t->shape[t->ndim - 1] > INT64_MAX / 2))
        return sl_fail(err, SL_UNSUPPORTED, t->name, "a single fp4 pair can't be written to "
                       "safetensors");
    if (!sl_text_is_utf8(t->name, strlen(t->name)))
        return sl_fail(err, SL_UNSUPPORTED, t->name, "its name is not UTF-8, as safetensors needs it");
    if (!strcmp(t->name, "__metadata__"))
        return sl_fail(err, SL_UNSUPPORTED, t->name, "safetensors keeps this name for itself");
    if (!sl_map_add(names, t->name, strlen(t->name), &number, &added))
        return sl_fail_memory(err, sizeof(struct sl_map_slot));
    if (!added)
        return sl_fail(err, SL_USAGE, t->name, "two tensors of one file have this name");
    if (!sl_shape_count(t->shape, t->ndim, &count) ||
        !sl_mul_u64(count, sl_dtype_size(t->dtype), &t->bytes))
        return sl_fail(err, SL_USAGE, t->name, "its size overflows");
    return SL_OK;
}

/* Checks the tensors, places them from 0 on, and writes their entries. */
static int put_tensors(struct sl_st_tensor *tensors, size_t count, struct sl_buf *out,
                       uint64_t *data_len, struct sl_error *err)
{
    struct sl_map names = {0};
    uint64_t at = 0;
    int code = SL_OK;
    for (size_t i = 0; i < count && !code; i++) {
        code = check_tensor(&tensors[i], &names, err);
        if (code)
            break;
        put_tensor(out, &tensors[i], at);
        tensors[i].offset = at;
        if (!sl_add_u64(at, tensors[i].bytes, &at) || at > INT64_MAX)
            code = sl_fail(err, SL_USAGE, tensors[i].name, "the file would be too large");
    }
    sl_map_free(&names);
    *data_len = at;
    return code;
}

int sl_st_layout(struct sl_st_tensor *tensors, size_t count, struct sl_buf *out,
                 uint64_t *file_size, struct sl_error *err)
{
    if (count)
        qsort(tensors, count, sizeof *tensors, by_rank_and_name);
    sl_buf_clear(out);
    sl_buf_add(out, "\0\0\0\0\0\0\0\0", 8);
    sl_buf_str(out, "{\"__metadata__\":{\"format\":\"pt\"}");
    uint64_t data_len = 0;
    int code = put_tensors(tensors, count, out, &data_len, err);
    if (code)
        return code;
    sl_buf_char(out, '}');
    while (!out->failed && out->len % 8)
        sl_buf_char(out, ' ');
    if (out->failed)
        return sl_fail_memory(err, out->room);
    if (out->len - 8 > SL_LIMIT_ST_HEADER)
        return sl_fail(err, SL_USAGE, "", "a safetensors header of %zu bytes for %zu tensors; at "
                       "most %llu are allowed: use smaller shards", out->len - 8, count,
                       ULL(SL_LIMIT_ST_HEADER));
    sl_store_u64(out->data, out->len - 8);
    for (size_t i = 0; i < count; i++)
        tensors[i].offset += out->len;
    *file_size = out->len + data_len;
    return SL_OK;
}
