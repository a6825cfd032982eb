/* convert.c: a plan becomes files. The order of a run is in run.h. */
#include "run/convert.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"

#include <inttypes.h>
#include <libdeflate.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH3_STATE_BYTES 576u                  /* about what XXH3_createState asks for */
#define AHEAD 8u                               /* pieces that the disk reads while one is worked on */

/* ---- one tensor ---- */

static int publish(struct sl_run *r, struct sl_worker *w, uint32_t target, const struct sl_accumulator *stats,
                   uint64_t checksum, struct sl_error *err)
{
    struct sl_result result = *sl_run_result_at(r, target);
    sl_stats_end(stats, &result.stats);
    result.checksum = checksum;
    result.status = SL_RESULT_WRITTEN;
    return sl_run_publish(r, w, target, &result, err);
}

/* The CRC-32 that a zip directory keeps of each record; a tensor's bytes come in their order. */
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

/* Checksum, CRC and statistics of the piece in the buffer. Sums are taken by piece and then added, as they are where
 * several workers share a tensor: so they are the same numbers. */
static void digest_piece(struct convert *v, struct sl_worker *w, uint32_t target, struct sl_accumulator *stats, size_t len)
{
    struct sl_accumulator some;
    sl_stats_begin(&some);
    sl_worker_digest(w, &some, v->p->targets[target].dtype, w->buffer, len);
    sl_stats_merge(stats, &some);
    add_crc(v, target, w->buffer, len);
}

/* The journal says that this tensor is written: is it? */
static int look_again(struct sl_run *r, struct convert *v, struct sl_worker *w, uint32_t target,
                      const struct sl_file *file, bool *whole, struct sl_error *err)
{
    const struct sl_tensor *t = &v->p->targets[target];
    const uint64_t piece = piece_of(t, w->buffer_len) * sl_dtype_size(t->dtype);
    struct sl_accumulator stats;
    sl_stats_begin(&stats);
    XXH3_64bits_reset(w->hash);
    begin_crc(v, target);
    for (uint64_t done = 0; done < t->bytes;) {
        int code = sl_run_step(r, err);
        const size_t n = (size_t)sl_min_u64(t->bytes - done, piece);
        if (!code && sl_file_read(file, t->offset + done, w->buffer, n, NULL))
            return SL_OK;    /* can't be read: it is not whole, and will be written again */
        if (code)
            return code;
        atomic_fetch_add(&r->read_bytes, n);
        digest_piece(v, w, target, &stats, n);
        sl_worker_moved(r, w, n);
        done += n;
    }
    const uint64_t checksum = XXH3_64bits_digest(w->hash);
    *whole = checksum == v->target.state.checksum[target];
    return *whole ? publish(r, w, target, &stats, checksum, err) : SL_OK;
}

static void read_ahead(const struct convert *v, uint32_t target, uint64_t first, uint64_t count)
{
    const uint64_t all = v->p->targets[target].count;
    if (first < all)
        sl_gather_ahead(v->p, target, first, sl_min_u64(count, all - first));
}

/* Elements [first, first + count) of a target into the buffer. */
static int gather_piece(struct sl_run *r, struct convert *v, struct sl_worker *w, uint32_t target, uint64_t first, uint64_t count,
                        struct sl_error *err)
{
    uint64_t read = 0;
    read_ahead(v, target, first + AHEAD * count, count);
    int code = sl_run_step(r, err);
    sl_worker_turns_to(w, SL_DOING_READ);
    if (!code)
        code = sl_gather(v->p, target, first, count, w->buffer, w->scratch, w->buffer_len, &read, err);
    sl_worker_turns_to(w, SL_DOING_WORK);
    atomic_fetch_add(&r->read_bytes, read);
    return code;
}

static int write_piece(struct sl_run *r, struct convert *v, struct sl_worker *w, uint32_t target, const struct sl_file *file,
                       uint64_t offset, size_t len, struct sl_error *err)
{
    sl_worker_turns_to(w, SL_DOING_WRITE);
    int code = sl_write_at(file->fd, file->path, offset, w->buffer, len, err);
    if (!code)
        code = cache_written(r, v, w, (size_t)v->p->targets[target].file, file, offset, len, err);
    sl_worker_turns_to(w, SL_DOING_WORK);
    if (code)
        return code;
    atomic_fetch_add(&r->written_bytes, len);
    sl_worker_moved(r, w, len);
    return SL_OK;
}

