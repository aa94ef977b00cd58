/*
 * Random commands from templates, sometimes spoilt.
 *
 * In a template, %k is a key, %l the key of a list most of the time, %v a
 * value, %n a whole number, %f a number with decimals, %x a time to live that
 * ends now or much later, %c a channel, %p a pattern, %o an option of SET.
 */
#include "tests/differential.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define TEXT(s)                                                                \
    {                                                                          \
        (s), sizeof(s) - 1                                                     \
    }

/* ---- arguments ---- */

static char long_value[20001], medium_value[300];

/* An address of its own tells it from the empty value. */
static const char empty_key[] = "";
static const struct diff_arg keys[] = {
    TEXT("k1"), TEXT("k2"),     TEXT("k3"),         TEXT("k4"),
    TEXT("k5"), {empty_key, 0}, TEXT("\0\xff\r\n"), TEXT("[a-c]*?"),
};
static const struct diff_arg lists[] = {TEXT("l1"), TEXT("l2"), TEXT("l3"),
                                        TEXT("l\0")};
static const struct diff_arg values[] = {
    TEXT(""),
    TEXT("0"),
    TEXT("1"),
    TEXT("-1"),
    TEXT("10"),
    TEXT("007"),
    TEXT("+5"),
    TEXT(" 5"),
    TEXT("5 "),
    TEXT("-0"),
    TEXT("3.14"),
    TEXT("1e3"),
    TEXT("inf"),
    TEXT("nan"),
    TEXT("0x10"),
    TEXT("abc"),
    TEXT("9223372036854775807"),
    TEXT("-9223372036854775808"),
    TEXT("9223372036854775808"),
    TEXT("\r\n$3\r\nfoo\r\n"),
    TEXT("\0\1\2\xff\xfe"),
    {medium_value, sizeof(medium_value)},
    {long_value, sizeof(long_value) - 1},
};
static const struct diff_arg numbers[] = {
    TEXT("0"),
    TEXT("1"),
    TEXT("2"),
    TEXT("-1"),
    TEXT("-2"),
    TEXT("5"),
    TEXT("100"),
    TEXT("-100"),
    TEXT("1000000"),
    TEXT("9223372036854775807"),
    TEXT("-9223372036854775808"),
    TEXT("9223372036854775808"),
    TEXT("-9223372036854775807"),
    TEXT("536870911"),
    TEXT("536870912"),
    TEXT("536870913"),
    TEXT("4294967296"),
    TEXT("01"),
    TEXT("+1"),
    TEXT(" 1"),
    TEXT("1 "),
    TEXT("-0"),
    TEXT("1.0"),
    TEXT("abc"),
    TEXT(""),
    TEXT("1\0"),
};
static const struct diff_arg floats[] = {
    TEXT("0"),      TEXT("1.5"),    TEXT("-1.5"),   TEXT("0.1"),
    TEXT("1e5"),    TEXT("-1e-5"),  TEXT("1e4000"), TEXT("1e5000"),
    TEXT("inf"),    TEXT("-inf"),   TEXT("nan"),    TEXT(" 1"),
    TEXT("1 "),     TEXT("1e"),     TEXT("0x1p3"),  TEXT(""),
    TEXT("abc"),    TEXT("+1"),     TEXT(".5"),     TEXT("1.0000000001"),
    TEXT("1e-400"), TEXT("1\0002"),
};
static const struct diff_arg times[] = {
    TEXT("0"),
    TEXT("-1"),
    TEXT("100000"),
    TEXT("1000000"),
    TEXT("3000000000"),
    TEXT("3000000000000"),
    TEXT("9223372036854775"),
    TEXT("9223372036854776"),
    TEXT("9223372036854775807"),
    TEXT("-9223372036854775808"),
    TEXT("-9223372036854775"),
    TEXT("abc"),
    TEXT(""),
    TEXT("1.5"),
    TEXT("+100000"),
};
static const struct diff_arg channel_names[] = {TEXT("c1"),     TEXT("c2"),
                                                TEXT("news.a"), TEXT("news.b"),
                                                TEXT(""),       TEXT("\0\r\n")};
