/* map.c: from the text of a map to parts: a tree of items in preorder, its sizes
 * and steps, one walk through it for each choice of alternatives, and the binding
 * of the factors met on the walk to the axes of the param. */
#include "layout/map.h"

#include "base/error.h"
#include "base/num.h"

#include <string.h>

#define NODES 96    /* items of one map */

enum node_kind { ROOT, PRODUCT, CHOICE, ALTERNATIVE, FACTOR };

struct node {
    enum node_kind kind;
    const char *text;        /* FACTOR: expression; ALTERNATIVE, ROOT: name */
    size_t len;
    uint32_t parent, end;    /* the subtree is [this, end) */
    uint32_t axis;           /* stored axis it is on */
    int64_t size;            /* values of its index */
    int64_t offset;          /* ALTERNATIVE: sizes of those before it */
    int64_t step;            /* of the axis' index, for one more of this */
    uint32_t picked;         /* CHOICE: the alternative the walk goes into */
};

struct tree {
    const char *map;         /* all of it, for messages */
    const char *text;        /* up to "as" */
    const struct sl_map_env *env;
    struct sl_error *err;
    struct node nodes[NODES];
    uint32_t count;
    uint32_t open;           /* the item that is being read */
    uint32_t ndim;
    int64_t shape[SL_AXES];
};

/* ---- reading ------------------------------------------------------------- */

static int fail(const struct tree *t, const char *what, const char *text, size_t len)
{
    return sl_fail(t->err, SL_USAGE, t->map, "%s at '%.*s'", what, (int)(len < 80 ? len : 80), text);
}

static int open_node(struct tree *t, enum node_kind kind, const char *text, size_t len)
{
    if (t->count == NODES)
        return sl_fail(t->err, SL_USAGE, t->map, "more than %d items in one map", NODES);
    if (t->open == 0 && t->ndim == SL_AXES)
        return sl_fail(t->err, SL_USAGE, t->map, "more than %d axes", SL_AXES);
    t->nodes[t->count] = (struct node){ .kind = kind, .text = text, .len = len, .parent = t->open,
                                        .axis = t->ndim, .size = kind != CHOICE };
    t->open = t->count++;
    return SL_OK;
}

/* Ends the open item: its size is known, and becomes part of its parent's. */
static int close_node(struct tree *t)
{
    struct node *n = &t->nodes[t->open];
    struct node *up = &t->nodes[n->parent];
    bool fits = true;
    n->end = t->count;
    if (up->kind == ROOT) {
        t->shape[t->ndim++] = n->size;
    } else if (up->kind == CHOICE) {
        n->offset = up->size;
        fits = sl_add_i64(up->size, n->size, &up->size);
    } else {
        fits = sl_mul_i64(up->size, n->size, &up->size);
    }
    t->open = n->parent;
    return fits ? SL_OK : sl_fail(t->err, SL_USAGE, t->map, "the array is too large to count");
}

static int add_factor(struct tree *t, const char *text, size_t len)
{
    const size_t star = text[0] == '*';
    int64_t value;
    int rc = t->env->dim(t->env->arg, text + star, len - star, &value, t->err);
    if (rc)
        return rc;
    if (value < 0)
        return sl_fail(t->err, SL_USAGE, t->map, "'%.*s' is %lld, a length can't be negative",
                       (int)len, text, (long long)value);
    if ((rc = open_node(t, FACTOR, text, len)))
        return rc;
    t->nodes[t->open].size = value;
    return close_node(t);
}

/* A name opens an alternative, or, outside all brackets, names the whole map. */
static int add_name(struct tree *t, const char *text, size_t len)
{
    struct node *in = &t->nodes[t->open];
    if (in->kind == CHOICE)
        return open_node(t, ALTERNATIVE, text, len);
    if (in->kind != ROOT || in->text)
        return fail(t, "a param name in the middle", text, len);
    in->text = text;
    in->len = len;
    return SL_OK;
}

