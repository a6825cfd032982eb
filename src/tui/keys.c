/* keys.c: the key table and what is made of it. */
#include "tui/app.h"
#include <stdio.h>
#include <string.h>

const struct screen_row screen_rows[SCREEN_COUNT] = {
    /*                    name        tiny  short       title        what */
    [SCREEN_OVERVIEW] = { "overview", "Ov", "Over",     "Overview",  "what it is, whether it is whole, what was found" },
    [SCREEN_TENSORS] =  { "tensors",  "Te", "Tens",     "Tensors",   "the tensors as a tree, merged over ranks; Tab shows the pieces" },
    [SCREEN_INSPECT] =  { "inspect",  "In", "Insp",     "Inspect",   "one tensor: statistics, histogram, values, rank by rank" },
    [SCREEN_MAP] =      { "map",      "Ma", "Map",      "Map",       "where each row of the target comes from, before anything is written" },
    [SCREEN_CONVERT] =  { "convert",  "Co", "Conv",     "Convert",   "choose, check, START" },
    [SCREEN_RUN] =      { "run",      "Ru", "Run",      "Run",       "the conversion as it goes" },
    [SCREEN_REPORT] =   { "report",   "Re", "Report",   "Report",    "what was written and how it was verified" },
    [SCREEN_DIFF] =     { "diff",     "Di", "Diff",     "Diff",      "another checkpoint beside this one: weight by weight, how far apart" },
    [SCREEN_HELP] =     { "help",     "?",  "Help",     "Help",      "these keys" },
};

