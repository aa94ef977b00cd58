/*
 * A pool of processes that were forked before there was work, as servers of the
 * prefork kind have them. The parent opened the handle; every child uses it
 * without a call in between, and no reply reaches the wrong one.
 *
 *     ./prefork [CHILDREN [REQUESTS]]
 */
#include <mqredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* One child's work: values that nobody else has, written and read again. */
static int serve(struct mqredis *mq, int child, int requests)
{
    for (int i = 0; i < requests; i++) {
        char value[64];
        snprintf(value, sizeof(value), "child %d, request %d", child, i);
        struct mqredis_reply *set =
            mqredis_command(mq, "SET prefork:%d %s", child, value);
        bool ok = set->type == MQREDIS_STATUS;
        if (!ok)
            fprintf(stderr, "child %d: %s\n", child, set->str);
        mqredis_free(set);
        if (!ok)
            return 1;
        struct mqredis_reply *get =
            mqredis_command(mq, "GET prefork:%d", child);
        ok = get->type == MQREDIS_STRING && strcmp(get->str, value) == 0;
        if (!ok)
            fprintf(stderr, "child %d: wrong: %s\n", child,
                    get->str ? get->str : "no string");
        mqredis_free(get);
        if (!ok)
            return 1;
    }
    mqredis_close(mq);
    return 0;
}

int main(int argc, char **argv)
{
    int children = argc > 1 ? atoi(argv[1]) : 8;
    int requests = argc > 2 ? atoi(argv[2]) : 1000;
    struct mqredis_error error;
    struct mqredis *mq = mqredis_open(NULL, &error);
    if (mq == NULL || mqredis_wait_ready(mq, 2000, &error) != MQREDIS_OK) {
        fprintf(stderr, "%s\n", error.text);
        mqredis_close(mq);
        return 1;
    }
    for (int i = 0; i < children; i++) {
        pid_t pid = fork();
        if (pid < 0) {
            perror("fork");
            children = i;
        } else if (pid == 0) {
            exit(serve(mq, i, requests));
        }
    }
    int right = 0, status;
    while (wait(&status) > 0)
        right += status == 0;
    mqredis_close(mq);
    printf("%d of %d children had %d right answers each\n", right, children,
           requests);
    return right == children ? 0 : 1;
}
