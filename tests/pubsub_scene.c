/* A Redis, a manager, a publisher and a subscriber. */
#include "tests/pubsub_scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct redis_link publisher;
struct sub sub;
struct broadcast_event ev;

void begin(int kind, const char *options)
{
    e2e_start(&redis, &manager, kind, options);
    redis_link_open(&publisher, &redis.at);
}

static long long count(const char *what, const char *channel)
{
    /* [channel, number]: the number is in the last line. */
    char command[128];
    snprintf(command, sizeof(command), "PUBSUB %s %s", what, channel);
    const char *reply = e2e_redis_ask(&redis, command);
    const char *at = strrchr(reply, ':');
    ck_assert_msg(at != NULL, "PUBSUB %s: %s", what, reply);
    return atoll(at + 1);
}

long long numsub(const char *channel)
{
    return count("NUMSUB", channel);
}

long long shardnumsub(const char *channel)
{
    return count("SHARDNUMSUB", channel);
}

void subscribe(struct sub *s, const char *command)
{
    ck_assert_int_eq(sub_open(s, manager.channel, TIMEOUT_MS, command), ERR_OK);
    ck_assert(sub_expect(s, BROADCAST_CONFIRMED, &ev));
}

void expect_number(struct sub *s, unsigned long n)
{
    ck_assert(sub_expect(s, BROADCAST_MESSAGE, &ev));
    ck_assert_uint_eq(sub_number(&ev), n);
}

void expect_end(struct sub *s, enum reply_status status, const char *text)
{
    ck_assert(sub_expect(s, BROADCAST_END, &ev));
    ck_assert_int_eq(ev.status, status);
    ck_assert_msg(memmem(ev.data, ev.len, text, strlen(text)) != NULL,
                  "not '%s': %.*s", text, (int)ev.len, ev.data);
}
