"""kernel-image and zero-page: the kernel's own text and data, by section and symbol."""

from __future__ import annotations

from drgn import FaultError

from mftriage.kernel.image import image_bounds, section_of
from mftriage.kernel.owner.subject import Subject
from mftriage.model import Owner


def _image_address(subject: Subject) -> int | None:
    """The virtual address of the page in the kernel image, if it is part of it."""
    offset, bounds = subject.kernel.dump.image_offset, image_bounds(subject.kernel)
    if offset is None or bounds is None or not subject.flag("reserved"):
        return None  # freed init memory lies in the image's range, but is no longer reserved
    address = subject.physical + offset
    return address if bounds[0] & -subject.memory_map.page_size <= address < bounds[1] else None


def detect_zero_page(subject: Subject) -> Owner | None:
    """empty_zero_page (mm/mm_init.c since 7.1: __zero_page; before that each architecture's)."""
    kernel = subject.kernel
    zero_pfn = kernel.address("zero_page_pfn") or kernel.address("zero_pfn")
    if zero_pfn is not None:
        try:
            if kernel.program.read_u64(zero_pfn) == subject.page.pfn and subject.page.pfn:
                return Owner(
                    kind="zero-page", detail="the page of zeros that untouched memory reads from"
                )
        except FaultError:
            pass
    address, zero = _image_address(subject), kernel.address("empty_zero_page")
    if (
        zero is not None
        and address is not None
        and address <= zero < address + subject.memory_map.page_size
    ):
        return Owner(kind="zero-page", detail="the page of zeros that untouched memory reads from")
    return None


def detect(subject: Subject) -> Owner | None:
    """A reserved page within [_text, _end)."""
    address = _image_address(subject)
    if address is None:
        return None
    kernel = subject.kernel
    section = section_of(kernel, address)
    exact = address if subject.address is None else address + subject.address - subject.physical
    place = kernel.nearest(exact)
    symbol = f"{place.name}+{place.offset:#x}" if place else None
    detail = f"{section.name if section else 'part'} of the kernel image"
    if symbol and subject.address is not None:
        detail += f", at {symbol}"
    elif symbol:
        detail += f", the page begins at {symbol}"
    return Owner(
        kind="kernel-image", detail=detail, section=section.name if section else None, symbol=symbol
    )
