/* torchfile.c: opening what torch.save wrote.
 *
 *   zip      ROOT/data.pkl, ROOT/data/KEY for each storage, ROOT/version,
 *            ROOT/byteorder; ROOT is what stands before the first '/' of the
 *            first record
 *   legacy   torchlegacy.c
 *   bare     one pickle, whose storages (if it names any) are nowhere
 *
 * Source   torch/serialization.py (_load), caffe2/serialize/inline_container.cc
 */
#include "format/torchread.h"

#include "base/dtype.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define ULL(x) ((unsigned long long)(x))
#define damaged(r, ...) sl_fail((r)->err, SL_INPUT, (r)->file->path, __VA_ARGS__)

/* --- records ------------------------------------------------------------ */

/* ROOT/record; NULL in *entry when there is none. */
static int find_record(struct torch_reader *r, const struct sl_zip *zip, const char *record,
                       const struct sl_zip_entry **entry)
{
    char *name = sl_arena_printf(&r->scratch, "%s/%s", r->out->root, record);
    if (!name)
        return sl_fail_memory(r->err, strlen(record));
    *entry = sl_zip_find(zip, name);
    return SL_OK;
}

/* Reads a short record of text, without its line end; "" when there is none. */
static int read_word(struct torch_reader *r, const struct sl_zip *zip, const char *record,
                     char word[32])
{
    const struct sl_zip_entry *e;
    int code = find_record(r, zip, record, &e);
    word[0] = 0;
    if (code || !e)
        return code;
    if (e->size > 31)
        return damaged(r, "record %s has %llu bytes; a short word was expected", e->name,
                       ULL(e->size));
    code = sl_zip_read(r->file, r->start, r->length, e, 0, word, (size_t)e->size, r->err);
    word[e->size] = 0;
    word[strcspn(word, "\r\n")] = 0;
    return code;
}

/* All records lie under one root, as torch demands. */
static int take_root(struct torch_reader *r, const struct sl_zip *zip)
{
    const char *first = zip->entries[0].name;
    const char *slash = strchr(first, '/');
    if (!slash)
        return damaged(r, "a zip archive, but not of torch: its first record is %s, not a file in "
                       "a folder", first);
    r->out->root = sl_arena_strn(r->arena, first, (size_t)(slash - first));
    if (!r->out->root)
        return sl_fail_memory(r->err, strlen(first));
    size_t len = (size_t)(slash - first) + 1;
    for (uint64_t i = 0; i < zip->count; i++) {
        const char *name = zip->entries[i].name;
        size_t name_len = strlen(name);
        if (strncmp(name, first, len))
            return damaged(r, "record %s lies outside of %s/, where all records of a torch file "
                           "are", name, r->out->root);
        if (!sl_path_is_inside(name, name[name_len - 1] == '/' ? name_len - 1 : name_len))
            return damaged(r, "record %s has a name that leads out of the archive", name);
    }
    return SL_OK;
}

static int check_kind(struct torch_reader *r, const struct sl_zip *zip)
{
    const struct sl_zip_entry *script, *e;
    int code = find_record(r, zip, "constants.pkl", &script);
    if (!code && script)
        return sl_fail(r->err, SL_UNSUPPORTED, r->file->path, "a TorchScript archive (it has %s); "
                       "save the state_dict with torch.save instead", script->name);
    char version[32] = "";
    if (!code)
        code = read_word(r, zip, ".data/version", version);
    if (!code && !version[0])
        code = read_word(r, zip, "version", version);
    if (!code)
        code = find_record(r, zip, "data.pkl", &e);
    if (code)
        return code;
    if (!e)
        return damaged(r, "a zip archive, but not of torch: it has no %s/data.pkl", r->out->root);
    if (!version[0])
        return damaged(r, "record %s/version is missing or empty: torch writes it last, so the "
                       "file may not be whole", r->out->root);
    char *end;
    long number = strtol(version, &end, 10);
    if (*end || number < 1)
        return damaged(r, "record version says '%s'; a number was expected", version);
    if (number > 10)
        return sl_fail(r->err, SL_UNSUPPORTED, r->file->path, "torch archive version %ld; 1 to 10 "
                       "are known", number);
    return SL_OK;
}

