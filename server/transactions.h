/*
 * MULTI, EXEC and WATCH: what the rest of the server needs of them.
 */
#ifndef SERVER_TRANSACTIONS_H
#define SERVER_TRANSACTIONS_H

#include <stdbool.h>

#include "server/client.h"

/* Keeps a copy of c->argv for EXEC. */
void transaction_queue(struct server *s, struct client *c);

/* A command was refused while queueing: EXEC will refuse too. Harmless outside
 * a transaction. */
void transaction_break(struct client *c);

/* Whether c->command is EXEC of a transaction that stores something. */
bool transaction_needs_memory(const struct client *c);

/* Forgets what was queued and watched. */
void transaction_discard(struct server *s, struct client *c);
void transaction_unwatch(struct server *s, struct client *c);

/* How many commands are queued, -1 outside a transaction, and their bytes. */
long transaction_length(const struct client *c);
size_t transaction_bytes(const struct client *c);

/* This key was changed: transactions of those who watch it will not run. */
void transaction_key_changed(struct db *db, const char *key, size_t len);

/* The whole database goes away. Called before it does. */
void transaction_db_flushed(struct db *db);

#endif
