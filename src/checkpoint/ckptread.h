/* ckptread.h: what the parts of this room share. Nothing outside
 * src/checkpoint includes it.
 *
 *   resolve.c   a path -> which folder or file, and which container it is
 *   part.c      one file -> its tensors, args, iteration (one worker each)
 *   megatron.c  rank folders -> the grid of ranks, what is missing
 *   compare.c   ranks against each other
 *   layers.c    layers over the stages
 *   hf.c        Hugging Face folders, single files
 *   dist.c      distributed checkpoints: .metadata, args, files
 *   distnames.c their keys -> names, layer by layer and expert by expert
 *   distcheck.c are all chunks there, do they cover their arrays?
 *   diststate.c args and iteration
 *   tiling.c    boxes against the array they are cut out of
 *   distzarr.c  the same from a folder of zarr arrays
 *   inflate.c   compressed chunks, read in order
 *   items.c     what is inside an item, looked up when it is read
 *   source.c    reading tensor bytes, few files open at a time
 *   ckpt.c      opening and closing the whole
 */
#ifndef SL_CHECKPOINT_CKPTREAD_H
#define SL_CHECKPOINT_CKPTREAD_H

#include "base/limits.h"
#include "base/text.h"
#include "checkpoint/ckpt.h"
#include "format/dcp.h"
#include "format/safetensors.h"
#include "format/torchfile.h"
#include "format/zarr.h"

#include <stdatomic.h>

#define CKPT_MAX_RANK 65535      /* largest number in a rank folder's name */
#define TRACKER_NAME "latest_checkpointed_iteration.txt"

/* One file of the checkpoint. `arena` holds all that was read from it, so that
 * workers need no lock; it lives as long as the checkpoint. */
struct sl_ckpt_file {
    struct sl_arena arena;
    struct sl_file file;             /* fd -1 while closed; its identity stays */
    unsigned users;                  /* reads in flight; guarded by the lock   */
    uint64_t last_use;

    int code;                        /* how opening went */
    struct sl_error *err;            /* of whoever opens it, meanwhile */
    enum sl_fault fault;
    char *why_where, *why;           /* what it said; NULL when all went well, and when there was no memory for it */
    bool identified;                 /* `file` was filled in once */
    bool is_torch;
    struct sl_torch_file torch;
    struct sl_st_file st;

    struct sl_tensor *tensors;       /* file and rank are filled in by the owner */
    size_t tensor_count, tensor_room;

    /* Megatron's top-level keys */
    const struct sl_value *args;     /* DICT or NULL */
    int64_t iteration;               /* -1: not told */
    double version;                  /* -1: not told */
    uint64_t chunks;                 /* bit n: has modelN */
    bool has_model;                  /* has `model`, or its tensors at the top */
    bool megatron;                   /* it looks like a Megatron rank file */
};

/* ---- resolve.c ---- */

enum found_kind { FOUND_RANKS, FOUND_ONE_RANK, FOUND_HF, FOUND_FILE, FOUND_DIST };
struct found {
    enum found_kind kind;
    const char *folder;              /* what to read */
    const char *file;                /* FOUND_FILE: its path; FOUND_ONE_RANK: name of the rank folder */
    const char *backend;             /* FOUND_DIST: what metadata.json says; NULL: there is none */
    const char *const *names;        /* children of folder (FOUND_RANKS, FOUND_HF, FOUND_DIST) */
    size_t name_count;
    int64_t iteration;               /* by the folder's name; -1 */
    bool release;
};
int ckpt_resolve(struct sl_ckpt *c, struct found *out, struct sl_error *err);

/* mp_rank_TT[_AAA[_BBB]]: numbers in order of the name; false if it is no such name. */
struct rank_name { int32_t number[3]; unsigned count; };
bool ckpt_rank_name(const char *name, struct rank_name *out);
/* Path of the model file in a rank folder, NULL if there is none. */
const char *ckpt_model_file(struct sl_arena *arena, const char *rank_folder);

