/* test_text.c: buffers, printable text, numbers for people, globs, order. */
#include "testing.h"

#include "base/text.h"

#include <time.h>

static const char *shown(const char *s, size_t len)
{
    static char out[256];
    return sl_text_printable(s, len, out, sizeof out);
}
#define SHOWN(literal) shown(literal, sizeof(literal) - 1)

TEST(a_buffer_grows_and_stays_terminated)
{
    struct sl_buf b = { 0 };
    for (int i = 0; i < 1000; i++)
        sl_buf_printf(&b, "%d,", i);
    sl_buf_char(&b, '!');
    assert_false(b.failed);
    assert_int_equal(b.len, 3891);
    assert_int_equal(strlen(b.data), b.len);
    assert_true(sl_text_ends(b.data, "999,!"));
    sl_buf_clear(&b);
    assert_string_equal(b.data, "");
    sl_buf_add(&b, NULL, 0);
    assert_int_equal(b.len, 0);
    sl_buf_free(&b);
}

TEST(an_impossible_size_fails_and_the_failure_sticks)
{
    struct sl_buf b = { 0 };
    sl_buf_str(&b, "abc");
    b.len = SIZE_MAX - 1;
    sl_buf_char(&b, 'x');
    assert_true(b.failed);
    b.len = 3;
    sl_buf_char(&b, 'x');
    assert_true(b.failed);
    assert_int_equal(b.len, 3);
    sl_buf_free(&b);
}

TEST(plain_text_and_utf8_stay_as_they_are)
{
    assert_string_equal(SHOWN("model.layers.0.weight"), "model.layers.0.weight");
    assert_string_equal(SHOWN("gr\xc3\xb6\xc3\x9f" "e \xe5\xb1\x82 \xf0\x9f\xa4\x97"),
                        "gr\xc3\xb6\xc3\x9f" "e \xe5\xb1\x82 \xf0\x9f\xa4\x97");
}

TEST(escape_sequences_are_made_visible)
{
    assert_string_equal(SHOWN("\x1b[2J"), "\\x1b[2J");
    assert_string_equal(SHOWN("a\nb\tc\rd\0e"), "a\\x0ab\\x09c\\x0dd\\x00e");
    assert_string_equal(SHOWN("\x7f"), "\\x7f");
}

TEST(c1_controls_are_made_visible_as_bytes_and_as_utf8)
{
    assert_string_equal(SHOWN("\x9b" "31m"), "\\x9b31m");
    assert_string_equal(SHOWN("\xc2\x9b" "31m"), "\\u{009b}31m");
}

TEST(bidi_controls_and_line_separators_are_made_visible)
{
    assert_string_equal(SHOWN("a\xe2\x80\xae" "b"), "a\\u{202e}b");
    assert_string_equal(SHOWN("\xe2\x81\xa6\xe2\x80\xa8\xd8\x9c"),
                        "\\u{2066}\\u{2028}\\u{061c}");
}

TEST(broken_utf8_is_made_visible_byte_by_byte)
{
    assert_string_equal(SHOWN("\xff\xfe"), "\\xff\\xfe");
    assert_string_equal(SHOWN("\xc0\xaf"), "\\xc0\\xaf");                  /* overlong    */
    assert_string_equal(SHOWN("\xed\xa0\x80"), "\\xed\\xa0\\x80");         /* surrogate   */
    assert_string_equal(SHOWN("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80"); /* > U+10FFFF */
    assert_string_equal(SHOWN("\xe5\xb1"), "\\xe5\\xb1");                  /* cut         */
}

TEST(text_is_cut_between_characters)
{
    char out[6];
    assert_string_equal(sl_text_printable("abcdefgh", 8, out, sizeof out), "abcde");
    assert_string_equal(sl_text_printable("abc\xe5\xb1\x82", 6, out, sizeof out), "abc");
    assert_string_equal(sl_text_printable("abc\x1b", 4, out, sizeof out), "abc");
    out[0] = 'x';
    sl_text_printable("abc", 3, out, 0);
    assert_int_equal(out[0], 'x');
}

TEST(what_was_made_printable_is_printable)
{
    /* every pair of bytes */
    for (int a = 0; a < 256; a++)
        for (int b = 0; b < 256; b++) {
            const char pair[2] = { (char)a, (char)b };
            const char *s = shown(pair, 2);
            assert_true(sl_text_is_printable(s, strlen(s)));
            if (sl_text_is_printable(pair, 2))
                assert_memory_equal(s, pair, 2);
        }
}

TEST(a_buffer_takes_printable_text_too)
{
    struct sl_buf b = { 0 };
    sl_buf_printable(&b, "\x1bx", 2);
    assert_string_equal(b.data, "\\x1bx");
    sl_buf_free(&b);
}

TEST(bytes_are_shown_with_three_digits)
{
    static const struct { uint64_t n; const char *text; } rows[] = {
        { 0, "0 B" },
        { 999, "999 B" },
        { 1000, "1.00 KB" },
        { 9994, "9.99 KB" },
        { 9995, "10.0 KB" },
        { 99949, "99.9 KB" },
        { 99950, "100 KB" },
        { 999499, "999 KB" },
        { 999500, "1.00 MB" },
        { 12300000000, "12.3 GB" },
        { 434000000, "434 MB" },
        { UINT64_MAX, "18.4 EB" },
    };
    char out[16];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_string_equal(sl_text_bytes(rows[i].n, out, sizeof out), rows[i].text);
        assert_true(strlen(out) <= 9);
    }
}

