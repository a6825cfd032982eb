/* test_torchfile.c: what real torch and pickle wrote (tests/fixtures/torch),
 * against what torch itself says is in it. */
#include "helper.h"

#include "base/json.h"
#include "base/value.h"

#define TORCH FIXTURES "torch/"

/* --- one file against its JSON ------------------------------------------ */

struct opened {
    struct sl_arena arena;
    struct sl_file file;
    struct sl_torch_file torch;
};

static void open_torch(const char *path, struct opened *o)
{
    struct sl_error err;
    memset(o, 0, sizeof *o);
    assert_int_equal(sl_file_open(path, &o->file, &err), 0);
    if (sl_torch_open(&o->file, 0, o->file.size, &o->arena, &o->torch, &err))
        fail_msg("%s: %s", path, err.message);
}

static void close_torch(struct opened *o)
{
    sl_file_close(&o->file);
    sl_arena_free(&o->arena);
}

/* The value under a path of keys and list positions joined by dots. A key may
 * hold dots itself, so every prefix of the path is tried. */
static const struct sl_value *at_path(const struct sl_value *v, const char *path)
{
    if (!*path || !v)
        return v;
    if (v->kind == SL_VALUE_LIST) {
        char *end;
        unsigned long i = strtoul(path, &end, 10);
        return i < v->len ? at_path(v->items[i], *end == '.' ? end + 1 : end) : NULL;
    }
    for (size_t i = 0; v->kind == SL_VALUE_DICT && i < v->len; i++) {
        size_t n = v->keys[i]->len;
        if (v->keys[i]->kind != SL_VALUE_STR || strncmp(path, v->keys[i]->s, n) ||
            (path[n] && path[n] != '.'))
            continue;
        const struct sl_value *found = at_path(v->items[i], path[n] ? path + n + 1 : path + n);
        if (found)
            return found;
    }
    return NULL;
}

