#!/usr/bin/env python3
"""Dumps beside `mariadb-dump | zstd`, and how long a container holds still for its backup.

Dumps: a MariaDB of Debian's packages with one table of random words; both tools take the same dump in turns, in an
order that alternates. CPU time is that of the tool on the host; what the server and its client use is the same for
both and not counted. The second dump of an unchanged database goes into the same repository.

Pause: a container writes the time since boot every ten milliseconds beside a volume at rest that is saved. The longest
gap between two of its lines is what its users would notice. `docker pause; tar | zstd; docker unpause` is the peer.

    database.py [--rounds N] [--rows N] [--files N] [--work DIR] [--binary FILE] [--results FILE]
"""

import argparse
import datetime
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "bench")]
import results  # noqa: E402
from run import Cost, measure, release_binary, say, size_of  # noqa: E402

READY_SECONDS_MAX = 120
# A file changed within the last minute is read again in the paused pass (racy clean, as git has it).
REST_SECONDS = 65
FILE_BYTES = 512 << 10
DUMP = "MYSQL_PWD=$MARIADB_ROOT_PASSWORD exec mariadb-dump --user=root --single-transaction --quick --routines --events " \
    "--triggers --hex-blob --order-by-primary --all-databases"
MAKE_IMAGES = """
set -euo pipefail
. deploy/demo/database.sh
trap 'rm -rf "$scratch"' EXIT
why=$(provide_database_image) || fail "$why"
build_target_image
echo "$database_image $target_image"
"""


def docker(*words: str, given: str | None = None) -> str:
    done = subprocess.run(["docker", *words], input=given, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"docker {' '.join(words)}: {done.stderr}")
    return done.stdout.strip()


def fill_database(container: str, rows: int) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while docker("inspect", "--format", "{{.State.Health.Status}}", container) != "healthy":
        if time.monotonic() > deadline:
            sys.exit(f"{container} does not get ready")
        time.sleep(0.5)
    words = ", ' ', ".join(["MD5(RAND())", "'a word that comes again'"] * 6)
    statement = f"CREATE TABLE orders (n INT PRIMARY KEY, words TEXT); " \
        f"INSERT INTO orders SELECT seq, CONCAT({words}) FROM seq_1_to_{rows};"
    client = "MYSQL_PWD=$MARIADB_ROOT_PASSWORD exec mariadb --user=root shop"
    docker("exec", "--interactive", container, "sh", "-c", client, given=statement)


def dumps(container: str, binary: Path, work: Path, rounds: int) -> str:
    """The table of dumps."""
    text_bytes = int(docker("exec", container, "sh", "-c", f"({DUMP}) | wc -c"))
    costs: dict[str, list[Cost]] = {"mariadb-dump, zstd -3": [], "backup dump": [], "backup dump, again": []}
    for number in range(rounds):
        base = work / f"round{number}"
        base.mkdir()
        environment = {"BACKUP_REPO": f"{base}/repo", "BACKUP_CACHE_DIR": f"{base}/cache"}
        log = base / "log"
        measure([str(binary), "init"], base, environment, log)
        dump = [str(binary), "dump", "--container", container, "--name", "shop"]
        peer = ["sh", "-c", f"docker exec {container} sh -c '{DUMP}' | zstd -q -3 -T0 -o dump.sql.zst"]

        def play(name: str) -> None:
            place = base / ("dump.sql.zst" if "zstd" in name else "repo")
            before = 0 if place.is_file() or not place.exists() else size_of(place)
            cost = measure(peer if "zstd" in name else dump, base, environment, log)
            stored = place.stat().st_size if place.is_file() else size_of(place)
            costs[name].append(cost._replace(stored=stored - before))
            say(f"  round {number + 1} {name:22} {cost.wall:6.2f} s {cost.cpu:6.2f} CPU s")

        names = list(costs)
        for name in (names if number % 2 == 0 else [names[1], names[0], names[2]]):
            play(name)
    lines = [
        f"### Dump of a MariaDB: {text_bytes / 1e6:,.0f} MB of SQL", "",
        "| | wall s | MB of SQL/s | CPU s of the tool | stored MB | wall, ratio |", "|---|---|---|---|---|---|",
    ]
    first = [cost.wall for cost in costs["mariadb-dump, zstd -3"]]
    for name, of_it in costs.items():
        def median(values: list[float]) -> float:
            return statistics.median(values)
        wall = median([cost.wall for cost in of_it])
        ratio = median([cost.wall / peer for cost, peer in zip(of_it, first)])
        lines.append(
            f"| {name} | {wall:.2f} | {text_bytes / 1e6 / wall:,.0f} | {median([cost.cpu for cost in of_it]):.2f} | "
            f"{median([cost.stored / 1e6 for cost in of_it]):,.1f} | {ratio:.2f} × |"
        )
    return "\n".join(lines)


