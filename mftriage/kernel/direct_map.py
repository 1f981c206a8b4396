"""The direct map: all of physical memory at a fixed distance in virtual memory."""

from __future__ import annotations

from mftriage.symbols import Kernel

_MASK = (1 << 64) - 1


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
