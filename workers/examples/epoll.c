/*
 * A program with an event loop of its own: the handle is one descriptor more in
 * it. Here the other one is a timer, at each tick of which a few commands are
 * submitted; nothing ever blocks.
 *
 *     ./epoll [TICKS]
 */
#include <mqredis.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define PER_TICK 10

static bool watch(int epoll, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
    return fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) == 0;
}

/* Takes all replies that are there. Returns how many; -1: one was an error. */
static int take_replies(struct mqredis *mq)
{
    int count = 0;
    struct mqredis_request *request;
    while ((request = mqredis_wait_any(mq, 0)) != NULL) {
        struct mqredis_reply *reply = mqredis_wait(request);
        bool ok = reply->type == MQREDIS_INTEGER;
        if (!ok)
            fprintf(stderr, "%s\n", reply->str ? reply->str : "?");
        mqredis_free(reply);
        if (!ok)
            return -1;
        count++;
    }
    return count;
}

static int run(struct mqredis *mq, int epoll, int timer, int ticks)
{
    int submitted = 0, answered = 0;
    while (ticks > 0 || answered < submitted) {
        struct epoll_event ev[2];
        int n = epoll_wait(epoll, ev, 2, 10000);
        if (n <= 0) {
            fprintf(stderr, "nothing happened for ten seconds\n");
            return 1;
        }
        uint64_t fired;
        if (ticks > 0 && read(timer, &fired, sizeof(fired)) > 0) {
            ticks--;
            for (int i = 0; i < PER_TICK; i++) {
                /* What is wrong with a request shows in its reply. */
                mqredis_submit(mq, "INCR epoll:ticks");
                submitted++;
            }
        }
        int took = take_replies(mq);
        if (took < 0)
            return 1;
        answered += took;
    }
    printf("%d of %d commands answered\n", answered, submitted);
    return 0;
}

int main(int argc, char **argv)
{
    int ticks = argc > 1 ? atoi(argv[1]) : 20;
    struct mqredis_error error;
    struct mqredis *mq = mqredis_open(NULL, &error);
    if (mq == NULL) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec each = {.it_value = {.tv_nsec = 5000000},
                              .it_interval = {.tv_nsec = 5000000}};
    int status = 1;
    if (watch(epoll, timer) && watch(epoll, mqredis_fd(mq)) &&
        timerfd_settime(timer, 0, &each, NULL) == 0)
        status = run(mq, epoll, timer, ticks);
    else
        perror("epoll");
    close(timer);
    close(epoll);
    mqredis_close(mq);
    return status;
}
