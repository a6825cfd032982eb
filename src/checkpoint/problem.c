/* problem.c: the table of everything that can be wrong, and lists of findings. */
#include "checkpoint/problem.h"

#include "base/text.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define E SL_ERROR
#define W SL_WARNING
#define N SL_NOTE

/* Code, title, what it means, what to do, severity. Codes are promised to
 * scripts: a row may be added and reworded, a code never changes its meaning.
 * In the order of docs/problems.md: the set, one file, ranks against each
 * other, layers and experts, what args say, values, Hugging Face, security. */
const struct sl_problem_code sl_problem_table[] = {
    /* the set of files */
    { "tracker", "The tracker file and the folders disagree",
      "latest_checkpointed_iteration.txt is missing, can't be read, or names an iteration whose folder is not there. "
      "Megatron writes it last: without it Megatron starts from random weights.",
      "Open the iteration folder you mean. Write its number (or the word release) into "
      "latest_checkpointed_iteration.txt before Megatron is to load it.", W },
    { "newer-iteration", "An iteration is newer than the one the tracker names",
      "The save after the tracked one may not have been finished: the tracker is written after all ranks have saved.",
      "To look at the newer one, open its folder.", N },
    { "missing-rank", "A rank folder or its file is missing",
      "The names of the other folders, or args, say that this rank exists. Its rows, layers or experts are in no other "
      "file (replicated tensors are).",
      "Copy the folder from where the checkpoint was written. If the job died while saving, go back to the iteration before.", E },
    { "extra-rank", "A rank folder that does not belong to the set",
      "Its number is outside the parallel sizes, its name has another form than the others, or its file is of another "
      "layout: usually left over from a save at other sizes into the same folder.",
      "Move it out of the folder.", E },
    { "duplicate-rank", "Two folders are the same rank",
      "Names such as mp_rank_0 and mp_rank_00 mean the same rank.", "Keep the one that the save wrote; move the other away.", E },
    { "one-rank", "Only one rank was opened",
      "The path is one rank folder (or its file). What it holds is shown as it is; the other ranks beside it were not read.",
      "Open the folder above it to see the whole checkpoint.", N },
    { "one-file", "Only one of several shard files was opened",
      "The path is one file of a model that is stored in several.", "Open its folder to see the whole checkpoint.", N },
    { "extra-file", "A file that is not part of the checkpoint",
      "It lies beside the shards, but no index or naming rule makes it one of them. It was not read.",
      "Nothing, if you know what it is; else move it away.", N },

    { "missing-file", "A file of a distributed checkpoint is missing",
      ".metadata names it, and chunks of tensors are in it.",
      "Copy the file from where the checkpoint was written. If the job died while saving, go back to the iteration before.", E },
    { "dist-marker", "metadata.json is missing",
      "Megatron writes it last and does not take a folder without it for a distributed checkpoint: the save was interrupted "
      "right at its end, or the file was lost. What .metadata names may be whole all the same.",
      "If check finds nothing else, write {\"sharded_backend\": \"torch_dist\", \"sharded_backend_version\": 1} into metadata.json; "
      "else use the iteration before.", E },
    { "chunk-missing", "A part of an array is in no chunk",
      "The chunks of a distributed checkpoint together must cover each array. Megatron does not look when it loads: the part "
      "would be memory that was never written.",
      "The checkpoint is incomplete: take it again from where it was saved, or use the iteration before.", E },
    { "chunk-overlap", "Two chunks hold the same part of an array",
      "Each element is stored once; which of two chunks is right, nothing says.",
      "The save is broken or files of two saves were mixed: use the iteration before.", E },
    { "chunk-outside", "A chunk lies outside of its array",
      "Its offset and size go beyond the shape that .metadata gives the array.", "The .metadata is broken: use the iteration before.", E },
    { "state-incomplete", "State of the optimizer or of modules is incomplete",
      "Chunks or objects of a distributed checkpoint that are no weights are missing, cut off or overlap. Weights are not touched.",
      "Training can't be continued from it as it was; converting the weights works.", W },

    /* one file */
    { "damaged-shard", "A shard can't be read",
      "The file is not what its name says, or its directory, object or records contradict each other. Nothing of it is used.",
      "Copy the file again from its source and compare checksums.", E },
    { "unreadable-shard", "A shard may not be read",
      "The file is there, and its permissions or those of its folder keep this user from reading it. Nothing is known of what it holds.",
      "Ask its owner to let you read it (chmod a+r), or run as a user who may.", E },
    { "truncated-shard", "A shard is shorter than it was",
      "The file ends before its contents do, and its siblings are longer: an interrupted copy or a full disk.",
      "Copy the file again from its source.", E },
    { "unreadable-tensor", "A tensor has no bytes that can be read",
      "Its storage is not in the file, or it is of a form (sparse, meta, conjugated view) that is not read as plain numbers.",
      "Save it again as an ordinary dense tensor.", E },
    { "crc", "The bytes of a record do not match its checksum",
      "Something changed the data after it was written: a bad disk, memory or copy.",
      "Copy the file again from its source. The tensors named are not to be trusted.", E },
    { "integrity", "A file is not what integrity.json says",
      "Its SHA-256 is not the one that Megatron wrote when it saved the file, or the file is gone.",
      "Copy the file again from its source. What is in it is not to be trusted.", E },
    { "crc-missing", "The file has no checksums",
      "It was written with torch.serialization.set_crc32_options(False), or by a tool that leaves them out: damage in its "
      "data can't be found by check.",
      "Nothing. Keep a checksum of your own of such files.", N },
    { "source-changed", "A source file changed while it was read",
      "Its size, time or identity differs from when it was opened.", "Wait until nothing writes to the checkpoint, then start again.", E },
    { "optimizer-ignored", "Optimizer state is not converted",
      "It is listed, but belongs to the layout that it was saved at.", "Nothing. Training from the converted weights starts with a fresh optimizer.", N },

    /* ranks against each other */
    { "mixed-iteration", "Ranks are of different iterations",
      "The number inside a file differs from the others, or from the folder's name: a save that was interrupted, or files "
      "of two saves copied together.",
      "Take all ranks of one iteration.", E },
    { "mixed-version", "Ranks have different checkpoint versions",
      "The version decides how rows of query, key and value are ordered in old files.", "Take all ranks of one save.", E },
    { "args-differ", "Ranks were saved with different arguments",
      "Not in a field that decides shapes; the files may be of two runs.", "Look whether the ranks named are of the same run.", W },
    { "args-shape-differ", "Ranks were saved with different model sizes",
      "A field that decides shapes or the parallel layout differs between ranks: the files are of different models or layouts.",
      "Take all ranks of one save.", E },
    { "keys-differ", "A rank has other tensors than its siblings",
      "All tensor and expert parallel ranks of a pipeline stage hold the same names.",
      "Look at the rank named: it is of another save, another model, or was edited.", E },
    { "shape-differs", "A tensor has another shape than on its siblings",
      "Shards of one tensor have one shape on all ranks of a stage.",
      "Look at the rank named: a whole tensor saved as a shard, or a file of another layout.", E },
    { "dtype-differs", "A tensor has another element type than on its siblings",
      "Shards of one tensor have one type on all ranks of a stage.", "Look at the rank named; convert with --dtype to make them one.", E },
    { "chunk-mixture", "Virtual pipeline chunks are incomplete or mixed",
      "With virtual stages every file holds model0, model1, ..; a file without some of them, or with model beside model0, "
      "does not say where its layers belong.",
      "Take all ranks of one save.", E },
    { "stage-order", "A stage holds what belongs to another",
      "The embedding belongs to the first pipeline stage, the final norm to the last.",
      "Look whether rank folders were renamed or swapped.", E },
    { "shards-identical", "Two shards of a split tensor hold the same bytes",
      "Different ranks hold different parts; equal bytes mean that one file was copied over another. An error when that is so for "
      "all shards of the rank.",
      "Compare the files named and copy the right one again.", W },
    { "replica-differs", "A replicated tensor differs between ranks",
      "Norms, routers and biases of row-parallel layers are the same on every tensor parallel rank, and all but experts on "
      "every expert parallel rank.",
      "The first rank is used. A small difference is a known drift of training; a large one means that ranks are of different saves.", W },
    { "tie-differs", "The copies of a tied embedding differ",
      "The output layer on the last stage should equal the embedding on the first.",
      "If the model is not tied, say --set untie_embeddings_and_output_weights=true; else the files are of different saves.", E },

    /* layers, experts */
    { "layer-gap", "A layer is missing or numbered twice",
      "Layers of a chunk are numbered from 0 without holes.", "Find the rank that should hold it.", E },
    { "layer-count", "The number of layers is not what args say",
      "The stages together hold more or fewer layers.", "Look for a missing stage, or for args of another model.", E },
    { "layer-incomplete", "A weight of the model is in no tensor",
      "The family has it, and every file that should hold it was read.",
      "Look whether the tensor was renamed or left out when the file was written; conversion is refused without it.", E },
    { "expert-count", "Experts are missing or doubled",
      "Each expert parallel rank holds the same number of experts, together all of them.", "Find the rank that should hold them.", E },

    /* meaning */
    { "unknown-tensor", "No rule knows this tensor",
      "The family's description has no place for the name: it is listed and not converted.",
      "If it is a weight, describe it in a family file (--family-file).", W },
    { "shape-unexpected", "A tensor's shape does not fit the model",
      "The family's rules, with the sizes found elsewhere, give another shape.",
      "Look whether the sizes (inspect) are right; state the wrong one with --set.", E },
    { "head-size-unknown", "The head size can't be read from the shapes",
      "Only its product with the number of heads can.", "State it: --set kv_channels=64 (or the number that it is).", W },
    { "family-ambiguous", "More than one family fits",
      "Their tensors are the same; they differ in numbers that only the configuration tells.", "State it with --model.", W },
    { "family-unknown", "No family fits",
      "The names or shapes are of no model that is described here. Listing, statistics and checks work; conversion to another "
      "layout does not.",
      "Describe it in a family file (--family-file), or state the nearest family with --model.", W },
    { "config-contradiction", "What is stated contradicts the tensors",
      "args, config.json or the preset gives another number than the shapes. The tensors are believed.",
      "Correct what is stated, or look whether a file is of another model.", E },
    { "config-differs", "Two statements differ, and one of them is used",
      "A preset, the config.json of --hf-config or an argument says otherwise than what is believed more; the message says "
      "which value is used.",
      "Nothing, if the value used is right; else state it with --set.", N },
    { "config-missing", "A value is needed that nothing tells",
      "It is in no tensor, and neither args nor config.json has it.", "State it with --set NAME=VALUE.", W },
    { "config-damaged", "config.json or another JSON file can't be read",
      "It is not JSON, or not what the name promises.", "Get the file again; the tensors are shown without it.", W },
    { "vocab-unknown", "The true vocabulary size is not known",
      "Megatron pads the embedding; the rows that are padding can't be told from the others.",
      "Give --hf-config DIR or --set vocab_size=N, or keep the padding.", N },
    { "padding", "Vocabulary rows beyond the true size",
      "They are padding of Megatron's and hold no tokens.", "Nothing: they are left out of a Hugging Face target.", N },
    { "padding-not-constant", "Padding rows hold different values",
      "Rows beyond the true vocabulary are zero, all the same, or what they were at random when training began; different "
      "ones may also be tokens of a vocabulary that is larger than is said.",
      "Look whether vocab_size is right.", N },
    { "dtype-widened", "Layers of different element types become one array",
      "A distributed checkpoint keeps all layers of a weight in one array of one type: the wider one, which loses nothing.",
      "Nothing. --dtype makes all weights one type.", N },
    { "arithmetic", "Weights are computed, not only moved",
      "The two sides store them in different forms: norm weights around zero on one, around one on the other. A sum is "
      "rounded to the target's type.",
      "Nothing, if the form is meant so. Megatron's is what apply_layernorm_1p says: with the form of the source "
      "(--set apply_layernorm_1p=true or false) the weights are moved bit by bit.", N },
    { "fp8-blocks", "Weights are 8-bit floats with factors of blocks",
      "They are read as the products, in fp32: bf16 where nothing else is asked for, as their publisher's own script makes of them. "
      "What is written has neither the 8-bit floats nor the factors, so it does not convert back to them.",
      "Nothing. --dtype fp32 keeps every product as it is.", N },
    { "uneven-stages", "Pipeline stages hold different numbers of layers",
      "That is allowed, and a note where args ask for it. Where args say nothing of it, it is a warning.",
      "Nothing, if it is meant so; Megatron must be told the lengths to load it.", N },

    /* values */
    { "nan", "NaN values", "The tensor holds values that are not numbers.", "The training run diverged or the data is damaged; use an earlier iteration.", E },
    { "inf", "Infinite values", "The tensor holds infinities.", "An overflow in training or in a cast; use an earlier iteration.", E },
    { "all-zero", "A weight is all zeros", "Every element is zero. For a bias, and a norm whose weight is added to one, that is only a note.",
      "Fine for a bias that was never trained; else the tensor was never written.", W },
    { "constant", "A weight is constant", "Every element has the same value. For a matrix that is a warning.",
      "Fine for norms that were never trained; else the tensor was never written.", N },
    { "outlier", "A weight is much larger or smaller than its siblings",
      "Its root mean square is more than 20 times (a vector's: 100 times) the median of the same tensor in the other layers, or "
      "less than that part of it. Told of models with four layers or more.",
      "Look at it with show.", W },
    { "bf16-in-fp32", "fp32 tensors hold only bf16 values",
      "The lower 16 bits of all their elements are zero: the weights were bf16 once.",
      "Convert with --dtype bf16 to halve the size; not one value changes.", N },

    /* Hugging Face, safetensors */
    { "hf-missing-file", "A shard file of the index is missing",
      "The index names a file that is not in the folder.", "Download it (huggingface-cli download resumes).", E },
    { "index-mismatch", "The index and the files disagree",
      "A tensor is in another file than the index says, or in only one of the two.", "The files are believed. Get the index again.", E },
    { "duplicate-tensor", "A tensor is in two files",
      "Which of the two a loader takes is not defined.", "Remove the file that does not belong to the set.", E },

    /* security */
    { "pickle-call", "The file asks for code to be run",
      "Its pickle names functions that can do harm when torch.load(weights_only=False) opens it. shardlens ran nothing.",
      "Do not load the file with torch.load or Megatron unless you know who made it and why.", E },
    { "pickle-unknown", "Classes that are not known",
      "The pickle names classes that do not usually occur in checkpoints. They are shown and never made.",
      "Nothing, if they are of your own training code.", N },

    /* the other side */
    { "leftover", "Left over from an interrupted run",
      "A partial target or journal of a conversion lies in the checkpoint's folder, or beside it under its name. A warning when it "
      "is itself what was opened.",
      "Go on with --resume, or remove it.", N },
    { "unsupported", "Recognised, but not supported",
      "The message says what the model is or has that this version has no rules for. Listing, statistics and checks work; "
      "conversion to another layout does not.",
      "Describe it in a family file (--family-file), or convert it with the tool it comes from.", W },
};
const size_t sl_problem_table_count = sizeof sl_problem_table / sizeof *sl_problem_table;

