/* part.c: one file -> its tensors, args and iteration; and all files of a
 * checkpoint at once, a worker a file. */
#include "checkpoint/ckptread.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/map.h"
#include "base/num.h"
#include "base/pool.h"
#include "base/value.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CHUNKS 64
/* An object may refer to one tensor from several places (tied weights), not from
 * everywhere: parts that refer to their own parts over and over would be listed
 * for ever. */
#define MAX_REPEATS   16
#define REPEATS_ROOM  1000
#define MAX_STEPS     UINT64_C(20000000)   /* containers and leaves looked at in one file */

static const char *const megatron_iteration_keys[] = { "iteration", "total_iters" };

/* Dicts around a flat state dict in files that are not Megatron's. */
static const char *const wrapper_keys[] = { "state_dict", "model_state_dict", "model", "module" };
/* Top-level keys of other training programs whose tensors are no weights. */
static const char *const state_keys[] = { "optimizer", "optimizers", "optimizer_states", "optimizer_state_dict",
                                          "lr_scheduler", "lr_schedulers", "scheduler", "rng_state", "rng_states" };

/* Prefixes that wrappers of training code put before a Megatron name, and what
 * must follow for them to be one. Source: megatron-checkpoints reference 3; the
 * MiniCPM fork's distillation writes student_model. */
static const struct { const char *prefix; bool needs_core; } name_prefixes[] = {
    { "module.", false }, { "student_model.", false }, { "model.", true },
};
static const char *const core_names[] = { "decoder.", "embedding.", "encoder.", "output_layer.", "language_model.", "mtp." };

static bool is_listed(const char *s, size_t len, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(list[i]) == len && !memcmp(s, list[i], len))
            return true;
    return false;
}

bool ckpt_is_wrapper_key(const char *key, size_t len)
{
    return is_listed(key, len, wrapper_keys, sizeof wrapper_keys / sizeof *wrapper_keys);
}

bool ckpt_is_state_key(const char *key, size_t len)
{
    return is_listed(key, len, state_keys, sizeof state_keys / sizeof *state_keys);
}

bool ckpt_is_core_name(const char *name)
{
    for (size_t i = 0; i < sizeof core_names / sizeof *core_names; i++)
        if (sl_text_starts(name, core_names[i]))
            return true;
    return false;
}

const char *ckpt_bare_name(const char *name)
{
    for (size_t i = 0; i < sizeof name_prefixes / sizeof *name_prefixes; ) {
        const char *rest = name + strlen(name_prefixes[i].prefix);
        if (sl_text_starts(name, name_prefixes[i].prefix) && (!name_prefixes[i].needs_core || ckpt_is_core_name(rest))) {
            name = rest;
            i = 0;
        } else {
            i++;
        }
    }
    return name;
}

/* ---- tensors -------------------------------------------------------------- */

static struct sl_tensor *new_tensor(struct sl_ckpt_file *f)
{
    if (f->tensor_count == f->tensor_room) {
        const size_t room = f->tensor_room ? 2 * f->tensor_room : 256;
        struct sl_tensor *grown = SL_ARENA_NEW(&f->arena, struct sl_tensor, room);
        if (!grown)
            return NULL;
        if (f->tensor_count)
            memcpy(grown, f->tensors, f->tensor_count * sizeof *grown);
        f->tensors = grown;
        f->tensor_room = room;
    }
    struct sl_tensor *t = &f->tensors[f->tensor_count];
    memset(t, 0, sizeof *t);
    return t;
}

const int64_t ckpt_no_offset[SL_LIMIT_DIMS];

static const int64_t *row_major(struct sl_arena *arena, const int64_t *shape, uint32_t ndim)
{
    int64_t *stride = SL_ARENA_NEW(arena, int64_t, ndim);
    int64_t step = 1;
    for (uint32_t a = ndim; stride && a-- > 0; ) {
        stride[a] = step;
        if (!sl_mul_i64(step, sl_max_i64(shape[a], 1), &step))
            return NULL;
    }
    return stride;
}

