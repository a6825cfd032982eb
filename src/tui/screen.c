/* screen.c: cells onto a terminal by ncurses, keys from it, signals. */
#include "tui/screen.h"
#include "base/error.h"
#include <curses.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>
#undef lines              /* term.h names capabilities by macros */
#undef columns

#define MILLISECONDS_AFTER_ESC 25

struct screen {
    SCREEN *terminal;
    struct canvas shown;         /* what stands on the terminal */
    bool afresh, colour, clipboard, cursor_shown;
    int theme, mouse_row, mouse_col;
    struct sigaction before[NSIG];
    bool changed[NSIG];
};

/* ---- styles: colour and attribute, and the attribute where there is no colour ------ */

enum theme { THEME_DARK, THEME_LIGHT, THEME_CONTRAST, THEME_SAFE, THEMES };
static const char *const theme_names[THEMES] = { "dark", "light", "contrast", "safe" };

/* safe: told apart with any colour vision, by blue against yellow and by weight */
static const struct { attr_t mono; struct { short colour; attr_t attr; } as[THEMES]; } styles[STYLE_COUNT] = {
    /*                     mono        dark                        light                       contrast                    safe */
    [STYLE_TEXT] =     { A_NORMAL,    { { -1, A_NORMAL },           { -1, A_NORMAL },           { -1, A_BOLD },             { -1, A_NORMAL } } },
    [STYLE_DIM] =      { A_NORMAL,    { { -1, A_DIM },              { -1, A_NORMAL },           { -1, A_NORMAL },           { -1, A_DIM } } },
    [STYLE_TITLE] =    { A_REVERSE,   { { -1, A_REVERSE },          { -1, A_REVERSE },          { -1, A_REVERSE | A_BOLD }, { -1, A_REVERSE } } },
    [STYLE_BORDER] =   { A_NORMAL,    { { -1, A_DIM },              { -1, A_DIM },              { -1, A_NORMAL },           { -1, A_DIM } } },
    [STYLE_HEAD] =     { A_BOLD,      { { -1, A_BOLD },             { -1, A_BOLD },             { -1, A_BOLD },             { -1, A_BOLD } } },
    [STYLE_GOOD] =     { A_NORMAL,    { { COLOR_GREEN, A_NORMAL },  { COLOR_GREEN, A_BOLD },    { COLOR_GREEN, A_BOLD },    { COLOR_BLUE, A_BOLD } } },
    [STYLE_WARN] =     { A_BOLD,      { { COLOR_YELLOW, A_BOLD },   { COLOR_MAGENTA, A_BOLD },  { COLOR_YELLOW, A_REVERSE },{ COLOR_YELLOW, A_BOLD } } },
    [STYLE_BAD] =      { A_BOLD,      { { COLOR_RED, A_BOLD },      { COLOR_RED, A_BOLD },      { COLOR_RED, A_REVERSE },   { COLOR_YELLOW, A_REVERSE } } },
    [STYLE_KEY] =      { A_BOLD,      { { COLOR_CYAN, A_BOLD },     { COLOR_BLUE, A_BOLD },     { COLOR_CYAN, A_BOLD },     { COLOR_BLUE, A_BOLD } } },
    [STYLE_ACCENT] =   { A_NORMAL,    { { COLOR_CYAN, A_NORMAL },   { COLOR_BLUE, A_NORMAL },   { COLOR_CYAN, A_BOLD },     { COLOR_BLUE, A_NORMAL } } },
    [STYLE_SELECTED] = { A_REVERSE,   { { -1, A_REVERSE },          { -1, A_REVERSE },          { -1, A_REVERSE | A_BOLD }, { -1, A_REVERSE } } },
    [STYLE_FIELD] =    { A_UNDERLINE, { { -1, A_UNDERLINE },        { -1, A_UNDERLINE },        { -1, A_UNDERLINE },        { -1, A_UNDERLINE } } },
};

static void colours_begin(struct screen *s, const struct sl_tui_options *options)
{
    const char *no_color = getenv("NO_COLOR");
    for (int i = 0; i < THEMES && options->theme; i++)
        s->theme = strcmp(options->theme, theme_names[i]) == 0 ? i : s->theme;
    s->colour = !options->mono && !(no_color && *no_color) && has_colors();
    if (!s->colour)
        return;
    start_color();
    use_default_colors();
    for (short i = 0; i < STYLE_COUNT; i++)
        if (styles[i].as[s->theme].colour >= 0)
            init_pair((short)(i + 1), styles[i].as[s->theme].colour, -1);
}

