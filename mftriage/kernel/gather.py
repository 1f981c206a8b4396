"""All questions put to a dump, in order; what can't be answered becomes a row of ``not_checked``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from drgn import FaultError

from mftriage.errors import DumpError
from mftriage.facts import Facts, granule_of
from mftriage.kernel import panic as panics
from mftriage.kernel.direct_map import LinearReader
from mftriage.kernel.dmi import memory_devices
from mftriage.kernel.hardware import SOURCES
from mftriage.kernel.join import joined
from mftriage.kernel.memmap import MemoryMap
from mftriage.kernel.page import describe_page, ignored_per_node
from mftriage.kernel.poison import MAX_PAGES, find_poisoned, num_poisoned_pages
from mftriage.kernel.printk import read_log
from mftriage.kernel.search import Budget
from mftriage.kernel.system import clock, has_symbol, integer, taint, uts_name
from mftriage.kernel.tasks import describe
from mftriage.kernel.ties import crash_ties
from mftriage.log import LogRecord, split_boots
from mftriage.logfile import not_a_log, open_log
from mftriage.model import (
    Dimm,
    DumpInfo,
    Frame,
    HardwareError,
    NotChecked,
    PageInfo,
    Panic,
    PoisonedPage,
)
from mftriage.records import log_records
from mftriage.records.crash import crash_line
from mftriage.records.gaps import gaps
from mftriage.records.injection import mark_injected
from mftriage.records.memory_failure import (
    injected_pfns,
    marked_after,
    memory_failures,
    page_requests,
)
from mftriage.records.page_size import addressed
from mftriage.symbols import Kernel

T = TypeVar("T")

_DIE_COUNTER = re.compile(r"\[#\d+\]")  # of an oops, unlike a lockup or a warning
_OWNER_SECONDS = 5.0  # for the searches behind one page's owner
_OWNERS_SECONDS = 30.0  # and for all of them
_SYSCTL = "sysctl_panic_on_unrecoverable_mf"  # since 7.3, mm/memory-failure.c
_YEAR_9999 = 253_370_764_800  # in seconds since 1970: a damaged clock can be beyond
_SYMBOLS_REMEDY = "give the kernel's vmlinux with debug info: -s VMLINUX"
_VMCOREINFO_REMEDY = "take the dump by kdump; for QEMU, boot the guest with -device vmcoreinfo"
_AGAIN = "take the dump again, or ask for the original if this is a copy"


class _Gatherer:
    """The questions, each guarded so that one without an answer never loses the others."""

    def __init__(self, kernel: Kernel, scan_seconds: float) -> None:
        self.kernel = kernel
        self.scan_seconds = scan_seconds
        self.not_checked: list[NotChecked] = []
        self.owners = Budget(_OWNERS_SECONDS)
        self.saved_log = False

    def note(self, what: str, why: str, remedy: str) -> None:
        self.not_checked.append(NotChecked(what=what, why=why, remedy=remedy))

    def ask(self, what: str, question: Callable[[], T], default: T, remedy: str = _AGAIN) -> T:
        """The answer; ``default`` and a row of ``not_checked`` where there is none."""
        try:
            return question()
        except FaultError as error:
            self.note(
                what, f"memory that is not in the dump is needed (at {error.address:#x})", remedy
            )
        except LookupError as error:
            self.note(what, str(error.args[0]) if error.args else "not found", remedy)
        except Exception as error:
            # A damaged dump can break any assumption; the rest of the report is worth having.
            self.note(
                what,
                f"unexpected {type(error).__name__}: {error}",
                "report this as a bug of mftriage, unless the dump is damaged",
            )
        return default

    def log(self) -> Sequence[LogRecord]:
        dump = self.kernel.dump
        try:
            records = read_log(LinearReader(self.kernel), dump.vmcoreinfo)
            if records:
                return records
            why = "it is empty"
        except (FaultError, LookupError) as error:
            why = str(error)
        except (ValueError, OverflowError, MemoryError) as error:
            why = f"its ring is damaged ({type(error).__name__}: {error})"
        if dump.log_beside is not None:
            try:
                records = _saved(dump.log_beside)
                self.note(
                    "the dump's own log",
                    f"it can't be read ({why}); the log is that of {dump.log_beside.name} beside the dump",
                    _AGAIN,
                )
                self.saved_log = True
                return records
            except OSError as error:
                why += f"; {dump.log_beside.name} neither: {error.strerror}"
            except DumpError as error:
                why += f"; {dump.log_beside.name} neither: {error.message}"
        self.note(
            "the kernel log", why, "put kdump's vmcore-dmesg.txt beside the dump, in its folder"
        )
        return ()


def _saved(path: Path) -> list[LogRecord]:
    """The last boot of a log that was saved.  Raises ``DumpError`` where it is no kernel log."""
    source = open_log(path)
    if source is None:
        raise not_a_log()
    boots = split_boots(list(source.records()))
    if source.text.messages == 0 or not boots:
        raise not_a_log()
    return boots[-1]


def gather(kernel: Kernel, scan_seconds: float) -> Facts:
    """Ask the dump everything.  ``scan_seconds`` bounds the scan for poisoned pages."""
    ask = _Gatherer(kernel, scan_seconds)
    dump = kernel.dump
    if not dump.complete:
        ask.note(
            "the whole dump",
            "the file is cut short: pages and tables behind the cut are missing",
            "copy the dump again and compare sizes",
        )
    if not kernel.typed:
        ask.note(
            "types and symbols",
            kernel.why_not_better or "not known",
            _SYMBOLS_REMEDY if dump.vmcoreinfo.values else _VMCOREINFO_REMEDY,
        )
    log = ask.log()
    failures = marked_after(memory_failures(log, dump.page_size), log, crash_line(log))
    records, failed = log_records(log)
    for name, error in failed:
        ask.note(
            f"{name} records of the log",
            f"the decoder failed: {error}",
            "report this as a bug of mftriage",
        )
    records = [addressed(r, dump.page_size) for r in mark_injected(records, log, failures)]
    ticks = ask.ask("the clocks", lambda: clock(kernel), None)
    in_memory: list[HardwareError] = []
    for what, read in SOURCES.items():
        in_memory += ask.ask(what, partial(read, kernel, ticks), [])
    records = joined(records, in_memory)
    ask.not_checked += gaps(log, records, failures)
    devices = _devices(ask, records)
    records = [_with_device(record, devices) for record in records]
    crashed, panic = _crash(ask, log)
    hw_memory_failure = integer(kernel, "hw_memory_failure", 1)
    records = [_with_injected(record, hw_memory_failure) for record in records]

    unnamed: tuple[str | None, str | None] = (None, dump.vmcoreinfo.release)
    host, release = ask.ask("the host's name", lambda: uts_name(kernel), unnamed)
    facts = Facts(
        dump=DumpInfo(
            path=dump.path,
            size_bytes=dump.size_bytes,
            format=dump.format,
            arch=dump.arch,
            page_size=dump.page_size,
            kernel_release=release,
            build_id=dump.vmcoreinfo.build_id,
            hostname=None if host == "(none)" else host,
            crash_time=_utc(dump.vmcoreinfo.crash_time or (ticks.wall if ticks else None)),
            uptime_seconds=_uptime(panic, log, ticks.uptime if ticks else None),
            taint=taint(kernel),
            symbols=kernel.tier,
            complete=dump.complete,
        ),
        log=log,
        crashed=crashed,
        panic=panic,
        oops=panics.oops_message(log) if panic else None,
        memory_failures=failures,
        injected_pfns=injected_pfns(log),
        page_requests=page_requests(log),
        hardware_errors=tuple(records),
        memory_devices=devices,
        num_poisoned_pages=num_poisoned_pages(kernel),
        sysctl=integer(kernel, _SYSCTL, 4),
        has_sysctl=has_symbol(kernel, _SYSCTL, "sysctl_memory_failure_recovery"),
        hw_memory_failure=None if hw_memory_failure is None else bool(hw_memory_failure),
        not_checked=ask.not_checked,
    )
    _add_pages(ask, facts)
    if panic is not None and (pfns := facts.failed_pfns()):
        crash = ask.ask(
            "whether the crash touched the bad page",
            lambda: crash_ties(kernel, log, panic, records, pfns),
            None,
        )
        if crash is not None:
            facts.ties, facts.elsewhere = crash.ties, crash.elsewhere
            facts.panic = replace(panic, access=crash.access)
    return facts


def _crash(ask: _Gatherer, log: Sequence[LogRecord]) -> tuple[bool | None, Panic | None]:
    """Whether the machine crashed (``None``: not known), and how."""
    kernel = ask.kernel
    cpu: int | None = None
    told = True
    try:
        cpu = panics.panic_cpu(kernel)
    except (FaultError, LookupError):
        told = False
    logged = panics.panic_from_log(log)
    if logged is None and cpu is None:
        # A crash kernel was started, or an oops killed a task and the machine went on.
        died = any(_DIE_COUNTER.search(record.text) for record in log)
        oops = panics.oops_from_log(log) if died else None
        if kernel.dump.vmcoreinfo.crash_time is not None or oops is not None:
            return True, oops or Panic()
        # A log that kdump saved is one of a crash, whatever it still shows.
        knows = bool(log) and not ask.saved_log and (told or not kernel.typed)
        return (False if knows else None), None
    panic = logged or panics.oops_from_log(log) or Panic()
    if cpu is None or not kernel.typed:
        return True, panic
    task = ask.ask("the task that panicked", lambda: panics.current_task(kernel, cpu), None)
    if task is not None:
        panic = replace(panic, task=describe(task), cpu=cpu)
    if task is not None and (not panic.trace or kernel.tier == "dwarf"):
        frames: tuple[Frame, ...] = ask.ask(
            "the stack", lambda: panics.stack(kernel, cpu, task), ()
        )
        if len(frames) > 1 or not panic.trace:
            panic = replace(panic, trace=frames)
    return True, replace(panic, cpu=cpu)


def _devices(ask: _Gatherer, records: Sequence[HardwareError]) -> dict[int, Dimm]:
    """What SMBIOS knows of the DIMMs, read only where a record names one."""
    if not any(record.dimm is not None for record in records):
        return {}
    return ask.ask("the DIMMs of SMBIOS", lambda: memory_devices(ask.kernel), {})


def _with_device(record: HardwareError, devices: dict[int, Dimm]) -> HardwareError:
    """The record with its handle's device in words, as the kernel prints it: bank, then device."""
    dimm = record.dimm
    if dimm is None or dimm.handle is None or dimm.locator is not None:
        return record
    device = devices.get(int(dimm.handle, 16))
    if device is None:
        return record
    words = " ".join(word for word in (device.bank_locator, device.locator) if word)
    if not words:
        return record
    return replace(record, dimm=replace(dimm, locator=words, how="firmware-location"))