/* Axes of length 1 may have any stride. */
static bool is_row_major(const int64_t *shape, const int64_t *stride, uint32_t ndim)
{
    int64_t step = 1;
    for (uint32_t a = ndim; a-- > 0; ) {
        if (shape[a] == 0)
            return true;
        if (shape[a] != 1 && stride[a] != step)
            return false;
        if (!sl_mul_i64(step, shape[a], &step))
            return false;
    }
    return true;
}

/* ---- torch objects --------------------------------------------------------- */

/* A depth-first walk over an object with a stack of its own. */
struct lister {
    struct sl_ckpt_file *f;
    struct sl_buf path;
    struct frame { const struct sl_value *value; size_t next, path_len, tensors; } *frames;
    size_t depth, room;
    const struct sl_value **barren;  /* containers without a tensor in them: a set by address */
    size_t barren_count, barren_room;
    uint64_t steps;
    uint32_t flags;                  /* of every tensor found */
    int32_t chunk;
    size_t name_at;                  /* the name is the path from here on */
    bool megatron;
};

static int out_of_memory(struct lister *l)
{
    return sl_fail_memory(l->f->err, l->path.len + sizeof(struct sl_tensor));
}

/* The place of a torch tensor's bytes; flags for what can't be read. */
static int place_tensor(const struct sl_ckpt_file *f, const struct sl_torch_tensor *from, struct sl_tensor *t)
{
    const uint32_t size = sl_dtype_size(t->dtype);
    uint64_t offset;
    t->storage = from->storage;
    if (from->storage < 0 || (uint32_t)from->storage >= f->torch.storage_count || !size) {
        t->storage = -1;
        t->flags |= SL_TENSOR_NO_DATA;
        return SL_OK;
    }
    const struct sl_torch_storage *s = &f->torch.storages[from->storage];
    if (!sl_mul_u64(from->storage_offset, size, &offset) || !sl_add_u64(offset, s->offset, &offset))
        return SL_INPUT;
    t->offset = offset;
    t->storage_begin = s->offset;
    t->storage_bytes = s->bytes;
    if (s->missing || from->conj || from->neg)
        t->flags |= SL_TENSOR_NO_DATA;
    if (s->deflated)
        t->flags |= SL_TENSOR_DEFLATED;
    if (f->torch.big_endian)
        t->flags |= SL_TENSOR_BIG_ENDIAN;
    return SL_OK;
}

static int add_torch_tensor(struct lister *l, int64_t index)
{
    struct sl_ckpt_file *f = l->f;
    if (index < 0 || (uint64_t)index >= f->torch.tensor_count)
        return SL_OK;
    if (f->tensor_count >= (uint64_t)f->torch.tensor_count * MAX_REPEATS + REPEATS_ROOM)
        return sl_fail(f->err, SL_INPUT, f->file.path, "its object refers to %u tensors from more than %zu places",
                       f->torch.tensor_count, f->tensor_count);
    const struct sl_torch_tensor *from = &f->torch.tensors[index];
    struct sl_tensor *t = new_tensor(f);
    const char *path = sl_arena_strn(&f->arena, l->path.data ? l->path.data : "", l->path.len);
    if (!t || !path || l->path.failed)
        return out_of_memory(l);

    t->path = path;
    t->name = path + sl_min_u64(l->name_at, l->path.len);
    if (l->megatron)
        t->name = ckpt_bare_name(t->name);
    t->dtype = from->dtype;
    t->ndim = from->ndim;
    t->shape = t->global_shape = from->shape;
    t->stride = from->stride;
    t->global_offset = ckpt_no_offset;
    t->flags = l->flags;
    t->chunk = l->chunk;
    if (sl_text_ends(t->name, "._extra_state") || strstr(t->name, "._extra_state."))
        t->flags |= SL_TENSOR_EXTRA;
    if (!sl_shape_count(t->shape, t->ndim, &t->count) || !sl_mul_u64(t->count, sl_dtype_size(t->dtype), &t->bytes) ||
        t->ndim > SL_LIMIT_DIMS || place_tensor(f, from, t))
        return sl_fail(f->err, SL_INPUT, f->file.path, "%s: its shape is too large", path);
    if (!is_row_major(t->shape, t->stride, t->ndim))
        t->flags |= SL_TENSOR_STRIDED;
    f->tensor_count++;
    return SL_OK;
}

