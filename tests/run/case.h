/* case.h: a small conversion with everything in it: row-parallel cuts, q k v of a fused
 * matrix, vocabulary rows trimmed and padded, a cast, an empty tensor, one tensor larger than
 * a buffer; two files and two extras. Its result is known byte for byte. */
#ifndef TESTS_RUN_CASE_H
#define TESTS_RUN_CASE_H

#include "helper.h"

#include <zlib.h>

#define CASE_FOLDER 0     /* two safetensors files */
#define CASE_FILE   1     /* one */
#define CASE_TORCH  2     /* the second file is a torch file */
#define CASE_DIST   3     /* both files hold torch files of one tensor each, as torch_dist */
#define CASE_KINDS  4

#define CASE_SOURCES 8
#define CASE_TARGETS 9
#define CASE_COPIES  12

struct conversion_case {
    char folder[512];                       /* holds source/ and target/ */
    char source[1024], target[1024];
    struct made sources[CASE_SOURCES], targets[CASE_TARGETS];
    size_t source_count, target_count;
    struct sl_copy copies[CASE_COPIES + 4];
    size_t copy_count;
    size_t first[CASE_TARGETS + 1];
    struct sl_tensor tensors[CASE_TARGETS];
    int64_t stride[CASE_TARGETS][4];
    struct sl_out_file files[2];
    struct sl_buf whole[2];                 /* what each file must hold */
    struct sl_out_extra extras[2];
    struct sl_out_item items[CASE_TARGETS];
    struct sl_conversion plan;
};

static inline size_t case_source(struct conversion_case *k, const char *name, enum sl_dtype dtype, int64_t rows, int64_t columns)
{
    struct made *m = &k->sources[k->source_count];
    *m = (struct made){ .dtype = dtype, .ndim = 2, .shape = { rows, columns } };
    snprintf(m->name, sizeof m->name, "%s", name);
    m->data = malloc((size_t)made_bytes(m) + 1);
    fill_weights(dtype, m->data, (size_t)made_count(m));
    return k->source_count++;
}
static inline void case_target(struct conversion_case *k, const char *name, int64_t rows, int64_t columns)
{
    struct made *m = &k->targets[k->target_count];
    *m = (struct made){ .dtype = SL_BF16, .ndim = 2, .shape = { rows, columns } };
    snprintf(m->name, sizeof m->name, "%s", name);
    m->data = malloc((size_t)made_bytes(m) + 1);
    memset(m->data, 0xee, (size_t)made_bytes(m));
    k->first[k->target_count++] = k->copy_count;
}
/* The copy of rows x columns from a source to the target begun last. */
static inline void case_copy(struct conversion_case *k, size_t source, struct sl_copy c)
{
    struct made *m = &k->targets[k->target_count - 1];
    const struct made *s = source == UINT32_MAX ? NULL : &k->sources[source];
    c.source = (uint32_t)source;
    c.target = (uint32_t)k->target_count - 1;
    copy_by_elements(&c, s ? s->dtype : SL_U8, s ? s->data : NULL, m->dtype, m->data);
    k->copies[k->copy_count++] = c;
    k->first[k->target_count] = k->copy_count;
}

static inline struct sl_copy rows_copy(int64_t rows, int64_t columns, int64_t from_row, int64_t to_row)
{
    return (struct sl_copy){ .ndim = 2, .count = { rows, columns }, .source_base = from_row * columns,
                             .target_base = to_row * columns, .source_stride = { columns, 1 },
                             .target_stride = { columns, 1 } };
}

