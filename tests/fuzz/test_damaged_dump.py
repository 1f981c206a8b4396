"""Real dumps with bytes changed anywhere: whatever is wrong with them, a report comes out, and soon."""

from __future__ import annotations

import os
import random
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from mftriage import model
from mftriage.codec import from_json, to_json
from mftriage.errors import MftriageError
from mftriage.triage import analyze
from tests import craft

EXAMPLES = 12  # a machine and seed; each some 0.3 s


class Damaged:
    """A copy of a capsule whose bytes can be changed and restored."""

    def __init__(self, elf: Path, folder: Path) -> None:
        self.path = folder / "vmcore"
        shutil.copyfile(elf, self.path)
        self.original = elf.read_bytes()
        self.fd = os.open(self.path, os.O_RDWR)
        self.tables: list[int] = []
        self.others: list[int] = []
        phoff, count = struct.unpack_from("<Q", self.original, 32)[0], self.original[56:58]
        for at in range(phoff, phoff + 56 * int.from_bytes(count, "little"), 56):
            kind, _, offset, _, _, size, _ = struct.unpack_from("<IIQQQQQ", self.original, at)
            if kind == craft.PT_LOAD:  # long runs are the type and symbol tables
                pages = range(offset, offset + size, craft.PAGE)
                (self.tables if len(pages) > 200 else self.others).extend(pages)

    def change(self, changes: list[tuple[int, bytes]]) -> None:
        for at, data in changes:
            os.pwrite(self.fd, data, at)

    def restore(self, changes: list[tuple[int, bytes]]) -> None:
        for at, data in changes:
            os.pwrite(self.fd, self.original[at : at + len(data)], at)


@pytest.fixture(scope="module", params=["x86_elf", "arm_elf"])
def damaged(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Damaged]:
    made = Damaged(request.getfixturevalue(request.param), tmp_path_factory.mktemp("damaged"))
    assert made.tables and made.others
    yield made
    os.close(made.fd)


def some_damage(damaged: Damaged, chance: random.Random) -> list[tuple[int, bytes]]:
    changes = []
    for _ in range(chance.choice((1, 4, 20, 100, 400))):
        page = chance.choice(damaged.others if chance.random() < 0.85 else damaged.tables)
        at = page + (chance.randrange(craft.PAGE - 8) & (~7 if chance.random() < 0.5 else ~0))
        word = chance.choice((0, 1, 0x80, 2**63, 2**64 - 1, 0xFFFF888000000000, 0xDEAD000000000100))
        data = chance.choice((bytes([word & 0xFF]), struct.pack("<Q", word), chance.randbytes(8)))
        changes.append((at, data))
    if chance.random() < 0.3:  # a whole page
        changes.append((chance.choice(damaged.others), chance.randbytes(1) * craft.PAGE))
    return changes


@pytest.mark.parametrize("seed", range(2))
def test_changed_bytes(damaged: Damaged, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(EXAMPLES):
        changes = some_damage(damaged, chance)
        damaged.change(changes)
        start = time.monotonic()
        try:
            analysis = analyze(damaged.path)
            analysis.dump.close()
        except MftriageError as error:
            assert error.exit_code in (2, 3) and error.remedy
        except Exception as error:
            error.add_note(f"seed {seed}, example {number}: {changes[:3]}...")
            raise
        else:
            assert analysis.triage.verdict.kind in get_args(model.VerdictKind)
            assert from_json(to_json(analysis.triage)).verdict == analysis.triage.verdict
        finally:
            damaged.restore(changes)
        assert time.monotonic() - start < 30, f"seed {seed}, example {number}"


def test_afterwards_it_is_whole_again(damaged: Damaged) -> None:
    assert damaged.path.read_bytes() == damaged.original
