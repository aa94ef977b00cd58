/* A sentinel of our own making. */
#include "tests/fake_sentinel.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/resp.h"
#include "tests/support.h"

#define CLIENTS 64

struct fake_client {
    int fd;
    bool subscribed;
    char in[4096];
    size_t have;
};

struct stage {
    int listener;
    struct fake_script *script;
    struct fake_client clients[CLIENTS];
    int count;
    unsigned events;
};

/* What does not get through is nothing that these tests are about. */
static void say(struct fake_client *c, const char *bytes, size_t len)
{
    ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);
    (void)n;
}

static void say_text(struct fake_client *c, const char *text)
{
    say(c, text, strlen(text));
}

static bool is(const struct resp_arg *a, const char *word)
{
    return a->len == strlen(word) && strncasecmp(a->data, word, a->len) == 0;
}

static void confirm(struct fake_client *c, const struct resp_arg *channel)
{
    char text[256];
    snprintf(text, sizeof(text),
             "*3\r\n$9\r\nsubscribe\r\n$%zu\r\n%.*s\r\n:1\r\n", channel->len,
             (int)channel->len, channel->data);
    say_text(c, text);
    c->subscribed = true;
}

static void obey(struct stage *s, struct fake_client *c,
                 const struct resp_arg *a, uint32_t argc)
{
    struct fake_script *k = s->script;
    if (is(&a[0], "AUTH") && k->password[0] != '\0') {
        say_text(c, is(&a[argc - 1], k->password)
                        ? "+OK\r\n"
                        : "-WRONGPASS invalid username-password pair\r\n");
    } else if (is(&a[0], "PING")) {
        say_text(c, c->subscribed ? "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
                                  : "+PONG\r\n");
    } else if (is(&a[0], "CLIENT")) {
        say_text(c, "+OK\r\n");
    } else if (is(&a[0], "SUBSCRIBE") && argc == 2) {
        confirm(c, &a[1]);
        k->subscribed++;
    } else if (is(&a[0], "SENTINEL") && is(&a[1], "SENTINELS")) {
        unsigned at = k->otherss & 1;
        say(c, k->others[at].bytes, k->others[at].len);
    } else if (is(&a[0], "SENTINEL")) {
        unsigned at = k->masters & 1;
        say(c, k->master[at].bytes, k->master[at].len);
        k->asked++;
    } else {
        /* HELLO among them: as sentinels before 6.2. */
        say_text(c, "-ERR unknown command\r\n");
    }
}

/* Takes one command off what came; false: it is not whole yet. */
static bool take_command(struct stage *s, struct fake_client *c)
{
    struct resp_request r;
    struct resp_arg a[8];
    uint32_t argc;
    resp_request_init(&r, c->in, c->have);
    if (resp_request_command(&r, &argc) != ERR_OK || argc > 8)
        return false;
    for (uint32_t i = 0; i < argc; i++)
        if (resp_request_arg(&r, &a[i]) != ERR_OK)
            return false;
    if (!s->script->mute)
        obey(s, c, a, argc);
    size_t used = (size_t)(r.pos - c->in);
    c->have -= used;
    memmove(c->in, c->in + used, c->have);
    return true;
}

