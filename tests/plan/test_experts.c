/* test_experts.c: experts in every storage there is, moved from each to each: numbered tensors,
 * one array of all local experts transposed, stacks over layers and experts; in Hugging Face one
 * by one, or in one array a matrix in three orientations; expert parallelism with its own tensor
 * parallelism, in every combination with tensor, pipeline and virtual pipeline parallelism.
 *
 * Sources of the formulas: Megatron-LM megatron/core/transformer/moe/experts.py (GroupedMLP:
 * weight1 is [experts, hidden, 2 ffn], weight2 [experts, ffn, hidden] in memory; TEGroupedMLP),
 * megatron/core/parallel_state.py (ranks), dist_checkpointing (stacked global arrays);
 * transformers models/mixtral (fused by rows), models/qwen3_vl_moe (by columns), models/gpt_oss (columns of gate and up in turn). */
#include "../layout/toy.h"
#include "moves.h"

/* %s: its name, and the rows of its experts in Hugging Face. */
static const char family_text[] =
"{\"family\": \"%s\", \"title\": \"Toy\", \"source\": \"test\", \"hf\": {\"architecture\": \"Toy\", \"model_type\": \"toy\"},"
" \"dims\": {\"hidden\": \"hidden_size\", \"ffn\": \"moe_ffn_hidden_size\", \"dense\": \"ffn_hidden_size\"},"
" \"params\": {\"layers.{layer}.dense\": {\"axes\": \"dense hidden\", \"when\": \"!moe_layer\"},"
"  \"layers.{layer}.router\": {\"axes\": \"num_experts hidden\", \"when\": \"moe_layer\"},"
"  \"layers.{layer}.experts.{expert}.gate\": {\"axes\": \"ffn hidden\", \"when\": \"moe_layer\"},"
"  \"layers.{layer}.experts.{expert}.up\": {\"axes\": \"ffn hidden\", \"when\": \"moe_layer\"},"
"  \"layers.{layer}.experts.{expert}.down\": {\"axes\": \"hidden ffn\", \"when\": \"moe_layer\"}},"
" \"tensors\": {\"hf\": ["
"  {\"name\": \"l.{layer}.dense\", \"map\": \"dense: dense hidden\", \"when\": \"!moe_layer\"},"
"  {\"name\": \"l.{layer}.router\", \"map\": \"router: num_experts hidden\", \"when\": \"moe_layer\"},"
"%s],"
" \"megatron\": ["
"  {\"name\": \"decoder.layers.{layer}.mlp.dense\", \"map\": \"dense: dense hidden\", \"cut\": \"tp:0\", \"when\": \"!moe_layer\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.router.weight\", \"map\": \"router: num_experts hidden\", \"when\": \"moe_layer\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.linear_fc1.weight{expert}\", \"map\": \"(etp [gate: ffn/etp | up: ffn/etp]) hidden\", \"cut\": \"etp:0\", \"when\": \"moe_layer\", \"experts\": \"te_grouped\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.linear_fc2.weight{expert}\", \"map\": \"down: hidden ffn\", \"cut\": \"etp:1\", \"when\": \"moe_layer\", \"experts\": \"te_grouped\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.local_experts.{expert}.linear_fc1.weight\", \"map\": \"(etp [gate: ffn/etp | up: ffn/etp]) hidden\", \"cut\": \"etp:0\", \"when\": \"moe_layer\", \"experts\": \"local_experts\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.local_experts.{expert}.linear_fc2.weight\", \"map\": \"down: hidden ffn\", \"cut\": \"etp:1\", \"when\": \"moe_layer\", \"experts\": \"local_experts\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.weight1\", \"map\": \"expert hidden (etp [gate: ffn/etp | up: ffn/etp]) as hidden *\", \"cut\": \"etp:2\", \"when\": \"moe_layer\", \"experts\": \"grouped\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.weight2\", \"map\": \"down: expert ffn hidden as * hidden\", \"cut\": \"etp:1\", \"when\": \"moe_layer\", \"experts\": \"grouped\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.experts.linear_fc1.weight\", \"map\": \"expert [gate: ffn | up: ffn] hidden\", \"cut\": \"etp:1\", \"when\": \"moe_layer\", \"alias\": true, \"dist\": \"both\"},"
"  {\"name\": \"decoder.layers.{layer}.mlp.experts.experts.linear_fc2.weight\", \"map\": \"down: expert hidden ffn\", \"cut\": \"etp:2\", \"when\": \"moe_layer\", \"alias\": true, \"dist\": \"both\"}]}}";

