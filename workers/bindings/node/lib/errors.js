'use strict';

/* Everything that a Client rejects with, but what an AbortSignal says. */
class MqredisError extends Error {
    /** @param {string} message @param {string} code */
    constructor(message, code) {
        super(message);
        this.name = new.target.name;
        this.code = code;
        /* Whether the command is known not to have been executed. */
        this.notExecuted = true;
    }
}

class InvalidError extends MqredisError {}
class ExpiredError extends MqredisError {}
class UnavailableError extends MqredisError {}
class TooBigError extends MqredisError {}
class LostError extends MqredisError {}
class OutOfMemoryError extends MqredisError {}
class SystemError extends MqredisError {}

/* The client was closed before the reply came: the outcome is unknown. */
class ClosedError extends MqredisError {
    constructor() {
        super('the client was closed', 'MQREDIS_CLOSED');
        this.notExecuted = false;
    }
}

/* Redis answered with an error; `code` is its first word: 'WRONGTYPE'. */
class ReplyError extends MqredisError {
    /** @param {string} message */
    constructor(message) {
        super(message, message.split(' ', 1)[0]);
        this.notExecuted = false;
    }
}

/* By enum mqredis_status. */
const BY_STATUS = [
    null,
    [InvalidError, 'MQREDIS_INVALID', true],
    [ExpiredError, 'MQREDIS_EXPIRED', true],
    [UnavailableError, 'MQREDIS_UNAVAILABLE', true],
    [TooBigError, 'MQREDIS_TOO_BIG', false],
    [LostError, 'MQREDIS_LOST', false],
    [OutOfMemoryError, 'MQREDIS_NOMEM', true],
    [SystemError, 'MQREDIS_SYSTEM', true],
];

function ofStatus(status, text) {
    const [type, code, notExecuted] =
        BY_STATUS[status] ?? [MqredisError, 'MQREDIS_UNKNOWN', false];
    const error = new type(text, code);
    error.notExecuted = notExecuted;
    return error;
}

module.exports = {
    public: {
        MqredisError,
        InvalidError,
        ExpiredError,
        UnavailableError,
        TooBigError,
        LostError,
        OutOfMemoryError,
        SystemError,
        ClosedError,
        ReplyError,
    },
    ofStatus,
};
