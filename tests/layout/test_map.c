/* test_map.c: maps against arithmetic by hand. */
#include "../base/testing.h"

#include "base/error.h"
#include "layout/map.h"

/* ---- dims and params of the tests ------------------------------------------ */

struct dim { const char *text; int64_t value; };
struct param { const char *name, *axes; };
struct world { const struct dim *dims; const struct param *params; };

static int find_dim(void *arg, const char *text, size_t len, int64_t *value, struct sl_error *err)
{
    const struct world *w = arg;
    for (const struct dim *d = w->dims; d->text; d++)
        if (strlen(d->text) == len && !memcmp(d->text, text, len)) {
            *value = d->value;
            return SL_OK;
        }
    return sl_fail(err, SL_USAGE, "", "no dim '%.*s'", (int)len, text);
}

static const char *find_param(void *arg, const char *name, size_t len, const char **axes, struct sl_error *err)
{
    const struct world *w = arg;
    for (const struct param *p = w->params; p->name; p++)
        if (strlen(p->name) == len && !memcmp(p->name, name, len)) {
            *axes = p->axes;
            return p->name;
        }
    sl_fail(err, SL_USAGE, "", "no param '%.*s'", (int)len, name);
    return NULL;
}

/* Param number = place in the table + 100 * layer + 1000 * expert. */
static int64_t number_param(void *arg, const char *pattern, int32_t layer, int32_t expert)
{
    const struct world *w = arg;
    int64_t i = 0;
    while (w->params[i].name != pattern)
        i++;
    return i + 100 * (layer > 0 ? layer : 0) + 1000 * (expert > 0 ? expert : 0);
}

struct mapped { struct sl_arena arena; struct sl_stored stored; struct sl_slices s; };

static int compile(struct mapped *m, const struct world *w, const char *map, struct sl_error *err)
{
    const struct sl_map_env env = { find_dim, find_param, (void *)(uintptr_t)w };
    *m = (struct mapped){ 0 };
    return sl_map_compile(map, &env, &m->arena, &m->stored, err);
}

static void cut(struct mapped *m, const struct world *w, const int64_t *lo, const int64_t *hi)
{
    const struct sl_map_names names = { number_param, (void *)(uintptr_t)w, 0, 0, 7, { SL_OP_NONE, 0 } };
    struct sl_error err;
    sl_slices_free(&m->s);
    assert_int_equal(sl_stored_slices(&m->stored, lo, hi, &names, &m->s, &err), SL_OK);
}

/* Block `index` of `count` along an axis. */
static void cut_block(struct mapped *m, const struct world *w, uint32_t axis, int32_t index, int32_t count)
{
    int64_t lo[SL_AXES] = { 0 }, hi[SL_AXES];
    memcpy(hi, m->stored.shape, sizeof hi);
    assert_true(sl_block_of(&lo[axis], &hi[axis], index, count));
    cut(m, w, lo, hi);
}

static void done(struct mapped *m)
{
    sl_slices_free(&m->s);
    sl_arena_free(&m->arena);
}

static void refused(const struct world *w, const char *map, const char *words)
{
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, w, map, &err), SL_USAGE);
    assert_says(err, words);
    done(&m);
}

/* Element of the tensor that holds a param's element, -1 if none; fails if two slices do. */
static int64_t find(const struct mapped *m, uint32_t param, uint32_t ndim, const int64_t *x)
{
    int64_t at = -1;
    for (size_t i = 0; i < m->s.count; i++) {
        const struct sl_slice *s = &m->s.items[i];
        int64_t e = s->base;
        bool in = s->param == param;
        for (uint32_t a = 0; a < ndim && in; a++) {
            in = x[a] >= s->lo[a] && x[a] < s->hi[a];
            e += (x[a] - s->lo[a]) * s->stride[a];
        }
        if (!in)
            continue;
        assert_int_equal(at, -1);
        at = e;
    }
    return at;
}

/* ---- query, key, value ------------------------------------------------------- */

