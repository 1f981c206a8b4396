"""Firmware's error records in binary: an ACPI status block with its CPER sections.

ACPI 6.5, 18.3.2.7 (generic error status block and data entries; struct acpi_hest_generic_status,
acpi_hest_generic_data and ..._v300, include/acpi/actbl1.h); UEFI 2.10, appendix N.2 (sections;
include/linux/cper.h).  Words are those of the kernel's own lines (drivers/firmware/efi/cper.c),
so that a record reads the same whichever medium it was found in.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from mftriage.model import (
    Detail,
    FirmwareRecord,
    HardwareError,
    Location,
    Severity,
    hexed,
)
from mftriage.records.cper import IS_MEMORY, MEMORY_TYPES, named_by
from mftriage.text import c_string

STATUS_SIZE = 20
MAX_BLOCK = 1 << 16  # GHES_ESOURCE_PREALLOC_MAX_SIZE, include/acpi/ghes.h
_MAX_SECTIONS = 64
_ENTRY_SIZE, _ENTRY_SIZE_V3 = 64, 72
_FRU_ID_VALID, _FRU_TEXT_VALID = 1, 2

_SEVERITIES: dict[int, Severity | None] = {0: "recoverable", 1: "fatal", 2: "corrected", 3: None}
_SEVERITY_WORDS = {0: "recoverable", 1: "fatal", 2: "corrected", 3: "info"}  # cper_severity_strs


def guid(text: str) -> bytes:
    """The 16 bytes of a GUID: its first three groups are little-endian (UEFI 2.10, appendix A)."""
    raw = bytes.fromhex(text.replace("-", ""))
    return raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]


def guid_words(raw: bytes) -> str:
    """A GUID as it is written."""
    groups = raw[3::-1], raw[5:3:-1], raw[7:5:-1], raw[8:10], raw[10:16]
    return "-".join(group.hex() for group in groups)


MEMORY = guid("a5bc1114-6f64-4ede-b863-3e83ed7c83b1")
MEMORY_2 = guid("61ec04fc-48e6-d813-25c9-8daa44750b12")
ARM = guid("e19e3d16-bc11-11e4-9caa-c2051d5d46b0")
PCIE = guid("d995e954-bbc1-430f-ad91-b44dcb3c6f35")
CXL_MEDIA = guid("fbcd0a77-c260-417f-85a9-088b1621eba6")
CXL_DRAM = guid("601dcbb3-9c06-4eab-b8af-4e9bfb5c9624")
CXL_MODULE = guid("fe927475-dd59-4339-a586-79bab113bc74")
# As cper_estatus_print_section has them; memory error section 2 it does not know.
SECTIONS: dict[bytes, str] = {
    MEMORY: "memory error",
    MEMORY_2: "memory error",
    ARM: "ARM processor error",
    PCIE: "PCIe error",
    guid("9876ccad-47b4-4bdb-b65e-16f193c4f3db"): "general processor error",
    guid("dc3ea0b0-a144-4797-b95b-53fa242b6e1d"): "IA32/X64 processor error",
    guid("81212a96-09ed-4996-9471-8d729c8e69ed"): "Firmware Error Record Reference",
    guid("80b9efb4-52b5-4de3-a777-68784b771048"): "CXL Protocol Error",
    CXL_MEDIA: "CXL General Media Event",
    CXL_DRAM: "CXL DRAM Event",
    CXL_MODULE: "CXL Memory Module Event",
}

# The bit of an ARM error type: UEFI 2.9A made the number a mask (table N.17).
_ARM_TYPES = {1: "cache error", 2: "TLB error", 3: "bus error", 4: "micro-architectural error"}


class Section(NamedTuple):
    """One section of a record: its type, its own severity (a number), what it says of the part, its bytes."""

    kind: bytes
    severity: int
    fru_id: str | None
    fru_text: str | None
    data: bytes


def block_size(header: bytes) -> int | None:
    """Bytes of the status block that begins with ``header``; ``None`` where none can be.

    block_status is not asked: the kernel clears it in its copy once it is done (ghes_clear_estatus).
    """
    if len(header) < STATUS_SIZE:
        return None
    _, raw_at, raw_size, size, severity = struct.unpack_from("<IIIII", header)
    if severity not in _SEVERITIES or not _ENTRY_SIZE <= size <= MAX_BLOCK - STATUS_SIZE:
        return None
    end = STATUS_SIZE + int(size)
    if raw_size:
        end = max(end, int(raw_at) + int(raw_size))
    return end if end <= MAX_BLOCK else None


def sections(block: bytes) -> Iterator[Section]:
    """The sections of a status block, as far as they are whole (apei_estatus_for_each_section)."""
    if len(block) < STATUS_SIZE:
        return
    end = min(len(block), STATUS_SIZE + int.from_bytes(block[12:16], "little"))
    at = STATUS_SIZE
    for _ in range(_MAX_SECTIONS):
        if at + _ENTRY_SIZE > end:
            return
        severity, revision, valid, _, size = struct.unpack_from("<IHBBI", block, at + 16)
        # A time stamp was added by revision 3 (acpi_hest_get_version).
        body = at + (_ENTRY_SIZE_V3 if revision >> 8 >= 3 else _ENTRY_SIZE)
        if body + size > end:
            return
        text = c_string(block[at + 44 : at + 64]).strip()
        yield Section(
            kind=bytes(block[at : at + 16]),
            severity=severity,
            fru_id=guid_words(block[at + 28 : at + 44]) if valid & _FRU_ID_VALID else None,
            fru_text=text if valid & _FRU_TEXT_VALID and text else None,
            data=block[body : body + size],
        )
        at = body + size


def records(block: bytes, where: str) -> list[HardwareError]:
    """A record for each section of the block; ``where`` names the place that it was read from."""
    raw = (f"{where}: {block[: STATUS_SIZE + 512].hex()}",)
    event = _SEVERITY_WORDS.get(int.from_bytes(block[16:20], "little"))
    return [replace(_record(section, event), raw=raw) for section in sections(block)]


class _Body(NamedTuple):
    """What a section's own fields say, for the record that is made of it."""

    words: str | None = None
    firmware: FirmwareRecord = FirmwareRecord()
    address: int | None = None
    mask: int | None = None
    location: Location | None = None
    handle: str | None = None
    details: tuple[Detail, ...] = ()


