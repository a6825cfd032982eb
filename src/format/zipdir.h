/* zipdir.h: the directory of a zip archive, with the place of every record.
 *
 * libzip opens the archive, checks it (ZIP_CHECKCONS) and lists it; it does
 * not tell where a record's bytes begin, so this file walks the directory
 * itself and demands that both readings are the same: one meaning, or none.
 * What libzip does not look at is refused here: records that overlap, sizes
 * that wrap, bytes before the first record or after the end, names with NUL
 * or twice (also when they differ only in case), other methods than stored
 * and deflate, encryption.
 *
 *   end of archive   search back from the end for 50 4B 05 06; zip64 locator
 *                    (50 4B 06 07) 20 bytes before it, if there
 *   data of a record local header + 30 + name length + extra length, both
 *                    lengths from the LOCAL header; sizes from the directory
 *
 * Torch writes zero sizes into local headers and data descriptors behind the
 * data; both are expected. CRC 0 of a record that is not empty means that it
 * was never computed (torch.serialization.set_crc32_options(False)).
 */
#ifndef SL_FORMAT_ZIPDIR_H
#define SL_FORMAT_ZIPDIR_H

#include "base/arena.h"
#include "base/io.h"

struct sl_zip_entry {
    const char *name;         /* whole, as in the directory; in the arena */
    uint64_t offset;          /* of its first byte, in the file */
    uint64_t size;            /* bytes when unpacked */
    uint64_t packed;          /* bytes in the file; == size when stored */
    uint32_t crc;             /* of the unpacked bytes; 0 may mean "none" */
    bool deflated;
};
struct sl_zip {
    const struct sl_zip_entry *entries;   /* in directory order */
    uint64_t count;
    const uint32_t *by_name;              /* count indices, for sl_zip_find */
    bool cut;                 /* it failed for want of an end record: the file
                                 is shorter than it was written */
};

/* Reads the directory of the archive at [start, start + length) of file (a
 * whole file: 0, file->size; an item of a .distcp: its range). Offsets in the
 * result count from the start of the file. SL_INPUT says what is wrong, in the
 * order a person would want: not a zip but X; cut off after N bytes (no end
 * record; how many bytes the last readable record promises); ... */
int sl_zip_open(const struct sl_file *file, uint64_t start, uint64_t length,
                struct sl_arena *arena, struct sl_zip *zip, struct sl_error *err);

/* NULL when there is no record of exactly that name. Takes log(count) steps. */
const struct sl_zip_entry *sl_zip_find(const struct sl_zip *zip, const char *name);

/* Unpacks (through libzip) or reads bytes [from, from+len) of a record; the
 * CRC is checked when the whole record is read and has one. */
int sl_zip_read(const struct sl_file *file, uint64_t start, uint64_t length,
                const struct sl_zip_entry *entry, uint64_t from, void *buf, size_t len,
                struct sl_error *err);

#endif
