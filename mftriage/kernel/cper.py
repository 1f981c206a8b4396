"""Firmware's error records in binary: an ACPI status block with its CPER sections.

ACPI 6.5, 18.3.2.7 (generic error status block and data entries; struct acpi_hest_generic_status,
acpi_hest_generic_data and ..._v300, include/acpi/actbl1.h); UEFI 2.10, appendix N.2 (sections;
include/linux/cper.h).  Words are those of the kernel's own lines (drivers/firmware/efi/cper.c),
so that a record reads the same whichever medium it was found in.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from mftriage.model import HardwareError, Location, RecordDimm, Severity, hexed
from mftriage.text import c_string

STATUS_SIZE = 20
MAX_BLOCK = 1 << 16  # GHES_ESOURCE_PREALLOC_MAX_SIZE, include/acpi/ghes.h
_MAX_SECTIONS = 64
_ENTRY_SIZE, _ENTRY_SIZE_V3 = 64, 72
_FRU_TEXT_VALID = 2
_WITH_HANDLE = 1 << 17

_SEVERITIES: dict[int, Severity | None] = {0: "recoverable", 1: "fatal", 2: "corrected", 3: None}


def guid(text: str) -> bytes:
    """The 16 bytes of a GUID: its first three groups are little-endian (UEFI 2.10, appendix A)."""
    raw = bytes.fromhex(text.replace("-", ""))
    return raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]


def guid_words(raw: bytes) -> str:
    """A GUID as it is written."""
    groups = raw[3::-1], raw[5:3:-1], raw[7:5:-1], raw[8:10], raw[10:16]
    return "-".join(group.hex() for group in groups)


MEMORY = guid("a5bc1114-6f64-4ede-b863-3e83ed7c83b1")
ARM = guid("e19e3d16-bc11-11e4-9caa-c2051d5d46b0")
PCIE = guid("d995e954-bbc1-430f-ad91-b44dcb3c6f35")
# As cper_estatus_print_section has them.
SECTIONS: dict[bytes, str] = {
    MEMORY: "memory error",
    ARM: "ARM processor error",
    PCIE: "PCIe error",
    guid("9876ccad-47b4-4bdb-b65e-16f193c4f3db"): "general processor error",
    guid("dc3ea0b0-a144-4797-b95b-53fa242b6e1d"): "IA32/X64 processor error",
    guid("81212a96-09ed-4996-9471-8d729c8e69ed"): "Firmware Error Record Reference",
    guid("80b9efb4-52b5-4de3-a777-68784b771048"): "CXL Protocol Error",
    guid("fbcd0a77-c260-417f-85a9-088b1621eba6"): "CXL General Media Event",
    guid("601dcbb3-9c06-4eab-b8af-4e9bfb5c9624"): "CXL DRAM Event",
    guid("fe927475-dd59-4339-a586-79bab113bc74"): "CXL Memory Module Event",
}

# mem_err_type_strs
_ERROR_TYPES = (
    *("unknown", "no error", "single-bit ECC", "multi-bit ECC", "single-symbol chipkill ECC"),
    *("multi-symbol chipkill ECC", "master abort", "target abort", "parity error"),
    *("watchdog timeout", "invalid address", "mirror Broken", "memory sparing"),
    *("scrub corrected error", "scrub uncorrected error", "physical memory map-out event"),
)
# The bit of an ARM error type: UEFI 2.9A made the number a mask (table N.17).
_ARM_TYPES = {1: "cache error", 2: "TLB error", 3: "bus error", 4: "micro-architectural error"}


class Section(NamedTuple):
    """One section of a record: its type, its own severity, what it says of the part, its bytes."""

    kind: bytes
    severity: Severity | None
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
            severity=_SEVERITIES.get(severity),
            fru_text=text if valid & _FRU_TEXT_VALID and text else None,
            data=block[body : body + size],
        )
        at = body + size


def records(block: bytes, where: str) -> list[HardwareError]:
    """A record for each section of the block; ``where`` names the place that it was read from."""
    raw = (f"{where}: {block[: STATUS_SIZE + 512].hex()}",)
    return [replace(_record(section), raw=raw) for section in sections(block)]


def _record(section: Section) -> HardwareError:
    decode = {MEMORY: _memory, ARM: _arm, PCIE: _pcie}.get(section.kind, _other)
    try:
        return decode(section)
    except struct.error:  # shorter than its type allows
        return _other(section)


def _other(section: Section) -> HardwareError:
    name = SECTIONS.get(section.kind)
    return HardwareError(
        source="ghes",
        medium="memory",
        severity=section.severity,
        error_type=name or f"unknown section {guid_words(section.kind)}",
        is_memory=None if name is None or name.startswith("CXL") else name == "memory error",
        dimm=RecordDimm(label=section.fru_text) if section.fru_text else None,
    )


def _memory(section: Section) -> HardwareError:
    """N.2.5, table N.31; struct cper_sec_mem_err, or the 73 bytes of UEFI 2.1 and 2.2."""
    data = section.data
    valid, _, address, mask = struct.unpack_from("<QQQQ", data)
    names = ("node", "card", "module", "bank", "device", "row", "column", "bit_position")
    words = dict(zip(names, struct.unpack_from("<8H", data, 32), strict=True))
    kind = data[72:73]
    extended, rank, _, handle = (
        struct.unpack_from("<BHHH", data, 73) if len(data) >= 80 else (0, 0, 0, 0)
    )
    if len(data) < 80:
        valid &= (1 << 15) - 1
    place = {name: words[name] for bit, name in enumerate(names, 3) if valid >> bit & 1}
    if valid >> 15 & 1:
        place["rank"] = rank
    if valid >> 18 & 1:  # CPER_MEM_VALID_ROW_EXT: bits 16 and 17 of the row
        place["row"] = words["row"] | (extended & 3) << 16
    if valid >> 19 & 1:
        place["bank_group"] = words["bank"] >> 8
    if valid >> 20 & 1:
        place["bank_address"] = words["bank"] & 0xFF
    if valid >> 21 & 1:
        place["chip_id"] = extended >> 5
    error_type = None
    if valid >> 14 & 1 and kind:
        error_type = _ERROR_TYPES[kind[0]] if kind[0] < len(_ERROR_TYPES) else "unknown"
    module = hexed(handle) if valid & _WITH_HANDLE else None
    return HardwareError(
        source="ghes",
        medium="memory",
        severity=section.severity,
        error_type=error_type,
        is_memory=True,
        physical_address=hexed(address) if valid & 2 else None,
        physical_address_mask=hexed(mask) if valid & 4 else None,
        location=Location(**place) if place else None,
        dimm=(
            RecordDimm(label=section.fru_text, handle=module)
            if section.fru_text or module
            else None
        ),
    )


def _arm(section: Section) -> HardwareError:
    """N.2.4.4, tables N.16 and N.17: the kinds of the errors, and the first physical address."""
    data = section.data
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
    words = f" ({', '.join(kinds)})" if kinds else ""
    return replace(_other(section), error_type=SECTIONS[ARM] + words, physical_address=hexed(found))


def _pcie(section: Section) -> HardwareError:
    """N.2.7, table N.45: which device, where it is known."""
    data = section.data
    valid = struct.unpack_from("<Q", data)[0]
    vendor, device = struct.unpack_from("<HH", data, 24)
    function, slot, segment, bus = struct.unpack_from("<BBHB", data, 31)
    words = ""
    if valid >> 3 & 1:
        words = f" ({segment:04x}:{bus:02x}:{slot:02x}.{function:x}, {vendor:04x}:{device:04x})"
    return replace(_other(section), error_type=SECTIONS[PCIE] + words)
