/* map_view.c: the map as a screen: the list of one side, and what its selected row is made
 * of or becomes. What stands under the cursor is redrawn with every key, so columns stand
 * still: only characters that differ go to the terminal. */
#include "tui/map.h"
#include <stdio.h>
#include <string.h>

#define LABEL 13

/* ---- boxes and places in text ---------------------------------------------------- */

/* "[0:28,:]": the colon alone is all of an axis. */
static const char *box_text(const int64_t *lo, const int64_t *hi, uint32_t ndim, const int64_t *shape, char *out, size_t room)
{
    size_t used = 0;
    snprintf(out, room, "scalar");
    for (uint32_t a = 0; a < ndim && a < 8 && used < room; a++) {
        const char *before = a ? "," : "[", *after = a + 1 == ndim ? "]" : "";
        if (lo[a] == 0 && hi[a] == shape[a])
            used += (size_t)snprintf(out + used, room - used, "%s:%s", before, after);
        else
            used += (size_t)snprintf(out + used, room - used, "%s%lld:%lld%s", before, (long long)lo[a], (long long)hi[a], after);
    }
    return out;
}

static char piece_letter(size_t i)
{
    static const char letters[] = "123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return letters[i % (sizeof letters - 1)];
}

static char letter_of(const struct traced *t, size_t i)
{
    return t->pieces[i].source == SIZE_MAX ? '0' : piece_letter(i);
}

static const char *file_name(const struct app *app, int32_t file)
{
    const struct sl_checkpoint_info *info = app->opened->info;
    return file >= 0 && (size_t)file < info->file_count ? info->files[file].name : "?";
}

/* "FILE from byte 1234 on": where the first element of a source box lies. */
static void source_place(const struct app *app, const struct sl_piece_info *piece, char *out, size_t room)
{
    const struct sl_tensor *t = sl_tensor_at(app->opened->ck, piece->source);
    char name[512];
    sl_printable(file_name(app, t->file), name, sizeof name);
    const uint64_t size = t->count ? t->bytes / t->count : 0;
    uint64_t at = t->offset;
    for (uint32_t a = 0; a < t->ndim && a < 8; a++)
        at += (uint64_t)(piece->source_lo[a] * t->stride[a]) * size;
    if (t->flags & SL_TENSOR_DEFLATED)
        snprintf(out, room, "%s, in a compressed record", name);
    else if (in_item(app) || t->flags & SL_TENSOR_SCALED)
        snprintf(out, room, "%s, in the item at byte %llu", name, (unsigned long long)(in_item(app) ? t->storage_begin : t->offset));
    else
        snprintf(out, room, "%s from byte %llu on", name, (unsigned long long)at);
}

static void target_place(const struct planned *plan, size_t target, const struct sl_piece_info *piece, char *out, size_t room)
{
    const struct sl_plan_target *t = sl_plan_target(plan->plan, target);
    char name[512];
    uint64_t count = 1, at = 0;
    for (uint32_t a = 0; a < t->ndim && a < 8; a++) {
        at = at * (uint64_t)t->shape[a] + (uint64_t)piece->target_lo[a];
        count *= (uint64_t)t->shape[a];
    }
    const bool known = t->file >= 0 && (size_t)t->file < plan->info->file_count;
    sl_printable(known ? plan->info->files[t->file].name : "?", name, sizeof name);
    snprintf(out, room, "%s from byte %llu on", name, (unsigned long long)(t->offset + (count ? at * (t->bytes / count) : 0)));
}

/* ---- pieces ----------------------------------------------------------------------- */

struct piece_text { char name[512], place[80], from[128], to[128]; const char *op; };

/* One piece in words. Of a target: where it comes from; of a source: what it becomes. */
static void piece_words(const struct app *app, const struct planned *plan, const struct traced *t, size_t i, struct piece_text *out)
{
    const struct sl_piece_info *p = &t->pieces[i];
    const struct sl_plan_target *target = sl_plan_target(plan->plan, t->targets[i]);
    const bool of_target = app->map.side == MAP_TARGETS;
    *out = (struct piece_text){ .op = strcmp(p->op, "copy") ? p->op : "" };
    box_text(p->target_lo, p->target_hi, p->target_ndim, target->shape, out->to, sizeof out->to);
    if (p->source == SIZE_MAX) {
        snprintf(out->place, sizeof out->place, "padding");
        return;
    }
    box_text(p->source_lo, p->source_hi, p->source_ndim, sl_tensor_at(app->opened->ck, p->source)->shape, out->from, sizeof out->from);
    if (of_target)
        piece_place(app, p->source, out->place, sizeof out->place);
    snprintf(out->name, sizeof out->name, "%s", of_target ? p->source_name : target->name);
}

