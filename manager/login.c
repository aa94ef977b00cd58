/*
 * Logging in: HELLO with AUTH and SETNAME, then SELECT; where the server has no
 * HELLO (before Redis 6), AUTH, SELECT and CLIENT SETNAME; then a PING, for a
 * server may let us in before it serves; and where only a master will do, ROLE.
 * One command at a time: it happens once a connection.
 */
#include <stdio.h>
#include <string.h>

#include "ipc/resp.h"
#include "manager/conn.h"
#include "manager/sentinel_reply.h"

enum login_step {
    LOGIN_HELLO,
    LOGIN_AUTH,
    LOGIN_SETNAME,
    LOGIN_SELECT,
    LOGIN_PING, /* does it serve already? */
    LOGIN_ROLE, /* is it a master? */
    LOGIN_DONE
};

#define LOGIN_ARGS 8

static struct resp_arg arg(const char *text)
{
    return (struct resp_arg){.data = text, .len = strlen(text)};
}

static enum err put(struct conn *c, size_t argc, const struct resp_arg *argv)
{
    size_t size = resp_command_size(argc, argv);
    enum err e = buffer_reserve(&c->login, size);
    if (e == ERR_OK)
        buffer_filled(&c->login,
                      resp_put_command(buffer_tail(&c->login), argc, argv));
    return e;
}

static enum err put_hello(struct conn *c)
{
    const struct uri *u = &c->options->uri;
    struct resp_arg a[LOGIN_ARGS];
    size_t n = 0;
    a[n++] = arg("HELLO");
    a[n++] = arg(c->options->resp == 3 ? "3" : "2");
    if (u->password[0] != '\0') {
        a[n++] = arg("AUTH");
        a[n++] = arg(u->user[0] ? u->user : "default");
        a[n++] = arg(u->password);
    }
    a[n++] = arg("SETNAME");
    a[n++] = arg(c->options->client_name);
    return put(c, n, a);
}

static enum err put_auth(struct conn *c)
{
    const struct uri *u = &c->options->uri;
    struct resp_arg a[3] = {arg("AUTH")};
    size_t n = 1;
    if (u->user[0] != '\0')
        a[n++] = arg(u->user);
    a[n++] = arg(u->password);
    return put(c, n, a);
}

/* Writes the command of the first step, from `step` on, that is needed. */
static enum err go_to(struct conn *c, enum login_step step)
{
    const struct uri *u = &c->options->uri;
    if (step == LOGIN_AUTH && u->password[0] == '\0')
        step = LOGIN_SETNAME;
    if (step == LOGIN_SELECT && u->db == 0)
        step = LOGIN_PING;
    if (step == LOGIN_ROLE && !c->options->only_master)
        step = LOGIN_DONE;
    c->login_step = (uint8_t)step;
    switch (step) {
    case LOGIN_HELLO:
        return put_hello(c);
    case LOGIN_AUTH:
        return put_auth(c);
    case LOGIN_SETNAME: {
        struct resp_arg a[3] = {arg("CLIENT"), arg("SETNAME"),
                                arg(c->options->client_name)};
        return put(c, 3, a);
    }
    case LOGIN_SELECT: {
        char db[16];
        snprintf(db, sizeof(db), "%u", u->db);
        struct resp_arg a[2] = {arg("SELECT"), arg(db)};
        return put(c, 2, a);
    }
    case LOGIN_PING: {
        struct resp_arg a[1] = {arg("PING")};
        return put(c, 1, a);
    }
    case LOGIN_ROLE: {
        struct resp_arg a[1] = {arg("ROLE")};
        return put(c, 1, a);
    }
    case LOGIN_DONE:
        return ERR_CLOSED;
    }
    return ERR_CLOSED;
}

enum err login_begin(struct conn *c)
{
    c->mode = CONN_MODE_UNKNOWN;
    buffer_clear(&c->login);
    return go_to(c, c->login_legacy ? LOGIN_AUTH : LOGIN_HELLO);
}

/* The text of an error reply, as far as it may be shown on one line. */
static void error_text(const char *data, size_t len, char *text, size_t size)
{
    size_t n = 0;
    for (size_t i = 1; i < len && n + 1 < size; i++) {
        if (data[i] == '\r')
            break;
        text[n++] = data[i] >= ' ' && data[i] < 127 ? data[i] : '?';
    }
    text[n] = '\0';
}

/* Keys and values of HELLO's reply come by turns, as a list or a map; both
 * write "mode" and what follows it alike. */
static enum conn_mode mode_told(const char *data, size_t len)
{
    static const struct {
        const char *told;
        enum conn_mode mode;
    } modes[] = {
        {"$4\r\nmode\r\n$10\r\nstandalone\r\n", CONN_MODE_STANDALONE},
        {"$4\r\nmode\r\n$7\r\ncluster\r\n", CONN_MODE_CLUSTER},
        {"$4\r\nmode\r\n$8\r\nsentinel\r\n", CONN_MODE_SENTINEL},
    };
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (memmem(data, len, modes[i].told, strlen(modes[i].told)) != NULL)
            return modes[i].mode;
    return CONN_MODE_UNKNOWN;
}

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* A user may lack the right to ask: then a server that is no master shows by
 * what it refuses. */
static enum err check_role(struct conn *c, const char *data, size_t len,
                           struct err_text *why)
{
    char role[16];
    enum err e = sentinel_read_role(data, len, role, sizeof(role));
    if (e == ERR_OK && strcmp(role, "master") != 0)
        return err_say(why, ERR_AGAIN, "it is no master, its role is '%s'",
                       role);
    if (e == ERR_PROTO)
        return err_say(why, ERR_PROTO, "its answer to ROLE is not a role");
    return go_to(c, LOGIN_DONE);
}

enum err login_reply(struct conn *c, const char *data, size_t len,
                     struct err_text *why)
{
    enum login_step step = (enum login_step)c->login_step;
    if (step == LOGIN_ROLE)
        return check_role(c, data, len, why);
    if (step == LOGIN_HELLO)
        c->mode = mode_told(data, len);
    if (data[0] != '-')
        return go_to(c, step == LOGIN_HELLO ? LOGIN_SELECT
                                            : (enum login_step)(step + 1));
    char text[256];
    error_text(data, len, text, sizeof(text));
    /* NOPROTO, or a server that does not know HELLO or its options: RESP2 it
     * is, the old way; a wish for RESP3 can't be granted then. */
    if (step == LOGIN_HELLO &&
        (begins(text, "ERR unknown command") || begins(text, "NOPROTO") ||
         begins(text, "ERR Syntax error"))) {
        if (c->options->resp == 3)
            return err_say(why, ERR_DENIED,
                           "the server has no RESP3: use --resp 2 (it said: "
                           "%s)",
                           text);
        c->login_legacy = true;
        return go_to(c, LOGIN_AUTH);
    }
    /* The name is for CLIENT LIST; a user may lack the right to set it. */
    if (step == LOGIN_SETNAME)
        return go_to(c, LOGIN_SELECT);
    /* A server that reads its data, or waits for its master, lets us in and
     * refuses every command: that is being down. Whatever else it says of PING
     * (a user may lack the right) is an answer. */
    if (step == LOGIN_PING) {
        if (begins(text, "LOADING") || begins(text, "MASTERDOWN"))
            return err_say(why, ERR_AGAIN, "it does not serve yet: %s", text);
        return go_to(c, LOGIN_ROLE);
    }
    static const char *const doing[] = {
        "HELLO", "AUTH", "CLIENT SETNAME", "SELECT", "", "", ""};
    return err_say(why, ERR_DENIED, "the server refuses %s: %s", doing[step],
                   text);
}
