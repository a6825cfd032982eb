/* terminal.c: forkpty and libvterm. */
#include "terminal.h"
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int set_property(VTermProp property, VTermValue *value, void *user)
{
    struct terminal *t = user;
    if (property == VTERM_PROP_ALTSCREEN)
        t->alternate = value->boolean;
    return 1;
}
static const VTermScreenCallbacks callbacks = { .settermprop = set_property };

void terminal_start(struct terminal *t, int cols, int rows, const char *const *env, const char *const *argv)
{
    struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };
    memset(t, 0, sizeof *t);
    t->rows = rows;
    t->cols = cols;
    t->vt = vterm_new(rows, cols);
    vterm_set_utf8(t->vt, 1);
    t->screen = vterm_obtain_screen(t->vt);
    vterm_screen_enable_altscreen(t->screen, 1);
    vterm_screen_set_callbacks(t->screen, &callbacks, t);
    vterm_screen_reset(t->screen, 1);
    t->pid = forkpty(&t->fd, NULL, NULL, &size);
    if (t->pid == 0) {
        setenv("TERM", "tmux-256color", 1);    /* xterm's REP is wrong in the last column of libvterm 0.1 */
        setenv("LC_ALL", "C.UTF-8", 1);
        setenv("XDG_CACHE_HOME", "/tmp/shardlens-tests-cache", 0);   /* what y copies goes there, not to a person's home */
        unsetenv("NO_COLOR");
        for (int i = 0; env && env[i]; i++)
            putenv((char *)(uintptr_t)env[i]);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
}

/* An SGR colour: ESC [ .. 30-37, 38, 40-48, 90-107 .. m */
static void look_for_colours(struct terminal *t, const char *bytes, size_t len)
{
    for (size_t i = 0; i + 2 < len; i++) {
        if (bytes[i] != '\033' || bytes[i + 1] != '[')
            continue;
        size_t end = i + 2;
        while (end < len && (bytes[end] == ';' || (bytes[end] >= '0' && bytes[end] <= '9')))
            end++;
        if (end == len || bytes[end] != 'm')
            continue;
        for (size_t k = i + 2; k < end; k++)
            if (bytes[k - 1] == '[' || bytes[k - 1] == ';') {
                int n = atoi(bytes + k);
                t->colours |= (n >= 30 && n < 49 && n != 39) || (n >= 90 && n < 108);
            }
    }
}

static size_t take(struct terminal *t, int timeout_ms)
{
    struct pollfd fd = { .fd = t->fd, .events = POLLIN };
    char bytes[65536];
    if (poll(&fd, 1, timeout_ms) <= 0)
        return 0;
    ssize_t n = read(t->fd, bytes, sizeof bytes);
    if (n <= 0)
        return 0;
    vterm_input_write(t->vt, bytes, (size_t)n);
    look_for_colours(t, bytes, (size_t)n);
    t->bytes += (size_t)n;
    char *log = realloc(t->log, t->log_len + (size_t)n + 1);
    if (log) {
        t->log = log;
        memcpy(t->log + t->log_len, bytes, (size_t)n);
        t->log_len += (size_t)n;
        t->log[t->log_len] = '\0';
    }
    return (size_t)n;
}

size_t terminal_settle(struct terminal *t, int quiet_ms, int limit_ms)
{
    int64_t end = now_ms() + limit_ms;
    size_t sum = 0, n;
    while (now_ms() < end && (n = take(t, quiet_ms)) > 0)
        sum += n;
    return sum;
}

void terminal_type(struct terminal *t, const char *keys)
{
    size_t len = strlen(keys);
    ssize_t n = write(t->fd, keys, len);
    (void)n;
}

bool terminal_said(const struct terminal *t, const char *text)
{
    return t->log && memmem(t->log, t->log_len, text, strlen(text));     /* ncurses pads with zeros */
}

char *terminal_text(const struct terminal *t)
{
    size_t room = (size_t)t->rows * ((size_t)t->cols * 6 + 1) + 1, used = 0;
    char *text = calloc(room, 1);
    for (int row = 0; text && row < t->rows; row++) {
        VTermRect line = { .start_row = row, .end_row = row + 1, .start_col = 0, .end_col = t->cols };
        used += vterm_screen_get_text(t->screen, text + used, room - used - 2, line);
        while (used && text[used - 1] == ' ')
            used--;
        text[used++] = '\n';
    }
    if (text)
        text[used] = '\0';
    return text;
}

bool terminal_shows(const struct terminal *t, const char *want)
{
    char *text = terminal_text(t);
    bool found = text && strstr(text, want);
    free(text);
    return found;
}

bool terminal_expect(struct terminal *t, const char *text, int limit_ms)
{
    int64_t end = now_ms() + limit_ms;
    while (!terminal_shows(t, text)) {
        if (now_ms() >= end)
            return false;
        take(t, 20);
    }
    return true;
}

void terminal_resize(struct terminal *t, int cols, int rows)
{
    struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };
    t->rows = rows;
    t->cols = cols;
    vterm_set_size(t->vt, rows, cols);
    ioctl(t->fd, TIOCSWINSZ, &size);
}

int terminal_wait(struct terminal *t, int limit_ms)
{
    int64_t end = now_ms() + limit_ms;
    int status = 0, result = -1;
    pid_t done = 0;
    while (now_ms() < end && (done = waitpid(t->pid, &status, WNOHANG)) == 0)
        take(t, 20);
    if (done == t->pid) {
        terminal_settle(t, 30, 1000);
        result = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    } else {
        kill(t->pid, SIGKILL);
        waitpid(t->pid, &status, 0);
    }
    return result;
}

void terminal_drop(struct terminal *t)
{
    if (t->fd >= 0)
        close(t->fd);
    vterm_free(t->vt);
    free(t->log);
    t->vt = NULL;
    t->log = NULL;
    t->log_len = 0;
}

int terminal_end(struct terminal *t, int limit_ms)
{
    int result = terminal_wait(t, limit_ms);
    terminal_drop(t);
    return result;
}