/* How Hugging Face stores experts. */
enum form { ONE_BY_ONE, BY_ROWS, BY_COLUMNS, COLUMNS_IN_TURN, FORMS };
static const struct { const char *name, *rows; } forms[FORMS] = {
    [ONE_BY_ONE] = { "toymoe",
        "{\"name\": \"l.{layer}.e.{expert}.gate\", \"map\": \"gate: ffn hidden\", \"when\": \"moe_layer\"},"
        "{\"name\": \"l.{layer}.e.{expert}.up\", \"map\": \"up: ffn hidden\", \"when\": \"moe_layer\"},"
        "{\"name\": \"l.{layer}.e.{expert}.down\", \"map\": \"down: hidden ffn\", \"when\": \"moe_layer\"}" },
    [BY_ROWS] = { "toyrows",
        "{\"name\": \"l.{layer}.gate_up\", \"map\": \"expert [gate: ffn | up: ffn] hidden\", \"when\": \"moe_layer\"},"
        "{\"name\": \"l.{layer}.down\", \"map\": \"down: expert hidden ffn\", \"when\": \"moe_layer\"}" },
    [BY_COLUMNS] = { "toycolumns",
        "{\"name\": \"l.{layer}.gate_up\", \"map\": \"expert hidden [gate: ffn | up: ffn]\", \"when\": \"moe_layer\"},"
        "{\"name\": \"l.{layer}.down\", \"map\": \"down: expert ffn hidden\", \"when\": \"moe_layer\"}" },
    [COLUMNS_IN_TURN] = { "toyturn",
        "{\"name\": \"l.{layer}.gate_up\", \"map\": \"expert hidden (ffn [gate: | up: ])\", \"when\": \"moe_layer\"},"
        "{\"name\": \"l.{layer}.down\", \"map\": \"down: expert ffn hidden\", \"when\": \"moe_layer\"}" },
};

enum { DENSE = 20, ROUTER, E_GATE, E_UP, E_DOWN };

/* vpp 0: one chunk a stage, the first of two stages with two layers. stage: layers of the stages, chunk by chunk. */
struct cut { int32_t tp, pp, ep, etp; const char *storage; int32_t vpp, stage[8]; };
static struct { int64_t layers, experts, hidden, ffn, wide; } size = { 3, 4, 3, 4, 6 };
enum { MOST_LAYERS = 8 };

static struct sl_families families[FORMS];
static const struct sl_family *family;
static enum form form;
static struct toy_ckpt from, want;
static struct toy_model model;
static int32_t moe_layers[MOST_LAYERS];
static size_t moe_layer_count;
static struct sl_moe moe;
static struct sl_error err;

