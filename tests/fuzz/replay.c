/* replay.c: a fuzz target without a fuzzer. Runs every seed, then the seed cut
 * short, with bytes changed and with pieces copied over others, by a fixed
 * sequence of random numbers for a few seconds; says so in cmocka's words.
 *
 *     replay_zip [SEED FILE OR FOLDER...]     default: tests/fuzz/seeds, tests/fixtures
 */
#include "fuzz.h"

#include "base/pool.h"
#include "base/text.h"

#define SEEDS_MAX 1024
#define SEED_BYTES_MAX ((size_t)1 << 20)

static struct { uint8_t *data; size_t size; } seeds[SEEDS_MAX];
static size_t seed_count;
static uint64_t random_state = 1;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static size_t below(size_t n)
{
    return n ? (size_t)(next_random() % n) : 0;
}

static void collect(const char *path, int depth)
{
    struct sl_arena arena = { 0 };
    const char *const *names;
    size_t count;
    if (sl_path_is_folder(path)) {
        if (depth && !sl_folder_list(path, 10000, &arena, &names, &count, NULL))
            for (size_t i = 0; i < count; i++) {
                const char *below_it = sl_arena_printf(&arena, "%s/%s", path, names[i]);
                if (below_it)
                    collect(below_it, depth - 1);
            }
    } else {
        char *text;
        size_t len;
        if (seed_count < SEEDS_MAX && !sl_file_slurp(path, SEED_BYTES_MAX, &arena, &text, &len, NULL)) {
            uint8_t *copy = malloc(len ? len : 1);
            if (!copy)
                abort();
            memcpy(copy, text, len);
            seeds[seed_count].data = copy;
            seeds[seed_count++].size = len;
        }
    }
    sl_arena_free(&arena);
}

/* a copy of exactly the right size, so that a sanitizer sees a step too far */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void change(uint8_t *data, size_t *size)
{
    static const uint8_t striking[] = { 0, 1, 0x7f, 0x80, 0xff, '.', '"', '}', ']', 'P', '(', ')' };
    if (*size == 0)
        return;
    switch (below(6)) {
    case 0:
        *size = below(*size);
        break;
    case 1:
        data[below(*size)] ^= (uint8_t)(1u << below(8));
        break;
    case 2:
        data[below(*size)] = striking[below(sizeof striking)];
        break;
    case 3:
        data[below(*size)] = (uint8_t)next_random();
        break;
    case 4: {    /* a length or an offset becomes huge */
        const size_t at = below(*size), len = 1 + below(8);
        memset(data + at, next_random() & 1 ? 0xff : 0x7f, len < *size - at ? len : *size - at);
        break;
    }
    default: {    /* a piece over another */
        const size_t from = below(*size), to = below(*size), len = below(64);
        const size_t room = *size - (from > to ? from : to);
        memmove(data + to, data + from, len < room ? len : room);
        break;
    }
    }
}

int main(int argc, char **argv)
{
    const char *base = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    const char *seconds = getenv("SHARDLENS_REPLAY_SECONDS");
    double limit = seconds ? strtod(seconds, NULL) : 2;
    printf("[ RUN      ] %s\n", base);
    fflush(stdout);
    if (argc > 1) {
        for (int i = 1; i < argc; i++)
            collect(argv[i], 8);
    } else {
        collect("tests/fuzz/seeds", 8);
        collect("tests/fixtures", 8);
    }

    uint64_t runs = 0;
    run((const uint8_t *)"", 0);
    for (size_t i = 0; i < seed_count; i++, runs++)
        run(seeds[i].data, seeds[i].size);
    const uint64_t end = sl_now_ns() + (uint64_t)(limit * 1e9);
    while (seed_count && sl_now_ns() < end) {
        const size_t i = below(seed_count);
        size_t size = seeds[i].size;
        uint8_t *data = malloc(size ? size : 1);
        if (!data)
            abort();
        memcpy(data, seeds[i].data, size);
        for (size_t k = 1 + below(6); k > 0; k--)
            change(data, &size);
        run(data, size);
        free(data);
        runs++;
    }
    for (size_t i = 0; i < seed_count; i++)
        free(seeds[i].data);
    printf("%zu seeds, %llu runs\n[       OK ] %s\n", seed_count, (unsigned long long)runs, base);
    return 0;
}
