/* instead.c: what the targets have instead of what would only cost time; they are linked with --wrap
 * for these functions.
 *
 * The built-in families are read once a process and not once an input: nothing of an input is in
 * them, and reading them takes longer than anything else. Nobody waits: who looks again at a file
 * that is being written looks at once. */
#include "fuzz.h"

#include "model/family.h"
#include <time.h>

int __real_sl_families_load(const char *extra, struct sl_families *out, struct sl_error *err);
void __real_sl_families_free(struct sl_families *f);
int __wrap_sl_families_load(const char *extra, struct sl_families *out, struct sl_error *err);
void __wrap_sl_families_free(struct sl_families *f);

int __wrap_nanosleep(const struct timespec *time, struct timespec *left);

static struct sl_families built_in;

static void forget(void)
{
    __real_sl_families_free(&built_in);
}

int __wrap_sl_families_load(const char *extra, struct sl_families *out, struct sl_error *err)
{
    if (extra)
        return __real_sl_families_load(extra, out, err);
    if (!built_in.count && (__real_sl_families_load(NULL, &built_in, err) || atexit(forget)))
        abort();
    *out = built_in;
    return SL_OK;
}

void __wrap_sl_families_free(struct sl_families *f)
{
    if (f->items != built_in.items)
        __real_sl_families_free(f);
}

int __wrap_nanosleep(const struct timespec *time, struct timespec *left)
{
    (void)time;
    (void)left;
    return 0;
}
