"""percpu: the first per-CPU chunk, which boot memory holds (the others are found by their mapping)."""

from __future__ import annotations

from drgn import Object

from mftriage.kernel.direct_map import to_virtual
from mftriage.kernel.owner.subject import Subject
from mftriage.model import Owner

_MAX_UNITS = 8192


def detect(subject: Subject) -> Owner | None:
    """A reserved page in a unit of the first chunk (mm/percpu.c, pcpu_embed_first_chunk)."""
    kernel = subject.kernel
    if not kernel.typed or not subject.flag("reserved"):
        return None
    program = kernel.program
    address = to_virtual(kernel, subject.physical)
    base = program["pcpu_base_addr"].value_()
    size = program["pcpu_unit_size"].value_()
    offsets = program["pcpu_unit_offsets"]
    cpus = min(program["nr_cpu_ids"].value_(), _MAX_UNITS)
    for cpu in range(cpus):
        unit = base + offsets[cpu].value_()
        if unit <= address < unit + size:
            return Owner(kind="percpu", detail=_detail(subject, cpu, address - unit))
    return None


def _detail(subject: Subject, cpu: int, within: int) -> str:
    """Which CPU's, and the static variable that lies there, by the linker's symbols."""
    kernel = subject.kernel
    exact = within + (0 if subject.address is None else subject.address - subject.physical)
    start, end = kernel.address("__per_cpu_start"), kernel.address("__per_cpu_end")
    detail = f"first per-CPU chunk, CPU {cpu}"
    if start is not None and end is not None and exact < end - start:
        place = kernel.nearest(start + exact)
        if place is not None:
            where = "at" if subject.address is not None else "the page begins at"
            detail += f", {where} {place.name}+{place.offset:#x}"
    return detail


def chunk_detail(subject: Subject, area: Object) -> str:
    """A dynamic chunk's words: ``area`` is the vm_struct that its units lie in."""
    return f"dynamic per-CPU chunk mapped at {area.addr.value_():#x}"
