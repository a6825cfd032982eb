/* torchnames.c: names of globals: what they stand for, as torch.save and Megatron
 * write them (see the fixtures), and which of them are told as harmful. */
#include "format/torchread.h"
#include "format/pickleharm.h"

#include "base/dtype.h"

#include <string.h>

struct name_row { const char *module, *name; enum torch_name what; };
static const struct name_row rows[] = {
    {"torch._utils", "_rebuild_tensor_v2", TORCH_NAME_TENSOR_V2},
    {"torch._utils", "_rebuild_tensor_v3", TORCH_NAME_TENSOR_V3},
    {"torch._utils", "_rebuild_tensor", TORCH_NAME_TENSOR_OLD},
    {"torch._utils", "_rebuild_parameter", TORCH_NAME_PARAMETER},
    {"torch._utils", "_rebuild_parameter_with_state", TORCH_NAME_PARAMETER},
    {"torch._utils", "_rebuild_qtensor", TORCH_NAME_QUANTIZED},
    {"torch._utils", "_rebuild_sparse_tensor", TORCH_NAME_SPARSE},
    {"torch._utils", "_rebuild_sparse_csr_tensor", TORCH_NAME_SPARSE_CSR},
    {"torch._utils", "_rebuild_nested_tensor", TORCH_NAME_NESTED},
    {"torch._utils", "_rebuild_meta_tensor_no_storage", TORCH_NAME_META},
    {"torch._utils", "_rebuild_wrapper_subclass", TORCH_NAME_WRAPPER},
    {"torch._utils", "_rebuild_device_tensor_from_numpy", TORCH_NAME_FROM_NUMPY},
    {"torch._utils", "_rebuild_device_tensor_from_cpu_tensor", TORCH_NAME_FROM_CPU},
    {"torch._tensor", "_rebuild_from_type_v2", TORCH_NAME_FROM_TYPE},
    {"torch._tensor", "_rebuild_from_type", TORCH_NAME_FROM_TYPE},
    {"torch", "Size", TORCH_NAME_SIZE},
    {"torch", "device", TORCH_NAME_DEVICE},
    {"torch.serialization", "_get_layout", TORCH_NAME_LAYOUT},
    {"collections", "OrderedDict", TORCH_NAME_DICT},
    {"collections", "Counter", TORCH_NAME_DICT},
    {"collections", "defaultdict", TORCH_NAME_DEFAULTDICT},
    {"builtins", "dict", TORCH_NAME_DICT},
    {"builtins", "list", TORCH_NAME_LIST},
    {"builtins", "tuple", TORCH_NAME_TUPLE},
    {"builtins", "set", TORCH_NAME_SET},
    {"builtins", "frozenset", TORCH_NAME_FROZENSET},
    {"builtins", "bytes", TORCH_NAME_BYTES},
    {"builtins", "bytearray", TORCH_NAME_BYTEARRAY},
    {"builtins", "complex", TORCH_NAME_COMPLEX},
    {"builtins", "getattr", TORCH_NAME_GETATTR},
    {"_codecs", "encode", TORCH_NAME_ENCODE},
    {"copyreg", "_reconstructor", TORCH_NAME_RECONSTRUCTOR},
    {"argparse", "Namespace", TORCH_NAME_NAMESPACE},
    {"types", "SimpleNamespace", TORCH_NAME_NAMESPACE},
    {"pathlib", "PosixPath", TORCH_NAME_PATH},
    {"pathlib", "WindowsPath", TORCH_NAME_PATH},
    {"pathlib", "PurePosixPath", TORCH_NAME_PATH},
    {"pathlib", "PureWindowsPath", TORCH_NAME_PATH},
    {"pathlib", "Path", TORCH_NAME_PATH},
    {"datetime", "datetime", TORCH_NAME_DATETIME},
    {"io", "BytesIO", TORCH_NAME_BYTESIO},
    {"signal", "Signals", TORCH_NAME_ENUM},
    {"numpy", "dtype", TORCH_NAME_NP_DTYPE},
    {"numpy.core.multiarray", "scalar", TORCH_NAME_NP_SCALAR},
    {"numpy.core.multiarray", "_reconstruct", TORCH_NAME_NP_RECONSTRUCT},
    {"numpy.core.numeric", "_frombuffer", TORCH_NAME_NP_FROMBUFFER},
};

enum torch_name torch_name_of(const char *module, const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(name, rows[i].name) && !strcmp(module, rows[i].module))
            return rows[i].what;
    return TORCH_NAME_OTHER;
}

/* The two harmless uses of getattr: a member of an enum (as Python 3.11 wrote
 * them for a while), and a memory format of torch. */
static bool getattr_is_tame(const struct torch_reader *r)
{
    bool is_called = false;
    for (sl_node_id id = 1; id <= r->pickle.count; id++) {
        const struct sl_node_list *args;
        if (torch_call(r, id, &args) != TORCH_NAME_GETATTR)
            continue;
        if (args->count != 2 || torch_node(r, args->ids[0])->kind != SL_NODE_GLOBAL ||
            torch_node(r, args->ids[1])->kind != SL_NODE_STR)
            return false;
        const struct sl_node *of = torch_node(r, args->ids[0]);
        const struct sl_node *what = torch_node(r, args->ids[1]);
        if (sl_pickle_global_risk(of->u.global.module, of->u.global.name) == 2 ||
            (what->u.text.len >= 1 && what->u.text.s[0] == '_'))
            return false;
        is_called = true;
    }
    return is_called;
}

/* Bytes that a pickle holds, in a form of their own (TE's extra states, storages in a plain pickle,
 * payloads): what pickles in them ask for is told too, since who loads the outer one loads those. */
static int tell_inside(struct torch_reader *r, struct sl_harm *harm)
{
    for (sl_node_id id = 1; id <= r->pickle.count; id++) {
        const enum sl_node_kind kind = torch_node(r, id)->kind;
        const char *s;
        size_t len;
        if (kind != SL_NODE_BYTES && kind != SL_NODE_BYTEARRAY && kind != SL_NODE_CALL)
            continue;
        if (torch_bytes(r, id, &s, &len) && sl_harm_look_inside(harm, s, len))
            return SL_MEMORY;
    }
    return SL_OK;
}

int torch_globals_tell(struct torch_reader *r)
{
    struct sl_harm harm = { .arena = r->arena };
    const uint32_t own = r->pickle.global_count;
    int *risks = SL_ARENA_NEW(&r->scratch, int, own);
    if (!risks || sl_harm_risks(&r->pickle, &r->scratch, risks) || tell_inside(r, &harm))
        return SL_MEMORY;
    struct sl_torch_global *globals = SL_ARENA_NEW(r->arena, struct sl_torch_global, (uint64_t)own + harm.count);
    if (!globals)
        return SL_MEMORY;
    for (uint32_t i = 0; i < own; i++) {
        const struct sl_node *node = torch_node(r, r->pickle.globals[i]);
        globals[i].name = torch_global_name(r, r->pickle.globals[i]);
        globals[i].risk = risks[i];
        if (!globals[i].name)
            return SL_MEMORY;
        if (torch_name_of(node->u.global.module, node->u.global.name) == TORCH_NAME_GETATTR && !node->later && getattr_is_tame(r))
            globals[i].risk = 0;
    }
    for (uint32_t i = 0; i < harm.count; i++)
        globals[own + i] = (struct sl_torch_global){ .name = harm.names[i], .risk = 2 };
    r->out->globals = globals;
    r->out->global_count = own + harm.count;
    return SL_OK;
}