static const struct diff_arg patterns[] = {
    TEXT("*"),      TEXT("c?"),     TEXT("news.*"), TEXT("[^k]*"),
    TEXT("k[1-3]"), TEXT("k[3-1]"), TEXT("\\*"),    TEXT(""),
    TEXT("[a-c]*"), TEXT("*["),     TEXT("k[1"),    TEXT("\\"),
    TEXT("*\0*"),   TEXT("[]"),     TEXT("[^]*"),   TEXT("k[\\1-\\3]"),
    TEXT("***1"),   TEXT("?*"),     TEXT("l[1-]"),  TEXT("\\[a-c]\\*\\?"),
};
static const struct diff_arg options[] = {
    TEXT("NX"), TEXT("XX"),   TEXT("GET"),  TEXT("KEEPTTL"), TEXT("EX"),
    TEXT("PX"), TEXT("EXAT"), TEXT("PXAT"), TEXT("PERSIST"), TEXT("get"),
    TEXT("nX"), TEXT("FOO"),  TEXT(""),     TEXT("NX\0"),
};
/* What a spoilt argument becomes: nothing that could end a life soon. */
static const struct diff_arg junk[] = {TEXT(""),
                                       TEXT("abc"),
                                       TEXT("\0x"),
                                       TEXT("-1"),
                                       TEXT("99999999999999999999"),
                                       TEXT("NX"),
                                       TEXT("GET"),
                                       TEXT("LEFT"),
                                       TEXT("\r\n")};

/* ---- templates ---- */

struct template
{
    const char *text;
    enum diff_class class;
    bool fixed; /* never spoilt */
};

