/* Every direction, judged by Megatron-core: the fixtures hold what its own GPTModel stores on
 * each rank. What we write for a rank must be that, bit for bit, but for the padding rows of the
 * vocabulary, which are noise in the fixtures and zeros here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shardlens/shardlens.h>
#include "base/arena.h"
#include "base/io.h"

static char root[64];
static struct sl_arena arena;

struct cut { const char *fixture, *family; int32_t tp, pp, vpp; const char *pp_layout; int32_t divisor; };
/* As tests/fixtures/README.md tells they were made. */
static const struct cut cuts[] = {
    { "llama_tp1_pp1", "llama", 1, 1, 1, NULL, 8 },
    { "llama_tp2_pp1", "llama", 2, 1, 1, NULL, 8 },
    { "llama_tp4_pp1", "llama", 4, 1, 1, NULL, 8 },
    { "llama_tp1_pp2", "llama", 1, 2, 1, "2,1", 8 },
    { "llama_tp2_pp2", "llama", 2, 2, 1, "2,1", 8 },
    { "llama_tp4_pp2", "llama", 4, 2, 1, "2,1", 8 },
    { "minicpm_tp1_pp1", "minicpm", 1, 1, 1, NULL, 1 },
    { "minicpm_tp2_pp1", "minicpm", 2, 1, 1, NULL, 1 },
    { "minicpm_tp1_pp2", "minicpm", 1, 2, 1, NULL, 1 },
    { "minicpm_tp2_pp2", "minicpm", 2, 2, 1, NULL, 1 },
    { "minicpm_vpp2_tp1_pp2", "minicpm", 1, 2, 2, NULL, 1 },
};
enum { CUTS = sizeof cuts / sizeof *cuts };

static void *bytes_of(const char *path, size_t *len)
{
    char *text = NULL;
    struct sl_error err = { 0 };
    if (sl_file_slurp(path, 1 << 24, &arena, &text, len, &err))
        fail_msg("%s: %s", err.where, err.message);
    return text;
}

static void copy_file(const char *from, const char *to)
{
    size_t len;
    void *bytes = bytes_of(from, &len);
    struct sl_error err = { 0 };
    if (sl_write_new(to, bytes, len, &err))
        fail_msg("%s: %s", err.where, err.message);
}

