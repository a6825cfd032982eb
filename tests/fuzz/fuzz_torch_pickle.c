/* fuzz_torch_pickle.c: any bytes as the data.pkl of a torch archive that is
 * well formed around it, with three storages of 32, 0 and 100 bytes: the way to
 * the recognisers of tensors and objects, without a zip directory to guess.
 *
 * What opens: tensors lie in their storages; the object can be walked as a tree
 * in bounded time and depth; it can be written as a pickle again. */
#include "fuzz.h"
#include "wrap.h"

#include "base/dtype.h"
#include "base/text.h"
#include "base/value.h"
#include "format/torchfile.h"
#include "format/torchwrite.h"

static const uint64_t storage_bytes[] = { 32, 0, 100 };
#define STORAGES (sizeof storage_bytes / sizeof *storage_bytes)

static void check_tensor(const struct sl_torch_file *t, const struct sl_torch_tensor *x)
{
    uint64_t last = x->storage_offset, count = 1;
    for (uint32_t d = 0; d < x->ndim; d++) {
        count *= (uint64_t)x->shape[d];
        if (x->shape[d])
            last += (uint64_t)(x->shape[d] - 1) * (uint64_t)x->stride[d];
    }
    if (x->storage < 0 || !count || t->storages[x->storage].missing)
        return;
    if ((last + 1) * sl_dtype_size(x->dtype) > t->storages[x->storage].bytes)
        abort();
}

/* Steps of a walk over v as a tree. */
static uint64_t walk(const struct sl_value *v, unsigned depth)
{
    uint64_t steps = 1;
    if (depth > 1002)
        abort();
    if (v->kind == SL_VALUE_LIST || v->kind == SL_VALUE_DICT)
        for (size_t i = 0; i < v->len; i++)
            steps += walk(v->items[i], depth + 1) +
                     (v->kind == SL_VALUE_DICT ? walk(v->keys[i], depth + 1) : 0);
    return steps;
}

static void check_file(const struct sl_torch_file *t)
{
    for (uint32_t i = 0; i < t->tensor_count; i++)
        check_tensor(t, &t->tensors[i]);
    if (walk(t->object, 0) > 10000001 + t->pickle_bytes)
        abort();
    struct sl_buf line = { 0 };
    sl_value_print(t->object, 500, &line);
    if (!sl_text_is_printable(line.data ? line.data : "", line.len))
        abort();
    sl_buf_free(&line);
    struct sl_pickler p = { 0 };
    sl_pickler_begin(&p);
    sl_pickler_value(&p, t->object);
    sl_pickler_end(&p);
    sl_buf_free(&p.out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_torch_file torch = { 0 };
    struct fuzz_file f;
    size_t file_size;
    uint8_t *bytes = fuzz_wrap(data, size, storage_bytes, STORAGES, &file_size);
    fuzz_open(&f, bytes, file_size);
    const int code = sl_torch_open(&f.file, 0, file_size, &arena, &torch, &err);
    fuzz_refused(code, &err);
    if (!code)
        check_file(&torch);
    fuzz_close(&f);
    sl_arena_free(&arena);
    free(bytes);
    return 0;
}
