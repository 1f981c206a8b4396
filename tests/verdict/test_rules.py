"""The verdict's rules on facts made by hand: each fires, each holds back, and none blames the innocent."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage import model
from mftriage.actions import MOST
from mftriage.facts import Facts, Tie
from mftriage.log import LogRecord
from mftriage.model import (
    Access,
    DumpInfo,
    Frame,
    HardwareError,
    MceRegisters,
    MemoryFailure,
    Owner,
    PageInfo,
    PageRequest,
    Panic,
    PoisonedPage,
    Task,
)
from mftriage.triage import conclude
from mftriage.verdict import RULES, decide
from mftriage.verdict.explain import BACKGROUND, explained, why

PFN = 0x1741
BLAMING = {"unrecoverable-panic", "fatal-hardware-error", "delayed-crash", "possible-delayed-crash"}
SYSCTL = f"Memory failure: {PFN:#x}: unrecoverable page"
OOPS = "BUG: unable to handle page fault for address: ffff888001741123"


def failure(action: Any = "ignored", pfn: int = PFN, **more: Any) -> MemoryFailure:
    words = {"page_type": "reserved kernel page", "time": 10.0, **more}
    return MemoryFailure(pfn=f"{pfn:#x}", action=action, **words)


def page(kind: Any = "slab", pfn: int = PFN, **more: Any) -> PageInfo:
    owner = Owner(kind=kind, detail=f"detail of {kind}")
    more = {"hwpoison": True, "owner": owner, **more}
    return PageInfo(pfn=f"{pfn:#x}", physical_address=f"{pfn * 4096:#x}", **more)


def mce(severity: Any = "fatal", is_memory: bool | None = True, **more: Any) -> HardwareError:
    words: dict[str, Any] = {
        "source": "mce",
        "medium": "log",
        "time": 10.0,
        "physical_address": f"{PFN * 4096 + 0x40:#x}",
        "mce": MceRegisters(bank=9, status="0xbd00000000000134", mcgstatus="0x5"),
        "error_type": "memory controller read error",
    }
    return HardwareError(severity=severity, is_memory=is_memory, **{**words, **more})


def ghes(severity: Any = "fatal", is_memory: bool = True, **more: Any) -> HardwareError:
    words = {"source": "ghes", "mce": None, "raw": ("{1}[Hardware Error]: ...",), **more}
    return mce(severity, is_memory, **words)


def facts(message: str | None = None, *failures: MemoryFailure, **more: Any) -> Facts:
    words: dict[str, Any] = {
        "dump": DumpInfo(path="vmcore", page_size=4096, symbols="btf"),
        "log": [LogRecord(1.0, 6, "Linux version 7.3.4")],
        "crashed": message is not None,
        "panic": None if message is None else Panic(message=message, time=15.0),
        "memory_failures": failures,
    }
    return Facts(**{**words, **more})


def told(given_facts: Facts) -> tuple[str, str, str]:
    verdict, rule = decide(given_facts)
    return verdict.kind, verdict.confidence, rule


SEA = "Internal error: synchronous external abort: 0000000096000410 [#1] SMP"
LOG = DumpInfo(path="dmesg.txt", page_size=4096, symbols="log-only", format="log")
TIE = (Tie(PFN, "the fault address", 0xFFFF888001741123, how="access"),)
POISONED = (PoisonedPage(pfn=f"{PFN:#x}", owner_kind="slab"),)
CASES: dict[str, tuple[Facts, str, str, str]] = {
    "the sysctl": (
        facts(SYSCTL, failure(panicked=True), pages={PFN: page()}, sysctl=1),
        *("unrecoverable-panic", "certain", "sysctl-panic"),
    ),
    "the sysctl, nothing else readable": (
        facts(SYSCTL, log=()),
        *("unrecoverable-panic", "certain", "sysctl-panic"),
    ),
    "recovery turned off": (
        facts(f"Memory failure on page {PFN:x}"),
        *("fatal-hardware-error", "certain", "recovery-disabled"),
    ),
    "init killed for a bad page": (
        facts(
            "Attempted to kill init! exitcode=0x00000007",
            failure("recovered", killed=(Task(comm="systemd", pid=1),)),
        ),
        *("fatal-hardware-error", "certain", "init-killed"),
    ),
    "init killed, another process for a bad page": (
        facts(
            "Attempted to kill init! exitcode=0x00000007",
            failure("recovered", killed=(Task(comm="mysqld", pid=712),)),
        ),
        *("unrelated", "high", "crash-without-failure"),
    ),
    "a failure behind the crash": (
        facts("Fatal exception", failure(after_crash=True), oops=OOPS),
        *("unrelated", "high", "crash-without-failure"),
    ),
    "an oops with an access in a recovered page and a register in one that was not": (
        facts(
            *("Fatal exception", failure("recovered"), failure(pfn=PFN + 1)),
            ties=(*TIE, Tie(PFN + 1, "register RAX", 1)),
            oops=OOPS,
        ),
        *("possible-delayed-crash", "low", "unrecovered-before"),
    ),
    "an oops with a register a bit away from the page, which had no part in it": (
        facts(
            panic=Panic(
                message="Fatal exception",
                time=15.0,
                access=Access(instruction="mov rax, [rbx]", register="rbx", address="0x10"),
            ),
            memory_failures=(failure(),),
            ties=(Tie(PFN, "register RAX", 1 << 62, 62),),
            oops=OOPS,
            crashed=True,
        ),
        *("possible-delayed-crash", "low", "unrecovered-before"),
    ),
    "a pointer that stands in the page and elsewhere": (
        facts(
            *("Fatal exception", failure()),
            ties=(Tie(PFN, "it", 1, how="pointer"),),
            oops=OOPS,
            elsewhere=("the faulting pointer stands elsewhere",),
        ),
        *("delayed-crash", "medium", "crash-in-page"),
    ),
    "an abort right after a new record, an old page still in use": (
        facts(
            *("synchronous external abort: Fatal exception", failure(pfn=PFN + 9)),
            hardware_errors=(ghes("recoverable", time=14.9),),
        ),
        *("fatal-hardware-error", "high", "external-abort"),
    ),
    "an abort right after a record of the page that was left in use": (
        facts(
            *("synchronous external abort: Fatal exception", failure()),
            hardware_errors=(ghes("recoverable", time=14.9),),
        ),
        *("delayed-crash", "high", "external-abort"),
    ),
    "a fatal machine check in memory": (
        facts("Fatal local machine check", hardware_errors=(mce(),)),
        *("fatal-hardware-error", "certain", "fatal-record"),
    ),
    "a fatal machine check that names no part, at an address": (
        facts("Fatal machine check", hardware_errors=(mce(is_memory=None),)),
        *("fatal-hardware-error", "medium", "fatal-record"),
    ),
    "a fatal machine check elsewhere": (
        facts("Fatal machine check", hardware_errors=(mce(is_memory=False),)),
        *("hardware-not-memory", "high", "fatal-record"),
    ),
    "a fatal machine check without a record": (
        facts("Fatal machine check from unknown source"),
        *("inconclusive", "low", "fatal-record"),
    ),
    "firmware's fatal memory error": (
        facts("GHES: Fatal hardware error", hardware_errors=(ghes(),)),
        *("fatal-hardware-error", "certain", "fatal-record"),
    ),
    "firmware's fatal PCIe error": (
        facts("GHES: Fatal hardware error", hardware_errors=(ghes(is_memory=False),)),
        *("hardware-not-memory", "high", "fatal-record"),
    ),
    "a machine check in a page that had failed": (
        facts(
            *("Fatal local machine check", failure()),
            hardware_errors=(mce(time=15.0),),
            ties=(Tie(PFN, "the machine check's address", PFN * 4096, how="record"),),
        ),
        *("delayed-crash", "certain", "crash-in-page"),
    ),
    "an oops right after the page's machine check": (
        facts(
            *("Fatal exception", failure(time=14.5)),
            hardware_errors=(mce("recoverable", time=14.5),),
            ties=(Tie(PFN, "the machine check's address", PFN * 4096, how="record"),),
            oops=OOPS,
        ),
        *("possible-delayed-crash", "low", "unrecovered-before"),
    ),
    "an oops with a register in the page, and a pointer from elsewhere": (
        facts(
            *("Fatal exception", failure()),
            ties=(Tie(PFN, "register RAX", 1),),
            oops=OOPS,
            elsewhere=("the faulting pointer stands elsewhere",),
        ),
        *("possible-delayed-crash", "low", "unrecovered-before"),
    ),
    "an oops with a slot of the stack that points into the page": (
        facts("Fatal exception", failure(), ties=(Tie(PFN, "a slot", 1, how="slot"),), oops=OOPS),
        *("possible-delayed-crash", "low", "unrecovered-before"),
    ),
    "a lockup with a register in the page": (
        facts("softlockup: hung tasks", failure(), ties=(Tie(PFN, "register RAX", 1),)),
        *("possible-delayed-crash", "low", "unrecovered-before"),
    ),
    "an SError with a register in the page": (
        facts("Asynchronous SError Interrupt", failure(), ties=(Tie(PFN, "register x0", 1),)),
        *("delayed-crash", "medium", "crash-in-page"),
    ),
    "a pointer that stands in the page": (
        facts("Fatal exception", failure(), ties=(Tie(PFN, "it", 1, how="pointer"),), oops=OOPS),
        *("delayed-crash", "high", "crash-in-page"),
    ),
    "a reserved bit in the page table that had failed": (
        facts(
            *("Fatal exception", failure()),
            ties=(Tie(PFN, "the pte", PFN * 4096, how="table"),),
            oops="victim: Corrupted page table at address 7fe809cba000",
        ),
        *("delayed-crash", "high", "crash-in-page"),
    ),
    "an oops at an address that a table which had failed translates": (
        facts("Fatal exception", failure(), ties=(Tie(PFN, "it", 1, how="table"),), oops=OOPS),
        *("delayed-crash", "medium", "crash-in-page"),
    ),
    "an abort of the walk through a table that had failed": (
        facts(
            *("Oops: Fatal exception", failure()),
            ties=(Tie(PFN, "the pte", PFN * 4096, how="table"),),
            oops="Internal error: level 3 (translation table walk): 0000000096000017 [#1] SMP",
        ),
        *("delayed-crash", "high", "crash-in-page"),
    ),
    "a crash on the stack that had failed": (
        facts("Fatal exception", failure(), ties=(Tie(PFN, "it", 1, how="stack"),), oops=OOPS),
        *("delayed-crash", "medium", "crash-in-page"),
    ),
    "a delayed failure, and an access in its page": (
        facts("Fatal exception", failure("delayed"), ties=TIE, oops=OOPS),
        *("delayed-crash", "high", "crash-in-page"),
    ),
    "a delayed failure and nothing that ties": (
        facts("Fatal exception", failure("delayed"), oops=OOPS),
        *("unrelated", "high", "crash-without-failure"),
    ),
    "an access in a page that was recovered": (
        facts("Fatal exception", failure("recovered"), ties=TIE, oops=OOPS),
        *("unrelated", "medium", "crash-without-failure"),
    ),
    "an abort in a page that was recovered": (
        facts("synchronous external abort: Fatal exception", failure("recovered"), ties=TIE),
        *("fatal-hardware-error", "high", "external-abort"),
    ),
    "an abort in a page that had failed": (
        facts("synchronous external abort: Fatal exception", failure(), ties=TIE),
        *("delayed-crash", "certain", "crash-in-page"),
    ),
    "an oops in a page that had failed": (
        facts("Fatal exception", failure(), ties=TIE, oops=OOPS),
        *("delayed-crash", "high", "crash-in-page"),
    ),
    "an oops with a register in a page that had failed": (
        facts("Fatal exception", failure(), ties=(Tie(PFN, "register RAX", 1),), oops=OOPS),
        *("delayed-crash", "medium", "crash-in-page"),
    ),
    "an oops with a register in the page, and the fault address a bit away": (
        facts(
            *("Fatal exception", failure()),
            ties=(
                Tie(PFN, "register RAX", 1),
                Tie(PFN, "the fault address", 1 << 62, 62, how="access"),
            ),
        ),
        *("delayed-crash", "high", "crash-in-page"),
    ),
    "an oops in a poisoned page of which the log says no more": (
        facts("Fatal exception", ties=TIE, oops=OOPS, poisoned_pages=POISONED),
        *("delayed-crash", "high", "crash-in-page"),
    ),
    "an oops with such a page elsewhere": (
        facts("Fatal exception", oops=OOPS, poisoned_pages=POISONED),
        *("possible-delayed-crash", "low", "unrecovered-before"),
    ),
    "an oops after failures that only the counters know": (
        facts("Fatal exception", oops=OOPS, lost_failures=1),
        *("possible-delayed-crash", "low", "unrecovered-before"),
    ),
    "an abort of which nothing is known": (
        facts("Asynchronous SError Interrupt"),
        *("inconclusive", "low", "raised-by-hardware"),
    ),
    "an NMI of which nothing is known": (
        facts("NMI IOCK error: Not continuing"),
        *("inconclusive", "low", "raised-by-hardware"),
    ),
    "firmware's fatal memory error, in the words of older kernels": (
        facts("Fatal hardware error!", hardware_errors=(ghes(),)),
        *("fatal-hardware-error", "certain", "fatal-record"),
    ),
    "a machine check long after the only record": (
        facts(
            "Fatal machine check",
            failure("recovered"),
            hardware_errors=(mce(time=10.0),),
            panic=Panic(message="Fatal machine check", time=90000.0),
        ),
        *("inconclusive", "low", "fatal-record"),
    ),
    "a machine check whose record names neither part nor address": (
        facts("Fatal machine check", hardware_errors=(mce(is_memory=None, physical_address=None),)),
        *("inconclusive", "low", "fatal-record"),
    ),
    "an oops a bit away from it": (
        facts(
            "Fatal exception",
            failure(),
            ties=(Tie(PFN, "register RAX", 1 << 62, 62),),
            oops=OOPS,
        ),
        *("delayed-crash", "high", "crash-in-page"),
    ),
    "an oops with a failure before it": (
        facts("Fatal exception", failure(), oops=OOPS),
        *("possible-delayed-crash", "low", "unrecovered-before"),
    ),
    "an oops with a lost failure before it": (
        facts("Fatal exception", failure(None, page_type="lost: the kernel's queue was full")),
        *("possible-delayed-crash", "low", "unrecovered-before"),
    ),
    "an oops with a recovered failure before it": (
        facts("Fatal exception", failure("recovered"), oops=OOPS),
        *("unrelated", "high", "crash-without-failure"),
    ),
    "a plain oops": (
        facts("Fatal exception", oops=OOPS),
        *("unrelated", "high", "crash-without-failure"),
    ),
    "a plain oops with marked pages": (
        facts("Fatal exception", poisoned_pages=(PoisonedPage(pfn="0x1", owner_kind="anon"),)),
        *("unrelated", "medium", "crash-without-failure"),
    ),
    "sysrq-c": (
        facts("sysrq triggered crash"),
        *("unrelated", "high", "crash-on-request"),
    ),
    "sysrq-c after a failure that was not recovered": (
        facts("sysrq triggered crash", failure()),
        *("unrelated", "high", "crash-on-request"),
    ),
    "sysrq-c with an address in the bad page": (
        facts("sysrq triggered crash", failure(), ties=TIE),
        *("unrelated", "high", "crash-on-request"),
    ),
    "sysrq-c as it was before 5.4": (
        facts(
            *("Fatal exception", failure()),
            panic=Panic(message="Fatal exception", trace=(Frame(function="sysrq_handle_crash"),)),
        ),
        *("unrelated", "high", "crash-on-request"),
    ),
    "a panic without a log": (
        facts("Fatal exception", log=()),
        *("inconclusive", "low", "not-enough"),
    ),
    "no crash": (facts(), "no-crash", "high", "no-crash"),
    "no crash, bad memory in use": (facts(None, failure()), "no-crash", "high", "no-crash"),
    "corrected errors": (
        facts(None, hardware_errors=(mce("corrected"),)),
        *("no-crash", "high", "no-crash"),
    ),
    "an abort after a failure, of which the log has no register": (
        facts(SEA, failure(), registers_known=False),
        *("delayed-crash", "medium", "external-abort"),
    ),
    "an abort after a failure in another page": (
        facts(SEA, failure()),
        *("possible-delayed-crash", "low", "unrecovered-before"),
    ),
    "an abort right after firmware's record": (
        facts(SEA, hardware_errors=(ghes("recoverable"),)),
        *("fatal-hardware-error", "high", "external-abort"),
    ),
    "an abort and nothing else": (
        facts(SEA),
        *("inconclusive", "low", "raised-by-hardware"),
    ),
    "an oops after an error of which no more is said": (
        facts("Fatal exception", hardware_errors=(ghes("recoverable"),), oops=OOPS),
        *("possible-delayed-crash", "low", "unrecovered-before"),
    ),
    "an oops after the boot before had an error": (
        facts(
            *("Fatal exception", failure(previous_boot=True)),
            hardware_errors=(ghes("recoverable", previous_boot=True),),
            oops=OOPS,
        ),
        *("unrelated", "high", "crash-without-failure"),
    ),
    "a tie that a log can't prove": (
        facts(SEA, failure(), ties=(Tie(PFN, "register x8", 1, None, "memory begins at 0x0"),)),
        *("delayed-crash", "high", "crash-in-page"),
    ),
    "the capture kernel's log": (
        facts(None, crashed=None, capture_kernel=True),
        *("inconclusive", "low", "capture-kernel-log"),
    ),
    "a log that ends with a fatal memory record": (
        facts(None, dump=LOG, hardware_errors=(mce(),)),
        *("fatal-hardware-error", "high", "fatal-record-at-end"),
    ),
    "a log that ends with another fatal record": (
        facts(None, dump=LOG, hardware_errors=(mce(is_memory=False),)),
        *("hardware-not-memory", "medium", "fatal-record-at-end"),
    ),
    "a second failure of a page that was recovered": (
        facts(
            "Fatal exception",
            failure("recovered"),
            failure(None, page_type="already hardware poisoned"),
        ),
        *("unrelated", "high", "crash-without-failure"),
    ),
    "a CXL panic": (
        facts(
            "CXL cachemem error: Invoking panic",
            hardware_errors=(mce(source="cxl", is_memory=False),),
        ),
        *("hardware-not-memory", "high", "fatal-record"),
    ),
    "a memory controller's panic": (
        facts(
            "UE memory read error on DIMM_A1", hardware_errors=(mce("recoverable", source="edac"),)
        ),
        *("fatal-hardware-error", "certain", "fatal-record"),
    ),
    "a machine check of several banks, the memory's among them": (
        facts("Fatal machine check", hardware_errors=(mce(), mce(is_memory=False))),
        *("fatal-hardware-error", "certain", "fatal-record"),
    ),
    "nothing known": (facts(crashed=None, log=()), "inconclusive", "low", "not-enough"),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    given_facts, kind, confidence, rule = CASES[name]
    assert told(given_facts) == (kind, confidence, rule)


def test_every_rule_has_a_case_that_it_decides_and_one_that_it_does_not() -> None:
    assert {rule for *_, rule in CASES.values()} == set(RULES)
    for name, rule in RULES.items():
        if name != "not-enough":  # the last resort takes everything
            assert any(rule(given_facts) is None for given_facts, *_ in CASES.values()), name


@pytest.mark.parametrize("name", CASES)
def test_every_verdict_says_why(name: str) -> None:
    given_facts, *_ = CASES[name]
    verdict, rule = decide(given_facts)
    assert verdict.summary.endswith(".") and "None" not in verdict.summary
    assert verdict.evidence
    for row in (*verdict.evidence, *verdict.against):
        assert row.rule == rule and row.fact and "None" not in row.fact


@pytest.mark.parametrize("name", CASES)
def test_a_triage_comes_of_it(name: str) -> None:
    given_facts, kind, *_ = CASES[name]
    triage = conclude(given_facts)
    assert triage.verdict.kind == kind
    assert triage.signature is not None and triage.signature.startswith(f"2:{kind}:")
    times = [entry.time for entry in triage.timeline if entry.time is not None]
    assert times == sorted(times)
    assert len(triage.actions) <= MOST and all(map(str.strip, triage.actions))
    if kind == "unrelated" and not given_facts.unrecovered():
        assert not any("eplace" in action for action in triage.actions)


def test_order() -> None:
    """From what the kernel says itself down to what nobody knows."""
    order = list(RULES)
    assert order[0] == "sysctl-panic" and order[-1] == "not-enough"
    for surer, less_sure in (
        ("fatal-record", "crash-in-page"),
        ("crash-on-request", "crash-in-page"),
        ("crash-on-request", "unrecovered-before"),
        ("crash-in-page", "unrecovered-before"),
        ("unrecovered-before", "crash-without-failure"),
        ("crash-without-failure", "no-crash"),
    ):
        assert order.index(surer) < order.index(less_sure)


# what speaks against


def against(given_facts: Facts) -> str:
    return " | ".join(row.fact for row in decide(given_facts)[0].against)


@pytest.mark.parametrize("kind", ["slab", "page-table", "large-kmalloc", "kernel-image", "percpu"])
def test_kinds_that_the_sysctl_panics_for(kind: str) -> None:
    assert against(facts(SYSCTL, failure(), pages={PFN: page(kind)})) == ""


@pytest.mark.parametrize("kind", ["anon", "page-cache", "free", "hugetlb", "vmalloc", "thp"])
def test_kinds_that_it_does_not_are_a_page_in_transit(kind: str) -> None:
    words = against(facts(SYSCTL, failure(), pages={PFN: page(kind)}))
    assert kind in words and "in transit" in words


@pytest.mark.parametrize("words", ["high-order kernel page", "unknown page"])
def test_an_earlier_form_of_the_series(words: str) -> None:
    early = facts(SYSCTL, failure(page_type=words), pages={PFN: page("vmalloc")})
    verdict, _ = decide(early)
    assert verdict.against == ()
    assert any("earlier form" in row.fact for row in verdict.evidence)


def test_a_page_that_is_not_marked() -> None:
    assert "not set" in against(facts(SYSCTL, failure(), pages={PFN: page(hwpoison=False)}))


@pytest.mark.parametrize(
    ("more", "injected"),
    [
        ({"injected_pfns": frozenset({PFN})}, True),
        ({"injected_pfns": frozenset({PFN + 1}), "hw_memory_failure": True}, False),
        ({"hw_memory_failure": False}, True),
        ({"hw_memory_failure": True}, False),
        ({"hardware_errors": (mce("recoverable"),), "hw_memory_failure": False}, False),
        ({}, False),
    ],
)
def test_injected(more: dict[str, Any], injected: bool) -> None:
    """A test's failure is told as one, and nobody is sent to replace a DIMM."""
    triage = conclude(facts(SYSCTL, failure(panicked=True), pages={PFN: page()}, **more))
    assert ("injected" in triage.verdict.summary) is injected
    assert any("injected" in row.fact for row in triage.verdict.against) is injected
    assert any("Nothing to replace" in action for action in triage.actions) is injected


