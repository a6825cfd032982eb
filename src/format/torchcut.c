/* torchcut.c: what can be told of a torch zip file that ends too early.
 *
 * Without its directory a zip is unreadable, but torch writes data.pkl first
 * and at a known place, and the pickle names every storage with its length. So
 * the records can be followed one by one to the point where the file ends, and
 * the length of the rest can be added up.
 *
 *   known    length in the local header where a writer put it there; else
 *            payload of data.pkl: up to its STOP; of data/KEY: from the pickle;
 *            of the small records: up to their descriptor
 *   then     the next local header stands right behind the descriptor
 */
#include "format/torchread.h"

#include "base/error.h"
#include "base/num.h"
#include "format/window.h"

#include <stdlib.h>
#include <string.h>

#define ULL(x) ((unsigned long long)(x))
enum {
    LOCAL_LEN = 30, CENTRAL_LEN = 46, END_LEN = 22, END64_LEN = 56 + 20, ALIGNMENT = 64,
    FLAG_DESCRIPTOR = 1 << 3, NAME_MOST = 512, WORD_MOST = 256, RECORDS_MOST = 1 << 20,
    MAGIC_LOCAL = 0x04034b50, MAGIC_CENTRAL = 0x02014b50, MAGIC_DESCRIPTOR = 0x08074b50
};

struct trail {
    struct torch_reader *r;
    struct sl_window window;
    struct sl_error ignored;
    uint64_t at;                 /* the next local header, in the archive */
    char name[NAME_MOST];        /* of the record at hand */
    char last[NAME_MOST];        /* of the last record that is whole */
    size_t root_len;             /* of "archive/" */
    uint64_t payload, size;      /* of the record at hand */
    bool is_sized;               /* its local header says its size; no descriptor follows */
    bool is_wide;                /* its descriptor has 64-bit sizes */
    uint64_t records;            /* that are whole */
    bool is_in_pickle;           /* the file ends in data.pkl: no lengths are known */
};

/* Bytes of the file at `at`; NULL where it ends before. */
static const uint8_t *look(struct trail *t, uint64_t at, size_t len)
{
    const uint8_t *p;
    if (at > t->r->length || len > t->r->length - at)
        return NULL;
    return sl_window_get(&t->window, t->r->start + at, len, &p, &t->ignored) ? NULL : p;
}

/* Reads the local header at t->at. */
static bool take_header(struct trail *t)
{
    const uint8_t *p = look(t, t->at, LOCAL_LEN);
    if (!p || sl_load_u32(p) != MAGIC_LOCAL)
        return false;
    size_t name_len = sl_load_u16(p + 26), extra_len = sl_load_u16(p + 28);
    const bool is_sized = !(sl_load_u16(p + 6) & FLAG_DESCRIPTOR);
    const bool is_deflated = sl_load_u16(p + 8) != 0;
    const uint64_t size = is_sized ? sl_load_u32(p + 18) : 0;
    if (!name_len || name_len >= NAME_MOST)
        return false;
    p = look(t, t->at, LOCAL_LEN + name_len + (extra_len < 2 ? 0 : 2));
    if (!p)
        return false;
    memcpy(t->name, p + LOCAL_LEN, name_len);
    t->name[name_len] = 0;
    if (memchr(t->name, 0, name_len))
        return false;
    t->is_wide = extra_len >= 2 && sl_load_u16(p + LOCAL_LEN + name_len) == 1;
    t->payload = t->at + LOCAL_LEN + name_len + extra_len;
    t->is_sized = is_sized;
    t->size = size;
    return !is_deflated;
}

/* Length of a small record: its descriptor is near. */
static bool find_descriptor(struct trail *t, uint64_t *size)
{
    for (uint64_t n = 0; n <= WORD_MOST; n++) {
        const uint8_t *p = look(t, t->payload + n, 16);
        if (!p)
            return false;
        if (sl_load_u32(p) == MAGIC_DESCRIPTOR && sl_load_u32(p + 12) == n) {
            *size = n;
            return true;
        }
    }
    return false;
}

static bool take_size(struct trail *t)
{
    const char *record = t->name + t->root_len;
    uint64_t index;
    if (strncmp(record, "data/", 5))
        return t->is_sized || find_descriptor(t, &t->size);
    if (!sl_map_get(&t->r->storage_index, record + 5, strlen(record + 5), &index))
        return false;
    t->size = t->r->needs[index].bytes;
    t->r->storages[index].missing = false;      /* here: it was met */
    return true;
}

