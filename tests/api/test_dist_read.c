/* test_dist_read.c: distributed checkpoints of Megatron-core through the public API: converted to Hugging
 * Face they are what was cut out of the one-rank model; converted to rank folders, what Megatron
 * stores there; compared with rank folders, equal; damaged, refused in one line. */
#include "golden.h"

#include "../base/sha256.h"

#include "base/arena.h"
#include "base/io.h"

#include <limits.h>
#include <unistd.h>

static char root[64];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/shardlens-dist-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}
static int drop_root(void **state)
{
    (void)state;
    return sl_folder_remove(root, NULL);
}

static int convert(const char *source, const char *target, const struct sl_plan_options *o)
{
    struct sl_checkpoint *ck = opened(source);
    struct sl_plan *plan = NULL;
    struct sl_job *job = NULL;
    const struct sl_run_options run = { .threads = 2, .force = true };
    int code = sl_plan_make(ck, target, o, &plan, &err);
    if (!code)
        code = sl_convert_start(plan, &run, &job, &err);
    if (!code)
        code = sl_job_wait(job, &err);
    sl_job_free(job);
    sl_plan_free(plan);
    sl_close(ck);
    return code;
}

/* Every tensor of one is in the other, bit for bit. */
static void same_tensors(const char *made, const char *expected)
{
    struct sl_checkpoint *a = opened(made), *b = opened(expected);
    assert_int_equal(sl_tensor_count(a), sl_tensor_count(b));
    for (size_t i = 0; i < sl_tensor_count(b); i++) {
        const struct sl_tensor *want = sl_tensor_at(b, i), *have = NULL;
        size_t at = 0;
        for (size_t k = 0; k < sl_tensor_count(a) && !have; k++)
            if (!strcmp(sl_tensor_at(a, k)->name, want->name))
                have = sl_tensor_at(a, at = k);
        if (!have || have->dtype != want->dtype || have->bytes != want->bytes)
            fail_msg("%s: no %s of that size", made, want->name);
        void *x = malloc(want->bytes + 1), *y = malloc(want->bytes + 1);
        assert_int_equal(sl_tensor_read(a, at, 0, have->count, x, &err), 0);
        assert_int_equal(sl_tensor_read(b, i, 0, want->count, y, &err), 0);
        if (memcmp(x, y, want->bytes))
            fail_msg("%s: %s has other values", made, want->name);
        free(x);
        free(y);
    }
    sl_close(b);
    sl_close(a);
}

static const struct { const char *fixture, *family; } sources[] = {
    { "llama_tp2_pp2", "llama" }, { "minicpm_tp1_pp2", "minicpm" }, { "qkv_bias_singleton_tp2", "qkv_bias" },
    { "qkv_bias_common_state", "qkv_bias" }, { "qkv_bias_fsdp", "qkv_bias" }, { "qkv_bias_nemo", "qkv_bias" }, { "qwen3moe_ep2", "qwen3moe" },
    { "mixtral_ep2", "mixtral" }, { "zarr_llama", "llama" },
};

TEST(every_distributed_checkpoint_becomes_the_hugging_face_weights)
{
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        char source[PATH_MAX], made[PATH_MAX], expected[PATH_MAX];
        const struct sl_plan_options o = { .format = SL_TO_HF, .iteration = -1 };
        snprintf(source, sizeof source, FIXTURES "dist/%s", sources[i].fixture);
        snprintf(expected, sizeof expected, FIXTURES "%s.expected.safetensors", sources[i].family);
        snprintf(made, sizeof made, "%s/%s", root, sources[i].fixture);
        if (convert(source, made, &o))
            fail_msg("%s: %s: %s", source, err.where, err.message);
        same_tensors(made, expected);
    }
}

TEST(saves_of_older_megatron_and_torch_become_the_hugging_face_weights)
{
    static const char *const saves[] = { "core05_zarr", "core06", "core12_flattened" };
    for (size_t i = 0; i < sizeof saves / sizeof *saves; i++) {
        char source[PATH_MAX], made[PATH_MAX];
        const struct sl_plan_options o = { .format = SL_TO_HF, .iteration = -1 };
        snprintf(source, sizeof source, FIXTURES "dist_versions/%s", saves[i]);
        snprintf(made, sizeof made, "%s/%s", root, saves[i]);
        if (convert(source, made, &o))
            fail_msg("%s: %s: %s", source, err.where, err.message);
        same_tensors(made, FIXTURES "dist_versions.expected.safetensors");
    }
}

