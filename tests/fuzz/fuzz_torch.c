/* fuzz_torch.c: any bytes as a torch file: zip, the older container, a bare
 * pickle. What opens must keep its promises: tensors inside storages, storages
 * inside the file, an object without cycles. */
#include "fuzz.h"
#include "repair.h"

#include "base/text.h"
#include "base/value.h"
#include "format/torchfile.h"

FUZZ_REPAIR(fuzz_repair_zip)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_torch_file torch = { 0 };
    struct fuzz_file f;
    if (size >= 16) {
        (void)sl_sniff(data, size);
        (void)sl_torch_is(data, size);
    }
    fuzz_open(&f, data, size);
    const int code = sl_torch_open(&f.file, 0, size, &arena, &torch, &err);
    fuzz_refused(code, &err);
    for (uint32_t i = 0; !code && i < torch.storage_count; i++) {
        const struct sl_torch_storage *s = &torch.storages[i];
        if (!s->missing && (s->offset > size || s->packed > size - s->offset))
            abort();
    }
    for (uint32_t i = 0; !code && i < torch.tensor_count; i++)
        if (torch.tensors[i].storage >= (int32_t)torch.storage_count)
            abort();
    if (!code) {
        struct sl_buf line = { 0 };
        sl_value_print(torch.object, 500, &line);
        if (!sl_text_is_printable(line.data ? line.data : "", line.len))
            abort();
        sl_buf_free(&line);
    }
    fuzz_close(&f);
    sl_arena_free(&arena);
    return 0;
}
