/* mqredis-server: options, signals, one line when ready, and the loop. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "server/options.h"
#include "server/server.h"

static void say(const char *text)
{
    fprintf(stderr, "mqredis-server: %s\n", text);
}

static void signalled(struct server *s, struct source *source, uint32_t events)
{
    (void)events;
    struct signalfd_siginfo info;
    if (read(source->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        server_stop(s);
}

/* SIGTERM and SIGINT become readable in the loop; a client that goes away
 * while it is written to is no reason to die. */
static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0 ||
        signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return -1;
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void announce(const struct server *s)
{
    const struct options *o = &s->options;
    printf("mqredis-server: ready on");
    for (size_t i = 0; i < o->bind_count; i++) {
        bool v6 = strchr(o->bind[i], ':') != NULL;
        printf(" %s%s%s:%d", v6 ? "[" : "", o->bind[i], v6 ? "]" : "",
               server_port(s));
    }
    if (o->unix_socket != NULL)
        printf(" %s", o->unix_socket);
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct options options;
    struct err_text why = {{0}};
    enum options_verdict verdict;
    options_defaults(&options);
    if (options_parse(&options, argc, argv, &verdict, &why) != ERR_OK) {
        say(why.text);
        return EX_USAGE;
    }
    if (verdict == OPTIONS_HELP) {
        fputs(options_help(), stdout);
        return EXIT_SUCCESS;
    }
    if (verdict == OPTIONS_VERSION) {
        printf("mqredis-server %s (as Redis %s)\n", SERVER_VERSION,
               SERVER_REDIS_VERSION);
        return EXIT_SUCCESS;
    }
    int status = EXIT_FAILURE;
    struct server *s = NULL;
    struct source signals = {.fd = open_signals(), .ready = signalled};
    if (signals.fd < 0) {
        fprintf(stderr, "mqredis-server: cannot wait for signals: %s\n",
                strerror(errno));
        goto out;
    }
    if (server_new(&s, &options, &why) != ERR_OK) {
        say(why.text);
        goto out;
    }
    if (!server_watch(s, &signals, EPOLLIN)) {
        say("cannot wait for signals");
        goto out;
    }
    announce(s);
    server_run(s);
    status = EXIT_SUCCESS;

out:
    server_free(s);
    if (signals.fd >= 0)
        close(signals.fd);
    return status;
}
