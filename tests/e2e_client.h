/*
 * A requester made of ipc/ alone: what the library does, one step at a time, so
 * that a test can stop between any two of them and send what no library would.
 *
 * Nothing here fails a test by itself, so it serves in forked children too;
 * except that what can't be forked does, see support.h.
 */
#ifndef TESTS_E2E_CLIENT_H
#define TESTS_E2E_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/channel.h"
#include "ipc/message.h"
#include "ipc/mpsc.h"
#include "ipc/oneshot.h"
#include "ipc/random.h"

struct e2e_client {
    struct channel ch;
    struct mpsc_sender tx;
    struct oneshot_pool pool;
    struct random_stream ids;
    char message[8192]; /* header and payload of the next one */
};

/* A request under way. */
struct e2e_call {
    struct message_header header;
    struct oneshot slot;
    struct reply_stream stream;
    /* What came so far. */
    uint32_t ended[REPLY_STATUS_COUNT]; /* commands by status */
    char *data; /* OK replies, one after the other; freed by the next
                   e2e_begin on this call, or e2e_forget */
    size_t len, room;
    char text[ERR_TEXT_MAX]; /* the last word of the manager */
};

/* How a request ended: the exit codes of the design. */
enum e2e_end {
    E2E_OK = 0,
    E2E_REFUSED = 1,      /* invalid, or too big */
    E2E_BROKEN = 2,       /* not an answer to this request: never right */
    E2E_UNAVAILABLE = 69, /* not executed */
    E2E_EXPIRED = 75,     /* not executed */
    E2E_LOST = 76         /* nobody knows: HUP, or the manager's word */
};

/* Joins the channel. ERR_ABSENT and its kin as mpsc_open. */
MUST_CHECK enum err e2e_client_open(struct e2e_client *c, const char *channel);
void e2e_client_close(struct e2e_client *c);

/* Makes a header for a payload that follows and takes a reply pipe. *call is
 * zeroed, or one that was used before. ERR_SYS. */
MUST_CHECK enum err e2e_begin(struct e2e_client *c, struct e2e_call *call,
                              uint32_t ncommands, const char *payload,
                              size_t len, int64_t timeout_ms);

/* Puts commands into `buf` as RESP, given as text: words are split at spaces,
 * commands at " ; ". Returns the length; *ncommands may be NULL. */
size_t e2e_commands(char *buf, size_t size, uint32_t *ncommands,
                    const char *text);

/* Puts call->header and the payload on the queue. As mpsc_send. */
MUST_CHECK enum err e2e_send(struct e2e_client *c, struct e2e_call *call);

/* Waits for the whole answer, until the deadline of the call and a little
 * longer: one that never comes is E2E_LOST, with the pipe thrown away. */
enum e2e_end e2e_finish(struct e2e_client *c, struct e2e_call *call);

/* All of the above: commands as text. ERR_TIMEOUT of the send is E2E_EXPIRED,
 * ERR_CLOSED E2E_UNAVAILABLE. The reply is in call->data. */
enum e2e_end e2e_ask(struct e2e_client *c, struct e2e_call *call,
                     int64_t timeout_ms, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The same with flags (MESSAGE_INDEPENDENT) and a ready payload. */
enum e2e_end e2e_ask_raw(struct e2e_client *c, struct e2e_call *call,
                         uint16_t flags, uint32_t ncommands,
                         const char *payload, size_t len, int64_t timeout_ms);

/* Whether the answer so far is exactly this text. */
bool e2e_is(const struct e2e_call *call, const char *text);

/* Throws the pipe of a call away that is not finished, and its memory. */
void e2e_forget(struct e2e_client *c, struct e2e_call *call);

/* ---- a process that asks one thing ---- */

enum e2e_stage { E2E_STARTED, E2E_JOINED, E2E_SENT, E2E_DONE };

/* Lies in shared memory (support_shared). */
struct e2e_actor {
    pid_t pid;
    char channel[48];
    char command[128];
    int64_t timeout_ms;
    bool deaf; /* sends, and then sleeps instead of reading */
    _Atomic int stage;
    /* Once it is done: */
    enum e2e_end end;
    uint64_t end_ns; /* CLOCK_MONOTONIC */
    char data[128];  /* the reply's first bytes, NUL-terminated */
    char text[256];  /* the manager's word */
};

/* Forks the process: it joins the channel, asks, notes the answer, ends. */
void e2e_actor_start(struct e2e_actor *a, const char *channel,
                     int64_t timeout_ms, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Waits until it has come so far; false: not in time. */
bool e2e_actor_reaches(const struct e2e_actor *a, enum e2e_stage stage);

#endif
