/* A sentinel of our own making. */
#include "tests/fake_sentinel.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/fake_server.h"
#include "tests/support.h"

struct stage {
    struct fake_server server;
    struct fake_script *script;
    unsigned events; /* that were published */
};

static void confirm(struct fake_client *c, const struct resp_arg *channel)
{
    char text[256];
    snprintf(text, sizeof(text),
             "*3\r\n$9\r\nsubscribe\r\n$%zu\r\n%.*s\r\n:1\r\n", channel->len,
             (int)channel->len, channel->data);
    fake_server_say_text(c, text);
    c->subscribed = true;
}

static void obey(struct fake_server *s, struct fake_client *c,
                 const struct resp_arg *a, uint32_t argc)
{
    struct fake_script *k = ((struct stage *)s->context)->script;
    if (k->mute)
        return;
    if (fake_server_is(&a[0], "AUTH") && k->password[0] != '\0') {
        fake_server_say_text(
            c, fake_server_is(&a[argc - 1], k->password)
                   ? "+OK\r\n"
                   : "-WRONGPASS invalid username-password pair\r\n");
    } else if (fake_server_is(&a[0], "PING")) {
        fake_server_say_text(c, c->subscribed ? "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
                                              : "+PONG\r\n");
    } else if (fake_server_is(&a[0], "CLIENT")) {
        fake_server_say_text(c, "+OK\r\n");
    } else if (fake_server_is(&a[0], "SUBSCRIBE") && argc == 2) {
        confirm(c, &a[1]);
        k->subscribed++;
    } else if (fake_server_is(&a[0], "SENTINEL") &&
               fake_server_is(&a[1], "SENTINELS")) {
        unsigned at = k->otherss & 1;
        fake_server_say(c, k->others[at].bytes, k->others[at].len);
    } else if (fake_server_is(&a[0], "SENTINEL")) {
        unsigned at = k->masters & 1;
        fake_server_say(c, k->master[at].bytes, k->master[at].len);
        k->asked++;
    } else {
        /* HELLO among them: as sentinels before 6.2. */
        fake_server_say_text(c, "-ERR unknown command\r\n");
    }
}

static void publish(struct fake_server *s)
{
    struct stage *stage = s->context;
    struct fake_script *k = stage->script;
    if (stage->events == k->events)
        return;
    stage->events = k->events;
    unsigned at = stage->events & 1;
    for (int i = 0; i < s->count; i++)
        if (s->clients[i].subscribed)
            fake_server_say(&s->clients[i], k->event[at].bytes,
                            k->event[at].len);
}

static void came(struct fake_server *s)
{
    ((struct stage *)s->context)->script->accepted++;
}

static void act(void *arg)
{
    struct stage *s = arg;
    s->events = s->script->events;
    fake_server_run(&s->server);
}

/* ---- for the test ---- */

void fake_sentinel_restart(struct fake_sentinel *f)
{
    static struct stage stage;
    memset(&stage, 0, sizeof(stage));
    stage.script = f->script;
    stage.server = (struct fake_server){.obey = obey,
                                        .came = came,
                                        .turn = publish,
                                        .context = &stage,
                                        .listeners = 1};
    stage.server.listener[0] = fake_server_listen(&f->port);
    f->pid = support_fork(act, &stage);
    close(stage.server.listener[0]);
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