def _record(section: Section, event: str | None) -> HardwareError:
    name = SECTIONS.get(section.kind) or f"unknown, {guid_words(section.kind)}"
    known, memory = section.kind in SECTIONS, name == "memory error"
    decode = _DECODERS.get(section.kind)
    try:
        body = decode(section.data) if decode is not None else _Body()
    except struct.error:  # shorter than its type allows
        body = _Body(words=name if memory else None)
    return HardwareError(
        source="ghes",
        medium="memory",
        severity=_SEVERITIES.get(section.severity),
        error_type=body.words if memory else f"{name}{body.words or ''}",
        is_memory=IS_MEMORY.get(name, False) if known else None,
        physical_address=hexed(body.address),
        physical_address_mask=hexed(body.mask),
        location=body.location,
        dimm=named_by(section.fru_text, None, body.handle),
        firmware=replace(
            body.firmware,
            event_severity=event,
            section_severity=_SEVERITY_WORDS.get(section.severity),
            section=name,
            fru_id=section.fru_id,
            fru_text=section.fru_text,
            dmi_handle=body.handle,
        ),
        details=body.details,
    )


# The fields of both memory sections, by the bit that says whether they are valid, where each
# lies and how many bytes it has; UEFI 2.10, tables N.31 and N.32.
_PLACES = {
    "node": (3, 32, 2), "card": (4, 34, 2), "module": (5, 36, 2), "bank": (6, 38, 2),
    "device": (7, 40, 2), "row": (8, 42, 2), "column": (9, 44, 2), "bit_position": (10, 46, 2),
    "rank": (15, 74, 2),
}  # fmt: skip
_PLACES_2 = {
    "node": (3, 32, 2), "card": (4, 34, 2), "module": (5, 36, 2), "bank": (6, 38, 2),
    "device": (7, 40, 4), "row": (8, 44, 4), "column": (9, 48, 4), "rank": (10, 52, 4),
    "bit_position": (11, 56, 4), "chip_id": (12, 60, 1),
}  # fmt: skip
_IDS = {"requestor_id": (11, 48, 8), "responder_id": (12, 56, 8), "target_id": (13, 64, 8)}
_IDS_2 = {"requestor_id": (15, 64, 8), "responder_id": (16, 72, 8), "target_id": (17, 80, 8)}


