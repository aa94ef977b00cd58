/* Slots of keys. What a real server says of random ones: check_keyspec_server.
 */
#include "manager/slot.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support_run.h"

static uint16_t slot(const char *key)
{
    return slot_of_key(key, strlen(key));
}

/* The check value that the catalogues of CRCs give for XMODEM. */
START_TEST(test_crc)
{
    ck_assert_uint_eq(slot_crc16("123456789", 9), 0x31c3);
    ck_assert_uint_eq(slot_crc16("", 0), 0);
    ck_assert_uint_eq(slot_crc16("\0\0\0", 3), 0);
    ck_assert_uint_eq(slot_crc16("\0a", 2), slot_crc16("a", 1));
    ck_assert_uint_ne(slot_crc16("\xff", 1), 0);
}
END_TEST

/* As CLUSTER KEYSLOT says. */
START_TEST(test_known_keys)
{
    ck_assert_uint_eq(slot("foo"), 12182);
    ck_assert_uint_eq(slot("bar"), 5061);
    ck_assert_uint_eq(slot("hello"), 866);
    ck_assert_uint_eq(slot(""), 0);
}
END_TEST

START_TEST(test_hash_tags)
{
    ck_assert_uint_eq(slot("{user1000}.following"), slot("user1000"));
    ck_assert_uint_eq(slot("{user1000}.followers"), slot("user1000"));
    /* Nothing between the first braces: all of it. */
    ck_assert_uint_eq(slot("foo{}{bar}"), slot_crc16("foo{}{bar}", 10) % SLOTS);
    ck_assert_uint_ne(slot("foo{}{bar}"), slot("bar"));
    /* From the first '{' to the first '}' behind it. */
    ck_assert_uint_eq(slot("foo{{bar}}zap"), slot("{bar"));
    ck_assert_uint_eq(slot("foo{bar}{zap}"), slot("bar"));
    ck_assert_uint_eq(slot("}{bar}"), slot("bar"));
    /* One without the other. */
    ck_assert_uint_eq(slot("foo{bar"), slot_crc16("foo{bar", 7) % SLOTS);
    ck_assert_uint_eq(slot("foo}bar"), slot_crc16("foo}bar", 7) % SLOTS);
    ck_assert_uint_eq(slot("{"), slot_crc16("{", 1) % SLOTS);
    ck_assert_uint_eq(slot("{}"), slot_crc16("{}", 2) % SLOTS);
    /* Zero bytes are bytes. */
    ck_assert_uint_eq(slot_of_key("\0{a\0b}c", 7),
                      slot_crc16("a\0b", 3) % SLOTS);
}
END_TEST

/* A key is read to its length and no further. */
START_TEST(test_ends_at_its_length)
{
    static const char text[] = "key{tag}rest";
    for (size_t len = 0; len <= strlen(text); len++) {
        char *copy = malloc(len + 1);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, text, len);
        copy[len] = '}';
        uint16_t want = len < 8 ? slot_crc16(text, len) % SLOTS : slot("tag");
        ck_assert_uint_eq(slot_of_key(copy, len), want);
        free(copy);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("slot");
    TCase *t = tcase_create("slot");
    suite_add_tcase(s, t);
    tcase_add_test(t, test_crc);
    tcase_add_test(t, test_known_keys);
    tcase_add_test(t, test_hash_tags);
    tcase_add_test(t, test_ends_at_its_length);
    return support_run(s);
}
