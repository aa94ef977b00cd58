<?php

/* The cases of tests/check_bindings_php.c. */

declare(strict_types=1);

use Mqredis\Client;
use Mqredis\Exception;
use Mqredis\ExpiredException;
use Mqredis\InvalidException;
use Mqredis\LaggedException;
use Mqredis\LostException;
use Mqredis\ReplyException;
use Mqredis\UnavailableException;

require __DIR__ . '/../../../../tests/script.php';
require __DIR__ . '/../src/autoload.php';

foreach (['ffi', 'pcntl'] as $extension) {
    if (!extension_loaded($extension)) {
        cannot("this php has no extension $extension");
    }
}

const CHILDREN = 12;
const ROUNDS = 200;

/** All bytes there are. */
function every_byte(): string
{
    return implode('', array_map('chr', range(0, 255)));
}

/** What a child of a pool does: values that carry its name, seen again. */
function work(Client $mq, string $name): void
{
    for ($i = 0; $i < ROUNDS; $i++) {
        $mine = "$name request $i " . str_repeat('x', $i * 17 % 1500);
        $mq->set("key:$name", $mine);
        same($mine, $mq->get("key:$name"), 'crossed');
    }
}

/** How many connections its Redis has, by name of the client. */
function connections(Client $mq): int
{
    return count(explode("\n", trim($mq->command('CLIENT', 'LIST'))));
}

$cases = [];

$cases['strings hold any bytes, nil is null'] = function (): void {
    $mq = new Client();
    foreach ([every_byte(), '', "\0", "a\r\nb", 'ü', '%s %b'] as $value) {
        $mq->set('k', $value);
        same($value, $mq->get('k'));
        $mq->set($value . 'key', $value);
        same($value, $mq->get($value . 'key'));
    }
    same(null, $mq->get('nothing'));
    same('5', $mq->command('ECHO', 5));
    same('0.1', $mq->command('ECHO', 0.1));
};

$cases['a large value'] = function (): void {
    $mq = new Client();
    $value = str_repeat(every_byte(), 5 * 4096);
    same(5 << 20, strlen($value));
    $mq->set('large', $value);
    same(true, $value === $mq->get('large'));
    [, $seen] = $mq->batch([['SET', 'other', $value], ['GET', 'other']]);
    same(true, $value === $seen);
};

$cases['many arguments'] = function (): void {
    $mq = new Client();
    $values = array_map(fn ($i) => "value $i", range(0, 9999));
    same(10000, $mq->rPush('list', ...$values));
    same($values, $mq->lRange('list', 0, -1));
    same(['', 'a'], $mq->batch([['ECHO', ''], ['ECHO', 'a']]));
    $empty = array_fill(0, 100, '');
    same(100, $mq->rPush('empties', ...$empty));
    same($empty, $mq->lRange('empties', 0, -1));
};

$cases['replies have their types'] = function (): void {
    $mq = new Client();
    same(1, $mq->incr('n'));
    same(-4, $mq->incrBy('n', -5));
    $mq->set('most', PHP_INT_MAX - 1);
    same(PHP_INT_MAX, $mq->incr('most'));
    same('OK', $mq->command('SET', 'k', 'v'));
    same(null, $mq->command('SET', 'k', 'v', 'NX'));
    $mq->hSet('h', 'name', 'Ada', '7', 'seven');
    $h = $mq->hGetAll('h');
    ksort($h);
    same([7 => 'seven', 'name' => 'Ada'], $h);
    $mq->zAdd('z', 1.5, 'one');
    same(1.5, $mq->zScore('z', 'one'));
    same(3, $mq->info()['resp']);
    $mq->sAdd('s', 'a');
    same(['a'], $mq->sMembers('s'));
    same([1, [2, ['3', null]]], $mq->command(
        'EVAL',
        "return {1, {2, {'3', false}}}",
        0
    ));
    same([], $mq->keys('nothing*'));
};

