"""A log as a file of its own: found, unpacked and read line by line, however long it is."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from mftriage.errors import DumpError, MftriageError
from mftriage.files import RandomFile, is_url
from mftriage.log import LogRecord, TextLog
from mftriage.pattern import Pattern

_BLOCK = 1 << 20
_SNIFF = 1 << 16
_MAX_LINE = 1 << 16  # a longer line is cut in pieces
_WHOLE = 8  # blocks at the start that are read in full, and at the end
_MAX_SHORT = 200_000  # lines of a block that is read in full
_DUMPS = (b"\x7fELF", b"KDUMP   ", b"makedumpfile\0")
_PACKED = ((b"\x1f\x8b", "gz"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zst"))
_PACKS = tuple(magic for magic, _ in _PACKED)
_ODD = bytes(c for c in range(32) if c not in b"\t\n\r\f\x07\x08\x1b") + b"\x7f"
_MAX_ODD = 0.05
STDIN = ("-", "/dev/stdin")

# A line that a block in the middle of a long log is kept for; the lines behind it are its context.
_NOTABLE = (
    *("rror", "ailure", "EDAC", "panic", "mce: ", "MCE", "njecting", "Oops", "BUG", "CMCI", "BERT"),
    *("oft offlin", "oft_offlin", "Linux version", "Unable to handle", "RAS: ", "protection fault"),
    *("kdump", "npoison", "cxl", "CXL", "suppressed", "oison", "{", "Booting Linux", "pgtable:"),
)
_CRASH = Pattern(r"panic|Oops|BUG|Unable to handle|Internal error|protection fault|Linux ver")
_CONTEXT, _TRACE = 8, 100  # lines
_DENSE = 500  # characters: errors that stand as close as this leave next to nothing out


class LogFile:
    """An open log; reading it once gives ``records``, after which ``text`` knows what it met."""

    def __init__(self, path: str, format: str, size_bytes: int | None, stream: BinaryIO) -> None:
        self.path = path
        self.format = format
        self.size_bytes = size_bytes
        self.text = TextLog()
        self.complete: bool | None = None
        self._stream = stream

    def records(self) -> Iterator[LogRecord]:
        """The log's records, in the file's order."""
        try:
            yield from self.text.read(_lines(self._pieces()))
        finally:
            self._stream.close()

    def _pieces(self) -> Iterator[bytes]:
        try:
            while data := self._stream.read(_BLOCK):
                yield data
        except (EOFError, ValueError):
            self.complete = False
        except OSError as error:
            if error.errno is not None:
                raise
            self.complete = False
        except Exception as error:
            # lzma.LZMAError, zlib.error and zstandard.ZstdError share no base class but Exception.
            if type(error).__name__ not in {"LZMAError", "error", "ZstdError"}:
                raise
            self.complete = False


def open_log(path: Path) -> LogFile | None:
    """The log at ``path``, or ``None`` where that is a dump, or no text at all.

    ``-`` is standard input.  Raises ``DumpError`` for a text that is no kernel log, and for
    a dump on standard input.
    """
    standard = str(path) in STDIN
    try:
        if not standard and not path.is_file():
            return None  # the dump's reader says why
        file = sys.stdin.buffer if standard else path.open("rb")
    except OSError:
        return None
    if standard and file.isatty():
        raise DumpError("no log comes from standard input", "mftriage analyze - < dmesg.txt")
    head = _peek(cast(BinaryIO, file), standard)
    if head.startswith(_DUMPS):
        if standard:
            raise DumpError(
                "a dump can't be read from standard input",
                "save it to a file: mftriage analyze FILE",
            )
        file.close()
        return None
    kind, head, stream = _unwrapped(head, cast(BinaryIO, file))
    if not head or head.startswith(_DUMPS) or not looks_like_text(head):
        if standard:
            raise DumpError(
                "what comes from standard input is empty"
                if not head
                else "what comes from standard input is no kernel log",
                "mftriage analyze - < dmesg.txt",
            )
        file.close()
        return None
    size = None if standard else path.stat().st_size
    name = "standard input" if standard else str(path)
    return LogFile(name, f"log+{kind}" if kind else "log", size, stream)


def log_in(file: RandomFile, name: str) -> LogFile | None:
    """The log in ``file``, which is called ``name``; ``None`` where it is none."""
    head = file.pread(_SNIFF, 0)
    if head.startswith(_DUMPS):
        return None
    stream = file.stream()
    stream.seek(len(head))
    kind, head, stream = _unwrapped(head, stream)
    if not head or head.startswith(_DUMPS) or not looks_like_text(head):
        return None
    return LogFile(name, f"log+{kind}" if kind else "log", file.size, stream)


def located_log(path: Path) -> Path:
    """``path``, or the log in the folder ``path`` where kdump could save no more than that."""
    try:
        if str(path) in STDIN or not path.is_dir():
            return path
    except OSError:
        return path
    from mftriage.locate import log_alone

    return log_alone(path) or path


class NotALogError(DumpError):
    """A text without a single message of a kernel."""


def peek(path: Path | str) -> bytes:
    """The first 64 KiB of a file or an object, with one layer of packing taken off.

    What can't be read is empty.
    """
    if is_url(str(path)):
        from mftriage.remote import open_remote

        try:
            remote = open_remote(str(path))
            head, file = remote.pread(_SNIFF, 0), remote.stream()
            file.seek(len(head))
            with file:
                return _unwrapped(head, file)[1] if head.startswith(_PACKS) else head
        except MftriageError:
            return b""
    try:
        with Path(path).open("rb") as file:
            return _unwrapped(_peek(file, False), file)[1]
    except OSError:
        return b""


def not_a_log() -> NotALogError:
    """The error for a text without a single message of a kernel."""
    return NotALogError(
        "this is not a crash dump (neither an ELF core nor kdump-compressed), nor a kernel log: no line of it is a kernel's",
        "name a vmcore, the folder that kdump wrote it to, or the output of dmesg",
    )


class _Rejoined:
    """A stream with what was read of it already put in front again."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes."""
        if self._head:
            wanted = len(self._head) if size < 0 else size
            data, self._head = self._head[:wanted], self._head[wanted:]
            return data + self._stream.read() if size < 0 else data
        return self._stream.read(size)

    def readable(self) -> bool:
        """Whether it can be read: for the decompressors."""
        return True

    def close(self) -> None:
        """Let go of the stream."""
        self._stream.close()


