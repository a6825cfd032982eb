/* test_models.c: the database: every published dense row is recognised from
 * headers of its shape, and every nominal preset is a one-word conversion. Sizes
 * and parameter counts are those that the models' publishers give. */
#include "families.h"
#include "made.h"

#include "model/internal.h"
#include <shardlens/shardlens.h>

/* What config.json of the published models says of latent attention and experts. */
static const struct latent { const char *name; int64_t q_lora, kv_lora, nope, rope, v, shared, dense; } latents[] = {
    {"MiniCPM3-4B", 768, 256, 64, 32, 64, 0, 0}, {"DeepSeek-V2-Lite", 0, 512, 128, 64, 128, 2816, 1},
    {"DeepSeek-V2", 1536, 512, 128, 64, 128, 3072, 1}, {"DeepSeek-V2.5", 1536, 512, 128, 64, 128, 3072, 1},
    {"DeepSeek-V3", 1536, 512, 128, 64, 128, 2048, 3}, {"DeepSeek-R1", 1536, 512, 128, 64, 128, 2048, 3},
    {"Moonlight-16B-A3B", 0, 512, 128, 64, 128, 2816, 1}, {"Kimi-K2", 1536, 512, 128, 64, 128, 2048, 1}};

static const struct latent *latent_of(const struct sl_model_row *row)
{
    for (size_t i = 0; i < sizeof latents / sizeof *latents; i++)
        if (!strcmp(latents[i].name, row->name))
            return &latents[i];
    return NULL;
}

static void add_latent(struct made_shape *s, const struct sl_model_row *row)
{
    const struct latent *l = latent_of(row);
    if (!l)
        return;
    s->heads = row->heads, s->q_lora = l->q_lora, s->kv_lora = l->kv_lora;
    s->nope = l->nope, s->rope = l->rope, s->v = l->v;
    s->shared = l->shared, s->dense = l->dense, s->dense_ffn = row->ffn;
    s->expert_bias = l->shared && strcmp(row->family, "deepseek-v2");
}

static struct made_shape shape_of(const struct sl_model_row *row, int32_t tp)
{
    const struct sl_model_facts *facts = sl_model_row_facts(row);
    const int64_t step = 128 * (int64_t)tp, vocab = (row->vocab + step - 1) / step * step;
    struct made_shape s = {
        .layers = row->layers, .hidden = row->hidden, .ffn = row->experts ? facts->moe_ffn : row->ffn,
        .moe = row->experts > 0, .experts = row->experts,
        /* as wide as the chosen experts together (config.json of both published models: 5632 and 20480) */
        .shared = !strcmp(row->family, "qwen2-moe") ? (int64_t)row->topk * facts->moe_ffn : 0, .tp = tp, .te = true, .tied = facts->tied == 1,
        .qd = (int64_t)row->heads * row->head_dim, .kvd = (int64_t)row->kv_heads * row->head_dim, .vocab = vocab,
        .qkv_bias = strstr(facts->flags, "!qkv_bias") == NULL, .qk_norm = strstr(facts->flags, "!qk_norm") == NULL,
        .norm = row->head_dim};
    s.shared_gate = s.shared > 0;
    s.post_norms = strstr(facts->flags, "!post_norms") == NULL;
    if (!strcmp(row->family, "olmoe"))               /* norms over all heads, of which q and k have as many */
        s.norm = s.qd;
    if (!strcmp(row->family, "gpt-oss"))
        s.sinks = true, s.heads = row->heads;
    if (!strcmp(row->family, "glm4-moe"))            /* first_k_dense_replace of the published config.json: 3, and 1 of Air */
        s.shared = facts->moe_ffn, s.expert_bias = true, s.dense = row->layers > 50 ? 3 : 1, s.dense_ffn = row->ffn;
    if (latent_of(row))
        s.qk_norm = false;
    add_latent(&s, row);
    return s;
}

