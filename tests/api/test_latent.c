/* test_latent.c: latent attention, experts with a bias of their router, a layer that predicts
 * a further token, and 8-bit floats: every byte against what Megatron-core and torch say
 * (tests/fixtures/latent_files.py). Numbers of weights are worked out from its sizes. */
#include "golden.h"

#include "base/io.h"

static void convert(const char *source, const char *target, const struct sl_plan_options *o)
{
    struct sl_checkpoint *ck = opened(source);
    struct sl_plan *plan = NULL;
    struct sl_job *job = NULL;
    if (sl_plan_make(ck, target, o, &plan, &err) || sl_convert_start(plan, NULL, &job, &err) || sl_job_wait(job, &err))
        fail_msg("%s: %s: %s", source, err.where, err.message);
    assert_true(sl_job_summary(job)->verified);
    sl_job_free(job);
    sl_plan_free(plan);
    sl_close(ck);
}

static bool same_rank(const struct sl_checkpoint *a, const struct sl_tensor *t, const struct sl_checkpoint *b, const struct sl_tensor *u)
{
    if (t->rank < 0 || u->rank < 0)
        return t->rank < 0 && u->rank < 0;
    const struct sl_rank *x = &sl_info(a)->ranks[t->rank], *y = &sl_info(b)->ranks[u->rank];
    return x->tp == y->tp && x->pp == y->pp && x->ep == y->ep;
}

static bool is_vocabulary(const char *name)
{
    return strstr(name, "word_embeddings") || !strcmp(name, "output_layer.weight");
}

/* Is every weight of one in the other, with the same bytes, and nothing else? Vocabularies of Megatron (13 words in 16
 * rows, 8 on each of two ranks) have noise for padding. */
static void equal(const char *made, const char *expected)
{
    struct sl_checkpoint *a = opened(made), *b = opened(expected);
    size_t weights = 0, others = 0;
    for (size_t i = 0; i < sl_tensor_count(a); i++) {
        const struct sl_tensor *t = sl_tensor_at(a, i), *u = NULL;
        size_t k = 0;
        if (t->flags & (SL_TENSOR_EXTRA | SL_TENSOR_OPTIMIZER))
            continue;
        while ((u = sl_tensor_at(b, k)) && (strcmp(u->name, t->name) || !same_rank(a, t, b, u)))
            k++;
        if (!u)
            fail_msg("%s is not expected", t->name);
        assert_int_equal(t->dtype, u->dtype);
        assert_int_equal(t->ndim, u->ndim);
        assert_memory_equal(t->shape, u->shape, t->ndim * sizeof *t->shape);
        unsigned char *x = malloc(t->bytes), *y = malloc(u->bytes);
        assert_int_equal(sl_tensor_read(a, i, 0, t->count, x, &err), 0);
        assert_int_equal(sl_tensor_read(b, k, 0, u->count, y, &err), 0);
        const bool last = t->rank >= 0 && is_vocabulary(t->name) && sl_info(a)->ranks[t->rank].tp == 1;
        if (memcmp(x, y, last ? t->bytes / 8 * 5 : t->bytes))
            fail_msg("%s differs", t->name);
        free(x);
        free(y);
        weights++;
    }
    for (size_t k = 0; k < sl_tensor_count(b); k++)
        others += !(sl_tensor_at(b, k)->flags & (SL_TENSOR_EXTRA | SL_TENSOR_OPTIMIZER));
    assert_int_equal(weights, others);
    sl_close(a);
    sl_close(b);
}

static int64_t setting(const struct sl_checkpoint *ck, const char *key)
{
    const struct sl_setting *s = sl_config_get(ck, key);
    if (!s)
        fail_msg("%s is not known", key);
    return s->value->i;
}

/* deepseek3, a layer: attention 12 + 10*12 + 10 + 2*5*10 + 8*12 + 6 + 2*7*6 + 12*8 = 524, a norm 12; dense MLP 3*14*12; router
 * 4*12 + 4, shared 3*16*12, experts 4 * 3*8*12 = 1152. Embedding and head 2 * 13*12, a norm 12. The further token's layer is
 * one with experts, and 12 + 12 + 12*24 + 12 more.
 * minicpm3: two layers of 16 + 10*16 + 10 + 4*7*10 + 10*16 + 6 + 4*5*6 + 16*8 + 16 + 3*14*16 = 1568; embedding 13*16, a norm. */
