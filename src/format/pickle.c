/* pickle.c: the unpickling machine: a stack, marks, a memo, and one short
 * function an opcode (table `ops` at the end).
 *
 * Source   CPython, Lib/pickle.py and Lib/pickletools.py (opcodes, fences at
 *          marks, MEMOIZE numbering); Modules/_pickle.c where they differ.
 *
 * None, True, False and () are one node each, so are equal globals, and equal
 * numbers mostly. All other opcodes that push make a node of their own.
 */
#include "format/pickle.h"

#include "base/error.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/num.h"
#include "format/pickletext.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONG_LIST 64             /* ids: longer ones are allocated by themselves */
#define MOST_RUN  (1u << 18)
#define INTS_KEPT_BITS 10        /* shapes and offsets repeat */

struct ids { sl_node_id *at; size_t count, room; };

struct machine {
    const uint8_t *bytes;
    size_t len, at;              /* at: the next byte to be read */
    size_t op_at;                /* where the opcode stands */
    const char *where;
    struct sl_arena *arena;
    struct sl_error *err;
    struct sl_pickle *out;
    struct sl_node *nodes;       /* owned while parsing; slot 0 stays empty */
    size_t node_room;
    sl_node_id *run;             /* room for short lists, from its end */
    uint32_t run_left, run_room;
    struct sl_node_extra *extras;/* owned while parsing */
    uint32_t extra_room;
    struct ids stack, memo, globals;
    struct ids marks;            /* heights of the stack, not nodes */
    size_t memo_count;           /* numbers that were put */
    struct sl_map far_memo;      /* those past the bytes read: see memo_put() */
    struct sl_map seen;          /* "module\0name" -> node of the global */
    sl_node_id constants[3];     /* None, False, True */
    sl_node_id unit;             /* () */
    sl_node_id ints[1 << INTS_KEPT_BITS];     /* by a hash of the number: the last INT made, 0 */
    bool stopped;
};

struct op_row { const char *name; int (*run)(struct machine *m); };
static const struct op_row ops[256];

/* --- refusing ----------------------------------------------------------- */

static void complain(struct machine *m, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));
static void complain(struct machine *m, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    uint8_t op = m->op_at < m->len ? m->bytes[m->op_at] : 0;
    const char *name = ops[op].name;
    if (m->op_at >= m->len)
        sl_fail(m->err, SL_INPUT, m->where, "cut off: the pickle ends after %zu bytes, without "
                "STOP", m->len);
    else if (m->out->cut)
        sl_fail(m->err, SL_INPUT, m->where, "cut off: the pickle ends after %zu bytes, inside "
                "opcode %s at byte %zu (%s)", m->len, name, m->op_at, text);
    else if (!name)
        sl_fail(m->err, SL_INPUT, m->where, "not a pickle: byte %zu (0x%02x): %s",
                m->op_at, op, text);
    else
        sl_fail(m->err, SL_INPUT, m->where, "damaged pickle: byte %zu (opcode %s): %s",
                m->op_at, name, text);
    if (m->op_at >= m->len || m->out->cut)
        sl_fail_fault(m->err, SL_FAULT_CUT);
}

/* Macros, so that the compiler sees that what they return is not 0. */
#define refuse(...) (complain(__VA_ARGS__), (int)SL_INPUT)
#define no_memory(m, bytes) (sl_fail_memory((m)->err, (bytes)), (int)SL_MEMORY)

/* --- growing ------------------------------------------------------------ */

static bool ids_reserve(struct ids *s, size_t count)
{
    if (count <= s->room)
        return true;
    size_t room = s->room ? s->room : 64;
    while (room < count)
        room *= 2;
    sl_node_id *at = realloc(s->at, room * sizeof *at);
    if (!at)
        return false;
    sl_memory_large(at + s->room, (room - s->room) * sizeof *at);
    memset(at + s->room, 0, (room - s->room) * sizeof *at);
    s->at = at;
    s->room = room;
    return true;
}

static int ids_add(struct machine *m, struct ids *s, sl_node_id id)
{
    if (!ids_reserve(s, s->count + 1))
        return no_memory(m, (s->count + 1) * sizeof id);
    s->at[s->count++] = id;
    return SL_OK;
}

/* Most lists have one to six ids: they are cut from runs, which grow with their number. */
static sl_node_id *new_list(struct machine *m, uint32_t room)
{
    if (room > m->run_left) {
        if (room > LONG_LIST)
            return SL_ARENA_NEW(m->arena, sl_node_id, room);
        m->run_room = (uint32_t)sl_min_u64(m->run_room ? 2 * m->run_room : LONG_LIST, MOST_RUN);
        m->run = SL_ARENA_NEW(m->arena, sl_node_id, m->run_room);
        m->run_left = m->run ? m->run_room : 0;
        if (!m->run)
            return NULL;
    }
    m->run_left -= room;
    return m->run + m->run_left;
}

/* A list of a node grows in the arena; old arrays stay there, which costs at
 * most as much again as the final one. */
