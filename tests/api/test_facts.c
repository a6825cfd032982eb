/* test_facts.c: what the public API says of the fixtures. Numbers are those of
 * tests/fixtures/README.md, and arithmetic over them. */
#include "golden.h"

/* weights of a layer of hidden h, ffn f, nh heads in ng groups of size hd, with or without q k v bias */
static uint64_t layer_params(uint64_t h, uint64_t f, uint64_t nh, uint64_t ng, uint64_t hd, bool bias)
{
    return 2 * h + (nh + 2 * ng) * hd * (h + bias) + h * nh * hd + 3 * f * h;
}

struct golden {
    const char *folder, *family, *names;
    int layers, hidden, ffn, heads, groups, head, vocab, padded, tp, pp, vpp;
    bool tied, bias, stored_head;    /* stored_head: an output_layer is in the files */
    enum sl_dtype dtype;
};
static const struct golden goldens[] = {
    { "llama_tp1_pp1", "llama", "local", 3, 40, 52, 4, 2, 14, 83, 88, 1, 1, 1, false, false, true, SL_BF16 },
    { "llama_tp2_pp1", "llama", "local", 3, 40, 52, 4, 2, 14, 83, 96, 2, 1, 1, false, false, true, SL_BF16 },
    { "llama_tp4_pp1", "llama", "local", 3, 40, 52, 4, 2, 14, 83, 96, 4, 1, 1, false, false, true, SL_BF16 },
    { "llama_tp1_pp2", "llama", "local", 3, 40, 52, 4, 2, 14, 83, 88, 1, 2, 1, false, false, true, SL_BF16 },
    { "llama_tp2_pp2", "llama", "local", 3, 40, 52, 4, 2, 14, 83, 96, 2, 2, 1, false, false, true, SL_BF16 },
    { "llama_tp4_pp2", "llama", "local", 3, 40, 52, 4, 2, 14, 83, 96, 4, 2, 1, false, false, true, SL_BF16 },
    { "llama_te_tp2_pp1", "llama", "te", 3, 40, 52, 4, 2, 14, 83, 96, 2, 1, 1, false, false, true, SL_BF16 },
    { "llama_nozip_tp2_pp1", "llama", "local", 3, 40, 52, 4, 2, 14, 83, 96, 2, 1, 1, false, false, true, SL_BF16 },
    { "llama_views_tp2_pp1", "llama", "local", 3, 40, 52, 4, 2, 14, 83, 96, 2, 1, 1, false, false, true, SL_BF16 },
    { "llama_release_tp1_pp1", "llama", "local", 3, 40, 52, 4, 2, 14, 83, 88, 1, 1, 1, false, false, true, SL_BF16 },
    { "minicpm_tp1_pp1", "minicpm", "local", 4, 30, 44, 6, 2, 6, 71, 71, 1, 1, 1, true, false, false, SL_F32 },
    { "minicpm_tp2_pp1", "minicpm", "local", 4, 30, 44, 6, 2, 6, 71, 72, 2, 1, 1, true, false, false, SL_F32 },
    { "minicpm_tp1_pp2", "minicpm", "local", 4, 30, 44, 6, 2, 6, 71, 71, 1, 2, 1, true, false, true, SL_F32 },
    { "minicpm_tp2_pp2", "minicpm", "local", 4, 30, 44, 6, 2, 6, 71, 72, 2, 2, 1, true, false, true, SL_F32 },
    { "minicpm_vpp2_tp1_pp2", "minicpm", "local", 4, 30, 44, 6, 2, 6, 71, 71, 1, 2, 2, true, false, true, SL_F32 },
    { "qkv_bias_tp2_pp1", "qwen2", "local", 2, 24, 28, 4, 2, 8, 61, 64, 2, 1, 1, false, true, true, SL_F16 },
};

static void config_is(const struct sl_checkpoint *ck, const char *key, int64_t value)
{
    const struct sl_setting *s = sl_config_get(ck, key);
    if (!s)
        fail_msg("%s is not known", key);
    if (s->value->i != value)
        fail_msg("%s is %lld, expected %lld (from %s)", key, (long long)s->value->i, (long long)value, s->from);
    assert_true(*s->from);
}

