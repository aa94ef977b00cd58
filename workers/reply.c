/*
 * Replies as trees. All nodes of one reply lie in one block, and its strings
 * are where they came in: the CR behind each has become its NUL.
 */
#include "workers/handle.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

/* What lies before a root. */
struct block {
    char *raw; /* holds the strings */
    struct mqredis_reply root;
};

/*
 * Where there is no memory even to say why: one for each status, because what
 * is known of the command must not get lost with the text. "Out of memory" says
 * that it was not executed; that is not true of one that was sent.
 */
#define BARE_TEXTS(X)                                                          \
    X(MQREDIS_INVALID, "refused, and out of memory to say why")                \
    X(MQREDIS_EXPIRED, "out of time, and of memory to say more")               \
    X(MQREDIS_UNAVAILABLE, "unavailable, and out of memory to say why")        \
    X(MQREDIS_TOO_BIG, "too big, and out of memory to say what")               \
    X(MQREDIS_LOST, "out of memory: it may have been executed")                \
    X(MQREDIS_NOMEM, "out of memory")                                          \
    X(MQREDIS_SYSTEM, "failed, and out of memory to say why")

#define BARE_COUNT (MQREDIS_SYSTEM + 1)

static char bare_text[BARE_COUNT][48] = {
/* NOLINTNEXTLINE(bugprone-macro-parentheses): a literal that fills an array. */
#define X(s, text) [s] = text,
    BARE_TEXTS(X)
#undef X
};

static struct block bare_block[BARE_COUNT] = {
#define X(s, text)                                                             \
    [s] = {.root = {.type = MQREDIS_FAILURE,                                   \
                    .status = (s),                                             \
                    .str = bare_text[s],                                       \
                    .len = sizeof(text) - 1}},
    BARE_TEXTS(X)
#undef X
};

static struct mqredis_raw bare_raw[BARE_COUNT] = {
#define X(s, text)                                                             \
    [s] = {.status = (s), .data = bare_text[s], .len = sizeof(text) - 1},
    BARE_TEXTS(X)
#undef X
};

static struct block *block_of(struct mqredis_reply *reply)
{
    char *at = (char *)reply - offsetof(struct block, root);
    return (struct block *)(void *)at;
}

void mqredis_free(struct mqredis_reply *reply)
{
    if (reply == NULL || reply == &bare_block[reply->status].root)
        return;
    if (reply->type == MQREDIS_BATCH) {
        for (size_t i = 0; i < reply->elements; i++)
            mqredis_free(reply->element[i]);
        free(reply->element);
    }
    struct block *b = block_of(reply);
    free(b->raw);
    free(b);
}

struct mqredis_reply *reply_failure(enum mqredis_status status,
                                    const char *text, size_t len)
{
    if (len == 0) /* there was no memory for it */
        return &bare_block[status].root;
    struct block *b = calloc(1, sizeof(*b));
    char *copy = malloc(len + 1);
    if (b == NULL || copy == NULL) {
        free(b);
        free(copy);
        return &bare_block[status].root;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    b->raw = copy;
    b->root = (struct mqredis_reply){
        .type = MQREDIS_FAILURE, .status = status, .str = copy, .len = len};
    return &b->root;
}

/* ---- building ---- */

static bool holds_values(const struct resp_value *v)
{
    return !v->null && memchr("*~>%|", v->type, 5) != NULL;
}

/* Counts the values in a reply. ERR_PROTO: it is not one whole reply. */
static enum err count_values(const char *data, size_t len, size_t *count)
{
    size_t todo = 1, n = 0, at = 0;
    while (todo > 0) {
        struct resp_value v;
        size_t used;
        if (at == len || resp_get(data + at, len - at, &v, &used) != ERR_OK)
            return ERR_PROTO;
        at += used;
        n++;
        todo--;
        if (holds_values(&v)) {
            /* Each value takes 3 bytes at least: no overflow, no rubbish. */
            if ((uint64_t)v.number > len - at)
                return ERR_PROTO;
            todo += (size_t)v.number;
        }
        todo += v.type == '|';
    }
    *count = n;
    return at == len ? ERR_OK : ERR_PROTO;
}

struct builder {
    char *at, *end;
    struct mqredis_reply *node;     /* next free */
    struct mqredis_reply **element; /* next free */
};

static double parse_real(const char *text)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0)
        return strtod(text, NULL);
    double d = strtod_l(text, NULL, c);
    freelocale(c);
    return d;
}

