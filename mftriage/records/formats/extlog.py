"""Extended error log (eMCA): firmware's record of a corrected error that a machine check announced.

drivers/acpi/acpi_extlog.c, __print_extlog_rcd: "{N}Hardware error detected on CPUn", then the
record with ``{N}`` in front of each line, without "[Hardware Error]"; only while no program
listens to the events.
"""

from __future__ import annotations

from collections.abc import Iterable

from mftriage.log import LogRecord
from mftriage.model import HardwareError
from mftriage.pattern import Pattern
from mftriage.records.cper import Event, begins, decode_event

MARKERS = ("{",)
FOREIGN = "}[Hardware Error]"

_LINE = Pattern(r"(?:^|\s)\{(\d{1,10})\}(?!\[Hardware Error\])\s*(.*)")


def decode(log: Iterable[LogRecord]) -> tuple[HardwareError, ...]:
    """Every section of every extended-log record; lines before a first header are somebody else's."""
    events: list[Event] = []
    numbered: dict[int, Event] = {}
    for record in log:
        match = _LINE.match(record.text) or _LINE.search(record.text[:80])
        if match is None:
            continue
        number = int(match[1])
        if begins(match[2]):
            numbered[number] = Event(number)
            events.append(numbered[number])
        if number in numbered:
            numbered[number].add(record, match[2])
    return tuple(error for event in events for error in decode_event(event, "extlog"))
