/* What the parts of mqstat share: the options, and a function for each mode,
 * which writes to standard output and returns the exit code. */
#ifndef MQSTAT_H
#define MQSTAT_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/mqstat/sample.h"
#include "tools/mqstat/text.h"

enum exit_code {
    EXIT_FINE = 0,
    EXIT_DEGRADED = 1, /* --check; a finding of --doctor; a refused order */
    EXIT_DOWN = 2,     /* --check */
    EXIT_USAGE = 64,
    EXIT_ABSENT = 69, /* no such channel, or no manager */
    EXIT_SOFTWARE = 70,
    EXIT_SYSTEM = 71,
    EXIT_LATE = 75 /* --timeout passed */
};

enum mode {
    MODE_SHOW,
    MODE_QUEUES,
    MODE_DOCTOR,
    MODE_WAIT,
    MODE_CHECK,
    MODE_CONTROL
};

struct options {
    enum mode mode;
    struct channel_names names; /* empty: all, or the default one */
    bool live;
    double interval_s;
    long count; /* samples; 0: without end */
    bool json, prometheus;
    const char *listen; /* "ADDR:PORT", or NULL */
    bool fix;
    const char *wait_state;
    double timeout_s; /* negative: none */
    const char *verb; /* MODE_CONTROL */
    long client_pid;  /* of kill-client */
    struct look look; /* of standard output */
};

int run_show(const struct options *o);
int run_queues(const struct options *o);
int run_live(const struct options *o);
int run_piped(const struct options *o); /* -w to a pipe, --json -w */
int run_doctor(const struct options *o);
int run_wait(const struct options *o);
int run_check(const struct options *o);
int run_control(const struct options *o);
int run_listen(const struct options *o);

/* Prints the finished text. EXIT_FINE, or the exit code for what went wrong. */
int finish(struct text *out);

/* One line on standard error, "mqstat: ..."; returns `code`. */
int fail(int code, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Sleeps; returns early (false) on a signal that asks to end. */
bool sleep_s(double s);

/* What a shell says of a program that this signal ended: 128 and its number. */
int ended_by_signal(void);

/* ---- pieces that several modes use ---- */

/* The channel that is meant where only one can be: the first that is named,
 * else $MQREDIS_CHANNEL, else the default one. */
const char *first_name(const struct options *o);

/* The channels that the options name, or all there are. */
MUST_CHECK enum err wanted_channels(const struct options *o,
                                    struct channel_names *names);

/* What /proc told last; reading it costs more than all else, so it may serve
 * for several samples. Zeroed before use. */
struct scanner {
    struct proc_scan scan;
    uint64_t taken_ns; /* 0: not yet */
    uint64_t cost_ns;  /* of the processor's time, the last reading */
};
/* Reads /proc anew if what is there is older; `max_age_ns` of 0 asks for it in
 * any case. Else no more than one part in 200 of a processor's time goes into
 * it, so that a look every tenth of a second, at a host of thousands of
 * processes, takes nothing from those it looks at. */
MUST_CHECK enum err scanner_refresh(struct scanner *sc, uint64_t max_age_ns);
void scanner_free(struct scanner *sc);

/* Samples of several channels at one moment. */
struct sample_set {
    struct sample **items; /* owned, count of them */
    size_t count;
    const struct proc_scan *scan; /* borrowed */
};
MUST_CHECK enum err sample_set_take(struct sample_set *set,
                                    const struct channel_names *names,
                                    const struct proc_scan *scan);
void sample_set_free(struct sample_set *set);

/* The sample of the same folder in an earlier set, or NULL. */
const struct sample *sample_set_find(const struct sample_set *set,
                                     const struct sample *s);

/* The least age of what is looked up in /proc for a view that goes on. */
#define SCAN_EVERY_NS 950000000ULL

/* A quantile of what came between two samples, in ns; of the whole life where
 * they can't be compared (sample_quantile), or 0 there (quantile_since). */
double sample_quantile(const struct sample *old, const struct sample *s,
                       enum status_time t, double q);
double quantile_since(const struct sample *old, const struct sample *s,
                      enum status_time t, double q);

/* The time of day, "15:04:05". */
void clock_time(char out[16]);

/* The table of channels, a line each. Times are those between `old` and `set`,
 * or of the manager's whole life where `old` is NULL or `whole`. */
void show_table(struct text *out, const struct sample_set *old,
                const struct sample_set *set, bool whole,
                const struct look *look);

/* Everything about one, in sections. */
void show_channel(struct text *out, const struct sample *old,
                  const struct sample *s, const struct proc_scan *scan,
                  const struct look *look);

/* The client table of a sample. */
struct client_entry {
    struct client_row row;
    char comm[PROC_COMM_MAX]; /* of the pid that it claims; "?" if gone */
    char command[64];         /* escaped */
    double rate;              /* commands per second since `old` */
};
enum client_sort { SORT_SENT, SORT_RATE, SORT_WAITING, SORT_PID, SORT_COUNT };

/* Fills entries[STATUS_CLIENTS], sorted; returns how many. */
size_t clients_of(const struct sample *old, const struct sample *s,
                  enum client_sort sort, struct client_entry *entries);

/* A node of a cluster. */
struct node_entry {
    struct node_row row;
    char address[4 * STATUS_NODE_TEXT]; /* escaped, as is the error */
    char error[4 * STATUS_NODE_TEXT];
    double rate;                        /* commands per second since `old` */
    uint64_t since[NODE_TIMES_BUCKETS]; /* times since `old` */
    uint64_t redirected;                /* all kinds together */
    bool down;                          /* of use, and not connected */
};

/* Fills entries[STATUS_NODES], those in trouble first; returns how many. */
size_t nodes_of(const struct sample *old, const struct sample *s,
                struct node_entry *entries);

/* A line for each; `live`: with the times since `old`. */
void nodes_table(struct text *out, const struct node_entry *entries, size_t n,
                 const struct sample *s, bool live, const struct look *look);

/* The section about them; nothing if there are none. */
void show_nodes(struct text *out, const struct sample *old,
                const struct sample *s, const struct look *look);

void json_channels(struct text *out, const struct sample_set *old,
                   const struct sample_set *set, bool one_line);
void json_queues(struct text *out, const struct proc_scan *scan);
struct findings;
void json_findings(struct text *out, const struct findings *f);
void prometheus_channels(struct text *out, const struct sample_set *set);

#endif
