/* A conversion leaves in the page cache what was there before, and nothing of what it read and wrote. On file systems
 * whose files live in memory there is nothing to see. */
#include "case.h"

#include "base/io.h"
#include "base/num.h"

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

#define BLOCK_PAGES 16u                  /* the header was read before; its block is left alone */
#define PART_AT (256 << 10)              /* in the middle of the file, where `large` lies: this belongs to somebody */
#define PART_BYTES (128 << 10)
#define PART_PAGES 32u

static void make_part_warm(const char *path)
{
    char bytes[4096];
    make_cold(path);
    const int fd = open(path, O_RDONLY);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
    for (off_t at = PART_AT; at < PART_AT + PART_BYTES; at += (off_t)sizeof bytes)
        assert_int_equal(pread(fd, bytes, sizeof bytes, at), sizeof bytes);
    close(fd);
}

static uint64_t cached_pages(const char *path)
{
    uint64_t cached;
    assert_true(pages_of(path, &cached) > 8 * BLOCK_PAGES);
    return cached;
}

static uint64_t other_pages(const char *path)
{
    uint64_t cached;
    return pages_of(path, &cached) - cached;
}

static uint64_t pages_beside_the_part(const char *path)
{
    uint64_t part;
    const int fd = open(path, O_RDONLY);
    assert_true(sl_file_cached(fd, PART_AT, PART_BYTES, &part));
    close(fd);
    return part == PART_PAGES ? cached_pages(path) - part : UINT64_MAX;
}

struct look { bool of_target; void (*prepare)(const char *source); uint64_t (*measure)(const char *path); uint64_t most; };

static uint64_t measured(const struct look *l, enum sl_verify_mode mode)
{
    struct conversion_case k;
    char path[1024];
    struct sl_error err = { .message = "" };
    const struct sl_run_options o = { .verify = mode, .threads = 2 };
    case_begin(&k, l->of_target ? CASE_FILE : CASE_FOLDER);
    l->prepare(join(path, k.source, "model.safetensors"));
    assert_int_equal(case_run(&k, &o, &err), 0);
    const uint64_t pages = l->measure(l->of_target ? k.target : path);
    case_end(&k);
    return pages;
}

/* It is advice to the kernel, which does not give back what it just has in hand: the best of some runs is looked at. */
#define TRIES 8

static void at_most(const struct look *l)
{
    static const enum sl_verify_mode modes[] = { SL_VERIFY_NONE, SL_VERIFY_CHECKSUM, SL_VERIFY_REREAD };
    for (size_t m = 0; m < 3; m++) {
        uint64_t least = UINT64_MAX;
        for (int i = 0; i < TRIES && least > l->most; i++)
            least = sl_min_u64(least, measured(l, modes[m]));
        assert_true(least <= l->most);
    }
}

static void what_was_not_cached_is_not_cached_after_a_conversion(void **state)
{
    (void)state;
    at_most(&(struct look){ false, make_cold, cached_pages, 2 * BLOCK_PAGES });
}

static void what_was_written_is_not_cached_after_a_conversion(void **state)
{
    (void)state;
    at_most(&(struct look){ true, make_cold, cached_pages, BLOCK_PAGES });
}

static void what_was_cached_stays(void **state)
{
    (void)state;
    at_most(&(struct look){ false, make_warm, other_pages, 0 });
}

static void of_a_file_that_is_cached_in_part_that_part_stays(void **state)
{
    (void)state;
    at_most(&(struct look){ false, make_part_warm, pages_beside_the_part, 2 * BLOCK_PAGES });
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
