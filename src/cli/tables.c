/* tables.c: every command and every option, once. */
#include "cli/cli.h"
#include <string.h>

const struct command_row command_rows[] = {
    { "inspect", IN_INSPECT, "PATH", 1, 1, "what is this: model, size, parallel layout, ranks, problems",
      "Reads headers only. Exits 3 when shards are damaged or missing.", command_inspect },
    { "ls", IN_LS, "PATH [PATTERN]", 1, 2, "the tensors: name, dtype, shape, bytes, rank, file",
      "PATTERN is a glob on the name, as stored or with the global layer number.", command_ls },
    { "show", IN_SHOW, "PATH TENSOR", 2, 2, "one tensor: where it lies, statistics, histogram, values",
      "TENSOR is a stored name, a name with the global layer number, or a Hugging Face name.", command_show },
    { "check", IN_CHECK, "PATH", 1, 1, "validate the whole set of shards",
      "Reads headers; --deep reads the data too. Exits 1 when errors were found.", command_check },
    { "plan", IN_PLAN, "SRC [DST]", 1, 2, "preview how every tensor will be mapped; writes nothing",
      "Every target tensor with the pieces it is made of, what is left out and why, and the cost.", command_plan },
    { "convert", IN_CONVERT, "SRC DST", 2, 2, "plan, prove, write, verify, report",
      "DST appears whole or not at all. An interrupted run goes on with --resume.", command_convert },
    { "verify", IN_VERIFY, "A B", 2, 2, "do two checkpoints hold the same weights, bit for bit",
      "The two may be in different layouts. Exits 1 when they differ.", command_verify },
    { "diff", IN_DIFF, "A B", 2, 2, "per weight: equal, or how far apart; and configuration differences",
      "The two may be in different layouts. Exits 1 when they differ.", command_diff },
    { "batch", IN_BATCH, "FILE", 1, 1, "run the conversions listed in a JSON or YAML file",
      "A failed conversion does not stop the others; the exit status is the worst of them.", command_batch },
    { "attach", IN_ATTACH, "DST", 1, 1, "show a conversion that another process runs",
      "DST is the target of that conversion. Without a terminal: once, as text. It goes on whether watched or not.", command_attach },
    { "models", IN_MODELS, "[NAME]", 0, 1, "the families and known models (presets), with their sources",
      "NAME is a word for --model, or a family. With --check a family file is tried instead; exits 1 when it is wrong.", command_models },
    { "demo", IN_DEMO, "DIR", 1, 1, "write a small sample checkpoint to play with",
      "DIR must not exist, or be empty.", command_demo },
    { "manual", IN_MANUAL, "", 0, 0, "print the man page (roff)", "", command_manual },
    { "completions", IN_COMPLETIONS, "SHELL", 1, 1, "print completions for bash, zsh or fish", "", command_completions },
};
const size_t command_row_count = sizeof command_rows / sizeof command_rows[0];

#define TARGETING (IN_PLAN | IN_CONVERT)
#define RUNNING (IN_CONVERT | IN_VERIFY | IN_DIFF)

