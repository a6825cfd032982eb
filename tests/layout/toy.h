/* toy.h: small models with made-up sizes, and what their checkpoints hold.
 *
 * Every element of every weight has a number of its own (which weight, layer, row and column
 * of the Hugging Face tensor). toy_megatron() and toy_hf() write these numbers into
 * checkpoints by the index formulas of Megatron-LM and transformers, said here once more with
 * div and mod, without maps, boxes or slices. Whatever the program makes must equal that.
 *
 * Sources: Megatron-LM megatron/core/transformer/attention.py (linear_qkv), mlp.py (gated fc1),
 * tensor_parallel/layers.py (row blocks, column blocks), transformers models/llama. */
#ifndef SL_TESTS_TOY_H
#define SL_TESTS_TOY_H

#include "../base/testing.h"

#include "base/value.h"
#include "layout/layout.h"

enum toy_kind { EMBED = 1, NORM1, QUERY, KEY, VALUE, QUERY_BIAS, KEY_BIAS, VALUE_BIAS, OUT, NORM2, GATE, UP, DOWN,
                NORM, HEAD };

struct toy {
    int64_t layers, hidden, ffn, groups, per_group, head, vocab;
    bool tied, bias;
};
struct toy_layout { int32_t tp, pp, vpp; int32_t stage[32]; int64_t padded; bool te; };

#define TOY_TENSORS 4096
struct toy_ckpt {
    struct sl_ckpt c;
    struct sl_tensor tensors[TOY_TENSORS];
    int64_t *data[TOY_TENSORS];
    struct sl_rank ranks[64];
    char names[TOY_TENSORS][96];
    int64_t shapes[TOY_TENSORS][2];
};

static uint64_t toy_seed;
static inline int64_t toy_roll(int64_t from, int64_t to)    /* both inclusive */
{
    toy_seed = toy_seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return from + (int64_t)((toy_seed >> 33) % (uint64_t)(to - from + 1));
}

static inline int64_t toy_number(enum toy_kind kind, int64_t layer, int64_t row, int64_t col)
{
    return (int64_t)kind << 48 | layer << 40 | row << 20 | col;
}

static inline int64_t toy_qkv_rows(const struct toy *m) { return m->groups * (m->per_group + 2) * m->head; }

/* ---- tensors of the checkpoints --------------------------------------------------- */

/* Appends an empty tensor; cols 0: a vector. */
static inline int64_t *toy_add(struct toy_ckpt *k, int32_t rank, int32_t chunk, const char *name, int64_t rows, int64_t cols)
{
    const size_t i = k->c.tensor_count++;
    assert_true(i < TOY_TENSORS);
    snprintf(k->names[i], sizeof k->names[i], "%s", name);
    k->shapes[i][0] = rows;
    k->shapes[i][1] = cols;
    const int64_t count = rows * (cols ? cols : 1);
    k->tensors[i] = (struct sl_tensor){ .name = k->names[i], .path = k->names[i], .dtype = SL_I64, .ndim = cols ? 2 : 1,
                                        .shape = k->shapes[i], .count = (uint64_t)count, .bytes = (uint64_t)count * 8,
                                        .rank = rank, .chunk = chunk, .file = -1 };
    k->data[i] = calloc((size_t)count + 1, sizeof *k->data[i]);
    assert_non_null(k->data[i]);
    return k->data[i];
}

static inline void toy_fill(int64_t *x, enum toy_kind kind, int64_t layer, int64_t rows, int64_t cols, int64_t row0, int64_t col0)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < (cols ? cols : 1); j++)
            *x++ = toy_number(kind, layer, row0 + i, col0 + j);
}

/* Row m of the whole fused matrix: which weight and which of its rows. */
static inline enum toy_kind toy_qkv_row(const struct toy *m, int64_t row, int64_t *of)
{
    const int64_t r = m->per_group, d = m->head;
    const int64_t g = row / ((r + 2) * d), s = row / d % (r + 2), c = row % d;
    *of = s < r ? (g * r + s) * d + c : g * d + c;
    return s < r ? QUERY : s == r ? KEY : VALUE;
}

static inline void toy_vocab(struct toy_ckpt *k, const struct toy *m, const struct toy_layout *at, int32_t rank, int32_t tp,
                             int32_t chunk, const char *name, enum toy_kind kind)
{
    const int64_t rows = at->padded / at->tp;
    int64_t *x = toy_add(k, rank, chunk, name, rows, m->hidden);
    for (int64_t i = 0; i < rows; i++, x += m->hidden)
        if (tp * rows + i < m->vocab)
            toy_fill(x, kind, 0, 1, m->hidden, tp * rows + i, 0);
}

