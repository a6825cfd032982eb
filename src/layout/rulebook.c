/* rulebook.c: see rulebook.h. */
#include "layout/rulebook.h"

#include "base/error.h"
#include "base/num.h"
#include "base/text.h"

#include <string.h>

/* ---- dims ------------------------------------------------------------------ */

static bool look_up(void *arg, const char *name, size_t len, int64_t *value)
{
    struct rulebook *b = arg;
    if (len == 5 && !memcmp(name, "layer", 5))
        *value = b->layers;
    else if (len == 6 && !memcmp(name, "expert", 6))
        *value = b->experts / b->parallel.ep;
    else
        return sl_model_dim(b->model, name, len, b->parallel.tp, b->parallel.etp, b->padded_vocab,
                            value, &b->dim_error) == SL_OK;
    return true;
}

int rulebook_dim(struct rulebook *b, const char *text, size_t len, int64_t *value, struct sl_error *err)
{
    b->dim_error.code = SL_OK;
    const int rc = sl_expression(text, len, look_up, b, value, err);
    if (rc && b->dim_error.code != SL_OK && err)
        *err = b->dim_error;     /* knows more than "unknown name" */
    return rc;
}

/* ---- maps ------------------------------------------------------------------ */

static int map_dim(void *arg, const char *text, size_t len, int64_t *value, struct sl_error *err)
{
    return rulebook_dim(arg, text, len, value, err);
}

/* Is `name` the whole pattern, or what follows one of its dots? */
static bool is_ending(const char *pattern, const char *name, size_t len)
{
    const size_t all = strlen(pattern);
    return all >= len && !memcmp(pattern + all - len, name, len) &&
           (all == len || pattern[all - len - 1] == '.');
}

static const char *map_param(void *arg, const char *name, size_t len, const char **axes,
                             struct sl_error *err)
{
    const struct rulebook *b = arg;
    const struct sl_family *f = b->model->family;
    const struct sl_param_rule *found = NULL;
    for (size_t i = 0; i < f->param_count; i++) {
        const struct sl_param_rule *p = &f->params[i];
        if (!is_ending(p->name, name, len))
            continue;
        if (found && strlen(found->name) != len && strlen(p->name) != len) {
            sl_fail(err, SL_USAGE, f->name, "'%.*s' may be %s or %s: give more of the name",
                    (int)len, name, found->name, p->name);
            return NULL;
        }
        if (!found || strlen(p->name) == len)
            found = p;
    }
    if (!found) {
        sl_fail(err, SL_USAGE, f->name, "no param is named '%.*s'", (int)len, name);
        return NULL;
    }
    *axes = found->axes;
    return found->name;
}

int rulebook_map(struct rulebook *b, const struct sl_rule *rule, const struct sl_stored **out,
                 struct sl_error *err)
{
    const size_t i = (size_t)(rule - b->rules);
    if (!b->stored[i]) {
        const struct sl_map_env env = { .dim = map_dim, .param = map_param, .arg = b };
        struct sl_stored *s = SL_ARENA_NEW(b->arena, struct sl_stored, 1);
        if (!s)
            return sl_fail_memory(err, sizeof *s);
        const int rc = sl_map_compile(rule->map, &env, b->arena, s, err);
        if (rc)
            return rc;
        if (rule->cut_over && rule->cut_axis >= (int32_t)s->ndim)
            return sl_fail(err, SL_USAGE, rule->name, "it is cut at axis %d, and its map has %u axes, counted from 0", rule->cut_axis, s->ndim);
        b->stored[i] = s;
    }
    *out = b->stored[i];
    return SL_OK;
}

/* ---- conditions ------------------------------------------------------------ */

