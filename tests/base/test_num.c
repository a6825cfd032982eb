/* test_num.c: arithmetic on numbers from files. */
#include "testing.h"

#include "base/num.h"

TEST(the_product_of_a_shape_is_its_number_of_elements)
{
    uint64_t n = 0;
    const int64_t shape[] = { 4096, 11008 };
    assert_true(sl_shape_count(shape, 2, &n));
    assert_int_equal(n, 45088768);
    assert_true(sl_shape_count(NULL, 0, &n));
    assert_int_equal(n, 1);
}

TEST(an_axis_of_zero_makes_an_empty_tensor)
{
    uint64_t n = 7;
    const int64_t shape[] = { INT64_MAX, 0, 1 };
    assert_true(sl_shape_count(shape, 3, &n));
    assert_int_equal(n, 0);
}

TEST(a_negative_axis_is_refused_also_beside_a_zero)
{
    uint64_t n = 7;
    const int64_t shape[] = { 0, -1 };
    assert_false(sl_shape_count(shape, 2, &n));
    assert_int_equal(n, 7);
}

TEST(a_product_past_int64_is_refused)
{
    uint64_t n = 7;
    const int64_t large[] = { INT64_C(1) << 32, INT64_C(1) << 31 };
    const int64_t fits[] = { INT64_C(1) << 31, INT64_C(1) << 31 };
    assert_false(sl_shape_count(large, 2, &n));
    assert_int_equal(n, 7);
    assert_true(sl_shape_count(fits, 2, &n));
    assert_true(n == UINT64_C(1) << 62);
}

TEST(overflow_leaves_the_result_alone)
{
    uint64_t u = 5;
    int64_t i = 5;
    assert_true(sl_add_u64(UINT64_MAX - 1, 1, &u) && u == UINT64_MAX);
    u = 5;
    bool fits = sl_add_u64(UINT64_MAX, 1, &u);
    assert_false(fits);
    fits = sl_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &u);
    assert_false(fits);
    fits = sl_mul_i64(INT64_MIN, -1, &i);
    assert_false(fits);
    fits = sl_add_i64(INT64_MIN, -1, &i);
    assert_false(fits);
    assert_int_equal(u, 5);
    assert_int_equal(i, 5);
}

TEST(little_endian_numbers_are_read_and_written_at_odd_addresses)
{
    unsigned char b[9] = { 0, 0x50, 0x4b, 0x03, 0x04, 0x01, 0x02, 0x03, 0xff };
    assert_int_equal(sl_load_u16(b + 1), 0x4b50);
    assert_int_equal(sl_load_u32(b + 1), 0x04034b50);
    assert_true(sl_load_u64(b + 1) == UINT64_C(0xff03020104034b50));
    sl_store_u16(b + 1, 0x1234);
    assert_int_equal(sl_load_u16(b + 1), 0x1234);
    sl_store_u32(b + 1, 0xfedcba98);
    assert_int_equal(b[1], 0x98);
    assert_int_equal(b[4], 0xfe);
    sl_store_u64(b + 1, UINT64_C(0x8877665544332211));
    assert_int_equal(b[1], 0x11);
    assert_int_equal(b[8], 0x88);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(the_product_of_a_shape_is_its_number_of_elements),
        ROW(an_axis_of_zero_makes_an_empty_tensor),
        ROW(a_negative_axis_is_refused_also_beside_a_zero),
        ROW(a_product_past_int64_is_refused),
        ROW(overflow_leaves_the_result_alone),
        ROW(little_endian_numbers_are_read_and_written_at_odd_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