static const struct template templates[] = {
    {"GET %k", DIFF_EXACT, false},
    {"GET %k", DIFF_EXACT, false},
    {"SET %k %v", DIFF_EXACT, false},
    {"SET %k %v", DIFF_EXACT, false},
    {"SET %k %v %o", DIFF_EXACT, false},
    {"SET %k %v %o %x", DIFF_EXACT, false},
    {"SET %k %v %o %x %o", DIFF_EXACT, false},
    {"SET %k %v %o %o %x", DIFF_EXACT, false},
    {"SET %k %v EX %x", DIFF_EXACT, false},
    {"SET %k %v PXAT %x GET", DIFF_EXACT, false},
    {"GETSET %k %v", DIFF_EXACT, false},
    {"GETDEL %k", DIFF_EXACT, false},
    {"GETEX %k", DIFF_EXACT, false},
    {"GETEX %k %o", DIFF_EXACT, false},
    {"GETEX %k %o %x", DIFF_EXACT, false},
    {"GETEX %k PERSIST", DIFF_EXACT, false},
    {"GETEX %k EXAT %x", DIFF_EXACT, false},
    {"SETNX %k %v", DIFF_EXACT, false},
    {"SETEX %k %x %v", DIFF_EXACT, false},
    {"PSETEX %k %x %v", DIFF_EXACT, false},
    {"MGET %k %k %l", DIFF_EXACT, false},
    {"MSET %k %v %k %v", DIFF_EXACT, false},
    {"MSETNX %k %v %k %v", DIFF_EXACT, false},
    {"APPEND %k %v", DIFF_EXACT, false},
    {"STRLEN %k", DIFF_EXACT, false},
    {"GETRANGE %k %n %n", DIFF_EXACT, false},
    {"SETRANGE %k 5 %v", DIFF_EXACT, false},
    {"SETRANGE %k -1 %v", DIFF_EXACT, false},
    {"SETRANGE %k 536870912 %v", DIFF_EXACT, true},
    {"SETRANGE %k 9223372036854775807 %v", DIFF_EXACT, true},
    {"INCR %k", DIFF_EXACT, false},
    {"DECR %k", DIFF_EXACT, false},
    {"INCRBY %k %n", DIFF_EXACT, false},
    {"DECRBY %k %n", DIFF_EXACT, false},
    {"INCRBYFLOAT %k %f", DIFF_EXACT, false},
    {"DEL %k %k", DIFF_EXACT, false},
    {"DEL %k", DIFF_EXACT, false},
    {"UNLINK %k %l", DIFF_EXACT, false},
    {"EXISTS %k %k %l", DIFF_EXACT, false},
    {"TOUCH %k %l", DIFF_EXACT, false},
    {"EXPIRE %k %x", DIFF_EXACT, false},
    {"EXPIRE %k %x NX", DIFF_EXACT, false},
    {"PEXPIRE %k %x XX", DIFF_EXACT, false},
    {"EXPIREAT %k %x", DIFF_EXACT, false},
    {"EXPIREAT %k %x GT", DIFF_EXACT, false},
    {"PEXPIREAT %k %x LT", DIFF_EXACT, false},
    {"PEXPIREAT %k 3000000000001 XX GT", DIFF_EXACT, false},
    {"EXPIRE %k 100000 NX XX", DIFF_EXACT, false},
    {"EXPIRE %k 100000 GT LT", DIFF_EXACT, false},
    {"TTL %k", DIFF_NEAR, false},
    {"PTTL %k", DIFF_NEAR, false},
    {"EXPIRETIME %k", DIFF_NEAR, false},
    {"PEXPIRETIME %k", DIFF_NEAR, false},
    {"PERSIST %k", DIFF_EXACT, false},
    {"TYPE %k", DIFF_EXACT, false},
    {"TYPE %l", DIFF_EXACT, false},
    {"KEYS %p", DIFF_UNSORTED, false},
    {"SCAN 0 COUNT 100000", DIFF_UNSORTED, true},
    {"SCAN 0 MATCH %p COUNT 100000", DIFF_UNSORTED, true},
    {"SCAN 0 COUNT 100000 TYPE list", DIFF_UNSORTED, true},
    {"SCAN 0 TYPE foo COUNT 100000", DIFF_UNSORTED, true},
    {"SCAN abc", DIFF_EXACT, true},
    {"SCAN 0 COUNT 0", DIFF_EXACT, true},
    {"SCAN 0 COUNT abc", DIFF_EXACT, true},
    {"SCAN 0 MATCH", DIFF_EXACT, true},
    {"SCAN 0 FOO BAR", DIFF_EXACT, true},
    {"SCAN 99999999999999999999999", DIFF_EXACT, true},
    {"RENAME %k %k", DIFF_EXACT, false},
    {"RENAME %k %l", DIFF_EXACT, false},
    {"RENAMENX %k %k", DIFF_EXACT, false},
    {"RANDOMKEY", DIFF_TYPE, false},
    {"DBSIZE", DIFF_TYPE, false},
    {"FLUSHDB", DIFF_EXACT, false},
    {"FLUSHALL ASYNC", DIFF_EXACT, false},
    {"LPUSH %l %v %v", DIFF_EXACT, false},
    {"LPUSH %l %v", DIFF_EXACT, false},
    {"RPUSH %l %v", DIFF_EXACT, false},
    {"RPUSH %l %v %v %v %v", DIFF_EXACT, false},
    {"LPUSHX %l %v", DIFF_EXACT, false},
    {"RPUSHX %l %v", DIFF_EXACT, false},
    {"LPOP %l", DIFF_EXACT, false},
    {"RPOP %l", DIFF_EXACT, false},
    {"LPOP %l %n", DIFF_EXACT, false},
    {"RPOP %l %n", DIFF_EXACT, false},
    {"LLEN %l", DIFF_EXACT, false},
    {"LRANGE %l %n %n", DIFF_EXACT, false},
    {"LRANGE %l 0 -1", DIFF_EXACT, false},
    {"LINDEX %l %n", DIFF_EXACT, false},
    {"LMOVE %l %l LEFT RIGHT", DIFF_EXACT, false},
    {"LMOVE %l %k RIGHT LEFT", DIFF_EXACT, false},
    {"LMOVE %l %l LEFT FOO", DIFF_EXACT, false},
    {"BLPOP %l %l 0", DIFF_EXACT, true},
    {"BRPOP %l 1000", DIFF_EXACT, true},
    {"BLPOP %l %k 1e2", DIFF_EXACT, true},
    {"BLPOP %l -1", DIFF_EXACT, true},
    {"BLPOP %l abc", DIFF_EXACT, true},
    {"BRPOP %l 1e18", DIFF_EXACT, true},
    {"BRPOP %l inf", DIFF_EXACT, true},
    {"BRPOP %l", DIFF_EXACT, true},
    {"BLMOVE %l %l LEFT RIGHT 0", DIFF_EXACT, true},
    {"BLMOVE %l %k RIGHT LEFT 100", DIFF_EXACT, true},
    {"BLMOVE %l %l LEFT UP 0", DIFF_EXACT, true},
    {"BLMOVE %l %l LEFT LEFT -5", DIFF_EXACT, true},
    {"PUBLISH %c %v", DIFF_UNSORTED, false},
    {"SUBSCRIBE %c %c", DIFF_EXACT, false},
    {"UNSUBSCRIBE", DIFF_UNSORTED, false},
    {"UNSUBSCRIBE %c", DIFF_UNSORTED, false},
    {"PSUBSCRIBE %p", DIFF_EXACT, false},
    {"PUNSUBSCRIBE %p %p", DIFF_UNSORTED, false},
    {"PUNSUBSCRIBE", DIFF_UNSORTED, false},
    {"PUBSUB CHANNELS", DIFF_UNSORTED, true},
    {"PUBSUB CHANNELS %p", DIFF_UNSORTED, true},
    {"PUBSUB CHANNELS %p %p", DIFF_EXACT, true},
    {"PUBSUB NUMSUB %c %c", DIFF_EXACT, true},
    {"PUBSUB NUMSUB", DIFF_EXACT, true},
    {"PUBSUB NUMPAT", DIFF_EXACT, true},
    {"PUBSUB FOO", DIFF_EXACT, true},
    {"PUBSUB", DIFF_EXACT, true},
    {"MULTI", DIFF_EXACT, false},
    {"MULTI", DIFF_EXACT, false},
    {"EXEC", DIFF_EXACT, false},
    {"EXEC", DIFF_EXACT, false},
    {"EXEC", DIFF_EXACT, false},
    {"DISCARD", DIFF_EXACT, false},
    {"WATCH %k", DIFF_EXACT, false},
    {"WATCH %k %l", DIFF_EXACT, false},
    {"UNWATCH", DIFF_EXACT, false},
    {"PING", DIFF_EXACT, false},
    {"PING %v", DIFF_EXACT, false},
    {"ECHO %v", DIFF_EXACT, false},
    {"SELECT 0", DIFF_EXACT, true},
    {"SELECT 1", DIFF_EXACT, true},
    {"SELECT %n", DIFF_EXACT, false},
    {"AUTH %v", DIFF_EXACT, true},
    {"AUTH default %v", DIFF_EXACT, true},
    {"AUTH foo bar", DIFF_EXACT, true},
    {"AUTH a b c", DIFF_EXACT, true},
    {"HELLO", DIFF_EXACT, false},
    {"HELLO 2", DIFF_EXACT, false},
    {"HELLO 3", DIFF_EXACT, false},
    {"HELLO %n", DIFF_EXACT, false},
    {"HELLO 3 SETNAME foo", DIFF_EXACT, false},
    {"HELLO 2 AUTH default x SETNAME a\1b", DIFF_EXACT, true},
    {"RESET", DIFF_EXACT, false},
    {"RESET", DIFF_EXACT, false},
    {"CLIENT GETNAME", DIFF_EXACT, false},
    {"CLIENT SETNAME %v", DIFF_EXACT, true},
    {"CLIENT SETNAME", DIFF_EXACT, true},
    {"CLIENT REPLY ON", DIFF_EXACT, true},
    {"CLIENT REPLY SKIP", DIFF_EXACT, true},
    {"CLIENT REPLY OFF", DIFF_EXACT, true},
    {"CLIENT REPLY FOO", DIFF_EXACT, true},
    {"CLIENT KILL 1.2.3.4:5", DIFF_EXACT, true},
    {"CLIENT KILL ID 999999999", DIFF_EXACT, true},
    {"CLIENT KILL ID %n TYPE foo", DIFF_EXACT, true},
    {"CLIENT KILL TYPE master", DIFF_EXACT, true},
    {"CLIENT KILL USER nobody", DIFF_EXACT, true},
    {"CLIENT KILL FOO BAR", DIFF_EXACT, true},
    {"CLIENT LIST FOO", DIFF_EXACT, true},
    {"CLIENT LIST TYPE foo", DIFF_EXACT, true},
    {"CLIENT LIST ID abc", DIFF_EXACT, true},
    {"CLIENT LIST TYPE replica", DIFF_EXACT, true},
    {"CLIENT FOO", DIFF_EXACT, true},
    {"CLIENT", DIFF_EXACT, true},
    {"COMMAND INFO get set getex lmove mset blpop foo", DIFF_EXACT, true},
    {"COMMAND INFO client|id config|get pubsub|numsub", DIFF_EXACT, true},
    {"COMMAND INFO shutdown reset publish watch hello scan", DIFF_EXACT, true},
    {"COMMAND INFO del unlink rename expire keys touch", DIFF_EXACT, true},
    {"COMMAND COUNT 1", DIFF_EXACT, true},
    {"COMMAND FOO", DIFF_EXACT, true},
    {"COMMAND DOCS foo", DIFF_EXACT, true},
    {"CONFIG GET maxmemory", DIFF_EXACT, true},
    {"CONFIG GET MAXMEMORY-POLICY save", DIFF_UNSORTED, true},
    {"CONFIG GET foo", DIFF_EXACT, true},
    {"CONFIG GET", DIFF_EXACT, true},
    {"CONFIG SET timeout 0", DIFF_EXACT, true},
    {"CONFIG SET timeout abc", DIFF_EXACT, true},
    {"CONFIG SET foo bar", DIFF_EXACT, true},
    {"CONFIG SET maxmemory", DIFF_EXACT, true},
    {"CONFIG SET maxmemory abc", DIFF_EXACT, true},
    {"CONFIG SET timeout 0 timeout 0", DIFF_EXACT, true},
    {"CONFIG SET port", DIFF_EXACT, true},
    {"CONFIG FOO", DIFF_EXACT, true},
    {"DEBUG SLEEP 0", DIFF_EXACT, true},
    {"DEBUG FOO", DIFF_EXACT, true},
    {"DEBUG", DIFF_EXACT, true},
    {"SHUTDOWN FOO", DIFF_EXACT, true},
    {"SHUTDOWN ABORT NOW", DIFF_EXACT, true},
    {"SHUTDOWN ABORT", DIFF_EXACT, true},
    {"TIME 1", DIFF_EXACT, true},
    {"NOSUCH %v %k %v", DIFF_EXACT, false},
    {"GETT %k", DIFF_EXACT, false},
    {"%v %v", DIFF_EXACT, true},
};

