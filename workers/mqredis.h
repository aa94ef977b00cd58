/*
 * libmqredis: Redis commands through the connection that all processes of this
 * host share. Commands travel over a POSIX message queue to mqredis-manager,
 * which owns the connection; each answer comes back in a pipe of its own.
 *
 *     struct mqredis *mq = mqredis_open(NULL, NULL);
 *     struct mqredis_reply *r = mqredis_command(mq, "SET %s %b", key, p, len);
 *     if (r->status != MQREDIS_OK)
 *         fprintf(stderr, "%s\n", r->str);
 *     mqredis_free(r);
 *     mqredis_close(mq);
 *
 * Replies. Every call that asks for one returns a reply, never NULL: where
 * there is none of Redis (no manager, out of time, out of memory), its type is
 * MQREDIS_FAILURE, `status` says what is known, and `str` is one line for a
 * person. So errors belong to a request, not to the handle or the thread.
 *
 * Time. Timeouts are milliseconds, counted from the call on CLOCK_MONOTONIC;
 * negative means no limit. A handle's default is 5000. While the queue is full,
 * calls sleep (that is the channel's backpressure), within the same time.
 *
 * Threads. All functions may be called from several threads at once on one
 * handle, except mqredis_close; one thread's waiting does not hold up another.
 * A reply, a batch and a request are for one thread at a time.
 *
 * Fork. A child may use its parent's handle without a call: it gets an address
 * and reply pipes of its own. Requests that were submitted before the fork stay
 * the parent's: in the child they fail with MQREDIS_INVALID. A child that never
 * uses the handle counts as a sender of the channel as long as it lives, unless
 * it calls mqredis_close or exec (all descriptors are close-on-exec). Do not
 * fork while another thread of the process is in mqredis_open or mqredis_close.
 *
 * The library installs no signal handler, prints nothing, never exits, and
 * writes to no pipe or socket, so it raises no SIGPIPE.
 */
#ifndef MQREDIS_H
#define MQREDIS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MQREDIS_VERSION "1.0.0"
#define MQREDIS_TIMEOUT_MS 5000 /* a handle's default */
#define MQREDIS_SPIN_MAX_US 10000
#define MQREDIS_WINDOW_MAX 4096

#if defined(__GNUC__)
#define MQREDIS_API __attribute__((visibility("default")))
#define MQREDIS_CHECK __attribute__((warn_unused_result))
#else
#define MQREDIS_API
#define MQREDIS_CHECK
#endif

/* What is known about a request. Numbers never change. */
enum mqredis_status {
    MQREDIS_OK = 0,          /* Redis answered; the answer may be an error */
    MQREDIS_INVALID = 1,     /* refused, by library or manager: not executed */
    MQREDIS_EXPIRED = 2,     /* out of time before it was sent: not executed */
    MQREDIS_UNAVAILABLE = 3, /* no manager, or no Redis: not executed */
    MQREDIS_TOO_BIG = 4,     /* over a limit that the text names */
    MQREDIS_LOST = 5,        /* outcome unknown: it may have been executed */
    MQREDIS_NOMEM = 6, /* out of memory before it was sent: not executed */
    MQREDIS_SYSTEM = 7 /* a system call failed (descriptors, permissions)
                          before it was sent: not executed */
};

/* "ok", "expired", ...: static, never NULL, whatever the number. */
MQREDIS_API const char *mqredis_status_str(enum mqredis_status status);

/* The version of the library in use (MQREDIS_VERSION: of this header). */
MQREDIS_API const char *mqredis_version(void);

/* One line for a person: what, where, what to do. */
struct mqredis_error {
    enum mqredis_status status;
    char text[512];
};

/* ---- replies ---- */

/* The first 14 have hiredis's numbers. */
enum mqredis_type {
    MQREDIS_STRING = 1,    /* str, len */
    MQREDIS_ARRAY = 2,     /* element, elements */
    MQREDIS_INTEGER = 3,   /* integer */
    MQREDIS_NIL = 4,       /* RESP3's null and RESP2's two */
    MQREDIS_STATUS = 5,    /* str, len: "OK" */
    MQREDIS_ERROR = 6,     /* str, len: "WRONGTYPE Operation against..." */
    MQREDIS_DOUBLE = 7,    /* real; str, len as Redis wrote it */
    MQREDIS_BOOL = 8,      /* integer: 0 or 1 */
    MQREDIS_MAP = 9,       /* element: key, value, key, value... */
    MQREDIS_SET = 10,      /* element, elements */
    MQREDIS_PUSH = 12,     /* element, elements */
    MQREDIS_BIGNUM = 13,   /* str, len: decimal digits */
    MQREDIS_VERBATIM = 14, /* str, len; format: "txt" or "mkd" */
    MQREDIS_BATCH = 64,    /* of a batch: element i answers its command i */
    MQREDIS_FAILURE = 65   /* no reply of Redis: see status; str, len: why */
};

