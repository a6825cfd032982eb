/* test_check.c: what check says of a good checkpoint after one small damage, and
 * that it says nothing else. Damage is done byte by byte at the place a tensor
 * has in its file, so the checksum of its record is wrong besides: a crc finding
 * at the same place belongs to each. */
#include "../checkpoint/made.h"

#include <shardlens/shardlens.h>

#include <math.h>

#define FC2 "decoder.layers.2.mlp.linear_fc2.weight"
#define NORM "decoder.layers.1.input_layernorm.weight"
#define EMBEDDING "embedding.word_embeddings.weight"
#define HEAD "output_layer.weight"

/* ---- findings as lines: "warning crc @ mp_rank_00 decoder.layers.." ---------------- */

#define LINES 32
struct findings { char line[LINES][700]; size_t count; };

static struct sl_checkpoint *open_path(const char *path)
{
    struct sl_checkpoint *ck = NULL;
    if (sl_open(path, NULL, &ck, &err))
        fail_msg("%s: %s", err.where, err.message);
    return ck;
}

/* Every finding tells all parts of its card, and one of a tensor on a rank where its bytes are. */
static void is_a_whole_card(const struct sl_problem *p)
{
    if (!(*p->message && *p->expected && *p->cause && *p->damage && *p->next) || strchr(p->next, '{'))
        fail_msg("%s lacks a part: %s / %s / %s / %s / %s", p->code, p->message, p->expected, p->cause, p->damage, p->next);
    if (!strncmp(p->where, "mp_rank_", 8) && strcmp(p->code, "extra-rank") && strcmp(p->code, "duplicate-rank") && (p->tp < 0 || p->pp < 0 || p->ep < 0))
        fail_msg("%s @ %s: no rank", p->code, p->where);
    if (!strncmp(p->where, "mp_rank_", 8) && strchr(p->where, ' ') && (!*p->file || !*p->tensor || p->offset < 0))
        fail_msg("%s @ %s: no place", p->code, p->where);
}

static void check_opened(struct sl_checkpoint *ck, struct findings *out)
{
    struct sl_job *job = NULL;
    if (sl_check_start(ck, true, NULL, &job, &err) || sl_job_wait(job, &err))
        fail_msg("%s: %s", err.where, err.message);
    const struct sl_check_result *r = sl_check_result(job);
    out->count = 0;
    for (size_t i = 0; i < r->problem_count && out->count < LINES; i++) {
        const struct sl_problem *p = &r->problems[i];
        is_a_whole_card(p);
        snprintf(out->line[out->count++], sizeof out->line[0], "%s %s @ %s", sl_severity_name(p->severity), p->code, p->where);
    }
    sl_job_free(job);
}
static void check(const char *path, struct findings *out)
{
    struct sl_checkpoint *ck = open_path(path);
    check_opened(ck, out);
    sl_close(ck);
}

static size_t times(const struct findings *f, const char *line)
{
    size_t n = 0;
    for (size_t i = 0; i < f->count; i++)
        n += !strcmp(f->line[i], line);
    return n;
}

/* What is new in `now` is these lines, and what is gone are those with '-' before. */
static void only_these(const struct findings *good, const struct findings *now, const char *const *lines, size_t count)
{
    size_t fresh = 0, gone = 0, want_gone = 0;
    for (size_t i = 0; i < now->count; i++)
        fresh += !times(good, now->line[i]);
    for (size_t i = 0; i < good->count; i++)
        gone += !times(now, good->line[i]);
    bool as_said = true;
    for (size_t i = 0; i < count; i++) {
        const bool minus = lines[i][0] == '-';
        want_gone += minus;
        as_said = as_said && (minus ? times(good, lines[i] + 1) == 1 && !times(now, lines[i] + 1)
                                    : times(now, lines[i]) == 1 && !times(good, lines[i]));
    }
    if (as_said && fresh == count - want_gone && gone == want_gone)
        return;
    for (size_t i = 0; i < good->count; i++)
        print_error("good: %s\n", good->line[i]);
    for (size_t i = 0; i < now->count; i++)
        print_error("now:  %s\n", now->line[i]);
    for (size_t i = 0; i < count; i++)
        print_error("want: %s\n", lines[i]);
    fail_msg("%zu findings are new and %zu are gone", fresh, gone);
}
#define ONLY(good, now, ...)                                                                      \
    only_these(&(good), &(now), (const char *const[]){ __VA_ARGS__ },                             \
               sizeof (const char *const[]){ __VA_ARGS__ } / sizeof(const char *))

