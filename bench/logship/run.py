#!/usr/bin/env python3
"""logship beside rsyslog's imfile and `docker logs -f`, in one run on one machine.

Every comparison alternates the contestants over the rounds; figures are medians, ratios are medians of the
ratios inside a round. CPU is what wait4(2) reports of the process (user and system, all threads); for the
engine it is what /proc/PID/stat of dockerd grew by. The input is read once before the first round, so that
every contestant finds it in the page cache. What arrived is compared with what was written: "lost" and
"repeated" count lines.

    run.py [--rounds N] [--scale F] [--only CASE,…] [--work DIR] [--binary FILE] [--writer FILE] [--results FILE]

Cases: files (one file, then 200, into one file), sinks (one file into each kind of sink; the peers only count, and are not
measured), container (json-file 10m×3, unthrottled), rotate (a writer at 200k lines/s whose file is rotated in each way,
beside the same without rotation; "disk" is the most that the log directory took), latency, idle.
"""

import argparse
import contextlib
import datetime
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench")]
import results  # noqa: E402

LINES = 4_800_000
LINE_BYTES = 100
FILES_MANY = 200
SINK_LINES = 1_000_000
SINKS = {
    "http": "http://127.0.0.1:{port}/in",
    "es": "es+http://127.0.0.1:{port}/logs",
    "loki": "loki+http://127.0.0.1:{port}",
    "otlp": "otlp+http://127.0.0.1:{port}",
    "gelf": "gelf+tcp://127.0.0.1:{port}",
    "fluent": "fluent://127.0.0.1:{port}",
}
CONTAINER_LINES = 2_000_000
LATENCY_LINES_PER_SECOND = 10_000
LATENCY_SECONDS = 10
IDLE_CONTAINERS = 100
IDLE_SECONDS = 20
COMMAND_SECONDS_MAX = 600
DRAIN_SECONDS_MAX = 120
CASES = ("files", "sinks", "container", "rotate", "latency", "idle")
ROTATE_LINES = 4_000_000
ROTATE_LINES_PER_SECOND = 200_000
ROTATE_SIZE = "16MB"
TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """Seconds and bytes; `engine` is the CPU of dockerd meanwhile. Lines."""

    wall: float
    cpu: float
    rss: float
    lost: int
    repeated: int
    engine: float = 0.0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def started(command: list[str], log: Path, **more) -> Iterator[subprocess.Popen]:
    with log.open("ab") as out:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=more.pop("stdout", out), stderr=out, **more)
    try:
        yield child
    finally:
        if child.returncode is None and child.poll() is None:
            child.kill()
            child.wait()


def reap(child: subprocess.Popen, log: Path, allowed: tuple[int, ...] = (0,)):
    """The child's own accounting once it has ended."""
    watchdog = threading.Timer(COMMAND_SECONDS_MAX, child.kill)
    watchdog.start()
    _, status, usage = os.wait4(child.pid, 0)
    watchdog.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in allowed:
        sys.exit(f"{' '.join(map(str, child.args))}: exit {child.returncode}\n{log.read_text(errors='replace')[-2000:]}")
    return usage


def wait_until(done: Callable[[], bool], what: str, pause: float = 0.05) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS_MAX
    while not done():
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not done after {DRAIN_SECONDS_MAX} s")
        time.sleep(pause)


def make_input(folder: Path, files: int, lines: int) -> int:
    """Numbered lines of LINE_BYTES, spread over `files` files. Bytes in all."""
    folder.mkdir(parents=True)
    # Words as log lines have them: LZ4 makes a third of it.
    random_of = random.Random(7)
    words = ["".join(random_of.choices("abcdefghijklmnopqrstuvwxyz0123456789/=-", k=random_of.randint(3, 11)))
             for _ in range(400)]
    texts = [" ".join(random_of.choices(words, k=20)).encode()[: LINE_BYTES - 22] for _ in range(4001)]
    each = lines // files
    for number in range(files):
        with (folder / f"{number:03}.log").open("wb") as file:
            for start in range(0, each, 10_000):
                file.write(b"".join(b"%08d %011d %s\n" % (number, at, texts[(at * 31 + number) % len(texts)])
                                    for at in range(start, min(start + 10_000, each))))
    return sum(file.stat().st_size for file in folder.iterdir())


