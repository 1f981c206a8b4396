"""The direct map: all of physical memory at a fixed distance in virtual memory."""

from __future__ import annotations

from contextlib import suppress

from drgn import FaultError

from mftriage.symbols import Kernel

_MASK = (1 << 64) - 1
_PHYSICAL_BITS = 52


def to_virtual(kernel: Kernel, physical: int) -> int:
    """The direct-map address of a physical address.

    x86_64: page_offset_base (CONFIG_RANDOMIZE_MEMORY).  arm64: PAGE_OFFSET, which VA_BITS gives
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
    if base is None:
        raise LookupError("the kernel has no symbol page_offset_base")
    offset: int = kernel.program.read_u64(base)
    return physical + offset & _MASK


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