/* ---- damage -------------------------------------------------------------------------- */

/* The bytes of one tensor, to be changed and put back. */
struct region {
    char path[512];
    uint64_t offset;
    size_t len, columns;                 /* columns: of the last axis */
    unsigned char *bytes;
};

static struct region take(const char *rank, const char *name)
{
    struct region g = { .len = 0 };
    struct sl_checkpoint *ck = open_path(folder);
    const struct sl_checkpoint_info *info = sl_info(ck);
    for (size_t i = 0; i < sl_tensor_count(ck); i++) {
        const struct sl_tensor *t = sl_tensor_at(ck, i);
        if (strcmp(t->name, name) || strcmp(info->ranks[t->rank].path, rank))
            continue;
        snprintf(g.path, sizeof g.path, "%s", info->files[t->file].path);
        g.offset = t->offset;
        g.len = (size_t)t->bytes;
        g.columns = (size_t)t->shape[t->ndim - 1];
    }
    sl_close(ck);
    if (!g.len)
        fail_msg("%s has no %s", rank, name);
    size_t size;
    char *file = slurp(g.path, &size);
    g.bytes = malloc(g.len);
    memcpy(g.bytes, file + g.offset, g.len);
    free(file);
    return g;
}
static void put(struct region *g)
{
    FILE *f = fopen(g->path, "r+b");
    assert_non_null(f);
    fseek(f, (long)g->offset, SEEK_SET);
    assert_int_equal(fwrite(g->bytes, 1, g->len, f), g->len);
    fclose(f);
    free(g->bytes);
    g->bytes = NULL;
}

static void scale_fp32(const char *rank, const char *name, float by)
{
    struct region g = take(rank, name);
    for (size_t i = 0; i < g.len; i += 4) {
        float x;
        memcpy(&x, g.bytes + i, 4);
        x *= by;
        memcpy(g.bytes + i, &x, 4);
    }
    put(&g);
}
static void fill_fp32(const char *rank, const char *name, float with)
{
    struct region g = take(rank, name);
    for (size_t i = 0; i < g.len; i += 4)
        memcpy(g.bytes + i, &with, 4);
    put(&g);
}

static const char *file_of(const char *rank)
{
    static char names[4][128];
    static unsigned turn;
    char *name = names[turn++ % 4];
    snprintf(name, sizeof names[0], "iter_0000010/%s/model_optim_rng.pt", rank);
    return in(name);
}

/* ---- values ---------------------------------------------------------------------------- */

TEST(a_good_checkpoint_has_notes_only)
{
    static const char *const good[] = { "llama_tp1_pp1", "llama_tp2_pp2", "llama_tp4_pp2", "llama_te_tp2_pp1", "llama_views_tp2_pp1",
                                        "minicpm_tp1_pp1", "minicpm_tp2_pp2", "minicpm_vpp2_tp1_pp2", "qkv_bias_tp2_pp1" };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct findings f;
        char path[128];
        snprintf(path, sizeof path, FIXTURES "%s", good[i]);
        check(path, &f);
        for (size_t k = 0; k < f.count; k++)
            if (strncmp(f.line[k], "note padding", 12) && strncmp(f.line[k], "note uneven-stages", 18)
                && strncmp(f.line[k], "note crc-missing", 16) && strncmp(f.line[k], "note leftover", 13))
                fail_msg("%s: %s", good[i], f.line[k]);
    }
}

TEST(a_layer_far_from_the_others_is_an_outlier)
{
    static const struct { float by; bool told; } cases[] = { { 64, true }, { 1.0f / 64, true }, { 4, false }, { 0.25f, false } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct findings good, now;
        copy_fixture("minicpm_tp1_pp1");
        check(folder, &good);
        scale_fp32("mp_rank_00", FC2, cases[i].by);
        check(folder, &now);
        if (cases[i].told)
            ONLY(good, now, "error crc @ mp_rank_00 " FC2, "warning outlier @ mp_rank_00 " FC2);
        else
            ONLY(good, now, "error crc @ mp_rank_00 " FC2);
    }
}

