/* test_hostile.c: what the program says to files that are damaged, odd or made to do harm
 * (tests/fixtures/hostile, written by hostile_files.py; special files are made here). Every one of
 * them is given to every command that opens a checkpoint, as text and as JSON, and to the terminal UI, which
 * walks over all its screens, and
 *
 *   - it ends within 5 seconds of the processor, in 256 MB, with a status of the manual, and by no signal;
 *   - a refusal is one line on standard error that names the file and a reason;
 *   - no control character of the file reaches either stream, and both are UTF-8;
 *   - what --json prints is JSON;
 *   - nothing that a pickle asks for has happened: there is no CANARY.
 */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>
#include <cmocka.h>
#include "program.h"

#include "base/arena.h"
#include "base/io.h"
#include "base/json.h"
#include "base/text.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <sys/un.h>

#define HOSTILE "tests/fixtures/hostile"
#define SECONDS_MOST 5
#define RSS_MOST_KB (256 * 1024)
#define FILE_MOST (64 << 20)               /* what may be written: some files hold tensors of terabytes, in a few bytes */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif
#ifndef HAS_SANITIZER
#define HAS_SANITIZER 0
#endif

/* $T is the temporary folder. Those in front are asked of every file, what is refused is refused in one place;
 * of the others each file that opens is asked every second one, and its neighbour the rest. */
static const char *const commands[] = {
    "inspect %s", "check %s --deep --json", "plan %s --to megatron --json", "convert %s $T/out --to hf --force --progress none", "verify %s %s",
    "--script $T/keys %s",
    "ls %s --json", "check %s --deep", "plan %s --to hf", "show %s weight", "diff %s %s", "--plain %s",
    "inspect %s --json", "ls %s", "check %s --layout", "show %s weight --json", "plan %s --to torch_dist --json",
    "convert %s $T/out.pt --to pt --force --progress none", "verify %s %s --json", "diff %s %s --json",
};
enum { COMMANDS = sizeof commands / sizeof *commands, OF_EVERY = 6 };
/* Keys that open every screen, move on it and look into what is there; as lines for --plain. */
#define WALK "2jj<Enter>jj<Esc>3jjj4jj5jj6j7j1jjff?"
#define WALK_LINES "2\njj\n\n3\njj\n4\n5\n6\n7\n1\nf\n?\nq\n"

/* ---- one run, under limits --------------------------------------------------------------------- */

struct outcome { struct said said; double seconds; long rss_kb; };

/* The path for each %s, the temporary folder for $T. */
static void command_line(char *line, size_t room, const char *command, const char *path)
{
    size_t at = 0;
    for (const char *p = command; *p && at + 1 < room; p++) {
        const char *word = !strncmp(p, "%s", 2) ? path : !strncmp(p, "$T", 2) ? program_tmp : NULL;
        at += word ? (size_t)snprintf(line + at, room - at, "%s", word) : 1;
        if (word)
            p++;
        else
            line[at - 1] = *p;
    }
    line[at < room ? at : room - 1] = '\0';
}

