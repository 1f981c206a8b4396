"""The vocabulary of a triage: frozen dataclasses that renderers, sinks and the fleet know.

Units and spellings hold for every type here:

* times named ``time`` are seconds since boot, as the kernel log has them;
* ``*_time`` fields in UTC are ISO 8601 strings ending in ``Z``;
* pfns, addresses and registers are lower-case hex strings (``"0x40720"``), because JSON
  numbers lose bits above 2**53;
* sizes are bytes; ``None`` means "not known", and ``not_checked`` says why.

Strings that came out of a dump have lost their control characters (see ``mftriage.text``)
but are otherwise untrusted: every renderer escapes for its own format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 1

Symbols = Literal["dwarf", "btf", "vmcoreinfo", "log-only"]
VerdictKind = Literal[
    "unrecoverable-panic",
    "fatal-hardware-error",
    "delayed-crash",
    "possible-delayed-crash",
    "unrelated",
    "hardware-not-memory",
    "no-crash",
    "inconclusive",
]
Confidence = Literal["certain", "high", "medium", "low"]
OwnerKind = Literal[
    "slab",
    "page-table",
    "kernel-stack",
    "vmalloc",
    "percpu",
    "large-kmalloc",
    "kernel-image",
    "module",
    "reserved",
    "page-cache",
    "anon",
    "hugetlb",
    "thp",
    "free",
    "offline",
    "zero-page",
    "unknown",
]
# What vm.panic_on_unrecoverable_memory_failure covers, by 7.3's is_kernel_owned_page()
# (mm/memory-failure.c): reserved pages of any use, and three types.
SYSCTL_OWNERS: frozenset[OwnerKind] = frozenset(
    (
        *("slab", "page-table", "large-kmalloc"),
        *("reserved", "kernel-image", "zero-page", "percpu"),
    )
)
Action = Literal["ignored", "failed", "delayed", "recovered"]
Severity = Literal["corrected", "deferred", "recoverable", "fatal"]
Medium = Literal["log", "memory"]
ErrorClass = Literal["CE", "deferred", "UCNA", "SRAO", "SRAR", "UC", "fatal"]
Shared = Literal["page", "row", "bank", "column", "device"]
Related = Literal["dimm", "page", "row", "bank"]
DimmSource = Literal[
    "firmware-location", "firmware-handle", "fru-text", "edac-label", "driver-decode"
]


def hexed(value: int | None) -> str | None:
    """``value`` as the lower-case hex string of the JSON contract; ``None`` stays ``None``."""
    return None if value is None else f"{value:#x}"


@dataclass(frozen=True, kw_only=True)
class Tool:
    """Which program made the triage."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True)
