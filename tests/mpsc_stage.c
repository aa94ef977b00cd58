/* A channel on which tests of the queue play. */
#include "tests/mpsc_stage.h"

#include <check.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "ipc/clock.h"
#include "tests/support.h"

struct stage *stage_new(void)
{
    struct stage *s = support_shared(sizeof(*s));
    struct err_text why = {""};
    enum err e = channel_create(&s->ch, support_name(), CHANNEL_NO_GROUP, &why);
    ck_assert_msg(e == ERR_OK, "%s", why.text);
    s->rx.mq = (mqd_t)-1;
    s->rx.senders_fd = s->rx.receiver_fd = -1;
    return s;
}

enum err stage_start(struct stage *s, uint64_t epoch)
{
    struct mpsc_config config = {.capacity = MPSC_CAPACITY, .msgsize = MSGSIZE};
    struct err_text note, why = {""};
    enum err e = mpsc_create(&s->rx, &s->ch, &config, epoch, &note, &why);
    if (e != ERR_OK)
        fprintf(stderr, "mpsc_create: %s\n", why.text);
    return e;
}

struct stage *stage_started(void)
{
    struct stage *s = stage_new();
    ck_assert_int_eq(stage_start(s, 1), ERR_OK);
    return s;
}

void stage_end(struct stage *s)
{
    if (s->rx.mq != (mqd_t)-1)
        mpsc_unlink(&s->rx);
    mpsc_receiver_close(&s->rx);
    channel_remove(&s->ch);
    channel_close(&s->ch);
}

void stage_join(struct mpsc_sender *tx, const struct stage *s)
{
    struct err_text why = {""};
    enum err e = mpsc_open(tx, &s->ch, &why);
    ck_assert_msg(e == ERR_OK, "%s", why.text);
}

enum err stage_send(const struct mpsc_sender *tx, uint32_t sender,
                    uint32_t sequence)
{
    struct note n = {sender, sequence};
    return mpsc_send(tx, (const char *)&n, sizeof(n), 0);
}

enum err stage_receive(const struct mpsc_receiver *rx, struct note *n)
{
    char buf[MSGSIZE];
    size_t len;
    unsigned priority;
    uint64_t deadline = clock_deadline(support_wait_ms());
    enum err e =
        mpsc_receive_wait(rx, buf, sizeof(buf), deadline, &len, &priority);
    if (e == ERR_OK) {
        if (len != sizeof(*n) || priority != 0)
            return ERR_PROTO;
        memcpy(n, buf, sizeof(*n));
    }
    return e;
}

void part_send_all(void *arg)
{
    const struct part *p = arg;
    struct mpsc_sender tx;
    struct err_text why;
    CHILD_REQUIRE(mpsc_open(&tx, &p->stage->ch, &why) == ERR_OK);
    for (uint32_t i = 0; i < p->count; i++)
        CHILD_REQUIRE(stage_send(&tx, p->sender, i) == ERR_OK);
    mpsc_sender_close(&tx);
}

void part_send_and_stay(void *arg)
{
    const struct part *p = arg;
    struct mpsc_sender tx;
    struct err_text why;
    CHILD_REQUIRE(mpsc_open(&tx, &p->stage->ch, &why) == ERR_OK);
    for (uint32_t i = 0; i < p->count; i++)
        CHILD_REQUIRE(stage_send(&tx, p->sender, i) == ERR_OK);
    p->stage->ready++;
    while (!p->stage->go)
        support_sleep_ms(2);
}

void part_send_one(void *arg)
{
    const struct part *p = arg;
    struct mpsc_sender tx;
    struct err_text why;
    CHILD_REQUIRE(mpsc_open(&tx, &p->stage->ch, &why) == ERR_OK);
    p->stage->ready++;
    CHILD_REQUIRE(stage_send(&tx, p->sender, 0) == p->expect);
    p->stage->took_ms = (int64_t)(clock_ns() / NS_PER_MS);
}

void stage_fill(const struct stage *s, const struct mpsc_sender *tx)
{
    for (long i = 0; i < s->rx.capacity; i++)
        ck_assert_int_eq(stage_send(tx, 0, (uint32_t)i), ERR_OK);
    ck_assert_int_eq(mpsc_depth(&s->rx), s->rx.capacity);
}

static void on_alarm(int signal_number)
{
    (void)signal_number;
}

void part_send_one_under_signals(void *arg)
{
    struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
    struct itimerval every = {.it_interval = {.tv_usec = 20000},
                              .it_value = {.tv_usec = 20000}};
    CHILD_REQUIRE(sigaction(SIGALRM, &action, NULL) == 0);
    CHILD_REQUIRE(setitimer(ITIMER_REAL, &every, NULL) == 0);
    part_send_one(arg);
}
