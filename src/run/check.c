/* check.c: every weight read once, and what there is to know of it kept: its
 * statistics, its hash, the checksum of its record; then copies of one weight on
 * different ranks compared. What is wrong with it is said in judge.h.
 *
 * Nothing reads as sound that was not read: the verdict says how much was.
 */
#include "layout/place.h"
#include "run/compare.h"
#include "run/integrity.h"
#include "run/judge.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"

#include <libdeflate.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BAD_ITEMS 50                     /* one broken file may hold thousands */
#define DRIFT 1e-2                       /* replicas further apart than this are of different saves */

struct check {
    struct judge judge;
    struct sl_ckpt *c;
    const struct sl_layout *layout;      /* NULL: no family */
    struct sl_problems *problems;
    bool deep;
    uint32_t *tensors; size_t tensor_count;      /* weights with data */
    struct replica *replicas; size_t replica_count;
    struct apart *apart;                         /* by rank, the last of what has none; guarded by the judge's lock */
    atomic_uint_least64_t compared, different, checked;
    atomic_uint_least64_t bad_items;             /* told up to BAD_ITEMS */
};
/* Copies on one rank that differ from those that a conversion takes. */
struct apart { size_t count; uint32_t first, other; struct sl_sums sums; double worst; };
/* Two slices of one param that hold the same box. */
struct replica { uint32_t first, other; };

/* A tensor as it is read: 8-bit floats with factors of blocks as the products. */
static const struct sl_tensor *tensor_of(const struct check *v, uint32_t tensor)
{
    return v->layout ? &v->layout->tensors[tensor] : &v->c->tensors[tensor];
}

/* ---- one tensor --------------------------------------------------------------------- */

/* Does the tensor fill its storage, so that the bytes read are what the CRC is of? */
static bool fills_storage(const struct sl_tensor *t)
{
    return !(t->flags & (SL_TENSOR_STRIDED | SL_TENSOR_BIG_ENDIAN | SL_TENSOR_DEFLATED)) && t->bytes == t->storage_bytes &&
           t->offset == t->storage_begin;
}

static int storage_crc(struct sl_run *r, struct sl_worker *w, const struct sl_tensor *t, uint32_t *crc, struct sl_error *err)
{
    const struct check *v = r->job;
    const int64_t before = (int64_t)t->offset - (int64_t)t->storage_begin;
    *crc = 0;
    for (uint64_t at = 0; at < t->storage_bytes;) {
        const size_t n = (size_t)sl_min_u64(w->buffer_len, t->storage_bytes - at);
        int code = sl_run_step(r, err);
        if (!code)
            code = sl_ckpt_read(v->c, t, (int64_t)at - before, w->buffer, n, err);
        if (code)
            return code;
        *crc = libdeflate_crc32(*crc, w->buffer, n);
        at += n;
    }
    return SL_OK;
}

/* The first tensor of a storage looks after its CRC when none fills it. */
static bool keeps_crc(const struct check *v, uint32_t tensor)
{
    const struct sl_tensor *t = &v->c->tensors[tensor];
    for (uint32_t i = tensor; i-- > 0 && v->c->tensors[i].file == t->file;)
        if (v->c->tensors[i].storage == t->storage)
            return false;
    return true;
}

