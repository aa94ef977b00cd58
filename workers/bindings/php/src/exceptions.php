<?php

declare(strict_types=1);

namespace Mqredis;

/** Everything that this package throws. */
class Exception extends \RuntimeException
{
    /** The class of each status of mqredis.h but MQREDIS_OK. */
    private const CLASSES = [
        1 => InvalidException::class,
        2 => ExpiredException::class,
        3 => UnavailableException::class,
        4 => TooBigException::class,
        5 => LostException::class,
        6 => OutOfMemoryException::class,
        7 => SystemException::class,
    ];

    /** @internal The exception for a status; getCode() gives the status. */
    public static function of(int $status, string $text): self
    {
        $class = self::CLASSES[$status] ?? self::class;

        return new $class($text, $status);
    }

    /**
     * Whether the command is known not to have been executed, so that it may be
     * repeated whatever it does.
     */
    public function wasNotExecuted(): bool
    {
        return !in_array($this->code, [0, 4, 5], true);
    }
}

/** Refused by the library or the manager: not executed. */
final class InvalidException extends Exception
{
}

/** Out of time before it was sent: not executed. */
final class ExpiredException extends Exception
{
}

/** No manager, or no Redis: not executed. */
final class UnavailableException extends Exception
{
}

/** Over a limit that the text names. */
final class TooBigException extends Exception
{
}

/** Outcome unknown: it may have been executed. */
final class LostException extends Exception
{
}

/** Out of memory before it was sent: not executed. */
final class OutOfMemoryException extends Exception
{
}

/** A system call failed before it was sent: not executed. */
final class SystemException extends Exception
{
}

/** Redis answered with an error. Thrown, but a value inside of other replies. */
final class ReplyException extends Exception
{
    /** The first word of the error: "ERR", "WRONGTYPE", ... */
    public function prefix(): string
    {
        return strstr($this->message, ' ', true) ?: $this->message;
    }
}

/** Messages of a subscription are missing here. More may come. */
final class LaggedException extends Exception
{
}
