#!/usr/bin/env python3
"""Backup beside tar+zstd, restic and borg, in one run on one machine; with encryption and without.

Every round takes all tools through the same phases in an order that alternates: first backup,
unchanged repeat, backup after about 1 % changed (bench/backup/tree.py), restore. Figures are medians over
the rounds; ratios are medians of the ratios inside a round. Wall time is a clock around the command, CPU
and peak memory are what wait4(2) reports of it and its children (memory: of the largest of them).

What is written is synced before the next command starts. Every restore goes into a new folder and
nothing is deleted until the end: ext4 creates files several times slower after a large deletion.

    run.py [--rounds N] [--scale F] [--usr] [--only TOOL,…] [--work DIR] [--binary FILE] [--results FILE]
"""

import argparse
import datetime
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "bench")]
import results  # noqa: E402
import tree  # noqa: E402

# Longer than the two seconds within which a changed file counts as still changing.
SETTLE_SECONDS = 3
COMMAND_SECONDS_MAX = 1800
# ext4 without a journal passes over inodes freed during the last minute (recently_deleted, fs/ext4/ialloc.c).
FREED_INODES_SECONDS = 70
PHASES = {"first": "first backup", "repeat": "unchanged repeat", "changed": "1 % changed", "restore": "restore"}


class Cost(NamedTuple):
    """Seconds and bytes; `stored` is what the repository grew by, None for a restore."""

    wall: float
    cpu: float
    rss: float
    stored: float | None


class Tool(NamedTuple):
    """Command lines. `restored` tells where the tree is below the folder that was restored into."""

    name: str
    version: list[str]
    environment: Callable[[Path], dict[str, str]]
    init: Callable[[Path], list[str] | None]
    backup: Callable[[Path, Path, str], list[str]]
    restore: Callable[[Path, Path, str], list[str]]
    restored: Callable[[Path, Path], Path]


def below(target: Path, source: Path) -> Path:
    return target / source.relative_to("/")


def ours(name: str, binary: Path, init: list[str], restore: list[str]) -> Tool:
    """`backup` with what encryption adds to `init` and `restore`; a key file is part of it."""
    return Tool(
        name,
        [str(binary), "--version"],
        lambda own: {"BACKUP_CACHE_DIR": f"{own}/cache"} | ({"BACKUP_KEY_FILE": f"{own}/key"} if init else {}),
        lambda repo: [str(binary), "init", "--repo", str(repo), *init],
        lambda repo, source, name: [str(binary), "create", "--repo", str(repo), str(source)],
        lambda repo, target, name: [
            str(binary), "restore", "latest", "--repo", str(repo), "--target", str(target), "--strip", *restore,
        ],
        lambda target, source: target,
    )


def borg(name: str, encryption: str) -> Tool:
    return Tool(
        name,
        ["borg", "--version"],
        lambda own: {
            "BORG_BASE_DIR": str(own), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_PASSPHRASE": "bench",
        },
        lambda repo: ["borg", "init", "--encryption", encryption, str(repo)],
        lambda repo, source, name: ["borg", "create", "--compression", "zstd,3", f"{repo}::{name}", str(source)],
        lambda repo, target, name: ["borg", "extract", f"{repo}::{name}"],
        below,
    )


