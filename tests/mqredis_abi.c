/*
 * Prints what a C compiler makes of mqredis.h: size and fields of each public
 * struct and the numbers of each enum, one a line:
 *
 *     struct mqredis_reply 72
 *     field mqredis_reply.len 32 8
 *     enum MQREDIS_STRING 1
 *
 * Bindings repeat the header in their own language; their tests compare.
 */
#include <stddef.h>
#include <stdio.h>

#include "workers/mqredis.h"

#define STRUCT(name) printf("struct %s %zu\n", #name, sizeof(struct name))
#define FIELD(name, field)                                                     \
    printf("field %s.%s %zu %zu\n", #name, #field,                             \
           offsetof(struct name, field), sizeof(((struct name *)NULL)->field))
#define NUMBER(name) printf("enum %s %d\n", #name, (int)name)

static void print_reply(void)
{
    STRUCT(mqredis_reply);
    FIELD(mqredis_reply, type);
    FIELD(mqredis_reply, status);
    FIELD(mqredis_reply, integer);
    FIELD(mqredis_reply, real);
    FIELD(mqredis_reply, str);
    FIELD(mqredis_reply, len);
    FIELD(mqredis_reply, format);
    FIELD(mqredis_reply, elements);
    FIELD(mqredis_reply, element);
    FIELD(mqredis_reply, attributes);
    STRUCT(mqredis_raw);
    FIELD(mqredis_raw, status);
    FIELD(mqredis_raw, data);
    FIELD(mqredis_raw, len);
}

static void print_error_and_info(void)
{
    STRUCT(mqredis_error);
    FIELD(mqredis_error, status);
    FIELD(mqredis_error, text);
    STRUCT(mqredis_info);
    FIELD(mqredis_info, queue_depth);
    FIELD(mqredis_info, queue_capacity);
    FIELD(mqredis_info, message_size);
    FIELD(mqredis_info, manager_pid);
    FIELD(mqredis_info, connected);
    FIELD(mqredis_info, state);
    FIELD(mqredis_info, server);
    FIELD(mqredis_info, last_error);
    FIELD(mqredis_info, resp);
    FIELD(mqredis_info, db);
}

static void print_event(void)
{
    STRUCT(mqredis_event);
    FIELD(mqredis_event, type);
    FIELD(mqredis_event, status);
    FIELD(mqredis_event, count);
    FIELD(mqredis_event, channel);
    FIELD(mqredis_event, pattern);
    FIELD(mqredis_event, data);
    FIELD(mqredis_event, channel_len);
    FIELD(mqredis_event, pattern_len);
    FIELD(mqredis_event, len);
    FIELD(mqredis_event, raw);
    FIELD(mqredis_event, raw_len);
}

static void print_numbers(void)
{
    NUMBER(MQREDIS_OK);
    NUMBER(MQREDIS_INVALID);
    NUMBER(MQREDIS_EXPIRED);
    NUMBER(MQREDIS_UNAVAILABLE);
    NUMBER(MQREDIS_TOO_BIG);
    NUMBER(MQREDIS_LOST);
    NUMBER(MQREDIS_NOMEM);
    NUMBER(MQREDIS_SYSTEM);
    NUMBER(MQREDIS_STRING);
    NUMBER(MQREDIS_ARRAY);
    NUMBER(MQREDIS_INTEGER);
    NUMBER(MQREDIS_NIL);
    NUMBER(MQREDIS_STATUS);
    NUMBER(MQREDIS_ERROR);
    NUMBER(MQREDIS_DOUBLE);
    NUMBER(MQREDIS_BOOL);
    NUMBER(MQREDIS_MAP);
    NUMBER(MQREDIS_SET);
    NUMBER(MQREDIS_PUSH);
    NUMBER(MQREDIS_BIGNUM);
    NUMBER(MQREDIS_VERBATIM);
    NUMBER(MQREDIS_BATCH);
    NUMBER(MQREDIS_FAILURE);
    NUMBER(MQREDIS_RAW_ALONE);
    NUMBER(MQREDIS_RAW_BATCH);
    NUMBER(MQREDIS_TOPIC_CHANNEL);
    NUMBER(MQREDIS_TOPIC_PATTERN);
    NUMBER(MQREDIS_TOPIC_SHARD);
    NUMBER(MQREDIS_MESSAGE);
    NUMBER(MQREDIS_SUBSCRIBED);
    NUMBER(MQREDIS_LAGGED);
    NUMBER(MQREDIS_GAP);
    NUMBER(MQREDIS_END);
}

int main(void)
{
    print_reply();
    print_error_and_info();
    print_event();
    print_numbers();
    return 0;
}