/* Columns that hold every box of the piece list, rounded so that they seldom move. */
struct piece_columns { int name, from, to; };
static struct piece_columns columns_of(struct app *app, const struct planned *plan, const struct traced *t, int cols)
{
    int from = 12, to = 12;
    struct piece_text text;
    for (size_t i = 0; i < t->count && i < 64; i++) {
        piece_words(app, plan, t, i, &text);
        const int a = (int)strlen(text.from), b = (int)(strlen(text.to) + (*text.op ? strlen(text.op) + 1 : 0));
        from = a > from ? a : from;
        to = b > to ? b : to;
    }
    from = (from + 3) / 4 * 4;
    to = (to + 3) / 4 * 4;
    struct piece_columns c = { .name = app->map.side == MAP_TARGETS ? 16 : 3, .to = cols - to };
    c.from = c.to - 4 - from;
    return c;
}

static void draw_piece(struct app *app, struct pane p, int row, const struct planned *plan, const struct traced *t, size_t i, struct piece_columns c)
{
    struct piece_text text, above;
    piece_words(app, plan, t, i, &text);
    const bool here = app->map.in_pieces && i == app->map.piece.selected;
    if (here) {
        pane_glyph(p, row, 0, STYLE_SELECTED, GLYPH_SELECT);
        pane_cursor(p, row, 0, false);
    }
    pane_text(p, row, 1, STYLE_ACCENT, (char[]){ letter_of(t, i), '\0' });
    if (c.from < c.name) {               /* no room for names, which the tensor above the list tells */
        const int after = 3 + pane_text(p, row, 3, STYLE_TEXT, text.place);
        pane_printf(p, row, after + (after > 3), STYLE_TEXT, "%s%s%s", text.from, *text.from ? "->" : "", text.to);
        return;
    }
    if (c.name > 3)
        pane_textw(p, row, 3, 12, STYLE_TEXT, text.place);
    bool same = false;
    if (i && row) {
        piece_words(app, plan, t, i - 1, &above);
        same = !strcmp(text.name, above.name) && *text.name;
    }
    if (same)                            /* as in a ledger: what stands above */
        pane_text(p, row, c.name + 1, STYLE_TEXT, "\"");
    else if (c.from - c.name > 7)
        pane_name(p, row, c.name, c.from - c.name - 1, STYLE_TEXT, text.name);
    pane_text(p, row, c.from, STYLE_TEXT, text.from);
    pane_text(p, row, c.to - 3, STYLE_TEXT, "->");
    const int col = c.to + pane_text(p, row, c.to, STYLE_TEXT, text.to);
    if (*text.op)
        pane_text(p, row, col + 1, STYLE_WARN, text.op);
}

/* Fills the pane with pieces; returns the rows used. */
static int draw_pieces(struct app *app, struct pane p, const struct planned *plan, const struct traced *t)
{
    struct list *l = &app->map.piece;
    const struct piece_columns c = columns_of(app, plan, t, p.cols);
    const bool more = t->count > (size_t)(p.rows > 0 ? p.rows : 0) || t->total > t->count;
    const int rows = p.rows - more;
    list_show(l, rows, LIST_ROWS);
    int row = 0;
    for (; row < rows && l->top + (size_t)row < t->count; row++)
        draw_piece(app, p, row, plan, t, l->top + (size_t)row, c);
    if (more && p.rows > 0) {
        pane_printf(p, row, 3, STYLE_DIM, "%zu of %zu pieces; %s", l->top + (size_t)row, t->total, app->map.in_pieces ? "j and k move" : "Enter, then j and k");
        row++;
    }
    return row;
}

