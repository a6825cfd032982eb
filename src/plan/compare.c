/* compare.c: the copies between two layouts of the same params, each element once. */
#include "plan/cover.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

struct lists { uint32_t *only_a, *only_b, *shape_differs; };

static bool is_held(const struct sl_layout *l, size_t param)
{
    return l->param_first[param + 1] > l->param_first[param];
}

static bool same_shape(const struct sl_param *a, const struct sl_param *b)
{
    return a->ndim == b->ndim && !memcmp(a->shape, b->shape, a->ndim * sizeof a->shape[0]);
}

/* Index of a's param in b; -1 when b does not hold it. */
static int64_t find_in(const struct sl_layout *b, const char *name)
{
    uint64_t at;
    return sl_map_get(&b->param_index, name, strlen(name), &at) && is_held(b, at) ? (int64_t)at : -1;
}

static int compare_param(const struct sl_layout *a, const struct sl_layout *b, uint32_t in_a, uint32_t in_b,
                         struct cover *ca, struct cover *cb, struct copies *list, struct sl_error *err)
{
    const size_t first = list->count;
    int rc = cover_of(a, in_a, ca, err);
    if (!rc)
        rc = cover_of(b, in_b, cb, err);
    if (!rc)
        rc = copies_between(ca, cb->boxes, cb->of, cb->count, in_a, a->params[in_a].ndim, list, err);
    if (!rc)
        copies_settle(list, first);
    return rc;
}

static int compare_params(const struct sl_layout *a, const struct sl_layout *b, const struct lists *lists,
                          size_t *param_first, struct copies *list, struct sl_comparison *out, struct sl_error *err)
{
    struct cover ca = { 0 }, cb = { 0 };
    int rc = SL_OK;
    for (size_t i = 0; i < a->param_count && !rc; i++) {
        const int64_t at = find_in(b, a->params[i].name);
        param_first[i] = list->count;
        if (!is_held(a, i))
            continue;
        if (at < 0)
            lists->only_a[out->only_a_count++] = (uint32_t)i;
        else if (!same_shape(&a->params[i], &b->params[at]))
            lists->shape_differs[out->shape_differs_count++] = (uint32_t)i;
        else
            rc = compare_param(a, b, (uint32_t)i, (uint32_t)at, &ca, &cb, list, err);
    }
    param_first[a->param_count] = list->count;
    for (size_t i = 0; i < b->param_count && !rc; i++)
        if (is_held(b, i) && find_in(a, b->params[i].name) < 0)
            lists->only_b[out->only_b_count++] = (uint32_t)i;
    cover_free(&ca);
    cover_free(&cb);
    return rc;
}

int sl_comparison_make(const struct sl_layout *a, const struct sl_layout *b, struct sl_arena *arena,
                       struct sl_comparison *out, struct sl_error *err)
{
    struct copies list = { 0 };
    const struct lists lists = { SL_ARENA_NEW(arena, uint32_t, a->param_count),
                                 SL_ARENA_NEW(arena, uint32_t, b->param_count),
                                 SL_ARENA_NEW(arena, uint32_t, a->param_count) };
    size_t *param_first = SL_ARENA_NEW(arena, size_t, a->param_count + 1);
    if (!lists.only_a || !lists.only_b || !lists.shape_differs || !param_first)
        return sl_fail_memory(err, (a->param_count + b->param_count) * sizeof *param_first);
    *out = (struct sl_comparison){ .param_first = param_first, .only_a = lists.only_a, .only_b = lists.only_b,
                                   .shape_differs = lists.shape_differs };
    int rc = compare_params(a, b, &lists, param_first, &list, out, err);
    if (!rc) {
        out->copies = sl_arena_copy(arena, list.items, list.count * sizeof *list.items);
        out->copy_count = list.count;
        if (!out->copies)
            rc = sl_fail_memory(err, list.count * sizeof *list.items);
    }
    free(list.items);
    return rc;
}
