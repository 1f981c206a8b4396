"""VMCOREINFO: what a kernel says of itself to those who read its dumps.

Lines of ``KEY=value`` text, written by kernel/vmcore_info.c (crash_save_vmcoreinfo_init) and
each architecture's arch_crash_save_vmcoreinfo; Documentation/admin-guide/kdump/vmcoreinfo.rst.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from functools import cached_property

_NOTE = b"VMCOREINFO\0\0OSRELEASE="
_NOTE_HEAD = 12  # bytes of struct elf64_note in front of the name
_CHUNK = 4 << 20
_MAX_NOTE = 1 << 16

_MAX_ADDRESS = (1 << 64) - 1
_MAX_STRUCT = 1 << 20  # bytes; the largest that is exported, struct pglist_data, has 200 KiB
_MAX_LENGTH = 1 << 24
# What is read by the thousand, or shifts another number, has to be closer to the truth.
_SIZES = {"prb_desc": range(1, 257), "printk_info": range(1, 257)}
_NUMBERS = {
    "MAX_PHYSMEM_BITS": range(36, 53),
    "PG_hwpoison": range(64),
    "SECTION_SIZE_BITS": range(20, 41),
    "TCR_EL1_T1SZ": range(12, 29),
    "VA_BITS": range(36, 53),
}


def find_in_memory(read: Callable[[int, int], bytes], spans: Iterable[tuple[int, int]]) -> bytes:
    """The note as the kernel keeps it ready in its memory (update_vmcoreinfo_note); empty if not there.

    ``read`` gets bytes of the file, ``spans`` are (offset, bytes) of its memory.  For dumps that
    a hypervisor took without the guest's help, which lack the note.
    """
    for start, size in spans:
        for at in range(start, start + size, _CHUNK):
            # A note lies within one page, so that pieces which overlap a little lose none.
            data = read(at, min(_CHUNK + len(_NOTE), start + size - at))
            found = data.find(_NOTE, _NOTE_HEAD)
            while found >= 0:
                name, length, kind = struct.unpack_from("<III", data, found - _NOTE_HEAD)
                if (name, kind) == (11, 0) and 0 < length <= _MAX_NOTE:
                    return read(at + found + len(b"VMCOREINFO\0\0"), length)
                found = data.find(_NOTE, found + 1)
    return b""


class VmcoreInfo:
    """The parsed note.

    Every accessor returns ``None`` for a key that this kernel does not export, or whose value no
    kernel can have: a caller decides what it can still answer without it.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.values: dict[str, str] = {}
        for line in raw.split(b"\0", 1)[0].decode("ascii", "replace").splitlines():
            key, equals, value = line.partition("=")
            if equals:
                self.values[key] = value.strip()

    def _int(self, key: str, base: int, sane: range) -> int | None:
        try:
            value = int(self.values[key], base)
        except (KeyError, ValueError):
            return None
        return value if value in sane else None

    def symbol(self, name: str) -> int | None:
        """SYMBOL(name): an address (hexadecimal without a prefix)."""
        return self._int(f"SYMBOL({name})", 16, range(_MAX_ADDRESS + 1))

    def offset(self, member: str) -> int | None:
        """OFFSET(struct.member) in bytes."""
        return self._int(f"OFFSET({member})", 10, range(_MAX_STRUCT))

    def size(self, name: str) -> int | None:
        """SIZE(struct) in bytes."""
        return self._int(f"SIZE({name})", 10, _SIZES.get(name, range(_MAX_STRUCT + 1)))

    def length(self, name: str) -> int | None:
        """LENGTH(array) in elements."""
        return self._int(f"LENGTH({name})", 10, range(_MAX_LENGTH + 1))

    def number(self, name: str) -> int | None:
        """NUMBER(name): decimal, or hexadecimal with 0x."""
        anything = range(-_MAX_ADDRESS, _MAX_ADDRESS + 1)
        return self._int(f"NUMBER({name})", 0, _NUMBERS.get(name, anything))

    @cached_property
    def release(self) -> str | None:
        """The kernel release (``uname -r``)."""
        return self.values.get("OSRELEASE") or None

    @cached_property
    def build_id(self) -> str | None:
        """The GNU build ID of vmlinux, lower-case hex (since Linux 5.9, 0935288c6e00)."""
        build_id = self.values.get("BUILD-ID", "").lower()
        return build_id if re.fullmatch("[0-9a-f]{8,}", build_id) else None

    @cached_property
    def page_size(self) -> int | None:
        """PAGESIZE in bytes; ``None`` unless it is a sane power of two."""
        size = self._int("PAGESIZE", 10, range(4096, 65537))
        return size if size and size & (size - 1) == 0 else None

    @cached_property
    def crash_time(self) -> int | None:
        """CRASHTIME, seconds since the epoch; written only when a crash kernel is started."""
        return self._int("CRASHTIME", 10, range(_MAX_ADDRESS + 1))

    @cached_property
    def arch(self) -> str | None:
        """The architecture, by the keys that only its own code exports."""
        if "NUMBER(pgtable_l5_enabled)" in self.values or "SYMBOL(init_top_pgt)" in self.values:
            return "x86_64"
        if "NUMBER(kimage_voffset)" in self.values or "NUMBER(PHYS_OFFSET)" in self.values:
            return "arm64"
        return None
