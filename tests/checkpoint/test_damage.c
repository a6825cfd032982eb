/* test_damage.c: good checkpoints with one small damage each: exactly that is
 * told, with its place. */
#include "made.h"

#define RANK "iter_0000010/mp_rank_01_000"
#define FILE_OF(rank) "iter_0000010/" rank "/model_optim_rng.pt"

static void two_by_two(void) { copy_fixture("llama_tp2_pp2"); }

TEST(a_missing_rank_folder_is_named)
{
    two_by_two();
    sl_folder_remove(in("iter_0000010/mp_rank_01_001"), NULL);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "missing-rank");
    assert_string_equal(p->where, "mp_rank_01_001");
    assert_string_equal(p->message, "the folder of tp 1, pp 1 is not there");
    assert_string_equal(p->expected, "4 rank folders, as args say TP=2 PP=2 EP=1");
    assert_int_equal(p->severity, SL_ERROR);
    assert_int_equal(c->rank_count, 4);
    assert_int_equal(c->ranks[3].status, SL_RANK_MISSING);
    assert_int_equal(c->ranks[3].file, -1);
    assert_int_equal(c->file_count, 3);
    sl_ckpt_close(c);
}

TEST(a_whole_missing_stage_is_known_from_args)
{
    two_by_two();
    sl_folder_remove(in("iter_0000010/mp_rank_00_001"), NULL);
    sl_folder_remove(in("iter_0000010/mp_rank_01_001"), NULL);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "missing-rank");
    assert_string_equal(p->where, "mp_rank_00_001");
    assert_string_equal(p->message, "2 of the 2 ranks of pipeline stage 1 are missing: mp_rank_00_001, mp_rank_01_001");
    assert_int_equal(c->rank_count, 4);
    sl_ckpt_close(c);
}

TEST(a_hole_is_known_from_names_where_there_are_no_args)
{
    const struct made_tensor t[] = { { "decoder.layers.0.mlp.linear_fc1.weight", SL_BF16, 8, 4 } };
    const char *const model[] = { "model", NULL };
    const struct made_rank r = { model, t, 1, NULL, -1 };
    make_rank("mp_rank_00", &r);
    make_rank("mp_rank_02", &r);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "missing-rank");
    assert_string_equal(p->where, "mp_rank_01");
    assert_non_null(strstr(p->expected, "the names of the other folders"));
    assert_int_equal(c->parallel.tp, 3);
    sl_ckpt_close(c);
}

TEST(a_rank_folder_without_its_file_is_named)
{
    two_by_two();
    unlink(in(FILE_OF("mp_rank_00_001")));
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "missing-rank");
    assert_string_equal(p->where, "mp_rank_00_001");
    assert_non_null(strstr(p->message, "no model_optim_rng.pt in it"));
    sl_ckpt_close(c);
}

TEST(a_truncated_shard_is_told_with_both_lengths)
{
    two_by_two();
    assert_int_equal(truncate(in(FILE_OF("mp_rank_01_000")), 40000), 0);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "truncated-shard");
    assert_string_equal(p->where, "mp_rank_01_000/model_optim_rng.pt");
    assert_string_equal(p->message, "it ends at byte 40000, inside record model_optim_rng/data/5 (4160 bytes from byte 38464 on);"
                                    " a whole one has at least 65428 bytes");
    assert_string_equal(p->expected, "66,019 bytes, as the other rank of pipeline stage 0 has");
    assert_int_equal(c->ranks[1].status, SL_RANK_DAMAGED);
    assert_int_equal(c->ranks[1].tensors, 0);
    sl_ckpt_close(c);
}

TEST(an_empty_shard_is_truncated_too)
{
    two_by_two();
    assert_int_equal(truncate(in(FILE_OF("mp_rank_01_000")), 0), 0);
    struct sl_ckpt *c = opened(folder);
    assert_non_null(strstr(only_problem(c, "truncated-shard")->message, "the file is empty"));
    sl_ckpt_close(c);
}

TEST(a_shard_of_zeros_is_damaged)
{
    two_by_two();
    char *zeros = calloc(1, 66019);
    write_text(in(FILE_OF("mp_rank_01_000")), zeros, 66019);
    free(zeros);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "damaged-shard");
    assert_non_null(strstr(p->message, "zero"));
    sl_ckpt_close(c);
}