static int tensor_written(struct sl_run *r, struct convert *v, struct sl_worker *w, uint32_t target, const struct sl_accumulator *stats,
                          uint64_t checksum, struct sl_error *err)
{
    const int code = sl_journal_add(&v->target.journal, err, "tensor %" PRIu32 " %016" PRIx64, target, checksum);
    return code ? code : publish(r, w, target, stats, checksum, err);
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
        const uint64_t n = sl_min_u64(piece, t->count - first);
        int code = gather_piece(r, v, w, target, first, n, err);
        if (code)
            return code;
        digest_piece(v, w, target, &stats, (size_t)n * size);
        code = write_piece(r, v, w, target, file, t->offset + first * size, (size_t)n * size, err);
        if (code)
            return code;
    }
    return tensor_written(r, v, w, target, &stats, XXH3_64bits_digest(w->hash), err);
}

/* The digest of one unit, in its turn. */
static int digest_unit(struct sl_run *r, struct convert *v, struct sl_worker *w, const struct unit *u, struct sl_error *err)
{
    const struct sl_tensor *t = &v->p->targets[u->target];
    const size_t len = (size_t)u->count * sl_dtype_size(t->dtype);
    struct shared *s = u->shared;
    struct sl_accumulator some;
    sl_stats_begin(&some);
    sl_stats_add(&some, t->dtype, w->buffer, (size_t)u->count);
    int code = unit_wait(r, u, err);
    if (code)
        return code;
    if (u->number == 0) {
        s->hash = XXH3_createState();
        sl_stats_begin(&s->stats);
        begin_crc(v, u->target);
        if (!s->hash)
            return sl_fail_memory(err, XXH3_STATE_BYTES);
        XXH3_64bits_reset(s->hash);
    }
    XXH3_64bits_update(s->hash, w->buffer, len);
    sl_stats_merge(&s->stats, &some);
    add_crc(v, u->target, w->buffer, len);
    unit_pass(r, u);
    return SL_OK;
}

/* One share of a tensor; the worker that writes the last one ends it. */
static int write_share(struct sl_run *r, struct convert *v, struct sl_worker *w, const struct unit *u, const struct sl_file *file,
                       bool *last, struct sl_error *err)
{
    const struct sl_tensor *t = &v->p->targets[u->target];
    const size_t size = sl_dtype_size(t->dtype);
    atomic_store(&w->done, u->first * size);
    int code = gather_piece(r, v, w, u->target, u->first, u->count, err);
    if (!code)
        code = digest_unit(r, v, w, u, err);
    if (!code)
        code = write_piece(r, v, w, u->target, file, t->offset + u->first * size, (size_t)u->count * size, err);
    *last = !code && atomic_fetch_sub(&u->shared->left, 1) == 1;
    return *last ? tensor_written(r, v, w, u->target, &u->shared->stats, XXH3_64bits_digest(u->shared->hash), err) : code;
}

/* A tensor that is one unit. */
static int write_whole(struct sl_run *r, struct convert *v, struct sl_worker *w, uint32_t target, const struct sl_file *file,
                       struct sl_error *err)
{
    const struct sl_tensor *t = &v->p->targets[target];
    bool whole = false;
    int code = SL_OK;
    if (v->target.resumed && v->target.state.written[target])
        code = look_again(r, v, w, target, file, &whole, err);
    if (!code && !whole && v->target.committed)
        code = sl_fail(err, SL_WRITE, file->path, "the finished target differs from what was written; start anew with --force");
    if (code || whole)
        return code;
    atomic_fetch_sub(&r->bytes_done, atomic_load(&w->done));
    atomic_fetch_sub(&r->all_done, atomic_load(&w->done));
    sl_worker_begin(w, SL_PHASE_COPY, t->name, t->bytes);
    return write_tensor(r, v, w, target, file, err);
}

