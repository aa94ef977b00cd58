/*
 * What a client sends to mqredis-gateway and what comes back: commands are the
 * same however they are cut into pieces, and what is passed on is canonical;
 * a reply that is whole is whole in the other protocol, too; any answer to
 * COMMAND is survived.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "workers/gateway/gateway.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth)
        abort();
}

static void require_canonical(const struct command *c)
{
    struct resp_request walk;
    struct resp_arg arg;
    uint32_t argc;
    resp_request_init(&walk, c->data, c->len);
    require(resp_request_command(&walk, &argc) == ERR_OK && argc == c->argc);
    for (uint32_t i = 0; i < argc; i++)
        require(resp_request_arg(&walk, &arg) == ERR_OK && arg.data != NULL);
    require(resp_request_command(&walk, &argc) == ERR_CLOSED);
}

/* What is seen of an input that arrives in pieces. */
struct seen {
    uint64_t hash; /* of all commands */
    size_t count, taken;
    bool broken;
};

static void add(struct seen *s, const struct command *c)
{
    for (size_t i = 0; i < c->len; i++)
        s->hash = (s->hash ^ (unsigned char)c->data[i]) * 1099511628211ULL;
    s->count++;
}

static struct seen parse(const char *data, size_t size, size_t piece)
{
    struct seen s = {.hash = 14695981039346656037ULL};
    struct parser p = {.at = 0};
    size_t have = piece < size ? piece : size;
    while (s.taken < size) {
        struct command c;
        enum parse_result r =
            parse_next(&p, data + s.taken, have - s.taken, size % 2 == 1, &c);
        if (r == PARSE_MORE) {
            require(parse_missing(&p, have - s.taken) > 0);
            if (have == size)
                break;
            have = size - have > piece ? have + piece : size;
            continue;
        }
        if (r == PARSE_BROKEN) {
            s.broken = true;
            break;
        }
        if (r == PARSE_COMMAND) {
            require_canonical(&c);
            add(&s, &c);
        }
        require(c.used > 0 && c.used <= have - s.taken);
        s.taken += c.used;
        parse_reset(&p);
    }
    parse_reset(&p);
    return s;
}

static void require_whole(const struct buffer *b)
{
    struct resp_scan scan;
    size_t used;
    resp_scan_reset(&scan);
    require(resp_scan(&scan, buffer_at(b), buffer_len(b), &used) == ERR_OK &&
            used == buffer_len(b));
}

/* The first reply in the input. */
static void reply(const char *data, size_t size)
{
    struct resp_scan scan;
    size_t len, total = 0;
    struct buffer out;
    resp_scan_reset(&scan);
    if (resp_scan(&scan, data, size, &len) != ERR_OK)
        return;
    for (int resp = 2; resp <= 3; resp++) {
        for (int shape = SHAPE_PLAIN; shape <= SHAPE_NULL_ARRAY; shape++) {
            buffer_init(&out, &total);
            require(
                translate(&out, data, len, resp, (enum command_shape)shape));
            require_whole(&out);
            buffer_release(&out);
        }
    }
    require(total == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct seen whole = parse(text, size, size);
    for (size_t piece = 1; piece < 4; piece++) {
        struct seen cut = parse(text, size, piece);
        require(cut.hash == whole.hash && cut.count == whole.count);
        require(cut.broken == whole.broken && cut.taken == whole.taken);
    }
    reply(text, size);
    struct catalog k = {.slots = NULL};
    catalog_learn(&k, text, size);
    catalog_release(&k);
    return 0;
}
