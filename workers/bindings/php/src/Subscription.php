<?php

declare(strict_types=1);

namespace Mqredis;

/**
 * A stream of messages. All processes of the host share one subscription at
 * Redis.
 *
 *     foreach ($mq->subscribe('news') as $message) {
 *         echo $message->channel, ': ', $message->data, "\n";
 *     }
 */
final class Subscription implements \IteratorAggregate
{
    private const MESSAGE = 1;
    private const LAGGED = 3;
    private const GAP = 4;
    private const END = 5;

    private ?\FFI\CData $stream;
    private \FFI\CData $event;
    /** The process that subscribed: a child may only close. */
    private int $pid;

    /**
     * @internal Made by Client::subscribe.
     * @param Client $client held, for the stream dies with its handle
     * @param list<string> $names
     */
    public function __construct(
        private Client $client,
        \FFI\CData $handle,
        array $names,
        string $call
    ) {
        if ($names === []) {
            throw new \ValueError('a subscription has at least one name');
        }
        $ffi = Library::get();
        $error = $ffi->new('struct mqredis_error');
        [$argv, $len, $bytes] = Library::argv(array_values($names));
        $this->stream =
            $ffi->$call($handle, count($names), $argv, $len, \FFI::addr($error));
        if ($this->stream === null) {
            Library::raise($error);
        }
        $this->event = $ffi->new('struct mqredis_event');
        $this->pid = getmypid();
    }

    public function __destruct()
    {
        $this->close();
    }

    private function __clone()
    {
    }

    /** Ends the subscription; at the latest before the client is closed. */
    public function close(): void
    {
        if (isset($this->stream) && $this->client->handleLives()) {
            Library::get()->mqredis_stream_close($this->stream);
        }
        $this->stream = null;
    }

    private function stream(): \FFI\CData
    {
        if ($this->stream === null || !$this->client->isOpen()) {
            throw new \LogicException('this subscription was closed');
        }
        if ($this->pid !== getmypid()) {
            throw new \LogicException('a child of fork subscribes by itself');
        }

        return $this->stream;
    }

    /**
     * The next message; null: none came within $timeout seconds (null: no
     * limit).
     *
     * @throws LaggedException once where this process was too slow, or nobody
     *     listened for a while: messages are missing there, and more may come
     * @throws UnavailableException the manager ended; renew() may help
     */
    public function next(?float $timeout = null): ?Message
    {
        $stream = $this->stream();
        $ffi = Library::get();
        $e = $this->event;
        $end = $timeout === null ? INF : microtime(true) + $timeout;
        for (;;) {
            $left = $timeout === null ? null : max(0.0, $end - microtime(true));
            if (!$ffi->mqredis_stream_next(
                $stream,
                Library::milliseconds($left),
                \FFI::addr($e)
            )) {
                return null;
            }
            switch ($e->type) {
                case self::MESSAGE:
                    return new Message(
                        \FFI::string($e->channel, $e->channel_len),
                        $e->len === 0 ? '' : \FFI::string($e->data, $e->len),
                        $e->pattern === null
                            ? null
                            : \FFI::string($e->pattern, $e->pattern_len)
                    );
                case self::LAGGED:
                    throw new LaggedException("$e->count messages are missing");
                case self::GAP:
                    throw new LaggedException(
                        "nobody listened for $e->count milliseconds"
                    );
                case self::END:
                    throw Exception::of(
                        $e->status,
                        \FFI::string($e->data, $e->len)
                    );
            }
        }
    }

    /** Subscribes once more after the manager ended, and waits for the next. */
    public function renew(?float $timeout = 5.0): void
    {
        $stream = $this->stream();
        $ffi = Library::get();
        $error = $ffi->new('struct mqredis_error');
        $status = $ffi->mqredis_stream_renew(
            $stream,
            Library::milliseconds($timeout),
            \FFI::addr($error)
        );
        if ($status !== 0) {
            Library::raise($error);
        }
    }

    /** @return \Generator<int, Message> */
    public function getIterator(): \Generator
    {
        while (($message = $this->next()) !== null) {
            yield $message;
        }
    }
}
