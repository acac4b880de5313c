"""paramiko: a file up and down, with its own prefetching."""

import paramiko

from common import KEY, KNOWN_HOSTS, LOGIN, PORT, REST

local, remote, back = REST
client = paramiko.SSHClient()
client.load_host_keys(KNOWN_HOSTS)
client.set_missing_host_key_policy(paramiko.RejectPolicy())
client.connect("127.0.0.1", PORT, LOGIN, key_filename=KEY, allow_agent=False, look_for_keys=False)
sftp = client.open_sftp()
sftp.put(local, remote, confirm=True)
sftp.get(remote, back)
assert "passwd" in sftp.listdir("/etc")
with sftp.open(remote, "r+b") as file:
    file.seek(5)
    file.write(file.read(0) or b"")
    first = file.read(3)
    file.readv([(0, 10), (100, 10)])
sftp.symlink("passwd", "/etc/link")
assert sftp.readlink("/etc/link") == "passwd"
sftp.remove("/etc/link")
client.close()
print("done")