/* The selected piece: where its bytes are, where they go. */
#define CARD_ROWS 3
static int draw_card_of_piece(struct app *app, struct pane p, const struct planned *plan, const struct traced *t)
{
    const size_t i = app->map.piece.selected;
    const struct sl_piece_info *piece = i < t->count ? &t->pieces[i] : NULL;
    char from[700], to[700], bytes[32];
    if (!piece)
        return 0;
    const struct sl_plan_target *target = sl_plan_target(plan->plan, t->targets[i]);
    uint64_t count = 1;
    for (uint32_t a = 0; a < target->ndim && a < 8; a++)
        count *= (uint64_t)target->shape[a];
    if (piece->source == SIZE_MAX)
        snprintf(from, sizeof from, "padding: no file");
    else
        source_place(app, piece, from, sizeof from);
    target_place(plan, t->targets[i], piece, to, sizeof to);
    pane_printf(p, 0, 0, STYLE_HEAD, "piece %c", letter_of(t, i));
    pane_printf(p, 0, LABEL, STYLE_TEXT, "%s elements, %s, %s%s%s%s, rule %s", sl_text_grouped(piece_elements(piece), (char[32]){ 0 }, 32),
                sl_text_bytes(count ? piece_elements(piece) * (target->bytes / count) : 0, bytes, sizeof bytes), piece->op, *piece->param ? " of " : "",
                piece->param, "", target->rule);
    pane_text(p, 1, 0, STYLE_HEAD, "from");
    pane_name(p, 1, LABEL, p.cols - LABEL, STYLE_TEXT, from);
    pane_text(p, 2, 0, STYLE_HEAD, "to");
    pane_name(p, 2, LABEL, p.cols - LABEL, STYLE_TEXT, to);
    return CARD_ROWS;
}

/* ---- strip, ledger, proof ------------------------------------------------------------ */

/* The axis along which the pieces differ: the one to draw. */
static uint32_t drawn_axis(const struct traced *t, bool of_source)
{
    const uint32_t ndim = t->count ? (of_source ? t->pieces[0].source_ndim : t->pieces[0].target_ndim) : 0;
    for (uint32_t a = 0; a < ndim && a < 8; a++)
        for (size_t i = 1; i < t->count; i++)
            if (of_source ? t->pieces[i].source_lo[a] != t->pieces[0].source_lo[a] : t->pieces[i].target_lo[a] != t->pieces[0].target_lo[a])
                return a;
    return 0;
}

/* Which piece fills a step of an axis: its letter, '.' none. The label says how many steps a letter is. */
static char strip_letter(const struct traced *t, bool of_source, uint32_t axis, int64_t at)
{
    for (size_t k = 0; k < t->count; k++) {
        const struct sl_piece_info *p = &t->pieces[k];
        if ((of_source ? p->source_lo : p->target_lo)[axis] <= at && at < (of_source ? p->source_hi : p->target_hi)[axis])
            return letter_of(t, k);
    }
    return '.';
}

static int draw_strip(struct pane p, int row, const struct traced *t, bool of_source, const int64_t *shape, uint32_t ndim)
{
    if (!ndim || ndim > 8 || !t->count)
        return row;
    const uint32_t axis = drawn_axis(t, of_source);
    const int64_t size = shape[axis];
    char label[40];
    int width = p.cols - LABEL < 48 ? p.cols - LABEL : 48;
    if (size < 1 || width < 4)
        return row;
    const int64_t block = (size + width - 1) / width;
    width = (int)((size + block - 1) / block);
    for (int i = 0; i < width; i++)
        pane_text(p, row, LABEL + i, STYLE_ACCENT, (char[]){ strip_letter(t, of_source, axis, i * block), '\0' });
    static const char *const words[] = { "row", "col", "step" };
    if (block == 1)
        snprintf(label, sizeof label, "by %s", words[axis > 1 ? 2 : axis]);
    else
        snprintf(label, sizeof label, "by %lld %ss", (long long)block, words[axis > 1 ? 2 : axis]);
    pane_textw(p, row, 0, LABEL - 1, STYLE_HEAD, label);
    return row + 1;
}

static uint64_t count_of(const int64_t *shape, uint32_t ndim)
{
    uint64_t all = 1;
    for (uint32_t d = 0; d < ndim; d++)
        all *= shape[d] > 0 ? (uint64_t)shape[d] : 0;
    return all;
}

