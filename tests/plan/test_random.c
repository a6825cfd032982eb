/* test_random.c: random models in random layouts, moved from each to each: every element must
 * be where the formulas of toy.h put it. */
#include "../layout/toy.h"
#include "moves.h"

static struct sl_families families;
static const struct sl_family *llama;
static struct toy_ckpt from, want;
static uint64_t round_seed;

static int print_seed(void **state __attribute__((unused)))
{
    print_message("last seed: %llu\n", (unsigned long long)round_seed);
    return 0;
}

/* Both checkpoints hold the same tensors, rank by rank, and the same numbers. */
static void assert_made(const struct sl_layout *made, int64_t *const *data)
{
    assert_int_equal(made->tensor_count, want.c.tensor_count);
    for (size_t i = 0; i < made->tensor_count; i++) {
        const struct sl_tensor *t = &made->tensors[i];
        size_t k = 0;
        while (k < want.c.tensor_count && (strcmp(want.tensors[k].name, t->name) || want.tensors[k].rank != t->rank ||
                                           want.tensors[k].chunk != t->chunk))
            k++;
        if (k == want.c.tensor_count)
            fail_msg("%s of rank %d is no tensor of this layout", t->name, t->rank);
        assert_int_equal(t->ndim, want.tensors[k].ndim);
        assert_memory_equal(t->shape, want.tensors[k].shape, t->ndim * sizeof *t->shape);
        for (uint64_t e = 0; e < t->count; e++)
            if (data[i][e] != want.data[k][e])
                fail_msg("%s of rank %d: element %llu is %llx, not %llx", t->name, t->rank, (unsigned long long)e,
                         (unsigned long long)data[i][e], (unsigned long long)want.data[k][e]);
    }
}

/* Moves `from`, in a layout (NULL: Hugging Face), into another. */
static void convert(const struct toy *m, const struct toy_layout *a, const struct toy_layout *b)
{
    static struct toy_model model;
    struct sl_arena arena = { 0 };
    struct sl_layout source, target;
    struct sl_copy *copies = NULL;
    size_t count = 0, *first = NULL;
    struct sl_error err = { 0 };
    struct sl_target_spec spec = { .dialect = b ? SL_DIALECT_MEGATRON : SL_DIALECT_HF, .parallel = { 1, 1, 1, 1, 1 }, .source = &source };
    if (b) {
        spec.spec = b->te ? "te" : "local";
        spec.parallel = (struct sl_parallel){ b->tp, b->pp, b->vpp, 1, b->tp };
        spec.stage_layers = b->stage;
        spec.padded_vocab = b->padded;
    }
    if (a)
        toy_megatron(&from, m, a);
    else
        toy_hf(&from, m);
    if (b)
        toy_megatron(&want, m, b);
    else
        toy_hf(&want, m);
    toy_model(&model, llama, m, a);
    if (sl_layout_source(&model.m, &from.c, &arena, &source, &err) || sl_prove_source(&source, &model.m, &from.c, &err) ||
        sl_layout_target(&model.m, &spec, &arena, &target, &err) ||
        sl_intersect(&source, &target, false, &copies, &count, &first, &err) ||
        sl_prove_coverage(&target, copies, count, first, &err))
        fail_msg("%s: %s", err.where, err.message);
    assert_int_equal(source.unused_count, 0);

    int64_t **data = move_all(&target, copies, count, from.data);
    assert_made(&target, data);
    moves_free(&target, data);
    free(copies);
    free(first);
    sl_layout_free(&source);
    sl_layout_free(&target);
    sl_arena_free(&arena);
    toy_free(&from);
    toy_free(&want);
}

static void rounds(uint64_t begin, int count, bool from_hf, bool to_hf)
{
    for (round_seed = begin; round_seed < begin + (uint64_t)count; round_seed++) {
        struct toy m;
        struct toy_layout a, b;
        toy_seed = round_seed;
        toy_random(&m);
        toy_random_layout(&m, &a);
        toy_random_layout(&m, &b);
        convert(&m, from_hf ? NULL : &a, to_hf ? NULL : &b);
    }
}

TEST(megatron_becomes_hugging_face_element_by_element) { rounds(1, 400, false, true); }
TEST(hugging_face_becomes_megatron_rank_by_rank) { rounds(1001, 400, true, false); }
TEST(megatron_becomes_megatron_at_other_sizes) { rounds(2001, 400, false, false); }
TEST(hugging_face_becomes_itself) { rounds(3001, 20, true, true); }

