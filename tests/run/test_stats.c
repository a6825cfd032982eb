/* Statistics against a naive loop in long double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/dtype.h"
#include "run/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MANY 20011    /* odd, several blocks */

static uint64_t seed = 20261124;
static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

struct naive {
    uint64_t count, nan, inf, zeros;
    long double min, max, sum, sum2, size;
};

static struct naive naive_stats(enum sl_dtype dtype, const unsigned char *p, size_t count)
{
    struct naive n = { .min = INFINITY, .max = -INFINITY };
    for (size_t i = 0; i < count; i++) {
        const long double x = (long double)sl_dtype_load(dtype, p + i * sl_dtype_size(dtype));
        n.count++;
        if (isnan(x)) {
            n.nan++;
        } else if (isinf(x)) {
            n.inf++;
        } else {
            n.zeros += x == 0;
            n.min = x < n.min ? x : n.min;
            n.max = x > n.max ? x : n.max;
            n.sum += x;
            n.sum2 += x * x;
            n.size += fabsl(x);
        }
    }
    return n;
}

static void assert_same(const struct naive *n, const struct sl_accumulator *s)
{
    assert_int_equal(s->count, n->count);
    assert_int_equal(s->nan, n->nan);
    assert_int_equal(s->inf, n->inf);
    assert_int_equal(s->zeros, n->zeros);
    assert_true((long double)s->min == n->min);
    assert_true((long double)s->max == n->max);
    if (n->size < 1e308L)      /* else a double can't hold the sum */
        assert_true(fabsl((long double)s->sum - n->sum) <= n->size * 1e-13L);
    if (n->sum2 < 1e308L && n->sum2 > 1e-290L)    /* or its square */
        assert_true(fabsl((long double)s->sum2 - n->sum2) <= n->sum2 * 1e-13L);
}

static void check_all_forms(enum sl_dtype dtype, const unsigned char *p, size_t count)
{
    const struct naive n = naive_stats(dtype, p, count);
    struct sl_accumulator s;
    sl_stats_begin(&s);
    sl_stats_add(&s, dtype, p, count);
    assert_same(&n, &s);

    struct sl_accumulator plain;
    sl_stats_begin(&plain);
    sl_stats_add_as(&plain, SL_STATS_PLAIN, dtype, p, count);
    assert_same(&n, &plain);
    for (int form = 0; form < SL_STATS_FORMS; form++) {
        if (!sl_stats_has((enum sl_stats_form)form))
            continue;
        sl_stats_begin(&s);
        sl_stats_add_as(&s, (enum sl_stats_form)form, dtype, p, count);
        assert_memory_equal(&s, &plain, sizeof s);
    }
}

/* Any bits at all: NaNs of every payload, infinities, subnormals, both zeros. */
static void every_type_agrees_with_a_naive_loop_on_random_bits(void **state)
{
    (void)state;
    unsigned char *p = malloc(MANY * 16);
    for (int d = 1; d < SL_DTYPE_COUNT; d++) {
        for (size_t i = 0; i < MANY * 16; i += 8) {
            const uint64_t r = next_random();
            memcpy(p + i, &r, 8);
        }
        check_all_forms((enum sl_dtype)d, p, MANY);
        check_all_forms((enum sl_dtype)d, p, 0);
        for (size_t count = 1; count < 70; count++)
            check_all_forms((enum sl_dtype)d, p + 16, count);
    }
    free(p);
}

/* Finite weights of usual sizes: the vector form takes every block. */
static void float_types_agree_on_finite_weights(void **state)
{
    (void)state;
    static const enum sl_dtype floats[] = { SL_F64, SL_F32, SL_F16, SL_BF16 };
    float *w = malloc(MANY * sizeof *w);
    unsigned char *p = malloc(MANY * 8);
    for (size_t i = 0; i < MANY; i++)
        w[i] = (float)((double)(next_random() >> 11) / 9007199254740992.0 - 0.5);
    for (size_t d = 0; d < 4; d++) {
        sl_dtype_cast(SL_F32, w, floats[d], p, MANY);
        check_all_forms(floats[d], p, MANY);
    }
    free(p);
    free(w);
}

