/*
 * What the parts of the sweeps' worker share: the notes it takes.
 */
#ifndef TESTS_FAULTS_ACTS_PARTS_H
#define TESTS_FAULTS_ACTS_PARTS_H

#include <stddef.h>

#include "tests/faults/acts.h"

#define ACTS_KEY_SIZE 72

/* Bytes that a large act appends. */
#define ACTS_LARGE 20000

/* The step under way, for messages. */
void acts_step(struct acts *a, const char *name);

/* A new act, the tag of its key, and that key. */
unsigned acts_begin(struct acts *a, const char *tag);
const char *acts_key(const struct acts *a, unsigned act, char *key);

/* What it adds, which is its reply. */
int acts_number(const struct acts *a, unsigned act);

/* What it was told. */
void acts_tell(struct acts *a, unsigned act, const struct mqredis_reply *r);

/* A call that began at `t0`, and what one ended with. */
void acts_note_time(struct acts *a, uint64_t t0);
void acts_note_status(struct acts *a, enum mqredis_status status,
                      const char *text);

/* A reply of Redis with this type and length, or a failure with a status and a
 * text. Frees it. */
void acts_expect(struct acts *a, struct mqredis_reply *r,
                 enum mqredis_type type, size_t len);

/* A handle; NULL: it was noted why not. */
struct mqredis *acts_open(struct acts *a, const char *channel);

/* One act from begin to end. */
void acts_one(struct acts *a, struct mqredis *mq, const char *tag);

#endif
