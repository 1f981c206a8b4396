"""Machine checks as AMD's decoder prints them.

drivers/edac/mce_amd.c, amd_decode_mce: severity in words, "CPU:n (family:model:stepping)
MCn_STATUS[...]: 0x...", "Error Addr", PPIN, IPID and syndrome, then the bank's name and its extended
error code.  Before 4.x the unit came first ("MC4 Error (node 1): ...").  The "Error Addr" of a
memory controller (UMC) is normalized: it is no system address, and never makes a page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from mftriage.log import LogRecord
from mftriage.model import HardwareError, MceRegisters, Severity
from mftriage.pattern import Pattern
from mftriage.records.mce import VENDOR_AMD, error_class, flags, is_umc
from mftriage.registers.x86 import error_words

MARKERS = ("[Hardware Error]",)
FOREIGN = "}[Hardware Error]"

_BODY = Pattern(r"(?<!\})\[Hardware Error\]:?\s*(.*)")
_STATUS = Pattern(
    r"CPU ?:? ?(\d{1,9}) \(([0-9a-f]{1,4}):([0-9a-f]{1,4}):([0-9a-f]{1,4})\) MC(\d{1,3})_STATUS\[?([^\]:]{0,120})\]?: ?0x([0-9a-f]{1,16})"
)
_SEVERITY = Pattern(
    r"(?:Error Status: )?(System Fatal error|Uncorrected, software restartable error|Uncorrected, software containable error|"
    r"Uncorrected error|Deferred error|Corrected error)\b"
)
_ADDRESS = Pattern(r"(?:Error Addr|MC\d{1,3}_ADDR): ?0x([0-9a-f]{1,16})")
_VALUE = Pattern(r"\b(PPIN|IPID|Syndrome): ?0x([0-9a-f]{1,16})")
_UNIT = Pattern(r"(.{1,80}?) Ext\. Error Code: ?(\d{1,3})(?:, (.*))?")
_OLD_UNIT = Pattern(r"MC(\d{1,2}) Error(?: \(node (\d{1,4})\))?:? ?(.*)")
_CACHE = Pattern(r"cache level: ")
_FRU = Pattern(r"FRU Text: (.*)")
_SEVERITIES: dict[str, Severity] = {
    "System Fatal error": "fatal",
    "Uncorrected, software restartable error": "recoverable",
    "Uncorrected, software containable error": "recoverable",
    "Uncorrected error": "recoverable",
    "Deferred error": "deferred",
    "Corrected error": "corrected",
}
# Banks whose address is that of the memory which the CPU wanted.
_ADDRESSED = ("Load Store", "Instruction Fetch", "L2 Cache", "L3 Cache", "Decode", "Execution")
_MEMORY_WORDS = ("DRAM ECC error", "DRAM", "ECC error", "Write data poison")
_MAX_LINES = 16


# What each kind of line holds, and how it begins.
_KINDS = (
    ("status", "_STATUS", _STATUS),
    ("severity", "rror", _SEVERITY),
    ("address", ": ", _ADDRESS),
    ("unit", "Ext. Error Code", _UNIT),
    ("old-unit", "MC", _OLD_UNIT),
    ("cache", "cache level", _CACHE),
    ("fru", "FRU Text", _FRU),
    ("value", ": ", _VALUE),
)
_OPENING = ("severity", "status", "old-unit")


class _Open:
    """A decode whose lines still come, with the first match of each kind."""

    def __init__(self) -> None:
        self.lines: list[LogRecord] = []
        self.seen: dict[str, re.Match[str]] = {}


def decode(log: Iterable[LogRecord]) -> tuple[HardwareError, ...]:
    """Every decode of a machine check, oldest first."""
    found: list[_Open] = []
    now: _Open | None = None
    for record in log:
        text = record.text
        if "mce: [" in text or "}[" in text or "EDAC MC" in text[:9]:
            continue
        body = _BODY.search(text)
        if body is None:
            continue
        kind, match = _kind(body[1])
        if kind is None or match is None:
            continue
        opens = kind in _OPENING
        if now is None or (opens and kind in now.seen) or len(now.lines) >= _MAX_LINES:
            if not opens:
                continue
            now = _Open()
            found.append(now)
        elif kind in now.seen and kind != "value":
            continue
        now.seen.setdefault(kind, match)
        now.lines.append(record)
    return tuple(_from_lines(item) for item in found if "status" in item.seen)


def _kind(text: str) -> tuple[str | None, re.Match[str] | None]:
    for kind, mark, pattern in _KINDS:
        if mark in text and (match := pattern.match(text)):
            return kind, match
    return None, None


def _from_lines(group: _Open) -> HardwareError:
    lines, seen = group.lines, group.seen
    text = "\n".join([record.text for record in lines])
    first = seen["status"]
    status, bank = int(first[7], 16), int(first[5])
    values = {name: int(value, 16) for name, value in _VALUE.findall(text)}
    address = _ADDRESS.search(text)
    words, unit, old = seen.get("severity"), seen.get("unit"), seen.get("old-unit")
    fru = _FRU.search(text)
    ipid = values.get("IPID")
    name = unit[1].strip() if unit else None
    said = (unit[3] if unit else old[3] if old else None) or ""
    said = said.strip().rstrip(".") or None
    memory = _is_memory(status, bank, ipid, name, said, old is not None)
    normalized = is_umc(ipid) or (name is not None and "Memory Controller" in name)
    addressed = (
        (old is not None or int(first[2], 16) < 0x17)
        if name is None
        else name.startswith(_ADDRESSED)
    )
    physical = address is not None and addressed and not normalized
    record = HardwareError(
        source="mce",
        medium="log",
        time=lines[0].time,
        severity=_SEVERITIES[words[1]] if words else _by_bits(status),
        error_type=said or (f"{name}, extended code {unit[2]}" if unit else error_words(status)),
        is_memory=memory,
        physical_address=f"{int(address[1], 16):#x}" if physical and address else None,
        mce=MceRegisters(
            cpu=int(first[1]),
            bank=bank,
            status=f"{status:#x}",
            addr=f"{int(address[1], 16):#x}" if address else None,
            ipid=_hexed(ipid),
            synd=_hexed(values.get("Syndrome")),
            ppin=_hexed(values.get("PPIN")),
            vendor="AMD",
            mcacod=f"{status & 0xFFFF:#06x}",
            mscod=f"{status >> 16 & 0xFFFF:#06x}",
            flags=flags(status, VENDOR_AMD),
            error_class=error_class(status, VENDOR_AMD),
            family=f"0x{first[2]}",
            model=f"0x{first[3]}",
            stepping=f"0x{first[4]}",
            unit=name or (f"MC{old[1]}" if old else None),
            extended_code=int(unit[2]) if unit else None,
            description=said,
            address_kind=None
            if address is None
            else "normalized"
            if normalized
            else "physical"
            if addressed
            else None,
        ),
        raw=tuple(record.text for record in lines),
    )
    if old is not None and old[2]:
        from mftriage.model import Location

        record = replace(record, location=Location(node=int(old[2])))
    if fru is not None and fru[1].strip():
        from mftriage.model import RecordDimm

        record = replace(record, dimm=RecordDimm(label=fru[1].strip(), how="fru-text"))
    return record


def _is_memory(
    status: int, bank: int, ipid: int | None, unit: str | None, said: str | None, old: bool
) -> bool | None:
    if is_umc(ipid) or (unit is not None and "Memory Controller" in unit):
        return True
    if old:
        return bank == 4 and said is not None and "DRAM" in said
    if status >> 43 & 1:  # poisoned data was consumed
        return True
    return None if unit is None and ipid is None else False


def _by_bits(status: int) -> Severity:
    """mce_amd.c, decode_error_status, of a decode whose first line is lost."""
    if status >> 61 & 1:
        return "fatal" if status >> 57 & 1 else "recoverable"
    return "deferred" if status >> 44 & 1 else "corrected"


def _hexed(value: int | None) -> str | None:
    return f"{value:#x}" if value else None
