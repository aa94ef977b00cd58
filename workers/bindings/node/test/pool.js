'use strict';

/* A pool of processes, each with a handle of its own, that see only their own
 * values; some are killed and replaced meanwhile. */
const cluster = require('node:cluster');
const { Client } = require('..');
const { work, PROCESSES } = require('./cases');

if (cluster.isPrimary) {
    let well = 0;
    let started = 0;
    const start = () => {
        const worker = cluster.fork();
        /* Every third of the first ones is killed in the middle. */
        if (++started <= PROCESSES && started % 3 === 0)
            worker.once('message', () => worker.process.kill('SIGKILL'));
        worker.once('exit', (code, signal) => {
            if (signal === 'SIGKILL') start();
            else if (code === 0) well++;
            if (Object.keys(cluster.workers).length > 0) return;
            console.log(`${well} of ${PROCESSES} well`);
        });
    };
    for (let i = 0; i < PROCESSES; i++) start();
} else {
    const mq = new Client({ timeout: 30000 });
    const name = `process ${process.pid}`;
    mq.set('started', name)
        .then(() => process.send('works'))
        .then(() => work(mq, name))
        .then(() => {
            mq.close();
            process.disconnect();
        })
        .catch((error) => {
            console.error(error);
            process.exit(1);
        });
}
