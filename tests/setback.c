/*
 * Preloaded into a program: its wall clock can be set back, which the machine's
 * cannot. CLOCK_REALTIME is ahead by the seconds that the file $SETBACK_SHIFT
 * holds, and a timerfd on it becomes readable when somebody writes into the
 * FIFO $SETBACK_FIFO, as it does when the clock is set.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>

#define SHOWN __attribute__((visibility("default")))

/* POSIX has it that a function's address fits into a void pointer. */
static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static long shift(void)
{
    const char *path = getenv("SETBACK_SHIFT");
    long seconds = 0;
    FILE *f = path == NULL ? NULL : fopen(path, "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%ld", &seconds) != 1)
        seconds = 0;
    fclose(f);
    return seconds;
}

SHOWN int clock_gettime(clockid_t clock, struct timespec *now)
{
    int (*real)(clockid_t, struct timespec *);
    *(void **)&real = next("clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME && result == 0)
        now->tv_sec += shift();
    return result;
}

SHOWN int timerfd_create(clockid_t clock, int flags)
{
    int (*real)(clockid_t, int);
    const char *fifo = getenv("SETBACK_FIFO");
    *(void **)&real = next("timerfd_create");
    if (clock != CLOCK_REALTIME || fifo == NULL)
        return real((int)clock, flags);
    return open(fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

SHOWN int timerfd_settime(int fd, int flags, const struct itimerspec *new,
                          struct itimerspec *old)
{
    int (*real)(int, int, const struct itimerspec *, struct itimerspec *);
    struct stat st;
    *(void **)&real = next("timerfd_settime");
    if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
        return 0;
    return real(fd, flags, new, old);
}