static void no_errors(const struct sl_checkpoint_info *info)
{
    for (size_t i = 0; i < info->problem_count; i++)
        if (info->problems[i].severity != SL_NOTE)
            fail_msg("%s: %s", info->problems[i].code, info->problems[i].message);
}

static void facts_are(const struct golden *g, struct sl_checkpoint *ck)
{
    const struct sl_checkpoint_info *i = sl_info(ck);
    const uint64_t size = g->dtype == SL_F32 ? 4 : 2;
    const uint64_t layers = (uint64_t)g->layers * layer_params((uint64_t)g->hidden, (uint64_t)g->ffn, (uint64_t)g->heads,
                                                               (uint64_t)g->groups, (uint64_t)g->head, g->bias);
    const uint64_t embedding = (uint64_t)(g->vocab * g->hidden), rows = (uint64_t)(g->padded * g->hidden);
    const uint64_t sets = g->tied ? 1 : 2;      /* embedding and head */
    assert_int_equal(i->container, SL_MEGATRON_TORCH);
    assert_string_equal(i->family, g->family);
    assert_string_equal(i->names, g->names);
    assert_int_equal(i->parallel.tp, g->tp);
    assert_int_equal(i->parallel.pp, g->pp);
    assert_int_equal(i->parallel.vpp, g->vpp);
    assert_int_equal(i->parallel.ep, 1);
    assert_null(i->moe);
    assert_int_equal(i->rank_count, g->tp * g->pp);
    assert_int_equal(i->params, layers + sets * embedding + (uint64_t)g->hidden);
    assert_int_equal(i->unique_bytes, size * (layers + sets * rows + (uint64_t)g->hidden));
    assert_int_equal(i->tensors, (size_t)g->layers * (6 + g->bias) + 2 + g->stored_head);
    assert_int_equal(i->dtype_count, 1);
    assert_int_equal(i->dtypes[0].dtype, g->dtype);
    assert_int_equal(i->dtypes[0].bytes, i->bytes);
    assert_true(i->evidence_count > 0);
    config_is(ck, "num_layers", g->layers);
    config_is(ck, "hidden_size", g->hidden);
    config_is(ck, "ffn_hidden_size", g->ffn);
    config_is(ck, "num_attention_heads", g->heads);
    config_is(ck, "num_query_groups", g->groups);
    config_is(ck, "kv_channels", g->head);
    config_is(ck, "vocab_size", g->vocab);
    config_is(ck, "padded_vocab_size", g->padded);
    config_is(ck, "tie_embeddings", g->tied);
    no_errors(i);
}

TEST(every_fixture_is_known_for_what_it_is)
{
    for (size_t k = 0; k < sizeof goldens / sizeof *goldens; k++) {
        char path[128];
        print_message("%s\n", goldens[k].folder);
        snprintf(path, sizeof path, FIXTURES "%s", goldens[k].folder);
        struct sl_checkpoint *ck = opened(path);
        facts_are(&goldens[k], ck);
        sl_close(ck);
    }
}

TEST(uneven_stages_and_virtual_chunks_have_their_global_layers)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    const struct sl_rank *r = sl_info(ck)->ranks;
    assert_int_equal(r[0].layer_first, 0);
    assert_int_equal(r[1].layer_last, 1);
    assert_int_equal(r[2].layer_first, 2);
    assert_int_equal(r[3].layer_last, 2);
    const struct sl_logical *l = logical(ck, "decoder.layers.2.mlp.linear_fc2.weight");
    assert_int_equal(l->layer, 2);
    assert_int_equal(sl_tensor_at(ck, l->pieces[0])->rank, 2);
    assert_string_equal(sl_tensor_at(ck, l->pieces[0])->name, "decoder.layers.0.mlp.linear_fc2.weight");
    sl_close(ck);
    ck = opened(FIXTURES "minicpm_vpp2_tp1_pp2");
    l = logical(ck, "decoder.layers.2.mlp.linear_fc2.weight");     /* stage 0 holds layers 0 and 2 */
    assert_int_equal(sl_tensor_at(ck, l->pieces[0])->rank, 0);
    assert_int_equal(sl_tensor_at(ck, l->pieces[0])->chunk, 1);
    sl_close(ck);
}

