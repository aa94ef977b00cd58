/*
 * mqstat looks at a status file that anybody could have written: two samples of
 * it, one after the other, in every form that mqstat prints. Nothing may crash,
 * nothing for terminals to obey may come out, and JSON must stay JSON.
 *
 * An input begins with flags; then come patches (where, how long, bytes) of a
 * sound file, since nothing else would get past the first look. Those of the
 * second sample come after the first half.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/json.h"
#include "tools/mqstat/mqstat.h"
#include "tools/mqstat/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CUT 1        /* the file ends too early */
#define NO_STATE 2   /* its state was never set */
#define OTHER_LIFE 4 /* the second is of another manager's life */
#define NODES 64     /* both are of a cluster's manager */

static char folder[64];

/* main.c's, which is not part of this. */
int fail(int code, const char *fmt, ...)
{
    (void)fmt;
    return code;
}

int finish(struct text *out)
{
    text_free(out);
    return 0;
}

bool sleep_s(double s)
{
    return s < 0;
}

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void remove_folder(void)
{
    char path[96];
    snprintf(path, sizeof(path), "%s/status", folder);
    unlink(path);
    snprintf(path, sizeof(path), "%s/reply", folder);
    rmdir(path);
    rmdir(folder);
}

static void make_folder(void)
{
    char path[96];
    const char *dir = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof(folder), "%s/mqredis-fuzz.XXXXXX", dir);
    require(mkdtemp(folder) != NULL);
    atexit(remove_folder);
    snprintf(path, sizeof(path), "%s/reply", folder);
    require(mkdir(path, 0700) == 0);
}

static void put_nodes(struct status *s, uint32_t serial)
{
    static const char *const addresses[] = {"127.0.0.1:7001", "[::1]:7002",
                                            "\x1b[2J\"}\n\\:7003"};
    for (uint32_t i = 0; i < 3; i++) {
        struct status_node *row = &s->nodes[i];
        struct status_node_face face = {.role = 1 + i,
                                        .state = STATUS_NODE_CONNECTED - i,
                                        .slots = 5461,
                                        .connects = i,
                                        .since_ns = clock_ns()};
        snprintf(face.address, sizeof(face.address), "%s", addresses[i]);
        snprintf(face.error, sizeof(face.error), "%s", addresses[2 - i]);
        status_node_claim(row, serial + i, &face);
        status_node_sent(row, 9 + serial);
        status_node_answered(row, 1000ULL << i);
        status_node_redirected(row, (enum status_node_redirect)i);
    }
    status_gauge_set(s, GAUGE_nodes_known, 4);
    status_gauge_set(s, GAUGE_slots_unserved, 1);
}

/* Writes a sound file with the patches, back to front or not. */
static void write_status(const uint8_t *patch, size_t len, unsigned flags,
                         uint64_t epoch)
{
    static struct status s;
    memset(&s, 0, sizeof(s));
    s.magic = STATUS_MAGIC;
    s.version = STATUS_VERSION;
    s.size = sizeof(s);
    struct manager_state state = {.pid = getpid(),
                                  .epoch = epoch,
                                  .started_ns = clock_ns(),
                                  .capacity = 32,
                                  .msgsize = 8192};
    if (!(flags & NO_STATE))
        status_set_state(&s, &state, STATE_CONNECTED);
    if (flags & NODES)
        put_nodes(&s, (uint32_t)epoch);
    while (len > 3) {
        size_t at = (patch[0] | (size_t)patch[1] << 8) % sizeof(s);
        size_t n = patch[2] % 64 + 1;
        patch += 3;
        len -= 3;
        n = n < len ? n : len;
        n = n < sizeof(s) - at ? n : sizeof(s) - at;
        memcpy((char *)&s + at, patch, n);
        patch += n;
        len -= n;
    }
    char path[96];
    snprintf(path, sizeof(path), "%s/status", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    require(fd >= 0);
    size_t size = flags & CUT ? sizeof(s) / 3 : sizeof(s);
    require(write(fd, &s, size) == (ssize_t)size);
    close(fd);
}

static void check_printable(struct text *t)
{
    for (size_t i = 0; i < t->len; i++) {
        unsigned char c = (unsigned char)t->data[i];
        /* Of what is not ASCII, only our own signs; none begins below C2. */
        require(c == '\n' || (c >= ' ' && c < 0x7f) || c >= 0x80);
    }
    text_free(t);
}

static void print_all(const struct sample_set *old,
                      const struct sample_set *set)
{
    static struct client_entry entries[STATUS_CLIENTS];
    const struct look look = {.utf8 = true, .width = 80, .height = 24};
    struct text t = {0};
    show_table(&t, old, set, old == NULL, &look);
    check_printable(&t);
    t = (struct text){0};
    show_channel(&t, old != NULL ? old->items[0] : NULL, set->items[0],
                 set->scan, &look);
    check_printable(&t);
    t = (struct text){0};
    prometheus_channels(&t, set);
    check_printable(&t);
    t = (struct text){0};
    json_channels(&t, old, set, true);
    size_t at;
    struct json_value *v = json_parse(t.data, &at);
    require(v != NULL);
    json_free(v);
    check_printable(&t);
    for (int sort = 0; sort < SORT_COUNT; sort++)
        (void)clients_of(old != NULL ? old->items[0] : NULL, set->items[0],
                         (enum client_sort)sort, entries);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct proc_scan nobody;
    if (folder[0] == '\0')
        make_folder();
    if (size < 1 || size > 8192)
        return 0;
    char *names[] = {folder};
    const struct channel_names list = {names, 1};
    struct sample_set a, b;
    unsigned flags = data[0];
    size_t half = (size - 1) / 2;
    write_status(data + 1, half, flags, 7);
    require(sample_set_take(&a, &list, &nobody) == ERR_OK);
    write_status(data + 1 + half, size - 1 - half,
                 (flags >> 3 & ~(unsigned)NODES) | (flags & NODES),
                 flags & OTHER_LIFE ? 8 : 7);
    require(sample_set_take(&b, &list, &nobody) == ERR_OK);
    print_all(NULL, &a);
    print_all(&a, &b);
    sample_set_free(&a);
    sample_set_free(&b);
    return 0;
}