/*
 * A reply and, below it, a tree of replies. Read-only, and all of it lives
 * until mqredis_free of its root (elements are never freed by themselves).
 * Strings may hold any byte; behind the last stands a NUL that `len` leaves
 * out. What a type does not use is 0 or NULL.
 */
struct mqredis_reply {
    enum mqredis_type type;
    enum mqredis_status status; /* MQREDIS_OK unless type is FAILURE; of a
                                   BATCH: its first element's that is not OK */
    int64_t integer;
    double real;
    char *str;
    size_t len;
    char format[4];
    size_t elements; /* of a MAP: keys and values, so twice its pairs */
    struct mqredis_reply **element;
    struct mqredis_reply *attributes; /* RESP3: a MAP that came with it */
};

/* Frees a whole tree. NULL is harmless. */
MQREDIS_API void mqredis_free(struct mqredis_reply *reply);

/* The bytes of a reply as Redis sent them (RESP), not parsed. `data` belongs
 * to the struct; of a status other than MQREDIS_OK it is the line of text.
 * Freed by mqredis_raw_free. */
struct mqredis_raw {
    enum mqredis_status status;
    const char *data;
    size_t len;
};

MQREDIS_API void mqredis_raw_free(struct mqredis_raw *raw);

/* ---- the handle ---- */

struct mqredis;

/*
 * Opens a channel: a name, or a path with a slash; NULL: $MQREDIS_CHANNEL, else
 * "default"; "" is a bad name. Joins it as a sender if a manager serves it. If
 * none does, that is no error here: the first command says so, or
 * mqredis_wait_ready waits for one. Managers may come and go while the handle
 * is open.
 * NULL with *error (which may be NULL) filled: a bad name, no permission, out
 * of memory or descriptors. Never sleeps. Freed by mqredis_close.
 */
MQREDIS_API struct mqredis *mqredis_open(const char *channel,
                                         struct mqredis_error *error);

/* Cancels and frees all requests of the handle, then the handle. NULL is
 * harmless. No other thread may be using it. In a child of fork() it leaves the
 * parent's names and requests alone. */
MQREDIS_API void mqredis_close(struct mqredis *mq);

/* The time that every later request of the handle has. */
MQREDIS_API void mqredis_set_timeout(struct mqredis *mq, int64_t timeout_ms);

/* Later calls look for their reply so many microseconds, MQREDIS_SPIN_MAX_US at
 * most, before they sleep; 0, the default, is not at all. It saves the time of
 * being woken where replies are quick and processors idle; with more workers
 * that wait than processors it costs more than it gives. */
MQREDIS_API void mqredis_set_spin(struct mqredis *mq, unsigned spin_us);

/* How many messages of submitted requests may be in flight, 64 at first and
 * MQREDIS_WINDOW_MAX at most: further ones gather unsent until answers come.
 * Each takes a reply pipe. More are for who submits what blocks in Redis. */
MQREDIS_API void mqredis_set_window(struct mqredis *mq, unsigned messages);

/* Sleeps until a manager serves the channel and is connected to Redis.
 * MQREDIS_OK, or MQREDIS_UNAVAILABLE when the time passed first, with *error
 * (may be NULL) saying what was found: no manager, or not connected because. */
MQREDIS_API enum mqredis_status mqredis_wait_ready(struct mqredis *mq,
                                                   int64_t timeout_ms,
                                                   struct mqredis_error *error);

/* What a handle sees of its channel. */
struct mqredis_info {
    long queue_depth;    /* messages queued now */
    long queue_capacity; /* messages; senders sleep when so many are queued */
    size_t message_size; /* bytes of one message */
    int32_t manager_pid;
    bool connected;       /* the manager, to Redis */
    char state[16];       /* "connected", "reconnecting", ... */
    char server[160];     /* the Redis that the manager talks to */
    char last_error[256]; /* of that connection; "" if there was none */
    int resp;             /* the protocol of its replies: 2 or 3 */
    unsigned db;          /* the database that all commands are for */
};

