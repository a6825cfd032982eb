/* fuzz_metadata.c: any bytes as the .metadata of a distributed checkpoint: what opens names files
 * below its folder, and chunks with as many axes as their tensor. */
#include "fuzz.h"

#include "format/dcp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_dcp d = { 0 };
    struct fuzz_file f;
    fuzz_open(&f, data, size);
    const int code = sl_dcp_open(&f.file, &arena, &d, &err);
    fuzz_refused(code, &err);
    for (uint32_t i = 0; !code && i < d.file_count; i++)
        if (!sl_path_is_inside(d.files[i], strlen(d.files[i])))
            abort();
    for (uint32_t i = 0; !code && i < d.tensor_count; i++)
        for (uint32_t k = 0; k < d.tensors[i].chunk_count; k++) {
            const struct sl_dcp_chunk *c = &d.tensors[i].chunks[k];
            char text[256];
            if (c->place.file >= (int32_t)d.file_count)
                abort();
            sl_dcp_box_text(c->offset, c->size, d.tensors[i].ndim, text, sizeof text);
        }
    fuzz_close(&f);
    sl_arena_free(&arena);
    return 0;
}
