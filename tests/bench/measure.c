/* measure.c: runs a command and writes one line about it:
 *
 *     measure FILE COMMAND [ARGUMENT...]
 *     -> appended to FILE: wall seconds, user seconds, system seconds, peak RSS in bytes
 *
 * Exits as the command did. The peak is the command's own, as the kernel kept
 * it (wait4); pages of files that it only read or wrote are not in it.
 */
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "measure FILE COMMAND [ARGUMENT...]\n");
        return 2;
    }
    const double begin = now();
    const pid_t child = fork();
    if (child == 0) {
        execvp(argv[2], argv + 2);
        fprintf(stderr, "measure: %s: %s\n", argv[2], strerror(errno));
        _exit(127);
    }
    int status;
    struct rusage used;
    if (child < 0 || wait4(child, &status, 0, &used) != child) {
        fprintf(stderr, "measure: %s\n", strerror(errno));
        return 2;
    }
    const double wall = now() - begin;

    FILE *out = fopen(argv[1], "a");
    if (!out) {
        fprintf(stderr, "measure: %s: %s\n", argv[1], strerror(errno));
        return 2;
    }
    fprintf(out, "%.6f %.3f %.3f %lld\n", wall, seconds(used.ru_utime), seconds(used.ru_stime),
            (long long)used.ru_maxrss * 1024);
    fclose(out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
