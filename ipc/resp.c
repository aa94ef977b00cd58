/*
 * RESP from the server: scanning a stream, reading a value.
 *
 * A frame's end is found with one counter and no stack: a frame is one value to
 * come, each value that ends takes one off, each aggregate puts its elements
 * on. At zero the frame is over, however deep it was.
 *
 * A number that is whole in memory is read by resp_take_number in a tight loop,
 * there and for commands. Only where a piece of the stream ends within a line,
 * the scanner goes on byte by byte with the states below.
 */
#include "ipc/resp.h"
#include "ipc/resp_number.h"

#include <assert.h>
#include <string.h>

enum scan_state {
    AT_TYPE = 0, /* waits for the type byte of a value */
    IN_NUMBER,   /* within the digits of a length, a count or an integer */
    NUMBER_LF,   /* behind their CR, waits for the LF */
    IN_LINE,     /* within a simple line */
    LINE_CR,     /* behind a CR there, which may be the end or a part of it */
    IN_BULK,     /* passes over `skip` bytes, of which the last two are CR LF */
    BROKEN       /* the stream is lost */
};

enum shape {
    NO_TYPE = 0,
    INTEGER,   /* a number is all there is */
    BULK,      /* a length, the bytes, CR LF */
    AGGREGATE, /* a count, that many values */
    PAIRS,     /* a count, twice that many values */
    LINE       /* text up to CR LF */
};

static const uint8_t shapes[256] = {
    [':'] = INTEGER,   ['$'] = BULK,      ['='] = BULK,      ['!'] = BULK,
    ['*'] = AGGREGATE, ['~'] = AGGREGATE, ['>'] = AGGREGATE, ['%'] = PAIRS,
    ['|'] = PAIRS,     ['+'] = LINE,      ['-'] = LINE,      [','] = LINE,
    ['('] = LINE,      ['#'] = LINE,      ['_'] = LINE,
};

static enum shape shape_of(char type)
{
    return (enum shape)shapes[(unsigned char)type];
}

/* ---- what is common ---- */

/* Whether a length, count or integer of this size may follow this type. */
static bool number_fits(char type, bool negative, uint64_t n)
{
    switch (shape_of(type)) {
    case INTEGER:
        return n <= (uint64_t)INT64_MAX + negative;
    case BULK:
        if (negative)
            return n == 1 && type == '$';
        return n <= RESP_REPLY_BULK_MAX && (type != '=' || n >= 4);
    case AGGREGATE:
    case PAIRS:
        if (negative)
            return n == 1 && type == '*';
        return n <= RESP_COUNT_MAX;
    case LINE:
    case NO_TYPE:
        break;
    }
    return false;
}

/* Finds the CR LF that ends the line at `p`: its CR, or NULL. Most lines are
 * "OK", for which a call of memchr would cost more than the search. */
static inline const char *find_crlf(const char *p, const char *end)
{
    const char *near = end - p > 16 ? p + 16 : end;
    for (; p + 1 < near; p++) {
        if (p[0] == '\r' && p[1] == '\n')
            return p;
    }
    while (p + 1 < end) {
        const char *lf = memchr(p + 1, '\n', (size_t)(end - p - 1));
        if (lf == NULL || lf[-1] == '\r')
            return lf == NULL ? NULL : lf - 1;
        p = lf;
    }
    return NULL;
}

/* Whether `c` may stand at `index` of the line of a value of this type. What
 * scripts can put into a line is not judged: only booleans and nulls are. */
static bool line_byte_fits(char type, size_t index, char c)
{
    if (type == '#')
        return index == 0 && (c == 't' || c == 'f');
    return type != '_' && index < RESP_LINE_MAX;
}

static bool line_length_fits(char type, size_t len)
{
    return len <= RESP_LINE_MAX && (type != '#' || len == 1);
}

static bool line_fits(char type, const char *line, size_t len)
{
    return line_length_fits(type, len) &&
           (len == 0 || line_byte_fits(type, len - 1, line[len - 1]));
}

/* ---- scanning ---- */

void resp_scan_reset(struct resp_scan *s)
{
    *s = (struct resp_scan){.state = AT_TYPE};
}

bool resp_scan_idle(const struct resp_scan *s)
{
    return s->todo == 0;
}

/* A value ended, all of it or (of an aggregate) its header. */
static inline enum err value_ended(struct resp_scan *s)
{
    s->state = AT_TYPE;
    return --s->todo == 0 ? ERR_OK : ERR_AGAIN;
}

/* The header of a value ended with this number. */
static inline enum err number_ended(struct resp_scan *s, bool negative,
                                    uint64_t n)
{
    if (!number_fits(s->kind, negative, n))
        return ERR_PROTO;
    enum shape shape = shape_of(s->kind);
    if (shape == INTEGER || negative)
        return value_ended(s);
    if (shape == BULK) {
        s->skip = (int64_t)n + 2;
        s->state = IN_BULK;
        return ERR_AGAIN;
    }
    /* Each step adds less than 2^33, but the stream may go on for ever. */
    if (s->todo > INT64_MAX / 2)
        return ERR_PROTO;
    s->todo += (int64_t)(shape == PAIRS ? n * 2 : n);
    /* The value that an attribute belongs to is still to come. */
    s->todo += s->kind == '|';
    return value_ended(s);
}

