"""Linked lists and pools of the kernel, walked with an end in sight."""

from __future__ import annotations

from collections.abc import Iterator

from drgn import Object, Type, container_of, offsetof

from mftriage.symbols import Kernel

_MAX_CHUNKS = 64


def entries(kernel: Kernel, head: int, kind: Type | str, link: str, limit: int) -> Iterator[Object]:
    """The structs of ``kind`` that hang by ``link`` in the list_head at ``head``, ``limit`` at most.

    A list that is broken ends where it breaks with a ``FaultError``, one that runs in circles
    where it closes.
    """
    program = kernel.program
    if isinstance(kind, str):
        kind = program.type(kind)
    offset = offsetof(kind, link)
    seen = {0, head}
    node = program.read_u64(head)
    while node not in seen and limit > 0:
        seen.add(node)
        limit -= 1
        following = program.read_u64(node)
        yield Object(program, kind, address=node - offset)
        node = following


def pool_chunks(pool: Object, limit: int) -> Iterator[tuple[int, int]]:
    """First address and bytes of each chunk of a ``struct gen_pool *`` (lib/genalloc.c).

    All chunks together have ``limit`` bytes at most.
    """
    head = pool.chunks.address_of_()
    link = pool.chunks.next.read_()
    for _ in range(_MAX_CHUNKS):
        if link == head:
            return
        chunk = container_of(link, "struct gen_pool_chunk", "next_chunk")
        link = link.next.read_()
        start, end = chunk.start_addr.value_(), chunk.end_addr.value_()  # end: the last byte
        if 0 < end - start < limit:
            limit -= end - start + 1
            yield start, end - start + 1
