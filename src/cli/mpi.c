/* mpi.c: the main program of `make mpi`: mpirun -n N shardlens convert SRC DST ...
 *
 * One conversion by N processes. There is a part of the plan for each output file (--part I/FILES), and process 0
 * hands parts out, the largest first, to whoever has nothing to do; it works too. Each process plans for itself, and
 * works on a part as --part does: to a folder of its own, with its own journal, read back. In the end process 0
 * does what --finish does. So what is written are the bytes of one process, and whatever dies, the same command goes
 * on: parts that are done are found done, those that were begun are gone on with.
 *
 *     process k                            process 0
 *       ASK   how the last part ended   ->
 *             <-  ANSWER  a part; 0: go home
 *       BEAT  how far it is             ->
 *             <-  STOP    another has failed
 *
 * Messages are the structs below as bytes: all processes are of one build, as mpirun starts them. Nobody waits
 * inside MPI, which would keep a processor busy; all look again after some milliseconds. Commands other than convert
 * do not know that there are others. Only the main thread calls MPI.
 */
#include "cli/cli.h"

#include <mpi.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum tag { TAG_ASK = 1, TAG_BEAT, TAG_ANSWER, TAG_STOP };

/* done: bytes through the buffers over all phases of the part. */
struct beat { uint64_t done, read_bytes, written_bytes; };
struct ask {
    uint32_t part;                       /* that ended; 0: none yet */
    uint64_t tensors;                    /* of it */
    struct beat last;
    char plan[40];                       /* hash of what this process planned */
    struct sl_error err;                 /* code SL_OK: all is well */
};

#define PAUSE_NS 5000000L
#define BEAT_EVERY 10                    /* looks at a job, 20 ms each */

static void pause_a_little(void)
{
    const struct timespec t = { 0, PAUSE_NS };
    nanosleep(&t, NULL);
}

static bool is_waiting(int from, int tag, MPI_Status *status)
{
    int there = 0;
    MPI_Iprobe(from, tag, MPI_COMM_WORLD, &there, status);
    return there != 0;
}

static void send_bytes(const void *bytes, size_t len, int to, int tag)
{
    MPI_Send(bytes, (int)len, MPI_BYTE, to, tag, MPI_COMM_WORLD);
}

