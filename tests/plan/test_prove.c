/* test_prove.c: a plan that is not whole is refused, with the rows: shards that are missing,
 * shards that overlap, and copies that were damaged on purpose. */
#include "../layout/toy.h"
#include "moves.h"

#include "plan/boxes.h"

static struct sl_families families;
static const struct sl_family *llama;
static struct toy_ckpt ck;
static struct toy_model model;
static struct sl_arena arena;
static struct sl_layout source, target;
static struct sl_copy *copies;
static size_t copy_count, *first;
static struct sl_error err;

/* 4 groups of 2 heads of 4 rows, ffn 12, 2 layers, TP 2, PP 2. */
static const struct toy small = { .layers = 2, .hidden = 5, .ffn = 12, .groups = 4, .per_group = 2, .head = 4, .vocab = 10 };
static const struct toy_layout two = { .tp = 2, .pp = 2, .vpp = 1, .stage = { 1, 1 }, .padded = 12, .te = true };

static void open_toy(const struct toy *m, const struct toy_layout *at)
{
    static const char *const paths[] = { "mp_rank_00_000", "mp_rank_01_000", "mp_rank_00_001", "mp_rank_01_001" };
    if (at)
        toy_megatron(&ck, m, at);
    else
        toy_hf(&ck, m);
    for (size_t i = 0; i < ck.c.rank_count; i++)
        ck.ranks[i].path = paths[i];
    toy_model(&model, llama, m, at);
}

static void close_all(void)
{
    free(copies);
    free(first);
    copies = NULL;
    first = NULL;
    sl_layout_free(&source);
    sl_layout_free(&target);
    sl_arena_free(&arena);
    toy_free(&ck);
}

/* Takes a tensor out of the checkpoint. */
static void lose(const char *name, int32_t rank)
{
    for (size_t i = 0; i < ck.c.tensor_count; i++)
        if (!strcmp(ck.tensors[i].name, name) && ck.tensors[i].rank == rank) {
            free(ck.data[i]);
            ck.c.tensor_count--;
            memmove(&ck.tensors[i], &ck.tensors[i + 1], (ck.c.tensor_count - i) * sizeof ck.tensors[0]);
            memmove(&ck.data[i], &ck.data[i + 1], (ck.c.tensor_count - i) * sizeof ck.data[0]);
            return;
        }
    fail_msg("no %s on rank %d", name, rank);
}

static int prove(void)
{
    err = (struct sl_error){ 0 };
    const int rc = sl_layout_source(&model.m, &ck.c, &arena, &source, &err);
    return rc ? rc : sl_prove_source(&source, &model.m, &ck.c, &err);
}

static void assert_where(const char *where)
{
    assert_string_equal(err.where, where);
}

/* ---- the source ------------------------------------------------------------------ */

TEST(a_whole_checkpoint_is_proved)
{
    open_toy(&small, &two);
    assert_int_equal(prove(), SL_OK);
    close_all();
}

TEST(a_lost_qkv_shard_is_named_by_its_groups_and_rank)
{
    open_toy(&small, &two);
    lose("decoder.layers.0.self_attention.linear_qkv.weight", 3);
    assert_int_equal(prove(), SL_INPUT);
    assert_where("layers.1.attn.q");
    assert_says(err, "group 2-3 is held by nobody; mp_rank_01_001 should hold them "
                     "(decoder.layers.0.self_attention.linear_qkv.weight)");
    close_all();
}

TEST(a_lost_column_shard_is_named_by_the_axis_it_cuts)
{
    open_toy(&small, &two);
    lose("decoder.layers.0.mlp.linear_fc2.weight", 0);
    assert_int_equal(prove(), SL_INPUT);
    assert_where("layers.0.mlp.down");
    assert_says(err, "ffn 0-5 is held by nobody; mp_rank_00_000 should hold them");
    close_all();
}

