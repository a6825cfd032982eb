/* test_jobs.c: plans, and the jobs that run them: every byte of a conversion
 * against what Megatron-core's own model gives Hugging Face. */
#include "golden.h"

#include "base/io.h"

static void box_is(const int64_t *lo, const int64_t *hi, int64_t r0, int64_t r1, int64_t c0, int64_t c1)
{
    assert_int_equal(lo[0], r0);
    assert_int_equal(hi[0], r1);
    assert_int_equal(lo[1], c0);
    assert_int_equal(hi[1], c1);
}

/* q_proj of layer 2 is [56, 40]: heads 0 and 1 are group 0 on tp 0, heads 2 and 3 group 1 on tp 1,
 * each in rows 0-27 of a shard of the second stage. */
TEST(a_plan_tells_the_blocks_that_make_a_target)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    struct sl_plan *plan = planned(ck, NULL);
    const size_t q = target_named(plan, "model.layers.2.self_attn.q_proj.weight");
    struct sl_piece_info p[4];
    assert_int_equal(sl_plan_pieces(plan, q, p, 4), 2);
    assert_int_equal(sl_plan_target(plan, q)->piece_count, 2);
    for (int64_t tp = 0; tp < 2; tp++) {
        box_is(p[tp].source_lo, p[tp].source_hi, 0, 28, 0, 40);
        box_is(p[tp].target_lo, p[tp].target_hi, 28 * tp, 28 * tp + 28, 0, 40);
        assert_string_equal(p[tp].param, "layers.2.attn.q");
        assert_string_equal(p[tp].op, "copy");
        assert_string_equal(p[tp].source_name, "decoder.layers.2.self_attention.linear_qkv.weight");
        assert_string_equal(p[tp].source_file, tp ? "mp_rank_01_001/model_optim_rng.pt" : "mp_rank_00_001/model_optim_rng.pt");
    }
    size_t targets[8];
    assert_int_equal(sl_plan_uses(plan, p[0].source, targets, 8), 3);
    assert_int_equal(sl_plan_pieces(plan, sl_plan_info(plan)->target_count, p, 4), 0);
    assert_null(sl_plan_target(plan, sl_plan_info(plan)->target_count));
    sl_plan_free(plan);
    sl_close(ck);
}

/* k_proj of layer 0 is [28, 40]: rows 28-41 of the fused matrix of tp 0, then those of tp 1. */
TEST(a_piece_is_cut_to_a_range_from_both_sides)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    struct sl_plan *plan = planned(ck, NULL);
    struct sl_piece_info p[2], whole;
    assert_int_equal(sl_plan_pieces(plan, target_named(plan, "model.layers.0.self_attn.k_proj.weight"), p, 2), 2);
    whole = p[0];
    const int64_t lo[2] = { 10, 4 }, hi[2] = { 20, 8 };
    assert_true(sl_piece_cut(&p[0], false, lo, hi));
    box_is(p[0].target_lo, p[0].target_hi, 10, 14, 4, 8);
    box_is(p[0].source_lo, p[0].source_hi, 38, 42, 4, 8);
    assert_true(sl_piece_cut(&p[1], false, lo, hi));
    box_is(p[1].target_lo, p[1].target_hi, 14, 20, 4, 8);
    box_is(p[1].source_lo, p[1].source_hi, 28, 34, 4, 8);
    const int64_t from[2] = { 0, 0 }, to[2] = { 30, 40 };        /* q and the first two rows of k */
    assert_true(sl_piece_cut(&whole, true, from, to));
    box_is(whole.source_lo, whole.source_hi, 28, 30, 0, 40);
    box_is(whole.target_lo, whole.target_hi, 0, 2, 0, 40);
    const int64_t below[2] = { 28, 40 };
    assert_false(sl_piece_cut(&whole, true, from, below));
    box_is(whole.source_lo, whole.source_hi, 28, 30, 0, 40);     /* as it was */
    sl_plan_free(plan);
    sl_close(ck);
}