/* Where there is one row for it, its middle, which is about the targets: "..; every element of N targets is written exactly once; ..". */
static int draw_proof(struct pane p, const char *proof)
{
    const char *from = strstr(proof, "; "), *to = from ? strchr(from + 1, ';') : NULL;
    if (p.rows > 1 || !to)
        return pane_wrap(p, 0, 0, STYLE_TEXT, proof);
    pane_printf(p, 0, 0, STYLE_TEXT, "%.*s", (int)(to - from - 2), from + 2);
    return 1;
}

/* Elements in the pieces of the whole of them: each target element comes from one place. */
static int draw_target_ledger(struct app *app, struct pane p, int row, const struct traced *t, const struct sl_plan_target *target, const struct sl_plan_info *info)
{
    const struct range *range = &app->map.range;
    const uint64_t all = *range->text ? range->elements : count_of(target->shape, target->ndim);
    char a[32], b[32];
    pane_text(p, row, 0, STYLE_HEAD, "ledger");
    if (t->count < t->total)
        pane_printf(p, row, LABEL, STYLE_TEXT, "%zu pieces, of which %zu are listed", t->total, t->count);
    else
        pane_printf(p, row, LABEL, t->elements == all ? STYLE_GOOD : STYLE_BAD, "%s elements covered %s of %s", t->elements == all ? "=" : "!",
                    sl_text_grouped(t->elements, a, sizeof a), sl_text_grouped(all, b, sizeof b));
    pane_text(p, row + 1, 0, STYLE_HEAD, "proof");
    return row + 1 + draw_proof(pane_part(p, row + 1, LABEL, p.rows - row - 1, p.cols - LABEL), info->proof ? info->proof : "");
}

/* Why a part of a source tensor is left out; NULL when the plan has no line of it. */
static const struct sl_left_out *left_line(const struct app *app, const struct planned *plan, const struct sl_tensor *t)
{
    for (size_t i = 0; i < plan->info->left_out_count; i++)
        if (!strcmp(plan->info->left_out[i].name, t->name) && !strcmp(plan->info->left_out[i].where, file_name(app, t->file)))
            return &plan->info->left_out[i];
    return NULL;
}

static int draw_source_ledger(struct app *app, struct pane p, int row, const struct traced *t, const struct sl_tensor *tensor, const struct planned *plan)
{
    const struct range *range = &app->map.range;
    const uint64_t all = *range->text ? range->elements : tensor->count;
    const struct sl_left_out *left = t->used < all ? left_line(app, plan, tensor) : NULL;
    char a[32], b[32], why[256] = "";
    const bool listed = t->count == t->total && t->target_count <= MOST_TRACED_TARGETS, good = t->used == all || left;
    pane_text(p, row, 0, STYLE_HEAD, "ledger");
    pane_printf(p, row, LABEL, !listed ? STYLE_TEXT : good ? STYLE_GOOD : STYLE_WARN, "%s elements used %s%s of %s", !listed ? "o" : t->used == all ? "=" : "~",
                listed ? "" : "at least ", sl_text_grouped(t->used, a, sizeof a), sl_text_grouped(all, b, sizeof b));
    if (t->used == all || !listed)
        return row + 1;
    if (left)
        sl_printable(left->why, why, sizeof why);
    pane_text(p, row + 1, 0, STYLE_HEAD, left ? "left out" : "unclaimed");
    pane_printf(p, row + 1, LABEL, STYLE_TEXT, "%s%s%s", sl_text_grouped(all - t->used, a, sizeof a), *why ? ": " : "", why);
    return row + 2;
}

/* ---- the selected row -------------------------------------------------------------------- */

static void draw_rule(struct app *app, struct pane p, int row, const struct traced *t, const char *rule)
{
    const struct range *range = &app->map.range;
    if (*range->text)
        pane_printf(p, row, 0, STYLE_ACCENT, "range %s: %s elements in %zu piece%s; Esc ends it", range->text, sl_text_grouped(range->elements, (char[32]){ 0 }, 32),
                    t->total, t->total == 1 ? "" : "s");
    else
        pane_printf(p, row, 0, STYLE_TEXT, "pieces (source -> target) %4zu, %s", t->total, rule);
}