def compare(output: Path, folder: Path) -> tuple[int, int]:
    """Lines lost and repeated, whatever the order of files."""
    sort = ["sort", "-S", "30%", "--parallel=2"]
    environment = os.environ | {"LC_ALL": "C", "TMPDIR": str(output.parent)}
    wanted, found = output.with_suffix(".wanted"), output.with_suffix(".found")
    subprocess.run(sort + ["-o", wanted, *sorted(folder.glob("*.log"))], check=True, env=environment)
    subprocess.run(sort + ["-o", found, output], check=True, env=environment)
    counts = []
    for flag in ("-23", "-13"):
        process = subprocess.run(f"comm {flag} '{wanted}' '{found}' | wc -l", shell=True, check=True,
                                 capture_output=True, text=True, env=environment)
        counts.append(int(process.stdout))
    wanted.unlink()
    found.unlink()
    return counts[0], counts[1]


def logship_config(own: Path, wal: str, source: str, sink: str, engine: str = "") -> Path:
    own.mkdir(parents=True, exist_ok=True)
    config = own / "logship.toml"
    config.write_text(f'state = "{own}/state"\n\n[wal]\n{wal}\n\n[engine]\n{engine}\n\n[[source]]\n{source}\n\n'
                      f'[[sink]]\nname = "out"\nurl = "{sink}"\n')
    return config


def run_logship(binary: Path, own: Path, folder: Path, wal: str) -> Cost:
    output, log = own / "out.log", own / "log"
    config = logship_config(own, wal, f'type = "files"\npaths = ["{folder}/*.log"]', f"file://{output}?format=plain")
    began = time.monotonic()
    with started([str(binary), "once", "--config", str(config)], log) as child:
        usage = reap(child, log)
    wall = time.monotonic() - began
    lost, repeated = compare(output, folder)
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, lost, repeated)


def run_sink(binary: Path, own: Path, folder: Path, kind: str, lines: int) -> Cost:
    """Into a peer that counts; lines beyond those that were written are repeated ones."""
    own.mkdir(parents=True)
    log, port, count = own / "log", own / "port", own / "count"
    peer = [sys.executable, str(ROOT / "bench/logship/peers.py"), kind, str(port), str(count)]
    with started(peer, own / "peer.log"):
        wait_until(port.exists, "the peer")
        sink = SINKS[kind].format(port=port.read_text()) + "?control=none"
        config = logship_config(own, 'codec = "lz4"', f'type = "files"\npaths = ["{folder}/*.log"]', sink)
        began = time.monotonic()
        with started([str(binary), "once", "--config", str(config)], log) as child:
            usage = reap(child, log)
        wall = time.monotonic() - began
        wait_until(lambda: int(count.read_text()) >= lines, "the peer's count")
        arrived = int(count.read_text())
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, max(0, lines - arrived), max(0, arrived - lines))


def run_rsyslog(own: Path, folder: Path, size: int) -> Cost:
    own.mkdir(parents=True)
    output, log, config = own / "out.log", own / "log", own / "rsyslog.conf"
    config.write_text(f"""
global(workDirectory="{own}")
module(load="imfile" mode="inotify")
template(name="line" type="string" string="%msg%\\n")
ruleset(name="copy") {{ action(type="omfile" file="{output}" template="line" ioBufferSize="256k" flushOnTXEnd="off" asyncWriting="off") }}
input(type="imfile" file="{folder}/*.log" tag="bench" ruleset="copy")
""")
    began = time.monotonic()
    with started(["rsyslogd", "-n", "-i", str(own / "pid"), "-f", str(config)], log) as child:
        wait_until(lambda: output.exists() and output.stat().st_size >= size - 256 * 1024, "rsyslog")
        wall = time.monotonic() - began
        time.sleep(0.5)
        child.send_signal(signal.SIGTERM)
        usage = reap(child, log)
    lost, repeated = compare(output, folder)
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, lost, repeated)


