<?php

declare(strict_types=1);

namespace Mqredis;

/** A message that somebody published. */
final class Message
{
    public function __construct(
        public readonly string $channel,
        public readonly string $data,
        /** Of a subscription to patterns: the one that matched. */
        public readonly ?string $pattern = null
    ) {
    }
}
