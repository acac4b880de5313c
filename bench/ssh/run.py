#!/usr/bin/env python3
"""ssh-gateway beside OpenSSH's sshd with ForceCommand nsenter, and beside `docker exec`, in one run on one machine.

All of them enter the same container of busybox. The client is the system's OpenSSH for both servers, which listen on
the loopback address; client and server share the cores. Every comparison alternates the contestants over the rounds;
ratios are medians of the ratios inside a round, or ratios of medians where single runs are short. CPU is what
/proc/PID/stat of a server and all its descendants grew by. Memory is PSS (/proc/PID/smaps_rollup) of a server's own
processes, without the programs of the sessions. sshd's sftp is internal-sftp on the host, since nsenter has none.

    run.py [--rounds N] [--scale F] [--only CASE,…] [--sessions N] [--work DIR] [--binary FILE] [--measure FILE]
           [--results FILE]

Cases: connect, hop, bulk, sftp, idle, logins, flood, answers. Needs root: sshd and nsenter do.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench")]
import results  # noqa: E402

CASES = ("connect", "hop", "bulk", "sftp", "idle", "logins", "flood", "answers")
CONNECTIONS = 100
HOPS = 300
HOPS_IDLE = 40
HOP_IDLE_MS = 300
BULK_BYTES = 1_000_000_000
SFTP_BYTES = 1_000_000_000
IDLE_SESSIONS = 1000
# An sshd needs so much more that fewer of them show it.
IDLE_SESSIONS_PEER = 100
LOGIN_SECONDS = 15
# Below the bound of unauthenticated connections of one source.
LOGIN_CLIENTS = 6
# Connections of garbage at a steady pace: clients, server and garbage share the cores, and what is asked is what the server
# makes of them, not who gets a core.
FLOOD_CONNECTIONS = 10_000
FLOOD_PER_SECOND = 100
FLOOD_SOURCES = 40
FLOOD_LOGINS_BEFORE = 100
# Above what stays open of them: below it, unlucky honest clients are dropped as by sshd's MaxStartups.
FLOOD_LIMITS = "[limits]\nstartups = '1000:30:2000'\nlogin_grace = '5s'\n"
# Of each kind; a whole run has as many as this, a smaller one no fewer: the answers are compared, not only timed.
ANSWERS = 300
ANSWERS_MIN = 100
SSH_FAILED = 255
COMMAND_SECONDS_MAX = 600
START_SECONDS_MAX = 30
CIPHERS = ("chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
CURVE = "curve25519-sha256"
TICKS = os.sysconf("SC_CLK_TCK")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout.strip()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Container(NamedTuple):
    name: str
    id: str
    pid: int


@contextlib.contextmanager
def container(work: Path) -> Iterator[Container]:
    """A busybox container with a tmpfs at /data; image and container are removed at the end."""
    context, tag = work / "image", f"chores-bench-ssh-{os.getpid()}"
    (context / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox") or sys.exit("busybox is missing: apt-get install busybox-static")
    shutil.copy(busybox, context / "bin/busybox")
    for name in subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if name != "busybox":
            (context / "bin" / name).symlink_to("busybox")
    (context / "Dockerfile").write_text('FROM scratch\nCOPY bin /bin\nENV PATH=/bin\nCMD ["/bin/sleep", "1000000"]\n')
    docker("build", "--quiet", "--tag", tag, str(context))
    try:
        docker("run", "--detach", "--name", tag, "--network", "none", "--tmpfs", "/data:size=4g", tag)
        try:
            number, pid = docker("inspect", "--format", "{{.Id}} {{.State.Pid}}", tag).split()
            yield Container(tag, number, int(pid))
        finally:
            docker("rm", "--force", tag)
    finally:
        subprocess.run(["docker", "rmi", "--force", tag], capture_output=True)


class Server(NamedTuple):
    """A server that runs, and how a client reaches it."""

    name: str
    process: subprocess.Popen
    port: int
    user: str
    key: Path

    def options(self, *more: str) -> list[str]:
        fixed = ("BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
                 "LogLevel=ERROR", "ControlPath=none", "Compression=no", *more)
        return ["-F", "/dev/null", "-i", str(self.key), *(word for option in fixed for word in ("-o", option))]

    def ssh(self, command: str, *more: str) -> list[str]:
        return ["ssh", *self.options(*more), "-p", str(self.port), f"{self.user}@127.0.0.1", command]

    def sftp(self, *more: str) -> list[str]:
        return ["sftp", "-q", *self.options(*more), "-P", str(self.port), "-b", "-", f"{self.user}@127.0.0.1"]


def make_key(file: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    return file


@contextlib.contextmanager
def serving(command: list[str], port: int, log: Path) -> Iterator[subprocess.Popen]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{' '.join(command)} does not listen:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def gateway(binary: Path, own: Path, key: Path, target: Container, settings: str = "") -> Iterator[Server]:
    own.mkdir()
    port = free_port()
    config = own / "config.toml"
    config.write_text(settings)
    config.chmod(0o600)
    command = [str(binary), "serve", "--listen", f"127.0.0.1:{port}", "--state", str(own / "state"),
               "--authorized-keys", str(key.with_suffix(".pub")), "--config", str(config)]
    with serving(command, port, own / "log") as process:
        yield Server("ssh-gateway", process, port, target.name, key)


@contextlib.contextmanager
def sshd(own: Path, key: Path, target: Container | None) -> Iterator[Server]:
    """OpenSSH's server: its sessions enter `target`, or have sftp on the host without one."""
    own.mkdir()
    port = free_port()
    for kind in ("ed25519", "rsa"):
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", own / f"host_{kind}"], check=True)
    authorized = own / "authorized_keys"
    shutil.copy(key.with_suffix(".pub"), authorized)
    enter = f'ForceCommand exec nsenter --target {target.pid} --all -- /bin/sh -c "$SSH_ORIGINAL_COMMAND"' if target else ""
    config = own / "sshd_config"
    config.write_text(f"""
ListenAddress 127.0.0.1:{port}
HostKey {own}/host_ed25519
HostKey {own}/host_rsa
AuthorizedKeysFile {authorized}
PidFile none
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
MaxStartups 200
Subsystem sftp internal-sftp
{enter}
""")
    Path("/run/sshd").mkdir(exist_ok=True)
    path = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        sys.exit("sshd is missing: apt-get install openssh-server")
    with serving([path, "-D", "-e", "-f", str(config)], port, own / "log") as process:
        yield Server("sshd + nsenter", process, port, "root", key)


