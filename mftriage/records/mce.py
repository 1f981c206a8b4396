"""What the registers of an x86 machine-check bank say, wherever they were read.

Intel SDM vol. 3B, 17.3.2.2 (IA32_MCi_STATUS) and 17.9 (MCA error codes); AMD APM vol. 2, 9.3;
bits as in arch/x86/include/asm/mce.h.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from mftriage.model import ErrorClass, HardwareError, MceRegisters, Medium, Severity, hexed
from mftriage.registers.amd import UMC_HWID
from mftriage.registers.x86 import error_words

VALID, UNCORRECTED, ADDRESS_VALID = 1 << 63, 1 << 61, 1 << 58
_MISC_VALID, _CORRUPT, _SIGNALED, _ACTION_REQUIRED = 1 << 59, 1 << 57, 1 << 56, 1 << 55
_SYNDROME_VALID, _DEFERRED, _POISON = 1 << 53, 1 << 44, 1 << 43  # AMD
VENDOR_INTEL, VENDOR_AMD, VENDOR_HYGON = 0, 2, 9  # asm/processor.h
VENDORS = {VENDOR_INTEL: "Intel", VENDOR_AMD: "AMD", VENDOR_HYGON: "Hygon", 10: "Zhaoxin"}
_AMD = (VENDOR_AMD, VENDOR_HYGON)
SYNTHETIC_BANK = 255  # -1 in a byte: arch/x86/kernel/cpu/mce/apei.c, apei_mce_report_mem_error
# MISC[8:6] (SDM vol. 3B, 17.3.2.4): the physical address, or that of memory; 0 and 1 are the program's own
_PHYSICAL_MODES = (2, 3)

_FLAGS = {63: "VAL", 62: "OVER", 61: "UC", 60: "EN", 59: "MISCV", 58: "ADDRV", 57: "PCC"}
_INTEL_FLAGS = _FLAGS | {56: "S", 55: "AR"}
_AMD_FLAGS = _FLAGS | {55: "TCC", 53: "SYNDV", 46: "CECC", 45: "UECC", 44: "Deferred"}
_AMD_FLAGS |= {43: "Poison", 40: "Scrub"}
_MCG_FLAGS = {0: "RIPV", 1: "EIPV", 2: "MCIP", 3: "LMCES"}


@lru_cache(maxsize=1024)
def is_memory_error(status: int, vendor: int | None, ipid: int | None = None) -> bool | None:
    """Whether the error code names memory, as in memory cells read by the CPU or the scrubber.

    Memory controller errors (000F 0000 1MMM CCCC) and those of memory used as a cache are; so are
    data load, instruction fetch and L3 write-back errors, where the CPU met poison and says where
    (SDM vol. 3B, 17.9.3); with a corrupt context (PCC) that is not sure, ``None``, and without an
    address the error is of a cache.  AMD tells by the bank's hardware id; without it, a
    TLB's error (0000 0000 0001 TTLL) is none of memory, and the others are ``None``.
    """
    code = status & 0xEFFF
    if vendor in _AMD:
        if is_umc(ipid):
            return True
        if status & _POISON:
            return True
        return False if ipid or code & 0xFFF0 == 0x0010 else None
    if code & 0xEF80 == 0x0080 or code & 0xEF80 == 0x0280:
        return True
    if code not in (0x0134, 0x0150, 0x017A) or not status & ADDRESS_VALID:
        return False
    return None if status & _CORRUPT else True


def is_umc(ipid: int | None) -> bool:
    """Whether MCA_IPID is that of a memory controller (UMC), whose address is normalized."""
    return ipid is not None and ipid >> 32 & 0xFFF == UMC_HWID


@lru_cache(maxsize=1024)
def severity(status: int, vendor: int | None, mcgstatus: int | None = None) -> Severity:
    """The class of the error by its status bits (severity.c; SDM vol. 3B, 17.6)."""
    if not status & UNCORRECTED:
        return "deferred" if vendor in _AMD and status & _DEFERRED else "corrected"
    if status & _CORRUPT:
        return "fatal"
    if vendor in _AMD and mcgstatus is not None and mcgstatus & 4:
        return "fatal" if not status & 1 << 55 else "recoverable"
    return "recoverable"


@lru_cache(maxsize=1024)
def error_class(status: int, vendor: int | None) -> ErrorClass:
    """The name that SDM vol. 3B, 17.6.3 (table 17-9) has for the error; AMD's in the same words."""
    if not status & UNCORRECTED:
        return "deferred" if vendor in _AMD and status & _DEFERRED else "CE"
    if status & _CORRUPT:
        return "fatal"
    if vendor in _AMD:
        return "UC"
    if not status & _SIGNALED:
        return "UC" if status & _ACTION_REQUIRED else "UCNA"
    return "SRAR" if status & _ACTION_REQUIRED else "SRAO"


@lru_cache(maxsize=1024)
def flags(status: int, vendor: int | None, mcgstatus: int | None = None) -> tuple[str, ...]:
    """The names of the bits that are set, MCG_STATUS's behind."""
    names = _AMD_FLAGS if vendor in _AMD else _INTEL_FLAGS
    found = [name for bit, name in names.items() if status >> bit & 1]
    found += [name for bit, name in _MCG_FLAGS.items() if mcgstatus and mcgstatus >> bit & 1]
    return tuple(found)