class DumpInfo:
    """What was analysed, and which machine it came from.

    ``format`` is the container ("kdump", "elf", "kdump-flattened", "capsule", "log"), with
    the compression around it where there is one ("elf+xz").  ``complete`` is false when the
    file is cut short, null when that can't be told.  ``taint`` holds the kernel's own letters.
    """

    path: str
    size_bytes: int | None = None
    format: str | None = None
    arch: str | None = None
    page_size: int | None = None
    kernel_release: str | None = None
    build_id: str | None = None
    hostname: str | None = None
    crash_time: str | None = None
    uptime_seconds: float | None = None
    taint: tuple[str, ...] | None = None
    symbols: Symbols = "vmcoreinfo"
    complete: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One row of evidence: the id of the rule that holds it (``mftriage explain RULE``), and the fact."""

    rule: str
    fact: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What killed the machine, how sure that is, and what speaks for and against it.

    ``pfn`` is the page that it is about, where it is about one.
    """

    kind: VerdictKind
    confidence: Confidence
    summary: str
    pfn: str | None = None
    evidence: tuple[Fact, ...] = ()
    against: tuple[Fact, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Task:
    """A process or kernel thread: ``comm`` as the kernel has it (15 bytes at most), and its pid."""

    comm: str | None = None
    pid: int | None = None


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame of a stack: function, offset in bytes into it, file:line (dwarf tier only).

    ``inlined``: the compiler put this function into the next frame's (told in the dwarf tier only).
    """

    function: str | None
    offset: str | None = None
    source: str | None = None
    inlined: bool | None = None


@dataclass(frozen=True, kw_only=True)
class RegisterField:
    """A field of a register: its bits ("63", "31:16"), the manual's name, and what its value means.

    ``value`` is 0 or 1 of a single bit, else hex.  ``meaning`` is null where the manual gives none
    for the other bits that are set.
    """

    bits: str
    name: str | None
    value: str
    meaning: str | None = None


@dataclass(frozen=True, kw_only=True)
class DecodedRegister:
    """A register of a record, bit by bit, and the manual that says so."""

    register: str
    value: str
    source: str
    fields: tuple[RegisterField, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a faulting instruction read, wrote or jumped to.

    ``register`` is the one that held the pointer; ``address`` is virtual.
    """

    instruction: str
    register: str | None = None
    address: str | None = None


@dataclass(frozen=True, kw_only=True)
class Panic:
    """How the machine died; null in a triage of a machine that did not.

    ``syndrome`` is arm64's ESR where the log has it, ``decoded_syndrome`` what it says;
    ``fault_address_valid`` is false where it says that the CPU did not set the fault address (ESR_ELx.FnV).
    ``access`` is decoded where a memory failure came before, out of the registers and the code.
    """

    message: str | None = None
    time: float | None = None
    task: Task | None = None
    cpu: int | None = None
    fault_address: str | None = None
    fault_address_valid: bool | None = None
    syndrome: str | None = None
    access: Access | None = None
    trace: tuple[Frame, ...] = ()
    decoded_syndrome: DecodedRegister | None = None


@dataclass(frozen=True, kw_only=True)
class MemoryFailure:
    """One "Memory failure: 0xPFN" event, in the kernel's own words (mm/memory-failure.c, action_result).

    ``unhandlable`` says that the kernel could not take hold of the page (get_any_page), ``references``
    how many users it still had after the action; ``notes`` are its other words on the page.
    ``after_crash`` marks one that was logged behind the crash's first line, which it did not cause.
    ``previous_boot`` marks one of an earlier boot in the same log: that page is bad no longer
    by this kernel's reckoning.
    """

    time: float | None
    pfn: str
    physical_address: str | None = None
    page_type: str | None = None
    action: Action | None = None
    panicked: bool = False
    killed: tuple[Task, ...] = ()
    unhandlable: bool = False
    references: int | None = None
    notes: tuple[str, ...] = ()
    previous_boot: bool = False
    after_crash: bool = False


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """Something that was asked of a page, or said of it, which is no memory failure.

    ``kind``: ``injection`` is a test (mm/madvise.c, mm/hwpoison-inject.c); ``soft-offline`` moves the
    content of a page that has corrected errors to another one, and corrupts nothing.
    """

    time: float | None
    kind: Literal["injection", "soft-offline", "soft-offline-request", "unpoison"]
    pfn: str
    virtual_address: str | None = None
    result: str | None = None


@dataclass(frozen=True, kw_only=True)
class SlabObject:
    """The slab object that the bad address lies in.

    ``member`` is the member of ``type`` that the bad cache line covers ("d_name.name");
    ``allocated`` is null when the freelist, which lies in the bad page itself, is not in the dump.
    """

    address: str
    type: str | None = None
    offset: str | None = None
    member: str | None = None
    allocated: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who the page belongs to, as the dump proves it.

    ``detail`` is one phrase for people ("slab cache dentry, 21 objects").  The other fields are
    filled in for the kinds that have them.
    """

    kind: OwnerKind
    detail: str | None = None
    slab_cache: str | None = None
    object_size: int | None = None
    objects: int | None = None
    object: SlabObject | None = None
    symbol: str | None = None
    section: str | None = None
    module: str | None = None
    task: Task | None = None
    file: str | None = None
    level: str | None = None
    caller: str | None = None


@dataclass(frozen=True, kw_only=True)
class PageInfo:
    """A struct page, read from the dump; of a log alone, no more than its place.

    ``physical_address`` is null only where a log does not give the size of a page.

    ``flags`` are the names of ``enum pageflags`` without ``PG_``; ``page_type`` is the name of
    the type that shares its word with the mapcount ("slab", "table", ...), null for an untyped page.
    ``order`` is log2 of the compound page's size in pages, 0 for a single page.
    """

    pfn: str
    physical_address: str | None
    flags: tuple[str, ...] | None = None
    page_type: str | None = None
    hwpoison: bool | None = None
    refcount: int | None = None
    mapcount: int | None = None
    order: int | None = None
    compound: Literal["head", "tail"] | None = None
    head_pfn: str | None = None
    node: int | None = None
    zone: str | None = None
    content_in_dump: bool | None = None
    owner: Owner | None = None


@dataclass(frozen=True, kw_only=True)
class PoisonedPage:
    """A page with PG_hwpoison set."""

    pfn: str
    owner_kind: OwnerKind


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where in the memory the error lies, as the record has it.

    Firmware's fields are those of UEFI 2.10, table N.31; those of the kernel's drivers (socket,
    memory controller, channel, slot, csrow) count as the driver does.
    """

    node: int | None = None
    card: int | None = None
    module: int | None = None
    rank: int | None = None
    bank: int | None = None
    bank_group: int | None = None
    bank_address: int | None = None
    device: int | None = None
    row: int | None = None
    column: int | None = None
    bit_position: int | None = None
    chip_id: int | None = None
    requestor_id: str | None = None
    responder_id: str | None = None
    target_id: str | None = None
    socket: int | None = None
    memory_controller: int | None = None
    channel: int | None = None
    sub_channel: int | None = None
    slot: int | None = None
    csrow: int | None = None


@dataclass(frozen=True, kw_only=True)
class RecordDimm:
    """What a record itself says of the DIMM.

    ``label`` is fru_text or EDAC's label, ``locator`` the firmware's "DIMM location", ``handle``
    that of its SMBIOS type 17 structure; ``how`` names the best of them.  ``candidates`` has the
    modules of an error that may lie in any of several (lockstep, mirroring).
    """

    label: str | None = None
    locator: str | None = None
    handle: str | None = None
    how: DimmSource | None = None
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MceRegisters:
    """The machine-check bank's registers (struct mce; SDM vol. 3B, 17.3.2).

    ``flags`` are the bits of STATUS that are set, by their names in asm/mce.h, and those of
    MCG_STATUS; ``error_class`` is what SDM vol. 3B, 17.6.3 makes of them.  ``unit`` is AMD's name
    of the bank.  ``address_kind`` is "normalized" for an AMD memory controller's ADDR, which
    is no system address.  ``synthetic`` marks a record that the kernel made of firmware's data
    (arch/x86/kernel/cpu/mce/apei.c).  ``reason`` is the kernel's own (severity.c).
    """

    cpu: int | None = None
    bank: int | None = None
    status: str | None = None
    addr: str | None = None
    misc: str | None = None
    mcgstatus: str | None = None
    ip: str | None = None
    synd: str | None = None
    ipid: str | None = None
    ppin: str | None = None
    microcode: str | None = None
    cpuid: str | None = None
    socket: int | None = None
    vendor: str | None = None
    apic: str | None = None
    tsc: str | None = None
    synd1: str | None = None
    synd2: str | None = None
    mcacod: str | None = None
    mscod: str | None = None
    flags: tuple[str, ...] = ()
    error_class: ErrorClass | None = None
    corrected_count: int | None = None
    ip_symbol: str | None = None
    ip_exact: bool | None = None
    code_segment: str | None = None
    reason: str | None = None
    synthetic: bool = False
    family: str | None = None
    model: str | None = None
    stepping: str | None = None
    unit: str | None = None
    extended_code: int | None = None
    description: str | None = None
    address_kind: Literal["physical", "normalized"] | None = None


@dataclass(frozen=True, kw_only=True)
class FirmwareRecord:
    """What a firmware record (CPER) says besides the error itself (UEFI 2.10, appendix N.2).

    ``number`` is the kernel's running number of the event, ``source_id`` that of the error source
    (ACPI HEST).  The event's severity is the worst of its sections', whose own is the record's.
    """

    number: int | None = None
    source_id: int | None = None
    event_severity: str | None = None
    section_severity: str | None = None
    section: str | None = None
    timestamp: str | None = None
    fru_id: str | None = None
    fru_text: str | None = None
    error_status: str | None = None
    error_type: int | None = None
    dimm_location: str | None = None
    dmi_handle: str | None = None
    device: str | None = None
    vendor_id: str | None = None
    device_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class EdacReport:
    """A line of the EDAC core (drivers/edac/edac_mc.c, edac_ce_error and edac_ue_error).

    ``page`` and ``offset`` are null where the driver knew no address (it then prints page 0);
    ``detail`` is the text behind them.
    """

    controller: int | None = None
    kind: Literal["CE", "UE"] | None = None
    count: int | None = None
    message: str | None = None
    label: str | None = None
    page: str | None = None
    offset: str | None = None
    grain: int | None = None
    syndrome: str | None = None
    overflow: bool = False
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class Detail:
    """A field of a record that has no place of its own, in the record's words."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True)
class HardwareError:
    """A record of the hardware or the firmware: its words, not ours.

    ``medium`` says where it was read first: the kernel log, or the kernel's memory; ``media``
    names both where both tell of the same event.  ``injected`` is null when nothing tells.
    ``physical_address_mask`` covers the valid bits of the address.  ``count`` is how many errors
    the record stands for, where it is a counter or was repeated.  ``previous_boot`` is true of
    a record of the boot before (BERT, or an earlier boot in the same log): it never is evidence
    for this crash.  ``decoded`` has its registers and status words bit by bit; of a flood, those
    of the worst records only.
    """

    source: str
    medium: Medium
    injected: bool | None = None
    time: float | None = None
    severity: Severity | None = None
    error_type: str | None = None
    is_memory: bool | None = None
    physical_address: str | None = None
    physical_address_mask: str | None = None
    wall_time: str | None = None
    location: Location | None = None
    dimm: RecordDimm | None = None
    mce: MceRegisters | None = None
    raw: tuple[str, ...] = ()
    media: tuple[Medium, ...] = ()
    count: int | None = None
    previous_boot: bool = False
    firmware: FirmwareRecord | None = None
    edac: EdacReport | None = None
    details: tuple[Detail, ...] = ()
    decoded: tuple[DecodedRegister, ...] = ()

    def __post_init__(self) -> None:
        """A record of one medium names it in ``media``, too."""
        if not self.media:
            object.__setattr__(self, "media", (self.medium,))

    @property
    def time_is_exact(self) -> bool:
        """False where ``time`` is known to the second only: struct mce has no finer clock."""
        return self.source != "mce" or "log" in self.media


@dataclass(frozen=True, kw_only=True)
class Dimm:
    """The DIMM to look at, and ``how`` it was found: a name is worth what its source is worth.

    ``candidates`` has several where the records allow no single one; then there is no ``label``.
    """

    label: str | None = None
    locator: str | None = None
    bank_locator: str | None = None
    manufacturer: str | None = None
    part_number: str | None = None
    serial_number: str | None = None
    size_bytes: int | None = None
    how: str | None = None
    handle: str | None = None
    certainty: Confidence | None = None
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CorrectedErrors:
    """Corrected errors of one place in memory, counted over the kernel's records or a database's.

    ``place`` is the DIMM, or as much of the location as the records have.  ``first`` and ``last``
    are seconds since boot; ``per_hour`` needs more than one event.  ``same`` says what all the
    located errors share: a repeating row or page speaks for a broken cell, a bank for a broken chip.
    ``scattered`` says what at least two of them differ in.
    A database (``source`` "rasdaemon") covers earlier boots, too, and has ``first_time`` and
    ``last_time`` in UTC instead; ``on_failed`` is what its errors share with what failed.
    """

    place: str
    count: int
    events: int
    first: float | None = None
    last: float | None = None
    per_hour: float | None = None
    same: tuple[Shared, ...] = ()
    scattered: tuple[Shared, ...] = ()
    source: Literal["kernel", "rasdaemon"] = "kernel"
    first_time: str | None = None
    last_time: str | None = None
    on_failed: tuple[Related, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PastErrors:
    """Errors of one kind and place that a database of the host has, from before the crash.

    ``kind`` "other" is no error of memory: PCIe, processors.  ``text`` is the database's own words.
    """

    source: Literal["rasdaemon"]
    kind: Literal["uncorrected", "deferred", "fatal", "memory-failure", "other"]
    count: int
    place: str | None = None
    first_time: str | None = None
    last_time: str | None = None
    text: str | None = None
    on_failed: tuple[Related, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TimelineEntry:
    """One step from the first error to the crash; ``kind`` is error, failure, crash or note.

    ``exact`` is false where the time is known to the second only: struct mce has no finer clock.
    """

    time: float | None
    kind: Literal["error", "failure", "crash", "note"]
    text: str
    exact: bool = True


@dataclass(frozen=True, kw_only=True)
class NotChecked:
    """What could not be answered, why, and the command or step that would answer it."""

    what: str
    why: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Triage:
    """The whole result.

    ``has_panic_on_unrecoverable_memory_failure`` tells whether the kernel has the sysctl at all: false
    where its symbols show that it has not, null where nothing tells.  ``page`` is the one that the verdict is about; without a crash, that of the worst
    unrecovered failure, else of the last one.
    """

    schema_version: int = SCHEMA_VERSION
    tool: Tool
    dump: DumpInfo
    verdict: Verdict
    panic: Panic | None = None
    memory_failures: tuple[MemoryFailure, ...] = ()
    page: PageInfo | None = None
    poisoned_pages: tuple[PoisonedPage, ...] = ()
    num_poisoned_pages: int | None = None
    panic_on_unrecoverable_memory_failure: int | None = None
    has_panic_on_unrecoverable_memory_failure: bool | None = None
    hw_memory_failure: bool | None = None
    hardware_errors: tuple[HardwareError, ...] = ()
    corrected_errors: tuple[CorrectedErrors, ...] = ()
    history: tuple[PastErrors, ...] = ()
    page_requests: tuple[PageRequest, ...] = ()
    dimm: Dimm | None = None
    error_to_crash_seconds: float | None = None
    signature: str | None = None
    actions: tuple[str, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()
    not_checked: tuple[NotChecked, ...] = ()