static void same_numbers(const struct sl_value *want, const int64_t *got, uint32_t count)
{
    assert_int_equal(want->len, count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(want->items[i]->i, got[i]);
}

static bool flag(const struct sl_value *row, const char *key)
{
    bool on = false;
    sl_value_bool(sl_value_get(row, key), &on);
    return on;
}

static void same_bytes(const struct opened *o, const struct sl_value *row,
                       const struct sl_torch_tensor *t)
{
    if (flag(row, "conj") || flag(row, "neg"))
        return;              /* the hash is of the values after that */
    size_t len;
    char hex[65];
    char *bytes = tensor_bytes(&o->file, &o->torch, t, &len);
    sha256_hex(bytes, len, hex);
    free(bytes);
    assert_string_equal(hex, sl_value_str(sl_value_get(row, "sha256")));
}

static void same_tensor(const struct opened *o, const struct sl_value *row)
{
    const char *path = sl_value_str(sl_value_get(row, "path"));
    const struct sl_value *v = at_path(o->torch.object, path);
    if (!v || v->kind != SL_VALUE_TENSOR)
        fail_msg("no tensor at %s", path);
    assert_in_range(v->i, 0, o->torch.tensor_count - 1);
    const struct sl_torch_tensor *t = &o->torch.tensors[v->i];
    assert_string_equal(sl_dtype_row(t->dtype)->torch, sl_value_str(sl_value_get(row, "dtype")));
    same_numbers(sl_value_get(row, "shape"), t->shape, t->ndim);
    uint64_t count;
    assert_true(sl_shape_count(t->shape, t->ndim, &count));
    same_numbers(sl_value_get(row, "stride"), t->stride, t->ndim);
    if (count)
        assert_int_equal(sl_value_get(row, "offset")->i, t->storage_offset);
    assert_int_equal(sl_value_get(row, "storage_bytes")->i, o->torch.storages[t->storage].bytes);
    assert_int_equal(flag(row, "conj"), t->conj);
    assert_int_equal(flag(row, "neg"), t->neg);
    assert_int_equal(flag(row, "parameter"), t->is_parameter);
    assert_int_equal(flag(row, "requires_grad"), t->requires_grad);
    same_bytes(o, row, t);
}

/* Tensors share a storage here where they share one there. */
static void same_sharing(const struct opened *o, const struct sl_value *rows)
{
    for (size_t i = 0; i < rows->len; i++) {
        for (size_t j = 0; j < i; j++) {
            const struct sl_value *a = at_path(o->torch.object, sl_value_str(sl_value_get(rows->items[i], "path")));
            const struct sl_value *b = at_path(o->torch.object, sl_value_str(sl_value_get(rows->items[j], "path")));
            bool want = sl_value_get(rows->items[i], "storage")->i == sl_value_get(rows->items[j], "storage")->i;
            bool got = o->torch.tensors[a->i].storage == o->torch.tensors[b->i].storage;
            assert_int_equal(want, got);
        }
    }
}

static void check_file(const char *name, const char *json)
{
    char path[256];
    struct opened o;
    const struct sl_value *want;
    struct sl_error err;
    snprintf(path, sizeof path, TORCH "%s", name);
    open_torch(path, &o);
    snprintf(path, sizeof path, TORCH "%s", json);
    if (sl_json_load(path, 1 << 20, &o.arena, &want, &err))
        fail_msg("%s: %s", path, err.message);
    const struct sl_value *rows = sl_value_get(want, "tensors");
    for (size_t i = 0; i < rows->len; i++)
        same_tensor(&o, rows->items[i]);
    same_sharing(&o, rows);
    close_torch(&o);
}

static void every_dtype_of_torch_is_read(void **state)
{
    (void)state;
    check_file("dtypes.pt", "dtypes.json");
    check_file("legacy_dtypes.pt", "legacy_dtypes.json");
}
static void views_strides_and_shared_storages_are_read(void **state)
{
    (void)state;
    check_file("views.pt", "views.json");
    check_file("legacy_views.pt", "legacy_views.json");
}
static void scalars_and_empty_tensors_are_read(void **state)
{
    (void)state;
    check_file("scalars_empty.pt", "scalars_empty.json");
    check_file("one_tensor.pt", "one_tensor.json");
}
static void parameters_and_tied_weights_are_read(void **state)
{
    (void)state;
    check_file("parameters.pt", "parameters.json");
}
static void quantized_tensors_are_read_as_their_integers(void **state)
{
    (void)state;
    check_file("quantized.pt", "quantized.json");
}
static void one_state_dict_reads_the_same_from_every_container(void **state)
{
    static const char *const names[] = { "plain", "legacy_container", "protocol3", "protocol4",
                                         "protocol5", "deflated", "unaligned", "crc_off" };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64], json[64];
        snprintf(name, sizeof name, "%s.pt", names[i]);
        snprintf(json, sizeof json, "%s.json", names[i]);
        check_file(name, json);
    }
}
static void big_endian_files_are_swapped(void **state)
{
    (void)state;
    check_file("big_endian.pt", "big_endian.json");
}
static void missing_checksums_are_noted(void **state)
{
    struct opened o;
    (void)state;
    open_torch(TORCH "crc_off.pt", &o);
    assert_true(o.torch.crc_missing);
    close_torch(&o);
    open_torch(TORCH "plain.pt", &o);
    assert_false(o.torch.crc_missing);
    close_torch(&o);
    check_file("skip_data.pt", "skip_data.json");
}

/* --- values ------------------------------------------------------------- */

static void prints(const struct sl_value *object, const char *path, const char *want)
{
    struct sl_buf b = { 0 };
    const struct sl_value *v = at_path(object, path);
    if (!v)
        fail_msg("no value at %s", path);
    sl_value_print(v, 500, &b);
    if (strcmp(b.data, want))
        fail_msg("%s is %s, not %s", path, b.data, want);
    sl_buf_free(&b);
}

static void has_type(const struct sl_value *object, const char *path, const char *type)
{
    const struct sl_value *v = at_path(object, path);
    if (!v || !v->type || strcmp(v->type, type))
        fail_msg("%s has type %s, not %s", path, v && v->type ? v->type : "none", type);
}

