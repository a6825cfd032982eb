/* test_dcpwrite.c: the .metadata that is written says what torch's own says: both are read by the safe unpickler
 * and compared entry by entry. What is to be written comes from a JSON of what torch reads. */
#include "helper.h"

#include "base/json.h"
#include "base/value.h"
#include "format/dcpwrite.h"
#include "format/pickle.h"

/* ---- what is to be written ------------------------------------------------------------ */

struct wanted {
    struct sl_arena arena;
    struct sl_dcp_listing l;
    const char *files[8];
    char *text;
};

static const int64_t *numbers(struct wanted *w, const struct sl_value *list)
{
    int64_t *out = sl_arena_new(&w->arena, list->len + 1, sizeof *out);
    for (size_t i = 0; i < list->len; i++)
        assert_true(sl_value_int(list->items[i], &out[i]));
    return out;
}

/* [file, offset, length] */
static void place(struct wanted *w, const struct sl_value *v, struct sl_dcp_item *item)
{
    const char *file = sl_value_str(v->items[0]);
    size_t i = 0;
    while (i < w->l.file_count && strcmp(w->files[i], file))
        i++;
    assert_true(i < 8);
    w->files[i] = file;
    w->l.file_count = i == w->l.file_count ? i + 1 : w->l.file_count;
    item->file = (uint32_t)i;
    item->offset = (uint64_t)v->items[1]->i;
    item->length = (uint64_t)v->items[2]->i;
}

/* [key, dtype, shape, [[at, shape, place], ..]] */
static void read_array(struct wanted *w, const struct sl_value *v, struct sl_dcp_array *a, struct sl_dcp_item *items)
{
    const char *dtype = sl_value_str(v->items[1]);
    *a = (struct sl_dcp_array){ .key = sl_value_str(v->items[0]), .dtype = sl_dtype_from_torch(dtype, strlen(dtype)),
                                .ndim = (uint32_t)v->items[2]->len, .shape = numbers(w, v->items[2]),
                                .item_count = v->items[3]->len };
    for (size_t i = 0; i < a->item_count; i++) {
        const struct sl_value *chunk = v->items[3]->items[i];
        items[i].at = numbers(w, chunk->items[0]);
        items[i].shape = numbers(w, chunk->items[1]);
        place(w, chunk->items[2], &items[i]);
    }
}

static void read_wanted(struct wanted *w, const char *path)
{
    struct sl_error err;
    const struct sl_value *json;
    size_t len, at = 0;
    memset(w, 0, sizeof *w);
    w->text = read_fixture(path, &len);
    assert_int_equal(sl_json_parse(w->text, len, path, &w->arena, &json, &err), 0);
    const struct sl_value *arrays = sl_value_get(json, "arrays"), *objects = sl_value_get(json, "objects");
    struct sl_dcp_array *a = sl_arena_new(&w->arena, arrays->len, sizeof *a);
    struct sl_dcp_item *items = sl_arena_new(&w->arena, 1000, sizeof *items);
    struct sl_dcp_object *o = sl_arena_new(&w->arena, objects->len, sizeof *o);
    for (size_t i = 0; i < arrays->len; at += a[i++].item_count)
        read_array(w, arrays->items[i], &a[i], &items[at]);
    assert_true(at > 0 && at < 1000);
    for (size_t i = 0; i < objects->len; i++) {
        o[i].key = sl_value_str(objects->items[i]->items[0]);
        place(w, objects->items[i]->items[1], &o[i].item);
    }
    w->l.files = w->files;
    w->l.arrays = a;
    w->l.array_count = arrays->len;
    w->l.items = items;
    w->l.objects = o;
    w->l.object_count = objects->len;
}

static void release(struct wanted *w)
{
    sl_arena_free(&w->arena);
    free(w->text);
}

/* ---- a pickle as text ------------------------------------------------------------------ */

static void tell(const struct sl_pickle *p, sl_node_id id, struct sl_buf *out);

static void tell_list(const struct sl_pickle *p, const struct sl_node_list *list, char open, char close, struct sl_buf *out)
{
    sl_buf_char(out, open);
    for (uint32_t i = 0; i < list->count; i++) {
        tell(p, list->ids[i], out);
        sl_buf_char(out, ' ');
    }
    sl_buf_char(out, close);
}

