/* io.c: whole reads and writes by position, and folders. */
#include "base/io.h"

#include "base/arena.h"
#include "base/error.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int real_open(const char *path, int flags, mode_t mode)
{
    return open(path, flags, mode);
}

static int real_fallocate(int fd, off_t offset, off_t len)
{
    return posix_fallocate(fd, offset, len);
}

struct sl_io_ops sl_io = {
    .open = real_open,
    .pread = pread,
    .pwrite = pwrite,
    .fsync = fsync,
    .close = close,
    .rename = rename,
    .fallocate = real_fallocate,
};

static _Thread_local struct sl_io_count counted;

struct sl_io_count sl_io_counted(void)
{
    return counted;
}

#define CALL_MAX ((size_t)1 << 30)    /* bytes asked of one system call */

/* ---- reading ---- */

/* What a path is, when it is no regular file. */
static const char *kind_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "is a folder, not a file";
    case S_IFIFO:
        return "is a FIFO, not a regular file";
    case S_IFSOCK:
        return "is a socket, not a regular file";
    case S_IFCHR:
        return "is a character device, not a regular file";
    case S_IFBLK:
        return "is a block device, not a regular file";
    default:
        return "is not a regular file";
    }
}

/* A failed open or stat, in the words of people. */
static int fail_open(struct sl_error *err, const char *path, const char *what)
{
    struct stat st;
    const int number = errno;
    switch (number) {
    case ENOENT:
        if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
            return sl_fail(err, SL_INPUT, path, "is a symbolic link to something that is not there");
        return sl_fail(err, SL_INPUT, path, "no such %s", what);
    case EACCES:
        sl_fail(err, SL_INPUT, path, "permission denied");
        return sl_fail_fault(err, SL_FAULT_DENIED);
    case ENOTDIR:
        return sl_fail(err, SL_INPUT, path,
                       strcmp(what, "folder") == 0 ? "is not a folder"
                                                   : "a part of the path is not a folder");
    case ELOOP:
        return sl_fail(err, SL_INPUT, path, "symbolic links that lead in a circle");
    case EMFILE:
    case ENFILE:
        return sl_fail(err, SL_INPUT, path, "too many open files: the limit of the %s is reached",
                       number == EMFILE ? "process" : "system");
    default:
        errno = number;
        return sl_fail_errno(err, SL_INPUT, path, "can't be opened");
    }
}

