/*
 * Waiting for elements: BLPOP, BRPOP and BLMOVE.
 */
#ifndef SERVER_BLOCKING_H
#define SERVER_BLOCKING_H

#include "server/client.h"

/* A list appeared under this key: if somebody waits for it, blocking_serve
 * will look. */
void blocking_key_ready(struct db *db, const struct arg *key);

/* Gives elements of ready keys to those who wait, longest waiting first. */
void blocking_serve(struct server *s);

/* Takes the client out of every queue, without an answer. */
void blocking_cancel(struct server *s, struct client *c);

/* Answers those whose time is over. */
void blocking_check_timeouts(struct server *s, int64_t now_ms);

/* When the next one's time is over; -1: nobody waits with a limit. */
int64_t blocking_next_timeout(const struct server *s);

/* Frees what is left when no client is. */
void blocking_release(struct server *s);

#endif
