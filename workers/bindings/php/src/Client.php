<?php

declare(strict_types=1);

namespace Mqredis;

/**
 * A channel to the manager that owns this host's connection to Redis.
 *
 *     $mq = new Mqredis\Client();
 *     $mq->set('greeting', 'hello');
 *     echo $mq->get('greeting');
 *     $mq->hSet('user:1', 'name', 'Ada');      // any command, by its name
 *
 * Strings hold any bytes, nil is null, times are seconds. What fails throws
 * below Mqredis\Exception: a ReplyException is what Redis said, the others say
 * why there is no answer of Redis and whether the command may have run.
 *
 * After pcntl_fork both processes go on with the object as it is.
 */
final class Client
{
    private const VARIABLE = 'MQREDIS_PHP_HANDLE_';

    private ?\FFI\CData $handle;
    /** Whether the handle stays when this object goes. */
    private bool $persistent;

    /**
     * @param ?string $channel a name, or a path with a slash; null:
     *     $MQREDIS_CHANNEL, else "default"
     * @param ?float $timeout seconds that each call has; null: no limit
     */
    public function __construct(?string $channel = null, ?float $timeout = 5.0)
    {
        $this->handle = self::open($channel);
        $this->persistent = false;
        $this->setTimeout($timeout);
    }

    private static function open(?string $channel): \FFI\CData
    {
        if ($channel !== null && str_contains($channel, "\0")) {
            throw new \ValueError('a channel is named without a zero byte');
        }
        $ffi = Library::get();
        $error = $ffi->new('struct mqredis_error');
        $handle = $ffi->mqredis_open($channel, \FFI::addr($error));
        if ($handle === null) {
            Library::raise($error);
        }

        return $handle;
    }

    public function __destruct()
    {
        $this->close();
    }

    private function __clone()
    {
    }

    public function __serialize(): array
    {
        throw new \LogicException('a channel cannot be serialized');
    }

    /** Frees the handle. Nothing but close() may be called afterwards. */
    public function close(): void
    {
        if (isset($this->handle) && !$this->persistent) {
            Library::get()->mqredis_close($this->handle);
        }
        $this->handle = null;
    }

    public function isOpen(): bool
    {
        return $this->handle !== null;
    }

    /** @internal Whether the C handle lives, and with it its streams. */
    public function handleLives(): bool
    {
        return $this->handle !== null || $this->persistent;
    }

    private function handle(): \FFI\CData
    {
        return $this->handle ?? throw new \LogicException(
            'this Mqredis\Client was closed'
        );
    }

    /** The seconds that every later call has; null: no limit. */
    public function setTimeout(?float $timeout): void
    {
        Library::get()->mqredis_set_timeout(
            $this->handle(),
            Library::milliseconds($timeout)
        );
    }

    /**
     * Sleeps until a manager serves the channel and is connected to Redis;
     * an UnavailableException says what was found when the time passed first.
     */
    public function waitReady(?float $timeout = 5.0): void
    {
        $ffi = Library::get();
        $error = $ffi->new('struct mqredis_error');
        $status = $ffi->mqredis_wait_ready(
            $this->handle(),
            Library::milliseconds($timeout),
            \FFI::addr($error)
        );
        if ($status !== 0) {
            Library::raise($error);
        }
    }

    /**
     * What is seen of the channel now.
     *
     * @return array{queue_depth: int, queue_capacity: int, message_size: int,
     *     manager_pid: int, connected: bool, state: string, server: string,
     *     last_error: string, resp: int, db: int}
     */
    public function info(): array
    {
        $ffi = Library::get();
        $error = $ffi->new('struct mqredis_error');
        $info = $ffi->new('struct mqredis_info');
        $status = $ffi->mqredis_info(
            $this->handle(),
            \FFI::addr($info),
            \FFI::addr($error)
        );
        if ($status !== 0) {
            Library::raise($error);
        }

        return [
            'queue_depth' => $info->queue_depth,
            'queue_capacity' => $info->queue_capacity,
            'message_size' => $info->message_size,
            'manager_pid' => $info->manager_pid,
            'connected' => $info->connected,
            'state' => \FFI::string($info->state),
            'server' => \FFI::string($info->server),
            'last_error' => \FFI::string($info->last_error),
            'resp' => $info->resp,
            'db' => $info->db,
        ];
    }

    /** Any command: a word for each argument. */
    public function command(
        string|int|float|\Stringable ...$words
    ): mixed {
        return Reply::take(
            Library::send('mqredis_command', $this->handle(), $words)
        );
    }

    /**
     * Any command, by a method with its name: $mq->zAdd('z', 1, 'one').
     *
     * @param array<mixed> $arguments
     */
    public function __call(string $name, array $arguments): mixed
    {
        return $this->command($name, ...array_values($arguments));
    }

    /** The value; null where there is none. */
    public function get(string $key): ?string
    {
        return $this->command('GET', $key);
    }

