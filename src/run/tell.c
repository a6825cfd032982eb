/* tell.c: the file beside a target that says how far the run is. */
#include "run/tell.h"

#include "base/error.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HEAD "shardlens-progress 1"
#define CHECK_LEN 9                          /* eight digits and a blank */
#define TEXT_MOST (UINT64_C(1) << 20)
#define SECONDS_BETWEEN 1
#define LOOKS 5                              /* a reader's, at a file that is just being written */

/* ---- writing ---- */

static void add_recent(struct sl_tell *t)
{
    const size_t count = atomic_load(&t->run->recent_count);
    for (size_t i = 0; i < SL_RECENT && i < count; i++) {
        const size_t index = atomic_load(&t->run->recent[(count - 1 - i) % SL_RECENT]);
        const struct sl_result *r = sl_run_result_at(t->run, index);
        if (!r || !r->name)
            continue;
        sl_buf_printf(&t->text, "recent %d %" PRIu64 " %016" PRIx64 " ", (int)r->status, r->bytes, r->checksum);
        sl_buf_printable(&t->text, r->name, strlen(r->name));
        sl_buf_char(&t->text, '\n');
    }
}

static void add_progress(struct sl_tell *t, bool ended)
{
    struct sl_progress p;
    struct sl_buf *b = &t->text;
    sl_run_progress(t->run, &p);
    sl_buf_printf(b, "state %d %d %d\n", p.paused, p.draining, ended);
    sl_buf_printf(b, "phase %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", (int)p.phase, p.bytes_done, p.bytes_total, p.tensors_done,
                  p.tensors_total);
    sl_buf_printf(b, "all %" PRIu64 " %" PRIu64 "\n", p.all_done, p.all_total);
    sl_buf_printf(b, "sums %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", p.verified, p.mismatched, p.read_bytes, p.written_bytes);
    sl_buf_printf(b, "time %.3f %.3f %.3f %.3f\n", p.seconds, p.read_wait, p.write_wait, p.working);
    for (uint32_t i = 0; i < p.workers; i++)
        sl_buf_printf(b, "worker %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %d %s\n", (int)p.worker[i].phase, p.worker[i].done, p.worker[i].total,
                      p.worker[i].moved, (int)p.worker[i].doing, p.worker[i].tensor);
}

/* In one write, and cut to its length: what is read in between does not pass its check. */
static void put(struct sl_tell *t)
{
    char check[CHECK_LEN + 1];
    struct sl_buf *b = &t->text;
    if (b->failed)
        return;
    snprintf(check, sizeof check, "%08x ", XXH32(b->data + CHECK_LEN, b->len - CHECK_LEN, 0));
    memcpy(b->data, check, CHECK_LEN);
    if (!sl_write_at(t->fd, t->path, 0, b->data, b->len, NULL) && ftruncate(t->fd, (off_t)b->len))
        return;                              /* the reader sees a wrong check, and says so */
}

static void tell(struct sl_tell *t, bool ended, int code, const char *message)
{
    char host[72] = "";
    struct sl_buf *b = &t->text;
    if (gethostname(host, sizeof host - 1))
        snprintf(host, sizeof host, "localhost");
    sl_buf_clear(b);
    sl_buf_printf(b, "%*s" HEAD "\nholder %s %ld\nplan %s\nsource ", CHECK_LEN, "", host, (long)getpid(), t->plan);
    sl_buf_printable(b, t->source, strlen(t->source));
    sl_buf_char(b, '\n');
    add_progress(t, ended);
    add_recent(t);
    if (ended)
        sl_buf_printf(b, "end %d %s\n", code, message);
    put(t);
}

