'use strict';

/* From trees of struct mqredis_reply to values of JavaScript. */
const { isUtf8 } = require('node:buffer');
const native = require('./native');
const { public: errors, ofStatus } = require('./errors');

const T = native.types;
const SIZE = native.koffi.sizeof(native.structs.mqredis_reply);
const AT = {};
for (const member of Object.keys(native.koffi.type(native.structs.mqredis_reply).members))
    AT[member] = native.koffi.offsetof(native.structs.mqredis_reply, member);

/* On Linux a size_t and a pointer are of 8 bytes, or of 4. */
const WORD = native.koffi.sizeof('void *');
const word = (bytes, at) =>
    WORD === 8 ? Number(bytes.readBigUInt64LE(at)) : bytes.readUInt32LE(at);

/* len bytes at an address, in a Buffer of their own. */
function bytesAt(address, len) {
    const bytes = Buffer.allocUnsafe(len);
    if (len > 0) native.copy(bytes, BigInt(address), len);
    return bytes;
}

function integer(bytes) {
    const value = bytes.readBigInt64LE(AT.integer);
    const small = Number(value);
    return Number.isSafeInteger(small) ? small : value;
}

function text(node) {
    return bytesAt(word(node, AT.str), word(node, AT.len));
}

function elements(node, options) {
    const count = word(node, AT.elements);
    const list = bytesAt(word(node, AT.element), count * WORD);
    const values = new Array(count);
    for (let i = 0; i < count; i++)
        values[i] = value(word(list, i * WORD), options);
    return values;
}

/* A key that is text is a string, whatever values are: Buffers are never equal,
 * and no lookup would find them. */
function map(node, options) {
    const flat = elements(node, options);
    const values = new Map();
    for (let i = 0; i + 1 < flat.length; i += 2) {
        const key = flat[i];
        const name = Buffer.isBuffer(key) && isUtf8(key) ? key.toString() : key;
        values.set(name, flat[i + 1]);
    }
    return values;
}

/* Errors and failures are values here: of a batch each may have its own. */
function value(address, options) {
    const node = bytesAt(address, SIZE);
    const type = node.readInt32LE(AT.type);
    switch (type) {
        case T.MQREDIS_STRING:
        case T.MQREDIS_VERBATIM:
            return options.encoding
                ? text(node).toString(options.encoding)
                : text(node);
        case T.MQREDIS_STATUS:
            return text(node).toString();
        case T.MQREDIS_INTEGER:
            return integer(node);
        case T.MQREDIS_NIL:
            return null;
        case T.MQREDIS_DOUBLE:
            return node.readDoubleLE(AT.real);
        case T.MQREDIS_BOOL:
            return node.readBigInt64LE(AT.integer) !== 0n;
        case T.MQREDIS_BIGNUM:
            return BigInt(text(node).toString());
        case T.MQREDIS_ERROR:
            return new errors.ReplyError(text(node).toString());
        case T.MQREDIS_FAILURE:
            return ofStatus(node.readInt32LE(AT.status), text(node).toString());
        case T.MQREDIS_MAP:
            return map(node, options);
        case T.MQREDIS_ARRAY:
        case T.MQREDIS_SET:
        case T.MQREDIS_PUSH:
        case T.MQREDIS_BATCH:
            return elements(node, options);
        default:
            return new errors.MqredisError(
                `a reply of the unknown type ${type}`,
                'MQREDIS_UNKNOWN',
            );
    }
}

/* Frees the reply and gives its value; an error is a value, too. */
function take(reply, options) {
    try {
        return value(reply, options);
    } finally {
        native.free(reply);
    }
}

/* ---- the other way: the words of a command ---- */

function toBytes(word) {
    if (typeof word === 'string') return Buffer.from(word);
    if (word instanceof Uint8Array) return word;
    if (typeof word === 'number' || typeof word === 'bigint')
        return Buffer.from(String(word));
    throw new TypeError(
        'an argument is a string, a Buffer, a number or a bigint, not ' +
            (word === null ? 'null' : typeof word),
    );
}

/* The arguments argc, argv and len of the library's calls. */
function argv(words) {
    if (!Array.isArray(words) || words.length === 0)
        throw new TypeError('a command is an array with at least its name');
    const bytes = words.map(toBytes);
    return [bytes.length, bytes, bytes.map((b) => b.length)];
}

module.exports = { take, argv, bytesAt, word };