static void tell_states(const struct sl_pickle *p, const struct sl_node *n, struct sl_buf *out)
{
    struct sl_node_list states = { .count = 0 };
    states.ids = (sl_node_id *)(uintptr_t)sl_node_states(p, n, &states.count);
    tell_list(p, &states, '<', '>', out);
}

static void tell(const struct sl_pickle *p, sl_node_id id, struct sl_buf *out)
{
    const struct sl_node *n = sl_pickle_node(p, id);
    assert_non_null(n);
    switch (n->kind) {
    case SL_NODE_NONE: sl_buf_str(out, "None"); break;
    case SL_NODE_BOOL: sl_buf_str(out, n->u.i ? "True" : "False"); break;
    case SL_NODE_INT: sl_buf_printf(out, "%lld", (long long)n->u.i); break;
    case SL_NODE_STR: sl_buf_printf(out, "'%.*s'", (int)n->u.text.len, n->u.text.s); break;
    case SL_NODE_GLOBAL: sl_buf_printf(out, "%s.%s", n->u.global.module, n->u.global.name); break;
    case SL_NODE_TUPLE: tell_list(p, &n->u.items, '(', ')', out); break;
    case SL_NODE_LIST: tell_list(p, &n->u.items, '[', ']', out); break;
    case SL_NODE_DICT: tell_list(p, &n->u.items, '{', '}', out); break;
    case SL_NODE_CALL:
        tell(p, n->u.call.callable, out);
        sl_buf_char(out, n->u.call.how == SL_CALL_REDUCE ? '!' : ':');
        tell(p, n->u.call.args, out);
        if (n->later)
            tell_states(p, n, out);
        break;
    default: fail_msg("node of kind %d", (int)n->kind);
    }
}

/* The state of the Metadata at the root. */
static const struct sl_node *root_state(const struct sl_pickle *p)
{
    const struct sl_node *root = sl_pickle_node(p, p->root);
    assert_int_equal(root->kind, SL_NODE_CALL);
    uint32_t count;
    const sl_node_id *states = sl_node_states(p, root, &count);
    assert_true(count > 0);
    return sl_pickle_node(p, states[0]);
}

static sl_node_id member(const struct sl_pickle *p, const struct sl_node *dict, const char *name)
{
    for (uint32_t i = 0; i < dict->u.items.count; i += 2) {
        const struct sl_node *key = sl_pickle_node(p, dict->u.items.ids[i]);
        if (key->u.text.len == strlen(name) && !memcmp(key->u.text.s, name, key->u.text.len))
            return dict->u.items.ids[i + 1];
    }
    fail_msg("no %s", name);
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The entries of a member, one text each, sorted; the hint in MetadataIndex made None. */
static char **entries(const struct sl_pickle *p, const char *name, size_t *count)
{
    const struct sl_node *dict = sl_pickle_node(p, member(p, root_state(p), name));
    *count = dict->u.items.count / 2;
    char **lines = calloc(*count + 1, sizeof *lines);
    for (size_t i = 0; i < *count; i++) {
        struct sl_buf text = { 0 };
        tell(p, dict->u.items.ids[2 * i], &text);
        sl_buf_str(&text, " = ");
        tell(p, dict->u.items.ids[2 * i + 1], &text);
        char *hint = strstr(text.data, "'index' ");
        if (hint && hint[8] >= '0' && hint[8] <= '9') {
            struct sl_buf other = { 0 };
            sl_buf_printf(&other, "%.*s'index' None%s", (int)(hint - text.data), text.data, hint + 8 + strspn(hint + 8, "0123456789"));
            sl_buf_free(&text);
            text = other;
        }
        lines[i] = text.data;
    }
    qsort(lines, *count, sizeof *lines, by_text);
    return lines;
}

static void same_entries(const struct sl_pickle *ours, const struct sl_pickle *theirs, const char *name)
{
    size_t count, wanted;
    char **a = entries(ours, name, &count), **b = entries(theirs, name, &wanted);
    assert_int_equal(count, wanted);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(a[i], b[i]);
        free(a[i]);
        free(b[i]);
    }
    free(a);
    free(b);
}

