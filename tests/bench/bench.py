"""mftriage side by side with bare drgn on one dump: ``bench.py DUMP VMLINUX [--runs 5]``.

Both run alternately, each run in a fresh process, so whatever else the machine does hits both,
and the ratios hold on any machine.  The files are in the page cache by then: read from a disk,
a vmlinux of 400 MB would make bare drgn look far worse.  Exits 1 when a limit is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent

MAX_WALL = 0.6  # of bare drgn's
MAX_RSS = 0.4  # of bare drgn's
MAX_HELP_CPU = 0.25  # seconds


class Run(NamedTuple):
    """What one process took: seconds, seconds of CPU, MiB."""

    wall: float
    cpu: float
    rss: float


class Failed(Exception):
    """A process that did not do what was asked of it."""


def run(*arguments: str | Path) -> tuple[Run, str]:
    """Run Python with ``arguments``: what it took, and what it printed."""
    path = os.pathsep.join([str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # pip compiles what it installs; so is this
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment | {"PYTHONPATH": path},
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)  # wait4 took it from Popen
        out.seek(0)
        if process.returncode:
            err.seek(0)
            said = err.read().decode("utf-8", "replace").strip()
            raise Failed(f"{arguments}: exit {process.returncode}\n{said}")
        took = Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
        return took, out.read().decode("utf-8", "replace")


def pfn_of_report(report: str) -> str | None:
    """The pfn that mftriage's JSON is about."""
    page: dict[str, str] | None = json.loads(report)["page"]
    return page["pfn"] if page else None


def pfn_of_bare(printed: str) -> str | None:
    """The pfn that bare_drgn.py printed."""
    found = re.search("^pfn (0x[0-9a-f]+)$", printed, re.MULTILINE)
    return found and found[1]


def measure(dump: Path, vmlinux: Path, runs: int) -> bool:
    """Run it all and print a table; whether every limit holds."""
    ours = ("-m", "mftriage", "analyze", dump, "-f", "json")
    theirs = (HERE / "bare_drgn.py", dump, vmlinux)
    helps = ("-m", "mftriage", "--help")
    # The first run of each, not counted, also fills the page cache and writes the .pyc files.
    answers = pfn_of_report(run(*ours)[1]), pfn_of_bare(run(*theirs)[1])
    if answers[0] != answers[1]:
        raise Failed(f"mftriage found the page {answers[0]}, bare drgn {answers[1]}")
    run(*helps)
    mftriage, bare, help_ = [], [], []
    for _ in range(runs):
        mftriage.append(run(*ours)[0])
        bare.append(run(*theirs)[0])
        help_.append(run(*helps)[0])

    print(f"{dump.name}: page {answers[0]}, {runs} runs each: min (median)")
    print(f"{'':14}{'mftriage':>20}{'bare drgn':>20}{'ratio':>8}{'limit':>8}")
    good = True
    for name, field, limit in (("wall, s", "wall", MAX_WALL), ("peak RSS, MiB", "rss", MAX_RSS)):
        a, b = ([getattr(r, field) for r in side] for side in (mftriage, bare))
        ratio = min(a) / min(b)
        good &= ratio <= limit
        print(f"{name:14}{spread(a):>20}{spread(b):>20}{ratio:8.2f}{limit:8.2f}")
    cpu = [r.cpu for r in help_]
    good &= min(cpu) <= MAX_HELP_CPU
    print(f"{'--help CPU, s':14}{spread(cpu):>20}{'':28}{MAX_HELP_CPU:8.2f}")
    print("all limits hold" if good else "a limit is broken")
    return good


def spread(values: list[float]) -> str:
    """Minimum and median, with three digits that matter."""
    return f"{min(values):.3g} ({statistics.median(values):.3g})"


def main() -> int:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dump", type=Path, nargs="?", help="a dump with a memory failure")
    parser.add_argument("vmlinux", type=Path, nargs="?", help="its vmlinux with debug info")
    parser.add_argument("--runs", type=int, default=5, help="of each, counted (default 5)")
    arguments = parser.parse_args()
    if arguments.vmlinux is None or arguments.runs < 1:
        print(
            "pass a real dump with a memory failure and its kernel's vmlinux with debug info:\n"
            "    python tests/bench/bench.py vmcore /usr/lib/debug/boot/vmlinux-RELEASE\n"
            "A capsule out of fixtures/ won't do: bare drgn needs the vmlinux to read it.",
            file=sys.stderr,
        )
        return 2
    try:
        return 0 if measure(arguments.dump, arguments.vmlinux, arguments.runs) else 1
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
