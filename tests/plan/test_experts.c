/* test_experts.c: experts in every storage there is, moved from each to each: numbered tensors,
 * one array of all local experts transposed, stacks over layers and experts, per expert in
 * Hugging Face; expert parallelism with its own tensor parallelism.
 *
 * Sources of the formulas: Megatron-LM megatron/core/transformer/moe/experts.py (GroupedMLP:
 * weight1 is [experts, hidden, 2 ffn], weight2 [experts, ffn, hidden] in memory; TEGroupedMLP),
 * megatron/core/parallel_state.py (ranks), dist_checkpointing (stacked global arrays). */
#include "../layout/toy.h"
#include "moves.h"

static const char family_text[] =
"{\"family\": \"toymoe\", \"title\": \"Toy\", \"source\": \"test\", \"hf\": {\"architecture\": \"Toy\", \"model_type\": \"toy\"},"
" \"dims\": {\"hidden\": \"hidden_size\", \"ffn\": \"moe_ffn_hidden_size\", \"dense\": \"ffn_hidden_size\"},"
" \"params\": {\"layers.{layer}.dense\": {\"axes\": \"dense hidden\", \"when\": \"!moe_layer\"},"
"  \"layers.{layer}.router\": {\"axes\": \"num_experts hidden\", \"when\": \"moe_layer\"},"
"  \"layers.{layer}.experts.{expert}.gate\": {\"axes\": \"ffn hidden\", \"when\": \"moe_layer\"},"
"  \"layers.{layer}.experts.{expert}.up\": {\"axes\": \"ffn hidden\", \"when\": \"moe_layer\"},"
"  \"layers.{layer}.experts.{expert}.down\": {\"axes\": \"hidden ffn\", \"when\": \"moe_layer\"}},"
" \"tensors\": {\"hf\": ["
"  {\"name\": \"l.{layer}.dense\", \"map\": \"dense: dense hidden\", \"when\": \"!moe_layer\"},"
"  {\"name\": \"l.{layer}.router\", \"map\": \"router: num_experts hidden\", \"when\": \"moe_layer\"},"
"  {\"name\": \"l.{layer}.e.{expert}.gate\", \"map\": \"gate: ffn hidden\", \"when\": \"moe_layer\"},"
"  {\"name\": \"l.{layer}.e.{expert}.up\", \"map\": \"up: ffn hidden\", \"when\": \"moe_layer\"},"
"  {\"name\": \"l.{layer}.e.{expert}.down\", \"map\": \"down: hidden ffn\", \"when\": \"moe_layer\"}],"
" \"megatron\": ["
"  {\"name\": \"decoder.layers.{layer}.mlp.dense\", \"map\": \"dense: dense hidden\", \"cut\": \"tp:0\", \"when\": \"!moe_layer\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.router.weight\", \"map\": \"router: num_experts hidden\", \"when\": \"moe_layer\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.linear_fc1.weight{expert}\", \"map\": \"(etp [gate: ffn/etp | up: ffn/etp]) hidden\", \"cut\": \"etp:0\", \"when\": \"moe_layer\", \"experts\": \"te_grouped\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.linear_fc2.weight{expert}\", \"map\": \"down: hidden ffn\", \"cut\": \"etp:1\", \"when\": \"moe_layer\", \"experts\": \"te_grouped\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.weight1\", \"map\": \"expert hidden (etp [gate: ffn/etp | up: ffn/etp]) as hidden *\", \"cut\": \"etp:2\", \"when\": \"moe_layer\", \"experts\": \"grouped\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.weight2\", \"map\": \"down: expert ffn hidden as * hidden\", \"cut\": \"etp:1\", \"when\": \"moe_layer\", \"experts\": \"grouped\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.experts.linear_fc1.weight\", \"map\": \"expert [gate: ffn | up: ffn] hidden\", \"cut\": \"etp:1\", \"when\": \"moe_layer\", \"alias\": true, \"dist\": \"both\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.experts.linear_fc2.weight\", \"map\": \"down: expert hidden ffn\", \"cut\": \"etp:2\", \"when\": \"moe_layer\", \"alias\": true, \"dist\": \"both\"}]}}";

enum { DENSE = 20, ROUTER, E_GATE, E_UP, E_DOWN };

struct cut { int32_t tp, pp, ep, etp; const char *storage; };
enum { LAYERS = 3, EXPERTS = 4, HIDDEN = 3, FFN = 4, WIDE = 6 };

