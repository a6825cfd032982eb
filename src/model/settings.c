/* settings.c: collects what args or config.json, --set, --hf-config and --model
 * say, by the names of facts.json, and keeps apart who said it. */
#include "model/internal.h"

#include "base/error.h"
#include "base/io.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/value.h"
#include <shardlens/shardlens.h>

#include <stdarg.h>
#include <string.h>

static size_t index_of(const char *key)
{
    const struct sl_facts *f = sl_facts();
    size_t i = 0;
    while (i < f->setting_count && strcmp(f->settings[i].key, key))
        i++;
    return i;
}

static bool is_null(const struct sl_value *v)
{
    return !v || v->kind == SL_VALUE_NULL;
}

const struct sl_value *sl_said(const struct sl_detector *d, const char *key, enum sl_said_by by)
{
    const size_t i = index_of(key);
    return i < sl_facts()->setting_count ? d->said[i][by] : NULL;
}

bool sl_said_int(const struct sl_detector *d, const char *key, enum sl_said_by by, int64_t *out)
{
    return sl_value_int(sl_said(d, key, by), out);
}

const struct sl_value *sl_known(const struct sl_detector *d, const char *key, enum sl_said_by *by)
{
    for (int s = 0; s < SL_SAID_COUNT; s++) {
        const struct sl_value *v = sl_said(d, key, (enum sl_said_by)s);
        if (v) {
            *by = (enum sl_said_by)s;
            return v;
        }
    }
    return NULL;
}

bool sl_known_int(const struct sl_detector *d, const char *key, int64_t *out)
{
    enum sl_said_by by;
    return sl_value_int(sl_known(d, key, &by), out);
}

int sl_say(struct sl_detector *d, const char *key, enum sl_said_by by, const struct sl_value *value)
{
    const size_t i = index_of(key);
    if (!value)
        return sl_fail_memory(d->err, 0);
    if (i < sl_facts()->setting_count)
        d->said[i][by] = value;
    return SL_OK;
}

int sl_say_int(struct sl_detector *d, const char *key, enum sl_said_by by, int64_t value)
{
    return sl_say(d, key, by, sl_value_new_int(&d->m->arena, value));
}

const char *sl_says(const char *from)
{
    return strcmp(from, "args") ? "says" : "say";
}

const char *sl_said_from(const struct sl_detector *d, enum sl_said_by by)
{
    switch (by) {
    case SL_BY_TENSORS:
        return "tensor shapes";
    case SL_BY_SET:
        return "--set";
    case SL_BY_ARGS:
        return d->c->hf_config ? "config.json" : "args";
    case SL_BY_HF_CONFIG:
        return "--hf-config";
    case SL_BY_PRESET: {
        const char *text = d->row ? sl_arena_printf(&d->m->arena, "preset %s", d->row->option) : NULL;
        return text ? text : "--model";
    }
    case SL_BY_DATABASE: {
        const char *text = d->exact_count
            ? sl_arena_printf(&d->m->arena, "same shape as %s", d->exact[0]->name) : NULL;
        return text ? text : "database";
    }
    case SL_SAID_COUNT:
        break;
    }
    return "";
}

int sl_evidence_add(struct sl_model *m, const char *from, const char *format, ...)
{
    if (m->evidence_count == m->evidence_room) {
        const size_t room = m->evidence_room ? 2 * m->evidence_room : 32;
        struct sl_evidence *items = SL_ARENA_NEW(&m->arena, struct sl_evidence, room);
        if (!items)
            return SL_MEMORY;
        if (m->evidence_count)
            memcpy(items, m->evidence, m->evidence_count * sizeof *items);
        m->evidence = items;
        m->evidence_room = room;
    }
    va_list args;
    va_start(args, format);
    const char *fact = sl_arena_vprintf(&m->arena, format, args);
    va_end(args);
    if (!fact)
        return SL_MEMORY;
    m->evidence[m->evidence_count++] = (struct sl_evidence){fact, from};
    return SL_OK;
}

/* ---- args and config.json ------------------------------------------------ */

static bool is_true(const struct sl_value *v)
{
    bool b = false;
    int64_t i = 0;
    return (sl_value_bool(v, &b) && b) || (sl_value_int(v, &i) && i != 0);
}

