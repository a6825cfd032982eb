/* app.h: the state of the TUI. One thread, the one that draws, owns all of it;
 * background work reaches it through jobs.h only.
 */
#ifndef SL_TUI_APP_H
#define SL_TUI_APP_H

#include "base/text.h"
#include "tui/blocks.h"
#include "tui/cells.h"
#include "tui/chunks.h"
#include "tui/detective.h"
#include "tui/experts.h"
#include "tui/jobs.h"
#include "tui/keys.h"
#include "tui/layers.h"
#include "tui/list.h"
#include "tui/prompt.h"
#include "tui/trace.h"
#include "tui/tree.h"
#include "tui/tui.h"

/* ---- what was opened: shared by the screens and by jobs that still read it --- */

#define MOST_KINDS 12
struct kind_total { const char *kind; uint64_t bytes; size_t tensors; };
struct opened {
    struct sl_checkpoint *ck;
    const struct sl_checkpoint_info *info;
    struct tree trees[TREE_MODES];
    struct kind_total kinds[MOST_KINDS];  /* largest first */
    size_t kind_count;
    uint32_t *logical_of;                 /* by stored tensor; UINT32_MAX: of none */
    struct expert_map experts;
    struct chunk_map chunks;
    struct strip strip;                   /* built in the background */
    int users;                            /* the app and unfinished jobs; freed by the last */
};
struct opened *opened_use(struct opened *o);
void opened_drop(struct opened *o);       /* NULL is fine */

enum load { LOAD_BUSY, LOAD_DONE, LOAD_FAILED };

/* ---- per screen -------------------------------------------------------------- */

enum overview_panel { PANEL_FINDING, PANEL_EVIDENCE, PANEL_CONFIG, PANEL_LAYERS, PANEL_EXPERTS, PANEL_COUNT };
struct overview_state {
    size_t rank, chunk;                   /* chunk: the virtual one, where the grid tells them apart */
    size_t way;                           /* of the grid's dimensions; 0: as they fit */
    bool zoom;                            /* into the cell that holds the rank */
    int grid_rows, grid_cols, zoom_cols;  /* as last drawn */
    struct list files;
    enum overview_panel panel;
    bool card;
    int scroll;
};

struct tensors_state {
    enum tree_mode mode;
    char filter[256];
    uint32_t before;                      /* node selected when the search began */
    char filter_before[256];
};

/* Statistics of one logical tensor: the whole and every piece. */
#define MOST_COLUMNS 64                   /* pieces with statistics of their own */
struct stats_column { size_t tensor; bool done; struct sl_stats stats; uint64_t checksum; };
struct stats_result {
    ptrdiff_t logical;                    /* which tensor asked: never the row under the cursor */
    bool done, failed;
    struct sl_error error;
    bool whole_known;                     /* pieces together are the whole, once */
    struct sl_stats whole;
    bool histogram_done;
    struct sl_histogram histogram;
    struct stats_column columns[MOST_COLUMNS];
    size_t column_count, piece_count;
    uint64_t bytes;                       /* read */
    double seconds;
    uint64_t used;                        /* when it was last looked at */
};
#define KEPT_STATS 32
#define VALUES_PAGE 512
struct values_result {
    size_t tensor; uint64_t first; size_t count;
    bool done, failed;
    struct sl_error error;
    unsigned char bytes[VALUES_PAGE * 16];
};
enum inspect_view { VIEW_BLOCKS, VIEW_MEANING, VIEW_VALUES, VIEW_LAYOUT, VIEWS };
struct inspect_state {
    ptrdiff_t logical;                    /* -1: none chosen yet */
    size_t column;                        /* selected piece */
    enum inspect_view view;
    enum { CHART_LOG, CHART_LINEAR, CHART_QUANTILES, CHARTS } chart;
    struct comparison { bool known; size_t a, b; uint64_t different, count, first; double max_abs; char failed[160]; } compared;
    struct task *comparing;
    uint64_t first;                       /* first value shown */
    size_t line, per_line;                /* of the page: where the cursor is; values in a line as last drawn */
    int scroll;
    struct stats_result *kept[KEPT_STATS];
    struct task *running;                 /* the stats task that is under way */
    struct values_result *shown;
    struct task *reading;
    const struct sl_slice_info *slices; size_t slice_count; size_t slices_of; bool slices_known;
    struct task *slicing;
    size_t page;                          /* values on a page as last drawn */
    uint64_t clock;                       /* counts looks, for what to forget first */
};

