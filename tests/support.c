/* Scratch folders, children and a look at them from outside. */
#include "tests/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "ipc/channel.h"

/* Libcheck's fixtures take no argument, so this is the file's one state. */
static char scratch[SUPPORT_SCRATCH_MAX];

/* ---- the scratch folder ---- */

static void read_text(const char *path, char *text, size_t size)
{
    text[0] = '\0';
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
}

void support_scratch_setup_as(char name[SUPPORT_SCRATCH_MAX])
{
    const char *parent = getenv("TMPDIR");
    snprintf(name, SUPPORT_SCRATCH_MAX, "%s/mqredis-test.XXXXXX",
             parent != NULL && parent[0] != '\0' ? parent : "/tmp");
    if (mkdtemp(name) == NULL || chmod(name, 0711) < 0 ||
        setenv("MQREDIS_DIR", name, 1) < 0)
        ck_abort_msg("cannot make %s: %s", name, strerror(errno));
    snprintf(scratch, sizeof(scratch), "%s", name);
    signal(SIGPIPE, SIG_IGN);
}

void support_scratch_setup(void)
{
    char name[SUPPORT_SCRATCH_MAX];
    support_scratch_setup_as(name);
}

void support_remove_queues(void)
{
    DIR *dir = opendir(scratch);
    if (dir == NULL)
        return;
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        char path[PATH_MAX + sizeof(d->d_name) + 8], text[256];
        snprintf(path, sizeof(path), "%s/%s/queue", scratch, d->d_name);
        read_text(path, text, sizeof(text));
        text[strcspn(text, "\n")] = '\0';
        if (strncmp(text, "/mqredis.", 9) == 0)
            mq_unlink(text);
    }
    closedir(dir);
}

void support_scratch_teardown(void)
{
    support_remove_queues();
    support_remove(scratch);
}

TCase *support_case(Suite *suite, const char *name, int timeout_s)
{
    TCase *tcase = tcase_create(name);
    tcase_add_unchecked_fixture(tcase, support_scratch_setup,
                                support_scratch_teardown);
    tcase_set_timeout(tcase, timeout_s);
    suite_add_tcase(suite, tcase);
    return tcase;
}

const char *support_scratch(void)
{
    return scratch;
}

const char *support_path(const char *name)
{
    static char path[PATH_MAX + 256];
    snprintf(path, sizeof(path), "%s/%s", scratch, name);
    return path;
}

const char *support_name(void)
{
    static char name[48];
    static unsigned count;
    snprintf(name, sizeof(name), "t%ld-%u", (long)getpid(), ++count);
    return name;
}

void support_channel(struct channel *ch, gid_t group)
{
    struct err_text why = {""};
    enum err e = channel_create(ch, support_name(), group, &why);
    ck_assert_msg(e == ERR_OK, "%s", why.text);
}

void support_write_file(int dirfd, const char *name, const char *text)
{
    unlinkat(dirfd, name, 0);
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

void support_remove(const char *path)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return;
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        char below[PATH_MAX];
        int n = snprintf(below, sizeof(below), "%s/%s", path, d->d_name);
        if (n > 0 && (size_t)n < sizeof(below))
            support_remove(below);
    }
    closedir(dir);
    rmdir(path);
}

int support_count_entries(const char *path)
{
    DIR *dir = opendir(path);
    if (dir == NULL)
        return -1;
    int count = 0;
    for (struct dirent *d; (d = readdir(dir)) != NULL;)
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            count++;
    closedir(dir);
    return count;
}

int support_count_fds(void)
{
    return support_count_entries("/proc/self/fd") - 1; /* the one reading it */
}

/* The socket stays bound: who asks with SO_REUSEADDR may listen there, as all
 * servers do, and the kernel gives the port to nobody. */
