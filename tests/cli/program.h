/* program.h: runs the built program and keeps what it said. For tests only. */
#ifndef TESTS_CLI_PROGRAM_H
#define TESTS_CLI_PROGRAM_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The binary beside this test: OUT/tests/cli/test_x -> OUT/shardlens. */
static char program_path[PATH_MAX];
static char program_tmp[256];          /* a folder of this process's own */

static inline void program_find(const char *self)
{
    const char *given = getenv("SHARDLENS");
    char *real = realpath(self, NULL);
    if (given) {
        snprintf(program_path, sizeof program_path, "%s", given);
    } else if (real) {
        for (int i = 0; i < 3; i++)
            *strrchr(real, '/') = '\0';
        snprintf(program_path, sizeof program_path, "%s/shardlens", real);
    }
    free(real);
    const char *tmp = getenv("TMPDIR");
    snprintf(program_tmp, sizeof program_tmp, "%s/shardlens-cli-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(program_tmp))
        abort();
}

struct said { char *out, *err; int code; };   /* code: exit status, 128 + n when killed by signal n */

static inline char *drain(int fd)
{
    size_t len = 0, room = 4096;
    char *s = malloc(room);
    for (ssize_t n; s; len += (size_t)n) {
        if (len + 1 >= room)
            s = realloc(s, room *= 2);
        n = read(fd, s + len, room - len - 1);
        if (n < 0 && errno == EINTR)
            n = 0;
        else if (n <= 0)
            break;
    }
    s[len] = '\0';
    return s;
}

/* Called in the child before it becomes the program; NULL: nothing. */
static void (*program_before)(void);
/* Words that the program runs under ("strace -D .."), "" none. */
static const char *program_under = "";

/* Output goes through files, so that neither pipe can fill up. */
static inline void program_exec(char **argv)
{
    char paths[2][288];
    snprintf(paths[0], sizeof paths[0], "%s/.out", program_tmp);
    snprintf(paths[1], sizeof paths[1], "%s/.err", program_tmp);
    int null = open("/dev/null", O_RDONLY);
    int out = open(paths[0], O_WRONLY | O_CREAT | O_TRUNC, 0600), err = open(paths[1], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(null, 0);
    dup2(out, 1);
    dup2(err, 2);
    if (program_before)
        program_before();
    execvp(argv[0], argv);
    _exit(127);
}

/* Starts it; program_end waits for it. Arguments are one string, split at blanks; "$T" is the
 * temporary folder. */
static inline pid_t program_start_v(const char *format, va_list args)
{
    char line[8192 + 256];
    char *argv[64], expanded[64][8192 + 256];
    int argc = 0;
    size_t len = (size_t)snprintf(line, 256, "%s ", program_under);
    vsnprintf(line + len, sizeof line - len, format, args);
    bool under = *program_under != '\0';
    char *first = line + (under ? 0 : len), *rest = line + len;
    for (char *save, *w = strtok_r(first, " ", &save); argc < 62; w = strtok_r(NULL, " ", &save)) {
        if (argc == 0 && !under)
            argv[argc++] = program_path;
        else if (under && (!w || w >= rest))
            argv[argc++] = program_path, under = false;
        if (!w)
            break;
        char *t = strstr(w, "$T");
        if (t) {
            snprintf(expanded[argc], sizeof expanded[argc], "%.*s%s%s", (int)(t - w), w, program_tmp, t + 2);
            w = expanded[argc];
        }
        argv[argc++] = w;
    }
    argv[argc] = NULL;
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0)
        program_exec(argv);
    return pid;
}

__attribute__((format(printf, 1, 2))) static inline pid_t program_start(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const pid_t pid = program_start_v(format, args);
    va_end(args);
    return pid;
}

static inline struct said program_end(pid_t pid)
{
    char paths[2][288];
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    struct said s = { .code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status) };
    snprintf(paths[0], sizeof paths[0], "%s/.out", program_tmp);
    snprintf(paths[1], sizeof paths[1], "%s/.err", program_tmp);
    int out = open(paths[0], O_RDONLY), err = open(paths[1], O_RDONLY);
    s.out = drain(out);
    s.err = drain(err);
    close(out);
    close(err);
    return s;
}

/* Both. */
__attribute__((format(printf, 1, 2))) static inline struct said program(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const pid_t pid = program_start_v(format, args);
    va_end(args);
    return program_end(pid);
}

static inline void said_free(struct said *s)
{
    free(s->out);
    free(s->err);
}

static inline size_t lines_of(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += *s == '\n';
    return n;
}

/* A path below the temporary folder, in one of a few rotating buffers. */
static inline const char *below(const char *name)
{
    static char paths[4][PATH_MAX + 256];
    static int next;
    char *p = paths[next++ % 4];
    snprintf(p, PATH_MAX + 256, "%s/%s", program_tmp, name);
    return p;
}

static inline void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    if (!f)
        abort();
    fputs(text, f);
    fclose(f);
}

/* cp -r, without a shell. */
static inline void copy_tree(const char *from, const char *to)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("cp", "cp", "-r", from, to, (char *)NULL);
        _exit(127);
    }
    int status;
    waitpid(pid, &status, 0);
    if (status)
        abort();
}

static inline void remove_tree(const char *path)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", path, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

#endif