    public function set(string $key, string|int|float|\Stringable $value): void
    {
        $this->command('SET', $key, $value);
    }

    /**
     * Commands that go to Redis together with nothing between them: a reply for
     * each in its order. What is wrong with one is its value, an Exception,
     * and does not touch the others.
     *
     *     [$n, $old] = $mq->batch([['INCR', 'n'], ['GET', 'old']]);
     *
     * @param iterable<array<mixed>> $commands
     * @return list<mixed>
     */
    public function batch(iterable $commands): array
    {
        return $this->run('mqredis_batch_run', $commands);
    }

    /**
     * The same between MULTI and EXEC: Redis executes all of it or nothing, and
     * then throws the ReplyException that says why.
     *
     * @param iterable<array<mixed>> $commands
     * @return list<mixed>
     */
    public function transaction(iterable $commands): array
    {
        return $this->run('mqredis_transaction_run', $commands);
    }

    /**
     * @param iterable<array<mixed>> $commands
     * @return list<mixed>
     */
    private function run(string $function, iterable $commands): array
    {
        $handle = $this->handle();
        /* All of it is looked at before there is a batch to free. */
        $lists = [];
        foreach ($commands as $words) {
            $lists[] = Library::words($words);
        }
        if ($lists === []) {
            return [];
        }
        $ffi = Library::get();
        $batch = $ffi->mqredis_batch_new($handle);
        if ($batch === null) {
            throw new OutOfMemoryException('out of memory', 6);
        }
        foreach ($lists as $words) {
            Library::send('mqredis_batch_add', $batch, $words);
        }

        return Reply::take($ffi->$function($batch));
    }

    /** The messages of some channels, from now on. */
    public function subscribe(string ...$channels): Subscription
    {
        return new Subscription($this, $this->handle(), $channels, 'mqredis_subscribe');
    }

    /** The messages of all channels that match a pattern. */
    public function psubscribe(string ...$patterns): Subscription
    {
        return new Subscription($this, $this->handle(), $patterns, 'mqredis_psubscribe');
    }

    /** The messages of some shard channels. */
    public function ssubscribe(string ...$channels): Subscription
    {
        return new Subscription($this, $this->handle(), $channels, 'mqredis_ssubscribe');
    }

    /**
     * A client on a handle that lives as long as the process, for servers as
     * FPM that forget all objects between two requests: only the first one in
     * each process opens the channel. close() leaves it open.
     */
    public static function persistent(
        ?string $channel = null,
        ?float $timeout = 5.0
    ): self {
        $ffi = Library::get();
        /* Named by all that decides what mqredis_open would open. */
        $name = self::VARIABLE . hash('xxh64', implode("\0", [
            $channel ?? 'getenv ' . getenv('MQREDIS_CHANNEL'),
            (string) getenv('MQREDIS_DIR'),
        ]));
        $self = (new \ReflectionClass(self::class))
            ->newInstanceWithoutConstructor();
        $self->persistent = true;
        $self->handle = self::recall($ffi, $name);
        if ($self->handle === null) {
            $self->handle = self::open($channel);
            self::remember($ffi, $name, $self->handle);
        }
        $self->setTimeout($timeout);

        return $self;
    }

    /*
     * PHP has no memory that outlives a request, but the process's environment
     * does (the C library's, not PHP's copy of it). An address in it is good for
     * this very program alone: children of fork have it by right, programs
     * that were exec'd inherit a variable that means nothing to them. So the
     * address stands behind the 16 random bytes that the kernel gives each
     * exec.
     */
    private static function stamp(\FFI $ffi): string
    {
        $at_random = 25;
        $address = $ffi->getauxval($at_random);
        if ($address === 0) {
            return '';
        }
        $holder = $ffi->new('uintptr_t');
        $holder->cdata = $address;
        $bytes = $ffi->cast('char **', \FFI::addr($holder))[0];

        return bin2hex(\FFI::string($bytes, 16));
    }

    private static function recall(\FFI $ffi, string $name): ?\FFI\CData
    {
        $value = $ffi->getenv($name);
        if ($value === null) {
            return null;
        }
        [$stamp, $address] = explode(':', \FFI::string($value)) + ['', '0'];
        if ($stamp === '' || $stamp !== self::stamp($ffi)) {
            return null;
        }
        $holder = $ffi->new('uintptr_t');
        $holder->cdata = (int) $address;

        return $ffi->cast('struct mqredis **', \FFI::addr($holder))[0];
    }

    private static function remember(
        \FFI $ffi,
        string $name,
        \FFI\CData $handle
    ): void {
        if (PHP_ZTS) {
            throw new \LogicException(
                'Mqredis\Client::persistent needs a PHP without threads'
            );
        }
        $address = $ffi->cast('uintptr_t', $handle)->cdata;
        if ($ffi->setenv($name, self::stamp($ffi) . ":$address", 1) !== 0) {
            throw new OutOfMemoryException('out of memory', 6);
        }
    }
}
