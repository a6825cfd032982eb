/* map.c: the mapping as a ledger: where each element of a target comes from, what
 * becomes of each source tensor, what is left out and why. */
#include "tui/map.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const struct planned *map_plan(const struct app *app)
{
    if (app->plan.plan)
        return &app->plan;
    return app->run.plan.plan && app->run.opened == app->opened ? &app->run.plan : NULL;
}

/* ---- the three lists -------------------------------------------------------------------- */

size_t side_count(const struct app *app, enum map_side side)
{
    const struct planned *p = map_plan(app);
    switch (side) {
    case MAP_TARGETS: return p ? p->info->target_count : 0;
    case MAP_SOURCES: return p ? sl_tensor_count(app->opened->ck) : 0;
    default: return p ? p->info->left_out_count : 0;
    }
}

const char *side_name(const struct app *app, enum map_side side, size_t i)
{
    const struct planned *p = map_plan(app);
    switch (side) {
    case MAP_TARGETS: return sl_plan_target(p->plan, i)->name;
    case MAP_SOURCES: return sl_tensor_at(app->opened->ck, i)->name;
    default: return p->info->left_out[i].name;
    }
}

size_t map_row(const struct app *app, enum map_side side, size_t row)
{
    return app->map.rows[side] ? app->map.rows[side][row] : row;
}

bool map_selected(const struct app *app, size_t *out)
{
    const struct map_state *m = &app->map;
    if (!map_plan(app) || !m->lists[m->side].count)
        return false;
    *out = map_row(app, m->side, m->lists[m->side].selected);
    return true;
}

static const char *const use_words[SL_SOURCE_USES] = { "read", "copy", "left out", "unclaimed" };

const char *source_use(const struct app *app, size_t tensor, const char **why)
{
    return use_words[sl_plan_source(map_plan(app)->plan, tensor, why)];
}

/* By its name; a source tensor by its place, or by what becomes of it, too. */
static bool matches(const struct app *app, enum map_side side, size_t i, const char *text)
{
    const char *why;
    char place[128];
    if (strcasestr(side_name(app, side, i), text))
        return true;
    return side == MAP_SOURCES && (strcasestr(source_use(app, i, &why), text) || strcasestr(piece_place(app, i, place, sizeof place), text));
}

void map_filter(struct app *app, const char *text)
{
    struct map_state *m = &app->map;
    size_t keep[MAP_SIDES];
    if (text != m->filter)
        snprintf(m->filter, sizeof m->filter, "%s", text);
    for (int s = 0; s < MAP_SIDES; s++) {
        enum map_side side = (enum map_side)s;
        size_t count = side_count(app, side), n = 0;
        struct list *l = &m->lists[s];
        keep[s] = l->selected < l->count ? map_row(app, side, l->selected) : 0;
        free(m->rows[s]);
        m->rows[s] = *text ? calloc(count + 1, sizeof(size_t)) : NULL;
        for (size_t i = 0; i < count && m->rows[s]; i++)
            if (matches(app, side, i, text))
                m->rows[s][n++] = i;
        list_count(l, m->rows[s] ? n : count);
        for (size_t i = 0; i < l->count; i++)
            if (map_row(app, side, i) == keep[s]) {
                l->selected = i;
                break;
            }
    }
}

void map_step_match(struct app *app, int step)
{
    struct list *l = &app->map.lists[app->map.side];
    if (!app->map.filter[0])
        app_say(app, STYLE_DIM, "nothing is searched for: / begins a search");
    else if (!l->count)
        app_say(app, STYLE_WARN, "nothing matches %s", app->map.filter);
    else
        l->selected = (l->selected + (step > 0 ? 1 : l->count - 1)) % l->count;
}

void map_forget(struct app *app)
{
    struct map_state *m = &app->map;
    for (int s = 0; s < MAP_SIDES; s++) {
        free(m->rows[s]);
        m->rows[s] = NULL;
        m->lists[s].count = 0;
    }
    traced_free(&m->traced);
    m->traced_plan = NULL;
}

/* Selects what was asked for by name: a target, or the first target of a source. */
static void select_wanted(struct app *app)
{
    struct map_state *m = &app->map;
    const struct planned *p = map_plan(app);
    if (!m->wanted[0] || !p)
        return;
    size_t target = SIZE_MAX;
    for (size_t i = 0; i < p->info->target_count && target == SIZE_MAX; i++)
        if (strcmp(sl_plan_target(p->plan, i)->name, m->wanted) == 0)
            target = i;
    ptrdiff_t logical = target == SIZE_MAX ? sl_logical_find(app->opened->ck, m->wanted) : -1;
    if (logical >= 0) {
        const struct sl_logical *l = sl_logical_at(app->opened->ck, (size_t)logical);
        for (size_t k = 0; k < l->piece_count && target == SIZE_MAX; k++)
            if (!sl_plan_uses(p->plan, l->pieces[k], &target, 1))
                target = SIZE_MAX;
    }
    if (target == SIZE_MAX || target >= p->info->target_count) {
        app_say(app, STYLE_WARN, "no target is made of %s: Tab shows what is left out", m->wanted);
    } else {
        if (m->filter[0])
            map_filter(app, "");
        m->side = MAP_TARGETS;
        m->lists[MAP_TARGETS].selected = target;
    }
    m->wanted[0] = '\0';
}