const struct key_row key_rows[] = {
    /* screens */
    { '1', 0, EVERYWHERE, BAR_NO, "", "Overview: what it is, whether it is whole", NULL, act_screen_1 },
    { '2', 0, EVERYWHERE, BAR_NO, "", "Tensors: the tree", NULL, act_screen_2 },
    { '3', 0, EVERYWHERE, BAR_NO, "", "Inspect: one tensor", NULL, act_screen_3 },
    { '4', 0, EVERYWHERE, BAR_NO, "", "Map: where each row of the target comes from", NULL, act_screen_4 },
    { '5', 0, EVERYWHERE, BAR_NO, "", "Convert: choose, check, START", NULL, act_screen_5 },
    { '6', 0, EVERYWHERE, BAR_NO, "", "Run: the conversion as it goes", NULL, act_screen_6 },
    { '7', 0, EVERYWHERE, BAR_NO, "", "Report: what was written and verified", NULL, act_screen_7 },
    { '8', 0, EVERYWHERE, BAR_NO, "", "Diff: another checkpoint beside this one, how far apart", NULL, act_screen_8 },
    /* moving */
    { K_UP, 'k', EVERYWHERE, BAR_NO, "up", "One row up", NULL, act_up },
    { K_DOWN, 'j', EVERYWHERE, BAR_NO, "down", "One row down", NULL, act_down },
    { K_LEFT, 'h', EVERYWHERE, BAR_NO, "left", "Left; fold, or go to the folder above", NULL, act_left },
    { K_RIGHT, 'l', EVERYWHERE, BAR_NO, "right", "Right; unfold", NULL, act_right },
    { K_PAGE_UP, CTRL_B, EVERYWHERE, BAR_NO, "page up", "One page up", NULL, act_page_up },
    { K_PAGE_DOWN, CTRL_F, EVERYWHERE, BAR_NO, "page down", "One page down", NULL, act_page_down },
    { CTRL_U, 0, EVERYWHERE, BAR_NO, "half up", "Half a page up", NULL, act_half_up },
    { CTRL_D, 0, EVERYWHERE, BAR_NO, "half down", "Half a page down", NULL, act_half_down },
    { 'g', K_HOME, EVERYWHERE, BAR_NO, "first", "First row", NULL, act_first },
    { 'G', K_END, EVERYWHERE, BAR_NO, "last", "Last row", NULL, act_last },
    { K_ENTER, 0, EVERYWHERE, BAR_NO, "open", "Open, edit or choose what is selected", NULL, act_enter },
    { ' ', 0, EVERYWHERE, BAR_NO, "choose", "Mark (of a folder: all below); next choice of a field", NULL, act_space },
    { K_TAB, 0, EVERYWHERE, BAR_NO, "other side", "The other view of this screen", NULL, act_tab },
    { K_BACK_TAB, 0, EVERYWHERE, BAR_NO, "back", "The other view, the other way round", NULL, act_back_tab },
    { K_ESC, K_BACKSPACE, EVERYWHERE, BAR_NO, "back", "Close a card, end a search, go back", NULL, act_back },
    /* of single screens */
    { 'e', 0, ON_OVERVIEW, BAR_SCREEN, "explain", "Explain the finding: what, expected, cause, damage, next",
      "e explains a finding on the overview: press 1", act_explain },
    { 'd', 0, ON_OVERVIEW, BAR_SCREEN, "dims", "Which of tp, pp, ep and virtual stages (v) are rows and columns of the grid, which are folded",
      "d arranges the grid of the ranks: press 1", act_dimensions },
    { 'z', 0, ON_OVERVIEW, BAR_SCREEN, "zoom", "The ranks of a cell that stands for several",
      "z looks into a cell of the grid: press 1", act_zoom },
    { 'b', 0, ON_OVERVIEW, BAR_SCREEN, "by layer", "The rms by layer; stops or goes on with sampling it",
      "b shows the rms by layer: press 1", act_layers },
    { 's', 0, ON_TENSORS, BAR_SCREEN, "sort", "Order rows as in the model, by size, by name, worst first",
      "s sorts the tree of tensors: press 2", act_sort },
    { '!', 0, ON_TENSORS, BAR_SCREEN, "faults", "Only tensors that a finding is about, or all",
      "! shows only faulty tensors: press 2", act_only_faults },
    { 'z', 0, ON_TENSORS, BAR_SCREEN, "fold all", "Fold or unfold the whole tree",
      "z folds the tree of tensors: press 2", act_fold_all },
    { 'm', 0, ON_TENSORS | ON_INSPECT, BAR_SCREEN, "map", "What becomes of this tensor",
      "m shows what becomes of a tensor: choose one on screen 2", act_map_tensor },
    { 'r', 0, ON_MAP, BAR_SCREEN, "range", "Only a range of the tensor: rows 0:32, a block [0:32,64:128], elements #100:200, bytes of its file @1000:2000",
      "r traces a range of a tensor on the map: press 4", act_range },
    { 'v', 0, ON_INSPECT, BAR_SCREEN, "values", "Values instead of statistics",
      "v shows the values of a tensor: press 3", act_values },
    { 'x', 0, ON_INSPECT, BAR_SCREEN, "measure", "Blocks by rms, largest value, zeros, difference to the other piece",
      "x chooses what the blocks of a tensor show (3), and stops what runs (6, 8)", act_measure },
    { 'c', 0, ON_INSPECT, BAR_SCREEN, "compare", "Compare with the piece before it, element by element",
      "c compares two pieces of a tensor: press 3", act_compare },
    { 'H', 0, ON_INSPECT, BAR_SCREEN, "chart", "Histogram with logarithmic or linear counts, quantiles",
      "H switches the histogram of a tensor: press 3", act_scale },
    { 'L', 0, ON_INSPECT, BAR_SCREEN, "layout", "What the weights show of the order of their rows: QKV, gate and up, RoPE",
      "L looks for the order of rows in the weights of a tensor: press 3", act_layout },
    { '[', 0, ON_INSPECT, BAR_SCREEN, "layer -", "The same tensor one layer down",
      "[ steps through the layers of a tensor: press 3", act_layer_down },
    { ']', 0, ON_INSPECT, BAR_SCREEN, "layer +", "The same tensor one layer up",
      "] steps through the layers of a tensor: press 3", act_layer_up },
    { 'S', 0, ON_CONVERT, BAR_SCREEN, "START", "Start the conversion, when nothing forbids it",
      "S starts a conversion from screen 5, where it is checked first: press 5", act_start },
    { 'i', 0, ON_CONVERT, BAR_SCREEN, "edit", "Edit the text of a field",
      "i edits a field of the conversion: press 5", act_edit },
    { 'p', 0, ON_RUN | ON_DIFF, BAR_SCREEN, "pause", "Pause what runs, or go on",
      "p pauses a running conversion or comparison: press 6 or 8", act_pause },
    { '+', '=', ON_RUN, BAR_SCREEN, "- workers", "One worker more, while it runs; as many as the memory has buffers for",
      "+ and - change the workers of a running conversion: press 6", act_more_workers },
    { '-', 0, ON_RUN, BAR_NO, "workers", "One worker less, once it has done the tensor it is at",
      "+ and - change the workers of a running conversion: press 6", act_fewer_workers },
    { 'x', 0, ON_RUN | ON_DIFF, BAR_SCREEN, "stop", "Stop after the tensors in work; again to take it back. A comparison stops at once",
      "x stops a running conversion or comparison: press 6 or 8", act_stop },
    { 'X', 0, ON_RUN, BAR_SCREEN, "stop now", "Stop the conversion at once, in order; asks first",
      "X stops a running conversion at once: press 6", act_stop_now },
    { 'd', 0, ON_RUN, BAR_SCREEN, "detach", "Leave the conversion running without this terminal; shardlens attach comes back to it",
      "d detaches a running conversion from this terminal: press 6", act_detach },
    { 'v', 0, ON_RUN, BAR_SCREEN, "freeze", "Hold the list of what was just verified, or let it go on",
      "v shows the values of a tensor, and holds the list of a run: press 3 or 6", act_freeze },
    { 'a', 0, ON_REPORT | ON_DIFF, BAR_SCREEN, "all/worst", "All results, or only those that need a look",
      "a shows all results of a report or a comparison: press 7 or 8", act_report_all },
    { 'o', 0, ON_DIFF, BAR_SCREEN, "order", "Order by relative difference, by largest difference, or as in the model",
      "o orders the rows of a comparison: press 8", act_order },
    { 'i', 0, ON_DIFF, BAR_SCREEN, "choose", "Choose the other checkpoint",
      "i edits a field of the conversion or chooses what to compare with: press 5 or 8", act_edit },
    /* everywhere */
    { 'f', 0, EVERYWHERE, BAR_RIGHT, "fault", "Next finding, from any screen", NULL, act_next_finding },
    { 'F', 0, EVERYWHERE, BAR_NO, "", "Previous finding", NULL, act_previous_finding },
    { '/', 0, ON_TENSORS | ON_MAP, BAR_RIGHT, "search",
      "Search as you type: qkv !fault dtype:bf16 layer:3-5 expert:0-7 split:tp kind:norm rank:tp1 shape:64x* bytes>1M -bias !mark",
      "/ searches in lists of tensors: press 2 or 4", act_search },
    { 'n', 0, ON_TENSORS | ON_MAP, BAR_NO, "next", "Next match",
      "n goes to the next match of a search on screen 2 or 4", act_next_match },
    { 'N', 0, ON_TENSORS | ON_MAP, BAR_NO, "previous", "Previous match",
      "N goes to the previous match of a search on screen 2 or 4", act_previous_match },
    { ':', 0, EVERYWHERE, BAR_NO, "command", "A screen or a key by its name: convert, deep check, sort, 4, quit", NULL, act_command },
    { 'D', 0, EVERYWHERE, BAR_NO, "deep check", "Read and check every value; again to stop", NULL, act_deep_check },
    { 'R', 0, EVERYWHERE, BAR_NO, "reread", "Read the checkpoint again, after it was mended", NULL, act_reread },
    { 'y', 0, EVERYWHERE, BAR_NO, "copy", "Copy the command line of this screen (of a card: its text; of marked tensors: their names) to the clipboard", NULL, act_copy },
    { 'w', 0, EVERYWHERE, BAR_NO, "save", "Save the report or the comparison (.txt .md .json .csv; elsewhere: this screen as text)", NULL, act_save },
    { 'q', 0, EVERYWHERE, BAR_RIGHT, "quit", "Quit; asks while a conversion runs", NULL, act_quit },
    { '?', 0, EVERYWHERE, BAR_RIGHT, "help", "All keys", NULL, act_help },
    { CTRL_C, 0, EVERYWHERE, BAR_NO, "quit", "As q", NULL, act_interrupt },
    { CTRL_L, 0, EVERYWHERE, BAR_NO, "redraw", "Draw the screen afresh", NULL, act_redraw },
    { CTRL_Z, 0, EVERYWHERE, BAR_NO, "suspend", "Back to the shell; fg returns", NULL, act_suspend },
};
const size_t key_row_count = sizeof key_rows / sizeof key_rows[0];

