/* Runs in a pseudo-terminal: the real program on a slow disk, left, lost, stopped, watched
 * from outside; reports and comparisons taken along. */
#include "terminal.c"
#include <libgen.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <cmocka.h>

#define LLAMA "tests/fixtures/llama_tp2_pp2"
#define SLOW 90000               /* milliseconds: what is long even for a sanitizer build on a busy machine */
#define MOST_BYTES_PER_KEY 400

static char folder[64];

static int begin(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/shardlens-run-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}
static int end(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static const char *program(void)
{
    const char *path = getenv("SHARDLENS");
    return path ? path : "build/shardlens";
}

/* "LD_PRELOAD=.." for the disk that lies beside this test. */
static const char *slow_disk(void)
{
    static char preload[PATH_MAX + 64];
    char self[PATH_MAX] = "";
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        fail_msg("where is this test?");
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s/slow.so", dirname(self));
    return preload;
}

/* The disk is slow from now on, or as fast as it is. */
static void disk(bool slow)
{
    char path[128];
    snprintf(path, sizeof path, "%s/slow", folder);
    FILE *f = slow ? fopen(path, "w") : NULL;
    if (f)
        fclose(f);
    if (!slow)
        unlink(path);
}

/* A terminal with the program on the fixture and a disk that can have that many bytes a second. */
static void start_slow(struct terminal *t, int cols, int rows, const char *bytes)
{
    char rate[64], when[128];
    const char *env[] = { slow_disk(), rate, when, "ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0", NULL };
    const char *argv[] = { program(), LLAMA, NULL };
    snprintf(rate, sizeof rate, "SLOW_BYTES=%s", bytes);
    snprintf(when, sizeof when, "SLOW_WHEN=%s/slow", folder);
    terminal_start(t, cols, rows, env, argv);
    assert_true(terminal_expect(t, " faults", SLOW));
}

static void start(struct terminal *t, int cols, int rows, const char *command, const char *path)
{
    const char *argv[] = { program(), command, path, NULL };
    terminal_start(t, cols, rows, NULL, argv);
}

/* START with the target folder/name; the run has begun when this returns. */
static void begin_run(struct terminal *t, const char *name)
{
    char keys[256];
    terminal_type(t, "5");
    assert_true(terminal_expect(t, "everything is ready", SLOW));
    snprintf(keys, sizeof keys, "\r\025%s/%s\r", folder, name);
    terminal_type(t, keys);
    assert_true(terminal_expect(t, name, SLOW));
    terminal_settle(t, 300, 3000);
    assert_true(terminal_expect(t, "everything is ready", SLOW));
    disk(true);
    terminal_type(t, "S");
    if (!terminal_expect(t, "= WRITING", SLOW))
        fail_msg("it did not start:\n%s", terminal_text(t));
}

static bool is_there(const char *name)
{
    char path[256];
    struct stat about;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &about) == 0;
}

static bool comes(const char *name, int limit_ms)
{
    for (int64_t until = now_ms() + limit_ms; now_ms() < until && !is_there(name);)
        usleep(50000);
    return is_there(name);
}

static int run_program(const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "%s %s >/dev/null 2>&1", program(), arguments);
    return WEXITSTATUS(system(command));
}

static void is_the_source(const char *name)
{
    char arguments[256];
    snprintf(arguments, sizeof arguments, "verify " LLAMA " %s/%s", folder, name);
    assert_int_equal(run_program(arguments), 0);
}

/* Text of a small file of the folder; free() it. */
static char *text_of(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    char *text = calloc(1, 200001);
    assert_non_null(f);
    assert_non_null(text);
    const size_t n = fread(text, 1, 200000, f);
    text[n] = '\0';
    fclose(f);
    return text;
}

