/* dist.c: the arrays of a torch_dist checkpoint, chunk by chunk. What it holds does not depend
 * on ranks: an array is a weight of the whole model, or that weight of all layers (and of all
 * experts) stacked.
 *
 *     decoder.layers.mlp.linear_fc1.weight   [layers, 2 ffn, hidden]
 *
 *        layer 0  | gate, rows 0..   | gate, rows k..  | .. | up, rows 0.. | ..     a chunk each
 *        layer 1  | ..
 *
 * Source: Megatron-LM megatron/core/transformer/transformer_block.py, moe/experts.py
 * (sharded_state_dict)
 */
#include "layout/target.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"

#include <string.h>

#define NAME_ROOM 512
#define CHUNK_BYTES (UINT64_C(64) << 20)

struct dist {
    struct target *t;
    struct rulebook stacked;
    bool *known;                         /* by rule: dtype is, for all layers */
    enum sl_dtype *dtype;                /* by rule, where layers are stacked; UNKNOWN: the source has none */
    uint8_t *axes; size_t axes_room;     /* by tensor: struct sl_layout.stacked */
};

/* An array that is cut up now. */
struct array {
    const char *name;
    const struct sl_rule *rule;
    const struct sl_stored *stored;
    struct sl_map_names names;
    enum sl_dtype dtype;
    uint32_t leading;                    /* first axes that count layers and experts */
    int32_t split;                       /* axis that large chunks are cut along, -1: none */
};

static bool counts_experts(const char *map)
{
    return strstr(map, "expert") != NULL;
}

/* ---- element types ------------------------------------------------------------------- */

/* The type that holds the values of both. */
static enum sl_dtype wider(enum sl_dtype a, enum sl_dtype b)
{
    if (!a || a == b)
        return b;
    const bool floats = sl_dtype_row(a)->is_float && sl_dtype_row(b)->is_float;
    if (floats && sl_dtype_size(a) == 2 && sl_dtype_size(b) == 2)
        return SL_F32;                   /* fp16 and bf16 */
    return sl_dtype_size(a) >= sl_dtype_size(b) ? a : b;
}

/* Has the map several numbers of this kind (SL_DIGIT_LAYER, SL_DIGIT_EXPERT)? How many. */
static int64_t numbers_of(const struct sl_stored *stored, int32_t kind)
{
    for (size_t i = 0; i < stored->part_count; i++)
        for (uint32_t d = 0; d < stored->parts[i].digit_count; d++)
            if (stored->parts[i].digits[d].axis == kind)
                return stored->parts[i].digits[d].count;
    return 1;
}

/* An array has one element type, and holds all of its layers and experts or is not there. */
static int array_dtype(const struct dist *d, const struct array *a, enum sl_dtype *dtype)
{
    const int64_t layers = numbers_of(a->stored, SL_DIGIT_LAYER), experts = numbers_of(a->stored, SL_DIGIT_EXPERT);
    int64_t held = 0;
    *dtype = SL_DTYPE_UNKNOWN;
    for (int64_t layer = 0; layer < layers; layer++)
        for (int64_t expert = 0; expert < experts; expert++) {
            struct sl_map_names names = a->names;
            enum sl_dtype one;
            names.layer += layers > 1 ? (int32_t)layer : 0;
            names.expert += experts > 1 ? (int32_t)expert : 0;
            if (!target_dtype(d->t, a->rule, a->stored, &names, &one))
                continue;
            *dtype = wider(*dtype, one);
            held++;
        }
    if (held && held != layers * experts)
        return sl_fail(d->t->b.err, SL_UNSUPPORTED, a->name, "the source has it for %lld of %lld layers and experts, which are one "
                       "array in torch_dist", (long long)held, (long long)(layers * experts));
    return SL_OK;
}

/* ---- chunks ---------------------------------------------------------------------------- */

static int add_chunk(struct dist *d, const struct array *a, const int64_t *lo, const int64_t *hi)
{
    struct target *t = d->t;
    struct sl_map_names names = a->names;
    const size_t at = t->count;
    names.tensor = (uint32_t)at;
    int rc = sl_stored_slices(a->stored, lo, hi, &names, &t->b.slices, t->b.err);
    if (!rc)
        rc = target_add(t, a->name, a->dtype, a->stored->ndim, lo, hi, a->stored->shape, a->rule->label);
    if (rc || at < d->axes_room) {
        if (!rc)
            d->axes[at] = (uint8_t)a->leading;
        return rc;
    }
    const size_t room = at < 512 ? 1024 : 2 * at;
    uint8_t *axes = sl_arena_new(t->b.book.arena, room, 1);
    if (!axes)
        return sl_fail_memory(t->b.err, room);
    if (at)
        memcpy(axes, d->axes, at);
    d->axes = axes;
    d->axes_room = room;
    axes[at] = (uint8_t)a->leading;
    return SL_OK;
}

/* Into a power of two of parts, which ranks of any usual number share without a remainder. */
static int64_t parts_of(const struct dist *d, const struct array *a, const int64_t *lo, const int64_t *hi)
{
    const uint64_t most = d->t->spec->chunk_bytes ? d->t->spec->chunk_bytes : CHUNK_BYTES;
    uint64_t bytes = sl_dtype_size(a->dtype);
    int64_t parts = 1;
    for (uint32_t axis = 0; axis < a->stored->ndim; axis++)
        bytes *= (uint64_t)(hi[axis] - lo[axis]);
    while (a->split >= 0 && bytes / (uint64_t)parts > most && 2 * parts <= hi[a->split] - lo[a->split])
        parts *= 2;
    return parts;
}

