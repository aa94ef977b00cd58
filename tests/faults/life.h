/*
 * A manager of which calls may fail, from launch to end, and what must hold
 * then: it ends as its manual says and with a line that says why, and what it
 * leaves is in nobody's way.
 */
#ifndef TESTS_FAULTS_LIFE_H
#define TESTS_FAULTS_LIFE_H

#include <stdbool.h>

#include "ipc/channel.h"
#include "tests/faults/scene.h"

struct life {
    struct e2e_manager m;
    bool ready, ended;
    int status; /* once it has ended, as waitpid gives it */
    char queue[CHANNEL_QUEUE_NAME_MAX + 2];
};

enum mood {
    SOUND, /* nothing fails */
    ARMED, /* calls fail */
    READY, /* they may, once the plan is armed */
};

/* Launches one and waits until it is ready or has ended; or is still trying,
 * after a while. `options` come before the scene's own. */
void life_launch(struct scene *s, struct life *l, const char *channel,
                 enum mood mood, const char *options);

/* Whether it has ended by now. */
bool life_ended(struct life *l);

/* Notes the name of its queue, so that it can be looked for when the folder is
 * gone. */
void life_note_queue(struct life *l);

/* Writes a line to its control FIFO, if there is one. */
void life_order(const struct life *l, const char *line);

/* Waits until the log has this text; or for some time. */
void life_await(struct life *l, const char *text);

/* It is told to read its files again, and does. */
void life_reload(struct life *l);

/* Its connections are cut; a worker is served after that, and then it holds
 * nothing for workers that have gone. */
void life_lose_redis(struct scene *s, struct life *l);

/* A worker's: short where calls fail for good, for most of what it asks ends
 * by that. */
int64_t life_timeout_ms(const struct scene *s, const struct life *l);

/* Ends it with SIGTERM, unless it has ended, and judges how it did. */
void life_end(struct scene *s, struct life *l);

/* It freed all memory. */
void life_check_blocks(struct scene *s);

/* What must hold after the managers of a channel have ended, some with calls
 * that failed. */
void life_look_back(struct scene *s, const struct life *l);

/* A sweep (scene_sweep) over whole lives: on empty servers, from launch to end,
 * with calls of the manager and of its guardian that fail, and `live` between.
 */
void life_sweep(const char *name, enum scene_way way, size_t sample,
                void (*live)(struct scene *s, struct life *l));

#endif
