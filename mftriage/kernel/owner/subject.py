"""The page whose owner is asked for, and what every detector may use."""

from __future__ import annotations

from dataclasses import dataclass, field

from mftriage.kernel.memmap import MemoryMap, Page
from mftriage.kernel.search import Budget
from mftriage.symbols import Kernel

CACHE_LINE = 64  # bytes; every x86_64 and arm64 server's


@dataclass
class Subject:
    """A page, with its compound head.

    ``address`` is the bad physical address in bytes where the hardware gave one below the page,
    and ``length`` how many bytes from it on are bad; both ``None`` when only the page is known.
    ``words`` are the kernel's own for the page, if it logged a failure.
    """

    kernel: Kernel
    memory_map: MemoryMap
    page: Page
    head: Page
    budget: Budget
    address: int | None = None
    length: int | None = None
    words: str | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def page_type(self) -> str | None:
        """The page type of the compound page."""
        return self.memory_map.type_of(self.head) or self.memory_map.type_of(self.page)

    @property
    def physical(self) -> int:
        """The physical address of the page's first byte."""
        return self.page.pfn << self.memory_map.page_shift

    def flag(self, name: str) -> bool:
        """Whether the head has the flag."""
        return self.memory_map.has_flag(self.head, name)

    def unknown_detail(self) -> str | None:
        """What can be said of a page that nobody is known to own."""
        if not self.kernel.typed:
            return "types and symbols are not known, so the owner can't be told"
        return None
