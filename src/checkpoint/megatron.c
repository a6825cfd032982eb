/* megatron.c: rank folders -> the grid of ranks: which number in a name means
 * what, how large the grid is, which of its ranks are missing or damaged.
 *
 * Which ranks write, and how: Megatron-LM megatron/training/checkpointing.py
 * (get_checkpoint_name, save_checkpoint). With expert tensor parallelism
 * smaller than tensor parallelism the grid of TP x EP has holes by design: in
 * one pipeline stage global rank g is tp = g mod TP, ep = (g / ETP) mod EP. */
#include "checkpoint/ckptread.h"

#include "base/error.h"
#include "base/num.h"
#include "base/value.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_GRID (CKPT_MAX_RANK + 1)    /* ranks that are listed, missing ones included */
#define MISSING_SHOWN 8                 /* names of missing folders in one finding */

struct entry {                  /* one rank folder */
    const char *name;
    const char *file;           /* its model file, NULL if there is none */
    struct rank_name numbers;
    int32_t index;              /* into files, -1 */
    int32_t tp, pp, ep;
    bool extra;
};

struct grid {
    struct sl_ckpt *c;
    struct entry *entries;
    size_t count;
    unsigned form;              /* numbers in a name: 1, 2, 3 */
    bool second_is_ep;
    bool from_args;             /* sizes are what args say */
    bool one;                   /* a lone rank: what is not there is not missed */
    const struct entry **without_file;   /* by rank: a folder that is there without a model file, NULL */
};

/* ---- names ------------------------------------------------------------------- */

/* Is it the name that Megatron gives? Its numbers have two and three digits at least. */
static bool is_own_name(const char *name)
{
    struct rank_name n;
    char own[64];
    if (!ckpt_rank_name(name, &n))
        return false;
    if (n.count == 1)
        snprintf(own, sizeof own, "mp_rank_%02" PRId32, n.number[0]);
    else if (n.count == 2)
        snprintf(own, sizeof own, "mp_rank_%02" PRId32 "_%03" PRId32, n.number[0], n.number[1]);
    else
        snprintf(own, sizeof own, "mp_rank_%02" PRId32 "_%03" PRId32 "_%03" PRId32, n.number[0], n.number[1], n.number[2]);
    return !strcmp(name, own);
}

/* By place; of two names of one place Megatron's own first. */
static int by_numbers(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    for (unsigned i = 0; i < 3; i++)
        if (x->numbers.number[i] != y->numbers.number[i])
            return x->numbers.number[i] < y->numbers.number[i] ? -1 : 1;
    if (is_own_name(x->name) != is_own_name(y->name))
        return is_own_name(x->name) ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int collect(struct grid *g, const struct found *found, struct sl_error *err)
{
    struct sl_ckpt *c = g->c;
    g->entries = SL_ARENA_NEW(&c->arena, struct entry, found->name_count);
    if (!g->entries)
        return sl_fail_memory(err, found->name_count * sizeof *g->entries);
    for (size_t i = 0; i < found->name_count; i++) {
        struct entry *e = &g->entries[g->count];
        if (!ckpt_rank_name(found->names[i], &e->numbers))
            continue;
        const char *folder = ckpt_join(&c->arena, found->folder, found->names[i]);
        if (!folder)
            return sl_fail_memory(err, 1);
        if (!sl_path_is_folder(folder))
            continue;
        e->name = found->names[i];
        e->file = ckpt_model_file(&c->arena, folder);
        e->index = -1;
        g->count++;
    }
    qsort(g->entries, g->count, sizeof *g->entries, by_numbers);
    return SL_OK;
}

/* The form of name that most folders with a model have. The optimizer folders of
 * 2022 (mp_rank_TT_PPP_DDD/optim.pt) have none and are no ranks. */
static void choose_form(struct grid *g)
{
    size_t votes[4] = { 0 };
    for (size_t i = 0; i < g->count; i++)
        if (g->entries[i].file)
            votes[g->entries[i].numbers.count]++;
    g->form = 1;
    for (unsigned n = 2; n <= 3; n++)
        if (votes[n] >= votes[g->form] && votes[n])
            g->form = n;

    struct sl_problems *problems = &g->c->problems;
    size_t kept = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct entry *e = &g->entries[i];
        if (e->numbers.count != g->form) {
            if (e->file)
                sl_problem_add(problems, "extra-rank", e->name, NULL,
                               "its name has %u number%s, those of %zu other folders have %u; it was not read",
                               e->numbers.count, e->numbers.count == 1 ? "" : "s", votes[g->form], g->form);
            continue;
        }
        if (kept && !memcmp(&g->entries[kept - 1].numbers, &e->numbers, sizeof e->numbers)) {
            sl_problem_add(problems, "duplicate-rank", e->name, NULL, "it is the same rank as %s; only that was read",
                           g->entries[kept - 1].name);
            continue;
        }
        g->entries[kept++] = *e;
    }
    g->count = kept;
}

