"""The addresses that a crash had to do with, and which of them the hardware's records name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple, get_args

from mftriage.facts import Tie, TieKind
from mftriage.model import Access, HardwareError, Panic
from mftriage.records.instruction import accesses
from mftriage.records.registers import Registers, walked_tables

ORDER: tuple[TieKind, ...] = get_args(TieKind)
_SECONDS = 1.0  # from the record that the crash is about to the panic
_AT_ONCE = 0.5  # between the records of one exception
_MCIP = 4  # of MCG_STATUS: read inside a machine-check exception (SDM vol. 3B, 16.3.1.2)
_NO_POINTERS = ("cr2", "cr3")
_NULL, _ERRORS = 0x1000, (1 << 64) - 4096  # err.h, MAX_ERRNO
_ILLEGAL = 0xDEAD000000000000  # CONFIG_ILLEGAL_POINTER_VALUE, which list entries are made of
_POISONS = tuple(int(byte * 8, 16) for byte in ("6b", "5a", "bb", "cc", "a5", "5e"))


class Held(NamedTuple):
    """An address of the crash: how close it is to it, and what held it."""

    how: TieKind
    where: str
    address: int


def held_addresses(panic: Panic, registers: Registers, touched: Sequence[Access]) -> list[Held]:
    """The address that faulted, what the faulting instruction touches, and every register.

    Where the CPU gives the address, no other operand of the instruction counts.
    """
    found: list[Held] = []
    if panic.fault_address and panic.fault_address_valid is not False:
        found.append(Held("access", "the fault address", int(panic.fault_address, 16)))
    else:
        for access in touched:
            where = f"the faulting instruction ({access.instruction})"
            if access.address:
                found.append(Held("access", where, int(access.address, 16)))
    for name, value in registers.values.items():
        if name not in _NO_POINTERS:
            shown = name.upper() if name[0] == "r" else name
            found.append(Held("register", f"register {shown}", value))
    return found


def touched_by(
    panic: Panic, registers: Registers, arch: str | None, at: int | None = None
) -> tuple[Access, ...]:
    """What the faulting instruction, which stands at ``at``, accesses; nothing of one that did not fault.

    An SError comes when it comes: the instruction that it interrupts has no part in it.
    """
    return () if "SError" in (panic.message or "") else accesses(registers, arch, at)


def record_ties(
    panic: Panic, records: Sequence[HardwareError], pfns: Collection[int], page_size: int
) -> list[Tie]:
    """The last machine check before the panic, where its address lies in one of the pages."""
    exceptions = [
        record
        for record in records
        if record.mce
        and int(record.mce.mcgstatus or "0", 16) & _MCIP
        and record.severity != "corrected"
        and _shortly_before(record, panic)
    ]
    last = max((r.time for r in exceptions if r.time is not None), default=None)
    ties = []
    for record in exceptions:
        if record.physical_address is None:
            continue
        if None not in (record.time, last) and last - record.time > _AT_ONCE:  # type: ignore[operator]
            continue  # of an exception before, which the kernel survived
        address = int(record.physical_address, 16)
        if address // page_size in pfns:
            where = "the machine check's address"
            ties.append(Tie(address // page_size, where, address, how="record"))
    return ties


def _shortly_before(record: HardwareError, panic: Panic) -> bool:
    """Whether the machine may have died of that record; a wall clock's time may be two seconds off."""
    if record.time is None or panic.time is None:
        return True
    return panic.time - record.time <= (_SECONDS if record.time_is_exact else _SECONDS + 2)


def table_ties(
    registers: Registers, arch: str | None, pfns: Collection[int], page_size: int
) -> list[Tie]:
    """The page tables of the fault, as the log shows them, that are one of the pages."""
    return [
        Tie(
            physical // page_size,
            f"the {level} that translates the fault address",
            physical,
            how="table",
        )
        for level, physical in walked_tables(registers, arch)
        if physical // page_size in pfns
    ]


def reported(panic: Panic, touched: Sequence[Access]) -> Access | None:
    """The access that the CPU reported, in the words of the instruction that did it."""
    fault = panic.fault_address if panic.fault_address_valid is not False else None
    exact = next((access for access in touched if fault in (None, access.address)), None)
    if exact is not None or not touched:
        return exact
    # an access over a line's end faults in its middle: the CPU's address is the one that counts
    return replace(touched[0], address=fault, register=None)


def no_bad_cell(panic: Panic, access: Access | None, registers: Registers) -> str | None:
    """What shows that the crash did not come of a failed page, given that the access is in none.

    An abort names what it could not read; null, an error code and the marks of freed memory
    (include/linux/poison.h) are the doing of a bug.
    """
    if access is None or access.address is None:
        return None
    if abort_of(panic) and not walk_abort_of(panic):
        return f"the instruction that was aborted ({access.instruction}) accessed {access.address}, which lies in none of the failed pages"
    pointer = registers.read(access.register) if access.register else None
    if pointer is None:
        return None
    if pointer < _NULL or pointer >= _ERRORS:
        return f"the faulting pointer {pointer:#x} ({access.register}) is null or an error code, which is rather a bug's doing than a bad cell's"
    if pointer >> 16 == _ILLEGAL >> 16 or pointer in _POISONS:
        return f"the faulting pointer {pointer:#x} ({access.register}) is the mark of freed memory, which is a bug's doing"
    return None


def abort_of(panic: Panic) -> bool:
    """Whether the memory system itself refused the access: an external abort or an ECC error.

    Arm ARM, D24.2.40, ESR_ELx: of a data or instruction abort, DFSC 0b010000 to 0b011111.
    """
    return _fault_status(panic) in range(0x10, 0x20)


def walk_abort_of(panic: Panic) -> bool:
    """Whether it was a page table that could not be read: DFSC 0b010011 to 0b010111, 0b011011 to 0b011111."""
    return _fault_status(panic) in (*range(0x13, 0x18), *range(0x1B, 0x20))


def _fault_status(panic: Panic) -> int | None:
    """DFSC or IFSC of an abort; ``None`` of another exception."""
    esr = int(panic.syndrome, 16) if panic.syndrome else 0
    return esr & 0x3F if esr >> 26 & 0x3F in (0x20, 0x21, 0x24, 0x25) else None