static int read_tensor(struct sl_run *r, struct sl_worker *w, const struct sl_tensor *whole, struct reading *reading, uint32_t *crc,
                       struct sl_error *err)
{
    const struct check *v = r->job;
    const size_t size = sl_dtype_size(whole->dtype);
    struct sl_tensor once;
    int64_t shape, stride;
    const struct sl_tensor *t = whole;
    if (sl_ckpt_repeats(whole)) {
        sl_ckpt_once(whole, &once, &shape, &stride);
        t = &once;
    }
    struct sl_accumulator stats;
    sl_stats_begin(&stats);
    XXH3_64bits_reset(w->hash);
    reading->bf16 = t->dtype == SL_F32 && !(t->flags & SL_TENSOR_SCALED);
    *crc = 0;
    for (uint64_t at = 0; at < t->count;) {
        const uint64_t n = sl_min_u64(w->buffer_len / size, t->count - at);
        int code = sl_run_step(r, err);
        if (!code)
            code = sl_ckpt_read_elements(v->c, t, at, n, w->buffer, err);
        if (code)
            return code;
        sl_worker_digest(w, &stats, t->dtype, w->buffer, (size_t)n * size);
        reading->bf16 = reading->bf16 && judge_is_bf16(w->buffer, (size_t)n);
        *crc = libdeflate_crc32(*crc, w->buffer, (size_t)n * size);
        atomic_fetch_add(&r->read_bytes, n * size);
        sl_worker_moved(r, w, n * size);
        at += n;
    }
    sl_stats_end(&stats, &reading->stats);
    reading->hash = XXH3_64bits_digest(w->hash);
    reading->whole = true;
    return SL_OK;
}

static void tell_crc(struct check *v, const struct sl_tensor *t, uint32_t crc, uint32_t kept)
{
    const struct finding f = { .code = "crc", .t = t };
    judge_tell(&v->judge, &f, "the CRC-32 of its record is %08x, the file says %08x: its bytes were changed after they were written", crc,
               kept);
}

static int check_crc(struct sl_run *r, struct sl_worker *w, uint32_t tensor, uint32_t crc, struct sl_error *err)
{
    struct check *v = r->job;
    const struct sl_tensor *t = &v->c->tensors[tensor];
    uint32_t kept;
    if (!sl_ckpt_storage_crc(v->c, t, &kept) || (t->flags & (SL_TENSOR_DEFLATED | SL_TENSOR_BIG_ENDIAN)))
        return SL_OK;
    if (!fills_storage(t)) {
        if (!keeps_crc(v, tensor))
            return SL_OK;
        const int code = storage_crc(r, w, t, &crc, err);
        if (code)
            return code;
    }
    if (crc != kept)
        tell_crc(v, t, crc, kept);
    return SL_OK;
}

static void tell_unreadable(struct check *v, const struct sl_tensor *t, const char *why)
{
    const struct finding f = {
        .code = "unreadable-tensor", .t = t,
        .more = { .expected = "bytes for all of its elements", .cause = "the file was cut, replaced or removed, or the disk fails",
                  .damage = "this tensor can't be converted", .next = "Copy the file again from its source." } };
    judge_tell(&v->judge, &f, "%s", why);
}

/* A tensor that can't be read is a finding; only a request to stop ends the check. */
static int check_tensor(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct check *v = r->job;
    const uint32_t tensor = v->tensors[i];
    const struct sl_tensor *t = tensor_of(v, tensor);
    uint32_t crc;
    sl_worker_begin(w, SL_PHASE_VERIFY, t->name, sl_ckpt_repeats(t) ? t->storage_bytes : t->bytes);
    int code = read_tensor(r, w, t, &v->judge.readings[i], &crc, err);
    if (!code) {
        judge_values(&v->judge, (size_t)i);
        code = check_crc(r, w, tensor, crc, err);
        atomic_fetch_add(&v->checked, 1);
    }
    sl_worker_end(r, w);
    if (code == SL_INPUT) {
        tell_unreadable(v, t, err ? err->message : "can't be read");
        return SL_OK;
    }
    return code;
}

/* Without the values: is the item of a chunk what .metadata says? */
static int check_item(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct check *v = r->job;
    const struct sl_tensor *t = &v->c->tensors[v->tensors[i]];
    (void)w;
    int code = sl_run_step(r, err);
    if (!code)
        code = sl_ckpt_look(v->c, t, err);
    if (code != SL_INPUT)
        return code;
    if (v->c->files[t->file].size && atomic_fetch_add(&v->bad_items, 1) < BAD_ITEMS)      /* 0: told already */
        tell_unreadable(v, t, err ? err->message : "can't be read");
    return SL_OK;
}

