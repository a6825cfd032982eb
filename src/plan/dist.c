/* dist.c: targets as a torch_dist checkpoint, which megatron.core.dist_checkpointing and
 * torch.distributed.checkpoint load at any number of ranks.
 *
 *   latest_checkpointed_iteration.txt
 *   iter_0000500/
 *     .metadata        what lies where (format/dcpwrite.h)
 *     metadata.json    says that this is torch_dist
 *     common.pt        args, iteration, content_metadata
 *     __0_0.distcp     items one after another, each at a multiple of 64: a whole torch file of one chunk,
 *     __1_0.distcp     and in the first file, before them, of one object: the _extra_state of a module, [None]
 *
 * Items stand in the order of the targets, layer by layer, and files are filled one after the
 * other to the same size: both reading the source and loading some layers go forward in files.
 *
 * Source: Megatron-LM megatron/core/dist_checkpointing (serialization.py, strategies/torch.py, mapping.py:
 * ShardedObject.unique_key), torch/distributed/checkpoint/filesystem.py
 */
#include "plan/parts.h"

#include "base/error.h"
#include "base/num.h"
#include "base/value.h"
#include "format/dcpwrite.h"
#include "model/args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES UINT64_C(5000000000)  /* of a .distcp file where their number is not given */
#define ALIGNMENT 64u
#define KEY_ROOM 640

struct dist {
    struct saving s;
    struct sl_dcp_object *objects;       size_t object_count, object_room;
    struct sl_map object_index;          /* key -> number */
    struct sl_buf head;                  /* all objects, as they begin the first file */
};