static void a_slow_run_answers_keys_stops_between_tensors_and_goes_on(void **state)
{
    (void)state;
    struct terminal t;
    start_slow(&t, 80, 24, "15000");
    begin_run(&t, "hf");
    assert_true(terminal_expect(&t, "verified", SLOW));
    terminal_type(&t, "p");
    int64_t before = now_ms();
    if (!terminal_expect(&t, "PAUSED", SLOW))
        fail_msg("not paused:\n%s", terminal_text(&t));
    terminal_type(&t, "2");
    assert_true(terminal_expect(&t, "merged over ranks", SLOW));
    print_message("two keys took effect within %lld ms of a disk that takes seconds\n", (long long)(now_ms() - before));
    terminal_type(&t, "6");
    assert_true(terminal_expect(&t, "PAUSED", SLOW));
    terminal_type(&t, "p");
    if (!terminal_expect(&t, "going on", SLOW))
        fail_msg("not going on:\n%s", terminal_text(&t));
    terminal_type(&t, "x");
    if (!terminal_expect(&t, "STOPPED", SLOW))
        fail_msg("not stopped:\n%s", terminal_text(&t));
    disk(false);
    assert_true(terminal_expect(&t, "go on with --resume", SLOW));
    assert_false(is_there("hf"));
    terminal_type(&t, "5");
    assert_true(terminal_expect(&t, "an unfinished run is there", SLOW));
    assert_true(terminal_expect(&t, "S goes on with the unfinished run", SLOW));
    terminal_type(&t, "S");
    assert_true(terminal_expect(&t, "DONE", SLOW));
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
    is_the_source("hf");
    assert_false(is_there("hf.partial.progress"));
    assert_false(is_there("hf.partial.journal"));
}

static void a_run_that_is_left_goes_on_and_is_seen_by_attach(void **state)
{
    (void)state;
    struct terminal t, other;
    char path[128];
    start_slow(&t, 80, 24, "10000");
    begin_run(&t, "left");
    terminal_type(&t, "d");
    assert_true(terminal_expect(&t, "shardlens attach", SLOW));
    assert_false(t.alternate);
    assert_int_equal(terminal_end(&t, SLOW), 0);         /* the shell has the terminal back */
    assert_false(is_there("left"));

    snprintf(path, sizeof path, "%s/left", folder);
    start(&other, 140, 40, "attach", path);
    assert_true(terminal_expect(&other, "= WRITING", SLOW));
    assert_true(terminal_expect(&other, "who runs it", SLOW));
    terminal_type(&other, "p");
    assert_true(terminal_expect(&other, "pausing is for the terminal that began it", SLOW));
    terminal_type(&other, "d");                          /* leaving a viewer leaves the run alone */
    assert_int_equal(terminal_end(&other, SLOW), 0);
    start(&other, 80, 24, "attach", path);
    assert_true(terminal_expect(&other, "= WRITING", SLOW));
    disk(false);
    assert_true(terminal_expect(&other, "DONE", SLOW));
    terminal_type(&other, "q");
    assert_int_equal(terminal_end(&other, SLOW), 0);
    assert_true(comes("left", SLOW));
    is_the_source("left");
}

/* Processor time of a process in clock ticks; -1 when it is gone. */
static long ticks_of(long pid)
{
    char path[64], line[1024] = "";
    unsigned long user = 0, system_time = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return -1;
    const bool read = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    const char *at = read ? strrchr(line, ')') : NULL;
    return at && sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system_time) == 2 ? (long)(user + system_time) : -1;
}

static long holder_of(const char *name)
{
    char file[64];
    long pid = 0;
    snprintf(file, sizeof file, "%s.partial.progress", name);
    assert_true(comes(file, SLOW));
    char *text = text_of(file), *at = strstr(text, "\nholder ");
    if (at)
        sscanf(at, "\nholder %*s %ld", &pid);
    free(text);
    return pid;
}