/* The name a folder really has, also when it was given as ".". */
const char *ckpt_folder_name(struct sl_arena *arena, const char *path);

/* ---- part.c ---- */

/* The problem code of a file that could not be opened (cut off, damaged, or not for us to read), and what to say. */
const char *ckpt_damage_code(const struct sl_ckpt_file *f, const char **what);
/* Opens one file and lists its tensors. Any thread; touches only *f. megatron: is
 * it known to be a rank file (else its content decides). */
void ckpt_part_open(struct sl_ckpt_file *f, const char *path, bool megatron);
/* Keeps how opening f went: there may be a million files, and an error is large. */
void ckpt_part_keep(struct sl_ckpt_file *f, const struct sl_error *err);
/* The same for all files of c, in parallel. */
int ckpt_parts_open(struct sl_ckpt *c, bool megatron, struct sl_error *err);
/* Problems that one file alone can have: damage, harmful pickles, no checksums. */
void ckpt_parts_tell(struct sl_ckpt *c);
/* All tensors into c->tensors, with file and rank numbers. */
int ckpt_parts_merge(struct sl_ckpt *c, struct sl_error *err);
/* Makes file entries (path, name) and their parts. */
int ckpt_files_new(struct sl_ckpt *c, size_t count, struct sl_error *err);
/* SL_INPUT when these are more files than one checkpoint is made of. */
int ckpt_files_few(size_t count, const char *where, struct sl_error *err);

/* ---- megatron.c, hf.c, compare.c, layers.c ---- */

int ckpt_open_ranks(struct sl_ckpt *c, const struct found *found, struct sl_error *err);
int ckpt_open_hf(struct sl_ckpt *c, const struct found *found, struct sl_error *err);
int ckpt_open_file(struct sl_ckpt *c, const struct found *found, struct sl_error *err);
/* hfshards.c: did torch's HuggingFaceStorageWriter write the files, each rank its own boxes? Then what each tensor is a box
 * of, with findings where boxes overlap or leave a hole. SL_INPUT when what a file says of its boxes can't be so. */
bool ckpt_hf_is_sharded(const struct sl_ckpt *c);
int ckpt_hf_shards(struct sl_ckpt *c, struct sl_error *err);
/* After a lone torch file turned out to be a Megatron rank: makes its rank entry. */
int ckpt_lone_rank(struct sl_ckpt *c, const char *folder_name, struct sl_error *err);
void ckpt_compare_ranks(struct sl_ckpt *c, const struct found *found);
void ckpt_check_layers(struct sl_ckpt *c);
void ckpt_check_sizes(struct sl_ckpt *c);

/* ---- names of Megatron (part.c) ---- */

/* The name without what wrappers of training code put before it. */
const char *ckpt_bare_name(const char *name);
/* Does a name begin as one of Megatron-core does ("decoder.", "embedding.", ..)? */
bool ckpt_is_core_name(const char *name);
/* Is it a key around a state dict ("model", "state_dict"), or one of other state ("optimizer")? */
bool ckpt_is_wrapper_key(const char *key, size_t len);
bool ckpt_is_state_key(const char *key, size_t len);
extern const int64_t ckpt_no_offset[SL_LIMIT_DIMS];      /* zeros: offsets of what is no chunk */

/* ---- dist.c, distnames.c, distcheck.c ---- */

int ckpt_open_dist(struct sl_ckpt *c, const struct found *found, struct sl_error *err);

