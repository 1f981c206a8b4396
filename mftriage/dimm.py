"""Which DIMM to look at: what the records say of it, and how much each way of naming is worth.

Firmware knows the board: its "DIMM location" (SMBIOS type 17) and fru_text name a slot.  An EDAC
label is as good as whoever set it; a driver's decode is a position that the board's manual turns
into a slot.  An address alone names no DIMM, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mftriage.facts import Facts
from mftriage.model import Confidence, Dimm, HardwareError, PageInfo

_HOW = {
    "firmware-location": "DIMM location of the firmware's own record (CPER)",
    "fru-text": "FRU text of the firmware's own record (CPER)",
    "edac-label": "the label that the EDAC driver has for it",
    "driver-decode": "the EDAC driver's decode of the address: a position, not the board's name",
    "firmware-handle": "the SMBIOS handle of the firmware's own record (CPER); dmidecode -t 17 names it",
}
_SURE: dict[str, Confidence] = {
    "firmware-location": "high",
    "fru-text": "high",
    "edac-label": "medium",
    "driver-decode": "medium",
    "firmware-handle": "medium",
}
_ORDER = tuple(_HOW)


def suspect(facts: Facts, page: PageInfo | None) -> Dimm | None:
    """The DIMM that the records of the page name; ``None`` where no record names one.

    Without a page it is the DIMM of the worst memory error.  A corrected error elsewhere names no DIMM for
    one that was not corrected.
    """
    named = [r for r in facts.hardware_errors if r.is_memory and r.dimm is not None]
    # a counter of EDAC's or CEC's names a DIMM that had errors, not that of this one
    records = [r for r in named if r.source not in ("edac", "cec") or "log" in r.media]
    same: list[HardwareError] = []
    if page is not None:
        same = [r for r in facts.records_of(int(page.pfn, 16)) if r.dimm is not None]
        of_failures = facts.memory_failures and not _all_at(facts, records)
        records = same or ([] if of_failures else records)
    bad = [r for r in records if r.severity != "corrected"]
    worse = any(r.is_memory and r.severity != "corrected" for r in facts.hardware_errors)
    return _named(facts, bad or (same if worse else records))


def _all_at(facts: Facts, records: Iterable[HardwareError]) -> bool:
    """Whether no record has an address that could be that of another page."""
    return all(facts.pfn_of(record.physical_address) is None for record in records)


def _named(facts: Facts, records: list[HardwareError]) -> Dimm | None:
    """The best name among the records: of the newest event, and of its best source."""
    usable = [r for r in records if _how(r) is not None]
    if not usable:
        return None
    newest = usable[-1]
    event = [r for r in usable if _together(r, newest)]
    best = min(event, key=lambda r: _ORDER.index(_how(r) or _ORDER[-1]))
    dimm, how = best.dimm, _how(best)
    assert dimm is not None and how is not None
    others = {_name(r) for r in event if _how(r) == how} - {None}
    candidates = dimm.candidates
    if not candidates and len(others) > 1:
        candidates = tuple(sorted(name for name in others if name))
    alone = not candidates
    handle = next((r.dimm.handle for r in event if r.dimm and r.dimm.handle), None)
    device = facts.memory_device(replace(dimm, handle=dimm.handle or handle)) if alone else None
    if device is not None:
        return replace(
            device,
            label=dimm.label,
            how=f"{_HOW[how]}; SMBIOS by its handle or name",
            handle=handle,
            certainty="high",
        )
    return Dimm(
        label=dimm.label if alone else None,
        locator=dimm.locator if alone else None,
        how=_HOW[how] if alone else f"one of {len(candidates)}: {_HOW[how]}",
        handle=handle,
        certainty=_SURE[how] if alone else "low",
        candidates=candidates,
    )


def _how(record: HardwareError) -> str | None:
    """What the record's best name of the DIMM is; ``None`` where it has none."""
    dimm = record.dimm
    if dimm is None:
        return None
    if record.source == "edac" and dimm.label:
        return dimm.how or "edac-label"
    if dimm.locator:
        return "firmware-location"
    return dimm.how or ("fru-text" if dimm.label else "firmware-handle" if dimm.handle else None)


def _name(record: HardwareError) -> str | None:
    return (record.dimm.locator or record.dimm.label) if record.dimm else None


def _together(one: HardwareError, other: HardwareError) -> bool:
    """Whether two records are of one event: the same time, and the same address where both have one."""
    if one.physical_address and other.physical_address:
        return int(one.physical_address, 16) >> 12 == int(other.physical_address, 16) >> 12
    return one.time is None or other.time is None or abs(one.time - other.time) <= 2.0


def is_position(dimm: Dimm) -> bool:
    """Whether the DIMM's name is a driver's position, which is not the board's."""
    return (dimm.how or "").startswith(_HOW["driver-decode"])


def is_slot(dimm: Dimm) -> bool:
    """Whether firmware itself names the DIMM."""
    return (dimm.how or "").startswith(
        tuple(_HOW[how] for how in ("firmware-location", "fru-text", "firmware-handle"))
    )
