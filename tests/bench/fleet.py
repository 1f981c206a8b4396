"""A fleet of a million dumps: how long its table takes, and how much memory.  See `make bench-fleet`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
COUNT, SECONDS, BYTES = 1_000_000, 5.0, 1_500_000_000


def measure(folder: Path, fmt: str, output: Path | None = None) -> tuple[float, int]:
    """Seconds of a run of `mftriage fleet`, its start and all, and the peak of its memory in bytes."""
    target = ["-o", str(output), "--force"] if output else []
    command = [sys.executable, "-m", "mftriage", "fleet", str(folder), "-f", fmt, *target]
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return time.monotonic() - began, usage.ru_maxrss * 1024


def main() -> None:
    """Print a row a format; exit 1 where the table is over its limits."""
    from tests.fleet import synthetic

    with tempfile.TemporaryDirectory() as work:
        folder = synthetic.write(Path(work, "fleet"), COUNT)
        for fmt in ("table", "markdown", "html"):
            seconds, peak = measure(folder, fmt, Path(work, f"out.{fmt}"))
            print(f"{fmt:10} {COUNT:,} dumps: {seconds:5.1f} s, {peak / 1e6:6,.0f} MB at most")
            if fmt == "table" and (seconds > SECONDS or peak > BYTES):
                sys.exit(f"over the limit of {SECONDS} s and {BYTES / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
