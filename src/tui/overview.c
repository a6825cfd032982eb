/* overview.c: what it is, whether it is whole, what was found. */
#include "tui/app.h"
#include "tui/facts.h"
#include "tui/grid.h"
#include <stdio.h>
#include <string.h>

#define LABEL_WIDTH 9

static int draw_facts(struct app *app, struct pane p, bool two)
{
    struct fact facts[MOST_FACTS];
    size_t half, count = facts_of(app, facts, &half);
    int rows = two ? (int)(half > count - half ? half : count - half) : (int)count;
    for (size_t i = 0; i < count; i++) {
        int row = two && i >= half ? (int)(i - half) : (int)i, col = two && i >= half ? p.cols / 2 : 0;
        int width = two ? p.cols / 2 - 1 : p.cols;
        pane_textw(p, row, col, LABEL_WIDTH - 1, STYLE_HEAD, facts[i].label);
        pane_textw(p, row, col + LABEL_WIDTH, width - LABEL_WIDTH, STYLE_TEXT, facts[i].text);
    }
    return rows;
}

static void draw_files(struct app *app, struct pane p)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    struct list *l = &app->overview.files;
    list_count(l, info->file_count);
    list_show(l, p.rows, LIST_HALVES);
    for (int row = 0; row < p.rows && l->top + (size_t)row < l->count; row++) {
        const struct sl_file_info *f = &info->files[l->top + (size_t)row];
        bool selected = l->top + (size_t)row == l->selected;
        char size[32];
        if (selected) {
            pane_glyph(p, row, 0, STYLE_SELECTED, GLYPH_SELECT);
            pane_cursor(p, row, 0, false);
        }
        pane_name(p, row, 2, p.cols - 14, selected ? STYLE_SELECTED : STYLE_TEXT, f->name);
        pane_right(p, row, p.cols, STYLE_TEXT, sl_text_bytes(f->size, size, sizeof size));
    }
}

static void draw_legend(struct app *app, struct pane p, int row)
{
    static const struct { char sign; const char *text; } legend[] = {
        { '=', "values checked" }, { 'o', "header read" }, { '!', "fault" }, { '~', "warning" }, { '-', "missing" },
    };
    int col = 0;
    (void)app;
    for (size_t i = 0; i < sizeof legend / sizeof legend[0]; i++) {
        int width = (int)strlen(legend[i].text) + 4;
        if (col && col + width > p.cols + 2) {
            col = 0;
            row++;
        }
        pane_text(p, row, col, sign_style(legend[i].sign), (char[]){ legend[i].sign, '\0' });
        pane_text(p, row, col + 2, STYLE_DIM, legend[i].text);
        col += width;
    }
}

/* What the selected rank is and holds. */
static int draw_rank(struct app *app, struct pane p, int row)
{
    const struct sl_rank *r = &app->opened->info->ranks[app->overview.rank];
    char text[64], bytes[32], sign[2] = { rank_sign(app, r), '\0' };
    int col = pane_text(p, row, 0, sign_style(sign[0]), sign) + 1;
    col += pane_text(p, row, col, STYLE_TEXT, rank_name(app, (int32_t)app->overview.rank, text, sizeof text)) + 2;
    const int chunk = grid_chunk(app);
    char part[32] = "";
    if (chunk >= 0) {
        col += pane_printf(p, row, col - 1, STYLE_TEXT, "v%d", chunk) + 1;
        if (r->tensors)
            snprintf(part, sizeof part, "%u of ", app->opened->chunks.held[app->overview.rank * app->opened->chunks.vpp + (size_t)chunk]);
    }
    if (r->status == SL_RANK_MISSING)
        snprintf(text, sizeof text, "missing");
    else
        snprintf(text, sizeof text, "%s%llu tensors, %s", part, (unsigned long long)r->tensors, sl_text_bytes(r->bytes, bytes, sizeof bytes));
    col += pane_text(p, row, col, STYLE_TEXT, text) + 2;
    if (p.cols - col >= 14)
        pane_name(p, row, col, p.cols - col, STYLE_DIM, r->path);
    experts_text(&app->opened->experts, r->layer_last, r->ep, text, sizeof text);
    if (*text)
        pane_printf(p, ++row, 2, STYLE_TEXT, "%s in each MoE layer", text);
    return row + 1;
}

