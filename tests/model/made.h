/* made.h: checkpoints that exist only as headers, of any shape, for detection. */
#ifndef TESTS_MODEL_MADE_H
#define TESTS_MODEL_MADE_H

#include "model/model.h"

#include "base/value.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct made_shape {
    int64_t layers, hidden, ffn, qd, kvd, vocab;  /* of the whole; vocab: rows stored */
    int32_t tp, pp, vpp;                          /* 0: 1 */
    bool tied, te, qkv_bias, qk_norm, moe, hf;
    int64_t norm;                                 /* length of q and k norms */
    int64_t experts, shared;                      /* shared: width of the shared expert, 0: none */
    int64_t dense, dense_ffn;                     /* layers before the first with experts */
    bool shared_gate, expert_bias;
    bool post_norms, sinks;                       /* Gemma's norms; GPT-OSS' sinks, and biases everywhere */
    int64_t heads, q_lora, kv_lora, nope, rope, v;/* latent attention: kv_lora is not 0; without q_lora a plain q */
};

enum { MADE_TENSORS = 4096 };

static int32_t made_at_least_one(int32_t n) { return n > 0 ? n : 1; }

/* An array of three axes. */
__attribute__((unused)) static void made_add3(struct sl_ckpt *c, int32_t rank, const char *name, int64_t a, int64_t b, int64_t d)
{
    int64_t *shape = SL_ARENA_NEW(&c->arena, int64_t, 3);
    shape[0] = a, shape[1] = b, shape[2] = d;
    if (c->tensor_count == MADE_TENSORS)
        abort();
    c->tensors[c->tensor_count++] = (struct sl_tensor){
        .name = sl_arena_str(&c->arena, name), .dtype = SL_BF16, .ndim = 3, .shape = shape, .flags = SL_TENSOR_NO_DATA,
        .count = (uint64_t)a * (uint64_t)b * (uint64_t)d, .rank = rank};
}

static void made_add(struct sl_ckpt *c, int32_t rank, int32_t chunk, const char *name, int64_t rows, int64_t cols)
{
    int64_t *shape = SL_ARENA_NEW(&c->arena, int64_t, 2);
    shape[0] = rows, shape[1] = cols;
    if (c->tensor_count == MADE_TENSORS)
        abort();
    c->tensors[c->tensor_count++] = (struct sl_tensor){
        .name = sl_arena_str(&c->arena, name), .dtype = SL_BF16, .ndim = cols ? 2 : 1, .shape = shape,
        .flags = SL_TENSOR_NO_DATA, .count = (uint64_t)rows * (uint64_t)(cols ? cols : 1),
        .rank = rank, .chunk = chunk};
}

/* Rows of q, k and v; wraps around for absurd shapes. */
static int64_t made_qkv(struct made_shape s)
{
    return (int64_t)((uint64_t)s.qd + 2 * (uint64_t)s.kvd);
}

/* In Transformer Engine's spelling: down projections whole, the others cut by heads. */
static void made_latent(struct sl_ckpt *c, int32_t rank, int32_t chunk, const char *base, struct made_shape s, int64_t tp)
{
    char name[160];
    const int64_t q = s.heads * (s.nope + s.rope) / tp;
#define ADD(text, rows, cols) (snprintf(name, sizeof name, "%sself_attention.%s", base, text), made_add(c, rank, chunk, name, rows, cols))
    if (s.q_lora) {
        ADD("linear_q_down_proj.weight", s.q_lora, s.hidden), ADD("linear_q_up_proj.weight", q, s.q_lora);
        ADD("linear_q_up_proj.layer_norm_weight", s.q_lora, 0);
    } else {
        ADD("linear_q_proj.weight", q, s.hidden);
    }
    ADD("linear_kv_down_proj.weight", s.kv_lora + s.rope, s.hidden), ADD("linear_kv_up_proj.layer_norm_weight", s.kv_lora, 0);
    ADD("linear_kv_up_proj.weight", s.heads * (s.nope + s.v) / tp, s.kv_lora), ADD("linear_proj.weight", s.hidden, s.heads * s.v / tp);
#undef ADD
}

