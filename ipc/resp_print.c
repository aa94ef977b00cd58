/*
 * Prints a reply straight from its bytes: no tree is built. A value is printed
 * without the newline behind it; the level above knows what follows: a newline,
 * " => " or the end.
 *
 * On a terminal a nested array starts on its parent's line and indents the
 * lines after the first, so all that must be known is a number of blanks.
 */
#include "ipc/resp_print.h"

#include <errno.h>
#include <string.h>

#include "ipc/printable.h"

struct printer {
    FILE *out;
    const char *pos, *end; /* what is not printed yet */
    enum resp_format format;
    int depth;
    int error; /* errno of the first write that failed */
};

static enum err print_value(struct printer *p, int indent);

static void put(struct printer *p, const char *data, size_t len)
{
    if (len > 0 && p->error == 0 &&
        fwrite_unlocked(data, 1, len, p->out) != len)
        p->error = errno != 0 ? errno : EIO;
}

static void put_text(struct printer *p, const char *text)
{
    put(p, text, strlen(text));
}

static void put_value(struct printer *p, const struct resp_value *v)
{
    put(p, v->data, v->len);
}

/* ---- quoting ---- */

/* The escape for `c` or "" when it stands for itself; `buf` may hold it. */
typedef const char *escape_fn(unsigned char c, char buf[8]);

static const char *escape_tty(unsigned char c, char buf[8])
{
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '\a':
        return "\\a";
    case '\b':
        return "\\b";
    default:
        if (c >= 0x20 && c < 0x7f)
            return "";
        snprintf(buf, 8, "\\x%02x", c);
        return buf;
    }
}

static const char *escape_json(unsigned char c, char buf[8])
{
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '\f':
        return "\\f";
    case '\b':
        return "\\b";
    default:
        if (c >= 0x20)
            return "";
        snprintf(buf, 8, "\\u%04x", c);
        return buf;
    }
}

static void put_quoted(struct printer *p, const char *data, size_t len,
                       escape_fn *escape)
{
    char buf[8];
    size_t plain = 0; /* where the bytes begin that need no escape */
    put(p, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        const char *text = escape((unsigned char)data[i], buf);
        if (text[0] == '\0')
            continue;
        put(p, data + plain, i - plain);
        put_text(p, text);
        plain = i + 1;
    }
    if (plain < len)
        put(p, data + plain, len - plain);
    put(p, "\"", 1);
}

void resp_print_quoted(FILE *out, const char *data, size_t len)
{
    struct printer p = {.out = out};
    put_quoted(&p, data, len, escape_tty);
}

/* What stands on a terminal without quotes: errors, statuses, text in lines
 * (INFO). Line ends and tabs are its own, what else a terminal would obey is
 * shown as it is in quotes. redis-cli, which sends all of it, is kinder to its
 * servers than one should be. */
static void put_shown(struct printer *p, const char *data, size_t len)
{
    char buf[8];
    for (size_t i = 0; i < len;) {
        size_t n = printable_span(data + i, len - i);
        if (n == 0 && (data[i] == '\n' || data[i] == '\t'))
            n = 1;
        if (n == 0 && data[i] == '\r' && i + 1 < len && data[i + 1] == '\n')
            n = 2;
        put(p, data + i, n);
        if (n == 0) {
            put_text(p, escape_tty((unsigned char)data[i], buf));
            n = 1;
        }
        i += n;
    }
}

/* ---- reading ahead ---- */

static enum err next_value(const char **pos, const char *end,
                           struct resp_value *v)
{
    size_t used;
    enum err e = resp_get(*pos, (size_t)(end - *pos), v, &used);
    if (e == ERR_OK)
        *pos += used;
    return e == ERR_AGAIN ? ERR_PROTO : e;
}

/* Steps over one value, however deep. */
static enum err skip_value(const char **pos, const char *end)
{
    struct resp_scan scan;
    size_t used;
    resp_scan_reset(&scan);
    enum err e = resp_scan(&scan, *pos, (size_t)(end - *pos), &used);
    if (e != ERR_OK)
        return ERR_PROTO;
    *pos += used;
    return ERR_OK;
}

