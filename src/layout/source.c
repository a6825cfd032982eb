/* source.c: the layout of a checkpoint that was read: each stored tensor is given
 * to a rule of its dialect by name, and the rule's map says what it holds. */
#include "layout/rulebook.h"

#include "base/error.h"
#include "base/num.h"
#include "base/text.h"
#include "model/ruleindex.h"

#include <stdio.h>
#include <string.h>

/* A way to find a rule: by its own name, or, in a distributed checkpoint that stacks the
 * layers, by its name without the layer. */
struct source {
    struct builder b;
    const struct sl_ckpt *c;
    const struct sl_tensor *tensors;     /* c's, some of them as products (sl_ckpt_scaled) */
    bool *factor;                        /* by tensor: multiplied with the blocks of another */
    struct sl_rule_index plain, stacked;
    struct rulebook stacked_book;
    bool has_ranks;                      /* tensors are cut by rank, and layers counted by stage */
    bool may_stack;
    struct sl_unused *unused;
    const char **label;
    const struct sl_tensor *misfit;
    bool misfit_counts;
};

/* ---- one tensor ---------------------------------------------------------------- */

/* A tensor and a rule that its name fits. */
struct match {
    const struct sl_tensor *t;
    const struct sl_rule *rule;
    const struct sl_stored *stored;
    struct sl_map_names names;
    int64_t lo[SL_AXES], hi[SL_AXES];    /* the box it should hold */
    int64_t shape[SL_AXES];              /* the shape it should have */
    uint32_t ndim;
    int32_t parts;                       /* ranks that share the array */
    bool divides;
};

static const char *file_of(const struct source *s, const struct sl_tensor *t)
{
    return t->file >= 0 && (size_t)t->file < s->c->file_count ? s->c->files[t->file].name : t->name;
}

static const struct sl_rank *rank_of(const struct source *s, const struct sl_tensor *t)
{
    static const struct sl_rank none;
    return s->has_ranks && t->rank >= 0 ? &s->c->ranks[t->rank] : &none;
}

/* An expert numbered beyond those of its rank would be taken for one of the next rank. */
static int check_expert(struct source *s, const struct match *m, int32_t expert)
{
    const struct rulebook *b = &s->b.book;
    const int32_t ep = s->has_ranks ? b->parallel.ep : 1, here = b->experts / ep;
    if (expert < here)
        return SL_OK;
    s->misfit = m->t;
    s->misfit_counts = true;
    if (ep > 1)
        return sl_fail(s->b.err, SL_INPUT, file_of(s, m->t), "%s is expert %d of its rank, counted from 0; each rank should hold %d = %d experts / EP %d",
                       m->t->name, expert, here, b->experts, ep);
    return sl_fail(s->b.err, SL_INPUT, file_of(s, m->t), "%s is expert %d, counted from 0; the model has %d", m->t->name, expert, b->experts);
}

/* From numbers of the file to numbers of the model. */
static int global_names(struct source *s, struct match *m, int32_t layer, int32_t expert)
{
    const struct rulebook *b = &s->b.book;
    const struct sl_rank *rank = rank_of(s, m->t);
    const bool numbers_experts = expert >= 0 || strstr(m->rule->map, "expert");
    m->names = (struct sl_map_names){ .find = builder_find, .arg = (void *)(uintptr_t)&s->b,
                                      .layer = layer, .expert = expert,
                                      .tensor = (uint32_t)(m->t - s->tensors) };
    if (numbers_experts && b->experts > 0 && check_expert(s, m, expert))
        return SL_INPUT;
    if (numbers_experts)
        m->names.expert = (expert < 0 ? 0 : expert) + (s->has_ranks ? rank->ep * (b->experts / b->parallel.ep) : 0);
    if (m->rule->mtp && layer >= 0)
        m->names.layer = b->layers + layer;
    else if (s->has_ranks && layer >= 0 && (m->names.layer = sl_model_layer(b->model, rank->pp, m->t->chunk, layer)) < 0)
        return sl_fail(s->b.err, SL_INPUT, file_of(s, m->t), "%s: pipeline stage %d (chunk %d) has no layer %d",
                       m->t->name, rank->pp, m->t->chunk, layer);
    return SL_OK;
}

