"""What the hardware's registers say, bit by bit: tables of the manuals, and no guess beyond them.

A leaf: it knows the vocabulary and the tables, neither dumps nor records' formats.
"""

from __future__ import annotations

from collections.abc import Iterator

from mftriage.model import DecodedRegister, HardwareError, MceRegisters
from mftriage.registers import amd, arm64, firmware, x86
from mftriage.registers.table import Table, decode

__all__ = ["of_record", "of_syndrome"]

_SCALABLE = 0x17  # the first family with AMD's scalable architecture


def of_record(record: HardwareError) -> tuple[DecodedRegister, ...]:
    """The registers and status words of a record, bit by bit.

    Of a record without a vendor only the bits that all vendors share.
    """
    found = list(_machine_check(record.mce)) if record.mce is not None else []
    found += _firmware(record)
    return tuple(decode(table, value) for table, value in found)


def of_syndrome(esr: str | None) -> DecodedRegister | None:
    """arm64's exception syndrome, bit by bit."""
    value = _number(esr)
    return None if value is None else decode(arm64.syndrome(value), value)


def _number(text: str | None) -> int | None:
    try:
        value = int(text or "", 16)
    except ValueError:
        return None
    return value if 0 <= value < 1 << 64 else None


def _machine_check(mce: MceRegisters) -> Iterator[tuple[Table, int]]:
    ipid = _number(mce.ipid)
    intel = mce.vendor == "Intel"
    scalable = mce.vendor in ("AMD", "Hygon") and (bool(ipid) or (_family(mce) or 0) >= _SCALABLE)
    status = x86.INTEL_STATUS if intel else amd.status(ipid) if scalable else x86.PLAIN_STATUS
    general = (
        x86.INTEL_MCG_STATUS if intel else amd.MCG_STATUS if scalable else x86.PLAIN_MCG_STATUS
    )
    misc = x86.INTEL_MISC if intel else amd.MISC if scalable else None
    tables = [
        (status, mce.status),
        (general, mce.mcgstatus),
        (misc, mce.misc),
        (amd.ipid(ipid) if scalable and ipid else None, mce.ipid),
        (amd.synd(ipid) if scalable else None, mce.synd),
    ]
    for table, text in tables:
        value = _number(text)
        if table is not None and value is not None:
            yield table, value


def _family(mce: MceRegisters) -> int | None:
    """The CPU's family: as AMD's decode names it, else out of CPUID 1 EAX (arch/x86/lib/cpu.c, x86_family)."""
    named, cpuid = _number(mce.family), _number(mce.cpuid)
    if named is not None or cpuid is None:
        return named
    base = cpuid >> 8 & 0xF
    return base + (cpuid >> 20 & 0xFF) if base == 0xF else base


def _firmware(record: HardwareError) -> Iterator[tuple[Table, int]]:
    status = _number(record.firmware.error_status) if record.firmware else None
    if status is not None:
        yield firmware.ERROR_STATUS, status
    details = {detail.name: detail.value for detail in record.details}
    uncorrectable = _number(details.get("aer_uncor_status"))
    if uncorrectable is not None:
        yield firmware.AER_UNCORRECTABLE, uncorrectable
    info = _number(details.get("error_info"))
    table = None if info is None else firmware.arm_error_info(record.error_type or "")
    if info is not None and table is not None:
        yield table, info
