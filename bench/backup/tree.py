#!/usr/bin/env python3
"""A mixed tree of the size and kind a busy container volume has, the same for the same seed.

At scale 1: 2.2 GB in 45,657 files.

    db/     40 files of 16 KiB pages: rows of text and random keys        0.80 GB, zstd -3 to about 0.41
    logs/  100 files of log lines with fresh ids                          0.40 GB, about 0.22
    media/ 500 files of random bytes, as pictures and archives look       0.39 GB, 1.0
    small/ the rest, text of some hundred bytes to 200 KiB in 450 folders 0.61 GB, about 0.27

`mutate` edits about 1 % as a day of work does: single pages all over the databases, appended log
lines, changed, added and removed small files.

    tree.py make DIR [--scale F] [--seed N]
    tree.py mutate DIR [--seed N]
"""

import argparse
import itertools
import math
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

SEED = 20240229
FILES = 45_657
PAGE_BYTES = 16_384
DB_FILES, DB_PAGES = 40, 1_221
LOG_FILES, LOG_BYTES = 100, 4_000_000
MEDIA_FILES, MEDIA_BYTES = 500, 770_000
SMALL_FOLDERS = 450
SMALL_MEDIAN_BYTES, SMALL_SIGMA, SMALL_BYTES_MIN, SMALL_BYTES_MAX = 6_000, 1.25, 100, 200_000
CHANGED_SHARE = 0.01
# An old, fixed time: what is found there was not written just now.
MTIME = 1_709_164_800


class Job(NamedTuple):
    kind: str
    path: Path
    size: int
    seed: str


def words(rng: random.Random, count: int) -> list[str]:
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    weights = list(itertools.accumulate(1 / (rank + 2) for rank in range(len(letters))))
    return ["".join(rng.choices(letters, cum_weights=weights, k=rng.randint(2, 10))) for _ in range(count)]


def fragments(count: int, words_each: int) -> list[bytes]:
    """Pieces of text that files are put together from; few enough to repeat, as real text does."""
    rng = random.Random(f"{SEED}/{count}/{words_each}")
    pool = words(rng, 6_000)
    weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(pool))))
    return [" ".join(rng.choices(pool, cum_weights=weights, k=words_each)).encode() for _ in range(count)]


COLUMNS = fragments(30_000, 18)
MESSAGES = fragments(3_000, 12)
LINES = fragments(50_000, 8)


def db_pages(rng: random.Random, size: int) -> bytes:
    pages = []
    for _ in range(size // PAGE_BYTES):
        keys = rng.randbytes(24 * 128)
        texts = rng.choices(COLUMNS, k=128)
        rows = [keys[at : at + 24] + text for at, text in zip(range(0, len(keys), 24), texts)]
        pages.append(b"".join(rows)[:PAGE_BYTES].ljust(PAGE_BYTES, b"\0"))
    return b"".join(pages)


def log_lines(rng: random.Random, size: int) -> bytes:
    clock, lines, length = rng.randrange(1 << 30), [], 0
    while length < size:
        ids = rng.randbytes(14 * 512).hex().encode()
        for at, text in zip(range(0, len(ids), 28), rng.choices(MESSAGES, k=512)):
            clock += 7
            lines.append(b"%d INFO request=%s %s\n" % (clock, ids[at : at + 28], text))
            length += len(lines[-1])
    return b"".join(lines)[:size]


def random_bytes(rng: random.Random, size: int) -> bytes:
    return rng.randbytes(size)


def text_lines(rng: random.Random, size: int) -> bytes:
    lines, length = [b"# %s\n" % rng.randbytes(12).hex().encode()], 26
    while length < size:
        more = rng.choices(LINES, k=max(1, (size - length) // 45))
        lines += more
        length += sum(map(len, more)) + len(more)
    return b"\n".join(lines)[:size]


MAKERS: dict[str, Callable[[random.Random, int], bytes]] = {
    "db": db_pages,
    "logs": log_lines,
    "media": random_bytes,
    "small": text_lines,
}


def jobs(root: Path, scale: float, seed: int) -> Iterator[Job]:
    def count(files: int) -> int:
        return max(1, round(files * scale))

    rng = random.Random(f"{seed}/sizes")
    for n in range(count(DB_FILES)):
        yield Job("db", root / f"db/table{n:03}.ibd", DB_PAGES * PAGE_BYTES, f"{seed}/db/{n}")
    for n in range(count(LOG_FILES)):
        yield Job("logs", root / f"logs/app-{n:03}.log", LOG_BYTES, f"{seed}/logs/{n}")
    for n in range(count(MEDIA_FILES)):
        size = rng.randint(MEDIA_BYTES // 2, MEDIA_BYTES * 3 // 2)
        yield Job("media", root / f"media/{n % 20:02}/{n:04}.jpg", size, f"{seed}/media/{n}")
    for n in range(count(FILES - DB_FILES - LOG_FILES - MEDIA_FILES)):
        size = round(rng.lognormvariate(math.log(SMALL_MEDIAN_BYTES), SMALL_SIGMA))
        size = min(max(size, SMALL_BYTES_MIN), SMALL_BYTES_MAX)
        yield Job("small", root / f"small/{n % SMALL_FOLDERS:03}/{n:05}.txt", size, f"{seed}/small/{n}")


def write(job: Job) -> int:
    job.path.write_bytes(MAKERS[job.kind](random.Random(job.seed), job.size))
    os.utime(job.path, (MTIME, MTIME))
    return job.size


def make(root: Path, scale: float = 1.0, seed: int = SEED) -> tuple[int, int]:
    """Makes the tree below `root`, which must not exist. Returns its files and bytes."""
    todo = list(jobs(root, scale, seed))
    for folder in {job.path.parent for job in todo}:
        folder.mkdir(parents=True)
    with multiprocessing.Pool() as pool:
        sizes = pool.map(write, todo, chunksize=16)
    return len(sizes), sum(sizes)


def mutate(root: Path, seed: int) -> int:
    """Edits about one per cent of the tree. Returns how many bytes were written."""
    rng, written = random.Random(f"{seed}/mutate"), 0
    tables = sorted((root / "db").iterdir())
    pages_each = tables[0].stat().st_size // PAGE_BYTES
    pages = len(tables) * pages_each
    for number in rng.sample(range(pages), max(1, round(pages * CHANGED_SHARE))):
        with tables[number // pages_each].open("r+b") as table:
            table.seek(number % pages_each * PAGE_BYTES)
            written += table.write(db_pages(rng, PAGE_BYTES))
    for log in sorted((root / "logs").iterdir()):
        with log.open("ab") as file:
            written += file.write(log_lines(rng, round(LOG_BYTES * CHANGED_SHARE)))
    small = sorted((root / "small").glob("*/*"))
    for path in rng.sample(small, max(1, round(len(small) * CHANGED_SHARE))):
        fate = rng.random()
        if fate < 0.1:
            path.unlink()
        else:
            path = path if fate < 0.7 else path.with_name(f"new-{seed}-{path.name}")
            written += path.write_bytes(text_lines(rng, rng.randint(1_000, 20_000)))
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("act", choices=["make", "mutate"])
    parser.add_argument("dir", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the files (default: 1)")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    began = time.monotonic()
    if args.act == "make":
        files, size = make(args.dir, args.scale, args.seed)
        print(f"{files} files, {size / 1e9:.2f} GB in {time.monotonic() - began:.1f} s", file=sys.stderr)
    else:
        print(f"{mutate(args.dir, args.seed) / 1e6:.1f} MB written", file=sys.stderr)


if __name__ == "__main__":
    main()
