/* config.c: config.json and generation_config.json of a Hugging Face target, by
 * the config rows of the family. What the checkpoint tells comes first; a key
 * it does not tell is taken from the reference config, else from the row's
 * fallback, and that is said. Keys are sorted, as transformers writes them.
 */
#include "model/internal.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/io.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_KEYS 512                    /* of one config.json */
#define TEMPLATE_DEPTH 4

struct entry { const char *key; const struct sl_value *value; };

struct writer {
    const struct sl_model *m;
    struct sl_arena arena;               /* of values made here */
    struct sl_problems *notes;
    struct sl_error *err;
    enum sl_dtype dtype;
    int64_t vocab;
    const struct sl_value *reference;    /* NULL */
    bool same_family;                    /* the reference is of this family */
    struct entry entries[MOST_KEYS];
    size_t count;
};

static bool is_null(const struct sl_value *v)
{
    return !v || v->kind == SL_VALUE_NULL;
}

static bool has_entry(const struct writer *w, const char *key)
{
    for (size_t i = 0; i < w->count; i++)
        if (!strcmp(w->entries[i].key, key))
            return true;
    return false;
}

static int put(struct writer *w, const char *key, const struct sl_value *value)
{
    if (!value || !key)
        return sl_fail_memory(w->err, 0);
    if (w->count == MOST_KEYS)
        return sl_fail(w->err, SL_USAGE, "config.json", "more than %d keys", MOST_KEYS);
    w->entries[w->count++] = (struct entry){key, value};
    return SL_OK;
}

/* ---- values of rows ------------------------------------------------------ */

/* A value in the kind the row asks for; NULL when it can't be. */
static const struct sl_value *as_kind(struct writer *w, const struct sl_value *v, enum sl_value_kind kind, bool invert)
{
    double f;
    int64_t i;
    bool b;
    if (is_null(v))
        return NULL;
    switch (kind) {
    case SL_VALUE_FLOAT:
        return sl_value_double(v, &f) ? sl_value_new_double(&w->arena, f) : NULL;
    case SL_VALUE_INT:
        return sl_value_int(v, &i) ? sl_value_new_int(&w->arena, i) : NULL;
    case SL_VALUE_BOOL:
        return sl_value_bool(v, &b) ? sl_value_new_bool(&w->arena, b != invert) : NULL;
    case SL_VALUE_STR:
        return sl_value_str(v) ? v : NULL;
    default:
        return v;
    }
}

/* "$rope_scaling_factor" */
static const struct sl_value *dollar(struct writer *w, const char *name)
{
    if (!strcmp(name, "vocab_rows"))
        return sl_value_new_int(&w->arena, w->vocab);
    if (!strcmp(name, "torch_dtype"))
        return sl_value_new_str(&w->arena, sl_dtype_row(w->dtype)->torch);
    const struct sl_setting *s = sl_model_get(w->m, name);
    return s ? s->value : NULL;
}

/* A template with its "$" words filled in; NULL when one of them is not known. Nesting is
 * bounded by TEMPLATE_DEPTH; deeper values stand as they are. */
static const struct sl_value *fill(struct writer *w, const struct sl_value *v, int depth)
{
    const char *text = sl_value_str(v);
    if (text && *text == '$')
        return dollar(w, text + 1);
    if (v->kind != SL_VALUE_DICT || depth == TEMPLATE_DEPTH)
        return v;
    struct sl_value *copy = sl_arena_copy(&w->arena, v, sizeof *v);
    const struct sl_value **items = SL_ARENA_NEW(&w->arena, const struct sl_value *, v->len);
    if (!copy || !items)
        return NULL;
    for (size_t i = 0; i < v->len; i++)
        if (!(items[i] = fill(w, v->items[i], depth + 1)))
            return NULL;
    copy->items = items;
    return copy;
}

static const struct sl_value *row_value(struct writer *w, const struct sl_config_rule *r)
{
    const struct sl_setting *s = r->megatron ? sl_model_get(w->m, r->megatron) : NULL;
    int64_t number;
    if (r->flag)
        return sl_value_new_bool(&w->arena, sl_model_flag(w->m, r->flag) != r->invert);
    if (r->write)
        return fill(w, r->write, 0);
    if (r->expression)
        return sl_model_dim(w->m, r->expression, strlen(r->expression), 1, 1, -1, &number, NULL)
             ? NULL : as_kind(w, sl_value_new_int(&w->arena, number), r->kind, r->invert);
    return s ? as_kind(w, s->value, r->kind, r->invert) : NULL;
}

/* ---- the reference ------------------------------------------------------- */

static const struct sl_value *rope_of(const struct sl_value *config)
{
    return sl_value_get(config, "rope_parameters");
}

