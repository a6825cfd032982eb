/* One conversion by several processes: the same bytes as by one, whatever dies or is done twice on the way;
 * and the batch script of docs/cluster.md, with a loop in the place of Slurm. */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>
#include <cmocka.h>
#include <signal.h>
#include <time.h>
#include "program.h"

static const struct direction { const char *name, *source, *options; } directions[] = {
    { "hf", "$T/mega", "--to hf --max-shard-size 500KB" },
    { "megatron", "$T/mega", "--to megatron --tp 2 --pp 4" },
    { "back", "$T/ref-hf", "--to megatron --tp 1 --pp 2" },
    { "bin", "$T/mega", "--to hf-bin --max-shard-size 1MB" },
    { "dist", "$T/mega", "--to torch_dist --dist-files 5" },
    { "single", "$T/mega", "--to hf" },                            /* one file: one part has it, the others nothing */
};
enum { DIRECTIONS = sizeof directions / sizeof *directions };

static void expect(struct said s, int code, const char *words)
{
    if (s.code != code || !strstr(s.err, words))
        fail_msg("exit %d, expected %d and \"%s\"\n%s%s", s.code, code, words, s.err, s.out);
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
        execlp("diff", "diff", "-rq", "-x", "shardlens-report.json", a, b, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool is_there(const char *name) { return access(below(name), F_OK) == 0; }

static void is_like_the_reference(const struct direction *d)
{
    char reference[512], target[512];
    snprintf(reference, sizeof reference, "%s/ref-%s", program_tmp, d->name);
    snprintf(target, sizeof target, "%s/out", program_tmp);
    if (!same_tree(target, reference))
        fail_msg("%s: other bytes than one process writes", d->name);
    assert_false(is_there("out.part-1-of-3"));
    assert_false(is_there("out.partial.journal"));
    remove_tree(target);
}

static struct said part(const struct direction *d, unsigned i, unsigned n)
{
    return program("convert %s $T/out %s --part %u/%u", d->source, d->options, i, n);
}
static struct said finish(const struct direction *d, const char *more)
{
    return program("convert %s $T/out %s --finish %s", d->source, d->options, more);
}

static void several_processes_write_the_bytes_of_one(void **state)
{
    (void)state;
    static const unsigned counts[] = { 1, 3, 9 };
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < DIRECTIONS; i++) {
            const struct direction *d = &directions[i];
            pid_t pids[9];
            for (unsigned n = 0; n < counts[k]; n++)        /* all at once */
                pids[n] = program_start("convert %s $T/out %s --part %u/%u", d->source, d->options, n + 1, counts[k]);
            for (unsigned n = 0; n < counts[k]; n++)
                expect(program_end(pids[n]), 0, "");
            assert_false(is_there("out"));
            expect(finish(d, k == 1 ? "--verify reread" : ""), 0, "");
            is_like_the_reference(d);
        }
}

static void a_part_that_is_not_there_or_not_right_is_named(void **state)
{
    (void)state;
    const struct direction *d = &directions[0];
    expect(finish(d, ""), 3, "no parts of it are there");
    expect(part(d, 1, 3), 0, "");
    expect(part(d, 3, 3), 0, "");
    expect(finish(d, ""), 3, "out.part-2-of-3: this part is not done");
    expect(program("convert %s $T/out %s --part 2/4", d->source, d->options), 0, "");
    expect(finish(d, ""), 2, "parts of 3 and of 4 are there");
    remove_tree(below("out.part-2-of-4"));
    expect(program("convert %s $T/out --to hf --max-shard-size 600KB --part 2/3", d->source), 0, "");
    expect(finish(d, ""), 3, "out.part-2-of-3: this part is of another plan");
    remove_tree(below("out.part-2-of-3"));
    expect(part(d, 2, 3), 0, "");
    char file[600];
    snprintf(file, sizeof file, "%s", below("out.part-2-of-3/model-00003-of-00005.safetensors"));
    for (int n = 1; n < 10 && access(file, F_OK) != 0; n++)
        for (int of = 1; of < 10 && access(file, F_OK) != 0; of++)
            snprintf(file, sizeof file, "%s/out.part-2-of-3/model-%05d-of-%05d.safetensors", program_tmp, n, of);
    const int fd = open(file, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "x", 1, 5000), 1);
    close(fd);
    expect(finish(d, ""), 3, "was written to after its part was done");
    assert_false(is_there("out"));
    remove_tree(below("out.part-2-of-3"));
    expect(part(d, 2, 3), 0, "");
    expect(part(d, 2, 3), 0, "");                            /* again: nothing to do */
    write_text(below("out.part-2-of-3.partial.journal"), ""); /* as if it was killed behind its commit */
    expect(finish(d, ""), 0, "");
    assert_false(is_there("out.part-2-of-3.partial.journal"));
    expect(part(d, 1, 3), 5, "exists already");
    expect(finish(d, ""), 3, "no parts of it are there");
    is_like_the_reference(d);
}

