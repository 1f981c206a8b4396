"""A struct page as the report tells it."""

from __future__ import annotations

from drgn import FaultError, Object

from mftriage.kernel.memmap import MemoryMap, Page
from mftriage.kernel.owner import Subject, owner_of
from mftriage.kernel.search import Budget, search
from mftriage.model import Owner, PageInfo, hexed
from mftriage.symbols import Kernel
from mftriage.text import c_string

_MAX_ORDER = 20
_MAX_NODES, _MAX_ZONES = 1024, 8


def describe_page(
    kernel: Kernel,
    memory_map: MemoryMap,
    pfn: int,
    budget: Budget,
    *,
    address: int | None = None,
    length: int | None = None,
    words: str | None = None,
    problems: list[str] | None = None,
) -> PageInfo:
    """The page's own words, and its owner.

    ``address`` and ``length`` (bytes) are the hardware's, where it gave an address below the page;
    ``words`` the kernel's for this page.  What stood in the way of an answer goes to ``problems``.
    """
    physical = pfn << memory_map.page_shift
    try:
        page = memory_map.read(pfn)
        if page is None:
            return _without_struct_page(kernel, pfn, address or physical)
        head = page if not page.is_tail else memory_map.read(page.head) or page
    except FaultError:
        lost = f"the struct page of pfn {pfn:#x} is not in the dump"
        if problems is not None:
            problems.append(lost)
        return _unknown(kernel, pfn, address or physical, lost)
    subject = Subject(
        kernel=kernel,
        memory_map=memory_map,
        page=page,
        head=head,
        budget=budget,
        address=address,
        length=length,
        words=words,
    )
    owner = owner_of(subject)
    if problems is not None:
        problems += subject.problems
    order = order_of(kernel, memory_map, head)
    node, zone = _node_and_zone(kernel, pfn)
    return PageInfo(
        pfn=f"{pfn:#x}",
        physical_address=f"{physical if address is None else address:#x}",
        flags=memory_map.flags_of(page),
        page_type=subject.page_type,
        hwpoison=memory_map.is_poisoned(page),
        refcount=page.refcount,
        mapcount=memory_map.mapcount_of(page),
        order=order,
        compound="tail" if page.is_tail else "head" if order else None,
        head_pfn=hexed(head.pfn) if page.is_tail else None,
        node=node,
        zone=zone,
        content_in_dump=content_in_dump(kernel, pfn),
        owner=owner,
    )


def content_in_dump(kernel: Kernel, pfn: int) -> bool:
    """Whether the page's bytes are in the dump (makedumpfile leaves poisoned pages out at every level)."""
    memory = kernel.dump.memory
    found = search(
        kernel.dump, f"present:{pfn:#x}", lambda: memory.holds(pfn), lambda x: type(x) is bool
    )
    return bool(found)


def _without_struct_page(kernel: Kernel, pfn: int, physical: int) -> PageInfo:
    from mftriage.kernel.owner.reserved import resource_at

    where = resource_at(kernel, physical)
    detail = "the kernel has no struct page for this pfn" + (
        f"; it lies in {where}" if where else ""
    )
    return _unknown(kernel, pfn, physical, detail)


def _unknown(kernel: Kernel, pfn: int, physical: int, detail: str) -> PageInfo:
    return PageInfo(
        pfn=f"{pfn:#x}",
        physical_address=f"{physical:#x}",
        content_in_dump=content_in_dump(kernel, pfn),
        owner=Owner(kind="unknown", detail=detail),
    )


def order_of(kernel: Kernel, memory_map: MemoryMap, head: Page) -> int | None:
    """log2 of the compound page's pages; 0 for a single page, ``None`` where it can't be read."""
    if not memory_map.has_flag(head, "head"):
        return 0
    if not kernel.typed:
        return None
    try:
        folio = Object(kernel.program, "struct folio *", head.address)
        # In the low byte of _flags_1 since 6.6 (ebc1baf5c9b4); 6.1 (379708ffde1b) has a member.
        if folio.type_.type.has_member("_folio_order"):
            order = int(folio._folio_order.value_())
        else:
            order = int(folio._flags_1.value_()) & 0xFF
    except (FaultError, LookupError, AttributeError):
        return None
    return order if order <= _MAX_ORDER else None


def _node_and_zone(kernel: Kernel, pfn: int) -> tuple[int | None, str | None]:
    """The NUMA node and the zone, by the ranges of each zone (zones of two nodes may interleave)."""
    if not kernel.typed:
        return None, None
    try:
        for node, pgdat in _nodes(kernel):
            for index in range(min(pgdat.nr_zones.value_(), _MAX_ZONES)):
                zone = pgdat.node_zones[index]
                start = zone.zone_start_pfn.value_()
                if start <= pfn < start + zone.spanned_pages.value_():
                    return node, c_string(zone.name.string_())
    except (FaultError, LookupError, AttributeError):
        pass
    return None, None


def _nodes(kernel: Kernel) -> list[tuple[int, Object]]:
    program = kernel.program
    try:
        nodes = program["node_data"]
    except LookupError:  # !CONFIG_NUMA
        return [(0, program["contig_page_data"])]
    count = min(kernel.dump.vmcoreinfo.length("node_data") or 1, _MAX_NODES)
    online = _online(kernel, count)
    return [(node, nodes[node].read_()) for node in online if nodes[node]]


def _online(kernel: Kernel, count: int) -> list[int]:
    """Online nodes (SYMBOL(node_online_map) is a nodemask_t)."""
    address = kernel.dump.vmcoreinfo.symbol("node_online_map")
    size = kernel.dump.vmcoreinfo.size("nodemask_t")
    if address is None or size is None:
        return list(range(count))
    mask = int.from_bytes(kernel.program.read(address, size), "little")
    return [node for node in range(min(count, size * 8)) if mask >> node & 1]


def ignored_per_node(kernel: Kernel) -> dict[int, dict[str, int]] | None:
    """mf_stats of each node (struct memory_failure_stats, since 6.3, 44b8f8bf2438): what became of failures.

    ``None`` where the kernel does not keep them.
    """
    if not kernel.typed:
        return None
    stats = {}
    try:
        for node, pgdat in _nodes(kernel):
            counters = pgdat.mf_stats
            stats[node] = {
                name: counters.member_(name).value_()
                for name in ("total", "ignored", "failed", "delayed", "recovered")
            }
    except (FaultError, LookupError, AttributeError):
        return None
    return stats
