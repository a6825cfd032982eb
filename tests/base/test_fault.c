/* test_fault.c: the n-th system call fails, is interrupted, or does half. */
#include "testing.h"

#include "fault.h"

#include "base/arena.h"
#include "base/io.h"

#include <fcntl.h>

static char folder[256];
static char path[512];
static struct sl_error err;

static int setup(void **state)
{
    (void)state;
    new_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/file", folder);
    memset(&err, 0, sizeof err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fault_end();
    return sl_folder_remove(folder, NULL);
}

#define FILE_ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void set(enum fault_call call, unsigned nth, enum fault_how how, int number, bool on)
{
    fault_begin(&(struct fault){ .call = call, .nth = nth, .how = how, .number = number,
                                 .from_there_on = on });
}

TEST(an_interrupted_read_goes_on)
{
    struct sl_file f;
    char b[10];
    write_text(path, "0123456789", 10);
    assert_int_equal(sl_file_open(path, &f, &err), SL_OK);
    set(FAULT_PREAD, 1, FAULT_FAIL, EINTR, false);
    assert_int_equal(sl_file_read(&f, 0, b, 10, &err), SL_OK);
    assert_memory_equal(b, "0123456789", 10);
    assert_int_equal(fault_hits(), 1);
    assert_int_equal(fault_calls(FAULT_PREAD), 2);
    sl_file_close(&f);
}

TEST(short_reads_are_put_together)
{
    struct sl_file f;
    char b[10];
    write_text(path, "0123456789", 10);
    assert_int_equal(sl_file_open(path, &f, &err), SL_OK);
    set(FAULT_PREAD, 1, FAULT_HALF, 0, true);
    assert_int_equal(sl_file_read(&f, 0, b, 10, &err), SL_OK);
    assert_memory_equal(b, "0123456789", 10);
    assert_true(fault_hits() > 3);
    sl_file_close(&f);
}

TEST(a_bad_sector_is_told_with_file_and_offset)
{
    struct sl_file f;
    char b[10];
    write_text(path, "0123456789", 10);
    assert_int_equal(sl_file_open(path, &f, &err), SL_OK);
    set(FAULT_PREAD, 1, FAULT_FAIL, EIO, true);
    assert_int_equal(sl_file_read(&f, 4, b, 6, &err), SL_INPUT);
    assert_string_equal(err.where, path);
    assert_string_equal(err.message, "reading 6 bytes at offset 4 failed: Input/output error");
    assert_int_equal(fault_calls(FAULT_PREAD), 1);
    sl_file_close(&f);
}

TEST(an_interrupted_and_a_short_write_go_on)
{
    struct sl_arena a = { 0 };
    char *text;
    set(FAULT_PWRITE, 1, FAULT_FAIL, EINTR, false);
    assert_int_equal(sl_write_new(path, "0123456789", 10, &err), SL_OK);
    fault_end();
    assert_int_equal(sl_file_slurp(path, 10, &a, &text, NULL, &err), SL_OK);
    assert_string_equal(text, "0123456789");

    assert_int_equal(sl_folder_remove(path, &err), SL_OK);
    set(FAULT_PWRITE, 1, FAULT_HALF, 0, true);
    assert_int_equal(sl_write_new(path, "0123456789", 10, &err), SL_OK);
    assert_true(fault_hits() > 3);
    fault_end();
    assert_int_equal(sl_file_slurp(path, 10, &a, &text, NULL, &err), SL_OK);
    assert_string_equal(text, "0123456789");
    sl_arena_free(&a);
}

TEST(a_new_file_that_fails_at_any_call_leaves_nothing)
{
    static const enum fault_call calls[] = { FAULT_OPEN, FAULT_PWRITE, FAULT_FSYNC, FAULT_CLOSE };
    static const int numbers[] = { ENOSPC, EIO, EDQUOT };
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
        for (size_t e = 0; e < sizeof numbers / sizeof *numbers; e++) {
            set(calls[c], 1, FAULT_FAIL, numbers[e], true);
            assert_int_equal(sl_write_new(path, "0123456789", 10, &err), SL_WRITE);
            fault_end();
            assert_string_equal(err.where, path);
            assert_says(err, strerror(numbers[e]));
            assert_false(sl_path_exists(path));
        }
}

TEST(a_failed_fsync_is_not_tried_again)
{
    set(FAULT_FSYNC, 1, FAULT_FAIL, EIO, false);
    assert_int_equal(sl_write_new(path, "x", 1, &err), SL_WRITE);
    assert_string_equal(err.message, "fsync failed: Input/output error");
    assert_int_equal(fault_calls(FAULT_FSYNC), 1);
}

TEST(a_folder_that_can_not_be_synced_is_forgiven_only_where_it_has_no_such_thing)
{
    static const struct { int number; int code; } rows[] = {
        { EINVAL, SL_OK }, { ENOTSUP, SL_OK }, { EIO, SL_WRITE }, { ENOSPC, SL_WRITE },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        set(FAULT_FSYNC, 1, FAULT_FAIL, rows[i].number, true);
        assert_int_equal(sl_sync_folder(folder, &err), rows[i].code);
    }
}

TEST(a_file_of_somebody_else_is_opened_without_noatime)
{
    struct sl_file f;
    write_text(path, "x", 1);
    set(FAULT_OPEN, 1, FAULT_FAIL, EPERM, false);
    assert_int_equal(sl_file_open(path, &f, &err), SL_OK);
    assert_int_equal(fault_calls(FAULT_OPEN), 2);
    sl_file_close(&f);
    set(FAULT_OPEN, 1, FAULT_FAIL, EMFILE, true);
    assert_int_equal(sl_file_open(path, &f, &err), SL_INPUT);
    assert_says(err, "too many open files");
    set(FAULT_OPEN, 1, FAULT_FAIL, EACCES, true);
    assert_int_equal(sl_file_open(path, &f, &err), SL_INPUT);
    assert_string_equal(err.message, "permission denied");
}

TEST(no_file_stays_open_after_a_failure)
{
    write_text(path, "0123456789", 10);
    struct sl_arena a = { 0 };
    char *text;
    set(FAULT_PREAD, 1, FAULT_FAIL, EIO, true);
    assert_int_equal(sl_file_slurp(path, 10, &a, &text, NULL, &err), SL_INPUT);
    assert_int_equal(fault_calls(FAULT_OPEN), 1);
    assert_int_equal(fault_calls(FAULT_CLOSE), 1);
    sl_arena_free(&a);
}

TEST(the_shim_can_corrupt_one_byte_in_silence)
{
    struct sl_arena a = { 0 };
    char *text;
    set(FAULT_PWRITE, 1, FAULT_FLIP, 0, false);
    assert_int_equal(sl_write_new(path, "0123456789", 10, &err), SL_OK);
    fault_end();
    assert_int_equal(sl_file_slurp(path, 10, &a, &text, NULL, &err), SL_OK);
    assert_string_equal(text, "01234u6789");
    sl_arena_free(&a);
}

TEST(the_table_holds_the_real_calls_again_after_a_fault)
{
    const struct sl_io_ops before = sl_io;
    set(FAULT_RENAME, 1, FAULT_FAIL, EXDEV, true);
    assert_int_equal(sl_io.rename("a", "b"), -1);
    assert_int_equal(sl_io.fallocate(0, 0, 1) != 0, 1);
    fault_end();
    assert_memory_equal(&before, &sl_io, sizeof before);
    for (int c = 0; c < FAULT_CALLS; c++)
        assert_non_null(fault_names[c]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_ROW(an_interrupted_read_goes_on),
        FILE_ROW(short_reads_are_put_together),
        FILE_ROW(a_bad_sector_is_told_with_file_and_offset),
        FILE_ROW(an_interrupted_and_a_short_write_go_on),
        FILE_ROW(a_new_file_that_fails_at_any_call_leaves_nothing),
        FILE_ROW(a_failed_fsync_is_not_tried_again),
        FILE_ROW(a_folder_that_can_not_be_synced_is_forgiven_only_where_it_has_no_such_thing),
        FILE_ROW(a_file_of_somebody_else_is_opened_without_noatime),
        FILE_ROW(no_file_stays_open_after_a_failure),
        FILE_ROW(the_shim_can_corrupt_one_byte_in_silence),
        FILE_ROW(the_table_holds_the_real_calls_again_after_a_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
