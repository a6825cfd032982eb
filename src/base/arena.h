/* arena.h: memory for things that live and die together.
 *
 * One arena holds all that is known about one opened checkpoint, plan or
 * report. Nothing in it is freed alone, so a pointer into it is borrowed and
 * valid until sl_arena_free(). Buffers for tensor bytes do not belong here.
 * Not shared between threads while it grows. `limit` is a ceiling for hostile
 * input: past it allocation fails as if memory were out.
 */
#ifndef SL_BASE_ARENA_H
#define SL_BASE_ARENA_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_arena_block;
struct sl_arena_taken;
struct sl_arena {
    struct sl_arena_block *blocks;   /* newest first */
    struct sl_arena_taken *taken;    /* memory that others made */
    uint64_t used;                   /* bytes handed out */
    uint64_t limit;                  /* 0: none */
    bool starved;                    /* the system had no memory for it once: what was to be in it is not whole */
};

/* A zeroed struct is an empty arena without limit. */
void sl_arena_free(struct sl_arena *a);

/* Zeroed, aligned to 16; NULL when count * size overflows or memory is out.
 * count 0 gives a valid pointer to nothing. */
void *sl_arena_new(struct sl_arena *a, uint64_t count, uint64_t size) __attribute__((malloc));
#define SL_ARENA_NEW(a, type, count) ((type *)sl_arena_new((a), (count), sizeof(type)))

/* p, made by malloc and of that many bytes, lives and is freed with the arena from now on: for arrays
 * that grew while they were made. False, and p is still the caller's, when p is NULL, memory is out, or
 * it is more than `limit` leaves. */
bool sl_arena_take(struct sl_arena *a, void *p, uint64_t bytes);

/* Asks the system for large pages behind p, which has that many bytes and was not written yet: an array of
 * hundreds of MB is then there in some hundred faults, not in some hundred thousand. May do nothing. */
void sl_memory_large(void *p, uint64_t bytes);

/* Copies; NUL terminated; NULL when memory is out. */
char *sl_arena_str(struct sl_arena *a, const char *s);
char *sl_arena_strn(struct sl_arena *a, const char *s, size_t len);
void *sl_arena_copy(struct sl_arena *a, const void *bytes, uint64_t len);
char *sl_arena_printf(struct sl_arena *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
char *sl_arena_vprintf(struct sl_arena *a, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

#endif
