/* test_read.c: bytes of tensors: views, strides, byte order, deflated records,
 * many threads and few open files. */
#include "made.h"

#include "base/dtype.h"
#include "base/pool.h"

#include <utime.h>

/* All elements of t in row-major order, by index arithmetic over its storage. */
static void *by_hand(struct sl_ckpt *c, const struct sl_tensor *t)
{
    const uint32_t size = sl_dtype_size(t->dtype);
    unsigned char *storage = malloc(t->storage_bytes + 1), *out = malloc(t->bytes + 1);
    const int64_t first = (int64_t)(t->offset - t->storage_begin);
    assert_int_equal(sl_ckpt_read(c, t, -first, storage, t->storage_bytes, &err), 0);
    for (uint64_t i = 0; i < t->count; i++) {
        uint64_t rest = i;
        int64_t at = 0;
        for (uint32_t a = t->ndim; a-- > 0; rest /= (uint64_t)t->shape[a])
            at += (int64_t)(rest % (uint64_t)t->shape[a]) * t->stride[a];
        memcpy(out + i * size, storage + first + at * (int64_t)size, size);
    }
    free(storage);
    return out;
}

static void every_range_is_right(const char *path)
{
    struct sl_ckpt *c = opened(path);
    for (size_t k = 0; k < c->tensor_count; k++) {
        const struct sl_tensor *t = &c->tensors[k];
        if (t->flags & SL_TENSOR_NO_DATA)
            continue;
        const uint32_t size = sl_dtype_size(t->dtype);
        unsigned char *want = by_hand(c, t), *got = malloc(t->bytes + 1);
        for (uint64_t first = 0; first <= t->count; first++)
            for (uint64_t count = 0; first + count <= t->count; count += 1 + count / 3) {
                if (sl_ckpt_read_elements(c, t, first, count, got, &err))
                    fail_msg("%s: %s", err.where, err.message);
                if (memcmp(want + first * size, got, count * size))
                    fail_msg("%s: elements %d to %d", t->name, (int)first, (int)(first + count));
            }
        free(want);
        free(got);
    }
    sl_ckpt_close(c);
}

TEST(views_are_read_along_their_strides) { every_range_is_right(FIXTURES "torch/views.pt"); }
TEST(views_in_the_old_container_are_read_along_their_strides) { every_range_is_right(FIXTURES "torch/legacy_views.pt"); }
TEST(empty_tensors_and_scalars_are_read) { every_range_is_right(FIXTURES "torch/scalars_empty.pt"); }
TEST(every_element_type_is_read) { every_range_is_right(FIXTURES "torch/dtypes.pt"); }

static void same_weights(struct sl_ckpt *a, struct sl_ckpt *b)
{
    size_t compared = 0;
    for (size_t k = 0; k < a->tensor_count; k++) {
        const struct sl_tensor *t = &a->tensors[k];
        if (t->flags & (SL_TENSOR_EXTRA | SL_TENSOR_OPTIMIZER))
            continue;
        const struct sl_tensor *u = tensor(b, t->rank, t->name);
        assert_int_equal(t->count, u->count);
        void *x = malloc(t->bytes), *y = malloc(u->bytes);
        assert_int_equal(sl_ckpt_read_elements(a, t, 0, t->count, x, &err), 0);
        assert_int_equal(sl_ckpt_read_elements(b, u, 0, u->count, y, &err), 0);
        assert_memory_equal(x, y, t->bytes);
        free(x);
        free(y);
        compared++;
    }
    assert_int_equal(compared, 42);
}

TEST(views_of_one_buffer_hold_the_same_weights_as_tensors_of_their_own)
{
    struct sl_ckpt *a = opened(FIXTURES "llama_views_tp2_pp1"), *b = opened(FIXTURES "llama_tp2_pp1");
    same_weights(a, b);
    sl_ckpt_close(a);
    sl_ckpt_close(b);
}

TEST(the_container_before_zip_holds_the_same_weights)
{
    struct sl_ckpt *a = opened(FIXTURES "llama_nozip_tp2_pp1"), *b = opened(FIXTURES "llama_tp2_pp1");
    same_weights(a, b);
    sl_ckpt_close(a);
    sl_ckpt_close(b);
}