static bool same_shape(const int64_t *a, const int64_t *b, uint32_t ndim)
{
    return !ndim || !memcmp(a, b, ndim * sizeof *a);
}

/* A chunk of a larger array holds the box at its offset. */
static bool place_chunk(struct match *m)
{
    const struct sl_tensor *t = m->t;
    if (t->ndim != m->stored->ndim || m->stored->as_ndim || !same_shape(t->global_shape, m->stored->shape, t->ndim))
        return false;
    for (uint32_t a = 0; a < t->ndim; a++) {
        m->lo[a] = t->global_offset[a];
        m->hi[a] = m->lo[a] + t->shape[a];
        if (m->lo[a] < 0 || m->hi[a] > m->stored->shape[a])
            return false;
    }
    return true;
}

/* Is the tensor the box that the rule expects it to be? */
static bool fits(const struct source *s, struct match *m)
{
    const struct sl_tensor *t = m->t;
    const bool is_chunk = !s->has_ranks && t->global_shape && t->global_offset &&
                          !same_shape(t->shape, t->global_shape, t->ndim);
    m->divides = rulebook_box(&s->b.book, m->rule, m->stored, rank_of(s, t)->tp, m->lo, m->hi, &m->parts) &&
                 sl_stored_shape(m->stored, m->lo, m->hi, m->shape, &m->ndim);
    if (!m->divides || is_chunk)
        return m->divides && place_chunk(m);
    return t->ndim == m->ndim && same_shape(t->shape, m->shape, t->ndim);
}

/* "15 columns found, 16 expected = 32 / tp 2" for the first axis that differs. */
static void shape_arithmetic(const struct source *s, const struct match *m, const int64_t *found, char *out, size_t room)
{
    const struct rulebook *b = &s->b.book;
    uint32_t a = 0;
    while (a < m->ndim && m->t->ndim == m->ndim && found[a] == m->shape[a])
        a++;
    *out = 0;
    if (m->t->ndim != m->ndim || a == m->ndim)
        return;
    const long long is = found[a], want = m->shape[a], all = m->stored->as_ndim ? want : m->stored->shape[a];
    const bool exchanged = m->ndim == 2 && found[0] == m->shape[1] && found[1] == m->shape[0];
    const char *unit = a == 0 ? "rows" : a == 1 ? "columns" : "elements";
    if ((int32_t)a == m->rule->cut_axis && m->parts > 1 && all != want)
        snprintf(out, room, ": %lld %s found, %lld expected = %lld / %s %d%s", is, unit, want, all, m->rule->cut_over,
                 m->parts, is == all ? ": a full tensor saved as a shard?" : "");
    else
        snprintf(out, room, ": %lld %s found, %lld expected%s", is, unit, want,
                 exchanged ? ": rows and columns exchanged?"
                 : b->parallel.tp > 1 && is * b->parallel.tp == want ? ": a shard where every rank should hold the whole?" : "");
}

static int fail_shape(struct source *s, const struct match *m)
{
    const struct sl_tensor *t = m->t;
    const int64_t *found_shape = !s->has_ranks && t->global_shape ? t->global_shape : t->shape;
    char found[128], whole[128], more[256];
    sl_text_shape(found_shape, t->ndim, found, sizeof found);
    sl_text_shape(m->stored->shape, m->stored->ndim, whole, sizeof whole);
    if (!m->divides)
        return sl_fail(s->b.err, SL_INPUT, file_of(s, t), "%s: axis %d of the whole %s does not divide over %s %d",
                       t->name, m->rule->cut_axis, whole, m->rule->cut_over ? m->rule->cut_over : "tp", m->parts);
    shape_arithmetic(s, m, found_shape, more, sizeof more);
    s->misfit = t;
    return sl_fail(s->b.err, SL_INPUT, file_of(s, t), "%s is %s, which does not fit the model's %s%s", t->name,
                   found, whole, more);
}

/* What became of a tensor with one rule. */
enum outcome { PLACED, OTHER_NAME, NOT_NOW, NO_SUCH_LAYER, MISFIT, FAILED };