TEST(a_rank_that_is_missing_is_told_as_such)
{
    open_toy(&small, &two);
    lose("decoder.layers.0.self_attention.linear_qkv.weight", 3);
    ck.ranks[3].status = SL_RANK_MISSING;
    assert_int_equal(prove(), SL_INPUT);
    assert_says(err, "mp_rank_01_001, which is missing, should hold them");
    close_all();
}

TEST(a_rank_that_cannot_be_read_is_told_with_what_is_wrong_with_its_file)
{
    open_toy(&small, &two);
    lose("decoder.layers.0.self_attention.linear_qkv.weight", 3);
    ck.ranks[3].status = SL_RANK_DAMAGED;
    ck.c.problems.arena = &arena;
    sl_problem_add(&ck.c.problems, "truncated-shard", "mp_rank_01_001/model_optim_rng.pt", NULL, "7 bytes found, siblings have 9");
    assert_int_equal(prove(), SL_INPUT);
    assert_says(err, "mp_rank_01_001, which can't be read (7 bytes found, siblings have 9), should hold them");
    ck.c.problems = (struct sl_problems){ 0 };
    close_all();
}

TEST(a_lost_embedding_shard_is_named_by_its_vocabulary_rows)
{
    open_toy(&small, &two);
    lose("embedding.word_embeddings.weight", 1);
    assert_int_equal(prove(), SL_INPUT);
    assert_where("embed");
    assert_says(err, "vocab 6-9 is held by nobody; mp_rank_01_000 should hold them");
    close_all();
}

TEST(a_weight_nobody_has_is_missing_as_a_whole)
{
    open_toy(&small, &two);
    lose("decoder.final_layernorm.weight", 2);
    assert_int_equal(prove(), SL_OK);      /* the other rank has it too */
    sl_layout_free(&source);
    lose("decoder.final_layernorm.weight", 3);
    assert_int_equal(prove(), SL_INPUT);
    assert_where("final_norm");
    assert_says(err, "all of it is held by nobody; mp_rank_00_001 should hold them");
    close_all();
}

TEST(a_lost_hugging_face_tensor_is_named)
{
    open_toy(&small, NULL);
    lose("model.layers.1.mlp.up_proj.weight", -1);
    assert_int_equal(prove(), SL_INPUT);
    assert_where("layers.1.mlp.up");
    assert_says(err, "all of it is held by nobody; model.layers.1.mlp.up_proj.weight should hold them");
    close_all();
}

/* ---- shapes ----------------------------------------------------------------------- */

static void reshape(const char *name, int32_t rank, int64_t rows, int64_t cols)
{
    for (size_t i = 0; i < ck.c.tensor_count; i++)
        if (!strcmp(ck.tensors[i].name, name) && ck.tensors[i].rank == rank) {
            int64_t *shape = (int64_t *)(uintptr_t)ck.tensors[i].shape;
            shape[0] = rows;
            shape[1] = cols;
            ck.tensors[i].count = (uint64_t)(rows * cols);
            return;
        }
    fail_msg("no %s on rank %d", name, rank);
}

TEST(a_full_tensor_saved_as_a_shard_is_told_as_such)
{
    open_toy(&small, &two);
    reshape("decoder.layers.0.mlp.linear_fc1.weight", 1, 24, 5);
    assert_int_equal(prove(), SL_INPUT);
    assert_says(err, "decoder.layers.0.mlp.linear_fc1.weight is [24, 5], which does not fit the model's [24, 5]: "
                     "24 rows found, 12 expected = 24 / tp 2: a full tensor saved as a shard?");
    close_all();
}

TEST(a_shard_that_is_too_short_is_told_with_the_arithmetic)
{
    open_toy(&small, &two);
    reshape("decoder.layers.0.self_attention.linear_proj.weight", 2, 5, 15);
    assert_int_equal(prove(), SL_INPUT);
    assert_says(err, "15 columns found, 16 expected = 32 / tp 2");
    close_all();
}

