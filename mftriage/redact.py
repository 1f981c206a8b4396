"""Masking what identifies a machine or its users: a Triage in, the same Triage out without it.

Host names, serial numbers, network addresses, user processes, their addresses and paths become
tokens: ``host-3fa9c2d1b07e41``.  A token is the keyed digest of what it stands for, so that the
same host has the same token in every report that was made with the same key, and nobody without
the key can try names.  Kernel addresses, pfns, DIMM locators and the kernel's own names stay: they
are the proof.

The map file has the key, and what each token stands for.  It stays with who made it (mode 0600).
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache, partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

from mftriage.errors import UsageError
from mftriage.model import MceRegisters, Task, Triage

__all__ = ["Redactor", "redacting"]

Kind = Literal["host", "serial", "mac", "ip", "task", "address", "path"]

_DIGEST, _CHECK = 10, 4  # hex digits of a token: of what it stands for, and that it is one
_TOKEN = re.compile(rf"(?:{'|'.join(get_args(Kind))})-[0-9a-f]{{{_DIGEST + _CHECK}}}")
_HEX = re.compile(r"0x[0-9a-f]+")
_NOBODY = re.compile(r"(\(none\)|localhost(\.localdomain)?)?$", re.IGNORECASE)

# Names of kernel threads; any other is taken for a user's.
_KERNEL_THREAD = re.compile(
    r"(kworker|ksoftirqd|swapper|migration|rcu\w*|kthreadd|khugepaged|kswapd|kcompactd|irq|watchdogd?|cpuhp|"
    r"idle_inject|kauditd|khungtaskd|oom_reaper|writeback|kblockd|kdevtmpfs|jbd2|xfs\w*|scsi_eh|nvme|ksmd|"
    r"mm_percpu_wq|netns|edac-poller|kintegrityd|pool_workqueue\w*)(?![a-z])"
)
# Paths that are the same on every machine.
_COMMON = re.compile(r"/(sys|proc|dev|lib/modules|usr/lib/debug|usr/src)(/|$)")

# What stands in front of a section's number, which looks like an address.
_MANUAL = re.compile(r"(?:SDM|APM|Specification)(?: vol\. \w+)?, $")

_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_NUMBER = re.compile(r"\0(\d+)\0")


class _Name(NamedTuple):
    """Something that has to go, what it is, and whose token it gets: a host's short name gets the host's."""

    kind: Kind
    text: str
    of: str


class _Step(NamedTuple):
    """What to look for, its first group to be masked, and whose token that gets if not its own.

    ``hint`` is in every text that has it, in lower case.
    """

    kind: Kind
    pattern: re.Pattern[str]
    of: str | None = None
    hint: str = ""


_PATH = _Step(
    "path",
    re.compile(
        r"(?<![\w./:-])((?:[a-z][a-z0-9+.-]*:/(?:/[^\s/'\"`,;:()<>|]+)+|(?:/[^\s/'\"`,;:()<>|]+){2,})/?)"
    ),
    hint="/",
)
_PATTERNS = (
    _Step("mac", re.compile(r"(?<![\w:.-])([0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\2){4,6}[0-9A-Fa-f]{2})(?![\w:-])")),
    _Step("ip", re.compile(rf"(?<![\w.])({_OCTET}(?:\.{_OCTET}){{3}})(?!\w|\.\w)"), hint="."),
    _Step("ip", re.compile(r"(?<![\w:.])([0-9A-Fa-f:.]{1,44}(?:[0-9A-Fa-f]|::))(?!\w|:[\w:])"), hint=":"),
    _Step("serial", re.compile(r"(?i)\b(?:serial[ _-]?(?:number|no|num)|s/n|ppin|asset[ _-]?tag|uuid)\b[\s:=]*([\w.,:/-]*\w)")),
    _Step("task", re.compile(r"\bComm: (.+?)(?= (?:Not tainted|Tainted:|Kdump:)|$)", re.MULTILINE), hint="comm: "),
    _Step("task", re.compile(r"\b(?:Killing|Sending SIGBUS to) (.+?):\d+ due to "), hint=" due to "),
    _Step("task", re.compile(r"\bKilled process \d+ \(([^)]+)\)"), hint="killed process "),
    # Where programs and their libraries lie: x86 (also in registers, zero-padded), and arm64.
    _Step("address", re.compile(r"(?<!\w)((?:0x)?(?:0000)?(?:7[ef]|5[56])[0-9a-f]{10})(?!\w)")),
    _Step("address", re.compile(r"(?<!\w)(0x(?:0000)?(?:ffff|aaaa)[0-9a-f]{8})(?!\w)")),
)  # fmt: skip


class Redactor:
    """Masks with one key.  ``names`` has what each token that it gave stands for."""

    def __init__(self, key: bytes) -> None:
        """Takes the key: any bytes that are kept secret."""
        self._key = key
        self.names: dict[str, str] = {}

    def token(self, kind: Kind, name: str) -> str:
        """Return the token of a name; one that is a token of this key already is its own."""
        if self._is_token(name):
            return name
        same = name.casefold() if kind in ("host", "mac", "ip") else name
        digest = self._digest(f"{kind}\0{same}", _DIGEST)
        token = f"{kind}-{digest}{self._digest(f'{kind}-{digest}', _CHECK)}"
        self.names.setdefault(token, name)
        return token

    def triage(self, triage: Triage) -> Triage:
        """Return the triage without what identifies; all else of it is the same."""
        kept = {address for address in _addresses(triage) if _HEX.fullmatch(address)}
        names = [name for name in _known(triage) if name.text not in kept]
        masked = self._masked(triage, _Mask(self, names, kept))
        assert isinstance(masked, Triage)
        return masked

    def texts(self, texts: Iterable[str | None], names: dict[str, Kind]) -> list[str | None]:
        """Return the texts without these names, and without what looks like one."""
        mask = _Mask(self, [_Name(kind, name, name) for name, kind in names.items()], ())
        return [None if text is None else mask(text) for text in texts]

    def _masked(self, value: Any, mask: _Mask) -> Any:
        if isinstance(value, tuple):
            return tuple(self._masked(item, mask) for item in value)
        if isinstance(value, str):
            return mask(value)
        if not is_dataclass(value) or isinstance(value, type):
            return value
        return replace(
            value, **{name: self._masked(getattr(value, name), mask) for name in _free(type(value))}
        )

    def _digest(self, text: str, digits: int) -> str:
        data = text.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, data, "sha256").hex()[:digits]

    def _is_token(self, text: str) -> bool:
        return (
            bool(_TOKEN.fullmatch(text)) and self._digest(text[:-_CHECK], _CHECK) == text[-_CHECK:]
        )


class _Mask:
    """Masks texts: what is known to identify, wherever it stands, and what looks like it."""

    def __init__(self, redactor: Redactor, names: Iterable[_Name], kept: Collection[str]) -> None:
        self._redactor = redactor
        self._kept = kept
        self._seen: dict[str, str] = {}  # a log's lines repeat themselves
        # The longest first: one may be a part of another.
        ordered = sorted({n for n in names if n.text}, key=lambda n: (-len(n.text), n))
        literal = [
            _Step(n.kind, re.compile(_pattern(n), re.IGNORECASE), n.of, n.text.lower())
            for n in ordered
        ]
        self._steps = [
            # A path before all else: it goes with the host's name in it, and so does its rest.
            *(step for step in literal if step.kind == "path"),
            _PATH,
            *(step for step in literal if step.kind != "path"),
            *_PATTERNS,
        ]

    def __call__(self, text: str) -> str:
        """Return the text, masked."""
        if text in self._kept:
            return text
        if text not in self._seen:
            self._seen[text] = self._masked(text)
        return self._seen[text]

    def _masked(self, text: str) -> str:
        # Until all is done a token's number stands for it, between NULs, which no text of a
        # triage has: what one step has put in is not looked at by the next.
        put: list[tuple[str, str]] = []

        def mask(step: _Step, match: re.Match[str]) -> str:
            shown = _NUMBER.sub(lambda number: put[int(number[1])][0], match[1])
            name = step.of or shown
            if name in self._kept or not _is(step.kind, name):
                return match[0]
            if step.kind == "ip" and _MANUAL.search(match.string, 0, match.start()):
                return match[0]
            put.append((shown, self._redactor.token(step.kind, name)))
            start, end = (at - match.start() for at in match.span(1))
            return f"{match[0][:start]}\0{len(put) - 1}\0{match[0][end:]}"

        text = text.replace("\0", "\\x00")
        lower = text.lower()
        for step in self._steps:
            if step.hint in lower:
                text = step.pattern.sub(partial(mask, step), text)
        return _NUMBER.sub(lambda number: put[int(number[1])][1], text)


@contextmanager
def redacting(path: Path) -> Iterator[Redactor]:
    """Give a redactor with the map file's key, and write down there what its tokens stand for.

    The file is made if there is none.  Several processes may use it at once.  Raises
    ``UsageError``: it can't be read or written, is no map, or others may read it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(fd).st_mode & 0o077:
                raise UsageError(f"others may read the map {str(path)!r}", f"chmod 600 {path}")
            if not os.fstat(fd).st_size:
                file.write(json.dumps({"redact-map": 1, "key": secrets.token_hex(32)}) + "\n")
                file.flush()
            file.seek(0)
            lines = file.readlines()
            key, known = _read(path, lines)
            if not lines[-1].endswith("\n"):  # a writer was cut short
                file.write("\n")
                file.flush()
            fcntl.flock(file, fcntl.LOCK_UN)
            redactor = Redactor(key)
            yield redactor
            new = {token: name for token, name in redactor.names.items() if token not in known}
            file.write("".join(json.dumps({"token": t, "name": n}) + "\n" for t, n in new.items()))
    except OSError as error:
        raise UsageError(
            f"can't use the map {str(path)!r}: {error.strerror}", "name another: --redact-map FILE"
        ) from error


