/* outfile.c: the files of a target: made at full length, kept open while they are
 * written, brought to the disk.
 */
#include "run/convert.h"

#include "base/error.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define OPEN_MOST 128u                         /* target files kept open while nobody uses them */
#define SYNC_STEP ((uint64_t)64 << 20)         /* bytes between two looks at cancel */

int outfiles_name(struct sl_run *r, struct convert *v, struct sl_error *err)
{
    v->files = SL_ARENA_NEW(&r->arena, struct out_file, v->p->file_count);
    if (!v->files)
        return sl_fail_memory(err, v->p->file_count * sizeof *v->files);
    for (size_t i = 0; i < v->p->file_count; i++) {
        v->files[i].fd = -1;
        v->files[i].path = sl_target_place(&v->target, v->p->files[i].name);
        if (!v->files[i].path)
            return sl_fail_memory(err, 256);
    }
    return SL_OK;
}

/* ---- output files ---- */

int outfile_take(struct convert *v, size_t i, struct sl_file *out, struct sl_error *err)
{
    struct out_file *f = &v->files[i];
    int code = SL_OK;
    pthread_mutex_lock(&v->files_lock);
    if (f->fd < 0) {
        f->fd = sl_io.open(f->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
        if (f->fd < 0)
            code = sl_fail_errno(err, SL_WRITE, f->path, "can't be opened again");
        else
            v->open_files++;
    }
    f->users += !code;
    *out = (struct sl_file){ .fd = f->fd, .path = f->path, .size = v->p->files[i].size };
    pthread_mutex_unlock(&v->files_lock);
    return code;
}

static int file_close(struct convert *v, struct out_file *f, struct sl_error *err)
{
    const int rc = sl_io.close(f->fd);
    f->fd = -1;
    v->open_files--;
    return rc && errno != EINTR ? sl_fail_errno(err, SL_WRITE, f->path, "close failed") : SL_OK;
}

/* code: how the work on it ended; the first failure is kept. */
int outfile_give(struct convert *v, size_t i, int code, struct sl_error *err)
{
    struct out_file *f = &v->files[i];
    pthread_mutex_lock(&v->files_lock);
    if (--f->users == 0 && v->open_files > OPEN_MOST) {
        const int closed = file_close(v, f, code ? NULL : err);
        code = code ? code : closed;
    }
    pthread_mutex_unlock(&v->files_lock);
    return code;
}

int outfiles_close(struct convert *v, int code, struct sl_error *err)
{
    for (size_t i = 0; v->files && i < v->p->file_count; i++)
        if (v->files[i].fd >= 0) {
            const int closed = file_close(v, &v->files[i], code ? NULL : err);
            code = code ? code : closed;
        }
    return code;
}

/* Space is taken at once where that is cheap: then the disk can't be full later. */
static int reserve(int fd, const char *path, uint64_t size, struct sl_error *err)
{
    if (size == 0 || (fallocate(fd, 0, 0, 1) && errno == EOPNOTSUPP))
        return SL_OK;
    int number;
    do
        number = sl_io.fallocate(fd, 0, (off_t)size);
    while (number == EINTR);
    if (number == 0 || number == EOPNOTSUPP || number == ENOSYS || number == EINVAL)
        return SL_OK;
    errno = number;
    return sl_fail_errno(err, SL_WRITE, path, "%" PRIu64 " bytes can't be reserved", size);
}

int make_folder_of(const char *path, struct sl_error *err)
{
    char *folder = strdup(path);
    if (!folder)
        return sl_fail_memory(err, strlen(path));
    char *slash = strrchr(folder, '/');
    int code = SL_OK;
    if (slash && slash != folder) {
        *slash = '\0';
        code = sl_folder_make(folder, err);
    }
    free(folder);
    return code;
}

static int write_records(int fd, const char *path, const struct sl_torch_piece *pieces, uint32_t count, struct sl_error *err)
{
    int code = SL_OK;
    for (uint32_t i = 0; i < count && !code; i++)
        code = sl_write_at(fd, path, pieces[i].offset, pieces[i].bytes, (size_t)pieces[i].len, err);
    return code;
}

int outfile_make(struct convert *v, size_t i, struct sl_error *err)
{
    const struct sl_out_file *plan = &v->p->files[i];
    struct out_file *f = &v->files[i];
    int code = make_folder_of(f->path, err);
    if (code)
        return code;
    const int fd = sl_io.open(f->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return sl_fail_errno(err, SL_WRITE, f->path, "can't be made");
    f->fd = fd;
    v->open_files++;
    if (plan->size > INT64_MAX || ftruncate(fd, (off_t)plan->size))
        code = sl_fail_errno(err, SL_WRITE, f->path, "can't be made %" PRIu64 " bytes long", plan->size);
    if (!code)
        code = reserve(fd, f->path, plan->size, err);
    if (!code && plan->torch)
        code = write_records(fd, f->path, plan->torch->pieces, plan->torch->piece_count, err);
    else if (!code)
        code = sl_write_at(fd, f->path, 0, plan->head, (size_t)plan->head_len, err);
    if (v->open_files > OPEN_MOST) {
        const int closed = file_close(v, f, code ? NULL : err);
        code = code ? code : closed;
    }
    return code;
}

/* Needed against free, before the first byte; what an earlier run has written counts. */
int outfiles_check_space(const struct convert *v, struct sl_error *err)
{
    uint64_t needed = 0, held = 0;
    struct stat st;
    for (size_t i = 0; i < v->p->file_count; i++) {
        needed += v->p->files[i].size;
        if (stat(v->files[i].path, &st) == 0)
            held += (uint64_t)st.st_blocks * 512;
    }
    for (size_t i = 0; i < v->p->extra_count; i++)
        needed += v->p->extras[i].len;
    needed -= sl_min_u64(needed, held);

    struct statvfs fs;
    if (statvfs(v->target.parent, &fs))
        return SL_OK;    /* not known: the writes will tell */
    const uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    char a[16], b[16];
    if (needed > free_bytes && fs.f_blocks)
        return sl_fail(err, SL_WRITE, v->target.path,
                       "%s (%" PRIu64 " bytes) are needed and %s (%" PRIu64 " bytes) are free; make space or choose another disk",
                       sl_text_bytes(needed, a, sizeof a), needed, sl_text_bytes(free_bytes, b, sizeof b), free_bytes);
    const uint64_t names = v->p->file_count + v->p->extra_count + 1;
    if (fs.f_files && fs.f_favail < names)
        return sl_fail(err, SL_WRITE, v->target.path, "%" PRIu64 " files are to be made and the file system has room for %" PRIu64,
                       names, (uint64_t)fs.f_favail);
    return SL_OK;
}

/* ---- items ---- */

int outfile_item(const struct convert *v, uint32_t target, struct sl_arena *arena, struct sl_torch_piece **pieces,
                 uint32_t *count, struct sl_error *err)
{
    const struct sl_tensor *t = &v->p->targets[target];
    struct sl_torch_layout layout;
    int code = sl_torch_layout_tensor(t->dtype, t->shape, t->ndim, t->bytes, arena, &layout, err);
    if (!code)
        code = sl_torch_around(&layout, &v->crc[target], arena, pieces, count, err);
    for (uint32_t i = 0; i < *count && !code; i++)
        (*pieces)[i].offset += v->p->items[target].begin;
    return code;
}

int outfile_write_item(const struct convert *v, uint32_t target, const struct sl_file *file, struct sl_error *err)
{
    struct sl_arena arena = { 0 };
    struct sl_torch_piece *pieces = NULL;
    uint32_t count = 0;
    int code = outfile_item(v, target, &arena, &pieces, &count, err);
    if (!code)
        code = write_records(file->fd, file->path, pieces, count, err);
    sl_arena_free(&arena);
    return code;
}

/* ---- to the disk ---- */

/* In steps, so that a cancel does not wait for gigabytes. */
static int sync_file(struct sl_run *r, struct sl_worker *w, const struct sl_file *file, struct sl_error *err)
{
    for (uint64_t at = 0; at < file->size; at += SYNC_STEP) {
        const uint64_t n = sl_min_u64(SYNC_STEP, file->size - at);
        int code = sl_run_step(r, err);
        if (code)
            return code;
        sl_worker_turns_to(w, SL_DOING_WRITE);
        code = cache_to_disk(file, at, n, err);
        if (code)
            return code;
        sl_worker_moved(r, w, n);
    }
    int rc;
    sl_worker_turns_to(w, SL_DOING_WRITE);
    do
        rc = sl_io.fsync(file->fd);
    while (rc && errno == EINTR);
    sl_worker_turns_to(w, SL_DOING_WORK);
    /* a failed fsync is final: the pages it lost are marked clean */
    return rc ? sl_fail_errno(err, SL_WRITE, file->path, "fsync failed") : SL_OK;
}

/* The directory of a torch file, once the CRCs of all its records are known. */
int outfile_tail(const struct convert *v, size_t i, struct sl_arena *arena, struct sl_torch_piece **tail,
                 uint32_t *count, struct sl_error *err)
{
    const struct sl_out_file *plan = &v->p->files[i];
    uint32_t *crc = SL_ARENA_NEW(arena, uint32_t, plan->tensors);
    if (!crc)
        return sl_fail_memory(err, plan->tensors * sizeof *crc);
    for (size_t k = 0; k < plan->tensors; k++)
        crc[k] = v->crc[plan->storage_target[k]];
    return sl_torch_tail(plan->torch, crc, arena, tail, count, err);
}

static int write_directory(const struct convert *v, size_t i, const struct sl_file *file, struct sl_error *err)
{
    struct sl_arena arena = { 0 };
    struct sl_torch_piece *tail = NULL;
    uint32_t count = 0;
    int code = outfile_tail(v, i, &arena, &tail, &count, err);
    if (!code)
        code = write_records(file->fd, file->path, tail, count, err);
    sl_arena_free(&arena);
    return code;
}

int outfile_sync(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct convert *v = r->job;
    struct sl_file file;
    int code = outfile_take(v, i, &file, err);
    if (code)
        return code;
    sl_worker_begin(w, SL_PHASE_SYNC, v->p->files[i].name, file.size);
    code = v->p->files[i].torch ? write_directory(v, i, &file, err) : SL_OK;
    if (!code)
        code = sync_file(r, w, &file, err);
    if (!code)
        code = sl_journal_add(&v->target.journal, err, "file %" PRIu64, i);
    code = outfile_give(v, i, code, err);
    sl_worker_end(r, w);
    return code;
}

