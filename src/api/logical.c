/* logical.c: stored tensors merged over ranks: one entry a weight tensor, with
 * the global layer number in its name, whole shape, and how it is cut. Equal
 * names that are not cuts or copies of one tensor are marked odd, never merged
 * in silence. */
#include "api/handle.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/text.h"
#include "model/ruleindex.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_ROOM 512

struct kind_row { const char *part, *kind; };
/* The first whose part is in the name; names of all dialects. */
static const struct kind_row kinds[] = {
    { "word_embeddings_for_head", "head" }, { "embed_tokens", "embedding" }, { "word_embeddings", "embedding" },
    { "position_embeddings", "embedding" }, { "output_layer", "head" }, { "lm_head", "head" },
    { "router", "router" }, { ".mlp.gate.", "router" }, { "block_sparse_moe.gate.", "router" },
    { "layer_norm", "norm" }, { "layernorm", "norm" }, { "_norm.", "norm" }, { ".norm.", "norm" },
    { "experts", "experts" },
    { "self_attention", "attention" }, { "self_attn", "attention" }, { ".attention.", "attention" },
    { ".mlp.", "mlp" }, { "feed_forward", "mlp" },
};

static const char *kind_by_flags(const struct sl_tensor *t)
{
    if (t->flags & SL_TENSOR_OPTIMIZER)
        return "optimizer";
    if (t->flags & SL_TENSOR_EXTRA)
        return "extra";
    return NULL;
}

static const char *kind_by_name(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strstr(name, kinds[i].part))
            return kinds[i].kind;
    return "other";
}

/* ---- names --------------------------------------------------------------------- */

struct naming { const struct sl_rule *rule; int32_t layer, expert; };

/* Rule of the model's dialect that knows the name; NULL: none does. */
static struct naming naming_of(const struct sl_checkpoint *ck, const struct sl_rule_index *index, const struct sl_tensor *t)
{
    struct naming n = { NULL, -1, -1 };
    const struct sl_rule *rules = ck->m->family ? ck->m->family->rules[ck->m->dialect] : NULL;
    for (size_t i = sl_rule_index_first(index, t->name); i != SIZE_MAX && !n.rule; i = index->next[i])
        if (sl_rule_match(rules[i].name, t->name, &n.layer, &n.expert))
            n.rule = &rules[i];
    return n;
}

static bool has_ranks(const struct sl_checkpoint *ck)
{
    return ck->c->rank_count > 0;
}

/* "layers.N." of a name no rule knows. */
static int32_t layer_in(const char *name, size_t *begin, size_t *end)
{
    const char *p = strstr(name, "layers.");
    if (!p || (p != name && p[-1] != '.'))
        return -1;
    const char *digits = p + 7;
    const size_t len = strspn(digits, "0123456789");
    if (!len || len > 6 || digits[len] != '.')
        return -1;
    *begin = (size_t)(digits - name);
    *end = *begin + len;
    int32_t layer = 0;
    for (size_t i = 0; i < len; i++)
        layer = layer * 10 + (digits[i] - '0');
    return layer;
}

static int32_t global_layer(const struct sl_checkpoint *ck, const struct sl_tensor *t, int32_t local)
{
    if (local < 0 || !has_ranks(ck) || t->rank < 0)
        return local;
    const int32_t layer = sl_model_layer(ck->m, ck->c->ranks[t->rank].pp, t->chunk, local);
    return layer >= 0 ? layer : local;
}

static int32_t global_expert(const struct sl_checkpoint *ck, const struct sl_tensor *t, int32_t local)
{
    if (local < 0 || t->rank < 0 || !ck->m->moe || ck->m->parallel.ep < 2)
        return local;
    return ck->c->ranks[t->rank].ep * (ck->m->moe->num_experts / ck->m->parallel.ep) + local;
}

