/* Moving elements: shared by the list commands and by those which block. */
#ifndef SERVER_LISTS_H
#define SERVER_LISTS_H

#include "server/client.h"
#include "server/list.h"

/* Appends to the key's list, which is created when it is not there, and lets
 * those who wait for it know. `e` is its entry, NULL or a list. */
void lists_push(struct db *db, const struct arg *key, struct dict_entry *e,
                enum list_end end, const struct arg *values, size_t count);

/* Removes `count` elements, and the key with the last one. */
void lists_drop(struct db *db, struct dict_entry *e, enum list_end end,
                size_t count);

/* Replies [key, element] and removes the element. */
void lists_pop_reply(struct server *s, struct client *c, struct db *db,
                     struct dict_entry *e, enum list_end end);

/* Moves an element to the list `to`, which may be the same one, and replies
 * it; or replies that `to` holds something else. */
void lists_move_reply(struct server *s, struct client *c, struct db *db,
                      struct dict_entry *e, enum list_end from_end,
                      const struct arg *to, enum list_end to_end);

/* Reads LEFT or RIGHT. False: the error is replied. */
bool lists_read_end(struct server *s, struct client *c, const struct arg *arg,
                    enum list_end *end);

/* Whether the entry (or NULL) may serve as a list. False: error replied. */
bool lists_need(struct server *s, struct client *c, const struct dict_entry *e);

#endif