static void a_lost_terminal_does_not_lose_the_run_and_does_not_spin(void **state)
{
    (void)state;
    struct terminal t;
    start_slow(&t, 80, 24, "15000");
    begin_run(&t, "lost");
    const long pid = holder_of("lost");
    close(t.fd);
    t.fd = -1;
    assert_int_equal(terminal_end(&t, SLOW), 129);
    usleep(300000);
    const long before = ticks_of(pid);
    usleep(1000000);
    const long after = ticks_of(pid);
    if (after >= 0) {
        print_message("%ld ticks of processor time in a second without a terminal\n", after - before);
        assert_true(after - before < sysconf(_SC_CLK_TCK) / 4);
    }
    disk(false);
    assert_true(comes("lost", SLOW));
    is_the_source("lost");
    for (int i = 0; i < 100 && ticks_of(pid) >= 0; i++)
        usleep(50000);
    assert_int_equal(ticks_of(pid), -1);                 /* and then it is over */
}

static void attach_stops_a_conversion_of_the_command_line_in_order(void **state)
{
    (void)state;
    struct terminal t;
    char path[128], command[1024];
    disk(true);
    snprintf(path, sizeof path, "%s/cli", folder);
    snprintf(command, sizeof command, "(%s SLOW_BYTES=30000 SLOW_WHEN=%s/slow ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 %s convert " LLAMA " %s --to hf; echo $? > %s/status) >/dev/null 2>&1 &",
             slow_disk(), folder, program(), path, folder);
    assert_int_equal(system(command), 0);
    assert_true(holder_of("cli") > 0);
    start(&t, 80, 24, "attach", path);
    assert_true(terminal_expect(&t, "= WRITING", SLOW));
    terminal_type(&t, "X");
    assert_true(terminal_expect(&t, "stop that conversion in order?", SLOW));
    terminal_type(&t, "y");
    assert_true(comes("status", SLOW));
    assert_true(terminal_expect(&t, "STOPPED", SLOW));
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
    usleep(100000);
    char *status = text_of("status");
    assert_string_equal(status, "143\n");
    free(status);
    assert_false(is_there("cli"));
    snprintf(command, sizeof command, "convert " LLAMA " %s --to hf --resume", path);
    assert_int_equal(run_program(command), 0);
    is_the_source("cli");
    snprintf(command, sizeof command, "attach %s", path);
    assert_int_equal(run_program(command), 1);
    snprintf(command, sizeof command, "attach %s/nothing", folder);
    assert_int_equal(run_program(command), 3);
}

/* ---- reports and comparisons ------------------------------------------------------------- */

static void save_as(struct terminal *t, const char *name)
{
    terminal_settle(t, 300, 3000);
    char keys[256];
    snprintf(keys, sizeof keys, "w\025%s/%s\r", folder, name);
    terminal_type(t, keys);
    snprintf(keys, sizeof keys, "%s/%s", folder, name);
    if (!terminal_expect(t, "saved the", SLOW))
        fail_msg("not saved:\n%s", terminal_text(t));
    assert_true(comes(name, SLOW));
    terminal_type(t, "j");                               /* takes the message away */
    terminal_settle(t, 100, 1000);
}

static size_t count_of(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
        n++;
    return n;
}

static void holds(const char *name, const char *const *words, size_t lines)
{
    char *text = text_of(name);
    for (; *words; words++)
        if (!strstr(text, *words))
            fail_msg("%s does not hold \"%s\":\n%.2000s", name, *words, text);
    if (lines)
        assert_int_equal(count_of(text, "\n"), lines);
    free(text);
}

