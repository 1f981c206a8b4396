"""Triages made by hand, of the sort that real dumps give; nothing in them is hostile."""

from __future__ import annotations

from mftriage.model import (
    Dimm,
    DumpInfo,
    Fact,
    Frame,
    HardwareError,
    Location,
    MceRegisters,
    MemoryFailure,
    NotChecked,
    Owner,
    PageInfo,
    Panic,
    PoisonedPage,
    RecordDimm,
    SlabObject,
    Task,
    TimelineEntry,
    Tool,
    Triage,
    Verdict,
)

TOOL = Tool(name="mftriage", version="1.0.0")


def _frames(*functions: str) -> tuple[Frame, ...]:
    named = (function.partition("+") for function in functions)
    return tuple(Frame(function=name, offset=offset or None) for name, _, offset in named)


X86_SYSCTL_PANIC = Triage(
    tool=TOOL,
    dump=DumpInfo(
        path="/var/crash/2026-11-24-03:12/vmcore",
        size_bytes=21_812_480,
        format="kdump",
        arch="x86_64",
        page_size=4096,
        kernel_release="7.3.4+deb13-cloud-amd64",
        build_id="8b0c3f6e0d5f4e9d7c1b6a29384756afbecd1021",
        hostname="db-r14-u07.fra2",
        crash_time="2026-11-24T03:12:41Z",
        uptime_seconds=1_904_010.408,
        taint=("M",),
        symbols="btf",
        complete=True,
    ),
    verdict=Verdict(
        kind="unrecoverable-panic",
        confidence="certain",
        summary=(
            "The kernel panicked because page 0x1741, which holds dentries, had a hardware memory "
            "error that it could not recover from."
        ),
        evidence=(
            Fact(
                rule="unrecoverable-panic",
                fact='The panic message is "Memory failure: 0x1741: unrecoverable page".',
            ),
            Fact(
                rule="page-poisoned",
                fact="PG_hwpoison is set on page 0x1741, and num_poisoned_pages is 1.",
            ),
            Fact(
                rule="words-differ",
                fact=(
                    'The kernel called the page "reserved kernel page"; its page type is slab and '
                    "its cache is dentry."
                ),
            ),
            Fact(
                rule="record-names-page",
                fact="The machine-check record in memory has address 0x17413c0, in this page.",
            ),
        ),
    ),
    panic=Panic(
        message="Memory failure: 0x1741: unrecoverable page",
        time=1_904_010.408472,
        task=Task(comm="kworker/0:0", pid=9),
        cpu=0,
        trace=_frames(
            "crash_setup_regs",
            "__crash_kexec+0x6e",
            "vpanic+0x2d1",
            "panic+0x5b",
            "memory_failure+0xa52",
            "uc_decode_notifier+0x74",
            "notifier_call_chain+0x5c",
            "blocking_notifier_call_chain+0x41",
            "mce_gen_pool_process+0x5d",
            "process_one_work+0x1a1",
            "worker_thread+0x2d0",
            "kthread+0xfe",
            "ret_from_fork+0x1f4",
        ),
    ),
    memory_failures=(
        MemoryFailure(
            time=1_904_010.408141,
            pfn="0x1741",
            physical_address="0x1741000",
            page_type="reserved kernel page",
            action="ignored",
            panicked=True,
        ),
    ),
    page=PageInfo(
        pfn="0x1741",
        physical_address="0x17413c0",
        flags=("hwpoison",),
        page_type="slab",
        hwpoison=True,
        refcount=0,
        order=0,
        node=0,
        zone="DMA32",
        content_in_dump=False,
        owner=Owner(
            kind="slab",
            detail="slab cache dentry, 21 objects",
            slab_cache="dentry",
            object_size=192,
            objects=21,
            object=SlabObject(
                address="0xffff8c19817413c0",
                type="struct dentry",
                offset="0x0",
                member="d_flags",
            ),
        ),
    ),
    poisoned_pages=(PoisonedPage(pfn="0x1741", owner_kind="slab"),),
    num_poisoned_pages=1,
    panic_on_unrecoverable_memory_failure=1,
    hw_memory_failure=True,
    hardware_errors=(
        HardwareError(
            source="mce",
            medium="memory",
            time=1_904_010.401317,
            severity="recoverable",
            error_type="memory scrubbing error",
            is_memory=True,
            physical_address="0x17413c0",
            physical_address_mask="0xffffffffffffffc0",
            wall_time="2026-11-24T03:12:40Z",
            mce=MceRegisters(
                cpu=0,
                bank=9,
                status="0xbd000000000000c0",
                addr="0x17413c0",
                misc="0x86",
                mcgstatus="0xd",
                ip="0xffffffff9ed53c9f",
                microcode="0x1",
                cpuid="0x50654",
                socket=0,
            ),
        ),
    ),
    dimm=Dimm(
        label="CPU1_DIMM_A2",
        locator="DIMM_A2",
        bank_locator="P0_Node0_Channel0_Dimm1",
        manufacturer="Samsung",
        part_number="M393A8G40AB2-CWE",
        serial_number="H0KE00024A1F",
        size_bytes=64 << 30,
        how="SMBIOS maps this physical address to one memory device (type 20, not interleaved)",
    ),
    signature="v1|unrecoverable-panic|slab:dentry|mce",
    actions=(
        "Replace DIMM CPU1_DIMM_A2 (serial H0KE00024A1F), or run a memory test on it first.",
        "Keep the host drained until then: the page comes back into use after a reboot.",
    ),
    timeline=(
        TimelineEntry(
            time=1_904_010.401317, kind="error", text="Machine check: memory error at 0x17413c0"
        ),
        TimelineEntry(
            time=1_904_010.408141,
            kind="failure",
            text="Memory failure: 0x1741: recovery action for reserved kernel page: Ignored",
        ),
        TimelineEntry(
            time=1_904_010.408472,
            kind="crash",
            text="Kernel panic - not syncing: Memory failure: 0x1741: unrecoverable page",
        ),
    ),
    not_checked=(
        NotChecked(
            what="whether the dentry was in use",
            why="the freelist lies in the bad page, which makedumpfile left out",
            remedy="none: the page can't be read",
        ),
        NotChecked(
            what="inlined frames and file:line",
            why="no debug info was given",
            remedy="mftriage analyze /var/crash/2026-11-24-03:12/vmcore -s vmlinux",
        ),
    ),
)

