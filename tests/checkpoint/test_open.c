/* test_open.c: checkpoints that Megatron-core wrote, opened by every path there
 * is to them. Numbers: tests/fixtures/README.md and arithmetic. */
#include "made.h"

#include "base/value.h"

static void rank_is(const struct sl_ckpt *c, size_t i, int tp, int pp, const char *path, uint64_t tensors, uint64_t bytes)
{
    const struct sl_rank *r = &c->ranks[i];
    assert_int_equal(r->tp, tp);
    assert_int_equal(r->pp, pp);
    assert_int_equal(r->ep, 0);
    assert_string_equal(r->path, path);
    assert_int_equal(r->tensors, tensors);
    assert_int_equal(r->bytes, bytes);
    assert_int_equal(r->status, SL_RANK_OK);
    assert_int_equal(r->iteration, 10);
}

static void is_llama_tp2_pp2(struct sl_ckpt *c)
{
    no_problems(c);
    assert_int_equal(c->container, SL_MEGATRON_TORCH);
    assert_int_equal(c->parallel.tp, 2);
    assert_int_equal(c->parallel.pp, 2);
    assert_int_equal(c->parallel.ep, 1);
    assert_int_equal(c->parallel.vpp, 1);
    assert_int_equal(c->iteration, 10);
    assert_false(c->release);
    assert_true(c->checkpoint_version > 2.9 && c->checkpoint_version < 3.1);
    assert_string_equal(c->torch_container, "zip");
    assert_int_equal(c->file_count, 4);
    assert_int_equal(c->rank_count, 4);
    /* stage 0: embedding 48 x 40 and two layers of norms 2 x 40, qkv 56 x 40, proj
     * 40 x 28, fc1 52 x 40, fc2 40 x 26; stage 1: one layer, norm 40, head 48 x 40 */
    const uint64_t layer = 2 * (2 * 40 + 56 * 40 + 40 * 28 + 52 * 40 + 40 * 26);
    rank_is(c, 0, 0, 0, "mp_rank_00_000", 13, 2 * 48 * 40 + 2 * layer);
    rank_is(c, 1, 1, 0, "mp_rank_01_000", 13, 2 * 48 * 40 + 2 * layer);
    rank_is(c, 2, 0, 1, "mp_rank_00_001", 8, 2 * (48 * 40 + 40) + layer);
    rank_is(c, 3, 1, 1, "mp_rank_01_001", 8, 2 * (48 * 40 + 40) + layer);
    int64_t hidden;
    assert_true(sl_value_int(sl_value_get(c->args, "hidden_size"), &hidden));
    assert_int_equal(hidden, 40);
}

TEST(a_save_folder_is_followed_through_its_tracker)
{
    struct sl_ckpt *c = opened(FIXTURES "llama_tp2_pp2");
    is_llama_tp2_pp2(c);
    assert_string_equal(c->folder, FIXTURES "llama_tp2_pp2/iter_0000010");
    assert_string_equal(c->files[0].name, "mp_rank_00_000/model_optim_rng.pt");
    sl_ckpt_close(c);
}

TEST(an_iteration_folder_is_opened_as_it_is)
{
    struct sl_ckpt *c = opened(FIXTURES "llama_tp2_pp2/iter_0000010/");
    is_llama_tp2_pp2(c);
    sl_ckpt_close(c);
}

TEST(one_rank_folder_shows_that_rank_and_names_the_folder_above)
{
    struct sl_ckpt *c = opened(FIXTURES "llama_tp2_pp2/iter_0000010/mp_rank_01_001");
    assert_int_equal(c->rank_count, 1);
    rank_is(c, 0, 1, 1, "mp_rank_01_001", 8, 17040);
    assert_int_equal(c->parallel.tp, 2);
    assert_int_equal(c->parallel.pp, 2);
    const struct sl_problem *p = only_problem(c, "one-rank");
    assert_non_null(strstr(p->message, "one rank of 4"));
    assert_non_null(strstr(p->message, "llama_tp2_pp2/iter_0000010 for the whole"));
    assert_int_equal(p->severity, SL_NOTE);
    sl_ckpt_close(c);
}

TEST(a_rank_file_is_opened_as_the_rank_whose_folder_it_is_in)
{
    struct sl_ckpt *c = opened(FIXTURES "llama_tp2_pp2/iter_0000010/mp_rank_01_000/model_optim_rng.pt");
    assert_int_equal(c->container, SL_MEGATRON_TORCH);
    rank_is(c, 0, 1, 0, "mp_rank_01_000", 13, 30080);
    only_problem(c, "one-rank");
    sl_ckpt_close(c);
}

TEST(one_rank_without_args_learns_the_grid_from_its_neighbours_names)
{
    struct sl_ckpt *c = opened(FIXTURES "llama_noargs_tp2_pp1/iter_0000010/mp_rank_01");
    assert_null(c->args);
    assert_int_equal(c->parallel.tp, 2);
    assert_int_equal(c->parallel.pp, 1);
    sl_ckpt_close(c);
}

