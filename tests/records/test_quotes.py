"""Lines that quote: what a device, a user or an audit record says is not the kernel's word."""

from __future__ import annotations

import pytest

from mftriage.log import LogRecord
from mftriage.records.crash import panic_from_log
from mftriage.records.memory_failure import memory_failures

PANIC = "Kernel panic - not syncing: Memory failure: 0x1741: unrecoverable page"
FAILURE = "Memory failure: 0x9000: recovery action for reserved kernel page: Ignored"


@pytest.mark.parametrize("front", ["usb 1-1: Product: ", "audit: type=1300 msg=", "foo[3]: "])
def test_a_quote_is_no_panic_and_no_failure(front: str) -> None:
    log = [LogRecord(1.0, 6, front + text) for text in (PANIC, FAILURE)]
    assert panic_from_log(log) is None
    assert memory_failures(log, 4096) == ()


def test_the_same_words_of_the_kernel_count() -> None:
    log = [LogRecord(1.0, 6, FAILURE), LogRecord(1.0, 0, PANIC)]
    panic = panic_from_log(log)
    assert panic is not None and panic.message == PANIC.partition("syncing: ")[2]
    assert [event.pfn for event in memory_failures(log, 4096)] == ["0x9000", "0x1741"]
