/* A manager in a thread, which answers as it is told. */
#include "tests/liar.h"

#include <check.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "ipc/broadcast.h"
#include "ipc/clock.h"
#include "ipc/oneshot.h"
#include "tests/support.h"

#define MESSAGE_SIZE 1024
#define TURN_NS (20 * NS_PER_MS)

static size_t put_chunk(char *at, uint64_t request, const struct lie_chunk *c)
{
    struct reply_chunk chunk = {
        .request = c->others ? request + 1 : request,
        .length = (uint32_t)strlen(c->body),
        .first = c->first,
        .count = c->count,
        .flags = c->flags,
        .status = c->status,
    };
    memcpy(at, &chunk, sizeof(chunk));
    memcpy(at + sizeof(chunk), c->body, chunk.length);
    return sizeof(chunk) + chunk.length;
}

/* What an honest manager says. */
static size_t put_truth(char *at, const struct message_header *h)
{
    char body[5 * 64 + 1] = "";
    struct lie_chunk c = {.count = h->ncommands, .flags = REPLY_END};
    for (uint32_t i = 0; i < h->ncommands && i < 64; i++)
        memcpy(body + 5 * i, "+OK\r\n", 6);
    if (h->flags & MESSAGE_STREAM)
        c = (struct lie_chunk){.first = 1, .count = BROADCAST_CONFIRMED};
    c.body = body;
    return put_chunk(at, h->request, &c);
}

static void tell(struct liar *l, const struct message_header *h,
                 const struct lie *lie)
{
    char text[24 * 1024];
    size_t len = 0;
    int fd;
    if (lie == NULL)
        len = put_truth(text, h);
    for (int i = 0; lie != NULL && lie->chunks[i].body != NULL; i++)
        len += put_chunk(text + len, h->request, &lie->chunks[i]);
    if (oneshot_open(l->ch.reply_fd, h->client, h->slot, &fd) != ERR_OK)
        return;
    /* An empty pipe takes that at once. */
    ssize_t n = write(fd, text, len);
    if (lie != NULL && lie->give_up)
        oneshot_unlink(l->ch.reply_fd, h->client, h->slot);
    close(fd);
    if (n != (ssize_t)len)
        fprintf(stderr, "the liar could not say all of it\n");
}

static void answer(struct liar *l, const struct message_header *h)
{
    const struct lie *lie = l->lie;
    l->heard[l->asked % LIAR_HEARD] = *h;
    l->asked++; /* before anybody can be told of it */
    if (lie == NULL || !lie->silent) {
        l->lie = NULL;
        tell(l, h, lie);
    }
}

static void *serve(void *arg)
{
    struct liar *l = arg;
    while (!l->stop) {
        char message[MESSAGE_SIZE];
        size_t len;
        unsigned priority;
        struct message_header h;
        const char *payload;
        struct err_text why;
        enum err e = ERR_CLOSED;
        if (!l->deaf)
            e = mpsc_receive_wait(&l->rx, message, sizeof(message),
                                  clock_ns() + TURN_NS, &len, &priority);
        l->turns++;
        if (e == ERR_CLOSED)
            support_sleep_ms(1);
        if (e == ERR_OK &&
            message_parse(message, len, priority, &h, &payload, &why) == ERR_OK)
            answer(l, &h);
    }
    return NULL;
}

void liar_return(struct liar *l)
{
    struct err_text why = {""}, note = {""};
    const struct mpsc_config config = {.capacity = 8, .msgsize = MESSAGE_SIZE};
    l->stop = false;
    l->state.pid = getpid();
    l->state.epoch++;
    enum err e =
        mpsc_create(&l->rx, &l->ch, &config, l->state.epoch, &note, &why);
    if (e == ERR_OK)
        e = status_create(&l->ch, &l->status, &why);
    if (e == ERR_OK)
        e = status_show(&l->ch, &why);
    ck_assert_msg(e == ERR_OK, "%s", why.text);
    ck_assert_int_eq(pthread_create(&l->thread, NULL, serve, l), 0);
}

void liar_start(struct liar *l)
{
    struct err_text why = {""};
    memset(l, 0, sizeof(*l));
    signal(SIGPIPE, SIG_IGN);
    snprintf(l->state.server, sizeof(l->state.server), "nowhere");
    enum err e = channel_create(&l->ch, support_name(), CHANNEL_NO_GROUP, &why);
    ck_assert_msg(e == ERR_OK, "%s", why.text);
    liar_return(l);
}

void liar_leave(struct liar *l)
{
    l->stop = true;
    pthread_join(l->thread, NULL);
    mpsc_receiver_close(&l->rx);
    status_unmap(l->status);
}

void liar_stop(struct liar *l)
{
    mpsc_unlink(&l->rx);
    if (!l->stop)
        liar_leave(l);
    channel_remove(&l->ch);
    channel_close(&l->ch);
}

void liar_says(struct liar *l, const struct lie *lie)
{
    l->lie = lie;
}

void liar_deafen(struct liar *l)
{
    l->deaf = true;
    uint32_t turns = l->turns;
    /* It may be waiting still; the turn after that is deaf. */
    ck_assert(UNTIL(l->turns - turns >= 2));
}

static const struct lie silence = {.silent = true};

void liar_hush(struct liar *l)
{
    l->lie = &silence;
}

void liar_hears(struct liar *l, uint32_t asked)
{
    ck_assert_msg(UNTIL(l->asked >= asked), "%u messages came, not %u",
                  (unsigned)l->asked, asked);
}

void liar_tells(struct liar *l, uint32_t asked, const struct lie *lie)
{
    tell(l, &l->heard[asked % LIAR_HEARD], lie);
}