# properties

ORDINARY = st.sampled_from(
    [
        *("Fatal exception", "Fatal exception in interrupt", "sysrq triggered crash", "Oops"),
        *("Attempted to kill init! exitcode=0x0000000b", "hung_task: blocked tasks", "softlockup"),
        *("Out of memory: compulsory panic_on_oom is enabled", "VFS: Unable to mount root fs"),
        *("", "\x1b[31m", "Memory failure", "corrupted stack end detected", "NMI: Not continuing"),
    ]
)
OWNERS = st.sampled_from(get_args(model.OwnerKind))


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(
    st.one_of(st.none(), ORDINARY),
    st.one_of(st.none(), st.text(max_size=20), st.just(OOPS)),
    st.lists(st.builds(failure, st.sampled_from(("recovered", "delayed"))), max_size=3),
    st.lists(st.builds(lambda pfn: PoisonedPage(pfn=f"{pfn:#x}", owner_kind="anon"), st.integers(0, 99))),
    st.lists(st.builds(mce, st.sampled_from(("corrected", "deferred")), st.booleans()), max_size=3),
    st.dictionaries(st.integers(0, 99), st.builds(page, OWNERS), max_size=3),
    st.sampled_from((None, True, False)),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 9)),
)  # fmt: skip
def test_without_an_unrecovered_failure_memory_is_not_blamed(
    message: str | None,
    oops: str | None,
    failures: list[MemoryFailure],
    poisoned: list[PoisonedPage],
    records: list[HardwareError],
    pages: dict[int, PageInfo],
    crashed: bool | None,
    log: bool,
    counted: int | None,
) -> None:
    """Nor hardware: whatever else stands in the dump."""
    innocent = facts(
        *(message, *failures),
        oops=oops,
        poisoned_pages=tuple(poisoned),
        hardware_errors=tuple(records),
        pages=pages,
        num_poisoned_pages=counted,
        ties=tuple(Tie(pfn, "register RAX", pfn * 4096) for pfn in pages),
        **({"crashed": crashed} if message is None else {}),
        **({} if log else {"log": ()}),
    )
    kind = decide(innocent)[0].kind
    assert kind not in BLAMING and kind != "hardware-not-memory"
    conclude(innocent)


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(
    st.one_of(st.none(), ORDINARY, st.just(SYSCTL), st.just("Fatal machine check")),
    st.lists(
        st.builds(
            failure,
            st.sampled_from((None, "ignored", "failed", "delayed", "recovered")),
            st.integers(0, 2**52),
            time=st.one_of(st.none(), st.floats(0, 1e6)),
            page_type=st.one_of(st.none(), st.text(max_size=9)),
            panicked=st.booleans(),
        ),
        max_size=4,
    ),
    st.lists(
        st.one_of(
            st.builds(
                mce,
                st.sampled_from((None, *get_args(model.Severity))),
                st.sampled_from((None, True, False)),
                physical_address=st.one_of(st.none(), st.integers(0, 2**64 - 1).map(hex)),
                mce=st.one_of(st.none(), st.builds(MceRegisters)),
                time=st.one_of(st.none(), st.floats(0, 1e6)),
            ),
            st.builds(ghes),
        ),
        max_size=3,
    ),
    st.booleans(),
)
def test_any_facts_have_a_verdict(
    message: str | None,
    failures: list[MemoryFailure],
    records: list[HardwareError],
    tied: bool,
) -> None:
    ties = tuple(Tie(int(e.pfn, 16), "x0", 0) for e in failures) if tied else ()
    triage = conclude(facts(message, *failures, hardware_errors=tuple(records), ties=ties))
    assert triage.verdict.kind in get_args(model.VerdictKind)
    assert triage.verdict.confidence in get_args(model.Confidence)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_s_docstring_is_its_page(rule: str) -> None:
    lines = (inspect.getdoc(RULES[rule]) or "").splitlines()
    assert lines and lines[0].endswith(".") and len(lines[0]) <= 120
    assert len(lines) == 1 or lines[1] == ""


