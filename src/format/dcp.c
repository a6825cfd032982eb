/* dcp.c: the .metadata of a distributed checkpoint: from the graph of its pickle to
 * tensors, chunks, objects and the places of all of them.
 *
 *   Metadata            state_dict_metadata  {key: TensorStorageMetadata | BytesStorageMetadata}
 *                       storage_data         {MetadataIndex: _StorageInfo}
 *                       planner_data         {key: (path ..)} or None
 *   TensorStorageMetadata   properties (dtype first), size, chunks [ChunkStorageMetadata]
 *   ChunkStorageMetadata    offsets, sizes
 *   MetadataIndex           fqn, offset (absent for objects), index (a hint)
 *   _StorageInfo            relative_path, offset, length, transform_descriptors
 *
 * What else is there (plans of the save, Megatron's mcore_data) is not looked at. */
#include "format/dcp.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"
#include "base/text.h"
#include "format/torchread.h"

#include <stdlib.h>
#include <string.h>

/* Modules these classes have lived in: below the first two in every torch since 2.0, the
 * third in Megatron-core 0.15. */
static const char *const modules[] = { "torch.distributed.checkpoint.", "torch.distributed._shard.",
                                       "megatron.core.dist_checkpointing." };

enum dcp_class { CLASS_TENSOR, CLASS_BYTES, CLASS_CHUNK, CLASS_INDEX, CLASS_INFO, CLASS_COUNT };
static const char *const class_names[] = {
    [CLASS_TENSOR] = "TensorStorageMetadata", [CLASS_BYTES] = "BytesStorageMetadata", [CLASS_CHUNK] = "ChunkStorageMetadata",
    [CLASS_INDEX] = "MetadataIndex", [CLASS_INFO] = "_StorageInfo",
};

struct dcp_reader {
    struct torch_reader r;               /* the pickle, and what reads its nodes */
    struct sl_dcp *out;
    struct sl_map places;                /* key and offsets -> index into infos */
    struct sl_dcp_place *infos;
    struct sl_map file_numbers;          /* path -> index into files */
    const char **files;
    struct sl_dcp_tensor *tensors;
    struct sl_dcp_object *objects;
    struct { sl_node_id callable; bool is; } met[CLASS_COUNT];      /* the last that was compared */
    struct sl_buf key;                   /* a key of `places` while it is looked up */
};

/* ---- nodes ----------------------------------------------------------------------- */

static const struct sl_node *node(const struct dcp_reader *d, sl_node_id id)
{
    return torch_node(&d->r, id);
}

static int no_metadata(const struct dcp_reader *d, const char *what)
{
    return sl_fail(d->r.err, SL_INPUT, d->r.file->path, "it is no metadata of a distributed checkpoint: %s", what);
}

/* The name of the class that the node is an instance of; NULL: of none of these modules. */
static const char *class_of(const struct dcp_reader *d, sl_node_id id)
{
    const struct sl_node *n = node(d, id);
    if (n->kind != SL_NODE_CALL)
        return NULL;
    const struct sl_node *f = node(d, n->u.call.callable);
    for (size_t i = 0; f->kind == SL_NODE_GLOBAL && i < sizeof modules / sizeof *modules; i++)
        if (sl_text_starts(f->u.global.module, modules[i]))
            return f->u.global.name;
    return NULL;
}

/* All instances of a class name one node: it is compared once. */
static bool is_a(struct dcp_reader *d, sl_node_id id, enum dcp_class class)
{
    const struct sl_node *n = node(d, id);
    if (n->kind != SL_NODE_CALL)
        return false;
    if (d->met[class].callable != n->u.call.callable) {
        const char *is = class_of(d, id);
        d->met[class].callable = n->u.call.callable;
        d->met[class].is = is && !strcmp(is, class_names[class]);
    }
    return d->met[class].is;
}

/* The last state an object was given; 0: none. */
static sl_node_id state_of(const struct dcp_reader *d, sl_node_id id)
{
    uint32_t count;
    const sl_node_id *states = sl_node_states(&d->r.pickle, node(d, id), &count);
    return count ? states[count - 1] : 0;
}

