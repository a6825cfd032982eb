/* family.c: reads family files into tables, merges parents in, and refuses what
 * can't be meant, naming file and row. */
#include "model/family.h"
#include "model/internal.h"

#include "base/error.h"
#include "base/io.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "base/value.h"
#include "model/embedded.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_FAMILIES 256
#define MOST_PARENTS 8
#define MOST_ADDED 1e6                   /* by "add" */

const char *sl_dialect_name(enum sl_dialect d)
{
    static const char *const names[] = {[SL_DIALECT_HF] = "hf", [SL_DIALECT_MEGATRON] = "megatron",
                                        [SL_DIALECT_LEGACY] = "legacy"};
    return d < SL_DIALECT_COUNT ? names[d] : "";
}

static const char *const dialect_sections[] = {[SL_DIALECT_HF] = "tensors.hf",
    [SL_DIALECT_MEGATRON] = "tensors.megatron", [SL_DIALECT_LEGACY] = "tensors.legacy"};

/* A family while it is read. */
struct draft {
    struct sl_family f;
    const char *file;
    bool merged;
};

struct loader {
    struct sl_arena *arena;
    struct sl_error *err;
    struct draft *drafts;
    size_t count;
    const char *file;                    /* being read */
    bool outside;                        /* a family is not built in */
};

/* Where in a file: "tensors.megatron row 3 (decoder.layers..)". */
struct place { const char *section; size_t row; const char *name; };

static int refuse(const struct loader *l, struct place at, const char *what)
{
    if (!at.name)
        return sl_fail(l->err, SL_USAGE, l->file, "%s: %s", at.section, what);
    return sl_fail(l->err, SL_USAGE, l->file, "%s, row %zu (%s): %s", at.section, at.row + 1, at.name, what);
}

static int no_memory(const struct loader *l)
{
    return sl_fail_memory(l->err, 0);
}

/* ---- members of rows ----------------------------------------------------- */

/* Every member of a row must be one of these (a list ended by NULL). */
static int only_known(const struct loader *l, struct place at, const struct sl_value *row,
                      const char *const *known)
{
    for (size_t i = 0; i < row->len; i++) {
        const char *key = sl_value_str(row->keys[i]);
        size_t k = 0;
        while (key && known[k] && strcmp(known[k], key))
            k++;
        if (!key || !known[k])
            return refuse(l, at, sl_arena_printf(l->arena, "\"%s\" is not known here", key ? key : "?"));
    }
    return SL_OK;
}

/* An optional text member; SL_USAGE when it is there and no text. */
static int text_member(const struct loader *l, struct place at, const struct sl_value *row,
                       const char *key, const char **out)
{
    const struct sl_value *v = sl_value_get(row, key);
    *out = sl_value_str(v);
    if (v && (!*out || !**out))
        return refuse(l, at, sl_arena_printf(l->arena, "\"%s\" must be a text", key));
    return SL_OK;
}

static int bool_member(const struct loader *l, struct place at, const struct sl_value *row,
                       const char *key, bool *out)
{
    const struct sl_value *v = sl_value_get(row, key);
    *out = false;
    if (v && !sl_value_bool(v, out))
        return refuse(l, at, sl_arena_printf(l->arena, "\"%s\" must be true or false", key));
    return SL_OK;
}

static bool any_flag(void *arg, const char *flag, size_t len)
{
    (void)arg, (void)flag, (void)len;
    return true;
}

static int when_member(const struct loader *l, struct place at, const struct sl_value *row,
                       const char *key, const char **out)
{
    bool holds;
    struct sl_error err;
    const int code = text_member(l, at, row, key, out);
    if (code || !*out)
        return code;
    return sl_condition(*out, any_flag, NULL, &holds, &err) ? refuse(l, at, err.message) : SL_OK;
}

static int one_of(const struct loader *l, struct place at, const char *key, const char *text,
                  const char *const *words, size_t count, size_t *which)
{
    for (*which = 0; *which < count; ++*which)
        if (!strcmp(words[*which], text))
            return SL_OK;
    return refuse(l, at, sl_arena_printf(l->arena, "\"%s\" is \"%s\", which is not known", key, text));
}

/* ---- sections ------------------------------------------------------------ */

static int read_dims(const struct loader *l, const struct sl_value *json, struct sl_family *f)
{
    const struct sl_value *rows = sl_value_get(json, "dims");
    struct sl_dim *dims = SL_ARENA_NEW(l->arena, struct sl_dim, rows ? rows->len : 0);
    if (!dims)
        return no_memory(l);
    if (rows && rows->kind != SL_VALUE_DICT)
        return refuse(l, (struct place){.section = "dims"}, "an object is expected");
    f->dims = dims;
    for (size_t i = 0; rows && i < rows->len; i++) {
        dims[i] = (struct sl_dim){sl_value_str(rows->keys[i]), sl_value_str(rows->items[i])};
        if (!dims[i].expression)
            return refuse(l, (struct place){"dims", i, dims[i].name}, "an expression in quotes is expected");
        f->dim_count++;
    }
    return SL_OK;
}