/* ---- signals ------------------------------------------------------------------------- */

static volatile sig_atomic_t came[NSIG];
static struct jobs *volatile to_wake;
static const int handled[] = { SIGHUP, SIGTERM, SIGINT, SIGTSTP, SIGCONT, SIGWINCH };
#define HANDLED (sizeof handled / sizeof handled[0])

static volatile sig_atomic_t gone;       /* the terminal is: more SIGHUPs may come, from the kernel and from the keeper */

static void on_signal(int number)
{
    came[number] = 1;
    if (number == SIGHUP)
        gone = 1;
    if (to_wake)
        jobs_poke(to_wake);
}

int screen_signal(void)
{
    for (size_t i = 0; i < HANDLED; i++)
        if (came[handled[i]]) {
            came[handled[i]] = 0;
            return handled[i];
        }
    return 0;
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define MENDS_CRASHES 1
#else
#define MENDS_CRASHES 0
#endif

/* A crash gives the terminal back and still dies of its signal. All that the
 * handler uses was made ready before. */
static const int crashes[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
static struct { char restore[256]; size_t len; struct termios modes; bool ready; } crash;

static void on_crash(int number)
{
    static const char said[] = "\r\nshardlens: crashed; the terminal was given back, nothing under a target's name is half-made\r\n";
    if (crash.ready) {
        ssize_t n = write(STDOUT_FILENO, crash.restore, crash.len);
        n += write(STDERR_FILENO, said, sizeof said - 1);
        (void)n;
        tcsetattr(STDIN_FILENO, TCSANOW, &crash.modes);
    }
    raise(number);
}

static void set_handler(struct screen *s, int number, void (*handler)(int), int flags)
{
    struct sigaction now, action = { .sa_handler = handler, .sa_flags = flags };
    sigaction(number, NULL, &now);
    sigemptyset(&action.sa_mask);
    s->changed[number] = sigaction(number, &action, NULL) == 0;
}

static void signals_remember(struct screen *s)
{
    for (int i = 1; i < NSIG; i++)
        sigaction(i, NULL, &s->before[i]);
}

static void signals_take(struct screen *s, struct jobs *wake)
{
    static char stack[65536];
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
    to_wake = wake;
    for (size_t i = 0; i < HANDLED; i++)
        if (handled[i] != SIGHUP || s->before[SIGHUP].sa_handler != SIG_IGN)     /* nohup stays nohup */
            set_handler(s, handled[i], on_signal, 0);
    if (!MENDS_CRASHES)
        return;
    sigaltstack(&alternate, NULL);
    for (size_t i = 0; i < sizeof crashes / sizeof crashes[0]; i++)
        set_handler(s, crashes[i], on_crash, (int)(SA_RESETHAND | SA_NODEFER | SA_ONSTACK));
}

static void signals_give_back(struct screen *s)
{
    crash.ready = false;
    for (int i = 1; i < NSIG; i++)
        if (i == SIGHUP && gone)
            signal(SIGHUP, SIG_IGN);
        else if (s->changed[i])
            sigaction(i, &s->before[i], NULL);
    to_wake = NULL;
}

static void crash_prepare(void)
{
    const char *parts[] = { tigetstr("sgr0"), tigetstr("cnorm"), tigetstr("rmkx"), tigetstr("rmcup") };
    static const char mouse_off[] = "\033[?1000l\033[?1006l";
    crash.len = 0;
    if (tigetstr("kmous") && tigetstr("kmous") != (char *)-1) {
        memcpy(crash.restore, mouse_off, sizeof mouse_off - 1);
        crash.len = sizeof mouse_off - 1;
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        size_t len = parts[i] && parts[i] != (char *)-1 ? strlen(parts[i]) : 0;
        if (crash.len + len > sizeof crash.restore)
            continue;
        memcpy(crash.restore + crash.len, len ? parts[i] : "", len);
        crash.len += len;
    }
}

/* ---- taking and giving back ---------------------------------------------------------------- */

int screen_check(struct sl_error *err)
{
    static const char hint[] = "the command line works everywhere: shardlens inspect PATH, shardlens --help";
    const char *term = getenv("TERM");
    char name[64];
    int found = 0;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return sl_fail(err, SL_USAGE, "", "%s is not a terminal, which the terminal UI needs; %s",
                       isatty(STDIN_FILENO) ? "standard output" : "standard input", hint);
    if (!term || !*term)
        return sl_fail(err, SL_USAGE, "", "TERM is not set, so the terminal is not known; %s", hint);
    sl_printable(term, name, sizeof name);
    if (setupterm(NULL, STDOUT_FILENO, &found) != OK)
        return sl_fail(err, SL_USAGE, "", "TERM=%s is not known here; try TERM=xterm, or %s", name, hint);
    const char *cup = tigetstr("cup");
    bool moves = cup && cup != (char *)-1;
    del_curterm(cur_term);
    if (!moves)
        return sl_fail(err, SL_USAGE, "", "TERM=%s cannot move the cursor; %s", name, hint);
    return SL_OK;
}

/* Terminals that are known to take OSC 52, or to leave it out in silence. */
static bool has_clipboard(void)
{
    static const char *const names[] = { "xterm", "screen", "tmux", "rxvt", "alacritty", "kitty", "foot", "wezterm", "st-", "konsole", "gnome", "vte" };
    const char *term = getenv("TERM");
    for (size_t i = 0; term && i < sizeof names / sizeof names[0]; i++)
        if (sl_text_starts(term, names[i]))
            return true;
    return false;
}

int screen_open(const struct sl_tui_options *options, struct jobs *wake, struct screen **out, struct sl_error *err)
{
    struct screen *s = calloc(1, sizeof *s);
    if (!s)
        return sl_fail_memory(err, sizeof *s);
    tcgetattr(STDIN_FILENO, &crash.modes);
    signals_remember(s);
    s->terminal = newterm(NULL, stdout, stdin);
    if (!s->terminal) {
        free(s);
        return sl_fail(err, SL_USAGE, "", "the terminal could not be taken");
    }
    raw();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    intrflush(stdscr, FALSE);
    idlok(stdscr, TRUE);
    set_escdelay(MILLISECONDS_AFTER_ESC);
    mouseinterval(0);
    mousemask(BUTTON1_PRESSED | BUTTON4_PRESSED | BUTTON5_PRESSED, NULL);
    colours_begin(s, options);
    s->clipboard = has_clipboard();
    s->afresh = s->cursor_shown = true;
    crash_prepare();
    signals_take(s, wake);
    crash.ready = true;
    *out = s;
    return SL_OK;
}

void screen_close(struct screen *s)
{
    if (!s)
        return;
    endwin();
    signals_give_back(s);
    delscreen(s->terminal);
    canvas_free(&s->shown);
    free(s);
}

/* ---- showing ----------------------------------------------------------------------------------- */

void screen_size(const struct screen *s, int *rows, int *cols)
{
    (void)s;
    getmaxyx(stdscr, *rows, *cols);
}

static void put(const struct screen *s, int row, int col, const struct cell *cell)
{
    wchar_t text[3] = { (wchar_t)cell->ch, (wchar_t)cell->mark, 0 };
    bool pair = s->colour && styles[cell->style].as[s->theme].colour >= 0;
    cchar_t c;
    setcchar(&c, text, s->colour ? styles[cell->style].as[s->theme].attr : styles[cell->style].mono, pair ? (short)(cell->style + 1) : (short)0, NULL);
    mvadd_wch(row, col, &c);
}

static bool same(const struct cell *a, const struct cell *b)
{
    return a->ch == b->ch && a->mark == b->mark && a->style == b->style;
}

/* A row with a wide character in it, before or now, is put whole: its halves
 * cannot be replaced one by one. */
static bool has_wide(const struct cell *cells, int cols)
{
    for (int i = 0; i < cols; i++)
        if (cells[i].ch == 0)
            return true;
    return false;
}

static void show_row(struct screen *s, const struct canvas *c, int row)
{
    const struct cell *fresh = c->cells + (size_t)row * (size_t)c->cols;
    const struct cell *old = s->afresh ? NULL : s->shown.cells + (size_t)row * (size_t)c->cols;
    bool whole = !old || has_wide(fresh, c->cols) || has_wide(old, c->cols);
    for (int col = 0; col < c->cols; col++)
        if (fresh[col].ch && (whole || !same(&fresh[col], &old[col])))
            put(s, row, col, &fresh[col]);
}

void screen_show(struct screen *s, const struct canvas *c)
{
    int rows, cols;
    screen_size(s, &rows, &cols);
    if (rows != c->rows || cols != c->cols)
        return;                          /* a resize is under way */
    if (s->shown.rows != rows || s->shown.cols != cols)
        s->afresh = true;
    if (!s->afresh && canvas_equal(&s->shown, c))
        return;
    if (s->afresh)
        clear();
    for (int row = 0; row < rows; row++)
        show_row(s, c, row);
    if (s->afresh || s->cursor_shown != c->cursor_shown)
        curs_set(c->cursor_shown);
    s->cursor_shown = c->cursor_shown;
    move(c->cursor_row, c->cursor_col);
    refresh();
    s->afresh = !canvas_copy(&s->shown, c);
}

void screen_forget(struct screen *s)
{
    s->afresh = true;
}

void screen_resize(struct screen *s)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0)
        resizeterm(size.ws_row, size.ws_col);
    s->afresh = true;
}