static int copy_unit(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct convert *v = r->job;
    const struct unit u = unit_at(r, v, i);
    const struct sl_tensor *t = &v->p->targets[u.target];
    const size_t file_index = (size_t)t->file;
    struct sl_file file;
    bool last = true;
    int code = outfile_take(v, file_index, &file, err);
    if (code)
        return code;
    sl_worker_begin(w, SL_PHASE_COPY, t->name, t->bytes);
    if (!u.shared && u.turn + r->threads < v->p->target_count) {    /* about what this worker will take next */
        const uint32_t next = v->order[u.turn + r->threads];
        read_ahead(v, next, 0, AHEAD * piece_of(&v->p->targets[next], w->buffer_len));
    }
    code = u.shared ? write_share(r, v, w, &u, &file, &last, err) : write_whole(r, v, w, u.target, &file, err);
    if (!code && last && v->p->items && !v->target.committed)
        code = outfile_write_item(v, u.target, &file, err);
    code = outfile_give(v, file_index, code, err);
    if (!code && last)
        atomic_fetch_add(&v->written, 1);
    if (!code && last && !v->keeps_source)
        cache_target_done(v, u.target);
    if (last)
        sl_worker_end(r, w);
    else
        sl_worker_rest(w);
    return code;
}

/* ---- the run ---- */

/* A failure that leaves work behind says how to go on. */
static void add_advice(const struct sl_run *r, const struct convert *v, int code, struct sl_error *err)
{
    const size_t len = strlen(err->message);
    const char *how = r->options.finish ? "--finish" : r->options.parts ? "the same command" : "--resume";
    char advice[128];
    if (atomic_load(&r->cancel))
        snprintf(advice, sizeof advice, "; %" PRIu64 " of %zu tensors are written: go on with %s",
                 (uint64_t)atomic_load(&v->written), v->p->target_count, how);
    else if (code == SL_WRITE || code == SL_MEMORY)
        snprintf(advice, sizeof advice, "; when that is mended, go on with %s", how);
    else
        return;
    snprintf(err->message + len, sizeof err->message - len, "%s", advice);
}

static int prepare(struct sl_run *r, struct convert *v, struct sl_error *err)
{
    sl_run_phase(r, SL_PHASE_PREPARE, 0, 0);
    int code = v->target.committed ? SL_OK : outfiles_check_space(v, err);
    for (size_t i = 0; !code && !v->target.committed && i < v->p->file_count; i++) {
        code = sl_run_step(r, err);
        if (!code)
            code = outfile_make(v, i, err);
    }
    return code;
}

static int finish(struct sl_run *r, struct convert *v, struct sl_error *err)
{
    sl_run_phase(r, SL_PHASE_FINISH, 0, 0);
    int code = sl_run_step(r, err);
    if (!code)
        code = sl_ckpt_unchanged(v->p->ckpt, err);
    if (!code)
        code = extras_write(r, v, err);
    const char *part = NULL;
    if (!code)
        code = report_write(r, v, &part, err);
    if (!code)
        code = target_sync_folders(v, err);
    sl_tell_end(&v->tell, code != SL_OK, code, err);    /* before the commit: the journal is the last to go */
    if (!code)
        code = sl_target_commit(&v->target, err);
    if (part && code)
        unlink(part);
    else if (part && sl_io.rename(part, r->options.report))
        code = sl_fail_errno(err, SL_WRITE, v->target.path, "is in place and whole, but its report, %s, can't be named %s", part, r->options.report);
    return code;
}

/* What all phases together move, and where it is told. */
static void begin_telling(struct sl_run *r, struct convert *v)
{
    char source[PATH_MAX];
    uint64_t synced = 0;
    for (size_t i = 0; i < v->p->file_count && !v->target.committed; i++)
        synced += v->p->files[i].size;
    atomic_store(&r->all_total, v->p->write_bytes + synced + (r->options.verify == SL_VERIFY_NONE ? 0 : v->p->write_bytes));
    v->tell.fd = -1;
    if (!r->options.tell)
        return;
    const char *path = realpath(v->p->ckpt->path, source) ? sl_arena_str(v->target.arena, source) : NULL;
    sl_tell_begin(&v->tell, r, v->target.progress_path, v->p->hash, path ? path : v->p->ckpt->path);
}