static struct sl_families families;
static const struct sl_family *family;
static struct toy_ckpt from, want;
static struct toy_model model;
static int32_t moe_layers[LAYERS];
static size_t moe_layer_count;
static struct sl_moe moe;
static struct sl_error err;

static void set_moe_layers(uint32_t mask)
{
    moe_layer_count = 0;
    for (int32_t l = 0; l < LAYERS; l++)
        if (mask >> l & 1)
            moe_layers[moe_layer_count++] = l;
    moe = (struct sl_moe){ .num_experts = EXPERTS, .layers = moe_layers, .layer_count = moe_layer_count };
}

static bool is_moe(int64_t layer)
{
    for (size_t i = 0; i < moe_layer_count; i++)
        if (moe_layers[i] == layer)
            return true;
    return false;
}

static int64_t number(int kind, int64_t layer, int64_t expert, int64_t row, int64_t col)
{
    return (int64_t)kind << 48 | layer << 40 | expert << 32 | row << 16 | col;
}

static void fill(int64_t *x, int kind, int64_t layer, int64_t expert, int64_t rows, int64_t cols, int64_t row0, int64_t col0)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            *x++ = number(kind, layer, expert, row0 + i, col0 + j);
}

/* ---- what Megatron stores ------------------------------------------------------------ */

static void add_numbered(const struct cut *c, int32_t rank, int32_t local, int64_t layer, int64_t e0, int64_t r)
{
    const int64_t f = FFN / c->etp, el = EXPERTS / c->ep;
    char name[96];
    for (int64_t m = 0; m < el; m++) {
        snprintf(name, sizeof name, "decoder.layers.%d.mlp.experts.linear_fc1.weight%d", local, (int)m);
        int64_t *x = toy_add(&want, rank, 0, name, 2 * f, HIDDEN);
        fill(x, E_GATE, layer, e0 + m, f, HIDDEN, r * f, 0);
        fill(x + f * HIDDEN, E_UP, layer, e0 + m, f, HIDDEN, r * f, 0);
        snprintf(name, sizeof name, "decoder.layers.%d.mlp.experts.linear_fc2.weight%d", local, (int)m);
        fill(toy_add(&want, rank, 0, name, HIDDEN, f), E_DOWN, layer, e0 + m, HIDDEN, f, 0, r * f);
    }
}

/* weight1_flat[(m * H + h) * 2f + j] is gate[j][h] or up[j - f][h]; weight2_flat[(m * f + j) * H + h] is
 * down[h][j]; declared [H, El * 2f] and [El * f, H]. */
static void add_grouped(const struct cut *c, int32_t rank, int32_t local, int64_t layer, int64_t e0, int64_t r)
{
    const int64_t f = FFN / c->etp, el = EXPERTS / c->ep;
    char name[96];
    snprintf(name, sizeof name, "decoder.layers.%d.mlp.experts.weight1", local);
    int64_t *x = toy_add(&want, rank, 0, name, HIDDEN, el * 2 * f);
    for (int64_t m = 0; m < el; m++)
        for (int64_t h = 0; h < HIDDEN; h++)
            for (int64_t j = 0; j < 2 * f; j++)
                x[(m * HIDDEN + h) * 2 * f + j] = number(j < f ? E_GATE : E_UP, layer, e0 + m, r * f + j % f, h);
    snprintf(name, sizeof name, "decoder.layers.%d.mlp.experts.weight2", local);
    x = toy_add(&want, rank, 0, name, el * f, HIDDEN);
    for (int64_t m = 0; m < el; m++)
        for (int64_t j = 0; j < f; j++)
            for (int64_t h = 0; h < HIDDEN; h++)
                x[(m * f + j) * HIDDEN + h] = number(E_DOWN, layer, e0 + m, h, r * f + j);
}

