/* layout.c: params of a model, and the assembly of a layout from slices. */
#include "layout/rulebook.h"

#include "base/error.h"
#include "base/num.h"
#include "base/text.h"

#include <string.h>

#define NAME_ROOM 512

/* ---- params ----------------------------------------------------------------- */

struct param_list {
    struct rulebook *book;
    struct sl_param *params;
    size_t count;                /* counted first, then filled */
    struct sl_error *err;
};

static const char *param_name(const void *rows, size_t row)
{
    return ((const struct sl_param_rule *)rows)[row].name;
}

static int set_axes(struct param_list *list, struct sl_param *p, const char *axes)
{
    for (const char *s = axes; *(s += strspn(s, " ")); s += strcspn(s, " ")) {
        const size_t len = strcspn(s, " ");
        if (p->ndim == SL_AXES)
            return sl_fail(list->err, SL_USAGE, p->name, "more than %d axes: %s", SL_AXES, axes);
        const int rc = rulebook_dim(list->book, s, len, &p->shape[p->ndim], list->err);
        if (rc)
            return rc;
        p->axis[p->ndim] = sl_arena_strn(list->book->arena, s, len);
        if (!p->axis[p->ndim++])
            return sl_fail_memory(list->err, len);
    }
    uint64_t count;
    if (!sl_shape_count(p->shape, p->ndim, &count))
        return sl_fail(list->err, SL_USAGE, p->name, "too large to count: %s", axes);
    return SL_OK;
}

/* The place of a layer and an expert in a table of numbers; NULL when it has none. */
static int32_t *number_at(const struct rulebook *b, const struct param_numbers *n, int32_t layer, int32_t expert)
{
    if ((n->has_layer && (layer < 0 || layer >= b->layers + b->mtp)) || (n->has_expert && (expert < 0 || expert >= b->experts)))
        return NULL;
    const size_t experts = n->has_expert ? (size_t)b->experts : 1;
    return &n->at[(n->has_layer ? (size_t)layer : 0) * experts + (n->has_expert ? (size_t)expert : 0)];
}

static int make_tables(struct rulebook *b, size_t params, struct sl_error *err)
{
    const struct sl_family *f = b->model->family;
    b->first_of = SL_ARENA_NEW(b->arena, const struct sl_param *, f->param_count);
    b->rule_of = SL_ARENA_NEW(b->arena, uint32_t, params);
    b->numbers = SL_ARENA_NEW(b->arena, struct param_numbers, f->param_count);
    if (!b->first_of || !b->rule_of || !b->numbers)
        return sl_fail_memory(err, params * sizeof *b->rule_of);
    for (size_t i = 0; i < f->param_count; i++) {
        struct param_numbers *n = &b->numbers[i];
        n->has_layer = strstr(f->params[i].name, "{layer}");
        n->has_expert = strstr(f->params[i].name, "{expert}");
        const size_t slots = (n->has_layer ? (size_t)(b->layers + b->mtp) : 1) * (n->has_expert ? (size_t)b->experts : 1);
        n->at = SL_ARENA_NEW(b->arena, int32_t, slots);
        if (!n->at)
            return sl_fail_memory(err, slots * sizeof *n->at);
        memset(n->at, 0xff, slots * sizeof *n->at);
    }
    return SL_OK;
}

static int add_param(void *arg, size_t row, int32_t layer, int32_t expert)
{
    struct param_list *list = arg;
    struct rulebook *b = list->book;
    const struct sl_param_rule *rule = &b->model->family->params[row];
    if (!rulebook_when(b, rule->when, layer))
        return SL_OK;
    if (!list->params) {
        list->count++;
        return SL_OK;
    }
    b->rule_of[list->count] = (uint32_t)row;
    *number_at(b, &b->numbers[row], layer, expert) = (int32_t)list->count;
    struct sl_param *p = &list->params[list->count++];
    char name[NAME_ROOM];
    sl_rule_name(rule->name, layer, expert, name, sizeof name);
    *p = (struct sl_param){ .name = sl_arena_str(b->arena, name), .layer = layer, .expert = expert };
    if (!p->name)
        return sl_fail_memory(list->err, strlen(name));
    /* Instances of one rule have one shape: that of the first serves all. */
    const struct sl_param *first = b->first_of[row];
    if (!first) {
        b->first_of[row] = p;
        return set_axes(list, p, rule->axes);
    }
    p->ndim = first->ndim;
    memcpy(p->shape, first->shape, sizeof p->shape);
    memcpy(p->axis, first->axis, sizeof p->axis);
    return SL_OK;
}

