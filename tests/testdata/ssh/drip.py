"""Clients that never get ready: drip.py PORT CLIENTS BYTES_PAUSE

Each sends a byte every BYTES_PAUSE seconds of what begins as a client does, and says how many seconds it was let when it is
cut, as it happens: one number a line.
"""

import asyncio
import sys

port, clients, pause = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
# A name, and a packet that would be longer than it can ever get.
BYTES = b"SSH-2.0-drip\r\n\0\0\x10\0\4\x14" + bytes(4096)


async def drip(number):
    own = "127.67.0.%d" % (1 + number)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(own, 0))
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def send():
        for byte in BYTES:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(pause)

    sending = asyncio.create_task(send())
    try:
        while await reader.read(4096):
            pass
    except OSError:
        pass
    print("%.1f" % (loop.time() - began), flush=True)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    writer.close()


async def main():
    await asyncio.gather(*(drip(number) for number in range(clients)))


asyncio.run(main())