static int read_param(const struct loader *l, struct place at, const struct sl_value *v,
                      struct sl_param_rule *p)
{
    static const char *const known[] = {"axes", "when", NULL};
    p->name = at.name;
    p->axes = sl_value_str(v);
    if (p->axes)
        return SL_OK;
    if (!v || v->kind != SL_VALUE_DICT)
        return refuse(l, at, "the axes are expected: \"vocab hidden\", or {\"axes\": .., \"when\": ..}");
    int code = only_known(l, at, v, known);
    code = code ? code : text_member(l, at, v, "axes", &p->axes);
    code = code ? code : when_member(l, at, v, "when", &p->when);
    return code || p->axes ? code : refuse(l, at, "\"axes\" is missing");
}

static int read_params(const struct loader *l, const struct sl_value *json, struct sl_family *f)
{
    const struct sl_value *rows = sl_value_get(json, "params");
    struct sl_param_rule *params = SL_ARENA_NEW(l->arena, struct sl_param_rule, rows ? rows->len : 0);
    if (!params)
        return no_memory(l);
    if (rows && rows->kind != SL_VALUE_DICT)
        return refuse(l, (struct place){.section = "params"}, "an object is expected");
    f->params = params;
    for (size_t i = 0; rows && i < rows->len; i++) {
        const struct place at = {"params", i, sl_value_str(rows->keys[i])};
        const int code = read_param(l, at, rows->items[i], &params[f->param_count]);
        if (code)
            return code;
        f->param_count++;
    }
    return SL_OK;
}

/* "tp:0" */
static int read_cut(const struct loader *l, struct place at, const struct sl_value *row, struct sl_rule *r)
{
    const char *text;
    r->cut_axis = -1;
    const int code = text_member(l, at, row, "cut", &text);
    if (code || !text)
        return code;
    const char *colon = strchr(text, ':');
    int64_t axis = -1;
    r->cut_over = sl_text_starts(text, "tp:") ? "tp" : sl_text_starts(text, "etp:") ? "etp" : NULL;
    if (!r->cut_over || !sl_text_parse_i64(colon + 1, &axis) || axis < 0 || axis > 7)
        return refuse(l, at, "\"cut\" must be \"tp:AXIS\" or \"etp:AXIS\"");
    r->cut_axis = (int32_t)axis;
    return SL_OK;
}

static int read_stage(const struct loader *l, struct place at, const struct sl_value *row, struct sl_rule *r)
{
    static const char *const words[] = {[SL_STAGE_ALL] = "all", [SL_STAGE_FIRST] = "first",
                                        [SL_STAGE_LAST] = "last"};
    const char *text;
    const int code = text_member(l, at, row, "stage", &text);
    if (code)
        return code;
    r->mtp = sl_text_starts(r->name, "mtp.layers.{layer}.");
    r->stage = r->mtp ? SL_STAGE_LAST : strstr(r->name, "{layer}") ? SL_STAGE_LAYER : SL_STAGE_ALL;
    if (!text)
        return SL_OK;
    size_t which = 0;
    const int bad = one_of(l, at, "stage", text, words, sizeof words / sizeof *words, &which);
    r->stage = (enum sl_stage)which;
    return bad;
}

/* A member that is one of a few words; *out stays NULL without it. */
static int word_member(const struct loader *l, struct place at, const struct sl_value *row, const char *key,
                       const char *const *words, size_t count, const char **out)
{
    size_t which;
    const int code = text_member(l, at, row, key, out);
    return code || !*out ? code : one_of(l, at, key, *out, words, count, &which);
}

/* For which targets it is written. */
static int read_targets(const struct loader *l, struct place at, const struct sl_value *row, struct sl_rule *r)
{
    static const char *const spec[] = {"te", "local"};
    static const char *const experts[] = {"te_grouped", "grouped", "local_experts", "block_ffn"};
    static const char *const dist[] = {"te", "local", "both", "never"};
    int code = word_member(l, at, row, "spec", spec, sizeof spec / sizeof *spec, &r->spec);
    code = code ? code : word_member(l, at, row, "experts", experts, sizeof experts / sizeof *experts, &r->experts);
    return code ? code : word_member(l, at, row, "dist", dist, sizeof dist / sizeof *dist, &r->dist);
}

/* "add": -1, "add_when": "norm_1p" */
static int read_add(const struct loader *l, struct place at, const struct sl_value *row, struct sl_rule *r)
{
    const struct sl_value *v = sl_value_get(row, "add");
    const int code = when_member(l, at, row, "add_when", &r->add_when);
    if (code)
        return code;
    if (r->add_when && !v)
        return refuse(l, at, "\"add_when\" without \"add\"");
    if (v && (!sl_value_double(v, &r->add) || !(fabs(r->add) <= MOST_ADDED) || fabs(r->add) <= 0))
        return refuse(l, at, "\"add\" must be a number that is not 0");
    return SL_OK;
}

static int read_rule(const struct loader *l, struct place at, const struct sl_value *row, struct sl_rule *r)
{
    static const char *const known[] = {"name", "map", "cut", "stage", "when", "spec", "experts", "dist", "optional",
                                        "alias", "aliases", "keep_dtype", "add", "add_when", "label", NULL};
    if (row->kind != SL_VALUE_DICT)
        return refuse(l, at, "an object is expected");
    int code = text_member(l, at, row, "name", &r->name);
    if (code || !r->name)
        return code ? code : refuse(l, at, "\"name\" is missing");
    at.name = r->name;
    code = only_known(l, at, row, known);
    code = code ? code : text_member(l, at, row, "map", &r->map);
    code = code ? code : read_cut(l, at, row, r);
    code = code ? code : read_stage(l, at, row, r);
    code = code ? code : when_member(l, at, row, "when", &r->when);
    code = code ? code : read_targets(l, at, row, r);
    code = code ? code : bool_member(l, at, row, "optional", &r->optional);
    code = code ? code : bool_member(l, at, row, "keep_dtype", &r->keep_dtype);
    code = code ? code : bool_member(l, at, row, "alias", &r->alias);
    code = code ? code : read_add(l, at, row, r);
    code = code ? code : text_member(l, at, row, "label", &r->label);
    return code || r->map ? code : refuse(l, at, "\"map\" is missing");
}

