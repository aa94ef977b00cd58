/*
 * Preloaded into a manager: a resolver that takes its time. Names that end in
 * ".test" are this machine, but are not answered while the file $LOOKUP_HOLD
 * exists; "dead.test" ends the process that asks. Every look-up of them adds a
 * byte to the file $LOOKUP_COUNT.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHOWN __attribute__((visibility("default")))

static void count(void)
{
    const char *path = getenv("LOOKUP_COUNT");
    int fd = path == NULL
                 ? -1
                 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    (void)!write(fd, ".", 1);
    close(fd);
}

SHOWN int getaddrinfo(const char *host, const char *service,
                      const struct addrinfo *hints, struct addrinfo **out)
{
    int (*real)(const char *, const char *, const struct addrinfo *,
                struct addrinfo **);
    const char *hold = getenv("LOOKUP_HOLD");
    size_t len = strlen(host);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (len < 5 || strcmp(host + len - 5, ".test") != 0 ||
        (hints->ai_flags & AI_NUMERICHOST) != 0)
        return real(host, service, hints, out);
    count();
    if (strcmp(host, "dead.test") == 0)
        _exit(1);
    while (hold != NULL && access(hold, F_OK) == 0)
        poll(NULL, 0, 2);
    return real("127.0.0.1", service, hints, out);
}