static uint64_t aligned(uint64_t at)
{
    return (at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* ---- objects ---------------------------------------------------------------------------- */

/* A row of the table: a module, or one that stands beside a module that has weights. */
struct module_row { const char *pattern, *stacked, *other, *other_stacked; };

static const char *without_layer(struct sl_arena *arena, const char *pattern)
{
    const char *at = strstr(pattern, ".{layer}");
    return !at ? pattern : sl_arena_printf(arena, "%.*s%s", (int)(at - pattern), pattern, at + strlen(".{layer}"));
}

static bool read_row(struct sl_arena *arena, const struct sl_value *v, struct module_row *row)
{
    const char *module = v->kind == SL_VALUE_STR ? v->s : sl_value_str(sl_value_get(v, "module"));
    const char *beside = v->kind == SL_VALUE_STR ? v->s : sl_value_str(sl_value_get(v, "beside"));
    if (!module || !beside)
        return false;
    *row = (struct module_row){ .pattern = beside, .stacked = without_layer(arena, beside), .other = module,
                                .other_stacked = without_layer(arena, module) };
    return row->stacked && row->other_stacked;
}

static void put_numbers(struct sl_buf *b, const int64_t *numbers, uint32_t count, int64_t without)
{
    for (uint32_t i = 0; i < count; i++)
        sl_buf_printf(b, "%s%lld", i ? "." : "", (long long)numbers[i]);
    if (!count)
        sl_buf_printf(b, "%lld", (long long)without);
}

/* "KEY/shard_3_24": the third of 24 layers; "shard_3.1_24.8" the second expert of its eight. */
static int add_object(struct dist *d, const char *module, const struct sl_tensor *t, uint32_t leading)
{
    struct sl_buf key = { 0 };
    sl_buf_printf(&key, "%s._extra_state/shard_", module);
    put_numbers(&key, t->global_offset, leading, 0);
    sl_buf_char(&key, '_');
    put_numbers(&key, t->global_shape, leading, 1);
    const char *kept = key.failed ? NULL : sl_arena_str(&d->s.p->arena, key.data);
    const size_t len = key.len;
    sl_buf_free(&key);
    uint64_t number = d->object_count;
    bool added;
    if (!kept || !sl_map_add(&d->object_index, kept, len, &number, &added))
        return sl_fail_memory(d->s.err, len);
    if (!added)
        return SL_OK;
    if (d->object_count == d->object_room) {
        const size_t room = d->object_room ? 2 * d->object_room : 256;
        struct sl_dcp_object *more = realloc(d->objects, room * sizeof *more);
        if (!more)
            return sl_fail_memory(d->s.err, room * sizeof *more);
        d->objects = more;
        d->object_room = room;
    }
    d->objects[d->object_count++] = (struct sl_dcp_object){ .key = kept };
    return SL_OK;
}

/* The objects of the module whose weight a target is. (A norm that is stored under the name of the
 * linear behind it proves no linear: Megatron's own modules do so before experts.) */
static int objects_of(struct dist *d, const struct module_row *rows, size_t count, size_t target)
{
    const struct sl_conversion *p = d->s.p;
    const struct sl_tensor *t = &p->targets[target];
    const uint32_t leading = p->target.stacked ? p->target.stacked[target] : 0;
    const char *dot = strrchr(t->name, '.');
    char module[KEY_ROOM], other[KEY_ROOM];
    int32_t layer, expert;
    int rc = SL_OK;
    if (!dot || strcmp(dot, ".weight") || (size_t)(dot - t->name) >= sizeof module)
        return SL_OK;
    memcpy(module, t->name, (size_t)(dot - t->name));
    module[dot - t->name] = '\0';
    for (size_t i = 0; i < count && !rc; i++) {
        const bool stacked = sl_rule_match(rows[i].stacked, module, &layer, &expert);
        if (!stacked && !sl_rule_match(rows[i].pattern, module, &layer, &expert))
            continue;
        sl_rule_name(stacked ? rows[i].other_stacked : rows[i].other, layer, expert, other, sizeof other);
        rc = add_object(d, other, t, leading);
    }
    return rc;
}

/* torch.save([None]), as often as there are objects. */
static int fill_head(struct dist *d)
{
    struct sl_pickler k = { 0 };
    struct sl_buf file = { 0 };
    sl_pickler_begin(&k);
    sl_pickler_list_begin(&k);
    sl_pickler_none(&k);
    sl_pickler_list_end(&k);
    sl_pickler_end(&k);
    int rc = k.out.failed ? sl_fail_memory(d->s.err, 64) : sl_torch_file_of(k.out.data, k.out.len, &file, d->s.err);
    for (size_t i = 0; i < d->object_count && !rc; i++) {
        while (d->head.len % ALIGNMENT && !d->head.failed)
            sl_buf_char(&d->head, '\0');
        d->objects[i].item = (struct sl_dcp_item){ .offset = d->head.len, .length = file.len };
        sl_buf_add(&d->head, file.data, file.len);
        rc = d->head.failed ? sl_fail_memory(d->s.err, d->head.len) : SL_OK;
    }
    sl_buf_free(&file);
    sl_buf_free(&k.out);
    return rc;
}

static int make_objects(struct dist *d)
{
    const struct sl_conversion *p = d->s.p;
    const struct sl_value *table = sl_model_dist_objects(d->s.want->spec.spec);
    struct module_row *rows = SL_ARENA_NEW(&d->s.p->arena, struct module_row, table ? table->len : 0);
    size_t count = 0;
    int rc = rows ? SL_OK : sl_fail_memory(d->s.err, sizeof *rows);
    for (size_t i = 0; table && i < table->len && !rc; i++)
        if (!read_row(&d->s.p->arena, table->items[i], &rows[count++]))
            rc = sl_fail_memory(d->s.err, 256);
    for (size_t i = 0; i < p->target_count && !rc; i++)
        rc = objects_of(d, rows, count, i);
    return rc ? rc : fill_head(d);
}

/* ---- items in files ---------------------------------------------------------------------- */

/* Length of each item and where its elements begin in it, which follow from dtype and shape. */
static int measure_items(struct dist *d, struct sl_out_item *items)
{
    struct sl_conversion *p = d->s.p;
    int rc = SL_OK;
    for (size_t i = 0; i < p->target_count && !rc; i++) {
        struct sl_tensor *t = &p->targets[i];
        struct sl_arena arena = { 0 };
        struct sl_torch_layout layout;
        rc = sl_torch_layout_tensor(t->dtype, t->shape, t->ndim, t->bytes, &arena, &layout, d->s.err);
        if (!rc) {
            items[i].len = layout.file_size;
            t->offset = layout.storage_offset[0];
        }
        sl_arena_free(&arena);
    }
    return rc;
}

/* Files of about equal size, filled one after the other; each has at least one item. */
static void share_items(struct dist *d, struct sl_out_item *items)
{
    struct sl_conversion *p = d->s.p;
    uint64_t left = aligned(d->head.len);
    for (size_t i = 0; i < p->target_count; i++)
        left += aligned(items[i].len);
    size_t next = 0;
    for (size_t f = 0; f < p->file_count; f++) {
        struct sl_out_file *file = &p->files[f];
        const size_t files_after = p->file_count - f - 1;
        const uint64_t quota = left / (files_after + 1), begin = f ? 0 : aligned(d->head.len);
        uint64_t end = begin;
        while (next < p->target_count - files_after &&
               (!file->tensors || !files_after || end + items[next].len / 2 <= quota)) {
            struct sl_tensor *t = &p->targets[next];
            t->file = (int32_t)f;
            t->offset += end;
            t->storage_begin = t->offset;
            t->storage_bytes = t->bytes;
            items[next].begin = end;
            file->size = end + items[next].len;
            end = aligned(file->size);
            file->tensors++;
            next++;
        }
        left -= sl_min_u64(left, end);
    }
}

static int make_files(struct dist *d)
{
    struct sl_conversion *p = d->s.p;
    const uint64_t by_size = (p->write_bytes + FILE_BYTES - 1) / FILE_BYTES;
    const uint64_t wanted = d->s.want->dist_files > 0 ? (uint64_t)d->s.want->dist_files : sl_max_u64(1, by_size);
    p->file_count = (size_t)sl_min_u64(wanted, sl_max_u64(1, p->target_count));
    p->files = SL_ARENA_NEW(&p->arena, struct sl_out_file, p->file_count);
    struct sl_out_item *items = SL_ARENA_NEW(&p->arena, struct sl_out_item, p->target_count);
    if (!p->files || !items)
        return sl_fail_memory(d->s.err, p->target_count * sizeof *items);
    for (size_t f = 0; f < p->file_count; f++)
        if (!(p->files[f].name = sl_arena_printf(&p->arena, "%s/__%zu_0.distcp", d->s.folder, f)))
            return sl_fail_memory(d->s.err, 64);
    p->files[0].head = sl_arena_copy(&p->arena, d->head.data, d->head.len);
    p->files[0].head_len = p->files[0].size = d->head.len;
    if (!p->files[0].head)
        return sl_fail_memory(d->s.err, d->head.len);
    const int rc = measure_items(d, items);
    if (rc)
        return rc;
    share_items(d, items);
    p->items = items;
    return SL_OK;
}

/* ---- .metadata ------------------------------------------------------------------------------ */

/* Arrays in the order of their first chunks, and which one each target is a chunk of. */
static int list_arrays(const struct dist *d, struct sl_dcp_array *arrays, size_t *count, size_t *of)
{
    const struct sl_conversion *p = d->s.p;
    struct sl_map index = { 0 };
    int rc = SL_OK;
    *count = 0;
    for (size_t i = 0; i < p->target_count && !rc; i++) {
        const struct sl_tensor *t = &p->targets[i];
        uint64_t at = *count;
        bool added;
        if (!sl_map_add(&index, t->name, strlen(t->name), &at, &added))
            rc = sl_fail_memory(d->s.err, p->target_count * sizeof(struct sl_map_slot));
        else if (added)
            arrays[(*count)++] = (struct sl_dcp_array){ .key = t->name, .dtype = t->dtype, .ndim = t->ndim, .shape = t->global_shape };
        if (!rc) {
            of[i] = (size_t)at;
            arrays[at].item_count++;
        }
    }
    sl_map_free(&index);
    return rc;
}

static void list_items(const struct sl_conversion *p, const struct sl_dcp_array *arrays, size_t count, const size_t *of,
                       size_t *first, struct sl_dcp_item *items)
{
    for (size_t i = 0, at = 0; i < count; at += arrays[i++].item_count)
        first[i] = at;
    for (size_t i = 0; i < p->target_count; i++) {
        const struct sl_tensor *t = &p->targets[i];
        items[first[of[i]]++] = (struct sl_dcp_item){ .file = (uint32_t)t->file, .offset = p->items[i].begin,
                                                      .length = p->items[i].len, .at = t->global_offset, .shape = t->shape };
    }
}

static int write_metadata(struct dist *d, struct sl_buf *out)
{
    const struct sl_conversion *p = d->s.p;
    struct sl_arena arena = { 0 };
    struct sl_dcp_array *arrays = SL_ARENA_NEW(&arena, struct sl_dcp_array, p->target_count);
    struct sl_dcp_item *items = SL_ARENA_NEW(&arena, struct sl_dcp_item, p->target_count);
    size_t *of = SL_ARENA_NEW(&arena, size_t, p->target_count), *first = SL_ARENA_NEW(&arena, size_t, p->target_count);
    const char **files = SL_ARENA_NEW(&arena, const char *, p->file_count);
    size_t count = 0;
    int rc = arrays && items && of && first && files ? list_arrays(d, arrays, &count, of)
                                                     : sl_fail_memory(d->s.err, p->target_count * sizeof *items);
    if (!rc) {
        list_items(p, arrays, count, of, first, items);
        for (size_t f = 0; f < p->file_count; f++)
            files[f] = strrchr(p->files[f].name, '/') + 1;
        const struct sl_dcp_listing l = { .files = files, .file_count = p->file_count, .arrays = arrays, .array_count = count,
                                          .items = items, .objects = d->objects, .object_count = d->object_count };
        rc = sl_dcp_write(&l, out, d->s.err);
    }
    sl_arena_free(&arena);
    return rc;
}

/* ---- the small files ---------------------------------------------------------------------------- */

/* content_metadata tells the loader under which keys weights were stored. */
static void pickle_content(struct sl_pickler *k, const struct sl_conversion *p)
{
    const struct sl_value *content = sl_model_content_metadata();
    sl_pickler_str(k, "content_metadata");
    sl_pickler_dict_begin(k, false);
    for (size_t i = 0; content && i < content->len; i++) {
        sl_pickler_value(k, content->keys[i]);
        sl_pickler_value(k, content->items[i]);
    }
    if (plan_dist_is_indexed(p)) {
        sl_pickler_str(k, "non_homogeneous_layers");
        sl_pickler_bool(k, true);
    }
    sl_pickler_dict_end(k);
}

static int write_common(struct dist *d, struct sl_buf *out)
{
    struct sl_pickler k = { 0 };
    sl_pickler_begin(&k);
    sl_pickler_dict_begin(&k, false);
    saving_pickle_common(&k, &d->s);
    pickle_content(&k, d->s.p);
    sl_pickler_dict_end(&k);
    sl_pickler_end(&k);
    const int rc = k.out.failed ? sl_fail_memory(d->s.err, k.out.len) : sl_torch_file_of(k.out.data, k.out.len, out, d->s.err);
    sl_buf_free(&k.out);
    return rc;
}

/* Readers of before Megatron-core 0.19 also want to know how the common part is stored. */
static int write_marker(struct dist *d, struct sl_buf *out)
{
    sl_buf_str(out, "{\"sharded_backend\": \"torch_dist\", \"sharded_backend_version\": 1, "
                    "\"common_backend\": \"torch\", \"common_backend_version\": 1}");
    return out->failed ? sl_fail_memory(d->s.err, 128) : SL_OK;
}

static int add_small_files(struct dist *d)
{
    static const struct { const char *name; int (*write)(struct dist *d, struct sl_buf *out); } files[] = {
        { "common.pt", write_common }, { ".metadata", write_metadata }, { "metadata.json", write_marker },
    };
    struct sl_conversion *p = d->s.p;
    int rc = SL_OK;
    for (size_t i = 0; i < sizeof files / sizeof *files && !rc; i++) {
        struct sl_buf text = { 0 };
        struct sl_out_extra extra = { .name = sl_arena_printf(&p->arena, "%s/%s", d->s.folder, files[i].name) };
        rc = files[i].write(d, &text);
        extra.bytes = rc ? NULL : sl_arena_copy(&p->arena, text.data, text.len);
        extra.len = text.len;
        if (!rc)
            rc = extra.name && extra.bytes ? plan_add_extra(p, &extra, d->s.err) : sl_fail_memory(d->s.err, text.len);
        sl_buf_free(&text);
    }
    return rc ? rc : saving_add_tracker(&d->s);
}

/* A distributed source says by its keys how the run that wrote it names layers; names of tensors
 * are numbered in any case. */
static bool source_is_indexed(const struct sl_ckpt *c)
{
    static const char layers[] = "decoder.layers.";
    for (size_t i = 0; i < c->tensor_count; i++) {
        const char *at = c->tensors[i].path ? strstr(c->tensors[i].path, layers) : NULL;
        if (at)
            return at[sizeof layers - 1] >= '0' && at[sizeof layers - 1] <= '9';
    }
    return false;
}

/* Megatron numbers layers in names where its configuration says that they may differ.
 * Source: Megatron-LM megatron/core/transformer/transformer_block.py (sharded_state_dict) */
bool plan_dist_is_indexed(const struct sl_conversion *p)
{
    const struct sl_setting *freq = sl_model_get(p->model, "moe_layer_freq");
    int64_t n;
    const bool may_differ = freq && (freq->value->kind == SL_VALUE_LIST || (sl_value_int(freq->value, &n) && n > 1));
    const bool distributed = p->ckpt->container == SL_MEGATRON_TORCH_DIST || p->ckpt->container == SL_MEGATRON_ZARR;
    return may_differ || (distributed && source_is_indexed(p->ckpt));
}

int plan_dist_files(struct sl_conversion *p, const struct sl_want *want, struct sl_error *err)
{
    struct dist d = { .s = { .p = p, .want = want, .err = err } };
    int rc = saving_begin(&d.s);
    if (!rc)
        rc = make_objects(&d);
    if (!rc)
        rc = make_files(&d);
    if (!rc)
        rc = add_small_files(&d);
    sl_map_free(&d.object_index);
    sl_buf_free(&d.head);
    free(d.objects);
    return rc;
}