TEST(three_layers_have_no_usual_size)
{
    struct findings good, now;
    copy_fixture("llama_tp1_pp1");
    check(folder, &good);
    struct region g = take("mp_rank_00", FC2);
    for (size_t i = 1; i < g.len; i += 2)        /* bf16: exponents 8 larger, 256 times the value */
        g.bytes[i] = (unsigned char)(g.bytes[i] + 4);
    put(&g);
    check(folder, &now);
    ONLY(good, now, "error crc @ mp_rank_00 " FC2);
}

TEST(values_that_are_no_numbers_are_errors)
{
    struct findings good, now;
    copy_fixture("minicpm_tp1_pp1");
    check(folder, &good);
    struct region g = take("mp_rank_00", FC2);
    memcpy(g.bytes + 40, &(float){ NAN }, 4);
    put(&g);
    g = take("mp_rank_00", NORM);
    memcpy(g.bytes + 8, &(float){ -INFINITY }, 4);
    put(&g);
    check(folder, &now);
    ONLY(good, now, "error nan @ mp_rank_00 " FC2, "error crc @ mp_rank_00 " FC2, "error inf @ mp_rank_00 " NORM,
         "error crc @ mp_rank_00 " NORM);
}

TEST(a_matrix_of_zeros_was_never_written)
{
    struct findings good, now;
    copy_fixture("minicpm_tp1_pp1");
    check(folder, &good);
    fill_fp32("mp_rank_00", FC2, 0);
    check(folder, &now);
    ONLY(good, now, "warning all-zero @ mp_rank_00 " FC2, "error crc @ mp_rank_00 " FC2);
}

TEST(a_matrix_of_one_value_is_a_warning)
{
    struct findings good, now;
    copy_fixture("minicpm_tp1_pp1");
    check(folder, &good);
    fill_fp32("mp_rank_00", FC2, 0.0625f);
    check(folder, &now);
    ONLY(good, now, "warning constant @ mp_rank_00 " FC2, "error crc @ mp_rank_00 " FC2);
}

TEST(a_norm_of_ones_is_a_note_and_of_zeros_a_warning)
{
    for (int zero = 0; zero < 2; zero++) {
        struct findings good, now;
        copy_fixture("minicpm_tp1_pp1");
        check(folder, &good);
        fill_fp32("mp_rank_00", NORM, zero ? 0.0f : 1.0f);
        check(folder, &now);
        ONLY(good, now, zero ? "warning all-zero @ mp_rank_00 " NORM : "note constant @ mp_rank_00 " NORM,
             "error crc @ mp_rank_00 " NORM);
    }
}

TEST(a_bias_of_zeros_is_a_note)
{
    struct findings good, now;
    copy_fixture("qkv_bias_tp2_pp1");
    check(folder, &good);
    struct region g = take("mp_rank_01", "decoder.layers.1.self_attention.linear_qkv.bias");
    memset(g.bytes, 0, g.len);
    put(&g);
    check(folder, &now);
    ONLY(good, now, "note all-zero @ mp_rank_01 decoder.layers.1.self_attention.linear_qkv.bias",
         "error crc @ mp_rank_01 decoder.layers.1.self_attention.linear_qkv.bias");
}

TEST(fp32_whose_lower_halves_are_zero_was_bf16_once)
{
    struct findings good, now;
    copy_fixture("minicpm_tp1_pp1");
    check(folder, &good);
    struct region g = take("mp_rank_00", FC2);
    for (size_t i = 0; i < g.len; i += 4)
        g.bytes[i] = g.bytes[i + 1] = 0;
    put(&g);
    check(folder, &now);
    ONLY(good, now, "note bf16-in-fp32 @ mp_rank_00 " FC2, "error crc @ mp_rank_00 " FC2);
}

/* ---- shards ------------------------------------------------------------------------------ */

TEST(a_rank_file_copied_over_another_is_named)
{
    struct findings good, now;
    copy_fixture("llama_tp2_pp2");
    check(folder, &good);
    copy_file(file_of("mp_rank_00_000"), file_of("mp_rank_01_000"));
    check(folder, &now);
    ONLY(good, now, "error misnumbered-rank @ mp_rank_01_000", "-note uneven-stages @ ");      /* its args tell */
}