class Process(NamedTuple):
    pid: int
    program: str


def descendants(root: int) -> list[Process]:
    """A process and all below it that live, with the programs they run."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            parents.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        waiting += parents.get(pid, [])
        with contextlib.suppress(OSError):
            found.append(Process(pid, os.readlink(f"/proc/{pid}/exe")))
    return found


def is_own(process: Process) -> bool:
    """Whether a process is the server's, and not a program of a session."""
    program = process.program
    return program.startswith("/memfd:") or Path(program).name.split(" ")[0] in ("ssh-gateway", "sshd", "nsenter")


def memory(server: Server) -> tuple[float, int]:
    """Bytes (PSS) of a server's own processes, and how many there are."""
    own = [process for process in descendants(server.process.pid) if is_own(process)]
    total = 0
    for process in own:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total, len(own)


def cpu(server: Server) -> float:
    """Seconds of a server, of all below it, and of those it has collected."""
    seconds = 0.0
    for process in descendants(server.process.pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            seconds += sum(int(field) for field in fields[11:15]) / TICKS
    return seconds


def timed(command: list[str], status: int = 0, **more) -> float:
    began = time.monotonic()
    more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | more
    done = subprocess.run(command, stderr=subprocess.PIPE, timeout=COMMAND_SECONDS_MAX, **more)
    if done.returncode != status:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr.decode(errors='replace')[-2000:]}")
    return time.monotonic() - began