static enum outcome try_rule(struct source *s, struct rulebook *b, const struct sl_rule *rule, bool stacked,
                             struct match *m, int *rc)
{
    int32_t layer = -1, expert = -1;
    m->rule = rule;
    if (!sl_rule_match(rule->name, m->t->name, &layer, &expert))
        return OTHER_NAME;
    if ((*rc = global_names(s, m, stacked ? 0 : layer, expert)))
        return FAILED;
    const int32_t layers = rule->mtp || b->dialect == SL_DIALECT_HF ? b->layers + b->mtp : b->layers;
    if (m->names.layer >= layers && !stacked)
        return NO_SUCH_LAYER;
    if (!rulebook_when(b, rule->when, m->names.layer))
        return NOT_NOW;
    m->names.op = rulebook_op(b, rule, m->names.layer);
    if ((*rc = rulebook_map(b, rule, &m->stored, s->b.err)))
        return FAILED;
    if (!fits(s, m))
        return MISFIT;
    *rc = sl_stored_slices(m->stored, m->lo, m->hi, &m->names, &s->b.slices, s->b.err);
    return *rc ? FAILED : PLACED;
}

/* Tries the rules of one index. A misfit is kept in *bad; *why says why a known name is not used. */
static enum outcome try_rules(struct source *s, struct rulebook *b, const struct sl_rule_index *by, bool stacked,
                              const struct sl_tensor *t, struct match *bad, const char **why, int *rc)
{
    for (size_t i = sl_rule_index_first(by, t->name); i != SIZE_MAX; i = by->next[i]) {
        struct match m = { .t = t };
        const enum outcome o = try_rule(s, b, &b->rules[i], stacked, &m, rc);
        if (o == PLACED)
            s->label[t - s->tensors] = m.rule->label ? m.rule->label : "copy";
        if (o == PLACED || o == FAILED)
            return o;
        if (o == MISFIT && !bad->t)
            *bad = m;
        if (o == NOT_NOW)
            *why = sl_arena_printf(b->arena, "only a weight of a model that is \"%s\"", m.rule->when);
        if (o == NO_SUCH_LAYER)
            *why = sl_arena_printf(b->arena, "the model has %d layers", b->layers);
    }
    return OTHER_NAME;
}

static bool is_dropped(const struct source *s, const struct sl_tensor *t)
{
    const struct sl_family *f = s->b.book.model->family;
    for (size_t i = 0; i < f->drop_count; i++)
        if (sl_text_glob(f->drop[i], t->name))
            return true;
    return false;
}

/* Which tensors are factors of others. */
static int mark_factors(struct source *s)
{
    s->factor = SL_ARENA_NEW(s->b.book.arena, bool, s->c->tensor_count);
    if (!s->factor)
        return sl_fail_memory(s->b.err, s->c->tensor_count);
    for (size_t i = 0; i < s->c->tensor_count; i++)
        if (s->tensors[i].scales)
            s->factor[s->tensors[i].scales - s->c->tensors] = true;
    return SL_OK;
}

static int place_tensor(struct source *s, const struct sl_tensor *t)
{
    struct match bad = { 0 };
    const char *why = no_weight(t);
    int rc = SL_OK;
    enum outcome o = OTHER_NAME;
    if (!why) {
        why = "no rule of the family knows this name";
        o = try_rules(s, &s->b.book, &s->plain, false, t, &bad, &why, &rc);
        if (o == OTHER_NAME && s->may_stack)
            o = try_rules(s, &s->stacked_book, &s->stacked, true, t, &bad, &why, &rc);
    }
    if (o == PLACED || o == FAILED)
        return rc;
    if (bad.t)
        return fail_shape(s, &bad);
    if (!no_weight(t) && is_dropped(s, t))
        why = "no weight: made anew by the model";
    if (s->factor[t - s->tensors])
        why = "factors of blocks of a weight, which they are multiplied with";
    s->unused[s->b.layout->unused_count++] = (struct sl_unused){ (uint32_t)(t - s->tensors), why };
    return SL_OK;
}

/* ---- which params may be absent -------------------------------------------------- */

