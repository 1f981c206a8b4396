"""The report at a glance: a line for each of what matters most, the same in every format that has room for it."""

from __future__ import annotations

from mftriage.model import Triage
from mftriage.render import words
from mftriage.render.dimm import dimm_line
from mftriage.render.hardware import ErrorRow, record_line

__all__ = ["glance"]


def glance(triage: Triage, errors: list[ErrorRow]) -> words.Facts:
    """Return label and line of all that is known; ``errors`` are the triage's, the worst first."""
    page, panic, dimm = triage.page, triage.panic, triage.dimm
    owner = page and page.owner
    rows = (
        ("Page", page and words.page_line(page)),
        ("Owner", owner and words.owner_line(owner)),
        ("Object", owner and owner.object and words.object_line(owner.object)),
        ("Kernel said", words.kernel_words(triage)),
        ("Hardware", record_line(errors[0]) if errors else None),
        ("DIMM", dimm and dimm_line(dimm)),
        ("Crash", panic and (panic.message or "no message")),
        ("Crashed", panic and words.crash_place(panic)),
        ("Host", words.host_line(triage.dump)),
        ("Dump", words.dump_line(triage.dump)),
    )
    return [(label, value) for label, value in rows if value]
