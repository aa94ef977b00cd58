/* Connection URIs: what is read, what is refused, what is shown. */
#include "manager/uri.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support_run.h"

struct good_case {
    const char *text;
    bool tls, is_unix;
    const char *host;
    unsigned port;
    unsigned db;
    const char *user, *password;
    const char *shown;
};

static const struct good_case good[] = {
    {"redis://localhost", false, false, "localhost", 6379, 0, "", "",
     "redis://localhost:6379/0"},
    {"redis://localhost/", false, false, "localhost", 6379, 0, "", "",
     "redis://localhost:6379/0"},
    {"REDIS://Example.ORG:1/15", false, false, "Example.ORG", 1, 15, "", "",
     "redis://Example.ORG:1/15"},
    {"rediss://10.0.0.1:65535/2147483647", true, false, "10.0.0.1", 65535,
     2147483647, "", "", "rediss://10.0.0.1:65535/2147483647"},
    {"valkey://h", false, false, "h", 6379, 0, "", "", "redis://h:6379/0"},
    {"valkeys://h:7000", true, false, "h", 7000, 0, "", "",
     "rediss://h:7000/0"},
    {"redis://user:secret@h:7/3", false, false, "h", 7, 3, "user", "secret",
     "redis://user@h:7/3"},
    {"redis://:secret@h", false, false, "h", 6379, 0, "", "secret",
     "redis://h:6379/0"},
    {"redis://user@h", false, false, "h", 6379, 0, "user", "",
     "redis://user@h:6379/0"},
    {"redis://user:@h", false, false, "h", 6379, 0, "user", "",
     "redis://user@h:6379/0"},
    {"redis://:a:b@c@h", false, false, "h", 6379, 0, "", "a:b@c",
     "redis://h:6379/0"},
    {"redis://u%3as:%2F%3f%23%40%25%0a@h", false, false, "h", 6379, 0, "u:s",
     "/?#@%\n", "redis://u%3As@h:6379/0"},
    {"redis://[::1]", false, false, "::1", 6379, 0, "", "",
     "redis://[::1]:6379/0"},
    {"redis://u:p@[fe80::1%25eth0]:6380/2", false, false, "fe80::1%eth0", 6380,
     2, "u", "p", "redis://u@[fe80::1%25eth0]:6380/2"},
    {"redis://[::ffff:1.2.3.4]:1", false, false, "::ffff:1.2.3.4", 1, 0, "", "",
     "redis://[::ffff:1.2.3.4]:1/0"},
    {"redis://h?db=4", false, false, "h", 6379, 4, "", "", "redis://h:6379/4"},
    {"redis://my_redis-1.local:6379/0", false, false, "my_redis-1.local", 6379,
     0, "", "", "redis://my_redis-1.local:6379/0"},
    {"unix:///run/redis.sock", false, true, "/run/redis.sock", 0, 0, "", "",
     "unix:///run/redis.sock?db=0"},
    {"unix:///run/a%20b%3Fc@d?db=7", false, true, "/run/a b?c@d", 0, 7, "", "",
     "unix:///run/a%20b%3Fc@d?db=7"},
    {"redis+unix://me:pw@/s", false, true, "/s", 0, 0, "me", "pw",
     "unix://me@/s?db=0"},
    {"valkey+unix://:pw@/s?db=1", false, true, "/s", 0, 1, "", "pw",
     "unix:///s?db=1"},
    {"sentinel://h/mymaster", false, false, "", 0, 0, "", "",
     "sentinel://h:26379/mymaster?db=0"},
    {"sentinel://u:p@h:1,[::1]:2,k/my-master?db=3", false, false, "", 0, 3, "u",
     "p", "sentinel://u@h:1,[::1]:2,k:26379/my-master?db=3"},
    {"SENTINELS://h/m/4", true, false, "", 0, 4, "", "",
     "sentinels://h:26379/m?db=4"},
    {"redis-sentinel://:p@h:1,k:2/5#mymaster", false, false, "", 0, 5, "", "p",
     "sentinel://h:1,k:2/mymaster?db=5"},
    {"rediss-sentinel://h#a%23b", true, false, "", 0, 0, "", "",
     "sentinels://h:26379/a%23b?db=0"},
    {"sentinel://h/m/", false, false, "", 0, 0, "", "",
     "sentinel://h:26379/m?db=0"},
};

/* Each is refused with a line that holds `says`. "sEcReT" stands for what must
 * not be shown wherever it landed. */
