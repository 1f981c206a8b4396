"""What was found out about a crash, before anybody judges it: the input of every verdict rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mftriage.log import LogRecord
from mftriage.model import (
    Dimm,
    DumpInfo,
    HardwareError,
    MemoryFailure,
    NotChecked,
    PageInfo,
    Panic,
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


@dataclass(frozen=True)
class Tie:
    """An address of the crash that lies in a poisoned page.

    ``where`` names the register or record that holds it; ``flipped_bit`` is set when the address
    lies in the page only with that one bit flipped back.
    """

    pfn: int
    where: str
    address: int
    flipped_bit: int | None = None


@dataclass
class Facts:
    """Everything that rules may look at; renderers see a ``Triage`` instead.

    ``log`` is empty when none could be read.  ``crashed`` is ``None`` where the dump does not
    tell.  ``oops`` is the first line of the oops in front of the panic.  ``lost_failures`` are
    those ignored or failed that the kernel counted and the log no longer shows.
    ``memory_devices`` are SMBIOS's, by handle; empty where no record names a DIMM.
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
    hw_memory_failure: bool | None = None
    ties: tuple[Tie, ...] = ()
    not_checked: list[NotChecked] = field(default_factory=list)

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return self.dump.page_size or 4096

    def unrecovered(self) -> list[MemoryFailure]:
        """Failures that left bad memory in use: ignored, failed, or never acted upon."""
        return [e for e in self.memory_failures if e.action in ("ignored", "failed", None)]

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
            record
            for record in self.hardware_errors
            if record.physical_address is not None
            and int(record.physical_address, 16) // self.page_size == pfn
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
