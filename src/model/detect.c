/* detect.c: what a checkpoint is: the steps in their order, and the parts of
 * the answer that are counted from the others. */
#include "model/internal.h"

#include "base/error.h"
#include "base/num.h"
#include "base/value.h"
#include <shardlens/shardlens.h>

#include <stdlib.h>
#include <string.h>

/* ---- flags --------------------------------------------------------------- */

bool sl_has_flag(const struct sl_detector *d, const char *flag)
{
    return sl_seen_flag(&d->seen, flag, strlen(flag));
}

int sl_set_flag(struct sl_detector *d, const char *flag)
{
    return sl_seen_add_flag(&d->seen, &d->m->arena, flag) ? SL_OK : sl_fail_memory(d->err, 0);
}

static bool seen_flag(void *arg, const char *flag, size_t len)
{
    return sl_seen_flag(arg, flag, len);
}

bool sl_flags_hold(const struct sl_detector *d, const char *condition)
{
    bool holds = true;
    return !condition || !*condition
        || (!sl_condition(condition, seen_flag, (void *)(uintptr_t)&d->seen, &holds, NULL) && holds);
}

/* Flags that settings raise (facts.json, "flags"). */
static int flags_of_settings(struct sl_detector *d)
{
    const struct sl_facts *f = sl_facts();
    int code = SL_OK;
    for (size_t i = 0; i < f->flag_count && !code; i++) {
        enum sl_said_by by;
        const struct sl_flag_rule *rule = &f->flags[i];
        const struct sl_value *v = sl_known(d, rule->key, &by);
        if (v && ((rule->is && sl_value_equal(v, rule->is)) || (rule->is_not && !sl_value_equal(v, rule->is_not))))
            code = sl_set_flag(d, rule->flag);
    }
    return code;
}

/* The row order of query_key_value in files of the legacy model
 * (Megatron-LM megatron/training/checkpointing.py, fix_query_key_value_ordering). */
static int flag_of_version(struct sl_detector *d)
{
    enum sl_said_by by;
    double version = d->c->checkpoint_version;
    const bool stated = sl_value_double(sl_known(d, "checkpoint_version", &by), &version);
    if (d->seen.dialect != SL_DIALECT_LEGACY || !sl_has_flag(d, "attention") || sl_has_flag(d, "gqa"))
        return SL_OK;
    if (!stated && version < 0) {
        version = 0;
        sl_problem_add(&d->m->problems, "config-missing", "checkpoint_version", NULL,
                       "the files do not say their checkpoint_version; rows of query, key and value are read as in version 0,"
                       " as Megatron does: state --set checkpoint_version=3 if a converter left it out");
    }
    return version < 1 ? sl_set_flag(d, "qkv_v0") : version < 2 ? sl_set_flag(d, "qkv_v1") : SL_OK;
}

static int flags_of_sizes(struct sl_detector *d)
{
    int64_t hidden;
    int code = d->c->parallel.pp > 1 ? sl_set_flag(d, "pp") : SL_OK;
    if (!code && d->qd && sl_known_int(d, "hidden_size", &hidden) && hidden != d->qd)
        code = sl_set_flag(d, "own_head_dim");
    return code ? code : flag_of_version(d);
}

/* ---- spelling ------------------------------------------------------------ */

static void find_spelling(struct sl_detector *d)
{
    struct sl_model *m = d->m;
    m->dialect = d->seen.dialect;
    if (m->dialect == SL_DIALECT_MEGATRON && d->seen.any)
        m->spec = sl_has_flag(d, "te") ? "te" : sl_has_flag(d, "local") ? "local" : NULL;
}

/* ---- experts ------------------------------------------------------------- */

