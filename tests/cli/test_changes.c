/* test_changes.c: files that change while they are read (changing.c): made shorter, emptied, longer, other bytes,
 * touched, another file of that name, gone; before the first read of the file, in the middle, before the last. Every
 * command ends with status 3 and one line that names the file; a conversion leaves no target. The terminal UI says it
 * on the screen and goes on. */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>
#include <cmocka.h>
#include "program.h"

#include "base/text.h"

#include <libgen.h>

static const char *const hows[] = { "shrink", "empty", "grow", "rewrite", "touch", "replace", "remove" };
enum { HOWS = sizeof hows / sizeof *hows };

static const char *const commands[] = {
    "inspect $T/source", "ls $T/source --json", "show $T/source %s --json", "check $T/source", "check --deep $T/source --threads 1",
    "check --layout $T/source --threads 1", "plan $T/source --to megatron", "convert $T/source $T/target --to pt --threads 1 --force --progress none",
    "verify $T/source $T/other --threads 1", "diff $T/source $T/other --threads 1",
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static char preload[PATH_MAX + 32];      /* changing.so, beside this test */
static struct { char file[PATH_MAX]; const char *how; unsigned at; } change;

static void set_change(void)
{
    char at[16];
    const char *asan = getenv("ASAN_OPTIONS");
    char options[512];
    snprintf(options, sizeof options, "%s%sverify_asan_link_order=0", asan ? asan : "", asan ? ":" : "");
    snprintf(at, sizeof at, "%u", change.at);
    setenv("ASAN_OPTIONS", options, 1);
    setenv("LD_PRELOAD", preload, 1);
    setenv("CHANGE_FILE", change.file, 1);
    setenv("CHANGE_HOW", change.how, 1);
    setenv("CHANGE_AT", at, 1);
    setenv("CHANGE_COUNT", below("count"), 1);
}

/* The file as it was, and old: what happens to it now has another time. */
static void restore(void)
{
    static const struct timespec old[2] = { { 1600000000, 0 }, { 1600000000, 0 } };
    unlink(change.file);
    copy_tree(below("kept"), change.file);
    if (utimensat(AT_FDCWD, change.file, old, 0))
        abort();
    unlink(below("count"));
    remove_tree(below("target"));
}

static struct said changed(const char *command, const char *tensor, const char *how, unsigned at)
{
    change.how = how;
    change.at = at;
    restore();
    program_before = set_change;
    struct said s = program(command, tensor);
    program_before = NULL;
    return s;
}

/* How often a command reads the file. */
static unsigned reads(const char *command, const char *tensor)
{
    struct stat st;
    struct said s = changed(command, tensor, "not at all", 0);
    if (s.code)
        fail_msg("%s: exit %d\n%s", command, s.code, s.err);
    said_free(&s);
    return stat(below("count"), &st) ? 0 : (unsigned)st.st_size;
}

static void must_find_out(const char *command, const char *tensor, const char *how, unsigned at, unsigned of)
{
    struct said s = changed(command, tensor, how, at);
    const char *name = strrchr(change.file, '/') + 1;
    if (s.code != 3 || lines_of(s.err) != 1 || !sl_text_starts(s.err, "shardlens: ") || !strstr(s.err, name))
        fail_msg("%s, %s before read %u of %u of %s: exit %d, said: %s", command, how, at, of, name, s.code, s.err);
    assert_int_not_equal(access(below("target"), F_OK), 0);
    said_free(&s);
}

/* The source ("": the converted one), and one file of it that will change. */
static void begin(const char *fixture, const char *file)
{
    char path[PATH_MAX], source[PATH_MAX];
    snprintf(source, sizeof source, "%s", *fixture ? fixture : below("hf"));
    remove_tree(below("source"));
    remove_tree(below("other"));
    copy_tree(source, below("source"));
    copy_tree(source, below("other"));
    snprintf(path, sizeof path, "%s/source/%s", program_tmp, file);
    if (!realpath(path, change.file))
        fail_msg("%s: not there", path);
    copy_tree(change.file, below("kept"));
}

static void every_command_finds_out_every_change_of_weights(void **state)
{
    static const char tensor[] = "model.layers.1.mlp.down_proj.weight";
    (void)state;
    begin("", "model.safetensors");
    for (size_t c = 0; c < COMMANDS; c++) {
        const unsigned count = reads(commands[c], tensor), moments[] = { 1, count / 2, count };
        assert_true(count > 2);
        for (size_t m = 0; m < 3; m++)
            for (size_t h = m == 1 ? 0 : (c + m) % 3; h < HOWS; h += m == 1 ? 1 : 3)    /* all of them in the middle */
                must_find_out(commands[c], tensor, hows[h], moments[m], count);
    }
}

static void every_kind_of_file_is_watched(void **state)
{
    static const char *const files[][2] = {
        { "", "config.json" },
        { "tests/fixtures/llama_tp2_pp1", "latest_checkpointed_iteration.txt" },
        { "tests/fixtures/llama_tp2_pp1", "iter_0000010/mp_rank_01/model_optim_rng.pt" },
        { "tests/fixtures/llama_nozip_tp2_pp1", "iter_0000010/mp_rank_00/model_optim_rng.pt" },
        { "tests/fixtures/dist/llama_tp2_pp2", "iter_0000010/.metadata" },
        { "tests/fixtures/dist/llama_tp2_pp2", "iter_0000010/metadata.json" },
        { "tests/fixtures/dist/llama_tp2_pp2", "iter_0000010/common.pt" },
        { "tests/fixtures/dist/llama_tp2_pp2", "iter_0000010/__0_0.distcp" },
        { "tests/fixtures/dist/zarr_llama", "iter_0000010/embedding.word_embeddings.weight/.zarray" },
    };
    static const size_t asked[] = { 0, 4, 7 };
    unsigned tried = 0;
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        begin(files[i][0], files[i][1]);
        for (size_t c = 0; c < sizeof asked / sizeof *asked; c++) {
            const unsigned count = reads(commands[asked[c]], "");
            for (size_t h = (i + c) % 3; count && h < HOWS; h += 3, tried++)
                must_find_out(commands[asked[c]], "", hows[h], (count + 1) / 2, count);
        }
    }
    assert_true(tried > 40);
}

