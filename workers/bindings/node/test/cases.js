'use strict';

/* The cases of tests/check_bindings_node.c. */
const childProcess = require('node:child_process');
const path = require('node:path');
const { Worker } = require('node:worker_threads');
const { assert, cannot, order, until, runCases } = require('../../../../tests/script');

try {
    require.resolve('koffi');
} catch {
    cannot('koffi is not installed (tools/setup gets it from npm)');
}
const mqredis = require('..');
const { Client } = mqredis;

const PROCESSES = 8;
const ROUNDS = 200;

const everyByte = Buffer.from(Array.from({ length: 256 }, (_, i) => i));

/* A case with a client that is closed in the end. */
const withClient = (run, options) => async () => {
    const mq = new Client({ timeout: 20000, ...options });
    try {
        await run(mq);
    } finally {
        mq.close();
    }
};

/* What each process of a pool does: values that carry its name, seen again. */
async function work(mq, name) {
    const round = async (i) => {
        const mine = `${name} request ${i} ${'x'.repeat((i * 17) % 1500)}`;
        await mq.set(`key:${name}:${i % 10}`, mine);
        return mine;
    };
    for (let i = 0; i < ROUNDS; i += 10) {
        const ten = Array.from({ length: 10 }, (_, k) => i + k);
        const mine = await Promise.all(ten.map(round));
        const seen = await Promise.all(
            ten.map((k) => mq.get(`key:${name}:${k % 10}`)),
        );
        assert.deepEqual(seen.map(String), mine);
    }
}

function node(args, env = {}) {
    return new Promise((resolve) => {
        childProcess.execFile(
            process.execPath,
            args,
            { env: { ...process.env, ...env } },
            (error, out, err) =>
                resolve({ status: error ? error.code : 0, text: out + err }),
        );
    });
}

const cases = {};

cases['strings hold any bytes, nil is null'] = withClient(async (mq) => {
    for (const value of [everyByte, '', '\0', 'a\r\nb', 'ü', '%s %b']) {
        const bytes = Buffer.from(value);
        assert.equal(await mq.set('k', value), 'OK');
        assert.deepEqual(await mq.get('k'), bytes);
        await mq.set(bytes, new Uint8Array(bytes));
        assert.deepEqual(await mq.get(bytes), bytes);
    }
    assert.equal(await mq.get('nothing'), null);
    assert.equal(await mq.get('k', { encoding: 'utf8' }), '%s %b');
    const texts = new Client({ encoding: 'latin1' });
    await texts.set('k', 'text');
    assert.equal(await texts.get('k'), 'text');
    assert.deepEqual(
        await texts.get('k', { encoding: null }),
        Buffer.from('text'),
    );
    texts.close();
});

cases['a large value'] = withClient(async (mq) => {
    const value = Buffer.alloc(5 << 20, everyByte);
    await mq.set('large', value);
    assert.ok(value.equals(await mq.get('large')));
    const all = await Promise.all([
        mq.set('a', value),
        mq.get('large'),
        mq.get('a'),
        mq.command(['STRLEN', 'a']),
    ]);
    assert.ok(value.equals(all[1]) && value.equals(all[2]));
    assert.equal(all[3], value.length);
});

cases['replies have their types'] = withClient(async (mq) => {
    assert.equal(await mq.command(['INCR', 'n']), 1);
    assert.equal(await mq.command(['INCRBY', 'n', -5]), -4);
    assert.equal(await mq.command(['INCRBY', 'n', 10n]), 6);
    await mq.set('most', 2n ** 63n - 2n);
    assert.equal(await mq.command(['INCR', 'most']), 2n ** 63n - 1n);
    assert.equal(await mq.command(['SET', 'n', '1', 'NX']), null);
    await mq.command(['HSET', 'h', 'name', 'Ada', Buffer.from([255]), 'x']);
    const h = await mq.command(['HGETALL', 'h']);
    assert.deepEqual(String(h.get('name')), 'Ada');
    /* A key that is no text stays bytes. */
    assert.deepEqual([...h.keys()][1], Buffer.from([255]));
    await mq.command(['ZADD', 'z', 1.5, 'one']);
    assert.equal(await mq.command(['ZSCORE', 'z', 'one']), 1.5);
    assert.equal(mq.info().resp, 3);
    assert.deepEqual(
        await mq.command(['EVAL', "return {1, {2, {'3', false}}}", 0]),
        [1, [2, [Buffer.from('3'), null]]],
    );
    assert.deepEqual(await mq.command(['KEYS', 'nothing*']), []);
    const many = Array.from({ length: 10000 }, (_, i) => `value ${i}`);
    assert.equal(await mq.command(['RPUSH', 'l', ...many]), 10000);
    const range = ['LRANGE', 'l', 0, -1];
    assert.deepEqual(await mq.command(range, { encoding: 'utf8' }), many);
});

