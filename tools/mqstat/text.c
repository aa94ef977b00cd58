/* Text for people. */
#include "tools/mqstat/text.h"

#include <errno.h>
#include <inttypes.h>
#include <langinfo.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ipc/clock.h"

void look_init(struct look *look, int fd)
{
    memset(look, 0, sizeof(*look));
    look->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    look->terminal = isatty(fd) == 1;
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    look->color = look->terminal && (no_color == NULL || no_color[0] == '\0') &&
                  term != NULL && strcmp(term, "dumb") != 0;
    struct winsize w;
    if (look->terminal && ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0) {
        look->width = w.ws_col;
        look->height = w.ws_row;
    } else if (look->terminal) {
        look->width = 80;
        look->height = 24;
    }
}

/* ---- the buffer ---- */

static bool reserve(struct text *t, size_t more)
{
    if (t->failed || more > SIZE_MAX / 2 - t->len) {
        t->failed = true;
        return false;
    }
    size_t need = t->len + more + 1;
    if (need <= t->cap)
        return true;
    size_t cap = t->cap ? t->cap : 1024;
    while (cap < need)
        cap *= 2;
    char *data = realloc(t->data, cap);
    if (data == NULL) {
        t->failed = true;
        return false;
    }
    t->data = data;
    t->cap = cap;
    return true;
}

void text_bytes(struct text *t, const char *data, size_t len)
{
    if (!reserve(t, len))
        return;
    memcpy(t->data + t->len, data, len);
    t->len += len;
    t->data[t->len] = '\0';
}

void text_add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !reserve(t, (size_t)n))
        return;
    va_start(ap, fmt);
    vsnprintf(t->data + t->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->len += (size_t)n;
}

void text_clear(struct text *t)
{
    t->len = 0;
    t->failed = false;
    if (t->data != NULL)
        t->data[0] = '\0';
}

void text_free(struct text *t)
{
    free(t->data);
    memset(t, 0, sizeof(*t));
}

enum err text_write(const struct text *t, int fd)
{
    if (t->failed)
        return ERR_NOMEM;
    size_t done = 0;
    while (done < t->len) {
        ssize_t n = write(fd, t->data + done, t->len - done);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            poll(&p, 1, -1);
        } else if (errno != EINTR) {
            return errno == EPIPE ? ERR_CLOSED : ERR_SYS;
        }
    }
    return ERR_OK;
}

/* ---- values ---- */

const char *value_short(char out[VALUE_MAX], double n)
{
    static const char unit[] = " kMGTPE";
    size_t u = 0;
    if (!(n >= 0))
        n = 0;
    /* 999.5 would be printed as 1000: it belongs to the next unit. */
    while (n >= 999.5 && u + 2 < sizeof(unit)) {
        n /= 1000;
        u++;
    }
    if (u == 0)
        snprintf(out, VALUE_MAX, "%.*f", n < 9.95 && n > floor(n) ? 1 : 0, n);
    else
        snprintf(out, VALUE_MAX, "%.*f%c",
                 n < 9.995   ? 2
                 : n < 99.95 ? 1
                             : 0,
                 n, unit[u]);
    return out;
}

const char *value_count(char out[VALUE_MAX], uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%" PRIu64, n);
    char *to = out;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return out;
}

const char *value_time(char out[VALUE_MAX], double ns, bool tight,
                       const struct look *look)
{
    const char *blank = tight ? "" : " ";
    const char *micro = look->utf8 ? "\xc2\xb5s" : "us";
    double n = ns;
    const char *unit = "ns";
    if (ns >= 999.5e6) {
        n = ns / 1e9;
        unit = "s";
    } else if (ns >= 999.5e3) {
        n = ns / 1e6;
        unit = "ms";
    } else if (ns >= 999.5) {
        n = ns / 1e3;
        unit = micro;
    }
    int decimals = ns < 999.5 ? 0 : n < 9.995 ? 2 : n < 99.95 ? 1 : 0;
    snprintf(out, VALUE_MAX, "%.*f%s%s", decimals, n, blank, unit);
    return out;
}

