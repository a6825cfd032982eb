/* zipsource.h: a range of an open file as a source for libzip.
 *
 * libzip reads through the descriptor we hold (the file that was looked at is
 * the file that is read, and faults of sl_io reach it too), in the same few,
 * large reads as everything else here. Read-only. */
#ifndef SL_FORMAT_ZIPSOURCE_H
#define SL_FORMAT_ZIPSOURCE_H

#include "base/io.h"

#include <zip.h>

/* Opens the archive at [start, start + length) with libzip. tail: the bytes
 * [tail_at, length) of the archive if they are in memory already, else NULL;
 * borrowed until zip_discard(), which is the caller's to call on *archive. */
int sl_zip_source_open(const struct sl_file *file, uint64_t start, uint64_t length,
                       const uint8_t *tail, uint64_t tail_at, int flags, zip_t **archive,
                       struct sl_error *err);

#endif