def _read(path: Path, lines: Iterable[str]) -> tuple[bytes, set[str]]:
    """The map's key and its tokens; a line that was cut short is no loss."""
    key, known = None, set()
    for line in lines:
        try:
            entry = json.loads(line)
            if key is None:
                key = bytes.fromhex(entry["key"])
            else:
                known.add(str(entry["token"]))
        except (ValueError, KeyError, TypeError):
            if key is None:
                break
    if not key:
        raise UsageError(
            f"{str(path)!r} is no map of mftriage's", "name another: --redact-map FILE"
        )
    return key, known


def _known(triage: Triage) -> Iterator[_Name]:
    """What the triage's own fields name."""
    host = (triage.dump.hostname or "").strip()
    if not _NOBODY.match(host):
        yield _Name("host", host, host)
        yield _Name("host", host.partition(".")[0], host)
    if triage.dump.path.strip():
        yield _Name("path", triage.dump.path, triage.dump.path)
    serials = [triage.dimm.serial_number if triage.dimm else None]
    for record in triage.hardware_errors:
        serials += [record.mce.ppin] if record.mce else []
        serials += [record.firmware.fru_id] if record.firmware else []
        serials += [d.value for d in record.details if re.search(r"(?i)serial|uuid|asset", d.name)]
    yield from (
        _Name("serial", serial, serial) for serial in serials if serial and serial.strip(" 0x")
    )
    for task in _tasks(triage):
        if task.comm and task.comm.strip() and _is("task", task.comm):
            yield _Name("task", task.comm, task.comm)
    if triage.page and triage.page.owner and triage.page.owner.file:
        file = triage.page.owner.file
        yield _Name("path", file, file)
    addresses = [request.virtual_address for request in triage.page_requests]
    addresses += [r.mce.ip for r in triage.hardware_errors if r.mce and _of_user(r.mce)]
    yield from (_Name("address", address, address) for address in addresses if address)