TEST(when_every_shard_is_damaged_nothing_opens)
{
    copy_fixture("llama_tp1_pp1");
    write_text(in(FILE_OF("mp_rank_00")), "no checkpoint at all", 20);
    refused(folder, SL_INPUT, "plain text");
}

TEST(a_pickle_that_is_no_checkpoint_is_told_what_it_holds)
{
    refused(FIXTURES "torch/bare_protocol2.pkl", SL_INPUT, "not a checkpoint");
}

TEST(a_rank_of_another_iteration_is_named)
{
    copy_fixture("llama_noargs_tp2_pp1");
    /* SHORT_BINUNICODE "iteration", MEMOIZE, BININT1 10 */
    patch_pickle(in(FILE_OF("mp_rank_01")), "\x8c\x09iteration\x94K\x0a", "\x8c\x09iteration\x94K\x09", 14, 1);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "mixed-iteration");
    assert_string_equal(p->where, "mp_rank_01");
    assert_string_equal(p->message, "its file is of iteration 9");
    assert_string_equal(p->expected, "iteration 10, which most ranks say that they are of");
    assert_int_equal(c->ranks[1].status, SL_RANK_ODD);
    sl_ckpt_close(c);
}

TEST(a_folder_named_after_another_iteration_is_told)
{
    copy_fixture("llama_tp1_pp1");
    assert_int_equal(rename(in("iter_0000010"), in("iter_0000011")), 0);
    struct sl_ckpt *c = opened(in("iter_0000011"));
    const struct sl_problem *p = only_problem(c, "mixed-iteration");
    assert_non_null(strstr(p->message, "named iter_0000011, its files are of iteration 10"));
    sl_ckpt_close(c);
}

TEST(a_renamed_tensor_is_named_on_its_rank)
{
    copy_fixture("llama_tp4_pp1");
    patch_pickle(in(FILE_OF("mp_rank_02")), "layers.1.mlp.linear_fc2", "layers.1.mlp.linear_fcX", 23, 1);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "keys-differ");
    assert_string_equal(p->where, "mp_rank_02");
    assert_string_equal(p->message, "it lacks decoder.layers.1.mlp.linear_fc2.weight, which other ranks of stage 0 have; "
                                    "instead it has decoder.layers.1.mlp.linear_fcX.weight");
    sl_ckpt_close(c);
}

/* Which of two ranks is right they do not tell: one finding, with both names. */
TEST(a_renamed_tensor_of_one_of_two_ranks_is_one_finding)
{
    copy_fixture("llama_tp2_pp1");
    patch_pickle(in(FILE_OF("mp_rank_00")), "layers.1.mlp.linear_fc2", "layers.1.mlp.linear_fcX", 23, 1);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "keys-differ");
    assert_string_equal(p->where, "mp_rank_01");
    assert_string_equal(p->message, "it lacks decoder.layers.1.mlp.linear_fcX.weight, which mp_rank_00 has; "
                                    "instead it has decoder.layers.1.mlp.linear_fc2.weight");
    assert_non_null(strstr(p->expected, "which of the two is right, they do not tell"));
    sl_ckpt_close(c);
}

TEST(a_tensor_of_another_shape_is_named_on_its_rank)
{
    copy_fixture("llama_tp4_pp1");
    /* linear_fc2 is [40, 13] with strides (13, 1) */
    patch_pickle(in(FILE_OF("mp_rank_03")), "K(K\x0d\x86", "K'K\x0d\x86", 5, 1);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "shape-differs");
    assert_string_equal(p->where, "mp_rank_03 decoder.layers.0.mlp.linear_fc2.weight");
    assert_string_equal(p->message, "it is [39, 13]; on mp_rank_00 it is [40, 13]");
    assert_string_equal(p->expected, "as on mp_rank_00: 3 of the 4 ranks of stage 0 that hold it agree");
    sl_ckpt_close(c);
}

static const char *const model[] = { "model", NULL };

