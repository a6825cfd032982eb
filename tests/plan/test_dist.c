/* test_dist.c: what a torch_dist checkpoint holds, element by element: stacked layers, [gate; up] of the whole, chunks of
 * any size. The index formulas are those of Megatron-LM's sharded_state_dict, said here without maps and boxes; the source
 * is made by those of its rank files (tests/layout/toy.h). */
#include "../layout/toy.h"
#include "moves.h"

#include "base/dtype.h"

static struct sl_families families;
static const struct sl_family *family;
static struct toy_ckpt from, back;
static struct toy_model model;
static struct sl_error err;

/* ---- what element [at] of an array is ---------------------------------------------------- */

static int64_t of_matrix(const struct toy *m, const char *name, int64_t layer, int64_t row, int64_t col)
{
    int64_t of = 0;
    if (!strcmp(name, "self_attention.linear_qkv.weight")) {
        const enum toy_kind kind = toy_qkv_row(m, row, &of);
        return toy_number(kind, layer, of, col);
    }
    if (!strcmp(name, "self_attention.linear_proj.weight"))
        return toy_number(OUT, layer, row, col);
    if (!strcmp(name, "mlp.linear_fc1.weight"))
        return row < m->ffn ? toy_number(GATE, layer, row, col) : toy_number(UP, layer, row - m->ffn, col);
    if (!strcmp(name, "mlp.linear_fc2.weight"))
        return toy_number(DOWN, layer, row, col);
    fail_msg("an array of the name %s", name);
    return 0;
}

static int64_t of_vector(const struct toy *m, const char *name, int64_t layer, int64_t row)
{
    int64_t of = 0;
    if (!strcmp(name, "self_attention.linear_qkv.bias")) {
        const enum toy_kind kind = toy_qkv_row(m, row, &of);
        return toy_number(kind - QUERY + QUERY_BIAS, layer, of, 0);
    }
    if (!strcmp(name, "self_attention.linear_qkv.layer_norm_weight"))
        return toy_number(NORM1, layer, row, 0);
    if (!strcmp(name, "mlp.linear_fc1.layer_norm_weight"))
        return toy_number(NORM2, layer, row, 0);
    fail_msg("an array of the name %s", name);
    return 0;
}

/* at: layer first where the name has none */
static int64_t wanted(const struct toy *m, const char *name, const int64_t *at, uint32_t ndim)
{
    if (!strcmp(name, "embedding.word_embeddings.weight"))
        return at[0] < m->vocab ? toy_number(EMBED, 0, at[0], at[1]) : 0;
    if (!strcmp(name, "output_layer.weight"))
        return at[0] < m->vocab ? toy_number(HEAD, 0, at[0], at[1]) : 0;
    if (!strcmp(name, "decoder.final_layernorm.weight"))
        return toy_number(NORM, 0, at[0], 0);
    assert_memory_equal(name, "decoder.layers.", 15);
    name += 15;
    int64_t layer = at[0];
    const int64_t *rest = at + 1;
    if (*name >= '0' && *name <= '9') {
        char *end;
        layer = strtoll(name, &end, 10);
        name = end + 1;
        rest = at;
        ndim++;
    }
    return ndim == 3 ? of_matrix(m, name, layer, rest[0], rest[1]) : of_vector(m, name, layer, rest[0]);
}

/* ---- chunks ------------------------------------------------------------------------------ */

/* Calls for each element of a chunk, with its index in the array and its number in the chunk. */
static void assert_chunk(const struct toy *m, const struct sl_tensor *t, const int64_t *data, unsigned char *seen)
{
    int64_t at[SL_AXES] = { 0 };
    for (uint64_t e = 0; e < t->count; e++) {
        int64_t whole = 0, rest = (int64_t)e;
        for (uint32_t a = t->ndim; a-- > 0; rest /= t->shape[a])
            at[a] = t->global_offset[a] + rest % t->shape[a];
        for (uint32_t a = 0; a < t->ndim; a++)
            whole = whole * t->global_shape[a] + at[a];
        if (data[e] != wanted(m, t->name, at, t->ndim))
            fail_msg("%s: element %lld is %llx", t->name, (long long)whole, (unsigned long long)data[e]);
        assert_int_equal(seen[whole]++, 0);
    }
}

