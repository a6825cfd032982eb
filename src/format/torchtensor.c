/* torchtensor.c: calls that make tensors, and the storages they look into.
 *
 *   _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks [, metadata])
 *   _rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype [, metadata])
 *   _rebuild_tensor(storage, offset, size, stride)
 *   _rebuild_qtensor(storage, offset, size, stride, quantizer, requires_grad, hooks)
 *   _rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)
 *   _rebuild_parameter[_with_state](tensor, requires_grad, hooks [, state])
 *   _rebuild_from_type_v2(function, class, arguments, state)
 *   persistent id: ('storage', class, key, location, numel [, view])
 *
 * Offsets, sizes and strides count elements of the tensor's own dtype. numel
 * counts elements of the storage class; bytes for UntypedStorage.
 *
 * Source   torch/_utils.py, torch/_tensor.py, torch/serialization.py
 */
#include "format/torchread.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/num.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ULL(x) ((unsigned long long)(x))

/* --- reading nodes ------------------------------------------------------ */

bool torch_int(const struct torch_reader *r, sl_node_id id, int64_t *value)
{
    const struct sl_node *n = torch_node(r, id);
    if (n->kind != SL_NODE_INT)
        return false;
    *value = n->u.i;
    return true;
}

bool torch_bool(const struct torch_reader *r, sl_node_id id, bool *value)
{
    const struct sl_node *n = torch_node(r, id);
    if (n->kind != SL_NODE_BOOL)
        return false;
    *value = n->u.i != 0;
    return true;
}

bool torch_is_text(const struct torch_reader *r, sl_node_id id, const char *text)
{
    const struct sl_node *n = torch_node(r, id);
    return (n->kind == SL_NODE_STR || n->kind == SL_NODE_BYTES) &&
           n->u.text.len == strlen(text) && !memcmp(n->u.text.s, text, n->u.text.len);
}

enum torch_name torch_call(const struct torch_reader *r, sl_node_id id,
                           const struct sl_node_list **args)
{
    const struct sl_node *n = torch_node(r, id);
    if (n->kind != SL_NODE_CALL)
        return TORCH_NAME_OTHER;
    struct sl_node *f = &r->pickle.nodes[n->u.call.callable];
    if (f->kind != SL_NODE_GLOBAL)
        return TORCH_NAME_OTHER;
    *args = &torch_node(r, n->u.call.args)->u.items;
    if (!f->tag)                                /* looked up once for each name, not for each call */
        f->tag = (uint16_t)(1 + torch_name_of(f->u.global.module, f->u.global.name));
    return (enum torch_name)(f->tag - 1);
}

const struct sl_node_list *torch_items(const struct torch_reader *r, sl_node_id id)
{
    const struct sl_node *n = torch_node(r, id);
    const struct sl_node_list *args;
    if (n->kind == SL_NODE_CALL && torch_call(r, id, &args) == TORCH_NAME_SIZE && args->count == 1)
        n = torch_node(r, args->ids[0]);
    return n->kind == SL_NODE_TUPLE || n->kind == SL_NODE_LIST ? &n->u.items : NULL;
}

enum sl_dtype torch_dtype_of(const struct torch_reader *r, sl_node_id id)
{
    const struct sl_node *n = torch_node(r, id);
    if (n->kind != SL_NODE_GLOBAL || strcmp(n->u.global.module, "torch"))
        return SL_DTYPE_UNKNOWN;
    return sl_dtype_from_torch(n->u.global.name, strlen(n->u.global.name));
}

/* Of a storage class, wherever it lives (torch, torch.cuda, torch.storage). */
static enum sl_dtype storage_class_dtype(const struct sl_node *n)
{
    if (n->kind != SL_NODE_GLOBAL || strncmp(n->u.global.module, "torch", 5))
        return SL_DTYPE_UNKNOWN;
    const char *name = n->u.global.name;
    if (!strcmp(name, "UntypedStorage") || !strcmp(name, "_UntypedStorage"))
        return SL_U8;
    return sl_dtype_from_storage(name, strlen(name));
}