TEST(a_tensor_of_another_type_is_named_on_its_rank)
{
    const struct made_tensor half[] = { { "decoder.layers.0.mlp.linear_fc1.weight", SL_BF16, 8, 4 } };
    const struct made_tensor full[] = { { "decoder.layers.0.mlp.linear_fc1.weight", SL_F32, 8, 4 } };
    make_rank("mp_rank_00", &(struct made_rank){ model, half, 1, NULL, -1 });
    make_rank("mp_rank_01", &(struct made_rank){ model, full, 1, NULL, -1 });
    make_rank("mp_rank_02", &(struct made_rank){ model, half, 1, NULL, -1 });
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "dtype-differs");
    assert_string_equal(p->where, "mp_rank_01 decoder.layers.0.mlp.linear_fc1.weight");
    assert_string_equal(p->message, "it is fp32; on mp_rank_00 it is bf16");
    sl_ckpt_close(c);
}

TEST(ranks_of_another_size_in_the_folder_are_left_out)
{
    copy_fixture("llama_tp2_pp1");
    copy_tree(FIXTURES "llama_tp4_pp1/iter_0000010/mp_rank_02", in("iter_0000010/mp_rank_02"));
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "extra-rank");
    assert_string_equal(p->where, "mp_rank_02");
    assert_int_equal(c->parallel.tp, 2);
    assert_int_equal(c->rank_count, 2);
    sl_ckpt_close(c);
}

TEST(ranks_with_another_form_of_name_are_left_out)
{
    two_by_two();
    copy_tree(FIXTURES "llama_tp2_pp1/iter_0000010/mp_rank_00", in("iter_0000010/mp_rank_00"));
    struct sl_ckpt *c = opened(folder);
    assert_string_equal(only_problem(c, "extra-rank")->where, "mp_rank_00");
    assert_int_equal(c->rank_count, 4);
    sl_ckpt_close(c);
}

TEST(two_folders_of_one_rank_are_told)
{
    copy_fixture("llama_tp2_pp1");
    copy_tree(FIXTURES "llama_tp2_pp1/iter_0000010/mp_rank_01", in("iter_0000010/mp_rank_1"));
    struct sl_ckpt *c = opened(folder);
    assert_string_equal(only_problem(c, "duplicate-rank")->where, "mp_rank_1");
    sl_ckpt_close(c);
}

static void swap_folders(const char *a, const char *b)
{
    char from[128], to[128];
    snprintf(from, sizeof from, "iter_0000010/%s", a);
    snprintf(to, sizeof to, "iter_0000010/%s", b);
    assert_int_equal(rename(in(from), in("iter_0000010/x")), 0);
    assert_int_equal(rename(in(to), in(from)), 0);
    assert_int_equal(rename(in("iter_0000010/x"), in(to)), 0);
}

/* Without world_size, args do not tell which rank wrote a file. */
TEST(swapped_stages_are_noticed_by_what_they_hold)
{
    copy_fixture("llama_tp1_pp2");
    patch_pickle(in(FILE_OF("mp_rank_00_000")), "world_sizer", "world_sixer", 11, 1);
    patch_pickle(in(FILE_OF("mp_rank_00_001")), "world_sizer", "world_sixer", 11, 1);
    swap_folders("mp_rank_00_000", "mp_rank_00_001");
    struct sl_ckpt *c = opened(folder);
    assert_int_equal(c->problems.count, 2);
    assert_string_equal(c->problems.items[0].code, "stage-order");
    assert_string_equal(c->problems.items[0].where, "mp_rank_00_000");
    assert_string_equal(c->problems.items[0].message,
                        "it is of the first stage, has no embedding, and has the final norm (it is stage 0 of 0 to 1)");
    assert_string_equal(c->problems.items[1].where, "mp_rank_00_001");
    sl_ckpt_close(c);
}

/* Their shapes are alike: only args.rank shows it. */
TEST(swapped_tensor_parallel_ranks_are_named_with_the_folders_they_belong_in)
{
    copy_fixture("llama_tp4_pp1");
    swap_folders("mp_rank_01", "mp_rank_02");
    struct sl_ckpt *c = opened(folder);
    assert_int_equal(c->problems.count, 2);
    for (size_t i = 0; i < 2; i++)
        assert_string_equal(c->problems.items[i].code, "misnumbered-rank");
    assert_string_equal(c->problems.items[0].where, "mp_rank_01");
    assert_string_equal(c->problems.items[0].message, "its file was written by tp 2, pp 0, ep 0 (args.rank is 2)");
    assert_non_null(strstr(c->problems.items[0].expected, "belongs in mp_rank_02"));
    assert_string_equal(c->problems.items[1].where, "mp_rank_02");
    sl_ckpt_close(c);
}

