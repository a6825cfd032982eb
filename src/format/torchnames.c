/* torchnames.c: names of globals: what they stand for, and whether calling
 * them could do harm.
 *
 * Names as torch.save and Megatron write them: see the fixtures. Names that do
 * harm: what is known from attacks on pickles (the deny lists of fickling and
 * picklescan cover the same modules), as whole modules where nothing in them
 * belongs into a checkpoint.
 */
#include "format/torchread.h"

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

/* --- harm --------------------------------------------------------------- */

/* Nothing in these modules (and below them) belongs into a checkpoint. */
static const char *const bad_modules[] = {
    "os", "posix", "nt", "posixpath", "ntpath", "subprocess", "_posixsubprocess", "commands",
    "sys", "runpy", "webbrowser", "socket", "_socket", "ssl", "shutil", "ctypes", "_ctypes",
    "importlib", "imp", "pkgutil", "zipimport", "pty", "tty", "code", "codeop", "bdb", "pdb",
    "cProfile", "profile", "timeit", "trace", "doctest", "pydoc", "pip", "ensurepip", "venv",
    "setuptools", "distutils", "site", "idlelib", "lib2to3", "unittest", "turtle",
    "multiprocessing", "concurrent", "asyncio", "threading", "_thread", "signal.signal",
    "http", "urllib", "urllib2", "httplib", "requests", "httpx", "aiohttp", "ftplib", "smtplib",
    "imaplib", "poplib", "telnetlib", "xmlrpc", "socketserver", "tempfile", "glob", "fileinput",
    "marshal", "pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve",
    "operator", "_operator", "functools", "gc", "inspect", "ast", "dis", "platform", "linecache",
    "logging.config", "logging.handlers", "numpy.testing", "numpy.f2py", "numpy.distutils",
    "torch.hub", "torch.utils.cpp_extension", "torch.jit", "torch._dynamo", "torch._inductor",
    "torch.distributed.run", "torch.multiprocessing", "IPython", "jupyter_client", "paramiko",
    "fabric", "pexpect", "psutil", "boto3", "sqlite3", "mmap", "resource", "fcntl",
};
struct bad_row { const char *module, *name; };
static const struct bad_row bad_names[] = {
    {"builtins", "eval"}, {"builtins", "exec"}, {"builtins", "execfile"}, {"builtins", "compile"},
    {"builtins", "open"}, {"builtins", "file"}, {"builtins", "input"}, {"builtins", "raw_input"},
    {"builtins", "__import__"}, {"builtins", "getattr"}, {"builtins", "setattr"},
    {"builtins", "delattr"}, {"builtins", "globals"}, {"builtins", "locals"},
    {"builtins", "vars"}, {"builtins", "apply"}, {"builtins", "breakpoint"},
    {"builtins", "reload"}, {"builtins", "map"}, {"builtins", "filter"}, {"builtins", "help"},
    {"io", "open"}, {"io", "FileIO"}, {"io", "open_code"}, {"codecs", "open"},
    {"types", "FunctionType"}, {"types", "CodeType"}, {"types", "MethodType"},
    {"types", "ModuleType"}, {"numpy", "load"}, {"numpy", "fromfile"}, {"numpy", "save"},
    {"torch", "load"}, {"torch", "save"}, {"torch.serialization", "load"},
    {"torch.serialization", "save"}, {"torch", "compile"}, {"torch", "import_ir_module"},
    {"torch._C", "_import_ir_module_from_buffer"}, {"copyreg", "add_extension"},
    {"copyreg", "__newobj__"}, {"pathlib.Path", "write_text"}, {"signal", "signal"},
    {"signal", "raise_signal"}, {"signal", "alarm"},
};

