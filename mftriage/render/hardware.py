"""What the hardware and firmware reported, in words for people: what, when, where, how bad, told by whom."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from datetime import timedelta
from typing import NamedTuple

from mftriage.model import (
    CorrectedErrors,
    EdacReport,
    FirmwareRecord,
    HardwareError,
    Location,
    MceRegisters,
    MemoryFailure,
    PastErrors,
    Severity,
    Triage,
)
from mftriage.render import words
from mftriage.render.words import Facts, given, labelled, spaced, told, yes_no
from mftriage.text import parsed_utc

_DETAILS = 24
_NODES = 8  # names of pages or tasks that a cell lists
_SEVERITY: tuple[Severity, ...] = ("fatal", "recoverable", "deferred", "corrected")
_ADJECTIVES: dict[Severity | None, str] = {
    "fatal": "Fatal",
    "recoverable": "Uncorrected",
    "deferred": "Deferred",
    "corrected": "Corrected",
    None: "",
}
_HARM: dict[Severity | None, str] = {
    "fatal": "Not corrected, and the hardware could not go on.",
    "recoverable": "Not corrected. The hardware could go on.",
    "deferred": "Not corrected: the data is marked as bad. Nothing had used it yet.",
    "corrected": "Corrected by the hardware: no data was lost.",
    None: "The record does not say how bad it was.",
}
_LOST = "Not corrected: the data is lost. The hardware could go on."
_SOURCES = {
    "ghes": "firmware (APEI)",
    "bert": "firmware (BERT)",
    "extlog": "firmware (extended log)",
    "mce": "machine check",
    "edac": "EDAC driver",
    "cec": "collector of corrected errors",
    "cxl": "CXL device",
}
_MEDIA = {"log": "kernel log", "memory": "kernel's memory"}
# of struct mce, what the decoded registers show better
_DECODED = ("status", "mcgstatus", "misc", "ipid", "synd", "flags", "mcacod", "mscod")


class ErrorRow(NamedTuple):
    """Records that say the same, as one row: the first of them, and what is told of all.

    ``marks`` are what nobody may overlook: that the error was injected, or is of the boot before.
    """

    record: HardwareError
    many: int
    what: str
    when: list[str]
    harm: str
    outcome: str | None
    place: list[str]
    source: str
    marks: list[str]


def error_rows(triage: Triage) -> list[ErrorRow]:
    """Return the records as rows, the worst first.

    Those that differ in their times only are one row, and so are the corrected errors of one DIMM.
    """
    alike: dict[tuple[object, ...], list[HardwareError]] = {}
    for record in ranked(triage.hardware_errors):
        alike.setdefault(_key(record), []).append(record)
    failures = {(e.pfn, e.previous_boot): e for e in triage.memory_failures}
    return [_row(triage, records, failures) for records in alike.values()]


def _key(record: HardwareError) -> tuple[object, ...]:
    mce, dimm = record.mce, record.dimm
    alike = (
        *(record.source, record.media, record.severity, record.error_type, record.is_memory),
        *(record.injected, record.previous_boot),
    )
    if record.severity == "corrected" and dimm is not None and mce is None:
        return (*alike, dimm)
    return (
        *(*alike, dimm, record.physical_address, record.location),
        mce and (mce.status, mce.bank, mce.cpu),
    )


def _row(
    triage: Triage,
    records: list[HardwareError],
    failures: dict[tuple[str, bool], MemoryFailure],
) -> ErrorRow:
    record = records[0]
    pfn = _pfn(triage, record)
    failure = failures.get((pfn, record.previous_boot)) if pfn else None
    if record.severity == "corrected":
        failure = None  # the page's failure is of another error
    return ErrorRow(
        record=record,
        many=len(records),
        what=_what(record),
        when=_when(triage, records),
        harm=_LOST
        if record.is_memory and record.severity == "recoverable"
        else _HARM[record.severity],
        outcome=_outcome(failure) if failure else None,
        place=_place(record, pfn) if _alone(records) else _places(triage, records),
        source=f"{_SOURCES.get(record.source, record.source)}, in the "
        + " and the ".join(_MEDIA[medium] for medium in record.media),
        marks=given(
            record.injected and "injected by software: no hardware fault",
            record.previous_boot and "of the boot before",
            record.mce and record.mce.synthetic and "made by the kernel of firmware's data",
        ),
    )


def _what(record: HardwareError) -> str:
    subject = {True: "memory error", False: "error, not of memory", None: "hardware error"}
    kind = f"{_ADJECTIVES[record.severity]} {subject[record.is_memory]}".strip()
    kind = kind[0].upper() + kind[1:]
    count = f" (counted {record.count} times)" if record.count and record.count > 1 else ""
    return f"{kind}: {record.error_type}{count}" if record.error_type else f"{kind}{count}"


def _when(triage: Triage, records: list[HardwareError]) -> list[str]:
    """Seconds since boot, then UTC; of several records those of the first and the last."""
    timed = sorted((r for r in records if r.time is not None), key=lambda r: r.time or 0.0)
    ends = [timed[0], timed[-1]] if len(timed) > 1 else timed or records[:1]
    since = " to ".join(since_boot(r) for r in ends if r.time is not None)
    utc = [moment for r in ends if (moment := _utc(triage, r))]
    many = f"{len(records)} records" if len(records) > 1 else None
    return given(many, since, " to ".join(dict.fromkeys(utc))) or [words.NOT_KNOWN]


def since_boot(record: HardwareError) -> str:
    """Return the record's time in seconds since boot, as exact as it is known."""
    if record.time is None or not math.isfinite(record.time):
        return words.NOT_KNOWN
    if record.time_is_exact:
        return f"{words.clock(record.time)} s"
    return f"{record.time:.0f} s (to the second)"


