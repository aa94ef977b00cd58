'use strict';

/*
 * libmqredis as koffi sees it. Structures are declared for their offsets alone:
 * a reply is a tree of which every node would cost a decoded object, so reply.js
 * copies the bytes of a node and reads the members in them.
 *
 * Pointers are BigInts.
 */
const koffi = require('koffi');

const structs = {
    mqredis_error: koffi.struct('mqredis_error', {
        status: 'int',
        text: koffi.array('char', 512),
    }),
    mqredis_reply: koffi.struct('mqredis_reply', {
        type: 'int',
        status: 'int',
        integer: 'int64_t',
        real: 'double',
        str: 'void *',
        len: 'size_t',
        format: koffi.array('char', 4),
        elements: 'size_t',
        element: 'void *',
        attributes: 'void *',
    }),
    mqredis_info: koffi.struct('mqredis_info', {
        queue_depth: 'long',
        queue_capacity: 'long',
        message_size: 'size_t',
        manager_pid: 'int32_t',
        connected: 'bool',
        state: koffi.array('char', 16),
        server: koffi.array('char', 160),
        last_error: koffi.array('char', 256),
        resp: 'int',
        db: 'unsigned int',
    }),
    mqredis_event: koffi.struct('mqredis_event', {
        type: 'int',
        status: 'int',
        count: 'uint64_t',
        channel: 'void *',
        pattern: 'void *',
        data: 'void *',
        channel_len: 'size_t',
        pattern_len: 'size_t',
        len: 'size_t',
        raw: 'void *',
        raw_len: 'size_t',
    }),
};

/* enum mqredis_type */
const types = {
    MQREDIS_STRING: 1,
    MQREDIS_ARRAY: 2,
    MQREDIS_INTEGER: 3,
    MQREDIS_NIL: 4,
    MQREDIS_STATUS: 5,
    MQREDIS_ERROR: 6,
    MQREDIS_DOUBLE: 7,
    MQREDIS_BOOL: 8,
    MQREDIS_MAP: 9,
    MQREDIS_SET: 10,
    MQREDIS_PUSH: 12,
    MQREDIS_BIGNUM: 13,
    MQREDIS_VERBATIM: 14,
    MQREDIS_BATCH: 64,
    MQREDIS_FAILURE: 65,
};

/* enum mqredis_event_type */
const events = {
    MQREDIS_MESSAGE: 1,
    MQREDIS_SUBSCRIBED: 2,
    MQREDIS_LAGGED: 3,
    MQREDIS_GAP: 4,
    MQREDIS_END: 5,
};

const LIBRARY = process.env.MQREDIS_LIBRARY || 'libmqredis.so.1';

function open() {
    try {
        return koffi.load(LIBRARY);
    } catch (e) {
        throw new Error(
            `mqredis: cannot use ${LIBRARY}: ${e.message}; install ` +
                'libmqredis, or name it in MQREDIS_LIBRARY',
        );
    }
}

const library = open();

/* Copies memory of C into a Buffer. */
const copy = koffi
    .load(null)
    .func('void *memcpy(_Out_ uint8_t *to, void *from, size_t len)');

const ARGV = 'size_t argc, const uint8_t **argv, const size_t *len';

module.exports = {
    koffi,
    structs,
    types,
    events,
    copy,
    version: library.func('const char *mqredis_version(void)'),
    open: library.func(
        'void *mqredis_open(const char *channel, _Out_ mqredis_error *error)',
    ),
    close: library.func('void mqredis_close(void *mq)'),
    setTimeout: library.func(
        'void mqredis_set_timeout(void *mq, int64_t timeout_ms)',
    ),
    setWindow: library.func(
        'void mqredis_set_window(void *mq, unsigned int messages)',
    ),
    waitReady: library.func(
        'int mqredis_wait_ready(void *mq, int64_t timeout_ms, _Out_ mqredis_error *error)',
    ),
    info: library.func(
        'int mqredis_info(void *mq, _Out_ mqredis_info *info, _Out_ mqredis_error *error)',
    ),
    fd: library.func('int mqredis_fd(void *mq)'),
    submit: library.func(`void *mqredis_submit_argv(void *mq, ${ARGV})`),
    batchNew: library.func('void *mqredis_batch_new(void *mq)'),
    batchAdd: library.func(`void mqredis_batch_add_argv(void *batch, ${ARGV})`),
    batchSubmit: library.func('void *mqredis_batch_submit(void *batch)'),
    waitAny: library.func('void *mqredis_wait_any(void *mq, int64_t timeout_ms)'),
    wait: library.func('void *mqredis_wait(void *request)'),
    cancel: library.func('void mqredis_cancel(void *request)'),
    free: library.func('void mqredis_free(void *reply)'),
    subscribe: library.func(
        'void *mqredis_subscribe(void *mq, size_t count, const uint8_t **names, const size_t *len, _Out_ mqredis_error *error)',
    ),
    psubscribe: library.func(
        'void *mqredis_psubscribe(void *mq, size_t count, const uint8_t **names, const size_t *len, _Out_ mqredis_error *error)',
    ),
    ssubscribe: library.func(
        'void *mqredis_ssubscribe(void *mq, size_t count, const uint8_t **names, const size_t *len, _Out_ mqredis_error *error)',
    ),
    streamNext: library.func(
        'bool mqredis_stream_next(void *stream, int64_t timeout_ms, _Out_ uint8_t *event)',
    ),
    streamFd: library.func('int mqredis_stream_fd(void *stream)'),
    streamRenew: library.func(
        'int mqredis_stream_renew(void *stream, int64_t timeout_ms, _Out_ mqredis_error *error)',
    ),
    streamClose: library.func('void mqredis_stream_close(void *stream)'),
};
