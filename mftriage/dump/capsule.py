"""The evidence capsule: the pages that an analysis read, as a vmcore of their own.

``write_capsule`` gives stock drgn a core that it opens, and mftriage one that it comes to the
same answer from.  A name that ends in ``.zst`` gets an ELF core in zstd (the smallest), one in
``.elf`` a plain ELF core; any other gets a kdump-compressed file, which is as small as a core can be that tools open as it is.  Its
bitmap covers all page frames up to the last one, so where that would weigh more than the pages
themselves (a large host), an ELF core is written instead.

What a search over the whole dump found stands in a note of its own (``Sidecar``).
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mftriage.errors import UsageError

NOTE_NAME = "MFTRIAGE"
_NOTE_TYPE = 1
_KDUMP_BLOCK_LIMIT = 1 << 20  # bytes of bitmap that a capsule may spend


@dataclass
class Sidecar:
    """What a capsule says of the dump that it was cut from.

    ``findings`` holds the results of searches by name; in an ordinary dump it starts empty and
    fills as the analysis goes on.  ``complete`` is the original's.  ``names`` are the symbols and
    types of a lean capsule (see ``mftriage.symbols.extract``).
    """

    is_capsule: bool = False
    complete: bool = True
    findings: dict[str, Any] = field(default_factory=dict)
    names: Any = None


class Note(NamedTuple):
    """An ELF note to write."""

    name: str
    type: int
    desc: bytes


class Contents(NamedTuple):
    """What goes into a capsule: pages by pfn, and the original's notes."""

    arch: str
    page_size: int
    notes: tuple[Note, ...]
    vmcoreinfo: bytes
    release: str
    pages: dict[int, bytes]


def read_sidecar(notes: Iterable[Any]) -> Sidecar:
    """The sidecar in a capsule's notes; an empty one for any other dump, or a damaged note."""
    for note in notes:
        if note.name == NOTE_NAME:
            try:
                content = json.loads(note.desc)
                findings = content["findings"]
                if isinstance(findings, dict):
                    complete = bool(content.get("complete", True))
                    return Sidecar(True, complete, findings, content.get("names"))
            except (ValueError, KeyError, TypeError, RecursionError):
                return Sidecar(True)
    return Sidecar()


def sidecar_note(sidecar: Sidecar) -> Note:
    """The note that holds ``sidecar``."""
    content = {"findings": sidecar.findings, "complete": sidecar.complete}
    if sidecar.names is not None:
        content["names"] = sidecar.names
    return Note(NOTE_NAME, _NOTE_TYPE, json.dumps(content, sort_keys=True).encode())


