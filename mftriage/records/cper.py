"""Firmware's error records as the kernel prints them, shared by the formats that carry them.

drivers/firmware/efi/cper.c prints an event (cper_estatus_print) and its sections
(cper_estatus_print_section, cper_print_mem, cper_print_pcie, cper_print_proc_generic), cper-arm.c,
cper-x86.c and cper_cxl.c the processor's and CXL's; the fields are those of UEFI 2.10, appendix N.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import cast

from mftriage.log import LogRecord
from mftriage.model import (
    Detail,
    FirmwareRecord,
    HardwareError,
    Location,
    RecordDimm,
    Severity,
)
from mftriage.pattern import Pattern

_EVENT = Pattern(
    r"Hardware error from APEI Generic Hardware Error Source:\s*(\d{1,9})|Hardware error detected on CPU\s*(\d{1,9})"
)
_EVENT_SEVERITY = Pattern(r"event severity:\s*(\w+)")
_SECTION = Pattern(r"Error (\d{1,9}), type:\s*(\w+)")
_TIME = Pattern(r"(precise |imprecise )?tstamp:\s*(.*)")
_FIELD = Pattern(r"([\w ()]{1,60}?):\s*(.*)")
_PAIR = Pattern(r"(\w+):\s?(-?\d{1,20}\b|0x[0-9a-f]{1,16})")
_HEX = Pattern(r"0x0*([0-9a-f]{1,16})\b")
_NUMBERED = Pattern(r"(\d{1,9})(?:, ?(.*))?")
_ARM_ERROR = Pattern(r"0x[0-9a-f]+: ?(.*)|\d+, ?(.*)")
_BODY = Pattern(
    r"(?:Hardware error from APEI|event severity:|Error \d+, type:|(?:im)?precise tstamp:|fru_(?:id|text):|section.type:|error_status:|physical_address(?:_mask)?:|"
    r"(?:node|card|module|rank):\s?\d|error_type: \d|DIMM location:|It has been corrected by h/w)"
)
# How the lines of an event begin that are of no section.
_HEADS = (
    *("Hardware error", "It has been corrected", "event severity:", "Error "),
    *("tstamp:", "precise ", "imprecise "),
)
_SEVERITIES = ("corrected", "recoverable", "fatal")
# Before 5.17 (bdae796f4bc5) the names were short.
_OLD_NAMES = {"col": "column", "bit_pos": "bit_position"}
_PLACES = {f.name for f in fields(Location)}
_IDS = ("requestor_id", "responder_id", "target_id")
_MAX_RAW = 64
_MAX_LINES = 512
_MAX_DETAILS = 48
# cper_mem_err_type_strs: what only a memory section says
MEMORY_TYPES = (
    *("unknown", "no error", "single-bit ECC", "multi-bit ECC", "single-symbol chipkill ECC"),
    *("multi-symbol chipkill ECC", "master abort", "target abort", "parity error"),
    *("watchdog timeout", "invalid address", "mirror Broken", "memory sparing"),
    *("scrub corrected error", "scrub uncorrected error", "physical memory map-out event"),
)
IS_MEMORY = {
    "memory error": True,
    "CXL General Media Event": True,
    "CXL DRAM Event": True,
    "CXL Memory Module Event": None,
}
_SMBIOS_NONE = ("0xffff", "0xfffe")  # SMBIOS 3.6, 6.1: no handle


class Event:
    """The lines of one event, each as the record it came in and the text behind its prefix.

    ``headed`` and ``rated`` say whether the header and the severity have been seen.
    """

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        self.lines: list[tuple[LogRecord, str]] = []
        self.headed = False
        self.rated = False

    def add(self, record: LogRecord, text: str) -> None:
        """Take one more line; the rest of an endless event is dropped."""
        self.headed = self.headed or begins(text)
        self.rated = self.rated or text.startswith("event severity:")
        if len(self.lines) < _MAX_LINES:
            self.lines.append((record, text))

    def is_over(self, text: str) -> bool:
        """Whether ``text``, which has no number, is the first line of another event."""
        if begins(text):
            return bool(self.lines)
        return self.rated and text.startswith(("event severity:", "It has been corrected by h/w"))


def looks_like(text: str) -> bool:
    """Whether a message that has lost its ``{N}`` is of a firmware record."""
    return _BODY.match(text) is not None


def begins(text: str) -> bool:
    """Whether a message is the first of an event."""
    return text.startswith("Hardware error") and _EVENT.match(text) is not None


def decode_event(event: Event, source: str, *, previous_boot: bool = False) -> list[HardwareError]:
    """A record for every section of the event; one for the event if it has none."""
    head = _Head(event.number)
    lines: list[str] = []  # those of the section that is being read, whose header may be lost
    sections: list[tuple[str | None, list[str]]] = [(None, lines)]
    for _, text in event.lines:
        if not text.startswith(_HEADS):
            lines.append(text)
        elif match := _EVENT.match(text):
            head.source_id = int(match[1]) if match[1] else None
            head.cpu = int(match[2]) if match[2] else None
        elif match := _EVENT_SEVERITY.match(text):
            head.severity = match[1]
        elif match := _TIME.match(text):
            head.timestamp = f"{match[1] or ''}{match[2].strip()}"
        elif match := _SECTION.match(text):
            lines = []
            sections.append((match[2], lines))
        elif not text.startswith("It has been corrected"):
            lines.append(text)
    raw = tuple(record.text for record, _ in event.lines[:_MAX_RAW])
    time = event.lines[0][0].time if event.lines else None
    if len(sections) > 1 and not sections[0][1]:
        del sections[0]
    return [
        _record(severity, said, head, source, time, raw, previous_boot)
        for severity, said in sections
    ]


class _Head:
    def __init__(self, number: int | None) -> None:
        self.number = number
        self.source_id: int | None = None
        self.cpu: int | None = None
        self.severity: str | None = None
        self.timestamp: str | None = None


def _record(
    section_severity: str | None,
    lines: Sequence[str],
    head: _Head,
    source: str,
    time: float | None,
    raw: tuple[str, ...],
    previous_boot: bool,
) -> HardwareError:
    found: dict[str, str] = {}
    places: dict[str, int | str] = {}
    details = list(_details(lines, found, places))
    kind = found.get("section_type") or found.get("section type")
    number, words = _error_type(found.get("error_type"))
    locator, handle = _dimm_location(found), _handle(found)
    if kind is None and (words in MEMORY_TYPES or "physical_address" in found):
        kind = "memory error"
    is_memory = IS_MEMORY.get(kind, None if kind.startswith("unknown") else False) if kind else None
    severity = section_severity or head.severity
    if head.cpu is not None:
        details.insert(0, Detail(name="cpu", value=str(head.cpu)))
    return HardwareError(
        source=source,
        medium="log",
        time=time,
        severity=cast(Severity, severity) if severity in _SEVERITIES else None,
        error_type=words if kind == "memory error" else _what(kind, lines, found),
        is_memory=is_memory,
        physical_address=_hex(found.get("physical_address") or found.get("physical fault address")),
        physical_address_mask=_hex(found.get("physical_address_mask")),
        location=_location(places) if kind == "memory error" else None,
        dimm=named_by(found.get("fru_text"), locator, handle),
        raw=raw,
        previous_boot=previous_boot,
        firmware=FirmwareRecord(
            number=head.number,
            source_id=head.source_id,
            event_severity=head.severity,
            section_severity=section_severity,
            section=kind,
            timestamp=head.timestamp,
            fru_id=found.get("fru_id"),
            fru_text=found.get("fru_text"),
            error_status=_hex_in(found.get("error_status")),
            error_type=number if kind == "memory error" else None,
            dimm_location=locator,
            dmi_handle=handle,
            device=found.get("device") or found.get("agent_address"),
            vendor_id=found.get("vendor_id"),
            device_id=found.get("device_id"),
        ),
        details=tuple(details[:_MAX_DETAILS]),
    )


# Fields that fill a line, and have a place of their own in a record.
_WHOLE = frozenset(
    (
        *("section_type", "section type", "fru_id", "fru_text", "error_status"),
        *("physical_address", "physical_address_mask", "error_type", "DIMM location"),
    )
)
_NAMED = {*_WHOLE, "vendor_id", "device_id", "device"}


def _details(
    lines: Sequence[str], found: dict[str, str], places: dict[str, int | str]
) -> Iterator[Detail]:
    """Sort the lines into ``found`` and ``places``; what has no place of its own comes back."""
    for line in lines:
        name, _, value = line.partition(":")
        if name in _WHOLE and ":" not in value:
            found.setdefault(name, value.strip())
            continue
        pairs = _PAIR.findall(line)
        named = [(_OLD_NAMES.get(name, name), value) for name, value in pairs]
        if any(name in _PLACES for name, _ in named) and not line.startswith("physical"):
            for name, value in named:
                if name in _IDS:
                    places[name] = f"{int(value, 16):#x}" if value.startswith("0x") else value
                elif name in _PLACES:
                    places[name] = int(value, 16 if value.startswith("0x") else 10)
            # an old kernel's line may go on with the DIMM
            _, dimm, place = line.partition("DIMM location:")
            if dimm:
                found.setdefault("DIMM location", place.strip())
            continue
        match = _FIELD.match(line)
        if match is None:
            if line.strip():
                yield Detail(name="note", value=line.strip())
            continue
        name, value = match[1].strip(), match[2].strip()
        if name == "vendor_id" and ", device_id:" in value:
            vendor, _, device = value.partition(", device_id:")
            found["vendor_id"], found["device_id"] = vendor.strip(), device.strip()
        elif name == "device_id" and value.count(":") >= 2:  # the device's address, printed so too
            found.setdefault("device", value)
        else:
            if name not in _NAMED:
                yield from _split(name, value)
            found.setdefault(name, value)


def _split(name: str, value: str) -> Iterator[Detail]:
    """ "aer_uncor_status: 0x1, aer_uncor_mask: 0x0" is two fields."""
    first, *rest = value.split(", ")
    if rest and all(":" in part for part in rest):
        yield Detail(name=name, value=first)
        for part in rest:
            key, _, text = part.partition(":")
            yield Detail(name=key.strip(), value=text.strip())
    else:
        yield Detail(name=name, value=value)


def _error_type(text: str | None) -> tuple[int | None, str | None]:
    """``error_type: 3, multi-bit ECC`` (cper_mem_err_type_str)."""
    match = _NUMBERED.match(text or "")
    if match is None:
        return None, None
    return int(match[1]), (match[2] or "").strip() or None


def _what(kind: str | None, lines: Sequence[str], found: dict[str, str]) -> str | None:
    """What a section that is not of memory reports: its kind, and the processor's kind of error."""
    if kind is None:
        return None
    if kind == "ARM processor error" and (match := _ARM_ERROR.match(found.get("error_type", ""))):
        return f"{kind}: {(match[1] or match[2] or '').strip()}"
    if kind == "IA32/X64 processor error" and "Error Structure Type" in found:
        return f"{kind}: {found['Error Structure Type']}"
    return kind


