/* ckpt.h: what is there: a path becomes files, ranks, stored tensors and
 * metadata. Knows containers (Megatron mp_rank_* folders, distributed checkpoints,
 * Hugging Face folders, single files), knows nothing of model families.
 *
 * Rank folders     mp_rank_TT, mp_rank_TT_PPP, mp_rank_TT_EEE, mp_rank_TT_PPP_EEE;
 *                  %02d and %03d are minimum widths. The one-suffix form means PP
 *                  or EP: args decide, else the content.
 *                  Source: Megatron-LM megatron/training/checkpointing.py
 *                  (get_checkpoint_name)
 * Distributed      torch_dist, plain torch DCP, zarr: a tensor is a chunk of a global
 * checkpoints      array, without a rank. Arrays that stack the layers of a model, or
 *                  the experts of a layer, are given out layer by layer and expert by
 *                  expert, so that names are those of rank folders: path is the key as
 *                  stored, offset the place of the item that holds it. What is inside an
 *                  item (where its numbers begin, how they lie) is looked up when it is
 *                  first read; a reader sees them in row-major order.
 */
#ifndef SL_CHECKPOINT_CKPT_H
#define SL_CHECKPOINT_CKPT_H

#include "base/arena.h"
#include "base/io.h"
#include "checkpoint/problem.h"
#include <pthread.h>

struct sl_ckpt_file;                     /* the file and its state, private */
struct ckpt_items;                       /* items of a distributed checkpoint, private */
struct ckpt_noted;                       /* what a small file was when it was read, private */

struct sl_ckpt {
    struct sl_arena arena;               /* everything below lives here */
    const char *path;                    /* as given */
    const char *folder;                  /* where the files are; the file's folder for one file */
    enum sl_container container;
    struct sl_file_info *files;          size_t file_count;
    struct sl_ckpt_file *opened;         /* same indices as files */
    struct sl_rank *ranks;               size_t rank_count;   /* tp fastest, then ep, then pp;
                                            missing ones are entries too */
    struct sl_tensor *tensors;           size_t tensor_count; /* by file, in file order */
    struct sl_parallel parallel;         /* as the names and contents of the folders tell;
                                            1 where an axis is absent */
    const struct sl_value *args;         /* DICT: args of the first rank that has them, NULL */
    size_t ranks_asked;                  /* files that could be read and are not told to be of another save */
    size_t ranks_placed, ranks_misplaced;/* of these: args.rank, no other's too, is that of their folder; is another's */
    const struct sl_value **rank_args;   /* by rank, entries may be NULL */
    const struct sl_value *hf_config;    /* config.json of an HF folder, NULL */
    const struct sl_value *hf_generation;/* generation_config.json, NULL */
    const struct sl_value *hf_index;     /* *.index.json, NULL */
    const struct sl_value *integrity;    /* DICT file name -> SHA-256 in hexadecimal, as integrity.json
                                            of Megatron-core has it; NULL */
    int64_t iteration;                   /* -1 unknown */
    bool release;
    double checkpoint_version;           /* -1 unknown */
    const char *torch_container;         /* "zip", "legacy", NULL */
    const char *storage;                 /* of a distributed checkpoint, in one line: keys, chunks,
                                            what is stacked, files and writers; NULL */
    bool starved;                        /* a part could not be read for want of memory: opening fails */
    struct ckpt_noted *noted;            /* configs, index, tracker, .metadata: read whole while opening */
    struct ckpt_items *items;            /* NULL: tensors lie in their files as they are */
    struct sl_problems problems;         /* what was seen wrong while reading headers */
    pthread_mutex_t lock;                /* guards the descriptors in `opened` */
    unsigned open_limit, open_count;     /* files kept open, and how many are */
    uint32_t *open_files;                /* their indices, in no order */
    uint64_t uses;                       /* counts reads: the oldest is closed first */
};

/* Opens path. With some shards damaged or missing it still succeeds as long as one can be
 * read; problems say what is wrong. SL_INPUT when nothing is readable (the one line says
 * why, or what the path is instead). */
