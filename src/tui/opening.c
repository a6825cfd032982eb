/* opening.c: opening, checking and saving, in the background. */
#include "tui/opening.h"
#include "base/error.h"
#include "base/io.h"
#include "tui/app.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what is shared ---------------------------------------------------------------- */

struct opened *opened_use(struct opened *o)
{
    if (o)
        o->users++;
    return o;
}

static void opened_free(struct opened *o)
{
    for (int m = 0; m < TREE_MODES; m++)
        tree_free(&o->trees[m]);
    free(o->logical_of);
    experts_free(&o->experts);
    chunks_free(&o->chunks);
    strip_free(&o->strip);
    sl_close(o->ck);
    free(o);
}

void opened_drop(struct opened *o)
{
    if (o && --o->users == 0)
        opened_free(o);
}

void planned_free(struct planned *p)
{
    sl_plan_free(p->plan);
    *p = (struct planned){ 0 };
}

/* ---- names in the folder: shown while headers are read -------------------------------- */

#define MOST_NAMES 4096
struct names_task { struct task task; char *path; struct sl_arena arena; const char *const *names; size_t count; };

static void names_work(struct task *task)
{
    struct names_task *t = (struct names_task *)task;
    if (sl_folder_list(t->path, SIZE_MAX, &t->arena, &t->names, &t->count, NULL))
        t->count = 0;
}

void open_names_free(struct app *app)
{
    for (size_t i = 0; i < app->name_count; i++)
        free(app->names[i]);
    free(app->names);
    app->names = NULL;
    app->name_count = app->name_total = 0;
}

static void names_apply(struct app *app, struct task *task)
{
    struct names_task *t = (struct names_task *)task;
    size_t count = t->count < MOST_NAMES ? t->count : MOST_NAMES;
    open_names_free(app);
    app->names = calloc(count + 1, sizeof *app->names);
    for (size_t i = 0; app->names && i < count; i++) {
        char *name = strdup(t->names[i]);
        if (!name)
            break;
        app->names[app->name_count++] = name;
    }
    app->name_total = t->count;
}

static void names_drop(struct app *app, struct task *task)
{
    struct names_task *t = (struct names_task *)task;
    (void)app;
    sl_arena_free(&t->arena);
    free(t->path);
    free(t);
}

/* ---- headers ---------------------------------------------------------------------------- */

struct open_task {
    struct task task;
    char *path;
    struct sl_open_options options;      /* strings below */
    char *model, *family_file, *hf_config, *sets[64];
    struct opened *opened;
    int code;
    struct sl_error error;
};

static char *copy_of(const char *s) { return s ? strdup(s) : NULL; }

static int by_bytes(const void *a, const void *b)
{
    const struct kind_total *x = a, *y = b;
    return x->bytes != y->bytes ? (x->bytes > y->bytes ? -1 : 1) : strcmp(x->kind, y->kind);
}

static void kinds_of(struct opened *o)
{
    for (size_t i = 0; i < sl_logical_count(o->ck); i++) {
        const struct sl_logical *l = sl_logical_at(o->ck, i);
        size_t k = 0;
        while (k < o->kind_count && strcmp(o->kinds[k].kind, l->kind))
            k++;
        if (k == MOST_KINDS)
            k = MOST_KINDS - 1;
        else if (k == o->kind_count)
            o->kinds[o->kind_count++].kind = l->kind;
        o->kinds[k].bytes += l->bytes;
        o->kinds[k].tensors++;
    }
    qsort(o->kinds, o->kind_count, sizeof o->kinds[0], by_bytes);
}

static bool pieces_of(struct opened *o)
{
    size_t count = sl_tensor_count(o->ck);
    o->logical_of = malloc((count + 1) * sizeof *o->logical_of);
    if (!o->logical_of)
        return false;
    memset(o->logical_of, 0xff, (count + 1) * sizeof *o->logical_of);
    for (size_t i = 0; i < sl_logical_count(o->ck); i++) {
        const struct sl_logical *l = sl_logical_at(o->ck, i);
        for (size_t k = 0; k < l->piece_count; k++)
            o->logical_of[l->pieces[k]] = (uint32_t)i;
    }
    return true;
}

