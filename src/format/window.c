/* window.c: see window.h. */
#include "format/window.h"

#include "base/error.h"

#include <stdlib.h>

enum { WINDOW_LEAST = 4096, WINDOW_MOST = 1 << 20 };

void sl_window_free(struct sl_window *w)
{
    free(w->buf);
    w->buf = NULL;
    w->room = w->len = 0;
}

/* The next header just after the buffer: read twice as much; further away
 * than a buffer: start again with the least. */
static size_t ahead_for(const struct sl_window *w, uint64_t offset)
{
    uint64_t reached = w->at + w->len;
    bool is_near = w->len && offset >= w->at && offset <= reached + w->ahead;
    size_t ahead = is_near ? w->ahead * 2 : WINDOW_LEAST;
    return ahead > WINDOW_MOST ? WINDOW_MOST : ahead;
}

int sl_window_get(struct sl_window *w, uint64_t offset, size_t len, const uint8_t **p,
                  struct sl_error *err)
{
    if (offset > w->end || len > w->end - offset)
        return sl_fail(err, SL_INPUT, w->file->path,
                       "%zu bytes wanted at byte %llu, but what is read here ends at byte %llu",
                       len, (unsigned long long)offset, (unsigned long long)w->end);
    if (offset >= w->at && offset - w->at <= w->len && len <= w->len - (offset - w->at)) {
        *p = w->buf + (offset - w->at);
        return SL_OK;
    }
    w->ahead = ahead_for(w, offset);
    size_t want = len > w->ahead ? len : w->ahead;
    if (want > w->end - offset)
        want = (size_t)(w->end - offset);
    if (want > w->room) {
        uint8_t *grown = realloc(w->buf, want);
        if (!grown)
            return sl_fail_memory(err, want);
        w->buf = grown;
        w->room = want;
    }
    w->len = 0;
    int code = sl_file_read(w->file, offset, w->buf, want, err);
    if (code)
        return code;
    w->at = offset;
    w->len = want;
    *p = w->buf;
    return SL_OK;
}
