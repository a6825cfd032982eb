/* hollow.c: writes the target of a conversion without its data: every file at its full length
 * with all headers, pickles and directories, and holes (sparse files) in the place of the
 * weights. Checkpoints of a terabyte can so be opened and planned on a laptop.
 *
 *     hollow SOURCE TARGET hf|megatron|torch_dist [TP PP|LAYERS,.. EP ETP FILES]
 */
#include "api/handle.h"

#include "base/arena.h"
#include "base/io.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct sl_error err;

static int failed(void)
{
    fprintf(stderr, "hollow: %s: %s\n", err.where, err.message);
    return 1;
}

/* A new file of this length; the folders on the way to it are made. */
static int made(const char *folder, const char *name, uint64_t size, char *path, size_t room)
{
    snprintf(path, room, "%s/%s", folder, name);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return fd >= 0 && !ftruncate(fd, (off_t)size) ? fd : -1;
}

static int put(int fd, const char *path, uint64_t base, const struct sl_torch_piece *pieces, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (sl_write_at(fd, path, base + pieces[i].offset, pieces[i].bytes, pieces[i].len, &err))
            return 1;
    return 0;
}

/* CRC 0: not computed, as torch writes it with its checksums turned off. */
static int put_torch(int fd, const char *path, const struct sl_torch_layout *torch)
{
    struct sl_arena arena = { 0 };
    struct sl_torch_piece *tail;
    uint32_t count, *crc = calloc((size_t)torch->storage_count + 1, sizeof *crc);
    int bad = put(fd, path, 0, torch->pieces, torch->piece_count) || sl_torch_tail(torch, crc, &arena, &tail, &count, &err) ||
              put(fd, path, 0, tail, count);
    free(crc);
    sl_arena_free(&arena);
    return bad;
}

static int put_item(int fd, const char *path, const struct sl_tensor *t, uint64_t begin)
{
    struct sl_arena arena = { 0 };
    struct sl_torch_layout layout;
    struct sl_torch_piece *pieces;
    const uint32_t crc = 0;
    uint32_t count;
    int bad = sl_torch_layout_tensor(t->dtype, t->shape, t->ndim, t->bytes, &arena, &layout, &err) ||
              sl_torch_around(&layout, &crc, &arena, &pieces, &count, &err) || put(fd, path, begin, pieces, count);
    sl_arena_free(&arena);
    return bad;
}

static int hollow_file(const struct sl_conversion *p, const char *folder, size_t i)
{
    const struct sl_out_file *f = &p->files[i];
    char path[4096];
    const int fd = made(folder, f->name, f->size, path, sizeof path);
    if (fd < 0)
        return perror(path), 1;
    int bad = f->head_len && sl_write_at(fd, path, 0, f->head, f->head_len, &err);
    if (!bad && f->torch)
        bad = put_torch(fd, path, f->torch);
    for (size_t t = 0; p->items && t < p->target_count && !bad; t++)
        if (p->targets[t].file == (int32_t)i)
            bad = put_item(fd, path, &p->targets[t], p->items[t].begin);
    close(fd);
    return bad;
}

static int hollow_target(const struct sl_conversion *p, const char *folder)
{
    char path[4096];
    for (size_t i = 0; i < p->file_count; i++)
        if (hollow_file(p, folder, i))
            return 1;
    for (size_t i = 0; i < p->extra_count; i++) {
        const struct sl_out_extra *x = &p->extras[i];
        const int fd = x->from ? -1 : made(folder, x->name, 0, path, sizeof path);
        if (fd >= 0 && sl_write_at(fd, path, 0, x->bytes, x->len, &err))
            return 1;
        if (fd >= 0)
            close(fd);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct sl_checkpoint *ck;
    struct sl_plan *plan;
    if (argc < 4)
        return fprintf(stderr, "hollow SOURCE TARGET hf|megatron|torch_dist [TP PP|LAYERS,.. EP ETP FILES]\n"), 2;
    int sizes[5] = { 1, 1, 1, 0, 0 };
    for (int i = 4; i < argc && i < 9; i++)
        sizes[i - 4] = atoi(argv[i]);
    const char *stages = argc > 5 && strchr(argv[5], ',') ? argv[5] : NULL;      /* uneven: layers of each */
    if (stages)
        sizes[1] = 1;
    for (const char *p = stages; p && (p = strchr(p, ',')); p++)
        sizes[1]++;
    const struct sl_plan_options want = { .format = !strcmp(argv[3], "hf") ? SL_TO_HF : !strcmp(argv[3], "megatron") ? SL_TO_MEGATRON : SL_TO_TORCH_DIST,
                                          .tp = sizes[0], .pp = sizes[1], .ep = sizes[2], .etp = sizes[3], .dist_files = sizes[4], .pp_layout = stages, .iteration = 1000 };
    if (sl_open(argv[1], NULL, &ck, &err) || sl_plan_make(ck, argv[2], &want, &plan, &err) || hollow_target(plan->p, argv[2]))
        return failed();
    sl_plan_free(plan);
    sl_close(ck);
    return 0;
}