struct cut { const char *name; enum sl_split split; int axis; const char *text, *kind; int64_t rows, cols; };

TEST(tensors_are_merged_over_ranks_and_say_how_they_are_cut)
{
    static const struct cut cuts[] = {
        { "embedding.word_embeddings.weight", SL_SPLIT, 0, "tp dim0", "embedding", 96, 40 },
        { "decoder.layers.0.input_layernorm.weight", SL_COPY, -1, "copy x2", "norm", 40, 0 },
        { "decoder.layers.1.self_attention.linear_qkv.weight", SL_SPLIT, 0, "tp dim0", "attention", 112, 40 },
        { "decoder.layers.1.self_attention.linear_proj.weight", SL_SPLIT, 1, "tp dim1", "attention", 40, 56 },
        { "decoder.layers.1.mlp.linear_fc1.weight", SL_SPLIT, 0, "tp half", "mlp", 104, 40 },
        { "decoder.layers.2.mlp.linear_fc2.weight", SL_SPLIT, 1, "tp dim1", "mlp", 40, 52 },
        { "output_layer.weight", SL_SPLIT, 0, "tp dim0", "head", 96, 40 },
    };
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        const struct sl_logical *l = logical(ck, cuts[i].name);
        assert_string_equal(l->name, cuts[i].name);
        assert_int_equal(l->split, cuts[i].split);
        assert_int_equal(l->split_axis, cuts[i].axis);
        assert_string_equal(l->split_text, cuts[i].text);
        assert_string_equal(l->kind, cuts[i].kind);
        assert_int_equal(l->piece_count, 2);
        assert_int_equal(l->shape[0], cuts[i].rows);
        assert_int_equal(l->ndim, cuts[i].cols ? 2 : 1);
        if (cuts[i].cols)
            assert_int_equal(l->shape[1], cuts[i].cols);
        assert_int_equal(l->bytes, 2 * cuts[i].rows * (cuts[i].cols ? cuts[i].cols : 1));
        assert_null(l->odd);
    }
    sl_close(ck);
}

TEST(states_that_each_rank_keeps_for_itself_are_not_odd)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    const struct sl_logical *l = logical(ck, "rng_state.0.torch_rng_state");
    assert_string_equal(l->kind, "optimizer");
    assert_string_equal(l->split_text, "own x4");
    assert_null(l->odd);
    sl_close(ck);
}

TEST(tensors_are_found_by_their_names_in_files_and_in_hugging_face)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    const ptrdiff_t qkv = sl_logical_find(ck, "decoder.layers.2.self_attention.linear_qkv.weight");
    assert_true(qkv >= 0);
    assert_int_equal(sl_logical_find(ck, "model.layers.2.self_attn.k_proj.weight"), qkv);
    assert_int_equal(sl_logical_find(ck, "model.decoder.layers.0.mlp.linear_fc1.weight"),
                     sl_logical_find(ck, "decoder.layers.0.mlp.linear_fc1.weight"));
    assert_int_equal(sl_logical_find(ck, "model.layers.3.self_attn.k_proj.weight"), -1);
    assert_int_equal(sl_logical_find(ck, ""), -1);
    sl_close(ck);
}

static void slice_is(const struct sl_slice_info *s, const char *param, int64_t group, uint64_t first, uint64_t count)
{
    assert_string_equal(s->param, param);
    assert_string_equal(s->param_axes[0], "group");
    assert_int_equal(s->param_lo[0], group);
    assert_int_equal(s->param_hi[0], group + 1);
    assert_int_equal(s->first_element, first);
    assert_int_equal(s->count, count);
}

