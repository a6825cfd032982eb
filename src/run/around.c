/* around.c: what can be told of a checkpoint without its data: how layers are
 * dealt to stages, what lies beside it, whether its files are still the same.
 */
#include "run/judge.h"

#include "base/error.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/value.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- stages ----------------------------------------------------------------------------- */

#define STAGES_SHOWN 16

static bool all_ranks_read(const struct sl_ckpt *c)
{
    for (size_t i = 0; i < c->rank_count; i++)
        if (c->ranks[i].status == SL_RANK_MISSING || c->ranks[i].status == SL_RANK_DAMAGED)
            return false;
    return c->rank_count > 0;
}

static int64_t arg_int(const struct sl_ckpt *c, const char *key)
{
    int64_t n = 0;
    return sl_value_int(sl_value_get(c->args, key), &n) ? n : 0;
}

static bool arg_true(const struct sl_ckpt *c, const char *key)
{
    bool yes = false;
    return sl_value_bool(sl_value_get(c->args, key), &yes) && yes;
}

/* Did args ask for stages of these lengths? layers: of all chunks of each stage.
 * Source: Megatron-LM megatron/core/transformer/transformer_block.py (get_num_layers_to_build) */
static const char *asked_for(const struct sl_ckpt *c, const int64_t *layers, int32_t pp)
{
    const struct sl_value *layout = sl_value_get(c->args, "pipeline_model_parallel_layout");
    if (layout && layout->kind != SL_VALUE_NULL)
        return "pipeline_model_parallel_layout";
    const int64_t first = arg_int(c, "decoder_first_pipeline_num_layers"), last = arg_int(c, "decoder_last_pipeline_num_layers");
    const bool embedding = arg_true(c, "account_for_embedding_in_pipeline_split"), loss = arg_true(c, "account_for_loss_in_pipeline_split");
    if ((first && layers[0] != first) || (last && layers[pp - 1] != last) || (!first && !last && !embedding && !loss))
        return NULL;
    int64_t even = -1;
    for (int32_t i = first ? 1 : 0; i < pp - (last ? 1 : 0); i++) {
        const int64_t here = layers[i] + (i == 0 && embedding) + (i == pp - 1 && loss);
        if (even >= 0 && here != even)
            return NULL;
        even = here;
    }
    return first ? "decoder_first_pipeline_num_layers" : last ? "decoder_last_pipeline_num_layers"
         : embedding ? "account_for_embedding_in_pipeline_split" : "account_for_loss_in_pipeline_split";
}

static void tell_stages(struct judge *j, const int64_t *layers, int32_t pp)
{
    char list[STAGES_SHOWN * 12 + 8] = "", expected[160];
    size_t len = 0;
    for (int32_t i = 0; i < pp && i < STAGES_SHOWN; i++)
        len += (size_t)snprintf(list + len, sizeof list - len, "%s%" PRId64, i ? ", " : "", layers[i]);
    if (pp > STAGES_SHOWN)
        snprintf(list + len, sizeof list - len, ", ..");
    const char *why = asked_for(j->c, layers, pp);
    snprintf(expected, sizeof expected, "%s%s", why ? "these lengths: args have " : "as many layers on every stage", why ? why : "");
    const struct finding f = {
        .code = "uneven-stages", .severity = j->c->args && !why ? AS_WARNING : AS_NOTE,
        .more = { .expected = expected,
                  .cause = why ? "the run was set up so" : "another tool dealt the layers out, or files of two cuts lie in one folder",
                  .damage = "nothing as long as the number of layers is right: layers are numbered through all stages",
                  .next = why ? "Nothing." : "Compare num_layers (inspect) with what the model should have; Megatron must be told the lengths to load it." } };
    judge_tell(j, &f, "the %" PRId32 " pipeline stages hold %s layers", pp, list);
}

void judge_stages(struct judge *j)
{
    const int32_t pp = j->c->parallel.pp;
    if (!j->m || pp < 2 || !all_ranks_read(j->c) || sl_ckpt_layers_told(j->c))
        return;
    int64_t *layers = calloc((size_t)pp, sizeof *layers);
    bool uneven = false;
    for (size_t i = 0; layers && i < j->m->stage_count; i++)
        if (j->m->stages[i].pp >= 0 && j->m->stages[i].pp < pp)
            layers[j->m->stages[i].pp] += j->m->stages[i].count;
    for (int32_t i = 1; layers && i < pp; i++)
        uneven = uneven || layers[i] != layers[0];
    if (uneven)
        tell_stages(j, layers, pp);
    free(layers);
}

