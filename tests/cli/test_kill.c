/* Conversions of every direction, killed with SIGKILL at random moments: the target is absent or
 * whole, and the same command with --resume ends in the same bytes as a run that was left alone.
 * SHARDLENS_KILLS says how often (make torture: many times); SHARDLENS_SEED repeats a run. */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>
#include <cmocka.h>
#include <signal.h>
#include <time.h>
#include "program.h"

struct direction { const char *name, *source, *options; bool single; };
static const struct direction directions[] = {
    { "megatron-hf", "mega", "--to hf --max-shard-size 8MB", false },
    { "megatron-megatron", "mega", "--to megatron --tp 4 --pp 2 --names local", false },
    { "hf-megatron", "hf", "--to megatron --tp 2 --pp 4", false },
    { "megatron-pt", "mega", "--to pt", true },
    { "megatron-bin", "mega", "--to hf-bin --dtype fp32 --max-shard-size 20MB", false },
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
    const pid_t pid = fork();
    if (pid == 0) {
        const int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
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

static unsigned measure(const struct direction *d)
{
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    expect(program("convert $T/%s $T/ref-%s %s", d->source, d->name, d->options), 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    return (unsigned)((b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000);
}

static void kill_rounds(int number, unsigned rounds)
{
    unsigned took[DIRECTIONS], killed = 0;
    char target[512], reference[512];
    for (size_t i = 0; i < DIRECTIONS; i++)
        took[i] = measure(&directions[i]);
    for (unsigned n = 0; n < rounds; n++) {
        const size_t i = n % DIRECTIONS;
        const struct direction *d = &directions[i];
        const unsigned after = (unsigned)(next_random() % (took[i] + took[i] / 4 + 1));
        snprintf(target, sizeof target, "%s", below("target"));
        snprintf(reference, sizeof reference, "%s/ref-%s", program_tmp, d->name);
        killed += convert_and_kill(d, target, after, number);
        if (access(target, F_OK) == 0 && !same_tree(target, reference))
            fail_msg("round %u, %s, killed after %u us: the target is there and not whole", n, d->name, after);
        if (access(target, F_OK) != 0) {
            if (next_random() % 4 == 0)          /* and the run that goes on is killed as well */
                killed += convert_and_kill(d, target, after, number);
            if (access(target, F_OK) != 0)
                expect(program("convert $T/%s %s %s --resume", d->source, target, d->options), 0);
        }
        if (!same_tree(target, reference))
            fail_msg("round %u, %s, killed after %u us: resumed, but other bytes", n, d->name, after);
        remove_tree(target);
        if (access(below("target.lock"), F_OK) == 0)
            unlink(below("target.lock"));
    }
    for (size_t i = 0; i < DIRECTIONS; i++) {
        snprintf(reference, sizeof reference, "%s/ref-%s", program_tmp, directions[i].name);
        remove_tree(reference);
    }
    print_message("%u of %u rounds ended by signal %d\n", killed, rounds, number);
    assert_true(killed > 0);
}

static unsigned rounds_wanted(void)
{
    const char *text = getenv("SHARDLENS_KILLS");
    return text ? (unsigned)strtoul(text, NULL, 10) : 20;
}

static void a_killed_conversion_goes_on_to_the_same_bytes(void **state)
{
    (void)state;
    kill_rounds(SIGKILL, rounds_wanted());
}

static void a_terminated_conversion_keeps_its_state(void **state)
{
    (void)state;
    kill_rounds(SIGTERM, rounds_wanted() / 2);
}

static void an_unfinished_target_is_named_with_the_command_that_goes_on(void **state)
{
    (void)state;
    const struct direction *d = &directions[0];
    const unsigned took = measure(d);
    char target[512];
    snprintf(target, sizeof target, "%s", below("unfinished"));
    for (int tries = 0; tries < 50; tries++) {
        convert_and_kill(d, target, took / 2, SIGKILL);
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
    const char *seed = getenv("SHARDLENS_SEED");
    state_of_random = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;
    print_message("seed %llu\n", (unsigned long long)state_of_random);
    struct said s = program("demo $T/mega --tp 2 --pp 2 --size 40MB");
    int code = s.code;
    said_free(&s);
    s = program("convert $T/mega $T/hf --to hf");
    code = code ? code : s.code;
    said_free(&s);
    return code;
}

int main(int argc, char **argv)
{
    (void)argc;
    program_find(argv[0]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_conversion_goes_on_to_the_same_bytes),
        cmocka_unit_test(a_terminated_conversion_keeps_its_state),
        cmocka_unit_test(an_unfinished_target_is_named_with_the_command_that_goes_on),
    };
    const int failed = cmocka_run_group_tests(tests, make_sources, NULL);
    remove_tree(program_tmp);
    return failed;
}
