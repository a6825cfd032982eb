/* extras.c: what goes into a target beside its tensors: configuration, tokenizer, report. */
#include "run/convert.h"

#include "base/error.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int copy_extra(struct sl_run *r, const char *from, const char *to, struct sl_error *err)
{
    struct sl_file in;
    int code = sl_file_open(from, &in, err);
    if (code)
        return code;
    struct sl_worker *w = &r->workers[0];
    const int fd = sl_io.open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        code = sl_fail_errno(err, SL_WRITE, to, "can't be made");
    for (uint64_t done = 0; !code && done < in.size;) {
        const size_t n = (size_t)sl_min_u64(in.size - done, w->buffer_len);
        code = sl_run_step(r, err);
        if (!code)
            code = sl_file_read(&in, done, w->buffer, n, err);
        if (!code)
            code = sl_write_at(fd, to, done, w->buffer, n, err);
        done += n;
    }
    if (!code && sl_io.fsync(fd))
        code = sl_fail_errno(err, SL_WRITE, to, "fsync failed");
    if (fd >= 0 && sl_io.close(fd) && !code)
        code = sl_fail_errno(err, SL_WRITE, to, "close failed");
    sl_file_close(&in);
    return code;
}

static int write_extra(struct sl_run *r, struct convert *v, const struct sl_out_extra *extra, struct sl_error *err)
{
    const char *path = sl_target_place(&v->target, extra->name);
    if (!path)
        return sl_fail_memory(err, strlen(extra->name));
    int code = make_folder_of(path, err);
    if (code)
        return code;
    unlink(path);    /* of an interrupted run */
    return extra->from ? copy_extra(r, extra->from, path, err)
                       : sl_write_new(path, extra->bytes, (size_t)extra->len, err);
}

/* Read back and compared, as the tensors are. */
static int verify_extra(struct sl_run *r, struct convert *v, const struct sl_out_extra *extra, struct sl_error *err)
{
    struct sl_file in = { .fd = -1, .size = extra->len }, out;
    const size_t half = r->workers[0].buffer_len / 2;
    unsigned char *wanted = r->workers[0].buffer, *got = wanted + half;
    const char *path = sl_target_place(&v->target, extra->name);
    if (!path)
        return sl_fail_memory(err, strlen(extra->name));
    int code = sl_file_open(path, &out, err);
    if (!code && extra->from)
        code = sl_file_open(extra->from, &in, err);
    if (!code)
        sl_file_drop(out.fd, 0, out.size);
    bool same = !code && in.size == out.size;
    for (uint64_t done = 0; !code && same && done < in.size;) {
        const size_t n = (size_t)sl_min_u64(in.size - done, half);
        code = sl_file_read(&out, done, got, n, err);
        if (!code && extra->from)
            code = sl_file_read(&in, done, wanted, n, err);
        same = !code && memcmp(extra->from ? wanted : (const unsigned char *)extra->bytes + done, got, n) == 0;
        done += n;
    }
    if (!code && !same)
        code = sl_fail(err, SL_WRITE, path, "as read back differs from what was written; the target was not made");
    sl_file_close(&in);
    sl_file_close(&out);
    return code;
}

int extras_write(struct sl_run *r, struct convert *v, struct sl_error *err)
{
    int code = SL_OK;
    for (size_t i = 0; !code && !v->target.single && !v->target.committed && i < v->p->extra_count; i++)
        code = write_extra(r, v, &v->p->extras[i], err);
    for (size_t i = 0; !code && r->summary.verified && !v->target.single && !v->target.committed && i < v->p->extra_count; i++)
        code = verify_extra(r, v, &v->p->extras[i], err);
    return code;
}

/* ---- folders ---- */

/* Every folder that leads to a name; `last` is the name before it, whose folders are done. */
static int sync_folders_of(struct convert *v, const char *name, const char *last, struct sl_error *err)
{
    int code = SL_OK;
    for (const char *slash = name; !code && (slash = strchr(slash, '/')); slash++) {
        const size_t len = (size_t)(slash - name) + 1;
        if (strncmp(name, last, len) == 0)
            continue;
        const char *folder = sl_arena_strn(v->target.arena, name, len - 1);
        const char *path = folder ? sl_target_place(&v->target, folder) : NULL;
        code = path ? sl_sync_folder(path, err) : sl_fail_memory(err, len);
    }
    return code;
}

int target_sync_folders(struct convert *v, struct sl_error *err)
{
    const char *last = "";
    int code = SL_OK;
    if (v->target.single)
        return SL_OK;
    for (size_t i = 0; !code && i < v->p->file_count; last = v->p->files[i++].name)
        code = sync_folders_of(v, v->p->files[i].name, last, err);
    for (size_t i = 0; !code && i < v->p->extra_count; last = v->p->extras[i++].name)
        code = sync_folders_of(v, v->p->extras[i].name, last, err);
    return code ? code : sl_sync_folder(v->target.partial, err);
}