static int list_add(struct machine *m, struct sl_node_list *list, const sl_node_id *ids,
                    size_t count)
{
    if (count > UINT32_MAX - list->count)
        return refuse(m, "more than %u items in one container", UINT32_MAX);
    uint32_t need = list->count + (uint32_t)count;
    if (need > list->room) {
        uint32_t twice = list->room < UINT32_MAX / 2 ? list->room * 2 : UINT32_MAX;
        uint32_t room = need > twice ? need : twice;
        sl_node_id *grown = new_list(m, room);
        if (!grown)
            return no_memory(m, (uint64_t)room * sizeof *grown);
        if (list->count)
            memcpy(grown, list->ids, list->count * sizeof *grown);
        list->ids = grown;
        list->room = room;
    }
    if (count)
        memcpy(list->ids + list->count, ids, count * sizeof *ids);
    list->count = need;
    return SL_OK;
}

/* Of a pickle of shapes and numbers, 9 bytes or more are a node; what is not used is not touched. */
static size_t first_room(const struct machine *m)
{
    return 64 + (size_t)sl_min_u64(m->len / 9, 1 << 22);
}

static int node_new(struct machine *m, enum sl_node_kind kind, sl_node_id *id)
{
    size_t next = (size_t)m->out->count + 1;
    if (next > SL_LIMIT_PICKLE_NODES)
        return refuse(m, "more than %llu objects in one pickle",
                      (unsigned long long)SL_LIMIT_PICKLE_NODES);
    if (next >= m->node_room) {
        size_t room = m->node_room ? m->node_room * 2 : first_room(m);
        struct sl_node *grown = realloc(m->nodes, room * sizeof *grown);
        if (!grown)
            return no_memory(m, room * sizeof *grown);
        sl_memory_large(grown + m->node_room, (room - m->node_room) * sizeof *grown);
        m->nodes = grown;
        m->node_room = room;
    }
    m->nodes[next] = (struct sl_node){ .kind = (uint8_t)kind };
    m->out->count = (uint32_t)next;
    *id = (sl_node_id)next;
    return SL_OK;
}

/* --- the stack ---------------------------------------------------------- */

/* Values below the topmost mark are out of reach until the mark is gone. */
static size_t floor_of(const struct machine *m)
{
    return m->marks.count ? m->marks.at[m->marks.count - 1] : 0;
}

static inline int push(struct machine *m, sl_node_id id)
{
    if (m->stack.count < m->stack.room && m->stack.count < SL_LIMIT_PICKLE_STACK) {
        m->stack.at[m->stack.count++] = id;
        return SL_OK;
    }
    if (m->stack.count >= SL_LIMIT_PICKLE_STACK)
        return refuse(m, "more than %llu values on the stack",
                      (unsigned long long)SL_LIMIT_PICKLE_STACK);
    return ids_add(m, &m->stack, id);
}

/* Makes a node and pushes it; *node is valid until the next node is made. */
static int push_new(struct machine *m, enum sl_node_kind kind, struct sl_node **node)
{
    sl_node_id id;
    int code = node_new(m, kind, &id);
    if (!code)
        code = push(m, id);
    if (!code)
        *node = &m->nodes[id];
    return code;
}

static int need(struct machine *m, size_t count)
{
    size_t have = m->stack.count - floor_of(m);
    if (have < count)
        return refuse(m, "needs %zu values, the stack has %zu", count, have);
    return SL_OK;
}

static sl_node_id pop(struct machine *m) { return m->stack.at[--m->stack.count]; }
static sl_node_id top(const struct machine *m) { return m->stack.at[m->stack.count - 1]; }

/* Takes the topmost mark away; *from is the height it stood at. */
static int unmark(struct machine *m, size_t *from)
{
    if (!m->marks.count)
        return refuse(m, "no mark was set");
    *from = m->marks.at[--m->marks.count];
    return SL_OK;
}

/* --- operands ----------------------------------------------------------- */

static int take(struct machine *m, uint64_t len, const uint8_t **p)
{
    size_t left = m->len - m->at;
    if (len > left) {
        m->out->cut = true;
        return refuse(m, "needs %llu bytes more, %zu are left", (unsigned long long)len, left);
    }
    *p = m->bytes + m->at;
    m->at += (size_t)len;
    return SL_OK;
}

/* Little-endian number of 1, 2, 4 or 8 bytes. */
static int take_uint(struct machine *m, unsigned width, uint64_t *value)
{
    const uint8_t *p;
    int code = take(m, width, &p);
    if (code)
        return code;
    *value = width == 1 ? p[0] : width == 2 ? sl_load_u16(p) : width == 4 ? sl_load_u32(p) : sl_load_u64(p);
    return SL_OK;
}

/* A text operand: up to and without the next line feed. */
static int take_line(struct machine *m, const char **s, size_t *len)
{
    size_t left = m->len - m->at;
    size_t look = left < SL_LIMIT_PICKLE_LINE ? left : SL_LIMIT_PICKLE_LINE;
    const uint8_t *start = m->bytes + m->at;
    const uint8_t *end = look ? memchr(start, '\n', look) : NULL;
    if (!end && left < SL_LIMIT_PICKLE_LINE) {
        m->out->cut = true;
        return refuse(m, "its text has no end");
    }
    if (!end)
        return refuse(m, "text longer than %d bytes", SL_LIMIT_PICKLE_LINE);
    *s = (const char *)start;
    *len = (size_t)(end - start);
    m->at += *len + 1;
    return SL_OK;
}

/* --- opcodes: stream ---------------------------------------------------- */

static uint8_t opcode(const struct machine *m) { return m->bytes[m->op_at]; }

