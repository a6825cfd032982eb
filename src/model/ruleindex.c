/* ruleindex.c: see ruleindex.h. */
#include "model/ruleindex.h"

#include "base/arena.h"
#include "base/error.h"

#define KEY_ROOM 512

static size_t make_key(const char *name, char *out)
{
    size_t len = 0;
    for (const char *p = name; *p && len + 1 < KEY_ROOM; ) {
        if (*p == '{') {
            while (*p && *p != '}')
                p++;
            p += *p == '}';
            out[len++] = '#';
        } else if (*p >= '0' && *p <= '9') {
            while (*p >= '0' && *p <= '9')
                p++;
            out[len++] = '#';
        } else {
            out[len++] = *p++;
        }
    }
    return len;
}

int sl_rule_index_make(struct sl_rule_index *index, const struct sl_rule *rules, size_t count, struct sl_arena *arena,
                       struct sl_error *err)
{
    char key[KEY_ROOM];
    index->next = SL_ARENA_NEW(arena, size_t, count);
    size_t *last = SL_ARENA_NEW(arena, size_t, count);       /* by first rule: where its chain ends */
    if (!index->next || !last)
        return sl_fail_memory(err, count * sizeof *last);
    for (size_t i = 0; i < count; i++) {
        if (!rules[i].name)
            continue;
        const size_t len = make_key(rules[i].name, key);
        const char *kept = sl_arena_strn(arena, key, len);
        uint64_t first = i;
        bool added;
        if (!kept || !sl_map_add(&index->first_of, kept, len, &first, &added))
            return sl_fail_memory(err, len);
        if (!added)
            index->next[last[first]] = i;
        last[first] = i;
        index->next[i] = SIZE_MAX;
    }
    return SL_OK;
}

void sl_rule_index_free(struct sl_rule_index *index)
{
    sl_map_free(&index->first_of);
}

size_t sl_rule_index_first(const struct sl_rule_index *index, const char *name)
{
    char key[KEY_ROOM];
    uint64_t rule;
    return sl_map_get(&index->first_of, key, make_key(name, key), &rule) ? (size_t)rule : SIZE_MAX;
}
