<?php

declare(strict_types=1);

namespace Mqredis;

/**
 * The one \FFI object of the process, and what is awkward about talking to it.
 *
 * @internal
 */
final class Library
{
    /** Up to here arguments go as varargs, without a copy. */
    private const VARARGS_MAX = 32;

    private static ?\FFI $ffi = null;

    /**
     * The scope that ffi.preload made, or else one made here: of
     * $MQREDIS_LIBRARY if that is set.
     */
    public static function get(): \FFI
    {
        return self::$ffi ??= self::scope() ?? self::load();
    }

    private static function scope(): ?\FFI
    {
        try {
            return \FFI::scope('MQREDIS');
        } catch (\FFI\Exception) {
            return null;
        }
    }

    /** The declarations, without the lines that only FFI::load understands. */
    public static function declarations(): string
    {
        $header = file_get_contents(__DIR__ . '/mqredis.ffi.h');

        return preg_replace('/^#.*$/m', '', $header);
    }

    private static function load(): \FFI
    {
        $library = getenv('MQREDIS_LIBRARY') ?: 'libmqredis.so.1';
        try {
            return \FFI::cdef(self::declarations(), $library);
        } catch (\FFI\Exception $e) {
            throw new Exception(
                "mqredis: cannot use $library: {$e->getMessage()}; install"
                . ' libmqredis, or name it in MQREDIS_LIBRARY; outside of the'
                . ' command line ffi.enable must allow it (see README.md)'
            );
        }
    }

    /** Seconds as the library wants them; null: no limit. */
    public static function milliseconds(?float $seconds): int
    {
        if ($seconds === null) {
            return -1;
        }
        if (is_nan($seconds) || $seconds < 0) {
            throw new \ValueError('a timeout is null or not negative');
        }

        /* A little time is not no time. */
        return (int) min(ceil($seconds * 1000), 1e15);
    }

    public static function raise(\FFI\CData $error): never
    {
        throw Exception::of($error->status, \FFI::string($error->text));
    }

    /**
     * The words of a command as strings.
     *
     * @param array<mixed> $words
     * @return list<string>
     */
    public static function words(array $words): array
    {
        if ($words === []) {
            throw new \ValueError('a command has at least its name');
        }
        $out = [];
        foreach ($words as $word) {
            $out[] = match (true) {
                is_string($word) => $word,
                is_int($word), $word instanceof \Stringable => (string) $word,
                /* Not by the ini setting "precision", which loses digits. */
                is_float($word) => var_export($word, true),
                default => throw new \TypeError(
                    'an argument is a string or a number, not '
                    . get_debug_type($word)
                ),
            };
        }

        return $out;
    }

    /**
     * Calls $function($object, a command), or its relative that takes an argv.
     *
     * @param array<mixed> $words
     */
    public static function send(
        string $function,
        \FFI\CData $object,
        array $words
    ): ?\FFI\CData {
        $ffi = self::get();
        $words = self::words($words);
        $count = count($words);
        if ($count > self::VARARGS_MAX) {
            [$argv, $len, $bytes] = self::argv($words);

            return $ffi->{$function . '_argv'}($object, $count, $argv, $len);
        }
        $format = [];
        foreach ($words as $word) {
            $format[] = $word;
            $format[] = strlen($word);
        }

        return $ffi->$function(
            $object,
            rtrim(str_repeat('%b ', $count)),
            ...$format
        );
    }

    /**
     * A C array of pointers, one of lengths, and the bytes that the first one
     * points into: the caller holds on to it while C looks.
     *
     * @param list<string> $words
     * @return array{\FFI\CData, \FFI\CData, \FFI\CData}
     */
    public static function argv(array $words): array
    {
        $ffi = self::get();
        $count = count($words);
        $all = implode('', $words);
        $bytes = $ffi->new('char[' . (strlen($all) + 1) . ']');
        \FFI::memcpy($bytes, $all, strlen($all));
        $argv = $ffi->new("const char *[$count]");
        $len = $ffi->new("size_t[$count]");
        $at = 0;
        foreach ($words as $i => $word) {
            $argv[$i] = \FFI::addr($bytes[$at]);
            $len[$i] = strlen($word);
            $at += strlen($word);
        }

        return [$argv, $len, $bytes];
    }
}
