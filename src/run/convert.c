/* convert.c: a plan becomes files. The order of a run is in run.h. */
#include "run/job.h"
#include "run/target.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"

#include <errno.h>
#include <libdeflate.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define OPEN_MOST     128u                     /* target files kept open while nobody uses them */
#define LARGE_SHARE   16u                      /* tensors above 1/16 of a worker's share go first */
#define SYNC_STEP     ((uint64_t)64 << 20)     /* bytes between two looks at cancel */
#define REPORT_NAME   "shardlens-report.json"

struct out_file {
    const char *path;
    int fd;                                    /* -1 closed; fd and users guarded by files_lock */
    unsigned users;
};
struct convert {
    const struct sl_conversion *p;
    struct sl_target target;
    bool opened;                               /* target is */
    uint32_t *order;                           /* of work: target tensors */
    struct out_file *files;
    unsigned open_files;
    pthread_mutex_t files_lock;
    atomic_uint_least64_t written;             /* tensors written or found whole */
    uint32_t *crc;                             /* CRC-32 by target tensor, for torch files; NULL */
};

/* ---- output files ---- */

static int file_take(struct convert *v, size_t i, struct sl_file *out, struct sl_error *err)
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
static int file_give(struct convert *v, size_t i, int code, struct sl_error *err)
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

static int files_close(struct convert *v, int code, struct sl_error *err)
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

static int make_folder_of(const char *path, struct sl_error *err)
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

static int make_file(struct convert *v, size_t i, struct sl_error *err)
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
static int check_space(const struct convert *v, struct sl_error *err)
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

static int prepare(struct sl_run *r, struct convert *v, struct sl_error *err)
{
    sl_run_phase(r, SL_PHASE_PREPARE, 0, 0);
    int code = v->target.committed ? SL_OK : check_space(v, err);
    for (size_t i = 0; !code && !v->target.committed && i < v->p->file_count; i++) {
        code = sl_run_step(r, err);
        if (!code)
            code = make_file(v, i, err);
    }
    return code;
}

/* ---- one tensor ---- */

/* Elements that go through the buffer at a time: whole rows, where they are not long. */
static uint64_t piece_of(const struct sl_tensor *t, size_t buffer_len)
{
    const uint64_t fit = buffer_len / sl_max_u64(1, sl_dtype_size(t->dtype));
    const uint64_t rows = t->ndim > 1 && t->shape[0] > 0 ? (uint64_t)t->shape[0] : 1;
    const uint64_t row = t->count / rows;
    return row > 0 && row <= fit / 4 ? fit - fit % row : fit;
}

static int publish(struct sl_run *r, struct sl_worker *w, uint32_t target, const struct sl_accumulator *stats,
                   uint64_t checksum, struct sl_error *err)
{
    struct sl_result result = *sl_run_result_at(r, target);
    sl_stats_end(stats, &result.stats);
    result.checksum = checksum;
    result.status = SL_RESULT_WRITTEN;
    return sl_run_publish(r, w, target, &result, err);
}

/* The CRC-32 that a zip directory keeps of each record; a tensor is done in order by one worker. */
static void begin_crc(struct convert *v, uint32_t target)
{
    if (v->crc)
        v->crc[target] = 0;
}

static void add_crc(struct convert *v, uint32_t target, const void *bytes, size_t len)
{
    if (v->crc)
        v->crc[target] = libdeflate_crc32(v->crc[target], bytes, len);
}

