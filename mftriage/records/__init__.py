"""Hardware-error records out of the log.  A new record format is one new file, named here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mftriage.log import LogRecord
from mftriage.model import HardwareError
from mftriage.records.ghes import ghes_records
from mftriage.records.mce import mce_records

Decoder = Callable[[Iterable[LogRecord]], tuple[HardwareError, ...]]

DECODERS: dict[str, Decoder] = {"ghes": ghes_records, "mce": mce_records}


def log_records(
    log: Sequence[LogRecord],
) -> tuple[list[HardwareError], list[tuple[str, Exception]]]:
    """What every decoder finds in the log, and which decoders failed on it.

    A decoder that fails never loses the others' records.
    """
    found: list[HardwareError] = []
    failed: list[tuple[str, Exception]] = []
    for name, decode in DECODERS.items():
        try:
            found += decode(log)
        except Exception as error:
            failed.append((name, error))
    found.sort(key=lambda record: record.time if record.time is not None else -1.0)
    return found, failed