#define USUAL_PIECES 8
/* Pieces, and below them what of card, strip and ledger there is room for. */
static void draw_body(struct app *app, struct pane p, const struct planned *plan, const struct traced *t, size_t tensor)
{
    const bool of_source = app->map.side == MAP_SOURCES, closer = app->map.in_pieces || app->map.range.text[0];
    const struct sl_plan_target *target = of_source ? NULL : sl_plan_target(plan->plan, tensor);
    const struct sl_tensor *source = of_source ? sl_tensor_at(app->opened->ck, tensor) : NULL;
    const int card = closer && p.rows >= CARD_ROWS + 2 ? CARD_ROWS : 0, above = p.rows - card,
              foot = above >= 12 ? 5 : card ? 1 : above >= 7 ? 3 : above >= 5 ? 2 : 0;
    int row = draw_pieces(app, pane_part(p, 0, 0, p.rows - foot - card, p.cols), plan, t);
    const int least = p.rows - foot - card < USUAL_PIECES ? p.rows - foot - card : USUAL_PIECES;
    row = row < least ? least : row;             /* so that what is below stands still under the cursor */
    const bool last = card && p.rows - row >= foot + card + 1;      /* below all, so that nothing moves when it comes */
    if (last)
        draw_card_of_piece(app, pane_part(p, row + foot + 1, 0, card, p.cols), plan, t);
    else if (card)
        row += draw_card_of_piece(app, pane_part(p, row, 0, card, p.cols), plan, t);
    if (foot >= 3)
        row = draw_strip(p, row, t, of_source, of_source ? source->shape : target->shape, of_source ? source->ndim : target->ndim);
    if (foot && of_source)
        draw_source_ledger(app, p, row, t, source, plan);
    else if (foot)
        draw_target_ledger(app, p, row, t, target, plan->info);
}

static void draw_target(struct app *app, struct pane p, const struct planned *plan, size_t target)
{
    const struct sl_plan_target *t = sl_plan_target(plan->plan, target);
    const struct traced *traced = map_traced(app);
    char shape[96], bytes[32], rule[128];
    pane_name(p, 0, 0, p.cols, STYLE_HEAD, t->name);
    pane_printf(p, 1, 0, STYLE_TEXT, "%s%s%s %-14s %8s  ->  %s at byte %llu", sl_dtype_label(t->source_dtype),
                t->dtype == t->source_dtype ? "" : " to ", t->dtype == t->source_dtype ? "" : sl_dtype_label(t->dtype),
                sl_text_shape(t->shape, t->ndim, shape, sizeof shape), sl_text_bytes(t->bytes, bytes, sizeof bytes),
                t->file >= 0 && (size_t)t->file < plan->info->file_count ? plan->info->files[t->file].name : "?",
                (unsigned long long)t->offset);
    if (!traced)
        return;
    snprintf(rule, sizeof rule, "rule %.120s", t->rule);
    draw_rule(app, p, 2, traced, rule);
    draw_body(app, pane_part(p, 3, 0, p.rows - 3, p.cols), plan, traced, target);
}

/* Where the elements of a replica are read from instead. */
static void draw_replica(struct app *app, struct pane p, const struct planned *plan, size_t tensor)
{
    const uint32_t logical = app->opened->logical_of ? app->opened->logical_of[tensor] : UINT32_MAX;
    const struct sl_logical *l = logical == UINT32_MAX ? NULL : sl_logical_at(app->opened->ck, logical);
    const char *why;
    char place[80];
    int row = pane_wrap(p, 0, 0, STYLE_TEXT, "a copy of what another rank holds, which is read instead of it:");
    for (size_t i = 0; l && i < l->piece_count && row < p.rows; i++)
        if (sl_plan_source(plan->plan, l->pieces[i], &why) == SL_SOURCE_READ)
            pane_printf(p, row++, 2, STYLE_TEXT, "%s", piece_place(app, l->pieces[i], place, sizeof place));
}

