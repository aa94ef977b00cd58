/* mqstat run, and a manager's outside. */
#include "tests/mqstat.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"

/* ---- running it ---- */

struct mqstat_run ran;

void read_file(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(out, 1, size - 1, f) : 0;
    if (f != NULL)
        fclose(f);
    out[n] = '\0';
}

void mqstat(const char *fmt, ...)
{
    char args[1024], command[4096], out[512], err[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(args, sizeof(args), fmt, ap);
    va_end(ap);
    snprintf(out, sizeof(out), "%s/out", support_scratch());
    snprintf(err, sizeof(err), "%s/err", support_scratch());
    snprintf(command, sizeof(command),
             "LC_ALL=C timeout 60 '%s/mqstat' %s >'%s' 2>'%s' </dev/null",
             support_build(), args, out, err);
    int status = system(command);
    ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : 999;
    read_file(out, ran.out, sizeof(ran.out));
    read_file(err, ran.err, sizeof(ran.err));
    unlink(out);
    unlink(err);
}

void assert_harmless(void)
{
    for (const char *texts[] = {ran.out, ran.err}, **t = texts; t < texts + 2;
         t++)
        for (const char *p = *t; *p != '\0'; p++)
            ck_assert_msg(*p == '\n' || ((unsigned char)*p >= 0x20 &&
                                         (unsigned char)*p != 0x7f),
                          "byte %02x in:\n%s", (unsigned char)*p, *t);
}

void assert_one_line(const char *text)
{
    const char *end = strchr(text, '\n');
    ck_assert_msg(end != NULL && end[1] == '\0', "not one line: %s", text);
}

struct json_value *mqstat_json(void)
{
    static char text[1 << 16];
    char why[2048];
    size_t at;
    read_file("tools/mqstat.schema.json", text, sizeof(text));
    struct json_value *schema = json_parse(text, &at);
    ck_assert_msg(schema != NULL, "the schema is no JSON at %zu", at);
    struct json_value *v = json_parse(ran.out, &at);
    ck_assert_msg(v != NULL, "no JSON at %zu:\n%s", at, ran.out);
    ck_assert_msg(json_conforms(schema, v, why, sizeof(why)), "%s\n%s", why,
                  ran.out);
    json_free(schema);
    return v;
}

/* ---- a manager's outside ---- */

void fake_start(struct fake *f, const char *name, long capacity)
{
    struct err_text why = {""}, note = {""};
    memset(f, 0, sizeof(*f));
    snprintf(f->name, sizeof(f->name), "%s", name);
    const struct mpsc_config config = {
        .capacity = capacity, .msgsize = 512, .capacity_exact = true};
    pid_t holder;
    ck_assert_msg(channel_create(&f->ch, name, CHANNEL_NO_GROUP, &why) ==
                      ERR_OK,
                  "%s", why.text);
    ck_assert_msg(
        channel_lock(&f->ch, getpid(), 5000, &f->lock, &holder, &why) == ERR_OK,
        "%s", why.text);
    ck_assert_msg(mpsc_create(&f->rx, &f->ch, &config, 77, &note, &why) ==
                      ERR_OK,
                  "%s", why.text);
    ck_assert_msg(
        channel_make_fifo(&f->ch, "control", 0600, &f->control, &why) == ERR_OK,
        "%s", why.text);
    ck_assert_msg(status_create(&f->ch, &f->status, &why) == ERR_OK, "%s",
                  why.text);
    f->state.pid = getpid();
    f->state.epoch = 77;
    f->state.started_ns = clock_ns();
    f->state.window = 100;
    f->state.capacity = (uint32_t)capacity;
    snprintf(f->state.queue, sizeof(f->state.queue), "%s", f->rx.queue);
    strcpy(f->state.server, "redis://127.0.0.1:6379/0");
    status_set_state(f->status, &f->state, STATE_CONNECTED);
    ck_assert_msg(status_show(&f->ch, &why) == ERR_OK, "%s", why.text);
}

void fake_die(struct fake *f)
{
    mpsc_receiver_close(&f->rx);
    close(f->control);
    close(f->lock);
    status_unmap(f->status);
    channel_close(&f->ch);
}

void fake_count(struct fake *f, uint64_t n)
{
    status_count(f->status, COUNTER_messages, n);
    status_count(f->status, COUNTER_taken, n);
    status_count(f->status, COUNTER_answered, n - 3);
    status_count(f->status, COUNTER_expired, 1);
    status_gauge_set(f->status, GAUGE_inflight, 2);
    for (uint64_t i = 0; i < n; i++) {
        histogram_add(&f->status->times[TIME_queue_wait], 20000);
        histogram_add(&f->status->times[TIME_round_trip], 150000 + i * 100);
    }
}

/* ---- senders in children ---- */

void fake_sender(void *arg)
{
    const struct fake_sender *a = arg;
    struct channel ch;
    struct mpsc_sender tx;
    struct err_text why = {""};
    CHILD_REQUIRE(channel_open(&ch, a->name, &why) == ERR_OK);
    CHILD_REQUIRE(mpsc_open(&tx, &ch, &why) == ERR_OK);
    for (int i = 0; i < a->messages; i++)
        CHILD_REQUIRE(mpsc_send(&tx, "x", 1, 0) == ERR_OK);
    for (;;)
        pause();
}

long queue_limit(void)
{
    char text[32];
    read_file("/proc/sys/fs/mqueue/msg_max", text, sizeof(text));
    long n = strtol(text, NULL, 10);
    return n < 32 ? n : 32;
}
