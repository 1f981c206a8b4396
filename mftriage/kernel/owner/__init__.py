"""Who owns a page: ordered detectors, each a file that knows one kind.

The first detector that knows the page names its owner.  What a page type or flag proves stands
first; what must be searched for stands last.  Nothing is guessed: a page that no detector knows
is ``unknown``.  A new kind is one new file, and one line in ``DETECTORS``.
"""

from __future__ import annotations

from collections.abc import Callable

from mftriage.kernel.owner import (
    compound,
    image,
    lru,
    mapped,
    page_table,
    percpu,
    reserved,
    slab,
    taken_off,
)
from mftriage.kernel.owner.subject import Subject
from mftriage.model import Owner
from mftriage.symbols import DAMAGED

__all__ = ["DETECTORS", "Subject", "owner_of"]

Detector = Callable[[Subject], Owner | None]

DETECTORS: tuple[Detector, ...] = (
    slab.detect,
    page_table.detect,
    compound.detect_large_kmalloc,
    compound.detect_hugetlb,
    compound.detect_free,
    compound.detect_offline,
    image.detect_zero_page,
    percpu.detect,
    image.detect,
    reserved.detect,
    lru.detect,
    taken_off.detect,
    mapped.detect,
)


def owner_of(subject: Subject) -> Owner:
    """The owner of the page; ``unknown`` where nothing in the dump tells."""
    for detect in DETECTORS:
        try:
            owner = detect(subject)
        except (*DAMAGED, AttributeError, TypeError) as error:
            # What one detector needs may be missing from the dump, or be damaged; the next may not need it.
            subject.problems.append(f"{detect.__module__.rsplit('.', 1)[1]}: {error}")
            continue
        if owner is not None:
            return owner
    return Owner(kind="unknown", detail=subject.unknown_detail())
