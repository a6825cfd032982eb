/* cli.h: the command line: one table of commands, one of options. Both make
 * the parser, --help, the man page and the shell completions.
 *
 * Uses the public API and src/base, nothing else. This is the only room, with
 * the TUI, that prints and exits. Results go to standard output, progress and
 * errors to standard error.
 */
#ifndef SL_CLI_CLI_H
#define SL_CLI_CLI_H

#include <shardlens/shardlens.h>
#include "base/error.h"
#include "base/text.h"

enum option_id {
    OPT_HELP, OPT_VERSION, OPT_JSON, OPT_UTC, OPT_ASCII, OPT_MONO, OPT_THEME, OPT_PLAIN, OPT_SLOW_LINE, OPT_SCRIPT, OPT_SCREEN, OPT_DUMP,
    OPT_TO, OPT_MODEL, OPT_SET, OPT_FAMILY_FILE, OPT_CHECK, OPT_HF_CONFIG, OPT_DTYPE, OPT_MAX_SHARD_SIZE,
    OPT_TP, OPT_PP, OPT_VPP, OPT_EP, OPT_ETP, OPT_PP_LAYOUT, OPT_NAMES, OPT_EXPERTS, OPT_PAD_WITH,
    OPT_ITERATION, OPT_VOCAB_DIVISOR, OPT_DIST_FILES,
    OPT_THREADS, OPT_MEMORY, OPT_VERIFY, OPT_RESUME, OPT_PART, OPT_FINISH, OPT_FORCE, OPT_REPORT, OPT_PROGRESS,
    OPT_CONFIG, OPT_RANK, OPT_SORT, OPT_DEEP, OPT_LOOK, OPT_FAMILY, OPT_LAYOUT, OPT_SEED, OPT_SIZE,
    OPT_COUNT
};
enum option_kind { KIND_FLAG, KIND_TEXT, KIND_NUMBER, KIND_SIZE, KIND_CHOICE, KIND_LIST };

/* Commands as bits, for the option table. */
enum command_bit {
    IN_TUI = 1, IN_INSPECT = 2, IN_LS = 4, IN_SHOW = 8, IN_CHECK = 16, IN_PLAN = 32, IN_CONVERT = 64,
    IN_VERIFY = 128, IN_MODELS = 256, IN_DEMO = 512, IN_MANUAL = 1024, IN_COMPLETIONS = 2048,
    IN_BATCH = 4096, IN_DIFF = 8192, IN_ATTACH = 16384,
    IN_OPENING = IN_TUI | IN_INSPECT | IN_LS | IN_SHOW | IN_CHECK | IN_PLAN | IN_CONVERT | IN_VERIFY | IN_DIFF,
    IN_ALL = 32767
};

struct option_row {
    enum option_id id;
    const char *name;          /* without the dashes */
    char letter;               /* short form, 0 */
    enum option_kind kind;
    const char *value;         /* name of the value in help; for KIND_CHOICE "a|b|c" */
    int64_t lowest, highest;   /* KIND_NUMBER */
    unsigned commands;
    const char *help;
};
extern const struct option_row option_rows[];
extern const size_t option_row_count;

struct values {
    const char *command;
    bool given[OPT_COUNT];
    const char *text[OPT_COUNT];
    int64_t number[OPT_COUNT];
    uint64_t size[OPT_COUNT];
    const char **list[OPT_COUNT];  size_t list_count[OPT_COUNT];
    const char **args;             size_t arg_count;
};

struct command_row {
    const char *name;
    unsigned bit;
    const char *args;          /* for help: "SRC DST" */
    size_t least, most;        /* arguments */
    const char *summary;       /* one line */
    const char *more;          /* for --help of the command, "" */
    int (*run)(const struct values *v);
};
extern const struct command_row command_rows[];
extern const size_t command_row_count;
const struct command_row *command_find(const char *name);

/* Parses argv[1..]; strings are borrowed from argv. SL_USAGE with one sentence. */
int values_parse(int argc, char **argv, struct values *v, struct sl_error *err);
void values_free(struct values *v);
/* Takes options from a DICT (names as on the command line, '_' for '-' too) where they are not
 * given yet; texts go to the arena. `where` names the file in errors. */
struct sl_arena;
int values_merge(struct values *v, const struct sl_value *dict, const char *where, struct sl_arena *arena,
                 struct sl_error *err);
/* A JSON or YAML file of options; "-" is standard input. */
int options_load(const char *path, struct sl_arena *arena, const struct sl_value **value, struct sl_error *err);
/* --config FILE merged into v, if it was given. */
int values_config(struct values *v, struct sl_arena *arena, struct sl_error *err);

/* program.c: parses, then run(values); what it returns is the exit status. program_run does what one process does. */
int program(int argc, char **argv, int (*run)(const struct values *v));
int program_run(const struct values *v);

