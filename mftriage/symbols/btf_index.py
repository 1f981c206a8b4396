"""Where each BTF type begins and what it is called: found once for each kernel, then kept.

Walking 120,000 types takes a fifth of a whole analysis, and a fleet runs few kernels, so the
result lies in the user's cache folder.  Its name is the hash of the BTF itself and not the build
ID: a dump can claim any build ID, and must not be able to spoil the analysis of others.
"""

from __future__ import annotations

import os
import sys
import zlib
from array import array
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _FUNC_PROTO = 1, 3, 4, 5, 6, 13
_VAR, _DATASEC, _DECL_TAG, _ENUM64 = 14, 15, 17, 19

# Words behind the three of struct btf_type: a fixed number, and a number for each of vlen.
FIXED = {_INT: 1, _ARRAY: 3, _VAR: 1, _DECL_TAG: 1}
EACH = {_STRUCT: 3, _UNION: 3, _ENUM: 2, _FUNC_PROTO: 2, _DATASEC: 3, _ENUM64: 3}

_SMALL = 1 << 16  # words: the types of a lean capsule or a module
_KEPT = 32  # kernels; about 1 MB each


class BtfIndex(NamedTuple):
    """In the order of the type ids, type 1 first: where each type begins, in 4-byte words behind
    the first, and the offset of its name in the strings.
    """

    starts: array[int]
    names: array[int]


def index_of(words: memoryview) -> BtfIndex:
    """The index of a BTF type section, given as 32-bit words; out of the cache where it has it."""
    if len(words) < _SMALL:
        return scan(words)
    file = _folder() / f"{blake2b(words, digest_size=20).hexdigest()}.{sys.byteorder}"
    index = _load(file, len(words))
    if index is None:
        index = scan(words)
        _save(file, index)
    return index


def scan(words: memoryview) -> BtfIndex:
    """Walk the types.

    kind and vlen are masked with 0x7f and 0xffffff: wider since Linux 7.2, and the bits were
    zero before.
    """
    step = [(3 + FIXED.get(kind, 0), EACH.get(kind, 0)) for kind in range(128)]
    end = len(words)
    starts, names = array("I"), array("I")
    add, add_name = starts.append, names.append
    at = 0
    while at + 2 < end:
        add(at)
        add_name(words[at])
        info = words[at + 1]
        fixed, each = step[info >> 24 & 0x7F]
        at += fixed + each * (info & 0xFFFFFF) if each else fixed
    return BtfIndex(starts, names)


def _folder() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("mftriage") / "btf"


def _load(file: Path, end: int) -> BtfIndex | None:
    """What was saved, unless the file is damaged."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    half, odd = divmod(len(data) - 4, 8)
    if half <= 0 or odd or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
        return None
    both = array("I", data[4:])
    index = BtfIndex(both[:half], both[half:])
    return index if index.starts[-1] < end else None


def _save(file: Path, index: BtfIndex) -> None:
    """Write beside, then rename: another process may read.  No cache is no harm."""
    data = index.starts.tobytes() + index.names.tobytes()
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_bytes(zlib.crc32(data).to_bytes(4, "little") + data)
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)
        kept = sorted(file.parent.glob("[!.]*"), key=lambda path: path.stat().st_mtime)
        for old in kept[:-_KEPT]:
            old.unlink(missing_ok=True)
