"""kernel-stack, vmalloc, module and dynamic percpu: untyped pages, told by who maps them.

Such a page has no type and no mapping; what it is shows in the kernel's page tables, in the
vm_struct that covers its virtual address, and in that area's caller.
"""

from __future__ import annotations

from drgn import FaultError, Object

from mftriage.kernel.owner.percpu import chunk_detail
from mftriage.kernel.owner.subject import Subject
from mftriage.kernel.pagetable import find_mapping
from mftriage.kernel.percpu import online_cpus, per_cpu
from mftriage.kernel.search import is_number, search
from mftriage.kernel.tasks import describe, task_at, tasks
from mftriage.model import Owner
from mftriage.symbols import Kernel
from mftriage.text import c_string

# kernel/fork.c: alloc_thread_stack_node is inlined into one of its callers
_STACK_CALLERS = {
    "alloc_thread_stack_node",
    "dup_task_struct",
    "copy_process",
    "kernel_clone",
    "fork_idle",
}
_MAX_STACK = 1 << 20  # bytes; THREAD_SIZE is 16 to 64 KiB, with KASAN twice that
_PERCPU_CALLERS = {"pcpu_get_vm_areas", "pcpu_create_chunk"}


def detect(subject: Subject) -> Owner | None:
    """Whoever maps the page in vmalloc or module space."""
    kernel = subject.kernel
    if not kernel.typed or subject.page_type is not None:
        return None
    address = search(
        kernel.dump,
        f"mapping:{subject.page.pfn:#x}",
        lambda: find_mapping(kernel, subject.page.pfn, subject.budget),
        is_number,
    )
    if address is None:
        return None
    if owner := _module(subject, address):
        return owner
    from drgn.helpers.linux.mm import find_vmap_area

    area = find_vmap_area(kernel.program, address)
    vm = area.vm.read_() if area else None
    if not vm:
        return Owner(kind="vmalloc", detail=f"mapped at {address:#x}, in no known area")
    place = kernel.nearest(vm.caller.value_())
    caller = place.name.split(".")[0] if place else None
    if caller in _PERCPU_CALLERS:
        return Owner(kind="percpu", detail=chunk_detail(subject, vm), caller=caller)
    if owner := _stack(subject, vm, address, caller):
        return owner
    shown = f"{place.name}+{place.offset:#x}" if place else f"{vm.caller.value_():#x}"
    return Owner(
        kind="vmalloc",
        caller=shown,
        detail=f"vmalloc area of {vm.size.value_()} bytes at {vm.addr.value_():#x}, allocated by {shown}",
    )


def _module(subject: Subject, address: int) -> Owner | None:
    from drgn.helpers.linux.module import address_to_module

    try:
        module = address_to_module(subject.kernel.program, address)
        if not module:
            return None
        name = c_string(module.name.string_())
    except (FaultError, LookupError):
        return None
    return Owner(kind="module", module=name, detail=f"module {name}, mapped at {address:#x}")


def _stack(subject: Subject, vm: Object, address: int, caller: str | None) -> Owner | None:
    """A stack: some task's, a CPU's for its interrupts, or one that is kept for the next task."""
    kernel = subject.kernel
    start, size = vm.addr.value_(), vm.size.value_()
    if size > _MAX_STACK:
        return None
    for cpu in _online(kernel):
        if start <= _irq_stack(kernel, cpu) < start + size:
            detail = f"stack of CPU {cpu} for interrupts, mapped at {address:#x}"
            return Owner(kind="kernel-stack", caller=caller, detail=detail)

    def find() -> int | None:
        for task in tasks(kernel, subject.budget):
            try:
                if start <= task.stack.value_() < start + size:
                    return int(task.value_())
            except FaultError:
                continue
        return None

    def has_it(task: int) -> bool:
        """Read by the dump's analysis, too, so that a capsule holds the proof."""
        stack = task_at(kernel, task).stack.value_() if is_number(task) else 0
        return bool(start <= stack < start + size)

    found = search(kernel.dump, f"stack:{start:#x}", find, has_it)
    found = found if found is not None and has_it(found) else None
    if found is None:
        if caller not in _STACK_CALLERS:
            return None
        return Owner(
            kind="kernel-stack",
            caller=caller,
            detail=f"stack at {start:#x} of no task that runs (kept for reuse)",
        )
    task = describe(task_at(kernel, found))
    return Owner(
        kind="kernel-stack",
        task=task,
        caller=caller,
        detail=f"kernel stack of {task.comm} (pid {task.pid}), mapped at {address:#x}",
    )


def _online(kernel: Kernel) -> list[int]:
    try:
        return list(online_cpus(kernel))
    except (FaultError, LookupError, AttributeError):
        return []


def _irq_stack(kernel: Kernel, cpu: int) -> int:
    """Where a CPU's IRQ stack lies (arch/arm64/kernel/irq.c, init_irq_stacks); 0 where it has none.

    On x86_64 it is part of the static per-CPU area.
    """
    try:
        return int(per_cpu(kernel, kernel.program["irq_stack_ptr"], cpu).value_())
    except (FaultError, LookupError):
        return 0
