/* test_decisions.c: the table of which names and shapes mean which family, row by row: the smallest checkpoint that shows
 * the sign, and what must be said of it: the family, how sure, and the evidence; or what it looks like; or which families
 * can't be told apart, and the option that settles it.
 *
 * Sources of the names: Megatron-LM megatron/core (transformer, ssm), MindSpeed-LLM, OpenBMB's fork by its published
 * converters; transformers models/ *: modeling_*.py. */
#include "families.h"
#include "made.h"

#include "base/text.h"
#include "model/internal.h"

/* Tensors as "name rows columns;": "D." is the first layer of Megatron's decoder, "H." that of Hugging Face, "L." that of the
 * legacy model. Heads of 24: 4 of queries, 2 of keys. */
#define M_ENDS "embedding.word_embeddings.weight 512 96;decoder.final_layernorm.weight 96;"
#define M_HEAD "output_layer.weight 512 96;"
#define M_ATT "D.self_attention.linear_qkv.weight 192 96;D.self_attention.linear_qkv.layer_norm_weight 96;D.self_attention.linear_proj.weight 96 96;"
#define M_MLP "D.mlp.linear_fc1.layer_norm_weight 96;D.mlp.linear_fc1.weight 400 96;D.mlp.linear_fc2.weight 96 200;"
#define M_MOE "D.pre_mlp_layernorm.weight 96;D.mlp.router.weight 6 96;D.mlp.experts.linear_fc1.weight0 40 96;D.mlp.experts.linear_fc2.weight0 96 20;"
#define M_SHARED "D.mlp.shared_experts.linear_fc1.weight 60 96;D.mlp.shared_experts.linear_fc2.weight 96 30;"
#define M_QKV_BIAS "D.self_attention.linear_qkv.bias 192;"
#define M_QK_NORM "D.self_attention.q_layernorm.weight 24;D.self_attention.k_layernorm.weight 24;"
#define M_POST "D.self_attention.linear_proj.post_layernorm.weight 96;D.mlp.linear_fc2.post_layernorm.weight 96;"
/* 4 heads of 2 + 4, values of 6, latents of 12 and 10 */
#define M_LATENT "D.input_layernorm.weight 96;D.self_attention.linear_kv_down_proj.weight 14 96;D.self_attention.linear_kv_up_proj.layer_norm_weight 10;" \
    "D.self_attention.linear_kv_up_proj.weight 32 10;D.self_attention.linear_proj.weight 96 24;"
#define M_LATENT_Q "D.self_attention.linear_q_down_proj.weight 12 96;D.self_attention.linear_q_up_proj.weight 24 12;D.self_attention.linear_q_up_proj.layer_norm_weight 12;"
#define M_PLAIN_Q "D.self_attention.linear_q_proj.weight 24 96;"
#define M_FORK "D.input_layernorm.weight 96;D.self_attention.linear_q_down.weight 12 96;D.self_attention.q_layernorm.weight 12;D.self_attention.linear_q_up.weight 24 12;" \
    "D.self_attention.linear_kv_down.weight 14 96;D.self_attention.kv_layernorm.weight 10;D.self_attention.linear_kv_up.weight 32 10;D.self_attention.linear_proj.weight 96 24;"
#define M_MIND "D.input_layernorm.weight 96;D.self_attention.linear_qkv.weight 26 96;D.self_attention.q_layernorm.weight 12;D.self_attention.linear_qb.weight 24 12;" \
    "D.self_attention.k_layernorm.weight 10;D.self_attention.linear_kvb.weight 32 10;D.self_attention.linear_proj.weight 96 24;"
#define M_BIASES "D.self_attention.linear_proj.bias 96;D.mlp.router.bias 6;D.mlp.experts.linear_fc1.bias0 40;D.mlp.experts.linear_fc2.bias0 96;"

