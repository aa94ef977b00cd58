/*
 * What the suites of lies play on: a liar and a handle of the library on its
 * channel. One of each: a test has its process to itself. What does not come as
 * expected fails the running test.
 */
#ifndef TESTS_LIAR_SCENE_H
#define TESTS_LIAR_SCENE_H

#include "tests/liar.h"
#include "tests/lib.h"

extern struct liar liar;
extern struct mqredis *mq;
extern struct mqredis_error why;

/* Starts the liar and opens the handle. */
void begin(void);
void end(void);

/* How many reply pipes there are on the channel. */
int reply_pipes(void);

#endif