static int draw_places(struct app *app, struct pane p, bool legend)
{
    if (!app->opened->info->rank_count) {
        draw_files(app, p);
        return p.rows;
    }
    int below = app->opened->experts.span_count > 0;
    int used = grid_draw(app, pane_part(p, 0, 0, p.rows - 1 - below, p.cols));
    used += grid_about(app, p, used);
    used = draw_rank(app, p, used);
    if (legend)
        draw_legend(app, p, used);
    return used;
}

static void draw_evidence(struct app *app, struct pane p, int skip)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    char fact[256], from[256];
    for (int row = 0; row < p.rows && (size_t)(row + skip) < info->evidence_count; row++) {
        const struct sl_evidence *e = &info->evidence[row + skip];
        int width = p.cols * 3 / 5;
        pane_name(p, row, 0, width - 1, STYLE_TEXT, sl_printable(e->fact, fact, sizeof fact));
        pane_name(p, row, width, p.cols - width, STYLE_TEXT, sl_printable(e->from, from, sizeof from));
    }
    if (!info->evidence_count)
        pane_text(p, 0, 0, STYLE_DIM, "no evidence about the model");
}

static void value_text(const struct sl_value *v, char *out, size_t room)
{
    char text[128];
    if (!v)
        snprintf(out, room, "?");
    else if (v->kind == SL_VALUE_INT)
        snprintf(out, room, "%lld", (long long)v->i);
    else if (v->kind == SL_VALUE_BOOL)
        snprintf(out, room, "%s", v->i ? "true" : "false");
    else if (v->kind == SL_VALUE_FLOAT)
        snprintf(out, room, "%g", v->f);
    else if ((v->kind == SL_VALUE_STR || v->kind == SL_VALUE_OPAQUE) && v->s)
        snprintf(out, room, "%s", sl_printable(v->s, text, sizeof text));
    else if (v->kind == SL_VALUE_NULL)
        snprintf(out, room, "none");
    else
        snprintf(out, room, "%zu items", v->len);
}

static void draw_config(struct app *app, struct pane p, int skip)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    char text[160];
    for (int row = 0; row < p.rows && (size_t)(row + skip) < info->config_count; row++) {
        const struct sl_setting *s = &info->config[row + skip];
        int third = p.cols / 3;
        pane_name(p, row, 0, third * 2 - third / 2 - 1, STYLE_HEAD, s->key);
        value_text(s->value, text, sizeof text);
        pane_name(p, row, third * 2 - third / 2, third - 1, STYLE_TEXT, text);
        pane_name(p, row, third * 2 + third / 2, p.cols - third * 2 - third / 2, STYLE_DIM, s->from);
    }
    if (!info->config_count)
        pane_text(p, 0, 0, STYLE_DIM, "no hyperparameters known");
}

static void draw_finding(struct app *app, struct pane p)
{
    const struct sl_problem *problem = finding_at(app, app->finding);
    if (problem)
        draw_card(app, p, problem, app->overview.scroll);
    else
        pane_wrap(p, 0, 0, STYLE_TEXT, app->check_deep && app->checked
                  ? "Nothing was found." : "Nothing was found in the headers. The values are not read: D reads and checks them.");
}

static void panel_finding(struct app *app, struct pane p, int skip) { (void)skip; draw_finding(app, p); }
static size_t count_findings(const struct app *app) { return finding_count(app); }
static size_t count_evidence(const struct app *app) { return app->opened->info->evidence_count; }
static size_t count_config(const struct app *app) { return app->opened->info->config_count; }
static const struct { const char *title, *tiny; void (*draw)(struct app *, struct pane, int); size_t (*count)(const struct app *); } panels[] = {
    [PANEL_FINDING] = { "findings", "findings", panel_finding, count_findings },
    [PANEL_EVIDENCE] = { "evidence", "evid.", draw_evidence, count_evidence },
    [PANEL_CONFIG] = { "settings", "set.", draw_config, count_config },
    [PANEL_LAYERS] = { "layers", "layers", layers_draw, layers_lines },
    [PANEL_EXPERTS] = { "experts", "exp.", experts_draw, experts_lines },
};

