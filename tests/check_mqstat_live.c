/* mqstat's live view on a terminal, and its Prometheus side. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <utmp.h>

#include "ipc/clock.h"
#include "ipc/mpsc.h"
#include "ipc/status.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* ---- a status file to look at ---- */

struct shown {
    struct channel ch;
    struct mpsc_receiver rx;
    struct status *status;
    struct manager_state state;
};

static void show_channel(struct shown *f, const char *name)
{
    struct err_text why = {""}, note = {""};
    memset(f, 0, sizeof(*f));
    const struct mpsc_config config = {
        .capacity = 4, .msgsize = 512, .capacity_exact = true};
    ck_assert(channel_create(&f->ch, name, CHANNEL_NO_GROUP, &why) == ERR_OK);
    ck_assert_msg(mpsc_create(&f->rx, &f->ch, &config, 77, &note, &why) ==
                      ERR_OK,
                  "%s", why.text);
    ck_assert_msg(status_create(&f->ch, &f->status, &why) == ERR_OK, "%s",
                  why.text);
    f->state.pid = getpid();
    f->state.epoch = 77;
    f->state.started_ns = clock_ns();
    f->state.window = 100;
    strcpy(f->state.server, "redis://127.0.0.1:6379/0");
    status_set_state(f->status, &f->state, STATE_CONNECTED);
    ck_assert_msg(status_show(&f->ch, &why) == ERR_OK, "%s", why.text);
}

static void hide_channel(struct shown *f)
{
    mpsc_unlink(&f->rx);
    mpsc_receiver_close(&f->rx);
    status_unmap(f->status);
    channel_remove(&f->ch);
    channel_close(&f->ch);
}

/* ---- a terminal ---- */

struct terminal {
    int fd;
    pid_t pid;
    struct termios before;
    size_t len;
    char text[1 << 19];
};

static void program_path(char out[4096])
{
    snprintf(out, 4096, "%s/mqstat", support_build());
}

/* Starts mqstat with up to three arguments on a terminal of that size. */
static struct terminal *terminal_start(unsigned short width,
                                       unsigned short height, const char *a,
                                       const char *b, const char *c)
{
    struct terminal *t = calloc(1, sizeof(*t));
    ck_assert_ptr_nonnull(t);
    struct winsize size = {.ws_col = width, .ws_row = height};
    char program[4096];
    program_path(program);
    int other;
    ck_assert_int_eq(openpty(&t->fd, &other, NULL, NULL, &size), 0);
    ck_assert_int_eq(tcgetattr(other, &t->before), 0);
    t->pid = fork();
    ck_assert_int_ge(t->pid, 0);
    if (t->pid == 0) {
        setenv("TERM", "xterm-256color", 1);
        setenv("LC_ALL", "C.UTF-8", 1);
        if (login_tty(other) < 0)
            _exit(1);
        execl(program, "mqstat", a, b, c, (char *)NULL);
        _exit(127);
    }
    /* `other` stays open here, so that the settings can be looked at after. */
    fcntl(t->fd, F_SETFL, O_NONBLOCK);
    fcntl(other, F_SETFD, FD_CLOEXEC);
    return t;
}

static void terminal_read(struct terminal *t)
{
    ssize_t n;
    while (t->len + 1 < sizeof(t->text) &&
           (n = read(t->fd, t->text + t->len, sizeof(t->text) - 1 - t->len)) >
               0)
        t->len += (size_t)n;
    t->text[t->len] = '\0';
}

/* Whether the text came since `from`. */
static bool terminal_shows(struct terminal *t, size_t from, const char *text)
{
    return UNTIL((terminal_read(t), strstr(t->text + from, text) != NULL));
}

static void terminal_key(struct terminal *t, const char *keys)
{
    ck_assert_int_eq(write(t->fd, keys, strlen(keys)), (int)strlen(keys));
}

