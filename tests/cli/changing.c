/* changing.c: a file that changes while it is read, for the real program. Preloaded, it does CHANGE_HOW to the
 * file CHANGE_FILE before the CHANGE_AT-th read of it by position; each read of it adds a byte to CHANGE_COUNT.
 * The path is the file's as the system knows it: no links in it. */
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef ssize_t read_at(int fd, void *buf, size_t len, off_t offset);

static atomic_int reads;

/* The byte at half the length becomes another one; with how "grow" one is added behind. */
static void put_byte(const char *path, const char *how)
{
    const int fd = open(path, O_RDWR);
    struct stat st;
    unsigned char byte = 0;
    read_at *real = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "pread");
    if (fd < 0 || fstat(fd, &st) || (st.st_size && real(fd, &byte, 1, st.st_size / 2) != 1))
        abort();
    byte ^= 0x11;
    if (pwrite(fd, &byte, 1, strcmp(how, "grow") ? st.st_size / 2 : st.st_size) != 1)
        abort();
    close(fd);
}

/* Another file of the same bytes takes the name. */
static void replace(const char *path)
{
    char other[PATH_MAX + 8], block[4096];
    snprintf(other, sizeof other, "%s.new", path);
    FILE *in = fopen(path, "r"), *out = fopen(other, "w");
    if (!in || !out)
        abort();
    for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;)
        if (fwrite(block, 1, n, out) != n)
            abort();
    if (fclose(out) || fclose(in) || rename(other, path))
        abort();
}

static void change(const char *path, const char *how)
{
    struct stat st;
    const struct timespec later[2] = { { 0, UTIME_NOW }, { 0, UTIME_NOW } };
    if (!strcmp(how, "shrink") && (stat(path, &st) || truncate(path, st.st_size / 2)))
        abort();
    if (!strcmp(how, "empty") && truncate(path, 0))
        abort();
    if (!strcmp(how, "remove") && unlink(path))
        abort();
    if (!strcmp(how, "touch") && utimensat(AT_FDCWD, path, later, 0))
        abort();
    if (!strcmp(how, "rewrite") || !strcmp(how, "grow"))
        put_byte(path, how);
    if (!strcmp(how, "replace"))
        replace(path);
}

static void before_read(int fd)
{
    const char *path = getenv("CHANGE_FILE"), *how = getenv("CHANGE_HOW"), *at = getenv("CHANGE_AT"), *count = getenv("CHANGE_COUNT");
    char link[64], name[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t len = readlink(link, name, sizeof name - 1);
    if (!path || !how || !at || len < 0 || (size_t)len != strlen(path) || memcmp(name, path, (size_t)len) != 0)
        return;
    if (atomic_fetch_add(&reads, 1) + 1 == atoi(at))
        change(path, how);
    const int counted = count ? open(count, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (counted >= 0 && write(counted, ".", 1) != 1)
        abort();
    if (counted >= 0)
        close(counted);
}

static ssize_t with(const char *name, int fd, void *buf, size_t len, off_t offset)
{
    read_at *real = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, name);
    before_read(fd);
    return real(fd, buf, len, offset);
}

ssize_t changing_pread(int fd, void *buf, size_t len, off_t offset) __asm__("pread");
ssize_t changing_pread(int fd, void *buf, size_t len, off_t offset)
{
    return with("pread", fd, buf, len, offset);
}

ssize_t changing_pread64(int fd, void *buf, size_t len, off_t offset) __asm__("pread64");
ssize_t changing_pread64(int fd, void *buf, size_t len, off_t offset)
{
    return with("pread64", fd, buf, len, offset);
}