#define H_ENDS "model.embed_tokens.weight 512 96;model.norm.weight 96;lm_head.weight 512 96;"
#define H_NORMS "H.input_layernorm.weight 96;H.post_attention_layernorm.weight 96;"
#define H_ATT "H.self_attn.q_proj.weight 96 96;H.self_attn.k_proj.weight 48 96;H.self_attn.v_proj.weight 48 96;H.self_attn.o_proj.weight 96 96;"
#define H_MLP "H.mlp.gate_proj.weight 200 96;H.mlp.up_proj.weight 200 96;H.mlp.down_proj.weight 96 200;"
#define H_BIAS "H.self_attn.q_proj.bias 96;H.self_attn.k_proj.bias 48;H.self_attn.v_proj.bias 48;"
#define H_QK_NORM "H.self_attn.q_norm.weight 24;H.self_attn.k_norm.weight 24;"
#define H_EXPERT "H.mlp.experts.0.gate_proj.weight 20 96;H.mlp.experts.0.up_proj.weight 20 96;H.mlp.experts.0.down_proj.weight 96 20;"
#define H_MOE "H.mlp.gate.weight 6 96;" H_EXPERT
#define H_W(prefix) "H." prefix "gate.weight 6 96;H." prefix "experts.0.w1.weight 20 96;H." prefix "experts.0.w2.weight 96 20;H." prefix "experts.0.w3.weight 20 96;"
#define H_SHARED(name) "H.mlp." name ".gate_proj.weight 30 96;H.mlp." name ".up_proj.weight 30 96;H.mlp." name ".down_proj.weight 96 30;"
#define H_LATENT "H.self_attn.q_a_proj.weight 12 96;H.self_attn.q_a_layernorm.weight 12;H.self_attn.q_b_proj.weight 24 12;" \
    "H.self_attn.kv_a_proj_with_mqa.weight 14 96;H.self_attn.kv_a_layernorm.weight 10;H.self_attn.kv_b_proj.weight 32 10;H.self_attn.o_proj.weight 96 24;"

struct row { const char *tensors, *args, *family; enum sl_confidence sure; const char *words; };