static int open_files(struct grid *g, const struct found *found, struct sl_error *err)
{
    struct sl_ckpt *c = g->c;
    size_t count = 0;
    for (size_t i = 0; i < g->count; i++)
        count += g->entries[i].file != NULL;
    if (!count)
        return sl_fail(err, SL_INPUT, found->folder, "%zu rank folders, none with a model_optim_rng.pt in it", g->count);
    int code = ckpt_files_few(count, found->folder, err);
    if (!code)
        code = ckpt_files_new(c, count, err);
    if (code)
        return code;
    int32_t index = 0;
    for (size_t i = 0; i < g->count; i++) {
        struct entry *e = &g->entries[i];
        if (!e->file)
            continue;
        c->files[index].path = e->file;
        c->files[index].name = e->file + strlen(found->folder);
        while (*c->files[index].name == '/')
            c->files[index].name++;
        e->index = index++;
    }
    return ckpt_parts_open(c, true, err);
}

static const struct sl_ckpt_file *part_of(const struct grid *g, const struct entry *e)
{
    return e->index >= 0 && !g->c->opened[e->index].code ? &g->c->opened[e->index] : NULL;
}

/* ---- what args say, by majority -------------------------------------------------- */

struct size_key { const char *key, *older; };
static const struct size_key tp_key = { "tensor_model_parallel_size", "model_parallel_size" };
static const struct size_key pp_key = { "pipeline_model_parallel_size", NULL };
static const struct size_key ep_key = { "expert_model_parallel_size", NULL };
static const struct size_key etp_key = { "expert_tensor_parallel_size", NULL };
static const struct size_key vpp_key = { "virtual_pipeline_model_parallel_size", NULL };

static bool size_of(const struct sl_value *args, const struct size_key *key, int64_t *out)
{
    int64_t n;
    if (!sl_value_int(sl_value_get(args, key->key), &n) &&
        !(key->older && sl_value_int(sl_value_get(args, key->older), &n)))
        return false;
    if (n < 1 || n > MAX_GRID)
        return false;
    *out = n;
    return true;
}

/* The size that most files state, 0 if none does. *all: do they agree? */
static int64_t vote_size(const struct grid *g, const struct size_key *key, bool *all)
{
    struct { int64_t size; size_t votes; } seen[16];
    size_t count = 0, best = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct sl_ckpt_file *f = part_of(g, &g->entries[i]);
        int64_t n;
        if (!f || !size_of(f->args, key, &n))
            continue;
        size_t at = 0;
        while (at < count && seen[at].size != n)
            at++;
        if (at == count && count < sizeof seen / sizeof *seen) {
            seen[count].size = n;
            seen[count++].votes = 0;
        }
        if (at < count)
            seen[at].votes++;
    }
    for (size_t i = 1; i < count; i++)
        if (seen[i].votes > seen[best].votes)
            best = i;
    if (all)
        *all = count < 2;
    return count ? seen[best].size : 0;
}

/* ---- the second number: pipeline stage or expert rank ------------------------------ */

static bool holds(const struct sl_ckpt_file *f, const char *const *endings, size_t count)
{
    for (size_t k = 0; k < f->tensor_count; k++)
        for (size_t n = 0; n < count; n++)
            if (!(f->tensors[k].flags & SL_TENSOR_OPTIMIZER) && sl_text_ends(f->tensors[k].name, endings[n]))
                return true;
    return false;
}
static bool holds_embedding(const struct sl_ckpt_file *f)
{
    static const char *const names[] = { "embedding.word_embeddings.weight" };
    return holds(f, names, 1);
}
static bool holds_final_norm(const struct sl_ckpt_file *f)
{
    static const char *const names[] = { "decoder.final_layernorm.weight", "decoder.final_norm.weight",
                                         "encoder.final_layernorm.weight", "encoder.final_norm.weight",
                                         "transformer.final_layernorm.weight" };
    return holds(f, names, sizeof names / sizeof *names) ||
           (f->tensor_count && !strcmp(f->tensors[f->tensor_count - 1].name, "final_layernorm.weight"));
}

