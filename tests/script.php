<?php

/* What the cases need of the program that runs them: see script.h. */

declare(strict_types=1);

function cannot(string $why): never
{
    echo "$why\n";
    exit(77);
}

function same(mixed $expected, mixed $got, string $what = ''): void
{
    if ($expected !== $got) {
        throw new RuntimeException(sprintf(
            '%s: expected %s, got %s',
            $what,
            substr(var_export($expected, true), 0, 300),
            substr(var_export($got, true), 0, 300)
        ));
    }
}

/** @param class-string<Throwable> $class */
function throws(string $class, callable $call): Throwable
{
    try {
        $got = $call();
    } catch (Throwable $e) {
        if (!$e instanceof $class) {
            throw $e;
        }

        return $e;
    }
    throw new RuntimeException("no $class, but " . var_export($got, true));
}

/** Orders something of the program that runs us: "kill manager". */
function order(string $what): void
{
    fwrite(STDOUT, "@$what\n");
    same("done\n", fgets(STDIN), $what);
}

/** Runs a case, or names them all. @param array<string, callable> $cases */
function run_cases(array $cases, array $argv): never
{
    if (!isset($argv[1])) {
        echo implode("\n", array_keys($cases)), "\n";
        exit(0);
    }
    $case = $cases[$argv[1]] ?? cannot("no case $argv[1]");
    try {
        $case();
    } catch (Throwable $e) {
        echo get_class($e), ': ', $e->getMessage(), "\n",
        $e->getTraceAsString(), "\n";
        exit(1);
    }
    exit(0);
}

/** Forks a child that calls; ends with 0 if that threw nothing. */
function child(callable $call): int
{
    $pid = pcntl_fork();
    if ($pid === 0) {
        try {
            $call();
        } catch (Throwable $e) {
            fwrite(STDERR, "child: {$e->getMessage()}\n");
            exit(1);
        }
        exit(0);
    }

    return $pid;
}

function joined(int $pid): int
{
    pcntl_waitpid($pid, $status);

    return pcntl_wifexited($status) ? pcntl_wexitstatus($status) : -1;
}
