/* Reading what sentinels say. */
#include "manager/sentinel_reply.h"

#include <string.h>

#include "ipc/resp.h"

struct cursor {
    const char *at, *end;
};

static enum err next(struct cursor *c, struct resp_value *v)
{
    size_t used;
    if (resp_get(c->at, (size_t)(c->end - c->at), v, &used) != ERR_OK)
        return ERR_PROTO;
    c->at += used;
    return ERR_OK;
}

static enum err next_text(struct cursor *c, struct resp_value *v)
{
    enum err e = next(c, v);
    if (e != ERR_OK || v->null || (v->type != '$' && v->type != '+'))
        return ERR_PROTO;
    return ERR_OK;
}

static bool is(const struct resp_value *v, const char *word)
{
    return v->len == strlen(word) && memcmp(v->data, word, v->len) == 0;
}

/* The header of an array of at least `least` elements. */
static enum err begin_array(struct cursor *c, int64_t least,
                            struct resp_value *v)
{
    enum err e = next(c, v);
    if (e == ERR_OK && (v->type == '-' || v->type == '!'))
        return ERR_DENIED;
    if (e != ERR_OK || v->null || v->number < least ||
        (v->type != '*' && v->type != '>' && v->type != '~'))
        return ERR_PROTO;
    return ERR_OK;
}

enum err sentinel_read_master(const char *data, size_t len,
                              struct uri_place *master)
{
    struct cursor c = {data, data + len};
    struct resp_value v, host, port;
    enum err e = next(&c, &v);
    if (e == ERR_OK && v.null)
        return ERR_ABSENT;
    c.at = data;
    e = begin_array(&c, 2, &v);
    if (e == ERR_OK)
        e = next_text(&c, &host);
    if (e == ERR_OK)
        e = next_text(&c, &port);
    if (e == ERR_OK && uri_place_read(master, host.data, host.len, port.data,
                                      port.len) != ERR_OK)
        e = ERR_PROTO;
    return e;
}

/* One sentinel: names and values in turn. ERR_ABSENT: it tells no place. */
static enum err read_entry(struct cursor *c, struct uri_place *place)
{
    struct resp_value v, key, ip = {.data = NULL}, port = {.data = NULL};
    enum err e = next(c, &v);
    if (e != ERR_OK || v.null || (v.type != '*' && v.type != '%'))
        return ERR_PROTO;
    for (int64_t left = v.number; left > 0; left -= 2) {
        if (left == 1 || next_text(c, &key) != ERR_OK ||
            next_text(c, &v) != ERR_OK)
            return ERR_PROTO;
        if (is(&key, "ip"))
            ip = v;
        else if (is(&key, "port"))
            port = v;
    }
    if (ip.data == NULL || port.data == NULL ||
        uri_place_read(place, ip.data, ip.len, port.data, port.len) != ERR_OK)
        return ERR_ABSENT;
    return ERR_OK;
}

enum err sentinel_read_others(const char *data, size_t len,
                              struct uri_place *places, uint32_t max,
                              uint32_t *count)
{
    struct cursor c = {data, data + len};
    struct resp_value v = {.number = 0};
    uint32_t n = 0;
    enum err e = begin_array(&c, 0, &v);
    /* Each takes some bytes, so a count that lies ends with the data. */
    for (int64_t left = v.number; e == ERR_OK && left > 0; left--) {
        struct uri_place place;
        e = read_entry(&c, &place);
        if (e == ERR_OK && n < max)
            places[n++] = place;
        else if (e == ERR_ABSENT)
            e = ERR_OK;
    }
    if (e == ERR_OK)
        *count = n;
    return e;
}

/* The next of the words between spaces; false at the end. */
static bool next_word(const char **at, const char *end, const char **word,
                      size_t *len)
{
    while (*at < end && **at == ' ')
        (*at)++;
    *word = *at;
    while (*at < end && **at != ' ')
        (*at)++;
    *len = (size_t)(*at - *word);
    return *len > 0;
}

enum err sentinel_read_switch(const char *text, size_t len, const char *name,
                              struct uri_place *to)
{
    const char *at = text, *end = text + len, *word[6];
    size_t n[6], words = 0;
    while (words < 6 && next_word(&at, end, &word[words], &n[words]))
        words++;
    if (words != 5)
        return ERR_PROTO;
    if (n[0] != strlen(name) || memcmp(word[0], name, n[0]) != 0)
        return ERR_ABSENT;
    return uri_place_read(to, word[3], n[3], word[4], n[4]) == ERR_OK
               ? ERR_OK
               : ERR_PROTO;
}

bool sentinel_mentions(const char *text, size_t len, const char *name)
{
    const char *at = text, *end = text + len, *word;
    size_t n;
    while (next_word(&at, end, &word, &n))
        if (n == strlen(name) && memcmp(word, name, n) == 0)
            return true;
    return false;
}

enum err sentinel_read_word(const char *data, size_t len,
                            struct sentinel_said *said)
{
    struct cursor c = {data, data + len};
    struct resp_value v, first;
    *said = (struct sentinel_said){.word = SENTINEL_WORD_OTHER};
    enum err e = next(&c, &v);
    if (e != ERR_OK)
        return e;
    if (v.type == '-' || v.type == '!') {
        said->word = SENTINEL_WORD_ERROR;
        said->text = v.data;
        said->text_len = v.len;
        return ERR_OK;
    }
    if ((v.type != '*' && v.type != '>') || v.null)
        return ERR_OK;
    e = next_text(&c, &first);
    if (e != ERR_OK)
        return e;
    if (is(&first, "subscribe")) {
        said->word = SENTINEL_WORD_SUBSCRIBED;
        return ERR_OK;
    }
    if (!is(&first, "message"))
        return ERR_OK;
    said->word = SENTINEL_WORD_EVENT;
    e = next_text(&c, &first);
    if (e == ERR_OK)
        e = next_text(&c, &v);
    if (e != ERR_OK)
        return e;
    said->channel = first.data;
    said->channel_len = first.len;
    said->text = v.data;
    said->text_len = v.len;
    return ERR_OK;
}

enum err sentinel_read_role(const char *data, size_t len, char *role,
                            size_t size)
{
    struct cursor c = {data, data + len};
    struct resp_value v;
    enum err e = begin_array(&c, 1, &v);
    if (e == ERR_OK)
        e = next_text(&c, &v);
    if (e != ERR_OK)
        return e;
    size_t n = v.len < size ? v.len : size - 1;
    memcpy(role, v.data, n);
    role[n] = '\0';
    for (size_t i = 0; i < n; i++)
        if (role[i] <= ' ' || role[i] > '~')
            role[i] = '?';
    return ERR_OK;
}
