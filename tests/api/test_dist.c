/* torch_dist as a target, from what Megatron-core stored at every cut and from Hugging Face: the same weights, the same
 * bytes whoever works on it, files of one size. (tests/interop has Megatron and torch load it.) */
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
#include "base/json.h"
#include "base/value.h"

static char root[64];
static struct sl_arena arena;

static void *bytes_of(const char *path, size_t *len)
{
    char *text = NULL;
    struct sl_error err = { 0 };
    if (sl_file_slurp(path, 1 << 24, &arena, &text, len, &err))
        fail_msg("%s: %s", err.where, err.message);
    return text;
}

static const char *path_of(const char *format, const char *name)
{
    return sl_arena_printf(&arena, format, root, name);
}

/* What Hugging Face must get, as a folder. */
static const char *expected_folder(const char *family)
{
    const char *folder = path_of("%s/%s-hf", family);
    size_t len;
    if (access(folder, F_OK) == 0)
        return folder;
    assert_int_equal(mkdir(folder, 0700), 0);
    const void *weights = bytes_of(sl_arena_printf(&arena, "tests/fixtures/%s.expected.safetensors", family), &len);
    assert_int_equal(sl_write_new(sl_arena_printf(&arena, "%s/model.safetensors", folder), weights, len, NULL), 0);
    const void *config = bytes_of(sl_arena_printf(&arena, "tests/fixtures/%s.hf/config.json", family), &len);
    assert_int_equal(sl_write_new(sl_arena_printf(&arena, "%s/config.json", folder), config, len, NULL), 0);
    return folder;
}

static struct sl_checkpoint *opened(const char *path)
{
    struct sl_checkpoint *ck = NULL;
    struct sl_error err = { 0 };
    if (sl_open(path, NULL, &ck, &err))
        fail_msg("%s: %s", err.where, err.message);
    return ck;
}

static struct sl_plan_options to_dist(int32_t files)
{
    return (struct sl_plan_options){ .format = SL_TO_TORCH_DIST, .dist_files = files, .iteration = -1 };
}

static void convert(const char *source, const char *target, const struct sl_plan_options *o, uint32_t threads)
{
    struct sl_error err = { 0 };
    struct sl_checkpoint *ck = opened(source);
    struct sl_plan *plan = NULL;
    struct sl_job *job = NULL;
    const struct sl_run_options run = { .threads = threads, .force = true };
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

/* Do both hold the same weights, bit for bit? */
static void assert_same_weights(const char *a, const char *b)
{
    struct sl_error err = { 0 };
    struct sl_checkpoint *x = opened(a), *y = opened(b);
    struct sl_job *job = NULL;
    const struct sl_run_options run = { .threads = 2 };
    int code = sl_verify_start(x, y, &run, &job, &err);
    if (!code)
        code = sl_job_wait(job, &err);
    if (code)
        fail_msg("%s and %s: %d %s", a, b, code, err.message);
    const struct sl_summary *s = sl_job_summary(job);
    assert_true(s->equal > 0);
    assert_int_equal(s->different + s->only_a + s->only_b, 0);
    sl_job_free(job);
    sl_close(x);
    sl_close(y);
}

/* ---- tests ----------------------------------------------------------------------------- */

static const struct { const char *fixture, *family; } sources[] = {
    { "llama_tp1_pp1", "llama" }, { "llama_tp4_pp2", "llama" }, { "llama_te_tp2_pp1", "llama" }, { "llama_views_tp2_pp1", "llama" },
    { "minicpm_tp2_pp2", "minicpm" }, { "minicpm_vpp2_tp1_pp2", "minicpm" }, { "qkv_bias_tp2_pp1", "qkv_bias" },
};

static void every_cut_becomes_the_same_weights(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        const char *target = path_of("%s/%s-dist", sources[i].fixture);
        const struct sl_plan_options o = to_dist(2);
        convert(sl_arena_printf(&arena, "tests/fixtures/%s", sources[i].fixture), target, &o, 2);
        assert_same_weights(expected_folder(sources[i].family), target);
    }
}

