/* test_hf.c: Hugging Face folders: index, shards, config.json. */
#include "made.h"

#include "base/value.h"

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"
#define B "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]}"

static void text(const char *name, const char *s) { write_text(in(name), s, strlen(s)); }

static void two_shards(void)
{
    make_safetensors(in("model-00001-of-00002.safetensors"), A, 24);
    make_safetensors(in("model-00002-of-00002.safetensors"), B, 8);
    text("model.safetensors.index.json",
         "{\"metadata\":{\"total_size\":32},\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\","
         "\"b\":\"model-00002-of-00002.safetensors\"}}");
}

TEST(shards_of_an_index_are_one_model)
{
    two_shards();
    text("config.json", "{\"model_type\": \"llama\", \"hidden_size\": 40}");
    struct sl_ckpt *c = opened(folder);
    no_problems(c);
    assert_int_equal(c->container, SL_HF_SAFETENSORS);
    assert_int_equal(c->tensor_count, 2);
    assert_string_equal(c->tensors[1].name, "b");
    assert_string_equal(c->files[c->tensors[1].file].name, "model-00002-of-00002.safetensors");
    assert_string_equal(sl_value_str(sl_value_get(c->hf_config, "model_type")), "llama");
    assert_int_equal(c->iteration, -1);
    assert_int_equal(c->parallel.tp, 1);
    sl_ckpt_close(c);
}

TEST(a_single_model_file_needs_no_index)
{
    make_safetensors(in("model.safetensors"), A, 24);
    struct sl_ckpt *c = opened(folder);
    no_problems(c);
    assert_int_equal(c->container, SL_HF_SAFETENSORS);
    sl_ckpt_close(c);
}

TEST(a_file_of_the_index_that_is_missing_is_named)
{
    two_shards();
    unlink(in("model-00002-of-00002.safetensors"));
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "hf-missing-file");
    assert_string_equal(p->where, "model-00002-of-00002.safetensors");
    assert_non_null(strstr(p->message, "1 of 2 tensors"));
    sl_ckpt_close(c);
}

TEST(a_missing_shard_is_known_from_names_without_an_index)
{
    two_shards();
    unlink(in("model.safetensors.index.json"));
    unlink(in("model-00001-of-00002.safetensors"));
    struct sl_ckpt *c = opened(folder);
    assert_string_equal(only_problem(c, "hf-missing-file")->where, "model-00001-of-00002.safetensors");
    sl_ckpt_close(c);
}

TEST(an_index_that_leaves_the_folder_is_refused)
{
    two_shards();
    text("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"../../etc/passwd\"}}");
    refused(folder, SL_INPUT, "expected a name inside the folder");
}

TEST(a_broken_index_is_told_and_the_files_are_read)
{
    two_shards();
    text("model.safetensors.index.json", "{\"weight_map\":{");
    struct sl_ckpt *c = opened(folder);
    assert_string_equal(only_problem(c, "config-damaged")->where, "model.safetensors.index.json");
    assert_int_equal(c->tensor_count, 2);
    sl_ckpt_close(c);
}

TEST(tensors_and_index_are_compared_both_ways)
{
    two_shards();
    text("model.safetensors.index.json",
         "{\"weight_map\":{\"a\":\"model-00002-of-00002.safetensors\",\"c\":\"model-00001-of-00002.safetensors\"}}");
    struct sl_ckpt *c = opened(folder);
    assert_int_equal(c->problems.count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(c->problems.items[i].code, "index-mismatch");
    assert_non_null(strstr(c->problems.items[0].message, "1 tensors are in another file than it says, first a"));
    assert_non_null(strstr(c->problems.items[1].message, "not in it, first b"));
    assert_non_null(strstr(c->problems.items[2].message, "not in the file that it names, first c"));
    sl_ckpt_close(c);
}

TEST(a_tensor_in_two_shards_is_told)
{
    make_safetensors(in("model-00001-of-00002.safetensors"), A, 24);
    make_safetensors(in("model-00002-of-00002.safetensors"), A, 24);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "duplicate-tensor");
    assert_string_equal(p->where, "a");
    assert_string_equal(p->message, "it is in model-00001-of-00002.safetensors and in model-00002-of-00002.safetensors");
    sl_ckpt_close(c);
}