static int terminal_end(struct terminal *t)
{
    int status = 0;
    ck_assert_msg(
        UNTIL((terminal_read(t), waitpid(t->pid, &status, WNOHANG) == t->pid)),
        "mqstat did not end:\n%s", t->text);
    terminal_read(t);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The terminal as it was: cursor, screen, settings. */
static void assert_given_back(struct terminal *t)
{
    struct termios now;
    const char *entered = strstr(t->text, "\033[?1049h\033[?25l");
    const char *left = strstr(t->text, "\033[?25h\033[?1049l");
    ck_assert_ptr_nonnull(entered);
    ck_assert_ptr_nonnull(left);
    ck_assert(entered < left);
    ck_assert_ptr_null(strstr(left, "\033[?25l"));
    ck_assert_int_eq(tcgetattr(t->fd, &now), 0);
    ck_assert_uint_eq(now.c_lflag, t->before.c_lflag);
    close(t->fd);
    free(t);
}

/* No line of a frame is wider than the window: cursor movements apart, what
 * is between two line ends. */
static void assert_narrow(const char *text, size_t width)
{
    size_t cols = 0;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\033') {
            while (*p != '\0' && (*p < '@' || *p == '['))
                p++;
            if (*p == 'H' || *p == 'J')
                cols = 0;
            continue;
        }
        if (*p == '\r' || *p == '\n')
            cols = 0;
        else if (((unsigned char)*p & 0xc0) != 0x80)
            cols++;
        ck_assert_msg(cols <= width, "%zu columns in a window of %zu", cols,
                      width);
    }
}

START_TEST(test_live_view_redraws_and_gives_the_terminal_back)
{
    struct shown f;
    show_channel(&f, "live");
    struct terminal *t = terminal_start(80, 24, "-w", "0.1", "live");
    ck_assert(terminal_shows(t, 0, "connected"));
    ck_assert(terminal_shows(t, 0, "0/4"));
    status_count(f.status, COUNTER_taken, 4321);
    status_count(f.status, COUNTER_answered, 4321);
    ck_assert(terminal_shows(t, 0, "4.32k"));
    /* Every frame begins at the top and never scrolls. */
    ck_assert(terminal_shows(t, t->len, "\033[H"));
    status_set_state(f.status, &f.state, STATE_PAUSED);
    ck_assert(terminal_shows(t, t->len, "paused"));
    assert_narrow(t->text, 80);
    terminal_key(t, "s");
    ck_assert(terminal_shows(t, t->len, "sort: per second"));
    terminal_key(t, " ");
    ck_assert(terminal_shows(t, t->len, "PAUSED"));
    terminal_key(t, "q");
    ck_assert_int_eq(terminal_end(t), 0);
    assert_given_back(t);
    hide_channel(&f);
}
END_TEST

START_TEST(test_signals_give_the_terminal_back)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct shown f;
    show_channel(&f, "live");
    struct terminal *t = terminal_start(80, 24, "-w", "1", "live");
    ck_assert(terminal_shows(t, 0, "connected"));
    kill(t->pid, signals[_i]);
    ck_assert_int_eq(terminal_end(t), 0);
    assert_given_back(t);
    hide_channel(&f);
}
END_TEST

START_TEST(test_a_stop_gives_the_terminal_back_for_a_while)
{
    struct shown f;
    show_channel(&f, "live");
    struct terminal *t = terminal_start(80, 24, "-w", "0.2", "live");
    ck_assert(terminal_shows(t, 0, "connected"));
    kill(t->pid, SIGTSTP);
    ck_assert(UNTIL((terminal_read(t), support_proc_state(t->pid) == 'T')));
    ck_assert(terminal_shows(t, 0, "\033[?25h\033[?1049l"));
    size_t from = t->len;
    kill(t->pid, SIGCONT);
    ck_assert(terminal_shows(t, from, "\033[?1049h"));
    ck_assert(terminal_shows(t, from, "connected"));
    terminal_key(t, "q");
    ck_assert_int_eq(terminal_end(t), 0);
    close(t->fd);
    free(t);
    hide_channel(&f);
}
END_TEST

/* How many frames begin in the text, and the last one. */
static int frames(const char *text, const char **last)
{
    int n = 0;
    *last = text;
    for (const char *p = text; (p = strstr(p, "\033[H")) != NULL; p++, n++)
        *last = p;
    return n;
}

