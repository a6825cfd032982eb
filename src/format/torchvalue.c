/* torchvalue.c: the graph of a pickle as a tree of plain values.
 *
 * Containers are filled by a loop over a stack of frames, one frame for each
 * container on the way down; nothing recurses. A node becomes a value once,
 * and all references to it share that value, so the tree is really a graph
 * without cycles. Three things keep it harmless for those who walk it:
 *
 *   cycles    a reference to a container that is still being filled: OPAQUE "(cycle)"
 *   depth     more than SL_LIMIT_PICKLE_DEPTH levels: refused
 *   laughs    sharing that would multiply when walked as a tree: OPAQUE
 *             "(repeated too often)"; see WEIGHT_MOST
 */
#include "format/torchread.h"

#include "base/error.h"
#include "base/limits.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A walk over all values as a tree takes at most this many steps, and as many
 * as the pickle has bytes. */
#define WEIGHT_MOST 10000000u
enum { PARTS_MOST = 4, OPAQUE_TEXT = 200, OPAQUE_ARGUMENT = 40 };

/* A container being filled. parts: where its children come from, in order;
 * each part is a run of single items, or of k, v, k, v. */
struct torch_frame {
    sl_node_id node;
    struct sl_value *value;
    const struct sl_node_list *parts[PARTS_MOST];
    uint32_t part_count, part, next;      /* next: child within the part */
    size_t filled;                        /* children filled: items, or keys and values */
    const struct sl_value **items, **keys;
    uint64_t weight;
    uint32_t height;
};

static const struct sl_value busy = { .kind = SL_VALUE_OPAQUE, .s = "(cycle)", .len = 7 };
static const struct sl_value too_often = { .kind = SL_VALUE_OPAQUE, .s = "(repeated too often)", .len = 20 };

static int too_deep(struct torch_reader *r)
{
    return sl_fail(r->err, SL_INPUT, r->file->path, "its containers are nested more than %d levels "
                   "deep", SL_LIMIT_PICKLE_DEPTH);
}

static int no_memory(struct torch_reader *r) { return sl_fail_memory(r->err, sizeof(struct sl_value)); }

/* --- names -------------------------------------------------------------- */

