/* The real program in a pseudo-terminal. */
#include "terminal.c"
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <cmocka.h>

#define LLAMA "tests/fixtures/llama_tp2_pp2"
#define SLOW 90000               /* milliseconds: what is long even for a sanitizer build on a busy machine */
#define MOST_BYTES_PER_KEY 400
#define MOST_BYTES_OF_DETAIL 700  /* one key on the map may bring up another tensor with as many pieces as there is room for */

static const char *program(void)
{
    const char *path = getenv("SHARDLENS");
    return path ? path : "build/shardlens";
}

static void start(struct terminal *t, int cols, int rows, const char *const *env, const char *path)
{
    const char *argv[] = { program(), path, NULL };
    terminal_start(t, cols, rows, env, argv);
}

static void start_ready(struct terminal *t, int cols, int rows, const char *const *env)
{
    start(t, cols, rows, env, LLAMA);
    assert_true(terminal_expect(t, " faults", SLOW));
    terminal_settle(t, 300, 3000);
}

static void it_opens_and_quits_and_leaves_the_alternate_screen(void **state)
{
    (void)state;
    struct terminal t;
    start_ready(&t, 80, 24, NULL);
    assert_true(t.alternate);
    assert_true(terminal_shows(&t, "read-only"));
    assert_true(terminal_shows(&t, "TP2 x PP2 = 4 ranks"));
    terminal_type(&t, "q");
    terminal_settle(&t, 300, 3000);
    assert_false(t.alternate);
    assert_int_equal(terminal_end(&t, SLOW), 0);
}

static void every_screen_comes_by_its_number(void **state)
{
    (void)state;
    static const struct { const char *key, *text; } screens[] = {
        { "2", "merged over ranks" }, { "3", "histogram" }, { "4", "targets 30" }, { "5", "START" },
        { "6", "no conversion runs" }, { "7", "no conversion was run" }, { "?", "One row up" }, { "1", "embedding" },
    };
    struct terminal t;
    start_ready(&t, 80, 24, NULL);
    for (size_t i = 0; i < sizeof screens / sizeof screens[0]; i++) {
        terminal_type(&t, screens[i].key);
        if (!terminal_expect(&t, screens[i].text, SLOW))
            fail_msg("screen %s does not show \"%s\"", screens[i].key, screens[i].text);
    }
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
}

static void arrow_keys_and_vim_keys_move_alike(void **state)
{
    (void)state;
    struct terminal t;
    start_ready(&t, 80, 24, NULL);
    terminal_type(&t, "2jjj");
    terminal_settle(&t, 200, 2000);
    char *by_letters = terminal_text(&t);
    terminal_type(&t, "g\033OB\033OB\033OB");
    terminal_settle(&t, 200, 2000);
    char *by_arrows = terminal_text(&t);
    assert_string_equal(by_letters, by_arrows);
    free(by_letters);
    free(by_arrows);
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
}

static void the_screen_follows_a_resize(void **state)
{
    (void)state;
    static const int sizes[][2] = { { 140, 40 }, { 40, 10 }, { 20, 2 }, { 1, 1 }, { 200, 60 }, { 80, 24 } };   /* one cell cannot be written without scrolling */
    struct terminal t;
    start_ready(&t, 80, 24, NULL);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        terminal_resize(&t, sizes[i][0], sizes[i][1]);
        terminal_settle(&t, 200, 3000);
        assert_true(sizes[i][0] == 1 || terminal_shows(&t, "faults"));
    }
    assert_true(terminal_expect(&t, "TP2 x PP2 = 4 ranks", SLOW));
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
}

