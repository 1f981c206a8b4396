"""Buckets for the tests of the batch: real dumps, cut small, among all that should not be there."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.craft import EM_X86_64, FIXTURES, PT_LOAD

SMALL = sorted(p for p in FIXTURES.glob("*/capsule.elf.zst") if p.stat().st_size < 100_000)


def endless(path: Path, gigabytes: int = 400) -> None:
    """A core in zstd that goes on with zeros for minutes, as its header says it does (RFC 8878)."""
    core = struct.pack(
        *(
            "<16sHHIQQQIHHHHHH",
            b"\x7fELF\x02\x01\x01",
            4,
            EM_X86_64,
            1,
            0,
            64,
            0,
            0,
            64,
            56,
            1,
            0,
            0,
            0,
        )
    ) + struct.pack("<IIQQQQQQ", PT_LOAD, 7, 4096, 0, 0, 1 << 45, 1 << 45, 4096)
    raw = (len(core) << 3).to_bytes(3, "little") + core
    run = (128 << 10 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"  # 128 KiB of one byte
    path.write_bytes(b"\x28\xb5\x2f\xfd\0\x58" + raw + run * (gigabytes << 13))


def _cut(path: Path, data: bytes, _: random.Random) -> None:
    path.write_bytes(data[: len(data) // 3])


def _flipped(path: Path, data: bytes, chance: random.Random) -> None:
    raw = bytearray(data)
    for _ in range(50):
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    path.write_bytes(raw)


def _bomb(path: Path, data: bytes, _: random.Random) -> None:
    with gzip.open(path.with_name("vmcore.gz"), "wb", 1) as file:
        for _ in range(64):
            file.write(bytes(1 << 20))


def _loop(path: Path, data: bytes, _: random.Random) -> None:
    path.symlink_to(path.name)


def _socket(path: Path, data: bytes, _: random.Random) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(path.parent, os.O_RDONLY)  # such a name may not be long
        server.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


BROKEN: dict[str, Callable[[Path, bytes, random.Random], Any]] = {
    "cut": _cut,
    "flipped": _flipped,
    "noise": lambda path, data, chance: path.write_bytes(chance.randbytes(5000)),
    "header": lambda path, data, chance: path.write_bytes(b"KDUMP   " + chance.randbytes(5000)),
    "text": lambda path, data, chance: path.write_text("hello\n"),
    "empty": lambda path, data, chance: path.touch(),
    "bomb": _bomb,
    "loop": _loop,
    "up": lambda path, data, chance: path.symlink_to(".."),
    "pipe": lambda path, data, chance: os.mkfifo(path),
    "device": lambda path, data, chance: path.symlink_to("/dev/zero"),
    "socket": _socket,
    "gone": lambda path, data, chance: path.symlink_to("nowhere"),
}
MAY_BE_READ = ("cut", "flipped")  # in part, or where nothing that matters was hit


def mixed(root: Path, count: int, seed: int = 0) -> dict[str, str | None]:
    """``count`` dumps below ``root``, three of ten broken: the way of each, or ``None``, by folder."""
    chance = random.Random(seed)
    ways: dict[str, str | None] = {}
    for index in range(count):
        folder = root / f"{'good' if index % 10 < 7 else 'bad'}-{index:04}"
        folder.mkdir(parents=True)
        dump = SMALL[index % len(SMALL)]
        way = None
        if index % 10 < 7:
            shutil.copy(dump, folder / "vmcore.zst")
        else:
            way = list(BROKEN)[(index // 10 * 3 + index % 10 - 7) % len(BROKEN)]
            BROKEN[way](folder / "vmcore.zst", dump.read_bytes(), chance)
        ways[folder.name] = way
    return ways


def table(out: Path) -> dict[str, dict[str, Any]]:
    """The records by source, less what differs from run to run."""
    found = {}
    for path in (out / "results").glob("*/*.json"):
        record = json.loads(path.read_bytes())
        assert record["source"] not in found
        for key in ("seconds", "finished", "peak_bytes"):
            del record[key]
        found[record["source"]] = record
    return found