/* ---- left over ---------------------------------------------------------------------------- */

#define LEFT_TOLD 4

/* How what is left of a conversion is spoken of. */
struct remains { const char *what, *becomes, *damage, *go_on, *named, *next; };
static const struct remains whole = {
    "the unfinished target", "is renamed to", "tensors may still be zeros, in files of full length", "--resume", "partial",
    "Give the same shardlens convert command with --resume, and open its target." };
static const struct remains part = {
    "a part", "becomes with the other parts", "the tensors of the other parts are not here, and of a part that is not done none may be",
    "--part for each part, then --finish", "part-",
    "Give the same shardlens convert command with --finish once all parts are done, and open its target." };

/* Names of run/target.h: DST in NAME. */
struct left_name { const char *target; size_t len; const struct remains *of; bool old; };

static bool name_read(const char *name, struct left_name *out)
{
    const char *own = name + (*name == '.'), *at = strstr(own, ".part-");
    unsigned long long i, n;
    if (at && at > own && sscanf(at, ".part-%llu-of-%llu", &i, &n) == 2) {
        *out = (struct left_name){ own, (size_t)(at - own), &part, false };
        return true;
    }
    at = strstr(own, ".partial-");
    const bool old = !at && (at = strstr(own, ".old-"));
    if (at && at > own && strspn(strrchr(at, '-') + 1, "0123456789abcdef") == 8 && !strrchr(at, '-')[9]) {
        *out = (struct left_name){ own, (size_t)(at - own), &whole, old };
        return true;
    }
    at = strstr(name, ".partial.journal");
    if (!at || at == name || at[strlen(".partial.journal")])
        return false;
    *out = (struct left_name){ name, (size_t)(at - name), &whole, false };
    return true;
}

struct left { struct judge *j; struct sl_arena arena; size_t told; };

static void tell_left(struct left *l, const char *folder, const char *name, const struct left_name *n)
{
    const int len = (int)n->len;
    char where[1024], next[1280], expected[600];
    if (l->told++ >= LEFT_TOLD)
        return;
    snprintf(where, sizeof where, "%s/%s", folder, name);
    snprintf(expected, sizeof expected, "nothing of that name once a conversion to %.*s is done", len, n->target);
    snprintf(next, sizeof next, "Go on: the same shardlens convert command to %s/%.*s with %s. Give it up: remove all that is named"
             " %.*s.%s* there.", folder, len, n->target, n->of->go_on, len, n->target, n->of->named);
    const struct finding f = {
        .code = "leftover", .where = where,
        .more = { .expected = expected, .cause = "a conversion that was interrupted, or one that is running now",
                  .damage = "nothing here: it takes space, and the target is not whole before it is renamed", .next = next } };
    judge_tell(l->j, &f, "part of a conversion to %.*s that is not finished", len, n->target);
}

/* "llama", "llama-hf", "llama.bin" of "llama", and not "llama2" */
static bool belongs(const char *target, const char *to)
{
    const size_t len = strlen(to);
    return !len || (!strncmp(target, to, len) && !isalnum((unsigned char)target[len]));
}

/* What lies in a folder. Of several names of one target only the first is told. of: the name
 * that targets belong to, "" any. */
static void look_into(struct left *l, const char *folder, const char *of)
{
    const char *const *names;
    struct left_name n, last = { .target = "" };
    size_t count = 0;
    if (sl_folder_list(folder, SL_LIMIT_FOLDER_ENTRIES, &l->arena, &names, &count, NULL))
        return;
    for (size_t i = 0; i < count; i++) {
        if (!name_read(names[i], &n) || !belongs(n.target, of) || (n.len == last.len && !strncmp(n.target, last.target, n.len)))
            continue;
        tell_left(l, folder, names[i], &n);
        last = n;
    }
}

/* Is the opened thing itself the unfinished target, or a part? */
static bool look_at_itself(struct left *l, const char *name)
{
    struct left_name n;
    char expected[300];
    if (!name_read(name, &n) || n.old)
        return false;
    snprintf(expected, sizeof expected, "%.*s, which it %s when all of it is written and proved", (int)n.len, n.target, n.of->becomes);
    const struct finding f = {
        .code = "leftover", .where = name, .severity = AS_WARNING,
        .more = { .expected = expected, .cause = "a conversion that was interrupted, or one that is running now",
                  .damage = n.of->damage, .next = n.of->next } };
    judge_tell(l->j, &f, "this is %s of a conversion", n.of->what);
    return true;
}

/* ---- unfinished files of a save, copy or download ------------------------------------------------- */

