/* Made by the programs openssl, mqredis-manager and redis-server. */
#include "tests/support_tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Elliptic curves: they are made at once. */
static const char script[] =
    "set -e; cd \"$1\"; "
    "key() { openssl genpkey -algorithm EC -pkeyopt "
    "ec_paramgen_curve:P-256 -out $1.key; }; "
    "authority() { key $1; openssl req -x509 -new -key $1.key -days 2 "
    "-subj /CN=$1 -out $1.crt; }; "
    /* certificate NAME AUTHORITY SUBJECT-ALT-NAME */
    "certificate() { key $1; openssl req -new -key $1.key -subj /CN=$1 "
    "-out $1.csr; printf 'subjectAltName=%s\\n' \"$3\" >$1.ext; "
    "openssl x509 -req -in $1.csr -CA $2.crt -CAkey $2.key -days 2 "
    "-set_serial $$ -extfile $1.ext -out $1.crt; }; "
    "authority ca; authority stranger; "
    "certificate server ca DNS:localhost,IP:127.0.0.1; "
    "certificate elsewhere ca DNS:cache.example; "
    "certificate forged stranger DNS:localhost,IP:127.0.0.1; "
    "certificate client ca DNS:client";

bool support_tls_certificates(const char *dir)
{
    char command[sizeof(script) + 512];
    if (strchr(dir, '\'') != NULL)
        return false;
    snprintf(command, sizeof(command), "set -- sh '%s'; shift; { %s; } 2>&1",
             dir, script);
    FILE *f = popen(command, "re");
    char text[256], last[256] = "";
    if (f == NULL)
        return false;
    while (fgets(text, sizeof(text), f) != NULL)
        memcpy(last, text, sizeof(last));
    if (pclose(f) == 0)
        return true;
    printf("openssl: %s\n", last);
    return false;
}

/* Whether the output of a command holds a text. */
static bool says(const char *command, const char *wanted)
{
    char text[512];
    bool found = false;
    FILE *f = popen(command, "re");
    if (f == NULL)
        return false;
    while (fgets(text, sizeof(text), f) != NULL)
        found |= strstr(text, wanted) != NULL;
    pclose(f);
    return found;
}

const char *support_tls_missing(void)
{
    /* --tls-port is known only to those that have it. */
    static const char redis[] = "echo 'tls-replication no' | "
                                "${REDIS_SERVER:-redis-server} - --port 0 "
                                "--tls-port nonsense 2>&1";
    if (says("\"${MQREDIS_BUILD:-build}/mqredis-manager\" --check-config "
             "--redis rediss://127.0.0.1:1 2>&1",
             "built without TLS"))
        return "the manager was built without TLS";
    if (!says(redis, "tls-port") || says(redis, "Bad directive"))
        return "redis-server has no TLS";
    return NULL;
}
