"""Firmware's records in binary: real ones, the old short form, and whatever a damaged pool may hold."""

from __future__ import annotations

import struct
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage.kernel import cper
from mftriage.model import Detail, Location, RecordDimm
from mftriage.records import log_records
from tests.craft import parse_text

QUICK = settings(max_examples=300, derandomize=True, deadline=None, database=None)

# What a firmware of a virtual machine (QEMU, inject-ghes-v2-error) wrote: a revision 3 entry with FRU text.
REAL = bytes.fromhex(
    "11000000000000000000000098000000000000001411bca5646fde4eb8633e83ed7c83b100000000000302005000"
    "00000000000000000000000000000000000044494d4d5f44315f533000000000000000000000000000000000000"
    "0ffc3000000000000000400000000000080f7684000000000c0ffffffffffffff0000030001000f000100c195300"
    "100000000000000000000000000000000000000000000000000000300010000000000"
)


GUID = "12345678-9abc-def0-0123-456789abcdef"
VENDORS = UUID(GUID).bytes_le


def test_guid() -> None:
    assert cper.guid(GUID) == VENDORS and cper.guid_words(VENDORS) == GUID


def entry(
    kind: bytes, data: bytes, *, severity: int = 0, revision: int = 0x0201, fru: bytes = b""
) -> bytes:
    head = kind + struct.pack("<IHBBI", severity, revision, 2 if fru else 0, 0, len(data))
    head += bytes(16) + fru.ljust(20, b"\0")
    return head + (bytes(8) if revision >= 0x300 else b"") + data


def block(*entries: bytes, severity: int = 0) -> bytes:
    data = b"".join(entries)
    return struct.pack("<IIIII", 1, 0, 0, len(data), severity) + data


def memory(valid: int, *, bank: int = 0, row: int = 0, extended: int = 0, handle: int = 0) -> bytes:
    words = (1, 2, 3, bank, 4, row, 5, 6)
    head = struct.pack("<QQQQ8HQQQ", valid, 0, 0x1234567000, 2**64 - 4096, *words, 0, 0, 0)
    return head + struct.pack("<BBHHH", 2, extended, 7, 0, handle)


def test_real_record() -> None:
    assert cper.block_size(REAL[: cper.STATUS_SIZE]) == len(REAL)
    (record,) = cper.records(REAL, "ghes_estatus_caches[0]")
    assert (record.source, record.medium, record.media) == ("ghes", "memory", ("memory",))
    assert (record.severity, record.error_type) == ("recoverable", "multi-bit ECC")
    assert record.is_memory is True
    assert record.physical_address == "0x4068f780"
    assert record.physical_address_mask == "0xffffffffffffffc0"
    assert record.location == Location(
        node=0, card=3, module=1, bank=15, device=1, row=38337, column=304, rank=1
    )
    assert record.dimm == RecordDimm(label="DIMM_D1_S0", how="fru-text")
    assert record.raw == (f"ghes_estatus_caches[0]: {REAL.hex()}",)


def test_a_record_that_was_dealt_with_is_still_one() -> None:
    done = bytes(4) + REAL[4:]  # block_status, cleared by ghes_clear_estatus
    assert cper.block_size(done[: cper.STATUS_SIZE]) == len(REAL)


def test_only_valid_fields_are_told() -> None:
    (record,) = cper.records(block(entry(cper.MEMORY, memory(0))), "here")
    assert record.is_memory is True
    assert record.physical_address is None and record.physical_address_mask is None
    assert record.error_type is None and record.location is None and record.dimm is None


def test_extended_fields() -> None:
    valid = 1 << 6 | 1 << 8 | 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21
    data = memory(valid, bank=0x0203, row=0xFFFF, extended=0b10100010, handle=0x1100)
    (record,) = cper.records(block(entry(cper.MEMORY, data)), "here")
    assert record.location == Location(
        bank=0x0203, bank_group=2, bank_address=3, row=0x2FFFF, chip_id=5
    )
    assert record.dimm == RecordDimm(handle="0x1100", how="firmware-handle")