def _with_injected(record: HardwareError, hw_memory_failure: int | None) -> HardwareError:
    if record.injected is None and record.is_memory and hw_memory_failure:
        return replace(record, injected=False)
    return record


def _add_pages(ask: _Gatherer, facts: Facts) -> None:
    kernel = ask.kernel
    memory_map = ask.ask(
        "struct pages",
        lambda: MemoryMap(kernel),
        None,
        _SYMBOLS_REMEDY if kernel.dump.vmcoreinfo.values else _VMCOREINFO_REMEDY,
    )
    if memory_map is None:
        return
    logged = [int(event.pfn, 16) for event in facts.memory_failures]
    hit = [
        int(record.physical_address, 16) // facts.page_size
        for record in facts.hardware_errors
        if record.physical_address is not None and record.severity not in ("corrected", None)
    ]
    poisoned = ask.ask(
        "all poisoned pages",
        lambda: find_poisoned(kernel, memory_map, [*logged, *hit], ask.scan_seconds),
        None,
    )
    found = list(poisoned.pfns) if poisoned else []
    if poisoned is not None and poisoned.stopped == "time":
        counted = facts.num_poisoned_pages
        of = f" of {counted}" if counted else ""
        ask.note(
            "all poisoned pages",
            f"the scan of the memory map was stopped early, with {len(found)}{of} found",
            "give it more time: --scan-seconds 600",
        )
    words = {
        int(event.pfn, 16): event.page_type
        for event in facts.memory_failures
        if event.action != "failed"
    }
    for pfn in list(dict.fromkeys([*logged, *hit, *found]))[:MAX_PAGES]:
        page = ask.ask(
            f"page {pfn:#x}",
            partial(_page, ask, facts, memory_map, pfn, words.get(pfn)),
            None,
        )
        if page is not None:
            facts.pages[pfn] = page
    kinds = {pfn: page.owner.kind for pfn, page in facts.pages.items() if page.owner is not None}
    facts.poisoned_pages = tuple(
        PoisonedPage(pfn=f"{pfn:#x}", owner_kind=kinds.get(pfn, "unknown")) for pfn in found
    )
    _check_counters(ask, facts)


