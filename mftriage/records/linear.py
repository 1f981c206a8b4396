"""Addresses of a crash in the kernel's linear map, tied to a page by the log alone.

The map's base is random, but only by whole gibibytes (512 MiB for arm64 with 64 KiB pages): an
address whose low bits are those of a bad page most likely lies in it.  arm64: ARM64_MEMSTART_ALIGN
(arch/arm64/mm/init.c); x86: kernel_randomize_memory (arch/x86/mm/kaslr.c), PUD_SIZE.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mftriage.facts import Tie, TieKind
from mftriage.model import HardwareError
from mftriage.records.faults import ORDER, Held

_GIB = 1 << 30
# The linear map's bounds: arm64 with 39, 48 and 52 bits (asm/memory.h, PAGE_OFFSET to PAGE_END).
_ARM64 = tuple(((1 << 64) - (1 << bits), (1 << 64) - (1 << bits - 1)) for bits in (39, 48, 52))
# x86_64 with four and with five levels (Documentation/arch/x86/x86_64/mm.rst), and before 4.20
_X86_64 = (
    (0xFFFF888000000000, 0xFFFFC88000000000),
    (0xFF11000000000000, 0xFF91000000000000),
    (0xFFFF880000000000, 0xFFFF888000000000),
)
_MAX_PAGES = 256
_X86_64_SIGN = range(47, 64)  # bits that an address has alike: one that differs makes it none


def log_ties(
    held: Iterable[Held],
    pfns: Sequence[int],
    page_size: int,
    arch: str | None,
    records: Sequence[HardwareError],
) -> tuple[Tie, ...]:
    """Ties of the addresses ``held`` to the pages ``pfns``, the closest and those in a record's very cache line first."""
    ranges = {"arm64": _ARM64, "x86_64": _X86_64}.get(arch or "", ())
    align = _GIB // 2 if page_size == 65536 else _GIB
    wanted = {pfn * page_size % align: pfn for pfn in pfns[-_MAX_PAGES:]}
    lines = {
        int(record.physical_address, 16) % align // 64
        for record in records
        if record.physical_address is not None
    }
    found: list[tuple[int, bool, Tie]] = []
    for how, where, shown in held:
        placed = _placed(shown, how, arch, ranges)
        if placed is None:
            continue
        base, address, bit = placed
        offset = address - base
        pfn = wanted.get(offset % align // page_size * page_size)
        if pfn is None:
            continue
        start = pfn * page_size - offset // page_size * page_size
        if arch == "arm64":
            provided = f"memory begins at {start:#x}" if start >= 0 else "its map is randomized"
        else:
            provided = (
                f"the direct map begins at {address - offset % page_size - pfn * page_size:#x}"
            )
        tie = Tie(pfn, where, shown, bit, provided, how)
        found.append((ORDER.index(how), offset % align // 64 not in lines, tie))
    return tuple(tie for _, _, tie in sorted(found, key=lambda item: item[:2]))


def _placed(
    address: int, how: TieKind, arch: str | None, ranges: Sequence[tuple[int, int]]
) -> tuple[int, int, int | None] | None:
    """The map's lowest start, the address in it, and the bit that had to be flipped back for that.

    Only the address that faulted may have such a bit: that it is none at all is what it faulted for.
    """
    bits: list[int | None] = [None]
    if arch == "x86_64" and how == "access" and address >> 47 not in (0, (1 << 17) - 1):
        bits += _X86_64_SIGN
    for bit in bits:
        meant = address if bit is None else address ^ 1 << bit
        for low, high in ranges:
            if low <= meant < high:
                return low, meant, bit
    return None
