/* fuzz_json.c: any text into the JSON reader; what it accepts is written and
 * must read back as the same value. */
#include "fuzz.h"

#include "base/json.h"
#include "base/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    const struct sl_value *v, *again;
    const int code = sl_json_parse((const char *)data, size, "input", &arena, &v, &err);
    fuzz_refused(code, &err);
    if (!code) {
        struct sl_buf line = { 0 }, text = { 0 };
        struct sl_json j;
        sl_value_print(v, 200, &line);
        if (line.len > 200 || !sl_text_is_printable(line.data ? line.data : "", line.len))
            abort();
        sl_json_begin(&j, &text, (int)(size % 3));
        sl_json_value(&j, v);
        /* a tree deeper than the writer goes is cut, so only others are compared */
        if (text.failed || sl_json_parse(text.data, text.len, "again", &arena, &again, &err) ||
            (!strstr(text.data, "...") && !sl_value_equal(v, again)))
            abort();
        sl_buf_free(&line);
        sl_buf_free(&text);
    }
    sl_arena_free(&arena);
    return 0;
}
