/* torchread.h: what the parts of the torch reader share while one file is
 * being opened. Nothing outside src/format includes it.
 *
 *   torchfile.c    containers: which file, which pickle, where storages lie
 *   torchlegacy.c  the container before torch 1.6
 *   torchcut.c     what can be told of a zip file that ends too early
 *   torchnames.c   the names that mean something, and the harm in the others
 *   torchvalue.c   the graph of the pickle -> plain values
 *   torchtensor.c  calls that make tensors -> sl_torch_tensor
 *   torchnumpy.c   numpy's dtypes, scalars, arrays
 */
#ifndef SL_FORMAT_TORCHREAD_H
#define SL_FORMAT_TORCHREAD_H

#include "base/arena.h"
#include "base/io.h"
#include "base/map.h"
#include "format/pickle.h"
#include "format/torchfile.h"
#include "format/zipdir.h"

/* What a global stands for, where anything but a call of it matters. */
enum torch_name {
    TORCH_NAME_OTHER,
    TORCH_NAME_TENSOR_V2, TORCH_NAME_TENSOR_V3, TORCH_NAME_TENSOR_OLD,
    TORCH_NAME_PARAMETER, TORCH_NAME_FROM_TYPE, TORCH_NAME_QUANTIZED, TORCH_NAME_SPARSE,
    TORCH_NAME_SPARSE_CSR, TORCH_NAME_NESTED, TORCH_NAME_META, TORCH_NAME_WRAPPER,
    TORCH_NAME_FROM_NUMPY, TORCH_NAME_FROM_CPU,
    TORCH_NAME_SIZE, TORCH_NAME_DEVICE, TORCH_NAME_LAYOUT,
    TORCH_NAME_DICT,              /* OrderedDict, dict, Counter: args () or (a dict or pairs) */
    TORCH_NAME_DEFAULTDICT, TORCH_NAME_NAMESPACE,
    TORCH_NAME_LIST, TORCH_NAME_TUPLE, TORCH_NAME_SET, TORCH_NAME_FROZENSET,
    TORCH_NAME_ENCODE, TORCH_NAME_BYTES, TORCH_NAME_BYTEARRAY, TORCH_NAME_COMPLEX,
    TORCH_NAME_GETATTR, TORCH_NAME_RECONSTRUCTOR, TORCH_NAME_PATH, TORCH_NAME_DATETIME,
    TORCH_NAME_BYTESIO, TORCH_NAME_ENUM,
    TORCH_NAME_NP_DTYPE, TORCH_NAME_NP_SCALAR, TORCH_NAME_NP_RECONSTRUCT,
    TORCH_NAME_NP_FROMBUFFER
};
enum torch_name torch_name_of(const char *module, const char *name);

/* What a node became. */
struct torch_slot {
    const struct sl_value *value;   /* NULL: not looked at; torch_busy: being made */
    uint32_t weight;                /* values in it if every reference were a copy; saturates */
    uint32_t height;                /* levels below it */
};

/* What the pickle says of a storage, beside its place in the file. */
struct torch_need {
    uint64_t bytes;                 /* length; the file may hold more, not less */
    const char *class_name;         /* for messages */
    int32_t parent;                 /* a view of this storage (very old files), or -1 */
    uint64_t shift;                 /* bytes from the parent's beginning to the view's */
};

struct torch_frame;
struct torch_reader {
    const struct sl_file *file;
    uint64_t start, length;
    struct sl_arena *arena;         /* results */
    struct sl_arena scratch;        /* nodes and other things of the moment */
    struct sl_error *err;
    struct sl_torch_file *out;
    struct sl_pickle pickle;

    struct sl_torch_storage *storages;   /* owned until handed to out */
    struct torch_need *needs;            /* owned, parallel to storages */
    size_t storage_count, storage_room;
    struct sl_map storage_index;         /* key -> index */
    int32_t *persid_storage;             /* per node: index, -1 */

    struct sl_torch_tensor *tensors;     /* owned until handed to out */
    size_t tensor_count, tensor_room;

