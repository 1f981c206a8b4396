"""The host's own history: what rasdaemon wrote down before the crash (``ras-mc_event.db``).

Tables and columns are those of rasdaemon's ras-record.c, 0.6 to 0.8; one that a version lacks is passed
over.  Times are local with their offset ("%Y-%m-%d %H:%M:%S %z").  The file is anybody's: it is
opened read-only, nothing is written beside it, SQLite does the counting, and time is bounded.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast
from urllib.parse import quote

from mftriage.model import CorrectedErrors, Location, NotChecked, PastErrors, Related, Shared
from mftriage.records.formats.edac import NO_LABELS, driver_location
from mftriage.records.mce import is_memory_error, severity, utc
from mftriage.registers.x86 import error_words
from mftriage.text import clean

_SECONDS = 10.0  # that all questions may take
_STEPS = 10_000  # of SQLite's machine between two looks at the clock
_MAX_PLACES = 64
_MAX_GROUPS = 2000
_MAX_DETAILS = 20_000  # newest events whose row and bank are looked at
_MAX_PAGES = 64
_MAX_TEXT = 256
_SINCE = 946684800  # 2000-01-01: rasdaemon writes 1970 where it knows no time
_U64 = (1 << 64) - 1
# Seconds since 1970 of a "timestamp"; SQLite wants the offset's colon.
_WHEN = "CAST(strftime('%s', substr(timestamp,1,19)||substr(timestamp,21,3)||':'||substr(timestamp,24,2)) AS INTEGER)"
_SHARED: tuple[Shared, ...] = ("page", "row", "bank", "column", "device")
_WITHIN: tuple[Related, ...] = ("bank", "row")
_LAYERS = "mc, top_layer, middle_layer, lower_layer"
_BMC = "read the BMC's event log (ipmitool sel list)"

Kind = Literal["corrected", "deferred", "uncorrected", "fatal"]


class Failed(NamedTuple):
    """What failed: its pages, the names of its DIMM in lower case, and where in it the error lay."""

    pages: tuple[int, ...] = ()
    page_size: int = 4096
    names: frozenset[str] = frozenset()
    locations: tuple[Location, ...] = ()


@dataclass
class PastRecords:
    """What the database tells."""

    corrected: list[CorrectedErrors] = field(default_factory=list)
    others: list[PastErrors] = field(default_factory=list)
    not_checked: list[NotChecked] = field(default_factory=list)


def past_records(path: Path, crash: float | None, failed: Failed) -> PastRecords:
    """The errors that rasdaemon recorded up to ``crash``, in seconds since 1970.

    ``None`` takes all of them, and says so.  What can't be read is a row of ``not_checked``; nothing raises.
    """
    found = PastRecords()
    try:
        source = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(source, uri=True, timeout=1.0)) as connection:
            _Reader(connection, crash, failed, found).read()
    except (sqlite3.Error, OSError, ValueError) as error:
        _note(found, "the host's history (rasdaemon)", str(error))
    if crash is None and (found.corrected or found.others):
        why = "nothing tells the time of the crash: later ones may be among them"
        _note(found, "which of rasdaemon's events came before the crash", why)
    return found


def _note(found: PastRecords, what: str, why: str) -> None:
    remedy = "copy the database again with rasdaemon stopped, or ask the host: ras-mc-ctl --errors"
    found.not_checked.append(NotChecked(what=what, why=clean(why, _MAX_TEXT), remedy=remedy))


class _Reader:
    """One look through an open database."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        crash: float | None,
        failed: Failed,
        found: PastRecords,
    ) -> None:
        self._db = connection
        self._failed = failed
        self._found = found
        self._before = _U64 >> 1 if crash is None else int(crash)
        end = time.monotonic() + _SECONDS
        connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        connection.text_factory = partial(clean, limit=_MAX_TEXT)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 24)
        connection.execute("PRAGMA trusted_schema = OFF")

    def read(self) -> None:
        """Ask every table; one that can't be read never loses the others."""
        tables = {
            str(name)
            for (name,) in self._db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' LIMIT 1000"
            )
        }
        if not tables & _QUESTIONS.keys():
            raise ValueError("it has none of rasdaemon's tables")
        for table, question in _QUESTIONS.items():
            if table not in tables:
                continue
            try:
                columns = self._columns(table)
                question(self, table, columns)
                self._timeless(table)
            except (sqlite3.Error, ValueError, OverflowError) as error:
                _note(self._found, f"the host's history: rasdaemon's table {table}", str(error))
        key = lambda entry: -entry.count  # noqa: E731
        self._found.corrected.sort(key=key)
        self._found.others.sort(key=lambda entry: (entry.kind == "other", -entry.count))
        del self._found.corrected[_MAX_PLACES:], self._found.others[_MAX_PLACES:]

    def _columns(self, table: str) -> set[str]:
        return {str(row[1]) for row in self._db.execute(f"PRAGMA table_info({table})")}

    def _timeless(self, table: str) -> None:
        where = f"{_WHEN} IS NULL OR {_WHEN} < {_SINCE}"
        (count,) = self._db.execute(f"SELECT COUNT(*) FROM {table} WHERE {where}").fetchone()
        if count:
            why = f"{count} of them have no time that can be read: they are left out"
            _note(self._found, f"all events of rasdaemon's table {table}", why)

    def _select(self, table: str, what: str, group: str, columns: set[str]) -> Iterator[Any]:
        """Rows of ``group``, ``what``, and first, last and number of their events, most frequent first.

        Columns that this version does not have are NULL.
        """
        missing = [name for name in (*_names(group), *_names(what)) if name not in columns]
        rows = f"SELECT *, {', '.join(f'NULL AS {n}' for n in missing)}" if missing else "SELECT *"
        yield from self._db.execute(
            f"SELECT {group}, {what}, MIN(seen), MAX(seen), COUNT(*) AS events FROM "
            f"({rows}, {_WHEN} AS seen FROM {table} WHERE {_WHEN} BETWEEN {_SINCE} AND ?) "
            f"GROUP BY {group} ORDER BY events DESC LIMIT {_MAX_GROUPS}",
            (self._before,),
        )

    def mc_events(self, table: str, columns: set[str]) -> None:
        """EDAC's errors by DIMM."""
        size = self._failed.page_size
        pages = ", ".join(str(_signed(pfn * size)) for pfn in self._failed.pages[:_MAX_PAGES])
        counted = "CASE WHEN typeof(err_count) = 'integer' AND err_count BETWEEN 1 AND 65535 THEN err_count ELSE 1 END"
        page = f"(address & {-size})"
        what = (
            f"TOTAL({counted}), MAX(err_msg), TOTAL({page} IN ({pages})), "
            f"COUNT(DISTINCT {page}), MAX(address = 0)"
        )
        places = self._details(table, columns)
        for row in self._select(table, what, f"err_type, label, {_LAYERS}", columns):
            kind, label, *layers, count, words, hits, distinct, unknown, first, last, events = row
            key = (kind, label, *layers)
            seen = places.get(key, [])
            place = _place(label, layers)
            same = _same(seen) if len(seen) == events else ()
            if events > 1 and distinct == 1 and not unknown:
                same = ("page", *same)
            related = self._related(label, hits, seen)
            if kind == "Corrected":
                self._found.corrected.append(
                    CorrectedErrors(
                        place=place,
                        count=int(count),
                        events=events,
                        per_hour=_rate(count, events, first, last),
                        same=same,
                        scattered=_scattered(seen, distinct),
                        source="rasdaemon",
                        first_time=utc(first),
                        last_time=utc(last),
                        on_failed=related,
                    )
                )
            elif kind in ("Uncorrected", "Fatal", "Deferred"):
                self._other(_KINDS[kind], place, int(count), first, last, words, related)

    def _details(self, table: str, columns: set[str]) -> dict[tuple[Any, ...], list[Location]]:
        """Where the newest events lay, by their place."""
        found: dict[tuple[Any, ...], list[Location]] = {}
        if not {"driver_detail", "id", "label", "err_type", "mc", "lower_layer"} <= columns:
            return found
        rows = self._db.execute(
            f"SELECT err_type, label, {_LAYERS}, driver_detail FROM {table} "
            f"WHERE {_WHEN} BETWEEN {_SINCE} AND ? ORDER BY id DESC LIMIT {_MAX_DETAILS}",
            (self._before,),
        )
        for *key, detail in rows:
            place = driver_location(detail if isinstance(detail, str) else "")
            found.setdefault(tuple(key), []).append(Location(**place))  # type: ignore[arg-type]
        return found

    def _related(self, label: object, hits: float, seen: Iterable[Location]) -> tuple[Related, ...]:
        """What these errors share with what failed; rows and banks count within its DIMM only."""
        found: list[Related] = ["page"] if hits else []
        names = {part.strip().lower() for part in str(label or "").split(" or ")}
        if names & self._failed.names:
            found.insert(0, "dimm")
            for location in self._failed.locations:
                for what in _WITHIN:
                    value = getattr(location, what)
                    if value is not None and any(
                        getattr(place, what) == value and place.bank == location.bank
                        for place in seen
                    ):
                        found.append(what)
        return tuple(dict.fromkeys(found))

    def _other(
        self,
        kind: Literal["uncorrected", "deferred", "fatal", "memory-failure", "other"],
        place: str | None,
        count: int,
        first: int,
        last: int,
        words: object,
        related: tuple[Related, ...] = (),
    ) -> None:
        self._found.others.append(
            PastErrors(
                source="rasdaemon",
                kind=kind,
                place=place,
                count=count,
                first_time=utc(first),
                last_time=utc(last),
                text=words if isinstance(words, str) and words else None,
                on_failed=related,
            )
        )

    def mce_records(self, table: str, columns: set[str]) -> None:
        """Machine checks; those of memory that EDAC's table counts already are not counted twice."""
        told = bool(self._found.corrected)
        group = "status, bank, socketid, cpuvendor, mcgstatus"
        for status, bank, socket, vendor, mcg, words, first, last, events in self._select(
            table, "MAX(error_msg)", group, columns
        ):
            if not isinstance(status, int) or not isinstance(bank, int):
                continue
            status &= _U64
            maker = vendor if isinstance(vendor, int) else None
            memory = is_memory_error(status, maker)
            bad = severity(status, maker, mcg if isinstance(mcg, int) else None)
            at = f"socket {socket}, " if isinstance(socket, int) else ""
            place = f"{at}machine-check bank {bank}"
            if bad != "corrected":
                kind = _KINDS.get(bad, "uncorrected") if memory is not False else "other"
                self._other(kind, place, events, first, last, words or error_words(status))
            elif memory and not told:
                self._found.corrected.append(_corrected(place, events, first, last))

    def extlog_events(self, table: str, columns: set[str]) -> None:
        """Firmware's memory errors (acpi_extlog) by FRU text; severities are CPER's."""
        kinds = {0: "uncorrected", 1: "fatal", 2: "corrected"}
        for level, fru, first, last, events in (
            (level, fru, *rest)
            for level, fru, _, *rest in self._select(table, "1", "severity, fru_text", columns)
        ):
            place = fru.strip() if isinstance(fru, str) and fru.strip() else "place not known"
            related = self._related(fru, 0, ())
            if kinds.get(level) == "corrected":
                self._found.corrected.append(_corrected(place, events, first, last, related))
            elif level in kinds:
                kind = cast(Literal["uncorrected", "fatal"], kinds[level])
                self._other(kind, place, events, first, last, "extended error log", related)

    def memory_failures(self, table: str, columns: set[str]) -> None:
        """What became of pages: pfn, and the kernel's words."""
        for pfn, kind, result, _, first, last, events in self._select(
            table, "1", "pfn, page_type, action_result", columns
        ):
            number = _number(pfn)
            hit: tuple[Related, ...] = ("page",) if number in self._failed.pages else ()
            words = f"recovery action for {kind}: {result}"
            place = f"page {number:#x}" if number is not None else None
            self._other("memory-failure", place, events, first, last, words, hit)

    def cxl_events(self, table: str, columns: set[str]) -> None:
        """Events of CXL memory devices; "Informational" and "Warning" logs hold corrected ones."""
        for device, log, _, first, last, events in self._select(
            table, "1", "memdev, log_type", columns
        ):
            words = f"{table.removesuffix('_event').replace('_', ' ')}, log {log}"
            bad = isinstance(log, str) and log.lower() in ("failure", "fatal")
            place = device if isinstance(device, str) else None
            self._other("uncorrected" if bad else "other", place, events, first, last, words)

    def others(self, table: str, columns: set[str]) -> None:
        """What is no memory error: of PCIe and of the processor."""
        group = "dev_name, err_type" if table == "aer_event" else "mpidr, affinity"
        for who, what, _, first, last, events in self._select(table, "1", group, columns):
            if table == "aer_event":
                place = who if isinstance(who, str) else None
                self._other("other", place, events, first, last, f"PCIe error: {what}")
            else:
                place = f"CPU with MPIDR {who & _U64:#x}" if isinstance(who, int) else None
                self._other("other", place, events, first, last, "ARM processor error")