/* help.c: texts made from the two tables */
void help_program(struct sl_buf *out);
void help_command(const struct command_row *c, struct sl_buf *out);
void help_manual(struct sl_buf *out);                       /* roff */
int help_completions(const char *shell, struct sl_buf *out); /* bash zsh fish */

/* Writes everything to standard output and frees the buffer. 0, or SL_WRITE. What could steer a
 * terminal is made visible here whatever it is part of: the last fence. */
int out_flush(struct sl_buf *b);
/* Prints "shardlens: WHERE: MESSAGE" to standard error; returns the code. */
int report_error(const struct sl_error *err);

/* common.c */
void open_options(const struct values *v, struct sl_open_options *o);
int open_checkpoint(const struct values *v, const char *path, struct sl_checkpoint **ck);
int plan_options(const struct values *v, const struct sl_checkpoint *ck, const char *dst,
                 struct sl_plan_options *o, struct sl_error *err);
void run_options(const struct values *v, struct sl_run_options *o);
/* --part into part and parts. */
int part_parse(const struct values *v, struct sl_run_options *o, struct sl_error *err);
/* "--rank tp=1,pp=0": axes not named are -1. */
struct rank_filter { int32_t tp, pp, ep; };
int rank_filter_parse(const char *text, struct rank_filter *f, struct sl_error *err);
bool rank_filter_fits(const struct rank_filter *f, const struct sl_checkpoint *ck, const struct sl_tensor *t);
/* "tp1 pp0", "" for containers without ranks */
char *rank_text(const struct sl_checkpoint *ck, const struct sl_tensor *t, char *out, size_t room);
/* The same, or for a chunk its box in the whole array: "[26:52, 0:40]". */
char *part_text(const struct sl_checkpoint *ck, const struct sl_tensor *t, char *out, size_t room);
/* Foreign text, made printable: a name is one word on one line. */
void name_text(struct sl_buf *b, const char *s);
void problems_text(struct sl_buf *b, const struct sl_problem *p, size_t count);

struct sl_json;
void problems_json(struct sl_json *j, const struct sl_problem *p, size_t count);
void shape_json(struct sl_json *j, const char *key, const int64_t *shape, uint32_t ndim);

/* progress.c. From signals_watch to signals_forget, SIGINT, SIGTERM and SIGHUP are kept for job_follow,
 * and a second one ends the program; SIGPIPE is ignored. */
void signals_watch(void);
void signals_forget(void);
/* Waits for a job that was started under signals_watch, shows its progress on standard error, passes signals on. */
int job_follow(const struct values *v, struct sl_job *job, const char *what, struct sl_error *err);
/* The same in steps, for work that is not one job of this process. progress_look is a sl_job_tell, to be called about every
 * 20 ms; it returns the code to stop with once a signal came. NULL when memory is out. */
struct progress_view;
struct progress_view *progress_open(const struct values *v, const char *what);
int progress_look(const struct sl_progress *p, void *view);
void progress_close(struct progress_view *view);

/* convert.c: one conversion; what it says on success goes to out, a failure to err. */
int convert_one(const struct values *v, struct sl_buf *out, struct sl_error *err);
/* Its steps: the source opened and the plan made, both to be freed by the caller also on failure; one job of it
 * followed under signals_watch, and what it wrote said; what was remarked on the way. */
int convert_open(const struct values *v, struct sl_checkpoint **ck, struct sl_plan **plan, struct sl_error *err);
int convert_run(const struct values *v, struct sl_plan *plan, const struct sl_run_options *o, struct sl_buf *out, struct sl_error *err);
void convert_notes(const struct sl_checkpoint *ck, const struct sl_plan_info *plan);

/* verify.c: commands that compare two checkpoints. */
struct pair_kind {
    const char *name;
    int (*start)(struct sl_checkpoint *a, struct sl_checkpoint *b, const struct sl_run_options *options,
                 struct sl_job **job, struct sl_error *err);
    void (*text)(struct sl_buf *b, const struct sl_job *job, const struct sl_checkpoint *x, const struct sl_checkpoint *y);
};
int pair_command(const struct values *v, const struct pair_kind *kind);
bool pair_is_equal(const struct sl_summary *s);
void pair_summary_text(struct sl_buf *b, const struct sl_summary *s);

/* the commands */
int command_attach(const struct values *v);
int command_batch(const struct values *v);
int command_diff(const struct values *v);
int command_tui(const struct values *v);
int command_inspect(const struct values *v);
int command_ls(const struct values *v);
int command_show(const struct values *v);
int command_check(const struct values *v);
int command_plan(const struct values *v);
int command_convert(const struct values *v);
int command_verify(const struct values *v);
int command_models(const struct values *v);
int command_demo(const struct values *v);
int command_manual(const struct values *v);
int command_completions(const struct values *v);

#endif