enum { Q, K, V };
static const struct param qkv_params[] = {
    { "q", "group q_per_group head hidden" }, { "k", "group head hidden" }, { "v", "group head hidden" }, { 0 } };
static const char qkv[] = "(group [q: q_per_group head | k: head | v: head]) hidden";

static const struct dim small[] = { { "group", 4 }, { "q_per_group", 2 }, { "head", 3 }, { "hidden", 5 }, { 0 } };
static const struct world small_qkv = { small, qkv_params };

TEST(a_whole_qkv_matrix_is_one_slice_for_each_of_q_k_and_v)
{
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &small_qkv, qkv, &err), SL_OK);
    assert_int_equal(m.stored.ndim, 2);
    assert_int_equal(m.stored.shape[0], 4 * (2 + 1 + 1) * 3);
    assert_int_equal(m.stored.shape[1], 5);
    cut_block(&m, &small_qkv, 0, 0, 1);
    assert_int_equal(m.s.count, 3);

    const struct sl_slice *q = &m.s.items[0], *k = &m.s.items[1], *v = &m.s.items[2];
    const int64_t q_stride[] = { 60, 15, 5, 1 }, kv_stride[] = { 60, 5, 1 };
    assert_memory_equal(q->stride, q_stride, sizeof q_stride);
    assert_memory_equal(k->stride, kv_stride, sizeof kv_stride);
    assert_int_equal(q->base, 0);
    assert_int_equal(k->base, 2 * 3 * 5);
    assert_int_equal(v->base, 3 * 3 * 5);
    assert_int_equal(v->tensor, 7);
    assert_int_equal(v->hi[0], 4);
    done(&m);
}

TEST(rank_1_of_2_has_the_upper_half_of_the_groups)
{
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &small_qkv, qkv, &err), SL_OK);
    cut_block(&m, &small_qkv, 0, 1, 2);
    assert_int_equal(m.s.count, 3);
    assert_int_equal(m.s.items[Q].lo[0], 2);
    assert_int_equal(m.s.items[Q].hi[0], 4);
    assert_int_equal(m.s.items[Q].base, 0);
    assert_int_equal(m.s.items[V].base, 45);
    done(&m);
}

/* 8 heads in 2 groups of head size 8: 96 rows, 24 on each of 4 ranks. Group 0 is q rows 0-31, k
 * 32-39, v 40-47. Rank 0 has q rows 0-23, rank 1 q rows 24-31 and all of k and v. */
TEST(fewer_groups_than_ranks_cut_a_group_between_its_heads)
{
    static const struct dim dims[] = { { "group", 2 }, { "q_per_group", 4 }, { "head", 8 }, { "hidden", 1 }, { 0 } };
    const struct world w = { dims, qkv_params };
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &w, qkv, &err), SL_OK);

    cut_block(&m, &w, 0, 0, 4);
    assert_int_equal(m.s.count, 1);
    assert_int_equal(m.s.items[0].param, Q);
    assert_int_equal(m.s.items[0].lo[1], 0);
    assert_int_equal(m.s.items[0].hi[1], 3);

    cut_block(&m, &w, 0, 3, 4);
    assert_int_equal(m.s.count, 3);
    assert_int_equal(m.s.items[Q].lo[0], 1);
    assert_int_equal(m.s.items[Q].lo[1], 3);
    assert_int_equal(m.s.items[Q].hi[1], 4);
    assert_int_equal(m.s.items[Q].base, 0);
    assert_int_equal(m.s.items[K].base, 8);
    assert_int_equal(m.s.items[K].lo[0], 1);
    assert_int_equal(m.s.items[V].base, 16);
    done(&m);
}

/* 1 group, 3 query heads of 4 rows: 20 rows, 5 ranks of 4 rows are whole heads, but 10 ranks of 2
 * rows cut every head in two. */