static int64_t volume(const struct sl_tensor *t)
{
    int64_t n = 1;
    for (uint32_t a = 0; a < t->ndim; a++)
        n *= t->global_shape[a];
    return n;
}

/* Every array is made of chunks that meet nowhere and leave nothing out; returns how many arrays. */
static size_t assert_arrays(const struct toy *m, const struct sl_layout *l, int64_t *const *data)
{
    size_t arrays = 0;
    bool *done = calloc(l->tensor_count + 1, 1);
    for (size_t i = 0; i < l->tensor_count; i++) {
        const struct sl_tensor *first = &l->tensors[i];
        if (done[i])
            continue;
        arrays++;
        unsigned char *seen = calloc((size_t)volume(first) + 1, 1);
        int64_t held = 0;
        for (size_t k = i; k < l->tensor_count; k++) {
            const struct sl_tensor *t = &l->tensors[k];
            if (strcmp(t->name, first->name))
                continue;
            done[k] = true;
            assert_int_equal(t->ndim, first->ndim);
            assert_memory_equal(t->global_shape, first->global_shape, t->ndim * sizeof *t->global_shape);
            assert_int_equal(t->dtype, first->dtype);
            assert_chunk(m, t, data[k], seen);
            held += (int64_t)t->count;
        }
        assert_int_equal(held, volume(first));
        free(seen);
    }
    free(done);
    return arrays;
}

/* A chunk is of one layer, and at most one row (or column) larger than asked for: parts differ by one where they do not
 * divide, and of one or two rows where there are not more rows than parts. */
static void assert_sizes(const struct sl_layout *l, uint64_t most)
{
    for (size_t i = 0; i < l->tensor_count; i++) {
        const struct sl_tensor *t = &l->tensors[i];
        const uint32_t leading = l->stacked[i];
        assert_int_equal(leading, !strncmp(t->name, "decoder.layers.", 15) && (t->name[15] < '0' || t->name[15] > '9'));
        assert_true(!leading || t->shape[0] == 1);
        int64_t longest = 1;
        for (uint32_t a = leading; a < t->ndim; a++)
            if (t->shape[a] < t->global_shape[a] || t->global_shape[a] == 1)
                longest = t->shape[a] > longest ? t->shape[a] : longest;
        if (t->bytes - t->bytes / (uint64_t)longest > most && longest > 2)
            fail_msg("%s: a chunk of %llu bytes, %llu asked for", t->name, (unsigned long long)t->bytes, (unsigned long long)most);
    }
}

/* What was made is read again, as the chunks of a checkpoint, and becomes Hugging Face. */
static void read_again(const struct toy *m, const struct sl_layout *made, int64_t *const *data)
{
    struct sl_arena arena = { 0 };
    struct sl_layout source, target;
    struct sl_copy *copies = NULL;
    size_t count = 0, *first = NULL;
    const struct sl_ckpt c = { .path = "toy", .folder = "toy", .container = SL_MEGATRON_TORCH_DIST, .tensors = (struct sl_tensor *)(uintptr_t)made->tensors,
                               .tensor_count = made->tensor_count };
    const struct sl_target_spec spec = { .dialect = SL_DIALECT_HF, .source = &source };
    if (sl_layout_source(&model.m, &c, &arena, &source, &err) || sl_prove_source(&source, &model.m, &c, &err) ||
        sl_layout_target(&model.m, &spec, &arena, &target, &err) || sl_intersect(&source, &target, false, &copies, &count, &first, &err) ||
        sl_prove_coverage(&target, copies, count, first, &err))
        fail_msg("%s: %s", err.where, err.message);
    int64_t **hf = move_all(&target, copies, count, data);
    toy_hf(&back, m);
    assert_int_equal(target.tensor_count, back.c.tensor_count);
    for (size_t i = 0; i < target.tensor_count; i++)
        for (size_t k = 0; k < back.c.tensor_count; k++)
            if (!strcmp(back.names[k], target.tensors[i].name))
                assert_memory_equal(hf[i], back.data[k], target.tensors[i].count * sizeof **hf);
    moves_free(&target, hf);
    free(copies);
    free(first);
    sl_layout_free(&source);
    sl_layout_free(&target);
    sl_arena_free(&arena);
    toy_free(&back);
}