static const struct {
    const char *text, *says;
} bad[] = {
    {"", "expected redis://"},
    {"sEcReT", "expected redis://"},
    {"localhost:6379", "expected redis://"},
    {"/run/redis.sock", "unix:///run"},
    {"http://h", "expected redis://"},
    {"redis:h", "expected redis://"},
    {"://h", "expected redis://"},
    {"sEcReT://h", "expected redis://"},
    {"redis://", "host is missing"},
    {"redis:///3", "host is missing"},
    {"redis://:7000", "host is missing"},
    {"redis://u:sEcReT@", "host is missing"},
    {"redis://h:", "port"},
    {"redis://h:0", "port"},
    {"redis://h:65536", "port"},
    {"redis://h:sEcReT", "port"},
    {"redis://h:+1", "port"},
    {"redis://h:-1", "port"},
    {"redis://h: 1", "port"},
    {"redis://h:99999999999999999999", "port"},
    {"redis://h/x", "database"},
    {"redis://h/sEcReT", "database"},
    {"redis://h/-1", "database"},
    {"redis://h/2147483648", "database"},
    {"redis://h/1/", "database"},
    {"redis://h//", "database"},
    {"redis://h?db=", "database"},
    {"redis://h?db=1&x=2", "parameter"},
    {"redis://h?password=sEcReT", "parameter"},
    {"redis://h?", "parameter"},
    {"redis://h#1", "'#'"},
    {"redis://:sEc/ReT@h", "%2F"},
    {"redis://:sEc?ReT@h", "%3F"},
    {"redis://:sEc#ReT@h", "%23"},
    {"redis://::1:6379", "brackets"},
    {"redis://[::1", "no ']'"},
    {"redis://[::1]x", "port"},
    {"redis://[::1]:", "port"},
    {"redis://[h]", "IPv6"},
    {"redis://[]", "IPv6"},
    {"redis://[::1%25]", "IPv6"},
    {"redis://[fe80::1%eth0]", "%25"},
    {"redis://a b", "host"},
    {"redis://a%00b", "control"},
    {"redis://a%0ab", "control"},
    {"redis://u%0a:p@h", "control"},
    {"redis://u:sEcReT%00@h", "control"},
    {"redis://u:sEcReT%@h", "%25"},
    {"redis://u:sEcReT%4@h", "%25"},
    {"redis://u:sEcReT%zz@h", "%25"},
    {"unix://", "three slashes"},
    {"unix:///", "three slashes"},
    {"unix://run/redis.sock", "three slashes"},
    {"unix:///run/", "three slashes"},
    {"unix:///run%2f", "three slashes"},
    {"unix://u:sEcReT@run/s", "three slashes"},
    {"unix:///s/0?db=x", "database"},
    {"unix:///s?user=u", "parameter"},
    {"unix:///s%00", "control"},
    {"sentinel://", "host is missing"},
    {"sentinel://h", "master's name"},
    {"sentinel://h/", "master's name"},
    {"sentinel://h//1", "master's name"},
    {"sentinel://h#", "master's name"},
    {"sentinel://h/a%20b", "master's name"},
    {"sentinel://h/a%2Fb", "master's name"},
    {"sentinel://h/a%0a", "control"},
    {"sentinel://h,/m", "host is missing"},
    {"sentinel://,h/m", "host is missing"},
    {"sentinel://h:1,,k:2/m", "host is missing"},
    {"sentinel://h:1,k:x/m", "port"},
    {"sentinel://h,[::1/m", "no ']'"},
    {"sentinel://h/m/x", "database"},
    {"sentinel://h/m/1/2", "database"},
    {"sentinel://h/m?db=x", "sentinel://host/master?db=N"},
    {"sentinel://h/m?name=n", "parameter"},
    {"sentinel://h/m#m", "database"},
    {"sentinel://u:sEcReT@h", "master's name"},
    {"sentinel://a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q/m", "more than 16"},
};

START_TEST(test_reads)
{
    const struct good_case *c = &good[_i];
    struct uri uri;
    struct err_text why = {""};
    char shown[1024];
    memset(&uri, 0xa5, sizeof(uri));
    ck_assert_msg(uri_parse(&uri, c->text, &why) == ERR_OK, "%s: %s", c->text,
                  why.text);
    ck_assert_int_eq(uri.tls, c->tls);
    ck_assert_int_eq(uri.is_unix, c->is_unix);
    ck_assert_str_eq(uri.host, c->host);
    ck_assert_uint_eq(uri.port, c->port);
    ck_assert_uint_eq(uri.db, c->db);
    ck_assert_str_eq(uri.user, c->user);
    ck_assert_str_eq(uri.password, c->password);
    uri_show(&uri, shown, sizeof(shown));
    ck_assert_str_eq(shown, c->shown);

    struct uri again;
    ck_assert_int_eq(uri_parse(&again, shown, &why), ERR_OK);
    ck_assert_str_eq(again.host, uri.host);
    ck_assert_str_eq(again.user, uri.user);
    ck_assert_uint_eq(again.db, uri.db);
}
END_TEST

