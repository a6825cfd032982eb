/* golden.h: opening fixtures through the public API. */
#ifndef SL_TESTS_API_GOLDEN_H
#define SL_TESTS_API_GOLDEN_H

#include "../base/folder.h"

#include <shardlens/shardlens.h>

#define FIXTURES "tests/fixtures/"

static inline struct sl_checkpoint *opened_with(const char *path, const struct sl_open_options *options)
{
    struct sl_checkpoint *ck = NULL;
    if (sl_open(path, options, &ck, &err))
        fail_msg("%s: %s", err.where, err.message);
    return ck;
}
static inline struct sl_checkpoint *opened(const char *path) { return opened_with(path, NULL); }

static inline struct sl_plan *planned(struct sl_checkpoint *ck, const char *dst)
{
    const struct sl_plan_options o = { .format = SL_TO_HF, .iteration = -1 };
    struct sl_plan *plan = NULL;
    if (sl_plan_make(ck, dst, &o, &plan, &err))
        fail_msg("%s: %s", err.where, err.message);
    return plan;
}

static inline size_t target_named(const struct sl_plan *plan, const char *name)
{
    for (size_t i = 0; i < sl_plan_info(plan)->target_count; i++)
        if (!strcmp(sl_plan_target(plan, i)->name, name))
            return i;
    fail_msg("no target %s", name);
    return 0;
}

static inline const struct sl_logical *logical(const struct sl_checkpoint *ck, const char *name)
{
    const ptrdiff_t at = sl_logical_find(ck, name);
    if (at < 0)
        fail_msg("no tensor %s", name);
    return sl_logical_at(ck, (size_t)at);
}

#endif
