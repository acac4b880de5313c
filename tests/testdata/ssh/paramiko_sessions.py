"""paramiko: commands, standard error apart, terminals, direct-tcpip, keepalives."""

import paramiko

from common import KEY, KNOWN_HOSTS, LOGIN, PORT

client = paramiko.SSHClient()
client.load_host_keys(KNOWN_HOSTS)
client.set_missing_host_key_policy(paramiko.RejectPolicy())
client.connect("127.0.0.1", PORT, LOGIN, key_filename=KEY, allow_agent=False, look_for_keys=False, timeout=30)
client.get_transport().set_keepalive(1)
stdin, stdout, stderr = client.exec_command("cat; echo err >&2; exit 6", timeout=30)
stdin.write("in\n")
stdin.channel.shutdown_write()
assert stdout.read() == b"in\n" and stderr.read() == b"err\n" and stdout.channel.recv_exit_status() == 6
channel = client.invoke_shell("xterm", 80, 24)
channel.settimeout(30)
channel.send(b"echo $((40+2)); exit 3\n")
said = b""
while True:
    part = channel.recv(4096)
    if not part:
        break
    said += part
assert b"42" in said and channel.recv_exit_status() == 3, said
forward = client.get_transport().open_channel("direct-tcpip", ("127.0.0.1", 7000), ("127.0.0.1", 1), timeout=30)
forward.settimeout(30)
forward.sendall(b"round")
forward.shutdown_write()
back = b""
while len(back) < 5:
    back += forward.recv(10)
assert back == b"round"
client.close()
print("done")