static inline enum err scan_bulk(struct resp_scan *s, const char **pos,
                                 const char *end)
{
    const char *p = *pos;
    if (s->skip > 2) {
        int64_t step = s->skip - 2 < end - p ? s->skip - 2 : end - p;
        s->skip -= step;
        p += step;
    }
    for (; p < end && s->skip > 0; s->skip--) {
        if (*p++ != (s->skip == 2 ? '\r' : '\n'))
            return ERR_PROTO;
    }
    *pos = p;
    return s->skip == 0 ? value_ended(s) : ERR_AGAIN;
}

/* At a type byte. What is whole in memory is taken at once; of a line that is
 * cut short only the type byte, its state takes the rest. */
static inline enum err scan_type(struct resp_scan *s, const char **pos,
                                 const char *end)
{
    const char *p = *pos;
    char kind = *p++;
    enum shape shape = shape_of(kind);
    if (shape == NO_TYPE)
        return ERR_PROTO;
    s->kind = kind;
    if (s->type == 0 && s->todo == 1 && kind != '|')
        s->type = kind;
    *pos = p;
    if (shape == LINE) {
        const char *cr = find_crlf(p, end);
        if (cr != NULL) {
            *pos = cr + 2;
            return line_fits(kind, p, (size_t)(cr - p)) ? value_ended(s)
                                                        : ERR_PROTO;
        }
        s->line = 0;
        s->state = IN_LINE;
        return ERR_AGAIN;
    }
    bool negative;
    uint64_t n;
    enum err e = resp_take_number(pos, end, &negative, &n);
    if (e == ERR_OK)
        return number_ended(s, negative, n);
    if (e == ERR_AGAIN) {
        s->line = 0;
        s->number = 0;
        s->sign = 0;
        s->state = IN_NUMBER;
    }
    return e;
}

static enum err scan_number_byte(struct resp_scan *s, char c)
{
    if (c >= '0' && c <= '9') {
        if (s->line == RESP_DIGITS_MAX || (s->line > 0 && s->number == 0))
            return ERR_PROTO;
        s->number = s->number * 10 + (uint64_t)(c - '0');
        s->line++;
        return ERR_AGAIN;
    }
    if (c == '-' && s->line == 0 && s->sign == 0) {
        s->sign = '-';
        return ERR_AGAIN;
    }
    if (c != '\r' || s->line == 0 || (s->sign == '-' && s->number == 0))
        return ERR_PROTO;
    s->state = NUMBER_LF;
    return ERR_AGAIN;
}

static enum err scan_line_byte(struct resp_scan *s, char c)
{
    if (s->state == LINE_CR) {
        if (c == '\n')
            return line_length_fits(s->kind, s->line) ? value_ended(s)
                                                      : ERR_PROTO;
        /* The CR was a part of the line. */
        if (!line_byte_fits(s->kind, s->line++, '\r'))
            return ERR_PROTO;
        s->state = IN_LINE;
    }
    if (c == '\r') {
        s->state = LINE_CR;
        return ERR_AGAIN;
    }
    if (!line_byte_fits(s->kind, s->line, c))
        return ERR_PROTO;
    s->line++;
    return ERR_AGAIN;
}

/* Within a long line: steps to its next CR, or to the end of the piece. */
static enum err scan_line(struct resp_scan *s, const char **pos,
                          const char *end)
{
    const char *p = *pos;
    if (s->state == IN_LINE && (s->kind == '+' || s->kind == '-')) {
        const char *cr = memchr(p, '\r', (size_t)(end - p));
        size_t step = (size_t)((cr != NULL ? cr : end) - p);
        if (step > RESP_LINE_MAX - s->line)
            return ERR_PROTO;
        s->line += (uint32_t)step;
        *pos = p + step;
        if (cr == NULL)
            return ERR_AGAIN;
    }
    return scan_line_byte(s, *(*pos)++);
}

static enum err scan_step(struct resp_scan *s, const char **pos,
                          const char *end)
{
    switch ((enum scan_state)s->state) {
    case AT_TYPE:
        return scan_type(s, pos, end);
    case IN_BULK:
        return scan_bulk(s, pos, end);
    case IN_NUMBER:
        return scan_number_byte(s, *(*pos)++);
    case NUMBER_LF:
        return *(*pos)++ == '\n' ? number_ended(s, s->sign == '-', s->number)
                                 : ERR_PROTO;
    case IN_LINE:
    case LINE_CR:
        return scan_line(s, pos, end);
    case BROKEN:
        break;
    }
    return ERR_PROTO;
}

/* The end of a frame that is one small value and whole in memory, as nearly all
 * are; NULL when in doubt: then the states decide. They would accept whatever
 * is accepted here. A number may have 7 digits. */
