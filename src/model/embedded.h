/* embedded.h: data files compiled into the library: the family descriptions of
 * families/ *.json, the database models.json and the tables facts.json and
 * megatron_args.json. The array is written by embed.sh when the library is
 * built; the files in it are compressed, to a fifth. */
#ifndef SL_MODEL_EMBEDDED_H
#define SL_MODEL_EMBEDDED_H

#include "base/arena.h"
#include "base/error.h"
#include "base/value.h"

#include <stddef.h>

struct sl_embedded {
    const char *name;              /* "llama.json" */
    const unsigned char *bytes;    /* one gzip stream */
    size_t len;
    size_t size;                   /* bytes of the file */
};
extern const struct sl_embedded sl_embedded_files[];
extern const size_t sl_embedded_count;

/* The file of that name, NULL when there is none. */
const struct sl_embedded *sl_embedded_find(const char *name);

/* What the file says, in arena; SL_MEMORY when that is full. file may be NULL: SL_INPUT. err may be NULL. */
int sl_embedded_json(const struct sl_embedded *file, struct sl_arena *arena, const struct sl_value **json, struct sl_error *err);

#endif