static void a_cursor_key_costs_little_and_idleness_nothing(void **state)
{
    (void)state;
    static const int sizes[][2] = { { 80, 24 }, { 140, 40 } };
    for (size_t i = 0; i < 2; i++) {
        struct terminal t;
        start_ready(&t, sizes[i][0], sizes[i][1], NULL);
        const struct { const char *name, *keys, *shows; size_t most; } screens[] = {
            { "overview", "1", "embedding", MOST_BYTES_PER_KEY },
            { "evidence", "\t", "args", MOST_BYTES_PER_KEY },
            { "tensors", "1\0332z", "decoder", MOST_BYTES_PER_KEY },
            { "blocks", "2/layers.1.self_attention.linear_qkv\r\r", "xxh3", MOST_BYTES_PER_KEY },
            { "meaning", "\t", "what tp0", MOST_BYTES_PER_KEY },
            { "values", "\t", "values of", MOST_BYTES_PER_KEY },
            { "map", "4", "targets 30", MOST_BYTES_OF_DETAIL },
            { "sources", "\t", "sources 54", MOST_BYTES_OF_DETAIL },
            { "convert", "5", "everything is ready", MOST_BYTES_PER_KEY },
            { "help", "?", "One row up", MOST_BYTES_PER_KEY },
        };
        for (size_t s = 0; s < sizeof screens / sizeof screens[0]; s++) {
            terminal_type(&t, screens[s].keys);
            assert_true(terminal_expect(&t, screens[s].shows, SLOW));
            terminal_settle(&t, 800, 8000);
            size_t before = t.bytes, most = 0;
            const int keys = 12;
            for (int k = 0; k < keys; k++) {
                size_t one = t.bytes;
                terminal_type(&t, k < keys / 2 ? "j" : "k");
                terminal_settle(&t, 60, 1000);
                most = t.bytes - one > most ? t.bytes - one : most;
            }
            print_message("%dx%d %s: %zu bytes a cursor key, most %zu\n", sizes[i][0], sizes[i][1], screens[s].name,
                          (t.bytes - before) / (size_t)keys, most);
            assert_true((t.bytes - before) / (size_t)keys <= MOST_BYTES_PER_KEY);
            assert_true(most <= screens[s].most);
        }
        terminal_settle(&t, 300, 3000);
        assert_int_equal(terminal_settle(&t, 1000, 1500), 0);
        terminal_type(&t, "q");
        assert_int_equal(terminal_end(&t, SLOW), 0);
    }
}

static void no_color_means_no_colours(void **state)
{
    (void)state;
    const char *none[] = { "NO_COLOR=1", NULL };
    struct terminal t;
    start_ready(&t, 80, 24, none);
    terminal_type(&t, "f2j3457?");
    terminal_settle(&t, 400, 5000);
    assert_false(t.colours);
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
    start_ready(&t, 80, 24, NULL);
    assert_true(t.colours);
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
}

static void the_text_is_the_same_without_colour_and_on_old_terminals(void **state)
{
    (void)state;
    const char *const envs[][3] = { { "TERM=tmux-256color", NULL }, { "NO_COLOR=1", NULL }, { "TERM=vt100", NULL }, { "TERM=linux", NULL },
                                    { "TERM=rxvt", NULL }, { "TERM=screen", NULL } };
    char *first = NULL;
    for (size_t i = 0; i < sizeof envs / sizeof envs[0]; i++) {
        /* on the Linux console ncurses loads libgpm where there is one, which keeps ten bytes */
        const char *env[] = { envs[i][0], "LC_ALL=C", "ASAN_OPTIONS=detect_leaks=0", NULL };
        struct terminal t;
        start_ready(&t, 80, 24, env);
        if (!first)
            terminal_settle(&t, 1500, SLOW);
        else if (!terminal_expect(&t, first, SLOW))
            assert_string_equal(first, terminal_text(&t));
        char *text = terminal_text(&t);
        for (const char *s = text; *s; s++)
            assert_true((unsigned char)*s < 128);
        if (!first)
            first = strdup(text);
        free(text);
        terminal_type(&t, "q");
        assert_int_equal(terminal_end(&t, SLOW), 0);
    }
    free(first);
}

static void a_terminal_that_cannot_is_refused_in_one_line(void **state)
{
    (void)state;
    const char *const envs[] = { "TERM=dumb", "TERM=no-such-terminal", "TERM=" };
    for (size_t i = 0; i < 3; i++) {
        const char *env[] = { envs[i], NULL };
        struct terminal t;
        start(&t, 80, 24, env, LLAMA);
        assert_true(terminal_expect(&t, "shardlens inspect", SLOW));
        assert_null(strchr(t.log, '\033'));
        assert_int_equal(terminal_end(&t, SLOW), 2);
    }
}

static void without_a_terminal_it_says_so_and_exits_2(void **state)
{
    (void)state;
    char command[512];
    snprintf(command, sizeof command, "%s " LLAMA " </dev/null >/dev/null 2>&1", program());
    assert_int_equal(WEXITSTATUS(system(command)), 2);
    snprintf(command, sizeof command, "%s " LLAMA " </dev/null 2>&1 | grep -q 'shardlens: .*not a terminal'", program());
    assert_int_equal(WEXITSTATUS(system(command)), 0);
}