$cases['errors have their classes'] = function (): void {
    $mq = new Client();
    $mq->set('k', 'text');
    $e = throws(ReplyException::class, fn () => $mq->lPush('k', 'x'));
    same('WRONGTYPE', $e->prefix());
    same(true, $e instanceof Exception);
    $e = throws(InvalidException::class, fn () => $mq->multi());
    same(true, $e->wasNotExecuted());
    same(1, $e->getCode());
    throws(TypeError::class, fn () => $mq->batch([['GET', ['k']]]));
    throws(TypeError::class, fn () => $mq->batch([['GET', null]]));
    throws(ValueError::class, fn () => $mq->batch([[]]));
    throws(ValueError::class, fn () => $mq->setTimeout(-1.0));
    throws(Exception::class, fn () => new Client(str_repeat('x', 300)));
    $mq->close();
    throws(LogicException::class, fn () => $mq->get('k'));
    $mq->close();
    throws(LogicException::class, fn () => serialize($mq));
};

$cases['a batch gives each command its reply'] = function (): void {
    $mq = new Client();
    same([], $mq->batch([]));
    $replies = $mq->batch([
        ['SET', 'a', '1'],
        ['LPUSH', 'a', 'x'],
        ['INCRBY', 'a', 41],
        ['GET', 'none'],
    ]);
    same('OK', $replies[0]);
    same(ReplyException::class, get_class($replies[1]));
    same([42, null], [$replies[2], $replies[3]]);
    $generated = (function () {
        for ($i = 0; $i < 1000; $i++) {
            yield ['INCR', 'n'];
        }
    })();
    same(range(1, 1000), $mq->batch($generated));
};

$cases['a transaction is all or nothing'] = function (): void {
    $mq = new Client();
    same(['OK', 2], $mq->transaction([['SET', 't', 1], ['INCR', 't']]));
    throws(ReplyException::class, fn () => $mq->transaction([
        ['SET', 't', 'other'],
        ['NOSUCHCOMMAND'],
    ]));
    same('2', $mq->get('t'));
    [$ok, $error] = $mq->transaction([['INCR', 't'], ['LPUSH', 't', 'x']]);
    same(3, $ok);
    same('WRONGTYPE', $error->prefix());
};

$cases['time is in seconds'] = function (): void {
    $mq = new Client(timeout: 0.2);
    $t0 = microtime(true);
    $e = throws(Exception::class, fn () => $mq->command('BLPOP', 'q', 0));
    $took = microtime(true) - $t0;
    same(true, $e instanceof LostException || $e instanceof ExpiredException);
    same(true, $took >= 0.19 && $took < 8, "$took s");
    $mq->setTimeout(10.0);
    same(null, $mq->command('BLPOP', 'q', 0.1));
    $mq->setTimeout(null);
    same('PONG', $mq->ping());
};

$cases['the manager comes and goes'] = function (): void {
    $mq = new Client();
    $mq->waitReady(10.0);
    same('connected', $mq->info()['state']);
    $mq->set('k', 'before');
    order('kill manager');
    $e = throws(UnavailableException::class, fn () => $mq->get('k'));
    same(true, $e->wasNotExecuted());
    throws(UnavailableException::class, fn () => $mq->waitReady(0.1));
    throws(UnavailableException::class, fn () => $mq->info());
    order('start manager');
    $mq->waitReady(10.0);
    same('before', $mq->get('k'));
};

$cases['children on one handle'] = function (): void {
    $mq = new Client(timeout: 30.0);
    $mq->ping();
    $pids = [];
    for ($i = 0; $i < CHILDREN; $i++) {
        $pids[] = child(fn () => work($mq, "child $i"));
    }
    work($mq, 'parent');
    $statuses = array_map('joined', $pids);
    same(array_fill(0, CHILDREN, 0), $statuses);
    /* One for commands, one for large ones, this one's own, and few more: not
     * one for each child. */
    same(true, connections($mq) < 5, 'connections ' . connections($mq));
};

$cases['children killed and replaced'] = function (): void {
    $mq = new Client(timeout: 30.0);
    $children = [];
    for ($i = 0; $i < 40; $i++) {
        $children[] = child(fn () => work($mq, "child $i"));
        if ($i >= 8) {
            $oldest = array_shift($children);
            posix_kill($oldest, $i % 2 ? SIGKILL : SIGTERM);
            joined($oldest);
        }
    }
    same(array_fill(0, 8, 0), array_map('joined', $children));
    work($mq, 'parent');
};

