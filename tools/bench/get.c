/*
 * The short-lived program that a user would write with hiredis: connect, log in
 * if need be, one GET, print, end. The benchmark times it beside mqredis-worker
 * and redis-cli. usage: mqredis-bench-get PORT KEY [PASSWORD]
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: mqredis-bench-get PORT KEY [PASSWORD]\n");
        return 64;
    }
    redisContext *c = redisConnect("127.0.0.1", atoi(argv[1]));
    if (c == NULL || c->err != 0) {
        fprintf(stderr, "mqredis-bench-get: %s\n",
                c != NULL ? c->errstr : "out of memory");
        return 69;
    }
    if (argc > 3) {
        redisReply *r = redisCommand(c, "AUTH %s", argv[3]);
        if (r == NULL || r->type != REDIS_REPLY_STATUS) {
            fprintf(stderr, "mqredis-bench-get: AUTH was refused\n");
            return 1;
        }
        freeReplyObject(r);
    }
    redisReply *r = redisCommand(c, "GET %s", argv[2]);
    if (r == NULL || r->type != REDIS_REPLY_STRING) {
        fprintf(stderr, "mqredis-bench-get: no such value\n");
        return 1;
    }
    printf("%.*s\n", (int)r->len, r->str);
    freeReplyObject(r);
    redisFree(c);
    return 0;
}
