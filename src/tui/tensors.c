/* tensors.c: the tree of tensors. */
#include "tui/app.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const mode_names[TREE_MODES] = { "merged over ranks", "pieces by file", "pieces by rank" };

static struct tree *tree_of(const struct app *app)
{
    return app->opened ? &app->opened->trees[app->tensors.mode] : NULL;
}

/* ---- signs ----------------------------------------------------------------------------- */

static char leaf_sign(const void *arg, uint32_t leaf)
{
    const struct app *app = arg;
    return app->tensors.mode == TREE_LOGICAL ? logical_sign(app, leaf) : piece_sign(app, leaf);
}

/* A tree is folded anew only when a finding has a say in what is alike. */
void tensors_signs(struct app *app)
{
    enum tree_mode now = app->tensors.mode;
    for (int m = 0; app->opened && m < TREE_MODES; m++) {
        struct tree *t = &app->opened->trees[m];
        app->tensors.mode = (enum tree_mode)m;
        tree_signs(t, leaf_sign, app);
        bool faults = strchr("~!-", t->nodes[0].sign) != NULL;
        if (faults || t->faults_apart)
            tree_group(t, app->opened->ck);
        t->faults_apart = faults;
    }
    app->tensors.mode = now;
}

void tensors_ready(struct app *app)
{
    tensors_signs(app);
    for (int m = 0; m < TREE_MODES; m++)
        tree_unfold(&app->opened->trees[m], m == TREE_LOGICAL || app->opened->info->file_count == 1 ? 20 : 0);
    tensors_filter(app, app->tensors.filter);
}

/* The full names of what is marked, a line each; without names only the count. */
size_t tensors_marked(const struct app *app, struct sl_buf *names)
{
    const struct tree *t = tree_of(app);
    char path[512];
    if (!t || !t->built)
        return 0;
    for (uint32_t n = 1; names && n < t->count; n++)
        if (t->nodes[n].leaf != TREE_NONE && t->nodes[n].marked) {
            const char *name = t->mode == TREE_LOGICAL ? tree_path(t, n, path, sizeof path) : sl_tensor_at(app->opened->ck, t->nodes[n].leaf)->path;
            sl_buf_str(names, sl_printable(name, (char[1024]){ 0 }, 1024));
            sl_buf_char(names, '\n');
        }
    return t->nodes[0].marked;
}

/* ---- columns ------------------------------------------------------------------------------ */

enum column { COLUMN_DTYPE, COLUMN_SHAPE, COLUMN_SPLIT, COLUMN_BYTES, COLUMN_SIGN, COLUMN_COUNT };
struct row_data { const char *dtype, *split; char shape[64], bytes[32], rank[24], sign; };

static void shape_text(const int64_t *shape, uint32_t ndim, char *out, size_t room)
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < ndim && used < room; i++)
        used += (size_t)snprintf(out + used, room - used, "%s%lld", i ? "x" : "", (long long)shape[i]);
    if (!ndim)
        snprintf(out, room, "scalar");
}

/* A group of experts lies on one ep rank: the grouping sees to that. */
static void expert_rank(const struct app *app, const struct tree *t, const struct tree_node *n, struct row_data *r)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    uint32_t leaf = tree_first_leaf(t, (uint32_t)(n - t->nodes));
    const struct sl_logical *l = leaf == TREE_NONE ? NULL : sl_logical_at(app->opened->ck, t->nodes[leaf].leaf);
    long first = strtol(n->name + strcspn(n->name, "0123456789"), NULL, 10);
    if (!l || l->expert != first || !l->piece_count || info->parallel.ep < 2)
        return;
    int32_t rank = sl_tensor_at(app->opened->ck, l->pieces[0])->rank;
    if (rank < 0 || (size_t)rank >= info->rank_count)
        return;
    snprintf(r->rank, sizeof r->rank, "ep%d", info->ranks[rank].ep);
    r->split = r->rank;
}

