"""Whether an error was made for a test: by what the injection itself leaves in the log.

mm/hwpoison-inject.c and mm/madvise.c print the pfn; drivers/edac/skx_common.c its fake errors;
arch/x86/kernel/cpu/mce/inject.c "Triggering MCE exception"; the call trace has the injector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mftriage.log import LogRecord
from mftriage.model import HardwareError, MemoryFailure, Panic
from mftriage.pattern import Pattern
from mftriage.stack import injects

_FAKE = Pattern(r"Fake error to 0x([0-9a-f]{1,16}) injected")
_MCE = Pattern(r"Triggering MCE exception on CPU|mce: \[Hardware Error\]: Fake kernel panic")
# EINJ prints nothing; the test programs of ras-tools that wait for its error are known by name.
_TESTERS = ("einj_mem_uc", "einj_mem_ce", "victim")
_SECONDS = 10.0


def mark_injected(
    errors: Sequence[HardwareError],
    log: Sequence[LogRecord],
    failures: Sequence[MemoryFailure],
) -> list[HardwareError]:
    """The records, those that a test made marked so."""
    addresses: set[int] = set()
    times: list[float] = []
    for record in log:
        if "injected" in record.text and (match := _FAKE.search(record.text)):
            addresses.add(int(match[1], 16))
        elif ("riggering MCE" in record.text or "Fake kernel" in record.text) and _MCE.search(
            record.text
        ):
            times.append(record.time if record.time is not None else 0.0)
    tested = {
        int(event.pfn, 16)
        for event in failures
        if any((task.comm or "") in _TESTERS[:2] for task in event.killed)
    }
    if not (addresses or times or tested):
        return list(errors)
    return [
        replace(error, injected=True)
        if error.injected is None and _is_injected(error, addresses, times, tested)
        else error
        for error in errors
    ]


def _is_injected(
    error: HardwareError, addresses: set[int], times: list[float], tested: set[int]
) -> bool:
    if error.physical_address is not None:
        address = int(error.physical_address, 16)
        if address in addresses or address >> 12 in tested:
            return True
    if error.source != "mce":
        return False
    return any(error.time is None or 0 <= error.time - time <= _SECONDS for time in times)


def injected_by_stack(panic: Panic | None, failures: Sequence[MemoryFailure]) -> frozenset[int]:
    """The pfn that the panicking task itself was injecting, by its call trace."""
    if panic is None or not injects(panic.trace):
        return frozenset()
    return frozenset(int(event.pfn, 16) for event in failures if event.panicked)