TEST(counts_of_parameters_are_shown_as_people_say_them)
{
    char out[16];
    assert_string_equal(sl_text_count(8030261248, out, sizeof out), "8.03 B");
    assert_string_equal(sl_text_count(434000000, out, sizeof out), "434 M");
    assert_string_equal(sl_text_count(17, out, sizeof out), "17");
    assert_string_equal(sl_text_grouped(1234567, out, sizeof out), "1,234,567");
    assert_string_equal(sl_text_grouped(999, out, sizeof out), "999");
}

TEST(shapes_are_shown_as_torch_prints_them)
{
    const int64_t shape[] = { 4096, 11008 };
    char out[32];
    assert_string_equal(sl_text_shape(shape, 2, out, sizeof out), "[4096, 11008]");
    assert_string_equal(sl_text_shape(shape, 0, out, sizeof out), "[]");
    char small[8];
    assert_string_equal(sl_text_shape(shape, 2, small, sizeof small), "[4096, ");
}

TEST(sizes_are_read_with_decimal_and_binary_units)
{
    static const struct { const char *text; uint64_t bytes; } rows[] = {
        { "1000", 1000 },
        { "0", 0 },
        { "5GB", 5000000000 },
        { "500MB", 500000000 },
        { "64MiB", 67108864 },
        { "2k", 2000 },
        { "1.5GB", 1500000000 },
        { "0.5KiB", 512 },
        { "3TiB", 3298534883328 },
        { "18446744073709551615", UINT64_MAX },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t n = 1;
        assert_true(sl_text_parse_size(rows[i].text, &n));
        assert_true(n == rows[i].bytes);
    }
}

TEST(what_is_no_size_is_refused)
{
    static const char *const wrong[] = { "",    "GB",   "-1",   "1 GB", "1.GB", "1.5", "1..5G",
                                         "1e9", "5GBs", "0x10", " 5",   "18446744073709551616",
                                         "18446744073709551615KB", "99999999TiB", "1.0000000001GB" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint64_t n = 77;
        if (sl_text_parse_size(wrong[i], &n))
            fail_msg("\"%s\" was taken for a size", wrong[i]);
        assert_int_equal(n, 77);
    }
}

TEST(integers_are_read_whole_or_not_at_all)
{
    int64_t v;
    assert_true(sl_text_parse_i64("-9223372036854775808", &v) && v == INT64_MIN);
    assert_true(sl_text_parse_i64("9223372036854775807", &v) && v == INT64_MAX);
    assert_true(sl_text_parse_i64("007", &v) && v == 7);
    assert_false(sl_text_parse_i64("9223372036854775808", &v));
    assert_false(sl_text_parse_i64("", &v));
    assert_false(sl_text_parse_i64("-", &v));
    assert_false(sl_text_parse_i64("+1", &v));
    assert_false(sl_text_parse_i64("1 ", &v));
    assert_false(sl_text_parse_i64(" 1", &v));
}

TEST(globs_match_like_a_shell)
{
    assert_true(sl_text_glob("*.mlp.*", "model.layers.3.mlp.up_proj.weight"));
    assert_true(sl_text_glob("*norm*", "final_norm"));
    assert_true(sl_text_glob("layers.?.weight", "layers.3.weight"));
    assert_false(sl_text_glob("layers.?.weight", "layers.31.weight"));
    assert_true(sl_text_glob("layers.[0-3].*", "layers.2.x"));
    assert_false(sl_text_glob("layers.[!0-3].*", "layers.2.x"));
    assert_true(sl_text_glob("[]]", "]"));
    assert_true(sl_text_glob("[a", "[a"));
    assert_true(sl_text_glob("\\*", "*"));
    assert_false(sl_text_glob("\\*", "x"));
    assert_true(sl_text_glob("", ""));
    assert_true(sl_text_glob("***", ""));
    assert_false(sl_text_glob("a", ""));
    assert_false(sl_text_glob("", "a"));
}

