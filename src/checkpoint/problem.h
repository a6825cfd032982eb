/* problem.h: findings, and the table of every kind there is. The table (in
 * problemtable.c) makes docs/problems.md, the severity of each code and the parts
 * of the card that are not known better; a finding with a code that is not in it
 * is a bug and asserts. */
#ifndef SL_CHECKPOINT_PROBLEM_H
#define SL_CHECKPOINT_PROBLEM_H

#include "base/arena.h"
#include <shardlens/shardlens.h>

struct sl_problems {
    struct sl_arena *arena;          /* texts live here */
    struct sl_problem *items;        /* grown in the arena */
    size_t count, room;
};
struct sl_problem_text { const char *expected, *cause, *damage, *next; };   /* NULL: what the table says */

/* Adds one finding of no place; severity from the table. `more` may be NULL. Texts are made printable. Where
 * memory is out arena->starved tells, and who owns the list fails. */
void sl_problem_add(struct sl_problems *p, const char *code, const char *where,
                    const struct sl_problem_text *more, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Adds copies of all of `from`, with their severities. */
void sl_problems_copy(struct sl_problems *p, const struct sl_problems *from);
/* Much that is odd follows from something else that is told already. */
enum sl_explains {
    SL_EXPLAINS_RANK = 1,            /* what is of one rank: it is of another save, or of another place */
    SL_EXPLAINS_LAYERS = 2,          /* that layers are not counted rightly */
    SL_EXPLAINS_RANK_SHAPES = 4,     /* shapes that the model does not have, on one rank */
    SL_EXPLAINS_SHAPES = 8,          /* the same, on any */
};
/* Is there a finding that explains this at that place: a rank folder, its file or a tensor of it? where NULL: anywhere. */
bool sl_problems_explain(const struct sl_problems *p, enum sl_explains what, const char *where);
/* Worst first, then as in the table: causes before what follows from them. */
void sl_problems_sort(struct sl_problems *p);
bool sl_problems_have(const struct sl_problems *p, enum sl_severity at_least);

extern const struct sl_problem_code sl_problem_table[];    /* a row: shardlens.h */
extern const size_t sl_problem_table_count;
extern const struct sl_explanation { const char *code; unsigned what; } sl_explanations[];   /* what: of sl_explains */
extern const size_t sl_explanation_count;

#endif