/* The name with global numbers: the stored one where those are its own. NULL: memory is out. */
static const char *global_name(struct sl_checkpoint *ck, const struct sl_tensor *t, struct naming *n)
{
    char text[NAME_ROOM];
    size_t begin = 0, end = 0;
    const int32_t local = n->rule ? n->layer : layer_in(t->name, &begin, &end), expert = n->expert;
    n->layer = global_layer(ck, t, local);
    n->expert = n->rule ? global_expert(ck, t, expert) : expert;
    if (n->layer == local && n->expert == expert)
        return t->name;
    if (!n->rule)
        return sl_arena_printf(&ck->arena, "%.*s%d%s", (int)begin, t->name, n->layer, t->name + end);
    sl_rule_name(n->rule->name, n->layer, n->expert, text, sizeof text);
    return sl_arena_str(&ck->arena, text);
}

/* ---- merging ---------------------------------------------------------------------- */

struct merged {
    struct sl_logical l;
    const struct sl_rule *rule;
    size_t first;                        /* stored tensor met first, for the order */
    size_t count, room;
    size_t *pieces;
};

static int merged_add(struct merged *m, size_t tensor, struct sl_error *err)
{
    if (m->count == m->room) {
        const size_t room = m->room ? 2 * m->room : 2;
        size_t *grown = realloc(m->pieces, room * sizeof *grown);
        if (!grown)
            return sl_fail_memory(err, room * sizeof *grown);
        m->pieces = grown;
        m->room = room;
    }
    m->pieces[m->count++] = tensor;
    return SL_OK;
}

static bool same_shape(const struct sl_tensor *a, const struct sl_tensor *b)
{
    return a->ndim == b->ndim && (!a->ndim || !memcmp(a->shape, b->shape, a->ndim * sizeof *a->shape));
}

static int32_t axis_rank(const struct sl_checkpoint *ck, const struct sl_tensor *t, const char *axis)
{
    const struct sl_rank *r = &ck->c->ranks[t->rank];
    return !strcmp(axis, "tp") ? r->tp : r->tp % (ck->m->parallel.etp ? ck->m->parallel.etp : 1);
}

/* Pieces that are cuts along one axis: the whole is the sum over different ranks of that axis. */
static void join_cut(struct sl_checkpoint *ck, struct merged *m, int64_t *shape)
{
    const struct sl_tensor *first = &ck->c->tensors[m->pieces[0]];
    const int32_t axis = m->rule->cut_axis;
    int64_t sum = 0;
    size_t cuts = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct sl_tensor *t = &ck->c->tensors[m->pieces[i]];
        bool copy = false;
        for (size_t k = 0; k < i && !copy; k++)
            copy = axis_rank(ck, &ck->c->tensors[m->pieces[k]], m->rule->cut_over) == axis_rank(ck, t, m->rule->cut_over);
        if (t->dtype != first->dtype || !same_shape(t, first))
            m->l.odd = "its shards differ in shape or dtype";
        if (copy)
            continue;
        sum += t->shape[axis];
        cuts++;
    }
    const int32_t wanted = !strcmp(m->rule->cut_over, "tp") ? ck->m->parallel.tp : ck->m->parallel.etp;
    shape[axis] = sum;
    m->l.split = cuts > 1 ? SL_SPLIT : SL_WHOLE;
    m->l.split_axis = cuts > 1 ? axis : -1;
    if ((int32_t)cuts < wanted)
        m->l.odd = "shards of it are missing";
    const bool halves = strstr(m->rule->map, "(tp [") || strstr(m->rule->map, "(etp [");
    m->l.split_text = cuts <= 1 && wanted <= 1 ? "whole"
                    : sl_arena_printf(&ck->arena, halves ? "%s half" : "%s dim%d", m->rule->cut_over, axis);
}