static void convert(const struct toy *m, const struct toy_layout *at, int64_t padded, bool indexed, uint64_t chunk_bytes)
{
    struct sl_arena arena = { 0 };
    struct sl_layout source, target;
    struct sl_copy *copies = NULL;
    size_t count = 0, *first = NULL;
    const struct sl_target_spec spec = { .dialect = SL_DIALECT_MEGATRON, .spec = "te", .experts = "te_grouped", .source = &source, .dist = true,
                                         .indexed = indexed, .chunk_bytes = chunk_bytes, .padded_vocab = padded,
                                         .parallel = { at->tp, at->pp, at->vpp, 1, at->tp } };
    toy_model(&model, family, m, at);
    toy_megatron(&from, m, at);
    if (sl_layout_source(&model.m, &from.c, &arena, &source, &err) || sl_layout_target(&model.m, &spec, &arena, &target, &err) ||
        sl_intersect(&source, &target, false, &copies, &count, &first, &err) ||
        sl_prove_coverage(&target, copies, count, first, &err))
        fail_msg("%s: %s", err.where, err.message);
    assert_int_equal(target.rank_count, 0);
    int64_t **data = move_all(&target, copies, count, from.data);
    const size_t arrays = assert_arrays(m, &target, data), of_layer = 6 + m->bias;
    assert_int_equal(arrays, (indexed ? of_layer * (size_t)m->layers : of_layer) + 2 + !m->tied);
    assert_sizes(&target, chunk_bytes);
    toy_model(&model, family, m, &(struct toy_layout){ .tp = 1, .pp = 1, .vpp = 1, .stage = { (int32_t)m->layers }, .padded = padded, .te = true });
    read_again(m, &target, data);
    moves_free(&target, data);
    free(copies);
    free(first);
    sl_layout_free(&source);
    sl_layout_free(&target);
    sl_arena_free(&arena);
    toy_free(&from);
}

TEST(any_model_of_any_ranks_becomes_chunks_of_any_size_and_is_read_again)
{
    toy_seed = 4;
    for (int i = 0; i < 120; i++) {
        struct toy m;
        struct toy_layout at;
        toy_random(&m);
        toy_random_layout(&m, &at);
        convert(&m, &at, m.vocab + toy_roll(0, 9), toy_roll(0, 3) == 0, 8 * (uint64_t)toy_roll(1, 400));
    }
}

/* 24 rows of 5 numbers of 8 bytes are 960 bytes: two parts for 500, four for 300, eight for 200, and for 10 as many as a power of
 * two of rows allows: sixteen, of one and two rows. */
TEST(large_arrays_are_cut_into_a_power_of_two_of_parts)
{
    static const struct { uint64_t most; size_t parts; int64_t shortest, longest; } cases[] = {
        { 960, 1, 24, 24 }, { 500, 2, 12, 12 }, { 300, 4, 6, 6 }, { 200, 8, 3, 3 }, { 10, 16, 1, 2 },
    };
    const struct toy m = { .layers = 2, .hidden = 5, .ffn = 12, .groups = 1, .per_group = 1, .head = 2, .vocab = 3, .tied = true };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_arena arena = { 0 };
        struct sl_layout l;
        const struct sl_target_spec spec = { .dialect = SL_DIALECT_MEGATRON, .spec = "te", .dist = true, .chunk_bytes = cases[i].most, .dtype = SL_F64 };
        toy_model(&model, family, &m, NULL);
        if (sl_layout_target(&model.m, &spec, &arena, &l, &err))
            fail_msg("%s: %s", err.where, err.message);
        size_t parts = 0;
        int64_t rows = 0;
        for (size_t k = 0; k < l.tensor_count; k++) {
            const struct sl_tensor *t = &l.tensors[k];
            if (strcmp(t->name, "decoder.layers.mlp.linear_fc1.weight") || t->global_offset[0] != 1)
                continue;
            assert_int_equal(t->global_offset[1], rows);
            assert_true(t->shape[1] >= cases[i].shortest && t->shape[1] <= cases[i].longest);
            rows += t->shape[1];
            parts++;
        }
        assert_int_equal(parts, cases[i].parts);
        assert_int_equal(rows, 24);
        sl_layout_free(&l);
        sl_arena_free(&arena);
    }
}

