<?php

/*
 * For opcache.preload, together with ffi.preload (see README.md): compiles the
 * classes that are then allowed to use FFI where ffi.enable is "preload".
 * Requests have the classes without an autoloader.
 */

declare(strict_types=1);

foreach (
    ['exceptions', 'Message', 'Library', 'Reply', 'Client', 'Subscription'] as $file
) {
    require_once __DIR__ . "/src/$file.php";
}
