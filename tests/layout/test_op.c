/* test_op.c: arithmetic between two forms of a weight, against numbers that torch gave for
 * `w + 1` and `w - 1` of tensors of each type, and against what must hold for every number. */
#include "../base/testing.h"

#include "base/dtype.h"
#include "layout/op.h"

#include <math.h>
#include <string.h>

static const struct sl_op none = { SL_OP_NONE, 0 }, plus = { SL_OP_ADD, 1 }, minus = { SL_OP_ADD, -1 };

static uint16_t op16(struct sl_op op, enum sl_dtype from, uint16_t in)
{
    uint16_t out = 0xdead;
    assert_true(sl_op_apply(op, from, &in, from, &out, 1));
    return out;
}

static uint32_t op32(struct sl_op op, uint32_t in)
{
    uint32_t out = 0xdeadbeef;
    assert_true(sl_op_apply(op, SL_F32, &in, SL_F32, &out, 1));
    return out;
}

/* 0.1, -0.25, 1/3, 300, -1, 0.001; torch 2.13, torch.tensor([..], dtype=..) + 1 and - 1 */
TEST(sums_are_those_of_torch_in_each_type)
{
    static const uint16_t bf16[][3] = { { 0x3dcd, 0x3f8d, 0xbf66 }, { 0xbe80, 0x3f40, 0xbfa0 }, { 0x3eab, 0x3fab, 0xbf2a },
                                        { 0x4396, 0x4396, 0x4396 }, { 0xbf80, 0x0000, 0xc000 }, { 0x3a83, 0x3f80, 0xbf80 } };
    static const uint16_t f16[][3] = { { 0x2e66, 0x3c66, 0xbb33 }, { 0xb400, 0x3a00, 0xbd00 }, { 0x3555, 0x3d55, 0xb956 },
                                       { 0x5cb0, 0x5cb4, 0x5cac }, { 0xbc00, 0x0000, 0xc000 }, { 0x1419, 0x3c01, 0xbbfe } };
    static const uint32_t f32[][3] = { { 0x3dcccccd, 0x3f8ccccd, 0xbf666666 }, { 0xbe800000, 0x3f400000, 0xbfa00000 },
                                       { 0x3eaaaaab, 0x3faaaaab, 0xbf2aaaaa }, { 0x43960000, 0x43968000, 0x43958000 },
                                       { 0xbf800000, 0x00000000, 0xc0000000 }, { 0x3a83126f, 0x3f8020c5, 0xbf7fbe77 } };
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(op16(plus, SL_BF16, bf16[i][0]), bf16[i][1]);
        assert_int_equal(op16(minus, SL_BF16, bf16[i][0]), bf16[i][2]);
        assert_int_equal(op16(plus, SL_F16, f16[i][0]), f16[i][1]);
        assert_int_equal(op16(minus, SL_F16, f16[i][0]), f16[i][2]);
        assert_int_equal(op32(plus, f32[i][0]), f32[i][1]);
        assert_int_equal(op32(minus, f32[i][0]), f32[i][2]);
    }
}

/* (w + 1).to(bfloat16) of the fp32 numbers above: added as fp32, then rounded */
TEST(the_sum_is_rounded_to_the_target_after_it_was_made)
{
    static const uint32_t in[] = { 0x3dcccccd, 0xbe800000, 0x3eaaaaab, 0x43960000, 0xbf800000, 0x3a83126f };
    static const uint16_t want[] = { 0x3f8d, 0x3f40, 0x3fab, 0x4396, 0x0000, 0x3f80 };
    uint16_t out[6];
    assert_true(sl_op_apply(plus, SL_F32, in, SL_BF16, out, 6));
    assert_memory_equal(out, want, sizeof want);
}

/* For 0.5 <= w <= 2 the difference w - 1 has no more digits than w: so for all such bf16 and fp16 numbers,
 * which is where weights of norms are, the way there and back ends at the same bits. */
TEST(a_weight_between_a_half_and_two_comes_back_as_it_was)
{
    for (uint32_t w = 0x3f00; w <= 0x4000; w++)
        assert_int_equal(op16(plus, SL_BF16, op16(minus, SL_BF16, (uint16_t)w)), w);
    for (uint32_t w = 0x3800; w <= 0x4000; w++)
        assert_int_equal(op16(plus, SL_F16, op16(minus, SL_F16, (uint16_t)w)), w);
}

TEST(what_is_no_number_stays_none)
{
    assert_true(isnan((double)sl_dtype_load(SL_BF16, &(uint16_t){ op16(plus, SL_BF16, 0x7fc0) })));
    assert_int_equal(op16(plus, SL_BF16, 0x7f80), 0x7f80);
    assert_int_equal(op16(minus, SL_F16, 0xfc00), 0xfc00);
}

/* More elements than are widened at a time, at an odd address. */
TEST(every_element_of_a_long_run_is_done)
{
    static unsigned char in[2 * 1700 + 1], out[4 * 1700 + 1];
    float sum;
    for (uint16_t i = 0; i < 1700; i++) {
        const uint16_t w = (uint16_t)(0x3c00 + i);
        memcpy(in + 1 + 2 * i, &w, 2);
    }
    assert_true(sl_op_apply(plus, SL_BF16, in + 1, SL_F32, out + 1, 1700));
    for (uint16_t i = 0; i < 1700; i++) {
        const uint16_t w = (uint16_t)(0x3c00 + i);
        memcpy(&sum, out + 1 + 4 * i, 4);
        const float want = (float)sl_dtype_load(SL_BF16, &w) + 1.0f;
        assert_memory_equal(&sum, &want, 4);
    }
}

TEST(ops_of_two_sides_leave_their_difference)
{
    assert_true(sl_op_same(sl_op_between(none, none), none));
    assert_true(sl_op_same(sl_op_between(plus, plus), none));
    assert_true(sl_op_same(sl_op_between(none, minus), minus));
    assert_true(sl_op_same(sl_op_between(minus, none), plus));
    assert_true(sl_op_same(sl_op_between(plus, minus), (struct sl_op){ SL_OP_ADD, -2 }));
    assert_true(sl_op_same(sl_op_inverse(plus), minus));
    assert_false(sl_op_same(plus, minus));
    assert_false(sl_op_same(plus, none));
}

TEST(nothing_is_added_to_whole_numbers)
{
    const int32_t in = 5;
    int32_t out = 0;
    assert_false(sl_op_can(plus, SL_I32, SL_I32));
    assert_false(sl_op_can(plus, SL_F32, SL_I32));
    assert_true(sl_op_can(none, SL_I32, SL_I32));
    assert_true(sl_op_can(plus, SL_F32, SL_BF16));
    assert_false(sl_op_apply(plus, SL_I32, &in, SL_I32, &out, 1));
    assert_int_equal(out, 0);
}

TEST(an_op_has_words)
{
    char text[32];
    assert_string_equal(sl_op_text(plus, text, sizeof text), "add 1");
    assert_string_equal(sl_op_text(minus, text, sizeof text), "add -1");
    assert_string_equal(sl_op_text(none, text, sizeof text), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(sums_are_those_of_torch_in_each_type),
        ROW(the_sum_is_rounded_to_the_target_after_it_was_made),
        ROW(a_weight_between_a_half_and_two_comes_back_as_it_was),
        ROW(what_is_no_number_stays_none),
        ROW(every_element_of_a_long_run_is_done),
        ROW(ops_of_two_sides_leave_their_difference),
        ROW(nothing_is_added_to_whole_numbers),
        ROW(an_op_has_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