static int compare_layers(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static size_t without_doubles(int32_t *layers, size_t count)
{
    size_t kept = 0;
    if (count)
        qsort(layers, count, sizeof *layers, compare_layers);
    for (size_t i = 0; i < count; i++)
        if (!i || layers[i] != layers[i - 1])
            layers[kept++] = layers[i];
    return kept;
}

/* Layers with experts, by their global numbers. Of a stage that can't be read nothing is known; its layers are taken
 * for such: a model whose first layers alone are dense has them in the first stage. */
static int list_moe_layers(struct sl_detector *d, int32_t **layers, size_t *count)
{
    const struct sl_model *m = d->m;
    uint64_t room = d->seen.moe_layer_count;
    for (size_t i = 0; i < m->stage_count; i++)
        room += d->seen.stage_read[m->stages[i].pp] ? 0 : (uint64_t)m->stages[i].count;
    *count = 0;
    *layers = SL_ARENA_NEW(&d->m->arena, int32_t, room);
    if (!*layers)
        return sl_fail_memory(d->err, room);
    for (size_t i = 0; i < d->seen.moe_layer_count; i++) {
        const int32_t *at = d->seen.moe_layers + 3 * i;
        const int32_t layer = sl_model_layer(m, at[0], at[1], at[2]);
        if (layer >= 0)
            (*layers)[(*count)++] = layer;
        else if (m->mtp_layers && sl_set_flag(d, "mtp_moe"))    /* numbered after all layers of the model */
            return SL_MEMORY;
    }
    for (size_t i = 0; i < m->stage_count; i++)
        for (int32_t k = 0; k < m->stages[i].count && !d->seen.stage_read[m->stages[i].pp]; k++)
            (*layers)[(*count)++] = m->stages[i].first + k;
    *count = without_doubles(*layers, *count);
    return SL_OK;
}

/* What args or config.json say of which layers have experts, in three spellings; step is decoder_sparse_step, which goes
 * with a list of dense layers (transformers models/qwen3_moe/modeling_qwen3_moe.py). */
struct said_experts { const struct sl_value *freq, *dense; int64_t first, step; bool has_first; };

static bool list_has(const struct sl_value *list, int64_t number)
{
    int64_t n;
    for (size_t i = 0; i < list->len; i++)
        if (sl_value_int(list->items[i], &n) && n == number)
            return true;
    return false;
}

/* False: nothing, or nothing that is understood. */
static bool said_experts_in(const struct said_experts *s, int64_t layer, bool *moe)
{
    int64_t n;
    if (s->freq && s->freq->kind == SL_VALUE_LIST && (uint64_t)layer < s->freq->len && sl_value_int(s->freq->items[layer], &n))
        return *moe = n != 0, true;
    if (s->freq && s->freq->kind != SL_VALUE_LIST && sl_value_int(s->freq, &n) && n > 0)
        return *moe = layer % n == 0, true;
    if (s->has_first)
        return *moe = layer >= s->first, true;
    if (s->dense && s->dense->kind == SL_VALUE_LIST && s->step > 0)
        return *moe = !list_has(s->dense, layer) && (layer + 1) % s->step == 0, true;
    return false;
}

/* Args or config.json that place the experts elsewhere are of another model, or were edited; tensors are believed. */
static void compare_dense_layers(struct sl_detector *d, const int64_t *has_experts, int64_t layers)
{
    struct said_experts s = {sl_said(d, "moe_layer_freq", SL_BY_ARGS), sl_said(d, "mlp_only_layers", SL_BY_ARGS), 0, 1, false};
    const char *from = sl_said_from(d, SL_BY_ARGS), *key = s.freq ? "moe_layer_freq" : "first_k_dense_replace";
    int64_t first = -1, count = 0;
    bool moe = false;
    (void)sl_value_int(sl_value_get(d->c->hf_config, "decoder_sparse_step"), &s.step);
    s.has_first = sl_said_int(d, "first_k_dense_replace", SL_BY_ARGS, &s.first);
    key = s.freq || s.has_first ? key : "mlp_only_layers";
    for (int32_t pp = 0; pp < d->seen.pp; pp++)
        if (!d->seen.stage_read[pp])
            return;
    if (s.freq && s.freq->kind == SL_VALUE_LIST && s.freq->len != (uint64_t)layers)
        sl_problem_add(&d->m->problems, "config-contradiction", from, NULL,
                       "moe_layer_freq of %s has %zu entries, the model %lld layers; which layers have experts is taken from the tensors",
                       from, s.freq->len, (long long)layers);
    for (int64_t i = 0; i < layers; i++)
        if (said_experts_in(&s, i, &moe) && moe != (has_experts[i] != 0))
            first = count++ ? first : i;
    if (count && (!s.freq || s.freq->kind != SL_VALUE_LIST || s.freq->len == (uint64_t)layers))
        sl_problem_add(&d->m->problems, "config-contradiction", from, NULL,
                       "%s of %s says layer %lld has %s, its tensors are %s%s; the tensors are believed", key, from, (long long)first,
                       has_experts[first] ? "no experts" : "experts", has_experts[first] ? "experts" : "those of a dense MLP",
                       count > 1 ? " (and so in other layers)" : "");
}

/* The layers that are dense among those with experts, as both sides write it: mlp_only_layers lists them,
 * moe_layer_freq is 1 or a list with a one for each layer that has experts
 * (Megatron-LM megatron/core/models/gpt/gpt_layer_specs.py, get_gpt_decoder_layer_specs). */
static int say_dense_layers(struct sl_detector *d)
{
    struct sl_arena *arena = &d->m->arena;
    int64_t layers = 0;
    if (!sl_known_int(d, "num_layers", &layers) || layers <= 0 || layers > 100000)
        return SL_OK;
    int64_t *freq = SL_ARENA_NEW(arena, int64_t, (uint64_t)layers), *dense = SL_ARENA_NEW(arena, int64_t, (uint64_t)layers);
    size_t count = 0;
    if (!freq || !dense)
        return sl_fail_memory(d->err, (uint64_t)layers);
    for (size_t i = 0; i < d->moe->layer_count; i++)
        if (d->moe->layers[i] >= 0 && d->moe->layers[i] < layers)
            freq[d->moe->layers[i]] = 1;
    for (int64_t i = 0; i < layers; i++)
        if (!freq[i])
            dense[count++] = i;
    compare_dense_layers(d, freq, layers);
    int code = sl_say(d, "mlp_only_layers", SL_BY_TENSORS, sl_value_new_ints(arena, dense, count));
    if (!code && (!count || dense[count - 1] == (int64_t)count - 1))        /* the first layers and no others */
        code = sl_say_int(d, "first_k_dense_replace", SL_BY_TENSORS, (int64_t)count);
    code = code ? code : sl_say(d, "moe_layer_freq", SL_BY_TENSORS,
                                count ? sl_value_new_ints(arena, freq, (size_t)layers) : sl_value_new_int(arena, 1));
    return code || !count ? code : sl_set_flag(d, "dense_layers");
}

static int find_experts(struct sl_detector *d)
{
    struct sl_model *m = d->m;
    int64_t experts = 0, topk = 0;
    int32_t *layers = NULL;
    size_t count = 0;
    if (!sl_has_flag(d, "moe") && !sl_has_flag(d, "block_ffn"))
        return SL_OK;
    struct sl_moe *moe = SL_ARENA_NEW(&m->arena, struct sl_moe, 1);
    int code = moe ? list_moe_layers(d, &layers, &count) : sl_fail_memory(d->err, 0);
    if (code)
        return code;
    (void)sl_known_int(d, "num_experts", &experts);
    (void)sl_known_int(d, "moe_router_topk", &topk);
    moe->num_experts = experts > 0 && experts < INT32_MAX ? (int32_t)experts : 0;
    moe->topk = topk > 0 && topk < INT32_MAX ? (int32_t)topk : 0;
    moe->shared_experts = sl_has_flag(d, "shared_experts");
    moe->expert_layout = sl_has_flag(d, "block_ffn") ? "block_ffn" : sl_has_flag(d, "te_grouped") ? "te_grouped"
                       : sl_has_flag(d, "grouped") ? "grouped" : "local_experts";
    moe->layers = layers;
    moe->layer_count = count;
    m->moe = d->moe = moe;
    return say_dense_layers(d);
}

/* ---- name and size ------------------------------------------------------- */

static bool name_fits(const struct sl_detector *d, const struct sl_model_row *row)
{
    return !d->m->family || !strcmp(row->family, d->m->family->name);
}

/* "Llama-1-7B / Llama-2-7B"; a nominal preset is only the name the user gave. */
static int find_name(struct sl_detector *d)
{
    struct sl_model *m = d->m;
    struct sl_buf text = {.failed = false};
    if (d->row) {
        m->name = d->row->name;
        return SL_OK;
    }
    for (size_t i = 0; d->exact_vocab && i < d->exact_count; i++)
        if (name_fits(d, d->exact[i]))
            sl_buf_printf(&text, "%s%s", text.len ? " / " : "", d->exact[i]->name);
    if (text.len)
        m->name = sl_arena_strn(&m->arena, text.data, text.len);
    const bool failed = text.failed || (text.len && !m->name);
    sl_buf_free(&text);
    if (!failed && m->name && !sl_evidence_add(m, "sizes and vocabulary", "model=%s", m->name))
        return SL_OK;
    return failed || m->name ? sl_fail_memory(d->err, 0) : SL_OK;
}

/* Elements of one param: the product of its axes; false when one is not known. */
static bool param_count(const struct sl_model *m, const struct sl_param_rule *p, uint64_t *count)
{
    *count = 1;
    for (const char *at = p->axes; *(at += strspn(at, " ")); ) {
        const size_t len = strcspn(at, " ");
        int64_t length;
        if (sl_model_dim(m, at, len, 1, 1, -1, &length, NULL) || length < 0
            || !sl_mul_u64(*count, (uint64_t)length, count))
            return false;
        at += len;
    }
    return true;
}

struct layer_flags { const struct sl_model *m; bool moe_layer, mtp_layer; };

static bool layer_flag(void *arg, const char *flag, size_t len)
{
    const struct layer_flags *f = arg;
    char name[64];
    if (len == 9 && !memcmp(flag, "moe_layer", 9))
        return f->moe_layer;
    if (len == 9 && !memcmp(flag, "mtp_layer", 9))
        return f->mtp_layer;
    if (len >= sizeof name)
        return false;
    memcpy(name, flag, len);
    name[len] = '\0';
    return sl_model_flag(f->m, name);
}

static bool holds_in(const struct sl_model *m, const char *when, bool moe_layer, bool mtp_layer)
{
    struct layer_flags f = {m, moe_layer, mtp_layer};
    bool holds = true;
    return !when || (!sl_condition(when, layer_flag, &f, &holds, NULL) && holds);
}

/* How many layers have a param, with or without those that predict further tokens; 1 for one that is of no layer. */
static uint64_t layers_with(const struct sl_model *m, const struct sl_param_rule *p, bool with_mtp)
{
    int64_t layers = 0;
    if (!strstr(p->name, "{layer}"))
        return holds_in(m, p->when, false, false);
    (void)sl_model_int(m, "num_layers", &layers);
    const uint64_t all = layers > 0 ? (uint64_t)layers : 0, moe = m->moe ? m->moe->layer_count : 0;
    const uint64_t mtp = with_mtp && holds_in(m, p->when, sl_model_flag(m, "mtp_moe"), true) ? (uint64_t)m->mtp_layers : 0;
    return mtp + (holds_in(m, p->when, true, false) ? moe : 0)
         + (holds_in(m, p->when, false, false) && all > moe ? all - moe : 0);
}

/* All weights once, of `experts` experts a layer; 0 when a size is not known. *in_experts: those in experts. */
static uint64_t count_params(const struct sl_model *m, uint64_t experts, bool with_mtp, uint64_t *in_experts)
{
    uint64_t sum = 0;
    *in_experts = 0;
    for (size_t i = 0; m->family && i < m->family->param_count; i++) {
        const struct sl_param_rule *p = &m->family->params[i];
        const bool expert = strstr(p->name, "{expert}");
        const uint64_t layers = layers_with(m, p, with_mtp);
        uint64_t one;
        if (!layers)
            continue;
        if (!param_count(m, p, &one) || !sl_mul_u64(one, layers, &one) || (expert && !sl_mul_u64(one, experts, &one))
            || !sl_add_u64(sum, one, &sum))
            return 0;
        *in_experts += expert ? one : 0;
    }
    return sum;
}

/* Weights in all, those of experts, and those that one token meets on its way to the next (predicting further ones is
 * no part of that). */
static void count_all(struct sl_detector *d, const struct sl_model *m)
{
    uint64_t in_experts, ignored;
    d->m->params = count_params(m, d->moe ? (uint64_t)d->moe->num_experts : 1, true, &in_experts);
    if (!d->moe || !d->m->params)
        return;
    d->moe->expert_params = in_experts;
    d->moe->active_params = d->moe->topk ? count_params(m, (uint64_t)d->moe->topk, false, &ignored) : 0;
}

/* The sum does not depend on how the rows of q and k are cut into heads: where that is not
 * known, heads of one row will do. */
static int count_params_anyway(struct sl_detector *d)
{
    const char *const keys[] = {"kv_channels", "num_attention_heads", "num_query_groups"};
    const int64_t values[] = {1, d->qd, d->kvd};
    struct sl_model guess = *d->m;
    struct sl_setting *config = SL_ARENA_NEW(&d->m->arena, struct sl_setting, guess.config_count + 3);
    if (!config)
        return sl_fail_memory(d->err, 0);
    for (size_t i = 0; i < 3; i++) {
        config[i] = (struct sl_setting){keys[i], sl_value_new_int(&d->m->arena, values[i]), ""};
        if (!config[i].value)
            return sl_fail_memory(d->err, 0);
    }
    if (guess.config_count)
        memcpy(config + 3, guess.config, guess.config_count * sizeof *config);
    guess.config = config;
    guess.config_count += 3;
    guess.missing = NULL;
    count_all(d, &guess);
    return SL_OK;
}

/* ---- the steps ----------------------------------------------------------- */

static int tell_layout(struct sl_detector *d)
{
    const struct sl_parallel *p = &d->m->parallel;
    int code = SL_OK;
    if (d->c->container == SL_MEGATRON_TORCH)
        code = sl_evidence_add(d->m, "folder names", "tp=%d pp=%d vpp=%d ep=%d", p->tp, p->pp, p->vpp, p->ep);
    if (!code && d->m->spec)
        code = sl_evidence_add(d->m, "names of the norms", "spelling=%s", d->m->spec);
    return code ? sl_fail_memory(d->err, 0) : SL_OK;
}

static int detect(struct sl_detector *d)
{
    struct sl_model *m = d->m;
    int code = sl_scan(d->c, &m->arena, &d->seen, d->err);
    code = code ? code : sl_settings_collect(d);
    code = code ? code : flags_of_settings(d);
    if (code)
        return code;
    find_spelling(d);
    code = sl_shape_solve(d);
    code = code ? code : find_experts(d);
    code = code ? code : flags_of_sizes(d);
    code = code ? code : sl_vocab_solve(d);
    code = code ? code : sl_settings_finish(d);
    code = code ? code : tell_layout(d);
    code = code ? code : sl_family_choose(d);
    code = code ? code : sl_settings_imply(d);
    code = code ? code : find_name(d);
    m->flags = d->seen.flags;
    m->flag_count = d->seen.flag_count;
    if (!code && m->missing)
        return count_params_anyway(d);
    if (!code)
        count_all(d, m);
    return code;
}

int sl_model_detect(struct sl_ckpt *c, const struct sl_families *families,
                    const struct sl_model_options *options, struct sl_model **out,
                    struct sl_error *err)
{
    static const struct sl_model_options none;
    struct sl_model *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!m)
        return sl_fail_memory(err, sizeof *m);
    m->parallel = c->parallel;
    m->vocab = m->padded_vocab = -1;
    m->problems.arena = &m->arena;
    struct sl_detector d = {.c = c, .families = families, .options = options ? options : &none, .m = m, .err = err};
    const int code = detect(&d);
    if (code) {
        sl_model_free(m);
        return code;
    }
    sl_problems_sort(&m->problems);
    *out = m;
    return SL_OK;
}
