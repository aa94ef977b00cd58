/* One poll loop; what was read waits in the buffer of its direction until its
 * time has come and the other side takes it. */
#include "tests/proxy.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"

#define PAIRS 64
#define BUFFER 16384

/* Bytes on their way in one direction. */
struct way {
    int from, to;
    size_t len, sent;
    uint64_t due_ns;
    char data[BUFFER];
};

struct pair {
    bool used;
    struct way request, reply;
    long cut_in; /* bytes of replies until the cut; -1: never */
};

struct run {
    struct proxy_control *control;
    union {
        struct sockaddr any;
        struct sockaddr_un local;
        struct sockaddr_in tcp;
    } to;
    socklen_t to_len;
    int tcp, local;
    struct pair pairs[PAIRS];
};

static void drop(struct pair *p)
{
    close(p->request.from);
    close(p->request.to);
    p->used = false;
}

static long next_cut(const struct run *r)
{
    int max = r->control->cut_max;
    return max > 0 ? random() % max + 1 : -1;
}

static void accept_one(struct run *r, int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct pair *p = r->pairs;
    while (p < r->pairs + PAIRS && p->used)
        p++;
    int up = socket(r->to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (r->control->closed || p == r->pairs + PAIRS ||
        connect(up, &r->to.any, r->to_len) < 0) {
        close(fd);
        close(up);
        return;
    }
    int on = 1;
    /* Those of the two that are TCP. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(up, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    p->used = true;
    p->request.from = p->reply.to = fd;
    p->request.to = p->reply.from = up;
    p->request.len = p->reply.len = 0;
    p->cut_in = next_cut(r);
    r->control->accepted++;
}

/* Reads if the buffer is empty. False: the connection ended. */
static bool take(const struct run *r, struct way *w)
{
    if (w->len > 0)
        return true;
    ssize_t n = recv(w->from, w->data, sizeof(w->data), MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    w->len = (size_t)n;
    w->sent = 0;
    w->due_ns =
        clock_ns() + (unsigned long long)r->control->delay_ms * NS_PER_MS;
    return n > 0;
}

/* Hands on what is due. False: the connection ended, or is to be cut. */
static bool hand_on(struct run *r, struct pair *p, struct way *w)
{
    if (w->len == 0 || clock_ns() < w->due_ns)
        return true;
    size_t n = r->control->crumbs ? 1 : w->len - w->sent;
    bool cut = w == &p->reply && p->cut_in >= 0 && (size_t)p->cut_in <= n;
    if (cut)
        n = (size_t)p->cut_in;
    ssize_t done =
        send(w->to, w->data + w->sent, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done < 0)
        return errno == EAGAIN || errno == EINTR;
    if (cut && (size_t)done == n) {
        r->control->cuts++;
        return false;
    }
    if (w == &p->reply && p->cut_in >= 0)
        p->cut_in -= done;
    w->sent += (size_t)done;
    if (w->sent == w->len)
        w->len = 0;
    return true;
}

static bool serve(struct run *r, struct pair *p)
{
    const struct proxy_control *c = r->control;
    if (c->closed)
        return false;
    if (c->cut_max > 0 && p->cut_in < 0)
        p->cut_in = next_cut(r);
    return (c->deaf || take(r, &p->request)) &&
           (c->mute || take(r, &p->reply)) && hand_on(r, p, &p->request) &&
           hand_on(r, p, &p->reply);
}

/* What a direction waits for; its descriptor is left out with -1. */
static struct pollfd wish(const struct way *w, bool ignored)
{
    struct pollfd p = {.fd = w->from, .events = POLLIN};
    if (w->len > 0)
        p = (struct pollfd){.fd = w->to, .events = POLLOUT};
    if (ignored || (w->len > 0 && clock_ns() < w->due_ns))
        p.fd = -1;
    return p;
}

static void run(void *arg)
{
    struct run *r = arg;
    srandom((unsigned)getpid());
    for (;;) {
        struct pollfd p[2 + 2 * PAIRS] = {{r->tcp, POLLIN, 0},
                                          {r->local, POLLIN, 0}};
        nfds_t n = 2;
        for (struct pair *pair = r->pairs; pair < r->pairs + PAIRS; pair++) {
            if (!pair->used)
                continue;
            p[n++] = wish(&pair->request, r->control->deaf);
            p[n++] = wish(&pair->reply, r->control->mute);
        }
        /* Short, for the orders come without a sign. */
        poll(p, n, 2);
        for (int i = 0; i < 2; i++)
            if (p[i].revents & POLLIN)
                accept_one(r, p[i].fd);
        for (struct pair *pair = r->pairs; pair < r->pairs + PAIRS; pair++)
            if (pair->used && !serve(r, pair))
                drop(pair);
    }
}

/* A path, or an address and a port. */
static void set_target(struct run *r, const char *to)
{
    const char *colon = strrchr(to, ':');
    if (to[0] == '/' || colon == NULL) {
        r->to.local.sun_family = AF_UNIX;
        strcpy(r->to.local.sun_path, to);
        r->to_len = sizeof(r->to.local);
        return;
    }
    r->to.tcp.sin_family = AF_INET;
    r->to.tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    r->to.tcp.sin_port = htons((uint16_t)atoi(colon + 1));
    r->to_len = sizeof(r->to.tcp);
}

void proxy_start(struct proxy *p, const char *to)
{
    static unsigned count;
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(in);
    struct run *r = calloc(1, sizeof(*r));
    ck_assert_ptr_nonnull(r);
    *p = (struct proxy){.control = support_shared(sizeof(*p->control))};
    r->control = p->control;
    set_target(r, to);
    int n = snprintf(un.sun_path, sizeof(un.sun_path), "%s/p%ld-%u",
                     support_scratch(), (long)getpid(), ++count);
    ck_assert_int_lt(n, (int)sizeof(un.sun_path));
    r->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    r->local = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(r->tcp, (struct sockaddr *)&in, sizeof(in)) < 0 ||
        bind(r->local, (struct sockaddr *)&un, sizeof(un)) < 0 ||
        listen(r->tcp, 64) < 0 || listen(r->local, 64) < 0 ||
        getsockname(r->tcp, (struct sockaddr *)&in, &len) < 0)
        ck_abort_msg("cannot listen: %s", strerror(errno));
    snprintf(p->tcp, sizeof(p->tcp), "redis://127.0.0.1:%u",
             (unsigned)ntohs(in.sin_port));
    snprintf(p->unix_, sizeof(p->unix_), "unix://%s", un.sun_path);
    p->pid = support_fork(run, r);
    close(r->tcp);
    close(r->local);
    free(r);
}