def _peek(file: BinaryIO, standard: bool) -> bytes:
    if not standard:
        try:
            return file.read(_SNIFF)
        except OSError:
            return b""
    head = b""
    while len(head) < _SNIFF and (data := os.read(file.fileno(), _SNIFF - len(head))):
        head += data
    return head


def _unpacked(stream: BinaryIO, kind: str) -> BinaryIO:
    if kind == "gz":
        import gzip

        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if kind == "xz":
        import lzma

        return cast(BinaryIO, lzma.LZMAFile(stream))
    import zstandard

    return cast(
        BinaryIO,
        zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(
            stream, read_across_frames=True
        ),
    )


def _unwrapped(head: bytes, file: BinaryIO) -> tuple[str | None, bytes, BinaryIO]:
    """How a file is packed, its first bytes without that, and all of it from there."""
    stream: BinaryIO = _Rejoined(head, file)  # type: ignore[assignment]
    kind = next((name for magic, name in _PACKED if head.startswith(magic)), None)
    if kind is None:
        return None, head, stream
    stream = _unpacked(stream, kind)
    try:
        head = stream.read(_SNIFF)
    except Exception:
        # damaged from the start, in any library's own words
        head = b""
    return kind, head, _Rejoined(head, stream)  # type: ignore[return-value]


def looks_like_text(head: bytes) -> bool:
    """Whether a file that begins so is a text."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    odd = len(head) - len(head.translate(None, _ODD))
    return odd <= _MAX_ODD * len(head)


def _lines(pieces: Iterator[bytes]) -> Iterator[str]:
    """The lines of a log: all of a short one; of a long one those that matter, its start and its end."""
    held: deque[str] = deque()
    blocks = 0
    for block in _blocks(pieces):
        blocks += 1
        if blocks <= _WHOLE:
            yield from _all(block)
            continue
        held.append(block)
        if len(held) > _WHOLE // 2:
            yield from _notable(held.popleft())
    for block in held:
        yield from _all(block)


def _all(block: str) -> Iterator[str]:
    lines = block.split("\n")
    if len(lines) > _MAX_SHORT:  # next to nothing in each line
        yield from _notable(block)
    else:
        yield from lines


def _notable(block: str) -> Iterator[str]:
    """The lines that records or crashes are made of, each with those behind it."""
    if sum(map(block.count, ("rror", "EDAC", "ailure"))) > len(block) // _DENSE:
        yield from block.split("\n")
        return
    # where each mark comes next; finding them one by one is faster than any expression for all
    ahead = {mark: at for mark in _NOTABLE if (at := block.find(mark)) >= 0}
    done = 0
    while ahead:
        at = min(ahead.values())
        start = max(block.rfind("\n", done, at) + 1, done)
        end = block.find("\n", at)
        end = len(block) if end < 0 else end
        more = _TRACE if _CRASH.search(block[start:end]) else _CONTEXT
        for _ in range(more):
            after = block.find("\n", end + 1)
            if after < 0:
                end = len(block)
                break
            end = after
        yield from block[start:end].split("\n")
        done = end
        for mark in [mark for mark, at in ahead.items() if at < done]:
            after = block.find(mark, done)
            if after < 0:
                del ahead[mark]
            else:
                ahead[mark] = after


def _blocks(pieces: Iterator[bytes]) -> Iterator[str]:
    """Whole lines of about a mebibyte, as text."""
    rest = b""
    wide = None
    for piece in pieces:
        if wide is None:
            wide = piece.startswith((b"\xff\xfe", b"\xfe\xff"))
        if wide:
            rest += piece
            continue
        at = piece.rfind(b"\n")
        if at < 0 and len(rest) < _MAX_LINE:
            rest += piece
            continue
        at = len(piece) if at < 0 else at
        yield (rest + piece[:at]).decode("utf-8", "backslashreplace")
        rest = piece[at + 1 :]
    if wide:  # what PowerShell's redirection makes
        yield rest[: 64 * _BLOCK].decode("utf-16", "replace")
    elif rest:
        yield rest.decode("utf-8", "backslashreplace")
