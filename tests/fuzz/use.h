/* use.h: what a person does with a checkpoint that opened, through the public API. */
#ifndef SL_TESTS_FUZZ_USE_H
#define SL_TESTS_FUZZ_USE_H

/* Opens the path; when it opens: every problem is told in printable words, tensors are read
 * at both ends, statistics made of small ones, slices looked up, and it is planned to other
 * layouts. Aborts when a promise is broken. */
void fuzz_use(const char *path);

#endif