/* family NULL: words are in why it is not supported; else in the evidence for the family, or, for a guess, in the problem. */
static const struct row from_megatron[] = {
    /* the legacy model, by the same signs */
    {"language_model.embedding.word_embeddings.weight 512 96;L.input_norm.weight 96;L.self_attention.query_key_value.weight 192 96;"
     "L.self_attention.dense.weight 96 96;L.post_attention_norm.weight 96;L.mlp.dense_h_to_4h.weight 400 96;L.mlp.dense_4h_to_h.weight 96 200;"
     "language_model.encoder.final_norm.weight 96;language_model.output_layer.weight 512 96;", NULL, "llama", SL_GUESS, "--model"},
    {"language_model.embedding.word_embeddings.weight 512 96;L.input_norm.weight 96;L.self_attention.query_key_value.weight 192 96;"
     "L.self_attention.query_key_value.bias 192;L.self_attention.dense.weight 96 96;L.post_attention_norm.weight 96;"
     "L.mlp.dense_h_to_4h.weight 400 96;L.mlp.dense_4h_to_h.weight 96 200;language_model.encoder.final_norm.weight 96;"
     "language_model.output_layer.weight 512 96;", NULL, "qwen2", SL_LIKELY, "biases on q, k and v alone"},
    {M_ENDS M_HEAD "D.mixer.in_proj.weight 200 96;D.mixer.A_log 8;", NULL, NULL, SL_GUESS, "Mamba2"},
    {M_ENDS M_HEAD "D.self_attention.in_proj.weight 200 96;D.self_attention.conv1d.weight 100 4;D.self_attention.out_norm.weight 8;" M_MLP, NULL, NULL,
     SL_GUESS, "Qwen3.5"},
    {M_ENDS M_HEAD "D.self_attention.in_proj.weight 200 96;D.self_attention.conv1d.weight 100 4;D.self_attention.out_norm.weight 8;" M_MOE, NULL, NULL,
     SL_GUESS, "Qwen3-Next or Qwen3.5-MoE"},
    {M_ENDS M_FORK M_MLP, NULL, "minicpm3", SL_CERTAIN, "latent attention, and no experts"},
    {M_ENDS M_HEAD M_MIND M_MOE M_SHARED "D.mlp.router.expert_bias 6;", NULL, "deepseek-v3", SL_CERTAIN, "a bias of the router"},
    {M_ENDS M_HEAD M_MIND M_MOE M_SHARED, NULL, "deepseek-v2", SL_CERTAIN, "a router without bias"},
    {M_ENDS M_MIND M_MLP, NULL, "minicpm3", SL_CERTAIN, "latent attention, and no experts"},
    {M_ENDS M_LATENT M_LATENT_Q M_MLP, NULL, "minicpm3", SL_CERTAIN, "latent attention, and no experts"},
    {M_ENDS M_HEAD M_LATENT M_LATENT_Q M_MOE M_SHARED "D.mlp.router.expert_bias 6;", NULL, "deepseek-v3", SL_CERTAIN, "a bias of the router"},
    {M_ENDS M_HEAD M_LATENT M_LATENT_Q "D.pre_mlp_layernorm.weight 96;D.mlp.router.weight 384 96;D.mlp.experts.linear_fc1.weight0 40 96;"
     "D.mlp.experts.linear_fc2.weight0 96 20;" M_SHARED "D.mlp.router.expert_bias 384;", NULL, "kimi-k2", SL_CERTAIN, "as many experts as Kimi-K2"},
    {M_ENDS M_HEAD M_LATENT M_LATENT_Q M_MOE M_SHARED, NULL, "deepseek-v2", SL_CERTAIN, "a router without bias"},
    {M_ENDS M_HEAD M_LATENT M_PLAIN_Q M_MOE M_SHARED, NULL, "deepseek-v2", SL_CERTAIN, "a router without bias"},
    {M_ENDS M_HEAD "D.input_layernorm.weight 96;D.self_attention.linear_qkv_down_proj.weight 26 96;D.self_attention.linear_proj.weight 96 24;" M_MOE, NULL,
     NULL, SL_GUESS, "one matrix for both down projections"},
    {M_ENDS M_HEAD "D.input_layernorm.weight 96;D.self_attention.linear_qk_nope.weight 8 12;D.self_attention.linear_qk_rope.weight 16 12;"
     "D.self_attention.linear_kv_nope.weight 8 10;D.self_attention.linear_v.weight 24 10;D.self_attention.linear_proj.weight 96 24;" M_MOE, NULL, NULL,
     SL_GUESS, "MindSpeed-LLM's split matrices"},
    {M_ENDS M_ATT "D.pre_mlp_layernorm.weight 96;D.mlp.moe_router.weight 6 96;D.mlp.router_norm.weight 6;", NULL, "minicpm-blockffn", SL_CERTAIN, "experts in one array without a gate"},
    {M_ENDS M_HEAD M_ATT M_QKV_BIAS M_MOE M_SHARED "D.mlp.shared_experts.gate_weight 1 96;", NULL, "qwen2-moe", SL_CERTAIN, "a shared expert with a gate"},
    {M_ENDS M_HEAD M_ATT M_QKV_BIAS M_MOE M_SHARED "D.mlp.shared_expert_gate.weight 1 96;", NULL, "qwen2-moe", SL_CERTAIN, "a shared expert with a gate"},
    {M_ENDS M_HEAD M_ATT M_QKV_BIAS M_MOE M_SHARED "D.mlp.router.expert_bias 6;", NULL, "glm4-moe", SL_CERTAIN, "no latent attention"},
    {M_ENDS M_HEAD M_ATT M_MOE M_SHARED, NULL, NULL, SL_GUESS, "shared experts"},
    {M_ENDS M_HEAD M_ATT M_QK_NORM M_MOE, NULL, "qwen3-moe", SL_CERTAIN, "norms of one head on q and on k, and experts"},
    {M_ENDS M_HEAD M_ATT "D.self_attention.q_layernorm.weight 96;D.self_attention.k_layernorm.weight 48;" M_MOE, "num_attention_heads=4", "olmoe",
     SL_CERTAIN, "norms over all heads"},
    {M_ENDS M_HEAD M_ATT M_QKV_BIAS M_BIASES "D.self_attention.core_attention.softmax_offset 4;" M_MOE, NULL, "gpt-oss", SL_CERTAIN, "attention sinks"},
    {M_ENDS M_HEAD M_ATT M_QKV_BIAS "D.self_attention.linear_proj.bias 96;D.self_attention.linear_qkv.layer_norm_bias 96;" M_MOE, NULL, NULL, SL_GUESS,
     "Phi-3.5-MoE"},
    {M_ENDS M_HEAD M_ATT M_MOE, NULL, "mixtral", SL_GUESS, "(MiniCPM-MoE, Mixtral)"},
    {M_ENDS M_HEAD M_ATT M_MOE, "scale_emb=12", "minicpm-moe", SL_CERTAIN, "scale_emb"},
    {M_ENDS M_ATT M_POST M_MLP, NULL, "gemma2", SL_CERTAIN, "norms after attention and after the MLP"},
    {M_ENDS M_ATT "D.post_attn_norm.weight 96;D.post_mlp_layernorm.weight 96;" M_MLP, NULL, "gemma2", SL_CERTAIN, "norms after attention and after the MLP"},
    {M_ENDS M_ATT M_POST M_QK_NORM M_MLP, NULL, "gemma3", SL_CERTAIN, "norms after attention and after the MLP, and of one head"},
    {M_ENDS M_HEAD M_ATT M_POST M_QKV_BIAS M_MLP, NULL, NULL, SL_GUESS, "GLM-4"},
    {M_ENDS M_HEAD M_ATT M_QKV_BIAS M_MLP, NULL, "qwen2", SL_LIKELY, "biases on q, k and v alone"},
    {M_ENDS M_HEAD M_ATT M_QK_NORM M_MLP, NULL, "qwen3", SL_CERTAIN, "norms of one head"},
    {M_ENDS M_HEAD M_ATT "D.self_attention.linear_qkv.layer_norm_bias 96;D.mlp.linear_fc1.layer_norm_weight 96;D.mlp.linear_fc1.weight 200 96;"
     "D.mlp.linear_fc2.weight 96 200;", NULL, NULL, SL_GUESS, "Nemotron-4"},
    {"embedding.word_embeddings.weight 256000 96;decoder.final_layernorm.weight 96;" M_ATT M_MLP, NULL, "gemma", SL_LIKELY, "the vocabulary"},
    {M_ENDS M_HEAD M_ATT M_MLP, NULL, "llama", SL_GUESS, "Llama, MiniCPM, Mistral"},
};