/* Pieces no rule cuts: copies of each other, if they are alike. */
static void join_copies(struct sl_checkpoint *ck, struct merged *m)
{
    const struct sl_tensor *first = &ck->c->tensors[m->pieces[0]];
    bool alike = true;
    for (size_t i = 1; i < m->count; i++) {
        const struct sl_tensor *t = &ck->c->tensors[m->pieces[i]];
        alike = alike && t->dtype == first->dtype && same_shape(t, first);
    }
    m->l.split_axis = -1;
    if (m->count > 1 && first->flags & (SL_TENSOR_OPTIMIZER | SL_TENSOR_EXTRA)) {
        m->l.split = SL_WHOLE;           /* no weight: every rank keeps its own */
        m->l.split_text = sl_arena_printf(&ck->arena, "own x%zu", m->count);
    } else if (m->count == 1) {
        m->l.split = SL_WHOLE;
        m->l.split_text = "whole";
    } else if (m->rule && alike) {
        m->l.split = SL_COPY;
        m->l.split_text = sl_arena_printf(&ck->arena, "copy x%zu", m->count);
    } else {
        m->l.split = SL_ODD;
        m->l.split_text = sl_arena_printf(&ck->arena, "%zu shards", m->count);
        m->l.odd = alike ? "no rule says how its shards join" : "its shards differ in shape or dtype";
    }
}

/* Chunks of one array of a distributed checkpoint. That they cover it was looked at when it was opened. */
static void join_chunks(struct sl_checkpoint *ck, struct merged *m, int64_t *shape)
{
    const struct sl_tensor *first = &ck->c->tensors[m->pieces[0]];
    int32_t axes = 0;
    memcpy(shape, first->global_shape, first->ndim * sizeof *shape);
    m->l.split_axis = -1;
    for (uint32_t a = 0; a < first->ndim; a++) {
        if (first->shape[a] == first->global_shape[a])
            continue;
        m->l.split_axis = (int32_t)a;
        axes++;
    }
    if (axes > 1)
        m->l.split_axis = -1;
    for (size_t i = 0; i < m->count; i++) {
        const struct sl_tensor *t = &ck->c->tensors[m->pieces[i]];
        if (t->dtype != first->dtype || t->ndim != first->ndim || memcmp(t->global_shape, shape, t->ndim * sizeof *shape))
            m->l.odd = "its chunks are of arrays that differ in shape or dtype";
    }
    m->l.split = SL_SPLIT;
    m->l.split_text = axes > 1 ? sl_arena_printf(&ck->arena, "chunks x%zu", m->count)
                               : sl_arena_printf(&ck->arena, "dim%d x%zu", m->l.split_axis, m->count);
}

/* Names of one rule differ in their numbers alone, and so are of one kind. by_rule: found before, NULL: not yet. */
static const char *kind_of(const struct sl_checkpoint *ck, const struct merged *m, const struct sl_tensor *t, const char **by_rule)
{
    const char *kind = kind_by_flags(t);
    if (kind || !m->rule)
        return kind ? kind : kind_by_name(t->name);
    const size_t rule = (size_t)(m->rule - ck->m->family->rules[ck->m->dialect]);
    if (!by_rule[rule])
        by_rule[rule] = kind_by_name(t->name);
    return by_rule[rule];
}

static int join(struct sl_checkpoint *ck, struct merged *m, const char **kind_by_rule, struct sl_error *err)
{
    const struct sl_tensor *first = &ck->c->tensors[m->pieces[0]];
    int64_t *shape = sl_arena_copy(&ck->arena, first->shape, first->ndim * sizeof *shape);
    if (!shape)
        return sl_fail_memory(err, first->ndim * sizeof *shape);
    const bool is_cut = m->rule && m->rule->cut_axis >= 0 && (uint32_t)m->rule->cut_axis < first->ndim && first->rank >= 0;
    if (is_cut)
        join_cut(ck, m, shape);
    else if (sl_tensor_is_chunk(first))
        join_chunks(ck, m, shape);
    else
        join_copies(ck, m);
    uint64_t count = 1;
    for (uint32_t a = 0; a < first->ndim; a++)
        count *= (uint64_t)shape[a];
    m->l.dtype = first->dtype;
    m->l.ndim = first->ndim;
    m->l.shape = shape;
    m->l.bytes = count * sl_dtype_size(first->dtype);
    m->l.kind = kind_of(ck, m, first, kind_by_rule);
    m->l.pieces = sl_arena_copy(&ck->arena, m->pieces, m->count * sizeof *m->pieces);
    m->l.piece_count = m->count;
    return m->l.pieces && m->l.split_text ? SL_OK : sl_fail_memory(err, m->count * sizeof *m->pieces);
}

