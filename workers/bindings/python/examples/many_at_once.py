"""Hundreds of commands in flight from one thread, with asyncio.

    python3 many_at_once.py [COMMANDS]
"""

import asyncio
import sys

import mqredis


async def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    async with mqredis.AsyncMqredis() as mq:
        await mq.wait_ready(2)

        # All of these are in flight together, in a few messages.
        await asyncio.gather(*(mq.set("many:%d" % i, i) for i in range(count)))
        values = await asyncio.gather(*(mq.get("many:%d" % i) for i in range(count)))
        right = sum(value == b"%d" % i for i, value in enumerate(values))

        # A command that blocks in Redis holds up no others. Giving it up when
        # the time is over leaves nothing behind.
        try:
            await asyncio.wait_for(mq.command("BLPOP", "many:queue", 0), 0.1)
        except asyncio.TimeoutError:
            print("nothing in the queue within 0.1 s")

        keys = ["many:%d" % i for i in range(count)]
        await mq.command("DEL", *keys)
    print("%d of %d values were right" % (right, count))
    return 0 if right == count else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except mqredis.MqredisError as why:
        sys.exit(str(why))
