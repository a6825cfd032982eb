/* repair.h: changes an input as libFuzzer does, then, every second time, makes right what a change
 * breaks and no reader gets past: check sums, sizes, offsets. In a target:
 *
 *     FUZZ_REPAIR(fuzz_repair_zip)
 */
#ifndef SL_TESTS_FUZZ_REPAIR_H
#define SL_TESTS_FUZZ_REPAIR_H

#include <stddef.h>
#include <stdint.h>

/* libFuzzer's, or that of replay.c */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

/* A zip archive: local headers say what the directory says, offsets of records are those where a
 * local header is, CRCs of stored records are those of their bytes. In place; returns the size. */
size_t fuzz_repair_zip(uint8_t *data, size_t size, size_t most);
/* A safetensors file: the header ends at its last brace, and as many values follow as it says. */
size_t fuzz_repair_safetensors(uint8_t *data, size_t size, size_t most);

#define FUZZ_REPAIR(repair)                                                                          \
    size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)           \
    {                                                                                                \
        size = LLVMFuzzerMutate(data, size, most);                                                   \
        return seed % 2 ? repair(data, size, most) : size;                                           \
    }

#endif