static void like_plain(const char *path)
{
    struct sl_ckpt *a = opened(path), *b = opened(FIXTURES "torch/plain.pt");
    assert_int_equal(a->tensor_count, b->tensor_count);
    for (size_t k = 0; k < a->tensor_count; k++) {
        const struct sl_tensor *t = &a->tensors[k];
        const struct sl_tensor *u = tensor(b, -1, t->name);
        void *x = calloc(1, t->bytes + 1), *y = calloc(1, u->bytes + 1);
        for (uint64_t half = 0; half < 2; half++) {
            const uint64_t first = half * (t->count / 2), count = half ? t->count - first : t->count / 2;
            const uint32_t size = sl_dtype_size(t->dtype);
            assert_int_equal(sl_ckpt_read_elements(a, t, first, count, (char *)x + first * size, &err), 0);
        }
        assert_int_equal(sl_ckpt_read_elements(b, u, 0, u->count, y, &err), 0);
        assert_memory_equal(x, y, t->bytes);
        free(x);
        free(y);
    }
    sl_ckpt_close(a);
    sl_ckpt_close(b);
}

TEST(deflated_records_are_read_in_parts) { like_plain(FIXTURES "torch/deflated.pt"); }
TEST(unaligned_records_are_read) { like_plain(FIXTURES "torch/unaligned.pt"); }

TEST(a_large_transposed_matrix_is_read_in_runs)
{
    /* 700 x 300 floats whose value is their place in the storage, seen transposed */
    enum { ROWS = 700, COLS = 300 };
    const char *const model[] = { "model", NULL };
    const struct made_tensor t[] = { { "decoder.layers.0.mlp.linear_fc1.weight", SL_F32, ROWS, COLS } };
    make_rank("mp_rank_00", &(struct made_rank){ model, t, 1, NULL, -1 });
    struct sl_ckpt *c = opened(folder);
    struct sl_tensor view = *tensor(c, 0, t[0].name);
    float *values = malloc(view.bytes), *got = malloc(view.bytes);
    for (int i = 0; i < ROWS * COLS; i++)
        values[i] = (float)i;
    FILE *f = fopen(in("mp_rank_00/model_optim_rng.pt"), "r+b");
    fseek(f, (long)view.offset, SEEK_SET);
    fwrite(values, 4, ROWS * COLS, f);
    fclose(f);
    const int64_t shape[] = { COLS, ROWS }, stride[] = { 1, COLS };
    view.shape = shape;
    view.stride = stride;
    view.flags |= SL_TENSOR_STRIDED;
    assert_int_equal(sl_ckpt_read_elements(c, &view, 0, view.count, got, &err), 0);
    for (int i = 0; i < COLS; i++)
        for (int j = 0; j < ROWS; j++)
            assert_true(got[i * ROWS + j] >= (float)(j * COLS + i) && got[i * ROWS + j] <= (float)(j * COLS + i));
    free(values);
    free(got);
    sl_ckpt_close(c);
}

struct hammer { struct sl_ckpt *c; int wrong; };

static int hit(void *arg, unsigned worker, uint64_t i)
{
    (void)worker;
    struct hammer *h = arg;
    const struct sl_tensor *t = &h->c->tensors[i % h->c->tensor_count];
    unsigned char *buf = malloc(t->bytes + 1);
    const int code = sl_ckpt_read_elements(h->c, t, 0, t->count, buf, NULL);
    free(buf);
    return code;
}

TEST(many_threads_share_few_open_files)
{
    struct sl_ckpt *c = opened(FIXTURES "llama_tp4_pp2");
    for (unsigned limit = 1; limit <= 3; limit++) {
        c->open_limit = limit;
        struct hammer h = { c, 0 };
        assert_int_equal(sl_parallel(8, 2000, hit, &h), 0);
    }
    sl_ckpt_close(c);
}

TEST(a_range_outside_the_storage_is_refused)
{
    struct sl_ckpt *c = opened(FIXTURES "llama_tp1_pp1");
    const struct sl_tensor *t = tensor(c, 0, "decoder.final_layernorm.weight");
    char buf[256];
    assert_int_equal(sl_ckpt_read(c, t, 1, buf, 80, &err), SL_INPUT);
    assert_int_equal(sl_ckpt_read(c, t, -1, buf, 2, &err), SL_INPUT);
    assert_int_equal(sl_ckpt_read(c, t, INT64_MAX, buf, 2, &err), SL_INPUT);
    assert_int_equal(sl_ckpt_read(c, t, INT64_MIN, buf, 2, &err), SL_INPUT);
    assert_int_equal(sl_ckpt_read_elements(c, t, 39, 2, buf, &err), SL_USAGE);
    assert_int_equal(sl_ckpt_read_elements(c, t, UINT64_MAX, 2, buf, &err), SL_USAGE);
    assert_int_equal(sl_ckpt_read_elements(c, t, 0, 40, buf, &err), 0);
    sl_ckpt_close(c);
}