static void *telling(void *arg)
{
    struct sl_tell *t = arg;
    struct timespec until;
    pthread_mutex_lock(&t->lock);
    while (!t->over) {
        pthread_mutex_unlock(&t->lock);
        tell(t, false, 0, "");
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += SECONDS_BETWEEN;
        pthread_mutex_lock(&t->lock);
        while (!t->over && pthread_cond_timedwait(&t->changed, &t->lock, &until) != ETIMEDOUT)
            ;
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

void sl_tell_begin(struct sl_tell *t, struct sl_run *r, const char *path, const char *plan, const char *source)
{
    pthread_condattr_t clock;
    *t = (struct sl_tell){ .run = r, .path = path, .plan = plan, .source = source, .fd = -1 };
    t->fd = sl_io.open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (t->fd < 0)
        return;
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &clock);
    pthread_condattr_destroy(&clock);
    if (pthread_create(&t->thread, NULL, telling, t) == 0)
        return;
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    unlink(path);
    sl_io.close(t->fd);
    t->fd = -1;
}

void sl_tell_end(struct sl_tell *t, bool keep, int code, const struct sl_error *err)
{
    if (t->fd < 0 || !t->run)
        return;
    pthread_mutex_lock(&t->lock);
    t->over = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    if (keep)
        tell(t, true, code, err ? err->message : "");
    else
        unlink(t->path);
    sl_io.close(t->fd);
    t->fd = -1;
    sl_buf_free(&t->text);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
}

/* ---- reading ---- */

/* The rest of a line behind `skip` words, printable as it was written. */
static void rest_of(const char *line, int skip, char *out, size_t room)
{
    while (skip-- > 0 && (line = strchr(line, ' ')))
        line++;
    sl_text_printable(line ? line : "", line ? strlen(line) : 0, out, room);
}

static void read_worker(const char *line, struct sl_progress *p)
{
    struct sl_worker_progress w = { .done = 0 };
    int phase, doing;
    if (p->workers == SL_MAX_WORKERS ||
        sscanf(line, "worker %d %" SCNu64 " %" SCNu64 " %" SCNu64 " %d", &phase, &w.done, &w.total, &w.moved, &doing) != 5)
        return;
    w.phase = phase >= 0 && phase <= SL_PHASE_DONE ? (enum sl_phase)phase : SL_PHASE_COPY;
    w.doing = doing >= 0 && doing <= SL_DOING_WRITE ? (enum sl_doing)doing : SL_DOING_NOTHING;
    rest_of(line, 6, w.tensor, sizeof w.tensor);
    p->worker[p->workers++] = w;
}

static void read_recent(const char *line, struct sl_place *out)
{
    const size_t i = out->recent_count;
    if (i < SL_PLACE_RECENT && sscanf(line, "recent %d %" SCNu64 " %" SCNx64, &out->recent[i].status, &out->recent[i].bytes, &out->recent[i].checksum) == 3) {
        rest_of(line, 4, out->recent[i].name, sizeof out->recent[i].name);
        out->recent_count++;
    }
}

static void read_line(const char *line, struct sl_place *out)
{
    struct sl_progress *p = &out->progress;
    int paused, draining, ended, phase;
    if (sl_text_starts(line, "worker "))
        read_worker(line, p);
    else if (sl_text_starts(line, "recent "))
        read_recent(line, out);
    else if (sl_text_starts(line, "source "))
        rest_of(line, 1, out->source, sizeof out->source);
    else if (sscanf(line, "state %d %d %d", &paused, &draining, &ended) == 3)
        p->paused = paused, p->draining = draining, p->finished = out->ended = ended;
    else if (sscanf(line, "phase %d %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &phase, &p->bytes_done, &p->bytes_total, &p->tensors_done,
                    &p->tensors_total) == 5)
        p->phase = phase >= 0 && phase <= SL_PHASE_DONE ? (enum sl_phase)phase : SL_PHASE_COPY;
    else if (sscanf(line, "end %d", &out->code) == 1)
        rest_of(line, 2, out->message, sizeof out->message);
    else if (sscanf(line, "all %" SCNu64 " %" SCNu64, &p->all_done, &p->all_total) == 2 ||
             sscanf(line, "sums %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &p->verified, &p->mismatched, &p->read_bytes, &p->written_bytes) == 4 ||
             sscanf(line, "time %lf %lf %lf %lf", &p->seconds, &p->read_wait, &p->write_wait, &p->working) == 4 ||
             sscanf(line, "holder %71s %" SCNd64, out->host, &out->pid) == 2)
        return;
    else
        sscanf(line, "plan %39s", out->plan);
}

static bool is_whole(const char *text, size_t len)
{
    char check[CHECK_LEN + 1];
    if (len < CHECK_LEN + sizeof HEAD - 1 || memcmp(text + CHECK_LEN, HEAD "\n", sizeof HEAD))
        return false;
    snprintf(check, sizeof check, "%08x ", XXH32(text + CHECK_LEN, len - CHECK_LEN, 0));
    return memcmp(check, text, CHECK_LEN) == 0;
}

bool sl_tell_read(const char *path, struct sl_place *out)
{
    struct sl_arena arena = { 0 };
    char *text = NULL, *newline;
    size_t len = 0;
    bool whole = false;
    for (int i = 0; i < LOOKS && !whole; i++) {
        if (i > 0)
            nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
        if (sl_file_slurp(path, TEXT_MOST, &arena, &text, &len, NULL))
            break;
        whole = is_whole(text, len);
    }
    for (char *line = text; whole && (newline = strchr(line, '\n')); line = newline + 1) {
        *newline = '\0';
        read_line(line, out);
    }
    sl_arena_free(&arena);
    return whole;
}