TEST(a_cut_may_fall_inside_a_head)
{
    static const struct dim dims[] = { { "group", 1 }, { "q_per_group", 3 }, { "head", 4 }, { "hidden", 2 }, { 0 } };
    const struct world w = { dims, qkv_params };
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &w, qkv, &err), SL_OK);
    cut_block(&m, &w, 0, 3, 10);
    assert_int_equal(m.s.count, 1);
    assert_int_equal(m.s.items[0].lo[1], 1);
    assert_int_equal(m.s.items[0].hi[1], 2);
    assert_int_equal(m.s.items[0].lo[2], 2);
    assert_int_equal(m.s.items[0].hi[2], 4);

    /* rows 2 to 11: half of head 0, head 1, head 2 */
    cut(&m, &w, (const int64_t[SL_AXES]){ 2, 0 }, (const int64_t[SL_AXES]){ 11, 2 });
    assert_int_equal(m.s.count, 3);
    const int64_t bases[] = { 0, 4, 12 };
    for (int i = 0; i < 3; i++) {
        assert_int_equal(m.s.items[i].base, bases[i]);
        assert_int_equal(m.s.items[i].lo[1], i);
    }
    assert_int_equal(m.s.items[0].lo[2], 2);
    assert_int_equal(m.s.items[2].hi[2], 3);
    done(&m);
}

TEST(a_bias_is_the_same_without_the_last_axis)
{
    static const struct param params[] = { { "q", "group q_per_group head" }, { "k", "group head" },
                                           { "v", "group head" }, { 0 } };
    const struct world w = { small, params };
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &w, "(group [q: q_per_group head | k: head | v: head])", &err), SL_OK);
    assert_int_equal(m.stored.ndim, 1);
    cut_block(&m, &w, 0, 0, 1);
    assert_int_equal(find(&m, V, 2, (const int64_t[]){ 3, 2 }), (3 * 4 + 3) * 3 + 2);
    done(&m);
}

TEST(the_output_projection_is_cut_by_columns)
{
    static const struct param params[] = { { "o", "hidden group q_per_group head" }, { 0 } };
    const struct world w = { small, params };
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &w, "o: hidden (group q_per_group head)", &err), SL_OK);
    cut_block(&m, &w, 1, 1, 2);
    assert_int_equal(m.s.count, 1);
    const int64_t stride[] = { 12, 6, 3, 1 };
    assert_memory_equal(m.s.items[0].stride, stride, sizeof stride);
    assert_int_equal(m.s.items[0].lo[1], 2);
    assert_int_equal(m.s.items[0].hi[1], 4);
    assert_int_equal(m.s.items[0].base, 0);
    done(&m);
}

/* ---- split axes ---------------------------------------------------------------- */

enum { GATE, UP };
static const struct param mlp_params[] = { { "gate", "ffn hidden" }, { "up", "ffn hidden" }, { 0 } };
static const struct dim mlp[] = { { "ffn", 6 }, { "hidden", 2 }, { "tp", 2 }, { "ffn/tp", 3 }, { "blocks", 3 },
                                  { "ffn/blocks", 2 }, { "ffn/tp/blocks", 1 }, { "1", 1 }, { 0 } };
static const struct world mlp_world = { mlp, mlp_params };

TEST(gate_and_up_are_stacked_on_each_rank)
{
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &mlp_world, "(tp [gate: ffn/tp | up: ffn/tp]) hidden", &err), SL_OK);
    assert_int_equal(m.stored.shape[0], 12);
    cut_block(&m, &mlp_world, 0, 0, 1);
    /* gate rows 0-2, up rows 0-2, gate rows 3-5, up rows 3-5 */
    assert_int_equal(find(&m, GATE, 2, (const int64_t[]){ 2, 1 }), 2 * 2 + 1);
    assert_int_equal(find(&m, UP, 2, (const int64_t[]){ 0, 0 }), 3 * 2);
    assert_int_equal(find(&m, GATE, 2, (const int64_t[]){ 4, 0 }), 7 * 2);
    assert_int_equal(find(&m, UP, 2, (const int64_t[]){ 5, 1 }), 11 * 2 + 1);

    cut_block(&m, &mlp_world, 0, 1, 2);
    assert_int_equal(m.s.count, 2);
    assert_int_equal(m.s.items[GATE].lo[0], 3);
    assert_int_equal(m.s.items[GATE].hi[0], 6);
    assert_int_equal(m.s.items[GATE].base, 0);
    assert_int_equal(m.s.items[UP].base, 6);
    done(&m);
}

