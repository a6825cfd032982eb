/* test_blocks.c: copies as blocks of both tensors, padding with the last row, and checkpoints
 * of models that no family knows. */
#include "../layout/toy.h"
#include "moves.h"

static struct sl_error err;

/* ---- blocks ------------------------------------------------------------------------- */

struct seen { struct sl_block items[512]; size_t count; };

static int see(void *arg, const struct sl_block *b)
{
    struct seen *s = arg;
    assert_true(s->count < 512);
    s->items[s->count++] = *b;
    return 0;
}

static struct sl_tensor shaped(const int64_t *shape, uint32_t ndim)
{
    struct sl_tensor t = { .name = "t", .ndim = ndim, .shape = shape, .count = 1 };
    for (uint32_t a = 0; a < ndim; a++)
        t.count *= (uint64_t)shape[a];
    return t;
}

/* Gate rows of rank 1 of 2: 6 rows of 5 columns out of 12, to rows 6..11. */
TEST(rows_that_stay_together_are_one_block)
{
    const int64_t from[] = { 12, 5 }, to[] = { 12, 5 };
    const struct sl_tensor s = shaped(from, 2), t = shaped(to, 2);
    const struct sl_copy c = { .ndim = 1, .target_base = 30, .count = { 30 }, .source_stride = { 1 }, .target_stride = { 1 } };
    struct seen seen = { .count = 0 };
    assert_int_equal(sl_copy_blocks(&c, &s, &t, see, &seen), 0);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.items[0].source_hi[0], 6);
    assert_int_equal(seen.items[0].source_hi[1], 5);
    assert_int_equal(seen.items[0].target_lo[0], 6);
    assert_int_equal(seen.items[0].target_hi[0], 12);
}

/* q of 4 groups of 2 heads of 3 rows out of a fused matrix: a block a group. */
TEST(rows_that_lie_apart_are_a_block_each)
{
    const int64_t from[] = { 48, 5 }, to[] = { 24, 5 };
    const struct sl_tensor s = shaped(from, 2), t = shaped(to, 2);
    const struct sl_copy c = { .ndim = 2, .count = { 4, 30 }, .source_stride = { 60, 1 }, .target_stride = { 30, 1 } };
    struct seen seen = { .count = 0 };
    assert_int_equal(sl_copy_blocks(&c, &s, &t, see, &seen), 0);
    assert_int_equal(seen.count, 4);
    for (int64_t g = 0; g < 4; g++) {
        assert_int_equal(seen.items[g].source_lo[0], 12 * g);
        assert_int_equal(seen.items[g].source_hi[0], 12 * g + 6);
        assert_int_equal(seen.items[g].target_lo[0], 6 * g);
        assert_int_equal(seen.items[g].target_hi[0], 6 * g + 6);
    }
}

TEST(columns_are_one_block)
{
    const int64_t from[] = { 4, 3 }, to[] = { 4, 6 };
    const struct sl_tensor s = shaped(from, 2), t = shaped(to, 2);
    const struct sl_copy c = { .ndim = 2, .target_base = 3, .count = { 4, 3 }, .source_stride = { 3, 1 }, .target_stride = { 6, 1 } };
    struct seen seen = { .count = 0 };
    assert_int_equal(sl_copy_blocks(&c, &s, &t, see, &seen), 0);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.items[0].target_lo[1], 3);
    assert_int_equal(seen.items[0].target_hi[1], 6);
    assert_int_equal(seen.items[0].target_hi[0], 4);
}

/* [4, 3] to its transposed: the axes run along each other crosswise. */
TEST(a_transposed_block_says_which_axis_runs_along_which)
{
    const int64_t from[] = { 4, 3 }, to[] = { 3, 4 };
    const struct sl_tensor s = shaped(from, 2), t = shaped(to, 2);
    const struct sl_copy across = { .ndim = 2, .count = { 3, 4 }, .source_stride = { 1, 3 }, .target_stride = { 4, 1 } };
    const struct sl_copy along = { .ndim = 2, .count = { 1, 3 }, .source_stride = { 3, 1 }, .target_stride = { 4, 1 } };
    struct seen seen = { .count = 0 };
    assert_int_equal(sl_copy_blocks(&across, &s, &t, see, &seen), 0);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.items[0].target_axis[0], 1);
    assert_int_equal(seen.items[0].target_axis[1], 0);
    seen.count = 0;
    assert_int_equal(sl_copy_blocks(&along, &s, &t, see, &seen), 0);
    assert_int_equal(seen.items[0].target_axis[0], -1);      /* one row: it runs along nothing */
    assert_int_equal(seen.items[0].target_axis[1], 1);
}