static void receive_bytes(void *bytes, size_t len, int from, int tag)
{
    MPI_Recv(bytes, (int)len, MPI_BYTE, from, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

/* One part, from its start to its end; *ask becomes what is to be told of it. */
static void do_part(struct sl_plan *plan, const struct sl_run_options *options, uint32_t part, uint32_t parts, sl_job_tell *tell,
                    void *user, struct ask *ask)
{
    struct sl_job *job = NULL;
    struct sl_progress p;
    struct sl_run_options o = *options;
    o.part = part;
    o.parts = parts;
    o.report = NULL;                     /* a part's is in its folder */
    o.tell = false;
    *ask = (struct ask){ .part = part };
    int code = sl_convert_start(plan, &o, &job, &ask->err);
    if (!code)
        code = sl_job_follow(job, 20, tell, user, &ask->err);
    if (job) {
        sl_job_progress(job, &p);
        ask->last = (struct beat){ p.all_done, p.read_bytes, p.written_bytes };
    }
    if (!code)
        ask->tensors = sl_job_summary(job)->tensors;
    else
        ask->err.code = (enum sl_code)code;
    sl_job_free(job);
}

/* ---- process k ---- */

struct member { struct progress_view *signals; unsigned looks; };

static int member_look(const struct sl_progress *p, void *user)
{
    struct member *m = user;
    const struct beat beat = { p->all_done, p->read_bytes, p->written_bytes };
    if (m->looks++ % BEAT_EVERY == 0)
        send_bytes(&beat, sizeof beat, 0, TAG_BEAT);
    const int caught = progress_look(p, m->signals);
    return caught ? caught : is_waiting(0, TAG_STOP, MPI_STATUS_IGNORE) ? SL_INTERRUPTED : 0;
}

static void member_work(struct member *m, struct sl_plan *plan, const struct sl_run_options *o, struct ask *ask)
{
    for (;;) {
        uint32_t part = 0;
        if (plan)
            snprintf(ask->plan, sizeof ask->plan, "%s", sl_plan_info(plan)->hash);
        send_bytes(ask, sizeof *ask, 0, TAG_ASK);
        while (!is_waiting(0, TAG_ANSWER, MPI_STATUS_IGNORE))
            pause_a_little();
        receive_bytes(&part, sizeof part, 0, TAG_ANSWER);
        if (!part)
            break;
        do_part(plan, o, part, (uint32_t)sl_plan_info(plan)->file_count, member_look, m, ask);
    }
    while (is_waiting(0, TAG_STOP, MPI_STATUS_IGNORE))    /* it crossed with our last word */
        receive_bytes(NULL, 0, 0, TAG_STOP);
}

/* ---- process 0 ---- */

struct seat { uint32_t part; bool waits; struct beat beat; };    /* part: it works on, 0 none */
struct team {
    int size;
    uint32_t parts, next;                /* next: to be handed out, counted from 1 */
    const char *plan;                    /* hash */
    struct seat *seats;                  /* seats[0]: this process */
    struct beat ended;                   /* sums over parts that ended */
    uint64_t tensors;
    int code;                            /* of the first failure; then nothing is handed out */
    struct sl_error err;
    uint64_t write_bytes, target_count;
    unsigned passes;                     /* over the bytes: written, synced, read back */
    double began;
    struct progress_view *view;
};

static void team_fails(struct team *t, int process, const struct sl_error *why)
{
    if (t->code)
        return;
    t->code = (int)why->code;
    t->err = *why;
    const size_t len = strlen(t->err.message);
    snprintf(t->err.message + len, sizeof t->err.message - len, " (process %d of %d)", process, t->size);
    for (int k = 1; k < t->size; k++)
        if (t->seats[k].part)
            send_bytes(NULL, 0, k, TAG_STOP);
}

static void part_ended(struct team *t, int process, const struct ask *ask)
{
    t->seats[process] = (struct seat){ .waits = true };
    t->ended.done += ask->last.done;
    t->ended.read_bytes += ask->last.read_bytes;
    t->ended.written_bytes += ask->last.written_bytes;
    t->tensors += ask->tensors;
    if (ask->err.code)
        team_fails(t, process, &ask->err);
}

static void hear_ask(struct team *t, int process)
{
    struct ask ask;
    struct sl_error other = { .code = SL_INPUT };
    receive_bytes(&ask, sizeof ask, process, TAG_ASK);
    if (!ask.err.code && t->plan && strcmp(ask.plan, t->plan) != 0) {
        snprintf(other.message, sizeof other.message, "two processes made different plans: they see other files, or are of another version");
        ask.err = other;
    }
    part_ended(t, process, &ask);
}

static uint32_t take_next(struct team *t)
{
    return t->code || t->next > t->parts ? 0 : t->next++;
}

static void hear(struct team *t)
{
    MPI_Status status;
    while (is_waiting(MPI_ANY_SOURCE, MPI_ANY_TAG, &status)) {
        if (status.MPI_TAG == TAG_ASK)
            hear_ask(t, status.MPI_SOURCE);
        else
            receive_bytes(&t->seats[status.MPI_SOURCE].beat, sizeof(struct beat), status.MPI_SOURCE, TAG_BEAT);
    }
}

/* Gives work to those who wait for it. */
static void hand_out(struct team *t)
{
    for (int k = 1; k < t->size; k++) {
        struct seat *s = &t->seats[k];
        if (!s->waits || !(s->part = take_next(t)))
            continue;
        s->waits = false;
        send_bytes(&s->part, sizeof s->part, k, TAG_ANSWER);
    }
}

/* The team as one job. */
static int show(struct team *t)
{
    struct beat sum = t->ended;
    for (int k = 0; k < t->size; k++) {
        sum.done += t->seats[k].beat.done;
        sum.read_bytes += t->seats[k].beat.read_bytes;
        sum.written_bytes += t->seats[k].beat.written_bytes;
    }
    const uint64_t done = sum.done / t->passes;
    const struct sl_progress p = { .phase = SL_PHASE_COPY, .seconds = MPI_Wtime() - t->began,
                                   .bytes_done = done < t->write_bytes ? done : t->write_bytes, .bytes_total = t->write_bytes,
                                   .tensors_done = t->tensors, .tensors_total = t->target_count,
                                   .read_bytes = sum.read_bytes, .written_bytes = sum.written_bytes };
    const int caught = progress_look(&p, t->view);
    struct sl_error err;
    if (caught)
        team_fails(t, 0, (sl_fail(&err, caught, "", "stopped on request; go on with the same command"), &err));
    return t->code;
}

static int lead_look(const struct sl_progress *p, void *user)
{
    struct team *t = user;
    t->seats[0].beat = (struct beat){ p->all_done, p->read_bytes, p->written_bytes };
    hear(t);
    hand_out(t);
    return show(t);
}

static bool all_wait(const struct team *t)
{
    for (int k = 1; k < t->size; k++)
        if (!t->seats[k].waits)
            return false;
    return true;
}

/* Until everybody waits for work. */
static void gather(struct team *t)
{
    for (hear(t); !all_wait(t); hear(t)) {
        show(t);
        pause_a_little();
    }
}

/* Nobody begins before all have made the same plan. Then until all parts are done, or, after a failure, nobody works
 * any more. */
static void lead_parts(struct team *t, struct sl_plan *plan, const struct sl_run_options *o)
{
    struct ask ask;
    gather(t);
    while (!t->code && t->next <= t->parts) {
        hand_out(t);
        const uint32_t part = take_next(t);
        if (part) {
            do_part(plan, o, part, t->parts, lead_look, t, &ask);
            part_ended(t, 0, &ask);
        }
    }
    gather(t);
}

static void summary_of(const struct team *t, struct sl_buf *out)
{
    char rate[32];
    const double seconds = MPI_Wtime() - t->began;
    sl_buf_printf(out, "  together  %d processes, %.2f s, %s/s\n", t->size, seconds,
                  sl_text_bytes((uint64_t)((double)t->write_bytes / (seconds > 0 ? seconds : 1)), rate, sizeof rate));
}

static int lead(const struct values *v, struct team *t, struct sl_plan *plan, struct sl_run_options *o, struct sl_buf *out)
{
    if (plan && !t->code) {
        const struct sl_plan_info *info = sl_plan_info(plan);
        t->plan = info->hash;
        t->write_bytes = info->write_bytes;
        t->target_count = info->target_count;
        t->parts = info->file_count > 1 ? (uint32_t)info->file_count : 0;    /* one file is one process's work */
    }
    lead_parts(t, plan, o);
    if (t->code)
        return t->code;
    o->finish = t->parts > 0;
    t->code = convert_run(v, plan, o, out, &t->err);
    if (!t->code && !v->given[OPT_JSON] && !(o->report && !strcmp(o->report, "-")))
        summary_of(t, out);
    return t->code;
}

/* ---- both ---- */

static int refuse(const struct values *v, const struct sl_plan *plan, struct sl_error *err)
{
    if (v->given[OPT_PART] || v->given[OPT_FINISH])
        return sl_fail(err, SL_USAGE, "", "%s is not for several processes of mpirun, which hand parts out themselves; leave it out",
                       v->given[OPT_PART] ? "--part" : "--finish");
    if (plan && sl_plan_info(plan)->file_count > SL_MAX_PARTS)
        return sl_fail(err, SL_USAGE, "", "%zu output files are too many to be handed out one by one, at most %d are; choose larger ones",
                       sl_plan_info(plan)->file_count, SL_MAX_PARTS);
    return SL_OK;
}

static int work_as_member(const struct values *v, struct sl_plan *plan, const struct sl_run_options *o, const struct sl_error *err)
{
    struct values silent = *v;
    silent.given[OPT_PROGRESS] = true;
    silent.text[OPT_PROGRESS] = "none";
    struct member m = { .signals = progress_open(&silent, "") };
    struct ask ask = { .err = *err };
    if (!m.signals && !ask.err.code)
        sl_fail_memory(&ask.err, sizeof m);
    member_work(&m, plan, o, &ask);
    progress_close(m.signals);
    return SL_OK;                        /* process 0 tells how it went */
}

static int work_as_leader(const struct values *v, int size, struct sl_checkpoint *ck, struct sl_plan *plan, struct sl_run_options *o,
                          const struct sl_error *err)
{
    struct sl_buf out = { 0 };
    const uint32_t home = 0;
    struct team t = { .size = size, .next = 1, .passes = o->verify == SL_VERIFY_NONE ? 2 : 3, .began = MPI_Wtime(),
                      .code = (int)err->code, .err = *err };
    t.seats = calloc((size_t)size, sizeof *t.seats);
    t.view = progress_open(v, "convert");
    if (!t.seats || !t.view)
        MPI_Abort(MPI_COMM_WORLD, SL_MEMORY);
    int code = lead(v, &t, plan, o, &out);
    for (int k = 1; k < size; k++)
        send_bytes(&home, sizeof home, k, TAG_ANSWER);
    progress_close(t.view);
    free(t.seats);
    if (code) {
        sl_buf_free(&out);
        return report_error(&t.err);
    }
    convert_notes(ck, sl_plan_info(plan));
    return out_flush(&out);
}

static int convert_together(const struct values *v, int rank, int size)
{
    struct sl_checkpoint *ck = NULL;
    struct sl_plan *plan = NULL;
    struct sl_error err = { .code = SL_OK };
    struct sl_run_options o;
    signal(SIGPIPE, SIG_IGN);
    signals_watch();
    run_options(v, &o);
    int code = convert_open(v, &ck, &plan, &err);
    if (!code)
        code = refuse(v, plan, &err);
    code = rank ? work_as_member(v, plan, &o, &err) : work_as_leader(v, size, ck, plan, &o, &err);
    signals_forget();
    sl_plan_free(plan);
    sl_close(ck);
    return code;
}

static int run(const struct values *v)
{
    int rank = 0, size = 1, level;
    if (!v->command || strcmp(v->command, "convert") != 0 || v->given[OPT_HELP] || v->given[OPT_VERSION])
        return program_run(v);
    MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    const int code = size > 1 ? convert_together(v, rank, size) : program_run(v);
    MPI_Finalize();
    return code;
}

int main(int argc, char **argv)
{
    return program(argc, argv, run);
}