START_TEST(test_follows_the_window)
{
    struct shown f;
    show_channel(&f, "live");
    struct terminal *t = terminal_start(80, 24, "-w", "0.1", "live");
    ck_assert(terminal_shows(t, 0, "connected"));
    struct winsize small = {.ws_col = 30, .ws_row = 6};
    ck_assert_int_eq(ioctl(t->fd, TIOCSWINSZ, &small), 0);
    /* The screen is cleared once, then drawn anew. */
    ck_assert(terminal_shows(t, t->len, "\033[2J"));
    size_t from = t->len;
    ck_assert(terminal_shows(t, from, "live"));
    /* The frame that was drawn in between may be of the old width. */
    const char *last = t->text;
    ck_assert(UNTIL((terminal_read(t), frames(t->text + from, &last) >= 3)));
    assert_narrow(last, 30);
    struct winsize tiny = {.ws_col = 1, .ws_row = 1};
    ck_assert_int_eq(ioctl(t->fd, TIOCSWINSZ, &tiny), 0);
    ck_assert(terminal_shows(t, t->len, "\033[2J"));
    terminal_key(t, "q");
    ck_assert_int_eq(terminal_end(t), 0);
    assert_given_back(t);
    hide_channel(&f);
}
END_TEST

START_TEST(test_colour_only_where_wanted)
{
    struct shown f;
    show_channel(&f, "live");
    struct terminal *t = terminal_start(80, 24, "-w", "0.1", "live");
    ck_assert(terminal_shows(t, 0, "\033[32m"));
    terminal_key(t, "q");
    terminal_end(t);
    assert_given_back(t);
    setenv("NO_COLOR", "1", 1);
    t = terminal_start(80, 24, "-w", "0.1", "live");
    ck_assert(terminal_shows(t, 0, "connected"));
    terminal_key(t, "q");
    terminal_end(t);
    ck_assert_ptr_null(strstr(t->text, "\033[32m"));
    ck_assert_ptr_null(strstr(t->text, "\033[1m"));
    assert_given_back(t);
    hide_channel(&f);
}
END_TEST

START_TEST(test_several_channels)
{
    struct shown f, g;
    show_channel(&f, "first");
    show_channel(&g, "second");
    struct terminal *t = terminal_start(80, 24, "-w", "0.1", NULL);
    ck_assert(terminal_shows(t, 0, "2 channels"));
    ck_assert(terminal_shows(t, 0, "second"));
    terminal_key(t, "\t");
    ck_assert(terminal_shows(t, t->len, "request p99"));
    assert_narrow(t->text, 80);
    /* A channel that ends meanwhile is no trouble. */
    hide_channel(&f);
    ck_assert(terminal_shows(t, t->len, "second"));
    terminal_key(t, "q");
    ck_assert_int_eq(terminal_end(t), 0);
    assert_given_back(t);
    hide_channel(&g);
}
END_TEST

START_TEST(test_a_manager_that_dies_and_comes_back)
{
    struct shown f;
    show_channel(&f, "live");
    status_count(f.status, COUNTER_taken, 1000000);
    struct terminal *t = terminal_start(80, 24, "-w", "0.1", "live");
    ck_assert(terminal_shows(t, 0, "connected"));
    hide_channel(&f);
    ck_assert(terminal_shows(t, t->len, "absent"));
    show_channel(&f, "live");
    ck_assert(terminal_shows(t, t->len, "connected"));
    terminal_key(t, "q");
    ck_assert_int_eq(terminal_end(t), 0);
    assert_given_back(t);
    hide_channel(&f);
}
END_TEST

/* More nodes than a window has lines: those in trouble stay to be seen, the
 * rest is counted, and no line is too wide. */
