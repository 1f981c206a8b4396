"""The corrected-errors collector: a page that had so many corrected errors that it is retired.

drivers/ras/cec.c, cec_add_elem: "RAS: Soft-offlining pfn: 0x...".  Nothing was corrupted.
"""

from __future__ import annotations

from collections.abc import Iterable

from mftriage.log import LogRecord
from mftriage.model import HardwareError
from mftriage.pattern import Pattern

MARKERS = ("Soft-offlining pfn",)

_LINE = Pattern(r"Soft-offlining pfn: ?0x([0-9a-f]{1,13})\b")  # of 52 bits
_PAGE = 4096  # cec.c is built on x86 alone
_MASK = "0xfffffffffffff000"


def decode(log: Iterable[LogRecord]) -> tuple[HardwareError, ...]:
    """Every page that the collector retired, oldest first."""
    found = ((record, _LINE.search(record.text)) for record in log)
    return tuple(
        HardwareError(
            source="cec",
            medium="log",
            time=record.time,
            severity="corrected",
            error_type="too many corrected errors in one page, which is retired",
            is_memory=True,
            physical_address=f"{int(match[1], 16) * _PAGE:#x}",
            physical_address_mask=_MASK,
            raw=(record.text,),
        )
        for record, match in found
        if match is not None
    )