/* What is known of a distributed checkpoint while it is opened. */
struct dist {
    struct sl_ckpt *c;
    const struct found *found;
    struct sl_dcp dcp;                   /* of zarr: made from its folders */
    const struct sl_zarr *zarrs;         /* by tensor of dcp; NULL: not zarr */
    bool megatron;                       /* keys are those of Megatron's dist_checkpointing */
    const struct sl_value *common;       /* DICT: what is not sharded; NULL */
    uint64_t stacked_keys, expert_keys, half_keys, state_keys;      /* counted by distnames.c */
};
/* d->dcp of a folder of zarr arrays. */
int dist_zarr(struct dist *d, struct sl_error *err);
/* Compressed chunks are as long as their files, once those are known. */
void dist_zarr_lengths(struct dist *d);
/* Makes c->tensors and the items they lie in. */
int dist_tensors(struct dist *d, struct sl_error *err);
/* Problems of chunks: no place, outside of their file, outside of their array, twice, not there. */
int dist_tell(struct dist *d, struct sl_error *err);
/* Args, iteration and version, from whatever says them. */
int dist_state(struct dist *d, struct sl_error *err);
/* Is it state of the optimizer, of random numbers and the like? */
bool dist_is_state(const struct sl_dcp_tensor *t);

/* ---- items.c ---- */

enum ckpt_item_kind { ITEM_DCP, ITEM_RAW, ITEM_ZLIB, ITEM_FILL };
struct ckpt_item {
    enum ckpt_item_kind kind;
    const struct sl_zarr *zarr;          /* of all kinds but ITEM_DCP */
    const struct sl_dcp_tensor *tensor;
    const struct sl_dcp_chunk *chunk;
    atomic_bool is_known;                /* the rest is filled in and stays */
    uint64_t offset;                     /* in the file, of the first element in row-major order */
    const struct sl_dcp_item *odd;       /* not NULL: not simply one element after the other */
    bool has_crc;
    uint32_t crc;
};
struct ckpt_items {
    struct ckpt_item *items;             size_t count;    /* sl_tensor.storage counts these */
    struct sl_dcp_image *images;         /* by file */
    pthread_mutex_t lock;                /* guards arena, streams, and the filling in of items */
    struct sl_arena arena;
    struct ckpt_stream *streams;         /* half-read compressed chunks; see inflate.c */
};
int ckpt_items_new(struct sl_ckpt *c, size_t count, struct sl_error *err);
void ckpt_items_free(struct sl_ckpt *c);
/* The item of a tensor, looked up; NULL in *out when the tensor lies in its file as it is. */
int ckpt_item_find(struct sl_ckpt *c, const struct sl_tensor *t, const struct ckpt_item **out,
                   struct sl_error *err);

/* ---- inflate.c ---- */

/* Bytes [at, at + len) of the unpacked chunk. Reads that follow each other go on where the last
 * one ended; others unpack the chunk from its beginning again. */
int ckpt_inflate(struct ckpt_items *all, const struct ckpt_item *item, const struct sl_file *file, uint64_t at,
                 void *buf, size_t len, struct sl_error *err);
void ckpt_inflate_free(struct ckpt_items *all);

/* ---- source.c ---- */

/* A file open for reading until it is let go; *out is a copy that may be read from. */
int ckpt_hold(struct sl_ckpt *c, int32_t index, struct sl_file *out, struct sl_error *err);
void ckpt_let_go(struct sl_ckpt *c, int32_t index);

/* Notes what a small file is, before it is read, so that sl_ckpt_unchanged() sees it change. path lives as long as c;
 * a file that is not there is none. SL_MEMORY. */
struct ckpt_noted { struct sl_file was; struct ckpt_noted *next; };
int ckpt_note(struct sl_ckpt *c, const char *path, struct sl_error *err);
/* ckpt_note() and sl_json_load(); SL_MEMORY is remembered in c->starved, so that others may be told and forgotten. */
int ckpt_json(struct sl_ckpt *c, const char *path, uint64_t limit, const struct sl_value **json, struct sl_error *err);

/* "A/B" in the arena. */
const char *ckpt_join(struct sl_arena *arena, const char *folder, const char *name);

/* scaled.c: elements of a tensor that is SL_TENSOR_SCALED; see sl_ckpt_read_elements. */
int ckpt_read_scaled(struct sl_ckpt *c, const struct sl_tensor *t, uint64_t first, uint64_t count, void *buf, struct sl_error *err);

#endif