static void make_megatron(const struct cut *c)
{
    char name[96];
    toy_begin(&want, SL_MEGATRON_TORCH);
    for (int32_t pp = 0; pp < c->pp; pp++)
        for (int32_t ep = 0; ep < c->ep; ep++)
            for (int32_t tp = 0; tp < c->tp; tp++) {
                /* process i has TP index i % tp, expert TP index i % etp, EP index i / etp % ep */
                int32_t i = 0;
                while (i < c->tp * c->ep * c->etp && (i % c->tp != tp || i / c->etp % c->ep != ep))
                    i++;
                if (i == c->tp * c->ep * c->etp)
                    continue;
                const int32_t rank = (int32_t)want.c.rank_count++;
                const int64_t first = pp ? 2 : 0, count = c->pp == 1 ? LAYERS : pp ? 1 : 2;
                want.ranks[rank] = (struct sl_rank){ .tp = tp, .pp = pp, .ep = ep, .path = "rank" };
                for (int32_t l = 0; l < count; l++) {
                    const int64_t layer = first + l, e0 = (int64_t)ep * (EXPERTS / c->ep);
                    if (!is_moe(layer)) {
                        snprintf(name, sizeof name, "decoder.layers.%d.mlp.dense", l);
                        fill(toy_add(&want, rank, 0, name, WIDE / c->tp, HIDDEN), DENSE, layer, 0, WIDE / c->tp, HIDDEN, tp * (WIDE / c->tp), 0);
                        continue;
                    }
                    snprintf(name, sizeof name, "decoder.layers.%d.mlp.router.weight", l);
                    fill(toy_add(&want, rank, 0, name, EXPERTS, HIDDEN), ROUTER, layer, 0, EXPERTS, HIDDEN, 0, 0);
                    if (!strcmp(c->storage, "grouped"))
                        add_grouped(c, rank, l, layer, e0, i % c->etp);
                    else
                        add_numbered(c, rank, l, layer, e0, i % c->etp);
                }
            }
}

static void make_hf(void)
{
    char name[96];
    toy_begin(&want, SL_HF_SAFETENSORS);
    #define NAME(...) (snprintf(name, sizeof name, __VA_ARGS__), name)
    for (int l = 0; l < LAYERS; l++) {
        if (!is_moe(l)) {
            fill(toy_add(&want, -1, 0, NAME("l.%d.dense", l), WIDE, HIDDEN), DENSE, l, 0, WIDE, HIDDEN, 0, 0);
            continue;
        }
        fill(toy_add(&want, -1, 0, NAME("l.%d.router", l), EXPERTS, HIDDEN), ROUTER, l, 0, EXPERTS, HIDDEN, 0, 0);
        for (int e = 0; e < EXPERTS; e++) {
            fill(toy_add(&want, -1, 0, NAME("l.%d.e.%d.gate", l, e), FFN, HIDDEN), E_GATE, l, e, FFN, HIDDEN, 0, 0);
            fill(toy_add(&want, -1, 0, NAME("l.%d.e.%d.up", l, e), FFN, HIDDEN), E_UP, l, e, FFN, HIDDEN, 0, 0);
            fill(toy_add(&want, -1, 0, NAME("l.%d.e.%d.down", l, e), HIDDEN, FFN), E_DOWN, l, e, HIDDEN, FFN, 0, 0);
        }
    }
    #undef NAME
}

/* ---- from each to each ------------------------------------------------------------------ */

static void set_model(const struct cut *c)
{
    const struct toy sizes = { .layers = LAYERS, .hidden = HIDDEN, .ffn = WIDE, .groups = 1, .per_group = 1, .head = 2, .vocab = 4 };
    toy_model(&model, family, &sizes, NULL);
    toy_set(&model, "moe_ffn_hidden_size", FFN);
    toy_set(&model, "num_experts", EXPERTS);
    model.m.moe = &moe;
    if (!c)
        return;
    model.m.dialect = SL_DIALECT_MEGATRON;
    model.m.parallel = (struct sl_parallel){ c->tp, c->pp, 1, c->ep, c->etp };
    model.m.stage_count = (size_t)c->pp;
    model.stages[0] = (struct sl_stage_layers){ 0, 0, 0, c->pp == 1 ? LAYERS : 2, 0 };
    model.stages[1] = (struct sl_stage_layers){ 1, 0, 2, 1, 0 };
}

static void assert_made(const struct sl_layout *made, int64_t *const *data)
{
    assert_int_equal(made->tensor_count, want.c.tensor_count);
    for (size_t i = 0; i < made->tensor_count; i++) {
        const struct sl_tensor *t = &made->tensors[i];
        size_t k = 0;
        while (k < want.c.tensor_count && (strcmp(want.tensors[k].name, t->name) || want.tensors[k].rank != t->rank))
            k++;
        if (k == want.c.tensor_count)
            fail_msg("%s of rank %d is no tensor of this layout", t->name, t->rank);
        assert_memory_equal(t->shape, want.tensors[k].shape, 2 * sizeof *t->shape);
        for (uint64_t e = 0; e < t->count; e++)
            if (data[i][e] != want.data[k][e])
                fail_msg("%s of rank %d: element %llu is %llx, not %llx", t->name, t->rank, (unsigned long long)e,
                         (unsigned long long)data[i][e], (unsigned long long)want.data[k][e]);
    }
}

