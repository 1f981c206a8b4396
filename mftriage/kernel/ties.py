"""Addresses of a crash that lie in a given page: what can tie a later crash to an earlier failure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from drgn import FaultError

from mftriage.facts import Tie
from mftriage.kernel.direct_map import to_virtual
from mftriage.log import LogRecord
from mftriage.model import HardwareError, Panic
from mftriage.records.crash import crash_addresses
from mftriage.symbols import Kernel


def crash_ties(
    kernel: Kernel,
    log: Sequence[LogRecord],
    panic: Panic,
    records: Sequence[HardwareError],
    pfns: Iterable[int],
) -> tuple[Tie, ...]:
    """Ties of the crash to the pages ``pfns``, the closest first.

    Raises ``LookupError`` or ``FaultError`` where the direct map's base can't be read, and no
    physical address ties them.
    """
    size = kernel.dump.page_size
    wanted = set(pfns)
    ties: list[Tie] = []
    for record in records:
        if record.time is not None and panic.time is not None and panic.time - record.time > 1.0:
            continue
        if record.physical_address is None or record.severity == "corrected":
            continue
        address = int(record.physical_address, 16)
        if record.mce and record.mce.mcgstatus and address // size in wanted:
            ties.append(Tie(address // size, "the machine check's address", address))
    try:
        pages = {pfn: to_virtual(kernel, pfn * size) for pfn in wanted}
    except (LookupError, FaultError):
        if ties:
            return tuple(ties)
        raise
    held = crash_addresses(log, panic)
    bits = _significant_bits(kernel)
    for where, address in held:
        for pfn, start in pages.items():
            if start <= address < start + size:
                ties.append(Tie(pfn, where, address))
    for where, address in held:
        for pfn, start in pages.items():
            if (bit := _flipped(address, start, size)) is not None and not _canonical(
                address, bits
            ):
                ties.append(Tie(pfn, where, address, bit))
    return tuple(ties)


def _significant_bits(kernel: Kernel) -> int:
    """The number of low bits of an address that are not all copies of one."""
    info = kernel.dump.vmcoreinfo
    if kernel.dump.arch == "arm64":
        return info.number("VA_BITS") or 48
    return 56 if info.number("pgtable_l5_enabled") else 47


def _canonical(address: int, bits: int) -> bool:
    """Whether the CPU takes it for an address at all.

    One that is, is a place of its own: in the direct map each page has a dozen neighbours that
    are one bit away, and a register that holds one of those says nothing of the page.
    """
    return address >> bits in (0, (1 << 64 - bits) - 1)


def _flipped(address: int, start: int, size: int) -> int | None:
    """The one bit above the page's that, flipped back, puts ``address`` into the page."""
    difference = (address ^ start) & ~(size - 1)
    if difference and difference & (difference - 1) == 0:
        return difference.bit_length() - 1
    return None
