"""How a batch goes: one line that changes on a terminal, plain lines in a log; and its summary."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mftriage.fleet.batch import Summary
from mftriage.fleet.ledger import Known
from mftriage.text import clean

__all__ = ["Progress", "summary_text"]

_EVERY_TTY, _EVERY_LOG = 0.1, 30.0  # seconds
_SHOWN = 10


class Progress:
    """A ``Watch`` that tells ``write`` lines; of a terminal it takes one line, which it writes over."""

    def __init__(self, write: Callable[[str], None], terminal: bool) -> None:
        self._write = write
        self._terminal = terminal
        self._every = _EVERY_TTY if terminal else _EVERY_LOG
        self._jobs = self._done = self._failed = 0
        self._began = self._told = time.monotonic()
        self._shown = 0

    def begin(self, entries: int, jobs: int) -> None:
        """See ``Watch``."""
        self._jobs = jobs
        self._began = self._told = time.monotonic()
        self._line(f"{entries:,} files, {jobs:,} to analyse")

    def done(self, known: Known) -> None:
        """See ``Watch``."""
        self._done += 1
        if known.status == "failed":
            self._failed += 1
            self._line(f"failed: {_named(known)}")
        self.tick()

    def tick(self) -> None:
        """See ``Watch``."""
        now = time.monotonic()
        if now - self._told < self._every:
            return
        self._told = now
        if self._terminal:
            text = self._state(now)
            self._write(f"\r{text:{self._shown}}")
            self._shown = len(text)
        else:
            self._line(self._state(now))

    def end(self) -> None:
        """See ``Watch``."""
        if self._jobs:
            self._line(self._state(time.monotonic()))

    def _state(self, now: float) -> str:
        jobs = max(self._jobs, self._done)  # the logs of dumps that failed come on top
        rate = self._done / max(now - self._began, 1e-3)
        parts = [f"{self._done:,} of {jobs:,}", f"{rate:.3g} a second"]
        if self._failed:
            parts.append(f"{self._failed:,} failed")
        if 0 < self._done < jobs:
            left = int((jobs - self._done) / rate)
            parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
        return ", ".join(parts)

    def _line(self, text: str) -> None:
        if self._shown:
            self._write(f"\r{'':{self._shown}}\r")
            self._shown = 0
        self._write(text + "\n")


def summary_text(summary: Summary, out: Path) -> str:
    """What to print when a batch has ended."""
    new, everything = summary.new, summary.all
    known = everything.total() - new.total()
    lines = [
        f"{new.total():,} new: {new['ok']:,} ok, {new['failed']:,} failed, {new['skipped']:,} skipped; {known:,} known"
    ]
    if summary.left:
        lines.append(f"{summary.left:,} left for the next run (--limit)")
    failed = everything["failed"]
    lines += [f"{count:6,} {verdict}" for verdict, count in summary.verdicts.most_common()]
    lines += [f"{failed:6,} that can't be read"] if failed else []
    lines += [f"failed: {_named(known)}" for known in summary.failed[:_SHOWN]]
    if len(summary.failed) > _SHOWN:
        lines.append(f"... and {len(summary.failed) - _SHOWN:,} more")
    folder = _one_line(str(out))
    return "\n".join([*lines, f"Results: {folder}", f"Next: mftriage fleet {folder}"])


def _named(known: Known) -> str:
    return f"{_one_line(known.source)}: {_one_line(known.reason or 'no reason')}"


def _one_line(text: str) -> str:
    return clean(text).replace("\n", "\\n")
