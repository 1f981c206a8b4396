"""The corrected-error collector's array: a real one, and broken ones."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from drgn import FaultError, Object, Program

from mftriage.kernel.cec import cec_records_in_memory
from mftriage.symbols import Kernel
from mftriage.triage import analyze
from tests.kernel.memories import BASE, HERE, Memory, capsule, kernel_of


def test_real() -> None:
    kernel = capsule("73-mce-ce")
    (record,) = cec_records_in_memory(kernel, None)
    kernel.dump.close()
    assert (record.source, record.severity, record.count) == ("cec", "corrected", 1)
    assert record.physical_address == "0x158b000"
    assert record.physical_address_mask == "0xfffffffffffff000"


def test_the_machine_check_is_there_too() -> None:
    analysis = analyze(HERE / "73-mce-ce.elf.zst")
    analysis.dump.close()
    found = [(r.source, r.physical_address, r.severity) for r in analysis.triage.hardware_errors]
    assert found == [("mce", "0x158b000", "corrected"), ("cec", "0x158b000", "corrected")]
    assert analysis.triage.verdict.kind == "no-crash"


def collector(
    elements: Sequence[int], *, count: int | None = None, at: int | None = None
) -> Kernel:
    memory = Memory()
    array = memory.put(struct.pack(f"<{len(elements)}Q", *elements)) if at is None else at
    head = memory.put(struct.pack("<QI", array, len(elements) if count is None else count))
    kernel = kernel_of(memory, {"ce_arr": head})
    program = kernel.program
    u64, u32 = program.int_type("u64", 8, False), program.int_type("unsigned int", 4, False)
    from drgn import TypeMember

    kind = program.struct_type(
        "ce_array",
        16,
        [TypeMember(program.pointer_type(u64), "array", 0), TypeMember(u32, "n", 64)],
    )

    def find(made: Program, name: str, *_: object) -> Object | None:
        return Object(made, kind, address=head) if name == "ce_arr" else None

    program.register_object_finder("by-hand", find, enable_index=0)
    return kernel


def test_the_worst_first() -> None:
    elements = [0x10 << 12 | 3 << 10 | 1, 0x20 << 12 | 500, 0x30 << 12 | 1 << 10 | 0]
    records = cec_records_in_memory(collector(elements), None)
    assert [(r.physical_address, r.count) for r in records] == [("0x20000", 500), ("0x10000", 1)]
    assert records[0].error_type == "500 corrected errors"


def test_no_collector() -> None:
    assert cec_records_in_memory(kernel_of(Memory(), {}), None) == []


@pytest.mark.parametrize("count", [0, 513, 0xFFFFFFFF])
def test_a_count_that_can_not_be(count: int) -> None:
    assert cec_records_in_memory(collector([1], count=count), None) == []


def test_an_array_that_is_not_there() -> None:
    assert cec_records_in_memory(collector([1], at=0), None) == []
    with pytest.raises(FaultError):  # becomes a row of not_checked
        cec_records_in_memory(collector([1], at=BASE - 4096), None)
