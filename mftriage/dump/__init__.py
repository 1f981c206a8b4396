"""Opening a dump: any format in, physical memory and notes out."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mftriage.dump.capsule import Sidecar, read_sidecar
from mftriage.dump.header import Header, Note, read_header
from mftriage.dump.kdump import KdumpMemory
from mftriage.dump.memory import (
    ElfMemory,
    PhysicalMemory,
    RecordingMemory,
)
from mftriage.dump.unpack import Progress, no_progress, unpack
from mftriage.dump.vmcoreinfo import VmcoreInfo, find_in_memory
from mftriage.errors import DumpError
from mftriage.files import LocalFile, RandomFile
from mftriage.locate import locate

__all__ = ["Dump", "open_dump", "open_remote_dump"]

# A plug-in of the host's drgn could change what a dump says, and looking for them takes 70 ms.
os.environ.setdefault("DRGN_DISABLE_PLUGINS", "*")

_X86_START_KERNEL_MAP = 0xFFFFFFFF80000000  # asm/page_64_types.h


@dataclass
class Dump:
    """An open dump.

    ``log_beside`` is the text log that kdump saved next to it; ``sidecar`` is what a capsule
    says of the dump that it was cut from (empty for any other dump).
    """

    path: str
    size_bytes: int
    format: str
    arch: str
    complete: bool
    page_size: int
    vmcoreinfo: VmcoreInfo
    notes: tuple[Note, ...]
    memory: RecordingMemory
    log_beside: Path | None
    sidecar: Sidecar
    _file: RandomFile = field(repr=False)

    @cached_property
    def image_offset(self) -> int | None:
        """What to add to a physical address in the kernel image to get its virtual address.

        x86_64: __START_KERNEL_map - phys_base (asm/page_64.h, __phys_addr_nodebug); arm64:
        kimage_voffset (asm/memory.h, __kimg_to_phys).
        """
        if self.arch == "arm64":
            return self.vmcoreinfo.number("kimage_voffset")
        phys_base = self.vmcoreinfo.number("phys_base")
        return None if phys_base is None else _X86_START_KERNEL_MAP - phys_base

    def check(self) -> None:
        """Raise the ``DumpError`` after which nothing that was read of the dump may be believed."""
        if self._file.failure is not None:
            raise self._file.failure

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def open_remote_dump(url: str, file: RandomFile, progress: Progress = no_progress) -> Dump:
    """Open the dump in ``file``, which lies at ``url``.  Raises ``DumpError``."""
    return _opened(url, None, file, progress)


def open_dump(path: Path, progress: Progress = no_progress) -> Dump:
    """Open the dump at ``path`` (a file or a folder).

    Raises ``DumpError`` with one clear sentence when there is nothing that could be read.
    """
    located = locate(path)
    try:
        file = LocalFile(located.dump.open("rb"))
    except PermissionError as error:
        raise DumpError(
            f"no permission to read {str(located.dump)!r}", "try again with sudo"
        ) from error
    except OSError as error:
        raise DumpError(
            f"can't open {str(located.dump)!r}: {error.strerror}", "check the path"
        ) from error
    try:
        return _opened(str(located.dump), located.log, file, progress)
    except OSError as error:  # a bad disk, a stale NFS handle, a file that others cut meanwhile
        file.close()
        raise DumpError(
            f"can't read {str(located.dump)!r}: {error.strerror or error}",
            "copy the dump to another disk, and try the copy",
        ) from error
    except BaseException:
        file.close()
        raise


def _opened(path: str, log: Path | None, file: RandomFile, progress: Progress) -> Dump:
    size = file.size
    unpacked = unpack(file, progress)
    file = unpacked.file
    header = read_header(file)
    vmcoreinfo = header.vmcoreinfo
    if not vmcoreinfo.values and header.segments:
        spans = [(segment.offset, segment.size) for segment in header.segments]
        vmcoreinfo = VmcoreInfo(find_in_memory(lambda at, size: file.pread(size, at), spans))
    arch = header.arch or vmcoreinfo.arch
    if arch is None:
        raise DumpError(
            "the dump does not say which architecture it is of (no machine name, no VMCOREINFO)",
            "take the dump again with VMCOREINFO (QEMU: -device vmcoreinfo, with the qemu_fw_cfg module in the guest)",
        )
    # A dump without VMCOREINFO still has registers and memory; 4 KiB is every x86_64 page.
    page_size = vmcoreinfo.page_size or 4096
    sidecar = read_sidecar(header.notes)
    return Dump(
        path=path,
        size_bytes=size,
        format="+".join(
            [("capsule" if sidecar.is_capsule else header.container), *reversed(unpacked.layers)]
        ),
        arch=arch,
        complete=unpacked.whole and file.size >= header.expected_size,
        page_size=page_size,
        vmcoreinfo=vmcoreinfo,
        notes=header.notes,
        memory=RecordingMemory(_memory(file, header), page_size),
        log_beside=log,
        sidecar=sidecar,
        _file=file,
    )


def _memory(file: RandomFile, header: Header) -> PhysicalMemory:
    if header.layout is None:
        return ElfMemory(file, header.segments)
    return KdumpMemory(file, header.layout)
