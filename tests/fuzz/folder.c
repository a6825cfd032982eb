/* folder.c: see folder.h. */
#include "folder.h"

#include <errno.h>
#include <fcntl.h>

static char folder[64];

static void remove_folder(void)
{
    sl_folder_remove(folder, NULL);
}

const char *fuzz_folder(void)
{
    if (!*folder) {
        snprintf(folder, sizeof folder, "%s/shardlens-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
        if (!mkdtemp(folder) || atexit(remove_folder))
            abort();
    }
    return folder;
}

const char *fuzz_in(const char *name)
{
    static char paths[8][512];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", fuzz_folder(), name);
    return path;
}

void fuzz_cut(const uint8_t *data, size_t size, struct fuzz_part *parts, size_t most)
{
    const size_t cut_len = sizeof FUZZ_CUT - 1;
    for (size_t i = 0; i < most; i++) {
        parts[i] = (struct fuzz_part){ data, size };
        const uint8_t *cut = data && i + 1 < most ? memmem(data, size, FUZZ_CUT, cut_len) : NULL;
        if (cut)
            parts[i].size = (size_t)(cut - data);
        size -= cut ? parts[i].size + cut_len : size;
        data = cut ? cut + cut_len : NULL;
    }
}

static int open_new(const char *path)
{
    const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
    int fd = open(path, flags, 0600);
    if (fd < 0 && errno == ENOENT) {
        char above[512];
        snprintf(above, sizeof above, "%.*s", (int)(strrchr(path, '/') - path), path);
        if (!sl_folder_make(above, NULL))
            fd = open(path, flags, 0600);
    }
    if (fd < 0)
        abort();
    return fd;
}

void fuzz_put_long(const char *name, struct fuzz_part front, uint64_t size)
{
    const char *path = fuzz_in(name);
    const int fd = open_new(path);
    if ((front.size && sl_write_at(fd, path, 0, front.data, front.size, NULL)) ||
        (size > front.size && ftruncate(fd, (off_t)size)))
        abort();
    close(fd);
}

void fuzz_put(const char *name, struct fuzz_part part)
{
    if (part.data)
        fuzz_put_long(name, part, part.size);
    else if (unlink(fuzz_in(name)) && errno != ENOENT && errno != ENOTDIR)
        abort();
}