_KINDS: dict[str, Literal["uncorrected", "deferred", "fatal"]] = {
    **{"Uncorrected": "uncorrected", "Fatal": "fatal", "Deferred": "deferred"},
    **{"recoverable": "uncorrected", "fatal": "fatal", "deferred": "deferred"},
}
_QUESTIONS = {
    "mc_event": _Reader.mc_events,
    "mce_record": _Reader.mce_records,
    "extlog_event": _Reader.extlog_events,
    "memory_failure_event": _Reader.memory_failures,
    "cxl_general_media_event": _Reader.cxl_events,
    "cxl_dram_event": _Reader.cxl_events,
    "cxl_poison_event": _Reader.cxl_events,
    "arm_event": _Reader.others,
    "aer_event": _Reader.others,
}


def _names(expression: str) -> list[str]:
    """The columns that an expression of this module names: all of its words in lower case."""
    words = "".join(c if c.isalnum() or c == "_" else " " for c in expression).split()
    return [w for w in dict.fromkeys(words) if w.islower() and w not in ("typeof", "integer")]


def _corrected(
    place: str, events: int, first: int, last: int, related: tuple[Related, ...] = ()
) -> CorrectedErrors:
    return CorrectedErrors(
        place=place,
        count=events,
        events=events,
        per_hour=_rate(events, events, first, last),
        source="rasdaemon",
        first_time=utc(first),
        last_time=utc(last),
        on_failed=related,
    )


