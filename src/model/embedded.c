/* embedded.c: the data files that are compiled in. A damaged one is a mistake of the build: the
 * tests of this room read every file. */
#include "model/embedded.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define GZIP_WINDOW (15 + 16)      /* inflateInit2: the largest window, a gzip header */

const struct sl_embedded *sl_embedded_find(const char *name)
{
    for (size_t i = 0; i < sl_embedded_count; i++)
        if (!strcmp(sl_embedded_files[i].name, name))
            return &sl_embedded_files[i];
    return NULL;
}

static int inflate_file(const struct sl_embedded *file, unsigned char *text, struct sl_error *err)
{
    z_stream z = { 0 };
    z.next_in = (z_const Bytef *)file->bytes;
    z.avail_in = (uInt)file->len;
    z.next_out = text;
    z.avail_out = (uInt)file->size;
    if (inflateInit2(&z, GZIP_WINDOW) != Z_OK)
        return sl_fail_memory(err, file->size);
    const int rc = inflate(&z, Z_FINISH);
    const bool whole = rc == Z_STREAM_END && z.avail_out == 0;
    inflateEnd(&z);
    if (!whole)
        return rc == Z_MEM_ERROR ? sl_fail_memory(err, file->size) : sl_fail(err, SL_INPUT, file->name, "was damaged when the library was built");
    return SL_OK;
}

int sl_embedded_json(const struct sl_embedded *file, struct sl_arena *arena, const struct sl_value **json, struct sl_error *err)
{
    if (!file)
        return sl_fail(err, SL_INPUT, "", "a data file was left out when the library was built");
    unsigned char *text = malloc(file->size + 1);
    if (!text)
        return sl_fail_memory(err, file->size + 1);
    text[file->size] = '\0';
    int code = inflate_file(file, text, err);
    if (!code)
        code = sl_json_parse((const char *)text, file->size, file->name, arena, json, err);
    free(text);
    return code;
}