TEST(a_rank_in_the_place_of_another_stage_is_one_cause)
{
    two_by_two();
    swap_folders("mp_rank_01_000", "mp_rank_01_001");
    struct sl_ckpt *c = opened(folder);
    assert_int_equal(c->problems.count, 2);
    assert_string_equal(c->problems.items[0].code, "misnumbered-rank");
    assert_string_equal(c->problems.items[1].code, "misnumbered-rank");
    sl_ckpt_close(c);
}

TEST(a_file_copied_over_another_ranks_tells_whose_it_is)
{
    copy_fixture("llama_tp4_pp1");
    copy_file(in(FILE_OF("mp_rank_00")), in(FILE_OF("mp_rank_03")));
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "misnumbered-rank");
    assert_string_equal(p->where, "mp_rank_03");
    assert_non_null(strstr(p->expected, "mp_rank_00 has a file of that rank too"));
    sl_ckpt_close(c);
}

/* Tools that write checkpoints copy the args of one rank to all. */
TEST(a_number_that_all_files_have_says_nothing)
{
    copy_fixture("llama_tp2_pp1");
    /* BINUNICODE "rank", LONG_BINPUT 480, BININT1 1 */
    patch_pickle(in(FILE_OF("mp_rank_01")), "\4\0\0\0rankr\xe0\1\0\0K\1", "\4\0\0\0rankr\xe0\1\0\0K\0", 15, 1);
    struct sl_ckpt *c = opened(folder);
    no_problems(c);
    sl_ckpt_close(c);
}

/* Args say TP=2, as the tensors do: the third folder is left over though every file says so. */
TEST(a_folder_beyond_what_args_and_tensors_say_is_left_out)
{
    copy_fixture("llama_tp2_pp1");
    copy_tree(FIXTURES "llama_tp2_pp1/iter_0000010/mp_rank_01", in("iter_0000010/mp_rank_02"));
    struct sl_ckpt *c = opened(folder);
    assert_string_equal(only_problem(c, "extra-rank")->where, "mp_rank_02");
    assert_int_equal(c->parallel.tp, 2);
    sl_ckpt_close(c);
}

TEST(a_record_that_is_not_in_the_file_is_damage_and_no_cut)
{
    static const char name[] = "model_optim_rng/data/5";
    two_by_two();
    size_t len;
    char *bytes = slurp(in(FILE_OF("mp_rank_01_001")), &len);
    for (char *p = bytes; (p = memmem(p, (size_t)(bytes + len - p), name, sizeof name - 1)); p++)
        p[sizeof name - 2] = 'X';
    write_text(in(FILE_OF("mp_rank_01_001")), bytes, len);
    free(bytes);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "damaged-shard");
    assert_string_equal(p->where, "mp_rank_01_001/model_optim_rng.pt");
    assert_string_equal(p->message, "storage 5 is missing: the pickle names it, the file does not have it");
    sl_ckpt_close(c);
}

TEST(a_whole_tensor_saved_as_a_shard_is_called_so)
{
    const struct made_tensor cut[] = { { "decoder.layers.0.mlp.linear_fc2.weight", SL_BF16, 8, 4 } };
    const struct made_tensor whole[] = { { "decoder.layers.0.mlp.linear_fc2.weight", SL_BF16, 8, 12 } };
    const struct made_tensor less[] = { { "decoder.layers.0.mlp.linear_fc2.weight", SL_BF16, 8, 2 } };
    make_rank("mp_rank_00", &(struct made_rank){ model, cut, 1, NULL, -1 });
    make_rank("mp_rank_01", &(struct made_rank){ model, cut, 1, NULL, -1 });
    make_rank("mp_rank_02", &(struct made_rank){ model, whole, 1, NULL, -1 });
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "shape-differs");
    assert_string_equal(p->where, "mp_rank_02 decoder.layers.0.mlp.linear_fc2.weight");
    assert_string_equal(p->cause, "a whole tensor saved as a shard: 12 = 4 x TP 3");
    sl_ckpt_close(c);
    make_rank("mp_rank_02", &(struct made_rank){ model, less, 1, NULL, -1 });
    c = opened(folder);
    assert_string_equal(only_problem(c, "shape-differs")->cause, "a shard of a save at TP 6: 2 = 4 / 2");
    sl_ckpt_close(c);
}