TEST(gate_and_up_may_alternate_row_by_row)
{
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &mlp_world, "(ffn [gate: | up: 1]) hidden", &err), SL_OK);
    cut_block(&m, &mlp_world, 0, 0, 1);
    assert_int_equal(m.s.count, 2);
    assert_int_equal(find(&m, GATE, 2, (const int64_t[]){ 3, 1 }), 6 * 2 + 1);
    assert_int_equal(find(&m, UP, 2, (const int64_t[]){ 3, 1 }), 7 * 2 + 1);
    done(&m);
}

TEST(an_axis_may_be_split_by_two_divisors)
{
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &mlp_world, "(tp blocks [gate: ffn/tp/blocks | up: ffn/tp/blocks]) hidden", &err), SL_OK);
    cut_block(&m, &mlp_world, 0, 0, 1);
    /* row 4 of gate is tp 1, block 1: stored row (1 * 3 + 1) * 2 */
    assert_int_equal(find(&m, GATE, 2, (const int64_t[]){ 4, 0 }), 8 * 2);
    assert_int_equal(find(&m, UP, 2, (const int64_t[]){ 4, 0 }), 9 * 2);
    done(&m);
}

/* Half-split rows x1[3] x2[3] of a head of 6, stored as pairs: row j of half h is stored at 2j + h. */
TEST(a_divisor_after_its_axis_interleaves_the_halves_of_a_head)
{
    static const struct dim dims[] = { { "head", 6 }, { "head/2", 3 }, { "2", 2 }, { "hidden", 2 }, { 0 } };
    static const struct param params[] = { { "k", "head hidden" }, { 0 } };
    const struct world w = { dims, params };
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &w, "k: (head/2 2) hidden", &err), SL_OK);
    cut_block(&m, &w, 0, 0, 1);
    assert_int_equal(m.s.count, 2);
    for (int64_t h = 0; h < 2; h++)
        for (int64_t j = 0; j < 3; j++)
            assert_int_equal(find(&m, 0, 2, (const int64_t[]){ h * 3 + j, 1 }), (2 * j + h) * 2 + 1);
    done(&m);

    assert_int_equal(compile(&m, &w, "k: (2 head/2) hidden", &err), SL_OK);
    cut_block(&m, &w, 0, 0, 1);
    assert_int_equal(m.s.count, 1);
    assert_int_equal(m.s.items[0].stride[0], 2);
    done(&m);
}

/* ---- experts, layers, repeats, padding ------------------------------------------ */

/* Grouped experts: memory [expert, hidden, gate | up], a transposition of each. */
TEST(transposed_grouped_experts_are_slices_like_all_others)
{
    static const struct dim dims[] = { { "expert", 3 }, { "hidden", 2 }, { "ffn", 4 }, { 0 } };
    const struct world w = { dims, mlp_params };
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &w, "expert hidden [gate: ffn | up: ffn]", &err), SL_OK);
    assert_int_equal(m.stored.ndim, 3);
    cut_block(&m, &w, 0, 0, 1);
    assert_int_equal(m.s.count, 6);
    assert_int_equal(find(&m, 1000 * 2 + UP, 2, (const int64_t[]){ 3, 1 }), (2 * 2 + 1) * 8 + 4 + 3);
    done(&m);
}