static bool flag_holds(const struct rulebook *b, const char *flag, size_t len, int32_t layer)
{
    char name[64];
    if (len == 9 && !memcmp(flag, "moe_layer", 9))
        return layer >= 0 && layer < b->layers + b->mtp && b->moe_layer[layer];
    if (len == 9 && !memcmp(flag, "mtp_layer", 9))
        return layer >= b->layers;
    if (len == 2 && !memcmp(flag, "pp", 2))
        return b->parallel.pp > 1;
    if (len >= sizeof name)
        return false;
    memcpy(name, flag, len);
    name[len] = 0;
    return sl_model_flag(b->model, name);
}

bool rulebook_when(const struct rulebook *b, const char *when, int32_t layer)
{
    for (const char *p = when ? when : ""; *(p += strspn(p, " &")); ) {
        const bool negated = *p == '!';
        p += negated;
        p += strspn(p, " ");
        const size_t len = strcspn(p, " &");
        if (flag_holds(b, p, len, layer) == negated)
            return false;
        p += len;
    }
    return true;
}

/* ---- cuts ------------------------------------------------------------------ */

int32_t rulebook_etp_index(const struct rulebook *b, int32_t tp)
{
    return tp % b->parallel.etp;
}

bool rulebook_box(const struct rulebook *b, const struct sl_rule *rule, const struct sl_stored *stored,
                  int32_t tp, int64_t *lo, int64_t *hi, int32_t *parts)
{
    const bool experts = rule->cut_over && !strcmp(rule->cut_over, "etp");
    const bool cut = rule->cut_over && rule->cut_axis >= 0 && (uint32_t)rule->cut_axis < stored->ndim;
    *parts = !cut ? 1 : experts ? b->parallel.etp : b->parallel.tp;
    for (uint32_t a = 0; a < stored->ndim; a++) {
        lo[a] = 0;
        hi[a] = stored->shape[a];
    }
    return !cut || sl_block_of(&lo[rule->cut_axis], &hi[rule->cut_axis],
                               experts ? rulebook_etp_index(b, tp) : tp, *parts);
}

struct sl_op rulebook_op(const struct rulebook *b, const struct sl_rule *rule, int32_t layer)
{
    const bool adds = (rule->add < 0 || rule->add > 0) && rulebook_when(b, rule->add_when, layer);
    return (struct sl_op){ .kind = adds ? SL_OP_ADD : SL_OP_NONE, .value = adds ? rule->add : 0 };
}

/* ---- making ---------------------------------------------------------------- */

static int32_t positive(int32_t n)
{
    return n > 0 ? n : 1;
}

int rulebook_make(struct rulebook *b, const struct sl_model *m, enum sl_dialect dialect,
                  const struct sl_parallel *parallel, int64_t padded_vocab, struct sl_arena *arena,
                  struct sl_error *err)
{
    int64_t layers = 0;
    if (!m->family)
        return sl_fail(err, SL_UNSUPPORTED, "", "the model's family is not known, so its weights can't "
                       "be told apart: name it with --model, or describe it with --family-file");
    if (!sl_model_int(m, "num_layers", &layers) || layers < 0 || layers > INT32_MAX - m->mtp_layers)
        return sl_fail(err, SL_USAGE, "", "the number of layers is not known: state it with "
                       "--set num_layers=N");
    *b = (struct rulebook){ .model = m, .arena = arena, .dialect = dialect, .padded_vocab = padded_vocab,
                            .layers = (int32_t)layers, .mtp = m->mtp_layers, .experts = m->moe ? m->moe->num_experts : 0,
                            .rules = m->family->rules[dialect], .count = m->family->rule_count[dialect] };
    b->parallel.tp = positive(parallel->tp);
    b->parallel.pp = positive(parallel->pp);
    b->parallel.vpp = positive(parallel->vpp);
    b->parallel.ep = positive(parallel->ep);
    b->parallel.etp = positive(parallel->etp ? parallel->etp : parallel->tp);
    if (b->experts % b->parallel.ep)
        return sl_fail(err, SL_USAGE, "", "%d experts do not divide over ep %d", b->experts, b->parallel.ep);

