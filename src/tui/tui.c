/* tui.c: the loop of the terminal UI, and the same without a terminal. */
#include "tui/tui.h"
#include "base/error.h"
#include "base/io.h"
#include "base/pool.h"
#include "tui/app.h"
#include "tui/keeper.h"
#include "tui/screen.h"
#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MILLISECONDS_PER_TICK 200     /* while something is under way */
#define REDRAW_MS 100                 /* finished work is shown at most that often; a key is answered at once */
#define REDRAW_MS_SLOW_LINE 500
#define WHEEL_ROWS 3
#define PLAIN_COLS 59                 /* narrow: what stands side by side on wide screens comes below each other */
#define PLAIN_ROWS 40
#define SCRIPT_LIMIT UINT64_C(1000000)

/* ---- at a terminal ------------------------------------------------------------------ */

static bool take_signals(struct app *app, struct screen *s)
{
    bool any = false;
    for (int number; (number = screen_signal()) != 0; any = true) {
        if (number == SIGWINCH)
            screen_resize(s);
        else if (number == SIGCONT)
            screen_forget(s);
        else if (number == SIGTSTP)
            app->suspend = true;
        else
            app_signal(app, number);
    }
    return any;
}

static void show(struct app *app, struct screen *s)
{
    int rows, cols;
    screen_size(s, &rows, &cols);
    if (!canvas_resize(&app->canvas, rows, cols))
        return;
    if (app->redraw)
        screen_forget(s);
    app->redraw = false;
    app_draw(app);
    screen_show(s, &app->canvas);
    if (!app->first_screen_ns)
        app->first_screen_ns = sl_now_ns();
    if (app->copy.len) {
        screen_copy(s, app->copy.data, app->copy.len);
        sl_buf_clear(&app->copy);
    }
}

/* A click on the bottom bar is the key that stands there; elsewhere it is Enter on the selected row. */
static void pressed(struct app *app, struct screen *s, int key)
{
    int row, col;
    screen_mouse(s, &row, &col);
    if (key == K_WHEEL_UP || key == K_WHEEL_DOWN)
        for (int i = 0; i < WHEEL_ROWS; i++)
            app_key(app, key == K_WHEEL_UP ? K_UP : K_DOWN);
    else if (key != K_CLICK)
        app_key(app, key);
    else if (row == app->canvas.rows - 1 && !app->prompt.kind)
        frame_click(app, col);
    else if (row == app->canvas.cursor_row)
        app_key(app, K_ENTER);
}

/* Takes what came; true if somebody waits to see it. */
static bool take(struct app *app, struct screen *s, bool here)
{
    bool asked = take_signals(app, s);
    if (!here && !app->quit)
        app_signal(app, SIGHUP);
    for (int key; !app->quit && (key = screen_key(s)) != K_NONE; asked = true)
        pressed(app, s, key);
    app_update(app);
    if (app->suspend && !app->quit)
        screen_suspend(s);
    asked |= app->suspend;
    app->suspend = false;
    return asked;
}

static void loop(struct app *app, struct screen *s)
{
    const int least = app->options->slow_line ? REDRAW_MS_SLOW_LINE : REDRAW_MS;
    const int tick = least > MILLISECONDS_PER_TICK ? least : MILLISECONDS_PER_TICK;
    bool stale = false;                  /* something changed, and the screen was drawn just now */
    uint64_t shown = sl_now_ns();
    show(app, s);
    while (!app->quit) {
        const int age = (int)((sl_now_ns() - shown) / 1000000);
        const bool here = stale ? screen_wait(s, -1, age < least ? least - age : 0) : screen_wait(s, jobs_fd(app->jobs), app_busy(app) ? tick : -1);
        const bool asked = take(app, s, here);
        stale = !asked && sl_now_ns() - shown < (uint64_t)least * 1000000;
        if (app->quit || stale)
            continue;
        show(app, s);
        shown = sl_now_ns();
    }
}

/* ---- without the terminal ------------------------------------------------------------ */

static volatile sig_atomic_t stop_with;          /* code of the signal that came, 0 none */

static void on_stop(int number)
{
    stop_with = 128 + number;
}

