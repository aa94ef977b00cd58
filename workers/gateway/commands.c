#include "workers/gateway/commands.h"

#include <string.h>

/* Sorted by name. */
static const struct command_row rows[] = {
    {"AUTH", COMMAND_AUTH, SHAPE_PLAIN},
    {"BLMOVE", COMMAND_BLOCKS, SHAPE_NULL_ARRAY},
    {"BLMPOP", COMMAND_BLOCKS, SHAPE_NULL_ARRAY},
    {"BLPOP", COMMAND_BLOCKS, SHAPE_NULL_ARRAY},
    {"BRPOP", COMMAND_BLOCKS, SHAPE_NULL_ARRAY},
    {"BRPOPLPUSH", COMMAND_BLOCKS, SHAPE_NULL_ARRAY},
    {"BZMPOP", COMMAND_BLOCKS, SHAPE_NULL_ARRAY},
    {"BZPOPMAX", COMMAND_BLOCKS, SHAPE_NULL_ARRAY},
    {"BZPOPMIN", COMMAND_BLOCKS, SHAPE_NULL_ARRAY},
    {"CLIENT", COMMAND_CLIENT, SHAPE_PLAIN},
    {"DISCARD", COMMAND_DISCARD, SHAPE_PLAIN},
    {"EXEC", COMMAND_EXEC, SHAPE_NULL_ARRAY},
    {"GATEWAY", COMMAND_GATEWAY, SHAPE_PLAIN},
    {"HELLO", COMMAND_HELLO, SHAPE_PLAIN},
    {"HOST:", COMMAND_HTTP, SHAPE_PLAIN},
    {"HRANDFIELD", COMMAND_PASSES, SHAPE_FLAT},
    {"LMPOP", COMMAND_PASSES, SHAPE_NULL_ARRAY},
    {"MULTI", COMMAND_MULTI, SHAPE_PLAIN},
    {"PING", COMMAND_PING, SHAPE_PLAIN},
    {"POST", COMMAND_HTTP, SHAPE_PLAIN},
    {"PSUBSCRIBE", COMMAND_PSUBSCRIBE, SHAPE_PLAIN},
    {"PUNSUBSCRIBE", COMMAND_PUNSUBSCRIBE, SHAPE_PLAIN},
    {"QUIT", COMMAND_QUIT, SHAPE_PLAIN},
    {"RESET", COMMAND_RESET, SHAPE_PLAIN},
    {"SELECT", COMMAND_SELECT, SHAPE_PLAIN},
    {"SSUBSCRIBE", COMMAND_SSUBSCRIBE, SHAPE_PLAIN},
    {"SUBSCRIBE", COMMAND_SUBSCRIBE, SHAPE_PLAIN},
    {"SUNSUBSCRIBE", COMMAND_SUNSUBSCRIBE, SHAPE_PLAIN},
    {"UNSUBSCRIBE", COMMAND_UNSUBSCRIBE, SHAPE_PLAIN},
    {"UNWATCH", COMMAND_UNWATCH, SHAPE_PLAIN},
    {"WATCH", COMMAND_WATCH, SHAPE_PLAIN},
    {"XREAD", COMMAND_BLOCKS_MAYBE, SHAPE_PAIRS},
    {"XREADGROUP", COMMAND_BLOCKS_MAYBE, SHAPE_PAIRS},
    {"ZDIFF", COMMAND_PASSES, SHAPE_FLAT},
    {"ZINTER", COMMAND_PASSES, SHAPE_FLAT},
    {"ZMPOP", COMMAND_PASSES, SHAPE_NULL_ARRAY},
    {"ZPOPMAX", COMMAND_PASSES, SHAPE_FLAT},
    {"ZPOPMIN", COMMAND_PASSES, SHAPE_FLAT},
    {"ZRANDMEMBER", COMMAND_PASSES, SHAPE_FLAT},
    {"ZRANGE", COMMAND_PASSES, SHAPE_FLAT},
    {"ZRANGEBYSCORE", COMMAND_PASSES, SHAPE_FLAT},
    {"ZREVRANGE", COMMAND_PASSES, SHAPE_FLAT},
    {"ZREVRANGEBYSCORE", COMMAND_PASSES, SHAPE_FLAT},
    {"ZUNION", COMMAND_PASSES, SHAPE_FLAT},
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))
#define NAME_MIN 4
#define NAME_MAX_LEN 16

bool command_is(const char *word, size_t len, const char *upper)
{
    for (size_t i = 0; i < len; i++) {
        char c = word[i];
        if (c >= 'a' && c <= 'z')
            c = (char)(c - 'a' + 'A');
        if (c != upper[i] || c == '\0')
            return false;
    }
    return upper[len] == '\0';
}

const struct command_row *command_find(const char *name, size_t len)
{
    /* Most commands are in no row, and most of those are told by that. */
    if (len < NAME_MIN || len > NAME_MAX_LEN)
        return NULL;
    char first = (char)(name[0] & ~0x20);
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].name[0] == first && command_is(name, len, rows[i].name))
            return &rows[i];
        if (rows[i].name[0] > first)
            break;
    }
    return NULL;
}
