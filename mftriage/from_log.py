"""Facts out of a log alone: ``vmcore-dmesg.txt``, pstore, netconsole, a journal, what someone pasted."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

from mftriage.facts import Facts
from mftriage.log import LogRecord, split_boots_lazily
from mftriage.logfile import LogFile, not_a_log
from mftriage.model import (
    DumpInfo,
    HardwareError,
    MemoryFailure,
    NotChecked,
    PageInfo,
    Panic,
    hexed,
)
from mftriage.records.crash import crash_from_log, crash_line, crash_registers, oops_message
from mftriage.records.digest import Digest
from mftriage.records.faults import (
    held_addresses,
    no_bad_cell,
    record_ties,
    reported,
    table_ties,
    touched_by,
)
from mftriage.records.gaps import gaps, without_record
from mftriage.records.injection import injected_by_stack, mark_injected
from mftriage.records.linear import log_ties
from mftriage.records.memory_failure import (
    injected_pfns,
    marked_after,
    memory_failures,
    page_requests,
)
from mftriage.records.page_size import addressed, arch_of, page_size_of
from mftriage.records.registers import Registers
from mftriage.text import clean

_VERSION = re.compile(r"Linux version (\S{1,128})")
_TAINTED = re.compile(r"Tainted: ((?:[A-Z] *)+) (\S{1,128})")
_NOT_TAINTED = re.compile(r"Not tainted (\S{1,128})")
# systemd's kdump service says so while it saves the dump; no other kernel boots with elfcorehdr=.
_CAPTURE = re.compile(
    r"\bkdump(?:\.sh)?(?:\[\d+\])?: saving (?:to |vmcore)|Command line: .*\belfcorehdr="
)
_MAX_BOOTS = 64
_MAX_PAGES = 64
_VMCORE = "analyze the vmcore of this crash: mftriage analyze /var/crash/DATE"


def facts_of_log(source: LogFile) -> Facts:
    """Everything that a log alone tells.  Raises ``DumpError`` where it is no kernel log."""
    # Records hold no cycles; looking for some takes a quarter of the time of a long log.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _facts(source)
    finally:
        if collecting:
            gc.enable()


def _facts(source: LogFile) -> Facts:
    boots: list[Digest] = []
    for boot in split_boots_lazily(source.records()):
        boots.append(Digest(boot))
        if len(boots) > 2:
            boots[-3].shorten()
        if len(boots) > _MAX_BOOTS + 2:
            del boots[0]
    if source.text.messages == 0:
        raise not_a_log()
    capture = bool(boots) and _is_capture(boots[-1])
    crashed_before = len(boots) > 1 and crash_from_log(boots[-2].log) is not None
    at = len(boots) - (2 if capture and crashed_before else 1)
    now = boots[at].finish()
    log = now.log
    arch = arch_of(log) or next((a for boot in boots if (a := arch_of(boot.log))), None)
    bare = memory_failures(log, None)
    size = page_size_of(log, arch, now.errors, bare)
    errors = [addressed(error, size) for error in mark_injected(now.errors, log, bare)]
    failures = marked_after(memory_failures(log, size), log, crash_line(log))
    earlier_errors = [
        addressed(error, size)
        for boot in boots[max(0, at - _MAX_BOOTS) : at]
        for error in boot.as_previous_boot()
    ]
    earlier_failures = [
        replace(event, previous_boot=True)
        for boot in boots[max(0, at - _MAX_BOOTS) : at]
        for event in memory_failures(boot.log, size)
    ]
    panic = crash_from_log(log)
    only_capture = capture and at == len(boots) - 1
    injected = injected_pfns(log) | injected_by_stack(panic, failures)
    facts = Facts(
        dump=DumpInfo(
            path=source.path,
            size_bytes=source.size_bytes,
            format=source.format,
            arch=arch,
            page_size=size,
            kernel_release=_release(log),
            hostname=source.text.host,
            uptime_seconds=_uptime(panic, log),
            taint=_taint(log),
            symbols="log-only",
            complete=source.complete,
        ),
        log=log,
        crashed=panic is not None or (None if only_capture else False),
        panic=panic,
        oops=oops_message(log) if panic else None,
        memory_failures=(*earlier_failures, *failures),
        injected_pfns=injected,
        hardware_errors=(*earlier_errors, *errors),
        corrected_errors=now.corrected,
        page_requests=page_requests(log),
        capture_kernel=only_capture,
    )
    facts.not_checked = list(_not_checked(facts, now, errors, failures, bool(injected)))
    _add_places(facts)
    if panic is not None:
        _add_ties(facts, panic, crash_registers(log))
    return facts


def _is_capture(boot: Digest) -> bool:
    return any(
        ("kdump" in record.text or "elfcorehdr" in record.text) and _CAPTURE.search(record.text)
        for record in boot.log
    )


def _add_ties(facts: Facts, panic: Panic, registers: Registers) -> None:
    """The failed pages that the crash's own record, or an address of it, lies in."""
    facts.registers_known = registers.shown
    size, arch = facts.dump.page_size, facts.dump.arch
    pfns = facts.failed_pfns()
    if size is None or not pfns:
        return
    touched = touched_by(panic, registers, arch)
    held = held_addresses(panic, registers, touched)
    facts.panic = replace(panic, access=reported(panic, touched))
    ties = (
        *record_ties(panic, facts.hardware_errors, pfns, size),
        *table_ties(registers, arch, pfns, size),
        *log_ties(held, pfns, size, arch, facts.hardware_errors),
    )
    facts.ties = ties
    if not any(tie.how in ("record", "access") for tie in ties):
        words = no_bad_cell(facts.panic, facts.panic.access, registers)
        facts.elsewhere = (words,) if words else ()


