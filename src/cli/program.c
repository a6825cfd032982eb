/* program.c: from argv to a command. */
#include "cli/cli.h"
#include "base/arena.h"
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

int report_error(const struct sl_error *err)
{
    fprintf(stderr, "shardlens: %s%s%s\n", err->where, *err->where ? ": " : "", err->message);
    return (int)err->code;
}

/* Line by line: line feeds are ours, other control characters are nobody's. */
static void make_printable(struct sl_buf *b)
{
    struct sl_buf safe = { 0 };
    for (size_t at = 0; at < b->len;) {
        const char *line = b->data + at, *end = memchr(line, '\n', b->len - at);
        const size_t len = end ? (size_t)(end - line) : b->len - at;
        sl_buf_printable(&safe, line, len);
        if (end)
            sl_buf_char(&safe, '\n');
        at += len + (end ? 1 : 0);
    }
    sl_buf_free(b);
    *b = safe;
}

static bool is_printable(const struct sl_buf *b)
{
    for (size_t at = 0; at < b->len;) {
        const char *line = b->data + at, *end = memchr(line, '\n', b->len - at);
        const size_t len = end ? (size_t)(end - line) : b->len - at;
        if (!sl_text_is_printable(line, len))
            return false;
        at += len + (end ? 1 : 0);
    }
    return true;
}

/* Nobody listening (where SIGPIPE does not end it) is no failure. */
int out_flush(struct sl_buf *b)
{
    int code = SL_OK;
    if (!b->failed && !is_printable(b))
        make_printable(b);
    if (b->failed) {
        fprintf(stderr, "shardlens: out of memory while writing the answer\n");
        code = SL_MEMORY;
    } else if (b->len && (fwrite(b->data, 1, b->len, stdout) != b->len || fflush(stdout)) && errno != EPIPE) {
        fprintf(stderr, "shardlens: standard output: %s\n", strerror(errno));
        code = SL_WRITE;
    }
    sl_buf_free(b);
    return code;
}

int program_run(const struct values *v)
{
    const struct command_row *c = v->command ? command_find(v->command) : NULL;
    struct sl_buf out = { 0 };
    if (v->given[OPT_HELP]) {
        if (c)
            help_command(c, &out);
        else
            help_program(&out);
        return out_flush(&out);
    }
    if (v->given[OPT_VERSION]) {
        sl_buf_printf(&out, "shardlens %s\n", sl_version());
        return out_flush(&out);
    }
    return c ? c->run(v) : command_tui(v);
}

int program(int argc, char **argv, int (*run)(const struct values *v))
{
    /* libzip turns the time of every record into local time; without TZ the C library looks at
     * /etc/localtime each time. Here no thread runs yet. */
    setenv("TZ", ":/etc/localtime", 0);
    setlocale(LC_CTYPE, "");
    signal(SIGXFSZ, SIG_IGN);                    /* a file size limit is an error of write() */
    struct values v;
    struct sl_arena arena = { 0 };
    struct sl_error err = { 0 };
    int code = values_parse(argc, argv, &v, &err);
    if (!code)
        code = values_config(&v, &arena, &err);
    code = code ? report_error(&err) : run(&v);
    values_free(&v);
    sl_arena_free(&arena);
    return code;
}
