/* testing.h: what the tests of every room share: cmocka, sentences, a folder.
 *
 *     TEST(a_file_that_ends_early_is_refused)
 *     {
 *         ...
 *     }
 *
 *     int main(void)
 *     {
 *         const struct CMUnitTest tests[] = { ROW(a_file_that_ends_early_is_refused) };
 *         return cmocka_run_group_tests(tests, NULL, NULL);
 *     }
 */
#ifndef SL_TESTS_TESTING_H
#define SL_TESTS_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEST(name) static void name(void **state __attribute__((unused)))
#define ROW(name) cmocka_unit_test(name)

/* The message of a failure holds these words; shows it when it does not. */
#define assert_says(err, words)                                                          \
    do {                                                                                 \
        if (!strstr((err).message, (words)))                                             \
            fail_msg("\"%s\" does not say \"%s\"", (err).message, (words));              \
    } while (0)

/* A new empty folder for one test; `out` holds its path. */
static inline const char *new_folder(char *out, size_t room)
{
    const char *base = getenv("TMPDIR");
    snprintf(out, room, "%s/shardlens-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(out))
        fail_msg("no folder can be made at %s", out);
    return out;
}

static inline void write_text(const char *path, const void *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, len, f) != len || fclose(f))
        fail_msg("%s can't be written", path);
}

#endif