$cases['a persistent handle'] = function (): void {
    $first = Client::persistent();
    $first->set('k', 'v');
    $variables = fn () => array_keys(array_filter(
        explode("\0", file_get_contents('/proc/self/environ')),
        fn ($v) => str_starts_with($v, 'MQREDIS_PHP_HANDLE_')
    ));
    $descriptors = fn () => count(scandir('/proc/self/fd'));
    $open = $descriptors();
    unset($first);
    for ($i = 0; $i < 20; $i++) {
        $again = Client::persistent(null, 1.0);
        same('v', $again->get('k'));
        $again->close();
    }
    same($open, $descriptors(), 'descriptors');
    /* In children, and in a program that is exec'd with the variable. */
    same(0, joined(child(fn () => work(Client::persistent(), 'child'))));
    $code = 'require $argv[1]; echo Mqredis\Client::persistent()->get("k");';
    $autoload = __DIR__ . '/../src/autoload.php';
    same('v', shell_exec(sprintf(
        '%s -r %s %s',
        escapeshellarg(PHP_BINARY),
        escapeshellarg($code),
        escapeshellarg($autoload)
    )));
    /* What somebody else left there is not believed. */
    $ffi = Mqredis\Library::get();
    foreach (['', 'x', 'x:1', str_repeat('0', 32) . ':16'] as $lie) {
        $name = 'MQREDIS_PHP_HANDLE_' . hash('xxh64', implode("\0", [
            'getenv ' . getenv('MQREDIS_CHANNEL'),
            (string) getenv('MQREDIS_DIR'),
        ]));
        $ffi->setenv($name, $lie, 1);
        same('v', Client::persistent()->get('k'));
    }
};

$cases['messages of a subscription'] = function (): void {
    $mq = new Client();
    $news = $mq->subscribe('news', 'other');
    $any = $mq->psubscribe('n*');
    same(null, $news->next(0.05));
    $mq->publish('news', every_byte());
    $mq->publish('other', '');
    $message = $news->next(10.0);
    same(['news', every_byte(), null], array_values((array) $message));
    same('other', $news->next(10.0)->channel);
    same('n*', $any->next(10.0)->pattern);
    $shard = $mq->ssubscribe('news');
    $mq->command('SPUBLISH', 'news', 'mine');
    same('mine', $shard->next(10.0)->data);
    $mq->publish('news', 'again');
    foreach ($any as $message) {
        same('again', $message->data);
        break;
    }
};
$cases['a subscription outlives its manager'] = function (): void {
    $mq = new Client();
    $news = $mq->subscribe('news');
    order('kill manager');
    throws(UnavailableException::class, fn () => $news->next(10.0));
    order('start manager');
    $news->renew(10.0);
    throws(LaggedException::class, fn () => $news->next(10.0));
    $mq->publish('news', 'back');
    same('back', $news->next(10.0)->data);
    $mq->close();
    throws(LogicException::class, fn () => $news->next());
    $news->close();
};

