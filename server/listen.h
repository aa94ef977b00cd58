/*
 * The sockets on which connections arrive, and accepting them.
 */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include "server/server.h"

/* Opens every listener of the options. On failure `why` tells the person, and
 * listen_close takes down what was opened. */
MUST_CHECK enum err listen_open(struct server *s, struct err_text *why);
void listen_close(struct server *s);

#endif
