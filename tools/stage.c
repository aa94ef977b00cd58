#include "tools/stage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"

/* ---- the runtime folder ---- */

enum err stage_folder_make(char dir[PATH_MAX], const char *tool,
                           struct err_text *why)
{
    const char *tmp = getenv("TMPDIR");
    const char *places[] = {"/dev/shm", tmp != NULL ? tmp : "/tmp", "/tmp"};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        int n = snprintf(dir, PATH_MAX, "%s/%s.XXXXXX", places[i], tool);
        if (n > 0 && n < PATH_MAX && mkdtemp(dir) != NULL &&
            setenv("MQREDIS_DIR", dir, 1) == 0)
            return ERR_OK;
    }
    return err_say(why, ERR_SYS, "cannot make a folder in /dev/shm or /tmp: %s",
                   strerror(errno));
}

/* Depth is bounded: a channel's folder is two levels deep. */
static void clear_folder(int parent, const char *name, unsigned depth,
                         struct stage_left *left)
{
    int fd =
        openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            left->folders++;
            if (depth > 0)
                clear_folder(fd, e->d_name, depth - 1, left);
        } else {
            left->fifos += S_ISFIFO(st.st_mode);
            left->files += !S_ISFIFO(st.st_mode);
            unlinkat(fd, e->d_name, 0);
        }
    }
    closedir(d);
    unlinkat(parent, name, AT_REMOVEDIR);
}

struct stage_left stage_folder_remove(const char *dir)
{
    struct stage_left left = {0};
    clear_folder(AT_FDCWD, dir, 4, &left);
    return left;
}

/* ---- programs ---- */

/* The first line of a program that says so when it is ready. */
static enum err read_ready(struct process *p, char *line, size_t size,
                           struct err_text *why)
{
    enum err e = process_line(p, line, size, clock_deadline(STAGE_START_MS));
    if (e == ERR_OK)
        return e;
    if (e == ERR_AGAIN)
        return err_say(why, e, "interrupted");
    if (e == ERR_TIMEOUT)
        return err_say(why, e,
                       "%s was not ready within %d s: see what it said above",
                       p->name, STAGE_START_MS / 1000);
    /* It said on its standard error what was wrong. */
    if (process_wait(p, clock_deadline(STAGE_START_MS)) != ERR_OK)
        return err_say(why, e, "%s closed its output before it was ready",
                       p->name);
    return err_say(why, e, "%s did not start: %s", p->name, process_end_str(p));
}

enum err stage_server(struct process *p, char *uri, size_t size, char *ready,
                      size_t ready_size, struct err_text *why)
{
    char path[PATH_MAX];
    enum err e = process_sibling(path, sizeof(path), "mqredis-server", why);
    if (e != ERR_OK)
        return e;
    const char *argv[] = {path, "--port", "0", NULL};
    e = process_start(p,
                      &(struct process_spec){.name = "mqredis-server",
                                             .argv = argv,
                                             .capture = true,
                                             .inherit = -1},
                      why);
    if (e == ERR_OK)
        e = read_ready(p, ready, ready_size, why);
    if (e != ERR_OK)
        return e;
    const char *colon = strrchr(ready, ':');
    int n =
        colon != NULL ? snprintf(uri, size, "redis://127.0.0.1%s", colon) : -1;
    if (n < 0 || (size_t)n >= size)
        return err_say(why, ERR_PROTO, "mqredis-server said '%s', no port",
                       ready);
    return ERR_OK;
}

enum err stage_manager(struct process *p, const char *channel, const char *uri,
                       const char *const *extra, char *ready, size_t ready_size,
                       struct err_text *why)
{
    char path[PATH_MAX];
    const char *argv[24] = {path, "--channel",   channel, "--redis",
                            uri,  "--log-level", "warn"};
    size_t n = 7;
    enum err e = process_sibling(path, sizeof(path), "mqredis-manager", why);
    for (; e == ERR_OK && extra != NULL && *extra != NULL && n < 23; extra++)
        argv[n++] = *extra;
    if (e == ERR_OK)
        e = process_start(p,
                          &(struct process_spec){.name = "mqredis-manager",
                                                 .argv = argv,
                                                 .capture = true,
                                                 .inherit = -1},
                          why);
    return e == ERR_OK ? read_ready(p, ready, ready_size, why) : e;
}

/* ---- a channel as its launcher sees it ---- */

enum err stage_join(struct stage_channel *c, const char *name,
                    struct err_text *why)
{
    struct channel_queue queue;
    *c = (struct stage_channel){0};
    enum err e = channel_open(&c->ch, name, why);
    if (e != ERR_OK)
        return e;
    e = mpsc_open(&c->tx, &c->ch, why);
    if (e != ERR_OK) {
        channel_close(&c->ch);
        return e;
    }
    c->holds = true;
    if (status_open(&c->ch, &c->status, NULL) != ERR_OK)
        c->status = NULL;
    if (channel_read_queue(&c->ch, &queue) == ERR_OK)
        snprintf(c->queue, sizeof(c->queue), "%s", queue.name);
    return ERR_OK;
}

void stage_let_go(struct stage_channel *c)
{
    if (!c->holds)
        return;
    mpsc_sender_close(&c->tx);
    channel_close(&c->ch);
    c->holds = false;
}

bool stage_queue_left(const struct stage_channel *c)
{
    mqd_t mq = c->queue[0] != '\0' ? mq_open(c->queue, O_RDONLY) : (mqd_t)-1;
    if (mq == (mqd_t)-1)
        return c->queue[0] != '\0' && errno != ENOENT;
    mq_close(mq);
    return true;
}

void stage_release(struct stage_channel *c)
{
    stage_let_go(c);
    if (c->status != NULL)
        status_unmap(c->status);
    c->status = NULL;
}