static int op_proto(struct machine *m)
{
    uint64_t version;
    int code = take_uint(m, 1, &version);
    if (code)
        return code;
    if (version > 5)
        return refuse(m, "protocol %u; 0 to 5 are known", (unsigned)version);
    if ((int)version > m->out->protocol)
        m->out->protocol = (int)version;
    return SL_OK;
}

static int op_frame(struct machine *m)
{
    uint64_t len;
    int code = take_uint(m, 8, &len);
    if (!code && len > m->len - m->at) {
        m->out->cut = true;
        code = refuse(m, "frame of %llu bytes, %zu are left", (unsigned long long)len,
                      m->len - m->at);
    }
    return code;
}

static int op_stop(struct machine *m)
{
    int code = need(m, 1);
    if (code)
        return code;
    if (m->marks.count)
        return refuse(m, "%zu marks are left over", m->marks.count);
    m->out->root = pop(m);
    m->stopped = true;
    return SL_OK;
}

static int op_mark(struct machine *m)
{
    if (m->marks.count >= SL_LIMIT_PICKLE_STACK)
        return refuse(m, "more than %llu marks", (unsigned long long)SL_LIMIT_PICKLE_STACK);
    return ids_add(m, &m->marks, (sl_node_id)m->stack.count);
}

static int op_pop(struct machine *m)
{
    if (m->marks.count && floor_of(m) == m->stack.count) {
        m->marks.count--;
        return SL_OK;
    }
    int code = need(m, 1);
    if (!code)
        pop(m);
    return code;
}

static int op_pop_mark(struct machine *m)
{
    size_t from;
    int code = unmark(m, &from);
    if (!code)
        m->stack.count = from;
    return code;
}

static int op_dup(struct machine *m)
{
    int code = need(m, 1);
    return code ? code : push(m, top(m));
}

static int op_refused(struct machine *m)
{
    return refuse(m, "%s", opcode(m) == 0x97 || opcode(m) == 0x98
                           ? "its data lies outside of the file"
                           : "the extension registry is not part of the file");
}

/* --- opcodes: numbers and constants ------------------------------------- */

static int op_constant(struct machine *m)
{
    unsigned which = opcode(m) == 'N' ? 0 : opcode(m) == 0x88 ? 2 : 1;
    if (!m->constants[which]) {
        int code = node_new(m, which ? SL_NODE_BOOL : SL_NODE_NONE, &m->constants[which]);
        if (code)
            return code;
        m->nodes[m->constants[which]].u.i = which == 2;
    }
    return push(m, m->constants[which]);
}

static int push_int(struct machine *m, int64_t value)
{
    /* the upper bits of a product: sizes are multiples of powers of two */
    sl_node_id *kept = &m->ints[(uint64_t)value * UINT64_C(0x9e3779b97f4a7c15) >> (64 - INTS_KEPT_BITS)];
    if (*kept && m->nodes[*kept].u.i == value)
        return push(m, *kept);
    struct sl_node *node;
    int code = push_new(m, SL_NODE_INT, &node);
    if (code)
        return code;
    node->u.i = value;
    *kept = m->out->count;
    return SL_OK;
}

static int op_int(struct machine *m)
{
    uint64_t value;
    unsigned width = opcode(m) == 'J' ? 4 : opcode(m) == 'K' ? 1 : 2;
    int code = take_uint(m, width, &value);
    if (code)
        return code;
    return push_int(m, width == 4 ? (int32_t)(uint32_t)value : (int64_t)value);
}

/* Two's complement, little-endian, any length; small ones become INT. */
static int push_long(struct machine *m, const uint8_t *p, size_t len)
{
    while (len > 1 && ((p[len - 1] == 0x00 && !(p[len - 2] & 0x80)) ||
                       (p[len - 1] == 0xff && (p[len - 2] & 0x80))))
        len--;
    if (len <= 8) {
        uint64_t value = len && (p[len - 1] & 0x80) ? UINT64_MAX : 0;
        for (size_t i = len; i-- > 0;)
            value = value << 8 | p[i];
        return push_int(m, (int64_t)value);
    }
    struct sl_node *node;
    int code = push_new(m, SL_NODE_BIGINT, &node);
    if (!code) {
        node->u.text.s = (const char *)p;
        node->u.text.len = len;
    }
    return code;
}

static int op_long(struct machine *m)
{
    uint64_t len;
    const uint8_t *p;
    int code = take_uint(m, opcode(m) == 0x8a ? 1 : 4, &len);
    if (!code && len > SL_LIMIT_PICKLE_INT)
        return refuse(m, "an integer of %llu bytes; at most %d are read",
                      (unsigned long long)len, SL_LIMIT_PICKLE_INT);
    if (!code)
        code = take(m, len, &p);
    return code ? code : push_long(m, p, (size_t)len);
}

static int op_int_text(struct machine *m)
{
    const char *s;
    size_t len;
    int code = take_line(m, &s, &len);
    if (code)
        return code;
    if (opcode(m) == 'I' && len == 2 && s[0] == '0' && (s[1] == '0' || s[1] == '1')) {
        struct sl_node *node;
        code = push_new(m, SL_NODE_BOOL, &node);
        if (!code)
            node->u.i = s[1] == '1';
        return code;
    }
    uint8_t *number;
    size_t number_len;
    code = sl_pickle_decimal(m->arena, s, len, &number, &number_len);
    if (code == SL_MEMORY)
        return no_memory(m, len);
    return code ? refuse(m, "its text is no whole number") : push_long(m, number, number_len);
}