static double seconds_of(const struct timeval *t)
{
    return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

/* Output goes through files, so that no pipe can fill up. Seconds are the processor's: others may want it too. */
static struct outcome limited(const char *command, const char *path, rlim_t address_space)
{
    struct outcome o = { .seconds = 0 };
    struct rusage after;
    const rlim_t seconds = HAS_SANITIZER ? 20 * SECONDS_MOST : 2 * SECONDS_MOST;
    const struct rlimit now[4] = { { seconds, seconds + 1 }, { address_space, address_space }, { 0, 0 }, { FILE_MOST, FILE_MOST } };
    char line[8192];
    command_line(line, sizeof line, command, path);
    const int keys = open(below("lines"), O_RDONLY);
    const pid_t pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_CPU, &now[0]);
        if (address_space != RLIM_INFINITY)
            setrlimit(RLIMIT_AS, &now[1]);
        setrlimit(RLIMIT_CORE, &now[2]);
        setrlimit(RLIMIT_FSIZE, &now[3]);
        alarm(60);
        char *argv[32];
        int argc = 0;
        argv[argc++] = program_path;
        for (char *save, *w = strtok_r(line, " ", &save); w && argc < 31; w = strtok_r(NULL, " ", &save))
            argv[argc++] = w;
        argv[argc] = NULL;
        dup2(strstr(command, "--plain") && keys >= 0 ? keys : open("/dev/null", O_RDONLY), 0);
        dup2(open(below(".out"), O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
        dup2(open(below(".err"), O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
        execv(program_path, argv);
        _exit(127);
    }
    int status = 0;
    while (wait4(pid, &status, 0, &after) < 0 && errno == EINTR)
        ;
    close(keys);
    o.seconds = seconds_of(&after.ru_utime) + seconds_of(&after.ru_stime);
    o.rss_kb = after.ru_maxrss;
    o.said.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    const int out = open(below(".out"), O_RDONLY), err = open(below(".err"), O_RDONLY);
    o.said.out = drain(out);
    o.said.err = drain(err);
    close(out);
    close(err);
    return o;
}

/* ---- what must hold of every run ------------------------------------------------------------------ */

static bool lines_are_printable(const char *s)
{
    for (const char *end; *s; s = *end ? end + 1 : end) {
        end = s + strcspn(s, "\n");
        if (!sl_text_is_printable(s, (size_t)(end - s)))
            return false;
    }
    return true;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* "shardlens: FILE: WHAT": FILE the path, or something in it; of what is understood and not supported, a tensor. */
static bool is_one_reason(const char *err, const char *path, int code)
{
    static const char program_name[] = "shardlens: ";
    char within[PATH_MAX];
    if (strncmp(err, program_name, sizeof program_name - 1) || lines_of(err) != 1)
        return false;
    const char *name = err + sizeof program_name - 1, *colon = strstr(name, ": ");
    if (!colon || strlen(colon) < 12)
        return false;
    snprintf(within, sizeof within, "%s/%.*s", path, (int)(colon - name), name);
    return code == 4 || (code == 5 && strstr(err, program_tmp)) || strstr(err, last_part(path)) || !access(within, F_OK);
}

/* What is wrong with a source that is converted all the same. */
static bool are_told(const char *err)
{
    for (const char *line = err; *line; line += strcspn(line, "\n") + 1)
        if (!sl_text_starts(line, "shardlens: warning: ") && !sl_text_starts(line, "shardlens: error: "))
            return false;
    return true;
}

/* Is what --json printed one JSON document? */
static bool is_json(const char *text)
{
    struct sl_arena arena = { 0 };
    const struct sl_value *value;
    const bool good = !*text || !sl_json_parse(text, strlen(text), "standard output", &arena, &value, NULL);
    sl_arena_free(&arena);
    return good;
}

static double slowest;
static long largest_kb;

static int must_hold(const char *command, const char *path)
{
    struct outcome o = limited(command, path, RLIM_INFINITY);
    const struct said *s = &o.said;
    const bool refused = s->code > 1, unknown = s->code == 2 && strstr(s->err, "no such tensor");
    char line[8192];
    command_line(line, sizeof line, command, path);
    if (s->code > 5 || (s->code == 5 && !strstr(command, "convert")) || (s->code == 2 && !unknown))
        fail_msg("shardlens %s: exit %d\n%s", line, s->code, s->err);
    if (refused ? !unknown && !is_one_reason(s->err, path, s->code) && *s->err : *s->err && !are_told(s->err))
        fail_msg("shardlens %s: exit %d, said: %s", line, s->code, s->err);
    if (refused && !*s->err && !*s->out)
        fail_msg("shardlens %s: exit %d and not a word", line, s->code);
    if (!lines_are_printable(s->out) || !lines_are_printable(s->err))
        fail_msg("shardlens %s: a control character, or no UTF-8", line);
    if (strstr(command, "--json") && !is_json(s->out))
        fail_msg("shardlens %s: no JSON: %s", line, s->out);
    if (!HAS_SANITIZER && (o.seconds > SECONDS_MOST || o.rss_kb > RSS_MOST_KB))
        fail_msg("shardlens %s: %.1f s, %ld KB", line, o.seconds, o.rss_kb);
    slowest = o.seconds > slowest ? o.seconds : slowest;
    largest_kb = o.rss_kb > largest_kb ? o.rss_kb : largest_kb;
    const int code = *s->out ? 0 : s->code;
    said_free(&o.said);
    return code;
}

static void all_hold(const char *path)
{
    write_text(below("keys"), WALK);
    write_text(below("lines"), WALK_LINES);
    static int turn;
    const bool opens = must_hold(commands[0], path) == 0;
    for (int i = 1; i < OF_EVERY; i++)
        must_hold(commands[i], path);
    for (int i = OF_EVERY + turn; opens && i < COMMANDS; i += 2)
        must_hold(commands[i], path);
    turn = opens ? !turn : turn;
    if (access("CANARY", F_OK) == 0 || access(below("CANARY"), F_OK) == 0)
        fail_msg("%s: what it asks for was done", path);
}

/* ---- the collection ----------------------------------------------------------------------------------- */

/* "refuse" or "opaque" by expected.json, read without a parser: one line a name. */
static bool is_to_be_refused(const char *expected, const char *name)
{
    char key[300];
    snprintf(key, sizeof key, "\"%s\": \"refuse\"", name);
    return strstr(expected, key) != NULL;
}

static size_t each_hostile(void (*with)(const char *path, bool refuse))
{
    DIR *d = opendir(HOSTILE);
    assert_non_null(d);
    const int fd = open(HOSTILE "/expected.json", O_RDONLY);
    char *expected = drain(fd);
    close(fd);
    size_t count = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char path[512];
        if (e->d_name[0] == '.' || !strcmp(e->d_name, "expected.json") || !strcmp(e->d_name, "names.txt"))
            continue;
        snprintf(path, sizeof path, HOSTILE "/%s", e->d_name);
        with(path, is_to_be_refused(expected, e->d_name));
        count++;
    }
    closedir(d);
    free(expected);
    return count;
}

static void hold_one(const char *path, bool refuse)
{
    (void)refuse;
    all_hold(path);
}

static void hostile_files_are_answered_in_time_and_in_plain_text(void **state)
{
    (void)state;
    slowest = 0;
    largest_kb = 0;
    assert_true(each_hostile(hold_one) > 200);
    printf("slowest %.2f s, most memory %ld KB\n", slowest, largest_kb);
}

static void refused_ones_are_refused(const char *path, bool refuse)
{
    /* folders: an index that names what is not there, a config that is none: the weights may be read */
    struct stat st;
    if (!refuse || stat(path, &st) || S_ISDIR(st.st_mode))
        return;
    struct said s = program("check %s", path);
    if (s.code != 3 && s.code != 4)
        fail_msg("check %s: exit %d\n%s", path, s.code, s.out);
    said_free(&s);
}

static void damaged_files_are_refused_and_not_half_read(void **state)
{
    (void)state;
    each_hostile(refused_ones_are_refused);
}

/* P6: what is odd and valid is read: tests/fixtures/torch was written by torch itself. */
static void odd_files_that_torch_writes_are_read(void **state)
{
    static const char *const folders[] = { "tests/fixtures/torch", "tests/fixtures/hostile" };
    static const char *const odd[] = { "line_feed_names.pt", "escape_names.pt", "args_laugh.pt", "tensor_windows.pt",
                                       "tensor_terabytes_by_stride_zero.pt", "st_escape_name.safetensors" };
    (void)state;
    DIR *d = opendir(folders[0]);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folders[0], e->d_name);
        if (!sl_text_ends(e->d_name, ".pt"))
            continue;
        all_hold(path);
        if (must_hold("ls %s", path))
            fail_msg("%s is refused", path);
    }
    closedir(d);
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folders[1], odd[i]);
        if (must_hold("ls %s", path) || must_hold("check %s --deep", path))
            fail_msg("%s is refused", path);
    }
}

