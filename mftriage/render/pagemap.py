"""The inside of the bad page: which cache line is bad, and which bytes the slab object takes."""

from __future__ import annotations

from typing import NamedTuple

from mftriage.model import Triage
from mftriage.render.words import number

LINE = 64

_PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)


class PageMap(NamedTuple):
    """Offsets into the page: of the bad line, and of the part of the object that lies in it."""

    page_size: int
    bad: int
    start: int | None
    end: int | None


def page_map(triage: Triage) -> PageMap | None:
    """Return the map of the page, or ``None`` if no address is known below page level."""
    page, page_size = triage.page, triage.dump.page_size
    address = number(page.physical_address) if page else None
    if page is None or address is None or page_size not in _PAGE_SIZES:
        return None
    offset = address % page_size
    if not offset and not _exact(triage, address, page_size):
        return None
    start, end = _object(triage, offset, page_size)
    return PageMap(page_size, offset - offset % LINE, start, end)


def _exact(triage: Triage, address: int, page_size: int) -> bool:
    """Whether a record vouches for the low bits of an address that is a page's first byte."""
    return any(
        number(record.physical_address) == address
        and (number(record.physical_address_mask) or 0) % page_size
        for record in triage.hardware_errors
    )


def _object(triage: Triage, offset: int, page_size: int) -> tuple[int | None, int | None]:
    owner = triage.page and triage.page.owner
    if not owner or not owner.object or not owner.object_size:
        return None, None
    # The object's own address won't do: in a slab of several pages it may start in another one.
    into = number(owner.object.offset)
    if into is None or not 0 <= into < owner.object_size:
        return None, None
    start = offset - into
    return max(start, 0), min(start + owner.object_size, page_size)