/* A field of an object whose state is a dict; 0: it has none of that name. */
#define field(d, object, name) (field_of((d), (object), (name), sizeof(name) - 1))
static sl_node_id field_of(const struct dcp_reader *d, sl_node_id object, const char *name, size_t len)
{
    const struct sl_node *state = node(d, state_of(d, object));
    if (state->kind != SL_NODE_DICT)
        return 0;
    for (uint32_t i = state->u.items.count; i >= 2; i -= 2) {    /* the last of equal keys counts */
        const struct sl_node *key = node(d, state->u.items.ids[i - 2]);
        if ((key->kind == SL_NODE_STR || key->kind == SL_NODE_BYTES) && key->u.text.len == len && !memcmp(key->u.text.s, name, len))
            return state->u.items.ids[i - 1];
    }
    return 0;
}

static const struct sl_node *text_or_null(const struct dcp_reader *d, sl_node_id id)
{
    const struct sl_node *n = node(d, id);
    return n->kind == SL_NODE_STR && !memchr(n->u.text.s, 0, n->u.text.len) ? n : NULL;
}

/* The pairs of a dict; NULL when it is none. */
static const struct sl_node_list *dict_or_null(const struct dcp_reader *d, sl_node_id id)
{
    const struct sl_node *n = node(d, id);
    return n->kind == SL_NODE_DICT ? &n->u.items : NULL;
}

/* A torch.Size, tuple or list of numbers, none negative, of `ndim` axes (UINT32_MAX: any). */
static const int64_t *sizes_of(struct dcp_reader *d, sl_node_id id, uint32_t ndim, uint32_t *count)
{
    const struct sl_node_list *items = id ? torch_items(&d->r, id) : NULL;
    if (!items || items->count > SL_LIMIT_DIMS || (ndim != UINT32_MAX && items->count != ndim))
        return NULL;
    int64_t *sizes = SL_ARENA_NEW(d->r.arena, int64_t, items->count);
    for (uint32_t i = 0; sizes && i < items->count; i++)
        if (!torch_int(&d->r, items->ids[i], &sizes[i]) || sizes[i] < 0)
            return NULL;
    if (count)
        *count = items->count;
    return sizes;
}

/* ---- places ------------------------------------------------------------------------ */

/* What storage_data is looked up by: the key, and the offsets of a chunk (none: an object). */
static void make_key(struct dcp_reader *d, const char *key, size_t len, const int64_t *offset, uint32_t ndim)
{
    sl_buf_clear(&d->key);
    sl_buf_add(&d->key, key, len);
    sl_buf_char(&d->key, '\0');
    sl_buf_char(&d->key, offset ? 'c' : 'o');
    if (offset && ndim)
        sl_buf_add(&d->key, offset, ndim * sizeof *offset);
}

static int file_number(struct dcp_reader *d, const struct sl_node *path, int32_t *number)
{
    const size_t len = path->u.text.len;
    uint64_t at = d->out->file_count;
    bool added = false;
    if (!sl_path_is_inside(path->u.text.s, len))
        return sl_fail(d->r.err, SL_INPUT, d->r.file->path, "it names the file \"%.*s\"; expected a name inside the folder",
                       (int)sl_min_u64(len, 100), path->u.text.s);
    const char *name = sl_arena_strn(d->r.arena, path->u.text.s, len);
    if (!name || !sl_map_add(&d->file_numbers, name, len, &at, &added))
        return sl_fail_memory(d->r.err, len);
    if (added)
        d->files[d->out->file_count++] = name;
    *number = (int32_t)at;
    return SL_OK;
}

static int take_info(struct dcp_reader *d, sl_node_id id, struct sl_dcp_place *place)
{
    int64_t at, length;
    const struct sl_node *path = text_or_null(d, field(d, id, "relative_path"));
    if (!is_a(d, id, CLASS_INFO) || !path || !torch_int(&d->r, field(d, id, "offset"), &at) ||
        !torch_int(&d->r, field(d, id, "length"), &length) || at < 0 || length < 0)
        return no_metadata(d, "an entry of its storage_data is no _StorageInfo with a path, an offset and a length");
    const sl_node_id transforms = field(d, id, "transform_descriptors");
    const struct sl_node_list *list = transforms ? torch_items(&d->r, transforms) : NULL;
    if (list && list->count)
        return sl_fail(d->r.err, SL_UNSUPPORTED, d->r.file->path,
                       "items of %.*s were transformed when they were written (%.*s); only items stored as they are can be read",
                       (int)sl_min_u64(path->u.text.len, 100), path->u.text.s,
                       node(d, list->ids[0])->kind == SL_NODE_STR ? (int)sl_min_u64(node(d, list->ids[0])->u.text.len, 40) : 1,
                       node(d, list->ids[0])->kind == SL_NODE_STR ? node(d, list->ids[0])->u.text.s : "?");
    place->at = (uint64_t)at;
    place->length = (uint64_t)length;
    return file_number(d, path, &place->file);
}

