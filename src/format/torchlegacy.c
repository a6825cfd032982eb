/* torchlegacy.c: the container of torch before 1.6 (and of
 * _use_new_zipfile_serialization=False): pickles one after the other, then
 * the storages.
 *
 *   1  pickle  0x1950A86A20F9469CFC6C
 *   2  pickle  1001, the protocol's version
 *   3  pickle  a dict about the machine that wrote it; not needed: data is
 *              little-endian whatever it says
 *   4  pickle  the object; persistent ids with six fields
 *   5  pickle  list of the keys of the storages, in the order of their bytes
 *   6  each    i64 number of elements, then the elements
 *
 * Source   torch/serialization.py (_legacy_save, _legacy_load)
 */
#include "format/torchread.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/num.h"
#include "format/window.h"

#include <stdlib.h>
#include <string.h>

#define ULL(x) ((unsigned long long)(x))
#define damaged(r, ...) sl_fail((r)->err, SL_INPUT, (r)->file->path, __VA_ARGS__)

bool torch_is_magic(const struct sl_pickle *pickle)
{
    static const char magic[] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    const struct sl_node *n = sl_pickle_node(pickle, pickle->root);
    return n && n->kind == SL_NODE_BIGINT && n->u.text.len == sizeof magic - 1 &&
           !memcmp(n->u.text.s, magic, sizeof magic - 1);
}

/* --- storages ----------------------------------------------------------- */

/* Length of the whole file, if it held all storages from `at` on. */
static uint64_t whole_length(const struct torch_reader *r, uint64_t at)
{
    for (size_t i = 0; i < r->storage_count; i++)
        if (r->needs[i].parent < 0 && r->storages[i].missing)
            at += 8 + r->needs[i].bytes;
    return at;
}

static int cut_off(struct torch_reader *r, const char *key, uint64_t at)
{
    damaged(r, "truncated: the file ends inside storage %s at byte %llu; it should be %llu bytes long", key, ULL(r->length),
            ULL(whole_length(r, at)));
    return sl_fail_fault(r->err, SL_FAULT_CUT);
}

/* The storage of one key: *at is where it begins, and afterwards ends. */
static int place(struct torch_reader *r, struct sl_window *window, const struct sl_node *key,
                 uint64_t *at)
{
    uint64_t index = 0;
    if (key->kind != SL_NODE_STR && key->kind != SL_NODE_BYTES)
        return damaged(r, "a storage whose key is no string");
    char *name = sl_arena_strn(&r->scratch, key->u.text.s, key->u.text.len);
    if (!name)
        return sl_fail_memory(r->err, key->u.text.len);
    if (!sl_map_get(&r->storage_index, key->u.text.s, key->u.text.len, &index) ||
        r->needs[index].parent >= 0)
        return damaged(r, "storage %s is listed, but no tensor names it, so its length is unknown",
                       name);
    struct sl_torch_storage *s = &r->storages[index];
    if (!s->missing)
        return damaged(r, "storage %s is listed twice", name);
    if (r->length - *at < 8)
        return cut_off(r, name, *at);
    const uint8_t *p;
    int code = sl_window_get(window, r->start + *at, 8, &p, r->err);
    if (code)
        return code;
    uint64_t count = sl_load_u64(p), bytes;
    if (!sl_mul_u64(count, sl_dtype_size(s->dtype), &bytes) || bytes != r->needs[index].bytes)
        return damaged(r, "storage %s begins with a count of %llu elements, but the pickle says "
                       "%llu bytes", name, ULL(count), ULL(r->needs[index].bytes));
    if (bytes > r->length - *at - 8)
        return cut_off(r, name, *at);
    s->offset = r->start + *at + 8;
    s->bytes = s->packed = bytes;
    s->missing = false;
    *at += 8 + bytes;
    return SL_OK;
}

static int place_all(struct torch_reader *r, const struct sl_pickle *keys, uint64_t at)
{
    const struct sl_node *list = sl_pickle_node(keys, keys->root);
    if (!list || list->kind != SL_NODE_LIST)
        return damaged(r, "a legacy torch file whose list of storages is no list");
    struct sl_window window = { .file = r->file, .end = r->start + r->length };
    int code = SL_OK;
    for (uint32_t i = 0; i < list->u.items.count && !code; i++)
        code = place(r, &window, &keys->nodes[list->u.items.ids[i]], &at);
    sl_window_free(&window);
    return code;
}

/* --- opening ------------------------------------------------------------ */

static int check_version(struct torch_reader *r, const struct sl_pickle *pickle)
{
    const struct sl_node *n = sl_pickle_node(pickle, pickle->root);
    if (n && n->kind == SL_NODE_INT && n->u.i == 1001)
        return SL_OK;
    return damaged(r, "a legacy torch file of an unknown protocol; 1001 was expected");
}

int torch_open_legacy(struct torch_reader *r, uint64_t at, char **bytes)
{
    char *other = NULL;
    struct sl_pickle pickle;
    r->out->kind = SL_TORCH_LEGACY;
    int code = torch_pickle_read(r, at, &other, &pickle, r->err);
    if (!code)
        code = check_version(r, &pickle);
    at += pickle.length;
    if (!code)
        code = torch_pickle_read(r, at, &other, &pickle, r->err);
    at += pickle.length;
    if (!code)
        code = torch_pickle_read(r, at, bytes, &r->pickle, r->err);
    r->out->pickle_bytes = r->pickle.length;
    at += r->pickle.length;
    if (!code)
        code = torch_storages_collect(r);
    if (!code)
        code = torch_pickle_read(r, at, &other, &pickle, r->err);
    if (!code)
        code = place_all(r, &pickle, at + pickle.length);
    free(other);
    return code;
}