/* ".key" behind the path. NUL bytes would end the name early: they are spelt. */
static void append_key(struct lister *l, const struct sl_value *key, size_t index)
{
    if (l->path.len)
        sl_buf_char(&l->path, '.');
    if (!key)
        sl_buf_printf(&l->path, "%zu", index);
    else if (key->kind == SL_VALUE_INT || key->kind == SL_VALUE_BOOL)
        sl_buf_printf(&l->path, "%lld", (long long)key->i);
    else if (key->kind != SL_VALUE_STR)
        sl_value_print(key, 80, &l->path);
    else
        for (size_t at = 0; at < key->len; at++)
            if (key->s[at])
                sl_buf_char(&l->path, key->s[at]);
            else
                sl_buf_str(&l->path, "\\0");
}

/* ---- containers that hold no tensor: looked at once, however often referred to ---- */

static size_t barren_slot(const struct sl_value *const *set, size_t room, const struct sl_value *v)
{
    size_t at = (size_t)((uintptr_t)v / sizeof *v * UINT64_C(0x9E3779B97F4A7C15) >> 17) & (room - 1);
    while (set[at] && set[at] != v)
        at = (at + 1) & (room - 1);
    return at;
}

static bool is_barren(const struct lister *l, const struct sl_value *v)
{
    return l->barren_room && l->barren[barren_slot(l->barren, l->barren_room, v)] == v;
}

/* Without memory it is only looked at again. */
static void set_barren(struct lister *l, const struct sl_value *v)
{
    if (2 * (l->barren_count + 1) > l->barren_room) {
        const size_t room = l->barren_room ? 2 * l->barren_room : 256;
        const struct sl_value **set = calloc(room, sizeof *set);
        if (!set)
            return;
        for (size_t i = 0; i < l->barren_room; i++)
            if (l->barren[i])
                set[barren_slot(set, room, l->barren[i])] = l->barren[i];
        free(l->barren);
        l->barren = set;
        l->barren_room = room;
    }
    l->barren[barren_slot(l->barren, l->barren_room, v)] = v;
    l->barren_count++;
}

static bool may_hold_tensors(const struct lister *l, const struct sl_value *v)
{
    if (!v)
        return false;
    return v->kind == SL_VALUE_TENSOR ||
           ((v->kind == SL_VALUE_DICT || v->kind == SL_VALUE_LIST) && v->len && !is_barren(l, v));
}

static int push(struct lister *l, const struct sl_value *v)
{
    if (l->depth >= SL_LIMIT_PICKLE_DEPTH)
        return sl_fail(l->f->err, SL_INPUT, l->f->file.path, "its object is nested more than %d deep", SL_LIMIT_PICKLE_DEPTH);
    if (l->depth == l->room) {
        const size_t room = l->room ? 2 * l->room : 32;
        struct frame *frames = realloc(l->frames, room * sizeof *frames);
        if (!frames)
            return out_of_memory(l);
        l->frames = frames;
        l->room = room;
    }
    l->frames[l->depth++] = (struct frame){ .value = v, .path_len = l->path.len, .tensors = l->f->tensor_count };
    return SL_OK;
}

static int visit(struct lister *l, const struct sl_value *v)
{
    if (!may_hold_tensors(l, v))
        return SL_OK;
    if (++l->steps > MAX_STEPS)
        return sl_fail(l->f->err, SL_INPUT, l->f->file.path, "its object has more than %llu parts, counted by reference",
                       (unsigned long long)MAX_STEPS);
    if (v->kind == SL_VALUE_TENSOR)
        return add_torch_tensor(l, v->i);
    return push(l, v);
}

