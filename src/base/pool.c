/* pool.c: a counter, some threads, and the first failure. */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct loop {
    int (*work)(void *arg, unsigned worker, uint64_t i);
    void *arg;
    uint64_t count;
    atomic_uint_least64_t next;     /* the next number nobody has taken */
    atomic_int result;              /* the first non-zero answer; stops the loop */
};

struct hand {
    struct loop *loop;
    unsigned worker;
    pthread_t thread;
};

static void take_numbers(struct loop *loop, unsigned worker)
{
    while (!atomic_load(&loop->result)) {
        const uint64_t i = atomic_fetch_add(&loop->next, 1);
        if (i >= loop->count)
            return;
        const int answer = loop->work(loop->arg, worker, i);
        int none = 0;
        if (answer)
            atomic_compare_exchange_strong(&loop->result, &none, answer);
    }
}

static void *thread_main(void *arg)
{
    const struct hand *hand = arg;
    take_numbers(hand->loop, hand->worker);
    return NULL;
}

int sl_parallel(unsigned threads, uint64_t count,
                int (*work)(void *arg, unsigned worker, uint64_t i), void *arg)
{
    struct loop loop = { .work = work, .arg = arg, .count = count };
    if (threads > count)
        threads = (unsigned)count;

    /* The caller is worker 0. Signals stay with it: a thread of ours that took
     * one would only interrupt a read. */
    const unsigned others = threads > 1 ? threads - 1 : 0;
    struct hand *hands = others ? calloc(others, sizeof *hands) : NULL;
    unsigned made = 0;
    if (hands) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        for (; made < others; made++) {
            hands[made].loop = &loop;
            hands[made].worker = made + 1;
            if (pthread_create(&hands[made].thread, NULL, thread_main, &hands[made]))
                break;
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }

    take_numbers(&loop, 0);
    for (unsigned t = 0; t < made; t++)
        pthread_join(hands[t].thread, NULL);
    free(hands);
    return atomic_load(&loop.result);
}

unsigned sl_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

uint64_t sl_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}
