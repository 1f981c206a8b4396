"""Counts, groups and offenders; above all, who is not one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mftriage.fleet import load
from mftriage.fleet.summary import BY, again, groups, repeated, summarize
from tests.fleet import small, synthetic
from tests.fleet.small import frame_of

DIMM = {"dimm": "db1 DIMM_A1", "host": "db1", "pfn": "0x1"}


def crash(kind: str = "unrecoverable-panic", **more: Any) -> dict[str, Any]:
    return {**DIMM, "verdict": kind, **more}


def test_the_fixtures_in_figures(tmp_path: Path) -> None:
    summary = summarize(load(small.write(tmp_path)))
    assert (summary.dumps, summary.analysed, summary.failed) == (small.DUMPS, len(small.NAMES), 1)
    assert summary.skipped == 1
    assert summary.verdicts == +small.KINDS
    assert (summary.memory, summary.possible) == (
        small.MEMORY,
        small.KINDS["possible-delayed-crash"],
    )
    assert summary.injected == 1
    later = small.KINDS["delayed-crash"] + small.KINDS["possible-delayed-crash"]
    assert (summary.later, summary.judged, summary.caught_at_once) == (later, later, later)
    assert summary.delays.count == later and 2 < (summary.delays.median or 0) < 3
    assert summary.histogram[0][0] == "under 10 ms" and summary.histogram[0][1] >= 12
    assert sum(later for _, _, later in summary.histogram) == later
    assert summary.hosts == 7


@pytest.mark.parametrize("kind", ["unrelated", "no-crash", "hardware-not-memory", "inconclusive"])
@pytest.mark.parametrize("by", ["dimm", "host"])
def test_who_is_never_blamed_never_ranks(tmp_path: Path, kind: str, by: str) -> None:
    often = [crash(kind, host="db2", dimm="db2 DIMM_A1") for _ in range(9)]
    found = groups(frame_of(tmp_path, *often, crash()), by)
    assert list(found["rank"].isna()) == [False, True]
    assert found[by][1].startswith("db2") and found["dumps"][1] == 9
    assert list(repeated(frame_of(tmp_path / "b", *often), by).index) == []


def test_injected_failures_count_for_nothing(tmp_path: Path) -> None:
    frame = frame_of(tmp_path, *[crash(injected=True, recovered_before=1)] * 3, crash("unrelated"))
    found = groups(frame, "dimm")
    assert found["rank"].isna().all()
    assert (found["dumps"][0], found["injected"][0], found["memory"][0]) == (1, 3, 0)
    assert len(repeated(frame, "dimm")) == len(repeated(frame, "page")) == len(again(frame)) == 0
    summary = summarize(frame)
    assert (summary.memory, summary.injected, summary.memory_hosts) == (0, 3, 0)
    assert found["first_seen"][0] == pd.Timestamp("2026-11-04T00:00:00Z")


def test_offenders(tmp_path: Path) -> None:
    frame = frame_of(
        tmp_path,
        crash(),
        crash("unrelated"),
        crash(host="db2", dimm="db2 B1"),
        crash("delayed-crash", host="db3", dimm="db3 C1", pfn="0x2"),
        crash("possible-delayed-crash", host="db3", dimm="db3 C1", pfn="0x3"),
        crash(host=None, dimm=None),
        crash(host=None, dimm=None),
    )
    assert list(repeated(frame, "dimm")["dimm"]) == ["db3 C1", "db1 DIMM_A1"]
    # the same page of an unknown host is nobody's
    assert list(repeated(frame, "page")["page"]) == ["db1 0x1"]
    found = groups(frame, "dimm")
    assert list(found["dimm"]) == ["db3 C1", "db2 B1", "db1 DIMM_A1"]
    assert list(found["rank"]) == [1, 2, 3]
    assert (found["memory"][0], found["possible"][0], found["dumps"][0]) == (1, 1, 2)
    assert (found["delayed-crash"][0], found["unrelated"][2]) == (1, 1)


def test_crashed_again_after_a_recovery(tmp_path: Path) -> None:
    frame = frame_of(
        tmp_path,
        crash("no-crash", host="later", recovered_before=2),
        crash(host="later"),
        crash(host="later"),
        crash(host="before"),
        crash("unrelated", host="before", recovered_before=1),
        crash(host="same boot", recovered_before=1),
        crash("unrelated", host="never", recovered_before=1),
        crash("unrelated", host="never"),
        crash(host=None, recovered_before=1),
    )
    found = again(frame)
    assert [(r.host, r.recovered, r.crashes) for r in found.itertuples()] == [
        ("later", 2, 2),
        ("same boot", 1, 1),
    ]
    assert summarize(frame).crashed_again == 2
    assert summarize(frame).recovered_hosts == 4


def test_weeks_begin_on_monday_and_come_last_first(tmp_path: Path) -> None:
    times = ("2026-11-22T23:59:59Z", "2026-11-23T00:00:00Z", "2026-11-29T12:00:00Z", None)
    found = groups(frame_of(tmp_path, *(crash(crash_time=time) for time in times)), "week")
    assert list(found["week"]) == ["2026-11-23", "2026-11-16"]
    assert list(found["dumps"]) == [2, 1] and found["rank"].isna().all()


@pytest.mark.parametrize("by", BY)
def test_every_group_adds_up(tmp_path: Path, by: str) -> None:
    frame = load(synthetic.write(tmp_path / "f", 3000))
    found = groups(frame, by)
    known = frame["verdict"].notna() & ~frame["injected"].fillna(False)
    if by != "week":
        known &= frame[by].notna()
    assert found["dumps"].sum() == known.sum()
    assert not found[by].duplicated().any()
    assert (found["first_seen"] <= found["last_seen"]).all()


def test_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    frame = load(tmp_path)
    assert summarize(frame).dumps == 0 and summarize(frame).delays.median is None
    assert all(groups(frame, by).empty for by in BY)
    assert again(frame).empty and repeated(frame, "page").empty