/* Each 16-bit pattern once: every NaN payload is a NaN and nothing else is. */
static void every_sixteen_bit_pattern_is_counted_for_what_it_is(void **state)
{
    (void)state;
    uint16_t *all = malloc(65536 * sizeof *all);
    for (unsigned i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    struct sl_accumulator s;
    sl_stats_begin(&s);
    sl_stats_add(&s, SL_BF16, all, 65536);
    assert_int_equal(s.nan, 2 * 127);      /* 7 bits of mantissa, not all zero */
    assert_int_equal(s.inf, 2);
    assert_int_equal(s.zeros, 2);
    sl_stats_begin(&s);
    sl_stats_add(&s, SL_F16, all, 65536);
    assert_int_equal(s.nan, 2 * 1023);
    assert_int_equal(s.inf, 2);
    assert_int_equal(s.zeros, 2);
    assert_true(s.max == 65504);
    assert_true(s.min == -65504);
    check_all_forms(SL_BF16, (const unsigned char *)all, 65536);
    check_all_forms(SL_F16, (const unsigned char *)all, 65536);
    free(all);
}

static void parts_merged_give_what_the_whole_gives(void **state)
{
    (void)state;
    float w[1000];
    for (size_t i = 0; i < 1000; i++)
        w[i] = (float)(int)(next_random() % 2000) - 1000;
    w[17] = NAN;
    w[400] = INFINITY;
    struct sl_accumulator whole, a, b;
    sl_stats_begin(&whole);
    sl_stats_begin(&a);
    sl_stats_begin(&b);
    sl_stats_add(&whole, SL_F32, w, 1000);
    sl_stats_add(&a, SL_F32, w + 333, 667);
    sl_stats_add(&b, SL_F32, w, 333);
    sl_stats_merge(&a, &b);
    assert_int_equal(a.count, whole.count);
    assert_int_equal(a.nan, 1);
    assert_int_equal(a.inf, 1);
    assert_true(a.sum == whole.sum && a.sum2 == whole.sum2);    /* whole numbers: exact */
    assert_true(a.min == whole.min && a.max == whole.max);
}

static void the_four_numbers_1_2_3_6_have_mean_3_and_deviation_root_3_5(void **state)
{
    (void)state;
    const double w[] = { 1, 2, 3, 6 };
    struct sl_accumulator s;
    struct sl_stats out;
    sl_stats_begin(&s);
    sl_stats_add(&s, SL_F64, w, 4);
    sl_stats_end(&s, &out);
    assert_true(out.mean == 3 && out.min == 1 && out.max == 6);
    assert_true(fabs(out.std - sqrt(3.5)) < 1e-15);
    assert_true(fabs(out.rms - sqrt(12.5)) < 1e-15);
}

static void nothing_finite_gives_zeros_and_a_constant_has_no_deviation(void **state)
{
    (void)state;
    const float bad[] = { NAN, INFINITY, -INFINITY };
    float same[100];
    struct sl_accumulator s;
    struct sl_stats out;
    sl_stats_begin(&s);
    sl_stats_end(&s, &out);
    assert_true(out.count == 0 && out.min == 0 && out.max == 0);
    sl_stats_add(&s, SL_F32, bad, 3);
    sl_stats_end(&s, &out);
    assert_true(out.count == 3 && out.nan == 1 && out.inf == 2);
    assert_true(out.min == 0 && out.max == 0 && out.mean == 0 && out.std == 0 && out.rms == 0);

    for (size_t i = 0; i < 100; i++)
        same[i] = 0.1f;
    sl_stats_begin(&s);
    sl_stats_add(&s, SL_F32, same, 100);
    sl_stats_end(&s, &out);
    assert_true(out.std == 0);
    assert_true(out.mean == (double)0.1f);
}

static void a_histogram_has_every_value_once_and_its_last_bin_is_closed(void **state)
{
    (void)state;
    const float w[] = { 0, 0.5f, 1, 63.5f, 64, NAN, -1, 65 };
    struct sl_histogram h = { .lo = 0, .hi = 64 };
    sl_histogram_add(&h, SL_F32, w, 8);
    assert_int_equal(h.bins[0], 2);
    assert_int_equal(h.bins[1], 1);
    assert_int_equal(h.bins[63], 2);
    struct sl_histogram one = { .lo = 1, .hi = 1 };
    sl_histogram_add(&one, SL_F32, w, 8);
    assert_int_equal(one.bins[0], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_agrees_with_a_naive_loop_on_random_bits),
        cmocka_unit_test(float_types_agree_on_finite_weights),
        cmocka_unit_test(every_sixteen_bit_pattern_is_counted_for_what_it_is),
        cmocka_unit_test(parts_merged_give_what_the_whole_gives),
        cmocka_unit_test(the_four_numbers_1_2_3_6_have_mean_3_and_deviation_root_3_5),
        cmocka_unit_test(nothing_finite_gives_zeros_and_a_constant_has_no_deviation),
        cmocka_unit_test(a_histogram_has_every_value_once_and_its_last_bin_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