ARM64_GHES = Triage(
    tool=TOOL,
    dump=DumpInfo(
        path="arm64-ghes-panic0.elf.xz",
        size_bytes=9_337_212,
        format="elf+xz",
        arch="aarch64",
        page_size=4096,
        kernel_release="7.3.4+deb13-cloud-arm64",
        hostname="edge-118",
        crash_time="2026-11-21T17:40:02Z",
        uptime_seconds=93.412,
        taint=("M",),
        symbols="dwarf",
        complete=True,
    ),
    verdict=Verdict(
        kind="delayed-crash",
        confidence="high",
        summary=(
            "A lookup touched dentry obj19432 in page 0x444d0, which had a multi-bit ECC error "
            "60 s before and which the kernel had left in use."
        ),
        evidence=(
            Fact(
                rule="fault-in-poisoned-page",
                fact="x0 of the crashed task is 0xffff0000044d0784, in the poisoned page 0x444d0.",
            ),
            Fact(
                rule="abort-after-failure",
                fact="A synchronous external abort came 60.1 s after the ignored failure.",
            ),
            Fact(
                rule="words-differ",
                fact='The kernel called the page "reserved kernel page"; the dump proves a slab.',
            ),
        ),
        against=(
            Fact(
                rule="fault-address-unknown",
                fact="FAR is not valid (FnV is set), so the very address is not on record.",
            ),
        ),
    ),
    panic=Panic(
        message="synchronous external abort: Fatal exception",
        time=93.402,
        task=Task(comm="objindexd", pid=131),
        cpu=1,
        trace=(
            Frame(function="__d_lookup_rcu", offset="0x74", source="fs/dcache.c:2387"),
            Frame(function="lookup_fast", offset="0x48", source="fs/namei.c:1759"),
            Frame(function="walk_component", offset="0x2c", source="fs/namei.c:2118"),
            Frame(function="path_lookupat", offset="0x88", source="fs/namei.c:2622"),
            Frame(function="filename_lookup", offset="0xf0", source="fs/namei.c:2651"),
            Frame(function="vfs_statx", offset="0x90", source="fs/stat.c:353"),
            Frame(function=None, offset=None),
            Frame(function="el0_svc", offset="0x3c", source="arch/arm64/kernel/entry-common.c:740"),
        ),
    ),
    memory_failures=(
        MemoryFailure(
            time=33.287,
            pfn="0x444d0",
            physical_address="0x444d0000",
            page_type="reserved kernel page",
            action="ignored",
        ),
    ),
    page=PageInfo(
        pfn="0x444d0",
        physical_address="0x444d0780",
        flags=("hwpoison", "head"),
        page_type="slab",
        hwpoison=True,
        refcount=0,
        order=1,
        compound="head",
        head_pfn="0x444d0",
        node=0,
        zone="DMA",
        content_in_dump=False,
        owner=Owner(
            kind="slab",
            detail="slab cache dentry, 42 objects",
            slab_cache="dentry",
            object_size=192,
            objects=42,
            object=SlabObject(
                address="0xffff0000044d0780",
                type="struct dentry",
                offset="0x0",
                member="d_flags",
                allocated=True,
            ),
        ),
    ),
    poisoned_pages=(PoisonedPage(pfn="0x444d0", owner_kind="slab"),),
    num_poisoned_pages=1,
    panic_on_unrecoverable_memory_failure=0,
    hw_memory_failure=True,
    hardware_errors=(
        HardwareError(
            source="ghes",
            medium="log",
            injected=False,
            time=33.281,
            severity="recoverable",
            error_type="multi-bit ECC",
            is_memory=True,
            physical_address="0x444d0780",
            physical_address_mask="0xffffffffffffffc0",
            location=Location(
                node=0, card=2, module=0, rank=1, bank=5, device=7, row=6699, column=136
            ),
            dimm=RecordDimm(label="DIMM_C0_S0"),
            raw=(
                "{1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 1",
                "{1}[Hardware Error]: event severity: recoverable",
                "{1}[Hardware Error]:  Error 0, type: recoverable",
                "{1}[Hardware Error]:  fru_text: DIMM_C0_S0",
                "{1}[Hardware Error]:   section_type: memory error",
                "{1}[Hardware Error]:    error_status: Storage error in DRAM memory "
                "(0x0000000000000400)",
                "{1}[Hardware Error]:   physical_address: 0x00000000444d0780",
                "{1}[Hardware Error]:   physical_address_mask: 0xffffffffffffffc0",
                "{1}[Hardware Error]:   node:0 card:2 module:0 rank:1 bank:5 device:7 row:6699 "
                "column:136",
                "{1}[Hardware Error]:   error_type: 3, multi-bit ECC",
            ),
        ),
        HardwareError(
            source="ghes",
            medium="log",
            injected=False,
            time=12.044,
            severity="corrected",
            error_type="single-bit ECC",
            is_memory=True,
            physical_address="0x444d0780",
            physical_address_mask="0xffffffffffffffc0",
            location=Location(node=0, card=2, module=0, rank=1, bank=5, row=6699, column=136),
            dimm=RecordDimm(label="DIMM_C0_S0"),
        ),
    ),
    dimm=Dimm(label="DIMM_C0_S0", how="the firmware's record names it (fru_text)"),
    signature="v1|delayed-crash|slab:dentry|ghes:multi-bit ECC",
    actions=(
        "Replace DIMM_C0_S0: it had corrected errors on the same row before this one.",
        "Set vm.panic_on_unrecoverable_memory_failure=1, so that the next one dies at once.",
    ),
    timeline=(
        TimelineEntry(time=12.044, kind="error", text="Corrected single-bit ECC error, row 6699"),
        TimelineEntry(time=33.281, kind="error", text="Multi-bit ECC error at 0x444d0780"),
        TimelineEntry(
            time=33.287,
            kind="failure",
            text="Memory failure: 0x444d0: recovery action for reserved kernel page: Ignored",
        ),
        TimelineEntry(time=93.391, kind="note", text="objindexd[131] calls statx()"),
        TimelineEntry(
            time=93.402,
            kind="crash",
            text="Internal error: synchronous external abort: 0000000096000410 [#1] SMP",
        ),
    ),
)

