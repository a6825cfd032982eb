/* test_look.c: what weights show of the order of their rows. The weights are made here with the habits
 * of trained ones that src/run/detective.h names (measured there on a real model): rows of v equally long,
 * rotary pairs of one length that falls with their number, a direction that rows of gate share. Then rows
 * are put in another order, and that order must be told; and of random weights nothing. */
#include "../checkpoint/made.h"

#include <shardlens/shardlens.h>

#include <math.h>

enum { LAYERS = 8, HIDDEN = 32, GROUPS = 2, PER_GROUP = 2, HEAD = 16, FFN = 96, VOCAB = 64 };
enum { Q = GROUPS * PER_GROUP * HEAD, KV = GROUPS * HEAD };

/* ---- weights ------------------------------------------------------------------------------------ */

static uint64_t seed;
static float uniform(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(seed >> 40) / (float)(1 << 24) * 2 - 1;
}

static float *fill_rows(float *at, int rows, float (*length)(int row), float shared)
{
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < HIDDEN; c++)
            *at++ = uniform() * length(r) + (c % 3 ? shared : -shared);
    return at;
}
static float one(int row) { (void)row; return 1; }
/* halves: rows i and i + 8 are a pair; next: rows 2i and 2i + 1 are */
static float falls_by_halves(int row) { return 1.6f - 0.18f * (float)(row % (HEAD / 2)); }
static float falls_by_twos(int row) { return 1.6f - 0.18f * (float)(row % HEAD / 2); }
static float falls_in_k(int row) { return 2.5f * falls_by_halves(row); }

enum kind { TRAINED, RANDOM, GATE_UP_SWAPPED, ROPE_INTERLEAVED };

static size_t layer_elements(void) { return (Q + 2 * KV + Q + 3 * FFN) * HIDDEN + 2 * HIDDEN; }

static float *make_layer(float *w, enum kind kind)
{
    const bool random = kind == RANDOM;
    float (*turning)(int) = random ? one : kind == ROPE_INTERLEAVED ? falls_by_twos : falls_by_halves;
    w = fill_rows(w, Q, turning, 0);
    w = fill_rows(w, KV, random ? one : kind == ROPE_INTERLEAVED ? falls_by_twos : falls_in_k, 0);
    w = fill_rows(w, KV, one, 0);
    w = fill_rows(w, Q, one, 0);                            /* o: [hidden, q] */
    w = fill_rows(w, FFN, one, random || kind == GATE_UP_SWAPPED ? 0 : 0.2f);
    w = fill_rows(w, FFN, one, kind == GATE_UP_SWAPPED ? 0.2f : 0);
    w = fill_rows(w, FFN, one, 0);                          /* down: [hidden, ffn] */
    for (int i = 0; i < 2 * HIDDEN; i++)
        *w++ = 1 + 0.1f * uniform();
    return w;
}

/* ---- a Hugging Face folder of them ------------------------------------------------------------------ */

static size_t entry(char *out, size_t room, const char *name, int rows, int columns, size_t *at)
{
    char shape[32];
    snprintf(shape, sizeof shape, columns ? "%d,%d" : "%d", rows, columns);
    const size_t bytes = (size_t)rows * (size_t)(columns ? columns : 1) * 4;
    const int n = snprintf(out, room, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}", *at ? "," : "{", name, shape,
                           *at, *at + bytes);
    *at += bytes;
    return (size_t)n;
}

static void write_model(const char *name, enum kind kind)
{
    static const struct { const char *part; int rows, columns; } parts[] = {
        { "self_attn.q_proj", Q, HIDDEN }, { "self_attn.k_proj", KV, HIDDEN }, { "self_attn.v_proj", KV, HIDDEN },
        { "self_attn.o_proj", HIDDEN, Q }, { "mlp.gate_proj", FFN, HIDDEN },   { "mlp.up_proj", FFN, HIDDEN },
        { "mlp.down_proj", HIDDEN, FFN },  { "input_layernorm", HIDDEN, 0 },   { "post_attention_layernorm", HIDDEN, 0 },
    };
    static const char config[] =
        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":32,\"num_hidden_layers\":8,"
        "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":16,\"intermediate_size\":96,\"vocab_size\":64,"
        "\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,\"tie_word_embeddings\":false,\"max_position_embeddings\":512}";
    const size_t elements = LAYERS * layer_elements() + 2 * VOCAB * HIDDEN + HIDDEN;
    char *header = calloc(1, 65536), path[512], tensor[128];
    float *weights = calloc(elements, sizeof *weights), *w = weights;
    size_t len = 0, at = 0;
    seed = 7;
    for (int l = 0; l < LAYERS; l++) {
        w = make_layer(w, kind);
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            snprintf(tensor, sizeof tensor, "model.layers.%d.%s.weight", l, parts[i].part);
            len += entry(header + len, 65536 - len, tensor, parts[i].rows, parts[i].columns, &at);
        }
    }
    w = fill_rows(w, 2 * VOCAB + 1, one, 0);
    len += entry(header + len, 65536 - len, "model.embed_tokens.weight", VOCAB, HIDDEN, &at);
    len += entry(header + len, 65536 - len, "lm_head.weight", VOCAB, HIDDEN, &at);
    len += entry(header + len, 65536 - len, "model.norm.weight", HIDDEN, 0, &at);
    len += (size_t)snprintf(header + len, 65536 - len, "}");
    while (len % 8)
        header[len++] = ' ';
    assert_int_equal(at, elements * 4);
    sl_folder_make(in(name), NULL);
    snprintf(path, sizeof path, "%s/model.safetensors", name);
    FILE *f = fopen(in(path), "wb");
    assert_non_null(f);
    const uint64_t length = len;
    fwrite(&length, 8, 1, f);
    fwrite(header, 1, len, f);
    fwrite(weights, 4, elements, f);
    fclose(f);
    snprintf(path, sizeof path, "%s/config.json", name);
    write_text(in(path), config, sizeof config - 1);
    free(weights);
    free(header);
}