enum map_side { MAP_TARGETS, MAP_SOURCES, MAP_LEFT_OUT, MAP_SIDES };
struct map_state {
    enum map_side side;
    struct list lists[MAP_SIDES];
    size_t *rows[MAP_SIDES];              /* what the filter leaves; NULL: all */
    bool in_pieces;                       /* arrows move among the pieces */
    struct list piece;
    char wanted[512];                     /* tensor to select once a plan is there, "" */
    char filter[256];
    struct range range;                   /* of the selected tensor */
    const struct sl_plan *traced_plan;    /* the pieces below belong to this plan, and its row of this side; NULL none */
    enum map_side traced_side; size_t traced_row;
    struct traced traced;
    size_t uses[SL_SOURCE_USES];          /* source tensors, by what becomes of them */
};

enum exists_choice { EXISTS_REFUSE, EXISTS_RESUME, EXISTS_REPLACE, EXISTS_COUNT };
enum field {
    FIELD_SOURCE, FIELD_FORMAT, FIELD_TP, FIELD_PP, FIELD_VPP, FIELD_EP, FIELD_ETP, FIELD_PP_LAYOUT, FIELD_PLACE, FIELD_EXISTS,
    FIELD_DTYPE, FIELD_SHARD_SIZE, FIELD_NAMES, FIELD_EXPERTS, FIELD_PAD, FIELD_DIVISOR, FIELD_ITERATION, FIELD_DIST_FILES,
    FIELD_VERIFY, FIELD_MEMORY, FIELD_THREADS, FIELD_MODEL, FIELD_SET, FIELD_HF_CONFIG, FIELD_START, FIELD_COUNT
};
#define LONGEST_FIELD 1024
struct convert_state {
    struct list list;                     /* of the fields that are shown */
    enum field shown[FIELD_COUNT];        /* those that matter for the target */
    char text[FIELD_COUNT][LONGEST_FIELD];
    int choice[FIELD_COUNT];
    bool given[FIELD_COUNT];              /* by the user, not a suggestion */
    int place_number;                     /* the how manieth suggestion of a place */
    int left_number;                      /* the how manieth unfinished run beside it was taken up, 0 none */
};

/* How fast this machine reads the source and works on it, tried for half a second without writing. */
struct trial {
    bool asked, done;
    unsigned readers;
    double read_rate, work_rate;          /* bytes a second; of all readers, and of one worker */
};

/* Unfinished runs beside the chosen place. */
#define MOST_LEFT 4
struct left_run { char name[256]; char plan[40]; uint64_t tensors; enum sl_place_state state; };

/* A plan, and what is known of its place. Owned by the app, or by a run. */
struct planned {
    struct sl_plan *plan;
    const struct sl_plan_info *info;
    struct sl_place place;                /* what is at the target's path */
    bool looked;                          /* place is known */
    uint64_t memory_available;            /* 0 not known */
    struct left_run left[MOST_LEFT]; size_t left_count;
};
void planned_free(struct planned *p);

enum plan_state { PLAN_NONE, PLAN_BUSY, PLAN_DONE, PLAN_FAILED };

#define HISTORY 120                       /* samples of the rate, one a second */
#define TICKER 32
enum run_wait { WAIT_READ, WAIT_WRITE, WAIT_WORK, WAITS };
struct run_state {
    enum { RUN_NONE, RUN_STARTING, RUN_GOING, RUN_DONE, RUN_FAILED } state;
    struct opened *opened;                /* the source, in use until the run is freed */
    struct planned plan;
    struct sl_job *job;
    struct sl_progress progress;
    struct sl_error error;
    char target[LONGEST_FIELD];
    double history[HISTORY], history_all[HISTORY]; int history_count;   /* bytes a second: read and written; through all phases */
    double history_seconds; uint64_t history_bytes, history_through;
    uint64_t worker_moved[SL_MAX_WORKERS]; double worker_rate[SL_MAX_WORKERS];
    double waits[WAITS], waits_now[WAITS];  /* seconds of all workers: at the last sample; in the second before it */
    uint8_t *seen; size_t seen_count;     /* status of each result when last looked */
    size_t ticker[TICKER]; size_t ticker_count;   /* newest first */
    size_t bad[TICKER]; size_t bad_count;
    bool held;                            /* the ticker stands still: */
    size_t held_ticker[TICKER]; size_t held_count;
    enum sl_verify_mode verify;
    bool force, resume;
    bool stopping;
    int stop_code;
    uint32_t workers;                     /* as last asked for, 0 never */
    size_t *file_written, *file_verified; /* tensors, by file of the plan */
    /* a run of another process (attach.c) */
    bool attached;
    struct sl_place *place;               /* as last seen, NULL not yet */
    struct task *looking;
    uint64_t looked_ns;
};