/* The journal says that this tensor is written: is it? */
static int look_again(struct sl_run *r, struct convert *v, struct sl_worker *w, uint32_t target,
                      const struct sl_file *file, bool *whole, struct sl_error *err)
{
    const struct sl_tensor *t = &v->p->targets[target];
    struct sl_accumulator stats;
    sl_stats_begin(&stats);
    XXH3_64bits_reset(w->hash);
    begin_crc(v, target);
    for (uint64_t done = 0; done < t->bytes;) {
        int code = sl_run_step(r, err);
        const size_t n = (size_t)sl_min_u64(t->bytes - done, w->buffer_len / 16 * 16);
        if (!code && sl_file_read(file, t->offset + done, w->buffer, n, NULL))
            return SL_OK;    /* can't be read: it is not whole, and will be written again */
        if (code)
            return code;
        atomic_fetch_add(&r->read_bytes, n);
        sl_worker_digest(w, &stats, t->dtype, w->buffer, n);
        add_crc(v, target, w->buffer, n);
        sl_worker_moved(r, w, n);
        done += n;
    }
    const uint64_t checksum = XXH3_64bits_digest(w->hash);
    *whole = checksum == v->target.state.checksum[target];
    return *whole ? publish(r, w, target, &stats, checksum, err) : SL_OK;
}

/* Starts the disk on what was just written, so that the fsync at the end is short. */
static void write_behind(int fd, uint64_t offset, uint64_t len)
{
    sync_file_range(fd, (off_t)offset, (off_t)len, SYNC_FILE_RANGE_WRITE);
}

static int write_tensor(struct sl_run *r, struct convert *v, struct sl_worker *w, uint32_t target,
                        const struct sl_file *file, struct sl_error *err)
{
    const struct sl_tensor *t = &v->p->targets[target];
    const size_t size = sl_dtype_size(t->dtype);
    const uint64_t piece = piece_of(t, w->buffer_len);
    struct sl_accumulator stats;
    sl_stats_begin(&stats);
    XXH3_64bits_reset(w->hash);
    begin_crc(v, target);
    for (uint64_t first = 0; first < t->count; first += piece) {
        const uint64_t n = sl_min_u64(piece, t->count - first), offset = t->offset + first * size;
        uint64_t read = 0;
        int code = sl_run_step(r, err);
        if (!code)
            code = sl_gather(v->p, target, first, n, w->buffer, w->scratch, w->buffer_len, &read, err);
        if (code)
            return code;
        sl_worker_digest(w, &stats, t->dtype, w->buffer, (size_t)n * size);
        add_crc(v, target, w->buffer, (size_t)n * size);
        code = sl_write_at(file->fd, file->path, offset, w->buffer, (size_t)n * size, err);
        if (code)
            return code;
        write_behind(file->fd, offset, n * size);
        atomic_fetch_add(&r->read_bytes, read);
        atomic_fetch_add(&r->written_bytes, n * size);
        sl_worker_moved(r, w, n * size);
    }
    const uint64_t checksum = XXH3_64bits_digest(w->hash);
    int code = sl_journal_add(&v->target.journal, err, "tensor %" PRIu32 " %016" PRIx64, target, checksum);
    return code ? code : publish(r, w, target, &stats, checksum, err);
}

static int copy_tensor(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct convert *v = r->job;
    const uint32_t target = v->order[i];
    const struct sl_tensor *t = &v->p->targets[target];
    const size_t file_index = (size_t)t->file;
    struct sl_file file;
    int code = file_take(v, file_index, &file, err);
    if (code)
        return code;
    sl_worker_begin(w, SL_PHASE_COPY, t->name, t->bytes);
    bool whole = false;
    if (v->target.resumed && v->target.state.written[target])
        code = look_again(r, v, w, target, &file, &whole, err);
    if (!code && !whole && v->target.committed)
        code = sl_fail(err, SL_WRITE, file.path, "the finished target differs from what was written; start anew with --force");
    if (!code && !whole) {
        atomic_fetch_sub(&r->bytes_done, atomic_load(&w->done));
        sl_worker_begin(w, SL_PHASE_COPY, t->name, t->bytes);
        code = write_tensor(r, v, w, target, &file, err);
    }
    code = file_give(v, file_index, code, err);
    if (!code)
        atomic_fetch_add(&v->written, 1);
    sl_worker_end(r, w);
    return code;
}