static void signals_give_the_terminal_back(void **state)
{
    (void)state;
    static const struct { int number, status; } signals[] = { { SIGTERM, 143 }, { SIGINT, 130 }, { SIGHUP, 129 } };
    for (size_t i = 0; i < 3; i++) {
        struct terminal t;
        start_ready(&t, 80, 24, NULL);
        kill(t.pid, signals[i].number);
        assert_int_equal(terminal_wait(&t, SLOW), signals[i].status);
        assert_false(t.alternate);
        terminal_drop(&t);
    }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static void a_crash_gives_the_terminal_back_and_dies_of_its_signal(void **state)
{
    (void)state;
    static const int signals[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL };
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct terminal t;
        start_ready(&t, 80, 24, NULL);
        kill(t.pid, signals[i]);
        assert_int_equal(terminal_wait(&t, SLOW), 1000 + signals[i]);
        assert_false(t.alternate);
        terminal_drop(&t);
    }
}
#endif

static void the_mouse_presses_the_bar(void **state)
{
    (void)state;
    const char *xterm[] = { "TERM=xterm-256color", NULL };
    struct terminal t;
    start_ready(&t, 80, 24, xterm);
    terminal_type(&t, "\033[<0;8;24M\033[<0;8;24m");       /* on "2Tens" of the last row */
    assert_true(terminal_expect(&t, "merged over ranks", SLOW));
    terminal_type(&t, "\033[<65;10;10M");                   /* the wheel, down */
    terminal_settle(&t, 200, 2000);
    terminal_type(&t, "q");
    assert_int_equal(terminal_wait(&t, SLOW), 0);
    assert_true(terminal_said(&t, "1000l"));                /* the mouse was given back */
    terminal_drop(&t);
}

static void themes_differ_in_colour_and_not_in_text(void **state)
{
    (void)state;
    static const char *const themes[] = { "dark", "light", "contrast", "safe" };
    char *first = NULL, *log = NULL;
    for (size_t i = 0; i < 4; i++) {
        struct terminal t;
        const char *argv[] = { program(), LLAMA, "--theme", themes[i], NULL };
        terminal_start(&t, 80, 24, NULL, argv);
        assert_true(terminal_expect(&t, " faults", SLOW));
        terminal_settle(&t, 300, 3000);
        assert_true(t.colours);
        char *text = terminal_text(&t);
        if (first) {
            assert_string_equal(first, text);
            assert_string_not_equal(log, t.log);
            free(text);
        } else {
            first = text;
            log = strdup(t.log);
        }
        terminal_type(&t, "q");
        assert_int_equal(terminal_end(&t, SLOW), 0);
    }
    free(first);
    free(log);
}

static int run_shell(const char *format)
{
    char command[1024];
    snprintf(command, sizeof command, format, program());
    return WEXITSTATUS(system(command));
}

static void a_script_needs_no_terminal_and_plain_speaks_in_lines(void **state)
{
    (void)state;
    assert_int_equal(run_shell("f=$(mktemp) && printf '2/qkv<Enter>' >$f && %s " LLAMA " -A --script $f --size 60x14 </dev/null | grep -q '3 of 24 match'; r=$?; rm -f $f; exit $r"), 0);
    assert_int_equal(run_shell("%s " LLAMA " --size 80x24 2>/dev/null"), 2);
    assert_int_equal(run_shell("printf '2\njj\nf\nq\n' | %s --plain " LLAMA " | grep -q 'finding 1 of 2'"), 0);
    assert_int_equal(run_shell("printf 'f\nq\n' | %s --plain " LLAMA " | grep -q '^cause .*'"), 0);
    assert_int_equal(run_shell("printf '2\njj\nq\n' | %s --plain " LLAMA " | grep -q '^> .*layers (18)'"), 0);
    assert_int_equal(run_shell("printf '2\nq\n' | %s --plain " LLAMA " | grep -q \"$(printf '\033')\""), 1);
}

static void a_lost_terminal_ends_it(void **state)
{
    (void)state;
    struct terminal t;
    start_ready(&t, 80, 24, NULL);
    close(t.fd);
    t.fd = -1;
    assert_int_equal(terminal_end(&t, SLOW), 129);
}