const char *value_span(char out[VALUE_MAX], uint64_t ns)
{
    uint64_t s = ns / NS_PER_S;
    if (s < 60)
        snprintf(out, VALUE_MAX, "%" PRIu64 "s", s);
    else if (s < 3600)
        snprintf(out, VALUE_MAX, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, VALUE_MAX, "%" PRIu64 "h%02" PRIu64 "m", s / 3600,
                 s / 60 % 60);
    else
        snprintf(out, VALUE_MAX, "%" PRIu64 "d%02" PRIu64 "h", s / 86400,
                 s / 3600 % 24);
    return out;
}

const char *value_size(char out[VALUE_MAX], double bytes)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t u = 0;
    while (bytes >= 1024 && u < 5) {
        bytes /= 1024;
        u++;
    }
    /* Sizes are round more often than not. */
    bool whole = u == 0 || bytes >= 99.95 || fabs(bytes - round(bytes)) < 0.05;
    snprintf(out, VALUE_MAX, "%.*f %s", whole ? 0 : 1, bytes, unit[u]);
    return out;
}

const char *text_escape(char *out, size_t size, const char *in, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)in[i];
        if (c >= 0x20 && c < 0x7f) {
            if (n + 1 >= size)
                break;
            out[n++] = (char)c;
        } else {
            if (n + 4 >= size)
                break;
            n += (size_t)snprintf(out + n, size - n, "\\x%02x", c);
        }
    }
    out[n] = '\0';
    return out;
}

const char *text_safe(char *out, size_t size, const char *in)
{
    return text_escape(out, size, in, strlen(in));
}

/* The bytes of the next column of `s`, colours before it included: *cols is
 * what it takes. 0 at the end. */
static size_t next_column(const char *s, size_t *cols)
{
    size_t n = 0;
    while (s[n] == '\033') {
        while (s[n] != '\0' && s[n] != 'm')
            n++;
        if (s[n] != '\0')
            n++;
    }
    *cols = s[n] != '\0';
    if (s[n] != '\0')
        n++;
    while (((unsigned char)s[n] & 0xc0) == 0x80) /* the rest of a character */
        n++;
    return n;
}

size_t text_columns(const char *s)
{
    size_t total = 0, cols;
    for (size_t n; (n = next_column(s, &cols)) > 0; s += n)
        total += cols;
    return total;
}

const char *color(const struct look *look, enum color c)
{
    static const char *const codes[] = {
        [COLOR_OFF] = "\033[0m",     [COLOR_BOLD] = "\033[1m",
        [COLOR_DIM] = "\033[2m",     [COLOR_GOOD] = "\033[32m",
        [COLOR_WARN] = "\033[33m",   [COLOR_BAD] = "\033[1;31m",
        [COLOR_ACCENT] = "\033[36m",
    };
    return look->color ? codes[c] : "";
}

/* ---- tables ---- */

void table_init(struct table *t, const struct table_column *columns,
                size_t ncolumns)
{
    memset(t, 0, sizeof(*t));
    t->columns = columns;
    t->ncolumns = ncolumns;
}

void table_cell(struct table *t, const char *text)
{
    if (t->failed)
        return;
    if (t->row_cells == t->ncolumns || t->nrows == 0) {
        if (t->nrows == t->rows_cap) {
            size_t cap = t->rows_cap ? t->rows_cap * 2 : 16;
            char **cells =
                realloc(t->cells, cap * t->ncolumns * sizeof(*cells));
            if (cells == NULL) {
                t->failed = true;
                return;
            }
            t->cells = cells;
            t->rows_cap = cap;
        }
        memset(&t->cells[t->nrows * t->ncolumns], 0,
               t->ncolumns * sizeof(*t->cells));
        t->nrows++;
        t->row_cells = 0;
    }
    char *copy = strdup(text);
    if (copy == NULL)
        t->failed = true;
    t->cells[(t->nrows - 1) * t->ncolumns + t->row_cells++] = copy;
}

void table_cellf(struct table *t, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    table_cell(t, text);
}

static const char *cell(const struct table *t, size_t row, size_t col)
{
    const char *text = t->cells[row * t->ncolumns + col];
    return text ? text : "";
}

/* Which columns are shown, and how wide. */
struct layout {
    size_t width[TABLE_COLUMNS_MAX];
    bool shown[TABLE_COLUMNS_MAX];
};

static size_t layout_width(const struct table *t, const struct layout *l)
{
    size_t total = 0;
    for (size_t c = 0; c < t->ncolumns; c++)
        if (l->shown[c])
            total += l->width[c] + (total > 0 ? 2 : 0);
    return total;
}

