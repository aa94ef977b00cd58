/*
 * Publish and subscribe.
 */
#ifndef SERVER_PUBSUB_H
#define SERVER_PUBSUB_H

#include "server/client.h"

/* Ends every subscription of the client, without telling it. */
void pubsub_forget(struct server *s, struct client *c);

/* Frees the tables; no client is left. */
void pubsub_release(struct server *s);

#endif
