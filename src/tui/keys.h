/* keys.h: the one key table. It makes the bar, the help screen, docs/keys.md
 * and what a key says where it does nothing. */
#ifndef SL_TUI_KEYS_H
#define SL_TUI_KEYS_H

#include <stddef.h>

struct app;
struct sl_buf;

/* Keys that are no characters. A key is a code point or one of these. */
enum key {
    K_NONE = 0, CTRL_B = 2, CTRL_C = 3, CTRL_D = 4, CTRL_F = 6, K_TAB = 9, CTRL_L = 12, K_ENTER = 13, CTRL_U = 21, CTRL_W = 23, CTRL_Z = 26, K_ESC = 27,
    K_SPECIAL = 0x110000, K_UP, K_DOWN, K_LEFT, K_RIGHT, K_PAGE_UP, K_PAGE_DOWN,
    K_HOME, K_END, K_BACK_TAB, K_BACKSPACE, K_DELETE, K_CLICK, K_WHEEL_UP, K_WHEEL_DOWN, K_SPECIAL_END
};

enum screen_id {
    SCREEN_OVERVIEW, SCREEN_TENSORS, SCREEN_INSPECT, SCREEN_MAP, SCREEN_CONVERT, SCREEN_RUN, SCREEN_REPORT, SCREEN_DIFF, SCREEN_HELP,
    SCREEN_COUNT
};
/* Screens as bits. */
enum {
    ON_OVERVIEW = 1 << SCREEN_OVERVIEW, ON_TENSORS = 1 << SCREEN_TENSORS, ON_INSPECT = 1 << SCREEN_INSPECT,
    ON_MAP = 1 << SCREEN_MAP, ON_CONVERT = 1 << SCREEN_CONVERT, ON_RUN = 1 << SCREEN_RUN,
    ON_REPORT = 1 << SCREEN_REPORT, ON_DIFF = 1 << SCREEN_DIFF, ON_HELP = 1 << SCREEN_HELP, EVERYWHERE = (1 << SCREEN_COUNT) - 1
};
enum bar { BAR_NO, BAR_SCREEN, BAR_RIGHT };   /* in no bar, in the screen's key line, in the bottom bar */

struct key_row {
    int key, alias;             /* alias: a second key for the same, 0 */
    unsigned where;             /* ON_* bits */
    enum bar bar;
    const char *word;           /* in the bar */
    const char *help;           /* in ?, docs/keys.md */
    const char *elsewhere;      /* what it says on other screens, NULL if it is everywhere */
    void (*act)(struct app *app);
};
extern const struct key_row key_rows[];
extern const size_t key_row_count;

struct screen_row { const char *name, *tiny, *short_, *title, *what; };
extern const struct screen_row screen_rows[SCREEN_COUNT];

/* The row of a key on a screen; one for another screen if there is none; NULL
 * when nobody knows the key. */
const struct key_row *key_find(int key, enum screen_id screen);
/* "Enter", "PgDn", "f", "Ctrl-L" */
const char *key_label(int key, char *out, size_t room);

/* Scripts: characters are keys; <Enter> <Esc> <Tab> <BackTab> <Space> <Up>
 * <Down> <Left> <Right> <PgUp> <PgDn> <Home> <End> <BS> <C-b> <C-c> <C-d>
 * <C-f> <C-l> <C-u> <C-w> <C-z> <lt>; <40x10> resizes to 40 columns and 10 rows; <wait> lets
 * all work finish, a running conversion included; after <hurry>, until the
 * next <wait>, keys are pressed without waiting for the work of those before. Line ends count for
 * nothing. Returns the next of them and moves *at. */
enum script_kind { SCRIPT_END, SCRIPT_KEY, SCRIPT_SIZE, SCRIPT_WAIT, SCRIPT_HURRY, SCRIPT_WRONG };
struct script_step { enum script_kind kind; int key, cols, rows; };
struct script_step script_next(const char **at);

#endif
