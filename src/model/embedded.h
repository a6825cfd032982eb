/* embedded.h: data files compiled into the library: the family descriptions of
 * families/ *.json, the database models.json and the table facts.json. The
 * array is written by embed.sh when the library is built. */
#ifndef SL_MODEL_EMBEDDED_H
#define SL_MODEL_EMBEDDED_H

#include <stddef.h>

struct sl_embedded {
    const char *name;              /* "llama.json" */
    const unsigned char *bytes;    /* NUL terminated besides */
    size_t len;
};
extern const struct sl_embedded sl_embedded_files[];
extern const size_t sl_embedded_count;

/* The file of that name, NULL when there is none. */
const struct sl_embedded *sl_embedded_find(const char *name);

#endif
