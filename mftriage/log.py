"""The kernel log as records, whichever way it came: the printk ring of a dump, or a text file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mftriage.text import clean

_MAX_LINE = 4096

# What stands in front of a message in a saved log: <N> syslog level, [time], [caller].
_PREFIX = re.compile(
    r"^(?:<(?P<level>[0-9]{1,4})>)?\[\s*(?P<time>[0-9]{1,12}\.[0-9]{1,9})\]\s?(?:\[\s*[TC]\d+\]\s?)?(?P<text>.*)$"
)


@dataclass(frozen=True)
class LogRecord:
    """One printk record.

    ``time`` is seconds since boot, ``level`` the syslog level (0 to 7, ``None`` if unknown);
    ``text`` is one line, cleaned of control characters.
    """

    time: float | None
    level: int | None
    text: str


def lines_of(text: str, time: float | None, level: int | None) -> list[LogRecord]:
    """A record for every line of a printk message."""
    return [LogRecord(time, level, clean(line, _MAX_LINE)) for line in text.split("\n")]


def parse_text(lines: Iterable[str]) -> list[LogRecord]:
    """A saved kernel log (``vmcore-dmesg.txt``, ``dmesg``): a line without a time keeps the last one's."""
    records: list[LogRecord] = []
    time: float | None = None
    for line in lines:
        line = line.rstrip("\r\n")
        match = _PREFIX.match(line)
        if match:
            time = float(match["time"])
            level = int(match["level"]) & 7 if match["level"] else None
            records.append(LogRecord(time, level, clean(match["text"], _MAX_LINE)))
        elif line:
            records.append(LogRecord(time, None, clean(line, _MAX_LINE)))
    return records