static inline void toy_layer(struct toy_ckpt *k, const struct toy *m, const struct toy_layout *at, int32_t rank, int32_t tp,
                             int32_t chunk, int32_t local, int64_t layer)
{
    const int64_t h = m->hidden, qkv = toy_qkv_rows(m) / at->tp, f = m->ffn / at->tp;
    const int64_t cols = m->groups * m->per_group * m->head / at->tp;
    char name[96];
    int64_t *x, of;
    #define NAME(text) (snprintf(name, sizeof name, "decoder.layers.%d." text, local), name)
    x = toy_add(k, rank, chunk, at->te ? NAME("self_attention.linear_qkv.layer_norm_weight") : NAME("input_layernorm.weight"), h, 0);
    toy_fill(x, NORM1, layer, h, 0, 0, 0);
    x = toy_add(k, rank, chunk, NAME("self_attention.linear_qkv.weight"), qkv, h);
    for (int64_t i = 0; i < qkv; i++, x += h) {
        const enum toy_kind kind = toy_qkv_row(m, tp * qkv + i, &of);
        toy_fill(x, kind, layer, 1, h, of, 0);
    }
    if (m->bias) {
        x = toy_add(k, rank, chunk, NAME("self_attention.linear_qkv.bias"), qkv, 0);
        for (int64_t i = 0; i < qkv; i++) {
            const enum toy_kind kind = toy_qkv_row(m, tp * qkv + i, &of);
            x[i] = toy_number(kind - QUERY + QUERY_BIAS, layer, of, 0);
        }
    }
    x = toy_add(k, rank, chunk, NAME("self_attention.linear_proj.weight"), h, cols);
    toy_fill(x, OUT, layer, h, cols, 0, tp * cols);
    x = toy_add(k, rank, chunk, at->te ? NAME("mlp.linear_fc1.layer_norm_weight") : NAME("pre_mlp_layernorm.weight"), h, 0);
    toy_fill(x, NORM2, layer, h, 0, 0, 0);
    x = toy_add(k, rank, chunk, NAME("mlp.linear_fc1.weight"), 2 * f, h);
    toy_fill(x, GATE, layer, f, h, tp * f, 0);
    toy_fill(x + f * h, UP, layer, f, h, tp * f, 0);
    x = toy_add(k, rank, chunk, NAME("mlp.linear_fc2.weight"), h, f);
    toy_fill(x, DOWN, layer, h, f, 0, tp * f);
    #undef NAME
}

static inline void toy_begin(struct toy_ckpt *k, enum sl_container container)
{
    memset(&k->c, 0, sizeof k->c);
    k->c.path = k->c.folder = "toy";
    k->c.container = container;
    k->c.tensors = k->tensors;
    k->c.ranks = k->ranks;
}

static inline void toy_megatron(struct toy_ckpt *k, const struct toy *m, const struct toy_layout *at)
{
    toy_begin(k, SL_MEGATRON_TORCH);
    for (int32_t pp = 0; pp < at->pp; pp++)
        for (int32_t tp = 0; tp < at->tp; tp++) {
            const int32_t rank = (int32_t)k->c.rank_count++;
            k->ranks[rank] = (struct sl_rank){ .tp = tp, .pp = pp, .path = "rank" };
            for (int32_t chunk = 0; chunk < at->vpp; chunk++) {
                const int32_t stage = chunk * at->pp + pp, last = at->vpp * at->pp - 1;
                int64_t first = 0;
                for (int32_t s = 0; s < stage; s++)
                    first += at->stage[s];
                if (stage == 0)
                    toy_vocab(k, m, at, rank, tp, chunk, "embedding.word_embeddings.weight", EMBED);
                for (int32_t l = 0; l < at->stage[stage]; l++)
                    toy_layer(k, m, at, rank, tp, chunk, l, first + l);
                if (stage == last)
                    toy_fill(toy_add(k, rank, chunk, "decoder.final_layernorm.weight", m->hidden, 0), NORM, 0, m->hidden, 0, 0, 0);
                if (stage == last && (!m->tied || at->pp > 1))
                    toy_vocab(k, m, at, rank, tp, chunk, "output_layer.weight", m->tied ? EMBED : HEAD);
            }
        }
}

static inline void toy_hf(struct toy_ckpt *k, const struct toy *m)
{
    const int64_t h = m->hidden, q = m->groups * m->per_group * m->head, kv = m->groups * m->head;
    char name[96];
    toy_begin(k, SL_HF_SAFETENSORS);
    #define WHOLE(text, kind, layer, rows, cols) \
        toy_fill(toy_add(k, -1, 0, text, rows, cols), kind, layer, rows, cols, 0, 0)
    #define NAME(text) (snprintf(name, sizeof name, "model.layers.%d." text, (int)l), name)
    WHOLE("model.embed_tokens.weight", EMBED, 0, m->vocab, h);
    for (int64_t l = 0; l < m->layers; l++) {
        WHOLE(NAME("self_attn.q_proj.weight"), QUERY, l, q, h);
        WHOLE(NAME("self_attn.k_proj.weight"), KEY, l, kv, h);
        WHOLE(NAME("self_attn.v_proj.weight"), VALUE, l, kv, h);
        if (m->bias) {
            WHOLE(NAME("self_attn.q_proj.bias"), QUERY_BIAS, l, q, 0);
            WHOLE(NAME("self_attn.k_proj.bias"), KEY_BIAS, l, kv, 0);
            WHOLE(NAME("self_attn.v_proj.bias"), VALUE_BIAS, l, kv, 0);
        }
        WHOLE(NAME("self_attn.o_proj.weight"), OUT, l, h, q);
        WHOLE(NAME("mlp.gate_proj.weight"), GATE, l, m->ffn, h);
        WHOLE(NAME("mlp.up_proj.weight"), UP, l, m->ffn, h);
        WHOLE(NAME("mlp.down_proj.weight"), DOWN, l, h, m->ffn);
        WHOLE(NAME("input_layernorm.weight"), NORM1, l, h, 0);
        WHOLE(NAME("post_attention_layernorm.weight"), NORM2, l, h, 0);
    }
    WHOLE("model.norm.weight", NORM, 0, h, 0);
    if (!m->tied)
        WHOLE("lm_head.weight", HEAD, 0, m->vocab, h);
    #undef WHOLE
    #undef NAME
}

