/* problem.c: lists of findings. The table of codes is in problemtable.c. */
#include "checkpoint/problem.h"

#include "base/text.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const struct sl_problem_code *row_of(const char *code)
{
    for (size_t i = 0; i < sl_problem_table_count; i++)
        if (!strcmp(sl_problem_table[i].code, code))
            return &sl_problem_table[i];
    assert(false && "a problem code that is not in the table");
    return NULL;
}

/* A printable copy in the arena; "" for NULL or when memory is out, which the arena remembers. */
static const char *keep(struct sl_arena *arena, const char *text)
{
    if (!text || !*text)
        return "";
    struct sl_buf made = { 0 };
    sl_buf_printable(&made, text, strlen(text));
    const char *kept = made.failed || !made.data ? NULL : sl_arena_strn(arena, made.data, made.len);
    sl_buf_free(&made);
    arena->starved = arena->starved || !kept;
    return kept ? kept : "";
}

/* Room for one more; false when memory is out (the finding is dropped, and the arena remembers). */
static bool make_room(struct sl_problems *p)
{
    if (p->count < p->room)
        return true;
    const size_t room = p->room ? 2 * p->room : 16;
    struct sl_problem *items = SL_ARENA_NEW(p->arena, struct sl_problem, room);
    if (!items)
        return false;
    if (p->count)
        memcpy(items, p->items, p->count * sizeof *items);
    p->items = items;
    p->room = room;
    return true;
}

void sl_problem_add(struct sl_problems *p, const char *code, const char *where,
                    const struct sl_problem_text *more, const char *format, ...)
{
    const struct sl_problem_code *row = row_of(code);
    if (!row || !make_room(p))
        return;

    struct sl_buf message = { 0 };
    va_list args;
    va_start(args, format);
    sl_buf_vprintf(&message, format, args);
    va_end(args);

    const struct sl_problem_text own = more ? *more : (struct sl_problem_text){ 0 };
    p->items[p->count++] = (struct sl_problem){
        .severity = row->severity,
        .code = row->code,
        .where = keep(p->arena, where),
        .message = keep(p->arena, message.failed ? row->title : message.data),
        .expected = own.expected ? keep(p->arena, own.expected) : row->expected,
        .cause = own.cause ? keep(p->arena, own.cause) : row->cause,
        .damage = own.damage ? keep(p->arena, own.damage) : row->damage,
        .next = own.next ? keep(p->arena, own.next) : row->advice,
        .file = "", .tensor = "", .param = "",
        .tp = -1, .pp = -1, .ep = -1, .offset = -1,
    };
    sl_buf_free(&message);
}

void sl_problems_copy(struct sl_problems *p, const struct sl_problems *from)
{
    for (size_t i = 0; i < from->count; i++) {
        const struct sl_problem *f = &from->items[i];
        if (!make_room(p))
            return;
        struct sl_problem *to = &p->items[p->count++];
        *to = *f;                                   /* code is of the table, which stays */
        const char **texts[] = { &to->where, &to->message, &to->expected, &to->cause, &to->damage, &to->next,
                                 &to->file, &to->tensor, &to->param };
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
            *texts[k] = keep(p->arena, *texts[k]);
    }
}

static unsigned explained_by(const char *code)
{
    for (size_t i = 0; i < sl_explanation_count; i++)
        if (!strcmp(sl_explanations[i].code, code))
            return sl_explanations[i].what;
    return 0;
}

bool sl_problems_explain(const struct sl_problems *p, enum sl_explains what, const char *where)
{
    const size_t len = where ? strlen(where) : 0;
    for (size_t i = 0; i < p->count; i++)
        if (explained_by(p->items[i].code) & what &&
            (!where || (!strncmp(p->items[i].where, where, len) && (!len || strchr(" /", p->items[i].where[len])))))
            return true;
    return false;
}

struct keyed { struct sl_problem problem; size_t row; };
static int by_weight(const struct keyed *a, const struct keyed *b)
{
    if (a->problem.severity != b->problem.severity)
        return a->problem.severity > b->problem.severity ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

/* A stable merge of two sorted runs. */
static void merge(const struct keyed *from, size_t left, size_t right, size_t end, struct keyed *to)
{
    size_t a = left, b = right;
    for (size_t k = left; k < end; k++)
        to[k] = a < right && (b >= end || by_weight(&from[a], &from[b]) <= 0) ? from[a++] : from[b++];
}

void sl_problems_sort(struct sl_problems *p)
{
    if (p->count < 2)
        return;
    struct keyed *from = malloc(p->count * sizeof *from), *to = malloc(p->count * sizeof *to);
    if (from && to) {
        for (size_t i = 0; i < p->count; i++)
            from[i] = (struct keyed){ p->items[i], (size_t)(row_of(p->items[i].code) - sl_problem_table) };
        for (size_t width = 1; width < p->count; width *= 2) {
            for (size_t i = 0; i < p->count; i += 2 * width)
                merge(from, i, i + width < p->count ? i + width : p->count, i + 2 * width < p->count ? i + 2 * width : p->count, to);
            struct keyed *swap = from;
            from = to;
            to = swap;
        }
        for (size_t i = 0; i < p->count; i++)
            p->items[i] = from[i].problem;
    }
    free(from);
    free(to);
}

bool sl_problems_have(const struct sl_problems *p, enum sl_severity at_least)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->items[i].severity >= at_least)
            return true;
    return false;
}
