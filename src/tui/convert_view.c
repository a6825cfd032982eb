/* convert_view.c: the guided conversion as a screen: fields with what they could
 * be and why not, checks with signs, cost against what is there. */
#include "tui/convert.h"
#include <stdio.h>
#include <string.h>

#define LABEL_COL 2
#define VALUE_COL 17
#define SIZES_COL 23
#define ROWS_FOR_HELP 8              /* of the body; below, the fields need the rows more */

/* ---- fields ------------------------------------------------------------------------ */

static void draw_choices(struct pane p, int row, int col, const struct field_row *f, int chosen, bool here)
{
    int width = 0;
    for (int i = 0; f->choices[i].title; i++)
        width += 6 + (int)strlen(f->choices[i].title);
    if (col + width - 2 > p.cols) {          /* no room for all: the chosen one alone */
        pane_printf(p, row, col, here ? STYLE_SELECTED : STYLE_TEXT, "(x) %s", f->choices[chosen].title);
        return;
    }
    for (int i = 0; f->choices[i].title; i++) {
        col += pane_text(p, row, col, i == chosen ? (here ? STYLE_SELECTED : STYLE_HEAD) : STYLE_DIM, i == chosen ? "(x) " : "( ) ");
        col += pane_text(p, row, col, i == chosen ? STYLE_TEXT : STYLE_DIM, f->choices[i].title) + 2;
    }
}

/* "1 (2) 4 !8": what could be chosen, and what not; the reason stands below. */
static void draw_sizes(struct app *app, struct pane p, int row, enum field f)
{
    struct sl_size_choice sizes[MOST_SIZES];
    const size_t count = field_sizes(app, f, sizes);
    const int32_t now = field_size(app, f);
    int col = SIZES_COL;
    char text[24];
    for (size_t i = 0; i < count; i++) {
        const bool chosen = sizes[i].size == now;
        snprintf(text, sizeof text, "%s%s%d%s", sizes[i].fits ? "" : "!", chosen ? "(" : "", sizes[i].size, chosen ? ")" : "");
        if (col + (int)strlen(text) > p.cols)
            return;
        col += pane_text(p, row, col, !sizes[i].fits ? (chosen ? STYLE_BAD : STYLE_DIM) : chosen ? STYLE_HEAD : STYLE_TEXT, text) + 2;
    }
}

static void draw_source(struct app *app, struct pane p, int row, int col)
{
    const struct sl_checkpoint_info *info = app->opened ? app->opened->info : NULL;
    char text[200] = "";
    size_t used = 0;
    if (!info)
        return;
    used = (size_t)snprintf(text, sizeof text, "%s, %s", sl_container_name(info->container),
                            info->model ? info->model : info->family_title ? info->family_title : "family not known");
    if (info->rank_count && used < sizeof text)
        used += (size_t)snprintf(text + used, sizeof text - used, ", TP%d x PP%d", info->parallel.tp, info->parallel.pp);
    if (info->rank_count && info->parallel.ep > 1 && used < sizeof text)
        snprintf(text + used, sizeof text - used, " x EP%d", info->parallel.ep);
    pane_name(p, row, col, p.cols - col, STYLE_TEXT, text);
}

static void draw_value(struct app *app, struct pane p, int row, enum field f, bool here)
{
    const struct convert_state *c = &app->convert;
    const struct field_row *r = &field_rows[f];
    if (r->kind == FIELD_CHOICE)
        draw_choices(p, row, VALUE_COL, r, c->choice[f], here);
    else if (r->kind == FIELD_INFO)
        draw_source(app, p, row, VALUE_COL);
    else if (*c->text[f])
        pane_name(p, row, VALUE_COL, p.cols - VALUE_COL, STYLE_TEXT, c->text[f]);
    else
        pane_text(p, row, VALUE_COL, STYLE_DIM, r->empty ? r->empty : "-");
    if (r->kind == FIELD_SIZE)
        draw_sizes(app, p, row, f);
}

