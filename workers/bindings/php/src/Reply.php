<?php

declare(strict_types=1);

namespace Mqredis;

/**
 * From trees of struct mqredis_reply to values of PHP.
 *
 * @internal
 */
final class Reply
{
    /* enum mqredis_type */
    private const STRING = 1;
    private const ARRAY = 2;
    private const INTEGER = 3;
    private const NIL = 4;
    private const STATUS = 5;
    private const ERROR = 6;
    private const DOUBLE = 7;
    private const BOOL = 8;
    private const MAP = 9;
    private const SET = 10;
    private const PUSH = 12;
    private const BIGNUM = 13;
    private const VERBATIM = 14;
    private const BATCH = 64;
    private const FAILURE = 65;

    /** Frees the reply and gives its value, or throws what it says. */
    public static function take(\FFI\CData $reply): mixed
    {
        try {
            $value = self::value($reply);
        } finally {
            Library::get()->mqredis_free($reply);
        }
        if ($value instanceof Exception) {
            throw $value;
        }

        return $value;
    }

    /** Errors and failures are values here: of a batch each may have its own. */
    private static function value(\FFI\CData $reply): mixed
    {
        return match ($reply->type) {
            self::STRING, self::STATUS, self::VERBATIM,
            self::BIGNUM => self::text($reply),
            self::INTEGER => $reply->integer,
            self::NIL => null,
            self::DOUBLE => $reply->real,
            self::BOOL => $reply->integer !== 0,
            self::ERROR => new ReplyException(self::text($reply)),
            self::FAILURE => Exception::of($reply->status, self::text($reply)),
            self::MAP => self::map($reply),
            self::ARRAY, self::SET, self::PUSH,
            self::BATCH => self::elements($reply),
        };
    }

    private static function text(\FFI\CData $reply): string
    {
        return $reply->len === 0 ? '' : \FFI::string($reply->str, $reply->len);
    }

    /** @return list<mixed> */
    private static function elements(\FFI\CData $reply): array
    {
        $values = [];
        for ($i = 0; $i < $reply->elements; $i++) {
            $values[] = self::value($reply->element[$i]);
        }

        return $values;
    }

    /** @return array<mixed> */
    private static function map(\FFI\CData $reply): array
    {
        $values = [];
        for ($i = 0; $i + 1 < $reply->elements; $i += 2) {
            $key = self::value($reply->element[$i]);
            $value = self::value($reply->element[$i + 1]);
            if (is_string($key) || is_int($key)) {
                $values[$key] = $value;
            } else {
                /* What no key of a PHP array can be. */
                $values[] = [$key, $value];
            }
        }

        return $values;
    }
}
