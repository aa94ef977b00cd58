/*
 * Between the table of reply pipes and what writes to them; for readers*.c
 * alone.
 */
#ifndef MANAGER_READERS_WRITE_H
#define MANAGER_READERS_WRITE_H

#include "manager/readers.h"

/* Nobody reads any more: the pipe is closed, and its name goes too. */
void reader_die(struct readers *rs, struct reader *r);

/* It gathers no more; what was gathered is backlog as any. */
void reader_forget_cork(struct readers *rs, struct reader *r);

/* The loop's word on the pipe. */
void reader_ready(void *owner, uint32_t events);

#endif
