"""What a database of the host tells of the time before the crash, tied to what failed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from mftriage.facts import Facts
from mftriage.records.rasdaemon import Failed, past_records


def add_past(facts: Facts, rasdaemon_db: Path) -> None:
    """Add the errors that rasdaemon recorded before the crash, and what they share with what failed."""
    found = past_records(rasdaemon_db, _crash_time(facts), _failed(facts))
    facts.past_corrected = tuple(found.corrected)
    facts.history = tuple(found.others)
    facts.not_checked = [*facts.not_checked, *found.not_checked]


def _crash_time(facts: Facts) -> float | None:
    """Seconds since 1970: the dump's own, or a machine check's clock in a log."""
    if facts.dump.crash_time is not None:
        return _seconds(facts.dump.crash_time)
    end = facts.panic.time if facts.panic is not None else facts.dump.uptime_seconds
    for record in facts.hardware_errors:
        if record.wall_time is not None and record.time is not None and end is not None:
            return _seconds(record.wall_time) + end - record.time + 1.0  # both to the second
    return None


def _seconds(utc: str) -> float:
    return datetime.fromisoformat(utc.replace("Z", "+00:00")).timestamp()


def _failed(facts: Facts) -> Failed:
    bad = [
        record
        for record in facts.hardware_errors
        if record.is_memory and record.severity not in ("corrected", None)
    ]
    pages = [int(event.pfn, 16) for event in facts.memory_failures]
    pages += [pfn for r in bad if (pfn := facts.pfn_of(r.physical_address)) is not None]
    dimms = [record.dimm for record in bad if record.dimm is not None]
    names = {
        name.lower()
        for dimm in dimms
        for name in (dimm.label, dimm.locator, *dimm.candidates)
        if name
    }
    return Failed(
        pages=tuple(dict.fromkeys(reversed(pages))),
        page_size=facts.page_size,
        names=frozenset(names),
        locations=tuple(r.location for r in bad if r.location is not None),
    )
