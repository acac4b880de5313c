"""asyncssh: a code behind a key, typed when it is asked for. The arguments: the code, and what is to come of it."""

import asyncio

import asyncssh

from common import REST, connect

CODE, WANTED = REST


class Client(asyncssh.SSHClient):
    asked = 0

    def kbdint_auth_requested(self):
        return ""

    def kbdint_challenge_received(self, name, instructions, language, prompts):
        Client.asked += 1
        assert [prompt for prompt, _ in prompts] == ["Code: "], prompts
        assert not any(echo for _, echo in prompts), "the code would be shown"
        # Once is enough.
        return [CODE] if Client.asked == 1 else None


async def main():
    try:
        async with connect(client_factory=Client) as connection:
            result = await connection.run("echo in")
            assert result.stdout == "in\n", result.stdout
        outcome = "in"
    except asyncssh.PermissionDenied:
        outcome = "denied"
    assert (outcome, Client.asked > 0) == (WANTED, True), (outcome, Client.asked)
    print("done")


asyncio.run(asyncio.wait_for(main(), 60))