$cases['declarations are those of the header'] = function (): void {
    $ffi = Mqredis\Library::get();
    $replies = (new ReflectionClass(Mqredis\Reply::class))->getConstants();
    $abi = getenv('MQREDIS_BUILD') . '/tests/mqredis_abi';
    exec(escapeshellarg($abi), $lines, $status);
    same(0, $status, $abi);
    preg_match_all(
        '/\bMQREDIS_[A-Z_]+\b/',
        Mqredis\Library::declarations(),
        $matches
    );
    $declared = array_flip($matches[0]);
    $seen = ['struct' => [], 'field' => 0, 'enum' => 0, 'Reply' => 0];
    foreach ($lines as $line) {
        [$kind, $name, $first, $second] = explode(' ', $line) + [3 => ''];
        if ($kind === 'enum') {
            $short = str_replace('MQREDIS_', '', $name);
            if (isset($replies[$short])) {
                same((int) $first, $replies[$short], $line);
                $seen['Reply']++;
            }
            if (isset($declared[$name])) {
                same((int) $first, $ffi->$name, $line);
                $seen['enum']++;
            }
            continue;
        }
        [$struct, $member] = explode('.', $name) + ['', ''];
        if ($struct === 'mqredis_raw') {
            continue;
        }
        $type = $ffi->type("struct $struct");
        if ($kind === 'struct') {
            same((int) $first, FFI::sizeof($type), $line);
            $seen['struct'][$name] = count($type->getStructFieldNames());
            continue;
        }
        same((int) $first, $type->getStructFieldOffset($member), $line);
        $size = FFI::sizeof($type->getStructFieldType($member));
        same((int) $second, $size, $line);
        $seen['field']++;
    }
    /* Every declaration was compared. */
    same(4, count($seen['struct']));
    same(array_sum($seen['struct']), $seen['field']);
    same(count($declared), $seen['enum']);
    same(count($replies), $seen['Reply']);
};

$cases['the example'] = function (): void {
    $command = escapeshellarg(PHP_BINARY) . ' '
        . escapeshellarg(__DIR__ . '/../example.php');
    exec($command, $lines, $status);
    same([['400 requests counted'], 0], [$lines, $status]);
};

/* A server whose classes are preloaded, with ffi.enable=preload, as FPM has it
 * by default: outside of the command line FFI is for preloaded code only. */
$cases['a server that preloads'] = function (): void {
    if (!extension_loaded('Zend OPcache')) {
        cannot('this php has no opcache');
    }
    $known = explode(' ', preg_replace('/\s+/', ' ',
        trim(file_get_contents('/proc/self/uid_map'))))[2];
    if (posix_geteuid() === 0 && $known < 65535) {
        cannot('preloading takes a root who may become other users');
    }
    $folder = sys_get_temp_dir();
    file_put_contents("$folder/index.php", '<?php
        $mq = Mqredis\Client::persistent();
        $n = $mq->incr("hits");
        try {
            FFI::cdef("int getpid(void);");
            echo "not restricted";
        } catch (FFI\Exception) {
            echo "$n by ", getmypid(), " fds ", count(scandir("/proc/self/fd"));
        }');
    $probe = stream_socket_server('tcp://127.0.0.1:0');
    $at = stream_socket_get_name($probe, false);
    fclose($probe);
    $root = dirname(__DIR__);
    $user = posix_getpwuid(posix_geteuid())['name'];
    $server = proc_open([
        PHP_BINARY, '-d', 'opcache.enable=1', '-d', 'ffi.enable=preload',
        '-d', "ffi.preload=$root/src/mqredis.ffi.h",
        '-d', "opcache.preload=$root/preload.php",
        '-d', "opcache.preload_user=$user",
        '-S', $at, '-t', $folder,
    ], [['file', '/dev/null', 'r'], ['file', "$folder/log", 'a'],
        ['file', "$folder/log", 'a']], $pipes, $folder, getenv() + [
            'LD_LIBRARY_PATH' => dirname(getenv('MQREDIS_LIBRARY')),
        ]);
    try {
        $answers = [];
        $end = microtime(true) + 30;
        while (count($answers) < 5 && microtime(true) < $end) {
            $text = @file_get_contents("http://$at/");
            if ($text === false) {
                usleep(20000);
                continue;
            }
            $answers[] = $text;
        }
        $log = file_get_contents("$folder/log");
        same(5, count($answers), $log);
        preg_match('/^1 by \d+ fds (\d+)$/', $answers[0], $match)
            || throw new RuntimeException($answers[0] . $log);
        foreach ($answers as $i => $answer) {
            same(1, preg_match('/^(\d+) by \d+ fds (\d+)$/', $answer, $m), $answer);
            same([$i + 1, $match[1]], [(int) $m[1], $m[2]]);
        }
    } finally {
        proc_terminate($server);
        proc_close($server);
        unlink("$folder/index.php");
        unlink("$folder/log");
    }
};

run_cases($cases, $argv);