static void check_row(const struct sl_model_row *row)
{
    struct sl_ckpt *c = made(shape_of(row, 2));
    struct sl_model *m;
    struct sl_error err;
    int64_t size = 0, heads = 0, groups = 0;
    if (sl_model_detect(c, &families, NULL, &m, &err))
        fail_msg("%s: %s", row->name, err.message);
    if (!m->name || !strstr(m->name, row->name) || m->missing)
        fail_msg("%s is called %s (missing: %s)", row->name, m->name ? m->name : "nothing", m->missing ? m->missing : "-");
    if (!m->family || strcmp(m->family->name, row->family))
        fail_msg("%s is of family %s", row->name, m->family ? m->family->name : "none");
    assert_true(sl_model_int(m, "kv_channels", &size) && sl_model_int(m, "num_attention_heads", &heads)
                && sl_model_int(m, "num_query_groups", &groups));
    assert_int_equal(size, latent_of(row) ? latent_of(row)->v : row->head_dim);
    assert_int_equal(heads, row->heads);
    assert_int_equal(groups, row->kv_heads);
    assert_int_equal(m->vocab, row->vocab);
    if (m->params != row->params)
        fail_msg("%s: %llu params, %llu published", row->name, (unsigned long long)m->params, (unsigned long long)row->params);
    sl_model_free(m);
    made_free(c);
}

TEST(every_published_model_of_a_described_family_is_recognised_from_its_shape)
{
    const struct sl_model_row *rows;
    const size_t count = sl_model_rows(&rows);
    size_t checked = 0;
    for (size_t i = 0; i < count; i++)
        if (!rows[i].nominal && sl_family_find(&families, rows[i].family)) {
            check_row(&rows[i]);
            checked++;
        }
    assert_true(checked >= 50);
}

TEST(rows_are_complete_and_have_names_of_their_own)
{
    const struct sl_model_row *rows;
    const size_t count = sl_model_rows(&rows);
    assert_int_equal(count, 112);
    for (size_t i = 0; i < count; i++) {
        assert_true(*rows[i].name && *rows[i].option && *rows[i].family && *rows[i].source && rows[i].layers && rows[i].heads);
        assert_ptr_equal(sl_model_row_find(rows[i].option), &rows[i]);
        assert_ptr_equal(sl_model_row_find(rows[i].name), &rows[i]);
        const char *flags = sl_model_row_facts(&rows[i])->flags;
        assert_true(rows[i].nominal ? !*flags : *flags);
    }
    assert_null(sl_model_row_find("gpt-5"));
}

TEST(nominal_presets_have_the_layers_heads_and_parallel_sizes_of_their_table)
{
    static const struct { const char *option; int32_t layers, heads, tp, pp; } wanted[] = {
        {"minicpm-0.5b", 12, 32, 1, 1}, {"minicpm-1.5b", 18, 32, 1, 1}, {"minicpm-3b", 24, 32, 1, 1},
        {"minicpm-8b", 32, 32, 2, 1},   {"minicpm-14b", 40, 32, 4, 1},  {"llama-7b", 32, 32, 1, 1},
        {"llama-13b", 40, 40, 2, 1},    {"llama-30b", 60, 52, 4, 1},    {"llama-65b", 80, 64, 8, 1}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const struct sl_model_row *row = sl_model_row_find(wanted[i].option);
        assert_non_null(row);
        assert_true(row->nominal);
        assert_int_equal(row->layers, wanted[i].layers);
        assert_int_equal(row->heads, wanted[i].heads);
        assert_int_equal(row->kv_heads, 8);
        assert_int_equal(row->tp, wanted[i].tp);
        assert_int_equal(row->pp, wanted[i].pp);
    }
}

/* A preset says how many query heads there are; the rest is in the shapes, KV heads too. */
static void convert_in_one_word(const char *option, const char *family, int64_t head, int64_t groups)
{
    const struct sl_model_row *row = sl_model_row_find(option);
    struct sl_ckpt *c = made((struct made_shape){.layers = row->layers, .hidden = row->heads * head, .ffn = 1024,
        .qd = row->heads * head, .kvd = groups * head, .vocab = 5120, .tp = row->tp, .tied = false});
    const struct sl_model_options options = {.model = option};
    struct sl_model *m;
    struct sl_error err;
    int64_t found = 0;
    if (sl_model_detect(c, &families, &options, &m, &err))
        fail_msg("%s: %s", option, err.message);
    assert_string_equal(m->family->name, family);
    assert_int_equal(m->confidence, SL_CERTAIN);
    assert_null(m->missing);
    assert_true(sl_model_int(m, "kv_channels", &found));
    assert_int_equal(found, head);
    assert_true(sl_model_int(m, "num_query_groups", &found));
    assert_int_equal(found, groups);
    sl_model_free(m);
    made_free(c);
}