/* Globals are numbered in the order of their nodes. */
static size_t global_number(const struct torch_reader *r, sl_node_id id)
{
    size_t lo = 0, hi = r->pickle.global_count;
    while (lo + 1 < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (r->pickle.globals[mid] <= id)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

const char *torch_global_name(struct torch_reader *r, sl_node_id id)
{
    const struct sl_node *n = torch_node(r, id);
    if (n->kind != SL_NODE_GLOBAL)
        return "?";
    if (!r->global_names)
        r->global_names = SL_ARENA_NEW(&r->scratch, const char *, r->pickle.global_count);
    if (!r->global_names)
        return NULL;
    const char **name = &r->global_names[global_number(r, id)];
    if (!*name)
        *name = sl_arena_printf(r->arena, "%s.%s", n->u.global.module, n->u.global.name);
    return *name;
}

void torch_path(const struct torch_reader *r, char *out, size_t room)
{
    struct sl_buf b = {0};
    for (size_t i = 0; i < r->depth; i++) {
        const struct torch_frame *f = &r->frames[i];
        if (f->value->kind == SL_VALUE_DICT) {
            size_t at = f->filled / 2;
            const struct sl_value *key = f->keys && f->filled % 2 ? f->keys[at] : NULL;
            if (b.len)
                sl_buf_char(&b, '.');
            if (key && key->kind == SL_VALUE_STR)
                sl_buf_add(&b, key->s, key->len);
            else if (key && key->kind == SL_VALUE_INT)
                sl_buf_printf(&b, "%lld", (long long)key->i);
            else
                sl_buf_char(&b, '?');
        } else {
            sl_buf_printf(&b, b.len ? ".%zu" : "%zu", f->filled);
        }
    }
    snprintf(out, room, "%.*s", (int)(b.len < room ? b.len : room - 1), b.data ? b.data : "");
    sl_buf_free(&b);
}

const char *torch_part_kind(const struct torch_reader *r)
{
    static const char *const kinds[] = {"sparse", "nested"};
    for (size_t up = 1; up <= 2 && up <= r->depth; up++) {
        const char *type = r->frames[r->depth - up].value->type;
        for (size_t i = 0; type && i < sizeof kinds / sizeof *kinds; i++)
            if (sl_text_starts(type, "torch._utils._rebuild_") && strstr(type, kinds[i]))
                return kinds[i];
    }
    return "tensor";
}

/* --- leaves ------------------------------------------------------------- */

static int set_text(struct torch_reader *r, struct sl_value *v, enum sl_value_kind kind,
                    const char *s, size_t len)
{
    v->kind = kind;
    v->s = sl_arena_strn(r->arena, s, len);
    v->len = len;
    return v->s ? SL_OK : no_memory(r);
}

enum { BIGINT_SHOWN = 64 };       /* bytes; longer ones are told by their length */

/* Divides a little-endian number by ten; returns the remainder. */
static unsigned divide_by_ten(uint8_t *number, size_t len)
{
    unsigned rest = 0;
    for (size_t i = len; i-- > 0;) {
        unsigned x = rest << 8 | number[i];
        number[i] = (uint8_t)(x / 10);
        rest = x % 10;
    }
    return rest;
}

static bool is_zero(const uint8_t *number, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (number[i])
            return false;
    return true;
}

/* An integer that no INT can hold: OPAQUE, with its decimal text. */
static int set_bigint(struct torch_reader *r, struct sl_value *v, const struct sl_node *n)
{
    const uint8_t *p = (const uint8_t *)n->u.text.s;
    const size_t len = n->u.text.len;
    const bool is_negative = p[len - 1] & 0x80;
    char text[BIGINT_SHOWN * 5 / 2 + 2];              /* 2.41 digits a byte, and a sign */
    size_t at = sizeof text;
    v->type = "int";
    if (len > BIGINT_SHOWN) {
        int n_text = snprintf(text, sizeof text, "(an integer of %zu bytes)", len);
        return set_text(r, v, SL_VALUE_OPAQUE, text, (size_t)n_text);
    }
    uint8_t number[BIGINT_SHOWN];
    unsigned carry = 1;
    for (size_t i = 0; i < len; i++) {
        carry += (uint8_t)~p[i];
        number[i] = is_negative ? (uint8_t)carry : p[i];
        carry >>= 8;
    }
    while (!is_zero(number, len))
        text[--at] = (char)('0' + divide_by_ten(number, len));
    if (is_negative)
        text[--at] = '-';
    return set_text(r, v, SL_VALUE_OPAQUE, text + at, sizeof text - at);
}

/* Short text of one argument of an opaque call. */
static void argument_text(struct torch_reader *r, sl_node_id id, struct sl_buf *b)
{
    const struct sl_node *n = torch_node(r, id);
    switch (n->kind) {
    case SL_NODE_NONE: sl_buf_str(b, "None"); break;
    case SL_NODE_BOOL: sl_buf_str(b, n->u.i ? "True" : "False"); break;
    case SL_NODE_INT: sl_buf_printf(b, "%lld", (long long)n->u.i); break;
    case SL_NODE_FLOAT: sl_buf_printf(b, "%g", n->u.f); break;
    case SL_NODE_GLOBAL: sl_buf_printf(b, "%s.%s", n->u.global.module, n->u.global.name); break;
    case SL_NODE_STR:
        sl_buf_char(b, '\'');
        sl_buf_add(b, n->u.text.s, n->u.text.len < OPAQUE_ARGUMENT ? n->u.text.len : OPAQUE_ARGUMENT);
        sl_buf_str(b, n->u.text.len > OPAQUE_ARGUMENT ? "...'" : "'");
        break;
    default: sl_buf_str(b, "..."); break;
    }
}

/* "module.name(argument, ...)" */
static int set_opaque(struct torch_reader *r, struct sl_value *v, sl_node_id id)
{
    const struct sl_node *n = torch_node(r, id);
    struct sl_buf b = {0};
    if (n->kind == SL_NODE_PERSID) {
        sl_buf_str(&b, "persistent object ");
        argument_text(r, n->u.id, &b);
    } else if (n->kind == SL_NODE_GLOBAL) {
        argument_text(r, id, &b);
    } else {
        const struct sl_node *f = torch_node(r, n->u.call.callable);
        const struct sl_node_list *args = &torch_node(r, n->u.call.args)->u.items;
        argument_text(r, n->u.call.callable, &b);
        sl_buf_char(&b, '(');
        for (uint32_t i = 0; i < args->count && b.len < OPAQUE_TEXT; i++) {
            if (i)
                sl_buf_str(&b, ", ");
            argument_text(r, args->ids[i], &b);
        }
        sl_buf_char(&b, ')');
        if (f->kind == SL_NODE_GLOBAL)
            v->type = torch_global_name(r, n->u.call.callable);
    }
    int code = b.failed ? no_memory(r) : set_text(r, v, SL_VALUE_OPAQUE, b.data, b.len);
    sl_buf_free(&b);
    return code;
}

bool torch_bytes(struct torch_reader *r, sl_node_id id, const char **s, size_t *len)
{
    const struct sl_node *n = torch_node(r, id);
    const struct sl_node_list *args;
    if (n->kind == SL_NODE_BYTES || n->kind == SL_NODE_BYTEARRAY) {
        *s = n->u.text.s;
        *len = n->u.text.len;
        return true;
    }
    enum torch_name what = torch_call(r, id, &args);
    if (what == TORCH_NAME_BYTES && !args->count) {
        *s = "";
        *len = 0;
        return true;
    }
    /* protocol 2 has no bytes: a str of code points 0..255, encoded as Latin-1 */
    if (what != TORCH_NAME_ENCODE || args->count < 1 ||
        torch_node(r, args->ids[0])->kind != SL_NODE_STR)
        return false;
    if (args->count > 1 && !torch_is_text(r, args->ids[1], "latin1") &&
        !torch_is_text(r, args->ids[1], "latin-1") && !torch_is_text(r, args->ids[1], "iso-8859-1"))
        return false;
    const struct sl_node *text = torch_node(r, args->ids[0]);
    const uint8_t *from = (const uint8_t *)text->u.text.s;
    uint8_t *to = SL_ARENA_NEW(&r->scratch, uint8_t, text->u.text.len + 1);
    if (!to)
        return false;
    size_t n_out = 0;
    for (size_t i = 0; i < text->u.text.len; i++) {
        if (from[i] < 0x80) {
            to[n_out++] = from[i];
        } else if ((from[i] & 0xfe) == 0xc2 && i + 1 < text->u.text.len &&
                   (from[i + 1] & 0xc0) == 0x80) {
            to[n_out++] = (uint8_t)((from[i] & 3) << 6 | (from[i + 1] & 0x3f));
            i++;
        } else {
            return false;
        }
    }
    *s = (const char *)to;
    *len = n_out;
    return true;
}

/* --- recognised calls that are leaves ----------------------------------- */

static bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

/* Class(3) or Class('x') of a class that is nobody's danger: an enum member. */
static bool is_enum_call(const struct torch_reader *r, const struct sl_node *n,
                         const struct sl_node_list *args)
{
    const struct sl_node *f = torch_node(r, n->u.call.callable);
    if (n->later || n->u.call.how != SL_CALL_REDUCE || args->count != 1 ||
        !is_upper(f->u.global.name[0]))
        return false;
    enum sl_node_kind kind = torch_node(r, args->ids[0])->kind;
    int risk = sl_pickle_global_risk(f->u.global.module, f->u.global.name);
    return risk < 2 && (kind == SL_NODE_INT || kind == SL_NODE_STR);
}

static int set_enum(struct torch_reader *r, struct sl_value *v, sl_node_id class, sl_node_id member)
{
    const struct sl_node *n = torch_node(r, member);
    v->type = torch_global_name(r, class);
    if (!v->type)
        return no_memory(r);
    if (n->kind == SL_NODE_INT) {
        v->kind = SL_VALUE_INT;
        v->i = n->u.i;
        return SL_OK;
    }
    return set_text(r, v, SL_VALUE_STR, n->u.text.s, n->u.text.len);
}

static int set_device(struct torch_reader *r, struct sl_value *v, const struct sl_node_list *args)
{
    const struct sl_node *name = torch_node(r, args->ids[0]);
    int64_t index;
    v->kind = SL_VALUE_STR;
    v->type = "torch.device";
    if (args->count > 1 && torch_int(r, args->ids[1], &index))
        v->s = sl_arena_printf(r->arena, "%.*s:%lld", (int)name->u.text.len, name->u.text.s,
                               (long long)index);
    else
        v->s = sl_arena_strn(r->arena, name->u.text.s, name->u.text.len);
    v->len = v->s ? strlen(v->s) : 0;
    return v->s ? SL_OK : no_memory(r);
}

/* PosixPath('a', 'b') or PosixPath('a/b'). */
static int set_path(struct torch_reader *r, struct sl_value *v, const struct sl_node_list *args)
{
    struct sl_buf b = {0};
    for (uint32_t i = 0; i < args->count; i++) {
        const struct sl_node *part = torch_node(r, args->ids[i]);
        if (b.len && b.data[b.len - 1] != '/')
            sl_buf_char(&b, '/');
        sl_buf_add(&b, part->u.text.s, part->u.text.len);
    }
    if (!b.len)
        sl_buf_char(&b, '.');
    int code = b.failed ? no_memory(r) : set_text(r, v, SL_VALUE_STR, b.data, b.len);
    sl_buf_free(&b);
    return code;
}

/* datetime.datetime(10 bytes): year (big-endian), month, day, h, m, s, microseconds. */
static int set_datetime(struct torch_reader *r, struct sl_value *v, const uint8_t *p)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%06d", p[0] << 8 | p[1],
                     p[2] & 0x7f, p[3], p[4], p[5], p[6], p[7] << 16 | p[8] << 8 | p[9]);
    return set_text(r, v, SL_VALUE_STR, text, (size_t)n);
}

