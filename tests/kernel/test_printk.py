"""The printk ring, built in memory as kernel/printk/printk_ringbuffer.c lays it out."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from drgn import Architecture, FaultError, Platform, Program
from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage.dump.vmcoreinfo import VmcoreInfo
from mftriage.kernel.printk import read_log
from mftriage.log import LogRecord
from mftriage.triage import analyze

BASE = 0xFFFF888000000000
PRB, DESCS, INFOS, TEXT = BASE + 0x100, BASE + 0x10000, BASE + 0x100000, BASE + 0x400000
RING = BASE + 0x1000
DESC_SIZE, INFO_SIZE = 24, 88
COMMITTED, FINALIZED, REUSABLE, RESERVED = 1, 2, 3, 0
LAYOUT = """\
SYMBOL(prb)={prb:x}
OFFSET(printk_ringbuffer.desc_ring)=0
OFFSET(printk_ringbuffer.text_data_ring)=48
OFFSET(prb_desc_ring.count_bits)=0
OFFSET(prb_desc_ring.descs)=8
OFFSET(prb_desc_ring.infos)=16
OFFSET(prb_desc_ring.head_id)=24
OFFSET(prb_desc_ring.tail_id)=32
SIZE(prb_desc)=24
OFFSET(prb_desc.state_var)=0
OFFSET(prb_desc.text_blk_lpos)=8
OFFSET(prb_data_blk_lpos.begin)=0
OFFSET(prb_data_blk_lpos.next)=8
SIZE(printk_info)=88
OFFSET(printk_info.ts_nsec)=8
OFFSET(printk_info.text_len)=16
OFFSET(prb_data_ring.size_bits)=0
OFFSET(prb_data_ring.data)=8
"""
MASK = (1 << 64) - 1


@dataclass
class Ring:
    """A ring buffer that records are stored into as prb_reserve() does, the oldest pushed out."""

    count_bits: int = 4
    size_bits: int = 9
    first_id: int = 0
    first_lpos: int = 0
    stored: list[tuple[int, str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.descs = bytearray(DESC_SIZE << self.count_bits)
        self.infos = bytearray(INFO_SIZE << self.count_bits)
        self.text = bytearray(1 << self.size_bits)
        self.head_lpos = self.tail_lpos = self.first_lpos
        self.next_id = self.first_id

    def _space(self, size: int) -> tuple[int, int]:
        """data_alloc(): the logical position of the block, and of the one behind it."""
        begin, ring = self.head_lpos, 1 << self.size_bits
        end = begin + size
        if begin // ring != (end - 1) // ring:  # would cross the end: lies at the start, whole
            end = (begin // ring + 1) * ring + size
        return begin, end

    def add(
        self,
        text: str,
        time: float = 1.0,
        level: int = 6,
        state: int = FINALIZED,
        facility: int = 0,
    ) -> None:
        raw = text.encode()
        ring = 1 << self.size_bits
        if raw:
            size = 8 + -(-len(raw) // 8) * 8
            assert size <= ring // 2
            begin, end = self._space(size)
            start = 0 if begin // ring != (end - 1) // ring else begin % ring
            self.text[start : start + 8] = struct.pack("<Q", self.next_id)
            self.text[start + 8 : start + 8 + len(raw)] = raw
            self.head_lpos = end
            while self.stored and self.stored[0][2] & 1 == 0 and end - self.stored[0][2] > ring:
                self.stored.pop(0)
        else:
            begin = end = 0x3  # NO_LPOS / EMPTY_LINE_LPOS: BLK_DATALESS
        index = self.next_id & (1 << self.count_bits) - 1
        word = state << 62 | self.next_id & (1 << 62) - 1
        struct.pack_into("<QQQ", self.descs, index * DESC_SIZE, word, begin & MASK, end & MASK)
        struct.pack_into(
            *("<QQHBB", self.infos, index * INFO_SIZE, self.next_id & MASK),
            *(round(time * 1e9), len(raw), facility, level << 5),
        )
        if state in (COMMITTED, FINALIZED):
            self.stored.append((self.next_id, text, begin, level))
        self.next_id += 1
        oldest = self.next_id - (1 << self.count_bits)
        self.stored = [entry for entry in self.stored if entry[0] >= oldest]

    def memory(self) -> dict[int, bytes]:
        head = (self.next_id - 1) & (1 << 62) - 1
        oldest = self.stored[0][0] if self.stored else self.next_id - 1
        tail = max(oldest, self.next_id - (1 << self.count_bits)) & (1 << 62) - 1
        ring = struct.pack("<IIQQQQ", self.count_bits, 0, DESCS, INFOS, head, tail).ljust(48, b"\0")
        ring += struct.pack("<IIQ", self.size_bits, 0, TEXT)
        return {
            PRB: struct.pack("<Q", RING),
            RING: ring.ljust(128, b"\0"),
            DESCS: bytes(self.descs),
            INFOS: bytes(self.infos),
            TEXT: bytes(self.text),
        }

    def read(self) -> list[LogRecord]:
        return read_memory(self.memory())

    def texts(self) -> list[str]:
        return [text for _, text, begin, _ in self.stored if begin & 1 == 0]


def read_memory(memory: dict[int, bytes]) -> list[LogRecord]:
    program = Program(Platform(Architecture.X86_64))
    for address, data in memory.items():

        def reader(
            at: int, size: int, _: int, __: bool, start: int = address, data: bytes = data
        ) -> bytes:
            return data[at - start : at - start + size]

        program.add_memory_segment(address, len(data), reader, False)
    return read_log(program, VmcoreInfo(LAYOUT.format(prb=PRB).encode()))


def test_records_with_time_and_level() -> None:
    ring = Ring()
    ring.add("first", 0.5, 3)
    ring.add("second", 12.25, 6)
    assert ring.read() == [LogRecord(0.5, 3, "first"), LogRecord(12.25, 6, "second")]


def test_what_user_space_wrote_is_left_out() -> None:
    """A line in /dev/kmsg must not pass for the kernel's (facility 1 at least)."""
    ring = Ring()
    ring.add("the kernel's")
    ring.add("Kernel panic - not syncing: Memory failure: 0x1: unrecoverable page", facility=1)
    ring.add("systemd[1]: Memory failure: 0x2: unhandlable page.", facility=3)
    assert [record.text for record in ring.read()] == ["the kernel's"]


