/* target.c: the layout of a checkpoint to be written: the rules of a dialect, rank by
 * rank, make tensors, and the same maps that read them say what they hold. */
#include "layout/target.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"
#include "base/value.h"

#include <stdlib.h>
#include <string.h>

#define NAME_ROOM 512

/* ---- ranks and stages -------------------------------------------------------------- */

/* Does any process have this TP index and this EP index? Process i has TP index i % tp and
 * EP index i / etp % ep. With etp = tp every pair exists.
 * Source: Megatron-LM megatron/core/parallel_state.py (RankGenerator, order tp-..-ep-dp-pp) */
static bool rank_exists(const struct sl_parallel *p, int32_t tp, int32_t ep)
{
    for (int64_t i = tp; i < (int64_t)p->tp * p->etp * p->ep; i += p->tp)
        if (i / p->etp % p->ep == ep)
            return true;
    return false;
}

static int check_stages(const struct target *t)
{
    const struct rulebook *b = &t->b.book;
    const int32_t stages = b->parallel.pp * b->parallel.vpp;
    int64_t sum = 0;
    for (int32_t s = 0; s < stages && t->spec->stage_layers; s++) {
        sum += t->spec->stage_layers[s];
        if (t->spec->stage_layers[s] < 0)
            return sl_fail(t->b.err, SL_USAGE, "", "pipeline stage %d has %d layers", s, t->spec->stage_layers[s]);
    }
    if (t->spec->stage_layers && sum != b->layers)
        return sl_fail(t->b.err, SL_USAGE, "", "the pipeline stages have %lld layers together, the model has %d",
                       (long long)sum, b->layers);
    if (!t->spec->stage_layers && b->layers % stages)
        return sl_fail(t->b.err, SL_USAGE, "", "%d layers do not divide over %d pipeline stages (pp %d x vpp %d): "
                       "say how many each has with --pp-layout", b->layers, stages, b->parallel.pp, b->parallel.vpp);
    return SL_OK;
}

static int32_t layers_of_stage(const struct target *t, int32_t stage)
{
    const struct rulebook *b = &t->b.book;
    return t->spec->stage_layers ? t->spec->stage_layers[stage] : b->layers / (b->parallel.pp * b->parallel.vpp);
}

/* ---- tensors ------------------------------------------------------------------------ */

/* Is a spelling ("te", "local") or a storage of experts the one that is wanted? */
static bool word_fits(const char *rule, const char *wanted)
{
    return !rule || (wanted && !strcmp(rule, wanted));
}

/* What torch_dist calls a weight, and that it has experts in one array, see family.h ("dist"). */
static bool dist_fits(const struct target *t, const struct sl_rule *rule)
{
    const char *spelling = rule->dist ? rule->dist : rule->alias || rule->experts ? "never" : rule->spec ? rule->spec : "both";
    return !strcmp(spelling, "both") || word_fits(spelling, t->spec->spec);
}

static bool spec_fits(const struct target *t, const struct sl_rule *rule)
{
    const char *experts = t->spec->experts;
    if (t->spec->dist)
        return dist_fits(t, rule);
    if (experts && !strcmp(experts, "local"))
        experts = "local_experts";
    return !rule->alias && word_fits(rule->spec, t->spec->spec) && word_fits(rule->experts, experts);
}

static bool stage_fits(const struct target *t, const struct sl_rule *rule)
{
    const bool first = t->rank.pp == 0 && t->chunk == 0;
    const bool last = t->rank.pp == t->b.book.parallel.pp - 1 && t->chunk == t->last_chunk;
    return rule->stage == SL_STAGE_FIRST ? first : rule->stage == SL_STAGE_LAST ? last : true;
}

static bool applies(const struct target *t, const struct sl_rule *rule, int32_t layer)
{
    return spec_fits(t, rule) && stage_fits(t, rule) && rulebook_when(&t->b.book, rule->when, layer);
}

/* Of several rules of one name (whole, or cut) the first that applies is written. */
bool target_writes(const struct target *t, size_t row, int32_t layer)
{
    const struct sl_rule *rules = t->b.book.rules;
    if (!applies(t, &rules[row], layer))
        return false;
    for (size_t r = 0; r < row; r++)
        if (!strcmp(rules[r].name, rules[row].name) && applies(t, &rules[r], layer))
            return false;
    return true;
}

static bool is_held(const struct sl_layout *source, uint32_t param)
{
    return !source || source->param_first[param + 1] > source->param_first[param];
}

