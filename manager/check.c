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
#include "manager/seeds.h"
#include "manager/sentinel.h"
#include "manager/target.h"

enum verdict { VERDICT_OK, VERDICT_WARNING, VERDICT_FAILED };

static const char *const verdicts[] = {[VERDICT_OK] = "ok",
                                       [VERDICT_WARNING] = "warning",
                                       [VERDICT_FAILED] = "FAILED"};

static void say_so(const char *verdict, const char *what, const char *text)
{
    printf("%-10s %-7s %s\n", what, verdict, text);
}

static bool say(bool ok, const char *what, const char *text)
{
    say_so(verdicts[ok ? VERDICT_OK : VERDICT_FAILED], what, text);
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
             o->queue.msgsize,
             lower ? "more than the kernel allows" : strerror(saved),
             lower             ? "; a smaller one would be used "
                                 "(fs.mqueue.msg_max)"
             : saved == EMFILE ? " (RLIMIT_MSGQUEUE, see ulimit -q)"
             : saved == EINVAL ? " (fs.mqueue.msg_max, msgsize_max)"
                               : "");
    return say(lower || (o->raise_msg_max && saved == EINVAL), "queue", line);
}

/* What a connection needs, and nobody looks at. */
struct stage {
    struct status *status; /* counters go nowhere */
    struct loop loop;
    struct answers answers;
};

static bool stage_open(struct stage *s)
{
    s->status = calloc(1, sizeof(*s->status));
    if (s->status == NULL || loop_init(&s->loop) != ERR_OK) {
        free(s->status);
        return say(false, "redis", "out of memory or descriptors");
    }
    answers_init(&s->answers, NULL, s->status, 1);
    return true;
}

static void stage_close(struct stage *s)
{
    loop_release(&s->loop);
    free(s->status);
}

static bool stage_wait(struct stage *s, uint64_t next)
{
    return loop_wait(&s->loop, next, &s->answers.now_ns) == ERR_OK;
}

/* ---- whom the sentinels name ---- */

struct naming {
    struct uri *uri; /* where the master's place goes */
    struct uri_place by;
    bool named;
};

static void named(void *context, const struct uri_place *to,
                  const struct uri_place *by)
{
    struct naming *n = context;
    memcpy(n->uri->host, to->host, sizeof(to->host));
    n->uri->port = to->port;
    n->by = *by;
    n->named = true;
}

/* Asks each once, until one tells. */
static bool check_sentinels(struct stage *s, const struct options *o,
                            struct conn_options *target)
{
    struct conn_options sentinels;
    struct err_text why;
    struct sentinel *sentinel;
    struct naming n = {.uri = &target->uri};
    char by[URI_PLACE_TEXT], line[ERR_TEXT_MAX + URI_PLACE_TEXT + 200];
    if (target_sentinels(&sentinels, o, &why) != ERR_OK)
        return say(false, "sentinel", why.text);
    if (sentinel_new(&sentinel, &s->loop, &s->answers, &o->uri, &sentinels,
                     named, &n) != ERR_OK)
        return say(false, "sentinel", "out of memory");
    s->answers.now_ns = clock_ns();
    while (!n.named && sentinel_error(sentinel)[0] == '\0') {
        uint64_t next = sentinel_tick(sentinel, s->answers.now_ns);
        if (n.named || sentinel_error(sentinel)[0] != '\0' ||
            !stage_wait(s, next))
            break;
    }
    uri_place_show(&n.by, by);
    if (n.named)
        snprintf(line, sizeof(line), "%s knows '%s'", by, o->uri.master);
    else
        snprintf(line, sizeof(line), "'%s': %s", o->uri.master,
                 sentinel_error(sentinel));
    sentinel_free(sentinel);
    return say(n.named, "sentinel", line);
}

/* ---- the login ---- */

static void changed(void *context, struct conn *c)
{
    bool *over = context;
    *over = c->state == CONN_READY || c->state == CONN_OFF;
}

#define LOGIN_TEXT (ERR_TEXT_MAX + 200)

static enum verdict login(struct stage *s, const struct options *o,
                          const struct conn_options *target,
                          char line[LOGIN_TEXT])
{
    enum verdict verdict = VERDICT_FAILED;
    char server[160];
    uri_show(&target->uri, server, sizeof(server));
    struct conn conn;
    bool over = false;
    if (conn_init(&conn, &s->loop, target, &s->answers, changed, &over) ==
        ERR_OK) {
        conn_start(&conn, false);
        while (!over && conn.state != CONN_OFF && conn.state != CONN_READY) {
            s->answers.now_ns = clock_ns();
            uint64_t next = conn_tick(&conn, s->answers.now_ns);
            if (conn.state == CONN_OFF || !stage_wait(s, next))
                break;
        }
        bool in = conn.state == CONN_READY, serves = in;
        const char *mismatch =
            in ? target_mismatch(o, conn.mode, &serves) : NULL;
        verdict = !serves            ? VERDICT_FAILED
                  : mismatch != NULL ? VERDICT_WARNING
                                     : VERDICT_OK;
        snprintf(line, LOGIN_TEXT, "%s%s%s", server,
                 verdict == VERDICT_OK ? ", logged in" : ": ",
                 verdict == VERDICT_OK ? ""
                 : in                  ? mismatch
                                       : conn.error.text);
        conn_release(&conn);
    } else {
        snprintf(line, LOGIN_TEXT, "%s: out of memory", server);
    }
    return verdict;
}

static bool check_login(struct stage *s, const struct options *o,
                        const struct conn_options *target)
{
    char line[LOGIN_TEXT];
    enum verdict verdict = login(s, o, target, line);
    say_so(verdicts[verdict], "redis", line);
    return verdict != VERDICT_FAILED;
}

/* The nodes of a cluster that the command line names: any one of them is enough
 * to find the others, but each is there for the day when the others are not. */
static bool check_seeds(struct stage *s, const struct options *o,
                        struct conn_options *target)
{
    const struct seeds *seeds = &o->seeds;
    char lines[SEEDS_MAX][LOGIN_TEXT];
    enum verdict verdict[SEEDS_MAX];
    bool any = false;
    for (uint32_t i = 0; i < seeds->count; i++) {
        const struct seed *seed = &seeds->list[i];
        memcpy(target->uri.host, seed->host, sizeof(seed->host));
        target->uri.port = seed->port;
        verdict[i] = login(s, o, target, lines[i]);
        any = any || verdict[i] != VERDICT_FAILED;
    }
    for (uint32_t i = 0; i < seeds->count; i++) {
        if (any && verdict[i] == VERDICT_FAILED)
            verdict[i] = VERDICT_WARNING;
        say_so(verdicts[verdict[i]], "redis", lines[i]);
    }
    return any;
}

int check_config(const struct options *o)
{
    struct conn_options target;
    struct err_text why;
    struct stage stage;
    /* Everything is said in lines of its own. */
    log_set_level(LOG_LEVEL_ERROR);
    bool ok = check_channel(o);
    ok = check_queue(o) && ok;
    if (target_init(&target, o, &why) != ERR_OK) {
        say(false, "redis", why.text);
        return EX_CONFIG;
    }
    bool staged = stage_open(&stage);
    ok = staged && ok;
    if (staged) {
        ok = (o->uri.sentinel_count == 0 ||
              check_sentinels(&stage, o, &target)) &&
             (o->seeds.count > 1 ? check_seeds(&stage, o, &target)
                                 : check_login(&stage, o, &target)) &&
             ok;
        stage_close(&stage);
    }
    target_release(&target);
    return ok ? 0 : EX_CONFIG;
}
