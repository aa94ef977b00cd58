/* A manager that lies, and a handle. */
#include "tests/liar_scene.h"

#include <check.h>
#include <stdio.h>

#include "tests/support.h"

struct liar liar;
struct mqredis *mq;
struct mqredis_error why;

void begin(void)
{
    liar_start(&liar);
    mq = mqredis_open(liar.ch.name, &why);
    ck_assert_msg(mq != NULL, "%s", why.text);
}

void end(void)
{
    mqredis_close(mq);
    liar_stop(&liar);
}

int reply_pipes(void)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/reply", liar.ch.name);
    return support_count_entries(support_path(path));
}
