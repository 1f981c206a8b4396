"""Hardware-error records out of the log.

A new record format is one new file in ``formats``, which is found by being there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import NamedTuple

from mftriage.log import LogRecord
from mftriage.model import HardwareError
from mftriage.pattern import Pattern
from mftriage.records import formats

Decoder = Callable[[Iterable[LogRecord]], tuple[HardwareError, ...]]


class Format(NamedTuple):
    """A record format: what makes its records, of lines that hold one of ``markers``, and not ``foreign``."""

    decode: Decoder
    markers: tuple[str, ...]
    foreign: str | None


def _found() -> dict[str, Format]:
    found = {}
    files = os.listdir(formats.__path__[0])  # pkgutil would take longer than all the rest
    for name in sorted(f[:-3] for f in files if f.endswith(".py") and not f.startswith("_")):
        module = import_module(f"{formats.__name__}.{name}")
        found[name.replace("_", "-")] = Format(
            module.decode, module.MARKERS, getattr(module, "FOREIGN", None)
        )
    return found


FORMATS: dict[str, Format] = _found()
DECODERS: dict[str, Decoder] = {name: entry.decode for name, entry in FORMATS.items()}
MARKERS = tuple(dict.fromkeys(m for entry in FORMATS.values() for m in entry.markers))


# What devices and boot loaders say stands in the log as it is, records of hardware that are none.
_QUOTE = Pattern(
    r"usb [\d.-]+: (?:Product|Manufacturer|SerialNumber): |(?:Kernel c|C)ommand line: "
)


def is_relevant(record: LogRecord) -> bool:
    """Whether some format may want the record."""
    text = record.text
    for mark in MARKERS:
        if mark in text:
            return text[:1] not in "uCK" or _QUOTE.match(text) is None
    return False


def _lines_for(entry: Format, log: Sequence[LogRecord], present: set[str]) -> list[LogRecord]:
    """The records of ``log`` that a format wants; ``present`` are the markers that it has at all."""
    found: list[LogRecord] = []
    marks = [mark for mark in entry.markers if mark in present]
    foreign = entry.foreign
    if not marks:
        return found
    for record in log:
        line = record.text
        for mark in marks:
            if mark in line:
                if foreign is None or foreign not in line:
                    found.append(record)
                break
    return found


def log_records(
    log: Sequence[LogRecord], *, sifted: bool = False
) -> tuple[list[HardwareError], list[tuple[str, Exception]]]:
    """What every decoder finds in the log, and which decoders failed on it.

    A decoder that fails never loses the others' records.  ``sifted`` says that every record of
    ``log`` is relevant.
    """
    found: list[HardwareError] = []
    failed: list[tuple[str, Exception]] = []
    relevant = log if sifted else [record for record in log if is_relevant(record)]
    text = "\n".join([record.text for record in relevant])
    present = {mark for mark in MARKERS if mark in text}
    for name, entry in FORMATS.items() if relevant else ():
        try:
            lines = _lines_for(entry, relevant, present)
            found += entry.decode(lines) if lines else ()
        except Exception as error:
            failed.append((name, error))
    # in the log's order, which a log without times has no other word for
    place: dict[tuple[float | None, str], int] = {}
    for at, record in enumerate(relevant):
        place.setdefault((record.time, record.text), at)
    found.sort(key=lambda error: place.get((error.time, error.raw[0]), 0) if error.raw else 0)
    return found, failed