def engine_cpu() -> float:
    """Seconds of dockerd so far."""
    seconds = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().strip() == "dockerd":
                fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
                seconds += (int(fields[11]) + int(fields[12])) / TICKS
    return seconds


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout.strip()


def build_image(work: Path, writer: Path) -> str:
    context = work / "image"
    context.mkdir()
    shutil.copy(writer, context / "log-writer")
    (context / "Dockerfile").write_text('FROM scratch\nCOPY log-writer /log-writer\nENTRYPOINT ["/log-writer"]\n')
    tag = f"chores-bench-{os.getpid()}"
    docker("build", "--quiet", "--tag", tag, str(context))
    return tag


def container(image: str, *words: str) -> str:
    options = ["--detach", "--network", "none", "--log-driver", "json-file", "--log-opt", "max-size=10m",
               "--log-opt", "max-file=3"]
    return docker("run", *options, image, *words)


def judge(output: Path, lines: int) -> tuple[int, int]:
    """Lost and repeated by the numbers of log-writer, from 1: `NAME NUMBER PADDING`."""
    number = re.compile(rb"^\S+ (\d+) ?")
    seen = bytearray(lines)
    repeated = 0
    with output.open("rb") as file:
        for line in file:
            found = number.match(line)
            at = int(found.group(1)) - 1 if found else lines
            if 0 <= at < lines:
                repeated += seen[at]
                seen[at] = 1
    return lines - sum(seen), repeated


def follow_container(command: Callable[[str], list[str]], own: Path, image: str, lines: int, output: Path,
                     to_stdout: bool, ready: float) -> Cost:
    """A container that writes as fast as it can, followed from its start by `command`."""
    own.mkdir(parents=True, exist_ok=True)
    log = own / "log"
    before = engine_cpu()
    name = container(image, "--lines", str(lines), "--line-buffered", "--bytes", str(LINE_BYTES), "--wait", str(ready))
    began = time.monotonic()
    try:
        out = output.open("wb") if to_stdout else None
        more = {"stdout": out} if out else {}
        with started(command(name), log, **more) as child:
            docker("wait", name)
            size = -1

            def is_quiet() -> bool:
                nonlocal size
                former, size = size, output.stat().st_size if output.exists() else 0
                return size == former and size > 0

            if to_stdout:
                usage = reap(child, log)
            else:
                wait_until(is_quiet, "the output", pause=2.0)
                child.send_signal(signal.SIGTERM)
                usage = reap(child, log, allowed=(0, 3, 130))
        wall = time.monotonic() - began
    finally:
        docker("rm", "--force", name)
    lost, repeated = judge(output, lines)
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(wall, cpu, usage.ru_maxrss * 1024, lost, repeated, engine_cpu() - before)


def run_container_logship(binary: Path, own: Path, image: str, lines: int, api: bool) -> Cost:
    output = own / "out.log"

    def command(name: str) -> list[str]:
        listed = docker("inspect", "--format", "{{.Name}}", name).lstrip("/")
        source = f'type = "engine"\ninclude = ["{listed}"]'
        engine = f"api_only = {str(api).lower()}"
        config = logship_config(own, 'codec = "lz4"', source, f"file://{output}?format=plain", engine)
        return [str(binary), "run", "--config", str(config)]

    return follow_container(command, own, image, lines, output, to_stdout=False, ready=3.0)


