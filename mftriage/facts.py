"""What was found out about a crash, before anybody judges it: the input of every verdict rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from mftriage.log import LogRecord
from mftriage.model import (
    CorrectedErrors,
    Dimm,
    DumpInfo,
    HardwareError,
    MemoryFailure,
    NotChecked,
    PageInfo,
    PageRequest,
    Panic,
    PastErrors,
    PoisonedPage,
    RecordDimm,
)

# Owners that never give a page up: a poisoned one stays in use.
KERNEL_OWNERS = frozenset(
    (
        *("slab", "page-table", "kernel-stack", "vmalloc", "percpu", "large-kmalloc"),
        *("kernel-image", "module", "reserved"),
    )
)


# How a crash can hang together with a page, the closest first: the hardware's own record of the
# crash lies in it; the access that faulted does; the pointer that it went by was read out of it;
# it is the task's own stack, the code that ran, or a page table on the way; a register points
# into it; a slot of the stack does, which may be left over from before.
TieKind = Literal["record", "access", "pointer", "table", "code", "stack", "register", "slot"]


@dataclass(frozen=True)
class Tie:
    """An address of the crash that lies in a page with a memory failure.

    ``where`` names the register or record that holds it; ``flipped_bit`` is set when the address
    lies in the page only with that one bit flipped back; ``provided`` says what else must hold,
    where a log alone can't show it.
    """

    pfn: int
    where: str
    address: int
    flipped_bit: int | None = None
    provided: str | None = None
    how: TieKind = "register"


def granule_of(record: HardwareError, page_size: int) -> int | None:
    """The bytes, fewer than a page, that a record's address stands for; ``None`` where it names the page only."""
    mask = int(record.physical_address_mask or "0xffffffffffffffc0", 16)
    granule = ((1 << 64) - mask) & ((1 << 64) - 1)
    if not 0 < granule < page_size or granule & (granule - 1):
        return None
    return granule