/* How many findings there are is news; how many settings, none. */
static int panel_name(const struct app *app, int panel, bool tiny, char *out, size_t room)
{
    const char *title = tiny ? panels[panel].tiny : panels[panel].title;
    return panel == PANEL_FINDING ? snprintf(out, room, "%s %zu", title, finding_count(app)) : snprintf(out, room, "%s", title);
}

static int draw_panel_head(struct app *app, struct pane p)
{
    char text[64];
    int width = -2, col = 0;
    for (int i = 0; i < PANEL_COUNT; i++)
        width += panel_name(app, i, false, text, sizeof text) + 2;
    bool tiny = width > p.cols;
    for (int i = 0; i < PANEL_COUNT; i++) {
        panel_name(app, i, tiny, text, sizeof text);
        col += pane_text(p, 0, col, i == (int)app->overview.panel ? STYLE_SELECTED : STYLE_DIM, text) + (tiny ? 1 : 2);
    }
    return 1;
}

static int draw_kinds(struct app *app, struct pane p)
{
    const struct opened *o = app->opened;
    uint64_t all = 0;
    char bytes[32];
    for (size_t k = 0; k < o->kind_count; k++)
        all += o->kinds[k].bytes;
    int row = 0;
    for (size_t k = 0; k < o->kind_count && row < p.rows; k++, row++) {
        double part = all ? (double)o->kinds[k].bytes / (double)all : 0;
        pane_textw(p, row, 0, 10, STYLE_TEXT, o->kinds[k].kind);
        pane_right(p, row, 20, STYLE_TEXT, sl_text_bytes(o->kinds[k].bytes, bytes, sizeof bytes));
        pane_bar(p, row, 21, p.cols - 21 - 8, STYLE_ACCENT, part);
        snprintf(bytes, sizeof bytes, "%.1f%%", part * 100);
        pane_right(p, row, p.cols, STYLE_TEXT, bytes);
    }
    return row;
}

static void draw_finding_list(struct app *app, struct pane p)
{
    size_t count = finding_count(app), top = 0;
    int each = count ? p.rows / (int)(count < 5 ? count : 5) : 3;
    each = each < 3 ? 3 : each > 6 ? 6 : each;
    const int rows = p.rows / each;
    if (rows > 0 && app->finding >= (size_t)rows)
        top = app->finding - (size_t)rows + 1;
    for (int i = 0; i < rows && top + (size_t)i < count; i++) {
        const struct sl_problem *f = finding_at(app, top + (size_t)i);
        bool selected = top + (size_t)i == app->finding;
        if (selected)
            pane_glyph(p, i * each, 0, STYLE_SELECTED, GLYPH_SELECT);
        pane_printf(p, i * each, 2, severity_style(f->severity), "%c %s", severity_sign(f->severity), f->code);
        char place[48];
        const char *rank = finding_rank(app, f, place, sizeof place);    /* coordinates need less room than a path */
        struct pane about = pane_part(p, i * each + 1, 4, each - 2, p.cols - 4);
        if (*rank || *f->where)
            pane_name(pane_take(&about, 1), 0, 0, about.cols, STYLE_TEXT, *rank ? rank : f->where);
        if (about.rows > 0)
            pane_wrap(about, 0, 0, STYLE_TEXT, f->message);
    }
    if (!count)
        pane_wrap(p, 0, 0, STYLE_DIM, "nothing found so far");
}

/* ---- three sizes ---------------------------------------------------------------------- */