/* Classes that are known to stand in checkpoints; NULL: each of the module. */
struct good_row { const char *module, *name; };
static const struct good_row good_names[] = {
    {"torch", "Tensor"}, {"torch", "FloatTensor"}, {"torch.nn.parameter", "Parameter"},
    {"torch", "per_tensor_affine"}, {"torch", "per_channel_affine"}, {"torch", "strided"},
    {"torch", "contiguous_format"}, {"torch", "preserve_format"}, {"torch", "channels_last"},
    {"torch.storage", "_load_from_bytes"}, {"torch._C", "Generator"},
    {"torch.distributed.checkpoint.metadata", NULL},
    {"torch.distributed.checkpoint.filesystem", NULL},
    {"torch.distributed.checkpoint.planner", NULL},
    {"torch.distributed.checkpoint.default_planner", NULL},
    {"torch.distributed._shard.sharded_tensor.metadata", NULL},
    {"torch.distributed._shard.metadata", NULL},
    {"torch.serialization", "_get_layout"},
    {"numpy", "ndarray"}, {"numpy", "dtype"}, {"numpy.random._pickle", NULL},
    {"datetime", NULL}, {"decimal", "Decimal"}, {"fractions", "Fraction"}, {"uuid", "UUID"},
    {"enum", NULL}, {"builtins", "int"}, {"builtins", "float"}, {"builtins", "str"},
    {"builtins", "bool"}, {"builtins", "object"}, {"builtins", "range"}, {"builtins", "slice"},
    {"builtins", "NoneType"}, {"builtins", "Ellipsis"}, {"collections", "deque"},
    {"megatron.core.rerun_state_machine", NULL}, {"megatron.core.optimizer.optimizer_config", NULL},
    {"megatron.core.optimizer", "OptimizerConfig"},
    {"megatron.core.dist_checkpointing.strategies.torch", NULL},
    {"megatron.core.transformer.transformer_config", NULL},
    {"megatron.core.transformer.enums", NULL}, {"megatron.core.enums", NULL},
    {"megatron.model.enums", NULL}, {"megatron.enums", NULL},
};

/* Is `module` the same as, or below, `above`? */
static bool is_below(const char *module, const char *above)
{
    size_t n = strlen(above);
    return !strncmp(module, above, n) && (!module[n] || module[n] == '.');
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

static bool is_bad(const char *module, const char *name)
{
    for (size_t i = 0; i < sizeof bad_modules / sizeof *bad_modules; i++)
        if (is_below(module, bad_modules[i]))
            return true;
    for (size_t i = 0; i < sizeof bad_names / sizeof *bad_names; i++)
        if (!strcmp(module, bad_names[i].module) && !strcmp(name, bad_names[i].name))
            return true;
    return strstr(name, "__") && strchr(name, '.');       /* "str.__class__.__mro__" */
}

static bool is_good(const char *module, const char *name)
{
    if (torch_name_of(module, name) != TORCH_NAME_OTHER)
        return true;
    for (size_t i = 0; i < sizeof good_names / sizeof *good_names; i++)
        if (!strcmp(module, good_names[i].module) &&
            (!good_names[i].name || !strcmp(name, good_names[i].name)))
            return true;
    if (!strcmp(module, "torch") && sl_dtype_from_torch(name, strlen(name)))
        return true;
    return (!strcmp(module, "torch") || !strcmp(module, "torch.storage") ||
            !strcmp(module, "torch.cuda")) && ends_with(name, "Storage");
}

int sl_pickle_global_risk(const char *module, const char *name)
{
    if (is_bad(module, name))
        return 2;
    return is_good(module, name) ? 0 : 1;
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

int torch_globals_tell(struct torch_reader *r)
{
    uint32_t count = r->pickle.global_count;
    struct sl_torch_global *globals = SL_ARENA_NEW(r->arena, struct sl_torch_global, count);
    if (!globals)
        return SL_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        const struct sl_node *node = torch_node(r, r->pickle.globals[i]);
        const char *module = node->u.global.module, *name = node->u.global.name;
        globals[i].name = torch_global_name(r, r->pickle.globals[i]);
        globals[i].risk = sl_pickle_global_risk(module, name);
        if (!globals[i].name)
            return SL_MEMORY;
        if (torch_name_of(module, name) == TORCH_NAME_GETATTR && getattr_is_tame(r))
            globals[i].risk = 0;
    }
    r->out->globals = globals;
    r->out->global_count = count;
    return SL_OK;
}
