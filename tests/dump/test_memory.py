"""Physical memory out of a dump, and the record of what was read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from drgn import FaultError

from mftriage.dump import Dump, open_dump
from mftriage.dump.header import Segment
from mftriage.dump.memory import ElfMemory, PhysicalMemory, RecordingMemory
from mftriage.files import LocalFile
from tests import craft

PAGES = {pfn: bytes([pfn]) * craft.PAGE for pfn in (1, 2, 3, 9)}


@pytest.fixture
def dump(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Dump]:
    path = tmp_path / "vmcore"
    if request.param == "elf":
        segments = {0x1000: PAGES[1] + PAGES[2], 0x3000: PAGES[3], 0x9000: PAGES[9]}
        path.write_bytes(craft.elf_core(segments, craft.note("VMCOREINFO", 0, craft.X86_INFO)))
    else:
        path.write_bytes(craft.kdump(PAGES))
    opened = open_dump(path)
    yield opened
    opened.close()


both = pytest.mark.parametrize("dump", ["elf", "kdump"], indirect=True)


@both
def test_bytes(dump: Dump) -> None:
    read = dump.memory.read
    assert read(0x1000, 4) == b"\x01" * 4
    assert read(0x1FFE, 4) == b"\x01\x01\x02\x02"
    assert read(0x1000, 3 * craft.PAGE) == PAGES[1] + PAGES[2] + PAGES[3]  # over two segments
    assert read(0x9FFF, 1) == b"\x09"


@both
@pytest.mark.parametrize(
    ("address", "size", "missing"),
    [
        *((0, 1, 0), (0xFFF, 2, 0xFFF), (0x3FFF, 2, 0x4000), (0x4000, 1, 0x4000)),
        *((0x45D8, 8, 0x45D8), (0x9FFF, 2, 0xA000), (1 << 60, 8, 1 << 60)),
    ],
)
def test_what_is_not_in_the_dump_faults(dump: Dump, address: int, size: int, missing: int) -> None:
    """The error names the first byte that is missing, whatever the format: it is in reports."""
    with pytest.raises(FaultError) as caught:
        dump.memory.read(address, size)
    assert caught.value.address == missing
    assert dump.memory.pfns == set()


@both
def test_pages_that_were_read_are_remembered(dump: Dump) -> None:
    memory = dump.memory
    memory.read(0x1FFF, 1)
    assert memory.pfns == {1}
    memory.read(0x1FFF, 2)
    assert memory.pfns == {1, 2}
    memory.read(0x1000, 3 * craft.PAGE)
    assert memory.pfns == {1, 2, 3}


@both
def test_looks_leave_no_trace(dump: Dump) -> None:
    memory = dump.memory
    assert memory.holds(9) and not memory.holds(4) and not memory.holds(1 << 70)
    assert memory.page(2) == PAGES[2]
    with memory.unrecorded():
        memory.read(0x9000, 16)
        with memory.unrecorded():
            memory.read(0x1000, 16)
        memory.read(0x2000, 16)
    assert memory.pfns == set()
    with pytest.raises(ZeroDivisionError), memory.unrecorded():
        raise ZeroDivisionError
    memory.read(0x9000, 16)
    assert memory.pfns == {9}


@both
def test_what_it_says_of_itself(dump: Dump) -> None:
    assert (dump.arch, dump.page_size, dump.complete) == ("x86_64", 4096, True)
    assert dump.vmcoreinfo.release == "7.3.4-test"
    assert dump.size_bytes == Path(dump.path).stat().st_size


@pytest.mark.parametrize("size", [4096, 16384, 65536])
def test_page_frames_are_the_dump_s_own(size: int) -> None:
    class Zeros(PhysicalMemory):
        def read(self, address: int, size: int) -> bytes:
            return bytes(size)

    memory = RecordingMemory(Zeros(), size)
    memory.read(5 * size - 1, 2)
    assert memory.pfns == {4, 5}
    assert len(memory.page(1)) == size


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1, 10**6])
def test_segment_beyond_the_file_faults(offset: int) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"short")
        file.flush()
        memory = ElfMemory(LocalFile(file), (Segment(0x1000, offset, 0x1000),))
        with pytest.raises(FaultError):
            memory.read(0x1000, 8)


def test_segments_that_overlap() -> None:
    """/proc/vmcore of x86_64 has the kernel image twice, once within the RAM around it."""
    with tempfile.TemporaryFile() as file:
        file.write(b"r" * 0x4000 + b"k" * 0x1000 + b"s" * 0x2000)
        file.flush()
        ram, image = Segment(0x1000, 0, 0x4000), Segment(0x2000, 0x4000, 0x1000)
        beside = Segment(0x4000, 0x5000, 0x2000)
        for segments in ((ram, image, beside), (beside, image, ram)):
            memory = ElfMemory(LocalFile(file), segments)
            assert memory.read(0x1FFF, 1) == b"r"
            assert memory.read(0x2000, 1) in (b"r", b"k")
            assert memory.read(0x3000, 0x1000) == b"r" * 0x1000  # behind the image
            assert memory.read(0x5FFF, 1) == b"s"
            assert len(memory.read(0x1000, 0x5000)) == 0x5000
            with pytest.raises(FaultError):
                memory.read(0x5FFF, 2)


@both
def test_close_lets_go(dump: Dump) -> None:
    dump.close()
    dump.close()