/* ---- what a pickle asks for is told --------------------------------------------------------------------- */

static void calls_of_pickles_are_told_and_not_made(void **state)
{
    static const struct { const char *file, *asks; } rows[] = {
        { "call_os_system.pt", "os.system" },          { "call_eval.pt", "builtins.eval" },
        { "call_popped.pt", "os.system" },             { "call_py2_builtin.pt", "builtins.exec" },
        { "call_getattr_chain.pt", "builtins.__import__" }, { "call_as_dict_key.pt", "posix.system" },
        { "call_in_rebuild_args.pt", "os.system" },    { "call_nested_pickle.pt", "pickle.loads" },
        { "call_obj.pkl", "os.system" },               { "call_newobj.pkl", "subprocess.Popen" },
        { "call_newobj_ex.pkl", "subprocess.Popen" },  { "call_stack_global.pkl", "os.system" },
        { "call_inst.pkl", "os.system" },              { "call_from_memo.pkl", "os.system" },
        { "call_from_text_opcodes.pkl", "os.system" }, { "call_before_damage.pkl", "os.system" },
        { "call_in_persid.pt", "os.system" },          { "call_in_state.pt", "os.system" },
        { "call_changed_function.pt", "numpy.prod" },  { "call_code_object.pt", "types.CodeType" },
        { "call_within_bytes.pt", "os.system (in bytes that hold a pickle)" },
        { "call_within_bytes.pt", "posix.popen (in bytes" }, { "call_within_bytes.pt", "subprocess.run (in bytes" },
        { "call_within_bytes.pt", "builtins.exec (in bytes" }, { "bin_calls", "os.system" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct said s = program("check " HOSTILE "/%s", rows[i].file);
        const bool told = s.code == 1 ? strstr(s.out, "error     pickle-call") && strstr(s.out, rows[i].asks)
                                      : s.code == 3 && strstr(s.err, rows[i].asks) && strstr(s.err, "nothing was run");
        if (!told)
            fail_msg("%s: exit %d\n%s%s", rows[i].file, s.code, s.out, s.err);
        said_free(&s);
    }
}

/* Every name that published attacks used, and what went around lists of such names. */
static void every_published_name_is_told(void **state)
{
    (void)state;
    struct said by_name = program("check " HOSTILE "/call_published.pt --json"), by_attribute = program("check " HOSTILE "/call_by_attribute.pt --json");
    FILE *names = fopen(HOSTILE "/names.txt", "r");
    char line[256];
    size_t count = 0;
    assert_non_null(names);
    for (; fgets(line, sizeof line, names); count++) {
        const char *calls[] = { strstr(by_name.out, "asks for"), strstr(by_attribute.out, "asks for") };
        line[strcspn(line, "\n")] = '\0';
        if (!calls[0] || !calls[1] || (!strstr(calls[0], line) && !strstr(calls[1], line)))
            fail_msg("%s is not told", line);
    }
    fclose(names);
    assert_true(count > 100);
    said_free(&by_name);
    said_free(&by_attribute);
}

/* common.pt of a distributed checkpoint is a pickle as any other. */
static void calls_beside_a_distributed_checkpoint_are_told(void **state)
{
    (void)state;
    copy_tree("tests/fixtures/dist/llama_tp2_pp2/iter_0000010", below("dist"));
    assert_int_equal(unlink(below("dist/common.pt")), 0);
    copy_tree(HOSTILE "/call_os_system.pt", below("dist/common.pt"));
    struct said s = program("check $T/dist");
    if (s.code != 1 || !strstr(s.out, "pickle-call  common.pt: its pickle asks for os.system"))
        fail_msg("exit %d\n%s%s", s.code, s.out, s.err);
    said_free(&s);
}

/* ---- names that leave the folder ---------------------------------------------------------------------------- */

static void an_index_that_points_outside_is_refused(void **state)
{
    static const char *const names[] = { "../x.safetensors", "/etc/hostname", "a/../../x.safetensors", "..", "", "./../x.safetensors" };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[256];
        mkdir(below("hf"), 0700);
        snprintf(text, sizeof text, "{\"weight_map\":{\"a\":\"%s\"}}", names[i]);
        write_text(below("hf/model.safetensors.index.json"), text);
        struct said s = program("inspect $T/hf");
        if (s.code != 3 || !strstr(s.err, "model.safetensors.index.json: it names the file") || lines_of(s.err) != 1)
            fail_msg("%s: exit %d: %s%s", names[i], s.code, s.err, s.out);
        said_free(&s);
        remove_tree(below("hf"));
    }
}