static int read_bracket(struct tree *t, const char *p)
{
    const enum node_kind in = t->nodes[t->open].kind;
    int rc;
    switch (*p) {
    case '(':
    case '[':
        if (in == CHOICE)
            break;
        return open_node(t, *p == '(' ? PRODUCT : CHOICE, NULL, 0);
    case ')':
        if (in != PRODUCT || t->open + 1 == t->count)
            break;
        return close_node(t);
    case '|':
    case ']':
        if (in != ALTERNATIVE)
            break;
        if ((rc = close_node(t)) || *p == '|')
            return rc;
        return close_node(t);
    default:
        break;
    }
    return fail(t, "this bracket does not belong here", p, strlen(p));
}

/* Length of a name or expression; brackets inside an expression count. */
static size_t token_len(const char *p)
{
    size_t len = 0;
    for (int depth = 0; p[len]; len++) {
        if (p[len] == '(' && len)
            depth++;
        else if (p[len] == ')' && depth)
            depth--;
        else if (strchr(" ()[]|:", p[len]))
            break;
    }
    return len;
}

static int read_tree(struct tree *t)
{
    t->nodes[0] = (struct node){ .kind = ROOT, .size = 1 };
    t->count = 1;
    for (const char *p = t->text; *p; ) {
        const size_t len = token_len(p);
        int rc = SL_OK;
        if (*p == ' ') {
            p++;
            continue;
        }
        if (!len)
            rc = read_bracket(t, p);
        else if (p[len] == ':')
            rc = add_name(t, p, len);
        else if (t->nodes[t->open].kind == CHOICE)
            rc = fail(t, "an alternative without a name", p, len);
        else
            rc = add_factor(t, p, len);
        if (rc)
            return rc;
        p += len + (!len || p[len] == ':');
    }
    if (t->open)
        return sl_fail(t->err, SL_USAGE, t->map, "a bracket is not closed");
    t->nodes[0].end = t->count;
    uint64_t total;
    if (!sl_shape_count(t->shape, t->ndim, &total))
        return sl_fail(t->err, SL_USAGE, t->map, "the array is too large to count");
    return SL_OK;
}

/* Steps and weights never overflow, for they divide a size that was checked; but in an
 * array without elements, where they do not matter. */
static int64_t times(int64_t a, int64_t b)
{
    int64_t product = 0;
    (void)sl_mul_i64(a, b, &product);
    return product;
}

/* The step of an item is the product of all that is faster than it. */
static void set_steps(struct tree *t)
{
    int64_t faster[NODES];
    for (uint32_t i = 0; i < t->count; i++)
        faster[i] = 1;
    for (uint32_t i = t->count - 1; i > 0; i--) {
        struct node *n = &t->nodes[i];
        const enum node_kind up = t->nodes[n->parent].kind;
        n->step = up == PRODUCT || up == ALTERNATIVE ? faster[n->parent] : 1;
        faster[n->parent] = times(faster[n->parent], up == PRODUCT || up == ALTERNATIVE ? n->size : 1);
    }
    for (uint32_t i = 1; i < t->count; i++)
        t->nodes[i].step = times(t->nodes[i].step,
                                 t->nodes[i].parent ? t->nodes[t->nodes[i].parent].step : 1);
}

/* ---- walking ------------------------------------------------------------- */

struct walk {
    const char *name;
    size_t name_len;
    const struct node *factors[SL_DIGITS];
    uint32_t factor_count;
    int64_t first[SL_AXES];
    uint32_t choices[NODES], choice_count;   /* choices met, in order */
};