/* ---- the order of work ---- */

struct place { uint64_t bytes, offset; int32_t file; uint32_t target; bool large; };

/* Tensors so large that they would leave the other workers idle at the end come first,
 * largest first; the others by file, so that disks and folders are walked in order. */
static int by_turn(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->large != y->large)
        return x->large ? -1 : 1;
    if (x->large && x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static int make_order(struct sl_run *r, struct convert *v, struct sl_error *err)
{
    const size_t count = v->p->target_count;
    struct place *places = malloc((count ? count : 1) * sizeof *places);
    v->order = SL_ARENA_NEW(&r->arena, uint32_t, count);
    if (!places || !v->order) {
        free(places);
        return sl_fail_memory(err, count * sizeof *places);
    }
    const uint64_t large = v->p->write_bytes / r->threads / LARGE_SHARE;
    for (size_t i = 0; i < count; i++) {
        const struct sl_tensor *t = &v->p->targets[i];
        places[i] = (struct place){ .bytes = t->bytes, .offset = t->offset, .file = t->file,
                                    .target = (uint32_t)i, .large = t->bytes > large };
    }
    if (count)
        qsort(places, count, sizeof *places, by_turn);
    for (size_t i = 0; i < count; i++)
        v->order[i] = places[i].target;
    free(places);
    return SL_OK;
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
        if (sync_file_range(file->fd, (off_t)at, (off_t)n,
                            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) &&
            (errno == EIO || errno == ENOSPC || errno == EDQUOT))
            return sl_fail_errno(err, SL_WRITE, file->path, "writing to the disk failed");
        sl_worker_moved(r, w, n);
    }
    int rc;
    do
        rc = sl_io.fsync(file->fd);
    while (rc && errno == EINTR);
    /* a failed fsync is final: the pages it lost are marked clean */
    return rc ? sl_fail_errno(err, SL_WRITE, file->path, "fsync failed") : SL_OK;
}

/* The directory of a torch file, once the CRCs of all its records are known. */
static int write_directory(const struct convert *v, size_t i, const struct sl_file *file, struct sl_error *err)
{
    const struct sl_out_file *plan = &v->p->files[i];
    struct sl_arena arena = { 0 };
    struct sl_torch_piece *tail = NULL;
    uint32_t count = 0;
    uint32_t *crc = SL_ARENA_NEW(&arena, uint32_t, plan->tensors);
    int code = crc ? SL_OK : sl_fail_memory(err, plan->tensors * sizeof *crc);
    for (size_t k = 0; k < plan->tensors && !code; k++)
        crc[k] = v->crc[plan->storage_target[k]];
    if (!code)
        code = sl_torch_tail(plan->torch, crc, &arena, &tail, &count, err);
    if (!code)
        code = write_records(file->fd, file->path, tail, count, err);
    sl_arena_free(&arena);
    return code;
}

static int sync_output(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct convert *v = r->job;
    struct sl_file file;
    int code = file_take(v, i, &file, err);
    if (code)
        return code;
    sl_worker_begin(w, SL_PHASE_SYNC, v->p->files[i].name, file.size);
    code = v->p->files[i].torch ? write_directory(v, i, &file, err) : SL_OK;
    if (!code)
        code = sync_file(r, w, &file, err);
    if (!code)
        code = sl_journal_add(&v->target.journal, err, "file %" PRIu64, i);
    code = file_give(v, i, code, err);
    sl_worker_end(r, w);
    return code;
}

/* ---- reread ---- */