/* ---- asking ------------------------------------------------------------------------------------------ */

enum { QKV, GATE_UP, ROPE };
static void answers(const char *path, int question, bool told, bool as_read, const char *words)
{
    struct sl_checkpoint *ck;
    struct sl_layout_report *report = NULL;
    if (sl_open(path, NULL, &ck, &err) || sl_layout_look(ck, NULL, &report, &err))
        fail_msg("%s: %s", err.where, err.message);
    assert_int_equal(sl_layout_finding_count(report), 3);
    const struct sl_layout_finding *f = sl_layout_finding(report, (size_t)question);
    if (f->told != told || f->as_read != as_read || !strstr(f->answer, words) || f->confidence == SL_CERTAIN)
        fail_msg("%s %s: told %d, as read %d: %s (%d of %d; %s)", path, f->question, f->told, f->as_read, f->answer, (int)f->agree,
                 (int)f->layers, f->measure);
    sl_layout_report_free(report);
    sl_close(ck);
}

static void to_megatron(const char *from, const char *to, int tp)
{
    struct sl_checkpoint *ck = NULL;
    struct sl_plan *plan = NULL;
    struct sl_job *job = NULL;
    const struct sl_plan_options want = { .format = SL_TO_MEGATRON, .tp = tp, .iteration = -1 };
    if (sl_open(from, NULL, &ck, &err) || sl_plan_make(ck, to, &want, &plan, &err) || sl_convert_start(plan, NULL, &job, &err) ||
        sl_job_wait(job, &err))
        fail_msg("%s: %s", err.where, err.message);
    sl_job_free(job);
    sl_plan_free(plan);
    sl_close(ck);
}

/* The bytes of a tensor, of a file that is being written: sl_tensor_read() would say so. */
static void bytes_of(FILE *f, const struct sl_tensor *t, unsigned char *out)
{
    fseek(f, (long)t->offset, SEEK_SET);
    assert_int_equal(fread(out, 1, t->bytes, f), t->bytes);
}

/* Rows of every fused matrix: grouped (q q k v, q q k v) -> contiguous (q q q q, k k, v v). */
static void make_contiguous(const char *path)
{
    static const int block[] = { 0, 1, 4, 5, 2, 6, 3, 7 };
    struct sl_checkpoint *ck;
    assert_int_equal(sl_open(path, NULL, &ck, &err), 0);
    for (size_t i = 0; i < sl_tensor_count(ck); i++) {
        const struct sl_tensor *t = sl_tensor_at(ck, i);
        const size_t step = HEAD * HIDDEN * 4;
        if (!strstr(t->name, "linear_qkv.weight"))
            continue;
        assert_int_equal(t->bytes, 8 * step);
        unsigned char *was = malloc(t->bytes);
        FILE *f = fopen(sl_info(ck)->files[t->file].path, "r+b");
        bytes_of(f, t, was);
        fseek(f, (long)t->offset, SEEK_SET);
        for (int b = 0; b < 8; b++)
            assert_int_equal(fwrite(was + (size_t)block[b] * step, 1, step, f), step);
        fclose(f);
        free(was);
    }
    sl_close(ck);
}

TEST(trained_weights_show_the_order_they_are_in)
{
    write_model("hf", TRAINED);
    answers(in("hf"), QKV, false, false, "matrices of their own");
    answers(in("hf"), GATE_UP, true, true, "in the order they are read in");
    answers(in("hf"), ROPE, true, true, "i + head/2");
    to_megatron(in("hf"), in("megatron"), 1);
    answers(in("megatron"), QKV, true, true, "grouped, as it is read");
    answers(in("megatron"), GATE_UP, true, true, "in the order they are read in");
    answers(in("megatron"), ROPE, true, true, "as they are read");
}

TEST(random_weights_show_nothing)
{
    write_model("hf", RANDOM);
    to_megatron(in("hf"), in("megatron"), 1);
    answers(in("megatron"), QKV, false, false, "do not show it");
    answers(in("megatron"), GATE_UP, false, false, "do not show it");
    answers(in("megatron"), ROPE, false, false, "do not show it");
}

TEST(gate_and_up_swapped_are_told)
{
    write_model("hf", GATE_UP_SWAPPED);
    answers(in("hf"), GATE_UP, true, false, "swapped");
    answers(in("hf"), ROPE, true, true, "as they are read");
}