TEST(it_equals_the_rank_folders_of_the_same_weights)
{
    static const struct { const char *dist, *ranks; uint64_t params; } pairs[] = {
        { "dist/llama_tp2_pp2", "llama_tp4_pp1", 30 }, { "dist/minicpm_tp1_pp2", "minicpm_vpp2_tp1_pp2", 38 },
        { "dist/qkv_bias_fsdp", "qkv_bias_tp2_pp1", 27 }, { "dist/qwen3moe_ep2", "qwen3moe_tp2_pp1_ep2_etp1", 35 },
        { "dist/zarr_llama", "llama_tp2_pp2", 30 },
        { "dist/mixtral_ep2", "mixtral_tp1_pp1_ep2_etp1", 16 }, { "dist/qkv_bias_singleton_tp2", "dist/qkv_bias_common_state", 27 },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char a[PATH_MAX], b[PATH_MAX];
        struct sl_job *job = NULL;
        snprintf(a, sizeof a, FIXTURES "%s", pairs[i].dist);
        snprintf(b, sizeof b, FIXTURES "%s", pairs[i].ranks);
        struct sl_checkpoint *x = opened(a), *y = opened(b);
        if (sl_verify_start(x, y, NULL, &job, &err) || sl_job_wait(job, &err))
            fail_msg("%s: %s: %s", a, err.where, err.message);
        const struct sl_summary *s = sl_job_summary(job);
        assert_int_equal(s->different + s->only_a + s->only_b, 0);
        assert_int_equal(s->equal, pairs[i].params);
        sl_job_free(job);
        sl_close(y);
        sl_close(x);
    }
}

TEST(a_module_of_no_known_family_is_converted_as_it_is)
{
    char made[PATH_MAX];
    const struct sl_plan_options o = { .format = SL_TO_HF, .iteration = -1 };
    snprintf(made, sizeof made, "%s/plain", root);
    if (convert(FIXTURES "dist/safetensors", made, &o))
        fail_msg("%s: %s", err.where, err.message);
    struct sl_checkpoint *ck = opened(made);
    const struct sl_logical *l = logical(ck, "net.rows");
    assert_int_equal(l->shape[0], 6);
    assert_int_equal(l->shape[1], 5);
    assert_int_equal(sl_tensor_count(ck), 4);
    sl_close(ck);

    snprintf(made, sizeof made, "%s/torch28", root);         /* without elements, 0-d, bool, int8, fp8, complex, odd names */
    if (convert(FIXTURES "dist_versions/torch28", made, &o))
        fail_msg("%s: %s", err.where, err.message);
    ck = opened(made);
    assert_int_equal(sl_tensor_count(ck), 16);               /* all that torch28.json lists */
    l = logical(ck, "net.empty");
    assert_int_equal(l->dtype, SL_F32);
    assert_int_equal(l->shape[0], 0);
    assert_int_equal(l->shape[1], 3);
    assert_int_equal(logical(ck, "net.odd name/\xc3\xbc")->shape[0], 2);
    sl_close(ck);
}

TEST(an_array_in_chunks_is_one_logical_tensor)
{
    struct sl_checkpoint *ck = opened(FIXTURES "dist/llama_tp2_pp2");
    const struct sl_logical *l = logical(ck, "decoder.layers.2.mlp.linear_fc1.weight");
    assert_int_equal(l->shape[0], 104);
    assert_int_equal(l->piece_count, 4);
    assert_int_equal(l->layer, 2);
    assert_int_equal(l->split, SL_SPLIT);
    assert_string_equal(l->split_text, "dim0 x4");
    assert_null(l->odd);
    assert_int_equal(sl_info(ck)->unique_bytes, sl_info(ck)->bytes);
    assert_string_equal(sl_info(ck)->family, "llama");
    sl_close(ck);
}

TEST(the_place_of_a_chunk_is_where_its_bytes_are)
{
    static const char *const fixtures[] = { "dist/llama_tp2_pp2", "dist/safetensors", "dist/mixtral_ep2" };
    for (size_t f = 0; f < sizeof fixtures / sizeof *fixtures; f++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, FIXTURES "%s", fixtures[f]);
        struct sl_checkpoint *ck = opened(path);
        for (size_t i = 0; i < sl_tensor_count(ck); i++) {
            const struct sl_tensor *t = sl_tensor_at(ck, i);
            uint64_t begin, end;
            sl_tensor_place(ck, i, &begin, &end);
            assert_int_equal(end - begin, t->bytes);
            FILE *file = fopen(sl_info(ck)->files[t->file].path, "rb");
            unsigned char *there = malloc(t->bytes + 1), *read = malloc(t->bytes + 1);
            assert_non_null(file);
            assert_int_equal(fseek(file, (long)begin, SEEK_SET), 0);
            assert_int_equal(fread(there, 1, t->bytes, file), t->bytes);
            fclose(file);
            assert_int_equal(sl_tensor_read(ck, i, 0, t->count, read, &err), 0);
            assert_memory_equal(there, read, t->bytes);
            free(there);
            free(read);
        }
        sl_close(ck);
    }
}

