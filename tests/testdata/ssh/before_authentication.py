"""Messages that have no place before authentication end the connection, and nothing answers them.

The allowed ones are of RFC 4253 (1 to 4, 5, 7, 20 to 49) and RFC 4252 (50 and 61).
"""

import socket
import sys
import time

import paramiko
from paramiko.message import Message

from common import KEY, LOGIN, PORT

SECONDS_MAX = 20


def transport(number):
    """A connection after its key exchange, each from another address: penalties are not what is tested."""
    stream = socket.create_connection(("127.0.0.1", PORT), 10, source_address=(f"127.0.9.{number + 1}", 0))
    made = paramiko.Transport(stream)
    made.start_client(timeout=30)
    return made


def message(number, build=lambda m: None):
    made = Message()
    made.add_byte(bytes([number]))
    build(made)
    return made


def session(made):
    made.add_string("session")
    for number in (0, 1 << 20, 1 << 15):
        made.add_int(number)


def request(made):
    made.add_int(0)
    made.add_string("exec")
    made.add_boolean(True)
    made.add_string("touch /tmp/pwned")


def data(made):
    made.add_int(0)
    made.add_string("x" * 100)


def name_and_flag(made):
    made.add_string("tcpip-forward")
    made.add_boolean(True)
    made.add_string("127.0.0.1")
    made.add_int(7777)


CASES = [
    ("success of the client", message(52)),
    ("failure of the client", message(51, lambda m: (m.add_string("publickey"), m.add_boolean(True)))),
    ("banner of the client", message(53, lambda m: (m.add_string("x"), m.add_string("")))),
    ("key accepted by the client", message(60, lambda m: (m.add_string("ssh-ed25519"), m.add_string("x")))),
    ("global request", message(80, name_and_flag)),
    ("session", message(90, session)),
    ("channel confirmation", message(91, lambda m: [m.add_int(0) for _ in range(4)])),
    ("data", message(94, data)),
    ("end of file", message(96, lambda m: m.add_int(0))),
    ("close", message(97, lambda m: m.add_int(0))),
    ("command", message(98, request)),
    ("window", message(93, lambda m: (m.add_int(0), m.add_int(1 << 31)))),
    ("unknown", message(192)),
    ("nothing after the number", message(50)),
    ("length of four gigabytes", message(50, lambda m: m.add_int(0xFFFFFFFF))),
    ("another service", message(5, lambda m: m.add_string("ssh-connection"))),
]

for number, (name, bad) in enumerate(CASES):
    made = transport(number)
    if name not in ("another service",):
        made._send_message(message(5, lambda m: m.add_string("ssh-userauth")))
        time.sleep(0.1)
    made._send_message(bad)
    end = time.time() + SECONDS_MAX
    while made.is_active() and time.time() < end:
        time.sleep(0.02)
    if made.is_active():
        sys.exit(f"still connected after: {name}")
    made.close()

made = transport(200)
made.auth_publickey(LOGIN, paramiko.Ed25519Key.from_private_key_file(KEY))
channel = made.open_session(timeout=20)
channel.exec_command("test ! -e /tmp/pwned && echo clean")
assert channel.makefile().read() == b"clean\n"
made.close()
print("done")
