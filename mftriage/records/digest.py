"""A log of any length, taken in as it comes: what the verdict needs of it, in bounded memory.

Records are decoded slab by slab.  Of a flood of corrected errors the first and the last are kept
and all are counted; lines that no crash, failure or record needs are let go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from mftriage.log import LogRecord
from mftriage.model import CorrectedErrors, HardwareError
from mftriage.records import is_relevant, log_records
from mftriage.records.history import History

_SLAB = 4000  # lines of records that are decoded together
_MAX_SLAB = 8000
_GAP = 0.5  # seconds of silence that no event spans
_KEPT_ERRORS = 400  # uncorrected ones at each end
_KEPT_CORRECTED = 100
_LINES = 100_000  # that are kept whole
_LAST = 30_000  # that always are
_CRUCIAL = re.compile(
    r"emory [Ff]ailure|MCE 0x|not syncing|Oops|Internal error|BUG:? |Unable to handle|general protection|SError|njecting|oft.[Oo]fflin|npoison|"
    r"Linux version|RIP: |pc : |Tainted|achine check:|Machine Check|pgtable:|suppressed|x29: |x8 : |R[A-D]X: "
)
_MAX_CRUCIAL = 40_000
_OLD_LINES, _OLD_ERRORS = 200, 20


@dataclass
class Digest:
    """What a boot's log holds.

    ``log`` is as much of it as matters, ``left_out`` the number of records that ``errors`` lacks.
    """

    log: list[LogRecord] = field(default_factory=list)
    errors: list[HardwareError] = field(default_factory=list)
    failed: list[tuple[str, Exception]] = field(default_factory=list)
    corrected: tuple[CorrectedErrors, ...] = ()
    left_out: int = 0


class _Kept:
    """The first and the last of many."""

    def __init__(self, each: int) -> None:
        self.each = each
        self.first: list[tuple[int, HardwareError]] = []
        self.last: list[tuple[int, HardwareError]] = []
        self.dropped = 0

    def add(self, at: int, error: HardwareError) -> None:
        """Take one more."""
        if len(self.first) < self.each:
            self.first.append((at, error))
            return
        self.last.append((at, error))
        if len(self.last) >= 2 * self.each:
            self.dropped += len(self.last) - self.each
            del self.last[: -self.each]


def digest(log: Iterable[LogRecord]) -> Digest:
    """Take in the log of one boot."""
    found = Digest()
    history = History()
    bad, corrected = _Kept(_KEPT_ERRORS), _Kept(_KEPT_CORRECTED)
    failed: dict[str, Exception] = {}
    at = 0
    for slab in _slabs(log, found):
        errors, broken = log_records(slab, sifted=True)
        failed |= {name: error for name, error in broken if name not in failed}
        history.add(errors)
        for error in errors:
            (corrected if error.severity == "corrected" else bad).add(at, error)
            at += 1
    kept = sorted(
        [*bad.first, *bad.last, *corrected.first, *corrected.last], key=lambda item: item[0]
    )
    found.errors = [error for _, error in kept]
    found.left_out = bad.dropped + corrected.dropped
    found.failed = list(failed.items())
    found.corrected = history.result()
    return found


def shorten(digested: Digest) -> None:
    """Let go of what nobody asks of a boot long ago."""
    digested.log = [r for r in digested.log if _CRUCIAL.search(r.text)][-_OLD_LINES:]
    digested.errors = digested.errors[-_OLD_ERRORS:]


def of_previous_boot(digested: Digest) -> list[HardwareError]:
    """The errors of a boot that is not the last one."""
    return [replace(error, previous_boot=True) for error in digested.errors]


def _slabs(log: Iterable[LogRecord], found: Digest) -> Iterator[list[LogRecord]]:
    slab: list[LogRecord] = []
    for record in log:
        found.log.append(record)
        if len(found.log) >= 2 * _LINES:
            found.log = _thinned(found.log)
        if is_relevant(record):
            if len(slab) >= _SLAB and (_silent(slab[-1], record) or len(slab) >= _MAX_SLAB):
                yield slab
                slab = []
            slab.append(record)
    if slab:
        yield slab


def _silent(before: LogRecord, after: LogRecord) -> bool:
    return before.time is not None and after.time is not None and after.time - before.time > _GAP


def _thinned(log: list[LogRecord]) -> list[LogRecord]:
    """The lines that matter among the older ones, and all of the last."""
    old = [record for record in log[:-_LAST] if _CRUCIAL.search(record.text)]
    if len(old) > _MAX_CRUCIAL:
        old = old[: _MAX_CRUCIAL // 2] + old[-_MAX_CRUCIAL // 2 :]
    return old + log[-_LAST:]
