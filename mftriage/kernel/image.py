"""The parts of the kernel image, and what they are called."""

from __future__ import annotations

from typing import NamedTuple

from mftriage.symbols import Kernel


class Section(NamedTuple):
    """A part of the kernel image, by virtual addresses."""

    name: str
    start: int
    end: int


# include/asm-generic/sections.h; init sections are freed after boot, so they come last.
_BOUNDS = (
    ("text", "_stext", "_etext"),
    ("rodata", "__start_rodata", "__end_rodata"),
    ("data", "_sdata", "_edata"),
    ("bss", "__bss_start", "__bss_stop"),
    ("init", "__init_begin", "__init_end"),
)


def image_bounds(kernel: Kernel) -> tuple[int, int] | None:
    """Virtual addresses of the image's first byte and of the one behind its last."""
    start = kernel.address("_text") or kernel.dump.vmcoreinfo.symbol("_stext")
    end = kernel.address("_end")
    return (start, end) if start is not None and end is not None and start < end else None


def section_of(kernel: Kernel, address: int) -> Section | None:
    """The part of the image that the virtual ``address`` lies in; "image" where no part claims it."""
    for name, first, last in _BOUNDS:
        start, end = kernel.address(first), kernel.address(last)
        if start is not None and end is not None and start <= address < end:
            return Section(name, start, end)
    bounds = image_bounds(kernel)
    return Section("image", *bounds) if bounds and bounds[0] <= address < bounds[1] else None