/* Follows one choice of alternatives through the whole map. */
static int walk_tree(struct tree *t, struct walk *w)
{
    *w = (struct walk){ .name = t->nodes[0].text, .name_len = t->nodes[0].len };
    for (uint32_t i = 1, skip; i < t->count; i = skip) {
        struct node *n = &t->nodes[i];
        skip = i + 1;
        if (n->kind == FACTOR) {
            if (w->factor_count == SL_DIGITS)
                return sl_fail(t->err, SL_USAGE, t->map, "more than %d factors", SL_DIGITS);
            w->factors[w->factor_count++] = n;
        } else if (n->kind == CHOICE) {
            w->choices[w->choice_count++] = i;
        } else if (n->kind == ALTERNATIVE && t->nodes[n->parent].picked != i) {
            skip = n->end;
        } else if (n->kind == ALTERNATIVE) {
            if (w->name)
                return fail(t, "a second param name on the same way", n->text, n->len);
            w->name = n->text;
            w->name_len = n->len;
            w->first[n->axis] = times(n->offset, n->step);
        }
    }
    if (!w->name)
        return sl_fail(t->err, SL_USAGE, t->map, "no param is named");
    return SL_OK;
}

/* The next choice of alternatives: the last choice met that has another one takes it,
 * those after it begin anew. False after the last. There are fewer than NODES: only one
 * name is allowed on a way. */
static bool next_walk(struct tree *t, const struct walk *w)
{
    for (uint32_t c = w->choice_count; c-- > 0; ) {
        struct node *choice = &t->nodes[w->choices[c]];
        const uint32_t next = t->nodes[choice->picked].end;
        if (next < choice->end) {
            choice->picked = next;
            return true;
        }
        choice->picked = w->choices[c] + 1;
    }
    return false;
}

/* ---- binding ------------------------------------------------------------- */

struct axes { const char *text[SL_AXES]; size_t len[SL_AXES]; uint32_t count; };

static bool split_axes(const char *text, struct axes *out)
{
    *out = (struct axes){ 0 };
    for (const char *p = text; *(p += strspn(p, " ")); p += strcspn(p, " ")) {
        if (out->count == SL_AXES)
            return false;
        out->text[out->count] = p;
        out->len[out->count++] = strcspn(p, " ");
    }
    return true;
}

static bool same(const char *a, size_t a_len, const char *b, size_t b_len)
{
    return a_len == b_len && memcmp(a, b, a_len) == 0;
}

static int32_t find_axis(const struct axes *axes, const char *text, size_t len)
{
    for (uint32_t a = 0; a < axes->count; a++)
        if (same(axes->text[a], axes->len[a], text, len))
            return (int32_t)a;
    return -1;
}

/* Where the last divisor of a fraction begins: after its last '/' outside ( ). 0: no fraction. */
static size_t last_divisor(const char *text, size_t len)
{
    int depth = 0;
    for (size_t i = len; i-- > 0; ) {
        depth += (text[i] == ')') - (text[i] == '(');
        if (text[i] == '/' && !depth)
            return i + 1;
    }
    return 0;
}

static int axis_fail(const struct tree *t, const struct walk *w, const char *axes,
                     const char *what, const char *text, size_t len)
{
    return sl_fail(t->err, SL_USAGE, t->map, "'%.*s' %s of %.*s (%s)", (int)len, text, what,
                   (int)w->name_len, w->name, axes);
}

/* The factor that is written as this divisor: "tp", "(a*b)" as a*b, or repeated "*tp". */
static struct sl_digit *find_divisor(const struct walk *w, struct sl_digit *digits,
                                     const char *text, size_t len)
{
    if (len > 1 && text[0] == '(') {
        text++;
        len -= 2;
    }
    for (uint32_t i = 0; i < w->factor_count; i++) {
        const struct node *f = w->factors[i];
        const size_t star = f->text[0] == '*';
        if (digits[i].axis == SL_DIGIT_NONE && same(f->text + star, f->len - star, text, len))
            return &digits[i];
    }
    return NULL;
}

