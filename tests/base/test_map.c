/* test_map.c: the table from strings to numbers. */
#include "testing.h"

#include "base/map.h"

TEST(an_empty_map_knows_nothing)
{
    struct sl_map m = { 0 };
    uint64_t v = 3;
    assert_false(sl_map_get(&m, "a", 1, &v));
    assert_int_equal(v, 3);
    sl_map_free(&m);
}

TEST(put_replaces_and_add_keeps_the_first)
{
    struct sl_map m = { 0 };
    uint64_t v;
    bool added;
    assert_true(sl_map_put(&m, "rank", 4, 1));
    assert_true(sl_map_put(&m, "rank", 4, 2));
    assert_true(sl_map_get(&m, "rank", 4, &v));
    assert_int_equal(v, 2);

    v = 9;
    assert_true(sl_map_add(&m, "rank", 4, &v, &added));
    assert_false(added);
    assert_int_equal(v, 2);
    v = 9;
    assert_true(sl_map_add(&m, "file", 4, &v, &added));
    assert_true(added);
    assert_int_equal(v, 9);
    assert_int_equal(m.count, 2);
    sl_map_free(&m);
}

TEST(keys_are_told_apart_by_length_and_by_bytes_after_a_nul)
{
    struct sl_map m = { 0 };
    uint64_t v;
    assert_true(sl_map_put(&m, "a\0b", 3, 1));
    assert_true(sl_map_put(&m, "a\0c", 3, 2));
    assert_true(sl_map_put(&m, "a", 1, 3));
    assert_true(sl_map_put(&m, "", 0, 4));
    assert_true(sl_map_get(&m, "a\0b", 3, &v));
    assert_int_equal(v, 1);
    assert_true(sl_map_get(&m, NULL, 0, &v));
    assert_int_equal(v, 4);
    assert_int_equal(m.count, 4);
    sl_map_free(&m);
}

TEST(a_hundred_thousand_names_are_found_again)
{
    enum { COUNT = 100000, LEN = 40 };
    char(*names)[LEN] = calloc(COUNT, LEN);
    struct sl_map m = { 0 };
    for (int i = 0; i < COUNT; i++) {
        snprintf(names[i], LEN, "layers.%d.weight", i);
        assert_true(sl_map_put(&m, names[i], strlen(names[i]), (uint64_t)i));
    }
    assert_int_equal(m.count, COUNT);
    for (int i = 0; i < COUNT; i++) {
        uint64_t v = 0;
        assert_true(sl_map_get(&m, names[i], strlen(names[i]), &v));
        assert_int_equal(v, i);
    }
    uint64_t v;
    assert_false(sl_map_get(&m, "layers.100000.weight", 20, &v));
    sl_map_free(&m);
    free(names);
}

TEST(two_maps_have_different_seeds)
{
    struct sl_map a = { 0 }, b = { 0 };
    sl_map_put(&a, "x", 1, 0);
    sl_map_put(&b, "x", 1, 0);
    assert_true(a.seed != b.seed);
    sl_map_free(&a);
    sl_map_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(an_empty_map_knows_nothing),
        ROW(put_replaces_and_add_keeps_the_first),
        ROW(keys_are_told_apart_by_length_and_by_bytes_after_a_nul),
        ROW(a_hundred_thousand_names_are_found_again),
        ROW(two_maps_have_different_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