/* With pipeline stages only the first has the embedding and only the last the
 * final norm; with expert ranks all have both. */
static void choose_meaning(struct grid *g)
{
    if (g->form != 2)
        return;
    const int64_t pp = vote_size(g, &pp_key, NULL), ep = vote_size(g, &ep_key, NULL);
    if (pp > 1 || ep > 1) {
        g->second_is_ep = pp <= 1;
        return;
    }
    size_t both = 0, readable = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct sl_ckpt_file *f = part_of(g, &g->entries[i]);
        if (!f)
            continue;
        readable++;
        both += holds_embedding(f) && holds_final_norm(f);
    }
    int32_t largest = 0;
    for (size_t i = 0; i < g->count; i++)
        largest = (int32_t)sl_max_i64(largest, g->entries[i].numbers.number[1]);
    g->second_is_ep = largest > 0 && readable && both == readable;
}

/* ---- sizes --------------------------------------------------------------------------- */

static bool has_experts(const struct sl_ckpt *c)
{
    for (size_t i = 0; i < c->file_count; i++)
        for (size_t k = 0; k < c->opened[i].tensor_count; k++)
            if (strstr(c->opened[i].tensors[k].name, "experts.") &&
                !strstr(c->opened[i].tensors[k].name, "shared_experts."))
                return true;
    return false;
}

static int32_t count_chunks(const struct sl_ckpt *c)
{
    int32_t most = 1;
    for (size_t i = 0; i < c->file_count; i++)
        for (int32_t n = 0; n < 64; n++)
            if (c->opened[i].chunks >> n & 1 && n + 1 > most)
                most = n + 1;
    return most;
}

static void number_entries(struct grid *g)
{
    for (size_t i = 0; i < g->count; i++) {
        struct entry *e = &g->entries[i];
        e->tp = e->numbers.number[0];
        e->pp = g->form >= 2 && !g->second_is_ep ? e->numbers.number[1] : 0;
        e->ep = g->form == 3 ? e->numbers.number[2] : g->second_is_ep ? e->numbers.number[1] : 0;
    }
}

static bool outside_grid(const struct entry *e, const struct sl_parallel *p)
{
    return e->tp >= p->tp || e->pp >= p->pp || e->ep >= p->ep;
}

/* A number of the first file that is rank (0, pp, 0): rows of its embedding (0 if it has none), final norm. */
static const struct sl_ckpt_file *first_of_stage(const struct grid *g, int32_t pp)
{
    for (size_t i = 0; i < g->count; i++)
        if (g->entries[i].tp == 0 && g->entries[i].pp == pp && g->entries[i].ep == 0)
            return part_of(g, &g->entries[i]);
    return NULL;
}

static int64_t embedding_rows(const struct sl_ckpt_file *f)
{
    for (size_t k = 0; k < f->tensor_count; k++)
        if (!(f->tensors[k].flags & SL_TENSOR_OPTIMIZER) && f->tensors[k].ndim == 2 && sl_text_ends(f->tensors[k].name, "embedding.word_embeddings.weight"))
            return f->tensors[k].shape[0];
    return 0;
}

/* Is the grid that args describe whole by what the tensors say: TP shards of the embedding make
 * padded_vocab_size, the stage that args call last has the final norm? Then what lies outside is left over. */
static bool args_fit_tensors(const struct grid *g, const struct sl_parallel *said, const struct sl_parallel *names)
{
    const struct sl_ckpt_file *first = first_of_stage(g, 0), *last = first_of_stage(g, said->pp - 1);
    int64_t padded = 0;
    if (!first || !last || said->ep != names->ep || !sl_value_int(sl_value_get(first->args, "padded_vocab_size"), &padded))
        return false;
    return embedding_rows(first) * said->tp == padded && padded > 0 && holds_final_norm(last);
}

/* Sizes: what most files' args say, as far as the names have that number at all;
 * else what the names span. When all files say the same and folders lie outside
 * of it, the names are believed: somebody's converter copied args over. But where
 * the tensors are as args say, the folders outside are left over. */
