'use strict';

/* ioredis on the gateway. */
const { assert, order, until, runCases } = require('../script');
const { load, place, RESP, everyByte } = require('./client');

const Redis = load('ioredis');
const opened = [];

function connect(options = {}) {
    const r = new Redis({ ...place, protocol: RESP, ...options });
    opened.push(r);
    return r;
}

const cases = {};

cases.handshake = async () => {
    const r = connect({ connectionName: 'a-name', db: 0 });
    assert.equal(await r.ping(), 'PONG');
    assert.equal(await r.client('GETNAME'), 'a-name');
    assert.ok((await r.client('ID')) > 0);
    assert.equal(await r.select(0), 'OK');
    await assert.rejects(r.select(1));
    assert.equal((await r.hello())[5] ?? (await r.hello()).proto, RESP);
};

cases.strings = async () => {
    const r = connect();
    for (const text of [everyByte, '', '\0', 'a\r\nb', 'ü']) {
        const value = Buffer.from(text);
        const key = Buffer.concat([Buffer.from('k'), value]);
        assert.equal(await r.set(key, value), 'OK');
        assert.deepEqual(await r.getBuffer(key), value);
    }
    assert.equal(await r.get('nothing'), null);
    assert.equal(await r.set('k', 'v', 'NX'), null);
    assert.deepEqual(await r.mget('kü', 'nothing'), ['ü', null]);
};

cases.types = async () => {
    const r = connect();
    assert.equal(await r.incr('n'), 1);
    assert.equal(await r.incrbyfloat('f', 1.5), '1.5');
    await r.hset('h', { a: '1', b: '2' });
    assert.deepEqual({ ...(await r.hgetall('h')) }, { a: '1', b: '2' });
    await r.zadd('z', 1, 'one', 2.5, 'two');
    assert.equal(await r.zscore('z', 'two'), '2.5');
    assert.equal(await r.zscore('z', 'none'), null);
    assert.deepEqual(await r.zrange('z', 0, -1, 'WITHSCORES'), [
        'one',
        '1',
        'two',
        '2.5',
    ]);
    await r.sadd('s', 'a', 'b');
    assert.deepEqual((await r.smembers('s')).sort(), ['a', 'b']);
    const hundred = Array.from({ length: 100 }, (_, i) => `${i}`);
    await r.rpush('l', ...hundred);
    assert.deepEqual(await r.lrange('l', 0, -1), hundred);
    const keys = [];
    for await (const some of r.scanStream({ count: 2 })) keys.push(...some);
    assert.deepEqual(keys.sort(), ['f', 'h', 'l', 'n', 's', 'z']);
    assert.equal(await r.xadd('x', '1-1', 'f', 'v'), '1-1');
    assert.deepEqual(await r.xread('STREAMS', 'x', 0), [
        ['x', [['1-1', ['f', 'v']]]],
    ]);
    assert.match(await r.info('server'), /redis_version/);
};

cases.pipeline = async () => {
    const r = connect();
    const p = r.pipeline();
    for (let i = 0; i < 2000; i++) p.set(`k${i}`, `v${i}`).get(`k${i}`);
    const replies = await p.exec();
    assert.equal(replies.length, 4000);
    replies.forEach(([error, value], i) => {
        assert.equal(error, null);
        assert.equal(value, i % 2 ? `v${(i - 1) / 2}` : 'OK');
    });
    const [, [error], [, last]] = await r
        .pipeline()
        .set('k', 'v')
        .lpush('k', 1)
        .get('k')
        .exec();
    assert.match(error.message, /^WRONGTYPE/);
    assert.equal(last, 'v');
    /* Without being told to, too. */
    const all = await Promise.all(
        Array.from({ length: 5000 }, () => r.incr('n')),
    );
    all.forEach((n, i) => assert.equal(n, i + 1));
};

cases.transaction = async () => {
    const r = connect();
    assert.deepEqual(await r.multi().set('t', 1).incr('t').exec(), [
        [null, 'OK'],
        [null, 2],
    ]);
    const replies = await r.multi().incr('t').lpush('t', 1).exec();
    assert.deepEqual(replies[0], [null, 3]);
    assert.match(replies[1][0].message, /^WRONGTYPE/);
    await assert.rejects(
        r.multi().set('t', 9).call('NOSUCHCOMMAND').exec(),
        /EXECABORT/,
    );
    assert.equal(await r.get('t'), '3');
    await r.multi({ pipeline: false });
    assert.equal(await r.set('t', 9), 'QUEUED');
    assert.equal(await r.discard(), 'OK');
    assert.equal(await r.get('t'), '3');
    await assert.rejects(r.watch('t'));
};

