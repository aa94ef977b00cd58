'use strict';

/*
 * A server of several processes, in which each opens the channel for itself: for
 * Node has no fork without exec. All of them use one connection to Redis.
 *
 *     node example.js [PROCESSES]
 */
const cluster = require('node:cluster');
const { Client } = require('./index');

async function work() {
    const mq = new Client({ encoding: 'utf8' });
    const requests = [];
    for (let i = 0; i < 100; i++) {
        const mine = `worker ${cluster.worker.id}, request ${i}`;
        const key = `example:${cluster.worker.id}:${i}`;
        requests.push(
            mq
                .batch([['SET', key, mine], ['GET', key], ['DEL', key]])
                .then(([, seen]) => {
                    if (seen !== mine) throw new Error(`wrong: ${seen}`);
                    return mq.command(['INCR', 'example:count']);
                }),
        );
    }
    await Promise.all(requests);
    mq.close();
    process.disconnect();
}

async function main(processes) {
    const mq = new Client({ encoding: 'utf8' });
    await mq.ready(2000);
    await mq.command(['DEL', 'example:count']);
    for (let i = 0; i < processes; i++) cluster.fork();
    for (let ended = 0; ended < processes; ended++) {
        const code = await new Promise((resolve) =>
            cluster.once('exit', (worker, status) => resolve(status)),
        );
        if (code !== 0) process.exitCode = 1;
    }
    console.log(`${await mq.get('example:count')} requests counted`);
    mq.close();
}

const done = cluster.isPrimary
    ? main(Number(process.argv[2] ?? 4))
    : work();
done.catch((error) => {
    console.error(error.message);
    process.exit(1);
});