/* Rows of a shard of linear_qkv: per group two query heads, one key head, one value
 * head, each of 14 rows of 40. At TP=2 each rank holds one of the two groups. */
TEST(slices_say_which_rows_hold_query_key_and_value)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_tp2_pp2");
    const struct sl_logical *l = logical(ck, "decoder.layers.2.self_attention.linear_qkv.weight");
    const struct sl_slice_info *s, *again;
    size_t count;
    for (size_t rank = 0; rank < 2; rank++) {
        assert_int_equal(sl_tensor_slices(ck, l->pieces[rank], &s, &count, &err), 0);
        assert_int_equal(count, 3);
        size_t seen = 0;
        for (size_t i = 0; i < 3; i++) {
            const char part = s[i].param[strlen(s[i].param) - 1];
            seen |= part == 'q' ? 1u : part == 'k' ? 2u : 4u;
            if (part == 'q')
                slice_is(&s[i], "layers.2.attn.q", (int64_t)rank, 0, 2 * 14 * 40);
            else
                slice_is(&s[i], part == 'k' ? "layers.2.attn.k" : "layers.2.attn.v", (int64_t)rank,
                         part == 'k' ? 28 * 40 : 42 * 40, 14 * 40);
        }
        assert_int_equal(seen, 7);
    }
    assert_int_equal(sl_tensor_slices(ck, l->pieces[1], &again, &count, &err), 0);
    assert_ptr_equal(s, again);
    assert_int_equal(sl_tensor_slices(ck, sl_tensor_count(ck), &s, &count, &err), SL_USAGE);
    sl_close(ck);
}

TEST(elements_and_their_statistics_agree)
{
    struct sl_checkpoint *ck = opened(FIXTURES "minicpm_tp2_pp2");
    const struct sl_logical *l = logical(ck, "decoder.layers.3.mlp.linear_fc1.weight");
    double sum = 0, least = 1e30, most = -1e30;
    uint64_t count = 0;
    for (size_t i = 0; i < l->piece_count; i++) {
        const struct sl_tensor *t = sl_tensor_at(ck, l->pieces[i]);
        float *values = malloc(t->bytes);
        assert_int_equal(sl_tensor_read(ck, l->pieces[i], 0, t->count, values, &err), 0);
        for (uint64_t k = 0; k < t->count; k++) {
            const double v = (double)values[k];
            assert_true(sl_element(SL_F32, &values[k]) >= v && sl_element(SL_F32, &values[k]) <= v);
            sum += v;
            least = v < least ? v : least;
            most = v > most ? v : most;
        }
        count += t->count;
        free(values);
    }
    struct sl_stats stats;
    struct sl_histogram h = { 0 };
    uint64_t checksum = 0, again = 0;
    sl_atomic_u64 done = 0;
    assert_int_equal(sl_tensor_stats(ck, l->pieces, l->piece_count, &stats, &h, &checksum, NULL, &done, &err), 0);
    assert_int_equal(stats.count, count);
    assert_int_equal(stats.count, 88 * 30);
    assert_int_equal(stats.nan + stats.inf, 0);
    assert_true(stats.min >= least && stats.min <= least && stats.max >= most && stats.max <= most);
    const double mean = sum / (double)count, gap = stats.mean - mean;
    assert_true(gap < 1e-9 && gap > -1e-9);
    uint64_t bins = 0;
    for (size_t i = 0; i < SL_HISTOGRAM_BINS; i++)
        bins += h.bins[i];
    assert_int_equal(bins, count);
    assert_int_equal(done, 2 * l->bytes);       /* read once for the range, once for the bins */
    assert_int_equal(sl_tensor_stats(ck, l->pieces, l->piece_count, &stats, NULL, &again, NULL, NULL, &err), 0);
    assert_int_equal(checksum, again);
    const sl_atomic_int stop = 1;
    assert_int_equal(sl_tensor_stats(ck, l->pieces, l->piece_count, &stats, NULL, NULL, &stop, NULL, &err), SL_INTERRUPTED);
    sl_close(ck);
}

