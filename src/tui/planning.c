/* planning.c: makes the plan in the background. A plan that was asked for
 * before the last change of a field is dropped when it comes. */
#include "tui/app.h"
#include "base/error.h"
#include "base/arena.h"
#include "base/io.h"
#include "base/pool.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plan_task {
    struct task task;
    struct opened *opened;
    uint64_t number;
    struct sl_plan_options options;     /* its strings are ours: */
    char *place, *hf_config, *pp_layout;
    struct planned made;
    int code;
    struct sl_error error;
};

/* Unfinished runs in the folder that the place is in, the place's own left out. */
#define JOURNAL ".partial.journal"
static void look_beside(const char *place, struct planned *p)
{
    struct sl_arena arena = { 0 };
    const char *slash = strrchr(place, '/'), *const *names;
    char folder[LONGEST_FIELD], path[2 * LONGEST_FIELD];
    size_t count = 0;
    snprintf(folder, sizeof folder, "%.*s", slash == place ? 1 : slash ? (int)(slash - place) : 1, slash ? place : ".");
    if (sl_folder_list(folder, 100000, &arena, &names, &count, NULL))
        count = 0;
    for (size_t i = 0; i < count && p->left_count < MOST_LEFT; i++) {
        struct left_run *left = &p->left[p->left_count];
        struct sl_place found;
        const size_t len = strlen(names[i]);
        if (!sl_text_ends(names[i], JOURNAL) || len - strlen(JOURNAL) >= sizeof left->name)
            continue;
        snprintf(left->name, sizeof left->name, "%.*s", (int)(len - strlen(JOURNAL)), names[i]);
        snprintf(path, sizeof path, "%s/%s", folder, left->name);
        if (!strcmp(left->name, slash ? slash + 1 : place) || sl_place_look(path, &found, NULL))
            continue;
        left->tensors = found.tensors_written;
        left->state = found.state;
        p->left_count++;
    }
    sl_arena_free(&arena);
}

static void plan_work(struct task *task)
{
    struct plan_task *t = (struct plan_task *)task;
    t->code = sl_plan_make(t->opened->ck, *t->place ? t->place : NULL, &t->options, &t->made.plan, &t->error);
    if (t->code)
        return;
    t->made.info = sl_plan_info(t->made.plan);
    t->made.memory_available = sl_memory_available();
    if (!*t->place)
        return;
    t->made.looked = sl_place_look(t->place, &t->made.place, NULL) == SL_OK;
    look_beside(t->place, &t->made);
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
    if (app->plan.looked)
        convert_place_known(app);
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
    free(t->pp_layout);
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
    t->pp_layout = t->options.pp_layout ? strdup(t->options.pp_layout) : NULL;
    t->options.pp_layout = t->pp_layout;
    if (!t->place) {
        free(t->hf_config);
        free(t->pp_layout);
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
