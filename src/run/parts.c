/* parts.c: a conversion by several processes. Each part is a run of its own, whose target is the folder
 * DST.part-I-of-N: whole or not there, with a report. Finishing moves their files together, without
 * reading them unless asked to, and goes on as any run does from there: extras, report, commit.
 *
 *     DST.part-2-of-4        files of part 2 and what it said of them
 *     DST.partial-1a2b3c4d   where finishing moves them to; then DST
 *
 * A file is in one of the two, so finishing may be killed and done again.
 */
#include "run/convert.h"

#include "base/error.h"
#include "base/json.h"
#include "base/num.h"
#include "base/value.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REPORT_MOST (UINT64_C(1) << 30)

/* ---- names ---- */

const char *part_folder(struct sl_arena *arena, const char *dst, uint32_t part, uint32_t parts)
{
    return sl_arena_printf(arena, "%s.part-%" PRIu32 "-of-%" PRIu32, dst, part, parts);
}

/* N of NAME.part-I-of-N; 0: it is no such name. */
static uint32_t parts_in(const char *entry, const char *name)
{
    const size_t len = strlen(name);
    uint32_t part, parts;
    int end = 0;
    if (strncmp(entry, name, len) || sscanf(entry + len, ".part-%" SCNu32 "-of-%" SCNu32 "%n", &part, &parts, &end) != 2 || entry[len + (size_t)end])
        return 0;
    return part >= 1 && part <= parts ? parts : 0;
}

/* Into how many parts is it cut? 0 where there are none. */
static int parts_find(const struct sl_target *t, uint32_t *parts, struct sl_error *err)
{
    const char *slash = strrchr(t->path, '/'), *name = slash ? slash + 1 : t->path;
    DIR *folder = opendir(t->parent);
    int code = SL_OK;
    *parts = 0;
    for (const struct dirent *e; !code && folder && (e = readdir(folder));) {
        const uint32_t n = parts_in(e->d_name, name);
        if (n && *parts && n != *parts)
            code = sl_fail(err, SL_USAGE, t->path, "parts of %" PRIu32 " and of %" PRIu32 " are there; remove those that are not wanted", *parts, n);
        else if (n)
            *parts = n;
    }
    if (folder)
        closedir(folder);
    return code;
}

/* ---- what a part said ---- */

struct said { const struct sl_value *tensors; const char *verify; bool verified; int64_t time_ns; };

static int read_said(const struct convert *v, const char *folder, const char *hash, struct sl_arena *arena, struct said *out, struct sl_error *err)
{
    const char *path = sl_arena_printf(arena, "%s/%s", folder, REPORT_NAME);
    const struct sl_value *json, *summary;
    struct stat st;
    if (!path)
        return sl_fail_memory(err, strlen(folder));
    if (stat(path, &st))
        return sl_fail(err, SL_INPUT, folder, "this part is not done; run it (again)");
    int code = sl_json_load(path, REPORT_MOST, arena, &json, err);
    if (code)
        return code;
    summary = sl_value_get(json, "summary");
    const char *plan = sl_value_str(sl_value_get(summary, "plan"));
    if (!plan || strcmp(plan, hash))
        return sl_fail(err, SL_INPUT, folder, "this part is of another plan: other options, another source, or another version; remove it and run it again");
    *out = (struct said){ .tensors = sl_value_get(json, "tensors"), .verify = sl_value_str(sl_value_get(summary, "verify")),
                          .time_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec };
    sl_value_bool(sl_value_get(summary, "verified"), &out->verified);
    for (size_t i = 0; i < v->p->ckpt->file_count; i++)
        if (v->p->ckpt->files[i].mtime_ns > out->time_ns)
            return sl_fail(err, SL_INPUT, v->p->ckpt->files[i].path, "was changed after %s was written from it; remove that and run the part again", folder);
    return SL_OK;
}

static double number_of(const struct sl_value *v, const char *key)
{
    double x = 0;
    int64_t n = 0;
    const struct sl_value *value = sl_value_get(v, key);
    return sl_value_double(value, &x) ? x : sl_value_int(value, &n) ? (double)n : 0;
}

static uint64_t count_of(const struct sl_value *v, const char *key)
{
    int64_t n = 0;
    return sl_value_int(sl_value_get(v, key), &n) && n > 0 ? (uint64_t)n : 0;
}