static void a_report_is_taken_along_in_four_forms_and_copied(void **state)
{
    (void)state;
    struct terminal t;
    char cache[128];
    const char *env[] = { cache, NULL }, *argv[] = { program(), LLAMA, NULL };
    snprintf(cache, sizeof cache, "XDG_CACHE_HOME=%s/cache", folder);
    terminal_start(&t, 120, 30, env, argv);
    assert_true(terminal_expect(&t, " faults", SLOW));
    terminal_type(&t, "5");
    assert_true(terminal_expect(&t, "everything is ready", SLOW));
    char keys[256];
    snprintf(keys, sizeof keys, "\r\025%s/hf\r", folder);
    terminal_type(&t, keys);
    assert_true(terminal_expect(&t, "/hf", SLOW));
    terminal_settle(&t, 300, 3000);
    assert_true(terminal_expect(&t, "everything is ready", SLOW));
    terminal_type(&t, "S");
    assert_true(terminal_expect(&t, "DONE", SLOW));
    terminal_type(&t, "7");
    assert_true(terminal_expect(&t, "30 verified, 0 written, 0 not as planned", SLOW));
    save_as(&t, "r.txt");
    save_as(&t, "r.md");
    save_as(&t, "r.csv");
    save_as(&t, "r.json");
    holds("r.txt", (const char *const[]){ "Report of a conversion", "verdict    30 verified", "model.layers.2.mlp.up_proj.weight", "shardlens verify", NULL }, 0);
    holds("r.md", (const char *const[]){ "# Report of a conversion", "| status | name |", "| verified | model.layers.2.mlp.up\\_proj.weight | bf16 | 52x40 |", NULL }, 0);
    holds("r.csv", (const char *const[]){ "status,name,dtype,shape,bytes,", "\nverified,model.layers.2.mlp.up_proj.weight,bf16,52x40,4160,", NULL }, 31);
    holds("r.json", (const char *const[]){ "\"verified\": true", "\"tensors\"", NULL }, 0);
    terminal_type(&t, "y");
    assert_true(terminal_expect(&t, "copied: the table, worst first", SLOW));
    assert_true(comes("cache/shardlens/copied.txt", SLOW));
    usleep(100000);
    holds("cache/shardlens/copied.txt", (const char *const[]){ "Report of a conversion", "model.norm.weight", NULL }, 0);
    terminal_settle(&t, 200, 2000);
    assert_true(terminal_said(&t, "\033]52;c;UmVwb3J0IG9mIGEgY29udmVyc2lvbg"));    /* base64 of "Report of a conversion" */
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
}

/* One byte of one weight of a copy is another: the row, the number and both places show. */
static void open_difference(struct terminal *t)
{
    const char *argv[] = { program(), LLAMA, NULL };
    char keys[128];
    terminal_start(t, 100, 30, NULL, argv);
    assert_true(terminal_expect(t, " faults", SLOW));
    snprintf(keys, sizeof keys, "8\r\025%s/hf\r", folder);
    terminal_type(t, keys);
    assert_true(terminal_expect(t, "DIFFERENT  29 equal, 1 different", SLOW));
    terminal_settle(t, 500, 5000);
}

static void one_changed_value_is_found_and_placed_on_both_sides(void **state)
{
    (void)state;
    struct terminal t;
    char command[512];
    snprintf(command, sizeof command, "convert " LLAMA " %s/hf --to hf", folder);
    assert_int_equal(run_program(command), 0);
    /* model.norm.weight is the last tensor by name; its first byte is found by its offsets */
    snprintf(command, sizeof command,
             "f=%s/hf/model.safetensors; n=$(od -An -tu8 -N8 $f | tr -d ' '); at=$(head -c $((n+8)) $f | tail -c $n | "
             "sed 's/.*\"model.norm.weight\":{[^}]*\"data_offsets\":\\[\\([0-9]*\\).*/\\1/'); echo $((n+8+at)) > %s/at; printf '\\377' | dd of=$f bs=1 seek=$((n+8+at)) conv=notrunc 2>/dev/null",
             folder, folder);
    assert_int_equal(system(command), 0);
    char *at = text_of("at"), where[64];
    snprintf(where, sizeof where, "byte %ld of model.safetensors", atol(at));
    free(at);
    open_difference(&t);
    assert_true(terminal_shows(&t, "final_norm"));
    assert_true(terminal_shows(&t, "1 of 40 differ"));
    assert_true(terminal_shows(&t, where));
    assert_true(terminal_shows(&t, "first in A  byte "));
    save_as(&t, "d.csv");
    holds("d.csv", (const char *const[]){ "status,name,", "different,final_norm,bf16,[40],40,1,", NULL }, 2);
    save_as(&t, "d.json");
    holds("d.json", (const char *const[]){ "\"equal\": false", "\"config\": []", "\"name\": \"final_norm\"", NULL }, 0);
    terminal_type(&t, "\r");
    assert_true(terminal_expect(&t, "final_layernorm", SLOW));   /* Enter goes to the tensor */
    terminal_type(&t, "q");
    assert_int_equal(terminal_end(&t, SLOW), 0);
}

