"""What a person is told while a batch runs, and at its end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mftriage.fleet.batch import Summary
from mftriage.fleet.ledger import Known
from mftriage.fleet.progress import Progress, summary_text

OK = Known("k", "a/vmcore", "ok", None, 1, "no-crash", "2026")
FAILED = Known("k", "b\n\x1b[31m", "failed", "the file is empty", 1, None, "2026")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("mftriage.fleet.progress.time.monotonic", lambda: now[0])
    return now


def test_plain_lines_in_a_log(clock: list[float]) -> None:
    said: list[str] = []
    progress = Progress(said.append, terminal=False)
    progress.begin(7210, 7205)
    for index in range(70):
        clock[0] += 1.0
        progress.done(FAILED if index == 5 else OK)
        progress.tick()
    progress.end()
    assert said == [
        "7,210 files, 7,205 to analyse\n",
        "failed: b\\n\\x1b[31m: the file is empty\n",
        "30 of 7,205, 1 a second, 1 failed, 1:59:35 left\n",
        "60 of 7,205, 1 a second, 1 failed, 1:59:05 left\n",
        "70 of 7,205, 1 a second, 1 failed, 1:58:55 left\n",
    ]


def test_one_line_on_a_terminal(clock: list[float]) -> None:
    said: list[str] = []
    progress = Progress(said.append, terminal=True)
    progress.begin(2, 2)
    for known in (OK, FAILED):
        clock[0] += 0.5
        progress.done(known)
    progress.end()
    assert said[1] == "\r1 of 2, 2 a second, 0:00:00 left"
    assert said[2] == "\r" + " " * (len(said[1]) - 1) + "\r"
    assert said[3] == "failed: b\\n\\x1b[31m: the file is empty\n"
    assert said[-1] == "2 of 2, 2 a second, 1 failed\n"


def test_nothing_to_do_is_said_in_a_line(clock: list[float]) -> None:
    said: list[str] = []
    progress = Progress(said.append, terminal=False)
    progress.begin(3, 0)
    progress.end()
    assert said == ["3 files, 0 to analyse\n"]


def test_the_summary() -> None:
    summary = Summary(
        new=Counter(ok=2, failed=12),
        all=Counter(ok=1002, failed=13, skipped=4),
        verdicts=Counter({"no-crash": 1000, "unrelated": 2}),
        failed=[FAILED] * 12,
        left=3,
    )
    assert summary_text(summary, Path("out")).splitlines() == [
        "14 new: 2 ok, 12 failed, 0 skipped; 1,005 known",
        "3 left for the next run (--limit)",
        " 1,000 no-crash",
        "     2 unrelated",
        "    13 that can't be read",
        *["failed: b\\n\\x1b[31m: the file is empty"] * 10,
        "... and 2 more",
        "Results: out",
        "Next: mftriage fleet out",
    ]
