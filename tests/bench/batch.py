"""A batch side by side with separate runs of ``analyze``: ``batch.py [DUMP]``.

Fifty copies of one dump are what a night brings of one kernel build.  Half of the separate runs
go before the batch and half behind it, so that whatever else the machine does hits both.  Then a
batch of 200 shows whether any process of it grows.  Exits 1 when a limit is broken.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DUMP = ROOT / "fixtures" / "x86_64-dentry" / "capsule.elf.zst"

COPIES, MANY, JOBS = 50, 200, 2
MAX_WALL = 0.5  # of the separate runs'
MAX_GROWTH = 1.0  # MiB from the second quarter of a batch to its last

MIB = 1 << 20


def python(*arguments: object) -> subprocess.Popen[bytes]:
    """Start Python with ``arguments``, and with this folder's mftriage."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def analyses(dumps: list[Path]) -> float:
    """Seconds that separate runs take, one after the other."""
    start = time.perf_counter()
    for dump in dumps:
        if python("-m", "mftriage", "analyze", dump, "-f", "json").wait():
            raise SystemExit(f"{dump} can't be analysed")
    return time.perf_counter() - start


def batch(source: Path, out: Path) -> tuple[float, list[dict[str, float]]]:
    """Seconds that a batch takes, and the MiB of its two lasting processes, sampled."""
    start = time.perf_counter()
    samples = []
    process = python("-m", "mftriage", "batch", source, "--out", out, "--jobs", JOBS)
    while process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        try:
            zygote = children.read_text().split()
            if zygote:
                samples.append({"batch": rss(process.pid), "fork server": rss(int(zygote[0]))})
        except (OSError, StopIteration):
            pass  # one of them has just ended
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"the batch ended with {process.returncode}")
    return time.perf_counter() - start, samples


def rss(pid: int) -> float:
    """MiB of a process that lie in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


def growth(values: list[float]) -> tuple[float, float]:
    """The medians of the second quarter and of the last: the first is the start."""
    quarter = len(values) // 4
    return statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])


def copies(dump: Path, folder: Path, count: int) -> list[Path]:
    """The dump under ``count`` names, each with a time of its own."""
    made = []
    for index in range(count):
        path = folder / f"host{index:03}" / f"vmcore{dump.suffix}"
        path.parent.mkdir(parents=True)
        shutil.copyfile(dump, path)
        os.utime(path, (1_700_000_000 + index, 1_700_000_000 + index))
        made.append(path)
    return made


def measure(dump: Path, work: Path) -> bool:
    """Run it all and print what it took; whether every limit holds."""
    dumps = copies(dump, work / "fifty", COPIES)
    analyses(dumps[:1])  # not counted: fills the page cache and the index of types
    apart = analyses(dumps[: COPIES // 2])
    together, _ = batch(work / "fifty", work / "out")
    apart += analyses(dumps[COPIES // 2 :])
    ratio = together / apart
    print(f"{COPIES} x {dump.name}")
    print(f"{'separate analyze runs':34}{apart:8.2f} s {apart / COPIES:8.3f} s each")
    print(f"{f'one batch, {JOBS} jobs':34}{together:8.2f} s {together / COPIES:8.3f} s each")
    print(f"{'ratio':34}{ratio:8.2f}   limit {MAX_WALL}")
    good = ratio <= MAX_WALL

    copies(dump, work / "many", MANY)
    _, samples = batch(work / "many", work / "many.out")
    records = [json.loads(p.read_bytes()) for p in (work / "many.out").glob("results/*/*.json")]
    assert len(records) == MANY and all(record["status"] == "ok" for record in records)
    records.sort(key=lambda record: record["finished"])
    curves = {"workers, peak": [record["peak_bytes"] / MIB for record in records]}
    curves |= {name: [sample[name] for sample in samples] for name in samples[0]}
    print(f"\nMiB over {MANY} dumps{'second quarter':>30}{'last':>10}")
    for name, values in curves.items():
        before, after = growth(values)
        print(f"{name:34}{before:12.1f}{after:12.1f}")
        good &= after - before <= MAX_GROWTH
    print("all limits hold" if good else "a limit is broken")
    return good


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="mftriage-bench-") as folder:
        sys.exit(0 if measure(Path(sys.argv[1]) if sys.argv[1:] else DUMP, Path(folder)) else 1)
