/* test_detect.c: what is told of real checkpoints of Megatron-core (tests/fixtures,
 * whose README lists the sizes), and of checkpoints that exist only as headers. */
#include "families.h"
#include "made.h"

#include "model/args.h"
#include "model/internal.h"

struct opened { struct sl_ckpt *c; struct sl_model *m; };

static struct opened open_fixture(const char *name, const struct sl_model_options *options)
{
    char path[256];
    struct opened o = {NULL, NULL};
    struct sl_error err;
    snprintf(path, sizeof path, "tests/fixtures/%s", name);
    if (sl_ckpt_open(path, &o.c, &err))
        fail_msg("%s: %s", err.where, err.message);
    if (sl_model_detect(o.c, &families, options, &o.m, &err))
        fail_msg("%s: %s: %s", name, err.where, err.message);
    return o;
}

static void shut(struct opened o)
{
    sl_model_free(o.m);
    sl_ckpt_close(o.c);
}

static int64_t number(const struct sl_model *m, const char *key)
{
    int64_t value = -999;
    if (!sl_model_int(m, key, &value))
        fail_msg("%s is not known", key);
    return value;
}

static bool has_problem(const struct sl_model *m, const char *code, const char *words)
{
    for (size_t i = 0; i < m->problems.count; i++)
        if (!strcmp(m->problems.items[i].code, code) && (!words || strstr(m->problems.items[i].message, words)))
            return true;
    return false;
}

static bool has_evidence(const struct sl_model *m, const char *fact, const char *from)
{
    for (size_t i = 0; i < m->evidence_count; i++)
        if (!strcmp(m->evidence[i].fact, fact) && !strcmp(m->evidence[i].from, from))
            return true;
    return false;
}

struct sizes { int64_t layers, hidden, ffn, heads, groups, head, vocab; bool tied; };
static const struct sizes llama = {3, 40, 52, 4, 2, 14, 83, false};
static const struct sizes minicpm = {4, 30, 44, 6, 2, 6, 71, true};
static const struct sizes qkv_bias = {2, 24, 28, 4, 2, 8, 61, false};

static void check_sizes(const struct sl_model *m, struct sizes s, int64_t padded)
{
    assert_int_equal(number(m, "num_layers"), s.layers);
    assert_int_equal(number(m, "hidden_size"), s.hidden);
    assert_int_equal(number(m, "ffn_hidden_size"), s.ffn);
    assert_int_equal(number(m, "num_attention_heads"), s.heads);
    assert_int_equal(number(m, "num_query_groups"), s.groups);
    assert_int_equal(number(m, "kv_channels"), s.head);
    assert_int_equal(m->vocab, s.vocab);
    assert_int_equal(m->padded_vocab, padded);
    assert_int_equal(sl_model_flag(m, "tied"), s.tied);
    assert_true(sl_model_flag(m, "gated"));
    assert_true(sl_model_flag(m, "gqa"));
    assert_null(m->missing);
}

/* Weights of a decoder, by hand: embedding (and head), two norms, attention and MLP a layer, one norm. */
static uint64_t params_by_hand(struct sizes s)
{
    const int64_t attention = 2 * s.hidden * s.heads * s.head + 2 * s.hidden * s.groups * s.head;
    return (uint64_t)((s.tied ? 1 : 2) * s.vocab * s.hidden + s.hidden
                      + s.layers * (2 * s.hidden + attention + 3 * s.hidden * s.ffn));
}

TEST(every_cut_of_the_llama_fixture_is_the_same_model)
{
    static const struct { const char *name; int64_t padded; const char *spec; } cuts[] = {
        {"llama_tp1_pp1", 88, "local"}, {"llama_tp2_pp1", 96, "local"}, {"llama_tp4_pp1", 96, "local"},
        {"llama_tp1_pp2", 88, "local"}, {"llama_tp2_pp2", 96, "local"}, {"llama_tp4_pp2", 96, "local"},
        {"llama_te_tp2_pp1", 96, "te"}, {"llama_release_tp1_pp1", 88, "local"}, {"llama_nozip_tp2_pp1", 96, "local"},
        {"llama_views_tp2_pp1", 96, "local"}};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        const struct opened o = open_fixture(cuts[i].name, NULL);
        check_sizes(o.m, llama, cuts[i].padded);
        assert_int_equal(o.m->dialect, SL_DIALECT_MEGATRON);
        assert_string_equal(o.m->spec, cuts[i].spec);
        assert_string_equal(o.m->family->name, "llama");
        assert_int_equal(o.m->params, params_by_hand(llama));
        assert_true(has_evidence(o.m, "num_layers=3", "tensor names"));
        assert_true(has_evidence(o.m, "hidden_size=40", "tensor shapes"));
        assert_true(has_evidence(o.m, "kv_channels=14", "args"));
        assert_false(sl_problems_have(&o.m->problems, SL_WARNING));
        shut(o);
    }
}

TEST(every_cut_of_the_minicpm_fixture_is_the_same_model)
{
    static const struct { const char *name; int64_t padded; } cuts[] = {
        {"minicpm_tp1_pp1", 71}, {"minicpm_tp2_pp1", 72}, {"minicpm_tp1_pp2", 71}, {"minicpm_tp2_pp2", 72},
        {"minicpm_vpp2_tp1_pp2", 71}};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        const struct opened o = open_fixture(cuts[i].name, NULL);
        check_sizes(o.m, minicpm, cuts[i].padded);
        assert_string_equal(o.m->family->name, "minicpm");
        assert_int_equal(o.m->confidence, SL_CERTAIN);
        assert_true(has_evidence(o.m, "family=minicpm", "scale_emb (muP) is set"));
        assert_int_equal(o.m->params, params_by_hand(minicpm));
        shut(o);
    }
}

