/* args.c: builds the args Namespace row by row from megatron_args.json. */
#include "model/args.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/json.h"
#include "base/value.h"
#include "model/embedded.h"

#include <pthread.h>
#include <string.h>

#define NAMESPACE "argparse.Namespace"

/* ---- the table ---------------------------------------------------------------- */

static struct sl_arena table_arena;
static const struct sl_value *table;

static void table_load(void)
{
    (void)sl_embedded_json(sl_embedded_find("megatron_args.json"), &table_arena, &table, NULL);
}

static const struct sl_value *table_get(const char *key)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, table_load);
    return sl_value_get(table, key);
}

const struct sl_value *sl_model_extra_state(const char *spec)
{
    return sl_value_get(table_get("extra_state"), spec);
}

const struct sl_value *sl_model_dist_objects(const char *spec)
{
    return sl_value_get(table_get("dist_objects"), spec);
}

const struct sl_value *sl_model_content_metadata(void)
{
    return table_get("content_metadata");
}

/* ---- one value ----------------------------------------------------------------- */

struct building {
    const struct sl_model *m;
    const struct sl_megatron_run *run;
    struct sl_arena *arena;
    const struct sl_value **keys, **items;
    size_t count;
};

static const struct sl_value *dtype_value(struct sl_arena *arena, enum sl_dtype dtype)
{
    struct sl_value *v = sl_value_new_str(arena, sl_dtype_row(dtype)->torch);
    if (v)
        v->type = "torch.dtype";
    return v;
}

/* The fewest data parallel ranks that let all expert ranks exist: they are made of the same processes.
 * Source: Megatron-LM megatron/core/parallel_state.py (initialize_model_parallel) */
static int64_t data_parallel(const struct building *b)
{
    const struct sl_parallel *p = &b->run->parallel;
    const int64_t experts = b->m->moe ? (int64_t)p->etp * p->ep : 1;
    int64_t dp = 1;
    while (dp < experts && dp * p->tp % experts)
        dp++;
    return dp;
}

/* Tensor parallel ranks count fastest, then data parallel ones, pipeline stages slowest; expert ranks are made of the
 * processes of a stage. Of the processes that hold the same the first one writes.
 * Source: Megatron-LM megatron/core/parallel_state.py (RankGenerator, initialize_model_parallel) */
int64_t sl_model_megatron_writer(const struct sl_value *args, const struct sl_parallel *p, const struct sl_rank *r)
{
    int64_t world = 0;
    (void)sl_value_int(sl_value_get(args, "world_size"), &world);
    const int64_t stage = world / p->pp, etp = p->etp > 0 ? p->etp : 1;
    for (int64_t g = r->tp; g < stage; g += p->tp)
        if (p->ep <= 1 || g / etp % p->ep == r->ep)
            return r->pp * stage + g;
    return 0;
}

/* Numbers of the run by the name the table gives them. */
static const struct sl_value *run_value(const struct building *b, const char *name)
{
    const struct sl_megatron_run *r = b->run;
    const struct sl_parallel *p = &r->parallel;
    const struct { const char *name; bool known; int64_t value; } numbers[] = {
        { "vocab", r->vocab >= 0, r->vocab },
        { "padded_vocab", true, r->padded_vocab },
        { "vocab_divisor", true, r->vocab_divisor },
        { "tp", true, p->tp }, { "pp", true, p->pp }, { "vpp", p->vpp > 1, p->vpp },
        { "ep", true, p->ep }, { "etp", true, p->etp },
        { "world", true, (int64_t)p->tp * p->pp * data_parallel(b) }, { "dp", true, data_parallel(b) },
        { "iteration", true, r->iteration },
        { "zero", true, 0 }, { "one", true, 1 }, { "none", false, 0 },
    };
    const struct { const char *name; bool value; } truths[] = {
        { "yes", true }, { "no", false }, { "dist", r->dist }, { "bf16", r->dtype == SL_BF16 }, { "fp16", r->dtype == SL_F16 },
        { "grouped_gemm", b->m->moe && r->experts && strstr(r->experts, "grouped") },
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(numbers[i].name, name))
            return numbers[i].known ? sl_value_new_int(b->arena, numbers[i].value) : sl_value_new_null(b->arena);
    for (size_t i = 0; i < sizeof truths / sizeof *truths; i++)
        if (!strcmp(truths[i].name, name))
            return sl_value_new_bool(b->arena, truths[i].value);
    if (!strcmp(name, "dtype"))
        return dtype_value(b->arena, r->dtype);
    if (!strcmp(name, "ckpt_format"))
        return sl_value_new_str(b->arena, r->dist ? "torch_dist" : "torch");
    if (!strcmp(name, "transformer_impl"))
        return sl_value_new_str(b->arena, !strcmp(r->spec, "te") ? "transformer_engine" : "local");
    if (!strcmp(name, "pp_layout") && r->pp_layout)
        return sl_value_new_str(b->arena, r->pp_layout);
    return sl_value_new_null(b->arena);
}

/* A window of n tokens, the token itself among them, is n - 1 before it and none after
 * (Megatron-LM megatron/core/transformer/utils.py, get_sliding_window_causal_mask). */
