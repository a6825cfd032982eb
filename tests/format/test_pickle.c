/* test_pickle.c: opcodes of protocols 0 to 5 one by one, and streams that lie. */
#include "helper.h"

#include "format/pickle.h"

struct parsed { struct sl_arena arena; struct sl_pickle pickle; struct sl_error err; int code; };

static const struct sl_node *parse(struct parsed *p, const char *bytes, size_t len)
{
    memset(p, 0, sizeof *p);
    p->code = sl_pickle_parse(bytes, len, "test", &p->arena, &p->pickle, &p->err);
    return p->code ? NULL : sl_pickle_node(&p->pickle, p->pickle.root);
}
#define PARSE(p, text) parse(p, text, sizeof text - 1)

static const struct sl_node *item(const struct parsed *p, const struct sl_node *list, uint32_t i)
{
    return sl_pickle_node(&p->pickle, list->u.items.ids[i]);
}

static void whole_numbers_of_all_forms_are_read(void **state)
{
    static const struct { const char *bytes; size_t len; int64_t want; } rows[] = {
#define ROW(text, want) { text, sizeof text - 1, want }
        ROW("K\xff.", 255), ROW("M\x01\x80.", 0x8001), ROW("J\xff\xff\xff\xff.", -1),
        ROW("\x8a\0.", 0), ROW("\x8a\1\xff.", -1), ROW("\x8a\2\xff\0.", 255),
        ROW("\x8a\x09\xff\xff\xff\xff\xff\xff\xff\x7f\0.", INT64_MAX),
        ROW("\x8b\2\0\0\0\0\x80.", -32768), ROW("I42\n.", 42), ROW("I-7\n.", -7), ROW("L123L\n.", 123),
        ROW("L-9223372036854775808L\n.", INT64_MIN), ROW("L9223372036854775807L\n.", INT64_MAX),
#undef ROW
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct parsed p;
        const struct sl_node *n = parse(&p, rows[i].bytes, rows[i].len);
        if (!n)
            fail_msg("row %zu: %s", i, p.err.message);
        assert_int_equal(n->kind, SL_NODE_INT);
        assert_true(n->u.i == rows[i].want);
        sl_arena_free(&p.arena);
    }
}

static void integers_of_more_than_64_bits_keep_their_bytes(void **state)
{
    struct parsed p;
    (void)state;
    const struct sl_node *n = PARSE(&p, "L18446744073709551616\n.");
    assert_int_equal(n->kind, SL_NODE_BIGINT);
    assert_int_equal(n->u.text.len, 9);
    assert_memory_equal(n->u.text.s, "\0\0\0\0\0\0\0\0\1", 9);
    sl_arena_free(&p.arena);
    n = PARSE(&p, "L-18446744073709551617\n.");
    assert_int_equal(n->u.text.len, 9);
    assert_memory_equal(n->u.text.s, "\xff\xff\xff\xff\xff\xff\xff\xff\xfe", 9);
    sl_arena_free(&p.arena);
}

static void constants_and_floats_are_read(void **state)
{
    struct parsed p;
    (void)state;
    assert_int_equal(PARSE(&p, "N.")->kind, SL_NODE_NONE);
    sl_arena_free(&p.arena);
    assert_int_equal(PARSE(&p, "\x88.")->u.i, 1);
    sl_arena_free(&p.arena);
    assert_int_equal(PARSE(&p, "I01\n.")->kind, SL_NODE_BOOL);
    sl_arena_free(&p.arena);
    assert_true(PARSE(&p, "G\x3f\xf8\0\0\0\0\0\0.")->u.f == 1.5);
    sl_arena_free(&p.arena);
    assert_true(PARSE(&p, "F-1.5e2\n.")->u.f == -150);
    sl_arena_free(&p.arena);
}