static int set_complex(struct torch_reader *r, struct sl_value *v, const struct sl_node_list *args)
{
    char text[96];
    int n = snprintf(text, sizeof text, "(%.17g%+.17gj)", torch_node(r, args->ids[0])->u.f,
                     torch_node(r, args->ids[1])->u.f);
    v->type = "complex";
    return set_text(r, v, SL_VALUE_OPAQUE, text, (size_t)n);
}

static bool all_kind(const struct torch_reader *r, const struct sl_node_list *args,
                     enum sl_node_kind kind)
{
    for (uint32_t i = 0; i < args->count; i++)
        if (torch_node(r, args->ids[i])->kind != kind)
            return false;
    return true;
}

/* BytesIO: NEWOBJ, BUILD (bytes, position, dict or None). */
static bool bytesio_bytes(struct torch_reader *r, const struct sl_node *n, const char **s,
                          size_t *len)
{
    uint32_t count;
    const sl_node_id *states = sl_node_states(&r->pickle, n, &count);
    if (count != 1)
        return false;
    const struct sl_node *state = torch_node(r, states[0]);
    return state->kind == SL_NODE_TUPLE && state->u.items.count >= 1 &&
           torch_bytes(r, state->u.items.ids[0], s, len);
}

/* Is the call a leaf that has a plain value? *is_leaf false: see it as a container. */
static int leaf_call(struct torch_reader *r, sl_node_id id, struct sl_value *v, bool *is_leaf)
{
    const struct sl_node *n = torch_node(r, id);
    const struct sl_node_list *args = NULL;
    const char *s;
    size_t len;
    *is_leaf = true;
    switch (torch_call(r, id, &args)) {
    case TORCH_NAME_DEVICE:
        if (args->count && torch_node(r, args->ids[0])->kind == SL_NODE_STR &&
            torch_node(r, args->ids[0])->u.text.len < OPAQUE_TEXT)
            return set_device(r, v, args);
        break;
    case TORCH_NAME_LAYOUT:
        if (args->count == 1 && torch_node(r, args->ids[0])->kind == SL_NODE_STR) {
            v->type = "torch.layout";
            const struct sl_node *text = torch_node(r, args->ids[0]);
            return set_text(r, v, SL_VALUE_STR, text->u.text.s, text->u.text.len);
        }
        break;
    case TORCH_NAME_ENCODE:
    case TORCH_NAME_BYTES:
        if (torch_bytes(r, id, &s, &len) || (args->count == 1 && torch_bytes(r, args->ids[0], &s, &len)))
            return set_text(r, v, SL_VALUE_BYTES, s, len);
        break;
    case TORCH_NAME_BYTEARRAY:
        v->type = "bytearray";
        if (!args->count)
            return set_text(r, v, SL_VALUE_BYTES, "", 0);
        if (args->count == 1 && torch_bytes(r, args->ids[0], &s, &len))
            return set_text(r, v, SL_VALUE_BYTES, s, len);
        break;
    case TORCH_NAME_BYTESIO:
        v->type = "io.BytesIO";
        if (bytesio_bytes(r, n, &s, &len))
            return set_text(r, v, SL_VALUE_BYTES, s, len);
        break;
    case TORCH_NAME_COMPLEX:
        if (args->count == 2 && all_kind(r, args, SL_NODE_FLOAT))
            return set_complex(r, v, args);
        break;
    case TORCH_NAME_PATH:
        if (all_kind(r, args, SL_NODE_STR)) {
            v->type = torch_global_name(r, n->u.call.callable);
            return set_path(r, v, args);
        }
        break;
    case TORCH_NAME_DATETIME:
        if (args->count >= 1 && torch_bytes(r, args->ids[0], &s, &len) && len == 10) {
            v->type = "datetime.datetime";
            return set_datetime(r, v, (const uint8_t *)s);
        }
        break;
    case TORCH_NAME_GETATTR:
        if (args->count == 2 && torch_node(r, args->ids[0])->kind == SL_NODE_GLOBAL &&
            torch_node(r, args->ids[1])->kind == SL_NODE_STR)
            return set_enum(r, v, args->ids[0], args->ids[1]);
        break;
    case TORCH_NAME_NP_DTYPE:
    case TORCH_NAME_NP_SCALAR:
    case TORCH_NAME_NP_RECONSTRUCT:
    case TORCH_NAME_NP_FROMBUFFER:
        if (torch_numpy_value(r, id, v))
            return SL_OK;
        break;
    case TORCH_NAME_ENUM:
    case TORCH_NAME_OTHER:
        if (args && is_enum_call(r, n, args))
            return set_enum(r, v, n->u.call.callable, args->ids[0]);
        break;
    default:
        break;
    }
    v->type = NULL;
    *is_leaf = false;
    return SL_OK;
}