START_TEST(test_nodes_of_a_cluster)
{
    struct shown f;
    show_channel(&f, "live");
    for (uint32_t i = 0; i < 20; i++) {
        struct status_node_face face = {
            .role = STATUS_NODE_MASTER,
            .state = i == 13 ? STATUS_NODE_WAITING : STATUS_NODE_CONNECTED,
            .slots = 819};
        snprintf(face.address, sizeof(face.address), "10.1.2.3:%u", 7000 + i);
        status_node_claim(&f.status->nodes[i], i + 1, &face);
    }
    struct terminal *t = terminal_start(80, 24, "-w", "0.1", "live");
    ck_assert(terminal_shows(t, 0, "10.1.2.3:7013"));
    ck_assert(terminal_shows(t, 0, "more nodes"));
    struct status_node *row = &f.status->nodes[13];
    status_node_sent(row, 900);
    ck_assert(terminal_shows(t, t->len, "900"));
    assert_narrow(t->text, 80);
    ck_assert_ptr_null(strstr(t->text, "10.1.2.3:7019"));
    size_t from = t->len;
    struct winsize large = {.ws_col = 200, .ws_row = 50};
    ck_assert_int_eq(ioctl(t->fd, TIOCSWINSZ, &large), 0);
    ck_assert(terminal_shows(t, from, "10.1.2.3:7019"));
    assert_narrow(t->text + from, 200);
    terminal_key(t, "q");
    ck_assert_int_eq(terminal_end(t), 0);
    assert_given_back(t);
    hide_channel(&f);
}
END_TEST

/* ---- Prometheus ---- */

/* Checks the text exposition format: every sample belongs to the family whose
 * HELP and TYPE stand right before, has the channel's label and a number. */
static void assert_exposition(const char *text)
{
    char family[128] = "", type[32] = "", line[1024];
    size_t samples = 0;
    double last_bucket = -1;
    for (const char *at = text, *end; *at != '\0'; at = end + 1) {
        end = strchr(at, '\n');
        ck_assert_ptr_nonnull(end);
        ck_assert_uint_lt((size_t)(end - at), sizeof(line));
        memcpy(line, at, (size_t)(end - at));
        line[end - at] = '\0';
        if (strncmp(line, "# HELP ", 7) == 0) {
            ck_assert_int_eq(sscanf(line, "# HELP %127s", family), 1);
            last_bucket = -1;
            continue;
        }
        if (strncmp(line, "# TYPE ", 7) == 0) {
            char again[128];
            ck_assert_int_eq(sscanf(line, "# TYPE %127s %31s", again, type), 2);
            ck_assert_str_eq(again, family);
            continue;
        }
        size_t n = strlen(family);
        ck_assert_msg(strncmp(line, family, n) == 0, "'%s' is not of %s", line,
                      family);
        const char *rest = line + n;
        if (strcmp(type, "histogram") == 0) {
            bool bucket = strncmp(rest, "_bucket{", 8) == 0;
            ck_assert_msg(bucket || strncmp(rest, "_sum{", 5) == 0 ||
                              strncmp(rest, "_count{", 7) == 0,
                          "%s", line);
            double value = strtod(strrchr(line, ' '), NULL);
            if (bucket)
                ck_assert_msg(value >= last_bucket, "%s", line);
            if (bucket || strncmp(rest, "_count{", 7) == 0) {
                ck_assert_msg(value >= last_bucket, "%s", line);
                /* The count is a series' last line. */
                last_bucket = bucket ? value : -1;
            }
        } else {
            ck_assert_msg(*rest == '{', "%s", line);
        }
        ck_assert_ptr_nonnull(strstr(line, "channel=\""));
        char *number = strrchr(line, ' '), *stop;
        ck_assert_ptr_nonnull(number);
        strtod(number + 1, &stop);
        ck_assert_msg(stop != number + 1 && *stop == '\0', "%s", line);
        samples++;
    }
    ck_assert_uint_gt(samples, 60);
}

static void run_to(char *out, size_t size, const char *args)
{
    char program[4096], command[5000];
    program_path(program);
    snprintf(command, sizeof(command), "timeout 60 '%s' %s 2>&1", program,
             args);
    FILE *p = popen(command, "re");
    ck_assert_ptr_nonnull(p);
    size_t n = fread(out, 1, size - 1, p);
    out[n] = '\0';
    ck_assert_msg(pclose(p) == 0, "%s", out);
}

static char page[1 << 18];

