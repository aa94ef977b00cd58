/*
 * What the library's files share: the handle and what hangs below it.
 *
 *     mqredis ── link (joined channel: queue, liveness, reply pipes)
 *        ├── flights: messages, each with a reply pipe while in flight
 *        │      └── commands, each answering a part of a request
 *        └── requests that are done and not yet collected
 *
 * One mutex guards all of it; it is never held while something sleeps.
 */
#ifndef WORKERS_HANDLE_H
#define WORKERS_HANDLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/channel.h"
#include "ipc/message.h"
#include "ipc/mpsc.h"
#include "ipc/oneshot.h"
#include "ipc/random.h"
#include "ipc/resp.h"
#include "workers/mqredis.h"

/* Messages in flight of one handle's submitted requests, unless it was told
 * otherwise. More wait unsent, where they gather in fewer, fuller messages. */
#define FLIGHTS_MAX 64

/* Messages that wait unsent where submitting may not sleep. */
#define UNSENT_MAX 1024

/* Commands in one message. */
#define COMMANDS_MAX 4096

/* Commands whose deadlines are further apart do not share a message. */
#define DEADLINE_SPREAD_NS (50 * NS_PER_MS)

/* Spent flights kept for the next request. */
#define SPARES_MAX 64

/* The channel as it was joined once. A new manager means a new link; the old
 * one lives until its last flight has landed. */
struct link {
    struct channel ch;
    struct mpsc_sender tx;
    struct oneshot_pool pool;
    struct random_stream ids; /* of requests */
    uint32_t pid;             /* ours, for display */
    unsigned refs;
    bool dead;    /* its manager has gone */
    bool watched; /* tx.receiver_fd is in the handle's epoll set */
};

/* What came for one command. */
struct answer {
    char *data; /* raw reply, or the line of text */
    size_t len, cap;
    enum mqredis_status status;
    bool done;
};

/* Answers of one command, or of a batch. */
struct mqredis_request {
    struct mqredis *mq;
    struct flight *flight;               /* NULL once done */
    struct mqredis_request *prev, *next; /* in mq->done */
    size_t first;                        /* its first command in the flight */
    size_t count;                        /* commands */
    size_t missing;                      /* answers not done */
    size_t offset, bytes; /* its commands in the unsent message */
    void *data;
    bool batch;
    bool done;
    bool listed;            /* in mq->done */
    bool orphan;            /* submitted by the parent of this process */
    struct answer *answers; /* `count`; &one for a single command */
    struct answer one;
};

/* Large arguments that stand as `@LEN` in a message: their bytes, in order. */
struct blobs {
    const struct resp_arg *list;
    size_t count;
};

struct flight_command {
    struct mqredis_request *request; /* NULL: given up */
    struct resp_scan scan;           /* in a message of several commands */
};

enum flight_state {
    FLIGHT_FILLING, /* last of mq->unsent; takes further commands */
    FLIGHT_READY,   /* in mq->unsent, waits to be sent */
    FLIGHT_SENDING, /* first of mq->unsent, a thread sleeps in mpsc_send */
    FLIGHT_SENT,    /* in mq->flights; or owned by a synchronous caller */
    FLIGHT_SPARE    /* in mq->spares */
};

/* One message and its reply. */
struct flight {
    struct flight *prev, *next;
    enum flight_state state;
    bool sync;      /* its caller waits for it by itself */
    bool given_up;  /* nobody wants some of its answers any more */
    bool failed;    /* its pipe can't be used again */
    uint16_t flags; /* enum message_flag */
    struct link *link;
    struct oneshot slot;
    struct reply_stream stream;
    uint64_t started_ns;  /* submitted */
    uint64_t sending_ns;  /* handed to the queue */
    uint64_t queued_ns;   /* the queue took it */
    uint64_t deadline_ns; /* 0: none */
    uint32_t current;     /* command that the chunk's next byte answers */
    char *text;           /* of a chunk that is not OK */
    size_t text_len;
    size_t live; /* requests that still want their answer */
    size_t ncommands, commands_cap;
    struct flight_command *commands;
    size_t len, cap; /* of the message, header included */
    char *buf;       /* the message; once it is sent, what is read */
    struct blobs blobs;
    char *blob_memory; /* of ours; NULL: the blobs are borrowed */
    struct message_header header;
    char *wire; /* what is sent in place of `buf`, if that was too long */
    size_t wire_len;
    uint16_t wire_flags;
};

struct flight_list {
    struct flight *first, *last;
    size_t count;
};

struct mqredis {
    pthread_mutex_t lock;
    pthread_cond_t changed;          /* something below did; CLOCK_MONOTONIC */
    struct mqredis *prev, *next;     /* all handles, for fork */
    char *channel;                   /* as the user named it */
    char name[CHANNEL_NAME_MAX + 1]; /* for messages */
    _Atomic int64_t timeout_ms;
    _Atomic uint32_t spin_us;
    uint32_t prev_rtt_us;
    struct link *link;      /* NULL: not joined */
    struct link *inherited; /* the parent's; closed at the first use */