bool target_dtype(const struct target *t, const struct sl_rule *rule, const struct sl_stored *stored,
                  const struct sl_map_names *names, enum sl_dtype *dtype)
{
    const struct sl_layout *source = t->spec->source;
    *dtype = rule->keep_dtype ? SL_F32 : t->spec->dtype ? t->spec->dtype : SL_BF16;
    for (size_t i = 0; i < stored->part_count; i++) {
        const char *pattern = stored->parts[i].param;
        const int64_t param = pattern ? names->find(names->arg, pattern, names->layer, names->expert) : -1;
        if (param < 0 || !is_held(source, (uint32_t)param))
            continue;
        if (source) {
            const struct sl_tensor *from = &source->tensors[source->slices[source->param_first[param]].tensor];
            const enum sl_dtype has = from->flags & SL_TENSOR_SCALED ? SL_BF16 : from->dtype;
            if (!t->spec->dtype || rule->keep_dtype || !sl_dtype_row(has)->is_float)
                *dtype = has;
        }
        return true;
    }
    return false;
}

static int grow(struct target *t)
{
    if (t->count < t->room)
        return SL_OK;
    const size_t room = t->room ? 2 * t->room : 256;
    struct sl_tensor *tensors = realloc(t->tensors, room * sizeof *tensors);
    if (tensors)
        t->tensors = tensors;
    const char **label = realloc(t->label, room * sizeof *label);
    if (label)
        t->label = label;
    if (!tensors || !label)
        return sl_fail_memory(t->b.err, room * sizeof *tensors);
    t->room = room;
    return SL_OK;
}

int target_add(struct target *t, const char *name, enum sl_dtype dtype, uint32_t ndim, const int64_t *lo,
               const int64_t *hi, const int64_t *whole, const char *label)
{
    struct sl_arena *arena = t->b.book.arena;
    int64_t *numbers = SL_ARENA_NEW(arena, int64_t, 4 * (uint64_t)ndim), step = 1;
    const char *copy = sl_arena_str(arena, name);
    if (!numbers || !copy || grow(t))
        return sl_fail_memory(t->b.err, strlen(name));
    struct sl_tensor *x = &t->tensors[t->count];
    int64_t *shape = numbers, *stride = numbers + ndim, *begin = stride + ndim, *all = begin + ndim;
    for (uint32_t a = ndim; a-- > 0; step *= shape[a]) {
        begin[a] = whole ? lo[a] : 0;
        shape[a] = hi[a] - begin[a];
        all[a] = whole ? whole[a] : hi[a];
        stride[a] = step;
    }
    *x = (struct sl_tensor){ .name = copy, .path = copy, .dtype = dtype, .ndim = ndim, .shape = shape,
                             .stride = stride, .global_shape = all, .global_offset = begin,
                             .count = (uint64_t)step, .bytes = (uint64_t)step * sl_dtype_size(dtype),
                             .storage = -1, .file = -1, .rank = t->rank_index, .chunk = t->chunk };
    x->storage_bytes = x->bytes;
    t->label[t->count++] = label ? label : "copy";
    return SL_OK;
}

static int visit_rule(void *arg, size_t row, int32_t local_layer, int32_t local_expert)
{
    struct target *t = arg;
    struct rulebook *b = &t->b.book;
    const struct sl_rule *rule = &b->rules[row];
    const int32_t layer = local_layer < 0 ? -1 : t->first_layer + local_layer;
    const struct sl_stored *stored;
    int64_t lo[SL_AXES], hi[SL_AXES], shape[SL_AXES];
    uint32_t ndim;
    int32_t parts;
    if (rule->mtp != t->mtp || !target_writes(t, row, layer))
        return SL_OK;
    int rc = rulebook_map(b, rule, &stored, t->b.err);
    if (rc)
        return rc;
    if (!rulebook_box(b, rule, stored, t->rank.tp, lo, hi, &parts))
        return sl_fail(t->b.err, SL_USAGE, rule->name, "axis %d has %lld, which does not divide over %s %d",
                       rule->cut_axis, (long long)stored->shape[rule->cut_axis], rule->cut_over, parts);
    if (!sl_stored_shape(stored, lo, hi, shape, &ndim))
        return sl_fail(t->b.err, SL_USAGE, rule->name, "its elements can't have the shape after \"as\" in %s", rule->map);

    const int32_t first_expert = t->rank.ep * (b->experts / b->parallel.ep);
    const struct sl_map_names names = { .find = builder_find, .arg = &t->b, .layer = layer,
        .expert = local_expert >= 0 ? first_expert + local_expert : strstr(rule->map, "expert") ? first_expert : -1,
        .tensor = (uint32_t)t->count, .op = rulebook_op(b, rule, layer) };
    enum sl_dtype dtype;
    if (!target_dtype(t, rule, stored, &names, &dtype))
        return SL_OK;                            /* an optional weight that the source lacks */
    if ((rc = sl_stored_slices(stored, lo, hi, &names, &t->b.slices, t->b.err)))
        return rc;
    char name[NAME_ROOM];
    sl_rule_name(rule->name, local_layer, local_expert, name, sizeof name);
    return target_add(t, name, dtype, ndim, NULL, shape, NULL, rule->label);
}

static const char *rule_name(const void *rows, size_t row)
{
    return ((const struct sl_rule *)rows)[row].name;
}

