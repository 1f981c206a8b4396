"""A file that is read at random, wherever it is: on a disk here, or in an object store."""

from __future__ import annotations

import os
from typing import BinaryIO, Protocol

from mftriage.errors import DumpError

_SMALL = 1 << 16  # bytes that can be asked for whatever the file has
_FARTHEST = 1 << 63
_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "http", "https")


def is_url(text: str) -> bool:
    """Whether ``text`` names an object in a store, and no file here."""
    scheme, colon, rest = text.partition("://")
    return bool(colon and rest) and scheme.lower() in _SCHEMES


class RandomFile(Protocol):
    """What a dump is read from.

    ``failure`` is an error after which nothing that was read may be believed.
    """

    @property
    def failure(self) -> DumpError | None:
        """The first such error."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the file, as it is now."""
        ...

    def pread(self, size: int, offset: int) -> bytes:
        """What the file has of ``size`` bytes at ``offset``: a damaged header may ask for anything.

        Raises ``OSError`` where a disk, and ``DumpError`` where a server fails.
        """
        ...

    def stream(self) -> BinaryIO:
        """The file from its start, to be read once; closing the file closes it."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class LocalFile:
    """An open file of this machine (see ``RandomFile``)."""

    failure = None

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._fd = file.fileno()

    @property
    def size(self) -> int:
        """See ``RandomFile``; others may cut or write it meanwhile."""
        return os.fstat(self._fd).st_size

    def pread(self, size: int, offset: int) -> bytes:
        """See ``RandomFile``."""
        if size > _SMALL:
            size = min(size, self.size - offset)
        if size <= 0 or not 0 <= offset < _FARTHEST - size:
            return b""
        return os.pread(self._fd, size, offset)

    def stream(self) -> BinaryIO:
        """See ``RandomFile``."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """See ``RandomFile``."""
        self._file.close()
