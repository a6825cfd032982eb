/* ckpt.c: opening and closing a checkpoint. */
#include "checkpoint/ckptread.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Half of what the process may open: targets and libraries need some too. */
static unsigned files_to_keep_open(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur / 2 > SL_LIMIT_OPEN_FILES)
        return SL_LIMIT_OPEN_FILES;
    return limit.rlim_cur / 2 ? (unsigned)(limit.rlim_cur / 2) : 1;
}

static int open_found(struct sl_ckpt *c, const struct found *found, struct sl_error *err)
{
    c->folder = found->folder;
    switch (found->kind) {
    case FOUND_RANKS:
    case FOUND_ONE_RANK:
        return ckpt_open_ranks(c, found, err);
    case FOUND_HF:
        return ckpt_open_hf(c, found, err);
    case FOUND_DIST:
        return ckpt_open_dist(c, found, err);
    case FOUND_FILE:
        break;
    }
    return ckpt_open_file(c, found, err);
}

/* What is left out for want of memory would be taken for what is not there. */
static bool is_starved(const struct sl_ckpt *c)
{
    bool starved = c->starved || c->arena.starved;
    for (size_t i = 0; i < c->file_count && !starved; i++)
        starved = c->opened[i].arena.starved;
    return starved;
}

int sl_ckpt_open(const char *path, struct sl_ckpt **out, struct sl_error *err)
{
    *out = NULL;
    struct sl_ckpt *c = calloc(1, sizeof *c);
    if (!c)
        return sl_fail_memory(err, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    c->problems.arena = &c->arena;
    c->open_limit = files_to_keep_open();
    c->iteration = -1;
    c->checkpoint_version = -1;
    c->parallel = (struct sl_parallel){ 1, 1, 1, 1, 1 };
    c->path = sl_arena_str(&c->arena, path);

    struct found found;
    int code = c->path ? ckpt_resolve(c, &found, err) : sl_fail_memory(err, strlen(path));
    if (!code)
        code = open_found(c, &found, err);
    if (code != SL_MEMORY && is_starved(c))
        code = sl_fail_memory(err, c->arena.used);
    if (code) {
        sl_ckpt_close(c);
        return code;
    }
    sl_problems_sort(&c->problems);
    *out = c;
    return SL_OK;
}

void sl_ckpt_close(struct sl_ckpt *c)
{
    if (!c)
        return;
    ckpt_items_free(c);
    for (size_t i = 0; i < c->file_count; i++) {
        if (c->opened[i].identified)
            sl_file_close(&c->opened[i].file);
        free(c->opened[i].why_where);
        free(c->opened[i].why);
        sl_arena_free(&c->opened[i].arena);
    }
    pthread_mutex_destroy(&c->lock);
    sl_arena_free(&c->arena);
    free(c);
}