/* hidden 48; 2 groups of 2 query heads of 8 rows, and k and v; vocabulary 97 of 100 rows */
static inline void case_fill(struct conversion_case *k)
{
    const size_t embed0 = case_source(k, "rank0.embed", SL_BF16, 50, 48);
    const size_t embed1 = case_source(k, "rank1.embed", SL_BF16, 50, 48);
    const size_t qkv = case_source(k, "rank0.qkv", SL_BF16, 2 * 4 * 8, 48);
    const size_t proj0 = case_source(k, "rank0.proj", SL_BF16, 48, 40);
    const size_t proj1 = case_source(k, "rank1.proj", SL_BF16, 48, 40);
    const size_t norm = case_source(k, "rank0.norm", SL_F32, 1, 48);
    const size_t large = case_source(k, "rank0.large", SL_BF16, 3000, 100);
    const size_t empty = case_source(k, "rank0.empty", SL_BF16, 0, 48);

    case_target(k, "embed", 97, 48);
    case_copy(k, embed0, rows_copy(50, 48, 0, 0));
    case_copy(k, embed1, rows_copy(47, 48, 0, 50));
    for (int part = 0; part < 3; part++) {    /* q, k, v */
        const int64_t rows = part == 0 ? 16 : 8, skip = part == 0 ? 0 : part == 1 ? 16 : 24;
        case_target(k, part == 0 ? "q" : part == 1 ? "k" : "v", 2 * rows, 48);
        case_copy(k, qkv, (struct sl_copy){ .ndim = 3, .count = { 2, rows, 48 }, .source_base = skip * 48,
                                            .source_stride = { 32 * 48, 48, 1 },
                                            .target_stride = { rows * 48, 48, 1 } });
    }
    case_target(k, "proj", 48, 80);
    for (int64_t rank = 0; rank < 2; rank++)
        case_copy(k, rank ? proj1 : proj0,
                  (struct sl_copy){ .ndim = 2, .count = { 48, 40 }, .target_base = 40 * rank,
                                    .source_stride = { 40, 1 }, .target_stride = { 80, 1 } });
    case_target(k, "norm", 1, 48);    /* fp32 to bf16 */
    case_copy(k, norm, rows_copy(1, 48, 0, 0));
    case_target(k, "large", 3000, 100);
    case_copy(k, large, rows_copy(3000, 100, 0, 0));
    case_target(k, "empty", 0, 48);
    case_copy(k, empty, rows_copy(0, 48, 0, 0));
    case_target(k, "padded", 10, 48);
    case_copy(k, embed0, rows_copy(7, 48, 3, 0));
    case_copy(k, UINT32_MAX, rows_copy(3, 48, 0, 7));
}

/* A torch file of the targets from `first` on: where their storages lie, and what all the
 * other bytes are. */
static inline void case_torch(struct conversion_case *k, size_t f, size_t first, size_t end)
{
    struct sl_arena *a = &k->plan.arena;
    struct sl_torch_layout *layout = SL_ARENA_NEW(a, struct sl_torch_layout, 1);
    struct sl_out_file *out = &k->files[f];
    uint64_t *bytes = SL_ARENA_NEW(a, uint64_t, end - first);
    uint32_t *target = SL_ARENA_NEW(a, uint32_t, end - first), *crc = SL_ARENA_NEW(a, uint32_t, end - first);
    for (size_t i = first; i < end; i++) {
        bytes[i - first] = made_bytes(&k->targets[i]);
        target[i - first] = (uint32_t)i;
        crc[i - first] = (uint32_t)crc32(0, k->targets[i].data, (uInt)made_bytes(&k->targets[i]));
    }
    assert_int_equal(sl_torch_layout("\x80\x02}.", 4, bytes, (uint32_t)(end - first), a, layout, NULL), 0);
    *out = (struct sl_out_file){ .name = "part/model.pt", .size = layout->file_size, .tensors = end - first,
                                 .torch = layout, .storage_target = target };
    struct sl_torch_piece *tail;
    uint32_t tails;
    assert_int_equal(sl_torch_tail(layout, crc, a, &tail, &tails, NULL), 0);
    unsigned char *whole = calloc(1, (size_t)layout->file_size);
    for (uint32_t i = 0; i < layout->piece_count; i++)
        memcpy(whole + layout->pieces[i].offset, layout->pieces[i].bytes, (size_t)layout->pieces[i].len);
    for (uint32_t i = 0; i < tails; i++)
        memcpy(whole + tail[i].offset, tail[i].bytes, (size_t)tail[i].len);
    for (size_t i = first; i < end; i++) {
        k->tensors[i].offset = layout->storage_offset[i - first];
        memcpy(whole + k->tensors[i].offset, k->targets[i].data, (size_t)made_bytes(&k->targets[i]));
    }
    sl_buf_clear(&k->whole[f]);
    sl_buf_add(&k->whole[f], whole, (size_t)layout->file_size);
    free(whole);
}

