/* test_dtype.c: the table of element types, decoding and casts. */
#include "testing.h"

#include "base/dtype.h"

#include <math.h>

TEST(every_type_has_a_name_of_its_own_and_is_found_by_it)
{
    for (int d = 1; d < SL_DTYPE_COUNT; d++) {
        const struct sl_dtype_row *row = sl_dtype_row((enum sl_dtype)d);
        assert_non_null(row->name);
        assert_true(row->size > 0);
        assert_int_equal(sl_dtype_from_name(row->name), d);
        assert_int_equal(sl_dtype_from_torch(row->torch, strlen(row->torch)), d);
        if (row->safetensors)
            assert_int_equal(
                sl_dtype_from_safetensors(row->safetensors, strlen(row->safetensors)), d);
        if (row->storage)
            assert_int_equal(sl_dtype_from_storage(row->storage, strlen(row->storage)), d);
    }
}

TEST(sizes_and_names_are_those_of_torch)
{
    assert_int_equal(sl_dtype_size(SL_BF16), 2);
    assert_int_equal(sl_dtype_size(SL_C128), 16);
    assert_string_equal(sl_dtype_name(SL_BF16), "bf16");
    assert_string_equal(sl_dtype_row(SL_F8_E4M3)->torch, "float8_e4m3fn");
    assert_string_equal(sl_dtype_row((enum sl_dtype)999)->name, "unknown");
    assert_int_equal(sl_dtype_size(SL_DTYPE_UNKNOWN), 0);
}

TEST(people_may_write_a_type_in_several_ways)
{
    assert_int_equal(sl_dtype_from_name("float32"), SL_F32);
    assert_int_equal(sl_dtype_from_name("F32"), SL_F32);
    assert_int_equal(sl_dtype_from_name("half"), SL_F16);
    assert_int_equal(sl_dtype_from_name("bfloat16"), SL_BF16);
    assert_int_equal(sl_dtype_from_name("BF16"), SL_BF16);
    assert_int_equal(sl_dtype_from_name("bf17"), SL_DTYPE_UNKNOWN);
    assert_int_equal(sl_dtype_from_name(""), SL_DTYPE_UNKNOWN);
}

TEST(names_in_files_are_matched_exactly)
{
    assert_int_equal(sl_dtype_from_safetensors("bf16", 4), SL_DTYPE_UNKNOWN);
    assert_int_equal(sl_dtype_from_safetensors("BF16X", 5), SL_DTYPE_UNKNOWN);
    assert_int_equal(sl_dtype_from_safetensors("BF16X", 4), SL_BF16);
    assert_int_equal(sl_dtype_from_safetensors("", 0), SL_DTYPE_UNKNOWN);
    assert_int_equal(sl_dtype_from_storage("HalfStorage", 11), SL_F16);
    assert_int_equal(sl_dtype_from_torch("half", 4), SL_F16);
}

static double load8(enum sl_dtype dtype, unsigned char byte)
{
    return sl_dtype_load(dtype, &byte);
}

TEST(eight_bit_floats_are_decoded)
{
    assert_true(load8(SL_F8_E4M3, 0x38) == 1.0);
    assert_true(load8(SL_F8_E4M3, 0x7e) == 448.0);
    assert_true(load8(SL_F8_E4M3, 0x01) == 0.001953125);
    assert_true(load8(SL_F8_E4M3, 0xb8) == -1.0);
    assert_true(isnan(load8(SL_F8_E4M3, 0x7f)) && isnan(load8(SL_F8_E4M3, 0xff)));
    assert_true(load8(SL_F8_E5M2, 0x3c) == 1.0);
    assert_true(load8(SL_F8_E5M2, 0x7b) == 57344.0);
    assert_true(isinf(load8(SL_F8_E5M2, 0x7c)) && isnan(load8(SL_F8_E5M2, 0x7d)));
    assert_true(load8(SL_F8_E5M2, 0xfc) < 0);
    assert_true(load8(SL_F8_E4M3FNUZ, 0x40) == 1.0);
    assert_true(load8(SL_F8_E4M3FNUZ, 0x7f) == 240.0);
    assert_true(isnan(load8(SL_F8_E4M3FNUZ, 0x80)));
    assert_true(load8(SL_F8_E5M2FNUZ, 0x40) == 1.0);
    assert_true(load8(SL_F8_E5M2FNUZ, 0x7f) == 57344.0);
    assert_true(load8(SL_F8_E8M0, 127) == 1.0);
    assert_true(load8(SL_F8_E8M0, 0) == ldexp(1.0, -127));
    assert_true(isnan(load8(SL_F8_E8M0, 255)));
}

TEST(four_bit_pairs_give_their_low_half)
{
    static const double values[16] = { 0, 0.5, 1, 1.5, 2, 3, 4, 6,
                                       -0.0, -0.5, -1, -1.5, -2, -3, -4, -6 };
    for (unsigned i = 0; i < 16; i++)
        assert_true(load8(SL_F4_E2M1X2, (unsigned char)(0xf0 | i)) == values[i]);
}

