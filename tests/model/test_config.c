/* test_config.c: config.json and generation_config.json. What transformers makes
 * of them is tried by make interop; here: which value comes from where. */
#include "families.h"

#include "base/json.h"
#include "base/value.h"
#include "model/internal.h"

#include <unistd.h>

/* A written config, parsed again, and what was remarked. */
struct written {
    struct sl_ckpt *c;
    struct sl_model *m;
    struct sl_arena arena;
    struct sl_problems notes;
    struct sl_buf config, generation;
    const struct sl_value *json, *generation_json;
};

static void open_up(struct written *w, const char *fixture, const struct sl_model_options *options)
{
    char path[256];
    struct sl_error err;
    *w = (struct written){.c = NULL};
    w->notes.arena = &w->arena;
    snprintf(path, sizeof path, "tests/fixtures/%s", fixture);
    if (sl_ckpt_open(path, &w->c, &err) || sl_model_detect(w->c, &families, options, &w->m, &err))
        fail_msg("%s: %s", err.where, err.message);
}

static void write_config(struct written *w, enum sl_dtype dtype, int64_t vocab)
{
    struct sl_error err;
    if (sl_model_hf_config(w->m, dtype, vocab, &w->config, &w->generation, &w->notes, &err))
        fail_msg("%s: %s", err.where, err.message);
    assert_int_equal(sl_json_parse(w->config.data, w->config.len, "config.json", &w->arena, &w->json, NULL), SL_OK);
    if (w->generation.len)
        assert_int_equal(sl_json_parse(w->generation.data, w->generation.len, "generation", &w->arena,
                                       &w->generation_json, NULL), SL_OK);
}

static void shut(struct written *w)
{
    sl_buf_free(&w->config);
    sl_buf_free(&w->generation);
    sl_arena_free(&w->arena);
    sl_model_free(w->m);
    sl_ckpt_close(w->c);
}

static int64_t number(const struct written *w, const char *key)
{
    int64_t i = -999;
    if (!sl_value_int(sl_value_get(w->json, key), &i))
        fail_msg("%s is not there", key);
    return i;
}

static bool says(const struct written *w, const char *text)
{
    return strstr(w->config.data, text) != NULL;
}

static bool noted(const struct written *w, const char *code, const char *where, const char *words)
{
    for (size_t i = 0; i < w->notes.count; i++)
        if (!strcmp(w->notes.items[i].code, code) && !strcmp(w->notes.items[i].where, where)
            && strstr(w->notes.items[i].message, words))
            return true;
    return false;
}

TEST(a_llama_config_holds_what_the_checkpoint_tells)
{
    struct written w;
    open_up(&w, "llama_tp2_pp2", NULL);
    write_config(&w, SL_BF16, 83);
    assert_string_equal(sl_value_str(sl_value_get(w.json, "model_type")), "llama");
    assert_string_equal(sl_value_str(sl_value_get(w.json, "architectures")->items[0]), "LlamaForCausalLM");
    assert_int_equal(number(&w, "num_hidden_layers"), 3);
    assert_int_equal(number(&w, "hidden_size"), 40);
    assert_int_equal(number(&w, "intermediate_size"), 52);
    assert_int_equal(number(&w, "num_attention_heads"), 4);
    assert_int_equal(number(&w, "num_key_value_heads"), 2);
    assert_int_equal(number(&w, "head_dim"), 14);
    assert_int_equal(number(&w, "vocab_size"), 83);
    assert_int_equal(number(&w, "max_position_embeddings"), 64);
    assert_true(says(&w, "\"rope_theta\": 500000.0"));          /* a float, as transformers wants it */
    assert_true(says(&w, "\"rms_norm_eps\": 1e-05"));
    assert_true(says(&w, "\"tie_word_embeddings\": false"));
    assert_true(says(&w, "\"torch_dtype\": \"bfloat16\""));
    assert_true(says(&w, "\"attention_bias\": false"));
    assert_null(sl_value_get(w.json, "rope_scaling"));
    assert_null(sl_value_get(w.json, "bos_token_id"));
    assert_true(noted(&w, "config-missing", "bos_token_id", "give --hf-config"));
    assert_int_equal(w.generation.len, 0);
    shut(&w);
}