static void text_of_all_forms_is_read(void **state)
{
    static const struct { const char *bytes; size_t len; enum sl_node_kind kind; const char *want; } rows[] = {
#define ROW(text, kind, want) { text, sizeof text - 1, kind, want }
        ROW("X\2\0\0\0ab.", SL_NODE_STR, "ab"), ROW("\x8c\2ab.", SL_NODE_STR, "ab"),
        ROW("\x8d\2\0\0\0\0\0\0\0ab.", SL_NODE_STR, "ab"), ROW("Va\\u00e9\xe9\n.", SL_NODE_STR, "a\xc3\xa9\xc3\xa9"),
        ROW("U\2ab.", SL_NODE_BYTES, "ab"), ROW("T\2\0\0\0ab.", SL_NODE_BYTES, "ab"),
        ROW("S'a\\'\\x41\\n\\101\\q'\n.", SL_NODE_BYTES, "a'A\nA\\q"), ROW("C\2ab.", SL_NODE_BYTES, "ab"),
        ROW("B\2\0\0\0ab.", SL_NODE_BYTES, "ab"), ROW("\x8e\2\0\0\0\0\0\0\0ab.", SL_NODE_BYTES, "ab"),
        ROW("\x96\2\0\0\0\0\0\0\0ab.", SL_NODE_BYTEARRAY, "ab"),
        ROW("X\3\0\0\0\xed\xa0\x80.", SL_NODE_STR, "\xed\xa0\x80"),          /* a lone surrogate */
#undef ROW
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct parsed p;
        const struct sl_node *n = parse(&p, rows[i].bytes, rows[i].len);
        if (!n)
            fail_msg("row %zu: %s", i, p.err.message);
        assert_int_equal(n->kind, rows[i].kind);
        assert_int_equal(n->u.text.len, strlen(rows[i].want));
        assert_memory_equal(n->u.text.s, rows[i].want, n->u.text.len);
        sl_arena_free(&p.arena);
    }
}

static void containers_of_all_forms_are_filled(void **state)
{
    static const struct { const char *bytes; size_t len; enum sl_node_kind kind; uint32_t count; } rows[] = {
#define ROW(text, kind, count) { text, sizeof text - 1, kind, count }
        ROW(").", SL_NODE_TUPLE, 0), ROW("K\1\x85.", SL_NODE_TUPLE, 1), ROW("K\1K\2\x86.", SL_NODE_TUPLE, 2),
        ROW("K\1K\2K\3\x87.", SL_NODE_TUPLE, 3), ROW("(K\1K\2K\3K\4t.", SL_NODE_TUPLE, 4),
        ROW("].", SL_NODE_LIST, 0), ROW("]K\1a.", SL_NODE_LIST, 1), ROW("](K\1K\2e.", SL_NODE_LIST, 2),
        ROW("(K\1K\2l.", SL_NODE_LIST, 2), ROW("}.", SL_NODE_DICT, 0), ROW("}K\1K\2s.", SL_NODE_DICT, 2),
        ROW("}(K\1K\2K\3K\4u.", SL_NODE_DICT, 4), ROW("(K\1K\2d.", SL_NODE_DICT, 2),
        ROW("\x8f(K\1K\2\x90.", SL_NODE_SET, 2), ROW("(K\1\x91.", SL_NODE_FROZENSET, 1),
        ROW("]K\1aK\2""0.", SL_NODE_LIST, 1), ROW("]((1K\1a.", SL_NODE_LIST, 0), ROW("]K\1""2\x86""0.", SL_NODE_LIST, 0),
#undef ROW
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct parsed p;
        const struct sl_node *n = parse(&p, rows[i].bytes, rows[i].len);
        if (i == 16) {                     /* APPEND may not reach below a mark */
            assert_null(n);
            assert_says(&p.err, "APPEND");
        } else if (!n) {
            fail_msg("row %zu: %s", i, p.err.message);
        } else {
            assert_int_equal(n->kind, rows[i].kind);
            assert_int_equal(n->u.items.count, rows[i].count);
        }
        sl_arena_free(&p.arena);
    }
}

static void memo_of_all_forms_is_kept(void **state)
{
    static const struct { const char *bytes; size_t len; } rows[] = {
#define ROW(text) { text, sizeof text - 1 }
        ROW("K\7q\0""0h\0."), ROW("K\7r\1\0\0\0""0j\1\0\0\0."), ROW("K\7p2\n0g2\n."), ROW("K\7\x94""0h\0."),
        ROW("N\x94K\7\x94""0h\1."), ROW("K\7r\xfe\xff\xff\xff""0j\xfe\xff\xff\xff."),
#undef ROW
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct parsed p;
        const struct sl_node *n = parse(&p, rows[i].bytes, rows[i].len);
        if (!n)
            fail_msg("row %zu: %s", i, p.err.message);
        assert_int_equal(n->u.i, 7);
        sl_arena_free(&p.arena);
    }
}