TEST(what_is_no_checkpoint_is_refused_in_one_line)
{
    struct sl_checkpoint *ck = (struct sl_checkpoint *)&err;
    assert_int_equal(sl_open("/nowhere/at/all", NULL, &ck, &err), SL_INPUT);
    assert_null(ck);
    assert_string_equal(err.where, "/nowhere/at/all");
    assert_null(strchr(err.message, '\n'));
    assert_int_equal(sl_open(FIXTURES "README.md", NULL, &ck, NULL), SL_INPUT);
    sl_close(NULL);
    sl_plan_free(NULL);
    sl_job_free(NULL);
}

TEST(what_is_stated_against_the_tensors_is_refused)
{
    struct sl_checkpoint *ck;
    const char *const set[] = { "num_layers=5" };
    const struct sl_open_options o = { .set = set, .set_count = 1 };
    assert_int_equal(sl_open(FIXTURES "llama_tp2_pp2", &o, &ck, &err), SL_USAGE);
    assert_says(err, "num_layers");
    const struct sl_open_options m = { .model = "no-such-model" };
    assert_int_equal(sl_open(FIXTURES "llama_tp2_pp2", &m, &ck, &err), SL_USAGE);
    assert_says(err, "no-such-model");
}

TEST(without_args_the_head_size_must_be_stated)
{
    struct sl_checkpoint *ck = opened(FIXTURES "llama_noargs_tp2_pp1");
    const struct sl_plan_options o = { .format = SL_TO_HF, .iteration = -1 };
    struct sl_plan *plan;
    assert_int_equal(sl_plan_make(ck, NULL, &o, &plan, &err), SL_USAGE);
    assert_says(err, "--set kv_channels=");
    sl_close(ck);
    const char *const set[] = { "kv_channels=14" };
    ck = opened_with(FIXTURES "llama_noargs_tp2_pp1", &(struct sl_open_options){ .set = set, .set_count = 1 });
    plan = planned(ck, "/out/hf");
    assert_string_equal(sl_plan_info(plan)->command,
                        "shardlens convert tests/fixtures/llama_noargs_tp2_pp1 /out/hf --to hf --set kv_channels=14");
    sl_plan_free(plan);
    sl_close(ck);
}

TEST(tables_can_be_walked_and_end)
{
    assert_true(sl_model_row_count() > 8);
    assert_null(sl_model_row(sl_model_row_count()));
    bool minicpm = false;
    for (size_t i = 0; i < sl_model_row_count(); i++)
        minicpm = minicpm || !strcmp(sl_model_row(i)->option, "minicpm-8b");
    assert_true(minicpm);
    assert_true(sl_family_row_count() >= 2);
    assert_null(sl_family_row(sl_family_row_count()));
    for (size_t i = 0; i < sl_family_row_count(); i++)
        assert_true(*sl_family_row(i)->name && sl_family_row(i)->rules > 0);
    const struct sl_problem_code *first = sl_problem_code(0), *second = sl_problem_code(1);
    assert_string_not_equal(first->code, second->code);
    assert_null(sl_problem_code(sl_problem_code_count()));
}

TEST(foreign_text_is_made_printable)
{
    char out[64];
    assert_string_equal(sl_printable("a\033[2Jb", out, sizeof out), "a\\x1b[2Jb");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(every_fixture_is_known_for_what_it_is),
        ROW(uneven_stages_and_virtual_chunks_have_their_global_layers),
        ROW(tensors_are_merged_over_ranks_and_say_how_they_are_cut),
        ROW(states_that_each_rank_keeps_for_itself_are_not_odd),
        ROW(tensors_are_found_by_their_names_in_files_and_in_hugging_face),
        ROW(slices_say_which_rows_hold_query_key_and_value),
        ROW(elements_and_their_statistics_agree),
        ROW(what_is_no_checkpoint_is_refused_in_one_line),
        ROW(what_is_stated_against_the_tensors_is_refused),
        ROW(without_args_the_head_size_must_be_stated),
        ROW(tables_can_be_walked_and_end),
        ROW(foreign_text_is_made_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