static size_t list_len(const struct sl_value *v)
{
    return v && v->kind == SL_VALUE_LIST ? v->len : 0;
}

static size_t count_with_aliases(const struct sl_value *rows)
{
    size_t count = list_len(rows);
    for (size_t i = 0; i < list_len(rows); i++)
        count += list_len(sl_value_get(rows->items[i], "aliases"));
    return count;
}

static int read_dialect(const struct loader *l, const char *section, const struct sl_value *rows,
                        const struct sl_rule **out, size_t *count)
{
    struct sl_rule *rules = SL_ARENA_NEW(l->arena, struct sl_rule, count_with_aliases(rows));
    if (!rules)
        return no_memory(l);
    if (rows && rows->kind != SL_VALUE_LIST)
        return refuse(l, (struct place){.section = section}, "a list of rows is expected");
    *out = rules;
    for (size_t i = 0; i < list_len(rows); i++) {
        struct sl_rule *rule = &rules[(*count)++];
        const struct place at = {section, i, "no name"};
        const int code = read_rule(l, at, rows->items[i], rule);
        if (code)
            return code;
        const struct sl_value *aliases = sl_value_get(rows->items[i], "aliases");
        for (size_t k = 0; k < list_len(aliases); k++) {
            struct sl_rule *alias = &rules[(*count)++];
            *alias = *rule;
            alias->alias = true;
            alias->dist = NULL;
            alias->name = sl_value_str(aliases->items[k]);
            if (!alias->name)
                return refuse(l, (struct place){section, i, rule->name}, "\"aliases\" must be texts");
            alias->mtp = sl_text_starts(alias->name, "mtp.layers.{layer}.");
        }
    }
    return SL_OK;
}

static int read_tensors(const struct loader *l, const struct sl_value *json, struct sl_family *f)
{
    static const char *const known[] = {"hf", "megatron", "legacy", NULL};
    const struct sl_value *tensors = sl_value_get(json, "tensors");
    if (tensors && tensors->kind != SL_VALUE_DICT)
        return refuse(l, (struct place){.section = "tensors"}, "an object is expected");
    int code = tensors ? only_known(l, (struct place){.section = "tensors"}, tensors, known) : SL_OK;
    for (int d = 0; d < SL_DIALECT_COUNT && !code; d++)
        code = read_dialect(l, dialect_sections[d], sl_value_get(tensors, sl_dialect_name((enum sl_dialect)d)),
                            &f->rules[d], &f->rule_count[d]);
    return code;
}

static int read_kind(const struct loader *l, struct place at, const struct sl_value *row,
                     enum sl_value_kind *kind)
{
    static const char *const words[] = {"int", "float", "bool", "str", "number", "any"};
    static const enum sl_value_kind kinds[] = {SL_VALUE_INT, SL_VALUE_FLOAT, SL_VALUE_BOOL,
                                               SL_VALUE_STR, SL_VALUE_NULL, SL_VALUE_NULL};
    const char *text;
    size_t which = sizeof words / sizeof *words - 1;
    int code = text_member(l, at, row, "kind", &text);
    if (!code && text)
        code = one_of(l, at, "kind", text, words, sizeof words / sizeof *words, &which);
    *kind = code ? SL_VALUE_NULL : kinds[which];
    return code;
}

static int read_config_row(const struct loader *l, struct place at, const struct sl_value *row,
                           struct sl_config_rule *r)
{
    static const char *const known[] = {"hf", "megatron", "expression", "flag", "write", "kind", "invert",
                                        "when", "fallback", "required", "note", NULL};
    if (row->kind != SL_VALUE_DICT)
        return refuse(l, at, "an object is expected");
    int code = text_member(l, at, row, "hf", &r->hf);
    if (code || !r->hf)
        return code ? code : refuse(l, at, "\"hf\" is missing");
    at.name = r->hf;
    code = only_known(l, at, row, known);
    code = code ? code : text_member(l, at, row, "megatron", &r->megatron);
    code = code ? code : text_member(l, at, row, "expression", &r->expression);
    code = code ? code : text_member(l, at, row, "flag", &r->flag);
    code = code ? code : when_member(l, at, row, "when", &r->when);
    code = code ? code : read_kind(l, at, row, &r->kind);
    code = code ? code : bool_member(l, at, row, "invert", &r->invert);
    code = code ? code : bool_member(l, at, row, "required", &r->required);
    code = code ? code : text_member(l, at, row, "note", &r->note);
    r->write = sl_value_get(row, "write");
    r->fallback = sl_value_get(row, "fallback");
    return code;
}

