/* Quantiles, mantissa bits and blocks of a tensor, against numbers counted by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "run/run.h"

#include <math.h>

#define NEAR(a, b) assert_true(fabs((double)(a) - (double)(b)) <= 1e-12 * (1 + fabs((double)(b))))

static struct sl_profile profile_of(enum sl_dtype dtype, const void *elements, size_t count, uint64_t cols)
{
    struct sl_profile out;
    struct sl_profiler *p = sl_profiler_begin(dtype, cols, NULL, 0, 0, NULL);
    assert_non_null(p);
    sl_profiler_add(p, elements, count);
    sl_profiler_end(p, &out);
    sl_profiler_free(p);
    return out;
}

/*  columns   0  1  2 | 3  4        row block 0: row 0, row block 1: rows 1 and 2
 *  row 0     1 -2  2 | 0  4
 *  row 1     3  0  0 | 5  0
 *  row 2     0  4  0 | 0 12                                                       */
static void blocks_hold_the_elements_of_their_rows_and_columns(void **state)
{
    (void)state;
    static const float m[15] = { 1, -2, 2, 0, 4, 3, 0, 0, 5, 0, 0, 4, 0, 0, 12 };
    static const uint64_t edge[] = { 0, 1, 3 };
    struct sl_block_stats b[4];
    struct sl_profile out;
    for (size_t step = 1; step <= 15; step++) {           /* however the elements come */
        struct sl_profiler *p = sl_profiler_begin(SL_F32, 5, edge, 2, 2, b);
        assert_non_null(p);
        for (size_t i = 0; i < 15; i += step)
            sl_profiler_add(p, m + i, 15 - i < step ? 15 - i : step);
        sl_profiler_end(p, &out);
        sl_profiler_free(p);
        assert_int_equal(b[0].count, 3);
        assert_int_equal(b[1].count, 2);
        assert_int_equal(b[2].count, 6);
        assert_int_equal(b[3].count, 4);
        NEAR(b[0].rms, sqrt(9.0 / 3));
        NEAR(b[1].rms, sqrt(16.0 / 2));
        NEAR(b[2].rms, sqrt(25.0 / 6));
        NEAR(b[3].rms, sqrt(169.0 / 4));
        NEAR(b[3].max_abs, 12);
        assert_int_equal(b[2].zeros, 4);
        NEAR(out.row_rms_lo, sqrt(25.0 / 5));             /* row 0: 1+4+4+16; row 1: 9+25; row 2: 16+144 */
        NEAR(out.row_rms_hi, sqrt(160.0 / 5));
    }
}

/* 1 lies at the begin of its key, whose middle is 1 + 2^-8. */
static void no_quantile_lies_past_the_largest_value(void **state)
{
    (void)state;
    float ones[100];
    for (size_t i = 0; i < 100; i++)
        ones[i] = i & 1 ? 1 : -1;
    const struct sl_profile out = profile_of(SL_F32, ones, 100, 10);
    for (int i = 0; i < SL_QUANTILES; i++)
        NEAR(out.quantile[i], 1);
}

static void fp32_that_was_bf16_uses_8_of_24_mantissa_bits(void **state)
{
    (void)state;
    const float was[4] = { 1.0f, 1.0078125f, -0.3046875f, 96.5f };     /* 1 + 2^-7; 0x3e9c; 0x42c1 */
    struct sl_profile out = profile_of(SL_F32, was, 4, 4);
    assert_int_equal(out.mantissa_bits, 24);
    assert_int_equal(out.mantissa_used, 8);
    const float full[2] = { 1.0f, 1.00000011920928955f };              /* 1 + 2^-23 */
    assert_int_equal(profile_of(SL_F32, full, 2, 2).mantissa_used, 24);
    const float powers[2] = { 2.0f, 0.25f };
    assert_int_equal(profile_of(SL_F32, powers, 2, 2).mantissa_used, 1);
}

static void quantiles_of_bf16_are_elements_of_it(void **state)
{
    (void)state;
    uint16_t v[1000];                                     /* 990 times 1.0, 9 times -2.0, once 8.0 */
    for (size_t i = 0; i < 1000; i++)
        v[i] = i < 990 ? 0x3f80 : i < 999 ? 0xc000 : 0x4100;
    struct sl_profile out = profile_of(SL_BF16, v, 1000, 10);
    assert_true(out.quantiles_exact);
    NEAR(out.quantile[0], 1);
    NEAR(out.quantile[1], 1);
    NEAR(out.quantile[2], 1);
    NEAR(out.quantile[3], 2);
    NEAR(out.quantile[4], 8);
}

static void quantiles_of_fp32_are_near(void **state)
{
    (void)state;
    static float v[100000];
    for (size_t i = 0; i < 100000; i++)
        v[i] = (float)(i + 1) / 100000.0f;
    struct sl_profile out = profile_of(SL_F32, v, 100000, 100);
    static const double want[SL_QUANTILES] = { 0.5, 0.9, 0.99, 0.999, 0.9999 };
    assert_false(out.quantiles_exact);
    for (size_t i = 0; i < SL_QUANTILES; i++)
        assert_true(fabs(out.quantile[i] / want[i] - 1) <= 0.004);
}

static void subnormals_nan_and_infinity_are_told_apart(void **state)
{
    (void)state;
    const uint16_t v[6] = { 0x0001, 0x8040, 0x0000, 0x7f80, 0x7fc1, 0x3f80 };      /* two subnormals, 0, inf, NaN, 1 */
    static const uint64_t edge[] = { 0, 1 };
    struct sl_block_stats b;
    struct sl_profile out;
    struct sl_profiler *p = sl_profiler_begin(SL_BF16, 6, edge, 1, 1, &b);
    assert_non_null(p);
    sl_profiler_add(p, v, 6);
    sl_profiler_end(p, &out);
    sl_profiler_free(p);
    assert_int_equal(out.subnormals, 2);
    assert_int_equal(out.stats.nan, 1);
    assert_int_equal(out.stats.inf, 1);
    assert_int_equal(b.nonfinite, 2);
    assert_int_equal(b.count, 6);
    assert_int_equal(out.mantissa_used, 8);               /* 0x0001; the NaN's mantissa does not count */
}

static void integers_have_no_mantissa(void **state)
{
    (void)state;
    const int32_t v[3] = { 1, -7, 3 };
    struct sl_profile out = profile_of(SL_I32, v, 3, 3);
    assert_int_equal(out.mantissa_bits, 0);
    assert_int_equal(out.mantissa_used, 0);
    NEAR(out.stats.min, -7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_hold_the_elements_of_their_rows_and_columns),
        cmocka_unit_test(fp32_that_was_bf16_uses_8_of_24_mantissa_bits),
        cmocka_unit_test(quantiles_of_bf16_are_elements_of_it),
        cmocka_unit_test(quantiles_of_fp32_are_near),
        cmocka_unit_test(no_quantile_lies_past_the_largest_value),
        cmocka_unit_test(subnormals_nan_and_infinity_are_told_apart),
        cmocka_unit_test(integers_have_no_mantissa),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