TEST(layers_are_placed_stage_by_stage_and_chunk_by_chunk)
{
    struct opened o = open_fixture("llama_tp2_pp2", NULL);       /* uneven: layers 0, 1 and 2 */
    assert_int_equal(sl_model_layer(o.m, 0, 0, 1), 1);
    assert_int_equal(sl_model_layer(o.m, 1, 0, 0), 2);
    assert_int_equal(sl_model_layer(o.m, 1, 0, 1), -1);
    assert_int_equal(sl_model_layer(o.m, 2, 0, 0), -1);
    shut(o);
    o = open_fixture("minicpm_vpp2_tp1_pp2", NULL);              /* stage 0: 0 and 2, stage 1: 1 and 3 */
    assert_int_equal(sl_model_layer(o.m, 0, 0, 0), 0);
    assert_int_equal(sl_model_layer(o.m, 1, 0, 0), 1);
    assert_int_equal(sl_model_layer(o.m, 0, 1, 0), 2);
    assert_int_equal(sl_model_layer(o.m, 1, 1, 0), 3);
    shut(o);
}

TEST(biases_on_q_k_and_v_are_seen)
{
    const struct opened o = open_fixture("qkv_bias_tp2_pp1", NULL);
    check_sizes(o.m, qkv_bias, 64);
    assert_true(sl_model_flag(o.m, "qkv_bias"));
    assert_false(sl_model_flag(o.m, "o_bias"));
    assert_string_equal(o.m->family->name, "qwen2");
    assert_int_equal(o.m->params, params_by_hand(qkv_bias) + 2 * (4 + 2 + 2) * 8);
    shut(o);
}

TEST(without_args_the_head_size_is_asked_for_and_never_guessed)
{
    const struct opened o = open_fixture("llama_noargs_tp2_pp1", NULL);
    assert_non_null(o.m->missing);
    assert_non_null(strstr(o.m->missing, "--set kv_channels=N"));
    assert_non_null(strstr(o.m->missing, "14 (4 heads), 28 (2 heads)"));
    assert_true(has_problem(o.m, "head-size-unknown", NULL));
    assert_true(has_problem(o.m, "vocab-unknown", "96 rows"));
    assert_int_equal(o.m->vocab, -1);
    assert_null(sl_model_get(o.m, "kv_channels"));
    struct sizes padded = llama;                   /* the sum does not depend on the head size */
    padded.vocab = 96;
    assert_int_equal(o.m->params, params_by_hand(padded));
    int64_t size;
    struct sl_error err;
    assert_int_equal(sl_model_dim(o.m, "head", 4, 1, 1, -1, &size, &err), SL_USAGE);
    assert_says(err, "--set kv_channels=N");
    shut(o);
}

TEST(what_is_stated_fills_the_gap)
{
    static const char *const sets[][2] = {{"kv_channels=14", "vocab_size=83"}, {"num_attention_heads=4", "vocab_size=83"},
                                          {"num_query_groups=2", "vocab_size=83"}, {"head_dim=14", "vocab_size=83"},
                                          {"num_key_value_heads=2", "vocab_size=83"}};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        const struct sl_model_options options = {.set = sets[i], .set_count = 2};
        const struct opened o = open_fixture("llama_noargs_tp2_pp1", &options);
        check_sizes(o.m, llama, 96);
        assert_true(has_evidence(o.m, "vocab_size=83", "--set"));
        shut(o);
    }
}

TEST(a_reference_config_fills_the_gap_too)
{
    const struct sl_model_options options = {.hf_config = "tests/fixtures/llama.hf"};
    const struct opened o = open_fixture("llama_noargs_tp2_pp1", &options);
    check_sizes(o.m, llama, 96);
    assert_true(has_evidence(o.m, "kv_channels=14", "--hf-config"));
    assert_true(has_evidence(o.m, "family=llama", "--hf-config"));
    assert_int_equal(o.m->confidence, SL_CERTAIN);
    assert_string_equal(o.m->hf_reference_folder, "tests/fixtures/llama.hf");
    shut(o);
}

static void refuse_set(const char *set, const char *why)
{
    struct sl_ckpt *c;
    struct sl_model *m;
    struct sl_error err;
    const struct sl_model_options options = {.set = &set, .set_count = 1};
    assert_int_equal(sl_ckpt_open("tests/fixtures/llama_noargs_tp2_pp1", &c, &err), SL_OK);
    assert_int_equal(sl_model_detect(c, &families, &options, &m, &err), SL_USAGE);
    assert_null(m);
    assert_string_equal(err.where, "--set");
    assert_says(err, why);
    sl_ckpt_close(c);
}

TEST(a_statement_that_contradicts_the_tensors_is_refused_with_the_numbers)
{
    refuse_set("kv_channels=12", "heads of size 12 are stated, but the tensors have 56 query rows and 28 key rows");
    refuse_set("num_attention_heads=3", "3 heads are stated");
    refuse_set("num_attention_heads=16", "16 heads are stated");
}

TEST(names_and_kinds_of_what_is_stated_are_checked)
{
    refuse_set("num_query_groups=3", "num_query_groups is 3, but the tensors have 28 key rows");
    refuse_set("num_layers=4", "num_layers is stated as 4, but the tensors tell 3");
    refuse_set("hidden_size=41", "hidden_size is stated as 41, but the tensors tell 40");
    refuse_set("kv_chanels=14", "did you mean \"kv_channels\"?");
    refuse_set("xyzzyplugh=1", "names are Megatron's arguments");
    refuse_set("kv_channels=many", "kv_channels is \"many\", a whole number is expected");
    refuse_set("kv_channels", "is not NAME=VALUE");
    refuse_set("=3", "is not NAME=VALUE");
    refuse_set("tie_embeddings=1", "true or false is expected");
}