/* Is there a rule that must be met and gives this param? */
static bool is_required(const struct rulebook *b, const struct sl_param_rule *param, int32_t layer)
{
    for (size_t r = 0; r < b->count; r++) {
        const struct sl_stored *map = b->rules[r].optional ? NULL : b->stored[r];
        bool gives = false;
        for (size_t i = 0; map && i < map->part_count && !gives; i++)
            gives = map->parts[i].param == param->name;
        if (gives && rulebook_when(b, b->rules[r].when, layer))
            return true;
    }
    return false;
}

/* Rules whose map can't be compiled (a dim of a part this model does not have) are skipped:
 * where such a map is needed, a tensor of its name has been refused already. */
static void mark_optional(struct source *s)
{
    struct rulebook *b = &s->b.book;
    const struct sl_layout *l = s->b.layout;
    struct sl_param *params = (struct sl_param *)(uintptr_t)l->params;
    for (size_t r = 0; r < b->count; r++) {
        const struct sl_stored *map;
        struct sl_error ignored;
        (void)rulebook_map(b, &b->rules[r], &map, &ignored);
    }
    for (size_t i = 0; i < l->param_count; i++) {
        const struct sl_param_rule *rule = &b->model->family->params[b->rule_of[i]];
        params[i].optional = !is_required(b, rule, params[i].layer);
    }
}

/* Shards that are whole on every rank may fit, as those of a model that is too wide. */
static int refuse_whole(const struct sl_ckpt *c, struct sl_error *err)
{
    for (size_t i = 0; i < c->problems.count; i++)
        if (!strcmp(c->problems.items[i].code, "shape-unexpected"))
            return sl_fail(err, SL_INPUT, c->problems.items[i].where, "%s; expected %s", c->problems.items[i].message,
                           c->problems.items[i].expected);
    return SL_OK;
}

int sl_layout_source(const struct sl_model *m, const struct sl_ckpt *c, struct sl_arena *arena,
                     struct sl_layout *out, struct sl_error *err)
{
    static const struct sl_parallel one = { 1, 1, 1, 1, 1 };
    struct source s = { .b = { .layout = out, .err = err }, .c = c };
    int rc = refuse_whole(c, err);
    if (!rc)
        rc = sl_ckpt_scaled(c, arena, &s.tensors, err);
    if (rc)
        return rc;
    s.has_ranks = c->container == SL_MEGATRON_TORCH;
    s.may_stack = c->container == SL_MEGATRON_TORCH_DIST || c->container == SL_MEGATRON_ZARR;
    *out = (struct sl_layout){ .tensors = s.tensors, .tensor_count = c->tensor_count,
                               .ranks = c->ranks, .rank_count = c->rank_count };
    rc = rulebook_make(&s.b.book, m, m->dialect, s.has_ranks ? &m->parallel : &one, m->padded_vocab,
                           arena, err);
    if (rc)
        return rc;
    s.unused = SL_ARENA_NEW(arena, struct sl_unused, c->tensor_count);
    s.label = SL_ARENA_NEW(arena, const char *, c->tensor_count);
    if (!s.unused || !s.label)
        return sl_fail_memory(err, c->tensor_count * sizeof *s.unused);
    out->unused = s.unused;
    out->rule = s.label;

    rc = mark_factors(&s);
    if (!rc)
        rc = sl_rule_index_make(&s.plain, s.b.book.rules, s.b.book.count, arena, err);
    if (!rc && s.may_stack)
        rc = rulebook_stack(&s.b.book, &s.stacked_book, err);
    if (!rc && s.may_stack)
        rc = sl_rule_index_make(&s.stacked, s.stacked_book.rules, s.stacked_book.count, arena, err);
    if (!rc)
        rc = builder_params(&s.b);
    for (size_t i = 0; i < c->tensor_count && !rc; i++)
        rc = place_tensor(&s, &s.tensors[i]);
    if (!rc)
        mark_optional(&s);
    sl_rule_index_free(&s.plain);
    sl_rule_index_free(&s.stacked);
    rc = builder_finish(&s.b, rc);
    out->misfit = rc ? s.misfit : NULL;
    out->misfit_counts = rc && s.misfit_counts;
    return rc;
}
