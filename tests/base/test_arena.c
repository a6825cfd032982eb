/* test_arena.c: memory that is given out once and freed together. */
#include "testing.h"

#include "base/arena.h"

TEST(an_allocation_is_zeroed_and_aligned_to_16)
{
    struct sl_arena a = { 0 };
    for (unsigned size = 1; size < 200; size += 7) {
        unsigned char *p = sl_arena_new(&a, size, 1);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (unsigned i = 0; i < size; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xff, size);
    }
    sl_arena_free(&a);
}

TEST(a_count_of_zero_gives_a_pointer)
{
    struct sl_arena a = { 0 };
    assert_non_null(SL_ARENA_NEW(&a, int64_t, 0));
    assert_non_null(sl_arena_copy(&a, NULL, 0));
    sl_arena_free(&a);
}

TEST(a_product_that_overflows_is_refused)
{
    struct sl_arena a = { 0 };
    assert_null(sl_arena_new(&a, UINT64_C(1) << 33, UINT64_C(1) << 33));
    assert_null(sl_arena_new(&a, UINT64_MAX, 1));
    assert_null(sl_arena_new(&a, UINT64_MAX - 14, 1));
    assert_int_equal(a.used, 0);
    sl_arena_free(&a);
}

TEST(more_than_the_limit_is_refused_and_less_still_fits)
{
    struct sl_arena a = { .limit = 1000 };
    assert_non_null(sl_arena_new(&a, 900, 1));
    assert_null(sl_arena_new(&a, 200, 1));
    assert_non_null(sl_arena_new(&a, 32, 1));
    assert_true(a.used <= 1000);
    sl_arena_free(&a);
}

TEST(large_and_small_blocks_stay_apart)
{
    struct sl_arena a = { 0 };
    char *small = sl_arena_str(&a, "layers.0");
    char *large = sl_arena_new(&a, 3 << 20, 1);
    char *after = sl_arena_str(&a, "layers.1");
    memset(large, 'x', 3 << 20);
    assert_string_equal(small, "layers.0");
    assert_string_equal(after, "layers.1");
    sl_arena_free(&a);
    assert_null(a.blocks);
    assert_int_equal(a.used, 0);
}

TEST(a_hundred_thousand_small_things_keep_their_content)
{
    enum { COUNT = 100000 };
    struct sl_arena a = { 0 };
    const char **names = SL_ARENA_NEW(&a, const char *, COUNT);
    for (int i = 0; i < COUNT; i++)
        names[i] = sl_arena_printf(&a, "model.layers.%d.weight", i);
    char text[64];
    for (int i = 0; i < COUNT; i += 997) {
        snprintf(text, sizeof text, "model.layers.%d.weight", i);
        assert_string_equal(names[i], text);
    }
    sl_arena_free(&a);
}

TEST(copies_are_nul_terminated_and_keep_a_nul_inside)
{
    struct sl_arena a = { 0 };
    const char *p = sl_arena_strn(&a, "ab\0cd", 5);
    assert_memory_equal(p, "ab\0cd", 6);
    assert_string_equal(sl_arena_strn(&a, "abcdef", 3), "abc");
    sl_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(an_allocation_is_zeroed_and_aligned_to_16),
        ROW(a_count_of_zero_gives_a_pointer),
        ROW(a_product_that_overflows_is_refused),
        ROW(more_than_the_limit_is_refused_and_less_still_fits),
        ROW(large_and_small_blocks_stay_apart),
        ROW(a_hundred_thousand_small_things_keep_their_content),
        ROW(copies_are_nul_terminated_and_keep_a_nul_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