/* Items from multiples of 64 on, zeros between them; the first file begins with other things. */
static inline void case_items(struct conversion_case *k, size_t f, size_t first, size_t end)
{
    struct sl_buf *whole = &k->whole[f];
    sl_buf_clear(whole);
    if (!f)
        sl_buf_str(whole, "objects before the first tensor");
    const size_t head = whole->len;
    for (size_t i = first; i < end; i++) {
        const struct made *m = &k->targets[i];
        struct sl_tensor *t = &k->tensors[i];
        struct sl_torch_layout layout;
        struct sl_torch_piece *piece;
        uint32_t count, crc = (uint32_t)crc32(0, m->data, (uInt)made_bytes(m));
        assert_int_equal(sl_torch_layout_tensor(m->dtype, m->shape, m->ndim, t->bytes, &k->plan.arena, &layout, NULL), 0);
        assert_int_equal(sl_torch_around(&layout, &crc, &k->plan.arena, &piece, &count, NULL), 0);
        while (whole->len % 64)
            sl_buf_char(whole, '\0');
        k->items[i] = (struct sl_out_item){ .begin = whole->len, .len = layout.file_size };
        t->offset = whole->len + layout.storage_offset[0];
        for (uint32_t n = 0; n < count; n++) {
            sl_buf_add(whole, piece[n].bytes, (size_t)piece[n].len);
            if (n == 0 && count > 1)
                sl_buf_add(whole, m->data, (size_t)t->bytes);
        }
        assert_int_equal(whole->len, k->items[i].begin + layout.file_size);
    }
    k->files[f] = (struct sl_out_file){ .name = f ? "iter_1/__1_0.distcp" : "iter_1/__0_0.distcp", .tensors = end - first,
                                        .head = sl_arena_copy(&k->plan.arena, whole->data, head), .head_len = head,
                                        .size = whole->len };
    k->plan.items = k->items;
}

/* Targets 0..4 go to the first file, the others to the second; all to one for one file. */
static inline void case_files(struct conversion_case *k, int kind)
{
    const bool single = kind == CASE_FILE;
    const size_t cut = single ? k->target_count : 5;
    k->plan.single_file = single;
    k->plan.file_count = single ? 1 : 2;
    k->plan.files = k->files;
    for (size_t f = 0; f < k->plan.file_count; f++) {
        const size_t first = f ? cut : 0, end = f ? k->target_count : cut;
        k->whole[f] = safetensors_head(&k->targets[first], end - first);
        struct sl_out_file *out = &k->files[f];
        out->name = f ? "part/model-2.safetensors" : "model-1.safetensors";
        out->head_len = k->whole[f].len;
        out->tensors = end - first;
        for (size_t i = first; i < end; i++) {
            const struct made *m = &k->targets[i];
            struct sl_tensor *t = &k->tensors[i];
            k->stride[i][0] = m->shape[1];
            k->stride[i][1] = 1;
            *t = (struct sl_tensor){ .name = m->name, .path = m->name, .dtype = m->dtype, .ndim = m->ndim,
                                     .shape = m->shape, .stride = k->stride[i], .count = made_count(m),
                                     .bytes = made_bytes(m), .offset = k->whole[f].len, .file = (int32_t)f,
                                     .rank = -1 };
            sl_buf_add(&k->whole[f], m->data, (size_t)made_bytes(m));
            k->plan.write_bytes += t->bytes;
        }
        out->head = k->whole[f].data;
        out->size = k->whole[f].len;
        if (f == 1 && kind == CASE_TORCH)
            case_torch(k, f, first, end);
        if (kind == CASE_DIST)
            case_items(k, f, first, end);
    }
}

static inline void case_open_source(struct conversion_case *k)
{
    struct sl_error err;
    if (sl_ckpt_open(k->source, &k->plan.ckpt, &err))
        fail_msg("%s: %s", err.where, err.message);
    k->plan.source.tensors = k->plan.ckpt->tensors;
    k->plan.source.tensor_count = k->plan.ckpt->tensor_count;
}

