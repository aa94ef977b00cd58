/*
 * Reading a connection URI.
 *
 * What a person mistyped may be a password in the wrong place, so no error
 * repeats any part of the text: it names the part and says what was expected.
 */
#include "manager/uri.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SOCKET_PATH_MAX 107 /* of sockaddr_un, without its NUL */
#define PORT 6379
#define SENTINEL_PORT 26379

/* A part of the text. */
struct span {
    const char *at, *end;
};

static size_t span_len(struct span s)
{
    return (size_t)(s.end - s.at);
}

static struct span span_cut(struct span *rest, size_t len, size_t separator)
{
    struct span s = {rest->at, rest->at + len};
    rest->at = s.end + separator;
    return s;
}

static const char *find(struct span s, char c)
{
    return span_len(s) == 0 ? NULL : memchr(s.at, c, span_len(s));
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes %XX into `out`. Control characters are let through only in a
 * password: the other parts are shown in logs. */
static enum err decode(struct span s, char *out, size_t size, bool any,
                       const char *part, struct err_text *why)
{
    size_t n = 0;
    for (const char *p = s.at; p < s.end; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '%') {
            int high = s.end - p > 2 ? hex_digit(p[1]) : -1;
            int low = s.end - p > 2 ? hex_digit(p[2]) : -1;
            if (high < 0 || low < 0)
                return err_say(why, ERR_INVALID,
                               "URI: a '%%' in the %s is not followed by two "
                               "hexadecimal digits: write %%25 for '%%'",
                               part);
            c = (unsigned char)(high << 4 | low);
            p += 2;
        }
        if (c == 0 || (!any && (c < ' ' || c == 0x7f)))
            return err_say(why, ERR_INVALID,
                           "URI: the %s holds a control character", part);
        if (n + 1 >= size)
            return err_say(why, ERR_INVALID,
                           "URI: the %s is longer than %zu bytes", part,
                           size - 1);
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return ERR_OK;
}

/* A decimal number without sign; false if it is none or above `max`. */
static bool number(struct span s, uint32_t max, uint32_t *out)
{
    uint64_t n = 0;
    if (span_len(s) == 0 || span_len(s) > 10)
        return false;
    for (const char *p = s.at; p < s.end; p++) {
        if (*p < '0' || *p > '9')
            return false;
        n = n * 10 + (uint64_t)(*p - '0');
    }
    if (n > max)
        return false;
    *out = (uint32_t)n;
    return true;
}

/* ---- the parts ---- */

enum kind { KIND_TCP, KIND_UNIX, KIND_SENTINEL };

static enum err parse_scheme(struct uri *uri, struct span *rest,
                             enum kind *kind, struct err_text *why)
{
    static const struct {
        const char *name;
        bool tls;
        enum kind kind;
    } schemes[] = {
        {"redis", false, KIND_TCP},
        {"rediss", true, KIND_TCP},
        {"valkey", false, KIND_TCP},
        {"valkeys", true, KIND_TCP},
        {"unix", false, KIND_UNIX},
        {"redis+unix", false, KIND_UNIX},
        {"valkey+unix", false, KIND_UNIX},
        {"sentinel", false, KIND_SENTINEL},
        {"sentinels", true, KIND_SENTINEL},
        {"redis-sentinel", false, KIND_SENTINEL},
        {"rediss-sentinel", true, KIND_SENTINEL},
    };
    const char *mark = strstr(rest->at, "://");
    size_t len = mark == NULL ? 0 : (size_t)(mark - rest->at);
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (len > 0 && strlen(schemes[i].name) == len &&
            strncasecmp(rest->at, schemes[i].name, len) == 0) {
            uri->tls = schemes[i].tls;
            uri->is_unix = schemes[i].kind == KIND_UNIX;
            *kind = schemes[i].kind;
            rest->at = mark + 3;
            return ERR_OK;
        }
    }
    return err_say(why, ERR_INVALID,
                   "URI: expected redis://, rediss:// (TLS), valkey://, "
                   "valkeys://, unix://, cluster://, clusters://, sentinel:// "
                   "or sentinels:// at its beginning, as in "
                   "redis://127.0.0.1:6379/0 or unix:///run/redis/redis.sock");
}

/* `user`, `user:password` or `:password`, in front of the last '@'. */
static enum err parse_userinfo(struct uri *uri, struct span *authority,
                               struct err_text *why)
{
    const char *at = span_len(*authority) == 0
                         ? NULL
                         : memrchr(authority->at, '@', span_len(*authority));
    if (at == NULL)
        return ERR_OK;
    struct span info = span_cut(authority, (size_t)(at - authority->at), 1);
    const char *colon = find(info, ':');
    struct span user = {info.at, colon != NULL ? colon : info.end};
    enum err e =
        decode(user, uri->user, sizeof(uri->user), false, "user name", why);
    if (e != ERR_OK || colon == NULL)
        return e;
    struct span password = {colon + 1, info.end};
    return decode(password, uri->password, sizeof(uri->password), true,
                  "password", why);
}