static int say_source(struct sl_detector *d, const struct sl_setting_rule *rule, bool invert,
                      const struct sl_value *v, enum sl_said_by by)
{
    bool b;
    if (invert && sl_value_bool(v, &b))
        return sl_say(d, rule->key, by, sl_value_new_bool(&d->m->arena, !b));
    return sl_say(d, rule->key, by, v);
}

static int take_args(struct sl_detector *d, const struct sl_value *args, enum sl_said_by by)
{
    const struct sl_facts *f = sl_facts();
    for (size_t i = 0; i < f->setting_count; i++) {
        const struct sl_setting_rule *rule = &f->settings[i];
        for (size_t k = 0; k < rule->arg_count; k++) {
            const struct sl_setting_source *s = &rule->args[k];
            const struct sl_value *v = sl_value_get(args, s->name);
            if (is_null(v) || !sl_kind_fits(rule->kind, v) || (s->only_if && !is_true(sl_value_get(args, s->only_if))))
                continue;
            const int code = say_source(d, rule, s->invert, v, by);
            if (code)
                return code;
            break;
        }
    }
    return SL_OK;
}

/* Megatron's window_size is (tokens before, tokens after); a token itself is counted besides
 * (transformer_config.py), and Hugging Face counts it in. */
static int take_window(struct sl_detector *d, const struct sl_value *args)
{
    const struct sl_value *window = sl_value_get(args, "window_size");
    int64_t before;
    if (!window || window->kind != SL_VALUE_LIST || !window->len || !sl_value_int(window->items[0], &before)
        || before < 0 || before == INT64_MAX)
        return SL_OK;
    return sl_say_int(d, "sliding_window", SL_BY_ARGS, before + 1);
}

/* Which layers have the window: Megatron says every N-th has none, or lists a 1 for each that has it; Hugging Face names
 * the kind of each. Kinds of other names are no concern of either.
 * Source: Megatron-LM megatron/core/transformer/utils.py (is_layer_window_attention); transformers models/gpt_oss and gemma3 */
static int take_layer_types(struct sl_detector *d, const struct sl_value *config, enum sl_said_by by)
{
    const struct sl_value *types = sl_value_get(config, "layer_types");
    const size_t count = types && types->kind == SL_VALUE_LIST ? types->len : 0;
    int64_t *windows = SL_ARENA_NEW(&d->m->arena, int64_t, count), every = 0;
    if (count && !windows)
        return sl_fail_memory(d->err, count);
    for (size_t i = 0; i < count; i++) {
        const char *kind = sl_value_str(types->items[i]);
        if (!kind || (strcmp(kind, "sliding_attention") && strcmp(kind, "full_attention")))
            return SL_OK;
        windows[i] = *kind == 's';
        every = !every && !windows[i] ? (int64_t)i + 1 : every;
    }
    bool regular = every > 1;
    for (size_t i = 0; i < count && regular; i++)
        regular = windows[i] == (((int64_t)i + 1) % every != 0);
    if (!every)                                  /* all of them: what no word of it says too */
        return SL_OK;
    return sl_say(d, "window_attn_skip_freq", by,
                  regular ? sl_value_new_int(&d->m->arena, every) : sl_value_new_ints(&d->m->arena, windows, count));
}

/* A key of config.json; transformers 5 keeps rope settings in "rope_parameters", and there, where kinds of
 * layers differ (Gemma 3), by kind: those of full attention are the model's. */
static const struct sl_value *hf_value(const struct sl_value *config, const char *key)
{
    const struct sl_value *v = sl_value_get(config, key), *rope = sl_value_get(config, "rope_parameters");
    v = is_null(v) ? sl_value_get(rope, key) : v;
    return is_null(v) ? sl_value_get(sl_value_get(rope, "full_attention"), key) : v;
}

static const struct sl_value *rope_of(const struct sl_value *config)
{
    const struct sl_value *v = sl_value_get(config, "rope_scaling");
    return is_null(v) ? sl_value_get(config, "rope_parameters") : v;
}

