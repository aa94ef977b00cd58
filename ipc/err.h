/*
 * Errors of the whole project.
 *
 * A function that can fail returns `enum err` and writes its results through
 * out pointers, only on success. Functions that meet a person's mistake or the
 * machine's limits (opening a channel, parsing an option) take a `struct
 * err_text` too and leave one finished line there: what, where, what to do.
 */
#ifndef IPC_ERR_H
#define IPC_ERR_H

#include <stddef.h>

enum err {
    ERR_OK = 0,
    ERR_AGAIN,   /* nothing there now, or the input is not whole yet */
    ERR_CLOSED,  /* the other side is gone */
    ERR_TIMEOUT, /* the deadline passed */
    ERR_PROTO,   /* bytes from the other side break the protocol */
    ERR_LIMIT,   /* a named bound is reached */
    ERR_INVALID, /* the caller's argument is refused */
    ERR_ABSENT,  /* no such thing */
    ERR_DENIED,  /* not permitted, or not trusted */
    ERR_BUSY,    /* somebody else has it */
    ERR_NOMEM,   /* out of memory */
    ERR_SYS      /* a system call failed; errno says why */
};

#define ERR_TEXT_MAX 512

/* One line for a person, without a newline. Empty when nothing was said. */
struct err_text {
    char text[ERR_TEXT_MAX];
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* A short name of the error: "timeout". Never NULL, static. */
const char *err_str(enum err e);

/* Formats the line into `why` (which may be NULL), cutting what does not fit,
 * with '?' for what a terminal would obey rather than show, and returns `e`, so that a failing path reads `return err_say(...)`.
 * Preserves errno. */
enum err err_say(struct err_text *why, enum err e, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

#endif
