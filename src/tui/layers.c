/* layers.c: samples of the weights of each layer, and their rms as a strip. */
#include "tui/layers.h"
#include "base/map.h"
#include "tui/app.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_LAYERS 4096
#define SAMPLE 16384             /* elements of a tensor that are read at most */
#define CHUNKS 4                 /* at so many places */
#define MOST_SAMPLES 4096        /* tensors of the strip that are sampled at most, about */
#define BATCH 16                 /* tensors a task: between two tasks others may ask */
#define NO_CELL SIZE_MAX

/* ---- roles --------------------------------------------------------------------------- */

static bool is_float(enum sl_dtype dtype)
{
    return (dtype >= SL_F64 && dtype <= SL_BF16) || (dtype >= SL_F8_E4M3 && dtype <= SL_F8_E5M2FNUZ);
}

/* The name after its layer, numbers as *: "mlp.experts.*.up_proj". False where it is no weight of a layer. */
static bool role_name(const struct sl_logical *l, char *out, size_t room)
{
    char layer[16];
    size_t used = 0;
    if (l->layer < 0 || l->layer >= MOST_LAYERS || !l->ndim || !is_float(l->dtype) || !strcmp(l->kind, "optimizer") || !strcmp(l->kind, "extra"))
        return false;
    snprintf(layer, sizeof layer, ".%d.", l->layer);
    const char *at = strstr(l->name, layer);
    if (!at)
        return false;
    for (at += strlen(layer); *at && used + 1 < room;) {
        /* a part that is a number, or the end of "weight12" of grouped experts */
        bool counts = at[-1] == '.' || (used >= 6 && strncmp(out + used - 6, "weight", 6) == 0);
        size_t digits = counts ? strspn(at, "0123456789") : 0;
        out[used++] = digits ? '*' : *at;
        at += digits ? digits : 1;
    }
    out[used] = '\0';
    static const char *const ends[] = { ".weight", ".weight*" };
    for (size_t i = 0; i < 2; i++) {
        size_t len = strlen(ends[i]);
        if (used > len && strcmp(out + used - len, ends[i]) == 0)
            out[used -= len] = '\0';
    }
    return strstr(out, "bias") == NULL;
}

static bool role_of(struct strip *s, struct sl_map *seen, const struct sl_logical *l, uint64_t *role)
{
    char name[256];
    if (!role_name(l, name, sizeof name))
        return false;
    if (sl_map_get(seen, name, strlen(name), role))
        return true;
    char *kept = s->role_count < MOST_ROLES ? sl_arena_str(&s->arena, name) : NULL;
    *role = s->role_count;
    if (!kept || !sl_map_put(seen, kept, strlen(kept), *role))
        return false;
    s->roles[s->role_count++] = kept;
    return true;
}

static bool strip_build(struct strip *s, const struct sl_checkpoint *ck)
{
    size_t count = sl_logical_count(ck);
    struct sl_map seen = { 0 };
    uint8_t *roles = calloc(count + 1, 1);
    for (size_t i = 0; i < count; i++)
        if (sl_logical_at(ck, i)->layer < MOST_LAYERS && sl_logical_at(ck, i)->layer >= (int64_t)s->layer_count)
            s->layer_count = (size_t)sl_logical_at(ck, i)->layer + 1;
    size_t cells = MOST_ROLES * s->layer_count;
    s->cells = SL_ARENA_NEW(&s->arena, struct strip_cell, cells + 1);
    s->first = SL_ARENA_NEW(&s->arena, uint32_t, cells + 2);
    s->tensors = SL_ARENA_NEW(&s->arena, uint32_t, count + 1);
    bool good = roles && s->cells && s->first && s->tensors && count < UINT32_MAX;
    for (size_t k = 0; good && k < 2 * count; k++) {     /* the matrices first: a short list shows them */
        uint64_t role;
        const size_t i = k % count;
        const struct sl_logical *l = sl_logical_at(ck, i);
        if ((l->ndim >= 2) != (k < count))
            continue;
        roles[i] = role_of(s, &seen, l, &role) ? (uint8_t)(role + 1) : 0;
        if (roles[i])
            s->first[role * s->layer_count + (size_t)l->layer + 2]++;
    }
    for (size_t c = 2; good && c <= cells + 1; c++)
        s->first[c] += s->first[c - 1];
    for (size_t i = 0; good && i < count; i++)
        if (roles[i])
            s->tensors[s->first[(size_t)(roles[i] - 1) * s->layer_count + (size_t)sl_logical_at(ck, i)->layer + 1]++] = (uint32_t)i;
    cells = s->role_count * s->layer_count;
    s->each = cells ? (uint32_t)(MOST_SAMPLES / cells) : 1;
    s->each = s->each < 1 ? 1 : s->each > 8 ? 8 : s->each;
    s->built = good;
    sl_map_free(&seen);
    free(roles);
    return good;
}