static enum err parse_db(struct uri *uri, struct span text,
                         struct err_text *why)
{
    if (number(text, INT32_MAX, &uri->db))
        return ERR_OK;
    return err_say(why, ERR_INVALID,
                   "URI: the database is not a number: expected %s",
                   uri->is_unix              ? "unix:///path?db=N"
                   : uri->sentinel_count > 0 ? "sentinel://host/master?db=N"
                                             : "redis://host:port/N");
}

/* `db=N`, the only parameter there is. */
static enum err parse_query(struct uri *uri, struct span query,
                            struct err_text *why)
{
    if (span_len(query) >= 3 && memcmp(query.at, "db=", 3) == 0 &&
        find(query, '&') == NULL) {
        query.at += 3;
        return parse_db(uri, query, why);
    }
    return err_say(why, ERR_INVALID,
                   "URI: a parameter behind '?' is not known: only ?db=N is; "
                   "TLS and the protocol have options of their own");
}

/* An IPv6 address with an optional zone. */
static bool is_v6(const char *host)
{
    char address[INET6_ADDRSTRLEN + 1];
    unsigned char binary[16];
    size_t len = strcspn(host, "%");
    if (len >= sizeof(address) || (host[len] != '\0' && host[len + 1] == '\0'))
        return false;
    memcpy(address, host, len);
    address[len] = '\0';
    return inet_pton(AF_INET6, address, binary) == 1;
}

/* Whether it may be a name, or an IPv4 address. */
static bool is_name(const char *host)
{
    return host[0] != '\0' && strpbrk(host, " \"'<>\\^`{|}[]:/?#@%") == NULL;
}

/* `[v6]` with an optional zone, without the brackets in `uri->host`. */
static enum err parse_v6(struct uri *uri, struct span text,
                         struct err_text *why)
{
    enum err e = decode(text, uri->host, sizeof(uri->host), false, "host", why);
    if (e != ERR_OK || is_v6(uri->host))
        return e;
    return err_say(why, ERR_INVALID,
                   "URI: what is in brackets is not an IPv6 address: expected "
                   "something like [::1] or [fe80::1%%25eth0]");
}

static enum err parse_name(struct uri *uri, struct span text,
                           struct err_text *why)
{
    enum err e = decode(text, uri->host, sizeof(uri->host), false, "host", why);
    if (e != ERR_OK)
        return e;
    if (uri->host[0] == '\0')
        return err_say(why, ERR_INVALID,
                       "URI: the host is missing: expected "
                       "[user[:password]@]host[:port] behind ://, and one "
                       "behind each comma");
    if (!is_name(uri->host))
        return err_say(why, ERR_INVALID,
                       "URI: the host holds a character that no host name "
                       "has: expected a name, an IPv4 address or an IPv6 "
                       "address in brackets");
    return ERR_OK;
}

static enum err parse_host(struct uri *uri, struct span authority,
                           struct err_text *why)
{
    struct span host = authority;
    const char *after;
    enum err e;
    if (span_len(authority) > 0 && authority.at[0] == '[') {
        const char *close = find(authority, ']');
        if (close == NULL)
            return err_say(why, ERR_INVALID,
                           "URI: the host's '[' has no ']' after it");
        host = (struct span){authority.at + 1, close};
        after = close + 1;
        e = parse_v6(uri, host, why);
    } else {
        const char *colon = find(authority, ':');
        after = colon != NULL ? colon : authority.end;
        host.end = after;
        if (colon != NULL &&
            find((struct span){colon + 1, authority.end}, ':') != NULL)
            return err_say(why, ERR_INVALID,
                           "URI: more than one ':' behind the user: an IPv6 "
                           "address stands in brackets, as in [::1]:6379");
        e = parse_name(uri, host, why);
    }
    if (e != ERR_OK || after == authority.end)
        return e;
    uint32_t port;
    if (*after != ':' ||
        !number((struct span){after + 1, authority.end}, UINT16_MAX, &port) ||
        port == 0)
        return err_say(why, ERR_INVALID,
                       "URI: the port is not a number from 1 to 65535");
    uri->port = (uint16_t)port;
    return ERR_OK;
}