TEST(each_nominal_preset_settles_family_and_heads_of_a_bare_checkpoint)
{
    static const char *const minicpm[] = {"minicpm-0.5b", "minicpm-1.5b", "minicpm-3b", "minicpm-8b", "minicpm-14b"};
    for (size_t i = 0; i < sizeof minicpm / sizeof *minicpm; i++) {
        convert_in_one_word(minicpm[i], "minicpm", 64, 8);
        convert_in_one_word(minicpm[i], "minicpm", 64, 32);     /* MHA: the tensors' KV heads count */
        convert_in_one_word(minicpm[i], "minicpm", 128, 2);
    }
    convert_in_one_word("llama-7b", "llama", 128, 32);
    convert_in_one_word("llama-7b", "llama", 128, 8);
    convert_in_one_word("llama-13b", "llama", 128, 40);
    convert_in_one_word("llama-30b", "llama", 128, 52);
    convert_in_one_word("llama-65b", "llama", 128, 8);
}

static void refused(struct made_shape shape, const char *option, const char *why)
{
    struct sl_ckpt *c = made(shape);
    const struct sl_model_options options = {.model = option};
    struct sl_model *m;
    struct sl_error err;
    assert_int_equal(sl_model_detect(c, &families, &options, &m, &err), SL_USAGE);
    assert_string_equal(err.where, "--model");
    assert_says(err, why);
    made_free(c);
}

static const struct made_shape llama2_7b = {.layers = 32, .hidden = 4096, .ffn = 11008, .qd = 4096, .kvd = 4096,
                                            .vocab = 32000, .te = true};

TEST(a_preset_that_contradicts_the_tensors_is_refused_with_both_numbers)
{
    refused(llama2_7b, "llama-2-13b", "Llama-2-13B has num_layers 40, the tensors of this checkpoint 32");
    refused(llama2_7b, "llama-13b", "Llama-13B has num_layers 40, the tensors of this checkpoint 32");
    refused(llama2_7b, "minicpm4-8b", "ffn_hidden_size 16384, the tensors of this checkpoint 11008");
    struct made_shape other = llama2_7b;
    other.kvd = 1024;
    refused(other, "llama-2-7b", "key rows 4096, the tensors of this checkpoint 1024");
    other = llama2_7b;
    other.hidden = other.qd = 4128;
    refused(other, "llama-7b", "heads");
    other.qd = 4095, other.kvd = 585;
    refused(other, "llama-7b", "32 heads");
    refused(llama2_7b, "llama-2-7c", "did you mean \"llama-2-7b\"?");
}

TEST(a_preset_whose_family_needs_other_tensors_is_refused)
{
    struct made_shape moe = llama2_7b;
    moe.moe = true, moe.experts = 8;
    refused(moe, "llama", "its family llama needs !moe");
}

TEST(the_kv_heads_of_a_nominal_preset_are_only_remarked)
{
    struct sl_ckpt *c = made(llama2_7b);
    const struct sl_model_options options = {.model = "llama-7b"};
    struct sl_model *m;
    assert_int_equal(sl_model_detect(c, &families, &options, &m, NULL), SL_OK);
    bool told = false;
    for (size_t i = 0; i < m->problems.count; i++)
        told |= !strcmp(m->problems.items[i].code, "config-differs")
             && strstr(m->problems.items[i].message, "8 key and value heads, the tensors 32") != NULL
             && m->problems.items[i].severity == SL_NOTE;
    assert_true(told);
    sl_model_free(m);
    made_free(c);
}

TEST(models_of_one_shape_are_all_named)
{
    struct sl_ckpt *c = made(llama2_7b);
    struct sl_model *m;
    assert_int_equal(sl_model_detect(c, &families, NULL, &m, NULL), SL_OK);
    assert_string_equal(m->name, "Llama-1-7B / Llama-2-7B");
    assert_int_equal(m->confidence, SL_LIKELY);
    sl_model_free(m);
    c->args = made_args(c, "norm_epsilon=1e-05", NULL);
    assert_int_equal(sl_model_detect(c, &families, NULL, &m, NULL), SL_OK);
    assert_string_equal(m->name, "Llama-2-7B");
    sl_model_free(m);
    made_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(every_published_model_of_a_described_family_is_recognised_from_its_shape),
        ROW(rows_are_complete_and_have_names_of_their_own),
        ROW(nominal_presets_have_the_layers_heads_and_parallel_sizes_of_their_table),
        ROW(each_nominal_preset_settles_family_and_heads_of_a_bare_checkpoint),
        ROW(a_preset_that_contradicts_the_tensors_is_refused_with_both_numbers),
        ROW(a_preset_whose_family_needs_other_tensors_is_refused),
        ROW(the_kv_heads_of_a_nominal_preset_are_only_remarked),
        ROW(models_of_one_shape_are_all_named),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
