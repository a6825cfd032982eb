/* fuzz_pickle.c: any bytes into the unpickler. */
#include "fuzz.h"

#include "format/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_pickle pickle = { 0 };
    const int code = sl_pickle_parse(data, size, "input", &arena, &pickle, &err);
    fuzz_refused(code, &err);
    if (!code && (pickle.length > size || !sl_pickle_node(&pickle, pickle.root)))
        abort();
    /* globals are told also when the pickle is refused */
    for (uint32_t i = 0; i < pickle.global_count; i++) {
        const struct sl_node *n = sl_pickle_node(&pickle, pickle.globals[i]);
        if (!n || n->kind != SL_NODE_GLOBAL)
            abort();
        sl_pickle_global_risk(n->u.global.module, n->u.global.name);
    }
    sl_arena_free(&arena);
    return 0;
}
