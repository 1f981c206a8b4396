"""VMCOREINFO: what a kernel says of itself to those who read its dumps.

Lines of ``KEY=value`` text, written by kernel/vmcore_info.c (crash_save_vmcoreinfo_init) and
each architecture's arch_crash_save_vmcoreinfo; Documentation/admin-guide/kdump/vmcoreinfo.rst.
"""

from __future__ import annotations

import re
from functools import cached_property


class VmcoreInfo:
    """The parsed note.

    Every accessor returns ``None`` for a key that this kernel does not export: a caller
    decides what it can still answer without it.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.values: dict[str, str] = {}
        for line in raw.split(b"\0", 1)[0].decode("ascii", "replace").splitlines():
            key, equals, value = line.partition("=")
            if equals:
                self.values[key] = value.strip()

    def _int(self, key: str, base: int) -> int | None:
        try:
            return int(self.values[key], base)
        except (KeyError, ValueError):
            return None

    def symbol(self, name: str) -> int | None:
        """SYMBOL(name): an address (hexadecimal without a prefix)."""
        return self._int(f"SYMBOL({name})", 16)

    def offset(self, member: str) -> int | None:
        """OFFSET(struct.member) in bytes."""
        return self._int(f"OFFSET({member})", 10)

    def size(self, name: str) -> int | None:
        """SIZE(struct) in bytes."""
        return self._int(f"SIZE({name})", 10)

    def length(self, name: str) -> int | None:
        """LENGTH(array) in elements."""
        return self._int(f"LENGTH({name})", 10)

    def number(self, name: str) -> int | None:
        """NUMBER(name): decimal, or hexadecimal with 0x."""
        return self._int(f"NUMBER({name})", 0)

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
        size = self._int("PAGESIZE", 10)
        return size if size and size & (size - 1) == 0 and 4096 <= size <= 65536 else None

    @cached_property
    def crash_time(self) -> int | None:
        """CRASHTIME, seconds since the epoch; written only when a crash kernel is started."""
        return self._int("CRASHTIME", 10)

    @cached_property
    def arch(self) -> str | None:
        """The architecture, by the keys that only its own code exports."""
        if "NUMBER(pgtable_l5_enabled)" in self.values or "SYMBOL(init_top_pgt)" in self.values:
            return "x86_64"
        if "NUMBER(kimage_voffset)" in self.values or "NUMBER(PHYS_OFFSET)" in self.values:
            return "arm64"
        return None
