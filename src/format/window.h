/* window.h: many small reads through one buffer, for headers that lie apart.
 *
 * Where records are small the next header is near: the buffer grows (to 1 MiB)
 * and one read serves thousands of headers. Where they are large it shrinks to
 * 4 KiB, so that looking at headers never reads the data between them.
 */
#ifndef SL_FORMAT_WINDOW_H
#define SL_FORMAT_WINDOW_H

#include "base/io.h"

struct sl_window {
    const struct sl_file *file;
    uint64_t end;             /* of what may be read, in the file */
    uint8_t *buf;             /* owned */
    size_t room, len;
    uint64_t at;              /* offset of buf[0] in the file */
    size_t ahead;             /* how much the next read takes */
};

/* Zero it, set file and end. */
void sl_window_free(struct sl_window *w);

/* Points *p at `len` bytes of the file at offset, valid until the next call.
 * SL_INPUT when they end after w->end. */
int sl_window_get(struct sl_window *w, uint64_t offset, size_t len, const uint8_t **p,
                  struct sl_error *err);

#endif
