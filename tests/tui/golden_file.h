/* golden_file.h: screens as files that a person has looked at, for the tests of this folder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *file_text(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    char *text = calloc(1, 200001);
    size_t n = text ? fread(text, 1, 200000, f) : 0;
    if (text)
        text[n] = '\0';
    fclose(f);
    return text;
}

/* The golden file must hold exactly this text; with SHARDLENS_GOLDEN set it is written. */
static void compare(const char *name, const char *got)
{
    char path[256];
    snprintf(path, sizeof path, "tests/tui/golden/%s.txt", name);
    if (getenv("SHARDLENS_GOLDEN")) {
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        fputs(got, f);
        assert_int_equal(fclose(f), 0);
        return;
    }
    char *want = file_text(path);
    if (!want || strcmp(want, got))
        print_message("%s differs; make golden writes it again. Now:\n%s\n", path, got);
    assert_non_null(want);
    assert_string_equal(want, got);
    free(want);
}
