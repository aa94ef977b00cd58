/* Connection options. */
#include "manager/target.h"

#include <stdio.h>

#include "manager/tls.h"

static enum err make_tls(const struct options *o, bool wanted,
                         struct tls_context **tls, struct err_text *why)
{
    *tls = NULL;
    if (!wanted) {
        bool used = o->uri.tls || options_sentinel_tls(o);
        if (!used &&
            (o->tls_ca || o->tls_cert || o->tls_key || o->tls_server_name))
            return err_say(why, ERR_INVALID,
                           "--tls-... is given, but the URI is not %s://",
                           o->uri.sentinel_count > 0 ? "sentinels" : "rediss");
        return ERR_OK;
    }
    struct tls_options options = {
        .ca_file = o->tls_ca,
        .cert_file = o->tls_cert,
        .key_file = o->tls_key,
        .server_name = o->tls_server_name,
    };
    return tls_context_new(tls, &options, why);
}

enum err target_init(struct conn_options *target, const struct options *o,
                     struct err_text *why)
{
    *target = (struct conn_options){
        .uri = o->uri,
        .resp = o->resp,
        .connect_timeout_ms = o->connect_timeout_ms,
        .reconnect_max_ms = o->reconnect_max_ms,
        .silence_ms = o->silence_timeout_ms,
        .stall_ms = o->stall_timeout_ms,
        .keep_unsent = !o->when_down_fail,
        .only_master = o->uri.sentinel_count > 0,
    };
    /* What is connected to is a server that has yet to be named. */
    target->uri.sentinel_count = 0;
    snprintf(target->client_name, sizeof(target->client_name), "%s",
             o->client_name);
    return make_tls(o, o->uri.tls, &target->tls, why);
}

/* A sentinel that stands still is to hold up the way to the next one as
 * little as one that is gone. */
#define SENTINEL_CONNECT_MS 2000
#define SENTINEL_SILENCE_MS 2000

static uint32_t at_most(uint32_t ms, uint32_t most)
{
    return ms < most ? ms : most;
}

enum err target_sentinels(struct conn_options *target, const struct options *o,
                          struct err_text *why)
{
    *target = (struct conn_options){
        .uri.tls = options_sentinel_tls(o),
        .resp = 2,
        .connect_timeout_ms =
            at_most(o->connect_timeout_ms, SENTINEL_CONNECT_MS),
        .reconnect_max_ms = o->reconnect_max_ms,
        .silence_ms = at_most(o->silence_timeout_ms, SENTINEL_SILENCE_MS),
        .stall_ms = o->stall_timeout_ms,
    };
    snprintf(target->client_name, sizeof(target->client_name), "%s",
             o->client_name);
    enum err e = options_sentinel_login(o, &target->uri, why);
    return e == ERR_OK ? make_tls(o, target->uri.tls, &target->tls, why) : e;
}

void target_release(struct conn_options *target)
{
    tls_context_free(target->tls);
    target->tls = NULL;
}

const char *target_mismatch(const struct options *o, enum conn_mode mode,
                            bool *serves)
{
    *serves = mode != CONN_MODE_SENTINEL;
    if (mode == CONN_MODE_SENTINEL)
        return "it is a sentinel, which holds no data: name it as "
               "sentinel://host:port/MASTER";
    if (mode == CONN_MODE_CLUSTER && o->cluster == CLUSTER_NO)
        return "it is a node of a cluster, and what belongs to other nodes "
               "is answered with MOVED: use cluster://, or --cluster yes";
    if (mode == CONN_MODE_STANDALONE && o->cluster == CLUSTER_YES) {
        *serves = false;
        return "it is no cluster (cluster-enabled no): without cluster:// it "
               "can be used";
    }
    return NULL;
}

enum err target_reload(struct conn_options *target, const struct options *o,
                       struct err_text *why)
{
    struct tls_context *tls;
    enum err e = make_tls(o, o->uri.tls, &tls, why);
    if (e != ERR_OK)
        return e;
    e = options_reload(o, &target->uri, why);
    if (e != ERR_OK) {
        tls_context_free(tls);
        return e;
    }
    /* Sessions hold a reference of their own to what they need of it. */
    tls_context_free(target->tls);
    target->tls = tls;
    return ERR_OK;
}
