/* facts.c: reads facts.json, the table of what names, shapes, args and keys of
 * config.json mean. It is compiled in, so a mistake in it is a mistake of the
 * build: the tests of this room read every row. */
#include "model/internal.h"

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "base/value.h"
#include "model/embedded.h"

#include <pthread.h>
#include <string.h>

static struct sl_facts table;
static struct sl_arena table_arena;
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static const char *const kind_words[] = {
    [SL_KIND_INT] = "int", [SL_KIND_NUMBER] = "number", [SL_KIND_BOOL] = "bool",
    [SL_KIND_STR] = "str", [SL_KIND_ANY] = "any",
};

const char *sl_kind_text(enum sl_number_kind kind)
{
    static const char *const texts[] = {
        [SL_KIND_INT] = "a whole number", [SL_KIND_NUMBER] = "a number", [SL_KIND_BOOL] = "true or false",
        [SL_KIND_STR] = "a word", [SL_KIND_ANY] = "a value",
    };
    return texts[kind];
}

bool sl_kind_fits(enum sl_number_kind kind, const struct sl_value *v)
{
    int64_t i;
    double f;
    bool b;
    switch (kind) {
    case SL_KIND_INT:
        return sl_value_int(v, &i);
    case SL_KIND_NUMBER:
        return sl_value_double(v, &f);
    case SL_KIND_BOOL:
        return sl_value_bool(v, &b);
    case SL_KIND_STR:
        return sl_value_str(v) != NULL;
    case SL_KIND_ANY:
        break;
    }
    return v != NULL && v->kind != SL_VALUE_NULL;
}

static size_t list_len(const struct sl_value *v)
{
    return v && v->kind == SL_VALUE_LIST ? v->len : 0;
}

static const char *text_of(const struct sl_value *row, const char *key)
{
    const char *s = sl_value_str(sl_value_get(row, key));
    return s ? s : "";
}

/* "qkv_rows tp" */
static void read_axis(const char *text, const char **fact, enum sl_cut *cut)
{
    const char *blank = strchr(text, ' ');
    *fact = blank ? sl_arena_strn(&table_arena, text, (size_t)(blank - text)) : text;
    *cut = !blank ? SL_CUT_NONE : !strcmp(blank + 1, "etp") ? SL_CUT_ETP : SL_CUT_TP;
}

static void read_names(const struct sl_value *rows)
{
    struct sl_name_fact *names = SL_ARENA_NEW(&table_arena, struct sl_name_fact, list_len(rows));
    for (size_t i = 0; names && i < list_len(rows); i++) {
        const struct sl_value *axes = sl_value_get(rows->items[i], "axes");
        struct sl_name_fact *n = &names[table.name_count++];
        n->name = text_of(rows->items[i], "name");
        n->flag = text_of(rows->items[i], "flag");
        while (n->dialect < SL_DIALECT_COUNT - 1
               && strcmp(sl_dialect_name(n->dialect), text_of(rows->items[i], "dialect")))
            n->dialect++;
        for (size_t a = 0; a < list_len(axes) && a < SL_FACT_AXES; a++, n->ndim++)
            read_axis(sl_value_str(axes->items[a]), &n->axes[a].fact, &n->axes[a].cut);
    }
    table.names = names;
}

/* "!untie_embeddings_and_output_weights", "num_query_groups?group_query_attention", "!norm_topk_prob" */
static void read_source(const char *text, struct sl_setting_source *s)
{
    const char *condition = strchr(text, '?');
    s->invert = *text == '!';
    s->name = text + s->invert;
    if (!condition)
        return;
    s->name = sl_arena_strn(&table_arena, s->name, (size_t)(condition - s->name));
    s->only_if = condition + 1;
}

static void read_setting(const struct sl_value *row, struct sl_setting_rule *s)
{
    const struct sl_value *args = sl_value_get(row, "args"), *hf = sl_value_get(row, "hf");
    struct sl_setting_source *sources = SL_ARENA_NEW(&table_arena, struct sl_setting_source, list_len(args));
    struct sl_setting_source *names = SL_ARENA_NEW(&table_arena, struct sl_setting_source, list_len(hf));
    if (!sources || !names)
        return;
    s->key = text_of(row, "key");
    while (s->kind < SL_KIND_ANY && strcmp(kind_words[s->kind], text_of(row, "kind")))
        s->kind++;
    for (; s->arg_count < list_len(args); s->arg_count++)
        read_source(sl_value_str(args->items[s->arg_count]), &sources[s->arg_count]);
    for (; s->hf_count < list_len(hf); s->hf_count++)
        read_source(sl_value_str(hf->items[s->hf_count]), &names[s->hf_count]);
    s->args = sources;
    s->hf = names;
}

static void read_settings(const struct sl_value *rows)
{
    struct sl_setting_rule *settings = SL_ARENA_NEW(&table_arena, struct sl_setting_rule, list_len(rows));
    for (size_t i = 0; settings && i < list_len(rows); i++)
        read_setting(rows->items[i], &settings[table.setting_count++]);
    table.settings = settings;
}

