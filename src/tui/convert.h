/* convert.h: the fields of a conversion: what the files of that screen share.
 *
 *     convert.c       the table of fields, options and command line out of them, keys
 *     convert_view.c  the screen
 *     suggest.c       what fields hold before anybody touched them
 *     planning.c      the plan, made in the background with every change
 *     trial.c         how long it would take
 */
#ifndef SL_TUI_CONVERT_H
#define SL_TUI_CONVERT_H

#include "tui/app.h"

enum field_kind { FIELD_INFO, FIELD_TEXT, FIELD_SIZE, FIELD_CHOICE, FIELD_BUTTON };
enum field_effect { EFFECT_NONE, EFFECT_PLAN, EFFECT_REOPEN };
struct choice { const char *word, *title; };    /* word: as on the command line */

/* Targets as bits, in the order of formats; MOE: for models with experts only. */
enum { FOR_HF = 1, FOR_BIN = 2, FOR_PT = 4, FOR_MEGATRON = 8, FOR_DIST = 16, FOR_ALL = 31, FOR_RANKS = FOR_MEGATRON | FOR_DIST, MOE = 64 };

struct field_row {
    const char *label;
    enum field_kind kind;
    enum field_effect effect;
    unsigned when;                       /* FOR_* | MOE */
    const struct choice *choices;
    const char *option;                  /* on the command line, NULL */
    const char *standard;                /* the text a field begins with, left out of the command line */
    const char *empty;                   /* what an empty field means */
    const char *help;
};
extern const struct field_row field_rows[FIELD_COUNT];
extern const enum sl_format format_codes[];
#define FORMATS 5

/* Which fields matter now; keeps the selected one selected. */
void fields_show(struct app *app);
enum field field_selected(const struct app *app);
/* The axis of a size, SL_AXIS_COUNT for other fields. */
enum sl_axis field_axis(enum field field);
/* Sizes that a field could have, with the others as they stand. */
#define MOST_SIZES 64
size_t field_sizes(const struct app *app, enum field field, struct sl_size_choice *out);
int32_t field_size(const struct app *app, enum field field);      /* 0: empty */

/* suggest.c */
void suggest_place(struct app *app, int number);
bool suggest_left(struct app *app);                                /* the next unfinished run beside the place; false: none */
/* Is there less space, or memory, than the plan needs? */
bool space_short(const struct app *app);
bool memory_short(const struct app *app);

/* convert_view.c */
void convert_draw(struct app *app, struct pane p);

#endif
