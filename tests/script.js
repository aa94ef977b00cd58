'use strict';

/* What the cases need of the program that runs them: see script.h. */
const assert = require('node:assert/strict');
const fs = require('node:fs');

function cannot(why) {
    fs.writeSync(1, `${why}\n`);
    process.exit(77);
}

/* Orders something of the program that runs us: 'kill manager'. */
function order(what) {
    fs.writeSync(1, `@${what}\n`);
    const line = Buffer.alloc(16);
    const n = fs.readSync(0, line);
    assert.equal(line.toString('latin1', 0, n), 'done\n');
}

/* Waits for what is to happen, ten seconds at most. */
async function until(holds, what) {
    for (let i = 0; i < 5000; i++) {
        if (await holds()) return;
        await new Promise((resolve) => setTimeout(resolve, 2));
    }
    assert.fail(`never: ${what}`);
}

/* Runs a case, or names them all. */
function runCases(cases) {
    const name = process.argv[2];
    if (name === undefined) {
        fs.writeSync(1, Object.keys(cases).join('\n') + '\n');
        return;
    }
    let ended = false;
    /* A promise that nothing settles any more would end the process well. */
    process.on('exit', (code) => {
        if (!ended && code === 0) {
            fs.writeSync(1, 'ended before the case did\n');
            process.exitCode = 1;
        }
    });
    Promise.resolve()
        .then(cases[name] ?? (() => cannot(`no case ${name}`)))
        .then(
            () => (ended = true),
            (error) => {
                ended = true;
                fs.writeSync(1, `${error.stack}\n`);
                process.exit(1);
            },
        );
}

module.exports = { assert, cannot, order, until, runCases };
