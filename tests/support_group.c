/* Users, and a manager that is one of them. */
#include "tests/support_group.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "tests/support.h"

/* Check's fixtures take no argument: one site at a time. */
static struct {
    char dir[40]; /* of the channels; every user may pass through it */
    char channel[96];
    const char *mount; /* options of a file system of its own */
    struct e2e_redis redis;
    struct e2e_manager manager;
} site;

void group_setup(void)
{
    support_scratch_setup();
    /* The scratch folder may lie where other users can't go. */
    strcpy(site.dir, "/tmp/mqredis-group.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(site.dir));
    ck_assert_int_eq(chmod(site.dir, 0711), 0);
}

/* What a test that failed left mounted. */
static void unmount_all(void)
{
    DIR *dir = opendir(site.dir);
    for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        char path[sizeof(site.dir) + sizeof(d->d_name) + 1];
        snprintf(path, sizeof(path), "%s/%s", site.dir, d->d_name);
        if (d->d_name[0] != '.')
            umount2(path, MNT_DETACH);
    }
    if (dir != NULL)
        closedir(dir);
}

void group_teardown(void)
{
    unmount_all();
    support_remove(site.dir);
    support_scratch_teardown();
}

bool group_mount(const char *options)
{
    if (mount("tmpfs", site.dir, "tmpfs", 0, options) < 0)
        return false;
    umount2(site.dir, MNT_DETACH);
    site.mount = options;
    return true;
}

void group_unmount(void)
{
    umount2(site.channel, MNT_DETACH);
    site.mount = NULL;
}

/* ---- users ---- */

/* False where that is not allowed: in a user namespace that maps only one. */
bool group_become(uid_t uid, bool member)
{
    gid_t group = GROUP_MEMBERS;
    if (setgroups(member ? 1 : 0, &group) < 0 ||
        setresgid((gid_t)uid, (gid_t)uid, (gid_t)uid) < 0 ||
        setresuid(uid, uid, uid) < 0)
        return false;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user clears it */
    return true;
}

static void try_to_become(void *arg)
{
    (void)arg;
    _exit(group_become(GROUP_ALICE, true) ? 0 : CHILD_CANNOT);
}

bool group_can(const char *suite)
{
    if (getuid() == 0 && support_join(support_fork(try_to_become, NULL)) == 0)
        return true;
    support_skip(suite, "takes root who may become other users");
    return false;
}

struct part {
    uid_t uid;
    bool member;
    void (*fn)(void);
};

static void act(void *arg)
{
    const struct part *p = arg;
    CHILD_REQUIRE(p->uid == 0 || group_become(p->uid, p->member));
    p->fn();
}

pid_t group_fork_as(uid_t uid, bool member, void (*fn)(void))
{
    struct part part = {uid, member, fn};
    return support_fork(act, &part);
}

int group_as(uid_t uid, bool member, void (*fn)(void))
{
    return support_join(group_fork_as(uid, member, fn));
}

/* ---- the manager, as a user ---- */

/* The program is opened before the change of user, who may not reach it. */
static void run_manager(uid_t uid, bool with_group, const char *options)
{
    char path[256], group[16], uri[160], words[512], flag[] = "--group";
    snprintf(path, sizeof(path), "%s/mqredis-manager", support_build());
    snprintf(group, sizeof(group), "%d", GROUP_MEMBERS);
    snprintf(uri, sizeof(uri), "%s", e2e_uri(&site.redis));
    snprintf(words, sizeof(words), "%s", options ? options : "");
    int program = open(path, O_PATH | O_CLOEXEC);
    int log =
        open(site.manager.log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char *argv[E2E_ARGS_MAX + 1] = {(char[]){"mqredis-manager"},
                                    (char[]){"--channel"},
                                    site.channel,
                                    (char[]){"--msgsize"},
                                    (char[]){"1024"},
                                    (char[]){"--redis"},
                                    uri};
    size_t argc = 7;
    if (with_group) {
        argv[argc++] = flag;
        argv[argc++] = group;
    }
    char *rest = words;
    for (char *w; (w = strsep(&rest, " ")) != NULL;)
        if (*w != '\0' && argc < E2E_ARGS_MAX)
            argv[argc++] = w;
    CHILD_REQUIRE(dup2(log, 1) == 1 && dup2(log, 2) == 2);
    if (uid != 0)
        CHILD_REQUIRE(group_become(uid, true));
    fexecve(program, argv, environ);
    bool executed = false;
    CHILD_REQUIRE(executed);
}

void group_start(uid_t uid, bool with_group, const char *options)
{
    struct e2e_manager *m = &site.manager;
    memset(m, 0, sizeof(*m));
    /* As systemd's RuntimeDirectory makes it. */
    int n = snprintf(site.channel, sizeof(site.channel), "%s/%s", site.dir,
                     support_name());
    ck_assert_int_lt(n, (int)sizeof(site.channel));
    ck_assert_int_eq(mkdir(site.channel, 0700), 0);
    if (site.mount != NULL)
        ck_assert_int_eq(mount("tmpfs", site.channel, "tmpfs", 0, site.mount),
                         0);
    ck_assert_int_eq(chmod(site.channel, 0700), 0);
    ck_assert_int_eq(chown(site.channel, uid, (gid_t)uid), 0);
    e2e_redis_start(&site.redis, E2E_MQREDIS);
    /* Past the scratch folder, which others can't enter. */
    char socket_path[104];
    snprintf(socket_path, sizeof(socket_path), "%s.sock", site.channel);
    ck_assert_int_eq(rename(site.redis.at.path, socket_path), 0);
    strcpy(site.redis.at.path, socket_path);
    ck_assert_int_eq(chmod(socket_path, 0777), 0);
    snprintf(m->log, sizeof(m->log), "%s.log", site.channel);
    fflush(NULL);
    m->pid = fork();
    ck_assert_int_ge(m->pid, 0);
    if (m->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_manager(uid, with_group, options);
    }
    ck_assert_msg(UNTIL(strstr(e2e_log(m), "ready") != NULL), "%s", e2e_log(m));
    struct channel ch;
    struct err_text why = {""};
    ck_assert_msg(channel_open(&ch, site.channel, &why) == ERR_OK, "%s",
                  why.text);
    ck_assert_msg(status_open(&ch, &m->status, &why) == ERR_OK, "%s", why.text);
    channel_close(&ch);
}

struct e2e_manager *group_manager(void)
{
    return &site.manager;
}

struct e2e_redis *group_redis(void)
{
    return &site.redis;
}

void group_stop(void)
{
    ck_assert_int_eq(e2e_manager_stop(&site.manager), 0);
}

const char *group_channel(void)
{
    return site.channel;
}

const char *group_path(const char *folder, const char *name)
{
    static char path[360];
    snprintf(path, sizeof(path), "%s/%s/%s", site.channel, folder, name);
    return path;
}
