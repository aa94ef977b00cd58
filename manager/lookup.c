/* Looking up a host in a child process. */
#include "manager/lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <unistd.h>

/* What the child writes, in one piece that a pipe takes whole or not at all. */
struct answer {
    int32_t error; /* of getaddrinfo */
    struct addresses addresses;
};

_Static_assert(sizeof(struct answer) <= PIPE_BUF, "written in one piece");

static int ask(const char *host, uint16_t port, int flags, struct addresses *a)
{
    char service[8];
    snprintf(service, sizeof(service), "%u", (unsigned)port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | flags};
    struct addrinfo *list;
    int error = getaddrinfo(host, service, &hints, &list);
    a->count = 0;
    if (error != 0)
        return error;
    for (const struct addrinfo *i = list;
         i != NULL && a->count < LOOKUP_ADDRESSES_MAX; i = i->ai_next) {
        struct address *one = &a->list[a->count];
        if (i->ai_addrlen > sizeof(one->at))
            continue;
        one->len = i->ai_addrlen;
        memcpy(&one->at, i->ai_addr, i->ai_addrlen);
        a->count++;
    }
    freeaddrinfo(list);
    return a->count > 0 ? 0 : EAI_NONAME;
}

bool lookup_numeric(const char *host, uint16_t port, struct addresses *a)
{
    return ask(host, port, AI_NUMERICHOST, a) == 0;
}

/* ---- the child ---- */

static void leave(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

/* The manager's descriptors mean that it lives: `receiver`, the lock. A child
 * that outlived it with one of them would keep everybody waiting. */
static bool let_go_but(int fd)
{
    if (fd > 0 && close_range(0, (unsigned)fd - 1, 0) < 0)
        return false;
    return close_range((unsigned)fd + 1, ~0U, 0) == 0;
}

static void be_the_child(int fd, pid_t manager, const char *host, uint16_t port,
                         uint32_t timeout_ms)
{
    static struct answer answer;
    struct itimerval time = {
        .it_value = {timeout_ms / 1000, (timeout_ms % 1000) * 1000 + 1}};
    sigset_t alarms;
    /* The manager's handlers are a descriptor's, which is gone. */
    signal(SIGALRM, leave);
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    sigprocmask(SIG_UNBLOCK, &alarms, NULL);
    prctl(PR_SET_PDEATHSIG, SIGALRM);
    setitimer(ITIMER_REAL, &time, NULL);
    if (getppid() != manager || !let_go_but(fd))
        _exit(0);
    answer.error = ask(host, port, AI_ADDRCONFIG, &answer.addresses);
    /* Nobody there any more, or no room in an empty pipe: nothing to be done.
     */
    (void)!write(fd, &answer, sizeof(answer));
    _exit(0);
}

/* ---- the manager ---- */

enum err lookup_begin(struct lookup *l, struct loop *loop, const char *host,
                      uint16_t port, uint32_t timeout_ms,
                      void (*ready)(void *owner, uint32_t events), void *owner,
                      struct err_text *why)
{
    int ends[2];
    pid_t manager = getpid();
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_say(why, ERR_SYS, "cannot look up the host: %s",
                       strerror(errno));
    pid_t pid = fork();
    if (pid == 0)
        be_the_child(ends[1], manager, host, port, timeout_ms);
    enum err e = pid < 0 ? ERR_SYS : ERR_OK;
    if (e == ERR_OK)
        e = loop_add(loop, &l->watcher, ends[0], EPOLLIN, ready, owner);
    if (e != ERR_OK) {
        err_say(why, e, "cannot look up the host: %s", strerror(errno));
        close(ends[0]);
    }
    close(ends[1]);
    return e;
}

enum err lookup_read(struct lookup *l, struct loop *loop, struct addresses *a,
                     struct err_text *why)
{
    static struct answer answer;
    ssize_t n;
    do
        n = read(l->watcher.fd, &answer, sizeof(answer));
    while (n < 0 && errno == EINTR);
    lookup_end(l, loop);
    if (n != (ssize_t)sizeof(answer))
        return err_say(why, ERR_SYS, "the look-up of the host was cut off");
    if (answer.error != 0)
        return err_say(why, ERR_INVALID, "cannot find the host: %s",
                       gai_strerror(answer.error));
    *a = answer.addresses;
    return ERR_OK;
}

void lookup_end(struct lookup *l, struct loop *loop)
{
    int fd = l->watcher.fd;
    if (fd < 0)
        return;
    loop_remove(loop, &l->watcher);
    close(fd);
}