TEST(an_array_may_be_stored_under_another_shape)
{
    static const struct dim dims[] = { { "expert", 3 }, { "hidden", 2 }, { "ffn", 4 }, { "five", 5 }, { "0", 0 }, { 0 } };
    const struct world w = { dims, mlp_params };
    struct mapped m;
    struct sl_error err;
    int64_t lo[SL_AXES] = { 0 }, shape[SL_AXES];
    uint32_t ndim;
    assert_int_equal(compile(&m, &w, "expert hidden [gate: ffn | up: ffn] as hidden *", &err), SL_OK);
    assert_true(sl_stored_shape(&m.stored, lo, m.stored.shape, shape, &ndim));
    assert_int_equal(ndim, 2);
    assert_int_equal(shape[0], 2);
    assert_int_equal(shape[1], 3 * 8);
    done(&m);
    assert_int_equal(compile(&m, &w, "expert hidden [gate: ffn | up: ffn] as * five", &err), SL_OK);
    assert_false(sl_stored_shape(&m.stored, lo, m.stored.shape, shape, &ndim));
    done(&m);
    refused(&w, "expert hidden gate: ffn as hidden ffn", "one length after \"as\" must be *");
    refused(&w, "expert hidden gate: ffn as * *", "a second *");
    refused(&w, "expert hidden gate: ffn as * 0", "an impossible length");
    refused(&w, "expert hidden gate: ffn as * what", "no dim 'what'");
}

TEST(layers_may_be_stacked_on_an_axis_before_the_name)
{
    static const struct dim dims[] = { { "layer", 5 }, { "hidden", 3 }, { 0 } };
    static const struct param params[] = { { "norm", "hidden" }, { 0 } };
    const struct world w = { dims, params };
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &w, "layer norm: hidden", &err), SL_OK);
    /* a chunk that holds layers 2 and 3, columns 1 and 2 */
    cut(&m, &w, (const int64_t[SL_AXES]){ 2, 1 }, (const int64_t[SL_AXES]){ 4, 3 });
    assert_int_equal(m.s.count, 2);
    assert_int_equal(m.s.items[1].param, 100 * 3);
    assert_int_equal(m.s.items[1].base, 2);
    assert_int_equal(m.s.items[1].lo[0], 1);
    assert_int_equal(m.s.items[1].hi[0], 3);
    done(&m);
}

/* 2 groups on 4 ranks with key and value kept twice: [q0 k0 v0][q1 k0 v0][q2 k1 v1][q3 k1 v1]. */
TEST(key_and_value_heads_may_be_stored_more_than_once)
{
    static const struct dim dims[] = { { "group", 2 }, { "spread", 2 }, { "q_per_group", 2 }, { "q_per_group/spread", 1 },
                                       { "head", 3 }, { "hidden", 1 }, { 0 } };
    const struct world w = { dims, qkv_params };
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &w, "(group *spread [q: q_per_group/spread head | k: head | v: head]) hidden", &err), SL_OK);
    assert_int_equal(m.stored.shape[0], 4 * 9);
    cut_block(&m, &w, 0, 3, 4);
    assert_int_equal(m.s.count, 3);
    assert_int_equal(m.s.items[0].lo[0], 1);
    assert_int_equal(m.s.items[0].lo[1], 1);
    assert_int_equal(m.s.items[1].lo[0], 1);
    cut_block(&m, &w, 0, 0, 1);
    assert_int_equal(m.s.count, 1 + 2 + 2);
    done(&m);
}

TEST(rows_named_with_a_dash_are_padding)
{
    static const struct dim dims[] = { { "vocab", 10 }, { "padded-vocab", 6 }, { "hidden", 3 }, { 0 } };
    static const struct param params[] = { { "embed", "vocab hidden" }, { 0 } };
    const struct world w = { dims, params };
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &w, "[embed: vocab | -: padded-vocab] hidden", &err), SL_OK);
    cut_block(&m, &w, 0, 1, 2);
    assert_int_equal(m.s.count, 1);
    assert_int_equal(m.s.items[0].lo[0], 8);
    assert_int_equal(m.s.items[0].hi[0], 10);
    assert_int_equal(m.s.padding_count, 1);
    assert_int_equal(m.s.padding[0].base, 6);
    assert_int_equal(m.s.padding[0].count, 18);
    assert_int_equal(m.s.padding[0].tensor, 7);
    done(&m);
}