TEST(a_release_has_iteration_0_and_says_so)
{
    struct sl_ckpt *c = opened(FIXTURES "llama_release_tp1_pp1");
    no_problems(c);
    assert_true(c->release);
    assert_int_equal(c->iteration, 0);
    assert_int_equal(c->rank_count, 1);
    sl_ckpt_close(c);
}

TEST(virtual_stages_are_chunks_with_their_own_numbering)
{
    struct sl_ckpt *c = opened(FIXTURES "minicpm_vpp2_tp1_pp2");
    no_problems(c);
    assert_int_equal(c->parallel.vpp, 2);
    int chunks[2] = { 0 };
    for (size_t i = 0; i < c->tensor_count; i++)
        if (c->tensors[i].rank == 0 && !strcmp(c->tensors[i].name, "decoder.layers.0.mlp.linear_fc2.weight"))
            chunks[c->tensors[i].chunk]++;
    assert_int_equal(chunks[0], 1);
    assert_int_equal(chunks[1], 1);
    sl_ckpt_close(c);
}

TEST(extra_state_tensors_are_marked_and_not_counted_as_weights)
{
    struct sl_ckpt *c = opened(FIXTURES "llama_te_tp2_pp1");
    no_problems(c);
    const struct sl_tensor *t = tensor(c, 0, "decoder.layers.0.mlp.linear_fc1._extra_state");
    assert_int_equal(t->flags & SL_TENSOR_EXTRA, SL_TENSOR_EXTRA);
    assert_int_equal(t->count, 0);
    assert_int_equal(c->ranks[0].tensors, 21);
    /* 48x40 twice, final norm, three layers of 6560 elements */
    assert_int_equal(c->ranks[0].bytes, 2 * (2 * 48 * 40 + 40 + 3 * 6560));
    sl_ckpt_close(c);
}

TEST(random_states_are_listed_as_no_weights)
{
    struct sl_ckpt *c = opened(FIXTURES "llama_tp2_pp1");
    const struct sl_tensor *t = tensor(c, 1, "rng_state.0.torch_rng_state");
    assert_int_equal(t->flags & SL_TENSOR_OPTIMIZER, SL_TENSOR_OPTIMIZER);
    assert_int_equal(t->count, 5056);
    sl_ckpt_close(c);
}

TEST(files_from_before_the_zip_container_open_too)
{
    struct sl_ckpt *c = opened(FIXTURES "llama_nozip_tp2_pp1");
    no_problems(c);
    assert_string_equal(c->torch_container, "legacy");
    assert_int_equal(c->ranks[1].bytes, 47120);
    sl_ckpt_close(c);
}

TEST(a_torch_file_of_something_else_is_a_list_of_tensors)
{
    struct sl_ckpt *c = opened(FIXTURES "torch/plain.pt");
    assert_int_equal(c->container, SL_TORCH);
    assert_int_equal(c->rank_count, 0);
    assert_int_equal(c->tensor_count, 3);
    assert_int_equal(c->tensors[0].rank, -1);
    sl_ckpt_close(c);
}

TEST(a_safetensors_file_is_a_list_of_tensors)
{
    struct sl_ckpt *c = opened(FIXTURES "llama.expected.safetensors");
    no_problems(c);
    assert_int_equal(c->container, SL_SAFETENSORS);
    assert_int_equal(c->tensor_count, 30);     /* 3 layers of 9, embedding, norm, head */
    const struct sl_tensor *t = tensor(c, -1, "model.layers.2.self_attn.q_proj.weight");
    assert_int_equal(t->shape[0], 56);
    assert_int_equal(t->shape[1], 40);
    assert_int_equal(t->stride[0], 40);
    assert_int_equal(t->bytes, 2 * 56 * 40);
    sl_ckpt_close(c);
}

TEST(rank_folders_directly_in_a_folder_need_no_tracker)
{
    copy_tree(FIXTURES "llama_tp2_pp2/iter_0000010", folder);
    struct sl_ckpt *c = opened(folder);
    is_llama_tp2_pp2(c);
    sl_ckpt_close(c);
}

TEST(the_only_iteration_is_taken_without_a_tracker_and_that_is_told)
{
    copy_fixture("llama_tp1_pp1");
    unlink(in("latest_checkpointed_iteration.txt"));
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "tracker");
    assert_non_null(strstr(p->message, "iter_0000010"));
    sl_ckpt_close(c);
}

TEST(several_iterations_without_a_tracker_are_listed_newest_first)
{
    copy_fixture("llama_tp1_pp1");
    unlink(in("latest_checkpointed_iteration.txt"));
    sl_folder_make(in("iter_0000200"), NULL);
    sl_folder_make(in("iter_0000030"), NULL);
    refused(folder, SL_INPUT, "iter_0000200, iter_0000030, iter_0000010; open one of these");
}

TEST(a_tracker_that_points_nowhere_is_told_with_what_is_there)
{
    copy_fixture("llama_tp1_pp1");
    write_text(in("latest_checkpointed_iteration.txt"), "500\n", 4);
    refused(folder, SL_INPUT, "names iter_0000500, which is not there; found iter_0000010");
}