/* --- containers --------------------------------------------------------- */

static void add_part(struct torch_frame *f, const struct sl_node_list *list)
{
    if (list && list->count && f->part_count < PARTS_MOST)
        f->parts[f->part_count++] = list;
}

static const struct sl_node_list *dict_of(const struct torch_reader *r, sl_node_id id)
{
    const struct sl_node *n = torch_node(r, id);
    return n->kind == SL_NODE_DICT ? &n->u.items : NULL;
}

/* The members that BUILD gave: a dict, or (dict or None, dict of slots).
 * false: a state of another kind. */
static bool add_states(const struct torch_reader *r, const struct sl_node *n, struct torch_frame *f)
{
    bool is_known = false;
    uint32_t count;
    const sl_node_id *states = sl_node_states(&r->pickle, n, &count);
    for (uint32_t i = 0; i < count; i++) {
        const struct sl_node *state = torch_node(r, states[i]);
        if (state->kind == SL_NODE_DICT) {
            add_part(f, &state->u.items);
            is_known = true;
        } else if (state->kind == SL_NODE_TUPLE && state->u.items.count == 2 &&
                   dict_of(r, state->u.items.ids[1])) {
            add_part(f, dict_of(r, state->u.items.ids[0]));
            add_part(f, dict_of(r, state->u.items.ids[1]));
            is_known = true;
        }
    }
    return is_known;
}

