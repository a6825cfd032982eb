/* test_memory.c: each allocation fails once, and from there on: the answer is
 * SL_MEMORY, nothing leaks (the sanitizers look), and the next try works. */
#include "testing.h"

#include "memory.h"

#include "base/arena.h"
#include "base/io.h"
#include "base/json.h"
#include "base/map.h"
#include "base/pool.h"
#include "base/value.h"

#include <unistd.h>

#define TRIES_MAX 5000

/* Runs attempt() with the n-th allocation failing, n = 1, 2, .., until one passes untouched. */
static void fails_only_for_want_of_memory(int (*attempt)(struct sl_error *err))
{
    for (int on = 0; on < 2; on++)
        for (unsigned n = 1;; n++) {
            struct sl_error err = { 0 };
            memory_fail(n, on);
            const int code = attempt(&err);
            const unsigned calls = memory_end();
            if (code == SL_OK && calls < n)
                break;
            if (code != SL_MEMORY && code != SL_OK)
                fail_msg("allocation %u failed: code %d, \"%s\"", n, code, err.message);
            assert_true(n < TRIES_MAX);
        }
}

static int parse_json(struct sl_error *err)
{
    static const char text[] = "{\"a\":[1,2,3.5,\"x\"],\"b\":{\"c\":null},\"d\":{},\"e\":[]}";
    struct sl_arena arena = { 0 };
    const struct sl_value *v;
    const int code = sl_json_parse(text, sizeof text - 1, "text", &arena, &v, err);
    sl_arena_free(&arena);
    return code;
}

TEST(json)
{
    fails_only_for_want_of_memory(parse_json);
}

static int write_json(struct sl_error *err)
{
    (void)err;
    struct sl_buf b = { 0 };
    struct sl_json j;
    sl_json_begin(&j, &b, 2);
    sl_json_object(&j);
    for (int i = 0; i < 50; i++) {
        sl_json_key(&j, "name");
        sl_json_double(&j, i / 7.0);
    }
    sl_json_object_end(&j);
    const int code = b.failed ? SL_MEMORY : SL_OK;
    sl_buf_free(&b);
    return code;
}

TEST(a_buffer)
{
    fails_only_for_want_of_memory(write_json);
}

static int fill_map(struct sl_error *err)
{
    (void)err;
    static const char keys[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    struct sl_map m = { 0 };
    int code = SL_OK;
    for (size_t i = 0; i < sizeof keys - 1 && !code; i++)
        if (!sl_map_put(&m, keys + i, 1, i))
            code = SL_MEMORY;
    /* what went in before is still there */
    uint64_t v;
    for (size_t i = 0; i < m.count; i++)
        assert_true(sl_map_get(&m, keys + i, 1, &v) && v == i);
    sl_map_free(&m);
    return code;
}

TEST(a_map)
{
    fails_only_for_want_of_memory(fill_map);
}

static char folder[256];

static int list_folder(struct sl_error *err)
{
    struct sl_arena arena = { 0 };
    const char *const *names;
    size_t count;
    int code = sl_folder_list(folder, 1000, &arena, &names, &count, err);
    if (!code)
        assert_int_equal(count, 100);
    sl_arena_free(&arena);
    return code;
}

TEST(a_list_of_a_folder)
{
    char path[512];
    new_folder(folder, sizeof folder);
    for (int i = 0; i < 100; i++) {
        snprintf(path, sizeof path, "%s/%d", folder, i);
        write_text(path, "", 0);
    }
    fails_only_for_want_of_memory(list_folder);
    assert_int_equal(sl_folder_remove(folder, NULL), SL_OK);
}

static int slurp_file(struct sl_error *err)
{
    struct sl_arena arena = { 0 };
    char *text;
    const int code = sl_file_slurp(folder, 1000, &arena, &text, NULL, err);
    sl_arena_free(&arena);
    return code;
}

TEST(a_small_file)
{
    snprintf(folder, sizeof folder, "/tmp/shardlens-test-%ld", (long)getpid());
    write_text(folder, "iter", 4);
    fails_only_for_want_of_memory(slurp_file);
    remove(folder);
}

static int parse_set(struct sl_error *err)
{
    (void)err;
    static const char *const texts[] = { "1", "1.5", "true", "[1, {\"a\": 2}]", "text" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct sl_arena arena = { 0 };
        const struct sl_value *v = sl_value_parse(&arena, texts[i]);
        const bool made = v;
        if (v && i == 3)
            assert_int_equal(v->kind, SL_VALUE_LIST);
        sl_arena_free(&arena);
        if (!made)
            return SL_MEMORY;
    }
    return SL_OK;
}

TEST(values)
{
    fails_only_for_want_of_memory(parse_set);
}

static int count_up(void *arg, unsigned worker, uint64_t i)
{
    (void)worker;
    (void)i;
    atomic_fetch_add((atomic_uint *)arg, 1);
    return 0;
}

TEST(a_parallel_loop_goes_on_alone)
{
    atomic_uint done = 0;
    memory_fail(1, true);
    const int code = sl_parallel(4, 100, count_up, &done);
    memory_end();
    assert_int_equal(code, 0);
    assert_int_equal(atomic_load(&done), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(json),
        ROW(a_buffer),
        ROW(a_map),
        ROW(a_list_of_a_folder),
        ROW(a_small_file),
        ROW(values),
        ROW(a_parallel_loop_goes_on_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
