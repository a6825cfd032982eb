/* job.h: a piece of long work in threads of its own: workers with fixed buffers,
 * progress that anybody may read, pause, cancel, and results that appear one by
 * one.
 *
 * Threads   the control thread runs body(); it is also worker 0. Workers meet in
 *           the work counter of their crew and nowhere on the data path. Their
 *           number may change while they work: sl_run_workers. All
 *           signals are blocked in these threads, so a handler of the program
 *           runs in a thread of the program (and SIGXFSZ becomes EFBIG).
 * Results   a result is never changed: a new one takes its place, so a reader
 *           sees it whole, and pointers given out stay valid until sl_run_free.
 */
#ifndef SL_RUN_JOB_H
#define SL_RUN_JOB_H

#include "run/run.h"
#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <xxhash.h>

#define SL_BUFFER_MOST  ((size_t)1 << 20)    /* larger ones leave the second cache: twice the time
                                                on a busy machine, and no gain on an idle one */
#define SL_BUFFER_LEAST ((size_t)64 << 10)
#define SL_MEMORY_USUAL (UINT64_C(256) * 1000 * 1000)

struct sl_worker {
    unsigned char *buffer, *scratch;     /* buffer_len bytes each, aligned to pages */
    size_t buffer_len;
    bool own;                            /* its buffers are no part of the pool */
    XXH3_state_t *hash;
    struct sl_arena arena;               /* results it has published */

    /* its line of progress; written by its thread between two turns of `turn` */
    atomic_uint turn;                    /* odd while the line changes */
    _Atomic(const char *) name;          /* "" idle; borrowed for the life of the run */
    atomic_uint_least64_t done, total, moved;
    atomic_int phase;

    /* where its time goes: see sl_worker_turns_to */
    atomic_int doing;
    uint64_t since_wall, since_cpu;      /* its own: nanoseconds */
    atomic_uint_least64_t read_wait, write_wait, working;
};

#define SL_RECENT 16

struct sl_run {
    /* given before the start */
    int (*body)(struct sl_run *r, struct sl_error *err);
    void (*release)(struct sl_run *r);   /* frees `job` */
    void *job;
    struct sl_arena arena;               /* of the thread that makes the run, then of control */
    struct sl_run_options options;
    unsigned threads;                    /* workers at the beginning */
    atomic_uint wanted;                  /* workers now: the others take no more work */
    struct sl_crew *crew;                /* of the sl_run_each that is under way, NULL; guarded by lock */
    struct sl_worker *workers;           /* SL_MAX_WORKERS; the first `ready` have buffers */
    unsigned ready;                      /* guarded by lock */
    unsigned char *pool;
    size_t pool_len, buffer_len;
    _Atomic(const struct sl_result *) *results;
    size_t result_count;

    /* progress */
    atomic_uint turn;                    /* odd while the phase changes */
    atomic_int phase;
    atomic_uint_least64_t bytes_done, bytes_total, tensors_done, tensors_total;
    atomic_uint_least64_t verified, mismatched, read_bytes, written_bytes;
    atomic_uint_least64_t reads, writes; /* calls of workers, counted after each work */
    atomic_uint_least64_t all_done, all_total;   /* bytes over all phases */
    atomic_size_t recent[SL_RECENT];     /* results published last, a ring */
    atomic_size_t recent_count;
    uint64_t started_ns;
    atomic_uint_least64_t ended_ns;      /* 0 while it runs */

    /* control */
    atomic_bool paused, draining;
    atomic_int cancel;                   /* 0, or the code to stop with */
    atomic_int failed;                   /* code of the first worker that failed */
    struct sl_error first_error;         /* guarded by lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;              /* paused, cancel, failed, finished */
    atomic_bool finished;
    int code;                            /* these are valid once finished */
    struct sl_error err;
    struct sl_summary summary;
    struct sl_check_result check;
    int (*report)(const struct sl_run *r, struct sl_buf *out);
    bool (*goes_on)(struct sl_run *r, uint64_t i, bool draining);    /* a sl_run_goes_on of the current sl_run_each; NULL */

    pthread_t thread;
    bool started;
};

/* A run with `count` results, all pending: fill them in with sl_run_result_init, with the
 * status they begin with. options may be NULL; its report text is copied. */
int sl_run_new(const struct sl_run_options *options, size_t count, struct sl_run **out,
               struct sl_error *err);
void sl_run_result_init(struct sl_run *r, size_t index, const struct sl_result *result);

/* Gives each worker its buffers: two of at most SL_BUFFER_MOST bytes, and no larger than
 * `largest`, the most bytes that one of them could use. SL_MEMORY when the budget is too
 * small, with what is needed. */
int sl_run_buffers(struct sl_run *r, uint64_t largest, struct sl_error *err);

/* Starts body() in its thread. */
int sl_run_start(struct sl_run *r, struct sl_error *err);

/* For body() and its workers. */
void sl_run_phase(struct sl_run *r, enum sl_phase phase, uint64_t bytes, uint64_t tensors);
/* At the end of a run that went well: its progress tells the whole of it from now on. */
void sl_run_all_done(struct sl_run *r, uint64_t bytes, uint64_t tensors);
/* Called about every buffer: waits while paused; non-zero when it is time to stop. */
int sl_run_step(struct sl_run *r, struct sl_error *err);
/* Calls work for 0..count-1 from all workers; returns the first failure. */
typedef int sl_run_work(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err);
/* Is i a part of something that was begun, and is to be ended also while draining? Asked of every i before its work. */
typedef bool sl_run_goes_on(struct sl_run *r, uint64_t i, bool draining);
int sl_run_each(struct sl_run *r, uint64_t count, sl_run_work *work, struct sl_error *err);
void sl_worker_begin(struct sl_worker *w, enum sl_phase phase, const char *name, uint64_t total);
void sl_worker_moved(struct sl_run *r, struct sl_worker *w, uint64_t bytes);
void sl_worker_end(struct sl_run *r, struct sl_worker *w);
/* It leaves what it was at to others: no tensor is done. */
void sl_worker_rest(struct sl_worker *w);
/* Books the time since the last turn for what the worker was at: what it spent off its
 * processor is waiting for a read or a write, if it was at one. */
void sl_worker_turns_to(struct sl_worker *w, enum sl_doing doing);
/* Puts a copy of result in place of the old one. */
int sl_run_publish(struct sl_run *r, struct sl_worker *w, size_t index, const struct sl_result *result,
                   struct sl_error *err);

/* XXH3 and statistics of bytes while they are in the cache. s may be NULL. */
void sl_worker_digest(struct sl_worker *w, struct sl_accumulator *s, enum sl_dtype dtype,
                      const void *bytes, size_t len);

/* Seconds and peak memory up to now into the summary. */
void sl_run_sum_up(struct sl_run *r, uint64_t tensors, uint64_t bytes);

/* report.c */
const char *sl_run_status_text(enum sl_result_status status);    /* "verified", "only-a" */
int sl_report_convert(const struct sl_run *r, const struct sl_conversion *p, const char *target,
                      struct sl_buf *out);
int sl_report_verify(const struct sl_run *r, struct sl_buf *out);

#endif
