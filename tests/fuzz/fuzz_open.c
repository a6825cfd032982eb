/* fuzz_open.c: any bytes as a file that shardlens is pointed at, through the
 * public API: opened, listed, its tensors read. */
#include "fuzz.h"

#include <shardlens/shardlens.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_error err = { 0 };
    struct sl_checkpoint *ck = NULL;
    struct fuzz_file f;
    fuzz_open(&f, data, size);
    const int code = sl_open(f.path, NULL, &ck, &err);
    fuzz_refused(code, &err);
    if (!code) {
        const struct sl_checkpoint_info *info = sl_info(ck);
        for (size_t i = 0; i < info->problem_count; i++)
            if (!info->problems[i].message || !*info->problems[i].message)
                abort();
        for (size_t i = 0; i < sl_tensor_count(ck) && i < 16; i++) {
            const struct sl_tensor *t = sl_tensor_at(ck, i);
            uint8_t first[64];
            if (t->count && t->count <= 1 << 16 && t->bytes / t->count <= sizeof first)
                (void)sl_tensor_read(ck, i, t->count - 1, 1, first, &err);
        }
    }
    sl_close(ck);
    fuzz_close(&f);
    return 0;
}
