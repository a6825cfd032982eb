/* journal.c: lines that tell what has been done. */
#include "run/journal.h"

#include "base/error.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define HEAD_LINE "shardlens-journal 1"
#define LINE_MOST 128
#define JOURNAL_MOST (UINT64_C(1) << 30)

/* ---- writing ---- */

static void begin(struct sl_journal *j, const char *path, int fd, uint64_t end)
{
    *j = (struct sl_journal){ .fd = fd, .path = path, .end = end };
    pthread_mutex_init(&j->lock, NULL);
}

int sl_journal_make(struct sl_journal *j, const char *path, const char *plan, uint64_t source,
                    struct sl_error *err)
{
    const int fd = sl_io.open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return sl_fail_errno(err, SL_WRITE, path, "the journal can't be made");
    begin(j, path, fd, 0);
    int code = sl_journal_add(j, err, HEAD_LINE);
    if (!code)
        code = sl_journal_add(j, err, "plan %s", plan);
    if (!code)
        code = sl_journal_add(j, err, "source %016" PRIx64, source);
    if (!code)
        code = sl_journal_sync(j, err);
    return code;
}

int sl_journal_reopen(struct sl_journal *j, const char *path, uint64_t end, struct sl_error *err)
{
    const int fd = sl_io.open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return sl_fail_errno(err, SL_WRITE, path, "the journal can't be opened");
    begin(j, path, fd, end);
    if (ftruncate(fd, (off_t)end))
        return sl_fail_errno(err, SL_WRITE, path, "the journal can't be cut to its good lines");
    return SL_OK;
}

int sl_journal_add(struct sl_journal *j, struct sl_error *err, const char *format, ...)
{
    char line[LINE_MOST];
    const size_t before = 9;    /* eight digits and a blank */
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(line + before, sizeof line - before - 1, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof line - before - 1)
        return sl_fail(err, SL_WRITE, j->path, "a line of %d characters; at most %zu fit", n, sizeof line - before - 2);
    const size_t len = (size_t)n;
    char check[10];
    snprintf(check, sizeof check, "%08x ", XXH32(line + before, len, 0));
    memcpy(line, check, before);
    line[before + len] = '\n';

    pthread_mutex_lock(&j->lock);
    const int code = sl_write_at(j->fd, j->path, j->end, line, before + len + 1, err);
    if (!code)
        j->end += before + len + 1;
    pthread_mutex_unlock(&j->lock);
    return code;
}

int sl_journal_sync(struct sl_journal *j, struct sl_error *err)
{
    int rc;
    do
        rc = sl_io.fsync(j->fd);
    while (rc && errno == EINTR);
    return rc ? sl_fail_errno(err, SL_WRITE, j->path, "fsync of the journal failed") : SL_OK;
}

void sl_journal_close(struct sl_journal *j)
{
    if (j->fd < 0)
        return;
    sl_io.close(j->fd);    /* what had to be on the disk was synced before */
    pthread_mutex_destroy(&j->lock);
    j->fd = -1;
}

/* ---- reading ---- */

struct reader { struct sl_journal_state *state; uint64_t *checksum; bool *written; size_t tensors; };

/* One line that passed its check. False when it says nothing this version knows. */
static bool read_line(struct reader *r, const char *line)
{
    struct sl_journal_state *s = r->state;
    uint64_t index, sum;
    char rest;
    if (sscanf(line, "tensor %" SCNu64 " %" SCNx64 "%c", &index, &sum, &rest) == 2) {
        if (index >= r->tensors)
            return false;
        s->count += !r->written[index];
        r->written[index] = true;
        r->checksum[index] = sum;
        return true;
    }
    if (sscanf(line, "file %" SCNu64 "%c", &index, &rest) == 1)
        return true;
    if (sscanf(line, "commit %" SCNu64 "%c", &s->commit, &rest) == 1)
        return true;
    if (sscanf(line, "source %" SCNx64 "%c", &s->source, &rest) == 1)
        return true;
    return sscanf(line, "plan %39s", s->plan) == 1;
}

/* Is text[0..len) "CHECK LINE"? Copies the line. */
static bool check_line(const char *text, size_t len, char line[LINE_MOST])
{
    if (len < 10 || len - 9 >= LINE_MOST || text[8] != ' ')
        return false;
    char digits[9] = { 0 }, *end;
    memcpy(digits, text, 8);
    const unsigned long check = strtoul(digits, &end, 16);
    memcpy(line, text + 9, len - 9);
    line[len - 9] = '\0';
    return end == digits + 8 && check == XXH32(line, len - 9, 0);
}

int sl_journal_read(const char *path, size_t tensors, struct sl_arena *arena,
                    struct sl_journal_state *state, uint64_t *end, struct sl_error *err)
{
    char *text;
    size_t len;
    int code = sl_file_slurp(path, JOURNAL_MOST, arena, &text, &len, err);
    if (code)
        return code == SL_MEMORY ? code : SL_WRITE;

    *state = (struct sl_journal_state){ .count = 0 };
    struct reader r = { .state = state, .tensors = tensors };
    r.checksum = SL_ARENA_NEW(arena, uint64_t, tensors);
    r.written = SL_ARENA_NEW(arena, bool, tensors);
    if (!r.checksum || !r.written)
        return sl_fail_memory(err, tensors * 9);
    state->checksum = r.checksum;
    state->written = r.written;

    size_t at = 0, lines = 0;
    char line[LINE_MOST];
    for (const char *newline; (newline = memchr(text + at, '\n', len - at)); lines++) {
        if (!check_line(text + at, (size_t)(newline - (text + at)), line))
            break;    /* torn: what is behind was never promised */
        if (lines == 0 ? strcmp(line, HEAD_LINE) != 0 : !read_line(&r, line))
            return sl_fail(err, SL_WRITE, path,
                           "was written by another version of shardlens (\"%s\"); start anew with --force", line);
        at = (size_t)(newline - text) + 1;
    }
    if (lines < 3)
        return sl_fail(err, SL_WRITE, path, "the journal is damaged; start anew with --force");
    *end = at;
    return SL_OK;
}
