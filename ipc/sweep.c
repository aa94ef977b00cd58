/* A walk over a folder that can be stopped and gone on with: the open folder
 * remembers where it is, whatever is added and removed meanwhile. */
#include "ipc/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum err sweep_begin(struct sweep *s, int folder, int reply_fd,
                     sweep_judge *leftover)
{
    *s = (struct sweep){
        .folder = folder, .reply_fd = reply_fd, .leftover = leftover};
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return ERR_SYS;
    s->dir = fdopendir(fd);
    if (s->dir == NULL) {
        close(fd);
        return ERR_SYS;
    }
    return ERR_OK;
}

static bool remove_entry(int folder, const char *name)
{
    if (unlinkat(folder, name, 0) == 0)
        return true;
    return errno == EISDIR && unlinkat(folder, name, AT_REMOVEDIR) == 0;
}

bool sweep_step(struct sweep *s, size_t most, size_t *seen, size_t *removed)
{
    if (s->dir == NULL)
        return false;
    for (size_t i = 0; i < most; i++) {
        const struct dirent *d = readdir(s->dir);
        if (d == NULL) {
            sweep_end(s);
            return false;
        }
        ++*seen;
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        if (s->leftover(s->folder, d->d_name, s->reply_fd) &&
            remove_entry(s->folder, d->d_name))
            ++*removed;
    }
    return true;
}

void sweep_end(struct sweep *s)
{
    if (s->dir != NULL)
        closedir(s->dir);
    s->dir = NULL;
}

enum err sweep_whole(int folder, int reply_fd, sweep_judge *leftover,
                     size_t *removed)
{
    struct sweep s;
    size_t seen = 0, count = 0;
    enum err e = sweep_begin(&s, folder, reply_fd, leftover);
    if (e != ERR_OK)
        return e;
    while (sweep_step(&s, SIZE_MAX, &seen, &count))
        ;
    if (removed != NULL)
        *removed = count;
    return ERR_OK;
}
