"""One row of the fleet table out of one triage."""

from __future__ import annotations

import re
from typing import Any

from mftriage.fleet.schema import ROW_KEYS
from mftriage.model import SYSCTL_OWNERS, Dimm, HardwareError, Triage, VerdictKind
from mftriage.render.words import number
from mftriage.signature import cause_of
from mftriage.stack import injects, site

__all__ = ["row_of"]

LATER: frozenset[VerdictKind] = frozenset(("delayed-crash", "possible-delayed-crash"))
BLAMED: frozenset[VerdictKind] = LATER | {"unrecoverable-panic", "fatal-hardware-error"}
# The hardware error itself stopped the machine: where it stood then says nothing.
STOPPED: frozenset[VerdictKind] = (BLAMED - LATER) | {"hardware-not-memory"}

# Names that a machine has before anybody names it, and what boards write where no serial number is.
_NAMELESS = re.compile(r"(\(none\)|localhost(\.localdomain)?)?$", re.IGNORECASE)
_NO_SERIAL = re.compile(
    r"(.)?\1*$|(0x)?0+$|n/?a$|none|no ?dimm|not |unknown|undefined|empty|default|to be filled|sernum|1234567",
    re.IGNORECASE,
)


def row_of(triage: Triage) -> dict[str, Any]:
    """Return the triage's part of a row, ready for ``json.dumps``: the keys of ``ROW_KEYS``.

    Times are ISO 8601 strings as in the triage; ``mftriage.fleet.load`` makes timestamps of them.
    """
    dump, verdict, panic, page = triage.dump, triage.verdict, triage.panic, triage.page
    owner = page.owner if page else None
    host = _host(dump.hostname)
    failures = [e for e in triage.memory_failures if not e.previous_boot]
    of_page = [e for e in failures if page and e.pfn == page.pfn]
    location = next((r.location for r in reversed(_records(triage)) if r.location), None)
    dimm = triage.dimm or Dimm()
    later = verdict.kind not in STOPPED
    name, by = _identity(dimm, host)
    values: tuple[Any, ...] = (
        *(host, dump.crash_time, dump.uptime_seconds, dump.kernel_release),
        *(dump.build_id, dump.arch, dump.symbols),
        *(verdict.kind, verdict.confidence, verdict.summary),
        *(triage.signature, triage.signature and cause_of(triage.signature)),
        *(panic.message if panic else None, site(panic.trace) if panic and later else None),
        *((page.pfn, page.physical_address) if page else (None, None)),
        *((owner.kind, owner.slab_cache) if owner else (None, None)),
        owner.object.type if owner and owner.object else None,
        next((e.page_type for e in of_page if e.page_type), None),
        next((e.action for e in reversed(of_page) if e.action), None),
        *(name, by, dimm.label, dimm.locator),
        *(dimm.manufacturer, dimm.part_number, dimm.serial_number),
        *((location.rank, location.bank, location.row, location.column) if location else (None,) * 4),
        _injected(triage),
        triage.error_to_crash_seconds if verdict.kind in BLAMED else None,
        triage.panic_on_unrecoverable_memory_failure,
        _caught_at_once(triage),
        sum(place.count for place in triage.corrected_errors),
        sum(e.action == "recovered" for e in failures),
    )  # fmt: skip
    return dict(zip(ROW_KEYS, values, strict=True))


def _host(name: str | None) -> str | None:
    return None if name is None or _NAMELESS.match(name.strip()) else name.strip()


def _identity(dimm: Dimm, host: str | None) -> tuple[str | None, str | None]:
    """The DIMM's name over the fleet, and what it goes by.

    A serial number is unique for its maker.  A place is unique in its host alone, so a dump that does
    not name its host names no DIMM by it.
    """
    serial = (dimm.serial_number or "").strip()
    if dimm.candidates:
        return None, None
    if not _NO_SERIAL.match(serial):
        maker = (dimm.manufacturer or "").strip()
        return f"{maker} {serial}".strip(), "serial"
    place = " ".join(p for p in (dimm.bank_locator, dimm.locator) if p) if dimm.locator else None
    place = place or dimm.label
    return (f"{host} {place}", "place") if host and place else (None, None)


def _records(triage: Triage) -> list[HardwareError]:
    """This boot's uncorrected memory errors: those of the page, or all where there is no page."""
    records = [
        r
        for r in triage.hardware_errors
        if r.is_memory and not r.previous_boot and r.severity != "corrected"
    ]
    if triage.page is None:
        return records
    pfn, size = number(triage.page.pfn), triage.dump.page_size or 4096
    addresses = ((r, number(r.physical_address)) for r in records)
    return [r for r, address in addresses if address is not None and address // size == pfn]


def _injected(triage: Triage) -> bool | None:
    """Whether a test made the error that the verdict is about; ``None`` where nothing tells."""
    records = _records(triage)
    if any(r.injected for r in records):
        return True
    if triage.page is None:
        return False if any(r.injected is False for r in records) else None
    pfn = triage.page.pfn
    if any(r.kind == "injection" and r.pfn == pfn for r in triage.page_requests):
        return True
    failures = [e for e in triage.memory_failures if e.pfn == pfn and not e.previous_boot]
    if triage.panic and injects(triage.panic.trace) and any(e.panicked for e in failures):
        return True
    if records or not failures:
        return False if records else None
    # set by the first failure that no test simulated (since 6.1)
    return None if triage.hw_memory_failure is None else not triage.hw_memory_failure


def _caught_at_once(triage: Triage) -> bool | None:
    """Whether the sysctl would have stopped a machine at the error that crashed later."""
    owner = triage.page.owner if triage.page else None
    if triage.verdict.kind not in LATER or owner is None or owner.kind == "unknown":
        return None
    return owner.kind in SYSCTL_OWNERS and not triage.panic_on_unrecoverable_memory_failure
