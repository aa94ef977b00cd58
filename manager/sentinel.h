/*
 * Redis Sentinel: learning which server is the master, and that it is another
 * one now.
 *
 *     sentinels ──asker──▶ who is it? ──┐
 *                                       ├──▶ moved(place): the target changes,
 *     a sentinel ─listener─▶ events ────┘    connections follow
 *
 * The asker is a connection for one question. Sentinels are asked in turn until
 * one knows the name: that one is moved to the front of the list, and tells of
 * the others. The listener is subscribed to the events of one sentinel; when
 * that dies, the next one is listened to, and asked what was missed.
 *
 * Whom to believe: an event, at once. An answer, at once while the master is in
 * doubt (the connection is down, or it is a replica); while it serves, a second
 * answer must say the same, of another sentinel if one answers, for the first
 * may have been cut off from the others. Sentinels that have not heard yet
 * still name the master that was left a moment ago: that is passed over for a
 * while.
 *
 * Nothing here ends: without any sentinel the last known master is used.
 */
#ifndef MANAGER_SENTINEL_H
#define MANAGER_SENTINEL_H

#include <stdint.h>

#include "ipc/err.h"
#include "manager/conn.h"
#include "manager/uri.h"

struct sentinel;

/*
 * `uri` names the master and some sentinels. `options` are for connections to
 * sentinels: copied, its TLS context is owned from now on, on failure too.
 * `moved` is called from sentinel_tick alone, when the master is known for the
 * first time and when it is another one; `by` is the sentinel that said so.
 * The rest is borrowed. ERR_NOMEM.
 */
MUST_CHECK enum err sentinel_new(struct sentinel **sentinel, struct loop *loop,
                                 struct answers *answers, const struct uri *uri,
                                 const struct conn_options *options,
                                 void (*moved)(void *context,
                                               const struct uri_place *to,
                                               const struct uri_place *by),
                                 void *context);
void sentinel_free(struct sentinel *s); /* NULL: harmless, as below */

/* Other options for connections to come, taken over as above. */
void sentinel_reload(struct sentinel *s, const struct conn_options *options);

/* The master can't be reached, or is none: sentinels are asked again and again,
 * in turn, until sentinel_trust. */
void sentinel_doubt(struct sentinel *s);

/* The master is connected. */
void sentinel_trust(struct sentinel *s);

/* Something hints at another master: asks once, soon. */
void sentinel_ask(struct sentinel *s);

/* Why none of the sentinels told a master when all were asked last; "" if one
 * did, or before that. */
const char *sentinel_error(const struct sentinel *s);

/* Does what is due. Called once a round of the loop; returns when next (0:
 * never). */
uint64_t sentinel_tick(struct sentinel *s, uint64_t now);

#endif
