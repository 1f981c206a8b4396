"""The size of a page, which a log seldom says: worked out from what it does say.

A wrong guess would name a wrong page, so that there is none without proof.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mftriage.log import LogRecord
from mftriage.model import HardwareError, MemoryFailure, hexed
from mftriage.pattern import Pattern

_SAMPLE = 5000  # records
_SIZES = (4096, 16384, 65536)
# arch/arm64/mm/fault.c, show_pte: "swapper pgtable: 64k pages, 48-bit VAs"
_SAID = Pattern(r"pgtable: (4|16|64)k pages")
# Each alternative begins with a letter of its own: such an expression skips what none begins with.
_LINES = re.ASCII | re.MULTILINE
_ARCHES = (
    (
        "x86_64",
        Pattern(
            r"mce: |RIP: [0-9a-f]{4}:|R[A-D]X: [0-9a-f]{16}\b|<TASK>|</TASK>|BIOS-e820|EDAC (?:skx|i10nm|sbridge|amd64|igen6|ie31200) |MC\d+_STATUS\[|x86\b(?<!\wx86)|"
            r"PROCESSOR \d+:[0-9a-f]+ TIME|CMCI\b|Linux version .*(?:x86_64|amd64)|PGD [0-9a-f]+ P[4U]D"
        ),
    ),
    (
        "arm64",
        Pattern(
            r"x29: ?[0-9a-f]{16}|pc : (?<!\wpc : )|synchronous (?:external abort|parity)|SError Interrupt|Linux version .*(?:aarch64|arm64)|"
            r"Booting Linux on physical CPU|ESR = 0x|pstate: [0-9a-f]+|ARM processor error|MPIDR\b"
        ),
    ),
    ("ppc64", Pattern(r"^NIP:? |\bGPR\d\d: |\bNIP \[c0|powerpc|ppc64", _LINES)),
    ("s390x", Pattern(r"Krnl PSW|Krnl GPRS|s390x")),
)


def arch_of(log: Sequence[LogRecord]) -> str | None:
    """The architecture whose kernel writes such lines; the start and the end of a log are enough."""
    for part in (log[:_SAMPLE], log[_SAMPLE:][-_SAMPLE:]):
        text = "\n".join([record.text for record in part])
        found = [(m.start(), name) for name, known in _ARCHES if (m := known.search(text))]
        if found:
            return min(found)[1]
    return None


def page_size_of(
    log: Iterable[LogRecord],
    arch: str | None,
    errors: Sequence[HardwareError],
    failures: Sequence[MemoryFailure],
) -> int | None:
    """Bytes of a page: 4 KiB on x86; else as the log says, or as its pfns and addresses prove."""
    if arch in ("x86_64", "s390x"):
        return 4096
    for record in log:
        if "pgtable:" in record.text and (match := _SAID.search(record.text)):
            return int(match[1]) << 10
    fitting = set(_SIZES)
    addresses = {
        int(error.physical_address, 16) for error in errors if error.physical_address is not None
    }
    for error in errors:
        edac = error.edac
        if edac is not None and edac.page is not None and edac.offset is not None:
            page, offset = int(edac.page, 16), int(edac.offset, 16)
            fit = {size for size in _SIZES if offset < size}
            near = {size for size in fit if page * size + offset in addresses}
            fitting &= near or fit
    for event in failures:
        pfn = int(event.pfn, 16)
        near = {size for size in _SIZES if any(address // size == pfn for address in addresses)}
        fitting &= near or fitting
    return fitting.pop() if len(fitting) == 1 else None


def addressed(error: HardwareError, size: int | None) -> HardwareError:
    """The record with EDAC's page and offset as an address, where the size of a page is known."""
    edac = error.edac
    if error.physical_address is not None or edac is None or edac.page is None or size is None:
        return error
    address = int(edac.page, 16) * size + int(edac.offset or "0", 16)
    return replace(error, physical_address=hexed(address)) if address < 1 << 64 else error