static int op_float(struct machine *m)
{
    const uint8_t *p;
    int code = take(m, 8, &p);
    struct sl_node *node;
    if (!code)
        code = push_new(m, SL_NODE_FLOAT, &node);
    if (code)
        return code;
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++)                 /* the one big-endian operand */
        bits = bits << 8 | p[i];
    memcpy(&node->u.f, &bits, 8);
    return SL_OK;
}

static int op_float_text(struct machine *m)
{
    const char *s;
    size_t len;
    int code = take_line(m, &s, &len);
    if (code)
        return code;
    double value;
    if (!sl_pickle_double(s, len, &value))
        return refuse(m, "its text is no number");
    struct sl_node *node;
    code = push_new(m, SL_NODE_FLOAT, &node);
    if (!code)
        node->u.f = value;
    return code;
}

/* --- opcodes: text and bytes -------------------------------------------- */

static int push_text(struct machine *m, enum sl_node_kind kind, const void *s, uint64_t len)
{
    struct sl_node *node;
    int code = push_new(m, kind, &node);
    if (!code) {
        node->u.text.s = s;
        node->u.text.len = len;
    }
    return code;
}

/* Width of the length operand and kind of the node, by opcode. */
static int op_text(struct machine *m)
{
    unsigned width;
    enum sl_node_kind kind;
    switch (opcode(m)) {
    case 'X':  width = 4; kind = SL_NODE_STR; break;          /* BINUNICODE */
    case 0x8c: width = 1; kind = SL_NODE_STR; break;
    case 0x8d: width = 8; kind = SL_NODE_STR; break;
    case 'U':  width = 1; kind = SL_NODE_BYTES; break;        /* Python 2 str */
    case 'T':  width = 4; kind = SL_NODE_BYTES; break;
    case 'C':  width = 1; kind = SL_NODE_BYTES; break;
    case 'B':  width = 4; kind = SL_NODE_BYTES; break;
    case 0x8e: width = 8; kind = SL_NODE_BYTES; break;
    default:   width = 8; kind = SL_NODE_BYTEARRAY; break;
    }
    uint64_t len;
    const uint8_t *p;
    int code = take_uint(m, width, &len);
    if (!code)
        code = take(m, len, &p);
    if (!code && kind == SL_NODE_STR && !sl_pickle_is_text(p, (size_t)len))
        return refuse(m, "its text is not UTF-8");
    return code ? code : push_text(m, kind, p, len);
}

static int op_text_line(struct machine *m)
{
    const char *s;
    size_t len;
    int code = take_line(m, &s, &len);
    if (code)
        return code;
    bool is_unicode = opcode(m) == 'V';
    char *text;
    size_t text_len;
    code = is_unicode ? sl_pickle_unicode(m->arena, s, len, &text, &text_len)
                      : sl_pickle_quoted(m->arena, s, len, &text, &text_len);
    if (code == SL_MEMORY)
        return no_memory(m, len);
    if (code)
        return refuse(m, "its text is not written as Python writes it");
    return push_text(m, is_unicode ? SL_NODE_STR : SL_NODE_BYTES, text, text_len);
}

/* --- opcodes: containers ------------------------------------------------ */

/* Replaces everything from height `from` on by a container of it. */
static int collect(struct machine *m, enum sl_node_kind kind, size_t from)
{
    sl_node_id id;
    int code = node_new(m, kind, &id);
    if (code)
        return code;
    code = list_add(m, &m->nodes[id].u.items, m->stack.at + from, m->stack.count - from);
    m->stack.count = from;
    return code ? code : push(m, id);
}

static int op_empty(struct machine *m)
{
    struct sl_node *node;
    switch (opcode(m)) {
    case ']': return push_new(m, SL_NODE_LIST, &node);
    case '}': return push_new(m, SL_NODE_DICT, &node);
    case 0x8f: return push_new(m, SL_NODE_SET, &node);
    default: break;
    }
    if (!m->unit) {
        int code = node_new(m, SL_NODE_TUPLE, &m->unit);
        if (code)
            return code;
    }
    return push(m, m->unit);
}

static int op_tuple_n(struct machine *m)
{
    size_t count = opcode(m) - 0x84u;
    int code = need(m, count);
    return code ? code : collect(m, SL_NODE_TUPLE, m->stack.count - count);
}

static int op_collect(struct machine *m)
{
    size_t from;
    int code = unmark(m, &from);
    if (code)
        return code;
    switch (opcode(m)) {
    case 't': return collect(m, SL_NODE_TUPLE, from);
    case 'l': return collect(m, SL_NODE_LIST, from);
    case 0x91: return collect(m, SL_NODE_FROZENSET, from);
    default: break;
    }
    if ((m->stack.count - from) % 2)
        return refuse(m, "a key without a value");
    return collect(m, SL_NODE_DICT, from);
}

