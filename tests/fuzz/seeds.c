/* seeds.c: writes the seeds of a target (gather.h) into a folder, for libFuzzer.
 *
 *     seeds TARGET FOLDER
 */
#include "fuzz.h"
#include "gather.h"

int main(int argc, char **argv)
{
    struct fuzz_seeds seeds = { .count = 0 };
    struct sl_error err = { 0 };
    int code = argc == 3 ? sl_folder_make(argv[2], &err) : SL_USAGE;
    if (!code)
        fuzz_gather(argv[1], &seeds);
    for (size_t i = 0; i < seeds.count && !code; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/seed-%zu", argv[2], i);
        sl_folder_remove(path, NULL);
        code = sl_write_new(path, seeds.items[i].data, seeds.items[i].size, &err);
    }
    const bool failed = code || !seeds.count;
    if (failed)
        fprintf(stderr, "seeds TARGET FOLDER: %s: %s\n", argc == 3 ? argv[1] : "", code ? err.message : "nothing is of its kind");
    fuzz_seeds_free(&seeds);
    return failed;
}