TEST(integers_are_decoded_with_their_sign)
{
    const unsigned char ones[16] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    assert_true(sl_dtype_load(SL_I64, ones) == -1.0);
    assert_true(sl_dtype_load(SL_I32, ones) == -1.0);
    assert_true(sl_dtype_load(SL_QINT32, ones) == -1.0);
    assert_true(sl_dtype_load(SL_I16, ones) == -1.0);
    assert_true(sl_dtype_load(SL_I8, ones) == -1.0);
    assert_true(sl_dtype_load(SL_QINT8, ones) == -1.0);
    assert_true(sl_dtype_load(SL_U64, ones) == 18446744073709551616.0);
    assert_true(sl_dtype_load(SL_U32, ones) == 4294967295.0);
    assert_true(sl_dtype_load(SL_U16, ones) == 65535.0);
    assert_true(sl_dtype_load(SL_U8, ones) == 255.0);
    assert_true(sl_dtype_load(SL_BOOL, ones) == 1.0);
    assert_true(sl_dtype_load(SL_DTYPE_UNKNOWN, ones) == 0.0);
}

TEST(complex_numbers_give_their_real_part)
{
    const float pair[2] = { 1.5f, 9.0f };
    const double wide[2] = { -2.25, 9.0 };
    assert_true(sl_dtype_load(SL_C64, pair) == 1.5);
    assert_true(sl_dtype_load(SL_C128, wide) == -2.25);
}

static uint16_t to16(float f, enum sl_dtype to)
{
    uint16_t out = 0xdead;
    assert_true(sl_dtype_cast(SL_F32, &f, to, &out, 1));
    return out;
}

static float from16(uint16_t h, enum sl_dtype from)
{
    float f = 0;
    assert_true(sl_dtype_cast(from, &h, SL_F32, &f, 1));
    return f;
}

TEST(every_half_survives_the_way_to_fp32_and_back)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float f = from16((uint16_t)h, SL_F16);
        const uint16_t back = to16(f, SL_F16);
        if ((h & 0x7fff) > 0x7c00)
            assert_true(isnan(f) && (back & 0x7fff) > 0x7c00);
        else
            assert_int_equal(back, h);
    }
}

TEST(halves_have_the_values_of_ieee_754)
{
    assert_true(from16(0x3c00, SL_F16) == 1.0f);
    assert_true(from16(0x7bff, SL_F16) == 65504.0f);
    assert_true((double)from16(0x0001, SL_F16) == ldexp(1.0, -24));
    assert_true((double)from16(0x03ff, SL_F16) == 1023 * ldexp(1.0, -24));
    assert_true(isinf(from16(0x7c00, SL_F16)) && from16(0xfc00, SL_F16) < 0);
    for (unsigned h = 0; h < 0x7c00; h++) {
        const unsigned e = h >> 10, m = h & 0x3ff;
        const double v = e ? ldexp(m + 1024.0, (int)e - 25) : ldexp(m, -24);
        assert_true((double)from16((uint16_t)h, SL_F16) == v);
    }
}

TEST(fp32_rounds_to_the_nearest_half_and_ties_to_even)
{
    /* halfway points between neighbours, and one step to either side */
    for (uint32_t h = 0; h + 1 < 0x7c00; h++) {
        const double low = (double)from16((uint16_t)h, SL_F16);
        const double high = (double)from16((uint16_t)(h + 1), SL_F16);
        const float middle = (float)((low + high) / 2);
        const uint16_t even = (uint16_t)(h & 1 ? h + 1 : h);
        assert_int_equal(to16(middle, SL_F16), even);
        assert_int_equal(to16(nextafterf(middle, 0), SL_F16), h);
        assert_int_equal(to16(nextafterf(middle, INFINITY), SL_F16), h + 1);
        assert_int_equal(to16(-middle, SL_F16), even | 0x8000);
    }
}

TEST(what_is_too_large_for_a_half_becomes_infinity)
{
    assert_int_equal(to16(65519.996f, SL_F16), 0x7bff);
    assert_int_equal(to16(65520.0f, SL_F16), 0x7c00);
    assert_int_equal(to16(-3e38f, SL_F16), 0xfc00);
    assert_int_equal(to16(INFINITY, SL_F16), 0x7c00);
    assert_int_equal(to16(1e-10f, SL_F16), 0);
    assert_int_equal(to16(-1e-10f, SL_F16), 0x8000);
}

TEST(fp32_rounds_to_the_nearest_bf16_and_ties_to_even)
{
    for (uint32_t h = 0; h < 0x7f80; h++) {
        const uint32_t middle_bits = h << 16 | 0x8000;
        float middle;
        memcpy(&middle, &middle_bits, 4);
        const uint16_t even = (uint16_t)(h & 1 ? h + 1 : h);
        assert_int_equal(to16(middle, SL_BF16), even);
        assert_int_equal(to16(nextafterf(middle, 0), SL_BF16), h);
        assert_int_equal(to16(nextafterf(middle, INFINITY), SL_BF16), h + 1);
    }
    assert_int_equal(to16(3.4e38f, SL_BF16), 0x7f80);
}