/* --- storages ----------------------------------------------------------- */

/* The parts of a persistent id. */
struct storage_id {
    enum sl_dtype dtype;
    const char *class_name;
    const char *key;
    size_t key_len;
    int64_t numel;
    sl_node_id view;              /* (key, offset, numel) of a part of it, or 0 */
};

/* ('storage', class, key, location, numel [, view or None]) */
static bool storage_id_take(const struct torch_reader *r, const struct sl_node *persid,
                            struct storage_id *s)
{
    const struct sl_node *tuple = torch_node(r, persid->u.id);
    if (tuple->kind != SL_NODE_TUPLE || tuple->u.items.count < 5)
        return false;
    const sl_node_id *id = tuple->u.items.ids;
    const struct sl_node *class = torch_node(r, id[1]);
    const struct sl_node *key = torch_node(r, id[2]);
    if (!torch_is_text(r, id[0], "storage") || !torch_int(r, id[4], &s->numel) ||
        (key->kind != SL_NODE_STR && key->kind != SL_NODE_BYTES))
        return false;
    s->dtype = storage_class_dtype(class);
    s->class_name = class->kind == SL_NODE_GLOBAL ? class->u.global.name : "?";
    s->key = key->u.text.s;
    s->key_len = key->u.text.len;
    s->view = 0;
    if (tuple->u.items.count > 5 && torch_node(r, id[5])->kind != SL_NODE_NONE)
        s->view = id[5];
    return s->dtype != SL_DTYPE_UNKNOWN;
}

static int storage_room(struct torch_reader *r)
{
    if (r->storage_count < r->storage_room)
        return SL_OK;
    size_t room = r->storage_room ? 2 * r->storage_room : 64;
    struct sl_torch_storage *storages = realloc(r->storages, room * sizeof *storages);
    if (storages)
        r->storages = storages;
    struct torch_need *needs = realloc(r->needs, room * sizeof *needs);
    if (needs)
        r->needs = needs;
    if (!storages || !needs)
        return sl_fail_memory(r->err, room * sizeof *storages);
    r->storage_room = room;
    return SL_OK;
}

static bool need_of(const struct storage_id *s, uint64_t *bytes)
{
    return s->numel >= 0 && sl_mul_u64((uint64_t)s->numel, sl_dtype_size(s->dtype), bytes) &&
           *bytes <= INT64_MAX;
}

static int storage_add(struct torch_reader *r, const struct storage_id *s, int32_t *index)
{
    int code = storage_room(r);
    if (code)
        return code;
    char *key = sl_arena_strn(r->arena, s->key, s->key_len);
    struct torch_need need = { .class_name = s->class_name, .parent = -1 };
    if (!key)
        return sl_fail_memory(r->err, s->key_len);
    if (strlen(key) != s->key_len)
        return sl_fail(r->err, SL_INPUT, r->file->path, "a storage whose key holds a NUL byte");
    if (!need_of(s, &need.bytes) || r->storage_count >= INT32_MAX)
        return sl_fail(r->err, SL_INPUT, r->file->path, "storage %s can't have %lld elements", key,
                       (long long)s->numel);
    size_t i = r->storage_count++;
    r->storages[i] = (struct sl_torch_storage){ .key = key, .dtype = s->dtype, .missing = true };
    r->needs[i] = need;
    *index = (int32_t)i;
    if (!sl_map_put(&r->storage_index, key, s->key_len, i))
        return sl_fail_memory(r->err, sizeof(struct sl_map_slot));
    return SL_OK;
}