static int read_config(const struct loader *l, const struct sl_value *json, struct sl_family *f)
{
    const struct sl_value *rows = sl_value_get(json, "config");
    struct sl_config_rule *config = SL_ARENA_NEW(l->arena, struct sl_config_rule, list_len(rows));
    if (!config)
        return no_memory(l);
    f->config = config;
    for (size_t i = 0; i < list_len(rows); i++) {
        const struct place at = {"config", i, "no hf key"};
        const int code = read_config_row(l, at, rows->items[i], &config[f->config_count++]);
        if (code)
            return code;
    }
    return SL_OK;
}

static int read_sign(const struct loader *l, struct place at, const struct sl_value *row,
                     struct sl_detect_rule *r)
{
    static const char *const known[] = {"when", "key", "equals", "in", "contains", "says", "weight", NULL};
    int64_t weight = 0;
    if (row->kind != SL_VALUE_DICT)
        return refuse(l, at, "an object is expected");
    int code = text_member(l, at, row, "says", &r->says);
    if (code || !r->says)
        return code ? code : refuse(l, at, "\"says\" is missing");
    at.name = r->says;
    code = only_known(l, at, row, known);
    code = code ? code : when_member(l, at, row, "when", &r->when);
    code = code ? code : text_member(l, at, row, "key", &r->key);
    code = code ? code : text_member(l, at, row, "contains", &r->contains);
    r->equals = sl_value_get(row, "equals");
    r->in = sl_value_get(row, "in");
    if (code)
        return code;
    if (!sl_value_int(sl_value_get(row, "weight"), &weight) || weight < -1000 || weight > 1000)
        return refuse(l, at, "\"weight\" must be a whole number from -1000 to 1000");
    r->weight = (int32_t)weight;
    return r->when || r->key ? SL_OK : refuse(l, at, "\"when\" or \"key\" is missing");
}

static int read_detect(const struct loader *l, const struct sl_value *json, struct sl_family *f)
{
    const struct sl_value *rows = sl_value_get(json, "detect");
    struct sl_detect_rule *detect = SL_ARENA_NEW(l->arena, struct sl_detect_rule, list_len(rows));
    if (!detect)
        return no_memory(l);
    f->detect = detect;
    for (size_t i = 0; i < list_len(rows); i++) {
        const struct place at = {"detect", i, "no text"};
        const int code = read_sign(l, at, rows->items[i], &detect[f->detect_count++]);
        if (code)
            return code;
    }
    return SL_OK;
}

static int read_drop(const struct loader *l, const struct sl_value *json, struct sl_family *f)
{
    const struct sl_value *rows = sl_value_get(json, "drop");
    const char **drop = SL_ARENA_NEW(l->arena, const char *, list_len(rows));
    if (!drop)
        return no_memory(l);
    f->drop = drop;
    for (size_t i = 0; i < list_len(rows); i++) {
        drop[f->drop_count] = sl_value_str(rows->items[i]);
        if (!drop[f->drop_count++])
            return refuse(l, (struct place){.section = "drop"}, "a list of texts is expected");
    }
    return SL_OK;
}

static int read_mtp(const struct loader *l, const struct sl_value *json, struct sl_family *f)
{
    static const char *const known[] = {"of", "as", NULL};
    const struct sl_value *mtp = sl_value_get(json, "mtp"), *as = sl_value_get(mtp, "as");
    const struct place at = {.section = "mtp"};
    bool good = as && list_len(as) && sl_value_str(sl_value_get(mtp, "of"));
    f->mtp = mtp;
    if (!mtp)
        return SL_OK;
    for (size_t i = 0; i < list_len(as); i++)
        good = good && sl_value_str(as->items[i]) && sl_text_starts(sl_value_str(as->items[i]), "mtp.layers.{layer}.");
    const int code = mtp->kind == SL_VALUE_DICT ? only_known(l, at, mtp, known) : SL_OK;
    return code || good ? code : refuse(l, at, "{\"of\": NAME, \"as\": [NAME, ..]} is expected, NAMEs of \"as\" beginning with"
                                               " mtp.layers.{layer}.");
}

/* Settings by name, with values of their kinds. */
static int read_implies(const struct loader *l, const struct sl_value *json, struct sl_family *f)
{
    const struct sl_value *rows = sl_value_get(json, "implies");
    f->implies = rows;
    if (rows && rows->kind != SL_VALUE_DICT)
        return refuse(l, (struct place){.section = "implies"}, "an object is expected");
    if (rows && !sl_facts()->setting_count)      /* they are always there, but for memory */
        return sl_fail_memory(l->err, 1 << 16);
    for (size_t i = 0; rows && i < rows->len; i++) {
        const struct place at = {"implies", i, sl_value_str(rows->keys[i])};
        bool invert = false;
        const struct sl_setting_rule *rule = at.name ? sl_setting_rule_find(at.name, &invert) : NULL;
        if (!rule || strcmp(rule->key, at.name))
            return refuse(l, at, "no setting is called so");
        if (!sl_kind_fits(rule->kind, rows->items[i]))
            return refuse(l, at, sl_arena_printf(l->arena, "%s is expected", sl_kind_text(rule->kind)));
    }
    return SL_OK;
}

