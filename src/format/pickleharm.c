/* pickleharm.c: could what a pickle names do harm?
 *
 * A name is known to stand in checkpoints, or known to do harm, or unknown. The second list has
 * whole modules where nothing in them belongs into a checkpoint, as attacks that were published
 * use them (the deny lists of fickling and picklescan, and what went around those). A list of bad
 * names is never whole, so functions of Python's library and of the large packages that are
 * called and not known are told as harmful too: what rebuilds an object there is known. So is
 * whatever changes a function or a class instead of using it.
 */
#include "format/pickleharm.h"
#include "format/torchread.h"

#include "base/dtype.h"
#include "base/text.h"

#include <string.h>

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
    "fabric", "pexpect", "psutil", "boto3", "sqlite3", "_sqlite3", "mmap", "resource", "fcntl",
    "atexit", "_aix_support", "_osx_support", "_pyrepl", "_frozen_importlib", "_frozen_importlib_external", "antigravity", "this",
    "compileall", "py_compile", "zipapp", "zipfile", "tarfile", "test", "tkinter", "_tkinter", "turtledemo", "curses",
    "mailbox", "mailcap", "dbm", "netrc", "nntplib", "wsgiref", "cgi", "cgitb", "select", "selectors", "modulefinder",
    "sysconfig", "pyclbr", "rlcompleter", "readline", "crypt", "pwd", "spwd", "nis", "msilib", "winreg", "_winapi",
    "_posixshmem", "_multiprocessing", "_xxsubinterpreters", "_interpreters",
    "torch.package", "torch.fx", "torch.utils.bottleneck", "torch.utils.collect_env", "torch.utils._config_module",
    "torch.utils.data.datapipes", "torch.distributed.rpc", "torch.distributed.elastic", "torch.distributed.launcher",
    "torch.onnx", "torch.ops", "torch._lobpcg", "torch.testing", "torch.export", "numpy.ctypeslib", "numpy.lib.npyio",
    "numpy.lib.format", "pandas.io", "pandas.core.computation", "cffi", "websocket", "websockets", "tornado", "flask", "django",
    "six.moves", "cloudpickle_fast", "jsonpickle", "yaml", "nltk", "pytest", "_pytest", "setuptools", "pkg_resources", "wheel", "git",
    "docker", "torch.utils.model_dump", "torch.utils.hipify", "torch.utils.benchmark",
};
struct bad_row { const char *module, *name; };
static const struct bad_row bad_names[] = {
    {"builtins", "eval"}, {"builtins", "exec"}, {"builtins", "execfile"}, {"builtins", "compile"},
    {"builtins", "open"}, {"builtins", "file"}, {"builtins", "input"}, {"builtins", "raw_input"},
    {"builtins", "__import__"}, {"builtins", "getattr"}, {"builtins", "setattr"},
    {"builtins", "delattr"}, {"builtins", "globals"}, {"builtins", "locals"},
    {"builtins", "vars"}, {"builtins", "apply"}, {"builtins", "breakpoint"},
    {"builtins", "reload"}, {"builtins", "map"}, {"builtins", "filter"}, {"builtins", "help"},
    {"io", "open"}, {"io", "FileIO"}, {"io", "open_code"}, {"codecs", "open"}, {"_io", "open"}, {"_io", "FileIO"},
    {"_io", "open_code"}, {"logging", "FileHandler"}, {"builtins", "super"}, {"builtins", "classmethod"}, {"builtins", "property"},
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
    {"zoneinfo", NULL}, {"array", "array"}, {"array", "_array_reconstructor"}, {"re", "_compile"},
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

/* "core._internal.sys.modules", "os.system" of torch, "__builtins__" of anything: what a name
 * leads to by attributes. */
static bool has_bad_part(const char *name)
{
    static const char *const doors[] = { "os", "posix", "nt", "sys", "subprocess", "builtins", "importlib", "shutil", "ctypes",
                                         "socket", "runpy", "pty", "commands" };
    for (const char *part = name; ; part++) {
        const size_t len = strcspn(part, ".");
        for (size_t i = 0; i < sizeof doors / sizeof *doors; i++)
            if (strlen(doors[i]) == len && !memcmp(part, doors[i], len))
                return true;
        if (len > 4 && !memcmp(part, "__", 2) && !memcmp(part + len - 2, "__", 2))
            return true;
        part += len;
        if (!*part)
            return false;
    }
}

static bool is_bad(const char *module, const char *name)
{
    for (size_t i = 0; i < sizeof bad_modules / sizeof *bad_modules; i++)
        if (is_below(module, bad_modules[i]))
            return true;
    for (size_t i = 0; i < sizeof bad_names / sizeof *bad_names; i++)
        if (!strcmp(module, bad_names[i].module) && !strcmp(name, bad_names[i].name))
            return true;
    const char *below = strchr(module, '.');
    return (below && has_bad_part(below + 1)) || has_bad_part(name);
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

/* ---- in use ---------------------------------------------------------------------------------- */

/* Modules of Python's own library, up to version 3.13 and with those taken out of it since 3.8. */
static const char *const python_modules[] = {
    "__future__", "_abc", "_aix_support", "_ast", "_asyncio", "_bisect", "_blake2", "_bootlocale",
    "_bootsubprocess", "_bz2", "_codecs", "_codecs_cn", "_codecs_hk", "_codecs_iso2022", "_codecs_jp", "_codecs_kr",
    "_codecs_tw", "_collections", "_collections_abc", "_compat_pickle", "_compression", "_contextvars", "_crypt",
    "_csv", "_ctypes", "_curses", "_curses_panel", "_datetime", "_dbm", "_decimal", "_dummy_thread", "_elementtree",
    "_frozen_importlib", "_frozen_importlib_external", "_functools", "_gdbm", "_hashlib", "_heapq", "_imp", "_io",
    "_json", "_locale", "_lsprof", "_lzma", "_markupbase", "_md5", "_msi", "_multibytecodec", "_multiprocessing",
    "_opcode", "_operator", "_osx_support", "_overlapped", "_pickle", "_posixshmem", "_posixsubprocess", "_py_abc",
    "_pydecimal", "_pyio", "_queue", "_random", "_scproxy", "_sha1", "_sha256", "_sha3", "_sha512", "_signal",
    "_sitebuiltins", "_socket", "_sqlite3", "_sre", "_ssl", "_stat", "_statistics", "_string", "_strptime",
    "_struct", "_symtable", "_thread", "_threading_local", "_tkinter", "_tokenize", "_tracemalloc", "_typing",
    "_uuid", "_warnings", "_weakref", "_weakrefset", "_winapi", "_zoneinfo", "abc", "aifc", "antigravity",
    "argparse", "array", "ast", "asynchat", "asyncio", "asyncore", "atexit", "audioop", "base64", "bdb", "binascii",
    "bisect", "builtins", "bz2", "cProfile", "calendar", "cgi", "cgitb", "chunk", "cmath", "cmd", "code", "codecs",
    "codeop", "collections", "colorsys", "compileall", "concurrent", "configparser", "contextlib", "contextvars",
    "copy", "copyreg", "crypt", "csv", "ctypes", "curses", "dataclasses", "datetime", "dbm", "decimal", "difflib",
    "dis", "distutils", "doctest", "dummy_threading", "email", "encodings", "ensurepip", "enum", "errno",
    "faulthandler", "fcntl", "filecmp", "fileinput", "fnmatch", "formatter", "fractions", "ftplib", "functools",
    "gc", "genericpath", "getopt", "getpass", "gettext", "glob", "graphlib", "grp", "gzip", "hashlib", "heapq",
    "hmac", "html", "http", "idlelib", "imaplib", "imghdr", "imp", "importlib", "inspect", "io", "ipaddress",
    "itertools", "json", "keyword", "lib2to3", "linecache", "locale", "logging", "lzma", "macpath", "mailbox",
    "mailcap", "marshal", "math", "mimetypes", "mmap", "modulefinder", "msilib", "msvcrt", "multiprocessing",
    "netrc", "nis", "nntplib", "nt", "ntpath", "nturl2path", "numbers", "opcode", "operator", "optparse", "os",
    "ossaudiodev", "parser", "pathlib", "pdb", "pickle", "pickletools", "pipes", "pkgutil", "platform", "plistlib",
    "poplib", "posix", "posixpath", "pprint", "profile", "pstats", "pty", "pwd", "py_compile", "pyclbr", "pydoc",
    "pydoc_data", "pyexpat", "queue", "quopri", "random", "re", "readline", "reprlib", "resource", "rlcompleter",
    "runpy", "sched", "secrets", "select", "selectors", "shelve", "shlex", "shutil", "signal", "site", "smtpd",
    "smtplib", "sndhdr", "socket", "socketserver", "spwd", "sqlite3", "sre_compile", "sre_constants", "sre_parse",
    "ssl", "stat", "statistics", "string", "stringprep", "struct", "subprocess", "sunau", "symbol", "symtable",
    "sys", "sysconfig", "syslog", "tabnanny", "tarfile", "telnetlib", "tempfile", "termios", "textwrap", "this",
    "threading", "time", "timeit", "tkinter", "token", "tokenize", "tomllib", "trace", "traceback", "tracemalloc",
    "tty", "turtle", "turtledemo", "types", "typing", "unicodedata", "unittest", "urllib", "uu", "uuid", "venv",
    "warnings", "wave", "weakref", "webbrowser", "winreg", "winsound", "wsgiref", "xdrlib", "xml", "xmlrpc",
    "zipapp", "zipfile", "zipimport", "zlib", "zoneinfo",
};
/* Packages that everybody has who loads a checkpoint. */
static const char *const large_packages[] = {
    "torch", "torchvision", "torchaudio", "functorch", "numpy", "scipy", "pandas", "sklearn", "matplotlib", "transformers",
    "huggingface_hub", "tokenizers", "safetensors", "datasets", "tensorflow", "keras", "jax", "onnx", "onnxruntime", "triton",
};

static bool is_of(const char *module, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (is_below(module, list[i]))
            return true;
    return false;
}

/* A function by its name: the last part is no Class. What rebuilds objects says so. */
static bool is_function(const char *module, const char *name)
{
    const char *last = strrchr(name, '.');
    last = last ? last + 1 : name;
    if (!strcmp(module, "builtins") && !strcmp(name, "type"))    /* type(None), as pickle writes it */
        return false;
    const bool python = is_of(module, python_modules, sizeof python_modules / sizeof *python_modules);
    if (!python && !is_of(module, large_packages, sizeof large_packages / sizeof *large_packages))
        return false;
    if (!python && (sl_text_starts(last, "_rebuild") || sl_text_starts(last, "_reconstruct") || sl_text_starts(last, "_unpickle")))
        return false;
    last += strspn(last, "_");
    return *last >= 'a' && *last <= 'z';
}

int sl_harm_risks(const struct sl_pickle *p, struct sl_arena *arena, int *risks)
{
    bool *called = SL_ARENA_NEW(arena, bool, (uint64_t)p->count + 1);
    if (!called)
        return SL_MEMORY;
    for (sl_node_id id = 1; id <= p->count; id++) {
        const struct sl_node *n = &p->nodes[id];
        if (n->kind == SL_NODE_CALL && (n->u.call.how == SL_CALL_REDUCE || n->u.call.how == SL_CALL_INST) && n->u.call.callable <= p->count)
            called[n->u.call.callable] = true;
    }
    for (uint32_t i = 0; i < p->global_count; i++) {
        const struct sl_node *n = &p->nodes[p->globals[i]];
        const char *module = n->u.global.module, *name = n->u.global.name;
        risks[i] = sl_pickle_global_risk(module, name);
        if (n->later || (risks[i] == 1 && called[p->globals[i]] && is_function(module, name)))
            risks[i] = 2;
    }
    return SL_OK;
}

/* ---- pickles in bytes ----------------------------------------------------------------------------- */

static int add_name(struct sl_harm *h, const struct sl_node *n)
{
    if (h->count == sizeof h->names / sizeof *h->names)
        return SL_OK;
    const char *name = sl_arena_printf(h->arena, "%s.%s (in bytes that hold a pickle)", n->u.global.module, n->u.global.name);
    if (!name)
        return SL_MEMORY;
    for (uint32_t i = 0; i < h->count; i++)
        if (!strcmp(h->names[i], name))
            return SL_OK;
    h->names[h->count++] = name;
    return SL_OK;
}

/* Bytes within the bytes wait for their turn: no recursion, and a bounded number of them. */
struct waiting { struct { const char *s; size_t len; } at[SL_HARM_INSIDE]; uint32_t first, count; };

static void queue(struct waiting *w, const char *s, size_t len)
{
    if (w->count < SL_HARM_INSIDE)
        w->at[w->count].s = s, w->at[w->count++].len = len;
}

/* data.pkl of a torch archive: stored, as torch.save does. Source: APPNOTE.TXT 4.3.7. */
static void find_in_zip(struct waiting *w, const char *s, size_t len)
{
    for (const char *p = s; (p = memmem(p, len - (size_t)(p - s), "PK\3\4", 4)); p += 4) {
        const unsigned char *l = (const unsigned char *)p;
        const size_t left = len - (size_t)(p - s);
        if (left < 30)
            return;
        const size_t name_len = l[26] | (size_t)l[27] << 8, begin = 30 + name_len + (l[28] | (size_t)l[29] << 8);
        if (begin < left && name_len >= 8 && !memcmp(p + 30 + name_len - 8, "data.pkl", 8))
            queue(w, p + begin, left - begin);
    }
}

static bool could_be_pickle(const char *s, size_t len)
{
    return len >= 4 && (((unsigned char)s[0] == 0x80 && s[1] >= 0 && s[1] <= 5) || ((s[0] == 'c' || s[0] == '(') && memchr(s, '\n', len)));
}

static int look_at(struct sl_harm *h, struct waiting *w, struct torch_reader *r, const char *s, size_t len)
{
    int *risks;
    const bool cut = sl_pickle_parse(s, len, "", &r->scratch, &r->pickle, NULL) != SL_OK;
    risks = SL_ARENA_NEW(&r->scratch, int, r->pickle.global_count);
    if (!risks || sl_harm_risks(&r->pickle, &r->scratch, risks))
        return SL_OK;                        /* more than may be spent on it */
    for (uint32_t i = 0; i < r->pickle.global_count; i++)
        if (risks[i] == 2 && add_name(h, &r->pickle.nodes[r->pickle.globals[i]]))
            return SL_MEMORY;
    for (sl_node_id id = 1; id <= r->pickle.count && !cut; id++) {
        const enum sl_node_kind kind = r->pickle.nodes[id].kind;
        const char *inside;
        size_t inside_len;
        if ((kind == SL_NODE_BYTES || kind == SL_NODE_BYTEARRAY || kind == SL_NODE_CALL) && torch_bytes(r, id, &inside, &inside_len) && inside_len)
            queue(w, inside, inside_len);
    }
    return SL_OK;
}

int sl_harm_look_inside(struct sl_harm *h, const char *s, size_t len)
{
    struct waiting w = { .count = 0 };
    struct torch_reader r = { .scratch = { .limit = SL_HARM_MEMORY } };
    int code = SL_OK;
    queue(&w, s, len);
    while (w.first < w.count && !code) {
        s = w.at[w.first].s, len = w.at[w.first++].len;
        r.pickle = (struct sl_pickle){ .count = 0 };
        if (len >= 4 && !memcmp(s, "PK\3\4", 4))
            find_in_zip(&w, s, len);
        else if (could_be_pickle(s, len))
            code = look_at(h, &w, &r, s, len);
    }
    sl_arena_free(&r.scratch);
    return code;
}