static void hugging_face_becomes_torch_dist_and_other_chunks(void **state)
{
    (void)state;
    struct sl_plan_options o = to_dist(3);
    const char *first = path_of("%s/%s", "hf-dist"), *again = path_of("%s/%s", "hf-dist-dist"), *back = path_of("%s/%s", "hf-dist-hf");
    convert(expected_folder("minicpm"), first, &o, 2);
    assert_same_weights(expected_folder("minicpm"), first);
    o.dist_files = 7;
    convert(first, again, &o, 2);
    assert_same_weights(first, again);
    const struct sl_plan_options hf = { .format = SL_TO_HF, .iteration = -1 };
    convert(again, back, &hf, 2);
    size_t len, wanted;
    const void *have = bytes_of(sl_arena_printf(&arena, "%s/model.safetensors", back), &len);
    const void *want = bytes_of("tests/fixtures/minicpm.expected.safetensors", &wanted);
    assert_int_equal(len, wanted);
    assert_memory_equal(have, want, len);
}

/* Is every array of a there in b under its key, stacked or numbered as it was, and of the same shape? (Padding of the vocabulary follows --tp.) */
static void assert_holds_arrays(const struct sl_checkpoint *a, const struct sl_checkpoint *b)
{
    for (size_t i = 0; i < sl_tensor_count(a); i++) {
        const struct sl_tensor *t = sl_tensor_at(a, i);
        size_t k = 0;
        if (t->flags & (SL_TENSOR_OPTIMIZER | SL_TENSOR_EXTRA))
            continue;
        while (k < sl_tensor_count(b) && (strcmp(sl_tensor_at(b, k)->path, t->path) || strcmp(sl_tensor_at(b, k)->name, t->name)))
            k++;
        if (k == sl_tensor_count(b))
            fail_msg("%s: no %s under %s", sl_info(b)->path, t->name, t->path);
        assert_int_equal(sl_tensor_at(b, k)->ndim, t->ndim);
        const uint32_t from = strstr(t->name, "word_embeddings") || strstr(t->name, "output_layer") ? 1 : 0;
        for (uint32_t axis = from; axis < t->ndim; axis++)
            assert_int_equal(sl_tensor_at(b, k)->global_shape[axis], t->global_shape[axis]);
    }
}

/* What Megatron-core saved, stacked or with numbered layers, is written again under the names it has there. */
static void megatrons_own_is_written_again_under_its_names(void **state)
{
    (void)state;
    static const struct { const char *fixture; bool other_names; } made[] = {
        { "llama_tp2_pp2", false }, { "minicpm_tp1_pp2", false }, { "mixtral_ep2", false }, { "qwen3moe_ep2", false },
        { "qkv_bias_singleton_tp2", true },    /* gate and up in two arrays there */
    };
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        const char *source = sl_arena_printf(&arena, "tests/fixtures/dist/%s", made[i].fixture), *target = path_of("%s/%s-again", made[i].fixture);
        struct sl_plan_options o = to_dist(2);
        o.names = "local";
        convert(source, target, &o, 2);
        assert_same_weights(source, target);
        struct sl_checkpoint *a = opened(source), *b = opened(target);
        if (!made[i].other_names) {
            assert_holds_arrays(a, b);
            assert_holds_arrays(b, a);
        }
        sl_close(a);
        sl_close(b);
    }
}

static void assert_same_file(const char *a, const char *b, const char *name)
{
    size_t len, other;
    const void *x = bytes_of(sl_arena_printf(&arena, "%s/%s", a, name), &len), *y = bytes_of(sl_arena_printf(&arena, "%s/%s", b, name), &other);
    if (len != other || memcmp(x, y, len))
        fail_msg("%s differs", name);
}

static void the_bytes_do_not_depend_on_who_works(void **state)
{
    (void)state;
    static const char *const names[] = { "latest_checkpointed_iteration.txt", "iter_0000010/.metadata", "iter_0000010/metadata.json",
                                         "iter_0000010/common.pt", "iter_0000010/__0_0.distcp", "iter_0000010/__1_0.distcp",
                                         "iter_0000010/__2_0.distcp" };
    const struct sl_plan_options o = to_dist(3);
    const char *one = path_of("%s/%s", "one"), *many = path_of("%s/%s", "many");
    convert("tests/fixtures/llama_tp2_pp2", one, &o, 1);
    convert("tests/fixtures/llama_tp2_pp2", many, &o, 5);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_same_file(one, many, names[i]);
}

static const struct sl_plan_info *planned(struct sl_checkpoint *ck, const struct sl_plan_options *o, struct sl_plan **plan)
{
    struct sl_error err = { 0 };
    if (sl_plan_make(ck, NULL, o, plan, &err))
        fail_msg("%s: %s", err.where, err.message);
    return sl_plan_info(*plan);
}

