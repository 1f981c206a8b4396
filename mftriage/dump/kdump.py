"""The kdump-compressed format: where each page frame lies in the file, and its bytes.

makedumpfile's diskdump_mod.h; QEMU writes it too (dump/dump.c), on arm64 in blocks of 64 KiB
whatever the page size.  Every place that the file names is checked against the file's end.
"""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from drgn import FaultError

from mftriage.files import RandomFile

_ZLIB, _LZO, _SNAPPY, _ZSTD = 0x1, 0x2, 0x4, 0x20  # DUMP_DH_COMPRESSED_*
_COMPRESSED = _ZLIB | _LZO | _SNAPPY | _ZSTD
_DESCRIPTOR = struct.Struct("<QIIQ")  # struct page_desc: offset, size, flags, page_flags
_CHUNK = 4096  # bytes of the bitmap that are counted together
_KEPT = 4 << 20  # bytes of pages that are kept unpacked


@dataclass(frozen=True)
class Layout:
    """Where the parts of the file begin: in bytes, but for ``max_mapnr`` and ``start`` (pfns).

    ``start`` is the first block of this file, where the dump is split over several.
    """

    block: int
    bitmap_at: int
    bitmap_size: int
    max_mapnr: int
    start: int = 0

    @property
    def descriptors_at(self) -> int:
        """Where the page descriptors begin."""
        return self.bitmap_at + self.bitmap_size

    @property
    def present(self) -> range:
        """The bytes of the bitmap of pages that are in the dump.

        A partial dump has two bitmaps, the first of all pages that exist; a full one has one.
        """
        half = self.bitmap_size // 2
        if 2 * ((self.max_mapnr + 7) // 8) <= self.bitmap_size:
            return range(self.bitmap_at + half, self.descriptors_at)
        return range(self.bitmap_at, self.descriptors_at)


class Place(NamedTuple):
    """Where a block lies in the file, in bytes, and how it is packed."""

    offset: int
    size: int
    flags: int


class Index:
    """Finds the blocks of a dump in ``file``."""

    def __init__(self, file: RandomFile, layout: Layout) -> None:
        self._file = file
        self._layout = layout
        self._end = file.size

    @cached_property
    def _before(self) -> list[int]:
        """For each chunk of the bitmap, the number of blocks before it; last, of all."""
        counts = [0]
        where = self._layout.present
        for at in range(where.start, min(where.stop, self._end), _CHUNK << 8):
            data = self._file.pread(min(_CHUNK << 8, where.stop - at), at)
            for start in range(0, len(data), _CHUNK):
                bits = int.from_bytes(data[start : start + _CHUNK], "little")
                counts.append(counts[-1] + bits.bit_count())
        return counts

    def __len__(self) -> int:
        """The number of blocks in the dump, as far as its bitmap is there."""
        return self._before[-1]

    def _rank(self, number: int) -> int | None:
        """How many blocks stand before this one; ``None`` if it is not in the dump."""
        where = self._layout.present
        chunk, bit = divmod(number, 8 * _CHUNK)
        if number < 0 or number >= 8 * len(where):
            return None
        data = self._file.pread(bit // 8 + 1, where.start + chunk * _CHUNK)
        if len(data) <= bit // 8 or not data[-1] >> bit % 8 & 1:
            return None
        below = int.from_bytes(data, "little") & (1 << bit) - 1
        return self._before[chunk] + below.bit_count()

    @cached_property
    def _first(self) -> int:
        start = self._layout.start
        chunk, bit = divmod(start, 8 * _CHUNK)
        if not start or chunk + 1 >= len(self._before):
            return 0
        data = self._file.pread(_CHUNK, self._layout.present.start + chunk * _CHUNK)
        below = int.from_bytes(data, "little") & (1 << bit) - 1
        return self._before[chunk] + below.bit_count()

    def find(self, number: int) -> Place | None:
        """Where a block lies; ``None`` if it is not in the dump.

        Raises ``ValueError`` where the file ends before it, or is damaged.
        """
        rank = self._rank(number)
        if rank is None or rank < self._first:
            return None
        at = self._layout.descriptors_at + _DESCRIPTOR.size * (rank - self._first)
        data = self._file.pread(_DESCRIPTOR.size, at)
        if len(data) < _DESCRIPTOR.size:
            raise ValueError("the file is cut short before its description")
        offset, size, flags, _ = _DESCRIPTOR.unpack(data)
        if not 0 < size <= self._layout.block or offset < self._layout.descriptors_at:
            raise ValueError("its description is damaged")
        if offset + size > self._end:
            raise ValueError("the file is cut short before it")
        return Place(offset, size, flags)

    def expected_size(self) -> int:
        """The end of the furthest block, by the last descriptors.

        Blocks are written in order, but for the one zero page that all zero pages share.
        """
        start = self._layout.descriptors_at
        if self._end <= start:
            return start + 1
        count = len(self) - self._first
        tail = self._file.pread(
            _DESCRIPTOR.size * min(count, 256),
            start + _DESCRIPTOR.size * max(0, count - 256),
        )
        whole = tail[: len(tail) // _DESCRIPTOR.size * _DESCRIPTOR.size]
        ends = [offset + size for offset, size, _, _ in _DESCRIPTOR.iter_unpack(whole)]
        end: int = max([start + _DESCRIPTOR.size * count, *ends])
        return end


class KdumpMemory:
    """Physical memory out of a kdump-compressed file (see ``PhysicalMemory``)."""

    def __init__(self, file: RandomFile, layout: Layout) -> None:
        self._file = file
        self._block = layout.block
        self._index = Index(file, layout)
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._kept = max(4, _KEPT // layout.block)

    def read(self, address: int, size: int) -> bytes:
        """See ``PhysicalMemory``."""
        number, offset = divmod(address, self._block)
        if offset + size <= self._block:
            return self._get(number, address)[offset : offset + size]
        pieces = []
        while size > 0:
            number, offset = divmod(address, self._block)
            piece = self._get(number, address)[offset : offset + size]
            pieces.append(piece)
            address += len(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _get(self, number: int, address: int) -> bytes:
        """A block; ``address`` is the one in it that was asked for, which an error names."""
        data = self._blocks.get(number)
        if data is not None:
            self._blocks.move_to_end(number)
            return data
        try:
            place = self._index.find(number)
            if place is None:
                raise FaultError("not in the dump", address)
            data = self._unpacked(place)
        except (OSError, ValueError, zlib.error, self._zstd_error) as error:
            raise FaultError(f"can't be read: {error}", address) from error
        self._blocks[number] = data
        if len(self._blocks) > self._kept:
            self._blocks.popitem(last=False)
        return data

    def _unpacked(self, place: Place) -> bytes:
        packed = self._file.pread(place.size, place.offset)
        if len(packed) != place.size:
            raise ValueError("the file was cut meanwhile")
        how = place.flags & _COMPRESSED
        if how & _ZSTD:
            packed = self._inflated(packed)
        elif how & _ZLIB:
            packed = zlib.decompressobj().decompress(packed, self._block)
        elif how & _LZO:
            packed = self._from_lzo(packed)
        elif how & _SNAPPY:
            packed = self._from_snappy(packed)
        if len(packed) != self._block:
            raise ValueError("it is damaged")
        return packed

    def _inflated(self, packed: bytes) -> bytes:
        """A zstd frame's content; what its header claims is checked before memory is taken for it."""
        import zstandard

        size = zstandard.get_frame_parameters(packed).content_size
        if size not in (self._block, zstandard.CONTENTSIZE_UNKNOWN):
            raise ValueError("it is damaged")
        data: bytes = self._zstd.decompress(packed, max_output_size=self._block)
        return data

    def _from_lzo(self, packed: bytes) -> bytes:
        """LZO1X, without a header: what makedumpfile -l writes."""
        from lzallright import InputNotConsumed, LZOCompressor, LZOError

        try:
            data: bytes = LZOCompressor.decompress(packed, output_size_hint=self._block)
        except (LZOError, InputNotConsumed) as error:
            raise ValueError("it is damaged") from error
        return data

    def _from_snappy(self, packed: bytes) -> bytes:
        """A raw block of snappy (format_description.txt): its length as a varint, then the data."""
        from cramjam import DecompressionError, snappy

        try:
            if snappy.decompress_raw_len(packed) != self._block:
                raise ValueError("it is damaged")
            return bytes(snappy.decompress_raw(packed))
        except DecompressionError as error:
            raise ValueError("it is damaged") from error

    @cached_property
    def _zstd(self) -> Any:
        import zstandard

        return zstandard.ZstdDecompressor()

    @cached_property
    def _zstd_error(self) -> type[Exception]:
        import zstandard

        return zstandard.ZstdError
