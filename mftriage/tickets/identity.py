"""What makes two reports one: the fingerprint of a fault, and the mark that a report carries.

The fingerprint is that of the signature's first level and of the DIMM, or else of the host and the
page.  The same fault of the same part has the same one in every dump.  It is one word of letters
and digits, so that every system's search finds it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from mftriage.model import Triage
from mftriage.signature import cause_of

__all__ = ["Mark", "crash_id", "digest", "fingerprint", "mark_of", "without_mark"]

_NAMELESS = re.compile(r"(\(none\)|localhost(\.localdomain)?)?", re.IGNORECASE)
_MARK = re.compile(
    r"^(?:<!-- |Reference: )(?P<fingerprint>mftriage[0-9a-f]{20}) (?P<crash>[0-9a-f]{12}) "
    r"(?P<digest>[0-9a-f]{12})(?: -->)?\s*$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Mark:
    """The last line of what mftriage writes: which fault, which crash, and a digest of the text."""

    fingerprint: str
    crash: str
    digest: str

    def line(self, *, hidden: bool) -> str:
        """Return the mark as a comment of HTML, or as a short line for people to see."""
        words = f"{self.fingerprint} {self.crash} {self.digest}"
        return f"<!-- {words} -->" if hidden else f"Reference: {words}"


def mark_of(text: str) -> Mark | None:
    """Return the mark that ``text`` ends in; ``None`` where it has none.

    The last one counts: a log may hold the line of a mark, and stands before ours.
    """
    found = [*_MARK.finditer(text.replace("\r\n", "\n"))]
    return Mark(**found[-1].groupdict()) if found else None


def without_mark(text: str) -> str:
    """Return ``text`` without its mark, and what stands behind that."""
    found = [*_MARK.finditer(text)]
    return text[: found[-1].start()] if found else text


def fingerprint(triage: Triage) -> str:
    """Return the fingerprint of the fault.

    By the DIMM's part and serial number; without a serial number by the host and the DIMM's
    label or locator; without these by the host and the page.  A host without a name can't be told from another: then it
    is that of this crash alone.
    """
    dimm, page = triage.dimm, triage.page
    host = _host(triage)
    label = (dimm.label or dimm.locator or dimm.handle) if dimm else None
    if dimm and dimm.serial_number:
        of: list[object] = ["serial", dimm.manufacturer, dimm.part_number, dimm.serial_number]
    elif host and label:
        of = ["label", host, label]
    elif host:
        of = ["page", host, page and page.pfn]
    else:
        of = ["crash", crash_id(triage)]
    return "mftriage" + _hash([cause_of(triage.signature or triage.verdict.kind), *of], 20)


def crash_id(triage: Triage) -> str:
    """Return what tells one crash from another, the same for a dump and for its capsule."""
    died = triage.panic.time if triage.panic else None
    of: list[object] = [_host(triage), triage.dump.crash_time, triage.dump.build_id, died]
    if triage.dump.crash_time is None and died is None:
        # Not otherwise: a later mftriage may read more of them out of the same dump.
        of += [[failure.time, failure.pfn] for failure in triage.memory_failures]
        of += [[record.time, record.physical_address] for record in triage.hardware_errors]
    return _hash(of, 12)


def digest(text: str) -> str:
    """Return the digest of a text, for which line ends and blanks at the ends of lines are none."""
    return _hash(["\n".join(line.rstrip() for line in text.strip().splitlines())], 12)


def _host(triage: Triage) -> str | None:
    host = (triage.dump.hostname or "").strip()
    return None if _NAMELESS.fullmatch(host) else host


def _hash(of: list[object], digits: int) -> str:
    text = json.dumps(of).encode()
    return hashlib.sha256(text).hexdigest()[:digits]