int sl_ckpt_open(const char *path, struct sl_ckpt **out, struct sl_error *err);
void sl_ckpt_close(struct sl_ckpt *c);

/* Reads bytes of a tensor's storage: len bytes from `from` bytes after its element 0, in
 * storage order (strides are the caller's business; from may be anywhere within the
 * storage). Handles deflated and big-endian storages. Any thread. At most
 * SL_LIMIT_OPEN_FILES files are kept open. */
int sl_ckpt_read(struct sl_ckpt *c, const struct sl_tensor *t, int64_t from, void *buf,
                 size_t len, struct sl_error *err);
/* Elements [first, first + count) in row-major order into buf, following strides. */
int sl_ckpt_read_elements(struct sl_ckpt *c, const struct sl_tensor *t, uint64_t first,
                          uint64_t count, void *buf, struct sl_error *err);
/* Looks into the item of a tensor of a distributed checkpoint, without reading its values:
 * SL_INPUT when it is not what .metadata says. Of other containers nothing is left to look at. */
int sl_ckpt_look(struct sl_ckpt *c, const struct sl_tensor *t, struct sl_error *err);
/* The bytes of its file that hold t: [*begin, *end). Of an item that can't be looked up, or does
 * not hold its elements one after the other, all of it. */
void sl_ckpt_place(struct sl_ckpt *c, const struct sl_tensor *t, uint64_t *begin, uint64_t *end);
/* The tensors of c with those of 8-bit floats that have a factor for each block (NAME_scale_inv) made float32 arrays of
 * the products, SL_TENSOR_SCALED: sl_ckpt_read_elements computes them, sl_ckpt_read has no say in them. *out is c->tensors
 * where there is none, else an array of the arena. SL_INPUT when factors are not there though config.json says fp8, or
 * are of another shape. */
int sl_ckpt_scaled(const struct sl_ckpt *c, struct sl_arena *arena, const struct sl_tensor **out, struct sl_error *err);
/* Does t show numbers of its storage more than once, by strides of 0 or windows that overlap? A
 * file of some hundred bytes may hold a tensor of terabytes so. */
bool sl_ckpt_repeats(const struct sl_tensor *t);
/* *once: the storage of t as one row of numbers, each once, for whoever wants to know what numbers
 * there are and not where. shape and stride are the caller's, one entry each. */
void sl_ckpt_once(const struct sl_tensor *t, struct sl_tensor *once, int64_t *shape, int64_t *stride);
/* Advice to the kernel, both may do nothing. */
void sl_ckpt_will_read(struct sl_ckpt *c, const struct sl_tensor *t, int64_t from, uint64_t len);
void sl_ckpt_drop(struct sl_ckpt *c, int32_t file, uint64_t offset, uint64_t len);
/* Pages of a file's range that are in the page cache; false where that is not known. */
bool sl_ckpt_cached(struct sl_ckpt *c, int32_t file, uint64_t offset, uint64_t len, uint64_t *pages);
/* Have any of the source files changed since they were opened, the small ones too? SL_INPUT with a sentence if so. */
int sl_ckpt_unchanged(struct sl_ckpt *c, struct sl_error *err);
/* The same of the one file that holds t. */
int sl_ckpt_file_unchanged(struct sl_ckpt *c, const struct sl_tensor *t, struct sl_error *err);
/* Is (dev, ino) one of the source files? */
bool sl_ckpt_has_inode(const struct sl_ckpt *c, uint64_t dev, uint64_t ino);
/* Is a rank told to be of another save or another place? What else is odd about it follows from that. */
bool sl_ckpt_is_foreign(const struct sl_ckpt *c, const struct sl_rank *r);
/* Is something told of the set from which it follows that layers are not counted rightly? */
bool sl_ckpt_layers_told(const struct sl_ckpt *c);
/* CRC-32 the container keeps for the storage of t; false when it has none. */
bool sl_ckpt_storage_crc(struct sl_ckpt *c, const struct sl_tensor *t, uint32_t *crc);

#endif