static const char *const kind_names[] = {
    [SL_NODE_NONE] = "None", [SL_NODE_BOOL] = "a bool", [SL_NODE_INT] = "an int",
    [SL_NODE_BIGINT] = "an int", [SL_NODE_FLOAT] = "a float", [SL_NODE_STR] = "a str",
    [SL_NODE_BYTES] = "bytes", [SL_NODE_BYTEARRAY] = "a bytearray", [SL_NODE_TUPLE] = "a tuple",
    [SL_NODE_LIST] = "a list", [SL_NODE_SET] = "a set", [SL_NODE_FROZENSET] = "a frozenset",
    [SL_NODE_DICT] = "a dict", [SL_NODE_GLOBAL] = "a class", [SL_NODE_CALL] = "an instance",
    [SL_NODE_PERSID] = "a storage",
};

/* What is done to an instance beyond one BUILD. NULL: memory is out. */
static struct sl_node_extra *extra_of(struct machine *m, sl_node_id id)
{
    struct sl_node *node = &m->nodes[id];
    if (node->later == SL_LATER_EXTRA)
        return &m->extras[node->after];
    if (m->out->extra_count == m->extra_room) {
        const uint32_t room = m->extra_room ? 2 * m->extra_room : 16;
        struct sl_node_extra *grown = realloc(m->extras, room * sizeof *grown);
        if (!grown)
            return NULL;
        m->extras = grown;
        m->extra_room = room;
    }
    struct sl_node_extra *extra = &m->extras[m->out->extra_count];
    *extra = (struct sl_node_extra){ .items = { .count = 0 } };
    if (node->later == SL_LATER_STATE && list_add(m, &extra->states, &node->after, 1))
        return NULL;
    node->later = SL_LATER_EXTRA;
    node->after = m->out->extra_count++;
    return extra;
}

static bool is_instance(const struct sl_node *node)
{
    return node->kind == SL_NODE_CALL || node->kind == SL_NODE_GLOBAL ||
           node->kind == SL_NODE_PERSID;
}

/* The values from height `from` on go into the container right below them. */
static int add_items(struct machine *m, enum sl_node_kind kind, size_t from)
{
    if (from <= floor_of(m))
        return refuse(m, "nothing to add to");
    sl_node_id target = m->stack.at[from - 1];
    struct sl_node *node = &m->nodes[target];
    struct sl_node_list *list;
    if (node->kind == kind) {
        list = &node->u.items;
    } else if (is_instance(node)) {
        struct sl_node_extra *extra = extra_of(m, target);
        if (!extra)
            return no_memory(m, sizeof *extra);
        list = kind == SL_NODE_DICT ? &extra->pairs : &extra->items;
    } else {
        return refuse(m, "adds to %s, which can't take it", kind_names[node->kind]);
    }
    size_t count = m->stack.count - from;
    if (kind == SL_NODE_DICT && count % 2)
        return refuse(m, "a key without a value");
    int code = list_add(m, list, m->stack.at + from, count);
    m->stack.count = from;
    return code;
}

static int op_add_one(struct machine *m)
{
    bool is_pair = opcode(m) == 's';
    int code = need(m, is_pair ? 3 : 2);
    if (code)
        return code;
    return add_items(m, is_pair ? SL_NODE_DICT : SL_NODE_LIST, m->stack.count - (is_pair ? 2 : 1));
}

static int op_add_marked(struct machine *m)
{
    size_t from;
    int code = unmark(m, &from);
    if (code)
        return code;
    return add_items(m, opcode(m) == 'u' ? SL_NODE_DICT
                      : opcode(m) == 'e' ? SL_NODE_LIST : SL_NODE_SET, from);
}

/* --- opcodes: memo ------------------------------------------------------ */

/* Picklers number densely, and each put costs a byte or more; so a number past
 * the bytes read goes into a table, and 6 bytes can't ask for 16 GiB. */
static int memo_put_far(struct machine *m, uint64_t index)
{
    uint64_t known;
    char *key = sl_arena_copy(m->arena, &index, sizeof index);
    bool is_new = key && !sl_map_get(&m->far_memo, key, sizeof index, &known);
    if (!key || !sl_map_put(&m->far_memo, key, sizeof index, top(m)))
        return no_memory(m, sizeof index);
    m->memo_count += is_new;
    return SL_OK;
}

static int memo_put(struct machine *m, uint64_t index)
{
    int code = need(m, 1);
    if (code)
        return code;
    if (index > m->at)
        return memo_put_far(m, index);
    if (!ids_reserve(&m->memo, (size_t)index + 1))
        return no_memory(m, (index + 1) * sizeof(sl_node_id));
    if (!m->memo.at[index])
        m->memo_count++;
    m->memo.at[index] = top(m);
    return SL_OK;
}

static int memo_get(struct machine *m, uint64_t index)
{
    uint64_t far;
    if (index < m->memo.room && m->memo.at[index])
        return push(m, m->memo.at[index]);
    if (sl_map_get(&m->far_memo, (const char *)&index, sizeof index, &far))
        return push(m, (sl_node_id)far);
    return refuse(m, "memo number %llu was never set", (unsigned long long)index);
}

static int op_memoize(struct machine *m)
{
    return memo_put(m, m->memo_count);
}

static int op_put(struct machine *m)
{
    uint64_t index;
    int code = take_uint(m, opcode(m) == 'q' ? 1 : 4, &index);
    return code ? code : memo_put(m, index);
}

static int op_get(struct machine *m)
{
    uint64_t index;
    int code = take_uint(m, opcode(m) == 'h' ? 1 : 4, &index);
    return code ? code : memo_get(m, index);
}