    struct flight_list unsent;  /* in the order submitted */
    struct flight_list flights; /* sent, the synchronous ones included */
    size_t async_flights;       /* of those, not synchronous */
    size_t window;              /* the most of those */
    struct flight_list spares;
    struct mqredis_request *done_first, *done_last;
    struct mqredis_stream *streams; /* all of them */
    size_t pending;                 /* requests submitted and not done */

    bool sending;       /* a thread empties `unsent` */
    bool polling;       /* a thread sleeps in epoll_wait for all */
    bool events;        /* mqredis_fd was called: never sleep in submit */
    bool manual;        /* and the caller flushes what it submitted */
    bool signalled;     /* eventfd is set */
    bool queue_watched; /* the queue is in the epoll set, for EPOLLOUT */
    int epoll_fd, event_fd, timer_fd;
    uint64_t timer_ns; /* when timer_fd goes off; 0: not armed */
};

/* ---- handle.c ---- */

/* Makes sure that mq->link is joined. Whether its manager still lives is seen
 * by sending, which then marks the link as dead: so one who joins again gets a
 * new one. Lock held; opens files, does not sleep. */
MUST_CHECK enum mqredis_status handle_join(struct mqredis *mq,
                                           struct mqredis_error *why);

void link_unref(struct mqredis *mq, struct link *link);

/* For a process that ends now: removes the names that would stay, and leaves
 * the rest to the kernel. */
void handle_leave(struct mqredis *mq);

/* Makes mq->changed anew. False: out of memory. */
bool handle_init_changed(struct mqredis *mq);

/* Until when a wait that begins now, and ends at `end_ns` (0: open), looks
 * before it sleeps; 0: not at all. */
uint64_t handle_spin_until(struct mqredis *mq, uint64_t end_ns);

/* Deadline of a request that starts at `now`. */
uint64_t handle_deadline(struct mqredis *mq, uint64_t now);

/* Fills *why (may be NULL) and returns `status`. */
enum mqredis_status error_say(struct mqredis_error *why,
                              enum mqredis_status status, const char *format,
                              ...) PRINTF_LIKE(3, 4);

/* ---- flight.c ---- */

/* An empty message with room for `bytes` of commands at least. NULL: out of
 * memory. Lock held, as in all functions of flight.c unless they say else. */
struct flight *flight_get(struct mqredis *mq, size_t bytes);

/* Returns it to the spares. Its slot must be gone. */
void flight_put(struct mqredis *mq, struct flight *f);

/* Room for one more command. False: out of memory. */
bool flight_add_command(struct flight *f, struct mqredis_request *r);

void flight_list_add(struct flight_list *list, struct flight *f);
void flight_list_remove(struct flight_list *list, struct flight *f);

/* Takes a slot, and a payload file where it needs one, and notes what belongs
 * into the message's header. On failure *why says it. */
MUST_CHECK enum mqredis_status
flight_prepare(struct mqredis *mq, struct flight *f, struct mqredis_error *why);

/* Finishes the message, which may mean to write a large payload: without the
 * lock, where others should not wait for that. */
MUST_CHECK enum mqredis_status flight_load(const struct mqredis *mq,
                                           struct flight *f,
                                           struct mqredis_error *why);

/* Copies blobs, so that they last as long as the flight. False: no memory. */
MUST_CHECK bool flight_keep_blobs(struct flight *f, const struct blobs *blobs);

/* spill.c: whether the flight needs a payload file; puts what does not fit into
 * a message into it, and a message in its place into f->wire, its header still
 * to be filled. */
bool flight_is_large(const struct flight *f);
MUST_CHECK enum mqredis_status flight_spill(const struct mqredis *mq,
                                            struct flight *f,
                                            struct mqredis_error *why);

/* Sleeps in the queue, until its deadline or `until_ns` (0: none) if that is
 * earlier. Without the lock. ERR_* of mpsc_send. */
MUST_CHECK enum err flight_send(struct flight *f, uint64_t until_ns);
/* The same without sleep: ERR_AGAIN, the queue is full. */
MUST_CHECK enum err flight_try_send(struct flight *f);

/* Says why sending failed. Without or with the lock. */
enum mqredis_status flight_send_error(const struct mqredis *mq,
                                      const struct flight *f, enum err e,
                                      int saved_errno,
                                      struct mqredis_error *why);

/* landing.c: reads what is in the pipe. ERR_OK: the answer is whole; ERR_AGAIN:
 * not yet; ERR_PROTO, ERR_NOMEM, ERR_SYS: give it up. Locked, unless it is
 * `sync`. */
MUST_CHECK enum err flight_read(struct flight *f);

/* Ends a flight: whatever has no answer gets this status and text, requests
 * become done, the slot goes back if the answer was whole and away otherwise.
 * The flight is in no list. */
void flight_land(struct mqredis *mq, struct flight *f,
                 const struct mqredis_error *failure);

