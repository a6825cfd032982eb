/* replay.c: a fuzz target without a fuzzer. Runs every seed, then the seed cut
 * short, with bytes changed and with pieces copied over others, by a fixed
 * sequence of random numbers for a second; says so in cmocka's words.
 *
 *     replay_zip [SEED FILE OR FOLDER...]     default: the seeds of the target, see gather.h
 */
#include "fuzz.h"
#include "gather.h"
#include "repair.h"

#include "base/pool.h"

#pragma weak LLVMFuzzerCustomMutator

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

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most)
{
    (void)most;
    for (size_t k = 1 + below(6); k > 0; k--)
        change(data, &size);
    return size;
}

static void run_changed(const struct fuzz_seed *seed)
{
    const size_t most = seed->size + 4096;
    uint8_t *data = calloc(1, most);
    if (!data)
        abort();
    memcpy(data, seed->data, seed->size);
    const size_t size = LLVMFuzzerCustomMutator ? LLVMFuzzerCustomMutator(data, seed->size, most, (unsigned)below(1000))
                                                : LLVMFuzzerMutate(data, seed->size, most);
    run(data, size);
    free(data);
}

int main(int argc, char **argv)
{
    const char *base = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    const char *target = strchr(base, '_') ? strchr(base, '_') + 1 : base;
    const char *seconds = getenv("SHARDLENS_REPLAY_SECONDS");
    const double limit = seconds ? strtod(seconds, NULL) : 1;
    struct fuzz_seeds seeds = { .count = 0 };
    uint64_t runs = 0;
    printf("[ RUN      ] %s\n", base);
    fflush(stdout);
    for (int i = 1; i < argc; i++)
        fuzz_gather_path(argv[i], &seeds);
    if (argc == 1)
        fuzz_gather(target, &seeds);

    run((const uint8_t *)"", 0);
    for (size_t i = 0; i < seeds.count; i++, runs++)
        run(seeds.items[i].data, seeds.items[i].size);
    const uint64_t end = sl_now_ns() + (uint64_t)(limit * 1e9);
    for (; seeds.count && sl_now_ns() < end; runs++)
        run_changed(&seeds.items[below(seeds.count)]);
    printf("%zu seeds, %llu runs\n[%s] %s\n", seeds.count, (unsigned long long)runs, seeds.count ? "       OK " : "  FAILED  ", base);
    const bool none = !seeds.count;
    fuzz_seeds_free(&seeds);
    return none;
}
