"""Which frames of a crash's stack say where it came from, and which only how a kernel dies."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mftriage.model import Frame

# What runs once a kernel has decided to die, and the entry code of exceptions: on every such stack.
_PANIC = re.compile(r"v?panic$|(__)?crash_kexec$")
_MACHINERY = re.compile(
    r"(dump_stack|show_stack|dump_backtrace|v?panic(_|$)|(__)?crash_kexec|machine_kexec|crash_setup_regs|"
    r"(__)?die(_addr|_body|_header|_kernel_fault)?(\.|$)|oops_|nmi_panic|delay_|__delay|__(const_)?udelay|i8042_panic_blink|native_machine_|"
    r"asm_exc_|(__)?exc_|gp_|el[01]|arm64_notify_die|do_mem_abort|do_sea|do_translation_fault|do_page_fault|do_user_addr_fault|"
    r"do_kern_addr_fault|__?do_kernel_fault|__bad_area|page_fault_oops|kernelmode_fixup_or_oops|"
    r"mce_panic|mce_end|do_machine_check|machine_|emergency_|apei_|ghes_|__ghes_)"
)

# mm/hwpoison-inject.c, mm/madvise.c, drivers/base/memory.c
_INJECTORS = (
    "hwpoison_inject",
    "madvise_inject_error",
    "hard_offline_page_store",
    "soft_offline_page_store",
)


def crash_site(trace: Sequence[Frame]) -> Sequence[Frame]:
    """The frames from the first one that is not machinery; none where a process itself crashed the kernel.

    In front of panic() stands only how the CPU waits, in functions of any name once inlined ones
    have frames of their own.
    """
    start = next((i for i, f in enumerate(trace) if f.function and _PANIC.match(f.function)), 0)
    for index, frame in enumerate(trace[start:], start):
        if frame.function and not _MACHINERY.match(frame.function):
            return trace[index:]
    return ()


def site(trace: Sequence[Frame]) -> str | None:
    """The function that crashed, without the compiler's ``.cold`` and ``.isra.0``, and no inlined one."""
    frames = [f for f in trace if f.function and not f.inlined]
    function = next((f.function for f in crash_site(frames)), None)
    return function.split(".")[0] if function else None


def injects(trace: Sequence[Frame]) -> bool:
    """Whether the stack is that of a task which injects a memory failure, for a test."""
    return any(frame.function in _INJECTORS for frame in trace)
