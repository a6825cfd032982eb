/* app.c: opening, keys to actions, what happens between two screens. */
#include "tui/app.h"
#include "base/error.h"
#include "base/pool.h"
#include "tui/opening.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

const struct screen_ops *const screen_ops[SCREEN_COUNT] = {
    &overview_ops, &tensors_ops, &inspect_ops, &map_ops, &convert_ops, &run_ops, &report_ops, &diff_ops, &help_ops,
};

/* ---- life ---------------------------------------------------------------------- */

struct app *app_new(const struct sl_tui_options *options, struct sl_error *err)
{
    struct app *app = calloc(1, sizeof *app);
    if (app)
        app->jobs = jobs_new();
    if (!app || !app->jobs || !canvas_resize(&app->canvas, 24, 80)) {
        free(app);
        sl_fail(err, SL_MEMORY, "", "no memory or no threads for the terminal UI");
        return NULL;
    }
    app->options = options;
    app->canvas.ascii = options->ascii;
    app->inspect.logical = -1;
    app->started_ns = app->now_ns = options->frozen ? 0 : sl_now_ns();
    if (options->open)
        app->open = *options->open;
    app->help.count = key_row_count;
    convert_begin(app);
    open_begin(app);
    if (options->attach)
        attach_begin(app);
    return app;
}

void app_free(struct app *app)
{
    if (!app)
        return;
    if (!jobs_end(app->jobs))
        return;                  /* a read that hangs still uses all of this; the process ends soon */
    /* first who has tasks, which it cancels, then the tasks, last what their results hang on */
    inspect_forget(app);
    layers_forget(app);
    diff_forget(app);
    jobs_take(app->jobs, NULL);
    sl_job_free(app->check);
    run_forget(app);
    map_forget(app);
    planned_free(&app->plan);
    opened_drop(app->opened);
    jobs_free(app->jobs);
    open_names_free(app);
    free(app->report.worst);
    sl_buf_free(&app->copy);
    canvas_free(&app->canvas);
    free(app);
}

void app_say(struct app *app, enum style style, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(app->message, sizeof app->message, format, args);
    va_end(args);
    app->message_style = style;
}

bool app_working(const struct app *app)
{
    return jobs_pending(app->jobs) > 0 || app->check_going || app->check_starting;
}

bool app_busy(const struct app *app)
{
    return app_working(app) || run_going(app) || diff_going(app) ||
           (app->run.attached && (app->run.state == RUN_STARTING || app->run.state == RUN_GOING));
}

static bool check_update(struct app *app)
{
    struct sl_progress before = app->check_progress;
    if (!app->check || !app->check_going)
        return false;
    sl_job_progress(app->check, &app->check_progress);
    if (!sl_job_finished(app->check))
        return before.bytes_done != app->check_progress.bytes_done || before.tensors_done != app->check_progress.tensors_done;
    check_finished(app);
    return true;
}

bool app_update(struct app *app)
{
    if (!app->options->frozen)
        app->now_ns = sl_now_ns();
    bool changed = jobs_take(app->jobs, app) > 0;
    changed |= check_update(app);
    changed |= run_update(app);
    changed |= diff_update(app);
    return changed;
}

/* A lost terminal does not lose a conversion: it goes on alone. Other signals stop it in order. */
void app_signal(struct app *app, int number)
{
    const bool ours = run_going(app) && app->run.job;
    app->quit = true;
    if (number == SIGHUP && ours) {
        app->detach = app->lost = true;
        return;
    }
    app->exit_code = 128 + number;
    if (ours) {
        sl_job_cancel(app->run.job, app->exit_code);
        sl_job_wait(app->run.job, NULL);
    }
}

/* ---- screens --------------------------------------------------------------------- */

void app_go(struct app *app, enum screen_id screen)
{
    if (screen == SCREEN_HELP && app->screen != SCREEN_HELP)
        app->before_help = app->screen;
    app->screen = screen;
    if (screen_ops[screen]->opened)
        screen_ops[screen]->opened(app);
}

void act_screen_1(struct app *app) { app_go(app, SCREEN_OVERVIEW); }
void act_screen_2(struct app *app) { app_go(app, SCREEN_TENSORS); }
void act_screen_3(struct app *app) { app_go(app, SCREEN_INSPECT); }
void act_screen_4(struct app *app) { app_go(app, SCREEN_MAP); }
void act_screen_5(struct app *app) { app_go(app, SCREEN_CONVERT); }
void act_screen_6(struct app *app) { app_go(app, SCREEN_RUN); }
void act_screen_7(struct app *app) { app_go(app, SCREEN_REPORT); }
void act_screen_8(struct app *app) { app_go(app, SCREEN_DIFF); }
void act_help(struct app *app) { app_go(app, app->screen == SCREEN_HELP ? app->before_help : SCREEN_HELP); }

