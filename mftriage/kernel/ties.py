"""What of a crash lies in a given page: what can tie a later crash to an earlier failure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from drgn import FaultError

from mftriage.facts import Tie
from mftriage.kernel.search import is_number, search
from mftriage.kernel.translate import Translation, is_canonical
from mftriage.log import LogRecord
from mftriage.model import Access, HardwareError, Panic
from mftriage.records.crash import crash_registers
from mftriage.records.faults import (
    ORDER,
    Held,
    abort_of,
    held_addresses,
    no_bad_cell,
    record_ties,
    reported,
    table_ties,
    touched_by,
)
from mftriage.records.registers import Registers
from mftriage.symbols import Kernel

_STACK = (
    16384  # bytes of a kernel stack: THREAD_SIZE of x86_64 and arm64, whose end is aligned to it
)
_INSTRUCTION = 16
_OBJECT = 256  # bytes behind a pointer in which the object's members are looked for
_MAX_SLOTS, _MAX_POINTERS = 2048, 96
_MAX_SLOT_TIES = 4


class Crash(NamedTuple):
    """What the crash has to do with the pages: ties, what speaks against any, and what the CPU touched."""

    ties: tuple[Tie, ...]
    elsewhere: tuple[str, ...]
    access: Access | None


def crash_ties(
    kernel: Kernel,
    log: Sequence[LogRecord],
    panic: Panic,
    records: Sequence[HardwareError],
    pfns: Iterable[int],
) -> Crash:
    """What of the crash lies in the pages ``pfns``, the closest first.

    Raises ``LookupError`` or ``FaultError`` where the direct map's base can't be read, and no
    physical address ties them.
    """
    wanted = frozenset(pfns)
    size = kernel.dump.page_size
    registers = crash_registers(log)
    ties = record_ties(panic, records, wanted, size)
    ties += table_ties(registers, kernel.dump.arch, wanted, size)
    try:
        place = Translation(kernel, wanted)
    except (LookupError, FaultError):
        if ties:
            return Crash(tuple(ties), (), None)
        raise
    registers = _with_code(kernel, registers)
    touched = touched_by(panic, registers, kernel.dump.arch, _site(kernel, registers))
    held = held_addresses(panic, registers, touched)
    ties += _by_address(kernel, place, held, wanted)
    access = reported(panic, touched)
    ties += _by_running(kernel, place, panic, access, registers, wanted)
    slots = list(_slots(kernel, registers, size))
    ties += _by_slot(place, slots, wanted, size)
    elsewhere: list[str] = []
    if not any(tie.how in ("record", "access") for tie in ties):
        pointed, elsewhere = _pointer(kernel, place, panic, registers, access, slots, wanted)
        ties += pointed
    return Crash(
        tuple(sorted(ties, key=lambda tie: (ORDER.index(tie.how), tie.flipped_bit is not None))),
        tuple(elsewhere),
        access,
    )


def _by_address(
    kernel: Kernel, place: Translation, held: Sequence[Held], wanted: frozenset[int]
) -> Iterator[Tie]:
    """Addresses that lie in a page, and those that one flipped bit has made none."""
    size = kernel.dump.page_size
    for how, where, address in held:
        if (pfn := place.pfn_of(address)) in wanted and pfn is not None:
            yield Tie(pfn, where, address, how=how)
        if is_canonical(kernel, address):
            continue
        for pfn in wanted:
            bit = _flipped(address, place.direct(pfn), size)
            if bit is not None:
                yield Tie(pfn, where, address, bit, how=how)


def _by_running(
    kernel: Kernel,
    place: Translation,
    panic: Panic,
    access: Access | None,
    registers: Registers,
    wanted: frozenset[int],
) -> Iterator[Tie]:
    """The code that ran, the live part of the stack, and the tables that the fault was looked up in."""
    site = _site(kernel, registers)
    if site is not None and (pfn := place.pfn_of(site)) in wanted and pfn is not None:
        yield Tie(pfn, "the code that ran", site, how="code")
    size = kernel.dump.page_size
    if (sp := _stack_pointer(registers)) is not None:
        for address in (sp, *range((sp | size - 1) + 1, _stack_end(sp, size), size)):
            if (pfn := place.pfn_of(address)) in wanted and pfn is not None:
                yield Tie(pfn, "the stack of the crash, in use", address, how="stack")
    looked_up = panic.fault_address or (access.address if access else None)
    if looked_up and not registers.tables:
        fault = int(looked_up, 16)
        for pfn in place.tables_of(fault) if is_canonical(kernel, fault) else ():
            if pfn in wanted:
                yield Tie(
                    pfn, "a page table that translates the fault address", pfn * size, how="table"
                )


class _Slot(NamedTuple):
    address: int
    value: int


def _slots(kernel: Kernel, registers: Registers, size: int) -> Iterator[_Slot]:
    """The words of the stack in use, which a capsule has as far as the dump does."""
    sp = _stack_pointer(registers)
    if sp is None or sp & 7:
        return
    at, end = sp, _stack_end(sp, size)
    while at < end:
        until = min(end, (at | size - 1) + 1)
        try:
            data = kernel.program.read(at, until - at)
        except FaultError:
            return
        for offset in range(0, len(data), 8):
            yield _Slot(at + offset, int.from_bytes(data[offset : offset + 8], "little"))
        at = until


def _by_slot(
    place: Translation, slots: Sequence[_Slot], wanted: frozenset[int], size: int
) -> Iterator[Tie]:
    """Pointers into a page that lie on the stack: a caller may hold them, or have held them."""
    starts = {place.direct(pfn): pfn for pfn in wanted}
    found = 0
    for slot in slots[:_MAX_SLOTS]:
        pfn = starts.get(slot.value & -size)
        if pfn is not None and found < _MAX_SLOT_TIES:
            found += 1
            yield Tie(pfn, f"the stack's slot at {slot.address:#x}", slot.value, how="slot")


def _pointer(
    kernel: Kernel,
    place: Translation,
    panic: Panic,
    registers: Registers,
    access: Access | None,
    slots: Sequence[_Slot],
    wanted: frozenset[int],
) -> tuple[list[Tie], list[str]]:
    """Where the pointer that led the crash astray stands in memory: in a failed page, or elsewhere.

    Whatever a register or a slot of the stack points at may be the object that it was read out of.
    """
    if (words := no_bad_cell(panic, access, registers)) is not None:
        return [], [words]
    if access is None or access.register is None or access.address is None or abort_of(panic):
        return [], []
    pointer = registers.read(access.register)
    if pointer is None or place.pfn_of(pointer) is not None:
        return [], []  # a pointer to something that is there
    stack = _stack_pointer(registers) or 0
    starts = [
        value
        for value in dict.fromkeys([*registers.values.values(), *(slot.value for slot in slots)])
        if value >> 63 and value != pointer and stack // _STACK != value // _STACK
    ][:_MAX_POINTERS]

    def look() -> list[int]:
        return _standing(kernel, pointer, starts)

    found = search(
        kernel.dump,
        f"pointer:{pointer:#x}",
        look,
        lambda claimed: all(is_number(at) for at in claimed),
    )
    ties, elsewhere = [], []
    for at in found or ():
        pfn = place.pfn_of(at)
        if pfn is not None and pfn in wanted:
            where = f"the place in memory of the faulting pointer {pointer:#x} ({access.register})"
            ties.append(Tie(pfn, where, at, how="pointer"))
        elif pfn is not None:
            elsewhere.append(
                f"the faulting pointer {pointer:#x} ({access.register}) stands in memory at {at:#x}, in page {pfn:#x}, which had no failure"
            )
    return ties, elsewhere[:2]


def _standing(kernel: Kernel, pointer: int, starts: Sequence[int]) -> list[int]:
    """Addresses behind ``starts`` where ``pointer`` stands."""
    found = []
    wanted = pointer.to_bytes(8, "little")
    for start in starts:
        start &= ~7
        end = min(start + _OBJECT, (start | kernel.dump.page_size - 1) + 1)
        try:
            data = kernel.program.read(start, end - start)
        except FaultError:
            continue
        at = data.find(wanted)
        if at >= 0 and at % 8 == 0 and start + at not in found:
            found.append(start + at)
    return found


def _with_code(kernel: Kernel, registers: Registers) -> Registers:
    """The registers with the code out of the dump, where the log does not show it."""
    site = _site(kernel, registers)
    if registers.code or site is None:
        return registers
    try:
        return replace(registers, code=kernel.program.read(site, _INSTRUCTION))
    except FaultError:
        return registers


def _site(kernel: Kernel, registers: Registers) -> int | None:
    """The address of the instruction that faulted; ``None`` where another function has its name."""
    start = kernel.address(registers.function) if registers.function else None
    if start is None:
        return None
    site = start + registers.offset
    to_end = -site % kernel.dump.page_size or kernel.dump.page_size
    code = registers.code[: min(_INSTRUCTION, to_end)]  # the next page may be missing for good
    try:
        return site if kernel.program.read(site, len(code)) == code else None
    except FaultError:
        return site  # as of a page that is bad


def _stack_pointer(registers: Registers) -> int | None:
    sp = registers.read("sp") or registers.read("rsp")
    return sp if sp is not None and sp >> 63 else None


def _stack_end(sp: int, size: int) -> int:
    return (sp | max(_STACK, size) - 1) + 1


def _flipped(address: int, start: int, size: int) -> int | None:
    """The one bit above the page's that, flipped back, puts ``address`` into the page."""
    difference = (address ^ start) & ~(size - 1)
    if difference and difference & (difference - 1) == 0:
        return difference.bit_length() - 1
    return None