cases['errors have their classes'] = withClient(async (mq) => {
    await mq.set('k', 'text');
    await assert.rejects(mq.command(['LPUSH', 'k', 'x']), (error) => {
        assert.ok(error instanceof mqredis.ReplyError);
        assert.ok(error instanceof mqredis.MqredisError);
        assert.equal(error.code, 'WRONGTYPE');
        assert.equal(error.name, 'ReplyError');
        return true;
    });
    await assert.rejects(mq.command(['MULTI']), (error) => {
        assert.ok(error instanceof mqredis.InvalidError);
        assert.equal(error.code, 'MQREDIS_INVALID');
        assert.equal(error.notExecuted, true);
        return true;
    });
    await assert.rejects(mq.command([]), TypeError);
    await assert.rejects(mq.command(['GET', null]), TypeError);
    await assert.rejects(mq.batch([['GET', 'k'], ['GET', {}]]), TypeError);
    await assert.rejects(mq.get('k', { timeout: -1 }), RangeError);
    assert.throws(
        () => new Client('x'.repeat(300)),
        (error) => error instanceof mqredis.MqredisError,
    );
    const other = new Client();
    other.close();
    other.close();
    await assert.rejects(other.get('k'), mqredis.ClosedError);
    assert.throws(() => other.info(), mqredis.ClosedError);
});

cases['a batch gives each command its reply'] = withClient(async (mq) => {
    assert.deepEqual(await mq.batch([]), []);
    const [set, error, n, none] = await mq.batch([
        ['SET', 'a', '1'],
        ['LPUSH', 'a', 'x'],
        ['INCRBY', 'a', 41],
        ['GET', 'none'],
    ]);
    assert.deepEqual([set, n, none], ['OK', 42, null]);
    assert.equal(error.code, 'WRONGTYPE');
});

cases['a transaction is all or nothing'] = withClient(async (mq) => {
    assert.deepEqual(
        await mq.transaction([['SET', 't', 1], ['INCR', 't']]),
        ['OK', 2],
    );
    await assert.rejects(
        mq.transaction([['SET', 't', 'other'], ['NOSUCHCOMMAND']]),
        (error) =>
            error instanceof mqredis.ReplyError &&
            /NOSUCHCOMMAND/.test(error.message),
    );
    assert.equal(String(await mq.get('t')), '2');
    const [three, error] = await mq.transaction([
        ['INCR', 't'],
        ['LPUSH', 't', 'x'],
    ]);
    assert.equal(three, 3);
    assert.equal(error.code, 'WRONGTYPE');
});

cases['thousands in flight, in order'] = withClient(async (mq) => {
    const count = 20000;
    const replies = await Promise.all(
        Array.from({ length: count }, () => mq.command(['INCR', 'n'])),
    );
    replies.forEach((n, i) => assert.equal(n, i + 1));
});

cases['more than the library holds waits its turn'] = withClient(async (mq) => {
    const value = Buffer.alloc(900, 'x');
    const controller = new AbortController();
    const { signal } = controller;
    const sets = Array.from({ length: 3000 }, (_, i) =>
        mq.set(`big:${i}`, value),
    );
    const never = mq.command(['SET', 'never', 1], { signal });
    const late = mq.command(['SET', 'late', 1], { timeout: 0 });
    const last = mq.command(['EXISTS', 'never', 'late', 'big:2999']);
    controller.abort();
    await assert.rejects(never, { name: 'AbortError' });
    await assert.rejects(late, mqredis.ExpiredError);
    assert.equal(await last, 1);
    assert.deepEqual(await Promise.all(sets), new Array(3000).fill('OK'));
});

cases['replies are heard of while nothing else happens'] = withClient(
    async (mq) => {
        /* It keeps the loop alive, and is what would wake it. */
        const timer = setTimeout(() => assert.fail('too late'), 15000);
        const news = await mq.subscribe('news');
        for (let i = 0; i < 100; i++) {
            await mq.set('k', i);
            const next = news.next();
            await mq.command(['PUBLISH', 'news', i]);
            assert.equal(String((await next).value.data), `${i}`);
        }
        clearTimeout(timer);
    },
);

