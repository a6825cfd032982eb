/* fuzz_ranks.c: a Megatron folder of two ranks: the first as it was saved by Megatron, the data.pkl of the
 * second is the input, with storages of the sizes that it asks for. What is compared between ranks, args,
 * names, shapes, layouts and plans. */
#include "folder.h"
#include "use.h"
#include "wrap.h"

#define FIRST "tests/fixtures/llama_tp2_pp1/iter_0000010/mp_rank_00/model_optim_rng.pt"
#define STORAGES 64

static void put_first(void)
{
    static bool is_there;
    struct sl_arena arena = { 0 };
    char *bytes;
    size_t size;
    if (is_there)
        return;
    if (sl_file_slurp(FIRST, 1 << 24, &arena, &bytes, &size, NULL)) {
        fprintf(stderr, FIRST " can't be read: start in the root of the sources\n");
        abort();
    }
    fuzz_put("mp_rank_00/model_optim_rng.pt", (struct fuzz_part){ (const uint8_t *)bytes, size });
    sl_arena_free(&arena);
    is_there = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t storage_bytes[STORAGES];
    size_t file_size;
    if (!size)
        return 0;
    const size_t storages = fuzz_storages(data, size, storage_bytes, STORAGES);
    uint8_t *bytes = fuzz_wrap(data, size, storage_bytes, storages, &file_size);
    put_first();
    fuzz_put("mp_rank_01/model_optim_rng.pt", (struct fuzz_part){ bytes, file_size });
    fuzz_use(fuzz_folder());
    free(bytes);
    return 0;
}