static int list_params(struct rulebook *b, const struct sl_param **params, size_t *count,
                       struct sl_error *err)
{
    const struct sl_family *f = b->model->family;
    const struct pattern_rows rows = { .name = param_name, .rows = f->params, .count = f->param_count };
    struct param_list list = { .book = b, .err = err };
    int rc = natural_order(&rows, b->layers + b->mtp, b->experts, add_param, &list);
    if (rc)
        return rc;
    if (list.count > INT32_MAX)
        return sl_fail(err, SL_UNSUPPORTED, "", "more than 2^31 weights");
    list.params = SL_ARENA_NEW(b->arena, struct sl_param, list.count);
    if (!list.params)
        return sl_fail_memory(err, list.count * sizeof *list.params);
    if ((rc = make_tables(b, list.count, err)))
        return rc;
    list.count = 0;
    rc = natural_order(&rows, b->layers + b->mtp, b->experts, add_param, &list);
    *params = list.params;
    *count = list.count;
    return rc;
}

int sl_layout_params(const struct sl_model *m, struct sl_arena *arena,
                     const struct sl_param **params, size_t *count, struct sl_error *err)
{
    struct rulebook b;
    const int rc = rulebook_make(&b, m, SL_DIALECT_HF, &(struct sl_parallel){ 1, 1, 1, 1, 1 },
                                 m->padded_vocab, arena, err);
    return rc ? rc : list_params(&b, params, count, err);
}

/* ---- building ----------------------------------------------------------------- */

int builder_params(struct builder *b)
{
    struct sl_layout *l = b->layout;
    const int rc = list_params(&b->book, &l->params, &l->param_count, b->err);
    if (rc)
        return rc;
    if (!sl_map_reserve(&l->param_index, l->param_count))
        return sl_fail_memory(b->err, l->param_count * sizeof(struct sl_map_slot));
    for (size_t i = 0; i < l->param_count; i++)
        if (!sl_map_put(&l->param_index, l->params[i].name, strlen(l->params[i].name), i))
            return sl_fail_memory(b->err, l->param_count * sizeof(struct sl_map_slot));
    return SL_OK;
}

int64_t builder_find(void *builder, const char *pattern, int32_t layer, int32_t expert)
{
    const struct rulebook *b = &((const struct builder *)builder)->book;
    const struct sl_family *f = b->model->family;
    size_t row = 0;
    while (row < f->param_count && f->params[row].name != pattern)
        row++;
    const int32_t *at = row < f->param_count ? number_at(b, &b->numbers[row], layer, expert) : NULL;
    return at ? *at : -1;
}

/* Counting sort by param; slices came by tensor, and stay so within a param. */
static int sort_slices(struct builder *b)
{
    struct sl_layout *l = b->layout;
    const struct sl_slices *s = &b->slices;
    size_t *first = SL_ARENA_NEW(b->book.arena, size_t, l->param_count + 2);
    struct sl_slice *sorted = SL_ARENA_NEW(b->book.arena, struct sl_slice, s->count);
    if (!first || !sorted)
        return sl_fail_memory(b->err, s->count * sizeof *sorted);
    for (size_t i = 0; i < s->count; i++)
        first[s->items[i].param + 2]++;
    for (size_t i = 2; i < l->param_count + 2; i++)
        first[i] += first[i - 1];
    for (size_t i = 0; i < s->count; i++)
        sorted[first[s->items[i].param + 1]++] = s->items[i];
    l->slices = sorted;
    l->slice_count = s->count;
    l->param_first = first;
    return SL_OK;
}

int builder_finish(struct builder *b, int rc)
{
    struct sl_layout *l = b->layout;
    if (!rc)
        rc = sort_slices(b);
    if (!rc && b->slices.padding_count) {
        l->padding = sl_arena_copy(b->book.arena, b->slices.padding,
                                   b->slices.padding_count * sizeof *l->padding);
        l->padding_count = b->slices.padding_count;
        if (!l->padding)
            rc = sl_fail_memory(b->err, b->slices.padding_count * sizeof *l->padding);
    }
    sl_slices_free(&b->slices);
    if (rc)
        sl_layout_free(l);
    return rc;
}