static int take_place(struct dcp_reader *d, sl_node_id index, sl_node_id info, struct sl_dcp_place *place)
{
    const struct sl_node *fqn = text_or_null(d, field(d, index, "fqn"));
    if (!is_a(d, index, CLASS_INDEX) || !fqn)
        return no_metadata(d, "a key of its storage_data is no MetadataIndex");
    const sl_node_id offset = field(d, index, "offset");
    uint32_t ndim = 0;
    const int64_t *numbers = NULL;
    if (offset && node(d, offset)->kind != SL_NODE_NONE && !(numbers = sizes_of(d, offset, UINT32_MAX, &ndim)))
        return no_metadata(d, "the offset of a MetadataIndex is no tuple of numbers");
    const int code = take_info(d, info, place);
    if (code)
        return code;
    make_key(d, fqn->u.text.s, fqn->u.text.len, numbers, ndim);
    const char *key = d->key.failed ? NULL : sl_arena_copy(&d->r.scratch, d->key.data, d->key.len);
    if (!key || !sl_map_put(&d->places, key, d->key.len, (uint64_t)(place - d->infos)))
        return sl_fail_memory(d->r.err, d->key.len);
    return SL_OK;
}

static int take_places(struct dcp_reader *d, sl_node_id root)
{
    const struct sl_node_list *pairs = dict_or_null(d, field(d, root, "storage_data"));
    if (!pairs)
        return no_metadata(d, "it has no storage_data (which file holds what)");
    d->infos = SL_ARENA_NEW(&d->r.scratch, struct sl_dcp_place, pairs->count / 2);
    d->files = SL_ARENA_NEW(d->r.arena, const char *, pairs->count / 2);
    if (!d->infos || !d->files || !sl_map_reserve(&d->places, pairs->count / 2))
        return sl_fail_memory(d->r.err, pairs->count * sizeof *d->infos);
    int code = SL_OK;
    for (uint32_t i = 0; i + 1 < pairs->count && !code; i += 2)
        code = take_place(d, pairs->ids[i], pairs->ids[i + 1], &d->infos[i / 2]);
    d->out->files = d->files;
    return code;
}

static struct sl_dcp_place place_of(struct dcp_reader *d, const char *key, const int64_t *offset, uint32_t ndim)
{
    uint64_t at;
    make_key(d, key, strlen(key), offset, ndim);
    if (!d->key.failed && sl_map_get(&d->places, d->key.data, d->key.len, &at))
        return d->infos[at];
    return (struct sl_dcp_place){ .file = -1 };
}

/* ---- tensors -------------------------------------------------------------------------- */

static int no_tensor(const struct dcp_reader *d, const char *key, const char *what)
{
    return sl_fail(d->r.err, SL_INPUT, d->r.file->path, "it is no metadata of a distributed checkpoint: %s: %s", key, what);
}

static int take_chunk(struct dcp_reader *d, struct sl_dcp_tensor *t, sl_node_id id, struct sl_dcp_chunk *chunk)
{
    if (!is_a(d, id, CLASS_CHUNK))
        return no_tensor(d, t->key, "one of its chunks is no ChunkStorageMetadata");
    chunk->offset = sizes_of(d, field(d, id, "offsets"), t->ndim, NULL);
    chunk->size = sizes_of(d, field(d, id, "sizes"), t->ndim, NULL);
    if (!chunk->offset || !chunk->size)
        return no_tensor(d, t->key, "the offsets and sizes of a chunk are not as many numbers as its tensor has axes");
    chunk->place = place_of(d, t->key, chunk->offset, t->ndim);
    return SL_OK;
}

/* TensorProperties are pickled as a tuple, dtype first. */
static enum sl_dtype dtype_of(const struct dcp_reader *d, sl_node_id properties)
{
    const sl_node_id state = properties ? state_of(d, properties) : 0;
    const struct sl_node_list *items = state ? torch_items(&d->r, state) : NULL;
    if (items)
        return items->count ? torch_dtype_of(&d->r, items->ids[0]) : SL_DTYPE_UNKNOWN;
    const sl_node_id dtype = properties ? field(d, properties, "dtype") : 0;
    return dtype ? torch_dtype_of(&d->r, dtype) : SL_DTYPE_UNKNOWN;
}

