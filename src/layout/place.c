/* place.c: see place.h. */
#include "layout/place.h"

#include "base/text.h"

#include <string.h>

#define PLACED_AT_MOST 1000      /* findings: each looks through all tensors and slices once */
#define PARAMS_SHOWN 3

struct placing {
    struct sl_problems *p;
    const struct sl_ckpt *c;
    const struct sl_layout *l;
};

/* What follows `name` in `where`: NULL when where does not begin with it as a whole word. */
static const char *after(const char *where, const char *name)
{
    const size_t len = name ? strlen(name) : 0;
    return len && !strncmp(where, name, len) && (!where[len] || strchr(" /", where[len])) ? where + len : NULL;
}

static int32_t find_rank(const struct sl_ckpt *c, const char *where, const char **rest)
{
    for (size_t i = 0; i < c->rank_count; i++)
        if ((*rest = after(where, c->ranks[i].path)))
            return (int32_t)i;
    return -1;
}

static int32_t find_file(const struct sl_ckpt *c, const char *where, const char **rest)
{
    for (size_t i = 0; i < c->file_count; i++)
        if ((*rest = after(where, c->files[i].name)))
            return (int32_t)i;
    return -1;
}

/* only: is there no other of the name there? */
static ptrdiff_t find_tensor(const struct sl_ckpt *c, const char *name, int32_t rank, int32_t file, bool *only)
{
    ptrdiff_t at = -1;
    *only = true;
    for (size_t i = 0; i < c->tensor_count && *only; i++) {
        const struct sl_tensor *t = &c->tensors[i];
        if ((rank >= 0 && t->rank != rank) || (file >= 0 && t->file != file) || (strcmp(t->name, name) && strcmp(t->path, name)))
            continue;
        *only = at < 0;
        at = at < 0 ? (ptrdiff_t)i : at;
    }
    return at;
}

/* "layers.7.attn.q, k, v": what of the model lies in a tensor. */
static const char *params_of(const struct placing *w, size_t tensor)
{
    struct sl_buf text = { 0 };
    const char *first = NULL;
    uint32_t last = UINT32_MAX;
    size_t count = 0;
    for (size_t i = 0; w->l && i < w->l->slice_count; i++) {
        const struct sl_slice *s = &w->l->slices[i];
        if (s->tensor != tensor || s->param == last)
            continue;
        const char *name = w->l->params[s->param].name, *dot = first ? strrchr(first, '.') : NULL;
        last = s->param;
        if (++count > PARAMS_SHOWN)
            continue;
        const bool beside = dot && !strncmp(first, name, (size_t)(dot - first) + 1);
        sl_buf_printf(&text, "%s%s", count > 1 ? ", " : "", beside ? name + (dot - first) + 1 : name);
        first = first ? first : name;
    }
    if (count > PARAMS_SHOWN)
        sl_buf_printf(&text, " and %zu more", count - PARAMS_SHOWN);
    const char *kept = text.len && !text.failed ? sl_arena_strn(w->p->arena, text.data, text.len) : NULL;
    sl_buf_free(&text);
    return kept ? kept : "";
}

static const char *printable(const struct placing *w, const char *name)
{
    struct sl_buf text = { 0 };
    sl_buf_printable(&text, name, strlen(name));
    const char *kept = text.len && !text.failed ? sl_arena_strn(w->p->arena, text.data, text.len) : NULL;
    sl_buf_free(&text);
    return kept ? kept : "";
}

static void place_rank(const struct placing *w, struct sl_problem *p, int32_t rank)
{
    p->tp = w->c->ranks[rank].tp;
    p->pp = w->c->ranks[rank].pp;
    p->ep = w->c->ranks[rank].ep;
}

static void place_tensor(const struct placing *w, struct sl_problem *p, const char *name, int32_t rank, int32_t file)
{
    bool only;
    const ptrdiff_t at = find_tensor(w->c, name, rank, file, &only);
    if (at < 0) {
        p->param = w->l && sl_map_get(&w->l->param_index, name, strlen(name), &(uint64_t){ 0 }) ? printable(w, name) : "";
        return;
    }
    const struct sl_tensor *t = &w->c->tensors[at];
    const bool one = rank >= 0 || file >= 0 || !w->c->rank_count || only;        /* else several ranks have one of the name */
    p->tensor = printable(w, t->name);
    if (one && t->rank >= 0)
        place_rank(w, p, t->rank);
    p->param = one ? params_of(w, (size_t)at) : "";
    if (one && t->file >= 0)
        p->file = printable(w, w->c->files[t->file].name);
    if (one && !(t->flags & (SL_TENSOR_NO_DATA | SL_TENSOR_DEFLATED)) && !w->c->items)
        p->offset = (int64_t)t->offset;
}

static void place(const struct placing *w, struct sl_problem *p)
{
    const char *rest = p->where;
    const int32_t rank = find_rank(w->c, p->where, &rest), file = rank < 0 ? find_file(w->c, p->where, &rest) : w->c->ranks[rank].file;
    if (rank >= 0)
        place_rank(w, p, rank);
    if (file >= 0)
        p->file = printable(w, w->c->files[file].name);
    if (rank < 0 && file < 0)
        place_tensor(w, p, p->where, -1, -1);
    else if (rest && strchr(rest, ' '))
        place_tensor(w, p, strchr(rest, ' ') + 1, rank, file);
}

/* ---- commands ------------------------------------------------------------------------ */

static void add_show(const struct placing *w, const struct sl_problem *p, struct sl_buf *b)
{
    sl_buf_str(b, "shardlens show");
    sl_buf_shell_word(b, w->c->path);
    if (!*p->tensor) {
        sl_buf_str(b, " TENSOR");
        return;
    }
    sl_buf_shell_word(b, p->tensor);
    if (p->tp >= 0)
        sl_buf_printf(b, " --rank tp=%d,pp=%d%s", (int)p->tp, (int)p->pp, w->c->parallel.ep > 1 ? "," : "");
    if (p->tp >= 0 && w->c->parallel.ep > 1)
        sl_buf_printf(b, "ep=%d", (int)p->ep);
}

/* {path} and {show} in what to do. */
static void fill_command(const struct placing *w, struct sl_problem *p)
{
    struct sl_buf b = { 0 };
    for (const char *from = p->next, *brace; from; from = brace) {
        brace = strchr(from, '{');
        sl_buf_add(&b, from, brace ? (size_t)(brace - from) : strlen(from));
        if (!brace)
            break;
        if (!strncmp(brace, "{path}", 6)) {
            if (b.len && b.data[b.len - 1] == ' ')
                b.len--;                        /* a word brings its own blank */
            sl_buf_shell_word(&b, w->c->path);
            brace += 6;
        } else if (!strncmp(brace, "{show}", 6)) {
            add_show(w, p, &b);
            brace += 6;
        } else {
            sl_buf_char(&b, *brace++);
        }
    }
    sl_buf_char(&b, '\0');
    const char *kept = b.failed ? "" : printable(w, b.data);
    p->next = *kept ? kept : p->next;
    sl_buf_free(&b);
}

void sl_problems_place(struct sl_problems *p, const struct sl_ckpt *c, const struct sl_layout *layout)
{
    const struct placing w = { p, c, layout };
    for (size_t i = 0; i < p->count && i < PLACED_AT_MOST; i++) {
        struct sl_problem *one = &p->items[i];
        if (one->tp < 0 && !*one->file && !*one->tensor && !*one->param && *one->where)
            place(&w, one);
        if (strchr(one->next, '{'))
            fill_command(&w, one);
    }
}
