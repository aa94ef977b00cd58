/* What the two halves of the live view share: what it remembers, and drawing
 * (live_draw.c) for the loop and the terminal (live.c). */
#ifndef MQSTAT_LIVE_H
#define MQSTAT_LIVE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

#include "tools/mqstat/mqstat.h"

#define HISTORY 512
#define HISTORIES_MAX 64

enum series { SERIES_RATE, SERIES_WAIT, SERIES_TOTAL, SERIES_COUNT };

/* Of one channel, oldest first once it is full. */
struct history {
    char dir[PATH_MAX];
    double values[SERIES_COUNT][HISTORY];
    size_t count, next;
};

struct live {
    const struct options *o;
    struct look look;
    int tty; /* keys come from here; -1: none */
    struct termios saved;
    bool paused;
    enum client_sort sort;
    size_t shown; /* 0: the table of channels; else channel shown - 1 */
    bool one;     /* a channel was named: there is no table */
    struct scanner scanner;
    struct sample_set old, set;
    struct history *histories[HISTORIES_MAX];
    size_t nhistories;
    size_t lines; /* of the frame so far */
};

/* The channel's history, made if need be. NULL: out of memory, or of room. */
struct history *history_of(struct live *l, const struct sample *s);

/* Writes the whole screen. EXIT_FINE, or an exit code. */
int live_draw(struct live *l);

#endif
