/* job.c: threads, progress, pause, cancel, results. */
#include "run/job.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/io.h"
#include "base/num.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

/* ---- making ---- */

int sl_run_new(const struct sl_run_options *options, size_t count, struct sl_run **out,
               struct sl_error *err)
{
    struct sl_run *r = calloc(1, sizeof *r);
    if (!r)
        return sl_fail_memory(err, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    r->started_ns = sl_now_ns();
    if (options)
        r->options = *options;
    if (r->options.memory == 0)
        r->options.memory = SL_MEMORY_USUAL;
    r->threads = r->options.threads ? r->options.threads : sl_processors();
    r->threads = (unsigned)sl_min_u64(r->threads, SL_MAX_WORKERS);
    r->result_count = count;
    r->results = sl_arena_new(&r->arena, count, sizeof *r->results);
    struct sl_result *pending = SL_ARENA_NEW(&r->arena, struct sl_result, count);
    r->workers = SL_ARENA_NEW(&r->arena, struct sl_worker, SL_MAX_WORKERS);
    if (r->options.report)
        r->options.report = sl_arena_str(&r->arena, r->options.report);
    if (!r->results || !pending || !r->workers || (options && options->report && !r->options.report)) {
        sl_run_free(r);
        return sl_fail_memory(err, count * sizeof *pending);
    }
    for (size_t i = 0; i < count; i++) {
        pending[i].first_different = UINT64_MAX;
        atomic_init(&r->results[i], &pending[i]);
    }
    for (unsigned k = 0; k < SL_MAX_WORKERS; k++)
        atomic_init(&r->workers[k].name, "");
    atomic_init(&r->wanted, r->threads);
    r->ready = r->threads;
    *out = r;
    return SL_OK;
}

void sl_run_result_init(struct sl_run *r, size_t index, const struct sl_result *result)
{
    struct sl_result *pending = (struct sl_result *)(uintptr_t)atomic_load(&r->results[index]);
    *pending = *result;
    pending->first_different = UINT64_MAX;
}

/* Bytes of one buffer, and how many workers get two of that size. */
static int divide_budget(struct sl_run *r, uint64_t largest, size_t *len, struct sl_error *err)
{
    const uint64_t pair = 2 * SL_BUFFER_LEAST, memory = r->options.memory;
    if (r->options.threads == 0 && memory / r->threads < pair)
        r->threads = (unsigned)sl_max_u64(1, memory / pair);
    if (memory / r->threads < pair)
        return sl_fail(err, SL_MEMORY, "--memory",
                       "%" PRIu64 " bytes are too little for %u workers: they need %" PRIu64
                       "; give more memory or fewer threads", memory, r->threads, r->threads * pair);
    uint64_t one = sl_min_u64(memory / r->threads / 2, SL_BUFFER_MOST);
    one = sl_min_u64(one, sl_max_u64(largest, SL_BUFFER_LEAST) + 4095);
    *len = (size_t)one & ~(size_t)4095;
    return SL_OK;
}

static bool give_buffers(struct sl_worker *w, unsigned char *pair, size_t len)
{
    w->hash = XXH3_createState();
    if (!w->hash)
        return false;
    w->buffer = pair;
    w->scratch = pair + len;
    w->buffer_len = len;
    return true;
}

int sl_run_buffers(struct sl_run *r, uint64_t largest, struct sl_error *err)
{
    size_t len = 0;
    int code = divide_budget(r, largest, &len, err);
    if (code)
        return code;

    /* all of it is there from the start: no bets on memory that may not come */
    r->pool_len = 2 * len * r->threads;
    void *pool = mmap(NULL, r->pool_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (pool == MAP_FAILED) {
        r->pool_len = 0;
        return sl_fail_memory(err, 2 * len * r->threads);
    }
    r->pool = pool;
    r->buffer_len = len;
    r->ready = r->threads;
    atomic_store(&r->wanted, r->threads);
    for (unsigned k = 0; k < r->threads; k++)
        if (!give_buffers(&r->workers[k], r->pool + 2 * k * len, len))
            return sl_fail_memory(err, sizeof(XXH64_hash_t) * 64);
    return SL_OK;
}

/* One worker more, with buffers of its own. The lock is held. */
static bool add_worker(struct sl_run *r)
{
    struct sl_worker *w = &r->workers[r->ready];
    if (!r->buffer_len || r->ready == SL_MAX_WORKERS || r->options.memory / (2 * r->buffer_len) <= r->ready)
        return false;
    void *own = mmap(NULL, 2 * r->buffer_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (own == MAP_FAILED)
        return false;
    if (!give_buffers(w, own, r->buffer_len)) {
        munmap(own, 2 * r->buffer_len);
        return false;
    }
    w->own = true;
    r->ready++;
    return true;
}

/* ---- the control thread ---- */

static void *control(void *arg)
{
    struct sl_run *r = arg;
    struct sl_error err = { .code = SL_OK };
    const int code = r->body(r, &err);
    atomic_store(&r->ended_ns, sl_now_ns());

    pthread_mutex_lock(&r->lock);
    r->code = code;
    r->err = err;
    atomic_store(&r->phase, SL_PHASE_DONE);
    atomic_store(&r->finished, true);
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

int sl_run_start(struct sl_run *r, struct sl_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&r->thread, NULL, control, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        errno = failed;
        return sl_fail_errno(err, SL_MEMORY, "", "a thread can't be started");
    }
    r->started = true;
    return SL_OK;
}

void sl_run_cancel(struct sl_run *r, int code)
{
    pthread_mutex_lock(&r->lock);
    int none = 0;
    atomic_compare_exchange_strong(&r->cancel, &none, code ? code : SL_INTERRUPTED);
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

void sl_run_pause(struct sl_run *r, bool pause)
{
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->paused, pause);
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

void sl_run_drain(struct sl_run *r, bool drain)
{
    atomic_store(&r->draining, drain);
}

bool sl_run_finished(const struct sl_run *r)
{
    return atomic_load(&r->finished);
}

int sl_run_wait(struct sl_run *r, struct sl_error *err)
{
    pthread_mutex_lock(&r->lock);
    while (!atomic_load(&r->finished))
        pthread_cond_wait(&r->changed, &r->lock);
    if (err && r->code)
        *err = r->err;
    const int code = r->code;
    pthread_mutex_unlock(&r->lock);
    return code;
}

void sl_run_free(struct sl_run *r)
{
    if (!r)
        return;
    if (r->started) {
        sl_run_cancel(r, SL_INTERRUPTED);
        pthread_join(r->thread, NULL);
    }
    if (r->release)
        r->release(r);
    for (unsigned k = 0; r->workers && k < SL_MAX_WORKERS; k++) {
        XXH3_freeState(r->workers[k].hash);
        if (r->workers[k].own)
            munmap(r->workers[k].buffer, 2 * r->workers[k].buffer_len);
        sl_arena_free(&r->workers[k].arena);
    }
    if (r->pool)
        munmap(r->pool, r->pool_len);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    sl_arena_free(&r->arena);
    free(r);
}

/* ---- for the body and its workers ---- */

int sl_run_step(struct sl_run *r, struct sl_error *err)
{
    if (atomic_load_explicit(&r->paused, memory_order_relaxed)) {
        pthread_mutex_lock(&r->lock);
        while (atomic_load(&r->paused) && !atomic_load(&r->cancel) && !atomic_load(&r->failed))
            pthread_cond_wait(&r->changed, &r->lock);
        pthread_mutex_unlock(&r->lock);
    }
    const int cancel = atomic_load_explicit(&r->cancel, memory_order_relaxed);
    if (cancel)
        return sl_fail(err, cancel, "", "stopped on request");
    return atomic_load_explicit(&r->failed, memory_order_relaxed);
}

/* ---- the crew: workers that take numbers until there are no more ---- */

struct sl_crew {
    struct sl_run *run;
    sl_run_work *work;
    uint64_t count;
    atomic_uint_least64_t next;          /* the next number nobody has taken */
    atomic_int result;                   /* the first code that is not 0; ends it */
    /* guarded by the run's lock: */
    unsigned made;                       /* workers in it, the control thread being the first */
    bool over;                           /* one found nothing more to take: who waits may leave */
    struct hand { struct sl_crew *crew; unsigned worker; pthread_t thread; } hands[SL_MAX_WORKERS];
};

static int work_and_keep_error(struct sl_crew *crew, unsigned worker, uint64_t i)
{
    struct sl_run *r = crew->run;
    struct sl_error err = { .code = SL_OK };
    const bool draining = atomic_load(&r->draining);
    if (!(r->goes_on && r->goes_on(r, i, draining)) && draining && !atomic_load(&r->cancel))
        return SL_INTERRUPTED;           /* the others end what they are at */
    const struct sl_io_count before = sl_io_counted();
    int code = sl_run_step(r, &err);
    if (!code)
        code = crew->work(r, &r->workers[worker], i, &err);
    const struct sl_io_count after = sl_io_counted();
    atomic_fetch_add(&r->reads, after.reads - before.reads);
    atomic_fetch_add(&r->writes, after.writes - before.writes);
    if (code) {
        pthread_mutex_lock(&r->lock);
        if (!atomic_load(&r->failed)) {
            r->first_error = err;
            atomic_store(&r->failed, code);
        }
        pthread_cond_broadcast(&r->changed);
        pthread_mutex_unlock(&r->lock);
    }
    return code;
}

/* May this worker take another number? One that is too many waits until it is wanted again. */
static bool may_take(struct sl_crew *crew, unsigned worker)
{
    struct sl_run *r = crew->run;
    if (atomic_load(&crew->result))
        return false;
    if (worker < atomic_load(&r->wanted))
        return true;
    pthread_mutex_lock(&r->lock);
    while (worker >= atomic_load(&r->wanted) && !crew->over)
        pthread_cond_wait(&r->changed, &r->lock);
    const bool over = crew->over;
    pthread_mutex_unlock(&r->lock);
    return !over;
}

static void take_numbers(struct sl_crew *crew, unsigned worker)
{
    struct sl_run *r = crew->run;
    while (may_take(crew, worker)) {
        const uint64_t i = atomic_fetch_add(&crew->next, 1);
        if (i >= crew->count)
            break;
        const int code = work_and_keep_error(crew, worker, i);
        int none = 0;
        if (code)
            atomic_compare_exchange_strong(&crew->result, &none, code);
    }
    pthread_mutex_lock(&r->lock);
    crew->over = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void *hand_main(void *arg)
{
    const struct hand *hand = arg;
    take_numbers(hand->crew, hand->worker);
    return NULL;
}

/* Threads for the workers that are wanted, as far as there is work and threads can be had.
 * The lock is held. All signals stay with the program. */
static void crew_grow(struct sl_crew *crew)
{
    struct sl_run *r = crew->run;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (crew->made < atomic_load(&r->wanted) && crew->made < r->ready && crew->made < crew->count && !crew->over) {
        struct hand *hand = &crew->hands[crew->made];
        *hand = (struct hand){ .crew = crew, .worker = crew->made };
        if (pthread_create(&hand->thread, NULL, hand_main, hand))
            break;
        crew->made++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

unsigned sl_run_workers(struct sl_run *r, unsigned count)
{
    pthread_mutex_lock(&r->lock);
    count = count < 1 ? 1 : count > SL_MAX_WORKERS ? SL_MAX_WORKERS : count;
    while (r->ready < count && add_worker(r))
        ;
    count = count < r->ready ? count : r->ready;
    atomic_store(&r->wanted, count);
    if (r->crew)
        crew_grow(r->crew);
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return count;
}

/* The control thread works too; it is never too many. */
static int crew_work(struct sl_run *r, uint64_t count, sl_run_work *work)
{
    struct sl_crew crew = { .run = r, .work = work, .count = count, .made = 1 };
    pthread_mutex_lock(&r->lock);
    r->crew = &crew;
    crew_grow(&crew);
    pthread_mutex_unlock(&r->lock);
    take_numbers(&crew, 0);
    pthread_mutex_lock(&r->lock);
    r->crew = NULL;                      /* it grows no more */
    pthread_mutex_unlock(&r->lock);
    for (unsigned k = 1; k < crew.made; k++)
        pthread_join(crew.hands[k].thread, NULL);
    return atomic_load(&crew.result);
}

int sl_run_each(struct sl_run *r, uint64_t count, sl_run_work *work, struct sl_error *err)
{
    const int code = crew_work(r, count, work);
    if (code && !atomic_load(&r->failed)) {
        sl_run_cancel(r, code);
        return sl_fail(err, code, "", "stopped on request");
    }
    if (code) {
        pthread_mutex_lock(&r->lock);
        if (err)
            *err = r->first_error;
        pthread_mutex_unlock(&r->lock);
    }
    return atomic_load(&r->failed);
}

int sl_run_publish(struct sl_run *r, struct sl_worker *w, size_t index, const struct sl_result *result,
                   struct sl_error *err)
{
    const struct sl_result *copy = sl_arena_copy(&w->arena, result, sizeof *result);
    if (!copy)
        return sl_fail_memory(err, sizeof *result);
    atomic_store(&r->results[index], copy);
    atomic_store(&r->recent[atomic_fetch_add(&r->recent_count, 1) % SL_RECENT], index);
    return SL_OK;
}

#define DIGEST_BLOCK ((size_t)128 << 10)    /* fits the second cache, read twice there */

void sl_worker_digest(struct sl_worker *w, struct sl_accumulator *s, enum sl_dtype dtype,
                      const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    const size_t size = sl_dtype_size(dtype);
    for (size_t done = 0; done < len; done += DIGEST_BLOCK) {
        const size_t n = len - done < DIGEST_BLOCK ? len - done : DIGEST_BLOCK;
        XXH3_64bits_update(w->hash, p + done, n);
        if (s && size)
            sl_stats_add(s, dtype, p + done, n / size);
    }
}

/* ---- progress ---- */

static void turn_begin(atomic_uint *turn) { atomic_fetch_add(turn, 1); }
static void turn_end(atomic_uint *turn) { atomic_fetch_add(turn, 1); }

void sl_run_phase(struct sl_run *r, enum sl_phase phase, uint64_t bytes, uint64_t tensors)
{
    turn_begin(&r->turn);
    atomic_store(&r->phase, (int)phase);
    atomic_store(&r->bytes_done, 0);
    atomic_store(&r->bytes_total, bytes);
    atomic_store(&r->tensors_done, 0);
    atomic_store(&r->tensors_total, tensors);
    turn_end(&r->turn);
}

void sl_run_all_done(struct sl_run *r, uint64_t bytes, uint64_t tensors)
{
    turn_begin(&r->turn);
    atomic_store(&r->bytes_total, bytes);
    atomic_store(&r->bytes_done, bytes);
    atomic_store(&r->tensors_total, tensors);
    atomic_store(&r->tensors_done, tensors);
    turn_end(&r->turn);
}

void sl_worker_begin(struct sl_worker *w, enum sl_phase phase, const char *name, uint64_t total)
{
    turn_begin(&w->turn);
    atomic_store(&w->phase, (int)phase);
    atomic_store(&w->name, name);
    atomic_store(&w->done, 0);
    atomic_store(&w->total, total);
    turn_end(&w->turn);
    sl_worker_turns_to(w, *name ? SL_DOING_WORK : SL_DOING_NOTHING);
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;
    return clock_gettime(id, &t) ? 0 : (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void sl_worker_turns_to(struct sl_worker *w, enum sl_doing doing)
{
    const enum sl_doing was = (enum sl_doing)atomic_load_explicit(&w->doing, memory_order_relaxed);
    const uint64_t wall = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    if (was != SL_DOING_NOTHING && cpu >= w->since_cpu && wall >= w->since_wall) {
        const uint64_t worked = cpu - w->since_cpu, passed = wall - w->since_wall, waited = passed > worked ? passed - worked : 0;
        atomic_fetch_add_explicit(&w->working, worked, memory_order_relaxed);
        if (was == SL_DOING_READ)
            atomic_fetch_add_explicit(&w->read_wait, waited, memory_order_relaxed);
        if (was == SL_DOING_WRITE)
            atomic_fetch_add_explicit(&w->write_wait, waited, memory_order_relaxed);
    }
    w->since_wall = wall;
    w->since_cpu = cpu;
    atomic_store_explicit(&w->doing, (int)doing, memory_order_relaxed);
}

void sl_worker_moved(struct sl_run *r, struct sl_worker *w, uint64_t bytes)
{
    atomic_fetch_add(&w->done, bytes);
    atomic_fetch_add(&w->moved, bytes);
    atomic_fetch_add(&r->bytes_done, bytes);
    atomic_fetch_add(&r->all_done, bytes);
}

void sl_worker_rest(struct sl_worker *w)
{
    sl_worker_begin(w, (enum sl_phase)atomic_load(&w->phase), "", 0);
}

void sl_worker_end(struct sl_run *r, struct sl_worker *w)
{
    atomic_fetch_add(&r->tensors_done, 1);
    sl_worker_rest(w);
}

static void read_line(struct sl_worker *w, struct sl_worker_progress *out)
{
    unsigned before;
    const char *name;
    do {
        before = atomic_load(&w->turn);
        name = atomic_load(&w->name);
        out->done = atomic_load(&w->done);
        out->total = atomic_load(&w->total);
        out->phase = (enum sl_phase)atomic_load(&w->phase);
    } while (before % 2 || atomic_load(&w->turn) != before);
    out->moved = atomic_load(&w->moved);
    out->doing = (enum sl_doing)atomic_load(&w->doing);
    sl_text_printable(name, strlen(name), out->tensor, sizeof out->tensor);
}

void sl_run_progress(const struct sl_run *run, struct sl_progress *out)
{
    struct sl_run *r = (struct sl_run *)(uintptr_t)run;    /* loads of atomics take no const */
    memset(out, 0, sizeof *out);
    unsigned before;
    do {
        before = atomic_load(&r->turn);
        out->phase = (enum sl_phase)atomic_load(&r->phase);
        out->bytes_done = atomic_load(&r->bytes_done);
        out->bytes_total = atomic_load(&r->bytes_total);
        out->tensors_done = atomic_load(&r->tensors_done);
        out->tensors_total = atomic_load(&r->tensors_total);
    } while (before % 2 || atomic_load(&r->turn) != before);
    out->paused = atomic_load(&r->paused);
    out->draining = atomic_load(&r->draining);
    out->all_done = atomic_load(&r->all_done);
    out->all_total = atomic_load(&r->all_total);
    if (!out->all_total) {               /* one phase is all there is */
        out->all_done = out->bytes_done;
        out->all_total = out->bytes_total;
    }
    out->finished = atomic_load(&r->finished);
    out->verified = atomic_load(&r->verified);
    out->mismatched = atomic_load(&r->mismatched);
    out->read_bytes = atomic_load(&r->read_bytes);
    out->written_bytes = atomic_load(&r->written_bytes);
    const uint64_t ended = atomic_load(&r->ended_ns);
    out->seconds = (double)((ended ? ended : sl_now_ns()) - r->started_ns) / 1e9;
    out->workers = atomic_load(&r->wanted);
    for (unsigned k = 0; k < SL_MAX_WORKERS; k++) {
        read_line(&r->workers[k], &out->worker[k]);
        if (out->worker[k].tensor[0] && out->workers <= k)
            out->workers = k + 1;        /* one too many ends what it is at */
        out->read_wait += (double)atomic_load(&r->workers[k].read_wait) / 1e9;
        out->write_wait += (double)atomic_load(&r->workers[k].write_wait) / 1e9;
        out->working += (double)atomic_load(&r->workers[k].working) / 1e9;
    }
}

/* ---- results ---- */

size_t sl_run_result_count(const struct sl_run *r)
{
    return r->result_count;
}

const struct sl_result *sl_run_result_at(const struct sl_run *run, size_t index)
{
    struct sl_run *r = (struct sl_run *)(uintptr_t)run;
    return index < r->result_count ? atomic_load(&r->results[index]) : NULL;
}

void sl_run_sum_up(struct sl_run *r, uint64_t tensors, uint64_t bytes)
{
    struct rusage usage;
    r->summary.tensors = tensors;
    r->summary.bytes = bytes;
    r->summary.read_bytes = atomic_load(&r->read_bytes);
    r->summary.written_bytes = atomic_load(&r->written_bytes);
    r->summary.reads = atomic_load(&r->reads);
    r->summary.writes = atomic_load(&r->writes);
    r->summary.seconds = (double)(sl_now_ns() - r->started_ns) / 1e9;
    r->summary.bytes_per_second = r->summary.seconds > 0 ? (double)bytes / r->summary.seconds : 0;
    if (getrusage(RUSAGE_SELF, &usage) == 0)    /* Linux counts in KiB */
        r->summary.peak_memory_bytes = (uint64_t)usage.ru_maxrss * 1024;
}

const struct sl_summary *sl_run_summary(const struct sl_run *r)
{
    return &r->summary;
}

const struct sl_check_result *sl_run_check_result(const struct sl_run *r)
{
    return &r->check;
}

int sl_run_report(const struct sl_run *r, struct sl_buf *out)
{
    return r->report ? r->report(r, out) : SL_UNSUPPORTED;
}