TEST(a_rank_file_copied_over_another_is_named_by_its_bytes_too)
{
    struct findings good, now;
    copy_fixture("llama_tp2_pp1");
    for (int i = 0; i < 2; i++)                 /* args of which the number of the process can't be made out */
        patch_pickle(file_of(i ? "mp_rank_01" : "mp_rank_00"), "world_sizer", "world_sixer", 11, 1);
    check(folder, &good);
    copy_file(file_of("mp_rank_00"), file_of("mp_rank_01"));
    check(folder, &now);
    ONLY(good, now, "error shards-identical @ mp_rank_01");
}

TEST(one_shard_that_is_another_ranks_is_named)
{
    struct findings good, now;
    copy_fixture("llama_tp2_pp1");
    check(folder, &good);
    struct region from = take("mp_rank_00", FC2), to = take("mp_rank_01", FC2);
    assert_int_equal(from.len, to.len);
    memcpy(to.bytes, from.bytes, from.len);
    free(from.bytes);
    put(&to);
    check(folder, &now);
    ONLY(good, now, "warning shards-identical @ mp_rank_01 " FC2, "error crc @ mp_rank_01 " FC2);
}

/* ---- experts: 0 and 1 on the first rank, 2 and 3 on the second, each numbered from 0 in its file.
 * The files are of the container that has no checksums. ---- */

#define EXPERT "decoder.layers.1.mlp.experts.local_experts.1.linear_fc1.weight"

TEST(an_expert_that_is_another_ranks_is_named)
{
    struct findings good, now;
    copy_fixture("qwen3moe_tp2_pp1_ep2_etp1");
    check(folder, &good);
    struct region from = take("mp_rank_00_000", EXPERT), to = take("mp_rank_01_001", EXPERT);
    memcpy(to.bytes, from.bytes, from.len);
    free(from.bytes);
    put(&to);
    check(folder, &now);
    ONLY(good, now, "warning shards-identical @ mp_rank_01_001 " EXPERT);
}

TEST(experts_that_no_file_holds_are_counted)
{
    static const char *const ranks[] = { "mp_rank_00_000", "mp_rank_01_001" };
    static const char name[] = "local_experts.1.linear_fc2.weight";
    struct findings good, now;
    copy_fixture("qwen3moe_tp2_pp1_ep2_etp1");
    check(folder, &good);
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        snprintf(path, sizeof path, "iter_0000007/%s/model_optim_rng.pt", ranks[i]);
        size_t len;
        char *bytes = slurp(in(path), &len), *at = memmem(bytes, len, name, sizeof name - 1);
        assert_non_null(at);
        memcpy(at, "local_experts.1.linear_fcX.weight", sizeof name - 1);
        write_text(in(path), bytes, len);
        free(bytes);
    }
    check(folder, &now);
    ONLY(good, now, "error expert-count @ layers.1.experts.1.down",
         "warning unknown-tensor @ decoder.layers.1.mlp.experts.local_experts.1.linear_fcX.weight");
}

#define EXPERTS "decoder.layers.1.mlp.experts.local_experts."

/* Everything that rank has of experts 0 and 1, which are 2 and 3 of the model, is overwritten by the first rank's. */
TEST(experts_of_one_rank_that_are_another_ranks_are_there_twice)
{
    static const char *const names[] = { EXPERTS "0.linear_fc1.weight", EXPERTS "0.linear_fc2.weight", EXPERTS "1.linear_fc1.weight",
                                         EXPERTS "1.linear_fc2.weight" };
    struct findings good, now;
    copy_fixture("qwen3moe_tp2_pp1_ep2_etp1");
    check(folder, &good);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct region from = take("mp_rank_00_000", names[i]), to = take("mp_rank_01_001", names[i]);
        memcpy(to.bytes, from.bytes, from.len);
        free(from.bytes);
        put(&to);
    }
    check(folder, &now);
    ONLY(good, now, "error expert-count @ mp_rank_01_001 " EXPERTS "0.linear_fc1.weight");
}