void screen_suspend(struct screen *s)
{
    struct sigaction ours, standard = { .sa_handler = SIG_DFL };
    def_prog_mode();
    endwin();
    sigemptyset(&standard.sa_mask);
    sigaction(SIGTSTP, &standard, &ours);
    kill(0, SIGTSTP);                    /* the whole job: make, a shell script around us */
    sigaction(SIGTSTP, &ours, NULL);
    reset_prog_mode();
    screen_resize(s);
}

void screen_copy(struct screen *s, const char *text, size_t len)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (!s->clipboard || !len)
        return;
    fputs("\033]52;c;", stdout);
    for (size_t i = 0; i < len; i += 3) {
        unsigned char in[3] = { (unsigned char)text[i], i + 1 < len ? (unsigned char)text[i + 1] : 0, i + 2 < len ? (unsigned char)text[i + 2] : 0 };
        char out[5] = { letters[in[0] >> 2], letters[(in[0] & 3) << 4 | in[1] >> 4], i + 1 < len ? letters[(in[1] & 15) << 2 | in[2] >> 6] : '=',
                        i + 2 < len ? letters[in[2] & 63] : '=', '\0' };
        fputs(out, stdout);
    }
    fputs("\a", stdout);
    fflush(stdout);
}

/* ---- keys ------------------------------------------------------------------------------------------- */