static int take_byteorder(struct torch_reader *r, const struct sl_zip *zip)
{
    char word[32];
    int code = read_word(r, zip, "byteorder", word);
    if (code)
        return code;
    if (word[0] && strcmp(word, "little") && strcmp(word, "big"))
        return damaged(r, "record byteorder says '%s'; little or big was expected", word);
    r->out->big_endian = !strcmp(word, "big");
    return SL_OK;
}

/* --- the pickle --------------------------------------------------------- */

static int read_pickle(struct torch_reader *r, const struct sl_zip *zip, char **bytes)
{
    const struct sl_zip_entry *e;
    int code = find_record(r, zip, "data.pkl", &e);
    if (code)
        return code;
    uint64_t most = e->deflated ? SL_LIMIT_ZIP_INFLATED : SL_LIMIT_PICKLE_BYTES;
    if (e->size > most)
        return damaged(r, "record %s has %llu bytes; at most %llu are read", e->name,
                       ULL(e->size), ULL(most));
    *bytes = malloc(e->size + 1);
    if (!*bytes)
        return sl_fail_memory(r->err, e->size);
    code = sl_zip_read(r->file, r->start, r->length, e, 0, *bytes, (size_t)e->size, r->err);
    if (!code)
        code = sl_pickle_parse(*bytes, (size_t)e->size, r->file->path, &r->scratch, &r->pickle,
                               r->err);
    r->out->pickle_bytes = e->size;
    return code;
}

/* --- storages ----------------------------------------------------------- */

static int place_storage(struct torch_reader *r, const struct sl_zip *zip,
                         struct sl_torch_storage *s)
{
    char *name = sl_arena_printf(&r->scratch, "%s/data/%s", r->out->root, s->key);
    if (!name)
        return sl_fail_memory(r->err, strlen(s->key));
    const struct sl_zip_entry *e = sl_zip_find(zip, name);
    s->missing = !e;
    if (!e)
        return SL_OK;
    s->offset = e->offset;
    s->bytes = e->size;
    s->packed = e->packed;
    s->crc = e->crc;
    s->deflated = e->deflated;
    return SL_OK;
}

static bool crc_is_missing(const struct sl_zip *zip)
{
    for (uint64_t i = 0; i < zip->count; i++)
        if (zip->entries[i].size && !zip->entries[i].crc)
            return true;
    return false;
}

static int open_zip(struct torch_reader *r, char **bytes)
{
    struct sl_zip zip;
    r->out->kind = SL_TORCH_ZIP;
    int code = sl_zip_open(r->file, r->start, r->length, &r->scratch, &zip, r->err);
    if (zip.cut)
        torch_tell_cut(r);
    if (code)
        return code;
    code = take_root(r, &zip);
    if (!code)
        code = check_kind(r, &zip);
    if (!code)
        code = take_byteorder(r, &zip);
    if (!code)
        code = read_pickle(r, &zip, bytes);
    if (!code)
        code = torch_storages_collect(r);
    for (size_t i = 0; i < r->storage_count && !code; i++)
        code = place_storage(r, &zip, &r->storages[i]);
    r->out->crc_missing = crc_is_missing(&zip);
    return code;
}

/* --- opening ------------------------------------------------------------ */

/* Moves the growing arrays into the arena of the results. */
static int hand_over(struct torch_reader *r)
{
    struct sl_torch_file *out = r->out;
    out->storages = r->storage_count
        ? sl_arena_copy(r->arena, r->storages, r->storage_count * sizeof *r->storages)
        : SL_ARENA_NEW(r->arena, struct sl_torch_storage, 0);
    out->tensors = r->tensor_count
        ? sl_arena_copy(r->arena, r->tensors, r->tensor_count * sizeof *r->tensors)
        : SL_ARENA_NEW(r->arena, struct sl_torch_tensor, 0);
    if (!out->storages || !out->tensors)
        return sl_fail_memory(r->err, r->tensor_count * sizeof *r->tensors);
    out->storage_count = (uint32_t)r->storage_count;
    out->tensor_count = (uint32_t)r->tensor_count;
    return SL_OK;
}

/* --- pickles without a zip around them ---------------------------------- */