def write_capsule(path: Path, contents: Contents, *, force: bool = False) -> None:
    """Write a capsule to ``path``, whole or not at all.

    Raises ``UsageError`` where the file exists (without ``force``) or can't be written.
    """
    try:
        # What the name points at is replaced, not the link; and never a device or a pipe.
        path = path.resolve() if path.is_symlink() else path
        there = path.exists()
        if path.is_symlink() or (there and not path.is_file()):
            raise UsageError(f"{str(path)!r} is not a file", "choose another place with -o")
        if there and not force:
            raise UsageError(f"{str(path)!r} exists", "add --force to write over it")
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            temporary = Path(file.name)
            try:
                _write(path.suffix, contents, file.write)
                os.chmod(temporary, 0o666 & ~_umask())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        raise UsageError(
            f"can't write {str(path)!r}: {getattr(error, 'strerror', None) or error}",
            "choose another place with -o",
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write(suffix: str, contents: Contents, write: Callable[[bytes], Any]) -> None:
    if suffix == ".zst":
        import zstandard

        whole = b"".join(_elf(contents))
        write(zstandard.ZstdCompressor(level=19).compress(whole))
        return
    bitmap = max(contents.pages, default=0) // 8
    kdump = suffix != ".elf" and bitmap <= _KDUMP_BLOCK_LIMIT
    for piece in _kdump(contents) if kdump else _elf(contents):
        write(piece)


def _packed(notes: Iterable[Note]) -> bytes:
    pieces = []
    for note in notes:
        name = note.name.encode() + b"\0"
        pieces.append(struct.pack("<III", len(name), len(note.desc), note.type))
        pieces += [
            name.ljust(len(name) + 3 & ~3, b"\0"),
            note.desc.ljust(len(note.desc) + 3 & ~3, b"\0"),
        ]
    return b"".join(pieces)


def _runs(pfns: Iterable[int]) -> list[tuple[int, int]]:
    """Runs of consecutive pfns: (first, number)."""
    runs: list[tuple[int, int]] = []
    for pfn in sorted(pfns):
        if runs and runs[-1][0] + runs[-1][1] == pfn:
            runs[-1] = runs[-1][0], runs[-1][1] + 1
        else:
            runs.append((pfn, 1))
    return runs


def _elf(contents: Contents) -> Iterable[bytes]:
    """An ELF core: PT_NOTE, then one PT_LOAD a run of pages, by physical address."""
    size = contents.page_size
    notes = _packed(contents.notes)
    runs = _runs(contents.pages)
    machine = {"x86_64": 62, "arm64": 183}[contents.arch]
    headers = 64 + 56 * (1 + len(runs))
    data_at = -(-(headers + len(notes)) // size) * size
    # e_ident, ET_CORE, version 1, program headers right behind this header
    yield struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        4,
        machine,
        1,
        0,
        64,
        0,
        0,
        64,
        56,
        1 + len(runs),
        0,
        0,
        0,
    )
    yield struct.pack("<IIQQQQQQ", 4, 0, headers, 0, 0, len(notes), len(notes), 4)
    offset = data_at
    for first, count in runs:
        length = count * size
        # p_vaddr 0: where a page is mapped is what the page tables say
        yield struct.pack("<IIQQQQQQ", 1, 7, offset, 0, first * size, length, length, size)
        offset += length
    yield notes.ljust(data_at - headers, b"\0")
    for first, count in runs:
        for pfn in range(first, first + count):
            yield contents.pages[pfn]


def _kdump(contents: Contents) -> Iterable[bytes]:
    """makedumpfile's kdump-compressed format, version 6 (diskdump_mod.h), pages in zstd."""
    import zstandard

    size = contents.page_size
    pfns = sorted(contents.pages)
    notes = _packed(contents.notes)
    bitmap = bytearray(-(-(pfns[-1] + 1 if pfns else 1) // (8 * size)) * size)
    # All that the bitmap has room for; with less than half of it, it would be taken for two.
    last = 8 * len(bitmap)
    for pfn in pfns:
        bitmap[pfn >> 3] |= 1 << (pfn & 7)
    # One bitmap, of the pages in the dump: the other, of all that exist, is for partial dumps only.
    bitmap_blocks = len(bitmap) // size
    info_at = size + 104
    notes_at = info_at + len(contents.vmcoreinfo)
    sub_blocks = -(-(104 + len(contents.vmcoreinfo) + len(notes)) // size)
    machine = {"x86_64": "x86_64", "arm64": "aarch64"}[contents.arch]
    # libkdumpfile takes the machine from here only if no name is empty
    names = ("Linux", "(none)", contents.release or "(none)", "#1", machine, "(none)")
    header = struct.pack("<8si", b"KDUMP   ", 6)
    header += b"".join(name.encode()[:64].ljust(65, b"\0") for name in names)
    # padding, timeval, then status (zstd), block_size, sub_hdr_size, bitmap_blocks, max_mapnr
    header = header.ljust(424, b"\0") + struct.pack(
        "<iiiiI", 0x20, size, sub_blocks, bitmap_blocks, min(last, 0xFFFFFFFF)
    )
    header += struct.pack("<IIIii", 0, 0, 0, 0, 1)
    yield header.ljust(size, b"\0")
    sub = struct.pack(
        "<QiiQQQQQQQQQQQ",
        0,
        31,
        0,
        0,
        0,
        info_at,
        len(contents.vmcoreinfo),
        notes_at,
        len(notes),
        0,
        0,
        0,
        last,
        last,
    )
    yield (sub.ljust(104, b"\0") + contents.vmcoreinfo + notes).ljust(sub_blocks * size, b"\0")
    yield bytes(bitmap)
    compressor = zstandard.ZstdCompressor(level=19)
    packed = [compressor.compress(contents.pages[pfn]) for pfn in pfns]
    offset = (1 + sub_blocks + bitmap_blocks) * size + 24 * len(pfns)
    for data in packed:
        plain = len(data) >= size
        length = size if plain else len(data)
        yield struct.pack("<QIIQ", offset, length, 0 if plain else 0x20, 0)
        offset += length
    for pfn, data in zip(pfns, packed, strict=True):
        yield contents.pages[pfn] if len(data) >= size else data