/* The result of one target as its part told it. False when that is of something else. */
static bool result_of(const struct sl_value *told, struct sl_result *r, uint64_t elements)
{
    const char *name = sl_value_str(sl_value_get(told, "name")), *sum = sl_value_str(sl_value_get(told, "checksum"));
    const char *status = sl_value_str(sl_value_get(told, "status"));
    if (!name || !sum || !status || strcmp(name, r->name) || sscanf(sum, "xxh3:%" SCNx64, &r->checksum) != 1)
        return false;
    r->stats = (struct sl_stats){ .count = elements, .nan = count_of(told, "nan"), .inf = count_of(told, "inf"), .zeros = count_of(told, "zeros"),
                                  .min = number_of(told, "min"), .max = number_of(told, "max"), .mean = number_of(told, "mean"),
                                  .std = number_of(told, "std") };
    r->status = strcmp(status, "verified") ? SL_RESULT_WRITTEN : SL_RESULT_VERIFIED;
    return true;
}

/* Takes over what was said of the targets whose file is in `part` (of part_of_file; NULL: of all). */
static int take_results(struct sl_run *r, struct convert *v, const struct said *said, const char *folder, const uint32_t *part_of_file,
                        uint32_t part, uint64_t *checksum, struct sl_error *err)
{
    const struct sl_conversion *p = v->p;
    size_t at = 0;
    int code = SL_OK;
    for (size_t i = 0; i < p->target_count && !code; i++) {
        if (part_of_file && part_of_file[p->targets[i].file] != part)
            continue;
        struct sl_result result = *sl_run_result_at(r, i);
        if (!said->tensors || at >= said->tensors->len || !result_of(said->tensors->items[at++], &result, p->targets[i].count))
            return sl_fail(err, SL_INPUT, folder, "its report does not tell of %s; remove this part and run it again", p->targets[i].name);
        if (checksum)
            checksum[i] = result.checksum;
        atomic_fetch_add(&v->written, 1);
        code = sl_run_publish(r, &r->workers[0], i, &result, err);
    }
    return code;
}

/* ---- moving together ---- */

