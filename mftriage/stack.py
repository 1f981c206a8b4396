"""Which frames of a crash's stack say where it came from, and which only how a kernel dies."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mftriage.model import Frame

# What runs once a kernel has decided to die, and the entry code of exceptions: on every such stack.
_MACHINERY = re.compile(
    r"(dump_stack|show_stack|dump_backtrace|v?panic(_|$)|(__)?crash_kexec|machine_kexec|crash_setup_regs|"
    r"(__)?die(_|$)|oops_|nmi_panic|delay_|__delay|__(const_)?udelay|i8042_panic_blink|native_machine_|"
    r"asm_exc_|exc_|el[01]|do_mem_abort|do_sea|do_translation_fault|do_page_fault|do_user_addr_fault|"
    r"do_kern_addr_fault|__?do_kernel_fault|__bad_area|page_fault_oops|kernelmode_fixup_or_oops|"
    r"mce_panic|mce_end|do_machine_check|machine_|emergency_|apei_|ghes_|__ghes_)"
)


def crash_site(trace: Sequence[Frame]) -> Sequence[Frame]:
    """The frames from the first one that is not machinery; all of them if there is no such frame."""
    for index, frame in enumerate(trace):
        if frame.function and not _MACHINERY.match(frame.function):
            return trace[index:]
    return trace