TEST(a_vocabulary_larger_than_the_embedding_is_refused)
{
    struct sl_ckpt *c;
    struct sl_model *m;
    struct sl_error err;
    refuse_set("vocab_size=97", "vocab_size is 97, but the embedding has 96 rows");
    const struct sl_model_options options = {.hf_config = "tests/fixtures/llama.hf"};
    assert_int_equal(sl_ckpt_open("tests/fixtures/minicpm_tp1_pp1", &c, &err), SL_OK);
    assert_int_equal(sl_model_detect(c, &families, &options, &m, &err), SL_USAGE);
    assert_says(err, "vocab_size is 83, but the embedding has 71 rows");
    sl_ckpt_close(c);
}

TEST(hf_config_without_a_config_is_refused)
{
    struct sl_ckpt *c;
    struct sl_model *m;
    struct sl_error err;
    const struct sl_model_options options = {.hf_config = "tests/fixtures/torch"};
    assert_int_equal(sl_ckpt_open("tests/fixtures/minicpm_tp1_pp1", &c, &err), SL_OK);
    assert_int_equal(sl_model_detect(c, &families, &options, &m, &err), SL_USAGE);
    assert_says(err, "no config.json there");
    sl_ckpt_close(c);
}

/* ---- headers only -------------------------------------------------------- */

static const struct made_shape plain = {.layers = 4, .hidden = 96, .ffn = 200, .qd = 96, .kvd = 48, .vocab = 512};

static struct sl_model *detect(struct sl_ckpt *c, const struct sl_model_options *options)
{
    struct sl_model *m;
    struct sl_error err;
    if (sl_model_detect(c, &families, options, &m, &err))
        fail_msg("%s: %s", err.where, err.message);
    return m;
}

TEST(when_nothing_tells_the_family_it_is_said)
{
    struct sl_ckpt *c = made(plain);
    c->args = made_args(c, "num_attention_heads=4", "group_query_attention=true", "num_query_groups=2", NULL);
    struct sl_model *m = detect(c, NULL);
    assert_string_equal(m->family->name, "llama");
    assert_int_equal(m->confidence, SL_GUESS);
    assert_true(has_problem(m, "family-ambiguous", "Llama, MiniCPM, Mistral"));
    assert_true(has_problem(m, "family-ambiguous", ", llama, minicpm, mistral, phi3"));
    sl_model_free(m);
    const struct sl_model_options minicpm_said = {.model = "minicpm"};
    m = detect(c, &minicpm_said);
    assert_string_equal(m->family->name, "minicpm");
    assert_int_equal(m->confidence, SL_CERTAIN);
    assert_true(has_evidence(m, "family=minicpm", "--model"));
    assert_false(has_problem(m, "family-ambiguous", NULL));
    sl_model_free(m);
    static const char *const set[] = {"scale_emb=12"};
    const struct sl_model_options scaled = {.set = set, .set_count = 1};
    m = detect(c, &scaled);
    assert_string_equal(m->family->name, "minicpm");
    assert_int_equal(m->confidence, SL_CERTAIN);
    sl_model_free(m);
    made_free(c);
}

static void family_by_arg(const char *arg, const char *family, enum sl_confidence confidence)
{
    struct sl_ckpt *c = made(plain);
    c->args = made_args(c, "num_attention_heads=4", arg, NULL);
    struct sl_model *m = detect(c, NULL);
    if (!m->family || strcmp(m->family->name, family) || m->confidence != confidence)
        fail_msg("%s: %s, confidence %d", arg, m->family ? m->family->name : "no family", (int)m->confidence);
    sl_model_free(m);
    made_free(c);
}

TEST(signs_in_args_tell_minicpm_from_llama)
{
    family_by_arg("scale_emb=12", "minicpm", SL_CERTAIN);
    family_by_arg("scale_depth=1.4", "minicpm", SL_CERTAIN);
    family_by_arg("mup_depth_scale=1.4", "minicpm", SL_CERTAIN);
    family_by_arg("dim_model_base=256", "minicpm", SL_LIKELY);
    family_by_arg("use_mup=true", "minicpm", SL_LIKELY);
    family_by_arg("tokenizer_model=/data/MiniCPM/tokenizer.model", "minicpm", SL_LIKELY);
    family_by_arg("save=/ckpt/minicpm-run", "minicpm", SL_LIKELY);
    family_by_arg("vocab_size=122753", "llama", SL_GUESS);       /* more than the rows: not believed */
    family_by_arg("use_rope_scaling=true", "llama", SL_LIKELY);
    family_by_arg("rotary_base=500000", "llama", SL_LIKELY);
    family_by_arg("init_method_std=0.1", "minicpm", SL_GUESS);
}

TEST(a_published_vocabulary_is_a_sign)
{
    struct made_shape s = plain;
    s.vocab = 122880;                              /* 122753 padded to a multiple of 128 */
    struct sl_ckpt *c = made(s);
    c->args = made_args(c, "num_attention_heads=4", NULL);
    struct sl_model *m = detect(c, NULL);
    assert_string_equal(m->family->name, "minicpm");
    assert_int_equal(m->confidence, SL_LIKELY);
    assert_int_equal(m->vocab, -1);                /* a sign, but no proof of the true size */
    sl_model_free(m);
    made_free(c);
}

TEST(query_groups_count_only_with_grouped_attention)
{
    struct made_shape s = plain;
    s.kvd = 96;
    struct sl_ckpt *c = made(s);
    c->args = made_args(c, "num_attention_heads=4", "group_query_attention=false", "num_query_groups=1", NULL);
    struct sl_model *m = detect(c, NULL);
    assert_int_equal(number(m, "num_query_groups"), 4);
    assert_false(has_problem(m, "config-contradiction", NULL));
    sl_model_free(m);
    c->args = made_args(c, "num_attention_heads=4", "group_query_attention=true", "num_query_groups=2", NULL);
    m = detect(c, NULL);
    assert_int_equal(number(m, "num_query_groups"), 4);           /* the tensors win */
    assert_true(has_problem(m, "config-contradiction", "num_query_groups is 2"));
    sl_model_free(m);
    made_free(c);
}