/* A weight that changed behind the back of the times of files: believed as it was told, found when asked to read. */
static void finishing_with_verify_reads_all_and_mends(void **state)
{
    (void)state;
    const struct direction *d = &directions[1];
    for (unsigned i = 1; i <= 3; i++)
        expect(part(d, i, 3), 0, "");
    char file[600] = "";
    for (unsigned i = 1; i <= 3 && access(file, F_OK) != 0; i++)
        snprintf(file, sizeof file, "%s/out.part-%u-of-3/iter_0001000/mp_rank_01_002/model_optim_rng.pt", program_tmp, i);
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    const int fd = open(file, O_WRONLY);
    assert_int_equal(pwrite(fd, "wrong", 5, st.st_size / 2), 5);
    const struct timespec before[2] = { st.st_atim, st.st_mtim };
    assert_int_equal(futimens(fd, before), 0);
    close(fd);
    expect(finish(d, "--verify checksum"), 0, "");
    is_like_the_reference(d);
}

static void parts_and_finishing_may_be_killed_at_any_moment(void **state)
{
    (void)state;
    const unsigned rounds = getenv("SHARDLENS_KILLS") ? 100 : 6;
    unsigned killed = 0;
    for (unsigned n = 0; n < rounds; n++) {
        const struct direction *d = &directions[n % DIRECTIONS];
        for (unsigned step = 1; step <= 4; step++) {
            const bool last = step == 4;
            struct said s;
            do {
                const pid_t pid = last ? program_start("convert %s $T/out %s --finish", d->source, d->options)
                                       : program_start("convert %s $T/out %s --part %u/3", d->source, d->options, step);
                const struct timespec pause = { 0, (long)((n * 7 + step * 13 + killed * 29) % 90) * 1000000 };
                nanosleep(&pause, NULL);
                kill(pid, n % 3 ? SIGKILL : SIGTERM);
                s = program_end(pid);
                killed += s.code > 128;
                said_free(&s);
            } while (s.code > 128 && killed % 2);
            if (last && is_there("out") && !is_there("out.partial.journal"))
                break;                                       /* it was done before it was killed */
            expect(last ? finish(d, "") : part(d, step, 3), 0, "");
        }
        is_like_the_reference(d);
    }
    print_message("%u killed\n", killed);
    assert_true(killed > 0);
}

static void what_can_not_be_done_in_parts_is_refused(void **state)
{
    (void)state;
    expect(program("convert $T/mega $T/one.pt --part 1/2"), 2, "a target of one file is not done in parts");
    expect(program("convert $T/mega $T/out --to hf --part 3/2"), 2, "--part 3/2: not a part");
    expect(program("convert $T/mega $T/out --to hf --part 0/2"), 2, "--part 0/2: not a part");
    expect(program("convert $T/mega $T/out --to hf --part 1"), 2, "--part 1: not a part");
    expect(program("convert $T/mega $T/out --to hf --part 1/2 --finish"), 2, "two steps");
    expect(program("convert $T/mega $T/out --to hf --part 1/2 --report $T/r.json"), 2, "--report belongs to --finish");
}

static int run_script(const char *task, const char *count)
{
    const pid_t pid = fork();
    if (pid == 0) {
        char path[PATH_MAX + 256], folder[PATH_MAX];
        snprintf(folder, sizeof folder, "%s", program_path);
        *strrchr(folder, '/') = '\0';
        snprintf(path, sizeof path, "%s:%s", folder, getenv("PATH"));
        setenv("PATH", path, 1);
        if (task) {
            setenv("SLURM_ARRAY_TASK_ID", task, 1);
            setenv("SLURM_ARRAY_TASK_COUNT", count, 1);
        }
        setenv("SLURM_CPUS_PER_TASK", "2", 1);
        const int out = open("/dev/null", O_WRONLY);
        dup2(out, 1);
        dup2(out, 2);
        execlp("sh", "sh", "docs/examples/slurm.sh", below("mega"), below("out"), "--to", "hf", "--max-shard-size", "500KB", (char *)NULL);
        _exit(127);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void the_batch_script_of_the_documents_works(void **state)
{
    (void)state;
    assert_int_equal(run_script(NULL, NULL), 3);             /* finishing before the parts */
    for (int i = 4; i >= 1; i--) {
        char task[12];
        snprintf(task, sizeof task, "%d", i);
        assert_int_equal(run_script(task, "4"), 0);
    }
    assert_int_equal(run_script("2", "4"), 0);               /* requeued */
    assert_int_equal(run_script(NULL, NULL), 0);
    is_like_the_reference(&directions[0]);
}

static int make_references(void **state)
{
    (void)state;
    expect(program("demo $T/mega --tp 2 --pp 2 --size 4MB"), 0, "");
    for (size_t i = 0; i < DIRECTIONS; i++)
        expect(program("convert %s $T/ref-%s %s", directions[i].source, directions[i].name, directions[i].options), 0, "");
    return 0;
}

int main(int argc, char **argv)
{
    (void)argc;
    program_find(argv[0]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_processes_write_the_bytes_of_one),
        cmocka_unit_test(a_part_that_is_not_there_or_not_right_is_named),
        cmocka_unit_test(finishing_with_verify_reads_all_and_mends),
        cmocka_unit_test(parts_and_finishing_may_be_killed_at_any_moment),
        cmocka_unit_test(what_can_not_be_done_in_parts_is_refused),
        cmocka_unit_test(the_batch_script_of_the_documents_works),
    };
    const int failed = cmocka_run_group_tests(tests, make_references, NULL);
    remove_tree(program_tmp);
    return failed;
}
