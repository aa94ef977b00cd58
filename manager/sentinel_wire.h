/*
 * A connection to one sentinel after the other: commands go out, whole replies
 * come in. It does not connect again by itself. And how those who use it pace
 * their attempts and show places.
 */
#ifndef MANAGER_SENTINEL_WIRE_H
#define MANAGER_SENTINEL_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/resp.h"
#include "manager/buffer.h"
#include "manager/conn.h"
#include "manager/uri.h"

struct sentinel_wire {
    struct conn conn;
    struct conn_options options;
    struct uri_place at;
    struct resp_scan scan;
    struct buffer frame;     /* of the current reply, what came so far */
    struct err_text refused; /* by the sentinel, what we asked for */
    void (*changed)(void *context);
    enum err (*reply)(void *context, const char *data, size_t len);
    void *context;
};

/*
 * `changed` is called as conn.h's; `reply` gets each whole reply, and what it
 * returns that is no ERR_OK breaks the connection. All is borrowed. ERR_NOMEM,
 * after which sentinel_wire_release is right, too.
 */
MUST_CHECK enum err sentinel_wire_init(
    struct sentinel_wire *w, struct loop *loop, struct answers *answers,
    void (*changed)(void *context),
    enum err (*reply)(void *context, const char *data, size_t len),
    void *context);
void sentinel_wire_release(struct sentinel_wire *w);

/* Other options, for connections to come. */
void sentinel_wire_options(struct sentinel_wire *w,
                           const struct conn_options *options);

void sentinel_wire_start(struct sentinel_wire *w, const struct uri_place *to);
void sentinel_wire_stop(struct sentinel_wire *w);

/* Queues a command; its reply is found by sentinel_wire_answer. ERR_LIMIT,
 * ERR_NOMEM. */
MUST_CHECK enum err sentinel_wire_say(struct sentinel_wire *w, uint32_t tag,
                                      size_t argc, const struct resp_arg *argv);

/* Within `reply`: which command this answers. False: none. */
bool sentinel_wire_answer(struct sentinel_wire *w, uint32_t *tag);

/* Notes an error that the sentinel says, as far as it may be shown on one
 * line. */
void sentinel_wire_refuse(struct sentinel_wire *w, const char *data,
                          size_t len);

/* A command's word. */
struct resp_arg sentinel_arg(const char *text);

/* ---- pace ---- */

/* From half of it to all of it: many hosts must not ask in step. */
uint64_t sentinel_jittered_ns(uint64_t ms);

/* How long until the next attempt: doubling with each, up to `last_ms`. */
uint64_t sentinel_pace_ns(uint32_t *attempt, uint64_t last_ms);

/* The place as text; two at a time, in static storage. */
const char *sentinel_show(const struct uri_place *place);

#endif