static void open_work(struct task *task)
{
    struct open_task *t = (struct open_task *)task;
    struct opened *o = calloc(1, sizeof *o);
    if (!o) {
        t->code = sl_fail_memory(&t->error, sizeof *o);
        return;
    }
    t->code = sl_open(t->path, &t->options, &o->ck, &t->error);
    if (t->code) {
        free(o);
        return;
    }
    o->info = sl_info(o->ck);
    o->users = 1;
    kinds_of(o);
    for (int m = 0; m < TREE_MODES && !t->code; m++)
        if (!tree_build(&o->trees[m], o->ck, (enum tree_mode)m))
            t->code = sl_fail_memory(&t->error, sl_tensor_count(o->ck) * sizeof(struct tree_node));
    if (!t->code && (!pieces_of(o) || !experts_map(&o->experts, o->ck) || !chunks_map(&o->chunks, o->ck)))
        t->code = sl_fail_memory(&t->error, sizeof(struct expert_map));
    if (t->code)
        opened_drop(o);
    else
        t->opened = o;
}

static void forget(struct app *app)
{
    inspect_forget(app);
    layers_forget(app);
    map_forget(app);
    if (!run_going(app) && !app->run.attached)
        run_forget(app);
    sl_job_free(app->check);
    app->check = NULL;
    app->checked = NULL;
    app->check_going = app->check_deep = false;
    planned_free(&app->plan);
    app->plan_state = PLAN_NONE;
    app->trial = (struct trial){ 0 };
    opened_drop(app->opened);
    app->opened = NULL;
}

static void open_apply(struct app *app, struct task *task)
{
    struct open_task *t = (struct open_task *)task;
    forget(app);
    app->finding = 0;
    if (t->code) {
        app->load = LOAD_FAILED;
        app->open_error = t->error;
        return;
    }
    app->opened = t->opened;
    t->opened = NULL;
    app->load = LOAD_DONE;
    app->overview.rank = app->overview.chunk = 0;
    finding_select(app);
    check_begin(app, false);
    tensors_ready(app);
    convert_opened(app);
    layers_want(app);
    convert_plan(app);
}

static void open_drop(struct app *app, struct task *task)
{
    struct open_task *t = (struct open_task *)task;
    if (app && app->opening == task)
        app->opening = NULL;
    opened_drop(t->opened);
    for (size_t i = 0; i < t->options.set_count; i++)
        free(t->sets[i]);
    free(t->model);
    free(t->family_file);
    free(t->hf_config);
    free(t->path);
    free(t);
}

void open_begin(struct app *app)
{
    struct names_task *n = calloc(1, sizeof *n);
    struct open_task *t = calloc(1, sizeof *t);
    app->load = LOAD_BUSY;
    if (!n || !t) {
        free(n);
        free(t);
        app->load = LOAD_FAILED;
        sl_fail_memory(&app->open_error, sizeof *t);
        return;
    }
    n->task = (struct task){ .work = names_work, .apply = names_apply, .drop = names_drop };
    n->path = copy_of(app->options->path);
    t->task = (struct task){ .work = open_work, .apply = open_apply, .drop = open_drop };
    t->path = copy_of(app->options->path);
    t->model = copy_of(app->open.model);
    t->family_file = copy_of(app->open.family_file);
    t->hf_config = copy_of(app->open.hf_config);
    t->options = (struct sl_open_options){ .model = t->model, .set = (const char *const *)t->sets,
                                           .family_file = t->family_file, .hf_config = t->hf_config };
    for (size_t i = 0; i < app->open.set_count && i < 64; i++)
        t->sets[t->options.set_count++] = copy_of(app->open.set[i]);
    task_cancel(app->opening);
    app->opening = &t->task;
    jobs_add(app->jobs, LANE_QUICK, &n->task);
    jobs_add(app->jobs, LANE_MAIN, &t->task);
}

void app_reopen(struct app *app)
{
    task_cancel(app->planning);
    if (app->check_going)
        sl_job_cancel(app->check, SL_INTERRUPTED);
    open_begin(app);
    app_say(app, STYLE_TEXT, "reading the headers again");
}

/* ---- check ------------------------------------------------------------------------------- */

struct check_task { struct task task; struct opened *opened; bool deep; int code; struct sl_error error; struct sl_job *job; };

static void check_work(struct task *task)
{
    struct check_task *t = (struct check_task *)task;
    t->code = sl_check_start(t->opened->ck, t->deep, NULL, &t->job, &t->error);
}

static void check_apply(struct app *app, struct task *task)
{
    struct check_task *t = (struct check_task *)task;
    if (t->opened != app->opened)
        return;
    app->check_starting = false;
    if (t->code) {
        if (t->deep)
            app_say(app, STYLE_BAD, "the check could not start: %s", t->error.message);
        return;
    }
    sl_job_free(app->check);
    app->check = t->job;
    t->job = NULL;
    app->check_deep = t->deep;
    app->check_going = true;
    app->checked = NULL;
}

