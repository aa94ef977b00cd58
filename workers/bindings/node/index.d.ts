/// <reference types="node" />

/** A word of a command. A string is sent as UTF-8. */
export type Word = string | Uint8Array | number | bigint;

/**
 * What Redis answered. Strings are Buffers unless there is an encoding; simple
 * strings ("OK") are strings; integers that a number cannot hold are bigints;
 * errors are values only inside of other replies.
 */
export type Value =
    | Buffer
    | string
    | number
    | bigint
    | boolean
    | null
    | Value[]
    | Map<Value, Value>
    | MqredisError;

export interface ClientOptions {
    /** Milliseconds that each command has; 5000. Infinity: no limit. */
    timeout?: number;
    /** Strings instead of Buffers. */
    encoding?: BufferEncoding;
    /** Messages in flight, 64 by default: more for many blocking commands. */
    window?: number;
}

export interface CommandOptions {
    /** Gives the command up; the promise rejects with the signal's reason. */
    signal?: AbortSignal;
    /** Instead of the client's. */
    timeout?: number;
    /** Instead of the client's; null: Buffers. */
    encoding?: BufferEncoding | null;
}

export interface Info {
    queueDepth: number;
    queueCapacity: number;
    messageSize: number;
    managerPid: number;
    connected: boolean;
    state: string;
    server: string;
    lastError: string;
    /** The protocol of the manager's replies: 2 or 3. */
    resp: number;
    db: number;
}

export class Client {
    constructor(channel?: string, options?: ClientOptions);
    constructor(options?: ClientOptions);
    command(words: Word[], options?: CommandOptions): Promise<Value>;
    get(key: Word, options?: CommandOptions): Promise<Buffer | string | null>;
    set(key: Word, value: Word, options?: CommandOptions): Promise<Value>;
    /** A value for each command, in order; what failed is an MqredisError. */
    batch(commands: Word[][], options?: CommandOptions): Promise<Value[]>;
    /** Between MULTI and EXEC. null: EXEC said so. */
    transaction(
        commands: Word[][],
        options?: CommandOptions,
    ): Promise<Value[] | null>;
    ready(timeout?: number): Promise<void>;
    info(): Info;
    subscribe(...channels: Word[]): Promise<Subscription>;
    psubscribe(...patterns: Word[]): Promise<Subscription>;
    ssubscribe(...channels: Word[]): Promise<Subscription>;
    close(): void;
}

export type StreamEvent =
    | {
          type: 'message';
          channel: string;
          pattern: string | null;
          data: Buffer | string;
      }
    /** This process was too slow: so many messages are missing here. */
    | { type: 'lagged'; messages: number }
    /** For so long nobody listened: messages may be missing here. */
    | { type: 'gap'; milliseconds: number };

export class Subscription implements AsyncIterableIterator<StreamEvent> {
    next(): Promise<IteratorResult<StreamEvent, undefined>>;
    return(): Promise<IteratorResult<StreamEvent, undefined>>;
    renew(timeout?: number): Promise<void>;
    close(): void;
    [Symbol.asyncIterator](): this;
}

/** What all errors of this package are. */
export class MqredisError extends Error {
    readonly code: string;
    /** Whether the command is known not to have been executed. */
    readonly notExecuted: boolean;
}
/** Refused by the library or the manager: not executed. */
export class InvalidError extends MqredisError {}
/** Out of time before it was sent: not executed. */
export class ExpiredError extends MqredisError {}
/** No manager, or no Redis: not executed. */
export class UnavailableError extends MqredisError {}
/** Over a limit that the message names. */
export class TooBigError extends MqredisError {}
/** Outcome unknown: it may have been executed. */
export class LostError extends MqredisError {}
/** Out of memory before it was sent: not executed. */
export class OutOfMemoryError extends MqredisError {}
/** A system call failed before it was sent: not executed. */
export class SystemError extends MqredisError {}
/** The client was closed first: outcome unknown. */
export class ClosedError extends MqredisError {}
/** Redis answered with an error; `code` is its first word. */
export class ReplyError extends MqredisError {}