/* An axis and the divisors written after it: binds the inner part and all outer ones. */
static int bind_axis(struct tree *t, const struct walk *w, const char *axis_text,
                     const struct axes *axes, uint32_t factor, struct sl_digit *digits,
                     bool made[SL_AXES])
{
    const char *text = w->factors[factor]->text;
    size_t len = w->factors[factor]->len, divisor;
    int32_t axis;
    while ((axis = find_axis(axes, text, len)) < 0 && (divisor = last_divisor(text, len)))
        len = divisor - 1;
    if (axis < 0)
        return SL_OK;
    if (made[axis])
        return axis_fail(t, w, axis_text, "comes up twice as an axis", text, len);
    made[axis] = true;

    int64_t weight = digits[factor].count, whole;
    digits[factor].axis = axis;
    digits[factor].weight = 1;
    for (size_t end = w->factors[factor]->len; end > len; end = divisor - 1) {
        divisor = last_divisor(text, end);
        struct sl_digit *outer = find_divisor(w, digits, text + divisor, end - divisor);
        if (!outer)
            return axis_fail(t, w, axis_text, "has a divisor that is no factor on the way", text, end);
        outer->axis = axis;
        outer->weight = weight;
        weight = times(weight, outer->count);
    }
    const int rc = t->env->dim(t->env->arg, text, len, &whole, t->err);
    if (!rc && whole != weight)
        return sl_fail(t->err, SL_USAGE, t->map, "the parts of axis %.*s make %lld, it has %lld",
                       (int)len, text, (long long)weight, (long long)whole);
    return rc;
}

/* What is no axis numbers params, repeats, or is 1. */
static int bind_rest(struct tree *t, const struct walk *w, const char *axis_text, uint32_t factor,
                     struct sl_digit *digits)
{
    const struct node *f = w->factors[factor];
    if (digits[factor].axis != SL_DIGIT_NONE || digits[factor].count == 1)
        return SL_OK;
    if (same(f->text, f->len, "layer", 5))
        digits[factor].axis = SL_DIGIT_LAYER;
    else if (same(f->text, f->len, "expert", 6))
        digits[factor].axis = SL_DIGIT_EXPERT;
    else if (f->text[0] == '*')
        digits[factor].axis = SL_DIGIT_REPEAT;
    else
        return axis_fail(t, w, axis_text, "is neither an axis nor a divisor of one", f->text, f->len);
    return SL_OK;
}

static int bind_param(struct tree *t, const struct walk *w, struct sl_part *part,
                      struct sl_digit *digits)
{
    const char *axis_text;
    struct axes axes;
    bool made[SL_AXES] = { 0 };
    int rc;
    part->param = t->env->param(t->env->arg, w->name, w->name_len, &axis_text, t->err);
    if (!part->param)
        return SL_USAGE;
    if (!split_axes(axis_text, &axes))
        return sl_fail(t->err, SL_USAGE, part->param, "more than %d axes: %s", SL_AXES, axis_text);
    part->ndim = axes.count;

    for (uint32_t i = 0; i < w->factor_count; i++)
        if (digits[i].axis == SL_DIGIT_NONE &&
            (rc = bind_axis(t, w, axis_text, &axes, i, digits, made)))
            return rc;
    for (uint32_t i = 0; i < w->factor_count; i++)
        if ((rc = bind_rest(t, w, axis_text, i, digits)))
            return rc;
    for (uint32_t a = 0; a < axes.count; a++)
        if (!made[a])
            return axis_fail(t, w, axis_text, "is missing as an axis", axes.text[a], axes.len[a]);
    return SL_OK;
}