/* Norm weights that Megatron keeps around zero: what becomes of them between two sides, each
 * of which says for itself how it stores them. */
static void count_added(const struct toy_layout *a, const struct toy_layout *b, int64_t kind, double value)
{
    static const struct toy m = { .layers = 3, .hidden = 6, .ffn = 12, .groups = 2, .per_group = 2, .head = 4, .vocab = 9, .tied = false };
    static struct toy_model model;
    struct sl_arena arena = { 0 };
    struct sl_layout source, target;
    struct sl_copy *copies = NULL;
    size_t count = 0, *first = NULL, norms = 0;
    struct sl_error err = { 0 };
    struct sl_target_spec spec = { .dialect = b ? SL_DIALECT_MEGATRON : SL_DIALECT_HF, .parallel = { 1, 1, 1, 1, 1 }, .source = &source };
    if (b) {
        spec.spec = b->te ? "te" : "local";
        spec.parallel = (struct sl_parallel){ b->tp, b->pp, b->vpp, 1, b->tp };
        spec.stage_layers = b->stage;
        spec.padded_vocab = b->padded;
    }
    if (a)
        toy_megatron(&from, &m, a);
    else
        toy_hf(&from, &m);
    toy_model(&model, llama, &m, a);
    model.flags[model.m.flag_count++] = "norm_1p";
    if (sl_layout_source(&model.m, &from.c, &arena, &source, &err) || sl_layout_target(&model.m, &spec, &arena, &target, &err) ||
        sl_intersect(&source, &target, false, &copies, &count, &first, &err) ||
        sl_prove_coverage(&target, copies, count, first, &err))
        fail_msg("%s: %s", err.where, err.message);
    for (size_t i = 0; i < count; i++) {
        const bool norm = copies[i].param != UINT32_MAX && strstr(target.params[copies[i].param].name, "norm");
        assert_int_equal(copies[i].op.kind, norm ? kind : SL_OP_NONE);
        assert_true(!norm || (copies[i].op.value >= value && copies[i].op.value <= value));
        norms += norm;
    }
    assert_true(norms >= 2 * 3 + 1);
    free(copies);
    free(first);
    sl_layout_free(&source);
    sl_layout_free(&target);
    sl_arena_free(&arena);
    toy_free(&from);
}

TEST(only_the_difference_between_two_forms_of_a_norm_is_added)
{
    const struct toy_layout two = { .tp = 2, .pp = 1, .vpp = 1, .stage = { 3 }, .padded = 12, .te = true };
    const struct toy_layout one = { .tp = 1, .pp = 3, .vpp = 1, .stage = { 1, 1, 1 }, .padded = 9 };
    count_added(NULL, &two, SL_OP_ADD, -1);
    count_added(&two, NULL, SL_OP_ADD, 1);
    count_added(&two, &one, SL_OP_NONE, 0);
    count_added(NULL, NULL, SL_OP_NONE, 0);
}

/* 8 heads in 2 groups on 4 ranks, as in Megatron-LM's own example: 24 rows a rank. */
TEST(fewer_groups_than_ranks_are_put_together_again)
{
    const struct toy m = { .layers = 2, .hidden = 3, .ffn = 8, .groups = 2, .per_group = 4, .head = 8, .vocab = 9 };
    const struct toy_layout four = { .tp = 4, .pp = 1, .vpp = 1, .stage = { 2 }, .padded = 12 };
    const struct toy_layout six = { .tp = 2, .pp = 2, .vpp = 1, .stage = { 0, 2 }, .padded = 10, .te = true };
    convert(&m, &four, NULL);
    convert(&m, NULL, &four);
    convert(&m, &four, &six);
    convert(&m, &six, &four);
}

static int load(void **state __attribute__((unused)))
{
    struct sl_error err;
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
        cmocka_unit_test_teardown(megatron_becomes_hugging_face_element_by_element, print_seed),
        cmocka_unit_test_teardown(hugging_face_becomes_megatron_rank_by_rank, print_seed),
        cmocka_unit_test_teardown(megatron_becomes_megatron_at_other_sizes, print_seed),
        cmocka_unit_test_teardown(hugging_face_becomes_itself, print_seed),
        ROW(fewer_groups_than_ranks_are_put_together_again),
        ROW(only_the_difference_between_two_forms_of_a_norm_is_added),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