static int read_replaces(const struct loader *l, const struct sl_value *json)
{
    static const char *const words[] = {"dims", "params", "tensors.hf", "tensors.megatron", "tensors.legacy", "config"};
    const struct sl_value *list = sl_value_get(json, "replaces");
    const struct place at = {.section = "family file"};
    size_t which;
    int code = !list || list->kind == SL_VALUE_LIST ? SL_OK : refuse(l, at, "\"replaces\" must be a list of sections");
    for (size_t i = 0; list && i < list_len(list) && !code; i++) {
        const char *word = sl_value_str(list->items[i]);
        code = one_of(l, at, "replaces", word ? word : "?", words, sizeof words / sizeof *words, &which);
    }
    return code;
}

static int read_allows(const struct loader *l, const struct sl_value *json)
{
    const struct sl_value *list = sl_value_get(json, "allows");
    bool good = !list || list->kind == SL_VALUE_LIST;
    for (size_t i = 0; good && i < list_len(list); i++)
        good = sl_value_str(list->items[i]) != NULL;
    return good ? SL_OK : refuse(l, (struct place){.section = "allows"}, "a list of flags is expected");
}

static int read_single(const struct loader *l, const struct sl_value *json, struct sl_family *f)
{
    static const char *const sizes[] = {"tp", "pp", "ep", "etp", NULL};
    const struct place at = {.section = "single"};
    f->single = sl_value_get(json, "single");
    if (f->single && f->single->kind != SL_VALUE_DICT)
        return refuse(l, at, "an object is expected: {\"tp\": \"why\"}");
    int code = f->single ? only_known(l, at, f->single, sizes) : SL_OK;
    for (size_t i = 0; !code && f->single && i < f->single->len; i++)
        if (!sl_value_str(f->single->items[i]))
            code = refuse(l, at, "the reason is expected as a text");
    return code;
}

static int read_family(const struct loader *l, const struct sl_value *json, struct sl_family *f)
{
    static const char *const known[] = {"family", "title", "inherits", "abstract", "source", "hf", "needs",
                                        "dims", "params", "tensors", "config", "detect", "drop", "replaces", "implies", "mtp",
                                        "allows", "single", NULL};
    const struct place top = {.section = "family file"};
    if (!json || json->kind != SL_VALUE_DICT)
        return refuse(l, top, "a JSON object is expected");
    f->json = json;
    const struct sl_value *hf = sl_value_get(json, "hf");
    int code = only_known(l, top, json, known);
    code = code ? code : text_member(l, top, json, "family", &f->name);
    code = code ? code : text_member(l, top, json, "title", &f->title);
    code = code ? code : text_member(l, top, json, "inherits", &f->inherits);
    code = code ? code : text_member(l, top, json, "source", &f->source);
    code = code ? code : bool_member(l, top, json, "abstract", &f->abstract);
    code = code ? code : text_member(l, top, hf, "architecture", &f->hf_architecture);
    code = code ? code : text_member(l, top, hf, "model_type", &f->hf_model_type);
    code = code ? code : when_member(l, top, json, "needs", &f->needs);
    code = code ? code : read_replaces(l, json);
    code = code ? code : read_allows(l, json);
    code = code ? code : read_single(l, json, f);
    if (code)
        return code;
    if (!f->name)
        return refuse(l, top, "\"family\" (its name) is missing");
    code = read_dims(l, json, f);
    code = code ? code : read_params(l, json, f);
    code = code ? code : read_tensors(l, json, f);
    code = code ? code : read_config(l, json, f);
    code = code ? code : read_detect(l, json, f);
    code = code ? code : read_implies(l, json, f);
    code = code ? code : read_mtp(l, json, f);
    return code ? code : read_drop(l, json, f);
}

/* ---- files --------------------------------------------------------------- */

/* A draft of the same name takes the place of the one before. */
static int add_draft(struct loader *l, const struct sl_value *json, const char *file)
{
    struct draft d = {.file = file};
    l->file = file;
    const int code = read_family(l, json, &d.f);
    if (code || !d.f.name)
        return code;
    size_t at = 0;
    while (at < l->count && strcmp(l->drafts[at].f.name, d.f.name))
        at++;
    if (at == MOST_FAMILIES)
        return sl_fail(l->err, SL_USAGE, file, "more than %d families", MOST_FAMILIES);
    l->count += at == l->count;
    l->drafts[at] = d;
    return SL_OK;
}

static int add_embedded(struct loader *l)
{
    for (size_t i = 0; i < sl_embedded_count; i++) {
        const struct sl_embedded *file = &sl_embedded_files[i];
        const struct sl_value *json;
        if (!strcmp(file->name, "models.json") || !strcmp(file->name, "facts.json") ||
            !strcmp(file->name, "megatron_args.json"))    /* tables of their own */
            continue;
        int code = sl_embedded_json(file, l->arena, &json, l->err);
        code = code ? code : add_draft(l, json, file->name);
        if (code)
            return code;
    }
    return SL_OK;
}

static int add_file(struct loader *l, const char *path)
{
    const struct sl_value *json;
    const char *kept = sl_arena_str(l->arena, path);
    if (!kept)
        return no_memory(l);
    l->outside = true;
    const int code = sl_json_load(path, SL_LIMIT_JSON_BYTES, l->arena, &json, l->err);
    return code ? code : add_draft(l, json, kept);
}

/* $XDG_CONFIG_HOME/shardlens/families, NULL when there is no such folder. */
static const char *user_folder(struct sl_arena *arena)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    const char *folder = config && *config == '/' ? sl_arena_printf(arena, "%s/shardlens/families", config)
                       : home && *home == '/' ? sl_arena_printf(arena, "%s/.config/shardlens/families", home)
                                              : NULL;
    return folder && sl_path_is_folder(folder) ? folder : NULL;
}