static const struct sl_check_result *checked(const char *path, bool deep, struct sl_checkpoint **ck, struct sl_job **job)
{
    *ck = opened(path);
    if (sl_check_start(*ck, deep, NULL, job, &err) || sl_job_wait(*job, &err))
        fail_msg("%s: %s: %s", path, err.where, err.message);
    return sl_check_result(*job);
}

static size_t told(const struct sl_check_result *c, const char *code, const char *words)
{
    size_t count = 0;
    for (size_t i = 0; i < c->problem_count; i++)
        count += !strcmp(c->problems[i].code, code) && (strstr(c->problems[i].message, words) || strstr(c->problems[i].where, words));
    return count;
}

TEST(check_looks_into_items_without_reading_values)
{
    struct sl_checkpoint *ck;
    struct sl_job *job;
    const struct sl_check_result *c = checked(FIXTURES "dist/bad/other_dtype", false, &ck, &job);
    assert_int_equal(told(c, "unreadable-tensor", "w, chunk [2:4, 0:3], at byte 1577: the item holds a tensor [2, 3] of fp32"), 1);
    assert_int_equal(c->bytes_read, 0);
    sl_job_free(job);
    sl_close(ck);
    c = checked(FIXTURES "dist/bad/gone", false, &ck, &job);
    assert_int_equal(told(c, "missing-file", "__0_0.distcp"), 1);
    assert_int_equal(c->files_checked, 0);
    sl_job_free(job);
    sl_close(ck);
}

TEST(check_deep_compares_files_with_integrity_json)
{
    char json[PATH_MAX], *text;
    static const char *const names[] = { ".metadata", "__0_0.distcp" };
    struct sl_arena arena = { 0 };
    size_t len;
    struct sl_checkpoint *ck;
    struct sl_job *job;
    FILE *f;
    for (size_t i = 0; i < 2; i++) {
        char from[PATH_MAX], to[PATH_MAX];
        snprintf(from, sizeof from, FIXTURES "dist/bad/state/%s", names[i]);
        snprintf(to, sizeof to, "%s/sum/%s", root, names[i]);
        snprintf(json, sizeof json, "%s/sum", root);
        assert_int_equal(sl_folder_make(json, &err), 0);
        assert_int_equal(sl_file_slurp(from, 1 << 20, &arena, &text, &len, &err), 0);
        write_text(to, text, len);
    }
    snprintf(json, sizeof json, "%s/sum/integrity.json", root);
    char right[65], at[PATH_MAX];
    sha256_hex(text, len, right);                /* of the last file read: __0_0.distcp */
    f = fopen(json, "w");
    fprintf(f, "{\"algorithm\": \"sha256\", \"files\": {\"__0_0.distcp\": \"%s\", \".metadata\": \"%064d\", \"lost.pt\": \"%064d\"}}", right, 0, 0);
    fclose(f);
    snprintf(at, sizeof at, "%s/sum", root);
    const struct sl_check_result *c = checked(at, true, &ck, &job);
    assert_int_equal(told(c, "integrity", "__0_0.distcp"), 0);
    assert_int_equal(told(c, "integrity", "integrity.json says 000000000000"), 1);
    assert_int_equal(told(c, "integrity", "lost.pt"), 1);
    sl_job_free(job);
    sl_close(ck);
    sl_arena_free(&arena);
}

TEST(damaged_ones_are_not_converted)
{
    static const char *const cases[] = { "hole", "overlap", "outside", "no_place", "short", "gone", "other_dtype", "other_shape",
                                         "cut_item", "no_item" };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char source[PATH_MAX], made[PATH_MAX];
        const struct sl_plan_options o = { .format = SL_TO_HF, .iteration = -1 };
        snprintf(source, sizeof source, FIXTURES "dist/bad/%s", cases[i]);
        snprintf(made, sizeof made, "%s/bad-%s", root, cases[i]);
        const int code = convert(source, made, &o);
        if (code != SL_INPUT)
            fail_msg("%s: code %d", cases[i], code);
        assert_null(strchr(err.message, '\n'));
        assert_true(access(made, F_OK) != 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(every_distributed_checkpoint_becomes_the_hugging_face_weights),
        ROW(saves_of_older_megatron_and_torch_become_the_hugging_face_weights),
        ROW(it_equals_the_rank_folders_of_the_same_weights),
        ROW(a_module_of_no_known_family_is_converted_as_it_is),
        ROW(an_array_in_chunks_is_one_logical_tensor),
        ROW(the_place_of_a_chunk_is_where_its_bytes_are),
        ROW(check_looks_into_items_without_reading_values),
        ROW(check_deep_compares_files_with_integrity_json),
        ROW(damaged_ones_are_not_converted),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
