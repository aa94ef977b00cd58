<?php

/*
 * A pool of processes that use a channel which was opened before they were
 * forked, as the workers of a queue do.
 *
 *     php example.php [CHILDREN]
 */

declare(strict_types=1);

use Mqredis\Client;
use Mqredis\Exception;

require __DIR__ . '/src/autoload.php';

function serve(Client $mq, int $child): void
{
    for ($i = 0; $i < 100; $i++) {
        $mine = "child $child, request $i";
        [, $seen] = $mq->batch([
            ['SET', "example:$child", $mine],
            ['GET', "example:$child"],
        ]);
        if ($seen !== $mine) {
            throw new RuntimeException("wrong: $seen");
        }
        $mq->incr('example:count');
    }
}

try {
    $mq = new Client(timeout: 2.0);
    $mq->waitReady();
    $mq->del('example:count');
    $pids = [];
    for ($child = 0; $child < (int) ($argv[1] ?? 4); $child++) {
        $pid = pcntl_fork();
        if ($pid === 0) {
            serve($mq, $child);
            exit(0);
        }
        $pids[] = $pid;
    }
    foreach ($pids as $pid) {
        pcntl_waitpid($pid, $status);
        if ($status !== 0) {
            exit(1);
        }
    }
    printf("%s requests counted\n", $mq->get('example:count'));
} catch (Exception $e) {
    fwrite(STDERR, $e->getMessage() . "\n");
    exit(1);
}