static int take_tensor(struct dcp_reader *d, const char *key, sl_node_id id)
{
    struct sl_dcp_tensor *t = &d->tensors[d->out->tensor_count++];
    uint64_t count;
    t->key = key;
    t->shape = sizes_of(d, field(d, id, "size"), UINT32_MAX, &t->ndim);
    if (!t->shape || !sl_shape_count(t->shape, t->ndim, &count))
        return no_tensor(d, key, "its size is no tuple of numbers, or too large");
    t->dtype = dtype_of(d, field(d, id, "properties"));
    const sl_node_id list = field(d, id, "chunks");
    const struct sl_node_list *chunks = list ? torch_items(&d->r, list) : NULL;
    if (!chunks)
        return no_tensor(d, key, "it has no list of chunks");
    struct sl_dcp_chunk *made = SL_ARENA_NEW(d->r.arena, struct sl_dcp_chunk, chunks->count);
    if (!made)
        return sl_fail_memory(d->r.err, chunks->count * sizeof *made);
    t->chunks = made;
    t->chunk_count = chunks->count;
    d->out->chunk_count += chunks->count;
    int code = SL_OK;
    for (uint32_t i = 0; i < chunks->count && !code; i++)
        code = take_chunk(d, t, chunks->ids[i], &made[i]);
    return code;
}

static int take_entry(struct dcp_reader *d, sl_node_id name, sl_node_id value)
{
    const struct sl_node *text = node(d, name);
    if (text->kind != SL_NODE_STR || memchr(text->u.text.s, 0, text->u.text.len))
        return no_metadata(d, "a key of its state_dict_metadata is no text");
    const char *key = sl_arena_strn(d->r.arena, text->u.text.s, text->u.text.len);
    if (!key)
        return sl_fail_memory(d->r.err, text->u.text.len);
    if (is_a(d, value, CLASS_TENSOR))
        return take_tensor(d, key, value);
    if (!is_a(d, value, CLASS_BYTES))
        return no_tensor(d, key, "neither a tensor nor bytes");
    d->objects[d->out->object_count++] = (struct sl_dcp_object){ key, place_of(d, key, NULL, 0) };
    return SL_OK;
}

static int take_entries(struct dcp_reader *d, sl_node_id root)
{
    const struct sl_node_list *pairs = dict_or_null(d, field(d, root, "state_dict_metadata"));
    if (!pairs)
        return no_metadata(d, "it has no state_dict_metadata (which tensors there are)");
    d->tensors = SL_ARENA_NEW(d->r.arena, struct sl_dcp_tensor, pairs->count / 2);
    d->objects = SL_ARENA_NEW(d->r.arena, struct sl_dcp_object, pairs->count / 2);
    if (!d->tensors || !d->objects)
        return sl_fail_memory(d->r.err, pairs->count * sizeof *d->tensors);
    int code = SL_OK;
    for (uint32_t i = 0; i + 1 < pairs->count && !code; i += 2)
        code = take_entry(d, pairs->ids[i], pairs->ids[i + 1]);
    d->out->tensors = d->tensors;
    d->out->objects = d->objects;
    return code;
}

/* planner_data says which dicts a key came out of: the outermost is kept. */
static int take_nesting(struct dcp_reader *d, sl_node_id root)
{
    const struct sl_node_list *pairs = dict_or_null(d, field(d, root, "planner_data"));
    struct sl_map numbers = { 0 };
    bool ok = true;
    for (uint32_t i = 0; pairs && ok && i < d->out->tensor_count; i++)
        ok = sl_map_put(&numbers, d->tensors[i].key, strlen(d->tensors[i].key), i);
    for (uint32_t i = 0; pairs && ok && i + 1 < pairs->count; i += 2) {
        const struct sl_node *key = node(d, pairs->ids[i]);
        const struct sl_node_list *path = torch_items(&d->r, pairs->ids[i + 1]);
        uint64_t at;
        if (key->kind != SL_NODE_STR || !path || path->count < 2)
            continue;
        const struct sl_node *outer = node(d, path->ids[0]);
        d->out->nested = true;
        if (outer->kind == SL_NODE_STR && outer->u.text.len < key->u.text.len && key->u.text.s[outer->u.text.len] == '.' &&
            !memcmp(outer->u.text.s, key->u.text.s, outer->u.text.len) &&
            sl_map_get(&numbers, key->u.text.s, key->u.text.len, &at))
            d->tensors[at].outer = (uint32_t)outer->u.text.len;
    }
    sl_map_free(&numbers);
    return ok ? SL_OK : sl_fail_memory(d->r.err, d->out->tensor_count * sizeof(struct sl_map_slot));
}

