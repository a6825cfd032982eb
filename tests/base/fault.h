/* fault.h: a file system that fails on order. It puts itself into the table
 * sl_io, counts the calls, and lets the n-th of a kind fail, once or from there
 * on; or take half of what it was given; or write one wrong byte and say nothing.
 *
 *     fault_begin(&(struct fault){ .call = FAULT_PWRITE, .nth = 3, .number = ENOSPC });
 *     ... the code under test ...
 *     fault_end();
 *
 * Call it from one thread; the code under test may use many.
 */
#ifndef SL_TESTS_FAULT_H
#define SL_TESTS_FAULT_H

#include "base/io.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum fault_call {
    FAULT_OPEN, FAULT_PREAD, FAULT_PWRITE, FAULT_FSYNC, FAULT_CLOSE, FAULT_RENAME,
    FAULT_FALLOCATE, FAULT_CALLS
};
static const char *const fault_names[FAULT_CALLS] = { "open", "pread", "pwrite", "fsync",
                                                      "close", "rename", "fallocate" };

enum fault_how {
    FAULT_FAIL,     /* -1 and errno = number                              */
    FAULT_HALF,     /* a short read or write                              */
    FAULT_FLIP      /* one byte is wrong, and the call says all went well */
};

struct fault {
    enum fault_call call;
    unsigned nth;             /* 1 is the first call; 0: only count       */
    bool from_there_on;
    enum fault_how how;
    int number;               /* errno                                    */
};

static struct {
    struct sl_io_ops real;
    struct fault fault;
    bool on;
    atomic_uint calls[FAULT_CALLS];
    atomic_uint hits;         /* how often the fault came about           */
} fault_state;

static inline bool fault_is_due(enum fault_call call)
{
    const unsigned n = 1 + atomic_fetch_add(&fault_state.calls[call], 1);
    const struct fault *f = &fault_state.fault;
    if (f->call != call || f->nth == 0 || n < f->nth || (n > f->nth && !f->from_there_on))
        return false;
    atomic_fetch_add(&fault_state.hits, 1);
    return true;
}

static inline int fault_errno(void)
{
    errno = fault_state.fault.number ? fault_state.fault.number : EIO;
    return -1;
}

static inline int fault_open(const char *path, int flags, mode_t mode)
{
    return fault_is_due(FAULT_OPEN) ? fault_errno() : fault_state.real.open(path, flags, mode);
}

static inline ssize_t fault_pread(int fd, void *buf, size_t len, off_t offset)
{
    if (!fault_is_due(FAULT_PREAD))
        return fault_state.real.pread(fd, buf, len, offset);
    if (fault_state.fault.how == FAULT_FAIL)
        return fault_errno();
    const bool half = fault_state.fault.how == FAULT_HALF;
    const ssize_t n = fault_state.real.pread(fd, buf, half ? (len + 1) / 2 : len, offset);
    if (!half && n > 0)
        ((unsigned char *)buf)[n / 2] ^= 0x40;
    return n;
}

static inline ssize_t fault_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    if (!fault_is_due(FAULT_PWRITE))
        return fault_state.real.pwrite(fd, buf, len, offset);
    if (fault_state.fault.how == FAULT_FAIL)
        return fault_errno();
    if (fault_state.fault.how == FAULT_HALF)
        return fault_state.real.pwrite(fd, buf, (len + 1) / 2, offset);
    const ssize_t n = fault_state.real.pwrite(fd, buf, len, offset);
    if (n > 0) {
        const unsigned char wrong = (unsigned char)(((const unsigned char *)buf)[n / 2] ^ 0x40);
        if (fault_state.real.pwrite(fd, &wrong, 1, offset + n / 2) != 1)
            return -1;
    }
    return n;
}

static inline int fault_fsync(int fd)
{
    return fault_is_due(FAULT_FSYNC) ? fault_errno() : fault_state.real.fsync(fd);
}

static inline int fault_close(int fd)
{
    const bool due = fault_is_due(FAULT_CLOSE);
    const int rc = fault_state.real.close(fd);    /* a failed close closes all the same */
    return due ? fault_errno() : rc;
}

static inline int fault_rename(const char *from, const char *to)
{
    return fault_is_due(FAULT_RENAME) ? fault_errno() : fault_state.real.rename(from, to);
}

static inline int fault_fallocate(int fd, off_t offset, off_t len)
{
    if (fault_is_due(FAULT_FALLOCATE))
        return fault_state.fault.number ? fault_state.fault.number : EIO;
    return fault_state.real.fallocate(fd, offset, len);
}

static inline void fault_end(void)
{
    if (fault_state.on)
        sl_io = fault_state.real;
    fault_state.on = false;
}

static inline void fault_begin(const struct fault *fault)
{
    fault_end();
    for (int c = 0; c < FAULT_CALLS; c++)
        atomic_store(&fault_state.calls[c], 0);
    atomic_store(&fault_state.hits, 0);
    fault_state.real = sl_io;
    fault_state.fault = *fault;
    fault_state.on = true;
    sl_io = (struct sl_io_ops){ .open = fault_open,     .pread = fault_pread,
                                .pwrite = fault_pwrite, .fsync = fault_fsync,
                                .close = fault_close,   .rename = fault_rename,
                                .fallocate = fault_fallocate };
}

static inline unsigned fault_calls(enum fault_call call)
{
    return atomic_load(&fault_state.calls[call]);
}

static inline unsigned fault_hits(void)
{
    return atomic_load(&fault_state.hits);
}

#endif
