/* findings.c: the verdict, findings and their cards, signs of state. */
#include "tui/app.h"
#include <stdio.h>
#include <string.h>

size_t finding_count(const struct app *app)
{
    return !app->opened ? 0 : app->checked ? app->checked->problem_count : app->opened->info->problem_count;
}

const struct sl_problem *finding_at(const struct app *app, size_t index)
{
    if (index >= finding_count(app))
        return NULL;
    return app->checked ? &app->checked->problems[index] : &app->opened->info->problems[index];
}

size_t finding_tally(const struct app *app, enum sl_severity severity)
{
    size_t n = 0;
    for (size_t i = 0; i < finding_count(app); i++)
        n += finding_at(app, i)->severity == severity;
    return n;
}

static const struct { char sign; enum style style; } severities[] = {
    [SL_NOTE] = { 'i', STYLE_ACCENT }, [SL_WARNING] = { '~', STYLE_WARN }, [SL_ERROR] = { '!', STYLE_BAD },
};
enum style severity_style(enum sl_severity severity) { return severities[severity].style; }
char severity_sign(enum sl_severity severity) { return severities[severity].sign; }

/* ---- signs ----------------------------------------------------------------------- */

enum style sign_style(char sign)
{
    switch (sign) {
    case '=': return STYLE_GOOD;
    case '~': return STYLE_WARN;
    case '!': case '-': return STYLE_BAD;
    case 'o': return STYLE_TEXT;
    case 'i': return STYLE_ACCENT;
    default: return STYLE_DIM;
    }
}

/* Were all values read and checked? A check that did not run never looks passed. */
static bool values_checked(const struct app *app)
{
    return app->checked && app->check_deep && app->checked->bytes_total > 0 &&
           app->checked->bytes_read >= app->checked->bytes_total;
}

char rank_sign(const struct app *app, const struct sl_rank *rank)
{
    switch (rank->status) {
    case SL_RANK_MISSING: return '-';
    case SL_RANK_DAMAGED: return '!';
    case SL_RANK_ODD: return '~';
    default: return values_checked(app) ? '=' : 'o';
    }
}

/* A tensor that a finding names takes its sign; worst findings stand first. */
#define FINDINGS_LOOKED_AT 256
static char named_sign(const struct app *app, const char *name)
{
    size_t count = finding_count(app) < FINDINGS_LOOKED_AT ? finding_count(app) : FINDINGS_LOOKED_AT;
    for (size_t i = 0; i < count; i++) {
        const struct sl_problem *p = finding_at(app, i);
        if (p->severity > SL_NOTE && p->where && strcmp(p->where, name) == 0)
            return severity_sign(p->severity);
    }
    return ' ';
}

char piece_sign(const struct app *app, size_t tensor)
{
    const struct sl_tensor *t = sl_tensor_at(app->opened->ck, tensor);
    char named = named_sign(app, t->path);
    if (named != ' ')
        return named;
    if (t->rank >= 0 && (size_t)t->rank < app->opened->info->rank_count)
        return rank_sign(app, &app->opened->info->ranks[t->rank]);
    return values_checked(app) ? '=' : 'o';
}

char logical_sign(const struct app *app, size_t logical)
{
    const struct sl_logical *l = sl_logical_at(app->opened->ck, logical);
    const struct stats_result *s = stats_of(app, (ptrdiff_t)logical);
    bool weight = l->piece_count && !(sl_tensor_at(app->opened->ck, l->pieces[0])->flags & (SL_TENSOR_EXTRA | SL_TENSOR_OPTIMIZER));
    char sign = l->odd && weight ? '~' : named_sign(app, l->name);
    if (sign != ' ')
        return sign;
    if (s && s->done && (s->whole.nan || s->whole.inf))
        return '~';
    static const char order[] = "=o.~-!";
    const char *worst = order;
    for (size_t i = 0; i < l->piece_count; i++) {
        const char *at = strchr(order, piece_sign(app, l->pieces[i]));
        worst = at && at > worst ? at : worst;
    }
    return *worst;
}

static const struct { char sign; } result_signs[] = {
    [SL_RESULT_PENDING] = { '.' },  [SL_RESULT_WRITTEN] = { 'o' },  [SL_RESULT_VERIFIED] = { '=' },
    [SL_RESULT_MISMATCH] = { '!' }, [SL_RESULT_EQUAL] = { '=' },    [SL_RESULT_DIFFERENT] = { '!' },
    [SL_RESULT_ONLY_A] = { '-' },   [SL_RESULT_ONLY_B] = { '-' },   [SL_RESULT_SHAPE] = { '!' },
};
char result_sign(enum sl_result_status status) { return result_signs[status].sign; }

const char *rank_name(const struct app *app, int32_t rank, char *out, size_t room)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    out[0] = '\0';
    if (rank < 0 || (size_t)rank >= info->rank_count)
        return out;
    const struct sl_rank *r = &info->ranks[rank];
    if (info->parallel.ep > 1)
        snprintf(out, room, "tp%d pp%d ep%d", r->tp, r->pp, r->ep);
    else
        snprintf(out, room, "tp%d pp%d", r->tp, r->pp);
    return out;
}

