"""How the machine died: the CPU that panicked, its task and its stack in memory."""

from __future__ import annotations

from collections.abc import Sequence

import drgn
from drgn import FaultError, Object, StackFrame, StackTrace

from mftriage.dump.header import Note
from mftriage.kernel.orc import Step, unwind
from mftriage.kernel.percpu import current_task as running_on
from mftriage.kernel.tasks import describe
from mftriage.model import Frame
from mftriage.records.crash import oops_from_log, oops_message, panic_from_log
from mftriage.symbols import Kernel
from mftriage.text import clean

__all__ = [
    "current_task",
    "oops_from_log",
    "oops_message",
    "panic_cpu",
    "panic_from_log",
    "stack",
]

_NT_PRSTATUS = 1
_PR_REG = 112  # offset of pr_reg in struct elf_prstatus, 64-bit
_PANIC_CPU_INVALID = 0xFFFFFFFF
_MAX_FRAMES = 64
_MAX_CPUS = 8192


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
            Frame(
                function=clean(name) if name else None,
                offset=offset,
                source=_source(frame),
                inlined=frame.is_inline,
            )
        )
    return tuple(frames)


def _source(frame: StackFrame) -> str | None:
    try:
        file, line, _ = frame.source()
    except LookupError:
        return None
    return f"{clean(file)}:{line}" if file else None
