"""reserved: a page that was never the allocator's, by the resource it lies in."""

from __future__ import annotations

from drgn import FaultError, Object

from mftriage.kernel.owner.subject import Subject
from mftriage.kernel.pagetable import find_mapping_in, vmemmap_window
from mftriage.kernel.search import is_number, search
from mftriage.model import Owner
from mftriage.symbols import Kernel
from mftriage.text import c_string

_MAX_RESOURCES = 4096


def detect(subject: Subject) -> Owner | None:
    """PG_reserved."""
    if not subject.flag("reserved"):
        return None
    detail = "reserved memory"
    if resource := resource_at(subject.kernel, subject.physical):
        detail += f" in {resource}"
    window = vmemmap_window(subject.kernel)
    if window is not None:
        found = search(
            subject.kernel.dump,
            f"memory-map:{subject.page.pfn:#x}",
            lambda: find_mapping_in(subject.kernel, subject.page.pfn, [window], subject.budget),
            lambda claim: is_number(claim) and window[0] <= claim < window[1],
        )
        if found is not None:
            size = subject.memory_map.struct_size
            first = (found - window[0]) // size
            last = first + subject.memory_map.page_size // size - 1
            detail = f"the memory map: struct pages of pfns {first:#x} to {last:#x}"
    return Owner(kind="reserved", detail=detail)


def resource_at(kernel: Kernel, physical: int) -> str | None:
    """The innermost resource of /proc/iomem that covers a physical address, with its range."""
    if not kernel.typed:
        return None
    from drgn.helpers.linux.ioport import for_each_resource

    best: Object | None = None
    try:
        root = kernel.program["iomem_resource"].address_of_()
        for count, resource in enumerate(for_each_resource(root)):
            if count > _MAX_RESOURCES:
                break
            if resource.start.value_() <= physical <= resource.end.value_() and resource != root:
                best = resource  # a child comes after its parent
        if best is None:
            return None
        name = c_string(best.name.string_())
        return f"{name!r} ({best.start.value_():#x}-{best.end.value_():#x})"
    except (FaultError, LookupError):
        return None
