/* Large values: bytes, servers, and a look at the manager. */
#include "tests/large.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support.h"

void large_prepare(void)
{
    if (access("/dev/shm", W_OK | X_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
}

/* ---- bytes ---- */

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t word_at(uint64_t seed, uint64_t i)
{
    uint64_t z = seed * 0x2545f4914f6cdd1dULL + (i + 1) * 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

void large_fill(char *data, size_t len, uint64_t seed)
{
    for (size_t at = 0; at < len; at += sizeof(uint64_t)) {
        uint64_t w = word_at(seed, at / sizeof(w));
        memcpy(data + at, &w, len - at < sizeof(w) ? len - at : sizeof(w));
    }
}

bool large_is(const char *data, size_t len, uint64_t seed)
{
    for (size_t at = 0; at < len; at += sizeof(uint64_t)) {
        uint64_t w = word_at(seed, at / sizeof(w));
        size_t n = len - at < sizeof(w) ? len - at : sizeof(w);
        if (memcmp(data + at, &w, n) != 0)
            return false;
    }
    return true;
}

char *large_new(size_t len, uint64_t seed)
{
    char *data = malloc(len + 1);
    if (data == NULL) {
        fprintf(stderr, "no memory for %zu bytes\n", len);
        abort();
    }
    large_fill(data, len, seed);
    return data;
}

/* ---- replies ---- */

struct mqredis *large_open(const struct e2e_manager *m)
{
    struct mqredis_error why;
    struct mqredis *mq = mqredis_open(m->channel, &why);
    if (mq == NULL) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    mqredis_set_timeout(mq, 120000);
    return mq;
}

static bool judge(struct mqredis_reply *r, bool right, const char *wanted)
{
    if (!right)
        fprintf(stderr,
                "wanted %s, got type %d, status %s, %zu bytes: %.200s\n",
                wanted, (int)r->type, mqredis_status_str(r->status), r->len,
                r->str ? r->str : "");
    mqredis_free(r);
    return right;
}

bool large_is_status(struct mqredis_reply *r, const char *text)
{
    return judge(r, r->type == MQREDIS_STATUS && strcmp(r->str, text) == 0,
                 text);
}

bool large_is_value(struct mqredis_reply *r, size_t len, uint64_t seed)
{
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "%zu bytes", len);
    return judge(r,
                 r->type == MQREDIS_STRING && r->len == len &&
                     large_is(r->str, len, seed),
                 wanted);
}

bool large_is_integer(struct mqredis_reply *r, int64_t value)
{
    return judge(r, r->type == MQREDIS_INTEGER && r->integer == value,
                 "an integer");
}

bool large_failed(struct mqredis_reply *r, enum mqredis_status status)
{
    return judge(r, r->type == MQREDIS_FAILURE && r->status == status,
                 mqredis_status_str(status));
}

bool large_round(struct mqredis *mq, const char *key, size_t len, uint64_t seed)
{
    char *data = large_new(len, seed);
    bool set = large_is_status(mqredis_set(mq, key, data, len), "OK");
    free(data);
    return set && large_is_value(mqredis_get(mq, key), len, seed);
}

void large_put(const char *key, size_t len, uint64_t seed)
{
    struct mqredis *mq = large_open(&manager);
    /* We are cut off if the machine lets us not run for 200 ms. */
    ck_assert(UNTIL(large_round(mq, key, len, seed)));
    mqredis_close(mq);
}

void large_stall(struct e2e_client *c, struct e2e_call *k, const char *key)
{
    char payload[64];
    uint32_t n;
    char text[40];
    snprintf(text, sizeof(text), "GET %s", key);
    size_t len = e2e_commands(payload, sizeof(payload), &n, text);
    ck_assert(e2e_begin(c, k, n, payload, len, 60000) == ERR_OK);
    ck_assert(e2e_send(c, k) == ERR_OK);
}

/* ---- servers ---- */

/* A key and a certificate that vouches for itself. */
static bool make_certificate(char dir[200])
{
    char script[1024];
    struct e2e_output out;
    snprintf(dir, 200, "%s", support_scratch());
    snprintf(script, sizeof(script),
             "test -s %s/tls.pem || openssl req -x509 -newkey rsa:2048 -nodes "
             "-keyout %s/tls.key -out %s/tls.pem -days 2 -subj /CN=localhost "
             "-addext subjectAltName=IP:127.0.0.1",
             dir, dir, dir);
    const char *const argv[] = {"sh", "-c", script, NULL};
    e2e_run(&out, argv);
    return out.status == 0;
}

static bool listens(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    close(fd);
    return ok;
}

bool large_tcp(struct e2e_redis *r, int kind, bool tls, char uri[128],
               char options[256])
{
    char port[16], dir[200] = "", key[256], pem[256];
    int number = support_free_port();
    snprintf(port, sizeof(port), "%d", number);
    options[0] = '\0';
    snprintf(uri, 128, "redis%s://127.0.0.1:%d", tls ? "s" : "", number);
    *r = (struct e2e_redis){.kind = (enum e2e_server)kind};
    snprintf(r->at.path, sizeof(r->at.path), "%s/t%d", support_scratch(),
             number);
    if (tls && (kind != E2E_REDIS || !make_certificate(dir)))
        return false;
    snprintf(key, sizeof(key), "%s/tls.key", dir);
    snprintf(pem, sizeof(pem), "%s/tls.pem", dir);
    if (tls)
        snprintf(options, 256, "--tls-ca %.200s", pem);
    const char *real = getenv("REDIS_SERVER");
    const char *argv[E2E_ARGS_MAX + 1] = {
        kind == E2E_REDIS ? (real != NULL ? real : "redis-server")
                          : "mqredis-server",
        tls ? "--tls-port" : "--port", port, "--unixsocket", r->at.path};
    size_t n = 5;
    static const char *const more[] = {"--save", "",      "--appendonly",
                                       "no",     "--dir", "/"};
    for (size_t i = 0; kind == E2E_REDIS && i < 6; i++)
        argv[n++] = more[i];
    const char *const secure[] = {"--port",
                                  "0",
                                  "--tls-cert-file",
                                  pem,
                                  "--tls-key-file",
                                  key,
                                  "--tls-ca-cert-file",
                                  pem,
                                  "--tls-auth-clients",
                                  "no"};
    for (size_t i = 0; tls && i < 10; i++)
        argv[n++] = secure[i];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    r->at.pid = e2e_spawn(argv, null, null);
    close(null);
    return UNTIL(listens(number));
}

/* ---- the manager from outside ---- */

long large_rss_kb(pid_t pid)
{
    char path[64], text[4096];
    snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *at = strstr(text, "RssAnon:");
    return at ? strtol(at + 8, NULL, 10) : -1;
}

int large_fds(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
    return support_count_entries(path);
}

int large_leftovers(const struct e2e_manager *m)
{
    char name[96];
    snprintf(name, sizeof(name), "%s/payload", m->channel);
    int count = support_count_entries(support_path(name));
    snprintf(name, sizeof(name), "%s/reply", m->channel);
    return count + support_count_entries(support_path(name));
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

uint64_t large_percentile(uint64_t *times, size_t count, double p)
{
    if (count == 0)
        return 0;
    qsort(times, count, sizeof(*times), by_size);
    return times[(size_t)(p * (double)(count - 1))];
}