static void choose_sizes(struct grid *g)
{
    struct sl_ckpt *c = g->c;
    struct sl_parallel names = { 1, 1, 1, 1, 1 };
    for (size_t i = 0; i < g->count; i++) {
        names.tp = (int32_t)sl_max_i64(names.tp, g->entries[i].tp + 1);
        names.pp = (int32_t)sl_max_i64(names.pp, g->entries[i].pp + 1);
        names.ep = (int32_t)sl_max_i64(names.ep, g->entries[i].ep + 1);
    }
    bool all_tp = true, all_pp = true, all_ep = true;
    const int64_t tp = vote_size(g, &tp_key, &all_tp), pp = vote_size(g, &pp_key, &all_pp), ep = vote_size(g, &ep_key, &all_ep);
    const bool names_pp = g->one || (g->form >= 2 && !g->second_is_ep);
    const bool names_ep = g->one || g->form == 3 || g->second_is_ep;
    struct sl_parallel said = { .tp = tp ? (int32_t)tp : names.tp,
                                .pp = pp && names_pp ? (int32_t)pp : names.pp,
                                .ep = ep && names_ep ? (int32_t)ep : names.ep };
    g->from_args = tp > 0;
    bool outside = false;
    for (size_t i = 0; i < g->count; i++)
        outside = outside || outside_grid(&g->entries[i], &said);
    if (g->from_args && outside && all_tp && all_pp && all_ep && !args_fit_tensors(g, &said, &names)) {
        sl_problem_add(&c->problems, "config-contradiction", "args", NULL,
                       "args say TP=%" PRId32 " PP=%" PRId32 " EP=%" PRId32 ", the rank folders are TP=%" PRId32
                       " PP=%" PRId32 " EP=%" PRId32 ": the folders are believed",
                       said.tp, said.pp, said.ep, names.tp, names.pp, names.ep);
        said = names;
        g->from_args = false;
    }
    const int64_t etp = vote_size(g, &etp_key, NULL), vpp = vote_size(g, &vpp_key, NULL);
    said.vpp = (int32_t)sl_max_i64(count_chunks(c), g->one ? vpp : 1);
    said.etp = !has_experts(c) ? 1 : etp ? (int32_t)etp : said.tp;
    c->parallel = said;
}

static void tell_extra(struct grid *g)
{
    const struct sl_parallel *p = &g->c->parallel;
    for (size_t i = 0; i < g->count; i++) {
        struct entry *e = &g->entries[i];
        e->extra = outside_grid(e, p);
        if (!e->extra)
            continue;
        struct sl_ckpt_file *f = e->index >= 0 ? &g->c->opened[e->index] : NULL;
        if (f)
            f->tensor_count = 0;
        sl_problem_add(&g->c->problems, "extra-rank", e->name, NULL,
                       "it lies outside TP=%" PRId32 " PP=%" PRId32 " EP=%" PRId32 ", which most files' args say; it is left out",
                       p->tp, p->pp, p->ep);
    }
}

/* ---- the grid ---------------------------------------------------------------------------- */

static const struct entry *entry_at(const struct entry *const *cells, const struct sl_parallel *p, int32_t tp, int32_t pp,
                                    int32_t ep)
{
    return cells[((size_t)pp * (size_t)p->ep + (size_t)ep) * (size_t)p->tp + (size_t)tp];
}

/* Is a hole in the TP x EP grid of a stage explained by ETP < TP? It is when every
 * tp and every (ep, expert tp) is there. */
static bool holes_are_legal(const struct entry *const *cells, const struct sl_parallel *p, int32_t pp)
{
    if (p->ep == 1 || p->etp >= p->tp)
        return false;
    for (int32_t tp = 0; tp < p->tp; tp++) {
        bool any = false;
        for (int32_t ep = 0; ep < p->ep; ep++)
            any = any || entry_at(cells, p, tp, pp, ep);
        if (!any)
            return false;
    }
    for (int32_t ep = 0; ep < p->ep; ep++)
        for (int32_t etp = 0; etp < p->etp; etp++) {
            bool any = false;
            for (int32_t tp = etp; tp < p->tp; tp += p->etp)
                any = any || entry_at(cells, p, tp, pp, ep);
            if (!any)
                return false;
        }
    return true;
}

/* Would a default run write this (tp, ep)? */
static bool is_expected(const struct sl_parallel *p, int32_t tp, int32_t ep)
{
    if (p->ep == 1 || p->etp >= p->tp)
        return true;
    const int64_t last = sl_max_i64(p->tp, (int64_t)p->ep * p->etp);
    for (int64_t rank = 0; rank < last; rank++)
        if (rank % p->tp == tp && rank / p->etp % p->ep == ep)
            return true;
    return false;
}

