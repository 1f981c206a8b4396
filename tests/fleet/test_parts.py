"""Results and parts are one table, whatever was newer, cut short, damaged or gone."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mftriage.errors import UsageError
from mftriage.fleet import batch, load, parts
from mftriage.fleet.layout import Layout
from mftriage.fleet.schema import COLUMNS, DTYPES
from tests.fleet import synthetic

OLD = 10**18  # a time in the past, so that a folder counts as settled


def put(folder: Path, key: str, *, at: int = OLD, **fields: Any) -> Path:
    """A result as the batch writes it."""
    record = {
        "layout": 1, "key": key, "source": f"{key}/vmcore", "status": "ok", "reason": None,
        "attempts": 1, "seconds": 0.5, "finished": "2026-11-23T10:00:00Z", "tool_version": "1",
        "settings": {}, "identity": {"size_bytes": 7, "mtime_ns": 1},
        "row": {"verdict": "unrelated", "host": "a"},
    }  # fmt: skip
    record.update(fields)
    path = folder / "results" / key[:2] / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record), encoding="utf-8")
    os.utime(path, ns=(at, at))
    settle(path.parent, at)
    return path


def settle(folder: Path, at: int) -> None:
    os.utime(folder, ns=(at, at))


def hosts(folder: Path) -> dict[str, str]:
    frame = load(folder)
    return dict(zip(frame["key"], frame["host"], strict=True))


def part_files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "table"))


def test_results_alone(tmp_path: Path) -> None:
    put(tmp_path, "aa1")
    put(tmp_path, "bb1", status="failed", reason="cut short", row=None)
    frame = load(tmp_path)
    assert list(frame.columns) == [column.name for column in COLUMNS]
    for name, dtype in DTYPES.items():
        assert str(frame[name].dtype) == dtype, name
        if dtype == "category":
            assert str(frame[name].cat.categories.dtype) == "str", name
    row = frame.set_index("key").loc["aa1"]
    assert (row["source"], row["size_bytes"], row["host"]) == ("aa1/vmcore", 7, "a")
    assert row["finished"] == pd.Timestamp("2026-11-23T10:00:00Z")
    failed = frame.set_index("key").loc["bb1"]
    assert failed["reason"] == "cut short" and pd.isna(failed["verdict"])
    assert frame.attrs["problems"] == []


def test_a_compaction_changes_nothing(tmp_path: Path) -> None:
    for key in ("aa1", "aa2", "bb1"):
        put(tmp_path, key)
    before = load(tmp_path).sort_values("key", ignore_index=True)
    assert parts.compact(tmp_path) == []
    assert part_files(tmp_path) == ["part-000001.parquet"]
    pd.testing.assert_frame_equal(
        before, load(tmp_path).sort_values("key", ignore_index=True), check_categorical=False
    )
    parts.compact(tmp_path)
    assert part_files(tmp_path) == ["part-000002.parquet"]


def test_what_was_taken_in_is_not_read_again(tmp_path: Path) -> None:
    path = put(tmp_path, "aa1")
    parts.compact(tmp_path)
    path.write_text("changed, but its folder says it was not", encoding="utf-8")
    settle(path.parent, OLD)
    assert hosts(tmp_path) == {"aa1": "a"}
    assert load(tmp_path).attrs["problems"] == []


def test_a_folder_that_has_just_changed_is_looked_at_again(tmp_path: Path) -> None:
    now = 2 * 10**18
    put(tmp_path, "aa1", at=now)
    parts.compact(tmp_path)
    put(tmp_path, "aa2", at=now)
    assert set(hosts(tmp_path)) == {"aa1", "aa2"}


def test_newer_results_win(tmp_path: Path) -> None:
    put(tmp_path, "aa1")
    put(tmp_path, "aa2")
    parts.compact(tmp_path)
    put(tmp_path, "aa1", at=OLD + 1, row={"host": "b"})
    put(tmp_path, "cc1", at=OLD + 1, row={"host": "c"})
    assert hosts(tmp_path) == {"aa1": "b", "aa2": "a", "cc1": "c"}
    parts.compact(tmp_path)
    assert hosts(tmp_path) == {"aa1": "b", "aa2": "a", "cc1": "c"}


def test_a_result_that_has_gone_is_gone(tmp_path: Path) -> None:
    for key in ("aa1", "aa2", "bb1"):
        put(tmp_path, key)
    parts.compact(tmp_path)
    (tmp_path / "results/aa/aa1.json").unlink()
    (tmp_path / "results/bb/bb1.json").unlink()
    (tmp_path / "results/bb").rmdir()
    assert set(hosts(tmp_path)) == {"aa2"}
    parts.compact(tmp_path)
    assert set(hosts(tmp_path)) == {"aa2"}


@pytest.mark.parametrize("compacted", [False, True])
def test_the_last_of_a_source_wins(tmp_path: Path, compacted: bool) -> None:
    put(tmp_path, "aa1", source="x", finished="2026-11-23T12:00:00Z", row={"host": "last"})
    put(tmp_path, "bb1", source="x", finished="2026-11-23T11:00:00Z", row={"host": "first"})
    if compacted:
        parts.compact(tmp_path)
    put(tmp_path, "cc1", source="x", finished=None, row={"host": "nobody knows when"})
    assert hosts(tmp_path) == {"aa1": "last"}


def test_a_compaction_that_was_cut_short(tmp_path: Path) -> None:
    """Both the old and the new part are there: nothing counts twice, and nothing is lost."""
    put(tmp_path, "aa1")
    parts.compact(tmp_path)
    old = (tmp_path / "table/part-000001.parquet").read_bytes()
    put(tmp_path, "aa1", at=OLD + 1, row={"host": "b"})
    put(tmp_path, "bb1")
    parts.compact(tmp_path)
    (tmp_path / "table/part-000001.parquet").write_bytes(old)
    (tmp_path / "table/.part-000003.parquet.1").write_bytes(b"half")
    assert hosts(tmp_path) == {"aa1": "b", "bb1": "a"}
    parts.compact(tmp_path)
    assert "part-000003.parquet" in part_files(tmp_path)
    assert hosts(tmp_path) == {"aa1": "b", "bb1": "a"}


@pytest.mark.parametrize("keep", [0, 4, 0.5, 0.99])
def test_a_damaged_part_is_told_and_read_from_the_results(tmp_path: Path, keep: float) -> None:
    for number in range(50):
        put(tmp_path, f"aa{number}")
    parts.compact(tmp_path)
    path = tmp_path / "table/part-000001.parquet"
    data = bytearray(path.read_bytes())
    if keep == 0.5:
        data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)  # its end, and so its schema, is whole
    else:
        del data[int(keep * len(data)) if keep < 1 else int(keep) :]
    path.write_bytes(data)
    frame = load(tmp_path)
    assert len(frame) == 50
    assert [str(path) in problem for problem in frame.attrs["problems"]] == [True]
    assert parts.compact(tmp_path)
    assert part_files(tmp_path) == ["part-000002.parquet"]
    assert len(load(tmp_path)) == 50 and load(tmp_path).attrs["problems"] == []


def test_a_damaged_part_without_results_is_kept(tmp_path: Path) -> None:
    synthetic.write(tmp_path, 20)
    path = tmp_path / "table/part-000001.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    assert len(load(tmp_path)) == 0
    assert parts.compact(tmp_path) and path.exists()


def test_a_full_disk_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "aa1")
    parts.compact(tmp_path)
    put(tmp_path, "aa2", at=OLD + 1)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts, "write_whole", full)
    layout = Layout(tmp_path)
    batch._compact(layout, batch.Summary(new=Counter(ok=1), all=Counter(ok=1000)))
    assert part_files(tmp_path) == ["part-000001.parquet"]
    assert set(hosts(tmp_path)) == {"aa1", "aa2"}


def test_a_batch_of_a_large_fleet_compacts(tmp_path: Path) -> None:
    put(tmp_path, "aa1")
    layout = Layout(tmp_path)
    batch._compact(layout, batch.Summary(new=Counter(ok=1), all=Counter(ok=999)))
    batch._compact(layout, batch.Summary(all=Counter(ok=1000)))
    assert not (tmp_path / "table").exists()
    batch._compact(layout, batch.Summary(new=Counter(failed=1), all=Counter(ok=999, failed=1)))
    assert part_files(tmp_path) == ["part-000001.parquet"]


def test_a_folder_of_a_newer_layout(tmp_path: Path) -> None:
    put(tmp_path, "aa1")
    (tmp_path / "fleet.json").write_text('{"layout": 2, "source": "/x"}')
    with pytest.raises(UsageError, match="layout 2"):
        load(tmp_path)


def test_parts_alone_are_a_table(tmp_path: Path) -> None:
    frame = load(synthetic.write(tmp_path / "f", 200))
    assert len(frame) == 200 and frame["status"].value_counts().sum() == 200


def test_a_part_of_an_older_mftriage(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "f", 20)
    path = tmp_path / "f/table/part-000001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["caught_at_once", "slab_cache"]), path)
    frame = load(tmp_path / "f")
    assert len(frame) == 20 and frame["slab_cache"].isna().all()
    assert str(frame["caught_at_once"].dtype) == "boolean"


def test_only_what_is_asked_for(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "f", 20)
    assert list(load(tmp_path / "f", ["host", "verdict"]).columns) == ["host", "verdict"]
    with pytest.raises(UsageError, match="no column 'nope'"):
        load(tmp_path / "f", ["nope"])


def test_a_folder_without_results(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results"):
        load(tmp_path)
    (tmp_path / "results").mkdir()
    assert load(tmp_path).empty


ABSURD = (
    "0000-00-00", "1969-12-31T23:59:59Z", "1970-01-01T00:00:12Z", "9999-12-31T23:59:59Z", "+275760-09-13",
    "2026-11-25T10:00:00Z", "2026-11-23T10:00:00", "2026-02-30T00:00:00Z", "yesterday", "", 12, 1e300, True, [], {},
)  # fmt: skip


@pytest.mark.parametrize("time", ABSURD, ids=repr)
def test_absurd_times(tmp_path: Path, time: object) -> None:
    put(tmp_path, "aa1", row={"crash_time": time})
    assert pd.isna(load(tmp_path)["crash_time"][0])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
NAMES = st.sampled_from([*DTYPES, "row", "identity", "layout", "settings"])


@settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(record=st.dictionaries(NAMES, JSON), row=st.dictionaries(NAMES, JSON))
def test_any_json_is_a_row_or_a_problem(
    tmp_path_factory: pytest.TempPathFactory, record: dict[str, Any], row: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    path = folder / "results/aa/aa1.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"layout": 1, "row": row, **record}), encoding="utf-8")
    frame = load(folder)
    assert len(frame) + len(frame.attrs["problems"]) == 1
    parts.compact(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"layout": 2}', b"\xff", b"[" * 99_999]
)
def test_what_is_no_result_is_told(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, "aa1")
    (tmp_path / "results/aa/aa2.json").write_bytes(content)
    frame = load(tmp_path)
    assert list(frame["key"]) == ["aa1"]
    assert ["aa2.json" in problem for problem in frame.attrs["problems"]] == [True]


def test_half_written_results_are_not_looked_at(tmp_path: Path) -> None:
    put(tmp_path, "aa1")
    (tmp_path / "results/aa/.aa2.json.77").write_bytes(b"half")
    frame = load(tmp_path)
    assert len(frame) == 1 and not frame.attrs["problems"]
