/* test_io.c: files and folders as they are, and as they should not be. */
#include "testing.h"

#include "base/arena.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static char folder[256];
static char path[512];
static struct sl_error err;

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int setup(void **state)
{
    (void)state;
    new_folder(folder, sizeof folder);
    memset(&err, 0, sizeof err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return sl_folder_remove(folder, NULL);
}

#define FILE_ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void open_is_refused(const char *what, const char *words)
{
    struct sl_file f;
    assert_int_equal(sl_file_open(what, &f, &err), SL_INPUT);
    assert_string_equal(err.where, what);
    assert_says(err, words);
    assert_int_equal(f.fd, -1);
    sl_file_close(&f);
}

TEST(a_regular_file_is_opened_with_its_size_and_identity)
{
    struct sl_file f;
    struct stat st;
    write_text(in_folder("a"), "hello", 5);
    assert_int_equal(sl_file_open(path, &f, &err), SL_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(f.size, 5);
    assert_int_equal(f.ino, st.st_ino);
    assert_int_equal(f.dev, st.st_dev);
    sl_file_close(&f);
    sl_file_close(&f);
    assert_int_equal(f.fd, -1);
}

TEST(what_is_not_there_is_said_so)
{
    open_is_refused(in_folder("missing"), "no such file");
    assert_int_equal(symlink("nowhere", in_folder("link")), 0);
    open_is_refused(path, "is a symbolic link to something that is not there");
    assert_int_equal(symlink("loop", in_folder("loop")), 0);
    open_is_refused(path, "symbolic links that lead in a circle");
    write_text(in_folder("file"), "", 0);
    open_is_refused(in_folder("file/below"), "a part of the path is not a folder");
}

TEST(a_folder_is_not_a_file)
{
    open_is_refused(folder, "is a folder, not a file");
}

TEST(a_fifo_is_refused_and_not_waited_for)
{
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    open_is_refused(path, "is a FIFO, not a regular file");
}

TEST(a_device_and_a_socket_are_refused)
{
    open_is_refused("/dev/zero", "is a character device, not a regular file");
    const int s = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    assert_true(strlen(in_folder("s")) < sizeof address.sun_path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(s, (struct sockaddr *)&address, sizeof address), 0);
    open_is_refused(in_folder("s"), "is a socket, not a regular file");
    close(s);
}

TEST(a_file_without_permission_is_said_so)
{
    write_text(in_folder("locked"), "x", 1);
    assert_int_equal(chmod(path, 0), 0);
    const bool root = geteuid() == 0;    /* who may read everything */
    if (root && (chmod(folder, 0755) || seteuid(65534)))
        skip();
    open_is_refused(path, "permission denied");
    if (root)
        assert_int_equal(seteuid(0), 0);
}

TEST(a_symbolic_link_to_a_file_is_followed)
{
    struct sl_file f;
    write_text(in_folder("blob"), "abc", 3);
    assert_int_equal(symlink("blob", in_folder("model.safetensors")), 0);
    assert_int_equal(sl_file_open(path, &f, &err), SL_OK);
    assert_int_equal(f.size, 3);
    sl_file_close(&f);
}

TEST(bytes_are_read_by_position)
{
    struct sl_file f;
    char b[4] = { 0 };
    write_text(in_folder("a"), "0123456789", 10);
    assert_int_equal(sl_file_open(path, &f, &err), SL_OK);
    assert_int_equal(sl_file_read(&f, 6, b, 4, &err), SL_OK);
    assert_memory_equal(b, "6789", 4);
    assert_int_equal(sl_file_read(&f, 10, b, 0, &err), SL_OK);
    sl_file_will_read(&f, 0, 10);
    sl_file_drop(f.fd, 0, 10);
    sl_file_close(&f);
}

TEST(reading_past_the_end_is_refused_with_the_numbers)
{
    struct sl_file f;
    char b[8];
    write_text(in_folder("a"), "0123456789", 10);
    assert_int_equal(sl_file_open(path, &f, &err), SL_OK);
    assert_int_equal(sl_file_read(&f, 6, b, 8, &err), SL_INPUT);
    assert_string_equal(err.message, "ends at byte 10; 8 bytes at offset 6 were expected");
    assert_int_equal(sl_file_read(&f, 100, b, 1, &err), SL_INPUT);
    assert_string_equal(err.message, "ends at byte 10; 1 bytes at offset 100 were expected");
    assert_int_equal(sl_file_read(&f, UINT64_MAX, b, 1, &err), SL_INPUT);
    assert_int_equal(sl_file_read(&f, INT64_MAX, b, 2, &err), SL_INPUT);
    sl_file_close(&f);
}

TEST(a_file_that_shrank_while_open_is_told_with_its_length)
{
    struct sl_file f;
    char b[8];
    write_text(in_folder("a"), "0123456789", 10);
    assert_int_equal(sl_file_open(path, &f, &err), SL_OK);
    assert_int_equal(truncate(path, 3), 0);
    assert_int_equal(sl_file_read(&f, 0, b, 8, &err), SL_INPUT);
    assert_says(err, "ends at byte 3");
    sl_file_close(&f);
}

static void changed_is_seen(void (*change)(const char *), const char *words)
{
    struct sl_file f;
    write_text(in_folder("a"), "0123456789", 10);
    const struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    assert_int_equal(sl_file_open(path, &f, &err), SL_OK);
    assert_int_equal(sl_file_unchanged(&f, &err), SL_OK);
    const struct timespec nap = { .tv_nsec = 20000000 };
    nanosleep(&nap, NULL);    /* the clock of file times is coarse */
    change(path);
    assert_int_equal(sl_file_unchanged(&f, &err), SL_INPUT);
    assert_string_equal(err.where, path);
    assert_says(err, words);
    sl_file_close(&f);
}

static void grow(const char *p) { assert_int_equal(truncate(p, 12), 0); }
static void rewrite(const char *p) { write_text(p, "9876543210", 10); }
static void lock(const char *p) { assert_int_equal(chmod(p, 0600), 0); }
static void drop(const char *p) { assert_int_equal(unlink(p), 0); }
static void replace(const char *p)
{
    char other[600];
    snprintf(other, sizeof other, "%s.new", p);
    write_text(other, "0123456789", 10);
    assert_int_equal(rename(other, p), 0);
}

TEST(a_change_after_opening_is_seen)
{
    changed_is_seen(grow, "it is 12 bytes now and was 10");
    changed_is_seen(rewrite, "was written to while it was in use");
    changed_is_seen(lock, "its status is newer");
    changed_is_seen(replace, "was replaced by another file");
    changed_is_seen(drop, "was removed or renamed");
}

TEST(a_small_file_is_read_whole_and_terminated)
{
    struct sl_arena a = { 0 };
    char *text = NULL;
    size_t len = 0;
    write_text(in_folder("t"), "release\n", 8);
    assert_int_equal(sl_file_slurp(path, 4096, &a, &text, &len, &err), SL_OK);
    assert_int_equal(len, 8);
    assert_string_equal(text, "release\n");
    write_text(in_folder("empty"), "", 0);
    assert_int_equal(sl_file_slurp(path, 0, &a, &text, NULL, &err), SL_OK);
    assert_string_equal(text, "");
    sl_arena_free(&a);
}

TEST(a_small_file_that_is_not_small_is_refused)
{
    struct sl_arena a = { 0 };
    char *text = NULL;
    write_text(in_folder("sparse"), "", 0);
    assert_int_equal(truncate(path, INT64_C(8) << 30), 0);
    assert_int_equal(sl_file_slurp(path, 4096, &a, &text, NULL, &err), SL_INPUT);
    assert_string_equal(err.message,
                        "is 8589934592 bytes long; a file of this kind has at most 4096");
    assert_int_equal(a.used, 0);
    sl_arena_free(&a);
}

TEST(a_new_file_is_written_whole_and_never_over_an_old_one)
{
    struct sl_arena a = { 0 };
    char *text;
    assert_int_equal(sl_write_new(in_folder("n"), "abc", 3, &err), SL_OK);
    assert_int_equal(sl_write_new(path, "xyz", 3, &err), SL_WRITE);
    assert_says(err, "can't be created: File exists");
    assert_int_equal(sl_file_slurp(path, 10, &a, &text, NULL, &err), SL_OK);
    assert_string_equal(text, "abc");
    assert_int_equal(sl_write_new(in_folder("no/such/folder"), "x", 1, &err), SL_WRITE);
    sl_arena_free(&a);
}

TEST(writing_at_a_position_leaves_the_rest_alone)
{
    struct sl_arena a = { 0 };
    char *text;
    write_text(in_folder("w"), "0123456789", 10);
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(sl_write_at(fd, path, 4, "xy", 2, &err), SL_OK);
    assert_int_equal(sl_write_at(fd, path, UINT64_MAX, "xy", 2, &err), SL_WRITE);
    close(fd);
    assert_int_equal(sl_file_slurp(path, 10, &a, &text, NULL, &err), SL_OK);
    assert_string_equal(text, "0123xy6789");
    sl_arena_free(&a);
}

TEST(a_write_to_a_full_device_is_a_write_error)
{
    const int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        skip();
    assert_int_equal(sl_write_at(fd, "report", 0, "x", 1, &err), SL_WRITE);
    assert_string_equal(err.message,
                        "writing 1 bytes at offset 0 failed: No space left on device");
    close(fd);
}

TEST(a_folder_is_listed_in_natural_order)
{
    struct sl_arena a = { 0 };
    const char *const *names;
    size_t count = 0;
    static const char *const made[] = { "rank_10", "rank_9", "rank_1", ".hidden" };
    for (size_t i = 0; i < 4; i++)
        write_text(in_folder(made[i]), "", 0);
    assert_int_equal(sl_folder_list(folder, 100, &a, &names, &count, &err), SL_OK);
    assert_int_equal(count, 4);
    assert_string_equal(names[0], ".hidden");
    assert_string_equal(names[1], "rank_1");
    assert_string_equal(names[2], "rank_9");
    assert_string_equal(names[3], "rank_10");
    assert_int_equal(sl_folder_list(folder, 3, &a, &names, &count, &err), SL_INPUT);
    assert_string_equal(err.message, "holds more than 3 entries");
    sl_arena_free(&a);
}

TEST(an_empty_folder_has_no_names_and_a_file_has_none_either)
{
    struct sl_arena a = { 0 };
    const char *const *names;
    size_t count = 7;
    assert_int_equal(sl_folder_list(folder, 100, &a, &names, &count, &err), SL_OK);
    assert_int_equal(count, 0);
    assert_int_equal(sl_folder_list(in_folder("none"), 100, &a, &names, &count, &err), SL_INPUT);
    assert_says(err, "no such folder");
    write_text(in_folder("file"), "", 0);
    assert_int_equal(sl_folder_list(path, 100, &a, &names, &count, &err), SL_INPUT);
    assert_says(err, "is not a folder");
    sl_arena_free(&a);
}

TEST(folders_are_made_with_their_parents)
{
    assert_int_equal(sl_folder_make(in_folder("a/b//c/"), &err), SL_OK);
    assert_true(sl_path_is_folder(in_folder("a/b/c")));
    assert_int_equal(sl_folder_make(path, &err), SL_OK);
    write_text(in_folder("file"), "", 0);
    assert_int_equal(sl_folder_make(in_folder("file/x"), &err), SL_WRITE);
    assert_says(err, "is in the way: it exists and is no folder");
    assert_int_equal(sl_folder_make(in_folder("file"), &err), SL_WRITE);
}

TEST(removing_a_folder_does_not_follow_links)
{
    char kept[600];
    assert_int_equal(sl_folder_make(in_folder("gone/deep"), &err), SL_OK);
    write_text(in_folder("gone/deep/file"), "x", 1);
    assert_int_equal(sl_folder_make(in_folder("kept"), &err), SL_OK);
    write_text(in_folder("kept/file"), "x", 1);
    snprintf(kept, sizeof kept, "%s/kept", folder);
    assert_int_equal(symlink(kept, in_folder("gone/link")), 0);
    assert_int_equal(sl_folder_remove(in_folder("gone"), &err), SL_OK);
    assert_false(sl_path_exists(in_folder("gone")));
    assert_true(sl_path_exists(in_folder("kept/file")));
    assert_int_equal(sl_folder_remove(in_folder("gone"), &err), SL_OK);
    assert_int_equal(sl_folder_remove(in_folder("kept/file"), &err), SL_OK);
    assert_false(sl_path_exists(in_folder("kept/file")));
}

TEST(a_folder_can_be_synced)
{
    assert_int_equal(sl_sync_folder(folder, &err), SL_OK);
    assert_int_equal(sl_sync_folder(in_folder("none"), &err), SL_WRITE);
}

TEST(a_dangling_link_exists_but_is_no_folder)
{
    assert_int_equal(symlink("nowhere", in_folder("l")), 0);
    assert_true(sl_path_exists(path));
    assert_false(sl_path_is_folder(path));
    assert_true(sl_path_is_folder(folder));
}

TEST(names_from_files_stay_below_their_folder)
{
    static const char *const inside[] = { "a", "a/b", "model-00001-of-00002.safetensors", ".a",
                                          "...", "a..b", "a/..b", "./a" };
    static const char *const outside[] = { "", "/", "/a", "..", "../a", "a/..", "a/../b", "a//b",
                                           "a/", "\\a", "a/../../b" };
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
        if (!sl_path_is_inside(inside[i], strlen(inside[i])))
            fail_msg("\"%s\" was refused", inside[i]);
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        if (sl_path_is_inside(outside[i], strlen(outside[i])))
            fail_msg("\"%s\" was accepted", outside[i]);
    assert_false(sl_path_is_inside("a\0b", 3));
}

/* Both ways of asking give the same number, and what was just read is there. */
static void pages_in_the_cache_are_counted(void **state)
{
    (void)state;
    static char bytes[300000];
    uint64_t pages = 0, mapped = 0, some = 0;
    assert_int_equal(sl_write_new(in_folder("cached"), bytes, sizeof bytes, &err), SL_OK);
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, bytes, sizeof bytes), sizeof bytes);
    if (!sl_file_cached(fd, 0, sizeof bytes, &pages) || !sl_file_cached_mapped(fd, 0, sizeof bytes, &mapped))
        skip();
    assert_int_equal(pages, 74);         /* 300000 / 4096 */
    assert_int_equal(mapped, 74);
    assert_true(sl_file_cached(fd, 5000, 4000, &some) && some == 2);
    assert_true(sl_file_cached_mapped(fd, 5000, 4000, &some) && some == 2);
    assert_true(sl_file_cached(fd, 5000, 0, &some) && some == 0);
    assert_false(sl_file_cached_mapped(-1, 0, 4096, &some));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_ROW(pages_in_the_cache_are_counted),
        FILE_ROW(a_regular_file_is_opened_with_its_size_and_identity),
        FILE_ROW(what_is_not_there_is_said_so),
        FILE_ROW(a_folder_is_not_a_file),
        FILE_ROW(a_fifo_is_refused_and_not_waited_for),
        FILE_ROW(a_device_and_a_socket_are_refused),
        FILE_ROW(a_file_without_permission_is_said_so),
        FILE_ROW(a_symbolic_link_to_a_file_is_followed),
        FILE_ROW(bytes_are_read_by_position),
        FILE_ROW(reading_past_the_end_is_refused_with_the_numbers),
        FILE_ROW(a_file_that_shrank_while_open_is_told_with_its_length),
        FILE_ROW(a_change_after_opening_is_seen),
        FILE_ROW(a_small_file_is_read_whole_and_terminated),
        FILE_ROW(a_small_file_that_is_not_small_is_refused),
        FILE_ROW(a_new_file_is_written_whole_and_never_over_an_old_one),
        FILE_ROW(writing_at_a_position_leaves_the_rest_alone),
        FILE_ROW(a_write_to_a_full_device_is_a_write_error),
        FILE_ROW(a_folder_is_listed_in_natural_order),
        FILE_ROW(an_empty_folder_has_no_names_and_a_file_has_none_either),
        FILE_ROW(folders_are_made_with_their_parents),
        FILE_ROW(removing_a_folder_does_not_follow_links),
        FILE_ROW(a_folder_can_be_synced),
        FILE_ROW(a_dangling_link_exists_but_is_no_folder),
        ROW(names_from_files_stay_below_their_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
