/* wrap.h: a well formed torch archive around any bytes as its data.pkl: the way to the recognisers
 * of tensors and objects, without a zip directory to guess. */
#ifndef SL_TESTS_FUZZ_WRAP_H
#define SL_TESTS_FUZZ_WRAP_H

#include "fuzz.h"

/* The archive, with storages of zeros under the keys 0, 1, ..; their CRCs are 0, "not computed".
 * The caller frees it. */
uint8_t *fuzz_wrap(const uint8_t *pickle, size_t len, const uint64_t *storage_bytes, size_t storages, size_t *size);
/* The storages that a pickle asks for, by their numbers as torch.save writes them: fills at most
 * `most` and returns how many there are. */
size_t fuzz_storages(const uint8_t *pickle, size_t len, uint64_t *storage_bytes, size_t most);

#endif