static void calls_are_written_down_and_never_made(void **state)
{
    static const struct { const char *bytes; size_t len; enum sl_call_how how; } rows[] = {
#define ROW(text, how) { text, sizeof text - 1, how }
        ROW("cos\nsystem\nK\1\x85R.", SL_CALL_REDUCE), ROW("cos\nsystem\nK\1\x85\x81.", SL_CALL_NEWOBJ),
        ROW("cos\nsystem\nK\1\x85}\x92.", SL_CALL_NEWOBJ_EX), ROW("(K\1ios\nsystem\n.", SL_CALL_INST),
        ROW("(cos\nsystem\nK\1o.", SL_CALL_INST), ROW("\x8c\2os\x8c\6system\x93K\1\x85R.", SL_CALL_REDUCE),
#undef ROW
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct parsed p;
        const struct sl_node *n = parse(&p, rows[i].bytes, rows[i].len);
        if (!n)
            fail_msg("row %zu: %s", i, p.err.message);
        assert_int_equal(n->kind, SL_NODE_CALL);
        assert_int_equal(n->u.call.how, rows[i].how);
        const struct sl_node *f = sl_pickle_node(&p.pickle, n->u.call.callable);
        assert_string_equal(f->u.global.module, "os");
        assert_string_equal(f->u.global.name, "system");
        assert_int_equal(sl_pickle_node(&p.pickle, n->u.call.args)->u.items.count, 1);
        assert_int_equal(p.pickle.global_count, 1);
        sl_arena_free(&p.arena);
    }
}

static void what_is_done_to_instances_is_kept(void **state)
{
    struct parsed p;
    (void)state;
    const struct sl_node *n = PARSE(&p, "cm\nC\n)\x81K\1aK\2K\3s}b]b.");
    assert_non_null(n);
    uint32_t count;
    sl_node_states(&p.pickle, n, &count);
    assert_int_equal(sl_node_items(&p.pickle, n)->count, 1);
    assert_int_equal(sl_node_pairs(&p.pickle, n)->count, 2);
    assert_int_equal(count, 2);
    sl_arena_free(&p.arena);
}

