/* folder.h: inputs that are more than one file. An input is cut into parts at lines of FUZZ_CUT,
 * and each part becomes a file of one folder in memory, made when it is first asked for and
 * removed when the process ends. */
#ifndef SL_TESTS_FUZZ_FOLDER_H
#define SL_TESTS_FUZZ_FOLDER_H

#include "fuzz.h"

#define FUZZ_CUT "\n====\n"
#define FUZZ_PARTS 8

struct fuzz_part { const uint8_t *data; size_t size; };    /* data NULL: the input ends before it */

/* Cuts an input; the last of `most` parts takes what is left. */
void fuzz_cut(const uint8_t *data, size_t size, struct fuzz_part *parts, size_t most);
/* The folder, without a slash at the end. */
const char *fuzz_folder(void);
/* "FOLDER/name" in one of a few buffers that take turns. */
const char *fuzz_in(const char *name);
/* Puts a part there, folders above it too; a part that is not there takes the file away. */
void fuzz_put(const char *name, struct fuzz_part part);
/* A file of `front`, then holes up to `size` bytes. */
void fuzz_put_long(const char *name, struct fuzz_part front, uint64_t size);

#endif
