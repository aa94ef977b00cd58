<?php

/* phpredis on the gateway. */

declare(strict_types=1);

require __DIR__ . '/../script.php';

if (!extension_loaded('redis')) {
    cannot('this php has no extension redis (Debian: php-redis)');
}

function every_byte(): string
{
    return implode('', array_map('chr', range(0, 255)));
}

function connect(float $read_timeout = 20.0, bool $persistent = false): Redis
{
    $r = new Redis();
    $call = $persistent ? 'pconnect' : 'connect';
    if (getenv('MQREDIS_TRANSPORT') === 'tcp') {
        $port = (int) getenv('MQREDIS_GATEWAY_PORT');
        $ok = $r->$call('127.0.0.1', $port, 5.0);
    } else {
        $ok = $r->$call(getenv('MQREDIS_GATEWAY_SOCKET'));
    }
    same(true, $ok, 'connect');
    $r->setOption(Redis::OPT_READ_TIMEOUT, $read_timeout);

    return $r;
}

/** Waits for what is to happen, ten seconds at most. */
function until(callable $holds, string $what): void
{
    $end = microtime(true) + 10;
    while (!$holds()) {
        if (microtime(true) > $end) {
            throw new RuntimeException("never: $what");
        }
        usleep(2000);
    }
}

$cases = [];

$cases['handshake'] = function (): void {
    $r = connect();
    same(true, $r->ping());
    same(true, $r->client('setname', 'a-name'));
    same('a-name', $r->client('getname'));
    same(true, $r->select(0));
    same(false, $r->select(1));
    $other = connect(persistent: true);
    same('hello', $other->echo('hello'));
};

$cases['strings'] = function (): void {
    $r = connect();
    foreach ([every_byte(), '', "\0", "a\r\nb", 'ü'] as $value) {
        same(true, $r->set("k$value", $value));
        same($value, $r->get("k$value"));
    }
    same(false, $r->get('nothing'));
    $r->set('k', 'v');
    same(false, $r->set('k', 'w', ['nx']));
    same(['v', false], $r->mGet(['k', 'nothing']));
};

$cases['types'] = function (): void {
    $r = connect();
    same(1, $r->incr('n'));
    same(1.5, $r->incrByFloat('f', 1.5));
    $r->hMSet('h', ['a' => '1', 'b' => '2']);
    same(['a' => '1', 'b' => '2'], $r->hGetAll('h'));
    $r->zAdd('z', 1, 'one', 2.5, 'two');
    same(2.5, $r->zScore('z', 'two'));
    same(['one' => 1.0, 'two' => 2.5], $r->zRange('z', 0, -1, true));
    $r->sAdd('s', 'a');
    same(['a'], $r->sMembers('s'));
    same([1, Redis::REDIS_SET], [$r->exists('h'), $r->type('s')]);
    $r->rPush('l', ...range(0, 99));
    same(array_map('strval', range(0, 99)), $r->lRange('l', 0, -1));
    $r->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
    $keys = [];
    $at = null;
    while (($some = $r->scan($at, '*', 2)) !== false) {
        array_push($keys, ...$some);
    }
    sort($keys);
    same(['f', 'h', 'l', 'n', 's', 'z'], $keys);
    same('1-1', $r->xAdd('x', '1-1', ['f' => 'v']));
    same(['1-1' => ['f' => 'v']], $r->xRange('x', '-', '+'));
    same(true, isset($r->info('server')['redis_version']));
};

$cases['pipeline'] = function (): void {
    $r = connect();
    $p = $r->pipeline();
    for ($i = 0; $i < 2000; $i++) {
        $p->set("k$i", "v$i");
        $p->get("k$i");
    }
    $replies = $p->exec();
    same(4000, count($replies));
    foreach ($replies as $i => $reply) {
        same($i % 2 ? 'v' . intdiv($i, 2) : true, $reply);
    }
    same(
        [true, false, 'v'],
        $r->pipeline()->set('k', 'v')->lPush('k', '1')->get('k')->exec()
    );
};