/* ---- choosing ---- */

uint64_t diff_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static size_t below(uint64_t *state, size_t n)
{
    return (size_t)(diff_random(state) % n);
}

#define PICK(state, pool) (pool)[below(state, COUNT(pool))]

static struct diff_arg pick(uint64_t *state, char kind)
{
    switch (kind) {
    case 'k':
        return below(state, 8) == 0 ? PICK(state, lists) : PICK(state, keys);
    case 'l':
        return below(state, 8) == 0 ? PICK(state, keys) : PICK(state, lists);
    case 'n':
        return PICK(state, numbers);
    case 'f':
        return PICK(state, floats);
    case 'x':
        return PICK(state, times);
    case 'c':
        return PICK(state, channel_names);
    case 'p':
        return PICK(state, patterns);
    case 'o':
        return PICK(state, options);
    default:
        return PICK(state, values);
    }
}

static void expand(uint64_t *state, const char *text, struct diff_command *out)
{
    out->argc = 0;
    for (const char *p = text; *p != '\0';) {
        size_t len = strcspn(p, " ");
        if (len == 2 && p[0] == '%')
            out->args[out->argc++] = pick(state, p[1]);
        else
            out->args[out->argc++] = (struct diff_arg){p, len};
        p += len;
        if (*p == ' ')
            p++;
    }
}