static void row_of(const struct app *app, const struct tree *t, const struct tree_node *n, struct row_data *r)
{
    *r = (struct row_data){ .dtype = "", .split = "", .sign = n->sign };
    sl_text_bytes(n->bytes, r->bytes, sizeof r->bytes);
    if (n->leaf == TREE_NONE) {
        if (n->group && t->mode == TREE_LOGICAL)
            expert_rank(app, t, n, r);
        return;
    }
    if (t->mode == TREE_LOGICAL) {
        const struct sl_logical *l = sl_logical_at(app->opened->ck, n->leaf);
        r->dtype = sl_dtype_label(l->dtype);
        r->split = l->odd ? "odd" : l->split_text;
        shape_text(l->shape, l->ndim, r->shape, sizeof r->shape);
    } else {
        const struct sl_tensor *s = sl_tensor_at(app->opened->ck, n->leaf);
        r->dtype = sl_dtype_label(s->dtype);
        shape_text(s->shape, s->ndim, r->shape, sizeof r->shape);
    }
}

/* Where the columns stand: from the right, those that fit. */
struct columns { int name, dtype, shape, split, bytes, sign; };
static struct columns columns_of(int cols, bool pieces)
{
    struct columns c = { .sign = cols - 2, .bytes = cols - 4 };
    c.split = cols >= 64 && !pieces ? cols - 26 : 0;      /* a piece is not split */
    c.shape = cols >= 48 ? (c.split ? c.split - 14 : cols - 26) : 0;
    c.dtype = cols >= 72 ? c.shape - 6 : 0;
    c.name = c.dtype ? c.dtype - 1 : c.shape ? c.shape - 1 : cols - 14;
    return c;
}

static unsigned members(const struct tree *t, const struct tree_node *group)
{
    unsigned count = 0;
    for (uint32_t c = group->first; c != TREE_NONE; c = t->nodes[c].next)
        count++;
    return count;
}

#define NARROW 40                /* columns of names: a step of one leaves a deep name its place */
static void draw_row(struct app *app, struct pane p, int row, const struct tree *t, uint32_t id, bool selected)
{
    const struct tree_node *n = &t->nodes[id];
    struct columns c = columns_of(p.cols, t->mode != TREE_LOGICAL);
    struct row_data r;
    char name[512];
    row_of(app, t, n, &r);
    int indent = 2 + (n->depth - 1) * (c.name < NARROW ? 1 : 2);
    if (indent > c.name / 2)
        indent = c.name / 2;
    if (selected) {
        pane_glyph(p, row, 0, STYLE_SELECTED, GLYPH_SELECT);
        pane_cursor(p, row, 0, false);
    }
    if (n->leaf == TREE_NONE)
        pane_text(p, row, indent, STYLE_DIM, n->open || t->filtered ? "-" : "+");
    if (n->marked)
        pane_text(p, row, 1, STYLE_KEY, n->marked == n->leaves ? "*" : ":");
    if (n->group)
        snprintf(name, sizeof name, "%.*s x%u (%u)", (int)n->name_len, n->name, members(t, n), n->leaves);
    else
        snprintf(name, sizeof name, n->leaf == TREE_NONE ? "%.*s (%u)" : "%.*s", (int)n->name_len, n->name, n->leaves);
    int width = (n->leaf != TREE_NONE ? c.name : c.split && *r.split ? c.split - 1 : c.bytes - 10) - indent - 2;
    pane_name(p, row, indent + 2, width, selected ? STYLE_SELECTED : n->leaf == TREE_NONE ? STYLE_HEAD : STYLE_TEXT, name);
    if (c.dtype)
        pane_textw(p, row, c.dtype, 5, STYLE_DIM, r.dtype);
    if (c.shape)
        pane_textw(p, row, c.shape, 13, STYLE_TEXT, r.shape);
    if (c.split)
        pane_textw(p, row, c.split, 11, STYLE_TEXT, r.split);
    pane_right(p, row, c.bytes, STYLE_TEXT, r.bytes);
    pane_text(p, row, c.sign, sign_style(r.sign), (char[]){ r.sign, '\0' });
}

