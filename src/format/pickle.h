/* pickle.h: the safe unpickler. It knows every opcode of protocols 0 to 5 and
 * executes nothing: calls, instances and persistent ids become nodes of a
 * graph in an arena. What a node means is decided afterwards by recognisers
 * (see torchfile.h); a node nobody recognises stays opaque.
 *
 * Hostile input: every length is compared with the bytes left before anything
 * is allocated; no recursion over input anywhere; memo slots grow with puts,
 * never by index; limits are those of base/limits.h.
 */
#ifndef SL_FORMAT_PICKLE_H
#define SL_FORMAT_PICKLE_H

#include "base/arena.h"
#include <shardlens/types.h>

enum sl_node_kind {
    SL_NODE_NONE, SL_NODE_BOOL, SL_NODE_INT, SL_NODE_BIGINT, SL_NODE_FLOAT,
    SL_NODE_STR, SL_NODE_BYTES, SL_NODE_BYTEARRAY,
    SL_NODE_TUPLE, SL_NODE_LIST, SL_NODE_SET, SL_NODE_FROZENSET, SL_NODE_DICT,
    SL_NODE_GLOBAL,       /* module, name */
    SL_NODE_CALL,         /* callable, args: REDUCE, NEWOBJ, NEWOBJ_EX, INST, OBJ */
    SL_NODE_PERSID        /* id */
};
enum sl_call_how { SL_CALL_REDUCE, SL_CALL_NEWOBJ, SL_CALL_NEWOBJ_EX, SL_CALL_INST };

typedef uint32_t sl_node_id;       /* index into sl_pickle.nodes; 0 is "no node" */

struct sl_node_list { sl_node_id *ids; uint32_t count, room; };

/* 24 bytes: a .metadata has millions of them. */
struct sl_node {
    uint8_t kind;                                        /* enum sl_node_kind      */
    uint8_t later;                                       /* enum sl_node_later     */
    uint16_t tag;                                        /* 0; for who reads a GLOBAL (torch_call) */
    uint32_t after;                                      /* see enum sl_node_later */
    union {
        int64_t i;                                       /* BOOL, INT              */
        double f;
        struct { const char *s; uint64_t len; } text;    /* STR, BYTES, BYTEARRAY, BIGINT
                                (two's complement, little-endian); into the input  */
        struct sl_node_list items;                       /* TUPLE, LIST, SETs; DICT: k, v, k, v */
        struct { const char *module, *name; } global;    /* canonical, see below   */
        struct { sl_node_id callable, args, kwargs; enum sl_call_how how; } call;
        sl_node_id id;                                   /* PERSID                 */
    } u;
};
/* What was done to a CALL, GLOBAL or PERSID after it was made. */
enum sl_node_later {
    SL_LATER_NOTHING,
    SL_LATER_STATE,                /* one BUILD, whose state is node `after`: nearly all of them */
    SL_LATER_EXTRA                 /* sl_pickle.extras[after] */
};
struct sl_node_extra {
    struct sl_node_list items;     /* APPEND(S), ADDITEMS         */
    struct sl_node_list pairs;     /* SETITEM(S): k, v, k, v      */
    struct sl_node_list states;    /* BUILD, in order             */
};

struct sl_pickle {
    struct sl_node *nodes;         /* nodes[1 .. count] */
    uint32_t count;
    struct sl_node_extra *extras;
    uint32_t extra_count;
    sl_node_id root;
    uint64_t length;               /* bytes used, up to and with STOP */
    bool cut;                      /* it failed because the bytes ended too early:
                                      with more of them it may be whole */
    int protocol;                  /* highest PROTO seen, 0 if none */
    const sl_node_id *globals;     /* each distinct global once, in order met,
                                      also those whose result was dropped */
    uint32_t global_count;
};

/* Parses one pickle at the start of bytes. Nodes point into `bytes`, which must
 * outlive them. `where` names it in errors. Modules written by Python 2 names
 * are made canonical (__builtin__ -> builtins, copy_reg -> copyreg,
 * numpy._core -> numpy.core, pathlib._local -> pathlib, torch.tensor ->
 * torch._tensor, ...). SL_INPUT with the byte offset and opcode when it is no pickle;
 * what was parsed of *out until then (globals above all) stays readable. */
int sl_pickle_parse(const void *bytes, size_t len, const char *where,
                    struct sl_arena *arena, struct sl_pickle *out, struct sl_error *err);

static inline const struct sl_node *sl_pickle_node(const struct sl_pickle *p, sl_node_id id)
{
    return id && id <= p->count ? &p->nodes[id] : NULL;
}

/* What was set in, and added to, an instance later; never NULL. */
const struct sl_node_list *sl_node_pairs(const struct sl_pickle *p, const struct sl_node *n);
const struct sl_node_list *sl_node_items(const struct sl_pickle *p, const struct sl_node *n);
/* The states that it was given, in order; NULL and 0 when there are none. */
const sl_node_id *sl_node_states(const struct sl_pickle *p, const struct sl_node *n, uint32_t *count);

/* Is this global one that could do harm if it were called: 2 dangerous (os,
 * subprocess, eval, ...), 1 unknown, 0 known to occur in checkpoints. */
int sl_pickle_global_risk(const char *module, const char *name);

#endif