struct report_state {
    struct list list;
    bool all;
    size_t *worst; size_t bad;            /* worst first; so many need a look */
    size_t verified, written, missing, wrong, odd;  /* missing: never written; odd: of all, hold NaN or Inf */
    struct report_kind { const char *kind; uint64_t bytes; size_t tensors, bad; } kinds[MOST_KINDS];
    size_t kind_count;
};

enum diff_view { DIFF_WEIGHTS, DIFF_LAYERS, DIFF_CONFIG, DIFF_VIEWS };
enum diff_order { DIFF_BY_RELATIVE, DIFF_BY_MAX, DIFF_BY_NAME, DIFF_ORDERS };
struct diff_state {
    enum { DIFF_NONE, DIFF_STARTING, DIFF_GOING, DIFF_DONE, DIFF_FAILED } state;
    char path[LONGEST_FIELD];             /* of B */
    struct opened *opened;                /* A, in use until the job is freed */
    struct sl_checkpoint *a, *b;          /* a: A opened again with what B knows; else NULL */
    struct sl_job *job;
    struct task *starting;
    struct sl_progress progress;
    struct sl_error error;
    enum diff_view view;
    enum diff_order by;
    bool all;                             /* equal rows too */
    struct list list, layers, config;
    size_t *order; size_t order_count;
    double order_after;                   /* seconds of the job */
    int suggestion;
};

/* ---- the app ------------------------------------------------------------------- */

struct app {
    const struct sl_tui_options *options;
    struct sl_open_options open;          /* as it stands now; strings in convert.text */
    const char *sets[64];
    char set_text[LONGEST_FIELD];
    struct jobs *jobs;
    struct canvas canvas;
    uint64_t now_ns, started_ns, first_screen_ns;

    enum screen_id screen, before_help;
    enum load load;
    struct sl_error open_error;
    struct opened *opened;                /* NULL until LOAD_DONE */
    struct task *opening;
    char **names; size_t name_count, name_total;   /* what lies in the folder, while headers are read */

    struct sl_job *check;                 /* runs or has run; its findings replace those of opening */
    const struct sl_check_result *checked;
    struct sl_progress check_progress;
    bool check_deep, check_going, check_starting;
    size_t finding;                       /* the current one */

    struct overview_state overview;
    struct layers_state layers;
    struct tensors_state tensors;
    struct inspect_state inspect;
    struct blocks_state blocks;
    struct detective_state detective;
    struct map_state map;
    struct convert_state convert;
    enum plan_state plan_state;
    struct planned plan;
    struct trial trial;
    struct task *planning;
    uint64_t plan_number;                 /* results of older numbers are dropped */
    struct sl_error plan_error;
    struct run_state run;
    struct report_state report;
    struct diff_state diff;
    struct list help;

    struct prompt prompt;
    char message[512];
    enum style message_style;
    struct sl_buf copy;                   /* text for the terminal's clipboard, taken by screen.c */
    bool quit, suspend, redraw;
    bool detach, lost;                    /* with quit: the conversion goes on; because the terminal is gone */
    int exit_code;                        /* 128+n when a signal ended it */
};

/* app.c */
struct app *app_new(const struct sl_tui_options *options, struct sl_error *err);
void app_free(struct app *app);
void app_key(struct app *app, int key);
/* Applies finished work and looks at running jobs; true if something changed. */
bool app_update(struct app *app);
/* A signal: stops a running conversion in order, then quits. */
void app_signal(struct app *app, int number);
bool app_busy(const struct app *app);           /* something is under way that will change the screen */
bool app_working(const struct app *app);        /* the same without a running conversion */
void app_say(struct app *app, enum style style, const char *format, ...) __attribute__((format(printf, 3, 4)));
void app_go(struct app *app, enum screen_id screen);
void app_reopen(struct app *app);
/* The command line that gives the same facts as the current screen. */
void app_command(const struct app *app, struct sl_buf *out);
/* A word of a command line, quoted for the shell where it must be. */
void shell_word(struct sl_buf *out, const char *word);

