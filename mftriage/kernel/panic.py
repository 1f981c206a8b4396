"""How the machine died: the panic's message in the log, its task, CPU and stack in memory."""

from __future__ import annotations

import re
from collections.abc import Sequence

import drgn
from drgn import FaultError, Object, StackFrame, StackTrace

from mftriage.dump.header import Note
from mftriage.kernel.orc import Step, unwind
from mftriage.kernel.percpu import current_task as running_on
from mftriage.kernel.tasks import describe
from mftriage.log import LogRecord
from mftriage.model import Frame, Panic, Task
from mftriage.symbols import Kernel
from mftriage.text import clean

_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")
# An oops starts a crash kernel before panic() is called (oops_end, die), so the log may end with it.
_OOPS = re.compile(
    r"(?:(?:Oops|Internal error|BUG|kernel BUG at|general protection fault|Unable to handle kernel)\b.*)"
)
_FAULT = re.compile(
    r"(?:page fault for address: |paging request at (?:virtual address )?|NULL pointer dereference(?:, address:| at virtual address) |"
    r"(?:non-canonical |maybe for |for )address )(?:0x)?([0-9a-f]{8,16})\b"
)
_WHO = re.compile(
    r"CPU: (\d+) (?:UID: \d+ )?PID: (\d+) Comm: (.*?)(?: Kdump: loaded)? (?:Not tainted|Tainted:)"
)
_TRACE_LINE = re.compile(
    r"^\s*(?:\[<[0-9a-f]+>\] )?([\w.$]+)\+(0x[0-9a-f]+)/0x[0-9a-f]+(?: \[(\w+)\])?(?: \([A-Z]\))?\s*$"
)
_RIP = re.compile(r"RIP: 0010:([\w.$]+)\+(0x[0-9a-f]+)/0x")
_NT_PRSTATUS = 1
_PR_REG = 112  # offset of pr_reg in struct elf_prstatus, 64-bit
_PANIC_CPU_INVALID = 0xFFFFFFFF
_MAX_FRAMES = 64
_MAX_CPUS = 8192


def panic_from_log(log: Sequence[LogRecord]) -> Panic | None:
    """The last panic or fatal oops that the log tells of."""
    at = next((i for i in reversed(range(len(log))) if _PANIC.search(log[i].text)), None)
    # "---[ end Kernel panic - not syncing: ... ]---" repeats the message after the stack
    if at is not None and "---[ end" in log[at].text:
        at = next(
            (
                i
                for i in reversed(range(at))
                if _PANIC.search(log[i].text) and "---[" not in log[i].text
            ),
            at,
        )
    if at is None:
        return None
    match = _PANIC.search(log[at].text)
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
        trace=_trace(log[start:]),
    )


def oops_from_log(log: Sequence[LogRecord]) -> Panic | None:
    """The last oops that the log tells of, for a dump that a crash kernel took before panic() spoke."""
    at = next((i for i in reversed(range(len(log))) if _OOPS.match(log[i].text)), None)
    if at is None:
        return None
    start = _oops_before(log, at + 1)
    return Panic(
        message=log[start].text,
        time=log[start].time,
        task=_who(log[start:]),
        cpu=_cpu(log[start:]),
        fault_address=_fault(log[start:]),
        trace=_trace(log[start:]),
    )


def oops_message(log: Sequence[LogRecord], panic_time: float | None) -> str | None:
    """The first line of the oops that led to a panic, or ``None`` where there was none."""
    end = next(
        (
            i
            for i in reversed(range(len(log)))
            if _PANIC.search(log[i].text) and log[i].time == panic_time
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
    return tuple(frames[:_MAX_FRAMES])


def panic_cpu(kernel: Kernel) -> int | None:
    """The CPU that called panic(); ``None`` where none did.

    Raises ``LookupError`` or ``FaultError`` where the dump does not tell.
    """
    address = kernel.address("panic_cpu")
    if address is None:
        raise LookupError("the symbol panic_cpu is not known")
    cpu = kernel.program.read_u32(address)
    return None if cpu == _PANIC_CPU_INVALID or cpu >= _MAX_CPUS else cpu


def current_task(kernel: Kernel, cpu: int) -> Object:
    """The ``struct task_struct *`` that ran on a CPU.  Raises ``FaultError`` or ``LookupError``."""
    task = running_on(kernel, cpu)
    describe(task)
    return task


def stack(kernel: Kernel, cpu: int, task: Object) -> tuple[Frame, ...]:
    """The stack of the task that ran on ``cpu``.

    Raises ``LookupError`` when the dump has no registers of that CPU.
    """
    registers = _registers(kernel, cpu, task)
    if registers is None:
        raise LookupError("the dump has no registers of the CPU that panicked")
    orc = kernel.dump.arch == "x86_64"
    if orc and kernel.tier == "btf":
        return tuple(_frame(kernel, step) for step in unwind(kernel, registers))
    frames = _frames(kernel, kernel.program.stack_trace(_pt_regs(kernel, registers)))
    if orc and len(frames) < 2:  # drgn stops at __crash_kexec, which has no ORC entry
        return tuple(_frame(kernel, step) for step in unwind(kernel, registers))
    return frames


def _prstatus(notes: Sequence[Note]) -> list[bytes]:
    """Each CPU's registers, in the order of the CPUs (struct elf_prstatus)."""
    return [n.desc[_PR_REG:] for n in notes if n.type == _NT_PRSTATUS and n.name == "CORE"]


def _registers(kernel: Kernel, cpu: int, task: Object) -> bytes | None:
    """The registers whose stack pointer lies in the task's stack, else those of the CPU by its number."""
    notes = _prstatus(kernel.dump.notes)
    at = (
        31 * 8 if kernel.dump.arch == "arm64" else 19 * 8
    )  # sp of user_pt_regs, of user_regs_struct
    try:
        base = task.stack.value_()
        for registers in notes:
            if base <= int.from_bytes(registers[at : at + 8], "little") < base + 0x10000:
                return registers
    except FaultError:
        pass
    return notes[cpu] if cpu < len(notes) else None


def _pt_regs(kernel: Kernel, registers: bytes) -> Object:
    """The registers as a struct pt_regs, of which the note's set is the beginning."""
    kind = kernel.program.type("struct pt_regs")
    size = drgn.sizeof(kind)
    # user_regs_struct goes on with fs_base and segments behind what pt_regs has: 21 words, or 34
    words = 34 if kernel.dump.arch == "arm64" else 21
    return Object.from_bytes_(
        kernel.program, kind, registers[: words * 8].ljust(size, b"\0")[:size]
    )


def _frame(kernel: Kernel, step: Step) -> Frame:
    before = 0 if step.exact else 1  # a call may be the last instruction of its function
    place = kernel.nearest(step.ip - before)
    if place is None:
        return Frame(function=None, offset=None)
    return Frame(function=clean(place.name), offset=f"{place.offset + before:#x}")


def _frames(kernel: Kernel, trace: StackTrace) -> tuple[Frame, ...]:
    frames = []
    for frame in list(trace)[:_MAX_FRAMES]:
        name = frame.name
        offset = None
        try:
            place = kernel.nearest(frame.pc - (0 if frame.interrupted else 1))
            if place is not None:
                name = name or place.name
                offset = f"{place.offset + (0 if frame.interrupted else 1):#x}"
        except LookupError:
            pass
        frames.append(
            Frame(function=clean(name) if name else None, offset=offset, source=_source(frame))
        )
    return tuple(frames)


def _source(frame: StackFrame) -> str | None:
    try:
        file, line, _ = frame.source()
    except LookupError:
        return None
    return f"{clean(file)}:{line}" if file else None