def test_a_record_of_several_lines() -> None:
    ring = Ring()
    ring.add("one\ntwo\n\nfour", 3.0, 4)
    assert [r.text for r in ring.read()] == ["one", "two", "", "four"]
    assert {(r.time, r.level) for r in ring.read()} == {(3.0, 4)}


def test_a_record_that_wraps_lies_at_the_start_whole() -> None:
    """drgn 0.3.0 reads such a record from where it does not lie."""
    ring = Ring(count_bits=6, size_bits=8)
    for index in range(4):
        ring.add(f"{index}" * 40)  # 48 bytes each: 192 of 256
    ring.add("W" * 60)  # 72 bytes: do not fit in the last 64
    assert ring.stored[-1][2] % 256 == 192
    assert ring.read()[-1].text == "W" * 60
    assert [r.text for r in ring.read()] == ring.texts()


def test_a_record_that_ends_exactly_at_the_end() -> None:
    ring = Ring(count_bits=6, size_bits=8)
    for letter in "abcd":
        ring.add(letter * 56)  # 64 bytes each
    assert [r.text for r in ring.read()] == [letter * 56 for letter in "abcd"]


@pytest.mark.parametrize("first_id", [0, 13, (1 << 62) - 5, (1 << 62) - 1])
@pytest.mark.parametrize("first_lpos", [0, 504, (1 << 64) - 1024, (1 << 64) - 512])
def test_counters_that_wrap(first_id: int, first_lpos: int) -> None:
    ring = Ring(first_id=first_id, first_lpos=first_lpos)
    for index in range(8):
        ring.add(f"record {index}")
    assert [r.text for r in ring.read()] == ring.texts() == [f"record {i}" for i in range(8)]


def test_records_that_are_not_finished_or_gone_are_left_out() -> None:
    ring = Ring()
    ring.add("kept", state=COMMITTED)
    ring.add("being written", state=RESERVED)
    ring.add("gone", state=REUSABLE)
    ring.add("last")
    assert [r.text for r in ring.read()] == ["kept", "last"]


def test_empty_lines_have_no_text() -> None:
    ring = Ring()
    ring.add("a")
    ring.add("")
    ring.add("b")
    assert [r.text for r in ring.read()] == ["a", "b"]


def test_text_is_cleaned() -> None:
    ring = Ring()
    ring.add("\x1b[31mred\u202e")
    memory = ring.memory()
    assert read_memory(memory)[0].text == "\\x1b[31mred\\u202e"
    damaged = memory[TEXT].replace(b"red", b"\xff\xfe\x00")
    assert read_memory({**memory, TEXT: damaged})[0].text == "\\x1b[31m\\xff\\xfe\\x00\\u202e"


