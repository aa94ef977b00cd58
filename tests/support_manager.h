/*
 * The manager's parts without its daemon: a channel's folder, reply pipes and
 * the books, with requesters in the same process, so that a test decides about
 * every byte and every moment.
 */
#ifndef TESTS_SUPPORT_MANAGER_H
#define TESTS_SUPPORT_MANAGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/channel.h"
#include "ipc/oneshot.h"
#include "ipc/random.h"
#include "ipc/resp.h"
#include "manager/answer.h"
#include "manager/loop.h"
#include "manager/readers.h"

struct desk {
    struct channel ch;
    struct status *status;
    struct loop loop;
    struct readers readers;
    struct answers answers;
    struct oneshot_pool pool; /* of the requesters */
    struct random_stream ids;
};

/* `max_open` pipes, and bounds of the backlog of one and of all. */
void desk_open(struct desk *d, uint32_t max_open, size_t reader_limit,
               size_t total_limit);
void desk_close(struct desk *d);

/* One round of the loop without waiting. */
void desk_turn(struct desk *d);

uint64_t desk_counter(const struct desk *d, enum status_counter c);

#define ASKER_COMMANDS 8

/* A requester, and what it was told. */
struct asker {
    struct oneshot slot;
    struct message_header header;
    struct request *req; /* valid until it is answered */
    struct reply_stream stream;
    struct resp_scan scan;
    uint32_t current; /* the command that the next byte belongs to */
    /* By command. */
    bool told[ASKER_COMMANDS];
    enum reply_status status[ASKER_COMMANDS];
    char *data[ASKER_COMMANDS];
    size_t len[ASKER_COMMANDS];
    char text[ERR_TEXT_MAX]; /* the manager's last word */
};

/* Makes a request of `ncommands`, which is taken. */
void asker_ask(struct desk *d, struct asker *a, uint32_t ncommands,
               uint64_t deadline_ns);

/* Reads all that is there for it, turning the loop. False: it is no answer to
 * this request. */
bool asker_read(struct desk *d, struct asker *a);

/* Whether the request ended: `status` for command i, with that reply ("" for
 * any). */
bool asker_told(const struct asker *a, uint32_t i, enum reply_status status,
                const char *reply);

/* Dies: closes its pipe, the name stays. */
void asker_die(struct asker *a);

/* Frees what it holds, and its pipe if that is open. */
void asker_release(struct desk *d, struct asker *a);

#endif