/* frame.c: the whole screen */
void app_draw(struct app *app);
void frame_click(struct app *app, int col);               /* on the bottom bar */
/* One row of label and text, used by several screens. */
void draw_command(struct app *app, struct pane p);

/* findings.c */
size_t finding_count(const struct app *app);
void finding_select(struct app *app);           /* the grid's selection goes to the rank of the current one */
const struct sl_problem *finding_at(const struct app *app, size_t index);
size_t finding_tally(const struct app *app, enum sl_severity severity);
enum style severity_style(enum sl_severity severity);
char severity_sign(enum sl_severity severity);
int draw_card(struct app *app, struct pane p, const struct sl_problem *problem, int scroll);
void card_text(const struct sl_problem *problem, struct sl_buf *out);
/* "tp1 pp2" of the rank that a finding is about, "" where it is about none. */
const char *finding_rank(const struct app *app, const struct sl_problem *p, char *out, size_t room);
void draw_verdict(struct app *app, struct pane p);
const char *headers_read(const struct app *app, char *out, size_t room);
const char *values_read(const struct app *app, char *out, size_t room);

/* Signs of state, the same on all screens: = ~ ! - . o */
char rank_sign(const struct app *app, const struct sl_rank *rank);
enum style sign_style(char sign);
char piece_sign(const struct app *app, size_t tensor);
char logical_sign(const struct app *app, size_t logical);
char result_sign(enum sl_result_status status);
const char *rank_name(const struct app *app, int32_t rank, char *out, size_t room);
const char *piece_place(const struct app *app, size_t tensor, char *out, size_t room);   /* "tp0 pp1" or its file */

/* One struct a screen. draw gets the body; keys come through key_rows. */
struct screen_ops {
    void (*draw)(struct app *app, struct pane body);
    void (*move)(struct app *app, int rows, int cols, bool page);  /* arrows, pages; +-1 */
    void (*end)(struct app *app, bool last);                 /* g, G */
    void (*enter)(struct app *app);
    void (*space)(struct app *app);
    void (*tab)(struct app *app, int step);
    bool (*back)(struct app *app);                           /* Esc; false: nothing to leave */
    void (*command)(const struct app *app, struct sl_buf *out);
    const char *(*crumb)(const struct app *app, char *out, size_t room);
    void (*opened)(struct app *app);                         /* shown now */
};
extern const struct screen_ops overview_ops, tensors_ops, inspect_ops, map_ops, convert_ops, run_ops, report_ops, diff_ops, help_ops;
extern const struct screen_ops *const screen_ops[SCREEN_COUNT];

/* actions, by file */
void act_screen_1(struct app *app); void act_screen_2(struct app *app); void act_screen_3(struct app *app);
void act_screen_4(struct app *app); void act_screen_5(struct app *app); void act_screen_6(struct app *app);
void act_screen_7(struct app *app); void act_screen_8(struct app *app); void act_help(struct app *app);
void act_up(struct app *app); void act_down(struct app *app); void act_left(struct app *app); void act_right(struct app *app);
void act_page_up(struct app *app); void act_page_down(struct app *app); void act_first(struct app *app); void act_last(struct app *app);
void act_half_up(struct app *app); void act_half_down(struct app *app); void act_command(struct app *app);
void act_enter(struct app *app); void act_space(struct app *app); void act_tab(struct app *app); void act_back_tab(struct app *app);
void act_back(struct app *app); void act_quit(struct app *app); void act_copy(struct app *app); void act_save(struct app *app);
void act_redraw(struct app *app); void act_suspend(struct app *app); void act_interrupt(struct app *app);
void act_next_finding(struct app *app); void act_previous_finding(struct app *app);
void act_search(struct app *app); void act_next_match(struct app *app); void act_previous_match(struct app *app);
void act_reread(struct app *app); void act_deep_check(struct app *app);
void act_explain(struct app *app);                                                    /* overview.c */
void act_dimensions(struct app *app); void act_zoom(struct app *app);                 /* grid.c */
void act_layers(struct app *app);                                                     /* layers.c */
void act_fold_all(struct app *app); void act_sort(struct app *app); void act_map_tensor(struct app *app);   /* tensors.c */
void act_only_faults(struct app *app);
void act_values(struct app *app); void act_scale(struct app *app);                    /* inspect.c */
void act_layer_up(struct app *app); void act_layer_down(struct app *app);
void act_measure(struct app *app); void act_compare(struct app *app); void act_layout(struct app *app);
void act_start(struct app *app); void act_edit(struct app *app);                      /* convert.c */
void act_pause(struct app *app); void act_stop(struct app *app); void act_more_workers(struct app *app); void act_fewer_workers(struct app *app);                      /* run.c */
void act_report_all(struct app *app);                                                 /* report.c */