def _fields(data: bytes, valid: int, fields: dict[str, tuple[int, int, int]]) -> dict[str, int]:
    return {
        name: int.from_bytes(data[at : at + size], "little")
        for name, (bit, at, size) in fields.items()
        if valid >> bit & 1 and at + size <= len(data)
    }


def _memory(data: bytes) -> _Body:
    """N.2.5, table N.31; struct cper_sec_mem_err, or the 73 bytes of UEFI 2.1 and 2.2."""
    valid = struct.unpack_from("<QQQQ8H", data)[0]
    extended = data[73] if len(data) >= 80 else 0
    if len(data) < 80:
        valid &= (1 << 15) - 1
    place = _fields(data, valid, _PLACES)
    if valid >> 18 & 1:  # CPER_MEM_VALID_ROW_EXT: bits 16 and 17 of the row
        place["row"] = int.from_bytes(data[42:44], "little") | (extended & 3) << 16
    if valid >> 21 & 1:
        place["chip_id"] = extended >> 5
    kind = data[72] if valid >> 14 & 1 and len(data) > 72 else None
    handle = struct.unpack_from("<H", data, 78)[0] if valid >> 17 & 1 else None
    return _of_memory(data, valid, valid >> 19, place, _fields(data, valid, _IDS), kind, handle)


def _memory_2(data: bytes) -> _Body:
    """N.2.6, table N.32: memory error section 2, whose numbers are wider."""
    valid = struct.unpack_from("<QQQQ4H", data)[0]
    place = _fields(data, valid, _PLACES_2)
    kind = data[61] if valid >> 13 & 1 and len(data) > 61 else None
    handle = struct.unpack_from("<I", data, 92)[0] if valid >> 19 & 1 and len(data) >= 96 else None
    return _of_memory(data, valid, valid >> 20, place, _fields(data, valid, _IDS_2), kind, handle)


def _of_memory(
    data: bytes,
    valid: int,
    banks: int,
    place: dict[str, int],
    ids: dict[str, int],
    kind: int | None,
    handle: int | None,
) -> _Body:
    """What both sections say alike; the lowest bits of ``banks`` are those of bank group and address."""
    status, address, mask = struct.unpack_from("<QQQ", data, 8)
    if banks & 1:
        place["bank_group"] = data[39]
    if banks & 2:
        place["bank_address"] = data[38]
    words = None
    if kind is not None:
        words = MEMORY_TYPES[kind] if kind < len(MEMORY_TYPES) else "unknown"
    names = {name: f"{value:#x}" for name, value in ids.items()}
    return _Body(
        words=words,
        firmware=FirmwareRecord(error_status=hexed(status) if valid & 1 else None, error_type=kind),
        address=address if valid & 2 else None,
        mask=mask if valid & 4 else None,
        location=Location(**place, **names) if place or names else None,  # type: ignore[arg-type]
        handle=None if handle is None else f"{handle:#06x}",
    )