TEST(a_truncated_shard_is_named_and_the_others_open)
{
    two_shards();
    struct stat st;
    assert_int_equal(stat(in("model-00001-of-00002.safetensors"), &st), 0);
    assert_int_equal(truncate(in("model-00001-of-00002.safetensors"), st.st_size - 4), 0);
    struct sl_ckpt *c = opened(folder);
    assert_string_equal(only_problem(c, "truncated-shard")->where, "model-00001-of-00002.safetensors");
    assert_int_equal(c->tensor_count, 1);
    sl_ckpt_close(c);
}

TEST(other_safetensors_files_beside_the_index_are_not_read)
{
    two_shards();
    make_safetensors(in("consolidated.safetensors"), A, 24);
    struct sl_ckpt *c = opened(folder);
    assert_non_null(strstr(only_problem(c, "extra-file")->message, "consolidated.safetensors"));
    assert_int_equal(c->tensor_count, 2);
    sl_ckpt_close(c);
}

TEST(a_broken_config_is_told_and_the_tensors_are_shown)
{
    make_safetensors(in("model.safetensors"), A, 24);
    text("config.json", "{\"hidden_size\": 4,}");
    struct sl_ckpt *c = opened(folder);
    assert_string_equal(only_problem(c, "config-damaged")->where, "config.json");
    assert_null(c->hf_config);
    sl_ckpt_close(c);
}

TEST(a_bin_folder_is_read_as_torch_files)
{
    copy_file(FIXTURES "torch/plain.pt", in("pytorch_model.bin"));
    struct sl_ckpt *c = opened(folder);
    assert_int_equal(c->container, SL_HF_BIN);
    assert_int_equal(c->tensor_count, 3);
    assert_string_equal(c->torch_container, "zip");
    sl_ckpt_close(c);
}

TEST(one_shard_alone_names_the_folder)
{
    two_shards();
    struct sl_ckpt *c = opened(in("model-00002-of-00002.safetensors"));
    assert_int_equal(c->container, SL_SAFETENSORS);
    assert_non_null(strstr(only_problem(c, "one-file")->message, "one of 2 files; open"));
    sl_ckpt_close(c);
}

TEST(links_into_a_cache_are_followed)
{
    sl_folder_make(in("blobs"), NULL);
    sl_folder_make(in("snapshot"), NULL);
    make_safetensors(in("blobs/0123abcd"), A, 24);
    assert_int_equal(symlink("../blobs/0123abcd", in("snapshot/model.safetensors")), 0);
    struct sl_ckpt *c = opened(in("snapshot"));
    no_problems(c);
    assert_int_equal(c->tensor_count, 1);
    sl_ckpt_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(shards_of_an_index_are_one_model),
        IN_FOLDER(a_single_model_file_needs_no_index),
        IN_FOLDER(a_file_of_the_index_that_is_missing_is_named),
        IN_FOLDER(a_missing_shard_is_known_from_names_without_an_index),
        IN_FOLDER(an_index_that_leaves_the_folder_is_refused),
        IN_FOLDER(a_broken_index_is_told_and_the_files_are_read),
        IN_FOLDER(tensors_and_index_are_compared_both_ways),
        IN_FOLDER(a_tensor_in_two_shards_is_told),
        IN_FOLDER(a_truncated_shard_is_named_and_the_others_open),
        IN_FOLDER(other_safetensors_files_beside_the_index_are_not_read),
        IN_FOLDER(a_broken_config_is_told_and_the_tensors_are_shown),
        IN_FOLDER(a_bin_folder_is_read_as_torch_files),
        IN_FOLDER(one_shard_alone_names_the_folder),
        IN_FOLDER(links_into_a_cache_are_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
