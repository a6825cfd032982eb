/* memory.h: an allocator that fails on order. For test programs named
 * test_memory*.c, which the Makefile links with --wrap for malloc, calloc and
 * realloc, so that every allocation of our own code comes by here (those inside
 * of other libraries do not). Works under the sanitizers too.
 *
 *     memory_fail(3, false);      the third allocation from here fails
 *     ... the code under test ...
 *     memory_end();
 */
#ifndef SL_TESTS_MEMORY_H
#define SL_TESTS_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static atomic_uint memory_calls, memory_nth;   /* nth 0: nothing fails */
static atomic_bool memory_from_there_on;

static inline bool memory_is_due(void)
{
    const unsigned n = 1 + atomic_fetch_add(&memory_calls, 1);
    const unsigned nth = atomic_load(&memory_nth);
    return nth && (n == nth || (n > nth && atomic_load(&memory_from_there_on)));
}

void *__wrap_malloc(size_t size)
{
    return memory_is_due() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return memory_is_due() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return memory_is_due() ? NULL : __real_realloc(old, size);
}

static inline void memory_fail(unsigned nth, bool from_there_on)
{
    atomic_store(&memory_calls, 0);
    atomic_store(&memory_from_there_on, from_there_on);
    atomic_store(&memory_nth, nth);
}

/* Nothing fails any more; returns how many allocations there were. */
static inline unsigned memory_end(void)
{
    atomic_store(&memory_nth, 0);
    return atomic_load(&memory_calls);
}

#endif
