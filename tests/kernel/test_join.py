"""Log and memory tell of the same events: each once, with both media named."""

from __future__ import annotations

from dataclasses import replace

from mftriage.kernel.join import joined
from mftriage.model import HardwareError, Location, MceRegisters, RecordDimm

LOG = HardwareError(
    source="ghes",
    medium="log",
    time=10.0,
    severity="recoverable",
    error_type="multi-bit ECC",
    is_memory=True,
    physical_address="0x1000",
    dimm=RecordDimm(label="A1"),
    location=Location(row=1),
    raw=("the line",),
)
MEMORY = replace(
    LOG,
    medium="memory",
    media=("memory",),
    time=10.001,
    count=3,
    dimm=RecordDimm(label="A1", handle="0x1100"),
    location=Location(row=1, rank=0),
    raw=("bytes",),
)
MCE = HardwareError(
    source="mce", medium="log", time=5.0, mce=MceRegisters(bank=9, status="0xbd"), is_memory=True
)


def test_one_event() -> None:
    (record,) = joined([LOG], [MEMORY])
    assert (record.medium, record.media) == ("log", ("log", "memory"))
    assert (record.time, record.count, record.raw) == (10.0, 3, ("the line",))
    assert record.dimm == RecordDimm(label="A1", handle="0x1100")
    assert record.location == Location(row=1, rank=0)


def test_the_boot_before_is_another_event() -> None:
    """BERT's record of a crash stays apart, though firmware reports the very same again."""
    before = replace(LOG, previous_boot=True)
    assert len(joined([before], [MEMORY])) == 2
    assert [r.media for r in joined([before, LOG], [MEMORY])] == [("log",), ("log", "memory")]


def test_each_alone() -> None:
    assert joined([LOG], []) == [LOG]
    assert joined([], [MEMORY]) == [MEMORY]
    assert joined([], []) == []


def test_what_differs_is_another_event() -> None:
    for other in (
        replace(MEMORY, physical_address="0x2000"),
        replace(MEMORY, severity="corrected"),
        replace(MEMORY, error_type="single-bit ECC"),
        replace(MEMORY, dimm=RecordDimm(label="B1")),
        replace(MEMORY, source="edac"),
        replace(MEMORY, time=30.0),
        replace(MEMORY, is_memory=None),
    ):
        assert joined([LOG], [other]) == sorted([LOG, other], key=lambda r: r.time or 0)


def test_a_line_joins_one_record_only() -> None:
    records = joined([LOG], [MEMORY, replace(MEMORY, time=None)])
    assert [r.media for r in records] == [("log", "memory"), ("memory",)]


def test_the_nearest_in_time_and_the_last_without() -> None:
    first, second, third = (replace(LOG, time=t) for t in (1.0, 5.0, 9.0))
    records = joined([first, second, third], [replace(MEMORY, time=5.2)])
    assert [len(r.media) for r in records] == [1, 2, 1]
    records = joined([first, second, third], [replace(MEMORY, time=None)])
    assert [len(r.media) for r in records] == [1, 1, 2]


def test_words_for_what_is_not_memory_may_differ() -> None:
    logged = replace(LOG, is_memory=False, error_type="PCIe error", physical_address=None)
    kept = replace(
        MEMORY, is_memory=False, error_type="PCIe error (0000:01:00.0)", physical_address=None
    )
    (record,) = joined([logged], [kept])
    assert record.error_type == "PCIe error"


def test_machine_checks_are_the_same_by_their_registers() -> None:
    same = replace(MCE, medium="memory", media=("memory",), time=99.0)
    assert [r.media for r in joined([MCE], [same])] == [("log", "memory")]
    assert same.mce is not None
    other = replace(same, mce=replace(same.mce, status="0xbe"))
    assert len(joined([MCE], [other])) == 2
    assert len(joined([MCE], [replace(same, wall_time="2026-01-01T00:00:00Z")])) == 2


def test_those_without_a_time_come_last() -> None:
    records = joined([], [replace(MEMORY, time=None), replace(MEMORY, time=2.0)])
    assert [r.time for r in records] == [2.0, None]


def test_the_larger_count_is_right() -> None:
    (record,) = joined([replace(LOG, count=1)], [MEMORY])
    assert record.count == 3
    (record,) = joined([replace(LOG, count=5)], [replace(MEMORY, count=None)])
    assert record.count == 5