static void set_moe_layers(uint32_t mask)
{
    moe_layer_count = 0;
    for (int32_t l = 0; l < size.layers; l++)
        if (mask >> l & 1)
            moe_layers[moe_layer_count++] = l;
    moe = (struct sl_moe){ .num_experts = (int32_t)size.experts, .layers = moe_layers, .layer_count = moe_layer_count };
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

/* As SequentialMLP or TEGroupedMLP names matrix 1 or 2 of an expert. */
static const char *expert_name(const struct cut *c, int32_t local, int64_t m, int matrix, char *out, size_t room)
{
    if (!strcmp(c->storage, "local_experts"))
        snprintf(out, room, "decoder.layers.%d.mlp.experts.local_experts.%d.linear_fc%d.weight", local, (int)m, matrix);
    else
        snprintf(out, room, "decoder.layers.%d.mlp.experts.linear_fc%d.weight%d", local, matrix, (int)m);
    return out;
}

static void add_each(const struct cut *c, int32_t rank, int32_t chunk, int32_t local, int64_t layer, int64_t e0, int64_t r)
{
    const int64_t f = size.ffn / c->etp, el = size.experts / c->ep;
    char name[96];
    for (int64_t m = 0; m < el; m++) {
        int64_t *x = toy_add(&want, rank, chunk, expert_name(c, local, m, 1, name, sizeof name), 2 * f, size.hidden);
        fill(x, E_GATE, layer, e0 + m, f, size.hidden, r * f, 0);
        fill(x + f * size.hidden, E_UP, layer, e0 + m, f, size.hidden, r * f, 0);
        x = toy_add(&want, rank, chunk, expert_name(c, local, m, 2, name, sizeof name), size.hidden, f);
        fill(x, E_DOWN, layer, e0 + m, size.hidden, f, 0, r * f);
    }
}

/* weight1_flat[(m * H + h) * 2f + j] is gate[j][h] or up[j - f][h]; weight2_flat[(m * f + j) * H + h] is
 * down[h][j]; declared [H, El * 2f] and [El * f, H]. */
static void add_grouped(const struct cut *c, int32_t rank, int32_t chunk, int32_t local, int64_t layer, int64_t e0, int64_t r)
{
    const int64_t f = size.ffn / c->etp, el = size.experts / c->ep;
    char name[96];
    snprintf(name, sizeof name, "decoder.layers.%d.mlp.experts.weight1", local);
    int64_t *x = toy_add(&want, rank, chunk, name, size.hidden, el * 2 * f);
    for (int64_t m = 0; m < el; m++)
        for (int64_t h = 0; h < size.hidden; h++)
            for (int64_t j = 0; j < 2 * f; j++)
                x[(m * size.hidden + h) * 2 * f + j] = number(j < f ? E_GATE : E_UP, layer, e0 + m, r * f + j % f, h);
    snprintf(name, sizeof name, "decoder.layers.%d.mlp.experts.weight2", local);
    x = toy_add(&want, rank, chunk, name, el * f, size.hidden);
    for (int64_t m = 0; m < el; m++)
        for (int64_t j = 0; j < f; j++)
            for (int64_t h = 0; h < size.hidden; h++)
                x[(m * f + j) * size.hidden + h] = number(E_DOWN, layer, e0 + m, h, r * f + j);
}

static int32_t chunks_of(const struct cut *c) { return c->vpp ? c->vpp : 1; }

static int32_t layers_of(const struct cut *c, int32_t stage)
{
    return c->vpp ? c->stage[stage] : c->pp == 1 ? (int32_t)size.layers : stage ? (int32_t)size.layers - 2 : 2;
}

/* Process i has TP index i % tp, expert TP index i % etp and EP index i / etp % ep; the first that has this file's. -1: none. */
static int32_t process_of(const struct cut *c, int32_t tp, int32_t ep)
{
    for (int32_t i = 0; i < c->tp * c->ep * c->etp; i++)
        if (i % c->tp == tp && i / c->etp % c->ep == ep)
            return i;
    return -1;
}

static void make_layer(const struct cut *c, int32_t rank, int32_t chunk, int32_t l, int64_t layer)
{
    const int32_t tp = want.ranks[rank].tp, ep = want.ranks[rank].ep;
    const int64_t e0 = (int64_t)ep * (size.experts / c->ep), r = process_of(c, tp, ep) % c->etp, wide = size.wide / c->tp;
    char name[96];
    if (!is_moe(layer)) {
        snprintf(name, sizeof name, "decoder.layers.%d.mlp.dense", l);
        fill(toy_add(&want, rank, chunk, name, wide, size.hidden), DENSE, layer, 0, wide, size.hidden, tp * wide, 0);
        return;
    }
    snprintf(name, sizeof name, "decoder.layers.%d.mlp.router.weight", l);
    fill(toy_add(&want, rank, chunk, name, size.experts, size.hidden), ROUTER, layer, 0, size.experts, size.hidden, 0, 0);
    if (!strcmp(c->storage, "grouped"))
        add_grouped(c, rank, chunk, l, layer, e0, r);
    else
        add_each(c, rank, chunk, l, layer, e0, r);
}

static void make_megatron(const struct cut *c)
{
    toy_begin(&want, SL_MEGATRON_TORCH);
    for (int32_t pp = 0; pp < c->pp; pp++)
        for (int32_t ep = 0; ep < c->ep; ep++)
            for (int32_t tp = 0; tp < c->tp; tp++) {
                if (process_of(c, tp, ep) < 0)
                    continue;
                const int32_t rank = (int32_t)want.c.rank_count++;
                want.ranks[rank] = (struct sl_rank){ .tp = tp, .pp = pp, .ep = ep, .path = "rank" };
                for (int32_t chunk = 0; chunk < chunks_of(c); chunk++) {
                    const int32_t stage = chunk * c->pp + pp;
                    int64_t first = 0;
                    for (int32_t s = 0; s < stage; s++)
                        first += layers_of(c, s);
                    for (int32_t l = 0; l < layers_of(c, stage); l++)
                        make_layer(c, rank, chunk, l, first + l);
                }
            }
}

/* A tensor of three axes: its first two are counted together as rows. */
static int64_t *add_stack(const char *name, int64_t rows, int64_t cols)
{
    static int64_t shapes[TOY_TENSORS][3];
    int64_t *x = toy_add(&want, -1, 0, name, size.experts * rows, cols), *shape = shapes[want.c.tensor_count - 1];
    shape[0] = size.experts, shape[1] = rows, shape[2] = cols;
    want.tensors[want.c.tensor_count - 1].ndim = 3;
    want.tensors[want.c.tensor_count - 1].shape = shape;
    return x;
}

/* Element [e, i, j] of gate_up in each form, and of down. */
static void make_fused(int l)
{
    const int64_t f = size.ffn, h = size.hidden;
    char name[32];
    snprintf(name, sizeof name, "l.%d.gate_up", l);
    int64_t *x = form == BY_ROWS ? add_stack(name, 2 * f, h) : add_stack(name, h, 2 * f);
    for (int64_t i = 0; i < size.experts * 2 * f * h; i++) {
        const int64_t e = i / (2 * f * h), row = form == BY_ROWS ? i / h % (2 * f) : i % (2 * f);
        const int64_t col = form == BY_ROWS ? i % h : i / (2 * f) % h;
        const bool up = form == COLUMNS_IN_TURN ? row % 2 : row / f;
        x[i] = number(up ? E_UP : E_GATE, l, e, form == COLUMNS_IN_TURN ? row / 2 : row % f, col);
    }
    snprintf(name, sizeof name, "l.%d.down", l);
    x = form == BY_ROWS ? add_stack(name, h, f) : add_stack(name, f, h);
    for (int64_t i = 0; i < size.experts * f * h; i++)
        x[i] = form == BY_ROWS ? number(E_DOWN, l, i / (f * h), i / f % h, i % f) : number(E_DOWN, l, i / (f * h), i % h, i / h % f);
}

static void make_hf(void)
{
    char name[96];
    toy_begin(&want, SL_HF_SAFETENSORS);
    #define NAME(...) (snprintf(name, sizeof name, __VA_ARGS__), name)
    for (int l = 0; l < size.layers; l++) {
        if (!is_moe(l)) {
            fill(toy_add(&want, -1, 0, NAME("l.%d.dense", l), size.wide, size.hidden), DENSE, l, 0, size.wide, size.hidden, 0, 0);
            continue;
        }
        fill(toy_add(&want, -1, 0, NAME("l.%d.router", l), size.experts, size.hidden), ROUTER, l, 0, size.experts, size.hidden, 0, 0);
        if (form != ONE_BY_ONE)
            make_fused(l);
        for (int e = 0; form == ONE_BY_ONE && e < size.experts; e++) {
            fill(toy_add(&want, -1, 0, NAME("l.%d.e.%d.gate", l, e), size.ffn, size.hidden), E_GATE, l, e, size.ffn, size.hidden, 0, 0);
            fill(toy_add(&want, -1, 0, NAME("l.%d.e.%d.up", l, e), size.ffn, size.hidden), E_UP, l, e, size.ffn, size.hidden, 0, 0);
            fill(toy_add(&want, -1, 0, NAME("l.%d.e.%d.down", l, e), size.hidden, size.ffn), E_DOWN, l, e, size.hidden, size.ffn, 0, 0);
        }
    }
    #undef NAME
}

/* ---- from each to each ------------------------------------------------------------------ */

static void set_model(const struct cut *c)
{
    const struct toy sizes = { .layers = size.layers, .hidden = size.hidden, .ffn = size.wide, .groups = 1, .per_group = 1, .head = 2, .vocab = 4 };
    toy_model(&model, family, &sizes, NULL);
    toy_set(&model, "moe_ffn_hidden_size", size.ffn);
    toy_set(&model, "num_experts", size.experts);
    model.m.moe = &moe;
    if (!c)
        return;
    model.m.dialect = SL_DIALECT_MEGATRON;
    model.m.parallel = (struct sl_parallel){ c->tp, c->pp, chunks_of(c), c->ep, c->etp };
    model.m.stage_count = 0;
    for (int32_t s = 0, first = 0; s < c->pp * chunks_of(c); first += layers_of(c, s++))
        model.stages[model.m.stage_count++] = (struct sl_stage_layers){ s % c->pp, s / c->pp, first, layers_of(c, s), 0 };
}

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

/* Moves `from`, which is already made for a model as set, into cut b (NULL: Hugging Face). */
static void convert_from(const struct cut *b)
{
    int32_t stages[8] = { 0 };
    struct sl_arena arena = { 0 };
    struct sl_layout source, target;
    struct sl_copy *copies = NULL;
    size_t count = 0, *first = NULL;
    struct sl_target_spec spec = { .dialect = SL_DIALECT_HF, .source = &source };
    for (int32_t i = 0; b && i < b->pp * chunks_of(b); i++)
        stages[i] = layers_of(b, i);
    if (b)
        spec = (struct sl_target_spec){ .dialect = SL_DIALECT_MEGATRON, .experts = b->storage, .source = &source,
                                        .parallel = { b->tp, b->pp, chunks_of(b), b->ep, b->etp }, .stage_layers = stages };
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
        if (from.tensors[i].ndim < 3)
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

#define CUT(tp, pp, ep, etp, storage) { tp, pp, ep, etp, storage, 0, { 0 } }
static const struct cut cuts[] = {
    CUT(1, 1, 1, 1, "te_grouped"), CUT(2, 1, 1, 2, "te_grouped"), CUT(2, 2, 2, 2, "te_grouped"), CUT(2, 1, 4, 1, "te_grouped"),
    CUT(1, 2, 4, 1, "grouped"),  CUT(2, 1, 2, 2, "grouped"),  CUT(2, 2, 2, 1, "grouped"),  CUT(1, 1, 1, 1, "grouped"),
    CUT(2, 2, 2, 2, "local_experts"),
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

TEST(experts_in_one_array_of_hugging_face_are_read_and_written_in_every_orientation)
{
    set_moe_layers(6);
    for (form = BY_ROWS; form < FORMS; form++) {
        family = sl_family_find(&families[form], forms[form].name);
        assert_non_null(family);
        for (int i = 0; i < CUTS; i++) {
            convert(&cuts[i], NULL);
            convert(NULL, &cuts[i]);
        }
        convert(NULL, NULL);
    }
    form = ONE_BY_ONE;
    family = sl_family_find(&families[form], forms[form].name);
}

static int64_t divisor_of(int64_t n, int64_t most)
{
    int64_t d;
    do
        d = toy_roll(1, most);
    while (n % d);
    return d;
}

/* Expert TP is a divisor of TP: files are named by TP and EP index, and one file is of one expert TP index. */
static void random_cut(struct cut *c)
{
    static const char *const storages[] = { "te_grouped", "grouped", "local_experts" };
    *c = (struct cut){ .pp = (int32_t)toy_roll(1, 3), .vpp = (int32_t)toy_roll(1, 2), .storage = storages[toy_roll(0, 2)] };
    c->tp = (int32_t)divisor_of(size.wide, 4);
    c->ep = (int32_t)divisor_of(size.experts, 4);
    do
        c->etp = (int32_t)divisor_of(size.ffn, 4);
    while (c->tp % c->etp);
    for (int64_t l = 0; l < size.layers; l++)
        c->stage[toy_roll(0, c->pp * c->vpp - 1)]++;
}

TEST(experts_move_between_random_tp_pp_vpp_ep_and_etp)
{
    const int rounds = 300;
    for (int seed = 1; seed <= rounds; seed++) {
        struct cut a, b;
        toy_seed = (uint64_t)seed;
        size.layers = toy_roll(1, 5), size.experts = 2 * toy_roll(1, 4), size.hidden = toy_roll(1, 4);
        size.ffn = 2 * toy_roll(1, 4), size.wide = 12 * toy_roll(1, 2);
        set_moe_layers((uint32_t)toy_roll(1, (1 << size.layers) - 1));
        random_cut(&a);
        random_cut(&b);
        convert(&a, seed % 3 == 0 ? NULL : &b);
        convert(seed % 3 == 1 ? NULL : &a, &b);
    }
    size.layers = 3, size.experts = 4, size.hidden = 3, size.ffn = 4, size.wide = 6;
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
    for (int64_t e = 0; e < size.experts; e += 2)
        for (int64_t half = 0; half < 2; half++) {
            const int64_t fc1[] = { size.layers, size.experts, 2 * size.ffn, size.hidden }, fc2[] = { size.layers, size.experts, size.hidden, size.ffn };
            for (int64_t part = 0; part < 2; part++) {
                const int64_t row = part * size.ffn + half * size.ffn / 2;
                int64_t *x = add_chunk("decoder.layers.mlp.experts.experts.linear_fc1.weight", fc1,
                                       (const int64_t[]){ 0, e, row, 0 }, (const int64_t[]){ size.layers, e + 2, row + size.ffn / 2, size.hidden });
                for (int64_t l = 0; l < size.layers; l++)
                    for (int64_t k = 0; k < 2; k++, x += size.ffn / 2 * size.hidden)
                        fill(x, part ? E_UP : E_GATE, l, e + k, size.ffn / 2, size.hidden, half * size.ffn / 2, 0);
            }
            int64_t *x = add_chunk("decoder.layers.mlp.experts.experts.linear_fc2.weight", fc2,
                                   (const int64_t[]){ 0, e, 0, half * size.ffn / 2 }, (const int64_t[]){ size.layers, e + 2, size.hidden, (half + 1) * size.ffn / 2 });
            for (int64_t l = 0; l < size.layers; l++)
                for (int64_t k = 0; k < 2; k++, x += size.ffn / 2 * size.hidden)
                    fill(x, E_DOWN, l, e + k, size.hidden, size.ffn / 2, 0, half * size.ffn / 2);
        }
    /* the router is stacked over layers only, as [layer, expert, hidden]; here as chunks of one array of 3 axes */
    int64_t *x = toy_add(&want, -1, 0, "decoder.layers.mlp.router.weight", size.layers * size.experts, size.hidden);
    const int64_t shape[] = { size.layers, size.experts, size.hidden };
    want.tensors[want.c.tensor_count - 1].ndim = 3;
    want.tensors[want.c.tensor_count - 1].shape = shape;
    for (int64_t l = 0; l < size.layers; l++, x += size.experts * size.hidden)
        fill(x, ROUTER, l, 0, size.experts, size.hidden, 0, 0);
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
    return at[2] < size.ffn ? number(E_GATE, at[0], at[1], at[2], at[3]) : number(E_UP, at[0], at[1], at[2] - size.ffn, at[3]);
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
    for (int64_t l = 0; l < size.layers; l++)
        held += (uint64_t)(is_moe(l) ? size.experts * size.hidden * (1 + 3 * size.ffn) : size.wide * size.hidden);
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
    char folder[64], path[96], text[8192];
    int rc = 0;
    new_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/toymoe.json", folder);
    for (int i = 0; i < FORMS && !rc; i++) {
        const int len = snprintf(text, sizeof text, family_text, forms[i].name, forms[i].rows);
        if (len < 0 || (size_t)len >= sizeof text)
            return -1;
        write_text(path, text, (size_t)len);
        rc = sl_families_load(path, &families[i], &err);
    }
    remove(path);
    remove(folder);
    if (rc)
        print_message("%s: %s\n", err.where, err.message);
    family = rc ? NULL : sl_family_find(&families[ONE_BY_ONE], forms[ONE_BY_ONE].name);
    return family ? 0 : -1;
}

static int unload(void **state __attribute__((unused)))
{
    for (int i = 0; i < FORMS; i++)
        sl_families_free(&families[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(experts_move_from_every_storage_and_cut_to_every_other),
        ROW(experts_become_hugging_face_and_come_back),
        ROW(experts_in_one_array_of_hugging_face_are_read_and_written_in_every_orientation),
        ROW(experts_move_between_random_tp_pp_vpp_ep_and_etp),
        ROW(ranks_that_no_process_has_are_not_made),
        ROW(a_lost_expert_is_named_with_its_global_number),
        ROW(chunks_of_stacked_arrays_are_put_in_their_places),
        ROW(experts_are_written_as_stacked_arrays_a_chunk_each),
        ROW(layers_are_numbered_where_some_are_dense),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
