/*
 * What sentinels and masters say of who the master is: replies and events as
 * bytes in memory, no sockets. Nothing in them is trusted; each function takes
 * one whole reply, RESP2 or RESP3.
 */
#ifndef MANAGER_SENTINEL_REPLY_H
#define MANAGER_SENTINEL_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/uri.h"

/* SENTINEL GET-MASTER-ADDR-BY-NAME. ERR_OK: where the master is. ERR_ABSENT:
 * the sentinel knows no master of that name. ERR_DENIED: it says an error.
 * ERR_PROTO: anything else. */
MUST_CHECK enum err sentinel_read_master(const char *data, size_t len,
                                         struct uri_place *master);

/* SENTINEL SENTINELS: puts at most `max` of the others into `places`. Entries
 * that tell no place are passed over. ERR_DENIED, ERR_PROTO as above. */
MUST_CHECK enum err sentinel_read_others(const char *data, size_t len,
                                         struct uri_place *places, uint32_t max,
                                         uint32_t *count);

/* The text of +switch-master: `name old-host old-port new-host new-port`.
 * ERR_OK: of the master `name`, which is at *to now. ERR_ABSENT: of another
 * one. ERR_PROTO. */
MUST_CHECK enum err sentinel_read_switch(const char *text, size_t len,
                                         const char *name,
                                         struct uri_place *to);

/* Whether an event's text has `name` among its words. */
bool sentinel_mentions(const char *text, size_t len, const char *name);

/* What comes in on a connection that has subscribed. */
enum sentinel_word {
    SENTINEL_WORD_OTHER, /* an answer to PING */
    SENTINEL_WORD_SUBSCRIBED,
    SENTINEL_WORD_EVENT, /* `channel` and `text`: views into the data */
    SENTINEL_WORD_ERROR  /* `text`: without its '-' */
};

struct sentinel_said {
    enum sentinel_word word;
    const char *channel, *text;
    size_t channel_len, text_len;
};

MUST_CHECK enum err sentinel_read_word(const char *data, size_t len,
                                       struct sentinel_said *said);

/* ROLE: puts its first word ("master", "slave", "sentinel") into `role`, cut
 * to fit. ERR_DENIED: an error. ERR_PROTO. */
MUST_CHECK enum err sentinel_read_role(const char *data, size_t len, char *role,
                                       size_t size);

#endif