/* Why a flight that was queued has no answer: time, death, a broken one. */
void flight_say_timeout(const struct mqredis *mq, const struct flight *f,
                        uint64_t now, struct mqredis_error *why);
void flight_say_dead(const struct mqredis *mq, struct mqredis_error *why);
void flight_say_broken(const struct mqredis *mq, enum err e,
                       struct mqredis_error *why);

/* Until when a flight that was queued is waited for: a little longer than its
 * deadline, for the manager may know for certain that it was not executed. */
uint64_t flight_give_up_ns(const struct flight *f);

/* ---- request.c ---- */

/* A request of `count` commands. NULL: out of memory. No lock. */
struct mqredis_request *request_new(struct mqredis *mq, size_t count,
                                    bool batch);
/* For a request in the caller's own memory. */
void request_init(struct mqredis_request *r, struct mqredis *mq);
void request_clear(struct mqredis_request *r); /* what init's gathered */
void request_free(struct mqredis_request *r);

/* Sets an answer that is not Redis's (copies the text). */
void answer_fail(struct answer *a, enum mqredis_status status, const char *text,
                 size_t len);
/* Room for `more` bytes behind a->len. False: out of memory. */
bool answer_reserve(struct answer *a, size_t more);

/* Fails all answers that are missing. */
void request_fail(struct mqredis_request *r, const struct mqredis_error *why);

/* Puts a request that is whole into mq->done. Lock held. */
void request_done(struct mqredis *mq, struct mqredis_request *r);
void request_unlist(struct mqredis *mq, struct mqredis_request *r);

/* ---- submit.c ---- */

struct encoded;

enum submit_how {
    SUBMIT_JOINS, /* a message of commands that are merely sent together */
    SUBMIT_ALONE, /* the same, but none of others' */
    SUBMIT_BATCH  /* they belong together */
};

/* Adds a request's encoded commands to what is unsent. Lock held. */
void submit_locked(struct mqredis *mq, struct mqredis_request *r,
                   const struct encoded *commands, enum submit_how how);

/* Sends what is unsent. `sleep`: until all of it is sent or out of time, or
 * until `until_ns` (0: no such limit); else what goes at once. Lock held, and
 * released while it sleeps. */
void flush_locked(struct mqredis *mq, bool sleep, uint64_t until_ns);

/* ---- wait.c ---- */

/* Sleeps until something changed, at most until `deadline_ns` (0: none), and
 * takes what arrived. Lock held, and released meanwhile. */
void turn_locked(struct mqredis *mq, uint64_t deadline_ns);

/* Takes what arrived, and ends what is out of time, without sleeping. */
void take_locked(struct mqredis *mq);

/* Puts a flight just sent under watch. False: out of descriptors. */
MUST_CHECK bool watch_flight(struct mqredis *mq, struct flight *f);
void unwatch_flight(struct mqredis *mq, const struct flight *f);
void unwatch_link(struct mqredis *mq, struct link *link);
void watch_queue(struct mqredis *mq, bool on);

/* Makes mqredis_fd readable. */
void signal_events(struct mqredis *mq);

/* The same, if something is unsent that may go now: it is sent by whoever
 * comes because of that. */
void signal_unsent(struct mqredis *mq);

/* Sees to it that mqredis_fd is readable when something is out of time. */
void arm_timer(struct mqredis *mq);

/* ---- fork.c ---- */

/* False: out of memory. */
bool fork_add(struct mqredis *mq);
void fork_remove(struct mqredis *mq);

/* ---- stream.c ---- */

/* In a child of fork(): closes what the parent's streams have open. Lock held.
 */
void streams_disown(struct mqredis *mq);

/* Closes all of them. No lock. */
void streams_close(struct mqredis *mq);

/* ---- reply.c ---- */

/* Both take what the answers hold; never NULL. */
struct mqredis_reply *reply_of_request(struct mqredis_request *r);
struct mqredis_raw *raw_of_request(struct mqredis_request *r);
struct mqredis_reply *reply_failure(enum mqredis_status status,
                                    const char *text, size_t len);
struct mqredis_raw *raw_failure(enum mqredis_status status, const char *text);

/* ---- format.c ---- */

/* One encoded command. */
struct encoded {
    char *data; /* `small`, or from malloc */
    size_t len;
    struct blobs blobs;
    char *kept; /* what blobs of a format point into */
    char small[1024];
};

/* Encodes into *out; *why says what is wrong. Freed by encoded_free. Large
 * arguments of a large command are not copied: they become blobs, which point
 * to what the caller gave; `whole` forbids that. */
MUST_CHECK enum mqredis_status encode_format(struct encoded *out, bool whole,
                                             const char *format, va_list ap,
                                             struct mqredis_error *why);
MUST_CHECK enum mqredis_status encode_argv(struct encoded *out, bool whole,
                                           size_t argc, const char *const *argv,
                                           const size_t *len,
                                           struct mqredis_error *why);
void encoded_free(struct encoded *e);

#endif
