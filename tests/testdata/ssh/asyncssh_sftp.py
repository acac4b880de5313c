"""asyncssh: a file up and down, and what servers answer to odd wishes."""

import asyncio

import asyncssh

from common import REST, connect


async def main():
    local, remote, back = REST
    async with connect() as connection, connection.start_sftp_client() as sftp:
        await sftp.put(local, remote)
        await sftp.get(remote, back)
        assert (await sftp.stat(remote)).size > 0
        assert await sftp.exists("/etc/passwd") and not await sftp.exists("/no/such")
        names = await sftp.listdir("/etc")
        assert {"passwd", "group"} <= set(names), names
        try:
            await sftp.open("/no/such", "r")
            raise AssertionError("opened what is not there")
        except asyncssh.SFTPNoSuchFile:
            pass
        await sftp.posix_rename(remote, remote + ".2")
        await sftp.rename(remote + ".2", remote)
        vfs = await sftp.statvfs("/")
        assert vfs.bsize > 0
        # 64 reads at once, out of order.
        async with sftp.open(remote, "rb") as file:
            parts = await asyncio.gather(*(file.read(1000, offset) for offset in range(64000, 0, -1000)))
            assert all(len(part) == 1000 for part in parts)
        # Many handles at once.
        files = [await sftp.open("/etc/passwd", "rb") for _ in range(40)]
        for file in files:
            assert (await file.read()).startswith(b"root:")
            await file.close()
    print("done")


asyncio.run(main())