static void draw_source(struct app *app, struct pane p, const struct planned *plan, size_t tensor)
{
    const struct sl_tensor *t = sl_tensor_at(app->opened->ck, tensor);
    const struct traced *traced = map_traced(app);
    char shape[96], place[64], bytes[32], file[256], rule[64], reason[256];
    const char *why;
    pane_name(p, 0, 0, p.cols, STYLE_HEAD, t->name);
    int col = pane_printf(p, 1, 0, STYLE_TEXT, "%s %-14s %8s  of %s  ", sl_dtype_label(t->dtype), sl_text_shape(t->shape, t->ndim, shape, sizeof shape),
                          sl_text_bytes(t->bytes, bytes, sizeof bytes), piece_place(app, tensor, place, sizeof place));
    if (t->rank >= 0)
        pane_name(p, 1, col, p.cols - col, STYLE_DIM, sl_printable(file_name(app, t->file), file, sizeof file));
    const enum sl_source_use use = sl_plan_source(plan->plan, tensor, &why);
    struct pane rest = pane_part(p, 2, 0, p.rows - 2, p.cols);
    if (use == SL_SOURCE_REPLICA) {
        draw_replica(app, rest, plan, tensor);
    } else if (use != SL_SOURCE_READ) {
        snprintf(reason, sizeof reason, "%s%s%.200s", use == SL_SOURCE_LEFT_OUT ? "left out" : "unclaimed: no rule speaks of it", *why ? ": " : "", why);
        pane_wrap(rest, 0, 0, STYLE_WARN, reason);
    } else if (traced) {
        snprintf(rule, sizeof rule, "goes to %zu target%s", traced->target_count, traced->target_count == 1 ? "" : "s");
        draw_rule(app, p, 2, traced, rule);
        draw_body(app, pane_part(p, 3, 0, p.rows - 3, p.cols), plan, traced, tensor);
    }
}

static void draw_left_out(struct app *app, struct pane p, const struct planned *plan, size_t i)
{
    const struct sl_left_out *l = &plan->info->left_out[i];
    char bytes[32], text[512];
    (void)app;
    pane_name(p, 0, 0, p.cols, STYLE_HEAD, l->name);
    pane_printf(p, 1, 0, STYLE_TEXT, "%s  in %s", sl_text_bytes(l->bytes, bytes, sizeof bytes), sl_printable(l->where, text, sizeof text));
    pane_wrap(p, 2, 0, STYLE_TEXT, sl_printable(l->why, text, sizeof text));
}

/* ---- the screen -------------------------------------------------------------------------------- */

static void side_note(const struct app *app, enum map_side side, size_t i, char *out, size_t room)
{
    const struct planned *p = map_plan(app);
    const char *why;
    char place[80];
    if (side == MAP_TARGETS)
        snprintf(out, room, "%s", sl_plan_target(p->plan, i)->rule);
    else if (side == MAP_SOURCES)
        snprintf(out, room, "%-9s %s", source_use(app, i, &why), piece_place(app, i, place, sizeof place));
    else
        sl_text_bytes(p->info->left_out[i].bytes, out, room);
}

static void draw_list(struct app *app, struct pane p, bool wide)
{
    struct map_state *m = &app->map;
    struct list *l = &m->lists[m->side];
    char note[128];
    list_show(l, p.rows, wide ? LIST_HALVES : LIST_ROWS);
    for (int row = 0; row < p.rows && l->top + (size_t)row < l->count; row++) {
        size_t i = map_row(app, m->side, l->top + (size_t)row);
        bool here = l->top + (size_t)row == l->selected;
        side_note(app, m->side, i, note, sizeof note);
        /* the name first: the detail tells the rule in full */
        const int name = text_cells(p.canvas, side_name(app, m->side, i)), quarter = p.cols / 4, rest = p.cols - 4 - name;
        const int room = rest > quarter ? rest : quarter;
        int width = text_cells(p.canvas, note);
        width = width > room ? room : width;
        if (here) {
            pane_glyph(p, row, 0, STYLE_SELECTED, GLYPH_SELECT);
            if (!m->in_pieces)
                pane_cursor(p, row, 0, false);
        }
        pane_name(p, row, 2, p.cols - width - 4, STYLE_TEXT, side_name(app, m->side, i));   /* the detail repeats it in bold */
        pane_textw(p, row, p.cols - width, width, STYLE_DIM, note);
    }
    if (!l->count)
        pane_text(p, 0, 2, STYLE_DIM, m->filter[0] ? "nothing matches; Esc ends the search" : "nothing is left out");
}

