"""What a dump's first bytes say: its format, its architecture, its notes, and how long it should be.

ELF cores: /proc/vmcore, makedumpfile -E, QEMU's dump-guest-memory, virsh dump.
kdump-compressed: makedumpfile's diskdump_mod.h (struct disk_dump_header, struct kdump_sub_header),
which QEMU writes too (dump/dump.c), with a machine that is empty, or "Unknown" on arm64.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mftriage.dump.kdump import Index, Layout
from mftriage.dump.vmcoreinfo import VmcoreInfo
from mftriage.errors import DumpError
from mftriage.files import RandomFile

Container = Literal["elf", "kdump"]

_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
_UNNAMED = ("", "Unknown")  # QEMU's, which then stands in VMCOREINFO
_ELF_MACHINES = {62: "x86_64", 183: "arm64"}  # EM_X86_64, EM_AARCH64
_PT_LOAD, _PT_NOTE, _PN_XNUM = 1, 4, 0xFFFF
_MAX_NOTES = 64 << 20
_KDUMP_SIGNATURE = b"KDUMP   "


class Note(NamedTuple):
    """One ELF note."""

    name: str
    type: int
    desc: bytes


class Segment(NamedTuple):
    """A run of physical memory in the file: all in bytes."""

    physical_address: int
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """A dump as its header describes it.

    ``expected_size`` is the least number of bytes that a whole file would have; ``segments``
    are an ELF core's PT_LOADs, ``layout`` is that of a kdump-compressed file.
    """

    container: Container
    arch: str | None
    notes: tuple[Note, ...]
    vmcoreinfo: VmcoreInfo
    expected_size: int
    segments: tuple[Segment, ...] = field(default=(), repr=False)
    layout: Layout | None = None


def read_header(file: RandomFile) -> Header:
    """Read the header of the dump in ``file``.  Raises ``DumpError`` for what is no dump."""
    magic = file.pread(16, 0)
    if not magic:
        raise DumpError("the file is empty", "copy the dump again: nothing of it arrived here")
    if magic.startswith(b"\x7fELF"):
        return _elf(file, magic)
    if magic.startswith(_KDUMP_SIGNATURE):
        return _kdump(file)
    raise DumpError(
        "this is not a crash dump (neither an ELF core nor kdump-compressed)",
        "name a vmcore, or the folder that kdump wrote it to",
    )


def parse_notes(data: bytes) -> tuple[Note, ...]:
    """The notes in ``data``, as far as they are whole (ELF gABI, "Note Section"; 4-byte aligned)."""
    notes = []
    at = 0
    while at + 12 <= len(data):
        name_size, desc_size, note_type = struct.unpack_from("<III", data, at)
        desc_at = at + 12 + (name_size + 3 & ~3)
        if desc_at + desc_size > len(data):
            break
        name = data[at + 12 : at + 12 + name_size].split(b"\0", 1)[0].decode("ascii", "replace")
        notes.append(Note(name, note_type, data[desc_at : desc_at + desc_size]))
        at = desc_at + (desc_size + 3 & ~3)
    return tuple(notes)


def _vmcoreinfo(notes: tuple[Note, ...]) -> VmcoreInfo:
    return VmcoreInfo(next((n.desc for n in notes if n.name == "VMCOREINFO"), b""))


def _elf(file: RandomFile, magic: bytes) -> Header:
    if magic[4:6] != b"\x02\x01":
        raise DumpError(
            "this is a 32-bit or big-endian ELF file",
            "mftriage reads dumps of x86_64 and arm64 machines only",
        )
    header = file.pread(64, 0)
    if len(header) < 64:
        raise DumpError("the dump is cut short within its ELF header", "copy the dump again")
    elf_type, machine = struct.unpack_from("<HH", header, 16)
    phoff, shoff = struct.unpack_from("<QQ", header, 32)
    phentsize, phnum = struct.unpack_from("<HH", header, 54)
    if elf_type != 4:  # ET_CORE
        raise DumpError(
            "this is an ELF file but no core",
            "name the vmcore; a vmlinux goes behind -s",
        )
    if machine not in _ELF_MACHINES:
        raise DumpError(
            f"this dump is of an architecture that mftriage does not know (ELF machine {machine})",
            "mftriage reads dumps of x86_64 and arm64 machines",
        )
    if phnum == _PN_XNUM:  # the real number stands in section 0's sh_info
        section = file.pread(64, shoff)
        phnum = struct.unpack_from("<I", section, 44)[0] if len(section) == 64 else 0
    table = file.pread(phnum * phentsize, phoff) if phentsize >= 56 else b""
    segments, notes, expected = [], b"", phoff + phnum * phentsize
    for at in range(0, len(table) - 55, max(phentsize, 56)):
        kind, _, offset, _, paddr, size, _ = struct.unpack_from("<IIQQQQQ", table, at)
        expected = max(expected, offset + size)
        if kind == _PT_LOAD and size:
            segments.append(Segment(paddr, offset, size))
        elif kind == _PT_NOTE:
            notes += file.pread(min(size, _MAX_NOTES - len(notes)), offset)
    parsed = parse_notes(notes)
    return Header(
        container="elf",
        arch=_ELF_MACHINES[machine],
        notes=parsed,
        vmcoreinfo=_vmcoreinfo(parsed),
        expected_size=expected,
        segments=tuple(sorted(segments)),
    )


def _kdump(file: RandomFile) -> Header:
    main = file.pread(464, 0)
    # signature 8, header_version 4, utsname 6*65 (machine is the fifth), padding 6, timeval 16,
    # status, block_size, sub_hdr_size, bitmap_blocks, max_mapnr (all 4 bytes)
    if len(main) < 464:
        raise DumpError("the dump is cut short within its header", "copy the dump again")
    version = struct.unpack_from("<i", main, 8)[0]
    machine = main[12 + 4 * 65 : 12 + 5 * 65].split(b"\0", 1)[0].decode("ascii", "replace")
    _, block_size, sub_blocks, bitmap_blocks, max_mapnr = struct.unpack_from("<iiiiI", main, 424)
    if not 512 <= block_size <= 1 << 20 or sub_blocks < 0 or bitmap_blocks < 0:
        raise DumpError("the dump's header is damaged (block sizes)", "copy the dump again")
    sub = file.pread(104, block_size)
    notes: tuple[Note, ...] = ()
    vmcoreinfo = VmcoreInfo(b"")
    if version >= 3 and len(sub) >= 48:
        offset, size = struct.unpack_from("<QQ", sub, 32)
        if offset:
            vmcoreinfo = VmcoreInfo(file.pread(min(size, _MAX_NOTES), offset))
    if version >= 4 and len(sub) >= 64:
        offset, size = struct.unpack_from("<QQ", sub, 48)
        if offset:
            notes = parse_notes(file.pread(min(size, _MAX_NOTES), offset))
    if not vmcoreinfo.values:
        vmcoreinfo = _vmcoreinfo(notes)
    start = struct.unpack_from("<Q", sub, 16)[0] if version >= 2 and len(sub) >= 32 else 0
    if version >= 6 and len(sub) >= 104:
        start, _, max_mapnr = struct.unpack_from("<QQQ", sub, 80)
    split = struct.unpack_from("<i", sub, 12)[0] if version >= 2 and len(sub) >= 16 else 0
    if machine not in _MACHINES and machine not in _UNNAMED:
        raise DumpError(
            f"this dump is of an architecture that mftriage does not know ({machine!r})",
            "mftriage reads dumps of x86_64 and arm64 machines",
        )
    layout = Layout(
        block=block_size,
        bitmap_at=(1 + max(sub_blocks, 0)) * block_size,
        bitmap_size=max(bitmap_blocks, 0) * block_size,
        max_mapnr=max_mapnr,
        start=start if split else 0,
    )
    return Header(
        container="kdump",
        arch=_MACHINES.get(machine) or vmcoreinfo.arch,
        notes=notes,
        vmcoreinfo=vmcoreinfo,
        expected_size=Index(file, layout).expected_size(),
        layout=layout,
    )
