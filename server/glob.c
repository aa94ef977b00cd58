/*
 * Patterns, matched without recursion: after a mismatch only the last star can
 * take one more byte, since an earlier one has nothing to gain.
 */
#include "server/glob.h"

/* Whether the class that begins behind its '[' contains c; *next is set behind
 * its end. A class that is not closed ends with the pattern. */
static bool in_class(const char *p, const char *end, unsigned char c,
                     const char **next)
{
    bool negated = p < end && *p == '^';
    bool found = false;
    if (negated)
        p++;
    for (; p < end && *p != ']'; p++) {
        if (*p == '\\' && end - p >= 2) {
            p++;
            if ((unsigned char)*p == c)
                found = true;
        } else if (end - p >= 3 && p[1] == '-') {
            unsigned char low = (unsigned char)p[0];
            unsigned char high = (unsigned char)p[2];
            if (low > high ? (c >= high && c <= low) : (c >= low && c <= high))
                found = true;
            p += 2;
        } else if ((unsigned char)*p == c) {
            found = true;
        }
    }
    *next = p < end ? p + 1 : p;
    return found != negated;
}

/* Matches one element of the pattern, not a star, against one byte. */
static bool one(const char *p, const char *end, char c, const char **next)
{
    *next = p + 1;
    switch (*p) {
    case '?':
        return true;
    case '[':
        return in_class(p + 1, end, (unsigned char)c, next);
    case '\\':
        if (end - p >= 2) {
            *next = p + 2;
            return p[1] == c;
        }
        return c == '\\';
    default:
        return *p == c;
    }
}

bool glob_match(const char *pattern, size_t pattern_len, const char *text,
                size_t len)
{
    const char *p = pattern, *p_end = pattern + pattern_len;
    const char *t = text, *t_end = text + len;
    const char *star = NULL, *star_text = NULL;
    /* As in Redis, an empty text is only matched by an empty pattern. */
    if (len == 0)
        return pattern_len == 0;
    while (t < t_end) {
        const char *next;
        if (p < p_end && *p == '*') {
            star = ++p;
            star_text = t;
        } else if (p < p_end && one(p, p_end, *t, &next)) {
            p = next;
            t++;
        } else if (star != NULL) {
            p = star;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < p_end && *p == '*')
        p++;
    return p == p_end;
}