def _utc(triage: Triage, record: HardwareError) -> str | None:
    """By the hardware's own clock, or as worked out from the dump's clocks."""
    if record.wall_time:
        return words.moment(record.wall_time)
    dump = triage.dump
    if record.previous_boot or None in (dump.crash_time, dump.uptime_seconds, record.time):
        return None
    crashed = parsed_utc(dump.crash_time)
    try:
        ago = timedelta(seconds=round((dump.uptime_seconds or 0.0) - (record.time or 0.0)))
        return f"about {crashed - ago:%Y-%m-%d %H:%M:%S} UTC" if crashed else None
    except (ValueError, OverflowError):
        return None


def _pfn(triage: Triage, record: HardwareError) -> str | None:
    address = words.number(record.physical_address)
    size = triage.dump.page_size
    return None if address is None or not size else f"{address // size:#x}"


def _outcome(failure: MemoryFailure) -> str:
    """Return what the kernel did with the page."""
    killed = [words.task(who) for who in failure.killed[:_NODES]]
    did = {
        "ignored": "The kernel left the page in use",
        "failed": "The kernel could not take the page out of use",
        "delayed": "The kernel put the page off until its next use",
        "recovered": "The kernel took the page out of use",
        None: "The kernel did not say what became of the page",
    }[failure.action]
    return (
        did
        + (f", and killed {', '.join(killed)}" if killed else "")
        + (", and panicked" if failure.panicked else "")
        + "."
    )


def _place(record: HardwareError, pfn: str | None) -> list[str]:
    """Return the DIMM, where in it, and the address; else who reported it."""
    dimm, mce = record.dimm, record.mce
    name = dimm and (dimm.locator or dimm.label or " or ".join(dimm.candidates))
    handle = dimm and not name and dimm.handle and f"SMBIOS handle {dimm.handle}"
    address = record.physical_address and f"physical {record.physical_address}"
    if address and pfn:
        address += f" (pfn {pfn})"
    normalized = (
        mce
        and mce.address_kind == "normalized"
        and f"{mce.addr}, an address of the memory controller's own"
    )
    device = record.firmware and record.firmware.device
    reporter = mce and ", ".join(
        given(
            mce.unit,
            mce.socket is not None and f"socket {mce.socket}",
            mce.cpu is not None and f"CPU {mce.cpu}",
            mce.bank is not None and not mce.synthetic and f"bank {mce.bank}",
        )
    )
    found = given(
        name,
        handle,
        record.location and location_line(record.location),
        address,
        normalized,
        device and f"device {device}",
        reporter and f"told by {reporter}",
    )
    return found or [words.NOT_KNOWN]


def _alone(records: list[HardwareError]) -> bool:
    return len({(r.physical_address, r.location) for r in records}) == 1


def _places(triage: Triage, records: list[HardwareError]) -> list[str]:
    """Return the DIMM of many records, and how far apart they lie."""
    dimm = records[0].dimm
    name = dimm and (dimm.locator or dimm.label or " or ".join(dimm.candidates) or dimm.handle)
    addresses = {r.physical_address for r in records} - {None}
    pages = {_pfn(triage, r) for r in records} - {None}
    rows = {(r.location.bank, r.location.row) for r in records if r.location} - {(None, None)}
    return given(
        name,
        len(addresses) > 1 and f"{len(addresses)} different addresses",
        f"page {pages.pop()}" if len(pages) == 1 else pages and f"in {len(pages)} pages",
        len(rows) > 1 and f"in {len(rows)} rows",
    )


def location_line(location: Location) -> str:
    """Return where in the memory the error lies: "node 0, card 2, rank 1, row 6699"."""
    values = ((field.name, getattr(location, field.name)) for field in fields(location))
    return ", ".join(f"{spaced(name)} {value}" for name, value in values if value is not None)