TEST(args_that_contradict_the_tensors_are_reported_with_both_values)
{
    struct sl_ckpt *c = made(plain);
    c->args = made_args(c, "num_attention_heads=5", "kv_channels=24", "num_layers=7", "hidden_size=128", "ffn_hidden_size=201",
                        "padded_vocab_size=640", "add_qkv_bias=true", "add_bias_linear=false", "vocab_size=600",
                        "untie_embeddings_and_output_weights=true", NULL);
    struct sl_model *m = detect(c, NULL);
    assert_true(has_problem(m, "config-contradiction", "num_layers is 7, the shape of the tensors says 4"));
    assert_true(has_problem(m, "config-contradiction", "hidden_size is 128, the shape of the tensors says 96"));
    assert_true(has_problem(m, "config-contradiction", "ffn_hidden_size is 201, the shape of the tensors says 200"));
    assert_true(has_problem(m, "config-contradiction", "padded_vocab_size is 640, the shape of the tensors says 512"));
    assert_true(has_problem(m, "config-contradiction", "5 heads of size 24"));
    assert_true(has_problem(m, "config-contradiction", "vocab_size is 600, but the embedding has 512 rows"));
    assert_true(has_problem(m, "config-contradiction", "add_qkv_bias"));
    assert_int_equal(number(m, "num_layers"), 4);
    assert_int_equal(number(m, "kv_channels"), 24);               /* fits alone */
    assert_int_equal(number(m, "num_attention_heads"), 4);
    sl_model_free(m);
    made_free(c);
}

TEST(old_names_of_args_are_read_and_new_ones)
{
    struct sl_ckpt *c = made(plain);
    c->args = made_args(c, "num_attention_heads=4", "layernorm_epsilon=1e-06", "seq_length=2048", NULL);
    struct sl_model *m = detect(c, NULL);
    double eps;
    assert_true(sl_value_double(sl_model_get(m, "norm_epsilon")->value, &eps) && eps == 1e-6);
    assert_int_equal(number(m, "max_position_embeddings"), 2048);
    sl_model_free(m);
    made_free(c);
}

TEST(a_tied_head_is_one_without_an_output_layer)
{
    struct made_shape s = plain;
    s.tied = true, s.pp = 2, s.layers = 4;
    struct sl_ckpt *c = made(s);
    struct sl_model *m = detect(c, NULL);
    assert_true(sl_model_flag(m, "tied"));
    sl_model_free(m);
    c->args = made_args(c, "num_attention_heads=4", "untie_embeddings_and_output_weights=true", NULL);
    m = detect(c, NULL);
    assert_true(sl_model_flag(m, "tied"));
    assert_true(has_problem(m, "config-contradiction", "no output layer of its own"));
    sl_model_free(m);
    made_free(c);
}

TEST(a_copy_of_the_embedding_is_told_from_a_head_by_its_bytes)
{
    struct opened o = open_fixture("minicpm_tp1_pp2", NULL);     /* last stage: output_layer.weight, equal */
    assert_true(sl_model_flag(o.m, "tied"));
    assert_true(has_evidence(o.m, "output layer equals the embedding", "samples of their bytes"));
    shut(o);
    o = open_fixture("llama_tp2_pp2", NULL);
    assert_true(has_evidence(o.m, "output layer differs from the embedding", "samples of their bytes"));
    assert_false(sl_model_flag(o.m, "tied"));
    shut(o);
    static const char *const set[] = {"untie_embeddings_and_output_weights=true"};
    const struct sl_model_options options = {.set = set, .set_count = 1};
    o = open_fixture("minicpm_tp1_pp2", &options);
    assert_false(sl_model_flag(o.m, "tied"));
    shut(o);
}