/* Latent attention has arguments of its own for yarn; what config.json leaves out, both sides take as 32, 1, 1 and 0.
 * Source: transformers modeling_rope_utils.py (_compute_yarn_parameters); Megatron-LM transformer_config.py
 * (MLATransformerConfig) */
static int take_latent_rope(struct sl_detector *d, const struct sl_value *config, enum sl_said_by by)
{
    static const struct { const char *hf, *key; double usual; } numbers[] = {
        {"factor", "rotary_scaling_factor", 0}, {"original_max_position_embeddings", "original_max_position_embeddings", 0},
        {"beta_fast", "beta_fast", 32}, {"beta_slow", "beta_slow", 1}, {"mscale", "mscale", 1},
        {"mscale_all_dim", "mscale_all_dim", 0}};
    const struct sl_value *rope = rope_of(config);
    int code = sl_say(d, "rope_type", by, sl_value_new_str(&d->m->arena, "yarn"));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && !code; i++) {
        const struct sl_value *v = sl_value_get(rope, numbers[i].hf);
        if (!is_null(v))
            code = sl_say(d, numbers[i].key, by, v);
        else if (i > 1)
            code = sl_say(d, numbers[i].key, by, sl_value_new_double(&d->m->arena, numbers[i].usual));
    }
    return code;
}

/* The yarn of attention that is not latent has arguments of its own. truncate is whether the range of dimensions is
 * rounded to whole ones.
 * Source: Megatron-LM transformer_config.py and gpt_model.py (YarnRotaryEmbedding) */
static int take_yarn(struct sl_detector *d, const struct sl_value *rope, enum sl_said_by by)
{
    static const struct { const char *hf, *key; } numbers[] = {
        {"factor", "yarn_rotary_scaling_factor"}, {"original_max_position_embeddings", "yarn_original_max_position_embeddings"},
        {"beta_fast", "yarn_beta_fast"}, {"beta_slow", "yarn_beta_slow"}, {"truncate", "yarn_correction_range_round_to_int"}};
    int code = sl_say(d, "position_embedding_type", by, sl_value_new_str(&d->m->arena, "yarn"));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && !code; i++) {
        const struct sl_value *v = sl_value_get(rope, numbers[i].hf);
        code = is_null(v) ? SL_OK : sl_say(d, numbers[i].key, by, v);
    }
    return code;
}

/* The scaling of Llama 3.1 is a flag and a factor in Megatron. */
static int take_rope(struct sl_detector *d, const struct sl_value *config, enum sl_said_by by)
{
    const struct sl_value *rope = rope_of(config), *factor = sl_value_get(rope, "factor");
    const char *type = sl_value_str(sl_value_get(rope, "rope_type"));
    type = type ? type : sl_value_str(sl_value_get(rope, "type"));
    if (!is_null(sl_value_get(config, "kv_lora_rank")))
        return !type || strcmp(type, "yarn") ? SL_OK : take_latent_rope(d, config, by);
    if (type && !strcmp(type, "yarn"))
        return take_yarn(d, rope, by);
    if (type && !strcmp(type, "linear") && !is_null(factor))
        return sl_say(d, "rotary_seq_len_interpolation_factor", by, factor);
    if (!type || strcmp(type, "llama3"))
        return SL_OK;
    const int code = sl_say(d, "use_rope_scaling", by, sl_value_new_bool(&d->m->arena, true));
    return code || is_null(factor) ? code : sl_say(d, "rope_scaling_factor", by, factor);
}

static int take_hf(struct sl_detector *d, const struct sl_value *config, enum sl_said_by by)
{
    const struct sl_facts *f = sl_facts();
    bool windows = true;
    (void)sl_value_bool(sl_value_get(config, "use_sliding_window"), &windows);    /* Qwen: the size stands there all the same */
    for (size_t i = 0; i < f->setting_count; i++) {
        const struct sl_setting_rule *rule = &f->settings[i];
        for (size_t k = 0; k < rule->hf_count; k++) {
            const struct sl_value *v = hf_value(config, rule->hf[k].name);
            if (is_null(v) || !sl_kind_fits(rule->kind, v) || (!windows && !strcmp(rule->key, "sliding_window")))
                continue;
            const int code = say_source(d, rule, rule->hf[k].invert, v, by);
            if (code)
                return code;
            break;
        }
    }
    const int code = take_layer_types(d, config, by);
    return code ? code : take_rope(d, config, by);
}

