"""The direct map: all of physical memory at a fixed distance in virtual memory."""

from __future__ import annotations

from contextlib import suppress

from drgn import FaultError

from mftriage.kernel.pagetable import geometry, kernel_root, mapped_pfn, walk
from mftriage.kernel.search import Budget
from mftriage.symbols import Kernel

_MASK = (1 << 64) - 1
_PHYSICAL_BITS = 52
_GIB = 1 << 30


def to_virtual(kernel: Kernel, physical: int) -> int:
    """The direct-map address of a physical address.

    x86_64: page_offset_base (CONFIG_RANDOMIZE_MEMORY), or where it has no name, by the page tables.  arm64: PAGE_OFFSET, which VA_BITS gives
    (asm/memory.h, __phys_to_virt), and PHYS_OFFSET, which is memstart_addr.  Raises
    ``LookupError`` where the dump does not have them, ``FaultError`` where the variable is missing.
    """
    info = kernel.dump.vmcoreinfo
    if kernel.dump.arch == "arm64":
        start, bits = info.number("PHYS_OFFSET"), info.number("VA_BITS")
        if start is None or bits is None:
            raise LookupError("VMCOREINFO has no PHYS_OFFSET or VA_BITS")
        return physical - start - (1 << bits) & _MASK
    base = kernel.address("page_offset_base")
    offset = _base_by_tables(kernel) if base is None else kernel.program.read_u64(base)
    return physical + offset & _MASK


def _base_by_tables(kernel: Kernel) -> int:
    """The base of x86_64's direct map, by a pointer into it that VMCOREINFO has: mem_section.

    The map starts at a multiple of 1 GiB (arch/x86/mm/kaslr.c); what does not is no direct map.
    """
    pointer, root = kernel.dump.vmcoreinfo.symbol("mem_section"), kernel_root(kernel)
    if pointer is not None and root is not None:
        shape = geometry(kernel)
        for table in walk(kernel, root, pointer, pointer + 1, Budget(1.0)):
            step = 1 << shape.page_shift + shape.index_bits * table.level
            entry = table.entries[(pointer - table.address) // step]
            pfn = mapped_pfn(shape, entry, table.level)
            if pfn is not None:
                base = pointer - (pfn << shape.page_shift & -step) - (pointer & step - 1)
                if base & _GIB - 1 == 0:
                    return base
    raise LookupError("VMCOREINFO does not tell where the direct map is")


class LinearReader:
    """Reads kernel memory, and where page tables are missing, by the kernel's fixed distances.

    A cut dump often lacks the tables (the allocator of early boot takes them from the top of
    memory), while the kernel image and the log are there.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at a virtual address.  Raises ``FaultError`` where they are not in the dump."""
        try:
            data: bytes = self._kernel.program.read(address, size)
            return data
        except FaultError as error:
            for physical in self._physical(address):
                try:
                    return self._kernel.dump.memory.read(physical, size)
                except FaultError:
                    continue
            raise error

    def read_u32(self, address: int) -> int:
        """A 4-byte integer."""
        return int.from_bytes(self.read(address, 4), "little")

    def read_u64(self, address: int) -> int:
        """An 8-byte integer."""
        return int.from_bytes(self.read(address, 8), "little")

    def _physical(self, address: int) -> list[int]:
        """Where an address would lie if it were of the kernel image, or of the direct map."""
        bases = [self._kernel.dump.image_offset]
        with suppress(FaultError, LookupError):
            bases.append(to_virtual(self._kernel, 0))
        found = [address - base & _MASK for base in bases if base is not None]
        return [physical for physical in found if physical >> _PHYSICAL_BITS == 0]