static int op_memo_text(struct machine *m)
{
    const char *s;
    size_t len;
    int code = take_line(m, &s, &len);
    if (code)
        return code;
    uint64_t index = 0;
    if (!len || len > 10)
        return refuse(m, "its text is no memo number");
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return refuse(m, "its text is no memo number");
        index = index * 10 + (uint64_t)(s[i] - '0');
    }
    return opcode(m) == 'g' ? memo_get(m, index) : memo_put(m, index);
}

/* --- opcodes: names, calls ---------------------------------------------- */

/* One node for each distinct name, so that a class is the same object
 * wherever it is named; recorded even if its value is dropped. */
static int global_node(struct machine *m, const char *module, size_t module_len,
                       const char *name, size_t name_len, sl_node_id *id)
{
    if (!module_len || !name_len || memchr(module, 0, module_len) || memchr(name, 0, name_len))
        return refuse(m, "an empty name, or one with a NUL byte");
    sl_pickle_canonical(&module, &module_len, &name, &name_len);
    char probe[2 * SL_LIMIT_PICKLE_LINE + 2];       /* "module\0name\0" */
    size_t key_len = module_len + 1 + name_len;
    memcpy(probe, module, module_len);
    probe[module_len] = 0;
    memcpy(probe + module_len + 1, name, name_len);
    uint64_t found;
    if (sl_map_get(&m->seen, probe, key_len, &found)) {
        *id = (sl_node_id)found;
        return SL_OK;
    }
    char *key = sl_arena_strn(m->arena, probe, key_len);
    if (!key)
        return no_memory(m, key_len);
    int code = node_new(m, SL_NODE_GLOBAL, id);
    if (code)
        return code;
    m->nodes[*id].u.global.module = key;
    m->nodes[*id].u.global.name = key + module_len + 1;
    if (!sl_map_put(&m->seen, key, key_len, *id))
        return no_memory(m, sizeof(struct sl_map_slot));
    return ids_add(m, &m->globals, *id);
}

static int take_global(struct machine *m, sl_node_id *id)
{
    const char *module, *name;
    size_t module_len, name_len;
    int code = take_line(m, &module, &module_len);
    if (!code)
        code = take_line(m, &name, &name_len);
    return code ? code : global_node(m, module, module_len, name, name_len, id);
}

static int op_global(struct machine *m)
{
    sl_node_id id;
    int code = take_global(m, &id);
    return code ? code : push(m, id);
}

static int op_stack_global(struct machine *m)
{
    int code = need(m, 2);
    if (code)
        return code;
    const struct sl_node *name = &m->nodes[pop(m)];
    const struct sl_node *module = &m->nodes[pop(m)];
    if (name->kind != SL_NODE_STR || module->kind != SL_NODE_STR)
        return refuse(m, "a name must be two str, not %s and %s", kind_names[module->kind],
                      kind_names[name->kind]);
    if (name->u.text.len > SL_LIMIT_PICKLE_LINE || module->u.text.len > SL_LIMIT_PICKLE_LINE)
        return refuse(m, "a name longer than %d bytes", SL_LIMIT_PICKLE_LINE);
    sl_node_id id;
    code = global_node(m, module->u.text.s, (size_t)module->u.text.len, name->u.text.s,
                       (size_t)name->u.text.len, &id);
    return code ? code : push(m, id);
}

static int push_call(struct machine *m, enum sl_call_how how, sl_node_id callable,
                     sl_node_id args, sl_node_id kwargs)
{
    struct sl_node *node;
    int code = push_new(m, SL_NODE_CALL, &node);
    if (code)
        return code;
    node->u.call.how = how;
    node->u.call.callable = callable;
    node->u.call.args = args;
    node->u.call.kwargs = kwargs;
    return SL_OK;
}

/* REDUCE, NEWOBJ, NEWOBJ_EX: nothing is called, only written down. */
static int op_call(struct machine *m)
{
    uint8_t op = opcode(m);
    enum sl_call_how how = op == 'R' ? SL_CALL_REDUCE
                         : op == 0x81 ? SL_CALL_NEWOBJ : SL_CALL_NEWOBJ_EX;
    int code = need(m, how == SL_CALL_NEWOBJ_EX ? 3 : 2);
    if (code)
        return code;
    sl_node_id kwargs = how == SL_CALL_NEWOBJ_EX ? pop(m) : 0;
    sl_node_id args = pop(m);
    sl_node_id callable = pop(m);
    if (kwargs && m->nodes[kwargs].kind != SL_NODE_DICT)
        return refuse(m, "named arguments are %s, not a dict", kind_names[m->nodes[kwargs].kind]);
    if (m->nodes[args].kind != SL_NODE_TUPLE)
        return refuse(m, "arguments are %s, not a tuple", kind_names[m->nodes[args].kind]);
    return push_call(m, how, callable, args, kwargs);
}