    b->stored = SL_ARENA_NEW(arena, const struct sl_stored *, b->count);
    bool *moe_layer = SL_ARENA_NEW(arena, bool, (uint64_t)layers + (uint64_t)b->mtp);
    if (!b->stored || !moe_layer)
        return sl_fail_memory(err, b->count * sizeof *b->stored + (uint64_t)layers);
    for (size_t i = 0; m->moe && i < m->moe->layer_count; i++)
        if (m->moe->layers[i] >= 0 && m->moe->layers[i] < layers)
            moe_layer[m->moe->layers[i]] = true;
    for (int32_t k = 0; k < b->mtp; k++)
        moe_layer[layers + k] = sl_model_flag(m, "mtp_moe");
    b->moe_layer = moe_layer;
    return SL_OK;
}

static bool has_layer(const char *name)
{
    return strstr(name, ".{layer}") != NULL;
}

/* "decoder.layers.{layer}.mlp.x" -> "decoder.layers.mlp.x" */
static const char *without_layer(struct sl_arena *arena, const char *name)
{
    const char *at = strstr(name, ".{layer}");
    return sl_arena_printf(arena, "%.*s%s", (int)(at - name), name, at + strlen(".{layer}"));
}

/* Source: Megatron-LM megatron/core/transformer/transformer_block.py (sharded_state_dict) */
int rulebook_stack(const struct rulebook *b, struct rulebook *stacked, struct sl_error *err)
{
    struct sl_rule *rules = SL_ARENA_NEW(b->arena, struct sl_rule, b->count);
    *stacked = *b;
    stacked->stored = SL_ARENA_NEW(b->arena, const struct sl_stored *, b->count);
    stacked->rules = rules;
    if (!rules || !stacked->stored)
        return sl_fail_memory(err, b->count * sizeof *rules);
    for (size_t i = 0; i < b->count; i++) {
        if (!has_layer(b->rules[i].name) || b->rules[i].mtp)
            continue;
        rules[i] = b->rules[i];
        rules[i].name = without_layer(b->arena, b->rules[i].name);
        rules[i].map = sl_arena_printf(b->arena, "layer %s", b->rules[i].map);
        if (!rules[i].name || !rules[i].map)
            return sl_fail_memory(err, strlen(b->rules[i].map));
    }
    return SL_OK;
}

/* ---- natural order --------------------------------------------------------- */

static size_t run_end(const struct pattern_rows *rows, size_t from, size_t end, const char *index)
{
    while (from < end && strstr(rows->name(rows->rows, from), index))
        from++;
    return from;
}

static int visit_layer(const struct pattern_rows *rows, size_t from, size_t to, int32_t layer,
                       int32_t experts, int (*visit)(void *, size_t, int32_t, int32_t), void *arg)
{
    int rc = 0;
    for (size_t i = from; i < to && !rc; ) {
        const size_t end = run_end(rows, i, to, "{expert}");
        for (int32_t e = 0; e < experts; e++)
            for (size_t k = i; k < end && !rc; k++)
                rc = visit(arg, k, layer, e);
        if (end == i)
            rc = visit(arg, i, layer, -1);
        i = end == i ? i + 1 : end;
    }
    return rc;
}

int natural_order(const struct pattern_rows *rows, int32_t layers, int32_t experts,
                  int (*visit)(void *arg, size_t row, int32_t layer, int32_t expert), void *arg)
{
    int rc = 0;
    for (size_t i = 0; i < rows->count && !rc; ) {
        const size_t end = run_end(rows, i, rows->count, "{layer}");
        for (int32_t layer = 0; layer < layers && !rc; layer++)
            rc = visit_layer(rows, i, end, layer, experts, visit, arg);
        if (end == i)
            rc = visit_layer(rows, i, i + 1, -1, experts, visit, arg);
        i = end == i ? i + 1 : end;
    }
    return rc;
}