const struct key_row *key_find(int key, enum screen_id screen)
{
    const struct key_row *other = NULL;
    for (size_t i = 0; i < key_row_count; i++) {
        const struct key_row *r = &key_rows[i];
        if (r->key != key && (!r->alias || r->alias != key))
            continue;
        if (r->where & 1u << screen)
            return r;
        other = r;
    }
    return other;
}

static const struct { int key; const char *name, *token; } special[] = {
    { K_TAB, "Tab", "Tab" },        { K_ENTER, "Enter", "Enter" },  { K_ESC, "Esc", "Esc" },
    { ' ', "Space", "Space" },        { K_UP, "Up", "Up" },           { K_DOWN, "Down", "Down" },
    { K_LEFT, "Left", "Left" },    { K_RIGHT, "Right", "Right" },  { K_PAGE_UP, "PgUp", "PgUp" },
    { K_PAGE_DOWN, "PgDn", "PgDn" },{ K_HOME, "Home", "Home" },     { K_END, "End", "End" },
    { K_BACK_TAB, "Shift-Tab", "BackTab" }, { K_BACKSPACE, "Backspace", "BS" }, { K_DELETE, "Delete", "Del" },
    { CTRL_B, "Ctrl-B", "C-b" },      { CTRL_D, "Ctrl-D", "C-d" },       { CTRL_F, "Ctrl-F", "C-f" },
    { CTRL_C, "Ctrl-C", "C-c" },      { CTRL_L, "Ctrl-L", "C-l" },       { CTRL_U, "Ctrl-U", "C-u" },
    { CTRL_W, "Ctrl-W", "C-w" },      { CTRL_Z, "Ctrl-Z", "C-z" },       { '<', "<", "lt" },
};
#define SPECIALS (sizeof special / sizeof special[0])