static int take_checkpoint(struct sl_detector *d)
{
    if (d->c->hf_config)
        d->m->hf_reference = d->c->hf_config;
    if (d->c->hf_config)
        d->m->hf_reference_folder = d->c->folder;
    if (d->c->hf_config)
        return take_hf(d, d->c->hf_config, SL_BY_ARGS);
    const int code = d->c->args ? take_args(d, d->c->args, SL_BY_ARGS) : SL_OK;
    return code ? code : take_window(d, d->c->args);
}

/* ---- options ------------------------------------------------------------- */

static int take_hf_folder(struct sl_detector *d)
{
    const char *folder = d->options->hf_config;
    if (!folder)
        return SL_OK;
    const char *path = sl_arena_printf(&d->m->arena, "%s/config.json", folder);
    if (!path)
        return sl_fail_memory(d->err, 0);
    if (!sl_path_exists(path))
        return sl_fail(d->err, SL_USAGE, folder, "no config.json there; --hf-config wants a folder that has one");
    const int code = sl_json_load(path, SL_LIMIT_JSON_BYTES, &d->m->arena, &d->m->hf_reference, d->err);
    if (code)
        return code;
    if (d->m->hf_reference->kind != SL_VALUE_DICT)
        return sl_fail(d->err, SL_INPUT, path, "a JSON object is expected");
    d->m->hf_reference_folder = sl_arena_str(&d->m->arena, folder);
    return take_hf(d, d->m->hf_reference, SL_BY_HF_CONFIG);
}

static int take_set(struct sl_detector *d, const char *text)
{
    const char *equals = strchr(text, '=');
    bool invert;
    if (!equals || equals == text)
        return sl_fail(d->err, SL_USAGE, "--set", "\"%s\" is not NAME=VALUE", text);
    const char *name = sl_arena_strn(&d->m->arena, text, (size_t)(equals - text));
    const struct sl_value *v = sl_value_parse(&d->m->arena, equals + 1);
    if (!name || !v)
        return sl_fail_memory(d->err, 0);
    const struct sl_setting_rule *rule = sl_setting_rule_find(name, &invert);
    if (!rule) {
        const char *near = sl_setting_nearest(name);
        return near ? sl_fail(d->err, SL_USAGE, "--set", "there is no setting \"%s\"; did you mean \"%s\"?", name, near)
                    : sl_fail(d->err, SL_USAGE, "--set", "there is no setting \"%s\"; names are Megatron's arguments,"
                              " such as num_attention_heads, kv_channels, vocab_size", name);
    }
    if (!sl_kind_fits(rule->kind, v))
        return sl_fail(d->err, SL_USAGE, "--set", "%s is \"%s\", %s is expected", name, equals + 1,
                       sl_kind_text(rule->kind));
    if (sl_said(d, rule->key, SL_BY_SET))
        return sl_fail(d->err, SL_USAGE, "--set", "%s is given twice", name);
    return say_source(d, rule, invert, v, SL_BY_SET);
}

static int unknown_model(struct sl_detector *d, const char *name)
{
    const struct sl_model_row *rows;
    const size_t count = sl_model_rows(&rows);
    const char *near = NULL;
    unsigned least = 1 + (unsigned)strlen(name) / 2;
    for (size_t i = 0; i < count; i++)
        if (sl_text_distance(name, rows[i].option) < least)
            near = rows[i].option, least = sl_text_distance(name, near);
    for (size_t i = 0; i < d->families->count; i++)
        if (sl_text_distance(name, d->families->items[i].name) < least)
            near = d->families->items[i].name, least = sl_text_distance(name, near);
    return near ? sl_fail(d->err, SL_USAGE, "--model", "there is no model \"%s\"; did you mean \"%s\"?", name, near)
                : sl_fail(d->err, SL_USAGE, "--model", "there is no model \"%s\"; \"shardlens models\" lists them", name);
}

/* A preset speaks for what shapes can't tell: the number of heads, and for a published model
 * eps, rope base and vocabulary too. KV heads always follow from heads and shapes. */