/* All tensors of the rank whose turn it is, chunk by chunk. */
static int visit_rank(struct target *t)
{
    const struct rulebook *b = &t->b.book;
    const struct pattern_rows rows = { .name = rule_name, .rows = b->rules, .count = b->count };
    int rc = SL_OK;
    for (t->chunk = 0; t->chunk < b->parallel.vpp && !rc; t->chunk++) {
        const int32_t stage = t->chunk * b->parallel.pp + t->rank.pp;
        t->first_layer = 0;
        for (int32_t s = 0; s < stage; s++)
            t->first_layer += layers_of_stage(t, s);
        const int32_t after = b->dialect == SL_DIALECT_HF ? b->mtp : 0;
        rc = natural_order(&rows, layers_of_stage(t, stage) + after, b->experts / b->parallel.ep, visit_rule, t);
        t->first_layer = b->layers;
        t->mtp = true;
        if (!rc && b->mtp && stage == b->parallel.pp * b->parallel.vpp - 1)
            rc = natural_order(&rows, b->mtp, b->experts / b->parallel.ep, visit_rule, t);
        t->mtp = false;
    }
    return rc;
}

static int visit_ranks(struct target *t)
{
    const struct sl_parallel *p = &t->b.book.parallel;
    struct sl_layout *l = t->b.layout;
    struct sl_rank *ranks = SL_ARENA_NEW(t->b.book.arena, struct sl_rank,
                                         (uint64_t)p->tp * (uint64_t)p->pp * (uint64_t)p->ep);
    int rc = ranks ? SL_OK : sl_fail_memory(t->b.err, sizeof *ranks);
    for (int32_t pp = 0; pp < p->pp; pp++)
        for (int32_t ep = 0; ep < p->ep; ep++)
            for (int32_t tp = 0; tp < p->tp && !rc; tp++) {
                if (!rank_exists(p, tp, ep))
                    continue;
                t->rank = (struct sl_rank){ .tp = tp, .pp = pp, .ep = ep, .file = -1, .iteration = -1 };
                t->rank_index = t->has_ranks ? (int32_t)l->rank_count : -1;
                ranks[l->rank_count++] = t->rank;
                rc = visit_rank(t);
            }
    l->ranks = ranks;
    if (!t->has_ranks)
        l->rank_count = 0;
    return rc;
}

/* Sizes that the family's own arithmetic, or Megatron's of it, does not allow. */
static int check_single(const struct target *t)
{
    const struct sl_parallel *p = &t->b.book.parallel;
    const struct sl_family *f = t->b.book.model->family;
    const struct { const char *name; int32_t size; } sizes[] = { { "tp", p->tp }, { "pp", p->pp }, { "ep", p->ep }, { "etp", p->etp } };
    for (size_t i = 0; t->has_ranks && i < sizeof sizes / sizeof *sizes; i++) {
        const char *why = sizes[i].size > 1 ? sl_value_str(sl_value_get(f->single, sizes[i].name)) : NULL;
        if (why)
            return sl_fail(t->b.err, SL_USAGE, f->name, "%s is written with --%s 1 only: %s", f->title, sizes[i].name, why);
    }
    return SL_OK;
}

int sl_layout_target(const struct sl_model *m, const struct sl_target_spec *spec,
                     struct sl_arena *arena, struct sl_layout *out, struct sl_error *err)
{
    static const struct sl_parallel whole = { 1, 1, 1, 1, 1 };
    struct target t = { .b = { .layout = out, .err = err }, .spec = spec, .rank_index = -1,
                        .has_ranks = spec->dialect != SL_DIALECT_HF && !spec->dist };
    const int64_t padded = spec->padded_vocab > 0 ? spec->padded_vocab : m->vocab > 0 ? m->vocab : m->padded_vocab;
    *out = (struct sl_layout){ 0 };
    int rc = rulebook_make(&t.b.book, m, spec->dialect, spec->dist ? &whole : &spec->parallel, padded, arena, err);
    if (rc)
        return rc;
    t.last_chunk = t.b.book.parallel.vpp - 1;
    rc = check_single(&t);
    if (!rc && !spec->dist)
        rc = check_stages(&t);
    if (!rc)
        rc = builder_params(&t.b);
    if (!rc && spec->source && spec->source->param_count != out->param_count)
        rc = sl_fail(err, SL_UNSUPPORTED, "", "the source has %zu weights, the target's model %zu",
                     spec->source->param_count, out->param_count);
    if (!rc)
        rc = spec->dist ? target_dist(&t) : visit_ranks(&t);
    if (!rc) {
        out->tensors = sl_arena_copy(arena, t.tensors, t.count * sizeof *t.tensors);
        out->rule = sl_arena_copy(arena, t.label, t.count * sizeof *t.label);
        out->tensor_count = t.count;
        if (!out->tensors || !out->rule)
            rc = sl_fail_memory(err, t.count * sizeof *t.tensors);
    }
    free(t.tensors);
    free(t.label);
    return builder_finish(&t.b, rc);
}