static int fail_mismatch(struct sl_run *r, struct convert *v, struct sl_worker *w, uint32_t target,
                         uint64_t element, struct sl_error *err)
{
    const struct sl_tensor *t = &v->p->targets[target];
    struct sl_result result = *sl_run_result_at(r, target);
    int code = sl_ckpt_unchanged(v->p->ckpt, err);    /* that would be the better explanation */
    if (code)
        return code;
    result.status = SL_RESULT_MISMATCH;
    result.first_different = element;
    result.different = element == UINT64_MAX ? 0 : 1;
    atomic_fetch_add(&r->mismatched, 1);
    code = sl_run_publish(r, w, target, &result, err);
    if (code)
        return code;
    if (element == UINT64_MAX)
        return sl_fail(err, SL_WRITE, t->name,
                       "its checksum as read back from %s is not the one it was written with; disk, memory or file system is unsound; the target was not made",
                       v->p->files[t->file].name);
    return sl_fail(err, SL_WRITE, t->name,
                   "element %" PRIu64 " as read back from %s, offset %" PRIu64
                   ", differs from the source; disk, memory or file system is unsound; the target was not made",
                   element, v->p->files[t->file].name, t->offset + element * sl_dtype_size(t->dtype));
}

static uint64_t first_difference(const unsigned char *a, const unsigned char *b, size_t len, size_t size)
{
    size_t i = 0;
    while (i < len && a[i] == b[i])
        i++;
    return i / size;
}

/* A target that can't be read back is a failed write, whatever the reader says. */
static int read_back(const struct sl_file *file, uint64_t offset, void *buf, size_t len, struct sl_error *err)
{
    const int code = sl_file_read(file, offset, buf, len, err);
    if (code != SL_INPUT)
        return code;
    err->code = SL_WRITE;
    return SL_WRITE;
}

/* Reads the tensor back and compares it with the source, gathered again through the plan. */
static int compare_tensor(struct sl_run *r, struct convert *v, struct sl_worker *w, uint32_t target,
                          const struct sl_file *file, struct sl_error *err)
{
    const struct sl_tensor *t = &v->p->targets[target];
    const size_t size = sl_dtype_size(t->dtype), half = w->buffer_len / 2;
    unsigned char *back = w->buffer + half;
    const uint64_t piece = piece_of(t, half);
    for (uint64_t first = 0; first < t->count; first += piece) {
        const uint64_t n = sl_min_u64(piece, t->count - first);
        const size_t len = (size_t)n * size;
        uint64_t read = 0;
        int code = sl_run_step(r, err);
        if (!code)
            code = read_back(file, t->offset + first * size, back, len, err);
        if (!code)
            code = sl_gather(v->p, target, first, n, w->buffer, w->scratch, w->buffer_len, &read, err);
        if (code)
            return code;
        if (memcmp(w->buffer, back, len) != 0)
            return fail_mismatch(r, v, w, target, first + first_difference(w->buffer, back, len, size), err);
        atomic_fetch_add(&r->read_bytes, read + len);
        sl_worker_moved(r, w, len);
    }
    return SL_OK;
}

/* Reads the tensor back and compares its checksum. */
static int checksum_tensor(struct sl_run *r, struct convert *v, struct sl_worker *w, uint32_t target,
                           const struct sl_file *file, struct sl_error *err)
{
    const struct sl_tensor *t = &v->p->targets[target];
    XXH3_64bits_reset(w->hash);
    for (uint64_t done = 0; done < t->bytes;) {
        const size_t n = (size_t)sl_min_u64(t->bytes - done, w->buffer_len);
        int code = sl_run_step(r, err);
        if (!code)
            code = read_back(file, t->offset + done, w->buffer, n, err);
        if (code)
            return code;
        sl_worker_digest(w, NULL, t->dtype, w->buffer, n);
        atomic_fetch_add(&r->read_bytes, n);
        sl_worker_moved(r, w, n);
        done += n;
    }
    if (XXH3_64bits_digest(w->hash) != sl_run_result_at(r, target)->checksum)
        return fail_mismatch(r, v, w, target, UINT64_MAX, err);
    return SL_OK;
}

