/* pool.h: threads that take numbers from a counter. The only place where
 * threads are made for parallel loops. */
#ifndef SL_BASE_POOL_H
#define SL_BASE_POOL_H

#include <shardlens/types.h>

/* Calls work(arg, worker, i) for every i in 0..count-1 from `threads` threads
 * (worker 0..threads-1), each i once, in rising order of start. A worker that
 * returns non-zero stops the rest from starting new numbers; the first such
 * value is returned. Where threads can't be made it goes on with fewer. */
int sl_parallel(unsigned threads, uint64_t count,
                int (*work)(void *arg, unsigned worker, uint64_t i), void *arg);

/* Processors this process may run on. */
unsigned sl_processors(void);
/* Monotonic clock. */
uint64_t sl_now_ns(void);

#endif
