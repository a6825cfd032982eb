/* test_memory.c: each allocation fails once, and from there on: the answer is
 * SL_MEMORY (or the file opens all the same), and nothing leaks. */
#include "helper.h"

#include "../base/memory.h"
#include "base/value.h"
#include "format/safetensors.h"
#include "format/torchwrite.h"

enum { TRIES_MAX = 20000 };

/* Runs attempt() with the n-th allocation failing, n = 1, 2, .., until one
 * passes untouched. */
static void fails_only_for_want_of_memory(int (*attempt)(const struct sl_file *, struct sl_error *),
                                          const char *path)
{
    size_t len = 0;
    char *bytes = path ? read_fixture(path, &len) : NULL;
    struct sl_file file = memory_file(bytes, len);
    for (int on = 0; on < 2; on++)
        for (unsigned n = 1;; n++) {
            struct sl_error err = { 0 };
            memory_fail(n, on);
            const int code = attempt(&file, &err);
            const unsigned calls = memory_end();
            if (code == SL_OK && calls < n)
                break;
            if (code != SL_MEMORY && code != SL_OK)
                fail_msg("%s, allocation %u failed: code %d, \"%s\"", path ? path : "", n, code,
                         err.message);
            assert_true(n < TRIES_MAX);
        }
    free(bytes);
}

static int open_torch(const struct sl_file *file, struct sl_error *err)
{
    struct sl_arena arena = { 0 };
    struct sl_torch_file t;
    const int code = sl_torch_open(file, 0, file->size, &arena, &t, err);
    sl_arena_free(&arena);
    return code;
}

static int open_safetensors(const struct sl_file *file, struct sl_error *err)
{
    struct sl_arena arena = { 0 };
    struct sl_st_file st;
    struct sl_buf out = { 0 };
    struct sl_st_tensor copy[8];
    uint64_t size;
    int code = sl_st_open(file, &arena, &st, err);
    if (!code) {
        memcpy(copy, st.tensors, st.count * sizeof *copy);
        code = sl_st_layout(copy, st.count, &out, &size, err);
    }
    sl_buf_free(&out);
    sl_arena_free(&arena);
    return code;
}

static int write_torch(const struct sl_file *file, struct sl_error *err)
{
    static const uint64_t sizes[] = { 24, 8 };
    static const uint32_t crc[] = { 1, 2 };
    static const int64_t shape[] = { 2, 3 };
    struct sl_arena arena = { 0 };
    struct sl_pickler p = { 0 };
    struct sl_torch_layout layout;
    struct sl_torch_piece *tail;
    uint32_t count;
    (void)file;
    sl_pickler_begin(&p);
    sl_pickler_dict_begin(&p, false);
    sl_pickler_str(&p, "w");
    sl_pickler_tensor(&p, SL_F32, 0, 6, 0, shape, 2);
    sl_pickler_dict_end(&p);
    sl_pickler_end(&p);
    int code = p.out.failed ? SL_MEMORY : SL_OK;
    if (!code)
        code = sl_torch_layout(p.out.data, p.out.len, sizes, 2, &arena, &layout, err);
    if (!code)
        code = sl_torch_tail(&layout, crc, &arena, &tail, &count, err);
    sl_buf_free(&p.out);
    sl_arena_free(&arena);
    return code;
}

static void torch_files_are_opened_or_memory_is_named(void **state)
{
    static const char *const paths[] = { "torch/plain.pt", "torch/deflated.pt", "torch/views.pt",
                                         "torch/legacy_container.pt", "torch/bare_protocol0.pkl",
                                         "torch/bare_protocol4.pkl" };
    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char path[128];
        snprintf(path, sizeof path, FIXTURES "%s", paths[i]);
        fails_only_for_want_of_memory(open_torch, path);
    }
}

static void safetensors_files_are_opened_or_memory_is_named(void **state)
{
    (void)state;
    fails_only_for_want_of_memory(open_safetensors, "tests/fuzz/seeds/safetensors/two.safetensors");
}

static void torch_files_are_laid_out_or_memory_is_named(void **state)
{
    (void)state;
    fails_only_for_want_of_memory(write_torch, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torch_files_are_opened_or_memory_is_named),
        cmocka_unit_test(safetensors_files_are_opened_or_memory_is_named),
        cmocka_unit_test(torch_files_are_laid_out_or_memory_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
