"""Every signal of RFC 4254, 6.10: sent to a program, and told when it ended one."""

import asyncio

from common import connect

SENT = ["HUP", "INT", "QUIT", "KILL", "TERM", "USR1", "USR2", "ALRM", "ABRT", "PIPE"]
TOLD = {1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 8: "FPE", 9: "KILL", 10: "USR1", 11: "SEGV",
        12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM"}
# Not the shell itself, since that of busybox ignores QUIT and catches INT until it executes something else; and no
# program in Rust, whose runtime ignores PIPE.
RUNS = 'p=$$; (until [ "$(cat /proc/$p/comm)" = sleep ]; do :; done; %s) & exec sleep 30'
READY = RUNS % "echo ready"
KILLED = RUNS % "kill -{} $p"


async def main():
    async with connect() as connection:
        for name in SENT:
            process = await connection.create_process(READY)
            assert await process.stdout.readline() == "ready\n", name
            process.send_signal(name)
            result = await asyncio.wait_for(process.wait(), 20)
            assert result.exit_signal and result.exit_signal[0] == name, (name, result.exit_signal, result.exit_status)
        for number, name in TOLD.items():
            result = await asyncio.wait_for(connection.run(KILLED.format(number)), 20)
            assert result.exit_signal and result.exit_signal[0] == name, (name, result.exit_signal, result.exit_status)
        # A trap sees the signal, and the program goes on.
        process = await connection.create_process("trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.05; done")
        assert await process.stdout.readline() == "ready\n"
        process.send_signal("USR1")
        result = await asyncio.wait_for(process.wait(), 20)
        assert (result.exit_status, result.stdout) == (9, "caught\n"), (result.exit_status, result.stdout)
    print("all signals")


asyncio.run(main())