static const struct row from_hugging_face[] = {
    {"transformer.wte.weight 512 96;transformer.h.0.attn.c_attn.weight 288 96;", NULL, NULL, SL_GUESS, "Qwen or GPT-2"},
    {"transformer.embedding.word_embeddings.weight 512 96;transformer.encoder.layers.0.self_attention.query_key_value.weight 192 96;", NULL, NULL, SL_GUESS,
     "ChatGLM"},
    {H_ENDS H_NORMS "H.self_attn.W_pack.weight 288 96;H.self_attn.o_proj.weight 96 96;" H_MLP, NULL, "baichuan", SL_CERTAIN, "q, k and v in one matrix"},
    {"model.embed_tokens.weight 125696 96;model.norm.weight 96;lm_head.weight 125696 96;" H_NORMS "H.self_attn.W_pack.weight 288 96;"
     "H.self_attn.o_proj.weight 96 96;" H_MLP, "vocab_size=125696", NULL, SL_GUESS, "Baichuan 2"},
    {"model.tok_embeddings.weight 512 96;model.norm.weight 96;output.weight 512 96;H.attention_norm.weight 96;H.ffn_norm.weight 96;H.attention.wqkv.weight 192 96;"
     "H.attention.wo.weight 96 96;H.feed_forward.w1.weight 200 96;H.feed_forward.w3.weight 200 96;H.feed_forward.w2.weight 96 200;", NULL, "internlm2",
     SL_CERTAIN, "wqkv"},
    {H_ENDS H_NORMS "H.self_attn.qkv_proj.weight 192 96;H.self_attn.o_proj.weight 96 96;H.mlp.gate_up_proj.weight 400 96;H.mlp.down_proj.weight 96 200;", NULL,
     "phi3", SL_CERTAIN, "q, k and v in one matrix"},
    {H_ENDS H_NORMS H_ATT H_W("block_sparse_moe."), NULL, "mixtral", SL_LIKELY, "experts under block_sparse_moe"},
    {H_ENDS H_NORMS H_ATT H_BIAS "H.self_attn.o_proj.bias 96;H.input_layernorm.bias 96;lm_head.bias 512;" H_W("block_sparse_moe."), NULL, NULL, SL_GUESS,
     "Phi-3.5-MoE"},
    {H_ENDS H_NORMS H_LATENT H_MOE H_SHARED("shared_experts") "H.mlp.gate.e_score_correction_bias 6;", NULL, "deepseek-v3", SL_CERTAIN, "a bias of the router"},
    {H_ENDS H_NORMS H_LATENT H_MOE H_SHARED("shared_experts"), NULL, "deepseek-v2", SL_CERTAIN, "a router without bias"},
    {H_ENDS H_NORMS H_LATENT H_MLP, NULL, "minicpm3", SL_CERTAIN, "latent attention, and no experts"},
    {"backbone.embeddings.weight 512 96;backbone.layers.0.mixer.in_proj.weight 200 96;", NULL, NULL, SL_GUESS, "Mamba2"},
    {H_ENDS H_NORMS "H.linear_attn.in_proj_qkvz.weight 200 96;" H_MOE, NULL, NULL, SL_GUESS, "Qwen3-Next"},
    {H_ENDS H_NORMS "H.linear_attn.in_proj_qkv.weight 200 96;" H_MLP, NULL, NULL, SL_GUESS, "Qwen3.5"},
    {H_ENDS H_NORMS H_ATT H_W("mlp."), NULL, "minicpm-moe", SL_CERTAIN, "under mlp"},
    {H_ENDS H_NORMS "H.pre_feedforward_layernorm.weight 96;H.post_feedforward_layernorm.weight 96;" H_ATT H_MLP, NULL, "gemma2", SL_CERTAIN, "norms after"},
    {H_ENDS H_NORMS "H.pre_feedforward_layernorm.weight 96;H.post_feedforward_layernorm.weight 96;" H_ATT H_QK_NORM H_MLP, NULL, "gemma3", SL_CERTAIN,
     "norms after attention and after the MLP, and of one head"},
    {H_ENDS H_NORMS "H.post_self_attn_layernorm.weight 96;H.post_mlp_layernorm.weight 96;" H_ATT H_BIAS "H.mlp.gate_up_proj.weight 400 96;"
     "H.mlp.down_proj.weight 96 200;", NULL, NULL, SL_GUESS, "GLM-4"},
    {H_ENDS H_NORMS H_ATT H_BIAS "H.self_attn.o_proj.bias 96;H.self_attn.sinks 4;H.mlp.router.weight 6 96;H.mlp.router.bias 6;H.mlp.experts.gate_up_proj 6 96 40;"
     "H.mlp.experts.gate_up_proj_bias 6 40;H.mlp.experts.down_proj 6 20 96;H.mlp.experts.down_proj_bias 6 96;", NULL, "gpt-oss", SL_CERTAIN, "attention sinks"},
    {H_ENDS H_NORMS H_ATT H_BIAS H_MLP, NULL, "qwen2", SL_LIKELY, "biases on q, k and v alone"},
    {H_ENDS H_NORMS H_ATT H_BIAS H_MOE H_SHARED("shared_expert") "H.mlp.shared_expert_gate.weight 1 96;", NULL, "qwen2-moe", SL_CERTAIN, "a shared expert with a gate"},
    {H_ENDS H_NORMS H_ATT H_BIAS H_MOE H_SHARED("shared_experts") "H.mlp.gate.e_score_correction_bias 6;", NULL, "glm4-moe", SL_CERTAIN, "no latent attention"},
    {H_ENDS H_NORMS H_ATT H_QK_NORM H_MLP, NULL, "qwen3", SL_CERTAIN, "norms of one head"},
    {H_ENDS H_NORMS H_ATT H_QK_NORM H_MOE, NULL, "qwen3-moe", SL_CERTAIN, "norms of one head on q and on k, and experts"},
    {H_ENDS H_NORMS H_ATT "H.self_attn.q_norm.weight 96;H.self_attn.k_norm.weight 48;" H_MOE, "num_attention_heads=4", "olmoe", SL_CERTAIN, "norms over all heads"},
    {H_ENDS H_NORMS H_ATT H_MLP, NULL, "llama", SL_GUESS, "Llama, MiniCPM, Mistral"},
    {H_ENDS H_NORMS H_ATT H_MLP, "model_type=minicpm", "minicpm", SL_CERTAIN, "config.json"},
    {H_ENDS H_NORMS H_ATT H_MLP, "scale_emb=12", "minicpm", SL_CERTAIN, "scale_emb"},
    {H_ENDS H_NORMS H_ATT "H.mlp.gate.weight 6 96;H.mlp.experts.gate_up_proj 6 40 96;H.mlp.experts.down_proj 6 96 20;", NULL, "mixtral", SL_LIKELY,
     "no other family"},
};

