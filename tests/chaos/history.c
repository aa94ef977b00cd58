/* Histories of workers: accusing, and the values that carry a step's number. */
#include "tests/chaos/history.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/chaos/dice.h"

const char *const act_names[ACT_TYPES] = {
    [ACT_NONE] = "none",         [ACT_ECHO] = "ECHO",
    [ACT_PUSH] = "RPUSH",        [ACT_BOTH] = "MULTI of two RPUSH",
    [ACT_APPEND] = "APPEND",     [ACT_COUNT] = "INCR",
    [ACT_SET] = "SET",           [ACT_GET] = "GET",
    [ACT_BIG] = "large SET",     [ACT_BIG_GET] = "large GET",
    [ACT_QUEUE] = "queue RPUSH", [ACT_POP] = "BLPOP",
    [ACT_SPREAD] = "MSET",       [ACT_GATHER] = "MGET",
    [ACT_ERASE] = "DEL",         [ACT_NEWS] = "PUBLISH",
};

const char *const fate_names[FATE_TYPES] = {
    [FATE_OPEN] = "never answered",
    [FATE_DONE] = "acknowledged",
    [FATE_NOT] = "reported as not executed",
    [FATE_MAYBE] = "lost or cancelled",
};

void history_accuse(struct history *h, const char *fmt, ...)
{
    if (h->accusation[0] != '\0')
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(h->accusation, sizeof(h->accusation), fmt, ap);
    va_end(ap);
    h->accused_at = h->count;
}

#define SHOWN 8

void history_show(const struct history *h, uint32_t number)
{
    uint32_t from = number > SHOWN ? number - SHOWN : 0;
    for (uint32_t n = from; n < h->count && n < number + SHOWN / 2; n++) {
        const struct step *s = &h->steps[n];
        printf("    w%u step %u, at %.3f: %s, %s\n", h->id, n,
               (double)h->began_ns / 1e9 + s->at_ms / 1e3, act_names[s->act],
               fate_names[s->fate]);
    }
}

bool history_may_stand(const struct history *h, uint32_t number, enum act act,
                       uint32_t last)
{
    if (number >= h->count || h->steps[number].act != act)
        return false;
    switch ((enum fate)h->steps[number].fate) {
    case FATE_DONE:
        return number == last;
    case FATE_OPEN:
    case FATE_MAYBE:
        return true;
    case FATE_NOT:
    case FATE_TYPES:
        break;
    }
    return false;
}

bool history_may_be_nil(const struct history *h, uint32_t last)
{
    if (last == UINT32_MAX || h->steps[last].act == ACT_ERASE)
        return true;
    for (uint32_t n = 0; n < h->count; n++)
        if (h->steps[n].act == ACT_ERASE &&
            (h->steps[n].fate == FATE_OPEN || h->steps[n].fate == FATE_MAYBE))
            return true;
    return false;
}

bool history_parse(const struct history *h, const char *text, size_t len,
                   uint32_t *number)
{
    char own[48], *end;
    int prefix = snprintf(own, sizeof(own), "w%u:", h->id);
    if (len <= (size_t)prefix || len >= sizeof(own) ||
        memcmp(text, own, (size_t)prefix) != 0)
        return false;
    memcpy(own, text, len);
    own[len] = '\0';
    unsigned long n = strtoul(own + prefix, &end, 10);
    *number = (uint32_t)n;
    return *end == '\0' && n < HISTORY_STEPS;
}

const char *history_spread_key(const struct history *h, unsigned i,
                               char key[48])
{
    snprintf(key, 48, i < 2 ? "spread:{two:w%u}:%u" : "spread:w%u:%u", h->id,
             i);
    return key;
}

const char *history_spread_value(const struct history *h, uint32_t number,
                                 unsigned i, char value[48])
{
    snprintf(value, 48, "w%u:%u/%u", h->id, number, i);
    return value;
}

bool history_parse_spread(const struct history *h, const char *text, size_t len,
                          unsigned i, uint32_t *number)
{
    return len > 2 && text[len - 2] == '/' &&
           text[len - 1] == (char)('0' + i) &&
           history_parse(h, text, len - 2, number);
}

void history_fill(const struct history *h, uint32_t number, char *data,
                  size_t len)
{
    struct dice d = {.state = ((uint64_t)h->id << 32) + number};
    for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
        uint64_t word = dice_next(&d);
        memcpy(data + i, &word,
               len - i < sizeof(word) ? len - i : sizeof(word));
    }
    char head[48];
    int n = snprintf(head, sizeof(head), "w%u:%u|", h->id, number);
    memcpy(data, head, (size_t)n < len ? (size_t)n : len);
}

int history_is_filled(const struct history *h, const char *data, size_t len,
                      uint32_t *number)
{
    const char *bar = memchr(data, '|', len < 48 ? len : 48);
    if (bar == NULL || !history_parse(h, data, (size_t)(bar - data), number))
        return 0;
    char *wanted = malloc(len);
    if (wanted == NULL)
        return -1;
    history_fill(h, *number, wanted, len);
    bool same = memcmp(wanted, data, len) == 0;
    free(wanted);
    return same;
}