def _page(
    ask: _Gatherer, facts: Facts, memory_map: MemoryMap, pfn: int, words: str | None
) -> PageInfo:
    address, length = _exact_address(facts, pfn)
    budget = Budget(0.0 if ask.owners.spent() else _OWNER_SECONDS)
    problems: list[str] = []
    page = describe_page(
        ask.kernel,
        memory_map,
        pfn,
        budget,
        address=address,
        length=length,
        words=words,
        problems=problems,
    )
    if budget.ran_out:
        ask.note(
            f"the owner of page {pfn:#x}",
            "the search was stopped when its time was over",
            "look it up in drgn: see docs/guide.md",
        )
    elif problems and page.owner is not None and page.owner.kind == "unknown":
        ask.note(f"the owner of page {pfn:#x}", "; ".join(problems[:3]), _AGAIN)
    return page


def _exact_address(facts: Facts, pfn: int) -> tuple[int | None, int | None]:
    """The hardware's address within the page and the bytes that it stands for, where a record has them."""
    best: tuple[int | None, int | None] = (None, None)
    for record in facts.records_of(pfn):
        assert record.physical_address is not None
        granule = granule_of(record, facts.page_size)
        if granule is not None and (best[1] is None or granule < best[1]):
            best = int(record.physical_address, 16), granule
    return best


def _check_counters(ask: _Gatherer, facts: Facts) -> None:
    """The kernel counts what it did: where the log shows less, lines were lost."""
    stats = ask.ask(
        "the kernel's own counters of failures", lambda: ignored_per_node(ask.kernel), None
    )
    if not stats:
        return
    counted = sum(node["ignored"] + node["failed"] for node in stats.values())
    logged = sum(
        1
        for e in facts.memory_failures
        if e.action in ("ignored", "failed") and e.page_type != "already poisoned page"
    )
    if counted > logged:
        facts.lost_failures = counted - logged
        ask.note(
            "failures that the log no longer shows",
            f"the kernel counts {counted} ignored or failed, the log shows {logged}",
            "look at poisoned_pages, and at the journal or serial console of that boot",
        )


def _utc(seconds: float | None) -> str | None:
    if seconds is None or not 0 <= seconds < _YEAR_9999:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _uptime(panic: Panic | None, log: Sequence[LogRecord], ticks: float | None) -> float | None:
    if panic is not None and panic.time is not None:
        return panic.time
    times = [record.time for record in log if record.time is not None]
    return max(times) if times else ticks
