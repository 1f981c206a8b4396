"""x86 machine checks: what a bank's registers say, and the records in the kernel log.

Intel SDM vol. 3B, 17.3.2.2 (IA32_MCi_STATUS) and 17.9 (MCA error codes); AMD APM vol. 2, 9.3.
Log lines: arch/x86/kernel/cpu/mce/core.c, __print_mce.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from mftriage.log import LogRecord
from mftriage.model import HardwareError, MceRegisters, Medium, Severity, hexed

VALID, UNCORRECTED, ADDRESS_VALID = 1 << 63, 1 << 61, 1 << 58
_MISC_VALID, _CORRUPT, _SIGNALED, _ACTION_REQUIRED = 1 << 59, 1 << 57, 1 << 56, 1 << 55
_DEFERRED = 1 << 44  # AMD
_VENDOR_INTEL, VENDOR_AMD, VENDOR_HYGON = 0, 2, 9
_PAGE_MASK = 0xFFF

# __print_mce writes bank and status first, then pr_cont pieces; another CPU's line may come between.
_FIRST = re.compile(
    r"\[Hardware Error\]: CPU (\d+): Machine Check(?: Exception)?: ([0-9a-fA-F]+) Bank (\d+): ([0-9a-f]{16})"
)
_PAIR = re.compile(r"\b(TSC|ADDR|MISC|PPIN|SYND|IPID) ([0-9a-f]+)")
_RIP = re.compile(r"RIP(?: !INEXACT!)? [0-9a-f]+:<([0-9a-f]+)>")
_PROCESSOR = re.compile(
    r"PROCESSOR (\d+):([0-9a-f]+) TIME (\d+) SOCKET (\d+) APIC ([0-9a-f]+) microcode ([0-9a-f]+)"
)


def is_memory_error(status: int, vendor: int | None) -> bool | None:
    """Whether the error code names memory, as in memory cells read by the CPU or the scrubber.

    Memory controller errors (000F 0000 1MMM CCCC) and the recoverable data load, instruction
    fetch and L3 write-back errors are; AMD's codes are told by bank type, which this can't see:
    ``None``.
    """
    code = status & 0xEFFF
    if code & 0xEF80 == 0x0080:
        return True
    if vendor in (VENDOR_AMD, VENDOR_HYGON):
        return None
    return code in (0x0134, 0x0150, 0x017A)


def severity(status: int, vendor: int | None, mcgstatus: int | None = None) -> Severity:
    """The class of the error by its status bits (severity.c; SDM vol. 3B, 17.6)."""
    if not status & UNCORRECTED:
        return (
            "deferred"
            if vendor in (VENDOR_AMD, VENDOR_HYGON) and status & _DEFERRED
            else "corrected"
        )
    if status & _CORRUPT:
        return "fatal"
    if vendor in (VENDOR_AMD, VENDOR_HYGON) and mcgstatus is not None and mcgstatus & 4:
        return "fatal" if not status & 1 << 55 else "recoverable"
    return "recoverable"


def error_words(status: int) -> str:
    """The error in words, by MCACOD."""
    code = status & 0xEFFF
    if code & 0xEF80 == 0x0080:
        what = ("generic", "read", "write", "address/command", "scrub")
        request = code >> 4 & 7
        words = what[request] if request < len(what) else "reserved"
        return f"memory controller {words} error, channel {'unknown' if code & 15 == 15 else code & 15}"
    named = {
        0x0134: "data load (L0 cache read of poisoned data)",
        0x0150: "instruction fetch (poisoned)",
        0x017A: "L3 write-back",
    }
    if code in named:
        return named[code]
    if code & 0xEF00 == 0x0100:
        return f"cache hierarchy error (MCACOD {code:#06x})"
    if code & 0xE800 == 0x0800:
        return f"bus or interconnect error (MCACOD {code:#06x})"
    if code & 0xEFF0 == 0x0010:
        return f"TLB error (MCACOD {code:#06x})"
    return f"MCACOD {code:#06x}"


def from_registers(
    *,
    medium: Medium,
    status: int,
    bank: int,
    addr: int = 0,
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
) -> HardwareError:
    """A record from a bank's registers; ``wall`` in seconds since the epoch.

    The address counts only where ADDRV is set; its valid bits are those from MISC's
    least-significant valid bit up (MISC[5:0], where MISCV is set).
    """
    has_address = bool(status & ADDRESS_VALID)
    low = misc & 0x3F if status & _MISC_VALID else 0
    mask = (1 << 64) - (1 << low) if low else None
    return HardwareError(
        source="mce",
        medium=medium,
        injected=injected,
        time=time,
        severity=severity(status, vendor, mcgstatus),
        error_type=error_words(status),
        is_memory=is_memory_error(status, vendor),
        physical_address=hexed(addr & mask if mask else addr) if has_address else None,
        physical_address_mask=hexed(mask) if has_address else None,
        wall_time=_utc(wall),
        mce=MceRegisters(
            cpu=cpu,
            bank=bank,
            status=f"{status:#x}",
            addr=hexed(addr) if has_address else None,
            misc=hexed(misc) if status & _MISC_VALID else None,
            mcgstatus=hexed(mcgstatus),
            ip=hexed(ip or None),
            synd=hexed(synd or None),
            ipid=hexed(ipid or None),
            ppin=hexed(ppin or None),
            microcode=hexed(microcode or None),
            cpuid=hexed(cpuid or None),
            socket=socket,
        ),
        raw=raw,
    )


def _utc(wall: int | None) -> str | None:
    # a record from before 2000 or beyond 2200 has no usable clock
    if not wall or not 946684800 <= wall <= 7258118400:
        return None
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def mce_records(log: Iterable[LogRecord]) -> tuple[HardwareError, ...]:
    """Every machine-check record that the kernel printed, oldest first."""
    groups: list[list[LogRecord]] = []
    for record in log:
        if (
            "[Hardware Error]:" not in record.text
            or "{" in record.text.split("[Hardware Error]")[0]
        ):
            continue
        if _FIRST.search(record.text):
            groups.append([record])
        elif groups and len(groups[-1]) < 6 and "mce:" in record.text:
            groups[-1].append(record)
    return tuple(_from_lines(group) for group in groups)


def _from_lines(group: list[LogRecord]) -> HardwareError:
    text = "\n".join(record.text for record in group)
    first = _FIRST.search(text)
    assert first is not None
    pairs = {name: int(value, 16) for name, value in _PAIR.findall(text)}
    rip = _RIP.search(text)
    processor = _PROCESSOR.search(text)
    return from_registers(
        medium="log",
        time=group[0].time,
        cpu=int(first[1]),
        mcgstatus=int(first[2], 16),
        bank=int(first[3]),
        status=int(first[4], 16),
        addr=pairs.get("ADDR", 0),
        misc=pairs.get("MISC", 0),
        ppin=pairs.get("PPIN"),
        synd=pairs.get("SYND"),
        ipid=pairs.get("IPID"),
        ip=int(rip[1], 16) if rip else None,
        vendor=int(processor[1]) if processor else None,
        cpuid=int(processor[2], 16) if processor else None,
        wall=int(processor[3]) if processor else None,
        socket=int(processor[4]) if processor else None,
        microcode=int(processor[6], 16) if processor else None,
        raw=tuple(record.text for record in group),
    )