/* Every tensor below v. The path so far stands in l->path. */
static int list_tree(struct lister *l, const struct sl_value *v)
{
    int code = visit(l, v);
    while (!code && l->depth) {
        struct frame *top = &l->frames[l->depth - 1];
        l->path.len = top->path_len;
        if (top->next == top->value->len) {
            if (l->f->tensor_count == top->tensors)
                set_barren(l, top->value);
            l->depth--;
            continue;
        }
        const size_t i = top->next++;
        const struct sl_value *in = top->value->items[i];
        if (!may_hold_tensors(l, in))
            continue;
        append_key(l, top->value->kind == SL_VALUE_DICT ? top->value->keys[i] : NULL, i);
        code = l->path.failed ? out_of_memory(l) : visit(l, in);
    }
    l->depth = 0;
    return code;
}

static int list_below(struct lister *l, const char *key, const struct sl_value *v, bool key_in_name, uint32_t flags,
                      int32_t chunk)
{
    sl_buf_clear(&l->path);
    sl_buf_str(&l->path, key);
    l->name_at = key_in_name ? 0 : strlen(key) + 1;
    l->flags = flags;
    l->chunk = chunk;
    return list_tree(l, v);
}

/* modelN: N, or -1. */
static int32_t chunk_of(const char *key)
{
    int64_t n;
    if (!sl_text_starts(key, "model") || !key[5] || !sl_text_parse_i64(key + 5, &n) || n < 0 || n >= MAX_CHUNKS)
        return -1;
    return (int32_t)n;
}

static const char *key_text(const struct sl_value *dict, size_t i)
{
    const char *s = sl_value_str(dict->keys[i]);
    return s ? s : "";
}

static bool holds_core_names(const struct sl_value *dict)
{
    if (!dict || dict->kind != SL_VALUE_DICT)
        return false;
    for (size_t i = 0; i < dict->len; i++) {
        const char *name = ckpt_bare_name(key_text(dict, i));
        if (ckpt_is_core_name(name) || !strcmp(name, "language_model"))
            return true;
    }
    return false;
}

/* Is this object what Megatron saves for a rank: {"model" or "model0": names of
 * Megatron's, ..}? The MiniCPM converters write nothing but "model". */
static bool is_megatron(const struct sl_value *object)
{
    const struct sl_value *model = sl_value_get(object, "model");
    if (!model)
        model = sl_value_get(object, "model0");
    if (!model)
        return holds_core_names(object);
    return holds_core_names(model) ||
           (model->kind == SL_VALUE_DICT && sl_value_get(object, "checkpoint_version") && sl_value_get(object, "args"));
}

static int list_megatron(struct lister *l, const struct sl_value *object)
{
    struct sl_ckpt_file *f = l->f;
    const struct sl_value *args = sl_value_get(object, "args");
    f->args = args && args->kind == SL_VALUE_DICT ? args : NULL;
    for (size_t i = 0; i < sizeof megatron_iteration_keys / sizeof *megatron_iteration_keys && f->iteration < 0; i++)
        if (!sl_value_int(sl_value_get(object, megatron_iteration_keys[i]), &f->iteration) || f->iteration < 0)
            f->iteration = -1;
    if (!sl_value_double(sl_value_get(object, "checkpoint_version"), &f->version))
        f->version = -1;

    const bool bare = !sl_value_get(object, "model") && !sl_value_get(object, "model0");
    f->has_model = sl_value_get(object, "model") || bare;
    int code = SL_OK;
    for (size_t i = 0; !code && i < object->len; i++) {
        const char *key = key_text(object, i);
        const int32_t chunk = chunk_of(key);
        if (!strcmp(key, "args"))
            continue;
        if (chunk >= 0)
            f->chunks |= UINT64_C(1) << chunk;
        if (chunk >= 0 || !strcmp(key, "model"))
            code = list_below(l, key, object->items[i], false, 0, chunk < 0 ? 0 : chunk);
        else if (bare && ckpt_is_core_name(ckpt_bare_name(key)))
            code = list_below(l, key, object->items[i], true, 0, 0);
        else
            code = list_below(l, key, object->items[i], true, SL_TENSOR_OPTIMIZER, 0);
    }
    return code;
}

