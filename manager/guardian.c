/* The manager's last will, and who carries it out. */
#include "manager/guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/message.h"
#include "ipc/oneshot.h"
#include "ipc/payload.h"
#include "manager/log.h"

/* ---- what is left to be said ---- */

size_t last_words(const struct mpsc_receiver *rx, const struct channel *ch,
                  struct status *status, const char *text)
{
    size_t count = 0, len;
    unsigned priority;
    char *message = malloc(rx->msgsize);
    if (message == NULL)
        return 0;
    while (mpsc_receive(rx, message, rx->msgsize, &len, &priority) == ERR_OK) {
        struct message_header h;
        const char *payload;
        status_count(status, COUNTER_messages, 1);
        if (message_parse(message, len, priority, &h, &payload, NULL) !=
            ERR_OK) {
            status_count(status, COUNTER_garbage, 1);
            continue;
        }
        bool told = oneshot_tell(ch->reply_fd, &h, REPLY_UNAVAILABLE, text);
        status_count(status, COUNTER_taken, h.ncommands);
        status_count(status, told ? COUNTER_unavailable : COUNTER_gone,
                     h.ncommands);
        count += h.ncommands;
    }
    free(message);
    return count;
}

void clean_up(const struct estate *estate)
{
    if (!mpsc_senders_left(estate->rx)) {
        mpsc_unlink(estate->rx);
        channel_remove(estate->channel);
        return;
    }
    const struct channel *ch = estate->channel;
    size_t pipes = 0, payloads = 0;
    if (oneshot_sweep(ch->reply_fd, &pipes) != ERR_OK ||
        payload_sweep(ch->payload_fd, ch->reply_fd, &payloads) != ERR_OK)
        log_warn("cannot sweep %s: %s", ch->dir, strerror(errno));
    if (estate->status != NULL)
        status_count(estate->status, COUNTER_swept, pipes + payloads);
}

/* ---- the process ---- */

/* Closes everything but what the estate needs and standard error. */
static void close_others(const struct estate *e, int life)
{
    const int keep[] = {STDERR_FILENO,
                        life,
                        e->rx->mq,
                        e->rx->senders_fd,
                        e->rx->receiver_fd,
                        e->lock_fd,
                        e->channel->dirfd,
                        e->channel->reply_fd,
                        e->channel->payload_fd};
    int from = 0;
    for (;;) {
        int next = -1;
        for (size_t i = 0; i < sizeof(keep) / sizeof(keep[0]); i++)
            if (keep[i] >= from && (next < 0 || keep[i] < next))
                next = keep[i];
        if (next < 0)
            break;
        if (next > from)
            close_range((unsigned)from, (unsigned)next - 1, 0);
        from = next + 1;
    }
    close_range((unsigned)from, ~0U, 0);
}

/* Waits for the manager's end. True: it said that all is well. */
static bool wait_for_end(int life)
{
    char word;
    for (;;) {
        ssize_t n = read(life, &word, 1);
        if (n >= 0)
            return n == 1;
        if (errno != EINTR)
            return false;
    }
}

static void take_over(const struct estate *e)
{
    /* The lock is held through the descriptor that the manager left us, unless
     * it gave the channel to a successor before it died. */
    while (flock(e->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EINTR)
            continue;
        if (errno != EWOULDBLOCK)
            log_error("the manager (pid %ld) died, and its lock cannot be "
                      "looked at: %s; the next one cleans up",
                      (long)e->state->pid, strerror(errno));
        return;
    }
    snprintf(e->state->error, sizeof(e->state->error),
             "the manager was killed");
    status_set_state(e->status, e->state, STATE_DIED);
    static const char text[] =
        "the manager died while the command was queued; it was not executed";
    size_t count = last_words(e->rx, e->channel, e->status, text);
    log_error("the manager (pid %ld) died; %zu queued commands were answered "
              "unavailable",
              (long)e->state->pid, count);
    clean_up(e);
}

static void __attribute__((noreturn))
guardian_main(const struct estate *estate, int life)
{
    prctl(PR_SET_NAME, "mqredis-guard");
    /* Whoever ends the manager's group ends us too early; what the terminal
     * or systemd sends to all is meant for the manager. */
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    signal(SIGPIPE, SIG_IGN);
    close_others(estate, life);
    if (chdir("/") < 0)
        log_warn("guardian: cannot leave its folder: %s", strerror(errno));
    if (!wait_for_end(life))
        take_over(estate);
    _exit(0);
}

enum err guardian_start(struct guardian *g, const struct estate *estate)
{
    int life[2];
    if (pipe2(life, O_CLOEXEC) < 0)
        return ERR_SYS;
    pid_t pid = fork();
    if (pid < 0) {
        close(life[0]);
        close(life[1]);
        return ERR_SYS;
    }
    if (pid == 0) {
        close(life[1]);
        guardian_main(estate, life[0]);
    }
    close(life[0]);
    g->pid = pid;
    g->life = life[1];
    return ERR_OK;
}

void guardian_dismiss(struct guardian *g)
{
    if (g->pid == 0)
        return;
    ssize_t n = write(g->life, "q", 1);
    (void)n; /* EPIPE: it is gone already */
    close(g->life);
    while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    g->pid = 0;
}