static enum err parse_tcp(struct uri *uri, struct span authority,
                          struct span path, struct err_text *why)
{
    uri->port = PORT;
    enum err e = parse_userinfo(uri, &authority, why);
    if (e == ERR_OK)
        e = parse_host(uri, authority, why);
    if (e != ERR_OK)
        return e;
    if (span_len(path) > 0)
        path.at++;
    return span_len(path) == 0 ? ERR_OK : parse_db(uri, path, why);
}

/* `host[:port]` of one sentinel, onto the list. */
static enum err parse_sentinel_host(struct uri *uri, struct span text,
                                    struct err_text *why)
{
    if (uri->sentinel_count == URI_PLACES_MAX)
        return err_say(why, ERR_INVALID,
                       "URI: more than %d sentinels: some of them will do, "
                       "they tell of the others",
                       URI_PLACES_MAX);
    uri->port = SENTINEL_PORT;
    enum err e = parse_host(uri, text, why);
    if (e != ERR_OK)
        return e;
    struct uri_place *place = &uri->sentinels[uri->sentinel_count++];
    memcpy(place->host, uri->host, sizeof(place->host));
    place->port = uri->port;
    return ERR_OK;
}

/* Events of sentinels are words between spaces, the name is one of them. */
static enum err parse_master(struct uri *uri, struct span text,
                             struct err_text *why)
{
    enum err e = decode(text, uri->master, sizeof(uri->master), false,
                        "master's name", why);
    if (e != ERR_OK)
        return e;
    if (uri->master[0] == '\0' || strpbrk(uri->master, " /") != NULL)
        return err_say(why, ERR_INVALID,
                       "URI: behind the sentinels the master's name is "
                       "expected, as in sentinel://host1,host2/mymaster");
    return ERR_OK;
}

/* `host[:port][,host[:port]...]`, then `/master[/db]`, or `[/db]#master`. */
static enum err parse_sentinel(struct uri *uri, struct span authority,
                               struct span path, struct span fragment,
                               struct err_text *why)
{
    enum err e = parse_userinfo(uri, &authority, why);
    for (bool more = true; e == ERR_OK && more;) {
        const char *comma = find(authority, ',');
        more = comma != NULL;
        struct span one = authority;
        if (more)
            one = span_cut(&authority, (size_t)(comma - authority.at), 1);
        e = parse_sentinel_host(uri, one, why);
    }
    if (e != ERR_OK)
        return e;
    uri->host[0] = '\0'; /* not known yet */
    uri->port = 0;
    if (span_len(path) > 0)
        path.at++;
    struct span name = fragment;
    if (span_len(fragment) > 0) {
        name.at++;
    } else {
        const char *slash = find(path, '/');
        name = slash != NULL ? span_cut(&path, (size_t)(slash - path.at), 1)
                             : span_cut(&path, span_len(path), 0);
    }
    e = parse_master(uri, name, why);
    if (e != ERR_OK || span_len(path) == 0)
        return e;
    return parse_db(uri, path, why);
}

static enum err parse_unix(struct uri *uri, struct span authority,
                           struct span path, struct err_text *why)
{
    enum err e = parse_userinfo(uri, &authority, why);
    if (e == ERR_OK)
        e = decode(path, uri->host, SOCKET_PATH_MAX + 1, false, "socket's path",
                   why);
    if (e != ERR_OK)
        return e;
    /* connect(2) follows no path that ends in a slash. */
    size_t len = strlen(uri->host);
    if (span_len(authority) > 0 || len < 2 || uri->host[len - 1] == '/')
        return err_say(why, ERR_INVALID,
                       "URI: the socket's path is not an absolute one: "
                       "expected three slashes, as in "
                       "unix:///run/redis/redis.sock?db=0");
    return ERR_OK;
}

enum err uri_parse(struct uri *uri, const char *text, struct err_text *why)
{
    struct uri parsed = {0};
    struct span rest = {text, text + strlen(text)};
    enum kind kind = KIND_TCP;
    enum err e = parse_scheme(&parsed, &rest, &kind, why);
    if (e != ERR_OK)
        return e;
    struct span authority = span_cut(&rest, strcspn(rest.at, "/?#"), 0);
    if (!parsed.is_unix && find(rest, '@') != NULL &&
        find(authority, '@') == NULL)
        return err_say(why, ERR_INVALID,
                       "URI: an '@' comes after the first '/', '?' or '#': in "
                       "a user or password write these as %%2F, %%3F and "
                       "%%23");
    struct span path = span_cut(&rest, strcspn(rest.at, "?#"), 0);
    struct span query = span_cut(&rest, strcspn(rest.at, "#"), 0);
    if (span_len(rest) > 0 && kind != KIND_SENTINEL)
        return err_say(why, ERR_INVALID,
                       "URI: a '#' is not expected: in a password or path "
                       "write it as %%23");
    switch (kind) {
    case KIND_TCP:
        e = parse_tcp(&parsed, authority, path, why);
        break;
    case KIND_UNIX:
        e = parse_unix(&parsed, authority, path, why);
        break;
    case KIND_SENTINEL:
        e = parse_sentinel(&parsed, authority, path, rest, why);
        break;
    }
    if (e == ERR_OK && span_len(query) > 0) {
        query.at++;
        e = parse_query(&parsed, query, why);
    }
    if (e == ERR_OK)
        *uri = parsed;
    return e;
}