static int64_t ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int open_retrying(const char *path, int flags, mode_t mode)
{
    int fd;
    do
        fd = sl_io.open(path, flags, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static void identify(struct sl_file *file, const struct stat *st)
{
    file->size = (uint64_t)st->st_size;
    file->dev = (uint64_t)st->st_dev;
    file->ino = (uint64_t)st->st_ino;
    file->mtime_ns = ns_of(st->st_mtim);
    file->ctime_ns = ns_of(st->st_ctim);
}

bool sl_file_identify(const char *path, struct sl_file *file)
{
    struct stat st;
    *file = (struct sl_file){ .fd = -1, .path = path };
    if (stat(path, &st) || !S_ISREG(st.st_mode))
        return false;
    identify(file, &st);
    return true;
}

int sl_file_open(const char *path, struct sl_file *file, struct sl_error *err)
{
    *file = (struct sl_file){ .fd = -1, .path = path };

    /* Look before opening: to open a device may already do something. */
    struct stat st;
    if (stat(path, &st))
        return fail_open(err, path, "file");
    if (!S_ISREG(st.st_mode))
        return sl_fail(err, SL_INPUT, path, "%s", kind_of(st.st_mode));

    const int flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    int fd = open_retrying(path, flags | O_NOATIME, 0);
    if (fd < 0 && errno == EPERM)    /* only its owner may leave the access time alone */
        fd = open_retrying(path, flags, 0);
    if (fd < 0)
        return fail_open(err, path, "file");

    int code = SL_OK;
    if (fstat(fd, &st))
        code = sl_fail_errno(err, SL_INPUT, path, "can't be looked at");
    else if (!S_ISREG(st.st_mode))
        code = sl_fail(err, SL_INPUT, path, "%s", kind_of(st.st_mode));
    if (code) {
        sl_io.close(fd);
        return code;
    }
    file->fd = fd;
    identify(file, &st);
    return SL_OK;
}

void sl_file_close(struct sl_file *file)
{
    if (file->fd >= 0)
        sl_io.close(file->fd);    /* nothing was written: its answer says nothing */
    file->fd = -1;
}

int sl_file_unchanged(const struct sl_file *file, struct sl_error *err)
{
    struct stat st;
    if (stat(file->path, &st)) {
        if (errno == ENOENT)
            return sl_fail(err, SL_INPUT, file->path,
                           "was removed or renamed while it was in use");
        return fail_open(err, file->path, "file");
    }
    if ((uint64_t)st.st_dev != file->dev || (uint64_t)st.st_ino != file->ino)
        return sl_fail(err, SL_INPUT, file->path,
                       "was replaced by another file while it was in use");
    if ((uint64_t)st.st_size != file->size)
        return sl_fail(err, SL_INPUT, file->path,
                       "changed while it was in use: it is %" PRIu64 " bytes now and was %" PRIu64,
                       (uint64_t)st.st_size, file->size);
    if (ns_of(st.st_mtim) != file->mtime_ns)
        return sl_fail(err, SL_INPUT, file->path, "was written to while it was in use");
    if (ns_of(st.st_ctim) != file->ctime_ns)
        return sl_fail(err, SL_INPUT, file->path,
                       "changed while it was in use: its status is newer than when it was opened");
    return SL_OK;
}

static int fail_short(const struct sl_file *file, uint64_t offset, size_t len, struct sl_error *err)
{
    struct stat st;
    const uint64_t size = fstat(file->fd, &st) ? file->size : (uint64_t)st.st_size;
    return sl_fail(err, SL_INPUT, file->path,
                   "ends at byte %" PRIu64 "; %zu bytes at offset %" PRIu64 " were expected", size,
                   len, offset);
}

static bool read_held(const struct sl_held *held, uint64_t offset, void *buf, size_t len)
{
    for (size_t i = 0; held && i < sizeof held->part / sizeof *held->part; i++) {
        const uint64_t at = held->part[i].at;
        if (offset < at || offset - at > held->part[i].len || len > held->part[i].len - (offset - at))
            continue;
        if (len)
            memcpy(buf, held->part[i].bytes + (offset - at), len);
        return true;
    }
    return false;
}

int sl_file_read(const struct sl_file *file, uint64_t offset, void *buf, size_t len,
                 struct sl_error *err)
{
    if (offset > INT64_MAX || len > INT64_MAX - offset)
        return sl_fail(err, SL_INPUT, file->path,
                       "%zu bytes at offset %" PRIu64 " are past what a file can hold", len, offset);
    if (read_held(file->held, offset, buf, len))
        return SL_OK;
    for (size_t done = 0; done < len;) {
        const size_t want = len - done < CALL_MAX ? len - done : CALL_MAX;
        counted.reads++;
        const ssize_t n = sl_io.pread(file->fd, (char *)buf + done, want, (off_t)(offset + done));
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return sl_fail_errno(err, SL_INPUT, file->path,
                                 "reading %zu bytes at offset %" PRIu64 " failed", len - done,
                                 offset + done);
        if (n == 0)
            return fail_short(file, offset, len, err);
        done += (size_t)n;
    }
    return SL_OK;
}

void sl_file_will_read(const struct sl_file *file, uint64_t offset, uint64_t len)
{
    if (offset > INT64_MAX || len > INT64_MAX || file->fd < 0)
        return;
    posix_fadvise(file->fd, (off_t)offset, (off_t)len, POSIX_FADV_SEQUENTIAL);
    posix_fadvise(file->fd, (off_t)offset, (off_t)len, POSIX_FADV_WILLNEED);
}

void sl_file_drop(int fd, uint64_t offset, uint64_t len)
{
    if (offset <= INT64_MAX && len <= INT64_MAX && fd >= 0)
        posix_fadvise(fd, (off_t)offset, (off_t)len, POSIX_FADV_DONTNEED);
}

/* ---- the page cache ---- */

#define MAPPED_WINDOW (UINT64_C(64) << 20)
#define CACHESTAT 451                          /* cachestat(2), Linux 6.5; headers of older systems do not name it */

struct cachestat_range { uint64_t offset, len; };
struct cachestat_pages { uint64_t cached, dirty, writeback, evicted, recently_evicted; };

bool sl_file_cached(int fd, uint64_t offset, uint64_t len, uint64_t *pages)
{
    struct cachestat_range range = { offset, len };
    struct cachestat_pages found = { 0 };
    *pages = 0;
    if (len == 0)
        return true;                           /* to cachestat, 0 is up to the end */
    if (syscall(CACHESTAT, fd, &range, &found, 0) != 0)
        return sl_file_cached_mapped(fd, offset, len, pages);
    *pages = found.cached;
    return true;
}

static bool count_window(int fd, uint64_t offset, size_t len, uint64_t *pages)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), count = (len + page - 1) / page;
    unsigned char *there = malloc(count);
    void *map = there ? mmap(NULL, len, PROT_READ, MAP_SHARED, fd, (off_t)offset) : MAP_FAILED;
    const bool good = map != MAP_FAILED && mincore(map, len, there) == 0;
    for (size_t i = 0; good && i < count; i++)
        *pages += there[i] & 1;
    if (map != MAP_FAILED)
        munmap(map, len);
    free(there);
    return good;
}

