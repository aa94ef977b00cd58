/*
 * The program of the Tokio tutorial's chapter on channels, with processes for
 * tasks: one sets a value, one gets another, and neither has a connection of
 * its own. The parent holds a sender, too (the tutorial's `tx`), until both are
 * started.
 *
 *     cc tutorial.c $(pkg-config --cflags --libs mqredis) -o tutorial
 *     mqredis-manager --redis redis://127.0.0.1 &
 *     ./tutorial
 */
#include <mqredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Prints a reply as the tutorial does, and gives the exit status. */
static int got(const char *what, struct mqredis_reply *reply)
{
    int status = 0;
    if (reply->type == MQREDIS_STATUS || reply->type == MQREDIS_STRING) {
        printf("GOT (%s) = %s\n", what, reply->str);
    } else if (reply->type == MQREDIS_NIL) {
        printf("GOT (%s) = (nil)\n", what);
    } else {
        /* An error of Redis, or no reply at all: both have a text. */
        fprintf(stderr, "%s: %s\n", what, reply->str ? reply->str : "?");
        status = 1;
    }
    mqredis_free(reply);
    return status;
}

int main(void)
{
    struct mqredis_error error;
    struct mqredis *tx = mqredis_open(NULL, &error);
    if (tx == NULL) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    /* Each child inherits the handle, and gets an address of its own. */
    pid_t t1 = fork();
    if (t1 == 0)
        exit(got("Get", mqredis_get(tx, "hello")));
    pid_t t2 = fork();
    if (t2 == 0)
        exit(got("Set", mqredis_set(tx, "foo", "bar", 3)));
    mqredis_close(tx);
    if (t1 < 0 || t2 < 0) {
        perror("fork");
        return 1;
    }
    int failed = 0, status;
    while (wait(&status) > 0)
        failed |= status != 0;
    return failed;
}
