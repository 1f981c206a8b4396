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
# What stops the CPU; "BUG: Bad page state", "BUG: scheduling while atomic" and their like only
# tell.  "[#1]" and what may follow it end the line of die(): a task can be called "Oops".
_FATAL_OOPS = Pattern(
    r"(?:(?:Oops: |Internal error: (?!Can't))[^\[]{1,200}\[#\d+\][ \w+()]*$|"
    r"(?:stack segment|divide error|invalid opcode|double fault|overflow|bounds|general protection fault[^\[]{0,120}|"
    r"invalid TSS|segment not present|alignment check|control protection fault): [0-9a-f]{4} \[#\d+\][ \w+()]*$|"
    r".{1,16}: Corrupted page table at address [0-9a-f]+$|kernel BUG at \S+:\d+!|"
    r"Unable to handle kernel \w+ .*(?:address|dereference)|BUG: (?:unable to handle|kernel NULL pointer)|"
    r"SError Interrupt on CPU\d+, code )"
)
# The panics that end such an oops: oops_end(), make_task_dead(), do_exit(), die().
_OF_OOPS = Pattern(
    r"Fatal exception|.*\bOops\b|.*: Fatal exception|Attempted to kill|Aiee, killing interrupt|"
    r"Asynchronous SError|Machine halted|kernel stack overflow"
)
_OOPS_SECONDS = 10.0  # from its first line to the panic, over a slow console
_SYNDROME = Pattern(
    r"(?:Internal error: [^:]{1,80}: (?:0x)?|SError Interrupt on CPU\d+, code 0x|ESR = 0x)([0-9a-f]{8,16})\b"
)
_MCE_REASON = Pattern(r"mce: \[Hardware Error\]:?\s*(Machine [Cc]heck: .*)")
_LOOK_BACK = 200  # lines of log in front of the panic that an oops may take
_FAULT = Pattern(
    r"(?:page fault for address: |paging request at (?:virtual address )?|memory at virtual address |NULL pointer dereference(?:, address:| at virtual address) |"
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
    """The last panic that the log tells of."""
    at = _panic_line(log)
    if at is None:
        return None
    match = _PANIC.match(log[at].text)
    assert match is not None
    # The panic that follows an oops says little; what it died of stands above, its stack too.
    start = _oops_of(log, at)
    start = at if start is None else start
    return Panic(
        message=match[1].removesuffix(" ]---"),
        time=log[at].time,
        task=_who(log[start:]),
        cpu=_cpu(log[start:]),
        fault_address=_fault(log[start : at + 1]),
        **_syndrome(log[start : at + 1]),
        trace=_trace(log[start:]),
    )


def oops_from_log(log: Sequence[LogRecord]) -> Panic | None:
    """The last oops that the log tells of, for a dump that a crash kernel took before panic() spoke."""
    start = _last_oops(log)
    return None if start is None else _oops(log, start)


def crash_from_log(log: Sequence[LogRecord]) -> Panic | None:
    """The crash that a log alone tells of: a panic, a fatal oops, or the reason of a machine check.

    The last is printed by mce_panic() alone, right before it panics.
    """
    found = panic_from_log(log) or oops_from_log(log)
    if found is not None:
        return found
    for i in reversed(range(len(log))):
        if (
            "achine" in log[i].text
            and "Hardware Error" in log[i].text
            and (match := _MCE_REASON.search(log[i].text))
        ):
            return Panic(message=match[1].strip(), time=log[i].time)
    return None


def _panic_line(log: Sequence[LogRecord]) -> int | None:
    at = next((i for i in reversed(range(len(log))) if _PANIC.match(log[i].text)), None)
    # "---[ end Kernel panic - not syncing: ... ]---" repeats the message after the stack
    if at is None or "---[ end" not in log[at].text:
        return at
    first = (i for i in reversed(range(at)) if _PANIC.match(log[i].text))
    return next((i for i in first if "---[" not in log[i].text), at)


def _oops_of(log: Sequence[LogRecord], panic_at: int) -> int | None:
    """Where the oops begins that a panic ended."""
    match = _PANIC.match(log[panic_at].text)
    if match is None or not _OF_OOPS.match(match[1]):
        return None
    return _oops_before(log, panic_at)


def _last_oops(log: Sequence[LogRecord]) -> int | None:
    at = next((i for i in reversed(range(len(log))) if _FATAL_OOPS.match(log[i].text)), None)
    return None if at is None else _oops_before(log, at + 1)


def _oops_before(log: Sequence[LogRecord], end: int) -> int | None:
    """Where the oops shortly in front of ``end`` begins: die() may speak on several lines."""
    first = None
    last = log[min(end, len(log) - 1)].time
    for i in reversed(range(max(0, end - _LOOK_BACK), end)):
        time = log[i].time
        if time is not None and last is not None and last - time > _OOPS_SECONDS:
            break
        if "---[ end trace" in log[i].text and first is not None:
            break
        if _FATAL_OOPS.match(log[i].text):
            first = i
    return first


def crash_line(log: Sequence[LogRecord]) -> int | None:
    """The index of the first line of the crash: of its oops, else of the panic."""
    at = _panic_line(log)
    if at is None:
        return _last_oops(log)
    start = _oops_of(log, at)
    return at if start is None else start


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


def crash_registers(log: Sequence[LogRecord]) -> Registers:
    """The registers of the oops that the machine died of; of a panic without one nothing faulted."""
    at = _panic_line(log)
    start = _last_oops(log) if at is None else _oops_of(log, at)
    if start is None:
        return Registers()
    end = min(len(log) if at is None else at, start + _LOOK_BACK)
    began = log[start].time
    return registers_of(
        [
            record
            for record in log[start:end]
            if began is None or record.time is None or record.time - began <= _OOPS_SECONDS
        ]
    )


def oops_message(log: Sequence[LogRecord]) -> str | None:
    """The first line of the oops that the machine died of, or ``None`` where there was none."""
    at = _panic_line(log)
    start = _last_oops(log) if at is None else _oops_of(log, at)
    return None if start is None else log[start].text


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