static uint64_t record_end(const struct trail *t)
{
    return t->payload + t->size + (!t->size || t->is_sized ? 0 : t->is_wide ? 24 : 16);
}

/* The pickle comes first; with it the storages are known. */
static bool take_pickle(struct trail *t, char **bytes)
{
    if (!take_header(t) || t->payload >= t->r->length)
        return false;
    const char *slash = strchr(t->name, '/');
    if (!slash || strcmp(slash + 1, "data.pkl"))
        return false;
    t->root_len = (size_t)(slash - t->name) + 1;
    if (torch_pickle_read(t->r, t->payload, bytes, &t->r->pickle, &t->ignored)) {
        t->is_in_pickle = t->r->pickle.cut;
        return false;
    }
    if (!t->is_sized)
        t->size = t->r->pickle.length;
    return torch_storages_collect(t->r) == SL_OK;
}

/* The least that must follow for records not yet seen, and their directory. */
static uint64_t least_length(const struct trail *t, uint64_t at)
{
    uint64_t entry = CENTRAL_LEN + t->root_len, directory = 2 * (entry + 8);
    for (size_t i = 0; i < t->r->storage_count; i++) {
        const struct sl_torch_storage *s = &t->r->storages[i];
        directory += entry + strlen("data/") + strlen(s->key);
        if (!s->missing)
            continue;
        at += LOCAL_LEN + t->root_len + strlen("data/") + strlen(s->key);
        if (!t->is_sized)            /* as torch writes: aligned, with a descriptor behind */
            at = (at + 4 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + 16;
        at += t->r->needs[i].bytes;
    }
    at += directory + END_LEN + (t->is_sized ? 0 : END64_LEN);
    return at > t->r->length ? at : t->r->length + 1;
}

static void tell(struct trail *t, bool in_record)
{
    uint64_t least = least_length(t, in_record ? record_end(t) : t->at);
    const uint8_t *p = look(t, t->at, 4);
    const bool broken = !in_record && p && sl_load_u32(p) != MAGIC_LOCAL && sl_load_u32(p) != MAGIC_CENTRAL;
    if (broken)
        sl_fail(t->r->err, SL_INPUT, t->r->file->path, "damaged: behind record %s, at byte %llu, no "
                "record begins, and the archive has no directory at its end", t->last, ULL(t->at));
    else if (!in_record)
        sl_fail(t->r->err, SL_INPUT, t->r->file->path, "truncated: it ends at byte %llu, behind record "
                "%s; a whole one has at least %llu bytes", ULL(t->r->length), t->last, ULL(least));
    else if (t->r->length < t->payload + t->size)
        sl_fail(t->r->err, SL_INPUT, t->r->file->path, "truncated: it ends at byte %llu, inside record "
                "%s (%llu bytes from byte %llu on); a whole one has at least %llu bytes",
                ULL(t->r->length), t->name, ULL(t->size), ULL(t->payload), ULL(least));
    else
        sl_fail(t->r->err, SL_INPUT, t->r->file->path, "truncated: it ends at byte %llu, right behind "
                "the bytes of record %s; a whole one has at least %llu bytes", ULL(t->r->length),
                t->name, ULL(least));
    sl_fail_fault(t->r->err, broken ? SL_FAULT_BROKEN : SL_FAULT_CUT);
}

void torch_tell_cut(struct torch_reader *r)
{
    struct trail t = { .r = r, .window = { .file = r->file, .end = r->start + r->length } };
    struct sl_error *err = r->err, unheard;
    char *bytes = NULL;
    r->err = &unheard;                 /* what goes wrong on the way is not the news */
    bool is_known = take_pickle(&t, &bytes);
    r->err = err;
    bool in_record = false;
    while (is_known && t.records < RECORDS_MOST) {
        in_record = record_end(&t) > r->length;
        if (in_record)
            break;
        memcpy(t.last, t.name, sizeof t.last);
        t.at = record_end(&t);
        t.records++;
        if (!take_header(&t) || !take_size(&t))
            break;
    }
    if (is_known)
        tell(&t, in_record);
    else if (t.is_in_pickle) {
        sl_fail(err, SL_INPUT, r->file->path, "truncated: it ends at byte %llu, inside record %s, the "
                "first of a torch file", ULL(r->length), t.name);
        sl_fail_fault(err, SL_FAULT_CUT);
    }
    sl_window_free(&t.window);
    free(bytes);
    r->pickle = (struct sl_pickle){0};
    r->storage_count = 0;
}
