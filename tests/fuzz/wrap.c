/* wrap.c: see wrap.h. */
#include "wrap.h"

#include "base/dtype.h"
#include "format/pickle.h"
#include "format/torchwrite.h"

#define STORAGE_MOST 65536

uint8_t *fuzz_wrap(const uint8_t *pickle, size_t len, const uint64_t *storage_bytes, size_t storages, size_t *size)
{
    static const uint32_t crc[64];
    struct sl_arena arena = { 0 };
    struct sl_torch_layout layout;
    struct sl_torch_piece *tail;
    uint32_t tail_count;
    if (storages > sizeof crc / sizeof *crc || sl_torch_layout(pickle, len, storage_bytes, (uint32_t)storages, &arena, &layout, NULL) ||
        sl_torch_tail(&layout, crc, &arena, &tail, &tail_count, NULL))
        abort();
    uint8_t *bytes = calloc(1, layout.file_size);
    if (!bytes)
        abort();
    for (uint32_t i = 0; i < layout.piece_count; i++)
        memcpy(bytes + layout.pieces[i].offset, layout.pieces[i].bytes, layout.pieces[i].len);
    for (uint32_t i = 0; i < tail_count; i++)
        memcpy(bytes + tail[i].offset, tail[i].bytes, tail[i].len);
    *size = layout.file_size;
    sl_arena_free(&arena);
    return bytes;
}

/* ("storage", torch.FloatStorage, "3", "cpu", 42): its number, and its bytes. */
static bool is_storage(const struct sl_pickle *p, const struct sl_node *n, unsigned long *number, uint64_t *bytes)
{
    static const struct { const char *name; unsigned size; } kinds[] = {
        { "DoubleStorage", 8 }, { "FloatStorage", 4 }, { "HalfStorage", 2 }, { "BFloat16Storage", 2 }, { "LongStorage", 8 },
        { "IntStorage", 4 }, { "ShortStorage", 2 }, { "CharStorage", 1 }, { "ByteStorage", 1 }, { "BoolStorage", 1 } };
    const struct sl_node *id = n->kind == SL_NODE_PERSID ? sl_pickle_node(p, n->u.id) : NULL;
    if (!id || id->kind != SL_NODE_TUPLE || id->u.items.count < 5)
        return false;
    const struct sl_node *kind = sl_pickle_node(p, id->u.items.ids[1]), *key = sl_pickle_node(p, id->u.items.ids[2]);
    const struct sl_node *count = sl_pickle_node(p, id->u.items.ids[4]);
    char digits[8] = "", *end;
    if (kind->kind != SL_NODE_GLOBAL || key->kind != SL_NODE_STR || !key->u.text.len || key->u.text.len >= sizeof digits ||
        count->kind != SL_NODE_INT || count->u.i < 0 || count->u.i > STORAGE_MOST)
        return false;
    memcpy(digits, key->u.text.s, key->u.text.len);
    *number = strtoul(digits, &end, 10);
    *bytes = (uint64_t)count->u.i;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].name, kind->u.global.name))
            *bytes *= kinds[i].size;
    return !*end;
}

size_t fuzz_storages(const uint8_t *pickle, size_t len, uint64_t *storage_bytes, size_t most)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_pickle p = { 0 };
    size_t count = 0;
    const int code = sl_pickle_parse(pickle, len, "input", &arena, &p, NULL);
    memset(storage_bytes, 0, most * sizeof *storage_bytes);
    for (uint32_t i = 1; !code && i <= p.count; i++) {
        unsigned long number;
        uint64_t bytes;
        if (!is_storage(&p, &p.nodes[i], &number, &bytes) || number >= most)
            continue;
        storage_bytes[number] = bytes;
        count = number >= count ? number + 1 : count;
    }
    sl_arena_free(&arena);
    return count;
}