def tools(binary: Path, identity: Path, recipient: str) -> list[Tool]:
    return [
        ours("backup", binary, [], []),
        Tool(
            "tar+zstd",
            ["zstd", "--version"],
            lambda own: {},
            lambda repo: None,
            lambda repo, source, name: [
                "tar", "-C", str(source), "-I", "zstd -q -3 -T0", "-cf", f"{repo}/{name}.tar.zst", ".",
            ],
            lambda repo, target, name: [
                "tar", "-C", str(target), "-I", "zstd -q", "-xpf", f"{repo}/{name}.tar.zst",
            ],
            lambda target, source: target,
        ),
        Tool(
            "restic",
            ["restic", "version"],
            lambda own: {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": f"{own}/cache"},
            lambda repo: ["restic", "-q", "-r", str(repo), "init"],
            lambda repo, source, name: ["restic", "-q", "-r", str(repo), "backup", str(source)],
            lambda repo, target, name: ["restic", "-q", "-r", str(repo), "restore", "latest", "--target", str(target)],
            below,
        ),
        ours("backup+age", binary, ["--recipient", recipient], ["--identity", str(identity)]),
        borg("borg", "none"),
        borg("borg+key", "repokey-blake2"),
    ]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def size_of(folder: Path) -> int:
    return sum(entry.lstat().st_size for entry in folder.rglob("*") if entry.is_file() and not entry.is_symlink())


def measure(command: list[str], cwd: Path, environment: dict[str, str], log: Path) -> Cost:
    os.sync()
    with log.open("ab") as out:
        began = time.monotonic()
        child = subprocess.Popen(
            command, cwd=cwd, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(child.pid, signal.SIGKILL))
        signal.alarm(COMMAND_SECONDS_MAX)
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except KeyboardInterrupt:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        signal.alarm(0)
        wall = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        tail = log.read_text(errors="replace")[-2000:]
        sys.exit(f"{' '.join(command)}: exit {child.returncode}\n{tail}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, None)


def same(left: Path, right: Path) -> None:
    """Stops the run when a restored tree differs from its source: fast and wrong is not a result."""
    if subprocess.run(["diff", "-rq", "--no-dereference", left, right], stdin=subprocess.DEVNULL).returncode != 0:
        sys.exit(f"{right} is not what {left} was")


Costs = dict[str, dict[str, list[Cost]]]


def alternated(under_test: list[Tool], number: int) -> list[Tool]:
    """Neighbours swap from round to round, so that nobody always runs behind the same other."""
    pairs = [under_test[at : at + 2] for at in range(0, len(under_test), 2)]
    return [tool for pair in pairs for tool in (pair if number % 2 == 0 else reversed(pair))]


def run_rounds(under_test: list[Tool], source: Path, work: Path, rounds: int, mutable: bool) -> Costs:
    costs: Costs = {phase: {tool.name: [] for tool in under_test} for phase in PHASES}
    for number in range(rounds):
        order = alternated(under_test, number)
        base = work / f"round{number}"
        for tool in order:
            repo = base / tool.name / "repo"
            repo.mkdir(parents=True)
            command = tool.init(repo)
            if command:
                measure(command, base, tool.environment(base / tool.name), base / f"{tool.name}.log")

        def play(phase: str, name: str) -> None:
            for tool in order:
                own = base / tool.name
                environment, repo, log = tool.environment(own), own / "repo", base / f"{tool.name}.log"
                if phase == "restore":
                    target = own / "restored"
                    target.mkdir()
                    cost = measure(tool.restore(repo, target, name), target, environment, log)
                    if number == 0:
                        same(source, tool.restored(target, source))
                else:
                    before = size_of(repo)
                    cost = measure(tool.backup(repo, source, name), base, environment, log)
                    cost = cost._replace(stored=size_of(repo) - before)
                costs[phase][tool.name].append(cost)
                line = f"  round {number + 1} {phase:8} {tool.name:9}"
                say(f"{line} {cost.wall:7.2f} s  {cost.cpu:7.2f} CPU s  {cost.rss / 1e6:6.0f} MB")

        play("first", "first")
        play("repeat", "repeat")
        if mutable:
            tree.mutate(source, number)
            time.sleep(SETTLE_SECONDS)
            play("changed", "changed")
        play("restore", "changed" if mutable else "repeat")
    return costs


MEASURES: dict[str, tuple[Callable[[Cost], float | None], Callable[[float], str]]] = {
    "wall s": (lambda cost: cost.wall, lambda value: f"{value:.2f}"),
    "CPU s": (lambda cost: cost.cpu, lambda value: f"{value:.2f}"),
    "peak MB": (lambda cost: cost.rss, lambda value: f"{value / 1e6:.0f}"),
    "stored MB": (lambda cost: cost.stored, lambda value: f"{value / 1e6:.1f}"),
}


# Like beside like: restic cannot do without encryption.
COMPARED = [("backup", "tar+zstd"), ("backup", "borg"), ("backup+age", "restic"), ("backup+age", "borg+key")]


def ratio(costs: Costs, phase: str, of: Callable[[Cost], float | None], ours: str, peer: str) -> float | None:
    pairs = zip(costs[phase].get(ours, []), costs[phase].get(peer, []))
    ratios = [of(one) / of(other) for one, other in pairs if of(one) is not None and of(other)]
    return statistics.median(ratios) if ratios else None


def table(costs: Costs) -> str:
    names = list(costs["first"])
    pairs = [pair for pair in COMPARED if set(pair) <= set(names)]
    lines = [
        "| phase | | " + " | ".join(names + [" ÷ ".join(pair) for pair in pairs]) + " |",
        "|---|---|" + "---|" * (len(names) + len(pairs)),
    ]
    for phase, title in PHASES.items():
        for measure_name, (of, text) in MEASURES.items():
            medians = []
            for name in names:
                values = [of(cost) for cost in costs[phase][name]]
                medians.append("–" if not values or None in values else text(statistics.median(values)))
            if set(medians) == {"–"}:
                continue
            ratios = [ratio(costs, phase, of, *pair) for pair in pairs]
            cells = medians + ["–" if value is None else f"{value:.2f}" for value in ratios]
            lines.append(f"| {title} | {measure_name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def targets(costs: Costs) -> str:
    """The figures promised in the design, against what was measured on the mixed tree."""

    def median(phase: str, of: Callable[[Cost], float | None]) -> float:
        return statistics.median(of(cost) for cost in costs[phase]["backup"])

    def wall(cost: Cost) -> float:
        return cost.wall

    def stored(cost: Cost) -> float | None:
        return cost.stored

    peak = max(cost.rss for phase in PHASES for cost in costs[phase]["backup"]) / 1e6
    checks = [
        ("first backup ÷ tar+zstd, wall", ratio(costs, "first", wall, "backup", "tar+zstd"), 0.75),
        ("unchanged repeat, s", median("repeat", wall), 0.3),
        ("1 % changed, s", median("changed", wall), 1.0),
        ("added by the change, encrypted ÷ restic", ratio(costs, "changed", stored, "backup+age", "restic"), 0.5),
        ("restore ÷ tar+zstd, wall", ratio(costs, "restore", wall, "backup", "tar+zstd"), 1.0),
        ("peak memory, MB", peak, 120.0),
    ]
    lines = ["| target (mixed tree, scale 1) | at most | measured | |", "|---|---|---|---|"]
    for title, value, limit in checks:
        if value is not None:
            verdict = "reached" if value <= limit else "**not reached**"
            lines.append(f"| {title} | {limit:g} | {value:.2f} | {verdict} |")
    return "\n".join(lines)


def require_space(work: Path, source_bytes: int, names: list[str], rounds: int) -> None:
    # A restored tree, a repository, and for tar three archives, on average.
    needed = source_bytes * 2 * len(names) * rounds
    free = shutil.disk_usage(work).free
    if free < needed:
        way_out = "fewer --rounds, a smaller --scale, another --work"
        sys.exit(f"{work} has {free / 1e9:.0f} GB free; {needed / 1e9:.0f} GB may be needed ({way_out})")


def report(sections: list[str], under_test: list[Tool], work: Path, rounds: int) -> str:
    said = [subprocess.run(tool.version, capture_output=True, text=True, check=True).stdout for tool in under_test]
    versions = ", ".join(text.strip().splitlines()[0].strip("* ") for text in said)
    return "\n\n".join([
        "## backup",
        "Written by `bench/backup/run.py`; the method is at the top of [backup/run.py](backup/run.py), the tree in "
        "[backup/tree.py](backup/tree.py). Ratios below 1 are in our favour. restic always encrypts; "
        "`backup+age` has one recipient and no private key while it saves, `borg+key` is repokey-blake2. \"Stored\" is what the repository grew by.",
        f"{datetime.date.today().isoformat()} · {results.machine()} · {results.filesystem(work)} · {rounds} rounds, medians\n\n{versions}",
        *sections,
    ]) + "\n"


def release_binary() -> Path:
    """The release build of `backup`, made when it is missing or old."""
    built = subprocess.run([ROOT / "deploy/images.sh", "--binary", "backup"], stdout=subprocess.PIPE, text=True, check=True)
    return ROOT / built.stdout.strip().splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the mixed tree (0.01 for a smoke run)")
    parser.add_argument("--usr", action="store_true", help="/usr too, in one round")
    parser.add_argument("--only", help="tools, separated by commas")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="where trees and repositories go")
    parser.add_argument("--binary", type=Path, help="backup binary (default: the release build, made when missing)")
    parser.add_argument("--results", type=Path, help="write the tables here (default: bench/RESULTS.md for a whole run)")
    args = parser.parse_args()

    binary = args.binary or release_binary()
    work = Path(tempfile.mkdtemp(prefix="chores-bench-", dir=args.work))
    try:
        identity = work / "identity"
        subprocess.run(["age-keygen", "-o", identity], check=True, capture_output=True)
        recipient = subprocess.run(["age-keygen", "-y", identity], check=True, capture_output=True, text=True).stdout.strip()
        under_test = [
            tool for tool in tools(binary.resolve(), identity, recipient) if not args.only or tool.name in args.only.split(",")
        ]
        absent = [tool.version[0] for tool in under_test if not shutil.which(tool.version[0])]
        if absent:
            sys.exit(f"not installed: {', '.join(absent)}")

        names = [tool.name for tool in under_test]
        source = work / "mixed"
        files, size = tree.make(source, args.scale)
        require_space(work, size, names, args.rounds)
        title = f"### Mixed tree: {files:,} files, {size / 1e9:.2f} GB"
        say(title)
        time.sleep(SETTLE_SECONDS)
        costs = run_rounds(under_test, source, work, args.rounds, mutable=True)
        sections = [title, table(costs)]
        if args.scale == 1 and "backup" in names:
            sections.append(targets(costs))
        if args.usr:
            for done in work.iterdir():
                if done.is_dir():
                    shutil.rmtree(done)
            os.sync()
            time.sleep(FREED_INODES_SECONDS)
            usr = Path("/usr")
            size = size_of(usr)
            require_space(work, size, names, 1)
            title = f"### /usr: {size / 1e9:.2f} GB, one round"
            say(title)
            sections += [title, table(run_rounds(under_test, usr, work / "usr", 1, mutable=False))]
        text = report(sections, under_test, work, args.rounds)
    finally:
        shutil.rmtree(work, ignore_errors=True)

    print(text)
    file = args.results or (results.RESULTS if args.scale == 1 and not args.only else None)
    if file:
        results.write("backup", text, file)


if __name__ == "__main__":
    main()