@settings(max_examples=120, derandomize=True, deadline=None, database=None)
@given(
    st.lists(
        st.text(st.characters(codec="ascii", categories=("L", "N")), max_size=90), max_size=60
    ),
    st.integers(0, (1 << 62) - 1),
    st.integers(0, 1 << 20).map(lambda n: n * 8),
    st.integers(2, 5),
    st.integers(8, 10),
)
def test_whatever_was_stored_last_is_read(
    texts: list[str], first_id: int, first_lpos: int, count_bits: int, size_bits: int
) -> None:
    ring = Ring(count_bits, size_bits, first_id, first_lpos)
    for text in texts:
        ring.add(text)
    assert [r.text for r in ring.read()] == ring.texts()


FULL = Ring(count_bits=4, size_bits=9)
for _number in range(40):
    FULL.add(f"record {_number} " + "x" * (_number * 3 % 40), _number)


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(
    st.sampled_from((PRB, RING, DESCS, INFOS, TEXT)),
    st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from((0, 1, 0x7F, 0x80, 0xC0, 0xFF))),
        min_size=1,
        max_size=10,
    ),
)
def test_damage_costs_records_and_nothing_else(where: int, changes: list[tuple[int, int]]) -> None:
    memory = FULL.memory()
    raw = bytearray(memory[where])
    for at, value in changes:
        raw[at % len(raw)] = value
    try:
        records = read_memory({**memory, where: bytes(raw)})
    except (LookupError, FaultError):
        return
    assert len(records) <= 2000
    for record in records:
        assert record.text.isprintable() or "\t" in record.text


@pytest.mark.parametrize("pointer", [0, 8, 1 << 63, 2**64 - 1, 2**64 - 50])
@pytest.mark.parametrize("where", ["ring", "descs", "infos", "text"])
def test_pointers_that_lead_nowhere(where: str, pointer: int) -> None:
    memory = FULL.memory()
    block, at = {"ring": (PRB, 0), "descs": (RING, 8), "infos": (RING, 16), "text": (RING, 56)}[
        where
    ]
    raw = bytearray(memory[block])
    raw[at : at + 8] = pointer.to_bytes(8, "little")
    try:
        records = read_memory({**memory, block: bytes(raw)})
    except (LookupError, FaultError):
        return
    assert not any("record" in record.text for record in records)


@pytest.mark.parametrize("missing", [PRB, RING])
def test_without_the_ring_s_header(missing: int) -> None:
    memory = FULL.memory()
    del memory[missing]
    with pytest.raises(FaultError):
        read_memory(memory)


@pytest.mark.parametrize("missing", [DESCS, INFOS, TEXT])
def test_without_its_parts_there_are_no_records(missing: int) -> None:
    memory = FULL.memory()
    del memory[missing]
    assert [r for r in read_memory(memory) if "record" in r.text] == []


def test_records_on_a_missing_page_are_left_out_alone() -> None:
    """The page that was hit may be one of the log's own."""
    ring = Ring(count_bits=8, size_bits=14)
    for index in range(200):
        ring.add(f"record {index:04}".ljust(56, "."))  # with its id in front: 64 bytes
    memory = ring.memory()
    text = memory.pop(TEXT)
    for page in (0, 1, 3):
        memory[TEXT + page * 4096] = text[page * 4096 : page * 4096 + 4096]
    numbers = [int(r.text[7:11]) for r in read_memory(memory)]
    assert numbers == [*range(128), *range(192, 200)]


def test_without_the_layout() -> None:
    program = Program(Platform(Architecture.X86_64))
    for lines in ("", LAYOUT.format(prb=PRB).replace("OFFSET(printk_info.ts_nsec)=8\n", "")):
        with pytest.raises(LookupError, match="VMCOREINFO"):
            read_log(program, VmcoreInfo(lines.encode()))


@pytest.mark.parametrize("machine", ["x86_elf", "arm_elf"])
def test_without_page_tables(machine: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A cut dump often lacks them: the kernel image and the direct map are read without."""
    path = tmp_path / "vmcore"
    core = bytearray(request.getfixturevalue(machine).read_bytes())
    path.write_bytes(core)
    whole = analyze(path)
    dump = whole.dump
    root = dump.vmcoreinfo.symbol("swapper_pg_dir")
    assert root is not None and dump.image_offset is not None
    content = dump.memory.page(root - dump.image_offset >> 12)
    dump.close()
    assert core.count(content) == 1
    path.write_bytes(core.replace(content, bytes(4096)))
    found = analyze(path)
    found.dump.close()
    assert found.triage.verdict.kind == whole.triage.verdict.kind == "unrecoverable-panic"
    assert found.triage.memory_failures == whole.triage.memory_failures
    assert found.triage.not_checked