/* ---- making ------------------------------------------------------------------------------------ */

static void add_tensor(struct sl_ckpt *c, int32_t rank, const char *text)
{
    static const struct { const char *word, *stands_for; } shorts[] = {
        {"D.", "decoder.layers.0."}, {"H.", "model.layers.0."}, {"L.", "language_model.encoder.layers.0."}};
    char name[128], whole[160];
    long long a = 0, b = 0, d = 0;
    const int read = sscanf(text, "%127s %lld %lld %lld", name, &a, &b, &d);
    snprintf(whole, sizeof whole, "%s", name);
    for (size_t i = 0; i < sizeof shorts / sizeof *shorts; i++)
        if (!strncmp(name, shorts[i].word, 2))
            snprintf(whole, sizeof whole, "%s%s", shorts[i].stands_for, name + 2);
    assert_true(read >= 2);
    if (read == 4)
        made_add3(c, rank, whole, a, b, d);
    else
        made_add(c, rank, 0, whole, a, b);
}

static struct sl_ckpt *make(const struct row *r, bool hf)
{
    struct sl_ckpt *c = made((struct made_shape){.hf = hf});
    c->tensor_count = 0;
    for (const char *at = r->tensors; *at; at = strchr(at, ';') + 1)
        add_tensor(c, hf ? -1 : 0, sl_arena_strn(&c->arena, at, (size_t)(strchr(at, ';') - at)));
    if (r->args && hf)
        c->hf_config = made_args(c, r->args, NULL);
    else if (r->args)
        c->args = made_args(c, r->args, NULL);
    return c;
}

