/*
 * Commands typed at a terminal, with a prompt. Where lines are edited, command
 * names are completed from what the server itself says it knows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ipc/channel.h"
#include "ipc/quote.h"
#include "workers/worker.h"

#define ARGS_MAX 1024

static int compare_names(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;
    return strcmp(*x, *y);
}

/* The names in COMMAND's reply, sorted, in one piece of memory that lives as
 * long as `reply`. NULL: it gave none, and nothing is completed. */
static const char **command_names(const struct mqredis_reply *reply,
                                  size_t *count)
{
    if (reply->type != MQREDIS_ARRAY || reply->elements == 0)
        return NULL;
    const char **names = malloc(reply->elements * sizeof(*names));
    size_t n = 0;
    for (size_t i = 0; names != NULL && i < reply->elements; i++) {
        const struct mqredis_reply *row = reply->element[i];
        if (row->type == MQREDIS_ARRAY && row->elements > 0 &&
            row->element[0]->str != NULL)
            names[n++] = row->element[0]->str;
    }
    if (n > 0)
        qsort(names, n, sizeof(*names), compare_names);
    *count = n;
    return names;
}

static bool is_end(const struct resp_arg *arg)
{
    return (arg->len == 4 && (strncasecmp(arg->data, "quit", 4) == 0 ||
                              strncasecmp(arg->data, "exit", 4) == 0));
}

/* Runs one line. False: the user wants to leave. */
static bool run_line(struct worker *w, char *line)
{
    struct resp_arg args[ARGS_MAX];
    const char *argv[ARGS_MAX];
    size_t len[ARGS_MAX];
    size_t argc;
    enum err e = quote_split(line, strlen(line), args, ARGS_MAX, &argc);
    if (e != ERR_OK) {
        if (e == ERR_LIMIT)
            worker_say(w, 1, "more than %d arguments", ARGS_MAX);
        else
            worker_say(w, 1, "quotes do not close");
        return true;
    }
    if (argc == 0)
        return true;
    if (argc == 1 && is_end(&args[0]))
        return false;
    for (size_t i = 0; i < argc; i++) {
        argv[i] = args[i].data;
        len[i] = args[i].len;
    }
    struct mqredis_raw *raw = mqredis_command_raw(w->mq, argc, argv, len);
    bool ok = worker_take(w, raw, 0) && worker_flush(w);
    mqredis_raw_free(raw);
    return ok;
}

void prompt_run(struct worker *w)
{
    const char *channel = w->options->channel;
    if (channel == NULL)
        channel = getenv("MQREDIS_CHANNEL");
    if (channel == NULL || channel[0] == '\0')
        channel = CHANNEL_DEFAULT;
    char prompt[CHANNEL_NAME_MAX + 4];
    snprintf(prompt, sizeof(prompt), "%.64s> ", channel);
    struct mqredis_reply *commands = NULL;
    const char **names = NULL;
    size_t count = 0;
    if (line_edits) {
        commands = mqredis_command(w->mq, "COMMAND");
        names = command_names(commands, &count);
    }
    line_start(names, count);
    char *line;
    while ((line = line_read(prompt)) != NULL) {
        line_remember(line);
        bool more = run_line(w, line);
        free(line);
        if (!more)
            break;
    }
    line_stop();
    free(names);
    mqredis_free(commands);
    /* Each error was seen when it came. */
    w->exit_code = 0;
}