static int verify_tensor(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct convert *v = r->job;
    const uint32_t target = v->order[i];
    const struct sl_tensor *t = &v->p->targets[target];
    const size_t file_index = (size_t)t->file;
    struct sl_file file;
    int code = file_take(v, file_index, &file, err);
    if (code)
        return code;
    sl_worker_begin(w, SL_PHASE_VERIFY, t->name, t->bytes);
    code = r->options.verify == SL_VERIFY_REREAD ? compare_tensor(r, v, w, target, &file, err)
                                                 : checksum_tensor(r, v, w, target, &file, err);
    if (!code) {
        struct sl_result result = *sl_run_result_at(r, target);
        result.status = SL_RESULT_VERIFIED;
        code = sl_run_publish(r, w, target, &result, err);
        atomic_fetch_add(&r->verified, 1);
    }
    code = file_give(v, file_index, code, err);
    sl_worker_end(r, w);
    return code;
}

/* The head of a file is not part of any tensor. */
static int verify_head(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct convert *v = r->job;
    const struct sl_out_file *plan = &v->p->files[i];
    struct sl_file file;
    int code = file_take(v, i, &file, err);
    if (code)
        return code;
    sl_file_drop(file.fd, 0, file.size);    /* what is read back comes from the disk */
    const unsigned char *head = plan->head;
    for (uint64_t done = 0; !code && done < plan->head_len;) {
        const size_t n = (size_t)sl_min_u64(plan->head_len - done, w->buffer_len);
        code = read_back(&file, done, w->buffer, n, err);
        if (!code && memcmp(w->buffer, head + done, n) != 0)
            code = sl_fail(err, SL_WRITE, file.path,
                           "its header as read back differs from what was written; the target was not made");
        done += n;
    }
    return file_give(v, i, code, err);
}

static int verify(struct sl_run *r, struct convert *v, struct sl_error *err)
{
    if (r->options.verify == SL_VERIFY_NONE) {
        r->summary.verify = "none";
        return SL_OK;
    }
    sl_run_phase(r, SL_PHASE_VERIFY, v->p->write_bytes, v->p->target_count);
    int code = sl_run_each(r, v->p->file_count, verify_head, err);
    if (!code)
        code = sl_run_each(r, v->p->target_count, verify_tensor, err);
    if (code)
        return code;
    r->summary.verified = true;
    r->summary.verify = r->options.verify == SL_VERIFY_REREAD
        ? "reread: every byte read back after fsync, its pages dropped from the cache before, and compared with the source"
        : "checksum: every byte read back after fsync, its pages dropped from the cache before, and its XXH3-64 compared";
    return SL_OK;
}

/* ---- the rest of the target ---- */

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

/* Folders below the target, each once where names come sorted, and the target's own. */
static int sync_folder_of(struct convert *v, const char *name, char last[512], struct sl_error *err)
{
    const char *slash = strrchr(name, '/');
    const size_t len = slash ? (size_t)(slash - name) : 0;
    if (len == 0 || len >= 512 || (strncmp(last, name, len) == 0 && last[len] == '\0'))
        return SL_OK;
    memcpy(last, name, len);
    last[len] = '\0';
    const char *path = sl_target_place(&v->target, last);
    return path ? sl_sync_folder(path, err) : sl_fail_memory(err, len);
}

static int sync_folders(struct convert *v, struct sl_error *err)
{
    char last[512] = "";
    int code = SL_OK;
    if (v->target.single)
        return SL_OK;
    for (size_t i = 0; !code && i < v->p->file_count; i++)
        code = sync_folder_of(v, v->p->files[i].name, last, err);
    for (size_t i = 0; !code && i < v->p->extra_count; i++)
        code = sync_folder_of(v, v->p->extras[i].name, last, err);
    return code ? code : sl_sync_folder(v->target.partial, err);
}

