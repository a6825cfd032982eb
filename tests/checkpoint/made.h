/* made.h: checkpoints for tests: copies of fixtures to be damaged, and small
 * rank files written for a test. */
#ifndef SL_TESTS_CHECKPOINT_MADE_H
#define SL_TESTS_CHECKPOINT_MADE_H

#include "../base/folder.h"

#include "base/io.h"
#include "base/text.h"
#include "checkpoint/ckpt.h"
#include "format/torchwrite.h"
#include "format/zipdir.h"

#include <libdeflate.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIXTURES "tests/fixtures/"

static inline char *slurp(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s can't be read", path);
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    char *bytes = malloc(*len + 1);
    assert_int_equal(fread(bytes, 1, *len, f), *len);
    bytes[*len] = '\0';
    fclose(f);
    return bytes;
}

static inline void copy_file(const char *from, const char *to)
{
    size_t len;
    char *bytes = slurp(from, &len);
    write_text(to, bytes, len);
    free(bytes);
}

/* A fixture's folder copied into the test's: two levels of folders at most. */
static inline void copy_tree(const char *from, const char *to)
{
    struct sl_arena arena = { 0 };
    const char *const *names;
    size_t count;
    assert_int_equal(sl_folder_make(to, NULL), 0);
    assert_int_equal(sl_folder_list(from, 1000, &arena, &names, &count, NULL), 0);
    for (size_t i = 0; i < count; i++) {
        const char *a = sl_arena_printf(&arena, "%s/%s", from, names[i]);
        const char *b = sl_arena_printf(&arena, "%s/%s", to, names[i]);
        if (sl_path_is_folder(a))
            copy_tree(a, b);
        else
            copy_file(a, b);
    }
    sl_arena_free(&arena);
}
static inline void copy_fixture(const char *name)
{
    char from[256];
    snprintf(from, sizeof from, FIXTURES "%s", name);
    copy_tree(from, folder);
}

static inline struct sl_ckpt *opened(const char *path)
{
    struct sl_ckpt *c = NULL;
    if (sl_ckpt_open(path, &c, &err))
        fail_msg("%s: %s", err.where, err.message);
    return c;
}
static inline void refused(const char *path, int code, const char *words)
{
    struct sl_ckpt *c = NULL;
    assert_int_equal(sl_ckpt_open(path, &c, &err), code);
    assert_null(c);
    assert_says(err, words);
}

static inline const struct sl_problem *problem(const struct sl_ckpt *c, const char *code)
{
    for (size_t i = 0; i < c->problems.count; i++)
        if (!strcmp(c->problems.items[i].code, code))
            return &c->problems.items[i];
    return NULL;
}
/* The only finding is this one. */
static inline const struct sl_problem *only_problem(const struct sl_ckpt *c, const char *code)
{
    for (size_t i = 0; i < c->problems.count; i++)
        if (c->problems.count != 1 || strcmp(c->problems.items[i].code, code))
            print_error("%s: %s: %s\n", c->problems.items[i].code, c->problems.items[i].where, c->problems.items[i].message);
    assert_int_equal(c->problems.count, 1);
    assert_string_equal(c->problems.items[0].code, code);
    return &c->problems.items[0];
}
static inline void no_problems(const struct sl_ckpt *c)
{
    for (size_t i = 0; i < c->problems.count; i++)
        print_error("%s: %s: %s\n", c->problems.items[i].code, c->problems.items[i].where, c->problems.items[i].message);
    assert_int_equal(c->problems.count, 0);
}

static inline const struct sl_tensor *tensor(const struct sl_ckpt *c, int32_t rank, const char *name)
{
    for (size_t i = 0; i < c->tensor_count; i++)
        if (c->tensors[i].rank == rank && !strcmp(c->tensors[i].name, name))
            return &c->tensors[i];
    fail_msg("rank %d has no %s", rank, name);
    return NULL;
}

/* Replaces `from` by `to` (of one length) everywhere in the data.pkl of a torch
 * file and makes its checksum right again. */
static inline void patch_pickle(const char *path, const void *from, const void *to, size_t len, size_t at_most)
{
    struct sl_arena arena = { 0 };
    struct sl_file file;
    struct sl_zip zip;
    size_t size;
    char *bytes = slurp(path, &size);
    assert_int_equal(sl_file_open(path, &file, &err), 0);
    assert_int_equal(sl_zip_open(&file, 0, file.size, &arena, &zip, &err), 0);
    sl_file_close(&file);
    const struct sl_zip_entry *pickle = NULL;
    for (uint64_t i = 0; i < zip.count; i++)
        if (sl_text_ends(zip.entries[i].name, "/data.pkl"))
            pickle = &zip.entries[i];
    assert_non_null(pickle);

    size_t patched = 0;
    char *p = bytes + pickle->offset, *stop = p + pickle->size;
    while (patched < at_most && (p = memmem(p, (size_t)(stop - p), from, len))) {
        memcpy(p, to, len);
        patched++;
    }
    assert_true(patched > 0);
    const uint32_t crc = libdeflate_crc32(0, bytes + pickle->offset, pickle->size);
    if (!memcmp(stop, "PK\7\10", 4))
        memcpy(stop + 4, &crc, 4);
    for (char *d = bytes; (d = memmem(d, (size_t)(bytes + size - d), "PK\1\2", 4)); d += 4)
        if (!memcmp(d + 46, pickle->name, strlen(pickle->name)))
            memcpy(d + 16, &crc, 4);
    write_text(path, bytes, size);
    free(bytes);
    sl_arena_free(&arena);
}