/* As a tool writes them that merged the ranks and did not cut again: no rank differs from another. args of two files
 * are made here; heads 2 x 2, hidden 4: linear_proj is [4, 4], a shard of it [4, 2]. */
TEST(whole_tensors_on_all_ranks_are_one_finding)
{
    const struct made_tensor whole[] = { { "decoder.layers.0.self_attention.linear_proj.weight", SL_BF16, 4, 4 },
                                         { "decoder.layers.1.self_attention.linear_proj.weight", SL_BF16, 4, 4 } };
    const struct made_tensor cut[] = { { "decoder.layers.0.self_attention.linear_proj.weight", SL_BF16, 4, 2 },
                                       { "decoder.layers.1.self_attention.linear_proj.weight", SL_BF16, 4, 2 } };
    const struct made_args args = { .tp = 2, .pp = 1, .hidden = 4, .heads = 2 };
    for (int rank = 0; rank < 2; rank++)
        make_rank(rank ? "mp_rank_01" : "mp_rank_00", &(struct made_rank){ model, cut, 2, &args, 5 });
    struct sl_ckpt *c = opened(folder);
    no_problems(c);
    sl_ckpt_close(c);
    for (int rank = 0; rank < 2; rank++)
        make_rank(rank ? "mp_rank_01" : "mp_rank_00", &(struct made_rank){ model, whole, 2, &args, 5 });
    c = opened(folder);
    const struct sl_problem *p = only_problem(c, "shape-unexpected");
    assert_string_equal(p->where, "mp_rank_00 decoder.layers.0.self_attention.linear_proj.weight");
    assert_string_equal(p->message, "it is [4, 4] on every rank: all 4 columns, not one of 2 parts; so is 1 more of that name in other layers");
    assert_string_equal(p->expected, "2 columns on each of 2 tensor parallel ranks: args make 4 of the whole");
    sl_ckpt_close(c);
}

/* The second file as an older Megatron saved it: BINUNICODE, LONG_BINPUT 486, BINFLOAT 3.0 to 2.0 */
TEST(a_rank_of_another_checkpoint_version_is_named)
{
    copy_fixture("llama_tp2_pp1");
    patch_pickle(in(FILE_OF("mp_rank_01")), "checkpoint_versionr\xe6\1\0\0G@\x08", "checkpoint_versionr\xe6\1\0\0G@\0", 26, 1);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "mixed-version");
    assert_string_equal(p->where, "mp_rank_01");
    assert_string_equal(p->message, "checkpoint_version is 2 in its file, 3 in the first rank's");
    sl_ckpt_close(c);
}

TEST(a_rank_of_another_run_is_named_with_what_differs)
{
    copy_fixture("llama_tp2_pp1");
    /* BINUNICODE "seed", LONG_BINPUT 482, BININT1 1 to 99 */
    patch_pickle(in(FILE_OF("mp_rank_01")), "\4\0\0\0seedr\xe2\1\0\0K\1", "\4\0\0\0seedr\xe2\1\0\0K\x63", 15, 1);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "args-differ");
    assert_string_equal(p->where, "mp_rank_01");
    assert_string_equal(p->message, "its args differ from those of mp_rank_00: seed 99 (there 1)");
    sl_ckpt_close(c);
}

TEST(an_argument_that_one_rank_alone_has_is_told)
{
    copy_fixture("llama_tp2_pp1");
    patch_pickle(in(FILE_OF("mp_rank_01")), "\4\0\0\0seedr", "\4\0\0\0leafr", 9, 1);
    struct sl_ckpt *c = opened(folder);
    assert_string_equal(only_problem(c, "args-differ")->message,
                        "its args differ from those of mp_rank_00: seed not stated (there 1), leaf 1 (there not stated)");
    sl_ckpt_close(c);
}

