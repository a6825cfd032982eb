/* fuzz_metadata.c: any bytes as the .metadata of a distributed checkpoint: what opens names files
 * below its folder, and chunks with as many axes as their tensor, whose boxes can be compared. */
#include "fuzz.h"

#include "base/text.h"
#include "checkpoint/tiling.h"
#include "format/dcp.h"

static void look_at_metadata(const struct sl_file *file)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_dcp dcp;
    struct tiling_box boxes[64];
    const int code = sl_dcp_open(file, &arena, &dcp, &err);
    fuzz_refused(code, &err);
    for (uint32_t i = 0; !code && i < dcp.tensor_count; i++) {
        const struct sl_dcp_tensor *t = &dcp.tensors[i];
        struct tiling tiling;
        if (t->ndim > SL_LIMIT_DIMS || t->outer > strlen(t->key))
            abort();
        for (uint32_t k = 0; k < t->chunk_count; k++) {
            char box[64];
            if (t->chunks[k].place.file >= (int32_t)dcp.file_count)
                abort();
            sl_dcp_box_text(t->chunks[k].offset, t->chunks[k].size, t->ndim, box, sizeof box);
            if (k < 64)
                boxes[k] = (struct tiling_box){ t->chunks[k].offset, t->chunks[k].size };
        }
        if (t->chunk_count <= 64 && t->ndim <= 4)
            (void)tiling_check(t->shape, t->ndim, boxes, t->chunk_count, &tiling, &err);
    }
    for (uint32_t i = 0; !code && i < dcp.file_count; i++)
        if (!sl_path_is_inside(dcp.files[i], strlen(dcp.files[i])))
            abort();
    sl_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_file f;
    fuzz_open(&f, data, size);
    look_at_metadata(&f.file);
    fuzz_close(&f);
    return 0;
}
