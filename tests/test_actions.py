"""What to do next: each kind of verdict, and each sentence only where its fact is there."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from mftriage.actions import MOST, SYSCTL, actions
from mftriage.dimm import suspect
from mftriage.facts import Facts
from mftriage.log import LogRecord
from mftriage.model import (
    CorrectedErrors,
    Dimm,
    DumpInfo,
    FirmwareRecord,
    Frame,
    HardwareError,
    MceRegisters,
    MemoryFailure,
    NotChecked,
    Owner,
    PageInfo,
    Panic,
    RecordDimm,
    Verdict,
    VerdictKind,
)

PFN = 0x15D4
DUMP = DumpInfo(
    path="vmcore",
    arch="x86_64",
    page_size=4096,
    symbols="btf",
    crash_time="2026-11-23T00:05:30Z",
    uptime_seconds=100.0,
)
PANIC = Panic(message="Oops", time=100.0, trace=(Frame(function="panic"), Frame(function="d_walk")))
BY_MEMORY = ("unrecoverable-panic", "fatal-hardware-error", "delayed-crash")


def ignored(**more: Any) -> MemoryFailure:
    words = {"page_type": "reserved kernel page", "action": "ignored", "time": 40.0, **more}
    return MemoryFailure(pfn=f"{PFN:#x}", **words)


def error(**more: Any) -> HardwareError:
    words = {
        "source": "ghes",
        "medium": "log",
        "time": 40.0,
        "severity": "recoverable",
        "is_memory": True,
        "physical_address": f"{PFN << 12:#x}",
        **more,
    }
    return HardwareError(**words)


def case(
    kind: VerdictKind, owner: Any = "slab", dimm: Dimm | None = None, **more: Any
) -> tuple[str, ...]:
    """The actions of a verdict on facts in which one page failed."""
    words: dict[str, Any] = {
        "dump": DUMP,
        "panic": None if kind == "no-crash" else PANIC,
        "memory_failures": (ignored(),),
        "hardware_errors": (error(),),
        "hw_memory_failure": True,
        "sysctl": 0,
        "has_sysctl": True,
        **more,
    }
    facts = Facts(**words)
    page = (
        PageInfo(
            pfn=f"{PFN:#x}", physical_address=f"{(PFN << 12) + 0x40:#x}", owner=Owner(kind=owner)
        )
        if facts.memory_failures
        else None
    )
    verdict = Verdict(kind=kind, confidence="high", summary="It is so.")
    return actions(facts, verdict, page, dimm or suspect(facts, page))


def said(sentences: tuple[str, ...], *words: str) -> bool:
    """Whether one sentence has all the words."""
    return any(all(word in sentence for word in words) for sentence in sentences)


@pytest.mark.parametrize("kind", get_args(VerdictKind))
def test_every_kind_of_verdict_has_at_most_eight(kind: VerdictKind) -> None:
    repeated = CorrectedErrors(place="DIMM_A1", count=9, events=9, same=("row",))
    for more in ({}, {"corrected_errors": (repeated,)}, {"hw_memory_failure": False}):
        sentences = case(kind, **more)
        assert len(sentences) == len(set(sentences)) <= MOST
        assert all(sentence and "None" not in sentence for sentence in sentences)


@pytest.mark.parametrize("kind", BY_MEMORY)
def test_crash_by_memory(kind: VerdictKind) -> None:
    sentences = case(kind)
    assert sentences[0].startswith("Keep the machine out of service")
    assert said(
        sentences[1:2], "Save the BMC's event log and this dump", "before a module is moved"
    )
    # ten minutes, over midnight
    assert said(
        sentences,
        "BMC",
        "from 2026-11-22 23:55:30 to 2026-11-23 00:05:30 UTC",
        "no record here names it",
    )
    assert said(sentences, "memmap=4K$0x15d4000")
    assert said(sentences, "memory test") and said(sentences, "newer firmware")


def test_the_dimm_with_all_that_identifies_it_and_how_sure() -> None:
    dimm = Dimm(
        label="DIMM_G1",
        locator="CPU0 G1",
        manufacturer="Samsung",
        part_number="M393A8G40AB2",
        serial_number="H0KE",
        how="DIMM location of the firmware's own record (CPER); SMBIOS by its handle or name",
        certainty="high",
    )
    sentences = case("unrecoverable-panic", dimm=dimm)
    assert said(sentences, "Replace CPU0 G1 (Samsung M393A8G40AB2, serial H0KE)", "how sure: high")
    assert said(sentences, "BMC's event log agrees, from 2026-11-22")
    assert not said(sentences, "no record here names it")


@pytest.mark.parametrize(
    ("dimm", "words"),
    [
        (RecordDimm(label="B1", how="edac-label"), "EDAC's label names it (how sure: medium)"),
        (RecordDimm(label="mc#0csrow#1", how="driver-decode"), "the board's manual turns into a slot"),
        (RecordDimm(candidates=("A1", "B1")), "which the records can't tell apart: A1, B1"),
        (RecordDimm(handle="0x1"), "Find the DIMM with the SMBIOS handle 0x1"),
    ],
)  # fmt: skip
def test_how_a_dimm_is_known(dimm: RecordDimm, words: str) -> None:
    source = "edac" if dimm.how or dimm.candidates else "ghes"
    record = error(source=source, dimm=dimm)
    if dimm.candidates:
        record = error(source=source, dimm=RecordDimm(how="edac-label", candidates=dimm.candidates))
    assert said(case("delayed-crash", hardware_errors=(record,)), words)


def test_without_a_clock_the_window_is_told_in_words() -> None:
    dump = DumpInfo(path="dmesg.txt", page_size=4096, symbols="log-only", format="log")
    sentences = case("delayed-crash", dump=dump)
    assert said(sentences, "of the ten minutes before (the time in UTC is not known here)")
    assert said(sentences, "Save the BMC's event log and this log")
    clocked = (error(wall_time="2026-11-23T10:10:00Z"),)
    sentences = case("delayed-crash", dump=dump, hardware_errors=clocked)
    assert said(sentences, "from 2026-11-23 10:00:00 to 10:10:00 UTC")


@pytest.mark.parametrize(
    ("crash_time", "uptime", "kind"),
    [
        ("0001-01-01T00:00:00Z", 1.0, "delayed-crash"),
        ("2026-11-23T00:05:30Z", 1e300, "no-crash"),
        ("2026-11-23T00:05:30Z", float("inf"), "no-crash"),
        ("2026-11-23T00:05:30Z", float("nan"), "no-crash"),
        ("yesterday", 1.0, "delayed-crash"),
    ],
)
def test_a_damaged_clock(crash_time: str, uptime: float, kind: Any) -> None:
    dump = DumpInfo(path="x", crash_time=crash_time, uptime_seconds=uptime, page_size=4096)
    assert said(case(kind, dump=dump), "(the time in UTC is not known here)")


def test_arm64_has_no_memmap() -> None:
    dump = DumpInfo(path="vmcore", arch="arm64", page_size=65536)
    sentences = case("delayed-crash", dump=dump)
    assert said(sentences, "echo 0x15d0000 > /sys/devices/system/memory/hard_offline_page")
    assert not said(case("delayed-crash", dump=DumpInfo(path="log", arch="x86_64")), "memmap")
    assert not said(case("delayed-crash", owner="reserved"), "memmap")


@pytest.mark.parametrize("kind", get_args(VerdictKind))
def test_nothing_is_replaced_after_an_injection(kind: VerdictKind) -> None:
    sentences = case(kind, hardware_errors=(), hw_memory_failure=False)
    if kind not in ("hardware-not-memory", "inconclusive"):
        assert said(sentences, "Nothing to replace: the failure was injected by software.")
    if kind != "hardware-not-memory":
        assert not said(sentences, "BMC") and not said(sentences, "Replace")


# what would have caught it


SET = f"`sysctl -w {SYSCTL}=1`, and `{SYSCTL} = 1` in /etc/sysctl.d/60-memory-failure.conf"


@pytest.mark.parametrize("kind", ["delayed-crash", "possible-delayed-crash", "no-crash"])
def test_the_sysctl_is_off(kind: VerdictKind) -> None:
    assert said(
        case(kind),
        f"Set {SYSCTL}, which is 0",
        SET,
        "would have stopped the machine at this failure, of a slab page",
    )
    assert said(
        case(kind, owner="vmalloc"), SET, "stops the machine at failures of slab pages, page tables"
    )


def test_the_sysctl_is_on_and_did_not_stop_it() -> None:
    sentences = case("delayed-crash", owner="vmalloc", sysctl=1)
    assert said(sentences, f"Nothing more to set: {SYSCTL} is 1 already")


def test_the_kernel_has_no_such_sysctl() -> None:
    absent = {"sysctl": None, "has_sysctl": False}
    assert said(
        case("delayed-crash", **absent), "Linux 7.3 or newer", "slab page", "does not have it"
    )
    assert not said(case("delayed-crash", owner="kernel-stack", **absent), SYSCTL)
    assert said(
        case("delayed-crash", owner="unknown", **absent), "Linux 7.3 or newer", "page tables"
    )


def test_nothing_tells_whether_the_kernel_has_it() -> None:
    unknown = {"sysctl": None, "has_sysctl": None}
    sentences = case("possible-delayed-crash", owner="unknown", **unknown)
    assert said(sentences, "where the kernel has it (Linux 7.3 and newer)", "not known here")
    log = DumpInfo(path="log", page_size=4096, symbols="log-only")
    sentences = case("possible-delayed-crash", owner="unknown", dump=log, **unknown)
    assert said(sentences, SYSCTL, "Whether it was on is not known from the log alone")


@pytest.mark.parametrize("kind", ["unrecoverable-panic", "fatal-hardware-error"])
def test_who_panicked_at_the_failure_needs_no_sysctl(kind: VerdictKind) -> None:
    panicked = (ignored(panicked=True),)
    assert not said(case(kind, memory_failures=panicked, sysctl=None, has_sysctl=None), SYSCTL)


def test_without_a_failure_left_in_use_there_is_nothing_to_catch() -> None:
    recovered = (ignored(action="recovered"),)
    for kind in get_args(VerdictKind):
        assert not said(case(kind, memory_failures=recovered), SYSCTL)


# the other verdicts


def test_possibly_delayed() -> None:
    sentences = case("possible-delayed-crash")
    assert said(sentences[:1], "Treat the machine as suspect: page 0x15d4")
    assert said(sentences, "as one of software as well, starting at d_walk.")
    record = error(dimm=RecordDimm(label="A1"))
    assert said(case("possible-delayed-crash", hardware_errors=(record,)), "Test A1", "if it fails")


def test_unrelated() -> None:
    sentences = case("unrelated")
    assert (
        sentences[0]
        == "Look for the cause in the crash itself, starting at d_walk: memory does not explain it."
    )
    assert said(sentences, "Have the memory tested all the same: page 0x15d4")
    recovered = case("unrelated", memory_failures=(ignored(action="recovered"),))
    assert said(recovered, "at the next maintenance: an uncorrected error was handled before")
    assert said(recovered, "Look for the DIMM")
    quiet = case("unrelated", memory_failures=(), hardware_errors=())
    assert quiet == sentences[:1]


def test_not_memory() -> None:
    record = error(
        is_memory=False,
        severity="fatal",
        error_type="PCIe error",
        firmware=FirmwareRecord(device="0000:01:00.0"),
    )
    sentences = case("hardware-not-memory", memory_failures=(), hardware_errors=(record,))
    assert said(sentences[:1], "Leave the memory modules where they are", "(PCIe error)")
    assert said(sentences, "lspci -vv -s 0000:01:00.0")
    assert said(sentences, "BMC", "may name the part")
    cache = error(is_memory=False, severity="fatal", mce=MceRegisters(bank=1, cpu=7, socket=1))
    sentences = case("hardware-not-memory", memory_failures=(), hardware_errors=(cache,))
    assert said(sentences, "the processor first (socket 1, CPU 7): its machine-check bank 1")


def test_a_machine_that_runs_on_a_bad_page() -> None:
    sentences = case("no-crash")
    assert sentences[0].startswith(
        "Plan a reboot: bad memory is still in use by the kernel (page 0x15d4, slab page)"
    )
    # the window ends with the error, 60 s before the dump
    assert said(sentences, "from 2026-11-22 23:54:30 to 2026-11-23 00:04:30 UTC")


def test_a_machine_whose_failure_was_recovered() -> None:
    sentences = case("no-crash", memory_failures=(ignored(action="recovered"),))
    assert said(sentences[:1], "Nothing is urgent", "until the next boot")
    assert not said(sentences, "Plan a reboot")
    named = (error(dimm=RecordDimm(label="A1")),)
    sentences = case(
        "no-crash", memory_failures=(ignored(action="recovered"),), hardware_errors=named
    )
    assert said(sentences, "At the next maintenance, replace A1: the firmware's own record")


def test_a_machine_with_corrected_errors() -> None:
    again = CorrectedErrors(place="DIMM_A1", count=262, events=9, same=("page", "row"))
    corrected = (error(severity="corrected"),) * 2
    sentences = case(
        "no-crash", memory_failures=(), hardware_errors=corrected, corrected_errors=(again,)
    )
    assert said(sentences, "echo 0x15d4000 > /sys/devices/system/memory/soft_offline_page")
    assert said(
        sentences,
        "post-package repair (PPR): 262 corrected errors at DIMM_A1",
        "same row",
        "mem_repair",
    )
    assert said(sentences, "Watch DIMM_A1: 262 corrected errors so far")
    apart = CorrectedErrors(place="DIMM_A1", count=1, events=1, scattered=("row",))
    sentences = case(
        "no-crash", memory_failures=(), hardware_errors=corrected, corrected_errors=(apart,)
    )
    assert len(sentences) == 1 and said(sentences, "Watch DIMM_A1: 1 corrected error so far")


def test_a_machine_without_any_error() -> None:
    sentences = case("no-crash", memory_failures=(), hardware_errors=())
    assert sentences == ("Nothing to do: neither a crash nor a memory error was found.",)


def test_inconclusive_begins_with_what_is_missing() -> None:
    missing = NotChecked(what="the kernel log", why="cut", remedy="put the log beside the dump")
    sentences = case("inconclusive", not_checked=[missing])
    assert sentences[0] == "Get what is missing first: put the log beside the dump"
    assert said(sentences, "before a module is moved")


def test_firmware_by_its_name_in_the_log() -> None:
    line = LogRecord(
        1.0, 6, "Hardware name: Dell Inc. PowerEdge R740/0WXYZ, BIOS 2.10.2 02/24/2021"
    )
    assert said(case("delayed-crash", log=[line]), "(Dell Inc. PowerEdge R740/0WXYZ, BIOS 2.10.2")


def test_no_command_holds_what_a_dump_says() -> None:
    """Somebody will type it."""
    hostile = "`rm -rf /`; $(reboot)"
    record = error(
        is_memory=False,
        severity="fatal",
        error_type=hostile,
        dimm=RecordDimm(label=hostile),
        firmware=FirmwareRecord(device=hostile),
        mce=MceRegisters(unit=hostile, cpu=1),
    )
    memory = error(dimm=RecordDimm(label=hostile))
    lines = [LogRecord(1.0, 6, f"Hardware name: {hostile}")]
    repeated = CorrectedErrors(place=hostile, count=9, events=9, same=("row",))
    missing = [NotChecked(what=hostile, why=hostile, remedy=hostile)]
    panic = Panic(message=hostile, trace=(Frame(function=hostile),))
    for kind in get_args(VerdictKind):
        for errors in ((record,), (memory,)):
            sentences = case(
                kind,
                hardware_errors=errors,
                log=lines,
                corrected_errors=(repeated,),
                not_checked=missing,
                panic=None if kind == "no-crash" else panic,
            )
            commands = [part for sentence in sentences for part in sentence.split("`")[1::2]]
            assert not any("rm" in command or "reboot" in command for command in commands)