static int add_user_files(struct loader *l)
{
    const char *folder = user_folder(l->arena);
    const char *const *names;
    size_t count = 0;
    if (!folder)
        return SL_OK;
    int code = sl_folder_list(folder, SL_LIMIT_FOLDER_ENTRIES, l->arena, &names, &count, l->err);
    for (size_t i = 0; i < count && !code; i++)
        if (sl_text_ends(names[i], ".json")) {
            const char *path = sl_arena_printf(l->arena, "%s/%s", folder, names[i]);
            code = path ? add_file(l, path) : no_memory(l);
        }
    return code;
}

/* ---- inheritance --------------------------------------------------------- */

/* Rows of a section as bytes with a name at the front: dims, params, rules, config rows all begin
 * with the name that a child's row replaces. */
struct rows { const void *items; size_t count, size; };

static const char *row_name(struct rows r, size_t i)
{
    const char *name;
    memcpy(&name, (const char *)r.items + i * r.size, sizeof name);
    return name;
}

static bool rows_have(struct rows r, const char *name)
{
    for (size_t i = 0; i < r.count; i++)
        if (!strcmp(row_name(r, i), name))
            return true;
    return false;
}

static void put_rows(char *out, size_t *count, struct rows from, size_t i)
{
    memcpy(out + *count * from.size, (const char *)from.items + i * from.size, from.size);
    ++*count;
}

/* Places the child's rows of one name where the parent has them, new ones at the end. */
static int merge_rows(struct sl_arena *arena, struct rows parent, struct rows child, struct rows *out)
{
    char *items = sl_arena_new(arena, parent.count + child.count, parent.size);
    size_t count = 0;
    if (!items)
        return SL_MEMORY;
    for (size_t i = 0; i < parent.count; i++) {
        const char *name = row_name(parent, i);
        const struct rows before = {parent.items, i, parent.size};
        if (!rows_have(child, name))
            put_rows(items, &count, parent, i);
        else if (!rows_have(before, name))
            for (size_t k = 0; k < child.count; k++)
                if (!strcmp(row_name(child, k), name))
                    put_rows(items, &count, child, k);
    }
    for (size_t k = 0; k < child.count; k++)
        if (!rows_have(parent, row_name(child, k)))
            put_rows(items, &count, child, k);
    *out = (struct rows){items, count, parent.size};
    return SL_OK;
}

/* Sections of which a child wants nothing from its parent ("replaces"). */
static bool is_replaced(const struct sl_family *f, const char *section)
{
    const struct sl_value *list = sl_value_get(f->json, "replaces");
    for (size_t i = 0; i < list_len(list); i++)
        if (sl_value_str(list->items[i]) && !strcmp(sl_value_str(list->items[i]), section))
            return true;
    return false;
}

static bool is_allowed(const struct sl_family *f, const char *flag, size_t len)
{
    const struct sl_value *list = sl_value_get(f->json, "allows");
    for (size_t i = 0; i < list_len(list); i++) {
        const char *allowed = sl_value_str(list->items[i]);
        if (strlen(allowed) == len && !memcmp(allowed, flag, len))
            return true;
    }
    return false;
}

/* The parent's condition without the flags that the child allows, and the child's own; "" for nothing. */
static const char *merge_needs(struct sl_arena *arena, const struct sl_family *parent, const struct sl_family *f)
{
    struct sl_buf text = {.failed = false};
    for (const char *p = parent->needs ? parent->needs : ""; *(p += strspn(p, " &")); p += strcspn(p, "&")) {
        const char *flag = p + strspn(p, "! ");
        if (!is_allowed(f, flag, strcspn(flag, " &")))
            sl_buf_printf(&text, "%s%s%.*s", text.len ? " & " : "", *p == '!' ? "!" : "", (int)strcspn(flag, " &"), flag);
    }
    if (f->needs)
        sl_buf_printf(&text, "%s%s", text.len ? " & " : "", f->needs);
    const char *kept = text.failed ? NULL : sl_arena_strn(arena, text.data ? text.data : "", text.len);
    sl_buf_free(&text);
    return kept;
}

#define MERGE(list, number, type, section) do {                                                     \
        struct rows merged = {NULL, 0, 0};                                                          \
        const size_t inherited = is_replaced(f, section) ? 0 : parent->number;                      \
        if (merge_rows(arena, (struct rows){parent->list, inherited, sizeof(type)},                 \
                       (struct rows){f->list, f->number, sizeof(type)}, &merged))                   \
            return SL_MEMORY;                                                                       \
        f->list = merged.items;                                                                     \
        f->number = merged.count;                                                                   \
    } while (0)

