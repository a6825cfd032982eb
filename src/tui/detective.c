/* detective.c: the layout detective in the inspector. */
#include "tui/detective.h"
#include "tui/app.h"
#include <stdlib.h>
#include <string.h>

struct detective_task { struct task task; struct opened *opened; struct sl_layout_report *report; int code; struct sl_error error; };

static void detective_work(struct task *task)
{
    struct detective_task *t = (struct detective_task *)task;
    t->code = sl_layout_look(t->opened->ck, &task->cancel, &t->report, &t->error);
}

static void detective_apply(struct app *app, struct task *task)
{
    struct detective_task *t = (struct detective_task *)task;
    if (t->opened != app->opened)
        return;
    app->detective.failed = t->code != 0;
    app->detective.error = t->error;
    app->detective.report = t->code ? NULL : t->report;
    t->report = t->code ? t->report : NULL;
}

static void detective_drop(struct app *app, struct task *task)
{
    struct detective_task *t = (struct detective_task *)task;
    if (app && app->detective.task == task)
        app->detective.task = NULL;
    sl_layout_report_free(t->report);
    opened_drop(t->opened);
    free(t);
}

void detective_want(struct app *app)
{
    struct detective_state *d = &app->detective;
    struct detective_task *t = app->opened && !d->report && !d->failed && !d->task ? calloc(1, sizeof *t) : NULL;
    if (!t)
        return;
    *t = (struct detective_task){ .task = { .work = detective_work, .apply = detective_apply, .drop = detective_drop },
                                  .opened = opened_use(app->opened) };
    d->task = &t->task;
    jobs_add(app->jobs, LANE_MAIN, &t->task);
}

void detective_forget(struct app *app)
{
    task_cancel(app->detective.task);
    sl_layout_report_free(app->detective.report);
    app->detective = (struct detective_state){ 0 };
}

/* ---- drawing ------------------------------------------------------------------------- */

/* Which tensors a question is about. */
static const struct { const char *question, *kind; } about[] = {
    { "qkv", "attention" }, { "rope", "attention" }, { "gate-up", "mlp" }, { "gate-up", "experts" },
};

static bool concerns(const struct sl_layout_finding *f, const struct sl_logical *l)
{
    for (size_t i = 0; i < sizeof about / sizeof about[0]; i++)
        if (strcmp(about[i].question, f->question) == 0 && strcmp(about[i].kind, l->kind) == 0)
            return true;
    return false;
}

/* Wrapped text; the rows it needs, were there room or not. */
static int wrapped(struct pane p, int row, enum style style, const char *text)
{
    pane_wrap(p, row, 21, style, text);
    return pane_wrap_rows(p, 21, text);
}

static int draw_finding(struct pane p, int row, const struct sl_layout_finding *f, bool here)
{
    const char sign = !f->told ? 'o' : f->as_read ? '=' : '!';
    const enum style style = here ? STYLE_TEXT : STYLE_DIM;
    pane_text(p, row, 0, sign_style(sign), (char[]){ sign, '\0' });
    pane_text(p, row, 2, here ? STYLE_HEAD : STYLE_DIM, f->question);
    pane_text(p, row, 11, style, f->told ? sl_confidence_name(f->confidence) : "not told");
    int used = wrapped(p, row, style, f->answer);
    if (f->told && !f->as_read)
        used += wrapped(p, row + used, STYLE_BAD, "it is read in another order: the conversion would put rows in wrong places");
    used = used > 0 ? used : 1;
    if (*f->measure)
        used += wrapped(p, row + used, STYLE_DIM, f->measure);
    return used;
}

void detective_draw(struct app *app, struct pane p, const struct sl_logical *l, int skip)
{
    struct detective_state *d = &app->detective;
    int row = 1 - skip;
    d->below = 0;
    if (skip == 0)
        pane_text(p, 0, 0, STYLE_HEAD, "the order of rows, from statistics of the weights: an indication, not a proof");
    if (d->failed) {
        pane_wrap(p, 1, 0, STYLE_DIM, d->error.message);
        return;
    }
    if (!d->report) {
        pane_text(p, 1, 0, STYLE_DIM, "reading attention and gated matrices of some layers");
        return;
    }
    for (size_t i = 0; i < sl_layout_finding_count(d->report); i++) {
        const struct sl_layout_finding *f = sl_layout_finding(d->report, i);
        row += draw_finding(p, row, f, concerns(f, l));
    }
    d->below = row + skip > p.rows ? row + skip - p.rows : 0;
}
