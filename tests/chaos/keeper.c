/* A signal set is waited for, nothing else happens here. */
#include "tests/chaos/keeper.h"

#include <errno.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support.h"

void keeper_end_children(void (*say)(void *context, long pid), void *context)
{
    char path[64], text[4096];
    snprintf(path, sizeof(path), "/proc/self/task/%ld/children",
             (long)getpid());
    for (;;) {
        FILE *f = fopen(path, "re");
        bool any = f != NULL && fgets(text, sizeof(text), f) != NULL;
        if (f != NULL)
            fclose(f);
        char *rest = text;
        for (char *word; any && (word = strsep(&rest, " ")) != NULL;) {
            long pid = atol(word);
            if (pid <= 0)
                continue;
            if (say != NULL)
                say(context, pid);
            kill((pid_t)pid, SIGKILL);
            waitpid((pid_t)pid, NULL, 0);
        }
        if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
            return;
        support_sleep_ms(2);
    }
}

static void become_harness(int (*harness)(void *arg), void *arg,
                           const sigset_t *before, pid_t parent)
{
    /* A terminal's signals are the keeper's affair. */
    setpgid(0, 0);
    sigprocmask(SIG_SETMASK, before, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    exit(harness(arg));
}

/* Waits for the harness. 0: it ended with *status; else the signal that is to
 * end us. */
static int wait_for(pid_t pid, const sigset_t *signals, int *status)
{
    for (;;) {
        int got = sigwaitinfo(signals, NULL);
        if (got == SIGCHLD) {
            /* Whoever else ended is an orphan of the harness. */
            pid_t ended = waitpid(pid, status, WNOHANG);
            if (ended == pid)
                return 0;
        } else if (got > 0) {
            kill(pid, SIGKILL);
            waitpid(pid, status, 0);
            return got;
        }
    }
}

int keeper_run(int (*harness)(void *arg), void *arg, struct remains *remains)
{
    sigset_t signals, before;
    int status = 0;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, &before);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        perror("chaos: cannot fork");
        return 1;
    }
    if (pid == 0)
        become_harness(harness, arg, &before, parent);
    int by = wait_for(pid, &signals, &status);
    keeper_end_children(NULL, NULL);
    for (unsigned i = 0; i < remains->queue_count; i++)
        mq_unlink(remains->queues[i]);
    if (remains->dir[0] != '\0')
        support_remove(remains->dir);
    if (remains->certificates[0] != '\0')
        support_remove(remains->certificates);
    if (by != 0) {
        fprintf(stderr, "chaos: ended by signal %d, cleaned up\n", by);
        signal(by, SIG_DFL);
        sigprocmask(SIG_SETMASK, &before, NULL);
        raise(by);
    }
    if (WIFSIGNALED(status))
        fprintf(stderr, "chaos: the harness died of signal %d\n",
                WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