static enum mqredis_type type_of(const struct resp_value *v)
{
    if (v->null)
        return MQREDIS_NIL;
    switch (v->type) {
    case '+':
        return MQREDIS_STATUS;
    case '-':
    case '!':
        return MQREDIS_ERROR;
    case ':':
        return MQREDIS_INTEGER;
    case ',':
        return MQREDIS_DOUBLE;
    case '#':
        return MQREDIS_BOOL;
    case '(':
        return MQREDIS_BIGNUM;
    case '=':
        return MQREDIS_VERBATIM;
    case '*':
        return MQREDIS_ARRAY;
    case '%':
    case '|':
        return MQREDIS_MAP;
    case '~':
        return MQREDIS_SET;
    case '>':
        return MQREDIS_PUSH;
    default:
        return MQREDIS_STRING;
    }
}

static enum err build(struct builder *b, struct mqredis_reply *node, int depth);

static enum err build_elements(struct builder *b, struct mqredis_reply *node,
                               size_t count, int depth)
{
    node->elements = count;
    node->element = b->element;
    b->element += count;
    for (size_t i = 0; i < count; i++) {
        struct mqredis_reply *child = b->node++;
        node->element[i] = child;
        enum err e = build(b, child, depth + 1);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

static enum err build(struct builder *b, struct mqredis_reply *node, int depth)
{
    struct resp_value v;
    size_t used;
    if (depth > RESP_DEPTH_MAX)
        return ERR_LIMIT;
    if (resp_get(b->at, (size_t)(b->end - b->at), &v, &used) != ERR_OK)
        return ERR_PROTO;
    char *text = v.data == NULL ? NULL : b->at + (v.data - b->at);
    b->at += used;
    node->type = type_of(&v);
    node->status = MQREDIS_OK;
    if (!holds_values(&v)) {
        node->integer = v.number;
        if (text == NULL || v.type == ':' || v.type == '#')
            return ERR_OK;
        node->str = text;
        node->len = v.len;
        text[v.len] = '\0'; /* the CR */
        memcpy(node->format, v.format, sizeof(node->format));
        if (node->type == MQREDIS_DOUBLE)
            node->real = parse_real(text);
        return ERR_OK;
    }
    enum err e = build_elements(b, node, (size_t)v.number, depth);
    if (e != ERR_OK || v.type != '|')
        return e;
    /* Attributes: the value that they belong to follows. */
    struct mqredis_reply *attributes = b->node++;
    *attributes = *node;
    memset(node, 0, sizeof(*node));
    e = build(b, node, depth + 1);
    if (node->attributes == NULL)
        node->attributes = attributes;
    return e;
}

/* Builds the tree on data[0..len), which it takes, even on failure. */
static struct mqredis_reply *reply_build(char *data, size_t len)
{
    static const char broken[] = "the reply is not RESP";
    static const char deep[] = "the reply is nested too deeply";
    size_t count;
    if (count_values(data, len, &count) != ERR_OK) {
        free(data);
        return reply_failure(MQREDIS_LOST, broken, sizeof(broken) - 1);
    }
    size_t each = sizeof(struct mqredis_reply) + sizeof(void *);
    struct block *b = count > (SIZE_MAX - sizeof(*b)) / each
                          ? NULL
                          : calloc(1, sizeof(*b) + count * each);
    if (b == NULL) {
        static const char text[] = "out of memory for the reply: the command "
                                   "was executed";
        free(data);
        return reply_failure(MQREDIS_LOST, text, sizeof(text) - 1);
    }
    struct mqredis_reply *nodes = &b->root + 1;
    struct builder builder = {
        .at = data,
        .end = data + len,
        .node = nodes,
        .element = (struct mqredis_reply **)(void *)(nodes + count),
    };
    b->raw = data;
    enum err e = build(&builder, &b->root, 0);
    if (e == ERR_OK)
        return &b->root;
    mqredis_free(&b->root);
    if (e == ERR_LIMIT)
        return reply_failure(MQREDIS_TOO_BIG, deep, sizeof(deep) - 1);
    return reply_failure(MQREDIS_LOST, broken, sizeof(broken) - 1);
}

/* ---- from requests ---- */

static struct mqredis_reply *reply_of_answer(struct answer *a)
{
    if (a->status != MQREDIS_OK)
        return reply_failure(a->status, a->data, a->len);
    char *data = a->data;
    size_t len = a->len;
    a->data = NULL;
    a->len = a->cap = 0;
    return reply_build(data, len);
}

/* Whether no command of the batch was answered, all for the same reason. */
static bool failed_as_one(const struct mqredis_request *r)
{
    enum mqredis_status s = r->answers[0].status;
    for (size_t i = 1; i < r->count; i++) {
        if (r->answers[i].status != s)
            return false;
    }
    return s != MQREDIS_OK;
}

struct mqredis_reply *reply_of_request(struct mqredis_request *r)
{
    if (!r->batch || failed_as_one(r))
        return reply_of_answer(&r->answers[0]);
    struct block *b = calloc(1, sizeof(*b));
    struct mqredis_reply **element =
        calloc(r->count, sizeof(struct mqredis_reply *));
    if (b == NULL || element == NULL) {
        static const char text[] =
            "out of memory for the replies: the batch may have been executed";
        free(b);
        free(element);
        return reply_failure(MQREDIS_LOST, text, sizeof(text) - 1);
    }
    b->root.type = MQREDIS_BATCH;
    b->root.elements = r->count;
    b->root.element = element;
    for (size_t i = 0; i < r->count; i++) {
        element[i] = reply_of_answer(&r->answers[i]);
        if (b->root.status == MQREDIS_OK)
            b->root.status = element[i]->status;
    }
    return &b->root;
}

/* ---- raw bytes ---- */

struct raw_block {
    struct mqredis_raw raw;
    char *data;
};

static struct mqredis_raw *raw_new(enum mqredis_status status, char *data,
                                   size_t len)
{
    struct raw_block *b = data == NULL ? NULL : malloc(sizeof(*b));
    if (b == NULL) {
        free(data);
        return &bare_raw[status == MQREDIS_OK ? MQREDIS_LOST : status];
    }
    *b = (struct raw_block){
        .raw = {.status = status, .data = data, .len = len},
        .data = data,
    };
    return &b->raw;
}

void mqredis_raw_free(struct mqredis_raw *raw)
{
    if (raw == NULL || raw == &bare_raw[raw->status])
        return;
    struct raw_block *b = (struct raw_block *)(void *)raw;
    free(b->data);
    free(b);
}

struct mqredis_raw *raw_failure(enum mqredis_status status, const char *text)
{
    char *copy = text[0] == '\0' ? NULL : strdup(text);
    return raw_new(status, copy, copy == NULL ? 0 : strlen(copy));
}

bool mqredis_answer(const struct mqredis_request *request, size_t index,
                    struct mqredis_raw *answer)
{
    if (request == NULL || !request->done || index >= request->count)
        return false;
    const struct answer *a = &request->answers[index];
    *answer = (struct mqredis_raw){
        .status = a->status,
        .data = a->data != NULL ? a->data : "",
        .len = a->len,
    };
    return true;
}

struct mqredis_raw *raw_of_request(struct mqredis_request *r)
{
    struct answer *first = &r->answers[0];
    for (size_t i = 0; i < r->count; i++) {
        struct answer *a = &r->answers[i];
        if (a->status != MQREDIS_OK)
            return raw_failure(a->status, a->data != NULL ? a->data : "");
    }
    /* One after the other, in the first one's memory. */
    size_t more = 1;
    for (size_t i = 1; i < r->count; i++)
        more += r->answers[i].len;
    if (!answer_reserve(first, more))
        return raw_failure(MQREDIS_LOST, "out of memory for the replies");
    for (size_t i = 1; i < r->count; i++) {
        memcpy(first->data + first->len, r->answers[i].data, r->answers[i].len);
        first->len += r->answers[i].len;
    }
    first->data[first->len] = '\0';
    char *data = first->data;
    size_t len = first->len;
    first->data = NULL;
    first->len = first->cap = 0;
    return raw_new(MQREDIS_OK, data, len);
}
