"""Long logs take time in proportion to their length, whatever they are full of."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from mftriage.log import TextLog, split_boots_lazily
from mftriage.records.digest import Digest
from mftriage.triage import analyze
from tests.craft import parse_text

DATA = Path(__file__).parent / "data"
LINES, TIMES = 4_000, 4
NOISE = "usb 1-1: new high-speed USB device number 3 using xhci_hcd"
FAILURE = (
    "Memory failure: 0x{n:x}: Sending SIGBUS to victim:{n} due to hardware memory corruption",
    "Memory failure: 0x{n:x}: recovery action for dirty LRU page: Recovered",
)
OOPS = ("BUG: unable to handle page fault for address: ffff888001741123", "RIP: 0010:f+0x1/0x2", "Call Trace:", " g+0x1/0x20")  # fmt: skip


def told(name: str) -> list[str]:
    log = (DATA / f"{name}.txt").read_text().partition("\n---\n")[2]
    return [record.text for record in parse_text(log.splitlines())]


FLOODS: dict[str, list[str]] = {
    **{
        name: told(name)
        for name in (
            "ghes-memory",
            "edac-adxl",
            "edac-mce",
            "mce",
            "mce-amd",
            "cxl",
            "aer",
            "extlog",
        )
    },
    "memory failures": list(FAILURE),
    "oopses": list(OOPS),
    "noise": [NOISE],
    "mixed": [NOISE, *told("edac-adxl"), *told("ghes-memory"), *FAILURE, *OOPS],
}


def stamped(texts: list[str]) -> Iterator[str]:
    n = 0
    while True:
        for text in texts:
            n += 1
            yield f"[{10 + n / 100:12.6f}] {text.replace('{n:x}', f'{n:x}').replace('{n}', str(n))}"


def boots(texts: list[str]) -> Iterator[str]:
    while True:
        yield "[    0.000000] Linux version 6.12.0 (gcc) #1 SMP"
        yield from islice(stamped([NOISE, *texts]), 60)


SHAPES: dict[str, Callable[[list[str]], Iterator[str]]] = {
    "console": stamped,
    "Windows": lambda texts: (f"{line}\r" for line in stamped(texts)),
    "syslog": lambda texts: (f"Dec  5 01:02:03 host7 kernel: {s}" for s in stamped(texts)),
    "dmesg -T": lambda texts: (
        f"[Wed Nov  8 13:03:59 2023] {s.partition('] ')[2]}" for s in stamped(texts)
    ),
    "boots": boots,
}
CASES = [("console", name) for name in FLOODS] + [(shape, "mixed") for shape in SHAPES]


def seconds(lines: list[str]) -> float:
    """CPU time, which other programs on the machine do not add to."""
    start = time.process_time()
    for boot in split_boots_lazily(TextLog().read(lines)):
        Digest(boot).finish()
    return time.process_time() - start


@pytest.mark.parametrize(("shape", "flood"), CASES)
def test_time_is_linear(shape: str, flood: str) -> None:
    lines = list(islice(SHAPES[shape](FLOODS[flood]), TIMES * LINES))
    gc.disable()  # as in an analysis
    try:
        short = min(seconds(lines[:LINES]) for _ in range(2))
        long = min(seconds(lines) for _ in range(2))
    finally:
        gc.enable()
    # a quadratic part would take sixteen times as long
    assert long < 2 * TIMES * short + 0.05


def test_one_endless_line(tmp_path: Path) -> None:
    """Blanks, brackets, marks and digits without an end of line: cut in pieces, in no time."""
    path = tmp_path / "dmesg.txt"
    for piece in (
        "rror ",
        "[   1.0] ",
        "{1}[Hardware Error]: ",
        "9",
        "EDAC MC0: 1 CE ",
        "\x1b[31m",
    ):
        path.write_text("[    1.0] x\n" + piece * (4_000_000 // len(piece)))
        start = time.process_time()
        assert analyze(path).triage.verdict.kind in ("no-crash", "inconclusive")
        assert time.process_time() - start < 5, piece


def test_of_a_flood_the_result_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "dmesg.txt"
    lines = islice(stamped([*told("edac-adxl"), *told("aer"), *FAILURE]), 60_000)
    path.write_text("\n".join(lines))
    triage = analyze(path).triage
    assert len(triage.hardware_errors) < 1200
    assert any("counted but not listed" in row.why for row in triage.not_checked)
    # corrected errors of other parts never displace those of memory
    assert {error.source for error in triage.hardware_errors} == {"edac", "aer"}