static bool evidence_says(const struct sl_model *m, const char *family, const char *words)
{
    char fact[64];
    snprintf(fact, sizeof fact, "family=%s", family);
    for (size_t i = 0; i < m->evidence_count; i++)
        if (!strcmp(m->evidence[i].fact, fact) && strstr(m->evidence[i].from, words))
            return true;
    return false;
}

static const struct sl_problem *problem_of(const struct sl_model *m, const char *code)
{
    for (size_t i = 0; i < m->problems.count; i++)
        if (!strcmp(m->problems.items[i].code, code))
            return &m->problems.items[i];
    return NULL;
}

/* What is wrong with the answer; NULL: nothing. */
static const char *judge(const struct sl_model *m, const struct row *r)
{
    const struct sl_problem *ambiguous = problem_of(m, "family-ambiguous");
    if (!m->family || !r->family)
        return m->family || r->family ? "another family" : !m->unsupported || !strstr(m->unsupported, r->words) ? "another reason" : NULL;
    if (strcmp(m->family->name, r->family))
        return "another family";
    if (m->confidence != r->sure)
        return "another confidence";
    if (r->sure != SL_GUESS)
        return ambiguous ? "said to be ambiguous" : evidence_says(m, r->family, r->words) ? NULL : "no such evidence";
    return ambiguous && strstr(ambiguous->message, r->words) && strstr(ambiguous->message, "--model") ? NULL : "no such question";
}