#define CARD_ROWS 12             /* of an error, with its frame, at 120 columns */
static void draw_wide(struct app *app, struct pane p)
{
    char title[64] = "places";
    struct fact facts[MOST_FACTS];
    size_t half, count = facts_of(app, facts, &half);
    for (size_t i = 0; i < count; i++)
        if (strcmp(facts[i].label, "layout") == 0)
            snprintf(title, sizeof title, "%.60s", facts[i].text);
    struct pane top = pane_take(&p, p.rows >= 33 ? 15 : (int)count + 2);
    int left = 52, right = 32;
    draw_facts(app, pane_box(pane_part(top, 0, 0, top.rows, left), "model"), false);
    draw_places(app, pane_box(pane_part(top, 0, left, top.rows, top.cols - left - right), title), true);
    draw_finding_list(app, pane_box(pane_part(top, 0, top.cols - right, top.rows, right), "findings"));
    int explain = p.rows - (int)app->opened->kind_count - 2;
    explain = explain < 5 ? 5 : explain > 11 ? 11 : explain;
    const struct sl_problem *problem = app->overview.panel == PANEL_FINDING ? finding_at(app, app->finding) : NULL;
    if (problem && problem->severity != SL_NOTE && explain < CARD_ROWS)      /* what to do next matters more than the smallest kinds */
        explain = p.rows - 4 < CARD_ROWS ? p.rows - 4 : CARD_ROWS;
    struct pane card = pane_take(&p, explain);
    struct pane inside = pane_box(card, "");
    draw_panel_head(app, pane_part(card, 0, 2, 1, card.cols - 4));
    panels[app->overview.panel].draw(app, inside, app->overview.scroll);
    int cols = p.cols * 55 / 100;
    draw_kinds(app, pane_box(pane_part(p, 0, 0, p.rows, cols), "bytes by kind"));
    struct pane last = pane_part(p, 0, cols, p.rows, p.cols - cols);
    if (app->overview.panel == PANEL_LAYERS)
        draw_evidence(app, pane_box(last, "evidence"), 0);
    else
        layers_draw(app, pane_box(last, "rms by layer"), 0);
}

static void draw_middle(struct app *app, struct pane p)
{
    p = pane_part(p, 0, 1, p.rows, p.cols - 2);
    if (app->overview.card) {
        draw_panel_head(app, pane_take(&p, 1));
        panels[app->overview.panel].draw(app, p, app->overview.scroll);
        return;
    }
    int used = draw_facts(app, p, p.cols >= 76);
    pane_take(&p, used + 1);
    int kinds = p.rows > 11 ? 3 : p.rows > 9 ? 2 : 0;
    kinds = kinds > (int)app->opened->kind_count ? (int)app->opened->kind_count : kinds;
    struct pane bottom = pane_part(p, p.rows - kinds, 0, kinds, p.cols), middle = pane_part(p, 0, 0, p.rows - kinds - (kinds > 0), p.cols);
    int left = p.cols / 2 - 2;
    draw_places(app, pane_part(middle, 0, 0, middle.rows, left), true);
    struct pane right = pane_part(middle, 0, left + 2, middle.rows, middle.cols - left - 2);
    draw_panel_head(app, pane_take(&right, 1));
    panels[app->overview.panel].draw(app, right, app->overview.scroll);
    draw_kinds(app, bottom);
}

static void draw_small(struct app *app, struct pane p)
{
    const struct sl_problem *problem = finding_at(app, app->finding);
    struct fact facts[MOST_FACTS];
    size_t half, count = facts_of(app, facts, &half);
    int row = 0;
    if (app->overview.card && problem) {
        draw_card(app, p, problem, app->overview.scroll);
        return;
    }
    if (problem) {
        char place[48];
        const char *rank = finding_rank(app, problem, place, sizeof place);      /* coordinates need less room than a path */
        const bool first = *rank && (p.rows < 3 || p.cols < 30);
        int col = pane_printf(p, row, 0, severity_style(problem->severity), "%c %s ", severity_sign(problem->severity), first ? rank : problem->code);
        pane_name(p, row++, col, p.cols - col, STYLE_TEXT, first ? problem->code : *rank ? rank : problem->where);
        if (p.rows > 4)
            row += pane_wrap(pane_part(p, row, 2, p.rows > 6 ? 2 : 1, p.cols - 2), 0, 0, STYLE_TEXT, problem->message);
    }
    const int facts_end = row + (problem && p.rows > 4 ? 1 : 2);
    for (size_t i = 0; i < count && row < facts_end; i += half)
        pane_textw(p, row++, 0, p.cols, STYLE_TEXT, facts[i].text);
    struct pane places = pane_part(p, row, 0, p.rows - row, p.cols);
    const int strip = app->opened->info->rank_count ? grid_strip(app, places) : 0;
    if (strip)
        draw_rank(app, places, strip);
    else if (places.rows >= 3)
        draw_places(app, places, false);
}