/* Moves `from`, which is already made for a model as set, into cut b (NULL: Hugging Face). */
static void convert_from(const struct cut *b)
{
    static const int32_t stages[2][2] = { { LAYERS }, { 2, 1 } };
    struct sl_arena arena = { 0 };
    struct sl_layout source, target;
    struct sl_copy *copies = NULL;
    size_t count = 0, *first = NULL;
    struct sl_target_spec spec = { .dialect = SL_DIALECT_HF, .source = &source };
    if (b)
        spec = (struct sl_target_spec){ .dialect = SL_DIALECT_MEGATRON, .experts = b->storage, .source = &source,
                                        .parallel = { b->tp, b->pp, 1, b->ep, b->etp }, .stage_layers = stages[b->pp - 1] };
    if (b)
        make_megatron(b);
    else
        make_hf();
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
    toy_free(&want);
}

/* What was made to be compared with becomes what is read. */
static void take_over(void)
{
    from = want;
    from.c.tensors = from.tensors;
    from.c.ranks = from.ranks;
    for (size_t i = 0; i < from.c.tensor_count; i++) {
        from.tensors[i].name = from.tensors[i].path = from.names[i];
        from.tensors[i].shape = from.shapes[i];
    }
}

static void convert(const struct cut *a, const struct cut *b)
{
    set_model(a);
    if (a)
        make_megatron(a);
    else
        make_hf();
    take_over();
    convert_from(b);
    toy_free(&from);
}

static const struct cut cuts[] = {
    { 1, 1, 1, 1, "te_grouped" }, { 2, 1, 1, 2, "te_grouped" }, { 2, 2, 2, 2, "te_grouped" }, { 2, 1, 4, 1, "te_grouped" },
    { 1, 2, 4, 1, "grouped" },  { 2, 1, 2, 2, "grouped" },  { 2, 2, 2, 1, "grouped" },  { 1, 1, 1, 1, "grouped" },
};
enum { CUTS = sizeof cuts / sizeof *cuts };

TEST(experts_move_from_every_storage_and_cut_to_every_other)
{
    for (uint32_t mask = 1; mask < 8; mask += 3) {
        set_moe_layers(mask);
        for (int i = 0; i < CUTS; i++)
            for (int k = 0; k < CUTS; k++)
                convert(&cuts[i], &cuts[k]);
    }
}

TEST(experts_become_hugging_face_and_come_back)
{
    set_moe_layers(6);      /* the first layer is dense */
    for (int i = 0; i < CUTS; i++) {
        convert(&cuts[i], NULL);
        convert(NULL, &cuts[i]);
    }
}

/* TP 2 with expert TP 1 and EP 4: processes 0..3 have (tp, ep) (0,0) (1,1) (0,2) (1,3); others do not exist. */
TEST(ranks_that_no_process_has_are_not_made)
{
    struct sl_arena arena = { 0 };
    struct sl_layout l;
    const struct sl_target_spec spec = { .dialect = SL_DIALECT_MEGATRON, .experts = "te_grouped", .parallel = { 2, 1, 1, 4, 1 } };
    set_moe_layers(7);
    set_model(NULL);
    assert_int_equal(sl_layout_target(&model.m, &spec, &arena, &l, &err), SL_OK);
    assert_int_equal(l.rank_count, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(l.ranks[i].ep, i);
        assert_int_equal(l.ranks[i].tp, i % 2);
    }
    sl_layout_free(&l);
    sl_arena_free(&arena);
}

TEST(a_lost_expert_is_named_with_its_global_number)
{
    struct sl_arena arena = { 0 };
    struct sl_layout l;
    set_moe_layers(7);
    set_model(&cuts[3]);
    make_megatron(&cuts[3]);
    take_over();
    for (size_t i = 0; i < from.c.tensor_count; i++)
        if (from.tensors[i].rank == 2 && !strcmp(from.names[i], "decoder.layers.1.mlp.experts.linear_fc2.weight0"))
            from.tensors[i].flags = SL_TENSOR_NO_DATA;
    assert_int_equal(sl_layout_source(&model.m, &from.c, &arena, &l, &err), SL_OK);
    assert_int_equal(sl_prove_source(&l, &model.m, &from.c, &err), SL_INPUT);
    assert_string_equal(err.where, "layers.1.experts.2.down");
    assert_says(err, "all of it is held by nobody");
    sl_layout_free(&l);
    sl_arena_free(&arena);
    toy_free(&from);
}