void map_ready(struct app *app)
{
    struct map_state *m = &app->map;
    const char *why;
    memset(m->uses, 0, sizeof m->uses);
    for (size_t i = 0; map_plan(app) && i < sl_tensor_count(app->opened->ck); i++)
        m->uses[sl_plan_source(map_plan(app)->plan, i, &why)]++;
    map_filter(app, app->map.filter);
    select_wanted(app);
}

/* ---- the selected row, traced to the other side ------------------------------------------- */

const struct traced *map_traced(struct app *app)
{
    struct map_state *m = &app->map;
    const struct planned *p = map_plan(app);
    size_t row = 0;
    if (!map_selected(app, &row) || m->side == MAP_LEFT_OUT)
        return NULL;
    if (m->traced_plan == p->plan && m->traced_side == m->side && m->traced_row == row)
        return &m->traced;
    if (m->traced_plan)
        m->range = (struct range){ 0 };          /* it was of another tensor */
    traced_free(&m->traced);
    (m->side == MAP_TARGETS ? trace_target : trace_source)(p->plan, row, &m->range, &m->traced);
    m->traced_plan = p->plan;
    m->traced_side = m->side;
    m->traced_row = row;
    m->piece = (struct list){ .count = m->traced.count };
    return &m->traced;
}

/* Traces the selected row again, only in this range. */
static void set_range(struct app *app, const struct range *range)
{
    struct map_state *m = &app->map;
    m->range = *range;
    m->traced_plan = NULL;
    m->in_pieces = map_traced(app) && m->traced.count;
    if (!m->traced.count)
        app_say(app, STYLE_WARN, "no piece lies in %s", range->text);
}

bool in_item(const struct app *app)
{
    const enum sl_container c = app->opened->info->container;
    return c == SL_MEGATRON_TORCH_DIST || c == SL_MEGATRON_ZARR || c == SL_TORCH_DCP;
}

/* Tensors whose elements lie in a file one behind the other. */
static bool bytes_of(const struct app *app, size_t row, int32_t *file, uint64_t *offset, uint64_t *bytes)
{
    if (app->map.side == MAP_TARGETS) {
        const struct sl_plan_target *t = sl_plan_target(map_plan(app)->plan, row);
        *file = t->file;
        *offset = t->offset;
        *bytes = t->bytes;
        return t->ndim <= 8;
    }
    const struct sl_tensor *t = sl_tensor_at(app->opened->ck, row);
    *file = t->file;
    *offset = t->offset;
    *bytes = t->bytes;
    return t->ndim <= 8 && !(t->flags & (SL_TENSOR_DEFLATED | SL_TENSOR_STRIDED | SL_TENSOR_SCALED | SL_TENSOR_NO_DATA)) && !in_item(app);
}

static void shape_of(const struct app *app, size_t row, const int64_t **shape, uint32_t *ndim)
{
    const struct sl_plan_target *target = app->map.side == MAP_TARGETS ? sl_plan_target(map_plan(app)->plan, row) : NULL;
    const struct sl_tensor *source = target ? NULL : sl_tensor_at(app->opened->ck, row);
    *shape = target ? target->shape : source->shape;
    *ndim = target ? target->ndim : source->ndim;
}

/* The tensor that holds these bytes of the selected one's file, and the range of its elements. */
static void range_of_bytes(struct app *app, size_t row, const char *text)
{
    struct map_state *m = &app->map;
    struct list *l = &m->lists[m->side];
    uint64_t first, last, offset, bytes;
    int32_t file, wanted;
    const int64_t *shape;
    uint32_t ndim;
    struct range range = { 0 };
    if (!range_numbers(text + 1, &first, &last)) {
        app_say(app, STYLE_WARN, "%.60s: bytes of the file are written @1000:2000", text);
        return;
    }
    if (!bytes_of(app, row, &wanted, &offset, &bytes)) {
        app_say(app, STYLE_WARN, "its elements do not lie one behind the other in its file: give rows, or #elements");
        return;
    }
    for (size_t i = 0; i < side_count(app, m->side); i++) {
        if (!bytes_of(app, i, &file, &offset, &bytes) || file != wanted || first < offset || first >= offset + bytes)
            continue;
        shape_of(app, i, &shape, &ndim);
        uint64_t count = 1;
        for (uint32_t a = 0; a < ndim; a++)
            count *= (uint64_t)shape[a];
        const uint64_t size = bytes / count, end = last < offset + bytes ? last : offset + bytes;
        range_flat((first - offset) / size, (end - offset + size - 1) / size, shape, ndim, &range);
        snprintf(range.text, sizeof range.text, "%s", text);
        if (m->filter[0])
            map_filter(app, "");
        l->selected = i;
        set_range(app, &range);
        if (last > end)
            app_say(app, STYLE_DIM, "it ends at byte %llu; what comes behind it in the file is another tensor's", (unsigned long long)end);
        return;
    }
    app_say(app, STYLE_WARN, "byte %llu of that file belongs to no tensor: header, padding, or past its end", (unsigned long long)first);
}

