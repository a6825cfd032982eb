/* fuzz_item.c: any bytes as an item of a data file of a distributed checkpoint: a tensor that
 * torch.save wrote. What opens has its numbers inside of the file. */
#include "fuzz.h"
#include "repair.h"

#include "format/dcp.h"

static void look_at_item(const struct sl_file *file)
{
    static const int64_t zeros[2], size[] = { 2, 3 };
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_dcp_item item;
    struct sl_dcp_image image = { .code = 0 };
    const struct sl_dcp_tensor t = { .key = "w", .dtype = SL_F32, .ndim = 2, .shape = size };
    const struct sl_dcp_chunk chunk = { zeros, size, { 0, 0, file->size } };
    pthread_mutex_init(&image.lock, NULL);
    const int code = sl_dcp_item_open(file, &t, &chunk, &image, &arena, &item, &err);
    fuzz_refused(code, &err);
    if (!code && (item.storage_begin > file->size || (!item.storage.deflated && item.storage_bytes > file->size - item.storage_begin)))
        abort();
    sl_dcp_image_free(&image);
    pthread_mutex_destroy(&image.lock);
    sl_arena_free(&arena);
}

FUZZ_REPAIR(fuzz_repair_zip)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_file f;
    fuzz_open(&f, data, size);
    look_at_item(&f.file);
    fuzz_close(&f);
    return 0;
}