def longest_gap(container: str) -> float:
    times = [float(line) for line in docker("exec", container, "cat", "/beat").split()]
    return max(later - former for former, later in zip(times, times[1:]))


def pauses(image: str, name: str, binary: Path, work: Path, rounds: int, files: int) -> str:
    """The table of pauses."""
    ways: dict[str, list[tuple[float, float]]] = {"docker pause, tar, zstd -3": [], "--pause": [], "--pause --max-pause 5s": []}
    volume = f"{name}-data"
    docker("volume", "create", volume)
    fill = f"i=0; while [ $i -lt {files} ]; do i=$((i + 1)); head -c {FILE_BYTES} /dev/urandom >/data/$i; done; sync"
    docker("run", "--rm", "-v", f"{volume}:/data", image, "sh", "-c", fill)
    time.sleep(REST_SECONDS)
    place = docker("volume", "inspect", "--format", "{{.Mountpoint}}", volume)
    beat = "while :; do read up rest </proc/uptime; echo $up; usleep 10000; done >/beat"
    try:
        for number in range(rounds):
            for way in ways if number % 2 == 0 else reversed(ways):
                base = work / f"pause{number}-{len(ways[way])}-{list(ways).index(way)}"
                base.mkdir()
                environment = {"BACKUP_REPO": f"{base}/repo", "BACKUP_CACHE_DIR": f"{base}/cache"}
                log = base / "log"
                measure([str(binary), "init"], base, environment, log)
                writer = f"{name}-writer"
                docker("run", "--detach", "--name", writer, "-v", f"{volume}:/data", image, "sh", "-c", beat)
                try:
                    time.sleep(1)
                    if "tar" in way:
                        save = f"docker pause {writer} && tar -C {place} -I 'zstd -q -3 -T0' -cf saved.tar.zst . ; docker unpause {writer}"
                        command = ["sh", "-c", save]
                    else:
                        command = [str(binary), "create", "--volumes-from", writer, *way.replace("--pause", f"--pause {writer}", 1).split()]
                    cost = measure(command, base, environment, log)
                    time.sleep(1)
                    ways[way].append((longest_gap(writer), cost.wall))
                finally:
                    docker("rm", "--force", writer)
                say(f"  round {number + 1} {way:28} still for {ways[way][-1][0]:6.2f} s of {cost.wall:6.2f} s")
    finally:
        docker("volume", "rm", "--force", volume)
    lines = [
        f"### A container that holds still: {files * FILE_BYTES / 1e6:,.0f} MB in {files:,} files, first backup", "",
        "| | longest gap s | wall s | gap, ratio |", "|---|---|---|---|",
    ]
    peer = [gap for gap, _ in ways["docker pause, tar, zstd -3"]]
    for way, of_it in ways.items():
        gap, wall = (statistics.median(values) for values in zip(*of_it))
        ratio = statistics.median(own / other for (own, _), other in zip(of_it, peer))
        lines.append(f"| {way} | {gap:.2f} | {wall:.2f} | {ratio:.2f} × |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=2000, help="of half a megabyte, in the volume")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="where repositories go")
    parser.add_argument("--binary", type=Path, help="backup binary (default: the release build, made when missing)")
    parser.add_argument("--results", type=Path, help="write the tables here (default: bench/RESULTS.md)")
    args = parser.parse_args()
    binary = args.binary or release_binary()
    made = subprocess.run(["bash", "-c", MAKE_IMAGES], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    database_image, target_image = made.stdout.split()
    work = Path(tempfile.mkdtemp(prefix="chores-bench-", dir=args.work))
    container = f"{work.name}-mariadb"
    try:
        docker("run", "--detach", "--name", container, "--env", "MARIADB_ROOT_PASSWORD=bench", "--env", "MARIADB_DATABASE=shop", database_image)
        fill_database(container, args.rows)
        tables = [dumps(container, binary.resolve(), work, args.rounds)]
        subprocess.run(["docker", "rm", "--force", "--volumes", container], stdout=subprocess.DEVNULL)
        tables.append(pauses(target_image, work.name, binary.resolve(), work, args.rounds, args.files))
    finally:
        for words in (["rm", "--force", "--volumes", container], ["rmi", "--force", database_image, target_image]):
            subprocess.run(["docker", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(work, ignore_errors=True)
    version = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.strip()
    head = [
        "## backup: databases and pauses", "",
        f"{datetime.date.today()}, {version}, {results.machine()}; {results.filesystem(args.work)}; {args.rounds} rounds, medians; "
        "method: bench/backup/database.py.",
    ]
    text = "\n\n".join(["\n".join(head), *tables])
    print(text)
    results.write("backup-databases", text, args.results or results.RESULTS)


if __name__ == "__main__":
    main()