/* ---- the report ---- */

static int write_report(struct sl_run *r, const char *path, struct sl_error *err)
{
    struct sl_buf text = { 0 };
    sl_run_report(r, &text);
    unlink(path);    /* of an interrupted run */
    int code = text.failed ? sl_fail_memory(err, text.len) : sl_write_new(path, text.data, text.len, err);
    sl_buf_free(&text);
    return code;
}

/* Devices and what a shell hands over (/dev/stderr, /dev/fd/63, a FIFO) are written to as they are. */
static bool is_stream(const char *path)
{
    static const char *const handed[] = { "/dev/fd/", "/dev/std", "/proc/" };
    struct stat st;
    for (size_t i = 0; i < sizeof handed / sizeof *handed; i++)
        if (strncmp(path, handed[i], strlen(handed[i])) == 0)
            return true;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

/* The part of a report's path that is below the target; NULL: it lies elsewhere. */
static const char *below_target(const struct convert *v, const char *report)
{
    const size_t len = strlen(v->target.path);
    return !v->target.single && strncmp(report, v->target.path, len) == 0 && report[len] == '/' ? report + len + 1 : NULL;
}

/* Known before the start: the place of the report is there, may be written to, and is not a file of the source. */
int report_prepare(struct sl_run *r, const struct convert *v, struct sl_error *err)
{
    const char *report = r->options.report;
    struct stat st;
    char real[PATH_MAX];
    if (!report || !strcmp(report, "-") || is_stream(report) || below_target(v, report))
        return SL_OK;
    if (stat(report, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return sl_fail(err, SL_WRITE, report, "is a folder; the name of a file was expected");
        if (sl_ckpt_has_inode(v->p->ckpt, (uint64_t)st.st_dev, (uint64_t)st.st_ino))
            return sl_fail(err, SL_USAGE, report, "is a file of the source; choose another place for the report");
        if (realpath(report, real))    /* a link to a report stays a link */
            r->options.report = report = sl_arena_str(&r->arena, real);
    }
    const char *slash = report ? strrchr(report, '/') : NULL;
    const char *folder = !report ? NULL : !slash ? "." : sl_arena_strn(&r->arena, report, slash == report ? 1 : (size_t)(slash - report));
    if (!folder)
        return sl_fail_memory(err, sizeof real);
    if (!sl_path_is_folder(folder))
        return sl_fail(err, SL_WRITE, report, "the folder of the report is not there; make it, or choose another place");
    if (access(folder, W_OK))
        return sl_fail_errno(err, SL_WRITE, report, "the report can't be written there");
    return SL_OK;
}

static int write_to_stream(struct sl_run *r, struct sl_error *err)
{
    struct sl_buf text = { 0 };
    sl_run_report(r, &text);
    const int fd = text.failed ? -1 : sl_io.open(r->options.report, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
    int code = text.failed ? sl_fail_memory(err, text.len)
             : fd < 0 ? sl_fail_errno(err, SL_WRITE, r->options.report, "can't be opened") : SL_OK;
    if (!code)
        code = sl_write_stream(fd, r->options.report, text.data, text.len, err);
    if (fd >= 0)
        sl_io.close(fd);
    sl_buf_free(&text);
    return code;
}

/* Where the report goes: into the target, or to a name of the user's: below the target, or
 * elsewhere under a partial name until the target is there. */
int report_write(struct sl_run *r, struct convert *v, const char **part, struct sl_error *err)
{
    const char *report = r->options.report;
    *part = NULL;
    sl_run_sum_up(r, v->p->target_count, v->p->write_bytes);
    if ((!report && v->target.single) || (report && !strcmp(report, "-")))
        return SL_OK;
    r->summary.report = report ? report : sl_arena_printf(&r->arena, "%s/%s", v->target.path, REPORT_NAME);
    if (!r->summary.report)
        return sl_fail_memory(err, 64);
    const char *below = report ? below_target(v, report) : REPORT_NAME;
    if (below) {
        const char *path = sl_target_place(&v->target, below);
        if (!report && v->target.committed)    /* it was written before the rename */
            return SL_OK;
        return path ? write_report(r, path, err) : sl_fail_memory(err, 64);
    }
    if (is_stream(report))
        return write_to_stream(r, err);
    *part = sl_arena_printf(&r->arena, "%s.partial", report);
    return *part ? write_report(r, *part, err) : sl_fail_memory(err, 64);
}
