/* Options as rows of a table: every form of a word, every kind of value, and
 * one clear line for each that is wrong. */
#include "ipc/rows.h"

#include <check.h>
#include <string.h>
#include <unistd.h>

#include "tests/support_run.h"

struct options {
    const char *channel;
    bool flag, help;
    uint32_t count, ms, size;
    uint64_t bytes;
    gid_t group;
    char seen[16];
};

static enum err see(struct options *o, char *value, struct err_text *why)
{
    if (strlen(value) >= sizeof(o->seen))
        return err_say(why, ERR_INVALID, "--call: '%s' is too long", value);
    strcpy(o->seen, value);
    memset(value, '*', strlen(value));
    return ERR_OK;
}

static enum err set_group(struct options *o, char *value, struct err_text *why)
{
    return rows_group(value, &o->group, why);
}

#define AT(field) offsetof(struct options, field)
#define CALL(function) KIND_CALL, 0, 0, 0, function

static const struct option_row rows[] = {
    {"channel", "NAME", KIND_TEXT, AT(channel), 0, 0, NULL, "a text"},
    {"flag", NULL, KIND_FLAG, AT(flag), 0, 0, NULL, "a flag"},
    {"count", "N", KIND_COUNT, AT(count), 1, 100, NULL, "a number"},
    {"counts", "MS", KIND_MS, AT(ms), 0, 1000, NULL, "a time"},
    {"size", "BYTES", KIND_SIZE, AT(size), 0, 1 << 30, NULL, "a size"},
    {"bytes", "BYTES", KIND_BYTES, AT(bytes), 0, UINT64_MAX, NULL, "another"},
    {"group", "GROUP", CALL(set_group), "a group"},
    {"call", "TEXT", CALL(see), "a function"},
    {"help", NULL, KIND_LAST, AT(help), 0, 0, NULL, "the last word"},
};

static const struct option_rows table = {"a-program", rows,
                                         sizeof(rows) / sizeof(rows[0]), 20};

#define WORDS_MAX 8

/* Splits at spaces into words that can be written to, and parses them. */
static enum err parse(struct options *o, const char *line, char words[256],
                      struct err_text *why)
{
    char *argv[WORDS_MAX + 2] = {(char[]){"a-program"}};
    int argc = 1;
    ck_assert_uint_lt(strlen(line), 256);
    memcpy(words, line, strlen(line) + 1);
    char *rest = words;
    for (char *word; *line != '\0' && (word = strsep(&rest, " ")) != NULL;) {
        ck_assert_int_le(argc, WORDS_MAX);
        argv[argc++] = word;
    }
    memset(o, 0, sizeof(*o));
    o->group = (gid_t)-1;
    why->text[0] = '\0';
    return rows_parse(&table, o, argc, argv, why);
}

START_TEST(test_every_form_and_kind)
{
    struct options o;
    struct err_text why;
    char words[256];
    ck_assert_int_eq(parse(&o, "", words, &why), ERR_OK);
    ck_assert_ptr_null(o.channel);
    ck_assert_int_eq(parse(&o,
                           "--channel jobs --flag --count=100 --counts 0 "
                           "--call=",
                           words, &why),
                     ERR_OK);
    ck_assert_str_eq(o.channel, "jobs");
    ck_assert(o.flag);
    ck_assert_uint_eq(o.count, 100);
    ck_assert_uint_eq(o.ms, 0);
    ck_assert_str_eq(o.seen, "");
    /* The last one counts; a value may look like an option. */
    ck_assert_int_eq(parse(&o, "-c a --channel=b=c -c --flag", words, &why),
                     ERR_OK);
    ck_assert_str_eq(o.channel, "--flag");
    ck_assert(!o.flag);
    ck_assert_int_eq(parse(&o, "--channel=b=c", words, &why), ERR_OK);
    ck_assert_str_eq(o.channel, "b=c");
}
END_TEST