/* dict(), OrderedDict(), Counter({..}), and what was set in them later. */
static bool plan_dict(const struct torch_reader *r, const struct sl_node *n,
                      const struct sl_node_list *args, struct torch_frame *f)
{
    if (args->count > 1 || (args->count == 1 && !dict_of(r, args->ids[0])))
        return false;
    if (args->count)
        add_part(f, dict_of(r, args->ids[0]));
    add_part(f, sl_node_pairs(&r->pickle, n));
    return true;
}

static bool plan_list(const struct torch_reader *r, const struct sl_node *n,
                      const struct sl_node_list *args, struct torch_frame *f)
{
    const struct sl_node_list *items = args->count == 1 ? torch_items(r, args->ids[0]) : NULL;
    if (args->count && !items)
        return false;
    add_part(f, items);
    add_part(f, sl_node_items(&r->pickle, n));
    return true;
}

/* Parts of tensors of several storages keep their names. Shown as a LIST of
 * the call's arguments, with the function as its type. */
static bool plan_arguments(const struct sl_node_list *args, struct torch_frame *f)
{
    add_part(f, args);
    return true;
}

/* An instance of any class: its items, its pairs, or its attributes. */
static bool plan_instance(struct torch_reader *r, const struct sl_node *n, struct torch_frame *f)
{
    const struct sl_node_list *items = sl_node_items(&r->pickle, n), *pairs = sl_node_pairs(&r->pickle, n);
    if (items->count && !pairs->count) {
        f->value->kind = SL_VALUE_LIST;
        add_part(f, items);
        return true;
    }
    const bool has_pairs = pairs->count > 0;
    add_part(f, pairs);
    bool has_states = add_states(r, n, f);
    const struct sl_node_list *args = &torch_node(r, n->u.call.args)->u.items;
    bool is_bare = n->u.call.how != SL_CALL_REDUCE && !args->count && !n->later;
    f->value->kind = SL_VALUE_DICT;
    return has_pairs || has_states || is_bare;
}

