"""Messages that have no place before authentication: nothing answers them, nothing comes of them, and they do not
keep a client connected beyond the login grace, which is the one argument in seconds.

The allowed ones are of RFC 4253 (1 to 4, 5, 7, 20 to 49) and RFC 4252 (50 and 61). Of the others, OpenSSH 9 answers
those below 192 with UNIMPLEMENTED (dispatch.c), and disconnects at the rest and at another service (packet.c,
auth2.c). russh ignores them all, and disconnects at what cannot be read.
"""

import socket
import sys
import threading
import time

import paramiko
from paramiko.message import Message

from common import KEY, LOGIN, PORT, REST

GRACE_SECONDS = int(REST[0])
# For a machine that is busy.
SLACK_SECONDS = 20
DISCONNECT, UNIMPLEMENTED, SERVICE_REQUEST, SERVICE_ACCEPT, EXTENSIONS = 1, 3, 5, 6, 7


def transport(number):
    """A connection after its key exchange, and the numbers of all messages that come; each from another address:
    penalties are not what is tested."""
    stream = socket.create_connection(("127.0.0.1", PORT), 10, source_address=(f"127.0.9.{number + 1}", 0))
    made = paramiko.Transport(stream)
    heard = []
    read = made.packetizer.read_message

    def noting():
        kind, content = read()
        heard.append(kind)
        return kind, content

    made.packetizer.read_message = noting
    made.start_client(timeout=30)
    return made, heard


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
    ("another service", message(SERVICE_REQUEST, lambda m: m.add_string("ssh-connection"))),
]
FAULTS = []


def wait(seconds, is_so):
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)
    return is_so()


def check(number, name, bad):
    made, heard = transport(number)
    if name != "another service":
        made._send_message(message(SERVICE_REQUEST, lambda m: m.add_string("ssh-userauth")))
        if not wait(SLACK_SECONDS, lambda: SERVICE_ACCEPT in heard):
            FAULTS.append(f"no authentication before: {name}")
            return
    before = len(heard)
    made._send_message(bad)
    if not wait(GRACE_SECONDS + SLACK_SECONDS, lambda: not made.is_active()):
        FAULTS.append(f"still connected after: {name}")
    # The extensions belong to the key exchange, and may be late.
    answers = set(heard[before:]) - {DISCONNECT, UNIMPLEMENTED, EXTENSIONS}
    if answers:
        FAULTS.append(f"{name} is answered: {answers}")
    made.close()


def guarded(*case):
    try:
        check(*case)
    except Exception as error:
        FAULTS.append(f"{case[1]}: {error!r}")


threads = [threading.Thread(target=guarded, args=(number, *case)) for number, case in enumerate(CASES)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if FAULTS:
    sys.exit("\n".join(FAULTS))

made, _ = transport(200)
made.auth_publickey(LOGIN, paramiko.Ed25519Key.from_private_key_file(KEY))
channel = made.open_session(timeout=20)
channel.exec_command("test ! -e /tmp/pwned && echo clean")
assert channel.makefile().read() == b"clean\n"
made.close()
print("done")
