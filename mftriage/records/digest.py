"""A log of any length, taken in as it comes: what the verdict needs of it, in bounded memory.

Records are decoded slab by slab.  Of a flood of corrected errors the first and the last are kept
and all are counted; lines that no crash, failure or record needs are let go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from mftriage.log import LogRecord
from mftriage.model import CorrectedErrors, HardwareError
from mftriage.records import is_relevant, log_records
from mftriage.records.history import History

_SLAB = 4000  # lines of records that are decoded together
_MAX_SLAB = 8000
_GAP = 0.5  # seconds of silence that no event spans
_KEPT_ERRORS = 400  # uncorrected ones at each end
_KEPT_CORRECTED = 100
_KEPT_FOREIGN = 20  # corrected ones that are not of memory
_LINES = 100_000  # that are kept whole
_LAST = 30_000  # that always are
_CRUCIAL = re.compile(
    r"emory [Ff]ailure|MCE 0x|not syncing|Oops|Internal error|BUG:? |Unable to handle|general protection|SError|njecting|oft.[Oo]fflin|npoison|"
    r"Linux version|RIP: |pc : |Tainted|achine check:|Machine Check|pgtable:|suppressed|x29: |x8 : |R[A-D]X: "
)
_BULK = ("{", "EDAC ", "[Hardware Error]: ", "mce: [Hardware Error]: ")
_MAX_CRUCIAL = 40_000
_OLD_LINES, _OLD_ERRORS = 200, 20


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

    def all(self) -> list[tuple[int, HardwareError]]:
        """Those that were kept, in their order."""
        return [*self.first, *self.last]


class Digest:
    """What a boot's log holds: ``log`` is as much of it as matters.

    ``errors``, ``failed``, ``corrected`` and ``left_out``, the number of records that ``errors``
    lacks, are there once it is finished: of boots that nobody asks for, the last slab never is decoded.
    """

    def __init__(self, boot: Iterable[LogRecord]) -> None:
        """Take in the log of one boot."""
        self.log: list[LogRecord] = []
        self.errors: list[HardwareError] = []
        self.failed: list[tuple[str, Exception]] = []
        self.corrected: tuple[CorrectedErrors, ...] = ()
        self.left_out = 0
        self._history = History()
        self._bad, self._good = _Kept(_KEPT_ERRORS), _Kept(_KEPT_CORRECTED)
        self._foreign = _Kept(_KEPT_FOREIGN)
        self._found = 0
        self._long_ago = False
        self._slab: list[LogRecord] = []
        self._read(boot)

    def _read(self, boot: Iterable[LogRecord]) -> None:
        slab, log = self._slab, self.log
        for record in boot:
            log.append(record)
            if len(log) >= 2 * _LINES:
                log[:] = _thinned(log)
            if is_relevant(record):
                if len(slab) >= _SLAB and (_silent(slab[-1], record) or len(slab) >= _MAX_SLAB):
                    self._decode()
                slab.append(record)

    def _decode(self) -> None:
        errors, failed = log_records(self._slab, sifted=True)
        self._slab.clear()
        known = {name for name, _ in self.failed}
        self.failed += [(name, error) for name, error in failed if name not in known]
        self._history.add(errors)
        for at, error in enumerate(errors, self._found):
            kept = self._bad
            if error.severity == "corrected":
                kept = self._foreign if error.is_memory is False else self._good
            kept.add(at, error)
        self._found += len(errors)

    def finish(self) -> Digest:
        """This digest, with the last records decoded."""
        if self._slab:
            self._decode()
        groups = (self._bad, self._good, self._foreign)
        kept = sorted((item for group in groups for item in group.all()), key=lambda item: item[0])
        self.errors = [error for _, error in kept]
        self.left_out = sum(group.dropped for group in groups)
        self.corrected = self._history.result()
        return self

    def shorten(self) -> None:
        """Let go of what nobody asks of a boot long ago."""
        self._long_ago = True
        if len(self.log) > _OLD_LINES:
            self.log = [r for r in self.log if _CRUCIAL.search(r.text)][-_OLD_LINES:]
        if len(self._slab) > _OLD_LINES:
            self._decode()

    def as_previous_boot(self) -> list[HardwareError]:
        """The errors of a boot that is not the last one; of a shortened one, the last of them."""
        errors = self.finish().errors
        shown = errors[-_OLD_ERRORS:] if self._long_ago else errors
        return [replace(error, previous_boot=True) for error in shown]


def _silent(before: LogRecord, after: LogRecord) -> bool:
    return before.time is not None and after.time is not None and after.time - before.time > _GAP


def _thinned(log: list[LogRecord]) -> list[LogRecord]:
    """The lines that matter among the older ones, and all of the last."""
    old = [
        record
        for record in log[:-_LAST]
        if not _is_bulk(record.text) and _CRUCIAL.search(record.text)
    ]
    if len(old) > _MAX_CRUCIAL:
        old = old[: _MAX_CRUCIAL // 2] + old[-_MAX_CRUCIAL // 2 :]
    return old + log[-_LAST:]


def _is_bulk(text: str) -> bool:
    """Whether a line is one of those that most floods are of: no crash needs it."""
    return text.startswith(_BULK) and "achine" not in text
