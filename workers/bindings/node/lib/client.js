'use strict';

/*
 * A handle in Node's event loop. Commands are submitted at once and travel
 * together at the end of the tick; replies are taken when the handle's
 * descriptor, which libuv polls, becomes readable. Nothing here sleeps, and no
 * thread of the pool waits, however many commands are in flight. The descriptor
 * holds the process only while there are any.
 */
const native = require('./native');
const { public: errors, ofStatus } = require('./errors');
const { Queue } = require('./queue');
const { take, argv } = require('./reply');
const { poll } = require('./poll');
const { Subscription } = require('./subscription');

const TIMEOUT_MS = 5000;

/* Requests that the library has at once. It refuses more than 1024 messages
 * that wait to be sent, and no request takes more than one. */
const WINDOW = 1000;

/* Milliseconds as the library wants them: Infinity is no limit. */
function milliseconds(timeout) {
    if (timeout === Infinity) return -1;
    if (typeof timeout !== 'number' || !(timeout >= 0))
        throw new RangeError('a timeout is Infinity or not negative');
    return Math.min(Math.ceil(timeout), Number.MAX_SAFE_INTEGER);
}

/* EXEC's reply; or the first error, for EXEC's own only says that there was
 * one. */
function ofTransaction(all) {
    if (!Array.isArray(all)) return all;
    const exec = all[all.length - 1];
    return exec instanceof Error ? all.find((r) => r instanceof Error) : exec;
}

/* An entry whose promise is settled hears of its signal no more. */
function forget(entry) {
    entry.signal?.removeEventListener('abort', entry.abort);
}

class Client {
    #handle;
    #poll;
    #options;
    #timeout;
    #pending = new Map(); /* by the address of a request: entries of #start */
    #queue = new Queue(); /* entries that wait for a place there */
    #draining = false; /* a drain waits for the end of this tick */
    #busy = 0; /* calls in other threads */
    #closed = false;
    #streams = new Set();