static int list_plain(struct lister *l, const struct sl_value *object)
{
    if (object->kind != SL_VALUE_DICT) {
        l->name_at = 0;
        if (object->kind == SL_VALUE_TENSOR)
            sl_buf_str(&l->path, "tensor");
        return list_tree(l, object);
    }
    int code = SL_OK;
    for (size_t i = 0; !code && i < object->len; i++) {
        const char *key = key_text(object, i);
        const struct sl_value *v = object->items[i];
        const bool is_dict = v && v->kind == SL_VALUE_DICT;
        sl_buf_clear(&l->path);
        append_key(l, object->keys[i], i);
        l->name_at = is_dict && ckpt_is_wrapper_key(key, strlen(key)) ? l->path.len + 1 : 0;
        l->flags = v && v->kind != SL_VALUE_TENSOR && ckpt_is_state_key(key, strlen(key)) ? SL_TENSOR_OPTIMIZER : 0;
        code = list_tree(l, v);
    }
    return code;
}

static int no_checkpoint(struct sl_ckpt_file *f, const struct sl_value *object)
{
    struct sl_buf keys = { 0 };
    if (object && object->kind == SL_VALUE_DICT)
        for (size_t i = 0; i < object->len && i < 6; i++)
            sl_buf_printf(&keys, "%s%s", i ? ", " : "", key_text(object, i));
    const int code = keys.len
        ? sl_fail(f->err, SL_INPUT, f->file.path, "it holds no tensors, only %s: not a checkpoint", keys.data)
        : sl_fail(f->err, SL_INPUT, f->file.path, "it is a pickle without tensors: not a checkpoint");
    sl_buf_free(&keys);
    return code;
}

static int open_torch(struct sl_ckpt_file *f, bool megatron)
{
    f->is_torch = true;
    int code = sl_torch_open(&f->file, 0, f->file.size, &f->arena, &f->torch, f->err);
    if (code)
        return code;
    const struct sl_value *object = f->torch.object;
    if (!object)
        return no_checkpoint(f, NULL);
    f->megatron = object->kind == SL_VALUE_DICT && is_megatron(object);
    if (megatron && object->kind == SL_VALUE_DICT &&
        (sl_value_get(object, "model") || sl_value_get(object, "model0")))
        f->megatron = true;

    struct lister l = { .f = f, .megatron = f->megatron };
    code = f->megatron ? list_megatron(&l, object) : list_plain(&l, object);
    sl_buf_free(&l.path);
    free(l.frames);
    free(l.barren);
    if (!code && !f->tensor_count && !f->megatron)
        return no_checkpoint(f, object);
    if (!code && megatron && !f->megatron)
        return sl_fail(f->err, SL_INPUT, f->file.path,
                       "it holds tensors but no `model`: expected what Megatron-LM saves for one rank");
    return code;
}

/* ---- safetensors ------------------------------------------------------------ */

static int open_safetensors(struct sl_ckpt_file *f)
{
    int code = sl_st_open(&f->file, &f->arena, &f->st, f->err);
    if (code)
        return code;
    f->tensors = SL_ARENA_NEW(&f->arena, struct sl_tensor, f->st.count);
    if (!f->tensors)
        return sl_fail_memory(f->err, f->st.count * sizeof(struct sl_tensor));
    for (uint32_t i = 0; i < f->st.count; i++) {
        const struct sl_st_tensor *from = &f->st.tensors[i];
        struct sl_tensor *t = &f->tensors[i];
        *t = (struct sl_tensor){ .name = from->name, .path = from->name, .dtype = from->dtype, .ndim = from->ndim,
                                 .shape = from->shape, .global_shape = from->shape, .global_offset = ckpt_no_offset,
                                 .bytes = from->bytes, .offset = from->offset, .storage_begin = from->offset,
                                 .storage_bytes = from->bytes, .storage = (int32_t)i };
        if (from->ndim > SL_LIMIT_DIMS || !sl_shape_count(from->shape, from->ndim, &t->count))
            return sl_fail(f->err, SL_INPUT, f->file.path, "%s: its shape is too large", from->name);
        t->stride = row_major(&f->arena, from->shape, from->ndim);
        if (!t->stride)
            return sl_fail_memory(f->err, from->ndim * sizeof(int64_t));
    }
    f->tensor_count = f->tensor_room = f->st.count;
    return SL_OK;
}

