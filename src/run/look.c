/* look.c: what is at the place of a target: nothing, a target, an unfinished run, a
 * run that goes on. Reads the journal and what the run tells; takes no lock.
 */
#include "run/tell.h"
#include "run/target.h"

#include "base/error.h"
#include "base/io.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define SILENT 30.0     /* seconds: on another host, who said nothing for so long is gone */

/* Free bytes of the file system of the nearest folder above the path that exists. */
static uint64_t free_above(const char *path)
{
    char part[PATH_MAX];
    struct statvfs fs;
    snprintf(part, sizeof part, "%s", path);
    for (;;) {
        if (statvfs(*part ? part : ".", &fs) == 0)
            return (uint64_t)fs.f_bavail * fs.f_frsize;
        char *slash = strrchr(part, '/');
        if (!slash && !*part)
            return 0;
        if (!slash)
            *part = '\0';
        else if (slash[1] == '\0' && slash == part)
            return 0;
        else
            slash[slash == part] = '\0';
    }
}

static double age_of(const char *path)
{
    struct stat st;
    struct timespec now;
    if (stat(path, &st) || clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    const double age = (double)(now.tv_sec - st.st_mtim.tv_sec) + (double)(now.tv_nsec - st.st_mtim.tv_nsec) / 1e9;
    return age > 0 ? age : 0;
}

/* On this host the process tells, on another one only that it was heard of. */
static bool is_writing(const struct sl_place *p)
{
    char host[72] = "";
    if (p->ended || p->pid <= 0)
        return false;
    if (gethostname(host, sizeof host - 1) == 0 && strcmp(host, p->host) == 0)
        return p->pid <= INT_MAX && (kill((pid_t)p->pid, 0) == 0 || errno == EPERM);
    return p->age >= 0 && p->age < SILENT;
}

static void look_at_run(const char *journal, const char *progress, struct sl_place *out)
{
    struct sl_journal_count told;
    if (sl_journal_count(journal, &told))
        return;
    out->state = SL_PLACE_UNFINISHED;
    out->tensors_written = told.tensors;
    snprintf(out->plan, sizeof out->plan, "%s", told.plan);
    snprintf(out->host, sizeof out->host, "%s", told.host);
    out->pid = told.pid;
    out->age = age_of(journal);
    out->told = sl_tell_read(progress, out);
    const double age = out->told ? age_of(progress) : -1;
    if (age >= 0 && (age < out->age || out->age < 0))
        out->age = age;
    if (is_writing(out))
        out->state = SL_PLACE_WRITING;
}

int sl_run_look(const char *dst, struct sl_place *out, struct sl_error *err)
{
    struct sl_arena arena = { 0 };
    struct sl_target t = { .arena = &arena };
    memset(out, 0, sizeof *out);
    out->age = -1;
    const int code = sl_target_names(&t, dst, err);
    if (!code) {
        out->exists = sl_path_exists(t.path);
        out->parent_missing = !sl_path_is_folder(t.parent);
        out->free_bytes = free_above(t.parent);
        out->state = out->exists ? SL_PLACE_EXISTS : SL_PLACE_FREE;
        look_at_run(t.journal_path, t.progress_path, out);
    }
    sl_arena_free(&arena);
    return code;
}