/* A piece of an axis of which source and target axes are crosswise. */
TEST(a_transposed_piece_is_cut_crosswise)
{
    struct sl_piece_info p = { .source = 0, .source_ndim = 2, .target_ndim = 2, .source_hi = { 4, 3 }, .target_lo = { 10, 0 }, .target_hi = { 13, 4 },
                               .target_axis = { 1, 0 } };
    const int64_t lo[2] = { 11, 0 }, hi[2] = { 13, 1 };
    assert_true(sl_piece_cut(&p, false, lo, hi));
    box_is(p.target_lo, p.target_hi, 11, 13, 0, 1);
    box_is(p.source_lo, p.source_hi, 0, 1, 1, 3);
}

static size_t source_named(const struct sl_checkpoint *ck, const char *name, int32_t tp)
{
    for (size_t i = 0; i < sl_tensor_count(ck); i++) {
        const struct sl_tensor *t = sl_tensor_at(ck, i);
        if (!strcmp(t->name, name) && sl_info(ck)->ranks[t->rank].tp == tp)
            return i;
    }
    return SIZE_MAX;
}

TEST(every_source_tensor_is_read_or_a_replica_or_left_out_with_a_reason)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    struct sl_plan *plan = planned(ck, NULL);
    size_t count[SL_SOURCE_USES] = { 0 };
    const char *why;
    for (size_t i = 0; i < sl_tensor_count(ck); i++)
        count[sl_plan_source(plan, i, &why)]++;
    assert_int_equal(count[SL_SOURCE_READ], 35);                 /* as the proof of this plan says */
    assert_int_equal(count[SL_SOURCE_REPLICA], 7);               /* 2 norms of 3 layers and the last one, on tp 1 */
    assert_int_equal(count[SL_SOURCE_LEFT_OUT], 12);             /* three random states of each of 4 ranks */
    assert_int_equal(count[SL_SOURCE_UNCLAIMED], 0);
    const char *norm = "decoder.layers.0.input_layernorm.weight";
    assert_int_equal(sl_plan_source(plan, source_named(ck, norm, 0), &why), SL_SOURCE_READ);
    assert_int_equal(sl_plan_source(plan, source_named(ck, norm, 1), &why), SL_SOURCE_REPLICA);
    assert_string_equal(why, "");
    assert_int_equal(sl_plan_source(plan, SIZE_MAX, &why), SL_SOURCE_UNCLAIMED);
    sl_plan_free(plan);
    sl_close(ck);
}

TEST(a_plan_counts_bytes_and_says_what_is_left_out)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    struct sl_plan *plan = planned(ck, "/no where/hf");
    const struct sl_plan_info *i = sl_plan_info(plan);
    assert_int_equal(i->target_count, 3 * 9 + 3);
    assert_int_equal(i->write_bytes, 2 * 45800);
    assert_int_equal(i->read_bytes, 2 * 45800);
    assert_string_equal(i->format_name, "hf");
    assert_string_equal(i->command, "shardlens convert tests/fixtures/llama_tp2_pp2 '/no where/hf' --to hf");
    assert_true(i->free_bytes > 0);
    assert_true(strlen(i->hash) >= 16);
    assert_non_null(strstr(i->proof, "exactly once"));
    size_t padding = 0;
    for (size_t k = 0; k < i->left_out_count; k++) {
        assert_true(*i->left_out[k].why);
        padding += strstr(i->left_out[k].why, "padding") != NULL;
    }
    assert_int_equal(padding, 2);
    sl_plan_free(plan);
    sl_close(ck);
}

TEST(the_usual_format_follows_from_source_and_name)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp1_pp1");
    const struct sl_plan_options o = { .iteration = -1 };
    struct sl_plan *plan;
    assert_int_equal(sl_plan_make(ck, "/out", &o, &plan, &err), 0);
    assert_int_equal(sl_plan_info(plan)->format, SL_TO_HF);
    sl_plan_free(plan);
    assert_int_equal(sl_plan_make(ck, "/out/weights.pt", &o, &plan, &err), 0);
    assert_int_equal(sl_plan_info(plan)->format, SL_TO_PT);
    sl_plan_free(plan);
    sl_close(ck);
}

