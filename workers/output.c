/* What mqredis-worker prints, and with what status it ends. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ipc/printable.h"
#include "workers/worker.h"

int exit_code_of(enum mqredis_status status)
{
    switch (status) {
    case MQREDIS_OK:
        return 0;
    case MQREDIS_INVALID:
    case MQREDIS_TOO_BIG:
        return 1;
    case MQREDIS_EXPIRED:
        return EXIT_EXPIRED;
    case MQREDIS_LOST:
        return EXIT_UNKNOWN;
    case MQREDIS_UNAVAILABLE:
    case MQREDIS_NOMEM:
    case MQREDIS_SYSTEM:
        break;
    }
    return EXIT_UNAVAILABLE;
}

static void fail_with(struct worker *w, int code)
{
    if (code > w->exit_code)
        w->exit_code = code;
}

void worker_say(struct worker *w, int code, const char *format, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    printable_only(text, strlen(text));
    fprintf(stderr, "mqredis-worker: %s\n", text);
    fail_with(w, code);
}

static void take_failure(struct worker *w, const struct mqredis_raw *raw,
                         uint64_t line)
{
    int code = exit_code_of(raw->status);
    fail_with(w, code);
    w->failures++;
    if (line == 0)
        worker_say(w, code, "%s", raw->data);
    else if (w->failures <= FAILURES_SHOWN)
        worker_say(w, code, "line %llu: %s", (unsigned long long)line,
                   raw->data);
    else if (w->failures == FAILURES_SHOWN + 1)
        worker_say(w, code, "further failures are counted, not shown");
}

bool worker_flush(struct worker *w)
{
    if (fflush(stdout) == 0)
        return true;
    worker_say(w, 1, "cannot write the output: %s", strerror(errno));
    return false;
}

/* Counts a reply without printing it. */
static bool count_reply(const char *data, size_t len, size_t *used)
{
    struct resp_scan scan;
    resp_scan_reset(&scan);
    return resp_scan(&scan, data, len, used) == ERR_OK;
}

bool worker_take(struct worker *w, const struct mqredis_raw *raw, uint64_t line)
{
    if (raw->status != MQREDIS_OK) {
        take_failure(w, raw, line);
        return true;
    }
    const char *at = raw->data;
    size_t left = raw->len;
    while (left > 0) {
        size_t used = 0;
        w->replies++;
        if (*at == '-' || *at == '!') {
            w->errors++;
            fail_with(w, 1);
        }
        enum err e = ERR_OK;
        if (!w->quiet)
            e = resp_print(stdout, at, left, w->format, &used);
        else if (!count_reply(at, left, &used))
            e = ERR_PROTO;
        if (e == ERR_SYS) {
            worker_say(w, 1, "cannot write the output: %s", strerror(errno));
            return false;
        }
        if (e != ERR_OK || used == 0) {
            worker_say(w, EXIT_UNKNOWN, "the reply cannot be read");
            return true;
        }
        at += used;
        left -= used;
    }
    return true;
}
