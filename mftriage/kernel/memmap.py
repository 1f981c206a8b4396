"""struct page by pfn, read from the memory map with VMCOREINFO's offsets: the same in every tier."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from drgn import FaultError

from mftriage.symbols import Kernel

# include/linux/mmzone.h: SECTION_MARKED_PRESENT, SECTION_HAS_MEM_MAP; flags below bit 6
_PRESENT, _HAS_MEM_MAP, _SECTION_FLAGS = 1, 2, 0x3F
_ADDRESS = (1 << 64) - 1
_PHYSICAL_BITS = 52  # MAX_PHYSMEM_BITS of either architecture

# Page types that were macros, not an enum, before Linux 6.11: page_type holds the complement.
# include/linux/page-flags.h of 6.1: PG_buddy ... ; 0x800 since 6.10 (d99e3140a4d3)
_MACRO_TYPES = {0x80: "buddy", 0x100: "offline", 0x200: "table", 0x400: "guard", 0x800: "hugetlb"}
_VMCOREINFO_TYPES = ("BUDDY", "SLAB", "HUGETLB", "OFFLINE", "UNACCEPTED")
_VMCOREINFO_FLAGS = ("lru", "private", "swapcache", "swapbacked", "slab", "hwpoison")


class Page(NamedTuple):
    """A struct page: raw words.  ``head`` is the pfn of the compound page's head (its own if single)."""

    pfn: int
    address: int
    flags: int
    page_type: int
    refcount: int
    mapping: int
    private: int
    head: int

    @property
    def is_tail(self) -> bool:
        """Whether this is a tail of a compound page."""
        return self.head != self.pfn


class Span(NamedTuple):
    """A run of struct pages: those of ``pages`` pfns from ``pfn`` on, at ``address``."""

    pfn: int
    pages: int
    address: int