bool sl_file_cached_mapped(int fd, uint64_t offset, uint64_t len, uint64_t *pages)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    *pages = 0;
    if (offset > INT64_MAX || len > INT64_MAX - offset)
        return false;
    const uint64_t end = offset + len;
    bool good = true;
    for (uint64_t at = offset - offset % page; good && at < end; at += MAPPED_WINDOW)
        good = count_window(fd, at, (size_t)(end - at < MAPPED_WINDOW ? end - at : MAPPED_WINDOW), pages);
    return good;
}

int sl_file_slurp(const char *path, uint64_t limit, struct sl_arena *arena,
                  char **text, size_t *len, struct sl_error *err)
{
    struct sl_file file;
    int code = sl_file_open(path, &file, err);
    if (code)
        return code;

    char *p = NULL;
    if (file.size > limit)
        code = sl_fail(err, SL_INPUT, path,
                       "is %" PRIu64 " bytes long; a file of this kind has at most %" PRIu64,
                       file.size, limit);
    else if (file.size >= SIZE_MAX || !(p = sl_arena_new(arena, file.size + 1, 1)))
        code = sl_fail_memory(err, file.size);
    else
        code = sl_file_read(&file, 0, p, (size_t)file.size, err);
    sl_file_close(&file);
    if (code)
        return code;
    *text = p;
    if (len)
        *len = (size_t)file.size;
    return SL_OK;
}

int sl_stream_slurp(FILE *in, const char *where, uint64_t limit, struct sl_arena *arena,
                    char **text, size_t *len, struct sl_error *err)
{
    struct sl_buf read = { 0 };
    char part[4096];
    size_t n;
    while (read.len <= limit && (n = fread(part, 1, sizeof part, in)) > 0)
        sl_buf_add(&read, part, n);
    int code = SL_OK;
    if (ferror(in))
        code = sl_fail_errno(err, SL_INPUT, where, "it can't be read");
    else if (read.len > limit)
        code = sl_fail(err, SL_INPUT, where, "it goes on after %" PRIu64 " bytes, the most of a file of this kind", limit);
    else if (read.failed || !(*text = sl_arena_strn(arena, read.data ? read.data : "", read.len)))
        code = sl_fail_memory(err, read.len);
    *len = read.len;
    sl_buf_free(&read);
    return code;
}