static const struct sl_value *window_value(struct sl_arena *arena, int64_t tokens)
{
    struct sl_value *pair = sl_value_new_null(arena);
    const struct sl_value **items = SL_ARENA_NEW(arena, const struct sl_value *, 2);
    if (!pair || !items || !(items[0] = sl_value_new_int(arena, tokens - 1)) || !(items[1] = sl_value_new_int(arena, 0)))
        return NULL;
    *pair = (struct sl_value){ .kind = SL_VALUE_LIST, .type = "tuple", .items = items, .len = 2 };
    return pair;
}

/* The value a row gives; *given is false when the row has none for this model. */
static const struct sl_value *row_value(const struct building *b, const struct sl_value *row, bool *given)
{
    const char *setting = sl_value_str(sl_value_get(row, "setting"));
    const char *flag = sl_value_str(sl_value_get(row, "flag"));
    const char *run = sl_value_str(sl_value_get(row, "run"));
    bool invert = false, whole = false, window = false;
    *given = true;
    sl_value_bool(sl_value_get(row, "invert"), &invert);
    sl_value_bool(sl_value_get(row, "whole"), &whole);
    sl_value_bool(sl_value_get(row, "window"), &window);
    if (run)
        return run_value(b, run);
    if (flag)
        return sl_value_new_bool(b->arena, sl_model_flag(b->m, flag) != invert);
    if (!setting)
        return sl_value_get(row, "value");
    const struct sl_setting *known = sl_model_get(b->m, setting);
    int64_t n;
    if (window) {
        *given = known && sl_value_int(known->value, &n) && n > 0;
        return *given ? window_value(b->arena, n) : NULL;
    }
    if (known && known->value->kind != SL_VALUE_NULL)
        return whole && sl_value_int(known->value, &n) ? sl_value_new_int(b->arena, n) : known->value;
    *given = sl_value_get(row, "fallback") != NULL;
    return sl_value_get(row, "fallback");
}

/* ---- all of them ---------------------------------------------------------------- */

static bool put(struct building *b, const char *key, const struct sl_value *value)
{
    for (size_t i = 0; i < b->count; i++)
        if (!strcmp(b->keys[i]->s, key)) {
            b->items[i] = value;
            return value != NULL;
        }
    b->keys[b->count] = sl_value_new_str(b->arena, key);
    b->items[b->count] = value;
    return value && b->keys[b->count++];
}

/* Plain as the restricted loaders of torch and Megatron want it: no tensors, no bytes, no
 * objects, no enums, however deep. */
static bool is_plain(const struct sl_value *v, int depth)
{
    switch (v->kind) {
    case SL_VALUE_NULL: case SL_VALUE_BOOL: case SL_VALUE_INT: case SL_VALUE_FLOAT:
        return !v->type;
    case SL_VALUE_STR:
        return !v->type || !strcmp(v->type, "torch.dtype");
    case SL_VALUE_LIST: case SL_VALUE_DICT:
        if (depth == 8 || (v->type && strcmp(v->type, "tuple")))
            return false;
        for (size_t i = 0; i < v->len; i++)
            if (!is_plain(v->items[i], depth + 1) || (v->kind == SL_VALUE_DICT && !is_plain(v->keys[i], depth + 1)))
                return false;
        return true;
    default:
        return false;
    }
}

static bool keep_source(struct building *b, const struct sl_value *source)
{
    for (size_t i = 0; source && i < source->len; i++) {
        const char *key = sl_value_str(source->keys[i]);
        if (key && is_plain(source->items[i], 0) && !put(b, key, source->items[i]))
            return false;
    }
    return true;
}

static bool add_rows(struct building *b, const struct sl_value *rows, const struct sl_value *source)
{
    for (size_t i = 0; i < rows->len; i++) {
        const struct sl_value *row = rows->items[i];
        const char *arg = sl_value_str(sl_value_get(row, "arg"));
        if (!sl_model_when(b->m, sl_value_str(sl_value_get(row, "when"))))
            continue;
        bool given, always = sl_value_get(row, "run") != NULL;
        if (!always)
            sl_value_bool(sl_value_get(row, "always"), &always);
        if (!always && sl_value_get(source, arg))
            continue;
        const struct sl_value *value = row_value(b, row, &given);
        if (given && !put(b, arg, value))
            return false;
    }
    return true;
}

int sl_model_megatron_args(const struct sl_model *m, const struct sl_value *source,
                           const struct sl_megatron_run *run, struct sl_arena *arena,
                           const struct sl_value **args, struct sl_error *err)
{
    const struct sl_value *rows = table_get("args");
    if (!rows)
        return sl_fail(err, SL_MEMORY, "megatron_args.json", "the table of args can't be read");
    const size_t room = rows->len + (source ? source->len : 0) + 1;
    struct sl_value *v = SL_ARENA_NEW(arena, struct sl_value, 1);
    struct building b = { .m = m, .run = run, .arena = arena,
                          .keys = SL_ARENA_NEW(arena, const struct sl_value *, room),
                          .items = SL_ARENA_NEW(arena, const struct sl_value *, room) };
    if (!v || !b.keys || !b.items || !keep_source(&b, source) || !add_rows(&b, rows, source))
        return sl_fail_memory(err, room * sizeof *v);
    *v = (struct sl_value){ .kind = SL_VALUE_DICT, .type = NAMESPACE, .len = b.count, .keys = b.keys, .items = b.items };
    *args = v;
    return SL_OK;
}
