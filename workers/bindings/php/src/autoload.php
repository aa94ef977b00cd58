<?php

/* For those without Composer: require this one file. */

declare(strict_types=1);

spl_autoload_register(static function (string $class): void {
    if (!str_starts_with($class, 'Mqredis\\')) {
        return;
    }
    $name = substr($class, strlen('Mqredis\\'));
    $file = str_ends_with($name, 'Exception') ? 'exceptions' : $name;
    if (is_file(__DIR__ . "/$file.php")) {
        require_once __DIR__ . "/$file.php";
    }
});