static void draw_heads(struct app *app, struct pane p, const struct tree *t)
{
    struct columns c = columns_of(p.cols, t->mode != TREE_LOGICAL);
    pane_printf(p, 0, 2, STYLE_HEAD, "%s", mode_names[t->mode]);
    if (app->tensors.filter[0]) {
        pane_name(p, 0, 2, c.name - 2, STYLE_HEAD, "");
        char text[320];
        snprintf(text, sizeof text, "/%s  %zu of %u", app->tensors.filter, t->matches, t->nodes[0].leaves);
        pane_fill(pane_part(p, 0, 2, 1, c.name - 2), STYLE_TEXT);
        pane_name(p, 0, 2, c.name - 2, STYLE_ACCENT, text);
    }
    if (c.dtype)
        pane_text(p, 0, c.dtype, STYLE_HEAD, "dtype");
    if (c.shape)
        pane_text(p, 0, c.shape, STYLE_HEAD, "shape");
    if (c.split)
        pane_text(p, 0, c.split, STYLE_HEAD, "split");
    pane_right(p, 0, c.bytes, STYLE_HEAD, "bytes");
    pane_text(p, 0, p.cols - 3, STYLE_HEAD, "st");
}

/* ---- the selected tensor, at the side of a wide screen ---------------------------------------- */

static void draw_pieces(struct app *app, struct pane p, int row, const struct sl_logical *l)
{
    char place[256], shape[64];
    for (size_t i = 0; i < l->piece_count && row < p.rows; i++, row++) {
        const struct sl_tensor *s = sl_tensor_at(app->opened->ck, l->pieces[i]);
        char sign[2] = { piece_sign(app, l->pieces[i]), '\0' };
        if (row == p.rows - 1 && i + 1 < l->piece_count) {
            pane_printf(p, row, 0, STYLE_DIM, ".. %zu more pieces; Tab lists them", l->piece_count - i);
            return;
        }
        pane_text(p, row, 0, sign_style(sign[0]), sign);
        bool ranked = s->rank >= 0 && (size_t)s->rank < app->opened->info->rank_count;
        pane_name(p, row, 2, ranked ? 12 : p.cols - 16, STYLE_TEXT, piece_place(app, l->pieces[i], place, sizeof place));
        shape_text(s->shape, s->ndim, shape, sizeof shape);
        pane_textw(p, row, ranked ? 15 : p.cols - 12, 11, STYLE_TEXT, shape);
        if (ranked)
            pane_name(p, row, 27, p.cols - 27 >= 14 ? p.cols - 27 : 0, STYLE_DIM, app->opened->info->ranks[s->rank].path);
    }
}

static void draw_side(struct app *app, struct pane p, const struct tree *t)
{
    uint32_t id = tree_selected(t);
    char text[512];
    int row = 0;
    if (id == TREE_NONE)
        return;
    const struct tree_node *n = &t->nodes[id];
    row += pane_wrap(p, row, 0, STYLE_HEAD, sl_printable(tree_path(t, id, text, sizeof text), (char[512]){ 0 }, 512)) + 1;
    if (n->leaf == TREE_NONE) {
        char bytes[32];
        pane_printf(p, row++, 0, STYLE_TEXT, "%u tensors, %s", n->leaves, sl_text_bytes(n->bytes, bytes, sizeof bytes));
        return;
    }
    if (t->mode != TREE_LOGICAL) {
        const struct sl_tensor *s = sl_tensor_at(app->opened->ck, n->leaf);
        pane_printf(p, row++, 0, STYLE_TEXT, "at byte %llu, %llu bytes", (unsigned long long)s->offset, (unsigned long long)s->bytes);
        return;
    }
    const struct sl_logical *l = sl_logical_at(app->opened->ck, n->leaf);
    pane_printf(p, row++, 0, STYLE_TEXT, "%s  %s  %zu piece%s", l->kind, l->split_text, l->piece_count, l->piece_count == 1 ? "" : "s");
    if (l->odd)
        row += pane_wrap(p, row, 0, STYLE_WARN, sl_printable(l->odd, text, sizeof text));
    const struct stats_result *s = stats_of(app, (ptrdiff_t)n->leaf);
    if (s && s->done && s->whole_known) {
        pane_printf(p, row++, 0, STYLE_TEXT, "rms %.4g  mean %.3g", s->whole.rms, s->whole.mean);
        pane_printf(p, row++, 0, STYLE_TEXT, "min %.4g  max %.4g", s->whole.min, s->whole.max);
    }
    draw_pieces(app, p, row + 1, l);
}