/* Shown where the file stands and not in a line at the end: D reads all data. */
static void the_terminal_ui_says_so_and_goes_on(void **state)
{
    (void)state;
    begin("", "model.safetensors");
    write_text(below("keys"), "D");
    const unsigned count = reads("--script $T/keys $T/source%s", "");
    for (size_t h = 0; h < HOWS; h++)
        for (unsigned at = 1; at <= count; at += count - 1) {
            struct said s = changed("--script $T/keys $T/source%s", "", hows[h], at);
            if (s.code != 0 || *s.err || !strstr(s.out, "model.safetensors") || (at > 1 && !strstr(s.out, "FAULTS")))
                fail_msg("%s before read %u: exit %d: %s%s", hows[h], at, s.code, s.err, s.out);
            said_free(&s);
        }
}

static int prepare(void **state)
{
    (void)state;
    struct said s = program("convert tests/fixtures/llama_tp2_pp1 $T/hf --to hf --progress none");
    const int code = s.code;
    said_free(&s);
    return code;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_finds_out_every_change_of_weights),
        cmocka_unit_test(every_kind_of_file_is_watched),
        cmocka_unit_test(the_terminal_ui_says_so_and_goes_on),
    };
    char self[PATH_MAX] = "";
    (void)argc;
    program_find(argv[0]);
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return 1;
    snprintf(preload, sizeof preload, "%s/changing.so", dirname(self));
    const int failed = cmocka_run_group_tests(tests, prepare, NULL);
    remove_tree(program_tmp);
    return failed;
}
