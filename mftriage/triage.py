"""The pipeline: source, dump, facts, verdict, Triage.  One direction; nothing flows back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mftriage import __version__
from mftriage.dump import Dump, open_dump
from mftriage.dump.unpack import Progress, no_progress
from mftriage.facts import Facts
from mftriage.kernel.gather import gather
from mftriage.model import Dimm, NotChecked, PageInfo, TimelineEntry, Tool, Triage, Verdict
from mftriage.stack import crash_site
from mftriage.symbols import Kernel, open_kernel
from mftriage.verdict import decide

T = TypeVar("T")

_MAX_TIMELINE = 60
_MAX_EVENTS = 10_000
_CAUSE_IS_ALL = ("unrecoverable-panic", "fatal-hardware-error", "hardware-not-memory")


@dataclass
class Analysis:
    """A triage with the dump that it came from, which a capsule is cut from."""

    triage: Triage
    dump: Dump
    kernel: Kernel


def analyze(
    path: Path,
    *,
    vmlinux: Path | str | None = None,
    scan_seconds: float = 10.0,
    progress: Progress = no_progress,
) -> Analysis:
    """Triage the dump at ``path``.  Raises ``DumpError`` or ``SymbolsError``."""
    dump = open_dump(path, progress)
    try:
        kernel = open_kernel(dump, vmlinux, progress)
        facts = gather(kernel, scan_seconds)
        return Analysis(conclude(facts), dump, kernel)
    except BaseException:
        dump.close()
        raise


def conclude(facts: Facts) -> Triage:
    """From facts to the result."""
    verdict, _ = decide(facts)
    page = _page(facts, verdict)
    cut: list[NotChecked] = []
    return Triage(
        tool=Tool(name="mftriage", version=__version__),
        dump=facts.dump,
        verdict=verdict,
        panic=facts.panic,
        memory_failures=_bounded("memory_failures", facts.memory_failures, cut),
        page=page,
        poisoned_pages=facts.poisoned_pages,
        num_poisoned_pages=facts.num_poisoned_pages,
        panic_on_unrecoverable_memory_failure=facts.sysctl,
        hw_memory_failure=facts.hw_memory_failure,
        hardware_errors=_bounded("hardware_errors", facts.hardware_errors, cut),
        dimm=_dimm(facts, page),
        signature=_signature(facts, verdict, page),
        actions=_actions(facts, verdict, page),
        timeline=_timeline(facts),
        not_checked=(*facts.not_checked, *cut),
    )


def _bounded(key: str, events: tuple[T, ...], cut: list[NotChecked]) -> tuple[T, ...]:
    """The first and the last events of a flood, which would make a result that nothing can hold."""
    if len(events) <= _MAX_EVENTS:
        return events
    half = _MAX_EVENTS // 2
    why = f"the dump has {len(events)}; the verdict is by all, the result has the first and the last {half}"
    remedy = "look at the kernel log in the dump: see docs/guide.md"
    cut.append(NotChecked(what=f"all of {key}", why=why, remedy=remedy))
    return (*events[:half], *events[-half:])


def _page(facts: Facts, verdict: Verdict) -> PageInfo | None:
    """The page that the verdict is about; else that of the worst failure, else of the last one."""
    candidates: list[int] = []
    if verdict.kind == "unrecoverable-panic":
        candidates += [int(e.pfn, 16) for e in facts.memory_failures if e.panicked]
    elif verdict.kind == "delayed-crash":
        candidates += [tie.pfn for tie in facts.ties]
    elif verdict.kind == "fatal-hardware-error":
        candidates += [int(e.pfn, 16) for e in facts.memory_failures if e.panicked]
        for record in reversed(facts.hardware_errors):
            if record.physical_address and record.severity not in ("corrected", "deferred"):
                candidates.append(int(record.physical_address, 16) // facts.page_size)
    candidates += [int(e.pfn, 16) for e in reversed(facts.unrecovered())]
    candidates += [int(e.pfn, 16) for e in reversed(facts.memory_failures)]
    candidates += [int(p.pfn, 16) for p in facts.poisoned_pages]
    return next((facts.pages[pfn] for pfn in candidates if pfn in facts.pages), None)


def _dimm(facts: Facts, page: PageInfo | None) -> Dimm | None:
    """The DIMM that the record of the page names, in the record's words."""
    # a counter of EDAC's or CEC's names a DIMM that had errors, not that of this one
    named = [r for r in facts.hardware_errors if r.is_memory and r.dimm is not None]
    records = [r for r in named if r.source not in ("edac", "cec") or "log" in r.media]
    if page is not None:
        same = [r for r in facts.records_of(int(page.pfn, 16)) if r.dimm is not None]
        records = same or ([] if facts.memory_failures else records)
    if not records or records[-1].dimm is None:
        return None
    dimm = records[-1].dimm
    how = "DIMM location" if dimm.locator else "FRU text"
    how = f"{how} of the firmware's own record (CPER)"
    if records[-1].source == "edac":
        how = "label of the kernel's EDAC driver"
    device = facts.memory_device(dimm)
    if device is None:
        return Dimm(label=dimm.label, locator=dimm.locator, how=how)
    return replace(device, label=dimm.label, how=f"{how}; SMBIOS by its handle or name")