/* A key of the reference; transformers 5 keeps the rope keys in "rope_parameters". */
static const struct sl_value *reference_value(const struct writer *w, const char *key)
{
    const struct sl_value *v = sl_value_get(w->reference, key), *rope = rope_of(w->reference);
    if (!is_null(v))
        return v;
    if (!strcmp(key, "rope_scaling")) {
        const char *type = sl_value_str(sl_value_get(rope, "rope_type"));
        return type && strcmp(type, "default") ? rope : NULL;
    }
    v = sl_value_get(rope, key);
    return is_null(v) ? NULL : v;
}

static bool names_family(const struct sl_value *config, const struct sl_family *f)
{
    const char *type = sl_value_str(sl_value_get(config, "model_type"));
    const struct sl_value *list = sl_value_get(config, "architectures");
    const char *first = list && list->kind == SL_VALUE_LIST && list->len ? sl_value_str(list->items[0]) : NULL;
    if (type)
        return f->hf_model_type && !strcmp(type, f->hf_model_type);
    return first && f->hf_architecture && !strcmp(first, f->hf_architecture);
}

static void note_difference(struct writer *w, const char *key, const struct sl_value *reference,
                            const struct sl_value *written)
{
    struct sl_buf a = {.failed = false}, b = {.failed = false};
    sl_value_print(reference, 80, &a);
    sl_value_print(written, 80, &b);
    sl_problem_add(w->notes, "config-differs", key, NULL, "the reference config says %s=%s, the checkpoint %s; %s is written",
                   key, a.data ? a.data : "?", b.data ? b.data : "?", b.data ? b.data : "?");
    sl_buf_free(&a);
    sl_buf_free(&b);
}

/* ---- rows ---------------------------------------------------------------- */

static int put_unknown(struct writer *w, const struct sl_config_rule *r)
{
    const char *set = r->megatron ? r->megatron : r->hf;
    if (!r->fallback) {
        if (r->required)
            sl_problem_add(w->notes, "config-missing", r->hf, NULL,
                           "%s is not known and left out: give --hf-config, or state --set %s=VALUE", r->hf, set);
        return SL_OK;
    }
    if (is_null(r->fallback))                   /* written as null: the class default is another */
        return put(w, r->hf, r->fallback);
    if (r->required) {
        struct sl_buf text = {.failed = false};
        sl_value_print(r->fallback, 80, &text);
        sl_problem_add(w->notes, "config-missing", r->hf, NULL,
                       "%s is not known; the usual %s is written: give --hf-config, or state --set %s=VALUE", r->hf,
                       text.data ? text.data : "value", set);
        sl_buf_free(&text);
    }
    return put(w, r->hf, as_kind(w, r->fallback, r->kind, false));
}

static int put_row(struct writer *w, const struct sl_config_rule *r)
{
    const struct sl_value *value = row_value(w, r), *reference = reference_value(w, r->hf);
    if (!value && reference && w->same_family)
        return put(w, r->hf, reference);
    const struct sl_value *null = value || !w->same_family || !r->fallback ? NULL : sl_value_get(w->reference, r->hf);
    if (null)                                   /* said to be none, which is not the usual (a Gemma 2 without caps) */
        return put(w, r->hf, null);
    if (!value)
        return put_unknown(w, r);
    if (reference && strcmp(r->hf, "torch_dtype") && !sl_value_equal(reference, value)
        && !(value->kind == SL_VALUE_DICT && reference == rope_of(w->reference)))
        note_difference(w, r->hf, reference, value);
    if (r->note)
        sl_problem_add(w->notes, "config-differs", r->hf, NULL, "%s", r->note);
    return put(w, r->hf, value);
}

static int put_rows(struct writer *w)
{
    const struct sl_family *f = w->m->family;
    int code = SL_OK;
    for (size_t i = 0; i < f->config_count && !code; i++) {
        const struct sl_config_rule *r = &f->config[i];
        if (strcmp(r->hf, "auto_map") && sl_model_when(w->m, r->when) && !has_entry(w, r->hf))
            code = put_row(w, r);
    }
    return code;
}

/* ---- auto_map: only with the code it points to ---------------------------- */

/* "modeling_minicpm.MiniCPMModel" needs modeling_minicpm.py; "owner/repo--module.Class" is elsewhere. */
static bool code_is_there(const struct writer *w, const char *target)
{
    char path[4096];
    const char *dot = target ? strchr(target, '.') : NULL;
    const char *folder = w->m->hf_reference_folder;
    if (!dot || !folder)
        return false;
    if (strstr(target, "--"))
        return true;
    if (!sl_path_is_inside(target, (size_t)(dot - target)) || memchr(target, '/', (size_t)(dot - target)))
        return false;
    const int len = snprintf(path, sizeof path, "%s/%.*s.py", folder, (int)(dot - target), target);
    return len > 0 && (size_t)len < sizeof path && sl_path_exists(path);
}

