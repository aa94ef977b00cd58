/*
 * Text for people: a growing buffer, numbers with units, aligned tables, and
 * the escaping of whatever strangers supplied before it meets a terminal.
 */
#ifndef MQSTAT_TEXT_H
#define MQSTAT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"

/* What the place that the text goes to can show. */
struct look {
    bool color;
    bool utf8;
    bool terminal;
    int width; /* columns; 0: any */
    int height;
};

/* Looks at descriptor `fd`, the locale, $NO_COLOR and $TERM. */
void look_init(struct look *look, int fd);

/* ---- a growing buffer ---- */

/* Zeroed before use. Running out of memory sets `failed` and adds nothing more;
 * whoever writes the text out looks at it once. */
struct text {
    char *data; /* NUL terminated once something was added */
    size_t len;
    size_t cap;
    bool failed;
};

void text_add(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
void text_bytes(struct text *t, const char *data, size_t len);
void text_clear(struct text *t); /* empty and reusable */
void text_free(struct text *t);

/* Writes all of it to `fd`, waiting as need be. ERR_CLOSED: EPIPE. */
MUST_CHECK enum err text_write(const struct text *t, int fd);

/* ---- one value, into a small buffer ---- */

#define VALUE_MAX 32

/* 987, 12.3k, 4.56M: at most five columns. */
const char *value_short(char out[VALUE_MAX], double n);
/* 1,234,567 */
const char *value_count(char out[VALUE_MAX], uint64_t n);
/* 850 ns, 12.3 us, 1.25 ms, 3.2 s; without the blank if `tight`. */
const char *value_time(char out[VALUE_MAX], double ns, bool tight,
                       const struct look *look);
/* How long something lasts: 12s, 3m05s, 2h10m, 5d03h. */
const char *value_span(char out[VALUE_MAX], uint64_t ns);
/* 512 B, 8 KiB, 1.5 MiB */
const char *value_size(char out[VALUE_MAX], double bytes);

/* Bytes from anywhere, made harmless: printable ASCII as it is, the rest as
 * \xHH; what does not fit is cut. Returns `out`. */
const char *text_escape(char *out, size_t size, const char *in, size_t len);

/* The same up to the NUL. */
const char *text_safe(char *out, size_t size, const char *in);

/* Columns that a line takes on the screen, escape sequences of colours not
 * counted. */
size_t text_columns(const char *s);

/* ---- tables ---- */

#define TABLE_COLUMNS_MAX 20

struct table_column {
    const char *title; /* the line above the rows */
    const char *group; /* a line above that, or NULL; shared by equal pointers
                          side by side */
    bool left;         /* aligned left; numbers go right */
    int keep; /* columns of the least `keep` are dropped first where it gets
                 narrow; 0: never */
};

struct table {
    const struct table_column *columns;
    size_t ncolumns;
    char **cells; /* owned, row after row */
    size_t nrows, rows_cap;
    size_t row_cells; /* cells in the row being filled */
    bool failed;
};

void table_init(struct table *t, const struct table_column *columns,
                size_t ncolumns);
/* Adds the next cell of the current row (copied). */
void table_cell(struct table *t, const char *text);
void table_cellf(struct table *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Prints title and rows, at most look->width wide if that is not 0: columns are
 * dropped, then the last one is cut. */
void table_print(const struct table *t, struct text *out,
                 const struct look *look);
void table_free(struct table *t);

/* ---- colours: empty strings where none are wanted ---- */

enum color {
    COLOR_OFF,
    COLOR_BOLD,
    COLOR_DIM,
    COLOR_GOOD,
    COLOR_WARN,
    COLOR_BAD,
    COLOR_ACCENT
};
const char *color(const struct look *look, enum color c);

#endif