def _signature(facts: Facts, verdict: Verdict, page: PageInfo | None) -> str:
    """Version 1: verdict, owner and, where the cause is not the whole story, the function that crashed.

    Stable over pfns and addresses.
    """
    parts = ["1", verdict.kind]
    if page is not None and page.owner is not None:
        parts.append(page.owner.slab_cache or page.owner.kind)
    if facts.panic is not None and verdict.kind not in _CAUSE_IS_ALL:
        site = next((f.function for f in crash_site(facts.panic.trace) if f.function), None)
        if site:
            parts.append(site.split(".")[0])  # without the compiler's .cold, .isra.0
    return ":".join(parts)


def _actions(facts: Facts, verdict: Verdict, page: PageInfo | None) -> tuple[str, ...]:
    """What to do next, the most urgent first."""
    bad = verdict.kind in ("unrecoverable-panic", "fatal-hardware-error", "delayed-crash")
    if not bad:
        if facts.unrecovered():
            return ("Plan a reboot: bad memory is still in use by the kernel.",)
        return ()
    if page is not None and facts.is_injected(int(page.pfn, 16)):
        return ("Nothing to replace: the failure was injected by software.",)
    actions = ["Keep the machine out of service until the memory is replaced or repaired."]
    dimm = _dimm(facts, page)
    if dimm is not None:
        actions.append(f"Replace the DIMM that the firmware names: {dimm.locator or dimm.label}.")
    else:
        actions.append(
            "Read the BMC's event log around the crash time: it names the DIMM that the kernel's record does not."
        )
    return tuple(actions)


def _timeline(facts: Facts) -> tuple[TimelineEntry, ...]:
    """From the first error to the crash."""
    entries: list[TimelineEntry] = []
    for record in facts.hardware_errors:
        what = ", ".join(
            p for p in (record.severity, record.error_type, record.physical_address) if p
        )
        entries.append(
            TimelineEntry(time=record.time, kind="error", text=f"{record.source}: {what}")
        )
    for event in facts.memory_failures:
        result = f": {event.action}" if event.action else ""
        entries.append(
            TimelineEntry(
                time=event.time,
                kind="failure",
                text=f"memory failure {event.pfn}: {event.page_type or 'unknown'}{result}",
            )
        )
    if facts.panic is not None:
        entries.append(
            TimelineEntry(time=facts.panic.time, kind="crash", text=facts.panic.message or "crash")
        )
    key: Callable[[TimelineEntry], tuple[float, int]] = lambda e: (  # noqa: E731
        e.time if e.time is not None else float("inf"),
        ("error", "failure", "note", "crash").index(e.kind),
    )
    return tuple(sorted(entries, key=key)[:_MAX_TIMELINE])