/* As they begin when a dense model is made one of experts: all equal, on one rank as well. */
TEST(experts_that_all_began_as_one_are_no_copies)
{
    static const char *const names[] = { "linear_fc1.weight", "linear_fc2.weight" }, *const ranks[] = { "mp_rank_00_000", "mp_rank_01_001" };
    struct findings good, now;
    copy_fixture("qwen3moe_tp2_pp1_ep2_etp1");
    check(folder, &good);
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < 4; k++) {
            char first[128], name[128];
            snprintf(first, sizeof first, EXPERTS "0.%s", names[i]);
            snprintf(name, sizeof name, EXPERTS "%zu.%s", k % 2, names[i]);
            struct region from = take("mp_rank_00_000", first), to = take(ranks[k / 2], name);
            memcpy(to.bytes, from.bytes, from.len);
            free(from.bytes);
            put(&to);
        }
    check(folder, &now);
    only_these(&good, &now, NULL, 0);
}

TEST(an_expert_beyond_those_of_its_rank_is_counted)
{
    static const char *const ranks[] = { "mp_rank_00_000", "mp_rank_01_001" };
    struct findings good, now;
    copy_fixture("qwen3moe_tp2_pp1_ep2_etp1");
    check(folder, &good);
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        size_t len;
        snprintf(path, sizeof path, "iter_0000007/%s/model_optim_rng.pt", ranks[i]);
        char *bytes = slurp(in(path), &len);
        for (char *at = bytes; (at = memmem(at, (size_t)(bytes + len - at), "local_experts.1.", 16)); )
            at[14] = '7';
        write_text(in(path), bytes, len);
        free(bytes);
    }
    check(folder, &now);
    ONLY(good, now, "error expert-count @ mp_rank_00_000 " EXPERTS "7.linear_fc1.weight", "-note padding-not-constant @ mp_rank_01_001 " EMBEDDING);
}

/* Experts of two ranks have one shape, and no value of theirs says where they belong: only who wrote the file does. */
TEST(expert_ranks_that_are_exchanged_are_named_by_who_wrote_their_files)
{
    const struct sl_demo_options o = { .family = "mixtral", .tp = 1, .pp = 1, .ep = 2, .bytes = 1000000 };
    struct findings good, now;
    const char *first = in("demo/iter_0001000/mp_rank_00_000"), *second = in("demo/iter_0001000/mp_rank_00_001");
    assert_int_equal(sl_demo_write(in("demo"), &o, NULL, &err), 0);
    check(in("demo"), &good);
    assert_int_equal(rename(first, in("x")), 0);
    assert_int_equal(rename(second, first), 0);
    assert_int_equal(rename(in("x"), second), 0);
    check(in("demo"), &now);
    ONLY(good, now, "error misnumbered-rank @ mp_rank_00_000", "error misnumbered-rank @ mp_rank_00_001");
}