/* The same key again must mean the same storage. */
static int storage_same(struct torch_reader *r, const struct storage_id *s, size_t i)
{
    const struct sl_torch_storage *known = &r->storages[i];
    uint64_t bytes;
    if (known->dtype != s->dtype)
        return sl_fail(r->err, SL_INPUT, r->file->path, "storage %s is named as %s and as %s",
                       known->key, r->needs[i].class_name, s->class_name);
    if (!need_of(s, &bytes) || bytes != r->needs[i].bytes)
        return sl_fail(r->err, SL_INPUT, r->file->path,
                       "storage %s is named with %llu bytes and with %lld elements", known->key,
                       ULL(r->needs[i].bytes), (long long)s->numel);
    return SL_OK;
}

static int storage_take(struct torch_reader *r, const struct storage_id *s, int32_t *index)
{
    uint64_t known;
    if (!sl_map_get(&r->storage_index, s->key, s->key_len, &known))
        return storage_add(r, s, index);
    *index = (int32_t)known;
    return storage_same(r, s, known);
}

/* A view, as very old files have them: a storage inside another. */
static int view_take(struct torch_reader *r, const struct storage_id *whole, int32_t *index)
{
    const struct sl_node *tuple = torch_node(r, whole->view);
    struct storage_id view = *whole;
    int64_t offset;
    if (tuple->kind != SL_NODE_TUPLE || tuple->u.items.count != 3 ||
        torch_node(r, tuple->u.items.ids[0])->kind < SL_NODE_STR ||
        torch_node(r, tuple->u.items.ids[0])->kind > SL_NODE_BYTES ||
        !torch_int(r, tuple->u.items.ids[1], &offset) ||
        !torch_int(r, tuple->u.items.ids[2], &view.numel))
        return sl_fail(r->err, SL_INPUT, r->file->path, "a view of a storage that is no (key, "
                       "offset, size)");
    view.key = torch_node(r, tuple->u.items.ids[0])->u.text.s;
    view.key_len = torch_node(r, tuple->u.items.ids[0])->u.text.len;
    const int32_t parent = *index;
    int code = storage_take(r, &view, index);
    if (code || *index == parent)
        return code;
    struct torch_need *need = &r->needs[*index];
    uint64_t end;
    if (offset < 0 || !sl_mul_u64((uint64_t)offset, sl_dtype_size(view.dtype), &need->shift) ||
        !sl_add_u64(need->shift, need->bytes, &end) || end > r->needs[parent].bytes)
        return sl_fail(r->err, SL_INPUT, r->file->path, "storage %s reaches outside of storage %s, "
                       "of which it is a view", r->storages[*index].key, r->storages[parent].key);
    need->parent = parent;
    return SL_OK;
}

int torch_storages_collect(struct torch_reader *r)
{
    uint32_t count = r->pickle.count;
    r->persid_storage = SL_ARENA_NEW(&r->scratch, int32_t, (uint64_t)count + 1);
    if (!r->persid_storage)
        return sl_fail_memory(r->err, ((uint64_t)count + 1) * sizeof(int32_t));
    for (sl_node_id id = 1; id <= count; id++) {
        const struct sl_node *n = torch_node(r, id);
        struct storage_id s;
        r->persid_storage[id] = -1;
        if (n->kind != SL_NODE_PERSID || !storage_id_take(r, n, &s))
            continue;
        int code = storage_take(r, &s, &r->persid_storage[id]);
        if (!code && s.view)
            code = view_take(r, &s, &r->persid_storage[id]);
        if (code)
            return code;
    }
    return SL_OK;
}

static void place_view(struct torch_reader *r, size_t i)
{
    const struct sl_torch_storage *whole = &r->storages[r->needs[i].parent];
    struct sl_torch_storage *view = &r->storages[i];
    view->offset = whole->offset + r->needs[i].shift;
    view->bytes = view->packed = r->needs[i].bytes;
    view->missing = whole->missing;
}