static void made_layer(struct sl_ckpt *c, int32_t rank, int32_t chunk, int64_t layer, struct made_shape s, int64_t tp)
{
    char base[64], name[160];
    snprintf(base, sizeof base, s.hf ? "model.layers.%lld." : "decoder.layers.%lld.", (long long)layer);
#define ADD(text, rows, cols) (snprintf(name, sizeof name, "%s%s", base, text), made_add(c, rank, chunk, name, rows, cols))
    if (s.hf) {
        ADD("self_attn.q_proj.weight", s.qd, s.hidden), ADD("self_attn.k_proj.weight", s.kvd, s.hidden);
        ADD("self_attn.v_proj.weight", s.kvd, s.hidden), ADD("self_attn.o_proj.weight", s.hidden, s.qd);
        ADD("mlp.gate_proj.weight", s.ffn, s.hidden), ADD("mlp.up_proj.weight", s.ffn, s.hidden);
        ADD("mlp.down_proj.weight", s.hidden, s.ffn);
        return;
    }
    ADD(s.te && !s.kv_lora ? "self_attention.linear_qkv.layer_norm_weight" : "input_layernorm.weight", s.hidden, 0);
    if (s.kv_lora)
        made_latent(c, rank, chunk, base, s, tp);
    else
        ADD("self_attention.linear_qkv.weight", made_qkv(s) / tp, s.hidden);
    if (s.qkv_bias)
        ADD("self_attention.linear_qkv.bias", made_qkv(s) / tp, 0);
    if (s.qk_norm)
        ADD("self_attention.q_layernorm.weight", s.norm, 0), ADD("self_attention.k_layernorm.weight", s.norm, 0);
    if (!s.kv_lora)
        ADD("self_attention.linear_proj.weight", s.hidden, s.qd / tp);
    if (s.post_norms)
        ADD("self_attention.linear_proj.post_layernorm.weight", s.hidden, 0), ADD("mlp.linear_fc2.post_layernorm.weight", s.hidden, 0);
    if (s.sinks) {
        ADD("self_attention.linear_proj.bias", s.hidden, 0), ADD("self_attention.core_attention.softmax_offset", s.heads / tp, 0);
        ADD("mlp.router.bias", s.experts, 0), ADD("mlp.experts.local_experts.0.linear_fc1.bias", 2 * s.ffn / tp, 0);
        ADD("mlp.experts.local_experts.0.linear_fc2.bias", s.hidden, 0);
    }
    if (s.moe && layer >= s.dense) {
        ADD("pre_mlp_layernorm.weight", s.hidden, 0), ADD("mlp.router.weight", s.experts, s.hidden);
        ADD("mlp.experts.local_experts.0.linear_fc1.weight", (int64_t)(2 * (uint64_t)s.ffn / (uint64_t)tp), s.hidden);
        ADD("mlp.experts.local_experts.0.linear_fc2.weight", s.hidden, s.ffn / tp);
        if (s.shared) {
            ADD("mlp.shared_experts.linear_fc1.weight", 2 * s.shared / tp, s.hidden);
            ADD("mlp.shared_experts.linear_fc2.weight", s.hidden, s.shared / tp);
        }
        if (s.shared_gate)
            ADD("mlp.shared_experts.gate_weight", 1, s.hidden);
        if (s.expert_bias)
            ADD("mlp.router.expert_bias", s.experts, 0);
        return;
    }
    ADD(s.te ? "mlp.linear_fc1.layer_norm_weight" : "pre_mlp_layernorm.weight", s.hidden, 0);
    const int64_t ffn = s.moe ? s.dense_ffn : s.ffn;
    ADD("mlp.linear_fc1.weight", (int64_t)(2 * (uint64_t)ffn / (uint64_t)tp), s.hidden);
    ADD("mlp.linear_fc2.weight", s.hidden, ffn / tp);
#undef ADD
}

static void made_rank(struct sl_ckpt *c, int32_t rank, int32_t pp, struct made_shape s)
{
    const int64_t tp = c->parallel.tp, stages = (int64_t)c->parallel.pp * c->parallel.vpp;
    if (pp == 0)
        made_add(c, rank, 0, s.hf ? "model.embed_tokens.weight" : "embedding.word_embeddings.weight", s.vocab / tp, s.hidden);
    for (int32_t chunk = 0; chunk < c->parallel.vpp; chunk++)
        for (int64_t i = 0; i < s.layers / stages; i++)
            made_layer(c, rank, chunk, i, s, tp);
    if (pp != c->parallel.pp - 1)
        return;
    made_add(c, rank, c->parallel.vpp - 1, s.hf ? "model.norm.weight" : "decoder.final_layernorm.weight", s.hidden, 0);
    if (!s.tied)
        made_add(c, rank, c->parallel.vpp - 1, s.hf ? "lm_head.weight" : "output_layer.weight", s.vocab / tp, s.hidden);
}

/* The checkpoint; free it with made_free(). */
static struct sl_ckpt *made(struct made_shape s)
{
    struct sl_ckpt *c = calloc(1, sizeof *c);
    const int32_t tp = made_at_least_one(s.tp), pp = made_at_least_one(s.pp), vpp = made_at_least_one(s.vpp);
    c->path = c->folder = "/somewhere/iter_0000001";
    c->container = s.hf ? SL_HF_SAFETENSORS : SL_MEGATRON_TORCH;
    c->parallel = (struct sl_parallel){tp, pp, vpp, 1, tp};
    c->checkpoint_version = 3;
    c->problems.arena = &c->arena;
    c->tensors = SL_ARENA_NEW(&c->arena, struct sl_tensor, MADE_TENSORS);
    c->ranks = SL_ARENA_NEW(&c->arena, struct sl_rank, (uint64_t)(tp * pp));
    for (int32_t p = 0; p < pp; p++)
        for (int32_t t = 0; t < tp; t++) {
            c->ranks[c->rank_count] = (struct sl_rank){.tp = t, .pp = p};
            made_rank(c, s.hf ? -1 : (int32_t)c->rank_count, p, s);
            c->rank_count++;
        }
    return c;
}

static void made_free(struct sl_ckpt *c)
{
    sl_arena_free(&c->arena);
    free(c);
}

/* An args dict from "key=value" texts, ended by NULL. */
__attribute__((unused)) static const struct sl_value *made_args(struct sl_ckpt *c, ...)
{
    struct sl_value *dict = sl_value_new_null(&c->arena);
    const struct sl_value **keys = SL_ARENA_NEW(&c->arena, const struct sl_value *, 32);
    const struct sl_value **items = SL_ARENA_NEW(&c->arena, const struct sl_value *, 32);
    va_list list;
    va_start(list, c);
    for (const char *text; (text = va_arg(list, const char *)); dict->len++) {
        const char *equals = strchr(text, '=');
        keys[dict->len] = sl_value_new_str(&c->arena, sl_arena_strn(&c->arena, text, (size_t)(equals - text)));
        items[dict->len] = sl_value_parse(&c->arena, equals + 1);
    }
    va_end(list);
    dict->kind = SL_VALUE_DICT;
    dict->keys = keys;
    dict->items = items;
    return dict;
}

#endif