/* Makes *f the plan of a container; false: it is opaque. */
static bool plan_call(struct torch_reader *r, sl_node_id id, struct torch_frame *f)
{
    const struct sl_node *n = torch_node(r, id);
    const struct sl_node_list *args = NULL;
    enum torch_name what = torch_call(r, id, &args);
    if (!args)
        return false;
    f->value->kind = SL_VALUE_LIST;
    f->value->type = torch_global_name(r, n->u.call.callable);
    switch (what) {
    case TORCH_NAME_DICT:
        f->value->kind = SL_VALUE_DICT;
        return plan_dict(r, n, args, f);
    case TORCH_NAME_DEFAULTDICT:
        f->value->kind = SL_VALUE_DICT;
        add_part(f, sl_node_pairs(&r->pickle, n));
        return true;
    case TORCH_NAME_NAMESPACE:
        f->value->kind = SL_VALUE_DICT;
        add_states(r, n, f);
        return true;
    case TORCH_NAME_LIST:
        f->value->type = NULL;
        return plan_list(r, n, args, f);
    case TORCH_NAME_TUPLE:
        f->value->type = "tuple";
        return plan_list(r, n, args, f);
    case TORCH_NAME_SET:
        f->value->type = "set";
        return plan_list(r, n, args, f);
    case TORCH_NAME_FROZENSET:
        f->value->type = "frozenset";
        return plan_list(r, n, args, f);
    case TORCH_NAME_SIZE:
        return plan_list(r, n, args, f);
    case TORCH_NAME_SPARSE:
    case TORCH_NAME_SPARSE_CSR:
    case TORCH_NAME_NESTED:
    case TORCH_NAME_WRAPPER:
    case TORCH_NAME_FROM_NUMPY:
    case TORCH_NAME_QUANTIZED:
    case TORCH_NAME_FROM_TYPE:
    case TORCH_NAME_PARAMETER:
        return plan_arguments(args, f);
    case TORCH_NAME_RECONSTRUCTOR:          /* protocols 0 and 1: (class, base, state of base) */
        if (args->count && torch_node(r, args->ids[0])->kind == SL_NODE_GLOBAL)
            f->value->type = torch_global_name(r, args->ids[0]);
        return plan_instance(r, n, f);
    default:
        return plan_instance(r, n, f);
    }
}