/* The targets of an entry: a text, or a list of texts and nulls (tokenizers: slow, fast). */
static bool entry_is_there(const struct writer *w, const struct sl_value *v)
{
    bool any = false;
    if (v->kind != SL_VALUE_LIST)
        return code_is_there(w, sl_value_str(v));
    for (size_t i = 0; i < v->len; i++) {
        if (!is_null(v->items[i]) && !code_is_there(w, sl_value_str(v->items[i])))
            return false;
        any |= !is_null(v->items[i]);
    }
    return any;
}

static const struct sl_value *kept_map(struct writer *w, const struct sl_value *map)
{
    struct sl_value *copy = sl_arena_copy(&w->arena, map, sizeof *map);
    const struct sl_value **keys = SL_ARENA_NEW(&w->arena, const struct sl_value *, map->len);
    const struct sl_value **items = SL_ARENA_NEW(&w->arena, const struct sl_value *, map->len);
    if (!copy || !keys || !items)
        return NULL;
    copy->len = 0;
    copy->keys = keys;
    copy->items = items;
    for (size_t i = 0; i < map->len; i++)
        if (entry_is_there(w, map->items[i])) {
            keys[copy->len] = map->keys[i];
            items[copy->len++] = map->items[i];
        }
    return copy;
}

/* The family's own auto_map: it has no class in transformers. NULL for others. */
static const struct sl_value *family_map(const struct writer *w)
{
    for (size_t i = 0; i < w->m->family->config_count; i++)
        if (!strcmp(w->m->family->config[i].hf, "auto_map"))
            return w->m->family->config[i].write;
    return NULL;
}

static int put_auto_map(struct writer *w)
{
    const struct sl_value *own = family_map(w), *map = sl_value_get(w->reference, "auto_map");
    map = w->same_family && map && map->kind == SL_VALUE_DICT ? map : own;
    if (!map || map->kind != SL_VALUE_DICT)
        return SL_OK;
    const struct sl_value *kept = kept_map(w, map);
    if (!kept)
        return sl_fail_memory(w->err, 0);
    if (kept->len)
        return put(w, "auto_map", kept);
    sl_problem_add(w->notes, "config-missing", "auto_map", NULL,
                   "auto_map is left out: the code it points to (%s) is in no --hf-config folder%s",
                   map->len && sl_value_str(map->items[0]) ? sl_value_str(map->items[0]) : "modeling files",
                   own ? "; transformers needs that code beside the weights" : "");
    return SL_OK;
}

/* ---- what is carried over ------------------------------------------------ */

static bool is_replaced(const char *key)
{
    static const char *const keys[] = {"architectures", "model_type", "auto_map", "torch_dtype", "dtype", "rope_parameters",
                                       "quantization_config"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(keys[i], key))
            return true;
    return false;
}

/* Does the checkpoint say that the reference's rope_scaling is not so? */
static bool rope_contradicted(const struct writer *w, const struct sl_value *rope)
{
    const struct sl_setting *s = sl_model_get(w->m, "use_rope_scaling");
    const char *type = sl_value_str(sl_value_get(rope, "rope_type"));
    bool uses = true;
    type = type ? type : sl_value_str(sl_value_get(rope, "type"));
    return type && !strcmp(type, "llama3") && s && strcmp(s->from, "--hf-config")
        && sl_value_bool(s->value, &uses) && !uses;
}

static int carry_rope(struct writer *w)
{
    const struct sl_value *rope = reference_value(w, "rope_scaling");
    if (!rope || has_entry(w, "rope_scaling"))
        return SL_OK;
    if (rope_contradicted(w, rope)) {
        sl_problem_add(w->notes, "config-differs", "rope_scaling", NULL,
                       "the reference config has a rope_scaling of type llama3, the checkpoint says use_rope_scaling=false;"
                       " it is left out");
        return SL_OK;
    }
    return put(w, "rope_scaling", rope);
}

/* Lists with one entry a layer are only right for as many layers. */
static bool fits_layers(const struct writer *w, const char *key, const struct sl_value *v)
{
    int64_t layers = 0;
    if (strcmp(key, "layer_types") || v->kind != SL_VALUE_LIST || !sl_model_int(w->m, "num_layers", &layers)
        || (uint64_t)layers == v->len)
        return true;
    sl_problem_add(w->notes, "config-differs", key, NULL, "the reference config lists %zu layers in %s, the checkpoint has"
                   " %lld; it is left out", v->len, key, (long long)layers);
    return false;
}

