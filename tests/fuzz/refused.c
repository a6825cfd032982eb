/* refused.c: what every refusal owes, checked after each input of each target. */
#include "fuzz.h"

#include "base/text.h"

void fuzz_refused(int code, const struct sl_error *err)
{
    if (code == SL_OK)
        return;
    if (code != (int)err->code || code < SL_NO || code > SL_MEMORY || !*err->message ||
        !sl_text_is_printable(err->message, strlen(err->message)) ||
        !sl_text_is_printable(err->where, strlen(err->where))) {
        fprintf(stderr, "a refusal that says nothing: code %d, \"%s\": \"%s\"\n", code, err->where,
                err->message);
        abort();
    }
}
