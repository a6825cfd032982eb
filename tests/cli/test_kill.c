/* Conversions of every direction, killed with SIGKILL at random moments: the target is absent or
 * whole (or, with --force, as it was), and the same command with --resume ends in the same bytes as
 * a run that was left alone. The same for the signals that ask for an end.
 * SHARDLENS_KILLS says how often (make torture: many times); SHARDLENS_SEED repeats a run. */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>
#include <cmocka.h>
#include <glob.h>
#include <signal.h>
#include <time.h>
#include "program.h"

struct direction { const char *name, *source, *options; };
static const struct direction directions[] = {
    { "megatron-hf", "mega", "--to hf --max-shard-size 8MB" },
    { "megatron-megatron", "mega", "--to megatron --tp 4 --pp 2 --names local" },
    { "hf-megatron", "hf", "--to megatron --tp 2 --pp 4" },
    { "megatron-pt", "mega", "--to pt" },
    { "megatron-bin", "mega", "--to hf-bin --dtype fp32 --max-shard-size 20MB" },
    { "hf-hf", "hf", "--to hf --dtype fp16 --max-shard-size 5MB" },
    { "bin-megatron", "bin", "--to megatron --tp 2 --pp 2" },
    { "hf-bin", "hf", "--to hf-bin --max-shard-size 10MB" },
    { "megatron-dist", "mega", "--to torch_dist --dist-files 3" },
    { "dist-megatron", "dist", "--to megatron --tp 2 --pp 2" },
};
enum { DIRECTIONS = sizeof directions / sizeof *directions };

static uint64_t state_of_random;

static uint64_t next_random(void)
{
    state_of_random ^= state_of_random << 13;
    state_of_random ^= state_of_random >> 7;
    state_of_random ^= state_of_random << 17;
    return state_of_random;
}

static void expect(struct said s, int code)
{
    if (s.code != code)
        fail_msg("exit %d, expected %d\n%s%s", s.code, code, s.err, s.out);
    said_free(&s);
}