static int carry_over(struct writer *w)
{
    if (!w->reference)
        return SL_OK;
    if (!w->same_family) {
        const char *type = sl_value_str(sl_value_get(w->reference, "model_type"));
        sl_problem_add(w->notes, "config-differs", "model_type", NULL,
                       "the reference config is of model_type %s, the checkpoint is %s; its other keys are not carried over",
                       type ? type : "unknown", w->m->family->title);
        return SL_OK;
    }
    int code = carry_rope(w);
    for (size_t i = 0; i < w->reference->len && !code; i++) {
        const char *key = sl_value_str(w->reference->keys[i]);
        const struct sl_value *v = w->reference->items[i];
        if (key && !strcmp(key, "quantization_config"))
            sl_problem_add(w->notes, "config-differs", key, NULL,
                           "the reference config describes quantised weights; what is written is not, so %s is left out", key);
        if (key && strcmp(key, "rope_scaling") && !is_replaced(key) && !has_entry(w, key) && fits_layers(w, key, v))
            code = put(w, key, v);
    }
    return code;
}

/* ---- output -------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static int print_entries(struct writer *w, struct sl_buf *out)
{
    struct sl_json j;
    if (w->count)
        qsort(w->entries, w->count, sizeof *w->entries, by_key);
    sl_json_begin(&j, out, 2);
    sl_json_object(&j);
    for (size_t i = 0; i < w->count; i++) {
        sl_json_key(&j, w->entries[i].key);
        sl_json_value(&j, w->entries[i].value);
    }
    sl_json_object_end(&j);
    sl_buf_char(out, '\n');
    return out->failed ? sl_fail_memory(w->err, 0) : SL_OK;
}

static int write_config(struct writer *w, struct sl_buf *out)
{
    const struct sl_family *f = w->m->family;
    struct sl_value *list = sl_value_new_null(&w->arena);
    const struct sl_value **items = SL_ARENA_NEW(&w->arena, const struct sl_value *, 1);
    if (!list || !items || !(items[0] = sl_value_new_str(&w->arena, f->hf_architecture)))
        return sl_fail_memory(w->err, 0);
    list->kind = SL_VALUE_LIST;
    list->items = items;
    list->len = 1;
    int code = put(w, "architectures", list);
    if (!code && f->hf_model_type)
        code = put(w, "model_type", sl_value_new_str(&w->arena, f->hf_model_type));
    code = code ? code : put_rows(w);
    code = code ? code : put_auto_map(w);
    code = code ? code : carry_over(w);
    return code ? code : print_entries(w, out);
}

/* The reference's generation_config.json, else the token ids that are known, else nothing. */
static int write_generation(struct writer *w, struct sl_buf *out)
{
    static const char *const ids[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    const char *folder = w->m->hf_reference_folder;
    const char *path = folder ? sl_arena_printf(&w->arena, "%s/generation_config.json", folder) : NULL;
    const struct sl_value *reference;
    int code = SL_OK;
    w->count = 0;
    if (path && sl_path_exists(path)) {
        code = sl_json_load(path, SL_LIMIT_JSON_BYTES, &w->arena, &reference, w->err);
        for (size_t i = 0; !code && reference->kind == SL_VALUE_DICT && i < reference->len; i++)
            code = put(w, sl_value_str(reference->keys[i]), reference->items[i]);
        return code ? code : print_entries(w, out);
    }
    for (size_t i = 0; i < sizeof ids / sizeof *ids && !code; i++) {
        const struct sl_setting *s = sl_model_get(w->m, ids[i]);
        if (s)
            code = put(w, ids[i], s->value);
    }
    if (code || !w->count)
        return code;
    code = put(w, "_from_model_config", sl_value_new_bool(&w->arena, true));
    return code ? code : print_entries(w, out);
}

int sl_model_hf_config(const struct sl_model *m, enum sl_dtype dtype, int64_t vocab,
                       struct sl_buf *config, struct sl_buf *generation,
                       struct sl_problems *notes, struct sl_error *err)
{
    if (!m->family)
        return sl_fail(err, SL_UNSUPPORTED, "config.json", "%s", m->unsupported ? m->unsupported : "the family is not known");
    if (m->missing)
        return sl_fail(err, SL_USAGE, "", "%s", m->missing);
    struct writer *w = calloc(1, sizeof *w);
    if (!w)
        return sl_fail_memory(err, sizeof *w);
    w->m = m;
    w->notes = notes;
    w->err = err;
    w->dtype = dtype;
    w->vocab = vocab;
    w->reference = m->hf_reference;
    w->same_family = m->hf_reference && names_family(m->hf_reference, m->family);
    int code = write_config(w, config);
    code = code ? code : write_generation(w, generation);
    sl_arena_free(&w->arena);
    free(w);
    return code;
}
