"""slab: a page of a slab cache, the object in it that was hit, and the member of that object."""

from __future__ import annotations

from drgn import FaultError, Object, Type, TypeKind, sizeof

from mftriage.kernel.direct_map import to_virtual
from mftriage.kernel.owner.subject import CACHE_LINE, Subject
from mftriage.kernel.search import search
from mftriage.model import Owner, SlabObject
from mftriage.symbols import DAMAGED
from mftriage.text import c_string

# The struct type of caches that the kernel creates for one type only (SLAB_ACCOUNT, constructors or
# SLAB_TYPESAFE_BY_RCU keep them from being merged, or KMEM_CACHE names them after the type).
STRUCTS = {
    "anon_vma": "struct anon_vma",
    "anon_vma_chain": "struct anon_vma_chain",
    "bdev_cache": "struct bdev_inode",
    "buffer_head": "struct buffer_head",
    "cred": "struct cred",
    "cred_jar": "struct cred",
    "dentry": "struct dentry",
    "ext4_inode_cache": "struct ext4_inode_info",
    "file_lock_cache": "struct file_lock",
    "files_cache": "struct files_struct",
    "filp": "struct file",
    "fs_cache": "struct fs_struct",
    "inode_cache": "struct inode",
    "kernfs_node_cache": "struct kernfs_node",
    "maple_node": "struct maple_node",
    "mm_struct": "struct mm_struct",
    "mnt_cache": "struct mount",
    "nsproxy": "struct nsproxy",
    "perf_event": "struct perf_event",
    "pid": "struct pid",
    "proc_inode_cache": "struct proc_inode",
    "radix_tree_node": "struct xa_node",
    "request_sock_TCP": "struct tcp_request_sock",
    "shmem_inode_cache": "struct shmem_inode_info",
    "sighand_cache": "struct sighand_struct",
    "signal_cache": "struct signal_struct",
    "skbuff_head_cache": "struct sk_buff",
    "sock_inode_cache": "struct socket_alloc",
    "task_group": "struct task_group",
    "task_struct": "struct task_struct",
    "TCP": "struct tcp_sock",
    "TCPv6": "struct tcp6_sock",
    "UDP": "struct udp_sock",
    "vm_area_struct": "struct vm_area_struct",
    "vmap_area": "struct vmap_area",
    "xfs_inode": "struct xfs_inode",
}
_MAX_OBJECT = 8 << 20


def detect(subject: Subject) -> Owner | None:
    """A page of type slab (a flag until 6.11: 46df8e73a4a3 made it a type)."""
    if subject.page_type != "slab" and not subject.flag("slab"):
        return None
    if not subject.kernel.typed:
        return Owner(kind="slab", detail="the slab cache can't be named without types")
    program = subject.kernel.program
    try:
        slab = Object(program, "struct slab *", subject.head.address)  # since 5.17 (d122019bf061)
    except LookupError:
        slab = Object(program, "struct page *", subject.head.address)
    try:
        cache = slab.slab_cache.read_()
        name = c_string(cache.name.string_())
        size, object_size = cache.size.value_(), cache.object_size.value_()
        objects = slab.objects.value_()
    except FaultError:
        return Owner(kind="slab", detail="the slab cache's description is not in the dump")
    if not 0 < size <= _MAX_OBJECT:
        return Owner(kind="slab", detail="the slab cache's description is damaged", slab_cache=name)
    found = _object(subject, cache, name, size, object_size, objects)
    detail = f"slab cache {name}"
    if found is not None and found.member:
        detail += f", {found.type or 'object'} at {found.address}, member {found.member}"
    elif found is not None:
        detail += f", {found.type or 'object'} at {found.address}"
    else:
        detail += f", which object is not known: {objects} of {object_size} bytes share the slab"
    return Owner(
        kind="slab",
        detail=detail,
        slab_cache=name,
        object_size=object_size,
        objects=objects,
        object=found,
    )


def _object(
    subject: Subject, cache: Object, name: str, size: int, object_size: int, objects: int
) -> SlabObject | None:
    """The object that the hardware's address lies in, if it gave one below the page."""
    if subject.address is None:
        return None
    head_physical = subject.head.pfn << subject.memory_map.page_shift
    index, within = divmod(subject.address - head_physical, size)
    if not 0 <= index < objects:
        return None
    try:
        pad = cache.red_left_pad.value_()
    except AttributeError:
        pad = 0
    start = to_virtual(subject.kernel, head_physical + index * size + pad)
    offset = within - pad
    if not 0 <= offset < object_size:
        return None  # the allocator's own bytes beside the object
    kind = _type(subject, cache, name, object_size)
    return SlabObject(
        address=f"{start:#x}",
        type=kind.type_name() if kind is not None else None,
        offset=f"{offset:#x}",
        member=member_at(kind, offset, subject.length or CACHE_LINE) if kind is not None else None,
        allocated=_allocated(subject, start),
    )


def _type(subject: Subject, cache: Object, name: str, object_size: int) -> Type | None:
    """The C type of a cache's objects: known by name, and of the right size."""
    wanted = STRUCTS.get(name)
    if wanted is None:
        return None
    try:
        kind = subject.kernel.program.type(wanted)
    except LookupError:
        return None  # a module's type
    # A merged cache also holds objects of other types, unless they are of one size and one name.
    return kind if sizeof(kind) <= object_size < sizeof(kind) + CACHE_LINE else None


def member_at(kind: Type, offset: int, length: int) -> str | None:
    """The members of ``kind`` that bytes [offset, offset + length) cover: "d_seq", or "d_flags to d_name"."""
    names = [
        member_name
        for member_name, start, end in _members(kind, 0)
        if start < offset + length and end > offset
    ]
    if not names:
        return None
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _members(kind: Type, base: int) -> list[tuple[str, int, int]]:
    """(name, first byte, byte behind the last) of each named member; anonymous ones are looked into."""
    found: list[tuple[str, int, int]] = []
    for member in kind.members or ():
        start = base + member.bit_offset // 8
        inner = member.type
        while inner.kind == TypeKind.TYPEDEF:
            inner = inner.type
        if member.name is None:
            found += _members(inner, start)
            continue
        try:
            width = (
                (member.bit_field_size + 7) // 8 if member.bit_field_size else sizeof(member.type)
            )
        except TypeError:  # a flexible array or an incomplete type
            width = 0
        found.append((member.name, start, start + width))
    return found


def _allocated(subject: Subject, address: int) -> bool | None:
    """Whether the object is in use: the freelist lies in the slab's own pages, the bad one too.

    That page must not have to be in a capsule, so the answer is kept as a finding.
    """
    dump = subject.kernel.dump

    def look() -> bool | None:
        if not dump.memory.holds(subject.page.pfn):
            return None  # as of most poisoned pages: then the imports would be in vain
        from drgn.helpers import ValidationError
        from drgn.helpers.linux.slab import slab_object_info

        try:
            info = slab_object_info(subject.kernel.program, address)
        except (*DAMAGED, AttributeError, TypeError, ValidationError):
            return None
        return info.allocated if info is not None else None

    return search(dump, f"allocated:{address:#x}", look, lambda claim: type(claim) is bool)
