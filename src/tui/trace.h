/* trace.h: from elements of a target to where they come from, and from elements of
 * a source tensor to where they go: pieces of a plan, cut to a range.
 *
 * Ranges, as people type them (half open, as in Python; a single number is one of it):
 *     0:32            rows
 *     0:32,64:128     rows and columns, brackets if you like; : is all of an axis
 *     #100:200        elements, counted in row-major order
 * Bytes of a file are turned into elements by who knows the file (map.c).
 */
#ifndef SL_TUI_TRACE_H
#define SL_TUI_TRACE_H

#include <shardlens/shardlens.h>

/* A run of elements of a tensor of n axes is at most 2n - 1 boxes. */
#define RANGE_BOXES 16
struct range {
    char text[128];                       /* as typed; "": everything */
    uint64_t elements;
    size_t count;
    struct box { int64_t lo[8], hi[8]; } boxes[RANGE_BOXES];
};

/* False, with the reason in why, for what is no range of such a shape. */
bool range_parse(const char *text, const int64_t *shape, uint32_t ndim, struct range *out, char *why, size_t room);
/* Elements first..last-1. */
bool range_flat(uint64_t first, uint64_t last, const int64_t *shape, uint32_t ndim, struct range *out);
/* "5000:6000" without what stands before it; false if it is nothing like that. */
bool range_numbers(const char *text, uint64_t *first, uint64_t *last);

/* What one target is made of, or what becomes of one source tensor. */
#define MOST_TRACED 4096                  /* pieces that are listed */
#define MOST_TRACED_TARGETS 64            /* targets of one source that are looked at */
struct traced {
    struct sl_piece_info *pieces;
    size_t *targets;                      /* of each piece */
    size_t count;
    size_t total;                         /* of which count are listed */
    size_t target_count;                  /* of a source: targets that it goes to */
    uint64_t elements;                    /* in the listed pieces */
    uint64_t used;                        /* of a source: elements in them, each counted once */
};
/* Cut to range if its text is not "". Free with traced_free. */
void trace_target(const struct sl_plan *plan, size_t target, const struct range *range, struct traced *out);
void trace_source(const struct sl_plan *plan, size_t tensor, const struct range *range, struct traced *out);
void traced_free(struct traced *t);

/* Elements of a piece, on the target's side. */
uint64_t piece_elements(const struct sl_piece_info *piece);

#endif
