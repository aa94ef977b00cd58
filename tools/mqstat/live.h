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

/* In a low window blank lines and zeros give way to tables. */
bool live_compact(const struct live *l);

/* Adds every line of a text to the frame, as far as the window goes; frees the
 * text. */
void live_text(struct live *l, struct text *frame, struct text *lines);

/* ---- live_tables.c ---- */

extern const char *const live_sort_names[SORT_COUNT];

/* The channel's nodes and clients, in the lines that are left. */
void live_tables(struct live *l, struct text *frame, const struct sample *old,
                 const struct sample *s);

/* ---- live_draw.c ---- */

/* Writes the whole screen. EXIT_FINE, or an exit code. */
int live_draw(struct live *l);

#endif
