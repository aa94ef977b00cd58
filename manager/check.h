/* --check-config: says what would be used and whether it works. */
#ifndef MANAGER_CHECK_H
#define MANAGER_CHECK_H

#include "manager/options.h"

/* Prints to standard output; connects and logs in once, changes nothing.
 * Returns the exit status: 0 if a manager would come up, else EX_CONFIG. */
int check_config(const struct options *o);

#endif
