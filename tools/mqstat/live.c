/*
 * The live view: its loop, its keys and its terminal, which is given back as it
 * was on every way out, a stop (^Z) included.
 */
#include "tools/mqstat/live.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"

struct history *history_of(struct live *l, const struct sample *s)
{
    for (size_t i = 0; i < l->nhistories; i++)
        if (strcmp(l->histories[i]->dir, s->dir) == 0)
            return l->histories[i];
    if (l->nhistories == HISTORIES_MAX)
        return NULL;
    struct history *h = calloc(1, sizeof(*h));
    if (h == NULL)
        return NULL;
    memcpy(h->dir, s->dir, sizeof(h->dir));
    l->histories[l->nhistories++] = h;
    return h;
}

static void remember(struct live *l)
{
    for (size_t i = 0; i < l->set.count; i++) {
        const struct sample *s = l->set.items[i];
        const struct sample *old = sample_set_find(&l->old, s);
        struct history *h = history_of(l, s);
        if (h == NULL || old == NULL)
            continue;
        h->values[SERIES_RATE][h->next] = sample_rate(old, s, COUNTER_taken);
        h->values[SERIES_WAIT][h->next] =
            quantile_since(old, s, TIME_queue_wait, 0.99);
        h->values[SERIES_TOTAL][h->next] =
            quantile_since(old, s, TIME_round_trip, 0.99);
        h->next = (h->next + 1) % HISTORY;
        if (h->count < HISTORY)
            h->count++;
    }
}

/* ---- the terminal ---- */

static volatile sig_atomic_t resized, suspended;

static void on_resize(int signo)
{
    (void)signo;
    resized = 1;
}

static void on_suspend(int signo)
{
    (void)signo;
    suspended = 1;
}

static void say(const char *sequence)
{
    struct text t = {0};
    text_add(&t, "%s", sequence);
    finish(&t);
}

static void enter_screen(struct live *l)
{
    if (l->tty >= 0) {
        struct termios raw = l->saved;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VMIN] = 0;
        raw.c_cc[VTIME] = 0;
        tcsetattr(l->tty, TCSADRAIN, &raw);
    }
    say("\033[?1049h\033[?25l\033[2J");
}

static void leave_screen(struct live *l)
{
    say("\033[0m\033[?25h\033[?1049l");
    if (l->tty >= 0)
        tcsetattr(l->tty, TCSADRAIN, &l->saved);
}

static void measure(struct live *l)
{
    look_init(&l->look, STDOUT_FILENO);
    if (l->look.height < 3)
        l->look.height = 3;
}

/* Stops for the shell's job control with the terminal in order. */
static void suspend(struct live *l)
{
    suspended = 0;
    leave_screen(l);
    raise(SIGSTOP);
    enter_screen(l);
    measure(l);
}

/* False: quit. */
static bool press(struct live *l, char key)
{
    switch (key) {
    case 'q':
    case 'Q':
    case 3: /* ^C, where the terminal does not turn it into a signal */
        return false;
    case ' ':
    case 'p':
        l->paused = !l->paused;
        break;
    case 's':
        l->sort = (enum client_sort)((l->sort + 1) % SORT_COUNT);
        break;
    case '\t':
    case 'n':
        if (!l->one && l->set.count > 0)
            l->shown = (l->shown + 1) % (l->set.count + 1);
        break;
    default:
        break;
    }
    return true;
}

enum event { EVENT_QUIT, EVENT_KEY, EVENT_TIME };

static enum event wait_event(struct live *l, uint64_t deadline)
{
    for (;;) {
        if (!sleep_s(0))
            return EVENT_QUIT;
        if (suspended || resized) {
            if (suspended)
                suspend(l);
            resized = 0;
            measure(l);
            say("\033[2J");
            return EVENT_KEY;
        }
        uint64_t now = clock_ns();
        if (now >= deadline)
            return EVENT_TIME;
        struct pollfd p = {.fd = l->tty, .events = POLLIN};
        if (poll(&p, 1, clock_poll_ms(deadline, 1000)) <= 0)
            continue;
        char keys[16];
        ssize_t n = read(l->tty, keys, sizeof(keys));
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return EVENT_QUIT; /* the terminal is gone */
        for (ssize_t i = 0; i < n; i++) {
            if (keys[i] == '\033')
                break; /* an arrow or a function key: none of ours */
            if (!press(l, keys[i]))
                return EVENT_QUIT;
        }
        if (n > 0)
            return EVENT_KEY;
    }
}

static enum err look_again(struct live *l)
{
    struct channel_names names = {0};
    struct sample_set set = {0};
    enum err e = wanted_channels(l->o, &names);
    if (e == ERR_OK)
        e = scanner_refresh(&l->scanner, SCAN_EVERY_NS);
    if (e == ERR_OK)
        e = sample_set_take(&set, &names, &l->scanner.scan);
    channel_names_free(&names);
    if (e != ERR_OK)
        return e;
    sample_set_free(&l->old);
    l->old = l->set;
    l->set = set;
    remember(l);
    return ERR_OK;
}

/* ERR_OK with *code, or what went wrong. */
static enum err live_loop(struct live *l, int *exit_code)
{
    uint64_t step = (uint64_t)(l->o->interval_s * 1e9), next = clock_ns();
    enum event event = EVENT_TIME;
    enum err e = ERR_OK;
    int code = EXIT_FINE;
    for (long n = 0; e == ERR_OK && code == EXIT_FINE;) {
        if (event == EVENT_QUIT ||
            (event == EVENT_TIME && l->o->count > 0 && n++ == l->o->count))
            break;
        if (event == EVENT_TIME) {
            if (!l->paused)
                e = look_again(l);
            next += step;
            if (next < clock_ns())
                next = clock_ns() + step; /* we slept, or were stopped */
        }
        if (e == ERR_OK)
            code = live_draw(l);
        if (code == EXIT_FINE)
            event = wait_event(l, next);
    }
    *exit_code = code;
    return e;
}

int run_live(const struct options *o)
{
    struct live l = {.o = o, .tty = -1, .one = o->names.count == 1};
    struct sigaction resize = {.sa_handler = on_resize};
    struct sigaction stop = {.sa_handler = on_suspend};
    int opened = -1;
    if (isatty(STDIN_FILENO) == 1)
        l.tty = STDIN_FILENO;
    else
        l.tty = opened = open("/dev/tty", O_RDWR | O_CLOEXEC);
    if (l.tty >= 0 && tcgetattr(l.tty, &l.saved) < 0)
        l.tty = -1;
    sigaction(SIGWINCH, &resize, NULL);
    sigaction(SIGTSTP, &stop, NULL);
    measure(&l);
    enter_screen(&l);
    int code;
    enum err e = live_loop(&l, &code);
    leave_screen(&l);
    if (e != ERR_OK)
        code = fail(EXIT_SYSTEM, "cannot look at the channels: %s", err_str(e));
    if (opened >= 0)
        close(opened);
    for (size_t i = 0; i < l.nhistories; i++)
        free(l.histories[i]);
    sample_set_free(&l.old);
    sample_set_free(&l.set);
    scanner_free(&l.scanner);
    return code;
}