static void tell_more_items(struct check *v)
{
    const uint64_t bad = atomic_load(&v->bad_items);
    if (bad > BAD_ITEMS)
        sl_problem_add(v->problems, "unreadable-tensor", "", NULL, "%llu more chunks can't be read", (unsigned long long)(bad - BAD_ITEMS));
}

static int check_file(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct check *v = r->job;
    return integrity_check(r, w, v->c, i, &v->judge.lock, v->problems, err);
}

static int check_padding(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct check *v = r->job;
    return judge_padding(r, w, &v->judge, (size_t)i, err);
}

/* ---- replicas --------------------------------------------------------------------------- */

static bool same_box(const struct sl_layout *l, const struct sl_slice *a, const struct sl_slice *b)
{
    const uint32_t n = l->params[a->param].ndim;
    return !sl_ckpt_repeats(&l->tensors[a->tensor]) && !sl_ckpt_repeats(&l->tensors[b->tensor]) && !memcmp(a->lo, b->lo, n * sizeof a->lo[0]) && !memcmp(a->hi, b->hi, n * sizeof a->hi[0]);
}

/* Every slice beside the first slice with the same box. Slices of one param are few but for
 * weights that every rank holds whole, and those find their first at once. */
static int replicas_make(struct sl_run *r, struct check *v, struct sl_error *err)
{
    const struct sl_layout *l = v->layout;
    v->replicas = SL_ARENA_NEW(&r->arena, struct replica, l ? l->slice_count : 0);
    v->apart = SL_ARENA_NEW(&r->arena, struct apart, v->c->rank_count + 1);
    if (!v->replicas || !v->apart)
        return sl_fail_memory(err, (l ? l->slice_count : 0) * sizeof *v->replicas);
    for (size_t p = 0; l && p < l->param_count; p++)
        for (size_t i = l->param_first[p]; i < l->param_first[p + 1]; i++)
            for (size_t k = l->param_first[p]; k < i; k++)
                if (same_box(l, &l->slices[k], &l->slices[i])) {
                    v->replicas[v->replica_count++] = (struct replica){ (uint32_t)k, (uint32_t)i };
                    break;
                }
    return SL_OK;
}

static struct sl_copy copy_of(const struct sl_layout *l, const struct sl_slice *a, const struct sl_slice *b)
{
    const struct sl_param *p = &l->params[a->param];
    struct sl_copy c = { .source = a->tensor, .target = b->tensor, .param = a->param, .ndim = p->ndim ? p->ndim : 1,
                         .source_base = a->base, .target_base = b->base, .op = sl_op_between(a->op, b->op),
                         .count = { 1 } };
    for (uint32_t k = 0; k < p->ndim; k++) {
        c.count[k] = a->hi[k] - a->lo[k];
        c.source_stride[k] = a->stride[k];
        c.target_stride[k] = b->stride[k];
    }
    return c;
}

static double distance(const struct sl_sums *s) { return s->a2 > 0 ? sqrt(s->sum2 / s->a2) : 1; }

static void tell_tie(struct check *v, const struct sl_param *p, const struct sl_tensor *a, const struct sl_tensor *b, const struct sl_sums *s)
{
    char first[512], expected[600];
    judge_place(v->c, a, first, sizeof first);
    snprintf(expected, sizeof expected, "the same bytes as %s: both hold the same part of %s", first, p->name);
    const struct finding f = {
        .code = "tie-differs", .t = b,
        .more = { .expected = expected, .damage = "a conversion takes the first and leaves this one out" } };
    judge_tell(&v->judge, &f, "%llu of %llu values of %s differ from %s, by at most %g", (unsigned long long)s->different,
               (unsigned long long)s->count, p->name, first, s->max);
}

