"""Dumps that come wrapped: .gz, .xz, .zst, and makedumpfile's flattened format.

A dump is read at random, so a wrapped one is laid out in a temporary file first (holes stay
holes).  The temporary file has no name and goes away with its descriptor.
"""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from typing import BinaryIO, cast

from mftriage.errors import DumpError
from mftriage.files import LocalFile, RandomFile

_CHUNK = 1 << 20
_FLATTENED = b"makedumpfile\0\0\0\0"
_MAGICS = ((b"\x1f\x8b", "gz"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zst"))
_MAX_LAYERS = 4
_DUMPS = (b"\x7fELF", b"KDUMP   ", _FLATTENED, *(prefix for prefix, _ in _MAGICS))
# A kilobyte can unpack to a terabyte of zeros.  No dump is longer than this, in bytes; what is
# packed hardly packs further; and zeros behind the end that the dump's header names are not its.
_MAX_SIZE = 64 << 40
_MAX_TWICE, _MAX_RATIO_TWICE = 64 << 20, 64
_MANY_ZEROS = 1 << 30
# Whatever a file unpacks to, others find room beside it: looked at each time so much is written.
_SHARE, _RESERVE = 64 << 20, 512 << 20

Progress = Callable[[str, int, int], None]


def no_progress(label: str, done: int, total: int) -> None:
    """A ``Progress`` that nobody sees."""


class Unpacked:
    """An open dump: its file, the names of the layers taken off, and whether all of it was there."""

    def __init__(self, file: RandomFile) -> None:
        self.file = file
        self.layers: list[str] = []
        self.whole = True


def unpack(file: RandomFile, progress: Progress) -> Unpacked:
    """Take compression and flattening off ``file`` until a plain dump is left.

    ``progress`` is called with a label, bytes read and bytes in all.  What can be read of a cut
    file is kept (``whole`` is then false).  Raises ``DumpError`` when the temporary file can't be written.
    """
    result = Unpacked(file)
    for _ in range(_MAX_LAYERS):
        magic = result.file.pread(16, 0)
        kind = next((name for prefix, name in _MAGICS if magic.startswith(prefix)), None)
        if kind:
            _into_temporary(result, kind, _decompressed(result, kind, progress))
        elif magic == _FLATTENED:
            _into_temporary(result, "flattened", _unflattened(result, progress))
        else:
            break
    return result


def _into_temporary(result: Unpacked, layer: str, pieces: Iterator[tuple[int, bytes]]) -> None:
    try:
        target = cast(BinaryIO, tempfile.TemporaryFile(prefix="mftriage-"))  # noqa: SIM115
    except OSError as error:
        raise DumpError(
            f"can't make a temporary file to unpack the dump into: {error.strerror}",
            "set TMPDIR to a folder with room for the whole dump",
        ) from error
    end, zeros, written, limit = 0, 0, 0, _MAX_SIZE
    try:
        for offset, data in pieces:
            if offset == 0 and layer != "flattened":  # whose pieces have any order
                limit = _limit(data, result.file.size)
            end = max(end, offset + len(data))
            if end > limit:
                raise DumpError(
                    f"this file unpacks to more than {limit:,} bytes, and no dump of its size does",
                    "copy the dump again",
                )
            if data.count(0) != len(data):  # a hole reads as zeros
                os.pwrite(target.fileno(), data, offset)
                zeros = 0
                written += len(data)
                if written >= _SHARE:
                    _leave_room(target.fileno())
                    written = 0
                continue
            zeros += len(data)
            if zeros > _MANY_ZEROS and layer != "flattened":
                os.ftruncate(target.fileno(), end)
                if offset >= _declared(LocalFile(target)):
                    break
                zeros = 0
        os.ftruncate(target.fileno(), end)
    except DumpError:
        target.close()
        raise
    except (OSError, OverflowError) as error:
        target.close()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DumpError(
                f"no space left in {tempfile.gettempdir()} to unpack the dump",
                "set TMPDIR to a folder with room for the whole dump",
            ) from error
        raise DumpError(f"can't unpack the dump: {error}", "copy the dump again") from error
    result.file.close()
    result.file = LocalFile(target)
    result.layers.append(layer)


def _leave_room(fd: int) -> None:
    """Raise what a full file system would, before it is full."""
    system = os.fstatvfs(fd)
    if system.f_bavail < min(_RESERVE // system.f_frsize, system.f_blocks // 20):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _limit(start: bytes, packed: int) -> int:
    """The most bytes to unpack, by the first ones.  Raises ``DumpError`` where they are of no dump."""
    if not any(start.startswith(magic) or magic.startswith(start) for magic in _DUMPS):
        raise DumpError(
            "this is not a crash dump (neither an ELF core nor kdump-compressed, once unpacked)",
            "name a vmcore, or the folder that kdump wrote it to",
        )
    if any(start.startswith(magic) for magic, _ in _MAGICS):
        return _MAX_TWICE + _MAX_RATIO_TWICE * packed
    return _MAX_SIZE


def _declared(file: RandomFile) -> int:
    """The size that the dump's own header names, as far as it is unpacked."""
    from mftriage.dump.header import read_header

    head = file.pread(64, 0)
    packed = head.startswith((_FLATTENED, *(prefix for prefix, _ in _MAGICS)))
    # An ELF core of so many segments says how many in a table that may stand at its end.
    if packed or (head.startswith(b"\x7fELF") and head[56:58] == b"\xff\xff"):
        return _MAX_SIZE
    return read_header(file).expected_size


def _decompressed(result: Unpacked, kind: str, progress: Progress) -> Iterator[tuple[int, bytes]]:
    total = result.file.size
    source = result.file.stream()
    at = 0
    try:
        with _opened(source, kind) as stream:
            # read1(), since read() loses what stands in front of a cut
            while data := stream.read1(_CHUNK):
                yield at, data
                at += len(data)
                progress("unpacking", source.tell(), total)
        if kind == "zst":  # whose reader takes a cut for the end
            result.whole = result.whole and _ends_with_a_frame(result.file, total)
    except OSError as error:
        if error.errno is not None:
            raise
        result.whole = False  # gzip and zstandard report damaged data as an OSError without errno
    except (EOFError, ValueError) as _cut:
        result.whole = False
    except Exception as error:
        # lzma.LZMAError, zlib.error and zstandard.ZstdError share no base class but Exception.
        if type(error).__name__ not in {"LZMAError", "error", "ZstdError"}:
            raise
        if "not enough memory" in str(error) or "Error -4 " in str(error):  # Z_MEM_ERROR
            raise MemoryError from error
        result.whole = False


def _opened(source: BinaryIO, kind: str) -> BufferedIOBase:
    if kind == "gz":
        import gzip

        return gzip.GzipFile(fileobj=source)
    if kind == "xz":
        import lzma

        return lzma.LZMAFile(source)
    import zstandard

    # --long=31 is what people use for dumps
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    return cast(
        BufferedIOBase, decompressor.stream_reader(source, read_across_frames=True, closefd=False)
    )


def _ends_with_a_frame(file: RandomFile, total: int) -> bool:
    """Whether a zstd file ends where its last frame does (RFC 8878, 3.1): by the sizes of the blocks."""
    import zstandard

    at = 0
    while at < total:
        head = file.pread(18, at)
        if head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:  # skippable
            at += 8 + int.from_bytes(head[4:8], "little")
            continue
        checksum = 4 * zstandard.get_frame_parameters(head).has_checksum
        at += zstandard.frame_header_size(head)
        last = 0
        while not last:
            block = int.from_bytes(file.pread(3, at), "little")
            last, run, size = block & 1, block >> 1 & 3 == 1, block >> 3
            at += 3 + (1 if run else size)
            if at > total:
                return False
        at += checksum
    return at == total


def _unflattened(result: Unpacked, progress: Progress) -> Iterator[tuple[int, bytes]]:
    """makedumpfile.h: a 4096-byte header, then big-endian {int64 offset, int64 size}, data; -1, -1 ends."""
    source = result.file
    total = source.size
    at = 4096
    while True:
        header = source.pread(16, at)
        if len(header) < 16:
            break
        offset, size = struct.unpack(">qq", header)
        if offset == -1:
            return
        if offset < 0 or size < 0 or at + 16 + size > total:
            break
        at += 16
        for done in range(0, size, _CHUNK):
            data = source.pread(min(_CHUNK, size - done), at + done)
            yield offset + done, data
        at += size
        progress("unpacking", at, total)
    result.whole = False