static int take_row(struct sl_detector *d)
{
    const struct sl_model_row *row = d->row;
    const struct sl_model_facts *facts = sl_model_row_facts(row);
    int code = row->heads ? sl_say_int(d, "num_attention_heads", SL_BY_PRESET, row->heads) : SL_OK;
    if (!code && row->head_dim && !row->nominal)
        code = sl_say_int(d, "kv_channels", SL_BY_PRESET, row->head_dim);
    if (!code && row->topk)
        code = sl_say_int(d, "moe_router_topk", SL_BY_PRESET, row->topk);
    if (!code && facts->theta > 0)
        code = sl_say(d, "rotary_base", SL_BY_PRESET, sl_value_new_double(&d->m->arena, facts->theta));
    if (!code && facts->eps > 0)
        code = sl_say(d, "norm_epsilon", SL_BY_PRESET, sl_value_new_double(&d->m->arena, facts->eps));
    return code;
}

static int take_model(struct sl_detector *d)
{
    const char *name = d->options->model;
    if (!name)
        return SL_OK;
    d->stated = sl_family_find(d->families, name);
    d->row = d->stated ? NULL : sl_model_row_find(name);
    if (!d->stated && !d->row)
        return unknown_model(d, name);
    if (!d->row)
        return SL_OK;
    d->stated = sl_family_find(d->families, d->row->family);
    return take_row(d);
}

int sl_settings_collect(struct sl_detector *d)
{
    d->said = sl_arena_new(&d->m->arena, sl_facts()->setting_count, sizeof *d->said);
    if (!d->said)
        return sl_fail_memory(d->err, 0);
    int code = take_checkpoint(d);
    code = code ? code : take_hf_folder(d);
    for (size_t i = 0; i < d->options->set_count && !code; i++)
        code = take_set(d, d->options->set[i]);
    return code ? code : take_model(d);
}

/* ---- the result ---------------------------------------------------------- */

static bool is_size(const char *key)
{
    static const char *const sizes[] = {"num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads",
                                        "num_query_groups", "kv_channels", "vocab_size", "padded_vocab_size", "num_experts",
                                        "moe_ffn_hidden_size", "q_lora_rank", "kv_lora_rank", "qk_head_dim",
                                        "qk_pos_emb_head_dim", "v_head_dim", "tie_embeddings"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!strcmp(sizes[i], key))
            return true;
    return false;
}

/* Told by which names there are, not by shapes. */
static bool is_counted(const char *key)
{
    static const char *const keys[] = {"num_layers", "tie_embeddings", "moe_layer_freq", "mlp_only_layers",
                                       "first_k_dense_replace", "mtp_num_layers"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(keys[i], key))
            return true;
    return false;
}

static int add_setting(struct sl_detector *d, const char *key, const struct sl_value *v, const char *from)
{
    struct sl_buf text = {.failed = false};
    if (!v)
        return sl_fail_memory(d->err, 0);
    d->m->config[d->m->config_count++] = (struct sl_setting){key, v, from};
    if (!is_size(key))
        return SL_OK;
    sl_value_print(v, 80, &text);
    const int code = sl_evidence_add(d->m, from, "%s=%s", key, text.data ? text.data : "");
    sl_buf_free(&text);
    return code ? sl_fail_memory(d->err, 0) : SL_OK;
}

/* Something stated that args say otherwise: the user is believed, and told. */
static void remark_overrule(struct sl_detector *d, const char *key)
{
    const struct sl_value *set = sl_said(d, key, SL_BY_SET), *args = sl_said(d, key, SL_BY_ARGS);
    struct sl_buf a = {.failed = false}, b = {.failed = false};
    if (!set || !args || is_size(key) || sl_value_equal(set, args))
        return;
    sl_value_print(set, 80, &a);
    sl_value_print(args, 80, &b);
    sl_problem_add(&d->m->problems, "config-differs", "--set", NULL, "%s is stated as %s, %s says %s; %s is used", key,
                   a.data ? a.data : "?", sl_said_from(d, SL_BY_ARGS), b.data ? b.data : "?", a.data ? a.data : "?");
    sl_buf_free(&a);
    sl_buf_free(&b);
}