static void move(struct app *app, int rows, int cols, bool page) { screen_ops[app->screen]->move(app, rows, cols, page); }
void act_up(struct app *app) { move(app, -1, 0, false); }
void act_down(struct app *app) { move(app, 1, 0, false); }
void act_left(struct app *app) { move(app, 0, -1, false); }
void act_right(struct app *app) { move(app, 0, 1, false); }
void act_page_up(struct app *app) { move(app, -1, 0, true); }
void act_page_down(struct app *app) { move(app, 1, 0, true); }
void act_first(struct app *app) { screen_ops[app->screen]->end(app, false); }
void act_last(struct app *app) { screen_ops[app->screen]->end(app, true); }

/* Row by row, so that every screen has it: the rows that a body has at most, halved. */
static void half(struct app *app, int step)
{
    const int rows = app->canvas.rows > 12 ? (app->canvas.rows - 8) / 2 : 2;
    for (int i = 0; i < rows; i++)
        move(app, step, 0, false);
}
void act_half_up(struct app *app) { half(app, -1); }
void act_half_down(struct app *app) { half(app, 1); }

static void nothing(struct app *app, int key)
{
    char name[8];
    app_say(app, STYLE_DIM, "%s has nothing to do on screen %s; ? lists the keys", key_label(key, name, sizeof name),
            screen_rows[app->screen].title);
}

void act_enter(struct app *app)
{
    if (screen_ops[app->screen]->enter)
        screen_ops[app->screen]->enter(app);
    else
        nothing(app, K_ENTER);
}
void act_space(struct app *app)
{
    if (screen_ops[app->screen]->space)
        screen_ops[app->screen]->space(app);
    else
        nothing(app, ' ');
}
static void tab(struct app *app, int step)
{
    if (screen_ops[app->screen]->tab)
        screen_ops[app->screen]->tab(app, step);
    else
        nothing(app, K_TAB);
}
void act_tab(struct app *app) { tab(app, 1); }
void act_back_tab(struct app *app) { tab(app, -1); }

void act_back(struct app *app)
{
    if (screen_ops[app->screen]->back && screen_ops[app->screen]->back(app))
        return;
    if (app->screen != SCREEN_OVERVIEW)
        app_go(app, SCREEN_OVERVIEW);
    else
        app_say(app, STYLE_DIM, "this is the first screen; q quits");
}

void act_redraw(struct app *app) { app->redraw = true; }
void act_suspend(struct app *app) { app->suspend = true; }

static void quit_answer(struct app *app, const char *text, bool accepted)
{
    (void)text;
    if (!accepted) {
        app_say(app, STYLE_TEXT, "the conversion goes on");
        return;
    }
    app->quit = true;
    if (app->run.job)
        sl_job_cancel(app->run.job, SL_INTERRUPTED);
}
void act_quit(struct app *app)
{
    if (run_going(app))
        prompt_ask(app, "a conversion runs: stop it in order and quit?", quit_answer);
    else
        app->quit = true;
}
void act_interrupt(struct app *app) { act_quit(app); }

void act_reread(struct app *app)
{
    if (run_going(app))
        app_say(app, STYLE_WARN, "not while a conversion reads it: press 6 to see the run");
    else
        app_reopen(app);
}

/* ---- take it with you -------------------------------------------------------------- */

void shell_word(struct sl_buf *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
    if (*word && word[strspn(word, plain)] == '\0') {
        sl_buf_str(out, word);
        return;
    }
    sl_buf_char(out, '\'');
    for (; *word; word++)
        sl_buf_str(out, *word == '\'' ? "'\\''" : (char[]){ *word, '\0' });
    sl_buf_char(out, '\'');
}

void app_command(const struct app *app, struct sl_buf *out)
{
    sl_buf_str(out, "shardlens ");
    screen_ops[app->screen]->command(app, out);
    if (app->screen == SCREEN_OVERVIEW || app->screen == SCREEN_TENSORS || app->screen == SCREEN_INSPECT)
        open_command(app, out);
}

/* What was copied lies in a file too, for terminals that take no OSC 52. */
static void copy_to_file(struct app *app, char *path, size_t room)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    struct sl_buf text = { 0 };
    path[0] = '\0';
    if (app->options->frozen || !((cache && *cache == '/') || (home && *home == '/')))
        return;
    if (cache && *cache == '/')
        snprintf(path, room, "%s/shardlens/copied.txt", cache);
    else
        snprintf(path, room, "%s/.cache/shardlens/copied.txt", home);
    sl_buf_add(&text, app->copy.data ? app->copy.data : "", app->copy.len);
    save_copy(app, path, &text);
}

