/* map.h: a hash table from strings to 64-bit numbers (indices, mostly). Keys
 * are borrowed: they must outlive the table. Keyed with a random seed, so a
 * file cannot choose its collisions. */
#ifndef SL_BASE_MAP_H
#define SL_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_map_slot { const char *key; size_t len; uint64_t hash, value; };
struct sl_map { struct sl_map_slot *slots; size_t room, count; uint64_t seed; };

/* Room for that many keys at once, so that the table does not grow step by step. False when memory is out,
 * and then the table is as it was. */
bool sl_map_reserve(struct sl_map *m, size_t count);
void sl_map_free(struct sl_map *m);          /* a zeroed struct is an empty map */
/* Adds or replaces; false when memory is out. */
bool sl_map_put(struct sl_map *m, const char *key, size_t len, uint64_t value);
bool sl_map_get(const struct sl_map *m, const char *key, size_t len, uint64_t *value);
/* Adds if absent: *value is the number in the table afterwards, *added tells
 * whether it was new. False when memory is out. */
bool sl_map_add(struct sl_map *m, const char *key, size_t len, uint64_t *value, bool *added);

#endif