/* Takes a value's header, and passes over attributes before it. */
static enum err take_value(const char **pos, const char *end,
                           struct resp_value *v)
{
    for (;;) {
        enum err e = next_value(pos, end, v);
        if (e != ERR_OK || v->type != '|')
            return e;
        for (int64_t i = 0; i < v->number; i++) {
            e = skip_value(pos, end);
            if (e != ERR_OK)
                return e;
        }
    }
}

static bool is_aggregate(const struct resp_value *v)
{
    return !v->null && strchr("*%~>", v->type) != NULL;
}

static bool is_text(const struct resp_value *v)
{
    return !v->null && strchr("+-!$=", v->type) != NULL;
}

/* Whether redis-cli puts the map's value at `pos` on lines of its own: it does
 * for what has more than one element somewhere on the way down. What is broken
 * there is found when it is printed. */
static bool takes_lines(const char *pos, const char *end)
{
    struct resp_value v;
    while (take_value(&pos, end, &v) == ERR_OK && is_aggregate(&v)) {
        int64_t width = v.type == '%' ? 2 : 1;
        if (v.number != width)
            return v.number > width;
        if (v.type == '%' && skip_value(&pos, end) != ERR_OK)
            return false;
    }
    return false;
}

/* ---- a terminal ---- */

static void put_blanks(struct printer *p, int count)
{
    static const char blanks[] = "                                ";
    const int most = (int)sizeof(blanks) - 1;
    for (; count > most; count -= most)
        put(p, blanks, (size_t)most);
    put(p, blanks, (size_t)count);
}

static void tty_leaf(struct printer *p, const struct resp_value *v)
{
    if (v->null) {
        put_text(p, "(nil)");
        return;
    }
    switch (v->type) {
    case '-':
    case '!':
        put_text(p, "(error) ");
        break;
    case ':':
        put_text(p, "(integer) ");
        break;
    case ',':
        put_text(p, "(double) ");
        break;
    case '(':
        put_text(p, "(big number) ");
        break;
    case '#':
        put_text(p, v->number ? "(true)" : "(false)");
        return;
    case '$':
        put_quoted(p, v->data, v->len, escape_tty);
        return;
    default:
        break;
    }
    put_shown(p, v->data, v->len);
}

static const char *tty_empty(char type)
{
    switch (type) {
    case '%':
        return "(empty hash)";
    case '~':
        return "(empty set)";
    case '>':
        return "(empty push)";
    default:
        return "(empty array)";
    }
}