TEST(ranks_whose_files_do_not_say_who_wrote_them_are_counted)
{
    static const struct { const char *path; uint64_t placed, all; } cases[] = {
        { FIXTURES "llama_tp4_pp2", 8, 8 }, { FIXTURES "qwen3moe_tp2_pp1_ep2_etp1", 0, 2 }, { FIXTURES "llama_noargs_tp2_pp1", 0, 2 },
        { FIXTURES "families/olmoe", 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_checkpoint *ck = open_path(cases[i].path);
        struct sl_job *job = NULL;
        assert_int_equal(sl_check_start(ck, false, NULL, &job, &err), 0);
        assert_int_equal(sl_job_wait(job, &err), 0);
        assert_int_equal(sl_check_result(job)->ranks_placed, cases[i].placed);
        assert_int_equal(sl_check_result(job)->ranks_total, cases[i].all);
        sl_job_free(job);
        sl_close(ck);
    }
}

/* The norm is on both ranks, and equal: that is no copy of what should differ. */
TEST(a_replica_that_differs_is_one_finding)
{
    struct findings good, now;
    copy_fixture("llama_tp2_pp1");
    check(folder, &good);
    struct region g = take("mp_rank_01", NORM);
    g.bytes[0] ^= 1;
    put(&g);
    check(folder, &now);
    ONLY(good, now, "warning replica-differs @ mp_rank_01 " NORM, "error crc @ mp_rank_01 " NORM);
}

/* ---- padding: 83 tokens, rows 83 to 95 are 35 to 47 of the second rank ---------------------- */

static void pad(const char *name, bool last)
{
    struct region g = take("mp_rank_01", name);
    const size_t row = 2 * g.columns;
    for (size_t i = 35; i < 48; i++)
        if (last)
            memcpy(g.bytes + i * row, g.bytes + 34 * row, row);
        else
            memset(g.bytes + i * row, 0, row);
    put(&g);
}

TEST(padding_rows_of_one_kind_are_no_finding)
{
    for (int last = 0; last < 2; last++) {
        struct findings good, now;
        copy_fixture("llama_tp2_pp1");
        check(folder, &good);
        pad(EMBEDDING, last);
        pad(HEAD, last);
        check(folder, &now);
        ONLY(good, now, "-note padding-not-constant @ mp_rank_01 " EMBEDDING, "error crc @ mp_rank_01 " EMBEDDING,
             "error crc @ mp_rank_01 " HEAD);
    }
}

TEST(padding_that_differs_in_the_head_alone_is_told_there)
{
    struct findings good, now;
    copy_fixture("llama_tp2_pp1");
    check(folder, &good);
    pad(EMBEDDING, false);
    check(folder, &now);
    ONLY(good, now, "-note padding-not-constant @ mp_rank_01 " EMBEDDING, "error crc @ mp_rank_01 " EMBEDDING,
         "note padding-not-constant @ mp_rank_01 " HEAD);
}

/* ---- stages ---------------------------------------------------------------------------------- */

TEST(uneven_stages_are_a_note_when_args_ask_for_them)
{
    struct findings f;
    check(FIXTURES "llama_tp2_pp2", &f);
    assert_int_equal(times(&f, "note uneven-stages @ "), 1);
    check(FIXTURES "minicpm_tp2_pp2", &f);       /* 2 and 2 */
    assert_int_equal(times(&f, "note uneven-stages @ "), 0);
}

TEST(uneven_stages_that_args_do_not_explain_are_a_warning)
{
    static const char key[] = "decoder_first_pipeline_num_layers";
    static const char *const ranks[] = { "mp_rank_00_000", "mp_rank_00_001", "mp_rank_01_000", "mp_rank_01_001" };
    struct findings good, now;
    copy_fixture("llama_tp2_pp2");
    check(folder, &good);
    for (size_t i = 0; i < 4; i++)
        patch_pickle(file_of(ranks[i]), key, "decoder_first_pipeline_num_legs__", sizeof key - 1, 1);
    check(folder, &now);
    ONLY(good, now, "-note uneven-stages @ ", "warning uneven-stages @ ");
}

/* ---- files around ---------------------------------------------------------------------------- */

TEST(a_file_that_changes_while_it_is_open_is_named)
{
    struct findings good, now;
    copy_fixture("llama_tp2_pp1");
    check(folder, &good);
    struct sl_checkpoint *ck = open_path(folder);
    FILE *f = fopen(file_of("mp_rank_01"), "ab");
    fputc(0, f);
    fclose(f);
    check_opened(ck, &now);
    sl_close(ck);
    ONLY(good, now, "error source-changed @ mp_rank_01/model_optim_rng.pt");
}

TEST(what_an_interrupted_conversion_left_is_told)
{
    static const struct { const char *made; bool folder, told; } cases[] = {
        { "ckpt-hf.partial-1a2b3c4d", true, true },      /* its own targets beside it */
        { "ckpt.partial.journal", false, true },
        { ".ckpt-one.pt.partial-1a2b3c4d", false, true },
        { "ckpt.old-1a2b3c4d", true, true },
        { "ckpt/x.partial-00000000", true, true },       /* any within it */
        { "ckpt/iter_0000010/y.partial.journal", false, true },
        { "other.partial-1a2b3c4d", true, false },       /* another's */
        { "ckpt2.partial-1a2b3c4d", true, false },
        { "ckpt.part-2-of-4", true, true },
        { "ckpt.part-2-of-4.partial.journal", false, true },
        { "ckpt.part-two", true, false },
        { "ckpt.partial-1a2b3c4", true, false },         /* no name of ours */
        { "ckpt.partial-1a2b3c4d.txt", false, false },
    };
    struct findings good, now;
    copy_tree(FIXTURES "llama_tp1_pp1", in("ckpt"));
    check(in("ckpt"), &good);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[800];
        const char *path = in(cases[i].made);
        if (cases[i].folder)
            assert_int_equal(sl_folder_make(path, NULL), 0);
        else
            write_text(path, "", 0);
        check(in("ckpt"), &now);
        snprintf(line, sizeof line, "note leftover @ %s", path);
        if (cases[i].told)
            ONLY(good, now, line);
        else
            only_these(&good, &now, NULL, 0);
        assert_int_equal(sl_folder_remove(path, NULL), 0);
    }
}

