/* dtype.h: what is known of each element type, as one table, and reading
 * elements as doubles. */
#ifndef SL_BASE_DTYPE_H
#define SL_BASE_DTYPE_H

#include <shardlens/types.h>

struct sl_dtype_row {
    const char *name;          /* ours, in JSON and options: "bf16", "fp32", "int64" */
    const char *safetensors;   /* "BF16"; NULL: safetensors has none                 */
    const char *torch;         /* "bfloat16": torch.bfloat16                         */
    const char *storage;       /* "BFloat16Storage"; NULL: only as UntypedStorage    */
    uint8_t size;              /* bytes of one element                               */
    bool is_float;             /* can be cast by --dtype                             */
};
const struct sl_dtype_row *sl_dtype_row(enum sl_dtype dtype);   /* never NULL */
const char *sl_dtype_name(enum sl_dtype dtype);
uint32_t sl_dtype_size(enum sl_dtype dtype);
/* UNKNOWN when there is none. The last accepts our names and the usual aliases
 * (f32, float32, fp32, bfloat16, half, ...). */
enum sl_dtype sl_dtype_from_safetensors(const char *name, size_t len);
enum sl_dtype sl_dtype_from_torch(const char *name, size_t len);       /* "bfloat16" */
enum sl_dtype sl_dtype_from_storage(const char *name, size_t len);     /* "HalfStorage" */
enum sl_dtype sl_dtype_from_name(const char *name);

/* One element as a double; complex numbers give their real part. */
double sl_dtype_load(enum sl_dtype dtype, const void *element);

/* Converts count elements between fp64, fp32, fp16 and bf16 (any to any),
 * rounding to nearest even, NaN kept NaN, overflow to infinity. False if a
 * dtype is not one of these. The arrays do not overlap. */
bool sl_dtype_cast(enum sl_dtype from, const void *in, enum sl_dtype to, void *out, size_t count);

/* Swaps the bytes of each element in place (each half of a complex alone). */
void sl_dtype_swap(enum sl_dtype dtype, void *elements, size_t count);

#endif