def _add_places(facts: Facts) -> None:
    """The pages that the log names: no more than their places."""
    pfns = [int(event.pfn, 16) for event in facts.memory_failures]
    pfns += [
        pfn
        for record in facts.hardware_errors
        if record.severity not in ("corrected", None)
        and (pfn := facts.pfn_of(record.physical_address)) is not None
    ]
    for pfn in list(dict.fromkeys(pfns))[-_MAX_PAGES:]:
        size = facts.dump.page_size
        facts.pages[pfn] = PageInfo(
            pfn=f"{pfn:#x}", physical_address=hexed(pfn * size) if size else None
        )


def _not_checked(
    facts: Facts,
    now: Digest,
    errors: list[HardwareError],
    failures: tuple[MemoryFailure, ...],
    injected: bool,
) -> Iterator[NotChecked]:
    yield NotChecked(
        what="the page, its owner and all that is in memory",
        why="a log alone was given",
        remedy=_VMCORE,
    )
    if facts.dump.page_size is None and (failures or errors):
        yield NotChecked(
            what="which addresses lie in which page",
            why="the log does not show the size of a page",
            remedy=_VMCORE,
        )
    for name, error in now.failed:
        yield NotChecked(
            what=f"{name} records of the log",
            why=f"the decoder failed: {error}",
            remedy="report this as a bug of mftriage",
        )
    if now.left_out:
        yield NotChecked(
            what="each of the records",
            why=f"{now.left_out} of them are counted but not listed, between the first and the last",
            remedy="cut the log to the time of interest",
        )
    yield from gaps(now.log, errors, failures)
    if not errors:
        yield from without_record(failures, injected)
    if facts.capture_kernel:
        yield NotChecked(
            what="the crash itself",
            why="this is the log of the kernel that saved the dump, not of the one that crashed",
            remedy="analyze the vmcore, or the vmcore-dmesg.txt beside it",
        )


def _release(log: list[LogRecord]) -> str | None:
    for record in log:
        text = record.text
        if "ersion" not in text and "ainted" not in text:
            continue
        for pattern in (_VERSION, _TAINTED, _NOT_TAINTED):
            if match := pattern.search(text):
                return clean(match[match.lastindex or 1])
    return None


def _taint(log: list[LogRecord]) -> tuple[str, ...] | None:
    for record in reversed(log):
        if "ainted" not in record.text:
            continue
        if match := _TAINTED.search(record.text):
            return tuple(letter for letter, _ in groupby(match[1].split()) if letter != "G")
        if _NOT_TAINTED.search(record.text):
            return ()
    return None


def _uptime(panic: Panic | None, log: list[LogRecord]) -> float | None:
    if panic is not None and panic.time is not None:
        return panic.time
    return max((record.time for record in log if record.time is not None), default=None)