static const struct { const char *source, *expected, *family; int32_t tp, pp, ep; uint64_t params, active; int64_t heads, q_lora, nope, rope, v; } rows[] = {
    { "deepseek3_tp2_pp1_ep2_etp1", "deepseek3", "deepseek-v3", 2, 1, 2, 6320, 3680 - 1152 + 576, 2, 10, 3, 2, 4 },
    { "minicpm3_tp2_pp2_ep1_etp1", "minicpm3", "minicpm3", 2, 2, 1, 3360, 0, 4, 10, 3, 4, 2 },
};
#define ROWS (sizeof rows / sizeof *rows)

TEST(sizes_of_latent_attention_are_told_from_shapes)
{
    for (size_t i = 0; i < ROWS; i++) {
        char source[128];
        snprintf(source, sizeof source, FIXTURES "%s", rows[i].source);
        struct sl_checkpoint *ck = opened(source);
        assert_string_equal(sl_info(ck)->family, rows[i].family);
        assert_int_equal(sl_info(ck)->params, rows[i].params);
        assert_int_equal(setting(ck, "num_attention_heads"), rows[i].heads);
        assert_int_equal(setting(ck, "q_lora_rank"), rows[i].q_lora);
        assert_int_equal(setting(ck, "kv_lora_rank"), 6);
        assert_int_equal(setting(ck, "qk_head_dim"), rows[i].nope);
        assert_int_equal(setting(ck, "qk_pos_emb_head_dim"), rows[i].rope);
        assert_int_equal(setting(ck, "v_head_dim"), rows[i].v);
        if (rows[i].active) {
            assert_int_equal(sl_info(ck)->moe->active_params, rows[i].active);
            assert_int_equal(sl_info(ck)->moe->expert_params, 2 * 1152);
            assert_int_equal(sl_info(ck)->moe->layer_count, 1);
            assert_int_equal(sl_info(ck)->moe->layers[0], 1);
            assert_int_equal(setting(ck, "mtp_num_layers"), 1);
        }
        sl_close(ck);
    }
}

TEST(latent_attention_becomes_what_hugging_face_must_get)
{
    const struct sl_plan_options o = { .format = SL_TO_HF, .iteration = -1 };
    for (size_t i = 0; i < ROWS; i++) {
        char source[128], expected[128];
        snprintf(source, sizeof source, FIXTURES "%s", rows[i].source);
        snprintf(expected, sizeof expected, FIXTURES "%s.expected.safetensors", rows[i].expected);
        convert(source, in(rows[i].expected), &o);
        equal(in(rows[i].expected), expected);
    }
}

TEST(hugging_face_becomes_what_megatron_stores_on_each_rank)
{
    for (size_t i = 0; i < ROWS; i++) {
        const struct sl_plan_options o = { .format = SL_TO_MEGATRON, .iteration = 7, .tp = rows[i].tp, .pp = rows[i].pp, .ep = rows[i].ep,
                                           .etp = 1, .names = "local", .experts = "local", .vocab_divisor = 4 };
        char source[128], expected[128];
        snprintf(source, sizeof source, FIXTURES "%s.expected.safetensors", rows[i].expected);
        snprintf(expected, sizeof expected, FIXTURES "%s", rows[i].source);
        convert(source, in(rows[i].expected), &o);
        equal(in(rows[i].expected), expected);
    }
}

TEST(latent_attention_goes_through_another_cut_and_other_names_unchanged)
{
    const struct sl_plan_options te = { .format = SL_TO_MEGATRON, .iteration = -1, .tp = 1, .pp = 2, .ep = 4, .etp = 1 };
    const struct sl_plan_options wide = { .format = SL_TO_MEGATRON, .iteration = -1, .tp = 2 }, hf = { .format = SL_TO_HF, .iteration = -1 };
    convert(FIXTURES "deepseek3_tp2_pp1_ep2_etp1", in("te"), &te);
    convert(in("te"), in("hf"), &hf);
    equal(in("hf"), FIXTURES "deepseek3.expected.safetensors");
    for (int te_names = 0; te_names < 2; te_names++) {
        const struct sl_plan_options dist = { .format = SL_TO_TORCH_DIST, .iteration = -1, .names = te_names ? "te" : "local" };
        char at[32], back[32];
        snprintf(at, sizeof at, "dist%d", te_names);
        snprintf(back, sizeof back, "back%d", te_names);
        convert(FIXTURES "deepseek3_tp2_pp1_ep2_etp1", in(at), &dist);
        struct sl_checkpoint *ck = opened(in(at));
        for (size_t i = 0; i < sl_tensor_count(ck); i++)                 /* one name of it is written, two are read */
            assert_null(strstr(sl_tensor_at(ck, i)->name, "mtp_model_layer"));
        sl_close(ck);
        convert(in(at), in(back), &hf);
        equal(in(back), FIXTURES "deepseek3.expected.safetensors");
    }
    convert(FIXTURES "minicpm3_tp2_pp2_ep1_etp1", in("wide"), &wide);
    convert(in("wide"), in("hf3"), &hf);
    equal(in("hf3"), FIXTURES "minicpm3.expected.safetensors");
}