/* Is the file what its part left: its length, and not touched since? */
static int check_file(const char *path, const struct sl_out_file *plan, const struct said *said, struct sl_error *err)
{
    struct stat st;
    if (lstat(path, &st) || !S_ISREG(st.st_mode))
        return sl_fail(err, SL_INPUT, path, "is not there; remove this part and run it again");
    if ((uint64_t)st.st_size != plan->size)
        return sl_fail(err, SL_INPUT, path, "%" PRIu64 " bytes found, %" PRIu64 " expected; remove this part and run it again",
                       (uint64_t)st.st_size, plan->size);
    if ((int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec > said->time_ns)
        return sl_fail(err, SL_INPUT, path, "was written to after its part was done; remove this part and run it again");
    return SL_OK;
}

static int move_file(struct convert *v, const char *folder, size_t i, const struct said *said, struct sl_error *err)
{
    const struct sl_out_file *plan = &v->p->files[i];
    char from[PATH_MAX];
    const int len = snprintf(from, sizeof from, "%s/%s", folder, plan->name);
    if (len < 0 || (size_t)len >= sizeof from)
        return sl_fail(err, SL_WRITE, folder, "the path is too long");
    const bool moved = !sl_path_exists(from) && sl_path_exists(v->files[i].path);    /* by finishing that was interrupted */
    int code = check_file(moved ? v->files[i].path : from, plan, said, err);
    if (code || moved)
        return code;
    code = make_folder_of(v->files[i].path, err);
    if (!code && sl_io.rename(from, v->files[i].path))
        code = sl_fail_errno(err, SL_WRITE, from, "can't be moved to %s", v->target.partial);
    return code;
}

static int take_part(struct sl_run *r, struct convert *v, uint32_t part, const uint32_t *part_of_file, uint64_t *checksum, struct sl_error *err)
{
    char hash[33];
    struct sl_arena arena = { 0 };
    struct said said;
    const char *folder = part_folder(&arena, v->target.path, part, v->target.parts);
    sl_conversion_part_hash(v->p, part, v->target.parts, hash);
    int code = folder ? read_said(v, folder, hash, &arena, &said, err) : sl_fail_memory(err, 64);
    if (!code)
        code = take_results(r, v, &said, folder, part_of_file, part, checksum, err);
    for (size_t i = 0; i < v->p->file_count && !code; i++)
        if (part_of_file[i] == part)
            code = move_file(v, folder, i, &said, err);
    if (!code && part == 1) {
        r->summary.verified = said.verified;
        r->summary.verify = sl_arena_printf(&r->arena, "by each part: %s", said.verify ? said.verify : "none");
    }
    if (!code)
        r->summary.verified = r->summary.verified && said.verified;
    sl_arena_free(&arena);
    return code;
}

/* All parts are looked at before the first file is moved. */
static int look_at_parts(const struct convert *v, struct sl_error *err)
{
    int code = SL_OK;
    for (uint32_t part = 1; part <= v->target.parts && !code; part++) {
        char hash[33];
        struct sl_arena arena = { 0 };
        struct said said;
        const char *folder = part_folder(&arena, v->target.path, part, v->target.parts);
        sl_conversion_part_hash(v->p, part, v->target.parts, hash);
        code = folder ? read_said(v, folder, hash, &arena, &said, err) : sl_fail_memory(err, 64);
        sl_arena_free(&arena);
    }
    return code;
}

int parts_adopt(struct sl_run *r, struct convert *v, struct sl_error *err)
{
    struct sl_journal_state *state = &v->target.state;
    uint32_t *part_of_file = SL_ARENA_NEW(&r->arena, uint32_t, v->p->file_count);
    uint64_t *checksum = SL_ARENA_NEW(&r->arena, uint64_t, v->p->target_count);
    bool *written = SL_ARENA_NEW(&r->arena, bool, v->p->target_count);
    if (!part_of_file || !checksum || !written)
        return sl_fail_memory(err, v->p->target_count * sizeof *checksum);
    int code = sl_conversion_deal(v->p, v->target.parts, part_of_file, err);
    if (!code)
        code = look_at_parts(v, err);
    if (code)
        return code;
    v->target.resumed = true;    /* from here on what was moved is kept */
    for (uint32_t part = 1; part <= v->target.parts && !code; part++)
        code = take_part(r, v, part, part_of_file, checksum, err);
    for (size_t i = 0; i < v->p->target_count; i++)
        written[i] = true;
    state->checksum = checksum;
    state->written = written;
    return code;
}

/* ---- opening ---- */

int parts_open(struct sl_run *r, struct convert *v, const char *dst, struct sl_error *err)
{
    struct sl_target names = { .single = v->p->single_file, .arena = &r->arena };
    uint32_t parts = 0;
    int code = sl_target_names(&names, dst, err);
    if (!code)
        code = parts_find(&names, &parts, err);
    if (!code && !parts && !sl_path_exists(names.journal_path))
        code = sl_fail(err, SL_INPUT, names.path, "no parts of it are there (%s.part-1-of-N); run them with --part I/N first", names.path);
    if (!code)
        code = sl_target_open(&v->target, v->p, dst, r->options.force, true, &r->arena, err);
    if (!code)
        v->target.parts = parts;
    return code;
}

static int nothing_to_do(struct sl_run *r, struct sl_error *err)
{
    const struct convert *v = r->job;
    (void)err;
    sl_run_all_done(r, v->p->write_bytes, v->p->target_count);
    sl_run_sum_up(r, v->p->target_count, v->p->write_bytes);
    return SL_OK;
}

int part_is_done(struct sl_run *r, struct convert *v, const char *folder, bool *done)
{
    struct sl_error ignored;
    struct said said;
    const size_t before = (size_t)atomic_load(&v->written);
    *done = sl_path_exists(folder) && !read_said(v, folder, v->p->hash, &r->arena, &said, &ignored);
    if (*done && take_results(r, v, &said, folder, NULL, 0, NULL, &ignored))
        *done = false;
    if (!*done) {
        atomic_store(&v->written, before);
        return SL_OK;
    }
    r->summary.verified = said.verified;
    r->summary.verify = sl_arena_printf(&r->arena, "%s", said.verify ? said.verify : "none");
    r->summary.report = sl_arena_printf(&r->arena, "%s/%s", folder, REPORT_NAME);
    v->target.path = folder;
    r->body = nothing_to_do;
    return SL_OK;
}
