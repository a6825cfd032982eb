/* seeds.c: takes data.pkl out of torch files, as seeds for the unpickler.
 *
 *     seeds FOLDER FILE.pt...
 */
#include "fuzz.h"

#include "base/text.h"
#include "format/zipdir.h"

#define SEED_BYTES_MAX (UINT64_C(1) << 20)

static int write_seed(const char *folder, int number, const void *bytes, size_t len)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/pickle-%d", folder, number);
    sl_folder_remove(path, NULL);
    return sl_write_new(path, bytes, len, NULL);
}

int main(int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        struct sl_arena arena = { 0 };
        struct sl_file file;
        struct sl_zip zip;
        if (!sl_file_open(argv[i], &file, NULL)) {
            if (!sl_zip_open(&file, 0, file.size, &arena, &zip, NULL))
                for (uint64_t e = 0; e < zip.count; e++) {
                    const struct sl_zip_entry *entry = &zip.entries[e];
                    void *buf = NULL;
                    if (sl_text_ends(entry->name, "/data.pkl") && entry->size < SEED_BYTES_MAX)
                        buf = malloc((size_t)entry->size + 1);
                    if (buf && !sl_zip_read(&file, 0, file.size, entry, 0, buf, (size_t)entry->size, NULL))
                        write_seed(argv[1], i, buf, (size_t)entry->size);
                    free(buf);
                }
            sl_file_close(&file);
        }
        sl_arena_free(&arena);
    }
    return 0;
}
