/* sizes.c: which parallel sizes a model can be cut into, and why not into others. */
#include "api/handle.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

#define MOST_LISTED 256     /* parallel sizes that are looked at */

/* What a tensor parallel size must fit. Source: Megatron-LM megatron/core/transformer/transformer_config.py
 * (__post_init__): heads are a multiple of it; query groups a multiple, or a divisor. */
struct cut_rule { const char *name; bool or_divisor, dense; };
static const struct cut_rule cut_rules[] = {
    { "num_attention_heads", false, false }, { "num_query_groups", true, false }, { "ffn_hidden_size", false, true },
};

/* Has it layers with an MLP of its own, not of experts? */
static bool has_dense_layers(const struct sl_model *m)
{
    int64_t layers;
    return !m->moe || !sl_model_int(m, "num_layers", &layers) || (int64_t)m->moe->layer_count < layers;
}

const char *sl_tp_misfit(const struct sl_model *m, int32_t tp, int64_t *size)
{
    for (size_t i = 0; i < sizeof cut_rules / sizeof *cut_rules; i++) {
        const struct cut_rule *r = &cut_rules[i];
        if ((r->dense && !has_dense_layers(m)) || !sl_model_int(m, r->name, size) || *size < 1)
            continue;
        if (*size % tp && (!r->or_divisor || tp % *size))
            return r->name;
    }
    return NULL;
}

/* ---- one size of one axis ---- */

static int32_t or_one(int32_t n)
{
    return n > 0 ? n : 1;
}

static bool tp_fits(const struct sl_model *m, const struct sl_plan_options *o, int32_t n, char *why, size_t room)
{
    int64_t size = 0;
    (void)o;
    const char *name = sl_tp_misfit(m, n, &size);
    if (name)
        snprintf(why, room, "%s is %lld, which does not divide over %d ranks", name, (long long)size, n);
    return !name;
}

static bool stages_fit(const struct sl_model *m, const struct sl_plan_options *o, int32_t pp, int32_t vpp, char *why, size_t room)
{
    int64_t layers;
    if (o->pp_layout || !sl_model_int(m, "num_layers", &layers) || layers < 1 || layers % ((int64_t)pp * vpp) == 0)
        return true;
    snprintf(why, room, "%lld layers do not divide over %lld stages (pp %d x vpp %d); layers per stage can say how", (long long)layers,
             (long long)pp * vpp, pp, vpp);
    return false;
}

static bool pp_fits(const struct sl_model *m, const struct sl_plan_options *o, int32_t n, char *why, size_t room)
{
    if (n == 1 && o->vpp > 1) {
        snprintf(why, room, "virtual stages (vpp %d) need more than one pipeline stage", o->vpp);
        return false;
    }
    return stages_fit(m, o, n, or_one(o->vpp), why, room);
}

static bool vpp_fits(const struct sl_model *m, const struct sl_plan_options *o, int32_t n, char *why, size_t room)
{
    if (n > 1 && o->pp <= 1) {
        snprintf(why, room, "virtual stages need more than one pipeline stage: give pp first");
        return false;
    }
    return stages_fit(m, o, or_one(o->pp), n, why, room);
}

/* Experts are dealt out whole. Source: Megatron-LM megatron/core/transformer/moe/moe_layer.py (num_local_experts) */
static bool ep_fits(const struct sl_model *m, const struct sl_plan_options *o, int32_t n, char *why, size_t room)
{
    int64_t experts;
    (void)o;
    if (!m->moe && n > 1)
        snprintf(why, room, "the model has no experts");
    else if (m->moe && sl_model_int(m, "num_experts", &experts) && experts % n)
        snprintf(why, room, "num_experts is %lld, which does not divide over %d ranks", (long long)experts, n);
    else
        return true;
    return false;
}

static bool etp_fits(const struct sl_model *m, const struct sl_plan_options *o, int32_t n, char *why, size_t room)
{
    int64_t ffn;
    if (!m->moe)
        return true;                     /* without experts it cuts nothing */
    if (n > or_one(o->tp)) {             /* a file is named by its TP rank, and holds one part of each expert */
        snprintf(why, room, "tp is %d: a file would hold more than one part of an expert", or_one(o->tp));
        return false;
    }
    if (!sl_model_int(m, "moe_ffn_hidden_size", &ffn) || ffn % n == 0)
        return true;
    snprintf(why, room, "moe_ffn_hidden_size is %lld, which does not divide over %d ranks", (long long)ffn, n);
    return false;
}

/* What an axis cuts, by Megatron argument name: its divisors are worth listing. */
static const struct {
    bool (*fits)(const struct sl_model *m, const struct sl_plan_options *o, int32_t n, char *why, size_t room);
    const char *cuts;
} axes[SL_AXIS_COUNT] = {
    [SL_AXIS_TP] = { tp_fits, "num_query_groups" }, [SL_AXIS_PP] = { pp_fits, "num_layers" }, [SL_AXIS_VPP] = { vpp_fits, "num_layers" },
    [SL_AXIS_EP] = { ep_fits, "num_experts" },      [SL_AXIS_ETP] = { etp_fits, NULL },
};

static int32_t wanted(const struct sl_plan_options *o, enum sl_axis axis)
{
    const int32_t sizes[SL_AXIS_COUNT] = { o->tp, o->pp, o->vpp, o->ep, o->etp };
    return sizes[axis];
}

/* The most that an axis can be cut into. */
static int64_t most_of(const struct sl_model *m, enum sl_axis axis)
{
    static const char *const cuts[SL_AXIS_COUNT] = {
        [SL_AXIS_TP] = "num_attention_heads", [SL_AXIS_PP] = "num_layers", [SL_AXIS_VPP] = "num_layers", [SL_AXIS_EP] = "num_experts",
        [SL_AXIS_ETP] = "moe_ffn_hidden_size" };
    int64_t most = MOST_LISTED;
    return sl_model_int(m, cuts[axis], &most) && most < MOST_LISTED ? most : MOST_LISTED;
}

size_t sl_plan_sizes(const struct sl_checkpoint *ck, const struct sl_plan_options *options, enum sl_axis axis,
                     struct sl_size_choice *out, size_t room)
{
    const struct sl_plan_options none = { 0 }, *o = options ? options : &none;
    const int64_t most = most_of(ck->m, axis);
    int64_t cut = 0;
    size_t count = 0;
    if (!axes[axis].cuts || !sl_model_int(ck->m, axes[axis].cuts, &cut))
        cut = 0;
    for (int32_t n = 1; n <= MOST_LISTED && count < room; n++) {
        const bool listed = n == wanted(o, axis) || (n <= most && ((n & (n - 1)) == 0 || (cut > 0 && cut % n == 0)));
        if (!listed)
            continue;
        struct sl_size_choice *c = &out[count++];
        *c = (struct sl_size_choice){ .size = n };
        c->fits = axes[axis].fits(ck->m, o, n, c->why, sizeof c->why);
    }
    return count;
}