/* ---- order --------------------------------------------------------------------------- */

/* As a model is built: embedding, layers, what follows them, and then what is no weight. */
static int class_of(const struct merged *m)
{
    if (!strcmp(m->l.kind, "extra") || !strcmp(m->l.kind, "optimizer"))
        return 3;
    if (m->l.layer >= 0)
        return 1;
    return !strcmp(m->l.kind, "embedding") ? 0 : 2;
}

static int by_place(const void *x, const void *y)
{
    const struct merged *a = x, *b = y;
    const int ca = class_of(a), cb = class_of(b);
    if (ca != cb)
        return ca - cb;
    if (a->l.layer != b->l.layer)
        return a->l.layer < b->l.layer ? -1 : 1;
    return a->first < b->first ? -1 : a->first > b->first;
}

/* Without ranks a stored name is global as it is: the chunks of one array are found by it. */
static bool is_met(const struct sl_checkpoint *ck, const struct sl_map *names, const struct sl_tensor *t, uint64_t *at)
{
    return !has_ranks(ck) && !(t->flags & SL_TENSOR_OPTIMIZER) && sl_map_get(names, t->name, strlen(t->name), at);
}

static int collect(struct sl_checkpoint *ck, const struct sl_rule_index *index, struct merged **list, size_t *count, struct sl_error *err)
{
    struct sl_map names = { 0 };
    size_t room = 0;
    int code = SL_OK;
    for (size_t i = 0; i < ck->c->tensor_count && !code; i++) {
        const struct sl_tensor *t = &ck->c->tensors[i];
        uint64_t met;
        if (is_met(ck, &names, t, &met)) {
            code = merged_add(&(*list)[met], i, err);
            continue;
        }
        struct naming n = naming_of(ck, index, t);
        uint64_t at = *count;
        bool added = false;
        const char *name = global_name(ck, t, &n);
        if (t->flags & SL_TENSOR_OPTIMIZER)
            name = t->path;
        if (!name || !sl_map_add(&names, name, strlen(name), &at, &added))
            code = sl_fail_memory(err, ck->c->tensor_count * sizeof(struct sl_map_slot));
        if (!code && added && *count == room) {
            room = room ? 2 * room : 256;
            struct merged *grown = realloc(*list, room * sizeof *grown);
            if (!grown)
                code = sl_fail_memory(err, room * sizeof *grown);
            else
                *list = grown;
        }
        if (!code && added)
            (*list)[(*count)++] = (struct merged){ .l = { .name = name, .layer = n.layer, .expert = n.expert }, .rule = n.rule, .first = i };
        if (!code)
            code = merged_add(&(*list)[at], i, err);
    }
    sl_map_free(&names);
    return code;
}

