/* hfshards.c: safetensors that ranks wrote each for itself, by torch's HuggingFaceStorageWriter: a tensor is in
 * several files, in each a box of it. Where the box begins is in the header's metadata, how large the whole is follows
 * from the boxes.
 *
 *   shard-00001-model-00001-of-00001.safetensors    __metadata__: DCP_SHARDING_INFO
 *   shard-00002-model-00001-of-00001.safetensors      "{\"net.a\": {\"saved_offsets\": [3, 0]}, ..}"
 *
 * Source: torch/distributed/checkpoint/hf_storage.py, _hf_utils.py (CUSTOM_METADATA_KEY, SAVED_OFFSETS_KEY) */
#include "checkpoint/ckptread.h"
#include "checkpoint/tiling.h"

#include "base/error.h"
#include "base/json.h"
#include "base/map.h"
#include "base/num.h"
#include "base/value.h"

#include <string.h>

#define TOLD_AT_MOST 20

struct shards {
    struct sl_ckpt *c;
    struct sl_map first;                 /* name -> its first tensor */
    size_t *next;                        /* by tensor: the next of the same name; 0: none */
    size_t *last;                        /* by first tensor */
    size_t told;
    struct sl_error *err;
};

static const char *sharding_info(const struct sl_st_file *st)
{
    for (uint32_t i = 0; i < st->meta_count; i++)
        if (!strcmp(st->meta_keys[i], "DCP_SHARDING_INFO"))
            return st->meta_values[i];
    return NULL;
}

bool ckpt_hf_is_sharded(const struct sl_ckpt *c)
{
    for (size_t i = 0; i < c->file_count; i++)
        if (!c->opened[i].code && sharding_info(&c->opened[i].st))
            return true;
    return false;
}

/* The offsets of one tensor; those of what is not told are 0. */
static int take_offsets(struct shards *s, struct sl_tensor *t, const struct sl_value *entry)
{
    const struct sl_value *list = sl_value_get(entry, "saved_offsets");
    int64_t *offset = SL_ARENA_NEW(&s->c->arena, int64_t, t->ndim), end;
    if (!offset)
        return sl_fail_memory(s->err, t->ndim * sizeof *offset);
    if (!list || list->kind != SL_VALUE_LIST || list->len != t->ndim)
        return list ? sl_fail(s->err, SL_INPUT, s->c->files[t->file].path, "%s: its saved_offsets are not %u numbers", t->name, t->ndim) : SL_OK;
    for (uint32_t a = 0; a < t->ndim; a++)
        if (!sl_value_int(list->items[a], &offset[a]) || offset[a] < 0 || !sl_add_i64(offset[a], t->shape[a], &end))
            return sl_fail(s->err, SL_INPUT, s->c->files[t->file].path, "%s: its saved_offsets are no place in an array", t->name);
    t->global_offset = offset;
    return SL_OK;
}

/* Tensors come file by file. */
static int take_all(struct shards *s)
{
    struct sl_ckpt *c = s->c;
    const struct sl_value *json = NULL;
    int32_t file = -1;
    int code = SL_OK;
    for (size_t i = 0; i < c->tensor_count && !code; i++) {
        struct sl_tensor *t = &c->tensors[i];
        if (t->file != file) {
            const char *text = sharding_info(&c->opened[t->file].st);
            file = t->file;
            json = NULL;
            if (text)
                code = sl_json_parse(text, strlen(text), c->files[file].path, &c->arena, &json, s->err);
        }
        if (!code)
            code = take_offsets(s, t, sl_value_get(json, t->name));
    }
    return code;
}

static int chain_names(struct shards *s)
{
    for (size_t i = 0; i < s->c->tensor_count; i++) {
        const struct sl_tensor *t = &s->c->tensors[i];
        uint64_t first = i;
        bool added;
        if (!sl_map_add(&s->first, t->name, strlen(t->name), &first, &added))
            return sl_fail_memory(s->err, sizeof(struct sl_map_slot));
        if (!added)
            s->next[s->last[first]] = i;
        s->last[first] = i;
    }
    return SL_OK;
}

