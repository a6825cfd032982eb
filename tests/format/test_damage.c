/* test_damage.c: the collection of hostile files, each with its expected
 * verdict; and small real files with every byte changed, and cut at every
 * length. Under ASan and UBSan (make asan) this is the test that no input
 * crashes the readers. */
#include "helper.h"

#include "base/json.h"
#include "base/pool.h"
#include "base/value.h"
#include "format/safetensors.h"
#include "format/torchwrite.h"
#include "format/zipdir.h"

#include <errno.h>

#define HOSTILE FIXTURES "hostile/"

/* Opens a file by its kind; results in the arena. */
static int open_any(const struct sl_file *file, bool is_st, struct sl_arena *arena,
                    struct sl_torch_file *torch, struct sl_error *err)
{
    struct sl_st_file st;
    memset(err, 0, sizeof *err);
    return is_st ? sl_st_open(file, arena, &st, err)
                 : sl_torch_open(file, 0, file->size, arena, torch, err);
}

static void check_verdict(const char *name, const char *verdict)
{
    char path[256];
    struct sl_file file;
    struct sl_error err;
    struct sl_arena arena = { 0 };
    struct sl_torch_file torch = { 0 };
    snprintf(path, sizeof path, HOSTILE "%s", name);
    if (sl_path_is_folder(path))
        return;                              /* for the rooms that open folders */
    assert_int_equal(sl_file_open(path, &file, &err), 0);
    bool is_st = sl_text_ends(name, ".safetensors");
    int code = open_any(&file, is_st, &arena, &torch, &err);
    if (!strcmp(verdict, "refuse")) {
        if (!code)
            fail_msg("%s was opened", name);
        assert_refused(code, &err);
    } else if (code) {
        fail_msg("%s was refused: %s", name, err.message);
    }
    assert_true(arena.used < 16 << 20);
    sl_file_close(&file);
    sl_arena_free(&arena);
}

static void hostile_files_are_refused_in_a_line_or_opaque(void **state)
{
    struct sl_arena arena = { 0 };
    const struct sl_value *expected;
    struct sl_error err;
    (void)state;
    if (sl_json_load(HOSTILE "expected.json", 1 << 20, &arena, &expected, &err))
        fail_msg("%s", err.message);
    assert_true(expected->len > 150);
    uint64_t slowest = 0;
    for (size_t i = 0; i < expected->len; i++) {
        uint64_t start = sl_now_ns();
        check_verdict(expected->keys[i]->s, expected->items[i]->s);
        slowest = sl_max_u64(slowest, sl_now_ns() - start);
    }
    assert_true(slowest < UINT64_C(5000000000));
    sl_arena_free(&arena);
    assert_false(sl_path_exists("CANARY"));
}

static void risky_calls_are_told(void **state)
{
    static const char *const names[] = { "call_os_system.pt", "call_popped.pt", "call_inst.pkl",
                                         "call_newobj_ex.pkl", "call_stack_global.pkl",
                                         "call_in_rebuild_args.pt", "call_py2_builtin.pt" };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[256];
        struct sl_file file;
        struct sl_error err;
        struct sl_arena arena = { 0 };
        struct sl_torch_file torch;
        snprintf(path, sizeof path, HOSTILE "%s", names[i]);
        assert_int_equal(sl_file_open(path, &file, &err), 0);
        assert_int_equal(open_any(&file, false, &arena, &torch, &err), 0);
        int worst = 0;
        for (uint32_t g = 0; g < torch.global_count; g++)
            worst = torch.globals[g].risk > worst ? torch.globals[g].risk : worst;
        assert_int_equal(worst, 2);
        sl_file_close(&file);
        sl_arena_free(&arena);
    }
}

/* --- every byte, every length ------------------------------------------- */

static const char *const small[] = {
    FIXTURES "torch/one_tensor.pt", FIXTURES "torch/deflated.pt", FIXTURES "torch/legacy_container.pt",
    FIXTURES "torch/big_endian.pt", FIXTURES "torch/bare_protocol0.pkl",
    FIXTURES "torch/bare_protocol4.pkl", "tests/fuzz/seeds/safetensors/two.safetensors",
};
#define SMALL (sizeof small / sizeof *small)

/* Opens the bytes; if that works, every tensor's storage must lie in the file. */
static void open_damaged(const struct sl_file *file, bool is_st)
{
    struct sl_arena arena = { 0 };
    struct sl_torch_file t = { 0 };
    struct sl_error err;
    int code = open_any(file, is_st, &arena, &t, &err);
    if (code)
        assert_refused(code, &err);
    for (uint32_t i = 0; !code && i < t.storage_count; i++)
        if (!t.storages[i].missing)
            assert_true(t.storages[i].offset + t.storages[i].packed <= file->size);
    sl_arena_free(&arena);
}

static void any_byte_may_be_changed(void **state)
{
    static const unsigned char changes[] = { 0x01, 0x80, 0xff };
    (void)state;
    for (size_t f = 0; f < SMALL; f++) {
        size_t len;
        struct sl_error err;
        char *bytes = read_fixture(small[f], &len);
        struct sl_file file = memory_file(bytes, len);
        for (size_t i = 0; i < len; i++) {
            for (size_t c = 0; c < sizeof changes; c++) {
                char changed = (char)(bytes[i] ^ changes[c]);
                assert_int_equal(sl_write_at(file.fd, "memory", i, &changed, 1, &err), 0);
                open_damaged(&file, sl_text_ends(small[f], ".safetensors"));
            }
            assert_int_equal(sl_write_at(file.fd, "memory", i, &bytes[i], 1, &err), 0);
        }
        free(bytes);
    }
}