$cases['transaction'] = function (): void {
    $r = connect();
    same([true, 2], $r->multi()->set('t', '1')->incr('t')->exec());
    same([3, false], $r->multi()->incr('t')->lPush('t', 'x')->exec());
    same(true, $r->multi()->set('t', '9')->discard());
    same('3', $r->get('t'));
    throws(RedisException::class, fn () => $r->watch('t'));
};

$cases['scripts'] = function (): void {
    $r = connect();
    $script = 'return {KEYS[1], ARGV[1], 7}';
    same(['k', 'a', 7], $r->eval($script, ['k', 'a'], 1));
    same(['k', 'b', 7], $r->evalSha(sha1($script), ['k', 'b'], 1));
    same(false, $r->evalSha(str_repeat('0', 40)));
    same(true, str_contains($r->getLastError(), 'NOSCRIPT'));
    same(sha1('return 1'), $r->script('load', 'return 1'));
};

$cases['pubsub'] = function (): void {
    $pid = child(function (): void {
        $r = connect();
        until(
            fn () => $r->publish('news', 'ready?') >= 1,
            'somebody listens'
        );
        $r->publish('news', every_byte());
        $r->publish('news', 'last');
    });
    $seen = [];
    $r = connect();
    try {
        $r->subscribe(['other', 'news'], function ($r, $channel, $data) use (&$seen) {
            same('news', $channel);
            $seen[] = $data;
            if ($data === 'last') {
                $r->close();
            }
        });
    } catch (RedisException $e) {
        /* That is how one leaves subscribe(). */
        same('last', end($seen), $e->getMessage());
    }
    same(0, joined($pid));
    same([every_byte(), 'last'], array_slice($seen, -2));
};

$cases['blocking'] = function (): void {
    $r = connect();
    same([], $r->blPop(['q'], 1));
    $pid = child(fn () => same(['q', 'x'], connect()->blPop(['q'], 15)));
    $blocks = fn () => in_array('blpop', array_column($r->client('list'), 'cmd'));
    until($blocks, 'it blocks');
    $r->rPush('q', 'x');
    same(0, joined($pid));
    $quick = connect(0.3);
    throws(RedisException::class, fn () => $quick->blPop(['gone'], 0));
    $quick->close();
    until(fn () => !$blocks(), 'it is gone');
    $r->rPush('gone', 'kept');
    same(1, $r->lLen('gone'));
};

$cases['errors'] = function (): void {
    $r = connect();
    $r->set('k', 'text');
    same(false, $r->lPush('k', 'x'));
    same(true, str_starts_with($r->getLastError(), 'WRONGTYPE'));
    $r->clearLastError();
    same(false, $r->rawCommand('NOSUCHCOMMAND'));
    same(true, str_starts_with($r->getLastError(), 'ERR unknown command'));
    same('text', $r->get('k'));
};

$cases['large'] = function (): void {
    $r = connect();
    $value = str_repeat(every_byte(), 5 * 4096);
    same(true, $r->set('large', $value));
    same(true, $value === $r->get('large'));
    $replies = $r->multi()->set('a', $value)->get('large')->exec();
    same(true, $replies === [true, $value]);
};

$cases['reconnect'] = function (): void {
    $r = connect();
    $r->set('k', 'before');
    order('kill manager');
    try {
        same(false, $r->get('k'));
        same(true, $r->getLastError() !== null);
    } catch (RedisException) {
        /* As good. */
    }
    order('start manager');
    until(function () use ($r): bool {
        try {
            return $r->get('k') === 'before';
        } catch (RedisException) {
            return false;
        }
    }, 'the gateway finds the new manager');
};

$cases['many connections'] = function (): void {
    $pids = [];
    for ($child = 0; $child < 16; $child++) {
        $pids[] = child(function () use ($child): void {
            $r = connect();
            for ($i = 0; $i < 100; $i++) {
                $mine = "child $child $i " . str_repeat('x', $i * 17 % 1500);
                $r->set("k$child", $mine);
                same($mine, $r->get("k$child"), 'crossed');
            }
        });
    }
    same(array_fill(0, 16, 0), array_map('joined', $pids));
    same(true, count(connect()->client('list')) < 8);
};

run_cases($cases, $argv);