START_TEST(test_units)
{
    static const struct {
        const char *line;
        uint32_t size;
        uint64_t bytes;
    } cases[] = {
        {"--size 64k --bytes 0", 65536, 0},
        {"--size 1G --bytes 3m", 1U << 30, 3 << 20},
        {"--size 0 --bytes 17179869183g", 0, 17179869183ULL << 30},
        {"--size 007 --bytes 18446744073709551615", 7, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct options o;
        struct err_text why;
        char words[256];
        enum err e = parse(&o, cases[i].line, words, &why);
        ck_assert_msg(e == ERR_OK, "%s: %s", cases[i].line, why.text);
        ck_assert_uint_eq(o.size, cases[i].size);
        ck_assert_uint_eq(o.bytes, cases[i].bytes);
    }
}
END_TEST

START_TEST(test_what_is_wrong_is_said)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"--nonsense", "unknown option '--nonsense': see a-program --help"},
        {"--coun 1", "unknown option '--coun'"},
        {"-x", "unknown option '-x'"},
        {"-V", "unknown option '-V'"}, /* this program has no --version */
        {"jobs", "unknown option 'jobs'"},
        {"--", "unknown option '--'"},
        {"--flag=yes", "--flag takes no value"},
        {"--flag --count", "--count needs a value: N"},
        {"-c", "--channel needs a value: NAME"},
        {"--count 0", "--count '0': a number from 1 to 100 is expected"},
        {"--count 101", "--count '101': a number from 1 to 100"},
        {"--count 1k", "--count '1k': a number"},
        {"--count ", "--count '': a number"},
        {"--count -1", "--count '-1': a number"},
        {"--count +1", "--count '+1': a number"},
        {"--count 1x", "--count '1x': a number"},
        {"--count 99999999999999999999", "a number from 1 to 100"},
        {"--size 2g", "(k, m and g are known)"},
        {"--size 1kk", "--size '1kk'"},
        {"--size 1t", "--size '1t'"},
        {"--bytes 17179869184g", "--bytes '17179869184g'"},
        {"--group no-such-group", "--group 'no-such-group': no such group"},
        {"--group -1", "--group '-1': no such group"},
        {"--call 0123456789abcdef", "--call: '0123456789abcdef' is too long"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct options o;
        struct err_text why;
        char words[256];
        ck_assert_int_eq(parse(&o, cases[i].line, words, &why), ERR_INVALID);
        ck_assert_msg(strstr(why.text, cases[i].says) != NULL, "%s: %s",
                      cases[i].line, why.text);
    }
}
END_TEST

START_TEST(test_a_value_can_be_hidden_where_it_stands)
{
    struct options o;
    struct err_text why;
    char words[256];
    ck_assert_int_eq(parse(&o, "--call secret", words, &why), ERR_OK);
    ck_assert_str_eq(o.seen, "secret");
    ck_assert_mem_eq(words, "--call\0******", 14);
    ck_assert_int_eq(parse(&o, "--call=secret", words, &why), ERR_OK);
    ck_assert_str_eq(o.seen, "secret");
    ck_assert_str_eq(words, "--call=******");
}
END_TEST

START_TEST(test_nothing_counts_after_the_last_word)
{
    struct options o;
    struct err_text why;
    char words[256];
    ck_assert_int_eq(parse(&o, "--count 2 -h --nonsense", words, &why), ERR_OK);
    ck_assert(o.help);
    ck_assert_uint_eq(o.count, 2);
}
END_TEST

START_TEST(test_groups_by_name_and_number)
{
    struct options o;
    struct err_text why;
    char words[256];
    ck_assert_int_eq(parse(&o, "--group root", words, &why), ERR_OK);
    ck_assert_uint_eq(o.group, 0);
    ck_assert_int_eq(parse(&o, "--group 4294967294", words, &why), ERR_OK);
    ck_assert_uint_eq(o.group, 4294967294U);
    /* -1 is what chown takes for none. */
    ck_assert_int_eq(parse(&o, "--group 4294967295", words, &why), ERR_INVALID);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("rows");
    TCase *t = tcase_create("rows");
    suite_add_tcase(s, t);
    tcase_add_test(t, test_every_form_and_kind);
    tcase_add_test(t, test_units);
    tcase_add_test(t, test_what_is_wrong_is_said);
    tcase_add_test(t, test_a_value_can_be_hidden_where_it_stands);
    tcase_add_test(t, test_nothing_counts_after_the_last_word);
    tcase_add_test(t, test_groups_by_name_and_number);
    return s;
}

int main(void)
{
    return support_run(suite());
}
