/* Slots of a cluster: which are whose, and moving them with their keys. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/resp.h"
#include "tests/redis_cluster.h"
#include "tests/support.h"

#define KEYS_AT_ONCE 64

unsigned redis_cluster_slot(const char *key)
{
    size_t len = strlen(key);
    const char *open = strchr(key, '{');
    const char *close = open != NULL ? strchr(open, '}') : NULL;
    if (close != NULL && close > open + 1) {
        key = open + 1;
        len = (size_t)(close - key);
    }
    unsigned crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc ^= (unsigned)(unsigned char)key[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1;
    }
    return (crc & 0xffff) % REDIS_CLUSTER_SLOTS;
}

unsigned redis_cluster_first_slot(const struct redis_cluster *c, int master)
{
    return (unsigned)(master * REDIS_CLUSTER_SLOTS / c->masters);
}

int redis_cluster_first_owner(const struct redis_cluster *c, unsigned slot)
{
    int master = 0;
    while (master + 1 < c->masters &&
           slot >= redis_cluster_first_slot(c, master + 1))
        master++;
    return master;
}

const char *redis_cluster_word(const struct redis_cluster *c, int node,
                               unsigned n)
{
    static char words[16][16];
    static unsigned turn;
    char *word = words[turn++ % 16];
    unsigned found = 0;
    for (unsigned i = 0;; i++) {
        snprintf(word, sizeof(words[0]), "t%u", i);
        if (redis_cluster_first_owner(c, redis_cluster_slot(word)) == node &&
            found++ == n)
            return word;
    }
}

/* ---- moving ---- */

void redis_cluster_move_begin(const struct redis_cluster *c, unsigned slot,
                              int from, int to)
{
    redis_cluster_order(c, to, "CLUSTER SETSLOT %u IMPORTING %s", slot,
                        c->node[from].id);
    redis_cluster_order(c, from, "CLUSTER SETSLOT %u MIGRATING %s", slot,
                        c->node[to].id);
}

/* Reads an array of bulk strings; returns how many there are. */
static int read_keys(const char *reply, size_t len, struct resp_arg *keys,
                     int max)
{
    const char *end = reply + len;
    char *at;
    ck_assert_msg(reply[0] == '*', "GETKEYSINSLOT: %s", reply);
    long count = strtol(reply + 1, &at, 10);
    ck_assert_int_le(count, max);
    at += 2;
    for (long i = 0; i < count; i++) {
        size_t size = strtoul(at + 1, &at, 10);
        keys[i] = (struct resp_arg){at + 2, size};
        at += 2 + size + 2;
        ck_assert(at <= end);
    }
    return (int)count;
}

int redis_cluster_move_keys(const struct redis_cluster *c, unsigned slot,
                            int from, int to, int max)
{
    struct resp_arg argv[8 + KEYS_AT_ONCE];
    struct redis_link link;
    const char *reply;
    char text[64], port[8];
    size_t len;
    if (max > KEYS_AT_ONCE)
        max = KEYS_AT_ONCE;
    redis_link_open(&link, &c->node[from].at);
    snprintf(text, sizeof(text), "CLUSTER GETKEYSINSLOT %u %d", slot, max);
    redis_link_command(&link, text);
    ck_assert_int_eq(
        redis_link_reply(&link, (int)support_wait_ms(), &reply, &len),
        REDIS_REPLY);
    int count = read_keys(reply, len, argv + 7, max);
    if (count > 0) {
        static const char *const words[] = {"MIGRATE", "127.0.0.1", NULL,  "",
                                            "0",       "10000",     "KEYS"};
        snprintf(port, sizeof(port), "%u", c->node[to].port);
        for (int i = 0; i < 7; i++) {
            const char *word = words[i] != NULL ? words[i] : port;
            argv[i] = (struct resp_arg){word, strlen(word)};
        }
        size_t argc = 7 + (size_t)count;
        char *bytes = malloc(resp_command_size(argc, argv));
        ck_assert_ptr_nonnull(bytes);
        redis_link_send(&link, bytes, resp_put_command(bytes, argc, argv));
        free(bytes);
        /* NOKEY: those were deleted in between. */
        const char *answer = redis_link_text(&link);
        ck_assert_msg(strcmp(answer, "+OK\r\n") == 0 ||
                          strcmp(answer, "+NOKEY\r\n") == 0,
                      "MIGRATE of slot %u: %s", slot, answer);
    }
    redis_link_close(&link);
    return count;
}

static unsigned long info(const struct redis_cluster *c, int node,
                          const char *name)
{
    const char *at = strstr(redis_cluster_ask(c, node, "CLUSTER INFO"), name);
    ck_assert_ptr_nonnull(at);
    return strtoul(at + strlen(name), NULL, 10);
}

/* Whether it has heard of all epochs. Else the one that it makes for itself
 * when it gets a slot may be below the old owner's, and a word of that one's
 * which is still on its way takes the slot back again. */
static bool is_up_to_date(const struct redis_cluster *c, int node)
{
    unsigned long known = info(c, node, "cluster_current_epoch:");
    for (int i = 0; i < c->nodes; i++)
        if (i != node && c->node[i].at.pid > 0 &&
            info(c, i, "cluster_my_epoch:") > known)
            return false;
    return true;
}

void redis_cluster_move_end(const struct redis_cluster *c, unsigned slot,
                            int from, int to)
{
    const char *id = c->node[to].id;
    ck_assert(UNTIL(is_up_to_date(c, to)));
    /* The new owner first: were it the last to know, the slot would be
     * nobody's for a moment, if one of us died between. */
    redis_cluster_order(c, to, "CLUSTER SETSLOT %u NODE %s", slot, id);
    redis_cluster_order(c, from, "CLUSTER SETSLOT %u NODE %s", slot, id);
    for (int i = 0; i < c->nodes; i++)
        if (i != from && i != to && c->node[i].at.pid > 0)
            redis_cluster_ask(c, i, "CLUSTER SETSLOT %u NODE %s", slot, id);
}

void redis_cluster_move(const struct redis_cluster *c, unsigned slot, int to)
{
    int from = redis_cluster_owner(c, to, slot);
    ck_assert_int_ge(from, 0);
    if (from == to)
        return;
    redis_cluster_move_begin(c, slot, from, to);
    while (redis_cluster_move_keys(c, slot, from, to, 10) > 0)
        ;
    redis_cluster_move_end(c, slot, from, to);
}