int torch_storages_check(struct torch_reader *r)
{
    for (size_t i = 0; i < r->storage_count; i++) {
        const struct sl_torch_storage *s = &r->storages[i];
        if (r->needs[i].parent >= 0)
            place_view(r, i);
        if (s->missing && r->out->kind != SL_TORCH_BARE_PICKLE)
            return sl_fail(r->err, SL_INPUT, r->file->path, "storage %s is missing: the pickle names "
                           "it, the file does not have it", s->key);
        if (!s->missing && s->bytes < r->needs[i].bytes)
            return sl_fail(r->err, SL_INPUT, r->file->path, "storage %s has %llu bytes in the "
                           "file, but the pickle says %llu", s->key, ULL(s->bytes),
                           ULL(r->needs[i].bytes));
    }
    return SL_OK;
}

/* --- tensors ------------------------------------------------------------ */

/* One call, looked through the wrappers around it. */
struct call {
    enum torch_name what;
    const struct sl_node_list *args;
    const char *type;              /* class, where it is not a plain tensor */
    bool is_parameter, is_parameter_grad;
};

static int out_of_memory(struct torch_reader *r, uint64_t bytes)
{
    return sl_fail_memory(r->err, bytes);
}

static int refuse(struct torch_reader *r, const char *what)
{
    char path[512];
    torch_path(r, path, sizeof path);
    return sl_fail(r->err, SL_INPUT, r->file->path, "tensor %s: %s", path[0] ? path : "(the only)",
                   what);
}

/* Sizes or strides: a tuple of 64-bit ints. */
static int take_ints(struct torch_reader *r, sl_node_id id, const int64_t **numbers,
                     uint32_t *count)
{
    const struct sl_node_list *items = torch_items(r, id);
    if (!items)
        return refuse(r, "its size or stride is no tuple");
    if (items->count > SL_LIMIT_DIMS)
        return refuse(r, "more than 64 axes");
    int64_t *taken = SL_ARENA_NEW(r->arena, int64_t, items->count);
    if (!taken)
        return out_of_memory(r, items->count * sizeof *taken);
    for (uint32_t i = 0; i < items->count; i++)
        if (!torch_int(r, items->ids[i], &taken[i]))
            return refuse(r, "a size or stride that is no 64-bit integer");
    *numbers = taken;
    *count = items->count;
    return SL_OK;
}

static int take_shape(struct torch_reader *r, sl_node_id size, sl_node_id stride,
                      struct sl_torch_tensor *t)
{
    uint32_t steps = 0;
    int code = take_ints(r, size, &t->shape, &t->ndim);
    if (!code)
        code = take_ints(r, stride, &t->stride, &steps);
    if (!code && t->ndim != steps)
        return refuse(r, "its size and its stride have not the same number of axes");
    return code;
}

/* Lazily conjugated or negated: {'conj': True}, {'neg': True}. */
static void take_metadata(const struct torch_reader *r, sl_node_id id, struct sl_torch_tensor *t)
{
    const struct sl_node *n = torch_node(r, id);
    for (uint32_t i = 0; n->kind == SL_NODE_DICT && i + 1 < n->u.items.count; i += 2) {
        bool on;
        if (!torch_bool(r, n->u.items.ids[i + 1], &on) || !on)
            continue;
        if (torch_is_text(r, n->u.items.ids[i], "conj"))
            t->conj = true;
        else if (torch_is_text(r, n->u.items.ids[i], "neg"))
            t->neg = true;
    }
}

/* With all sizes > 0 the last element is offset + sum((size - 1) * stride). */
static const char *bounds(const struct torch_reader *r, const struct sl_torch_tensor *t,
                          uint64_t *count, char *text, size_t room)
{
    uint64_t last = t->storage_offset, reach, bytes;
    for (uint32_t d = 0; d < t->ndim; d++)
        if (t->shape[d] < 0 || t->stride[d] < 0)
            return "a negative size or stride";
    if (!sl_shape_count(t->shape, t->ndim, count))
        return "its size overflows";
    if (!*count)
        return NULL;
    for (uint32_t d = 0; d < t->ndim; d++)
        if (!sl_mul_u64((uint64_t)(t->shape[d] - 1), (uint64_t)t->stride[d], &reach) ||
            !sl_add_u64(last, reach, &last))
            return "its reach overflows";
    if (!sl_add_u64(last, 1, &last) || !sl_mul_u64(last, sl_dtype_size(t->dtype), &bytes) ||
        !sl_mul_u64(*count, sl_dtype_size(t->dtype), &reach) || reach > INT64_MAX)
        return "its reach overflows";
    if (t->storage < 0 || bytes <= r->needs[t->storage].bytes)
        return NULL;
    snprintf(text, room, "needs %llu bytes of storage %s, which has %llu", ULL(bytes),
             r->storages[t->storage].key, ULL(r->needs[t->storage].bytes));
    return text;
}

