/*
 * What the physics allows: a bare message queue and bare pipes, with an echo in
 * place of manager and Redis. Messages and replies are as long as ours; nothing
 * is checked, nothing watched, nobody can die. The echo sleeps in mq_receive
 * and answers each message before it takes the next.
 */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/message.h"
#include "ipc/mpsc.h"
#include "tools/bench/bench.h"

/* "*2 $3 GET $8 bench:nn" with its line ends; "$N" and the value's. */
#define COMMAND_BYTES 31
#define SET_EXTRA_BYTES 8
#define REPLY_EXTRA_BYTES 8

struct limit {
    mqd_t mq;
    size_t message, reply; /* bytes */
    unsigned workers;
    int (*pipes)[2];
};

struct client {
    struct limit *limit;
    unsigned number;
    char *message, *reply;
};

struct limit *limit_current;

enum err limit_open(struct limit **limit, const struct load *load,
                    struct err_text *why)
{
    char name[64];
    struct limit *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return err_say(why, ERR_NOMEM, "out of memory");
    l->mq = (mqd_t)-1;
    l->workers = load->workers;
    l->message =
        sizeof(struct message_header) + (size_t)load->batch * COMMAND_BYTES;
    l->reply = sizeof(struct reply_chunk) +
               (size_t)load->batch * (load->value + REPLY_EXTRA_BYTES);
    l->pipes = calloc(load->workers, sizeof(*l->pipes));
    /* A pipe takes no more in one go, and mq_send none of so many bytes. */
    if (l->pipes == NULL || l->reply > 65536 || l->message > 8192) {
        limit_close(l);
        return err_say(why, ERR_LIMIT,
                       "the limit is measured up to 64 KiB a batch");
    }
    for (unsigned i = 0; i < l->workers; i++)
        l->pipes[i][0] = l->pipes[i][1] = -1;
    for (unsigned i = 0; i < l->workers; i++)
        if (pipe2(l->pipes[i], O_CLOEXEC) < 0) {
            limit_close(l);
            return err_say(why, ERR_SYS, "cannot make %u pipes: %s",
                           load->workers, strerror(errno));
        }
    snprintf(name, sizeof(name), "/mqredis-bench.%d", (int)getpid());
    struct mq_attr attr = {.mq_maxmsg = MPSC_CAPACITY,
                           .mq_msgsize = (long)l->message};
    l->mq = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
    if (l->mq == (mqd_t)-1 && errno == EINVAL) {
        attr.mq_maxmsg = 10; /* what a stock kernel allows */
        l->mq = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
    }
    if (l->mq == (mqd_t)-1) {
        enum err e =
            err_say(why, ERR_SYS, "cannot make a queue: %s", strerror(errno));
        limit_close(l);
        return e;
    }
    mq_unlink(name);
    *limit = l;
    return ERR_OK;
}

void limit_close(struct limit *l)
{
    if (l == NULL)
        return;
    for (unsigned i = 0; l->pipes != NULL && i < l->workers; i++)
        for (int end = 0; end < 2; end++)
            if (l->pipes[i][end] >= 0)
                close(l->pipes[i][end]);
    if (l->mq != (mqd_t)-1)
        mq_close(l->mq);
    free(l->pipes);
    free(l);
}

int limit_echo(void *arg)
{
    struct limit *l = arg;
    char *message = malloc(l->message), *reply = calloc(1, l->reply);
    bool ok = message != NULL && reply != NULL;
    while (ok) {
        unsigned number = 0;
        ssize_t n = mq_receive(l->mq, message, l->message, NULL);
        ok = n >= (ssize_t)sizeof(number);
        if (ok)
            memcpy(&number, message, sizeof(number));
        ok = ok && number < l->workers &&
             write(l->pipes[number][1], reply, l->reply) == (ssize_t)l->reply;
    }
    free(message);
    free(reply);
    return 1;
}

/* ---- the workers' side ---- */

static struct client *limit_join(const struct parties *p,
                                 const struct load *load, unsigned number)
{
    struct client *c = calloc(1, sizeof(*c));
    (void)p;
    (void)load;
    if (c == NULL)
        return NULL;
    c->limit = limit_current;
    c->number = number;
    c->message = calloc(1, c->limit->message);
    c->reply = malloc(c->limit->reply);
    if (c->message == NULL || c->reply == NULL) {
        free(c->message);
        free(c->reply);
        free(c);
        return NULL;
    }
    memcpy(c->message, &number, sizeof(number));
    return c;
}

static bool limit_round(struct client *c, bool set)
{
    struct limit *l = c->limit;
    size_t have = 0;
    (void)set;
    if (mq_send(l->mq, c->message, l->message, 0) < 0)
        return false;
    while (have < l->reply) {
        ssize_t n = read(l->pipes[c->number][0], c->reply, l->reply - have);
        if (n <= 0)
            return false;
        have += (size_t)n;
    }
    return true;
}

static void limit_leave(struct client *c)
{
    free(c->message);
    free(c->reply);
    free(c);
}

const struct client_ops limit_client = {
    .open = limit_join, .round = limit_round, .close = limit_leave};