/* ---- things that are no files ------------------------------------------------------------------------------- */

static void write_small(const char *path)
{
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    const unsigned char len[8] = { sizeof header - 1 }, data[8] = { 0 };
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(len, 1, 8, f) + fwrite(header, 1, sizeof header - 1, f) + fwrite(data, 1, 8, f), 16 + sizeof header - 1);
    fclose(f);
}

static void make_sparse(const char *path)
{
    const int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    if (ftruncate(fd, (off_t)8 << 30))
        skip();
    close(fd);
}

/* code -1: it opens; whether it can be planned is another question. */
static void expect(const char *name, int code, const char *words)
{
    char path[PATH_MAX + 300];
    snprintf(path, sizeof path, "%s", below(name));
    const bool opened = code < 0;
    for (int i = 0; i < (opened ? 2 : 5); i++) {
        struct outcome o = limited(commands[i], path, RLIM_INFINITY);
        const bool good = opened ? o.said.code != 3 && o.said.code < 128 : o.said.code == code && is_one_reason(o.said.err, path, code);
        if (!good || (words && !strstr(o.said.err, words)) || o.seconds > SECONDS_MOST)
            fail_msg("%s of %s: exit %d, %.1f s: %s%s", commands[i], name, o.said.code, o.seconds, o.said.err, o.said.out);
        said_free(&o.said);
    }
}