static void walk(const struct row *rows, size_t count, bool hf)
{
    int wrong = 0;
    for (size_t i = 0; i < count; i++) {
        struct sl_ckpt *c = make(&rows[i], hf);
        struct sl_model *m;
        struct sl_error err;
        if (sl_model_detect(c, &families, NULL, &m, &err))
            fail_msg("row %zu: %s: %s", i, err.where, err.message);
        const char *why = judge(m, &rows[i]);
        const struct sl_problem *ambiguous = problem_of(m, "family-ambiguous");
        if (why) {
            print_message("row %zu (%s; %s): %s: %s, %d; %s; %s\n", i, rows[i].family ? rows[i].family : "none", rows[i].words, why,
                          m->family ? m->family->name : "none", (int)m->confidence, m->unsupported ? m->unsupported : "",
                          ambiguous ? ambiguous->message : "");
            for (size_t k = 0; k < m->evidence_count; k++)
                print_message("    %s: %s\n", m->evidence[k].fact, m->evidence[k].from);
        }
        wrong += why != NULL;
        sl_model_free(m);
        made_free(c);
    }
    assert_int_equal(wrong, 0);
}

TEST(each_row_of_the_table_from_megatron_names) { walk(from_megatron, sizeof from_megatron / sizeof *from_megatron, false); }
TEST(each_row_of_the_table_from_hugging_face_names) { walk(from_hugging_face, sizeof from_hugging_face / sizeof *from_hugging_face, true); }