static bool plan(struct torch_reader *r, sl_node_id id, struct torch_frame *f)
{
    const struct sl_node *n = torch_node(r, id);
    f->node = id;
    f->value->kind = SL_VALUE_LIST;
    switch (n->kind) {
    case SL_NODE_TUPLE:
        f->value->type = "tuple";
        break;
    case SL_NODE_SET:
        f->value->type = "set";
        break;
    case SL_NODE_FROZENSET:
        f->value->type = "frozenset";
        break;
    case SL_NODE_DICT:
        f->value->kind = SL_VALUE_DICT;
        break;
    case SL_NODE_LIST:
        break;
    default:
        return plan_call(r, id, f);
    }
    add_part(f, &n->u.items);
    return true;
}

/* --- filling ------------------------------------------------------------ */

static int frame_open(struct torch_reader *r, const struct torch_frame *plan_of)
{
    struct torch_frame *f = &r->frames[r->depth];
    *f = *plan_of;
    uint64_t count = 0;
    for (uint32_t i = 0; i < f->part_count; i++)
        count += f->parts[i]->count;
    bool is_dict = f->value->kind == SL_VALUE_DICT;
    f->items = SL_ARENA_NEW(r->arena, const struct sl_value *, is_dict ? count / 2 : count);
    f->keys = is_dict ? SL_ARENA_NEW(r->arena, const struct sl_value *, count / 2) : NULL;
    if (!f->items || (is_dict && !f->keys))
        return no_memory(r);
    f->weight = 1;
    r->slots[f->node].value = &busy;
    r->depth++;
    return SL_OK;
}

/* A dict that sets a key twice has it once, with the last value, as in Python. */
static int drop_duplicates(struct torch_reader *r, struct torch_frame *f)
{
    struct sl_map seen = {0};
    size_t kept = 0;
    int code = SL_OK;
    for (size_t i = 0; i < f->value->len; i++) {
        uint64_t at = kept;
        bool added = true;
        if (f->keys[i]->kind == SL_VALUE_STR &&
            !sl_map_add(&seen, f->keys[i]->s, f->keys[i]->len, &at, &added)) {
            code = no_memory(r);
            break;
        }
        if (added) {
            at = kept++;
            f->keys[at] = f->keys[i];
        }
        f->items[at] = f->items[i];
    }
    if (!code)
        f->value->len = kept;
    sl_map_free(&seen);
    return code;
}

static int frame_close(struct torch_reader *r)
{
    struct torch_frame *f = &r->frames[r->depth - 1];
    bool is_dict = f->value->kind == SL_VALUE_DICT;
    f->value->items = f->items;
    f->value->keys = f->keys;
    f->value->len = is_dict ? f->filled / 2 : f->filled;
    int code = is_dict && f->value->len > 1 ? drop_duplicates(r, f) : SL_OK;
    struct torch_slot *slot = &r->slots[f->node];
    slot->value = f->value;
    slot->weight = f->weight < UINT32_MAX ? (uint32_t)f->weight : UINT32_MAX;
    slot->height = f->height;
    r->depth--;
    return code;
}

/* Puts a finished child into the innermost frame. */
static int frame_fill(struct torch_reader *r, const struct torch_slot *child)
{
    struct torch_frame *f = &r->frames[r->depth - 1];
    const struct sl_value *value = child->value;
    if (value != &busy && child->weight > 1) {
        if (r->depth + child->height > SL_LIMIT_PICKLE_DEPTH)
            return too_deep(r);
        if (f->weight + child->weight > WEIGHT_MOST + r->pickle.length)
            value = &too_often;
    }
    if (value == child->value && value != &busy) {
        f->weight += child->weight;
        if (child->height + 1 > f->height)
            f->height = child->height + 1;
    } else {
        f->weight++;
    }
    if (f->value->kind != SL_VALUE_DICT)
        f->items[f->filled] = value;
    else if (f->filled % 2)
        f->items[f->filled / 2] = value;
    else
        f->keys[f->filled / 2] = value;
    f->filled++;
    f->next++;
    return SL_OK;
}

