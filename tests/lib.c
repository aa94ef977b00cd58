/* Handles and replies for the library's suites. */
#include "tests/lib.h"

#include <stdio.h>

struct mqredis *lib_open(const struct e2e_manager *m)
{
    struct mqredis_error why;
    struct mqredis *mq = mqredis_open(m->channel, &why);
    ck_assert_msg(mq != NULL, "%s", why.text);
    return mq;
}

const char *lib_text(const struct mqredis_reply *reply)
{
    static char text[1024];
    if (reply->type == MQREDIS_NIL)
        return "(nil)";
    if (reply->type == MQREDIS_FAILURE)
        snprintf(text, sizeof(text), "%s: %s",
                 mqredis_status_str(reply->status), reply->str);
    else if (reply->str == NULL)
        snprintf(text, sizeof(text), "%lld", (long long)reply->integer);
    else
        return reply->str;
    return text;
}

enum mqredis_status lib_status(struct mqredis_reply *reply)
{
    enum mqredis_status s = reply->status;
    mqredis_free(reply);
    return s;
}
