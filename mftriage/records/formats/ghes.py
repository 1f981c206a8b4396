"""APEI GHES: errors that firmware reported while the kernel ran.

drivers/acpi/apei/ghes.c, __ghes_print_estatus: every line carries ``{N}[Hardware Error]: ``
with the event's number.  Pasted logs lose it, and the colon.
"""

from __future__ import annotations

from collections.abc import Iterable

from mftriage.log import LogRecord
from mftriage.model import HardwareError
from mftriage.pattern import Pattern
from mftriage.records.cper import Event, begins, decode_event, looks_like
from mftriage.records.formats.bert import region

MARKERS = ("[Hardware Error]", "BERT: ")

_LINE = Pattern(r"(?:\{(\d{1,10})\})?\[Hardware Error\]:?\s*(.*)")


def decode(log: Iterable[LogRecord]) -> tuple[HardwareError, ...]:
    """Every section of every GHES event, oldest first."""
    events: list[Event] = []
    numbered: dict[int, Event] = {}
    loose: Event | None = None  # lines that have lost their number
    for record, of_bert in region(log):
        if "mce: [" in record.text and "}[" not in record.text:
            continue
        match = _LINE.search(record.text)
        if match is None:
            continue
        number, text = match[1], match[2]
        if number is not None:
            event = numbered.get(int(number))
            if event is None or (event.headed and begins(text)):
                event = numbered[int(number)] = Event(int(number))
                events.append(event)
            event.add(record, text)
        elif not of_bert:
            if loose is not None and loose.is_over(text):
                loose = None
            if not (looks_like(text) or (loose is not None and _goes_with(loose, record, text))):
                loose = None
                continue
            if loose is None:
                loose = Event()
                events.append(loose)
            loose.add(record, text)
    return tuple(error for event in events for error in decode_event(event, "ghes"))


def _goes_with(event: Event, record: LogRecord, text: str) -> bool:
    """Whether a line that says nothing of its own belongs to the record before it (a PCIe or ARM section)."""
    first = event.lines[0][0]
    near = record.time is None or first.time is None or abs(record.time - first.time) < 2
    return near and not text.startswith(_NOT_CPER) and len(event.lines) > 1


_NOT_CPER = (
    *("CPU", "RIP", "TSC", "PROCESSOR", "Run the above", "Machine check", "Corrected error"),
    *("Deferred error", "Uncorrected", "System Fatal", "Error Addr", "IPID", "PPIN", "MC"),
    *("cache level", "Error Status", "Unified Memory", "GHES:", "Skipped"),
)