TEST(a_hugging_face_tensor_of_another_shape_is_told_with_both)
{
    open_toy(&small, NULL);
    reshape("model.layers.0.self_attn.k_proj.weight", -1, 12, 5);
    assert_int_equal(prove(), SL_INPUT);
    assert_says(err, "model.layers.0.self_attn.k_proj.weight is [12, 5], which does not fit the model's [16, 5]: "
                     "12 rows found, 16 expected");
    close_all();
}

TEST(a_layer_no_stage_has_is_refused)
{
    open_toy(&small, &two);
    snprintf(ck.names[2], sizeof ck.names[2], "decoder.layers.7.self_attention.linear_qkv.weight");
    assert_int_equal(prove(), SL_INPUT);
    assert_says(err, "pipeline stage 0 (chunk 0) has no layer 7");
    close_all();
}

TEST(tensors_no_rule_knows_are_left_out_with_the_reason)
{
    open_toy(&small, &two);
    toy_add(&ck, 0, 0, "decoder.layers.0.strange.weight", 3, 3);
    toy_add(&ck, 0, 0, "decoder.layers.0.mlp.linear_fc1._extra_state", 1, 0);
    ck.tensors[ck.c.tensor_count - 1].flags = SL_TENSOR_EXTRA;
    assert_int_equal(prove(), SL_OK);
    assert_int_equal(source.unused_count, 2);
    assert_string_equal(source.unused[0].why, "no rule of the family knows this name");
    assert_non_null(strstr(source.unused[1].why, "extra state"));
    close_all();
}

/* ---- the copies -------------------------------------------------------------------- */

static const struct toy_layout four = { .tp = 4, .pp = 1, .vpp = 1, .stage = { 2 }, .padded = 12 };

static void plan(const struct toy_layout *a, const struct toy_layout *b)
{
    struct sl_target_spec spec = { .dialect = b ? SL_DIALECT_MEGATRON : SL_DIALECT_HF, .source = &source };
    if (b) {
        spec.spec = b->te ? "te" : "local";
        spec.parallel = (struct sl_parallel){ b->tp, b->pp, b->vpp, 1, b->tp };
        spec.stage_layers = b->stage;
        spec.padded_vocab = b->padded;
    }
    open_toy(&small, a);
    assert_int_equal(prove(), SL_OK);
    assert_int_equal(sl_layout_target(&model.m, &spec, &arena, &target, &err), SL_OK);
    assert_int_equal(sl_intersect(&source, &target, false, &copies, &copy_count, &first, &err), SL_OK);
    assert_int_equal(sl_prove_coverage(&target, copies, copy_count, first, &err), SL_OK);
}

static size_t find_target(const char *name, int32_t rank)
{
    for (size_t i = 0; i < target.tensor_count; i++)
        if (!strcmp(target.tensors[i].name, name) && target.tensors[i].rank == rank)
            return i;
    fail_msg("no %s", name);
    return 0;
}

/* One copy of a target taken out; the others keep their places. */
static void drop_copy(size_t t, size_t which)
{
    const size_t at = first[t] + which;
    memmove(&copies[at], &copies[at + 1], (--copy_count - at) * sizeof *copies);
    for (size_t i = t + 1; i <= target.tensor_count; i++)
        first[i]--;
}

static int prove_copies(void)
{
    err = (struct sl_error){ 0 };
    return sl_prove_coverage(&target, copies, copy_count, first, &err);
}

TEST(rows_no_copy_writes_are_named)
{
    plan(&two, NULL);
    drop_copy(find_target("model.layers.1.mlp.gate_proj.weight", -1), 1);
    assert_int_equal(prove_copies(), SL_INPUT);
    assert_where("model.layers.1.mlp.gate_proj.weight");
    assert_says(err, "rows 6-11 of 12 come from nowhere");
    close_all();
}

