/* journal.c: lines that tell what has been done, and a lock. */
#include "run/journal.h"

#include "base/error.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define NAME "shardlens-journal"
#define HEAD_LINE NAME " 1"
#define LINE_MOST 128
#define JOURNAL_MOST (UINT64_C(1) << 30)
#define YOUNG 10                         /* seconds a new journal may be without a holder */

/* ---- the lock ---- */

static void host_of(char host[72])
{
    if (gethostname(host, 72))
        snprintf(host, 72, "localhost");
    host[71] = '\0';
}

static int fail_held(const struct sl_journal *j, const char *target, struct sl_error *err)
{
    struct sl_arena arena = { 0 };
    struct sl_journal_state s;
    const int unread = sl_journal_read(j, 0, &arena, &s, NULL);
    sl_arena_free(&arena);
    if (unread || s.pid == 0)
        return sl_fail(err, SL_WRITE, target, "is being written by another shardlens, which holds %s", j->path);
    return sl_fail(err, SL_WRITE, target, "is being written by another shardlens: process %ld on %s", s.pid, s.host);
}

/* Where there is no flock the text decides: a dead process of this host holds nothing. */
static bool holder_is_dead(const struct sl_journal *j, const struct stat *st)
{
    struct sl_arena arena = { 0 };
    struct sl_journal_state s;
    char host[72];
    host_of(host);
    const int unread = sl_journal_read(j, 0, &arena, &s, NULL);
    sl_arena_free(&arena);
    if (unread || s.pid == 0)
        return time(NULL) - st->st_mtime > YOUNG;
    return strcmp(s.host, host) == 0 && s.pid <= INT_MAX && kill((pid_t)s.pid, 0) && errno == ESRCH;
}

/* 1 locked, 0 the file was removed meanwhile: once more, -1 failed. */
static int lock_file(const struct sl_journal *j, const char *target, struct sl_error *err)
{
    struct stat ours, there;
    int rc;
    do
        rc = flock(j->fd, LOCK_EX | LOCK_NB);
    while (rc && errno == EINTR);
    const int number = rc ? errno : 0;
    const bool none = number == ENOSYS || number == ENOTSUP || number == EOPNOTSUPP || number == EINVAL || number == ENOLCK;
    if (fstat(j->fd, &ours)) {
        sl_fail_errno(err, SL_WRITE, j->path, "can't be looked at");
        return -1;
    }
    if (number == EWOULDBLOCK || (none && !j->made && !holder_is_dead(j, &ours))) {
        fail_held(j, target, err);
        return -1;
    }
    if (number && !none) {
        errno = number;
        sl_fail_errno(err, SL_WRITE, j->path, "can't be locked");
        return -1;
    }
    return stat(j->path, &there) == 0 && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* Something of that name that this program never wrote is left alone. */
static int refuse_stranger(const struct sl_journal *j, struct sl_error *err)
{
    char head[9 + sizeof NAME] = "";
    const struct sl_file file = { .fd = j->fd, .path = j->path };
    struct stat st;
    if (fstat(j->fd, &st) || !S_ISREG(st.st_mode))
        return sl_fail(err, SL_WRITE, j->path, "is in the way: it is no regular file");
    const size_t len = (size_t)st.st_size < sizeof head - 1 ? (size_t)st.st_size : sizeof head - 1;
    int code = sl_file_read(&file, 0, head, len, err);
    if (!code && len > 9 && strncmp(head + 9, NAME, len - 9) != 0)
        code = sl_fail(err, SL_WRITE, j->path, "is in the way: it is no journal of shardlens; move it away");
    return code;
}

int sl_journal_open(struct sl_journal *j, const char *path, const char *target, struct sl_error *err)
{
    for (int tries = 0; tries < 1000; tries++) {
        *j = (struct sl_journal){ .path = path, .made = true };
        j->fd = sl_io.open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (j->fd < 0 && errno == EEXIST) {
            j->made = false;
            j->fd = sl_io.open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW, 0);
            if (j->fd < 0 && errno == ENOENT)
                continue;
        }
        if (j->fd < 0)
            return sl_fail_errno(err, SL_WRITE, path, "the journal can't be made");
        const int locked = lock_file(j, target, err);
        if (locked == 1) {
            pthread_mutex_init(&j->lock, NULL);
            const int code = refuse_stranger(j, err);
            if (code)
                sl_journal_close(j, j->made);
            return code;
        }
        sl_io.close(j->fd);
        j->fd = -1;
        if (locked < 0)
            return SL_WRITE;
    }
    return sl_fail(err, SL_WRITE, path, "is made and removed again and again by others");
}

void sl_journal_close(struct sl_journal *j, bool remove)
{
    if (j->fd < 0)
        return;
    if (remove)
        unlink(j->path);
    sl_io.close(j->fd);    /* what had to be on the disk was synced before */
    pthread_mutex_destroy(&j->lock);
    j->fd = -1;
}