@pytest.mark.parametrize(
    ("events", "left"),
    [
        ([failure("failed"), failure("recovered")], 0),
        ([failure("recovered"), failure("failed", page_type="already poisoned page")], 0),
        ([failure("recovered"), failure(None, page_type="already hardware poisoned")], 0),
        ([failure("recovered"), failure("ignored")], 1),
        ([failure("ignored"), failure("failed", page_type="already poisoned page")], 1),
        ([failure("failed", page_type="already poisoned page")], 1),
        ([failure("ignored"), failure("recovered", pfn=PFN + 1)], 1),
        ([failure("delayed")], 0),
    ],
)
def test_what_became_of_a_page_in_the_end(events: list[MemoryFailure], left: int) -> None:
    assert len(facts("Fatal exception", *events).unrecovered()) == left


def test_a_page_that_a_test_unpoisoned_is_no_longer_left() -> None:
    asked = PageRequest(
        time=11.0, kind="unpoison", pfn=f"{PFN:#x}", result="software-unpoisoned page"
    )
    assert not facts("Fatal exception", failure(), page_requests=(asked,)).unrecovered()
    refused = replace(asked, result="disabled after HW memory failure")
    assert facts("Fatal exception", failure(), page_requests=(refused,)).unrecovered()
    again = failure(time=12.0)
    assert facts("Fatal exception", again, page_requests=(asked,)).unrecovered() == [again]


def test_every_rule_is_explained() -> None:
    assert set(BACKGROUND) == set(RULES)
    for name, rule in RULES.items():
        text = explained(name, rule)
        assert text.startswith(name) and BACKGROUND[name].errs


@pytest.mark.parametrize("name", CASES)
def test_why_ends_with_the_rule_that_decides(name: str) -> None:
    given_facts, kind, confidence, rule = CASES[name]
    lines = why(given_facts).splitlines()
    decided = [line for line in lines if " decides: " in line]
    assert decided == [f"{rule:24} decides: {kind}, {confidence}"]
    asked = list(RULES)[: list(RULES).index(rule)]
    assert [line.split()[0] for line in lines if "does not apply" in line] == asked