TEST(files_that_a_save_a_copy_or_a_download_did_not_finish_are_told)
{
    static const struct { const char *name; bool told; } cases[] = {
        { "iter_0000010/mp_rank_00/model_optim_rng.pt.tmp", true },
        { "iter_0000010/mp_rank_01/.model_optim_rng.pt.Ab3dE6", true },      /* rsync's */
        { "iter_0000010/x.safetensors.incomplete", true },
        { "iter_0000010/mp_rank_00/notes.txt", false },
        { "iter_0000010/mp_rank_00/.hidden.Ab3dE6", false },
    };
    struct findings good, now;
    copy_fixture("llama_tp2_pp1");
    check(folder, &good);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[800];
        write_text(in(cases[i].name), "x", 1);
        check(folder, &now);
        snprintf(line, sizeof line, "note leftover @ %s", cases[i].name + strlen("iter_0000010/"));
        if (cases[i].told)
            ONLY(good, now, line);
        else
            only_these(&good, &now, NULL, 0);
        unlink(in(cases[i].name));
    }
}

TEST(an_unfinished_target_that_is_opened_is_called_so)
{
    struct findings good, now;
    copy_tree(FIXTURES "llama_tp1_pp1", in("a"));
    check(in("a"), &good);
    copy_tree(FIXTURES "llama_tp1_pp1", in("b.partial-1a2b3c4d"));
    check(in("b.partial-1a2b3c4d"), &now);
    ONLY(good, now, "warning leftover @ b.partial-1a2b3c4d");
    copy_tree(FIXTURES "llama_tp1_pp1", in("c.part-1-of-2"));
    check(in("c.part-1-of-2"), &now);
    ONLY(good, now, "warning leftover @ c.part-1-of-2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(a_good_checkpoint_has_notes_only),
        IN_FOLDER(a_layer_far_from_the_others_is_an_outlier),
        IN_FOLDER(three_layers_have_no_usual_size),
        IN_FOLDER(values_that_are_no_numbers_are_errors),
        IN_FOLDER(a_matrix_of_zeros_was_never_written),
        IN_FOLDER(a_matrix_of_one_value_is_a_warning),
        IN_FOLDER(a_norm_of_ones_is_a_note_and_of_zeros_a_warning),
        IN_FOLDER(a_bias_of_zeros_is_a_note),
        IN_FOLDER(fp32_whose_lower_halves_are_zero_was_bf16_once),
        IN_FOLDER(a_rank_file_copied_over_another_is_named),
        IN_FOLDER(a_rank_file_copied_over_another_is_named_by_its_bytes_too),
        IN_FOLDER(one_shard_that_is_another_ranks_is_named),
        IN_FOLDER(an_expert_that_is_another_ranks_is_named),
        IN_FOLDER(experts_that_no_file_holds_are_counted),
        IN_FOLDER(experts_of_one_rank_that_are_another_ranks_are_there_twice),
        IN_FOLDER(experts_that_all_began_as_one_are_no_copies),
        IN_FOLDER(an_expert_beyond_those_of_its_rank_is_counted),
        IN_FOLDER(expert_ranks_that_are_exchanged_are_named_by_who_wrote_their_files),
        IN_FOLDER(ranks_whose_files_do_not_say_who_wrote_them_are_counted),
        IN_FOLDER(a_replica_that_differs_is_one_finding),
        IN_FOLDER(padding_rows_of_one_kind_are_no_finding),
        IN_FOLDER(padding_that_differs_in_the_head_alone_is_told_there),
        ROW(uneven_stages_are_a_note_when_args_ask_for_them),
        IN_FOLDER(uneven_stages_that_args_do_not_explain_are_a_warning),
        IN_FOLDER(a_file_that_changes_while_it_is_open_is_named),
        IN_FOLDER(what_an_interrupted_conversion_left_is_told),
        IN_FOLDER(files_that_a_save_a_copy_or_a_download_did_not_finish_are_told),
        IN_FOLDER(an_unfinished_target_that_is_opened_is_called_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
