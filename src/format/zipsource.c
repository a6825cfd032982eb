/* zipsource.c: see zipsource.h. The callback protocol is libzip's
 * zip_source_function(3). */
#include "format/zipsource.h"

#include "base/error.h"
#include "format/window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct source {
    struct sl_window window;
    uint64_t start, length;
    const uint8_t *tail;
    uint64_t tail_at;
    uint64_t at;                /* position of the next read */
    zip_error_t error;
    struct sl_error *err;       /* filled by the reads that fail */
    struct sl_error unasked;    /* stands in where the caller wants no error */
};

static int64_t source_read(struct source *s, void *out, uint64_t len)
{
    uint64_t left = s->length - s->at;
    if (len > left)
        len = left;
    if (s->tail && s->at >= s->tail_at) {
        memcpy(out, s->tail + (s->at - s->tail_at), len);
        s->at += len;
        return (int64_t)len;
    }
    uint64_t done = 0;
    while (done < len) {
        size_t step = len - done < (1u << 20) ? (size_t)(len - done) : 1u << 20;
        const uint8_t *p;
        if (sl_window_get(&s->window, s->start + s->at, step, &p, s->err)) {
            zip_error_set(&s->error, ZIP_ER_READ, errno);
            return -1;
        }
        memcpy((char *)out + done, p, step);
        done += step;
        s->at += step;
    }
    return (int64_t)len;
}

static int64_t source_seek(struct source *s, void *data, uint64_t len)
{
    int64_t to = zip_source_seek_compute_offset(s->at, s->length, data, len, &s->error);
    if (to < 0)
        return -1;
    s->at = (uint64_t)to;
    return 0;
}

static int64_t source_stat(struct source *s, void *data, uint64_t len)
{
    if (len < sizeof(zip_stat_t)) {
        zip_error_set(&s->error, ZIP_ER_INVAL, 0);
        return -1;
    }
    zip_stat_t *st = data;
    zip_stat_init(st);
    st->size = s->length;
    st->valid |= ZIP_STAT_SIZE;
    return sizeof *st;
}

static zip_int64_t source_command(void *user, void *data, zip_uint64_t len, zip_source_cmd_t cmd)
{
    struct source *s = user;
    switch (cmd) {
    case ZIP_SOURCE_OPEN:
        s->at = 0;
        return 0;
    case ZIP_SOURCE_READ:
        return source_read(s, data, len);
    case ZIP_SOURCE_CLOSE:
        return 0;
    case ZIP_SOURCE_STAT:
        return source_stat(s, data, len);
    case ZIP_SOURCE_ERROR:
        return zip_error_to_data(&s->error, data, len);
    case ZIP_SOURCE_SEEK:
        return source_seek(s, data, len);
    case ZIP_SOURCE_TELL:
        return (zip_int64_t)s->at;
    case ZIP_SOURCE_FREE:
        sl_window_free(&s->window);
        free(s);
        return 0;
    case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE,
                                              ZIP_SOURCE_STAT, ZIP_SOURCE_ERROR, ZIP_SOURCE_SEEK,
                                              ZIP_SOURCE_TELL, ZIP_SOURCE_FREE,
                                              ZIP_SOURCE_SUPPORTS, -1);
    default:
        zip_error_set(&s->error, ZIP_ER_OPNOTSUPP, 0);
        return -1;
    }
}

int sl_zip_source_open(const struct sl_file *file, uint64_t start, uint64_t length,
                       const uint8_t *tail, uint64_t tail_at, int flags, zip_t **archive,
                       struct sl_error *err)
{
    struct source *s = calloc(1, sizeof *s);
    if (!s)
        return sl_fail_memory(err, sizeof *s);
    s->window.file = file;
    s->window.end = start + length;
    s->start = start;
    s->length = length;
    s->tail = tail;
    s->tail_at = tail_at;
    zip_error_init(&s->error);
    struct sl_error reading = { .code = SL_OK };        /* of the reads that opening does */
    s->err = &reading;

    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *source = zip_source_function_create(source_command, s, &error);
    *archive = source ? zip_open_from_source(source, flags, &error) : NULL;
    int code = SL_OK;
    if (*archive) {
        s->err = err ? err : &s->unasked;
    } else {
        if (source)
            zip_source_free(source);
        else
            free(s);
        code = (int)reading.code;
        if (code && err)
            *err = reading;
        else if (!code)
            code = zip_error_code_zip(&error) == ZIP_ER_MEMORY
                 ? sl_fail_memory(err, length)
                 : sl_fail(err, SL_INPUT, file->path, "refused by libzip's consistency check: %s",
                           zip_error_strerror(&error));
    }
    zip_error_fini(&error);
    return code;
}