def test_a_record_reads_as_the_log_s() -> None:
    """Field by field what cper_print_mem makes the log's decoder say of the same bytes."""
    data = memory(0xFFFF | 1 << 17, bank=3, row=7, handle=0x29)
    (record,) = cper.records(block(entry(cper.MEMORY, data, fru=b"DIMM_A1"), severity=1), "here")
    lines = [
        "event severity: fatal",
        " Error 0, type: recoverable",
        " fru_text: DIMM_A1",
        "  section_type: memory error",
        "  error_status: Reserved (0x0000000000000000)",
        "  physical_address: 0x0000001234567000",
        "  physical_address_mask: 0xfffffffffffff000",
        "  node:1 card:2 module:3 rank:7 bank:3 device:4 row:7 column:5 bit_position:6 "
        "requestor_id:0x0000000000000000 responder_id:0x0000000000000000 target_id:0x0000000000000000 ",
        "  error_type: 2, single-bit ECC",
        "  DIMM location: not present. DMI handle: 0x0029",
    ]
    (logged,), _ = log_records(parse_text(f"[ 1.0] {{1}}[Hardware Error]: {t}" for t in lines))
    assert record.firmware is not None and logged.firmware is not None
    assert replace(logged.firmware, number=None) == record.firmware
    same = ("severity", "error_type", "is_memory", "physical_address", "physical_address_mask")
    for name in (*same, "location", "dimm"):
        assert getattr(record, name) == getattr(logged, name), name


def test_memory_error_section_2() -> None:
    valid = (1 << 22) - 1
    head = struct.pack("<QQQQ4H", valid, 0x400, 0x1234567000, 2**64 - 64, 1, 2, 3, 0x0405)
    wide = struct.pack("<5I4B", 70000, 80000, 90000, 6, 7, 8, 3, 0, 0)
    data = head + wide + struct.pack("<QQQII", 10, 11, 12, 13, 0x1101)
    assert len(data) == 96
    (record,) = cper.records(block(entry(cper.MEMORY_2, data)), "here")
    assert (record.error_type, record.is_memory) == ("multi-bit ECC", True)
    assert record.physical_address == "0x1234567000"
    assert record.location == Location(
        node=1, card=2, module=3, bank=0x405, bank_group=4, bank_address=5, device=70000, row=80000,
        column=90000, rank=6, bit_position=7, chip_id=8, requestor_id="0xa", responder_id="0xb",
        target_id="0xc",
    )  # fmt: skip
    assert record.dimm == RecordDimm(handle="0x1101", how="firmware-handle")
    assert record.firmware is not None
    assert (record.firmware.error_status, record.firmware.error_type) == ("0x400", 3)


@pytest.mark.parametrize("kind", [cper.CXL_MEDIA, cper.CXL_DRAM])
def test_cxl_events(kind: bytes) -> None:
    head = struct.pack("<IQHHBBBHHB8x", 160, 5, 0x8086, 0xD93, 0, 4, 0x35, 1, 0, 0)
    event = bytes(32) + struct.pack("<QBBBHBB", 0x12345680 | 1, 1, 0, 0, 0x7F, 2, 3)
    event += struct.pack("<3sBB3sH", b"\1\2\0", 4, 5, b"\7\1\0", 9)
    (record,) = cper.records(block(entry(kind, head + event + bytes(60), severity=2)), "here")
    assert (record.error_type, record.severity) == (cper.SECTIONS[kind], "corrected")
    assert record.is_memory is True and record.physical_address is None
    assert record.firmware is not None
    assert (record.firmware.device, record.firmware.vendor_id) == ("0001:35:04.0", "0x8086")
    assert {d.name: d.value for d in record.details} == {
        "dpa": "0x12345680",
        "descriptor": "uncorrectable",
    }
    dram = Location(channel=2, rank=3, bank_group=4, bank=5, row=0x107, column=9)
    assert record.location == (
        dram if kind == cper.CXL_DRAM else Location(channel=2, rank=3, device=0x201)
    )


def test_short_form_of_uefi_2_1() -> None:
    data = memory(0x7FFFF | 1 << 17, handle=9)[:73]
    (record,) = cper.records(block(entry(cper.MEMORY, data, fru=b"P1-DIMMA1")), "here")
    assert record.error_type == "single-bit ECC"
    assert record.location is not None
    assert (record.location.node, record.location.rank) == (1, None)
    assert record.dimm == RecordDimm(label="P1-DIMMA1", how="fru-text")


