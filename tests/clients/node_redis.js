'use strict';

/* node-redis on the gateway. */
const { assert, order, until, runCases } = require('../script');
const { load, place, RESP, everyByte } = require('./client');

const redis = load('redis');
const opened = [];

async function connect(options = {}) {
    const { retry = false, ...rest } = options;
    const socket = { ...place, reconnectStrategy: retry ? 50 : false };
    const r = redis.createClient({ RESP, socket, ...rest });
    opened.push(r);
    r.on('error', () => {});
    await r.connect();
    return r;
}

const bytes = { [redis.RESP_TYPES.BLOB_STRING]: Buffer };

const cases = {};

cases.handshake = async () => {
    const r = await connect({ name: 'a-name', database: 0 });
    assert.equal(await r.ping(), 'PONG');
    assert.equal(await r.clientGetName(), 'a-name');
    assert.ok((await r.clientId()) > 0);
    await r.select(0);
    await assert.rejects(r.select(1));
    await assert.rejects(connect({ database: 1 }));
    const hello = await r.hello();
    assert.equal(hello.proto, RESP);
};

cases.strings = async () => {
    const r = (await connect()).withTypeMapping(bytes);
    for (const text of [everyByte, '', '\0', 'a\r\nb', 'ü']) {
        const value = Buffer.from(text);
        const key = Buffer.concat([Buffer.from('k'), value]);
        assert.equal(await r.set(key, value), 'OK');
        assert.deepEqual(await r.get(key), value);
    }
    assert.equal(await r.get('nothing'), null);
    assert.equal(await r.set('k', 'v', { condition: 'NX' }), null);
    assert.deepEqual(await r.mGet(['kü', 'nothing']), [Buffer.from('ü'), null]);
};

cases.types = async () => {
    const r = await connect();
    assert.equal(await r.incr('n'), 1);
    assert.equal(Number(await r.incrByFloat('f', 1.5)), 1.5);
    await r.hSet('h', { a: '1', b: '2' });
    assert.deepEqual({ ...(await r.hGetAll('h')) }, { a: '1', b: '2' });
    await r.zAdd('z', [
        { score: 1, value: 'one' },
        { score: 2.5, value: 'two' },
    ]);
    assert.equal(await r.zScore('z', 'two'), 2.5);
    assert.equal(await r.zScore('z', 'none'), null);
    assert.deepEqual(
        (await r.zRangeWithScores('z', 0, -1)).map((m) => [m.value, m.score]),
        [
            ['one', 1],
            ['two', 2.5],
        ],
    );
    const { value, score } = await r.zPopMin('z');
    assert.deepEqual([value, score], ['one', 1]);
    await r.sAdd('s', ['a', 'b']);
    assert.deepEqual([...(await r.sMembers('s'))].sort(), ['a', 'b']);
    const hundred = Array.from({ length: 100 }, (_, i) => `${i}`);
    await r.rPush('l', hundred);
    assert.deepEqual(await r.lRange('l', 0, -1), hundred);
    const keys = [];
    for await (const some of r.scanIterator({ COUNT: 2 })) keys.push(...some);
    assert.deepEqual(keys.sort(), ['f', 'h', 'l', 'n', 's', 'z']);
    assert.equal(await r.xAdd('x', '1-1', { f: 'v' }), '1-1');
    const [stream] = await r.xRead({ key: 'x', id: '0' });
    assert.equal(stream.name, 'x');
    assert.deepEqual({ ...stream.messages[0].message }, { f: 'v' });
    assert.equal((await r.configGet('appendonly')).appendonly, 'no');
    assert.match(await r.info('server'), /redis_version/);
};

cases.pipeline = async () => {
    const r = await connect();
    const p = r.multi();
    for (let i = 0; i < 2000; i++) p.set(`k${i}`, `v${i}`).get(`k${i}`);
    const replies = await p.execAsPipeline();
    assert.equal(replies.length, 4000);
    replies.forEach((value, i) =>
        assert.equal(value, i % 2 ? `v${(i - 1) / 2}` : 'OK'),
    );
    const all = await Promise.all(
        Array.from({ length: 5000 }, () => r.incr('n')),
    );
    all.forEach((n, i) => assert.equal(n, i + 1));
};

cases.transaction = async () => {
    const r = await connect();
    assert.deepEqual(await r.multi().set('t', '1').incr('t').exec(), ['OK', 2]);
    await assert.rejects(
        r.multi().incr('t').lPush('t', '1').exec(),
        (error) =>
            error.replies[0] === 3 && /^WRONGTYPE/.test(error.replies[1].message),
    );
    await assert.rejects(
        r.multi().set('t', '9').addCommand(['NOSUCHCOMMAND']).exec(),
    );
    assert.equal(await r.get('t'), '3');
    await assert.rejects(r.watch('t'));
};

