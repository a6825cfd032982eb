/* extras.c: what goes into a target beside its tensors: configuration, tokenizer, report. */
#include "run/convert.h"

#include "base/error.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define REPORT_NAME "shardlens-report.json"

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

/* Where the report goes: into the target, or to a name of the user's: below the target, or
 * elsewhere under a partial name until the target is there. A device (/dev/stdout) is written to as it is. */
int report_write(struct sl_run *r, struct convert *v, const char **part, struct sl_error *err)
{
    *part = NULL;
    sl_run_sum_up(r, v->p->target_count, v->p->write_bytes);
    if (!r->options.report) {
        if (v->target.single)
            return SL_OK;
        r->summary.report = sl_arena_printf(&r->arena, "%s/%s", v->target.path, REPORT_NAME);
        const char *path = sl_target_place(&v->target, REPORT_NAME);
        if (v->target.committed)    /* it was written before the rename */
            return SL_OK;
        return r->summary.report && path ? write_report(r, path, err) : sl_fail_memory(err, 64);
    }
    r->summary.report = r->options.report;
    const size_t len = strlen(v->target.path);
    if (strncmp(r->options.report, v->target.path, len) == 0 && r->options.report[len] == '/' && !v->target.single) {
        const char *path = sl_target_place(&v->target, r->options.report + len + 1);
        return path ? write_report(r, path, err) : sl_fail_memory(err, len);
    }
    struct stat st;
    if (stat(r->options.report, &st) || S_ISREG(st.st_mode)) {
        *part = sl_arena_printf(&r->arena, "%s.partial", r->options.report);
        return *part ? write_report(r, *part, err) : sl_fail_memory(err, 64);
    }
    struct sl_buf text = { 0 };
    sl_run_report(r, &text);
    const int fd = sl_io.open(r->options.report, O_WRONLY | O_CLOEXEC, 0);
    int code = fd < 0 ? sl_fail_errno(err, SL_WRITE, r->options.report, "can't be opened") : SL_OK;
    if (!code)
        code = sl_write_stream(fd, r->options.report, text.data, text.len, err);
    if (fd >= 0)
        sl_io.close(fd);
    sl_buf_free(&text);
    return code;
}