/* Is it the name that a program gives a file that it has not finished: NAME.tmp, hf's NAME.incomplete, rsync's .NAME.AbC123? */
static bool is_unfinished(const char *name)
{
    static const char *const endings[] = { ".tmp", ".part", ".incomplete", ".crdownload", ".aria2", ".filepart" };
    static const char *const kinds[] = { ".pt.", ".distcp.", ".safetensors.", ".bin." };
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (sl_text_ends(name, endings[i]))
            return true;
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; *name == '.' && dot && strlen(dot) == 7 && i < sizeof kinds / sizeof *kinds; i++)
        if (strstr(name, kinds[i]) == dot - strlen(kinds[i]) + 1)
            return true;
    return false;
}

static void tell_unfinished(struct left *l, const char *shown, const char *name)
{
    char where[1024];
    if (l->told++ >= LEFT_TOLD)
        return;
    snprintf(where, sizeof where, "%s%s%s", shown, *shown ? "/" : "", name);
    const struct finding f = {
        .code = "leftover", .where = where,
        .more = { .expected = "no such file once a save, copy or download is done",
                  .cause = "a save, copy or download that was interrupted, or one that is going on now",
                  .damage = "nothing here: it was not read; the file that it should become may be missing, which is told then",
                  .next = "Wait until nothing writes there, or start the copy or download again; then remove it." } };
    judge_tell(l->j, &f, "the file is not finished: its name is that of one that is still written");
}

static void look_for_unfinished(struct left *l, const char *folder, const char *shown)
{
    const char *const *names;
    size_t count = 0;
    if (sl_folder_list(folder, SL_LIMIT_FOLDER_ENTRIES, &l->arena, &names, &count, NULL))
        return;
    for (size_t i = 0; i < count; i++) {
        const char *path = is_unfinished(names[i]) ? sl_arena_printf(&l->arena, "%s/%s", folder, names[i]) : NULL;
        if (path && !sl_path_is_folder(path))
            tell_unfinished(l, shown, names[i]);
    }
}

/* In the folder of the files, in each rank's, and where hf download keeps what is not finished. */
static void judge_unfinished(struct left *l, const char *folder)
{
    const struct sl_ckpt *c = l->j->c;
    const char *last = "";
    look_for_unfinished(l, folder, "");
    for (size_t i = 0; i < c->rank_count; i++) {
        const char *path = strcmp(c->ranks[i].path, last) ? sl_arena_printf(&l->arena, "%s/%s", folder, c->ranks[i].path) : NULL;
        last = c->ranks[i].path;
        if (path && sl_path_is_folder(path))
            look_for_unfinished(l, path, c->ranks[i].path);
    }
    const char *cache = sl_arena_printf(&l->arena, "%s/.cache/huggingface/download", folder);
    if (cache && sl_path_is_folder(cache))
        look_for_unfinished(l, cache, ".cache/huggingface/download");
}

void judge_leftovers(struct judge *j)
{
    struct left l = { .j = j };
    char *path = realpath(j->c->path, NULL), *folder = realpath(j->c->folder, NULL);
    char *name = path ? strrchr(path, '/') : NULL;
    if (path && sl_path_is_folder(path))
        look_into(&l, path, "");
    if (folder && path && strcmp(folder, path) && !strncmp(folder, path, strlen(path)))
        look_into(&l, folder, "");
    if (name && name[1]) {
        *name = '\0';
        if (!look_at_itself(&l, name + 1))
            look_into(&l, *path ? path : "/", name + 1);
    }
    if (folder)
        judge_unfinished(&l, folder);
    if (l.told > LEFT_TOLD)
        judge_tell(j, &(struct finding){ .code = "leftover" }, "%zu more names of what is not finished", l.told - LEFT_TOLD);
    sl_arena_free(&l.arena);
    free(folder);
    free(path);
}

/* ---- files that changed ---------------------------------------------------------------------- */

void judge_unchanged(struct judge *j)
{
    struct sl_error err = { 0 };
    if (!sl_ckpt_unchanged(j->c, &err))
        return;
    const char *where = err.where;
    for (size_t i = 0; i < j->c->file_count; i++)
        if (!strcmp(j->c->files[i].path, err.where))
            where = j->c->files[i].name;
    const struct finding f = {
        .code = "source-changed", .where = where,
        .more = { .expected = "files that nobody writes to while they are read",
                  .cause = "a save, copy or download is still going on",
                  .damage = "what is told here may be of the file before or after the change",
                  .next = "Wait until nothing writes to the checkpoint, then check again." } };
    judge_tell(j, &f, "%s", err.message);
}