static int merge(struct sl_arena *arena, const struct sl_family *parent, struct sl_family *f)
{
    MERGE(dims, dim_count, struct sl_dim, "dims");
    MERGE(params, param_count, struct sl_param_rule, "params");
    for (int d = 0; d < SL_DIALECT_COUNT; d++)
        MERGE(rules[d], rule_count[d], struct sl_rule, dialect_sections[d]);
    MERGE(config, config_count, struct sl_config_rule, "config");
    if (!f->detect_count)
        f->detect = parent->detect, f->detect_count = parent->detect_count;
    if (!f->drop_count)
        f->drop = parent->drop, f->drop_count = parent->drop_count;
    f->implies = f->implies ? f->implies : parent->implies;
    f->mtp = f->mtp ? f->mtp : parent->mtp;
    f->single = f->single ? f->single : parent->single;
    f->needs = merge_needs(arena, parent, f);
    f->hf_architecture = f->hf_architecture ? f->hf_architecture : parent->hf_architecture;
    f->hf_model_type = f->hf_model_type ? f->hf_model_type : parent->hf_model_type;
    f->title = f->title ? f->title : f->name;
    f->source = f->source ? f->source : parent->source;
    return f->needs ? SL_OK : SL_MEMORY;
}

static struct draft *draft_find(const struct loader *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (!strcmp(l->drafts[i].f.name, name))
            return &l->drafts[i];
    return NULL;
}

/* Collects a family's line of parents, then merges from the oldest down. */
static int resolve(struct loader *l, struct draft *d)
{
    struct draft *line[MOST_PARENTS] = {NULL};
    size_t count = 0;
    l->file = d->file;
    for (struct draft *at = d; at && !at->merged; ) {
        if (count == MOST_PARENTS)
            return refuse(l, (struct place){.section = "inherits"}, "the parents go round in a circle, or are too many");
        line[count++] = at;
        const char *parent = at->f.inherits;
        at = parent ? draft_find(l, parent) : NULL;
        if (parent && !at)
            return refuse(l, (struct place){.section = "inherits"},
                          sl_arena_printf(l->arena, "there is no family \"%s\"", parent));
    }
    while (count--) {
        struct draft *at = line[count];
        const struct draft *parent = at->f.inherits ? draft_find(l, at->f.inherits) : NULL;
        static const struct sl_family none;
        if (merge(l->arena, parent ? &parent->f : &none, &at->f))
            return no_memory(l);
        at->merged = true;
    }
    return SL_OK;
}

/* ---- layers that predict further tokens -------------------------------------- */

static bool add_mtp_rule(struct sl_arena *arena, const struct sl_rule *rule, size_t prefix, const char *as, bool alias,
                         struct sl_rule *out)
{
    *out = *rule;
    out->name = sl_arena_printf(arena, "%s%s", as, rule->name + prefix);
    out->when = rule->when ? sl_arena_printf(arena, "%s & mtp", rule->when) : "mtp";
    out->stage = SL_STAGE_LAST;
    out->mtp = true;
    out->dist = alias ? NULL : rule->dist;     /* torch_dist has the first of the names */
    out->alias |= alias;
    return out->name && out->when;
}

/* The rows of "mtp", written out. */
static int expand_mtp(const struct loader *l, struct sl_family *f)
{
    const struct sl_value *as = sl_value_get(f->mtp, "as");
    const char *of = sl_value_str(sl_value_get(f->mtp, "of"));
    const size_t count = f->rule_count[SL_DIALECT_MEGATRON];
    size_t made = count;
    if (!f->mtp)
        return SL_OK;
    struct sl_rule *rules = SL_ARENA_NEW(l->arena, struct sl_rule, count * (1 + as->len));
    if (!rules)
        return no_memory(l);
    memcpy(rules, f->rules[SL_DIALECT_MEGATRON], count * sizeof *rules);
    for (size_t k = 0; k < as->len; k++)
        for (size_t i = 0; i < count; i++)
            if (sl_text_starts(rules[i].name, of)
                && !add_mtp_rule(l->arena, &rules[i], strlen(of), sl_value_str(as->items[k]), k > 0, &rules[made++]))
                return no_memory(l);
    f->rules[SL_DIALECT_MEGATRON] = rules;
    f->rule_count[SL_DIALECT_MEGATRON] = made;
    return SL_OK;
}

/* ---- validation of the merged whole -------------------------------------- */

struct names { const struct sl_family *f; int depth; };

/* Is it a dim, a setting, or one of the names that are always there? Values do not matter. */
static bool name_known(void *arg, const char *name, size_t len, int64_t *value)
{
    static const char *const always[] = {"vocab", "padded_vocab", "tp", "etp", "layer", "expert"};
    const struct sl_family *f = arg;
    char text[64];
    bool invert;
    *value = 1;
    if (len >= sizeof text)
        return false;
    memcpy(text, name, len);
    text[len] = '\0';
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        if (!strcmp(always[i], text))
            return true;
    for (size_t i = 0; i < f->dim_count; i++)
        if (!strcmp(f->dims[i].name, text))
            return true;
    return sl_setting_rule_find(text, &invert) != NULL;
}

static int check_expression(const struct loader *l, struct place at, const struct sl_family *f,
                            const char *text, size_t len)
{
    struct sl_error err;
    return sl_expression(text, len, name_known, (void *)(uintptr_t)f, NULL, &err)
         ? refuse(l, at, err.message) : SL_OK;
}

/* Every axis of a param is a dim. */
static int check_axes(const struct loader *l, const struct sl_family *f, size_t i)
{
    const struct place at = {"params", i, f->params[i].name};
    const char *p = f->params[i].axes;
    size_t count = 0;
    for (; *p; count++) {
        const size_t blanks = strspn(p, " "), len = strcspn(p + blanks, " ");
        p += blanks;
        if (!len)
            break;
        const int code = check_expression(l, at, f, p, len);
        if (code)
            return code;
        p += len;
    }
    return count ? SL_OK : refuse(l, at, "no axis is named");
}