static enum err tty_aggregate(struct printer *p, const struct resp_value *v,
                              int indent)
{
    bool map = v->type == '%';
    int64_t count = map ? v->number / 2 : v->number;
    if (count == 0) {
        put_text(p, tty_empty(v->type));
        return ERR_OK;
    }
    char label[32];
    int width = snprintf(label, sizeof(label), "%lld", (long long)count);
    const char *mark = map ? "#" : v->type == '~' ? "~" : ")";
    int inner = indent + width + 2;
    for (int64_t i = 0; i < count; i++) {
        if (i > 0) {
            put(p, "\n", 1);
            put_blanks(p, indent);
        }
        snprintf(label, sizeof(label), "%*lld%s ", width, (long long)i + 1,
                 mark);
        put_text(p, label);
        enum err e = print_value(p, inner);
        if (e != ERR_OK)
            return e;
        if (!map)
            continue;
        put_text(p, " => ");
        if (takes_lines(p->pos, p->end)) {
            put(p, "\n", 1);
            put_blanks(p, inner);
        }
        e = print_value(p, inner);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

/* ---- raw ---- */

static void raw_leaf(struct printer *p, const struct resp_value *v)
{
    if (v->type == '#')
        put_text(p, v->number ? "(true)" : "(false)");
    else
        put_value(p, v);
    if (v->type == '-' || v->type == '!')
        put(p, "\n", 1);
}

static enum err raw_aggregate(struct printer *p, const struct resp_value *v)
{
    for (int64_t i = 0; i < v->number; i++) {
        if (i > 0)
            put_text(p, v->type == '%' && i % 2 == 1 ? " " : "\n");
        enum err e = print_value(p, 0);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

/* ---- JSON ---- */

/* A script may send anything as a big number. */
static bool is_digits(const char *s, size_t len)
{
    size_t i = len > 0 && s[0] == '-';
    if (i == len || (s[i] == '0' && len > i + 1))
        return false;
    while (i < len && s[i] >= '0' && s[i] <= '9')
        i++;
    return i == len;
}

static void json_leaf(struct printer *p, const struct resp_value *v)
{
    if (v->null) {
        put_text(p, "null");
        return;
    }
    switch (v->type) {
    case ':':
    case ',':
        put_value(p, v);
        return;
    case '#':
        put_text(p, v->number ? "true" : "false");
        return;
    case '(':
        if (is_digits(v->data, v->len)) {
            put_value(p, v);
            return;
        }
        break;
    case '-':
    case '!':
        put_text(p, "error:");
        break;
    default:
        break;
    }
    put_quoted(p, v->data, v->len, escape_json);
}

/* A key must be a string: what is none is put between quotes. */
static enum err json_key(struct printer *p)
{
    const char *ahead = p->pos;
    struct resp_value v;
    enum err e = take_value(&ahead, p->end, &v);
    if (e != ERR_OK)
        return e;
    bool bare = !is_text(&v);
    if (bare)
        put(p, "\"", 1);
    e = print_value(p, 0);
    if (bare)
        put(p, "\"", 1);
    return e;
}

static enum err json_aggregate(struct printer *p, const struct resp_value *v)
{
    bool map = v->type == '%';
    put(p, map ? "{" : "[", 1);
    for (int64_t i = 0; i < v->number; i++) {
        bool key = map && i % 2 == 0;
        if (i > 0)
            put(p, map && !key ? ":" : ",", 1);
        enum err e = key ? json_key(p) : print_value(p, 0);
        if (e != ERR_OK)
            return e;
    }
    put(p, map ? "}" : "]", 1);
    return ERR_OK;
}

/* ---- all of them ---- */

static void print_leaf(struct printer *p, const struct resp_value *v)
{
    switch (p->format) {
    case RESP_FORMAT_TTY:
        tty_leaf(p, v);
        break;
    case RESP_FORMAT_RAW:
        raw_leaf(p, v);
        break;
    case RESP_FORMAT_JSON:
        json_leaf(p, v);
        break;
    }
}

static enum err print_aggregate(struct printer *p, const struct resp_value *v,
                                int indent)
{
    switch (p->format) {
    case RESP_FORMAT_TTY:
        return tty_aggregate(p, v, indent);
    case RESP_FORMAT_RAW:
        return raw_aggregate(p, v);
    case RESP_FORMAT_JSON:
        return json_aggregate(p, v);
    }
    return ERR_INVALID;
}

static enum err print_value(struct printer *p, int indent)
{
    struct resp_value v;
    if (p->error != 0)
        return ERR_SYS;
    enum err e = take_value(&p->pos, p->end, &v);
    if (e != ERR_OK)
        return e;
    if (!is_aggregate(&v)) {
        print_leaf(p, &v);
        return ERR_OK;
    }
    if (p->depth == RESP_DEPTH_MAX)
        return ERR_LIMIT;
    p->depth++;
    e = print_aggregate(p, &v, indent);
    p->depth--;
    return e;
}

enum err resp_print(FILE *out, const char *data, size_t len,
                    enum resp_format format, size_t *used)
{
    struct printer p = {
        .out = out, .pos = data, .end = data + len, .format = format};
    enum err e = print_value(&p, 0);
    if (e != ERR_OK && e != ERR_SYS)
        return e;
    put(&p, "\n", 1);
    if (p.error != 0) {
        errno = p.error;
        return ERR_SYS;
    }
    if (used != NULL)
        *used = (size_t)(p.pos - data);
    return ERR_OK;
}