/* Fills *info. MQREDIS_UNAVAILABLE: no manager. Does not sleep. */
MQREDIS_API enum mqredis_status mqredis_info(struct mqredis *mq,
                                             struct mqredis_info *info,
                                             struct mqredis_error *error);

/* ---- one command, and wait for its reply ---- */

/*
 * Sends a command and sleeps until its reply is there or the handle's time is
 * over. The format is split at blanks into arguments, then filled in: %s a
 * string, %b bytes (const void *, size_t), %d %i %u with hh h l ll z t j, %f %g
 * %e with a precision ("%.3f"), %c, %%. A value never splits: blanks in it stay
 * in the argument. The reply is freed by mqredis_free.
 */
MQREDIS_API struct mqredis_reply *mqredis_command(struct mqredis *mq,
                                                  const char *format, ...);
MQREDIS_API struct mqredis_reply *
mqredis_vcommand(struct mqredis *mq, const char *format, va_list ap);

/* The same from arguments; `len` NULL: they are strings. */
MQREDIS_API struct mqredis_reply *mqredis_command_argv(struct mqredis *mq,
                                                       size_t argc,
                                                       const char *const *argv,
                                                       const size_t *len);

/* The same, but gives the bytes. Freed by mqredis_raw_free; never NULL. */
MQREDIS_API struct mqredis_raw *mqredis_command_raw(struct mqredis *mq,
                                                    size_t argc,
                                                    const char *const *argv,
                                                    const size_t *len);

/* GET key: a STRING, or NIL. */
MQREDIS_API struct mqredis_reply *mqredis_get(struct mqredis *mq,
                                              const char *key);

/* SET key value. */
MQREDIS_API struct mqredis_reply *
mqredis_set(struct mqredis *mq, const char *key, const void *value, size_t len);

/* ---- several commands that belong together ---- */

/*
 * A batch is written to Redis with nothing between its commands and shares one
 * fate. It holds 4096 commands and 4 MB at most, arguments of 1 kB and more not
 * counted (those have the limit of Redis, 512 MB each). mqredis_batch_new gives
 * NULL when out of memory, and NULL is welcome wherever a batch is: running it
 * fails with MQREDIS_NOMEM.
 */
struct mqredis_batch;

MQREDIS_API struct mqredis_batch *mqredis_batch_new(struct mqredis *mq);

/* Adds a command. What is wrong with it shows in the reply to the batch. */
MQREDIS_API void mqredis_batch_add(struct mqredis_batch *batch,
                                   const char *format, ...);
MQREDIS_API void mqredis_batch_add_argv(struct mqredis_batch *batch,
                                        size_t argc, const char *const *argv,
                                        const size_t *len);

/* Sends the batch and waits. A BATCH reply with an element for each command, or
 * a FAILURE when none of them was answered, for one reason. Frees the batch. */
MQREDIS_API struct mqredis_reply *
mqredis_batch_run(struct mqredis_batch *batch);

/* The same between MULTI and EXEC: Redis executes all of it or nothing. The
 * reply is EXEC's: an ARRAY with an element for each command; an ERROR when
 * Redis refused one of them, and then nothing was executed. Frees the batch. */
MQREDIS_API struct mqredis_reply *
mqredis_transaction_run(struct mqredis_batch *batch);

/* Frees a batch that is not run. NULL is harmless. */
MQREDIS_API void mqredis_batch_free(struct mqredis_batch *batch);

/* ---- many requests at once ---- */

/*
 * Submitting a command gives a pending request. What is submitted before the
 * handle next waits (in any of the calls that wait, or in mqredis_flush)
 * travels in few messages. Commands of one thread reach Redis in the order
 * submitted, also in relation to its synchronous calls; those that block in
 * Redis (BLPOP) hold up no others. A request's time is the handle's, from its
 * submission; when it is over the request is done, as MQREDIS_EXPIRED if it was
 * not sent.
 *
 * Submitting may sleep while queue and reply slots are all in use, within the
 * handle's time; not so after mqredis_fd was called. It returns NULL only when
 * out of memory, and NULL is welcome wherever a request is: it has failed with
 * MQREDIS_NOMEM.
 */
struct mqredis_request;

MQREDIS_API struct mqredis_request *mqredis_submit(struct mqredis *mq,
                                                   const char *format, ...);