def _tasks(triage: Triage) -> Iterator[Task]:
    yield from (task for failure in triage.memory_failures for task in failure.killed)
    if triage.panic and triage.panic.task:
        yield triage.panic.task
    if triage.page and triage.page.owner and triage.page.owner.task:
        yield triage.page.owner.task


def _of_user(mce: MceRegisters) -> bool:
    """Whether the registers are those of a program: the privilege is in the segment's low bits."""
    try:
        return bool(mce.code_segment) and int(mce.code_segment or "0", 16) & 3 == 3
    except ValueError:
        return False


def _addresses(triage: Triage) -> Iterator[str]:
    """The pfns and physical addresses that are the proof, however much they look like a program's."""
    for page in [triage.page] if triage.page else []:
        yield from (page.pfn, page.physical_address or page.pfn, page.head_pfn or page.pfn)
    for failure in triage.memory_failures:
        yield from (failure.pfn, failure.physical_address or failure.pfn)
    for record in triage.hardware_errors:
        values = (record.physical_address, record.mce.addr if record.mce else None)
        yield from (value for value in values if value)
    yield from (page.pfn for page in triage.poisoned_pages)


def _is(kind: Kind, name: str) -> bool:
    """Whether it is such a thing, and one that identifies."""
    if kind == "task":
        return not _KERNEL_THREAD.match(name)
    if kind == "path":
        return not _COMMON.match(name)
    if kind == "ip":
        try:
            return int(ip_address(name)) != 0
        except ValueError:
            return False
    return True


def _pattern(name: _Name) -> str:
    """A name as a pattern.  Short ones stand alone; a host's takes the domain behind it along."""
    escaped = re.escape(name.text)
    if name.kind == "host":
        escaped += r"(?:\.[A-Za-z0-9-]+)*"
    anywhere = name.kind in ("host", "serial", "path") and len(name.text) >= 6
    return f"({escaped})" if anywhere else rf"(?<![A-Za-z0-9])({escaped})(?![A-Za-z0-9])"


@lru_cache
def _free(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass that may say anything: not numbers, nor those of a few fixed words."""
    hints = get_type_hints(kind)
    return tuple(field.name for field in fields(kind) if not _fixed(hints[field.name]))


def _fixed(hint: Any) -> bool:
    options = [option for option in get_args(hint) or (hint,) if option is not type(None)]
    return all(isinstance(o, str) or _of_words(o) or o in (int, float, bool) for o in options)


def _of_words(hint: Any) -> bool:
    return all(isinstance(word, str) for word in get_args(hint)) and bool(get_args(hint))