static void draw_field(struct app *app, struct pane p, int row, enum field f)
{
    char why[1600];
    const bool here = field_selected(app) == f;
    if (here) {
        pane_glyph(p, row, 0, STYLE_SELECTED, GLYPH_SELECT);
        pane_cursor(p, row, 0, false);
    }
    if (field_rows[f].kind == FIELD_BUTTON) {
        bool on = !convert_blocked(app, why, sizeof why);
        pane_printf(p, row, LABEL_COL, on ? STYLE_GOOD : STYLE_DIM, on ? "[ START ]" : "[ START is off ]");
        return;
    }
    pane_text(p, row, LABEL_COL, here ? STYLE_SELECTED : STYLE_HEAD, field_rows[f].label);
    draw_value(app, p, row, f, here);
}

static void draw_fields(struct app *app, struct pane p)
{
    struct list *l = &app->convert.list;
    char more[48];
    list_show(l, p.rows, LIST_ROWS);
    for (int row = 0; row < p.rows && l->top + (size_t)row < l->count; row++)
        draw_field(app, p, row, app->convert.shown[l->top + (size_t)row]);
    const size_t below = l->count - l->top > (size_t)p.rows ? l->count - l->top - (size_t)p.rows : 0;
    snprintf(more, sizeof more, " %zu more below", below);
    if (below && p.rows > 0 && p.cols > 60)
        pane_right(p, p.rows - 1, p.cols, STYLE_DIM, more);
}

/* As many whole sentences as fit on a line. */
static void draw_sentences(struct pane p, const char *text)
{
    char line[320];
    size_t end = 0;
    for (size_t i = 0; text[i] && i < (size_t)p.cols && i < sizeof line - 1; i++)
        if (text[i] == '.' && (text[i + 1] == ' ' || !text[i + 1]))
            end = i + 1;
    snprintf(line, sizeof line, "%.*s", end ? (int)end : (int)sizeof line - 1, text);
    pane_textw(p, 0, 0, p.cols, STYLE_DIM, line);
}

/* What the selected field is, and why sizes of it are not possible. */
static int draw_help(struct app *app, struct pane p)
{
    const enum field f = field_selected(app);
    struct sl_size_choice sizes[MOST_SIZES];
    const size_t count = field_rows[f].kind == FIELD_SIZE ? field_sizes(app, f, sizes) : 0;
    int row = 1;
    if (p.rows > 1 + (count > 0))
        row = pane_wrap(p, 0, 0, STYLE_DIM, field_rows[f].help);
    else
        draw_sentences(p, field_rows[f].help);
    for (int pass = 0; pass < 2; pass++)             /* the chosen size first */
        for (size_t i = 0; i < count && row < p.rows; i++)
            if (!sizes[i].fits && (sizes[i].size == field_size(app, f)) == (pass == 0))
                pane_printf(p, row++, 0, pass ? STYLE_DIM : STYLE_BAD, "!%d  %s", sizes[i].size, sizes[i].why);
    return row < p.rows ? row : p.rows;
}

/* ---- checks -------------------------------------------------------------------------- */

