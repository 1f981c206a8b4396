"""The folder of a batch: what is believed in it, what is kept, and who may write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mftriage.errors import UsageError
from mftriage.fleet.layout import Layout, write_whole
from mftriage.fleet.ledger import Ledger, key_of, records
from mftriage.fleet.source import Entry
from tests.craft import ROOT

ENTRY = Entry("a/vmcore", 10, 123, 1.0)
SETTINGS: dict[str, Any] = {"capsules": False}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "out")
    layout.adopt("/dumps")
    return layout


def record(entry: Entry = ENTRY, **more: Any) -> dict[str, Any]:
    return {
        "layout": 1,
        "key": key_of(entry, SETTINGS),
        "source": entry.name,
        "status": "ok",
        "reason": None,
        "attempts": 1,
        "finished": "2026-11-23T00:00:00Z",
        "row": {"verdict": "no-crash"},
        **more,
    }


# keys


def test_a_key_changes_with_all_that_the_result_depends_on() -> None:
    others = [
        replace(ENTRY, name="b/vmcore"),
        replace(ENTRY, size=11),
        replace(ENTRY, version=124),
        replace(ENTRY, version="124"),
    ]
    keys = {key_of(entry, SETTINGS) for entry in (ENTRY, *others)}
    assert len(keys | {key_of(ENTRY, {"capsules": True})}) == 6
    assert key_of(replace(ENTRY, modified=2.0), SETTINGS) == key_of(ENTRY, SETTINGS)


def test_a_key_changes_with_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(ENTRY, SETTINGS)
    monkeypatch.setattr("mftriage.fleet.ledger.__version__", "99")
    assert key_of(ENTRY, SETTINGS) != before


def test_a_key_is_a_file_name_whatever_the_dump_is_called() -> None:
    key = key_of(replace(ENTRY, name="../\udcff\n"), SETTINGS)
    assert len(key) == 48 and set(key) <= set("0123456789abcdef")


# records


def test_what_is_committed_is_known_to_the_next(layout: Layout) -> None:
    known = Ledger(layout).commit(record(attempts=2))
    assert (known.verdict, known.attempts) == ("no-crash", 2)
    again = Ledger(layout)
    assert again.get(known.key) == known == again.named("a/vmcore")
    assert again.get("0" * 48) is None
    assert layout.record(known.key).parent.name == known.key[:2]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"layout": 1', '"layout": 9'),
        lambda text: text.replace('"row"', '"raw"'),
        lambda text: text.replace(key_of(ENTRY, SETTINGS), "0" * 48),
        lambda text: "[]",
    ],
)
def test_what_is_no_whole_record_is_not_believed(layout: Layout, damage: Any) -> None:
    known = Ledger(layout).commit(record())
    path = layout.record(known.key)
    path.write_text(damage(path.read_text()))
    assert list(records(layout)) == []
    ledger = Ledger(layout)
    assert ledger.get(known.key) is None
    ledger.sweep()
    assert not path.exists()


def test_a_dump_that_changed_has_one_record(layout: Layout) -> None:
    ledger = Ledger(layout)
    old = ledger.commit(record())
    page = layout.artifact(old.key, ".html")
    write_whole(page, b"page")
    new = ledger.commit(record(replace(ENTRY, size=11)))
    assert [r["key"] for r in records(layout)] == [new.key]
    assert not page.exists()


def test_of_two_records_of_one_dump_the_later_stays(layout: Layout) -> None:
    """A batch may be killed between the commit of the one and the removal of the other."""
    texts = []
    for size, finished in ((11, "2026-11-24T00:00:00Z"), (10, "2026-11-23T00:00:00Z")):
        known = Ledger(layout).commit(record(replace(ENTRY, size=size), finished=finished))
        path = layout.record(known.key)
        texts.append((path, path.read_bytes()))
    for path, text in texts:
        path.write_bytes(text)
    assert len(list(records(layout))) == 2
    Ledger(layout)
    (left,) = records(layout)
    assert left["finished"] == "2026-11-24T00:00:00Z"


def test_what_killed_batches_left_is_swept(layout: Layout) -> None:
    known = Ledger(layout).commit(record())
    mine = [layout.artifact(known.key, s) for s in (".json", ".html", ".elf.zst")]
    other = [layout.artifact(known.key[:2] + "0" * 46, s) for s in (".json", ".html", ".elf.zst")]
    half = [mine[0].with_name(f".{mine[0].name}.77"), mine[2].with_name(mine[2].name + "x1y2")]
    half.append(layout.record(known.key).with_name(f".{known.key}.json.77"))
    for path in (*mine, *other, *half):
        write_whole(path, b"x")
    Ledger(layout).sweep()
    assert all(path.exists() for path in (*mine, layout.record(known.key)))
    assert not any(path.exists() for path in (*other, *half))


def test_a_file_that_can_not_be_written_leaves_none(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "x", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


# the folder


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    with pytest.raises(UsageError, match="not empty"):
        Layout(tmp_path).adopt("/dumps")
    with pytest.raises(UsageError, match="not the folder of a batch"):
        Layout(tmp_path).check()
    assert [path.name for path in tmp_path.iterdir()] == ["reports"]


def test_a_folder_is_of_one_source(layout: Layout) -> None:
    layout.adopt("/dumps")
    with pytest.raises(UsageError, match="has the results of '/dumps'"):
        layout.adopt("/other")


def test_a_folder_of_a_later_layout_is_left_alone(layout: Layout) -> None:
    (layout.root / "fleet.json").write_text(json.dumps({"layout": 2, "source": "/dumps"}))
    with pytest.raises(UsageError, match="layout 2"):
        layout.adopt("/dumps")


def test_a_place_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't write"):
        Layout(tmp_path / "file" / "out").adopt("/dumps")


def test_one_batch_at_a_time(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mftriage.fleet.layout._PATIENCE", 0.1)
    said = f"process {os.getpid()} on"
    with layout.locked(), pytest.raises(UsageError, match=said), layout.locked():
        pass
    with layout.locked():
        pass


def test_the_lock_of_a_batch_that_was_killed_is_free_once_its_workers_are_gone(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is held by a child that inherited it, too."""
    code = (
        "import os, subprocess, sys; from pathlib import Path; from mftriage.fleet.layout import Layout\n"
        "with Layout(Path(sys.argv[1])).locked() as lock:\n"
        "    subprocess.Popen(['cat'], pass_fds=[lock], stdout=subprocess.DEVNULL); os.kill(os.getpid(), 9)\n"
    )
    reading, writing = os.pipe()
    subprocess.run(
        [sys.executable, "-c", code, str(layout.root)], stdin=reading, env={"PYTHONPATH": str(ROOT)}
    )
    os.close(reading)
    monkeypatch.setattr("mftriage.fleet.layout._PATIENCE", 0.1)
    with pytest.raises(UsageError, match="another batch"), layout.locked():
        pass
    os.close(writing)  # cat ends
    monkeypatch.setattr("mftriage.fleet.layout._PATIENCE", 10.0)
    with layout.locked():
        pass
