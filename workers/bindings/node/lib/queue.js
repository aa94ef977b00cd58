'use strict';

/* First in, first out, where what waits may also leave from the middle. A Set
 * remembers the order in which its elements came. */
class Queue {
    #set = new Set();

    get length() {
        return this.#set.size;
    }

    push(element) {
        this.#set.add(element);
    }

    shift() {
        const first = this.#set.values().next().value;
        this.#set.delete(first);
        return first;
    }

    remove(element) {
        this.#set.delete(element);
    }

    clear() {
        this.#set.clear();
    }

    [Symbol.iterator]() {
        return this.#set[Symbol.iterator]();
    }
}

module.exports = { Queue };