TEST(keys_are_sorted_and_come_once)
{
    struct written w;
    const struct sl_model_options options = {.hf_config = "tests/fixtures/minicpm.hf"};
    open_up(&w, "minicpm_tp2_pp2", &options);
    write_config(&w, SL_F32, 71);
    for (size_t i = 1; i < w.json->len; i++)
        assert_true(strcmp(sl_value_str(w.json->keys[i - 1]), sl_value_str(w.json->keys[i])) < 0);
    shut(&w);
}

TEST(a_minicpm_config_has_the_scalings_and_its_code)
{
    struct written w;
    const struct sl_model_options options = {.hf_config = "tests/fixtures/minicpm.hf"};
    open_up(&w, "minicpm_tp2_pp2", &options);
    write_config(&w, SL_F32, 71);
    assert_true(says(&w, "\"scale_emb\": 12.0"));
    assert_true(says(&w, "\"scale_depth\": 1.4"));
    assert_int_equal(number(&w, "dim_model_base"), 10);
    assert_true(says(&w, "\"rms_norm_eps\": 1e-06"));
    assert_true(says(&w, "\"tie_word_embeddings\": true"));
    assert_true(says(&w, "\"torch_dtype\": \"float32\""));
    assert_string_equal(sl_value_str(sl_value_get(sl_value_get(w.json, "auto_map"), "AutoModelForCausalLM")),
                        "modeling_minicpm.MiniCPMForCausalLM");
    assert_int_equal(number(&w, "bos_token_id"), 1);
    assert_null(sl_value_get(w.json, "dtype"));
    assert_null(sl_value_get(w.json, "rope_parameters"));
    assert_int_equal(number(&w, "pretraining_tp"), 1);            /* carried over */
    assert_non_null(w.generation_json);
    shut(&w);
}

TEST(without_its_code_auto_map_is_left_out_and_told)
{
    struct written w;
    open_up(&w, "minicpm_tp1_pp1", NULL);
    write_config(&w, SL_F32, 71);
    assert_null(sl_value_get(w.json, "auto_map"));
    assert_true(noted(&w, "config-missing", "auto_map", "transformers needs that code"));
    shut(&w);
}

TEST(scalings_that_nothing_tells_are_the_published_ones_and_told)
{
    struct written w;
    const struct sl_model_options options = {.model = "minicpm"};
    open_up(&w, "llama_tp1_pp1", &options);
    write_config(&w, SL_BF16, 83);
    assert_int_equal(number(&w, "scale_emb"), 12);
    assert_true(says(&w, "\"scale_depth\": 1.4"));
    assert_int_equal(number(&w, "dim_model_base"), 256);
    assert_true(noted(&w, "config-missing", "scale_depth", "the usual 1.4 is written"));
    shut(&w);
}

TEST(the_rope_scaling_of_llama_3_is_written_out)
{
    struct written w;
    static const char *const set[] = {"use_rope_scaling=true", "rope_scaling_factor=32.0", "bos_token_id=5", "eos_token_id=[6, 7]"};
    const struct sl_model_options options = {.set = set, .set_count = 4};
    open_up(&w, "llama_tp1_pp1", &options);
    write_config(&w, SL_BF16, 83);
    const struct sl_value *rope = sl_value_get(w.json, "rope_scaling");
    double factor = 0;
    int64_t original = 0;
    assert_string_equal(sl_value_str(sl_value_get(rope, "rope_type")), "llama3");
    assert_true(sl_value_double(sl_value_get(rope, "factor"), &factor) && factor == 32.0);
    assert_true(sl_value_int(sl_value_get(rope, "original_max_position_embeddings"), &original));
    assert_int_equal(original, 8192);
    assert_int_equal(number(&w, "bos_token_id"), 5);
    assert_int_equal(sl_value_get(w.generation_json, "eos_token_id")->len, 2);
    shut(&w);
}

/* A folder with a config.json of the given text. */
static const char *reference(const char *text)
{
    static char folder[256];
    char path[320];
    new_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/config.json", folder);
    write_text(path, text, strlen(text));
    return folder;
}

static void remove_reference(const char *folder)
{
    char path[320];
    snprintf(path, sizeof path, "%s/config.json", folder);
    unlink(path);
    rmdir(folder);
}