static void check_drop(struct app *app, struct task *task)
{
    struct check_task *t = (struct check_task *)task;
    if (app)
        app->check_starting = false;
    sl_job_free(t->job);
    opened_drop(t->opened);
    free(t);
}

void check_begin(struct app *app, bool deep)
{
    struct check_task *t = calloc(1, sizeof *t);
    if (!t)
        return;
    *t = (struct check_task){ .task = { .work = check_work, .apply = check_apply, .drop = check_drop },
                              .opened = opened_use(app->opened), .deep = deep };
    app->check_starting = true;
    jobs_add(app->jobs, LANE_MAIN, &t->task);
}

void check_finished(struct app *app)
{
    struct sl_error err = { 0 };
    int code = sl_job_wait(app->check, &err);
    app->check_going = false;
    app->checked = sl_check_result(app->check);
    if (app->finding >= finding_count(app))
        app->finding = 0;
    tensors_signs(app);
    if (!app->check_deep)
        return;
    if (code == SL_INTERRUPTED)
        app_say(app, STYLE_WARN, "the deep check was stopped: not all values were read");
    else if (code && code != SL_NO)
        app_say(app, STYLE_BAD, "the deep check failed: %s", err.message);
    else
        app_say(app, STYLE_TEXT, "deep check: %s", app->checked && app->checked->verdict ? app->checked->verdict : "done");
}

void act_deep_check(struct app *app)
{
    if (!app->opened) {
        app_say(app, STYLE_DIM, "nothing is open that could be checked");
    } else if (app->check_going && app->check_deep) {
        sl_job_cancel(app->check, SL_INTERRUPTED);
        app_say(app, STYLE_WARN, "stopping the deep check");
    } else if (app->check_going || app->check_starting) {
        app_say(app, STYLE_DIM, "the headers are still being checked");
    } else {
        check_begin(app, true);
        app_say(app, STYLE_TEXT, "deep check: reading every value; D again stops it");
    }
}

/* ---- saving -------------------------------------------------------------------------------- */

struct save_task { struct task task; char *path; bool copy;  struct sl_buf text; const char *what; int code; struct sl_error error; };

/* The folder of a path is made, and what has that name goes. */
static bool make_way(const char *path)
{
    char folder[1200];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = '\0';
    return sl_folder_make(folder, NULL) || (unlink(path) && errno != ENOENT);
}

static void save_work(struct task *task)
{
    struct save_task *t = (struct save_task *)task;
    if (t->text.failed)
        t->code = sl_fail_memory(&t->error, t->text.room);
    else if (t->copy && make_way(t->path))
        t->code = SL_WRITE;
    else
        t->code = sl_write_new(t->path, t->text.data ? t->text.data : "", t->text.len, &t->error);
}

static void save_apply(struct app *app, struct task *task)
{
    struct save_task *t = (struct save_task *)task;
    char path[512];
    sl_printable(t->path, path, sizeof path);
    if (t->copy && !t->code)
        return;
    if (t->code)
        app_say(app, STYLE_BAD, "not saved: %s: %s", t->error.where, t->error.message);
    else
        app_say(app, STYLE_TEXT, "saved %s to %s", t->what, path);
}

static void save_drop(struct app *app, struct task *task)
{
    struct save_task *t = (struct save_task *)task;
    (void)app;
    sl_buf_free(&t->text);
    free(t->path);
    free(t);
}

void save_text(struct app *app, const char *path, struct sl_buf *text, const char *what)
{
    struct save_task *t = calloc(1, sizeof *t);
    if (!t) {
        sl_buf_free(text);
        return;
    }
    *t = (struct save_task){ .task = { .work = save_work, .apply = save_apply, .drop = save_drop },
                             .path = copy_of(path), .text = *text, .what = what };
    *text = (struct sl_buf){ 0 };
    jobs_add(app->jobs, LANE_QUICK, &t->task);
}

void save_copy(struct app *app, const char *path, struct sl_buf *text)
{
    struct save_task *t = calloc(1, sizeof *t);
    if (!t) {
        sl_buf_free(text);
        return;
    }
    *t = (struct save_task){ .task = { .work = save_work, .apply = save_apply, .drop = save_drop },
                             .path = copy_of(path), .text = *text, .copy = true };
    *text = (struct sl_buf){ 0 };
    jobs_add(app->jobs, LANE_QUICK, &t->task);
}

void save_screen(struct app *app, const char *path)
{
    struct sl_buf text = { 0 };
    app_draw(app);
    canvas_dump(&app->canvas, &text);
    save_text(app, path, &text, "this screen");
}
