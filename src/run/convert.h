/* convert.h: what the files of a conversion share.
 *
 *     convert.c   one tensor, the run from lock to commit
 *     units.c     the order of work; large tensors shared by workers
 *     cache.c     the page cache is left as it was found
 *     outfile.c   output files: made, kept open, brought to the disk
 *     reread.c    the target read back and compared
 *     extras.c    what goes into the target beside tensors; the report
 *     parts.c     several processes: what each did, and moving it together
 */
#ifndef SL_RUN_CONVERT_H
#define SL_RUN_CONVERT_H

#include "run/job.h"
#include "run/target.h"
#include "run/tell.h"

#include "base/io.h"

struct out_file {
    const char *path;
    int fd;                                    /* -1 closed; fd and users guarded by files_lock */
    unsigned users;
};
/* A tensor that several workers are at; digest: checksum, statistics, CRC. */
enum { SHARED_UNTOUCHED, SHARED_BEGUN, SHARED_REFUSED };
struct shared {
    uint64_t count;                            /* units it is cut into */
    atomic_int state;
    uint64_t turn;                             /* the unit whose digest is next; guarded by the lock of the run */
    XXH3_state_t *hash;                        /* these belong to the worker whose turn it is */
    struct sl_accumulator stats;
    atomic_uint_least64_t left, left_to_verify;
};
/* What a worker has written and the disk may not have yet; oldest first, a ring. */
#define BEHIND_RANGES 64u
#define BEHIND_BYTES (UINT64_C(32) << 20)
struct written_range { size_t file; uint64_t offset, len; };
struct behind { struct written_range ranges[BEHIND_RANGES]; unsigned first, count; uint64_t bytes; };
struct cached_file;
struct convert {
    const struct sl_conversion *p;
    struct sl_target target;
    bool opened;                               /* target is */
    uint32_t *order;                           /* of work: target tensors */
    uint64_t *first_unit;                      /* by place in order: of its units; and their end */
    struct shared **shared;                    /* by place in order; NULL: one unit */
    struct out_file *files;
    unsigned open_files;
    pthread_mutex_t files_lock;
    atomic_uint_least64_t written;             /* tensors written or found whole */
    struct cached_file *cached;                /* by source file */
    atomic_uint *readers_left;                 /* by source tensor: copies of this phase that still read it */
    struct behind *behind;                     /* by worker */
    bool keeps_source;                         /* in the cache, from writing to comparing */
    struct sl_tell tell;
    uint32_t *crc;                             /* CRC-32 by target tensor, for torch files and items; NULL */
};

/* outfile.c. make_files only names them; each is then made by outfile_make. */
int outfiles_name(struct sl_run *r, struct convert *v, struct sl_error *err);
int outfiles_check_space(const struct convert *v, struct sl_error *err);
int outfile_make(struct convert *v, size_t i, struct sl_error *err);
/* Opens it if it is closed. outfile_give takes how the work on it ended, and returns that or
 * what closing it says. */
int outfile_take(struct convert *v, size_t i, struct sl_file *out, struct sl_error *err);
int outfile_give(struct convert *v, size_t i, int code, struct sl_error *err);
int outfiles_close(struct convert *v, int code, struct sl_error *err);
/* Work of the sync phase: directory of a torch file, fsync, journal line. */
int outfile_sync(struct sl_run *r, struct sl_worker *w, uint64_t i, struct sl_error *err);
/* The directory of a torch file: pieces in the arena. */
int outfile_tail(const struct convert *v, size_t i, struct sl_arena *arena, struct sl_torch_piece **tail,
                 uint32_t *count, struct sl_error *err);
/* The records around the elements of one item (torch_dist), whose CRC is known: as pieces of its file. */
int outfile_item(const struct convert *v, uint32_t target, struct sl_arena *arena, struct sl_torch_piece **pieces,
                 uint32_t *count, struct sl_error *err);
int outfile_write_item(const struct convert *v, uint32_t target, const struct sl_file *file, struct sl_error *err);
int make_folder_of(const char *path, struct sl_error *err);

/* units.c. Elements of t that go through a buffer at a time: whole rows, where they are not long. */
uint64_t piece_of(const struct sl_tensor *t, size_t buffer_len);
/* Fills order, first_unit and shared; buffers and target are there. */
int units_make(struct sl_run *r, struct convert *v, struct sl_error *err);
/* Unit i of first_unit[target_count]: elements of a target, all of it or one of several shares. */
struct unit { size_t turn; uint32_t target; struct shared *shared; uint64_t number, first, count; };
struct unit unit_at(const struct sl_run *r, const struct convert *v, uint64_t i);
/* A sl_run_goes_on: of tensors that are shared. */
bool unit_goes_on(struct sl_run *r, uint64_t i, bool draining);
/* From unit_wait, when it returns SL_OK, to unit_pass the digest of the tensor is the caller's. */
int unit_wait(struct sl_run *r, const struct unit *u, struct sl_error *err);
void unit_pass(struct sl_run *r, const struct unit *u);

/* cache.c */
int cache_look(struct sl_run *r, struct convert *v, struct sl_error *err);
/* Before a phase that reads the source for every target. */
void cache_expect_readers(struct convert *v);
void cache_target_done(struct convert *v, uint32_t target);
void cache_end(struct convert *v);             /* twice is harmless */
/* Waits until a range is on the disk and gives its pages back. */
int cache_to_disk(const struct sl_file *file, uint64_t offset, uint64_t len, struct sl_error *err);
/* A range was written by w: it will be on the disk some buffers later. */
int cache_written(struct sl_run *r, struct convert *v, const struct sl_worker *w, size_t file, const struct sl_file *at, uint64_t offset,
                  uint64_t len, struct sl_error *err);

/* reread.c: by options.verify; sets the summary's words. */
int reread(struct sl_run *r, struct convert *v, struct sl_error *err);

/* parts.c */
/* DST.part-I-of-N; NULL when memory is out. */
const char *part_folder(struct sl_arena *arena, const char *dst, uint32_t part, uint32_t parts);
/* Has this part, whose plan v has, been done before? Then the run has only its results to tell. */
int part_is_done(struct sl_run *r, struct convert *v, const char *folder, bool *done);
/* Opens the target of all parts; counts them. */
int parts_open(struct sl_run *r, struct convert *v, const char *dst, struct sl_error *err);
/* Takes their results and moves their files into the partial target. */
int parts_adopt(struct sl_run *r, struct convert *v, struct sl_error *err);

#define REPORT_NAME "shardlens-report.json"
/* extras.c */
int extras_write(struct sl_run *r, struct convert *v, struct sl_error *err);
/* Before the start: can the report be written where it is to go? */
int report_prepare(struct sl_run *r, const struct convert *v, struct sl_error *err);
/* The report, into the target or to a partial name (*part) beside the one asked for. */
int report_write(struct sl_run *r, struct convert *v, const char **part, struct sl_error *err);
int target_sync_folders(struct convert *v, struct sl_error *err);

#endif