#undef E
#undef W
#undef N

static const struct sl_problem_code *row_of(const char *code)
{
    for (size_t i = 0; i < sl_problem_table_count; i++)
        if (!strcmp(sl_problem_table[i].code, code))
            return &sl_problem_table[i];
    assert(false && "a problem code that is not in the table");
    return NULL;
}

/* A printable copy in the arena; "" for NULL or when memory is out. */
static const char *keep(struct sl_arena *arena, const char *text)
{
    if (!text || !*text)
        return "";
    struct sl_buf made = { 0 };
    sl_buf_printable(&made, text, strlen(text));
    const char *kept = made.failed || !made.data ? NULL : sl_arena_strn(arena, made.data, made.len);
    sl_buf_free(&made);
    return kept ? kept : "";
}

/* Room for one more; false when memory is out (the finding is dropped: what
 * ran out of memory fails by itself soon after). */
static bool make_room(struct sl_problems *p)
{
    if (p->count < p->room)
        return true;
    const size_t room = p->room ? 2 * p->room : 16;
    struct sl_problem *items = SL_ARENA_NEW(p->arena, struct sl_problem, room);
    if (!items)
        return false;
    if (p->count)
        memcpy(items, p->items, p->count * sizeof *items);
    p->items = items;
    p->room = room;
    return true;
}