static void layout_measure(const struct table *t, struct layout *l)
{
    for (size_t c = 0; c < t->ncolumns; c++) {
        l->shown[c] = true;
        l->width[c] = strlen(t->columns[c].title);
        for (size_t r = 0; r < t->nrows; r++) {
            size_t w = text_columns(cell(t, r, c));
            if (w > l->width[c])
                l->width[c] = w;
        }
    }
}

/* Drops columns until the rest fits; the last column may be cut to a useful
 * minimum before that. */
static void layout_fit(const struct table *t, struct layout *l, size_t width)
{
    size_t last = t->ncolumns - 1;
    while (layout_width(t, l) > width) {
        size_t over = layout_width(t, l) - width;
        if (l->shown[last] && t->columns[last].left &&
            l->width[last] >= over + 12) {
            l->width[last] -= over;
            return;
        }
        size_t victim = t->ncolumns;
        for (size_t c = 0; c < t->ncolumns; c++)
            if (l->shown[c] && t->columns[c].keep > 0 &&
                (victim == t->ncolumns ||
                 t->columns[c].keep <= t->columns[victim].keep))
                victim = c;
        if (victim == t->ncolumns)
            return;
        l->shown[victim] = false;
    }
}

static void add_spaces(struct text *out, size_t n)
{
    text_add(out, "%*s", (int)n, "");
}

static void add_cell(struct text *out, const char *s, size_t width, bool left,
                     bool last)
{
    size_t cols = text_columns(s);
    if (cols > width) {
        size_t at = 0, used = 0, c;
        for (size_t n; used < width && (n = next_column(s + at, &c)) > 0;) {
            at += n;
            used += c;
        }
        text_bytes(out, s, at);
        return;
    }
    if (!left)
        add_spaces(out, width - cols);
    text_bytes(out, s, strlen(s));
    if (left && !last)
        add_spaces(out, width - cols);
}

static void add_groups(const struct table *t, const struct layout *l,
                       struct text *out)
{
    bool any = false;
    for (size_t c = 0; c < t->ncolumns; c++)
        any = any || (l->shown[c] && t->columns[c].group != NULL);
    if (!any)
        return;
    size_t gap = 0;
    for (size_t c = 0; c < t->ncolumns;) {
        const char *group = t->columns[c].group;
        size_t width = 0;
        for (; c < t->ncolumns && t->columns[c].group == group; c++) {
            if (l->shown[c])
                width += l->width[c] + (width > 0 ? 2 : 0);
            if (group == NULL) {
                c++;
                break;
            }
        }
        if (width == 0)
            continue;
        size_t len = group ? strlen(group) : 0;
        if (len > width)
            len = width;
        if (len > 0) {
            add_spaces(out, gap + (width - len));
            text_bytes(out, group, len);
            gap = 2;
        } else {
            gap += width + 2;
        }
    }
    text_add(out, "\n");
}

void table_print(const struct table *t, struct text *out,
                 const struct look *look)
{
    if (t->failed) {
        out->failed = true;
        return;
    }
    struct layout l;
    layout_measure(t, &l);
    if (look->width > 0)
        layout_fit(t, &l, (size_t)look->width);
    size_t last = 0;
    for (size_t c = 0; c < t->ncolumns; c++)
        if (l.shown[c])
            last = c;
    add_groups(t, &l, out);
    text_add(out, "%s", color(look, COLOR_BOLD));
    for (size_t c = 0, n = 0; c < t->ncolumns; c++) {
        if (!l.shown[c])
            continue;
        text_add(out, "%s", n++ ? "  " : "");
        add_cell(out, t->columns[c].title, l.width[c], t->columns[c].left,
                 c == last);
    }
    text_add(out, "%s\n", color(look, COLOR_OFF));
    for (size_t r = 0; r < t->nrows; r++) {
        for (size_t c = 0, n = 0; c < t->ncolumns; c++) {
            if (!l.shown[c])
                continue;
            text_add(out, "%s", n++ ? "  " : "");
            add_cell(out, cell(t, r, c), l.width[c], t->columns[c].left,
                     c == last);
        }
        text_add(out, "%s\n", color(look, COLOR_OFF));
    }
}

void table_free(struct table *t)
{
    for (size_t i = 0; i < t->nrows * t->ncolumns; i++)
        free(t->cells[i]);
    free(t->cells);
    memset(t, 0, sizeof(*t));
}