static int make_leaf(struct torch_reader *r, sl_node_id id, struct sl_value *v, bool *is_leaf)
{
    const struct sl_node *n = torch_node(r, id);
    bool made = false;
    int code = SL_OK;
    *is_leaf = true;
    switch (n->kind) {
    case SL_NODE_NONE:
        v->kind = SL_VALUE_NULL;
        return SL_OK;
    case SL_NODE_BOOL:
    case SL_NODE_INT:
        v->kind = n->kind == SL_NODE_BOOL ? SL_VALUE_BOOL : SL_VALUE_INT;
        v->i = n->u.i;
        return SL_OK;
    case SL_NODE_BIGINT:
        return set_bigint(r, v, n);
    case SL_NODE_FLOAT:
        v->kind = SL_VALUE_FLOAT;
        v->f = n->u.f;
        return SL_OK;
    case SL_NODE_STR:
        return set_text(r, v, SL_VALUE_STR, n->u.text.s, n->u.text.len);
    case SL_NODE_BYTEARRAY:
        v->type = "bytearray";
        return set_text(r, v, SL_VALUE_BYTES, n->u.text.s, n->u.text.len);
    case SL_NODE_BYTES:
        return set_text(r, v, SL_VALUE_BYTES, n->u.text.s, n->u.text.len);
    case SL_NODE_GLOBAL:
        if (torch_dtype_of(r, id)) {
            v->type = "torch.dtype";
            return set_text(r, v, SL_VALUE_STR, n->u.global.name, strlen(n->u.global.name));
        }
        return set_opaque(r, v, id);
    case SL_NODE_PERSID:
        code = torch_tensor_of_storage(r, id, &made, &v->i);
        v->kind = SL_VALUE_TENSOR;
        return code || made ? code : set_opaque(r, v, id);
    case SL_NODE_CALL:
        code = torch_tensor_make(r, id, &made, &v->i, &v->type);
        v->kind = SL_VALUE_TENSOR;
        return code || made ? code : leaf_call(r, id, v, is_leaf);
    default:
        *is_leaf = false;
        return SL_OK;
    }
}

static int set_slot(struct torch_reader *r, sl_node_id id, const struct sl_value *v)
{
    r->slots[id] = (struct torch_slot){ .value = v, .weight = 1 };
    return SL_OK;
}

/* Gives node `id` a value, or opens a frame that will. */
static int visit(struct torch_reader *r, sl_node_id id)
{
    struct sl_value *v = SL_ARENA_NEW(r->arena, struct sl_value, 1);
    if (!v)
        return no_memory(r);
    bool is_leaf;
    int code = make_leaf(r, id, v, &is_leaf);
    if (code || is_leaf)
        return code ? code : set_slot(r, id, v);
    if (r->depth >= SL_LIMIT_PICKLE_DEPTH)
        return too_deep(r);
    struct torch_frame f = { .value = v };
    if (plan(r, id, &f))
        return frame_open(r, &f);
    *v = (struct sl_value){0};
    code = set_opaque(r, v, id);
    return code ? code : set_slot(r, id, v);
}

/* One child of the innermost frame, or its end. */
static int step(struct torch_reader *r)
{
    struct torch_frame *f = &r->frames[r->depth - 1];
    while (f->part < f->part_count && f->next == f->parts[f->part]->count) {
        f->part++;
        f->next = 0;
    }
    if (f->part == f->part_count)
        return frame_close(r);
    sl_node_id child = f->parts[f->part]->ids[f->next];
    return r->slots[child].value ? frame_fill(r, &r->slots[child]) : visit(r, child);
}

int torch_values_make(struct torch_reader *r)
{
    uint64_t slots = (uint64_t)r->pickle.count + 1;
    r->slots = SL_ARENA_NEW(&r->scratch, struct torch_slot, slots);
    r->frames = SL_ARENA_NEW(&r->scratch, struct torch_frame, SL_LIMIT_PICKLE_DEPTH + 1);
    if (!r->slots || !r->frames)
        return sl_fail_memory(r->err, slots * sizeof *r->slots);
    int code = visit(r, r->pickle.root);
    while (!code && r->depth)
        code = step(r);
    if (!code)
        r->out->object = r->slots[r->pickle.root].value;
    return code;
}