/* Rows of a table that a clipboard is given; the whole is what w saves. */
#define MOST_COPIED 100
void act_copy(struct app *app)
{
    const struct sl_problem *problem = finding_at(app, app->finding);
    char path[1200];
    const char *what = app->screen == SCREEN_OVERVIEW ? "the finding, as text for a ticket" : "the table, worst first";
    sl_buf_clear(&app->copy);
    if (app->screen == SCREEN_OVERVIEW && app->overview.card && problem)
        card_text(problem, &app->copy);
    else if (app->screen == SCREEN_REPORT && report_is_there(app))
        report_text(app, &app->copy, MOST_COPIED);
    else if (app->screen == SCREEN_DIFF && app->diff.job)
        diff_text(app, &app->copy, MOST_COPIED);
    else if (app->screen == SCREEN_TENSORS && tensors_marked(app, &app->copy))
        what = "the names of the marked tensors";
    else
        app_command(app, &app->copy);
    const bool line = app->copy.data && !strchr(app->copy.data, '\n');
    copy_to_file(app, path, sizeof path);
    app_say(app, STYLE_TEXT, "copied: %s%s%s%s", line ? app->copy.data : what,
            *path ? "  (and in " : "", path, *path ? ")" : "");
}

static void save_answer(struct app *app, const char *path, bool accepted)
{
    if (!accepted || !*path)
        app_say(app, STYLE_TEXT, "nothing was saved");
    else if (app->screen == SCREEN_REPORT)
        report_save(app, path);
    else if (app->screen == SCREEN_DIFF && app->diff.job)
        diff_save(app, path);
    else
        save_screen(app, path);
}

void act_save(struct app *app)
{
    const bool report = app->screen == SCREEN_REPORT, diff = app->screen == SCREEN_DIFF && app->diff.job;
    if (report && !report_is_there(app)) {
        app_say(app, STYLE_DIM, "there is no report yet: convert something first, press 5");
        return;
    }
    prompt_line(app, report ? "save the report to (.txt .md .json .csv)" : diff ? "save the comparison to (.txt .md .json .csv)" : "save this screen as text to",
                report ? "report.json" : diff ? "diff.json" : "screen.txt", NULL, save_answer);
}

/* ---- keys ----------------------------------------------------------------------------- */

static void press_row(struct app *app, const struct key_row *row)
{
    if (row->where & 1u << app->screen)
        row->act(app);
    else
        app_say(app, STYLE_DIM, "%s", row->elsewhere);
}

/* A screen or an action whose name begins with the text; a single character is the key itself. */
static void command_done(struct app *app, const char *text, bool accepted)
{
    const size_t len = strlen(text);
    const struct key_row *found = len == 1 ? key_find((unsigned char)text[0], app->screen) : NULL;
    if (!accepted || !len)
        return;
    for (int s = 0; s < SCREEN_COUNT && !found; s++)
        if (strncasecmp(screen_rows[s].title, text, len) == 0) {
            app_go(app, (enum screen_id)s);
            return;
        }
    for (size_t i = 0; i < key_row_count && len > 1; i++)
        if (strncasecmp(key_rows[i].word, text, len) == 0 && (!found || (key_rows[i].where & ~found->where & 1u << app->screen)))
            found = &key_rows[i];            /* one that works here, or else one that says where */
    if (found)
        press_row(app, found);
    else
        app_say(app, STYLE_WARN, "no screen and no key is called \"%.40s\"; ? lists them", text);
}

void act_command(struct app *app) { prompt_line(app, ":", "", NULL, command_done); }

/* A message stays while the cursor only goes up and down: it can be read, and the line is not sent again. */
static bool moves_cursor(int key)
{
    return key == K_UP || key == K_DOWN || key == 'j' || key == 'k';
}

void app_key(struct app *app, int key)
{
    char name[8];
    if (!moves_cursor(key) || app->prompt.kind)
        app->message[0] = '\0';
    if (key == CTRL_Z || key == CTRL_L) {           /* work in prompts too */
        key == CTRL_Z ? act_suspend(app) : act_redraw(app);
        return;
    }
    if (app->prompt.kind) {
        prompt_key(app, key);
        return;
    }
    const struct key_row *row = key_find(key, app->screen);
    if (!row)
        app_say(app, STYLE_DIM, "%s does nothing here; ? lists the keys", key_label(key, name, sizeof name));
    else
        press_row(app, row);
}