void strip_free(struct strip *s)
{
    sl_arena_free(&s->arena);
    *s = (struct strip){ 0 };
}

/* ---- sampling, in the background --------------------------------------------------------- */

struct sample { uint32_t logical; size_t cell; double sum2; uint64_t count; bool failed, part; };
struct sample_task {
    struct task task;
    struct opened *opened;
    bool build;
    struct strip strip;
    struct sample samples[BATCH]; size_t count, done;
};

static bool chunk_add(const struct sl_checkpoint *ck, size_t tensor, uint64_t first, uint64_t count, struct sample *out)
{
    const struct sl_tensor *t = sl_tensor_at(ck, tensor);
    size_t size = (size_t)(t->bytes / t->count);
    unsigned char *buffer = malloc((size_t)count * size);
    bool good = buffer && !sl_tensor_read(ck, tensor, first, count, buffer, NULL);
    for (size_t i = 0; good && i < count; i++) {
        double v = sl_element(t->dtype, buffer + i * size);
        if (!isfinite(v))
            continue;
        out->sum2 += v * v;
        out->count++;
    }
    free(buffer);
    return good;
}

/* Some chunks of some pieces, evenly spaced; all of it where that is little. */
static void sample_tensor(const struct sl_checkpoint *ck, struct sample *out)
{
    const struct sl_logical *l = sl_logical_at(ck, out->logical);
    size_t pieces = l->piece_count < CHUNKS ? l->piece_count : CHUNKS;
    out->failed = pieces == 0;
    out->part = pieces < l->piece_count;
    for (size_t k = 0; k < pieces && !out->failed; k++) {
        size_t tensor = l->pieces[k * l->piece_count / pieces];
        const struct sl_tensor *t = sl_tensor_at(ck, tensor);
        uint64_t share = SAMPLE / pieces, places = CHUNKS / pieces, each = share / places;
        if (t->count <= share) {
            out->failed = t->count && !chunk_add(ck, tensor, 0, t->count, out);
            continue;
        }
        out->part = true;
        for (uint64_t c = 0; c < places && !out->failed; c++)
            out->failed = !chunk_add(ck, tensor, (t->count - each) / (places + 1) * (c + 1), each, out);
    }
}

static void sample_work(struct task *task)
{
    struct sample_task *t = (struct sample_task *)task;
    if (t->build)
        t->build = strip_build(&t->strip, t->opened->ck);
    for (; t->done < t->count && !task->cancel; t->done++)
        sample_tensor(t->opened->ck, &t->samples[t->done]);
}

static void sample_apply(struct app *app, struct task *task)
{
    struct sample_task *t = (struct sample_task *)task;
    struct layers_state *s = &app->layers;
    if (t->opened != app->opened)
        return;
    if (t->build) {
        app->opened->strip = t->strip;
        t->strip = (struct strip){ 0 };
        return;
    }
    for (size_t i = 0; i < t->done; i++) {
        const struct sample *from = &t->samples[i];
        struct strip_cell *cell = from->cell == NO_CELL ? NULL : &app->opened->strip.cells[from->cell];
        if (s->rms && !from->failed && from->count)
            s->rms[from->logical] = (float)sqrt(from->sum2 / (double)from->count);
        s->sampled_only |= from->part;
        if (!cell)
            continue;
        cell->read++;
        cell->failed += from->failed;
        cell->sum2 += from->failed ? 0 : from->sum2;
        cell->count += from->failed ? 0 : from->count;
    }
}

static void sample_drop(struct app *app, struct task *task)
{
    struct sample_task *t = (struct sample_task *)task;
    if (app && app->layers.task == task) {
        app->layers.task = NULL;
        layers_want(app);
    }
    strip_free(&t->strip);
    opened_drop(t->opened);
    free(t);
}

static void add_sample(struct sample_task *t, size_t logical, size_t cell)
{
    t->samples[t->count++] = (struct sample){ .logical = (uint32_t)logical, .cell = cell };
}

