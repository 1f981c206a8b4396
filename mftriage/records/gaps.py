"""What a log says of records that it does not hold: "not in the log" is not "did not happen"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mftriage.log import LogRecord
from mftriage.model import HardwareError, MemoryFailure, NotChecked
from mftriage.pattern import Pattern

_BMC = "read the BMC's event log (ipmitool sel list) for that time"
_CONSUMER = "ask the host's rasdaemon or mcelog for that time (ras-mc-ctl --errors)"

# A message, what it means for the records, and what to do.
_SAID = (
    (
        "Machine check events logged",
        "machine-check records that the kernel did not print",
        'the log says "Machine check events logged" ({n}): the records went to a user-space reader',
        _CONSUMER,
    ),
    (
        "MCE records pool full",
        "machine-check records that were lost",
        "the kernel's pool of records was full ({n})",
        _BMC,
    ),
    (
        "buffer overflow when queuing memory failure",
        "memory failures that were lost",
        "the kernel's queue was full ({n}): these pages were never isolated",
        "reboot before these pages are used",
    ),
    (
        "Truncated error status block",
        "firmware records that could not be read",
        "firmware gave truncated records ({n})",
        _BMC,
    ),
    (
        "Failed to read error status block",
        "firmware records that could not be read",
        "the kernel could not read them ({n})",
        _BMC,
    ),
    (
        "GHES: Invalid address in generic error data",
        "memory failures that the kernel refused",
        "the address is of no page of this kernel ({n})",
        "see whether it lies in reserved or removed memory: grep it in /proc/iomem",
    ),
    (
        "switching to poll mode",
        "corrected errors that were not recorded one by one",
        "there were so many that the kernel turned their interrupt off ({n})",
        _CONSUMER,
    ),
    (
        "CMCI storm detected",
        "corrected errors that were not recorded one by one",
        "there were so many that the kernel turned their interrupt off ({n})",
        _CONSUMER,
    ),
    (
        "CMCI inherited storm",
        "corrected errors that were not recorded one by one",
        "there were so many that the kernel turned their interrupt off ({n})",
        _CONSUMER,
    ),
)
_MARKS = tuple(mark for mark, *_ in _SAID)
_SUPPRESSED = Pattern(
    r"((?:ghes|mce|do_machine_check|__?print|apei|extlog|edac|cper|memory_failure|GHES|EDAC[\w ]{0,30})\w*): (\d{1,10}) (?:callbacks|output lines|messages) suppressed",
    re.IGNORECASE,
)


def gaps(
    log: Sequence[LogRecord],
    errors: Sequence[HardwareError],
    failures: Sequence[MemoryFailure],
) -> list[NotChecked]:
    """Rows for what the log itself says is missing from it."""
    counted: dict[str, int] = {}
    suppressed = 0
    for record in log:
        text = record.text
        if "suppressed" in text and (match := _SUPPRESSED.search(text)):
            suppressed += int(match[2])
        for mark in _MARKS:
            if mark in text:
                counted[mark] = counted.get(mark, 0) + 1
                break
    told: dict[tuple[str, str, str], int] = {}  # several messages may mean the same
    for mark, what, why, remedy in _SAID:
        if mark == "Machine check events logged" and any(error.mce for error in errors):
            continue
        if mark in counted:
            told[what, why, remedy] = told.get((what, why, remedy), 0) + counted[mark]
    found = [
        NotChecked(
            what=what,
            why=why.format(n="once" if count == 1 else f"{count} times"),
            remedy=remedy,
        )
        for (what, why, remedy), count in told.items()
    ]
    normalized = {
        int(error.mce.addr, 16) >> 12
        for error in errors
        if error.mce and error.mce.addr and error.mce.address_kind == "normalized"
    }
    for event in failures:
        if int(event.pfn, 16) in normalized:
            found.append(
                NotChecked(
                    what=f"whether page {event.pfn} is the one that is bad",
                    why="its number is that of an AMD memory controller's normalized address, which is no system address: most likely the wrong page was isolated",
                    remedy="update the kernel, and have the BMC's event log name the DIMM",
                )
            )
            break
    if suppressed:
        found.append(
            NotChecked(
                what="records that were not printed",
                why=f"the kernel suppressed {suppressed} messages of their kind",
                remedy=_BMC,
            )
        )
    return found


def without_record(failures: Sequence[MemoryFailure], injected: bool) -> list[NotChecked]:
    """A row for failures that have no hardware record; drivers/acpi/apei/ghes.c prints two in five seconds."""
    if not failures or injected:
        return []
    return [
        NotChecked(
            what="the hardware's own record",
            why="the log has none: firmware's are printed at most twice in 5 s, and machine checks go to user space first",
            remedy=f"{_CONSUMER}, and {_BMC}",
        )
    ]
