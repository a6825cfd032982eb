/* helper.h: small checkpoints and plans made by hand, for the tests of this room. */
#ifndef TESTS_RUN_HELPER_H
#define TESTS_RUN_HELPER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/dtype.h"
#include "base/io.h"
#include "base/num.h"
#include "base/text.h"
#include "run/run.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- random numbers: the same ones every time ---- */

static uint64_t random_state = 20261124;
static inline uint64_t random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}
static inline int64_t random_below(int64_t n) { return (int64_t)(random_u64() % (uint64_t)n); }
static inline void fill_random(void *p, size_t len)
{
    unsigned char *b = p;
    for (size_t i = 0; i < len; i++)
        b[i] = (unsigned char)random_u64();
}
/* Weights: finite, of the size weights have. */
static inline void fill_weights(enum sl_dtype dtype, void *p, size_t count)
{
    float *f = malloc((count ? count : 1) * sizeof *f);
    for (size_t i = 0; i < count; i++)
        f[i] = (float)((double)(random_u64() >> 11) / 9007199254740992.0 - 0.5);
    if (!sl_dtype_cast(SL_F32, f, dtype, p, count))
        fill_random(p, count * sl_dtype_size(dtype));
    free(f);
}

/* ---- folders and files ---- */

/* A folder of its own for a test, with an absolute path, in `path`. */
static inline void make_folder(char path[512])
{
    const char *base = getenv("TMPDIR");
    if (!base)    /* in memory where there is such a place: an fsync takes no time there */
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(path, 512, "%s/shardlens-run-XXXXXX", base);
    assert_non_null(mkdtemp(path));
}
static inline void remove_folder(const char *path)
{
    assert_int_equal(sl_folder_remove(path, NULL), 0);
}
static inline char *join(char out[1024], const char *folder, const char *name)
{
    assert_true(snprintf(out, 1024, "%s/%s", folder, name) < 1024);
    return out;
}
static inline void write_bytes(const char *path, const void *bytes, size_t len)
{
    unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(sl_write_at(fd, path, 0, bytes, len, NULL), 0);
    close(fd);
}
/* The whole file, in memory to be freed; NULL when it is not there. */
static inline unsigned char *read_bytes(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    unsigned char *p = malloc(*len + 1);
    assert_int_equal(fread(p, 1, *len, f), *len);
    fclose(f);
    return p;
}
static inline bool same_files(const char *a, const char *b)
{
    size_t na = 0, nb = 0;
    unsigned char *pa = read_bytes(a, &na), *pb = read_bytes(b, &nb);
    const bool same = pa && pb && na == nb && memcmp(pa, pb, na) == 0;
    free(pa);
    free(pb);
    return same;
}

/* ---- a safetensors file, byte by byte ---- */

struct made { char name[64]; enum sl_dtype dtype; uint32_t ndim; int64_t shape[4]; void *data; };

static inline uint64_t made_count(const struct made *m)
{
    uint64_t n = 1;
    for (uint32_t a = 0; a < m->ndim; a++)
        n *= (uint64_t)m->shape[a];
    return n;
}
static inline uint64_t made_bytes(const struct made *m)
{
    return made_count(m) * sl_dtype_size(m->dtype);
}
/* The header of a file that holds these tensors one after the other. */
static inline struct sl_buf safetensors_head(const struct made *tensors, size_t count)
{
    struct sl_buf b = { 0 };
    uint64_t at = 0;
    sl_buf_str(&b, "12345678{");
    for (size_t i = 0; i < count; i++) {
        const struct made *m = &tensors[i];
        sl_buf_printf(&b, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", m->name,
                      sl_dtype_row(m->dtype)->safetensors);
        for (uint32_t a = 0; a < m->ndim; a++)
            sl_buf_printf(&b, "%s%" PRId64, a ? "," : "", m->shape[a]);
        sl_buf_printf(&b, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + made_bytes(m));
        at += made_bytes(m);
    }
    sl_buf_str(&b, "}");
    while (b.len % 8)
        sl_buf_char(&b, ' ');
    sl_store_u64(b.data, b.len - 8);
    return b;
}
static inline void write_safetensors(const char *path, const struct made *tensors, size_t count)
{
    struct sl_buf b = safetensors_head(tensors, count);
    for (size_t i = 0; i < count; i++)
        sl_buf_add(&b, tensors[i].data, made_bytes(&tensors[i]));
    write_bytes(path, b.data, b.len);
    sl_buf_free(&b);
}

/* Index of a tensor of an opened checkpoint by its name. */
static inline uint32_t tensor_named(const struct sl_ckpt *c, const char *name)
{
    for (size_t i = 0; i < c->tensor_count; i++)
        if (strcmp(c->tensors[i].name, name) == 0)
            return (uint32_t)i;
    fail_msg("no tensor %s", name);
    return 0;
}

/* ---- copies by single elements: what all others are compared with ---- */

/* One element more by a number: as fp32, or fp64 where one side is. */
static inline void add_one_element(double value, enum sl_dtype from, const void *in, enum sl_dtype to, void *out)
{
    float f;
    double d;
    if (from == SL_F64 || to == SL_F64) {
        assert_true(sl_dtype_cast(from, in, SL_F64, &d, 1));
        d = d + value;
        assert_true(sl_dtype_cast(SL_F64, &d, to, out, 1));
        return;
    }
    assert_true(sl_dtype_cast(from, in, SL_F32, &f, 1));
    f = f + (float)value;
    assert_true(sl_dtype_cast(SL_F32, &f, to, out, 1));
}

/* Applies a copy from memory to memory; from NULL stores zeros. */
static inline void copy_by_elements(const struct sl_copy *c, enum sl_dtype from_dtype, const void *from,
                                    enum sl_dtype to_dtype, void *to)
{
    const size_t from_size = sl_dtype_size(from_dtype), to_size = sl_dtype_size(to_dtype);
    int64_t index[SL_AXES] = { 0 };
    for (uint32_t a = 0; a < c->ndim; a++)
        if (c->count[a] == 0)
            return;
    for (;;) {
        int64_t f = c->source_base, t = c->target_base;
        for (uint32_t a = 0; a < c->ndim; a++) {
            f += index[a] * c->source_stride[a];
            t += index[a] * c->target_stride[a];
        }
        unsigned char *out = (unsigned char *)to + (size_t)t * to_size;
        const unsigned char *in = (const unsigned char *)from + (from ? (size_t)f * from_size : 0);
        if (!from)
            memset(out, 0, to_size);
        else if (c->op.kind == SL_OP_ADD)
            add_one_element(c->op.value, from_dtype, in, to_dtype, out);
        else if (from_dtype == to_dtype)
            memcpy(out, in, to_size);
        else
            assert_true(sl_dtype_cast(from_dtype, in, to_dtype, out, 1));
        uint32_t a = c->ndim;
        while (a-- > 0) {
            if (++index[a] < c->count[a])
                break;
            index[a] = 0;
        }
        if (a == UINT32_MAX)
            return;
    }
}

#endif
