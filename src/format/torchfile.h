/* torchfile.h: what torch.save wrote: the zip container, the older container
 * without zip, and a bare pickle. Gives the object as plain values and every
 * tensor in it with the place of its bytes. Reads headers and data.pkl only.
 */
#ifndef SL_FORMAT_TORCHFILE_H
#define SL_FORMAT_TORCHFILE_H

#include "base/arena.h"
#include "base/io.h"
#include "format/pickle.h"

struct sl_torch_storage {
    const char *key;          /* "0", "1", ..; never a number to rely on */
    enum sl_dtype dtype;      /* of the storage class; SL_U8 for UntypedStorage */
    uint64_t offset;          /* of its bytes in the file */
    uint64_t bytes;           /* length in the file, unpacked */
    uint64_t packed;          /* bytes it takes in the file */
    uint32_t crc;             /* 0: none */
    bool deflated;
    bool missing;             /* of a bare pickle: its bytes are nowhere */
};
struct sl_torch_tensor {
    enum sl_dtype dtype;
    uint32_t ndim;
    const int64_t *shape, *stride;      /* elements */
    uint64_t storage_offset;            /* elements */
    int32_t storage;                    /* index, -1 for meta tensors */
    bool requires_grad, is_parameter, conj, neg;
    const char *kind;                   /* "tensor", "parameter", "quantized", "sparse", .. */
};

enum sl_torch_kind { SL_TORCH_ZIP, SL_TORCH_LEGACY, SL_TORCH_BARE_PICKLE };

struct sl_torch_global { const char *name; int risk; };   /* "os.system", as sl_pickle_global_risk */

struct sl_torch_file {
    enum sl_torch_kind kind;
    bool big_endian;
    const char *root;                         /* zip root folder, "" otherwise */
    const struct sl_value *object;            /* the object, acyclic: a reference back to an
                                                 enclosing container is OPAQUE "(cycle)";
                                                 shared parts share pointers */
    const struct sl_torch_tensor *tensors;    /* SL_VALUE_TENSOR values point here; one entry
                                                 for each distinct tensor object */
    uint32_t tensor_count;
    const struct sl_torch_storage *storages;
    uint32_t storage_count;
    const struct sl_torch_global *globals;    /* every global the pickle names */
    uint32_t global_count;
    uint64_t pickle_bytes;
    bool crc_missing;                         /* CRCs were not computed by the writer */
};

/* Opens the torch file at [start, start+length) of file. All results live in
 * the arena. Checks that every tensor lies inside its storage and every storage
 * inside the file: SL_INPUT names the tensor (by its path of keys), what it
 * needs and what is there. Values: argparse.Namespace, SimpleNamespace and
 * instances with a __dict__ become DICT with `type` set; OrderedDict, Counter,
 * defaultdict DICT; torch.Size LIST; torch.dtype STR "bfloat16"; torch.device
 * STR; enums INT or STR with `type`; numpy scalars numbers, numpy arrays LIST
 * (long ones OPAQUE with dtype and shape); BytesIO BYTES; Path STR; anything
 * else OPAQUE "module.name(...)". Integers of more than 64 bits are OPAQUE of
 * type "int" with their decimal text. Tensors of several parts (sparse, nested)
 * are a LIST of what they are rebuilt from, parts being tensors of that kind; a
 * storage saved by itself is a one-dimensional tensor of kind "storage".
 *
 * The object may be walked as a tree: at most SL_LIMIT_PICKLE_DEPTH levels deep
 * (deeper ones are refused), and in a number of steps bounded by 10 million and
 * the bytes of the pickle; references that would break that are OPAQUE
 * "(repeated too often)".
 *
 * On failure out->globals holds what was met until then. */
int sl_torch_open(const struct sl_file *file, uint64_t start, uint64_t length,
                  struct sl_arena *arena, struct sl_torch_file *out, struct sl_error *err);

/* Is this how a torch file begins (zip, legacy magic, pickle)? Looks at `head`,
 * the first len >= 16 bytes. */
bool sl_torch_is(const void *head, size_t len);

/* What a file is, from its first bytes, in words, for errors: "an HTML page",
 * "a git LFS pointer: run git lfs pull", "all zero bytes", "gzip data", ...
 * NULL when not known. */
const char *sl_sniff(const void *head, size_t len);

/* Reads bytes [from, from+len) of a storage that is deflated (slow path). */
int sl_torch_read_deflated(const struct sl_file *file, uint64_t start, uint64_t length,
                           const char *root, const struct sl_torch_storage *storage,
                           uint64_t from, void *buf, size_t len, struct sl_error *err);

#endif
