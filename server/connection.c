/* Commands about the connection itself. */
#include <assert.h>
#include <string.h>

#include "server/clients.h"
#include "server/command.h"
#include "server/commands.h"
#include "server/number.h"
#include "server/pubsub.h"
#include "server/reply.h"
#include "server/transactions.h"

void ping_command(struct server *s, struct client *c)
{
    if (c->argc > 2) {
        reply_arity_error(s, c);
        return;
    }
    /* A RESP2 subscriber cannot tell a status from a message. */
    if (client_subscribed(c) && c->resp == 2) {
        reply_array(s, c, 2);
        reply_text(s, c, "pong");
        if (c->argc == 1)
            reply_text(s, c, "");
    } else if (c->argc == 1) {
        reply_status(s, c, "PONG");
    }
    if (c->argc == 2)
        reply_arg(s, c, &c->argv[1]);
}

void echo_command(struct server *s, struct client *c)
{
    reply_arg(s, c, &c->argv[1]);
}

void select_command(struct server *s, struct client *c)
{
    int64_t n;
    if (!reply_need_number(s, c, &c->argv[1], &n))
        return;
    if (n < INT32_MIN || n > INT32_MAX) {
        reply_error(s, c, "value is out of range, value must between %d and %d",
                    INT32_MIN, INT32_MAX);
        return;
    }
    if (n < 0 || n >= OPTIONS_DATABASES) {
        reply_error(s, c, "DB index is out of range");
        return;
    }
    c->db = &s->dbs[n];
    reply_ok(s, c);
}

void quit_command(struct server *s, struct client *c)
{
    reply_ok(s, c);
    c->flags |= CLIENT_CLOSE_AFTER_REPLY;
}

void reset_command(struct server *s, struct client *c)
{
    transaction_discard(s, c);
    transaction_unwatch(s, c);
    pubsub_forget(s, c);
    c->flags &= ~(uint32_t)(CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP_NEXT |
                            CLIENT_AUTHENTICATED);
    if (s->options.password_len == 0)
        c->flags |= CLIENT_AUTHENTICATED;
    c->resp = 2;
    c->db = &s->dbs[0];
    mem_free(&s->mem, c->name);
    c->name = NULL;
    reply_status(s, c, "RESET");
}

/* ---- who it is ---- */

/* Takes as long for a wrong password as for the right one. */
static bool password_right(const struct server *s, const struct arg *password)
{
    const struct options *o = &s->options;
    assert(password != NULL); /* who runs has its arguments */
    unsigned char differs = password->len != o->password_len;
    for (size_t i = 0; i < o->password_len; i++) {
        char given = i < password->len ? password->data[i] : '\0';
        differs |= (unsigned char)(given ^ o->password[i]);
    }
    return differs == 0;
}

/* There is one user, "default". False: the error is replied. */
static bool authenticate(struct server *s, struct client *c,
                         const struct arg *user, const struct arg *password)
{
    bool known =
        user == NULL ||
        (user->len == 7 && memcmp(user->data, "default", user->len) == 0);
    if (known &&
        (s->options.password_len == 0 || password_right(s, password))) {
        c->flags |= CLIENT_AUTHENTICATED;
        return true;
    }
    reply_error(s, c,
                "-WRONGPASS invalid username-password pair or user is "
                "disabled.");
    return false;
}

void auth_command(struct server *s, struct client *c)
{
    if (c->argc > 3) {
        reply_syntax_error(s, c);
        return;
    }
    if (c->argc == 2 && s->options.password_len == 0) {
        reply_error(s, c,
                    "AUTH <password> called without any password configured "
                    "for the default user. Are you sure your configuration is "
                    "correct?");
        return;
    }
    const struct arg *user = c->argc == 3 ? &c->argv[1] : NULL;
    if (authenticate(s, c, user, &c->argv[c->argc - 1]))
        reply_ok(s, c);
}

/* The options of HELLO. False: the error is replied. */
static bool read_hello(struct server *s, struct client *c)
{
    for (size_t i = 2; i < c->argc; i++) {
        size_t more = c->argc - 1 - i;
        const struct arg *option = &c->argv[i];
        if (arg_is(option, "AUTH") && more >= 2) {
            if (!authenticate(s, c, option + 1, option + 2))
                return false;
            i += 2;
        } else if (arg_is(option, "SETNAME") && more >= 1) {
            if (!clients_set_name(s, c, option + 1))
                return false;
            i++;
        } else {
            reply_error(s, c, "Syntax error in HELLO option '%.*s'",
                        (int)strnlen(option->data,
                                     option->len < 512 ? option->len : 512),
                        option->data);
            return false;
        }
    }
    return true;
}

void hello_command(struct server *s, struct client *c)
{
    int64_t version = c->resp;
    if (c->argc >= 2) {
        if (!number_parse(c->argv[1].data, c->argv[1].len, &version)) {
            reply_error(s, c,
                        "Protocol version is not an integer or out of range");
            return;
        }
        if (version < 2 || version > 3) {
            reply_error(s, c, "-NOPROTO unsupported protocol version");
            return;
        }
    }
    if (!read_hello(s, c))
        return;
    if ((c->flags & CLIENT_AUTHENTICATED) == 0) {
        reply_error(s, c,
                    "-NOAUTH HELLO must be called with the client already "
                    "authenticated, otherwise the HELLO AUTH <user> <pass> "
                    "option can be used to authenticate the client and select "
                    "the RESP protocol version at the same time");
        return;
    }
    c->resp = (int)version;
    reply_map(s, c, 7);
    reply_text(s, c, "server");
    reply_text(s, c, "redis");
    reply_text(s, c, "version");
    reply_text(s, c, SERVER_REDIS_VERSION);
    reply_text(s, c, "proto");
    reply_number(s, c, c->resp);
    reply_text(s, c, "id");
    reply_number(s, c, (int64_t)c->id);
    reply_text(s, c, "mode");
    reply_text(s, c, "standalone");
    reply_text(s, c, "role");
    reply_text(s, c, "master");
    reply_text(s, c, "modules");
    reply_array(s, c, 0);
}
