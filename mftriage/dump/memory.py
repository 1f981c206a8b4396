"""Physical memory out of a dump, and the record of which pages were read.

That record is the evidence capsule: see ``mftriage.dump.capsule``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from drgn import Architecture, FaultError, Platform

from mftriage.dump.header import Segment
from mftriage.files import RandomFile

_PLATFORMS = {"x86_64": Architecture.X86_64, "arm64": Architecture.AARCH64}


def platform_of(arch: str) -> Platform:
    """drgn's platform for an architecture name of the JSON contract."""
    return Platform(_PLATFORMS[arch])


class PhysicalMemory(Protocol):
    """Where bytes at physical addresses come from."""

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``.  Raises ``FaultError`` if any of them is not in the dump."""
        ...


class ElfMemory:
    """The PT_LOADs of an ELF core, by physical address.

    drgn reads these too; this reader costs less and treats a cut file as missing memory.
    """

    def __init__(self, file: RandomFile, segments: tuple[Segment, ...]) -> None:
        self._pread = file.pread
        self._segments = _apart(segments)
        self._starts = [s.physical_address for s in self._segments]

    def read(self, address: int, size: int) -> bytes:
        """See ``PhysicalMemory``."""
        pieces = []
        while size > 0:
            at = bisect_right(self._starts, address) - 1
            if at < 0:
                raise FaultError("not in the dump", address)
            segment = self._segments[at]
            offset = address - segment.physical_address
            length = min(size, segment.size - offset)
            try:
                data = self._pread(length, segment.offset + offset)
            except (OSError, OverflowError) as error:  # an offset that no file has; a bad disk
                raise FaultError(f"can't be read: {error}", address) from error
            if not data or len(data) != length:
                raise FaultError("not in the dump", address)
            pieces.append(data)
            address += length
            size -= length
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _apart(segments: tuple[Segment, ...]) -> list[Segment]:
    """The segments in order, what two of them hold given to one.

    /proc/vmcore of x86_64 has the kernel image twice (kernel/crash_core.c,
    crash_prepare_elf64_headers): as a segment of its own, and within that of the RAM around it.
    """
    apart: list[Segment] = []
    end = 0
    for segment in sorted(segments):
        known = max(0, end - segment.physical_address)
        if known < segment.size:
            address, offset, size = segment
            apart.append(Segment(address + known, offset + known, size - known))
            end = address + size
    return apart


class RecordingMemory:
    """Another memory, with the page frames that were read from it remembered."""

    def __init__(self, source: PhysicalMemory, page_size: int) -> None:
        self._source = source
        self._shift = page_size.bit_length() - 1
        self.recording = True
        self.pfns: set[int] = set()

    def segment(self, address: int, size: int, _offset: int, _physical: bool) -> bytes:
        """The reader that ``Program.add_memory_segment`` wants."""
        data = self._source.read(address, size)
        if self.recording:
            first, last = address >> self._shift, (address + size - 1) >> self._shift
            if first == last:
                self.pfns.add(first)
            else:
                self.pfns.update(range(first, last + 1))
        return data

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at the physical ``address``, recorded like any other read."""
        return self.segment(address, size, 0, True)

    def holds(self, pfn: int) -> bool:
        """Whether the page's content is in the dump; the look itself is not recorded."""
        if pfn << self._shift >> 64:  # a log can claim any pfn
            return False
        try:
            return bool(self._source.read(pfn << self._shift, 1 << self._shift))
        except FaultError:
            return False

    def page(self, pfn: int) -> bytes:
        """A whole page's content, not recorded.  Raises ``FaultError`` if it is not in the dump."""
        return self._source.read(pfn << self._shift, 1 << self._shift)

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Reads within leave no trace: for scans, whose misses prove nothing."""
        before, self.recording = self.recording, False
        try:
            yield
        finally:
            self.recording = before
