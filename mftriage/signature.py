"""What groups crashes of one cause: short, versioned, without pfns and addresses.

``2:KIND:CAUSE@SITE``, documented in docs/verdict.md.  KIND is the verdict's kind.  CAUSE is whose memory was hit
(``slab/dentry``, ``page-table``), or what else the machine died of.  SITE, the second level, is
where the kernel was when it died, if that is not the cause itself: one bad page kills in
many places.
"""

from __future__ import annotations

import re

from mftriage.model import HardwareError, PageInfo, Panic, Verdict
from mftriage.stack import site

VERSION = 2
_MAX_WORD = 48
# CONFIG_RANDOM_KMALLOC_CACHES spreads one size over sixteen caches, by a seed of each boot (mm/slab.h)
_RANDOM_CACHE = re.compile(r"kmalloc-rnd-\d+-")
# Where a kernel dies at once of a page, it always does so in the same place.
_LATER = ("delayed-crash", "possible-delayed-crash")
_OF_PAGE = ("unrecoverable-panic", "fatal-hardware-error", *_LATER)


def signature(
    verdict: Verdict,
    page: PageInfo | None,
    panic: Panic | None,
    record: HardwareError | None,
) -> str:
    """The signature of a triage; ``record`` is what the hardware said last."""
    where = site(panic.trace) if panic else None
    if verdict.kind in _OF_PAGE:
        cause = _owner(page)
    elif verdict.kind == "hardware-not-memory":
        cause = (record.error_type or record.source) if record else None
    else:
        cause = where
    text = f"{VERSION}:{verdict.kind}:{_word(cause)}"
    return f"{text}@{_word(where)}" if where and verdict.kind in _LATER else text


def cause_of(text: str) -> str:
    """The first level of a signature: all that has one cause."""
    return text.split("@", 1)[0]


def site_of(text: str) -> str | None:
    """The second level: where the kernel died; ``None`` where the cause says it all."""
    return text.split("@", 1)[1] if "@" in text else None


def _owner(page: PageInfo | None) -> str | None:
    if page is None or page.owner is None:
        return None
    cache = page.owner.slab_cache
    return f"{page.owner.kind}/{_RANDOM_CACHE.sub('kmalloc-', cache)}" if cache else page.owner.kind


def _word(text: str | None) -> str:
    """One part of a signature: nothing in it separates parts or ends the word."""
    return re.sub(r"[^A-Za-z0-9_./+-]+", "-", text or "").strip("-")[:_MAX_WORD] or "unknown"