/* Fills the task with what was asked for, then with the next cells. */
static void choose(struct app *app, struct sample_task *t)
{
    struct layers_state *s = &app->layers;
    const struct strip *strip = &app->opened->strip;
    size_t cells = strip->role_count * strip->layer_count;
    while (s->asked_count && t->count < BATCH)
        add_sample(t, s->asked[--s->asked_count], NO_CELL);
    while (!s->stopped && s->next_cell < cells && t->count + strip->each <= BATCH) {
        uint32_t first = strip->first[s->next_cell], have = strip->first[s->next_cell + 1] - first;
        uint32_t take = have < strip->each ? have : strip->each;
        for (uint32_t i = 0; i < take; i++)
            add_sample(t, strip->tensors[first + (uint32_t)((uint64_t)i * have / take)], s->next_cell);
        s->next_cell++;
    }
}

void layers_want(struct app *app)
{
    struct layers_state *s = &app->layers;
    if (!app->opened || s->task)
        return;
    if (!s->rms) {
        size_t count = sl_logical_count(app->opened->ck);
        s->rms = malloc((count + 1) * sizeof *s->rms);
        for (size_t i = 0; s->rms && i < count; i++)
            s->rms[i] = NAN;
    }
    struct sample_task *t = calloc(1, sizeof *t);
    if (!t)
        return;
    *t = (struct sample_task){ .task = { .work = sample_work, .apply = sample_apply, .drop = sample_drop }, .build = !app->opened->strip.built };
    if (!t->build)
        choose(app, t);
    else if (s->build_tried)
        t->build = false;
    if (!t->build && !t->count) {
        free(t);
        return;
    }
    s->build_tried |= t->build;
    t->opened = opened_use(app->opened);
    s->task = &t->task;
    jobs_add(app->jobs, LANE_SAMPLES, &t->task);
}

void layers_ask(struct app *app, size_t logical)
{
    struct layers_state *s = &app->layers;
    double known;
    if (layers_rms(app, logical, &known) || s->asked_count == MOST_ASKED)
        return;
    for (size_t i = 0; i < s->asked_count; i++)
        if (s->asked[i] == logical)
            return;
    s->asked[s->asked_count++] = (uint32_t)logical;
    layers_want(app);
}

bool layers_rms(const struct app *app, size_t logical, double *out)
{
    *out = app->layers.rms ? (double)app->layers.rms[logical] : NAN;
    return !isnan(*out);
}

void layers_forget(struct app *app)
{
    task_cancel(app->layers.task);
    free(app->layers.rms);
    app->layers = (struct layers_state){ 0 };
}

void act_layers(struct app *app)
{
    struct layers_state *s = &app->layers;
    if (!app->opened) {
        app_say(app, STYLE_DIM, "nothing is open yet");
        return;
    }
    size_t cells = app->opened->strip.role_count * app->opened->strip.layer_count;
    app->overview.panel = PANEL_LAYERS;
    app->overview.scroll = 0;
    if (s->next_cell >= cells && app->opened->strip.built) {
        app_say(app, STYLE_TEXT, cells ? "the rms of every layer was sampled" : "no weight of it belongs to a layer");
        return;
    }
    s->stopped = !s->stopped;
    app_say(app, STYLE_TEXT, s->stopped ? "sampling the layers was stopped; b goes on" : "sampling the layers; b stops it");
    layers_want(app);
}

/* ---- drawing --------------------------------------------------------------------------------- */

static const char shades[] = ".:-=+*#%";
#define SHADES ((int)sizeof shades - 1)
#define FLAT 1.02                /* highest over lowest: all alike */
#define FAR_FROM_MEDIAN 3.0

static double cell_rms(const struct strip_cell *c) { return c->count ? sqrt(c->sum2 / (double)c->count) : NAN; }

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

struct role_about { double lo, hi, median, far; size_t known, far_layer; };

static struct role_about role_about(const struct strip *s, size_t role)
{
    struct role_about r = { .lo = INFINITY, .hi = 0, .far = 1 };
    double *values = calloc(s->layer_count + 1, sizeof *values);
    for (size_t l = 0; values && l < s->layer_count; l++) {
        double v = cell_rms(&s->cells[role * s->layer_count + l]);
        if (isnan(v))
            continue;
        values[r.known++] = v;
        r.lo = v < r.lo ? v : r.lo;
        r.hi = v > r.hi ? v : r.hi;
    }
    if (r.known) {
        qsort(values, r.known, sizeof *values, by_value);
        r.median = values[r.known / 2];
    }
    for (size_t l = 0; r.median > 0 && l < s->layer_count; l++) {
        double v = cell_rms(&s->cells[role * s->layer_count + l]), far = v > 0 ? fmax(v / r.median, r.median / v) : 1;
        if (far > r.far) {
            r.far = far;
            r.far_layer = l;
        }
    }
    free(values);
    return r;
}