/* Byte for byte the same, but for the report, which tells the time it took. */
static bool same_tree(const char *a, const char *b)
{
    if (access(a, F_OK) != 0)
        return false;
    const pid_t pid = fork();
    if (pid == 0) {
        const int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        dup2(null, 2);
        execlp("diff", "diff", "-rq", "-x", "shardlens-report.json", a, b, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Starts the conversion and kills it after so many microseconds; was it killed? */
static bool convert_and_kill(const struct direction *d, const char *target, unsigned microseconds, int number)
{
    char line[4096], *argv[32], source[512];
    int argc = 0;
    snprintf(source, sizeof source, "%s", below(d->source));
    snprintf(line, sizeof line, "%s", d->options);
    argv[argc++] = program_path;
    argv[argc++] = (char[]){ "convert" };
    argv[argc++] = source;
    argv[argc++] = (char *)(uintptr_t)target;
    for (char *save, *w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    argv[argc] = NULL;
    const pid_t pid = fork();
    if (pid == 0) {
        const int null = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++)
            dup2(null, fd);
        signal(number, SIG_DFL);                 /* a shell in the background starts us without SIGINT */
        execv(program_path, argv);
        _exit(127);
    }
    const struct timespec pause = { microseconds / 1000000, (long)(microseconds % 1000000) * 1000 };
    nanosleep(&pause, NULL);
    kill(pid, number);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) || WEXITSTATUS(status) == 128 + number;
}

static unsigned took[DIRECTIONS];                /* microseconds of a run that is left alone */

static char *reference_of(const struct direction *d, char path[512])
{
    snprintf(path, 512, "%s/ref-%s", program_tmp, d->name);
    return path;
}

static void measure(const struct direction *d)
{
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    expect(program("convert $T/%s $T/ref-%s %s", d->source, d->name, d->options), 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    took[d - directions] = (unsigned)((b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000);
}

/* What stands where the target goes is nothing, the whole target, or what stood there before. */
static bool is_sound(const struct direction *d, const char *target, const char *old)
{
    char reference[512];
    if (access(target, F_OK) != 0)
        return !old;
    return same_tree(target, reference_of(d, reference)) || (old && same_tree(target, old));
}

/* What an unfinished run leaves beside the target: its parts, its journal, the old target. */
static bool is_anything_left(void)
{
    static const char *const kinds[] = { "target.partial*", ".target.partial*", "target.old*" };
    bool found = false;
    for (size_t i = 0; i < 3; i++) {
        glob_t g;
        found |= glob(below(kinds[i]), 0, NULL, &g) == 0;
        globfree(&g);
    }
    return found;
}

static unsigned kill_once(const struct direction *d, int number, const char *old, unsigned n)
{
    char target[512], reference[512], options[256];
    unsigned killed = 0;
    reference_of(d, reference);
    snprintf(target, sizeof target, "%s/target", program_tmp);
    snprintf(options, sizeof options, "%s%s", d->options, old ? " --force" : "");
    const struct direction here = { d->name, d->source, options };
    if (old)
        copy_tree(old, target);
    for (unsigned again = 0; again < 2; again++) {    /* and the run that goes on is killed as well */
        const unsigned after = (unsigned)(next_random() % (took[d - directions] * 5 / 4 + 1));
        killed += convert_and_kill(&here, target, after, number);
        if (!is_sound(d, target, old))
            fail_msg("round %u, %s, signal %d after %u us: the target is neither what was there nor whole", n, d->name, number, after);
        snprintf(options, sizeof options, "%s%s --resume", d->options, old ? " --force" : "");
        if (!is_anything_left() || next_random() % 3)
            break;
    }
    if (is_anything_left() || !same_tree(target, reference))
        expect(program("convert $T/%s %s %s", d->source, target, options), 0);
    if (!same_tree(target, reference) || is_anything_left())
        fail_msg("round %u, %s, signal %d: resumed, but other bytes, or something is left", n, d->name, number);
    remove_tree(target);
    unlink(below("target.shardlens-report.json"));
    return killed;
}

/* Over all directions in turn; every other time round over an old target, which is another model. */
static void kill_rounds(int number, unsigned rounds)
{
    unsigned killed = 0;
    char old[512];
    snprintf(old, sizeof old, "%s", below("old"));
    for (unsigned n = 0; n < rounds; n++)
        killed += kill_once(&directions[n % DIRECTIONS], number, n / DIRECTIONS % 2 ? old : NULL, n);
    print_message("%u kills in %u rounds by signal %d\n", killed, rounds, number);
    assert_true(killed > 0);
}

static unsigned rounds_wanted(void)
{
    const char *text = getenv("SHARDLENS_KILLS");
    return text ? (unsigned)strtoul(text, NULL, 10) : 2 * DIRECTIONS;
}

static void a_killed_conversion_goes_on_to_the_same_bytes(void **state)
{
    (void)state;
    kill_rounds(SIGKILL, rounds_wanted());
}

static void a_conversion_that_is_asked_to_end_keeps_its_state(void **state)
{
    (void)state;
    static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
    for (size_t i = 0; i < 3; i++)
        kill_rounds(numbers[i], rounds_wanted() / 4);
}

static void an_unfinished_target_is_named_with_the_command_that_goes_on(void **state)
{
    (void)state;
    const struct direction *d = &directions[0];
    char target[512];
    snprintf(target, sizeof target, "%s", below("unfinished"));
    for (int tries = 0; tries < 50; tries++) {
        convert_and_kill(d, target, took[0] / 2, SIGKILL);
        if (access(target, F_OK) != 0)
            break;
        remove_tree(target);
    }
    struct said s = program("convert $T/%s %s %s", d->source, target, d->options);
    if (s.code != 0) {                           /* killed before there was anything to keep: it just runs */
        assert_int_equal(s.code, 5);
        assert_non_null(strstr(s.err, "--resume"));
    }
    said_free(&s);
}

static int make_sources(void **state)
{
    (void)state;
    static const char *const lines[] = { "demo $T/mega --tp 2 --pp 2 --size 20MB", "demo $T/old --tp 1 --pp 1 --size 2MB --seed 7",
                                         "convert $T/mega $T/hf --to hf", "convert $T/mega $T/bin --to hf-bin", "convert $T/mega $T/dist --to torch_dist" };
    const char *seed = getenv("SHARDLENS_SEED");
    state_of_random = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;
    print_message("seed %llu\n", (unsigned long long)state_of_random);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        expect(program("%s", lines[i]), 0);
    for (size_t i = 0; i < DIRECTIONS; i++)
        measure(&directions[i]);
    return 0;
}

int main(int argc, char **argv)
{
    (void)argc;
    program_find(argv[0]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_conversion_goes_on_to_the_same_bytes),
        cmocka_unit_test(a_conversion_that_is_asked_to_end_keeps_its_state),
        cmocka_unit_test(an_unfinished_target_is_named_with_the_command_that_goes_on),
    };
    const int failed = cmocka_run_group_tests(tests, make_sources, NULL);
    remove_tree(program_tmp);
    return failed;
}
