/* The status file: made by the manager, mapped by everybody who looks. */
#include "ipc/status.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/sweep.h"

#define STATUS_NAME(name, help) {#name, help},
const struct status_name status_counters[COUNTER_COUNT] = {
    STATUS_COUNTERS(STATUS_NAME)};
const struct status_name status_gauges[GAUGE_COUNT] = {
    STATUS_GAUGES(STATUS_NAME)};
const struct status_name status_times[TIME_COUNT] = {STATUS_TIMES(STATUS_NAME)};

const char *manager_state_str(uint32_t kind)
{
    static const char *const names[STATE_KIND_COUNT] = {
        [0] = "?",
        [STATE_STARTING] = "starting",
        [STATE_CONNECTED] = "connected",
        [STATE_RECONNECTING] = "reconnecting",
        [STATE_PAUSED] = "paused",
        [STATE_DRAINING] = "draining",
        [STATE_CLOSED] = "closed",
        [STATE_DIED] = "died",
    };
    return kind < STATE_KIND_COUNT ? names[kind] : "?";
}

/* Each process has a temporary name of its own: two that take over at once must
 * not meet in one file. */
struct unshown {
    char name[sizeof(CHANNEL_UNSHOWN) + 24];
};

static struct unshown unshown(void)
{
    struct unshown u;
    snprintf(u.name, sizeof(u.name), CHANNEL_UNSHOWN "-%ld", (long)getpid());
    return u;
}

/* What a manager left that was killed before it served. */
static bool left_unshown(int folder, const char *name, int reply_fd)
{
    (void)folder;
    (void)reply_fd;
    static const char prefix[] = CHANNEL_UNSHOWN "-";
    if (strncmp(name, prefix, sizeof(prefix) - 1) != 0)
        return false;
    long pid = strtol(name + sizeof(prefix) - 1, NULL, 10);
    return pid > 0 && kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

void status_discard(const struct channel *ch)
{
    unlinkat(ch->dirfd, unshown().name, 0);
}

enum err status_create(const struct channel *ch, struct status **status,
                       struct err_text *why)
{
    const char *step = "make";
    status_discard(ch);
    (void)!sweep_whole(ch->dirfd, -1, left_unshown, NULL);
    int fd = openat(ch->dirfd, unshown().name,
                    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        goto fail;
    step = "allocate";
    int e = posix_fallocate(fd, 0, sizeof(struct status));
    if (e != 0) {
        errno = e;
        goto fail;
    }
    step = "map";
    struct status *s =
        mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s == MAP_FAILED)
        goto fail;
    s->magic = STATUS_MAGIC;
    s->version = STATUS_VERSION;
    s->size = sizeof(*s);
    step = "chmod";
    if (channel_set_mode(ch, fd, channel_mode(ch, 0640)) != ERR_OK) {
        munmap(s, sizeof(*s));
        goto fail;
    }
    close(fd);
    *status = s;
    return ERR_OK;
fail:
    err_say(why, ERR_SYS, "cannot %s %s/status: %s", step, ch->dir,
            strerror(errno));
    if (fd >= 0) {
        close(fd);
        status_discard(ch);
    }
    return ERR_SYS;
}

enum err status_show(const struct channel *ch, struct err_text *why)
{
    struct unshown u = unshown();
    if (renameat(ch->dirfd, u.name, ch->dirfd, "status") == 0)
        return ERR_OK;
    return err_say(why, ERR_SYS, "cannot rename %s/%s: %s", ch->dir, u.name,
                   strerror(errno));
}

void status_set_state(struct status *status, struct manager_state *current,
                      uint32_t kind)
{
    if (current->kind != kind) {
        current->kind = kind;
        current->since_ns = clock_ns();
    }
    watch_publish(&status->state, current, sizeof(*current));
}

enum err status_open(const struct channel *ch, const struct status **status,
                     struct err_text *why)
{
    int fd = openat(ch->dirfd, "status",
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return err_say(why, errno == ENOENT ? ERR_ABSENT : ERR_SYS,
                       "channel '%s': cannot open %s/status: %s", ch->name,
                       ch->dir, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        st.st_size != (off_t)sizeof(struct status)) {
        close(fd);
        return err_say(why, ERR_PROTO,
                       "channel '%s': %s/status is not of this version (%u)",
                       ch->name, ch->dir, STATUS_VERSION);
    }
    const struct status *s =
        mmap(NULL, sizeof(*s), PROT_READ, MAP_SHARED, fd, 0);
    int saved = errno;
    close(fd);
    if (s == MAP_FAILED)
        return err_say(why, ERR_SYS, "channel '%s': cannot map status: %s",
                       ch->name, strerror(saved));
    if (s->magic != STATUS_MAGIC || s->version != STATUS_VERSION ||
        s->size != sizeof(*s)) {
        uint32_t version = s->magic == STATUS_MAGIC ? s->version : 0;
        status_unmap(s);
        return err_say(why, ERR_PROTO,
                       "channel '%s': %s/status has version %u, this program "
                       "reads %u",
                       ch->name, ch->dir, version, STATUS_VERSION);
    }
    *status = s;
    return ERR_OK;
}

void status_unmap(const struct status *status)
{
    union {
        const struct status *in;
        void *out;
    } cast = {.in = status}; /* munmap(2) takes no const */
    munmap(cast.out, sizeof(*status));
}

enum err status_read_state(const struct status *status,
                           struct manager_state *state, uint32_t *version)
{
    enum err e = watch_read(&status->state, state, sizeof(*state), version);
    if (e != ERR_OK)
        return e;
    state->queue[sizeof(state->queue) - 1] = '\0';
    state->server[sizeof(state->server) - 1] = '\0';
    state->error[sizeof(state->error) - 1] = '\0';
    return ERR_OK;
}