static void names_of_python_2_become_those_of_today(void **state)
{
    static const struct { const char *bytes; const char *module, *name; } rows[] = {
        { "c__builtin__\nlong\n.", "builtins", "int" },
        { "c__builtin__\nunicode\n.", "builtins", "str" },
        { "cexceptions\nKeyError\n.", "builtins", "KeyError" },
        { "ccopy_reg\n_reconstructor\n.", "copyreg", "_reconstructor" },
        { "cnumpy._core.multiarray\nscalar\n.", "numpy.core.multiarray", "scalar" },
        { "cpathlib._local\nPosixPath\n.", "pathlib", "PosixPath" },
        { "ctorch.tensor\n_rebuild_from_type\n.", "torch._tensor", "_rebuild_from_type" },
        { "c_io\nBytesIO\n.", "io", "BytesIO" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct parsed p;
        const struct sl_node *n = parse(&p, rows[i].bytes, strlen(rows[i].bytes));
        assert_non_null(n);
        assert_string_equal(n->u.global.module, rows[i].module);
        assert_string_equal(n->u.global.name, rows[i].name);
        sl_arena_free(&p.arena);
    }
}

static void a_shared_list_is_one_node(void **state)
{
    struct parsed p;
    (void)state;
    const struct sl_node *n = PARSE(&p, "]q\0K\1ah\0\x86.");
    assert_int_equal(n->u.items.ids[0], n->u.items.ids[1]);
    assert_int_equal(item(&p, n, 0)->u.items.count, 1);
    sl_arena_free(&p.arena);
}

static void globals_are_told_also_when_damage_follows(void **state)
{
    struct parsed p;
    (void)state;
    assert_null(PARSE(&p, "cos\nsystem\n0cos\nsystem\n0cbuiltins\neval\n0\xff"));
    assert_refused(p.code, &p.err);
    assert_int_equal(p.pickle.global_count, 2);
    const struct sl_node *n = sl_pickle_node(&p.pickle, p.pickle.globals[1]);
    assert_string_equal(n->u.global.name, "eval");
    sl_arena_free(&p.arena);
}

static void a_pickle_ends_at_stop(void **state)
{
    struct parsed p;
    (void)state;
    assert_non_null(PARSE(&p, "\x80\2K\1.more"));
    assert_int_equal(p.pickle.length, 5);
    assert_int_equal(p.pickle.protocol, 2);
    sl_arena_free(&p.arena);
}

static void broken_streams_are_refused_with_byte_and_opcode(void **state)
{
    static const struct { const char *bytes; size_t len; const char *words; bool cut; } rows[] = {
#define ROW(text, words, cut) { text, sizeof text - 1, words, cut }
        ROW("", "without STOP", true), ROW("K\1", "without STOP", true), ROW("K", "BININT1", true),
        ROW(".", "needs 1 values, the stack has 0", false), ROW("R.", "REDUCE", false),
        ROW("K\1K\2R.", "arguments are an int", false), ROW("\xff.", "0xff", false),
        ROW("\x80\6N.", "protocol 6", false), ROW("X\xff\xff\xff\xff""ab.", "4294967295", true),
        ROW("\x8d\xff\xff\xff\xff\xff\xff\xff\xff""ab.", "18446744073709551615", true),
        ROW("h\0.", "never set", false), ROW("}K\1a.", "a dict", false), ROW("](K\1u.", "a list", false),
        ROW("}(K\1u.", "without a value", false), ROW("t.", "no mark", false), ROW("\x82\1.", "EXT1", false),
        ROW("\x97.", "outside of the file", false), ROW("cos\n", "no end", true), ROW("(K\1.", "marks are left", false),
        ROW("K\1}b.", "gives a state to an int", false), ROW("X\1\0\0\0\xff.", "UTF-8", false),
        ROW("K\1K\2\x93.", "two str", false), ROW("\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.", "FRAME", true),
        ROW("\x8b\xff\xff\xff\xff.", "LONG4", false), ROW("I1x\n.", "whole number", false),
        ROW("S'a\n.", "as Python writes it", false), ROW("c\nx\n.", "empty name", false),
#undef ROW
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct parsed p;
        assert_null(parse(&p, rows[i].bytes, rows[i].len));
        assert_refused(p.code, &p.err);
        assert_says(&p.err, rows[i].words);
        assert_int_equal(p.pickle.cut, rows[i].cut);
        sl_arena_free(&p.arena);
    }
}

static void risks_of_names_are_known(void **state)
{
    (void)state;
    assert_int_equal(sl_pickle_global_risk("os", "system"), 2);
    assert_int_equal(sl_pickle_global_risk("os.path", "join"), 2);
    assert_int_equal(sl_pickle_global_risk("builtins", "eval"), 2);
    assert_int_equal(sl_pickle_global_risk("torch.hub", "load"), 2);
    assert_int_equal(sl_pickle_global_risk("posixfoo", "bar"), 1);
    assert_int_equal(sl_pickle_global_risk("mindspeed.core", "Config"), 1);
    assert_int_equal(sl_pickle_global_risk("torch", "bfloat16"), 0);
    assert_int_equal(sl_pickle_global_risk("torch", "BFloat16Storage"), 0);
    assert_int_equal(sl_pickle_global_risk("torch._utils", "_rebuild_tensor_v2"), 0);
    assert_int_equal(sl_pickle_global_risk("megatron.core.enums", "ModelType"), 0);
    assert_int_equal(sl_pickle_global_risk("argparse", "Namespace"), 0);
}

static void ten_million_levels_of_tuples_need_no_stack(void **state)
{
    enum { LEVELS = 10000000 };
    struct parsed p;
    (void)state;
    char *bytes = malloc(LEVELS + 2);
    memset(bytes, 0x85, LEVELS + 1);
    bytes[0] = ')';
    bytes[LEVELS + 1] = '.';
    const struct sl_node *n = parse(&p, bytes, LEVELS + 2);
    assert_non_null(n);
    assert_int_equal(n->u.items.count, 1);
    sl_arena_free(&p.arena);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers_of_all_forms_are_read),
        cmocka_unit_test(integers_of_more_than_64_bits_keep_their_bytes),
        cmocka_unit_test(constants_and_floats_are_read),
        cmocka_unit_test(text_of_all_forms_is_read),
        cmocka_unit_test(containers_of_all_forms_are_filled),
        cmocka_unit_test(memo_of_all_forms_is_kept),
        cmocka_unit_test(calls_are_written_down_and_never_made),
        cmocka_unit_test(what_is_done_to_instances_is_kept),
        cmocka_unit_test(names_of_python_2_become_those_of_today),
        cmocka_unit_test(a_shared_list_is_one_node),
        cmocka_unit_test(globals_are_told_also_when_damage_follows),
        cmocka_unit_test(a_pickle_ends_at_stop),
        cmocka_unit_test(broken_streams_are_refused_with_byte_and_opcode),
        cmocka_unit_test(risks_of_names_are_known),
        cmocka_unit_test(ten_million_levels_of_tuples_need_no_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