static int write_report(struct sl_run *r, const char *path, struct sl_error *err)
{
    struct sl_buf text = { 0 };
    sl_run_report(r, &text);
    unlink(path);    /* of an interrupted run */
    int code = text.failed ? sl_fail_memory(err, text.len) : sl_write_new(path, text.data, text.len, err);
    sl_buf_free(&text);
    return code;
}

/* Where the report goes: into the target, or to a name of the user's, under a partial name
 * until the target is there. A device (/dev/stdout) is written to as it is. */
static int report(struct sl_run *r, struct convert *v, const char **part, struct sl_error *err)
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
    struct stat st;
    if (stat(r->options.report, &st) || S_ISREG(st.st_mode)) {
        *part = sl_arena_printf(&r->arena, "%s.part", r->options.report);
        return *part ? write_report(r, *part, err) : sl_fail_memory(err, 64);
    }
    struct sl_buf text = { 0 };
    sl_run_report(r, &text);
    const int fd = sl_io.open(r->options.report, O_WRONLY | O_CLOEXEC, 0);
    int code = fd < 0 ? sl_fail_errno(err, SL_WRITE, r->options.report, "can't be opened") : SL_OK;
    for (size_t done = 0; !code && done < text.len;) {
        const ssize_t n = write(fd, text.data + done, text.len - done);
        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno != EINTR)
            code = sl_fail_errno(err, SL_WRITE, r->options.report, "the report can't be written");
    }
    if (fd >= 0)
        sl_io.close(fd);
    sl_buf_free(&text);
    return code;
}

static int finish(struct sl_run *r, struct convert *v, struct sl_error *err)
{
    sl_run_phase(r, SL_PHASE_FINISH, 0, 0);
    int code = sl_run_step(r, err);
    if (!code)
        code = sl_ckpt_unchanged(v->p->ckpt, err);
    for (size_t i = 0; !code && !v->target.single && !v->target.committed && i < v->p->extra_count; i++)
        code = write_extra(r, v, &v->p->extras[i], err);
    const char *part = NULL;
    if (!code)
        code = report(r, v, &part, err);
    if (!code)
        code = sync_folders(v, err);
    if (!code)
        code = sl_target_commit(&v->target, err);
    if (part && code)
        unlink(part);
    else if (part && sl_io.rename(part, r->options.report))
        code = sl_fail_errno(err, SL_WRITE, r->options.report, "the report can't be given its name");
    return code;
}

/* ---- the run ---- */

/* A failure that leaves work behind says how to go on. */
static void add_advice(const struct sl_run *r, const struct convert *v, int code, struct sl_error *err)
{
    const size_t len = strlen(err->message);
    char advice[128];
    if (atomic_load(&r->cancel))
        snprintf(advice, sizeof advice, "; %" PRIu64 " of %zu tensors are written: go on with --resume",
                 (uint64_t)atomic_load(&v->written), v->p->target_count);
    else if (code == SL_WRITE || code == SL_MEMORY)
        snprintf(advice, sizeof advice, "; when that is mended, go on with --resume");
    else
        return;
    snprintf(err->message + len, sizeof err->message - len, "%s", advice);
}

static int convert(struct sl_run *r, struct sl_error *err)
{
    struct convert *v = r->job;
    int code = prepare(r, v, err);
    if (!code) {
        sl_run_phase(r, SL_PHASE_COPY, v->p->write_bytes, v->p->target_count);
        code = sl_run_each(r, v->p->target_count, copy_tensor, err);
    }
    if (!code && !v->target.committed) {
        uint64_t bytes = 0;
        for (size_t i = 0; i < v->p->file_count; i++)
            bytes += v->p->files[i].size;
        sl_run_phase(r, SL_PHASE_SYNC, bytes, v->p->file_count);
        code = sl_run_each(r, v->p->file_count, sync_output, err);
    }
    if (!code)
        code = verify(r, v, err);
    code = files_close(v, code, err);
    if (!code)
        code = finish(r, v, err);

    const bool keep = atomic_load(&v->written) > 0 || v->target.resumed;
    if (code && keep && !v->target.committed) {
        sl_journal_sync(&v->target.journal, NULL);
        add_advice(r, v, code, err);
    }
    sl_target_close(&v->target, keep);
    v->opened = false;
    sl_run_sum_up(r, v->p->target_count, v->p->write_bytes);
    return code;
}

