/* A dry run: the channel's place, the kernel's limits, the login. */
#include "manager/check.h"

#include <errno.h>
#include <limits.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "ipc/clock.h"
#include "manager/conn.h"
#include "manager/loop.h"
#include "manager/target.h"

static bool say(bool ok, const char *what, const char *text)
{
    printf("%-10s %-7s %s\n", what, ok ? "ok" : "FAILED", text);
    return ok;
}

static bool check_channel(const struct options *o)
{
    char dir[PATH_MAX], line[PATH_MAX + 128];
    struct err_text why;
    if (channel_locate(o->channel, dir, &why) != ERR_OK)
        return say(false, "channel", why.text);
    struct channel ch;
    pid_t holder = 0;
    bool served = channel_open(&ch, o->channel, &why) == ERR_OK &&
                  channel_locked(&ch, &holder);
    snprintf(line, sizeof(line), "%s%s", dir,
             served ? ", served now by a manager (--takeover replaces it)"
                    : "");
    channel_close(&ch);
    return say(true, "channel", line);
}

/* Makes a queue of the wished size under a name of its own, and removes it. */
static bool check_queue(const struct options *o)
{
    char name[64], line[256];
    struct mq_attr attr = {.mq_maxmsg = o->queue.capacity,
                           .mq_msgsize = o->queue.msgsize};
    snprintf(name, sizeof(name), "/mqredis.check.%ld", (long)getpid());
    mqd_t mq =
        mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attr);
    int saved = errno;
    if (mq != (mqd_t)-1) {
        mq_close(mq);
        mq_unlink(name);
        snprintf(line, sizeof(line), "%ld x %ld bytes", o->queue.capacity,
                 o->queue.msgsize);
        return say(true, "queue", line);
    }
    bool lower = saved == EINVAL && !o->queue.capacity_exact;
    snprintf(line, sizeof(line), "%ld x %ld bytes: %s%s", o->queue.capacity,
             o->queue.msgsize, strerror(saved),
             lower             ? "; a smaller one would be used "
                                 "(fs.mqueue.msg_max)"
             : saved == EMFILE ? " (RLIMIT_MSGQUEUE, see ulimit -q)"
             : saved == EINVAL ? " (fs.mqueue.msg_max, msgsize_max)"
                               : "");
    return say(lower || (o->raise_msg_max && saved == EINVAL), "queue", line);
}

static void changed(void *context, struct conn *c)
{
    bool *over = context;
    *over = c->state == CONN_READY || c->state == CONN_OFF;
}

static bool check_login(const struct conn_options *target)
{
    char server[160], line[ERR_TEXT_MAX + 200];
    uri_show(&target->uri, server, sizeof(server));
    /* A status of nobody's: counters go nowhere. */
    struct status *status = calloc(1, sizeof(*status));
    struct loop loop;
    struct answers answers;
    struct conn conn;
    bool over = false;
    if (status == NULL || loop_init(&loop) != ERR_OK) {
        free(status);
        return say(false, "redis", "out of memory or descriptors");
    }
    answers_init(&answers, NULL, status, 1);
    bool ok = false;
    if (conn_init(&conn, &loop, target, &answers, changed, &over) == ERR_OK) {
        conn_start(&conn, false);
        while (!over && conn.state != CONN_OFF && conn.state != CONN_READY) {
            answers.now_ns = clock_ns();
            uint64_t next = conn_tick(&conn, answers.now_ns);
            if (conn.state == CONN_OFF ||
                loop_wait(&loop, next, &answers.now_ns) != ERR_OK)
                break;
        }
        ok = conn.state == CONN_READY;
        snprintf(line, sizeof(line), "%s%s%s", server,
                 ok ? ", logged in" : ": ", ok ? "" : conn.error.text);
        conn_release(&conn);
    } else {
        snprintf(line, sizeof(line), "%s: out of memory", server);
    }
    loop_release(&loop);
    free(status);
    return say(ok, "redis", line);
}

int check_config(const struct options *o)
{
    struct conn_options target;
    struct err_text why;
    bool ok = check_channel(o);
    ok = check_queue(o) && ok;
    if (target_init(&target, o, &why) != ERR_OK) {
        say(false, "redis", why.text);
        return EX_CONFIG;
    }
    ok = check_login(&target) && ok;
    target_release(&target);
    return ok ? 0 : EX_CONFIG;
}