/* ---- stacked arrays of a distributed checkpoint --------------------------------------------- */

/* Adds a chunk [lo, hi) of an array of 4 axes. */
static int64_t *add_chunk(const char *name, const int64_t *whole, const int64_t *lo, const int64_t *hi)
{
    static int64_t numbers[256][12];
    const size_t i = want.c.tensor_count;
    int64_t *x = toy_add(&want, -1, 0, name, (hi[0] - lo[0]) * (hi[1] - lo[1]), (hi[2] - lo[2]) * (hi[3] - lo[3]));
    for (int a = 0; a < 4; a++) {
        numbers[i][a] = hi[a] - lo[a];
        numbers[i][4 + a] = whole[a];
        numbers[i][8 + a] = lo[a];
    }
    want.tensors[i].ndim = 4;
    want.tensors[i].shape = numbers[i];
    want.tensors[i].global_shape = numbers[i] + 4;
    want.tensors[i].global_offset = numbers[i] + 8;
    return x;
}

/* All layers and experts in one array, [gate; up] of the whole; in chunks as two ranks of two experts and
 * half the rows each would write them. */
TEST(chunks_of_stacked_arrays_are_put_in_their_places)
{
    set_moe_layers(7);
    set_model(NULL);
    model.m.dialect = SL_DIALECT_MEGATRON;
    toy_begin(&want, SL_MEGATRON_TORCH_DIST);
    for (int64_t e = 0; e < EXPERTS; e += 2)
        for (int64_t half = 0; half < 2; half++) {
            const int64_t fc1[] = { LAYERS, EXPERTS, 2 * FFN, HIDDEN }, fc2[] = { LAYERS, EXPERTS, HIDDEN, FFN };
            for (int64_t part = 0; part < 2; part++) {
                const int64_t row = part * FFN + half * FFN / 2;
                int64_t *x = add_chunk("decoder.layers.mlp.experts.experts.linear_fc1.weight", fc1,
                                       (const int64_t[]){ 0, e, row, 0 }, (const int64_t[]){ LAYERS, e + 2, row + FFN / 2, HIDDEN });
                for (int64_t l = 0; l < LAYERS; l++)
                    for (int64_t k = 0; k < 2; k++, x += FFN / 2 * HIDDEN)
                        fill(x, part ? E_UP : E_GATE, l, e + k, FFN / 2, HIDDEN, half * FFN / 2, 0);
            }
            int64_t *x = add_chunk("decoder.layers.mlp.experts.experts.linear_fc2.weight", fc2,
                                   (const int64_t[]){ 0, e, 0, half * FFN / 2 }, (const int64_t[]){ LAYERS, e + 2, HIDDEN, (half + 1) * FFN / 2 });
            for (int64_t l = 0; l < LAYERS; l++)
                for (int64_t k = 0; k < 2; k++, x += FFN / 2 * HIDDEN)
                    fill(x, E_DOWN, l, e + k, HIDDEN, FFN / 2, 0, half * FFN / 2);
        }
    /* the router is stacked over layers only, as [layer, expert, hidden]; here as chunks of one array of 3 axes */
    int64_t *x = toy_add(&want, -1, 0, "decoder.layers.mlp.router.weight", LAYERS * EXPERTS, HIDDEN);
    static const int64_t shape[] = { LAYERS, EXPERTS, HIDDEN };
    want.tensors[want.c.tensor_count - 1].ndim = 3;
    want.tensors[want.c.tensor_count - 1].shape = shape;
    for (int64_t l = 0; l < LAYERS; l++, x += EXPERTS * HIDDEN)
        fill(x, ROUTER, l, 0, EXPERTS, HIDDEN, 0, 0);
    from = want;
    from.c.tensors = from.tensors;
    for (size_t i = 0; i < from.c.tensor_count; i++)
        from.tensors[i].name = from.names[i];
    convert_from(NULL);
    toy_free(&from);
}

/* ---- stacked arrays written ---------------------------------------------------------------------- */

/* Element [layer, expert, row, col] of an array of experts, or [layer, expert, col] of the router. */
static int64_t of_stack(const char *name, const int64_t *at)
{
    if (strstr(name, "router"))
        return number(ROUTER, at[0], 0, at[1], at[2]);
    if (strstr(name, "dense"))
        return number(DENSE, at[0], 0, at[1], at[2]);
    if (strstr(name, "linear_fc2"))
        return number(E_DOWN, at[0], at[1], at[2], at[3]);
    assert_non_null(strstr(name, "decoder.layers."));
    assert_non_null(strstr(name, ".mlp.experts.experts.linear_fc1.weight"));
    return at[2] < FFN ? number(E_GATE, at[0], at[1], at[2], at[3]) : number(E_UP, at[0], at[1], at[2] - FFN, at[3]);
}

