/* diststate.c: what a distributed checkpoint says of itself beside its tensors: Megatron's
 * common state, objects of plain DCP, or the settings of Megatron-Bridge and NeMo, which
 * keep no args but the fields of their model's configuration class.
 *
 * Source: megatron/core/dist_checkpointing/serialization.py, strategies/common.py;
 *         Megatron-Bridge training/checkpointing.py (run_config.yaml);
 *         names of fields: megatron/core/transformer/transformer_config.py */
#include "checkpoint/ckptread.h"

#include "base/error.h"
#include "base/value.h"
#include "base/yaml.h"

#include <string.h>

static void tell_pickle(struct dist *d, const char *where, const struct sl_torch_file *f)
{
    struct sl_buf harmful = { 0 };
    for (uint32_t i = 0; i < f->global_count; i++)
        if (f->globals[i].risk == 2)
            sl_buf_printf(&harmful, "%s%s", harmful.len ? ", " : "", f->globals[i].name);
    if (harmful.len)
        sl_problem_add(&d->c->problems, "pickle-call", where, NULL, "its pickle asks for %s; nothing was run", harmful.data);
    sl_buf_free(&harmful);
}

/* ---- Megatron's common state -------------------------------------------------------------- */

static int open_common(struct dist *d, const char *path, const struct sl_value **object, struct sl_error *err)
{
    struct sl_file file;
    struct sl_torch_file torch;
    int code = ckpt_note(d->c, path, err);
    if (!code)
        code = sl_file_open(path, &file, err);
    if (code)
        return code;
    code = sl_torch_open(&file, 0, file.size, &d->c->arena, &torch, err);
    sl_file_close(&file);
    tell_pickle(d, "common.pt", &torch);
    *object = code ? NULL : torch.object;
    d->c->starved = d->c->starved || code == SL_MEMORY;
    return code;
}

/* The object of a byte item; NULL when it can't be read. */
static const struct sl_value *open_object(struct dist *d, const struct sl_dcp_object *o, struct sl_error *err)
{
    struct sl_torch_file torch;
    struct sl_file file;
    const struct sl_dcp_place *p = &o->place;
    if (p->file < 0 || ckpt_hold(d->c, p->file, &file, err))
        return NULL;
    const int code = sl_torch_open(&file, p->at, p->length, &d->c->arena, &torch, err);
    ckpt_let_go(d->c, p->file);
    tell_pickle(d, o->key, &torch);
    d->c->starved = d->c->starved || code == SL_MEMORY;
    return code ? NULL : torch.object;
}

/* Megatron stores a list of the one object. */
static const struct sl_value *inside(const struct sl_value *v)
{
    return v && v->kind == SL_VALUE_LIST && v->len == 1 ? v->items[0] : v;
}

static const struct sl_value *dict_or_null(const struct sl_value *v)
{
    return v && v->kind == SL_VALUE_DICT ? v : NULL;
}

static int read_common(struct dist *d, struct sl_error *err)
{
    struct sl_error why = { 0 };
    const char *path = ckpt_join(&d->c->arena, d->c->folder, "common.pt");
    if (!path)
        return sl_fail_memory(err, 1);
    if (sl_path_exists(path)) {
        const struct sl_value *object = NULL;
        if (open_common(d, path, &object, &why))
            sl_problem_add(&d->c->problems, "damaged-shard", "common.pt", NULL, "%s", why.message);
        d->common = dict_or_null(object);
        return SL_OK;
    }
    for (uint32_t i = 0; i < d->dcp.object_count && !d->common; i++) {
        const struct sl_dcp_object *o = &d->dcp.objects[i];
        if (!sl_text_starts(o->key, "common_state/shard_"))
            continue;
        d->common = dict_or_null(inside(open_object(d, o, &why)));
        if (!d->common)
            sl_problem_add(&d->c->problems, "damaged-shard", o->place.file >= 0 ? d->c->files[o->place.file].name : ".metadata", NULL,
                           "%s: %s", o->key, *why.message ? why.message : "it holds no dict");
    }
    return SL_OK;
}

static void take_common(struct dist *d)
{
    struct sl_ckpt *c = d->c;
    int64_t iteration;
    c->args = dict_or_null(sl_value_get(d->common, "args"));
    if (!sl_value_double(sl_value_get(d->common, "checkpoint_version"), &c->checkpoint_version))
        c->checkpoint_version = -1;
    if (!sl_value_int(sl_value_get(d->common, "iteration"), &iteration) || iteration < 0)
        return;
    if (c->iteration >= 0 && c->iteration != iteration && !c->release)
        sl_problem_add(&c->problems, "mixed-iteration", "common.pt", NULL, "it is of iteration %lld, the folder is named for %lld",
                       (long long)iteration, (long long)c->iteration);
    if (c->iteration < 0)
        c->iteration = iteration;
}

/* ---- plain DCP: an object a key -------------------------------------------------------------- */

static void take_objects(struct dist *d)
{
    struct sl_ckpt *c = d->c;
    for (uint32_t i = 0; i < d->dcp.object_count; i++) {
        const struct sl_dcp_object *o = &d->dcp.objects[i];
        const bool args = !strcmp(o->key, "args"), iteration = !strcmp(o->key, "iteration");
        if (!args && !iteration && strcmp(o->key, "checkpoint_version"))
            continue;
        const struct sl_value *v = inside(open_object(d, o, NULL));
        int64_t n;
        if (args)
            c->args = dict_or_null(v);
        else if (!iteration)
            c->checkpoint_version = sl_value_double(v, &c->checkpoint_version) ? c->checkpoint_version : -1;
        else if (c->iteration < 0 && sl_value_int(v, &n) && n >= 0)
            c->iteration = n;
    }
}

