"""Which part it is: the DIMM with how it is known, or what is known in place of its name."""

from __future__ import annotations

from typing import NamedTuple

from mftriage.model import Dimm, HardwareError, Triage
from mftriage.render import words
from mftriage.render.hardware import location_line, ranked
from mftriage.render.words import Facts, given, labelled

_BLAMED = ("unrecoverable-panic", "fatal-hardware-error", "delayed-crash", "possible-delayed-crash")


class Part(NamedTuple):
    """The part to look at: its name, how that is known, and the rest label by label.

    ``known`` is false where no record names one; ``candidates`` has several where none is named alone.
    """

    name: str
    known: bool
    how: str
    sure: str | None
    candidates: tuple[str, ...]
    facts: Facts


def part(triage: Triage) -> Part | None:
    """Return the part; ``None`` where there is no memory error that would have one."""
    dimm = triage.dimm
    if dimm is not None:
        name = f"One of {len(dimm.candidates)} DIMMs" if dimm.candidates else dimm_name(dimm)
        how = f"Known by {dimm.how}." if dimm.how else "How it is known is not said."
        if not triage.memory_failures and _corrected_only(triage):
            how += " Only corrected errors are known of it."
        return Part(name, True, how, dimm.certainty, dimm.candidates, _identity(dimm))
    blamed = triage.verdict.kind in _BLAMED
    errors = [
        r
        for r in ranked(triage.hardware_errors)
        if (r.is_memory or (blamed and r.is_memory is None))
        and r.severity != "corrected"
        and not r.previous_boot
    ]
    simulated = bool(triage.memory_failures) and triage.hw_memory_failure is False
    if simulated or any(record.injected for record in errors) or not (errors or blamed):
        return None
    record = errors[0] if errors else None
    return Part("DIMM not known", False, _why(record), None, (), _clues(record))


def _corrected_only(triage: Triage) -> bool:
    """Whether every memory error that was recorded was corrected."""
    severities = {r.severity for r in triage.hardware_errors if r.is_memory is not False}
    return severities == {"corrected"}


def _why(record: HardwareError | None) -> str:
    """Why nothing names the DIMM."""
    if record is None:
        return "No record of the hardware is left that could name it."
    mce = record.mce
    if mce is not None and mce.address_kind == "normalized":
        return "The record has an address of the memory controller's own, and no slot."
    if mce is not None:
        return "A machine check gives an address, and no slot."
    return "The record has neither a DIMM location nor a FRU text."


def _clues(record: HardwareError | None) -> Facts:
    """What the vendor, or the BMC's log, can turn into a slot."""
    if record is None:
        return []
    mce = record.mce
    return labelled(
        ("physical address", record.physical_address),
        ("normalized address", mce.addr if mce and mce.address_kind == "normalized" else None),
        ("location", record.location and location_line(record.location)),
        ("error", record.error_type),
        ("socket", mce.socket if mce else None),
        ("bank", mce.bank if mce else None),
        ("status", mce and mce.status),
    )


def dimm_name(dimm: Dimm) -> str:
    """Return the name to look for on the board; "not known" where nothing names it."""
    return (
        dimm.label
        or dimm.locator
        or dimm.bank_locator
        or " or ".join(dimm.candidates)
        or (dimm.handle and f"SMBIOS handle {dimm.handle}")
        or words.NOT_KNOWN
    )


def dimm_line(dimm: Dimm) -> str:
    """Return the DIMM in one line, with how it was found."""
    maker = " ".join(
        given(
            dimm.size_bytes is not None and words.size(dimm.size_bytes or 0),
            dimm.manufacturer,
            dimm.part_number,
        )
    )
    line = ", ".join(
        given(dimm_name(dimm), maker, dimm.serial_number and f"serial {dimm.serial_number}")
    )
    return f"{line}: {dimm.how}" if dimm.how else line


def _identity(dimm: Dimm) -> Facts:
    return labelled(
        ("label", dimm.label),
        ("locator", dimm.locator),
        ("bank locator", dimm.bank_locator),
        ("manufacturer", dimm.manufacturer),
        ("part number", dimm.part_number),
        ("serial number", dimm.serial_number),
        ("size", None if dimm.size_bytes is None else words.size(dimm.size_bytes)),
        ("SMBIOS handle", dimm.handle),
    )