TEST(sizes_in_args_that_differ_between_ranks_are_told)
{
    const struct made_tensor t[] = { { "decoder.layers.0.mlp.linear_fc1.weight", SL_BF16, 8, 4 } };
    make_rank("mp_rank_00", &(struct made_rank){ model, t, 1, &(struct made_args){ .tp = 2, .pp = 1, .hidden = 4 }, 5 });
    make_rank("mp_rank_01", &(struct made_rank){ model, t, 1, &(struct made_args){ .tp = 2, .pp = 1, .hidden = 8 }, 5 });
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "args-shape-differ");
    assert_string_equal(p->where, "mp_rank_01");
    assert_string_equal(p->message, "its args differ from those of mp_rank_00: hidden_size 8 (there 4)");
    sl_ckpt_close(c);
}

TEST(args_of_another_layout_on_all_ranks_are_not_believed_against_the_folders)
{
    const struct made_tensor t[] = { { "decoder.layers.0.mlp.linear_fc1.weight", SL_BF16, 8, 4 } };
    const struct made_rank r = { model, t, 1, &(struct made_args){ .tp = 1, .pp = 1 }, 5 };
    make_rank("mp_rank_00", &r);
    make_rank("mp_rank_01", &r);
    struct sl_ckpt *c = opened(folder);
    assert_non_null(strstr(only_problem(c, "config-contradiction")->message, "args say TP=1 PP=1 EP=1"));
    assert_int_equal(c->parallel.tp, 2);
    sl_ckpt_close(c);
}

TEST(a_missing_virtual_chunk_is_named)
{
    const struct made_tensor t[] = { { "decoder.layers.0.mlp.linear_fc1.weight", SL_BF16, 8, 4 } };
    const char *const both[] = { "model0", "model1", NULL }, *const first[] = { "model0", NULL };
    make_rank("mp_rank_00", &(struct made_rank){ both, t, 1, NULL, -1 });
    make_rank("mp_rank_01", &(struct made_rank){ first, t, 1, NULL, -1 });
    struct sl_ckpt *c = opened(folder);
    assert_int_equal(c->parallel.vpp, 2);
    assert_string_equal(problem(c, "chunk-mixture")->where, "mp_rank_01");
    sl_ckpt_close(c);
}

TEST(a_pickle_that_asks_for_a_call_is_told_so_though_it_is_refused)
{
    refused(FIXTURES "hostile/call_obj.pkl", SL_INPUT, "nothing was run");
}

TEST(a_pickle_that_refers_to_its_parts_over_and_over_is_refused_at_once)
{
    refused(FIXTURES "hostile/memo_laughs.pkl", SL_INPUT, "not a checkpoint");
}

TEST(a_hole_in_the_numbers_of_layers_is_told)
{
    copy_fixture("llama_tp1_pp1");
    patch_pickle(in(FILE_OF("mp_rank_00")), "decoder.layers.1.", "decoder.layers.4.", 17, 100);
    struct sl_ckpt *c = opened(folder);
    const struct sl_problem *p = only_problem(c, "layer-gap");
    assert_string_equal(p->where, "pp 0");
    assert_string_equal(p->message, "layer 1 of this stage is missing: 3 layers are there, numbered up to 4");
    sl_ckpt_close(c);
}

TEST(fewer_layers_than_args_say_are_told)
{
    const struct made_tensor t[] = { { "decoder.layers.0.mlp.linear_fc1.weight", SL_BF16, 8, 4 } };
    make_rank("mp_rank_00", &(struct made_rank){ model, t, 1, &(struct made_args){ .tp = 1, .pp = 1, .layers = 3 }, 5 });
    struct sl_ckpt *c = opened(folder);
    assert_string_equal(only_problem(c, "layer-count")->message, "the stages hold 1 layers together, args say 3");
    sl_ckpt_close(c);
}

/* ---- what the second number of a name means ------------------------------------- */

