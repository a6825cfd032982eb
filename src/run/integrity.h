/* integrity.h: files of a checkpoint against the checksums that were saved beside them.
 * Private to this room. */
#ifndef SL_RUN_INTEGRITY_H
#define SL_RUN_INTEGRITY_H

#include "checkpoint/ckpt.h"
#include "run/job.h"

/* Bytes of all files that c->integrity names. */
uint64_t integrity_bytes(const struct sl_ckpt *c);
/* Reads the file of entry i of c->integrity through the worker's buffer and tells when it is gone
 * or has another SHA-256. lock guards problems. Only a request to stop is a failure. */
int integrity_check(struct sl_run *r, struct sl_worker *w, const struct sl_ckpt *c, uint64_t i, pthread_mutex_t *lock,
                    struct sl_problems *problems, struct sl_error *err);

#endif