cases.scripts = async () => {
    const r = await connect({
        scripts: {
            three: redis.defineScript({
                NUMBER_OF_KEYS: 1,
                SCRIPT: 'return {KEYS[1], ARGV[1], 7}',
                parseCommand(parser, key, argument) {
                    parser.pushKey(key);
                    parser.push(argument);
                },
                transformReply: (reply) => reply,
            }),
        },
    });
    assert.deepEqual(await r.three('k', 'a'), ['k', 'a', 7]);
    assert.deepEqual(await r.three('k', 'b'), ['k', 'b', 7]);
    await assert.rejects(r.evalSha('0'.repeat(40)), /NOSCRIPT/);
};

cases.pubsub = async () => {
    const r = await connect();
    const s = await connect();
    const seen = [];
    const note = (data, channel) => seen.push([`${channel}`, data]);
    await s.subscribe(['news', 'other'], note, true);
    await s.pSubscribe('n*', (data, channel) => note(data, `n* ${channel}`), true);
    assert.ok((await r.publish('news', everyByte)) >= 1);
    await until(() => seen.length === 2, 'both');
    assert.deepEqual(
        seen.sort((a, b) => a[0].localeCompare(b[0])),
        [
            ['n* news', everyByte],
            ['news', everyByte],
        ],
    );
    await s.unsubscribe('news');
    await r.publish('other', 'more');
    await until(() => seen.length === 3, 'more');
    assert.deepEqual(seen[2], ['other', Buffer.from('more')]);
    await s.unsubscribe();
    await s.pUnsubscribe();
    assert.equal(String(await s.set('k', 'as others again')), 'OK');
};

cases.blocking = async () => {
    const r = await connect();
    const b = await connect();
    assert.equal(await b.blPop('q', 0.05), null);
    const popped = b.blPop('q', 15);
    const blocks = async () =>
        /cmd=blpop/.test(await r.sendCommand(['CLIENT', 'LIST']));
    await until(blocks, 'it blocks');
    await r.rPush('q', 'x');
    assert.deepEqual({ ...(await popped) }, { key: 'q', element: 'x' });
    const never = b.blPop('gone', 0).catch(() => {});
    await until(blocks, 'it blocks again');
    b.destroy();
    await never;
    await until(async () => !(await blocks()), 'it is gone');
    await r.rPush('gone', 'kept');
    assert.equal(await r.lLen('gone'), 1);
};

cases.errors = async () => {
    const r = await connect();
    await r.set('k', 'text');
    await assert.rejects(r.lPush('k', '1'), /WRONGTYPE/);
    await assert.rejects(r.sendCommand(['NOSUCHCOMMAND']), /unknown command/);
    await assert.rejects(r.sendCommand(['GET']), /wrong number of arguments/);
    assert.equal(await r.get('k'), 'text');
};

cases.large = async () => {
    const r = (await connect()).withTypeMapping(bytes);
    const value = Buffer.alloc(5 << 20, everyByte);
    const [set, seen, none] = await Promise.all([
        r.set('large', value),
        r.get('large'),
        r.get('nothing'),
    ]);
    assert.equal(set, 'OK');
    assert.ok(value.equals(seen));
    assert.equal(none, null);
    const replies = await r.multi().set('a', value).strLen('large').exec();
    assert.deepEqual(replies, ['OK', value.length]);
};

cases.reconnect = async () => {
    const r = await connect({ retry: true });
    await r.set('k', 'before');
    order('kill manager');
    await assert.rejects(r.get('k'));
    order('start manager');
    const back = () => r.get('k').then((v) => v === 'before', () => false);
    await until(back, 'the gateway finds the new manager');
};

cases['a subscriber finds the next manager'] = async () => {
    const r = await connect({ retry: true });
    const s = await connect({ retry: true });
    const seen = [];
    await s.subscribe('news', (data) => seen.push(data));
    order('kill manager');
    order('start manager');
    await until(async () => {
        await r.publish('news', 'back').catch(() => {});
        return seen.includes('back');
    }, 'it has subscribed again');
};

cases['many connections'] = async () => {
    const work = async (name) => {
        const r = await connect();
        for (let i = 0; i < 100; i++) {
            const mine = `${name} ${i} ${'x'.repeat((i * 17) % 1500)}`;
            await r.set(`k${name}`, mine);
            assert.equal(await r.get(`k${name}`), mine);
        }
    };
    await Promise.all(Array.from({ length: 16 }, (_, i) => work(i)));
    const list = await (await connect()).sendCommand(['CLIENT', 'LIST']);
    assert.ok(list.trim().split('\n').length < 8, list);
};

for (const [name, run] of Object.entries(cases))
    cases[name] = () =>
        run().finally(() =>
            opened.forEach((r) => {
                if (r.isOpen) r.destroy();
            }),
        );
runCases(cases);