/* The names of all members, but Megatron's own note of its plans. */
static void member_names(const struct sl_pickle *p, struct sl_buf *out)
{
    const struct sl_node *dict = root_state(p);
    for (uint32_t i = 0; i < dict->u.items.count; i += 2) {
        const struct sl_node *key = sl_pickle_node(p, dict->u.items.ids[i]);
        if (strncmp(key->u.text.s, "all_local_plans", key->u.text.len))
            sl_buf_printf(out, "%.*s ", (int)key->u.text.len, key->u.text.s);
    }
}

static void compare(const char *name)
{
    struct wanted w;
    struct sl_arena arena = { 0 };
    struct sl_pickle ours, theirs;
    struct sl_buf out = { 0 }, our_names = { 0 }, their_names = { 0 };
    struct sl_error err;
    char path[128];
    size_t len;
    snprintf(path, sizeof path, FIXTURES "dist_listing/%s.json", name);
    read_wanted(&w, path);
    assert_int_equal(sl_dcp_write(&w.l, &out, &err), 0);
    snprintf(path, sizeof path, FIXTURES "dist_listing/%s.metadata", name);
    char *bytes = read_fixture(path, &len);
    assert_int_equal(sl_pickle_parse(bytes, len, path, &arena, &theirs, &err), 0);
    assert_int_equal(sl_pickle_parse(out.data, out.len, "ours", &arena, &ours, &err), 0);
    assert_int_equal(ours.length, out.len);
    assert_int_equal(ours.protocol, 2);
    same_entries(&ours, &theirs, "state_dict_metadata");
    same_entries(&ours, &theirs, "storage_data");
    member_names(&ours, &our_names);
    member_names(&theirs, &their_names);
    assert_string_equal(our_names.data, their_names.data);
    for (uint32_t i = 0; i < ours.global_count; i++) {
        const struct sl_node *g = sl_pickle_node(&ours, ours.globals[i]);
        assert_int_equal(sl_pickle_global_risk(g->u.global.module, g->u.global.name), 0);
    }
    sl_buf_free(&our_names);
    sl_buf_free(&their_names);
    sl_buf_free(&out);
    sl_arena_free(&arena);
    free(bytes);
    release(&w);
}

static void metadata_says_what_megatrons_own_says(void **state)
{
    (void)state;
    compare("megatron");
}

static void metadata_says_what_torchs_own_says(void **state)
{
    (void)state;
    compare("torch");
}

/* More names than one byte can number, and offsets beyond 32 bits. */
static void a_large_metadata_is_read_back(void **state)
{
    (void)state;
    enum { COUNT = 700 };
    static char keys[COUNT][32];
    static struct sl_dcp_array arrays[COUNT];
    static struct sl_dcp_item items[COUNT];
    static const int64_t at[2] = { 0, 0 }, shape[2] = { 3, 5 };
    const char *const files[] = { "__0_0.distcp", "__1_0.distcp" };
    for (int i = 0; i < COUNT; i++) {
        snprintf(keys[i], sizeof keys[i], "weight.%d", i);
        arrays[i] = (struct sl_dcp_array){ .key = keys[i], .dtype = SL_BF16, .ndim = 2, .shape = shape, .item_count = 1 };
        items[i] = (struct sl_dcp_item){ .file = (uint32_t)i % 2, .offset = (uint64_t)i << 31, .length = 1000, .at = at, .shape = shape };
    }
    const struct sl_dcp_listing l = { .files = files, .file_count = 2, .arrays = arrays, .array_count = COUNT, .items = items };
    struct sl_buf out = { 0 };
    struct sl_error err;
    struct sl_arena arena = { 0 };
    struct sl_pickle p;
    assert_int_equal(sl_dcp_write(&l, &out, &err), 0);
    assert_int_equal(sl_pickle_parse(out.data, out.len, "ours", &arena, &p, &err), 0);
    size_t count;
    char **lines = entries(&p, "storage_data", &count);
    assert_int_equal(count, COUNT);
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        found |= strstr(lines[i], "'weight.699'") && strstr(lines[i], "'__1_0.distcp'") && strstr(lines[i], "'offset' 1501091069952 ");
        free(lines[i]);
    }
    assert_true(found);    /* 699 * 2^31 */
    free(lines);
    sl_buf_free(&out);
    sl_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_says_what_megatrons_own_says),
        cmocka_unit_test(metadata_says_what_torchs_own_says),
        cmocka_unit_test(a_large_metadata_is_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