/* ---- writing ---- */

static int cut(struct sl_journal *j, uint64_t end, struct sl_error *err)
{
    j->end = end;
    if (ftruncate(j->fd, (off_t)end))
        return sl_fail_errno(err, SL_WRITE, j->path, "the journal can't be cut");
    return SL_OK;
}

static int add_holder(struct sl_journal *j, struct sl_error *err)
{
    char host[72];
    host_of(host);
    return sl_journal_add(j, err, "holder %s %ld", host, (long)getpid());
}

int sl_journal_begin(struct sl_journal *j, const char *plan, uint64_t source, struct sl_error *err)
{
    int code = cut(j, 0, err);
    if (!code)
        code = sl_journal_add(j, err, HEAD_LINE);
    if (!code)
        code = sl_journal_add(j, err, "plan %s", plan);
    if (!code)
        code = sl_journal_add(j, err, "source %016" PRIx64, source);
    if (!code)
        code = add_holder(j, err);
    return code ? code : sl_journal_sync(j, err);
}

int sl_journal_go_on(struct sl_journal *j, const struct sl_journal_state *state, struct sl_error *err)
{
    const int code = cut(j, state->end, err);
    return code ? code : add_holder(j, err);
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

/* ---- reading ---- */

struct reader { struct sl_journal_state *state; uint64_t *checksum; bool *written; size_t tensors; };

/* One line that passed its check. False when it says nothing this version knows. */
static bool read_line(struct reader *r, const char *line)
{
    struct sl_journal_state *s = r->state;
    uint64_t index, sum;
    char rest;
    if (sscanf(line, "tensor %" SCNu64 " %" SCNx64 "%c", &index, &sum, &rest) == 2) {
        if (index >= r->tensors)    /* of another plan, as its hash tells; or only who holds it is asked for */
            return true;
        s->count += !r->written[index];
        r->written[index] = true;
        r->checksum[index] = sum;
        return true;
    }
    if (sscanf(line, "file %" SCNu64 "%c", &index, &rest) == 1)
        return true;
    if (sscanf(line, "holder %71s %ld%c", s->host, &s->pid, &rest) == 2)
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

/* The whole file, through the descriptor that is locked. */
static int read_text(const struct sl_journal *j, struct sl_arena *arena, char **text, size_t *len, struct sl_error *err)
{
    const struct sl_file file = { .fd = j->fd, .path = j->path };
    struct stat st;
    if (fstat(j->fd, &st))
        return sl_fail_errno(err, SL_WRITE, j->path, "can't be looked at");
    if (st.st_size < 0 || (uint64_t)st.st_size > JOURNAL_MOST)
        return sl_fail(err, SL_WRITE, j->path, "is too long for a journal; start anew with --force");
    *len = (size_t)st.st_size;
    *text = sl_arena_new(arena, *len + 1, 1);
    if (!*text)
        return sl_fail_memory(err, *len);
    return sl_file_read(&file, 0, *text, *len, err) ? SL_WRITE : SL_OK;
}

int sl_journal_read(const struct sl_journal *j, size_t tensors, struct sl_arena *arena,
                    struct sl_journal_state *state, struct sl_error *err)
{
    char *text = NULL;
    size_t len = 0;
    int code = read_text(j, arena, &text, &len, err);
    if (code)
        return code;

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
            return sl_fail(err, SL_WRITE, j->path,
                           "was written by another version of shardlens (\"%s\"); start anew with --force", line);
        at = (size_t)(newline - text) + 1;
    }
    if (lines < 3)    /* killed while it was made, or damaged: it promises nothing */
        state->plan[0] = '\0';
    state->end = at;
    return SL_OK;
}

/* A tensor that is told of twice (written again after a resume) counts twice. */
int sl_journal_count(const char *path, struct sl_journal_count *out)
{
    struct sl_arena arena = { 0 };
    struct sl_journal_state s = { .count = 0 };
    struct reader r = { .state = &s };
    char *text, line[LINE_MOST];
    size_t len, at = 0;
    *out = (struct sl_journal_count){ .pid = 0 };
    const int code = sl_file_slurp(path, JOURNAL_MOST, &arena, &text, &len, NULL);
    for (const char *newline; !code && (newline = memchr(text + at, '\n', len - at)); at = (size_t)(newline - text) + 1) {
        if (!check_line(text + at, (size_t)(newline - (text + at)), line))
            break;
        out->tensors += strncmp(line, "tensor ", 7) == 0;
        read_line(&r, line);
    }
    snprintf(out->plan, sizeof out->plan, "%s", s.plan);
    snprintf(out->host, sizeof out->host, "%s", s.host);
    out->pid = s.pid;
    sl_arena_free(&arena);
    return code ? SL_INPUT : SL_OK;
}