static void fifos_devices_and_sockets_are_named_and_not_opened(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(below("fifo.pt"), 0600), 0);
    expect("fifo.pt", 3, "is a FIFO");
    mkdir(below("hf"), 0700);
    assert_int_equal(symlink("/dev/zero", below("hf/model.safetensors")), 0);
    expect("hf", 3, "is a character device");
    remove_tree(below("hf"));
    mkdir(below("hf"), 0700);
    write_text(below("hf/model.safetensors.index.json"), "{\"weight_map\":{\"a\":\"x.safetensors\"}}");
    assert_int_equal(mkfifo(below("hf/x.safetensors"), 0600), 0);
    expect("hf", 3, "is a FIFO");
    remove_tree(below("hf"));
    mkdir(below("ranks"), 0700);
    mkdir(below("ranks/mp_rank_00"), 0700);
    assert_int_equal(mkfifo(below("ranks/mp_rank_00/model_optim_rng.pt"), 0600), 0);
    expect("ranks", 3, "is a FIFO");
    mkdir(below("tracked"), 0700);
    mkdir(below("tracked/iter_0000001"), 0700);
    assert_int_equal(mkfifo(below("tracked/latest_checkpointed_iteration.txt"), 0600), 0);
    expect("tracked", 3, "is a FIFO");
    mkdir(below("dist"), 0700);
    assert_int_equal(mkfifo(below("dist/.metadata"), 0600), 0);
    expect("dist", 3, "is a FIFO");
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    const int s = socket(AF_UNIX, SOCK_STREAM, 0);
    if (s >= 0 && strlen(below("sock")) < sizeof a.sun_path) {
        strcpy(a.sun_path, below("sock"));
        if (!bind(s, (const struct sockaddr *)&a, sizeof a))
            expect("sock", 3, "is a socket");
    }
    close(s);
}

static void links_in_a_circle_end(void **state)
{
    (void)state;
    assert_int_equal(symlink("loop", below("loop")), 0);
    expect("loop", 3, "symbolic links");
    mkdir(below("circle"), 0700);
    assert_int_equal(symlink("../circle", below("circle/circle")), 0);
    assert_int_equal(symlink(".", below("circle/model.safetensors")), 0);
    expect("circle", 3, NULL);
    mkdir(below("weights"), 0700);
    assert_int_equal(symlink("model.safetensors", below("weights/model.safetensors")), 0);
    expect("weights", 3, NULL);
}

/* The cache of Hugging Face is made of links out of the folder. */
static void links_that_the_folder_holds_are_followed(void **state)
{
    (void)state;
    mkdir(below("blobs"), 0700);
    mkdir(below("snapshot"), 0700);
    write_small(below("blobs/4d7a"));
    assert_int_equal(symlink("../blobs/4d7a", below("snapshot/model.safetensors")), 0);
    expect("snapshot", -1, NULL);
}

static void small_files_of_gigabytes_are_not_read(void **state)
{
    static const char *const names[] = { "config.json", "generation_config.json", "model.safetensors.index.json" };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[300];
        mkdir(below("huge"), 0700);
        write_small(below("huge/model.safetensors"));
        snprintf(path, sizeof path, "huge/%s", names[i]);
        make_sparse(below(path));
        expect("huge", -1, NULL);
        remove_tree(below("huge"));
    }
    make_sparse(below("zeros.pt"));
    expect("zeros.pt", 3, "all zero bytes");
}

