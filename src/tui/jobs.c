/* jobs.c: lanes of background threads. */
#include "tui/jobs.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_TO_END 2

struct worker {
    struct jobs *jobs;
    pthread_t thread;
    bool started;
    struct task *first, *last;   /* waiting */
    struct task *doing;
};

struct jobs {
    pthread_mutex_t lock;        /* guards the lists and `ending` */
    pthread_cond_t more;
    struct worker workers[LANE_COUNT];
    struct task *done, *done_last;
    bool ending;
    unsigned pending;            /* the drawing thread's own count */
    int pipe[2];
};

void jobs_poke(struct jobs *j)
{
    int saved = errno;
    ssize_t n = write(j->pipe[1], "", 1);   /* a full pipe is readable already */
    (void)n;
    errno = saved;
}

static void finish(struct jobs *j, struct task *task)
{
    task->next = NULL;
    if (j->done_last)
        j->done_last->next = task;
    else
        j->done = task;
    j->done_last = task;
    jobs_poke(j);
}

static void *lane_main(void *arg)
{
    struct worker *w = arg;
    struct jobs *j = w->jobs;
    pthread_mutex_lock(&j->lock);
    for (;;) {
        while (!w->first && !j->ending)
            pthread_cond_wait(&j->more, &j->lock);
        struct task *task = w->first;
        if (!task)
            break;
        w->first = task->next;
        if (!w->first)
            w->last = NULL;
        w->doing = task;
        pthread_mutex_unlock(&j->lock);
        if (!task->cancel)
            task->work(task);
        pthread_mutex_lock(&j->lock);
        w->doing = NULL;
        finish(j, task);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

static bool lanes_start(struct jobs *j)
{
    sigset_t all, old;
    bool good = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 0; i < LANE_COUNT && good; i++) {
        j->workers[i].jobs = j;
        good = pthread_create(&j->workers[i].thread, NULL, lane_main, &j->workers[i]) == 0;
        j->workers[i].started = good;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return good;
}

struct jobs *jobs_new(void)
{
    struct jobs *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    if (pipe2(j->pipe, O_CLOEXEC | O_NONBLOCK)) {
        free(j);
        return NULL;
    }
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->more, NULL);
    if (lanes_start(j))
        return j;
    if (jobs_end(j))
        jobs_free(j);
    return NULL;
}

bool jobs_end(struct jobs *j)
{
    pthread_mutex_lock(&j->lock);
    j->ending = true;
    for (int i = 0; i < LANE_COUNT; i++) {
        for (struct task *t = j->workers[i].first; t; t = t->next)
            t->cancel = 1;
        if (j->workers[i].doing)
            j->workers[i].doing->cancel = 1;
    }
    pthread_cond_broadcast(&j->more);
    pthread_mutex_unlock(&j->lock);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SECONDS_TO_END;
    bool ended = true;
    for (int i = 0; i < LANE_COUNT; i++) {
        if (!j->workers[i].started)
            continue;
        if (pthread_timedjoin_np(j->workers[i].thread, NULL, &until) == 0)
            j->workers[i].started = false;
        else
            ended = false;
    }
    return ended;
}

void jobs_free(struct jobs *j)
{
    jobs_take(j, NULL);
    close(j->pipe[0]);
    close(j->pipe[1]);
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->more);
    free(j);
}

void jobs_add(struct jobs *j, enum lane lane, struct task *task)
{
    struct worker *w = &j->workers[lane];
    task->next = NULL;
    pthread_mutex_lock(&j->lock);
    if (w->last)
        w->last->next = task;
    else
        w->first = task;
    w->last = task;
    j->pending++;
    pthread_cond_broadcast(&j->more);
    pthread_mutex_unlock(&j->lock);
}

void task_cancel(struct task *task)
{
    if (task)
        task->cancel = 1;
}

unsigned jobs_take(struct jobs *j, struct app *app)
{
    char drain[256];
    while (read(j->pipe[0], drain, sizeof drain) > 0)
        ;
    pthread_mutex_lock(&j->lock);
    struct task *task = j->done;
    j->done = j->done_last = NULL;
    pthread_mutex_unlock(&j->lock);
    unsigned count = 0;
    while (task) {
        struct task *next = task->next;
        j->pending--;
        if (app && !task->cancel)
            task->apply(app, task);
        task->drop(app, task);
        task = next;
        count++;
    }
    return count;
}

unsigned jobs_pending(const struct jobs *j)
{
    return j->pending;
}

int jobs_fd(const struct jobs *j)
{
    return j->pipe[0];
}