/* The storage of a tensor; *index -1: an object that is none of this file's
 * storages (a pickle inside a pickle), so the tensor stays opaque. */
static int take_storage(struct torch_reader *r, sl_node_id id, int32_t *index)
{
    enum sl_node_kind kind = torch_node(r, id)->kind;
    *index = kind == SL_NODE_PERSID ? r->persid_storage[id] : -1;
    if (kind != SL_NODE_PERSID && kind != SL_NODE_CALL)
        return refuse(r, "its storage is no storage");
    return SL_OK;
}

/* v2, v3, old and quantized: they begin alike. *made false: stays opaque. A
 * tensor that is described wrongly is refused: weights must not get lost. */
static int take_strided(struct torch_reader *r, const struct call *c, struct sl_torch_tensor *t,
                        bool *made)
{
    const struct sl_node_list *a = c->args;
    const uint32_t least = c->what == TORCH_NAME_TENSOR_OLD ? 4
                         : c->what == TORCH_NAME_TENSOR_V2 ? 6 : 7;
    int64_t offset;
    if (a->count < least)
        return refuse(r, "parts of its description are missing");
    int code = take_storage(r, a->ids[0], &t->storage);
    if (code || t->storage < 0)
        return code;
    code = take_shape(r, a->ids[2], a->ids[3], t);
    if (code)
        return code;
    if (!torch_int(r, a->ids[1], &offset))
        return refuse(r, "its storage offset is no 64-bit integer");
    const bool is_v3 = c->what == TORCH_NAME_TENSOR_V3;
    t->dtype = is_v3 ? torch_dtype_of(r, a->ids[6]) : r->storages[t->storage].dtype;
    if (t->dtype == SL_DTYPE_UNKNOWN)
        return SL_OK;
    if (c->what == TORCH_NAME_QUANTIZED && t->dtype == SL_BITS8)
        return SL_OK;        /* quint4x2, quint2x4: several elements in a byte; the storage is shown */
    const uint32_t grad = c->what == TORCH_NAME_QUANTIZED ? 5 : 4;
    if (a->count > grad)
        torch_bool(r, a->ids[grad], &t->requires_grad);
    const uint32_t metadata = is_v3 ? 7 : 6;
    if (c->what != TORCH_NAME_QUANTIZED && a->count > metadata)
        take_metadata(r, a->ids[metadata], t);
    if (offset < 0)
        return refuse(r, "a negative storage offset");
    t->storage_offset = (uint64_t)offset;
    *made = true;
    return SL_OK;
}

static int take_meta(struct torch_reader *r, const struct call *c, struct sl_torch_tensor *t,
                     bool *made)
{
    const struct sl_node_list *a = c->args;
    t->storage = -1;
    if (a->count < 3 || !(t->dtype = torch_dtype_of(r, a->ids[0])))
        return SL_OK;
    int code = take_shape(r, a->ids[1], a->ids[2], t);
    if (code)
        return code;
    if (a->count > 3)
        torch_bool(r, a->ids[3], &t->requires_grad);
    *made = true;
    return SL_OK;
}

