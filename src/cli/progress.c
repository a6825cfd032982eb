/* progress.c: waits for a job. Progress goes to standard error: a bar on a
 * terminal, lines or JSON when asked for. Signals end the job in order; the
 * second one ends the program at once. */
#include "cli/cli.h"
#include "base/json.h"
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum mode { MODE_NONE, MODE_BAR, MODE_PLAIN, MODE_JSON };

static volatile sig_atomic_t caught;      /* number of the signal, 0: none yet */

static void on_signal(int number)
{
    if (caught)
        _exit(128 + number);
    caught = number;
}

static const int watched[] = { SIGINT, SIGTERM, SIGHUP };
#define WATCHED (sizeof watched / sizeof *watched)
static struct sigaction usual[WATCHED], usual_pipe;    /* what stood there before */

void signals_watch(void)
{
    struct sigaction act = { .sa_handler = on_signal };
    sigemptyset(&act.sa_mask);
    caught = 0;
    for (size_t i = 0; i < WATCHED; i++) {
        sigaction(watched[i], NULL, &usual[i]);
        if (usual[i].sa_handler != SIG_IGN)       /* nohup: SIGHUP stays ignored */
            sigaction(watched[i], &act, NULL);
    }
    act.sa_handler = SIG_IGN;                     /* a closed progress pipe is no reason to die */
    sigaction(SIGPIPE, &act, &usual_pipe);
}

void signals_forget(void)
{
    for (size_t i = 0; i < WATCHED; i++)
        sigaction(watched[i], &usual[i], NULL);
    sigaction(SIGPIPE, &usual_pipe, NULL);
}

static enum mode mode_wanted(const struct values *v)
{
    const char *text = v->given[OPT_PROGRESS] ? v->text[OPT_PROGRESS] : "auto";
    if (strcmp(text, "auto") == 0)
        return isatty(STDERR_FILENO) ? MODE_BAR : MODE_NONE;
    return strcmp(text, "bar") == 0 ? MODE_BAR : strcmp(text, "plain") == 0 ? MODE_PLAIN
         : strcmp(text, "json") == 0 ? MODE_JSON : MODE_NONE;
}

/* Speed of the last seconds: samples of (time, bytes) in a ring. */
#define SAMPLES 16
struct speed { double at[SAMPLES]; uint64_t bytes[SAMPLES]; unsigned count; };

static double speed_add(struct speed *s, double now, uint64_t bytes)
{
    unsigned i = s->count++ % SAMPLES;
    s->at[i] = now;
    s->bytes[i] = bytes;
    unsigned oldest = s->count > SAMPLES ? s->count % SAMPLES : 0;
    double span = now - s->at[oldest];
    return span > 0 && bytes >= s->bytes[oldest] ? (double)(bytes - s->bytes[oldest]) / span : 0;
}

static void show_bar(const struct sl_progress *p, const char *what, double rate)
{
    struct winsize size = { 0 };
    ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
    int width = size.ws_col ? size.ws_col : 80;
    double part = p->bytes_total ? (double)p->bytes_done / (double)p->bytes_total : 0;
    char done[32], total[32], speed[32], line[512], left[32] = "";
    sl_text_bytes(p->bytes_done, done, sizeof done);
    sl_text_bytes(p->bytes_total, total, sizeof total);
    sl_text_bytes((uint64_t)rate, speed, sizeof speed);
    if (rate > 0) {
        unsigned long s = (unsigned long)((double)(p->bytes_total - p->bytes_done) / rate);
        snprintf(left, sizeof left, "%lu:%02lu left", s / 60, s % 60);
    }
    int n = snprintf(line, sizeof line, "%s %-7s %3.0f%%  %s of %s  %s/s  %s", what, sl_phase_name(p->phase),
                     100 * part, done, total, speed, left);
    int room = width - n - 4;
    fprintf(stderr, "\r%s", line);
    if (room >= 10) {
        int full = (int)(part * room);
        fputs("  [", stderr);
        for (int i = 0; i < room - 1; i++)
            fputc(i < full ? '#' : '.', stderr);
        fputc(']', stderr);
    }
    fputs("\033[K", stderr);
}

static void show_json(const struct sl_progress *p, double rate)
{
    struct sl_buf b = { 0 };
    struct sl_json j;
    sl_json_begin(&j, &b, 0);
    sl_json_object(&j);
    sl_json_kstr(&j, "phase", sl_phase_name(p->phase));
    sl_json_kuint(&j, "bytes_done", p->bytes_done);
    sl_json_kuint(&j, "bytes_total", p->bytes_total);
    sl_json_kuint(&j, "tensors_done", p->tensors_done);
    sl_json_kuint(&j, "tensors_total", p->tensors_total);
    sl_json_kuint(&j, "verified", p->verified);
    sl_json_kuint(&j, "mismatched", p->mismatched);
    sl_json_kdouble(&j, "seconds", p->seconds);
    sl_json_kdouble(&j, "bytes_per_second", rate);
    sl_json_object_end(&j);
    if (b.data && !b.failed)
        fprintf(stderr, "%s\n", b.data);
    sl_buf_free(&b);
}

static void show_plain(const struct sl_progress *p, const char *what, int *tenth, enum sl_phase *phase)
{
    int now = p->bytes_total ? (int)(10 * (double)p->bytes_done / (double)p->bytes_total) : 0;
    if (now == *tenth && p->phase == *phase)
        return;
    *tenth = now;
    *phase = p->phase;
    char done[32], total[32];
    fprintf(stderr, "%s: %s %d%%  %s of %s  %llu of %llu tensors\n", what, sl_phase_name(p->phase), now * 10,
            sl_text_bytes(p->bytes_done, done, sizeof done), sl_text_bytes(p->bytes_total, total, sizeof total),
            (unsigned long long)p->tensors_done, (unsigned long long)p->tensors_total);
}

/* What following a job needs to remember from one look to the next. */
struct progress_view {
    enum mode mode;
    const char *what;
    struct speed speed;
    unsigned looks;
    int tenth;
    enum sl_phase phase;
    bool shown;                              /* a bar stands on the screen */
};

int progress_look(const struct sl_progress *p, void *user)
{
    struct progress_view *f = user;
    int stop = caught ? 128 + (int)caught : 0;
    if (f->mode == MODE_NONE || (f->looks++ % 8 != 7 && !p->finished))      /* six times a second */
        return stop;
    double rate = speed_add(&f->speed, p->seconds, p->bytes_done);
    if (p->finished && p->seconds > 0)
        rate = (double)p->bytes_done / p->seconds;
    if (f->mode == MODE_BAR && p->seconds >= 1 && !p->finished)
        show_bar(p, f->what, rate), f->shown = true;
    else if (f->mode == MODE_PLAIN && !p->finished)
        show_plain(p, f->what, &f->tenth, &f->phase);
    else if (f->mode == MODE_JSON)
        show_json(p, rate);
    return stop;
}

struct progress_view *progress_open(const struct values *v, const char *what)
{
    struct progress_view *f = calloc(1, sizeof *f);
    if (f)
        *f = (struct progress_view){ .mode = mode_wanted(v), .what = what, .tenth = -1, .phase = SL_PHASE_DONE };
    return f;
}

void progress_close(struct progress_view *f)
{
    if (f && f->shown)
        fputs("\r\033[K", stderr);
    free(f);
}

int job_follow(const struct values *v, struct sl_job *job, const char *what, struct sl_error *err)
{
    struct progress_view *f = progress_open(v, what);
    const int code = f ? sl_job_follow(job, 20, progress_look, f, err) : sl_fail_memory(err, 64);
    progress_close(f);
    return code;
}
