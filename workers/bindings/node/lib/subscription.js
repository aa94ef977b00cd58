'use strict';

/*
 * A stream of messages as an async iterator. Its descriptor is polled, and holds
 * the process, only while somebody waits for the next message.
 */
const native = require('./native');
const { public: errors, ofStatus } = require('./errors');
const { poll } = require('./poll');
const { bytesAt, word } = require('./reply');

const E = native.events;
const EVENT = native.structs.mqredis_event;
const SIZE = native.koffi.sizeof(EVENT);
const AT = {};
for (const member of Object.keys(native.koffi.type(EVENT).members))
    AT[member] = native.koffi.offsetof(EVENT, member);

/* The library wants to be asked from time to time, whatever the descriptor
 * says. */
const LOOK_MS = 2000;

class Subscription {
    #stream;
    #encoding;
    #elsewhere;
    #forget;
    #poll = null;
    #timer = null;
    #waiters = [];
    #event = Buffer.alloc(SIZE);
    #renewing = false;
    #closed = false;

    /* Made by Client.subscribe. `elsewhere` calls something in another thread;
     * `forget` is told of the end. */
    constructor(stream, encoding, elsewhere, forget) {
        this.#stream = stream;
        this.#encoding = encoding;
        this.#elsewhere = elsewhere;
        this.#forget = forget;
        this.#watch();
    }

    #watch() {
        const fd = native.streamFd(this.#stream);
        /* After a renew() that failed there is none. */
        if (fd >= 0) this.#poll = poll(fd, () => this.#pump());
        this.#poll?.stop();
        this.#poll?.unref();
    }

    /* The descriptor is polled while there are waiters: who does not ask is not
     * woken by messages that wait. */
    #idle() {
        clearInterval(this.#timer);
        this.#timer = null;
        this.#poll?.stop();
        this.#poll?.unref();
    }

    #wait() {
        if (this.#timer !== null) return;
        this.#timer = setInterval(() => this.#pump(), LOOK_MS);
        this.#poll?.start();
        this.#poll?.ref();
    }

    #bytes(at, lenAt) {
        const bytes = bytesAt(
            word(this.#event, AT[at]),
            word(this.#event, AT[lenAt]),
        );
        return this.#encoding ? bytes.toString(this.#encoding) : bytes;
    }

    #text(at, lenAt) {
        const address = word(this.#event, AT[at]);
        if (address === 0) return null;
        return bytesAt(address, word(this.#event, AT[lenAt])).toString();
    }

    /* What there is; null: nothing yet. Throws what ended the stream. */
    #take() {
        while (native.streamNext(this.#stream, 0, this.#event)) {
            const count = Number(this.#event.readBigUInt64LE(AT.count));
            switch (this.#event.readInt32LE(AT.type)) {
                case E.MQREDIS_MESSAGE:
                    return {
                        type: 'message',
                        channel: this.#text('channel', 'channel_len'),
                        pattern: this.#text('pattern', 'pattern_len'),
                        data: this.#bytes('data', 'len'),
                    };
                case E.MQREDIS_LAGGED:
                    return { type: 'lagged', messages: count };
                case E.MQREDIS_GAP:
                    return { type: 'gap', milliseconds: count };
                case E.MQREDIS_END:
                    throw ofStatus(
                        this.#event.readInt32LE(AT.status),
                        this.#text('data', 'len'),
                    );
                default: /* MQREDIS_SUBSCRIBED: known already */
                    break;
            }
        }
        return null;
    }

    #pump() {
        while (this.#waiters.length > 0 && !this.#closed) {
            let value;
            try {
                value = this.#take();
            } catch (e) {
                this.#waiters.shift().reject(e);
                continue;
            }
            if (value === null) {
                this.#wait();
                return;
            }
            this.#waiters.shift().resolve({ value, done: false });
        }
        this.#idle();
    }

    /**
     * The next event. Rejects when the manager ended with an UnavailableError,
     * after which renew() may help; is done after close().
     */
    next() {
        if (this.#closed)
            return Promise.resolve({ value: undefined, done: true });
        if (this.#renewing)
            return Promise.reject(new Error('renew() is not done yet'));
        return new Promise((resolve, reject) => {
            this.#waiters.push({ resolve, reject });
            this.#pump();
        });
    }

    /** Subscribes once more after the end; the next event is a gap. */
    async renew(timeout = 5000) {
        if (this.#closed) throw new errors.ClosedError();
        if (this.#renewing || this.#waiters.length > 0)
            throw new Error('renew() is for after the end');
        this.#renewing = true;
        /* Its descriptor may go. */
        this.#poll?.close();
        this.#poll = null;
        const error = {};
        let status;
        try {
            status = await this.#elsewhere(
                native.streamRenew,
                this.#stream,
                timeout,
                error,
            );
        } finally {
            this.#renewing = false;
            if (this.#closed) this.#release();
            else this.#watch();
        }
        if (status !== 0) throw ofStatus(status, error.text);
    }

    /** Ends the subscription. */
    close() {
        if (this.#closed) return;
        this.#closed = true;
        this.#idle();
        this.#poll?.close();
        this.#poll = null;
        for (const waiter of this.#waiters.splice(0))
            waiter.resolve({ value: undefined, done: true });
        if (!this.#renewing) this.#release();
    }

    #release() {
        native.streamClose(this.#stream);
        this.#forget(this);
    }

    [Symbol.asyncIterator]() {
        return this;
    }

    return() {
        this.close();
        return Promise.resolve({ value: undefined, done: true });
    }
}

module.exports = { Subscription };
