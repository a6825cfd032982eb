/* test_dist_damage.c: distributed checkpoints that are damaged or incomplete, from outside: the exit status of each
 * command, its one line, and what `check --json` names: the file, the key and the chunk.
 *
 * Those of tests/fixtures/dist/bad are of a module of no family (dist_files.py made them); those made here are of a
 * save of Megatron-core. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "program.h"

#include "base/arena.h"
#include "base/json.h"
#include "base/value.h"

#define BAD "tests/fixtures/dist/bad/"
#define SAVED "tests/fixtures/dist/minicpm_tp1_pp2/iter_0000010"
#define MARKER "{\"sharded_backend\": \"torch_dist\", \"sharded_backend_version\": 1}"

/* ---- looking ---- */

/* The commands that need the data, each with its status and one line that has `words`. */
static void needs_the_data(const char *path, int code, const char *words)
{
    static const char *const commands[] = { "convert %s $T/never --to hf --progress none", "plan %s --to hf", "verify %s %s" };
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        struct said s;
        if (i == 0)
            s = program("convert %s $T/never --to hf --progress none", path);
        else if (i == 1)
            s = program("plan %s --to hf", path);
        else
            s = program("verify %s %s --progress none", path, path);
        if (s.code != code || !strstr(s.err, words) || lines_of(s.err) != 1)
            fail_msg("%s %s: exit %d, expected %d and one line with \"%s\":\n%s", commands[i], path, s.code, code, words, s.err);
        said_free(&s);
        assert_true(access(below("never"), F_OK) != 0);
    }
}

/* inspect shows what can be seen, with the status of damage. */
static void inspect_says(const char *path, int code, const char *words)
{
    struct said s = program("inspect %s", path);
    if (s.code != code || (!strstr(s.out, words) && !strstr(s.err, words)))
        fail_msg("inspect %s: exit %d, expected %d and \"%s\":\n%s%s", path, s.code, code, words, s.out, s.err);
    said_free(&s);
}

/* check --json: an error with this code, whose place is the file, and whose message names key and chunk. */
static void check_names(const char *path, const char *code, const char *file, const char *key, const char *chunk)
{
    struct said s = program("check %s --json", path);
    struct sl_arena arena = { 0 };
    const struct sl_value *json = NULL;
    size_t found = 0;
    assert_int_equal(s.code, 1);
    assert_string_equal(s.err, "");
    assert_int_equal(sl_json_parse(s.out, strlen(s.out), "check", &arena, &json, NULL), 0);
    const struct sl_value *problems = sl_value_get(json, "problems");
    for (size_t i = 0; problems && i < problems->len; i++) {
        const struct sl_value *p = problems->items[i];
        const char *where = sl_value_str(sl_value_get(p, "where")), *message = sl_value_str(sl_value_get(p, "message"));
        found += !strcmp(sl_value_str(sl_value_get(p, "code")), code) && !strcmp(sl_value_str(sl_value_get(p, "severity")), "error") &&
                 !strncmp(where, file, strlen(file)) && strstr(message, key) && strstr(message, chunk);
    }
    if (!found)
        fail_msg("check %s: no %s at %s with %s and %s:\n%s", path, code, file, key, chunk, s.out);
    sl_arena_free(&arena);
    said_free(&s);
}

