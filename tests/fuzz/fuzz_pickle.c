/* fuzz_pickle.c: any bytes into the unpickler. Every node it hands out refers
 * to nodes that exist and to bytes of the input, also when it refuses. */
#include "fuzz.h"

#include "format/pickle.h"

static void check_list(const struct sl_pickle *p, const struct sl_node_list *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (!sl_pickle_node(p, list->ids[i]))
            abort();
}

static void check_node(const struct sl_pickle *p, const struct sl_node *n, volatile char *sink)
{
    switch (n->kind) {
    case SL_NODE_STR: case SL_NODE_BYTES: case SL_NODE_BYTEARRAY: case SL_NODE_BIGINT:
        if (n->u.text.len)                  /* read, so that ASan looks at both ends */
            *sink = (char)(n->u.text.s[0] ^ n->u.text.s[n->u.text.len - 1]);
        break;
    case SL_NODE_TUPLE: case SL_NODE_LIST: case SL_NODE_SET: case SL_NODE_FROZENSET:
    case SL_NODE_DICT:
        check_list(p, &n->u.items);
        break;
    case SL_NODE_CALL:
        if (!sl_pickle_node(p, n->u.call.callable) || !sl_pickle_node(p, n->u.call.args))
            abort();
        break;
    case SL_NODE_PERSID:
        if (!sl_pickle_node(p, n->u.id))
            abort();
        break;
    default:
        break;
    }
    uint32_t states;
    const sl_node_id *state = sl_node_states(p, n, &states);
    for (uint32_t i = 0; i < states; i++)
        if (!sl_pickle_node(p, state[i]))
            abort();
    check_list(p, sl_node_items(p, n));
    check_list(p, sl_node_pairs(p, n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    struct sl_pickle pickle = { 0 };
    const int code = sl_pickle_parse(data, size, "input", &arena, &pickle, &err);
    fuzz_refused(code, &err);
    if (!code && (pickle.length > size || !sl_pickle_node(&pickle, pickle.root)))
        abort();
    volatile char sink = 0;
    for (uint32_t i = 1; i <= pickle.count; i++)
        check_node(&pickle, sl_pickle_node(&pickle, i), &sink);
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