/* Links of one small file: each is a shard with a tensor of the same name. A folder of them costs what its files cost. */
static void folders_of_many_files_are_read_in_time(void **state)
{
    static const char *const asked[] = { "inspect %s", "ls %s", "check %s --deep", "--script $T/keys %s" };
    enum { MANY = 20000 };
    char first[PATH_MAX], path[PATH_MAX];
    (void)state;
    write_text(below("keys"), WALK);
    mkdir(below("many"), 0700);
    snprintf(first, sizeof first, "%s", below("many/model-00001-of-20000.safetensors"));
    write_small(first);
    for (int i = 2; i <= MANY; i++) {
        snprintf(path, sizeof path, "%s/many/model-%05d-of-%d.safetensors", program_tmp, i, MANY);
        if (link(first, path))
            skip();
    }
    snprintf(path, sizeof path, "%s/many", program_tmp);
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++)
        must_hold(asked[i], path);
    remove_tree(path);
    mkdir(path, 0700);
    for (int i = 0; i < MANY; i++) {                     /* and nothing that it knows */
        snprintf(first, sizeof first, "%s/many/%d", program_tmp, i);
        if (symlink("nowhere", first))
            skip();
    }
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++)
        must_hold(asked[i], path);
    remove_tree(path);
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

/* Address space from the least that starts the program, upward: done, refused for memory, or refused for
 * the file; never a signal, never another status. Honest checkpoints: test_promises.c. */
static void hostile_files_in_little_memory_are_answered(void **state)
{
    static const char *const runs[][2] = {
        { "inspect %s --json", "tests/fixtures/hostile/tensor_windows.pt" },
        { "check %s --deep", "tests/fixtures/hostile/args_laugh.pt" },
        { "check %s --deep", "tests/fixtures/llama_tp2_pp1" },
        { "verify %s %s", "tests/fixtures/llama_tp1_pp1" },
        { "convert %s $T/out --to hf --force --progress none", "tests/fixtures/hostile/escape_names.pt" },
        { "--plain %s", "tests/fixtures/hostile/call_within_bytes.pt" },
    };
    (void)state;
    if (HAS_SANITIZER)
        skip();
    write_text(below("lines"), WALK_LINES);
    rlim_t least = 4;
    for (; least < 512; least++) {
        struct outcome o = limited("%s", "--version", least << 20);
        const int code = o.said.code;
        said_free(&o.said);
        if (!code)
            break;
    }
    assert_true(least < 512);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        int last = -1;
        for (rlim_t mb = least; mb < least + 400; mb += mb < least + 16 ? 1 : 24) {
            struct outcome o = limited(runs[i][0], runs[i][1], mb << 20);
            last = o.said.code;
            if (last != 0 && last != 2 && last != 3 && last != 6)
                fail_msg("%s of %s in %lu MB: exit %d: %s", runs[i][0], runs[i][1], (unsigned long)mb, last, o.said.err);
            if (last && lines_of(o.said.err) != 1)
                fail_msg("%s of %s in %lu MB: exit %d in %zu lines: %s", runs[i][0], runs[i][1], (unsigned long)mb, last,
                         lines_of(o.said.err), o.said.err);
            said_free(&o.said);
        }
        assert_int_equal(last, 0);
    }
}

static int clean(void **state)
{
    (void)state;
    remove_tree(program_tmp);
    mkdir(program_tmp, 0700);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_files_are_answered_in_time_and_in_plain_text),
        cmocka_unit_test(damaged_files_are_refused_and_not_half_read),
        cmocka_unit_test(odd_files_that_torch_writes_are_read),
        cmocka_unit_test(calls_of_pickles_are_told_and_not_made),
        cmocka_unit_test(every_published_name_is_told),
        cmocka_unit_test_setup(calls_beside_a_distributed_checkpoint_are_told, clean),
        cmocka_unit_test_setup(an_index_that_points_outside_is_refused, clean),
        cmocka_unit_test_setup(fifos_devices_and_sockets_are_named_and_not_opened, clean),
        cmocka_unit_test_setup(links_in_a_circle_end, clean),
        cmocka_unit_test_setup(links_that_the_folder_holds_are_followed, clean),
        cmocka_unit_test_setup(small_files_of_gigabytes_are_not_read, clean),
        cmocka_unit_test_setup(folders_of_many_files_are_read_in_time, clean),
        cmocka_unit_test_setup(hostile_files_in_little_memory_are_answered, clean),
    };
    (void)argc;
    program_find(argv[0]);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_tree(program_tmp);
    return failed;
}