/* False: it is gone. */
static bool serve(struct stage *s, struct fake_client *c)
{
    ssize_t n =
        recv(c->fd, c->in + c->have, sizeof(c->in) - c->have, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return true;
    if (n <= 0)
        return false;
    c->have += (size_t)n;
    while (take_command(s, c))
        ;
    return true;
}

static void publish(struct stage *s)
{
    struct fake_script *k = s->script;
    if (s->events == k->events)
        return;
    s->events = k->events;
    for (int i = 0; i < s->count; i++)
        if (s->clients[i].subscribed)
            say(&s->clients[i], k->event[s->events & 1].bytes,
                k->event[s->events & 1].len);
}

static void act(void *arg)
{
    struct stage *s = arg;
    s->events = s->script->events;
    for (;;) {
        struct pollfd p[CLIENTS + 1] = {{s->listener, POLLIN, 0}};
        for (int i = 0; i < s->count; i++)
            p[i + 1] = (struct pollfd){s->clients[i].fd, POLLIN, 0};
        poll(p, (nfds_t)s->count + 1, 2);
        for (int i = s->count - 1; i >= 0; i--) {
            if (p[i + 1].revents == 0 || serve(s, &s->clients[i]))
                continue;
            close(s->clients[i].fd);
            s->clients[i] = s->clients[--s->count];
        }
        if ((p[0].revents & POLLIN) && s->count < CLIENTS) {
            int fd = accept(s->listener, NULL, NULL);
            if (fd >= 0)
                s->clients[s->count++] = (struct fake_client){.fd = fd};
            s->script->accepted++;
        }
        publish(s);
    }
}

/* ---- for the test ---- */

void fake_sentinel_restart(struct fake_sentinel *f)
{
    static struct stage stage;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)f->port)};
    socklen_t len = sizeof(address);
    int yes = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memset(&stage, 0, sizeof(stage));
    stage.script = f->script;
    stage.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(stage.listener, 0);
    setsockopt(stage.listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    ck_assert_int_eq(bind(stage.listener, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(stage.listener, 64), 0);
    ck_assert_int_eq(
        getsockname(stage.listener, (struct sockaddr *)&address, &len), 0);
    f->port = ntohs(address.sin_port);
    f->pid = support_fork(act, &stage);
    close(stage.listener);
}

void fake_sentinel_start(struct fake_sentinel *f, const char *password)
{
    *f = (struct fake_sentinel){.script = support_shared(sizeof(*f->script))};
    snprintf(f->script->password, sizeof(f->script->password), "%s", password);
    fake_sentinel_names(f, 0);
    fake_sentinel_others(f, "*0\r\n", 4);
    fake_sentinel_restart(f);
}

void fake_sentinel_kill(struct fake_sentinel *f)
{
    support_kill(f->pid);
}

void fake_sentinel_says(struct fake_sentinel *f, const char *bytes, size_t len)
{
    struct fake_script *k = f->script;
    unsigned at = (k->masters + 1) & 1;
    ck_assert_uint_le(len, FAKE_REPLY_MAX);
    memcpy(k->master[at].bytes, bytes, len);
    k->master[at].len = len;
    k->masters++;
}

void fake_sentinel_others(struct fake_sentinel *f, const char *bytes,
                          size_t len)
{
    struct fake_script *k = f->script;
    unsigned at = (k->otherss + 1) & 1;
    ck_assert_uint_le(len, FAKE_REPLY_MAX);
    memcpy(k->others[at].bytes, bytes, len);
    k->others[at].len = len;
    k->otherss++;
}

void fake_sentinel_names(struct fake_sentinel *f, int port)
{
    char text[128] = "*-1\r\n", digits[16];
    int n = snprintf(digits, sizeof(digits), "%d", port);
    if (port != 0)
        snprintf(text, sizeof(text), "*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n",
                 n, digits);
    fake_sentinel_says(f, text, strlen(text));
}

void fake_sentinel_tells_of(struct fake_sentinel *f,
                            const struct fake_sentinel *other)
{
    char text[256], digits[16];
    int n = snprintf(digits, sizeof(digits), "%d", other->port);
    n = snprintf(text, sizeof(text),
                 "*1\r\n*6\r\n$4\r\nname\r\n$3\r\nabc\r\n$2\r\nip\r\n"
                 "$9\r\n127.0.0.1\r\n$4\r\nport\r\n$%d\r\n%s\r\n",
                 n, digits);
    fake_sentinel_others(f, text, (size_t)n);
}

void fake_sentinel_event(struct fake_sentinel *f, const char *channel,
                         const char *text)
{
    struct fake_script *k = f->script;
    unsigned at = (k->events + 1) & 1;
    int n = snprintf(k->event[at].bytes, FAKE_REPLY_MAX,
                     "*3\r\n$7\r\nmessage\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n",
                     strlen(channel), channel, strlen(text), text);
    k->event[at].len = (size_t)n;
    k->events++;
}

void fake_sentinel_switches(struct fake_sentinel *f, int from, int to)
{
    char text[128];
    snprintf(text, sizeof(text), "mymaster 127.0.0.1 %d 127.0.0.1 %d", from,
             to);
    fake_sentinel_event(f, "+switch-master", text);
}