static void run_to_the_end(struct sl_job *job)
{
    if (sl_job_wait(job, &err))
        fail_msg("%s: %s", err.where, err.message);
    struct sl_progress p;
    sl_job_progress(job, &p);
    assert_true(p.finished);
    assert_true(sl_job_finished(job));
}

static struct sl_job *converted(struct sl_plan *plan)
{
    struct sl_job *job;
    if (sl_convert_start(plan, NULL, &job, &err))
        fail_msg("%s: %s", err.where, err.message);
    run_to_the_end(job);
    return job;
}

/* Every tensor of the converted folder against the one of the expected file. */
static void equal_to_expected(const char *made, const char *expected)
{
    struct sl_checkpoint *a = opened(made), *b = opened(expected);
    assert_int_equal(sl_tensor_count(a), sl_tensor_count(b));
    for (size_t i = 0; i < sl_tensor_count(a); i++) {
        const struct sl_tensor *t = sl_tensor_at(a, i), *u = NULL;
        size_t k = 0;
        for (; k < sl_tensor_count(b); k++)
            if (!strcmp(sl_tensor_at(b, k)->name, t->name))
                break;
        u = sl_tensor_at(b, k);
        if (!u)
            fail_msg("%s is not expected", t->name);
        assert_int_equal(t->dtype, u->dtype);
        assert_int_equal(t->ndim, u->ndim);
        assert_memory_equal(t->shape, u->shape, t->ndim * sizeof *t->shape);
        void *x = malloc(t->bytes), *y = malloc(u->bytes);
        assert_int_equal(sl_tensor_read(a, i, 0, t->count, x, &err), 0);
        assert_int_equal(sl_tensor_read(b, k, 0, u->count, y, &err), 0);
        if (memcmp(x, y, t->bytes))
            fail_msg("%s differs", t->name);
        free(x);
        free(y);
    }
    sl_close(a);
    sl_close(b);
}

static const struct { const char *source, *family; } conversions[] = {
    { "llama_tp1_pp1", "llama" }, { "llama_tp2_pp1", "llama" }, { "llama_tp4_pp1", "llama" }, { "llama_tp1_pp2", "llama" },
    { "llama_tp2_pp2", "llama" }, { "llama_tp4_pp2", "llama" }, { "llama_te_tp2_pp1", "llama" }, { "llama_nozip_tp2_pp1", "llama" },
    { "llama_views_tp2_pp1", "llama" }, { "llama_release_tp1_pp1", "llama" }, { "minicpm_tp1_pp1", "minicpm" },
    { "minicpm_tp2_pp1", "minicpm" }, { "minicpm_tp1_pp2", "minicpm" }, { "minicpm_tp2_pp2", "minicpm" },
    { "minicpm_vpp2_tp1_pp2", "minicpm" }, { "qkv_bias_tp2_pp1", "qkv_bias" },
};

TEST(every_fixture_becomes_what_megatron_core_says_hugging_face_must_get)
{
    for (size_t i = 0; i < sizeof conversions / sizeof *conversions; i++) {
        char source[128], hf[128], expected[128];
        print_message("%s\n", conversions[i].source);
        snprintf(source, sizeof source, FIXTURES "%s", conversions[i].source);
        snprintf(hf, sizeof hf, FIXTURES "%s.hf", conversions[i].family);
        snprintf(expected, sizeof expected, FIXTURES "%s.expected.safetensors", conversions[i].family);
        struct sl_checkpoint *ck = opened_with(source, &(struct sl_open_options){ .hf_config = hf });
        struct sl_plan *plan = planned(ck, in(conversions[i].source));
        struct sl_job *job = converted(plan);
        const struct sl_summary *s = sl_job_summary(job);
        assert_true(s->verified);
        assert_int_equal(s->tensors, sl_plan_info(plan)->target_count);
        assert_int_equal(s->bytes, sl_plan_info(plan)->write_bytes);
        for (size_t k = 0; k < sl_result_count(job); k++)
            assert_int_equal(sl_result_at(job, k)->status, SL_RESULT_VERIFIED);
        assert_null(sl_result_at(job, sl_result_count(job)));
        char *report = sl_job_report_json(job);
        assert_non_null(strstr(report, "\"summary\""));
        free(report);
        sl_job_free(job);
        sl_plan_free(plan);
        sl_close(ck);
        equal_to_expected(in(conversions[i].source), expected);
    }
}

