/* target.c: lock, partial target, commit. */
#include "run/target.h"

#include "base/error.h"
#include "base/io.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

static int exchange(const char *a, const char *b)
{
    return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}
int (*sl_target_exchange)(const char *a, const char *b) = exchange;

static bool is_unsupported(int number)
{
    return number == EINVAL || number == ENOSYS || number == ENOTSUP || number == EOPNOTSUPP;
}

/* ---- names ---- */

/* parent and last part of a path; prefix is what stands before the last part. */
static int split_path(struct sl_target *t, const char **name, const char **prefix, struct sl_error *err)
{
    size_t len = strlen(t->path);
    while (len > 1 && t->path[len - 1] == '/')
        len--;
    char *path = sl_arena_strn(t->arena, t->path, len);
    if (!path)
        return sl_fail_memory(err, len);
    const char *slash = strrchr(path, '/');
    const char *last = slash ? slash + 1 : path;
    if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
        return sl_fail(err, SL_USAGE, *t->path ? t->path : "DST", *t->path ? "is no name for a target: a new folder or file was expected"
                                                                         : "is empty: the name of a new folder or file was expected");
    t->path = path;
    *name = last;
    *prefix = sl_arena_strn(t->arena, path, (size_t)(last - path));
    t->parent = !slash ? "." : slash == path ? "/" : sl_arena_strn(t->arena, path, (size_t)(slash - path));
    return *prefix && t->parent ? SL_OK : sl_fail_memory(err, len);
}

static int name_paths(struct sl_target *t, const char *dst, const char *hash, struct sl_error *err)
{
    const char *name, *prefix;
    t->path = dst;
    int code = split_path(t, &name, &prefix, err);
    struct stat st;
    if (!code && lstat(t->path, &st) == 0 && S_ISLNK(st.st_mode)) {
        char real[PATH_MAX];
        if (!realpath(t->path, real))
            return sl_fail_errno(err, SL_WRITE, t->path, "is a symbolic link that can't be followed");
        t->path = sl_arena_str(t->arena, real);
        if (!t->path)
            return sl_fail_memory(err, sizeof real);
        code = split_path(t, &name, &prefix, err);
    }
    if (code)
        return code;
    const char *dot = t->single ? "." : "";
    t->partial = sl_arena_printf(t->arena, "%s%s%s.partial-%.8s", prefix, dot, name, hash);
    t->journal_path = sl_arena_printf(t->arena, "%s%s.partial.journal", prefix, name);
    t->progress_path = sl_arena_printf(t->arena, "%s%s.partial.progress", prefix, name);
    t->old_path = sl_arena_printf(t->arena, "%s%s.old-%.8s", prefix, name, hash);
    if (!t->progress_path || !t->partial || !t->journal_path || !t->old_path)
        return sl_fail_memory(err, strlen(dst) + 64);
    return SL_OK;
}

int sl_target_names(struct sl_target *t, const char *dst, struct sl_error *err)
{
    return name_paths(t, dst, "", err);
}

const char *sl_target_place(const struct sl_target *t, const char *name)
{
    return t->single ? t->partial : sl_arena_printf(t->arena, "%s/%s", t->partial, name);
}

/* ---- source and target may not meet ---- */

/* Is the file (dev, ino) this path or a folder above it? The path is a real one. */
static bool lies_under(const char *real, const struct stat *what)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", real);
    for (;;) {
        struct stat st;
        if (stat(path, &st) == 0 && st.st_dev == what->st_dev && st.st_ino == what->st_ino)
            return true;
        char *slash = strrchr(path, '/');
        if (!slash || !path[1])
            return false;
        slash[slash == path] = '\0';
    }
}

/* The nearest part of a path that exists, as a real path. */
static bool real_ancestor(const char *path, char real[PATH_MAX])
{
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    while (!realpath(part, real)) {
        char *slash = strrchr(part, '/');
        if (!slash)
            return realpath(".", real) != NULL;
        slash[slash == part] = '\0';
    }
    return true;
}

static int refuse_target_in_source(const struct sl_target *t, const struct sl_ckpt *c, struct sl_error *err)
{
    struct stat source;
    char real[PATH_MAX];
    if (stat(c->path, &source) || !S_ISDIR(source.st_mode) || !real_ancestor(t->path, real))
        return SL_OK;    /* beside one file, a target is welcome */
    if (lies_under(real, &source))
        return sl_fail(err, SL_USAGE, t->path, "lies inside the source %s; choose another place", c->path);
    if (stat(c->folder, &source) == 0 && lies_under(real, &source))
        return sl_fail(err, SL_USAGE, t->path, "lies inside the source %s; choose another place", c->folder);
    return SL_OK;
}

