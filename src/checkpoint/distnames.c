/* distnames.c: keys of a distributed checkpoint -> tensors under the names that rank
 * folders would give them.
 *
 *   decoder.layers.mlp.linear_fc2.weight             [L, h, f]     layer by layer:
 *       decoder.layers.0.mlp.linear_fc2.weight       [h, f]
 *   decoder.layers.mlp.experts.experts.linear_fc2.weight  [L, E, h, f]   and expert by expert:
 *       decoder.layers.0.mlp.experts.experts.0.linear_fc2.weight  [h, f]
 *   ..linear_fc1.weight_w  [f, h], ..linear_fc1.weight_v  [f, h]   gate and up, halves of
 *       ..linear_fc1.weight  [2f, h]                 gate over up, as the key without _w, _v has it
 *
 * A chunk of a stacked array holds one layer (one expert) or several, one after the
 * other in its row-major order, so each is a stretch of the chunk. All of a layer is
 * one array of global shape: no tensor is cut by a rank.
 *
 * Source   megatron/core/transformer/transformer_block.py (sharded_state_dict),
 *          transformer/moe/experts.py, transformer/mlp.py (apply_swiglu_sharded_factory,
 *          singleton_local_shards), transformer/fsdp_dtensor_checkpoint.py
 *          checked against tests/fixtures/dist */
#include "checkpoint/ckptread.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define MOST_TENSORS UINT64_C(20000000)

/* Keys of Megatron that are no weights: optimizer, random numbers, the state of a rerun.
 * Source: megatron/training/checkpointing.py, core/optimizer/distrib_optimizer.py */
static const char *const state_prefixes[] = { "optimizer.", "chained_", "rng_state", "rerun_state_machine_state",
                                              "opt_param_scheduler.", "common_state" };

bool dist_is_state(const struct sl_dcp_tensor *t)
{
    for (size_t i = 0; i < sizeof state_prefixes / sizeof *state_prefixes; i++)
        if (sl_text_starts(t->key, state_prefixes[i]))
            return true;
    const size_t outer = strcspn(t->key, ".");
    return t->key[outer] && ckpt_is_state_key(t->key, outer);
}

/* ---- what a key means ------------------------------------------------------------------ */

enum half { WHOLE, GATE, UP };

/* name = head [layer "."] middle [expert "."] tail */
struct naming {
    const char *head, *middle, *tail;
    size_t head_len, middle_len, tail_len;
    uint32_t split;              /* leading axes that are counted in the name: 0, 1 or 2 */
    bool layers, experts;        /* which they are */
    enum half half;
    uint32_t flags;
};

/* The first "layers." that is a part of its own, and what follows. */
static const char *after_layers(const char *name)
{
    for (const char *p = name; (p = strstr(p, "layers.")); p++)
        if (p == name || p[-1] == '.')
            return p + strlen("layers.");
    return NULL;
}

static const char *after_experts(const char *name)
{
    const char *p = strstr(name, ".experts.experts.");
    return p ? p + strlen(".experts.experts.") : NULL;
}

static bool starts_number(const char *p)
{
    return isdigit((unsigned char)*p);
}

static enum half half_of(const char *name)
{
    if (!strstr(name, "linear_fc1."))
        return WHOLE;
    return sl_text_ends(name, "_w") ? GATE : sl_text_ends(name, "_v") ? UP : WHOLE;
}

static const char *weight_name(const struct dist *d, const struct sl_dcp_tensor *t)
{
    const char *name = t->key;
    if (t->outer && ckpt_is_wrapper_key(name, t->outer))
        name += t->outer + 1;
    name = ckpt_bare_name(name);
    if (d->megatron && sl_text_starts(name, "language_model.") && ckpt_is_core_name(name + strlen("language_model.")))
        name += strlen("language_model.");
    return name;
}