UNRELATED_SYSRQ = Triage(
    tool=TOOL,
    dump=DumpInfo(
        path="73-control-recovered-anon.elf.xz",
        size_bytes=12_001_337,
        format="elf+xz",
        arch="x86_64",
        page_size=4096,
        kernel_release="7.3.4+deb13-cloud-amd64",
        hostname="build-03",
        crash_time="2026-11-20T09:01:12Z",
        uptime_seconds=15.9,
        taint=("M",),
        complete=False,
    ),
    verdict=Verdict(
        kind="unrelated",
        confidence="high",
        summary=(
            "Somebody crashed the machine with sysrq-c; the memory failure of page 0x9902 5 s "
            "before had been recovered."
        ),
        evidence=(
            Fact(rule="sysrq-crash", fact='The panic message is "sysrq triggered crash".'),
            Fact(
                rule="all-recovered",
                fact="The only memory failure was recovered: its page was unmapped and one "
                "process got SIGBUS.",
            ),
        ),
    ),
    panic=Panic(
        message="sysrq triggered crash",
        time=15.884,
        task=Task(comm="bash", pid=412),
        cpu=1,
        fault_address="0x0",
        trace=_frames(
            "sysrq_handle_crash+0x16",
            "__handle_sysrq+0x9e",
            "write_sysrq_trigger+0x28",
            "vfs_write+0xf0",
        ),
    ),
    memory_failures=(
        MemoryFailure(
            time=10.812,
            pfn="0x9902",
            physical_address="0x9902000",
            page_type="dirty LRU page",
            action="recovered",
            killed=(Task(comm="victim", pid=105),),
        ),
    ),
    page=PageInfo(
        pfn="0x9902",
        physical_address="0x9902000",
        flags=("uptodate", "dirty", "swapbacked", "hwpoison"),
        hwpoison=True,
        refcount=1,
        mapcount=0,
        order=0,
        node=0,
        zone="DMA32",
        content_in_dump=False,
        owner=Owner(kind="anon", detail="anonymous memory, no longer mapped"),
    ),
    poisoned_pages=(PoisonedPage(pfn="0x9902", owner_kind="anon"),),
    num_poisoned_pages=1,
    panic_on_unrecoverable_memory_failure=0,
    hw_memory_failure=True,
    hardware_errors=(
        HardwareError(
            source="mce",
            medium="memory",
            severity="recoverable",
            is_memory=True,
            physical_address="0x9902000",
            mce=MceRegisters(cpu=0, bank=9, status="0xbd000000000000c0", misc="0x8c"),
        ),
    ),
    signature="v1|unrelated|sysrq_handle_crash",
    actions=("Nothing for the memory's sake; ask who wrote c to /proc/sysrq-trigger.",),
    timeline=(
        TimelineEntry(
            time=10.812,
            kind="failure",
            text="Memory failure: 0x9902: recovery action for dirty LRU page: Recovered",
        ),
        TimelineEntry(time=15.884, kind="crash", text="Kernel panic: sysrq triggered crash"),
    ),
    not_checked=(
        NotChecked(
            what="the DIMM",
            why="the dump has no SMBIOS tables and the record names none",
            remedy="dmidecode -t memory on the host",
        ),
    ),
)

INCONCLUSIVE = Triage(
    tool=TOOL,
    dump=DumpInfo(path="vmcore-incomplete", size_bytes=4096, symbols="log-only", complete=False),
    verdict=Verdict(
        kind="inconclusive",
        confidence="low",
        summary="The dump is cut short before the kernel log, so nothing can be said.",
    ),
    not_checked=(
        NotChecked(
            what="everything after the header",
            why="the file ends at byte 4096",
            remedy="copy the dump again, or give vmcore-dmesg.txt from the same folder",
        ),
    ),
)

SAMPLES = {
    "x86-sysctl-panic": X86_SYSCTL_PANIC,
    "arm64-ghes": ARM64_GHES,
    "unrelated-sysrq": UNRELATED_SYSRQ,
    "inconclusive": INCONCLUSIVE,
}