static int by_size(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

/* The median of ten: work in the background may draw its own result between two of them. */
static size_t bytes_of_a_cursor_key(struct terminal *t)
{
    size_t bytes[10];
    for (size_t k = 0; k < 10; k++) {
        const size_t before = t->bytes;
        terminal_type(t, k < 5 ? "j" : "k");
        terminal_settle(t, 100, 1000);
        bytes[k] = t->bytes - before;
    }
    qsort(bytes, 10, sizeof bytes[0], by_size);
    return bytes[5];
}

static void a_cursor_key_on_these_screens_costs_little_and_idleness_nothing(void **state)
{
    (void)state;
    static const int sizes[][2] = { { 80, 24 }, { 140, 40 } };
    for (size_t i = 0; i < 2; i++) {
        struct terminal t;
        char keys[128];
        const char *argv[] = { program(), LLAMA, NULL };
        terminal_start(&t, sizes[i][0], sizes[i][1], NULL, argv);
        assert_true(terminal_expect(&t, " faults", SLOW));
        terminal_type(&t, "5");
        assert_true(terminal_expect(&t, "everything is ready", SLOW));
        snprintf(keys, sizeof keys, "\r\025%s/bytes-%d\r", folder, sizes[i][0]);
        terminal_type(&t, keys);
        terminal_settle(&t, 500, 5000);
        assert_true(terminal_expect(&t, "everything is ready", SLOW));
        terminal_type(&t, "S");
        assert_true(terminal_expect(&t, "DONE", SLOW));
        terminal_type(&t, "8\r\025tests/fixtures/llama_tp4_pp2\r");
        assert_true(terminal_expect(&t, "EQUAL, bit for bit", SLOW));
        const char *screens[] = { "5", "6", "7", "8a" };
        for (size_t s = 0; s < 4; s++) {
            terminal_type(&t, screens[s]);
            terminal_settle(&t, 500, 5000);
            const size_t median = bytes_of_a_cursor_key(&t);
            print_message("%dx%d screen %c: %zu bytes a cursor key\n", sizes[i][0], sizes[i][1], screens[s][0], median);
            assert_true(median <= MOST_BYTES_PER_KEY);
        }
        terminal_settle(&t, 300, 3000);
        assert_int_equal(terminal_settle(&t, 1000, 1500), 0);
        terminal_type(&t, "q");
        assert_int_equal(terminal_end(&t, SLOW), 0);
    }
}

#define ROW(name) cmocka_unit_test_setup_teardown(name, begin, end)
int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        ROW(a_slow_run_answers_keys_stops_between_tensors_and_goes_on),
        ROW(a_run_that_is_left_goes_on_and_is_seen_by_attach),
        ROW(a_lost_terminal_does_not_lose_the_run_and_does_not_spin),
        ROW(attach_stops_a_conversion_of_the_command_line_in_order),
        ROW(a_report_is_taken_along_in_four_forms_and_copied),
        ROW(one_changed_value_is_found_and_placed_on_both_sides),
        ROW(a_cursor_key_on_these_screens_costs_little_and_idleness_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
