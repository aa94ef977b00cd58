'use strict';

/*
 * A descriptor that libuv polls. Its own callback runs outside of what Node
 * calls a callback scope: promises settled in it would be heard of when
 * something else happens to the loop, perhaps never. An immediate runs in the
 * same turn of the loop, and inside of one.
 */
const { koffi } = require('./native');

/* A thread that ends by process.exit() still turns its loop once or twice, in
 * which no callback may be called any more. */
const open = new Set();
process.once('exit', () => open.forEach((poll) => poll.close()));

class Poll {
    #handle;
    #immediate = null;
    #callback;

    constructor(fd, callback) {
        this.#callback = callback;
        this.#handle = koffi.node.poll(fd, { readable: true }, this.#readable);
        open.add(this);
    }

    #readable = () => {
        this.#immediate ??= setImmediate(() => {
            this.#immediate = null;
            this.#callback();
        });
    };

    start() {
        this.#handle?.start({ readable: true }, this.#readable);
    }

    stop() {
        this.#handle?.stop();
    }

    ref() {
        this.#handle?.ref();
    }

    unref() {
        this.#handle?.unref();
    }

    /* Whatever is called afterwards does nothing. */
    close() {
        clearImmediate(this.#immediate);
        this.#handle?.close();
        this.#handle = null;
        open.delete(this);
    }
}

module.exports = { poll: (fd, callback) => new Poll(fd, callback) };
