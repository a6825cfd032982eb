/* fuzz_safetensors.c: any bytes as a safetensors file. What opens covers its
 * data exactly, and can be laid out again. */
#include "fuzz.h"
#include "repair.h"

#include "base/dtype.h"
#include "base/num.h"
#include "format/safetensors.h"

/* The same tensors as the writer orders them: as many bytes of data. */
static void lay_out(const struct sl_st_file *st, uint64_t data_size)
{
    struct sl_st_tensor *copy = calloc((size_t)st->count + 1, sizeof *copy);
    struct sl_buf header = { 0 };
    uint64_t sum = 0, file_size;
    if (!copy)
        abort();
    for (uint32_t i = 0; i < st->count; i++) {
        copy[i] = st->tensors[i];
        sum += copy[i].bytes;
    }
    if (sum != data_size ||
        (!sl_st_layout(copy, st->count, &header, &file_size, NULL) && file_size != header.len + sum))
        abort();
    sl_buf_free(&header);
    free(copy);
}

FUZZ_REPAIR(fuzz_repair_safetensors)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_st_file st = { 0 };
    struct fuzz_file f;
    if (size >= 9)
        (void)sl_st_is(data, size, size);
    fuzz_open(&f, data, size);
    const int code = sl_st_open(&f.file, &arena, &st, &err);
    fuzz_refused(code, &err);
    for (uint32_t i = 0; !code && i < st.count; i++) {
        const struct sl_st_tensor *t = &st.tensors[i];
        uint64_t count;
        if (t->offset < st.data_begin || t->offset > size || t->bytes > size - t->offset ||
            !sl_shape_count(t->shape, t->ndim, &count) || count * sl_dtype_size(t->dtype) != t->bytes)
            abort();
    }
    if (!code)
        lay_out(&st, size - st.data_begin);
    fuzz_close(&f);
    sl_arena_free(&arena);
    return 0;
}
