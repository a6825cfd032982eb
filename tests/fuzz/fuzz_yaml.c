/* fuzz_yaml.c: any text as a run file of batch or --config: it is a value or a refusal in a line. */
#include "fuzz.h"

#include "base/text.h"
#include "base/value.h"
#include "base/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_arena arena = { .limit = FUZZ_ARENA };
    struct sl_error err = { 0 };
    const struct sl_value *v = NULL;
    struct sl_buf line = { 0 };
    const int code = sl_yaml_parse((const char *)data, size, "input", &arena, &v, &err);
    fuzz_refused(code, &err);
    if (!code)
        sl_value_print(v, 200, &line);
    if (line.len > 200 || !sl_text_is_printable(line.data ? line.data : "", line.len))
        abort();
    sl_buf_free(&line);
    sl_arena_free(&arena);
    return 0;
}
