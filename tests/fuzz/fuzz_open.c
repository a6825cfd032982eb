/* fuzz_open.c: any bytes as a file that shardlens is pointed at, through the
 * public API: opened, listed, its tensors read, planned. */
#include "fuzz.h"
#include "repair.h"
#include "use.h"

FUZZ_REPAIR(fuzz_repair_zip)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_file f;
    fuzz_open(&f, data, size);
    fuzz_use(f.path);
    fuzz_close(&f);
    return 0;
}