static const char *rank_folder_name(const struct grid *g, int32_t tp, int32_t pp, int32_t ep)
{
    struct sl_arena *arena = &g->c->arena;
    if (g->form == 1)
        return sl_arena_printf(arena, "mp_rank_%02" PRId32, tp);
    if (g->form == 2)
        return sl_arena_printf(arena, "mp_rank_%02" PRId32 "_%03" PRId32, tp, g->second_is_ep ? ep : pp);
    return sl_arena_printf(arena, "mp_rank_%02" PRId32 "_%03" PRId32 "_%03" PRId32, tp, pp, ep);
}

/* "tp 1, pp 0" or, with experts over ranks, "tp 1, pp 0, ep 2". */
static const char *rank_text(const struct sl_parallel *p, const struct sl_rank *r, char *out, size_t room)
{
    const int len = snprintf(out, room, "tp %" PRId32 ", pp %" PRId32, r->tp, r->pp);
    if (p->ep > 1 && len > 0 && (size_t)len < room)
        snprintf(out + len, room - (size_t)len, ", ep %" PRId32, r->ep);
    return out;
}

/* What is lost where one rank can't be read. */
static const char *lost_text(const struct sl_ckpt *c, const struct sl_rank *r)
{
    char place[64];
    return sl_arena_printf(c->problems.arena, "the shards of %s are in no other file: its part of every split weight of stage %" PRId32 "%s. "
                           "No conversion; the other ranks can be listed, shown and checked",
                           rank_text(&c->parallel, r, place, sizeof place), r->pp, c->parallel.ep > 1 ? ", and its experts" : "");
}

static const char *folders_text(const struct grid *g)
{
    const struct sl_parallel *p = &g->c->parallel;
    return sl_arena_printf(g->c->problems.arena, "%" PRId32 " rank folders, as %s TP=%" PRId32 " PP=%" PRId32 " EP=%" PRId32,
                           p->tp * p->pp * p->ep, g->from_args ? "args say" : "the names of the other folders make", p->tp, p->pp, p->ep);
}

static void tell_missing(const struct grid *g, const struct sl_rank *r, const struct entry *e)
{
    struct sl_ckpt *c = g->c;
    char place[64];
    const struct sl_problem_text more = { .expected = folders_text(g), .damage = lost_text(c, r) };
    if (e)
        sl_problem_add(&c->problems, "missing-rank", r->path, &more, "the folder is there, but no model_optim_rng.pt in it");
    else
        sl_problem_add(&c->problems, "missing-rank", r->path, &more, "the folder of %s is not there",
                       rank_text(&c->parallel, r, place, sizeof place));
}

/* Ranks of a stage of which several are missing make one finding. */
static bool is_missing_at(const struct sl_ckpt *c, size_t i, int32_t pp)
{
    return c->ranks[i].status == SL_RANK_MISSING && c->ranks[i].pp == pp;
}

static void tell_missing_stage(const struct grid *g, int32_t pp, size_t first, size_t count, size_t all)
{
    struct sl_ckpt *c = g->c;
    struct sl_buf names = { 0 };
    size_t shown = 0;
    for (size_t i = first; i < c->rank_count && shown < MISSING_SHOWN; i++)
        if (is_missing_at(c, i, pp))
            sl_buf_printf(&names, "%s%s", shown++ ? ", " : "", c->ranks[i].path);
    if (count > shown)
        sl_buf_printf(&names, " and %zu more", count - shown);
    const char *lost = count == all ? "all layers" : "their parts of every split weight";
    const struct sl_problem_text more = {
        .expected = folders_text(g),
        .damage = sl_arena_printf(c->problems.arena, "%s of stage %" PRId32 ". No conversion; the other ranks can be listed, shown and checked", lost, pp) };
    sl_problem_add(&c->problems, "missing-rank", c->ranks[first].path, &more, "%zu of the %zu ranks of pipeline stage %" PRId32 " are missing: %s",
                   count, all, pp, names.data ? names.data : "");
    sl_buf_free(&names);
}

