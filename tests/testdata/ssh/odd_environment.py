"""A variable whose value is not UTF-8 (RFC 4254, 6.4 asks for no encoding)."""

import asyncio

from common import connect


async def main():
    async with connect() as connection:
        result = await connection.run("echo still here", env={b"LC_ODD": b"\xff\xfe", b"\xff": b"x"})
        print(result.stdout, end="")


asyncio.run(main())
