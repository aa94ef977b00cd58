/* A little JSON for tests: reading, looking things up, and checking a document
 * against a schema (type, properties, required, additionalProperties, items,
 * enum, minimum, anyOf, $ref into $defs: what tools/mqstat.schema.json uses).
 */
#ifndef TESTS_JSON_H
#define TESTS_JSON_H

#include <stdbool.h>
#include <stddef.h>

enum json_type {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};

struct json_value {
    enum json_type type;
    bool boolean;
    double number;
    bool integer; /* written without a point or an exponent */
    char *string; /* unescaped; of an object's member: see name */
    char *name;   /* of an object's member */
    size_t count; /* of children */
    struct json_value **children; /* of an array or object, in order */
};

/* NULL: not one whole JSON document; *at says where it went wrong. */
struct json_value *json_parse(const char *text, size_t *at);
void json_free(struct json_value *v);

/* "channels.0.queue.messages": NULL if there is no such thing. */
const struct json_value *json_at(const struct json_value *v, const char *path);

/* Whether `v` is as `schema` says; else a line in why[size]. */
bool json_conforms(const struct json_value *schema, const struct json_value *v,
                   char *why, size_t size);

#endif