static inline const char *whole_frame(const char *p, const char *end)
{
    if (end - p < 4)
        return NULL;
    char type = *p++;
    if (type == '+') {
        if (end - p >= 4 && memcmp(p, "OK\r\n", 4) == 0)
            return p + 4;
        const char *near = end - p > 16 ? p + 16 : end;
        for (; p + 1 < near; p++) {
            if (p[0] == '\r' && p[1] == '\n')
                return p + 2;
        }
        return NULL;
    }
    if (type != '$' && type != ':')
        return NULL;
    unsigned digit = (unsigned)(unsigned char)*p - '0';
    if (digit > 9)
        return end - p >= 4 && memcmp(p, "-1\r\n", 4) == 0 ? p + 4 : NULL;
    ptrdiff_t n = digit;
    if (*++p != '\r') {
        if (n == 0)
            return NULL;
        const char *last = end - p > 7 ? p + 7 : end - 1;
        while (p < last && (digit = (unsigned)(unsigned char)*p - '0') <= 9) {
            n = n * 10 + (ptrdiff_t)digit;
            p++;
        }
    }
    if (end - p < 2 || p[0] != '\r' || p[1] != '\n')
        return NULL;
    p += 2;
    if (type == ':')
        return p;
    if (end - p < n + 2 || p[n] != '\r' || p[n + 1] != '\n')
        return NULL;
    return p + n + 2;
}

enum err resp_scan(struct resp_scan *s, const char *data, size_t len,
                   size_t *used)
{
    const char *pos = data;
    const char *end = data + len;
    if (s->todo == 0 && len > 0 && s->state == AT_TYPE) {
        const char *behind = whole_frame(data, end);
        if (behind != NULL) {
            s->type = *data;
            *used = (size_t)(behind - data);
            return ERR_OK;
        }
        s->todo = 1;
        s->type = 0;
    }
    enum err e = ERR_AGAIN;
    while (e == ERR_AGAIN && pos < end)
        e = scan_step(s, &pos, end);
    if (e == ERR_PROTO)
        s->state = BROKEN;
    else
        *used = (size_t)(pos - data);
    return e;
}

size_t resp_scan_opaque(const struct resp_scan *s)
{
    return s->state == IN_BULK && s->skip > 2 ? (size_t)s->skip - 2 : 0;
}

void resp_scan_skip(struct resp_scan *s, size_t bytes)
{
    assert(bytes <= resp_scan_opaque(s));
    s->skip -= (int64_t)bytes;
}

/* ---- reading one value ---- */

static enum err get_line(const char **pos, const char *end,
                         struct resp_value *v)
{
    const char *line = *pos;
    const char *cr = find_crlf(line, end);
    if (cr == NULL)
        return ERR_AGAIN;
    v->len = (size_t)(cr - line);
    if (!line_fits(v->type, line, v->len))
        return ERR_PROTO;
    v->null = v->type == '_';
    v->data = v->null ? NULL : line;
    v->number = v->type == '#' && line[0] == 't';
    *pos = cr + 2;
    return ERR_OK;
}

static enum err get_bulk(const char **pos, const char *end, uint64_t len,
                         struct resp_value *v)
{
    const char *data = *pos;
    if ((uint64_t)(end - data) < len + 2)
        return ERR_AGAIN;
    if (data[len] != '\r' || data[len + 1] != '\n')
        return ERR_PROTO;
    *pos = data + len + 2;
    v->data = data;
    v->len = (size_t)len;
    if (v->type == '=') {
        if (data[3] != ':')
            return ERR_PROTO;
        memcpy(v->format, data, 3);
        v->data += 4;
        v->len -= 4;
    }
    return ERR_OK;
}

static enum err get_number(const char **pos, const char *end,
                           struct resp_value *v)
{
    const char *digits = *pos;
    bool negative;
    uint64_t n;
    enum err e = resp_take_number(pos, end, &negative, &n);
    if (e != ERR_OK)
        return e;
    if (!number_fits(v->type, negative, n))
        return ERR_PROTO;
    enum shape shape = shape_of(v->type);
    if (shape == INTEGER) {
        v->number = (int64_t)(negative ? 0 - n : n);
        v->data = digits;
        v->len = (size_t)(*pos - 2 - digits);
        return ERR_OK;
    }
    if (negative) {
        v->null = true;
        return ERR_OK;
    }
    if (shape == BULK)
        return get_bulk(pos, end, n, v);
    v->number = (int64_t)(shape == PAIRS ? n * 2 : n);
    return ERR_OK;
}

enum err resp_get(const char *data, size_t len, struct resp_value *value,
                  size_t *used)
{
    if (len == 0)
        return ERR_AGAIN;
    struct resp_value v = {.type = data[0]};
    enum shape shape = shape_of(v.type);
    if (shape == NO_TYPE)
        return ERR_PROTO;
    const char *pos = data + 1;
    enum err e = shape == LINE ? get_line(&pos, data + len, &v)
                               : get_number(&pos, data + len, &v);
    if (e != ERR_OK)
        return e;
    *value = v;
    *used = (size_t)(pos - data);
    return ERR_OK;
}
