/* Rows of nodes: taken, shown and given back. */
#include "manager/node_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The longest host that leaves room for brackets and a port. */
#define HOST_SHOWN (STATUS_NODE_TEXT - 9)

enum err node_place_claim(struct node_place *place, struct status *status,
                          uint16_t number, uint32_t serial, const char *host,
                          uint16_t port)
{
    memset(place, 0, sizeof(*place));
    place->own = number >= STATUS_NODES;
    place->row = place->own ? aligned_alloc(_Alignof(struct status_node),
                                            sizeof(struct status_node))
                            : &status->nodes[number];
    if (place->row == NULL)
        return ERR_NOMEM;
    if (place->own)
        memset(place->row, 0, sizeof(*place->row));
    bool six = strchr(host, ':') != NULL;
    snprintf(place->face.address, sizeof(place->face.address), "%s%.*s%s:%u",
             six ? "[" : "", HOST_SHOWN, host, six ? "]" : "", port);
    place->face.role = STATUS_NODE_NAMED;
    place->face.state = STATUS_NODE_OFF;
    status_node_claim(place->row, serial, &place->face);
    return ERR_OK;
}

void node_place_leave(struct node_place *place)
{
    if (place->own)
        free(place->row);
    else if (place->row != NULL)
        status_node_leave(place->row);
    place->row = NULL;
}

static enum status_node_state state_of(const struct conn *c)
{
    switch (c->state) {
    case CONN_OFF:
        break;
    case CONN_WAITING:
        return STATUS_NODE_WAITING;
    case CONN_LOOKUP:
    case CONN_CONNECTING:
        return STATUS_NODE_CONNECTING;
    case CONN_TLS:
    case CONN_LOGIN:
        return STATUS_NODE_LOGIN;
    case CONN_READY:
        return STATUS_NODE_CONNECTED;
    }
    return STATUS_NODE_OFF;
}

void node_place_look(struct node_place *place, enum status_node_role role,
                     uint32_t slots, const struct conn *c, uint64_t now)
{
    struct status_node_face *face = &place->face;
    enum status_node_state state = state_of(c);
    if (face->role == role && face->state == state && face->slots == slots &&
        face->attempt == c->attempt)
        return;
    if (face->state != state) {
        face->connects += state == STATUS_NODE_CONNECTED;
        face->disconnects += face->state == STATUS_NODE_CONNECTED;
        face->since_ns = now;
    }
    /* What went wrong is remembered when it is well again. */
    if (c->error.text[0] != '\0')
        snprintf(face->error, sizeof(face->error), "%.*s",
                 (int)sizeof(face->error) - 1, c->error.text);
    face->role = role;
    face->state = state;
    face->slots = slots;
    face->attempt = c->attempt;
    status_node_show(place->row, face);
}
