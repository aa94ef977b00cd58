/* JSON for tests: strict where a reader is strict, simple otherwise. */
#include "tests/json.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

struct reader {
    const char *start, *at;
    int depth;
};

static struct json_value *read_value(struct reader *r);

static void skip_blanks(struct reader *r)
{
    while (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')
        r->at++;
}

static struct json_value *new_value(enum json_type type)
{
    struct json_value *v = calloc(1, sizeof(*v));
    if (v == NULL)
        abort();
    v->type = type;
    return v;
}

void json_free(struct json_value *v)
{
    if (v == NULL)
        return;
    for (size_t i = 0; i < v->count; i++)
        json_free(v->children[i]);
    free(v->children);
    free(v->string);
    free(v->name);
    free(v);
}

static void add_child(struct json_value *v, struct json_value *child)
{
    v->children = realloc(v->children, (v->count + 1) * sizeof(child));
    if (v->children == NULL)
        abort();
    v->children[v->count++] = child;
}

/* \u00XX alone is kept as a byte; all others become '?'. */
static bool read_escape(struct reader *r, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = *r->at++;
    const char *found = c ? strchr(from, c) : NULL;
    if (found != NULL) {
        *out = to[found - from];
        return true;
    }
    if (c != 'u')
        return false;
    unsigned code = 0;
    for (int i = 0; i < 4; i++) {
        c = *r->at;
        if (!isxdigit((unsigned char)c))
            return false;
        code =
            code * 16 + (unsigned)(isdigit((unsigned char)c)
                                       ? c - '0'
                                       : tolower((unsigned char)c) - 'a' + 10);
        r->at++;
    }
    *out = code > 0 && code < 0x100 ? (char)code : '?';
    return true;
}

static char *read_string(struct reader *r)
{
    if (*r->at != '"')
        return NULL;
    r->at++;
    char *out = malloc(strlen(r->at) + 1);
    if (out == NULL)
        abort();
    size_t n = 0;
    while (*r->at != '"') {
        unsigned char c = (unsigned char)*r->at;
        if (c < 0x20) { /* the end too */
            free(out);
            return NULL;
        }
        r->at++;
        if (c != '\\') {
            out[n++] = (char)c;
        } else if (!read_escape(r, &out[n++])) {
            free(out);
            return NULL;
        }
    }
    r->at++;
    out[n] = '\0';
    return out;
}

static struct json_value *read_number(struct reader *r)
{
    const char *p = r->at;
    bool integer = true;
    if (*p == '-')
        p++;
    if (!isdigit((unsigned char)*p) ||
        (*p == '0' && isdigit((unsigned char)p[1])))
        return NULL;
    while (isdigit((unsigned char)*p))
        p++;
    if (*p == '.') {
        integer = false;
        if (!isdigit((unsigned char)*++p))
            return NULL;
        while (isdigit((unsigned char)*p))
            p++;
    }
    struct json_value *v = new_value(JSON_NUMBER);
    v->number = strtod(r->at, NULL);
    v->integer = integer;
    r->at = p;
    return v;
}

static struct json_value *read_word(struct reader *r, const char *word,
                                    enum json_type type, bool boolean)
{
    size_t n = strlen(word);
    if (strncmp(r->at, word, n) != 0)
        return NULL;
    r->at += n;
    struct json_value *v = new_value(type);
    v->boolean = boolean;
    return v;
}

/* An array, or an object with a name before each value. */
static struct json_value *read_list(struct reader *r, bool object)
{
    struct json_value *v = new_value(object ? JSON_OBJECT : JSON_ARRAY);
    char end = object ? '}' : ']';
    r->at++;
    skip_blanks(r);
    if (*r->at == end) {
        r->at++;
        return v;
    }
    for (;;) {
        char *name = NULL;
        skip_blanks(r);
        if (object) {
            name = read_string(r);
            skip_blanks(r);
            if (name == NULL || *r->at != ':')
                goto fail;
            r->at++;
        }
        struct json_value *child = read_value(r);
        if (child == NULL) {
        fail:
            free(name);
            json_free(v);
            return NULL;
        }
        child->name = name;
        add_child(v, child);
        skip_blanks(r);
        if (*r->at == end) {
            r->at++;
            return v;
        }
        if (*r->at++ != ',') {
            json_free(v);
            return NULL;
        }
    }
}

static struct json_value *read_value(struct reader *r)
{
    struct json_value *v = NULL;
    skip_blanks(r);
    if (++r->depth > 32)
        return NULL;
    switch (*r->at) {
    case '{':
        v = read_list(r, true);
        break;
    case '[':
        v = read_list(r, false);
        break;
    case '"': {
        char *s = read_string(r);
        if (s != NULL) {
            v = new_value(JSON_STRING);
            v->string = s;
        }
        break;
    }
    case 't':
        v = read_word(r, "true", JSON_BOOL, true);
        break;
    case 'f':
        v = read_word(r, "false", JSON_BOOL, false);
        break;
    case 'n':
        v = read_word(r, "null", JSON_NULL, false);
        break;
    default:
        v = read_number(r);
    }
    r->depth--;
    return v;
}

struct json_value *json_parse(const char *text, size_t *at)
{
    struct reader r = {.start = text, .at = text};
    struct json_value *v = read_value(&r);
    skip_blanks(&r);
    *at = (size_t)(r.at - r.start);
    if (v != NULL && *r.at != '\0') {
        json_free(v);
        return NULL;
    }
    return v;
}

/* ---- looking up ---- */

static const struct json_value *member(const struct json_value *v,
                                       const char *name, size_t len)
{
    if (v == NULL || v->type != JSON_OBJECT)
        return NULL;
    for (size_t i = 0; i < v->count; i++)
        if (strlen(v->children[i]->name) == len &&
            memcmp(v->children[i]->name, name, len) == 0)
            return v->children[i];
    return NULL;
}

static const struct json_value *get(const struct json_value *v,
                                    const char *name)
{
    return member(v, name, strlen(name));
}

const struct json_value *json_at(const struct json_value *v, const char *path)
{
    while (v != NULL && *path != '\0') {
        size_t n = strcspn(path, ".");
        if (v->type == JSON_ARRAY) {
            size_t i = strtoul(path, NULL, 10);
            v = i < v->count ? v->children[i] : NULL;
        } else {
            v = member(v, path, n);
        }
        path += n + (path[n] == '.');
    }
    return v;
}

/* ---- checking ---- */

struct check {
    const struct json_value *root;
    char path[512];
    char *why;
    size_t size;
};

static bool check(struct check *c, const struct json_value *schema,
                  const struct json_value *v);

static bool refuse(struct check *c, const char *what, const char *detail)
{
    snprintf(c->why, c->size, "at %s: %s %s", c->path[0] ? c->path : ".", what,
             detail);
    return false;
}

static bool type_is(const struct json_value *v, const char *type)
{
    switch (v->type) {
    case JSON_NULL:
        return strcmp(type, "null") == 0;
    case JSON_BOOL:
        return strcmp(type, "boolean") == 0;
    case JSON_NUMBER:
        return strcmp(type, "number") == 0 ||
               (v->integer && strcmp(type, "integer") == 0);
    case JSON_STRING:
        return strcmp(type, "string") == 0;
    case JSON_ARRAY:
        return strcmp(type, "array") == 0;
    case JSON_OBJECT:
        return strcmp(type, "object") == 0;
    }
    return false;
}

static bool check_type(struct check *c, const struct json_value *type,
                       const struct json_value *v)
{
    if (type->type == JSON_STRING)
        return type_is(v, type->string) || refuse(c, "is no", type->string);
    for (size_t i = 0; i < type->count; i++)
        if (type_is(v, type->children[i]->string))
            return true;
    return refuse(c, "has a wrong type", "");
}

static bool check_child(struct check *c, const struct json_value *schema,
                        const struct json_value *v, const char *name)
{
    size_t len = strlen(c->path);
    snprintf(c->path + len, sizeof(c->path) - len, ".%s", name);
    bool ok = check(c, schema, v);
    c->path[len] = '\0';
    return ok;
}

static bool check_object(struct check *c, const struct json_value *schema,
                         const struct json_value *v)
{
    const struct json_value *required = get(schema, "required");
    const struct json_value *others = get(schema, "additionalProperties");
    for (size_t i = 0; required != NULL && i < required->count; i++)
        if (get(v, required->children[i]->string) == NULL)
            return refuse(c, "lacks", required->children[i]->string);
    for (size_t i = 0; i < v->count; i++) {
        const struct json_value *m = v->children[i];
        const struct json_value *s = get(get(schema, "properties"), m->name);
        for (size_t k = 0; k < i; k++)
            if (strcmp(v->children[k]->name, m->name) == 0)
                return refuse(c, "has twice", m->name);
        if (s == NULL && others != NULL && others->type == JSON_BOOL &&
            !others->boolean)
            return refuse(c, "should not have", m->name);
        if (s == NULL)
            s = others;
        if (s != NULL && s->type == JSON_OBJECT &&
            !check_child(c, s, m, m->name))
            return false;
    }
    return true;
}

static bool check_enum(struct check *c, const struct json_value *allowed,
                       const struct json_value *v)
{
    for (size_t i = 0; i < allowed->count; i++)
        if (v->type == JSON_STRING &&
            strcmp(v->string, allowed->children[i]->string) == 0)
            return true;
    return refuse(c, "is not one of the allowed values:",
                  v->type == JSON_STRING ? v->string : "");
}

static bool check_any(struct check *c, const struct json_value *any,
                      const struct json_value *v)
{
    char all[1024] = "";
    for (size_t i = 0; i < any->count; i++) {
        if (check(c, any->children[i], v))
            return true;
        size_t len = strlen(all);
        snprintf(all + len, sizeof(all) - len, "[%.200s] ", c->why);
    }
    return refuse(c, "is nothing of", all);
}

static bool check(struct check *c, const struct json_value *schema,
                  const struct json_value *v)
{
    const struct json_value *k = get(schema, "$ref");
    if (k != NULL) {
        const char *name = strrchr(k->string, '/');
        const struct json_value *s =
            name ? get(get(c->root, "$defs"), name + 1) : NULL;
        return s != NULL ? check(c, s, v)
                         : refuse(c, "unknown $ref", k->string);
    }
    if ((k = get(schema, "anyOf")) != NULL && !check_any(c, k, v))
        return false;
    if ((k = get(schema, "type")) != NULL && !check_type(c, k, v))
        return false;
    if ((k = get(schema, "enum")) != NULL && !check_enum(c, k, v))
        return false;
    if ((k = get(schema, "minimum")) != NULL && v->type == JSON_NUMBER &&
        v->number < k->number)
        return refuse(c, "is less than its minimum", "");
    if (v->type == JSON_OBJECT && !check_object(c, schema, v))
        return false;
    k = get(schema, "items");
    for (size_t i = 0; k != NULL && v->type == JSON_ARRAY && i < v->count;
         i++) {
        char name[24];
        snprintf(name, sizeof(name), "%zu", i);
        if (!check_child(c, k, v->children[i], name))
            return false;
    }
    return true;
}

bool json_conforms(const struct json_value *schema, const struct json_value *v,
                   char *why, size_t size)
{
    struct check c = {.root = schema, .why = why, .size = size};
    return check(&c, schema, v);
}