TEST(what_no_rule_may_touch_is_of_no_family)
{
    static const struct { const char *arg, *says; } cases[] = {
        {"rotary_interleaved=true", "interleaved"}, {"rotary_percent=0.5", "partial rotary"},
        {"position_embedding_type=learned_absolute", "learned position"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_ckpt *c = made(plain);
        c->args = made_args(c, "num_attention_heads=4", cases[i].arg, NULL);
        struct sl_model *m = detect(c, NULL);
        assert_null(m->family);
        if (!m->unsupported || !strstr(m->unsupported, cases[i].says))
            fail_msg("%s: %s", cases[i].arg, m->unsupported ? m->unsupported : "nothing");
        assert_true(has_problem(m, "unsupported", NULL));
        sl_model_free(m);
        made_free(c);
    }
}

/* Norms around zero: Gemma's, whose gate is no SwiGLU and whose head is tied; any other family's where args say SwiGLU. */
TEST(norms_around_zero_are_gemmas_unless_args_say_otherwise)
{
    struct made_shape s = plain;
    s.tied = true;
    struct sl_ckpt *c = made(s);
    c->args = made_args(c, "num_attention_heads=4", "layernorm_zero_centered_gamma=true", NULL);
    struct sl_model *m = detect(c, NULL);
    assert_string_equal(m->family->name, "gemma");
    assert_int_equal(m->confidence, SL_LIKELY);
    assert_true(sl_model_flag(m, "norm_1p"));
    sl_model_free(m);
    c->args = made_args(c, "num_attention_heads=4", "apply_layernorm_1p=true", "swiglu=true", NULL);
    m = detect(c, NULL);
    assert_string_equal(m->family->name, "llama");
    assert_true(sl_model_flag(m, "norm_1p"));
    sl_model_free(m);
    c->args = made_args(c, "num_attention_heads=4", "swiglu=false", NULL);    /* 1p is not told: Gemma has it */
    m = detect(c, NULL);
    assert_string_equal(m->family->name, "gemma");
    assert_true(sl_model_flag(m, "norm_1p"));
    sl_model_free(m);
    made_free(c);
}

TEST(experts_are_counted_and_a_vocabulary_of_minicpm_is_no_mixtral)
{
    struct made_shape s = plain;
    s.moe = true, s.experts = 8, s.pp = 2;
    struct sl_ckpt *c = made(s);
    c->args = made_args(c, "num_attention_heads=4", "num_experts=8", "moe_router_topk=2", NULL);
    struct sl_model *m = detect(c, NULL);
    assert_string_equal(m->family->name, "mixtral");
    assert_int_equal(m->confidence, SL_GUESS);
    assert_true(has_problem(m, "family-ambiguous", NULL));
    assert_non_null(m->moe);
    assert_int_equal(m->moe->num_experts, 8);
    assert_int_equal(m->moe->topk, 2);
    assert_int_equal(m->moe->layer_count, 4);
    assert_int_equal(m->moe->layers[3], 3);
    assert_string_equal(m->moe->expert_layout, "local_experts");
    sl_model_free(m);
    made_free(c);
    s.vocab = 122880;                       /* of MiniCPM-MoE, whose tensors are the same */
    c = made(s);
    m = detect(c, NULL);
    assert_string_equal(m->family->name, "minicpm-moe");
    assert_int_equal(m->confidence, SL_LIKELY);
    sl_model_free(m);
    made_free(c);
}

/* DeepSeek-V3 in small: the first of four layers dense; 24 rows of queries are 4 heads of 2 + 4. */
static struct made_shape latent_shape(void)
{
    struct made_shape s = plain;
    s.moe = true, s.experts = 8, s.dense = 1, s.dense_ffn = 48, s.shared = 32, s.expert_bias = true;
    s.heads = 4, s.q_lora = 12, s.kv_lora = 10, s.nope = 2, s.rope = 4, s.v = 6;
    return s;
}

TEST(args_that_place_the_experts_elsewhere_are_contradicted_by_the_tensors)
{
    static const struct { const char *arg, *says; } cases[] = {
        { "moe_layer_freq=1", "moe_layer_freq of args says layer 0 has experts, its tensors are those of a dense MLP; the tensors are believed" },
        { "moe_layer_freq=[1, 0, 1, 1]", "layer 0 has experts, its tensors are those of a dense MLP (and so in other layers)" },
        { "moe_layer_freq=[0, 1, 0, 1]", "layer 2 has no experts, its tensors are experts" },
        { "moe_layer_freq=[0, 1, 1]", "moe_layer_freq of args has 3 entries, the model 4 layers" },
        { "moe_layer_freq=[0, 1, 1, 1]", NULL },
        { "moe_router_topk=2", NULL } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_ckpt *c = made(latent_shape());
        c->args = made_args(c, "num_experts=8", cases[i].arg, NULL);
        struct sl_model *m = detect(c, NULL);
        assert_string_equal(m->family->name, "deepseek-v3");
        assert_int_equal(m->moe->layer_count, 3);
        assert_int_equal(number(m, "first_k_dense_replace"), 1);
        if (cases[i].says ? !has_problem(m, "config-contradiction", cases[i].says) : has_problem(m, "config-contradiction", NULL))
            fail_msg("%s", cases[i].arg);
        sl_model_free(m);
        made_free(c);
    }
}

TEST(args_with_layers_for_further_tokens_that_are_not_there_are_contradicted)
{
    struct sl_ckpt *c = made(latent_shape());
    c->args = made_args(c, "num_experts=8", "mtp_num_layers=1", NULL);
    struct sl_model *m = detect(c, NULL);
    assert_true(has_problem(m, "config-contradiction",
                            "args say mtp_num_layers is 1, the tensors have 0 layers that predict further tokens"));
    assert_int_equal(number(m, "mtp_num_layers"), 0);
    sl_model_free(m);
    made_free(c);
}

/* Down projections cut over ranks (the local spelling) have other rows; heads and sizes are the same. */
TEST(heads_of_latent_attention_follow_from_shapes_whole_or_cut)
{
    for (int32_t tp = 1; tp <= 2; tp++)
        for (int cut = 0; cut < tp; cut++) {
            struct made_shape s = latent_shape();
            s.tp = tp;
            struct sl_ckpt *c = made(s);
            for (size_t i = 0; cut && i < c->tensor_count; i++)
                if (strstr(c->tensors[i].name, "_down_proj.weight"))
                    *(int64_t *)(uintptr_t)c->tensors[i].shape /= tp;
            struct sl_model *m = detect(c, NULL);
            assert_int_equal(number(m, "num_attention_heads"), 4);
            assert_int_equal(number(m, "qk_head_dim"), 2);
            assert_int_equal(number(m, "qk_pos_emb_head_dim"), 4);
            assert_int_equal(number(m, "v_head_dim"), 6);
            assert_int_equal(number(m, "q_lora_rank"), 12);
            assert_int_equal(number(m, "kv_lora_rank"), 10);
            assert_false(has_problem(m, "config-contradiction", NULL));
            sl_model_free(m);
            made_free(c);
        }
}

TEST(args_of_other_ranks_and_heads_are_contradicted)
{
    struct sl_ckpt *c = made(latent_shape());
    c->args = made_args(c, "multi_latent_attention=True", "num_experts=8", "kv_lora_rank=16", "num_attention_heads=8", NULL);
    struct sl_model *m = detect(c, NULL);
    assert_true(has_problem(m, "config-contradiction", "kv_lora_rank is 16"));
    assert_true(has_problem(m, "config-contradiction", "num_attention_heads is 8"));
    assert_int_equal(number(m, "kv_lora_rank"), 10);
    sl_model_free(m);
    made_free(c);
}

TEST(norms_on_q_and_k_give_the_head_size)
{
    struct made_shape s = plain;
    s.qk_norm = true, s.norm = 24;
    struct sl_ckpt *c = made(s);
    struct sl_model *m = detect(c, NULL);
    assert_string_equal(m->family->name, "qwen3");
    assert_int_equal(m->confidence, SL_CERTAIN);
    assert_int_equal(number(m, "kv_channels"), 24);
    assert_int_equal(number(m, "num_attention_heads"), 4);
    assert_null(m->missing);
    sl_model_free(m);
    made_free(c);
}

TEST(a_missing_stage_is_counted_from_args)
{
    struct made_shape s = plain;
    s.pp = 4, s.layers = 8;
    struct sl_ckpt *c = made(s);
    for (size_t i = 0; i < c->tensor_count; )                     /* stage 1 can't be read */
        if (c->tensors[i].rank == 1)
            c->tensors[i] = c->tensors[--c->tensor_count];
        else
            i++;
    c->args = made_args(c, "num_attention_heads=4", "num_layers=8", NULL);
    struct sl_model *m = detect(c, NULL);
    assert_int_equal(number(m, "num_layers"), 8);
    assert_int_equal(sl_model_layer(m, 2, 0, 0), 4);
    assert_int_equal(m->stages[1].count, 2);
    sl_model_free(m);
    made_free(c);
}

TEST(global_layer_numbers_of_a_fork_are_understood)
{
    struct made_shape s = plain;
    s.pp = 2, s.layers = 4;
    struct sl_ckpt *c = made(s);
    for (size_t i = 0; i < c->tensor_count; i++) {
        char name[160];
        int local, used = 0;
        if (c->tensors[i].rank == 1 && sscanf(c->tensors[i].name, "decoder.layers.%d.%n", &local, &used) == 1) {
            snprintf(name, sizeof name, "decoder.layers.%d.%s", local + 2, c->tensors[i].name + used);
            c->tensors[i].name = sl_arena_str(&c->arena, name);
        }
    }
    struct sl_model *m = detect(c, NULL);
    assert_int_equal(number(m, "num_layers"), 4);
    assert_int_equal(sl_model_layer(m, 1, 0, 2), 2);
    assert_int_equal(sl_model_layer(m, 1, 0, 3), 3);
    sl_model_free(m);
    made_free(c);
}

TEST(hugging_face_names_are_read_with_their_config)
{
    struct made_shape s = plain;
    s.hf = true;
    struct sl_ckpt *c = made(s);
    c->hf_config = made_args(c, "model_type=llama", "num_attention_heads=4", "num_key_value_heads=2", "rms_norm_eps=1e-05",
                             "rope_theta=10000.0", "vocab_size=512", NULL);
    struct sl_model *m = detect(c, NULL);
    assert_int_equal(m->dialect, SL_DIALECT_HF);
    assert_string_equal(m->family->name, "llama");
    assert_int_equal(m->confidence, SL_CERTAIN);
    assert_int_equal(number(m, "kv_channels"), 24);
    assert_int_equal(number(m, "num_query_groups"), 2);
    assert_int_equal(number(m, "num_layers"), 4);
    assert_int_equal(m->vocab, 512);
    assert_true(has_evidence(m, "num_attention_heads=4", "config.json"));
    sl_model_free(m);
    c->hf_config = made_args(c, "model_type=granite", "num_attention_heads=4", NULL);
    m = detect(c, NULL);
    assert_null(m->family);                        /* the config is believed: it is no Llama */
    assert_non_null(strstr(m->unsupported, "model_type granite"));
    sl_model_free(m);
    made_free(c);
}

/* Experts in one array a matrix, as transformers' classes hold them: by rows, or by columns as GPT-OSS does. Where one of
 * the two arrays is square the other tells. */
TEST(how_arrays_of_experts_are_turned_is_told_by_the_two_of_them)
{
    static const struct { int64_t ffn; bool columns; } cases[] = { {20, false}, {20, true}, {48, false}, {48, true}, {96, false}, {96, true} };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct made_shape s = plain;
        s.hf = true, s.layers = 1;
        struct sl_ckpt *c = made(s);
        const int64_t f = cases[i].ffn, h = s.hidden;
        size_t kept = 0;
        for (size_t k = 0; k < c->tensor_count; k++)
            if (!strstr(c->tensors[k].name, ".mlp."))
                c->tensors[kept++] = c->tensors[k];
        c->tensor_count = kept;
        made_add(c, -1, 0, "model.layers.0.mlp.gate.weight", 6, h);
        made_add3(c, -1, "model.layers.0.mlp.experts.gate_up_proj", 6, cases[i].columns ? h : 2 * f, cases[i].columns ? 2 * f : h);
        made_add3(c, -1, "model.layers.0.mlp.experts.down_proj", 6, cases[i].columns ? f : h, cases[i].columns ? h : f);
        c->hf_config = made_args(c, "model_type=mixtral", "num_attention_heads=4", NULL);
        struct sl_model *m = detect(c, NULL);
        assert_int_equal(number(m, "moe_ffn_hidden_size"), f);
        assert_int_equal(number(m, "num_experts"), 6);
        assert_true(sl_model_flag(m, "gated"));
        assert_int_equal(sl_model_flag(m, "fused_columns"), cases[i].columns);
        assert_int_equal(m->family != NULL, !cases[i].columns);      /* no family but GPT-OSS has them so */
        sl_model_free(m);
        made_free(c);
    }
}