def run_rotate(binary: Path, writer: Path, own: Path, lines: int, how: str, writes: list[str]) -> tuple[Cost, int]:
    """A writer at full speed and its shipper, to the end of both; and the most disk that its directory took."""
    logs, output, log = own / "logs", own / "out.log", own / "log"
    logs.mkdir(parents=True)
    rotate = f"\n[source.rotate]\nsize = \"{ROTATE_SIZE}\"\n{how}" if how else ""
    source = f'type = "files"\npaths = ["{logs}/*.log"]{rotate}'
    config = logship_config(own, 'codec = "lz4"', source, f"file://{output}?format=plain")
    peak = 0
    with started([str(binary), "run", "--config", str(config)], log) as child:
        began = time.monotonic()
        command = [str(writer), "--lines", str(lines), "--bytes", str(LINE_BYTES), "--rate", str(ROTATE_LINES_PER_SECOND),
                   "--file", str(logs / "app.log"), *writes]
        with started(command, log) as writing:
            while writing.poll() is None:
                with contextlib.suppress(FileNotFoundError):
                    peak = max(peak, sum(entry.stat().st_blocks * 512 for entry in os.scandir(logs)))
                time.sleep(0.02)
        wall = time.monotonic() - began
        # Control records are no lines in this format: every byte is one of the writer's.
        wait_until(lambda: output.exists() and output.stat().st_size >= lines * (LINE_BYTES + 1), "the output")
        child.send_signal(signal.SIGTERM)
        usage = reap(child, log, allowed=(0, 3, 130))
    lost, repeated = judge(output, lines)
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, lost, repeated), peak


def measure_rotate(binary: Path, writer: Path, work: Path, lines: int, rounds: int) -> tuple[str, int]:
    """A table of what each way costs, and how many lines were lost or repeated in all of them."""
    ways = {
        "no rotation": ("", []),
        "rename, keep 3, zstd": ('reopen = "name"\nkeep = 3\ncompress = "zstd"', ["--follow-name"]),
        "rename, keep 0": ('reopen = "name"\nkeep = 0', ["--follow-name"]),
        "collapse": ('reopen = "none"\nappend = true', []),
        "punch": ('reopen = "none"', ["--plain"]),
    }
    runs: dict[str, list[tuple[Cost, int]]] = {way: [] for way in ways}
    for number in range(rounds):
        order = list(ways)
        for way in order[number % len(order):] + order[: number % len(order)]:
            own = work / f"rotate-{number}-{order.index(way)}"
            how, writes = ways[way]
            runs[way].append(run_rotate(binary, writer, own, lines, how, writes))
            cost, peak = runs[way][-1]
            say(f"rotate, {way}: {cost.cpu:.2f} CPU s, {peak / 1e6:.0f} MB of disk, {cost.lost} lost")
            shutil.rmtree(own)
    rows = ["| | CPU s | CPU ÷ none | writer s | disk MB | RSS MB | lost | repeated |", "|---|---|---|---|---|---|---|---|"]
    plain = [cost.cpu for cost, _ in runs["no rotation"]]
    for way, of in runs.items():
        costs = [cost for cost, _ in of]
        ratio = statistics.median(cost.cpu / base for cost, base in zip(costs, plain))
        disk = statistics.median(peak for _, peak in of) / 1e6
        rows.append(f"| {way} | {median(costs, lambda c: c.cpu):.2f} | {ratio:.2f} | {median(costs, lambda c: c.wall):.1f} "
                    f"| {disk:.0f} | {median(costs, lambda c: c.rss) / 1e6:.0f} | {max(c.lost for c in costs)} "
                    f"| {max(c.repeated for c in costs)} |")
    wrong = sum(cost.lost + cost.repeated for of in runs.values() for cost, _ in of)
    return "\n".join(rows), wrong


def run_container_docker(own: Path, image: str, lines: int) -> Cost:
    output = own / "out.log"
    return follow_container(lambda name: ["docker", "logs", "--follow", name], own, image, lines, output,
                            to_stdout=True, ready=3.0)


