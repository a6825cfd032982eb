/* torchwrite.h: writing torch.save files (zip container) by position.
 *
 * Local headers carry neither size nor CRC, so once the pickle and the sizes
 * of the storages are known every byte has its place before the first is
 * written: workers fill storages in any order, and the directory with its
 * CRCs is written last. A file without its directory does not load, so a half
 * written one is never taken for whole.
 *
 *   archive/data.pkl  archive/byteorder  archive/data/0 ..  archive/version
 *   data starts at multiples of 64; data descriptors and zip64 end records as
 *   torch writes them; no .format_version
 *
 * Calling sequence: build the pickle with sl_pickler_*; sl_torch_layout();
 * write `head` of every record and the storages; sl_torch_tail() with CRCs.
 */
#ifndef SL_FORMAT_TORCHWRITE_H
#define SL_FORMAT_TORCHWRITE_H

#include "base/arena.h"
#include "base/text.h"
#include <shardlens/types.h>

/* Emits protocol 2 as torch's weights_only loader accepts it. Names and strings
 * that every tensor needs are written once and fetched from the memo after
 * that. Memory failure and unbalanced begin/end show as out.failed: check it
 * once, after sl_pickler_end(). The owner frees p->out. */
enum { SL_PICKLER_MEMO = 64 };
struct sl_pickler {
    struct sl_buf out;
    uint32_t depth;                       /* containers that are open            */
    uint32_t memo_count;
    uint32_t memo[SL_PICKLER_MEMO];       /* per known name: its number + 1, or 0 */
};
void sl_pickler_begin(struct sl_pickler *p);
void sl_pickler_end(struct sl_pickler *p);                       /* STOP */
void sl_pickler_dict_begin(struct sl_pickler *p, bool ordered);  /* {} or OrderedDict, MARK */
void sl_pickler_dict_end(struct sl_pickler *p);                  /* SETITEMS */
void sl_pickler_namespace_begin(struct sl_pickler *p);           /* argparse.Namespace; members as a dict */
void sl_pickler_namespace_end(struct sl_pickler *p);
/* Any class: written first, by name or from the memo; then an instance of it, or a call of it. */
void sl_pickler_global(struct sl_pickler *p, const char *module, const char *name);
void sl_pickler_new(struct sl_pickler *p);                       /* class(), NEWOBJ */
void sl_pickler_build(struct sl_pickler *p);                     /* its state, BUILD */
void sl_pickler_object_begin(struct sl_pickler *p);              /* both, members as a dict */
void sl_pickler_object_end(struct sl_pickler *p);
void sl_pickler_call(struct sl_pickler *p, uint32_t count);      /* with the last count things, 1 to 3 */
void sl_pickler_list_begin(struct sl_pickler *p);
void sl_pickler_list_end(struct sl_pickler *p);
void sl_pickler_tuple_begin(struct sl_pickler *p);
void sl_pickler_tuple_end(struct sl_pickler *p);
void sl_pickler_numbers(struct sl_pickler *p, const int64_t *numbers, uint32_t count);  /* a tuple */
/* Gives what was written last a number in the memo, and writes it again from there. */
uint32_t sl_pickler_keep(struct sl_pickler *p);
void sl_pickler_fetch(struct sl_pickler *p, uint32_t number);
void sl_pickler_str(struct sl_pickler *p, const char *s);
void sl_pickler_int(struct sl_pickler *p, int64_t v);
void sl_pickler_double(struct sl_pickler *p, double v);
void sl_pickler_bool(struct sl_pickler *p, bool v);
void sl_pickler_none(struct sl_pickler *p);
void sl_pickler_dtype(struct sl_pickler *p, enum sl_dtype dtype); /* torch.bfloat16 */
void sl_pickler_enum(struct sl_pickler *p, const char *module, const char *name, int64_t value);
/* Any plain value (dicts and lists nested); `type` "argparse.Namespace",
 * "types.SimpleNamespace", "collections.OrderedDict", "torch.dtype",
 * "torch.Size", "tuple" and "set" are kept; members of enums become the plain
 * int or str they hold (their class need not exist where the file is loaded);
 * OPAQUE and TENSOR become None. Containers and longer texts that several places share are
 * written once, so the length is in proportion to that of the values, not of the tree
 * they stand for; no value may hold itself. */
void sl_pickler_value(struct sl_pickler *p, const struct sl_value *v);
/* A contiguous tensor in storage number `storage` (of storage_count elements of
 * its dtype), from element `offset` on. Use storages in rising order: 0 first. */
void sl_pickler_tensor(struct sl_pickler *p, enum sl_dtype dtype, uint32_t storage,
                       uint64_t storage_count, uint64_t offset,
                       const int64_t *shape, uint32_t ndim);

struct sl_torch_layout {
    uint64_t *storage_offset;      /* per storage: where its bytes go in the file */
    uint64_t data_end;             /* where the directory begins */
    uint64_t file_size;
    struct sl_torch_piece {        /* bytes known before the data: headers, data.pkl, byteorder, version */
        uint64_t offset; const void *bytes; uint64_t len;
    } *pieces;
    uint32_t piece_count;
    const uint64_t *storage_bytes; uint32_t storage_count;
    const void *pickle; uint64_t pickle_len;
    const uint64_t *header;        /* where each record's local header begins: data.pkl,
                                      byteorder, data/0 .., version */
};
/* All in the arena; storage_bytes and pickle are borrowed by the layout. */
int sl_torch_layout(const void *pickle, uint64_t pickle_len, const uint64_t *storage_bytes,
                    uint32_t storage_count, struct sl_arena *arena,
                    struct sl_torch_layout *out, struct sl_error *err);
/* The layout of a file of one contiguous tensor and nothing else, as torch.save writes it; the
 * pickle goes to the arena too. */
int sl_torch_layout_tensor(enum sl_dtype dtype, const int64_t *shape, uint32_t ndim, uint64_t bytes,
                           struct sl_arena *arena, struct sl_torch_layout *out, struct sl_error *err);
/* All bytes of a file of few records but its storages, in order, pieces that touch joined. */
int sl_torch_around(const struct sl_torch_layout *layout, const uint32_t *storage_crc, struct sl_arena *arena,
                    struct sl_torch_piece **pieces, uint32_t *count, struct sl_error *err);
/* A whole file without storages, appended to *file. */
int sl_torch_file_of(const void *pickle, uint64_t pickle_len, struct sl_buf *file, struct sl_error *err);
/* Data descriptors and the directory, given each storage's CRC-32: appended as
 * further pieces (offset, bytes) to *pieces. */
int sl_torch_tail(const struct sl_torch_layout *layout, const uint32_t *storage_crc,
                  struct sl_arena *arena, struct sl_torch_piece **pieces,
                  uint32_t *piece_count, struct sl_error *err);

#endif