static void files_are_of_one_size_and_never_empty(void **state)
{
    (void)state;
    struct sl_checkpoint *ck = opened("tests/fixtures/llama_tp2_pp2");
    for (int32_t files = 1; files < 30; files++) {
        struct sl_plan *plan = NULL;
        const struct sl_plan_options o = to_dist(files);
        const struct sl_plan_info *info = planned(ck, &o, &plan);
        uint64_t largest = 0, total = 0;
        for (size_t i = 0; i < info->target_count; i++)
            largest = sl_plan_target(plan, i)->bytes > largest ? sl_plan_target(plan, i)->bytes : largest;
        assert_int_equal(info->file_count, (size_t)files < info->target_count ? (size_t)files : info->target_count);
        for (size_t f = 0; f < info->file_count; f++) {
            assert_true(info->files[f].tensors > 0);
            total += info->files[f].bytes;
        }
        for (size_t f = 0; f < info->file_count; f++)    /* an item is at most 2 KiB more than its tensor; the first file begins with objects */
            assert_true(info->files[f].bytes < total / info->file_count + largest + 2048 + (f ? 0 : 16 * 1024));
        sl_plan_free(plan);
    }
    sl_close(ck);
}

/* The targets of a file follow one another, each at a multiple of 64. */
static void chunks_lie_one_after_another(void **state)
{
    (void)state;
    struct sl_checkpoint *ck = opened("tests/fixtures/llama_tp2_pp2");
    struct sl_plan *plan = NULL;
    const struct sl_plan_options o = to_dist(4);
    const struct sl_plan_info *info = planned(ck, &o, &plan);
    uint64_t end = 0;
    int32_t file = 0;
    for (size_t i = 0; i < info->target_count; i++) {
        const struct sl_plan_target *t = sl_plan_target(plan, i);
        assert_true(t->file == file || t->file == file + 1);
        end = t->file == file ? end : 0;
        file = t->file;
        assert_int_equal(t->offset % 64, 0);
        assert_true(t->offset >= end);
        end = t->offset + t->bytes;
        assert_true(end <= info->files[file].bytes);
    }
    assert_int_equal(file, 3);
    sl_plan_free(plan);
    sl_close(ck);
}

static void the_marker_and_the_tracker_are_megatrons(void **state)
{
    (void)state;
    const char *target = path_of("%s/%s", "marker");
    struct sl_plan_options o = to_dist(0);
    o.release = true;
    convert("tests/fixtures/llama_tp2_pp1", target, &o, 1);
    size_t len;
    const char *text = bytes_of(sl_arena_printf(&arena, "%s/release/metadata.json", target), &len);
    const struct sl_value *json;
    int64_t version = 0;
    assert_int_equal(sl_json_parse(text, len, "metadata.json", &arena, &json, NULL), 0);
    assert_string_equal(sl_value_str(sl_value_get(json, "sharded_backend")), "torch_dist");
    assert_true(sl_value_int(sl_value_get(json, "sharded_backend_version"), &version) && version == 1);
    assert_memory_equal(bytes_of(sl_arena_printf(&arena, "%s/latest_checkpointed_iteration.txt", target), &len), "release", 7);
    assert_int_equal(len, 7);
}

static void a_number_of_files_is_for_torch_dist_only(void **state)
{
    (void)state;
    struct sl_checkpoint *ck = opened("tests/fixtures/llama_tp2_pp1");
    struct sl_plan *plan = NULL;
    struct sl_error err = { 0 };
    const struct sl_plan_options o = { .format = SL_TO_HF, .dist_files = 4, .iteration = -1 };
    assert_int_equal(sl_plan_make(ck, NULL, &o, &plan, &err), SL_USAGE);
    assert_non_null(strstr(err.message, "--dist-files 4"));
    assert_null(plan);
    sl_close(ck);
}

static int begin(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/shardlens-dist-XXXXXX", base && strlen(base) < 30 ? base : "/tmp");
    return mkdtemp(root) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    sl_arena_free(&arena);
    return sl_folder_remove(root, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_becomes_the_same_weights),
        cmocka_unit_test(hugging_face_becomes_torch_dist_and_other_chunks),
        cmocka_unit_test(megatrons_own_is_written_again_under_its_names),
        cmocka_unit_test(the_bytes_do_not_depend_on_who_works),
        cmocka_unit_test(files_are_of_one_size_and_never_empty),
        cmocka_unit_test(chunks_lie_one_after_another),
        cmocka_unit_test(the_marker_and_the_tracker_are_megatrons),
        cmocka_unit_test(a_number_of_files_is_for_torch_dist_only),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