static int add_chunks(struct dist *d, const struct array *a, const int64_t *from, const int64_t *to)
{
    int64_t lo[SL_AXES], hi[SL_AXES];
    const int64_t parts = parts_of(d, a, from, to);
    int rc = SL_OK;
    memcpy(lo, from, sizeof lo);
    memcpy(hi, to, sizeof hi);
    for (int64_t i = 0; i < parts && !rc; i++) {
        if (parts > 1) {
            const int64_t first = from[a->split], len = to[a->split] - first;
            lo[a->split] = first + len / parts * i + len % parts * i / parts;
            hi[a->split] = first + len / parts * (i + 1) + len % parts * (i + 1) / parts;
        }
        rc = add_chunk(d, a, lo, hi);
    }
    return rc;
}

/* Is this axis of the array the number of the expert, and nothing else? */
static bool is_expert_axis(const struct sl_stored *stored, uint32_t axis)
{
    if (axis >= stored->ndim)
        return false;
    for (size_t i = 0; i < stored->part_count; i++) {
        bool found = false;
        for (uint32_t k = 0; k < stored->parts[i].digit_count; k++) {
            const struct sl_digit *digit = &stored->parts[i].digits[k];
            found |= digit->stored == axis && digit->axis == SL_DIGIT_EXPERT && digit->count == stored->shape[axis];
        }
        if (!found)
            return false;
    }
    return stored->part_count > 0;
}

/* What one layer holds of the array, expert by expert. layer: -1 where layers are not stacked. */
static int add_layer(struct dist *d, struct array *a, int32_t layer)
{
    int64_t lo[SL_AXES] = { 0 }, hi[SL_AXES] = { 0 };
    memcpy(hi, a->stored->shape, sizeof a->stored->shape);
    a->leading = layer >= 0;
    if (layer >= 0) {
        lo[0] = layer;
        hi[0] = layer + 1;
    }
    const uint32_t axis = a->leading;
    const bool by_expert = is_expert_axis(a->stored, axis);
    const int64_t experts = by_expert ? a->stored->shape[axis] : 1;
    a->leading += by_expert;
    a->split = a->rule->cut_axis >= 0 ? a->rule->cut_axis + (layer >= 0) : (int32_t)a->leading;
    if (a->split >= (int32_t)a->stored->ndim)
        a->split = -1;
    int rc = SL_OK;
    for (int64_t e = 0; e < experts && !rc; e++) {
        if (by_expert) {
            lo[axis] = e;
            hi[axis] = e + 1;
        }
        rc = add_chunks(d, a, lo, hi);
    }
    return rc;
}

/* ---- rules -------------------------------------------------------------------------------- */

static int visit_rule(void *arg, size_t row, int32_t local_layer, int32_t expert)
{
    struct dist *d = arg;
    struct target *t = d->t;
    struct rulebook *plain = &t->b.book;
    const int32_t layer = local_layer < 0 ? -1 : t->first_layer + local_layer;
    if (plain->rules[row].mtp != t->mtp || !target_writes(t, row, layer))
        return SL_OK;
    const bool stack = layer >= 0 && !t->spec->indexed && d->stacked.rules[row].name;
    struct rulebook *book = stack ? &d->stacked : plain;
    struct array a = { .rule = &book->rules[row] };
    char name[NAME_ROOM];
    int rc = rulebook_map(book, a.rule, &a.stored, t->b.err);
    if (rc)
        return rc;
    if (a.stored->as_ndim)
        return sl_fail(t->b.err, SL_UNSUPPORTED, a.rule->name, "arrays of the map %s can't be written to torch_dist", a.rule->map);
    sl_rule_name(a.rule->name, stack ? -1 : local_layer, expert, name, sizeof name);
    a.name = name;
    a.names = (struct sl_map_names){ .find = builder_find, .arg = &t->b, .layer = stack ? 0 : layer,
                                     .expert = expert >= 0 ? expert : counts_experts(a.rule->map) ? 0 : -1,
                                     .op = rulebook_op(book, a.rule, layer) };
    a.dtype = d->dtype[row];
    if (!stack || !d->known[row])
        rc = array_dtype(d, &a, &a.dtype);
    if (stack) {
        d->known[row] = true;
        d->dtype[row] = a.dtype;
    }
    return rc || !a.dtype ? rc : add_layer(d, &a, stack ? layer : -1);
}

static const char *rule_name(const void *rows, size_t row)
{
    return ((const struct sl_rule *)rows)[row].name;
}

int target_dist(struct target *t)
{
    struct rulebook *b = &t->b.book;
    struct dist d = { .t = t, .known = SL_ARENA_NEW(b->arena, bool, b->count), .dtype = SL_ARENA_NEW(b->arena, enum sl_dtype, b->count) };
    const struct pattern_rows rows = { .name = rule_name, .rows = b->rules, .count = b->count };
    if (!d.known || !d.dtype)
        return sl_fail_memory(t->b.err, b->count * sizeof *d.dtype);
    t->rank_index = -1;
    int rc = rulebook_stack(b, &d.stacked, t->b.err);
    if (!rc)
        rc = natural_order(&rows, b->layers, b->experts, visit_rule, &d);
    t->first_layer = b->layers;
    t->mtp = true;
    if (!rc && b->mtp)
        rc = natural_order(&rows, b->mtp, b->experts, visit_rule, &d);
    t->b.layout->stacked = d.axes;
    return rc;
}