/* ---- settings of other trainers ---------------------------------------------------------------- */

/* Where they lie, from the folder of the weights, and which part holds the model. */
static const struct { const char *path, *section; } settings_files[] = {
    { "run_config.yaml", "model" },              /* Megatron-Bridge */
    { "../context/model.yaml", "config" },       /* NeMo 2 */
    { "../model_config.yaml", NULL },            /* NeMo 1 */
};

/* Fields of the configuration classes that args have under another name. */
enum change { SAME, OPPOSITE, IS_SET, IS_SWIGLU };
static const struct { const char *field, *arg; enum change change; } renamed[] = {
    { "num_moe_experts", "num_experts", SAME },
    { "share_embeddings_and_output_weights", "untie_embeddings_and_output_weights", OPPOSITE },
    { "num_query_groups", "group_query_attention", IS_SET },
    { "gated_linear_unit", "swiglu", IS_SWIGLU },
    { "num_layers_in_first_pipeline_stage", "decoder_first_pipeline_num_layers", SAME },
    { "num_layers_in_last_pipeline_stage", "decoder_last_pipeline_num_layers", SAME },
    { "rotary_percentage", "rotary_percent", SAME },
    { "encoder_seq_length", "seq_length", SAME },
    { "bias", "add_bias_linear", SAME },
};

/* silu, also as {_target_: torch.nn.functional.silu, ..}; absent: taken for granted. */
static bool is_silu(const struct sl_value *v)
{
    const char *name = sl_value_str(v);
    name = name ? name : sl_value_str(sl_value_get(v, "_target_"));
    return !name || sl_text_ends(name, "silu") || sl_text_ends(name, "swish");
}

static const struct sl_value *changed(struct sl_arena *arena, const struct sl_value *config, const struct sl_value *v, enum change change)
{
    bool b = false;
    switch (change) {
    case SAME:
        return v;
    case OPPOSITE:
        return sl_value_bool(v, &b) ? sl_value_new_bool(arena, !b) : NULL;
    case IS_SET:
        return sl_value_new_bool(arena, v->kind == SL_VALUE_INT);
    case IS_SWIGLU:
        return sl_value_bool(v, &b) ? sl_value_new_bool(arena, b && is_silu(sl_value_get(config, "activation_func"))) : NULL;
    }
    return NULL;
}

/* The fields as they are, and those that args call otherwise besides. */
static const struct sl_value *args_of(struct sl_arena *arena, const struct sl_value *config)
{
    const size_t more = sizeof renamed / sizeof *renamed;
    const struct sl_value **items = SL_ARENA_NEW(arena, const struct sl_value *, config->len + more);
    const struct sl_value **keys = SL_ARENA_NEW(arena, const struct sl_value *, config->len + more);
    struct sl_value *args = SL_ARENA_NEW(arena, struct sl_value, 1);
    if (!items || !keys || !args)
        return NULL;
    size_t count = config->len;
    if (count) {
        memcpy(items, config->items, count * sizeof *items);
        memcpy(keys, config->keys, count * sizeof *keys);
    }
    for (size_t i = 0; i < more; i++) {
        const struct sl_value *v = sl_value_get(config, renamed[i].field);
        if (!v || v->kind == SL_VALUE_NULL || sl_value_get(config, renamed[i].arg))
            continue;
        items[count] = changed(arena, config, v, renamed[i].change);
        keys[count] = sl_value_new_str(arena, renamed[i].arg);
        count += items[count] && keys[count];
    }
    *args = (struct sl_value){ .kind = SL_VALUE_DICT, .len = count, .items = items, .keys = keys };
    return args;
}

static void take_settings(struct dist *d)
{
    struct sl_ckpt *c = d->c;
    for (size_t i = 0; i < sizeof settings_files / sizeof *settings_files && !c->args; i++) {
        const char *path = ckpt_join(&c->arena, c->folder, settings_files[i].path);
        const struct sl_value *yaml = NULL;
        struct sl_error why = { 0 };
        if (!path || !sl_path_exists(path))
            continue;
        const int code = sl_yaml_load(path, SL_LIMIT_JSON_BYTES, &c->arena, &yaml, &why);
        c->starved = c->starved || code == SL_MEMORY;
        if (code) {
            sl_problem_add(&c->problems, "config-damaged", settings_files[i].path, NULL, "%s", why.message);
            continue;
        }
        const struct sl_value *section = settings_files[i].section ? sl_value_get(yaml, settings_files[i].section) : yaml;
        section = dict_or_null(section ? section : yaml);
        c->args = section ? args_of(&c->arena, section) : NULL;
    }
}

int dist_state(struct dist *d, struct sl_error *err)
{
    d->c->checkpoint_version = -1;
    const int code = read_common(d, err);
    if (code)
        return code;
    if (d->common)
        take_common(d);
    else
        take_objects(d);
    if (!d->c->args)
        take_settings(d);
    return SL_OK;
}
