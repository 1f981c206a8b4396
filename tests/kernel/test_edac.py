"""EDAC's controllers and DIMMs, in structures built by hand: no dump at hand has a driver loaded.

Offsets are those of Linux 6.1 (include/linux/edac.h), with struct device left out.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import pytest
from drgn import FaultError

from mftriage.kernel import edac
from mftriage.kernel.edac import edac_records_in_memory
from mftriage.model import HardwareError, RecordDimm
from tests.kernel.memories import BASE, Memory, capsule, kernel_of

DIMM = {"label": 0, "nr_pages": 64, "smbios_handle": 76, "ce_count": 80, "ue_count": 84}
ERROR = {
    **{"location": 0, "label": 256, "grain": 552, "error_count": 560, "type": 564},
    **{"page_frame_number": 584, "offset_in_page": 592, "syndrome": 600, "msg": 608},
}
CONTROLLER = {
    **{"link": 8, "mc_idx": 104, "tot_dimms": 140, "dimms": 144, "ctl_name": 168},
    **{"ce_noinfo_count": 200, "ue_noinfo_count": 204, "ue_mc": 208, "ce_mc": 212},
    "error_desc": 400,
}
STRUCTS = {"mem_ctl_info": CONTROLLER, "dimm_info": DIMM, "edac_raw_error_desc": ERROR}


def made(offsets: Mapping[str, int], size: int, **values: bytes) -> bytes:
    data = bytearray(size)
    for member, value in values.items():
        data[offsets[member] : offsets[member] + len(value)] = value
    return bytes(data)


def u16(value: int) -> bytes:
    return struct.pack("<H", value)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def dimm(label: str, ce: int = 0, ue: int = 0, handle: int = 0, pages: int = 1 << 22) -> bytes:
    return made(
        *(DIMM, 96),
        label=label.encode(),
        nr_pages=u32(pages),
        smbios_handle=u16(handle),
        ce_count=u32(ce),
        ue_count=u32(ue),
    )


def controller(
    memory: Memory, dimms: list[bytes], error: bytes = b"", ce_noinfo: int = 0, count: int = -1
) -> int:
    table = memory.put(b"".join(u64(memory.put(d)) for d in dimms))
    return memory.put(
        made(
            *(CONTROLLER, 1100),
            mc_idx=u32(1),
            tot_dimms=u32(len(dimms) if count < 0 else count),
            dimms=u64(table),
            ctl_name=u64(memory.put(b"Intel_10nm MC#1\0")),
            ce_noinfo_count=u32(ce_noinfo),
            error_desc=error,
        )
    )


def listed(memory: Memory, *controllers: int) -> int:
    head = memory.put(bytes(16))
    nodes = [head, *(c + CONTROLLER["link"] for c in controllers)]
    for node, following in zip(nodes, [*nodes[1:], head], strict=True):
        memory.set(node, u64(following))
    return head


def ask(memory: Memory, head: int) -> list[HardwareError]:
    return edac_records_in_memory(kernel_of(memory, {"mc_devices": head}, STRUCTS), None)


def test_counters_of_dimms() -> None:
    memory = Memory()
    dimms = [dimm("CPU_SrcID#0_MC#1_Chan#0_DIMM#0", ce=12, handle=0x1100), dimm("B1", ce=1, ue=2)]
    found = ask(memory, listed(memory, controller(memory, [*dimms, dimm("C1")])))
    assert [(r.severity, r.count, r.dimm) for r in found] == [
        ("corrected", 12, RecordDimm(label="CPU_SrcID#0_MC#1_Chan#0_DIMM#0", handle="0x1100")),
        ("corrected", 1, RecordDimm(label="B1")),
        ("recoverable", 2, RecordDimm(label="B1")),
    ]
    assert found[0].error_type == "12 corrected errors counted since boot"
    assert found[1].error_type == "1 corrected error counted since boot"
    assert found[1].raw == ("mc1 Intel_10nm MC#1: B1, 17179869184 bytes, ce_count 1, ue_count 2",)
    assert all(r.source == "edac" and r.medium == "memory" and r.is_memory for r in found)
    assert all(r.physical_address is None for r in found)


def last_error(memory: Memory, **more: bytes) -> bytes:
    values = {
        "location": b"channel:0 slot:1 ",
        "label": b"A1",
        "grain": u64(32),
        "error_count": u16(1),
        "type": u32(1),
        "page_frame_number": u64(0x1234),
        "offset_in_page": u64(0x5C0),
        "msg": u64(memory.put(b"memory read error\0")),
    }
    return made(ERROR, 624, **{**values, **more})


def test_the_last_error() -> None:
    memory = Memory()
    head = listed(memory, controller(memory, [], last_error(memory)))
    (record,) = ask(memory, head)
    assert (record.severity, record.error_type) == ("recoverable", "memory read error")
    assert record.physical_address == "0x12345c0"
    assert record.physical_address_mask == "0xffffffffffffffe0"
    assert record.dimm == RecordDimm(label="A1")
    assert record.raw[0].endswith("memory read error on A1 (channel:0 slot:1)")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"label": b"unknown memory"}, {"dimm": None}),
        ({"page_frame_number": u64(0)}, {"physical_address": None, "physical_address_mask": None}),
        ({"page_frame_number": u64(2**64 - 1)}, {"physical_address": None}),
        ({"grain": u64(0)}, {"physical_address_mask": None}),
        ({"grain": u64(3)}, {"physical_address_mask": None}),
        ({"type": u32(0)}, {"severity": "corrected"}),
        ({"type": u32(3)}, {"severity": "fatal"}),
        ({"type": u32(99)}, {"severity": None}),
        ({"msg": u64(0)}, {"error_type": "uncorrected error"}),
    ],
)
def test_what_the_last_error_does_not_know(
    more: dict[str, bytes], expected: dict[str, Any]
) -> None:
    memory = Memory()
    (record,) = ask(memory, listed(memory, controller(memory, [], last_error(memory, **more))))
    assert {name: getattr(record, name) for name in expected} == expected


def test_errors_of_no_known_dimm_are_counted() -> None:
    memory = Memory()
    (record,) = ask(memory, listed(memory, controller(memory, [], ce_noinfo=7)))
    assert (record.count, record.dimm) == (7, None)


def test_several_controllers() -> None:
    memory = Memory()
    parts = [controller(memory, [dimm(f"D{i}", ce=i)]) for i in range(1, 4)]
    assert [r.count for r in ask(memory, listed(memory, *parts))] == [1, 2, 3]


def test_nothing_there() -> None:
    memory = Memory()
    assert ask(memory, listed(memory)) == []  # no driver found a controller
    assert ask(memory, listed(memory, controller(memory, [dimm("A1")]))) == []  # no error
    # neither in the image nor as a module: no EDAC, and nothing to be told
    assert edac_records_in_memory(kernel_of(memory, {}), None) == []


def test_a_list_that_runs_in_circles_ends() -> None:
    memory = Memory()
    first = controller(memory, [dimm("A1", ce=1)])
    second = controller(memory, [dimm("B1", ce=2)])
    head = listed(memory, first, second)
    memory.set(second + CONTROLLER["link"], u64(first + CONTROLLER["link"]))
    assert [r.count for r in ask(memory, head)] == [1, 2]


def test_a_table_that_is_too_long_ends() -> None:
    memory = Memory()
    part = controller(memory, [dimm("A1", ce=1)], count=0xFFFFFFFF)
    assert [r.count for r in ask(memory, listed(memory, part))][:1] == [1]


def test_a_list_that_leads_nowhere() -> None:
    memory = Memory()
    head = listed(memory)
    memory.set(head, u64(BASE - 4096))
    with pytest.raises(FaultError):  # becomes a row of not_checked
        ask(memory, head)


def test_a_label_can_not_spoil_the_report() -> None:
    memory = Memory()
    (record,) = ask(memory, listed(memory, controller(memory, [dimm("\x1b[2J", ce=1)])))
    assert record.dimm == RecordDimm(label="\\x1b[2J")


def test_without_the_module_there_is_no_row() -> None:
    kernel = capsule("73-mce-ce")  # a kernel without EDAC
    assert edac_records_in_memory(kernel, None) == []
    assert kernel.dump.sidecar.findings["edac_core"] is None
    kernel.dump.close()


def test_what_kept_the_module_from_being_read_is_told() -> None:
    kernel = kernel_of(Memory(), {})
    kernel.dump.sidecar.findings["edac_core"] = {"why": "the module was built without BTF"}
    with pytest.raises(LookupError, match="without BTF"):
        edac_records_in_memory(kernel, None)


def test_with_the_modules_own_layout() -> None:
    memory = Memory()
    head = listed(memory, controller(memory, [dimm("A1", ce=4)]))
    kernel = kernel_of(memory, {})
    kernel.dump.sidecar.findings["edac_core"] = {"mc_devices": head, "layout": STRUCTS}
    assert [r.count for r in edac_records_in_memory(kernel, None)] == [4]


def test_members_that_are_read_are_all_in_the_layout() -> None:
    assert {name: set(members) for name, members in edac._MEMBERS.items()} == {
        name: set(offsets) for name, offsets in STRUCTS.items()
    }