static int64_t number_of(const struct sl_checkpoint *ck, const char *key)
{
    const struct sl_setting *s = sl_config_get(ck, key);
    assert_non_null(s);
    return s->value->i;
}

/* Sizes, and numbers of weights, are those of tests/fixtures/moe_files.py: qwen3moe has a dense layer and one of 4
 * experts (3 chosen), each 3 * 10 * 12 elements; mixtral one layer of 2 experts. */
TEST(experts_over_ranks_are_told_and_become_what_megatron_core_says)
{
    static const struct { const char *source, *expected, *family; int32_t tp, ep, experts, topk, layer; uint64_t in_experts, params, active; } rows[] = {
        { "qwen3moe_tp2_pp1_ep2_etp1", "qwen3moe", "qwen3-moe", 2, 2, 4, 3, 1, 4 * 360, 3532, 3172 },
        { "mixtral_tp1_pp1_ep2_etp1", "mixtral", "mixtral", 1, 2, 2, 2, 0, 2 * 360, 1956, 1956 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char source[128], expected[128];
        snprintf(source, sizeof source, FIXTURES "%s", rows[i].source);
        snprintf(expected, sizeof expected, FIXTURES "%s.expected.safetensors", rows[i].expected);
        struct sl_checkpoint *ck = opened(source);
        const struct sl_checkpoint_info *info = sl_info(ck);
        const struct sl_moe *moe = info->moe;
        assert_string_equal(info->family, rows[i].family);
        assert_int_equal(info->parallel.tp, rows[i].tp);
        assert_int_equal(info->parallel.ep, rows[i].ep);
        assert_int_equal(info->parallel.etp, 1);
        assert_non_null(moe);
        assert_int_equal(moe->num_experts, rows[i].experts);
        assert_int_equal(moe->topk, rows[i].topk);
        assert_int_equal(moe->layer_count, 1);
        assert_int_equal(moe->layers[0], rows[i].layer);
        assert_string_equal(moe->expert_layout, "local_experts");
        assert_int_equal(moe->expert_params, rows[i].in_experts);
        assert_int_equal(moe->active_params, rows[i].active);
        assert_int_equal(info->params, rows[i].params);
        assert_int_equal(number_of(ck, "moe_ffn_hidden_size"), 10);
        struct sl_plan *plan = planned(ck, in(rows[i].source));
        struct sl_job *job = converted(plan);
        assert_true(sl_job_summary(job)->verified);
        sl_job_free(job);
        sl_plan_free(plan);
        sl_close(ck);
        equal_to_expected(in(rows[i].source), expected);
    }
}

/* Into another cut, with Transformer Engine's names, and from there to Hugging Face. */
TEST(experts_go_through_another_cut_unchanged)
{
    static const struct { const char *source, *expected; int32_t tp, ep, etp; } rows[] = {
        { "qwen3moe_tp2_pp1_ep2_etp1", "qwen3moe", 1, 4, 1 }, { "qwen3moe_tp2_pp1_ep2_etp1", "qwen3moe", 2, 1, 2 },
        { "mixtral_tp1_pp1_ep2_etp1", "mixtral", 3, 2, 2 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char source[128], expected[128], between[32], hf[32];
        snprintf(source, sizeof source, FIXTURES "%s", rows[i].source);
        snprintf(expected, sizeof expected, FIXTURES "%s.expected.safetensors", rows[i].expected);
        snprintf(between, sizeof between, "between%zu", i);
        snprintf(hf, sizeof hf, "hf%zu", i);
        struct sl_plan_options o = { .format = SL_TO_MEGATRON, .tp = rows[i].tp, .ep = rows[i].ep, .etp = rows[i].etp, .iteration = -1 };
        struct sl_checkpoint *ck = opened(source);
        struct sl_plan *plan = NULL;
        if (sl_plan_make(ck, in(between), &o, &plan, &err))
            fail_msg("%s: %s", err.where, err.message);
        sl_job_free(converted(plan));
        sl_plan_free(plan);
        sl_close(ck);
        ck = opened(in(between));
        assert_string_equal(sl_info(ck)->moe->expert_layout, "te_grouped");
        assert_int_equal(sl_info(ck)->parallel.ep, rows[i].ep);
        assert_int_equal(sl_info(ck)->parallel.etp, rows[i].etp);
        plan = planned(ck, in(hf));
        sl_job_free(converted(plan));
        sl_plan_free(plan);
        sl_close(ck);
        equal_to_expected(in(hf), expected);
    }
}

TEST(two_layouts_of_one_model_are_verified_equal_and_another_model_is_not)
{
    struct sl_checkpoint *a = opened(FIXTURES "llama_tp4_pp2"), *b = opened(FIXTURES "llama_te_tp2_pp1");
    struct sl_job *job;
    assert_int_equal(sl_verify_start(a, b, NULL, &job, &err), 0);
    run_to_the_end(job);
    const struct sl_summary *s = sl_job_summary(job);
    assert_int_equal(s->equal, 30);
    assert_int_equal(s->different + s->only_a + s->only_b, 0);
    sl_job_free(job);
    sl_close(b);
    b = opened(FIXTURES "minicpm_tp1_pp1");
    assert_int_equal(sl_verify_start(a, b, NULL, &job, &err), 0);
    run_to_the_end(job);
    s = sl_job_summary(job);
    assert_int_equal(s->equal, 0);
    assert_true(s->different + s->only_a + s->only_b > 0);
    sl_job_free(job);
    sl_close(a);
    sl_close(b);
}

TEST(a_sound_checkpoint_is_said_to_be_sound_with_how_much_was_read)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    for (int deep = 0; deep < 2; deep++) {
        struct sl_job *job;
        assert_int_equal(sl_check_start(ck, deep, NULL, &job, &err), 0);
        run_to_the_end(job);
        const struct sl_check_result *r = sl_check_result(job);
        for (size_t i = 0; i < r->problem_count; i++)
            assert_int_equal(r->problems[i].severity, SL_NOTE);
        assert_int_equal(r->files_total, 4);
        assert_int_equal(r->replicas_different, 0);
        assert_int_equal(r->bytes_read > 0, deep);
        if (!strstr(r->verdict, deep ? "= sound: 0 errors, 0 warnings" : "= headers agree: 0 errors, 0 warnings"))
            fail_msg("%s", r->verdict);
        sl_job_free(job);
    }
    sl_close(ck);
}

static void copy_rank(const char *rank)
{
    char from[256], to[400], bytes[70000];
    snprintf(from, sizeof from, FIXTURES "llama_tp2_pp2/iter_0000010/%s/model_optim_rng.pt", rank);
    snprintf(to, sizeof to, "%s/%s", folder, rank);
    assert_int_equal(sl_folder_make(to, NULL), 0);
    snprintf(to, sizeof to, "%s/%s/model_optim_rng.pt", folder, rank);
    FILE *f = fopen(from, "rb");
    const size_t len = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    write_text(to, bytes, len);
}

TEST(a_plan_without_a_rank_names_it)
{
    copy_rank("mp_rank_00_000");
    copy_rank("mp_rank_01_000");
    copy_rank("mp_rank_00_001");
    struct sl_checkpoint *ck = opened(folder);
    const struct sl_plan_options o = { .format = SL_TO_HF, .iteration = -1 };
    struct sl_plan *plan;
    assert_int_equal(sl_info(ck)->problems[0].severity, SL_ERROR);
    assert_string_equal(sl_info(ck)->problems[0].code, "missing-rank");
    assert_int_equal(sl_plan_make(ck, NULL, &o, &plan, &err), SL_INPUT);
    assert_null(plan);
    assert_says(err, "mp_rank_01_001");
    assert_string_equal(logical(ck, "output_layer.weight")->odd, "shards of it are missing");
    sl_close(ck);
}

/* mlp.linear_fc2 of layer 1 under another name, on its only rank */
TEST(a_weight_that_no_tensor_holds_is_named)
{
    char path[400], bytes[140000];
    snprintf(path, sizeof path, FIXTURES "llama_nozip_tp2_pp1/iter_0000010/mp_rank_00/model_optim_rng.pt");
    for (int rank = 0; rank < 2; rank++) {        /* this container has no checksums to make right */
        path[strlen(path) - strlen("0/model_optim_rng.pt")] = (char)('0' + rank);
        FILE *f = fopen(path, "rb");
        const size_t len = fread(bytes, 1, sizeof bytes, f);
        fclose(f);
        char *name = memmem(bytes, len, "layers.1.mlp.linear_fc2", 23);
        assert_non_null(name);
        name[22] = 'X';
        snprintf(bytes + sizeof bytes - 64, 64, "mp_rank_0%d", rank);
        assert_int_equal(sl_folder_make(in(bytes + sizeof bytes - 64), NULL), 0);
        write_text(in(rank ? "mp_rank_01/model_optim_rng.pt" : "mp_rank_00/model_optim_rng.pt"), bytes, len);
    }
    struct sl_checkpoint *ck = opened(folder);
    const struct sl_checkpoint_info *i = sl_info(ck);
    bool told = false;
    for (size_t k = 0; k < i->problem_count; k++)
        told = told || (!strcmp(i->problems[k].code, "layer-incomplete") && !strcmp(i->problems[k].where, "layers.1.mlp.down"));
    assert_true(told);
    sl_close(ck);
}

struct told { unsigned calls; int stop; struct sl_progress last; };

static int tell(const struct sl_progress *progress, void *user)
{
    struct told *t = user;
    t->calls++;
    t->last = *progress;
    return t->stop;
}

static int followed(struct sl_plan *plan, struct told *t)
{
    struct sl_job *job;
    if (sl_convert_start(plan, NULL, &job, &err))
        fail_msg("%s: %s", err.where, err.message);
    if (t->stop)
        sl_job_pause(job, true);
    const int code = sl_job_follow(job, 10, tell, t, &err);
    sl_job_free(job);
    return code;
}

TEST(a_followed_job_tells_its_end_and_what_is_told_to_stop_stops_with_that_code)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    struct sl_plan *plan = planned(ck, in("stopped"));
    struct told stopped = { .stop = SL_TERMINATED };
    int code = SL_OK;
    for (int again = 0; again < 20 && !code; again++) {      /* on a busy machine it may end before the pause */
        sl_folder_remove(in("stopped"), NULL);
        code = followed(plan, &stopped);
    }
    assert_int_equal(code, SL_TERMINATED);
    assert_false(sl_path_exists(in("stopped")));
    sl_plan_free(plan);

    plan = planned(ck, in("whole"));
    struct told whole = { 0 };
    assert_int_equal(followed(plan, &whole), SL_OK);
    assert_true(whole.last.finished);
    assert_int_equal(whole.last.verified, 3 * 9 + 3);
    sl_plan_free(plan);
    sl_close(ck);
}