static const struct made_tensor first_stage[] = {
    { "embedding.word_embeddings.weight", SL_BF16, 8, 4 }, { "decoder.layers.0.mlp.linear_fc1.weight", SL_BF16, 8, 4 },
};
static const struct made_tensor last_stage[] = {
    { "decoder.layers.0.mlp.linear_fc1.weight", SL_BF16, 8, 4 }, { "decoder.final_layernorm.weight", SL_BF16, 1, 4 },
};
static const struct made_tensor expert_rank[] = {
    { "embedding.word_embeddings.weight", SL_BF16, 8, 4 }, { "decoder.final_layernorm.weight", SL_BF16, 1, 4 },
    { "decoder.layers.0.mlp.experts.local_experts.0.linear_fc1.weight", SL_BF16, 8, 4 },
};

TEST(stages_are_told_from_expert_ranks_by_what_they_hold)
{
    make_rank("mp_rank_00_000", &(struct made_rank){ model, first_stage, 2, NULL, -1 });
    make_rank("mp_rank_00_001", &(struct made_rank){ model, last_stage, 2, NULL, -1 });
    struct sl_ckpt *c = opened(folder);
    no_problems(c);
    assert_int_equal(c->parallel.pp, 2);
    assert_int_equal(c->parallel.ep, 1);
    sl_ckpt_close(c);
}

TEST(expert_ranks_are_told_from_stages_by_what_they_hold)
{
    make_rank("mp_rank_00_000", &(struct made_rank){ model, expert_rank, 3, NULL, -1 });
    make_rank("mp_rank_00_001", &(struct made_rank){ model, expert_rank, 3, NULL, -1 });
    struct sl_ckpt *c = opened(folder);
    no_problems(c);
    assert_int_equal(c->parallel.pp, 1);
    assert_int_equal(c->parallel.ep, 2);
    assert_int_equal(c->ranks[1].ep, 1);
    sl_ckpt_close(c);
}

TEST(args_decide_what_the_second_number_means)
{
    const struct made_args args = { .tp = 1, .pp = 1, .ep = 2, .etp = 1 };
    make_rank("mp_rank_00_000", &(struct made_rank){ model, first_stage, 2, &args, 1 });
    make_rank("mp_rank_00_001", &(struct made_rank){ model, first_stage, 2, &args, 1 });
    struct sl_ckpt *c = opened(folder);
    assert_int_equal(c->parallel.ep, 2);
    assert_int_equal(c->parallel.pp, 1);
    sl_ckpt_close(c);
}

/* Files that Megatron-LM core_v0.16 wrote for TP=4 EP=2 ETP=2 on four ranks. */
TEST(holes_in_the_grid_that_expert_tensor_parallelism_explains_are_no_problem)
{
    const struct made_args args = { .tp = 4, .pp = 1, .ep = 2, .etp = 2 };
    const struct made_rank r = { model, expert_rank, 3, &args, 1 };
    make_rank("mp_rank_00_000", &r);
    make_rank("mp_rank_01_000", &r);
    make_rank("mp_rank_02_001", &r);
    make_rank("mp_rank_03_001", &r);
    struct sl_ckpt *c = opened(folder);
    no_problems(c);
    assert_int_equal(c->rank_count, 4);
    assert_int_equal(c->parallel.etp, 2);
    sl_ckpt_close(c);
}

TEST(a_hole_that_it_does_not_explain_is_the_rank_that_a_run_would_have_written)
{
    const struct made_args args = { .tp = 4, .pp = 1, .ep = 2, .etp = 2 };
    const struct made_rank r = { model, expert_rank, 3, &args, 1 };
    make_rank("mp_rank_00_000", &r);
    make_rank("mp_rank_01_000", &r);
    make_rank("mp_rank_03_001", &r);
    struct sl_ckpt *c = opened(folder);
    assert_string_equal(only_problem(c, "missing-rank")->where, "mp_rank_02_001");
    sl_ckpt_close(c);
}

TEST(rank_numbers_beyond_two_digits_are_read)
{
    const struct made_args args = { .tp = 1, .pp = 1 };
    const struct made_tensor t[] = { { "decoder.layers.0.mlp.linear_fc1.weight", SL_BF16, 8, 4 } };
    make_rank("mp_rank_100_000", &(struct made_rank){ model, t, 1, &args, 1 });
    struct sl_ckpt *c = opened(folder);
    assert_int_equal(c->parallel.tp, 101);
    assert_int_equal(c->rank_count, 101);
    sl_ckpt_close(c);
}

