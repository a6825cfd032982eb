/* picklewrite.c: writing data.pkl, in the subset of protocol 2 that torch's
 * weights_only loader reads.
 *
 *   tensor   _rebuild_tensor_v2(storage, offset, size, stride, False, OrderedDict())
 *            where torch has a storage class for the dtype, else _rebuild_tensor_v3
 *            over UntypedStorage with the dtype behind
 *   storage  BINPERSID ('storage', class, key, 'cpu', numel)
 *
 * Source   torch/_weights_only_unpickler.py (what is accepted),
 *          torch/serialization.py (what torch itself writes)
 */
#include "format/torchwrite.h"

#include "base/dtype.h"
#include "base/map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OP_PROTO = 0x80, OP_STOP = '.', OP_MARK = '(', OP_NONE = 'N', OP_TRUE = 0x88, OP_FALSE = 0x89,
    OP_BININT1 = 'K', OP_BININT2 = 'M', OP_BININT = 'J', OP_LONG1 = 0x8a, OP_BINFLOAT = 'G',
    OP_BINUNICODE = 'X', OP_EMPTY_TUPLE = ')', OP_TUPLE1 = 0x85, OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87, OP_TUPLE = 't', OP_EMPTY_LIST = ']', OP_APPENDS = 'e', OP_EMPTY_DICT = '}',
    OP_SETITEMS = 'u', OP_GLOBAL = 'c', OP_REDUCE = 'R', OP_NEWOBJ = 0x81, OP_BUILD = 'b',
    OP_BINPERSID = 'Q', OP_BINPUT = 'q', OP_BINGET = 'h', OP_LONG_BINPUT = 'r', OP_LONG_BINGET = 'j'
};

/* What is worth a place in the memo; storage classes follow, one for each dtype. */
enum known {
    KNOWN_TENSOR_V2, KNOWN_TENSOR_V3, KNOWN_ORDERED_DICT, KNOWN_UNTYPED, KNOWN_STORAGE, KNOWN_CPU,
    KNOWN_CLASSES
};
_Static_assert(KNOWN_CLASSES + SL_DTYPE_COUNT <= SL_PICKLER_MEMO, "the memo is too small");

static void op(struct sl_pickler *p, int code) { sl_buf_char(&p->out, (char)code); }

void sl_pickler_global(struct sl_pickler *p, const char *module, const char *name)
{
    sl_buf_printf(&p->out, "c%s\n%s\n", module, name);
}

static void put_text(struct sl_pickler *p, const char *s, size_t len)
{
    uint8_t head[5] = { OP_BINUNICODE, (uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16),
                        (uint8_t)(len >> 24) };
    if (len > UINT32_MAX) {
        p->out.failed = true;
        return;
    }
    sl_buf_add(&p->out, head, sizeof head);
    sl_buf_add(&p->out, s, len);
}

/* Numbers below 256 take one byte, others four. */
static void put_memo_op(struct sl_pickler *p, int short_op, int long_op, uint32_t number)
{
    op(p, number < 256 ? short_op : long_op);
    for (int i = 0; i < (number < 256 ? 1 : 4); i++)
        op(p, (int)(number >> (8 * i) & 0xff));
}

uint32_t sl_pickler_keep(struct sl_pickler *p)
{
    put_memo_op(p, OP_BINPUT, OP_LONG_BINPUT, p->memo_count);
    return p->memo_count++;
}

void sl_pickler_fetch(struct sl_pickler *p, uint32_t number)
{
    put_memo_op(p, OP_BINGET, OP_LONG_BINGET, number);
}

/* True: it was fetched from the memo. False: write it, then call remember(). */
static bool recall(struct sl_pickler *p, unsigned what)
{
    if (!p->memo[what])
        return false;
    sl_pickler_fetch(p, p->memo[what] - 1);
    return true;
}

static void remember(struct sl_pickler *p, unsigned what)
{
    p->memo[what] = sl_pickler_keep(p) + 1;
}