TEST(a_source_that_changes_is_found_out)
{
    copy_fixture("llama_tp1_pp1");
    struct sl_ckpt *c = opened(folder);
    assert_int_equal(sl_ckpt_unchanged(c, &err), 0);
    const char *file = in("iter_0000010/mp_rank_00/model_optim_rng.pt");
    struct utimbuf later = { 2000000000, 2000000000 };
    assert_int_equal(utime(file, &later), 0);
    assert_int_equal(sl_ckpt_unchanged(c, &err), SL_INPUT);
    sl_ckpt_close(c);
}

TEST(a_replaced_file_is_not_read_when_it_is_opened_again)
{
    copy_fixture("llama_tp2_pp1");
    struct sl_ckpt *c = opened(folder);
    c->open_limit = 1;
    char buf[80];
    const struct sl_tensor *a = tensor(c, 0, "decoder.final_layernorm.weight");
    const struct sl_tensor *b = tensor(c, 1, "decoder.final_layernorm.weight");
    for (size_t i = 0; i < c->file_count; i++) {    /* both are closed by turns */
        assert_int_equal(sl_ckpt_read_elements(c, a, 0, 40, buf, &err), 0);
        assert_int_equal(sl_ckpt_read_elements(c, b, 0, 40, buf, &err), 0);
    }
    sl_ckpt_close(c);

    c = opened(folder);
    c->open_limit = 1;
    c->open_count = 1;
    const char *second = in("iter_0000010/mp_rank_01/model_optim_rng.pt");
    char other[800];
    snprintf(other, sizeof other, "%s.new", second);
    copy_file(second, other);
    assert_int_equal(rename(other, second), 0);
    assert_int_equal(sl_ckpt_unchanged(c, &err), SL_INPUT);
    sl_ckpt_close(c);
}

TEST(files_know_their_identity_and_their_checksums)
{
    struct sl_ckpt *c = opened(FIXTURES "llama_tp1_pp1");
    struct stat st;
    uint32_t crc;
    assert_int_equal(stat(FIXTURES "llama_tp1_pp1/iter_0000010/mp_rank_00/model_optim_rng.pt", &st), 0);
    assert_true(sl_ckpt_has_inode(c, st.st_dev, st.st_ino));
    assert_false(sl_ckpt_has_inode(c, st.st_dev, st.st_ino + 1));
    const struct sl_tensor *t = tensor(c, 0, "decoder.final_layernorm.weight");
    char buf[80];
    assert_true(sl_ckpt_storage_crc(c, t, &crc));
    assert_int_equal(sl_ckpt_read_elements(c, t, 0, 40, buf, &err), 0);
    assert_int_equal(crc, libdeflate_crc32(0, buf, 80));
    sl_ckpt_close(c);
    c = opened(FIXTURES "torch/crc_off.pt");
    assert_false(sl_ckpt_storage_crc(c, &c->tensors[0], &crc));
    only_problem(c, "crc-missing");
    sl_ckpt_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(views_are_read_along_their_strides),
        ROW(views_in_the_old_container_are_read_along_their_strides),
        ROW(empty_tensors_and_scalars_are_read),
        ROW(every_element_type_is_read),
        ROW(views_of_one_buffer_hold_the_same_weights_as_tensors_of_their_own),
        ROW(the_container_before_zip_holds_the_same_weights),
        ROW(deflated_records_are_read_in_parts),
        ROW(unaligned_records_are_read),
        IN_FOLDER(a_large_transposed_matrix_is_read_in_runs),
        ROW(many_threads_share_few_open_files),
        ROW(a_range_outside_the_storage_is_refused),
        IN_FOLDER(a_source_that_changes_is_found_out),
        IN_FOLDER(a_replaced_file_is_not_read_when_it_is_opened_again),
        ROW(files_know_their_identity_and_their_checksums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
