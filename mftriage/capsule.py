"""Cutting a capsule out of an analysis: which pages, and which of them must stay out."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from drgn import FaultError

from mftriage.dump.capsule import NOTE_NAME, Contents, Note, Sidecar, sidecar_note, write_capsule
from mftriage.kernel.memmap import MemoryMap
from mftriage.symbols import Kernel
from mftriage.triage import Analysis

# Registers as QEMU has them.  libkdumpfile walks page tables from their CR3, a process's, whose
# tables a capsule does not hold; without the note it starts from the kernel's own.
_QEMU = "QEMU"
_MAX_TABLE = 64 << 20  # bytes


def write(analysis: Analysis, path: Path, *, lean: bool = False, force: bool = False) -> None:
    """Write the capsule of ``analysis`` to ``path``.

    With ``lean`` the type and symbol tables stay out, but for the names and types that the
    analysis used.  Pages of user space never go in.
    Raises ``UsageError`` where it can't be written.
    """
    kernel, dump = analysis.kernel, analysis.dump
    pfns = set(dump.memory.pfns)
    tables = _table_pfns(kernel)
    pfns = pfns - tables if lean else pfns | tables
    pages: dict[int, bytes] = {}
    for pfn in pfns - _user_pages(kernel, pfns):
        try:
            pages[pfn] = dump.memory.page(pfn)
        except FaultError:
            continue
    notes = [Note(n.name, n.type, n.desc) for n in dump.notes if n.name not in (NOTE_NAME, _QEMU)]
    if not any(n.name == "VMCOREINFO" for n in notes):
        notes.append(Note("VMCOREINFO", 0, dump.vmcoreinfo.raw))
    names = kernel.extract() if kernel.extract and (lean or not tables) else None
    notes.append(sidecar_note(Sidecar(True, dump.complete, dump.sidecar.findings, names)))
    write_capsule(
        path,
        Contents(
            arch=dump.arch,
            page_size=dump.page_size,
            notes=tuple(notes),
            vmcoreinfo=dump.vmcoreinfo.raw,
            release=dump.vmcoreinfo.release or "",
            pages=pages,
        ),
        force=force,
    )


def content(analysis: Analysis, *, lean: bool = False) -> bytes:
    """Return the capsule of ``analysis`` as an ELF core in zstd: what is attached to a ticket."""
    with TemporaryDirectory(prefix="mftriage-") as folder:
        path = Path(folder, "capsule.elf.zst")
        write(analysis, path, lean=lean)
        return path.read_bytes()


def _table_pfns(kernel: Kernel) -> set[int]:
    """The page frames of the type and symbol tables, which lie in the kernel image."""
    offset = kernel.dump.image_offset
    if offset is None:
        return set()
    shift = kernel.dump.page_size.bit_length() - 1
    pfns: set[int] = set()
    for address, length in kernel.tables():
        if not 0 < length <= _MAX_TABLE:  # damaged
            continue
        first = address - offset & (1 << 64) - 1
        pfns.update(range(first >> shift, (first + length - 1 >> shift) + 1))
    return pfns


def _user_pages(kernel: Kernel, pfns: set[int]) -> set[int]:
    """Those of ``pfns`` that hold user data: anonymous memory, page cache, huge pages."""
    try:
        memory_map = MemoryMap(kernel)
    except LookupError:
        return set()
    found: set[int] = set()
    with kernel.dump.memory.unrecorded():
        for pfn in pfns:
            try:
                page = memory_map.read(pfn)
                if page is None:
                    continue
                head = memory_map.read(page.head) if page.is_tail else page
            except FaultError:
                continue
            if head is not None and (
                memory_map.type_of(head) == "hugetlb"
                or (memory_map.type_of(head) is None and memory_map.has_flag(head, "lru"))
            ):
                found.add(pfn)
    return found