TEST(columns_no_copy_writes_are_named_in_their_first_row)
{
    plan(&two, NULL);
    drop_copy(find_target("model.layers.0.mlp.down_proj.weight", -1), 0);
    assert_int_equal(prove_copies(), SL_INPUT);
    assert_says(err, "row 0, elements 0-5 of it of 5 come from nowhere");
    close_all();
}

TEST(rows_that_are_written_twice_are_named_with_both_sources)
{
    plan(&two, &four);
    const size_t t = find_target("decoder.layers.1.self_attention.linear_qkv.weight", 2);
    assert_int_equal(first[t + 1] - first[t], 3);      /* q, k, v of group 2 */
    copies[first[t] + 2].target_base -= 5;             /* v begins a row early, in k */
    assert_int_equal(prove_copies(), SL_INPUT);
    assert_says(err, "is written twice: from layers.1.attn.k and from layers.1.attn.v");
    close_all();
}

TEST(copies_that_leave_the_tensor_or_fold_onto_themselves_are_refused)
{
    plan(&two, NULL);
    const size_t t = find_target("model.layers.0.mlp.down_proj.weight", -1);
    struct sl_copy *c = &copies[first[t]];
    const struct sl_copy good = *c;
    assert_int_equal(c->ndim, 2);
    c->count[0]++;
    assert_int_equal(prove_copies(), SL_INPUT);
    assert_says(err, "leaves the tensor or writes an element twice");
    *c = good;
    c->target_stride[0] = c->count[1] - 1;
    assert_int_equal(prove_copies(), SL_INPUT);
    assert_says(err, "leaves the tensor or writes an element twice");
    *c = good;
    c->target_base = -1;
    assert_int_equal(prove_copies(), SL_INPUT);
    close_all();
}

/* ---- sources that overlap ------------------------------------------------------------ */

/* A param of 10 rows in three tensors of rows 0..5, 4..9 and 2..7: each row is read once. */
TEST(sources_that_overlap_give_each_row_once)
{
    static const struct sl_param param = { .name = "w", .ndim = 1, .shape = { 10 }, .axis = { "row" } };
    static const int64_t shape[] = { 10 };
    const struct sl_tensor tensor = { .name = "w", .ndim = 1, .shape = shape, .count = 10 };
    const struct sl_slice held[] = { { .tensor = 0, .lo = { 0 }, .hi = { 6 }, .stride = { 1 } },
                                     { .tensor = 1, .lo = { 4 }, .hi = { 10 }, .stride = { 1 } },
                                     { .tensor = 2, .lo = { 2 }, .hi = { 8 }, .stride = { 1 } } };
    const struct sl_slice whole = { .hi = { 10 }, .stride = { 1 } };
    const size_t three[] = { 0, 3 }, one[] = { 0, 1 };
    const struct sl_layout from = { .params = &param, .param_count = 1, .slices = held, .slice_count = 3, .param_first = three };
    const struct sl_layout to = { .params = &param, .param_count = 1, .slices = &whole, .slice_count = 1, .param_first = one,
                                  .tensors = &tensor, .tensor_count = 1 };
    assert_int_equal(sl_intersect(&from, &to, false, &copies, &copy_count, &first, &err), SL_OK);
    assert_int_equal(sl_prove_coverage(&to, copies, copy_count, first, &err), SL_OK);
    int64_t rows = 0;
    for (size_t i = 0; i < copy_count; i++)
        rows += copies[i].count[0];
    assert_int_equal(rows, 10);
    close_all();
}

TEST(a_target_without_a_place_for_all_rows_is_refused)
{
    static const struct sl_param param = { .name = "w", .ndim = 1, .shape = { 10 }, .axis = { "row" } };
    const struct sl_slice whole = { .hi = { 10 }, .stride = { 1 } }, part = { .hi = { 9 }, .stride = { 1 } };
    const size_t one[] = { 0, 1 };
    const struct sl_layout from = { .params = &param, .param_count = 1, .slices = &whole, .slice_count = 1, .param_first = one };
    const struct sl_layout to = { .params = &param, .param_count = 1, .slices = &part, .slice_count = 1, .param_first = one };
    assert_int_equal(sl_intersect(&from, &to, false, &copies, &copy_count, &first, &err), SL_UNSUPPORTED);
    assert_where("w");
    assert_says(err, "no place for all of it");
}

