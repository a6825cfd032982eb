/* saving.c: what every Megatron checkpoint that is written has in common: the name of its
 * folder, the tracker that names it, the args, and what stands beside them.
 */
#include "plan/parts.h"

#include "base/error.h"
#include "base/value.h"
#include "model/args.h"

#include <stdio.h>
#include <string.h>

static enum sl_dtype main_dtype(const struct sl_conversion *p)
{
    for (size_t i = 0; i < p->target_count; i++)
        if (p->targets[i].ndim > 1)
            return p->targets[i].dtype;
    return SL_BF16;
}

/* Stage strings of Megatron's pipeline_model_parallel_layout ("Ettt|tttt|tttL"): stages run
 * chunk by chunk over the pipeline ranks, layers are numbered in that order. NULL when even.
 * Source: Megatron-LM megatron/core/transformer/pipeline_parallel_layer_layout.py */
static int layout_text(const struct saving *s, const char **text)
{
    const struct sl_target_spec *spec = &s->want->spec;
    const int32_t stages = spec->parallel.pp * spec->parallel.vpp;
    struct sl_buf b = { 0 };
    bool even = true;
    *text = NULL;
    for (int32_t i = 1; spec->stage_layers && i < stages; i++)
        even = even && spec->stage_layers[i] == spec->stage_layers[0];
    if (even)
        return SL_OK;
    for (int32_t i = 0; i < stages; i++) {
        sl_buf_str(&b, i ? "|" : "E");
        for (int32_t k = 0; k < spec->stage_layers[i]; k++)
            sl_buf_char(&b, 't');
    }
    for (int32_t k = 0; k < s->p->model->mtp_layers; k++)
        sl_buf_char(&b, 'm');
    sl_buf_char(&b, 'L');
    *text = b.failed ? NULL : sl_arena_str(&s->p->arena, b.data);
    sl_buf_free(&b);
    return *text ? SL_OK : sl_fail_memory(s->err, 64);
}

static int make_args(struct saving *s)
{
    const struct sl_want *w = s->want;
    struct sl_megatron_run run = { .parallel = w->spec.parallel, .vocab = s->p->model->vocab,
                                   .padded_vocab = w->spec.padded_vocab, .vocab_divisor = w->vocab_divisor,
                                   .dtype = main_dtype(s->p), .dist = w->out == SL_OUT_DIST, .iteration = s->iteration, .spec = w->spec.spec, .experts = w->spec.experts };
    const int rc = layout_text(s, &run.pp_layout);
    return rc ? rc : sl_model_megatron_args(s->p->model, s->p->ckpt->args, &run, &s->p->arena, &s->args, s->err);
}

int saving_add_tracker(struct saving *s)
{
    struct sl_out_extra extra = { .name = "latest_checkpointed_iteration.txt" };
    const char *text = s->release ? "release" : sl_arena_printf(&s->p->arena, "%lld", (long long)s->iteration);
    if (!text)
        return sl_fail_memory(s->err, 32);
    extra.bytes = text;
    extra.len = strlen(text);
    return plan_add_extra(s->p, &extra, s->err);
}

/* The iteration asked for, else the source's, else release. */
static int name_iteration(struct saving *s)
{
    const struct sl_ckpt *c = s->p->ckpt;
    s->release = s->want->release || (s->want->iteration < 0 && (c->iteration < 0 || c->release));
    s->iteration = s->release ? 0 : s->want->iteration >= 0 ? s->want->iteration : c->iteration;
    s->folder = s->release ? "release" : sl_arena_printf(&s->p->arena, "iter_%07lld", (long long)s->iteration);
    return s->folder ? SL_OK : sl_fail_memory(s->err, 32);
}

int saving_begin(struct saving *s)
{
    const int rc = name_iteration(s);
    return rc ? rc : make_args(s);
}

int saving_args_of_rank(struct saving *s, const struct sl_rank *r)
{
    const struct sl_value *number = sl_value_new_int(&s->p->arena, sl_model_megatron_writer(s->args, &s->want->spec.parallel, r));
    struct sl_value *own = sl_value_new_null(&s->p->arena);
    const struct sl_value **items = SL_ARENA_NEW(&s->p->arena, const struct sl_value *, s->args->len);
    if (!number || !own || !items)
        return sl_fail_memory(s->err, s->args->len * sizeof *items);
    for (size_t i = 0; i < s->args->len; i++) {
        const char *key = sl_value_str(s->args->keys[i]);
        items[i] = key && !strcmp(key, "rank") ? number : s->args->items[i];
    }
    *own = *s->args;
    own->items = items;
    s->args = own;
    return SL_OK;
}

void saving_pickle_common(struct sl_pickler *k, const struct saving *s)
{
    sl_pickler_str(k, "args");
    sl_pickler_value(k, s->args);
    sl_pickler_str(k, "checkpoint_version");
    sl_pickler_double(k, 3.0);
    sl_pickler_str(k, "iteration");
    sl_pickler_int(k, s->iteration);
    sl_pickler_str(k, "num_floating_point_operations_so_far");
    sl_pickler_int(k, 0);
}