    /**
     * @param {string} [channel] a name, or a path with a slash; none:
     *     $MQREDIS_CHANNEL, else "default"
     * @param {{timeout?: number, encoding?: BufferEncoding, window?: number}}
     *     [options]
     */
    constructor(channel, options = {}) {
        if (channel !== null && typeof channel === 'object')
            [channel, options] = [undefined, channel];
        this.#options = { encoding: options.encoding ?? null };
        this.#timeout = milliseconds(options.timeout ?? TIMEOUT_MS);
        const error = {};
        this.#handle = native.open(channel ?? null, error);
        if (!this.#handle) throw ofStatus(error.status, error.text);
        native.setTimeout(this.#handle, this.#timeout);
        if (options.window !== undefined)
            native.setWindow(this.#handle, options.window);
        const fd = native.fd(this.#handle);
        if (fd < 0) {
            native.close(this.#handle);
            throw ofStatus(7, 'out of descriptors');
        }
        this.#poll = poll(fd, () => this.#drain());
        this.#poll.unref();
    }

    /* ---- commands ---- */

    /**
     * Any command. Rejects with a ReplyError if that is what Redis says.
     *
     * @param {Array<string|Uint8Array|number|bigint>} words
     * @param {{signal?: AbortSignal, timeout?: number,
     *     encoding?: BufferEncoding|null}} [options]
     */
    command(words, options) {
        return this.#start(options, null, () =>
            native.submit(this.#handle, ...argv(words)),
        );
    }

    get(key, options) {
        return this.command(['GET', key], options);
    }

    set(key, value, options) {
        return this.command(['SET', key, value], options);
    }

    /**
     * Commands that go to Redis together with nothing between them. What is
     * wrong with one is its value, an Error, and does not touch the others.
     */
    batch(commands, options) {
        if (commands.length === 0) return Promise.resolve([]);
        return this.#start(options, null, () => this.#submitBatch(commands));
    }

    /**
     * The same between MULTI and EXEC: Redis executes all of it or nothing, and
     * then the promise rejects with the ReplyError that says why.
     */
    transaction(commands, options) {
        if (commands.length === 0) return Promise.resolve([]);
        const all = [['MULTI'], ...commands, ['EXEC']];
        return this.#start(options, ofTransaction, () =>
            this.#submitBatch(all),
        );
    }

    #submitBatch(commands) {
        /* All of it is looked at before there is a batch to free. */
        const lists = commands.map(argv);
        const batch = native.batchNew(this.#handle);
        for (const list of lists) native.batchAdd(batch, ...list);
        return native.batchSubmit(batch);
    }

    /* Promises what `filter` makes of the reply to what `submit` submits. */
    #start(options = {}, filter, submit) {
        const { signal } = options;
        return new Promise((resolve, reject) => {
            if (this.#closed) throw new errors.ClosedError();
            signal?.throwIfAborted();
            const timeout =
                options.timeout === undefined
                    ? this.#timeout
                    : milliseconds(options.timeout);
            const entry = {
                resolve,
                reject,
                filter,
                submit,
                timeout,
                end: timeout < 0 ? Infinity : performance.now() + timeout,
                encoding:
                    options.encoding === undefined
                        ? this.#options.encoding
                        : options.encoding,
                signal,
                abort: null,
                request: null,
            };
            if (this.#pending.size < WINDOW && this.#queue.length === 0)
                this.#submit(entry, timeout);
            else this.#queue.push(entry);
            if (signal) {
                entry.abort = () => this.#abort(entry);
                signal.addEventListener('abort', entry.abort, { once: true });
            }
        });
    }

    /* Throws what is wrong with it. */
    #submit(entry, timeout) {
        const own = timeout !== this.#timeout;
        if (own) native.setTimeout(this.#handle, timeout);
        try {
            entry.request = entry.submit();
        } finally {
            if (own) native.setTimeout(this.#handle, this.#timeout);
        }
        if (!entry.request) throw ofStatus(6, 'out of memory');
        if (this.#pending.size === 0) this.#poll.ref();
        this.#pending.set(entry.request, entry);
        this.#drainSoon();
    }

    /* Submits what had to wait, in its order. */
    #refill() {
        while (this.#queue.length > 0 && this.#pending.size < WINDOW) {
            const entry = this.#queue.shift();
            const left = entry.end - performance.now();
            try {
                if (left <= 0)
                    throw ofStatus(2, 'out of time before it could be sent');
                this.#submit(entry, left === Infinity ? -1 : Math.ceil(left));
            } catch (e) {
                forget(entry);
                entry.reject(e);
            }
        }
    }

    #abort(entry) {
        if (entry.request === null) {
            this.#queue.remove(entry);
        } else {
            this.#pending.delete(entry.request);
            native.cancel(entry.request);
            if (this.#pending.size === 0) this.#poll.unref();
            if (this.#queue.length > 0) this.#drainSoon();
        }
        entry.reject(entry.signal.reason);
    }

    /* ---- the loop ---- */

    /* Waiting is what sends. A tick's commands are to travel together. */
    #drainSoon() {
        if (this.#draining) return;
        this.#draining = true;
        process.nextTick(() => this.#drain());
    }

    #drain() {
        this.#draining = false;
        if (this.#closed) return;
        let request;
        while ((request = native.waitAny(this.#handle, 0))) {
            const entry = this.#pending.get(request);
            this.#pending.delete(request);
            this.#settle(entry, native.wait(request));
        }
        this.#refill();
        if (this.#pending.size === 0) this.#poll.unref();
    }

    #settle(entry, reply) {
        forget(entry);
        try {
            let value = take(reply, entry);
            if (entry.filter !== null) value = entry.filter(value);
            if (value instanceof Error) entry.reject(value);
            else entry.resolve(value);
        } catch (e) {
            entry.reject(e);
        }
    }

    /* ---- the channel ---- */

    /* Calls something of the library that sleeps, in another thread. */
    #elsewhere(call, ...args) {
        if (this.#closed) return Promise.reject(new errors.ClosedError());
        this.#busy++;
        return new Promise((resolve, reject) => {
            call.async(...args, (error, result) => {
                if (this.#closed) reject(new errors.ClosedError());
                else if (error) reject(error);
                else resolve(result);
                /* After those who wait for the result have let go of theirs. */
                setImmediate(() => {
                    this.#busy--;
                    if (this.#closed) this.#release();
                });
            });
        });
    }

    /**
     * Resolves when a manager serves the channel and is connected to Redis;
     * rejects with an UnavailableError if the time passes first.
     */
    async ready(timeout = TIMEOUT_MS) {
        const error = {};
        const status = await this.#elsewhere(
            native.waitReady,
            this.#handle,
            milliseconds(timeout),
            error,
        );
        if (status !== 0) throw ofStatus(status, error.text);
    }

    /** What is seen of the channel now. */
    info() {
        if (this.#closed) throw new errors.ClosedError();
        const info = {};
        const error = {};
        const status = native.info(this.#handle, info, error);
        if (status !== 0) throw ofStatus(status, error.text);
        return {
            queueDepth: info.queue_depth,
            queueCapacity: info.queue_capacity,
            messageSize: info.message_size,
            managerPid: info.manager_pid,
            connected: info.connected,
            state: info.state,
            server: info.server,
            lastError: info.last_error,
            resp: info.resp,
            db: info.db,
        };
    }

    /** The messages of some channels, from now on. */
    subscribe(...channels) {
        return this.#subscribe(native.subscribe, channels);
    }

    /** The messages of all channels that match a pattern. */
    psubscribe(...patterns) {
        return this.#subscribe(native.psubscribe, patterns);
    }

    /** The messages of some shard channels. */
    ssubscribe(...channels) {
        return this.#subscribe(native.ssubscribe, channels);
    }

    async #subscribe(call, names) {
        const error = {};
        const stream = await this.#elsewhere(
            call,
            this.#handle,
            ...argv(names),
            error,
        );
        if (!stream) throw ofStatus(error.status, error.text);
        const subscription = new Subscription(
            stream,
            this.#options.encoding,
            (...args) => this.#elsewhere(...args),
            (s) => this.#streams.delete(s),
        );
        this.#streams.add(subscription);
        return subscription;
    }

    /**
     * Rejects what is in flight with a ClosedError, ends the subscriptions, and
     * frees the handle.
     */
    close() {
        if (this.#closed) return;
        for (const subscription of this.#streams) subscription.close();
        this.#closed = true;
        this.#poll.close();
        for (const entry of [...this.#pending.values(), ...this.#queue]) {
            forget(entry);
            entry.reject(new errors.ClosedError());
        }
        this.#pending.clear();
        this.#queue.clear();
        this.#release();
    }

    /* No other thread may be using a handle that is freed. */
    #release() {
        if (this.#busy > 0) return;
        native.close(this.#handle);
        this.#handle = null;
    }
}

if (Symbol.dispose) Client.prototype[Symbol.dispose] = Client.prototype.close;

module.exports = { Client };