static void control_z_and_fg_keep_the_screen(void **state)
{
    (void)state;
    struct terminal t;
    start_ready(&t, 80, 24, NULL);
    terminal_type(&t, "2\032");              /* an orphan is not stopped; it leaves and comes back */
    terminal_settle(&t, 300, 3000);
    kill(t.pid, SIGCONT);
    assert_true(terminal_expect(&t, "merged over ranks", SLOW));
    assert_true(t.alternate);
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
}

static void copying_goes_to_the_clipboard_of_the_terminal(void **state)
{
    (void)state;
    struct terminal t;
    start_ready(&t, 80, 24, NULL);
    terminal_type(&t, "y");
    assert_true(terminal_expect(&t, "copied: shardlens inspect", SLOW));
    terminal_settle(&t, 200, 2000);
    assert_true(terminal_said(&t, "\033]52;c;c2hhcmRsZW5zIGluc3BlY3Qg"));    /* base64 of "shardlens inspect " */
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
}

static void a_conversion_through_the_screens_makes_the_folder(void **state)
{
    (void)state;
    char folder[] = "/tmp/shardlens-tui-XXXXXX", keys[512], path[512];
    struct stat about;
    assert_non_null(mkdtemp(folder));
    struct terminal t;
    start_ready(&t, 100, 30, NULL);
    terminal_type(&t, "5");
    assert_true(terminal_expect(&t, "everything is ready", SLOW));
    snprintf(keys, sizeof keys, "\r\025%s/made\r", folder);
    terminal_type(&t, keys);
    snprintf(path, sizeof path, "%s/made", folder);
    assert_true(terminal_expect(&t, path, SLOW));
    assert_true(terminal_expect(&t, "everything is ready", SLOW));
    assert_int_equal(stat(path, &about), -1);           /* nothing before START */
    terminal_type(&t, "S");
    assert_true(terminal_expect(&t, "DONE", SLOW));
    assert_int_equal(stat(path, &about), 0);
    terminal_type(&t, "7");
    assert_true(terminal_expect(&t, "30 verified, 0 written, 0 not as planned", SLOW));
    snprintf(keys, sizeof keys, "w\025%s/report.txt\r", folder);
    terminal_type(&t, keys);
    assert_true(terminal_expect(&t, "saved the report", SLOW));
    terminal_type(&t, "5");
    assert_true(terminal_expect(&t, "exists", SLOW));   /* now it is there, and refused */
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
    snprintf(keys, sizeof keys, "%s verify " LLAMA " %s/made >/dev/null", program(), folder);
    assert_int_equal(WEXITSTATUS(system(keys)), 0);
    snprintf(keys, sizeof keys, "test -s %s/made/model.safetensors && test -s %s/report.txt && rm -r %s", folder, folder, folder);
    assert_int_equal(WEXITSTATUS(system(keys)), 0);
}

/* Every file and folder below one, with size and time of change. */
static char *listing(const char *folder)
{
    char command[600], *text = calloc(1, 65536);
    snprintf(command, sizeof command, "find %s -printf '%%p %%y %%s %%T@\\n' | sort", folder);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_non_null(text);
    assert_true(fread(text, 1, 65535, f) > 0);
    pclose(f);
    return text;
}

static void nothing_is_written_before_START(void **state)
{
    (void)state;
    char folder[] = "/tmp/shardlens-tui-XXXXXX", text[600], home[100], cache[120], temporary[120], path[300];
    assert_non_null(mkdtemp(folder));
    snprintf(text, sizeof text, "mkdir %s/tmp %s/cache && cp -r " LLAMA " %s/source", folder, folder, folder);
    assert_int_equal(WEXITSTATUS(system(text)), 0);
    snprintf(home, sizeof home, "HOME=%s", folder);
    snprintf(cache, sizeof cache, "XDG_CACHE_HOME=%s/cache", folder);
    snprintf(temporary, sizeof temporary, "TMPDIR=%s/tmp", folder);
    snprintf(path, sizeof path, "%s/source", folder);
    const char *env[] = { home, cache, temporary, NULL };
    char *before = listing(folder), *source_before = listing(LLAMA);
    struct terminal t;
    start(&t, 100, 30, env, path);
    assert_true(terminal_expect(&t, " faults", SLOW));
    terminal_type(&t, "5");
    assert_true(terminal_expect(&t, "everything is ready", SLOW));
    /* each target with all its choices, each plan looked at, another place, and back */
    static const char *const targets[] = { "HF-bin", "pt", "Megatron", "torch_dist", "HF" };
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        snprintf(text, sizeof text, "(x) %s", targets[i]);
        terminal_type(&t, "5gj ");
        assert_true(terminal_expect(&t, text, SLOW));
        terminal_type(&t, "jjlhjlhjlhjlhjlhjlhjlhG");
        terminal_settle(&t, 100, 4000);
        terminal_type(&t, "4\t\t\t1234\r\0335");
        terminal_settle(&t, 100, 4000);
    }
    terminal_type(&t, "gjj");
    snprintf(text, sizeof text, "\r\025%s/made\r", folder);
    terminal_type(&t, text);
    snprintf(path, sizeof path, "%s/made", folder);
    assert_true(terminal_expect(&t, path, SLOW));
    assert_true(terminal_expect(&t, "everything is ready", SLOW));
    char *after = listing(folder), *source_after = listing(LLAMA);
    assert_string_equal(before, after);
    assert_string_equal(source_before, source_after);
    terminal_type(&t, "S");
    assert_true(terminal_expect(&t, "DONE", SLOW));
    free(after);
    after = listing(folder);
    assert_string_not_equal(before, after);      /* so the list does see what is written */
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
    free(before);
    free(after);
    free(source_before);
    free(source_after);
    snprintf(text, sizeof text, "rm -r %s", folder);
    assert_int_equal(WEXITSTATUS(system(text)), 0);
}

