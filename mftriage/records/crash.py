"""How the machine died, by its log: the panic's message or the oops, its task, CPU and call trace.

kernel/panic.c (panic), arch/x86/kernel/dumpstack.c and arch/x86/mm/fault.c (oopses),
arch/arm64/kernel/traps.c (die, arm64_serror_panic) and arch/arm64/mm/fault.c.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypedDict

from mftriage.log import LogRecord
from mftriage.model import Frame, Panic, Task
from mftriage.pattern import Pattern
from mftriage.records.registers import Registers, registers_of

# At the start of its line: other lines quote what devices and users say.
_PANIC = Pattern(r"\s*(?:---\[ end )?Kernel panic - not syncing: (.*)")
# An oops starts a crash kernel before panic() is called (oops_end, die), so the log may end with it.
_OOPS = Pattern(
    r"(?:[^:]{1,16}: Corrupted page table at address [0-9a-f]+|(?:Oops|Internal error|BUG|kernel BUG at|general protection fault|Unable to handle kernel|SError Interrupt)\b.*)"
)
# Of these, what stops the CPU; "BUG: Bad page state" and its like only tell.
_FATAL_OOPS = Pattern(
    r"(?:Oops\b|Internal error: (?!Can't)|kernel BUG at|general protection fault|Unable to handle kernel\b|BUG: (?:unable to handle|kernel NULL pointer)|SError Interrupt on CPU)"
)
_SYNDROME = Pattern(
    r"(?:Internal error: [^:]{1,80}: (?:0x)?|SError Interrupt on CPU\d+, code 0x|ESR = 0x)([0-9a-f]{8,16})\b"
)
_MCE_REASON = Pattern(r"mce: \[Hardware Error\]:?\s*(Machine [Cc]heck: .*)")
_LOOK_BACK = 200  # lines of log in front of the panic that an oops may take
_FAULT = Pattern(
    r"(?:page fault for address: |paging request at (?:virtual address )?|NULL pointer dereference(?:, address:| at virtual address) |"
    r"(?:non-canonical |maybe for |for |table at )address )(?:0x)?([0-9a-f]{8,16})\b"
)
_WHO = Pattern(
    r"CPU: (\d+) (?:UID: \d+ )?PID: (\d+) Comm: (.*?)(?: Kdump: loaded)? (?:Not tainted|Tainted:)"
)
_TRACE_LINE = Pattern(
    r"^\s*(?:\[<[0-9a-f]+>\] )?([\w.$]+)\+(0x[0-9a-f]+)/0x[0-9a-f]+(?: \[(\w+)\])?(?: \([A-Z]\))?\s*$"
)
# the frame that faulted, as it stands apart from the trace: newer and older x86
_RIP = Pattern(r"(?:RIP: 0010:|\bIP: )(?:\[<[0-9a-f]+>\]\s*){0,2}([\w.$]+)\+(0x[0-9a-f]+)/0x")
_PC = Pattern(r"\bpc : (?:\[<[0-9a-f]+>\] )?([\w.$]+)\+(0x[0-9a-f]+)/0x")
_MAX_FRAMES = 64


def panic_from_log(log: Sequence[LogRecord]) -> Panic | None:
    """The last panic or fatal oops that the log tells of."""
    at = next((i for i in reversed(range(len(log))) if _PANIC.match(log[i].text)), None)
    # "---[ end Kernel panic - not syncing: ... ]---" repeats the message after the stack
    if at is not None and "---[ end" in log[at].text:
        at = next(
            (
                i
                for i in reversed(range(at))
                if _PANIC.match(log[i].text) and "---[" not in log[i].text
            ),
            at,
        )
    if at is None:
        return None
    match = _PANIC.match(log[at].text)
    assert match is not None
    message = match[1].removesuffix(" ]---")
    # The panic that follows an oops says little; what it died of stands above, its stack too.
    start = at
    if re.search(r"Fatal exception|Oops|Attempted to kill", message):
        start = _oops_before(log, at)
    return Panic(
        message=message,
        time=log[at].time,
        task=_who(log[start:]),
        cpu=_cpu(log[start:]),
        fault_address=_fault(log[start : at + 1]),
        **_syndrome(log[start : at + 1]),
        trace=_trace(log[start:]),
    )


def oops_from_log(log: Sequence[LogRecord]) -> Panic | None:
    """The last oops that the log tells of, for a dump that a crash kernel took before panic() spoke."""
    at = next((i for i in reversed(range(len(log))) if _OOPS.match(log[i].text)), None)
    if at is None:
        return None
    return _oops(log, _oops_before(log, at + 1))


def crash_from_log(log: Sequence[LogRecord]) -> Panic | None:
    """The crash that a log alone tells of: a panic, a fatal oops, or the reason of a machine check.

    The last is printed by mce_panic() alone, right before it panics.
    """
    if (panic := panic_from_log(log)) is not None:
        return panic
    at = next((i for i in reversed(range(len(log))) if _FATAL_OOPS.match(log[i].text)), None)
    if at is not None:
        return _oops(log, _oops_before(log, at + 1))
    for i in reversed(range(len(log))):
        if (
            "achine" in log[i].text
            and "Hardware Error" in log[i].text
            and (match := _MCE_REASON.search(log[i].text))
        ):
            return Panic(message=match[1].strip(), time=log[i].time)
    return None


def _oops(log: Sequence[LogRecord], start: int) -> Panic:
    return Panic(
        message=log[start].text,
        time=log[start].time,
        task=_who(log[start:]),
        cpu=_cpu(log[start:]),
        fault_address=_fault(log[start:]),
        **_syndrome(log[start:]),
        trace=_trace(log[start:]),
    )


class _Syndrome(TypedDict):
    syndrome: str | None
    fault_address_valid: bool | None


def _syndrome(log: Sequence[LogRecord]) -> _Syndrome:
    """ESR_ELx (Arm ARM, D24.2.40): with a synchronous external abort, FnV says that FAR holds nothing."""
    found = next((m for r in log[:_LOOK_BACK] if (m := _SYNDROME.search(r.text))), None)
    if found is None:
        return {"syndrome": None, "fault_address_valid": None}
    esr = int(found[1], 16)
    aborted = esr >> 26 & 0x3F in (0x20, 0x21, 0x24, 0x25) and esr & 0x3F == 0x10
    return {
        "syndrome": f"{esr:#x}",
        "fault_address_valid": not esr >> 10 & 1 if aborted else None,
    }


def crash_registers(log: Sequence[LogRecord], panic: Panic) -> Registers:
    """The registers of the oops that the panic followed, or of the trace shortly before it."""
    end = next(
        (
            i
            for i in reversed(range(len(log)))
            if "Kernel panic - not syncing" in log[i].text and "---[" not in log[i].text
        ),
        len(log),
    )
    start = _oops_before(log, end)
    if start == end:
        start = max(0, end - _LOOK_BACK)
    return registers_of(
        [
            record
            for record in log[start:end]
            if panic.time is None or record.time is None or panic.time - record.time <= 5.0
        ]
    )


def oops_message(log: Sequence[LogRecord], panic_time: float | None) -> str | None:
    """The first line of the oops that led to a panic, or ``None`` where there was none."""
    end = next(
        (
            i
            for i in reversed(range(len(log)))
            if _PANIC.match(log[i].text) and log[i].time == panic_time
        ),
        len(log),
    )
    start = _oops_before(log, end)
    return log[start].text if start < end else None


def _oops_before(log: Sequence[LogRecord], end: int) -> int:
    """Where the oops in front of ``end`` begins; ``end`` itself if there is none."""
    first = end
    for i in reversed(range(max(0, end - 200), end)):
        if "---[ end trace" in log[i].text and first != end:
            break
        if _OOPS.match(log[i].text):
            first = i
    return first


def _fault(log: Sequence[LogRecord]) -> str | None:
    found = next((m for record in log if (m := _FAULT.search(record.text))), None)
    return f"{int(found[1], 16):#x}" if found else None


def _who(log: Sequence[LogRecord]) -> Task | None:
    found = next((m for record in log if (m := _WHO.search(record.text))), None)
    return Task(comm=found[3], pid=int(found[2])) if found else None


def _cpu(log: Sequence[LogRecord]) -> int | None:
    found = next((m for record in log if (m := _WHO.search(record.text))), None)
    return int(found[1]) if found else None


def _trace(log: Sequence[LogRecord]) -> tuple[Frame, ...]:
    """The first call trace in these records, guesses ("? f+0x1/0x2") left out."""
    frames: list[Frame] = []
    inside = False
    for record in log:
        # show_regs() of x86_64: the frame that faulted stands apart, above the trace
        if not frames and (match := _RIP.search(record.text)):
            frames.append(Frame(function=match[1], offset=match[2]))
        if re.match(r"Call [Tt]race:", record.text.strip()):
            if inside:
                break
            inside = True
        elif inside:
            if match := _TRACE_LINE.match(record.text):
                frames.append(Frame(function=match[1], offset=match[2]))
            elif record.text.strip() in ("</TASK>", "</IRQ>") and frames and "TASK" in record.text:
                break
    if not frames:  # an arm64 trace begins with it, if there is one
        site = next((m for record in log[:_LOOK_BACK] if (m := _PC.search(record.text))), None)
        frames += [Frame(function=site[1], offset=site[2])] if site else []
    return tuple(frames[:_MAX_FRAMES])
