"""Machine checks as the Intel EDAC drivers repeat them, line by line.

drivers/edac/skx_common.c, skx_mce_check_error ("EDAC skx MC3: ..."; i10nm prints "skx" too),
sb_edac.c and pnd2_edac.c: HANDLING MCE MEMORY ERROR, then CPU, bank and STATUS; TSC; ADDR; MISC;
PROCESSOR.  The middle ones have no line end, so that they come glued together.
"""

from __future__ import annotations

from collections.abc import Iterable

from mftriage.log import LogRecord
from mftriage.model import HardwareError
from mftriage.pattern import Pattern
from mftriage.records.mce import from_registers

MARKERS = ("EDAC ",)

_LINE = Pattern(r"EDAC ([A-Za-z]\w{0,20}) MC(\d{1,9}): (.*)")
_FIRST = Pattern(
    r"CPU (\d{1,9}): Machine Check (?:Event|Exception): (?:0x)?([0-9a-f]{1,16}) Bank (\d{1,9}): (?:0x)?([0-9a-f]{1,16})\b"
)
_PAIR = Pattern(r"\b(TSC|ADDR|MISC) (?:0x)?([0-9a-f]{1,16})\b")
_PROCESSOR = Pattern(
    r"PROCESSOR (\d{1,9}):(?:0x)?([0-9a-f]{1,16}) TIME (\d{1,18}) SOCKET (\d{1,9}) APIC (?:0x)?([0-9a-f]{1,16})"
)
_MAX_LINES = 10


def decode(log: Iterable[LogRecord]) -> tuple[HardwareError, ...]:
    """Every machine check that an EDAC driver repeated, oldest first."""
    groups: list[list[LogRecord]] = []
    now: dict[str, list[LogRecord]] = {}  # by the controller, since CPUs print at once
    for record in log:
        line = _LINE.search(record.text)
        if line is None:
            continue
        if _FIRST.match(line[3]):
            now[line[2]] = [record]
            groups.append(now[line[2]])
        elif (
            line[2] in now
            and len(now[line[2]]) < _MAX_LINES
            and line[3].startswith(("TSC", "ADDR", "MISC", "PROCESSOR"))
        ):
            now[line[2]].append(record)
    return tuple(_from_lines(group) for group in groups)


def _from_lines(group: list[LogRecord]) -> HardwareError:
    text = "\n".join(record.text for record in group)
    first = _FIRST.search(text)
    assert first is not None
    pairs = {name: int(value, 16) for name, value in _PAIR.findall(text[first.end() :])}
    processor = _PROCESSOR.search(text)
    return from_registers(
        medium="log",
        time=group[0].time,
        cpu=int(first[1]),
        mcgstatus=int(first[2], 16),
        bank=int(first[3]),
        status=int(first[4], 16),
        addr=pairs.get("ADDR"),
        misc=pairs.get("MISC", 0),
        tsc=pairs.get("TSC"),
        vendor=int(processor[1]) if processor else 0,
        cpuid=int(processor[2], 16) if processor else None,
        wall=int(processor[3]) if processor else None,
        socket=int(processor[4]) if processor else None,
        apic=int(processor[5], 16) if processor else None,
        raw=tuple(record.text for record in group),
    )
