/* attach.c: a conversion of another process, shown from what it tells beside its
 * target. Looked at once a second, in the background; nothing is opened but files. */
#include "tui/app.h"
#include "base/pool.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS_BETWEEN_LOOKS UINT64_C(1000000000)

struct look_task { struct task task; char target[LONGEST_FIELD]; struct sl_place place; int code; struct sl_error error; };

static void look_work(struct task *task)
{
    struct look_task *t = (struct look_task *)task;
    t->code = sl_place_look(t->target, &t->place, &t->error);
}

/* What its state means for the screen. */
static void take_state(struct run_state *r, const struct sl_place *p)
{
    const bool was_seen = r->place != NULL && r->place->told;
    switch (p->state) {
    case SL_PLACE_WRITING:
        r->state = RUN_GOING;
        return;
    case SL_PLACE_EXISTS:
        r->state = RUN_DONE;
        return;
    case SL_PLACE_UNFINISHED:
        r->state = RUN_FAILED;
        r->error = (struct sl_error){ .code = p->ended ? (enum sl_code)p->code : SL_TERMINATED };
        snprintf(r->error.message, sizeof r->error.message, "%s", p->ended ? p->message : "its process is gone; the same conversion with --resume goes on");
        return;
    default:
        r->state = RUN_FAILED;
        r->error = (struct sl_error){ .code = SL_INPUT };
        snprintf(r->error.message, sizeof r->error.message, "%s", was_seen ? "it ended and left nothing" : "no conversion writes there");
    }
}

static void look_apply(struct app *app, struct task *task)
{
    struct look_task *t = (struct look_task *)task;
    struct run_state *r = &app->run;
    if (!r->attached)
        return;
    if (t->code) {
        r->state = RUN_FAILED;
        r->error = t->error;
        return;
    }
    take_state(r, &t->place);
    if (t->place.told || !r->place) {            /* the last numbers stay when it is done */
        if (!r->place)
            r->place = calloc(1, sizeof *r->place);
        if (r->place)
            *r->place = t->place;
        r->progress = t->place.progress;
        if (r->progress.tensors_total > r->seen_count)
            r->seen_count = (size_t)r->progress.tensors_total;
        run_sample(r);
    }
    if (r->state == RUN_DONE && r->progress.all_total)
        r->progress.all_done = r->progress.all_total;
}

static void look_drop(struct app *app, struct task *task)
{
    if (app && app->run.looking == task)
        app->run.looking = NULL;
    free(task);
}

static void look_begin(struct app *app)
{
    struct run_state *r = &app->run;
    struct look_task *t = calloc(1, sizeof *t);
    if (!t)
        return;
    t->task = (struct task){ .work = look_work, .apply = look_apply, .drop = look_drop };
    snprintf(t->target, sizeof t->target, "%s", r->target);
    r->looking = &t->task;
    r->looked_ns = sl_now_ns();
    jobs_add(app->jobs, LANE_QUICK, &t->task);
}

void attach_begin(struct app *app)
{
    app->run.attached = true;
    app->run.state = RUN_STARTING;
    snprintf(app->run.target, sizeof app->run.target, "%s", app->options->attach);
    look_begin(app);
    app_go(app, SCREEN_RUN);
}

bool attach_update(struct app *app)
{
    const struct run_state *r = &app->run;
    if (!r->looking && r->state == RUN_GOING && sl_now_ns() - r->looked_ns >= NS_BETWEEN_LOOKS)
        look_begin(app);
    return false;
}

static bool is_here(const struct sl_place *p)
{
    char host[72] = "";
    return gethostname(host, sizeof host - 1) == 0 && !strcmp(host, p->host) && p->pid > 1;
}

static void stop_answer(struct app *app, const char *text, bool accepted)
{
    const struct run_state *r = &app->run;
    (void)text;
    if (!accepted || r->state != RUN_GOING || !r->place)
        app_say(app, STYLE_TEXT, accepted ? "it had ended already" : "the conversion goes on");
    else if (kill((pid_t)r->place->pid, SIGTERM))
        app_say(app, STYLE_BAD, "process %lld can't be told to stop: it is another user's, or gone", (long long)r->place->pid);
    else
        app_say(app, STYLE_WARN, "process %lld was told to stop in order", (long long)r->place->pid);
}

void attach_stop(struct app *app)
{
    const struct run_state *r = &app->run;
    if (r->state != RUN_GOING || !r->place)
        app_say(app, STYLE_DIM, "nothing runs there that could be stopped");
    else if (!is_here(r->place))
        app_say(app, STYLE_DIM, "it runs on %s: stop it there, kill %lld stops it in order", r->place->host, (long long)r->place->pid);
    else
        prompt_ask(app, "stop that conversion in order? what is done is kept, resume goes on with it", stop_answer);
}