/* A run of 7 elements from the middle of a row of 5 to another middle. */
TEST(a_run_across_rows_falls_apart_at_their_ends)
{
    const int64_t shape[] = { 4, 5 };
    const struct sl_tensor t = shaped(shape, 2);
    const struct sl_copy c = { .ndim = 1, .source_base = 3, .target_base = 6, .count = { 7 }, .source_stride = { 1 }, .target_stride = { 1 } };
    struct seen seen = { .count = 0 };
    assert_int_equal(sl_copy_blocks(&c, &t, &t, see, &seen), 0);
    uint64_t elements = 0;
    for (size_t i = 0; i < seen.count; i++)
        elements += (uint64_t)((seen.items[i].target_hi[0] - seen.items[i].target_lo[0]) * (seen.items[i].target_hi[1] - seen.items[i].target_lo[1]));
    assert_int_equal(elements, 7);
    assert_int_equal(seen.items[0].source_lo[1], 3);
    assert_int_equal(seen.items[0].source_hi[1], 5);
    assert_int_equal(seen.items[0].target_lo[1], 1);
}

TEST(padding_has_a_target_block_alone)
{
    const int64_t to[] = { 6, 5 };
    const struct sl_tensor t = shaped(to, 2);
    const struct sl_copy c = { .source = UINT32_MAX, .param = UINT32_MAX, .ndim = 1, .target_base = 20, .count = { 10 }, .target_stride = { 1 } };
    struct seen seen = { .count = 0 };
    assert_int_equal(sl_copy_blocks(&c, NULL, &t, see, &seen), 0);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.items[0].target_lo[0], 4);
    assert_int_equal(seen.items[0].target_hi[0], 6);
}

static int stop_at_third(void *arg, const struct sl_block *b __attribute__((unused)))
{
    return ++*(int *)arg == 3 ? 77 : 0;
}

TEST(the_listing_stops_when_it_is_told_to)
{
    const int64_t from[] = { 48, 5 }, to[] = { 24, 5 };
    const struct sl_tensor s = shaped(from, 2), t = shaped(to, 2);
    const struct sl_copy c = { .ndim = 2, .count = { 4, 30 }, .source_stride = { 60, 1 }, .target_stride = { 30, 1 } };
    int calls = 0;
    assert_int_equal(sl_copy_blocks(&c, &s, &t, stop_at_third, &calls), 77);
    assert_int_equal(calls, 3);
}

/* ---- blocks say the same as the copies they are made of ---------------------------------- */

struct painter { const struct sl_tensor *s, *t; int64_t *const *source; int64_t *out; size_t written; };

static int paint(void *arg, const struct sl_block *b)
{
    struct painter *p = arg;
    const int64_t srow = p->s->ndim > 1 ? p->s->shape[1] : 1, trow = p->t->ndim > 1 ? p->t->shape[1] : 1;
    int64_t s[512], n = 0, k = 0;
    for (int64_t i = b->source_lo[0]; i < b->source_hi[0]; i++)
        for (int64_t j = b->source_lo[1]; j < (p->s->ndim > 1 ? b->source_hi[1] : 1); j++) {
            assert_true(n < 512);
            s[n++] = i * srow + j;
        }
    for (int64_t i = b->target_lo[0]; i < b->target_hi[0]; i++)
        for (int64_t j = b->target_lo[1]; j < (p->t->ndim > 1 ? b->target_hi[1] : 1); j++)
            p->out[i * trow + j] = p->source[b->source][s[k++]];
    assert_int_equal(k, n);
    p->written += (size_t)n;
    return 0;
}

static struct sl_families families;
static const struct sl_family *llama;
static struct toy_ckpt from;
static struct toy_model model;

TEST(random_plans_give_the_same_block_by_block)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct sl_arena arena = { 0 };
        struct toy m;
        struct toy_layout at, to;
        struct sl_layout source, target;
        struct sl_copy *copies;
        size_t count, *first;
        toy_seed = seed;
        toy_random(&m);
        toy_random_layout(&m, &at);
        toy_random_layout(&m, &to);
        toy_megatron(&from, &m, &at);
        toy_model(&model, llama, &m, &at);
        const struct sl_target_spec spec = { .dialect = SL_DIALECT_MEGATRON, .spec = "te", .stage_layers = to.stage, .source = &source,
            .parallel = { to.tp, to.pp, to.vpp, 1, to.tp }, .padded_vocab = to.padded };
        assert_int_equal(sl_layout_source(&model.m, &from.c, &arena, &source, &err), 0);
        assert_int_equal(sl_layout_target(&model.m, &spec, &arena, &target, &err), 0);
        assert_int_equal(sl_intersect(&source, &target, false, &copies, &count, &first, &err), 0);
        int64_t **moved = move_all(&target, copies, count, from.data);
        for (size_t i = 0; i < target.tensor_count; i++) {
            struct painter p = { .t = &target.tensors[i], .source = from.data };
            p.out = calloc(p.t->count + 1, sizeof *p.out);
            for (size_t k = first[i]; k < first[i + 1]; k++)
                if (copies[k].source != UINT32_MAX) {
                    p.s = &source.tensors[copies[k].source];
                    assert_int_equal(sl_copy_blocks(&copies[k], p.s, p.t, paint, &p), 0);
                }
            assert_memory_equal(p.out, moved[i], p.t->count * sizeof *p.out);
            free(p.out);
        }
        moves_free(&target, moved);
        free(copies);
        free(first);
        sl_layout_free(&source);
        sl_layout_free(&target);
        sl_arena_free(&arena);
        toy_free(&from);
    }
}

