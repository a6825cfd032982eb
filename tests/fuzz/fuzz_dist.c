/* fuzz_dist.c: a folder of a distributed checkpoint: .metadata, one data file, common.pt,
 * metadata.json and integrity.json; opened as a whole, items looked into, values read. */
#include "folder.h"
#include "use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_part parts[5];
    fuzz_cut(data, size, parts, 5);
    fuzz_put(".metadata", parts[0]);
    fuzz_put("__0_0.distcp", parts[1]);
    fuzz_put("common.pt", parts[2]);
    fuzz_put("metadata.json", parts[3]);
    fuzz_put("integrity.json", parts[4]);
    fuzz_use(fuzz_folder());
    return 0;
}
