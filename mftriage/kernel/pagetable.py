"""Page tables the other way round: which virtual address maps a page, and which tables a table hangs in.

Reads are not recorded (a search that misses proves nothing); callers keep what was found with
``Searches``.  x86_64: SDM vol. 3A, 5.5; arm64: Arm ARM, D8.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from drgn import FaultError

from mftriage.kernel.search import Budget
from mftriage.symbols import Kernel

_LEVEL_NAMES = ("pte", "pmd", "pud", "p4d", "pgd")
_CANONICAL = 1 << 64


class Geometry(NamedTuple):
    """How this kernel's tables are built: bits of an index, levels, and where the page offset ends."""

    arm64: bool
    page_shift: int
    index_bits: int
    levels: int
    va_bits: int
    address_mask: int


class Table(NamedTuple):
    """A table met on a walk: its pfn, its level (0: its entries map pages), and the first address below it."""

    pfn: int
    level: int
    address: int
    entries: memoryview


def geometry(kernel: Kernel) -> Geometry:
    """The layout of this kernel's page tables, by VMCOREINFO."""
    info = kernel.dump.vmcoreinfo
    shift = kernel.dump.page_size.bit_length() - 1
    bits = shift - 3
    if kernel.dump.arch == "arm64":
        t1sz = info.number("TCR_EL1_T1SZ")
        va_bits = 64 - t1sz if t1sz else info.number("VA_BITS") or 48
        if shift == 16:  # with 64K pages the table has room for all of VA_BITS, whatever is in use
            va_bits = max(va_bits, info.number("VA_BITS") or va_bits)
        levels = -((shift - va_bits) // bits)
        return Geometry(True, shift, bits, levels, va_bits, (1 << 48) - (1 << shift))
    levels = 5 if info.number("pgtable_l5_enabled") else 4
    mask = (1 << 52) - (1 << shift) & ~(info.number("sme_mask") or 0)
    return Geometry(False, shift, bits, levels, shift + bits * levels, mask)


def kernel_root(kernel: Kernel) -> int | None:
    """The physical address of the kernel's own top table (swapper_pg_dir)."""
    root = kernel.dump.vmcoreinfo.symbol("swapper_pg_dir")
    offset = kernel.dump.image_offset
    return None if root is None or offset is None else root - offset & _CANONICAL - 1


def walk(
    kernel: Kernel, root: int, start: int, end: int, budget: Budget, leaf_level: int = 0
) -> Iterator[Table]:
    """Every table below ``root`` that covers addresses in [``start``, ``end``), down to ``leaf_level``."""
    shape = geometry(kernel)
    top = shape.levels - 1
    # the kernel's half is sign-extended: as if the top table ended at 2**64
    base = _CANONICAL - (1 << shape.va_bits) if start >> 63 else 0
    yield from _walk(
        kernel, shape, root >> shape.page_shift, top, base, start, end, budget, leaf_level
    )


def _walk(
    kernel: Kernel,
    shape: Geometry,
    pfn: int,
    level: int,
    base: int,
    start: int,
    end: int,
    budget: Budget,
    leaf_level: int,
) -> Iterator[Table]:
    if budget.spent():
        return
    try:
        entries = memoryview(kernel.dump.memory.page(pfn)).cast("Q")
    except FaultError:
        return
    step = 1 << shape.page_shift + shape.index_bits * level
    yield Table(pfn, level, base, entries)
    if level <= leaf_level:
        return
    count = len(entries)
    if level == shape.levels - 1:
        count = min(count, 1 << shape.va_bits - shape.page_shift - shape.index_bits * level)
    first = max(0, (start - base) // step) if start > base else 0
    last = min(count, (end - 1 - base) // step + 1)
    for index in range(first, last):
        entry = entries[index]
        if is_table(shape, entry, level):
            below = (entry & shape.address_mask) >> shape.page_shift
            yield from _walk(
                kernel, shape, below, level - 1, base + index * step, start, end, budget, leaf_level
            )


def is_table(shape: Geometry, entry: int, level: int) -> bool:
    """Whether an entry at ``level`` points at a table (not at a page or block)."""
    if level == 0 or not entry & 1:
        return False
    if shape.arm64:
        return bool(entry & 2)
    return not entry & 0x80 or level > 2  # PSE


def mapped_pfn(shape: Geometry, entry: int, level: int) -> int | None:
    """The first pfn that an entry maps, if it maps any."""
    if not entry & 1 or is_table(shape, entry, level):
        return None
    return (entry & shape.address_mask) >> shape.page_shift


def level_name(kernel: Kernel, level: int) -> str:
    """The kernel's name for a table at ``level``: the top one is always the pgd."""
    levels = geometry(kernel).levels
    if level == levels - 1:
        return "pgd"
    return _LEVEL_NAMES[level]


def windows(kernel: Kernel) -> list[tuple[int, int]]:
    """The address ranges in which kernel memory is mapped page by page: vmalloc and modules."""
    info = kernel.dump.vmcoreinfo
    start = info.number("VMALLOC_START")
    if start is None:
        return []
    if kernel.dump.arch == "arm64":
        end = info.number("VMALLOC_END")
        modules = info.number("MODULES_VADDR"), info.number("MODULES_END")
        found = [(start, end)] if end else []
        if modules[0] and modules[1]:
            found.append((modules[0], modules[1]))
        return found
    # asm/pgtable_64_types.h: VMALLOC_SIZE_TB is 32, with five levels 12800
    size = (12800 if info.number("pgtable_l5_enabled") else 32) << 40
    modules_start = 0xFFFFFFFF80000000 + (info.number("KERNEL_IMAGE_SIZE") or 1 << 30)
    return [(start, start + size), (modules_start, 0xFFFFFFFFFF000000)]


def vmemmap_window(kernel: Kernel) -> tuple[int, int] | None:
    """The address range of the memory map, where it is virtually contiguous."""
    start = kernel.dump.vmcoreinfo.symbol("vmemmap")
    size = kernel.dump.vmcoreinfo.size("page")
    if start is None or size is None:
        return None
    # On arm64 the symbol stands for pfn 0, which lies below the range that is mapped.
    bits = kernel.dump.vmcoreinfo.number("MAX_PHYSMEM_BITS") or 46
    shift = kernel.dump.page_size.bit_length() - 1
    return start, min(start + (size << bits - shift), _CANONICAL)


def find_mapping(kernel: Kernel, pfn: int, budget: Budget) -> int | None:
    """The virtual address in vmalloc or module space that maps ``pfn``, or ``None``."""
    return find_mapping_in(kernel, pfn, windows(kernel), budget)


def find_mapping_in(
    kernel: Kernel, pfn: int, ranges: list[tuple[int, int]], budget: Budget
) -> int | None:
    """The virtual address in one of ``ranges`` that maps ``pfn``, or ``None``."""
    root = kernel_root(kernel)
    if root is None:
        return None
    shape = geometry(kernel)
    for start, end in ranges:
        for table in walk(kernel, root, start, end, budget):
            span = 1 << shape.index_bits * table.level
            step = span << shape.page_shift
            for index, entry in enumerate(table.entries):
                if not entry & 1:
                    continue
                first = mapped_pfn(shape, entry, table.level)
                if first is not None and first <= pfn < first + span:
                    address = table.address + index * step + (pfn - first << shape.page_shift)
                    if start <= address < end:
                        return address
    return None


def find_parent(
    kernel: Kernel, root: int, pfn: int, budget: Budget, *, user: bool
) -> tuple[int, int] | None:
    """Where the table ``pfn`` hangs below ``root``: its level and the first address that it maps."""
    shape = geometry(kernel)
    top = shape.levels - 1
    if root >> shape.page_shift == pfn:
        return top, 0
    half = 1 << (shape.va_bits if shape.arm64 else shape.va_bits - 1)
    start, end = (0, half) if user else (_CANONICAL - half, _CANONICAL)
    for table in walk(kernel, root, start, end, budget, leaf_level=1):
        step = 1 << shape.page_shift + shape.index_bits * table.level
        for index, entry in enumerate(table.entries):
            if (
                is_table(shape, entry, table.level)
                and (entry & shape.address_mask) >> shape.page_shift == pfn
            ):
                return table.level - 1, table.address + index * step
    return None
