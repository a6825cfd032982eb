/* test_sha256.c: the examples of FIPS 180-4, and every length around a block against a second
 * reading of the same bytes in small steps. */
#include "testing.h"
#include "sha256.h"

#include "base/sha256.h"

static void hashes_to(const void *bytes, size_t len, const char *want)
{
    struct sl_sha256 s;
    char hex[65];
    sl_sha256_begin(&s);
    sl_sha256_add(&s, bytes, len);
    sl_sha256_end(&s, hex);
    assert_string_equal(hex, want);
}

TEST(the_examples_of_the_standard_are_right)
{
    hashes_to("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hashes_to("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hashes_to("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(every_length_and_step_gives_the_same)
{
    unsigned char bytes[300];
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 37 + 11);
    for (size_t len = 0; len < sizeof bytes; len++) {
        char want[65], hex[65];
        struct sl_sha256 s;
        sha256_hex(bytes, len, want);        /* the tests' own */
        hashes_to(bytes, len, want);
        sl_sha256_begin(&s);
        for (size_t at = 0, step = 1; at < len; at += step, step = step % 90 + 7)
            sl_sha256_add(&s, bytes + at, step < len - at ? step : len - at);
        sl_sha256_end(&s, hex);
        assert_string_equal(hex, want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { ROW(the_examples_of_the_standard_are_right), ROW(every_length_and_step_gives_the_same) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
