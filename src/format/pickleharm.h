/* pickleharm.h: what of the names in a pickle could do harm, by how they are used, and what pickles
 * within its bytes ask for. Nothing is ever called; this is for telling. */
#ifndef SL_FORMAT_PICKLEHARM_H
#define SL_FORMAT_PICKLEHARM_H

#include "format/pickle.h"

#define SL_HARM_NAMES 16                        /* told of one pickle's bytes */
#define SL_HARM_INSIDE 64                       /* pickles looked at within one run of bytes */
#define SL_HARM_MEMORY (UINT64_C(64) << 20)     /* for all of those; what needs more is not looked at */

/* The risk (sl_pickle_global_risk) of each of p->globals: also 2 where a function of Python's library or of a
 * package that everybody has is called and not known, and where something is done to the name itself.
 * risks has p->global_count entries. SL_MEMORY, and nothing else, on failure. */
int sl_harm_risks(const struct sl_pickle *p, struct sl_arena *arena, int *risks);

/* Names with risk 2 in pickles within bytes, each once, in the arena. Begins as { .arena = .. }. */
struct sl_harm { struct sl_arena *arena; const char *names[SL_HARM_NAMES]; uint32_t count; };
/* Looks into bytes: a pickle, a torch archive, and bytes in those. Bytes that are none add nothing. */
int sl_harm_look_inside(struct sl_harm *h, const char *s, size_t len);

#endif
