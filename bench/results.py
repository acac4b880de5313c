"""What the benchmarks share: the machine they ran on, and their place in RESULTS.md.

Every benchmark owns one part of RESULTS.md, between two marks, and leaves the others alone.
"""

import os
import re
import subprocess
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"


def machine() -> str:
    def field(file: str, name: str) -> str:
        lines = Path(file).read_text().splitlines()
        return next((line.split(":")[1].strip() for line in lines if line.startswith(name)), "unknown")

    model, memory = field("/proc/cpuinfo", "model name"), int(field("/proc/meminfo", "MemTotal").split()[0]) / 1e6
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GB memory, Linux {os.uname().release}"


def filesystem(folder: Path) -> str:
    found = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", folder], capture_output=True, text=True)
    return found.stdout.strip() or "unknown file system"


def verdicts(checks: list[tuple[str, float, str, float]]) -> str:
    """Promises of the design; the sign says on which side of the limit they are kept."""
    lines = ["| target | limit | measured | |", "|---|---|---|---|"]
    for title, value, sign, limit in checks:
        kept = value >= limit if sign == "≥" else value <= limit
        lines.append(f"| {title} | {sign} {limit:g} | {value:,.2f} | {'reached' if kept else '**not reached**'} |")
    return "\n".join(lines)


def replace_part(text: str, name: str, part: str) -> str:
    """`text` with the part of benchmark `name` replaced, or added at the end."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    block = f"{begin}\n{part.strip()}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(text):
        return pattern.sub(lambda _: block, text)
    return f"{text.rstrip()}\n\n{block}\n"


def write(name: str, part: str, file: Path = RESULTS) -> None:
    text = file.read_text() if file.exists() else "# Results\n"
    file.write_text(replace_part(text, name, part))
