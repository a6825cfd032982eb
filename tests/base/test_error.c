/* test_error.c: a failure is one line, printable, and carries its code. */
#include "testing.h"

#include "base/error.h"

#include <errno.h>

TEST(a_failure_keeps_code_place_and_sentence)
{
    struct sl_error err = { 0 };
    assert_int_equal(sl_fail(&err, SL_INPUT, "mp_rank_00/x.pt", "%d found, %d expected", 3, 4),
                     SL_INPUT);
    assert_int_equal(err.code, SL_INPUT);
    assert_string_equal(err.where, "mp_rank_00/x.pt");
    assert_string_equal(err.message, "3 found, 4 expected");
}

TEST(without_a_record_the_code_still_comes_back)
{
    assert_int_equal(sl_fail(NULL, SL_USAGE, NULL, "%s", "x"), SL_USAGE);
    errno = ENOSPC;
    assert_int_equal(sl_fail_errno(NULL, SL_INPUT, NULL, "x"), SL_WRITE);
    assert_int_equal(sl_fail_memory(NULL, 1), SL_MEMORY);
}

TEST(names_from_files_can_not_reach_the_terminal)
{
    struct sl_error err;
    sl_fail(&err, SL_INPUT, "a\x1b]0;b\a", "tensor \"%s\"", "\xe2\x80\xae\n");
    assert_string_equal(err.where, "a\\x1b]0;b\\x07");
    assert_string_equal(err.message, "tensor \"\\u{202e}\\x0a\"");
}

TEST(a_place_may_be_missing_and_a_message_may_be_long)
{
    struct sl_error err;
    char text[5000];
    memset(text, 'm', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    sl_fail(&err, SL_INPUT, NULL, "%s", text);
    assert_string_equal(err.where, "");
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

TEST(a_system_call_tells_its_reason)
{
    struct sl_error err;
    errno = EACCES;
    assert_int_equal(sl_fail_errno(&err, SL_INPUT, "f", "open"), SL_INPUT);
    assert_string_equal(err.message, "open: Permission denied");
}

TEST(a_full_disk_is_a_failure_to_write_and_no_memory_is_memory)
{
    static const int full[] = { ENOSPC, EDQUOT, EFBIG, EROFS };
    struct sl_error err;
    for (size_t i = 0; i < sizeof full / sizeof *full; i++) {
        errno = full[i];
        assert_int_equal(sl_fail_errno(&err, SL_INPUT, "f", "x"), SL_WRITE);
    }
    errno = ENOMEM;
    assert_int_equal(sl_fail_errno(&err, SL_WRITE, "f", "x"), SL_MEMORY);
    sl_fail_memory(&err, 12345);
    assert_string_equal(err.message, "out of memory: 12345 bytes were wanted");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(a_failure_keeps_code_place_and_sentence),
        ROW(without_a_record_the_code_still_comes_back),
        ROW(names_from_files_can_not_reach_the_terminal),
        ROW(a_place_may_be_missing_and_a_message_may_be_long),
        ROW(a_system_call_tells_its_reason),
        ROW(a_full_disk_is_a_failure_to_write_and_no_memory_is_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