/* One finding a stage. */
static void tell_missing_ranks(const struct grid *g)
{
    const struct sl_ckpt *c = g->c;
    for (size_t i = 0, end; i < c->rank_count; i = end) {        /* pp is the slowest number */
        size_t count = 0, first = 0;
        for (end = i; end < c->rank_count && c->ranks[end].pp == c->ranks[i].pp; end++)
            if (is_missing_at(c, end, c->ranks[i].pp) && !count++)
                first = end;
        if (count == 1)
            tell_missing(g, &c->ranks[first], g->without_file[first]);
        else if (count)
            tell_missing_stage(g, c->ranks[i].pp, first, count, end - i);
    }
}

static void fill_rank(struct sl_ckpt *c, struct sl_rank *r, const struct entry *e)
{
    r->path = e->name;
    r->file = e->index;
    const struct sl_ckpt_file *f = &c->opened[e->index];
    r->status = f->code ? SL_RANK_DAMAGED : SL_RANK_OK;
    r->iteration = f->iteration;
    for (size_t k = 0; k < f->tensor_count; k++) {
        if (f->tensors[k].flags & (SL_TENSOR_OPTIMIZER | SL_TENSOR_EXTRA))
            continue;
        r->tensors++;
        r->bytes += f->tensors[k].bytes;
    }
}

static int add_rank(struct grid *g, const struct entry *e, int32_t tp, int32_t pp, int32_t ep, struct sl_error *err)
{
    struct sl_ckpt *c = g->c;
    struct sl_rank *r = &c->ranks[c->rank_count];
    *r = (struct sl_rank){ .tp = tp, .pp = pp, .ep = ep, .file = -1, .layer_first = -1, .layer_last = -1,
                           .iteration = -1, .status = SL_RANK_MISSING };
    if (e && e->index >= 0) {
        fill_rank(c, r, e);
        c->rank_args[c->rank_count] = c->opened[e->index].code ? NULL : c->opened[e->index].args;
    } else {
        r->path = e ? e->name : rank_folder_name(g, tp, pp, ep);
        if (!r->path)
            return sl_fail_memory(err, 32);
        g->without_file[c->rank_count] = e;
    }
    c->rank_count++;
    return SL_OK;
}

static int new_ranks(struct grid *g, uint64_t room, struct sl_error *err)
{
    struct sl_ckpt *c = g->c;
    g->without_file = SL_ARENA_NEW(&c->arena, const struct entry *, room);
    c->ranks = SL_ARENA_NEW(&c->arena, struct sl_rank, room);
    c->rank_args = SL_ARENA_NEW(&c->arena, const struct sl_value *, room);
    return c->ranks && c->rank_args && g->without_file ? SL_OK : sl_fail_memory(err, room * sizeof(struct sl_rank));
}

/* Only the folders that are there, when the grid is too large to be true. */
static int list_present(struct grid *g, uint64_t cells, struct sl_error *err)
{
    int code = new_ranks(g, g->count, err);
    for (size_t i = 0; !code && i < g->count; i++)
        if (!g->entries[i].extra && g->entries[i].index >= 0)
            code = add_rank(g, &g->entries[i], g->entries[i].tp, g->entries[i].pp, g->entries[i].ep, err);
    if (!code && !g->one)
        sl_problem_add(&g->c->problems, "missing-rank", "", NULL,
                       "%zu rank files of %llu that the names span: the missing ones are not listed", g->c->rank_count,
                       (unsigned long long)cells);
    return code;
}

static int build_grid(struct grid *g, struct sl_error *err)
{
    const struct sl_parallel *p = &g->c->parallel;
    const uint64_t count = (uint64_t)p->tp * (uint64_t)p->pp * (uint64_t)p->ep;
    if (g->one || count > MAX_GRID)
        return list_present(g, count, err);

    const struct entry **cells = SL_ARENA_NEW(&g->c->arena, const struct entry *, count);
    int code = cells ? new_ranks(g, count, err) : sl_fail_memory(err, count * sizeof *cells);
    for (size_t i = 0; !code && i < g->count; i++) {
        const struct entry *e = &g->entries[i];
        if (!e->extra)
            cells[((size_t)e->pp * (size_t)p->ep + (size_t)e->ep) * (size_t)p->tp + (size_t)e->tp] = e;
    }
    for (int32_t pp = 0; !code && pp < p->pp; pp++) {
        const bool legal = holes_are_legal(cells, p, pp);
        for (int32_t ep = 0; !code && ep < p->ep; ep++)
            for (int32_t tp = 0; !code && tp < p->tp; tp++) {
                const struct entry *e = entry_at(cells, p, tp, pp, ep);
                if (e || (!legal && is_expected(p, tp, ep)))
                    code = add_rank(g, e, tp, pp, ep, err);
            }
    }
    if (!code)
        tell_missing_ranks(g);
    return code;
}