static void put_known(struct sl_pickler *p, unsigned what, const char *module, const char *name)
{
    if (recall(p, what))
        return;
    if (module)
        sl_pickler_global(p, module, name);
    else
        put_text(p, name, strlen(name));
    remember(p, what);
}

void sl_pickler_begin(struct sl_pickler *p)
{
    sl_buf_clear(&p->out);
    p->depth = 0;
    p->memo_count = 0;
    memset(p->memo, 0, sizeof p->memo);
    op(p, OP_PROTO);
    op(p, 2);
}

void sl_pickler_end(struct sl_pickler *p)
{
    op(p, OP_STOP);
    if (p->depth)
        p->out.failed = true;
}

/* --- plain things ------------------------------------------------------- */

void sl_pickler_none(struct sl_pickler *p) { op(p, OP_NONE); }
void sl_pickler_bool(struct sl_pickler *p, bool v) { op(p, v ? OP_TRUE : OP_FALSE); }
void sl_pickler_str(struct sl_pickler *p, const char *s) { put_text(p, s, strlen(s)); }

/* The shortest form that holds it, as Python's pickler chooses. */
void sl_pickler_int(struct sl_pickler *p, int64_t v)
{
    uint64_t bits = (uint64_t)v;
    int width = 8;
    if (v >= 0 && v <= 0xff) {
        op(p, OP_BININT1);
        width = 1;
    } else if (v >= 0 && v <= 0xffff) {
        op(p, OP_BININT2);
        width = 2;
    } else if (v >= INT32_MIN && v <= INT32_MAX) {
        op(p, OP_BININT);
        width = 4;
    } else {
        while (width > 5 && v >> (8 * (width - 1) - 1) == (v < 0 ? -1 : 0))
            width--;
        op(p, OP_LONG1);
        op(p, width);
    }
    for (int i = 0; i < width; i++)
        op(p, (int)(bits >> (8 * i) & 0xff));
}

void sl_pickler_double(struct sl_pickler *p, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    op(p, OP_BINFLOAT);
    for (int i = 7; i >= 0; i--)
        op(p, (int)(bits >> (8 * i) & 0xff));
}

void sl_pickler_dtype(struct sl_pickler *p, enum sl_dtype dtype)
{
    sl_pickler_global(p, "torch", sl_dtype_row(dtype)->torch);
}

void sl_pickler_enum(struct sl_pickler *p, const char *module, const char *name, int64_t value)
{
    sl_pickler_global(p, module, name);
    sl_pickler_int(p, value);
    sl_pickler_call(p, 1);
}

/* bytes have no opcode in protocol 2: the code points 0..255 of a str, encoded
 * as Latin-1 on loading. */
static void put_bytes(struct sl_pickler *p, const char *s, size_t len)
{
    sl_pickler_global(p, "_codecs", "encode");
    struct sl_buf text = {0};
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x80)
            sl_buf_char(&text, (char)(0xc0 | c >> 6));
        sl_buf_char(&text, (char)(c < 0x80 ? c : 0x80 | (c & 0x3f)));
    }
    put_text(p, text.len ? text.data : "", text.len);
    if (text.failed)
        p->out.failed = true;
    sl_buf_free(&text);
    sl_pickler_str(p, "latin1");
    sl_pickler_call(p, 2);
}

/* --- containers --------------------------------------------------------- */

static void put_ordered_dict(struct sl_pickler *p)
{
    put_known(p, KNOWN_ORDERED_DICT, "collections", "OrderedDict");
    op(p, OP_EMPTY_TUPLE);
    op(p, OP_REDUCE);
}

static void close_container(struct sl_pickler *p)
{
    if (p->depth)
        p->depth--;
    else
        p->out.failed = true;
}

void sl_pickler_dict_begin(struct sl_pickler *p, bool ordered)
{
    if (ordered)
        put_ordered_dict(p);
    else
        op(p, OP_EMPTY_DICT);
    op(p, OP_MARK);
    p->depth++;
}

void sl_pickler_dict_end(struct sl_pickler *p)
{
    op(p, OP_SETITEMS);
    close_container(p);
}