static inline void toy_free(struct toy_ckpt *k)
{
    for (size_t i = 0; i < k->c.tensor_count; i++)
        free(k->data[i]);
    k->c.tensor_count = k->c.rank_count = 0;
}

/* ---- the model as the program knows it ------------------------------------------------ */

struct toy_model {
    struct sl_model m;
    struct sl_value values[10];
    struct sl_setting settings[10];
    const char *flags[3];
    struct sl_stage_layers stages[64];
};

static inline void toy_set(struct toy_model *t, const char *key, int64_t value)
{
    const size_t i = t->m.config_count++;
    t->values[i] = (struct sl_value){ .kind = SL_VALUE_INT, .i = value };
    t->settings[i] = (struct sl_setting){ .key = key, .value = &t->values[i], .from = "test" };
}

/* at NULL: a Hugging Face folder. */
static inline void toy_model(struct toy_model *t, const struct sl_family *family, const struct toy *m, const struct toy_layout *at)
{
    memset(t, 0, sizeof *t);
    t->m.family = family;
    t->m.dialect = at ? SL_DIALECT_MEGATRON : SL_DIALECT_HF;
    t->m.spec = !at ? NULL : at->te ? "te" : "local";
    t->m.config = t->settings;
    t->m.flags = t->flags;
    toy_set(t, "num_layers", m->layers);
    toy_set(t, "hidden_size", m->hidden);
    toy_set(t, "ffn_hidden_size", m->ffn);
    toy_set(t, "num_attention_heads", m->groups * m->per_group);
    toy_set(t, "num_query_groups", m->groups);
    toy_set(t, "kv_channels", m->head);
    toy_set(t, "vocab_size", m->vocab);
    toy_set(t, "padded_vocab_size", at ? at->padded : m->vocab);
    if (m->tied)
        t->flags[t->m.flag_count++] = "tied";
    if (m->bias)
        t->flags[t->m.flag_count++] = "qkv_bias";
    t->m.vocab = m->vocab;
    t->m.padded_vocab = at ? at->padded : m->vocab;
    t->m.parallel = (struct sl_parallel){ 1, 1, 1, 1, 1 };
    t->m.stages = t->stages;
    if (!at) {
        t->stages[t->m.stage_count++] = (struct sl_stage_layers){ 0, 0, 0, (int32_t)m->layers, 0 };
        return;
    }
    t->m.parallel.tp = t->m.parallel.etp = at->tp;
    t->m.parallel.pp = at->pp;
    t->m.parallel.vpp = at->vpp;
    for (int32_t s = 0, first = 0; s < at->pp * at->vpp; first += at->stage[s++])
        t->stages[t->m.stage_count++] = (struct sl_stage_layers){ s % at->pp, s / at->pp, first, at->stage[s], 0 };
}

/* ---- random ones ------------------------------------------------------------------------ */

static inline void toy_random(struct toy *m)
{
    *m = (struct toy){ .layers = toy_roll(1, 5), .hidden = toy_roll(1, 7), .ffn = 12 * toy_roll(1, 3), .groups = toy_roll(1, 4),
                       .per_group = toy_roll(1, 4), .head = 2 * toy_roll(1, 4), .vocab = toy_roll(3, 40),
                       .tied = toy_roll(0, 1), .bias = toy_roll(0, 2) == 0 };
}

/* A layout in which all blocks are equal; fewer query groups than ranks are welcome. */
static inline void toy_random_layout(const struct toy *m, struct toy_layout *at)
{
    *at = (struct toy_layout){ .pp = (int32_t)toy_roll(1, 3), .vpp = (int32_t)toy_roll(1, 2), .te = toy_roll(0, 1) };
    do
        at->tp = (int32_t)toy_roll(1, 6);
    while (toy_qkv_rows(m) % at->tp || m->ffn % at->tp || m->groups * m->per_group * m->head % at->tp);
    at->padded = (m->vocab + at->tp - 1) / at->tp * at->tp + at->tp * toy_roll(0, 3);
    for (int64_t l = 0; l < m->layers; l++)
        at->stage[toy_roll(0, at->pp * at->vpp - 1)]++;
}

#endif