/* One finding a rank: files of two saves differ in every norm there is. What is told to be of another save is no news. */
static void tell_apart(struct check *v, const struct apart *x)
{
    const struct sl_slice *a = &v->layout->slices[x->first], *b = &v->layout->slices[x->other];
    const struct sl_tensor *ta = &v->layout->tensors[a->tensor], *tb = &v->layout->tensors[b->tensor];
    const struct sl_param *p = &v->layout->params[a->param];
    const bool drift = x->worst <= DRIFT;
    char first[512], expected[600], more[80] = "";
    if ((tb->rank >= 0 && sl_ckpt_is_foreign(v->c, &v->c->ranks[tb->rank])) || (ta->rank >= 0 && sl_ckpt_is_foreign(v->c, &v->c->ranks[ta->rank])))
        return;
    judge_place(v->c, ta, first, sizeof first);
    snprintf(expected, sizeof expected, "the same bytes as %s: both hold the same part of %s", first, p->name);
    if (x->count > 1)
        snprintf(more, sizeof more, "; so it is in %zu more tensors of this rank", x->count - 1);
    const struct finding f = {
        .code = "replica-differs", .t = tb, .severity = drift ? AS_WARNING : AS_ERROR,
        .more = { .expected = expected,
                  .cause = drift ? "ranks drifted apart in training: gradients of it were not summed over all ranks"
                                 : "the rank is of another save, or its bytes are damaged",
                  .damage = "a conversion takes the first and leaves this one out",
                  .next = drift ? "Nothing, if the drift is known; look at both: {show}"
                                : "If the rank is of another save, take all files of one save; look at both: {show}" } };
    judge_tell(&v->judge, &f, "%llu of %llu values of %s differ from %s, by at most %g%s", (unsigned long long)x->sums.different,
               (unsigned long long)x->sums.count, p->name, first, x->sums.max, more);
}

static void judge_replica(struct check *v, const struct replica *r, const struct sl_sums *s)
{
    const struct sl_layout *l = v->layout;
    const struct sl_slice *a = &l->slices[r->first], *b = &l->slices[r->other];
    const struct sl_tensor *ta = &l->tensors[a->tensor], *tb = &l->tensors[b->tensor];
    if (strcmp(ta->name, tb->name)) {
        tell_tie(v, &l->params[a->param], ta, tb, s);
        return;
    }
    struct apart *x = &v->apart[tb->rank >= 0 ? (size_t)tb->rank : v->c->rank_count];
    pthread_mutex_lock(&v->judge.lock);
    if (!x->count || b->tensor < l->slices[x->other].tensor) {
        x->first = r->first;
        x->other = r->other;
        x->sums = *s;
    }
    x->count++;
    x->worst = fmax(x->worst, distance(s));
    pthread_mutex_unlock(&v->judge.lock);
}

