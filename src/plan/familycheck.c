/* familycheck.c: see familycheck.h. */
#include "plan/familycheck.h"
#include "plan/plan.h"

#include "base/error.h"
#include "base/io.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/value.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MOST_FLAGS 64
#define MOST_SETTINGS 128

struct trying {
    struct sl_family_verdict *v;
    const char *path;
    char *text;                          /* of the file, for line numbers */
    const struct sl_family *f;
    struct sl_error *err;
};

/* ---- where --------------------------------------------------------------------------- */

static long line_at(const char *text, const char *at)
{
    long line = 1;
    for (const char *p = text; p < at; p++)
        line += *p == '\n';
    return line;
}

static const char *find_quoted(const char *text, const char *word, size_t len)
{
    for (const char *p = text; (p = strchr(p, '"')); p++)
        if (!strncmp(p + 1, word, len) && p[1 + len] == '"')
            return p;
    return NULL;
}

/* The line of a name within a section ("tensors.hf"); that of the section where the name is the parent's; 0 where both are. */
static long line_of(const struct trying *t, const char *section, const char *name)
{
    const char *at = t->text;
    for (const char *p = section; at && *p; p += p[0] == '.') {
        const size_t len = strcspn(p, ".");
        at = find_quoted(at, p, len);
        p += len;
    }
    const char *row = at && name ? find_quoted(at, name, strlen(name)) : at;
    return row ? line_at(t->text, row) : at ? line_at(t->text, at) : 0;
}