static uint64_t assert_stack_chunk(const struct sl_layout *l, size_t i, const int64_t *data, bool indexed)
{
    const struct sl_tensor *t = &l->tensors[i];
    const bool of_experts = strstr(t->name, "experts.experts");
    int64_t at[4] = { 0 };
    const uint32_t skip = indexed ? 1 : 0;    /* the layer is in the name */
    if (indexed)
        at[0] = t->name[strlen("decoder.layers.")] - '0';
    assert_int_equal(t->ndim, (of_experts ? 4 : 3) - skip);
    assert_int_equal(l->stacked[i], (of_experts ? 2 : 1) - skip);
    for (uint32_t a = 0; a < l->stacked[i]; a++)
        assert_int_equal(t->shape[a], 1);
    for (uint64_t e = 0; e < t->count; e++) {
        uint64_t rest = e;
        for (uint32_t a = t->ndim; a-- > 0; rest /= (uint64_t)t->shape[a])
            at[a + skip] = t->global_offset[a] + (int64_t)(rest % (uint64_t)t->shape[a]);
        if (data[e] != of_stack(t->name, at))
            fail_msg("%s: %llx", t->name, (unsigned long long)data[e]);
    }
    return t->count;
}

static void write_stacks(const struct cut *a, bool indexed, uint64_t chunk_bytes)
{
    struct sl_arena arena = { 0 };
    struct sl_layout source, target;
    struct sl_copy *copies = NULL;
    size_t count = 0, *first = NULL;
    uint64_t elements = 0, held = 0;
    const struct sl_target_spec spec = { .dialect = SL_DIALECT_MEGATRON, .experts = "te_grouped", .source = &source, .dist = true, .indexed = indexed,
                                         .chunk_bytes = chunk_bytes, .parallel = { 4, 1, 1, 4, 4 } };
    set_model(a);
    make_megatron(a);
    take_over();
    if (sl_layout_source(&model.m, &from.c, &arena, &source, &err) || sl_layout_target(&model.m, &spec, &arena, &target, &err) ||
        sl_intersect(&source, &target, false, &copies, &count, &first, &err) || sl_prove_coverage(&target, copies, count, first, &err))
        fail_msg("%s: %s", err.where, err.message);
    int64_t **data = move_all(&target, copies, count, from.data);
    for (size_t i = 0; i < target.tensor_count; i++)
        elements += assert_stack_chunk(&target, i, data[i], indexed);
    for (int64_t l = 0; l < LAYERS; l++)
        held += is_moe(l) ? EXPERTS * HIDDEN + EXPERTS * 3 * FFN * HIDDEN : WIDE * HIDDEN;
    assert_int_equal(elements, held);
    moves_free(&target, data);
    free(copies);
    free(first);
    sl_layout_free(&source);
    sl_layout_free(&target);
    sl_arena_free(&arena);
    toy_free(&from);
}

TEST(experts_are_written_as_stacked_arrays_a_chunk_each)
{
    set_moe_layers(7);
    for (int i = 0; i < CUTS; i++)
        write_stacks(&cuts[i], false, i % 2 ? 64 : 0);
}

TEST(layers_are_numbered_where_some_are_dense)
{
    for (uint32_t mask = 1; mask < 7; mask++) {
        set_moe_layers(mask);
        write_stacks(&cuts[mask], true, mask % 2 ? 64 : 0);
    }
}

static int load(void **state __attribute__((unused)))
{
    char folder[64], path[96];
    new_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/toymoe.json", folder);
    write_text(path, family_text, strlen(family_text));
    const int rc = sl_families_load(path, &families, &err);
    remove(path);
    remove(folder);
    if (rc)
        print_message("%s: %s\n", err.where, err.message);
    family = rc ? NULL : sl_family_find(&families, "toymoe");
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
        ROW(experts_move_from_every_storage_and_cut_to_every_other),
        ROW(experts_become_hugging_face_and_come_back),
        ROW(ranks_that_no_process_has_are_not_made),
        ROW(a_lost_expert_is_named_with_its_global_number),
        ROW(chunks_of_stacked_arrays_are_put_in_their_places),
        ROW(experts_are_written_as_stacked_arrays_a_chunk_each),
        ROW(layers_are_numbered_where_some_are_dense),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
