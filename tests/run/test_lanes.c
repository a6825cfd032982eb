/* The text of lanes.h at the widths of NEON, AVX2 and AVX-512, with loads that any processor has: what each comes to is what the plain loop comes to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* a copy of stats.c of this test's own, whose parts it can call */
#define sl_stats_begin lanes_begin
#define sl_stats_merge lanes_merge
#define sl_stats_end lanes_end
#define sl_stats_has lanes_has
#define sl_stats_add_as lanes_add_as
#define sl_stats_add lanes_add_best
#define sl_histogram_add lanes_histogram
#include "run/stats.c"

#pragma GCC diagnostic ignored "-Wpsabi"      /* vectors are given from inline function to inline function, never over an ABI */

#include <stdlib.h>

static void to_doubles(double *out, size_t n, enum sl_dtype dtype, const unsigned char *p)
{
    for (size_t i = 0; i < n; i++)
        out[i] = sl_dtype_load(dtype, p + i * sl_dtype_size(dtype));
}

typedef double doubles_2 __attribute__((vector_size(16)));
typedef double doubles_4 __attribute__((vector_size(32)));
typedef double doubles_8 __attribute__((vector_size(64)));

#define LOAD(width, name, dtype)                                                                                             \
    static inline __attribute__((always_inline)) doubles_##width load_##name##_any##width(const unsigned char *p)            \
    {                                                                                                                        \
        doubles_##width x;                                                                                                   \
        to_doubles((double *)&x, width, dtype, p);                                                                           \
        return x;                                                                                                            \
    }
#define LOADS(width) LOAD(width, bf16, SL_BF16) LOAD(width, f16, SL_F16) LOAD(width, f32, SL_F32)
LOADS(2)
LOADS(4)
LOADS(8)

#define ISA
#define FORM any2
#define N 2
#include "run/lanes.h"
#define ISA
#define FORM any4
#define N 4
#include "run/lanes.h"
#define ISA
#define FORM any8
#define N 8
#include "run/lanes.h"

#define MANY 20011    /* odd, several blocks */

static uint64_t seed = 20261124;
static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void check(enum sl_dtype dtype, const unsigned char *p, size_t count)
{
    block_fn *const forms[] = { form_any2(dtype), form_any4(dtype), form_any8(dtype) };
    struct sl_accumulator plain;
    sl_stats_begin(&plain);
    add_blocks(&plain, dtype, NULL, p, count);
    for (size_t k = 0; k < 3; k++) {
        struct sl_accumulator s;
        assert_non_null(forms[k]);
        sl_stats_begin(&s);
        add_blocks(&s, dtype, forms[k], p, count);
        assert_memory_equal(&s, &plain, sizeof s);
    }
}

static const enum sl_dtype floats[] = { SL_F64, SL_F32, SL_F16, SL_BF16 };

static void every_width_comes_to_the_bits_of_the_plain_loop_on_weights(void **state)
{
    (void)state;
    float *w = malloc(MANY * sizeof *w);
    unsigned char *p = malloc(MANY * 8);
    for (size_t i = 0; i < MANY; i++)
        w[i] = next_random() % 50 == 0 ? 0 : (float)((double)(next_random() >> 11) / 9007199254740992.0 - 0.5);
    for (size_t d = 0; d < 4; d++) {
        sl_dtype_cast(SL_F32, w, floats[d], p, MANY);
        check(floats[d], p, MANY);
        for (size_t count = 0; count < 130; count++)
            check(floats[d], p + 7 * sl_dtype_size(floats[d]), count);
    }
    free(p);
    free(w);
}

/* Few blocks without a NaN, but each kind of block: the exponents are thinned out until some are. */
static void every_width_leaves_blocks_with_a_nan_or_infinity_to_the_plain_loop(void **state)
{
    (void)state;
    unsigned char *p = malloc(MANY * 8);
    for (size_t d = 0; d < 4; d++) {
        for (size_t i = 0; i < MANY * 8; i += 8) {
            const uint64_t r = next_random() & UINT64_C(0xbfffbfffbfffbfff);
            memcpy(p + i, &r, 8);
        }
        check(floats[d], p, MANY);
        const uint32_t size = sl_dtype_size(floats[d]);
        for (size_t at = 0; at < 40; at++) {           /* one special value at each place of a turn */
            unsigned char before[8];
            memcpy(before, p + at * size, size);
            memset(p + at * size, 0xff, size);
            check(floats[d], p, 4096);
            memcpy(p + at * size, before, size);
        }
        struct lanes t = { 0 };
        memset(p + 31 * size, 0xff, size);
        assert_false(form_any2(floats[d])(&t, p, 32));
        assert_false(form_any4(floats[d])(&t, p, 32));
        assert_false(form_any8(floats[d])(&t, p, 32));
    }
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_comes_to_the_bits_of_the_plain_loop_on_weights),
        cmocka_unit_test(every_width_leaves_blocks_with_a_nan_or_infinity_to_the_plain_loop),
    };
    return cmocka_run_group_tests_name("run/lanes", tests, NULL, NULL);
}
