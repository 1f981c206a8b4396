"""Records and events out of log lines."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage.log import LogRecord
from mftriage.records import log_records
from mftriage.records.memory_failure import memory_failures
from tests.craft import parse_text

PANIC = """\
[   10.407795] Memory failure: 0x13b2: unhandlable page.
[   10.408141] Memory failure: 0x13b2: recovery action for reserved kernel page: Ignored
[   10.408472] Kernel panic - not syncing: Memory failure: 0x13b2: unrecoverable page
"""
MCE = """\
[   10.0] mce: [Hardware Error]: CPU 0: Machine Check Exception: f Bank 9: bd80000000000134
[   10.0] mce: [Hardware Error]: RIP 10:<ffffffff9e3df87f> {__d_lookup_rcu+0x5f/0xe0}
[   10.0] mce: [Hardware Error]: TSC cc696bcbe ADDR 1573b40 MISC 86
[   10.0] mce: [Hardware Error]: PROCESSOR 0:50654 TIME 1795377370 SOCKET 0 APIC 0 microcode 1
"""


def test_memory_failure_that_panics() -> None:
    (event,) = memory_failures(parse_text(PANIC.splitlines()), 65536)
    assert (event.pfn, event.page_type, event.action) == (
        "0x13b2",
        "reserved kernel page",
        "ignored",
    )
    assert event.panicked and event.physical_address == "0x13b20000"


def test_soft_offline_is_no_failure() -> None:
    assert memory_failures(parse_text(PANIC.splitlines()[:1]), 4096) == ()


def test_machine_check() -> None:
    (record,), failed = log_records(parse_text(MCE.splitlines()))
    assert not failed
    assert (record.severity, record.is_memory, record.physical_address) == (
        "recoverable",
        True,
        "0x1573b40",
    )
    assert record.mce is not None and record.mce.status == "0xbd80000000000134"


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=80), st.sampled_from((PANIC + MCE).splitlines()))))
def test_no_log_breaks_a_decoder(lines: list[str]) -> None:
    log = [LogRecord(None, None, line) for line in lines]
    _, failed = log_records(log)
    assert not failed
    memory_failures(log, 4096)