/* fc2 and the output projection are cut by columns, as tensor parallel ranks hold them. */
TEST(row_parallel_weights_are_cut_by_columns)
{
    const struct toy m = { .layers = 1, .hidden = 6, .ffn = 8, .groups = 1, .per_group = 2, .head = 2, .vocab = 3, .tied = true };
    struct sl_arena arena = { 0 };
    struct sl_layout l;
    const struct sl_target_spec spec = { .dialect = SL_DIALECT_MEGATRON, .spec = "te", .dist = true, .chunk_bytes = 100, .dtype = SL_F64 };
    size_t found = 0;
    toy_model(&model, family, &m, NULL);
    assert_int_equal(sl_layout_target(&model.m, &spec, &arena, &l, &err), SL_OK);
    for (size_t k = 0; k < l.tensor_count; k++) {
        const struct sl_tensor *t = &l.tensors[k];
        if (strcmp(t->name, "decoder.layers.mlp.linear_fc2.weight") && strcmp(t->name, "decoder.layers.self_attention.linear_proj.weight"))
            continue;
        assert_int_equal(t->shape[1], 6);    /* all rows */
        assert_int_equal(t->shape[2], 2);
        found++;
    }
    assert_int_equal(found, 4 + 2);
    sl_layout_free(&l);
    sl_arena_free(&arena);
}

/* A norm of one layer in fp32 among norms in bf16: an array has one element type, and loses nothing. */
TEST(layers_of_different_types_become_the_wider_one)
{
    const struct toy m = { .layers = 3, .hidden = 4, .ffn = 12, .groups = 1, .per_group = 1, .head = 2, .vocab = 3, .tied = true };
    const struct toy_layout at = { .tp = 1, .pp = 1, .vpp = 1, .stage = { 3 }, .padded = 3, .te = true };
    static const struct { enum sl_dtype others, one, want; } cases[] = {
        { SL_BF16, SL_F32, SL_F32 }, { SL_F32, SL_BF16, SL_F32 }, { SL_BF16, SL_F16, SL_F32 }, { SL_F16, SL_F16, SL_F16 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_arena arena = { 0 };
        struct sl_layout source, l;
        const struct sl_target_spec spec = { .dialect = SL_DIALECT_MEGATRON, .spec = "te", .dist = true, .source = &source };
        toy_model(&model, family, &m, &at);
        toy_megatron(&from, &m, &at);
        for (size_t k = 0; k < from.c.tensor_count; k++)
            from.tensors[k].dtype = strcmp(from.names[k], "decoder.layers.1.mlp.linear_fc1.layer_norm_weight") ? cases[i].others : cases[i].one;
        if (sl_layout_source(&model.m, &from.c, &arena, &source, &err) || sl_layout_target(&model.m, &spec, &arena, &l, &err))
            fail_msg("%s: %s", err.where, err.message);
        for (size_t k = 0; k < l.tensor_count; k++)
            assert_int_equal(l.tensors[k].dtype, strstr(l.tensors[k].name, "fc1.layer_norm") ? cases[i].want : cases[i].others);
        sl_layout_free(&source);
        sl_layout_free(&l);
        sl_arena_free(&arena);
        toy_free(&from);
    }
}

static int load(void **state __attribute__((unused)))
{
    if (sl_families_load(NULL, &families, &err))
        return -1;
    family = sl_family_find(&families, "llama");
    return family ? 0 : -1;
}

static int unload(void **state __attribute__((unused)))
{
    sl_families_free(&families);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(any_model_of_any_ranks_becomes_chunks_of_any_size_and_is_read_again),
        ROW(large_arrays_are_cut_into_a_power_of_two_of_parts),
        ROW(row_parallel_weights_are_cut_by_columns),
        ROW(layers_of_different_types_become_the_wider_one),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