void sl_pickler_new(struct sl_pickler *p)
{
    op(p, OP_EMPTY_TUPLE);
    op(p, OP_NEWOBJ);
}

void sl_pickler_build(struct sl_pickler *p) { op(p, OP_BUILD); }

void sl_pickler_object_begin(struct sl_pickler *p)
{
    sl_pickler_new(p);
    sl_pickler_dict_begin(p, false);
}

void sl_pickler_call(struct sl_pickler *p, uint32_t count)
{
    op(p, OP_TUPLE1 + (int)count - 1);
    op(p, OP_REDUCE);
}

static void open_items(struct sl_pickler *p)
{
    op(p, OP_MARK);
    p->depth++;
}

void sl_pickler_list_begin(struct sl_pickler *p)
{
    op(p, OP_EMPTY_LIST);
    open_items(p);
}

void sl_pickler_list_end(struct sl_pickler *p)
{
    op(p, OP_APPENDS);
    close_container(p);
}

void sl_pickler_tuple_begin(struct sl_pickler *p) { open_items(p); }

void sl_pickler_tuple_end(struct sl_pickler *p)
{
    op(p, OP_TUPLE);
    close_container(p);
}

void sl_pickler_namespace_begin(struct sl_pickler *p)
{
    sl_pickler_global(p, "argparse", "Namespace");
    sl_pickler_object_begin(p);
}

void sl_pickler_object_end(struct sl_pickler *p)
{
    op(p, OP_SETITEMS);
    op(p, OP_BUILD);
    close_container(p);
}

void sl_pickler_namespace_end(struct sl_pickler *p) { sl_pickler_object_end(p); }

/* --- values ------------------------------------------------------------- */

static bool has_type(const struct sl_value *v, const char *type)
{
    return v->type && !strcmp(v->type, type);
}

static void put_leaf(struct sl_pickler *p, const struct sl_value *v)
{
    switch (v->kind) {
    case SL_VALUE_BOOL:  sl_pickler_bool(p, v->i != 0); break;
    case SL_VALUE_INT:   sl_pickler_int(p, v->i); break;
    case SL_VALUE_FLOAT: sl_pickler_double(p, v->f); break;
    case SL_VALUE_BYTES: put_bytes(p, v->s, v->len); break;
    case SL_VALUE_STR:
        if (has_type(v, "torch.dtype"))
            sl_pickler_global(p, "torch", v->s);
        else
            put_text(p, v->s, v->len);
        break;
    default:
        sl_pickler_none(p);
        break;
    }
}

static bool is_list(const struct sl_value *v) { return v->kind == SL_VALUE_LIST; }
static bool is_container(const struct sl_value *v) { return is_list(v) || v->kind == SL_VALUE_DICT; }

static void open_value(struct sl_pickler *p, const struct sl_value *v)
{
    if (has_type(v, "argparse.Namespace")) {
        sl_pickler_namespace_begin(p);
    } else if (has_type(v, "types.SimpleNamespace")) {
        sl_pickler_global(p, "types", "SimpleNamespace");
        sl_pickler_object_begin(p);
    } else if (!is_list(v)) {
        sl_pickler_dict_begin(p, has_type(v, "collections.OrderedDict"));
    } else {
        if (has_type(v, "torch.Size"))
            sl_pickler_global(p, "torch", "Size");
        else if (has_type(v, "set"))
            sl_pickler_global(p, "builtins", "set");
        if (!has_type(v, "torch.Size") && !has_type(v, "tuple"))
            op(p, OP_EMPTY_LIST);
        op(p, OP_MARK);
        p->depth++;
    }
}

static void close_value(struct sl_pickler *p, const struct sl_value *v)
{
    if (has_type(v, "argparse.Namespace") || has_type(v, "types.SimpleNamespace")) {
        sl_pickler_namespace_end(p);
    } else if (!is_list(v)) {
        sl_pickler_dict_end(p);
    } else {
        bool is_call = has_type(v, "torch.Size") || has_type(v, "set");
        op(p, has_type(v, "torch.Size") || has_type(v, "tuple") ? OP_TUPLE : OP_APPENDS);
        if (is_call)
            sl_pickler_call(p, 1);
        close_container(p);
    }
}