static int refuse_source_in_target(const struct sl_target *t, const struct sl_ckpt *c, struct sl_error *err)
{
    struct stat target;
    if (stat(t->path, &target))
        return SL_OK;
    if (sl_ckpt_has_inode(c, (uint64_t)target.st_dev, (uint64_t)target.st_ino))
        return sl_fail(err, SL_USAGE, t->path, "is a file of the source; choose another target");
    for (size_t i = 0; i < c->file_count; i++) {
        char real[PATH_MAX];
        if (realpath(c->files[i].path, real) && lies_under(real, &target))
            return sl_fail(err, SL_USAGE, t->path, "holds the source file %s; choose another target",
                           c->files[i].path);
    }
    return SL_OK;
}

/* --force removes a whole folder: not the one somebody is in. */
static int refuse_own_place(const struct sl_target *t, struct sl_error *err)
{
    struct stat target;
    char real[PATH_MAX];
    if (stat(t->path, &target))
        return SL_OK;
    if (realpath(".", real) && lies_under(real, &target))
        return sl_fail(err, SL_USAGE, t->path, "is or holds the current folder and can't be replaced");
    const char *home = getenv("HOME");
    if (home && realpath(home, real) && lies_under(real, &target))
        return sl_fail(err, SL_USAGE, t->path, "is or holds the home folder and can't be replaced");
    return SL_OK;
}

static int refuse_meeting(const struct sl_target *t, const struct sl_ckpt *c, struct sl_error *err)
{
    int code = refuse_target_in_source(t, c, err);
    if (!code)
        code = refuse_source_in_target(t, c, err);
    if (!code && t->force)
        code = refuse_own_place(t, err);
    return code;
}

/* ---- the parent folder ---- */

/* mkdir -p, and each new folder lasts in the one above it. */
static int make_parent(const struct sl_target *t, struct sl_error *err)
{
    if (sl_path_is_folder(t->parent))
        return SL_OK;
    char path[PATH_MAX], real[PATH_MAX];
    snprintf(path, sizeof path, "%s", t->parent);
    const bool found = real_ancestor(t->parent, real);
    int code = sl_folder_make(t->parent, err);
    struct stat top, st;
    while (!code && found && stat(real, &top) == 0 && stat(path, &st) == 0 &&
           (top.st_dev != st.st_dev || top.st_ino != st.st_ino)) {
        char *slash = strrchr(path, '/');
        if (!slash || slash == path)
            return sl_sync_folder(slash ? "/" : ".", err);
        *slash = '\0';
        code = sl_sync_folder(path, err);
    }
    return code;
}

/* ---- what an earlier run left ---- */

/* Is a name the target's, followed by `kind` and eight hex digits? */
static bool is_left(const char *entry, const char *dot, const char *name, const char *kind)
{
    char stem[NAME_MAX + 32];
    const int len = snprintf(stem, sizeof stem, "%s%s.%s-", dot, name, kind);
    return len > 0 && strncmp(entry, stem, (size_t)len) == 0 &&
           strspn(entry + len, "0123456789abcdef") == 8 && entry[len + 8] == '\0';
}

/* Calls give() with the path of everything of that kind beside the target, but `except`. */
static int each_left(const struct sl_target *t, const char *kind, const char *except,
                     int (*give)(const struct sl_target *t, const char *path, struct sl_error *err),
                     struct sl_error *err)
{
    const char *slash = strrchr(t->path, '/'), *name = slash ? slash + 1 : t->path;
    const char *dot = t->single && strcmp(kind, "partial") == 0 ? "." : "";
    DIR *folder = opendir(t->parent);
    if (!folder)
        return sl_fail_errno(err, SL_WRITE, t->parent, "the folder can't be read");
    int code = SL_OK;
    for (const struct dirent *e; !code && (e = readdir(folder));) {
        if (!is_left(e->d_name, dot, name, kind))
            continue;
        const char *path = sl_arena_printf(t->arena, "%.*s%s", (int)(name - t->path), t->path, e->d_name);
        if (!path)
            code = sl_fail_memory(err, NAME_MAX);
        else if (!except || strcmp(path, except) != 0)
            code = give(t, path, err);
    }
    closedir(folder);
    return code;
}

static int remove_left(const struct sl_target *t, const char *path, struct sl_error *err)
{
    (void)t;
    return sl_folder_remove(path, err);
}

