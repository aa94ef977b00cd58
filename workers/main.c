/*
 * mqredis-worker: Redis commands from the shell, through the host's shared
 * connection. One command is the path that must be short: it opens the channel,
 * sends, prints, and is gone.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/version.h"
#include "workers/handle.h"
#include "workers/worker.h"

/* The longest -x argument; Redis takes 512 MB. */
#define STDIN_MAX ((size_t)512 << 20)

/* ---- one command ---- */

/* Reads standard input to its end. NULL: errno says why. */
static char *read_all(size_t *len)
{
    size_t cap = 65536, n = 0;
    char *data = malloc(cap);
    while (data != NULL) {
        if (n == cap) {
            char *grown = cap >= STDIN_MAX ? NULL : realloc(data, cap * 2);
            if (grown == NULL) {
                errno = cap >= STDIN_MAX ? EFBIG : ENOMEM;
                break;
            }
            data = grown;
            cap *= 2;
        }
        ssize_t got = read(STDIN_FILENO, data + n, cap - n);
        if (got == 0) {
            *len = n;
            return data;
        }
        if (got < 0 && errno != EINTR)
            break;
        n += got > 0 ? (size_t)got : 0;
    }
    free(data);
    return NULL;
}

static void pause_ns(uint64_t ns)
{
    struct timespec left = {.tv_sec = (time_t)(ns / NS_PER_S),
                            .tv_nsec = (long)(ns % NS_PER_S)};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

static void run_command(struct worker *w, size_t argc, const char **argv,
                        const size_t *len)
{
    const struct options *o = w->options;
    for (int64_t i = 0; o->repeat < 0 || i < o->repeat; i++) {
        if (i > 0 && o->interval_ns > 0)
            pause_ns(o->interval_ns);
        struct mqredis_raw *raw = mqredis_command_raw(w->mq, argc, argv, len);
        bool ok = worker_take(w, raw, 0);
        mqredis_raw_free(raw);
        /* Who repeats watches: nothing stays in the buffer. */
        if (!ok || !worker_flush(w))
            return;
    }
}

static void command_run(struct worker *w)
{
    const struct options *o = w->options;
    size_t argc = (size_t)o->argc;
    size_t total = argc + o->last_from_stdin;
    const char *few[16];
    size_t few_len[16];
    const char **argv = few;
    size_t *len = few_len;
    char *last = NULL;
    if (total > 16) {
        argv = malloc(total * sizeof(*argv));
        len = malloc(total * sizeof(*len));
        if (argv == NULL || len == NULL) {
            worker_say(w, EXIT_UNAVAILABLE, "out of memory");
            goto out;
        }
    }
    for (size_t i = 0; i < argc; i++) {
        argv[i] = o->argv[i];
        len[i] = strlen(argv[i]);
    }
    if (o->last_from_stdin) {
        last = read_all(&len[argc]);
        argv[argc] = last;
        if (last == NULL) {
            worker_say(w, 1, "cannot read standard input: %s: not executed",
                       strerror(errno));
            goto out;
        }
    }
    run_command(w, total, argv, len);
out:
    free(last);
    if (argv != few)
        free(argv);
    if (len != few_len)
        free(len);
}

/* ---- the prompt's own program ---- */

/* Line editing needs a library, which this program does without: its twin has
 * it, beside this one or where it was installed. Returns if there is none. */
static void become_prompt(char **argv)
{
    static const char *const places[] = {"mqredis-prompt",
                                         "../libexec/mqredis/mqredis-prompt"};
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (n <= 0)
        return;
    path[n] = '\0';
    char *name = strrchr(path, '/');
    name = name != NULL ? name + 1 : path;
    size_t room = sizeof(path) - (size_t)(name - path);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (snprintf(name, room, "%s", places[i]) < (int)room)
            execv(path, argv);
    }
}

/* ---- putting it together ---- */

static enum resp_format choose_format(const struct options *o)
{
    switch (o->output) {
    case OUTPUT_TTY:
        return RESP_FORMAT_TTY;
    case OUTPUT_RAW:
        return RESP_FORMAT_RAW;
    case OUTPUT_JSON:
        return RESP_FORMAT_JSON;
    case OUTPUT_AUTO:
        break;
    }
    return isatty(STDOUT_FILENO) ? RESP_FORMAT_TTY : RESP_FORMAT_RAW;
}

static bool open_channel(struct worker *w)
{
    const struct options *o = w->options;
    struct mqredis_error error;
    w->mq = mqredis_open(o->channel, &error);
    if (w->mq == NULL) {
        worker_say(w,
                   error.status == MQREDIS_INVALID ? EXIT_USAGE
                                                   : exit_code_of(error.status),
                   "%s", error.text);
        return false;
    }
    mqredis_set_timeout(w->mq, o->timeout_ms);
    mqredis_set_spin(w->mq, (unsigned)o->spin_us);
    if (o->wait_ms == 0)
        return true;
    enum mqredis_status s = mqredis_wait_ready(w->mq, o->wait_ms, &error);
    if (s != MQREDIS_OK)
        worker_say(w, exit_code_of(s), "%s", error.text);
    return s == MQREDIS_OK;
}

int main(int argc, char **argv)
{
    struct options o;
    struct err_text why;
    struct worker w = {.options = &o};
    if (options_parse(&o, argc, argv, &why) != ERR_OK) {
        worker_say(&w, EXIT_USAGE, "%s", why.text);
        return w.exit_code;
    }
    if (o.help || o.version) {
        if (o.help)
            fputs(options_help, stdout);
        else
            puts("mqredis-worker " PROJECT_VERSION);
        worker_flush(&w);
        return w.exit_code;
    }
    bool typed = o.argc == 0 && !o.pipe && isatty(STDIN_FILENO);
    if (typed && !line_edits)
        become_prompt(argv);
    static char buffer[65536]; /* stdio would ask what it writes to first */
    setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
    w.format = choose_format(&o);
    w.quiet = o.pipe;
    if (open_channel(&w)) {
        if (is_subscription(&o))
            subscribe_run(&w);
        else if (o.argc > 0)
            command_run(&w);
        else if (typed)
            prompt_run(&w);
        else
            batch_run(&w);
        worker_flush(&w);
    }
    handle_leave(w.mq);
    return w.exit_code;
}
