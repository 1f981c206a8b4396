"""The last step: from facts to the result."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from mftriage.dump import open_dump
from mftriage.kernel.gather import gather
from mftriage.symbols import open_kernel
from mftriage.triage import conclude


def test_a_flood_of_events(x86_elf: Path) -> None:
    with closing(open_dump(x86_elf)) as dump:
        facts = gather(open_kernel(dump), 2.0)
    quiet = conclude(facts)
    (event,) = facts.memory_failures
    facts.memory_failures = (*(replace(event, panicked=False) for _ in range(30_000)), event)
    result = conclude(facts)
    assert result.verdict.kind == quiet.verdict.kind
    assert len(result.memory_failures) == 10_000 and result.memory_failures[-1] == event
    (row,) = (row for row in result.not_checked if row.what == "all of memory_failures")
    assert "30001" in row.why
    assert len(result.not_checked) == len(quiet.not_checked) + 1
