"""One triage that fills in every field, and one that is larger than any report may be."""

from __future__ import annotations

from dataclasses import replace

from mftriage.model import (
    Fact,
    Frame,
    HardwareError,
    MemoryFailure,
    NotChecked,
    Panic,
    PastErrors,
    PoisonedPage,
    Task,
    TimelineEntry,
    Triage,
)
from tests.render.samples import ARM64_GHES, UNRELATED_SYSRQ, X86_SYSCTL_PANIC

FULL: Triage = replace(
    ARM64_GHES,
    dump=X86_SYSCTL_PANIC.dump,
    dimm=X86_SYSCTL_PANIC.dimm,
    not_checked=X86_SYSCTL_PANIC.not_checked,
    memory_failures=ARM64_GHES.memory_failures + UNRELATED_SYSRQ.memory_failures,
    hardware_errors=ARM64_GHES.hardware_errors + X86_SYSCTL_PANIC.hardware_errors,
    history=(
        PastErrors(
            source="rasdaemon",
            kind="uncorrected",
            count=3,
            place="DIMM_A1",
            first_time="2026-10-01T00:00:00Z",
            last_time="2026-11-01T00:00:00Z",
            text="multi-bit ECC",
            on_failed=("dimm", "row"),
        ),
    ),
)


def huge(word: str = "word ", many: int = 300) -> Triage:
    """Return a triage with ``many`` of everything, each string ``many`` words long."""
    text = word * many
    fact = Fact(rule=text, fact=text)
    return replace(
        FULL,
        verdict=replace(
            FULL.verdict, summary=text, evidence=(fact,) * many, against=(fact,) * many
        ),
        panic=Panic(message=text, trace=(Frame(function=text),) * many),
        memory_failures=(
            MemoryFailure(
                time=1.0, pfn="0x444d0", page_type=text, killed=(Task(comm=text, pid=1),) * many
            ),
        )
        * many,
        poisoned_pages=(PoisonedPage(pfn="0x1", owner_kind="free"),) * many,
        hardware_errors=(
            HardwareError(source=text, medium="log", error_type=text, raw=(text,) * many),
        )
        * many,
        actions=(text,) * many,
        timeline=(TimelineEntry(time=1.0, kind="error", text=text),) * many,
        not_checked=(NotChecked(what=text, why=text, remedy=text),) * many,
    )