TEST(a_bias_of_the_router_keeps_its_type)
{
    const struct sl_plan_options o = { .format = SL_TO_HF, .iteration = -1, .dtype = SL_F16 };
    convert(FIXTURES "deepseek3_tp2_pp1_ep2_etp1", in("half"), &o);
    struct sl_checkpoint *ck = opened(in("half"));
    assert_int_equal(logical(ck, "model.layers.1.mlp.gate.e_score_correction_bias")->dtype, SL_F32);
    assert_int_equal(logical(ck, "model.layers.1.mlp.gate.weight")->dtype, SL_F16);
    sl_close(ck);
}

TEST(eight_bit_floats_become_the_products_that_torch_makes_of_them)
{
    const struct sl_plan_options hf = { .format = SL_TO_HF, .iteration = -1 };
    const struct sl_plan_options cut = { .format = SL_TO_MEGATRON, .iteration = -1, .tp = 2, .ep = 2, .etp = 2 };
    convert(FIXTURES "deepseek3_fp8", in("hf"), &hf);
    equal(in("hf"), FIXTURES "deepseek3_fp8.expected.safetensors");
    convert(FIXTURES "deepseek3_fp8", in("cut"), &cut);
    convert(in("cut"), in("back"), &hf);
    equal(in("back"), FIXTURES "deepseek3_fp8.expected.safetensors");
}

static uint64_t differing(const char *a, const char *b)
{
    struct sl_checkpoint *x = opened(a), *y = opened(b);
    struct sl_job *job;
    assert_int_equal(sl_verify_start(x, y, NULL, &job, &err), 0);
    assert_int_equal(sl_job_wait(job, &err), 0);
    const struct sl_summary *s = sl_job_summary(job);
    const uint64_t different = s->different + s->only_a + s->only_b;
    assert_true(s->equal > 0);
    sl_job_free(job);
    sl_close(x);
    sl_close(y);
    return different;
}

TEST(eight_bit_floats_are_verified_by_their_products)
{
    assert_int_equal(differing(FIXTURES "deepseek3_fp8", FIXTURES "deepseek3_fp8.expected.safetensors"), 0);
    assert_int_equal(differing(FIXTURES "deepseek3_fp8.expected.safetensors", FIXTURES "deepseek3_fp8"), 0);
    assert_int_equal(differing(FIXTURES "deepseek3_fp8", FIXTURES "deepseek3_fp8"), 0);
    assert_true(differing(FIXTURES "deepseek3_fp8", FIXTURES "deepseek3.expected.safetensors") > 0);
}


TEST(a_plan_tells_where_eight_bit_floats_are_multiplied)
{
    struct sl_checkpoint *ck = opened(FIXTURES "deepseek3_fp8");
    struct sl_plan *plan = planned(ck, NULL);
    struct sl_piece_info piece;
    const size_t q = target_named(plan, "model.layers.0.self_attn.o_proj.weight");
    assert_int_equal(sl_plan_pieces(plan, q, &piece, 1), 1);
    assert_string_equal(piece.op, "scale");
    assert_string_equal(sl_plan_target(plan, q)->rule, "copy, scale");
    assert_int_equal(sl_plan_target(plan, q)->source_dtype, SL_F8_E4M3);
    assert_int_equal(sl_plan_target(plan, q)->dtype, SL_BF16);
    size_t factors = 0;
    for (size_t i = 0; i < sl_plan_info(plan)->left_out_count; i++)
        factors += strstr(sl_plan_info(plan)->left_out[i].why, "factors of blocks") != NULL;
    /* five of attention in each of three layers; three of the dense MLP; shared and four experts in each of two */
    assert_int_equal(factors, 3 * 5 + 3 + 2 * 5 * 3);
    sl_plan_free(plan);
    sl_close(ck);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(sizes_of_latent_attention_are_told_from_shapes),
        IN_FOLDER(latent_attention_becomes_what_hugging_face_must_get),
        IN_FOLDER(hugging_face_becomes_what_megatron_stores_on_each_rank),
        IN_FOLDER(latent_attention_goes_through_another_cut_and_other_names_unchanged),
        IN_FOLDER(a_bias_of_the_router_keeps_its_type),
        IN_FOLDER(eight_bit_floats_become_the_products_that_torch_makes_of_them),
        IN_FOLDER(eight_bit_floats_are_verified_by_their_products),
        IN_FOLDER(a_plan_tells_where_eight_bit_floats_are_multiplied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