TEST(padding_of_no_rows_is_nothing)
{
    static const struct dim dims[] = { { "vocab", 10 }, { "rest", 0 }, { "hidden", 3 }, { 0 } };
    static const struct param params[] = { { "embed", "vocab hidden" }, { 0 } };
    const struct world w = { dims, params };
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &w, "[embed: vocab | -: rest] hidden", &err), SL_OK);
    assert_int_equal(m.stored.shape[0], 10);
    cut_block(&m, &w, 0, 0, 1);
    assert_int_equal(m.s.count, 1);
    assert_int_equal(m.s.padding_count, 0);
    done(&m);
}

TEST(padding_columns_are_one_run_a_row)
{
    static const struct dim dims[] = { { "a", 2 }, { "b", 3 }, { "pad", 2 }, { 0 } };
    static const struct param params[] = { { "w", "a b" }, { 0 } };
    const struct world w = { dims, params };
    struct mapped m;
    struct sl_error err;
    assert_int_equal(compile(&m, &w, "a [w: b | -: pad]", &err), SL_OK);
    cut_block(&m, &w, 0, 0, 1);
    assert_int_equal(m.s.padding_count, 2);
    assert_int_equal(m.s.padding[1].base, 8);
    assert_int_equal(m.s.padding[1].count, 2);
    done(&m);
}

/* ---- refusals --------------------------------------------------------------------- */

TEST(a_map_that_makes_no_sense_is_refused_with_the_place)
{
    refused(&small_qkv, "q: group q_per_group head", "'hidden' is missing as an axis of q (group q_per_group head hidden)");
    refused(&small_qkv, "k: group head hidden q_per_group", "'q_per_group' is neither an axis nor a divisor of one of k");
    refused(&small_qkv, "k: group head head hidden", "'head' comes up twice as an axis of k");
    refused(&mlp_world, "gate: ffn/tp hidden", "'ffn/tp' has a divisor that is no factor on the way of gate");
    refused(&mlp_world, "gate: (tp ffn/blocks) hidden", "'ffn/blocks' has a divisor that is no factor");
    refused(&mlp_world, "ffn hidden", "no param is named");
    refused(&mlp_world, "[gate: ffn | ffn] hidden", "an alternative without a name at 'ffn");
    refused(&mlp_world, "[gate: ffn | up: ffn hidden", "a bracket is not closed");
    refused(&mlp_world, "gate: (ffn] hidden", "this bracket does not belong here at '] hidden'");
    refused(&mlp_world, "gate: () ffn hidden", "this bracket does not belong here");
    refused(&mlp_world, "[gate: [up: ffn]] hidden", "a second param name on the same way");
    refused(&mlp_world, "gate: what hidden", "no dim 'what'");
    refused(&mlp_world, "[gate: ffn | what: ffn] hidden", "no param 'what'");
}

TEST(sizes_that_overflow_are_refused)
{
    static const struct dim dims[] = { { "a", INT64_C(1) << 40 }, { "b", INT64_C(1) << 40 }, { "minus", -1 }, { 0 } };
    static const struct param params[] = { { "w", "a b" }, { 0 } };
    const struct world w = { dims, params };
    refused(&w, "w: (a b)", "too large to count");
    refused(&w, "w: a b", "too large to count");
    refused(&w, "w: a minus", "'minus' is -1");
}

TEST(a_block_that_does_not_divide_is_refused)
{
    int64_t lo = 0, hi = 10;
    assert_false(sl_block_of(&lo, &hi, 0, 4));
    assert_false(sl_block_of(&lo, &hi, 0, 0));
    assert_int_equal(hi, 10);
}

/* ---- random boxes -------------------------------------------------------------------- */

static uint64_t seed, round_seed;
static int print_seed(void **state __attribute__((unused)))
{
    print_message("last seed: %llu\n", (unsigned long long)round_seed);
    return 0;
}

static int64_t roll(int64_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int64_t)(seed >> 33) % below;
}

/* (group spread [q: q_per_group/spread head | k: .. ]) hidden with an interleaved head, against the
 * sums of the header, for every element of random boxes. */
