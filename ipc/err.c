/* Names of errors, and the one line that explains them to a person. */
#include "ipc/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ipc/printable.h"

const char *err_str(enum err e)
{
    switch (e) {
    case ERR_OK:
        return "ok";
    case ERR_AGAIN:
        return "try again";
    case ERR_CLOSED:
        return "closed";
    case ERR_TIMEOUT:
        return "timeout";
    case ERR_PROTO:
        return "protocol error";
    case ERR_LIMIT:
        return "limit reached";
    case ERR_INVALID:
        return "invalid";
    case ERR_ABSENT:
        return "absent";
    case ERR_DENIED:
        return "denied";
    case ERR_BUSY:
        return "busy";
    case ERR_NOMEM:
        return "out of memory";
    case ERR_SYS:
        return "system error";
    }
    return "unknown error";
}

enum err err_say(struct err_text *why, enum err e, const char *fmt, ...)
{
    if (why == NULL)
        return e;
    int saved = errno;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why->text, sizeof(why->text), fmt, ap);
    va_end(ap);
    printable_only(why->text, strlen(why->text));
    errno = saved;
    return e;
}
