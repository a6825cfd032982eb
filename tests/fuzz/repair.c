/* repair.c: see repair.h. */
#include "repair.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static uint32_t get(const uint8_t *p, int bytes)
{
    uint32_t v = 0;
    for (int i = bytes; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

static void put(uint8_t *p, int bytes, uint32_t v)
{
    for (int i = 0; i < bytes; i++, v >>= 8)
        p[i] = (uint8_t)v;
}

/* ---- zip: APPNOTE.TXT 4.3.7, 4.3.12, 4.3.16 ------------------------------------------------- */

enum { LOCAL = 30, CENTRAL = 46, END = 22 };

/* Where the n-th local header is, by its mark. */
static size_t find_local(const uint8_t *data, size_t size, size_t n)
{
    for (size_t at = 0; at + LOCAL <= size; at++)
        if (get(data + at, 4) == 0x04034b50 && n-- == 0)
            return at;
    return size;
}

static void repair_record(uint8_t *data, size_t size, size_t central, size_t number)
{
    uint8_t *c = data + central;
    const size_t at = find_local(data, size, number);
    if (at == size)
        return;
    uint8_t *l = data + at;
    const size_t begin = at + LOCAL + get(l + 26, 2) + get(l + 28, 2);
    const uint32_t len = get(c + 20, 4);
    put(c + 42, 4, (uint32_t)at);
    if (get(c + 10, 2) == 0 && begin <= size && len <= size - begin) {
        put(c + 24, 4, len);
        put(c + 16, 4, (uint32_t)crc32(0, data + begin, (uInt)len));
    }
    memcpy(l + 6, c + 8, 20);    /* flags to sizes; what the directory says */
    if (get(l + 26, 2) == get(c + 28, 2) && at + LOCAL + get(l + 26, 2) <= size && central + CENTRAL + get(c + 28, 2) <= size)
        memmove(l + LOCAL, c + CENTRAL, get(l + 26, 2));
}

size_t fuzz_repair_zip(uint8_t *data, size_t size, size_t most)
{
    (void)most;
    size_t end = size < END ? 0 : size - END;
    while (end && get(data + end, 4) != 0x06054b50)
        end--;
    size_t first = 0;
    while (first + CENTRAL <= end && get(data + first, 4) != 0x02014b50)
        first++;
    size_t count = 0, at = first;
    for (; at + CENTRAL <= end && get(data + at, 4) == 0x02014b50 && count < 1000; count++) {
        repair_record(data, first, at, count);
        at += CENTRAL + get(data + at + 28, 2) + get(data + at + 30, 2) + get(data + at + 32, 2);
    }
    if (!count || at > end)
        return size;
    put(data + end + 8, 2, (uint32_t)count);
    put(data + end + 10, 2, (uint32_t)count);
    put(data + end + 12, 4, (uint32_t)(at - first));
    put(data + end + 16, 4, (uint32_t)first);
    return size;
}

/* ---- safetensors ----------------------------------------------------------------------------- */

/* The largest second number of a pair of data_offsets. */
static size_t values_of(const uint8_t *header, size_t len)
{
    static const char key[] = "\"data_offsets\":[";
    const size_t key_len = sizeof key - 1;
    size_t most = 0;
    for (const uint8_t *p = header; (p = memmem(p, len - (size_t)(p - header), key, key_len)); p++) {
        char text[64] = "";
        unsigned long begin, end;
        const size_t left = len - (size_t)(p - header) - key_len;
        memcpy(text, p + key_len, left < sizeof text - 1 ? left : sizeof text - 1);
        if (sscanf(text, "%lu,%lu", &begin, &end) == 2 && end > most)
            most = end;
    }
    return most;
}

size_t fuzz_repair_safetensors(uint8_t *data, size_t size, size_t most)
{
    size_t end = size;
    while (end > 8 && data[end - 1] != '}')
        end--;
    if (end <= 8)
        return size;
    const size_t header = end - 8, values = values_of(data + 8, header);
    put(data, 4, (uint32_t)header);
    put(data + 4, 4, 0);
    if (values > most - end)
        return end;
    memset(data + end, 0, values);
    return end + values;
}
