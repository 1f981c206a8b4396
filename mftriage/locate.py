"""From what the user typed to the file to open."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from mftriage.errors import DumpError

# kdump-tools and kexec-tools, kdump-utils (Fedora, RHEL, SUSE), Ubuntu's dump.DATE
_NAMES = (
    *("vmcore", "vmcore.flat", "dump.*", "vmcore.*", "*.vmcore", "*.kdump"),
    *("vmcore-incomplete", "dump-incomplete"),
)
_LOGS = ("vmcore-dmesg.txt", "dmesg.txt", "dmesg.*", "vmcore-dmesg-incomplete.txt")
_REPORTS = (".json", ".txt", ".html", ".md")


@dataclass(frozen=True)
class Located:
    """A dump, and the log that kdump saved beside it, if any."""

    dump: Path
    log: Path | None


def locate(path: Path) -> Located:
    """The dump at ``path``: a file, or a folder such as /var/crash/DATE/.

    Raises ``DumpError`` when there is none, or it can't be opened.
    """
    try:
        if path.is_dir():
            os.scandir(path).close()  # glob() takes a folder that it may not read for an empty one
            return Located(_in_folder(path), _log_beside(path))
        if not path.exists():
            raise DumpError(f"there is no file {str(path)!r}", "check the path")
        if not path.is_file():
            raise DumpError(
                f"{str(path)!r} is neither a file nor a folder",
                "name a vmcore, or the folder that kdump wrote it to",
            )
    except PermissionError as error:
        raise DumpError(f"no permission to look at {str(path)!r}", "try again with sudo") from error
    except OSError as error:
        raise DumpError(
            f"can't look at {str(path)[:200]!r}: {error.strerror}", "check the path"
        ) from error
    return Located(path, _saved_with(path))


def is_dump_name(name: str) -> bool:
    """Whether a file of this name is called a dump by those who write them."""
    return not name.endswith(_REPORTS) and any(fnmatchcase(name, like) for like in _NAMES)


def is_saved_log(name: str) -> bool:
    """Whether a file of this name is what kdump calls the log that it saves with a dump."""
    return any(fnmatchcase(name, like) for like in _LOGS)


def log_of(dump: str, names: Collection[str]) -> str | None:
    """The log that was saved with the dump of this name, where ``names`` are those in its folder."""
    if dump.startswith("dump."):  # kdump-tools write dump.DATE and dmesg.DATE
        log = dump.replace("dump.", "dmesg.", 1)
        return log if log in names else None
    if not dump.startswith("vmcore"):
        return None
    return next((n for like in _LOGS for n in sorted(names) if fnmatchcase(n, like)), None)


def _saved_with(dump: Path) -> Path | None:
    if not dump.name.startswith(("vmcore", "dump.")):
        return None  # nobody's log: spare the look at what may be a large folder
    try:
        with os.scandir(dump.parent) as beside:
            log = log_of(dump.name, [entry.name for entry in beside if entry.is_file()])
    except OSError:
        return None
    return None if log is None else dump.parent / log


def log_alone(folder: Path) -> Path | None:
    """The log in a folder that has no dump, if there is one."""
    try:
        _in_folder(folder)
    except DumpError:
        return _log_beside(folder)
    except OSError:
        return None
    return None


def _in_folder(folder: Path) -> Path:
    for pattern in _NAMES:
        found = sorted(
            p
            for p in folder.glob(pattern)
            if p.is_file() and p not in _logs(folder) and p.suffix not in _REPORTS
        )
        if found:
            return found[0]
    below = sorted(p.parent.name for p in folder.glob("*/vmcore*"))
    raise DumpError(
        f"there is no vmcore in the folder {str(folder)!r}",
        f"try {str(folder / below[-1])!r}"
        if below
        else "name the folder that kdump wrote to, such as /var/crash/DATE",
    )


def _logs(folder: Path) -> list[Path]:
    return [p for name in _LOGS for p in sorted(folder.glob(name)) if p.is_file()]


def _log_beside(folder: Path) -> Path | None:
    return next(iter(_logs(folder)), None)