def test_sections_have_their_own_severity() -> None:
    corrected = entry(cper.MEMORY, memory(2), severity=2)
    fatal = entry(cper.MEMORY, memory(2), severity=1, revision=0x300)
    unknown = entry(VENDORS, b"vendor's own", severity=3)
    records = cper.records(block(corrected, fatal, unknown, severity=1), "here")
    assert [r.severity for r in records] == ["corrected", "fatal", None]
    assert records[2].error_type == f"unknown, {GUID}"
    assert records[2].is_memory is None
    assert len({r.raw for r in records}) == 1  # one event


def test_arm_processor() -> None:
    info = struct.pack("<BBHBHBQQQ", 0, 32, 0x17, 6, 0, 0, 0, 0, 0x8000)
    data = struct.pack("<IHHIB3xQQII", 7, 1, 0, 72, 0, 1, 2, 1, 0) + info
    (record,) = cper.records(block(entry(cper.ARM, data, severity=1)), "here")
    assert record.error_type == "ARM processor error (cache error, TLB error)"
    assert (record.is_memory, record.physical_address) == (False, "0x8000")


def test_pcie() -> None:
    data = struct.pack(
        "<QIIIIHH3sBBHBBHB", 8, 4, 1, 0, 0, 0x1AF4, 0x1041, b"", 1, 3, 2, 23, 0, 0, 0
    )
    (record,) = cper.records(block(entry(cper.PCIE, data.ljust(208, b"\0"))), "here")
    assert record.error_type == "PCIe error (0002:17:03.1, 1af4:1041)"
    assert record.firmware is not None
    assert (record.firmware.device, record.firmware.vendor_id) == ("0002:17:03.1", "0x1af4")
    assert record.details == ()


def test_pcie_registers() -> None:
    data = bytearray(208)
    struct.pack_into("<Q", data, 0, 1 << 7)
    struct.pack_into("<5I", data, 116, 0x4000, 0, 0x4E2030, 1, 2)
    (record,) = cper.records(block(entry(cper.PCIE, bytes(data))), "here")
    assert record.details[0] == Detail(name="aer_uncor_status", value="0x00004000")


@pytest.mark.parametrize("kind", [cper.MEMORY, cper.MEMORY_2, cper.ARM, cper.PCIE, cper.CXL_DRAM])
def test_a_section_that_is_too_short_has_a_name(kind: bytes) -> None:
    (record,) = cper.records(block(entry(kind, b"\1" * 8)), "here")
    assert record.error_type == cper.SECTIONS[kind]


@pytest.mark.parametrize("size", [0, 19, 20, 40, 83, 100, len(REAL) - 1])
def test_cut(size: int) -> None:
    assert cper.records(REAL[:size], "here") == []


@QUICK
@given(st.binary(max_size=600))
def test_anything(data: bytes) -> None:
    size = cper.block_size(data)
    assert size is None or cper.STATUS_SIZE < size <= cper.MAX_BLOCK
    cper.records(data, "here")


@QUICK
@given(st.lists(st.tuples(st.integers(0, len(REAL) - 1), st.integers(0, 255)), max_size=12))
def test_damaged(changes: list[tuple[int, int]]) -> None:
    data = bytearray(REAL)
    for at, value in changes:
        data[at] = value
    for record in cper.records(bytes(data), "here"):
        assert record.source == "ghes" and record.raw


@QUICK
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*cper.SECTIONS, VENDORS]),
            st.binary(max_size=240),
            st.integers(0, 4),
            st.sampled_from([0x201, 0x300, 0x301]),
            st.binary(max_size=20),
        ),
        max_size=5,
    )
)
def test_any_sections(parts: list[tuple[bytes, bytes, int, int, bytes]]) -> None:
    made = [
        entry(kind, data, severity=severity, revision=revision, fru=fru)
        for kind, data, severity, revision, fru in parts
    ]
    assert len(cper.records(block(*made), "here")) == len(made)