/* The letter of `per` layers from `first`: ' ' none has the role, '?' not read. */
static char shade_of(const struct strip *s, size_t role, size_t first, size_t per, const struct role_about *r, double *value)
{
    double sum = 0;
    size_t known = 0, any = 0;
    for (size_t l = first; l < first + per && l < s->layer_count; l++) {
        size_t c = role * s->layer_count + l;
        double v = cell_rms(&s->cells[c]);
        any += s->first[c + 1] > s->first[c];
        if (!isnan(v)) {
            sum += v;
            known++;
        }
    }
    *value = known ? sum / (double)known : NAN;
    if (!any)
        return ' ';
    if (!known)
        return '?';
    if (!(r->hi > r->lo * FLAT) || !(r->lo > 0))
        return !(r->hi > r->lo * FLAT) ? '=' : shades[(int)fmin(SHADES - 1, *value / r->hi * SHADES)];
    int level = (int)(log(*value / r->lo) / log(r->hi / r->lo) * SHADES);
    return shades[level < 0 ? 0 : level >= SHADES ? SHADES - 1 : level];
}

static void draw_role(struct pane p, int row, const struct strip *s, size_t role, int label, int width, size_t per)
{
    struct role_about r = role_about(s, role);
    char range[48];
    pane_name(p, row, 0, label - 1, STYLE_TEXT, s->roles[role]);
    for (int i = 0; i < width; i++) {
        double v;
        char ch = shade_of(s, role, (size_t)i * per, per, &r, &v);
        bool far = r.known > 4 && v > 0 && r.median > 0 && (v > r.median * FAR_FROM_MEDIAN || v < r.median / FAR_FROM_MEDIAN);
        pane_text(p, row, label + i, far ? STYLE_WARN : ch == '?' ? STYLE_DIM : STYLE_ACCENT, (char[]){ ch, '\0' });
    }
    if (!r.known)
        return;
    snprintf(range, sizeof range, "%.3g..%.3g", r.lo, r.hi);
    if (label + width + (int)strlen(range) + 1 <= p.cols)
        pane_right(p, row, p.cols, STYLE_DIM, range);
}

static void draw_state(struct app *app, struct pane p, int row, size_t per)
{
    const struct strip *s = &app->opened->strip;
    size_t cells = s->role_count * s->layer_count;
    int col = 0;
    if (app->layers.next_cell < cells)
        col = pane_printf(p, row, 0, STYLE_DIM, app->layers.stopped ? "stopped at %zu of %zu; b goes on" : "sampling %zu of %zu; b stops", app->layers.next_cell, cells);
    else
        col = pane_text(p, row, 0, STYLE_DIM, app->layers.sampled_only ? "sampled: 16 K values a tensor" : "all values read");
    if (per > 1)
        col += pane_printf(p, row, col, STYLE_DIM, "; a letter is %zu layers", per);
    for (size_t role = 0; role < s->role_count; role++) {
        struct role_about r = role_about(s, role);
        if (r.known > 4 && r.far > FAR_FROM_MEDIAN) {
            pane_printf(p, row, col + 2, STYLE_WARN, "~ layer %zu %s: %.1f x its median", r.far_layer, s->roles[role],
                        cell_rms(&s->cells[role * s->layer_count + r.far_layer]) / r.median);
            return;
        }
    }
}

void layers_draw(struct app *app, struct pane p, int skip)
{
    const struct strip *s = &app->opened->strip;
    if (!s->role_count) {
        pane_wrap(p, 0, 0, STYLE_DIM, s->built ? "no weight of it belongs to a layer" : app->layers.task ? "looking at the names" : "the layers are not known");
        return;
    }
    int label = p.cols >= 90 ? 30 : p.cols >= 50 ? 20 : 14, room = p.cols - label - (p.cols >= 50 ? 18 : 0), row = 0;
    if (room < 1)
        return;
    size_t per = (s->layer_count + (size_t)room - 1) / (size_t)room;
    int width = (int)((s->layer_count + per - 1) / per);
    if (p.rows > 2) {
        int col = pane_printf(p, row, 0, STYLE_DIM, "layers 0..%zu, lowest to highest  ", s->layer_count - 1);
        for (int i = 0; i < SHADES; i++)
            pane_text(p, row, col + 2 * i, STYLE_ACCENT, (char[]){ shades[i], '\0' });
        row++;
    }
    for (size_t role = (size_t)skip; role < s->role_count && row < p.rows - 1; role++)
        draw_role(p, row++, s, role, label, width, per);
    draw_state(app, p, row < p.rows ? row : p.rows - 1, per);
}

size_t layers_lines(const struct app *app)
{
    return app->opened->strip.role_count;
}