/* ---- any file ----------------------------------------------------------------- */

#define HEAD_BYTES 4096
#define HEAD_LEAST 16       /* what a format can be told from */

static int open_by_content(struct sl_ckpt_file *f, bool megatron)
{
    unsigned char head[HEAD_BYTES];
    const size_t len = (size_t)sl_min_u64(f->file.size, sizeof head);
    if (!len)
        return sl_fail(f->err, SL_INPUT, f->file.path, "the file is empty");
    int code = sl_file_read(&f->file, 0, head, len, f->err);
    if (code)
        return code;
    if (len < HEAD_LEAST)
        return sl_fail(f->err, SL_INPUT, f->file.path, "it is only %zu bytes long: neither a torch nor a safetensors file", len);
    if (sl_torch_is(head, len))
        return open_torch(f, megatron);
    const char *what = sl_sniff(head, len);
    if (sl_st_is(head, len, f->file.size) || (!what && sl_text_ends(f->file.path, ".safetensors")))
        return open_safetensors(f);
    /* a pickle of protocol 0 is text: what it asks for is told even if it is nothing else */
    const bool may_be_pickle = !what || !strcmp(what, "plain text");
    code = may_be_pickle ? open_torch(f, megatron) : SL_INPUT;
    if (code == SL_INPUT && what)
        return sl_fail(f->err, SL_INPUT, f->file.path, "it is %s; expected a torch or safetensors file", what);
    return code;
}

/* A file that is refused may still ask for something harmful: that is told too. */
static void tell_calls_in_error(struct sl_ckpt_file *f)
{
    struct sl_buf names = { 0 };
    for (uint32_t g = 0; f->is_torch && g < f->torch.global_count && names.len < 200; g++)
        if (f->torch.globals[g].risk == 2)
            sl_buf_printf(&names, "%s%s", names.len ? ", " : "", f->torch.globals[g].name);
    if (names.len && !names.failed) {
        const struct sl_error was = *f->err;
        sl_fail(f->err, (int)was.code, was.where, "%.700s (its pickle asks for %s; nothing was run)", was.message, names.data);
        sl_fail_fault(f->err, was.fault);
    }
    sl_buf_free(&names);
}

const char *ckpt_damage_code(const struct sl_ckpt_file *f, const char **what)
{
    static const char *const codes[] = { [SL_FAULT_OTHER] = "damaged-shard", [SL_FAULT_CUT] = "truncated-shard",
                                         [SL_FAULT_BROKEN] = "damaged-shard", [SL_FAULT_DENIED] = "unreadable-shard" };
    const char *why = f->why ? f->why : "";
    const enum sl_fault fault = f->fault;
    const char *word = fault == SL_FAULT_CUT || fault == SL_FAULT_BROKEN ? strstr(why, ": ") : NULL;
    *what = word ? word + 2 : why;             /* the code says so */
    return f->identified && !f->file.size ? "truncated-shard" : codes[fault];
}

void ckpt_part_keep(struct sl_ckpt_file *f, const struct sl_error *err)
{
    f->err = NULL;
    if (!f->code)
        return;
    f->fault = err->fault;
    f->why_where = strdup(err->where);
    f->why = strdup(err->message);
    if (!f->why_where || !f->why)
        f->code = SL_MEMORY;
}

static void open_identified(struct sl_ckpt_file *f, bool megatron)
{
    f->identified = true;
    f->code = open_by_content(f, megatron);
    if (f->code) {
        f->tensor_count = 0;
        tell_calls_in_error(f);
        sl_file_close(&f->file);
    }
}

void ckpt_part_open(struct sl_ckpt_file *f, const char *path, bool megatron)
{
    struct sl_error err = { 0 };
    f->iteration = -1;
    f->version = -1;
    f->err = &err;
    f->code = sl_file_open(path, &f->file, &err);
    if (f->code)
        f->file.fd = -1;
    else
        open_identified(f, megatron);
    ckpt_part_keep(f, &err);
}