START_TEST(test_refuses)
{
    struct uri uri, before;
    struct err_text why = {""};
    memset(&uri, 0xa5, sizeof(uri));
    before = uri;
    ck_assert_int_eq(uri_parse(&uri, bad[_i].text, &why), ERR_INVALID);
    ck_assert_msg(strstr(why.text, bad[_i].says) != NULL,
                  "%s: '%s' does not say '%s'", bad[_i].text, why.text,
                  bad[_i].says);
    ck_assert_ptr_null(strchr(why.text, '\n'));
    ck_assert_msg(strcasestr(why.text, "secret") == NULL &&
                      strstr(why.text, "ReT") == NULL,
                  "%s: shown in '%s'", bad[_i].text, why.text);
    ck_assert_mem_eq(&uri, &before, sizeof(uri));
    ck_assert_int_eq(uri_parse(&uri, bad[_i].text, NULL), ERR_INVALID);
}
END_TEST

/* Each part up to its size, and not a byte more. */
START_TEST(test_lengths)
{
    static const struct {
        const char *before, *after;
        size_t most;
    } parts[] = {
        {"redis://", ":1", 255},      {"redis://", "@h", 127},
        {"redis://u:", "@h", 511},    {"unix:///", "", 106},
        {"redis://u:%40", "@h", 510},
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        for (size_t more = 0; more < 2; more++) {
            char text[1024], fill[600];
            struct uri uri;
            struct err_text why = {""};
            memset(fill, 'x', sizeof(fill));
            fill[parts[i].most + more] = '\0';
            snprintf(text, sizeof(text), "%s%s%s", parts[i].before, fill,
                     parts[i].after);
            enum err e = uri_parse(&uri, text, &why);
            ck_assert_msg(e == (more ? ERR_INVALID : ERR_OK), "%zu: %s", i,
                          why.text);
            ck_assert_int_eq(more == 1,
                             strstr(why.text, "longer than") != NULL);
        }
    }
}
END_TEST

START_TEST(test_show_cuts)
{
    struct uri uri;
    struct err_text why;
    const char *whole = "redis://user@h:7/3";
    ck_assert_int_eq(uri_parse(&uri, "redis://user:pw@h:7/3", &why), ERR_OK);
    for (size_t size = 1; size <= strlen(whole) + 1; size++) {
        char *text = malloc(size);
        ck_assert_ptr_nonnull(text);
        uri_show(&uri, text, size);
        ck_assert_uint_eq(strlen(text), size - 1);
        ck_assert_mem_eq(text, whole, size - 1);
        free(text);
    }
    uri_show(&uri, NULL, 0);
}
END_TEST

START_TEST(test_sentinels)
{
    struct uri uri;
    struct err_text why = {""};
    ck_assert_int_eq(uri_parse(&uri,
                               "sentinel://h:1,10.0.0.1,[fe80::1%25eth0]:3,d,e,"
                               "f,g,h,i,j,k,l,m,n,o,p:16/my",
                               &why),
                     ERR_OK);
    ck_assert_str_eq(uri.master, "my");
    ck_assert_uint_eq(uri.sentinel_count, 16);
    ck_assert_str_eq(uri.sentinels[0].host, "h");
    ck_assert_uint_eq(uri.sentinels[0].port, 1);
    ck_assert_str_eq(uri.sentinels[1].host, "10.0.0.1");
    ck_assert_uint_eq(uri.sentinels[1].port, 26379);
    ck_assert_str_eq(uri.sentinels[2].host, "fe80::1%eth0");
    ck_assert_uint_eq(uri.sentinels[15].port, 16);
    ck_assert(uri_place_is_name(&uri.sentinels[0]));
    ck_assert(!uri_place_is_name(&uri.sentinels[1]));
    ck_assert(!uri_place_is_name(&uri.sentinels[2]));
    ck_assert_int_eq(uri_parse(&uri, "redis://h", &why), ERR_OK);
    ck_assert_uint_eq(uri.sentinel_count, 0);
    ck_assert_str_eq(uri.master, "");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("uri");
    TCase *t = tcase_create("uri");
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_reads, 0, sizeof(good) / sizeof(good[0]));
    tcase_add_loop_test(t, test_refuses, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_test(t, test_lengths);
    tcase_add_test(t, test_show_cuts);
    tcase_add_test(t, test_sentinels);
    return support_run(s);
}
