/* trial.c: how long a conversion would take: the source is read here and there
 * for half a second by as many readers as there would be workers, and one of
 * its tensors is worked on. Nothing is written, so writing is only bounded.
 */
#include "tui/convert.h"
#include "base/pool.h"
#include <stdlib.h>

#define TRIAL_NS UINT64_C(400000000)
#define MOST_READERS 16
#define PIECE ((size_t)1 << 20)
#define WORK_MOST ((uint64_t)64 << 20)   /* bytes of the tensor that is worked on */

struct trial_task {
    struct task task;
    struct opened *opened;
    struct trial made;
    uint64_t begun, bytes[MOST_READERS];
};

static bool is_readable(const struct sl_tensor *t)
{
    return t->count && !(t->flags & (SL_TENSOR_DEFLATED | SL_TENSOR_STRIDED | SL_TENSOR_NO_DATA | SL_TENSOR_EXTRA | SL_TENSOR_OPTIMIZER)) &&
           t->bytes % t->count == 0;
}

/* The same places each time: a generator of Marsaglia's. */
static uint64_t next_number(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* One piece of a tensor by chance; false when this one can't be read. */
static bool read_piece(struct trial_task *t, unsigned reader, void *buf, uint64_t *chance)
{
    const struct sl_checkpoint *ck = t->opened->ck;
    const size_t index = (size_t)(next_number(chance) % sl_tensor_count(ck));
    const struct sl_tensor *x = sl_tensor_at(ck, index);
    if (!is_readable(x))
        return false;
    const uint64_t size = x->bytes / x->count, most = PIECE / size;
    const uint64_t count = x->count < most ? x->count : most;
    const uint64_t first = x->count > count ? next_number(chance) % (x->count - count) : 0;
    if (!count || sl_tensor_read(ck, index, first, count, buf, NULL))
        return false;
    t->bytes[reader] += count * size;
    return true;
}

static int read_a_while(void *arg, unsigned worker, uint64_t i)
{
    struct trial_task *t = arg;
    uint64_t chance = 88172645463325252u + i * 7919;
    void *buf = malloc(PIECE);
    for (int failed = 0; buf && failed < 1000 && !t->task.cancel && sl_now_ns() - t->begun < TRIAL_NS;)
        failed = read_piece(t, worker, buf, &chance) ? 0 : failed + 1;
    free(buf);
    return 0;
}

/* Statistics are what a worker does most; the second time they come from memory. */
static double work_rate(const struct trial_task *t)
{
    const struct sl_checkpoint *ck = t->opened->ck;
    size_t best = SIZE_MAX;
    struct sl_stats stats;
    for (size_t i = 0; i < sl_tensor_count(ck); i++) {
        const struct sl_tensor *x = sl_tensor_at(ck, i);
        if (is_readable(x) && x->bytes <= WORK_MOST && (best == SIZE_MAX || x->bytes > sl_tensor_at(ck, best)->bytes))
            best = i;
    }
    if (best == SIZE_MAX || sl_tensor_stats(ck, &best, 1, &stats, NULL, NULL, &t->task.cancel, NULL, NULL))
        return 0;
    const uint64_t begun = sl_now_ns();
    if (sl_tensor_stats(ck, &best, 1, &stats, NULL, NULL, &t->task.cancel, NULL, NULL))
        return 0;
    const double seconds = (double)(sl_now_ns() - begun) / 1e9;
    return seconds > 0 ? (double)sl_tensor_at(ck, best)->bytes / seconds : 0;
}

static void trial_work(struct task *task)
{
    struct trial_task *t = (struct trial_task *)task;
    uint64_t sum = 0;
    if (!sl_tensor_count(t->opened->ck))
        return;
    t->begun = sl_now_ns();
    sl_parallel(t->made.readers, t->made.readers, read_a_while, t);
    const double seconds = (double)(sl_now_ns() - t->begun) / 1e9;
    for (unsigned i = 0; i < t->made.readers; i++)
        sum += t->bytes[i];
    t->made.read_rate = seconds > 0 ? (double)sum / seconds : 0;
    t->made.work_rate = work_rate(t);
}

static void trial_apply(struct app *app, struct task *task)
{
    struct trial_task *t = (struct trial_task *)task;
    if (t->opened != app->opened)
        return;
    app->trial = t->made;
    app->trial.asked = app->trial.done = true;
}

static void trial_drop(struct app *app, struct task *task)
{
    struct trial_task *t = (struct trial_task *)task;
    (void)app;
    opened_drop(t->opened);
    free(t);
}

void trial_begin(struct app *app)
{
    if (app->options->frozen || !app->opened || app->trial.asked || run_going(app))
        return;
    struct trial_task *t = calloc(1, sizeof *t);
    if (!t)
        return;
    const unsigned processors = sl_processors();
    *t = (struct trial_task){ .task = { .work = trial_work, .apply = trial_apply, .drop = trial_drop }, .opened = opened_use(app->opened) };
    t->made.readers = processors > MOST_READERS ? MOST_READERS : processors;
    app->trial = (struct trial){ .asked = true };
    jobs_add(app->jobs, LANE_STATS, &t->task);
}

/* Fast: writing costs nothing besides reading. Slow: it runs at half the speed of reading, and after it. */
bool trial_seconds(const struct app *app, double *fast, double *slow)
{
    const struct trial *t = &app->trial;
    const struct sl_plan_info *info = app->plan.info;
    if (!t->done || t->read_rate <= 0 || t->work_rate <= 0 || !info)
        return false;
    const int verify = app->convert.choice[FIELD_VERIFY];     /* 0 reread: both sides; 1: what was written; 2: nothing */
    const double r = (double)info->read_bytes, w = (double)info->write_bytes, work = t->work_rate * t->readers;
    const double again = verify == 0 ? r + w : verify == 1 ? w : 0;
    const double copy = r / t->read_rate > w / work ? r / t->read_rate : w / work;
    const double back = again / t->read_rate > again / work ? again / t->read_rate : again / work;
    *fast = copy + back;
    *slow = r / t->read_rate + w / work + 2 * w / t->read_rate + again / t->read_rate + again / work;
    return true;
}