static int check_replica(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err)
{
    struct check *v = r->job;
    const struct sl_layout *l = v->layout;
    const struct sl_slice *a = &l->slices[v->replicas[i].first], *b = &l->slices[v->replicas[i].other];
    const struct sl_tensor *ta = &l->tensors[a->tensor], *tb = &l->tensors[b->tensor];
    const struct sl_copy copy = copy_of(l, a, b);
    const struct sl_pair pair = { v->c, v->c, ta, tb, true };
    struct sl_sums s = { .first = UINT64_MAX };
    sl_worker_begin(w, SL_PHASE_VERIFY, tb->name, tb->bytes);
    const int code = sl_compare_copy(r, w, &pair, &copy, &s, err);
    sl_worker_end(r, w);
    if (code)
        return code == SL_INPUT ? SL_OK : code;      /* told when it was read on its own */
    atomic_fetch_add(&v->compared, 1);
    if (s.different) {
        atomic_fetch_add(&v->different, 1);
        judge_replica(v, &v->replicas[i], &s);
    }
    return SL_OK;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static bool is_weight(const struct sl_tensor *t)
{
    return !(t->flags & (SL_TENSOR_EXTRA | SL_TENSOR_OPTIMIZER | SL_TENSOR_NO_DATA)) && sl_dtype_size(t->dtype) && t->count;
}

static size_t count_severity(const struct sl_problems *p, enum sl_severity s)
{
    size_t n = 0;
    for (size_t i = 0; i < p->count; i++)
        n += p->items[i].severity == s;
    return n;
}

static const char *verdict_text(struct sl_run *r, const struct check *v)
{
    const struct sl_check_result *c = &r->check;
    const size_t errors = count_severity(v->problems, SL_ERROR), warnings = count_severity(v->problems, SL_WARNING);
    const bool all = v->deep && c->tensors_checked == c->tensors_total && c->files_checked == c->files_total;
    const char *word = errors ? "! NOT SOUND" : warnings ? "~ usable, with warnings" : all ? "= sound" : "= headers agree";
    char values[64] = "values not read (--deep reads them)";
    if (v->deep)
        snprintf(values, sizeof values, "values %llu of %llu tensors", (unsigned long long)atomic_load(&v->checked),
                 (unsigned long long)v->tensor_count);
    return sl_arena_printf(&r->arena, "%s: %zu error%s, %zu warning%s; headers %llu of %llu files, %s", word, errors,
                           errors == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s", (unsigned long long)c->files_checked,
                           (unsigned long long)c->files_total, values);
}

/* Files of ranks that are there and could be read, of all that should be there. */
static void count_files(struct sl_run *r, const struct check *v)
{
    struct sl_check_result *c = &r->check;
    if (!v->c->rank_count) {
        c->files_total = v->c->file_count;
        for (size_t i = 0; i < v->c->file_count; i++)
            c->files_checked += v->c->files[i].size > 0;      /* 0: it could not be opened */
        return;
    }
    c->files_total = v->c->rank_count;
    for (size_t i = 0; i < v->c->rank_count; i++)
        c->files_checked += v->c->ranks[i].status == SL_RANK_OK || v->c->ranks[i].status == SL_RANK_ODD;
}

static int finish(struct sl_run *r, struct check *v, struct sl_error *err)
{
    struct sl_check_result *c = &r->check;
    count_files(r, v);
    c->ranks_placed = v->c->ranks_placed;
    c->ranks_misplaced = v->c->ranks_misplaced;
    c->ranks_total = v->c->ranks_asked;
    c->tensors_total = v->c->tensor_count;
    c->tensors_checked = v->c->tensor_count;
    c->replicas_compared = atomic_load(&v->compared);
    c->replicas_different = atomic_load(&v->different);
    sl_problems_place(v->problems, v->c, v->layout);
    sl_problems_sort(v->problems);
    c->problems = v->problems->items;
    c->problem_count = v->problems->count;
    c->verdict = verdict_text(r, v);
    return c->verdict && !v->problems->arena->starved ? SL_OK : sl_fail_memory(err, 256);
}

/* What the workers will report as moved. */
static uint64_t replica_bytes(const struct check *v)
{
    uint64_t bytes = 0, count;
    for (size_t i = 0; i < v->replica_count; i++) {
        const struct sl_slice *a = &v->layout->slices[v->replicas[i].first], *b = &v->layout->slices[v->replicas[i].other];
        const struct sl_copy copy = copy_of(v->layout, a, b);
        if (sl_shape_count(copy.count, copy.ndim, &count))
            bytes += count * sl_dtype_size(v->layout->tensors[b->tensor].dtype);
    }
    return bytes;
}

static int read_all(struct sl_run *r, struct check *v, struct sl_error *err)
{
    int code = sl_run_each(r, v->tensor_count, check_tensor, err);
    r->check.bytes_read = atomic_load(&r->read_bytes);      /* replicas read some of it again */
    if (!code && v->layout)
        code = sl_run_each(r, v->layout->padding_count, check_padding, err);
    if (code)
        return code;
    sl_run_phase(r, SL_PHASE_VERIFY, replica_bytes(v), v->replica_count);
    code = sl_run_each(r, v->replica_count, check_replica, err);
    for (size_t i = 0; !code && i <= v->c->rank_count; i++)
        if (v->apart[i].count)
            tell_apart(v, &v->apart[i]);
    return code;
}

/* What shows when all weights are known. */
static int judge_together(struct judge *j, struct sl_error *err)
{
    judge_paddings(j);
    judge_bf16(j);
    const int code = judge_outliers(j, err);
    return code ? code : judge_identical(j, err);
}

static int body(struct sl_run *r, struct sl_error *err)
{
    struct check *v = r->job;
    int code = SL_OK;
    sl_run_phase(r, SL_PHASE_VERIFY, r->check.bytes_total, v->tensor_count);
    judge_stages(&v->judge);
    judge_leftovers(&v->judge);
    if (v->deep)
        code = read_all(r, v, err);
    if (v->deep && !code)
        code = judge_together(&v->judge, err);
    if (v->deep && !code && v->c->integrity) {
        sl_run_phase(r, SL_PHASE_VERIFY, integrity_bytes(v->c), v->c->integrity->len);
        code = sl_run_each(r, v->c->integrity->len, check_file, err);
    }
    if (!v->deep)
        code = sl_run_each(r, v->tensor_count, check_item, err);
    tell_more_items(v);
    if (!code)
        judge_unchanged(&v->judge);
    sl_run_sum_up(r, v->tensor_count, r->check.bytes_total);
    return code ? code : finish(r, v, err);
}

static void release(struct sl_run *r)
{
    struct check *v = r->job;
    pthread_mutex_destroy(&v->judge.lock);
}

static int prepare(struct sl_run *r, struct check *v, uint64_t *largest, struct sl_error *err)
{
    v->tensors = SL_ARENA_NEW(&r->arena, uint32_t, v->c->tensor_count);
    if (!v->tensors)
        return sl_fail_memory(err, v->c->tensor_count * sizeof *v->tensors);
    for (uint32_t i = 0; i < v->c->tensor_count; i++) {
        const struct sl_tensor *t = &v->c->tensors[i];
        if (!is_weight(t))
            continue;
        const uint64_t bytes = sl_ckpt_repeats(t) ? t->storage_bytes : t->bytes;
        v->tensors[v->tensor_count++] = i;
        r->check.bytes_total += bytes;
        *largest = sl_max_u64(*largest, 2 * bytes);
    }
    v->judge.tensors = v->tensors;
    v->judge.count = v->tensor_count;
    const int code = v->deep ? judge_prepare(&v->judge, &r->arena, err) : SL_OK;
    return code || !v->deep ? code : replicas_make(r, v, err);
}

int sl_run_check(struct sl_ckpt *c, const struct sl_layout *layout, const struct sl_model *m, struct sl_problems *problems, bool deep,
                 const struct sl_run_options *options, struct sl_run **out, struct sl_error *err)
{
    struct sl_run *r;
    int code = sl_run_new(options, 0, &r, err);
    if (code)
        return code;
    struct check *v = SL_ARENA_NEW(&r->arena, struct check, 1);
    if (!v) {
        sl_run_free(r);
        return sl_fail_memory(err, sizeof *v);
    }
    v->c = c;
    v->layout = layout;
    v->problems = problems;
    v->deep = deep;
    v->judge = (struct judge){ .c = c, .layout = layout, .m = m, .problems = problems };
    pthread_mutex_init(&v->judge.lock, NULL);
    r->job = v;
    r->body = body;
    r->release = release;
    uint64_t largest = 0;
    code = prepare(r, v, &largest, err);
    if (!code)
        code = sl_run_buffers(r, largest, err);
    if (!code)
        code = sl_run_start(r, err);
    if (code) {
        sl_run_free(r);
        return code;
    }
    *out = r;
    return SL_OK;
}