/* One walk becomes one part; *empty when it has no elements. */
static int make_part(struct tree *t, const struct walk *w, struct sl_part *part, bool *empty)
{
    struct sl_digit digits[SL_DIGITS];
    *part = (struct sl_part){ 0 };
    *empty = false;
    memcpy(part->first, w->first, sizeof part->first);
    for (uint32_t i = 0; i < w->factor_count; i++) {
        const struct node *f = w->factors[i];
        digits[i] = (struct sl_digit){ .stored = f->axis, .count = f->size, .step = f->step,
                                       .axis = SL_DIGIT_NONE };
        *empty |= !f->size;
    }
    if (!same(w->name, w->name_len, "-", 1)) {
        const int rc = bind_param(t, w, part, digits);
        if (rc)
            return rc;
    }
    for (uint32_t i = 0; i < w->factor_count; i++)
        if (digits[i].count != 1)
            part->digits[part->digit_count++] = digits[i];
    return SL_OK;
}

/* ---- another shape --------------------------------------------------------- */

static int read_as(struct tree *t, const char *text, struct sl_stored *out)
{
    bool rest = false;
    for (const char *p = text; *(p += strspn(p, " ")); p += strcspn(p, " ")) {
        const size_t len = strcspn(p, " ");
        const bool star = same(p, len, "*", 1);
        int64_t length = -1;
        const int rc = star ? SL_OK : t->env->dim(t->env->arg, p, len, &length, t->err);
        if (rc)
            return rc;
        if (out->as_ndim == SL_AXES)
            return sl_fail(t->err, SL_USAGE, t->map, "more than %d axes after \"as\"", SL_AXES);
        if (star ? rest : length < 1)
            return fail(t, star ? "a second *" : "an impossible length", p, len);
        rest |= star;
        out->as[out->as_ndim++] = length;
    }
    return rest ? SL_OK : sl_fail(t->err, SL_USAGE, t->map, "one length after \"as\" must be *");
}

bool sl_stored_shape(const struct sl_stored *stored, const int64_t *lo, const int64_t *hi,
                     int64_t shape[SL_AXES], uint32_t *ndim)
{
    int64_t count = 1, given = 1;
    for (uint32_t a = 0; a < stored->ndim; a++) {
        shape[a] = hi[a] - lo[a];
        count *= shape[a];
    }
    *ndim = stored->as_ndim ? stored->as_ndim : stored->ndim;
    for (uint32_t a = 0; a < stored->as_ndim; a++)
        if (stored->as[a] > 0 && !sl_mul_i64(given, stored->as[a], &given))
            return false;
    for (uint32_t a = 0; a < stored->as_ndim; a++)
        shape[a] = stored->as[a] < 0 ? count / given : stored->as[a];
    return !stored->as_ndim || count % given == 0;
}

int sl_map_compile(const char *map, const struct sl_map_env *env, struct sl_arena *arena,
                   struct sl_stored *out, struct sl_error *err)
{
    const char *as = strstr(map, " as ");
    struct tree t = { .map = map, .text = sl_arena_strn(arena, map, as ? (size_t)(as - map) : strlen(map)),
                      .env = env, .err = err };
    struct walk w;
    int rc = t.text ? read_tree(&t) : sl_fail_memory(err, strlen(map));
    *out = (struct sl_stored){ .map = map, .ndim = t.ndim };
    if (rc || (as && (rc = read_as(&t, as + strlen(" as "), out))))
        return rc;
    set_steps(&t);
    for (uint32_t i = 0; i < t.count; i++)
        t.nodes[i].picked = i + 1;

    size_t room = 0;
    do {
        if ((rc = walk_tree(&t, &w)))
            return rc;
        room++;
    } while (next_walk(&t, &w));
    struct sl_part *parts = SL_ARENA_NEW(arena, struct sl_part, room);
    if (!parts)
        return sl_fail_memory(err, room * sizeof *parts);

    out->parts = parts;
    memcpy(out->shape, t.shape, sizeof out->shape);
    do {
        bool empty;
        if ((rc = walk_tree(&t, &w)) || (rc = make_part(&t, &w, &parts[out->part_count], &empty)))
            return rc;
        out->part_count += !empty;
    } while (next_walk(&t, &w));
    return SL_OK;
}
