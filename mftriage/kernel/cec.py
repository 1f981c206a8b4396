"""Corrected errors that the kernel collected page by page (drivers/ras/cec.c; x86, CONFIG_RAS_CEC).

The collector takes a corrected error before anything is printed: a page that gave hundreds of them
may have no line in the log.  Each element of its array is a pfn in bits 63 to PAGE_SHIFT, two bits
that decay with time, and a count of ten bits.
"""

from __future__ import annotations

import struct

from mftriage.kernel.system import Clock
from mftriage.model import HardwareError
from mftriage.symbols import Kernel

_PAGE_SHIFT, _COUNT_BITS = 12, 10
_MAX_ELEMS = 4096 // 8  # MAX_ELEMS: a page of them
_KEPT = 32


def cec_records_in_memory(kernel: Kernel, _clock: Clock | None) -> list[HardwareError]:
    """A record for each page with corrected errors, the worst first."""
    if kernel.address("ce_arr") is None:
        return []
    collected = kernel.program["ce_arr"].read_()
    count = collected.n.value_()
    address = collected.array.value_()
    if not address or not 0 < count <= _MAX_ELEMS:
        return []
    raw = kernel.program.read(address, 8 * count)
    elements = list(struct.unpack(f"<{count}Q", raw))
    errors = sorted(((_count(e), e >> _PAGE_SHIFT) for e in elements), reverse=True)
    return [_record(pfn, times) for times, pfn in errors[:_KEPT] if times]


def _count(element: int) -> int:
    return element & (1 << _COUNT_BITS) - 1


def _record(pfn: int, times: int) -> HardwareError:
    return HardwareError(
        source="cec",
        medium="memory",
        severity="corrected",
        error_type="corrected error" if times == 1 else f"{times} corrected errors",
        is_memory=True,
        physical_address=f"{pfn << _PAGE_SHIFT:#x}",
        physical_address_mask=f"{(1 << 64) - (1 << _PAGE_SHIFT):#x}",
        count=times,
    )
