/* What HELLO shares with CLIENT SETNAME. */
#ifndef SERVER_CLIENTS_H
#define SERVER_CLIENTS_H

#include "server/client.h"

/* Names the connection; an empty name takes it away. False: the name has
 * blanks or control characters, and the error is replied. */
bool clients_set_name(struct server *s, struct client *c,
                      const struct arg *name);

#endif
