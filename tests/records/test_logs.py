"""Records out of logs: the kernel's own words in every form, mutated, and long."""

from __future__ import annotations

import time
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage.log import LogRecord
from mftriage.model import Action, HardwareError
from mftriage.records import DECODERS, log_records
from mftriage.records.memory_failure import injected_pfns, memory_failures
from tests.craft import parse_text

GHES = """\
[   20.189] {1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 1
[   20.189] {1}[Hardware Error]: event severity: recoverable
[   20.189] {1}[Hardware Error]:  Error 0, type: recoverable
[   20.189] {1}[Hardware Error]:  fru_text: DIMM_C0_S0
[   20.189] {1}[Hardware Error]:   section_type: memory error
[   20.189] {1}[Hardware Error]:    error_status: Storage error in DRAM memory (0x0000000000000400)
[   20.189] {1}[Hardware Error]:   physical_address: 0x00000000419a5780
[   20.189] {1}[Hardware Error]:   physical_address_mask: 0xffffffffffffffc0
[   20.189] {1}[Hardware Error]:   node:0 card:2 module:0 rank:1 bank:5 device:7 row:6699 column:136 
[   20.189] {1}[Hardware Error]:   error_type: 3, multi-bit ECC
""".splitlines()  # noqa: W291 -- cper_mem_err_location() ends so
PCIE = """\
[    9.1] {3}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 4
[    9.1] {3}[Hardware Error]: event severity: fatal
[    9.1] {3}[Hardware Error]:  Error 0, type: fatal
[    9.1] {3}[Hardware Error]:   section_type: PCIe error
[    9.1] {3}[Hardware Error]:   device_id: 0000:3b:00.0
""".splitlines()
MCE = """\
[   10.0] mce: [Hardware Error]: CPU 1: Machine Check Exception: f Bank 9: bd80000000000134
[   10.0] mce: [Hardware Error]: RIP 10:<ffffffff9e3df87f> {__d_lookup_rcu+0x5f/0xe0}
[   10.0] mce: [Hardware Error]: TSC cc696bcbe ADDR 1573b40 MISC 86
[   10.0] mce: [Hardware Error]: PROCESSOR 0:50654 TIME 1795377370 SOCKET 0 APIC 0 microcode 1
[   10.0] mce: [Hardware Error]: Run the above through 'mcelog --ascii'
""".splitlines()
FAILURE = """\
[   10.1] Memory failure: 0x13b2: Sending SIGBUS to victim:105 due to hardware memory corruption
[   10.2] Memory failure: 0x13b2: recovery action for dirty LRU page: Recovered
[   11.0] Memory failure: 0x13b3: unhandlable page.
[   11.1] Memory failure: 0x13b3: recovery action for reserved kernel page: Ignored
[   11.2] Kernel panic - not syncing: Memory failure: 0x13b3: unrecoverable page
""".splitlines()
LINES = [*GHES, *PCIE, *MCE, *FAILURE]


def decoded(*lines: str) -> list[HardwareError]:
    found, failed = log_records(parse_text(lines))
    assert not failed
    return found


def test_firmware_s_memory_record() -> None:
    (record,) = decoded(*GHES)
    assert (record.source, record.severity, record.is_memory) == ("ghes", "recoverable", True)
    assert record.error_type == "multi-bit ECC"
    assert (record.physical_address, record.physical_address_mask) == (
        "0x419a5780",
        "0xffffffffffffffc0",
    )
    assert record.location is not None and record.dimm is not None
    location = record.location
    assert (location.card, location.rank, location.row, location.column) == (2, 1, 6699, 136)
    assert record.dimm.label == "DIMM_C0_S0"
    assert len(record.raw) == 10


def test_firmware_s_other_record_is_not_memory() -> None:
    (record,) = decoded(*PCIE)
    assert (record.severity, record.is_memory, record.error_type) == ("fatal", False, "PCIe error")
    assert record.location is None and record.physical_address is None


def test_names_before_5_17() -> None:
    old = [line.replace("column:136", "col:136 bit_pos:3") for line in GHES]
    (record,) = decoded(*old)
    assert record.location is not None
    assert (record.location.column, record.location.bit_position) == (136, 3)


@pytest.mark.parametrize(
    ("line", "locator", "handle"),
    [
        ("DIMM location: CPU1 DIMM_A2", "CPU1 DIMM_A2", None),
        ("DIMM location: not present. DMI handle: 0x1100", None, "0x1100"),
    ],
)
def test_dimm_in_the_record(line: str, locator: str | None, handle: str | None) -> None:
    (record,) = decoded(*GHES, f"[   20.189] {{1}}[Hardware Error]:   {line}")
    assert record.dimm is not None
    assert (record.dimm.locator, record.dimm.handle) == (locator, handle)


def test_sections_and_records_are_told_apart() -> None:
    second = [line.replace("419a5780", "5000").replace("{1}", "{2}") for line in GHES]
    third = [line for line in GHES[2:]]
    woven = [
        line for pair in zip([*GHES, *third], [*second, *[""] * 8], strict=False) for line in pair
    ]
    found = decoded(*woven)
    assert sorted(r.physical_address or "" for r in found) == ["0x419a5780"] * 2 + ["0x5000"]


def test_two_boots_in_one_log() -> None:
    assert len(decoded(*GHES, *GHES)) == 2


