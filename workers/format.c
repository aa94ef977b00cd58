/*
 * From a format or from arguments to a command in RESP.
 */
#include "workers/handle.h"

#include <assert.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Digits of the largest double in %f, and a precision of 99. */
#define NUMBER_MAX 512

/* From this size on, a command's large arguments are not copied. */
#define WHOLE_MAX 16384
#define BLOB_MIN 4096

void encoded_free(struct encoded *e)
{
    if (e->data != e->small)
        free(e->data);
    union {
        const struct resp_arg *in;
        void *out;
    } list = {.in = e->blobs.list};
    free(list.out);
    free(e->kept);
    e->data = NULL;
    e->kept = NULL;
    e->blobs = (struct blobs){NULL, 0};
}

static void encoded_init(struct encoded *e)
{
    e->data = e->small;
    e->len = 0;
    e->blobs = (struct blobs){NULL, 0};
    e->kept = NULL;
}

/* Takes the large arguments out. False: out of memory. */
static bool take_blobs(struct encoded *out, size_t argc, struct resp_arg *argv)
{
    size_t count = 0;
    for (size_t i = 0; i < argc; i++)
        count += argv[i].len >= BLOB_MIN;
    if (count == 0)
        return true;
    struct resp_arg *list = malloc(count * sizeof(*list));
    if (list == NULL)
        return false;
    out->blobs = (struct blobs){.list = list, .count = count};
    for (size_t i = 0; i < argc; i++) {
        if (argv[i].len >= BLOB_MIN) {
            *list++ = argv[i];
            argv[i].data = NULL;
        }
    }
    return true;
}

/* Changes argv. */
static enum mqredis_status encode(struct encoded *out, bool whole, size_t argc,
                                  struct resp_arg *argv,
                                  struct mqredis_error *why)
{
    for (size_t i = 0; i < argc; i++) {
        if (argv[i].len > (size_t)RESP_BULK_MAX)
            return error_say(why, MQREDIS_TOO_BIG,
                             "an argument of %zu bytes: %lld is the most",
                             argv[i].len, RESP_BULK_MAX);
    }
    size_t size = resp_command_size(argc, argv);
    if (!whole && size > WHOLE_MAX) {
        if (!take_blobs(out, argc, argv))
            return error_say(why, MQREDIS_NOMEM, "out of memory");
        size = resp_command_size(argc, argv);
    }
    if (size > sizeof(out->small)) {
        out->data = size == SIZE_MAX ? NULL : malloc(size);
        if (out->data == NULL)
            return error_say(why, MQREDIS_NOMEM, "out of memory");
    }
    out->len = resp_put_command(out->data, argc, argv);
    return MQREDIS_OK;
}

