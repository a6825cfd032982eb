/* planning.c: makes the plan in the background. A plan that was asked for
 * before the last change of a field is dropped when it comes. */
#include "tui/app.h"
#include "base/error.h"
#include "base/io.h"
#include <stdlib.h>
#include <string.h>

struct plan_task {
    struct task task;
    struct opened *opened;
    uint64_t number;
    struct sl_plan_options options;     /* its strings are ours: */
    char *place, *hf_config;
    struct planned made;
    int code;
    struct sl_error error;
};

static bool parent_exists(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return true;
    char *parent = strndup(path, (size_t)(slash - path));
    bool exists = parent && sl_path_is_folder(parent);
    free(parent);
    return exists;
}

static void plan_work(struct task *task)
{
    struct plan_task *t = (struct plan_task *)task;
    t->code = sl_plan_make(t->opened->ck, *t->place ? t->place : NULL, &t->options, &t->made.plan, &t->error);
    if (t->code)
        return;
    t->made.info = sl_plan_info(t->made.plan);
    t->made.exists = *t->place && sl_path_exists(t->place);
    t->made.parent_missing = *t->place && !parent_exists(t->place);
}

static void plan_apply(struct app *app, struct task *task)
{
    struct plan_task *t = (struct plan_task *)task;
    if (t->opened != app->opened || t->number != app->plan_number)
        return;
    map_forget(app);
    planned_free(&app->plan);
    app->plan_error = t->error;
    app->plan_state = t->code ? PLAN_FAILED : PLAN_DONE;
    app->plan = t->made;
    t->made = (struct planned){ 0 };
    if (t->code)
        return;
    map_ready(app);
    if (app->plan.exists)
        convert_place_taken(app);
}

static void plan_drop(struct app *app, struct task *task)
{
    struct plan_task *t = (struct plan_task *)task;
    if (app && app->planning == task)
        app->planning = NULL;
    planned_free(&t->made);
    opened_drop(t->opened);
    free(t->place);
    free(t->hf_config);
    free(t);
}

static void failed(struct app *app)
{
    map_forget(app);
    planned_free(&app->plan);
    app->plan_state = PLAN_FAILED;
}

void plan_begin(struct app *app)
{
    struct plan_task *t = calloc(1, sizeof *t);
    if (!t)
        return;
    task_cancel(app->planning);
    app->planning = NULL;
    app->plan_number++;
    if (convert_plan_options(app, &t->options, &app->plan_error)) {
        failed(app);
        free(t);
        return;
    }
    t->place = strdup(app->convert.text[FIELD_PLACE]);
    t->hf_config = t->options.hf_config ? strdup(t->options.hf_config) : NULL;
    t->options.hf_config = t->hf_config;
    if (!t->place) {
        free(t->hf_config);
        free(t);
        return;
    }
    t->task = (struct task){ .work = plan_work, .apply = plan_apply, .drop = plan_drop };
    t->opened = opened_use(app->opened);
    t->number = app->plan_number;
    app->planning = &t->task;
    app->plan_state = PLAN_BUSY;
    jobs_add(app->jobs, LANE_MAIN, &t->task);
}
