/* slow.c: a slow disk for a real program: preloaded, it makes every larger pread wait as long
 * as a disk of SLOW_BYTES bytes a second would take, while the file SLOW_WHEN exists. */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define SMALL 1024                       /* headers and directories come at once */

typedef ssize_t read_at(int fd, void *buf, size_t len, off_t offset);

static ssize_t slowly(const char *name, int fd, void *buf, size_t len, off_t offset)
{
    read_at *real = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, name);
    const char *rate = getenv("SLOW_BYTES"), *when = getenv("SLOW_WHEN");
    const double seconds = rate && atof(rate) > 0 && len > SMALL && when && access(when, F_OK) == 0 ? (double)len / atof(rate) : 0;
    nanosleep(&(struct timespec){ (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) }, NULL);
    return real(fd, buf, len, offset);
}

ssize_t slow_pread(int fd, void *buf, size_t len, off_t offset) __asm__("pread");
ssize_t slow_pread(int fd, void *buf, size_t len, off_t offset)
{
    return slowly("pread", fd, buf, len, offset);
}

ssize_t slow_pread64(int fd, void *buf, size_t len, off_t offset) __asm__("pread64");
ssize_t slow_pread64(int fd, void *buf, size_t len, off_t offset)
{
    return slowly("pread64", fd, buf, len, offset);
}