/* INST names its class in the stream, OBJ has it above the mark. */
static int op_inst(struct machine *m)
{
    sl_node_id callable = 0;
    int code = opcode(m) == 'i' ? take_global(m, &callable) : SL_OK;
    size_t from;
    if (!code)
        code = unmark(m, &from);
    if (code)
        return code;
    size_t first = from;
    if (opcode(m) == 'o') {
        if (m->stack.count == from)
            return refuse(m, "no class above the mark");
        callable = m->stack.at[first++];
    }
    sl_node_id args;
    code = node_new(m, SL_NODE_TUPLE, &args);
    if (!code)
        code = list_add(m, &m->nodes[args].u.items, m->stack.at + first, m->stack.count - first);
    m->stack.count = from;
    return code ? code : push_call(m, SL_CALL_INST, callable, args, 0);
}

static int op_build(struct machine *m)
{
    int code = need(m, 2);
    if (code)
        return code;
    sl_node_id state = pop(m);
    sl_node_id target = top(m);
    if (!is_instance(&m->nodes[target]))
        return refuse(m, "gives a state to %s", kind_names[m->nodes[target].kind]);
    if (m->nodes[target].later == SL_LATER_NOTHING) {
        m->nodes[target].later = SL_LATER_STATE;
        m->nodes[target].after = state;
        return SL_OK;
    }
    struct sl_node_extra *extra = extra_of(m, target);
    if (!extra)
        return no_memory(m, sizeof *extra);
    return list_add(m, &extra->states, &state, 1);
}

static int push_persid(struct machine *m, sl_node_id id)
{
    struct sl_node *node;
    int code = push_new(m, SL_NODE_PERSID, &node);
    if (!code)
        node->u.id = id;
    return code;
}

static int op_persid(struct machine *m)
{
    int code = need(m, 1);
    return code ? code : push_persid(m, pop(m));
}

static int op_persid_text(struct machine *m)
{
    const char *s;
    size_t len;
    sl_node_id id;
    int code = take_line(m, &s, &len);
    if (!code)
        code = node_new(m, SL_NODE_STR, &id);
    if (code)
        return code;
    m->nodes[id].u.text.s = s;
    m->nodes[id].u.text.len = len;
    return push_persid(m, id);
}

static const struct op_row ops[256] = {
    [0x80] = {"PROTO", op_proto},               [0x95] = {"FRAME", op_frame},
    ['.']  = {"STOP", op_stop},                 ['(']  = {"MARK", op_mark},
    ['0']  = {"POP", op_pop},                   ['1']  = {"POP_MARK", op_pop_mark},
    ['2']  = {"DUP", op_dup},                   ['N']  = {"NONE", op_constant},
    [0x88] = {"NEWTRUE", op_constant},          [0x89] = {"NEWFALSE", op_constant},
    ['J']  = {"BININT", op_int},                ['K']  = {"BININT1", op_int},
    ['M']  = {"BININT2", op_int},               [0x8a] = {"LONG1", op_long},
    [0x8b] = {"LONG4", op_long},                ['I']  = {"INT", op_int_text},
    ['L']  = {"LONG", op_int_text},             ['F']  = {"FLOAT", op_float_text},
    ['G']  = {"BINFLOAT", op_float},            ['X']  = {"BINUNICODE", op_text},
    [0x8c] = {"SHORT_BINUNICODE", op_text},     [0x8d] = {"BINUNICODE8", op_text},
    ['V']  = {"UNICODE", op_text_line},         ['U']  = {"SHORT_BINSTRING", op_text},
    ['T']  = {"BINSTRING", op_text},            ['S']  = {"STRING", op_text_line},
    ['C']  = {"SHORT_BINBYTES", op_text},       ['B']  = {"BINBYTES", op_text},
    [0x8e] = {"BINBYTES8", op_text},            [0x96] = {"BYTEARRAY8", op_text},
    [0x97] = {"NEXT_BUFFER", op_refused},       [0x98] = {"READONLY_BUFFER", op_refused},
    [')']  = {"EMPTY_TUPLE", op_empty},         [']']  = {"EMPTY_LIST", op_empty},
    ['}']  = {"EMPTY_DICT", op_empty},          [0x8f] = {"EMPTY_SET", op_empty},
    [0x85] = {"TUPLE1", op_tuple_n},            [0x86] = {"TUPLE2", op_tuple_n},
    [0x87] = {"TUPLE3", op_tuple_n},            ['t']  = {"TUPLE", op_collect},
    ['l']  = {"LIST", op_collect},              ['d']  = {"DICT", op_collect},
    [0x91] = {"FROZENSET", op_collect},         ['a']  = {"APPEND", op_add_one},
    ['s']  = {"SETITEM", op_add_one},           ['e']  = {"APPENDS", op_add_marked},
    ['u']  = {"SETITEMS", op_add_marked},       [0x90] = {"ADDITEMS", op_add_marked},
    ['p']  = {"PUT", op_memo_text},             ['g']  = {"GET", op_memo_text},
    ['q']  = {"BINPUT", op_put},                ['h']  = {"BINGET", op_get},
    ['r']  = {"LONG_BINPUT", op_put},           ['j']  = {"LONG_BINGET", op_get},
    [0x94] = {"MEMOIZE", op_memoize},           ['c']  = {"GLOBAL", op_global},
    [0x93] = {"STACK_GLOBAL", op_stack_global}, [0x82] = {"EXT1", op_refused},
    [0x83] = {"EXT2", op_refused},              [0x84] = {"EXT4", op_refused},
    ['R']  = {"REDUCE", op_call},               [0x81] = {"NEWOBJ", op_call},
    [0x92] = {"NEWOBJ_EX", op_call},            ['i']  = {"INST", op_inst},
    ['o']  = {"OBJ", op_inst},                  ['b']  = {"BUILD", op_build},
    ['Q']  = {"BINPERSID", op_persid},          ['P']  = {"PERSID", op_persid_text},
};