/* ---- the whole ------------------------------------------------------------------------------ */

static int take_root(struct dcp_reader *d)
{
    const sl_node_id root = d->r.pickle.root;
    const char *name = class_of(d, root);
    if (!name || (strcmp(name, "Metadata") && strcmp(name, "MCoreMetadata"))) {
        const struct sl_node *n = node(d, root);
        const struct sl_node *f = n->kind == SL_NODE_CALL ? node(d, n->u.call.callable) : NULL;
        if (f && f->kind == SL_NODE_GLOBAL)
            return sl_fail(d->r.err, SL_INPUT, d->r.file->path, "it is no metadata of a distributed checkpoint: its object is "
                           "%.100s.%.100s, expected torch.distributed.checkpoint.metadata.Metadata", f->u.global.module, f->u.global.name);
        return no_metadata(d, "its object is of no class, expected torch.distributed.checkpoint.metadata.Metadata");
    }
    int code = take_places(d, root);
    code = code ? code : take_entries(d, root);
    return code ? code : take_nesting(d, root);
}

static int read_pickle(struct dcp_reader *d, char **bytes)
{
    const struct sl_file *file = d->r.file;
    unsigned char head[512];
    const size_t head_len = (size_t)sl_min_u64(file->size, sizeof head);
    if (!head_len)
        return sl_fail(d->r.err, SL_INPUT, file->path, "the file is empty");
    int code = sl_file_read(file, 0, head, head_len, d->r.err);
    if (code)
        return code;
    if (file->size > SL_LIMIT_PICKLE_BYTES)
        return sl_fail(d->r.err, SL_INPUT, file->path, "it has %llu bytes; at most %llu are read", (unsigned long long)file->size,
                       (unsigned long long)SL_LIMIT_PICKLE_BYTES);
    *bytes = malloc(file->size + 1);
    if (!*bytes)
        return sl_fail_memory(d->r.err, file->size);
    sl_memory_large(*bytes, file->size);
    code = sl_file_read(file, 0, *bytes, file->size, d->r.err);
    if (!code)
        code = sl_pickle_parse(*bytes, file->size, file->path, &d->r.scratch, &d->r.pickle, d->r.err);
    const char *what = code == SL_INPUT && head[0] != 0x80 ? sl_sniff(head, head_len) : NULL;
    return what ? sl_fail(d->r.err, SL_INPUT, file->path, "it is %s; expected a pickle", what) : code;
}

int sl_dcp_open(const struct sl_file *metadata, struct sl_arena *arena, struct sl_dcp *out,
                struct sl_error *err)
{
    struct sl_torch_file names = { .root = "" };
    struct dcp_reader d = { .r = { .file = metadata, .length = metadata->size, .arena = arena, .err = err, .out = &names },
                            .out = out };
    char *bytes = NULL;
    *out = (struct sl_dcp){ 0 };
    int code = read_pickle(&d, &bytes);
    if (d.r.pickle.global_count && torch_globals_tell(&d.r) && !code)
        code = sl_fail_memory(err, d.r.pickle.global_count * sizeof(struct sl_torch_global));
    out->globals = names.globals;
    out->global_count = names.global_count;
    if (!code)
        code = take_root(&d);
    sl_map_free(&d.places);
    sl_map_free(&d.file_numbers);
    sl_buf_free(&d.key);
    sl_arena_free(&d.r.scratch);
    free(bytes);
    return code;
}

char *sl_dcp_box_text(const int64_t *offset, const int64_t *size, uint32_t ndim, char *out, size_t room)
{
    size_t len = 0;
    const char *mark = "[";
    *out = '\0';
    for (uint32_t a = 0; a < ndim && len < room; a++, mark = ", ") {
        const int n = snprintf(out + len, room - len, "%s%lld:%lld", mark, (long long)offset[a],
                               (long long)((uint64_t)offset[a] + (uint64_t)size[a]));
        len += n > 0 ? (size_t)n : 0;
    }
    if (len < room)
        snprintf(out + len, room - len, "%s", ndim ? "]" : "[]");
    return out;
}