static void draw_loading(struct app *app, struct pane p)
{
    int row = 1;
    if (app->load == LOAD_FAILED) {
        char text[sizeof app->open_error.where + sizeof app->open_error.message + 4];
        snprintf(text, sizeof text, "%s%s%s", app->open_error.where, *app->open_error.where ? ": " : "", app->open_error.message);
        row += pane_wrap(p, row, 1, STYLE_BAD, text) + 1;
        pane_wrap(p, row, 1, STYLE_TEXT, "Nothing was changed. Mend what is named above, then R reads it again; q quits.");
        return;
    }
    pane_printf(p, row++, 1, STYLE_TEXT, "reading headers; the names are:");
    for (size_t i = 0; i < app->name_count && row < p.rows; i++, row++)
        pane_name(p, row, 3, p.cols - 4, STYLE_DIM, app->names[i]);
}

static void draw(struct app *app, struct pane p)
{
    if (!app->opened)
        draw_loading(app, p);
    else if (p.cols >= 120 && p.rows >= 26)
        draw_wide(app, p);
    else if (p.cols >= 60 && p.rows >= 12)
        draw_middle(app, p);
    else
        draw_small(app, p);
}

/* ---- keys ----------------------------------------------------------------------------------- */

static bool scrolls(const struct app *app)
{
    return app->overview.card || app->overview.panel != PANEL_FINDING;
}

static void move(struct app *app, int rows, int cols, bool page)
{
    if (!app->opened)
        return;
    if (page || (scrolls(app) && rows)) {
        int limit = app->overview.panel == PANEL_FINDING ? 30 : (int)panels[app->overview.panel].count(app);
        int next = app->overview.scroll + rows * (page ? 8 : 1);
        app->overview.scroll = next < 0 ? 0 : next >= limit ? (limit > 0 ? limit - 1 : 0) : next;
        return;
    }
    if (app->opened->info->rank_count)
        grid_move(app, rows, cols);
    else
        list_move(&app->overview.files, rows);
}

static void end(struct app *app, bool last)
{
    if (!app->opened)
        return;
    if (app->opened->info->rank_count)
        app->overview.rank = last ? app->opened->info->rank_count - 1 : 0;
    else
        list_move(&app->overview.files, last ? (ptrdiff_t)app->overview.files.count : -(ptrdiff_t)app->overview.files.count);
}

/* The tensors of the selected rank or file; of a card, the tensor it names. */
static void enter(struct app *app)
{
    char name[256];
    if (!app->opened) {
        app_say(app, STYLE_DIM, "nothing is open yet");
        return;
    }
    const struct sl_problem *problem = finding_at(app, app->finding);
    if (app->overview.card && problem && sl_logical_find(app->opened->ck, problem->where) >= 0) {
        inspect_show(app, sl_logical_find(app->opened->ck, problem->where));
        return;
    }
    if (app->opened->info->rank_count) {
        app->tensors.mode = TREE_RANKS;
        rank_name(app, (int32_t)app->overview.rank, name, sizeof name);
    } else {
        app->tensors.mode = TREE_FILES;
        snprintf(name, sizeof name, "%s", app->opened->info->file_count ? app->opened->info->files[app->overview.files.selected].name : "");
    }
    app_go(app, SCREEN_TENSORS);
    if (!tensors_select(app, name))
        app_say(app, STYLE_DIM, "%s holds no tensors that could be read", name);
}

static void tab(struct app *app, int step)
{
    app->overview.panel = (enum overview_panel)(((int)app->overview.panel + step + PANEL_COUNT) % PANEL_COUNT);
    app->overview.scroll = 0;
}

static bool back(struct app *app)
{
    if (app->overview.zoom && !app->overview.card)
        return app->overview.zoom = false, true;
    bool left = app->overview.card || app->overview.panel != PANEL_FINDING;
    app->overview.card = false;
    app->overview.panel = PANEL_FINDING;
    app->overview.scroll = 0;
    return left;
}

static void command(const struct app *app, struct sl_buf *out)
{
    sl_buf_str(out, app->checked && app->check_deep ? "check --deep " : "inspect ");
    shell_word(out, app->options->path);
}

void act_explain(struct app *app)
{
    if (!finding_at(app, app->finding)) {
        app_say(app, STYLE_DIM, "there is no finding to explain");
        return;
    }
    app->overview.card = !app->overview.card;
    app->overview.panel = PANEL_FINDING;
    app->overview.scroll = 0;
}

const struct screen_ops overview_ops = { .draw = draw, .move = move, .end = end, .enter = enter, .tab = tab, .back = back, .command = command };
