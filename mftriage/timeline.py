"""The trail of a crash: the error, what the kernel made of it, who touched the page, the death."""

from __future__ import annotations

from mftriage.facts import Facts
from mftriage.model import HardwareError, PageInfo, TimelineEntry
from mftriage.stack import site

_MAX_ENTRIES = 60
_KINDS = ("error", "failure", "note", "crash")  # of one time, in the order of cause and effect


def timeline(facts: Facts, touched: PageInfo | None) -> tuple[TimelineEntry, ...]:
    """From the first error to the crash, by time.  ``touched`` is the page that the crash is tied to."""
    entries = [_error(record) for record in facts.hardware_errors]
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
        if touched is not None:
            entries.append(_touch(facts, touched))
        entries.append(
            TimelineEntry(time=facts.panic.time, kind="crash", text=facts.panic.message or "crash")
        )
    entries.sort(key=lambda e: (float("inf") if e.time is None else e.time, _KINDS.index(e.kind)))
    if len(entries) <= _MAX_ENTRIES:
        return tuple(entries)
    return (*entries[: _MAX_ENTRIES // 2], *entries[-_MAX_ENTRIES // 2 :])


def _error(record: HardwareError) -> TimelineEntry:
    words = (record.severity, record.error_type, record.physical_address)
    return TimelineEntry(
        time=record.time,
        kind="error",
        text=f"{record.source}: {', '.join(word for word in words if word)}",
        exact=record.time_is_exact,
    )


def _touch(facts: Facts, page: PageInfo) -> TimelineEntry:
    """Who touched the page at last: the function, the task, the instruction."""
    panic = facts.panic
    assert panic is not None
    oops = next((r.time for r in reversed(facts.log) if facts.oops and r.text == facts.oops), None)
    where = site(panic.trace)
    who = f"{where}()" if where else "the kernel"
    if panic.task is not None:
        who += f" in task {panic.task.comm} (pid {panic.task.pid})"
    access = panic.access
    touches = any(t.how == "access" and f"{t.pfn:#x}" == page.pfn for t in facts.ties)
    how = f": {access.instruction} at {access.address}" if access and touches else ""
    what = "touches" if touches else "crashes over"
    return TimelineEntry(
        time=panic.time if oops is None else oops,
        kind="note",
        text=f"{who} {what} page {page.pfn}{how}",
    )