class MemoryMap:
    """The memory map of a dump."""

    def __init__(self, kernel: Kernel) -> None:
        """Raises ``LookupError`` where VMCOREINFO lacks the layout, or has one that can't be."""
        self._kernel = kernel
        self._program = kernel.program
        info = kernel.dump.vmcoreinfo
        self.page_size = kernel.dump.page_size
        self.page_shift = self.page_size.bit_length() - 1

        def need(value: int | None, what: str) -> int:
            if value is None:
                raise LookupError(f"VMCOREINFO has no {what}")
            return value

        self.struct_size = need(info.size("page"), "SIZE(page)")
        self._flags_at = need(info.offset("page.flags"), "OFFSET(page.flags)")
        self._refcount_at = need(info.offset("page._refcount"), "OFFSET(page._refcount)")
        self._mapcount_at = need(info.offset("page._mapcount"), "OFFSET(page._mapcount)")
        self._mapping_at = need(info.offset("page.mapping"), "OFFSET(page.mapping)")
        self._private_at = need(info.offset("page.private"), "OFFSET(page.private)")
        # compound_head became compound_info in 7.1 (8c846c879e22)
        self._compound_at = info.offset("page.compound_info")
        if self._compound_at is None:
            self._compound_at = info.offset("page.compound_head")
        self._sections = need(info.symbol("mem_section"), "SYMBOL(mem_section)")
        self._section_size = need(info.size("mem_section"), "SIZE(mem_section)")
        self._section_map_at = need(
            info.offset("mem_section.section_mem_map"), "OFFSET(mem_section.section_mem_map)"
        )
        self._section_roots = need(info.length("mem_section"), "LENGTH(mem_section)")
        bits = need(info.number("SECTION_SIZE_BITS"), "NUMBER(SECTION_SIZE_BITS)")
        self.section_pages_shift = bits - self.page_shift
        self.hwpoison = need(info.number("PG_hwpoison"), "NUMBER(PG_hwpoison)")
        self._maps: dict[int, int | None] = {}
        self._check()
        # No more sections than physical addresses have room for, whatever the array's length.
        sections = 1 << _PHYSICAL_BITS - bits
        self._section_roots = min(self._section_roots, -(-sections // self._per_root))

    def _check(self) -> None:
        """What would give wrong pages is refused once, here: each read would find its own nonsense."""
        words = [self._flags_at, self._mapping_at, self._private_at]
        if self._compound_at is not None:
            words.append(self._compound_at)
        end = max(*(at + 8 for at in words), self._refcount_at + 4, self._mapcount_at + 4)
        if not 32 <= self.struct_size <= 512 or end > self.struct_size:
            raise LookupError("VMCOREINFO's layout of struct page is not sane")
        if (
            not max(8, self._section_map_at + 8) <= self._section_size <= 4096
            or self.section_pages_shift < 0
        ):
            raise LookupError("VMCOREINFO's layout of struct mem_section is not sane")

    # finding

    @property
    def _per_root(self) -> int:
        # CONFIG_SPARSEMEM_EXTREME: mem_section[root] points at a page full of sections
        return self.page_size // self._section_size

    def _u64(self, address: int) -> int:
        return int(self._program.read_u64(address & _ADDRESS))

    def _section_map(self, number: int) -> int | None:
        """What to add ``pfn * struct_size`` to for a pfn of this section; ``None`` if it has no map."""
        if number in self._maps:
            return self._maps[number]
        found = self._read_section(number)
        if self._kernel.dump.memory.recording:  # else the capsule would lack the section's page
            self._maps[number] = found
        return found

    def _read_section(self, number: int) -> int | None:
        root, index = divmod(number, self._per_root)
        if not 0 <= root < self._section_roots:
            return None
        sections = self._u64(self._sections + 8 * root)
        if not sections:
            return None
        word = self._u64(sections + index * self._section_size + self._section_map_at)
        if not word & _PRESENT or not word & _HAS_MEM_MAP:
            return None
        return word & ~_SECTION_FLAGS

    def address_of(self, pfn: int) -> int | None:
        """The address of the struct page of ``pfn``; ``None`` where the kernel has none.

        Raises ``FaultError`` where the table of sections is not in the dump.
        """
        base = self._section_map(pfn >> self.section_pages_shift)
        return None if base is None else base + pfn * self.struct_size & _ADDRESS

    def spans(self) -> Iterator[Span]:
        """The struct pages of every present section."""
        per_root, pages = self._per_root, 1 << self.section_pages_shift
        for root in range(self._section_roots):
            try:
                sections = self._u64(self._sections + 8 * root)
            except FaultError:
                continue
            if not sections:
                continue
            for number in range(root * per_root, (root + 1) * per_root):
                try:
                    base = self._section_map(number)
                except FaultError:
                    break  # the page that holds the rest, too
                if base is not None:
                    first = number << self.section_pages_shift
                    yield Span(first, pages, base + first * self.struct_size & _ADDRESS)

    # reading

    def read(self, pfn: int) -> Page | None:
        """The struct page of ``pfn``; ``None`` where the kernel has none.

        Raises ``FaultError`` where it is not in the dump.
        """
        address = self.address_of(pfn)
        if address is None:
            return None
        raw = self._program.read(address, self.struct_size)
        word = struct.unpack_from

        def u64(at: int) -> int:
            return int(word("<Q", raw, at)[0])

        head = pfn
        compound = u64(self._compound_at) if self._compound_at is not None else 0
        if compound & 1:
            # Since 7.1 the word may be a mask to apply to the tail's address (8c846c879e22).
            mask = compound & ~1
            is_mask = mask | (mask - 1) == (1 << 64) - 1
            target = address & mask if is_mask else mask
            step = (address - target) // self.struct_size
            head = pfn - step if 0 < step < 1 << 20 and step <= pfn else pfn
        return Page(
            pfn=pfn,
            address=address,
            flags=u64(self._flags_at),
            page_type=int(word("<I", raw, self._mapcount_at)[0]),
            refcount=int(word("<i", raw, self._refcount_at)[0]),
            mapping=u64(self._mapping_at),
            private=u64(self._private_at),
            head=head,
        )

    def is_poisoned(self, page: Page) -> bool:
        """PG_hwpoison."""
        return bool(page.flags >> self.hwpoison & 1)

    def poisoned_in(self, raw: bytes, first_pfn: int) -> list[int]:
        """The pfns with PG_hwpoison among struct pages that lie one behind the other in ``raw``."""
        bit = self.hwpoison
        # One byte of each flags word decides; a slice with a step takes them all at C speed.
        column = raw[self._flags_at + bit // 8 :: self.struct_size]
        wanted = 1 << bit % 8
        if not column.translate(None, delete=_BYTES_WITHOUT[wanted]):
            return []
        return [first_pfn + i for i, byte in enumerate(column) if byte & wanted]

    # names

    @cached_property
    def flag_names(self) -> dict[int, str]:
        """Bit number to name without ``PG_``: enum pageflags' own, not its aliases."""
        if not self._kernel.typed:
            numbers = {
                name: self._kernel.dump.vmcoreinfo.number(f"PG_{name}")
                for name in _VMCOREINFO_FLAGS
            }
            return {bit: name for name, bit in numbers.items() if bit is not None}
        names: dict[int, str] = {}
        for enumerator in self._program.type("enum pageflags").enumerators or ():
            if enumerator.name == "__NR_PAGEFLAGS":
                break  # what follows are aliases
            names.setdefault(enumerator.value, enumerator.name.removeprefix("PG_"))
        return names

    def flags_of(self, page: Page) -> tuple[str, ...]:
        """The names of the flags that are set, lowest bit first."""
        return tuple(name for bit, name in sorted(self.flag_names.items()) if page.flags >> bit & 1)

    def has_flag(self, page: Page, name: str) -> bool:
        """Whether the flag of this name (without ``PG_``) is set; false where the kernel has none such."""
        return name in self.flags_of(page)

    @cached_property
    def _type_names(self) -> dict[int, str]:
        """page_type, in the kernel's form, to name."""
        names: dict[int, str] = {}
        if self._kernel.typed:
            try:
                enumerators = self._program.type("enum pagetype").enumerators or ()
            except LookupError:
                return {~bit & 0xFFFFFFFF: name for bit, name in _MACRO_TYPES.items()}
            for name, value in ((e.name, e.value) for e in enumerators):
                if name.startswith("PGTY_") and name != "PGTY_mapcount_underflow":
                    # one type at a time, in the top byte: since 6.12 (4ffca5a96678)
                    names[value << 24 & 0xFF000000] = name.removeprefix("PGTY_")
                elif name.startswith("PG_"):  # a bit each, cleared when set: 6.11
                    names[~value & 0xFFFFFFFF] = name.removeprefix("PG_")
            return names
        for name in _VMCOREINFO_TYPES:
            value = self._kernel.dump.vmcoreinfo.number(f"PAGE_{name}_MAPCOUNT_VALUE")
            if value is not None:
                names[value & 0xFFFFFFFF] = name.lower()
        return names

    def type_of(self, page: Page) -> str | None:
        """The page type's name, or ``None`` for a page that has a mapcount there."""
        word = page.page_type
        if word == 0xFFFFFFFF or word < 0x80000000:
            return None
        return self._type_names.get(word & 0xFF000000) or self._type_names.get(word)

    def mapcount_of(self, page: Page) -> int | None:
        """How often the page is mapped; ``None`` where a page type stands in its place."""
        if page.page_type == 0xFFFFFFFF:
            return 0
        return page.page_type + 1 if page.page_type < 0x80000000 else None


_BYTES_WITHOUT = {1 << bit: bytes(b for b in range(256) if not b >> bit & 1) for bit in range(8)}
