/* helper.h: what the tests of this room share: files in memory, SHA-256, the
 * bytes of a tensor made contiguous. */
#ifndef SL_TESTS_FORMAT_HELPER_H
#define SL_TESTS_FORMAT_HELPER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/dtype.h"
#include "base/io.h"
#include "base/num.h"
#include "base/text.h"
#include "format/torchfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../base/sha256.h"

#define FIXTURES "tests/fixtures/"

/* --- files -------------------------------------------------------------- */

/* A file in memory with these bytes; the same one is used again each time. */
static inline struct sl_file memory_file(const void *bytes, size_t len)
{
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("test", 0);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    struct sl_error err;
    if (len)
        assert_int_equal(sl_write_at(fd, "memory", 0, bytes, len, &err), 0);
    return (struct sl_file){ .fd = fd, .path = "memory", .size = len };
}

/* A whole file of the fixtures; the caller frees it. */
static inline char *read_fixture(const char *path, size_t *len)
{
    struct sl_file file;
    struct sl_error err;
    assert_int_equal(sl_file_open(path, &file, &err), 0);
    char *bytes = malloc(file.size + 1);
    assert_non_null(bytes);
    assert_int_equal(sl_file_read(&file, 0, bytes, file.size, &err), 0);
    *len = file.size;
    sl_file_close(&file);
    return bytes;
}

/* A refusal is SL_INPUT (or SL_UNSUPPORTED) in one printable line. */
static inline void assert_refused(int code, const struct sl_error *err)
{
    if (code != SL_INPUT && code != SL_UNSUPPORTED)
        fail_msg("code %d: %s", code, err->message);
    assert_true(err->message[0] != 0);
    assert_true(sl_text_is_printable(err->message, strlen(err->message)));
    assert_null(strchr(err->message, '\n'));
}

static inline void assert_says(const struct sl_error *err, const char *words)
{
    if (!strstr(err->message, words))
        fail_msg("\"%s\" says nothing of \"%s\"", err->message, words);
}

/* --- tensors ------------------------------------------------------------ */

/* All bytes of a storage; the caller frees them. */
static inline char *storage_bytes(const struct sl_file *file, const struct sl_torch_file *t,
                                  const struct sl_torch_storage *s)
{
    struct sl_error err;
    char *bytes = malloc(s->bytes + 1);
    assert_non_null(bytes);
    int code = s->deflated
             ? sl_torch_read_deflated(file, 0, file->size, t->root, s, 0, bytes, s->bytes, &err)
             : sl_file_read(file, s->offset, bytes, s->bytes, &err);
    if (code)
        fail_msg("%s", err.message);
    return bytes;
}

/* The elements in row-major order, as the machine has them; the caller frees. */
static inline char *tensor_bytes(const struct sl_file *file, const struct sl_torch_file *t,
                                 const struct sl_torch_tensor *x, size_t *len)
{
    uint64_t count, size = sl_dtype_size(x->dtype);
    assert_true(sl_shape_count(x->shape, x->ndim, &count));
    char *storage = storage_bytes(file, t, &t->storages[x->storage]);
    char *out = malloc(count * size + 1);
    assert_non_null(out);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t rest = i, at = x->storage_offset;
        for (uint32_t d = x->ndim; d-- > 0; rest /= (uint64_t)x->shape[d])
            at += rest % (uint64_t)x->shape[d] * (uint64_t)x->stride[d];
        memcpy(out + i * size, storage + at * size, size);
    }
    if (t->big_endian)
        sl_dtype_swap(x->dtype, out, count);
    *len = count * size;
    free(storage);
    return out;
}

#endif