/* Keys that could leave the program or write a file are typed by the other tests. */
static void a_walk_presses_every_key_on_every_screen(void **state)
{
    (void)state;
    static const char keys[] = " abcdefghijklmnoprstuvxyzABCDEFGHIJKLMNOPQRTUVWXYZ0!\"#$%&'()*+,-.;=@[\\]^_`{|}~\t\033OA\033OB\033OC\033OD\033[5~\033[6~\033OH\033OF\r\177";
    static const int sizes[][2] = { { 80, 24 }, { 140, 40 }, { 40, 10 }, { 13, 3 } };
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct terminal t;
    start_ready(&t, sizes[s][0], sizes[s][1], NULL);
        for (char screen = '1'; screen <= '8'; screen++) {
            char go[2] = { screen, '\0' };
            terminal_type(&t, go);
            terminal_type(&t, keys);
            terminal_settle(&t, 100, 4000);
            terminal_type(&t, "\033");              /* out of a prompt */
            terminal_settle(&t, 60, 1000);
        }
        terminal_type(&t, "q");
        assert_int_equal(terminal_end(&t, SLOW), 0);
    }
}

static void the_first_screen_does_not_wait_for_the_headers(void **state)
{
    (void)state;
    struct terminal t;
    start(&t, 80, 24, NULL, LLAMA);
    int64_t begin = now_ms();
    assert_true(terminal_expect(&t, "read-only", SLOW));
    print_message("first screen after %lld ms\n", (long long)(now_ms() - begin));
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_opens_and_quits_and_leaves_the_alternate_screen),
        cmocka_unit_test(every_screen_comes_by_its_number),
        cmocka_unit_test(arrow_keys_and_vim_keys_move_alike),
        cmocka_unit_test(the_screen_follows_a_resize),
        cmocka_unit_test(a_cursor_key_costs_little_and_idleness_nothing),
        cmocka_unit_test(no_color_means_no_colours),
        cmocka_unit_test(the_text_is_the_same_without_colour_and_on_old_terminals),
        cmocka_unit_test(a_terminal_that_cannot_is_refused_in_one_line),
        cmocka_unit_test(without_a_terminal_it_says_so_and_exits_2),
        cmocka_unit_test(signals_give_the_terminal_back),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(a_crash_gives_the_terminal_back_and_dies_of_its_signal),
#endif
        cmocka_unit_test(the_mouse_presses_the_bar),
        cmocka_unit_test(themes_differ_in_colour_and_not_in_text),
        cmocka_unit_test(a_script_needs_no_terminal_and_plain_speaks_in_lines),
        cmocka_unit_test(a_lost_terminal_ends_it),
        cmocka_unit_test(control_z_and_fg_keep_the_screen),
        cmocka_unit_test(copying_goes_to_the_clipboard_of_the_terminal),
        cmocka_unit_test(a_conversion_through_the_screens_makes_the_folder),
        cmocka_unit_test(nothing_is_written_before_START),
        cmocka_unit_test(a_walk_presses_every_key_on_every_screen),
        cmocka_unit_test(the_first_screen_does_not_wait_for_the_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
