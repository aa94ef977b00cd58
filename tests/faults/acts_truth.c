/* What became of the acts of the sweeps' worker, as Redis knows it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/faults/acts_parts.h"

/* Whether a node says that another one has it. */
static bool elsewhere(const char *reply)
{
    return strncmp(reply, "-MOVED ", 7) == 0 || strncmp(reply, "-ASK ", 5) == 0;
}

/* What a key has had added to it, in all servers together; -1: it is no
 * number. Of a cluster one has it, and while its slot moves that one may have
 * to be told that it is asked all the same. */
static long added(const char *command, struct redis_link *links, int count)
{
    long sum = 0;
    bool ask = false;
    for (int i = 0; i < 2 * count; i++) {
        struct redis_link *link = &links[i % count];
        if (i == count && !ask)
            break;
        if (i >= count)
            redis_link_ask(link, "ASKING");
        const char *text = redis_link_ask(link, command);
        ask |= strncmp(text, "-ASK ", 5) == 0;
        if (elsewhere(text) || strncmp(text, "$-1", 3) == 0)
            continue;
        if (text[0] == '$')
            text = strchr(text, '\n');
        else if (text[0] != ':')
            text = NULL;
        if (text == NULL)
            return -1;
        sum += strtol(text + 1, NULL, 10);
    }
    return sum;
}

/* How often it was executed; -1: Redis has what no number of times gives. */
static int executed(const struct acts *a, unsigned act,
                    struct redis_link *links, int count)
{
    char key[ACTS_KEY_SIZE], command[ACTS_KEY_SIZE + 16];
    bool large = a->list[act].large;
    snprintf(command, sizeof(command), "%s %s", large ? "STRLEN" : "GET",
             acts_key(a, act, key));
    long n = added(command, links, count);
    long unit = large ? ACTS_LARGE : acts_number(a, act);
    return n >= 0 && n % unit == 0 ? (int)(n / unit) : -1;
}

void acts_verify(struct acts *a, struct redis_link *links, int count)
{
    for (unsigned i = 0; i < a->count; i++) {
        const struct act *act = &a->list[i];
        int times = executed(a, i, links, count);
        snprintf(a->at, sizeof(a->at), "act %u of %u", i, a->count);
        /* "Too big" may be a reply that was cut off, "invalid" a file that
         * could not be read to its end: both say so. */
        bool open = !act->told || act->status == MQREDIS_LOST ||
                    act->status == MQREDIS_TOO_BIG ||
                    (act->large && act->status == MQREDIS_INVALID);
        if (times < 0 || times > 1)
            acts_wrong(a, "executed %d times", times);
        else if (open)
            continue;
        else if (act->status == MQREDIS_OK && times != 1)
            acts_wrong(a, "answered, but not executed");
        else if (act->status != MQREDIS_OK && times != 0)
            acts_wrong(a, "%s, but executed", mqredis_status_str(act->status));
    }
}