static void take_stops(void)
{
    static const int numbers[] = { SIGTERM, SIGINT };
    struct sigaction stop = { .sa_handler = on_stop };
    sigemptyset(&stop.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaction(numbers[i], &stop, NULL);
    signal(SIGTSTP, SIG_IGN);
}

/* The terminal is given back or gone; the conversion goes on, and can be watched by attach. */
#define LOOKS_NS 100000000L
static void go_on_alone(struct app *app)
{
    if (!app->lost)
        fprintf(stderr, "shardlens: goes on as process %ld; back to it: shardlens attach %s\n", (long)getpid(),
                sl_printable(app->run.target, (char[1024]){ 0 }, 1024));
    take_stops();
    keeper_let_go(app->lost ? SL_HANGUP : SL_OK);
    while (!sl_job_finished(app->run.job)) {
        nanosleep(&(struct timespec){ .tv_nsec = LOOKS_NS }, NULL);
        if (stop_with)
            sl_job_cancel(app->run.job, stop_with);
    }
    sl_job_wait(app->run.job, NULL);
}

static int ended(struct app *app, struct sl_error *err)
{
    static const struct { int code; const char *word; } ends[] = {
        { SL_HANGUP, "the terminal is gone" }, { SL_INTERRUPTED, "interrupted" }, { SL_TERMINATED, "terminated" },
    };
    bool running = run_going(app);
    if (running && app->run.job) {
        sl_job_cancel(app->run.job, SL_INTERRUPTED);
        sl_job_wait(app->run.job, NULL);
    }
    running |= app->run.stopping;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (app->exit_code == ends[i].code)
            return sl_fail(err, app->exit_code, "", "%s%s", ends[i].word, running ? "; the conversion was stopped in order, --resume goes on with it" : "");
    if (running && app->exit_code == 0)
        return sl_fail(err, SL_INTERRUPTED, "", "the conversion was stopped in order; shardlens convert with --resume goes on with it");
    return app->exit_code;
}

static int run_terminal(const struct sl_tui_options *options, struct sl_error *err)
{
    struct app *app;
    struct screen *s = NULL;
    int code = screen_check(err);
    if (code)
        return code;
    const int kept = keeper_begin();             /* before there is any thread */
    if (kept >= 0)
        return kept;
    app = app_new(options, err);
    if (!app)
        return SL_MEMORY;
    code = screen_open(options, app->jobs, &s, err);
    if (!code) {
        loop(app, s);
        screen_close(s);
        if (app->detach)
            go_on_alone(app);
        else
            code = ended(app, err);
    }
    app_free(app);
    return code;
}

/* ---- from a script --------------------------------------------------------------------- */

static void settle(struct app *app, bool runs_too)
{
    struct pollfd fd = { .fd = jobs_fd(app->jobs), .events = POLLIN };
    app_update(app);
    while (runs_too ? app_busy(app) : app_working(app)) {
        poll(&fd, 1, 10);
        app_update(app);
    }
}

static int press(struct app *app, const char *keys, struct sl_error *err)
{
    const char *at = keys;
    bool hurry = false;
    settle(app, false);
    app_draw(app);
    while (!app->quit) {
        const char *token = at;
        struct script_step step = script_next(&at);
        if (step.kind == SCRIPT_END)
            break;
        if (step.kind == SCRIPT_WRONG)
            return sl_fail(err, SL_USAGE, "script", "%.16s: no key is called so", token);
        if (step.kind == SCRIPT_SIZE && !canvas_resize(&app->canvas, step.rows, step.cols))
            return sl_fail_memory(err, sizeof(struct cell));
        if (step.kind == SCRIPT_KEY)
            app_key(app, step.key);
        hurry = step.kind == SCRIPT_HURRY || (hurry && step.kind != SCRIPT_WAIT);
        if (hurry)
            app_update(app);
        else
            settle(app, step.kind == SCRIPT_WAIT);
        app_draw(app);                   /* as on a terminal: pages know what was drawn */
    }
    return SL_OK;
}

int sl_tui_render(const struct sl_tui_options *options, const char *keys, int cols, int rows, struct sl_buf *out, struct sl_error *err)
{
    struct app *app = app_new(options, err);
    if (!app)
        return SL_MEMORY;
    int code = canvas_resize(&app->canvas, rows, cols) ? press(app, keys, err) : sl_fail_memory(err, sizeof(struct cell));
    if (!code) {
        app_draw(app);
        canvas_dump(&app->canvas, out);
    }
    if (app->run.job && run_going(app))
        sl_job_cancel(app->run.job, SL_INTERRUPTED);
    app_free(app);
    return code;
}

static int run_script(const struct sl_tui_options *options, struct sl_error *err)
{
    struct sl_arena arena = { 0 };
    struct sl_buf out = { 0 };
    char *keys;
    int cols = 80, rows = 24;
    if (options->size && sscanf(options->size, "%4dx%4d", &cols, &rows) != 2)
        return sl_fail(err, SL_USAGE, "", "--size %s: write it as 80x24, columns x rows", options->size);
    int code = sl_file_slurp(options->script, SCRIPT_LIMIT, &arena, &keys, NULL, err);
    if (!code)
        code = sl_tui_render(options, keys, cols, rows, &out, err);
    if (!code && options->dump)
        code = sl_write_new(options->dump, out.data ? out.data : "", out.len, err);
    else if (!code && (fwrite(out.data, 1, out.len, stdout) != out.len || fflush(stdout)))
        code = sl_fail_errno(err, SL_WRITE, "standard output", "the screen could not be written");
    sl_arena_free(&arena);
    sl_buf_free(&out);
    return code;
}

/* ---- as lines -------------------------------------------------------------------------- */

/* The rows of a screen without boxes and blank lines. */
static void plain_screen(const struct canvas *c, struct sl_buf *out)
{
    struct sl_buf text = { 0 };
    canvas_dump(c, &text);
    for (char *line = text.data, *end; line && *line; line = end + 1) {
        end = strchr(line, '\n');
        if (!end)
            break;
        *end = '\0';
        if (line[strspn(line, " +-|")] == '\0')
            continue;
        size_t from = strspn(line, "|"), len = strlen(line);
        while (len > from && strchr(" |", line[len - 1]))
            len--;
        sl_buf_printf(out, "%.*s\n", (int)(len - from), line + from);
    }
    sl_buf_free(&text);
}

/* What was shown before a line of keys. */
struct told { enum screen_id screen; bool card; size_t finding; };
static struct told told_of(const struct app *app)
{
    return (struct told){ .screen = app->screen, .card = app->screen == SCREEN_OVERVIEW && app->overview.card, .finding = app->finding };
}

/* What changed: a whole screen when another one came, a finding when its card was opened,
 * else the row of the cursor; and the message. */
static void plain_tell(struct app *app, struct told before, bool whole)
{
    struct sl_buf out = { 0 };
    const struct told now = told_of(app);
    app_draw(app);
    if (!whole && now.card && finding_at(app, now.finding) && (!before.card || before.finding != now.finding)) {
        card_text(finding_at(app, now.finding), &out);
        if (app->message[0])
            sl_buf_printf(&out, "%s\n", app->message);
    } else if (whole || now.screen != before.screen) {
        plain_screen(&app->canvas, &out);
    } else {
        struct canvas row = app->canvas;
        row.cells += (size_t)app->canvas.cursor_row * (size_t)app->canvas.cols;
        row.rows = 1;
        if (app->prompt.kind)
            sl_buf_printf(&out, "%s: %s\n", app->prompt.label, app->prompt.text);
        else
            plain_screen(&row, &out);
        if (app->message[0])
            sl_buf_printf(&out, "%s\n", app->message);
    }
    if (out.data)
        fputs(out.data, stdout);
    fflush(stdout);
    sl_buf_free(&out);
}

/* A line of keys, as in a script, an answer in lines. An empty line is Enter, "." the whole screen again. */
static int run_plain(const struct sl_tui_options *options, struct sl_error *err)
{
    struct app *app = app_new(options, err);
    char line[1024];
    int code = SL_OK;
    if (!app)
        return SL_MEMORY;
    canvas_resize(&app->canvas, PLAIN_ROWS, PLAIN_COLS);
    settle(app, false);
    plain_tell(app, told_of(app), true);
    while (!app->quit && fgets(line, sizeof line, stdin)) {
        const struct told before = told_of(app);
        line[strcspn(line, "\n")] = '\0';
        bool whole = strcmp(line, ".") == 0;
        struct sl_error wrong = { 0 };
        if (!whole && press(app, *line ? line : "<Enter>", &wrong))
            app_say(app, STYLE_WARN, "%s", wrong.message);
        if (!app->quit)
            plain_tell(app, before, whole);
    }
    if (app->run.job && run_going(app))
        sl_job_cancel(app->run.job, SL_INTERRUPTED);
    code = ended(app, err);
    app_free(app);
    return code;
}

int sl_tui_run(const struct sl_tui_options *options, struct sl_error *err)
{
    struct sl_tui_options o = *options;
    const char *charset = nl_langinfo(CODESET);
    if (!charset || strcmp(charset, "UTF-8"))
        o.ascii = true;
    o.ascii |= o.plain;
    return o.script ? run_script(&o, err) : o.plain ? run_plain(&o, err) : run_terminal(&o, err);
}