static void range_given(struct app *app, const char *text, bool accepted)
{
    struct range range = { 0 };
    const int64_t *shape;
    uint32_t ndim;
    size_t row;
    char why[200];
    if (!accepted || !map_selected(app, &row) || app->map.side == MAP_LEFT_OUT)
        return;
    shape_of(app, row, &shape, &ndim);
    if (!*text)
        set_range(app, &range);
    else if (*text == '@')
        range_of_bytes(app, row, text);
    else if (range_parse(text, shape, ndim, &range, why, sizeof why))
        set_range(app, &range);
    else
        app_say(app, STYLE_WARN, "%s", why);
}

void act_range(struct app *app)
{
    size_t row;
    if (!map_selected(app, &row) || app->map.side == MAP_LEFT_OUT)
        app_say(app, STYLE_DIM, map_plan(app) ? "select a target or a source first: Tab" : "there is no plan yet");
    else
        prompt_line(app, "rows 0:32, block [0:32,64:128], elements #100:200, bytes of the file @1000:2000", app->map.range.text, NULL, range_given);
}

/* ---- keys ---------------------------------------------------------------------------------- */

static void move(struct app *app, int rows, int cols, bool page)
{
    struct map_state *m = &app->map;
    const struct traced *t = map_traced(app);
    if (cols)
        m->in_pieces = cols > 0 && t && t->count > 0;
    else if (m->in_pieces && t)
        list_move(&m->piece, rows * (page ? 8 : 1));
    else
        list_move(&m->lists[m->side], rows * (page ? (app->canvas.rows > 30 ? app->canvas.rows - 10 : 6) : 1));
}

static void end(struct app *app, bool last)
{
    struct list *l = app->map.in_pieces ? &app->map.piece : &app->map.lists[app->map.side];
    list_move(l, last ? (ptrdiff_t)l->count : -(ptrdiff_t)l->count);
}

/* The source that the selected piece comes from, or the target that it becomes. */
static void follow(struct app *app, const struct traced *t)
{
    struct map_state *m = &app->map;
    const size_t i = m->piece.selected;
    const enum map_side other = m->side == MAP_TARGETS ? MAP_SOURCES : MAP_TARGETS;
    const size_t row = i >= t->count ? SIZE_MAX : m->side == MAP_TARGETS ? t->pieces[i].source : t->targets[i];
    if (row == SIZE_MAX) {
        app_say(app, STYLE_DIM, "padding comes from nowhere");
        return;
    }
    if (m->filter[0])
        map_filter(app, "");
    m->side = other;
    m->lists[other].selected = row;
    m->in_pieces = false;
}

static void enter(struct app *app)
{
    struct map_state *m = &app->map;
    const struct traced *t = map_traced(app);
    if (m->side == MAP_LEFT_OUT)
        app_say(app, STYLE_DIM, "what is left out goes nowhere; its reason stands here");
    else if (!t || !t->count)
        app_say(app, STYLE_DIM, "it is made into nothing");
    else if (m->in_pieces)
        follow(app, t);
    else
        m->in_pieces = true;
}

static void tab(struct app *app, int step)
{
    app->map.side = (enum map_side)(((int)app->map.side + step + MAP_SIDES) % MAP_SIDES);
    app->map.in_pieces = false;
}

static bool back(struct app *app)
{
    if (app->map.in_pieces)
        return app->map.in_pieces = false, true;
    if (app->map.range.text[0])
        return set_range(app, &(struct range){ 0 }), app->map.in_pieces = false, true;
    if (!app->map.filter[0])
        return false;
    map_filter(app, "");
    return true;
}

static void command(const struct app *app, struct sl_buf *out)
{
    sl_buf_str(out, "plan ");
    convert_command(app, out);
}

static void opened(struct app *app)
{
    if (app->opened && !map_plan(app) && app->plan_state == PLAN_NONE)
        convert_plan(app);
    if (map_plan(app) && !app->map.lists[MAP_TARGETS].count && !app->map.filter[0])
        map_ready(app);
    select_wanted(app);
}

const struct screen_ops map_ops = { .draw = map_draw, .move = move, .end = end, .enter = enter, .space = enter, .tab = tab, .back = back,
                                    .command = command, .opened = opened };
