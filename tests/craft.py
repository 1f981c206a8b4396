"""Dumps made by hand: small files in the formats that mftriage reads, written by the formats' own rules.

Nothing here uses mftriage's writers, so that a mistake in those can't hide.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from mftriage.log import LogRecord, TextLog

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "fixtures"
_X86 = json.loads((FIXTURES / "x86_64-dentry" / "expected.json").read_text(encoding="utf-8"))
HIT = int(_X86["page"], 16)  # the pfn of the page that was hit in the x86_64 fixture
PAGE = 4096
EM_X86_64, EM_AARCH64, EM_RISCV = 62, 183, 243
ET_EXEC, ET_CORE = 2, 4
PT_LOAD, PT_NOTE = 1, 4

# What drgn asks of any VMCOREINFO, and what tells the architectures apart.
_INFO = (
    b"OSRELEASE=7.3.4-test\nPAGESIZE=4096\nKERNELOFFSET=0\nLENGTH(mem_section)=2048\n"
    b"SYMBOL(mem_section)=ffffffff82b00000\nSYMBOL(swapper_pg_dir)=ffffffff82a10000\n"
)
X86_INFO = (
    _INFO
    + b"SYMBOL(init_top_pgt)=ffffffff82a10000\nNUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\n"
)
ARM_INFO = (
    _INFO + b"NUMBER(kimage_voffset)=0xffff800040000000\nNUMBER(PHYS_OFFSET)=0x40000000\n"
    b"NUMBER(VA_BITS)=48\nNUMBER(TCR_EL1_T1SZ)=0x10\n"
)


def note(name: str, kind: int, desc: bytes) -> bytes:
    """One ELF note, padded as the gABI wants it."""
    raw = name.encode() + b"\0"
    head = struct.pack("<III", len(raw), len(desc), kind)
    return head + raw + bytes(-len(raw) % 4) + desc + bytes(-len(desc) % 4)


def elf_core(
    segments: Mapping[int, bytes] | None = None,
    notes: bytes = b"",
    *,
    machine: int = EM_X86_64,
    kind: int = ET_CORE,
    ident: bytes = b"\x7fELF\x02\x01\x01",
) -> bytes:
    """An ELF core with one PT_NOTE and a PT_LOAD for each physical address in ``segments``."""
    segments = segments or {}
    count = 1 + len(segments)
    at = 64 + 56 * count
    header = struct.pack(
        *("<16sHHIQQQIHHHHHH", ident, kind, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    )
    table = [struct.pack("<IIQQQQQQ", PT_NOTE, 0, at, 0, 0, len(notes), len(notes), 4)]
    at += len(notes)
    for address, data in segments.items():
        table.append(
            struct.pack("<IIQQQQQQ", PT_LOAD, 7, at, 0, address, len(data), len(data), PAGE)
        )
        at += len(data)
    return b"".join([header, *table, notes, *segments.values()])


def kdump(
    pages: Mapping[int, bytes],
    info: bytes = X86_INFO,
    *,
    machine: str = "x86_64",
    version: int = 6,
    notes: bytes = b"",
    signature: bytes = b"KDUMP   ",
    names: bool = True,
) -> bytes:
    """A kdump-compressed file (diskdump_mod.h) whose pages are stored as they are.

    From version 4 on libkdumpfile takes VMCOREINFO out of the notes alone, so there it stands too.
    """
    notes += note("VMCOREINFO", 0, info) if info and version >= 4 else b""
    last = max(pages, default=0) + 1
    bitmap = bytearray(-(-last // (8 * PAGE)) * PAGE)
    for pfn in pages:
        bitmap[pfn >> 3] |= 1 << (pfn & 7)
    fields = ("Linux", "host", "7.3.4-test", "#1", machine, "(none)") if names else ("",) * 6
    head = signature + struct.pack("<i", version)
    head += b"".join(name.encode().ljust(65, b"\0") for name in fields)
    head = head.ljust(424, b"\0")
    head += struct.pack("<iiiiI", 1, PAGE, 1, 2 * len(bitmap) // PAGE, last)
    head += struct.pack("<IIIii", 0, 0, 0, 0, 1)
    info_at = PAGE + 104
    sub = struct.pack(
        *("<QiiQQQQQQQQQQQ", 0, 31, 0, 0, 0, info_at, len(info)),
        *(info_at + len(info) if notes else 0, len(notes), 0, 0, 0, last, last),
    )
    pieces = [head.ljust(PAGE, b"\0"), (sub.ljust(104, b"\0") + info + notes).ljust(PAGE, b"\0")]
    pieces.append(bytes(bitmap) * 2)
    at = sum(map(len, pieces)) + 24 * len(pages)
    for index in range(len(pages)):
        pieces.append(struct.pack("<QIIQ", at + index * PAGE, PAGE, 0, 0))
    pieces += [pages[pfn] for pfn in sorted(pages)]
    return b"".join(pieces)


def flattened(data: bytes, piece: int = 5000, end: bool = True) -> bytes:
    """``data`` in makedumpfile's flattened format (makedumpfile.h), the pieces in reverse order."""
    header = (b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1)).ljust(4096, b"\0")
    starts = reversed(range(0, len(data), piece))
    pieces = [
        struct.pack(">qq", at, len(data[at : at + piece])) + data[at : at + piece] for at in starts
    ]
    return header + b"".join(pieces) + (struct.pack(">qq", -1, -1) if end else b"")


def patched(data: bytes, changes: Iterable[tuple[int, int]]) -> bytes:
    """``data`` with single bytes changed, each by (position, value), wrapped around its end."""
    raw = bytearray(data)
    for at, value in changes:
        raw[at % len(raw)] = value & 0xFF
    return bytes(raw)


def mftriage(
    *arguments: object,
    env: Mapping[str, str] | None = None,
    user: int | None = None,
    cwd: Path | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run the command line as its own process, with nothing of a terminal about it."""
    return subprocess.run(
        [sys.executable, "-m", "mftriage", *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        user=user,
        cwd=cwd,
        check=False,
    )


def parse_text(lines: Iterable[str]) -> list[LogRecord]:
    """The records of a saved log."""
    return list(TextLog().read(lines))