static void objects_become_plain_values(void **state)
{
    struct opened o;
    (void)state;
    open_torch(TORCH "objects.pt", &o);
    const struct sl_value *v = o.torch.object;
    prints(v, "namespace.num_layers", "3");
    has_type(v, "namespace.nested", "argparse.Namespace");
    has_type(v, "simple", "types.SimpleNamespace");
    has_type(v, "ordered", "collections.OrderedDict");
    prints(v, "ordered", "{z: 1, a: 2, m: 3}");
    prints(v, "enum", "1");
    has_type(v, "enum", "strange.place.Colour");
    prints(v, "enum_text", "green");
    prints(v, "enum_int", "10");
    has_type(v, "size", "torch.Size");
    prints(v, "size", "[2, 3]");
    prints(v, "torch_dtype", "bfloat16");
    has_type(v, "torch_dtype", "torch.dtype");
    prints(v, "device", "cuda:1");
    prints(v, "cpu", "cpu");
    prints(v, "layout", "torch.strided");
    prints(v, "path", "/data/corpus");
    prints(v, "datetime", "2024-05-06T07:08:09.000000");
    prints(v, "counter", "{a: 5, b: 2, r: 2, c: 1, d: 1}");
    prints(v, "default", "{a: 1, b: 2}");
    has_type(v, "unknown", "strange.place.Unknown");
    prints(v, "unknown", "{a: 1, b: [2, three]}");
    prints(v, "slotted", "{x: 1, y: [2, 3]}");
    close_torch(&o);
}

static void numpy_objects_become_numbers(void **state)
{
    struct opened o;
    (void)state;
    open_torch(TORCH "objects.pt", &o);
    const struct sl_value *v = o.torch.object;
    prints(v, "np_float", "0.5");
    prints(v, "np_float32", "0.25");
    prints(v, "np_int", "-3");
    prints(v, "np_bool", "true");
    prints(v, "np_text", "abc");
    prints(v, "np_array", "[[0, 1, 2], [3, 4, 5]]");
    prints(v, "np_fortran", "[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]");
    prints(v, "np_half", "[1.5, -2.0]");
    prints(v, "np_big", "[1, 2]");
    assert_int_equal(at_path(v, "np_empty")->kind, SL_VALUE_OPAQUE);
    close_torch(&o);
}

static void numbers_and_bytes_keep_their_value(void **state)
{
    struct opened o;
    (void)state;
    open_torch(TORCH "objects.pt", &o);
    const struct sl_value *v = o.torch.object;
    assert_int_equal(at_path(v, "ints.10")->i, INT64_MAX);
    assert_int_equal(at_path(v, "ints.11")->i, INT64_MIN);
    assert_string_equal(at_path(v, "ints.12")->s, "18446744073709551616");
    assert_string_equal(at_path(v, "ints.14")->s, "-10000000000000000000000000000000000000000");
    prints(v, "floats", "[0.0, -0.0, 0.1, 1e+308, 5e-324, inf, -inf, nan]");
    assert_int_equal(at_path(v, "bytes")->len, 4);
    assert_memory_equal(at_path(v, "bytes")->s, "\x00\x01\xfe\xff", 4);
    assert_int_equal(at_path(v, "no_bytes")->len, 0);
    assert_memory_equal(at_path(v, "buffer")->s, "opaque \x00\xff bytes", 15);
    assert_int_equal(at_path(v, "long_list")->len, 1100);
    close_torch(&o);
}

static void a_list_that_holds_itself_ends(void **state)
{
    struct opened o;
    (void)state;
    open_torch(TORCH "objects.pt", &o);
    prints(o.torch.object, "loop", "[1, 2, <(cycle)>]");
    assert_ptr_equal(at_path(o.torch.object, "shared.0"), at_path(o.torch.object, "shared.1"));
    close_torch(&o);
}

static void bare_pickles_of_all_protocols_give_the_same_object(void **state)
{
    struct opened first, o;
    (void)state;
    open_torch(TORCH "bare_protocol2.pkl", &first);
    assert_int_equal(first.torch.kind, SL_TORCH_BARE_PICKLE);
    prints(first.torch.object, "iteration", "3");
    prints(first.torch.object, "big", "<1180591620717411303424>");
    for (int protocol = 0; protocol <= 5; protocol++) {
        char path[128];
        snprintf(path, sizeof path, TORCH "bare_protocol%d.pkl", protocol);
        open_torch(path, &o);
        assert_true(sl_value_equal(first.torch.object, o.torch.object));
        close_torch(&o);
    }
    close_torch(&first);
}

static void globals_are_told_with_their_risk(void **state)
{
    struct opened o;
    (void)state;
    open_torch(FIXTURES "hostile/call_popped.pt", &o);
    int worst = 0;
    for (uint32_t i = 0; i < o.torch.global_count; i++)
        if (o.torch.globals[i].risk > worst)
            worst = o.torch.globals[i].risk;
    assert_int_equal(worst, 2);
    close_torch(&o);
    open_torch(FIXTURES "torch/plain.pt", &o);
    for (uint32_t i = 0; i < o.torch.global_count; i++)
        assert_int_equal(o.torch.globals[i].risk, 0);
    close_torch(&o);
}

