/*
 * What the suites of the pipeline play on: a desk with requesters, a pipeline
 * whose socket is the test itself, and a stream of entries of every kind. One
 * of each: a test has its process to itself.
 */
#ifndef TESTS_PIPELINE_SCENE_H
#define TESTS_PIPELINE_SCENE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/pipeline.h"
#include "tests/support_manager.h"

extern struct desk desk;
extern struct pipeline pipe_line;

/* A checked fixture. */
void scene_setup(void);
void scene_teardown(void);

/* ---- feeding and writing ---- */

/* What Redis sends, in pieces of the pipeline's choice. */
MUST_CHECK enum err feed(const char *data, size_t len);
MUST_CHECK enum err feed_text(const char *text);

/* Writes all that is unsent. */
void write_all(void);

/* ---- a stream of entries of every kind ---- */

/* A kind of entry, and its commands: ECHO 0, ECHO 1, ... by their place in the
 * stream, so that replies tell whose they are. OWN is the manager's. */
enum kind { SINGLE, BATCH, INDEPENDENT, OWN };

struct planned {
    enum kind kind;
    uint32_t commands;
};

#define ENTRIES 8
#define COMMANDS_MAX 32

extern const struct planned plan[ENTRIES];

/* Where each command stands. */
struct place {
    size_t entry;
    uint32_t index; /* in its entry */
    size_t begin, end;
    const char *bytes;
};

extern struct asker askers[ENTRIES]; /* none for OWN */
extern struct place places[COMMANDS_MAX];
extern size_t place_count;
extern char stream[4096];
extern size_t stream_len;

/* Appends all entries of the plan; askers with this deadline (0: none). */
void append_plan(uint64_t deadline_ns);
void release_plan(void);

/* The reply to a command of the stream. */
void reply_of(size_t number, char reply[64]);

/* Writes `sent` bytes, in steps, and feeds the first `answered` replies. */
void write_and_answer(size_t sent, size_t step, size_t answered);

#endif
