/* Commands from a descriptor: lines, or RESP, from a buffer that is filled when
 * it has no whole one. */
#ifndef WORKERS_INPUT_H
#define WORKERS_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/resp.h"

/* The longest line or command. */
#define INPUT_MAX ((size_t)512 << 20)

struct input {
    int fd;
    char *buf;
    size_t start, end, cap; /* what was read and not taken: [start, end) */
    size_t scanned;         /* of that, known to hold no end */
    struct resp_scan scan;  /* of the RESP command at `start` */
    bool eof;
    uint64_t number;       /* of the line or command given last, from 1 */
    struct resp_arg *args; /* of the command given last */
    size_t args_cap;
};

void input_init(struct input *in, int fd);
void input_release(struct input *in);

/*
 * Gives the next command that is whole in the buffer: in->args, *argc of them
 * (0: a blank line), valid until the next call. With `resp`, what begins with
 * '*' is read as RESP. ERR_AGAIN: there is none, fill it. ERR_CLOSED: the end.
 * ERR_INVALID: quotes that do not close; skipped. ERR_PROTO: not RESP, or cut
 * short by the end; nothing can follow. ERR_LIMIT: longer than INPUT_MAX.
 * ERR_NOMEM.
 */
MUST_CHECK enum err input_next(struct input *in, bool resp, size_t *argc);

/* Reads once, sleeping until there is something. ERR_OK also at the end;
 * ERR_LIMIT, ERR_NOMEM; ERR_SYS. */
MUST_CHECK enum err input_fill(struct input *in);

/* Whether input_fill would not sleep. */
bool input_ready(const struct input *in);

#endif
