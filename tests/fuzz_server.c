/*
 * Fuzzes the whole server behind the sockets: parser, dispatch and every
 * command, on a live database, with three clients.
 *
 * The input is a series of segments that end with 0xFE. The first byte of a
 * segment chooses the client, the rest is what it sends, so that requests are
 * cut anywhere and clients act on each other (blocking, watching, publishing).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/client.h"
#include "server/server.h"

#define CLIENTS 3
#define SEGMENT_END 0xFE

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct server *make_server(void)
{
    struct options options;
    struct server *s = NULL;
    options_defaults(&options);
    options.bulk_max = 1 << 20; /* SETRANGE may make strings this long */
    options.query_limit = 1 << 20;
    options.max_memory = 32 << 20;
    options.normal_limit.hard = 16 << 20;
    if (server_new(&s, &options, NULL) != ERR_OK)
        abort();
    return s;
}

/* NULL when it was closed. */
static struct client *find_client(struct server *s, uint64_t id)
{
    struct client *c = s->clients.first;
    while (c != NULL && c->id != id)
        c = c->next;
    return c;
}

/* Its replies are read by nobody. */
static void discard_output(struct server *s)
{
    for (struct client *c = s->clients.first; c != NULL; c = c->next)
        buffer_consume(&c->out, buffer_len(&c->out));
}

/* DEBUG SLEEP would do just that. */
static int sleeps(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i + 5 <= size; i++)
        if (strncasecmp((const char *)data + i, "sleep", 5) == 0)
            return 1;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (sleeps(data, size))
        return 0;
    struct server *s = make_server();
    uint64_t ids[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        ids[i] = client_new(s, -1, false)->id;
    while (size > 0) {
        const uint8_t *end = memchr(data, SEGMENT_END, size);
        size_t len = end != NULL ? (size_t)(end - data) : size;
        if (len > 0) {
            /* A copy of its own, so that a read beyond it is seen. */
            char *bytes = malloc(len);
            struct client *c = find_client(s, ids[data[0] % CLIENTS]);
            if (bytes == NULL)
                abort();
            memcpy(bytes, data + 1, len - 1);
            if (c != NULL)
                client_feed(s, c, bytes, len - 1);
            free(bytes);
        }
        server_step(s, 0);
        discard_output(s);
        len += end != NULL;
        data += len;
        size -= len;
    }
    server_free(s);
    return 0;
}