int torch_pickle_read(struct torch_reader *r, uint64_t at, char **bytes,
                      struct sl_pickle *pickle, struct sl_error *err)
{
    enum { FIRST_READ = 1 << 16 };
    *pickle = (struct sl_pickle){0};
    uint64_t left = sl_min_u64(r->length - at, SL_LIMIT_PICKLE_BYTES);
    uint64_t have = 0, want = FIRST_READ;
    for (;; want *= 4) {
        want = sl_min_u64(want, left);
        char *grown = realloc(*bytes, want + 1);
        if (!grown)
            return sl_fail_memory(err, want);
        *bytes = grown;
        int code = sl_file_read(r->file, r->start + at + have, grown + have,
                                (size_t)(want - have), err);
        if (code)
            return code;
        have = want;
        code = sl_pickle_parse(grown, (size_t)have, r->file->path, &r->scratch, pickle, err);
        if (!code || !pickle->cut || have == left)
            return code;
    }
}

static int open_pickle(struct torch_reader *r, const uint8_t *head, size_t len, char **bytes)
{
    /* a pickle of protocol 0 is plain text, and one of protocol 1 begins with anything */
    const bool is_marked = sl_torch_is(head, len);
    const char *words = is_marked ? NULL : sl_sniff(head, len);
    const bool is_text = words && !strcmp(words, "plain text");
    if (words && !is_text)
        return damaged(r, "not a torch file but %s", words);
    struct sl_pickle first;
    int code = torch_pickle_read(r, 0, bytes, &first, r->err);
    if (code == SL_INPUT && is_text)
        damaged(r, "not a torch file but plain text");
    else if (code == SL_INPUT && !is_marked)
        damaged(r, "not a torch file: neither a zip archive nor a pickle begins here");
    if (!code && torch_is_magic(&first)) {
        free(*bytes);
        *bytes = NULL;
        return torch_open_legacy(r, first.length, bytes);
    }
    r->pickle = first;
    r->out->kind = SL_TORCH_BARE_PICKLE;
    r->out->pickle_bytes = first.length;
    return code ? code : torch_storages_collect(r);
}

static int open_container(struct torch_reader *r, const uint8_t *head, size_t len, char **bytes)
{
    if (len >= 4 && !memcmp(head, "PK\x03\x04", 4))
        return open_zip(r, bytes);
    return open_pickle(r, head, len, bytes);
}

int sl_torch_open(const struct sl_file *file, uint64_t start, uint64_t length,
                  struct sl_arena *arena, struct sl_torch_file *out, struct sl_error *err)
{
    struct torch_reader r = { .file = file, .start = start, .length = length, .arena = arena,
                              .err = err, .out = out };
    *out = (struct sl_torch_file){ .root = "" };
    uint64_t end;
    if (!sl_add_u64(start, length, &end) || end > file->size)
        return damaged(&r, "%llu bytes at byte %llu were to be read, but the file has %llu",
                       ULL(length), ULL(start), ULL(file->size));
    uint8_t head[512];
    size_t head_len = (size_t)sl_min_u64(length, sizeof head);
    char *bytes = NULL;
    int code = sl_file_read(file, start, head, head_len, err);
    if (!code)
        code = open_container(&r, head, head_len, &bytes);
    if (r.pickle.global_count && torch_globals_tell(&r) && !code)
        code = sl_fail_memory(err, r.pickle.global_count * sizeof(struct sl_torch_global));
    if (!code)
        code = torch_storages_check(&r);
    if (!code)
        code = torch_values_make(&r);
    if (!code)
        code = hand_over(&r);
    sl_arena_free(&r.scratch);
    sl_map_free(&r.storage_index);
    free(bytes);
    free(r.storages);
    free(r.needs);
    free(r.tensors);
    return code;
}

bool sl_torch_is(const void *head, size_t len)
{
    const uint8_t *p = head;
    if (len >= 4 && !memcmp(p, "PK\x03\x04", 4))
        return true;
    return len >= 2 && p[0] == 0x80 && p[1] >= 2 && p[1] <= 5;
}

int sl_torch_read_deflated(const struct sl_file *file, uint64_t start, uint64_t length,
                           const char *root, const struct sl_torch_storage *storage,
                           uint64_t from, void *buf, size_t len, struct sl_error *err)
{
    struct sl_arena scratch = {0};
    char *name = sl_arena_printf(&scratch, "%s/data/%s", root, storage->key);
    if (!name)
        return sl_fail_memory(err, strlen(storage->key));
    const struct sl_zip_entry e = { .name = name, .offset = storage->offset,
                                    .size = storage->bytes, .packed = storage->packed,
                                    .crc = storage->crc, .deflated = true };
    int code = sl_zip_read(file, start, length, &e, from, buf, len, err);
    sl_arena_free(&scratch);
    return code;
}
