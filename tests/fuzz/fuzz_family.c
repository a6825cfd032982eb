/* fuzz_family.c: any text as a --family-file: read, merged with its parent, tried on a small
 * model as `shardlens models --check` does.
 *
 * Of the built-in families it has only the parents that most inherit from: the table of all of
 * them (model/embedded.h, which is not included for this) would be read again for each input. */
#include "folder.h"

#include "base/text.h"
#include <shardlens/shardlens.h>

struct few { const char *name; const unsigned char *bytes; size_t len, size; };    /* len == size: as it is */
extern struct few sl_embedded_files[];
extern size_t sl_embedded_count;
struct few sl_embedded_files[] = { { "base.json", NULL, 0, 0 }, { "decoder.json", NULL, 0, 0 } };
size_t sl_embedded_count = sizeof sl_embedded_files / sizeof *sl_embedded_files;

static struct sl_arena parents;

static void forget_parents(void)
{
    sl_arena_free(&parents);
}

static void read_parents(void)
{
    for (size_t i = 0; i < sl_embedded_count; i++) {
        char path[256], *text;
        snprintf(path, sizeof path, "src/model/families/%s", sl_embedded_files[i].name);
        if (sl_file_slurp(path, 1 << 20, &parents, &text, &sl_embedded_files[i].len, NULL)) {
            fprintf(stderr, "%s can't be read: start in the root of the sources\n", path);
            abort();
        }
        sl_embedded_files[i].bytes = (const unsigned char *)text;
        sl_embedded_files[i].size = sl_embedded_files[i].len;
    }
    if (atexit(forget_parents))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_family_check *check = NULL;
    struct sl_error err = { 0 };
    if (!sl_embedded_files[0].bytes)
        read_parents();
    fuzz_put("family.json", (struct fuzz_part){ data, size });
    const int code = sl_family_check(fuzz_in("family.json"), &check, &err);
    fuzz_refused(code, &err);
    for (size_t i = 0; !code && i < check->problem_count; i++)
        if (!check->problems[i].message || !sl_text_is_printable(check->problems[i].message, strlen(check->problems[i].message)))
            abort();
    sl_family_check_free(check);
    return 0;
}