/* Drops, adds, repeats or replaces an argument behind the name. */
static void spoil(uint64_t *state, struct diff_command *k)
{
    size_t at = 1 + below(state, k->argc);
    switch (below(state, 4)) {
    case 0:
        if (k->argc > 1)
            k->argc--;
        break;
    case 1:
        if (k->argc < DIFF_ARGS)
            k->args[k->argc++] = PICK(state, junk);
        break;
    case 2:
        if (k->argc < DIFF_ARGS && k->argc > 1) {
            k->args[k->argc] = k->args[k->argc - 1];
            k->argc++;
        }
        break;
    default:
        if (at < k->argc)
            k->args[at] = PICK(state, junk);
        break;
    }
}

void diff_generate(uint64_t *state, bool in_multi, struct diff_command *out)
{
    memset(medium_value, 'm', sizeof(medium_value));
    memset(long_value, 'x', sizeof(long_value) - 1);
    const struct template *t;
    do {
        t = &PICK(state, templates);
    } while (in_multi && t->class != DIFF_EXACT);
    out->class = t->class;
    expand(state, t->text, out);
    if (!t->fixed && below(state, 8) == 0)
        spoil(state, out);
}

bool diff_is(const struct diff_command *command, const char *name)
{
    return command->args[0].len == strlen(name) &&
           strncasecmp(command->args[0].data, name, strlen(name)) == 0;
}

