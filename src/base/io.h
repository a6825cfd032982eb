/* io.h: the only door to files. Everything above reads and writes through
 * here: whole reads and writes by position, errors that name the file.
 *
 * Every system call goes through the table sl_io, which a test may replace to
 * fail the n-th call (see tests/base).
 */
#ifndef SL_BASE_IO_H
#define SL_BASE_IO_H

#include <shardlens/types.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>

struct sl_arena;

struct sl_io_ops {
    int (*open)(const char *path, int flags, mode_t mode);
    ssize_t (*pread)(int fd, void *buf, size_t len, off_t offset);
    ssize_t (*pwrite)(int fd, const void *buf, size_t len, off_t offset);
    int (*fsync)(int fd);
    int (*close)(int fd);
    int (*rename)(const char *from, const char *to);
    int (*fallocate)(int fd, off_t offset, off_t len);   /* posix_fallocate: an errno, not -1 */
};
extern struct sl_io_ops sl_io;

/* Reads and writes that this thread has asked the system for by position; only ever counted up. */
struct sl_io_count { uint64_t reads, writes; };
struct sl_io_count sl_io_counted(void);

/* Stretches of a file that were read before: reads that lie within one of them are answered from it. */
struct sl_held { struct { uint64_t at; size_t len; const unsigned char *bytes; } part[2]; };

/* A file open for reading, and what it was when it was opened. */
struct sl_file {
    int fd;                 /* -1 when closed */
    const char *path;       /* borrowed from the caller of sl_file_open */
    uint64_t size;
    uint64_t dev, ino;
    int64_t mtime_ns, ctime_ns;
    const struct sl_held *held;      /* of whoever copied the file to read a part of it; NULL */
};

/* Opens a regular file for reading; anything else (folder, FIFO, device,
 * socket) is refused without being waited for. Leaves access times alone where
 * it may. path is borrowed by *file. SL_INPUT on failure. */
int sl_file_open(const char *path, struct sl_file *file, struct sl_error *err);
void sl_file_close(struct sl_file *file);    /* twice is harmless */
/* What the file is now, for sl_file_unchanged() later; it is not opened. False when there is no such
 * regular file. */
bool sl_file_identify(const char *path, struct sl_file *file);
/* Has the file (by its path) another identity, size or time than when it was
 * opened? SL_INPUT with a sentence if so. */
int sl_file_unchanged(const struct sl_file *file, struct sl_error *err);

/* Reads exactly len bytes at offset. A file that ends before is SL_INPUT. */
int sl_file_read(const struct sl_file *file, uint64_t offset, void *buf, size_t len,
                 struct sl_error *err);
/* Tells the kernel that a range will be read in order, or is not needed again. */
void sl_file_will_read(const struct sl_file *file, uint64_t offset, uint64_t len);
void sl_file_drop(int fd, uint64_t offset, uint64_t len);
/* Pages of a range that are in the page cache. False where the system does not tell. */
bool sl_file_cached(int fd, uint64_t offset, uint64_t len, uint64_t *pages);
/* The same by mapping it, for systems without cachestat(2); where the file is not this user's, all of
 * them are said to be there. */
bool sl_file_cached_mapped(int fd, uint64_t offset, uint64_t len, uint64_t *pages);

/* Reads a whole small file into the arena, NUL terminated besides. A file
 * larger than limit is SL_INPUT. *len may be NULL. */
int sl_file_slurp(const char *path, uint64_t limit, struct sl_arena *arena,
                  char **text, size_t *len, struct sl_error *err);
/* The same from a stream, which is read to its end. */
int sl_stream_slurp(FILE *in, const char *where, uint64_t limit, struct sl_arena *arena,
                    char **text, size_t *len, struct sl_error *err);

/* Writes exactly len bytes at offset; SL_WRITE on failure. path for messages. */
int sl_write_at(int fd, const char *path, uint64_t offset, const void *buf, size_t len,
                struct sl_error *err);
/* The same to what has no positions: a pipe, a terminal, /dev/stdout. */
int sl_write_stream(int fd, const char *path, const void *buf, size_t len, struct sl_error *err);
/* Creates path (O_EXCL), writes it, fsyncs and closes it. */
int sl_write_new(const char *path, const void *bytes, size_t len, struct sl_error *err);
/* fsync of a folder, so that a rename in it lasts. File systems that have no
 * such thing (EINVAL, ENOTSUP) are forgiven. */
int sl_sync_folder(const char *path, struct sl_error *err);

/* Bytes of memory that this process could still have: MemAvailable, or what its control
 * group leaves of it; 0 unknown. */
uint64_t sl_memory_available(void);

bool sl_path_exists(const char *path);
bool sl_path_is_folder(const char *path);
/* A name from a file (weight_map, relative_path) that may be opened below a
 * folder: relative, no "..", no empty part, no NUL, no backslash at the start. */
bool sl_path_is_inside(const char *name, size_t len);

/* Names in a folder in natural order, "." and ".." left out. SL_INPUT on
 * failure, also above `limit` entries. */
int sl_folder_list(const char *path, size_t limit, struct sl_arena *arena,
                   const char *const **names, size_t *count, struct sl_error *err);
/* mkdir -p. SL_WRITE on failure. */
int sl_folder_make(const char *path, struct sl_error *err);
/* rm -r of what this program made; follows no links. */
int sl_folder_remove(const char *path, struct sl_error *err);

#endif
