"""Which page a kernel address lies in: the direct map by arithmetic, all else by the page tables."""

from __future__ import annotations

from mftriage.kernel.direct_map import to_virtual
from mftriage.kernel.pagetable import Geometry, Table, geometry, kernel_root, mapped_pfn, walk
from mftriage.kernel.search import Budget, is_number, search
from mftriage.kernel.system import integer
from mftriage.symbols import Kernel

_MASK = (1 << 64) - 1
_PFNS = 1 << 52


class Translation:
    """Addresses of one kernel.

    Raises ``LookupError`` or ``FaultError`` where it is not known where the direct map is.
    """

    def __init__(self, kernel: Kernel, known: frozenset[int] = frozenset()) -> None:
        """``known`` are pages that exist, whatever the kernel's own count of them says."""
        self._kernel = kernel
        self._known = known
        self._size = kernel.dump.page_size
        self._first = to_virtual(kernel, 0)  # where pfn 0 would lie
        self._end = integer(kernel, "max_pfn", 8) or 0

    def direct(self, pfn: int) -> int:
        """The page's address in the direct map."""
        return self._first + pfn * self._size & _MASK

    def pfn_of(self, address: int) -> int | None:
        """The page that a kernel address lies in; ``None`` where nothing is mapped, or no table tells."""
        if not address >> 63 or not is_canonical(self._kernel, address):
            return None
        pfn = (address - self._first & _MASK) // self._size
        if pfn < self._end or pfn in self._known:
            return pfn
        page = address & -self._size

        def look() -> int | None:
            tables = self._walk(page)
            return _mapped(geometry(self._kernel), tables[-1], page) if tables else None

        return search(
            self._kernel.dump, f"mapped:{page:#x}", look, lambda found: is_number(found, _PFNS)
        )

    def tables_of(self, address: int) -> list[int]:
        """The pfns of the tables that a kernel address is looked up in, the top one first."""

        def look() -> list[int]:
            return [table.pfn for table in self._walk(address & -self._size)]

        return (
            search(
                self._kernel.dump,
                f"tables:{address & -self._size:#x}",
                look,
                lambda found: all(is_number(pfn, _PFNS) for pfn in found),
            )
            or []
        )

    def _walk(self, address: int) -> list[Table]:
        root = kernel_root(self._kernel)
        if root is None or not address >> 63 or not is_canonical(self._kernel, address):
            return []
        return list(walk(self._kernel, root, address, address + 1, Budget(1.0)))


def _mapped(shape: Geometry, table: Table, address: int) -> int | None:
    """The page that the last table on the way maps at ``address``."""
    step = 1 << shape.page_shift + shape.index_bits * table.level
    first = mapped_pfn(shape, table.entries[(address - table.address) // step], table.level)
    return None if first is None else first + (address % step >> shape.page_shift)


def is_canonical(kernel: Kernel, address: int) -> bool:
    """Whether the CPU takes it for an address at all.

    One that is, is a place of its own: in the direct map each page has a dozen neighbours that
    are one bit away, and a register that holds one of those says nothing of the page.
    """
    info = kernel.dump.vmcoreinfo
    if kernel.dump.arch == "arm64":
        bits = info.number("VA_BITS") or 48
    else:
        bits = 56 if info.number("pgtable_l5_enabled") else 47
    return address >> bits in (0, (1 << 64 - bits) - 1)
