"""What is known of the dumps of a batch: one record each, and one dump each source.

A key has two halves: the digest of the dump's name in its source, and that of all else that the
result depends on.  What has the first half in common is one dump as it was at different times,
of which only the last is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from mftriage import __version__
from mftriage.codec import dumps
from mftriage.fleet.layout import ARTIFACTS, LAYOUT, Layout, unwritable, write_whole
from mftriage.fleet.source import Entry

__all__ = ["Known", "Ledger", "key_of", "records"]

_HALF = 24  # hex digits
_KEYS = {"source", "status", "reason", "attempts", "finished", "row"}


class Known(NamedTuple):
    """What a batch has to know of a dump that it has met before."""

    key: str
    source: str
    status: str
    reason: str | None
    attempts: int
    verdict: str | None
    finished: str


def key_of(entry: Entry, settings: dict[str, Any]) -> str:
    """The name of an entry's results: changes with its content, the settings and mftriage's version."""
    rest = [entry.identity, __version__, settings]
    return _digest(os.fsencode(entry.name)) + _digest(json.dumps(rest, sort_keys=True).encode())


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=_HALF // 2).hexdigest()


def records(layout: Layout) -> Iterator[dict[str, Any]]:
    """Every commit record of the folder that can be believed, in the order of their keys."""
    for folder in _folders(layout.results):
        for name in sorted(os.listdir(folder)):
            if name.startswith("."):
                continue
            try:
                record = json.loads((folder / name).read_bytes())
                whole = record["layout"] == LAYOUT and record.keys() >= _KEYS
                if whole and f"{record['key']}.json" == name:
                    yield record
            except (OSError, ValueError, KeyError, TypeError):
                continue  # not a whole record: the dump will be analysed anew


def _folders(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as found:
            return sorted(Path(e.path) for e in found if e.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


class Ledger:
    """The records of a folder that this process alone writes (``Layout.locked``)."""

    def __init__(self, layout: Layout) -> None:
        """Reads all there is; of two records of one dump, the older is removed."""
        self._layout = layout
        self._known: dict[str, Known] = {}
        found = map(_known, records(layout))
        for known in sorted(found, key=lambda known: known.finished):
            self._note(known)

    def all(self) -> list[Known]:
        """All that is known."""
        return list(self._known.values())

    def get(self, key: str) -> Known | None:
        """What is known under this key."""
        known = self._known.get(key[:_HALF])
        return known if known is not None and known.key == key else None

    def named(self, name: str) -> Known | None:
        """What is known of the dump of this name, as it was at any time."""
        return self._known.get(_digest(os.fsencode(name)))

    def commit(self, record: dict[str, Any]) -> Known:
        """Write a record, and let go of what it replaces.  Raises ``UsageError``."""
        path = self._layout.record(record["key"])
        try:
            write_whole(path, dumps(record).encode())
        except OSError as error:
            raise unwritable(path.parent, error) from error
        known = _known(record)
        self._note(known)
        return known

    def forget(self, known: Known) -> None:
        """Remove a record and what was made of its dump."""
        self._remove(known.key)
        self._known.pop(known.key[:_HALF], None)

    def sweep(self) -> None:
        """Remove what batches left that were killed: files half written, reports without a record."""
        for kind in {"results": None} | dict.fromkeys(ARTIFACTS.values()):
            suffixes = [s for s, folder in ARTIFACTS.items() if folder == kind] or [".json"]
            for folder in _folders(self._layout.root / kind):
                for name in os.listdir(folder):
                    if not any(name.endswith(s) and self.get(name[: -len(s)]) for s in suffixes):
                        _unlink(folder / name)

    def _note(self, known: Known) -> None:
        """Put a record in the place of the one that there is of the same dump."""
        before = self._known.get(known.key[:_HALF])
        if before is not None and before.key != known.key:
            self._remove(before.key)
        self._known[known.key[:_HALF]] = known

    def _remove(self, key: str) -> None:
        _unlink(self._layout.record(key), *(self._layout.artifact(key, s) for s in ARTIFACTS))


def _known(record: dict[str, Any]) -> Known:
    row = record["row"] or {}
    return Known(
        *(record["key"], record["source"], record["status"], record["reason"]),
        *(record["attempts"], row.get("verdict"), record["finished"]),
    )


def _unlink(*paths: Path) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()