static void tell(struct shards *s, const struct sl_tensor *t, const struct tiling *found, const size_t *tensors)
{
    char box[512];
    int64_t size[SL_TILING_AXES] = { 0 };
    if (s->told++ >= TOLD_AT_MOST)
        return;
    if (found->fault == TILING_OVERLAP) {
        const struct sl_tensor *a = &s->c->tensors[tensors[found->first]], *b = &s->c->tensors[tensors[found->second]];
        sl_problem_add(&s->c->problems, "chunk-overlap", s->c->files[b->file].name, NULL, "%s: chunk %s overlaps one of %s", t->name,
                       sl_dcp_box_text(b->global_offset, b->shape, b->ndim, box, sizeof box), s->c->files[a->file].name);
        return;
    }
    for (uint32_t a = 0; a < t->ndim; a++)
        size[a] = found->hi[a] - found->lo[a];
    sl_problem_add(&s->c->problems, "chunk-missing", s->c->files[t->file].name, NULL, "%s: no file holds %s of it", t->name,
                   sl_dcp_box_text(found->lo, size, t->ndim, box, sizeof box));
}

/* All tensors of one name are boxes of one array. */
static int join(struct shards *s, size_t first)
{
    struct sl_arena scratch = { 0 };
    struct sl_tensor *all = s->c->tensors, *t = &all[first];
    struct tiling found = { .fault = TILING_NONE };
    uint32_t count = 1;
    for (size_t i = s->next[first]; i; i = s->next[i])
        count++;
    int64_t *shape = SL_ARENA_NEW(&s->c->arena, int64_t, t->ndim);
    struct tiling_box *boxes = SL_ARENA_NEW(&scratch, struct tiling_box, count);
    size_t *tensors = SL_ARENA_NEW(&scratch, size_t, count), at = first;
    int code = shape && boxes && tensors ? SL_OK : sl_fail_memory(s->err, count * sizeof *boxes);
    for (uint32_t k = 0; k < count && !code; k++, at = s->next[at]) {
        struct sl_tensor *part = &all[at];
        if (part->ndim != t->ndim || part->dtype != t->dtype)
            code = sl_fail(s->err, SL_INPUT, s->c->files[part->file].path, "%s: its shards differ in axes or element type", t->name);
        for (uint32_t a = 0; a < t->ndim && !code; a++)
            shape[a] = sl_max_i64(shape[a], part->global_offset[a] + part->shape[a]);
        boxes[k] = (struct tiling_box){ part->global_offset, part->shape };
        part->global_shape = shape;
        tensors[k] = at;
    }
    if (!code)
        code = tiling_check(shape, t->ndim, boxes, count, &found, s->err);
    if (!code && found.fault != TILING_NONE)
        tell(s, t, &found, tensors);
    sl_arena_free(&scratch);
    return code;
}

int ckpt_hf_shards(struct sl_ckpt *c, struct sl_error *err)
{
    struct shards s = { .c = c, .err = err };
    s.next = SL_ARENA_NEW(&c->arena, size_t, c->tensor_count);
    s.last = SL_ARENA_NEW(&c->arena, size_t, c->tensor_count);
    int code = s.next && s.last ? SL_OK : sl_fail_memory(err, c->tensor_count * sizeof *s.next);
    if (!code)
        code = take_all(&s);
    if (!code)
        code = chain_names(&s);
    for (size_t i = 0; i < c->tensor_count && !code; i++) {
        uint64_t first = 0;
        sl_map_get(&s.first, c->tensors[i].name, strlen(c->tensors[i].name), &first);
        if (first == i)
            code = join(&s, i);
    }
    sl_map_free(&s.first);
    if (s.told > TOLD_AT_MOST)
        sl_problem_add(&c->problems, "chunk-missing", "", NULL, "%zu more findings of this kind are not listed", s.told - TOLD_AT_MOST);
    return code;
}