TEST(random_boxes_of_a_deep_map_hold_each_element_where_the_sums_say)
{
    for (uint64_t round = 1; round <= 300; round++) {
        seed = round_seed = round;
        const int64_t g = 1 + roll(3), t = 1 + roll(3), r = 1 + roll(3), half = 1 + roll(3), hid = 1 + roll(3);
        const struct dim dims[] = { { "group", g }, { "tp", t }, { "q_per_group", t * r }, { "q_per_group/tp", r },
                                    { "head", 2 * half }, { "head/2", half }, { "2", 2 }, { "hidden", hid }, { 0 } };
        static const struct param params[] = { { "q", "q_per_group group head hidden" }, { "k", "head group hidden" }, { 0 } };
        const struct world w = { dims, params };
        struct mapped m;
        struct sl_error err;
        assert_int_equal(compile(&m, &w, "(group *tp [q: q_per_group/tp head/2 2 | k: head]) hidden", &err), SL_OK);
        const int64_t rows = g * t * (r + 1) * 2 * half;
        assert_int_equal(m.stored.shape[0], rows);
        int64_t lo[SL_AXES] = { roll(rows), roll(hid) }, hi[SL_AXES] = { 0 };
        hi[0] = lo[0] + 1 + roll(rows - lo[0]);
        hi[1] = lo[1] + 1 + roll(hid - lo[1]);
        cut(&m, &w, lo, hi);

        int64_t held = 0, k_copies = 0;
        for (size_t i = 0; i < m.s.count; i++) {
            int64_t v = 1;
            const struct sl_slice *s = &m.s.items[i];
            for (int a = 0; a < (s->param == 0 ? 4 : 3); a++)
                v *= s->hi[a] - s->lo[a];
            held += v;
            k_copies += s->param == 1;
        }
        assert_int_equal(held, (hi[0] - lo[0]) * (hi[1] - lo[1]));
        for (int64_t gi = 0; gi < g; gi++)
            for (int64_t ti = 0; ti < t; ti++)
                for (int64_t ri = 0; ri < r; ri++)
                    for (int64_t h = 0; h < 2 * half; h++)
                        for (int64_t c = lo[1]; c < hi[1]; c++) {
                            const int64_t row = ((gi * t + ti) * (r + 1) + ri) * 2 * half + h % half * 2 + h / half;
                            const int64_t want = row < lo[0] || row >= hi[0] ? -1 : (row - lo[0]) * (hi[1] - lo[1]) + c - lo[1];
                            assert_int_equal(find(&m, 0, 4, (const int64_t[]){ ti * r + ri, gi, h, c }), want);
                        }
        assert_true(k_copies <= 2 * g * t);
        done(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(a_whole_qkv_matrix_is_one_slice_for_each_of_q_k_and_v),
        ROW(rank_1_of_2_has_the_upper_half_of_the_groups),
        ROW(fewer_groups_than_ranks_cut_a_group_between_its_heads),
        ROW(a_cut_may_fall_inside_a_head),
        ROW(a_bias_is_the_same_without_the_last_axis),
        ROW(the_output_projection_is_cut_by_columns),
        ROW(gate_and_up_are_stacked_on_each_rank),
        ROW(gate_and_up_may_alternate_row_by_row),
        ROW(an_axis_may_be_split_by_two_divisors),
        ROW(a_divisor_after_its_axis_interleaves_the_halves_of_a_head),
        ROW(transposed_grouped_experts_are_slices_like_all_others),
        ROW(an_array_may_be_stored_under_another_shape),
        ROW(layers_may_be_stacked_on_an_axis_before_the_name),
        ROW(key_and_value_heads_may_be_stored_more_than_once),
        ROW(rows_named_with_a_dash_are_padding),
        ROW(padding_of_no_rows_is_nothing),
        ROW(padding_columns_are_one_run_a_row),
        ROW(a_map_that_makes_no_sense_is_refused_with_the_place),
        ROW(sizes_that_overflow_are_refused),
        ROW(a_block_that_does_not_divide_is_refused),
        cmocka_unit_test_teardown(random_boxes_of_a_deep_map_hold_each_element_where_the_sums_say, print_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
