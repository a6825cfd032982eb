/* ruleindex.h: rules by the shape of their names, so that a tensor asks a few of them instead of all.
 *
 * All numbers of a name are made '#': "a.{layer}.fc1.b" and "a.12.fc1.b" are both "a.#.fc#.b". Rules of one such key
 * are a chain, in the order of the rules; whether one of them fits is for sl_rule_match() to say.
 */
#ifndef SL_MODEL_RULEINDEX_H
#define SL_MODEL_RULEINDEX_H

#include "base/map.h"
#include "model/family.h"

struct sl_arena;

struct sl_rule_index {
    struct sl_map first_of;      /* key -> first rule */
    size_t *next;                /* by rule: the next one of the same key, or SIZE_MAX; in the arena */
};

/* Rules without a name are left out. Zero *index before; free the map after a failure too. SL_MEMORY on failure. */
int sl_rule_index_make(struct sl_rule_index *index, const struct sl_rule *rules, size_t count, struct sl_arena *arena,
                       struct sl_error *err);
void sl_rule_index_free(struct sl_rule_index *index);
/* The first rule that may fit a stored name; SIZE_MAX: none does. */
size_t sl_rule_index_first(const struct sl_rule_index *index, const char *name);

#endif