int support_take_port(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    if (bind(fd, (struct sockaddr *)&address, len) != 0) {
        close(fd);
        return 0;
    }
    /* Only now: before, it would share a port that another test has taken. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    return ntohs(address.sin_port);
}

int support_free_port(void)
{
    int port = support_take_port(0);
    ck_assert_int_gt(port, 0);
    return port;
}

const char *support_build(void)
{
    const char *build = getenv("MQREDIS_BUILD");
    return build != NULL ? build : "build";
}

const char *support_preload(const char *name)
{
    static char whole[PATH_MAX];
    char path[512];
    snprintf(path, sizeof(path), "%s/tests/%s", support_build(), name);
    ck_assert_msg(realpath(path, whole) != NULL, "%s is not there", path);
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 0);
    return whole;
}

/* ---- children ---- */

pid_t support_fork(void (*fn)(void *arg), void *arg)
{
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        ck_abort_msg("cannot fork: %s", strerror(errno));
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    fn(arg);
    _exit(0);
}

int support_join(pid_t pid)
{
    int status;
    pid_t got = 0;
    if (!UNTIL((got = waitpid(pid, &status, WNOHANG)) != 0)) {
        char state = support_proc_state(pid);
        support_kill(pid);
        ck_abort_msg("child %ld has not ended in time (state %c)", (long)pid,
                     state);
    }
    if (got != pid)
        ck_abort_msg("cannot wait for %ld: %s", (long)pid, strerror(errno));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void support_kill(pid_t pid)
{
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

void support_stop(pid_t pid)
{
    kill(pid, SIGSTOP);
    ck_assert(UNTIL(support_proc_state(pid) == 'T'));
}

bool support_become(uid_t uid, gid_t gid)
{
    /* In this order: without the uid there is no right to the rest. */
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
        setresuid(uid, uid, uid) < 0)
        return false;
    /* A change of user clears it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return true;
}

bool support_fresh_ipc(void)
{
    if (unshare(CLONE_NEWIPC) < 0)
        return false;
    struct __user_cap_header_struct header = {
        .version = _LINUX_CAPABILITY_VERSION_3,
    };
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return false;
    data[0].effective &= ~(1U << CAP_SYS_RESOURCE);
    return syscall(SYS_capset, &header, data) == 0;
}

bool support_root_of_many(void)
{
    unsigned long first, outside, count = 0;
    FILE *map = fopen("/proc/self/uid_map", "re");
    if (map == NULL)
        return geteuid() == 0;
    int found = fscanf(map, "%lu %lu %lu", &first, &outside, &count);
    fclose(map);
    return geteuid() == 0 && (found != 3 || count >= 65535);
}

void support_skip(const char *test, const char *why)
{
    printf("skipped: %s: %s\n", test, why);
    fflush(stdout);
}

void *support_shared(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        ck_abort_msg("cannot map %zu bytes: %s", size, strerror(errno));
    return p;
}

/* ---- waiting ---- */

int64_t support_wait_ms(void)
{
    const char *times = getenv("CK_TIMEOUT_MULTIPLIER");
    int64_t n = times != NULL ? strtol(times, NULL, 10) : 1;
    return SUPPORT_WAIT_MS * (n > 1 ? n : 1);
}

void support_sleep_ms(int ms)
{
    struct timespec left = {.tv_sec = ms / 1000,
                            .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

/* ---- processes seen from outside ---- */

static void read_proc(pid_t pid, const char *file, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, file);
    read_text(path, text, size);
}

char support_proc_state(pid_t pid)
{
    char text[512], state = '\0';
    long threads = 1;
    read_proc(pid, "stat", text, sizeof(text));
    /* The name stands in parentheses and may hold any byte. */
    const char *after = strrchr(text, ')');
    if (after != NULL &&
        sscanf(after, /* 20 is num_threads */
               ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
               "%*s %*s %ld",
               &state, &threads) < 1)
        return '\0';
    return state == 'Z' && threads > 1 ? 'R' : state;
}

uint64_t support_cpu_ns(pid_t pid)
{
    char text[128];
    read_proc(pid, "schedstat", text, sizeof(text));
    return strtoull(text, NULL, 10);
}

long support_proc_syscall(pid_t pid)
{
    char text[256];
    read_proc(pid, "syscall", text, sizeof(text));
    char *end;
    long number = strtol(text, &end, 10);
    return end != text ? number : -1;
}

bool support_sleeps_in(pid_t pid, long syscall_number)
{
    return UNTIL(support_proc_syscall(pid) == syscall_number &&
                 support_proc_state(pid) == 'S');
}
