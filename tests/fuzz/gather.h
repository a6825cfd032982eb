/* gather.h: seeds of a target: every file of tests/fuzz/seeds/TARGET, and of tests/fixtures what is of
 * its kind, by the names of files. Inputs of several parts (folder.h) are made of the files of a folder. */
#ifndef SL_TESTS_FUZZ_GATHER_H
#define SL_TESTS_FUZZ_GATHER_H

#include <stddef.h>
#include <stdint.h>

struct fuzz_seed { uint8_t *data; size_t size; };
struct fuzz_seeds { struct fuzz_seed *items; size_t count, room; };

/* target: "zip", "model", ..; found from the root of the sources. */
void fuzz_gather(const char *target, struct fuzz_seeds *out);
/* One more: a file, or the files of a folder and of folders in it. */
void fuzz_gather_path(const char *path, struct fuzz_seeds *out);
void fuzz_seeds_free(struct fuzz_seeds *s);

#endif