cases['a signal gives a command up'] = withClient(async (mq) => {
    const aborted = AbortSignal.abort();
    await assert.rejects(mq.get('k', { signal: aborted }), {
        name: 'AbortError',
    });
    const controller = new AbortController();
    const { signal } = controller;
    const blocked = mq.command(['BLPOP', 'list', 0], { signal });
    const others = Promise.all(
        Array.from({ length: 50 }, (_, i) => mq.command(['ECHO', i])),
    );
    setTimeout(() => controller.abort(new Error('enough')), 50);
    await assert.rejects(blocked, /enough/);
    assert.deepEqual(
        (await others).map(String),
        Array.from({ length: 50 }, (_, i) => `${i}`),
    );
    /* Nobody waits for the list any more. */
    await until(async () => {
        const list = String(await mq.command(['CLIENT', 'LIST']));
        return !/cmd=blpop/.test(list);
    }, 'the blocked connection goes');
    await mq.command(['RPUSH', 'list', 'kept']);
    assert.equal(await mq.command(['LLEN', 'list']), 1);
    /* A signal that fires afterwards finds nothing. */
    const late = new AbortController();
    await mq.get('k', { signal: late.signal });
    late.abort();
    assert.equal(await mq.get('k'), null);
    /* In the same tick, before it was sent. */
    const soon = new AbortController();
    const never = mq.command(['SET', 'never', 1], { signal: soon.signal });
    soon.abort();
    await assert.rejects(never, { name: 'AbortError' });
    assert.equal(await mq.get('never'), null);
});

cases['more blocking commands than messages by default'] = withClient(
    async (mq) => {
        const popped = Array.from({ length: 80 }, () =>
            mq.command(['BLPOP', 'q', 0]),
        );
        const values = Array.from({ length: 80 }, (_, i) => `value ${i}`);
        assert.equal(await mq.command(['RPUSH', 'q', ...values]), 80);
        const seen = (await Promise.all(popped)).map(([, v]) => String(v));
        assert.deepEqual(seen.sort(), values.sort());
    },
    { window: 100 },
);

cases['time is in milliseconds'] = withClient(async (mq) => {
    const t0 = Date.now();
    await assert.rejects(
        mq.command(['BLPOP', 'q', 0], { timeout: 150 }),
        (error) =>
            error instanceof mqredis.LostError ||
            error instanceof mqredis.ExpiredError,
    );
    assert.ok(Date.now() - t0 >= 145 && Date.now() - t0 < 8000);
    assert.equal(
        await mq.command(['BLPOP', 'q', 0.1], { timeout: Infinity }),
        null,
    );
});

cases['close rejects what is in flight'] = async () => {
    const mq = new Client();
    const blocked = mq.command(['BLPOP', 'q', 0]);
    const stream = await mq.subscribe('news');
    const next = stream.next();
    const ready = new Client();
    const waits = ready.ready(300);
    mq.close();
    ready.close();
    await assert.rejects(blocked, mqredis.ClosedError);
    await assert.rejects(waits, mqredis.ClosedError);
    assert.deepEqual(await next, { value: undefined, done: true });
};

cases['an idle client does not hold the process'] = async () => {
    const script = `
        const { Client } = require(${JSON.stringify(path.dirname(__dirname))});
        const mq = new Client();
        mq.set('k', 'v').then(() => mq.subscribe('news')).then(() =>
            console.log('done'));`;
    assert.deepEqual(await node(['-e', script]), { status: 0, text: 'done\n' });
};

cases['the manager comes and goes'] = withClient(async (mq) => {
    await mq.ready(10000);
    assert.equal(mq.info().state, 'connected');
    await mq.set('k', 'before');
    const blocked = mq.command(['BLPOP', 'q', 0]);
    await mq.get('k');
    order('kill manager');
    await assert.rejects(blocked, (error) => {
        assert.ok(error instanceof mqredis.LostError, error.stack);
        assert.equal(error.notExecuted, false);
        return true;
    });
    await assert.rejects(mq.get('k'), mqredis.UnavailableError);
    await assert.rejects(mq.ready(100), mqredis.UnavailableError);
    assert.throws(() => mq.info(), mqredis.UnavailableError);
    order('start manager');
    await mq.ready(10000);
    assert.equal(String(await mq.get('k')), 'before');
});

