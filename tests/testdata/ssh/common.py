"""What every script begins with: PORT LOGIN KEY KNOWN_HOSTS and its own arguments."""

import sys

PORT = int(sys.argv[1])
LOGIN, KEY, KNOWN_HOSTS = sys.argv[2:5]
REST = sys.argv[5:]


def connect(**options):
    """An asyncssh connection; to be awaited or entered."""
    import asyncssh

    return asyncssh.connect(
        "127.0.0.1",
        PORT,
        username=LOGIN,
        client_keys=[KEY],
        known_hosts=KNOWN_HOSTS,
        agent_path=None,
        config=None,
        **options,
    )
