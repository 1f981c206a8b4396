"""Per-CPU variables, and what runs on each CPU.

These few lines stand for drgn's helpers because importing any one of ``drgn.helpers.linux``
imports all of them: a tenth of a whole analysis.
"""

from __future__ import annotations

from collections.abc import Iterator

from drgn import Object

from mftriage.symbols import Kernel

_MASK = (1 << 64) - 1
_MAX_CPUS = 8192


def per_cpu(kernel: Kernel, variable: Object, cpu: int) -> Object:
    """A CPU's own copy of a per-CPU variable (per_cpu_ptr, include/linux/percpu-defs.h)."""
    offset = kernel.program["__per_cpu_offset"][cpu].value_()
    address = variable.address_ + offset & _MASK
    return Object(kernel.program, variable.type_, address=address)


def online_cpus(kernel: Kernel) -> Iterator[int]:
    """The CPUs that were online, in order."""
    bits = kernel.program["__cpu_online_mask"].bits
    words = list(bits.value_())
    width = 64
    for index, word in enumerate(words[: _MAX_CPUS // width]):
        for bit in range(width):
            if word >> bit & 1:
                yield index * width + bit


def current_task(kernel: Kernel, cpu: int) -> Object:
    """The ``struct task_struct *`` that ran on a CPU: its runqueue's (kernel/sched/sched.h, cpu_curr)."""
    queue = per_cpu(kernel, kernel.program["runqueues"], cpu)
    return queue.curr.read_()
