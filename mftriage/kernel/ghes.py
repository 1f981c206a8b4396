"""Records of the firmware (APEI GHES) in the kernel's memory; drivers/acpi/apei/ghes.c.

Printing is limited to two records in five seconds, and the log's buffer wraps: what firmware said
is in memory still.  Three places hold it, as ACPI has it, and the same record may be in all:

* ``ghes_estatus_caches``: the last four records that were printed, with the time and how often
  each was repeated since;
* ``struct ghes.estatus``: the last record of each error source.  Only its block_status is cleared
  when the record has been dealt with;
* ``ghes_estatus_pool``: records reported by NMI or synchronous abort, and what the caches held
  before.  Freed memory of the pool is not wiped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from drgn import FaultError, Object

from mftriage.kernel import cper
from mftriage.kernel.lists import entries, pool_chunks
from mftriage.kernel.search import is_number, search
from mftriage.kernel.system import Clock
from mftriage.model import HardwareError
from mftriage.symbols import Kernel

_CACHES = 4  # GHES_ESTATUS_CACHES_SIZE
_MAX_SOURCES = 256
_MAX_LEFTOVERS = 64
_MAX_POOL = 1 << 24  # bytes
_PAGE = 4096
# All sources since 6.2 (9057a3f7ac36 "EDAC/ghes: Prepare to make ghes_edac a proper module"), before
# that only those that are told by an interrupt of ACPI's, an NMI or a synchronous external abort.
_LISTS = (("ghes_devs", "elist"), ("ghes_hed", "list"), ("ghes_sea", "list"), ("ghes_nmi", "list"))


class _Block(NamedTuple):
    """A status block, where it was found, when it was printed (seconds since boot), how often it came."""

    data: bytes
    where: str
    time: float | None = None
    times: int | None = None


def ghes_records_in_memory(kernel: Kernel, _clock: Clock | None) -> list[HardwareError]:
    """A record for each section of each status block in memory; those with a time first."""
    if kernel.address("ghes_estatus_pool") is None:
        return []
    pool = kernel.program["ghes_estatus_pool"].read_()
    if not pool:  # the firmware has no HEST, or GHES is switched off
        return []
    known: set[bytes] = set()
    found: list[HardwareError] = []
    for block in (*_cached(kernel), *_last(kernel), *_leftovers(kernel, pool)):
        same = block.data[4:]  # without block_status
        if same in known:
            continue
        known.add(same)
        for record in cper.records(block.data, block.where):
            found.append(replace(record, time=block.time, count=block.times))
    return found


def _block(kernel: Kernel, address: int) -> bytes | None:
    """The status block at an address, or ``None`` where there is none."""
    try:
        size = cper.block_size(kernel.program.read(address, cper.STATUS_SIZE))
        return kernel.program.read(address, size) if size else None
    except FaultError:
        return None


def _cached(kernel: Kernel) -> Iterator[_Block]:
    program = kernel.program
    try:
        caches = program["ghes_estatus_caches"]
        kind = program.type("struct ghes_estatus_cache")
    except LookupError:
        return
    for index in range(_CACHES):
        try:
            # The slots are marked __rcu, a qualifier that BTF may or may not have.
            address = program.read_u64(caches.address_ + 8 * index)
            if not address:
                continue
            cache = Object(program, kind, address=address).read_()
        except FaultError:
            continue  # a slot that can't be read; the others may be whole
        data = _block(kernel, address + kind.size)
        if data is not None:
            yield _Block(
                data,
                f"ghes_estatus_caches[{index}]",
                round(cache.time_in.value_() / 1e9, 6),
                1 + max(0, cache.count.counter.value_()),
            )


def _last(kernel: Kernel) -> Iterator[_Block]:
    """The last record of each source."""
    try:
        kind = kernel.program.type("struct ghes")
    except LookupError:
        return
    for name, link in _LISTS:
        head = kernel.address(name)
        if head is None or (link == "elist" and not kind.has_member(link)):
            continue
        try:
            for source in entries(kernel, head, kind, link, _MAX_SOURCES):
                data = _block(kernel, source.estatus.value_())
                if data is not None:
                    yield _Block(data, f"estatus of {_name(source)}")
        except (FaultError, LookupError, AttributeError):
            continue
        if link == "elist":
            return


def _name(source: Object) -> str:
    try:
        return f"error source {source.generic.header.source_id.value_()}"
    except (FaultError, AttributeError):
        return "an error source"


def _leftovers(kernel: Kernel, pool: Object) -> Iterator[_Block]:
    """What lies in the pool, freed or not, found by the types of its sections."""
    chunks: list[tuple[int, int]] | None
    try:
        chunks = list(pool_chunks(pool, _MAX_POOL))
    except (FaultError, LookupError, AttributeError):
        chunks = None
        if not kernel.dump.sidecar.is_capsule:
            return

    def scan() -> list[list[object]]:
        found: list[list[object]] = []
        for start, size in chunks or ():
            for address, data in _readable(kernel, start, size):
                found += [[address + at, block.hex()] for at, block in _blocks_in(data)]
        return found[:_MAX_LEFTOVERS]

    def check(claim: object) -> bool:
        return (
            isinstance(claim, list)
            and len(claim) <= _MAX_LEFTOVERS
            and all(_is_block(kernel, chunks, *entry) for entry in claim)
        )

    for address, data in search(kernel.dump, "ghes_estatus_pool", scan, check) or ():
        if isinstance(address, int) and isinstance(data, str):
            yield _Block(bytes.fromhex(data), f"ghes_estatus_pool, {address:#x}")


def _is_block(
    kernel: Kernel, chunks: list[tuple[int, int]] | None, address: object, data: object
) -> bool:
    """Whether a whole status block may lie there, in the pool; what the dump holds of it tells."""
    if not isinstance(address, int) or not is_number(address) or not isinstance(data, str):
        return False
    block = bytes.fromhex(data)
    if cper.block_size(block[: cper.STATUS_SIZE]) != len(block):
        return False
    if chunks is not None and not any(
        start <= address <= start + size - len(block) for start, size in chunks
    ):
        return False
    try:
        return bool(kernel.program.read(address, len(block)) == block)
    except FaultError:
        return True  # a capsule need not hold what was searched


def _readable(kernel: Kernel, start: int, size: int) -> Iterator[tuple[int, bytes]]:
    """The parts of a range that are in the dump."""
    try:
        yield start, kernel.program.read(start, size)
        return
    except FaultError:
        pass
    run, since = bytearray(), start
    at = start
    while at < start + size:
        step = min(_PAGE - at % _PAGE, start + size - at)
        try:
            run += kernel.program.read(at, step)
        except FaultError:
            if run:
                yield since, bytes(run)
            run, since = bytearray(), at + step
        at += step
    if run:
        yield since, bytes(run)


def _blocks_in(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Status blocks in raw memory: one begins a header's length before its first section's type."""
    for wanted in cper.SECTIONS:
        at = data.find(wanted)
        while at >= 0:
            start = at - cper.STATUS_SIZE
            if start >= 0:
                size = cper.block_size(data[start:at])
                if size and start + size <= len(data):
                    yield start, data[start : start + size]
            at = data.find(wanted, at + 1)