/* Workers come and go while it is paused and while it runs; what is written is the same. */
TEST(the_number_of_workers_changes_while_it_runs)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    struct sl_plan *plan = planned(ck, in("workers"));
    const struct sl_run_options two = { .threads = 2 }, tight = { .threads = 2, .memory = 2 * 131072 };
    struct sl_job *job = NULL;
    struct sl_progress p;
    assert_int_equal(sl_convert_start(plan, &two, &job, &err), SL_OK);
    sl_job_pause(job, true);
    assert_int_equal(sl_job_workers(job, 5), 5);
    sl_job_progress(job, &p);
    assert_int_equal(p.workers, 5);
    assert_int_equal(sl_job_workers(job, 0), 1);
    assert_int_equal(sl_job_workers(job, SL_MAX_WORKERS + 1), SL_MAX_WORKERS);
    sl_job_pause(job, false);
    for (uint32_t i = 0; !sl_job_finished(job); i++)
        sl_job_workers(job, i % 7 + 1);
    assert_int_equal(sl_job_wait(job, &err), SL_OK);
    sl_job_progress(job, &p);
    assert_int_equal(p.verified, 3 * 9 + 3);
    sl_job_free(job);
    sl_plan_free(plan);

    plan = planned(ck, in("tight"));                          /* two buffers of 64 KiB each are all that it may have */
    assert_int_equal(sl_convert_start(plan, &tight, &job, &err), SL_OK);
    assert_int_equal(sl_job_workers(job, 9), 2);
    assert_int_equal(sl_job_workers(job, 1), 1);
    assert_int_equal(sl_job_wait(job, &err), SL_OK);
    sl_job_free(job);
    sl_plan_free(plan);
    sl_close(ck);
}