START_TEST(test_prometheus_format)
{
    struct shown f, g;
    show_channel(&f, "one");
    show_channel(&g, "two");
    for (uint64_t i = 1; i <= 1000; i++)
        histogram_add(&f.status->times[TIME_round_trip], i * 10000);
    status_count(f.status, COUNTER_taken, 12345678901ULL);
    run_to(page, sizeof(page), "--prometheus");
    assert_exposition(page);
    static const char *const lines[] = {
        "mqredis_up{channel=\"one\"} 1\n",
        "mqredis_taken_total{channel=\"one\"} 12345678901\n",
        "mqredis_state{channel=\"two\",state=\"connected\"} 1\n",
        "mqredis_queue_capacity_messages{channel=\"two\"} 4\n",
        "mqredis_round_trip_seconds_count{channel=\"one\"} 1000\n",
        "mqredis_round_trip_seconds_bucket{channel=\"one\",le=\"+Inf\"} 1000\n",
        "mqredis_round_trip_seconds_bucket{channel=\"one\",le=\"0.1\"} 1000\n",
        "mqredis_round_trip_seconds_sum{channel=\"one\"} 5.005000000\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        ck_assert_msg(strstr(page, lines[i]) != NULL, "no %s in\n%s", lines[i],
                      page);
    hide_channel(&f);
    hide_channel(&g);
}
END_TEST

/* Connects to 127.0.0.1:port. */
static int dial(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

/* Sends a request and reads the whole answer into `page`. */
static void fetch(int port, const char *request)
{
    int fd = dial(port);
    ck_assert_int_eq(write(fd, request, strlen(request)), (int)strlen(request));
    size_t have = 0;
    ssize_t n;
    while ((n = read(fd, page + have, sizeof(page) - 1 - have)) > 0)
        have += (size_t)n;
    page[have] = '\0';
    close(fd);
}

START_TEST(test_listens_on_loopback)
{
    struct shown f;
    int out[2];
    char program[4096], line[128];
    program_path(program);
    show_channel(&f, "one");
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        execl(program, "mqstat", "--listen", "127.0.0.1:0", (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    FILE *said = fdopen(out[0], "r");
    ck_assert_ptr_nonnull(fgets(line, sizeof(line), said));
    int port = 0;
    ck_assert_msg(sscanf(line, "serving http://127.0.0.1:%d/metrics", &port) ==
                      1,
                  "%s", line);
    /* Who connects and says nothing holds up nobody. */
    int idle[20];
    for (size_t i = 0; i < 10; i++)
        idle[i] = dial(port);
    fetch(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    ck_assert_int_eq(strncmp(page, "HTTP/1.1 200 OK\r\n", 17), 0);
    char *body = strstr(page, "\r\n\r\n");
    ck_assert_ptr_nonnull(body);
    assert_exposition(body + 4);
    fetch(port, "GET /secrets HTTP/1.1\r\n\r\n");
    ck_assert_int_eq(strncmp(page, "HTTP/1.1 404 ", 13), 0);
    fetch(port, "POST /metrics HTTP/1.1\r\n\r\n");
    ck_assert_int_eq(strncmp(page, "HTTP/1.1 405 ", 13), 0);
    for (size_t i = 0; i < 10; i++)
        close(idle[i]);
    kill(pid, SIGTERM);
    int status;
    ck_assert(UNTIL(waitpid(pid, &status, WNOHANG) == pid));
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    fclose(said);
    hide_channel(&f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mqstat_live");
    TCase *t = tcase_create("live");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, support_scratch_setup,
                              support_scratch_teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_live_view_redraws_and_gives_the_terminal_back);
    tcase_add_loop_test(t, test_signals_give_the_terminal_back, 0, 3);
    tcase_add_test(t, test_a_stop_gives_the_terminal_back_for_a_while);
    tcase_add_test(t, test_follows_the_window);
    tcase_add_test(t, test_colour_only_where_wanted);
    tcase_add_test(t, test_several_channels);
    tcase_add_test(t, test_a_manager_that_dies_and_comes_back);
    tcase_add_test(t, test_nodes_of_a_cluster);
    tcase_add_test(t, test_prometheus_format);
    tcase_add_test(t, test_listens_on_loopback);
    return support_run(s);
}