def record_line(row: ErrorRow) -> str:
    """Return the row in one line."""
    record = row.record
    mce, dimm, location = record.mce, record.dimm, record.location
    bank = mce and " ".join(
        given(
            mce.bank is not None and f"bank {mce.bank}",
            mce.status and f"status {mce.status}",
        )
    )
    subject = {True: "memory error", False: "error, not of memory", None: "error"}
    details = given(
        record.physical_address and f"at {record.physical_address}",
        dimm and (dimm.label or dimm.locator or " or ".join(dimm.candidates)),
        location and location_line(location),
        bank,
        row.many > 1 and f"{row.many} times",
        record.injected and "INJECTED by software",
        record.previous_boot and "of the boot before",
    )
    medium = ""
    if "memory" in record.media:
        medium = " (log and memory)" if "log" in record.media else " (from memory)"
    title = " ".join(given(record.severity, record.error_type or subject[record.is_memory]))
    return f"{record.source}{medium}: " + ", ".join((title, *details))


def record_facts(record: HardwareError) -> Facts:
    """Return what the record says besides its registers and raw lines, label by label."""
    dimm = record.dimm
    return labelled(
        ("severity", record.severity),
        ("error type", record.error_type),
        ("memory error", yes_no(record.is_memory)),
        ("physical address", record.physical_address),
        ("address mask", record.physical_address_mask),
        ("location", record.location and location_line(record.location)),
        (
            "DIMM",
            dimm and ", ".join(given(dimm.label, dimm.locator, dimm.handle, *dimm.candidates)),
        ),
        ("errors", record.count if record.count and record.count > 1 else None),
        ("injected", yes_no(record.injected)),
        ("of the boot before", "yes" if record.previous_boot else None),
        *_nested("firmware", record.firmware),
        *_nested("EDAC", record.edac),
        ("other fields", "; ".join(f"{d.name}: {d.value}" for d in record.details[:_DETAILS])),
        (
            "logged at" if "log" in record.media else "happened at",
            None if record.time is None else since_boot(record),
        ),
        ("hardware's clock", record.wall_time and words.moment(record.wall_time)),
        *(_registers(record.mce, decoded=bool(record.decoded)) if record.mce else ()),
    )


def _registers(mce: MceRegisters, *, decoded: bool) -> Facts:
    """What the machine check has besides what is decoded bit by bit."""
    return labelled(
        *(
            (spaced(field.name), told(getattr(mce, field.name)))
            for field in fields(mce)
            if not (decoded and field.name in _DECODED)
        )
    )


def _nested(prefix: str, part: FirmwareRecord | EdacReport | None) -> Facts:
    """What a part of a record says, label by label."""
    if part is None:
        return []
    return labelled(
        *((f"{prefix} {spaced(f.name)}", told(getattr(part, f.name))) for f in fields(part))
    )


def ranked(records: Iterable[HardwareError]) -> list[HardwareError]:
    """Return the records with the worst first: memory before the rest, then by severity."""

    def rank(record: HardwareError) -> tuple[bool, bool, int]:
        severity = record.severity
        return (
            record.previous_boot,
            record.is_memory is False,
            _SEVERITY.index(severity) if severity else len(_SEVERITY),
        )

    return sorted(records, key=rank)


def corrected_line(entry: CorrectedErrors) -> str:
    """Return the corrected errors of one place in words: how many, how often, and what they share."""
    span = None
    if entry.first is not None and entry.last is not None and entry.last > entry.first:
        span = f"in {words.duration(entry.last - entry.first)}"
    often = entry.per_hour is not None and f"({entry.per_hour:g} an hour)"
    counted = " ".join(given(words.count(entry.count, "corrected error"), span, often))
    return f"{entry.place}: " + ", ".join(
        given(
            counted,
            entry.same and f"all in the same {_listed(entry.same)}",
            entry.scattered and f"scattered over {_listed([f'{s}s' for s in entry.scattered])}",
            entry.on_failed and f"on the {_listed(entry.on_failed)} that failed",
            entry.source == "rasdaemon" and _by_rasdaemon(entry.first_time, entry.last_time),
        )
    )


_PAST = {
    "uncorrected": "uncorrected memory error",
    "deferred": "deferred memory error",
    "fatal": "fatal memory error",
    "memory-failure": "memory failure",
    "other": "error of another part",
}


def history_line(entry: PastErrors) -> str:
    """Return errors that the host had before, by its own database, in words."""
    counted = words.count(entry.count, _PAST[entry.kind])
    return f"{entry.place or 'place not known'}: " + ", ".join(
        given(
            counted,
            entry.text,
            entry.on_failed and f"on the {_listed(entry.on_failed)} that failed",
            _by_rasdaemon(entry.first_time, entry.last_time),
        )
    )


def _by_rasdaemon(first: str | None, last: str | None) -> str:
    if last is None:
        return "by rasdaemon"
    when = f"on {last}" if first in (None, last) else f"from {first} to {last}"
    return f"{when}, by rasdaemon"


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