static void release(struct sl_run *r)
{
    struct convert *v = r->job;
    if (v->opened)    /* never started */
        sl_target_close(&v->target, v->target.resumed);
    pthread_mutex_destroy(&v->files_lock);
}

static int convert_report(const struct sl_run *r, struct sl_buf *out)
{
    const struct convert *v = r->job;
    return sl_report_convert(r, v->p, v->target.path, out);
}

static int by_number(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* How many different tensors a target is made of. */
static int count_sources(const struct sl_conversion *p, size_t target, size_t *count, struct sl_error *err)
{
    const size_t first = p->target_first[target], n = p->target_first[target + 1] - first;
    *count = n;
    if (n < 2)
        return SL_OK;
    uint32_t *sources = malloc(n * sizeof *sources);
    if (!sources)
        return sl_fail_memory(err, n * sizeof *sources);
    for (size_t i = 0; i < n; i++)
        sources[i] = p->copies[first + i].source;
    qsort(sources, n, sizeof *sources, by_number);
    for (size_t i = 1; i < n; i++)
        *count -= sources[i] == sources[i - 1];
    *count -= sources[n - 1] == UINT32_MAX;    /* padding is no tensor */
    free(sources);
    return SL_OK;
}

static int make_results(struct sl_run *r, const struct sl_conversion *p, struct sl_error *err)
{
    for (size_t i = 0; i < p->target_count; i++) {
        const struct sl_tensor *t = &p->targets[i];
        struct sl_result result = { .name = t->name, .dtype = t->dtype, .ndim = t->ndim, .shape = t->shape,
                                    .file = p->files[t->file].name, .bytes = t->bytes };
        const int code = count_sources(p, i, &result.sources, err);
        if (code)
            return code;
        sl_run_result_init(r, i, &result);
    }
    return SL_OK;
}

static int make_files(struct sl_run *r, struct convert *v, struct sl_error *err)
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

int sl_run_convert(const struct sl_conversion *p, const char *dst, const struct sl_run_options *options,
                   struct sl_run **out, struct sl_error *err)
{
    struct sl_run *r;
    int code = sl_run_new(options, p->target_count, &r, err);
    if (code)
        return code;
    struct convert *v = SL_ARENA_NEW(&r->arena, struct convert, 1);
    if (!v) {
        sl_run_free(r);
        return sl_fail_memory(err, sizeof *v);
    }
    v->p = p;
    pthread_mutex_init(&v->files_lock, NULL);
    r->job = v;
    r->body = convert;
    r->release = release;
    r->report = convert_report;

    uint64_t largest = 0;
    for (size_t i = 0; i < p->target_count; i++)
        largest = sl_max_u64(largest, p->targets[i].bytes);
    code = make_results(r, p, err);
    for (size_t i = 0; i < p->file_count && !code && !v->crc; i++)
        if (p->files[i].torch && !(v->crc = SL_ARENA_NEW(&r->arena, uint32_t, p->target_count)))
            code = sl_fail_memory(err, p->target_count * sizeof *v->crc);
    if (!code)
        code = sl_run_buffers(r, largest, err);
    if (!code)
        code = make_order(r, v, err);
    if (!code)
        code = sl_target_open(&v->target, p, dst, r->options.force, r->options.resume, &r->arena, err);
    v->opened = !code;
    if (!code)
        code = make_files(r, v, err);
    if (!code)
        code = sl_run_start(r, err);
    if (code) {
        sl_run_free(r);
        return code;
    }
    *out = r;
    return SL_OK;
}