/* --- running ------------------------------------------------------------ */

/* What more than half of a large pickle is made of, where all is as it should be; false: let the table do it. */
static inline bool run_quick(struct machine *m)
{
    const size_t left = m->len - m->at, heights = m->stack.count;
    const uint8_t *p = m->bytes + m->at;
    sl_node_id id = 0;
    switch (*p) {
    case 0x94:                                           /* MEMOIZE */
        if (heights == floor_of(m) || m->memo_count >= m->memo.room || m->memo.at[m->memo_count])
            return false;
        m->memo.at[m->memo_count++] = top(m);
        m->at++;
        return true;
    case 'h':                                            /* BINGET */
        if (left < 2 || p[1] >= m->memo.room || !(id = m->memo.at[p[1]]))
            return false;
        break;
    case 'j':                                            /* LONG_BINGET */
        if (left < 5 || sl_load_u32(p + 1) >= m->memo.room || !(id = m->memo.at[sl_load_u32(p + 1)]))
            return false;
        break;
    default:
        return false;
    }
    if (heights >= m->stack.room || heights >= SL_LIMIT_PICKLE_STACK)
        return false;
    m->stack.at[m->stack.count++] = id;
    m->at += *p == 'h' ? 2 : 5;
    return true;
}

static int run(struct machine *m)
{
    while (!m->stopped) {
        m->op_at = m->at;
        if (m->at == m->len) {
            m->out->cut = true;
            return refuse(m, "no STOP");
        }
        if (run_quick(m))
            continue;
        int (*step)(struct machine *) = ops[m->bytes[m->at++]].run;
        if (!step)
            return refuse(m, "no such opcode");
        int code = step(m);
        if (code)
            return code;
    }
    m->out->length = m->at;
    return SL_OK;
}

/* Gives a growing array to the arena, cut to its length; NULL: memory is out. */
static void *hand_over(struct machine *m, void *array, uint64_t count, uint64_t size)
{
    void *cut = array ? realloc(array, (size_t)sl_max_u64(count * size, 1)) : NULL;
    cut = cut ? cut : array;
    if (!sl_arena_take(m->arena, cut, count * size)) {
        free(cut);
        return NULL;
    }
    return cut;
}

/* Moves what was built into the arena, also after a failure, so that the names
 * met until then can be told. */
static int keep(struct machine *m)
{
    struct sl_pickle *out = m->out;
    if (!m->nodes) {
        out->count = 0;
        return SL_OK;
    }
    m->nodes[0] = (struct sl_node){ .kind = SL_NODE_NONE };
    out->nodes = hand_over(m, m->nodes, (uint64_t)out->count + 1, sizeof *m->nodes);
    out->extras = m->extras ? hand_over(m, m->extras, out->extra_count, sizeof *m->extras) : NULL;
    const bool all = out->nodes && (out->extras || !m->extras);
    m->nodes = NULL;
    m->extras = NULL;
    out->globals = m->globals.count
                 ? sl_arena_copy(m->arena, m->globals.at, m->globals.count * sizeof(sl_node_id))
                 : SL_ARENA_NEW(m->arena, sl_node_id, 0);
    if (all && out->globals) {
        out->global_count = (uint32_t)m->globals.count;
        return SL_OK;
    }
    const uint64_t node_bytes = ((uint64_t)out->count + 1) * sizeof *out->nodes;
    *out = (struct sl_pickle){0};
    return no_memory(m, node_bytes);
}

/* --- reading ------------------------------------------------------------ */

static const struct sl_node_list no_items;

const struct sl_node_list *sl_node_pairs(const struct sl_pickle *p, const struct sl_node *n)
{
    return n->later == SL_LATER_EXTRA ? &p->extras[n->after].pairs : &no_items;
}

const struct sl_node_list *sl_node_items(const struct sl_pickle *p, const struct sl_node *n)
{
    return n->later == SL_LATER_EXTRA ? &p->extras[n->after].items : &no_items;
}

const sl_node_id *sl_node_states(const struct sl_pickle *p, const struct sl_node *n, uint32_t *count)
{
    *count = n->later == SL_LATER_STATE ? 1 : n->later == SL_LATER_EXTRA ? p->extras[n->after].states.count : 0;
    return n->later == SL_LATER_STATE ? &n->after : *count ? p->extras[n->after].states.ids : NULL;
}

/* --- all of it ---------------------------------------------------------- */

int sl_pickle_parse(const void *bytes, size_t len, const char *where,
                    struct sl_arena *arena, struct sl_pickle *out, struct sl_error *err)
{
    *out = (struct sl_pickle){0};
    struct machine m = { .bytes = bytes, .len = len, .where = where, .arena = arena,
                         .err = err, .out = out };
    int code = ids_reserve(&m.stack, 1) ? run(&m) : no_memory(&m, sizeof(sl_node_id));
    int kept = keep(&m);
    free(m.stack.at);
    free(m.marks.at);
    free(m.memo.at);
    free(m.globals.at);
    sl_map_free(&m.seen);
    sl_map_free(&m.far_memo);
    return code ? code : kept;
}