/* Megatron's (tokens before, tokens after) does not count the token itself, Hugging Face does; which layers have the window is
 * a number or a list there, and names of kinds here. */
TEST(windows_are_said_in_the_words_of_both_sides)
{
    static const struct { const char *more, *window, *layers; } cases[] = {
        {"sliding_window=4096", "[4095, 0]", NULL},
        {"sliding_window=null", NULL, NULL},
        {"use_sliding_window=false", NULL, NULL},
        {"layer_types=[\"sliding_attention\", \"full_attention\", \"sliding_attention\", \"full_attention\"]", "[8, 0]", "2"},
        {"layer_types=[\"sliding_attention\", \"sliding_attention\", \"full_attention\", \"sliding_attention\"]", "[8, 0]", "3"},
        {"layer_types=[\"full_attention\", \"sliding_attention\", \"full_attention\", \"sliding_attention\"]", "[8, 0]", "[0, 1, 0, 1]"},
        {"layer_types=[\"sliding_attention\", \"sliding_attention\", \"full_attention\", \"full_attention\"]", "[8, 0]", "[1, 1, 0, 0]"},
        {"layer_types=[\"sliding_attention\", \"sliding_attention\", \"sliding_attention\", \"sliding_attention\"]", "[8, 0]", NULL},
        {"layer_types=[\"linear_attention\", \"full_attention\", \"linear_attention\", \"full_attention\"]", "[8, 0]", NULL}};
    const struct sl_megatron_run run = {.parallel = {1, 1, 1, 1, 1}, .vocab = 512, .padded_vocab = 512, .vocab_divisor = 128,
                                        .dtype = SL_BF16, .spec = "te"};
    struct made_shape s = plain;
    s.hf = true;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_ckpt *c = made(s);
        const struct sl_value *args;
        struct sl_buf window = {.failed = false}, layers = {.failed = false};
        c->hf_config = i > 1 ? made_args(c, "model_type=mistral", "num_attention_heads=4", "sliding_window=9", cases[i].more, NULL)
                             : made_args(c, "model_type=mistral", "num_attention_heads=4", cases[i].more, NULL);
        struct sl_model *m = detect(c, NULL);
        assert_int_equal(sl_model_megatron_args(m, NULL, &run, &c->arena, &args, NULL), SL_OK);
        const struct sl_value *w = sl_value_get(args, "window_size"), *l = sl_value_get(args, "window_attn_skip_freq");
        if (w)
            sl_value_print(w, 80, &window);
        if (l)
            sl_value_print(l, 80, &layers);
        if ((w != NULL) != (cases[i].window != NULL) || (l != NULL) != (cases[i].layers != NULL) ||
            (l && strcmp(layers.data, cases[i].layers)))
            fail_msg("%s: %s, %s", cases[i].more, w ? window.data : "none", l ? layers.data : "none");
        if (w) {
            int64_t before, after;
            assert_string_equal(w->type, "tuple");
            assert_true(sl_value_int(w->items[0], &before) && sl_value_int(w->items[1], &after));
            assert_int_equal(before, i ? 8 : 4095);
            assert_int_equal(after, 0);
        }
        sl_buf_free(&window);
        sl_buf_free(&layers);
        sl_model_free(m);
        made_free(c);
    }
}