/* A Hugging Face folder with the weights that the fixtures were made of. */
static const char *hf_folder(const char *family)
{
    static char path[PATH_MAX];
    char from[PATH_MAX], to[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s-hf", root, family);
    if (access(path, F_OK) == 0)
        return path;
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(from, sizeof from, "tests/fixtures/%s.expected.safetensors", family);
    snprintf(to, sizeof to, "%s/model.safetensors", path);
    copy_file(from, to);
    snprintf(from, sizeof from, "tests/fixtures/%s.hf/config.json", family);
    snprintf(to, sizeof to, "%s/config.json", path);
    copy_file(from, to);
    return path;
}

static struct sl_checkpoint *opened(const char *path)
{
    struct sl_checkpoint *ck = NULL;
    struct sl_error err = { 0 };
    if (sl_open(path, NULL, &ck, &err))
        fail_msg("%s: %s", err.where, err.message);
    return ck;
}

static void converted(const char *source, const char *target, const struct sl_plan_options *o)
{
    struct sl_error err = { 0 };
    struct sl_checkpoint *ck = opened(source);
    struct sl_plan *plan = NULL;
    struct sl_job *job = NULL;
    const struct sl_run_options run = { .threads = 2, .force = true };
    int code = sl_plan_make(ck, target, o, &plan, &err);
    if (!code)
        code = sl_convert_start(plan, &run, &job, &err);
    if (!code)
        code = sl_job_wait(job, &err);
    if (code)
        fail_msg("%s -> %s: %s: %s", source, target, err.where, err.message);
    sl_job_free(job);
    sl_plan_free(plan);
    sl_close(ck);
}

static const struct sl_tensor *same_place(const struct sl_checkpoint *ck, const struct sl_rank *rank, const struct sl_tensor *t,
                                          size_t *index)
{
    for (size_t i = 0; i < sl_tensor_count(ck); i++) {
        const struct sl_tensor *x = sl_tensor_at(ck, i);
        const struct sl_rank *r = x->rank >= 0 ? &sl_info(ck)->ranks[x->rank] : NULL;
        *index = i;
        if (r && r->tp == rank->tp && r->pp == rank->pp && x->chunk == t->chunk && !strcmp(x->path, t->path))
            return x;
    }
    return NULL;
}

static int64_t setting(const struct sl_checkpoint *ck, const char *key)
{
    const struct sl_setting *s = sl_config_get(ck, key);
    assert_non_null(s);
    return s->value->i;
}

/* Rows of a vocabulary shard that hold words; all rows of other tensors. */
static uint64_t compared_elements(const struct sl_checkpoint *ck, const struct sl_tensor *t, int32_t tp)
{
    if (!strstr(t->name, "word_embeddings") && strcmp(t->name, "output_layer.weight"))
        return t->count;
    const int64_t rows = t->shape[0], vocab = setting(ck, "vocab_size"), first = tp * rows;
    const int64_t words = vocab - first < 0 ? 0 : vocab - first < rows ? vocab - first : rows;
    return (uint64_t)(words * t->shape[1]);
}

/* Is every weight that Megatron stored on every rank in ours, and nothing else? */
static void equal_per_rank(const struct cut *c, const char *made)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "tests/fixtures/%s", c->fixture);
    struct sl_checkpoint *theirs = opened(path), *ours = opened(made);
    size_t weights = 0;
    for (size_t i = 0; i < sl_tensor_count(theirs); i++) {
        const struct sl_tensor *t = sl_tensor_at(theirs, i);
        if (t->flags & (SL_TENSOR_OPTIMIZER | SL_TENSOR_EXTRA))
            continue;
        const struct sl_rank *rank = &sl_info(theirs)->ranks[t->rank];
        size_t at = 0;
        const struct sl_tensor *x = same_place(ours, rank, t, &at);
        if (!x)
            fail_msg("%s: %s of tp%d pp%d is missing", made, t->path, rank->tp, rank->pp);
        assert_int_equal(x->dtype, t->dtype);
        assert_int_equal(x->ndim, t->ndim);
        assert_memory_equal(x->shape, t->shape, t->ndim * sizeof *t->shape);
        void *a = malloc(t->bytes + 1), *b = malloc(t->bytes + 1);
        assert_int_equal(sl_tensor_read(theirs, i, 0, t->count, a, NULL), 0);
        assert_int_equal(sl_tensor_read(ours, at, 0, x->count, b, NULL), 0);
        const size_t len = (size_t)(compared_elements(theirs, t, rank->tp) * (t->bytes / (t->count ? t->count : 1)));
        if (memcmp(a, b, len))
            fail_msg("%s: %s of tp%d pp%d differs from what Megatron stores there", made, t->path, rank->tp, rank->pp);
        free(a);
        free(b);
        weights++;
    }
    size_t ours_count = 0;
    for (size_t i = 0; i < sl_tensor_count(ours); i++)
        ours_count += !(sl_tensor_at(ours, i)->flags & (SL_TENSOR_OPTIMIZER | SL_TENSOR_EXTRA));
    assert_int_equal(ours_count, weights);
    sl_close(ours);
    sl_close(theirs);
}

static struct sl_plan_options megatron(const struct cut *c)
{
    return (struct sl_plan_options){ .format = SL_TO_MEGATRON, .tp = c->tp, .pp = c->pp, .vpp = c->vpp, .pp_layout = c->pp_layout,
                                     .names = "local", .vocab_divisor = c->divisor, .iteration = 7 };
}

static void hugging_face_becomes_what_megatron_stores_on_each_rank(void **state)
{
    (void)state;
    for (size_t i = 0; i < CUTS; i++) {
        char made[PATH_MAX];
        const struct sl_plan_options o = megatron(&cuts[i]);
        snprintf(made, sizeof made, "%s/from-hf-%s", root, cuts[i].fixture);
        converted(hf_folder(cuts[i].family), made, &o);
        equal_per_rank(&cuts[i], made);
    }
}