/* --- archives inside other files ---------------------------------------- */

static void an_archive_inside_a_file_is_read_at_its_place(void **state)
{
    size_t len;
    struct sl_error err;
    struct sl_arena arena = { 0 };
    struct sl_torch_file t;
    (void)state;
    char *bytes = read_fixture(TORCH "one_tensor.pt", &len);
    char *around = calloc(1, len + 200);
    memcpy(around + 77, bytes, len);
    struct sl_file file = memory_file(around, len + 200);
    assert_int_equal(sl_torch_open(&file, 77, len, &arena, &t, &err), 0);
    float got[12];
    assert_int_equal(sl_file_read(&file, t.storages[0].offset, got, sizeof got, &err), 0);
    for (int i = 0; i < 12; i++)
        assert_true(got[i] == (float)i);
    assert_refused(sl_torch_open(&file, 77, len + 124, &arena, &t, &err), &err);
    sl_arena_free(&arena);
    free(bytes);
    free(around);
}

/* --- cut files ---------------------------------------------------------- */

static void a_cut_archive_says_where_it_ends(void **state)
{
    size_t len;
    struct sl_error err;
    struct sl_arena arena = { 0 };
    struct sl_torch_file t;
    (void)state;
    char *bytes = read_fixture(TORCH "plain.pt", &len);
    struct sl_file file = memory_file(bytes, 300);
    assert_refused(sl_torch_open(&file, 0, 300, &arena, &t, &err), &err);
    assert_says(&err, "ends at byte 300, inside record plain/data.pkl");
    file = memory_file(bytes, len - 1);
    assert_refused(sl_torch_open(&file, 0, len - 1, &arena, &t, &err), &err);
    assert_says(&err, "truncated: it ends at byte");
    sl_arena_free(&arena);
    free(bytes);
}

static void a_file_that_is_something_else_is_named(void **state)
{
    static const struct { const char *file, *words; } rows[] = {
        { "html.pt", "an HTML page" }, { "lfs_pointer.pt", "git lfs pull" }, { "empty.pt", "empty" },
        { "zeros.pt", "all zero bytes" }, { "gzip.pt", "gzip" }, { "tar.pt", "tar archive" },
        { "zip_torchscript.pt", "TorchScript" }, { "zip_no_version.pt", "archive/version" },
        { "tensor_view_outside.pt", "tensor weight: needs 28 bytes of storage 0, which has 24" },
        { "legacy_cut.pt", "should be 291 bytes long" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[128];
        struct sl_file file;
        struct sl_error err;
        struct sl_arena arena = { 0 };
        struct sl_torch_file t;
        snprintf(path, sizeof path, FIXTURES "hostile/%s", rows[i].file);
        assert_int_equal(sl_file_open(path, &file, &err), 0);
        assert_refused(sl_torch_open(&file, 0, file.size, &arena, &t, &err), &err);
        assert_says(&err, rows[i].words);
        sl_file_close(&file);
        sl_arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_dtype_of_torch_is_read),
        cmocka_unit_test(views_strides_and_shared_storages_are_read),
        cmocka_unit_test(scalars_and_empty_tensors_are_read),
        cmocka_unit_test(parameters_and_tied_weights_are_read),
        cmocka_unit_test(quantized_tensors_are_read_as_their_integers),
        cmocka_unit_test(one_state_dict_reads_the_same_from_every_container),
        cmocka_unit_test(big_endian_files_are_swapped),
        cmocka_unit_test(missing_checksums_are_noted),
        cmocka_unit_test(objects_become_plain_values),
        cmocka_unit_test(numpy_objects_become_numbers),
        cmocka_unit_test(numbers_and_bytes_keep_their_value),
        cmocka_unit_test(a_list_that_holds_itself_ends),
        cmocka_unit_test(bare_pickles_of_all_protocols_give_the_same_object),
        cmocka_unit_test(globals_are_told_with_their_risk),
        cmocka_unit_test(an_archive_inside_a_file_is_read_at_its_place),
        cmocka_unit_test(a_cut_archive_says_where_it_ends),
        cmocka_unit_test(a_file_that_is_something_else_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