/* Does name stand for one param: in full, or by an ending that only one has? */
static size_t params_named(const struct sl_family *f, const char *name, size_t len)
{
    size_t found = 0;
    for (size_t i = 0; i < f->param_count; i++) {
        const char *param = f->params[i].name;
        const size_t room = strlen(param);
        if (room == len && !memcmp(param, name, len))
            return 1;
        found += room > len && param[room - len - 1] == '.' && !memcmp(param + room - len, name, len);
    }
    return found;
}

/* The words of a map: names of params end in ":", all others are expressions. Its grammar is the
 * layout's business; that each name means something is checked here. */
static int check_map(const struct loader *l, struct place at, const struct sl_family *f, const char *map)
{
    for (const char *p = map; *p; ) {
        p += strspn(p, " ()[]|*");
        const size_t len = strcspn(p, " ()[]|:");
        if (!len)
            break;
        if (p[len] == ':') {
            const bool padding = len == 1 && *p == '-';
            const size_t found = padding ? 1 : params_named(f, p, len);
            if (found != 1)
                return refuse(l, at, sl_arena_printf(l->arena, found ? "\"%.*s\" may be several params"
                                                                     : "\"%.*s\" is no param", (int)len, p));
        } else if (p[len] != '(' && !(len == 2 && !memcmp(p, "as", 2))) {
            const int code = check_expression(l, at, f, p, len);
            if (code)
                return code;
        }
        p += len + (p[len] == ':');
    }
    return SL_OK;
}

static int check_rules(const struct loader *l, const struct sl_family *f)
{
    for (int d = 0; d < SL_DIALECT_COUNT; d++)
        for (size_t i = 0; i < f->rule_count[d]; i++) {
            const struct place at = {dialect_sections[d], i, f->rules[d][i].name};
            const int code = check_map(l, at, f, f->rules[d][i].map);
            if (code)
                return code;
        }
    return SL_OK;
}

static int check_config(const struct loader *l, const struct sl_family *f)
{
    bool invert;
    for (size_t i = 0; i < f->config_count; i++) {
        const struct place at = {"config", i, f->config[i].hf};
        const char *key = f->config[i].megatron;
        if (key && !sl_setting_rule_find(key, &invert))
            return refuse(l, at, sl_arena_printf(l->arena, "no setting is called \"%s\"", key));
        const char *expression = f->config[i].expression;
        const int code = expression ? check_expression(l, at, f, expression, strlen(expression)) : SL_OK;
        if (code)
            return code;
    }
    return SL_OK;
}

static int check_family(struct loader *l, const struct draft *d)
{
    int code = SL_OK;
    l->file = d->file;
    for (size_t i = 0; i < d->f.dim_count && !code; i++)
        code = check_expression(l, (struct place){"dims", i, d->f.dims[i].name}, &d->f,
                                d->f.dims[i].expression, strlen(d->f.dims[i].expression));
    for (size_t i = 0; i < d->f.param_count && !code; i++)
        code = check_axes(l, &d->f, i);
    code = code ? code : check_rules(l, &d->f);
    code = code ? code : check_config(l, &d->f);
    if (!code && !d->f.abstract && !d->f.hf_architecture)
        code = refuse(l, (struct place){.section = "hf"}, "\"architecture\" is missing");
    return code;
}

/* ---- the whole ----------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const struct sl_family *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int finish(struct loader *l, struct sl_families *out)
{
    struct sl_family *items = SL_ARENA_NEW(l->arena, struct sl_family, l->count);
    if (!items)
        return no_memory(l);
    int code = SL_OK;
    for (size_t i = 0; i < l->count && !code; i++)
        code = resolve(l, &l->drafts[i]);
    for (size_t i = 0; i < l->count && !code; i++)
        code = expand_mtp(l, &l->drafts[i].f);
    /* those that are built in, by themselves, are checked by the tests; a third of a short command's time otherwise */
    for (size_t i = 0; l->outside && i < l->count && !code; i++)
        code = check_family(l, &l->drafts[i]);
    for (size_t i = 0; i < l->count && !code; i++)
        if (!l->drafts[i].f.abstract)
            items[out->count++] = l->drafts[i].f;
    if (out->count)
        qsort(items, out->count, sizeof *items, by_name);
    out->items = items;
    return code;
}

int sl_families_load(const char *extra, struct sl_families *out, struct sl_error *err)
{
    *out = (struct sl_families){.count = 0};
    struct loader l = {.arena = &out->arena, .err = err};
    l.drafts = SL_ARENA_NEW(&out->arena, struct draft, MOST_FAMILIES);
    int code = l.drafts ? SL_OK : no_memory(&l);
    code = code ? code : add_embedded(&l);
    code = code ? code : add_user_files(&l);
    code = code || !extra ? code : add_file(&l, extra);
    code = code ? code : finish(&l, out);
    if (code)
        sl_families_free(out);
    return code;
}

void sl_families_free(struct sl_families *f)
{
    sl_arena_free(&f->arena);
    *f = (struct sl_families){.count = 0};
}

const struct sl_family *sl_family_find(const struct sl_families *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++)
        if (!strcmp(f->items[i].name, name))
            return &f->items[i];
    return NULL;
}