def _location(places: dict[str, int | str]) -> Location | None:
    return Location(**places) if places else None  # type: ignore[arg-type]


def _hex(text: str | None) -> str | None:
    match = _HEX.match(text or "")
    return f"{int(match[1], 16):#x}" if match else None


def _hex_in(text: str | None) -> str | None:
    """The value of "Storage error in DRAM memory (0x0000000000000400)", or of the bare number before 5.19."""
    match = _HEX.search(text or "")
    return f"{int(match[1], 16):#x}" if match else None


def _handle(found: dict[str, str]) -> str | None:
    _, mark, rest = found.get("DIMM location", "").partition("DMI handle:")
    match = _HEX.match(rest.strip()) if mark else None
    return rest.strip().split()[0] if match else None


def _dimm_location(found: dict[str, str]) -> str | None:
    place = found.get("DIMM location", "").strip()
    return place if place and not place.startswith("not present") else None


def named_by(label: str | None, locator: str | None, handle: str | None) -> RecordDimm | None:
    """fru_text, and "DIMM location: BANK DEVICE" or "... not present. DMI handle: 0x1" (cper_dimm_err_location)."""
    if not (label or locator or handle):
        return None
    known = handle is not None and handle not in _SMBIOS_NONE
    return RecordDimm(
        label=label or None,
        locator=locator,
        handle=handle,
        how="firmware-location"
        if locator
        else "fru-text"
        if label
        else "firmware-handle"
        if known
        else None,
    )