void sl_problem_add(struct sl_problems *p, const char *code, const char *where,
                    const struct sl_problem_text *more, const char *format, ...)
{
    const struct sl_problem_code *row = row_of(code);
    if (!row || !make_room(p))
        return;

    struct sl_buf message = { 0 };
    va_list args;
    va_start(args, format);
    sl_buf_vprintf(&message, format, args);
    va_end(args);

    p->items[p->count++] = (struct sl_problem){
        .severity = row->severity,
        .code = row->code,
        .where = keep(p->arena, where),
        .message = keep(p->arena, message.failed ? row->title : message.data),
        .expected = keep(p->arena, more ? more->expected : NULL),
        .cause = keep(p->arena, more ? more->cause : NULL),
        .damage = keep(p->arena, more ? more->damage : NULL),
        .next = keep(p->arena, more && more->next ? more->next : row->advice),
    };
    sl_buf_free(&message);
}

void sl_problems_copy(struct sl_problems *p, const struct sl_problems *from)
{
    for (size_t i = 0; i < from->count; i++) {
        const struct sl_problem *f = &from->items[i];
        if (!make_room(p))
            return;
        p->items[p->count++] = (struct sl_problem){
            .severity = f->severity,
            .code = f->code,
            .where = keep(p->arena, f->where),
            .message = keep(p->arena, f->message),
            .expected = keep(p->arena, f->expected),
            .cause = keep(p->arena, f->cause),
            .damage = keep(p->arena, f->damage),
            .next = keep(p->arena, f->next),
        };
    }
}

/* Counting sort by severity: stable, and no comparison function needs the place. */
void sl_problems_sort(struct sl_problems *p)
{
    if (p->count < 2)
        return;
    struct sl_problem *sorted = malloc(p->count * sizeof *sorted);
    if (!sorted)
        return;
    size_t at = 0;
    for (int severity = SL_ERROR; severity >= SL_NOTE; severity--)
        for (size_t i = 0; i < p->count; i++)
            if ((int)p->items[i].severity == severity)
                sorted[at++] = p->items[i];
    memcpy(p->items, sorted, p->count * sizeof *sorted);
    free(sorted);
}

bool sl_problems_have(const struct sl_problems *p, enum sl_severity at_least)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->items[i].severity >= at_least)
            return true;
    return false;
}