static bool is_of(const struct diff_arg *arg, const struct diff_arg pool[],
                  size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (arg->data == pool[i].data && arg->len == pool[i].len)
            return true;
    return false;
}

bool diff_is_key(const struct diff_arg *arg)
{
    return arg->len > 0 &&
           (is_of(arg, keys, COUNT(keys)) || is_of(arg, lists, COUNT(lists)));
}

char *diff_encode(const struct diff_command *command, size_t *len)
{
    size_t size = 32;
    for (size_t i = 0; i < command->argc; i++)
        size += command->args[i].len + 32;
    char *out = malloc(size);
    if (out == NULL)
        abort();
    size_t n = (size_t)sprintf(out, "*%zu\r\n", command->argc);
    for (size_t i = 0; i < command->argc; i++) {
        const struct diff_arg *a = &command->args[i];
        n += (size_t)sprintf(out + n, "$%zu\r\n", a->len);
        memcpy(out + n, a->data, a->len);
        memcpy(out + n + a->len, "\r\n", 2);
        n += a->len + 2;
    }
    *len = n;
    return out;
}

/* ---- comparing ---- */

void diff_print(const char *data, size_t len, char *out, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < len && n + 8 < size; i++) {
        unsigned char byte = (unsigned char)data[i];
        if (byte == '\r')
            n += (size_t)sprintf(out + n, "\\r");
        else if (byte == '\n')
            n += (size_t)sprintf(out + n, "\\n");
        else if (isprint(byte))
            out[n++] = (char)byte;
        else
            n += (size_t)sprintf(out + n, "\\x%02x", byte);
    }
    out[n] = '\0';
}

struct line {
    const char *data;
    size_t len;
};

static int compare_lines(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    size_t len = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->data, y->data, len);
    if (order != 0)
        return order;
    return x->len < y->len ? -1 : x->len > y->len;
}

static struct line *sorted_lines(const char *data, size_t len, size_t *count)
{
    struct line *lines = malloc((len + 1) * sizeof(*lines));
    if (lines == NULL)
        abort();
    *count = 0;
    for (size_t at = 0; at < len;) {
        const char *end = memchr(data + at, '\n', len - at);
        size_t size = end != NULL ? (size_t)(end - data) + 1 - at : len - at;
        lines[(*count)++] = (struct line){data + at, size};
        at += size;
    }
    qsort(lines, *count, sizeof(*lines), compare_lines);
    return lines;
}

static bool same_lines(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t n, m;
    struct line *x = sorted_lines(a, a_len, &n);
    struct line *y = sorted_lines(b, b_len, &m);
    bool same = n == m;
    for (size_t i = 0; same && i < n; i++)
        same = compare_lines(&x[i], &y[i]) == 0;
    free(x);
    free(y);
    return same;
}

/* Both clocks run on between the two commands, on a busy machine for seconds;
 * in either unit. */
static bool near(const char *a, size_t a_len, const char *b, size_t b_len)
{
    if (a_len < 2 || b_len < 2 || a[0] != ':' || b[0] != ':')
        return false;
    long long x = atoll(a + 1), y = atoll(b + 1);
    return x >= 0 && y >= 0 && llabs(x - y) <= 10000;
}

bool diff_same(enum diff_class class, const char *a, size_t a_len,
               const char *b, size_t b_len)
{
    if (a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0))
        return true;
    switch (class) {
    case DIFF_EXACT:
        return false;
    case DIFF_UNSORTED:
        return a_len == b_len && same_lines(a, a_len, b, b_len);
    case DIFF_NEAR:
        return near(a, a_len, b, b_len);
    case DIFF_TYPE:
        return a_len > 0 && b_len > 0 && a[0] == b[0];
    }
    return false;
}
