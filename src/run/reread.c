/* reread.c: the target read back from the disk and compared, with the source or with
 * its checksums. Not one byte of it counts as verified that was not read back.
 */
#include "run/convert.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"

#include <inttypes.h>
#include <string.h>

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

/* The disk reads the next piece while this one is compared. */
static void read_ahead(const struct sl_file *file, const struct sl_tensor *t, uint64_t done, uint64_t len)
{
    if (done < t->bytes)
        sl_file_will_read(file, t->offset + done, sl_min_u64(len, t->bytes - done));
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

/* Reads the unit back and compares it with the source, gathered again through the plan. */
static int compare_unit(struct sl_run *r, struct convert *v, struct sl_worker *w, const struct unit *u,
                        const struct sl_file *file, struct sl_error *err)
{
    const uint32_t target = u->target;
    const struct sl_tensor *t = &v->p->targets[target];
    const size_t size = sl_dtype_size(t->dtype), half = w->buffer_len / 2;
    unsigned char *back = w->buffer + half;
    const uint64_t piece = piece_of(t, half);
    const uint64_t end = u->first + u->count;
    for (uint64_t first = u->first; first < end; first += piece) {
        const uint64_t n = sl_min_u64(piece, end - first);
        const size_t len = (size_t)n * size;
        uint64_t read = 0;
        read_ahead(file, t, (first + piece) * size, piece * size);
        int code = sl_run_step(r, err);
        sl_worker_turns_to(w, SL_DOING_READ);
        if (!code)
            code = read_back(file, t->offset + first * size, back, len, err);
        if (!code)
            code = sl_gather(v->p, target, first, n, w->buffer, w->scratch, w->buffer_len, &read, err);
        sl_worker_turns_to(w, SL_DOING_WORK);
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
        read_ahead(file, t, done + n, w->buffer_len);
        int code = sl_run_step(r, err);
        sl_worker_turns_to(w, SL_DOING_READ);
        if (!code)
            code = read_back(file, t->offset + done, w->buffer, n, err);
        sl_worker_turns_to(w, SL_DOING_WORK);
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

/* Bytes that are no tensor's: headers and records. */
static int compare_bytes(struct sl_worker *w, const struct sl_file *file, uint64_t offset, const void *bytes, uint64_t len,
                         struct sl_error *err)
{
    const unsigned char *wanted = bytes;
    for (uint64_t done = 0; done < len;) {
        const size_t n = (size_t)sl_min_u64(len - done, w->buffer_len);
        const int code = read_back(file, offset + done, w->buffer, n, err);
        if (code)
            return code;
        if (memcmp(w->buffer, wanted + done, n) != 0)
            return sl_fail(err, SL_WRITE, file->path,
                           "its header as read back differs from what was written; the target was not made");
        done += n;
    }
    return SL_OK;
}

static int compare_records(struct sl_worker *w, const struct sl_file *file, const struct sl_torch_piece *pieces,
                           uint32_t count, struct sl_error *err)
{
    int code = SL_OK;
    for (uint32_t i = 0; i < count && !code; i++)
        code = compare_bytes(w, file, pieces[i].offset, pieces[i].bytes, pieces[i].len, err);
    return code;
}

/* What stands around the elements of an item. */
static int compare_item(struct convert *v, struct sl_worker *w, uint32_t target, const struct sl_file *file, struct sl_error *err)
{
    struct sl_arena arena = { 0 };
    struct sl_torch_piece *pieces = NULL;
    uint32_t count = 0;
    int code = outfile_item(v, target, &arena, &pieces, &count, err);
    if (!code)
        code = compare_records(w, file, pieces, count, err);
    sl_arena_free(&arena);
    return code;
}

static int tensor_verified(struct sl_run *r, struct convert *v, struct sl_worker *w, uint32_t target, const struct sl_file *file,
                           struct sl_error *err)
{
    struct sl_result result = *sl_run_result_at(r, target);
    int code = v->p->items ? compare_item(v, w, target, file, err) : SL_OK;
    if (code)
        return code;
    sl_file_drop(file->fd, v->p->targets[target].offset, v->p->targets[target].bytes);
    if (r->options.verify == SL_VERIFY_REREAD)
        cache_target_done(v, target);
    result.status = SL_RESULT_VERIFIED;
    atomic_fetch_add(&r->verified, 1);
    return sl_run_publish(r, w, target, &result, err);
}

/* A checksum is taken from the beginning to the end: the first unit of a tensor stands for all. */
static int verify_unit(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct convert *v = r->job;
    const struct unit u = unit_at(r, v, i);
    const struct sl_tensor *t = &v->p->targets[u.target];
    const size_t file_index = (size_t)t->file;
    const bool compares = r->options.verify == SL_VERIFY_REREAD;
    struct sl_file file;
    if (!compares && u.number > 0)
        return SL_OK;
    int code = outfile_take(v, file_index, &file, err);
    if (code)
        return code;
    sl_worker_begin(w, SL_PHASE_VERIFY, t->name, t->bytes);
    atomic_store(&w->done, compares ? u.first * sl_dtype_size(t->dtype) : 0);
    code = compares ? compare_unit(r, v, w, &u, &file, err) : checksum_tensor(r, v, w, u.target, &file, err);
    const bool last = !code && (!compares || !u.shared || atomic_fetch_sub(&u.shared->left_to_verify, 1) == 1);
    if (last)
        code = tensor_verified(r, v, w, u.target, &file, err);
    code = outfile_give(v, file_index, code, err);
    if (last)
        sl_worker_end(r, w);
    else
        sl_worker_rest(w);
    return code;
}

static int compare_torch(struct convert *v, struct sl_worker *w, size_t i, const struct sl_file *file, struct sl_error *err)
{
    const struct sl_torch_layout *torch = v->p->files[i].torch;
    struct sl_arena arena = { 0 };
    struct sl_torch_piece *tail = NULL;
    uint32_t count = 0;
    int code = compare_records(w, file, torch->pieces, torch->piece_count, err);
    if (!code)
        code = outfile_tail(v, i, &arena, &tail, &count, err);
    if (!code)
        code = compare_records(w, file, tail, count, err);
    sl_arena_free(&arena);
    return code;
}

static int verify_head(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct convert *v = r->job;
    const struct sl_out_file *plan = &v->p->files[i];
    struct sl_file file;
    int code = outfile_take(v, i, &file, err);
    if (code)
        return code;
    sl_file_drop(file.fd, 0, file.size);    /* what is read back comes from the disk */
    code = plan->torch ? compare_torch(v, w, i, &file, err)
                       : compare_bytes(w, &file, 0, plan->head, plan->head_len, err);
    return outfile_give(v, i, code, err);
}

int reread(struct sl_run *r, struct convert *v, struct sl_error *err)
{
    if (r->options.verify == SL_VERIFY_NONE) {
        r->summary.verify = "none";
        return SL_OK;
    }
    sl_run_phase(r, SL_PHASE_VERIFY, v->p->write_bytes, v->p->target_count);
    cache_expect_readers(v);
    int code = sl_run_each(r, v->p->file_count, verify_head, err);
    if (!code)
        code = sl_run_each(r, v->first_unit[v->p->target_count], verify_unit, err);
    if (code)
        return code;
    r->summary.verified = true;
    r->summary.verify = r->options.verify == SL_VERIFY_REREAD
        ? "reread: every byte read back after fsync, its pages dropped from the cache before, and compared with the source"
        : "checksum: every byte read back after fsync, its pages dropped from the cache before, and its XXH3-64 compared";
    return SL_OK;
}

