"""x86 machine checks as the kernel's core prints them.

arch/x86/kernel/cpu/mce/core.c: __print_mce (CPU, bank, STATUS; RIP; TSC, ADDR, MISC, ...;
PROCESSOR), mce_panic ("Machine check: REASON"), kill_me_maybe and kill_me_never.  The third line
is built with pr_cont, so that another CPU's may land within it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from mftriage.log import LogRecord
from mftriage.model import HardwareError
from mftriage.pattern import Pattern
from mftriage.records.mce import from_registers

MARKERS = ("[Hardware Error]", "mce: ", "MCE: ", "memory error", "Memory error", "poison in user")
FOREIGN = "}[Hardware Error]"

_FIRST = Pattern(
    r"CPU (\d{1,9}): Machine Check(?: Exception)?:?\s+(?:0x)?([0-9a-fA-F]{1,16}) Bank (\d{1,9}): (?:0x)?([0-9a-fA-F]{8,16})\b"
)
_PAIR = Pattern(r" (TSC|ADDR|MISC|PPIN|SYND[12]?|IPID) (?:0x)?([0-9a-f]{1,16})\b")
_RIP = Pattern(r"RIP( !INEXACT!)?\s+([0-9a-f]{1,4}):<([0-9a-f]{1,16})>(?:\s*\{([^}]{0,255})\})?")
_PROCESSOR = Pattern(
    r"PROCESSOR (\d{1,9}):(?:0x)?([0-9a-f]{1,16}) TIME (\d{1,18}) SOCKET (\d{1,9}) APIC (?:0x)?([0-9a-f]{1,16})(?: microcode (?:0x)?([0-9a-f]{1,16}))?"
)
_REASON = Pattern(r"\[Hardware Error\]:?\s*Machine [Cc]heck: (.*)")
_USER = Pattern(
    r"(Uncorrected hardware memory error in user-access|Kernel accessed poison in user space) at ([0-9a-f]{1,16})"
)
_IGNORED = Pattern(r"Uncorrected memory error in page 0x([0-9a-f]{1,13}) ignored")
_NOT_RECOVERED = "Memory error not recovered"
_MAX_LINES = 8


class _Open:
    """A record whose lines still come."""

    def __init__(self, record: LogRecord, first: re.Match[str]) -> None:
        self.lines: list[LogRecord] = []
        self.first = first
        self.has_rip = False
        self.has_pairs = False
        self.has_processor = False
        self.reason: str | None = None
        self.take(record)

    def take(self, record: LogRecord) -> None:
        """Take one more line."""
        text = record.text
        self.lines.append(record)
        self.has_rip = self.has_rip or "RIP" in text
        self.has_processor = self.has_processor or "PROCESSOR" in text
        self.has_pairs = self.has_pairs or _PAIR.search(text) is not None


def decode(log: Iterable[LogRecord]) -> tuple[HardwareError, ...]:
    """Every machine-check record, and what the kernel says of errors that hit a process, oldest first."""
    found: list[_Open | HardwareError] = []
    last: _Open | None = None
    waiting: list[_Open] = []  # the newest records that lack lines, in the order of their first
    for record in log:
        text = record.text
        if FOREIGN in text or "EDAC " in text:
            continue
        if "user" in text and (match := _USER.search(text)):
            found.append(_of_user(record, match[1], int(match[2], 16)))
        elif _NOT_RECOVERED in text:
            found.append(_plain(record, _NOT_RECOVERED))
        elif "ignored" in text and (match := _IGNORED.search(text)):
            address = int(match[1], 16) << 12
            found.append(_of_user(record, "Uncorrected memory error in a page, ignored", address))
        if "Hardware Error" not in text and "mce: " not in text and "MCE: " not in text:
            continue
        if "achine Check" in text and (match := _FIRST.search(text)):
            last = _Open(record, match)
            found.append(last)
            waiting = [*waiting[-7:], last]
        elif "achine " in text and (match := _REASON.search(text)):
            if last is not None:
                last.reason = match[1].strip() or None
                last.lines.append(record)
        elif waiting:
            owner = _owner(waiting, text)
            if owner is not None and len(owner.lines) < _MAX_LINES:
                owner.take(record)
    return tuple(_from_lines(item) if isinstance(item, _Open) else item for item in found)


def _owner(waiting: list[_Open], text: str) -> _Open | None:
    """Which record a line belongs to: the oldest that lacks it, since a CPU prints its lines in order."""
    rip = "RIP" in text and _RIP.search(text) is not None
    processor = "PROCESSOR" in text
    pairs = not processor and _PAIR.search(text) is not None
    for record in waiting:
        if record.has_processor:
            continue
        if rip:
            if not record.has_rip and not record.has_pairs:
                return record
        elif processor or (not record.has_pairs and pairs):
            return record
    if "Run the above" in text:
        return waiting[-1]
    if not pairs or "RIP" in text:
        return None
    # a pr_cont piece that another line has torn off
    return next((record for record in waiting if not record.has_processor), None)


def _of_user(record: LogRecord, words: str, address: int) -> HardwareError:
    return replace(
        _plain(record, words),
        physical_address=f"{address:#x}",
        physical_address_mask="0xfffffffffffff000" if address & 0xFFF == 0 else None,
    )


def _plain(record: LogRecord, words: str) -> HardwareError:
    return HardwareError(
        source="mce",
        medium="log",
        time=record.time,
        severity="recoverable",
        error_type=words,
        is_memory=True,
        raw=(record.text,),
    )


def _from_lines(group: _Open) -> HardwareError:
    text = "\n".join(record.text for record in group.lines)
    first = group.first
    pairs = {name: int(value, 16) for name, value in _PAIR.findall(text[first.end() :])}
    rip = _RIP.search(text)
    processor = _PROCESSOR.search(text)
    return from_registers(
        medium="log",
        time=group.lines[0].time,
        cpu=int(first[1]),
        mcgstatus=int(first[2], 16),
        bank=int(first[3]),
        status=int(first[4], 16),
        # one of zero is not printed; where MISC, which comes behind it, is lost too, it is not known
        addr=pairs.get("ADDR", 0 if "MISC" in pairs else None),
        misc=pairs.get("MISC", 0),
        tsc=pairs.get("TSC"),
        ppin=pairs.get("PPIN"),
        synd=pairs.get("SYND"),
        synd1=pairs.get("SYND1"),
        synd2=pairs.get("SYND2"),
        ipid=pairs.get("IPID"),
        ip=int(rip[3], 16) if rip else None,
        ip_symbol=(rip[4] or None) if rip else None,
        ip_exact=not rip[1] if rip else None,
        code_segment=f"0x{rip[2]}" if rip else None,
        vendor=int(processor[1]) if processor else None,
        cpuid=int(processor[2], 16) if processor else None,
        wall=int(processor[3]) if processor else None,
        socket=int(processor[4]) if processor else None,
        apic=int(processor[5], 16) if processor else None,
        microcode=int(processor[6], 16) if processor and processor[6] else None,
        reason=group.reason,
        raw=tuple(record.text for record in group.lines),
    )
