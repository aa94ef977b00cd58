/* Two servers, two sentinels that say what they are told, and a manager. */
#include "tests/sentinel_scene.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support.h"

struct server a, b;
struct fake_sentinel one, two;
struct e2e_output out;

bool server_start(struct server *s, const char *more)
{
    static unsigned count;
    char options[256], name[40];
    s->port = support_free_port();
    snprintf(name, sizeof(name), "r%ld-%u", (long)getpid(), ++count);
    snprintf(options, sizeof(options), "--port %d --bind 127.0.0.1%s", s->port,
             more);
    if (redis_start(&s->at, name, options))
        return true;
    support_skip("sentinel", "no redis-server is installed");
    return false;
}

const char *server_ask(const struct server *s, const char *command)
{
    struct redis_link link;
    redis_link_open(&link, &s->at);
    const char *text = redis_link_ask(&link, command);
    redis_link_close(&link);
    return text;
}

void server_follow(struct server *s, const struct server *of)
{
    char command[64];
    snprintf(command, sizeof(command), "REPLICAOF 127.0.0.1 %d", of->port);
    ck_assert_str_eq(server_ask(s, command), "+OK\r\n");
}

const char *sentinel_uri(int count)
{
    static char text[128];
    int n = snprintf(text, sizeof(text), "sentinel://127.0.0.1:%d", one.port);
    if (count > 1)
        n += snprintf(text + n, sizeof(text) - (size_t)n, ",127.0.0.1:%d",
                      two.port);
    snprintf(text + n, sizeof(text) - (size_t)n, "/mymaster");
    return text;
}

/* Two servers, and two sentinels that name the first one. */
bool sentinel_scene(void)
{
    if (!server_start(&a, "") || !server_start(&b, ""))
        return false;
    fake_sentinel_start(&one, "");
    fake_sentinel_start(&two, "");
    fake_sentinel_names(&one, a.port);
    fake_sentinel_names(&two, a.port);
    return true;
}

bool sentinel_scene_served(const char *options)
{
    if (!sentinel_scene())
        return false;
    e2e_manager_start(&manager, NULL, sentinel_uri(2), options);
    ck_assert(UNTIL(e2e_logged(&manager, "listening to sentinel")));
    return true;
}

void open_client(void)
{
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
}

void close_client(void)
{
    e2e_forget(&client, &call);
    e2e_client_close(&client);
}

/* A command through the manager goes to this server. */
void assert_serves(const struct server *s, const char *key)
{
    char command[64];
    open_client();
    ck_assert_int_eq(e2e_ask(&client, &call, TIMEOUT_MS, "SET %s v", key),
                     E2E_OK);
    ck_assert_msg(e2e_is(&call, "+OK\r\n"), "%.*s", (int)call.len, call.data);
    close_client();
    snprintf(command, sizeof(command), "EXISTS %s", key);
    ck_assert_str_eq(server_ask(s, command), ":1\r\n");
}

bool manager_shows(const struct server *s)
{
    char text[64];
    struct manager_state now;
    snprintf(text, sizeof(text), "redis://127.0.0.1:%d/0 (mymaster)", s->port);
    return status_read_state(manager.status, &now, NULL) == ERR_OK &&
           now.kind == STATE_CONNECTED && strcmp(now.server, text) == 0;
}

uint64_t manager_switches(void)
{
    return e2e_counter(&manager, COUNTER_switches);
}
