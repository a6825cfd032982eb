/* fuzz_model.c: a Hugging Face folder: the header of its weights (the values are zeros), then
 * config.json, the index and generation_config.json. The way to what is above the formats: which
 * model it is, its sizes, its layout, plans of a conversion. */
#include "folder.h"
#include "use.h"

#define VALUES_MOST (UINT64_C(64) << 20)
#define HEADER_MOST 65536

/* The end of the last tensor, as far as the header says so. */
static uint64_t values_of(const char *header)
{
    uint64_t most = 0, begin, end;
    for (const char *p = header; (p = strstr(p, "\"data_offsets\"")); p++)
        if (sscanf(p, "\"data_offsets\" : [ %lu , %lu", &begin, &end) == 2 || sscanf(p, "\"data_offsets\":[%lu,%lu", &begin, &end) == 2)
            most = end > most && end < VALUES_MOST ? end : most;
    return most;
}

static void put_weights(struct fuzz_part header)
{
    static char file[8 + HEADER_MOST + 1];
    if (!header.data || header.size > HEADER_MOST) {
        fuzz_put("model.safetensors", (struct fuzz_part){ NULL, 0 });
        return;
    }
    const uint64_t len = header.size;
    memcpy(file, &len, sizeof len);    /* little-endian, as the processors this is built for */
    memcpy(file + 8, header.data, header.size);
    file[8 + len] = '\0';
    fuzz_put_long("model.safetensors", (struct fuzz_part){ (const uint8_t *)file, 8 + header.size }, 8 + len + values_of(file + 8));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_part parts[4];
    fuzz_cut(data, size, parts, 4);
    put_weights(parts[0]);
    fuzz_put("config.json", parts[1]);
    fuzz_put("model.safetensors.index.json", parts[2]);
    fuzz_put("generation_config.json", parts[3]);
    fuzz_use(fuzz_folder());
    return 0;
}