/* The parts of a value may be shared: a pickle of a few hundred bytes can stand for a tree of
 * millions. So what is shared is written once and fetched from the memo after that, as
 * Python's own pickler does; what is written is then about as long as what was read.
 *
 * A first walk counts the references to each container and each longer text, a second
 * writes. Both are loops over a stack of containers, and both go into each container once. */
enum { SHARED_TEXT = 16 };               /* shorter text is written again: a fetch takes up to 5 bytes */
enum { SEEN_ONCE = 1, SEEN_AGAIN = 2, IN_MEMO = 3 };

struct level { const struct sl_value *v; size_t next; };
struct walk {
    struct level *levels; size_t depth, room;
    struct sl_map seen;                  /* value, by its address -> SEEN_ONCE, SEEN_AGAIN, IN_MEMO + its place */
    struct sl_arena keys;                /* of `seen` */
};

static bool may_be_shared(const struct sl_value *v)
{
    return is_container(v) || ((v->kind == SL_VALUE_STR || v->kind == SL_VALUE_BYTES) && v->len > SHARED_TEXT);
}

static uint64_t seen(const struct walk *w, const struct sl_value *v)
{
    uint64_t state = 0;
    sl_map_get(&w->seen, (const char *)&v, sizeof v, &state);
    return state;
}

static bool set_seen(struct walk *w, const struct sl_value *v, uint64_t state)
{
    const struct sl_value **key = SL_ARENA_NEW(&w->keys, const struct sl_value *, 1);
    if (!key)
        return false;
    *key = v;
    return sl_map_put(&w->seen, (const char *)key, sizeof v, state);
}

static const struct sl_value *next_child(struct level *l)
{
    const struct sl_value *v = l->v;
    size_t i = l->next++;
    if (is_list(v))
        return i < v->len ? v->items[i] : NULL;
    if (i / 2 >= v->len)
        return NULL;
    return i % 2 ? v->items[i / 2] : v->keys[i / 2];
}

static bool enter(struct walk *w, const struct sl_value *v)
{
    if (w->depth == w->room) {
        const size_t room = w->room ? 2 * w->room : 16;
        struct level *grown = realloc(w->levels, room * sizeof *grown);
        if (!grown)
            return false;
        w->levels = grown;
        w->room = room;
    }
    w->levels[w->depth++] = (struct level){ .v = v };
    return true;
}

/* Counts one reference; goes into a container the first time it is met. */
static bool count_reference(struct walk *w, const struct sl_value *v)
{
    if (!may_be_shared(v))
        return true;
    const uint64_t before = seen(w, v);
    if (before == SEEN_AGAIN)
        return true;
    if (!set_seen(w, v, before ? SEEN_AGAIN : SEEN_ONCE))
        return false;
    return before || !is_container(v) || enter(w, v);
}

static bool count_references(struct walk *w, const struct sl_value *v)
{
    bool ok = count_reference(w, v);
    while (ok && w->depth) {
        const struct sl_value *child = next_child(&w->levels[w->depth - 1]);
        if (child)
            ok = count_reference(w, child);
        else
            w->depth--;
    }
    return ok;
}

/* After a value was written: a place in the memo, if it will be needed again. */
static void keep_shared(struct sl_pickler *p, struct walk *w, const struct sl_value *v)
{
    if (!may_be_shared(v) || seen(w, v) != SEEN_AGAIN)
        return;
    if (!set_seen(w, v, IN_MEMO + (uint64_t)sl_pickler_keep(p)))
        p->out.failed = true;
}

static void put_reference(struct sl_pickler *p, struct walk *w, const struct sl_value *v)
{
    const uint64_t state = may_be_shared(v) ? seen(w, v) : 0;
    if (state >= IN_MEMO) {
        sl_pickler_fetch(p, (uint32_t)(state - IN_MEMO));
    } else if (!is_container(v)) {
        put_leaf(p, v);
        keep_shared(p, w, v);
    } else if (enter(w, v)) {
        open_value(p, v);
    } else {
        p->out.failed = true;
    }
}

