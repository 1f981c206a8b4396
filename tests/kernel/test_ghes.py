"""The firmware's records in memory: of real dumps, whose records the maker of the dump wrote down."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache

import pytest

from mftriage.kernel import ghes
from mftriage.kernel.ghes import ghes_records_in_memory
from mftriage.model import HardwareError, Location, RecordDimm, Triage
from mftriage.triage import analyze
from tests.kernel.memories import BASE, HERE, Memory, capsule, kernel_of
from tests.kernel.test_cper import REAL


@cache
def triage(name: str) -> Triage:
    analysis = analyze(HERE / f"{name}.elf.zst")
    analysis.dump.close()
    return analysis.triage


def in_memory(name: str) -> list[HardwareError]:
    kernel = capsule(name)
    records = ghes_records_in_memory(kernel, None)
    kernel.dump.close()
    return records


def test_what_was_printed_is_in_the_cache() -> None:
    (record,) = in_memory("arm64-4k-twice-sysrq")
    assert record.raw[0].startswith("ghes_estatus_caches[0]: 11000000")
    assert (record.time, record.count) == (4.040452, 2)  # printed once, came twice
    assert (record.severity, record.error_type) == ("recoverable", "multi-bit ECC")
    assert record.dimm == RecordDimm(label="DIMM_C1_S0", how="fru-text")
    assert record.location == Location(
        node=0, card=2, module=1, rank=0, bank=5, device=1, row=52134, column=1011
    )


def test_what_was_fatal_is_in_its_source_alone() -> None:
    (record,) = in_memory("arm64-612-ghes-fatal")
    assert record.raw[0].startswith("estatus of error source 1: 00000000")
    assert (record.severity, record.error_type) == ("fatal", "multi-bit ECC")
    assert (record.physical_address, record.time) == ("0x404da780", None)
    assert record.dimm == RecordDimm(label="DIMM_D1_S1", how="fru-text")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("arm64-4k-arm-fatal", "ARM processor error (cache error)"),
        ("arm64-4k-pcie-fatal", "PCIe error (0000:17:03.0, 1af4:1041)"),
    ],
)
def test_what_is_not_memory(name: str, words: str) -> None:
    (record,) = in_memory(name)
    assert (record.error_type, record.is_memory, record.severity) == (words, False, "fatal")
    assert triage(name).verdict.kind == "hardware-not-memory"


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("arm64-4k-twice-sysrq", 2),
        ("arm64-612-ghes-fatal", None),
        ("arm64-4k-arm-fatal", None),
        ("arm64-4k-pcie-fatal", None),
    ],
)
def test_log_and_memory_are_one_record(name: str, count: int | None) -> None:
    (record,) = triage(name).hardware_errors
    assert (record.medium, record.media, record.count) == ("log", ("log", "memory"), count)
    assert record.raw[0].endswith("Generic Hardware Error Source: 1")
    assert record.time is not None
    assert triage(name).not_checked == ()


@pytest.fixture
def pool() -> Iterator[tuple[Memory, int]]:
    memory = Memory()
    junk = bytes(range(256)) * 17
    start = memory.put(junk + bytes(4) + REAL[4:] + junk + REAL[:100])
    yield memory, start


def test_what_was_freed_is_found_by_its_type(pool: tuple[Memory, int]) -> None:
    memory, start = pool
    size = len(memory.data)
    (found,) = ghes._blocks_in(memory.read(start, size, 0, False))
    assert found == (256 * 17, bytes(4) + REAL[4:])


def test_a_pool_with_holes(pool: tuple[Memory, int]) -> None:
    memory, start = pool
    kernel = kernel_of(memory, {})
    end = len(memory.data)
    parts = list(ghes._readable(kernel, start - 8192, 8192 + end + 100))
    assert [address for address, _ in parts] == [BASE]
    assert parts[0][1] == bytes(memory.data[: end - end % 4096])


def test_no_pool_no_record() -> None:
    memory = Memory()
    assert ghes_records_in_memory(kernel_of(memory, {}), None) == []


def test_a_block_that_is_not_there() -> None:
    memory = Memory()
    kernel = kernel_of(memory, {})
    assert ghes._block(kernel, BASE + 4096) is None
    assert ghes._block(kernel, memory.put(REAL)) == REAL
    assert ghes._block(kernel, memory.put(bytes(64))) is None
    huge = memory.put(struct.pack("<IIIII", 1, 0, 0, 1 << 30, 0))
    assert ghes._block(kernel, huge) is None
