"""anon, thp and page-cache: pages with a mapping."""

from __future__ import annotations

from drgn import FaultError, Object

from mftriage.kernel.owner.subject import Subject
from mftriage.kernel.tasks import describe
from mftriage.model import Owner, Task
from mftriage.text import clean

# include/linux/page-flags.h: PAGE_MAPPING_ANON (FOLIO_MAPPING_ANON since 6.17), PAGE_MAPPING_MOVABLE
_ANON, _MOVABLE = 1, 2
_POISON_POINTERS = 0xDEAD000000000000
_KERNEL_HALF = 1 << 63


def detect(subject: Subject) -> Owner | None:
    """A page whose mapping is an anon_vma, or an address_space with a host inode."""
    mapping = subject.head.mapping
    kernel = subject.kernel
    if not mapping & _KERNEL_HALF or mapping & 0xFFFF000000000000 == _POISON_POINTERS:
        return None
    if mapping & _ANON:
        # Other untyped pages may keep anything in this word; an anonymous one is swap-backed.
        if not subject.flag("swapbacked") and not subject.flag("lru") and not _is_anon_vma(subject):
            return None
        order = _order(subject)
        task = _owner(subject)
        whose = f" of process {task.comm} (pid {task.pid})" if task else ""
        if order > 0:
            return Owner(
                kind="thp", task=task, detail=f"transparent huge page{whose}, order {order}"
            )
        return Owner(kind="anon", task=task, detail=f"anonymous memory{whose}")
    if mapping & _MOVABLE or not kernel.typed:
        return None
    space = Object(kernel.program, "struct address_space *", mapping)
    host = space.host.read_()
    if not host.value_() & _KERNEL_HALF or host.i_mapping.value_() not in (mapping, 0):
        return None
    if host.i_data.address_ != mapping and host.i_mapping.value_() != mapping:
        return None
    name = _path(host)
    return Owner(
        kind="page-cache", file=name, detail=f"page cache of {name or 'a file without a name'}"
    )


def _order(subject: Subject) -> int:
    from mftriage.kernel.page import order_of

    return order_of(subject.kernel, subject.memory_map, subject.head) or 0


def _vma(subject: Subject) -> Object | None:
    """A VMA that the page's anon_vma serves, if the anon_vma still holds together."""
    if not subject.kernel.typed:
        return None
    program = subject.kernel.program
    address = subject.head.mapping & ~3
    anon_vma = Object(program, "struct anon_vma *", address)
    try:
        node = anon_vma.rb_root.rb_root.rb_node.read_()
        if not node:
            return None
        chain_type = program.type("struct anon_vma_chain")
        from drgn import container_of

        chain = container_of(node, chain_type, "rb")
        if chain.anon_vma.value_() != address:
            return None
        vma: Object = chain.vma.read_()
        return vma
    except (FaultError, LookupError):
        return None


def _is_anon_vma(subject: Subject) -> bool:
    return _vma(subject) is not None


def _owner(subject: Subject) -> Task | None:
    """The process that the VMA belongs to (mm_struct.owner: CONFIG_MEMCG)."""
    vma = _vma(subject)
    if vma is None:
        return None
    try:
        task = vma.vm_mm.owner.read_()
        return describe(task) if task else None
    except (FaultError, LookupError, AttributeError):
        return None


def _path(inode: Object) -> str | None:
    from drgn.helpers.linux.fs import inode_path

    try:
        path = inode_path(inode)
    except (FaultError, LookupError, ValueError, AttributeError):
        return None
    return clean(path) if path else None