/* ---- the screen ------------------------------------------------------------------------------------ */

#define SIDE 38                  /* columns that the pieces of a tensor need beside the tree, without their files */
static void draw(struct app *app, struct pane p)
{
    struct tree *t = tree_of(app);
    if (!t) {
        pane_text(p, 1, 1, STYLE_DIM, app->load == LOAD_FAILED ? "nothing is open: press 1 to see why" : "reading headers");
        return;
    }
    bool wide = p.cols >= 120 && p.rows >= 12;
    struct pane tree = p;
    if (wide) {
        int left = p.cols >= 140 ? p.cols * 66 / 100 : p.cols - SIDE;
        tree = pane_box(pane_part(p, 0, 0, p.rows, left), "");
        tree.col--;
        tree.cols++;
        draw_side(app, pane_box(pane_part(p, 0, left, p.rows, p.cols - left), "selected"), t);
    }
    if (tree.rows > 3)
        draw_heads(app, pane_take(&tree, 1), t);
    list_show(&t->list, tree.rows, wide ? LIST_HALVES : LIST_ROWS);
    for (int row = 0; row < tree.rows && t->list.top + (size_t)row < t->list.count; row++) {
        size_t i = t->list.top + (size_t)row;
        draw_row(app, tree, row, t, t->rows[i], i == t->list.selected);
    }
    if (!t->list.count)
        pane_text(tree, 0, 2, STYLE_DIM, t->filtered ? "no tensor matches; Esc ends the search" : "no tensors");
}

static int page_of(const struct app *app) { return app->canvas.rows > 10 ? app->canvas.rows - 8 : 1; }

static void move(struct app *app, int rows, int cols, bool page)
{
    struct tree *t = tree_of(app);
    if (!t)
        return;
    if (rows) {
        list_move(&t->list, rows * (page ? page_of(app) : 1));
        return;
    }
    uint32_t id = tree_selected(t);
    if (id == TREE_NONE)
        return;
    struct tree_node *n = &t->nodes[id];
    if (cols > 0) {
        if (n->leaf == TREE_NONE && !n->open)
            tree_open(t, id, true);
        else
            list_move(&t->list, 1);
    } else if (n->leaf == TREE_NONE && n->open && !t->filtered) {
        tree_open(t, id, false);
    } else if (n->parent) {
        tree_select(t, n->parent);
    }
}

static void end(struct app *app, bool last)
{
    struct tree *t = tree_of(app);
    if (t)
        list_move(&t->list, last ? (ptrdiff_t)t->list.count : -(ptrdiff_t)t->list.count);
}

static void space(struct app *app)
{
    struct tree *t = tree_of(app);
    uint32_t id = t ? tree_selected(t) : TREE_NONE;
    char bytes[32];
    if (id == TREE_NONE)
        return;
    tree_mark(t, id);
    uint64_t sum = 0;
    for (uint32_t n = 1; n < t->count; n++)
        sum += t->nodes[n].leaf != TREE_NONE && t->nodes[n].marked ? t->nodes[n].bytes : 0;
    list_move(&t->list, 1);
    app_say(app, STYLE_TEXT, "%u marked, %s; y copies names, /!mark shows them, Esc unmarks", t->nodes[0].marked, sl_text_bytes(sum, bytes, sizeof bytes));
}

