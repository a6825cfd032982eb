/* num.h: arithmetic on numbers from files. Each returns false, and leaves *out
 * alone, where the result would not fit. */
#ifndef SL_BASE_NUM_H
#define SL_BASE_NUM_H

#include <stdbool.h>
#include <stdint.h>

static inline bool sl_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t result;
    if (__builtin_add_overflow(a, b, &result))
        return false;
    *out = result;
    return true;
}
static inline bool sl_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t result;
    if (__builtin_mul_overflow(a, b, &result))
        return false;
    *out = result;
    return true;
}
static inline bool sl_add_i64(int64_t a, int64_t b, int64_t *out)
{
    int64_t result;
    if (__builtin_add_overflow(a, b, &result))
        return false;
    *out = result;
    return true;
}
static inline bool sl_mul_i64(int64_t a, int64_t b, int64_t *out)
{
    int64_t result;
    if (__builtin_mul_overflow(a, b, &result))
        return false;
    *out = result;
    return true;
}
static inline int64_t sl_min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t sl_max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline uint64_t sl_min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t sl_max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Product of ndim sizes; false when one is negative or the product overflows int64. */
bool sl_shape_count(const int64_t *shape, uint32_t ndim, uint64_t *count);

/* Little-endian loads and stores from any address. */
uint16_t sl_load_u16(const void *p);
uint32_t sl_load_u32(const void *p);
uint64_t sl_load_u64(const void *p);
void sl_store_u16(void *p, uint16_t v);
void sl_store_u32(void *p, uint32_t v);
void sl_store_u64(void *p, uint64_t v);

#endif