void sl_pickler_value(struct sl_pickler *p, const struct sl_value *v)
{
    struct walk w = { 0 };
    if (!count_references(&w, v))
        p->out.failed = true;
    else
        put_reference(p, &w, v);
    while (w.depth && !p->out.failed) {
        const struct sl_value *child = next_child(&w.levels[w.depth - 1]);
        if (child) {
            put_reference(p, &w, child);
        } else {
            const struct sl_value *done = w.levels[--w.depth].v;
            close_value(p, done);
            keep_shared(p, &w, done);
        }
    }
    free(w.levels);
    sl_map_free(&w.seen);
    sl_arena_free(&w.keys);
}

/* --- tensors ------------------------------------------------------------ */

void sl_pickler_numbers(struct sl_pickler *p, const int64_t *numbers, uint32_t count)
{
    if (!count) {
        op(p, OP_EMPTY_TUPLE);
        return;
    }
    if (count > 3)
        op(p, OP_MARK);
    for (uint32_t i = 0; i < count; i++)
        sl_pickler_int(p, numbers[i]);
    op(p, count > 3 ? OP_TUPLE : OP_TUPLE1 + (int)count - 1);
}

/* Contiguous strides; torch counts an empty axis as one. */
static void put_strides(struct sl_pickler *p, const int64_t *shape, uint32_t ndim)
{
    int64_t strides[64], step = 1;
    if (ndim > 64) {
        p->out.failed = true;
        return;
    }
    for (uint32_t d = ndim; d-- > 0;) {
        strides[d] = step;
        if (__builtin_mul_overflow(step, shape[d] > 1 ? shape[d] : 1, &step))
            p->out.failed = true;
    }
    sl_pickler_numbers(p, strides, ndim);
}

static void put_storage(struct sl_pickler *p, enum sl_dtype dtype, uint32_t storage,
                        uint64_t count)
{
    const struct sl_dtype_row *row = sl_dtype_row(dtype);
    char key[16];
    snprintf(key, sizeof key, "%u", storage);
    if (!row->storage && __builtin_mul_overflow(count, (uint64_t)row->size, &count))
        p->out.failed = true;
    if (count > INT64_MAX)
        p->out.failed = true;
    op(p, OP_MARK);
    put_known(p, KNOWN_STORAGE, NULL, "storage");
    if (row->storage)
        put_known(p, KNOWN_CLASSES + (unsigned)dtype, "torch", row->storage);
    else
        put_known(p, KNOWN_UNTYPED, "torch.storage", "UntypedStorage");
    sl_pickler_str(p, key);
    put_known(p, KNOWN_CPU, NULL, "cpu");
    sl_pickler_int(p, (int64_t)count);
    op(p, OP_TUPLE);
    op(p, OP_BINPERSID);
}

void sl_pickler_tensor(struct sl_pickler *p, enum sl_dtype dtype, uint32_t storage,
                       uint64_t storage_count, uint64_t offset,
                       const int64_t *shape, uint32_t ndim)
{
    bool is_typed = sl_dtype_row(dtype)->storage != NULL;
    if (is_typed)
        put_known(p, KNOWN_TENSOR_V2, "torch._utils", "_rebuild_tensor_v2");
    else
        put_known(p, KNOWN_TENSOR_V3, "torch._utils", "_rebuild_tensor_v3");
    op(p, OP_MARK);
    put_storage(p, dtype, storage, storage_count);
    sl_pickler_int(p, (int64_t)offset);
    sl_pickler_numbers(p, shape, ndim);
    put_strides(p, shape, ndim);
    op(p, OP_FALSE);
    put_ordered_dict(p);
    if (!is_typed)
        sl_pickler_dtype(p, dtype);
    op(p, OP_TUPLE);
    op(p, OP_REDUCE);
}
