"""Every page with PG_hwpoison: the log's pfns first, then the memory map itself, within a time budget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from drgn import FaultError

from mftriage.kernel.memmap import MemoryMap, Span
from mftriage.kernel.search import Budget, is_number, search
from mftriage.symbols import Kernel

_CHUNK = 2 << 20  # bytes of memory map a read
_MAX_FOUND = 4096
_STOPPED = ("found", "time", None)
MAX_PAGES = 64  # pages that a report describes in full
_ADDRESS = (1 << 64) - 1


@dataclass(frozen=True)
class Poisoned:
    """The poisoned pages found, and whether the whole memory map was looked at.

    ``stopped`` says why the scan ended early: "found" (as many as the kernel counts), "time", or
    ``None`` when it did not.
    """

    pfns: tuple[int, ...]
    stopped: str | None


def num_poisoned_pages(kernel: Kernel) -> int | None:
    """num_poisoned_pages of mm/memory-failure.c: pages whose failure was handled, ignored ones included."""
    address = kernel.address("num_poisoned_pages")
    if address is None:
        return None
    try:
        value = kernel.program.read_u64(address)
    except FaultError:
        return None
    return value if value < 1 << 40 else None


def find_poisoned(
    kernel: Kernel, memory_map: MemoryMap, known: Iterable[int], seconds: float
) -> Poisoned:
    """Poisoned pages: ``known`` pfns first; the scan ends when the kernel's own count is reached.

    That count can be too low (PG_hwpoison is also set by a machine-check panic and by soft
    offlining), so a dump in which it is zero is scanned whole.
    """
    count = num_poisoned_pages(kernel)

    def run() -> list[Any]:
        found = [pfn for pfn in sorted(set(known)) if _is_poisoned(memory_map, pfn)]
        if count and len(found) >= count:
            return [found, "found"]
        budget = Budget(seconds)
        seen = set(found)
        for span in memory_map.spans():
            for pfn in _scan(kernel, memory_map, span, budget):
                if pfn not in seen and len(seen) < _MAX_FOUND:
                    seen.add(pfn)
                    found.append(pfn)
            if count and len(found) >= count:
                return [sorted(found), "found"]
            if budget.spent():
                return [sorted(found), "time"]
        return [sorted(found), None]

    def check(claim: list[Any]) -> bool:
        pfns, stopped = claim
        sane = isinstance(pfns, list) and len(pfns) <= 2 * _MAX_FOUND and len({*pfns}) == len(pfns)
        return sane and all(is_number(p, 1 << 52) for p in pfns) and stopped in _STOPPED

    known = list(known)
    pfns, stopped = search(kernel.dump, "poisoned", run, check) or [[], "time"]
    if kernel.dump.sidecar.is_capsule:
        pfns = _proven(memory_map, known, pfns)
    return Poisoned(tuple(pfns), stopped)


def _proven(memory_map: MemoryMap, known: list[int], claimed: list[int]) -> list[int]:
    """Those of a capsule's poisoned pages whose flag can be seen.

    A capsule has the struct pages of those that the report describes; the others it can only name.
    """
    described = set(list(dict.fromkeys([*known, *claimed]))[:MAX_PAGES])
    flags = {pfn: _is_poisoned(memory_map, pfn) for pfn in claimed}
    return [p for p in claimed if flags[p] or (flags[p] is None and p not in described)]


def _is_poisoned(memory_map: MemoryMap, pfn: int) -> bool | None:
    """PG_hwpoison; ``None`` where the struct page is not in the dump."""
    try:
        page = memory_map.read(pfn)
    except FaultError:
        return None
    return page is not None and memory_map.is_poisoned(page)


def _scan(kernel: Kernel, memory_map: MemoryMap, span: Span, budget: Budget) -> list[int]:
    found: list[int] = []
    per_chunk = _CHUNK // memory_map.struct_size
    for first in range(0, span.pages, per_chunk):
        if budget.spent():
            break
        count = min(per_chunk, span.pages - first)
        found += _scan_piece(
            kernel,
            memory_map,
            span.pfn + first,
            count,
            span.address + first * memory_map.struct_size,
        )
    return found


def _scan_piece(
    kernel: Kernel, memory_map: MemoryMap, pfn: int, count: int, address: int
) -> list[int]:
    """Scan one read; where part of it is missing (holes of the map, excluded pages), halve it."""
    try:
        raw = kernel.program.read(address & _ADDRESS, count * memory_map.struct_size)
    except FaultError:
        if count * memory_map.struct_size <= 4096:
            return []
        half = count // 2
        return _scan_piece(kernel, memory_map, pfn, half, address) + _scan_piece(
            kernel, memory_map, pfn + half, count - half, address + half * memory_map.struct_size
        )
    return memory_map.poisoned_in(raw, pfn)
