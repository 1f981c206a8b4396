"""Hardware errors that firmware reported: APEI GHES records (CPER) in the kernel log.

drivers/acpi/apei/ghes.c (__ghes_print_estatus) prints the header, drivers/firmware/efi/cper.c
the sections; every line carries ``{N}[Hardware Error]: `` with the record's number.  BERT prints
the same without ``{N}``: records of the boot before, which are not this crash's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import cast

from mftriage.log import LogRecord
from mftriage.model import HardwareError, Location, RecordDimm, Severity

_LINE = re.compile(r"\{(\d+)\}\[Hardware Error\]:\s*(.*)")
_HEADER = re.compile(r"Hardware error from APEI Generic Hardware Error Source: \d+")
_SECTION = re.compile(r"Error \d+, type: (\w+)")
_FIELD = re.compile(r"([\w ]+?):\s*(.*)")
_LOCATION = re.compile(r"(\w+):\s?(-?\d+|0x[0-9a-f]+)")
_SEVERITIES = {"corrected", "recoverable", "fatal"}
# Before 5.17 the names were short.
_OLD_NAMES = {"col": "column", "bit_pos": "bit_position"}
_LOCATION_FIELDS = {f.name for f in fields(Location)}
_MAX_RAW = 64


def ghes_records(log: Iterable[LogRecord]) -> tuple[HardwareError, ...]:
    """Every section of every GHES record, oldest first."""
    records: dict[str, list[tuple[LogRecord, str]]] = {}
    for record in log:
        if match := _LINE.search(record.text):
            number = match[1]
            if _HEADER.search(match[2]) and number in records:  # a second boot in one log
                number = f"{number}'{len(records)}"
            records.setdefault(number, []).append((record, match[2]))
    return tuple(error for lines in records.values() for error in _sections(lines))


def _sections(lines: list[tuple[LogRecord, str]]) -> Iterator[HardwareError]:
    event_severity = None
    section: list[str] = []
    raw = tuple(record.text for record, _ in lines[:_MAX_RAW])
    time = lines[0][0].time
    severity: str | None = None
    for _, text in lines:
        if text.startswith("event severity:"):
            event_severity = text.partition(":")[2].strip()
        elif match := _SECTION.match(text):
            if section:
                yield _section(section, severity or event_severity, time, raw)
            severity, section = match[1], [text]
        elif section:
            section.append(text)
    if section:
        yield _section(section, severity or event_severity, time, raw)


def _section(
    lines: list[str], severity: str | None, time: float | None, raw: tuple[str, ...]
) -> HardwareError:
    found: dict[str, str] = {}
    location: dict[str, int] = {}
    for line in lines[1:]:
        pairs = _LOCATION.findall(line)
        if len(pairs) > 1 or (pairs and _old_name(pairs[0][0]) in _LOCATION_FIELDS):
            for name, value in pairs:
                if _old_name(name) in _LOCATION_FIELDS:
                    location[_old_name(name)] = int(value, 0)
        elif match := _FIELD.match(line):
            found.setdefault(match[1].strip(), match[2].strip())
    kind = found.get("section_type") or found.get("section type")
    is_memory = kind == "memory error" if kind else None
    return HardwareError(
        source="ghes",
        medium="log",
        time=time,
        severity=cast(Severity, severity) if severity in _SEVERITIES else None,
        error_type=_error_type(found) if is_memory else kind,
        is_memory=is_memory,
        physical_address=_address(found.get("physical_address")),
        physical_address_mask=_address(found.get("physical_address_mask")),
        location=Location(**location) if location and is_memory else None,
        dimm=_dimm(found),
        raw=raw,
    )


def _old_name(name: str) -> str:
    return _OLD_NAMES.get(name, name)


def _error_type(found: dict[str, str]) -> str | None:
    """``error_type: 3, multi-bit ECC`` (cper_mem_err_type_str)."""
    return found.get("error_type", "").partition(",")[2].strip() or None


def _address(text: str | None) -> str | None:
    match = re.match(r"0x0*[0-9a-f]{1,16}\b", text or "")
    return f"{int(match[0], 16):#x}" if match else None


def _dimm(found: dict[str, str]) -> RecordDimm | None:
    """fru_text, and "DIMM location: BANK DEVICE" or "... not present. DMI handle: 0x1" (cper_dimm_err_location)."""
    label = found.get("fru_text") or None
    place = found.get("DIMM location", "")
    handle = re.search("DMI handle: (0x[0-9a-f]+)", place)
    locator = place if place and not place.startswith("not present") else None
    if not (label or locator or handle):
        return None
    return RecordDimm(label=label, locator=locator, handle=handle[1] if handle else None)