/* ---- memory ---- */

/* The number behind `key` in a file of the kernel's, which has no size; 0 when there is none. */
static uint64_t kernel_number(const char *path, const char *key)
{
    char line[256];
    uint64_t n = 0;
    FILE *f = fopen(path, "re");
    while (f && !n && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) != 0 || sscanf(line + strlen(key), "%" SCNu64, &n) != 1)
            n = 0;
    if (f)
        fclose(f);
    return n;
}

uint64_t sl_memory_available(void)
{
    const uint64_t there = kernel_number("/proc/meminfo", "MemAvailable:") * 1024;
    const uint64_t most = kernel_number("/sys/fs/cgroup/memory.max", ""), used = kernel_number("/sys/fs/cgroup/memory.current", "");
    const uint64_t left = most > used ? most - used : 0;
    return most && left < there ? left : there;
}

/* ---- writing ---- */

int sl_write_at(int fd, const char *path, uint64_t offset, const void *buf, size_t len,
                struct sl_error *err)
{
    if (offset > INT64_MAX || len > INT64_MAX - offset)
        return sl_fail(err, SL_WRITE, path,
                       "%zu bytes at offset %" PRIu64 " are past what a file can hold", len, offset);
    for (size_t done = 0; done < len;) {
        const size_t want = len - done < CALL_MAX ? len - done : CALL_MAX;
        counted.writes++;
        const ssize_t n =
            sl_io.pwrite(fd, (const char *)buf + done, want, (off_t)(offset + done));
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n == 0)
            errno = ENOSPC;    /* nothing was taken and nothing was said */
        if (n <= 0)
            return sl_fail_errno(err, SL_WRITE, path,
                                 "writing %zu bytes at offset %" PRIu64 " failed", len - done,
                                 offset + done);
        done += (size_t)n;
    }
    return SL_OK;
}

int sl_write_stream(int fd, const char *path, const void *buf, size_t len, struct sl_error *err)
{
    for (size_t done = 0; done < len;) {
        const ssize_t n = write(fd, (const char *)buf + done, len - done);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return sl_fail_errno(err, SL_WRITE, path, "writing %zu bytes failed", len - done);
        done += (size_t)n;
    }
    return SL_OK;
}

static int sync_retrying(int fd)
{
    int rc;
    do
        rc = sl_io.fsync(fd);
    while (rc && errno == EINTR);
    return rc;
}