TEST(an_absurd_rank_number_does_not_fill_the_memory)
{
    const struct made_tensor t[] = { { "decoder.layers.0.mlp.linear_fc1.weight", SL_BF16, 8, 4 } };
    make_rank("mp_rank_60000_60000", &(struct made_rank){ model, t, 1, NULL, -1 });
    struct sl_ckpt *c = opened(folder);
    assert_int_equal(c->rank_count, 1);
    only_problem(c, "missing-rank");
    sl_ckpt_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_missing_rank_folder_is_named),
        IN_FOLDER(a_whole_missing_stage_is_known_from_args),
        IN_FOLDER(a_hole_is_known_from_names_where_there_are_no_args),
        IN_FOLDER(a_rank_folder_without_its_file_is_named),
        IN_FOLDER(a_truncated_shard_is_told_with_both_lengths),
        IN_FOLDER(an_empty_shard_is_truncated_too),
        IN_FOLDER(a_shard_of_zeros_is_damaged),
        IN_FOLDER(when_every_shard_is_damaged_nothing_opens),
        ROW(a_pickle_that_is_no_checkpoint_is_told_what_it_holds),
        IN_FOLDER(a_rank_of_another_iteration_is_named),
        IN_FOLDER(a_folder_named_after_another_iteration_is_told),
        IN_FOLDER(a_renamed_tensor_is_named_on_its_rank),
        IN_FOLDER(a_renamed_tensor_of_one_of_two_ranks_is_one_finding),
        IN_FOLDER(a_tensor_of_another_shape_is_named_on_its_rank),
        IN_FOLDER(a_tensor_of_another_type_is_named_on_its_rank),
        IN_FOLDER(ranks_of_another_size_in_the_folder_are_left_out),
        IN_FOLDER(ranks_with_another_form_of_name_are_left_out),
        IN_FOLDER(two_folders_of_one_rank_are_told),
        IN_FOLDER(swapped_stages_are_noticed_by_what_they_hold),
        IN_FOLDER(swapped_tensor_parallel_ranks_are_named_with_the_folders_they_belong_in),
        IN_FOLDER(a_rank_in_the_place_of_another_stage_is_one_cause),
        IN_FOLDER(a_file_copied_over_another_ranks_tells_whose_it_is),
        IN_FOLDER(a_number_that_all_files_have_says_nothing),
        IN_FOLDER(a_folder_beyond_what_args_and_tensors_say_is_left_out),
        IN_FOLDER(a_record_that_is_not_in_the_file_is_damage_and_no_cut),
        IN_FOLDER(a_whole_tensor_saved_as_a_shard_is_called_so),
        IN_FOLDER(whole_tensors_on_all_ranks_are_one_finding),
        IN_FOLDER(a_rank_of_another_checkpoint_version_is_named),
        IN_FOLDER(a_rank_of_another_run_is_named_with_what_differs),
        IN_FOLDER(an_argument_that_one_rank_alone_has_is_told),
        IN_FOLDER(sizes_in_args_that_differ_between_ranks_are_told),
        IN_FOLDER(args_of_another_layout_on_all_ranks_are_not_believed_against_the_folders),
        IN_FOLDER(a_missing_virtual_chunk_is_named),
        ROW(a_pickle_that_asks_for_a_call_is_told_so_though_it_is_refused),
        ROW(a_pickle_that_refers_to_its_parts_over_and_over_is_refused_at_once),
        IN_FOLDER(a_hole_in_the_numbers_of_layers_is_told),
        IN_FOLDER(fewer_layers_than_args_say_are_told),
        IN_FOLDER(stages_are_told_from_expert_ranks_by_what_they_hold),
        IN_FOLDER(expert_ranks_are_told_from_stages_by_what_they_hold),
        IN_FOLDER(args_decide_what_the_second_number_means),
        IN_FOLDER(holes_in_the_grid_that_expert_tensor_parallelism_explains_are_no_problem),
        IN_FOLDER(a_hole_that_it_does_not_explain_is_the_rank_that_a_run_would_have_written),
        IN_FOLDER(rank_numbers_beyond_two_digits_are_read),
        IN_FOLDER(an_absurd_rank_number_does_not_fill_the_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