/* ---- every damage is seen: against counting ----------------------------------------- */

/* How often each element is written, one by one. */
static bool covered_once(size_t t)
{
    const struct sl_tensor *x = &target.tensors[t];
    int *times = calloc(x->count + 1, sizeof *times);
    bool once = true;
    for (size_t i = first[t]; i < first[t + 1] && once; i++) {
        const struct sl_copy *c = &copies[i];
        int64_t at[SL_AXES] = { 0 };
        for (uint32_t k = 1; k && once; ) {
            int64_t e = c->target_base;
            for (uint32_t a = 0; a < c->ndim; a++)
                e += at[a] * c->target_stride[a];
            once = e >= 0 && (uint64_t)e < x->count;
            if (once)
                times[e]++;
            for (k = c->ndim; k > 0 && ++at[k - 1] == c->count[k - 1]; )
                at[--k] = 0;
        }
    }
    for (uint64_t e = 0; e < x->count && once; e++)
        once = times[e] == 1;
    free(times);
    return once;
}

TEST(the_proof_says_what_counting_every_element_says)
{
    size_t good = 0, bad = 0;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct toy m;
        struct toy_layout a, b;
        struct sl_target_spec spec = { .dialect = SL_DIALECT_MEGATRON, .source = &source };
        toy_seed = seed;
        toy_random(&m);
        toy_random_layout(&m, &a);
        toy_random_layout(&m, &b);
        spec.spec = b.te ? "te" : "local";
        spec.parallel = (struct sl_parallel){ b.tp, b.pp, b.vpp, 1, b.tp };
        spec.stage_layers = b.stage;
        spec.padded_vocab = b.padded;
        toy_megatron(&ck, &m, &a);
        toy_model(&model, llama, &m, &a);
        assert_int_equal(prove(), SL_OK);
        assert_int_equal(sl_layout_target(&model.m, &spec, &arena, &target, &err), SL_OK);
        assert_int_equal(sl_intersect(&source, &target, false, &copies, &copy_count, &first, &err), SL_OK);
        for (int damage = 0; damage < 20; damage++) {
            const size_t t = (size_t)toy_roll(0, (int64_t)target.tensor_count - 1);
            const size_t i = first[t] + (size_t)toy_roll(0, (int64_t)(first[t + 1] - first[t]) - 1);
            const struct sl_copy was = copies[i];
            const uint32_t axis = (uint32_t)toy_roll(0, copies[i].ndim - 1);
            switch (toy_roll(0, 3)) {
            case 0: copies[i].target_base += toy_roll(-3, 3); break;
            case 1: copies[i].count[axis] += toy_roll(-1, 1); break;
            case 2: copies[i].target_stride[axis] += toy_roll(-1, 1); break;
            default: break;
            }
            if (copies[i].count[axis] >= 1) {
                const bool once = covered_once(t);
                const int rc = prove_copies();
                if ((rc == SL_OK) != once)
                    fail_msg("seed %llu: %s is %s, the proof says %d: %s", (unsigned long long)seed, target.tensors[t].name,
                             once ? "whole" : "not whole", rc, err.message);
                good += once;
                bad += !once;
            }
            copies[i] = was;
        }
        close_all();
    }
    print_message("%zu whole, %zu damaged\n", good, bad);
    assert_true(good > 300 && bad > 300);
}

/* ---- boxes ------------------------------------------------------------------------------ */

