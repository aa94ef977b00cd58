/* Numbers in text. */
#include "server/number.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool number_parse(const char *text, size_t len, int64_t *value)
{
    if (len == 1 && text[0] == '0') {
        *value = 0;
        return true;
    }
    bool negative = len > 0 && text[0] == '-';
    size_t i = negative ? 1 : 0;
    if (i == len || text[i] < '1' || text[i] > '9')
        return false;
    uint64_t n = 0;
    uint64_t limit = negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX;
    for (; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (n > (limit - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *value = negative ? (int64_t)(0 - n) : (int64_t)n;
    return true;
}

bool number_parse_float(const char *text, size_t len, long double *value)
{
    char copy[NUMBER_FLOAT_MAX];
    if (len == 0 || len >= sizeof(copy) || isspace((unsigned char)text[0]))
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    char *end = NULL;
    errno = 0;
    long double n = strtold(copy, &end);
    if (end != copy + len || errno == EINVAL || isnan(n))
        return false;
    /* Too large or too small for the type; a subnormal number is neither. */
    if (errno == ERANGE && (isinf(n) || fpclassify(n) == FP_ZERO))
        return false;
    *value = n;
    return true;
}

size_t number_format_float(char *out, long double value)
{
    if (isinf(value)) {
        return (size_t)snprintf(out, NUMBER_FLOAT_MAX, "%sinf",
                                value > 0 ? "" : "-");
    }
    int n = snprintf(out, NUMBER_FLOAT_MAX, "%.17Lf", value);
    size_t len = n < 0 ? 0 : (size_t)n;
    if (len >= NUMBER_FLOAT_MAX)
        return 0;
    while (len > 0 && out[len - 1] == '0')
        len--;
    if (len > 0 && out[len - 1] == '.')
        len--;
    if (len == 2 && memcmp(out, "-0", 2) == 0) {
        out[0] = '0';
        len = 1;
    }
    out[len] = '\0';
    return len;
}

bool number_parse_memory(const char *text, size_t len, uint64_t *bytes)
{
    static const struct {
        const char *name;
        uint64_t factor;
    } units[] = {
        {"", 1},        {"b", 1},        {"k", 1000},       {"kb", 1 << 10},
        {"m", 1000000}, {"mb", 1 << 20}, {"g", 1000000000}, {"gb", 1 << 30},
    };
    size_t digits = 0;
    while (digits < len && text[digits] >= '0' && text[digits] <= '9')
        digits++;
    int64_t n;
    if (!number_parse(text, digits, &n))
        return false;
    size_t rest = len - digits;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strlen(units[i].name) != rest ||
            strncasecmp(units[i].name, text + digits, rest) != 0)
            continue;
        return !__builtin_mul_overflow((uint64_t)n, units[i].factor, bytes) &&
               *bytes <= INT64_MAX;
    }
    return false;
}