TEST(a_tracker_that_is_no_number_is_quoted)
{
    copy_fixture("llama_tp1_pp1");
    write_text(in("latest_checkpointed_iteration.txt"), "ten", 3);
    refused(folder, SL_INPUT, "\"ten\"; expected an iteration number");
}

TEST(an_iteration_newer_than_the_tracker_is_a_note)
{
    copy_fixture("llama_tp1_pp1");
    sl_folder_make(in("iter_0000600"), NULL);
    struct sl_ckpt *c = opened(folder);
    only_problem(c, "newer-iteration");
    sl_ckpt_close(c);
}

TEST(an_empty_folder_is_told_to_be_empty)
{
    refused(folder, SL_INPUT, "the folder is empty");
}

TEST(a_path_that_is_not_there_is_told)
{
    refused(in("nothing"), SL_INPUT, "no such file or folder");
}

TEST(a_device_is_not_opened)
{
    refused("/dev/zero", SL_INPUT, "is a character device, not a regular file");
}

TEST(an_unreadable_folder_is_told_with_the_reason)
{
    if (!geteuid())
        skip();
    chmod(folder, 0);
    refused(folder, SL_INPUT, "Permission denied");
    chmod(folder, 0700);
}

TEST(a_distributed_checkpoint_without_its_metadata_is_refused)
{
    const char json[] = "{\"sharded_backend\": \"torch_dist\", \"sharded_backend_version\": 1}";
    write_text(in("metadata.json"), json, strlen(json));
    refused(folder, SL_INPUT, "metadata.json says torch_dist, but there is no .metadata");
}

TEST(an_unknown_backend_is_refused_by_name)
{
    const char json[] = "{\"sharded_backend\": \"cloud\", \"sharded_backend_version\": 1}";
    write_text(in("metadata.json"), json, strlen(json));
    refused(folder, SL_INPUT, "the backend \"cloud\"; expected torch_dist");
}

TEST(a_save_that_died_before_its_metadata_is_told)
{
    write_text(in("__0_0.distcp"), "x", 1);
    refused(folder, SL_INPUT, "the save ended before it was finished");
}

TEST(a_deepspeed_folder_is_named)
{
    write_text(in("mp_rank_00_model_states.pt"), "x", 1);
    refused(folder, SL_UNSUPPORTED, "DeepSpeed");
}

TEST(a_text_file_is_named_for_what_it_is)
{
    refused(FIXTURES "README.md", SL_INPUT, "plain text");
}

TEST(a_git_lfs_pointer_is_named_with_what_to_do)
{
    const char pointer[] = "version https://git-lfs.github.com/spec/v1\n"
                           "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    write_text(in("model.safetensors"), pointer, strlen(pointer));
    refused(folder, SL_INPUT, "git lfs pull");
}

TEST(other_folder_contents_are_told_with_what_was_expected)
{
    refused(FIXTURES "llama.hf", SL_INPUT, "expected mp_rank_* folders");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(a_save_folder_is_followed_through_its_tracker),
        ROW(an_iteration_folder_is_opened_as_it_is),
        ROW(one_rank_folder_shows_that_rank_and_names_the_folder_above),
        ROW(a_rank_file_is_opened_as_the_rank_whose_folder_it_is_in),
        ROW(one_rank_without_args_learns_the_grid_from_its_neighbours_names),
        ROW(a_release_has_iteration_0_and_says_so),
        ROW(virtual_stages_are_chunks_with_their_own_numbering),
        ROW(extra_state_tensors_are_marked_and_not_counted_as_weights),
        ROW(random_states_are_listed_as_no_weights),
        ROW(files_from_before_the_zip_container_open_too),
        ROW(a_torch_file_of_something_else_is_a_list_of_tensors),
        ROW(a_safetensors_file_is_a_list_of_tensors),
        IN_FOLDER(rank_folders_directly_in_a_folder_need_no_tracker),
        IN_FOLDER(the_only_iteration_is_taken_without_a_tracker_and_that_is_told),
        IN_FOLDER(several_iterations_without_a_tracker_are_listed_newest_first),
        IN_FOLDER(a_tracker_that_points_nowhere_is_told_with_what_is_there),
        IN_FOLDER(a_tracker_that_is_no_number_is_quoted),
        IN_FOLDER(an_iteration_newer_than_the_tracker_is_a_note),
        IN_FOLDER(an_empty_folder_is_told_to_be_empty),
        IN_FOLDER(a_path_that_is_not_there_is_told),
        ROW(a_device_is_not_opened),
        IN_FOLDER(an_unreadable_folder_is_told_with_the_reason),
        IN_FOLDER(a_distributed_checkpoint_without_its_metadata_is_refused),
        IN_FOLDER(an_unknown_backend_is_refused_by_name),
        IN_FOLDER(a_save_that_died_before_its_metadata_is_told),
        IN_FOLDER(a_deepspeed_folder_is_named),
        ROW(a_text_file_is_named_for_what_it_is),
        IN_FOLDER(a_git_lfs_pointer_is_named_with_what_to_do),
        ROW(other_folder_contents_are_told_with_what_was_expected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