/* inspect.c */
void inspect_show(struct app *app, ptrdiff_t logical);
void inspect_forget(struct app *app);
void inspect_again(struct app *app);                      /* asks for what is not known yet */
struct stats_result *stats_of(const struct app *app, ptrdiff_t logical);
/* tensors.c */
void tensors_ready(struct app *app);
void tensors_signs(struct app *app);                      /* findings have changed */
size_t tensors_marked(const struct app *app, struct sl_buf *names);   /* how many; names may be NULL */
ptrdiff_t tensors_under_cursor(const struct app *app);    /* logical, of a folder its first; -1 none */
void tensors_filter(struct app *app, const char *text);
void tensors_step_match(struct app *app, int step);
bool tensors_select(struct app *app, const char *name);
/* map.c */
const struct planned *map_plan(const struct app *app);   /* the plan to show, NULL */
void map_ready(struct app *app);                          /* a plan is there */
void map_forget(struct app *app);
void map_filter(struct app *app, const char *text);
void map_step_match(struct app *app, int step);
void act_range(struct app *app);
/* convert.c, suggest.c, planning.c, trial.c */
void convert_begin(struct app *app);
void convert_plan(struct app *app);                       /* plans anew with the fields as they are */
void convert_opened(struct app *app);                     /* a source is open: suggests a target for it */
void convert_place_known(struct app *app);                /* what is at the place is known: suggests what to do */
void trial_begin(struct app *app);                        /* once for each source */
/* Seconds that the plan takes, between the two; false where nothing was tried. */
bool trial_seconds(const struct app *app, double *fast, double *slow);
void convert_options(const struct app *app, struct sl_run_options *options);
int convert_plan_options(const struct app *app, struct sl_plan_options *options, struct sl_error *err);
void open_command(const struct app *app, struct sl_buf *out);   /* " --model X --set k=v", what opening was told */
void plan_begin(struct app *app);
const char *convert_blocked(struct app *app, char *out, size_t room);   /* why START is off, NULL when it is on */
void convert_command(const struct app *app, struct sl_buf *out);
/* run.c */
void run_begin(struct app *app);
bool run_update(struct app *app);
bool run_going(const struct app *app);
void run_forget(struct app *app);
void run_sample(struct run_state *r);                     /* once a second: rates from progress */
/* attach.c: the run of another process, from what it tells beside its target */
void attach_begin(struct app *app);
bool attach_update(struct app *app);
void attach_stop(struct app *app);
void act_stop_now(struct app *app); void act_detach(struct app *app); void act_freeze(struct app *app);
/* run_view.c */
void run_draw(struct app *app, struct pane p);
const char *run_rate(const struct app *app, char *out, size_t room);
/* diff.c */
bool diff_update(struct app *app);
bool diff_going(const struct app *app);
void diff_forget(struct app *app);
void diff_save(struct app *app, const char *path);
void diff_text(const struct app *app, struct sl_buf *out, size_t most_rows);
void diff_all(struct app *app);                           /* equal rows too, or not */
void diff_choose(struct app *app);                        /* asks for the other checkpoint */
void diff_pause(struct app *app);
void diff_stop(struct app *app);
void act_order(struct app *app);
/* report.c */
void report_ready(struct app *app);
void report_save(struct app *app, const char *path);
void report_text(const struct app *app, struct sl_buf *out, size_t most_rows);
bool report_is_there(const struct app *app);

/* time.c: durations and rates for people */
const char *duration_text(double seconds, char *out, size_t room);   /* "1:21", "2 h 05" */
const char *rate_text(double bytes_per_second, char *out, size_t room);
#endif
