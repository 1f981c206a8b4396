"""Where dumps come from: a source lists what it holds, and says where to read each.

A folder here; ``mftriage.fleet.bucket`` is another kind.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Protocol

from mftriage.errors import UsageError
from mftriage.files import is_url
from mftriage.text import clean

__all__ = ["Entry", "Folder", "Source", "open_source"]

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a source, as it was listed: nothing of it has been read.

    ``name`` is its path in the source, with slashes; a folder that can't be listed has one at the
    end.  ``version`` changes with its content: the time of the last change in ns, or an ETag.
    ``modified`` is that time in seconds since 1970, endless where it is not known.  ``problem`` says why it can't be read,
    ``other`` why there is no need to: of most, both are ``None``.
    """

    name: str
    size: int
    version: int | str
    modified: float
    problem: str | None = None
    other: str | None = None

    @property
    def identity(self) -> dict[str, int | str]:
        """What tells this object from a later one of the same name, for its record."""
        kind = "mtime_ns" if isinstance(self.version, int) else "etag"
        return {"size_bytes": self.size, kind: self.version}


class Source(Protocol):
    """What holds dumps."""

    @property
    def location(self) -> str:
        """What ``open_source`` opens it by, whole."""
        ...

    def list(self) -> Iterator[Entry]:
        """Everything in it, in no order.  Raises ``UsageError`` where the source itself can't be read."""
        ...

    def local(self, name: str) -> AbstractContextManager[Path | str]:
        """Where to read the object ``name``: a local file, or a URL, for as long as the context lasts."""
        ...


def open_source(location: str) -> Source:
    """The source at ``location``: a folder, or a single file.  Raises ``UsageError``."""
    if is_url(location):
        from mftriage.fleet.bucket import Bucket

        return Bucket(location)
    if "://" in location:
        raise UsageError(
            f"there is no such kind of source: {clean(location.split('://')[0])!r}",
            "name a folder here, or s3://, gs://, az://BUCKET/PREFIX",
        )
    path = Path(location)
    try:
        return Folder(path.resolve(strict=True))
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        raise UsageError(
            f"can't look at {location[:200]!r}: {getattr(error, 'strerror', None) or error}",
            "name the folder that the dumps are in",
        ) from error


class Folder:
    """A folder with all that is below it, or a single file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root = path if path.is_dir() else path.parent

    @property
    def location(self) -> str:
        """See ``Source``."""
        return str(self._path)

    def local(self, name: str) -> AbstractContextManager[Path]:
        """See ``Source``."""
        return nullcontext(self._root / name)

    def list(self) -> Iterator[Entry]:
        """See ``Source``.

        Links are followed once all else is known: what a link leads to within the source stands
        there already.  The results of a batch are passed over.
        """
        if self._path != self._root:
            yield _entry(self._path.name, os.stat(self._path))
            return
        try:
            os.scandir(self._root).close()
        except OSError as error:
            raise UsageError(
                f"can't list {self.location!r}: {error.strerror}", "try again with sudo"
            ) from error
        walk = _Walk(str(self._root))
        yield from walk.below("")
        yield from walk.links()


class _Walk:
    """One walk through a folder, which no arrangement of links makes endless."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._folders: dict[tuple[int, int], str] = {}
        self._files: dict[tuple[int, int], str] = {}
        self._links: deque[str] = deque()

    def below(self, top: str) -> Iterator[Entry]:
        """All in the folder ``top`` (``""`` is the root, all others end in a slash)."""
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            path = os.path.join(self._root, folder)
            try:
                if self._folders.setdefault(_identity(os.stat(path)), folder) != folder:
                    continue  # the same folder, mounted twice
                with os.scandir(path) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                yield _unseen(folder, error, "list this folder")
                continue
            if folder and {"fleet.json", "results"} <= {entry.name for entry in entries}:
                continue  # what a batch wrote
            for entry in entries:
                name = folder + entry.name
                try:
                    if entry.is_symlink():
                        self._links.append(name)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(name + "/")
                    else:
                        info = entry.stat(follow_symlinks=False)
                        self._files.setdefault(_identity(info), name)
                        yield _entry(name, info)
                except OSError as error:
                    yield _unseen(name, error)

    def links(self) -> Iterator[Entry]:
        """What the links lead to that is not in the source under a name of its own."""
        while self._links:
            name = self._links.popleft()
            path = os.path.join(self._root, name)
            try:
                link = _entry(name, os.lstat(path))
            except OSError as error:
                yield _unseen(name, error)
                continue
            try:
                info = os.stat(path)
            except OSError as error:
                yield replace(link, problem=f"a link that leads nowhere: {error.strerror}")
                continue
            at, found = _identity(info), _entry(name, info)
            if not stat.S_ISDIR(info.st_mode):
                known = self._files.setdefault(at, name) if found.problem is None else name
                yield found if known == name else replace(link, other=f"a link to {known}")
            elif at not in self._folders:
                yield from self.below(name + "/")
            elif name.startswith(self._folders[at]):
                yield replace(link, problem="a link back to a folder that it lies in")
            else:
                yield replace(link, other=f"a link to {self._folders[at]}")


def _identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def _entry(name: str, info: os.stat_result) -> Entry:
    kind = next((words for is_kind, words in _KINDS if is_kind(info.st_mode)), None)
    return Entry(
        name=name,
        size=info.st_size,
        version=info.st_mtime_ns,
        modified=info.st_mtime,
        problem=f"{kind}, not a file" if kind else None,
    )


def _unseen(name: str, error: OSError, what: str = "look at it") -> Entry:
    return Entry(name, 0, 0, inf, problem=f"can't {what}: {error.strerror}")