TEST(layers_with_a_window_are_named_for_a_family_whose_config_does)
{
    static const struct { const char *freq, *types; } cases[] = {
        {"window_attn_skip_freq=2", "sfsf"}, {"window_attn_skip_freq=[1, 1, 0, 1]", "ssfs"}, {"num_layers=4", "sfsf"} };   /* Gemma 2's own */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct made_shape s = plain;
        s.post_norms = s.tied = true;
        struct sl_ckpt *c = made(s);
        c->args = made_args(c, "num_attention_heads=4", "swiglu=false", "window_size=[4095, 0]", cases[i].freq, NULL);
        struct sl_model *m = detect(c, NULL);
        assert_string_equal(m->family->name, "gemma2");
        assert_int_equal(number(m, "sliding_window"), 4096);
        const struct sl_value *types = sl_model_get(m, "layer_types")->value;
        assert_int_equal(types->len, 4);
        for (size_t k = 0; k < 4; k++)
            assert_string_equal(sl_value_str(types->items[k]), cases[i].types[k] == 's' ? "sliding_attention" : "full_attention");
        sl_model_free(m);
        made_free(c);
    }
}

/* A gate on the output of attention has as many rows as the queries. */
TEST(a_gate_on_attention_is_seen_in_hugging_face_and_said_in_args)
{
    struct made_shape s = plain;
    s.hf = true, s.layers = 1;
    struct sl_ckpt *c = made(s);
    for (size_t i = 0; i < c->tensor_count; i++)
        if (strstr(c->tensors[i].name, "q_proj"))
            *(int64_t *)(uintptr_t)c->tensors[i].shape *= 2;
    c->hf_config = made_args(c, "model_type=qwen3_next", "num_attention_heads=4", NULL);
    struct sl_model *m = detect(c, NULL);
    assert_true(sl_model_flag(m, "output_gate"));
    assert_int_equal(number(m, "kv_channels"), 24);
    assert_int_equal(number(m, "num_query_groups"), 2);
    assert_null(m->family);
    sl_model_free(m);
    made_free(c);
    s = plain;
    s.kvd = 96;                              /* 96 q, 96 gate, 48 k, 48 v: as many rows as of 96 q, 96 k and 96 v */
    c = made(s);
    c->args = made_args(c, "num_attention_heads=4", "group_query_attention=true", "num_query_groups=2", "attention_output_gate=true", NULL);
    m = detect(c, NULL);
    assert_true(sl_model_flag(m, "output_gate"));
    assert_int_equal(number(m, "num_query_groups"), 2);
    assert_false(has_problem(m, "config-contradiction", NULL));
    assert_null(m->family);
    assert_non_null(strstr(m->unsupported, "a gate on its output"));
    sl_model_free(m);
    made_free(c);
}