static void enter(struct app *app)
{
    struct tree *t = tree_of(app);
    uint32_t id = t ? tree_selected(t) : TREE_NONE;
    if (id == TREE_NONE)
        return;
    if (t->nodes[id].leaf == TREE_NONE) {
        tree_open(t, id, !t->nodes[id].open);
        return;
    }
    uint32_t leaf = t->nodes[id].leaf;
    ptrdiff_t logical = t->mode == TREE_LOGICAL ? (ptrdiff_t)leaf
                        : app->opened->logical_of[leaf] == UINT32_MAX ? -1 : (ptrdiff_t)app->opened->logical_of[leaf];
    if (logical < 0) {
        app_say(app, STYLE_DIM, "this array is bookkeeping, no weight");
        return;
    }
    inspect_show(app, logical);
    if (t->mode != TREE_LOGICAL) {
        const struct sl_logical *l = sl_logical_at(app->opened->ck, (size_t)logical);
        for (size_t k = 0; k < l->piece_count; k++)
            if (l->pieces[k] == t->nodes[id].leaf)
                app->inspect.column = k;
    }
}

ptrdiff_t tensors_under_cursor(const struct app *app)
{
    const struct tree *t = tree_of(app);
    const uint32_t id = t ? tree_selected(t) : TREE_NONE, node = id == TREE_NONE ? id : tree_first_leaf(t, id);
    if (node == TREE_NONE)
        return -1;
    const uint32_t leaf = t->nodes[node].leaf;
    if (t->mode == TREE_LOGICAL)
        return (ptrdiff_t)leaf;
    return app->opened->logical_of[leaf] == UINT32_MAX ? -1 : (ptrdiff_t)app->opened->logical_of[leaf];
}

static void tab(struct app *app, int step)
{
    int modes = app->opened && app->opened->info->rank_count ? TREE_MODES : TREE_RANKS;
    app->tensors.mode = (enum tree_mode)(((int)app->tensors.mode + step + modes) % modes);
    tensors_filter(app, app->tensors.filter);
    app_say(app, STYLE_TEXT, "%s", mode_names[app->tensors.mode]);
}

static bool back(struct app *app)
{
    struct tree *t = tree_of(app);
    if (app->tensors.filter[0]) {
        tensors_filter(app, "");
    } else if (t && t->built && t->nodes[0].marked) {
        tree_unmark(t);
        app_say(app, STYLE_TEXT, "nothing is marked any more");
    } else {
        return false;
    }
    return true;
}

static void command(const struct app *app, struct sl_buf *out)
{
    sl_buf_str(out, "ls ");
    shell_word(out, app->options->path);
    if (app->tensors.mode == TREE_FILES)
        sl_buf_str(out, " --sort file");
}

static const char *crumb(const struct app *app, char *out, size_t room)
{
    const struct tree *t = tree_of(app);
    char path[480];
    uint32_t id = t ? tree_selected(t) : TREE_NONE;
    if (id == TREE_NONE || !id)
        snprintf(out, room, "tensors");
    else
        snprintf(out, room, "%s", tree_path(t, id, path, sizeof path));
    return out;
}

bool tensors_select(struct app *app, const char *name)
{
    struct tree *t = tree_of(app);
    char path[512];
    for (uint32_t i = 1; t && i < t->count; i++)
        if (t->nodes[i].depth == 1 && strcmp(tree_path(t, i, path, sizeof path), name) == 0) {
            tree_open(t, i, true);
            tree_select(t, i);
            return true;
        }
    return false;
}

/* ---- search -------------------------------------------------------------------------------------------- */

void tensors_filter(struct app *app, const char *text)
{
    struct tree *t = tree_of(app);
    if (text != app->tensors.filter)
        snprintf(app->tensors.filter, sizeof app->tensors.filter, "%s", text);
    if (!t)
        return;
    tree_filter(t, app->opened->ck, app->opened->logical_of, text);
    if (t->filtered) {
        uint32_t id = tree_selected(t);
        if (id != TREE_NONE && t->nodes[id].leaf == TREE_NONE && (id = tree_next_match(t, 1)) != TREE_NONE)
            tree_select(t, id);
    }
}

