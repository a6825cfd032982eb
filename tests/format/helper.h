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

/* --- SHA-256 (FIPS 180-4) ------------------------------------------------ */

static const uint32_t sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t rotate(uint32_t x, unsigned n) { return x >> n | x << (32 - n); }

static inline void sha256_block(uint32_t h[8], const uint8_t *p)
{
    uint32_t w[64], v[8];
    for (unsigned i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (unsigned i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
               (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(v, h, sizeof v);
    for (unsigned i = 0; i < 64; i++) {
        uint32_t s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + sha256_k[i] + w[i];
        uint32_t s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (unsigned i = 0; i < 8; i++)
        h[i] += v[i];
}

static inline void sha256_hex(const void *bytes, size_t len, char hex[65])
{
    uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
    const uint8_t *p = bytes;
    size_t left = len;
    for (; left >= 64; left -= 64, p += 64)
        sha256_block(h, p);
    uint8_t last[128] = { 0 };
    if (left)
        memcpy(last, p, left);
    last[left] = 0x80;
    size_t end = left < 56 ? 64 : 128;
    for (unsigned i = 0; i < 8; i++)
        last[end - 1 - i] = (uint8_t)((uint64_t)len * 8 >> (8 * i));
    sha256_block(h, last);
    if (end == 128)
        sha256_block(h, last + 64);
    for (unsigned i = 0; i < 8; i++)
        snprintf(hex + 8 * i, 9, "%08x", h[i]);
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
