"""Connections that are none: flood.py PORT CONNECTIONS SOURCES [CONNECTIONS_PER_SECOND]

Says "ready" when the first ones are open, and how many there were at the end. Every kind of nonsense in turn; one in ten
stays and sends a byte now and then, as long as it is let.
"""

import asyncio
import os
import random
import struct
import sys

port, connections, sources = (int(word) for word in sys.argv[1:4])
pace = float(sys.argv[4]) if len(sys.argv) > 4 else None
AT_ONCE = 200
# Seconds between the bytes of those that stay.
PAUSE = 0.1
random.seed(7)


def packet(kind, rest):
    payload = bytes([kind]) + rest
    padding = 8 - (len(payload) + 5) % 8 + 8
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


KINDS = [
    b"",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c" + bytes(12),
    b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nSSH-2.0-x\r\n",
    b"SSH-2.0-x\r\n" + os.urandom(2000),
    b"SSH-2.0-x\r\n" + b"\xff" * 400,
    b"SSH-2.0-x\r\n" + packet(20, os.urandom(300)),
    b"SSH-2.0-x\r\n" + packet(50, b"\0\0\0\4root"),
    b"x" * 70000,
]


async def one(number, room, stays):
    own = "127.66.%d.%d" % (number % sources // 250, 1 + number % sources % 250)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(own, 0))
    except OSError:
        room.release()
        return 0
    try:
        if stays:
            for byte in b"SSH-2.0-slow":
                writer.write(bytes([byte]))
                await writer.drain()
                try:
                    if not await asyncio.wait_for(reader.read(4096), PAUSE):
                        break
                except asyncio.TimeoutError:
                    pass
        else:
            writer.write(KINDS[number % len(KINDS)])
            await writer.drain()
            await asyncio.wait_for(reader.read(4096), 5)
    except (OSError, asyncio.TimeoutError):
        pass
    writer.close()
    room.release()
    return 1


async def main():
    room = asyncio.Semaphore(AT_ONCE)
    running = []
    began = asyncio.get_running_loop().time()
    for number in range(connections):
        await room.acquire()
        if pace:
            await asyncio.sleep(max(0, began + number / pace - asyncio.get_running_loop().time()))
        running.append(asyncio.create_task(one(number, room, number % 10 == 9)))
        if number == AT_ONCE:
            print("ready", flush=True)
    print(sum(await asyncio.gather(*running)), flush=True)


asyncio.run(main())