def family(cpuid: int | None) -> int | None:
    """The CPU's family out of CPUID 1 EAX (arch/x86/lib/cpu.c, x86_family)."""
    if cpuid is None:
        return None
    base = cpuid >> 8 & 0xF
    return base + (cpuid >> 20 & 0xFF) if base == 0xF else base


@lru_cache(maxsize=1024)
def address_kind(
    status: int, vendor: int | None, ipid: int | None, cpuid: int | None
) -> Literal["physical", "normalized"] | None:
    """What ADDR is: an AMD memory controller's is normalized.

    Where a scalable bank's MCA_IPID is lost, its syndrome or a memory code still gives it away: then
    it is not known what ADDR is.
    """
    if vendor not in _AMD:
        return "physical"
    if is_umc(ipid):
        return "normalized"
    scalable = (family(cpuid) or 0x17) >= 0x17
    if not ipid and scalable and (status & _SYNDROME_VALID or status & 0xFFFF == 0x011B):
        return None
    return "physical"


def from_registers(
    *,
    medium: Medium,
    status: int,
    bank: int,
    addr: int | None = 0,
    misc: int = 0,
    mcgstatus: int | None = None,
    vendor: int | None = None,
    cpu: int | None = None,
    ip: int | None = None,
    synd: int | None = None,
    ipid: int | None = None,
    ppin: int | None = None,
    microcode: int | None = None,
    cpuid: int | None = None,
    socket: int | None = None,
    wall: int | None = None,
    time: float | None = None,
    injected: bool | None = None,
    raw: tuple[str, ...] = (),
    apic: int | None = None,
    tsc: int | None = None,
    synd1: int | None = None,
    synd2: int | None = None,
    ip_symbol: str | None = None,
    ip_exact: bool | None = None,
    code_segment: str | None = None,
    reason: str | None = None,
) -> HardwareError:
    """A record from a bank's registers; ``wall`` in seconds since the epoch.

    The address counts only where ADDRV is set; its valid bits are those from MISC's
    least-significant valid bit up (MISC[5:0], where MISCV is set).  Where ADDR is no physical
    address, or ``None`` because its line is lost, there is no ``physical_address``.
    """
    has_address = bool(status & ADDRESS_VALID) and addr is not None
    addr = addr or 0
    kind = address_kind(status, vendor, ipid, cpuid) if has_address else None
    if vendor == VENDOR_INTEL and status & _MISC_VALID and misc >> 6 & 7 not in _PHYSICAL_MODES:
        kind = None
    physical = has_address and kind == "physical"
    low = misc & 0x3F if status & _MISC_VALID and vendor not in _AMD else 0
    mask = (1 << 64) - (1 << low) if low else None
    found = severity(status, vendor, mcgstatus)
    intel_count = vendor in (VENDOR_INTEL, None) and found == "corrected"
    count = status >> 38 & 0x7FFF if intel_count else 0
    return HardwareError(
        source="mce",
        medium=medium,
        injected=injected,
        time=time,
        severity=found,
        error_type=error_words(status),
        is_memory=is_memory_error(status, vendor, ipid),
        physical_address=hexed(addr & mask if mask else addr) if physical else None,
        physical_address_mask=hexed(mask) if physical else None,
        wall_time=utc(wall),
        count=count or None,
        mce=MceRegisters(
            cpu=cpu,
            bank=bank,
            status=f"{status:#x}",
            addr=hexed(addr) if has_address else None,
            misc=hexed(misc) if status & _MISC_VALID else None,
            mcgstatus=hexed(mcgstatus),
            ip=f"{ip:#x}" if ip else None,
            synd=f"{synd:#x}" if synd else None,
            ipid=f"{ipid:#x}" if ipid else None,
            ppin=f"{ppin:#x}" if ppin else None,
            microcode=f"{microcode:#x}" if microcode else None,
            cpuid=f"{cpuid:#x}" if cpuid else None,
            socket=socket,
            vendor=VENDORS.get(vendor) if vendor is not None else None,
            apic=hexed(apic),
            tsc=f"{tsc:#x}" if tsc else None,
            synd1=f"{synd1:#x}" if synd1 else None,
            synd2=f"{synd2:#x}" if synd2 else None,
            mcacod=f"{status & 0xFFFF:#06x}",
            mscod=f"{status >> 16 & 0xFFFF:#06x}",
            flags=flags(status, vendor, mcgstatus),
            error_class=error_class(status, vendor),
            corrected_count=count or None,
            ip_symbol=ip_symbol,
            ip_exact=ip_exact,
            code_segment=code_segment,
            reason=reason,
            synthetic=bank == SYNTHETIC_BANK,
            address_kind=kind,
        ),
        raw=raw,
    )


def utc(wall: int | None) -> str | None:
    """A record's TIME as ISO 8601; one from before 2000 or beyond 2200 has no usable clock."""
    if not wall or not 946684800 <= wall <= 7258118400:
        return None
    return datetime.fromtimestamp(wall, UTC).isoformat().replace("+00:00", "Z")
