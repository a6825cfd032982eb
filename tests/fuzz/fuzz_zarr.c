/* fuzz_zarr.c: an array of a zarr checkpoint: its .zarray, two of its chunks, metadata.json;
 * chunks are inflated and read where they are compressed. */
#include "folder.h"
#include "use.h"

#include "format/zarr.h"

#define ARRAY "decoder.final_layernorm.weight/"

static void look_at_array(const char *path)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_zarr z;
    uint64_t number;
    const int code = sl_zarr_open(path, &arena, &z, &err);
    fuzz_refused(code, &err);
    if (!code && sl_zarr_chunk_number(&z, "0.1.2", &number) && number >= z.chunk_count)
        abort();
    sl_arena_free(&arena);
}

/* Names of chunks have as many numbers as the array has axes. */
static void put_chunk(int first, struct fuzz_part part)
{
    static const char *const names[2][3] = { { "0", "0.0", "0.0.0" }, { "1", "1.0", "0.1.0" } };
    char name[128];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, ARRAY "%s", names[first][i]);
        fuzz_put(name, part);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t backend[] = "{\"sharded_backend\": \"zarr\", \"sharded_backend_version\": 1}";
    struct fuzz_part parts[4];
    fuzz_cut(data, size, parts, 4);
    fuzz_put(ARRAY ".zarray", parts[0]);
    put_chunk(0, parts[1]);
    put_chunk(1, parts[2]);
    fuzz_put("metadata.json", parts[3].data ? parts[3] : (struct fuzz_part){ backend, sizeof backend - 1 });
    if (parts[0].data)
        look_at_array(fuzz_in(ARRAY ".zarray"));
    fuzz_use(fuzz_folder());
    return 0;
}
