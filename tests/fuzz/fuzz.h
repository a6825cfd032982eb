/* fuzz.h: what every fuzz target is: one function that takes bytes and must
 * come back, without a crash, a leak, a hang or much memory, whatever they are.
 * Linked with libFuzzer (make fuzz) or with replay.c (make test). */
#ifndef SL_TESTS_FUZZ_H
#define SL_TESTS_FUZZ_H

#include "base/arena.h"
#include "base/io.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What one input may take from an arena: far more than an honest file needs. */
#define FUZZ_ARENA (UINT64_C(256) << 20)

/* A file in memory that holds the bytes, opened as any other. */
struct fuzz_file {
    int memory;
    char path[32];
    struct sl_file file;
};

static inline void fuzz_open(struct fuzz_file *f, const uint8_t *data, size_t size)
{
    struct sl_error err;
    f->memory = memfd_create("fuzz", MFD_CLOEXEC);
    if (f->memory < 0 || (size && sl_write_at(f->memory, "fuzz", 0, data, size, &err)))
        abort();
    snprintf(f->path, sizeof f->path, "/proc/self/fd/%d", f->memory);
    if (sl_file_open(f->path, &f->file, &err))
        abort();
}

static inline void fuzz_close(struct fuzz_file *f)
{
    sl_file_close(&f->file);
    close(f->memory);
}

/* A refusal must say something, and what it says must be printable and name a place. */
void fuzz_refused(int code, const struct sl_error *err);

#endif
