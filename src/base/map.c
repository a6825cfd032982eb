/* map.c: open addressing with linear probing, at most two thirds full. */
#include "base/map.h"

#include "base/num.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <xxhash.h>

#define FIRST_ROOM 16    /* a power of two, as every room */

void sl_map_free(struct sl_map *m)
{
    free(m->slots);
    *m = (struct sl_map){ 0 };
}

/* The secret of the process: asked for once, since small tables come by the ten thousand. */
static uint64_t secret(void)
{
    static atomic_uint_fast64_t kept;
    uint64_t value = atomic_load_explicit(&kept, memory_order_relaxed);
    if (value)
        return value;
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) != (ssize_t)sizeof value) {
        /* Early in a boot there may be no randomness: time and address must do. */
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        value = (uint64_t)now.tv_nsec * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)(uintptr_t)&now;
    }
    value |= 1;
    atomic_store_explicit(&kept, value, memory_order_relaxed);
    return value;
}

/* Another one for each table: a step of the secret, mixed as splitmix64 does. */
static uint64_t new_seed(void)
{
    static atomic_uint_fast64_t tables;
    uint64_t x = secret() + UINT64_C(0x9e3779b97f4a7c15) * (1 + atomic_fetch_add_explicit(&tables, 1, memory_order_relaxed));
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* The slot that holds the key, or the free one where it would go. */
static struct sl_map_slot *find(const struct sl_map *m, const char *key, size_t len, uint64_t hash)
{
    for (size_t i = (size_t)hash & (m->room - 1);; i = (i + 1) & (m->room - 1)) {
        struct sl_map_slot *slot = &m->slots[i];
        if (!slot->key)
            return slot;
        if (slot->hash == hash && slot->len == len && memcmp(slot->key, key, len) == 0)
            return slot;
    }
}

static bool grow_to(struct sl_map *m, size_t room)
{
    uint64_t bytes;
    if (room < m->room || !sl_mul_u64(room, sizeof *m->slots, &bytes) || bytes > SIZE_MAX)
        return false;
    struct sl_map_slot *slots = calloc(room, sizeof *slots);
    if (!slots)
        return false;

    struct sl_map bigger = { .slots = slots, .room = room, .count = m->count, .seed = m->seed };
    if (!m->room)
        bigger.seed = new_seed();
    for (size_t i = 0; i < m->room; i++) {
        const struct sl_map_slot *old = &m->slots[i];
        if (old->key)
            *find(&bigger, old->key, old->len, old->hash) = *old;
    }
    free(m->slots);
    *m = bigger;
    return true;
}

static bool grow(struct sl_map *m)
{
    return grow_to(m, m->room ? 2 * m->room : FIRST_ROOM);
}

bool sl_map_reserve(struct sl_map *m, size_t count)
{
    size_t room = m->room ? m->room : FIRST_ROOM;
    while (room / 3 * 2 <= count && room <= SIZE_MAX / 2)
        room *= 2;
    return room <= m->room || grow_to(m, room);
}

/* Room for one more, then the key's slot. NULL when memory is out. */
static struct sl_map_slot *slot_for(struct sl_map *m, const char *key, size_t len, bool *added)
{
    if (m->count >= m->room / 3 * 2 && !grow(m))
        return NULL;
    if (!key)
        key = "";    /* len is 0 then */
    const uint64_t hash = XXH3_64bits_withSeed(key, len, m->seed);
    struct sl_map_slot *slot = find(m, key, len, hash);
    *added = !slot->key;
    if (*added) {
        *slot = (struct sl_map_slot){ .key = key, .len = len, .hash = hash };
        m->count++;
    }
    return slot;
}

bool sl_map_put(struct sl_map *m, const char *key, size_t len, uint64_t value)
{
    bool added;
    struct sl_map_slot *slot = slot_for(m, key, len, &added);
    if (!slot)
        return false;
    slot->value = value;
    return true;
}

bool sl_map_add(struct sl_map *m, const char *key, size_t len, uint64_t *value, bool *added)
{
    struct sl_map_slot *slot = slot_for(m, key, len, added);
    if (!slot)
        return false;
    if (*added)
        slot->value = *value;
    else
        *value = slot->value;
    return true;
}

bool sl_map_get(const struct sl_map *m, const char *key, size_t len, uint64_t *value)
{
    if (!m->count)
        return false;
    const struct sl_map_slot *slot =
        find(m, key ? key : "", len, XXH3_64bits_withSeed(key ? key : "", len, m->seed));
    if (!slot->key)
        return false;
    *value = slot->value;
    return true;
}