const char *key_label(int key, char *out, size_t room)
{
    for (size_t i = 0; i < SPECIALS; i++)
        if (special[i].key == key)
            return special[i].name;
    snprintf(out, room, "%c", key > ' ' && key < 127 ? key : '?');
    return out;
}

static struct script_step token_step(const char *token, size_t len)
{
    char word[32];
    int cols, rows;
    if (len < sizeof word) {
        memcpy(word, token, len);
        word[len] = '\0';
        for (size_t i = 0; i < SPECIALS; i++)
            if (strcmp(special[i].token, word) == 0)
                return (struct script_step){ .kind = SCRIPT_KEY, .key = special[i].key };
        if (strcmp(word, "wait") == 0)
            return (struct script_step){ .kind = SCRIPT_WAIT };
        if (strcmp(word, "hurry") == 0)
            return (struct script_step){ .kind = SCRIPT_HURRY };
        if (sscanf(word, "%4dx%4d", &cols, &rows) == 2)
            return (struct script_step){ .kind = SCRIPT_SIZE, .cols = cols, .rows = rows };
    }
    return (struct script_step){ .kind = SCRIPT_WRONG };
}

struct script_step script_next(const char **at)
{
    while (**at == '\n' || **at == '\r')
        (*at)++;
    const char *s = *at;
    if (!*s)
        return (struct script_step){ .kind = SCRIPT_END };
    if (*s == '<') {
        const char *end = strchr(s, '>');
        *at = end ? end + 1 : s + 1;
        return end ? token_step(s + 1, (size_t)(end - s - 1)) : (struct script_step){ .kind = SCRIPT_WRONG };
    }
    *at = s + 1;
    return (struct script_step){ .kind = SCRIPT_KEY, .key = (unsigned char)*s };
}

static void keys_of(const struct key_row *r, struct sl_buf *out)
{
    char name[8];
    sl_buf_printf(out, "`%s`", key_label(r->key, name, sizeof name));
    if (r->alias)
        sl_buf_printf(out, " `%s`", key_label(r->alias, name, sizeof name));
}

static void screens_of(unsigned where, struct sl_buf *out)
{
    const char *comma = "";
    if (where == EVERYWHERE) {
        sl_buf_str(out, "everywhere");
        return;
    }
    for (int s = 0; s < SCREEN_COUNT; s++)
        if (where & 1u << s) {
            sl_buf_printf(out, "%s%s", comma, screen_rows[s].name);
            comma = ", ";
        }
}

void sl_tui_keys_markdown(struct sl_buf *out)
{
    sl_buf_str(out, "# Keys of the terminal UI\n\n"
                    "Made from the key table in `src/tui/keys.c` (`make golden` writes it, `make test-tui` compares it).\n"
                    "A key means the same on every screen; where it does nothing, it says why.\n\n"
                    "| screen | what it shows |\n| --- | --- |\n");
    for (int s = 0; s < SCREEN_HELP; s++)
        sl_buf_printf(out, "| `%d` %s | %s |\n", s + 1, screen_rows[s].title, screen_rows[s].what);
    sl_buf_str(out, "\n| key | what it does | where |\n| --- | --- | --- |\n");
    for (size_t i = 0; i < key_row_count; i++) {
        sl_buf_str(out, "| ");
        keys_of(&key_rows[i], out);
        sl_buf_printf(out, " | %s | ", key_rows[i].help);
        screens_of(key_rows[i].where, out);
        sl_buf_str(out, " |\n");
    }
    sl_buf_str(out, "\nThe mouse is never needed: a click on the bottom bar presses the key that stands there, a click on the selected row opens\n"
                    "it, the wheel moves. `--theme dark|light|contrast|safe` chooses the colours; a sign or a word always stands beside them.\n"
                    "\n## Without a screen\n\n"
                    "`shardlens PATH --script FILE --size 80x24` presses the keys in FILE, waiting for the work of each, and prints the last screen.\n"
                    "Characters are keys; the others are written");
    for (size_t i = 0; i < SPECIALS; i++)
        sl_buf_printf(out, " `<%s>`", special[i].token);
    sl_buf_str(out, ".\n`<40x10>` changes the size, `<wait>` lets a running conversion end, `<hurry>` presses what follows without waiting.\n\n"
                    "`shardlens PATH --plain` speaks in lines, for screen readers and bad lines: a line of such keys is answered by the row of the\n"
                    "cursor and the message, by the whole screen when another one came, or by a finding in full when its card was opened (`f`, `e`).\n"
                    "An empty line is Enter, `.` says the screen again.\n");
}
