/* arena.c: blocks in a list, newest first; allocation moves a mark forward. Large blocks are mapped: they come
 * zeroed, page by page as they are used, and go back to the system when the arena is freed. */
#include "base/arena.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGN       UINT64_C(16)
#define BLOCK_FIRST (UINT64_C(1) << 10)       /* there may be an arena for each of many small files */
#define BLOCK_LAST  (UINT64_C(16) << 20)
#define BLOCK_ALONE (UINT64_C(1) << 20)      /* not put into the rest of a block */
#define LARGE_PAGE  (UINT64_C(2) << 20)

struct sl_arena_block {
    struct sl_arena_block *next;
    uint64_t room, used;            /* bytes after the head */
    uint64_t mapped;                /* bytes; 0: it came from calloc */
};
_Static_assert(sizeof(struct sl_arena_block) % ALIGN == 0, "what follows a head is aligned");

struct sl_arena_taken { struct sl_arena_taken *next; void *p; };

/* Under the address sanitizer each allocation is a block of its own, so that
 * running over its end is seen. */
#if defined(__SANITIZE_ADDRESS__)
#define EXACT_BLOCKS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EXACT_BLOCKS 1
#endif
#endif
#ifndef EXACT_BLOCKS
#define EXACT_BLOCKS 0
#endif

void sl_arena_free(struct sl_arena *a)
{
    for (; a->taken; a->taken = a->taken->next)
        free(a->taken->p);
    while (a->blocks) {
        struct sl_arena_block *block = a->blocks;
        a->blocks = block->next;
        if (block->mapped)
            munmap(block, block->mapped);
        else
            free(block);
    }
    a->used = 0;
}

void sl_memory_large(void *p, uint64_t bytes)
{
    const uintptr_t begin = ((uintptr_t)p + LARGE_PAGE - 1) & ~(uintptr_t)(LARGE_PAGE - 1);
    const uintptr_t end = ((uintptr_t)p + bytes) & ~(uintptr_t)(LARGE_PAGE - 1);
    if (p && begin < end)
        madvise((void *)begin, end - begin, MADV_HUGEPAGE);
}

static struct sl_arena_block *get_block(size_t bytes)
{
    if (EXACT_BLOCKS || bytes < LARGE_PAGE)
        return calloc(1, bytes);
    struct sl_arena_block *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED)
        return NULL;
    sl_memory_large(block, bytes);
    block->mapped = bytes;
    return block;
}

static struct sl_arena_block *new_block(struct sl_arena *a, uint64_t bytes)
{
    uint64_t room = bytes;
    if (!EXACT_BLOCKS) {
        const uint64_t grown = a->blocks ? sl_min_u64(2 * a->blocks->room, BLOCK_LAST) : BLOCK_FIRST;
        room = sl_max_u64(bytes, grown);
    }

    uint64_t all;
    if (!sl_add_u64(room, sizeof(struct sl_arena_block), &all) || all > SIZE_MAX)
        return NULL;
    struct sl_arena_block *block = get_block((size_t)all);
    if (!block)
        return NULL;
    block->room = room;

    /* A large lone allocation goes behind the current block, whose rest stays usable. */
    if (a->blocks && a->blocks->room - a->blocks->used > BLOCK_FIRST && bytes >= BLOCK_ALONE) {
        block->next = a->blocks->next;
        a->blocks->next = block;
    } else {
        block->next = a->blocks;
        a->blocks = block;
    }
    return block;
}

void *sl_arena_new(struct sl_arena *a, uint64_t count, uint64_t size)
{
    uint64_t bytes, used;
    if (!sl_mul_u64(count, size, &bytes) || !sl_add_u64(bytes, ALIGN - 1, &bytes))
        return NULL;
    bytes = sl_max_u64(bytes & ~(ALIGN - 1), ALIGN);
    if (!sl_add_u64(a->used, bytes, &used) || (a->limit && used > a->limit))
        return NULL;

    uint64_t place = bytes;
    if (EXACT_BLOCKS)
        place = sl_max_u64(count * size, 1);
    struct sl_arena_block *block = a->blocks;
    if (EXACT_BLOCKS || !block || block->room - block->used < bytes)
        block = new_block(a, place);
    if (!block) {
        a->starved = true;
        return NULL;
    }

    void *p = (char *)(block + 1) + block->used;
    block->used += place;
    a->used = used;
    return p;
}

bool sl_arena_take(struct sl_arena *a, void *p, uint64_t bytes)
{
    uint64_t used;
    if (!p || !sl_add_u64(a->used, bytes, &used) || (a->limit && used > a->limit))
        return false;
    struct sl_arena_taken *taken = sl_arena_new(a, 1, sizeof *taken);
    if (!taken)
        return false;
    *taken = (struct sl_arena_taken){ a->taken, p };
    a->taken = taken;
    a->used += bytes;
    return true;
}

void *sl_arena_copy(struct sl_arena *a, const void *bytes, uint64_t len)
{
    void *p = sl_arena_new(a, len, 1);
    if (p && len)
        memcpy(p, bytes, (size_t)len);
    return p;
}

char *sl_arena_strn(struct sl_arena *a, const char *s, size_t len)
{
    uint64_t room;
    if (!sl_add_u64(len, 1, &room))
        return NULL;
    char *p = sl_arena_new(a, room, 1);
    if (p && len)
        memcpy(p, s, len);
    return p;
}

char *sl_arena_str(struct sl_arena *a, const char *s)
{
    return sl_arena_strn(a, s, strlen(s));
}

char *sl_arena_vprintf(struct sl_arena *a, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    const int len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (len < 0)
        return NULL;

    char *p = sl_arena_new(a, (uint64_t)len + 1, 1);
    if (p)
        vsnprintf(p, (size_t)len + 1, format, args);
    return p;
}

char *sl_arena_printf(struct sl_arena *a, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *p = sl_arena_vprintf(a, format, args);
    va_end(args);
    return p;
}