/* ---- damaged files -------------------------------------------------------------------------- */

/* Sizes of the readable files of a stage. */
static size_t sibling_sizes(const struct sl_ckpt *c, int32_t pp, uint64_t *least, uint64_t *most)
{
    size_t count = 0;
    *least = UINT64_MAX;
    *most = 0;
    for (size_t i = 0; i < c->rank_count; i++) {
        const struct sl_rank *r = &c->ranks[i];
        if (r->status != SL_RANK_OK || (pp >= 0 && r->pp != pp))
            continue;
        *least = sl_min_u64(*least, c->files[r->file].size);
        *most = sl_max_u64(*most, c->files[r->file].size);
        count++;
    }
    return count;
}

static void tell_damaged(struct sl_ckpt *c, const struct sl_rank *r)
{
    const struct sl_ckpt_file *f = &c->opened[r->file];
    const struct sl_file_info *info = &c->files[r->file];
    uint64_t least, most;
    const size_t siblings = sibling_sizes(c, r->pp, &least, &most);
    char expected[160], there[32];
    struct sl_problem_text more = { .damage = lost_text(c, r) };
    const char *what, *code = ckpt_damage_code(f, &what);
    if (siblings && !strcmp(code, "truncated-shard")) {
        snprintf(expected, sizeof expected, "%s%s bytes, as the other rank%s of pipeline stage %" PRId32 " ha%s", least == most ? "" : "about ",
                 sl_text_grouped(most, there, sizeof there), siblings == 1 ? "" : "s", r->pp, siblings == 1 ? "s" : "ve");
        more.expected = expected;
    }
    sl_problem_add(&c->problems, code, info->name, &more, "%s", what);
}

/* ---- what the set says --------------------------------------------------------------------- */

/* The iteration that most ranks tell; among many different ones the first counts. */
static int64_t vote_iteration(const struct sl_ckpt *c)
{
    struct { int64_t iteration; size_t votes; } seen[16];
    size_t count = 0, best = 0;
    for (size_t i = 0; i < c->rank_count; i++) {
        if (c->ranks[i].iteration < 0)
            continue;
        size_t at = 0;
        while (at < count && seen[at].iteration != c->ranks[i].iteration)
            at++;
        if (at == count && count < sizeof seen / sizeof *seen) {
            seen[count].iteration = c->ranks[i].iteration;
            seen[count++].votes = 0;
        }
        if (at < count && ++seen[at].votes > seen[best].votes)
            best = at;
    }
    return count ? seen[best].iteration : -1;
}

static void set_facts(struct sl_ckpt *c, const struct found *found)
{
    c->checkpoint_version = -1;
    for (size_t i = 0; i < c->rank_count; i++) {
        if (!c->args)
            c->args = c->rank_args[i];
        if (c->checkpoint_version < 0 && c->ranks[i].status == SL_RANK_OK)
            c->checkpoint_version = c->opened[c->ranks[i].file].version;
    }
    c->release = found->release;
    const int64_t told = vote_iteration(c);
    c->iteration = c->release ? 0 : told >= 0 ? told : found->iteration;
}

static int number_tensors(struct sl_ckpt *c, struct sl_error *err)
{
    int32_t *rank_of = malloc((c->file_count + 1) * sizeof *rank_of);
    if (!rank_of)
        return sl_fail_memory(err, c->file_count * sizeof *rank_of);
    for (size_t i = 0; i < c->file_count; i++)
        rank_of[i] = -1;
    for (size_t r = 0; r < c->rank_count; r++)
        if (c->ranks[r].file >= 0)
            rank_of[c->ranks[r].file] = (int32_t)r;
    for (size_t k = 0; k < c->tensor_count; k++)
        c->tensors[k].rank = rank_of[c->tensors[k].file];
    free(rank_of);
    return SL_OK;
}

static int finish(struct grid *g, const struct found *found, struct sl_error *err)
{
    struct sl_ckpt *c = g->c;
    number_entries(g);
    choose_meaning(g);
    number_entries(g);
    choose_sizes(g);
    if (!g->one)
        tell_extra(g);
    int code = build_grid(g, err);
    if (!code)
        code = ckpt_parts_merge(c, err);
    if (!code)
        code = number_tensors(c, err);
    if (code)
        return code;
    c->container = SL_MEGATRON_TORCH;
    set_facts(c, found);
    for (size_t i = 0; i < c->rank_count; i++)
        if (c->ranks[i].status == SL_RANK_DAMAGED)
            tell_damaged(c, &c->ranks[i]);
    ckpt_parts_tell(c);
    ckpt_compare_ranks(c, found);
    ckpt_check_sizes(c);
    ckpt_check_layers(c);
    return SL_OK;
}

