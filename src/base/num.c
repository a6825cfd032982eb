/* num.c: products of shapes, and little-endian numbers at any address. */
#include "base/num.h"

bool sl_shape_count(const int64_t *shape, uint32_t ndim, uint64_t *count)
{
    /* A zero anywhere makes the product zero, but a negative size stays wrong
     * and an overflow of the other sizes stays an overflow. */
    int64_t product = 1;
    bool empty = false;
    for (uint32_t d = 0; d < ndim; d++) {
        if (shape[d] < 0)
            return false;
        if (shape[d] == 0)
            empty = true;
        else if (!sl_mul_i64(product, shape[d], &product))
            return false;
    }
    *count = empty ? 0 : (uint64_t)product;
    return true;
}

uint16_t sl_load_u16(const void *p)
{
    const unsigned char *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}

uint32_t sl_load_u32(const void *p)
{
    const unsigned char *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

uint64_t sl_load_u64(const void *p)
{
    const unsigned char *b = p;
    return sl_load_u32(b) | (uint64_t)sl_load_u32(b + 4) << 32;
}

void sl_store_u16(void *p, uint16_t v)
{
    unsigned char *b = p;
    b[0] = (unsigned char)(v & 0xff);
    b[1] = (unsigned char)(v >> 8);
}

void sl_store_u32(void *p, uint32_t v)
{
    unsigned char *b = p;
    for (unsigned i = 0; i < 4; i++)
        b[i] = (unsigned char)(v >> (8 * i) & 0xff);
}

void sl_store_u64(void *p, uint64_t v)
{
    unsigned char *b = p;
    for (unsigned i = 0; i < 8; i++)
        b[i] = (unsigned char)(v >> (8 * i) & 0xff);
}