int sl_logicals_make(struct sl_checkpoint *ck, struct sl_error *err)
{
    const struct sl_family *f = ck->m->family;
    struct sl_rule_index index = { .next = NULL };
    struct merged *list = NULL;
    size_t count = 0;
    const size_t rules = f ? f->rule_count[ck->m->dialect] : 0;
    const char **kind_by_rule = SL_ARENA_NEW(&ck->arena, const char *, rules);
    int code = kind_by_rule ? SL_OK : sl_fail_memory(err, rules * sizeof *kind_by_rule);
    if (!code && rules)
        code = sl_rule_index_make(&index, f->rules[ck->m->dialect], rules, &ck->arena, err);
    code = code ? code : collect(ck, &index, &list, &count, err);
    sl_rule_index_free(&index);
    for (size_t i = 0; i < count && !code; i++)
        code = join(ck, &list[i], kind_by_rule, err);
    if (!code && count)
        qsort(list, count, sizeof *list, by_place);
    ck->logicals = code ? NULL : SL_ARENA_NEW(&ck->arena, struct sl_logical, count);
    ck->logical_of = code ? NULL : calloc(ck->c->tensor_count + 1, sizeof *ck->logical_of);
    if (!code && (!ck->logicals || !ck->logical_of || !sl_map_reserve(&ck->by_name, count)))
        code = sl_fail_memory(err, count * sizeof *ck->logicals);
    for (size_t i = 0; i < count && !code; i++) {
        ck->logicals[i] = list[i].l;
        for (size_t k = 0; k < list[i].count; k++)
            ck->logical_of[list[i].pieces[k]] = i;
        if (!sl_map_put(&ck->by_name, list[i].l.name, strlen(list[i].l.name), i))
            code = sl_fail_memory(err, count * sizeof(struct sl_map_slot));
    }
    ck->logical_count = code ? 0 : count;
    for (size_t i = 0; i < count; i++)
        free(list[i].pieces);
    free(list);
    return code;
}

size_t sl_logical_count(const struct sl_checkpoint *ck)
{
    return ck->logical_count;
}

const struct sl_logical *sl_logical_at(const struct sl_checkpoint *ck, size_t index)
{
    return index < ck->logical_count ? &ck->logicals[index] : NULL;
}

/* ---- by any name ------------------------------------------------------------------------ */

/* The Hugging Face names of the same weights, made once. */
static const struct sl_layout *hf_names(struct sl_checkpoint *ck)
{
    pthread_mutex_lock(&ck->lock);
    if (!ck->hf_tried && ck->has_layout) {
        const struct sl_target_spec spec = { .dialect = SL_DIALECT_HF, .parallel = { 1, 1, 1, 1, 1 }, .source = &ck->layout };
        if (sl_layout_target(ck->m, &spec, &ck->arena, &ck->hf, NULL)) {
            sl_layout_free(&ck->hf);
            ck->hf = (struct sl_layout){ 0 };
        }
    }
    ck->hf_tried = true;
    pthread_mutex_unlock(&ck->lock);
    return &ck->hf;
}

static ptrdiff_t find_hf(struct sl_checkpoint *ck, const char *name)
{
    const struct sl_layout *hf = hf_names(ck);
    for (size_t i = 0; i < hf->slice_count; i++) {
        const struct sl_slice *s = &hf->slices[i];
        uint64_t param;
        if (strcmp(hf->tensors[s->tensor].name, name))
            continue;
        const char *wanted = hf->params[s->param].name;
        if (sl_map_get(&ck->layout.param_index, wanted, strlen(wanted), &param) &&
            ck->layout.param_first[param] < ck->layout.param_first[param + 1])
            return (ptrdiff_t)ck->logical_of[ck->layout.slices[ck->layout.param_first[param]].tensor];
    }
    return -1;
}

ptrdiff_t sl_logical_find(const struct sl_checkpoint *ck, const char *name)
{
    uint64_t at;
    if (sl_map_get(&ck->by_name, name, strlen(name), &at))
        return (ptrdiff_t)at;
    for (size_t i = 0; i < ck->c->tensor_count; i++)
        if (!strcmp(ck->c->tensors[i].name, name) || !strcmp(ck->c->tensors[i].path, name))
            return (ptrdiff_t)ck->logical_of[i];
    return find_hf((struct sl_checkpoint *)(uintptr_t)ck, name);
}