struct check { char sign; char text[320]; };
#define CHECKS 12
static void check_set(struct check *c, char sign, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void check_set(struct check *c, char sign, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    c->sign = sign;
    vsnprintf(c->text, sizeof c->text, format, args);
    va_end(args);
}

static void check_unfinished(struct app *app, struct check *c)
{
    const struct sl_place *p = &app->plan.place;
    const bool same = !strcmp(p->plan, app->plan.info->hash);
    char ago[32] = "";
    if (!app->options->frozen && p->age >= 0)
        snprintf(ago, sizeof ago, ", %s ago", duration_text(p->age, (char[32]){ 0 }, 32));
    if (same)
        check_set(c, '~', "an unfinished run is there: %llu of %zu tensors written%s; resume goes on with it", (unsigned long long)p->tensors_written,
                  app->plan.info->target_count, ago);
    else
        check_set(c, '!', "an unfinished run of another plan is there: %llu tensors written%s", (unsigned long long)p->tensors_written, ago);
}

static void check_place(struct app *app, struct check *c)
{
    const struct sl_place *p = &app->plan.place;
    const int choice = app->convert.choice[FIELD_EXISTS];
    if (!*app->convert.text[FIELD_PLACE])
        check_set(c, '!', "no place is chosen");
    else if (p->state == SL_PLACE_WRITING)
        check_set(c, '!', "process %lld on %s writes there now", (long long)p->pid, p->host);
    else if (p->state == SL_PLACE_UNFINISHED)
        check_unfinished(app, c);
    else if (p->exists)
        check_set(c, choice == EXISTS_REPLACE ? '~' : '!', choice == EXISTS_REPLACE ? "the place exists and is replaced, last of all"
                  : "the place exists and is not overwritten");
    else
        check_set(c, '=', "the place is new, nothing is overwritten%s", p->parent_missing ? "; its parent folder is made" : "");
}

static void check_disk(struct app *app, struct check *c)
{
    const struct sl_plan_info *info = app->plan.info;
    char a[32], b[32];
    const uint64_t room = app->options->frozen ? 0 : app->plan.place.free_bytes;
    const char *s = info->file_count == 1 ? "" : "s";
    sl_text_bytes(info->write_bytes, a, sizeof a);
    if (!room)
        check_set(c, 'o', "writes %s in %zu file%s, %zu left out%s", a, info->file_count, s, info->left_out_count,
                  app->options->frozen ? "" : "; free space not known");
    else
        check_set(c, space_short(app) ? '!' : '=', "writes %s in %zu file%s, free %s; %zu left out", a, info->file_count, s,
                  sl_text_bytes(room, b, sizeof b), info->left_out_count);
}

static void check_memory(struct app *app, struct check *c)
{
    char a[32], b[32];
    const uint64_t there = app->options->frozen ? 0 : app->plan.memory_available;
    sl_text_bytes(app->plan.info->memory_bytes, a, sizeof a);
    if (there)
        check_set(c, memory_short(app) ? '~' : '=', "needs %s of buffers, %s of memory is there", a, sl_text_bytes(there, b, sizeof b));
    else
        check_set(c, 'o', "needs %s of buffers", a);
}

static void check_time(struct app *app, struct check *c)
{
    const struct trial *t = &app->trial;
    double fast, slow;
    char a[32], b[32], rate[32], bytes[32];
    sl_text_bytes(app->plan.info->read_bytes, bytes, sizeof bytes);
    if (trial_seconds(app, &fast, &slow))
        check_set(c, 'o', "reads %s: %s .. %s (%u reader%s tried: %s; writing is not)", bytes, duration_text(fast, a, sizeof a),
                  duration_text(slow, b, sizeof b), t->readers, t->readers == 1 ? "" : "s", rate_text(t->read_rate, rate, sizeof rate));
    else
        check_set(c, t->asked && !t->done ? '.' : 'o', "reads %s; %s", bytes, t->asked && !t->done ? "trying how fast, for half a second" : "how long was not tried");
}

static int check_beside(struct app *app, struct check *c, int room)
{
    const struct planned *p = &app->plan;
    int n = 0;
    for (size_t i = 0; i < p->left_count && n < room; i++)
        check_set(&c[n++], 'i', "beside it: %.120s, %s, %llu tensors written; Space on place takes it up", p->left[i].name,
                  p->left[i].state == SL_PLACE_WRITING ? "being written" : "unfinished", (unsigned long long)p->left[i].tensors);
    return n;
}

static int checks_of(struct app *app, struct check *c)
{
    const struct planned *p = &app->plan;
    int n = 0;
    size_t faults = finding_tally(app, SL_ERROR), warnings = finding_tally(app, SL_WARNING);
    if (app->load == LOAD_FAILED) {
        check_set(&c[n++], '!', "nothing is open; change what is named above, or mend it and press R");
        return n;
    }
    if (app->plan_state != PLAN_DONE) {
        check_set(&c[n++], app->plan_state == PLAN_FAILED ? '!' : '.', app->plan_state == PLAN_FAILED ? "no plan: see above" : "planning");
        return n;
    }
    if (app->canvas.cols >= 120)
        check_set(&c[n++], '=', "%s", p->info->proof ? p->info->proof : "the plan is proved");
    else
        check_set(&c[n++], '=', "proved: each of %zu target tensors is written once and whole", p->info->target_count);
    check_place(app, &c[n++]);
    check_disk(app, &c[n++]);
    check_memory(app, &c[n++]);
    check_time(app, &c[n++]);
    if (faults || warnings)
        check_set(&c[n++], '~', "%zu fault%s, %zu warning%s: f shows them", faults, faults == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s");
    n += check_beside(app, &c[n], CHECKS - n - 1);
    if (p->info->note_count)
        check_set(&c[n++], 'i', "%zu note%s: %.200s", p->info->note_count, p->info->note_count == 1 ? "" : "s", p->info->notes[0].message);
    return n;
}

static int draw_checks(struct app *app, struct pane p, bool wrap)
{
    struct check checks[CHECKS];
    int count = checks_of(app, checks), row = 0;
    for (int i = 0; i < count && row < p.rows; i++) {
        pane_text(p, row, 0, sign_style(checks[i].sign), (char[]){ checks[i].sign, '\0' });
        struct pane text = pane_part(p, row, 2, wrap ? p.rows - row : 1, p.cols - 2);
        row += wrap ? pane_wrap(text, 0, 0, STYLE_TEXT, checks[i].text) : (pane_textw(text, 0, 0, text.cols, STYLE_TEXT, checks[i].text), 1);
    }
    return row;
}

/* ---- the screen ------------------------------------------------------------------------ */

static int draw_status(struct app *app, struct pane p)
{
    char why[1600], text[1700];
    if (!convert_blocked(app, why, sizeof why)) {
        const int choice = app->convert.choice[FIELD_EXISTS];
        pane_text(p, 0, 0, STYLE_GOOD, choice == EXISTS_RESUME && app->plan.place.state == SL_PLACE_UNFINISHED
                  ? "= everything is ready: S goes on with the unfinished run" : "= everything is ready: S starts. Nothing was written so far.");
        return 1;
    }
    bool waiting = app->load == LOAD_BUSY || app->plan_state == PLAN_BUSY;
    snprintf(text, sizeof text, "%c START is off: %s", waiting ? '.' : '!', why);
    return pane_wrap(p, 0, 0, waiting ? STYLE_DIM : STYLE_BAD, text);
}

static void draw_promises(struct pane p, int row)
{
    static const char *const promises[] = {
        "every target byte comes from one place of the source",
        "every source weight is used, or left out by name",
        "the folder gets its name only when it is whole",
        "a stop or a crash leaves what --resume goes on with",
    };
    pane_text(p, row++, 0, STYLE_HEAD, "what is promised");
    for (size_t i = 0; i < sizeof promises / sizeof promises[0]; i++)
        row += pane_wrap(p, row, 2, STYLE_TEXT, promises[i]);
}

static void draw_wide(struct app *app, struct pane p)
{
    int left = p.cols * 60 / 100;
    struct pane box = pane_box(pane_part(p, 0, 0, p.rows, left), "choose");
    const int count = (int)app->convert.list.count, most = box.rows > 8 ? box.rows - 5 : box.rows;
    draw_fields(app, pane_take(&box, count < most ? count : most));
    pane_take(&box, 1);
    draw_help(app, pane_part(box, 0, LABEL_COL, box.rows, box.cols - 2 * LABEL_COL));
    struct pane right = pane_box(pane_part(p, 0, left, p.rows, p.cols - left), "checks and cost");
    int used = draw_checks(app, right, true);
    if (right.rows - used > 10)
        draw_promises(right, used + 1);
}

void convert_draw(struct app *app, struct pane p)
{
    bool wide = p.cols >= 120 && p.rows >= 20;
    p = pane_part(p, 0, p.cols > 30, p.rows, p.cols - 2 * (p.cols > 30));
    struct pane status = pane_part(p, 0, 0, p.rows > 14 ? 3 : p.rows > 12 ? 2 : 1, p.cols);
    pane_take(&p, draw_status(app, status));
    if (wide) {
        draw_wide(app, p);
        return;
    }
    const int count = (int)app->convert.list.count, sizes = field_rows[field_selected(app)].kind == FIELD_SIZE;
    const int below = p.rows >= 14 ? 6 + sizes : p.rows >= ROWS_FOR_HELP ? 2 : 0;
    const int rows = count < p.rows - below ? count : p.rows - below;
    draw_fields(app, pane_take(&p, rows));
    if (p.rows > 0)
        draw_help(app, pane_part(pane_take(&p, 1 + (sizes && p.rows > 3)), 0, LABEL_COL, p.rows, p.cols - LABEL_COL));
    draw_checks(app, p, false);
}
