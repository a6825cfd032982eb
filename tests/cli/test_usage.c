/* What the command line says to people who mistype, and to those who ask for help. */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>
#include <cmocka.h>
#include "program.h"

/* One line on standard error that begins with the program's name, nothing on standard output. */
static void refused(const char *args, int code, const char *words)
{
    struct said s = program("%s", args);
    if (s.code != code || !strstr(s.err, words) || lines_of(s.err) != 1 || strncmp(s.err, "shardlens: ", 11) || *s.out)
        fail_msg("shardlens %s\n  exit %d, expected %d\n  said: %s%s  expected words: %s", args, s.code, code, s.err, s.out, words);
    said_free(&s);
}

static void a_missing_argument_is_named(void **state)
{
    (void)state;
    refused("inspect", 2, "inspect needs PATH");
    refused("convert one", 2, "convert needs SRC DST");
    refused("show one", 2, "show needs PATH TENSOR");
}

static void an_argument_too_many_is_named(void **state)
{
    (void)state;
    refused("inspect a b", 2, "b: one argument too many");
    refused("verify a b c", 2, "c: one argument too many");
}

static void an_option_that_does_not_exist_suggests_the_nearest(void **state)
{
    (void)state;
    refused("convert a b --max-shard-sise 5GB", 2, "did you mean --max-shard-size?");
    refused("inspect a --jsno", 2, "did you mean --json?");
    refused("inspect a -z", 2, "-z: no such option");
}

static void an_option_of_another_command_is_refused(void **state)
{
    (void)state;
    refused("inspect a --to hf", 2, "--to does not belong to inspect");
}

static void an_option_given_twice_is_refused(void **state)
{
    (void)state;
    refused("convert a b --to hf --to pt", 2, "--to: given twice");
    refused("convert a b --tp 2 --tp=2", 2, "--tp: given twice");
}

static void values_out_of_range_say_the_range(void **state)
{
    (void)state;
    refused("convert a b --tp 0", 2, "--tp 0: not a number from 1 to");
    refused("convert a b --tp two", 2, "--tp two: not a number");
    refused("convert a b --threads 1000", 2, "--threads 1000: not a number from 1 to");
    refused("convert a b --memory 12XB", 2, "--memory 12XB: not a size");
    refused("convert a b --to gguf", 2, "--to gguf: not one of hf|");
    refused("convert a b --verify maybe", 2, "not one of none|checksum|reread");
    refused("convert a b --json=yes", 2, "--json takes no value");
    refused("convert a b -j=yes", 2, "--json takes no value");
    refused("convert a b -fjz", 2, "-z: no such option");
    refused("convert a b -fjtgguf", 2, "--to gguf: not one of hf|");
    refused("convert a b -fjt", 2, "--to needs a value");
    refused("convert a b --to", 2, "--to needs a value");
    refused("ls a --rank tp=x", 2, "--rank tp=x: not understood");
}

static void a_word_that_is_no_command_and_no_file_is_told(void **state)
{
    (void)state;
    refused("inspekt", 2, "did you mean inspect?");
    refused("inspekt some/where", 2, "did you mean inspect?");
}

static void without_a_terminal_the_ui_says_so(void **state)
{
    (void)state;
    refused(".", 2, "terminal");
}

static void help_and_version_go_to_standard_output(void **state)
{
    (void)state;
    struct said s = program("--help");
    assert_int_equal(s.code, 0);
    assert_string_equal(s.err, "");
    const char *const commands[] = { "inspect", "ls", "show", "check", "plan", "convert", "verify", "models", "demo" };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        assert_non_null(strstr(s.out, commands[i]));
    said_free(&s);
    s = program("--version");
    assert_int_equal(s.code, 0);
    assert_int_equal(strncmp(s.out, "shardlens ", 10), 0);
    said_free(&s);
    s = program("convert --help");
    assert_int_equal(s.code, 0);
    assert_non_null(strstr(s.out, "--hf-config"));
    said_free(&s);
}

static void two_dashes_end_the_options(void **state)
{
    (void)state;
    refused("inspect -- --json", 3, "--json");
}

static void completions_exist_for_three_shells(void **state)
{
    (void)state;
    const char *const shells[] = { "bash", "zsh", "fish" };
    for (size_t i = 0; i < 3; i++) {
        struct said s = program("completions %s", shells[i]);
        assert_int_equal(s.code, 0);
        assert_non_null(strstr(s.out, "convert"));
        said_free(&s);
    }
    refused("completions tcsh", 2, "bash, zsh and fish are known");
}

static void every_preset_of_the_issue_is_listed(void **state)
{
    (void)state;
    struct said s = program("models");
    assert_int_equal(s.code, 0);
    const char *const presets[] = { "minicpm-0.5b", "minicpm-1.5b", "minicpm-3b", "minicpm-8b", "minicpm-14b",
                                    "llama-7b", "llama-13b", "llama-30b", "llama-65b" };
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        char line[64];
        snprintf(line, sizeof line, "\n%s ", presets[i]);
        if (!strstr(s.out, line))
            fail_msg("%s is not listed", presets[i]);
    }
    said_free(&s);
    refused("models no-such-model", 2, "no such model or family");
    s = program("models --check src/model/families/gemma2.json");
    assert_int_equal(s.code, 0);
    assert_non_null(strstr(s.out, "= gemma2 (Gemma 2)"));
    said_free(&s);
    s = program("models --check src/model/facts.json");      /* JSON, and no family */
    assert_int_equal(s.code, 1);
    assert_non_null(strstr(s.out, "src/model/facts.json: error: "));
    assert_non_null(strstr(s.out, "! wrong"));
    said_free(&s);
    refused("models --check no-such-file.json", 3, "no-such-file.json");
}

int main(int argc, char **argv)
{
    (void)argc;
    program_find(argv[0]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_argument_is_named),
        cmocka_unit_test(an_argument_too_many_is_named),
        cmocka_unit_test(an_option_that_does_not_exist_suggests_the_nearest),
        cmocka_unit_test(an_option_of_another_command_is_refused),
        cmocka_unit_test(an_option_given_twice_is_refused),
        cmocka_unit_test(values_out_of_range_say_the_range),
        cmocka_unit_test(a_word_that_is_no_command_and_no_file_is_told),
        cmocka_unit_test(without_a_terminal_the_ui_says_so),
        cmocka_unit_test(help_and_version_go_to_standard_output),
        cmocka_unit_test(two_dashes_end_the_options),
        cmocka_unit_test(completions_exist_for_three_shells),
        cmocka_unit_test(every_preset_of_the_issue_is_listed),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_tree(program_tmp);
    return failed;
}