static void any_cut_becomes_any_other_as_megatron_stores_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < CUTS; i++)
        for (size_t k = 0; k < CUTS; k++) {
            if (strcmp(cuts[i].family, cuts[k].family))
                continue;
            char source[PATH_MAX], made[PATH_MAX];
            const struct sl_plan_options o = megatron(&cuts[k]);
            snprintf(source, sizeof source, "tests/fixtures/%s", cuts[i].fixture);
            snprintf(made, sizeof made, "%s/cut", root);
            converted(source, made, &o);
            equal_per_rank(&cuts[k], made);
        }
}

/* pt, hf-bin and safetensors in small shards hold the same weights. */
static void all_hugging_face_forms_hold_the_same_weights(void **state)
{
    (void)state;
    const struct { enum sl_format format; uint64_t shard; const char *name; } forms[] = {
        { SL_TO_HF, 20000, "small-shards" }, { SL_TO_HF_BIN, 0, "bin" }, { SL_TO_HF_BIN, 20000, "bin-shards" }, { SL_TO_PT, 0, "one.pt" },
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char made[PATH_MAX];
        struct sl_error err = { 0 };
        struct sl_job *job = NULL;
        const struct sl_plan_options o = { .format = forms[i].format, .max_shard_size = forms[i].shard };
        snprintf(made, sizeof made, "%s/%s", root, forms[i].name);
        converted("tests/fixtures/llama_tp2_pp2", made, &o);
        const char *const set[] = { "kv_channels=14", "num_attention_heads=4" };
        const struct sl_open_options opening = { .set = set, .set_count = 2, .model = "llama" };
        struct sl_checkpoint *a = opened("tests/fixtures/llama_tp4_pp1"), *b = NULL;
        if (sl_open(made, &opening, &b, &err) || sl_verify_start(a, b, NULL, &job, &err) || sl_job_wait(job, &err))
            fail_msg("%s: %s: %s", made, err.where, err.message);
        const struct sl_summary *s = sl_job_summary(job);
        assert_int_equal(s->equal, 30);
        assert_int_equal(s->different + s->only_a + s->only_b, 0);
        sl_job_free(job);
        sl_close(b);
        sl_close(a);
    }
}

static void sizes_that_do_not_divide_say_what_would_work(void **state)
{
    (void)state;
    const struct { struct sl_plan_options o; const char *words; } cases[] = {
        { { .format = SL_TO_MEGATRON, .tp = 3 }, "3" },
        { { .format = SL_TO_MEGATRON, .pp = 2 }, "layers" },
        { { .format = SL_TO_MEGATRON, .pp = 2, .pp_layout = "1,1" }, "adds up to 2 layers; the model has 3" },
        { { .format = SL_TO_MEGATRON, .pp = 2, .pp_layout = "1,1,1" }, "3 numbers found" },
        { { .format = SL_TO_MEGATRON, .vpp = 2 }, "more than one pipeline stage" },
        { { .format = SL_TO_MEGATRON, .ep = 2 }, "no experts" },
    };
    struct sl_checkpoint *ck = opened("tests/fixtures/llama_tp2_pp1");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_plan *plan = NULL;
        struct sl_error err = { 0 };
        assert_int_equal(sl_plan_make(ck, NULL, &cases[i].o, &plan, &err), SL_USAGE);
        if (!strstr(err.message, cases[i].words))
            fail_msg("case %zu: %s", i, err.message);
    }
    sl_close(ck);
}

static int remove_all(void **state)
{
    (void)state;
    sl_arena_free(&arena);
    return sl_folder_remove(root, NULL);
}

int main(void)
{
    snprintf(root, sizeof root, "%s/shardlens-api-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(root))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hugging_face_becomes_what_megatron_stores_on_each_rank),
        cmocka_unit_test(any_cut_becomes_any_other_as_megatron_stores_it),
        cmocka_unit_test(all_hugging_face_forms_hold_the_same_weights),
        cmocka_unit_test(sizes_that_do_not_divide_say_what_would_work),
    };
    return cmocka_run_group_tests(tests, NULL, remove_all);
}