/* ---- padding with the last row --------------------------------------------------------------- */

/* Vocabulary 5 padded to 12 over 3 ranks of 4 rows: row 4 again in rows 5..7 of rank 1 and in all of rank 2. */
TEST(padding_may_repeat_the_last_row_of_the_vocabulary)
{
    const struct toy m = { .layers = 1, .hidden = 2, .ffn = 6, .groups = 3, .per_group = 1, .head = 2, .vocab = 5 };
    const struct toy_layout to = { .tp = 3, .pp = 1, .vpp = 1, .stage = { 1 }, .padded = 12 };
    struct sl_arena arena = { 0 };
    struct sl_layout source, target;
    struct sl_copy *copies;
    size_t count, *first, seen = 0;
    toy_hf(&from, &m);
    toy_model(&model, llama, &m, NULL);
    const struct sl_target_spec spec = { .dialect = SL_DIALECT_MEGATRON, .spec = "local", .stage_layers = to.stage, .source = &source,
                                         .parallel = { 3, 1, 1, 1, 3 }, .padded_vocab = 12 };
    assert_int_equal(sl_layout_source(&model.m, &from.c, &arena, &source, &err), 0);
    assert_int_equal(sl_layout_target(&model.m, &spec, &arena, &target, &err), 0);
    assert_int_equal(sl_intersect(&source, &target, true, &copies, &count, &first, &err), 0);
    assert_int_equal(sl_prove_coverage(&target, copies, count, first, &err), 0);
    int64_t **data = move_all(&target, copies, count, from.data);
    for (size_t i = 0; i < target.tensor_count; i++) {
        const int32_t tp = target.tensors[i].rank;
        const bool embed = !strcmp(target.tensors[i].name, "embedding.word_embeddings.weight");
        if (!embed && strcmp(target.tensors[i].name, "output_layer.weight"))
            continue;
        for (int64_t row = 0; row < 4; row++)
            for (int64_t col = 0; col < 2; col++) {
                const int64_t global = tp * 4 + row;
                assert_int_equal(data[i][row * 2 + col], toy_number(embed ? EMBED : HEAD, 0, global < 5 ? global : 4, col));
            }
        seen++;
    }
    assert_int_equal(seen, 6);
    moves_free(&target, data);
    free(copies);
    free(first);
    sl_layout_free(&source);
    sl_layout_free(&target);
    sl_arena_free(&arena);
    toy_free(&from);
}

/* ---- no family ------------------------------------------------------------------------------------ */

TEST(without_a_family_every_tensor_is_a_param_of_its_own)
{
    struct sl_arena arena = { 0 };
    struct sl_layout l;
    toy_begin(&from, SL_HF_SAFETENSORS);
    toy_add(&from, -1, 0, "a.weight", 3, 4);
    toy_add(&from, -1, 0, "b.bias", 5, 0);
    toy_add(&from, -1, 0, "c._extra_state", 1, 0);
    from.tensors[2].flags = SL_TENSOR_EXTRA;
    assert_int_equal(sl_layout_identity(&from.c, &arena, &l, &err), 0);
    assert_int_equal(l.param_count, 2);
    assert_int_equal(l.slice_count, 2);
    assert_int_equal(l.unused_count, 1);
    assert_string_equal(l.params[1].name, "b.bias");
    assert_int_equal(l.slices[0].stride[0], 4);
    sl_layout_free(&l);
    sl_arena_free(&arena);
    toy_free(&from);
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
        ROW(rows_that_stay_together_are_one_block),
        ROW(rows_that_lie_apart_are_a_block_each),
        ROW(columns_are_one_block),
        ROW(a_transposed_block_says_which_axis_runs_along_which),
        ROW(a_run_across_rows_falls_apart_at_their_ends),
        ROW(padding_has_a_target_block_alone),
        ROW(the_listing_stops_when_it_is_told_to),
        ROW(random_plans_give_the_same_block_by_block),
        ROW(padding_may_repeat_the_last_row_of_the_vocabulary),
        ROW(without_a_family_every_tensor_is_a_param_of_its_own),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