TEST(interleaved_rotary_rows_are_told)
{
    write_model("hf", ROPE_INTERLEAVED);
    answers(in("hf"), ROPE, true, false, "interleaved");
    answers(in("hf"), GATE_UP, true, true, "in the order they are read in");
}

TEST(a_contiguous_matrix_that_is_read_as_grouped_is_told)
{
    write_model("hf", TRAINED);
    to_megatron(in("hf"), in("megatron"), 1);
    make_contiguous(in("megatron"));
    answers(in("megatron"), QKV, true, false, "contiguous");
}

TEST(one_group_a_rank_has_one_order_only)
{
    write_model("hf", TRAINED);
    to_megatron(in("hf"), in("megatron"), 2);
    answers(in("megatron"), QKV, false, false, "both orders are the same");
    answers(in("megatron"), GATE_UP, true, true, "in the order they are read in");
}

/* The tensors of one name in A and another in B change places in every layer. */
static void exchange(const char *path, const char *one, const char *other)
{
    struct sl_checkpoint *ck;
    assert_int_equal(sl_open(path, NULL, &ck, &err), 0);
    for (size_t i = 0; i < sl_tensor_count(ck); i++)
        for (size_t k = 0; k < sl_tensor_count(ck); k++) {
            const struct sl_tensor *s = sl_tensor_at(ck, i), *t = sl_tensor_at(ck, k);
            if (!strstr(s->name, one) || !strstr(t->name, other) || strncmp(s->name, t->name, 15))
                continue;
            assert_int_equal(s->bytes, t->bytes);
            unsigned char *a = malloc(s->bytes), *b = malloc(t->bytes);
            FILE *f = fopen(sl_info(ck)->files[0].path, "r+b");
            bytes_of(f, s, a);
            bytes_of(f, t, b);
            fseek(f, (long)s->offset, SEEK_SET);
            fwrite(b, 1, t->bytes, f);
            fseek(f, (long)t->offset, SEEK_SET);
            fwrite(a, 1, s->bytes, f);
            fclose(f);
            free(a);
            free(b);
        }
    sl_close(ck);
}

static void orders(const char *a, const char *b, size_t want, const char *words)
{
    struct sl_checkpoint *x, *y;
    struct sl_order_finding found[4];
    size_t count;
    assert_int_equal(sl_open(a, NULL, &x, &err), 0);
    assert_int_equal(sl_open(b, NULL, &y, &err), 0);
    assert_int_equal(sl_orders(x, y, found, 4, &count, &err), 0);
    assert_int_equal(count, want);
    if (want && (!strstr(found[0].rule, words) || found[0].layers != LAYERS))
        fail_msg("%s (%d layers)", found[0].rule, (int)found[0].layers);
    /* diff --json says the same */
    struct sl_job *job = NULL;
    if (sl_diff_start(x, y, NULL, &job, &err) || sl_job_wait(job, &err))
        fail_msg("%s: %s", err.where, err.message);
    char *json = sl_job_report_json(job), *told = json ? strstr(json, "\"orders\": [") : NULL;
    assert_non_null(told);
    assert_int_equal(strstr(told, "\"rule\"") != NULL, want != 0);
    if (want && !strstr(told, words))
        fail_msg("%s", told);
    free(json);
    sl_job_free(job);
    sl_close(x);
    sl_close(y);
}

TEST(rows_in_another_order_are_explained_by_a_rule)
{
    write_model("hf", TRAINED);
    write_model("swapped", TRAINED);
    exchange(in("swapped"), "gate_proj", "up_proj");
    orders(in("hf"), in("hf"), 0, "");
    orders(in("hf"), in("swapped"), 1, "gate and up swapped");
    to_megatron(in("hf"), in("megatron"), 1);
    orders(in("hf"), in("megatron"), 0, "");
    make_contiguous(in("megatron"));
    orders(in("hf"), in("megatron"), 1, "grouped on one side and contiguous");
    write_model("other", ROPE_INTERLEAVED);              /* other values: nothing to explain */
    orders(in("hf"), in("other"), 0, "");
}

TEST(an_unknown_family_is_not_looked_at)
{
    struct sl_checkpoint *ck;
    struct sl_layout_report *report = NULL;
    assert_int_equal(sl_open(FIXTURES "torch/one_tensor.pt", NULL, &ck, &err), 0);
    assert_int_equal(sl_layout_look(ck, NULL, &report, &err), SL_UNSUPPORTED);
    assert_null(report);
    sl_close(ck);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(trained_weights_show_the_order_they_are_in), IN_FOLDER(random_weights_show_nothing),
        IN_FOLDER(gate_and_up_swapped_are_told),               IN_FOLDER(interleaved_rotary_rows_are_told),
        IN_FOLDER(a_contiguous_matrix_that_is_read_as_grouped_is_told), IN_FOLDER(one_group_a_rank_has_one_order_only),
        IN_FOLDER(rows_in_another_order_are_explained_by_a_rule),
        ROW(an_unknown_family_is_not_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