TEST(a_gap_between_boxes_is_found_where_it_is)
{
    const struct box whole = { { 0 }, { 4, 10 } };
    struct box gap;
    const struct box rows[] = { { { 0, 0 }, { 1, 10 } }, { { 3, 0 }, { 4, 10 } } };
    assert_int_equal(boxes_gap(&whole, rows, 2, 2, &gap), 1);
    assert_int_equal(gap.lo[0], 1);
    assert_int_equal(gap.hi[0], 3);
    assert_int_equal(gap.hi[1], 10);
    const struct box cols[] = { { { 0, 0 }, { 4, 3 } }, { { 0, 5 }, { 4, 10 } } };
    assert_int_equal(boxes_gap(&whole, cols, 2, 2, &gap), 1);
    assert_int_equal(gap.lo[1], 3);
    assert_int_equal(gap.hi[1], 5);
    assert_int_equal(gap.hi[0], 4);
    assert_int_equal(boxes_gap(&whole, &whole, 1, 2, &gap), 0);
    assert_int_equal(boxes_gap(&whole, NULL, 0, 2, &gap), 1);
    assert_int_equal(gap.hi[0], 4);
}

static int count_meeting(void *arg, size_t i, size_t j)
{
    ((uint8_t *)arg)[i * 64 + j]++;
    return 0;
}

TEST(the_sweep_finds_each_pair_of_boxes_that_meets_once)
{
    static uint8_t met[64 * 64];
    struct box a[64], b[64], common;
    for (toy_seed = 1; toy_seed < 200; ) {
        const uint64_t seed = toy_seed;
        const size_t n = (size_t)toy_roll(1, 64), m = (size_t)toy_roll(1, 64);
        for (size_t i = 0; i < 128; i++) {
            struct box *x = i < 64 ? &a[i] : &b[i - 64];
            for (int k = 0; k < 3; k++) {
                x->lo[k] = toy_roll(0, 9);
                x->hi[k] = x->lo[k] + toy_roll(1, 5);
            }
        }
        memset(met, 0, sizeof met);
        assert_int_equal(boxes_meet(a, n, b, m, 3, count_meeting, met), 0);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < m; j++)
                assert_int_equal(met[i * 64 + j], box_meet(&a[i], &b[j], 3, &common));
        toy_seed = seed + 1;
    }
}

static int load(void **state __attribute__((unused)))
{
    if (sl_families_load(NULL, &families, &err))
        return -1;
    llama = sl_family_find(&families, "llama");
    return llama ? 0 : -1;
}

static int unload(void **state __attribute__((unused)))
{
    sl_families_free(&families);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(a_whole_checkpoint_is_proved),
        ROW(a_lost_qkv_shard_is_named_by_its_groups_and_rank),
        ROW(a_lost_column_shard_is_named_by_the_axis_it_cuts),
        ROW(a_rank_that_is_missing_is_told_as_such),
        ROW(a_rank_that_cannot_be_read_is_told_with_what_is_wrong_with_its_file),
        ROW(a_lost_embedding_shard_is_named_by_its_vocabulary_rows),
        ROW(a_weight_nobody_has_is_missing_as_a_whole),
        ROW(a_lost_hugging_face_tensor_is_named),
        ROW(a_full_tensor_saved_as_a_shard_is_told_as_such),
        ROW(a_shard_that_is_too_short_is_told_with_the_arithmetic),
        ROW(a_hugging_face_tensor_of_another_shape_is_told_with_both),
        ROW(a_layer_no_stage_has_is_refused),
        ROW(tensors_no_rule_knows_are_left_out_with_the_reason),
        ROW(rows_no_copy_writes_are_named),
        ROW(columns_no_copy_writes_are_named_in_their_first_row),
        ROW(rows_that_are_written_twice_are_named_with_both_sources),
        ROW(copies_that_leave_the_tensor_or_fold_onto_themselves_are_refused),
        ROW(sources_that_overlap_give_each_row_once),
        ROW(a_target_without_a_place_for_all_rows_is_refused),
        ROW(the_proof_says_what_counting_every_element_says),
        ROW(a_gap_between_boxes_is_found_where_it_is),
        ROW(the_sweep_finds_each_pair_of_boxes_that_meets_once),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
