/* progress.c: a conversion to another TP and PP with a progress bar. Ctrl-C stops it in order;
 * the same command goes on where it stopped.
 *
 *     cc progress.c $(pkg-config --cflags --libs shardlens) -o progress && ./progress CHECKPOINT TARGET TP PP
 */
#include <shardlens/shardlens.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* Called ten times a second and at the end. What it returns, when not 0, stops the job. */
static int draw(const struct sl_progress *p, void *user)
{
    enum { WIDTH = 40 };
    const double part = p->bytes_total ? (double)p->bytes_done / (double)p->bytes_total : 0;
    (void)user;
    fprintf(stderr, "\r%-8s [", sl_phase_name(p->phase));
    for (int i = 0; i < WIDTH; i++)
        fputc(i < part * WIDTH || p->finished ? '#' : '.', stderr);
    fprintf(stderr, "] %3.0f%%%s", p->finished ? 100 : 100 * part, p->finished ? "\n" : "");
    return interrupted ? SL_INTERRUPTED : 0;
}

int main(int argc, char **argv)
{
    struct sl_checkpoint *ck = NULL;
    struct sl_plan *plan = NULL;
    struct sl_job *job = NULL;
    struct sl_error err;
    if (argc != 5) {
        fprintf(stderr, "usage: progress CHECKPOINT TARGET TP PP\n");
        return SL_USAGE;
    }
    const struct sl_plan_options want = { .format = SL_TO_MEGATRON, .tp = atoi(argv[3]), .pp = atoi(argv[4]), .iteration = -1 };
    const struct sl_run_options run = { .resume = true };       /* where there is nothing to resume it begins */
    signal(SIGINT, on_interrupt);
    int code = sl_open(argv[1], NULL, &ck, &err);
    if (!code)
        code = sl_plan_make(ck, argv[2], &want, &plan, &err);
    if (!code)
        code = sl_convert_start(plan, &run, &job, &err);
    if (!code)
        code = sl_job_follow(job, 100, draw, NULL, &err);
    if (code)
        fprintf(stderr, "%s: %s\n", err.where, err.message);
    sl_job_free(job);
    sl_plan_free(plan);
    sl_close(ck);
    return code;
}