static const struct { int curses, ours; } special[] = {
    { KEY_UP, K_UP },         { KEY_DOWN, K_DOWN },     { KEY_LEFT, K_LEFT },      { KEY_RIGHT, K_RIGHT },
    { KEY_PPAGE, K_PAGE_UP },  { KEY_NPAGE, K_PAGE_DOWN },{ KEY_HOME, K_HOME },      { KEY_END, K_END },
    { KEY_BTAB, K_BACK_TAB },  { KEY_BACKSPACE, K_BACKSPACE }, { KEY_DC, K_DELETE }, { KEY_ENTER, K_ENTER },
};

int screen_key(struct screen *s)
{
    wint_t ch;
    for (;;) {
        int kind = get_wch(&ch);
        if (kind == ERR)
            return K_NONE;
        if (kind == KEY_CODE_YES) {
            MEVENT mouse;
            if (ch == KEY_MOUSE && getmouse(&mouse) == OK) {
                s->mouse_row = mouse.y;
                s->mouse_col = mouse.x;
                return mouse.bstate & BUTTON4_PRESSED ? K_WHEEL_UP : mouse.bstate & BUTTON5_PRESSED ? K_WHEEL_DOWN : K_CLICK;
            }
            for (size_t i = 0; i < sizeof special / sizeof special[0]; i++)
                if ((int)ch == special[i].curses)
                    return special[i].ours;
            continue;                    /* a key without a meaning here */
        }
        if (ch == '\n')
            return K_ENTER;
        if (ch == 0x7f || ch == 8)
            return K_BACKSPACE;
        if (ch != 0)
            return (int)ch;
    }
}

void screen_mouse(const struct screen *s, int *row, int *col)
{
    *row = s->mouse_row;
    *col = s->mouse_col;
}

static bool is_there(int fd, int timeout_ms)
{
    struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = fd, .events = POLLIN } };
    if (poll(fds, 2, timeout_ms) < 0)
        return errno == EINTR;
    if (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL))
        return false;
    if (fds[0].revents & POLLIN) {       /* readable and nothing there: the other side is gone */
        int left = 0;
        if (ioctl(STDIN_FILENO, FIONREAD, &left) == 0 && left == 0)
            return false;
    }
    return true;
}

bool screen_wait(struct screen *s, int fd, int timeout_ms)
{
    (void)s;
    if (is_there(fd, timeout_ms))
        return true;
    gone = 1;
    return false;
}