static void a_file_cut_at_any_length_is_refused(void **state)
{
    (void)state;
    for (size_t f = 0; f < SMALL; f++) {
        size_t len;
        char *bytes = read_fixture(small[f], &len);
        for (size_t cut = 0; cut < len; cut++) {
            struct sl_arena arena = { 0 };
            struct sl_torch_file t = { 0 };
            struct sl_error err;
            struct sl_file file = memory_file(bytes, cut);
            int code = open_any(&file, sl_text_ends(small[f], ".safetensors"), &arena, &t, &err);
            if (!code)
                fail_msg("%s was opened although cut at %zu", small[f], cut);
            assert_refused(code, &err);
            sl_arena_free(&arena);
        }
        free(bytes);
    }
}

/* A flipped bit in what is read while opening (data.pkl) is found by its CRC. */
static void a_changed_pickle_is_found_by_its_checksum(void **state)
{
    size_t len;
    struct sl_error err;
    struct sl_arena arena = { 0 };
    struct sl_torch_file t;
    (void)state;
    char *bytes = read_fixture(FIXTURES "torch/one_tensor.pt", &len);
    for (size_t i = 64; i < 64 + 100; i++) {
        bytes[i] ^= 0x20;
        struct sl_file file = memory_file(bytes, len);
        assert_refused(sl_torch_open(&file, 0, len, &arena, &t, &err), &err);
        assert_says(&err, "CRC-32");
        bytes[i] ^= 0x20;
    }
    sl_arena_free(&arena);
    free(bytes);
}

static void a_full_arena_is_told_as_memory(void **state)
{
    size_t len;
    (void)state;
    char *bytes = read_fixture(FIXTURES "torch/objects.pt", &len);
    struct sl_file file = memory_file(bytes, len);
    for (uint64_t limit = 16; limit < 100000; limit += limit < 4000 ? 16 : 1000) {
        struct sl_arena arena = { .limit = limit };
        struct sl_torch_file t;
        struct sl_error err;
        int code = sl_torch_open(&file, 0, len, &arena, &t, &err);
        assert_true(code == SL_OK || code == SL_MEMORY);
        sl_arena_free(&arena);
    }
    free(bytes);
}

/* --- reads that fail ---------------------------------------------------- */

static ssize_t (*real_pread)(int fd, void *buf, size_t len, off_t offset);
static unsigned long reads, read_to_fail;

static ssize_t counted_pread(int fd, void *buf, size_t len, off_t offset)
{
    if (++reads == read_to_fail) {
        errno = EIO;
        return -1;
    }
    return real_pread(fd, buf, len, offset);
}

static void any_read_may_fail(void **state)
{
    (void)state;
    real_pread = sl_io.pread;
    for (size_t f = 0; f < SMALL; f++) {
        size_t len;
        char *bytes = read_fixture(small[f], &len);
        int code = SL_INPUT;
        for (read_to_fail = 1; code; read_to_fail++) {
            struct sl_arena arena = { 0 };
            struct sl_torch_file t;
            struct sl_error err;
            struct sl_file file = memory_file(bytes, len);
            reads = 0;
            sl_io.pread = counted_pread;
            code = open_any(&file, sl_text_ends(small[f], ".safetensors"), &arena, &t, &err);
            sl_io.pread = real_pread;
            if (code)
                assert_refused(code, &err);
            sl_arena_free(&arena);
            assert_true(read_to_fail < 100);
        }
        free(bytes);
    }
}

/* Thousands of small records cost a handful of reads. */
static void headers_are_read_in_few_large_reads(void **state)
{
    enum { COUNT = 5000 };
    static uint64_t sizes[COUNT];
    static uint32_t crc[COUNT];
    struct sl_arena arena = { 0 };
    struct sl_torch_layout l;
    struct sl_torch_piece *tail;
    uint32_t tail_count;
    struct sl_error err;
    struct sl_zip zip;
    (void)state;
    for (unsigned i = 0; i < COUNT; i++)
        sizes[i] = 100;
    assert_int_equal(sl_torch_layout("\x80\x02N.", 4, sizes, COUNT, &arena, &l, &err), 0);
    assert_int_equal(sl_torch_tail(&l, crc, &arena, &tail, &tail_count, &err), 0);
    char *bytes = calloc(1, l.file_size);
    for (uint32_t i = 0; i < l.piece_count; i++)
        memcpy(bytes + l.pieces[i].offset, l.pieces[i].bytes, l.pieces[i].len);
    for (uint32_t i = 0; i < tail_count; i++)
        memcpy(bytes + tail[i].offset, tail[i].bytes, tail[i].len);
    struct sl_file file = memory_file(bytes, l.file_size);
    real_pread = sl_io.pread;
    reads = read_to_fail = 0;
    sl_io.pread = counted_pread;
    int code = sl_zip_open(&file, 0, file.size, &arena, &zip, &err);
    sl_io.pread = real_pread;
    assert_int_equal(code, 0);
    assert_int_equal(zip.count, COUNT + 3);
    assert_true(reads < 40);
    free(bytes);
    sl_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_files_are_refused_in_a_line_or_opaque),
        cmocka_unit_test(risky_calls_are_told),
        cmocka_unit_test(any_byte_may_be_changed),
        cmocka_unit_test(a_file_cut_at_any_length_is_refused),
        cmocka_unit_test(a_changed_pickle_is_found_by_its_checksum),
        cmocka_unit_test(a_full_arena_is_told_as_memory),
        cmocka_unit_test(any_read_may_fail),
        cmocka_unit_test(headers_are_read_in_few_large_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