static void draw_tabs(struct app *app, struct pane p)
{
    static const char *const titles[MAP_SIDES] = { "targets", "sources", "left out" };
    const struct map_state *m = &app->map;
    const size_t *uses = m->uses;
    char text[96];
    int col = 0;
    for (int s = 0; s < MAP_SIDES; s++) {
        snprintf(text, sizeof text, "%s %zu", titles[s], side_count(app, (enum map_side)s));
        col += pane_text(p, 0, col, s == (int)m->side ? STYLE_SELECTED : STYLE_DIM, text) + 2;
    }
    if (m->filter[0]) {
        pane_printf(p, 0, col, STYLE_ACCENT, "/%s %zu", m->filter, m->lists[m->side].count);
        return;
    }
    snprintf(text, sizeof text, "%zu read, %zu copies, %zu unclaimed", uses[SL_SOURCE_READ], uses[SL_SOURCE_REPLICA], uses[SL_SOURCE_UNCLAIMED]);
    if (p.cols - col > text_cells(p.canvas, text) + 1)
        pane_right(p, 0, p.cols, uses[SL_SOURCE_UNCLAIMED] ? STYLE_WARN : STYLE_DIM, text);
}

static void draw_detail(struct app *app, struct pane p, const struct planned *plan)
{
    size_t i;
    static void (*const details[MAP_SIDES])(struct app *, struct pane, const struct planned *, size_t) = { draw_target, draw_source, draw_left_out };
    if (map_selected(app, &i))
        details[app->map.side](app, p, plan, i);
}

static void draw_status(struct pane p, const struct planned *plan)
{
    char bytes[32];
    int col = pane_printf(p, 0, 0, STYLE_GOOD, "= all %zu targets have a full recipe, nothing is written", plan->info->target_count);
    pane_printf(p, 0, col, STYLE_TEXT, "  %s, %zu left out", sl_text_bytes(plan->info->write_bytes, bytes, sizeof bytes), plan->info->left_out_count);
}

static void draw_no_plan(struct app *app, struct pane p)
{
    char text[sizeof app->plan_error.where + sizeof app->plan_error.message + 4];
    if (app->load != LOAD_DONE) {
        pane_text(p, 1, 1, STYLE_DIM, app->load == LOAD_FAILED ? "nothing is open: press 1 to see why" : "reading headers");
    } else if (app->plan_state == PLAN_FAILED) {
        snprintf(text, sizeof text, "%s%s%s", app->plan_error.where, *app->plan_error.where ? ": " : "", app->plan_error.message);
        int row = 1 + pane_wrap(p, 1, 1, STYLE_BAD, "! there is no plan, and nothing can be converted as it is:");
        row += pane_wrap(p, row, 1, STYLE_TEXT, text);
        pane_wrap(p, row + 1, 1, STYLE_DIM, "Screen 5 holds the choices that lead to it; f shows what was found wrong.");
    } else {
        pane_text(p, 1, 1, STYLE_DIM, "planning");
    }
}

void map_draw(struct app *app, struct pane p)
{
    const struct planned *plan = map_plan(app);
    if (!plan) {
        draw_no_plan(app, p);
        return;
    }
    bool wide = p.cols >= 120 && p.rows >= 14;
    if (p.rows > 8)
        draw_status(pane_part(pane_take(&p, 1), 0, 1, 1, p.cols - 2), plan);
    if (wide) {
        int left = p.cols * 44 / 100;
        struct pane list = pane_part(p, 0, 0, p.rows, left), inside = pane_box(list, "");
        draw_tabs(app, pane_part(list, 0, 2, 1, left - 4));
        draw_list(app, pane_part(inside, 0, 0, inside.rows, inside.cols), true);
        draw_detail(app, pane_box(pane_part(p, 0, left, p.rows, p.cols - left), app->map.side == MAP_SOURCES ? "what becomes of it" : "how it is pieced together"), plan);
        return;
    }
    p = pane_part(p, 0, p.cols > 30, p.rows, p.cols - 2 * (p.cols > 30));
    if (p.rows > 4)
        draw_tabs(app, pane_take(&p, 1));
    const bool closer = app->map.in_pieces || app->map.range.text[0];
    if (p.rows <= 10 && closer) {                /* one of both */
        draw_detail(app, p, plan);
        return;
    }
    int rows = p.rows > 10 ? (p.rows > 20 ? p.rows * 2 / 5 : 4) : p.rows;
    draw_list(app, pane_take(&p, rows), false);
    if (p.rows > 3) {
        pane_rule(pane_take(&p, 1), 0);
        draw_detail(app, p, plan);
    }
}
