'use strict';

/* What the Node clients share: the gateway's place, the protocol to speak, and
 * bytes of every kind. */
const { cannot } = require('../script');

/* A client's package. */
function load(name) {
    try {
        return require(name);
    } catch {
        return cannot(`${name} is not installed (tools/setup gets it from npm)`);
    }
}

/* Where the gateway listens, as sockets of Node take it. */
const place =
    process.env.MQREDIS_TRANSPORT === 'tcp'
        ? { host: '127.0.0.1', port: Number(process.env.MQREDIS_GATEWAY_PORT) }
        : { path: process.env.MQREDIS_GATEWAY_SOCKET };

const RESP = Number(process.env.MQREDIS_RESP);
const everyByte = Buffer.from(Array.from({ length: 256 }, (_, i) => i));

module.exports = { load, place, RESP, everyByte };