const struct option_row option_rows[] = {
    { OPT_HELP, "help", 'h', KIND_FLAG, NULL, 0, 0, IN_ALL, "show this help" },
    { OPT_VERSION, "version", 'V', KIND_FLAG, NULL, 0, 0, IN_TUI, "show the version" },
    { OPT_JSON, "json", 'j', KIND_FLAG, NULL, 0, 0, IN_INSPECT | IN_LS | IN_SHOW | IN_CHECK | IN_PLAN | IN_CONVERT | IN_VERIFY | IN_MODELS | IN_DIFF | IN_BATCH | IN_ATTACH,
      "one JSON document on standard output" },
    { OPT_UTC, "utc", 0, KIND_FLAG, NULL, 0, 0, IN_INSPECT, "times in UTC (default: local time)" },
    { OPT_ASCII, "ascii", 'A', KIND_FLAG, NULL, 0, 0, IN_TUI | IN_ATTACH, "draw with ASCII only" },
    { OPT_MONO, "mono", 0, KIND_FLAG, NULL, 0, 0, IN_TUI, "no colours, as with NO_COLOR" },
    { OPT_THEME, "theme", 0, KIND_CHOICE, "dark|light|contrast|safe", 0, 0, IN_TUI, "colours for a dark or a light terminal, strong ones, or blue and yellow (default dark)" },
    { OPT_PLAIN, "plain", 0, KIND_FLAG, NULL, 0, 0, IN_TUI, "lines instead of a screen, for screen readers: keys on standard input, a line each" },
    { OPT_SLOW_LINE, "slow-line", 'q', KIND_FLAG, NULL, 0, 0, IN_TUI, "at most two redraws a second, for slow lines" },
    { OPT_SCRIPT, "script", 0, KIND_TEXT, "FILE", 0, 0, IN_TUI, "press the keys in FILE without a terminal and print the last screen (docs/keys.md)" },
    { OPT_SCREEN, "size", 0, KIND_TEXT, "COLSxROWS", 0, 0, IN_TUI, "the size of that screen (default 80x24)" },
    { OPT_DUMP, "dump", 0, KIND_TEXT, "FILE", 0, 0, IN_TUI, "write that screen to a new file" },

    { OPT_TO, "to", 't', KIND_CHOICE, "hf|hf-bin|pt|megatron|torch_dist", 0, 0, TARGETING,
      "target format (default: pt where DST ends in .pt or .bin; hf for Megatron input)" },
    { OPT_MODEL, "model", 'm', KIND_TEXT, "NAME", 0, 0, IN_OPENING,
      "family or preset to take from where the checkpoint says nothing (see models)" },
    { OPT_SET, "set", 's', KIND_LIST, "KEY=VALUE", 0, 0, IN_OPENING,
      "state a hyperparameter by its Megatron argument name" },
    { OPT_FAMILY_FILE, "family-file", 0, KIND_TEXT, "FILE", 0, 0, IN_OPENING, "one more family description" },
    { OPT_HF_CONFIG, "hf-config", 0, KIND_TEXT, "DIR", 0, 0, IN_OPENING,
      "folder with config.json and tokenizer files to carry over; its vocab_size trims padding" },
    { OPT_DTYPE, "dtype", 'd', KIND_CHOICE, "keep|bf16|fp16|fp32", 0, 0, TARGETING, "dtype of floating weights (default keep)" },
    { OPT_MAX_SHARD_SIZE, "max-shard-size", 0, KIND_SIZE, "SIZE", 0, 0, TARGETING, "largest output file (default 5GB)" },
    { OPT_TP, "tp", 0, KIND_NUMBER, "N", 1, 4096, TARGETING | IN_DEMO, "tensor parallel size of a Megatron target" },
    { OPT_PP, "pp", 0, KIND_NUMBER, "N", 1, 4096, TARGETING | IN_DEMO, "pipeline parallel size of a Megatron target" },
    { OPT_VPP, "vpp", 0, KIND_NUMBER, "N", 1, 4096, TARGETING, "virtual pipeline size of a Megatron target" },
    { OPT_EP, "ep", 0, KIND_NUMBER, "N", 1, 4096, TARGETING | IN_DEMO, "expert parallel size of a Megatron target" },
    { OPT_ETP, "etp", 0, KIND_NUMBER, "N", 1, 4096, TARGETING, "expert tensor parallel size (default as --tp)" },
    { OPT_PP_LAYOUT, "pp-layout", 0, KIND_TEXT, "LIST", 0, 0, TARGETING, "layers per pipeline stage, as 7,8,8,9 (default even)" },
    { OPT_NAMES, "names", 0, KIND_CHOICE, "te|local", 0, 0, TARGETING, "Megatron target: Transformer Engine or local names (default te)" },
    { OPT_EXPERTS, "experts", 0, KIND_CHOICE, "te-grouped|local", 0, 0, TARGETING, "Megatron target: names of experts (default te-grouped)" },
    { OPT_PAD_WITH, "pad-with", 0, KIND_CHOICE, "zero|last", 0, 0, TARGETING, "what padding rows of the vocabulary hold (default zero)" },
    { OPT_ITERATION, "iteration", 0, KIND_TEXT, "N|release", 0, 0, TARGETING, "folder a Megatron target gets (default: source's, else release)" },
    { OPT_VOCAB_DIVISOR, "make-vocab-size-divisible-by", 0, KIND_NUMBER, "N", 1, 1 << 20, TARGETING, "Megatron vocabulary padding rule (default 128)" },
    { OPT_DIST_FILES, "dist-files", 0, KIND_NUMBER, "N", 1, 100000, TARGETING, "torch_dist target: number of .distcp files (default by size)" },

    { OPT_THREADS, "threads", 0, KIND_NUMBER, "N", 1, SL_MAX_WORKERS, RUNNING | IN_PLAN | IN_CHECK, "workers (default: processors)" },
    { OPT_MEMORY, "memory", 0, KIND_SIZE, "SIZE", 0, 0, RUNNING | IN_PLAN | IN_CHECK, "buffers, all together (default 256MB)" },
    { OPT_VERIFY, "verify", 0, KIND_CHOICE, "none|checksum|reread", 0, 0, IN_CONVERT,
      "after writing: compare checksums, or read the target back and compare with the source (default reread)" },
    { OPT_RESUME, "resume", 0, KIND_FLAG, NULL, 0, 0, IN_CONVERT, "go on with an interrupted run of the same plan" },
    { OPT_PART, "part", 0, KIND_TEXT, "I/N", 0, 0, IN_CONVERT, "do one of N parts, to DST.part-I-of-N (Slurm arrays); done parts are left alone, begun ones gone on with" },
    { OPT_FINISH, "finish", 0, KIND_FLAG, NULL, 0, 0, IN_CONVERT, "make DST of its parts; with --verify, read all of it again" },
    { OPT_FORCE, "force", 'f', KIND_FLAG, NULL, 0, 0, IN_CONVERT, "replace an existing target" },
    { OPT_REPORT, "report", 0, KIND_TEXT, "FILE", 0, 0, IN_CONVERT, "validation report, - for standard output (default DST/shardlens-report.json; DST.shardlens-report.json for one file)" },
    { OPT_PROGRESS, "progress", 0, KIND_CHOICE, "auto|bar|plain|json|none", 0, 0, RUNNING | IN_CHECK | IN_BATCH, "progress on standard error (default auto)" },
    { OPT_CONFIG, "config", 'c', KIND_TEXT, "FILE", 0, 0, TARGETING, "options from a JSON or YAML file; the command line wins" },

    { OPT_RANK, "rank", 'r', KIND_TEXT, "tp=N,pp=N", 0, 0, IN_LS | IN_SHOW, "only these ranks" },
    { OPT_SORT, "sort", 0, KIND_CHOICE, "name|size|file", 0, 0, IN_LS, "order (default file)" },
    { OPT_DEEP, "deep", 0, KIND_FLAG, NULL, 0, 0, IN_CHECK, "read the data too: NaN, Inf, CRCs, replicas and ties equal" },
    { OPT_CHECK, "check", 0, KIND_TEXT, "FILE", 0, 0, IN_MODELS, "is this family file whole? says what is wrong and where" },
    { OPT_LOOK, "layout", 0, KIND_FLAG, NULL, 0, 0, IN_CHECK,
      "what the weights themselves show of QKV, gate/up and RoPE order: likely or a guess, never a proof" },
    { OPT_FAMILY, "family", 0, KIND_TEXT, "NAME", 0, 0, IN_DEMO, "minicpm (the default), llama, mistral, qwen2, qwen3, or with experts mixtral, qwen3-moe, minicpm-moe, minicpm-blockffn" },
    { OPT_LAYOUT, "layout", 0, KIND_CHOICE, "megatron|hf|torch_dist|damaged", 0, 0, IN_DEMO, "what to write (default megatron; damaged: its last file is cut off)" },
    { OPT_SEED, "seed", 0, KIND_NUMBER, "N", 0, INT64_MAX, IN_DEMO, "another seed gives other weights" },
    { OPT_SIZE, "size", 0, KIND_SIZE, "SIZE", 0, 0, IN_DEMO, "not larger than this, but for the smallest there is (default 13 MB)" },
};
const size_t option_row_count = sizeof option_rows / sizeof option_rows[0];

const struct command_row *command_find(const char *name)
{
    for (size_t i = 0; i < command_row_count; i++)
        if (strcmp(command_rows[i].name, name) == 0)
            return &command_rows[i];
    return NULL;
}