/* One that waits to be wanted again does not keep a job from its end, its stop or its pause. */
TEST(a_job_with_fewer_workers_stops_and_goes_on)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    struct sl_plan *plan = planned(ck, in("fewer"));
    const struct sl_run_options four = { .threads = 4 }, resumed = { .threads = 4, .resume = true };
    struct sl_job *job = NULL;
    assert_int_equal(sl_convert_start(plan, &four, &job, &err), SL_OK);
    assert_int_equal(sl_job_workers(job, 1), 1);
    sl_job_cancel(job, SL_INTERRUPTED);
    const int stopped = sl_job_wait(job, &err);
    assert_true(stopped == SL_INTERRUPTED || stopped == SL_OK);
    sl_job_free(job);
    if (stopped) {
        assert_int_equal(sl_convert_start(plan, &resumed, &job, &err), SL_OK);
        assert_int_equal(sl_job_workers(job, 1), 1);
        assert_int_equal(sl_job_wait(job, &err), SL_OK);
        sl_job_free(job);
    }
    sl_plan_free(plan);
    sl_close(ck);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(a_plan_tells_the_blocks_that_make_a_target),
        ROW(a_piece_is_cut_to_a_range_from_both_sides),
        ROW(a_transposed_piece_is_cut_crosswise),
        ROW(every_source_tensor_is_read_or_a_replica_or_left_out_with_a_reason),
        ROW(a_plan_counts_bytes_and_says_what_is_left_out),
        ROW(the_usual_format_follows_from_source_and_name),
        IN_FOLDER(every_fixture_becomes_what_megatron_core_says_hugging_face_must_get),
        IN_FOLDER(experts_over_ranks_are_told_and_become_what_megatron_core_says),
        IN_FOLDER(experts_go_through_another_cut_unchanged),
        ROW(two_layouts_of_one_model_are_verified_equal_and_another_model_is_not),
        ROW(a_sound_checkpoint_is_said_to_be_sound_with_how_much_was_read),
        IN_FOLDER(a_followed_job_tells_its_end_and_what_is_told_to_stop_stops_with_that_code),
        IN_FOLDER(the_number_of_workers_changes_while_it_runs),
        IN_FOLDER(a_job_with_fewer_workers_stops_and_goes_on),
        IN_FOLDER(a_plan_without_a_rank_names_it),
        IN_FOLDER(a_weight_that_no_tensor_holds_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