static void read_flags(const struct sl_value *rows)
{
    struct sl_flag_rule *flags = SL_ARENA_NEW(&table_arena, struct sl_flag_rule, list_len(rows));
    for (size_t i = 0; flags && i < list_len(rows); i++)
        flags[table.flag_count++] = (struct sl_flag_rule){
            .key = text_of(rows->items[i], "key"), .flag = text_of(rows->items[i], "flag"),
            .is = sl_value_get(rows->items[i], "is"), .is_not = sl_value_get(rows->items[i], "is_not")};
    table.flags = flags;
}

static void read_looks(const struct sl_value *rows)
{
    struct sl_looks_rule *looks = SL_ARENA_NEW(&table_arena, struct sl_looks_rule, list_len(rows));
    for (size_t i = 0; looks && i < list_len(rows); i++)
        looks[table.look_count++] = (struct sl_looks_rule){text_of(rows->items[i], "when"),
                                                           text_of(rows->items[i], "says")};
    table.looks = looks;
}

static void read_table(void)
{
    const struct sl_value *json = NULL;
    if (sl_embedded_json(sl_embedded_find("facts.json"), &table_arena, &json, NULL))
        return;
    read_names(sl_value_get(json, "names"));
    read_settings(sl_value_get(json, "settings"));
    read_flags(sl_value_get(json, "flags"));
    read_looks(sl_value_get(json, "looks_like"));
}

const struct sl_facts *sl_facts(void)
{
    pthread_once(&table_once, read_table);
    return &table;
}

/* Is name one of the rule's spellings? */
static bool rule_has(const struct sl_setting_rule *rule, const char *name, bool *invert)
{
    for (size_t i = 0; i < rule->arg_count; i++)
        if (!strcmp(rule->args[i].name, name)) {
            *invert = rule->args[i].invert;
            return true;
        }
    for (size_t i = 0; i < rule->hf_count; i++)
        if (!strcmp(rule->hf[i].name, name)) {
            *invert = rule->hf[i].invert;
            return true;
        }
    return false;
}

const struct sl_setting_rule *sl_setting_rule_find(const char *name, bool *invert)
{
    const struct sl_facts *f = sl_facts();
    *invert = false;
    for (size_t i = 0; i < f->setting_count; i++)
        if (!strcmp(f->settings[i].key, name))
            return &f->settings[i];
    for (size_t i = 0; i < f->setting_count; i++)
        if (rule_has(&f->settings[i], name, invert))
            return &f->settings[i];
    return NULL;
}

const char *sl_setting_nearest(const char *name)
{
    const struct sl_facts *f = sl_facts();
    const char *best = NULL;
    unsigned least = 1 + (unsigned)strlen(name) / 3;
    for (size_t i = 0; i < f->setting_count; i++) {
        const struct sl_setting_rule *rule = &f->settings[i];
        for (size_t k = 0; k < 1 + rule->arg_count + rule->hf_count; k++) {
            const char *word = !k ? rule->key : k <= rule->arg_count ? rule->args[k - 1].name
                                                                     : rule->hf[k - 1 - rule->arg_count].name;
            const unsigned far = sl_text_distance(name, word);
            if (far < least)
                least = far, best = word;
        }
    }
    return best;
}

/* ---- is there such a name? ------------------------------------------------ */

/* Flags that no table of facts.json raises. */
static const char *const counted_flags[] = { "tied", "gqa", "gated", "pp", "own_head_dim", "fused_rows", "fused_columns", "moe_layer", "mtp_layer", "dense_layers",
    "full_qk_norm", "mtp", "mtp_moe", "qkv_v0", "qkv_v1", "te", "local", "moe", "block_ffn", "mla", "q_lora" };

static bool in_words(const char *words, const char *flag, size_t len)
{
    for (const char *p = words; *(p += strspn(p, " ")); p += strcspn(p, " "))
        if (strcspn(p, " ") == len && !memcmp(p, flag, len))
            return true;
    return false;
}

bool sl_flag_known(const char *flag, size_t len)
{
    const struct sl_facts *facts = sl_facts();
    for (size_t i = 0; i < sizeof counted_flags / sizeof *counted_flags; i++)
        if (in_words(counted_flags[i], flag, len))
            return true;
    for (size_t i = 0; i < facts->name_count; i++)
        if (in_words(facts->names[i].flag, flag, len))
            return true;
    for (size_t i = 0; i < facts->flag_count; i++)
        if (in_words(facts->flags[i].flag, flag, len))
            return true;
    return false;
}

bool sl_setting_known(const char *name, const char **near)
{
    bool invert;
    *near = NULL;
    if (sl_setting_rule_find(name, &invert))
        return true;
    *near = sl_setting_nearest(name);
    return false;
}