int sl_write_new(const char *path, const void *bytes, size_t len, struct sl_error *err)
{
    const int fd = open_retrying(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return sl_fail_errno(err, SL_WRITE, path, "can't be created");

    int code = sl_write_at(fd, path, 0, bytes, len, err);
    if (!code && sync_retrying(fd))
        code = sl_fail_errno(err, SL_WRITE, path, "fsync failed");
    if (sl_io.close(fd) && !code && errno != EINTR)
        code = sl_fail_errno(err, SL_WRITE, path, "close failed");
    if (code)
        unlink(path);    /* it is ours: O_EXCL made it */
    return code;
}

int sl_sync_folder(const char *path, struct sl_error *err)
{
    const int fd = open_retrying(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return sl_fail_errno(err, SL_WRITE, path, "the folder can't be opened to be synced");
    int code = SL_OK;
    if (sync_retrying(fd) && errno != EINVAL && errno != ENOTSUP)
        code = sl_fail_errno(err, SL_WRITE, path, "fsync of the folder failed");
    sl_io.close(fd);
    return code;
}

/* ---- paths and folders ---- */

bool sl_path_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

bool sl_path_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool sl_path_is_inside(const char *name, size_t len)
{
    if (len == 0 || name[0] == '/' || name[0] == '\\' || memchr(name, '\0', len))
        return false;
    for (size_t begin = 0; begin <= len;) {
        const char *slash = begin < len ? memchr(name + begin, '/', len - begin) : NULL;
        const size_t end = slash ? (size_t)(slash - name) : len;
        const size_t part = end - begin;
        if (part == 0 || (part == 2 && name[begin] == '.' && name[begin + 1] == '.'))
            return false;
        begin = end + 1;
    }
    return true;
}

static int by_natural_order(const void *a, const void *b)
{
    return sl_text_natural(*(const char *const *)a, *(const char *const *)b);
}

static bool is_dots(const char *name)
{
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* Appends to a list that grows by doubling; false when memory is out. */
static bool append_name(const char ***list, size_t *count, size_t *room, const char *name)
{
    if (!name)
        return false;
    if (*count == *room) {
        const size_t more = *room ? 2 * *room : 64;
        const char **grown = realloc(*list, more * sizeof *grown);
        if (!grown)
            return false;
        *list = grown;
        *room = more;
    }
    (*list)[(*count)++] = name;
    return true;
}

int sl_folder_list(const char *path, size_t limit, struct sl_arena *arena,
                   const char *const **names, size_t *count, struct sl_error *err)
{
    DIR *folder = opendir(path);
    if (!folder)
        return fail_open(err, path, "folder");

    const char **list = NULL;
    size_t n = 0, room = 0;
    int code = SL_OK;
    while (!code) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry) {
            if (errno)
                code = sl_fail_errno(err, SL_INPUT, path, "the folder can't be read");
            break;
        }
        if (is_dots(entry->d_name))
            continue;
        if (n >= limit)
            code = sl_fail(err, SL_INPUT, path, "holds more than %zu entries", limit);
        else if (!append_name(&list, &n, &room, sl_arena_str(arena, entry->d_name)))
            code = sl_fail_memory(err, (n + 1) * sizeof *list);
    }
    closedir(folder);

    if (!code) {
        if (n)
            qsort(list, n, sizeof *list, by_natural_order);
        const char *const *copy = sl_arena_copy(arena, list, n * sizeof *list);
        if (copy) {
            *names = copy;
            *count = n;
        } else {
            code = sl_fail_memory(err, n * sizeof *list);
        }
    }
    free(list);
    return code;
}

int sl_folder_make(const char *path, struct sl_error *err)
{
    char *part = strdup(path);
    if (!part)
        return sl_fail_memory(err, strlen(path) + 1);

    /* each part in turn; the end of the string is the last one */
    int code = SL_OK;
    for (char *p = part + (*part == '/');; p++) {
        const char c = *p;
        if (c && c != '/')
            continue;
        *p = '\0';
        if (*part && mkdir(part, 0777) && !(errno == EEXIST && sl_path_is_folder(part))) {
            if (errno == EEXIST)
                code = sl_fail(err, SL_WRITE, part, "is in the way: it exists and is no folder");
            else
                code = sl_fail_errno(err, SL_WRITE, part, "the folder can't be made");
            break;
        }
        *p = c;
        if (!c)
            break;
    }
    free(part);
    return code;
}

#define REMOVE_DEPTH 32    /* what this program makes is a few levels deep */

/* Removes `name` in the open folder `at`, and all that is in it. Returns 0 or -1 and errno. */
static int remove_at(int at, const char *name, int depth)
{
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -1;
    if (depth == 0) {
        errno = ENOTEMPTY;
        return -1;
    }
    const int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    DIR *folder = fdopendir(fd);
    if (!folder) {
        close(fd);
        return -1;
    }
    int rc = 0;
    for (const struct dirent *entry; rc == 0 && (entry = readdir(folder));)
        if (!is_dots(entry->d_name))
            rc = remove_at(fd, entry->d_name, depth - 1);
    const int number = errno;
    closedir(folder);
    errno = number;
    return rc ? rc : unlinkat(at, name, AT_REMOVEDIR);
}

int sl_folder_remove(const char *path, struct sl_error *err)
{
    if (remove_at(AT_FDCWD, path, REMOVE_DEPTH))
        return sl_fail_errno(err, SL_WRITE, path, "can't be removed");
    return SL_OK;
}