cases['messages of a subscription'] = withClient(async (mq) => {
    const news = await mq.subscribe('news', 'other');
    const any = await mq.psubscribe('n*');
    const waiting = news.next();
    await mq.command(['PUBLISH', 'news', everyByte]);
    await mq.command(['PUBLISH', 'other', '']);
    assert.deepEqual((await waiting).value, {
        type: 'message',
        channel: 'news',
        pattern: null,
        data: everyByte,
    });
    const { value: second } = await news.next();
    assert.deepEqual([second.channel, second.data.length], ['other', 0]);
    const shard = await mq.ssubscribe('news');
    const mine = shard.next();
    await mq.command(['SPUBLISH', 'news', 'mine']);
    assert.equal(String((await mine).value.data), 'mine');
    const both = [any.next(), any.next()];
    await mq.command(['PUBLISH', 'next', 'two']);
    assert.equal((await both[0]).value.pattern, 'n*');
    assert.equal(String((await both[1]).value.data), 'two');
    let count = 0;
    const publish = async () => {
        for (let i = 0; i < 500; i++)
            await mq.command(['PUBLISH', 'news', `${i}`]);
    };
    const published = publish();
    for await (const event of news) {
        assert.equal(String(event.data), `${count}`);
        if (++count === 500) break;
    }
    await published;
    assert.deepEqual(await news.next(), { value: undefined, done: true });
});

cases['a subscription outlives its manager'] = withClient(async (mq) => {
    const news = await mq.subscribe('news');
    const waiting = news.next();
    order('kill manager');
    await assert.rejects(waiting, mqredis.UnavailableError);
    await assert.rejects(news.next(), mqredis.UnavailableError);
    await assert.rejects(news.renew(50), mqredis.UnavailableError);
    order('start manager');
    await news.renew(10000);
    assert.equal((await news.next()).value.type, 'gap');
    await mq.command(['PUBLISH', 'news', 'back']);
    assert.equal(String((await news.next()).value.data), 'back');
});

cases['a cluster of eight processes'] = withClient(async (mq) => {
    const { status, text } = await node([path.join(__dirname, 'pool.js')]);
    assert.equal(status, 0, text);
    const own = await mq.command(['CLIENT', 'LIST'], { encoding: 'utf8' });
    assert.equal(text, `${PROCESSES} of ${PROCESSES} well\n`);
    assert.ok(own.trim().split('\n').length < 5, own);
});

cases['a thread has a client of its own'] = withClient(async (mq) => {
    const script = `
        const { Client } = require(${JSON.stringify(path.dirname(__dirname))});
        const mq = new Client();
        mq.set('thread', 'was here').then(LAST);`;
    const run = (last) =>
        new Promise((resolve, reject) => {
            const worker = new Worker(script.replace('LAST', last), {
                eval: true,
            });
            worker.once('exit', resolve);
            worker.once('error', reject);
        });
    assert.equal(await run('() => mq.close()'), 0);
    assert.equal(String(await mq.get('thread')), 'was here');
    /* One that forgets to close, and one that is busy. */
    assert.equal(await run(''), 0);
    const busy = '() => { mq.command(["BLPOP", "q", 0]); process.exit(0); }';
    assert.equal(await run(busy), 0);
});

cases['declarations are those of the header'] = async () => {
    const { koffi, structs, types, events } = require('../lib/native');
    const abi = path.join(process.env.MQREDIS_BUILD, 'tests', 'mqredis_abi');
    const lines = childProcess.execFileSync(abi, { encoding: 'utf8' });
    let fields = 0;
    let constants = 0;
    for (const line of lines.trim().split('\n')) {
        const [kind, name, first, second] = line.split(' ');
        if (kind === 'enum') {
            const value = types[name] ?? events[name];
            if (value === undefined) continue;
            assert.equal(value, Number(first), line);
            constants++;
            continue;
        }
        const [struct, member] = name.split('.');
        const type = structs[struct];
        if (type === undefined) continue;
        if (kind === 'struct') {
            assert.equal(koffi.sizeof(type), Number(first), line);
            continue;
        }
        assert.equal(koffi.offsetof(type, member), Number(first), line);
        const { members } = koffi.type(type);
        assert.equal(koffi.sizeof(members[member].type), Number(second), line);
        fields++;
    }
    /* Every declaration was compared. */
    const declared = Object.values(structs).map(
        (type) => Object.keys(koffi.type(type).members).length,
    );
    assert.equal(fields, declared.reduce((a, b) => a + b));
    assert.equal(
        constants,
        Object.keys(types).length + Object.keys(events).length,
    );
};

cases['the example'] = async () => {
    const example = path.join(__dirname, '..', 'example.js');
    assert.deepEqual(await node([example]), {
        status: 0,
        text: '400 requests counted\n',
    });
};

module.exports = { work, PROCESSES };
if (require.main === module) runCases(cases);
