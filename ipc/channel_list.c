/* Walking over the places where channels live. */
#include "ipc/channel_list.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/channel.h"

#define ENTRIES_MAX 4096 /* of one folder that are looked at */

static bool in_use(int root, const char *entry)
{
    static const char *const marks[] = {"lock", "queue", "status"};
    struct stat st;
    int fd = openat(root, entry, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool found = false;
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]) && !found; i++)
        found = fstatat(fd, marks[i], &st, AT_SYMLINK_NOFOLLOW) == 0;
    close(fd);
    return found;
}

static enum err list_root(const char *root,
                          enum err (*found)(void *arg, const char *name),
                          void *arg)
{
    DIR *dir = opendir(root);
    if (dir == NULL)
        return ERR_OK;
    enum err e = ERR_OK;
    int left = ENTRIES_MAX;
    for (struct dirent *d;
         e == ERR_OK && left-- > 0 && (d = readdir(dir)) != NULL;) {
        char path[PATH_MAX], there[PATH_MAX];
        if (!channel_name_ok(d->d_name) || !in_use(dirfd(dir), d->d_name))
            continue;
        int n = snprintf(path, sizeof(path), "%s/%s", root, d->d_name);
        if (n < 0 || (size_t)n >= sizeof(path))
            continue;
        bool by_name = channel_locate(d->d_name, there, NULL) == ERR_OK &&
                       strcmp(path, there) == 0;
        e = found(arg, by_name ? d->d_name : path);
    }
    closedir(dir);
    return e;
}

enum err channel_list(enum err (*found)(void *arg, const char *name), void *arg)
{
    const char *named = secure_getenv("MQREDIS_DIR");
    if (named != NULL && named[0] != '\0')
        return list_root(named, found, arg);
    char user[64];
    snprintf(user, sizeof(user), "/dev/shm/mqredis-%u", (unsigned)geteuid());
    enum err e = list_root("/run/mqredis", found, arg);
    return e == ERR_OK ? list_root(user, found, arg) : e;
}