/* ---- one rank ---------------------------------------------------------------------------------- */

static void tell_one_rank(struct grid *g, const char *folder)
{
    const struct sl_parallel *p = &g->c->parallel;
    const uint64_t all = (uint64_t)p->tp * (uint64_t)p->pp * (uint64_t)p->ep;
    char *real = realpath(folder, NULL);
    char *slash = real ? strrchr(real, '/') : NULL;
    if (slash)
        *slash = '\0';
    if (all > 1)
        sl_problem_add(&g->c->problems, "one-rank", g->entries[0].name, NULL,
                       "one rank of %llu (TP=%" PRId32 " PP=%" PRId32 " EP=%" PRId32 "); open %s for the whole",
                       (unsigned long long)all, p->tp, p->pp, p->ep, real && *real ? real : "the folder above it");
    free(real);
}

/* Names beside a lone rank folder: how large the grid is if args do not say. */
static void look_beside(struct grid *g, const char *folder, struct sl_parallel *span)
{
    struct sl_arena scratch = { 0 };
    const char *const *names;
    size_t count;
    const char *parent = ckpt_join(&scratch, folder, "..");
    if (parent && !sl_folder_list(parent, SL_LIMIT_FOLDER_ENTRIES, &scratch, &names, &count, NULL))
        for (size_t i = 0; i < count; i++) {
            struct rank_name n;
            if (!ckpt_rank_name(names[i], &n) || n.count != g->form)
                continue;
            const int32_t second = n.count >= 2 ? n.number[1] : 0, third = n.count == 3 ? n.number[2] : 0;
            span->tp = (int32_t)sl_max_i64(span->tp, n.number[0] + 1);
            int32_t *of_second = g->second_is_ep ? &span->ep : &span->pp;
            *of_second = (int32_t)sl_max_i64(*of_second, second + 1);
            span->ep = (int32_t)sl_max_i64(span->ep, third + 1);
        }
    sl_arena_free(&scratch);
}

/* The grid of a lone rank whose file is open already. */
static int finish_one(struct grid *g, const struct found *found, const char *folder, struct sl_error *err)
{
    const int code = finish(g, found, err);
    if (code)
        return code;
    if (!g->from_args)
        look_beside(g, folder, &g->c->parallel);
    tell_one_rank(g, folder);
    return SL_OK;
}

static int one_entry(struct grid *g, const char *name, const char *file, struct sl_error *err)
{
    g->entries = SL_ARENA_NEW(&g->c->arena, struct entry, 1);
    if (!g->entries)
        return sl_fail_memory(err, sizeof *g->entries);
    g->count = 1;
    g->one = true;
    *g->entries = (struct entry){ .name = name, .file = file, .index = 0 };
    if (!ckpt_rank_name(name, &g->entries->numbers))
        g->entries->numbers = (struct rank_name){ .count = 1 };
    g->form = g->entries->numbers.count;
    return SL_OK;
}

int ckpt_lone_rank(struct sl_ckpt *c, const char *folder_name, struct sl_error *err)
{
    struct grid g = { .c = c };
    const struct found found = { .iteration = -1, .folder = c->folder };
    struct rank_name numbers;
    const char *name = ckpt_rank_name(folder_name, &numbers) ? folder_name : c->files[0].name;
    const int code = one_entry(&g, name, c->files[0].path, err);
    return code ? code : finish_one(&g, &found, c->folder, err);
}

int ckpt_open_ranks(struct sl_ckpt *c, const struct found *found, struct sl_error *err)
{
    struct grid g = { .c = c };
    if (found->kind == FOUND_ONE_RANK) {
        int code = one_entry(&g, found->file, ckpt_model_file(&c->arena, found->folder), err);
        if (!code)
            code = open_files(&g, found, err);
        return code ? code : finish_one(&g, found, found->folder, err);
    }
    int code = collect(&g, found, err);
    if (code)
        return code;
    choose_form(&g);
    code = open_files(&g, found, err);
    return code ? code : finish(&g, found, err);
}