static struct naming naming_of(const struct dist *d, const struct sl_dcp_tensor *t)
{
    const char *name = weight_name(d, t);
    struct naming n = { .head = name, .head_len = strlen(name) };
    if (sl_text_ends(name, "._extra_state") || strstr(name, "._extra_state."))
        n.flags = SL_TENSOR_EXTRA;
    if (dist_is_state(t)) {
        n.flags = SL_TENSOR_OPTIMIZER;
        return n;
    }
    if (!ckpt_is_core_name(name))
        return n;
    const char *layer = after_layers(name), *expert = after_experts(name), *end = name + n.head_len;
    n.half = half_of(name);
    if (n.half && t->ndim < 1)
        n.half = WHOLE;
    end -= n.half ? 2 : 0;
    n.layers = d->megatron && layer && !starts_number(layer) && t->ndim > 0;
    n.experts = d->megatron && expert && !starts_number(expert) && t->ndim > (n.layers ? 1u : 0u);
    n.split = (uint32_t)n.layers + (uint32_t)n.experts;
    const char *second = n.experts ? expert : end, *first = n.layers ? layer : second;
    n.head_len = (size_t)(first - name);
    n.middle = first;
    n.middle_len = (size_t)(second - first);
    n.tail = second;
    n.tail_len = (size_t)(end - second);
    return n;
}

static const char *spell(struct sl_arena *arena, const struct naming *n, int64_t layer, int64_t expert)
{
    char numbers[2][24] = { "", "" };
    if (n->layers)
        snprintf(numbers[0], sizeof numbers[0], "%lld.", (long long)layer);
    if (n->experts)
        snprintf(numbers[1], sizeof numbers[1], "%lld.", (long long)expert);
    return sl_arena_printf(arena, "%.*s%s%.*s%s%.*s", (int)n->head_len, n->head, numbers[0], (int)n->middle_len,
                           n->middle ? n->middle : "", numbers[1], (int)n->tail_len, n->tail ? n->tail : "");
}

/* ---- tensors of a chunk ------------------------------------------------------------------- */

struct maker {
    struct dist *d;
    struct sl_tensor *tensors; size_t count, room;
    size_t item;
    struct sl_error *err;
};

static int room_for(struct maker *m, uint64_t more)
{
    if (more > MOST_TENSORS || m->count + more > MOST_TENSORS)
        return sl_fail(m->err, SL_INPUT, m->d->c->folder, "its stacked arrays hold more than %llu tensors",
                       (unsigned long long)MOST_TENSORS);
    if (m->count + more <= m->room)
        return SL_OK;
    const size_t room = sl_max_u64(m->count + more, m->room ? 2 * m->room : m->d->dcp.chunk_count);
    struct sl_tensor *grown = realloc(m->tensors, room * sizeof *grown);
    if (!grown)
        return sl_fail_memory(m->err, room * sizeof *grown);
    sl_memory_large(grown + m->room, (room - m->room) * sizeof *grown);
    m->tensors = grown;
    m->room = room;
    return SL_OK;
}

/* What all tensors of one chunk share. */
static int chunk_tensor(struct maker *m, const struct naming *n, const struct sl_dcp_tensor *t,
                        const struct sl_dcp_chunk *chunk, struct sl_tensor *out)
{
    struct sl_arena *arena = &m->d->c->arena;
    const uint32_t ndim = t->ndim - n->split;
    int64_t *stride = SL_ARENA_NEW(arena, int64_t, 3 * (uint64_t)ndim), step = 1;
    if (!stride)
        return sl_fail_memory(m->err, ndim * sizeof *stride);
    *out = (struct sl_tensor){ .path = t->key, .dtype = t->dtype, .ndim = ndim, .flags = n->flags, .stride = stride,
                               .shape = chunk->size + n->split, .global_shape = t->shape + n->split,
                               .global_offset = chunk->offset + n->split, .storage = (int32_t)m->item,
                               .file = chunk->place.file, .rank = -1, .storage_begin = chunk->place.at };
    if (n->half) {
        int64_t *shape = stride + ndim, *offset = shape + ndim;
        memcpy(shape, out->global_shape, ndim * sizeof *shape);
        memcpy(offset, out->global_offset, ndim * sizeof *offset);
        if (!sl_mul_i64(shape[0], 2, &shape[0]) ||
            (n->half == UP && !sl_add_i64(offset[0], t->shape[n->split], &offset[0])))
            return sl_fail(m->err, SL_INPUT, m->d->c->folder, "%s: its shape is too large", t->key);
        out->global_shape = shape;
        out->global_offset = offset;
    }
    for (uint32_t a = ndim; a-- > 0; ) {
        stride[a] = step;
        if (!sl_mul_i64(step, sl_max_i64(out->shape[a], 1), &step))
            return sl_fail(m->err, SL_INPUT, m->d->c->folder, "%s: the shape of a chunk is too large", t->key);
    }
    if (!sl_shape_count(out->shape, ndim, &out->count) || !sl_mul_u64(out->count, sl_dtype_size(t->dtype), &out->bytes))
        return sl_fail(m->err, SL_INPUT, m->d->c->folder, "%s: the shape of a chunk is too large", t->key);
    return SL_OK;
}