def at(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


Times = dict[str, list[float]]


def play(contestants: dict[str, Callable[[], float]], rounds: int, what: str) -> Times:
    times: Times = {name: [] for name in contestants}
    for number in range(rounds):
        order = list(contestants)
        if number % 2:
            order.reverse()
        for name in order:
            times[name].append(contestants[name]())
    for name, values in times.items():
        say(f"  {what:28} {name:24} p50 {at(values, 0.5) * 1e3:9.1f} ms  n={len(values)}")
    return times


def ratio(times: Times, one: str, other: str) -> float:
    return statistics.median(mine / theirs for mine, theirs in zip(times[one], times[other]))


def latency_table(times: Times, peer: str) -> str:
    lines = ["| | p50 ms | p99 ms | n | p50 ÷ " + peer + " |", "|---|---|---|---|---|"]
    for name, values in times.items():
        lines.append(f"| {name} | {at(values, 0.5) * 1e3:.1f} | {at(values, 0.99) * 1e3:.1f} | {len(values)} "
                     f"| {at(values, 0.5) / at(times[peer], 0.5):.2f} |")
    return "\n".join(lines)


def measure_connect(ours: Server, peer: Server, target: Container, rounds: int) -> tuple[str, float]:
    times = play({
        "ssh-gateway": lambda: timed(ours.ssh("true")),
        "ssh-gateway, curve25519": lambda: timed(ours.ssh("true", f"KexAlgorithms={CURVE}")),
        "sshd + nsenter": lambda: timed(peer.ssh("true")),
        "sshd + nsenter, curve25519": lambda: timed(peer.ssh("true", f"KexAlgorithms={CURVE}")),
        "docker exec": lambda: timed(["docker", "exec", target.name, "true"]),
    }, rounds, "connect → true")
    alike = at(times["ssh-gateway, curve25519"], 0.5) / at(times["sshd + nsenter, curve25519"], 0.5)
    text = latency_table(times, "sshd + nsenter")
    text += f"\n\nWithout a name of a key exchange: what the client prefers. Both with curve25519: {alike:.2f}."
    return text, at(times["ssh-gateway"], 0.5) / at(times["sshd + nsenter"], 0.5)


def measure_hop(binary: Path, target: Container, share: float) -> tuple[str, float, float]:
    def hops(count: int, pause: int) -> list[list[float]]:
        command = [str(binary), target.id, str(target.pid), str(count), str(pause), "/bin/true"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
        rows = [[int(field) / 1e6 for field in line.split()] for line in done.stdout.splitlines()]
        return [list(column) for column in zip(*rows)]

    count, idle = max(10, int(HOPS * share)), max(5, int(HOPS_IDLE * share))
    hops(10, 0)
    runs, ended, gone = hops(count, 0)
    _, ended_idle, _ = hops(idle, HOP_IDLE_MS)
    times: Times = {
        "ssh-gateway: the program runs, and is proved confined": runs,
        "ssh-gateway: it has ended": ended,
        "ssh-gateway: nothing is left": gone,
        f"ssh-gateway: it has ended, {HOP_IDLE_MS} ms idle before": ended_idle,
    }
    nsenter = ["nsenter", "--target", str(target.pid), "--all", "--", "/bin/true"]
    times |= play({
        "nsenter (no cgroup, seccomp, capabilities)": lambda: timed(nsenter),
        "docker exec": lambda: timed(["docker", "exec", target.name, "true"]),
    }, idle, "hop")
    runc_root = Path("/run/docker/runtime-runc/moby")
    if runc_root.exists() and shutil.which("runc"):
        runc = ["runc", "--root", str(runc_root), "exec", target.id, "/bin/true"]
        times |= play({"runc exec": lambda: timed(runc)}, idle, "hop")
    return latency_table(times, "docker exec"), at(ended, 0.5) * 1e3, at(ended_idle, 0.5) * 1e3


def rate_table(rows: dict[str, Times], size: int, others: list[str]) -> str:
    lines = ["| | " + " | ".join(f"{name}, MB/s" for name in others) + " | ratio |", "|---" * (len(others) + 2) + "|"]
    for what, times in rows.items():
        rates = " | ".join(f"{size / 1e6 / statistics.median(times[name]):,.0f}" if name in times else "–" for name in others)
        lines.append(f"| {what} | {rates} | {1 / ratio(times, others[0], others[1]):.2f} |")
    return "\n".join(lines)


def measure_bulk(ours: Server, peer: Server, target: Container, rounds: int, share: float, work: Path) -> tuple[str, float, float]:
    blocks = max(1, int(BULK_BYTES * share) // 1_000_000)
    size = blocks * 1_000_000
    zeros = work / "zeros"
    with zeros.open("wb") as file:
        file.truncate(size)
    out, into = f"dd if=/dev/zero bs=1000000 count={blocks} 2>/dev/null", "cat >/dev/null"
    count = ["sh", "-c", f'test "$(wc -c)" = {size}']

    def receive(command: list[str]) -> float:
        """Everything must have arrived: a reader that counts is part of it, and the same for all."""
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as source:
            began = time.monotonic()
            done = subprocess.run(count, stdin=source.stdout, timeout=COMMAND_SECONDS_MAX)
            if done.returncode != 0 or source.wait() != 0:
                sys.exit(f"{' '.join(command)}: not {size} bytes")
            return time.monotonic() - began

    def send(command: list[str]) -> float:
        with zeros.open("rb") as file:
            return timed(command, stdin=file)

    rows: dict[str, Times] = {}
    least = {"out": float("inf"), "in": float("inf")}
    for cipher in CIPHERS:
        chosen = f"Ciphers={cipher}"
        for way, contest in (("out", lambda server: receive(server.ssh(out, chosen))), ("in", lambda server: send(server.ssh(into, chosen)))):
            times = play({"ssh-gateway": lambda: contest(ours), "sshd + nsenter": lambda: contest(peer)}, rounds, f"{way}, {cipher}")
            rows[f"{way}, {cipher.split('@')[0]}"] = times
            least[way] = min(least[way], 1 / ratio(times, "ssh-gateway", "sshd + nsenter"))
    for way, run in (("out", lambda: receive(["docker", "exec", target.name, "sh", "-c", out])),
                     ("in", lambda: send(["docker", "exec", "-i", target.name, "sh", "-c", into]))):
        times = play({"docker exec": run}, rounds, f"{way}, docker exec")
        rows[f"{way}, aes128-gcm"] |= times
    zeros.unlink()
    names = ["ssh-gateway", "sshd + nsenter", "docker exec"]
    return rate_table(rows, size, names) + "\n\n`docker exec` encrypts nothing.", least["out"], least["in"]


def measure_sftp(ours: Server, peer: Server, rounds: int, share: float) -> tuple[str, float, float]:
    size = max(1_000_000, int(SFTP_BYTES * share))
    with tempfile.TemporaryDirectory(prefix="chores-bench-", dir="/dev/shm") as folder:
        source, peers, back = Path(folder, "source"), Path(folder, "peer"), Path(folder, "back")
        subprocess.run(f"head -c {size} /dev/urandom >{source}", shell=True, check=True)
        chosen = "Ciphers=aes128-gcm@openssh.com"

        def run(server: Server, line: str) -> float:
            return timed(server.sftp(chosen), stdin=None, input=f"{line}\n".encode())

        rows = {
            "put": play({"ssh-gateway": lambda: run(ours, f"put {source} /data/file"),
                         "internal-sftp": lambda: run(peer, f"put {source} {peers}")}, rounds, "sftp put"),
            "get": play({"ssh-gateway": lambda: run(ours, f"get /data/file {back}"),
                         "internal-sftp": lambda: run(peer, f"get {peers} {back}")}, rounds, "sftp get"),
        }
        subprocess.run(["cmp", source, back], check=True)
        run(ours, f"get /data/file {back}")
        subprocess.run(["cmp", source, back], check=True)
    names = ["ssh-gateway", "internal-sftp"]
    put, get = (1 / ratio(rows[way], *names) for way in ("put", "get"))
    return rate_table(rows, size, names), put, get


def open_idle(server: Server, wanted: int, stack: contextlib.ExitStack) -> int:
    """Opens sessions that sleep, each with a connection of its own. How many there are."""
    command = server.ssh("echo ready; sleep 1000000")

    def one(_: int) -> bool:
        client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        stack.callback(client.wait)
        stack.callback(client.kill)
        return client.stdout.readline() == b"ready\n"

    with concurrent.futures.ThreadPoolExecutor(LOGIN_CLIENTS) as pool:
        return sum(pool.map(one, range(wanted)))


def measure_idle(contest: dict[Callable[[], contextlib.AbstractContextManager[Server]], int]) -> tuple[str, float]:
    lines = ["| | sessions | own processes | KiB a session (PSS) |", "|---|---|---|---|"]
    first = 0.0
    for start, wanted in contest.items():
        with start() as server:
            timed(server.ssh("true"))
            before, _ = memory(server)
            with contextlib.ExitStack() as clients:
                opened = open_idle(server, wanted, clients)
                time.sleep(2)
                after, processes = memory(server)
            each = (after - before) / max(opened, 1) / 1024
            first = first or each
            name = f"{server.name}" + ("" if opened == wanted else f" ({wanted} were asked for)")
            lines.append(f"| {name} | {opened:,} | {processes:,} | {each:,.0f} |")
            say(f"  idle {server.name}: {opened} sessions, {each:.0f} KiB each")
    return "\n".join(lines) + "\n\nWithout the shells themselves; every session has a connection of its own.", first


def measure_logins(servers: list[Server], seconds: float) -> tuple[str, float, int]:
    lines = ["| | logins/s | refused | server CPU ms a login | logins/s that one core of server CPU allows |", "|---|---|---|---|---|"]
    first: tuple[float, int] | None = None
    for server in servers:
        command = server.ssh("true", f"KexAlgorithms={CURVE}")
        before, began = cpu(server), time.monotonic()

        def run(_: int) -> tuple[int, int]:
            counts = [0, 0]
            while time.monotonic() - began < seconds:
                done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                counts[done.returncode != 0] += 1
            return counts[0], counts[1]

        with concurrent.futures.ThreadPoolExecutor(LOGIN_CLIENTS) as pool:
            counts = list(pool.map(run, range(LOGIN_CLIENTS)))
        span = time.monotonic() - began
        done, refused = sum(count[0] for count in counts), sum(count[1] for count in counts)
        each = (cpu(server) - before) / max(done, 1)
        lines.append(f"| {server.name} | {done / span:.0f} | {refused} | {each * 1e3:.1f} | {1 / max(each, 1e-9):.0f} |")
        say(f"  logins {server.name}: {done / span:.0f}/s, {refused} refused")
        first = first or (done / span, refused)
    note = (f"{LOGIN_CLIENTS} clients at once, each login runs `true`, curve25519. The clients need most of the CPU: "
            "a login is a process of ssh.")
    return "\n".join([*lines, "", note]), *first


def measure_flood(ours: Server, share: float) -> tuple[str, float]:
    """Logins of an honest client from another address, without and with connections of garbage meanwhile."""
    def login() -> float:
        return timed(ours.ssh("true"))

    before = [login() for _ in range(max(10, int(FLOOD_LOGINS_BEFORE * share)))]
    count = max(500, int(FLOOD_CONNECTIONS * share))
    command = ["python3", ROOT / "tests/testdata/ssh/flood.py", str(ours.port), str(count), str(FLOOD_SOURCES), str(FLOOD_PER_SECOND)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flood:
        assert flood.stdout is not None
        flood.stdout.readline()
        meanwhile = []
        while flood.poll() is None:
            meanwhile.append(login())
        made = flood.stdout.readline().strip()
    rows = [("nothing else", before), (f"{made} connections of garbage, {FLOOD_PER_SECOND} a second", meanwhile)]
    lines = ["| meanwhile | logins | p50 ms | p95 ms |", "|---|---|---|---|"]
    lines += [
        f"| {title} | {len(times)} | {statistics.median(times) * 1e3:.1f} | {at(times, 0.95) * 1e3:.1f} |" for title, times in rows
    ]
    return "\n".join(lines), statistics.median(meanwhile) / statistics.median(before)


def measure_answers(binary: Path, work: Path, target: Container, share: float) -> tuple[str, float]:
    """Refusals that a stranger must not be able to tell apart: one container that is not there, one that the key may not enter."""
    key, wrong = make_key(work / "narrow"), make_key(work / "wrong")
    authorized = work / "authorized.pub"
    authorized.write_text(f'container="elsewhere" {key.with_suffix(".pub").read_text()}')
    numbers = iter(range(1, 1 << 22))

    def ask(server: Server, user: str, key: Path) -> float:
        # What one login does wrong is not held against the next: each comes from an address of its own.
        number = next(numbers)
        source = f"BindAddress=127.{192 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        return timed(server._replace(user=user, key=key).ssh("true", source), SSH_FAILED)

    with gateway(binary, work / "gateway-answers", authorized.with_suffix(""), target) as server:
        # Of the same length, so that the answers are too.
        times = play({
            "no such container": lambda: ask(server, "x" * len(target.name), key),
            "a container that the key may not enter": lambda: ask(server, target.name, key),
            "a wrong key": lambda: ask(server, target.name, wrong),
        }, max(ANSWERS_MIN, int(ANSWERS * share)), "answers")
    text = latency_table(times, "no such container")
    text += "\n\nA login each, interleaved. A wrong key is told apart anyway: SSH asks for it before anything else."
    return text, at(times["a container that the key may not enter"], 0.5) / at(times["no such container"], 0.5)


def build(args: argparse.Namespace) -> tuple[Path, Path]:
    if args.binary and args.measure:
        return args.binary.resolve(), args.measure.resolve()
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "ssh-gateway", "--bin", "ssh-gateway", "--example", "measure_hop"],
                   cwd=ROOT, check=True)
    host = subprocess.run(["rustc", "--print", "host-tuple"], capture_output=True, text=True, check=True).stdout.strip()
    built = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / host / "release"
    return (args.binary or built / "ssh-gateway").resolve(), (args.measure or built / "examples/measure_hop").resolve()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of bytes, connections and sessions (0.02 for a smoke run)")
    parser.add_argument("--only", default=",".join(CASES), help="cases, separated by commas")
    parser.add_argument("--sessions", type=int, default=IDLE_SESSIONS, help="idle sessions of ssh-gateway")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--binary", type=Path, help="ssh-gateway binary (default: the release build)")
    parser.add_argument("--measure", type=Path, help="measure_hop binary (default: the release build)")
    parser.add_argument("--results", type=Path, help="write the tables here (default: bench/RESULTS.md for a whole run)")
    args = parser.parse_args()
    cases = args.only.split(",")
    unknown = set(cases) - set(CASES)
    if unknown:
        sys.exit(f"unknown cases: {', '.join(sorted(unknown))} (known: {', '.join(CASES)})")
    if os.geteuid() != 0:
        sys.exit("bench/ssh needs root: sshd with nsenter does")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    binary, measure = build(args)
    connections = max(5, int(CONNECTIONS * args.scale))
    sections: list[str] = []
    checks: list[tuple[str, float, str, float]] = []
    work = Path(tempfile.mkdtemp(prefix="chores-bench-", dir=args.work))
    try:
        with contextlib.ExitStack() as stack:
            key = make_key(work / "key")
            target = stack.enter_context(container(work))
            ours = stack.enter_context(gateway(binary, work / "gateway", key, target))
            peer = stack.enter_context(sshd(work / "sshd", key, target))
            files = stack.enter_context(sshd(work / "sshd-files", key, None))
            if "connect" in cases:
                text, share = measure_connect(ours, peer, target, connections)
                sections += ["### Connect → `true` → end, with the system's client", text]
                checks.append(("connect → true ÷ sshd + nsenter, p50", share, "≤", 0.25))
            if "hop" in cases:
                text, busy, idle = measure_hop(measure, target, args.scale)
                sections += ["### The hop alone: `true` in the container", text]
                checks += [("hop, back to back, p50 ms", busy, "≤", 3), ("hop, after idle, p50 ms", idle, "≤", 8)]
            if "bulk" in cases:
                text, out, into = measure_bulk(ours, peer, target, args.rounds, args.scale, work)
                sections += [f"### Bytes of a session: {BULK_BYTES * args.scale / 1e6:,.0f} MB of zeros", text]
                checks += [("bulk out, same cipher, ÷ sshd, the least", out, "≥", 1.1),
                           ("bulk in, same cipher, ÷ sshd, the least", into, "≥", 1.1)]
            if "sftp" in cases:
                text, put, get = measure_sftp(ours, files, args.rounds, args.scale)
                sections += [f"### sftp: one file of {SFTP_BYTES * args.scale / 1e6:,.0f} MB, tmpfs to tmpfs, aes128-gcm", text]
                checks += [("sftp put ÷ internal-sftp", put, "≥", 1), ("sftp get ÷ internal-sftp", get, "≥", 1)]
            if "logins" in cases:
                text, rate, refused = measure_logins([ours, peer], max(2.0, LOGIN_SECONDS * args.scale))
                sections += ["### Logins", text]
                checks += [("logins/s", rate, "≥", 200), ("honest clients refused", refused, "≤", 0)]
            if "flood" in cases:
                own = stack.enter_context(gateway(binary, work / "gateway-flood", key, target, FLOOD_LIMITS))
                text, slower = measure_flood(own, args.scale)
                sections += ["### An honest login while others send garbage", text]
                checks.append(("login during the flood ÷ before, p50", slower, "≤", 2))
            if "answers" in cases:
                text, alike = measure_answers(binary, work, target, args.scale)
                sections += ["### What a stranger can tell by how long a refusal takes", text]
                checks.append(("refusal of a forbidden container ÷ of an unknown one, p50", alike, "≤", 1.1))
            if "idle" in cases:
                text, each = measure_idle({
                    lambda: gateway(binary, work / "gateway-idle", key, target): max(10, int(args.sessions * args.scale)),
                    lambda: sshd(work / "sshd-idle", key, target): max(10, int(IDLE_SESSIONS_PEER * args.scale)),
                })
                sections += ["### Idle sessions", text]
                checks.append(("an idle session, KiB", each, "≤", 150))
    finally:
        shutil.rmtree(work, ignore_errors=True)

    client = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.strip()
    versions = f"{client} (client and server), Docker {docker('version', '--format', '{{.Server.Version}}')}"
    text = "\n\n".join([
        "## ssh-gateway",
        "Written by `bench/ssh/run.py`; the method is at its top. A ratio of times below 1, or of rates above 1, is in our favour.",
        f"{datetime.date.today().isoformat()} · {results.machine()} · {args.rounds} rounds, medians\n\n{versions}",
        *sections,
        *([results.verdicts(checks)] if args.scale == 1 else []),
    ])
    print(text)
    whole = args.scale == 1 and set(cases) == set(CASES)
    file = args.results or (results.RESULTS if whole else None)
    if file:
        results.write("ssh-gateway", text, file)


if __name__ == "__main__":
    main()
