"""A dump's first bytes: what they say, and that nothing in them can do harm."""

from __future__ import annotations

import os
import struct
import tempfile
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mftriage.dump.header import Header, parse_notes, read_header
from mftriage.errors import DumpError, MftriageError
from mftriage.files import LocalFile
from tests import craft

PAGES = {1: b"\x01" * craft.PAGE, 9: b"\x09" * craft.PAGE}
INFO = craft.note("VMCOREINFO", 0, craft.X86_INFO)
PRSTATUS = craft.note("CORE", 1, bytes(336))
KDUMP = craft.kdump(PAGES, notes=PRSTATUS)
ELF = craft.elf_core({0x1000: PAGES[1], 0x9000: PAGES[9]}, INFO + PRSTATUS)
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def header_of(data: bytes) -> Header:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return read_header(LocalFile(file))


def refusal(data: bytes) -> str:
    with pytest.raises(DumpError) as caught:
        header_of(data)
    assert caught.value.remedy and "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("version", [3, 4, 5, 6])
def test_kdump(version: int) -> None:
    header = header_of(craft.kdump(PAGES, notes=PRSTATUS, version=version))
    assert (header.container, header.arch) == ("kdump", "x86_64")
    assert header.vmcoreinfo.release == "7.3.4-test"
    assert [n.name for n in header.notes] == ([] if version == 3 else ["CORE", "VMCOREINFO"])


def test_kdump_says_how_long_it_should_be() -> None:
    assert header_of(KDUMP).expected_size == len(KDUMP)
    assert header_of(KDUMP[:-1]).expected_size == len(KDUMP)
    assert header_of(KDUMP[: -len(PAGES) * craft.PAGE - 30]).expected_size > len(KDUMP) - 9000


def test_kdump_of_arm64_by_its_machine() -> None:
    assert header_of(craft.kdump(PAGES, craft.ARM_INFO, machine="aarch64")).arch == "arm64"


@pytest.mark.parametrize(
    ("info", "arch"), [(craft.X86_INFO, "x86_64"), (craft.ARM_INFO, "arm64"), (b"", None)]
)
def test_qemu_leaves_the_machine_empty(info: bytes, arch: str | None) -> None:
    """QEMU's dump/dump.c writes a struct new_utsname of zeros: only VMCOREINFO tells."""
    assert header_of(craft.kdump(PAGES, info, names=False)).arch == arch


def test_kdump_of_another_architecture() -> None:
    assert "'s390x'" in refusal(craft.kdump(PAGES, b"OSRELEASE=7\n", machine="s390x"))


def test_block_size_that_cannot_be() -> None:
    damaged = craft.patched(KDUMP, [(428 + i, 0) for i in range(4)])
    assert "damaged" in refusal(damaged)


@pytest.mark.parametrize("signature", [b"DISKDUMP", b"kdump   ", b"KDUMP\0\0\0", b"LVDUMP\0\0"])
def test_other_signatures_are_no_dump(signature: bytes) -> None:
    assert "not a crash dump" in refusal(craft.kdump(PAGES, signature=signature))


@pytest.mark.parametrize(
    ("machine", "arch"), [(craft.EM_X86_64, "x86_64"), (craft.EM_AARCH64, "arm64")]
)
def test_elf(machine: int, arch: str) -> None:
    header = header_of(craft.elf_core({0x9000: PAGES[9], 0x1000: PAGES[1]}, INFO, machine=machine))
    assert (header.container, header.arch) == ("elf", arch)
    assert [(s.physical_address, s.size) for s in header.segments] == [
        (0x1000, 4096),
        (0x9000, 4096),
    ]
    assert header.vmcoreinfo.page_size == 4096


def test_elf_says_how_long_it_should_be() -> None:
    assert header_of(ELF).expected_size == len(ELF)
    assert header_of(ELF[:-4000]).expected_size == len(ELF)