const char *piece_place(const struct app *app, size_t tensor, char *out, size_t room)
{
    const struct sl_tensor *t = sl_tensor_at(app->opened->ck, tensor);
    const struct sl_checkpoint_info *info = app->opened->info;
    if (t->rank >= 0 && (size_t)t->rank < info->rank_count)
        return rank_name(app, t->rank, out, room);
    if (t->file >= 0 && (size_t)t->file < info->file_count)
        return sl_printable(info->files[t->file].name, out, room);
    snprintf(out, room, "?");
    return out;
}

/* ---- the verdict: sign, word, counts, how much was read --------------------------- */

static size_t ranks_readable(const struct app *app)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    size_t good = 0;
    for (size_t i = 0; i < info->rank_count; i++)
        good += info->ranks[i].status == SL_RANK_OK || info->ranks[i].status == SL_RANK_ODD;
    return good;
}

const char *headers_read(const struct app *app, char *out, size_t room)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    size_t all = info->rank_count ? info->rank_count : info->file_count;
    snprintf(out, room, "headers %zu/%zu", info->rank_count ? ranks_readable(app) : all, all);
    return out;
}

const char *values_read(const struct app *app, char *out, size_t room)
{
    char done[32], all[32];
    if (app->check_deep && app->check_going)
        snprintf(out, room, "values %s of %s", sl_text_bytes(app->check_progress.bytes_done, done, sizeof done),
                 sl_text_bytes(app->check_progress.bytes_total, all, sizeof all));
    else if (values_checked(app) && ranks_readable(app) < app->opened->info->rank_count)
        snprintf(out, room, "values %zu/%zu", ranks_readable(app), app->opened->info->rank_count);
    else if (values_checked(app))
        snprintf(out, room, "values all read");
    else if (app->checked && app->check_deep && app->checked->bytes_read)
        snprintf(out, room, "values %s of %s", sl_text_bytes(app->checked->bytes_read, done, sizeof done),
                 sl_text_bytes(app->checked->bytes_total, all, sizeof all));
    else
        snprintf(out, room, "values not read");
    return out;
}

/* "31/32", headers or, once they were read, values; "o 4/4" says headers only. */
static const char *short_read(const struct app *app, char *out, size_t room)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    const size_t all = info->rank_count ? info->rank_count : info->file_count;
    snprintf(out, room, "%c %zu/%zu", values_checked(app) ? '=' : 'o', info->rank_count ? ranks_readable(app) : all, all);
    return out;
}

struct verdict { char sign; const char *word; };

static struct verdict verdict_of(const struct app *app)
{
    if (app->load == LOAD_BUSY && !app->opened)
        return (struct verdict){ '.', "READING HEADERS" };
    if (app->load == LOAD_FAILED)
        return (struct verdict){ '!', "CANNOT OPEN" };
    if (finding_tally(app, SL_ERROR))
        return (struct verdict){ '!', app->plan_state == PLAN_DONE ? "FAULTS, CONVERTIBLE" : "NOT CONVERTIBLE" };
    if (finding_tally(app, SL_WARNING))
        return (struct verdict){ '~', "USABLE, WITH WARNINGS" };
    return values_checked(app) ? (struct verdict){ '=', "SOUND" } : (struct verdict){ 'o', "HEADERS SOUND" };
}

static int add_part(struct pane p, int col, enum style style, const char *text)
{
    int width = text_cells(p.canvas, text);
    if (col + width > p.cols)
        return col;
    return col + pane_text(p, 0, col, style, text) + (p.cols > 100 ? 3 : 2);
}

void draw_verdict(struct app *app, struct pane p)
{
    struct verdict v = verdict_of(app);
    char text[160];
    int col = p.cols > 24 ? 1 : 0;
    size_t faults = finding_tally(app, SL_ERROR), warnings = finding_tally(app, SL_WARNING);
    snprintf(text, sizeof text, "%c", v.sign);
    col += pane_text(p, 0, col, sign_style(v.sign), text) + 1;
    if (p.cols >= 30 || !app->opened)
        col += pane_text(p, 0, col, sign_style(v.sign), v.word) + (p.cols > 60 ? 2 : 1);
    if (app->load == LOAD_FAILED)
        return;
    if (!app->opened) {
        snprintf(text, sizeof text, "%zu names in the folder", app->name_total);
        add_part(p, col, STYLE_TEXT, text);
        return;
    }
    if (faults) {
        snprintf(text, sizeof text, "%zu fault%s", faults, faults == 1 ? "" : "s");
        col = add_part(p, col, STYLE_BAD, text);
    }
    if (warnings) {
        snprintf(text, sizeof text, p.cols < 60 ? "%zu warn" : warnings == 1 ? "%zu warning" : "%zu warnings", warnings);
        col = add_part(p, col, STYLE_WARN, text);
    }
    if (!faults && !warnings)
        col = add_part(p, col, STYLE_TEXT, p.cols < 60 ? "0 faults" : "no faults, no warnings");
    if (p.cols >= 44)
        col = add_part(p, col, STYLE_TEXT, headers_read(app, text, sizeof text));
    col = p.cols < 44 ? add_part(p, col, STYLE_TEXT, short_read(app, text, sizeof text)) : add_part(p, col, STYLE_TEXT, values_read(app, text, sizeof text));
    if (finding_count(app) && p.cols - col > 8)
        pane_right(p, 0, p.cols - 1, STYLE_KEY, "f next");
}

