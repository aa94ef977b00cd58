/* Logging in at a server that does not know HELLO, as all of them were before
 * Redis 6: redis-server with that command under another name. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e.h"
#include "tests/support.h"
#include "tests/support_run.h"

static struct redis old;
static struct redis_link boss;
static struct e2e_manager manager;
static struct e2e_output out;

/* False: there is no redis-server. */
static bool start_old(void)
{
    if (!redis_start(&old, support_name(),
                     "--port 0 --rename-command HELLO GREET")) {
        support_skip("login", "no redis-server is installed");
        return false;
    }
    redis_link_open(&boss, &old);
    ck_assert_int_eq(strncmp(redis_link_ask(&boss, "HELLO 2"), "-ERR", 4), 0);
    return true;
}

static const char *uri(const char *login, const char *query)
{
    static char text[sizeof(old.path) + 128];
    snprintf(text, sizeof(text), "unix://%s%s%s", login, old.path, query);
    return text;
}

static void assert_sets(const char *key)
{
    const char *const argv[] = {
        "mqredis-worker", "--channel", manager.channel, "SET", key,
        "value",          NULL};
    e2e_run(&out, argv);
    ck_assert_msg(out.status == 0 && strcmp(out.text, "OK\n") == 0, "%s",
                  out.text);
}

/* The manager's connection, as the server describes it, mentions the text. */
static void assert_listed(const char *text)
{
    const char *list;
    size_t len;
    redis_link_command(&boss, "CLIENT LIST");
    ck_assert_int_eq(
        redis_link_reply(&boss, (int)support_wait_ms(), &list, &len),
        REDIS_REPLY);
    const char *name = memmem(list, len, " name=teller ", 13);
    ck_assert_msg(name != NULL, "nobody has the name: %.*s", (int)len, list);
    const char *end = memchr(name, '\n', len - (size_t)(name - list));
    ck_assert_ptr_nonnull(end);
    ck_assert_msg(memmem(name, (size_t)(end - name), text, strlen(text)) !=
                      NULL,
                  "no '%s': %.*s", text, (int)(end - name), name);
}

START_TEST(test_nothing_to_say)
{
    if (!start_old())
        return;
    e2e_manager_start(&manager, NULL, uri("", ""), "--client-name teller");
    assert_sets("k");
    ck_assert_int_eq(strncmp(redis_link_ask(&boss, "GET k"), "$5", 2), 0);
    assert_listed(" db=0 ");
}
END_TEST

START_TEST(test_password_and_database)
{
    if (!start_old())
        return;
    ck_assert_str_eq(redis_link_ask(&boss, "CONFIG SET requirepass hush"),
                     "+OK\r\n");
    e2e_manager_start(&manager, NULL, uri(":hush@", "?db=3"),
                      "--client-name teller");
    assert_sets("k");
    ck_assert_str_eq(redis_link_ask(&boss, "EXISTS k"), ":0\r\n");
    ck_assert_str_eq(redis_link_ask(&boss, "SELECT 3"), "+OK\r\n");
    ck_assert_str_eq(redis_link_ask(&boss, "EXISTS k"), ":1\r\n");
    assert_listed(" db=3 ");
}
END_TEST

START_TEST(test_user)
{
    if (!start_old())
        return;
    ck_assert_str_eq(
        redis_link_ask(&boss, "ACL SETUSER app on >hush ~* &* +@all"),
        "+OK\r\n");
    e2e_manager_start(&manager, NULL, uri("app:hush@", ""),
                      "--client-name teller");
    assert_sets("k");
    assert_listed(" user=app ");
}
END_TEST

/* The name is for people who look at CLIENT LIST: nothing fails without it. */
START_TEST(test_user_without_the_right_to_a_name)
{
    if (!start_old())
        return;
    ck_assert_str_eq(redis_link_ask(&boss, "ACL SETUSER app on >hush ~* &* "
                                           "+@all -client|setname"),
                     "+OK\r\n");
    e2e_manager_start(&manager, NULL, uri("app:hush@", ""), NULL);
    assert_sets("k");
}
END_TEST

/* What the server refuses is said in its own words, and who asked for it ends
 * or waits as with any other server. */
START_TEST(test_refusals)
{
    static const struct {
        const char *login, *query, *option, *says;
    } cases[] = {
        {":wrong@", "", "--reconnect-max 100", "refuses AUTH: WRONGPASS"},
        {":hush@", "?db=99", "--reconnect-max 100",
         "refuses SELECT: ERR DB index is out of range"},
        {":hush@", "", "--resp 3", "the server has no RESP3: use --resp 2"},
    };
    if (!start_old())
        return;
    redis_link_ask(&boss, "CONFIG SET requirepass hush");
    e2e_manager_launch(&manager, NULL, uri(cases[_i].login, cases[_i].query),
                       cases[_i].option);
    ck_assert_msg(UNTIL(e2e_logged(&manager, cases[_i].says)), "no '%s' in: %s",
                  cases[_i].says, e2e_log(&manager));
    ck_assert(!e2e_logged(&manager, "mqredis-manager: ready"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("login");
    TCase *t = support_case(s, "login", 60);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_add_test(t, test_nothing_to_say);
    tcase_add_test(t, test_password_and_database);
    tcase_add_test(t, test_user);
    tcase_add_test(t, test_user_without_the_right_to_a_name);
    tcase_add_loop_test(t, test_refusals, 0, 3);
    return support_run(s);
}