static int add_chunk(struct maker *m, const struct naming *n, const struct sl_dcp_tensor *t, const struct sl_dcp_chunk *chunk)
{
    struct sl_tensor one;
    uint64_t parts = 1, end;
    const int64_t layers = n->layers ? chunk->size[0] : 1, experts = n->experts ? chunk->size[n->layers ? 1 : 0] : 1;
    const int64_t first_layer = n->layers ? chunk->offset[0] : 0, first_expert = n->experts ? chunk->offset[n->layers ? 1 : 0] : 0;
    int code = chunk_tensor(m, n, t, chunk, &one);
    if (!code && !sl_mul_u64((uint64_t)layers, (uint64_t)experts, &parts))
        parts = UINT64_MAX;
    if (!code)
        code = room_for(m, parts);
    if (code)
        return code;
    if (!sl_mul_u64(parts, one.bytes, &one.storage_bytes) || !sl_add_u64(one.storage_begin, one.storage_bytes, &end) ||
        !sl_dtype_size(t->dtype))
        one.flags |= SL_TENSOR_NO_DATA;
    for (uint64_t i = 0; i < parts; i++) {
        one.name = spell(&m->d->c->arena, n, first_layer + (int64_t)(i / (uint64_t)experts), first_expert + (int64_t)(i % (uint64_t)experts));
        if (!one.name)
            return sl_fail_memory(m->err, n->head_len);
        one.offset = one.flags & SL_TENSOR_NO_DATA ? one.storage_begin : one.storage_begin + i * one.bytes;
        m->tensors[m->count++] = one;
    }
    return SL_OK;
}

static int add_key(struct maker *m, const struct sl_dcp_tensor *t)
{
    struct dist *d = m->d;
    const struct naming n = naming_of(d, t);
    int code = SL_OK;
    d->stacked_keys += n.layers;
    d->expert_keys += n.experts;
    d->half_keys += n.half != WHOLE;
    d->state_keys += (n.flags & SL_TENSOR_OPTIMIZER) != 0;
    for (uint32_t i = 0; i < t->chunk_count && !code; i++) {
        if (t->chunks[i].place.file < 0)
            continue;                    /* told by distcheck.c */
        struct ckpt_item *item = &d->c->items->items[m->item];
        item->tensor = t;
        item->chunk = &t->chunks[i];
        item->zarr = d->zarrs ? &d->zarrs[t - d->dcp.tensors] : NULL;
        item->kind = !item->zarr ? ITEM_DCP : !t->chunks[i].place.length ? ITEM_FILL : item->zarr->zlib ? ITEM_ZLIB : ITEM_RAW;
        code = add_chunk(m, &n, t, &t->chunks[i]);
        m->item++;
    }
    return code;
}

static int by_place(const void *x, const void *y)
{
    const struct sl_tensor *a = x, *b = y;
    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return a->storage != b->storage ? (a->storage < b->storage ? -1 : 1) : sl_text_natural(a->name, b->name);
}

int dist_tensors(struct dist *d, struct sl_error *err)
{
    struct maker m = { .d = d, .err = err };
    struct sl_ckpt *c = d->c;
    int code = ckpt_items_new(c, d->dcp.chunk_count, err);
    for (uint32_t i = 0; i < d->dcp.tensor_count && !code; i++)
        code = add_key(&m, &d->dcp.tensors[i]);
    if (!code && m.count) {
        qsort(m.tensors, m.count, sizeof *m.tensors, by_place);
        if (sl_arena_take(&c->arena, m.tensors, m.room * sizeof *m.tensors)) {
            c->tensors = m.tensors;
            m.tensors = NULL;
        } else {
            code = sl_fail_memory(err, m.count * sizeof *m.tensors);
        }
    }
    for (size_t i = 0; i < m.count && !code; i++)
        c->files[c->tensors[i].file].tensors++;
    c->tensor_count = code ? 0 : m.count;
    free(m.tensors);
    return code;
}