/* Looks through parameters, subclasses and device copies at the call inside. */
static bool unwrap(struct torch_reader *r, sl_node_id id, struct call *c)
{
    enum { WRAPPERS_MOST = 16 };
    c->what = torch_call(r, id, &c->args);
    for (int i = 0; i < WRAPPERS_MOST; i++) {
        const struct sl_node_list *a = c->args;
        if (c->what == TORCH_NAME_PARAMETER || c->what == TORCH_NAME_FROM_CPU) {
            if (a->count < 2)
                return false;
            if (c->what == TORCH_NAME_PARAMETER) {
                c->is_parameter = true;
                torch_bool(r, a->ids[1], &c->is_parameter_grad);
            }
            c->what = torch_call(r, a->ids[0], &c->args);
        } else if (c->what == TORCH_NAME_FROM_TYPE) {
            if (a->count < 3)
                return false;
            const struct sl_node *f = torch_node(r, a->ids[0]);
            const struct sl_node *args = torch_node(r, a->ids[2]);
            if (f->kind != SL_NODE_GLOBAL || args->kind != SL_NODE_TUPLE)
                return false;
            c->type = torch_global_name(r, a->ids[1]);
            c->what = torch_name_of(f->u.global.module, f->u.global.name);
            c->args = &args->u.items;
        } else {
            return true;
        }
    }
    return false;
}

static int tensor_add(struct torch_reader *r, const struct sl_torch_tensor *t, int64_t *index)
{
    if (r->tensor_count == r->tensor_room) {
        size_t room = r->tensor_room ? 2 * r->tensor_room : 64;
        struct sl_torch_tensor *grown = realloc(r->tensors, room * sizeof *grown);
        if (!grown)
            return out_of_memory(r, room * sizeof *grown);
        r->tensors = grown;
        r->tensor_room = room;
    }
    *index = (int64_t)r->tensor_count;
    r->tensors[r->tensor_count++] = *t;
    return SL_OK;
}

int torch_tensor_make(struct torch_reader *r, sl_node_id id, bool *made, int64_t *index,
                      const char **type)
{
    struct call c = {0};
    struct sl_torch_tensor t = { .storage = -1 };
    *made = false;
    if (!unwrap(r, id, &c))
        return SL_OK;
    int code = SL_OK;
    switch (c.what) {
    case TORCH_NAME_TENSOR_V2:
    case TORCH_NAME_TENSOR_V3:
    case TORCH_NAME_TENSOR_OLD:
    case TORCH_NAME_QUANTIZED:
        code = take_strided(r, &c, &t, made);
        break;
    case TORCH_NAME_META:
        code = take_meta(r, &c, &t, made);
        break;
    default:
        break;
    }
    if (code || !*made)
        return code;
    char text[256];
    uint64_t count = 0;
    const char *wrong = bounds(r, &t, &count, text, sizeof text);
    if (wrong)
        return refuse(r, wrong);
    if (!count)
        t.storage_offset = 0;        /* of nothing; it was not held against the storage */
    t.is_parameter = c.is_parameter;
    if (c.is_parameter)
        t.requires_grad = c.is_parameter_grad;
    t.kind = c.what == TORCH_NAME_QUANTIZED ? "quantized" : c.what == TORCH_NAME_META ? "meta"
           : c.is_parameter ? "parameter" : torch_part_kind(r);
    *type = c.type;
    return tensor_add(r, &t, index);
}

int torch_tensor_of_storage(struct torch_reader *r, sl_node_id id, bool *made, int64_t *index)
{
    int32_t storage = r->persid_storage[id];
    *made = storage >= 0;
    if (!*made)
        return SL_OK;
    int64_t *numbers = SL_ARENA_NEW(r->arena, int64_t, 2);
    if (!numbers)
        return out_of_memory(r, 2 * sizeof *numbers);
    enum sl_dtype dtype = r->storages[storage].dtype;
    numbers[0] = (int64_t)(r->needs[storage].bytes / sl_dtype_size(dtype));
    numbers[1] = 1;
    struct sl_torch_tensor t = { .dtype = dtype, .ndim = 1, .shape = numbers,
                                 .stride = numbers + 1, .storage = storage, .kind = "storage" };
    return tensor_add(r, &t, index);
}