/* Signs for another family are told beside those for the chosen one, unless it is certain. */
TEST(the_family_that_comes_next_is_told_with_its_best_sign)
{
    const struct row rows[] = {
        {M_ENDS M_HEAD M_ATT M_MLP, "rotary_base=500000", "llama", SL_LIKELY, "nothing speaks for it"},
        {M_ENDS M_HEAD M_ATT M_MLP, "init_method_std=0.1", "minicpm", SL_GUESS, "nothing speaks for it"},
        {M_ENDS M_HEAD M_ATT M_MLP, "save=/ckpt/llama-or-minicpm", "minicpm", SL_GUESS, "the checkpoint's path names Llama"},
        {M_ENDS M_HEAD M_ATT M_MLP, "scale_emb=12", "minicpm", SL_CERTAIN, NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sl_ckpt *c = make(&rows[i], false);
        struct sl_model *m;
        assert_int_equal(sl_model_detect(c, &families, NULL, &m, NULL), SL_OK);
        const char *next = NULL;
        for (size_t k = 0; k < m->evidence_count; k++)
            if (sl_text_starts(m->evidence[k].fact, "next family="))
                next = m->evidence[k].from;
        assert_string_equal(m->family->name, rows[i].family);
        assert_int_equal(m->confidence, rows[i].sure);
        if (!rows[i].words != !next || (next && strcmp(next, rows[i].words)))
            fail_msg("%s: %s", rows[i].args, next ? next : "none");
        sl_model_free(m);
        made_free(c);
    }
}

/* What config.json or args say, against what is there. */
TEST(words_that_the_tensors_contradict_are_problems)
{
    static const struct { struct row row; bool hf; const char *says; } cases[] = {
        {{H_ENDS H_NORMS H_ATT H_QK_NORM H_MLP, "model_type=llama", NULL, SL_GUESS, NULL}, true,
         "config.json names Llama, which needs !qk_norm, and the tensors are not so; they are those of Qwen3 (--model qwen3)"},
        {{H_ENDS H_NORMS H_ATT H_MLP, "model_type=mixtral", NULL, SL_GUESS, NULL}, true, "config.json names Mixtral, which needs moe"},
        {{H_ENDS H_NORMS H_ATT H_MLP, "model_type=llama", "llama", SL_CERTAIN, NULL}, true, NULL},
        {{M_ENDS M_HEAD M_ATT M_MLP, "num_experts=8", "llama", SL_GUESS, NULL}, false, "args say num_experts is 8, the tensors have no experts"},
        {{M_ENDS M_HEAD M_ATT M_MLP, "multi_latent_attention=true", "llama", SL_GUESS, NULL}, false, "args say multi_latent_attention"},
        {{M_ENDS M_HEAD M_ATT M_MLP, "qk_layernorm=true", "llama", SL_GUESS, NULL}, false, "args say qk_layernorm"},
        {{M_ENDS M_HEAD M_ATT M_QK_NORM M_MLP, "qk_layernorm=true", "qwen3", SL_CERTAIN, NULL}, false, NULL},
        {{M_ENDS M_LATENT M_LATENT_Q M_MLP, "multi_latent_attention=true", "minicpm3", SL_CERTAIN, NULL}, false, NULL},
        {{M_ENDS M_HEAD M_ATT M_MOE, "num_experts=6", "mixtral", SL_GUESS, NULL}, false, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_ckpt *c = make(&cases[i].row, cases[i].hf);
        struct sl_model *m;
        assert_int_equal(sl_model_detect(c, &families, NULL, &m, NULL), SL_OK);
        const struct sl_problem *p = problem_of(m, "config-contradiction");
        if (!p != !cases[i].says || (p && !strstr(p->message, cases[i].says)))
            fail_msg("%s: %s", cases[i].row.args, p ? p->message : "nothing");
        if (!m->family != !cases[i].row.family || (m->family && strcmp(m->family->name, cases[i].row.family)))
            fail_msg("%s: family %s", cases[i].row.args, m->family ? m->family->name : "none");
        sl_model_free(m);
        made_free(c);
    }
}

/* T5 of Hugging Face has a final_layer_norm, as Megatron's legacy model does, and nothing of its attention. */
TEST(a_model_with_one_name_of_the_legacy_one_is_asked_nothing_about_it)
{
    const struct row t5 = {"shared.weight 71 32;encoder.block.0.layer.0.SelfAttention.q.weight 32 32;encoder.final_layer_norm.weight 32;"
                           "decoder.final_layer_norm.weight 32;", "model_type=t5", NULL, SL_GUESS, "model_type t5"};
    struct sl_ckpt *c = make(&t5, true);
    struct sl_model *m;
    c->checkpoint_version = -1;
    assert_int_equal(sl_model_detect(c, &families, NULL, &m, NULL), SL_OK);
    assert_null(judge(m, &t5));
    assert_null(problem_of(m, "config-missing"));
    sl_model_free(m);
    made_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(each_row_of_the_table_from_megatron_names),
        ROW(each_row_of_the_table_from_hugging_face_names),
        ROW(the_family_that_comes_next_is_told_with_its_best_sign),
        ROW(words_that_the_tensors_contradict_are_problems),
        ROW(a_model_with_one_name_of_the_legacy_one_is_asked_nothing_about_it),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
