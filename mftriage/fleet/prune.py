"""Retention: reports and capsules of long ago go, the rows of the fleet table stay."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from mftriage.fleet.layout import ARTIFACTS, Layout, unwritable
from mftriage.fleet.ledger import records

__all__ = ["Pruned", "prune"]


class Pruned(NamedTuple):
    """What went, or would go: the number of files, and their bytes."""

    files: int
    size_bytes: int


def prune(
    out: Path, keep: float, *, keep_capsules: float | None = None, dry_run: bool = False
) -> Pruned:
    """Remove what was made of dumps that were analysed more than ``keep`` seconds ago.

    Capsules may be kept for another time, ``keep_capsules``.  Records stay, so that nothing is
    analysed again and the table is as it was.  Raises ``UsageError``.
    """
    layout = Layout(out)
    layout.check()
    now = datetime.now(UTC)
    files = size_bytes = 0
    with layout.locked():
        for record in records(layout):
            age = (now - datetime.fromisoformat(record["finished"])).total_seconds()
            for suffix, kind in ARTIFACTS.items():
                kept = keep_capsules if kind == "capsules" and keep_capsules is not None else keep
                if age <= kept:
                    continue
                path = layout.artifact(record["key"], suffix)
                try:
                    size = path.stat().st_size
                    if not dry_run:
                        path.unlink()
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise unwritable(path, error) from error
                files += 1
                size_bytes += size
    return Pruned(files, size_bytes)