static int refuse_left(const struct sl_target *t, const char *path, struct sl_error *err)
{
    return sl_fail(err, SL_WRITE, t->path,
                   "a run with another plan did not finish and left %s; start anew with --force", path);
}

/* Killed between the two renames that replace an old target: it gets its name back. */
static int restore_old(const struct sl_target *t, const char *path, struct sl_error *err)
{
    if (sl_path_exists(t->path))
        return SL_OK;
    if (sl_io.rename(path, t->path))
        return sl_fail_errno(err, SL_WRITE, path, "the old target can't be given its name %s back", t->path);
    return SL_OK;
}

static int refuse_existing(const struct sl_target *t, struct sl_error *err)
{
    if (t->force || !sl_path_exists(t->path))
        return SL_OK;
    return sl_fail(err, SL_WRITE, t->path, "exists already; choose another target, or replace it with --force");
}

static uint64_t inode_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

/* Sizes and times of the source's files. */
static uint64_t source_identity(const struct sl_ckpt *c)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < c->file_count; i++) {
        const uint64_t facts[3] = { sum, c->files[i].size, (uint64_t)c->files[i].mtime_ns };
        sum = XXH3_64bits(facts, sizeof facts);
    }
    return sum;
}

/* ---- beginning ---- */

static int begin_new(struct sl_target *t, const struct sl_conversion *p, struct sl_error *err)
{
    int code = refuse_existing(t, err);
    if (!code)
        code = sl_folder_remove(t->partial, err);
    if (!code)
        code = sl_journal_begin(&t->journal, p->hash, source_identity(p->ckpt), err);
    if (code)
        return code;
    if (t->single) {
        const int fd = sl_io.open(t->partial, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0)
            return sl_fail_errno(err, SL_WRITE, t->partial, "can't be made");
        sl_io.close(fd);
    } else if (mkdir(t->partial, 0777)) {
        return sl_fail_errno(err, SL_WRITE, t->partial, "can't be made");
    }
    return sl_sync_folder(t->parent, err);
}

/* An unfinished run of this plan is there: is it still the same source, and how far was it? */
static int go_on(struct sl_target *t, const struct sl_conversion *p, struct sl_error *err)
{
    if (t->state.source != source_identity(p->ckpt))
        return sl_fail(err, SL_INPUT, p->ckpt->path,
                       "the source has changed since the interrupted run; start anew with --force");
    t->committed = t->state.commit && inode_of(t->path) == t->state.commit;
    int code = t->committed ? SL_OK : refuse_existing(t, err);
    if (!code)
        code = sl_journal_go_on(&t->journal, &t->state, err);
    t->resumed = !code;
    return code;
}

/* Leftovers: what stands in the way of a new run, and what --force removes. */
static int clear_the_way(const struct sl_target *t, bool resume, struct sl_error *err)
{
    const bool is_there = sl_path_exists(t->path), unfinished = sl_path_exists(t->partial);
    int code = SL_OK;
    if (t->force) {
        if (is_there)
            code = each_left(t, "old", NULL, remove_left, err);
        return code ? code : each_left(t, "partial", t->partial, remove_left, err);
    }
    if (!resume)
        code = refuse_existing(t, err);
    if (!code)
        code = each_left(t, "partial", t->partial, refuse_left, err);
    if (!code && !resume && unfinished)
        code = sl_fail(err, SL_WRITE, t->path,
                       "an earlier run did not finish and left %s; go on with --resume, or start anew with --force", t->partial);
    return code;
}

static int begin(struct sl_target *t, const struct sl_conversion *p, bool resume, struct sl_error *err)
{
    int code = sl_journal_read(&t->journal, p->target_count, t->arena, &t->state, t->force && !resume ? NULL : err);
    if (code && t->force && !resume) {    /* of another version: --force does not mind */
        t->state = (struct sl_journal_state){ .count = 0 };
        code = SL_OK;
    }
    if (!code)
        code = each_left(t, "old", NULL, restore_old, err);
    if (!code)
        code = clear_the_way(t, resume, err);
    if (code || !resume || !t->state.plan[0])
        return code ? code : begin_new(t, p, err);
    /* a run that was killed behind its commit leaves a journal and nothing else: that is in nobody's way */
    if (strcmp(t->state.plan, p->hash) != 0)
        return t->force || !sl_path_exists(t->partial) ? begin_new(t, p, err) : refuse_left(t, t->partial, err);
    if (!sl_path_exists(t->partial) && !(t->state.commit && inode_of(t->path) == t->state.commit))
        return begin_new(t, p, err);
    return go_on(t, p, err);
}