static void search_done(struct app *app, const char *text, bool accepted)
{
    struct tree *t = tree_of(app);
    if (accepted) {
        tensors_filter(app, text);
        if (t && t->filtered)
            app_say(app, STYLE_TEXT, "%zu of %u match; n and N step through them, Esc ends the search", t->matches, t->nodes[0].leaves);
        return;
    }
    tensors_filter(app, app->tensors.filter_before);
    if (t && !app->tensors.filter_before[0])
        tree_select(t, app->tensors.before);
}

static void map_search_done(struct app *app, const char *text, bool accepted)
{
    map_filter(app, accepted ? text : app->tensors.filter_before);
}

void act_search(struct app *app)
{
    struct tree *t = tree_of(app);
    bool in_map = app->screen == SCREEN_MAP;
    snprintf(app->tensors.filter_before, sizeof app->tensors.filter_before, "%s", in_map ? app->map.filter : app->tensors.filter);
    if (t)
        app->tensors.before = tree_selected(t);
    prompt_line(app, "/", app->tensors.filter_before, in_map ? map_filter : tensors_filter, in_map ? map_search_done : search_done);
}

void tensors_step_match(struct app *app, int step)
{
    struct tree *t = tree_of(app);
    if (!t || !t->filtered) {
        app_say(app, STYLE_DIM, "nothing is searched for: / begins a search");
        return;
    }
    uint32_t id = tree_next_match(t, step);
    if (id == TREE_NONE)
        app_say(app, STYLE_WARN, "no tensor matches %s", app->tensors.filter);
    else
        tree_select(t, id);
}
void act_next_match(struct app *app) { app->screen == SCREEN_MAP ? map_step_match(app, 1) : tensors_step_match(app, 1); }
void act_previous_match(struct app *app) { app->screen == SCREEN_MAP ? map_step_match(app, -1) : tensors_step_match(app, -1); }

void act_fold_all(struct app *app)
{
    struct tree *t = tree_of(app);
    bool any = false;
    for (uint32_t i = 1; t && i < t->count; i++)
        any |= t->nodes[i].leaf == TREE_NONE && t->nodes[i].open;
    if (t)
        tree_fold_all(t, !any);
}

void act_sort(struct app *app)
{
    static const char *const words[ORDERS] = {
        [ORDER_MODEL] = "in the order of the model", [ORDER_BYTES] = "largest first", [ORDER_NAME] = "by name", [ORDER_WORST] = "worst first",
    };
    struct tree *t = tree_of(app);
    if (t)
        app_say(app, STYLE_TEXT, "%s", tree_sort(t, (t->order + 1) % ORDERS) ? words[t->order] : "out of memory");
}

void act_only_faults(struct app *app)
{
    bool on = strcmp(app->tensors.filter, "!fault") != 0;
    tensors_filter(app, on ? "!fault" : "");
    app_say(app, STYLE_TEXT, on ? "only what a finding is about; ! shows all again" : "all tensors");
}

void act_map_tensor(struct app *app)
{
    struct tree *t = tree_of(app);
    uint32_t id = t ? tree_selected(t) : TREE_NONE;
    const char *name = "";
    if (app->screen == SCREEN_INSPECT && app->inspect.logical >= 0 && app->opened)
        name = sl_logical_at(app->opened->ck, (size_t)app->inspect.logical)->name;
    else if (id != TREE_NONE && t->nodes[id].leaf != TREE_NONE)
        name = t->mode == TREE_LOGICAL ? sl_logical_at(app->opened->ck, t->nodes[id].leaf)->name
                                       : sl_tensor_at(app->opened->ck, t->nodes[id].leaf)->name;
    snprintf(app->map.wanted, sizeof app->map.wanted, "%s", name);
    app_go(app, SCREEN_MAP);
}

const struct screen_ops tensors_ops = { .draw = draw, .move = move, .end = end, .enter = enter, .space = space, .tab = tab,
                                        .back = back, .command = command, .crumb = crumb };