static inline void case_begin(struct conversion_case *k, int kind)
{
    const bool single = kind == CASE_FILE;
    char path[1024];
    memset(k, 0, sizeof *k);
    make_folder(k->folder);
    join(k->source, k->folder, "source");
    join(k->target, k->folder, single ? "out.safetensors" : "out");
    mkdir(k->source, 0777);
    case_fill(k);
    write_safetensors(join(path, k->source, "model.safetensors"), k->sources, k->source_count);
    case_open_source(k);
    for (size_t i = 0; i < k->copy_count; i++)
        if (k->copies[i].source != UINT32_MAX)
            k->copies[i].source = tensor_named(k->plan.ckpt, k->sources[k->copies[i].source].name);
    case_files(k, kind);
    write_bytes(join(path, k->source, "tokenizer.json"), "{\"tokens\": 97}\n", 15);
    k->extras[0] = (struct sl_out_extra){ .name = "config.json", .bytes = "{}\n", .len = 3 };
    k->extras[1] = (struct sl_out_extra){ .name = "tokenizer.json", .from = strdup(path), .len = 15 };
    k->plan.extras = k->extras;
    k->plan.extra_count = single ? 0 : 2;
    k->plan.targets = k->tensors;
    k->plan.target_count = k->target_count;
    k->plan.copies = k->copies;
    k->plan.copy_count = k->copy_count;
    k->plan.target_first = k->first;
    k->plan.proof = "made by hand";
    snprintf(k->plan.hash, sizeof k->plan.hash, "0123456789abcdef0123456789abcdef");
}

static inline void case_end(struct conversion_case *k)
{
    sl_ckpt_close(k->plan.ckpt);
    remove_folder(k->folder);
    for (size_t i = 0; i < k->source_count; i++)
        free(k->sources[i].data);
    for (size_t i = 0; i < k->target_count; i++)
        free(k->targets[i].data);
    for (size_t f = 0; f < 2; f++)
        sl_buf_free(&k->whole[f]);
    sl_arena_free(&k->plan.arena);
    free((char *)(uintptr_t)k->extras[1].from);
}

static inline bool file_holds(const char *path, const void *bytes, size_t len)
{
    size_t n = 0;
    unsigned char *p = read_bytes(path, &n);
    const bool same = p && n == len && memcmp(p, bytes, len) == 0;
    free(p);
    return same;
}

/* Is the target there, whole? */
static inline bool case_is_whole(const struct conversion_case *k)
{
    char path[1024];
    if (k->plan.single_file)
        return file_holds(k->target, k->whole[0].data, k->whole[0].len);
    for (size_t f = 0; f < k->plan.file_count; f++)
        if (!file_holds(join(path, k->target, k->files[f].name), k->whole[f].data, k->whole[f].len))
            return false;
    return file_holds(join(path, k->target, "config.json"), "{}\n", 3) &&
           file_holds(join(path, k->target, "tokenizer.json"), "{\"tokens\": 97}\n", 15);
}

/* Names in the folder that holds source and target: 1 + what is left or made. */
static inline size_t case_entries(const struct conversion_case *k)
{
    struct sl_arena a = { 0 };
    const char *const *names;
    size_t count = 0;
    assert_int_equal(sl_folder_list(k->folder, 100, &a, &names, &count, NULL), 0);
    sl_arena_free(&a);
    return count;
}

/* Runs it and waits. Buffers are the smallest, so that `large` takes several. */
static inline int case_run(const struct conversion_case *k, const struct sl_run_options *options, struct sl_error *err)
{
    struct sl_run_options o = options ? *options : (struct sl_run_options){ .verify = SL_VERIFY_REREAD };
    o.threads = o.threads ? o.threads : 2;
    o.memory = o.memory ? o.memory : o.threads * (128 << 10);
    struct sl_run *r;
    struct sl_error none;
    int code = sl_run_convert(&k->plan, k->target, &o, &r, err ? err : &none);
    if (!code) {
        code = sl_run_wait(r, err ? err : &none);
        sl_run_free(r);
    }
    return code;
}

static inline void case_must_work(const struct conversion_case *k, const struct sl_run_options *options)
{
    struct sl_error err = { .message = "" };
    if (case_run(k, options, &err))
        fail_msg("%s: %s", err.where, err.message);
    assert_true(case_is_whole(k));
    assert_int_equal(case_entries(k), 2);
}

#endif