TEST(every_bf16_survives_the_way_to_fp32_and_back)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        const uint16_t back = to16(from16((uint16_t)h, SL_BF16), SL_BF16);
        if ((h & 0x7fff) > 0x7f80)
            assert_true((back & 0x7fff) > 0x7f80);
        else
            assert_int_equal(back, h);
    }
}

TEST(a_nan_stays_a_nan_whatever_its_bits)
{
    static const uint32_t nans[] = { 0x7f800001, 0x7fc00000, 0x7fffffff, 0xff800001, 0xffffffff };
    for (size_t i = 0; i < 5; i++) {
        float f;
        memcpy(&f, &nans[i], 4);
        assert_true((to16(f, SL_F16) & 0x7fff) > 0x7c00);
        assert_true((to16(f, SL_BF16) & 0x7fff) > 0x7f80);
        double d;
        assert_true(sl_dtype_cast(SL_F32, &f, SL_F64, &d, 1));
        assert_true(isnan(d));
    }
}

TEST(all_pairs_of_floats_cast_and_whole_arrays_agree_with_single_elements)
{
    enum { COUNT = 1031 };
    static const enum sl_dtype kinds[] = { SL_F64, SL_F32, SL_F16, SL_BF16 };
    double source[COUNT], in[COUNT], out[COUNT], one;
    for (int i = 0; i < COUNT; i++)
        source[i] = ldexp(i - 500.25, i % 23 - 11);
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 4; b++) {
            assert_true(sl_dtype_cast(SL_F64, source, kinds[a], in, COUNT));
            assert_true(sl_dtype_cast(kinds[a], in, kinds[b], out, COUNT));
            const size_t from = sl_dtype_size(kinds[a]), to = sl_dtype_size(kinds[b]);
            for (size_t i = 0; i < COUNT; i++) {
                assert_true(sl_dtype_cast(kinds[a], (char *)in + i * from, kinds[b], &one, 1));
                assert_memory_equal(&one, (char *)out + i * to, to);
            }
        }
}

TEST(a_cast_works_at_odd_addresses)
{
    unsigned char in[2 * 5 + 1], out[4 * 5 + 1];
    for (int i = 0; i < 5; i++) {
        in[1 + 2 * i] = 0x80;
        in[2 + 2 * i] = 0x3f;
    }
    assert_true(sl_dtype_cast(SL_BF16, in + 1, SL_F32, out + 1, 5));
    for (int i = 0; i < 5; i++)
        assert_true(sl_dtype_load(SL_F32, out + 1 + 4 * i) == 1.0);
}

TEST(integers_are_not_cast)
{
    uint64_t in = 1, out = 1;
    assert_false(sl_dtype_cast(SL_I32, &in, SL_F32, &out, 1));
    assert_false(sl_dtype_cast(SL_F32, &in, SL_F8_E4M3, &out, 1));
    assert_false(sl_dtype_cast(SL_DTYPE_UNKNOWN, &in, SL_F32, &out, 1));
    assert_true(sl_dtype_cast(SL_F32, NULL, SL_F32, NULL, 0));
}

TEST(swapping_turns_each_element_and_each_half_of_a_complex)
{
    unsigned char b[16];
    for (unsigned i = 0; i < 16; i++)
        b[i] = (unsigned char)i;
    sl_dtype_swap(SL_F16, b, 8);
    assert_memory_equal(b, "\1\0\3\2\5\4\7\6\11\10\13\12\15\14\17\16", 16);
    sl_dtype_swap(SL_F16, b, 8);
    sl_dtype_swap(SL_C64, b, 2);
    assert_memory_equal(b, "\3\2\1\0\7\6\5\4\13\12\11\10\17\16\15\14", 16);
    sl_dtype_swap(SL_C64, b, 2);
    sl_dtype_swap(SL_F64, b, 2);
    assert_memory_equal(b, "\7\6\5\4\3\2\1\0\17\16\15\14\13\12\11\10", 16);
    sl_dtype_swap(SL_U8, b, 16);
    assert_int_equal(b[0], 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(every_type_has_a_name_of_its_own_and_is_found_by_it),
        ROW(sizes_and_names_are_those_of_torch),
        ROW(people_may_write_a_type_in_several_ways),
        ROW(names_in_files_are_matched_exactly),
        ROW(eight_bit_floats_are_decoded),
        ROW(four_bit_pairs_give_their_low_half),
        ROW(integers_are_decoded_with_their_sign),
        ROW(complex_numbers_give_their_real_part),
        ROW(every_half_survives_the_way_to_fp32_and_back),
        ROW(halves_have_the_values_of_ieee_754),
        ROW(fp32_rounds_to_the_nearest_half_and_ties_to_even),
        ROW(what_is_too_large_for_a_half_becomes_infinity),
        ROW(fp32_rounds_to_the_nearest_bf16_and_ties_to_even),
        ROW(every_bf16_survives_the_way_to_fp32_and_back),
        ROW(a_nan_stays_a_nan_whatever_its_bits),
        ROW(all_pairs_of_floats_cast_and_whole_arrays_agree_with_single_elements),
        ROW(a_cast_works_at_odd_addresses),
        ROW(integers_are_not_cast),
        ROW(swapping_turns_each_element_and_each_half_of_a_complex),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