TEST(a_glob_of_many_stars_ends_soon)
{
    char text[4001], pattern[130];
    memset(text, 'a', 4000);
    text[4000] = '\0';
    for (int i = 0; i < 128; i += 2) {
        pattern[i] = '*';
        pattern[i + 1] = 'a';
    }
    pattern[128] = 'b';
    pattern[129] = '\0';
    assert_false(sl_text_glob(pattern, text));
}

TEST(layer_2_comes_before_layer_10)
{
    assert_true(sl_text_natural("layers.2.x", "layers.10.x") < 0);
    assert_true(sl_text_natural("layers.10.x", "layers.2.x") > 0);
    assert_true(sl_text_natural("mp_rank_00_001", "mp_rank_00_010") < 0);
    assert_int_equal(sl_text_natural("a1", "a1"), 0);
    assert_true(sl_text_natural("a", "a1") < 0);
    assert_true(sl_text_natural("a01", "a1") < 0);
    assert_true(sl_text_natural("a1", "a01") > 0);
    assert_true(sl_text_natural("a0", "a") > 0);
    assert_true(sl_text_natural("9999999999999999999999998", "9999999999999999999999999") < 0);
    assert_true(sl_text_natural("\xc3\xa4", "z") > 0);
}

TEST(natural_order_is_an_order)
{
    static const char *const names[] = { "", "0", "00", "1", "01", "1a", "a", "a0", "a00", "a1",
                                         "a01b", "a1b", "a10", "a2", "b" };
    enum { N = sizeof names / sizeof *names };
    for (int a = 0; a < N; a++)
        for (int b = 0; b < N; b++) {
            const int ab = sl_text_natural(names[a], names[b]);
            assert_int_equal(ab, -sl_text_natural(names[b], names[a]));
            assert_true((ab == 0) == (a == b));
            for (int c = 0; c < N; c++)
                if (ab < 0 && sl_text_natural(names[b], names[c]) < 0)
                    assert_true(sl_text_natural(names[a], names[c]) < 0);
        }
}

TEST(a_typing_mistake_is_one_step_away)
{
    assert_int_equal(sl_text_distance("convert", "convert"), 0);
    assert_int_equal(sl_text_distance("covnert", "convert"), 1);
    assert_int_equal(sl_text_distance("inspct", "inspect"), 1);
    assert_int_equal(sl_text_distance("", "abc"), 3);
    assert_int_equal(sl_text_distance("kitten", "sitting"), 3);
    char long_text[200];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[199] = '\0';
    assert_int_equal(sl_text_distance(long_text, ""), 64);
}

TEST(starts_and_ends)
{
    assert_true(sl_text_starts("mp_rank_00", "mp_rank_"));
    assert_false(sl_text_starts("mp", "mp_rank_"));
    assert_true(sl_text_ends("a.safetensors", ".safetensors"));
    assert_false(sl_text_ends("s", ".safetensors"));
    assert_true(sl_text_ends("x", ""));
}

TEST(a_time_is_local_or_in_utc)
{
    char out[32];
    setenv("TZ", "UTC-2", 1);                 /* two hours east */
    tzset();
    assert_string_equal(sl_text_time(1764012662, true, out, sizeof out), "2025-11-24T19:31:02Z");
    assert_string_equal(sl_text_time(1764012662, false, out, sizeof out), "2025-11-24 21:31:02");
    assert_string_equal(sl_text_time(0, true, out, sizeof out), "1970-01-01T00:00:00Z");
    assert_string_equal(sl_text_time(INT64_MAX, true, out, sizeof out), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(a_time_is_local_or_in_utc),
        ROW(a_buffer_grows_and_stays_terminated),
        ROW(an_impossible_size_fails_and_the_failure_sticks),
        ROW(plain_text_and_utf8_stay_as_they_are),
        ROW(escape_sequences_are_made_visible),
        ROW(c1_controls_are_made_visible_as_bytes_and_as_utf8),
        ROW(bidi_controls_and_line_separators_are_made_visible),
        ROW(broken_utf8_is_made_visible_byte_by_byte),
        ROW(text_is_cut_between_characters),
        ROW(what_was_made_printable_is_printable),
        ROW(a_buffer_takes_printable_text_too),
        ROW(bytes_are_shown_with_three_digits),
        ROW(counts_of_parameters_are_shown_as_people_say_them),
        ROW(shapes_are_shown_as_torch_prints_them),
        ROW(sizes_are_read_with_decimal_and_binary_units),
        ROW(what_is_no_size_is_refused),
        ROW(integers_are_read_whole_or_not_at_all),
        ROW(globs_match_like_a_shell),
        ROW(a_glob_of_many_stars_ends_soon),
        ROW(layer_2_comes_before_layer_10),
        ROW(natural_order_is_an_order),
        ROW(a_typing_mistake_is_one_step_away),
        ROW(starts_and_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