def test_machine_check() -> None:
    (record,) = decoded(*MCE)
    assert record.mce is not None
    assert (record.mce.cpu, record.mce.bank, record.mce.mcgstatus) == (1, 9, "0xf")
    assert (record.mce.status, record.mce.ip) == ("0xbd80000000000134", "0xffffffff9e3df87f")
    assert (record.physical_address, record.physical_address_mask) == (
        "0x1573b40",
        "0xffffffffffffffc0",
    )
    assert (record.is_memory, record.severity) == (True, "recoverable")
    assert record.wall_time == "2026-11-22T19:56:10Z"


def test_machine_check_with_another_cpu_s_line_between() -> None:
    other = "[   10.0] mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 2: 9000000000000001"
    first, second = decoded(*MCE[:1], other, *MCE[1:])
    assert first.mce is not None and second.mce is not None
    assert (first.mce.bank, second.mce.bank) == (9, 2)


@pytest.mark.parametrize(
    ("line", "page_type", "action"),
    [
        ("Memory failure: 0x1: recovery action for clean LRU page: Recovered", "clean LRU page", "recovered"),
        ("Memory failure: 0x1: recovery action for huge page: Delayed", "huge page", "delayed"),
        ("Memory failure: 0x1: recovery action for dirty mlocked LRU page: Failed", "dirty mlocked LRU page", "failed"),
        ("MCE 0x1: dirty LRU page recovery: Recovered", "dirty LRU", "recovered"),
        ("Memory failure: 0x1: memory outside kernel control", "memory outside kernel control", None),
        ("Memory failure: 0x1: already hardware poisoned", "already hardware poisoned", None),
    ],
)  # fmt: skip
def test_words_of_a_failure(line: str, page_type: str, action: Action | None) -> None:
    (event,) = memory_failures(parse_text([f"[    1.0] {line}"]), 4096)
    assert (event.pfn, event.page_type, event.action) == ("0x1", page_type, action)
    assert event.physical_address == "0x1000" and not event.panicked


def test_events() -> None:
    first, second = memory_failures(parse_text(FAILURE), 4096)
    assert [(t.comm, t.pid) for t in first.killed] == [("victim", 105)]
    assert (first.action, first.panicked) == ("recovered", False)
    assert (second.action, second.panicked) == ("ignored", True)


def test_panic_without_a_line_before_it() -> None:
    (event,) = memory_failures(parse_text(FAILURE[-1:]), 4096)
    assert (event.pfn, event.panicked, event.action) == ("0x13b3", True, None)


@pytest.mark.parametrize(
    ("line", "pfns"),
    [
        ("Injecting memory failure at pfn 0x1a", {0x1A}),
        ("Injecting memory failure for pfn 0x1a at process virtual address 0x7f", {0x1A}),
        ("Injecting memory failure at pfn 0xzz", set()),
    ],
)
def test_injections(line: str, pfns: set[int]) -> None:
    assert injected_pfns([LogRecord(None, None, line)]) == pfns


# any log

HEX = ("status", "addr", "misc", "mcgstatus", "ip", "synd", "ipid", "ppin", "microcode", "cpuid")
MUTATED = st.builds(
    lambda line, at, cut, new: line[: at % len(line)] + new + line[at % len(line) + cut :],
    st.sampled_from(LINES),
    st.integers(0, 200),
    st.integers(0, 12),
    st.one_of(
        st.text(max_size=6),
        st.sampled_from(("9" * 40, "f" * 40, "0x", "-1", ":", "{", "}", "{9}", "\x00", "٣")),
    ),
)


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(st.lists(st.one_of(MUTATED, st.sampled_from(LINES)), max_size=40))
def test_mutated_lines(lines: list[str]) -> None:
    log = parse_text(lines)
    found, failed = log_records(log)
    assert not failed
    for record in found:
        assert record.medium == "log" and record.source in (*DECODERS, "mce")
        for value in (record.physical_address, record.physical_address_mask):
            assert value is None or 0 <= int(value, 16) < 1 << 64
        if record.mce is not None:
            for field in fields(record.mce):
                value = getattr(record.mce, field.name)
                if field.name in HEX and value is not None:
                    assert 0 <= int(value, 16) < 1 << 64
        assert len(record.raw) <= 64
    for event in memory_failures(log, 4096):
        assert 0 <= int(event.pfn, 16) < 1 << 64
    assert all(0 <= pfn < 1 << 64 for pfn in injected_pfns(log))


@pytest.mark.parametrize("piece", [*LINES, "{1}[Hardware Error]: ", "Memory failure: 0x1: ", "a: "])
def test_time_is_linear(piece: str) -> None:
    """No line, however long or often repeated, makes a decoder slow."""
    text = piece.partition("] ")[2] or piece
    log = [LogRecord(1.0, None, (text * 4096)[:4096])] * 50
    log += [LogRecord(1.0, None, text)] * 20_000
    start = time.perf_counter()
    log_records(log)
    memory_failures(log, 4096)
    injected_pfns(log)
    assert time.perf_counter() - start < 3


def test_many_records_are_linear() -> None:
    lines = [line.replace("{1}", f"{{{n}}}") for n in range(2000) for line in GHES]
    log = parse_text(lines)
    start = time.perf_counter()
    found, _ = log_records(log)
    assert len(found) == 2000
    assert time.perf_counter() - start < 3