/* ---- cards ----------------------------------------------------------------------------- */

static const struct { const char *label; size_t offset; } card_parts[] = {
    { "what", offsetof(struct sl_problem, message) }, { "expected", offsetof(struct sl_problem, expected) },
    { "cause", offsetof(struct sl_problem, cause) },  { "damage", offsetof(struct sl_problem, damage) },
    { "next", offsetof(struct sl_problem, next) },
};
#define CARD_PARTS (sizeof card_parts / sizeof card_parts[0])

static const char *card_part(const struct sl_problem *p, size_t part)
{
    const char *text;
    memcpy(&text, (const char *)p + card_parts[part].offset, sizeof text);
    return text ? text : "";
}

int draw_card(struct app *app, struct pane p, const struct sl_problem *problem, int scroll)
{
    int row = -scroll;
    char where[512];
    int col = pane_printf(p, row, 0, severity_style(problem->severity), "%c %s  %s", severity_sign(problem->severity),
                          sl_severity_name(problem->severity), problem->code);
    pane_printf(p, row, col + 2, STYLE_DIM, "%zu of %zu", app->finding + 1, finding_count(app));
    row++;
    if (*problem->where)
        pane_name(p, row++, 0, p.cols, STYLE_TEXT, sl_printable(problem->where, where, sizeof where));
    for (size_t i = 0; i < CARD_PARTS; i++) {
        const char *text = card_part(problem, i);
        if (!*text)
            continue;
        pane_text(p, row, 0, STYLE_HEAD, card_parts[i].label);
        struct pane right = pane_part(p, row > 0 ? row : 0, 0, p.rows, p.cols);
        int rows = pane_wrap(right, row > 0 ? 0 : row, 9, STYLE_TEXT, text);
        row += rows > 0 ? rows : 1;
    }
    return row + scroll;
}

void card_text(const struct sl_problem *problem, struct sl_buf *out)
{
    sl_buf_printf(out, "%s %s: %s\n", sl_severity_name(problem->severity), problem->code, problem->where);
    for (size_t i = 0; i < CARD_PARTS; i++)
        if (*card_part(problem, i))
            sl_buf_printf(out, "%-9s %s\n", card_parts[i].label, card_part(problem, i));
}

/* ---- f, F ---------------------------------------------------------------------------------- */

/* Does the finding speak of this rank? By folder name, or by "tp1 pp0". */
static bool about_rank(const struct app *app, const struct sl_problem *p, size_t rank)
{
    char text[64];
    const char *path = app->opened->info->ranks[rank].path;
    const char *at = path && *path ? strstr(p->where, path) : NULL;
    if (at && strchr(" /:,", at[strlen(path)]))          /* the whole name: the end counts too */
        return true;
    return strcmp(p->where, rank_name(app, (int32_t)rank, text, sizeof text)) == 0;
}

void finding_select(struct app *app)
{
    const struct sl_problem *p = finding_at(app, app->finding);
    for (size_t r = 0; p && r < app->opened->info->rank_count; r++)
        if (about_rank(app, p, r)) {
            app->overview.rank = r;
            return;
        }
}

const char *finding_rank(const struct app *app, const struct sl_problem *p, char *out, size_t room)
{
    out[0] = '\0';
    for (size_t r = 0; r < app->opened->info->rank_count && !*out; r++)
        if (about_rank(app, p, r))
            rank_name(app, (int32_t)r, out, room);
    return out;
}

static void step_finding(struct app *app, int step)
{
    size_t count = finding_count(app);
    if (!count) {
        app_say(app, STYLE_TEXT, app->opened ? "nothing was found so far; D reads and checks every value" : "nothing is open yet");
        return;
    }
    bool fresh = app->screen != SCREEN_OVERVIEW || (!app->overview.card && app->finding == 0 && step > 0);
    if (!fresh)
        app->finding = (app->finding + (step > 0 ? 1 : count - 1)) % count;
    app_go(app, SCREEN_OVERVIEW);
    app->overview.card = true;
    app->overview.scroll = 0;
    app->overview.panel = PANEL_FINDING;
    finding_select(app);
    const struct sl_problem *p = finding_at(app, app->finding);
    app_say(app, severity_style(p->severity), "finding %zu of %zu: %s", app->finding + 1, count, p->code);
}
void act_next_finding(struct app *app) { step_finding(app, 1); }
void act_previous_finding(struct app *app) { step_finding(app, -1); }