TEST(where_the_reference_contradicts_the_checkpoint_the_checkpoint_is_written)
{
    struct written w;
    const char *folder = reference("{\"model_type\": \"llama\", \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000.0, \"hidden_size\": 48,"
        " \"num_attention_heads\": 4, \"attention_dropout\": 0.5, \"quantization_config\": {\"bits\": 4},"
        " \"layer_types\": [\"a\", \"b\"], \"auto_map\": {\"AutoModel\": \"../evil.Model\"},"
        " \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0}}");
    const struct sl_model_options options = {.hf_config = folder};
    open_up(&w, "llama_tp1_pp1", &options);
    write_config(&w, SL_BF16, 83);
    assert_true(says(&w, "\"rms_norm_eps\": 1e-05"));
    assert_true(noted(&w, "config-differs", "rms_norm_eps", "the reference config says rms_norm_eps=1e-06, the checkpoint 1e-05"));
    assert_true(noted(&w, "config-differs", "rope_theta", "500000"));
    assert_int_equal(number(&w, "hidden_size"), 40);
    assert_true(says(&w, "\"attention_dropout\": 0.5"));
    assert_null(sl_value_get(w.json, "quantization_config"));
    assert_true(noted(&w, "config-differs", "quantization_config", "left out"));
    assert_null(sl_value_get(w.json, "layer_types"));
    assert_true(noted(&w, "config-differs", "layer_types", "lists 2 layers"));
    assert_null(sl_value_get(w.json, "auto_map"));
    assert_null(sl_value_get(w.json, "rope_scaling"));            /* args say use_rope_scaling=False */
    assert_true(noted(&w, "config-differs", "rope_scaling", "use_rope_scaling=false"));
    shut(&w);
    remove_reference(folder);
}

TEST(scaling_lists_that_megatron_has_no_words_for_are_carried_over)
{
    struct written w;
    const char *folder = reference("{\"model_type\": \"minicpm\", \"rope_scaling\": {\"rope_type\": \"longrope\","
        " \"long_factor\": [1.0, 2.5], \"original_max_position_embeddings\": 32768}, \"vocab_size\": 71}");
    const struct sl_model_options options = {.hf_config = folder};
    open_up(&w, "minicpm_tp2_pp1", &options);
    write_config(&w, SL_F32, 71);
    assert_string_equal(sl_value_str(sl_value_get(sl_value_get(w.json, "rope_scaling"), "rope_type")), "longrope");
    assert_true(says(&w, "2.5"));
    shut(&w);
    remove_reference(folder);
}

TEST(a_reference_of_another_family_carries_nothing_but_what_is_asked_of_it)
{
    struct written w;
    const char *folder = reference("{\"model_type\": \"qwen2\", \"vocab_size\": 71, \"bos_token_id\": 9, \"use_sliding_window\": true}");
    const struct sl_model_options options = {.hf_config = folder, .model = "minicpm"};
    open_up(&w, "minicpm_tp2_pp1", &options);
    write_config(&w, SL_F32, 71);
    assert_null(sl_value_get(w.json, "use_sliding_window"));
    assert_int_equal(number(&w, "bos_token_id"), 9);
    assert_true(noted(&w, "config-differs", "model_type", "qwen2"));
    shut(&w);
    remove_reference(folder);
}

TEST(a_model_whose_head_size_is_unknown_gets_no_config)
{
    struct written w;
    struct sl_error err;
    open_up(&w, "llama_noargs_tp2_pp1", NULL);
    assert_int_equal(sl_model_hf_config(w.m, SL_BF16, 96, &w.config, &w.generation, &w.notes, &err), SL_USAGE);
    assert_says(err, "--set kv_channels=N");
    shut(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(a_llama_config_holds_what_the_checkpoint_tells),
        ROW(keys_are_sorted_and_come_once),
        ROW(a_minicpm_config_has_the_scalings_and_its_code),
        ROW(without_its_code_auto_map_is_left_out_and_told),
        ROW(scalings_that_nothing_tells_are_the_published_ones_and_told),
        ROW(the_rope_scaling_of_llama_3_is_written_out),
        ROW(where_the_reference_contradicts_the_checkpoint_the_checkpoint_is_written),
        ROW(scaling_lists_that_megatron_has_no_words_for_are_carried_over),
        ROW(a_reference_of_another_family_carries_nothing_but_what_is_asked_of_it),
        ROW(a_model_whose_head_size_is_unknown_gets_no_config),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
