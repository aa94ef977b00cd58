/* A server of our own making, as far as all of them are alike. */
#include "tests/fake_server.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support.h"

/* What does not get through is nothing that these tests are about. */
void fake_server_say(struct fake_client *c, const char *bytes, size_t len)
{
    ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);
    (void)n;
}

void fake_server_say_text(struct fake_client *c, const char *text)
{
    fake_server_say(c, text, strlen(text));
}

bool fake_server_is(const struct resp_arg *a, const char *word)
{
    return a->len == strlen(word) && strncasecmp(a->data, word, a->len) == 0;
}

/* Takes one command off what came; false: it is not whole yet. */
static bool take_command(struct fake_server *s, struct fake_client *c)
{
    struct resp_request r;
    struct resp_arg a[FAKE_ARGS];
    uint32_t argc;
    resp_request_init(&r, c->in, c->have);
    if (resp_request_command(&r, &argc) != ERR_OK || argc > FAKE_ARGS)
        return false;
    for (uint32_t i = 0; i < argc; i++)
        if (resp_request_arg(&r, &a[i]) != ERR_OK)
            return false;
    s->obey(s, c, a, argc);
    size_t used = (size_t)(r.pos - c->in);
    c->have -= used;
    memmove(c->in, c->in + used, c->have);
    return true;
}

/* False: it is gone. */
static bool serve(struct fake_server *s, struct fake_client *c)
{
    ssize_t n =
        recv(c->fd, c->in + c->have, sizeof(c->in) - c->have, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return true;
    if (n <= 0)
        return false;
    c->have += (size_t)n;
    while (!c->gone && take_command(s, c))
        ;
    return !c->gone;
}

static void let_in(struct fake_server *s, int listener)
{
    int fd = accept(s->listener[listener], NULL, NULL);
    if (fd >= 0)
        s->clients[s->count++] =
            (struct fake_client){.fd = fd, .listener = listener};
    if (s->came != NULL)
        s->came(s);
}

void fake_server_run(struct fake_server *s)
{
    for (;;) {
        struct pollfd p[FAKE_LISTENERS + FAKE_CLIENTS];
        int n = s->listeners;
        for (int i = 0; i < n; i++)
            p[i] = (struct pollfd){s->listener[i], POLLIN, 0};
        for (int i = 0; i < s->count; i++)
            p[n + i] = (struct pollfd){s->clients[i].fd, POLLIN, 0};
        poll(p, (nfds_t)n + (nfds_t)s->count, 2);
        for (int i = s->count - 1; i >= 0; i--) {
            if (p[n + i].revents == 0 || serve(s, &s->clients[i]))
                continue;
            close(s->clients[i].fd);
            s->clients[i] = s->clients[--s->count];
        }
        for (int i = 0; i < n; i++)
            if ((p[i].revents & POLLIN) && s->count < FAKE_CLIENTS)
                let_in(s, i);
        if (s->turn != NULL)
            s->turn(s);
    }
}

int fake_server_listen(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)*port)};
    socklen_t len = sizeof(address);
    int yes = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(fd, 64), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *port = ntohs(address.sin_port);
    return fd;
}