MQREDIS_API struct mqredis_request *mqredis_submit_argv(struct mqredis *mq,
                                                        size_t argc,
                                                        const char *const *argv,
                                                        const size_t *len);

/* Submits a batch and frees it. */
MQREDIS_API struct mqredis_request *
mqredis_batch_submit(struct mqredis_batch *batch);

/* How commands that are encoded already are to travel. */
enum mqredis_raw_flag {
    MQREDIS_RAW_ALONE = 1, /* in a message of their own: if all of them are
                              cancelled, the manager learns it at once */
    MQREDIS_RAW_BATCH = 2  /* as a batch: nothing in between, one fate */
};

/*
 * Submits `count` commands (4096 at most) that are RESP already, one behind the
 * other in `commands`, as one request: for who passes on what others wrote.
 * They are copied. Without MQREDIS_RAW_BATCH they are merely sent together,
 * and each is judged, routed and answered for itself. They must be in the form
 * that Redis cannot read in two ways: arrays of bulk strings, lengths without
 * sign or leading zero. A request of one that is not, or of another number of
 * commands, fails with MQREDIS_INVALID. mqredis_wait gives a BATCH reply for
 * more than one; mqredis_answer gives their bytes.
 */
MQREDIS_API struct mqredis_request *
mqredis_submit_raw(struct mqredis *mq, const char *commands, size_t len,
                   size_t count, unsigned flags);

/* The bytes that answer command `index` of a request that is done, as
 * mqredis_command_raw gives them: a view that lives until the request is freed
 * by mqredis_wait, mqredis_wait_raw or mqredis_cancel. False: it is not done,
 * or has no such command. */
MQREDIS_API bool mqredis_answer(const struct mqredis_request *request,
                                size_t index, struct mqredis_raw *answer);

/* How many messages wait unsent because the queue is full, or too many are in
 * flight. With mqredis_fd, a caller that finds some should take no more work
 * until they are gone: that is the channel's backpressure, and beyond 1024 of
 * them submitting fails with MQREDIS_TOO_BIG. What was submitted since the
 * last flush counts, too. */
MQREDIS_API size_t mqredis_unsent(struct mqredis *mq);

/* Sends what was submitted, without waiting for replies. */
MQREDIS_API void mqredis_flush(struct mqredis *mq);

/* Waits until the request is done. Frees the request. */
MQREDIS_API struct mqredis_reply *mqredis_wait(struct mqredis_request *request);
MQREDIS_API struct mqredis_raw *
mqredis_wait_raw(struct mqredis_request *request);

/* Waits until the request is done, at most `timeout_ms`. True: it is done, its
 * reply can be taken with mqredis_wait at once. 0 asks without waiting. */
MQREDIS_API bool mqredis_wait_done(struct mqredis_request *request,
                                   int64_t timeout_ms);

/* Waits until any request of the handle is done, and gives it, each one once
 * and in the order in which they ended. NULL: none within `timeout_ms`, or none
 * is pending. Its reply is taken with mqredis_wait. With several threads, take
 * care that nobody else waits for the request it gives. */
MQREDIS_API struct mqredis_request *mqredis_wait_any(struct mqredis *mq,
                                                     int64_t timeout_ms);

/* Gives a request up at any moment and frees it. Its reply can never reach
 * another request. A command that was not sent yet is not sent. */
MQREDIS_API void mqredis_cancel(struct mqredis_request *request);

/* A pointer of the caller's that travels with a request; NULL at first. */
MQREDIS_API void mqredis_set_data(struct mqredis_request *request, void *data);
MQREDIS_API void *mqredis_data(const struct mqredis_request *request);

/*
 * A descriptor for the caller's poll loop: readable when the handle wants
 * mqredis_wait_any(mq, 0), which is then to be called until it gives NULL.
 * From the first call on, submitting and flushing never sleep. The descriptor
 * belongs to the handle; a child of fork() asks for its own. -1: out of
 * descriptors.
 */
MQREDIS_API MQREDIS_CHECK int mqredis_fd(struct mqredis *mq);

/* For a poll loop that calls mqredis_flush before it sleeps, whenever it has
 * submitted something: with true, submitting alone does not make mqredis_fd
 * readable, which saves two system calls each time. */
MQREDIS_API void mqredis_set_manual_flush(struct mqredis *mq, bool manual);

/* ---- subscriptions ---- */