/* ---- rank files written for a test -------------------------------------------- */

struct made_tensor { const char *name; enum sl_dtype dtype; int64_t rows, cols; };
struct made_args { int tp, pp, ep, etp, hidden, layers, heads; };       /* 0: not stated */
struct made_rank {
    const char *const *chunks;       /* keys: {"model", NULL} */
    const struct made_tensor *tensors; size_t count;
    const struct made_args *args;    /* NULL: no args */
    int iteration;                   /* -1: none */
};

static inline void write_pieces(FILE *f, const struct sl_torch_piece *pieces, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        fseek(f, (long)pieces[i].offset, SEEK_SET);
        assert_int_equal(fwrite(pieces[i].bytes, 1, pieces[i].len, f), pieces[i].len);
    }
}

static inline void pickle_int(struct sl_pickler *p, const char *key, int value)
{
    if (!value)
        return;
    sl_pickler_str(p, key);
    sl_pickler_int(p, value);
}

static inline void pickle_rank(struct sl_pickler *p, const struct made_rank *r, uint64_t *bytes, uint32_t *storages)
{
    static const uint64_t size_of[SL_DTYPE_COUNT] = { [SL_BF16] = 2, [SL_F16] = 2, [SL_F32] = 4, [SL_U8] = 1 };
    sl_pickler_begin(p);
    sl_pickler_dict_begin(p, false);
    if (r->args) {
        sl_pickler_str(p, "args");
        sl_pickler_namespace_begin(p);
        pickle_int(p, "tensor_model_parallel_size", r->args->tp);
        pickle_int(p, "pipeline_model_parallel_size", r->args->pp);
        pickle_int(p, "expert_model_parallel_size", r->args->ep);
        pickle_int(p, "expert_tensor_parallel_size", r->args->etp);
        pickle_int(p, "hidden_size", r->args->hidden);
        pickle_int(p, "num_layers", r->args->layers);
        pickle_int(p, "num_attention_heads", r->args->heads);
        sl_pickler_namespace_end(p);
    }
    if (r->iteration >= 0) {
        sl_pickler_str(p, "iteration");
        sl_pickler_int(p, r->iteration);
    }
    for (size_t k = 0; r->chunks[k]; k++) {
        sl_pickler_str(p, r->chunks[k]);
        sl_pickler_dict_begin(p, true);
        for (size_t i = 0; i < r->count; i++) {
            const struct made_tensor *t = &r->tensors[i];
            const int64_t shape[2] = { t->rows, t->cols };
            const uint64_t count = (uint64_t)(t->rows * t->cols);
            sl_pickler_str(p, t->name);
            sl_pickler_tensor(p, t->dtype, *storages, count, 0, shape, 2);
            bytes[(*storages)++] = count * size_of[t->dtype];
        }
        sl_pickler_dict_end(p);
    }
    sl_pickler_dict_end(p);
    sl_pickler_end(p);
}

/* Writes FOLDER/rank/model_optim_rng.pt with zero weights. */
static inline void make_rank(const char *rank, const struct made_rank *r)
{
    struct sl_arena arena = { 0 };
    struct sl_pickler p = { 0 };
    struct sl_torch_layout layout;
    struct sl_torch_piece *tail;
    uint64_t bytes[256];
    uint32_t storages = 0, crc[256], tail_count;
    char path[1024];
    pickle_rank(&p, r, bytes, &storages);
    assert_int_equal(sl_torch_layout(p.out.data, p.out.len, bytes, storages, &arena, &layout, &err), 0);
    for (uint32_t i = 0; i < storages; i++) {
        void *zeros = calloc(1, bytes[i] + 1);
        crc[i] = libdeflate_crc32(0, zeros, bytes[i]);
        free(zeros);
    }
    assert_int_equal(sl_torch_tail(&layout, crc, &arena, &tail, &tail_count, &err), 0);
    snprintf(path, sizeof path, "%s/%s", folder, rank);
    assert_int_equal(sl_folder_make(path, &err), 0);
    snprintf(path, sizeof path, "%s/%s/model_optim_rng.pt", folder, rank);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(ftruncate(fileno(f), (off_t)layout.file_size), 0);
    write_pieces(f, layout.pieces, layout.piece_count);
    write_pieces(f, tail, tail_count);
    fclose(f);
    sl_buf_free(&p.out);
    sl_arena_free(&arena);
}

/* A safetensors file whose tensors are listed as JSON members; `data` zero bytes follow. */
static inline void make_safetensors(const char *path, const char *members, size_t data)
{
    char header[4096];
    const int len = snprintf(header + 8, sizeof header - 8, "{%s}", members);
    const uint64_t n = (uint64_t)len;
    memcpy(header, &n, 8);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(header, 1, 8 + (size_t)len, f);
    for (size_t i = 0; i < data; i++)
        fputc(0, f);
    fclose(f);
}

#endif