const char *no_weight(const struct sl_tensor *t)
{
    return t->flags & SL_TENSOR_EXTRA     ? "extra state of a module (fp8 scales and the like), no weight"
         : t->flags & SL_TENSOR_OPTIMIZER ? "state of the optimizer or of random numbers, no weight"
         : t->flags & SL_TENSOR_NO_DATA   ? "the file holds no data for it (meta tensor)"
                                          : NULL;
}

void sl_layout_free(struct sl_layout *l)
{
    if (l)
        sl_map_free(&l->param_index);
}

/* ---- every tensor a param of its own ------------------------------------------- */

/* Ranks of an unknown model hold different things under one name. */
static const char *identity_name(const struct sl_ckpt *c, const struct sl_tensor *t, struct sl_arena *arena)
{
    if (t->rank < 0)
        return t->name;
    return sl_arena_printf(arena, "%s/%d/%s", c->ranks[t->rank].path, t->chunk, t->name);
}

/* More axes than a param has are one. */
static void identity_shape(const struct sl_tensor *t, const int64_t *shape, struct sl_param *p)
{
    p->ndim = t->ndim > SL_AXES ? 1 : t->ndim;
    p->shape[0] = (int64_t)t->count;
    for (uint32_t a = 0; t->ndim <= SL_AXES && a < t->ndim; a++)
        p->shape[a] = shape[a];
}

static int identity_tensor(struct builder *b, const struct sl_tensor *t, uint32_t index, const char *name,
                           struct sl_param *params)
{
    static const int64_t zeros[SL_AXES];
    struct sl_layout *l = b->layout;
    struct sl_param whole = { .name = name, .layer = -1, .expert = -1 }, box = { 0 };
    uint64_t at = l->param_count;
    bool added;
    identity_shape(t, t->global_shape ? t->global_shape : t->shape, &whole);
    identity_shape(t, t->shape, &box);
    if (!sl_map_add(&l->param_index, name, strlen(name), &at, &added))
        return sl_fail_memory(b->err, sizeof(struct sl_map_slot));
    if (added)
        params[l->param_count++] = whole;
    if (params[at].ndim != whole.ndim || memcmp(params[at].shape, whole.shape, sizeof whole.shape))
        return sl_fail(b->err, SL_INPUT, name, "arrays of different shapes have this name");

    const int64_t *offset = t->ndim <= SL_AXES && t->global_offset ? t->global_offset : zeros;
    struct sl_slice s = { .param = (uint32_t)at, .tensor = index };
    int64_t step = 1;
    for (uint32_t a = whole.ndim; a-- > 0; step *= box.shape[a]) {
        s.lo[a] = offset[a];
        s.hi[a] = offset[a] + box.shape[a];
        s.stride[a] = step;
        if (s.lo[a] < 0 || s.hi[a] > whole.shape[a])
            return sl_fail(b->err, SL_INPUT, name, "a chunk reaches %lld on axis %u, which has %lld",
                           (long long)s.hi[a], a, (long long)whole.shape[a]);
    }
    return t->count ? sl_slices_add(&b->slices, &s, b->err) : SL_OK;
}

int sl_layout_identity(const struct sl_ckpt *c, struct sl_arena *arena, struct sl_layout *out,
                       struct sl_error *err)
{
    struct builder b = { .layout = out, .err = err, .book.arena = arena };
    *out = (struct sl_layout){ .tensors = c->tensors, .tensor_count = c->tensor_count,
                               .ranks = c->ranks, .rank_count = c->rank_count };
    struct sl_param *params = SL_ARENA_NEW(arena, struct sl_param, c->tensor_count);
    const char **rule = SL_ARENA_NEW(arena, const char *, c->tensor_count);
    struct sl_unused *unused = SL_ARENA_NEW(arena, struct sl_unused, c->tensor_count);
    if (!params || !rule || !unused)
        return sl_fail_memory(err, c->tensor_count * sizeof *params);
    out->params = params;
    out->rule = rule;
    out->unused = unused;

    int rc = SL_OK;
    for (size_t i = 0; i < c->tensor_count && !rc; i++) {
        const struct sl_tensor *t = &c->tensors[i];
        const char *why = no_weight(t), *name = identity_name(c, t, arena);
        if (why)
            unused[out->unused_count++] = (struct sl_unused){ (uint32_t)i, why };
        else if (!name)
            rc = sl_fail_memory(err, strlen(t->name));
        else if (!(rc = identity_tensor(&b, t, (uint32_t)i, name, params)))
            rule[i] = "copy";
    }
    return builder_finish(&b, rc);
}