def _place(label: object, layers: Iterable[object]) -> str:
    name = label.strip() if isinstance(label, str) else ""
    if name not in NO_LABELS:
        return name
    controller, *position = layers
    numbers = [str(n) for n in position if isinstance(n, int) and n >= 0]
    return f"memory controller {controller}" + (
        f", position {':'.join(numbers)}" if numbers else ""
    )


def _same(seen: list[Location]) -> tuple[Shared, ...]:
    """What all of several located errors share."""
    found = []
    for what in _SHARED[1:]:
        values = {getattr(place, what) for place in seen}
        if len(seen) > 1 and len(values) == 1 and None not in values:
            found.append(what)
    return tuple(found)


def _scattered(seen: list[Location], pages: int) -> tuple[Shared, ...]:
    """What at least two located errors differ in."""
    found: list[Shared] = ["page"] if pages > 1 else []
    for what in _SHARED[1:]:
        if len({getattr(place, what) for place in seen} - {None}) > 1:
            found.append(what)
    return tuple(found)


def _rate(count: float, events: int, first: int, last: int) -> float | None:
    return round(count * 3600 / (last - first), 2) if events > 1 and last > first else None


def _signed(address: int) -> int:
    """An address as SQLite stores it: in 64 bits with a sign."""
    address &= _U64
    return address - (1 << 64) if address >> 63 else address


def _number(pfn: object) -> int | None:
    """A pfn, which is text in hex."""
    if isinstance(pfn, int):
        return pfn & _U64
    try:
        value = int(str(pfn), 16)
    except ValueError:
        return None
    return value if 0 <= value <= _U64 else None