static void copy_saved(const char *name)
{
    const pid_t pid = fork();
    if (pid == 0) {
        execlp("cp", "cp", "-r", SAVED, below(name), (char *)NULL);
        _exit(127);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- chunks and files ---- */

static void each_damage_has_its_status_its_line_and_its_place(void **state)
{
    static const struct { const char *name; int inspect; const char *words, *code, *file, *chunk; } cases[] = {
        { "short", 3, "it has 3054 bytes; .metadata places w, chunk [2:4, 0:3], at byte 1577", "truncated-shard", "__0_0.distcp", "[2:4, 0:3]" },
        { "no_item", 3, "it has 3154 bytes; .metadata places w, chunk [2:4, 0:3], at byte 1584", "truncated-shard", "__0_0.distcp", "[2:4, 0:3]" },
        { "gone", 3, "the file is missing: w, chunk [0:2, 0:3]", "missing-file", "__0_0.distcp", "[0:2, 0:3]" },
        { "no_place", 3, "w: chunk [2:4, 0:3] has no place in any file", "chunk-missing", ".metadata", "[2:4, 0:3]" },
        { "hole", 3, "w: no chunk holds [2:4, 0:3] of its array [4, 3]", "chunk-missing", ".metadata", "[2:4, 0:3]" },
        { "overlap", 3, "w: chunk [1:3, 0:3] overlaps chunk [0:2, 0:3]", "chunk-overlap", "__0_0.distcp", "[1:3, 0:3]" },
        { "outside", 3, "w: chunk [2:4, 0:3] lies outside of its array [3, 3]", "chunk-outside", "__0_0.distcp", "[2:4, 0:3]" },
        /* inspect reads headers only: what an item holds is seen by who reads it */
        { "other_dtype", 0, "w, chunk [0:2, 0:3], at byte 0: the item holds a tensor [2, 3] of fp32", "unreadable-tensor", "__0_0.distcp", "[0:2, 0:3]" },
        { "other_shape", 0, "w, chunk [0:2, 0:6], at byte 0: the item holds a tensor [2, 3] of fp32", "unreadable-tensor", "__0_0.distcp", "[0:2, 0:6]" },
        { "cut_item", 0, "w, chunk [2:4, 0:3], at byte 1577: truncated", "unreadable-tensor", "__0_0.distcp", "[2:4, 0:3]" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[256];
        snprintf(path, sizeof path, BAD "%s", cases[i].name);
        inspect_says(path, cases[i].inspect, cases[i].inspect ? cases[i].code : "torch-dcp");
        /* plan, like inspect, does not look into items */
        if (cases[i].inspect) {
            needs_the_data(path, 3, cases[i].words);
        } else {
            struct said s = program("convert %s $T/never --to hf --progress none", path);
            assert_int_equal(s.code, 3);
            assert_non_null(strstr(s.err, cases[i].words));
            said_free(&s);
            assert_true(access(below("never"), F_OK) != 0);
        }
        check_names(path, cases[i].code, cases[i].file, "w", cases[i].chunk);
    }
}

static void a_damaged_save_of_megatron_is_refused_by_all_that_read_it(void **state)
{
    (void)state;
    copy_saved("short");
    assert_int_equal(truncate(below("short/__0_0.distcp"), 96811), 0);
    const char *place = "decoder.layers.mlp.linear_fc2.weight, chunk [1:2, 0:30, 0:44], at byte 90086";
    struct said s = program("convert $T/short $T/never --to hf --progress none");
    assert_int_equal(s.code, 3);
    assert_non_null(strstr(s.err, "it has 96811 bytes; .metadata places"));
    assert_non_null(strstr(s.err, place));
    assert_int_equal(lines_of(s.err), 1);
    said_free(&s);
    s = program("verify $T/short " SAVED " --progress none");
    assert_int_equal(s.code, 3);
    assert_non_null(strstr(s.err, place));
    assert_int_equal(lines_of(s.err), 1);
    said_free(&s);
    check_names(below("short"), "truncated-shard", "__0_0.distcp", "decoder.layers.mlp.linear_fc2.weight", "[1:2, 0:30, 0:44]");

    copy_saved("gone");
    assert_int_equal(unlink(below("gone/__0_0.distcp")), 0);
    inspect_says(below("gone"), 3, "missing-file");
    s = program("verify $T/gone " SAVED " --progress none");
    assert_int_equal(s.code, 3);
    assert_non_null(strstr(s.err, "__0_0.distcp"));
    assert_int_equal(lines_of(s.err), 1);
    said_free(&s);
    check_names(below("gone"), "missing-file", "__0_0.distcp", "embedding.word_embeddings.weight", "[0:71, 0:30]");
}

/* ---- metadata.json ---- */

static void a_marker_that_is_missing_broken_or_of_another_backend_is_told(void **state)
{
    (void)state;
    copy_saved("marker");
    assert_int_equal(unlink(below("marker/metadata.json")), 0);
    inspect_says(below("marker"), 3, "there is no metadata.json");
    struct said s = program("convert $T/marker $T/never --to hf --progress none");
    assert_int_equal(s.code, 3);
    assert_non_null(strstr(s.err, "there is no metadata.json, which Megatron writes last"));
    assert_int_equal(lines_of(s.err), 1);
    said_free(&s);
    check_names(below("marker"), "dist-marker", "metadata.json", "no metadata.json", "");

    write_text(below("marker/metadata.json"), "{\"sharded_backend\": ");
    inspect_says(below("marker"), 3, "it is no JSON that names the \"sharded_backend\"");

    write_text(below("marker/metadata.json"), "{\"sharded_backend\": \"fancy_fs\", \"sharded_backend_version\": 1}");
    const char *other = "metadata.json names the backend \"fancy_fs\"; expected torch_dist, zarr or fsdp_dtensor";
    inspect_says(below("marker"), 3, other);
    needs_the_data(below("marker"), 3, other);
    write_text(below("marker/metadata.json"), "{\"sharded_backend\": \"zarr\", \"sharded_backend_version\": 1}");
    needs_the_data(below("marker"), 3, "it has no folder with a .zarray");

    write_text(below("marker/metadata.json"), MARKER);
    assert_int_equal(unlink(below("marker/.metadata")), 0);
    needs_the_data(below("marker"), 3, "but there is no .metadata, which tells where tensors are");
}

/* ---- .metadata ---- */

static void metadata_that_is_none_is_refused_in_one_line(void **state)
{
    static const struct { const char *name; int code; const char *words; } cases[] = {
        { "garbage", 3, "it is plain text; expected a pickle" },
        { "not_metadata", 3, "its object is of no class, expected torch.distributed.checkpoint.metadata.Metadata" },
        { "other_class", 3, "its object is torch.distributed.checkpoint.metadata.ChunkStorageMetadata" },
        { "climbs", 3, "it names the file \"../__0_0.distcp\"; expected a name inside the folder" },
        { "negative", 3, "an entry of its storage_data is no _StorageInfo" },
        { "axes", 3, "w: the offsets and sizes of a chunk are not as many numbers as its tensor has axes" },
        /* nothing is wrong with it, it is not supported: 4 */
        { "transformed", 4, "items of __0_0.distcp were transformed when they were written (zstd)" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[256];
        snprintf(path, sizeof path, BAD "%s", cases[i].name);
        inspect_says(path, cases[i].code, cases[i].words);
        needs_the_data(path, cases[i].code, cases[i].words);
        struct said s = program("check %s --json", path);
        assert_int_equal(s.code, cases[i].code);
        assert_non_null(strstr(s.err, cases[i].words));
        assert_int_equal(lines_of(s.err), 1);
        assert_string_equal(s.out, "");
        said_free(&s);
    }
}

/* Objects that hold themselves, as protocol 2 writes them. M: a Metadata without a state. */
#define M "\x80\x02" "ctorch.distributed.checkpoint.metadata\nMetadata\n)\x81" "q\x00"
#define STATE "X\x13\x00\x00\x00" "state_dict_metadata"
#define STORAGE "X\x0c\x00\x00\x00" "storage_data"

static void metadata_that_holds_itself_is_refused_in_one_line(void **state)
{
    static const struct { const char *bytes; size_t len; const char *words; } cases[] = {
#define ROW(bytes, words) { bytes, sizeof(bytes) - 1, words }
        ROW(M "h\x00" "b.", "it has no storage_data"),
        ROW(M "}(" STATE "h\x00" STORAGE "h\x00" "ub.", "it has no storage_data"),
        ROW(M "}(" STORAGE "}" STATE "}q\x01(X\x01\x00\x00\x00wh\x01uub.", "w: neither a tensor nor bytes"),
#undef ROW
    };
    (void)state;
    assert_int_equal(mkdir(below("self"), 0700), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FILE *f = fopen(below("self/.metadata"), "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(cases[i].bytes, 1, cases[i].len, f), cases[i].len);
        assert_int_equal(fclose(f), 0);
        inspect_says(below("self"), 3, cases[i].words);
        needs_the_data(below("self"), 3, cases[i].words);
    }
}

/* ---- what does not stand in the way ---- */

/* Code that a pickle asks for is never run and always told: check answers no, inspect has the status of an error. A
 * conversion takes the numbers alone, and is how one gets rid of the code: it is told, and done. */
static void code_in_the_metadata_is_told_and_not_carried_over(void **state)
{
    (void)state;
    const char *asks = "its pickle asks for posix.system; nothing was run";
    inspect_says(BAD "calls", 3, asks);
    check_names(BAD "calls", "pickle-call", ".metadata", "posix.system", "");
    struct said s = program("convert " BAD "calls $T/clean --to hf --progress none");
    assert_int_equal(s.code, 0);
    assert_non_null(strstr(s.err, asks));
    said_free(&s);
    s = program("verify " BAD "calls $T/clean --progress none");
    assert_int_equal(s.code, 0);
    said_free(&s);
    s = program("check $T/clean --deep --json");
    assert_null(strstr(s.out, "pickle-call"));
    said_free(&s);
    assert_true(access("CANARY", F_OK) != 0);
}

/* Entries of the optimizer are never converted: that one of them is not whole is a warning, and no weight is missing. */
static void a_hole_in_the_optimizer_does_not_keep_weights_from_being_converted(void **state)
{
    (void)state;
    inspect_says(BAD "state", 0, "state-incomplete");
    struct said s = program("convert " BAD "state $T/weights --to hf --progress none");
    assert_int_equal(s.code, 0);
    assert_non_null(strstr(s.err, "1 entry that is no weight is not whole, first optimizer.m"));
    said_free(&s);
}

int main(int argc, char **argv)
{
    (void)argc;
    program_find(argv[0]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_damage_has_its_status_its_line_and_its_place),
        cmocka_unit_test(a_damaged_save_of_megatron_is_refused_by_all_that_read_it),
        cmocka_unit_test(a_marker_that_is_missing_broken_or_of_another_backend_is_told),
        cmocka_unit_test(metadata_that_is_none_is_refused_in_one_line),
        cmocka_unit_test(metadata_that_holds_itself_is_refused_in_one_line),
        cmocka_unit_test(code_in_the_metadata_is_told_and_not_carried_over),
        cmocka_unit_test(a_hole_in_the_optimizer_does_not_keep_weights_from_being_converted),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_tree(program_tmp);
    return failed;
}