def _arm(data: bytes) -> _Body:
    """N.2.4.4, tables N.16 and N.17: the kinds of the errors, and the first physical address."""
    count, size = struct.unpack_from("<H", data, 4)[0], struct.calcsize("<BBHBHBQQQ")
    struct.unpack_from("<QQII", data, 16)
    kinds: dict[str, None] = {}
    found: int | None = None
    for at in range(40, 40 + min(count, 32) * size, size):
        if at + size > len(data):
            break
        _, _, valid, kind, _, _, _, _, address = struct.unpack_from("<BBHBHBQQQ", data, at)
        kinds.update(dict.fromkeys(name for bit, name in _ARM_TYPES.items() if kind >> bit & 1))
        if valid >> 4 & 1 and found is None:
            found = address
    return _Body(words=f" ({', '.join(kinds)})" if kinds else None, address=found)


def _pcie(data: bytes) -> _Body:
    """N.2.7, table N.45: which device, where it is known, and its AER registers (PCIe 6.0, 7.8.4)."""
    valid = struct.unpack_from("<Q", data)[0]
    vendor, device = struct.unpack_from("<HH", data, 24)
    function, slot, segment, bus = struct.unpack_from("<BBHB", data, 31)
    body = _Body()
    if valid >> 3 & 1:
        place = f"{segment:04x}:{bus:02x}:{slot:02x}.{function:x}"
        firmware = FirmwareRecord(
            device=place, vendor_id=f"{vendor:#06x}", device_id=f"{device:#06x}"
        )
        body = _Body(words=f" ({place}, {vendor:04x}:{device:04x})", firmware=firmware)
    if valid >> 7 & 1 and len(data) >= 208:
        names = ("uncor_status", "uncor_mask", "uncor_severity", "cor_status", "cor_mask")
        values = struct.unpack_from("<5I", data, 116)
        details = tuple(
            Detail(name=f"aer_{name}", value=f"{value:#010x}")
            for name, value in zip(names, values, strict=True)
        )
        body = body._replace(details=details)
    return body


def _cxl(data: bytes, of_dram: bool) -> _Body:
    """N.2.14; struct cxl_cper_event_rec, the record itself by CXL 3.1, tables 8-45 and 8-46.

    The address is the device's own (DPA): it makes no page.
    """
    valid = struct.unpack_from("<Q", data, 4)[0]
    vendor, device, function, slot, bus, segment = struct.unpack_from("<HHBBBH", data, 12)
    address, descriptor, _, _, flags = struct.unpack_from("<QBBBH", data, 64)
    fields = {"channel": (0, 77, 1), "rank": (1, 78, 1)}
    if of_dram:
        fields |= {"bank_group": (3, 82, 1), "bank": (4, 83, 1), "row": (5, 84, 3)}
        fields["column"] = (6, 87, 2)
    else:
        fields["device"] = (2, 79, 3)
    place = _fields(data, flags, fields)
    firmware = FirmwareRecord()
    if valid & 1:
        firmware = FirmwareRecord(
            device=f"{segment:04x}:{bus:02x}:{slot:02x}.{function:x}",
            vendor_id=f"{vendor:#06x}",
            device_id=f"{device:#06x}",
        )
    if not valid & 4:  # no event behind the header
        return _Body(firmware=firmware)
    words = "uncorrectable" if descriptor & 1 else "corrected"
    return _Body(
        firmware=firmware,
        location=Location(**place) if place else None,  # type: ignore[arg-type]
        details=(
            Detail(name="dpa", value=f"{address & ~0x3F:#x}"),
            Detail(name="descriptor", value=words),
        ),
    )


_DECODERS: dict[bytes, Callable[[bytes], _Body]] = {
    MEMORY: _memory,
    MEMORY_2: _memory_2,
    ARM: _arm,
    PCIE: _pcie,
    CXL_MEDIA: partial(_cxl, of_dram=False),
    CXL_DRAM: partial(_cxl, of_dram=True),
}
