/* test_demo.c: the samples are what they are called, and all hold the same model. */
#include "golden.h"

#include "base/arena.h"
#include "base/io.h"

static struct sl_checkpoint *sample(const char *name, const struct sl_demo_options *options)
{
    if (sl_demo_write(in(name), options, NULL, &err))
        fail_msg("%s: %s", err.where, err.message);
    return opened(in(name));
}

static void nothing_is_wrong(const struct sl_checkpoint *ck)
{
    for (size_t i = 0; i < sl_info(ck)->problem_count; i++)
        if (sl_info(ck)->problems[i].severity == SL_ERROR)
            fail_msg("%s: %s", sl_info(ck)->problems[i].where, sl_info(ck)->problems[i].message);
}

static void same_weights(struct sl_checkpoint *a, struct sl_checkpoint *b, bool same)
{
    struct sl_job *job;
    assert_int_equal(sl_verify_start(a, b, NULL, &job, &err), 0);
    assert_int_equal(sl_job_wait(job, &err), 0);
    assert_int_equal(sl_job_summary(job)->different == 0, same);
    assert_int_equal(sl_job_summary(job)->equal > 0, same);
    sl_job_free(job);
}

TEST(every_family_with_a_sample_is_recognised_in_both_layouts)
{
    static const char *const families[] = { "minicpm", "llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3-moe" };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s-hf", families[i]);
        struct sl_demo_options o = { .family = families[i], .layout = "hf" };
        struct sl_checkpoint *hf = sample(name, &o);
        assert_string_equal(sl_info(hf)->family, families[i]);
        o.layout = NULL;
        struct sl_checkpoint *megatron = sample(families[i], &o);
        assert_int_equal(sl_info(megatron)->parallel.tp, 2);
        assert_int_equal(sl_info(megatron)->parallel.pp, 2);
        assert_int_equal(sl_info(megatron)->iteration, 1000);
        nothing_is_wrong(megatron);
        if (!strcmp(sl_info(megatron)->family, families[i]))      /* Megatron does not tell Mistral from Llama */
            same_weights(hf, megatron, true);
        sl_close(hf);
        sl_close(megatron);
    }
}

TEST(a_sample_with_experts_is_cut_over_expert_parallel_ranks)
{
    const struct sl_demo_options o = { .family = "qwen3-moe", .tp = 2, .pp = 1, .ep = 2 };
    struct sl_checkpoint *ck = sample("moe", &o);
    assert_int_equal(sl_info(ck)->parallel.ep, 2);
    assert_int_equal(sl_info(ck)->moe->num_experts, 8);
    assert_int_equal(sl_info(ck)->moe->topk, 2);
    assert_int_equal(sl_info(ck)->rank_count, 4);
    sl_close(ck);
}

TEST(a_distributed_sample_holds_the_same_weights)
{
    struct sl_checkpoint *ranks = sample("ranks", NULL);
    struct sl_checkpoint *dist = sample("dist", &(struct sl_demo_options){ .layout = "torch_dist" });
    assert_int_equal(sl_info(dist)->container, SL_MEGATRON_TORCH_DIST);
    nothing_is_wrong(dist);
    same_weights(ranks, dist, true);
    sl_close(ranks);
    sl_close(dist);
}

TEST(seeds_give_other_weights_and_the_same_seed_the_same)
{
    struct sl_checkpoint *one = sample("one", &(struct sl_demo_options){ .tp = 1, .pp = 4, .seed = 7 });
    struct sl_checkpoint *two = sample("two", &(struct sl_demo_options){ .tp = 2, .pp = 1, .seed = 7 });
    struct sl_checkpoint *other = sample("other", &(struct sl_demo_options){ .seed = 8 });
    same_weights(one, two, true);
    same_weights(one, other, false);
    sl_close(one);
    sl_close(two);
    sl_close(other);
}

TEST(a_size_is_not_exceeded)
{
    for (uint64_t bytes = UINT64_C(20) << 20; bytes <= UINT64_C(60) << 20; bytes += UINT64_C(20) << 20) {
        char name[32];
        snprintf(name, sizeof name, "%llu", (unsigned long long)bytes);
        struct sl_checkpoint *ck = sample(name, &(struct sl_demo_options){ .layout = "hf", .bytes = bytes });
        assert_true(sl_info(ck)->bytes <= bytes && sl_info(ck)->bytes > bytes / 2);
        sl_close(ck);
    }
}

TEST(a_damaged_sample_is_said_to_be_damaged)
{
    struct sl_checkpoint *ck = sample("damaged", &(struct sl_demo_options){ .layout = "damaged" });
    assert_string_equal(sl_info(ck)->problems[0].code, "truncated-shard");
    sl_close(ck);
}

static void refused(const struct sl_demo_options *o, int code, const char *words)
{
    assert_int_equal(sl_demo_write(in("refused"), o, NULL, &err), code);
    assert_says(err, words);
    assert_false(sl_path_exists(in("refused")));
}

TEST(what_there_is_no_sample_of_is_refused_and_nothing_is_left)
{
    refused(&(struct sl_demo_options){ .family = "gpt9" }, SL_USAGE, "no sample of this family; there are minicpm, llama");
    refused(&(struct sl_demo_options){ .layout = "gguf" }, SL_USAGE, "no sample of this layout; there are megatron, hf");
    refused(&(struct sl_demo_options){ .tp = 65 }, SL_USAGE, "at most 64");
    refused(&(struct sl_demo_options){ .family = "mixtral", .ep = 3 }, SL_USAGE, "8");
    write_text(in("file"), "x", 1);
    assert_int_equal(sl_demo_write(in("file"), NULL, NULL, &err), SL_WRITE);
    assert_int_equal(sl_demo_write(folder, NULL, NULL, &err), SL_WRITE);
    assert_says(err, "not empty");
    const char *const *names;
    size_t count;
    struct sl_arena arena = { 0 };
    assert_int_equal(sl_folder_list(folder, 100, &arena, &names, &count, &err), 0);
    assert_int_equal(count, 1);
    sl_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(every_family_with_a_sample_is_recognised_in_both_layouts),
        IN_FOLDER(a_sample_with_experts_is_cut_over_expert_parallel_ranks),
        IN_FOLDER(a_distributed_sample_holds_the_same_weights),
        IN_FOLDER(seeds_give_other_weights_and_the_same_seed_the_same),
        IN_FOLDER(a_size_is_not_exceeded),
        IN_FOLDER(a_damaged_sample_is_said_to_be_damaged),
        IN_FOLDER(what_there_is_no_sample_of_is_refused_and_nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
