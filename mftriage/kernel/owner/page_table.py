"""page-table: a page of type table, its level, and whose address space it belongs to.

The table's own content is what makedumpfile leaves out, so its place is found from above: the
tables that point at it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from drgn import FaultError, Object

from mftriage.kernel.direct_map import to_virtual
from mftriage.kernel.image import image_bounds
from mftriage.kernel.owner.subject import Subject
from mftriage.kernel.pagetable import find_parent, geometry, kernel_root, level_name
from mftriage.kernel.search import is_number, search
from mftriage.kernel.tasks import describe, task_at, tasks
from mftriage.model import Owner


class _Place(NamedTuple):
    """Where a table hangs: ``task`` is the address of a task_struct, 0 for the kernel's own tables."""

    level: int
    address: int
    task: int


def detect(subject: Subject) -> Owner | None:
    """A page of type table (PG_table since 4.18, 1d40a5ea01d5)."""
    if subject.page_type not in ("table", "pgtable"):
        return None
    kernel = subject.kernel
    if not kernel.typed:
        return Owner(kind="page-table", detail="whose it is can't be told without types")

    def check(claim: list[Any]) -> bool:
        level, address, task = claim
        sane = is_number(level, geometry(kernel).levels) and is_number(address) and is_number(task)
        return sane and (not task or bool(describe(task_at(kernel, task))))

    found = search(kernel.dump, f"page-table:{subject.page.pfn:#x}", lambda: _find(subject), check)
    if not found:
        return Owner(kind="page-table", detail="whose it is was not found in any address space")
    place = _Place(*found)
    level = level_name(kernel, place.level)
    if not place.task:
        return Owner(
            kind="page-table",
            level=level,
            detail=f"{level} of the kernel's own page tables, maps {place.address:#x}",
        )
    task = describe(task_at(kernel, place.task))
    at = "" if level == "pgd" else f", maps {place.address:#x}"
    return Owner(
        kind="page-table",
        level=level,
        task=task,
        detail=f"{level} of process {task.comm} (pid {task.pid}){at}",
    )


def _find(subject: Subject) -> _Place | None:
    """Look in the kernel's tables, then in those of each process."""
    kernel, budget = subject.kernel, subject.budget
    wanted = {subject.page.pfn, subject.head.pfn}
    root = kernel_root(kernel)
    if root is not None:
        for pfn in wanted:
            if found := find_parent(kernel, root, pfn, budget, user=False):
                return _Place(*found, 0)
    seen: set[int] = set()
    for task in tasks(kernel, budget):
        try:
            mm = task.mm.read_()
            address = mm.value_()
            if not address or address in seen:
                continue
            seen.add(address)
            root = _root_of(subject, mm)
        except FaultError:
            continue
        for pfn in wanted:
            if root >> subject.memory_map.page_shift == pfn:
                return _Place(geometry(kernel).levels - 1, 0, task.value_())
            if found := find_parent(kernel, root, pfn, budget, user=True):
                return _Place(*found, task.value_())
    return None


def _root_of(subject: Subject, mm: Object) -> int:
    """The physical address of a process's top table."""
    pgd: int = mm.pgd.value_()
    offset = subject.kernel.dump.image_offset
    bounds = image_bounds(subject.kernel)
    if offset is not None and bounds and bounds[0] <= pgd < bounds[1]:
        return pgd - offset & (1 << 64) - 1
    return pgd - to_virtual(subject.kernel, 0) & (1 << 64) - 1