/*
 * A stream of the messages of some channels, or patterns. All processes of the
 * host share one upstream subscription. Every message from the moment the
 * stream was made is delivered, unless its reader falls so far behind that the
 * manager drops the oldest: then MQREDIS_LAGGED stands where they are missing.
 *
 * A stream is for one thread at a time. It belongs to its handle: mqredis_close
 * frees it too. A child of fork() may only close it; for itself it subscribes
 * anew.
 */
struct mqredis_stream;

enum mqredis_event_type {
    MQREDIS_MESSAGE = 1, /* channel, data; pattern if it is a pattern's */
    MQREDIS_SUBSCRIBED,  /* once, first: count names are confirmed */
    MQREDIS_LAGGED,      /* count messages are missing here */
    MQREDIS_GAP, /* messages may be missing since the event before: for count
                    milliseconds nobody listened */
    MQREDIS_END  /* no more will come: status, data (a line of text) */
};

/* Views that live until the next call on the stream. Not NUL-terminated. */
struct mqredis_event {
    enum mqredis_event_type type;
    enum mqredis_status status; /* of END; MQREDIS_UNAVAILABLE: the manager
                                   ended, mqredis_stream_renew may help */
    uint64_t count;
    const char *channel, *pattern, *data;
    size_t channel_len, pattern_len, len;
    const char *raw; /* of MESSAGE and SUBSCRIBED: Redis's bytes (RESP) */
    size_t raw_len;
};

/* Subscribes to `count` channels (`len` NULL: they are strings) and waits until
 * Redis has confirmed all, within the handle's time. NULL: *error (may be NULL)
 * says why. Freed by mqredis_stream_close. */
MQREDIS_API struct mqredis_stream *
mqredis_subscribe(struct mqredis *mq, size_t count, const char *const *channels,
                  const size_t *len, struct mqredis_error *error);

/* The same for patterns, as PSUBSCRIBE has them. */
MQREDIS_API struct mqredis_stream *
mqredis_psubscribe(struct mqredis *mq, size_t count,
                   const char *const *patterns, const size_t *len,
                   struct mqredis_error *error);

/* The same for shard channels, as SSUBSCRIBE has them: of a cluster each comes
 * from the master of its slot. A move of the slot is told by MQREDIS_GAP. */
MQREDIS_API struct mqredis_stream *
mqredis_ssubscribe(struct mqredis *mq, size_t count,
                   const char *const *channels, const size_t *len,
                   struct mqredis_error *error);

enum mqredis_topic {
    MQREDIS_TOPIC_CHANNEL = 1,
    MQREDIS_TOPIC_PATTERN, /* PSUBSCRIBE's */
    MQREDIS_TOPIC_SHARD    /* SSUBSCRIBE's */
};

/* The same without any waiting, for a poll loop: the first event is
 * MQREDIS_SUBSCRIBED, or MQREDIS_END that says why not. While the queue is full
 * it stays unsent, and mqredis_stream_next tries again; it ends as
 * MQREDIS_EXPIRED, once asked, when the handle's time is over before it was
 * confirmed. NULL: *error says why, MQREDIS_UNAVAILABLE where no manager is. */
MQREDIS_API struct mqredis_stream *
mqredis_stream_open(struct mqredis *mq, enum mqredis_topic kind, size_t count,
                    const char *const *names, const size_t *len,
                    struct mqredis_error *error);

/* Waits for the next event, at most `timeout_ms`; 0 asks without waiting.
 * False: there is none yet. After END it gives that again. */
MQREDIS_API bool mqredis_stream_next(struct mqredis_stream *stream,
                                     int64_t timeout_ms,
                                     struct mqredis_event *event);

/* A descriptor for the caller's poll loop: readable when mqredis_stream_next
 * may have an event; then that is to be called until it says false. A loop that
 * sleeps longer than some seconds should call it then, too. It belongs to the
 * stream and changes with mqredis_stream_renew. */
MQREDIS_API int mqredis_stream_fd(const struct mqredis_stream *stream);

/* Subscribes once more, after END, waiting up to `timeout_ms` for a manager.
 * MQREDIS_OK: the next event is GAP. Else *error says why not, and the stream
 * is as it was. */
MQREDIS_API enum mqredis_status
mqredis_stream_renew(struct mqredis_stream *stream, int64_t timeout_ms,
                     struct mqredis_error *error);

/* Ends the subscription. NULL is harmless. */
MQREDIS_API void mqredis_stream_close(struct mqredis_stream *stream);

#ifdef __cplusplus
}
#endif

#endif
