"""Memory devices as SMBIOS names them: what a record's handle stands for.

The kernel keeps name, size and kind of each (``dmi_memdev``, drivers/firmware/dmi_scan.c,
save_mem_devices).  Maker, part and serial number stand in the table alone, which the firmware left
in memory that is often not in a dump.  Table: SMBIOS 3.7, 7.18 (memory device, type 17).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

from drgn import FaultError

from mftriage.model import Dimm
from mftriage.symbols import Kernel
from mftriage.text import clean

_MEMORY_DEVICE, _END = 17, 127
_MAX_DEVICES = 4096
_MAX_TABLE = 1 << 20
_MAX_STRING = 256
# What firmware writes where it knows nothing.
_NOTHING = {"", "not specified", "unknown", "none", "n/a", "no dimm", "to be filled by o.e.m."}


def memory_devices(kernel: Kernel) -> dict[int, Dimm]:
    """SMBIOS handle to memory device; empty where the kernel keeps none.

    Empty sockets are left out.
    """
    named = _kept(kernel)
    if not named:
        return {}
    try:
        table = _table(kernel)
    except (FaultError, LookupError):
        table = {}
    return {
        handle: _joined(device, table.get(handle))
        for handle, device in named.items()
        if device.size_bytes != 0
    }


def _joined(kept: Dimm, full: Dimm | None) -> Dimm:
    """The kernel's own copy, with what only the table has."""
    if full is None:
        return kept
    return replace(
        kept,
        manufacturer=full.manufacturer,
        part_number=full.part_number,
        serial_number=full.serial_number,
    )


def _kept(kernel: Kernel) -> dict[int, Dimm]:
    """``dmi_memdev``; size is all ones where the firmware doesn't know it, 0 for an empty socket."""
    if kernel.address("dmi_memdev") is None or kernel.address("dmi_memdev_nr") is None:
        return {}
    program = kernel.program
    devices, count = program["dmi_memdev"].read_(), program["dmi_memdev_nr"].value_()
    found: dict[int, Dimm] = {}
    if not devices:
        return found
    for index in range(min(max(count, 0), _MAX_DEVICES)):
        device = devices[index].read_()
        size = device.size.value_()
        found[device.handle.value_()] = Dimm(
            locator=_kept_string(kernel, device.device.value_()),
            bank_locator=_kept_string(kernel, device.bank.value_()),
            size_bytes=None if size == (1 << 64) - 1 else size,
        )
    return found


def _kept_string(kernel: Kernel, address: int) -> str | None:
    try:
        return _text(kernel.program.read_c_string(address, max_size=_MAX_STRING))
    except FaultError:
        return None


def _text(raw: bytes) -> str | None:
    text = clean(raw, _MAX_STRING).strip()
    return None if text.lower() in _NOTHING else text


def _table(kernel: Kernel) -> dict[int, Dimm]:
    """The memory devices of the table itself, read at its physical address."""
    base, size = (kernel.program[name].value_() for name in ("dmi_base", "dmi_len"))
    if not base or not 0 < size <= _MAX_TABLE:
        return {}
    return dict(devices_in(kernel.dump.memory.read(base, size)))


def devices_in(table: bytes) -> Iterator[tuple[int, Dimm]]:
    """Handle and description of each memory device in an SMBIOS table.

    A structure is its formatted part, whose length it tells, and then strings up to an empty one.
    """
    at = 0
    while at + 4 <= len(table):
        kind, length, handle = struct.unpack_from("<BBH", table, at)
        end = table.find(b"\0\0", at + length)
        if length < 4 or end < 0 or kind == _END:
            return
        if kind == _MEMORY_DEVICE:
            strings = table[at + length : end].split(b"\0")
            yield handle, _device(table[at : at + length], strings)
        at = end + 2


def _device(fixed: bytes, strings: list[bytes]) -> Dimm:
    def string(offset: int) -> str | None:
        index = fixed[offset] if offset < len(fixed) else 0
        return _text(strings[index - 1]) if 0 < index <= len(strings) else None

    return Dimm(
        locator=string(0x10),
        bank_locator=string(0x11),
        manufacturer=string(0x17),
        serial_number=string(0x18),
        part_number=string(0x1A),
        size_bytes=_size(fixed),
    )


def _size(fixed: bytes) -> int | None:
    """Offset 0x0C: MiB, or KiB with bit 15 set; 0x7FFF: see the extended size at 0x1C, in MiB."""
    if len(fixed) < 0x0E:
        return None
    size = int.from_bytes(fixed[0x0C:0x0E], "little")
    if size == 0xFFFF:
        return None
    if size == 0x7FFF and len(fixed) >= 0x20:
        return (int.from_bytes(fixed[0x1C:0x20], "little") & 0x7FFFFFFF) << 20
    return (size & 0x7FFF) << 10 if size & 0x8000 else size << 20
