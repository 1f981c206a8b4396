"""BERT: what killed the boot before, as firmware kept it.

drivers/acpi/apei/bert.c, bert_print_all: "Error records from previous boot:" and lines with
``[Hardware Error]: `` but no number, up to "Total records found".  None of it is of this boot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mftriage.log import LogRecord
from mftriage.model import HardwareError
from mftriage.pattern import Pattern
from mftriage.records.cper import Event, begins, decode_event

MARKERS = ("[Hardware Error]", "BERT: ")
FOREIGN = "}[Hardware Error]"

_LINE = Pattern(r"(?<!\})\[Hardware Error\]:?\s*(.*)")
_SECONDS = 5.0  # that printing all records takes


def region(log: Iterable[LogRecord]) -> Iterator[tuple[LogRecord, bool]]:
    """The records of the log, each with whether BERT printed it."""
    inside, since = False, None
    for record in log:
        text = record.text
        if "BERT: " in text:
            inside = "Error records from previous boot" in text
            since = record.time
            continue
        if inside and (
            "}[Hardware Error]" in text
            or "mce: [" in text
            or begins(text)
            or (since is not None and record.time is not None and record.time - since > _SECONDS)
        ):
            inside = "}[Hardware Error]" in text and inside  # another source's line in between
        yield record, inside and "}[Hardware Error]" not in text


def decode(log: Iterable[LogRecord]) -> tuple[HardwareError, ...]:
    """Every section of every record of the boot before."""
    events: list[Event] = []
    for record, of_bert in region(log):
        match = _LINE.search(record.text) if of_bert else None
        if match is None or match[1].startswith("Skipped"):
            continue
        if not events or events[-1].is_over(match[1]):
            events.append(Event())
        events[-1].add(record, match[1])
    return tuple(e for event in events for e in decode_event(event, "bert", previous_boot=True))
