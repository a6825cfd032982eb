/* A conversion leaves in the page cache what was there before, and nothing of what it read and wrote. On file systems
 * whose files live in memory there is nothing to see. */
#include "case.h"

#include "base/io.h"

#include <fcntl.h>
#include <sys/stat.h>

static uint64_t pages_of(const char *path, uint64_t *cached)
{
    struct stat st;
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    if (!sl_file_cached(fd, 0, (uint64_t)st.st_size, cached))
        skip();
    close(fd);
    return ((uint64_t)st.st_size + 4095) / 4096;
}

/* Brings it to the disk and out of the cache. */
static void make_cold(const char *path)
{
    uint64_t cached;
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    fsync(fd);
    sl_file_drop(fd, 0, 0);
    close(fd);
    pages_of(path, &cached);
    if (cached)
        skip();
}

static void make_warm(const char *path)
{
    uint64_t cached;
    char bytes[4096];
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    while (read(fd, bytes, sizeof bytes) > 0)
        ;
    close(fd);
    if (pages_of(path, &cached) != cached)
        skip();
}

static const enum sl_verify_mode modes[] = { SL_VERIFY_NONE, SL_VERIFY_CHECKSUM, SL_VERIFY_REREAD };
#define BLOCK_PAGES 16u                  /* the header was read before; its block is left alone */

static void what_was_not_cached_is_not_cached_after_a_conversion(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        struct conversion_case k;
        char path[1024];
        uint64_t cached, pages;
        case_begin(&k, CASE_FOLDER);
        make_cold(join(path, k.source, "model.safetensors"));
        const struct sl_run_options o = { .verify = modes[m], .threads = 2 };
        case_must_work(&k, &o);
        pages = pages_of(join(path, k.source, "model.safetensors"), &cached);
        assert_true(pages > 8 * BLOCK_PAGES);
        assert_true(cached <= 2 * BLOCK_PAGES);
        case_end(&k);
    }
}

static void what_was_written_is_not_cached_after_a_conversion(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        struct conversion_case k;
        char path[1024];
        uint64_t cached, pages;
        case_begin(&k, CASE_FILE);
        make_cold(join(path, k.source, "model.safetensors"));
        const struct sl_run_options o = { .verify = modes[m], .threads = 2 };
        struct sl_error err = { .message = "" };
        assert_int_equal(case_run(&k, &o, &err), 0);
        pages = pages_of(k.target, &cached);
        assert_true(pages > 8 * BLOCK_PAGES);
        assert_true(cached <= BLOCK_PAGES);
        case_end(&k);
    }
}

static void what_was_cached_stays(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        struct conversion_case k;
        char path[1024];
        uint64_t cached, pages;
        case_begin(&k, CASE_FOLDER);
        make_warm(join(path, k.source, "model.safetensors"));
        const struct sl_run_options o = { .verify = modes[m], .threads = 2 };
        case_must_work(&k, &o);
        pages = pages_of(join(path, k.source, "model.safetensors"), &cached);
        assert_int_equal(cached, pages);
        case_end(&k);
    }
}

/* One MiB in the middle of the file, where `large` lies, belongs to somebody. */
static void of_a_file_that_is_cached_in_part_that_part_stays(void **state)
{
    (void)state;
    struct conversion_case k;
    char path[1024], bytes[4096];
    uint64_t cached;
    case_begin(&k, CASE_FOLDER);
    make_cold(join(path, k.source, "model.safetensors"));
    const int fd = open(path, O_RDONLY);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
    for (off_t at = 256 << 10; at < 384 << 10; at += (off_t)sizeof bytes)
        assert_int_equal(pread(fd, bytes, sizeof bytes, at), sizeof bytes);
    const struct sl_run_options o = { .verify = SL_VERIFY_REREAD, .threads = 2 };
    case_must_work(&k, &o);
    assert_true(sl_file_cached(fd, 256 << 10, 128 << 10, &cached));
    assert_int_equal(cached, 32);
    pages_of(path, &cached);
    assert_true(cached <= 32 + 2 * BLOCK_PAGES);
    close(fd);
    case_end(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_not_cached_is_not_cached_after_a_conversion),
        cmocka_unit_test(what_was_written_is_not_cached_after_a_conversion),
        cmocka_unit_test(what_was_cached_stays),
        cmocka_unit_test(of_a_file_that_is_cached_in_part_that_part_stays),
    };
    setenv("TMPDIR", "/tmp", 0);         /* not in memory, where it can be helped */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