/* ---- all files ------------------------------------------------------------------ */

int ckpt_files_few(size_t count, const char *where, struct sl_error *err)
{
    return count <= SL_LIMIT_FILES ? SL_OK : sl_fail(err, SL_INPUT, where, "%zu files would be one checkpoint; more than %zu are not read",
                                                     count, SL_LIMIT_FILES);
}

int ckpt_files_new(struct sl_ckpt *c, size_t count, struct sl_error *err)
{
    c->files = SL_ARENA_NEW(&c->arena, struct sl_file_info, count);
    c->opened = SL_ARENA_NEW(&c->arena, struct sl_ckpt_file, count);
    c->open_files = SL_ARENA_NEW(&c->arena, uint32_t, count);
    if (!c->files || !c->opened || !c->open_files)
        return sl_fail_memory(err, count * sizeof(struct sl_ckpt_file));
    for (size_t i = 0; i < count; i++)
        c->opened[i].file.fd = -1;
    c->file_count = count;
    return SL_OK;
}

struct opening { struct sl_ckpt *c; bool megatron; };

static int open_one(void *arg, unsigned worker, uint64_t i)
{
    (void)worker;
    const struct opening *o = arg;
    struct sl_ckpt *c = o->c;
    struct sl_ckpt_file *f = &c->opened[i];
    ckpt_part_open(f, c->files[i].path, o->megatron);
    if (f->file.fd < 0)
        return 0;
    pthread_mutex_lock(&c->lock);
    if (c->open_count < c->open_limit)
        c->open_files[c->open_count++] = (uint32_t)i;
    else
        sl_file_close(&f->file);
    pthread_mutex_unlock(&c->lock);
    return 0;
}

int ckpt_parts_open(struct sl_ckpt *c, bool megatron, struct sl_error *err)
{
    struct opening o = { .c = c, .megatron = megatron };
    sl_parallel(sl_processors(), c->file_count, open_one, &o);

    size_t readable = 0;
    for (size_t i = 0; i < c->file_count; i++) {
        const struct sl_ckpt_file *f = &c->opened[i];
        c->files[i].size = f->identified ? f->file.size : 0;
        c->files[i].mtime_ns = f->identified ? f->file.mtime_ns : 0;
        if (f->code == SL_MEMORY)
            return sl_fail(err, SL_MEMORY, f->why_where ? f->why_where : "", "%s", f->why ? f->why : "out of memory");
        readable += !f->code;
    }
    if (readable || !c->file_count)
        return SL_OK;
    sl_fail(err, c->opened[0].code, c->opened[0].why_where, "%s", c->opened[0].why);
    sl_fail_fault(err, c->opened[0].fault);
    return c->opened[0].code;
}

/* "language_model." stands before mcore names in multimodal models; in files of the
 * old model class the same word is the outer dict, and is kept. */
static bool has_inner_language_model(const struct sl_ckpt *c)
{
    for (size_t i = 0; i < c->file_count; i++)
        for (size_t k = 0; c->opened[i].megatron && k < c->opened[i].tensor_count; k++)
            if (sl_text_starts(c->opened[i].tensors[k].name, "language_model.decoder."))
                return true;
    return false;
}

int ckpt_parts_merge(struct sl_ckpt *c, struct sl_error *err)
{
    const char *inner = "language_model.";
    const bool strip = has_inner_language_model(c);
    size_t count = 0;
    for (size_t i = 0; i < c->file_count; i++)
        count += c->opened[i].tensor_count;
    c->tensors = SL_ARENA_NEW(&c->arena, struct sl_tensor, count);
    if (!c->tensors)
        return sl_fail_memory(err, count * sizeof(struct sl_tensor));

    for (size_t i = 0; i < c->file_count; i++) {
        const struct sl_ckpt_file *f = &c->opened[i];
        c->files[i].tensors = f->tensor_count;
        for (size_t k = 0; k < f->tensor_count; k++) {
            struct sl_tensor *t = &c->tensors[c->tensor_count++];
            *t = f->tensors[k];
            t->file = (int32_t)i;
            t->rank = -1;
            if (strip && sl_text_starts(t->name, inner))
                t->name += strlen(inner);
        }
        if (f->is_torch && !c->torch_container && !f->code)
            c->torch_container = f->torch.kind == SL_TORCH_ZIP ? "zip" : "legacy";
    }
    return SL_OK;
}

