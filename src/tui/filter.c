/* filter.c: the search language of the tree. A filter is words that must all
 * hold; each word is a row of a table: a prefix and a test. */
#include "tui/tree.h"
#include "base/text.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct subject {
    const char *name, *split, *kind;
    enum sl_dtype dtype;
    const int64_t *shape; uint32_t ndim;
    uint64_t bytes;
    int32_t layer, expert;
    const char *place;           /* "tp1 pp0 ep0" of a piece, its file where it has no rank */
    bool marked;
    char sign;
};
#define MOST_WORDS 16
struct word { bool (*test)(const struct subject *s, const char *arg); bool not; char arg[64]; };

static bool test_fault(const struct subject *s, const char *arg)
{
    (void)arg;
    return strchr("!~-", s->sign) != NULL;
}
static bool test_dtype(const struct subject *s, const char *arg)
{
    return strncasecmp(sl_dtype_label(s->dtype), arg, strlen(arg)) == 0;
}
static bool in_range(int32_t value, const char *arg)
{
    int lo = -1, hi = -1, n = sscanf(arg, "%6d-%6d", &lo, &hi);
    return n >= 1 && value >= lo && value <= (n == 2 ? hi : lo);
}
static bool test_layer(const struct subject *s, const char *arg) { return in_range(s->layer, arg); }
static bool test_expert(const struct subject *s, const char *arg) { return in_range(s->expert, arg); }
static bool test_rank(const struct subject *s, const char *arg) { return strcasestr(s->place, arg) != NULL; }
static bool test_mark(const struct subject *s, const char *arg)
{
    (void)arg;
    return s->marked;
}
static bool test_split(const struct subject *s, const char *arg) { return strcasestr(s->split, arg) != NULL; }
static bool test_kind(const struct subject *s, const char *arg) { return strcasestr(s->kind, arg) != NULL; }
static bool test_shape(const struct subject *s, const char *arg)
{
    char text[160] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < s->ndim && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%lld", i ? "x" : "", (long long)s->shape[i]);
    return sl_text_glob(arg, text);
}
static bool test_more(const struct subject *s, const char *arg)
{
    uint64_t limit;
    return sl_text_parse_size(arg, &limit) && s->bytes > limit;
}
static bool test_less(const struct subject *s, const char *arg)
{
    uint64_t limit;
    return sl_text_parse_size(arg, &limit) && s->bytes < limit;
}
static bool test_name(const struct subject *s, const char *arg)
{
    size_t len = strlen(arg), name = strlen(s->name);
    bool head = arg[0] == '^', tail = len > 1 && arg[len - 1] == '$';
    if (!head && !tail)
        return strcasestr(s->name, arg) != NULL;
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)(len - head - tail), arg + head);
    size_t inner = strlen(word);
    if (inner > name || (head && tail && inner != name))
        return false;
    return head ? strncasecmp(s->name, word, inner) == 0 : strcasecmp(s->name + name - inner, word) == 0;
}

static const struct { const char *prefix; bool (*test)(const struct subject *, const char *); } tests[] = {
    { "!fault", test_fault }, { "!mark", test_mark },   { "dtype:", test_dtype },   { "layer:", test_layer },
    { "split:", test_split }, { "kind:", test_kind },   { "expert:", test_expert }, { "rank:", test_rank },
    { "shape:", test_shape }, { "bytes>", test_more },  { "bytes<", test_less },
};

static size_t words_of(const char *text, struct word *words)
{
    size_t count = 0;
    while (*text && count < MOST_WORDS) {
        size_t len = strcspn(text, " ");
        if (len) {
            struct word *w = &words[count++];
            w->test = test_name;
            w->not = len > 1 && text[0] == '-';
            snprintf(w->arg, sizeof w->arg, "%.*s", (int)(len - w->not), text + w->not);
            for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
                if (sl_text_starts(w->arg, tests[i].prefix)) {
                    w->test = tests[i].test;
                    memmove(w->arg, w->arg + strlen(tests[i].prefix), strlen(w->arg) - strlen(tests[i].prefix) + 1);
                    break;
                }
        }
        text += len;
        text += *text == ' ';
    }
    return count;
}

static const char *place_of(const struct sl_checkpoint *ck, const struct sl_tensor *s, char *out, size_t room)
{
    const struct sl_checkpoint_info *info = sl_info(ck);
    if (s->rank >= 0 && (size_t)s->rank < info->rank_count) {
        const struct sl_rank *r = &info->ranks[s->rank];
        snprintf(out, room, "tp%d pp%d ep%d", r->tp, r->pp, r->ep);
        return out;
    }
    return s->file >= 0 && (size_t)s->file < info->file_count ? info->files[s->file].name : "";
}

static struct subject subject_of(const struct tree *t, const struct sl_checkpoint *ck, const uint32_t *logical_of,
                                 const struct tree_node *n, char *place, size_t room)
{
    bool piece = t->mode != TREE_LOGICAL;
    uint32_t logical = piece ? logical_of[n->leaf] : n->leaf;
    struct subject about = { .name = "", .split = "", .kind = "", .layer = -1, .expert = -1, .place = "", .marked = n->marked > 0, .sign = n->sign };
    if (logical != UINT32_MAX) {
        const struct sl_logical *l = sl_logical_at(ck, logical);
        about = (struct subject){ l->name, l->split_text, l->kind, l->dtype, l->shape, l->ndim, l->bytes, l->layer, l->expert, "", about.marked, n->sign };
    }
    if (piece) {
        const struct sl_tensor *s = sl_tensor_at(ck, n->leaf);
        about.name = s->path;
        about.dtype = s->dtype;
        about.shape = s->shape;
        about.ndim = s->ndim;
        about.bytes = s->bytes;
        about.place = place_of(ck, s, place, room);
    }
    return about;
}

/* Of a logical tensor any of its pieces will do. */
static bool any_place(const struct sl_checkpoint *ck, uint32_t logical, const char *arg)
{
    const struct sl_logical *l = sl_logical_at(ck, logical);
    char place[64];
    for (size_t i = 0; i < l->piece_count; i++)
        if (strcasestr(place_of(ck, sl_tensor_at(ck, l->pieces[i]), place, sizeof place), arg))
            return true;
    return false;
}

static bool matches(const struct tree *t, const struct sl_checkpoint *ck, const uint32_t *logical_of, const struct tree_node *n,
                    const struct word *words, size_t count)
{
    char place[64];
    struct subject s = subject_of(t, ck, logical_of, n, place, sizeof place);
    for (size_t w = 0; w < count; w++) {
        bool found = words[w].test == test_rank && t->mode == TREE_LOGICAL ? any_place(ck, n->leaf, words[w].arg)
                                                                             : words[w].test(&s, words[w].arg);
        if (found == words[w].not)
            return false;
    }
    return true;
}

void tree_filter(struct tree *t, const struct sl_checkpoint *ck, const uint32_t *logical_of, const char *text)
{
    struct word words[MOST_WORDS];
    size_t count = words_of(text, words);
    if (!t->built)
        return;
    t->filtered = count > 0;
    t->matches = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        struct tree_node *n = &t->nodes[i];
        n->match = count == 0;
        if (n->leaf == TREE_NONE)
            continue;
        if (count)
            n->match = matches(t, ck, logical_of, n, words, count);
        t->matches += n->match;
    }
    for (uint32_t i = t->count; count && i-- > 1;)
        if (t->nodes[i].match)
            t->nodes[t->nodes[i].parent].match = true;
    tree_rows(t);
}
