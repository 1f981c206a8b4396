"""The folder that a batch writes to: where each file lies, how it is written, who may write.

fleet.json                   the layout's number, and the source that the results are of
results/KK/KEY.json          the commit record of one dump: written last, so it vouches for the rest
reports/KK/KEY.json, .html   its triage and its page
capsules/KK/KEY.elf.zst      its evidence capsule
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mftriage.errors import UsageError

__all__ = ["ARTIFACTS", "LAYOUT", "Layout", "write_whole"]

LAYOUT = 1
ARTIFACTS = {".json": "reports", ".html": "reports", ".elf.zst": "capsules"}
_PATIENCE = 2.0  # seconds: the workers of a batch that was killed are gone by then


class Layout:
    """The files of the folder ``root``, by the key of their dump."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def results(self) -> Path:
        """Where the commit records are."""
        return self.root / "results"

    def record(self, key: str) -> Path:
        """The commit record of a dump."""
        return self.results / key[:2] / f"{key}.json"

    def artifact(self, key: str, suffix: str) -> Path:
        """What was made of a dump: ``suffix`` is a key of ``ARTIFACTS``."""
        return self.root / ARTIFACTS[suffix] / key[:2] / f"{key}{suffix}"

    def adopt(self, source: str) -> None:
        """Make the folder, or make sure that it is one of this layout and of ``source``.

        Raises ``UsageError``.
        """
        marker = self.root / "fleet.json"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            known = _read(marker)
            if known is None:
                if any(name != ".lock" for name in os.listdir(self.root)):
                    raise UsageError(
                        f"{str(self.root)!r} is not empty, and not the folder of a batch",
                        "name a new folder: --out DIR",
                    )
                self.results.mkdir()
                write_whole(marker, json.dumps({"layout": LAYOUT, "source": source}).encode())
                return
        except OSError as error:
            raise unwritable(self.root, error) from error
        self.check()
        if known.get("source") != source:
            raise UsageError(
                f"{str(self.root)!r} has the results of {known.get('source')!r}",
                "give each source a folder of its own: --out DIR (if it has only moved, change fleet.json)",
            )

    def check(self) -> None:
        """Make sure that the folder is one of a batch, and of this layout.  Raises ``UsageError``."""
        known = _read(self.root / "fleet.json")
        if known is None:
            raise UsageError(
                f"{str(self.root)!r} is not the folder of a batch",
                "mftriage batch SOURCE --out DIR",
            )
        if known.get("layout") != LAYOUT:
            raise UsageError(
                f"{str(self.root)!r} has the layout {known.get('layout')!r}, and this mftriage knows {LAYOUT}",
                "upgrade mftriage, or name a new folder",
            )

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the folder alone.  Gives the lock's descriptor; raises ``UsageError``.

        The kernel lets go of it when the last process that has the descriptor ends, however it
        ends.  Workers inherit it, so that a batch never meets those of its predecessor.
        """
        try:
            fd = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise unwritable(self.root, error) from error
        try:
            deadline = time.monotonic() + _PATIENCE
            while not _take(fd):
                if time.monotonic() > deadline:
                    who = os.pread(fd, 200, 0).decode(errors="replace").strip()
                    raise UsageError(
                        f"another batch is at work on {str(self.root)!r}: {who}",
                        "wait until it has ended, or name another folder",
                    )
                time.sleep(0.05)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            yield fd
        finally:
            os.close(fd)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, even when the power fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise


def unwritable(path: Path, error: OSError) -> UsageError:
    """The error for a place that can't be written."""
    return UsageError(
        f"can't write to {str(path)!r}: {error.strerror}",
        "make room there, or choose another place with --out",
    )


def _read(marker: Path) -> dict[str, object] | None:
    try:
        content = json.loads(marker.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _take(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
