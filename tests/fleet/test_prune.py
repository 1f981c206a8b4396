"""What is old goes, but for the rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mftriage.errors import UsageError
from mftriage.fleet.layout import ARTIFACTS, Layout, write_whole
from mftriage.fleet.ledger import Ledger, key_of, records
from mftriage.fleet.prune import prune
from mftriage.fleet.source import Entry

DAY = 86400.0


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Dumps that were analysed 0, 10 and 100 days ago; each has all files, of 10 bytes each."""
    layout = Layout(tmp_path / "out")
    layout.adopt("/dumps")
    ledger = Ledger(layout)
    for days in (0, 10, 100):
        key = key_of(Entry(f"{days}", 1, 1, 1.0), {})
        finished = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        ledger.commit(
            {
                **{"layout": 1, "key": key, "source": f"{days}", "status": "ok", "reason": None},
                **{"attempts": 1, "finished": finished, "row": {}},
            }
        )
        for suffix in ARTIFACTS:
            write_whole(layout.artifact(key, suffix), b"0123456789")
    return layout


def left(layout: Layout) -> set[str]:
    return {
        f"{record['source']}{suffix}"
        for record in records(layout)
        for suffix in ARTIFACTS
        if layout.artifact(record["key"], suffix).exists()
    }


def test_reports_and_capsules_of_long_ago_go(layout: Layout) -> None:
    assert prune(layout.root, 30 * DAY) == (3, 30)
    assert left(layout) == {f"{days}{suffix}" for days in (0, 10) for suffix in ARTIFACTS}
    assert len(list(records(layout))) == 3
    assert prune(layout.root, 30 * DAY) == (0, 0)


def test_capsules_may_go_sooner_or_later(layout: Layout) -> None:
    assert prune(layout.root, 30 * DAY, keep_capsules=DAY) == (4, 40)
    assert prune(layout.root, 0, keep_capsules=1000 * DAY) == (4, 40)
    assert left(layout) == {"0.elf.zst"}


def test_a_dry_run_removes_nothing(layout: Layout) -> None:
    assert prune(layout.root, 30 * DAY, dry_run=True) == (3, 30)
    assert len(left(layout)) == 9


def test_what_is_no_folder_of_a_batch(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the folder of a batch"):
        prune(tmp_path, DAY)
    assert not list(tmp_path.iterdir())


def test_not_while_a_batch_is_at_work(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mftriage.fleet.layout._PATIENCE", 0.1)
    with layout.locked(), pytest.raises(UsageError, match="another batch"):
        prune(layout.root, DAY)