int sl_settings_finish(struct sl_detector *d)
{
    const struct sl_facts *f = sl_facts();
    struct sl_model *m = d->m;
    m->config = SL_ARENA_NEW(&m->arena, struct sl_setting, f->setting_count);
    m->config_room = f->setting_count;
    m->config_count = 0;
    if (!m->config)
        return sl_fail_memory(d->err, 0);
    for (size_t i = 0; i < f->setting_count; i++) {
        enum sl_said_by by;
        const char *key = f->settings[i].key;
        const struct sl_value *v = sl_known(d, key, &by);
        if (!strcmp(key, "vocab_size")) {
            if (m->vocab >= 0 && add_setting(d, key, sl_value_new_int(&m->arena, m->vocab), d->vocab_from))
                return SL_MEMORY;
            continue;
        }
        if (!v)
            continue;
        remark_overrule(d, key);
        const bool counted = by == SL_BY_TENSORS && is_counted(key);
        const int code = add_setting(d, key, v, counted ? "tensor names" : sl_said_from(d, by));
        if (code)
            return code;
    }
    return SL_OK;
}

/* The other way round, for families whose config.json has the key. */
static int say_layer_types(struct sl_detector *d)
{
    const struct sl_setting *freq = sl_model_get(d->m, "window_attn_skip_freq");
    struct sl_arena *arena = &d->m->arena;
    int64_t layers = 0, every = 0, one;
    if (!freq || !sl_model_int(d->m, "num_layers", &layers) || layers <= 0 || layers > 100000)
        return SL_OK;
    const bool listed = freq->value->kind == SL_VALUE_LIST && freq->value->len == (uint64_t)layers;
    if (!listed && (!sl_value_int(freq->value, &every) || every < 1))
        return SL_OK;
    struct sl_value *list = sl_value_new_null(arena);
    const struct sl_value **items = SL_ARENA_NEW(arena, const struct sl_value *, (uint64_t)layers);
    const struct sl_value *const kinds[] = {sl_value_new_str(arena, "full_attention"), sl_value_new_str(arena, "sliding_attention")};
    if (!list || !items || !kinds[0] || !kinds[1])
        return sl_fail_memory(d->err, (uint64_t)layers);
    for (int64_t i = 0; i < layers; i++)
        items[i] = kinds[listed ? sl_value_int(freq->value->items[i], &one) && one : (i + 1) % every != 0];
    *list = (struct sl_value){.kind = SL_VALUE_LIST, .items = items, .len = (size_t)layers};
    return add_setting(d, "layer_types", list, freq->from);
}

static bool writes_key(const struct sl_family *f, const char *key)
{
    for (size_t i = 0; i < f->config_count; i++)
        if (!strcmp(f->config[i].hf, key))
            return true;
    return false;
}

/* Flags that an implied setting raises, as a stated one does. */
static int flags_of_implied(struct sl_detector *d, const char *key, const struct sl_value *v)
{
    const struct sl_facts *f = sl_facts();
    int code = SL_OK;
    for (size_t i = 0; i < f->flag_count && !code; i++) {
        const struct sl_flag_rule *r = &f->flags[i];
        if (!strcmp(r->key, key) && ((r->is && sl_value_equal(v, r->is)) || (r->is_not && !sl_value_equal(v, r->is_not))))
            code = sl_set_flag(d, r->flag);
    }
    return code;
}

int sl_settings_imply(struct sl_detector *d)
{
    const struct sl_family *f = d->m->family;
    const struct sl_value *implies = f ? f->implies : NULL;
    for (size_t i = 0; implies && i < implies->len; i++) {
        const char *key = sl_value_str(implies->keys[i]);
        bool invert;
        const struct sl_setting_rule *rule = sl_setting_rule_find(key, &invert);
        if (!rule || sl_model_get(d->m, rule->key))
            continue;
        int code = add_setting(d, rule->key, implies->items[i], f->title);
        code = code ? code : flags_of_implied(d, rule->key, implies->items[i]);
        if (code)
            return code;
    }
    return f && writes_key(f, "layer_types") ? say_layer_types(d) : SL_OK;
}