cases.scripts = async () => {
    const r = connect();
    r.defineCommand('three', {
        numberOfKeys: 1,
        lua: 'return {KEYS[1], ARGV[1], 7}',
    });
    assert.deepEqual(await r.three('k', 'a'), ['k', 'a', 7]);
    assert.deepEqual(await r.three('k', 'b'), ['k', 'b', 7]);
    await assert.rejects(r.evalsha('0'.repeat(40), 0), /NOSCRIPT/);
};

cases.pubsub = async () => {
    const r = connect();
    const s = connect();
    const seen = [];
    s.on('messageBuffer', (channel, data) => seen.push([`${channel}`, data]));
    s.on('pmessageBuffer', (pattern, channel, data) =>
        seen.push([`${pattern} ${channel}`, data]),
    );
    assert.equal(await s.subscribe('news', 'other'), 2);
    assert.equal(await s.psubscribe('n*'), 3);
    assert.equal(await r.publish('news', everyByte) >= 1, true);
    await until(() => seen.length === 2, 'both');
    assert.deepEqual(
        seen.sort((a, b) => a[0].localeCompare(b[0])),
        [
            ['n* news', everyByte],
            ['news', everyByte],
        ],
    );
    assert.equal(await s.unsubscribe('news'), 2);
    await r.publish('other', 'more');
    await until(() => seen.length === 3, 'more');
    assert.deepEqual(seen[2], ['other', Buffer.from('more')]);
    /* In this order: ioredis waits until nothing is subscribed to if it is told
     * no names. */
    await s.punsubscribe('n*');
    await s.unsubscribe();
    assert.equal(await s.set('k', 'as others again'), 'OK');
};

cases.blocking = async () => {
    const r = connect();
    const b = connect();
    assert.equal(await b.blpop('q', 0.05), null);
    const popped = b.blpop('q', 15);
    const blocks = async () => /cmd=blpop/.test(await r.client('LIST'));
    await until(blocks, 'it blocks');
    await r.rpush('q', 'x');
    assert.deepEqual(await popped, ['q', 'x']);
    /* A client that goes while it blocks takes nothing with it. */
    const never = b.blpop('gone', 0).catch(() => {});
    await until(blocks, 'it blocks again');
    b.disconnect();
    await never;
    await until(async () => !(await blocks()), 'it is gone');
    await r.rpush('gone', 'kept');
    assert.equal(await r.llen('gone'), 1);
};

cases.errors = async () => {
    const r = connect();
    await r.set('k', 'text');
    await assert.rejects(r.lpush('k', 1), /^ReplyError: WRONGTYPE/);
    await assert.rejects(r.call('NOSUCHCOMMAND'), /ERR unknown command/);
    await assert.rejects(r.call('GET'), /wrong number of arguments/);
    assert.equal(await r.get('k'), 'text');
};

cases.large = async () => {
    const r = connect();
    const value = Buffer.alloc(5 << 20, everyByte);
    const [set, seen, none] = await Promise.all([
        r.set('large', value),
        r.getBuffer('large'),
        r.get('nothing'),
    ]);
    assert.equal(set, 'OK');
    assert.ok(value.equals(seen));
    assert.equal(none, null);
    const replies = await r.multi().set('a', value).getBuffer('large').exec();
    assert.ok(value.equals(replies[1][1]));
};

cases.reconnect = async () => {
    const r = connect({ maxRetriesPerRequest: 1 });
    r.on('error', () => {});
    await r.set('k', 'before');
    order('kill manager');
    await assert.rejects(r.get('k'));
    order('start manager');
    const back = () => r.get('k').then((v) => v === 'before', () => false);
    await until(back, 'the gateway finds the new manager');
};

cases['a subscriber finds the next manager'] = async () => {
    const r = connect({ maxRetriesPerRequest: 1 });
    const s = connect();
    const seen = [];
    r.on('error', () => {});
    s.on('error', () => {});
    s.on('message', (channel, data) => seen.push(`${channel} ${data}`));
    await s.subscribe('news');
    order('kill manager');
    order('start manager');
    await until(async () => {
        await r.publish('news', 'back').catch(() => {});
        return seen.includes('news back');
    }, 'it has subscribed again');
};

cases['RESP3 where there may be only RESP2'] = async () => {
    assert.equal(await connect({ protocol: 3 }).ping(), 'PONG');
};

cases['many connections'] = async () => {
    const work = async (name) => {
        const r = connect();
        for (let i = 0; i < 100; i++) {
            const mine = `${name} ${i} ${'x'.repeat((i * 17) % 1500)}`;
            await r.set(`k${name}`, mine);
            assert.equal(await r.get(`k${name}`), mine);
        }
    };
    await Promise.all(Array.from({ length: 16 }, (_, i) => work(i)));
    const list = await connect().client('LIST');
    assert.ok(list.trim().split('\n').length < 8, list);
};

for (const [name, run] of Object.entries(cases))
    cases[name] = () => run().finally(() => opened.forEach((r) => r.disconnect()));
runCases(cases);