/* ---- places ---- */

enum err uri_place_read(struct uri_place *place, const char *host,
                        size_t host_len, const char *port, size_t port_len)
{
    struct uri_place read = {.port = 0};
    uint32_t n = 0;
    if (host_len >= sizeof(read.host) ||
        !number((struct span){port, port + port_len}, UINT16_MAX, &n) || n == 0)
        return ERR_INVALID;
    for (size_t i = 0; i < host_len; i++) {
        unsigned char c = (unsigned char)host[i];
        if (c <= ' ' || c >= 0x7f)
            return ERR_INVALID;
        read.host[i] = (char)c;
    }
    if (!is_name(read.host) && !is_v6(read.host))
        return ERR_INVALID;
    read.port = (uint16_t)n;
    *place = read;
    return ERR_OK;
}

bool uri_place_same(const struct uri_place *a, const struct uri_place *b)
{
    return a->port == b->port && strcasecmp(a->host, b->host) == 0;
}

bool uri_place_is_name(const struct uri_place *place)
{
    unsigned char binary[4];
    return inet_pton(AF_INET, place->host, binary) != 1 && !is_v6(place->host);
}

/* ---- showing ---- */

struct show {
    char *text;
    size_t size, len;
};

static void show_byte(struct show *s, char c)
{
    if (s->len + 1 < s->size)
        s->text[s->len++] = c;
}

static void show_text(struct show *s, const char *text)
{
    for (; *text != '\0'; text++)
        show_byte(s, *text);
}

/* Encodes what uri_parse would take for something else. */
static void show_encoded(struct show *s, const char *text, const char *plain)
{
    static const char hex[] = "0123456789ABCDEF";
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
            strchr(plain, c) != NULL) {
            show_byte(s, (char)c);
        } else {
            show_byte(s, '%');
            show_byte(s, hex[c >> 4]);
            show_byte(s, hex[c & 15]);
        }
    }
}

static void show_place(struct show *s, const char *host, unsigned port)
{
    char digits[16];
    bool v6 = strchr(host, ':') != NULL;
    show_text(s, v6 ? "[" : "");
    show_encoded(s, host, "-._~:");
    snprintf(digits, sizeof(digits), "%s:%u", v6 ? "]" : "", port);
    show_text(s, digits);
}

static void show_sentinels(struct show *s, const struct uri *uri)
{
    for (uint32_t i = 0; i < uri->sentinel_count; i++) {
        show_text(s, i > 0 ? "," : "");
        show_place(s, uri->sentinels[i].host, uri->sentinels[i].port);
    }
    show_byte(s, '/');
    show_encoded(s, uri->master, "-._~:");
}

void uri_show(const struct uri *uri, char *text, size_t size)
{
    struct show s = {text, size, 0};
    char digits[32];
    bool sentinels = uri->sentinel_count > 0;
    if (size == 0)
        return;
    show_text(&s, uri->is_unix ? "unix://"
                  : sentinels  ? (uri->tls ? "sentinels://" : "sentinel://")
                  : uri->tls   ? "rediss://"
                               : "redis://");
    if (uri->user[0] != '\0') {
        show_encoded(&s, uri->user, "-._~");
        show_byte(&s, '@');
    }
    if (uri->is_unix)
        show_encoded(&s, uri->host, "-._~/:+,=@");
    else if (sentinels)
        show_sentinels(&s, uri);
    else
        show_place(&s, uri->host, uri->port);
    snprintf(digits, sizeof(digits),
             uri->is_unix || sentinels ? "?db=%u" : "/%u", (unsigned)uri->db);
    show_text(&s, digits);
    s.text[s.len] = '\0';
}

void uri_place_show(const struct uri_place *place, char text[URI_PLACE_TEXT])
{
    bool v6 = strchr(place->host, ':') != NULL;
    snprintf(text, URI_PLACE_TEXT, "%s%s%s:%u", v6 ? "[" : "", place->host,
             v6 ? "]" : "", (unsigned)place->port);
}