int sl_target_open(struct sl_target *t, const struct sl_conversion *p, const char *dst, bool force,
                   bool resume, struct sl_arena *arena, struct sl_error *err)
{
    *t = (struct sl_target){ .single = p->single_file, .force = force, .arena = arena, .journal = { .fd = -1 } };
    int code = name_paths(t, dst, p->hash, err);
    if (!code)
        code = refuse_meeting(t, p->ckpt, err);
    if (!code && !resume)
        code = refuse_existing(t, err);
    if (!code)
        code = make_parent(t, err);
    if (!code)
        code = sl_journal_open(&t->journal, t->journal_path, t->path, err);
    if (code)
        return code;
    const bool was_left = !t->journal.made || sl_path_exists(t->partial);
    code = begin(t, p, resume, err);
    t->left = t->partial;
    if (t->committed)    /* what is left to read is the target itself */
        t->partial = t->path;
    if (code)
        sl_target_close(t, was_left);
    return code;
}

/* ---- the commit ---- */

/* Where folders can't be exchanged: two renames, and the old target is back if the second
 * one fails. */
static int replace_by_two_renames(struct sl_target *t, struct sl_error *err)
{
    if (sl_io.rename(t->path, t->old_path))
        return sl_fail_errno(err, SL_WRITE, t->path, "the old target can't be moved aside");
    if (sl_io.rename(t->partial, t->path)) {
        sl_fail_errno(err, SL_WRITE, t->path, "the new target can't be given its name");
        if (sl_io.rename(t->old_path, t->path))
            return sl_fail(err, SL_WRITE, t->path, "neither target can be renamed; the old one is %s, the new one %s",
                           t->old_path, t->partial);
        return SL_WRITE;
    }
    return SL_OK;
}

static int rename_target(struct sl_target *t, struct sl_error *err)
{
    int code = refuse_existing(t, err);
    if (code)
        return code;
    if (!sl_path_exists(t->path)) {
        if (sl_io.rename(t->partial, t->path))
            return sl_fail_errno(err, SL_WRITE, t->path, "the target can't be given its name");
        return SL_OK;
    }
    if (sl_target_exchange(t->partial, t->path) == 0)
        return SL_OK;
    if (!is_unsupported(errno))
        return sl_fail_errno(err, SL_WRITE, t->path, "the old target can't be exchanged for the new one");
    return replace_by_two_renames(t, err);
}

/* The parts whose files are in place now, and what is beside one that was killed behind its commit. */
static int remove_parts(const struct sl_target *t, struct sl_error *err)
{
    static const char *const beside[] = { ".partial.journal", ".partial.progress" };
    for (uint32_t i = 1; i <= t->parts; i++) {
        const char *folder = sl_arena_printf(t->arena, "%s.part-%" PRIu32 "-of-%" PRIu32, t->path, i, t->parts);
        const int code = folder ? sl_folder_remove(folder, err) : sl_fail_memory(err, 64);
        if (code)
            return code;
        for (size_t k = 0; k < sizeof beside / sizeof *beside; k++) {
            const char *path = sl_arena_printf(t->arena, "%s%s", folder, beside[k]);
            if (!path)
                return sl_fail_memory(err, 64);
            unlink(path);
        }
    }
    return SL_OK;
}

int sl_target_commit(struct sl_target *t, struct sl_error *err)
{
    int code = SL_OK;
    if (!t->committed) {
        code = sl_journal_add(&t->journal, err, "commit %" PRIu64, inode_of(t->partial));
        if (!code)
            code = sl_journal_sync(&t->journal, err);
        if (!code)
            code = rename_target(t, err);
        if (code)
            return code;
        t->committed = true;
    }
    code = sl_sync_folder(t->parent, err);
    if (code)
        return code;
    struct sl_error why;    /* the old target is where the partial one was, or was moved aside */
    if (sl_folder_remove(t->left, &why) || sl_folder_remove(t->old_path, &why))
        return sl_fail(err, SL_WRITE, t->path, "is in place and whole, but the old one, now %s, %s",
                       why.where, why.message);
    if (remove_parts(t, &why))
        return sl_fail(err, SL_WRITE, t->path, "is in place and whole, but its parts are not removed: %s: %s", why.where, why.message);
    sl_journal_close(&t->journal, true);
    return SL_OK;
}

void sl_target_close(struct sl_target *t, bool keep)
{
    if (t->journal.fd < 0)
        return;
    const bool remove = !keep && !t->committed;
    if (remove)
        sl_folder_remove(t->partial, NULL);
    sl_journal_close(&t->journal, remove);
}
