/* The worker of the sweeps: what takes other ways through a manager. */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/faults/acts_parts.h"
#include "tests/support.h"

#define LARGE_REPLY 1000000

static void block_and_die(const char *channel)
{
    struct mqredis *mq = mqredis_open(channel, NULL);
    if (mq != NULL) {
        mqredis_submit(mq, "BLPOP nothing 5");
        mqredis_flush(mq);
        support_sleep_ms(2);
    }
    raise(SIGKILL);
}

void acts_served(struct acts *a, const char *channel)
{
    static const char notbusy[] = "NOTBUSY No scripts in execution right now.";
    acts_step(a, "served");
    struct mqredis *mq = mqredis_open(channel, NULL);
    if (mq == NULL)
        return;
    mqredis_set_timeout(mq, a->timeout_ms);
    pid_t pid = fork();
    if (pid == 0)
        block_and_die(channel);
    char key[ACTS_KEY_SIZE];
    snprintf(key, sizeof(key), "long:%llu", (unsigned long long)a->id);
    struct mqredis_reply *r =
        mqredis_command(mq, "SETRANGE %s %d x", key, LARGE_REPLY - 1);
    bool set = r->status == MQREDIS_OK;
    acts_expect(a, r, MQREDIS_INTEGER, 0);
    uint64_t t0;
    /* The second time it is known to be large, and goes another way. */
    for (int i = 0; set && i < 2; i++) {
        t0 = clock_ns();
        acts_expect(a, mqredis_get(mq, key), MQREDIS_STRING, LARGE_REPLY);
        acts_note_time(a, t0);
    }
    t0 = clock_ns();
    acts_expect(a, mqredis_command(mq, "BLPOP nothing 0.02"), MQREDIS_NIL, 0);
    acts_note_time(a, t0);
    t0 = clock_ns();
    acts_expect(a, mqredis_command(mq, "SCRIPT KILL"), MQREDIS_ERROR,
                sizeof(notbusy) - 1);
    acts_note_time(a, t0);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    mqredis_close(mq);
}
