/* The Redis that a manager talks to: connection options from the command line
 * and the files it names (password, certificates). */
#ifndef MANAGER_TARGET_H
#define MANAGER_TARGET_H

#include "ipc/err.h"
#include "manager/conn.h"
#include "manager/options.h"

/* Fills `target`; its TLS context is owned by it. ERR_INVALID with a line. */
MUST_CHECK enum err target_init(struct conn_options *target,
                                const struct options *o, struct err_text *why);
void target_release(struct conn_options *target);

/* The same for connections to the sentinels that the URI names: where they are
 * is the caller's to fill in. */
MUST_CHECK enum err target_sentinels(struct conn_options *target,
                                     const struct options *o,
                                     struct err_text *why);

/* What is wrong with a server of that mode for these options, as one line of
 * text that stays; NULL: nothing that is known. *serves: commands can be served
 * all the same. */
const char *target_mismatch(const struct options *o, enum conn_mode mode,
                            bool *serves);

/* Reads the files once more, for connections to come. Sessions that exist keep
 * what they have. On failure nothing is changed. */
MUST_CHECK enum err target_reload(struct conn_options *target,
                                  const struct options *o,
                                  struct err_text *why);

#endif
