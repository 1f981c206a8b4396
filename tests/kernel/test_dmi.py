"""SMBIOS's memory devices: the table of a virtual machine, one of a server's kind, and broken ones."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage.facts import Facts
from mftriage.kernel.dmi import devices_in, memory_devices
from mftriage.kernel.gather import _with_device
from mftriage.model import Dimm, DumpInfo, HardwareError, RecordDimm
from mftriage.triage import conclude
from tests.kernel.memories import Memory, capsule, kernel_of

QUICK = settings(max_examples=300, derandomize=True, deadline=None, database=None)

# Out of a dump of QEMU's "virt" machine: types 1, 3, 4, 16, 17, 19, 0, 127.
REAL = bytes.fromhex(
    "011b0001010203000000000000000000000000000000000006000051454d55005145"
    "4d55205669727475616c204d616368696e6500766972742d31312e31000003160003"
    "01010200000303030200000000000000000051454d5500766972742d31312e310000"
    "043000040103fe02000000000000000003000000d007d0074101ffffffffffff0000"
    "000202020200010002000200020043505520300051454d5500766972742d31312e31"
    "00001017001001030600000800feff010000000000000000000000112800110010fe"
    "ffffffffff0002090001000702000000020000000000000000000000000000000044"
    "494d4d20300051454d550000131f001300001000ffff170000100100000000000000"
    "0000000000000000000000200b0020000000000000000000001a0000010200e80300"
    "0800000000000000001c0000ffff000044656269616e20646973747269627574696f"
    "6e206f662045444b20494900323032352e30322d382b646562313375310031312f30"
    "382f3230323500007f04fffe0000"
)


def device(
    handle: int, strings: list[str], size: int = 0x7FFF, extended: int = 65536, length: int = 0x28
) -> bytes:
    data = bytearray(length)
    struct.pack_into("<BBH", data, 0, 17, length, handle)
    struct.pack_into("<H", data, 0x0C, size)
    data[0x10:0x12] = bytes([1, 2])
    if length > 0x1A:
        data[0x17], data[0x18], data[0x1A] = 3, 4, 5
    if length >= 0x20:
        struct.pack_into("<I", data, 0x1C, extended)
    return bytes(data) + b"\0".join(s.encode() for s in strings) + b"\0\0"


SERVER = ["P1_DIMM_C1", "NODE 1", "Hynix", "2F9C0001", "HMCG94AEBRA109N "]


def test_real_table() -> None:
    assert dict(devices_in(REAL)) == {
        0x1100: Dimm(locator="DIMM 0", manufacturer="QEMU", size_bytes=512 << 20)
    }


def test_server() -> None:
    table = device(0x1100, SERVER) + device(0x1101, SERVER, size=0x4000)
    found = dict(devices_in(table + b"\x7f\x04\xff\xff\0\0" + device(1, SERVER)))
    assert found[0x1100] == Dimm(
        locator="P1_DIMM_C1",
        bank_locator="NODE 1",
        manufacturer="Hynix",
        serial_number="2F9C0001",
        part_number="HMCG94AEBRA109N",
        size_bytes=64 << 30,
    )
    assert list(found) == [0x1100, 0x1101]  # nothing behind the end of the table
    assert found[0x1101].size_bytes == 16 << 30


@pytest.mark.parametrize(
    ("size", "extended", "length", "expected"),
    [
        (0, 0, 0x28, 0),
        (0xFFFF, 0, 0x28, None),
        (0x8400, 0, 0x28, 1 << 20),
        (0x7FFF, 0x80010000, 0x28, 64 << 30),
        (0x7FFF, 0, 0x1B, 0x7FFF << 20),
        (1024, 0, 0x15, 1 << 30),
    ],
)
def test_size(size: int, extended: int, length: int, expected: int | None) -> None:
    ((_, found),) = devices_in(device(1, SERVER, size, extended, length))
    assert found.size_bytes == expected


def test_what_firmware_does_not_know_is_not_told() -> None:
    ((_, found),) = devices_in(device(1, ["A1", "Not Specified", "Unknown", " ", "NO DIMM"]))
    assert (found.locator, found.bank_locator, found.manufacturer) == ("A1", None, None)
    assert (found.serial_number, found.part_number) == (None, None)


@QUICK
@given(st.binary(max_size=300))
def test_anything(data: bytes) -> None:
    list(devices_in(data))


@QUICK
@given(st.lists(st.tuples(st.integers(0, len(REAL) - 1), st.integers(0, 255)), max_size=8))
def test_damaged(changes: list[tuple[int, int]]) -> None:
    data = bytearray(REAL)
    for at, value in changes:
        data[at] = value
    list(devices_in(bytes(data)))


def test_what_the_kernel_keeps_and_the_table() -> None:
    kernel = capsule("arm64-4k-twice-sysrq")
    assert memory_devices(kernel) == {
        0x1100: Dimm(locator="DIMM 0", manufacturer="QEMU", size_bytes=512 << 20)
    }
    kernel.dump.close()


def test_a_kernel_that_keeps_none() -> None:
    assert memory_devices(kernel_of(Memory(), {})) == {}


def test_what_a_record_names() -> None:
    facts = Facts(
        dump=DumpInfo(path="x"),
        memory_devices={
            1: Dimm(locator="A1", bank_locator="NODE 1"),
            2: Dimm(locator="A1", bank_locator="NODE 2"),
            3: Dimm(locator="B1"),
        },
    )

    def named(**words: str) -> Dimm | None:
        return facts.memory_device(RecordDimm(**words))

    assert named(handle="0x2") is facts.memory_devices[2]
    assert named(label="b1") is facts.memory_devices[3]
    assert named(locator="NODE 1 A1") is facts.memory_devices[1]
    assert named(label="A1") is None  # two of that name
    assert named(label="C1") is None and named(handle="0x9", label="B1") is None
    assert named() is None


def record(**fields: Any) -> HardwareError:
    known: dict[str, Any] = {"source": "ghes", "medium": "log", "is_memory": True}
    return HardwareError(**{**known, **fields})


MODULE = Dimm(
    locator="A1",
    bank_locator="NODE 1",
    manufacturer="Hynix",
    serial_number="1",
    size_bytes=64 << 30,
)


def test_a_handle_gets_its_words() -> None:
    named = _with_device(record(dimm=RecordDimm(handle="0x1100")), {0x1100: MODULE})
    assert named.dimm == RecordDimm(locator="NODE 1 A1", handle="0x1100", how="firmware-location")
    told = record(dimm=RecordDimm(handle="0x1100", locator="as printed"))
    assert _with_device(told, {0x1100: MODULE}) is told
    unknown = record(dimm=RecordDimm(handle="0x1101"))
    assert _with_device(unknown, {0x1100: MODULE}) is unknown


def test_the_dimm_of_the_result_has_all_that_smbios_knows() -> None:
    facts = Facts(
        dump=DumpInfo(path="x"),
        hardware_errors=(record(dimm=RecordDimm(label="fru", handle="0x1100")),),
        memory_devices={0x1100: MODULE},
    )
    dimm = conclude(facts).dimm
    assert dimm is not None and "SMBIOS" in (dimm.how or "")
    assert dimm == replace(MODULE, label="fru", how=dimm.how, handle="0x1100", certainty="high")


def test_a_counter_names_no_dimm_to_replace() -> None:
    counted = record(
        source="edac", medium="memory", severity="corrected", count=9, dimm=RecordDimm(label="B1")
    )
    facts = Facts(dump=DumpInfo(path="x"), hardware_errors=(counted,))
    assert conclude(facts).dimm is None