TEST(numbers_that_no_model_has_do_no_harm)
{
    static const struct made_shape shapes[] = {
        {.layers = 1, .hidden = INT64_MAX, .ffn = INT64_MAX / 2, .qd = INT64_MAX, .kvd = 0, .vocab = INT64_MAX},
        {.layers = 1, .hidden = 0, .ffn = 0, .qd = 0, .kvd = 0, .vocab = 0},
        {.layers = 1, .hidden = 1, .ffn = 3, .qd = 7, .kvd = INT64_MAX / 3, .vocab = 1},
        {.layers = 1, .hidden = 8, .ffn = 8, .qd = 8, .kvd = 0, .vocab = 8, .hf = true},
        {.layers = 1, .hidden = 8, .ffn = 8, .qd = 0, .kvd = 8, .vocab = 8, .hf = true}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct sl_ckpt *c = made(shapes[i]);
        c->args = made_args(c, "num_attention_heads=-9223372036854775808", "kv_channels=9223372036854775807",
                            "num_layers=-1", "num_query_groups=0", "group_query_attention=true", "vocab_size=-5",
                            "make_vocab_size_divisible_by=0", "window_size=[9223372036854775807, 0]", NULL);
        struct sl_model *m;
        (void)sl_model_detect(c, &families, NULL, &m, NULL);
        sl_model_free(m);
        made_free(c);
    }
}

TEST(nothing_known_is_no_failure)
{
    struct sl_ckpt *c = made((struct made_shape){.layers = 0, .vocab = 1, .hidden = 1, .tied = true});
    c->tensor_count = 0;
    struct sl_model *m = detect(c, NULL);
    assert_null(m->family);
    assert_non_null(m->unsupported);
    sl_model_free(m);
    made_free(c);
}

TEST(lengths_of_axes_follow_family_and_sizes)
{
    const struct opened o = open_fixture("llama_tp2_pp1", NULL);
    static const struct { const char *name; int64_t value; } dims[] = {
        {"hidden", 40}, {"ffn", 52}, {"group", 2}, {"q_per_group", 2}, {"head", 14}, {"vocab", 83}, {"padded_vocab", 96},
        {"padded_vocab-vocab", 13}, {"ffn/tp", 26}, {"tp", 2}, {"head/2", 7}};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        int64_t value = 0;
        assert_int_equal(sl_model_dim(o.m, dims[i].name, strlen(dims[i].name), 2, 2, -1, &value, NULL), SL_OK);
        assert_int_equal(value, dims[i].value);
    }
    int64_t value;
    struct sl_error err;
    assert_int_equal(sl_model_dim(o.m, "padded_vocab", 12, 2, 2, 128, &value, &err), SL_OK);
    assert_int_equal(value, 128);
    assert_int_equal(sl_model_dim(o.m, "ffn/tp", 6, 3, 3, -1, &value, &err), SL_USAGE);
    assert_says(err, "52 is not a multiple of 3");
    assert_int_equal(sl_model_dim(o.m, "colour", 6, 1, 1, -1, &value, &err), SL_USAGE);
    assert_says(err, "\"colour\" is not known");
    assert_true(sl_model_when(o.m, NULL));
    assert_true(sl_model_when(o.m, "!tied & gated"));
    assert_false(sl_model_when(o.m, "tied"));
    shut(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(every_cut_of_the_llama_fixture_is_the_same_model),
        ROW(every_cut_of_the_minicpm_fixture_is_the_same_model),
        ROW(layers_are_placed_stage_by_stage_and_chunk_by_chunk),
        ROW(biases_on_q_k_and_v_are_seen),
        ROW(without_args_the_head_size_is_asked_for_and_never_guessed),
        ROW(what_is_stated_fills_the_gap),
        ROW(a_reference_config_fills_the_gap_too),
        ROW(a_statement_that_contradicts_the_tensors_is_refused_with_the_numbers),
        ROW(names_and_kinds_of_what_is_stated_are_checked),
        ROW(a_vocabulary_larger_than_the_embedding_is_refused),
        ROW(hf_config_without_a_config_is_refused),
        ROW(when_nothing_tells_the_family_it_is_said),
        ROW(signs_in_args_tell_minicpm_from_llama),
        ROW(a_published_vocabulary_is_a_sign),
        ROW(query_groups_count_only_with_grouped_attention),
        ROW(args_that_contradict_the_tensors_are_reported_with_both_values),
        ROW(old_names_of_args_are_read_and_new_ones),
        ROW(a_tied_head_is_one_without_an_output_layer),
        ROW(a_copy_of_the_embedding_is_told_from_a_head_by_its_bytes),
        ROW(what_no_rule_may_touch_is_of_no_family),
        ROW(norms_around_zero_are_gemmas_unless_args_say_otherwise),
        ROW(experts_are_counted_and_a_vocabulary_of_minicpm_is_no_mixtral),
        ROW(args_that_place_the_experts_elsewhere_are_contradicted_by_the_tensors),
        ROW(args_with_layers_for_further_tokens_that_are_not_there_are_contradicted),
        ROW(heads_of_latent_attention_follow_from_shapes_whole_or_cut),
        ROW(args_of_other_ranks_and_heads_are_contradicted),
        ROW(norms_on_q_and_k_give_the_head_size),
        ROW(a_missing_stage_is_counted_from_args),
        ROW(global_layer_numbers_of_a_fork_are_understood),
        ROW(hugging_face_names_are_read_with_their_config),
        ROW(how_arrays_of_experts_are_turned_is_told_by_the_two_of_them),
        ROW(windows_are_said_in_the_words_of_both_sides),
        ROW(layers_with_a_window_are_named_for_a_family_whose_config_does),
        ROW(a_gate_on_attention_is_seen_in_hugging_face_and_said_in_args),
        ROW(numbers_that_no_model_has_do_no_harm),
        ROW(nothing_known_is_no_failure),
        ROW(lengths_of_axes_follow_family_and_sizes),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