def measure_latency(binary: Path, own: Path) -> list[float]:
    """Milliseconds from write(2) of a line to its arrival in the sink's file, at 10k lines/s."""
    own.mkdir(parents=True)
    source, output, log = own / "in.log", own / "out.log", own / "log"
    source.touch()
    config = logship_config(own, 'codec = "lz4"', f'type = "files"\npaths = ["{source}"]', f"file://{output}?format=plain")
    wanted = LATENCY_LINES_PER_SECOND * LATENCY_SECONDS
    delays: list[float] = []
    with started([str(binary), "run", "--config", str(config)], log) as child:
        with source.open("ab", buffering=0) as file:
            file.write(b"0\n")
            wait_until(lambda: output.exists() and output.stat().st_size > 0, "the first line")

            def read() -> None:
                rest = b""
                with output.open("rb") as arrived:
                    while len(delays) < wanted + 1 and child.poll() is None:
                        part = arrived.read(1 << 20)
                        now = time.monotonic_ns()
                        if not part:
                            time.sleep(0.001)
                            continue
                        *lines, rest = (rest + part).split(b"\n")
                        delays.extend((now - int(line)) / 1e6 for line in lines)

            reader = threading.Thread(target=read)
            reader.start()
            began = time.monotonic()
            for step in range(LATENCY_SECONDS * 1000):
                file.write(b"".join(b"%d\n" % time.monotonic_ns() for _ in range(LATENCY_LINES_PER_SECOND // 1000)))
                time.sleep(max(0.0, began + (step + 1) / 1000 - time.monotonic()))
            reader.join(DRAIN_SECONDS_MAX)
        child.send_signal(signal.SIGTERM)
        reap(child, log, allowed=(0, 3, 130))
    return sorted(delays[1:])


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def measure_idle(binary: Path, own: Path, image: str) -> tuple[float, float, float]:
    """Share of a core, and resident bytes, with 100 quiet containers; share of a core of the engine meanwhile."""
    own.mkdir(parents=True)
    names = [container(image, "--lines", "1", "--wait", "0", "--stay", "3600") for _ in range(IDLE_CONTAINERS)]
    try:
        output, log = own / "out.log", own / "log"
        config = logship_config(own, 'codec = "lz4"', 'type = "engine"', f"file://{output}?format=plain")
        with started([str(binary), "run", "--config", str(config)], log) as child:
            wait_until(lambda: output.exists() and output.read_bytes().count(b"\n") >= IDLE_CONTAINERS, "the first lines")
            time.sleep(5)
            before, engine, began = cpu_of(child.pid), engine_cpu(), time.monotonic()
            time.sleep(IDLE_SECONDS)
            span = time.monotonic() - began
            share, engine_share = (cpu_of(child.pid) - before) / span, (engine_cpu() - engine) / span
            memory = resident(child.pid)
            child.send_signal(signal.SIGTERM)
            reap(child, log, allowed=(0, 3, 130))
        return share, memory, engine_share
    finally:
        docker("rm", "--force", *names)


Costs = dict[str, list[Cost]]


def play(contestants: dict[str, Callable[[Path], Cost]], work: Path, rounds: int, what: str) -> Costs:
    costs: Costs = {name: [] for name in contestants}
    for number in range(rounds):
        order = list(contestants)
        if number % 2:
            order.reverse()
        for name in order:
            os.sync()
            own = work / f"{what}-{number}-{name}".replace(" ", "-").replace(",", "")
            cost = contestants[name](own)
            shutil.rmtree(own)
            costs[name].append(cost)
            say(f"  {what:12} round {number + 1} {name:24} {cost.wall:6.2f} s {cost.cpu:6.2f} CPU s "
                f"{cost.rss / 1e6:5.0f} MB  lost {cost.lost} repeated {cost.repeated}")
    return costs


def median(costs: list[Cost], of: Callable[[Cost], float]) -> float:
    return statistics.median(of(cost) for cost in costs)


def table(costs: Costs, size: float, unit: str, peer: str, engine: bool) -> str:
    head = f"| | wall s | CPU s | {unit} per CPU s | CPU ÷ {peer} | peak MB | lost | repeated |"
    rule = "|---|---|---|---|---|---|---|---|"
    if engine:
        head, rule = head + " dockerd CPU s |", rule + "---|"
    lines = [head, rule]
    for name, runs in costs.items():
        ratio = statistics.median(one.cpu / other.cpu for one, other in zip(runs, costs[peer]))
        line = (f"| {name} | {median(runs, lambda c: c.wall):.2f} | {median(runs, lambda c: c.cpu):.2f} "
                f"| {size / median(runs, lambda c: c.cpu):,.0f} | {ratio:.2f} | {median(runs, lambda c: c.rss) / 1e6:.0f} "
                f"| {max(c.lost for c in runs):,} | {max(c.repeated for c in runs):,} |")
        lines.append(line + (f" {median(runs, lambda c: c.engine):.2f} |" if engine else ""))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the lines (0.01 for a smoke run)")
    parser.add_argument("--only", default=",".join(CASES), help="cases, separated by commas")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--binary", type=Path, help="logship binary (default: the release build)")
    parser.add_argument("--writer", type=Path, help="log-writer binary (default: the release build)")
    parser.add_argument("--results", type=Path, help="write the tables here (default: bench/RESULTS.md for a whole run)")
    args = parser.parse_args()
    cases = args.only.split(",")
    unknown = set(cases) - set(CASES)
    if unknown:
        sys.exit(f"unknown cases: {', '.join(sorted(unknown))} (known: {', '.join(CASES)})")

    binary, writer = args.binary, args.writer
    if binary is None or writer is None:
        # The writer is no contestant: the build that the tests have is good enough.
        subprocess.run(["cargo", "build", "--release", "--locked", "-p", "logship"], cwd=ROOT, check=True)
        subprocess.run(["cargo", "build", "--locked", "-p", "e2e", "--bin", "log-writer"], cwd=ROOT, check=True)
        host = subprocess.run(["rustc", "--print", "host-tuple"], capture_output=True, text=True, check=True).stdout.strip()
        built = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / host
        binary, writer = binary or built / "release/logship", writer or built / "debug/log-writer"
    binary, writer = binary.resolve(), writer.resolve()

    work = Path(tempfile.mkdtemp(prefix="chores-bench-", dir=args.work))
    sections: list[str] = []
    checks: list[tuple[str, float, str, float]] = []
    image = None
    try:
        if "files" in cases:
            for files in (1, FILES_MANY):
                folder = work / f"in-{files}"
                size = make_input(folder, files, int(LINES * args.scale))
                subprocess.run(f"cat {folder}/*.log >/dev/null", shell=True, check=True)
                modes = {"logship, lz4 log": 'codec = "lz4"', "logship, plain log": 'codec = "none"',
                         "logship, no log": "off = true"}
                contestants: dict[str, Callable[[Path], Cost]] = {
                    name: (lambda own, wal=wal: run_logship(binary, own, folder, wal)) for name, wal in modes.items()
                }
                contestants["rsyslog imfile"] = lambda own: run_rsyslog(own, folder, size)
                costs = play(contestants, work, args.rounds, f"{files} files")
                title = "One file" if files == 1 else f"{files} files"
                sections += [f"### {title} → one file: {size / 1e6:,.0f} MB, {LINE_BYTES} bytes a line",
                             table(costs, size / 1e6, "MB", "rsyslog imfile", engine=False)]
                if files == 1:
                    per_cpu = {name: size / 1e6 / median(runs, lambda c: c.cpu) for name, runs in costs.items()}
                    checks += [("file → file, lz4 log, MB per CPU s", per_cpu["logship, lz4 log"], "≥", 450),
                               ("file → file, no log, MB per CPU s", per_cpu["logship, no log"], "≥", 1000)]
                shutil.rmtree(folder)
        if "sinks" in cases:
            folder, lines = work / "in-sinks", int(SINK_LINES * args.scale)
            size = make_input(folder, 1, lines)
            sinks: dict[str, Callable[[Path], Cost]] = {
                "file": lambda own: run_logship(binary, own, folder, 'codec = "lz4"'),
                **{kind: (lambda own, kind=kind: run_sink(binary, own, folder, kind, lines)) for kind in SINKS},
            }
            costs = play(sinks, work, args.rounds, "sinks")
            sections += [f"### One file → each sink, lz4 log: {size / 1e6:,.0f} MB of lines, peers that only count",
                         table(costs, size / 1e6, "MB", "file", engine=False)]
            shutil.rmtree(folder)
        if "container" in cases or "idle" in cases:
            image = build_image(work, writer)
        if "container" in cases:
            lines = int(CONTAINER_LINES * args.scale)
            costs = play({
                "logship, direct": lambda own: run_container_logship(binary, own, image, lines, api=False),
                "logship, API": lambda own: run_container_logship(binary, own, image, lines, api=True),
                "docker logs -f": lambda own: run_container_docker(own, image, lines),
            }, work, args.rounds, "container")
            sections += [f"### Container → file: {lines:,} lines as fast as it can, json-file 10m×3",
                         table(costs, lines / 1e3, "k lines", "docker logs -f", engine=True)]
            direct = costs["logship, direct"]
            checks += [("direct path, lines lost", max(c.lost for c in direct), "≤", 0),
                       ("direct path, lines repeated", max(c.repeated for c in direct), "≤", 0),
                       ("API path, lines repeated", max(c.repeated for c in costs["logship, API"]), "≤", 0)]
        if "rotate" in cases:
            lines = int(ROTATE_LINES * args.scale)
            rows, wrong = measure_rotate(binary, writer, work, lines, args.rounds)
            sections += [f"### Rotation at {ROTATE_SIZE}: {lines:,} lines at {ROTATE_LINES_PER_SECOND:,} lines/s", rows]
            checks.append(("lines lost or repeated by rotation", wrong, "≤", 0))
        if "latency" in cases:
            delays = measure_latency(binary, work / "latency")
            at = lambda share: delays[min(len(delays) - 1, int(len(delays) * share))]  # noqa: E731
            sections += [f"### Line → sink at {LATENCY_LINES_PER_SECOND:,} lines/s",
                         f"p50 {at(0.5):.0f} ms · p99 {at(0.99):.0f} ms · longest {delays[-1]:.0f} ms ({len(delays):,} lines)"]
            checks.append(("line to sink, p99 ms", at(0.99), "≤", 150))
        if "idle" in cases:
            share, memory, engine_share = measure_idle(binary, work / "idle", image)
            sections += [f"### {IDLE_CONTAINERS} quiet containers",
                         f"{share * 100:.2f} % of a core, {memory / 1e6:.0f} MB resident; dockerd {engine_share * 100:.2f} %"]
            checks += [("idle, % of a core", share * 100, "≤", 0.2), ("100 containers, resident MB", memory / 1e6, "≤", 40)]
    finally:
        if image:
            subprocess.run(["docker", "rmi", "--force", image], capture_output=True)
        shutil.rmtree(work, ignore_errors=True)

    rsyslog = subprocess.run(["rsyslogd", "-v"], capture_output=True, text=True).stdout.splitlines()
    versions = f"{rsyslog[0].split('(')[0].strip() if rsyslog else ''}, Docker {docker('version', '--format', '{{.Server.Version}}')}"
    text = "\n\n".join([
        "## logship",
        "Written by `bench/logship/run.py`; the method is at its top. rsyslog has no durable copy between file and file here; "
        "logship's log is one, except where it says no log. CPU ÷ below 1 is in our favour.",
        f"{datetime.date.today().isoformat()} · {results.machine()} · {results.filesystem(args.work)} · {args.rounds} rounds, medians\n\n{versions}",
        *sections,
        *([results.verdicts(checks)] if args.scale == 1 else []),
    ])
    print(text)
    whole = args.scale == 1 and set(cases) == set(CASES)
    file = args.results or (results.RESULTS if whole else None)
    if file:
        results.write("logship", text, file)


if __name__ == "__main__":
    main()