def test_elf_with_more_segments_than_a_half_word_counts() -> None:
    """PN_XNUM: the number stands in sh_info of section 0."""
    core = bytearray(ELF)
    shoff = len(core)
    struct.pack_into("<H", core, 56, 0xFFFF)
    struct.pack_into("<Q", core, 40, shoff)
    core += struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 3, 0, 0)
    assert len(header_of(bytes(core)).segments) == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\x7fELF", "32-bit or big-endian"),
        (ELF[:40], "cut short within its ELF header"),
        (KDUMP[:300], "cut short within its header"),
        (b"\x7fELF\x01\x01" + bytes(90), "32-bit"),
        (b"\x7fELF\x02\x02" + bytes(90), "big-endian"),
        (craft.elf_core(machine=craft.EM_RISCV), "machine 243"),
        (craft.elf_core(kind=craft.ET_EXEC), "no core"),
        (b"#!/bin/sh\necho hello\n", "not a crash dump"),
        (bytes(4096), "not a crash dump"),
        (b"\xff" * 4096, "not a crash dump"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_with_a_sentence(data: bytes, words: str) -> None:
    assert words in refusal(data)


def test_notes_up_to_the_damaged_one() -> None:
    good = craft.note("CORE", 1, b"abc") + craft.note("VMCOREINFO", 0, b"K=V")
    cut = good + struct.pack("<III", 5, 1 << 30, 1) + b"CORE\0"
    assert [(n.name, n.desc) for n in parse_notes(cut)] == [
        ("CORE", b"abc"),
        ("VMCOREINFO", b"K=V"),
    ]


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_notes_that_lie_in_them(data: bytes) -> None:
    assert sum(12 + len(n.desc) for n in parse_notes(data)) <= len(data)


def only_our_errors(data: bytes) -> None:
    with suppress(MftriageError):
        header_of(data)


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(
    st.sampled_from((b"\x7fELF\x02\x01\x01", b"KDUMP   ", b"KDUMP   \x06\0\0\0", b"")),
    st.binary(max_size=600),
)
def test_garbage_behind_a_signature(prefix: bytes, data: bytes) -> None:
    only_our_errors(prefix + data)


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(
    st.sampled_from((ELF, KDUMP)),
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=12),
    st.integers(0, 20000),
)
def test_damaged_bytes(data: bytes, changes: list[tuple[int, int]], end: int) -> None:
    only_our_errors(craft.patched(data, changes)[: 64 + end])


# Offset of every number in the two headers, and its width in bytes.
ELF_FIELDS = [(32, 8), (40, 8), (54, 2), (56, 2)]
ELF_FIELDS += [(64 + 56 * i + at, 8) for i in range(3) for at in (8, 24, 32, 40)]
KDUMP_FIELDS = [(8, 4), (424, 4), (428, 4), (432, 4), (436, 4), (440, 4)]
KDUMP_FIELDS += [(craft.PAGE + at, 8) for at in (32, 40, 48, 56, 88, 96)]
KDUMP_FIELDS += [(4 * craft.PAGE + at, 8) for at in (0, 8, 24, 32)]


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 15), st.sampled_from(EDGES)), min_size=1, max_size=4),
)
@example(True, [(0, 2**63)])  # e_phoff
@example(True, [(3, 0xFFFF), (2, 0xFFFF)])  # e_phnum, e_phentsize
@example(False, [(3, 2**32 - 1)])  # sub_hdr_size of -1
@example(False, [(4, 2**31)])  # bitmap_blocks below zero
def test_numbers_at_the_edge(elf: bool, changes: list[tuple[int, int]]) -> None:
    raw = bytearray(ELF if elf else KDUMP)
    places = ELF_FIELDS if elf else KDUMP_FIELDS
    for index, value in changes:
        at, width = places[index % len(places)]
        raw[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
    only_our_errors(bytes(raw))


def test_a_number_of_segments_that_no_memory_holds() -> None:
    """PN_XNUM with four billion entries must not be believed."""
    core = bytearray(ELF)
    struct.pack_into("<HH", core, 54, 0xFFFF, 0xFFFF)
    struct.pack_into("<Q", core, 40, len(core))
    core += struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0, 0)
    only_our_errors(bytes(core))


def test_the_descriptor_is_left_open() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(ELF)
        file.flush()
        read_header(LocalFile(file))
        assert os.fstat(file.fileno()).st_size == len(ELF)