    struct torch_slot *slots;            /* per node */
    struct torch_frame *frames;          /* containers being filled, outermost first */
    size_t depth;
    const char **global_names;           /* per global of the pickle: "module.name" */
};

/* Nodes, by id; never NULL for ids that the pickle itself gave out. */
static inline const struct sl_node *torch_node(const struct torch_reader *r, sl_node_id id)
{
    return &r->pickle.nodes[id];
}
bool torch_int(const struct torch_reader *r, sl_node_id id, int64_t *value);
bool torch_bool(const struct torch_reader *r, sl_node_id id, bool *value);
bool torch_is_text(const struct torch_reader *r, sl_node_id id, const char *text);
/* Items of a tuple, list, or torch.Size; NULL when it is none. */
const struct sl_node_list *torch_items(const struct torch_reader *r, sl_node_id id);
/* A call of a global: what it stands for, and its arguments; OTHER if none. */
enum torch_name torch_call(const struct torch_reader *r, sl_node_id id,
                           const struct sl_node_list **args);
/* dtype named by a global node (torch.bfloat16); UNKNOWN if it names none. */
enum sl_dtype torch_dtype_of(const struct torch_reader *r, sl_node_id id);
/* "module.name" of a global node, in the arena; NULL when memory is out. */
const char *torch_global_name(struct torch_reader *r, sl_node_id id);

/* Collects the storages that persistent ids name (no places yet). */
int torch_storages_collect(struct torch_reader *r);
/* After their places are known: places the views, and is each storage as long
 * as the pickle says? */
int torch_storages_check(struct torch_reader *r);

/* A tensor made by node `id`, if it is one: *index in r->tensors, *type its
 * class if it is not a plain one. *made false: something else. SL_INPUT for a
 * tensor that reaches outside its storage. */
int torch_tensor_make(struct torch_reader *r, sl_node_id id, bool *made, int64_t *index,
                      const char **type);
/* A whole storage as a one-dimensional tensor. */
int torch_tensor_of_storage(struct torch_reader *r, sl_node_id id, bool *made, int64_t *index);

/* The object of the pickle as plain values, with the tensors in it. */
int torch_values_make(struct torch_reader *r);
/* Where the value being made stands: "model.layers.0.weight". */
void torch_path(const struct torch_reader *r, char *out, size_t room);
/* "sparse" or "nested" while the parts of such a tensor are made, else "tensor". */
const char *torch_part_kind(const struct torch_reader *r);

/* numpy objects; false: not one, or not one that can be shown. */
bool torch_numpy_dtype(const struct torch_reader *r, sl_node_id id, enum sl_dtype *dtype,
                       bool *swapped, const char **spelling, size_t *spelling_len);
bool torch_numpy_value(struct torch_reader *r, sl_node_id id, struct sl_value *value);
/* bytes in any of their forms (BYTES, BYTEARRAY, codecs.encode of a str). */
bool torch_bytes(struct torch_reader *r, sl_node_id id, const char **s, size_t *len);

int torch_globals_tell(struct torch_reader *r);

/* Reads a pickle of unknown length at byte `at` of the range: more and more of
 * the file until it is whole. *bytes is the caller's to free, and outlives the
 * pickle. Nodes lie in the scratch arena. */
int torch_pickle_read(struct torch_reader *r, uint64_t at, char **bytes,
                      struct sl_pickle *pickle, struct sl_error *err);
/* Is it the number that begins a file of the legacy container? */
bool torch_is_magic(const struct sl_pickle *pickle);
/* Everything behind that number, whose pickle ends at byte `at`. *bytes: what
 * r->pickle points into; the caller's to free. */
int torch_open_legacy(struct torch_reader *r, uint64_t at, char **bytes);

/* For a zip file without an end record: how far it goes, what it ends in, how
 * long it should have been. Replaces the sentence in *err where it knows more. */
void torch_tell_cut(struct torch_reader *r);

#endif
