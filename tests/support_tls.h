/* Certificates for suites that talk TLS, and whether they can. */
#ifndef TESTS_SUPPORT_TLS_H
#define TESTS_SUPPORT_TLS_H

#include <stdbool.h>

/* NULL: manager and redis-server both speak TLS; else what is missing. */
const char *support_tls_missing(void);

/* Makes in the folder `dir` the authorities ca and stranger; certificates of
 * servers: by ca `server` for this host and `elsewhere` for another name, by
 * stranger `forged` for this host; and a client's, `client`. NAME.crt and
 * NAME.key. False: the program openssl is not here, or failed. */
bool support_tls_certificates(const char *dir);

#endif
