/* Judging commands that a test writes as text. */
#ifndef TESTS_SUPPORT_POLICY_H
#define TESTS_SUPPORT_POLICY_H

#include "manager/policy.h"

#include <stdlib.h>
#include <string.h>

/* One letter per route: S D C P R. */
static inline char route_letter(enum route route)
{
    switch (route) {
    case ROUTE_SHARED:
        return 'S';
    case ROUTE_DEDICATED:
        return 'D';
    case ROUTE_CONTROL:
        return 'C';
    case ROUTE_SUBSCRIBE:
        return 'P';
    case ROUTE_REFUSED:
        return 'R';
    }
    return '?';
}

/* Splits "GET k" at spaces; `@N` is a large argument of N bytes. Every word is
 * a copy of its own size, so that a sanitizer sees a byte read beyond it. */
static inline uint32_t words_new(const char *text, size_t len,
                                 struct resp_arg *argv, uint32_t max)
{
    uint32_t argc = 0;
    size_t i = 0;
    while (argc < max) {
        while (i < len && text[i] == ' ')
            i++;
        size_t begin = i;
        while (i < len && text[i] != ' ')
            i++;
        if (i == begin && argc > 0)
            break;
        char *copy = NULL;
        size_t size = i - begin;
        if (size > 1 && text[begin] == '@') {
            size = strtoul(text + begin + 1, NULL, 10);
        } else {
            copy = malloc(size > 0 ? size : 1);
            if (copy == NULL)
                abort();
            memcpy(copy, text + begin, size);
        }
        argv[argc++] = (struct resp_arg){copy, size};
    }
    return argc;
}

static inline void words_free(struct resp_arg *argv, uint32_t argc)
{
    for (uint32_t i = 0; i < argc; i++)
        free((void *)(uintptr_t)argv[i].data);
}

/* Judges "MULTI; GET k; EXEC" and writes a letter per command, then, unless
 * one was refused, ';' and the letter of the whole. */
static inline void judge_text(const struct policy *policy, const char *text,
                              bool independent, char *routes,
                              struct err_text *why)
{
    uint32_t ncommands = 1;
    for (const char *p = text; *p != '\0'; p++)
        ncommands += *p == ';';
    struct policy_batch batch;
    policy_begin(&batch, policy, ncommands, independent);
    for (const char *p = text;; p++) {
        struct resp_arg argv[64];
        size_t len = strcspn(p, ";");
        uint32_t argc = words_new(p, len, argv, 64);
        *routes++ = route_letter(policy_command(&batch, argc, argv, why));
        words_free(argv, argc);
        p += len;
        if (routes[-1] == 'R')
            break;
        if (*p == '\0') {
            *routes++ = ';';
            *routes++ = route_letter(policy_end(&batch, why));
            break;
        }
    }
    *routes = '\0';
}

#endif
