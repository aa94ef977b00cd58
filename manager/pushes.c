/* Frames of a subscribed connection. */
#include "manager/pushes.h"

#include <string.h>

void pushes_init(struct pushes *p, size_t max)
{
    *p = (struct pushes){.max = max};
    resp_scan_reset(&p->scan);
}

void pushes_release(struct pushes *p)
{
    buffer_release(&p->carry);
}

void pushes_reset(struct pushes *p)
{
    resp_scan_reset(&p->scan);
    buffer_clear(&p->carry);
    p->cut = false;
}

/* Keeps a piece of a frame, as far as the bound goes. ERR_NOMEM. */
static enum err keep(struct pushes *p, const char *data, size_t len)
{
    size_t room = p->max - buffer_len(&p->carry);
    if (p->cut)
        return ERR_OK;
    if (len > room) {
        len = room;
        p->cut = true;
    }
    return buffer_append(&p->carry, data, len);
}

/* The next value at *at: a string. */
static bool take_string(const struct push *push, size_t *at, const char **text,
                        size_t *len)
{
    struct resp_value v;
    size_t used;
    if (resp_get(push->data + *at, push->len - *at, &v, &used) != ERR_OK ||
        v.data == NULL)
        return false;
    *at += used;
    *text = v.data;
    *len = v.len;
    return true;
}

static bool is(const char *text, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(text, word, len) == 0;
}

static enum push_kind kind_of(const char *word, size_t len,
                              enum topic_kind *topic)
{
    static const char *const messages[TOPIC_KINDS] = {
        [TOPIC_CHANNEL] = "message",
        [TOPIC_PATTERN] = "pmessage",
        [TOPIC_SHARD] = "smessage"};
    for (enum topic_kind k = 0; k < TOPIC_KINDS; k++) {
        *topic = k;
        if (is(word, len, messages[k]))
            return PUSH_MESSAGE;
        if (is(word, len, topic_word(k, true)))
            return PUSH_SUBSCRIBED;
        if (is(word, len, topic_word(k, false)))
            return PUSH_UNSUBSCRIBED;
    }
    /* RESP2 answers a PING by an array when subscribed. */
    return is(word, len, "pong") ? PUSH_REPLY : PUSH_OTHER;
}

static void classify(struct push *push, char type)
{
    struct resp_value v;
    const char *word;
    size_t at, len;
    push->kind = PUSH_REPLY;
    if (type == '-' || type == '!') {
        push->kind = PUSH_ERROR;
        return;
    }
    if (type != '*' && type != '>')
        return;
    push->kind = PUSH_OTHER;
    if (resp_get(push->data, push->len, &v, &at) != ERR_OK || v.number < 2 ||
        !take_string(push, &at, &word, &len))
        return;
    push->kind = kind_of(word, len, &push->topic);
    if (push->kind == PUSH_REPLY || push->kind == PUSH_OTHER)
        return;
    if (!take_string(push, &at, &push->name, &push->name_len))
        push->kind = PUSH_OTHER;
}

enum err pushes_next(struct pushes *p, const char **data, size_t *len,
                     struct push *push)
{
    if (resp_scan_idle(&p->scan))
        pushes_reset(p); /* what the last call gave is over */
    size_t used;
    enum err e = resp_scan(&p->scan, *data, *len, &used);
    if (e == ERR_PROTO)
        return e;
    const char *from = *data;
    *data += used;
    *len -= used;
    if (e == ERR_AGAIN || buffer_len(&p->carry) > 0 || used > p->max) {
        enum err kept = keep(p, from, used);
        if (kept != ERR_OK)
            return kept;
    }
    if (e != ERR_OK)
        return e;
    bool carried = buffer_len(&p->carry) > 0;
    *push = (struct push){.data = carried ? buffer_head(&p->carry) : from,
                          .len = carried ? buffer_len(&p->carry) : used,
                          .cut = p->cut};
    classify(push, p->scan.type);
    return ERR_OK;
}
