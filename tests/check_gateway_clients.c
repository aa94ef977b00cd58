/*
 * Unmodified Redis clients on mqredis-gateway: what people use in Python, PHP
 * and Node, over both transports, and in both protocols where the client has
 * them. The cases are in tests/clients.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/gateway.h"
#include "tests/script.h"
#include "tests/support_run.h"

/* Starts a gateway on both transports, and tells the script where it is. */
static void prepare(const char *transport, const char *resp)
{
    char port[16];
    gw_start(&gateway, getenv("MQREDIS_CHANNEL"), "--port 0");
    snprintf(port, sizeof(port), "%d", gateway.port);
    setenv("MQREDIS_GATEWAY_SOCKET", gateway.path, 1);
    setenv("MQREDIS_GATEWAY_PORT", port, 1);
    setenv("MQREDIS_TRANSPORT", transport, 1);
    setenv("MQREDIS_RESP", resp, 1);
}

/* Whatever the clients did, it ends in good order. */
static void finish(void)
{
    int status = gw_stop(&gateway);
    ck_assert_msg(status == 0, "the gateway ended with %d: %s", status,
                  gw_log(&gateway));
}

static void unix_resp2(void)
{
    prepare("unix", "2");
}

static void unix_resp3(void)
{
    prepare("unix", "3");
}

static void tcp_resp2(void)
{
    prepare("tcp", "2");
}

static void tcp_resp3(void)
{
    prepare("tcp", "3");
}

#define NO_PYTHON "there is no /usr/bin/python3 (Debian: python3)"
#define NO_PHP "there is no php (Debian: php-cli)"
#define NO_NODE "there is no node (Debian: nodejs)"

/* What the manager speaks with Redis: a client that wants RESP3 takes RESP3;
 * one that wants RESP2 may have either. */
#define RESP2 NULL
#define RESP3 "--resp 3"

/* The distribution's python3 is the one that its python3-redis is for; node is
 * called by env, for build/node is a folder. */
#define PYTHON "/usr/bin/python3", "-B", "tests/clients/redis_py.py"
#define PHP "php", "tests/clients/phpredis.php"
#define IOREDIS "env", "node", "tests/clients/ioredis.js"
#define NODE_REDIS "env", "node", "tests/clients/node_redis.js"

static const struct script scripts[] = {
    {"redis-py, unix, RESP2",
     {PYTHON},
     NO_PYTHON,
     false,
     RESP2,
     unix_resp2,
     finish},
    {"redis-py, TCP, RESP2",
     {PYTHON},
     NO_PYTHON,
     false,
     RESP3,
     tcp_resp2,
     finish},
    {"phpredis, unix, RESP2", {PHP}, NO_PHP, false, RESP3, unix_resp2, finish},
    {"phpredis, TCP, RESP2", {PHP}, NO_PHP, false, RESP2, tcp_resp2, finish},
    {"ioredis, unix, RESP2",
     {IOREDIS},
     NO_NODE,
     false,
     RESP2,
     unix_resp2,
     finish},
    {"ioredis, TCP, RESP3",
     {IOREDIS},
     NO_NODE,
     false,
     RESP3,
     tcp_resp3,
     finish},
    {"node-redis, unix, RESP3",
     {NODE_REDIS},
     NO_NODE,
     false,
     RESP3,
     unix_resp3,
     finish},
    {"node-redis, TCP, RESP2",
     {NODE_REDIS},
     NO_NODE,
     false,
     RESP3,
     tcp_resp2,
     finish},
};

int main(void)
{
    Suite *s = suite_create("gateway_clients");
    setenv("NODE_PATH", "build/node/node_modules", 0);
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++)
        script_add(s, &scripts[i]);
    return support_run(s);
}
