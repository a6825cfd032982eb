/* integrity.c: see integrity.h.
 * Source: megatron/core/dist_checkpointing (integrity.json, from 0.18 on) */
#include "run/integrity.h"

#include "base/error.h"
#include "base/io.h"
#include "base/num.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/value.h"

#include <string.h>
#include <strings.h>

/* Path of an entry; NULL when its name is none of the folder. */
static const char *path_of(struct sl_arena *arena, const struct sl_ckpt *c, uint64_t i)
{
    const char *name = sl_value_str(c->integrity->keys[i]);
    return name && sl_path_is_inside(name, strlen(name)) ? sl_arena_printf(arena, "%s/%s", c->folder, name) : NULL;
}

uint64_t integrity_bytes(const struct sl_ckpt *c)
{
    struct sl_arena arena = { 0 };
    uint64_t bytes = 0;
    for (uint64_t i = 0; c->integrity && i < c->integrity->len; i++) {
        const char *path = path_of(&arena, c, i);
        struct sl_file file;
        if (!path || sl_file_open(path, &file, NULL))
            continue;
        bytes += file.size;
        sl_file_close(&file);
    }
    sl_arena_free(&arena);
    return bytes;
}

static int hash_file(struct sl_run *r, struct sl_worker *w, const struct sl_file *file, char *hex, struct sl_error *err)
{
    struct sl_sha256 s;
    int code = SL_OK;
    sl_sha256_begin(&s);
    for (uint64_t at = 0; at < file->size && !code;) {
        const size_t n = (size_t)sl_min_u64(w->buffer_len, file->size - at);
        code = sl_run_step(r, err);
        if (!code)
            code = sl_file_read(file, at, w->buffer, n, err);
        if (code)
            break;
        sl_sha256_add(&s, w->buffer, n);
        sl_worker_moved(r, w, n);
        at += n;
    }
    sl_sha256_end(&s, hex);
    return code;
}

int integrity_check(struct sl_run *r, struct sl_worker *w, const struct sl_ckpt *c, uint64_t i, pthread_mutex_t *lock,
                    struct sl_problems *problems, struct sl_error *err)
{
    struct sl_arena arena = { 0 };
    struct sl_error why = { 0 };
    struct sl_file file;
    char hex[65] = "";
    const char *want = sl_value_str(c->integrity->items[i]), *name = sl_value_str(c->integrity->keys[i]), *path = path_of(&arena, c, i);
    int code = path ? sl_file_open(path, &file, &why) : sl_fail(&why, SL_INPUT, "", "its name is none of a file in this folder");
    if (!code) {
        sl_worker_begin(w, SL_PHASE_VERIFY, name, file.size);
        code = hash_file(r, w, &file, hex, &why);
        sl_worker_end(r, w);
        sl_file_close(&file);
    }
    pthread_mutex_lock(lock);
    if (code == SL_INPUT)
        sl_problem_add(problems, "integrity", name ? name : "", NULL, "integrity.json names it, and it can't be read: %s", why.message);
    else if (!code && (!want || strcasecmp(want, hex)))
        sl_problem_add(problems, "integrity", name ? name : "", NULL, "its SHA-256 is %.12s.., integrity.json says %.12s..: its bytes were "
                       "changed after it was saved", hex, want ? want : "nothing");
    pthread_mutex_unlock(lock);
    sl_arena_free(&arena);
    if (code && code != SL_INPUT && err)
        *err = why;
    return code == SL_INPUT ? SL_OK : code;
}
