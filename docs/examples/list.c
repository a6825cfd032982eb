/* list.c: what is in a checkpoint, and the first values of every tensor.
 *
 *     cc list.c $(pkg-config --cflags --libs shardlens) -o list && ./list CHECKPOINT
 */
#include <shardlens/shardlens.h>

#include <inttypes.h>
#include <stdio.h>

static void print_shape(const struct sl_logical *t)
{
    printf("[");
    for (uint32_t axis = 0; axis < t->ndim; axis++)
        printf("%s%" PRId64, axis ? ", " : "", t->shape[axis]);
    printf("]");
}

/* The first elements of the tensor's first piece: of the shard that rank 0 stores. */
static void print_values(const struct sl_checkpoint *ck, const struct sl_logical *t)
{
    enum { SHOWN = 3, ELEMENT = 16 };       /* no element is larger: complex128 */
    unsigned char bytes[SHOWN * ELEMENT];
    struct sl_error err;
    const struct sl_tensor *piece = sl_tensor_at(ck, t->pieces[0]);
    const uint64_t count = piece->count < SHOWN ? piece->count : SHOWN;
    if (sl_tensor_read(ck, t->pieces[0], 0, count, bytes, &err)) {
        printf("  (%s)", err.message);
        return;
    }
    for (uint64_t i = 0; i < count; i++)
        printf("  %g", sl_element(t->dtype, bytes + i * (piece->bytes / piece->count)));
}

int main(int argc, char **argv)
{
    struct sl_checkpoint *ck;
    struct sl_error err;
    if (argc != 2) {
        fprintf(stderr, "usage: list CHECKPOINT\n");
        return SL_USAGE;
    }
    if (sl_open(argv[1], NULL, &ck, &err)) {
        fprintf(stderr, "%s: %s\n", err.where, err.message);
        return err.code;
    }
    const struct sl_checkpoint_info *info = sl_info(ck);
    printf("%s, %s, %" PRIu64 " parameters, TP %d, PP %d\n", sl_container_name(info->container),
           info->family_title ? info->family_title : "family unknown", info->params, info->parallel.tp, info->parallel.pp);
    for (size_t i = 0; i < sl_logical_count(ck); i++) {
        const struct sl_logical *t = sl_logical_at(ck, i);
        printf("%s  %s  ", t->name, sl_dtype_label(t->dtype));
        print_shape(t);
        printf("  %s", t->split_text);
        print_values(ck, t);
        printf("\n");
    }
    sl_close(ck);
    return 0;
}
