/* fuzz_family.c: any text as a --family-file: read, merged with its parent, tried on a small
 * model as `shardlens models --check` does.
 *
 * Of the built-in families it has only the parents that most inherit from, in a table of its own
 * (Makefile: families_few.c): that of all of them would be read again for each input. */
#include "folder.h"

#include "base/text.h"
#include <shardlens/shardlens.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_family_check *check = NULL;
    struct sl_error err = { 0 };
    fuzz_put("family.json", (struct fuzz_part){ data, size });
    const int code = sl_family_check(fuzz_in("family.json"), &check, &err);
    fuzz_refused(code, &err);
    for (size_t i = 0; !code && i < check->problem_count; i++)
        if (!check->problems[i].message || !sl_text_is_printable(check->problems[i].message, strlen(check->problems[i].message)))
            abort();
    sl_family_check_free(check);
    return 0;
}