@dataclass
class Facts:
    """Everything that rules may look at; renderers see a ``Triage`` instead.

    ``log`` is empty when none could be read.  ``crashed`` is ``None`` where the dump does not
    tell.  ``oops`` is the first line of the oops in front of the panic.  ``lost_failures`` are
    those ignored or failed that the kernel counted and the log no longer shows.
    ``sysctl`` is vm.panic_on_unrecoverable_memory_failure, ``has_sysctl`` whether the kernel has it at all.
    ``memory_devices`` are SMBIOS's, by handle; empty where no record names a DIMM.
    ``past_corrected`` and ``history`` are what a database of the host tells of earlier errors.

    What belongs to an earlier boot is set apart in ``earlier_errors`` and ``earlier_failures``: no
    rule looks there.  ``capture_kernel`` marks the log of the kernel that saved the dump,
    ``registers_known`` is false where the log has no registers of the crash.  ``elsewhere`` are
    sentences of what shows that the crash came from another place than the failed pages.
    """

    dump: DumpInfo
    log: Sequence[LogRecord] = ()
    crashed: bool | None = None
    panic: Panic | None = None
    oops: str | None = None
    memory_failures: tuple[MemoryFailure, ...] = ()
    injected_pfns: frozenset[int] = frozenset()
    hardware_errors: tuple[HardwareError, ...] = ()
    memory_devices: dict[int, Dimm] = field(default_factory=dict)
    pages: dict[int, PageInfo] = field(default_factory=dict)
    lost_failures: int = 0
    poisoned_pages: tuple[PoisonedPage, ...] = ()
    num_poisoned_pages: int | None = None
    sysctl: int | None = None
    has_sysctl: bool | None = None
    hw_memory_failure: bool | None = None
    ties: tuple[Tie, ...] = ()
    not_checked: list[NotChecked] = field(default_factory=list)
    page_requests: tuple[PageRequest, ...] = ()
    corrected_errors: tuple[CorrectedErrors, ...] = ()
    past_corrected: tuple[CorrectedErrors, ...] = ()
    history: tuple[PastErrors, ...] = ()
    earlier_errors: tuple[HardwareError, ...] = ()
    earlier_failures: tuple[MemoryFailure, ...] = ()
    capture_kernel: bool = False
    registers_known: bool = True
    elsewhere: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Set apart what is of the boot before."""
        self.earlier_errors += tuple(r for r in self.hardware_errors if r.previous_boot)
        self.hardware_errors = tuple(r for r in self.hardware_errors if not r.previous_boot)
        self.earlier_failures += tuple(e for e in self.memory_failures if e.previous_boot)
        self.memory_failures = tuple(e for e in self.memory_failures if not e.previous_boot)

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return self.dump.page_size or 4096

    def unrecovered(self) -> list[MemoryFailure]:
        """Failures that left bad memory in use: ignored, failed, or never acted upon.

        That a page was poisoned already says nothing new of one whose first failure is known.
        """
        left: dict[str, list[MemoryFailure]] = {}
        seen: set[str] = set()  # pages that failed before for a reason of their own
        for event in self.before_crash():
            again = "already" in (event.page_type or "")
            if event.action == "recovered":
                left[event.pfn] = []  # taken out of use, whatever was said of it before
            elif event.action in ("ignored", "failed", None) and not (again and event.pfn in seen):
                left.setdefault(event.pfn, []).append(event)
            if not again:
                seen.add(event.pfn)
        kept = {id(event) for events in left.values() for event in events}
        freed = {
            r.pfn: r.time or 0.0
            for r in self.page_requests
            if r.kind == "unpoison" and "software-unpoisoned" in (r.result or "").lower()
        }
        return [
            e
            for e in self.memory_failures
            if id(e) in kept and not (e.pfn in freed and (e.time or 0.0) <= freed[e.pfn])
        ]

    def before_crash(self) -> list[MemoryFailure]:
        """The failures that the crash can come of."""
        return [event for event in self.memory_failures if not event.after_crash]

    def failed_pfns(self) -> list[int]:
        """Every page with a failure that this boot knows of, what became of it or not.

        An address of the crash in one that was recovered speaks too: the kernel had given it up.
        """
        logged = dict.fromkeys(int(event.pfn, 16) for event in self.before_crash())
        return [*logged, *(pfn for pfn in sorted(self.untold()) if pfn not in logged)]

    def unhandled_records(self) -> list[HardwareError]:
        """Uncorrected memory errors of which nothing says what became of the page."""
        told = {int(e.pfn, 16) for e in self.memory_failures}
        return [
            r
            for r in self.hardware_errors
            if r.is_memory
            and r.severity == "recoverable"
            and not self._is_later(r)
            and not (told and self.pfn_of(r.physical_address) in (None, *told))
        ]

    def _is_later(self, record: HardwareError) -> bool:
        died = self.panic.time if self.panic else None
        return died is not None and record.time is not None and record.time > died

    def pfn_of(self, address: str | None) -> int | None:
        """The page that an address lies in; ``None`` where the size of a page is not known."""
        if address is None or self.dump.page_size is None:
            return None
        return int(address, 16) // self.dump.page_size

    def untold(self) -> set[int]:
        """Poisoned pages of the kernel's own whose failure the log no longer shows."""
        told = {int(e.pfn, 16) for e in self.memory_failures}
        return {
            pfn
            for page in self.poisoned_pages
            if (pfn := int(page.pfn, 16)) not in told and page.owner_kind in KERNEL_OWNERS
        }

    def records_of(self, pfn: int) -> list[HardwareError]:
        """The hardware's records whose address lies in the page."""
        return [
            record for record in self.hardware_errors if self.pfn_of(record.physical_address) == pfn
        ]

    def memory_device(self, dimm: RecordDimm) -> Dimm | None:
        """SMBIOS's own row for the DIMM that a record names: by its handle, else by its exact name.

        A name that fits several rows names none.
        """
        if dimm.handle is not None:
            return self.memory_devices.get(int(dimm.handle, 16))
        wanted = {name.lower() for name in (dimm.label, dimm.locator) if name}
        found = [
            device
            for device in self.memory_devices.values()
            if device.locator
            and {device.locator.lower(), f"{device.bank_locator} {device.locator}".lower()} & wanted
        ]
        return found[0] if len(found) == 1 else None

    def is_injected(self, pfn: int) -> bool | None:
        """Whether software poisoned the page for a test; ``None`` where nothing tells."""
        if pfn in self.injected_pfns:
            return True
        if self.records_of(pfn):
            return any(record.injected for record in self.records_of(pfn))
        # hw_memory_failure: set by the first failure that no test simulated (since 6.1)
        return None if self.hw_memory_failure is None else not self.hw_memory_failure