/* ---- what one file alone can tell --------------------------------------------------- */

static void tell_globals(struct sl_ckpt *c)
{
    struct sl_map seen = { 0 };
    struct sl_buf unknown = { 0 };
    for (size_t i = 0; i < c->file_count; i++) {
        const struct sl_ckpt_file *f = &c->opened[i];
        struct sl_buf harmful = { 0 };
        for (uint32_t g = 0; f->is_torch && g < f->torch.global_count; g++) {
            const struct sl_torch_global *global = &f->torch.globals[g];
            uint64_t value = 0;
            bool added = false;
            if (global->risk == 2)
                sl_buf_printf(&harmful, "%s%s", harmful.len ? ", " : "", global->name);
            else if (global->risk == 1 && sl_map_add(&seen, global->name, strlen(global->name), &value, &added) &&
                     added && seen.count <= 8)
                sl_buf_printf(&unknown, "%s%s", unknown.len ? ", " : "", global->name);
        }
        if (harmful.len)
            sl_problem_add(&c->problems, "pickle-call", c->files[i].name, NULL,
                           "its pickle asks for %s; nothing was run", harmful.data);
        sl_buf_free(&harmful);
    }
    if (seen.count)
        sl_problem_add(&c->problems, "pickle-unknown", "", NULL, "%zu %s of no known checkpoint: %s%s", seen.count,
                       seen.count == 1 ? "class" : "classes", unknown.data, seen.count > 8 ? ", .." : "");
    sl_buf_free(&unknown);
    sl_map_free(&seen);
}

static void tell_checksums(struct sl_ckpt *c)
{
    size_t without = 0, torch = 0, first = 0;
    for (size_t i = c->file_count; i-- > 0; ) {
        const struct sl_ckpt_file *f = &c->opened[i];
        if (!f->is_torch || f->code)
            continue;
        torch++;
        if (f->torch.crc_missing) {
            without++;
            first = i;
        }
    }
    if (without)
        sl_problem_add(&c->problems, "crc-missing", without == 1 ? c->files[first].name : "", NULL,
                       "%zu of %zu torch files %s written without checksums", without, torch, without == 1 ? "was" : "were");
}

static void tell_unreadable(struct sl_ckpt *c)
{
    uint64_t states = 0, state_bytes = 0;
    for (size_t i = 0; i < c->file_count; i++) {
        const struct sl_ckpt_file *f = &c->opened[i];
        const struct sl_tensor *first = NULL;
        size_t unreadable = 0;
        for (size_t k = 0; k < f->tensor_count; k++) {
            const struct sl_tensor *t = &f->tensors[k];
            if (t->flags & SL_TENSOR_OPTIMIZER) {
                const bool told = !sl_text_starts(t->path, "rng_state");     /* every save has those */
                states += told;
                state_bytes += told ? t->bytes : 0;
            } else if (t->flags & SL_TENSOR_NO_DATA && t->count) {
                unreadable++;
                first = first ? first : t;
            }
        }
        if (unreadable)
            sl_problem_add(&c->problems, "unreadable-tensor", c->files[i].name, NULL,
                           "%s%s: no bytes that can be read", first->path, unreadable > 1 ? " and others" : "");
    }
    char bytes[32];
    if (states)
        sl_problem_add(&c->problems, "optimizer-ignored", "", NULL,
                       "%llu optimizer tensors (%s) are listed and not converted",
                       (unsigned long long)states, sl_text_bytes(state_bytes, bytes, sizeof bytes));
}

void ckpt_parts_tell(struct sl_ckpt *c)
{
    tell_globals(c);
    tell_checksums(c);
    tell_unreadable(c);
}