static int add(struct trying *t, enum sl_severity severity, const char *section, const char *name, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static int add(struct trying *t, enum sl_severity severity, const char *section, const char *name, const char *format, ...)
{
    struct sl_family_verdict *v = t->v;
    if (v->count == v->room) {
        const size_t room = v->room ? 2 * v->room : 16;
        struct sl_family_finding *items = SL_ARENA_NEW(&v->arena, struct sl_family_finding, room);
        if (!items)
            return sl_fail_memory(t->err, room * sizeof *items);
        if (v->count)
            memcpy(items, v->findings, v->count * sizeof *items);
        v->findings = items;
        v->room = room;
    }
    va_list args;
    va_start(args, format);
    const char *message = sl_arena_vprintf(&v->arena, format, args);
    va_end(args);
    const char *place = name ? sl_arena_printf(&v->arena, "%s (%s)", section, name) : sl_arena_str(&v->arena, section);
    if (!message || !place)
        return sl_fail_memory(t->err, 256);
    v->findings[v->count++] = (struct sl_family_finding){ severity, line_of(t, section, name), place, message };
    return SL_OK;
}

/* ---- words --------------------------------------------------------------------------- */

static int check_condition(struct trying *t, const char *section, const char *name, const char *when)
{
    int code = SL_OK;
    for (const char *p = when ? when : ""; !code && *(p += strspn(p, " &!")); ) {
        const size_t len = strcspn(p, " &!");
        if (!sl_flag_known(p, len))
            code = add(t, SL_ERROR, section, name, "there is no flag \"%.*s\", so the condition \"%s\" never changes", (int)len, p, when);
        p += len;
    }
    return code;
}

static int check_setting(struct trying *t, const char *section, const char *name, const char *key)
{
    const char *near = NULL;
    if (!key || sl_setting_known(key, &near))
        return SL_OK;
    return add(t, SL_ERROR, section, name, "there is no setting \"%s\"%s%s%s", key, near ? "; did you mean \"" : "", near ? near : "",
               near ? "\"?" : "");
}

static int check_words(struct trying *t)
{
    static const char *const sections[] = { "tensors.hf", "tensors.megatron", "tensors.legacy" };
    const struct sl_family *f = t->f;
    int code = check_condition(t, "needs", NULL, f->needs);
    for (size_t i = 0; i < f->param_count && !code; i++)
        code = check_condition(t, "params", f->params[i].name, f->params[i].when);
    for (int d = 0; d < SL_DIALECT_COUNT; d++)
        for (size_t i = 0; i < f->rule_count[d] && !code; i++) {
            const struct sl_rule *r = &f->rules[d][i];
            code = check_condition(t, sections[d], r->name, r->when);
            code = code ? code : check_condition(t, sections[d], r->name, r->add_when);
        }
    for (size_t i = 0; i < f->config_count && !code; i++) {
        code = check_condition(t, "config", f->config[i].hf, f->config[i].when);
        code = code ? code : check_setting(t, "config", f->config[i].hf, f->config[i].megatron);
    }
    for (size_t i = 0; i < f->detect_count && !code; i++) {
        const char *key = f->detect[i].key;
        const bool own = key && (!strcmp(key, "path") || !strcmp(key, "vocab"));
        code = check_condition(t, "detect", f->detect[i].says, f->detect[i].when);
        code = code || own ? code : check_setting(t, "detect", f->detect[i].says, key);
    }
    for (size_t i = 0; f->implies && i < f->implies->len && !code; i++)
        code = check_setting(t, "implies", NULL, sl_value_str(f->implies->keys[i]));
    return code;
}

/* ---- a small model of the family ------------------------------------------------------- */

struct sample {
    struct sl_model m;
    struct sl_arena arena;
    struct sl_moe moe;
    int32_t moe_layers[4];
    const char *flags[MOST_FLAGS];
    struct sl_setting settings[MOST_SETTINGS];
};

static bool needs(const struct sl_family *f, const char *flag, bool negated)
{
    for (const char *p = f->needs ? f->needs : ""; *(p += strspn(p, " &")); p += strcspn(p, " &")) {
        const bool is_negated = *p == '!';
        p += strspn(p, "! ");
        if (is_negated == negated && strcspn(p, " &") == strlen(flag) && !strncmp(p, flag, strlen(flag)))
            return true;
    }
    return false;
}

static void set_flag(struct sample *s, const char *flag)
{
    if (!sl_model_flag(&s->m, flag) && s->m.flag_count < MOST_FLAGS)
        s->flags[s->m.flag_count++] = flag;
}

/* Every flag that a condition of a param asks for and the family may have, or only those it must have. */
static void set_flags(struct sample *s, const struct sl_family *f, bool rich)
{
    for (const char *p = f->needs ? f->needs : ""; *(p += strspn(p, " &")); p += strcspn(p, "&")) {
        const char *flag = *p == '!' ? NULL : sl_arena_strn(&s->arena, p, strcspn(p, " &"));
        if (flag)
            set_flag(s, flag);
    }
    for (size_t i = 0; rich && i < f->param_count; i++)
        for (const char *p = f->params[i].when ? f->params[i].when : ""; *(p += strspn(p, " &")); p += strcspn(p, " &")) {
            const char *flag = *p == '!' ? NULL : sl_arena_strn(&s->arena, p, strcspn(p, " &"));
            p += strspn(p, "! ");
            if (flag && !needs(f, flag, true) && strcmp(flag, "moe_layer") && strncmp(flag, "mtp", 3) && strcmp(flag, "tied"))
                set_flag(s, flag);
        }
}

static void set_number(struct sample *s, const char *key, int64_t value)
{
    const struct sl_value *v = sl_value_new_int(&s->arena, value);
    if (v && s->m.config_count < MOST_SETTINGS)
        s->settings[s->m.config_count++] = (struct sl_setting){ key, v, "sample" };
}

/* Sizes that divide by two twice, no two alike but where the family asks for it. */
static void set_sizes(struct sample *s, const struct sl_family *f)
{
    const bool latent = sl_model_flag(&s->m, "mla"), one_each = latent || needs(f, "gqa", true);
    const struct { const char *key; int64_t value; } numbers[] = {
        { "num_layers", 4 }, { "hidden_size", needs(f, "own_head_dim", true) ? 32 : 40 }, { "ffn_hidden_size", 28 },
        { "num_attention_heads", 8 }, { "num_query_groups", one_each ? 8 : 4 }, { "kv_channels", 4 }, { "vocab_size", 50 },
        { "padded_vocab_size", 52 }, { "num_experts", 4 }, { "moe_router_topk", 2 }, { "moe_ffn_hidden_size", 12 },
        { "moe_shared_expert_intermediate_size", 24 }, { "q_lora_rank", 20 }, { "kv_lora_rank", 16 }, { "qk_head_dim", 6 },
        { "qk_pos_emb_head_dim", 8 }, { "v_head_dim", 4 } };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        set_number(s, numbers[i].key, numbers[i].value);
    if (!one_each)
        set_flag(s, "gqa");
}

static void sample_make(struct sample *s, const struct sl_family *f, bool rich)
{
    memset(s, 0, sizeof *s);
    s->m.family = f;
    s->m.config = s->settings;
    s->m.flags = s->flags;
    s->m.vocab = 50;
    s->m.padded_vocab = 52;
    set_flags(s, f, rich);
    set_sizes(s, f);
    if (!sl_model_flag(&s->m, "moe"))
        return;
    const bool dense = rich && !needs(f, "dense_layers", true);
    if (dense)
        set_flag(s, "dense_layers");
    s->moe = (struct sl_moe){ .num_experts = 4, .topk = 2, .expert_layout = "te_grouped", .layers = s->moe_layers };
    for (int32_t i = dense; i < 4; i++)
        s->moe_layers[s->moe.layer_count++] = i;
    s->m.moe = &s->moe;
}

/* ---- layouts that must hold the same ------------------------------------------------------ */

struct tried { const char *name, *section; struct sl_target_spec spec; struct sl_layout layout; bool made; };

/* Has every param a place? */
static int check_params(struct trying *t, const struct tried *x)
{
    const struct sl_layout *l = &x->layout;
    const char *told = NULL;
    int code = SL_OK;
    for (size_t i = 0; i < l->param_count && !code; i++) {
        const char *name = l->params[i].name;
        if (l->param_first[i + 1] > l->param_first[i] || (told && !strcmp(strrchr(told, '.') ? strrchr(told, '.') : told,
                                                                          strrchr(name, '.') ? strrchr(name, '.') : name)))
            continue;
        told = name;
        code = add(t, SL_ERROR, x->section, NULL, "no row holds the param %s (for %s)", name, x->name);
    }
    return code;
}

static int compare(struct trying *t, const struct tried *a, const struct tried *b)
{
    struct sl_copy *copies = NULL;
    size_t count = 0, *first = NULL;
    struct sl_error err = { .code = SL_OK };
    int code = sl_intersect(&a->layout, &b->layout, false, &copies, &count, &first, &err);
    if (!code)
        code = sl_prove_coverage(&b->layout, copies, count, first, &err);
    free(copies);
    free(first);
    if (code == SL_MEMORY)
        return sl_fail_memory(t->err, 0);
    return !code ? SL_OK : add(t, SL_ERROR, b->section, err.where, "%s, made of %s: %s", b->name, a->name, err.message);
}

static int make_all(struct trying *t, struct sample *s, struct tried *all, size_t count)
{
    const size_t before = t->v->count;
    int code = SL_OK;
    for (size_t i = 0; i < count && !code && t->v->count == before; i++) {
        struct sl_error err = { .code = SL_OK };
        if (all[i].spec.parallel.tp > 1 && sl_value_get(t->f->single, "tp"))
            continue;
        if (sl_value_get(t->f->single, "etp"))
            all[i].spec.parallel.etp = 1;
        const int bad = sl_layout_target(&s->m, &all[i].spec, &s->arena, &all[i].layout, &err);
        if (bad == SL_MEMORY)
            return sl_fail_memory(t->err, 0);
        if (bad && bad == SL_UNSUPPORTED && all[i].spec.dist)      /* no fault of the family's */
            continue;
        if (bad)
            code = add(t, SL_ERROR, all[i].section, err.where, "%s", err.message);
        all[i].made = !bad;
        if (!bad)
            code = check_params(t, &all[i]);
    }
    return code;
}

static int check_layouts(struct trying *t, bool rich)
{
    static const struct sl_parallel one = { 1, 1, 1, 1, 1 }, two = { 2, 2, 1, 1, 2 };
    struct tried all[] = {
        { .name = "Hugging Face", .section = "tensors.hf", .spec = { .dialect = SL_DIALECT_HF, .parallel = one } },
        { .name = "Megatron, TE names, TP 1", .section = "tensors.megatron", .spec = { .dialect = SL_DIALECT_MEGATRON, .spec = "te", .experts = "te_grouped", .parallel = one } },
        { .name = "Megatron, local names, TP 1", .section = "tensors.megatron", .spec = { .dialect = SL_DIALECT_MEGATRON, .spec = "local", .experts = "local_experts", .parallel = one } },
        { .name = "torch_dist, TE names", .section = "tensors.megatron", .spec = { .dialect = SL_DIALECT_MEGATRON, .spec = "te", .dist = true, .parallel = one } },
        { .name = "torch_dist, local names", .section = "tensors.megatron", .spec = { .dialect = SL_DIALECT_MEGATRON, .spec = "local", .dist = true, .parallel = one } },
        { .name = "Megatron, TE names, TP 2 and PP 2", .section = "tensors.megatron", .spec = { .dialect = SL_DIALECT_MEGATRON, .spec = "te", .experts = "te_grouped", .parallel = two } },
        { .name = "Megatron, local names, TP 2 and PP 2", .section = "tensors.megatron", .spec = { .dialect = SL_DIALECT_MEGATRON, .spec = "local", .experts = "local_experts", .parallel = two } },
    };
    const size_t count = sizeof all / sizeof *all, before = t->v->count;
    struct sample *s = calloc(1, sizeof *s);
    if (!s)
        return sl_fail_memory(t->err, sizeof *s);
    sample_make(s, t->f, rich);
    int code = make_all(t, s, all, count);
    for (size_t i = 1; i < count && !code && t->v->count == before; i++) {
        if (!all[i].made)
            continue;
        code = compare(t, &all[0], &all[i]);
        code = code ? code : compare(t, &all[i], &all[0]);
        t->v->layouts++;
    }
    for (size_t i = 0; i < count; i++)
        sl_layout_free(&all[i].layout);
    sl_arena_free(&s->arena);
    free(s);
    return code;
}

/* ---- all of it -------------------------------------------------------------------------- */

static int try_family(struct trying *t)
{
    struct sl_family_verdict *v = t->v;
    const struct sl_family *f = t->f;
    v->title = sl_arena_str(&v->arena, f->title);
    v->params = f->param_count;
    for (int d = 0; d < SL_DIALECT_COUNT; d++)
        v->rules[d] = f->rule_count[d];
    int code = check_words(t);
    if (!code && !f->source)
        code = add(t, SL_WARNING, "source", NULL, "it does not say where its facts come from");
    const size_t warnings = v->count && v->findings[v->count - 1].severity == SL_WARNING;
    if (!code && v->count == warnings)
        code = check_layouts(t, false);
    return code || v->count > warnings ? code : check_layouts(t, true);
}

/* What reading refused, in its own form: "section, row N (name): what", or "section: what". */
static int add_refusal(struct trying *t, const struct sl_error *e)
{
    char section[64] = "", name[160] = "";
    const char *open = strstr(e->message, " ("), *row = strstr(e->message, ", row "), *close = strstr(e->message, "): ");
    if (row && open && close && open > row && (size_t)(row - e->message) < sizeof section && (size_t)(close - open) < sizeof name) {
        memcpy(section, e->message, (size_t)(row - e->message));
        memcpy(name, open + 2, (size_t)(close - open - 2));
        return add(t, SL_ERROR, section, name, "%s", close + 3);
    }
    const size_t word = strspn(e->message, "abcdefghijklmnopqrstuvwxyz");
    if (word && word < sizeof section && !strncmp(e->message + word, ": ", 2)) {
        memcpy(section, e->message, word);
        return add(t, SL_ERROR, section, NULL, "%s", e->message + word + 2);
    }
    return add(t, SL_ERROR, "file", NULL, "%s", e->message);
}

static int read_all(struct trying *t)
{
    struct sl_families families;
    const struct sl_value *json;
    struct sl_error err = { .code = SL_OK };
    int code = sl_families_load(t->path, &families, &err);
    if (code == SL_MEMORY)
        return sl_fail_memory(t->err, 0);
    if (code)
        return strcmp(err.where, t->path) ? sl_fail(t->err, code, err.where, "%s", err.message) : add_refusal(t, &err);
    code = sl_json_load(t->path, SL_LIMIT_JSON_BYTES, &t->v->arena, &json, t->err);
    if (!code) {
        t->v->family = sl_value_str(sl_value_get(json, "family"));
        (void)sl_value_bool(sl_value_get(json, "abstract"), &t->v->abstract);
        t->f = t->v->abstract ? NULL : sl_family_find(&families, t->v->family);
        code = t->f ? try_family(t) : SL_OK;
    }
    sl_families_free(&families);
    return code;
}

int sl_family_try(const char *path, struct sl_family_verdict *out, struct sl_error *err)
{
    struct trying t = { .v = out, .path = path, .err = err };
    size_t len;
    *out = (struct sl_family_verdict){ .family = NULL };
    const int code = sl_file_slurp(path, SL_LIMIT_JSON_BYTES, &out->arena, &t.text, &len, err);
    return code ? code : read_all(&t);
}

void sl_family_verdict_free(struct sl_family_verdict *v)
{
    if (v)
        sl_arena_free(&v->arena);
}
