/* Lines from the control FIFO. */
#include "manager/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manager/log.h"

static const struct {
    const char *name;
    enum control_verb verb;
    bool takes_pid;
} verbs[] = {
    {"pause", CONTROL_PAUSE, false},
    {"resume", CONTROL_RESUME, false},
    {"drain", CONTROL_DRAIN, false},
    {"reload", CONTROL_RELOAD, false},
    {"kill-client", CONTROL_KILL_CLIENT, true},
    {"takeover", CONTROL_TAKEOVER, true},
};

static void obey(struct control *c, char *line)
{
    char *rest = line;
    const char *word = strsep(&rest, " ");
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(word, verbs[i].name) != 0)
            continue;
        char *end = rest;
        long pid = rest ? strtol(rest, &end, 10) : 0;
        bool has_pid = rest != NULL && end != rest && *end == '\0' && pid > 0;
        if (has_pid != verbs[i].takes_pid)
            break;
        c->said(c->context, verbs[i].verb, (pid_t)pid);
        return;
    }
    log_warn("control: not understood: '%.40s'", line);
}

static void control_ready(void *owner, uint32_t events)
{
    struct control *c = owner;
    (void)events;
    for (;;) {
        ssize_t n =
            read(c->fd, c->line + c->have, sizeof(c->line) - c->have - 1);
        if (n <= 0)
            return;
        c->have += (size_t)n;
        char *end;
        while ((end = memchr(c->line, '\n', c->have)) != NULL) {
            *end = '\0';
            size_t used = (size_t)(end - c->line) + 1;
            obey(c, c->line);
            c->have -= used;
            memmove(c->line, end + 1, c->have);
        }
        if (c->have == sizeof(c->line) - 1)
            c->have = 0; /* no verb is that long */
    }
}

enum err
control_open(struct control *c, const struct channel *ch, struct loop *loop,
             void (*said)(void *context, enum control_verb verb, pid_t pid),
             void *context, struct err_text *why)
{
    c->said = said;
    c->context = context;
    c->have = 0;
    /* O_RDWR: no HUP when a speaker leaves. */
    enum err e = channel_make_fifo(ch, "control", 0600, &c->fd, why);
    if (e != ERR_OK)
        return e;
    e = loop_add(loop, &c->watcher, c->fd, EPOLLIN, control_ready, c);
    if (e != ERR_OK) {
        close(c->fd);
        c->fd = -1;
        return err_say(why, e, "cannot watch the control FIFO: %s",
                       strerror(errno));
    }
    return ERR_OK;
}

void control_close(struct control *c, struct loop *loop)
{
    if (c->fd < 0)
        return;
    loop_remove(loop, &c->watcher);
    close(c->fd);
    c->fd = -1;
}

enum err control_send(const struct channel *ch, const char *line)
{
    int fd;
    enum err e = channel_open_fifo(ch, "control", O_WRONLY, &fd);
    if (e != ERR_OK)
        return e;
    size_t len = strlen(line);
    e = write(fd, line, len) == (ssize_t)len ? ERR_OK : ERR_SYS;
    close(fd);
    return e;
}