enum mqredis_status encode_argv(struct encoded *out, bool whole, size_t argc,
                                const char *const *argv, const size_t *len,
                                struct mqredis_error *why)
{
    struct resp_arg few[16];
    struct resp_arg *args = few;
    encoded_init(out);
    if (argc == 0 || argc > RESP_ARGS_MAX)
        return error_say(why, argc == 0 ? MQREDIS_INVALID : MQREDIS_TOO_BIG,
                         "a command of %zu arguments: 1 to %d are possible",
                         argc, RESP_ARGS_MAX);
    if (argc > sizeof(few) / sizeof(few[0])) {
        args = malloc(argc * sizeof(*args));
        if (args == NULL)
            return error_say(why, MQREDIS_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < argc; i++) {
        size_t n = len != NULL ? len[i] : strlen(argv[i]);
        /* No bytes is not the mark of bytes elsewhere. */
        args[i] = (struct resp_arg){.data = n > 0 ? argv[i] : "", .len = n};
    }
    enum mqredis_status s = encode(out, whole, argc, args, why);
    if (args != few)
        free(args);
    return s;
}

/* ---- formats ---- */

/* Arguments being put together: all bytes one after the other. */
struct pieces {
    char *bytes;
    size_t len, cap;
    size_t *ends; /* where each argument ends */
    size_t count, ends_cap;
    bool open; /* within an argument */
    bool nomem;
};

static void add_bytes(struct pieces *p, const char *data, size_t len)
{
    p->open = true;
    if (len > p->cap - p->len) {
        size_t cap = p->cap < 128 ? 128 : p->cap;
        while (cap - p->len < len && cap <= SIZE_MAX / 2)
            cap *= 2;
        char *grown = cap - p->len < len ? NULL : realloc(p->bytes, cap);
        if (grown == NULL) {
            p->nomem = true;
            return;
        }
        p->bytes = grown;
        p->cap = cap;
    }
    assert(p->bytes != NULL || len == 0);
    if (len > 0)
        memcpy(p->bytes + p->len, data, len);
    p->len += len;
}

static void end_arg(struct pieces *p)
{
    if (!p->open)
        return;
    p->open = false;
    if (p->count == p->ends_cap) {
        size_t cap = p->ends_cap == 0 ? 8 : p->ends_cap * 2;
        size_t *grown = realloc(p->ends, cap * sizeof(*grown));
        if (grown == NULL) {
            p->nomem = true;
            return;
        }
        p->ends = grown;
        p->ends_cap = cap;
    }
    p->ends[p->count++] = p->len;
}

enum size {
    SIZE_CHAR,
    SIZE_SHORT,
    SIZE_INT,
    SIZE_LONG,
    SIZE_LLONG,
    SIZE_T,
    SIZE_MAX_T,
    SIZE_DIFF
};

static const char *take_size(const char *f, enum size *size)
{
    *size = SIZE_INT;
    switch (*f) {
    case 'h':
        *size = f[1] == 'h' ? SIZE_CHAR : SIZE_SHORT;
        return f + (f[1] == 'h' ? 2 : 1);
    case 'l':
        *size = f[1] == 'l' ? SIZE_LLONG : SIZE_LONG;
        return f + (f[1] == 'l' ? 2 : 1);
    case 'z':
        *size = SIZE_T;
        return f + 1;
    case 'j':
        *size = SIZE_MAX_T;
        return f + 1;
    case 't':
        *size = SIZE_DIFF;
        return f + 1;
    default:
        return f;
    }
}

/* Passing va_list on takes it by pointer: by value, what the callee takes is
 * not taken from the caller's. */
struct args {
    va_list ap;
};

static void add_signed(struct pieces *p, struct args *a, enum size size)
{
    intmax_t n = 0;
    switch (size) {
    case SIZE_CHAR:
        /* NOLINTNEXTLINE(*-signed-char-misuse,cert-str34-c): a number. */
        n = (signed char)va_arg(a->ap, int);
        break;
    case SIZE_SHORT:
        n = (short)va_arg(a->ap, int);
        break;
    case SIZE_INT:
        n = va_arg(a->ap, int);
        break;
    case SIZE_LONG:
        n = va_arg(a->ap, long);
        break;
    case SIZE_LLONG:
        n = va_arg(a->ap, long long);
        break;
    case SIZE_T:
    case SIZE_DIFF:
        n = va_arg(a->ap, ptrdiff_t);
        break;
    case SIZE_MAX_T:
        n = va_arg(a->ap, intmax_t);
        break;
    }
    char text[NUMBER_MAX];
    int len = snprintf(text, sizeof(text), "%" PRIdMAX, n);
    add_bytes(p, text, (size_t)len);
}

static void add_unsigned(struct pieces *p, struct args *a, enum size size)
{
    uintmax_t n = 0;
    switch (size) {
    case SIZE_CHAR:
        n = (unsigned char)va_arg(a->ap, unsigned);
        break;
    case SIZE_SHORT:
        n = (unsigned short)va_arg(a->ap, unsigned);
        break;
    case SIZE_INT:
        n = va_arg(a->ap, unsigned);
        break;
    case SIZE_LONG:
        n = va_arg(a->ap, unsigned long);
        break;
    case SIZE_LLONG:
        n = va_arg(a->ap, unsigned long long);
        break;
    case SIZE_T:
    case SIZE_DIFF:
        n = va_arg(a->ap, size_t);
        break;
    case SIZE_MAX_T:
        n = va_arg(a->ap, uintmax_t);
        break;
    }
    char text[NUMBER_MAX];
    int len = snprintf(text, sizeof(text), "%" PRIuMAX, n);
    add_bytes(p, text, (size_t)len);
}

/* Whatever the locale, Redis wants a point. */
static void add_real(struct pieces *p, double d, char kind, int precision)
{
    char text[NUMBER_MAX];
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before = c == (locale_t)0 ? c : uselocale(c);
    int len = 0;
    if (kind == 'f')
        len = snprintf(text, sizeof(text), "%.*f", precision, d);
    else if (kind == 'e')
        len = snprintf(text, sizeof(text), "%.*e", precision, d);
    else
        len = snprintf(text, sizeof(text), "%.*g", precision, d);
    if (c != (locale_t)0) {
        uselocale(before);
        freelocale(c);
    }
    add_bytes(p, text, (size_t)len);
}

/* What stands behind a '%'. Returns where the format goes on; NULL: unknown. */
static const char *take_spec(struct pieces *p, const char *f, struct args *a)
{
    int precision = 6;
    bool has_precision = *f == '.';
    if (has_precision) {
        precision = 0;
        for (f++; *f >= '0' && *f <= '9' && precision < 10; f++)
            precision = precision * 10 + (*f - '0');
    }
    enum size size;
    const char *kind = take_size(f, &size);
    bool plain = kind == f && !has_precision;
    switch (*kind) {
    case '%':
        if (plain)
            add_bytes(p, "%", 1);
        return plain ? kind + 1 : NULL;
    case 's':
    case 'b': {
        if (!plain)
            return NULL;
        const char *data = va_arg(a->ap, const char *);
        size_t len = *kind == 'b'   ? va_arg(a->ap, size_t)
                     : data != NULL ? strlen(data)
                                    : 0;
        if (data == NULL && (len > 0 || *kind == 's'))
            return NULL;
        add_bytes(p, data, len);
        return kind + 1;
    }
    case 'c': {
        char byte = (char)va_arg(a->ap, int);
        add_bytes(p, &byte, 1);
        return plain ? kind + 1 : NULL;
    }
    case 'd':
    case 'i':
        add_signed(p, a, size);
        return has_precision ? NULL : kind + 1;
    case 'u':
        add_unsigned(p, a, size);
        return has_precision ? NULL : kind + 1;
    case 'f':
    case 'e':
    case 'g':
        if (kind != f)
            return NULL;
        add_real(p, va_arg(a->ap, double), *kind, precision);
        return kind + 1;
    default:
        return NULL;
    }
}

/* Splits and fills in the format. NULL: done; else where it is wrong. */
static const char *fill(struct pieces *p, const char *format, struct args *a)
{
    const char *f = format;
    while (*f != '\0') {
        if (*f == ' ') {
            end_arg(p);
            f++;
        } else if (*f == '%') {
            const char *next = take_spec(p, f + 1, a);
            if (next == NULL)
                return f;
            f = next;
        } else {
            size_t n = strcspn(f, " %");
            add_bytes(p, f, n);
            f += n;
        }
    }
    end_arg(p);
    return NULL;
}

enum mqredis_status encode_format(struct encoded *out, bool whole,
                                  const char *format, va_list ap,
                                  struct mqredis_error *why)
{
    struct pieces p = {.open = false};
    struct args a;
    encoded_init(out);
    va_copy(a.ap, ap);
    const char *wrong = fill(&p, format, &a);
    va_end(a.ap);
    enum mqredis_status s = MQREDIS_OK;
    struct resp_arg few[16];
    struct resp_arg *args = few;
    if (p.count > sizeof(few) / sizeof(few[0])) {
        args = malloc(p.count * sizeof(*args));
        p.nomem |= args == NULL;
    }
    if (wrong != NULL) {
        s = error_say(why, MQREDIS_INVALID,
                      "format: nothing known, or a null pointer, at '%.20s'",
                      wrong);
    } else if (p.nomem) {
        s = error_say(why, MQREDIS_NOMEM, "out of memory");
    } else if (p.count == 0 || p.count > RESP_ARGS_MAX) {
        s = error_say(why, p.count == 0 ? MQREDIS_INVALID : MQREDIS_TOO_BIG,
                      "a command of %zu arguments: 1 to %d are possible",
                      p.count, RESP_ARGS_MAX);
    } else {
        size_t start = 0;
        for (size_t i = 0; i < p.count; i++) {
            size_t n = p.ends[i] - start;
            args[i] = (struct resp_arg){.data = n > 0 ? p.bytes + start : "",
                                        .len = n};
            start = p.ends[i];
        }
        s = encode(out, whole, p.count, args, why);
        if (out->blobs.count > 0) {
            out->kept = p.bytes;
            p.bytes = NULL;
        }
    }
    if (args != few)
        free(args);
    free(p.bytes);
    free(p.ends);
    return s;
}
