/* fuzz_zip.c: any bytes as a zip archive: its directory, then its records. */
#include "fuzz.h"
#include "repair.h"

#include "format/zipdir.h"

FUZZ_REPAIR(fuzz_repair_zip)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_zip zip = { 0 };
    struct fuzz_file f;
    fuzz_open(&f, data, size);
    int code = sl_zip_open(&f.file, 0, size, &arena, &zip, &err);
    fuzz_refused(code, &err);
    uint64_t inflated = 0;
    for (uint64_t i = 0; !code && i < zip.count; i++) {
        const struct sl_zip_entry *e = &zip.entries[i];
        if (e->offset > size || e->packed > size - e->offset || !sl_zip_find(&zip, e->name))
            abort();
        /* records of an honest size are read whole, at most a few MB together */
        if (e->size > (1 << 20) || (inflated += e->size) > (4 << 20))
            continue;
        void *buf = malloc(e->size ? (size_t)e->size : 1);
        if (!buf)
            abort();
        struct sl_error why = { 0 };
        fuzz_refused(sl_zip_read(&f.file, 0, size, e, 0, buf, (size_t)e->size, &why), &why);
        free(buf);
    }
    fuzz_close(&f);
    sl_arena_free(&arena);
    return 0;
}