static int write_and_verify(struct sl_run *r, struct convert *v, struct sl_error *err)
{
    int code = prepare(r, v, err);
    if (!code)
        code = cache_look(r, v, err);
    if (!code) {
        cache_expect_readers(v);
        sl_run_phase(r, SL_PHASE_COPY, v->p->write_bytes, v->p->target_count);
        r->goes_on = unit_goes_on;
        code = sl_run_each(r, v->first_unit[v->p->target_count], copy_unit, err);
        r->goes_on = NULL;
    }
    if (!code && !v->target.committed) {
        uint64_t bytes = 0;
        for (size_t i = 0; i < v->p->file_count; i++)
            bytes += v->p->files[i].size;
        sl_run_phase(r, SL_PHASE_SYNC, bytes, v->p->file_count);
        code = sl_run_each(r, v->p->file_count, outfile_sync, err);
    }
    return code ? code : reread(r, v, err);
}

static int convert(struct sl_run *r, struct sl_error *err)
{
    struct convert *v = r->job;
    begin_telling(r, v);
    const bool adopts = r->options.finish && !v->target.committed;
    int code = adopts ? parts_adopt(r, v, err) : SL_OK;
    if (!code && (!r->options.finish || r->options.check_parts))
        code = write_and_verify(r, v, err);
    code = outfiles_close(v, code, err);
    cache_end(v);
    if (!code)
        code = finish(r, v, err);

    const bool keep = atomic_load(&v->written) > 0 || v->target.resumed;
    if (code && keep && !v->target.committed) {
        sl_journal_sync(&v->target.journal, NULL);
        add_advice(r, v, code, err);
    }
    sl_tell_end(&v->tell, code && keep, code, err);
    sl_target_close(&v->target, keep);
    v->opened = false;
    if (!code)
        sl_run_all_done(r, v->p->write_bytes, v->p->target_count);
    sl_run_sum_up(r, v->p->target_count, v->p->write_bytes);
    return code;
}

static void release(struct sl_run *r)
{
    struct convert *v = r->job;
    if (v->opened)    /* never started */
        sl_target_close(&v->target, v->target.resumed);
    for (size_t i = 0; v->shared && i < v->p->target_count; i++)
        if (v->shared[i])
            XXH3_freeState(v->shared[i]->hash);
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

/* The place of the whole, of a part, or of all parts together. */
static int open_place(struct sl_run *r, struct convert *v, const char *dst, struct sl_error *err)
{
    const struct sl_run_options *o = &r->options;
    if (o->finish)
        return parts_open(r, v, dst, err);
    if (!o->parts)
        return sl_target_open(&v->target, v->p, dst, o->force, o->resume, &r->arena, err);
    struct sl_target whole = { .arena = &r->arena };
    bool done = false;
    int code = sl_target_names(&whole, dst, err);
    if (code)
        return code;
    if (sl_path_exists(whole.path) && !o->force)
        return sl_fail(err, SL_WRITE, whole.path, "exists already; choose another target, or say --force for all parts and --finish");
    const char *folder = part_folder(&r->arena, whole.path, o->part, o->parts);
    code = folder ? part_is_done(r, v, folder, &done) : sl_fail_memory(err, 64);
    v->target.journal.fd = -1;
    return code || done ? code : sl_target_open(&v->target, v->p, folder, o->force, true, &r->arena, err);
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
        if ((p->files[i].torch || p->items) && !(v->crc = SL_ARENA_NEW(&r->arena, uint32_t, p->target_count)))
            code = sl_fail_memory(err, p->target_count * sizeof *v->crc);
    if (!code)
        code = sl_run_buffers(r, largest, err);
    if (!code)
        code = open_place(r, v, dst, err);
    const bool done = r->body != convert;    /* a part, by an earlier run */
    v->opened = !code && !done;
    if (!code && !done)
        code = report_prepare(r, v, err);
    if (!code && !done)
        code = outfiles_name(r, v, err);
    if (!code && !done)
        code = units_make(r, v, err);
    if (!code)
        code = sl_run_start(r, err);
    if (code) {
        sl_run_free(r);
        return code;
    }
    *out = r;
    return SL_OK;
}
