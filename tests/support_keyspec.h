/*
 * Commands as runs have them, from text, and learning key specifications from
 * a text that stands for COMMAND's reply.
 */
#ifndef TESTS_SUPPORT_KEYSPEC_H
#define TESTS_SUPPORT_KEYSPEC_H

#include "manager/keyspec.h"

#define WIRE_BLOBS 16

/* Owns its bytes, which are exactly as long as they say, so that a sanitizer
 * sees a byte read beyond them. */
struct wire {
    char *data;
    size_t len, room;
    struct blob blobs[WIRE_BLOBS];
    uint32_t nblobs;
};

/* "SET k @1000; GET k": words split at spaces, `""` an empty one, `@N` a large
 * argument of N bytes, which lie one behind the other in their file. */
void wire_init(struct wire *wire, const char *text);
void wire_release(struct wire *wire);

struct framed wire_framed(const struct wire *wire);

/* The way of one command given as text. */
enum err way_of(const struct keyspecs *keyspecs, const char *text,
                struct way *way);

/* Its keys' places, "1 3 5", in static storage. */
const char *keys_of(const struct keyspecs *keyspecs, const char *text);

#endif
