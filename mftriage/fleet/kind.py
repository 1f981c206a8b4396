"""Which files in a bucket are plainly something else than a dump or a kernel's log.

Only what is known for something else is passed over.  What nobody can tell is taken for a dump
that can't be read, because to miss one is worse than to name a file too many.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from mftriage.locate import is_dump_name, is_saved_log, log_of
from mftriage.logfile import looks_like_text, peek

__all__ = ["claims", "companions", "something_else"]

_CAPTURE_LOG = "kexec-dmesg.log"  # the kernel's that saved the dump (kdump-utils)

_PACKED = (".gz", ".xz", ".zst")
_SUFFIXES = {
    **dict.fromkeys((".html", ".htm", ".md", ".rst", ".pdf"), "a document"),
    **dict.fromkeys((".sha1", ".sha256", ".sha512", ".md5", ".sum"), "a checksum"),
    **dict.fromkeys((".asc", ".sig", ".sign", ".minisig"), "a signature"),
    **dict.fromkeys((".xml", ".yaml", ".yml", ".toml", ".ini", ".conf", ".csv"), "data"),
    **dict.fromkeys((".parquet", ".sqlite", ".db"), "data"),
    **dict.fromkeys((".py", ".sh", ".c", ".h", ".js", ".css"), "a program's source"),
    **dict.fromkeys((".png", ".svg", ".jpg", ".gif"), "a picture"),
    **dict.fromkeys((".tar", ".tgz", ".txz", ".zip", ".7z", ".cpio"), "an archive"),
    **dict.fromkeys((".deb", ".rpm", ".ko", ".debug", ".so"), "a binary or package"),
}
_NAMES = {
    **dict.fromkeys(("README*", "LICENSE*", "CHANGELOG*", "Makefile"), "a document"),
    **dict.fromkeys(("*SUMS", "*SUM", "CHECKSUM*"), "a checksum"),
    **dict.fromkeys(("vmlinux*", "vmlinuz*", "System.map*", "config-*", "initrd*"), "a kernel's file"),
    **dict.fromkeys((".*",), "hidden"),
    **dict.fromkeys(("_SUCCESS", "*.lock", "*.done", "*.ok"), "a marker"),
}  # fmt: skip
_LOG_NAMES = ("*dmesg*", "kern.log*", "messages*", "syslog*", "*console*", "*journal*", "*.log")
_MAGICS = (
    *((b"PK\3\4", "an archive"), (b"!<arch>\n", "an archive"), (b"7z\xbc\xaf", "an archive")),
    *((b"\x89PNG", "a picture"), (b"\xff\xd8\xff", "a picture"), (b"%PDF", "a document")),
    *((b"PAR1", "data"), (b"SQLite format 3\0", "data"), (b"\xed\xab\xee\xdb", "a package")),
)
_MARKUP = re.compile(rb"\s*<(!doctype|html|\?xml|svg)", re.IGNORECASE)
_JSON = re.compile(rb'\s*(\{\s*["}]|\[\s*[\[{"\]])')
_JOURNAL = (b'"MESSAGE"', b'"__REALTIME_TIMESTAMP"', b'"_TRANSPORT"')  # journalctl -o json
_REPORT = re.compile(rb"\s*\[[a-z-]+, (certain|high|medium|low)\] ")  # analyze's own, as text
_ET_CORE = 4


def something_else(path: Path | str, name: str) -> str | None:
    """What the file is, if it is plainly neither dump nor log; else ``None``.

    ``name`` is what it is called in its source.  Reads no more than its first bytes; raises
    nothing, since what can't be read has yet to be called a dump.
    """
    plain = PurePath(name).name
    while plain.endswith(_PACKED):
        plain = plain.rpartition(".")[0]
    suffix = PurePath(plain).suffix.lower()
    if suffix in _SUFFIXES:
        return f"{_SUFFIXES[suffix]}, by its name"
    for like, what in _NAMES.items():
        if fnmatchcase(plain, like):
            return f"{what}, by its name"
    return _by_content(peek(path), is_dump_name(plain))


def _by_content(head: bytes, called_a_dump: bool) -> str | None:
    what = next((what for magic, what in _MAGICS if head.startswith(magic)), None)
    if what is None and head[257:262] == b"ustar":
        what = "an archive"
    if what is None and head.startswith(b"\x7fELF") and not called_a_dump:
        kind = int.from_bytes(head[16:18], "little")
        what = None if kind == _ET_CORE else "an ELF file but no core"
    if what is None and looks_like_text(head):
        if _MARKUP.match(head):
            what = "a document"
        elif _JSON.match(head) and not any(word in head for word in _JOURNAL):
            what = "JSON"
        elif _REPORT.match(head):
            what = "a report of mftriage"
    return f"{what}, by its content" if what else None


def claims(name: str) -> bool:
    """Whether a text of this name in the source is called a dump or a kernel's log."""
    plain = PurePath(name).name
    return is_dump_name(plain) or any(fnmatchcase(plain, like) for like in _LOG_NAMES)


def companions(names: Iterable[str]) -> dict[str, set[str]]:
    """The logs that lie beside dumps which they were saved with: log to dumps.

    ``names`` are those of one folder.
    """
    names = set(names)
    logs = {name for name in names if is_saved_log(name)}
    shared = log_of("vmcore", logs)
    found: dict[str, set[str]] = {}
    for dump in filter(is_dump_name, names if logs else ()):
        log = shared if dump.startswith("vmcore") else log_of(dump, logs)
        if log is not None:
            found.setdefault(log, set()).add(dump)
            if _CAPTURE_LOG in names:
                found.setdefault(_CAPTURE_LOG, set()).add(dump)
    return found
